//! Where a repository is, as an operator wrote it: a path, or an address with a scheme.
//!
//! An address with a password in it is refused, because addresses end up in logs, process lists
//! and messages. What is left can be shown to anybody.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::ports::Fault;

/// Where a repository is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On this machine.
    Path(PathBuf),
    /// Behind a server.
    Remote(Remote),
}

/// The path that an address names, if it names one of this machine.
pub(crate) fn local_path(address: &str) -> Option<PathBuf> {
    match Place::parse(address) {
        Ok(Place::Path(path)) => Some(path),
        _ => None,
    }
}

/// A repository behind a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Remote {
    /// The address, as libgit2 takes it. Holds no password.
    pub(super) url: String,
    pub(super) scheme: Scheme,
    pub(super) host: String,
    pub(super) port: u16,
    /// The user of an ssh address.
    pub(super) user: Option<String>,
}

/// How a server is spoken to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scheme {
    Ssh,
    Http,
    Https,
    Git,
}

impl Scheme {
    fn default_port(self) -> u16 {
        match self {
            Self::Ssh => 22,
            Self::Http => 80,
            Self::Https => 443,
            Self::Git => 9418,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Remote(remote) => f.write_str(&remote.url),
        }
    }
}

impl Place {
    /// Reads what an operator wrote.
    pub(super) fn parse(text: &str) -> Result<Self, Fault> {
        let text = text.trim();
        if text.is_empty() {
            return Err(Fault::stalled("the address of the repository is empty"));
        }
        if let Some((scheme, _)) = text.split_once("://") {
            return Self::parse_url(scheme, text);
        }
        // `host:path` is ssh, as Git has it; `./a:b` and `/a:b` are paths.
        if let Some((before, path)) = text.split_once(':')
            && !before.contains('/')
        {
            return Self::parse_short_ssh(before, path, text);
        }
        Ok(Self::Path(PathBuf::from(text)))
    }

    fn parse_url(scheme: &str, text: &str) -> Result<Self, Fault> {
        let scheme = match scheme {
            "file" => return Self::parse_file(text),
            "ssh" | "git+ssh" | "ssh+git" => Scheme::Ssh,
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "git" => Scheme::Git,
            other => {
                return Err(Fault::stalled(format!(
                    "repositories at {other}:// addresses can't be reached: use a path, file://, \
                     ssh://, https://, http:// or git://"
                )));
            }
        };
        let url = url::Url::parse(text).map_err(|error| {
            // The text is not shown: it may hold a password.
            Fault::stalled(format!("the address of the repository is malformed: {error}"))
        })?;
        let host = url.host_str().unwrap_or_default().to_owned();
        if host.is_empty() {
            return Err(Fault::stalled("the address of the repository names no host"));
        }
        // The user's name is a token with some hosts: `https://TOKEN@host/…`.
        let secret = match scheme {
            Scheme::Ssh => url.password().is_some(),
            _ => url.password().is_some() || !url.username().is_empty() || url.query().is_some(),
        };
        if secret {
            let mut shown = url.clone();
            let _ = shown.set_username("");
            let _ = shown.set_password(None);
            shown.set_query(None);
            return Err(Fault::stalled(format!(
                "the address of {shown} holds a user or password: addresses end up in logs. Write \
                 the address without it, put `user:password` or a token into a file that only the \
                 agent may read, and name that file as `passwordFile`."
            )));
        }
        Ok(Self::Remote(Remote {
            url: text.to_owned(),
            scheme,
            // `[::1]` stands in brackets in addresses, not in known_hosts.
            host: host.trim_matches(['[', ']']).to_owned(),
            port: url.port().unwrap_or(scheme.default_port()),
            user: (scheme == Scheme::Ssh && !url.username().is_empty())
                .then(|| url.username().to_owned()),
        }))
    }

    fn parse_file(text: &str) -> Result<Self, Fault> {
        let url = url::Url::parse(text)
            .map_err(|error| Fault::stalled(format!("the address {text} is malformed: {error}")))?;
        url.to_file_path().map(Self::Path).map_err(|()| {
            Fault::stalled(format!(
                "{text} names no path of this machine: write file:///srv/repo.git"
            ))
        })
    }

    fn parse_short_ssh(before: &str, path: &str, text: &str) -> Result<Self, Fault> {
        let (user, host) = match before.rsplit_once('@') {
            Some((user, host)) => (Some(user.to_owned()), host),
            None => (None, before),
        };
        let ahead = path.split('/').next().unwrap_or_default();
        if !before.contains('@') && ahead.contains('@') && ahead.contains(':') {
            return Err(Fault::stalled(
                "the address of the repository holds a password (user:password@host:path): write \
                 it without, and use an ssh key",
            ));
        }
        if host.is_empty() || path.is_empty() {
            return Err(Fault::stalled(format!(
                "{text} is neither a path nor an address of the form user@host:path"
            )));
        }
        Ok(Self::Remote(Remote {
            url: text.to_owned(),
            scheme: Scheme::Ssh,
            host: host.to_owned(),
            port: Scheme::Ssh.default_port(),
            user,
        }))
    }

    /// The path, if it is on this machine.
    pub(super) fn path(&self) -> Option<&Path> {
        match self {
            Self::Path(path) => Some(path),
            Self::Remote(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn remote(text: &str) -> (Scheme, String, u16, Option<String>) {
        match Place::parse(text) {
            Ok(Place::Remote(r)) => (r.scheme, r.host, r.port, r.user),
            other => panic!("{text}: {other:?}"),
        }
    }

    #[test]
    fn addresses_are_read_as_git_reads_them() {
        for text in ["/srv/a.git", "./a", "a/b:c", "file:///srv/a.git", "../x"] {
            assert!(matches!(Place::parse(text), Ok(Place::Path(_))), "{text}");
        }
        assert_eq!(
            Place::parse("file:///srv/my%20repo.git"),
            Ok(Place::Path("/srv/my repo.git".into()))
        );
        let git = || Some("git".to_owned());
        let table = [
            ("ssh://git@h/p", (Scheme::Ssh, "h".into(), 22, git())),
            ("ssh://h:2222/p", (Scheme::Ssh, "h".into(), 2222, None)),
            ("ssh://git@[::1]:2222/p", (Scheme::Ssh, "::1".into(), 2222, git())),
            ("git@h:shop/p.git", (Scheme::Ssh, "h".into(), 22, git())),
            ("https://h/p", (Scheme::Https, "h".into(), 443, None)),
            ("http://h:8080/p", (Scheme::Http, "h".into(), 8080, None)),
            ("git://h/p", (Scheme::Git, "h".into(), 9418, None)),
        ];
        for (text, expected) in table {
            assert_eq!(remote(text), expected, "{text}");
        }
    }

    #[test]
    fn an_address_with_a_secret_is_refused_and_not_repeated() {
        for text in [
            "https://hunter2@h/p",
            "https://u:hunter2@h/p",
            "http://u:hunter2@h/p",
            "ssh://u:hunter2@h/p",
            "https://u:hunter2@h:notaport/p",
            "ftp://u:hunter2@h/p",
            "https://h/p?private_token=hunter2",
            "u:hunter2@h:p",
        ] {
            let fault = Place::parse(text).expect_err(text);
            assert!(!fault.message.contains("hunter2"), "{fault}");
        }
        let advice = Place::parse("https://u:hunter2@h/p").expect_err("refused");
        assert!(advice.message.contains("passwordFile"), "{advice}");
    }
}
