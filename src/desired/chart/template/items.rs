//! What the action `range` goes through.

use std::rc::Rc;

use super::super::value::Value;
use super::format::try_print;

/// What a range goes through, as it was when it began.
pub(super) struct Items {
    pub(super) length: usize,
    content: Content,
}

enum Content {
    Numbers,
    List(Rc<Vec<Value>>),
    Entries(Vec<(Rc<str>, Value)>),
}

impl Items {
    pub(super) fn of(value: &Value) -> Result<Self, String> {
        let none = || Self { length: 0, content: Content::Numbers };
        match value {
            Value::Null => Ok(none()),
            Value::Int(number) => {
                let length = usize::try_from(*number).unwrap_or(0);
                Ok(Self { length, content: Content::Numbers })
            }
            Value::List(items) => {
                Ok(Self { length: items.len(), content: Content::List(Rc::clone(items)) })
            }
            Value::Map(entries) => {
                let entries: Vec<(Rc<str>, Value)> = entries
                    .borrow()
                    .iter()
                    .map(|(key, value)| (Rc::clone(key), value.clone()))
                    .collect();
                Ok(Self { length: entries.len(), content: Content::Entries(entries) })
            }
            Value::Host(host) => match host.items() {
                Some(Value::Host(_)) | None => {
                    Err(format!("range can't iterate over {}", host.name()))
                }
                Some(items) => Self::of(&items),
            },
            Value::Bool(_) | Value::Float(_) | Value::Text(_) => {
                Err(format!("range can't iterate over {}", try_print(value)?))
            }
        }
    }

    /// The key and the item at a place.
    pub(super) fn at(&self, i: usize) -> (Value, Value) {
        let number = Value::Int(i64::try_from(i).unwrap_or(i64::MAX));
        match &self.content {
            Content::Numbers => (number.clone(), number),
            Content::List(items) => (number, items.get(i).cloned().unwrap_or_default()),
            Content::Entries(entries) => match entries.get(i) {
                Some((key, value)) => (Value::Text(Rc::clone(key)), value.clone()),
                None => (Value::Null, Value::Null),
            },
        }
    }
}
