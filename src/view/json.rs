//! Looking into JSON by path, for those who show objects. What is absent is empty: a table prints a
//! blank where an object says nothing.

use serde_json::{Map, Value};

/// The value at a path of field names, `spec.template.metadata`.
pub(super) fn at<'v>(value: &'v Value, path: &str) -> Option<&'v Value> {
    path.split('.').try_fold(value, |value, name| value.get(name))
}

/// The text at a path; empty where there is none.
pub(super) fn text<'v>(value: &'v Value, path: &str) -> &'v str {
    at(value, path).and_then(Value::as_str).unwrap_or_default()
}

/// The number at a path; 0 where there is none.
pub(super) fn number(value: &Value, path: &str) -> i64 {
    at(value, path).and_then(Value::as_i64).unwrap_or_default()
}

/// Whether `true` stands at a path.
pub(super) fn is_true(value: &Value, path: &str) -> bool {
    at(value, path).and_then(Value::as_bool).unwrap_or_default()
}

/// The items of the list at a path; none where there is no list.
pub(super) fn items<'v>(value: &'v Value, path: &str) -> &'v [Value] {
    at(value, path).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// The members of the object at a path, in their order.
pub(super) fn members<'v>(
    value: &'v Value,
    path: &str,
) -> impl Iterator<Item = (&'v String, &'v Value)> {
    at(value, path).and_then(Value::as_object).into_iter().flatten()
}

/// The texts of an object whose values are texts, as labels are.
pub(super) fn pairs<'v>(value: &'v Value, path: &str) -> Vec<(&'v str, &'v str)> {
    let mut pairs: Vec<(&str, &str)> = members(value, path)
        .filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
        .collect();
    pairs.sort_unstable();
    pairs
}

/// The object in `parent` under `name`, made if it is not there.
pub(super) fn child<'m>(
    parent: &'m mut Map<String, Value>,
    name: &str,
) -> &'m mut Map<String, Value> {
    let slot = parent.entry(name.to_owned()).or_insert_with(|| Value::Object(Map::new()));
    if !slot.is_object() {
        *slot = Value::Object(Map::new());
    }
    match slot {
        Value::Object(map) => map,
        _ => unreachable!("it was made an object above"),
    }
}

/// A value with all its objects' members in order of name, as kubectl prints them.
pub(super) fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let mut members: Vec<(&String, &Value)> = map.iter().collect();
            members.sort_by_key(|(name, _)| name.as_str());
            let sorted =
                members.into_iter().map(|(name, value)| (name.clone(), self::sorted(value)));
            Value::Object(sorted.collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_absent_is_empty() {
        let value = json!({"spec": {"replicas": 2, "names": ["a"], "on": true, "to": "x"}});
        assert_eq!(number(&value, "spec.replicas"), 2);
        assert_eq!(text(&value, "spec.to"), "x");
        assert!(is_true(&value, "spec.on"));
        assert_eq!(items(&value, "spec.names").len(), 1);
        assert_eq!((number(&value, "spec.no.such"), text(&value, "a")), (0, ""));
        assert!(items(&value, "spec.replicas").is_empty());
    }

    #[test]
    fn members_come_in_order_of_name() {
        let text = sorted(&json!({"b": [{"z": 1, "a": 2}], "a": 0})).to_string();
        assert_eq!(text, r#"{"a":0,"b":[{"a":2,"z":1}]}"#);
    }
}
