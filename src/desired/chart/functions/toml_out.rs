//! `toToml`, as BurntSushi's encoder writes: plain keys first, then tables, indented by their depth.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;

use super::super::value::{Map, Value};
use super::args::{DEPTH_MAX, done, entries, exactly, fits};

pub(super) fn to_toml(args: &[Value]) -> Result<Value, String> {
    let [value] = exactly("toToml", args)?;
    let Value::Map(map) = value else {
        // As in Helm, the text is then what is wrong.
        return done("toml: top-level values must be Go maps or structs");
    };
    let mut out = String::new();
    table(&mut out, &mut Vec::new(), &entries(map))?;
    done(out)
}

/// From Helm 3.14 on; nobody reads TOML in a chart that we have seen.
pub(super) fn from_toml(args: &[Value]) -> Result<Value, String> {
    let [_] = exactly("fromToml", args)?;
    Err("fromToml isn't supported here".to_owned())
}

fn key_text(key: &str) -> String {
    let is_bare = |b: u8| b.is_ascii_alphanumeric() || b == b'_' || b == b'-';
    if !key.is_empty() && key.bytes().all(is_bare) { key.to_owned() } else { quoted(key) }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        // Writing to a String cannot fail.
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\0'..='\x1f' | '\x7f' => _ = write!(out, "\\u{:04x}", u32::from(c)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// The tables of a list that consists of tables.
fn tables(value: &Value) -> Option<&[Value]> {
    match value {
        Value::List(items) if !items.is_empty() => {
            items.iter().all(|item| matches!(item, Value::Map(_))).then_some(items.as_slice())
        }
        _ => None,
    }
}

fn table(
    out: &mut String,
    path: &mut Vec<String>,
    all: &BTreeMap<Rc<str>, Value>,
) -> Result<(), String> {
    if path.len() > DEPTH_MAX {
        return Err(format!("toml: values nest deeper than {DEPTH_MAX} levels"));
    }
    let pad = "  ".repeat(path.len());
    for (key, value) in all {
        if matches!(value, Value::Null | Value::Map(_)) || tables(value).is_some() {
            continue;
        }
        out.push_str(&pad);
        out.push_str(&key_text(key));
        out.push_str(" = ");
        inline(out, value, 0)?;
        out.push('\n');
    }
    for (key, value) in all {
        fits(out.len())?;
        path.push(key_text(key));
        let pad = "  ".repeat(path.len().saturating_sub(1));
        let mut head = |open: &str, close: &str, map: &Map| {
            if path.len() == 1 && !out.is_empty() {
                out.push('\n');
            }
            let name =
                path.iter().map(|part| part.len() + 1).fold(pad.len(), usize::saturating_add);
            fits(out.len().saturating_add(name))?;
            // Writing to a String cannot fail.
            _ = writeln!(out, "{pad}{open}{}{close}", path.join("."));
            table(out, path, &entries(map))
        };
        if let Value::Map(map) = value {
            head("[", "]", map)?;
        }
        for item in tables(value).unwrap_or_default() {
            if let Value::Map(map) = item {
                head("[[", "]]", map)?;
            }
        }
        path.pop();
    }
    Ok(())
}

/// Writes a value on the line that the writer is on.
fn inline(out: &mut String, value: &Value, depth: usize) -> Result<(), String> {
    fits(out.len())?;
    if depth > DEPTH_MAX {
        return Err(format!("toml: values nest deeper than {DEPTH_MAX} levels"));
    }
    match value {
        Value::Null => return Err("toml: cannot encode array with nil element".to_owned()),
        Value::Bool(truth) => out.push_str(if *truth { "true" } else { "false" }),
        // Writing to a String cannot fail.
        Value::Int(number) => _ = write!(out, "{number}"),
        Value::Float(number) => {
            let text = number.to_string().to_lowercase();
            out.push_str(&text);
            if number.is_finite() && !text.contains('.') {
                out.push_str(".0");
            }
        }
        Value::Text(text) => out.push_str(&quoted(text)),
        Value::List(items) => {
            out.push('[');
            for (at, item) in items.iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                inline(out, item, depth + 1)?;
            }
            out.push(']');
        }
        Value::Map(map) => {
            out.push('{');
            for (at, (key, item)) in entries(map).iter().enumerate() {
                out.push_str(if at > 0 { ", " } else { "" });
                out.push_str(&key_text(key));
                out.push_str(" = ");
                inline(out, item, depth + 1)?;
            }
            out.push('}');
        }
        Value::Host(host) => out.push_str(&quoted(&host.text().unwrap_or_default())),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_follow_plain_keys() {
        let map = |pairs: Vec<(&str, Value)>| {
            Value::map(pairs.into_iter().map(|(key, value)| (Rc::from(key), value)).collect())
        };
        let inner =
            map(vec![("c", Value::Float(1.0)), ("d", map(vec![("e", Value::text("x\"y"))]))]);
        let list = Value::list(vec![map(vec![("n", Value::Int(1))])]);
        let all = map(vec![
            ("a", inner),
            ("b c", Value::Bool(true)),
            ("l", list),
            ("z", Value::list(vec![Value::Int(1), Value::Int(2)])),
            ("gone", Value::Null),
        ]);
        let expected = "\"b c\" = true\nz = [1, 2]\n\n[a]\n  c = 1.0\n  [a.d]\n    e = \"x\\\"y\"\n\n[[l]]\n  n = 1\n";
        let Ok(Value::Text(text)) = to_toml(&[all]) else { panic!("no text") };
        assert_eq!(&*text, expected);
    }
}
