//! Which key fits which registry's door.
//!
//! Secrets hold credentials in Docker's `config.json` form. Which of them are tried for an image,
//! and in which order, is Kubernetes' rule
//! (<https://kubernetes.io/docs/concepts/containers/images/#config-json>): hosts may hold globs, a
//! path is a prefix, the most specific comes first.

use std::collections::BTreeMap;

use base64::Engine as _;
use serde::Deserialize;

use super::runtime::Credentials;
use crate::kinds::image::{DEFAULT_DOMAIN, LEGACY_DOMAIN, Reference};

/// Docker's third name for its registry, where images really come from.
const DEFAULT_ENDPOINT: &str = "registry-1.docker.io";

#[derive(Deserialize)]
struct Config {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize, Default)]
struct Entry {
    #[serde(default)]
    auth: String,
    #[serde(default)]
    username: String,
    #[serde(default)]
    password: String,
}

impl Credentials {
    /// Reads `.dockerconfigjson` (Secrets of type `kubernetes.io/dockerconfigjson`), or says what
    /// is wrong with it without repeating its content.
    pub fn from_docker_config(json: &[u8]) -> Result<Vec<Self>, String> {
        let config: Config = serde_json::from_slice(json).map_err(|error| unreadable(&error))?;
        config.auths.into_iter().map(Self::from_entry).collect()
    }

    /// Reads `.dockercfg` (Secrets of type `kubernetes.io/dockercfg`), the older form.
    pub fn from_docker_cfg(json: &[u8]) -> Result<Vec<Self>, String> {
        let auths: BTreeMap<String, Entry> =
            serde_json::from_slice(json).map_err(|error| unreadable(&error))?;
        auths.into_iter().map(Self::from_entry).collect()
    }

    fn from_entry((registry, entry): (String, Entry)) -> Result<Self, String> {
        let mut found = Self { registry, username: entry.username, password: entry.password };
        if entry.auth.is_empty() {
            return Ok(found);
        }
        let pair = base64::engine::general_purpose::STANDARD
            .decode(entry.auth.trim())
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok());
        let Some((username, password)) = pair.as_deref().and_then(|pair| pair.split_once(':'))
        else {
            return Err(format!(
                "the credentials for {} have an auth that is not the base64 of user:password",
                found.registry
            ));
        };
        found.username = username.into();
        // Docker's own client pads with NUL.
        found.password = password.trim_end_matches('\0').into();
        Ok(found)
    }

    /// Whether they are for the registry and repository of `image`.
    fn fits(&self, image: &Reference) -> bool {
        let (host, path) = self.place();
        let (host, port) = split_port(host);
        let (image_host, image_port) = split_port(&image.domain);
        let labels: Vec<_> = host.split('.').collect();
        let image_labels: Vec<_> = image_host.split('.').collect();
        port == image_port
            && labels.len() == image_labels.len()
            && labels
                .iter()
                .zip(&image_labels)
                .all(|(pattern, label)| is_match(pattern.as_bytes(), label.as_bytes()))
            && image.path.starts_with(path)
    }

    /// The host and the path they are for, the schemes and versions of old times taken off.
    fn place(&self) -> (&str, &str) {
        let place = self.registry.as_str();
        let place = ["https://", "http://"]
            .iter()
            .find_map(|scheme| place.strip_prefix(scheme))
            .unwrap_or(place);
        let (host, path) = place.split_once('/').unwrap_or((place, ""));
        let path = match path {
            "v1" | "v2" => "",
            _ => {
                ["v1/", "v2/"].iter().find_map(|version| path.strip_prefix(version)).unwrap_or(path)
            }
        };
        let host = match host {
            LEGACY_DOMAIN | DEFAULT_ENDPOINT => DEFAULT_DOMAIN,
            _ => host,
        };
        (host, path)
    }
}

/// Returns those of `all` that are for `image`, the most specific first, equals in the given order.
pub fn fitting<'a>(all: &'a [Credentials], image: &Reference) -> Vec<&'a Credentials> {
    let mut fitting: Vec<_> = all.iter().filter(|one| one.fits(image)).collect();
    // As kubelet: by place, backwards, so that `host/path` comes before `host`.
    fitting.sort_by(|a, b| b.place().cmp(&a.place()));
    fitting
}

fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, Some(port)),
        _ => (host, None),
    }
}

/// `*` stands for any characters of one label, `?` for one. After a mismatch the last `*` takes one
/// character more, so the time is bounded by the product of the lengths.
fn is_match(pattern: &[u8], text: &[u8]) -> bool {
    let (mut p, mut t) = (0, 0);
    let mut last_star = None;
    while t < text.len() {
        match pattern.get(p) {
            Some(b'*') => {
                last_star = Some((p, t));
                p += 1;
            }
            Some(b) if *b == b'?' || *b == text[t] => {
                p += 1;
                t += 1;
            }
            _ => {
                let Some((star, taken)) = last_star else {
                    return false;
                };
                last_star = Some((star, taken + 1));
                p = star + 1;
                t = taken + 1;
            }
        }
    }
    pattern[p..].iter().all(|b| *b == b'*')
}

/// serde's text names a place, not a value, as long as it is about syntax or a missing field; a
/// wrong type is quoted, so only the place is passed on.
fn unreadable(error: &serde_json::Error) -> String {
    format!("is not Docker's config.json (line {}, column {})", error.line(), error.column())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(registry: &str) -> Credentials {
        Credentials { registry: registry.into(), username: "u".into(), password: "p".into() }
    }

    #[test]
    fn credentials_fit_as_in_kubernetes() {
        let table = [
            ("registry.example", "registry.example/app", true),
            ("https://registry.example", "registry.example/app", true),
            ("http://registry.example/v2/", "registry.example/app", true),
            ("registry.example/team", "registry.example/team/app", true),
            ("registry.example/team", "registry.example/other/app", false),
            ("registry.example:5000", "registry.example/app", false),
            ("registry.example:5000", "registry.example:5000/app", true),
            ("*.example", "registry.example/app", true),
            ("*.example", "a.registry.example/app", false),
            ("reg*.example", "registry.example/app", true),
            ("?egistry.example", "registry.example/app", true),
            ("registry.*", "registry.example/app", true),
            ("https://index.docker.io/v1/", "busybox", true),
            ("index.docker.io/v1", "team/app", true),
            ("docker.io", "busybox", true),
            ("registry-1.docker.io", "busybox", true),
            ("docker.io/team", "busybox", false),
            ("https://index.docker.io/v1/", "registry.example/app", false),
            ("evil.example", "registry.example/app", false),
            ("*istr*.example", "registry.example/app", true),
            ("*x*.example", "registry.example/app", false),
            ("registry*.example", "registry.example/app", true),
        ];
        for (registry, image, fits) in table {
            let image = Reference::parse(image).expect(image);
            assert_eq!(named(registry).fits(&image), fits, "{registry} for {image}");
        }
    }

    #[test]
    fn the_most_specific_comes_first() {
        let all = ["*.example", "r.example", "x.example", "r.example/team"].map(named);
        let image = Reference::parse("r.example/team/app").expect("parses");
        let order: Vec<_> = fitting(&all, &image).iter().map(|one| one.registry.as_str()).collect();
        assert_eq!(order, ["r.example/team", "r.example", "*.example"]);
    }

    #[test]
    fn both_forms_of_config_are_read() {
        let auth = base64::engine::general_purpose::STANDARD.encode("me:pa:ss");
        let entries = format!(
            r#"{{"r.example":{{"auth":"{auth}"}},"s.example":{{"username":"u","password":"p"}}}}"#
        );
        let new = Credentials::from_docker_config(format!(r#"{{"auths":{entries}}}"#).as_bytes());
        let old = Credentials::from_docker_cfg(entries.as_bytes());
        assert_eq!(new, old);
        let new = new.expect("parses");
        assert_eq!((&*new[0].username, &*new[0].password), ("me", "pa:ss"));
        assert_eq!(new[1], Credentials { registry: "s.example".into(), ..named("") });
    }

    #[test]
    fn complaints_do_not_repeat_secrets() {
        for json in [
            r#"{"auths":"hunter2"}"#,
            r#"{"auths":{"r":{"auth":"hunter2"}}}"#,
            r#"{"auths":{"r":{"password":{"x":"hunter2"}}}}"#,
            "hunter2",
        ] {
            let complaint = Credentials::from_docker_config(json.as_bytes()).expect_err(json);
            assert!(!complaint.contains("hunter2"), "{complaint}");
        }
    }
}
