//! Cells that many tables share.

use serde_json::Value;

use crate::kinds::time::{Wall, human_duration};
use crate::view::json::{items, members, pairs, text};

/// What stands where there is nothing.
pub(super) const NONE: &str = "<none>";
/// What stands where nobody knows.
pub(super) const UNKNOWN: &str = "<unknown>";
/// What stands where a number was not given.
pub(super) const UNSET: &str = "<unset>";

/// How long ago a moment of an object was; `<unknown>` where it has none.
pub(in crate::view) fn since(object: &Value, path: &str, now: Wall) -> String {
    let moment = Wall::parse(text(object, path));
    moment.map_or_else(|| UNKNOWN.to_owned(), |moment| human_duration(now.since(moment)))
}

/// How old an object is.
pub(in crate::view) fn age(object: &Value, now: Wall) -> String {
    since(object, "metadata.creationTimestamp", now)
}

/// The text, or `<none>`.
pub(super) fn or_none(text: &str) -> String {
    if text.is_empty() { NONE } else { text }.to_owned()
}

/// Texts joined by commas, or `<none>`.
pub(super) fn joined<'t>(texts: impl IntoIterator<Item = &'t str>) -> String {
    or_none(&texts.into_iter().collect::<Vec<_>>().join(","))
}

/// Labels as `a=b,c=d`, or `<none>`.
pub(in crate::view) fn labels(object: &Value, path: &str) -> String {
    let pairs = pairs(object, path).into_iter().map(|(key, value)| format!("{key}={value}"));
    or_none(&pairs.collect::<Vec<_>>().join(","))
}

/// A `LabelSelector` in one line (`metav1.FormatLabelSelector`).
pub(in crate::view) fn selector(object: &Value, path: &str) -> String {
    let mut parts: Vec<String> = pairs(object, &format!("{path}.matchLabels"))
        .into_iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    for expression in items(object, &format!("{path}.matchExpressions")) {
        let key = text(expression, "key");
        let values: Vec<&str> =
            items(expression, "values").iter().filter_map(Value::as_str).collect();
        let values = values.join(",");
        parts.push(match text(expression, "operator") {
            "In" => format!("{key} in ({values})"),
            "NotIn" => format!("{key} notin ({values})"),
            "DoesNotExist" => format!("!{key}"),
            _ => key.to_owned(),
        });
    }
    or_none(&parts.join(","))
}

/// The names of a template's containers, and their images.
pub(super) fn containers(object: &Value, path: &str) -> (String, String) {
    let containers = items(object, path);
    let field = |name| {
        containers.iter().map(|container| text(container, name)).collect::<Vec<_>>().join(",")
    };
    (field("name"), field("image"))
}

/// A quantity or a number, as it is written; empty where there is none.
pub(super) fn plain(value: Option<&Value>) -> String {
    match value {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Null) | None => String::new(),
        Some(other) => other.to_string(),
    }
}

/// `cpu: 1/2, pods: 0/10`.
pub(super) fn used_of_hard(object: &Value, is_wanted: impl Fn(&str) -> bool) -> String {
    let mut parts: Vec<String> = members(object, "status.hard")
        .filter(|(name, _)| is_wanted(name))
        .map(|(name, hard)| {
            let used = crate::view::json::at(object, "status.used").and_then(|used| used.get(name));
            format!("{name}: {}/{}", plain(used), plain(Some(hard)))
        })
        .collect();
    parts.sort();
    parts.join(", ")
}
