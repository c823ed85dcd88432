//! Names are checked once, at the door, like coats: whoever holds a [`Name`] inside never asks
//! again whether it is one.
//!
//! The rules are Kubernetes' (<https://kubernetes.io/docs/concepts/overview/working-with-objects/names/>
//! and `k8s.io/apimachinery/pkg/util/validation`). Which rule a kind's names follow is part of the
//! kind's row in [`super::registry`].

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest DNS subdomain, `validation.DNS1123SubdomainMaxLength`.
pub const SUBDOMAIN_LEN_MAX: usize = 253;
/// Longest DNS label, `validation.DNS1123LabelMaxLength`; also the limit of label values.
pub const LABEL_LEN_MAX: usize = 63;
/// Longest port name, `validation.IsValidPortName`.
const PORT_NAME_LEN_MAX: usize = 15;

/// Namespaces that exist by themselves, as in Kubernetes.
pub const GIVEN_NAMESPACES: [&str; 4] =
    ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Which characters a name may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameRule {
    /// RFC 1123 subdomain: lower-case letters, digits, `-` and `.`; most kinds.
    Subdomain,
    /// RFC 1123 label: as above without `.`, at most 63; Namespaces, pod host names.
    Label,
    /// RFC 1035 label: a label that begins with a letter; Services.
    DnsLabel,
    /// Anything that can be one segment of a path; RBAC kinds (`system:node`).
    PathSegment,
}

impl NameRule {
    /// Says what is wrong with `text` as a name of this rule, or nothing.
    pub fn complaint(self, text: &str) -> Option<String> {
        match self {
            Self::Subdomain => subdomain_complaint(text),
            Self::Label => label_complaint(text),
            Self::DnsLabel => dns_label_complaint(text),
            Self::PathSegment => path_segment_complaint(text),
        }
    }
}

/// A valid name of an object, a node, a container or a port. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Name(Arc<str>);

impl Name {
    /// Takes `text` if it follows `rule`; otherwise says what is wrong with it.
    pub fn parse(text: &str, rule: NameRule) -> Result<Self, String> {
        match rule.complaint(text) {
            None => Ok(Self(text.into())),
            Some(complaint) => Err(complaint),
        }
    }

    /// Takes a name that this program made itself, or that was valid when it was written down.
    pub fn trusted(text: &str) -> Self {
        Self(text.into())
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl AsRef<str> for Name {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl PartialEq<str> for Name {
    fn eq(&self, other: &str) -> bool {
        &*self.0 == other
    }
}

impl PartialEq<&str> for Name {
    fn eq(&self, other: &&str) -> bool {
        &*self.0 == *other
    }
}

/// The name of a machine that runs an agent; also the last part of its ref in the state store.
pub type NodeName = Name;

/// A namespaced pod name: the identity people use for a pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct PodKey {
    /// The pod's namespace.
    pub namespace: Name,
    /// The pod's name within it.
    pub name: Name,
}

impl PodKey {
    /// Joins the two halves.
    pub fn new(namespace: &Name, name: &Name) -> Self {
        Self { namespace: namespace.clone(), name: name.clone() }
    }
}

impl fmt::Display for PodKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The identity of one life of an object: a pod that is made again under the same name has
/// another. Written as a UUID, because clients expect that shape.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Uid(Arc<str>);

impl Uid {
    /// Shapes 16 bytes as a UUID (version 8, "custom", RFC 9562 §5.8: ours are digests, not
    /// random numbers).
    pub fn from_bytes(mut bytes: [u8; 16]) -> Self {
        bytes[6] = (bytes[6] & 0x0f) | 0x80;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        let hex = super::digest::hex(&bytes);
        let text = format!(
            "{}-{}-{}-{}-{}",
            &hex[..8],
            &hex[8..12],
            &hex[12..16],
            &hex[16..20],
            &hex[20..]
        );
        Self(text.into())
    }

    /// Takes a uid that was written down earlier (a label on a container, a record of the store).
    pub fn trusted(text: &str) -> Self {
        Self(text.into())
    }

    /// The uid as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn is_lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn subdomain_complaint(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("a name can't be empty".into());
    }
    if text.len() > SUBDOMAIN_LEN_MAX {
        return Some(format!("must be no more than {SUBDOMAIN_LEN_MAX} characters"));
    }
    let labels_are_right = text.split('.').all(|label| is_dashed(label, is_lower_alphanumeric));
    (!labels_are_right).then(|| {
        "must consist of lower-case letters, digits, '-' or '.', and begin and end with a letter \
         or digit (for example 'example.com')"
            .into()
    })
}

fn label_complaint(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("a name can't be empty".into());
    }
    if text.len() > LABEL_LEN_MAX {
        return Some(format!("must be no more than {LABEL_LEN_MAX} characters"));
    }
    (!is_dashed(text, is_lower_alphanumeric)).then(|| {
        "must consist of lower-case letters, digits or '-', and begin and end with a letter or \
         digit (for example 'my-name')"
            .into()
    })
}

fn dns_label_complaint(text: &str) -> Option<String> {
    if let Some(complaint) = label_complaint(text) {
        return Some(complaint);
    }
    (!text.as_bytes()[0].is_ascii_lowercase())
        .then(|| "must begin with a lower-case letter (for example 'my-name')".into())
}

fn path_segment_complaint(text: &str) -> Option<String> {
    match text {
        "" => Some("a name can't be empty".into()),
        "." | ".." => Some(format!("may not be '{text}'")),
        _ if text.contains(['/', '%']) => Some("may not contain '/' or '%'".into()),
        _ => None,
    }
}

fn is_dashed(label: &str, inner: fn(u8) -> bool) -> bool {
    let bytes = label.as_bytes();
    let (Some(&first), Some(&last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    inner(first) && inner(last) && bytes.iter().all(|&b| inner(b) || b == b'-')
}

/// Says what is wrong with a port name (`validation.IsValidPortName`): at most 15 of lower-case
/// letters, digits and single dashes, with at least one letter.
pub fn port_name_complaint(text: &str) -> Option<String> {
    if text.len() > PORT_NAME_LEN_MAX {
        return Some(format!("must be no more than {PORT_NAME_LEN_MAX} characters"));
    }
    if !is_dashed(text, is_lower_alphanumeric) || text.contains("--") {
        return Some("must be lower-case letters, digits and single dashes between them".into());
    }
    (!text.bytes().any(|b| b.is_ascii_lowercase())).then(|| "must contain a letter".into())
}

/// Says what is wrong with an environment variable's name (`validation.IsEnvVarName`, as relaxed
/// since 1.34: printable ASCII without `=`).
pub fn env_name_complaint(text: &str) -> Option<String> {
    if text.is_empty() {
        return Some("a name can't be empty".into());
    }
    (!text.bytes().all(|b| (0x20..0x7f).contains(&b) && b != b'='))
        .then(|| "must be printable ASCII characters without '='".into())
}

/// Says what is wrong with a key of a ConfigMap or Secret (`validation.IsConfigMapKey`).
pub fn config_key_complaint(text: &str) -> Option<String> {
    if text.is_empty() || text.len() > SUBDOMAIN_LEN_MAX {
        return Some(format!("must have 1 to {SUBDOMAIN_LEN_MAX} characters"));
    }
    if !text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.')) {
        return Some("must consist of letters, digits, '-', '_' or '.'".into());
    }
    (text == "." || text.starts_with("..")).then(|| "may not be '.' or begin with '..'".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_kubernetes_rules() {
        use NameRule::{DnsLabel, Label, PathSegment, Subdomain};
        let long_label = "a".repeat(64);
        let long_subdomain = "a".repeat(254);
        let table: &[(&str, NameRule, bool)] = &[
            ("web", Subdomain, true),
            ("web.example", Subdomain, true),
            ("web..example", Subdomain, false),
            ("Web", Subdomain, false),
            ("web_1", Subdomain, false),
            ("-web", Subdomain, false),
            ("web-", Subdomain, false),
            ("", Subdomain, false),
            (&long_label, Subdomain, true),
            (&long_subdomain, Subdomain, false),
            ("web.example", Label, false),
            ("9web", Label, true),
            (&long_label, Label, false),
            ("9web", DnsLabel, false),
            ("web-9", DnsLabel, true),
            ("system:node", PathSegment, true),
            ("a/b", PathSegment, false),
            ("..", PathSegment, false),
        ];
        for (text, rule, valid) in table {
            assert_eq!(Name::parse(text, *rule).is_ok(), *valid, "{text:?} as {rule:?}");
        }
    }

    #[test]
    fn port_env_and_config_names_follow_kubernetes_rules() {
        for (text, valid) in [("http", true), ("http-2", true), ("1234", false), ("a--b", false)] {
            assert_eq!(port_name_complaint(text).is_none(), valid, "{text:?}");
        }
        assert!(port_name_complaint("sixteen-letters1").is_some());
        for (text, valid) in [("HOME", true), ("my.var-1", true), ("a=b", false), ("", false)] {
            assert_eq!(env_name_complaint(text).is_none(), valid, "{text:?}");
        }
        for (text, valid) in [("app.yaml", true), ("..x", false), ("a/b", false), (".x", true)] {
            assert_eq!(config_key_complaint(text).is_none(), valid, "{text:?}");
        }
    }

    #[test]
    fn a_uid_has_the_shape_of_a_uuid() {
        let uid = Uid::from_bytes([0xff; 16]);
        assert_eq!(uid.as_str(), "ffffffff-ffff-8fff-bfff-ffffffffffff");
    }
}
