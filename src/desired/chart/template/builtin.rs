//! The functions that Go's `text/template` has of its own. `and`, `or` are the executor's.

use std::cmp::Ordering;

use super::super::value::{MARK, Value};
use super::Function;
use super::format::{is_printable, try_print, type_name, within};
use super::printf::{sprint, sprintf, sprintln};

/// A built-in function by its name.
pub(super) fn find(name: &str) -> Option<Function> {
    Some(match name {
        "not" => not,
        "len" => len,
        "index" => index,
        "slice" => slice,
        "print" => |values| sprint(values).map(Value::text),
        "println" => |values| sprintln(values).map(Value::text),
        "printf" => printf,
        "html" => |values| escaped(values, html),
        "js" => |values| escaped(values, js),
        "urlquery" => |values| escaped(values, urlquery),
        "call" => call,
        "eq" => eq,
        "ne" => ne,
        "lt" => |values| ordered(values, "lt", Ordering::is_lt),
        "le" => |values| ordered(values, "le", Ordering::is_le),
        "gt" => |values| ordered(values, "gt", Ordering::is_gt),
        "ge" => |values| ordered(values, "ge", Ordering::is_ge),
        _ => return None,
    })
}

fn wrong_number(name: &str, want: &str, got: usize) -> String {
    format!("wrong number of args for {name}: want {want} got {got}")
}

fn not(values: &[Value]) -> Result<Value, String> {
    match values {
        [value] => Ok(Value::Bool(!value.is_true())),
        _ => Err(wrong_number("not", "1", values.len())),
    }
}

fn len(values: &[Value]) -> Result<Value, String> {
    let [value] = values else {
        return Err(wrong_number("len", "1", values.len()));
    };
    let length = match value {
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        Value::Map(entries) => entries.borrow().len(),
        Value::Null => return Err("len of nil pointer".to_owned()),
        Value::Host(host) => match host.items() {
            Some(Value::Map(entries)) => entries.borrow().len(),
            _ => return Err(format!("len of type {}", host.name())),
        },
        _ => return Err(format!("len of type {}", type_name(value))),
    };
    i64::try_from(length).map(Value::Int).map_err(|_| "len is too great".to_owned())
}

/// A place in a list or text of this length.
fn place(value: &Value, length: usize) -> Result<usize, String> {
    let number = match value {
        Value::Int(number) => *number,
        Value::Null => return Err("cannot index slice/array with nil".to_owned()),
        other => {
            return Err(format!("cannot index slice/array with type {}", type_name(other)));
        }
    };
    match usize::try_from(number) {
        Ok(at) if at <= length => Ok(at),
        _ => Err(format!("index out of range: {number}")),
    }
}

fn index(values: &[Value]) -> Result<Value, String> {
    let Some((first, places)) = values.split_first() else {
        return Err(wrong_number("index", "at least 1", 0));
    };
    if matches!(first, Value::Null) {
        return Err("index of untyped nil".to_owned());
    }
    let mut value = first.clone();
    for at in places {
        let out_of_range = || format!("index out of range: {}", try_print(at).unwrap_or_default());
        value = match &value {
            Value::Null => return Err("index of nil pointer".to_owned()),
            Value::List(items) => {
                items.get(place(at, items.len())?).cloned().ok_or_else(out_of_range)?
            }
            Value::Text(text) => {
                let byte = text.as_bytes().get(place(at, text.len())?).copied();
                Value::Int(i64::from(byte.ok_or_else(out_of_range)?))
            }
            Value::Map(_) => match at {
                Value::Text(key) => value.get(key),
                Value::Null => return Err("value is nil; should be of type string".to_owned()),
                other => {
                    return Err(format!("value has type {}; should be string", type_name(other)));
                }
            },
            Value::Host(host) => match (host.items(), at) {
                (Some(items), Value::Text(key)) => items.get(key),
                _ => return Err(format!("can't index item of type {}", host.name())),
            },
            other => return Err(format!("can't index item of type {}", type_name(other))),
        };
    }
    Ok(value)
}

fn slice(values: &[Value]) -> Result<Value, String> {
    let Some((value, places)) = values.split_first() else {
        return Err(wrong_number("slice", "at least 1", 0));
    };
    let length = match value {
        Value::Null => return Err("slice of untyped nil".to_owned()),
        Value::Text(_) if places.len() > 2 => {
            return Err("cannot 3-index slice a string".to_owned());
        }
        Value::Text(text) => text.len(),
        Value::List(items) => items.len(),
        other => return Err(format!("can't slice item of type {}", type_name(other))),
    };
    if places.len() > 3 {
        return Err(format!("too many slice indexes: {}", places.len()));
    }
    let at = |i: usize, default: usize| places.get(i).map_or(Ok(default), |v| place(v, length));
    let (from, to) = (at(0, 0)?, at(1, length)?);
    let end = at(2, length)?;
    if from > to || to > end {
        return Err(format!("invalid slice index: {from} > {to}"));
    }
    match value {
        Value::Text(text) => text
            .get(from..to)
            .map(Value::text)
            .ok_or_else(|| "a text can't be sliced within a character".to_owned()),
        Value::List(items) => Ok(Value::list(items.get(from..to).unwrap_or_default().to_vec())),
        _ => Ok(Value::Null),
    }
}

fn printf(values: &[Value]) -> Result<Value, String> {
    match values.split_first() {
        Some((Value::Text(format), rest)) => sprintf(format, rest).map(Value::text),
        Some((other, _)) => {
            Err(format!("wrong type for value; expected string; got {}", type_name(other)))
        }
        None => Err(wrong_number("printf", "at least 1", 0)),
    }
}

/// No value of ours is a function.
fn call(values: &[Value]) -> Result<Value, String> {
    match values.first() {
        None => Err(wrong_number("call", "at least 1", 0)),
        Some(Value::Null) => Err("call of nil".to_owned()),
        Some(other) => Err(format!("non-function of type {}", type_name(other))),
    }
}

fn eq(values: &[Value]) -> Result<Value, String> {
    let Some((first, others)) = values.split_first() else {
        return Err(wrong_number("eq", "at least 1", 0));
    };
    if others.is_empty() {
        return Err("missing argument for comparison".to_owned());
    }
    for other in others {
        if equal(first, other)? {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn ne(values: &[Value]) -> Result<Value, String> {
    match values {
        [a, b] => equal(a, b).map(|equal| Value::Bool(!equal)),
        _ => Err(wrong_number("ne", "2", values.len())),
    }
}

/// Whether two values are equal. Go tells whole numbers from others; values from a file have no such
/// difference that their author could see, so here they are compared as numbers.
fn equal(a: &Value, b: &Value) -> Result<bool, String> {
    match (a, b) {
        (Value::Null, Value::Null) => Ok(true),
        (Value::Null, _) | (_, Value::Null) => Ok(false),
        (Value::Bool(a), Value::Bool(b)) => Ok(a == b),
        (Value::Text(a), Value::Text(b)) => Ok(a == b),
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
            Ok(numbers(a, b) == Some(Ordering::Equal))
        }
        (Value::List(_) | Value::Map(_), Value::List(_) | Value::Map(_)) => {
            Err(format!("non-comparable types {}, {}", type_name(a), type_name(b)))
        }
        _ => Err("incompatible types for comparison".to_owned()),
    }
}

/// How two numbers compare; not at all if one is none.
#[allow(clippy::cast_precision_loss)]
fn numbers(a: &Value, b: &Value) -> Option<Ordering> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::Int(a), Value::Float(b)) => (*a as f64).partial_cmp(b),
        (Value::Float(a), Value::Int(b)) => a.partial_cmp(&(*b as f64)),
        _ => None,
    }
}

fn ordered(values: &[Value], name: &str, holds: fn(Ordering) -> bool) -> Result<Value, String> {
    let [a, b] = values else {
        return Err(wrong_number(name, "2", values.len()));
    };
    let ordering = match (a, b) {
        (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => numbers(a, b),
        (Value::Int(_) | Value::Float(_) | Value::Text(_), Value::Bool(_))
        | (Value::Bool(_), Value::Int(_) | Value::Float(_) | Value::Text(_))
        | (Value::Text(_), Value::Int(_) | Value::Float(_))
        | (Value::Int(_) | Value::Float(_), Value::Text(_)) => {
            return Err("incompatible types for comparison".to_owned());
        }
        _ => return Err("invalid type for comparison".to_owned()),
    };
    Ok(Value::Bool(ordering.is_some_and(holds)))
}

/// The text of all values, escaped. Escaping would lose a mark.
fn escaped(values: &[Value], escape: fn(char, &mut String)) -> Result<Value, String> {
    let text = match values {
        [Value::Null] => "<no value>".to_owned(),
        _ => sprint(values)?,
    };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == MARK { out.push(c) } else { escape(c, &mut out) }
    }
    within(&out)?;
    Ok(Value::text(out))
}

fn html(c: char, out: &mut String) {
    match c {
        '\0' => out.push('\u{fffd}'),
        '"' => out.push_str("&#34;"),
        '\'' => out.push_str("&#39;"),
        '&' => out.push_str("&amp;"),
        '<' => out.push_str("&lt;"),
        '>' => out.push_str("&gt;"),
        _ => out.push(c),
    }
}

fn js(c: char, out: &mut String) {
    match c {
        '\\' => out.push_str(r"\\"),
        '\'' => out.push_str(r"\'"),
        '"' => out.push_str("\\\""),
        '<' | '>' | '&' | '=' | '\0'..='\x1f' => {
            out.push_str(&format!("\\u{:04X}", u32::from(c)));
        }
        '\u{80}'.. if !is_printable(c) => out.push_str(&format!("\\u{:04X}", u32::from(c))),
        _ => out.push(c),
    }
}

fn urlquery(c: char, out: &mut String) {
    match c {
        'a'..='z' | 'A'..='Z' | '0'..='9' | '-' | '_' | '.' | '~' => out.push(c),
        ' ' => out.push('+'),
        _ => {
            for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                out.push_str(&format!("%{byte:02X}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(name: &str, values: &[Value]) -> Result<String, String> {
        find(name).unwrap()(values).map(|value| try_print(&value).unwrap())
    }

    fn text(text: &str) -> Value {
        Value::text(text)
    }

    #[test]
    fn comparisons_are_gos() {
        let int = Value::Int;
        let wrong = "incompatible types for comparison";
        for (name, values, expected) in [
            ("eq", vec![int(1), int(1)], Ok("true")),
            ("eq", vec![int(1), int(2), int(1)], Ok("true")),
            ("eq", vec![int(1), Value::Float(1.0)], Ok("true")),
            ("eq", vec![text("a"), text("b")], Ok("false")),
            ("eq", vec![text("1"), int(1)], Err(wrong)),
            ("eq", vec![text("a"), text("a"), int(1)], Ok("true")),
            ("eq", vec![Value::Null, text("a")], Ok("false")),
            ("eq", vec![text("a"), Value::Null], Ok("false")),
            ("eq", vec![Value::Null, Value::Null], Ok("true")),
            ("eq", vec![Value::Bool(true), text("true")], Err(wrong)),
            ("eq", vec![Value::Null, Value::empty_map()], Ok("false")),
            ("eq", vec![int(1)], Err("missing argument for comparison")),
            ("ne", vec![text("a"), text("b")], Ok("true")),
            ("ne", vec![text("a"), int(1)], Err(wrong)),
            ("lt", vec![int(1), int(2)], Ok("true")),
            ("lt", vec![text("a"), text("b")], Ok("true")),
            ("le", vec![int(2), int(2)], Ok("true")),
            ("gt", vec![Value::Float(2.5), int(2)], Ok("true")),
            ("ge", vec![int(1), int(2)], Ok("false")),
            ("gt", vec![text("a"), int(2)], Err(wrong)),
            ("gt", vec![Value::Null, int(2)], Err("invalid type for comparison")),
            ("lt", vec![Value::Bool(true), Value::Bool(false)], Err("invalid type for comparison")),
            ("lt", vec![int(1)], Err("wrong number of args for lt: want 2 got 1")),
        ] {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(call(name, &values), expected, "{name} {values:?}");
        }
    }

    #[test]
    fn lists_and_texts_are_looked_into_as_in_go() {
        let int = Value::Int;
        let list = || Value::list(vec![int(5), text("x"), Value::Null]);
        for (name, values, expected) in [
            ("len", vec![text("é")], Ok("2")),
            ("len", vec![list()], Ok("3")),
            ("len", vec![Value::empty_map()], Ok("0")),
            ("len", vec![Value::Null], Err("len of nil pointer")),
            ("len", vec![int(1)], Err("len of type int")),
            ("index", vec![list(), int(0)], Ok("5")),
            ("index", vec![list(), int(3)], Err("index out of range: 3")),
            ("index", vec![list(), int(-1)], Err("index out of range: -1")),
            ("index", vec![list(), text("a")], Err("cannot index slice/array with type string")),
            ("index", vec![Value::empty_map(), text("a")], Ok("<nil>")),
            ("index", vec![Value::empty_map(), text("a"), text("b")], Err("index of nil pointer")),
            ("index", vec![Value::Null, int(0)], Err("index of untyped nil")),
            ("index", vec![text("abc"), int(1)], Ok("98")),
            ("index", vec![int(1)], Ok("1")),
            ("index", vec![int(1), int(1)], Err("can't index item of type int")),
            ("slice", vec![text("abc"), int(1)], Ok("bc")),
            ("slice", vec![text("abc"), int(1), int(2)], Ok("b")),
            ("slice", vec![list(), int(1)], Ok("[x <nil>]")),
            ("slice", vec![list(), int(2), int(1)], Err("invalid slice index: 2 > 1")),
            ("slice", vec![list(), int(9)], Err("index out of range: 9")),
            ("slice", vec![text("é"), int(1)], Err("a text can't be sliced within a character")),
            ("not", vec![text("")], Ok("true")),
            ("call", vec![text("")], Err("non-function of type string")),
            ("printf", vec![text("%s-%d"), text("a"), int(1)], Ok("a-1")),
            ("printf", vec![int(1)], Err("wrong type for value; expected string; got int")),
            ("html", vec![text("<a href='x'>&\"")], Ok("&lt;a href=&#39;x&#39;&gt;&amp;&#34;")),
            ("js", vec![text("a'b\"\n<=é")], Ok("a\\'b\\\"\\u000A\\u003C\\u003Dé")),
            ("urlquery", vec![text("a b&é~")], Ok("a+b%26%C3%A9~")),
        ] {
            let expected = expected.map(str::to_owned).map_err(str::to_owned);
            assert_eq!(call(name, &values), expected, "{name} {values:?}");
        }
    }

    #[test]
    fn escapes_keep_the_mark() {
        for name in ["html", "js", "urlquery"] {
            assert_eq!(call(name, &[text("\u{f8ff}")]).unwrap(), "\u{f8ff}");
        }
    }
}
