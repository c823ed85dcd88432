//! What we write on a container so that we know it again: the tag on a coat.
//!
//! A restarted agent has nothing else to go by, so these labels hold everything it needs, and
//! nothing that is secret or derived from a secret: anybody who may talk to Docker can read them.
//! What carries our mark but can't be read was made by a later version or by somebody else; it is
//! reported and left alone.

use std::collections::BTreeMap;
use std::time::Duration;

use super::runtime::{Marks, Role};
use crate::kinds::name::{Name, NameRule, PodKey, Uid};

/// Our mark: the node that made the container. What lacks it is not ours.
pub const NODE: &str = "io.windlass.node";
/// The layout of the other labels.
pub const FORMAT: &str = "io.windlass.format";
/// The pod's namespace.
pub const POD_NAMESPACE: &str = "io.windlass.pod.namespace";
/// The pod's name.
pub const POD_NAME: &str = "io.windlass.pod.name";
/// The pod's uid.
pub const POD_UID: &str = "io.windlass.pod.uid";
/// `pause`, `init` or `app`.
pub const ROLE: &str = "io.windlass.role";
/// The container's name in its pod; absent on pause.
pub const CONTAINER: &str = "io.windlass.container";
/// See [`Marks::attempt`].
pub const ATTEMPT: &str = "io.windlass.attempt";
/// See [`Marks::backoff`], in milliseconds.
pub const BACKOFF_MS: &str = "io.windlass.backoff-ms";
/// See [`Marks::grace_s`].
pub const GRACE_S: &str = "io.windlass.grace-s";
/// See [`Marks::ip`].
pub const IP: &str = "io.windlass.ip";
/// See [`Marks::sandbox`].
pub const SANDBOX: &str = "io.windlass.sandbox";
/// On volumes of Docker's that we had made: only those are ever removed.
pub const VOLUME: &str = "io.windlass.volume";

/// The layout written and read here. A label may be added without raising it: readers pass over
/// labels they don't know. Raise it when a label changes its meaning.
const FORMAT_NOW: &str = "1";

/// The pause container's place in a container's name. Capitals, as kubelet has it, because no
/// container can be called so.
const PAUSE_NAME: &str = "POD";

impl Marks {
    /// Returns the labels that say this.
    pub fn to_labels(&self) -> BTreeMap<String, String> {
        let role = match self.role {
            Role::Pause => "pause",
            Role::Init(_) => "init",
            Role::App(_) => "app",
        };
        let mut labels: BTreeMap<String, String> = [
            (NODE, self.node.to_string()),
            (FORMAT, FORMAT_NOW.into()),
            (POD_NAMESPACE, self.pod.namespace.to_string()),
            (POD_NAME, self.pod.name.to_string()),
            (POD_UID, self.uid.to_string()),
            (ROLE, role.into()),
            (ATTEMPT, self.attempt.to_string()),
            (BACKOFF_MS, self.backoff.as_millis().to_string()),
            (GRACE_S, self.grace_s.to_string()),
            (SANDBOX, self.sandbox.to_string()),
        ]
        .map(|(key, value)| (key.to_owned(), value))
        .into();
        if let Some(name) = self.role.container() {
            labels.insert(CONTAINER.into(), name.to_string());
        }
        if let Some(ip) = self.ip {
            labels.insert(IP.into(), ip.to_string());
        }
        labels
    }

    /// Reads labels; `of` gives a label's value by its key. Says what is wrong with them otherwise.
    pub fn from_labels<'a>(of: impl Fn(&str) -> Option<&'a str>) -> Result<Self, String> {
        let format = of(FORMAT).unwrap_or("none");
        if format != FORMAT_NOW {
            return Err(format!(
                "label {FORMAT} is {format:?}, and this version reads {FORMAT_NOW:?}"
            ));
        }
        let text = |key: &str| of(key).ok_or_else(|| format!("label {key} is missing"));
        let name = |key: &str, rule| {
            Name::parse(text(key)?, rule).map_err(|complaint| format!("label {key}: {complaint}"))
        };
        let role = match text(ROLE)? {
            "pause" => Role::Pause,
            "init" => Role::Init(name(CONTAINER, NameRule::Label)?),
            "app" => Role::App(name(CONTAINER, NameRule::Label)?),
            other => return Err(format!("label {ROLE} is {other:?}")),
        };
        Ok(Self {
            node: name(NODE, NameRule::Subdomain)?,
            pod: PodKey {
                namespace: name(POD_NAMESPACE, NameRule::Label)?,
                name: name(POD_NAME, NameRule::Subdomain)?,
            },
            uid: uid(text(POD_UID)?)?,
            role,
            attempt: number(ATTEMPT, text(ATTEMPT)?)?,
            backoff: Duration::from_millis(number(BACKOFF_MS, text(BACKOFF_MS)?)?),
            grace_s: number(GRACE_S, text(GRACE_S)?)?,
            ip: of(IP).map(|text| number(IP, text)).transpose()?,
            sandbox: number(SANDBOX, text(SANDBOX)?)?,
        })
    }

    /// Returns the container's name in Docker: one for each making of it, and readable in
    /// `docker ps`. No part can hold a `_`, so no two containers share a name.
    ///
    /// ```text
    /// wdl_web_web-5d9f-x2x9z_shop_7a9e…-…_0_3      container, pod, namespace, uid, sandbox, attempt
    /// ```
    pub fn container_name(&self) -> String {
        format!(
            "wdl_{}_{}_{}_{}_{}_{}",
            self.role.container().map_or(PAUSE_NAME, Name::as_str),
            self.pod.name,
            self.pod.namespace,
            self.uid,
            self.sandbox,
            self.attempt
        )
    }
}

/// A uid becomes part of paths and names, so only what UUIDs are made of is taken.
fn uid(text: &str) -> Result<Uid, String> {
    let is_plain = !text.is_empty()
        && text.len() <= crate::kinds::name::LABEL_LEN_MAX
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if is_plain {
        Ok(Uid::trusted(text))
    } else {
        Err(format!("label {POD_UID} is {text:?}, which is no uid"))
    }
}

fn number<T: std::str::FromStr>(key: &str, text: &str) -> Result<T, String> {
    text.parse().map_err(|_| format!("label {key} is {text:?}, which can't be read"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn marks(role: Role) -> Marks {
        Marks {
            node: Name::trusted("n1.example"),
            pod: PodKey::new(&Name::trusted("shop"), &Name::trusted("web-1")),
            uid: Uid::from_bytes([7; 16]),
            role,
            attempt: 3,
            backoff: Duration::from_secs(40),
            grace_s: 30,
            ip: Some(std::net::Ipv4Addr::new(10, 244, 1, 7)),
            sandbox: 2,
        }
    }

    fn read(labels: &BTreeMap<String, String>) -> Result<Marks, String> {
        Marks::from_labels(|key| labels.get(key).map(String::as_str))
    }

    proptest! {
        #[test]
        fn marks_survive_as_labels(
            attempt in 0u32.., backoff_ms in 0u64.., grace_s in 0u32.., sandbox in 0u32..,
            ip in proptest::option::of(any::<std::net::Ipv4Addr>()), role in 0usize..3,
        ) {
            let name = Name::trusted("web");
            let role = [Role::Pause, Role::Init(name.clone()), Role::App(name)][role].clone();
            let before = Marks {
                attempt, grace_s, sandbox, ip,
                backoff: Duration::from_millis(backoff_ms),
                ..marks(role)
            };
            prop_assert_eq!(read(&before.to_labels()), Ok(before));
        }
    }

    #[test]
    fn unreadable_labels_say_what_is_wrong() {
        let table = [
            (NODE, None, "io.windlass.node is missing"),
            (NODE, Some("../x"), "io.windlass.node"),
            (FORMAT, Some("2"), "this version reads \"1\""),
            (POD_UID, Some("../../etc"), "no uid"),
            (POD_UID, Some(""), "no uid"),
            (ROLE, Some("boss"), "io.windlass.role is \"boss\""),
            (CONTAINER, None, "io.windlass.container is missing"),
            (ATTEMPT, Some("-1"), "io.windlass.attempt"),
            (IP, Some("localhost"), "io.windlass.ip"),
            (SANDBOX, Some(""), "io.windlass.sandbox"),
        ];
        for (key, value, complaint) in table {
            let mut labels = marks(Role::App(Name::trusted("web"))).to_labels();
            match value {
                Some(value) => labels.insert(key.into(), value.into()),
                None => labels.remove(key),
            };
            let answer = read(&labels);
            assert!(
                answer.as_ref().is_err_and(|text| text.contains(complaint)),
                "{key} = {value:?}: {answer:?}"
            );
        }
    }

    #[test]
    fn labels_of_a_later_version_are_passed_over() {
        let mut labels = marks(Role::Pause).to_labels();
        labels.insert("io.windlass.from-the-future".into(), "x".into());
        assert_eq!(read(&labels), Ok(marks(Role::Pause)));
    }

    #[test]
    fn each_making_of_a_container_has_a_name_of_its_own() {
        let web = Role::App(Name::trusted("web"));
        let uid = Uid::from_bytes([7; 16]);
        assert_eq!(marks(web.clone()).container_name(), format!("wdl_web_web-1_shop_{uid}_2_3"));
        let mut all = vec![marks(Role::Pause), marks(web.clone())];
        all.push(Marks { attempt: 4, ..marks(web.clone()) });
        all.push(Marks { sandbox: 3, ..marks(web.clone()) });
        all.push(Marks { uid: Uid::from_bytes([8; 16]), ..marks(web) });
        let names: std::collections::BTreeSet<_> = all.iter().map(Marks::container_name).collect();
        assert_eq!(names.len(), all.len());
    }
}
