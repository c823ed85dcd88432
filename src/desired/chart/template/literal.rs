//! Constants: numbers, texts and characters as Go writes them.

use super::super::value::Value;
use super::lex::{Kind, Token};

/// The value of a constant's token.
pub(super) fn read(token: &Token<'_>) -> Result<Value, String> {
    match token.kind {
        Kind::Bool => Ok(Value::Bool(token.text == "true")),
        Kind::Number => number(token.text),
        Kind::Quoted | Kind::Raw => text(token.text).map(Value::text),
        Kind::Char => character(token.text),
        _ => Err(format!("unexpected {:?}", token.text)),
    }
}

/// What stands between double quotes or back quotes.
pub(super) fn text(literal: &str) -> Result<String, String> {
    if let Some(raw) = literal.strip_prefix('`').and_then(|rest| rest.strip_suffix('`')) {
        return Ok(raw.replace('\r', ""));
    }
    let inner = literal.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    unescape(inner.ok_or("invalid syntax")?, '"')
}

/// A character constant is its number.
fn character(literal: &str) -> Result<Value, String> {
    let inner = literal.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    let text = unescape(inner.unwrap_or_default(), '\'')?;
    let mut characters = text.chars();
    match (characters.next(), characters.next()) {
        (Some(c), None) => Ok(Value::Int(i64::from(u32::from(c)))),
        _ => Err(format!("malformed character constant: {literal}")),
    }
}

/// Go's escapes. Bytes that are no UTF-8 together can't be held by our texts.
fn unescape(inner: &str, quote: char) -> Result<String, String> {
    let wrong = || "invalid syntax".to_owned();
    let mut bytes: Vec<u8> = Vec::with_capacity(inner.len());
    let mut characters = inner.chars();
    while let Some(c) = characters.next() {
        if c != '\\' {
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let escape = characters.next().ok_or_else(wrong)?;
        let simple = match escape {
            'a' => Some('\x07'),
            'b' => Some('\x08'),
            'f' => Some('\x0c'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            't' => Some('\t'),
            'v' => Some('\x0b'),
            '\\' => Some('\\'),
            _ if escape == quote => Some(quote),
            _ => None,
        };
        if let Some(simple) = simple {
            bytes.extend_from_slice(simple.encode_utf8(&mut [0; 4]).as_bytes());
            continue;
        }
        let (length, radix) = match escape {
            'x' => (2, 16),
            'u' => (4, 16),
            'U' => (8, 16),
            '0'..='7' => (2, 8),
            _ => return Err(wrong()),
        };
        let mut number = if radix == 8 { escape.to_digit(8).ok_or_else(wrong)? } else { 0 };
        for _ in 0..length {
            let digit = characters.next().and_then(|c| c.to_digit(radix)).ok_or_else(wrong)?;
            number = number.wrapping_mul(radix).wrapping_add(digit);
        }
        if matches!(escape, 'u' | 'U') {
            let c = char::from_u32(number).ok_or_else(wrong)?;
            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
        } else {
            bytes.push(u8::try_from(number).map_err(|_| wrong())?);
        }
    }
    String::from_utf8(bytes).map_err(|_| "texts that aren't UTF-8 aren't supported".to_owned())
}

/// A number: whole unless its text has a point or an exponent.
fn number(literal: &str) -> Result<Value, String> {
    let wrong = || format!("bad number syntax: {literal:?}");
    let (negative, body) = match literal.strip_prefix('-') {
        Some(body) => (true, body),
        None => (false, literal.strip_prefix('+').unwrap_or(literal)),
    };
    let lower = body.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, lower.get(2..).unwrap_or_default()),
        Some("0b") => (2, lower.get(2..).unwrap_or_default()),
        Some("0o") => (8, lower.get(2..).unwrap_or_default()),
        _ if lower.len() > 1
            && lower.starts_with('0')
            && lower.bytes().all(|b| b.is_ascii_digit() || b == b'_') =>
        {
            (8, lower.get(1..).unwrap_or_default())
        }
        _ => (10, lower.as_str()),
    };
    if lower.ends_with('i') {
        return Err(format!("complex numbers aren't supported: {literal}"));
    }
    let plain = without_underscores(digits, radix != 10).ok_or_else(wrong)?;
    if radix == 10 && plain.contains(['.', 'e']) {
        let sound =
            plain.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'.' | b'e' | b'+' | b'-'));
        let value: f64 = plain.parse().map_err(|_| wrong())?;
        if !sound || !value.is_finite() {
            return Err(wrong());
        }
        return Ok(Value::Float(if negative { -value } else { value }));
    }
    if radix == 16 && plain.contains(['.', 'p']) {
        let value = hexadecimal(&plain).ok_or_else(wrong)?;
        return Ok(Value::Float(if negative { -value } else { value }));
    }
    if plain.is_empty() || !plain.chars().all(|c| c.is_digit(radix)) {
        return Err(wrong());
    }
    let value = i128::from_str_radix(&plain, radix).map_err(|_| wrong())?;
    let value = if negative { value.checked_neg().ok_or_else(wrong)? } else { value };
    i64::try_from(value).map(Value::Int).map_err(|_| format!("{literal} overflows int"))
}

/// `1.8p3`: a hexadecimal mantissa, and a power of two. Of the mantissa, no more than a float holds.
#[allow(clippy::cast_precision_loss, reason = "a mantissa below 2^53 is held as it is")]
fn hexadecimal(digits: &str) -> Option<f64> {
    let (mantissa, power) = digits.split_once('p')?;
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let fraction = fraction.trim_end_matches('0');
    let number = u64::from_str_radix(&format!("{whole}{fraction}"), 16).ok()?;
    let shift = i32::try_from(fraction.len()).ok()?.checked_mul(4)?;
    let power = power.parse::<i32>().ok()?.checked_sub(shift)?;
    (number < 1 << 53 && (-1000..900).contains(&power)).then(|| number as f64 * 2_f64.powi(power))
}

/// Digits without the underscores between them; one may follow a prefix as well.
fn without_underscores(digits: &str, prefixed: bool) -> Option<String> {
    let misplaced = digits.contains("__")
        || digits.ends_with('_')
        || (digits.starts_with('_') && !prefixed)
        || ["_.", "._", "_e", "e_"].iter().any(|wrong| digits.contains(wrong) && !prefixed);
    (!misplaced).then(|| digits.replace('_', ""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_gos() {
        for (literal, expected) in [
            ("0", Some("Int(0)")),
            ("-42", Some("Int(-42)")),
            ("+7", Some("Int(7)")),
            ("0x1F", Some("Int(31)")),
            ("0x1e", Some("Int(30)")),
            ("0o17", Some("Int(15)")),
            ("017", Some("Int(15)")),
            ("0b101", Some("Int(5)")),
            ("1_000", Some("Int(1000)")),
            ("0x_ff", Some("Int(255)")),
            ("1.5", Some("Float(1.5)")),
            (".5", Some("Float(0.5)")),
            ("1e3", Some("Float(1000.0)")),
            ("1e-3", Some("Float(0.001)")),
            ("9223372036854775807", Some("Int(9223372036854775807)")),
            ("-9223372036854775808", Some("Int(-9223372036854775808)")),
            ("9223372036854775808", None),
            ("1__0", None),
            ("1_", None),
            ("089", None),
            ("1e", None),
            ("1e999", None),
            ("0x", None),
            ("2i", None),
            ("0x1p4", Some("Float(16.0)")),
            ("0x1p60", Some("Float(1.152921504606847e18)")),
            ("-0x1.8p+1", Some("Float(-3.0)")),
            ("0x1p-2", Some("Float(0.25)")),
            ("0x1.8", None),
            ("0xp1", None),
            ("12a", None),
            ("infe", None),
        ] {
            let said = number(literal).ok().map(|value| format!("{value:?}"));
            assert_eq!(said.as_deref(), expected, "{literal}");
        }
    }

    #[test]
    fn texts_and_characters_are_gos() {
        for (literal, expected) in [
            (r#""a\tb\n\"\\""#, Some("a\tb\n\"\\")),
            (r#""\x41\u00e9\U0001F600\101""#, Some("Aé😀A")),
            (r#""\xc3\xa9""#, Some("é")),
            (r#""\'""#, None),
            (r#""\q""#, None),
            (r#""\u12""#, None),
            (r#""\xff""#, None),
            (r#""\777""#, None),
            (r"`a\n`", Some(r"a\n")),
        ] {
            assert_eq!(text(literal).ok().as_deref(), expected, "{literal}");
        }
        for (literal, expected) in [
            ("'a'", Some(97)),
            (r"'\n'", Some(10)),
            (r"'\''", Some(39)),
            ("'é'", Some(233)),
            ("'ab'", None),
            ("''", None),
        ] {
            let said = character(literal).ok().map(|value| match value {
                Value::Int(n) => n,
                _ => -1,
            });
            assert_eq!(said, expected, "{literal}");
        }
    }
}
