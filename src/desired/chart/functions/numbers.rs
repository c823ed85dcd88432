//! Numbers: cast's idea of what is one, whole ones that wrap as Go's do, and decimal fractions.

use super::super::value::Value;
use super::args::{
    ITEMS_MAX, at_least, done, exactly, int, is_marked, listed, shown, some_mark, text,
};

type Answer = Result<Value, String>;

/// `strconv.ParseInt` with base 0: the prefix says the base.
fn parse_int(text: &str) -> Option<i64> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let lower = unsigned.to_ascii_lowercase();
    let (radix, digits) = match lower.as_bytes() {
        [b'0', b'x', ..] => (16, lower.get(2..)?),
        [b'0', b'b', ..] => (2, lower.get(2..)?),
        [b'0', b'o', ..] => (8, lower.get(2..)?),
        [b'0', _, ..] => (8, lower.get(1..)?),
        _ => (10, lower.as_str()),
    };
    let is_prefixed = digits.len() < lower.len();
    let parted = digits.replace('_', "");
    let is_parted_right = parted.len() == digits.len()
        || is_prefixed && !digits.ends_with('_') && !digits.contains("__");
    // `from_str_radix` would take a second sign.
    if !is_parted_right || !parted.bytes().all(|b| b.is_ascii_alphanumeric()) {
        return None;
    }
    let value = i128::from_str_radix(&parted, radix).ok()?;
    i64::try_from(if negative { -value } else { value }).ok()
}

/// `strconv.ParseFloat`.
fn parse_float(text: &str) -> Option<f64> {
    text.parse().ok()
}

#[allow(clippy::cast_possible_truncation, reason = "what the conversion is for; it saturates")]
fn truncated(number: f64) -> i64 {
    number as i64
}

#[allow(clippy::cast_precision_loss, reason = "what the conversion is for")]
fn widened(number: i64) -> f64 {
    number as f64
}

/// `cast.ToInt64`: 0 for what is no number.
pub(super) fn to_int(value: &Value) -> i64 {
    match value {
        Value::Bool(truth) => i64::from(*truth),
        Value::Int(number) => *number,
        Value::Float(number) => truncated(*number),
        Value::Text(text) => {
            let whole = match text.split_once('.') {
                Some((whole, fraction)) if fraction.bytes().all(|b| b.is_ascii_digit()) => {
                    match whole {
                        "" | "-" | "+" => "0",
                        other => other,
                    }
                }
                _ => text,
            };
            parse_int(whole).unwrap_or_default()
        }
        _ => 0,
    }
}

/// `cast.ToFloat64`.
fn to_float(value: &Value) -> f64 {
    match value {
        Value::Bool(truth) => f64::from(u8::from(*truth)),
        Value::Int(number) => widened(*number),
        Value::Float(number) => *number,
        Value::Text(text) => parse_float(text).unwrap_or_default(),
        _ => 0.0,
    }
}

/// The mark if one of the numbers is unforeseeable; otherwise what `from` makes.
fn whole(args: &[Value], from: impl FnOnce() -> Result<i64, String>) -> Answer {
    if args.iter().any(is_marked) { Ok(some_mark()) } else { Ok(Value::Int(from()?)) }
}

fn fraction(args: &[Value], from: impl FnOnce() -> Result<f64, String>) -> Answer {
    if args.iter().any(is_marked) { Ok(some_mark()) } else { Ok(Value::Float(from()?)) }
}

pub(super) fn int_of(args: &[Value]) -> Answer {
    let [value] = exactly("int", args)?;
    whole(args, || Ok(to_int(value)))
}

pub(super) fn float_of(args: &[Value]) -> Answer {
    let [value] = exactly("float64", args)?;
    fraction(args, || Ok(to_float(value)))
}

pub(super) fn atoi(args: &[Value]) -> Answer {
    let [value] = exactly("atoi", args)?;
    let digits = text(value)?;
    whole(args, || Ok(digits.parse().unwrap_or_default()))
}

pub(super) fn to_decimal(args: &[Value]) -> Answer {
    let [value] = exactly("toDecimal", args)?;
    whole(args, || Ok(i64::from_str_radix(&shown(value)?, 8).unwrap_or_default()))
}

pub(super) fn add(args: &[Value]) -> Answer {
    whole(args, || Ok(args.iter().map(to_int).fold(0, i64::wrapping_add)))
}

pub(super) fn add1(args: &[Value]) -> Answer {
    let [value] = exactly("add1", args)?;
    whole(args, || Ok(to_int(value).wrapping_add(1)))
}

pub(super) fn sub(args: &[Value]) -> Answer {
    let [a, b] = exactly("sub", args)?;
    whole(args, || Ok(to_int(a).wrapping_sub(to_int(b))))
}

fn divisor(value: &Value) -> Result<i64, String> {
    match to_int(value) {
        0 => Err("runtime error: integer divide by zero".to_owned()),
        other => Ok(other),
    }
}

pub(super) fn div(args: &[Value]) -> Answer {
    let [a, b] = exactly("div", args)?;
    whole(args, || Ok(to_int(a).wrapping_div(divisor(b)?)))
}

pub(super) fn modulo(args: &[Value]) -> Answer {
    let [a, b] = exactly("mod", args)?;
    whole(args, || Ok(to_int(a).wrapping_rem(divisor(b)?)))
}

pub(super) fn mul(args: &[Value]) -> Answer {
    let ([first], rest) = at_least("mul", args)?;
    whole(args, || Ok(rest.iter().map(to_int).fold(to_int(first), i64::wrapping_mul)))
}

pub(super) fn max(args: &[Value]) -> Answer {
    let ([first], rest) = at_least("max", args)?;
    whole(args, || Ok(rest.iter().map(to_int).fold(to_int(first), i64::max)))
}

pub(super) fn min(args: &[Value]) -> Answer {
    let ([first], rest) = at_least("min", args)?;
    whole(args, || Ok(rest.iter().map(to_int).fold(to_int(first), i64::min)))
}

pub(super) fn maxf(args: &[Value]) -> Answer {
    let ([first], rest) = at_least("maxf", args)?;
    fraction(args, || Ok(rest.iter().map(to_float).fold(to_float(first), f64::max)))
}

pub(super) fn minf(args: &[Value]) -> Answer {
    let ([first], rest) = at_least("minf", args)?;
    fraction(args, || Ok(rest.iter().map(to_float).fold(to_float(first), f64::min)))
}

/// A decimal fraction: what shopspring's `decimal` computes with, as far as 128 bits reach.
#[derive(Clone, Copy)]
struct Decimal {
    digits: i128,
    /// So many of them stand behind the point; at most 60.
    scale: u32,
}

impl Decimal {
    /// Fraction digits of a quotient, as in `decimal`.
    const DIVISION: u32 = 16;

    fn of(number: f64) -> Option<Self> {
        let text = number.to_string();
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let scale = u32::try_from(fraction.len()).ok().filter(|scale| *scale <= 30)?;
        Some(Self { digits: format!("{whole}{fraction}").parse().ok()?, scale })
    }

    fn at_scale(self, scale: u32) -> Option<i128> {
        self.digits.checked_mul(10_i128.checked_pow(scale.checked_sub(self.scale)?)?)
    }

    fn add(self, other: Self) -> Option<Self> {
        let scale = self.scale.max(other.scale);
        Some(Self { digits: self.at_scale(scale)?.checked_add(other.at_scale(scale)?)?, scale })
    }

    fn mul(self, other: Self) -> Option<Self> {
        let scale = self.scale.checked_add(other.scale).filter(|scale| *scale <= 60)?;
        Some(Self { digits: self.digits.checked_mul(other.digits)?, scale })
    }

    fn div(self, other: Self) -> Option<Self> {
        let scale = self.scale.max(other.scale);
        let divisor = other.at_scale(scale)?;
        let dividend = self.at_scale(scale.checked_add(Self::DIVISION)?)?;
        let (quotient, rest) = (dividend.checked_div(divisor)?, dividend.checked_rem(divisor)?);
        let is_half = rest.unsigned_abs().checked_mul(2)? >= divisor.unsigned_abs();
        let away = if (dividend < 0) == (divisor < 0) { 1 } else { -1 };
        let digits = if is_half { quotient.checked_add(away)? } else { quotient };
        Some(Self { digits, scale: Self::DIVISION })
    }

    fn to_float(self) -> Option<f64> {
        format!("{}e-{}", self.digits, self.scale).parse().ok()
    }
}

/// Folds numbers, exactly where that can be done.
fn folded(
    first: f64,
    rest: &[Value],
    exact: fn(Decimal, Decimal) -> Option<Decimal>,
    rough: fn(f64, f64) -> f64,
) -> f64 {
    let all = || rest.iter().map(to_float);
    let start = Decimal::of(first);
    let sum = start.and_then(|start| all().try_fold(start, |a, b| exact(a, Decimal::of(b)?)));
    sum.and_then(Decimal::to_float).unwrap_or_else(|| all().fold(first, rough))
}

fn added(first: f64, rest: &[Value]) -> f64 {
    folded(first, rest, Decimal::add, |a, b| a + b)
}

pub(super) fn add1f(args: &[Value]) -> Answer {
    let [value] = exactly("add1f", args)?;
    fraction(args, || Ok(added(to_float(value), &[Value::Int(1)])))
}

pub(super) fn addf(args: &[Value]) -> Answer {
    fraction(args, || Ok(added(0.0, args)))
}

pub(super) fn subf(args: &[Value]) -> Answer {
    let ([first], rest) = at_least("subf", args)?;
    let negated: Vec<Value> = rest.iter().map(|value| Value::Float(-to_float(value))).collect();
    fraction(args, || Ok(added(to_float(first), &negated)))
}

pub(super) fn mulf(args: &[Value]) -> Answer {
    let ([first], rest) = at_least("mulf", args)?;
    fraction(args, || Ok(folded(to_float(first), rest, Decimal::mul, |a, b| a * b)))
}

#[allow(clippy::float_cmp, reason = "zero itself")]
pub(super) fn divf(args: &[Value]) -> Answer {
    let ([first], rest) = at_least("divf", args)?;
    fraction(args, || {
        if rest.iter().any(|value| to_float(value) == 0.0) {
            return Err("decimal division by 0".to_owned());
        }
        Ok(folded(to_float(first), rest, Decimal::div, |a, b| a / b))
    })
}

pub(super) fn floor(args: &[Value]) -> Answer {
    let [value] = exactly("floor", args)?;
    fraction(args, || Ok(to_float(value).floor()))
}

pub(super) fn ceil(args: &[Value]) -> Answer {
    let [value] = exactly("ceil", args)?;
    fraction(args, || Ok(to_float(value).ceil()))
}

pub(super) fn round(args: &[Value]) -> Answer {
    let ([value, places], rest) = at_least("round", args)?;
    let places = int(places)?;
    let half = match rest {
        [] => 0.5,
        [half] => to_float(half),
        _ => return Err(format!("wrong number of args for round: want 3 got {}", args.len())),
    };
    fraction(args, || {
        let power = 10_f64.powi(i32::try_from(places.clamp(-400, 400)).unwrap_or_default());
        let digit = power * to_float(value);
        let rounded = if digit.fract() >= half { digit.ceil() } else { digit.floor() };
        Ok(rounded / power)
    })
}

/// The numbers from `start` to before `stop`.
fn steps(start: i64, stop: i64, step: i64) -> Result<Vec<i64>, String> {
    let is_down = stop < start;
    if step == 0 || is_down != (step < 0) {
        return Ok(Vec::new());
    }
    let (mut all, mut at) = (Vec::new(), start);
    while if is_down { at > stop } else { at < stop } {
        if all.len() == ITEMS_MAX {
            return Err(format!("the list would have more than {ITEMS_MAX} items"));
        }
        all.push(at);
        let Some(next) = at.checked_add(step) else { break };
        at = next;
    }
    Ok(all)
}

fn numbers(all: Vec<i64>) -> Answer {
    listed(all.into_iter().map(Value::Int).collect())
}

pub(super) fn until(args: &[Value]) -> Answer {
    let [stop] = exactly("until", args)?;
    let stop = int(stop)?;
    numbers(steps(0, stop, if stop < 0 { -1 } else { 1 })?)
}

pub(super) fn until_step(args: &[Value]) -> Answer {
    let [start, stop, step] = exactly("untilStep", args)?;
    numbers(steps(int(start)?, int(stop)?, int(step)?)?)
}

pub(super) fn seq(args: &[Value]) -> Answer {
    let params: Vec<i64> = args.iter().map(int).collect::<Result<_, _>>()?;
    let (start, step, end) = match params.as_slice() {
        [end] => (1, None, *end),
        [start, end] => (*start, None, *end),
        [start, step, end] => (*start, Some(*step), *end),
        _ => return done(""),
    };
    let toward = if end < start { -1 } else { 1 };
    if toward < 0 && step.is_some_and(|step| step > 0) {
        return done("");
    }
    let all = steps(start, end.saturating_add(toward), step.unwrap_or(toward))?;
    done(all.iter().map(i64::to_string).collect::<Vec<_>>().join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(answer: Answer) -> String {
        match answer {
            Ok(Value::Int(number)) => number.to_string(),
            Ok(Value::Float(number)) => format!("{number:?}"),
            Ok(Value::Text(text)) => format!("{text:?}"),
            Ok(Value::List(items)) => items.iter().map(|item| format!("{item:?} ")).collect(),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn texts_become_numbers_as_cast_does() {
        let table = [
            ("8", 8),
            ("-8", -8),
            ("+8", 8),
            ("08", 0),
            ("010", 8),
            ("0x1F", 31),
            ("0b11", 3),
            ("8.7", 8),
            ("8.", 8),
            (".5", 0),
            ("8.x", 0),
            ("x", 0),
            ("", 0),
            ("1_000", 0),
            ("0x_10", 16),
            ("--1", 0),
            ("9223372036854775807", i64::MAX),
            ("9223372036854775808", 0),
        ];
        for (text, number) in table {
            assert_eq!(to_int(&Value::text(text)), number, "{text:?}");
        }
        assert_eq!(to_int(&Value::Float(-2.9)), -2);
        assert_eq!(to_int(&Value::Bool(true)), 1);
        assert_eq!(to_int(&Value::Null), 0);
    }

    #[test]
    fn arithmetic_is_gos() {
        let (i, f) = (Value::Int, Value::Float);
        let table: [(Answer, &str); 24] = [
            (add(&[i(1), i(2), Value::text("3")]), "6"),
            (add(&[]), "0"),
            (add1(&[i(i64::MAX)]), "-9223372036854775808"),
            (sub(&[i(1), f(2.9)]), "-1"),
            (div(&[i(-7), i(2)]), "-3"),
            (div(&[i(i64::MIN), i(-1)]), "-9223372036854775808"),
            (modulo(&[i(-7), i(2)]), "-1"),
            (div(&[i(1), i(0)]), "Err(\"runtime error: integer divide by zero\")"),
            (mul(&[i(2), i(3), i(4)]), "24"),
            (max(&[i(2), i(9), i(4)]), "9"),
            (minf(&[f(2.5), i(1)]), "1.0"),
            (addf(&[f(0.1), f(0.2)]), "0.3"),
            (subf(&[f(0.3), f(0.1)]), "0.2"),
            (mulf(&[f(1.1), f(1.1)]), "1.21"),
            (divf(&[i(1), i(3)]), "0.3333333333333333"),
            (divf(&[i(-2), i(3)]), "-0.6666666666666667"),
            (floor(&[Value::text("1.7")]), "1.0"),
            (ceil(&[f(1.2)]), "2.0"),
            (round(&[f(123.5555), i(3)]), "123.556"),
            (round(&[f(123.5555), i(0)]), "124.0"),
            (seq(&[i(5)]), "\"1 2 3 4 5\""),
            (seq(&[i(0), i(2), i(10)]), "\"0 2 4 6 8 10\""),
            (seq(&[i(2), i(-2)]), "\"2 1 0 -1 -2\""),
            (until(&[i(3)]), "Int(0) Int(1) Int(2) "),
        ];
        for (at, (answer, text)) in table.into_iter().enumerate() {
            assert_eq!(shown(answer), text, "{at}");
        }
        assert!(until(&[i(i64::MAX)]).is_err());
        assert!(seq(&[i(i64::MIN), i(i64::MAX)]).is_err());
        assert_eq!(shown(to_decimal(&[Value::text("0777")])), "511");
        assert_eq!(shown(until_step(&[i(3), i(0), i(-2)])), "Int(3) Int(1) ");
    }

    #[test]
    fn a_number_that_is_a_mark_stays_one() {
        for function in [add as fn(&[Value]) -> Answer, int_of, floor, add1, addf] {
            assert!(function(&[some_mark()]).is_ok_and(|value| is_marked(&value)));
        }
    }
}
