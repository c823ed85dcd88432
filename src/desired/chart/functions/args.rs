//! The arguments of functions: how many there are, of which type, and how big a result may become.
//!
//! Messages are Go's own, so that they can be looked up.

use std::collections::BTreeMap;
use std::rc::Rc;

use super::super::template::format;
use super::super::value::{MARK, Map, Value};

/// A text that a function makes may be this long.
pub(super) const TEXT_MAX: usize = 4 << 20;

/// A list that a function makes may have this many items.
pub(super) const ITEMS_MAX: usize = 100_000;

/// Values may nest this deep where a function goes through them. A map can hold itself.
pub(super) const DEPTH_MAX: usize = 100;

/// So many values are gone through at once: maps are shared, so few can look like many.
pub(super) const VISITS_MAX: usize = 1_000_000;

/// A mark of the usual length.
const MARKS: usize = 10;

/// Exactly `N` arguments.
pub(super) fn exactly<'a, const N: usize>(
    name: &str,
    args: &'a [Value],
) -> Result<&'a [Value; N], String> {
    args.try_into()
        .map_err(|_| format!("wrong number of args for {name}: want {N} got {}", args.len()))
}

/// At least `N` arguments, and those after them.
pub(super) fn at_least<'a, const N: usize>(
    name: &str,
    args: &'a [Value],
) -> Result<(&'a [Value; N], &'a [Value]), String> {
    args.split_first_chunk().ok_or_else(|| {
        format!("wrong number of args for {name}: want at least {N} got {}", args.len())
    })
}

/// Go's name of a value's type.
pub(super) fn type_name(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::List(_) => "[]interface {}".to_owned(),
        Value::Map(_) => "map[string]interface {}".to_owned(),
        Value::Host(host) => host.name().to_owned(),
        other => other.kind().to_owned(),
    }
}

fn wrong(value: &Value, expected: &str) -> String {
    match value {
        Value::Null => format!("invalid value; expected {expected}"),
        other => format!("wrong type for value; expected {expected}; got {}", type_name(other)),
    }
}

/// A parameter of type `string`.
pub(super) fn text(value: &Value) -> Result<&str, String> {
    match value {
        Value::Text(text) => Ok(text),
        other => Err(wrong(other, "string")),
    }
}

/// A parameter of type `int`.
pub(super) fn int(value: &Value) -> Result<i64, String> {
    match value {
        Value::Int(number) => Ok(*number),
        other => Err(wrong(other, "int")),
    }
}

/// A parameter of type `int` that counts something; below zero is none.
pub(super) fn count(value: &Value) -> Result<usize, String> {
    int(value).map(|number| usize::try_from(number.max(0)).unwrap_or(usize::MAX))
}

/// A parameter of type `bool`.
pub(super) fn truth(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(truth) => Ok(*truth),
        other => Err(wrong(other, "bool")),
    }
}

/// A parameter of type `map[string]interface{}`.
/// Where none is given it is one without entries, as Go's `nil` is.
pub(super) fn map(value: &Value) -> Result<Map, String> {
    match value {
        Value::Map(map) => Ok(Rc::clone(map)),
        Value::Null => Ok(Map::default()),
        other => Err(wrong(other, "map[string]interface {}")),
    }
}

/// The items of a list; `action` is what can't be done with anything else.
pub(super) fn items(action: &str, value: &Value) -> Result<Rc<Vec<Value>>, String> {
    if let Value::Host(host) = value
        && let Some(Value::List(items)) = host.items()
    {
        return Ok(items);
    }
    match value {
        Value::List(items) => Ok(Rc::clone(items)),
        Value::Null => Err(format!("Cannot {action} on nil")),
        other => Err(format!("Cannot {action} on type {}", other.kind())),
    }
}

/// The entries of a map as they are now: whoever changes it meanwhile does no harm.
pub(super) fn entries(map: &Map) -> BTreeMap<Rc<str>, Value> {
    map.borrow().clone()
}

/// `fmt.Sprint`'s text of a value.
pub(super) fn strval(value: &Value) -> String {
    match value {
        Value::Null => "<nil>".to_owned(),
        Value::Text(text) => text.to_string(),
        other => format::print(other),
    }
}

/// [`strval`], where what is too long or too deep is an error.
pub(super) fn shown(value: &Value) -> Result<String, String> {
    match value {
        Value::List(_) | Value::Map(_) => format::try_print(value),
        other => Ok(strval(other)),
    }
}

/// What a list is as texts: its items without the missing ones; anything else is the only item.
pub(super) fn strings(value: &Value) -> Result<Vec<String>, String> {
    match value {
        Value::List(items) => present(items),
        Value::Null => Ok(Vec::new()),
        other => Ok(vec![shown(other)?]),
    }
}

/// The texts of values that are there, as long as together they are no longer than a text may be.
pub(super) fn present(values: &[Value]) -> Result<Vec<String>, String> {
    let mut length = 0_usize;
    let values = values.iter().filter(|value| !matches!(value, Value::Null));
    let counted = values.map(|value| {
        let text = shown(value)?;
        length = length.saturating_add(text.len());
        fits(length).map(|()| text)
    });
    counted.collect()
}

/// Whether a text of `length` bytes may be made.
pub(super) fn fits(length: usize) -> Result<(), String> {
    if length > TEXT_MAX {
        return Err(format!("the text would be longer than {} MiB", TEXT_MAX >> 20));
    }
    Ok(())
}

/// A finished text.
pub(super) fn done(text: impl AsRef<str>) -> Result<Value, String> {
    fits(text.as_ref().len())?;
    Ok(Value::text(text))
}

/// A finished list.
pub(super) fn listed(items: Vec<Value>) -> Result<Value, String> {
    if items.len() > ITEMS_MAX {
        return Err(format!("the list would have more than {ITEMS_MAX} items"));
    }
    Ok(Value::list(items))
}

/// A finished list of texts.
pub(super) fn texts<T: AsRef<str>>(items: impl IntoIterator<Item = T>) -> Result<Value, String> {
    let items = items.into_iter().map(Value::text).take(ITEMS_MAX.saturating_add(1));
    listed(items.collect())
}

/// Joins texts, having looked whether the result fits.
pub(super) fn joined(parts: &[String], separator: &str) -> Result<String, String> {
    let texts: usize = parts.iter().map(String::len).fold(0, usize::saturating_add);
    fits(texts.saturating_add(separator.len().saturating_mul(parts.len())))?;
    Ok(parts.join(separator))
}

/// The mark in place of `length` characters.
pub(super) fn mark(length: usize) -> Result<Value, String> {
    fits(length.saturating_mul(MARK.len_utf8()))?;
    done(std::iter::repeat_n(MARK, length).collect::<String>())
}

/// The mark where nobody asked for a length.
pub(super) fn some_mark() -> Value {
    Value::text(std::iter::repeat_n(MARK, MARKS).collect::<String>())
}

/// Whether the mark stands in a value itself: in a text, or for a time.
pub(super) fn is_marked(value: &Value) -> bool {
    match value {
        Value::Text(text) => text.contains(MARK),
        Value::Host(host) => host.text().is_some_and(|text| text.contains(MARK)),
        _ => false,
    }
}

/// A function whose result would no longer show a mark that its arguments have: then it is the mark.
macro_rules! kept {
    ($function:path) => {
        |args: &[$crate::desired::chart::value::Value]| {
            if args.iter().any($crate::desired::chart::functions::args::is_marked) {
                return Ok($crate::desired::chart::functions::args::some_mark());
            }
            $function(args)
        }
    };
}
pub(super) use kept;
