//! Labels and the selectors that pick by them.
//!
//! A selector with no requirement picks everything; a selector that was not given picks nothing
//! and is an `Option<Selector>` here. `NotIn` and `DoesNotExist` also pick what lacks the key.
//! Source: `k8s.io/apimachinery/pkg/labels` and `metav1.LabelSelector`.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use super::name::{LABEL_LEN_MAX, NameRule};

/// An object's labels, or its annotations, in order of key.
pub type Labels = BTreeMap<String, String>;

/// One condition of a selector.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Requirement {
    /// `key=value`, `key in (a, b)`.
    In(String, BTreeSet<String>),
    /// `key!=value`, `key notin (a, b)`; also true where the key is absent.
    NotIn(String, BTreeSet<String>),
    /// `key`.
    Exists(String),
    /// `!key`.
    DoesNotExist(String),
    /// `key > n`, node affinity only.
    Greater(String, i64),
    /// `key < n`, node affinity only.
    Less(String, i64),
}

impl Requirement {
    /// The requirement that `key` has exactly this value.
    pub fn equals(key: &str, value: &str) -> Self {
        Self::In(key.into(), BTreeSet::from([value.into()]))
    }

    /// Whether `labels` meet it.
    pub fn matches(&self, labels: &Labels) -> bool {
        match self {
            Self::In(key, values) => labels.get(key).is_some_and(|v| values.contains(v)),
            Self::NotIn(key, values) => labels.get(key).is_none_or(|v| !values.contains(v)),
            Self::Exists(key) => labels.contains_key(key),
            Self::DoesNotExist(key) => !labels.contains_key(key),
            Self::Greater(key, bound) => number(labels, key).is_some_and(|n| n > *bound),
            Self::Less(key, bound) => number(labels, key).is_some_and(|n| n < *bound),
        }
    }

    /// The label key it looks at.
    pub fn key(&self) -> &str {
        match self {
            Self::In(key, _)
            | Self::NotIn(key, _)
            | Self::Exists(key)
            | Self::DoesNotExist(key)
            | Self::Greater(key, _)
            | Self::Less(key, _) => key,
        }
    }
}

fn number(labels: &Labels, key: &str) -> Option<i64> {
    labels.get(key)?.parse().ok()
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |values: &BTreeSet<String>| {
            values.iter().map(String::as_str).collect::<Vec<_>>().join(",")
        };
        match self {
            Self::In(key, values) if values.len() == 1 => write!(f, "{key}={}", joined(values)),
            Self::In(key, values) => write!(f, "{key} in ({})", joined(values)),
            Self::NotIn(key, values) => write!(f, "{key} notin ({})", joined(values)),
            Self::Exists(key) => f.write_str(key),
            Self::DoesNotExist(key) => write!(f, "!{key}"),
            Self::Greater(key, bound) => write!(f, "{key}>{bound}"),
            Self::Less(key, bound) => write!(f, "{key}<{bound}"),
        }
    }
}

/// All of its requirements must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Selector(Vec<Requirement>);

impl Selector {
    /// A selector of these requirements.
    pub fn new(requirements: Vec<Requirement>) -> Self {
        Self(requirements)
    }

    /// The selector of `matchLabels`, of a Service or of `nodeSelector`.
    pub fn from_labels(labels: &Labels) -> Self {
        Self(labels.iter().map(|(key, value)| Requirement::equals(key, value)).collect())
    }

    /// Whether every requirement holds for `labels`.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.matches(labels))
    }

    /// The requirements.
    pub fn requirements(&self) -> &[Requirement] {
        &self.0
    }

    /// Whether it picks everything.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    /// Reads the text of a `labelSelector` query parameter or of `-l`:
    /// `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut requirements = Vec::new();
        for part in split_outside_parentheses(text) {
            let part = part.trim();
            if !part.is_empty() {
                requirements.push(parse_requirement(part)?);
            }
        }
        Ok(Self(requirements))
    }
}

/// As `kubectl` prints a selector; `<none>` when it picks everything.
impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("<none>");
        }
        for (i, requirement) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(",")?;
            }
            write!(f, "{requirement}")?;
        }
        Ok(())
    }
}

fn split_outside_parentheses(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0_u32, 0);
    for (at, character) in text.char_indices() {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn parse_requirement(part: &str) -> Result<Requirement, String> {
    let set = |list: &str| -> Result<BTreeSet<String>, String> {
        let inner = list
            .trim()
            .strip_prefix('(')
            .and_then(|rest| rest.strip_suffix(')'))
            .ok_or_else(|| format!("expected a list in parentheses in '{part}'"))?;
        Ok(inner.split(',').map(|value| value.trim().to_owned()).collect())
    };
    let parsed = if let Some((key, list)) = part.split_once(" notin ") {
        Requirement::NotIn(key.trim().into(), set(list)?)
    } else if let Some((key, list)) = part.split_once(" in ") {
        Requirement::In(key.trim().into(), set(list)?)
    } else if let Some((key, value)) = part.split_once("!=") {
        Requirement::NotIn(key.trim().into(), BTreeSet::from([value.trim().into()]))
    } else if let Some((key, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
        Requirement::equals(key.trim(), value.trim())
    } else if let Some(key) = part.strip_prefix('!') {
        Requirement::DoesNotExist(key.trim().into())
    } else {
        Requirement::Exists(part.into())
    };
    match label_key_complaint(parsed.key()) {
        None => Ok(parsed),
        Some(complaint) => Err(format!("'{}' in a selector: {complaint}", parsed.key())),
    }
}

/// Says what is wrong with a label's key (`validation.IsQualifiedName`): an optional DNS subdomain
/// and `/`, then a name of at most 63 characters.
pub fn label_key_complaint(key: &str) -> Option<String> {
    let name = match key.split_once('/') {
        None => key,
        Some((prefix, name)) => {
            if let Some(complaint) = NameRule::Subdomain.complaint(prefix) {
                return Some(format!("the part before '/' {complaint}"));
            }
            name
        }
    };
    if name.is_empty() || name.len() > LABEL_LEN_MAX {
        return Some(format!("a key must have 1 to {LABEL_LEN_MAX} characters after any '/'"));
    }
    (!is_qualified(name)).then(|| {
        "a key must consist of letters, digits, '-', '_' or '.', and begin and end with a letter \
         or digit"
            .into()
    })
}

/// Says what is wrong with a label's value (`validation.IsValidLabelValue`).
pub fn label_value_complaint(value: &str) -> Option<String> {
    if value.len() > LABEL_LEN_MAX {
        return Some(format!("a value must be no more than {LABEL_LEN_MAX} characters"));
    }
    (!value.is_empty() && !is_qualified(value)).then(|| {
        "a value must be empty or consist of letters, digits, '-', '_' or '.', and begin and end \
         with a letter or digit"
            .into()
    })
}

fn is_qualified(text: &str) -> bool {
    let bytes = text.as_bytes();
    let (Some(first), Some(last)) = (bytes.first(), bytes.last()) else {
        return false;
    };
    first.is_ascii_alphanumeric()
        && last.is_ascii_alphanumeric()
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
    }

    #[test]
    fn selectors_pick_as_kubernetes_does() {
        let web = labels(&[("app", "web"), ("tier", "front"), ("n", "7")]);
        let table = [
            ("", true),
            ("app=web", true),
            ("app==web", true),
            ("app=db", false),
            ("app!=db", true),
            ("absent!=db", true),
            ("app in (web,db)", true),
            ("app in (db), tier", false),
            ("app notin (db),tier=front", true),
            ("absent notin (x)", true),
            ("tier", true),
            ("!tier", false),
            ("!absent", true),
        ];
        for (text, picked) in table {
            let selector = Selector::parse(text).expect("parses");
            assert_eq!(selector.matches(&web), picked, "{text:?}");
        }
        assert!(Requirement::Greater("n".into(), 6).matches(&web));
        assert!(!Requirement::Less("n".into(), 7).matches(&web));
        assert!(!Requirement::Greater("app".into(), 0).matches(&web), "not a number");
    }

    #[test]
    fn a_selector_is_printed_as_it_is_read() {
        for text in ["app=web,tier in (a,b)", "!x,y,z notin (q)", "<none>"] {
            let read = if text == "<none>" {
                Selector::default()
            } else {
                Selector::parse(text).expect("parses")
            };
            assert_eq!(read.to_string(), text);
        }
        assert!(Selector::parse("a in b").is_err());
        assert!(Selector::parse("-x=1").is_err());
    }

    #[test]
    fn keys_and_values_follow_kubernetes_rules() {
        for (key, valid) in [
            ("app", true),
            ("app.kubernetes.io/name", true),
            ("App_1", true),
            ("", false),
            ("/x", false),
            ("a/b/c", false),
            ("-a", false),
        ] {
            assert_eq!(label_key_complaint(key).is_none(), valid, "{key:?}");
        }
        for (value, valid) in [("", true), ("v1.2_x", true), ("a b", false), ("-", false)] {
            assert_eq!(label_value_complaint(value).is_none(), valid, "{value:?}");
        }
    }
}
