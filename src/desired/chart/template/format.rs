//! Values as text, as Go's `fmt` prints them with `%v`; numbers and quoted text as `strconv` writes them.

use super::super::value::{MARK, Value};
use crate::desired::tree::as_whole;

/// The longest text that printing a value may give.
pub(in crate::desired::chart) const TEXT_MAX: usize = 4 << 20;
/// How deep lists and maps may nest where they are printed. Maps can hold themselves: `set $m "a" $m`.
const DEPTH_MAX: usize = 100;

/// A value's text, as `%v` has it: nothing is `<nil>`. What is too long or too deep is cut off; where that
/// must not be, see [`try_print`].
pub(in crate::desired::chart) fn print(value: &Value) -> String {
    let mut text = String::new();
    let _ = write(value, &mut text, 0);
    text
}

/// A value's text, or that it has none that could be used.
pub(in crate::desired::chart) fn try_print(value: &Value) -> Result<String, String> {
    let mut text = String::new();
    write(value, &mut text, 0)?;
    Ok(text)
}

fn write(value: &Value, text: &mut String, depth: usize) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!("a value nested deeper than {DEPTH_MAX} levels can't be printed"));
    }
    let deeper = depth.saturating_add(1);
    match value {
        Value::Null => text.push_str("<nil>"),
        Value::Bool(value) => text.push_str(if *value { "true" } else { "false" }),
        Value::Int(value) => text.push_str(&value.to_string()),
        Value::Float(value) => text.push_str(&float(*value)),
        Value::Text(value) => text.push_str(value),
        Value::List(items) => {
            text.push('[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    text.push(' ');
                }
                write(item, text, deeper)?;
            }
            text.push(']');
        }
        Value::Map(entries) => {
            text.push_str("map[");
            for (i, (key, item)) in entries.borrow().iter().enumerate() {
                if i > 0 {
                    text.push(' ');
                }
                text.push_str(key);
                text.push(':');
                write(item, text, deeper)?;
            }
            text.push(']');
        }
        Value::Host(host) => text.push_str(&host.text().unwrap_or_else(|| host.name().to_owned())),
    }
    within(text)
}

/// Refuses a text that has grown too long.
pub(super) fn within(text: &str) -> Result<(), String> {
    if text.len() > TEXT_MAX {
        return Err(format!("a text longer than {TEXT_MAX} bytes can't be made"));
    }
    Ok(())
}

/// A type's name in Go, for messages and `%T`.
pub(in crate::desired::chart) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Null => "<nil>",
        Value::Bool(_) => "bool",
        Value::Int(_) => "int",
        Value::Float(_) => "float64",
        Value::Text(_) => "string",
        Value::List(_) => "[]interface {}",
        Value::Map(_) => "map[string]interface {}",
        Value::Host(host) => host.name(),
    }
}

/// A number as `%v` and `%g` print it: the shortest text that means it, with an exponent below -4 and
/// from 6 on: a million is `1e+06`.
///
/// Not as Go: a whole number is written in full. Helm reads all numbers as floats, and a user's
/// `1000000` that becomes `1e+06` is of no use to anybody (<https://github.com/helm/helm/issues/1707>).
pub(in crate::desired::chart) fn float(value: f64) -> String {
    match as_whole(value).filter(|whole| *whole != 0) {
        Some(whole) => whole.to_string(),
        None => general(value, None, false),
    }
}

/// `%e`.
pub(super) fn exponent(value: f64, precision: Option<usize>) -> String {
    if !value.is_finite() {
        return infinite(value);
    }
    let rust = match precision {
        Some(precision) => format!("{value:.precision$e}"),
        None => format!("{value:e}"),
    };
    // Go's exponent has a sign and two digits at least.
    let (mantissa, exponent) = rust.split_once('e').unwrap_or((&rust, "0"));
    let (sign, digits) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
    format!("{mantissa}e{sign}{digits:0>2}")
}

/// `%f`.
pub(super) fn fixed(value: f64, precision: Option<usize>) -> String {
    if !value.is_finite() {
        return infinite(value);
    }
    match precision {
        Some(precision) => format!("{value:.precision$}"),
        None => format!("{value}"),
    }
}

/// `%g`; with `zeros`, as `%#g`, zeros at the end stay.
pub(super) fn general(value: f64, precision: Option<usize>, zeros: bool) -> String {
    if !value.is_finite() {
        return infinite(value);
    }
    let shortest = precision.is_none();
    let precision = match precision {
        // As many digits as it takes, but six at least.
        None if zeros => Some(digits(value).max(6)),
        Some(0) => Some(1),
        other => other,
    };
    let rust = match precision {
        Some(precision) => {
            let after = precision.saturating_sub(1);
            format!("{value:.after$e}")
        }
        None => format!("{value:e}"),
    };
    let (mantissa, power) = rust.split_once('e').unwrap_or((&rust, "0"));
    let power: i64 = power.parse().unwrap_or_default();
    let all: String = mantissa.chars().filter(char::is_ascii_digit).collect();
    let digits = if zeros { all.as_str() } else { all.trim_end_matches('0') };
    let count = i64::try_from(digits.len().max(1)).unwrap_or(i64::MAX);
    let point = power.saturating_add(1);
    let mut limit = precision.map_or(0, |p| i64::try_from(p).unwrap_or(i64::MAX));
    if limit > count && count >= point {
        limit = count;
    }
    if shortest {
        limit = SHORTEST_LIMIT;
    }
    let decimals = |n: i64| usize::try_from(n.max(0)).unwrap_or_default();
    if power < -4 || power >= limit {
        return exponent(value, Some(decimals(count.saturating_sub(1))));
    }
    fixed(value, Some(decimals(count.saturating_sub(point))))
}

/// How many digits the shortest text has that means a number.
fn digits(value: f64) -> usize {
    let text = format!("{value:e}");
    let mantissa = text.split('e').next().unwrap_or_default();
    mantissa.chars().filter(char::is_ascii_digit).count()
}

/// From this exponent on, the shortest form of a number has one.
const SHORTEST_LIMIT: i64 = 6;

fn infinite(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value > 0.0 {
        "+Inf".to_owned()
    } else {
        "-Inf".to_owned()
    }
}

/// A text in double quotes, as `strconv.Quote` writes it; with `ascii`, without any other character.
pub(in crate::desired::chart) fn quote(text: &str, ascii: bool) -> String {
    quoted(text, '"', ascii)
}

pub(super) fn quoted(text: &str, quote: char, ascii: bool) -> String {
    let mut out = String::with_capacity(text.len().saturating_add(2));
    out.push(quote);
    for c in text.chars() {
        match c {
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            _ if c == quote => {
                out.push('\\');
                out.push(c);
            }
            ' '..='~' => out.push(c),
            '\0'..='\x7f' => out.push_str(&format!("\\x{:02x}", u32::from(c))),
            _ if !ascii && is_printable(c) => out.push(c),
            '\0'..='\u{ffff}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            _ => out.push_str(&format!("\\U{:08x}", u32::from(c))),
        }
    }
    out.push(quote);
    out
}

/// Go's `unicode.IsPrint`. Rust's own escaping of text knows the same; it does escape a combining
/// character at the start of a text, therefore the letter before it.
pub(super) fn is_printable(c: char) -> bool {
    match c {
        // Whoever looks for it is to find it.
        ' '..='~' | MARK => true,
        '\0'..='\x7f' => false,
        _ => {
            let text: String = ['a', c].iter().collect();
            text.escape_debug().count() == 2
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::rc::Rc;

    #[test]
    fn values_print_as_in_go() {
        let map = Value::map(BTreeMap::from([
            (Rc::from("b"), Value::list(vec![Value::Int(1), Value::Null, Value::text("x y")])),
            (Rc::from("a"), Value::Float(1.5)),
        ]));
        for (value, expected) in [
            (Value::Null, "<nil>"),
            (Value::Bool(true), "true"),
            (Value::Int(-3), "-3"),
            (Value::text("a"), "a"),
            (Value::list(vec![]), "[]"),
            (Value::empty_map(), "map[]"),
            (map, "map[a:1.5 b:[1 <nil> x y]]"),
        ] {
            assert_eq!(print(&value), expected);
        }
    }

    #[test]
    fn floats_print_as_in_go() {
        for (value, expected) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (1.5, "1.5"),
            (100_000.0, "100000"),
            (1_000_000.0, "1000000"),
            (1_234_567.5, "1.2345675e+06"),
            (0.0001, "0.0001"),
            (0.000_01, "1e-05"),
            (1e21, "1e+21"),
            (1e100, "1e+100"),
            (0.1, "0.1"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
            (f64::NEG_INFINITY, "-Inf"),
        ] {
            assert_eq!(float(value), expected);
        }
        for (value, precision, zeros, expected) in [
            (100.0, 3, false, "100"),
            (1234.5678, 3, false, "1.23e+03"),
            (0.5, 3, false, "0.5"),
            (1.0, 3, true, "1.00"),
            (0.0, 0, false, "0"),
        ] {
            assert_eq!(general(value, Some(precision), zeros), expected);
        }
    }

    #[test]
    fn text_is_quoted_as_in_go() {
        for (text, expected) in [
            ("a\"b\\", r#""a\"b\\""#),
            ("\n\t\x01\x7f", r#""\n\t\x01\x7f""#),
            ("é\u{301}\u{a0}\u{f8fe}\u{10ffff}", "\"é\u{301}\\u00a0\\uf8fe\\U0010ffff\""),
            ("'", "\"'\""),
        ] {
            assert_eq!(quote(text, false), expected, "{text:?}");
        }
        assert_eq!(quote("é😀", true), r#""\u00e9\U0001f600""#);
    }

    #[test]
    fn a_map_that_holds_itself_has_an_end() {
        let map = Value::empty_map();
        if let Value::Map(entries) = &map {
            entries.borrow_mut().insert(Rc::from("a"), map.clone());
        }
        assert!(try_print(&map).is_err());
        assert!(print(&map).starts_with("map[a:map[a:"));
        let mut wide = Value::text("xxxxxxxx");
        for _ in 0..40 {
            wide = Value::list(vec![wide.clone(), wide]);
        }
        assert!(try_print(&wide).is_err());
        assert!(print(&wide).len() <= TEXT_MAX + 100);
    }
}
