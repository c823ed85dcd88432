//! What a commit would change, exactly: object by object, field by field, by meaning.
//!
//! `1000m` beside `1` is no change, nor is a default written out. Secrets say which keys changed,
//! never to what.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

use super::Desired;
use super::shape::{SHAPES, Type};
use crate::kinds::finding::Place;
use crate::kinds::object::{Key, Object};
use crate::kinds::quantity::Quantity;
use crate::kinds::registry::Kind;

/// One object that differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Change {
    /// Which.
    pub key: Key,
    /// Where it is written; where it was, if it is gone.
    pub place: Place,
    /// How it differs.
    pub difference: Difference,
}

/// How an object differs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Difference {
    /// It is new.
    Added,
    /// It is gone.
    Removed,
    /// These fields differ, in order of path.
    Changed(Vec<FieldChange>),
}

/// One field that differs. Values are compact JSON; absent where the field is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FieldChange {
    /// Its path; items of a list with names go by their name: `spec.containers[web].image`.
    pub path: String,
    /// What it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old: Option<String>,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new: Option<String>,
}

/// What stands in the place of a Secret's value.
pub const REDACTED: &str = "(secret)";

/// What differs between two wishes, in order of key.
pub(super) fn changes(old: &Desired, new: &Desired) -> Vec<Change> {
    let mut changes = Vec::new();
    let change = |object: &Object, difference| Change {
        key: object.key.clone(),
        place: object.place.clone(),
        difference,
    };
    for (key, object) in &new.objects {
        match old.objects.get(key) {
            None => changes.push(change(object, Difference::Added)),
            // The same blob gives the same object: most of a tree is settled here.
            Some(before) if Arc::ptr_eq(before, object) || before.meaning == object.meaning => {}
            Some(before) => {
                let fields = differing_fields(before, object);
                changes.push(change(object, Difference::Changed(fields)));
            }
        }
    }
    for (key, object) in &old.objects {
        if !new.objects.contains_key(key) {
            changes.push(change(object, Difference::Removed));
        }
    }
    changes.sort_by(|a, b| a.key.cmp(&b.key));
    changes
}

fn differing_fields(old: &Object, new: &Object) -> Vec<FieldChange> {
    let kind = new.key.kind;
    let read = |object: &Object| serde_json::from_str::<Json>(&object.json).unwrap_or_default();
    let shape = SHAPES.root(&kind.api_version(), kind.name());
    let mut differ = Differ {
        is_secret: kind == Kind::Secret,
        fields: Vec::new(),
    };
    let (old, new) = (read(old), read(new));
    differ.compare("", Some(&old), Some(&new), shape.unwrap_or(Type::Any));
    differ.fields.sort_by(|a, b| a.path.cmp(&b.path));
    differ.fields
}

struct Differ {
    is_secret: bool,
    fields: Vec<FieldChange>,
}

impl Differ {
    fn compare(&mut self, path: &str, old: Option<&Json>, new: Option<&Json>, holds: Type) {
        match (old, new) {
            (Some(Json::Object(old)), Some(Json::Object(new))) => {
                let is_structure = matches!(holds, Type::Structure(_));
                let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
                keys.sort();
                keys.dedup();
                for key in keys {
                    let path = match (path, is_structure) {
                        ("", _) => key.clone(),
                        (path, true) => format!("{path}.{key}"),
                        (path, false) => format!("{path}[{key}]"),
                    };
                    let holds = SHAPES.child(holds, key);
                    self.compare(&path, old.get(key), new.get(key), holds);
                }
            }
            (Some(Json::Array(old)), Some(Json::Array(new))) => self.lists(path, old, new, holds),
            (Some(old), Some(new)) if is_same(old, new, holds) => {}
            (None, None) => {}
            (old, new) => {
                let show = |value: &Json| self.show(path, value);
                let change = FieldChange {
                    path: path.to_owned(),
                    old: old.map(show),
                    new: new.map(show),
                };
                self.fields.push(change);
            }
        }
    }

    /// Lists whose items have names are compared by name, others by position.
    fn lists(&mut self, path: &str, old: &[Json], new: &[Json], holds: Type) {
        let holds = SHAPES.child(holds, "");
        let Some((before, after)) = by_name(old).zip(by_name(new)) else {
            for index in 0..old.len().max(new.len()) {
                let path = format!("{path}[{index}]");
                self.compare(&path, old.get(index), new.get(index), holds);
            }
            return;
        };
        let mut names: Vec<&&str> = before.keys().chain(after.keys()).collect();
        names.sort();
        names.dedup();
        for name in names {
            let path = format!("{path}[{name}]");
            self.compare(
                &path,
                before.get(name).copied(),
                after.get(name).copied(),
                holds,
            );
        }
        // A variable may use those above it, init containers run one after the other: order counts.
        let order = |list: &[Json], other: &BTreeMap<&str, &Json>| -> Vec<String> {
            let names = list.iter().filter_map(name_of);
            let both = names.filter(|name| other.contains_key(name));
            both.map(str::to_owned).collect()
        };
        let (old_order, new_order) = (order(old, &after), order(new, &before));
        if old_order != new_order {
            self.fields.push(FieldChange {
                path: format!("{path} (order)"),
                old: Some(old_order.join(", ")),
                new: Some(new_order.join(", ")),
            });
        }
    }

    fn show(&self, path: &str, value: &Json) -> String {
        if self.is_secret && path.starts_with("data") {
            return REDACTED.to_owned();
        }
        value.to_string()
    }
}

/// The items by name, if every one has a name of its own.
fn by_name(items: &[Json]) -> Option<BTreeMap<&str, &Json>> {
    let named: BTreeMap<&str, &Json> = items
        .iter()
        .map(|item| Some((name_of(item)?, item)))
        .collect::<Option<_>>()?;
    (named.len() == items.len()).then_some(named)
}

fn name_of(item: &Json) -> Option<&str> {
    ["name", "mountPath"]
        .iter()
        .find_map(|field| item.get(field)?.as_str())
}

fn is_same(old: &Json, new: &Json, holds: Type) -> bool {
    if let (Type::Quantity, Some(old), Some(new)) = (holds, old.as_str(), new.as_str())
        && let (Ok(old), Ok(new)) = (Quantity::parse(old), Quantity::parse(new))
    {
        return old == new;
    }
    old == new
}
