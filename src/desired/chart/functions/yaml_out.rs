//! `toYaml`: the bytes that sigs.k8s.io/yaml writes, except that long lines are not folded.
//!
//! Its emitter decides by a text's characters whether it can stand plain, in quotes or as a block; a
//! plain text must also not be read as something else. Keys are in go-yaml's order, in which `a2` comes
//! before `a10`.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt::Write as _;
use std::rc::Rc;

use super::super::value::Value;
use super::args::{DEPTH_MAX, done, entries, exactly, fits};
use crate::desired::scalar::{self, Resolved};
use crate::desired::tree;

/// Longer keys are written after a `?`.
const SIMPLE_KEY_MAX: usize = 128;

pub(in crate::desired::chart) fn to_yaml(args: &[Value]) -> Result<Value, String> {
    let [value] = exactly("toYaml", args)?;
    written(value, false)
}

pub(super) fn to_yaml_pretty(args: &[Value]) -> Result<Value, String> {
    let [value] = exactly("toYamlPretty", args)?;
    written(value, true)
}

fn written(value: &Value, indents_lists: bool) -> Result<Value, String> {
    let mut writer = Writer { out: String::new(), indents_lists };
    writer.root(value)?;
    done(writer.out.strip_suffix('\n').unwrap_or(&writer.out))
}

struct Writer {
    out: String,
    /// Whether lists below a key are indented: `toYamlPretty`.
    indents_lists: bool,
}

impl Writer {
    fn pad(&mut self, indent: usize) {
        self.out.extend(std::iter::repeat_n(' ', indent));
    }

    fn root(&mut self, value: &Value) -> Result<(), String> {
        let value = plain_value(value)?;
        match &*value {
            Value::Map(map) if !map.borrow().is_empty() => self.map(&value, 0, 0),
            Value::List(items) if !items.is_empty() => self.list(&value, 0, 0),
            other => {
                // A block at the root is indented like one below a key.
                self.scalar(other, 2)?;
                Ok(())
            }
        }
    }

    /// Writes a map whose first key stands where the writer is; the others at `indent`.
    fn map(&mut self, value: &Value, indent: usize, depth: usize) -> Result<(), String> {
        let Value::Map(map) = value else {
            return Ok(());
        };
        let all = entries(map);
        let keys = sorted(all.keys().collect());
        for (at, key) in keys.into_iter().enumerate() {
            fits(self.out.len())?;
            if at > 0 {
                self.pad(indent);
            }
            if key.len() > SIMPLE_KEY_MAX {
                self.out.push_str("? ");
                self.text(key, indent + 2)?;
                self.pad(indent);
            } else {
                self.out.push_str(&line(key));
            }
            self.out.push(':');
            let value = plain_value(all.get(key).unwrap_or(&Value::Null))?;
            self.below(&value, indent, depth + 1)?;
        }
        Ok(())
    }

    /// Writes what belongs to a key, from behind its colon.
    fn below(&mut self, value: &Value, indent: usize, depth: usize) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!("values nest deeper than {DEPTH_MAX} levels"));
        }
        match value {
            Value::Map(map) if !map.borrow().is_empty() => {
                self.out.push('\n');
                self.pad(indent + 2);
                self.map(value, indent + 2, depth)
            }
            Value::List(items) if !items.is_empty() => {
                let indent = if self.indents_lists { indent + 2 } else { indent };
                self.out.push('\n');
                self.pad(indent);
                self.list(value, indent, depth)
            }
            other => {
                self.out.push(' ');
                self.scalar(other, indent + 2)?;
                Ok(())
            }
        }
    }

    fn list(&mut self, value: &Value, indent: usize, depth: usize) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!("values nest deeper than {DEPTH_MAX} levels"));
        }
        let Value::List(items) = value else {
            return Ok(());
        };
        for (at, item) in items.iter().enumerate() {
            fits(self.out.len())?;
            if at > 0 {
                self.pad(indent);
            }
            self.out.push_str("- ");
            let item = plain_value(item)?;
            match &*item {
                Value::Map(map) if !map.borrow().is_empty() => {
                    self.map(&item, indent + 2, depth + 1)?;
                }
                Value::List(items) if !items.is_empty() => {
                    self.list(&item, indent + 2, depth + 1)?;
                }
                other => self.scalar(other, indent + 2)?,
            }
        }
        Ok(())
    }

    /// Writes a value of one line, or a block at `indent`, and ends the line.
    fn scalar(&mut self, value: &Value, indent: usize) -> Result<(), String> {
        match value {
            Value::Null => self.out.push_str("null"),
            Value::Bool(truth) => self.out.push_str(if *truth { "true" } else { "false" }),
            // Writing to a String cannot fail.
            Value::Int(number) => _ = write!(self.out, "{number}"),
            Value::Float(number) => self.out.push_str(&float(*number)),
            Value::Text(text) => return self.text(text, indent),
            Value::List(_) => self.out.push_str("[]"),
            Value::Map(_) | Value::Host(_) => self.out.push_str("{}"),
        }
        self.out.push('\n');
        Ok(())
    }

    fn text(&mut self, text: &str, indent: usize) -> Result<(), String> {
        // Every line of a block is moved in.
        let rows = text.matches('\n').count().saturating_add(1);
        let moved = rows.saturating_mul(indent).saturating_add(text.len());
        fits(self.out.len().saturating_add(moved))?;
        if !text.contains('\n') || !Shape::of(text).allows_block {
            self.out.push_str(&line(text));
            self.out.push('\n');
            return Ok(());
        }
        self.out.push('|');
        if text.starts_with([' ', '\n']) {
            self.out.push('2');
        }
        match text.strip_suffix('\n') {
            None => self.out.push('-'),
            Some(rest) if rest.is_empty() || rest.ends_with('\n') => self.out.push('+'),
            Some(_) => {}
        }
        self.out.push('\n');
        for row in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            if !row.is_empty() {
                self.pad(indent);
                self.out.push_str(row);
            }
            self.out.push('\n');
        }
        Ok(())
    }
}

/// What a value of ours is to others: its items, or its text.
fn plain_value(value: &Value) -> Result<Cow<'_, Value>, String> {
    let Value::Host(host) = value else {
        return match value {
            Value::Float(number) if !number.is_finite() => {
                Err(format!("json: unsupported value: {number}"))
            }
            other => Ok(Cow::Borrowed(other)),
        };
    };
    let owned = host.items().or_else(|| host.text().map(Value::text));
    match owned {
        Some(Value::Host(_)) | None => Ok(Cow::Owned(Value::empty_map())),
        Some(other) => Ok(Cow::Owned(other)),
    }
}

/// A number as go-yaml writes what it has read from JSON: `%g`, whole ones in full.
fn float(number: f64) -> String {
    const WHOLE_MAX: f64 = 1.844_674_407_370_955e19;
    if number.fract() == 0.0 && number.abs() < WHOLE_MAX {
        return if number == 0.0 { "0".to_owned() } else { number.to_string() };
    }
    let shortest = format!("{number:e}");
    let (mantissa, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    if !(-4..6).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs());
    }
    number.to_string()
}

/// A text on one line: plain, in single quotes, or in double ones.
fn line(text: &str) -> String {
    let shape = Shape::of(text);
    if text.contains('\n') || is_something_else(text) || !shape.allows_single {
        return in_double_quotes(text);
    }
    if shape.allows_plain {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "''"))
}

/// How a text can be written: libyaml's analysis of it.
struct Shape {
    allows_plain: bool,
    allows_single: bool,
    allows_block: bool,
}

impl Shape {
    fn of(text: &str) -> Self {
        let has_special = text.chars().any(is_special);
        let has_edge_space = text.starts_with(' ') || text.ends_with(' ');
        let has_space_before_break = text.contains(" \n");
        let has_space_after_break = text.contains("\n ");
        let has_break = text.contains('\n');
        Self {
            allows_plain: !(has_special || has_edge_space || has_break || has_indicator(text)),
            allows_single: !(has_special || has_space_before_break || has_space_after_break),
            // A block of nothing but line breaks is read differently by different readers.
            allows_block: !has_special
                && !text.ends_with(' ')
                && !has_space_before_break
                && text.chars().any(|c| c != '\n'),
        }
    }
}

/// Whether a character must be escaped.
fn is_special(c: char) -> bool {
    match c {
        '\n' | ' '..='~' => false,
        '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}' => true,
        c => !('\u{a0}'..='\u{ffff}').contains(&c),
    }
}

/// Whether a text has a character where that would mean something in YAML.
fn has_indicator(text: &str) -> bool {
    let blank_follows = |rest: &str| rest.is_empty() || rest.starts_with([' ', '\t']);
    let starts_badly = match text.chars().next() {
        None
        | Some(
            '#' | ',' | '[' | ']' | '{' | '}' | '&' | '*' | '!' | '|' | '>' | '\'' | '"' | '%'
            | '@' | '`',
        ) => true,
        Some('?' | ':' | '-') => blank_follows(text.get(1..).unwrap_or_default()),
        Some(_) => false,
    };
    starts_badly
        || text.starts_with("---")
        || text.starts_with("...")
        || text.ends_with(':')
        || text.contains(": ")
        || text.contains(":\t")
        || text.contains(" #")
        || text.contains("\t#")
}

/// Whether a reader of YAML 1.1 or 1.2 would take a plain text for something else than text.
fn is_something_else(text: &str) -> bool {
    let first = text.bytes().next();
    let is_number_like = first.is_some_and(|b| b.is_ascii_digit() || b"+-.".contains(&b));
    let is_plain =
        matches!(scalar::plain(Cow::Borrowed(text)), Resolved::Value(tree::Value::Text(_)));
    !is_plain
        || text == "<<"
        || is_number_like && (text.parse::<f64>().is_ok() || is_base60(text) || is_date(text))
}

/// How many digits a text begins with.
fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// `12:30:45`, a number of YAML 1.1.
fn is_base60(text: &str) -> bool {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, ""));
    let mut parts = whole.split(':');
    let all = |part: &str| part.bytes().all(|b| b.is_ascii_digit() || b == b'_');
    let starts = parts.next().is_some_and(|part| digits(part) > 0 && all(part));
    let is_minute =
        |part: &str| matches!(part.as_bytes(), [b'0'..=b'9'] | [b'0'..=b'5', b'0'..=b'9']);
    starts && all(fraction) && whole.contains(':') && parts.all(is_minute)
}

/// `2001-01-01`, perhaps with a time.
fn is_date(text: &str) -> bool {
    let mut parts = text.splitn(3, '-');
    let (year, month, rest) = (parts.next(), parts.next(), parts.next());
    let is_number = |part: Option<&str>, least: usize, most: usize| {
        part.is_some_and(|p| (least..=most).contains(&p.len()) && digits(p) == p.len())
    };
    let day = rest.map_or(0, digits);
    let follows = rest.and_then(|rest| rest.get(day..)).unwrap_or_default();
    is_number(year, 4, 4)
        && is_number(month, 1, 2)
        && (1..=2).contains(&day)
        && (follows.is_empty() || follows.starts_with(['T', 't', ' ', '\t']))
}

fn in_double_quotes(text: &str) -> String {
    let mut out = String::with_capacity(text.len().saturating_add(2));
    out.push('"');
    for c in text.chars() {
        // Writing to a String cannot fail.
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\0' => out.push_str("\\0"),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\t' => out.push_str("\\t"),
            '\n' => out.push_str("\\n"),
            '\x0b' => out.push_str("\\v"),
            '\x0c' => out.push_str("\\f"),
            '\r' => out.push_str("\\r"),
            '\x1b' => out.push_str("\\e"),
            '\u{85}' => out.push_str("\\N"),
            '\u{2028}' => out.push_str("\\L"),
            '\u{2029}' => out.push_str("\\P"),
            c if !is_special(c) => out.push(c),
            c if u32::from(c) <= 0xff => _ = write!(out, "\\x{:02X}", u32::from(c)),
            c if u32::from(c) <= 0xffff => _ = write!(out, "\\u{:04X}", u32::from(c)),
            c => _ = write!(out, "\\U{:08X}", u32::from(c)),
        }
    }
    out.push('"');
    out
}

/// Keys in go-yaml's order. That order is not a total one, which the standard library's sort may answer
/// with a panic; this one never does.
fn sorted(mut keys: Vec<&Rc<str>>) -> Vec<&Rc<str>> {
    if keys.len() < 2 {
        return keys;
    }
    let right = sorted(keys.split_off(keys.len() / 2));
    let left = sorted(keys);
    let mut merged = Vec::with_capacity(left.len().saturating_add(right.len()));
    let (mut left, mut right) = (left.into_iter().peekable(), right.into_iter().peekable());
    while let (Some(a), Some(b)) = (left.peek(), right.peek()) {
        let next = if comes_before(b, a) { right.next() } else { left.next() };
        merged.extend(next);
    }
    merged.extend(left);
    merged.extend(right);
    merged
}

/// go-yaml's `keyList.Less`: what is no letter comes before letters, numbers go by their value.
fn comes_before(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let Some(at) = a.iter().zip(&b).position(|(a, b)| a != b) else {
        return a.len() < b.len();
    };
    let (Some(char_a), Some(char_b)) = (a.get(at).copied(), b.get(at).copied()) else {
        return false;
    };
    match (char_a.is_alphabetic(), char_b.is_alphabetic()) {
        (true, true) => return char_a < char_b,
        (true, false) | (false, true) => return char_b.is_alphabetic(),
        (false, false) => {}
    }
    let before = a.iter().take(at).rev().take_while(|c| c.is_ascii_digit());
    let is_inside = (char_a == '0' || char_b == '0') && before.into_iter().any(|c| *c != '0');
    let number = |of: &[char]| {
        let run = of.iter().skip(at).map_while(|c| c.to_digit(10));
        run.fold((i64::from(is_inside), 0_usize), |(value, length), digit| {
            (value.wrapping_mul(10).wrapping_add(i64::from(digit)), length + 1)
        })
    };
    match number(&a).cmp(&number(&b)) {
        Ordering::Equal => char_a < char_b,
        other => other == Ordering::Less,
    }
}

#[cfg(test)]
#[path = "yaml_tests.rs"]
mod tests;
