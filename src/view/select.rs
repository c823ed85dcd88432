//! Which objects somebody asked for: by namespace, labels, fields, and page by page.

use serde_json::Value;

use super::cache::Item;
use super::json::{at, pairs, text};
use crate::kinds::labels::{Labels, Selector};
use crate::kinds::name::Name;
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;

/// What somebody asked for, of one kind.
#[derive(Clone, Debug, Default)]
pub struct Query {
    /// One namespace; all where absent.
    pub namespace: Option<Name>,
    /// By labels.
    pub labels: Selector,
    /// By fields.
    pub fields: FieldSelector,
}

impl Query {
    /// Whether an object was asked for; it is read only if somebody asked for what is in it.
    pub fn wants(&self, item: &Item) -> bool {
        let is_there = self
            .namespace
            .as_ref()
            .is_none_or(|namespace| item.key.namespace.as_ref() == Some(namespace));
        let is_any = self.fields.0.is_empty() && self.labels.is_everything();
        is_there && (is_any || self.wants_value(&item.value()))
    }

    fn wants_value(&self, object: &Value) -> bool {
        self.fields.matches(object) && self.wants_labels(object)
    }

    fn wants_labels(&self, object: &Value) -> bool {
        if self.labels.is_everything() {
            return true;
        }
        let own = pairs(object, "metadata.labels").into_iter();
        let own: Labels = own.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
        self.labels.matches(&own)
    }
}

/// Conditions on fields: `status.phase!=Running,spec.nodeName=a`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<Condition>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Condition {
    path: String,
    is_equal: bool,
    value: String,
}

/// The fields by which each kind can be selected, as in Kubernetes, beside name and namespace.
fn selectable(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Pod => &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
        Kind::Event => &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
        ],
        Kind::Secret => &["type"],
        Kind::Namespace => &["status.phase"],
        Kind::Node => &["spec.unschedulable"],
        Kind::ReplicaSet | Kind::ReplicationController => &["status.replicas"],
        Kind::Job => &["status.successful"],
        Kind::Service => &["spec.clusterIP", "spec.type"],
        _ => &[],
    }
}

impl FieldSelector {
    /// Reads the text of a `fieldSelector` parameter.
    pub fn parse(kind: Kind, text: &str) -> Result<Self, String> {
        let mut conditions = Vec::new();
        for part in text.split(',').filter(|part| !part.is_empty()) {
            let (path, is_equal, value) = if let Some((path, value)) = part.split_once("!=") {
                (path, false, value)
            } else if let Some((path, value)) = part.split_once('=') {
                (path, true, value.strip_prefix('=').unwrap_or(value))
            } else {
                return Err(format!("invalid selector: '{part}'; can't understand '{part}'"));
            };
            let path = path.trim();
            let is_known = ["metadata.name", "metadata.namespace"].contains(&path)
                || selectable(kind).contains(&path);
            if !is_known {
                return Err(format!("field label not supported: {path}"));
            }
            conditions.push(Condition {
                path: if path == "source" { "source.component" } else { path }.to_owned(),
                is_equal,
                value: value.trim().to_owned(),
            });
        }
        Ok(Self(conditions))
    }

    /// Whether every condition holds.
    pub fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|condition| {
            let has = match at(object, &condition.path) {
                Some(Value::String(text)) => text == &condition.value,
                Some(Value::Null) | None => {
                    // An absent truth value is false; an absent text is empty.
                    condition.value.is_empty() || condition.value == "false"
                }
                Some(other) => *other == condition.value,
            };
            has == condition.is_equal
        })
    }
}

/// Where a page of a list begins, as `continue` carries it: after this object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bookmark {
    namespace: String,
    name: String,
}

impl Bookmark {
    /// After an object.
    pub fn after(key: &Key) -> Self {
        Self { namespace: key.namespace_str().to_owned(), name: key.name.to_string() }
    }

    /// As `continue` carries it. Neither part of a name can hold the character between them.
    pub fn token(&self) -> String {
        use base64::Engine as _;
        let text = format!("{}\n{}", self.namespace, self.name);
        base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text)
    }

    /// Reads a token.
    pub fn parse(token: &str) -> Option<Self> {
        use base64::Engine as _;
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token).ok()?;
        let text = String::from_utf8(bytes).ok()?;
        let (namespace, name) = text.split_once('\n')?;
        Some(Self { namespace: namespace.to_owned(), name: name.to_owned() })
    }

    /// Whether an object comes after.
    pub fn is_before(&self, key: &Key) -> bool {
        (self.namespace.as_str(), self.name.as_str()) < (key.namespace_str(), key.name.as_str())
    }
}

/// The field of an object by which a person sorts, as text that compares as the field does.
pub fn sort_key(object: &Value, path: &str) -> String {
    match at(object, path) {
        // Numbers are put side by side digit under digit.
        Some(Value::Number(number)) => format!("{:>24}", number.to_string()),
        Some(Value::String(_)) => text(object, path).to_owned(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_select_as_in_kubernetes() {
        let pod = json!({
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {"nodeName": "a"},
            "status": {"phase": "Running"},
        });
        let table = [
            ("", true),
            ("metadata.name=web", true),
            ("metadata.name==web,spec.nodeName=a", true),
            ("metadata.name=other", false),
            ("status.phase!=Succeeded,status.phase!=Failed", true),
            ("status.phase!=Running", false),
            ("spec.nodeName!=", true),
            ("status.nominatedNodeName=", true),
            ("spec.hostNetwork=false", true),
        ];
        for (text, wants) in table {
            let selector = FieldSelector::parse(Kind::Pod, text).expect(text);
            assert_eq!(selector.matches(&pod), wants, "{text}");
        }
        for text in ["spec.containers=x", "name", "status.phase"] {
            assert!(FieldSelector::parse(Kind::Pod, text).is_err(), "{text}");
        }
        assert!(FieldSelector::parse(Kind::ConfigMap, "type=x").is_err());
    }

    #[test]
    fn a_bookmark_survives_its_token() {
        let key = Key::namespaced(Kind::Pod, &Name::trusted("shop"), &Name::trusted("web"));
        let bookmark = Bookmark::after(&key);
        assert_eq!(Bookmark::parse(&bookmark.token()), Some(bookmark.clone()));
        assert_eq!(Bookmark::parse("?"), None);
        let later = Key::namespaced(Kind::Pod, &Name::trusted("shop"), &Name::trusted("web-2"));
        assert!(bookmark.is_before(&later) && !bookmark.is_before(&key));
    }
}
