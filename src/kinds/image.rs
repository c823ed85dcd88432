//! What an image is called, as a postal address is read: the country may be left out at home, but
//! the letter always goes to one house.
//!
//! The grammar and the defaults are Docker's (`github.com/distribution/reference`): `busybox` is
//! `docker.io/library/busybox:latest`. A digest beats a tag written beside it, as in Kubernetes.

use std::fmt;

/// The registry of names that give none.
pub const DEFAULT_DOMAIN: &str = "docker.io";
/// Docker's older name for it, still found in credentials.
pub const LEGACY_DOMAIN: &str = "index.docker.io";
/// Where official images are, on the default registry.
const OFFICIAL: &str = "library/";
const DEFAULT_TAG: &str = "latest";
/// `reference.NameTotalLengthMax`.
const NAME_LEN_MAX: usize = 255;
const TAG_LEN_MAX: usize = 128;
const DIGEST_PREFIX: &str = "sha256:";

/// How an image is named in a manifest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ImageName {
    /// By its id, `sha256:…`: it is on the node or nowhere.
    Id(String),
    /// By a name that a registry can be asked for.
    Reference(Reference),
}

impl ImageName {
    /// Reads a manifest's `image`, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if is_digest(text) {
            return Ok(Self::Id(text.into()));
        }
        if is_hex_64(text) {
            return Ok(Self::Id(format!("{DIGEST_PREFIX}{text}")));
        }
        Reference::parse(text).map(Self::Reference)
    }
}

impl fmt::Display for ImageName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => f.write_str(id),
            Self::Reference(reference) => reference.fmt(f),
        }
    }
}

/// A name that a registry can be asked for, complete.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// The registry: `docker.io`, `registry.example:5000`.
    pub domain: String,
    /// The repository in it: `library/busybox`.
    pub path: String,
    /// Which image of the repository.
    pub version: Version,
}

/// Which image of a repository.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// The one that bears this tag now.
    Tag(String),
    /// This one: `sha256:…`.
    Digest(String),
}

impl Reference {
    /// Reads a name, short or complete, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest)),
            None => (text, None),
        };
        // A colon after the last slash begins a tag; before it, a port.
        let (name, tag) = match rest.rsplit_once(':') {
            Some((name, tag)) if !tag.contains('/') => (name, Some(tag)),
            _ => (rest, None),
        };
        if name.is_empty() {
            return Err("the image has no name".into());
        }
        let (domain, path) = split_domain(name);
        complain_about_name(domain, &path)?;
        if let Some(tag) = tag.filter(|tag| !is_tag(tag)) {
            return Err(format!(
                "{tag:?} is no tag: letters, digits, '_', '.' and '-', at most {TAG_LEN_MAX}, and \
                 not beginning with '.' or '-'"
            ));
        }
        if let Some(digest) = digest.filter(|digest| !is_digest(digest)) {
            return Err(format!(
                "{digest:?} is no digest: 'sha256:' and 64 lower-case hexadecimal digits"
            ));
        }
        let version = match (digest, tag) {
            (Some(digest), _) => Version::Digest(digest.into()),
            (None, tag) => Version::Tag(tag.unwrap_or(DEFAULT_TAG).into()),
        };
        Ok(Self { domain: domain.into(), path, version })
    }

    /// The repository with its registry: `docker.io/library/busybox`.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The repository as Docker shortens it in lists: `busybox`.
    pub fn familiar_repository(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.repository();
        }
        let path = &self.path;
        path.strip_prefix(OFFICIAL).filter(|name| !name.contains('/')).unwrap_or(path).into()
    }

    /// The tag or digest as Docker's API takes it.
    pub fn version_text(&self) -> &str {
        match &self.version {
            Version::Tag(text) | Version::Digest(text) => text,
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = match self.version {
            Version::Tag(_) => ':',
            Version::Digest(_) => '@',
        };
        write!(f, "{}{sign}{}", self.repository(), self.version_text())
    }
}

/// `splitDockerDomain`: the first part is a registry if it looks like a host.
fn split_domain(name: &str) -> (&str, String) {
    let (domain, path) = match name.split_once('/') {
        Some((first, path))
            if first.contains(['.', ':'])
                || first == "localhost"
                || first.bytes().any(|b| b.is_ascii_uppercase()) =>
        {
            (first, path)
        }
        _ => (DEFAULT_DOMAIN, name),
    };
    let domain = if domain == LEGACY_DOMAIN { DEFAULT_DOMAIN } else { domain };
    if domain == DEFAULT_DOMAIN && !path.contains('/') {
        return (domain, format!("{OFFICIAL}{path}"));
    }
    (domain, path.into())
}

fn complain_about_name(domain: &str, path: &str) -> Result<(), String> {
    if domain.len() + 1 + path.len() > NAME_LEN_MAX {
        return Err(format!("the name has more than {NAME_LEN_MAX} characters"));
    }
    if !is_domain(domain) {
        return Err(format!("{domain:?} is no registry: a host, or host:port"));
    }
    if path.bytes().any(|b| b.is_ascii_uppercase()) {
        return Err("the repository name must be lower case".into());
    }
    if !path.split('/').all(is_path_component) {
        return Err(format!(
            "{path:?} is no repository name: lower-case letters and digits, with '/', '.', '_', \
             '__' or '-' between them"
        ));
    }
    Ok(())
}

fn is_domain(text: &str) -> bool {
    let host = match text.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => {
            if port.is_empty() || !port.bytes().all(|b| b.is_ascii_digit()) {
                return false;
            }
            host
        }
        _ => text,
    };
    if let Some(inner) = host.strip_prefix('[') {
        return inner
            .strip_suffix(']')
            .is_some_and(|address| address.parse::<std::net::Ipv6Addr>().is_ok());
    }
    host.split('.').all(|label| {
        let bytes = label.as_bytes();
        let ends_are_plain = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        ends_are_plain(bytes.first())
            && ends_are_plain(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    })
}

/// Letters and digits with separators between them: `.`, `_`, `__` or any number of `-`.
fn is_path_component(text: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends_are_plain = text.starts_with(is_plain) && text.ends_with(is_plain);
    ends_are_plain
        && text.split(is_plain).all(|separator| {
            matches!(separator, "" | "." | "_" | "__") || separator.bytes().all(|b| b == b'-')
        })
}

fn is_tag(text: &str) -> bool {
    let is_word = |b: &u8| b.is_ascii_alphanumeric() || *b == b'_';
    text.len() <= TAG_LEN_MAX
        && text.as_bytes().first().is_some_and(is_word)
        && text.bytes().all(|b| is_word(&b) || matches!(b, b'.' | b'-'))
}

fn is_digest(text: &str) -> bool {
    text.strip_prefix(DIGEST_PREFIX).is_some_and(is_hex_64)
}

fn is_hex_64(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

    #[test]
    fn names_are_completed_as_docker_completes_them() {
        let digest = format!("sha256:{HEX}");
        let table = [
            ("busybox", "docker.io/library/busybox:latest", "busybox"),
            ("busybox:1.36", "docker.io/library/busybox:1.36", "busybox"),
            ("index.docker.io/busybox", "docker.io/library/busybox:latest", "busybox"),
            ("team/app", "docker.io/team/app:latest", "team/app"),
            ("docker.io/library/a/b", "docker.io/library/a/b:latest", "library/a/b"),
            ("localhost/app:1", "localhost/app:1", "localhost/app"),
            ("localhost:5000/app", "localhost:5000/app:latest", "localhost:5000/app"),
            (
                "r.example/a/b_c__d-e---f.g:v1",
                "r.example/a/b_c__d-e---f.g:v1",
                "r.example/a/b_c__d-e---f.g",
            ),
            ("[::1]:5000/app", "[::1]:5000/app:latest", "[::1]:5000/app"),
            ("Registry/app", "Registry/app:latest", "Registry/app"),
        ];
        for (written, complete, familiar) in table {
            let reference = Reference::parse(written).expect(written);
            assert_eq!(reference.to_string(), complete, "{written}");
            assert_eq!(reference.familiar_repository(), familiar, "{written}");
            assert_eq!(Reference::parse(complete).as_ref(), Ok(&reference), "{written}");
        }
        let pinned = Reference::parse(&format!("app:v1@{digest}")).expect("parses");
        assert_eq!(pinned.to_string(), format!("docker.io/library/app@{digest}"));
    }

    #[test]
    fn wrong_names_are_refused() {
        let long = "a".repeat(256);
        for (written, complaint) in [
            ("", "no name"),
            (":v1", "no name"),
            ("Busybox", "lower case"),
            ("team/App", "lower case"),
            ("a//b", "no repository name"),
            ("-app", "no repository name"),
            ("a___b", "no repository name"),
            ("app:-v", "no tag"),
            ("app:", "no tag"),
            ("app@sha256:12", "no digest"),
            ("r.example:x/app", "no registry"),
            ("-r.example/app", "no registry"),
            ("app:v 1", "no tag"),
            (&long, "more than"),
        ] {
            let answer = Reference::parse(written);
            assert!(
                answer.as_ref().is_err_and(|text| text.contains(complaint)),
                "{written:?}: {answer:?}"
            );
        }
    }

    #[test]
    fn ids_are_not_names() {
        let id = format!("sha256:{HEX}");
        assert_eq!(ImageName::parse(&id), Ok(ImageName::Id(id.clone())));
        assert_eq!(ImageName::parse(HEX), Ok(ImageName::Id(id)));
        assert!(matches!(ImageName::parse("sha256:12"), Ok(ImageName::Reference(_))));
    }
}
