//! A manifest as it was written: values, each with the place where it stands.
//!
//! It is what every check looks at, so that a finding can name a line. It borrows from the file's
//! text where it can, and lives only while the file is parsed.

use std::borrow::Cow;
use std::fmt;

use serde_json::ser::{CompactFormatter, Formatter as _};

/// A line and a column, both counted from 1; 0 where unknown.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct At {
    pub(super) line: u32,
    pub(super) column: u32,
}

/// A value and where it begins.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node<'a> {
    pub(super) at: At,
    pub(super) value: Value<'a>,
}

/// A value. Numbers and booleans keep their own spelling for messages: `1.10` is the number 1.1,
/// and its author should see what he wrote.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Null,
    Bool(bool, Cow<'a, str>),
    Int(i64, Cow<'a, str>),
    Float(f64, Cow<'a, str>),
    Text(Cow<'a, str>),
    List(Vec<Node<'a>>),
    Map(Vec<Entry<'a>>),
}

/// A key of a map, where it begins, and its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry<'a> {
    pub(super) key: Cow<'a, str>,
    pub(super) at: At,
    pub(super) node: Node<'a>,
}

impl Entry<'_> {
    /// Where a finding about the value points: at the value where it stands on the key's line, at
    /// the key where the value is a block below it.
    pub(super) fn shown_at(&self) -> At {
        match self.node.value {
            Value::List(_) | Value::Map(_) | Value::Null => self.at,
            _ => self.node.at,
        }
    }
}

impl<'a> Node<'a> {
    pub(super) fn new(at: At, value: Value<'a>) -> Self {
        Self { at, value }
    }

    pub(super) fn text(at: At, text: impl Into<Cow<'a, str>>) -> Self {
        Self::new(at, Value::Text(text.into()))
    }

    pub(super) fn int(at: At, value: i64) -> Self {
        Self::new(at, Value::Int(value, Cow::Borrowed("")))
    }

    pub(super) fn bool(at: At, value: bool) -> Self {
        Self::new(at, Value::Bool(value, Cow::Borrowed("")))
    }

    /// The entry of `key`, if this is a map that has it.
    pub(super) fn entry(&self, key: &str) -> Option<&Entry<'a>> {
        match &self.value {
            Value::Map(entries) => entries.iter().find(|entry| entry.key == key),
            _ => None,
        }
    }

    /// The value of `key`, if this is a map that has it and it is not null.
    pub(super) fn get(&self, key: &str) -> Option<&Self> {
        self.entry(key)
            .map(|entry| &entry.node)
            .filter(|node| node.value != Value::Null)
    }

    /// The text of `key`.
    pub(super) fn get_text(&self, key: &str) -> Option<&str> {
        self.get(key)?.as_text()
    }

    pub(super) fn get_mut(&mut self, key: &str) -> Option<&mut Self> {
        self.as_map_mut()?.get_mut(key)
    }

    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    pub(super) fn as_int(&self) -> Option<i64> {
        match self.value {
            Value::Int(value, _) => Some(value),
            _ => None,
        }
    }

    pub(super) fn as_list(&self) -> Option<&[Self]> {
        match &self.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn as_list_mut(&mut self) -> Option<&mut Vec<Self>> {
        match &mut self.value {
            Value::List(items) => Some(items),
            _ => None,
        }
    }

    pub(super) fn as_map(&self) -> Option<&[Entry<'a>]> {
        match &self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    pub(super) fn as_map_mut(&mut self) -> Option<&mut Vec<Entry<'a>>> {
        match &mut self.value {
            Value::Map(entries) => Some(entries),
            _ => None,
        }
    }

    /// How many values it holds, itself included.
    pub(super) fn weight(&self) -> usize {
        match &self.value {
            Value::List(items) => 1 + items.iter().map(Self::weight).sum::<usize>(),
            Value::Map(entries) => 1 + entries.iter().map(|e| e.node.weight()).sum::<usize>(),
            _ => 1,
        }
    }

    /// Whether it is an empty map, an empty list or nothing.
    pub(super) fn is_empty(&self) -> bool {
        match &self.value {
            Value::Null => true,
            Value::List(items) => items.is_empty(),
            Value::Map(entries) => entries.is_empty(),
            _ => false,
        }
    }
}

/// What one does with a map's entries.
pub(super) trait Entries<'a> {
    fn get_mut(&mut self, key: &str) -> Option<&mut Node<'a>>;
    fn has(&self, key: &str) -> bool;
    fn put(&mut self, at: At, key: &'static str, node: Node<'a>);
}

impl<'a> Entries<'a> for Vec<Entry<'a>> {
    fn get_mut(&mut self, key: &str) -> Option<&mut Node<'a>> {
        self.iter_mut()
            .find(|entry| entry.key == key)
            .map(|entry| &mut entry.node)
    }

    fn has(&self, key: &str) -> bool {
        self.iter().any(|entry| entry.key == key)
    }

    fn put(&mut self, at: At, key: &'static str, node: Node<'a>) {
        match self.get_mut(key) {
            Some(old) => *old = node,
            None => self.push(Entry {
                key: Cow::Borrowed(key),
                at,
                node,
            }),
        }
    }
}

/// A message quotes at most this much of a value: enough to recognise it.
const QUOTED_CHARS_MAX: usize = 40;

/// What a value is, for messages: `the integer 8080`, `a list`. With `quiet` nothing of the value
/// itself is said, because it may be a secret.
pub(super) struct Described<'n, 'a>(pub(super) &'n Value<'a>, pub(super) bool);

impl fmt::Display for Described<'_, '_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(value, quiet) = self;
        match value {
            Value::Null => f.write_str("nothing"),
            Value::List(_) => f.write_str("a list"),
            Value::Map(_) => f.write_str("a map"),
            Value::Bool(..) if *quiet => f.write_str("a boolean"),
            Value::Int(..) | Value::Float(..) if *quiet => f.write_str("a number"),
            Value::Text(_) if *quiet => f.write_str("text"),
            Value::Bool(_, raw) => write!(f, "the boolean {raw}"),
            Value::Int(_, raw) | Value::Float(_, raw) => write!(f, "the number {raw}"),
            Value::Text(text) => write!(f, "the text {}", quoted(text)),
        }
    }
}

/// `text` in quotes, cut to a length that a line of output bears.
pub(super) fn quoted(text: &str) -> String {
    let mut chars = text.chars();
    let head: String = chars.by_ref().take(QUOTED_CHARS_MAX).collect();
    if chars.next().is_some() {
        format!("{:?}", format!("{head}…"))
    } else {
        format!("{head:?}")
    }
}

/// Appends `text` as a JSON string.
pub(super) fn write_json_text(out: &mut Vec<u8>, text: &str) {
    // Writing to a Vec cannot fail, and a str is always valid JSON text.
    let _ = serde_json::to_writer(out, text);
}

/// The whole number that `value` is, if it is one that both kinds of number hold exactly.
pub(super) fn as_whole(value: f64) -> Option<i64> {
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    #[allow(
        clippy::cast_possible_truncation,
        reason = "whole and within 2^53, by the guard"
    )]
    (value.fract() == 0.0 && value.abs() <= EXACT_MAX).then_some(value as i64)
}

/// Appends a JSON number, whole ones without a fraction, as Go does.
pub(super) fn write_json_float(out: &mut Vec<u8>, value: f64) {
    // Writing to a Vec cannot fail.
    if let Some(whole) = as_whole(value) {
        let _ = CompactFormatter.write_i64(out, whole);
    } else if value.is_finite() {
        let _ = CompactFormatter.write_f64(out, value);
    } else {
        out.extend_from_slice(b"null");
    }
}

/// Appends `node` as JSON with sorted keys: the same value always gives the same bytes.
pub(super) fn write_json(out: &mut Vec<u8>, node: &Node<'_>) {
    match &node.value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true, _) => out.extend_from_slice(b"true"),
        Value::Bool(false, _) => out.extend_from_slice(b"false"),
        Value::Int(value, _) => {
            // Writing to a Vec cannot fail.
            let _ = CompactFormatter.write_i64(out, *value);
        }
        Value::Float(value, _) => write_json_float(out, *value),
        Value::Text(text) => write_json_text(out, text),
        Value::List(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_json(out, item);
            }
            out.push(b']');
        }
        Value::Map(entries) => {
            out.push(b'{');
            let mut first = true;
            for_each_sorted(entries, |entry| {
                if !std::mem::take(&mut first) {
                    out.push(b',');
                }
                write_json_text(out, &entry.key);
                out.push(b':');
                write_json(out, &entry.node);
            });
            out.push(b'}');
        }
    }
}

/// Calls `visit` for each entry in order of key.
pub(super) fn for_each_sorted<'n, 'a>(
    entries: &'n [Entry<'a>],
    mut visit: impl FnMut(&'n Entry<'a>),
) {
    if entries.is_sorted_by(|a, b| a.key <= b.key) {
        entries.iter().for_each(visit);
    } else {
        let mut order: Vec<&Entry<'a>> = entries.iter().collect();
        order.sort_by(|a, b| a.key.cmp(&b.key));
        order.into_iter().for_each(&mut visit);
    }
}

/// `node` as JSON with sorted keys.
pub(super) fn to_json(node: &Node<'_>) -> String {
    let mut out = Vec::with_capacity(1024);
    write_json(&mut out, node);
    // `write_json` writes UTF-8 only.
    String::from_utf8(out).unwrap_or_default()
}
