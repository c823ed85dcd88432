//! Values from texts and back: JSON, YAML, base64, base32, digests.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::rc::Rc;

use serde_json::Value as Json;
use sha1::{Digest as _, Sha1};
use sha2::{Sha256, Sha512};

use super::super::value::Value;
use super::args::{DEPTH_MAX, done, entries, exactly, fits, text};
use crate::desired::yaml::{self, ProblemKind};
use crate::desired::{base64, tree};

type Answer = Result<Value, String>;

/// A manifest's value as a template's.
pub(in crate::desired::chart) fn of_node(node: &tree::Node<'_>) -> Value {
    match &node.value {
        tree::Value::Null => Value::Null,
        tree::Value::Bool(truth, _) => Value::Bool(*truth),
        tree::Value::Int(number, _) => of_int(*number),
        tree::Value::Float(number, _) => Value::Float(*number),
        tree::Value::Text(text) => Value::text(text),
        tree::Value::List(items) => Value::list(items.iter().map(of_node).collect()),
        tree::Value::Map(pairs) => Value::map(
            pairs.iter().map(|pair| (Rc::from(&*pair.key), of_node(&pair.node))).collect(),
        ),
    }
}

/// Numbers that are read are `float64` to Go's templates, whole ones too. One that would lose digits
/// stays whole.
fn of_int(number: i64) -> Value {
    #[allow(clippy::cast_precision_loss, reason = "it is looked at whether any is lost")]
    let float = number as f64;
    if tree::as_whole(float) == Some(number) { Value::Float(float) } else { Value::Int(number) }
}

fn of_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => number
            .as_i64()
            .map_or_else(|| Value::Float(number.as_f64().unwrap_or_default()), of_int),
        Json::String(text) => Value::text(text),
        Json::Array(items) => Value::list(items.iter().map(of_json).collect()),
        Json::Object(pairs) => Value::map(
            pairs.iter().map(|(key, value)| (Rc::from(key.as_str()), of_json(value))).collect(),
        ),
    }
}

/// The first document of a YAML text.
fn read_yaml(whole: &str) -> Answer {
    fits(whole.len())?;
    let Some(document) = yaml::read(whole).into_iter().next() else {
        return Ok(Value::Null);
    };
    let slip = document.problems.iter().find(|problem| problem.kind != ProblemKind::Warning);
    if let Some(problem) = slip {
        let line = problem.at.line;
        return Err(format!(
            "error converting YAML to JSON: yaml: line {line}: {}",
            problem.message
        ));
    }
    Ok(document.root.as_ref().map(of_node).unwrap_or_default())
}

fn read_json(whole: &str) -> Answer {
    serde_json::from_str(whole).map(|json| of_json(&json)).map_err(|error| match whole.trim() {
        "" => "unexpected end of JSON input".to_owned(),
        _ => error.to_string(),
    })
}

/// What JSON calls a value, in Go's messages.
fn json_kind(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "bool",
        Value::Int(_) | Value::Float(_) => "number",
        Value::List(_) => "array",
        Value::Map(_) => "object",
        _ => "string",
    }
}

fn unfit(value: &Value, wanted: &str) -> String {
    format!("json: cannot unmarshal {} into Go value of type {wanted}", json_kind(value))
}

/// A map, or one that says what is wrong below `Error`: how Helm tells.
fn map_or_error(read: Answer) -> Value {
    let problem = match read {
        Ok(Value::Null) => return Value::empty_map(),
        Ok(map @ Value::Map(_)) => return map,
        Ok(other) => unfit(&other, "map[string]interface {}"),
        Err(problem) => problem,
    };
    Value::map(BTreeMap::from([(Rc::from("Error"), Value::text(problem))]))
}

fn list_or_error(read: Answer) -> Value {
    let problem = match read {
        Ok(Value::Null) => return Value::list(Vec::new()),
        Ok(list @ Value::List(_)) => return list,
        Ok(other) => unfit(&other, "[]interface {}"),
        Err(problem) => problem,
    };
    Value::list(vec![Value::text(problem)])
}

pub(super) fn from_yaml(args: &[Value]) -> Answer {
    let [whole] = exactly("fromYaml", args)?;
    Ok(map_or_error(read_yaml(text(whole)?)))
}

pub(super) fn must_from_yaml(args: &[Value]) -> Answer {
    let [whole] = exactly("mustFromYaml", args)?;
    read_yaml(text(whole)?)
}

pub(super) fn from_yaml_array(args: &[Value]) -> Answer {
    let [whole] = exactly("fromYamlArray", args)?;
    Ok(list_or_error(read_yaml(text(whole)?)))
}

pub(super) fn from_json(args: &[Value]) -> Answer {
    let [whole] = exactly("fromJson", args)?;
    Ok(map_or_error(read_json(text(whole)?)))
}

pub(super) fn must_from_json(args: &[Value]) -> Answer {
    let [whole] = exactly("mustFromJson", args)?;
    read_json(text(whole)?)
}

pub(super) fn from_json_array(args: &[Value]) -> Answer {
    let [whole] = exactly("fromJsonArray", args)?;
    Ok(list_or_error(read_json(text(whole)?)))
}

/// A number as `encoding/json` writes it; none for what is no number.
pub(super) fn json_number(number: f64) -> Option<String> {
    if !number.is_finite() {
        return None;
    }
    let size = number.abs();
    if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{number:e}");
        return Some(if text.contains("e-") { text } else { text.replace('e', "e+") });
    }
    Some(number.to_string())
}

/// How JSON is written.
struct Style {
    is_pretty: bool,
    escapes_html: bool,
}

struct Writer {
    out: String,
    style: Style,
}

impl Writer {
    fn text(&mut self, whole: &str) {
        self.out.push('"');
        for c in whole.chars() {
            // Writing to a String cannot fail.
            match c {
                '"' | '\\' => self.out.extend(['\\', c]),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\x08' => self.out.push_str("\\b"),
                '\x0c' => self.out.push_str("\\f"),
                '<' | '>' | '&' if !self.style.escapes_html => self.out.push(c),
                '\0'..'\x20' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                    _ = write!(self.out, "\\u{:04x}", u32::from(c));
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }

    fn line(&mut self, depth: usize) {
        if self.style.is_pretty {
            self.out.push('\n');
            self.out.extend(std::iter::repeat_n("  ", depth));
        }
    }

    fn value(&mut self, value: &Value, depth: usize) -> Result<(), String> {
        fits(self.out.len())?;
        if depth > DEPTH_MAX {
            return Err(format!("json: values nest deeper than {DEPTH_MAX} levels"));
        }
        match value {
            Value::Null => self.out.push_str("null"),
            Value::Bool(truth) => self.out.push_str(if *truth { "true" } else { "false" }),
            Value::Int(number) => _ = write!(self.out, "{number}"),
            Value::Float(number) => {
                let text = json_number(*number)
                    .ok_or_else(|| format!("json: unsupported value: {number}"))?;
                self.out.push_str(&text);
            }
            Value::Text(text) => self.text(text),
            Value::List(items) if items.is_empty() => self.out.push_str("[]"),
            Value::List(items) => {
                for (at, item) in items.iter().enumerate() {
                    self.out.push(if at == 0 { '[' } else { ',' });
                    self.line(depth + 1);
                    self.value(item, depth + 1)?;
                }
                self.line(depth);
                self.out.push(']');
            }
            Value::Map(map) if map.borrow().is_empty() => self.out.push_str("{}"),
            Value::Map(map) => {
                for (at, (key, item)) in entries(map).iter().enumerate() {
                    self.out.push(if at == 0 { '{' } else { ',' });
                    self.line(depth + 1);
                    self.text(key);
                    self.out.push_str(if self.style.is_pretty { ": " } else { ":" });
                    self.value(item, depth + 1)?;
                }
                self.line(depth);
                self.out.push('}');
            }
            Value::Host(host) => match (host.items(), host.text()) {
                (Some(items), _) => self.value(&items, depth + 1)?,
                (None, Some(text)) => self.text(&text),
                (None, None) => self.out.push_str("{}"),
            },
        }
        Ok(())
    }
}

fn written(name: &str, args: &[Value], is_pretty: bool, escapes_html: bool) -> Answer {
    let [value] = exactly(name, args)?;
    let mut writer = Writer { out: String::new(), style: Style { is_pretty, escapes_html } };
    writer.value(value, 0)?;
    done(writer.out)
}

pub(super) fn to_json(args: &[Value]) -> Answer {
    written("toJson", args, false, true)
}

pub(super) fn to_pretty_json(args: &[Value]) -> Answer {
    written("toPrettyJson", args, true, true)
}

pub(super) fn to_raw_json(args: &[Value]) -> Answer {
    written("toRawJson", args, false, false)
}

/// A text of bytes: Go's texts are any bytes, ours are UTF-8.
fn of_bytes(bytes: Vec<u8>) -> Answer {
    String::from_utf8(bytes)
        .map_or_else(|_| Err("what was decoded is not text: it isn't UTF-8".to_owned()), done)
}

pub(super) fn b64enc(args: &[Value]) -> Answer {
    let [whole] = exactly("b64enc", args)?;
    done(base64::encode(text(whole)?.as_bytes()))
}

pub(super) fn b64dec(args: &[Value]) -> Answer {
    let [whole] = exactly("b64dec", args)?;
    let whole = text(whole)?;
    if let Some(bytes) = base64::decode(whole) {
        return of_bytes(bytes);
    }
    // As in sprig, the text is then what is wrong.
    let is_right = |b: u8| b.is_ascii_alphanumeric() || b"+/\r\n".contains(&b);
    let at = whole.bytes().position(|b| !is_right(b)).unwrap_or(whole.len());
    done(format!("illegal base64 data at input byte {at}"))
}

const BASE32: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";

pub(super) fn b32enc(args: &[Value]) -> Answer {
    let [whole] = exactly("b32enc", args)?;
    let whole = text(whole)?;
    fits(whole.len().saturating_mul(2))?;
    let mut out = String::new();
    for part in whole.as_bytes().chunks(5) {
        let bits =
            (0..5).fold(0_u64, |bits, at| bits << 8 | u64::from(*part.get(at).unwrap_or(&0)));
        for at in 0..8_usize {
            let digit = usize::try_from(bits >> (35 - 5 * at) & 31).unwrap_or_default();
            let is_used = at * 5 < part.len() * 8;
            out.push(BASE32.get(digit).filter(|_| is_used).map_or('=', |b| char::from(*b)));
        }
    }
    done(out)
}

pub(super) fn b32dec(args: &[Value]) -> Answer {
    let [whole] = exactly("b32dec", args)?;
    let digits: Vec<u8> = text(whole)?.bytes().filter(|b| !b"\r\n".contains(b)).collect();
    let used = digits.iter().take_while(|b| **b != b'=').count();
    let wrong = |at: usize| done(format!("illegal base32 data at input byte {at}"));
    let padding = digits.len() - used;
    let is_padded = digits.len().is_multiple_of(8) && matches!(padding, 0 | 1 | 3 | 4 | 6);
    let (mut out, mut bits, mut count) = (Vec::new(), 0_u64, 0_u32);
    for (at, digit) in digits.iter().take(used).enumerate() {
        let Some(value) = BASE32.iter().position(|b| b == digit) else {
            return wrong(at);
        };
        bits = bits << 5 | u64::try_from(value).unwrap_or_default();
        count += 5;
        if count >= 8 {
            count -= 8;
            out.extend(u8::try_from(bits >> count & 0xff));
        }
        bits &= 0xff;
    }
    if !is_padded || digits.iter().skip(used).any(|b| *b != b'=') {
        return wrong(used);
    }
    of_bytes(out)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut out, byte| {
        // Writing to a String cannot fail.
        _ = write!(out, "{byte:02x}");
        out
    })
}

pub(super) fn sha1sum(args: &[Value]) -> Answer {
    let [whole] = exactly("sha1sum", args)?;
    done(hex(&Sha1::digest(text(whole)?.as_bytes())))
}

pub(super) fn sha256sum(args: &[Value]) -> Answer {
    let [whole] = exactly("sha256sum", args)?;
    done(hex(&Sha256::digest(text(whole)?.as_bytes())))
}

pub(super) fn sha512sum(args: &[Value]) -> Answer {
    let [whole] = exactly("sha512sum", args)?;
    done(hex(&Sha512::digest(text(whole)?.as_bytes())))
}

pub(super) fn adler32sum(args: &[Value]) -> Answer {
    const BASE: u32 = 65_521;
    let [whole] = exactly("adler32sum", args)?;
    let step = |(a, b): (u32, u32), byte: u8| {
        let a = (a + u32::from(byte)) % BASE;
        (a, (b + a) % BASE)
    };
    let (a, b) = text(whole)?.bytes().fold((1, 0), step);
    done((b << 16 | a).to_string())
}

#[cfg(test)]
#[path = "encode_tests.rs"]
mod tests;
