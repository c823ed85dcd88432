//! What an unquoted word means: YAML 1.1 as Go's yaml.v2 reads it, which is how Kubernetes does.
//!
//! `yes`, `on` and `y` are booleans, `0644` is octal, `1_000` a thousand; `1:30` and dates stay
//! text. Rules: `resolve.go` of sigs.k8s.io/yaml/goyaml.v2.

use std::borrow::Cow;

use super::tree::{Value, as_whole};

/// What became of a scalar.
#[derive(Debug, PartialEq)]
pub(super) enum Resolved<'a> {
    /// A value.
    Value(Value<'a>),
    /// A value, and something its author should know.
    Odd(Value<'a>, String),
    /// Nothing that JSON can carry, and why.
    Unfit(String),
}

/// Reads an unquoted scalar without a tag.
pub(super) fn plain(text: Cow<'_, str>) -> Resolved<'_> {
    // Only these beginnings can be anything but text (`resolveTable`).
    match text.as_bytes().first() {
        None => return Resolved::Value(Value::Null),
        Some(
            b'+'
            | b'-'
            | b'.'
            | b'~'
            | b'0'..=b'9'
            | b'y'
            | b'Y'
            | b'n'
            | b'N'
            | b't'
            | b'T'
            | b'f'
            | b'F'
            | b'o'
            | b'O',
        ) => {}
        Some(_) => return Resolved::Value(Value::Text(text)),
    }
    if let Some(word) = word(&text) {
        return match word {
            Word::Null => Resolved::Value(Value::Null),
            Word::Bool(value) => Resolved::Value(Value::Bool(value, text)),
            Word::NotFinite => Resolved::Unfit(format!("{text} is not a number JSON can carry")),
        };
    }
    match number(&text) {
        Some(Number::Int(value)) => Resolved::Value(Value::Int(value, text)),
        Some(Number::Float(value)) => Resolved::Value(Value::Float(value, text)),
        None => Resolved::Value(Value::Text(text)),
    }
}

/// Reads a scalar that has a tag; `core` is the part after `tag:yaml.org,2002:`, absent for tags
/// of other makers.
pub(super) fn tagged<'a>(core: Option<&str>, text: Cow<'a, str>) -> Resolved<'a> {
    // Nothing of the value is said: it may be a secret.
    let wrong = |what| Resolved::Unfit(format!("this is not {what}, as its tag says"));
    match core {
        Some("str" | "timestamp") => Resolved::Value(Value::Text(text)),
        Some("bool") => match word(&text) {
            Some(Word::Bool(value)) => Resolved::Value(Value::Bool(value, text)),
            _ => wrong("a boolean"),
        },
        Some("null") => match word(&text) {
            Some(Word::Null) => Resolved::Value(Value::Null),
            _ => wrong("null"),
        },
        Some("int") => match number(&text) {
            Some(Number::Int(value)) => Resolved::Value(Value::Int(value, text)),
            _ => wrong("an integer"),
        },
        Some("float") => match number(&text) {
            #[allow(clippy::cast_precision_loss, reason = "what the tag asks for")]
            Some(Number::Int(value)) => Resolved::Value(Value::Float(value as f64, text)),
            Some(Number::Float(value)) => Resolved::Value(Value::Float(value, text)),
            None => wrong("a number"),
        },
        Some("binary") => match super::base64::decode(&text).map(String::from_utf8) {
            Some(Ok(decoded)) => Resolved::Value(Value::Text(Cow::Owned(decoded))),
            Some(Err(_)) => Resolved::Unfit("!!binary holds bytes that are not text".into()),
            None => Resolved::Unfit("!!binary holds something that is not base64".into()),
        },
        _ => Resolved::Odd(
            Value::Text(text),
            "this tag means nothing to Kubernetes; the value is read as text".into(),
        ),
    }
}

enum Word {
    Null,
    Bool(bool),
    NotFinite,
}

fn word(text: &str) -> Option<Word> {
    Some(match text {
        "" | "~" | "null" | "Null" | "NULL" => Word::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Word::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Word::Bool(false)
        }
        ".nan" | ".NaN" | ".NAN" | ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF"
        | "-.inf" | "-.Inf" | "-.INF" => Word::NotFinite,
        _ => return None,
    })
}

#[derive(Debug, PartialEq)]
enum Number {
    Int(i64),
    Float(f64),
}

fn number(text: &str) -> Option<Number> {
    if text.starts_with('.') {
        return float(text).map(Number::Float);
    }
    let digits: Cow<'_, str> = if text.contains('_') {
        Cow::Owned(text.replace('_', ""))
    } else {
        Cow::Borrowed(text)
    };
    match integer(&digits) {
        Some(value) => match i64::try_from(value) {
            Ok(value) => Some(Number::Int(value)),
            // Beyond 64 bits Kubernetes' reader has no integer either.
            #[allow(clippy::cast_precision_loss, reason = "kept for messages only")]
            Err(_) => Some(Number::Float(value as f64)),
        },
        None => float(&digits).map(Number::Float),
    }
}

/// `strconv.ParseInt(text, 0, …)`: the base follows from the prefix.
fn integer(text: &str) -> Option<i128> {
    let (negative, unsigned) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (radix, digits) = match unsigned.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &unsigned[2..]),
        [b'0', b'b' | b'B', ..] => (2, &unsigned[2..]),
        [b'0', b'o' | b'O', ..] => (8, &unsigned[2..]),
        [b'0', _, ..] => (8, &unsigned[1..]),
        _ => (10, unsigned),
    };
    // `from_str_radix` would take a second sign.
    if !digits.bytes().next()?.is_ascii_alphanumeric() {
        return None;
    }
    let value = i128::from_str_radix(digits, radix).ok()?;
    Some(if negative { -value } else { value })
}

/// `^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`
fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.find(['e', 'E']) {
        Some(at) => (&unsigned[..at], Some(&unsigned[at + 1..])),
        None => (unsigned, None),
    };
    let all_digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let mantissa_is_right =
        all_digits(whole) && all_digits(fraction) && !(whole.is_empty() && fraction.is_empty());
    let exponent_is_right = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !digits.is_empty() && all_digits(digits)
    });
    if !mantissa_is_right || !exponent_is_right {
        return None;
    }
    text.parse().ok().filter(|value: &f64| value.is_finite())
}

/// The text of a scalar as a map's key, as sigs.k8s.io/yaml makes it.
pub(super) fn key(value: Value<'_>) -> Option<Cow<'_, str>> {
    Some(match value {
        Value::Text(text) => text,
        Value::Bool(true, _) => Cow::Borrowed("true"),
        Value::Bool(false, _) => Cow::Borrowed("false"),
        Value::Int(value, raw) => {
            let text = value.to_string();
            if raw == text { raw } else { Cow::Owned(text) }
        }
        Value::Float(value, _) => Cow::Owned(match as_whole(value) {
            Some(whole) => whole.to_string(),
            None => value.to_string(),
        }),
        Value::Null | Value::List(_) | Value::Map(_) => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> String {
        match plain(Cow::Borrowed(text)) {
            Resolved::Value(value) => match value {
                Value::Null => "null".into(),
                Value::Bool(value, _) => value.to_string(),
                Value::Int(value, _) => format!("int {value}"),
                Value::Float(value, _) => format!("float {value}"),
                Value::Text(text) => format!("text {text}"),
                _ => unreachable!("a scalar"),
            },
            Resolved::Odd(..) => "odd".into(),
            Resolved::Unfit(_) => "unfit".into(),
        }
    }

    #[test]
    fn words_mean_what_they_mean_to_kubernetes() {
        let table = [
            ("", "null"),
            ("~", "null"),
            ("Null", "null"),
            ("nUll", "text nUll"),
            ("y", "true"),
            ("Yes", "true"),
            ("on", "true"),
            ("oN", "text oN"),
            ("off", "false"),
            ("N", "false"),
            ("true", "true"),
            ("0644", "int 420"),
            ("0o644", "int 420"),
            ("08", "float 8"),
            ("0x1F", "int 31"),
            ("0b101", "int 5"),
            ("-0b101", "int -5"),
            ("0x_0A_74_AE", "int 685230"),
            ("1_000", "int 1000"),
            ("+685_230", "int 685230"),
            ("-0", "int 0"),
            ("9223372036854775807", "int 9223372036854775807"),
            ("9223372036854775808", "float 9223372036854776000"),
            ("1.5", "float 1.5"),
            ("1.", "float 1"),
            (".5", "float 0.5"),
            ("1e3", "float 1000"),
            ("685.230_15e+03", "float 685230.15"),
            ("1e999", "text 1e999"),
            (".inf", "unfit"),
            ("-.INF", "unfit"),
            (".NaN", "unfit"),
            ("1:30", "text 1:30"),
            ("2015-01-01", "text 2015-01-01"),
            ("2015-02-24T18:19:39Z", "text 2015-02-24T18:19:39Z"),
            ("1.2.3", "text 1.2.3"),
            ("-", "text -"),
            ("--1", "text --1"),
            ("+-1", "text +-1"),
            ("0x", "text 0x"),
            ("0xg", "text 0xg"),
            ("_1", "text _1"),
            ("-b_c", "text -b_c"),
            ("50cent", "text 50cent"),
            ("500m", "text 500m"),
            ("...", "text ..."),
            ("<<", "text <<"),
        ];
        for (text, meaning) in table {
            assert_eq!(read(text), meaning, "{text:?}");
        }
    }

    #[test]
    fn a_tag_decides() {
        let tag = |core, text: &'static str| tagged(core, Cow::Borrowed(text));
        assert_eq!(
            tag(Some("str"), "1"),
            Resolved::Value(Value::Text("1".into()))
        );
        assert_eq!(
            tag(Some("int"), "1"),
            Resolved::Value(Value::Int(1, "1".into()))
        );
        assert_eq!(
            tag(Some("float"), "1"),
            Resolved::Value(Value::Float(1.0, "1".into()))
        );
        assert_eq!(tag(Some("null"), ""), Resolved::Value(Value::Null));
        assert_eq!(
            tag(Some("binary"), "aGk="),
            Resolved::Value(Value::Text("hi".into()))
        );
        assert!(matches!(tag(Some("int"), "x"), Resolved::Unfit(_)));
        assert!(matches!(tag(None, "x"), Resolved::Odd(..)));
    }

    #[test]
    fn keys_become_text() {
        let key_of = |text: &'static str| match plain(Cow::Borrowed(text)) {
            Resolved::Value(value) => key(value).map(Cow::into_owned),
            _ => None,
        };
        assert_eq!(key_of("y").as_deref(), Some("true"));
        assert_eq!(key_of("8080").as_deref(), Some("8080"));
        assert_eq!(key_of("0644").as_deref(), Some("420"));
        assert_eq!(key_of("1.5").as_deref(), Some("1.5"));
        assert_eq!(key_of("~"), None);
    }
}
