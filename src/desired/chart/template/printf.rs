//! Go's `fmt.Sprintf`, `Sprint` and `Sprintln`.

use super::super::value::{MARK, Value};
use super::format::{
    TEXT_MAX, exponent, fixed, general, is_printable, quoted, try_print, type_name, within,
};

/// The greatest width or precision that is printed: Rust's own formatting panics above 65,535.
const WIDTH_MAX: usize = 60_000;
/// Above this, Go takes a width or precision from an argument for a bad one.
const BAD_WIDTH: usize = 1_000_000;
/// How deep values may nest that are printed with a verb.
const DEPTH_MAX: usize = 100;

/// `Sprint`: a blank between two operands neither of which is text.
pub(in crate::desired::chart) fn sprint(values: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    let mut after_text = true;
    for value in values {
        let is_text = matches!(value, Value::Text(_));
        if !after_text && !is_text {
            out.push(' ');
        }
        out.push_str(&try_print(value)?);
        within(&out)?;
        after_text = is_text;
    }
    Ok(out)
}

/// `Sprintln`: blanks between all operands, and a line's end.
pub(super) fn sprintln(values: &[Value]) -> Result<String, String> {
    let mut out = String::new();
    for (i, value) in values.iter().enumerate() {
        if i > 0 {
            out.push(' ');
        }
        out.push_str(&try_print(value)?);
        within(&out)?;
    }
    out.push('\n');
    Ok(out)
}

/// `Sprintf`. A marked argument stays marked, however it's printed.
pub(in crate::desired::chart) fn sprintf(format: &str, values: &[Value]) -> Result<String, String> {
    let mut printer = Printer { values, next: 0, reordered: false, out: String::new() };
    printer.run(format)?;
    let text = printer.out;
    if !text.contains(MARK) && values.iter().any(is_marked) {
        return Ok(MARK.to_string().repeat(10));
    }
    Ok(text)
}

fn is_marked(value: &Value) -> bool {
    match value {
        Value::Text(text) => text.contains(MARK),
        Value::List(_) | Value::Map(_) => try_print(value).is_ok_and(|text| text.contains(MARK)),
        _ => false,
    }
}

/// What stands between `%` and the verb.
#[derive(Clone, Copy, Default)]
struct Spec {
    minus: bool,
    plus: bool,
    sharp: bool,
    space: bool,
    zero: bool,
    width: Option<usize>,
    precision: Option<usize>,
}

struct Printer<'v> {
    values: &'v [Value],
    next: usize,
    /// Whether an argument was named by its number, so that left ones aren't too many.
    reordered: bool,
    out: String,
}

type Characters<'f> = std::iter::Peekable<std::str::Chars<'f>>;

impl Printer<'_> {
    fn run(&mut self, format: &str) -> Result<(), String> {
        let mut rest = format.chars().peekable();
        while let Some(c) = rest.next() {
            if c == '%' {
                self.directive(&mut rest)?;
                within(&self.out)?;
            } else {
                self.out.push(c);
            }
        }
        if !self.reordered && self.next < self.values.len() {
            self.out.push_str("%!(EXTRA ");
            for (i, value) in self.values.iter().enumerate().skip(self.next) {
                if i > self.next {
                    self.out.push_str(", ");
                }
                match value {
                    Value::Null => self.out.push_str("<nil>"),
                    _ => {
                        let text = format!("{}={}", type_name(value), try_print(value)?);
                        self.out.push_str(&text);
                    }
                }
            }
            self.out.push(')');
        }
        within(&self.out)
    }

    fn directive(&mut self, rest: &mut Characters<'_>) -> Result<(), String> {
        let mut spec = Spec::default();
        let mut sound = true;
        while let Some(c) = rest.peek() {
            match c {
                '#' => spec.sharp = true,
                '0' => spec.zero = true,
                '+' => spec.plus = true,
                '-' => spec.minus = true,
                ' ' => spec.space = true,
                _ => break,
            }
            rest.next();
        }
        sound &= self.numbered(rest);
        spec.width = self.size(rest, true, &mut spec.minus);
        if rest.next_if_eq(&'.').is_some() {
            sound &= self.numbered(rest);
            let mut ignored = false;
            spec.precision = self.size(rest, false, &mut ignored);
        }
        sound &= self.numbered(rest);
        let Some(verb) = rest.next() else {
            self.out.push_str("%!(NOVERB)");
            return Ok(());
        };
        if verb == '%' {
            self.out.push('%');
            return Ok(());
        }
        if !sound {
            self.out.push_str(&format!("%!{verb}(BADINDEX)"));
            return Ok(());
        }
        let Some(value) = self.values.get(self.next) else {
            self.out.push_str(&format!("%!{verb}(MISSING)"));
            return Ok(());
        };
        self.next = self.next.saturating_add(1);
        // `%+v` is about fields' names, not about signs.
        spec.plus &= verb != 'v';
        self.value(value, verb, spec, 0)
    }

    /// `[3]`: the number of the next argument. Tells whether there is one such.
    fn numbered(&mut self, rest: &mut Characters<'_>) -> bool {
        if rest.next_if_eq(&'[').is_none() {
            return true;
        }
        self.reordered = true;
        let inside: String = std::iter::from_fn(|| rest.next_if(|c| *c != ']')).collect();
        let closed = rest.next().is_some();
        match inside.parse::<usize>() {
            Ok(number) if closed && (1..=self.values.len()).contains(&number) => {
                self.next = number.saturating_sub(1);
                true
            }
            _ => false,
        }
    }

    /// A width or a precision: digits, or a star that stands for the next argument.
    fn size(&mut self, rest: &mut Characters<'_>, wide: bool, minus: &mut bool) -> Option<usize> {
        if rest.next_if_eq(&'*').is_none() {
            let digits: String =
                std::iter::from_fn(|| rest.next_if(char::is_ascii_digit)).collect();
            // A point alone is a precision of zero.
            let none = if wide { None } else { Some(0) };
            return if digits.is_empty() {
                none
            } else {
                digits.parse().ok().or(Some(WIDTH_MAX + 1))
            };
        }
        let given = self.values.get(self.next);
        self.next = self.next.saturating_add(1);
        let number = match given {
            Some(Value::Int(number)) => *number,
            _ => i64::MIN,
        };
        let size = usize::try_from(number.unsigned_abs()).unwrap_or(usize::MAX);
        if size > BAD_WIDTH || (number < 0 && !wide) {
            self.out.push_str(if wide { "%!(BADWIDTH)" } else { "%!(BADPREC)" });
            return None;
        }
        *minus |= number < 0;
        Some(size)
    }

    fn value(&mut self, value: &Value, verb: char, spec: Spec, depth: usize) -> Result<(), String> {
        if depth > DEPTH_MAX {
            return Err(format!("a value nested deeper than {DEPTH_MAX} levels can't be printed"));
        }
        if spec.width.unwrap_or(0).max(spec.precision.unwrap_or(0)) > WIDTH_MAX {
            return Err(format!("a width above {WIDTH_MAX} can't be printed"));
        }
        within(&self.out)?;
        if verb == 'T' && depth == 0 {
            self.pad(type_name(value), spec);
            return Ok(());
        }
        if verb == 'v' && spec.sharp {
            return self.syntax(value, depth);
        }
        match value {
            Value::Null => self.null(verb, spec, depth),
            Value::Bool(flag) if matches!(verb, 't' | 'v') => {
                self.pad(if *flag { "true" } else { "false" }, spec);
            }
            Value::Int(number) if "vdboOxXcqU".contains(verb) => self.integer(*number, verb, spec),
            Value::Float(number) if "vgGeEfF".contains(verb) => self.float(*number, verb, spec),
            Value::Float(_) if "bxX".contains(verb) => {
                return Err(format!("printf: %{verb} of a float64 isn't supported"));
            }
            Value::Text(text) if "vsqxX".contains(verb) => self.text(text, verb, spec),
            Value::List(items) => {
                self.out.push('[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        self.out.push(' ');
                    }
                    self.value(item, verb, spec, depth.saturating_add(1))?;
                }
                self.out.push(']');
            }
            Value::Map(entries) => {
                self.out.push_str("map[");
                for (i, (key, item)) in entries.borrow().iter().enumerate() {
                    if i > 0 {
                        self.out.push(' ');
                    }
                    self.value(&Value::Text(key.clone()), verb, spec, depth.saturating_add(1))?;
                    self.out.push(':');
                    self.value(item, verb, spec, depth.saturating_add(1))?;
                }
                self.out.push(']');
            }
            Value::Host(_) => self.pad(&try_print(value)?, spec),
            _ => {
                self.out.push_str(&format!("%!{verb}({}=", type_name(value)));
                self.value(value, 'v', Spec { sharp: false, ..spec }, depth.saturating_add(1))?;
                self.out.push(')');
            }
        }
        within(&self.out)
    }

    fn null(&mut self, verb: char, spec: Spec, depth: usize) {
        if verb == 'v' && depth == 0 {
            self.pad("<nil>", spec);
        } else if depth > 0 {
            self.out.push_str("<nil>");
        } else {
            self.out.push_str(&format!("%!{verb}(<nil>)"));
        }
    }

    /// `%#v`: the value in Go's syntax.
    fn syntax(&mut self, value: &Value, depth: usize) -> Result<(), String> {
        let spec = Spec::default();
        let deeper = depth.saturating_add(1);
        let inner = Spec { sharp: true, ..spec };
        match value {
            Value::Null => {
                self.out.push_str(if depth == 0 { "<nil>" } else { "interface {}(nil)" });
            }
            Value::Text(text) => self.out.push_str(&quoted(text, '"', false)),
            Value::List(items) => {
                self.out.push_str("[]interface {}{");
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        self.out.push_str(", ");
                    }
                    self.value(item, 'v', inner, deeper)?;
                }
                self.out.push('}');
            }
            Value::Map(entries) => {
                self.out.push_str("map[string]interface {}{");
                for (i, (key, item)) in entries.borrow().iter().enumerate() {
                    if i > 0 {
                        self.out.push_str(", ");
                    }
                    self.out.push_str(&quoted(key, '"', false));
                    self.out.push(':');
                    self.value(item, 'v', inner, deeper)?;
                }
                self.out.push('}');
            }
            other => self.value(other, 'v', spec, depth)?,
        }
        Ok(())
    }

    fn text(&mut self, text: &str, verb: char, spec: Spec) {
        if matches!(verb, 'x' | 'X') {
            let bytes = text.bytes().take(spec.precision.unwrap_or(usize::MAX));
            let mut hex = String::new();
            for (i, byte) in bytes.enumerate() {
                if i > 0 && spec.space {
                    hex.push(' ');
                }
                if spec.sharp && (i == 0 || spec.space) {
                    hex.push_str("0x");
                }
                hex.push_str(&format!("{byte:02x}"));
            }
            let hex = if verb == 'X' { hex.to_uppercase() } else { hex };
            return self.pad(&hex, spec);
        }
        let cut: String = match spec.precision {
            Some(precision) => text.chars().take(precision).collect(),
            None => text.to_owned(),
        };
        if verb != 'q' {
            return self.pad(&cut, spec);
        }
        let backquoted = |c: char| c != '`' && c != '\u{feff}' && (c == '\t' || !c.is_control());
        if spec.sharp && cut.chars().all(backquoted) {
            return self.pad(&format!("`{cut}`"), spec);
        }
        self.pad(&quoted(&cut, '"', spec.plus), spec);
    }

    fn integer(&mut self, number: i64, verb: char, spec: Spec) {
        let character = u32::try_from(number).ok().and_then(char::from_u32);
        match verb {
            'c' => return self.pad(&character.unwrap_or('\u{fffd}').to_string(), spec),
            'q' => {
                let c = character.unwrap_or('\u{fffd}').to_string();
                return self.pad(&quoted(&c, '\'', spec.plus), spec);
            }
            'U' => {
                let digits = spec.precision.unwrap_or(4).max(4);
                let mut text = format!("U+{number:0digits$X}");
                if let Some(c) = character.filter(|c| spec.sharp && is_printable(*c)) {
                    text.push_str(&format!(" '{c}'"));
                }
                return self.pad(&text, Spec { zero: false, ..spec });
            }
            _ => {}
        }
        if spec.precision == Some(0) && number == 0 {
            return self.pad("", Spec { zero: false, ..spec });
        }
        let amount = number.unsigned_abs();
        let digits = match verb {
            'b' => format!("{amount:b}"),
            'o' | 'O' => format!("{amount:o}"),
            'x' => format!("{amount:x}"),
            'X' => format!("{amount:X}"),
            _ => amount.to_string(),
        };
        let sign = sign(number < 0, spec);
        let wanted = match (spec.precision, spec.width) {
            (Some(precision), _) => precision,
            (None, Some(width)) if spec.zero && !spec.minus => width.saturating_sub(sign.len()),
            _ => 0,
        };
        let mut digits = format!("{digits:0>wanted$}");
        if spec.sharp {
            digits = match verb {
                'b' => format!("0b{digits}"),
                'o' if !digits.starts_with('0') => format!("0{digits}"),
                'x' => format!("0x{digits}"),
                'X' => format!("0X{digits}"),
                _ => digits,
            };
        }
        if verb == 'O' {
            digits = format!("0o{digits}");
        }
        self.pad(&format!("{sign}{digits}"), Spec { zero: false, ..spec });
    }

    fn float(&mut self, number: f64, verb: char, spec: Spec) {
        let amount = number.abs();
        let text = match verb {
            'e' | 'E' => exponent(amount, Some(spec.precision.unwrap_or(6))),
            'f' | 'F' => fixed(amount, Some(spec.precision.unwrap_or(6))),
            _ => general(amount, spec.precision, spec.sharp),
        };
        let text = if matches!(verb, 'E' | 'G') { text.to_uppercase() } else { text };
        let (text, zero) = if number.is_finite() {
            (text, spec.zero)
        } else {
            (if number.is_nan() { "NaN" } else { "Inf" }.to_owned(), false)
        };
        let mut sign = sign(number.is_sign_negative() && !number.is_nan(), spec);
        if number.is_infinite() && sign.is_empty() {
            sign = "+";
        }
        if zero && !spec.minus {
            let wanted = spec.width.unwrap_or(0).saturating_sub(sign.len());
            self.out.push_str(&format!("{sign}{text:0>wanted$}"));
        } else {
            self.pad(&format!("{sign}{text}"), Spec { zero: false, ..spec });
        }
    }

    /// The text, filled up to the width.
    fn pad(&mut self, text: &str, spec: Spec) {
        let width = spec.width.unwrap_or(0).min(TEXT_MAX);
        let missing = width.saturating_sub(text.chars().count());
        if spec.minus {
            self.out.push_str(text);
            self.out.push_str(&" ".repeat(missing));
        } else {
            self.out.push_str(&if spec.zero { "0" } else { " " }.repeat(missing));
            self.out.push_str(text);
        }
    }
}

const fn sign(negative: bool, spec: Spec) -> &'static str {
    match (negative, spec.plus, spec.space) {
        (true, _, _) => "-",
        (false, true, _) => "+",
        (false, false, true) => " ",
        (false, false, false) => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::rc::Rc;

    fn text(text: &str) -> Value {
        Value::text(text)
    }

    #[test]
    fn verbs_print_as_in_go() {
        let list = Value::list(vec![Value::Int(1), text("a"), Value::Null]);
        let map = Value::map(BTreeMap::from([
            (Rc::from("a"), Value::Int(1)),
            (Rc::from("b"), text("x")),
        ]));
        for (format, value, expected) in [
            ("%s", text("a"), "a"),
            ("%v", text("a"), "a"),
            ("%q", text("a\"\n"), r#""a\"\n""#),
            ("%#q", text("a"), "`a`"),
            ("%+q", text("é"), r#""\u00e9""#),
            ("%x", text("hi"), "6869"),
            ("% X", text("hi"), "68 69"),
            ("%#x", text("hi"), "0x6869"),
            ("%5s|", text("ab"), "   ab|"),
            ("%-5s|", text("ab"), "ab   |"),
            ("%05s|", text("ab"), "000ab|"),
            ("%.2s", text("héllo"), "hé"),
            ("%.3q", text("hello"), "\"hel\""),
            ("%d", text("x"), "%!d(string=x)"),
            ("%t", text("x"), "%!t(string=x)"),
            ("%d", Value::Int(42), "42"),
            ("%5d|", Value::Int(42), "   42|"),
            ("%-5d|", Value::Int(42), "42   |"),
            ("%05d", Value::Int(-42), "-0042"),
            ("%+d", Value::Int(42), "+42"),
            ("% d", Value::Int(42), " 42"),
            ("%.3d", Value::Int(7), "007"),
            ("%x", Value::Int(255), "ff"),
            ("%X", Value::Int(255), "FF"),
            ("%#x", Value::Int(255), "0xff"),
            ("%o", Value::Int(8), "10"),
            ("%#o", Value::Int(8), "010"),
            ("%O", Value::Int(8), "0o10"),
            ("%b", Value::Int(5), "101"),
            ("%c", Value::Int(65), "A"),
            ("%q", Value::Int(65), "'A'"),
            ("%U", Value::Int(0x1F600), "U+1F600"),
            ("%#U", Value::Int(65), "U+0041 'A'"),
            ("%s", Value::Int(1), "%!s(int=1)"),
            ("%f", Value::Int(1), "%!f(int=1)"),
            ("%f", Value::Float(1.5), "1.500000"),
            ("%.2f", Value::Float(2.675), "2.67"),
            ("%.0f", Value::Float(2.5), "2"),
            ("%8.2f|", Value::Float(-1.5), "   -1.50|"),
            ("%08.2f", Value::Float(-1.5), "-0001.50"),
            ("%+.1f", Value::Float(1.0), "+1.0"),
            ("%e", Value::Float(123_456.0), "1.234560e+05"),
            ("%g", Value::Float(1e6), "1e+06"),
            ("%#g", Value::Float(1.5), "1.50000"),
            ("%#g", Value::Float(123_456_789.0), "1.23456789e+08"),
            ("%5s", Value::Int(1), "%!s(int=    1)"),
            ("%.2f", Value::Int(1), "%!f(int=01)"),
            ("%v", Value::Float(1e6), "1e+06"),
            ("%G", Value::Float(1e-7), "1E-07"),
            ("%d", Value::Float(1.0), "%!d(float64=1)"),
            ("%s", Value::Float(1.0), "%!s(float64=1)"),
            ("%v", Value::Float(f64::INFINITY), "+Inf"),
            ("%05v", Value::Float(f64::NEG_INFINITY), " -Inf"),
            ("%t", Value::Bool(true), "true"),
            ("%s", Value::Bool(true), "%!s(bool=true)"),
            ("%6t|", Value::Bool(true), "  true|"),
            ("%v", Value::Null, "<nil>"),
            ("%s", Value::Null, "%!s(<nil>)"),
            ("%d", Value::Null, "%!d(<nil>)"),
            ("%v", list.clone(), "[1 a <nil>]"),
            ("%s", list.clone(), "[%!s(int=1) a <nil>]"),
            ("%#v", list.clone(), r#"[]interface {}{1, "a", interface {}(nil)}"#),
            ("%T", list, "[]interface {}"),
            ("%v", map.clone(), "map[a:1 b:x]"),
            ("%+v", map.clone(), "map[a:1 b:x]"),
            ("%#v", map.clone(), r#"map[string]interface {}{"a":1, "b":"x"}"#),
            ("%T", map, "map[string]interface {}"),
            ("%#v", text("a"), "\"a\""),
            ("%T", Value::Null, "<nil>"),
            ("%T", text(""), "string"),
            ("%z", Value::Int(1), "%!z(int=1)"),
            ("100%", Value::Int(1), "100%!(NOVERB)%!(EXTRA int=1)"),
            ("%[1]d-%[1]d", Value::Int(3), "3-3"),
            ("%[2]d", Value::Int(3), "%!d(BADINDEX)"),
            ("%d %d", Value::Int(3), "3 %!d(MISSING)"),
            ("%%", Value::Int(3), "%%!(EXTRA int=3)"),
        ] {
            assert_eq!(
                sprintf(format, std::slice::from_ref(&value)).unwrap(),
                expected,
                "{format} {value:?}"
            );
        }
    }

    #[test]
    fn widths_come_from_arguments_too() {
        for (format, values, expected) in [
            ("%*d|", vec![Value::Int(4), Value::Int(1)], "   1|"),
            ("%-*d|", vec![Value::Int(4), Value::Int(1)], "1   |"),
            ("%*d|", vec![Value::Int(-4), Value::Int(1)], "1   |"),
            ("%.*f", vec![Value::Int(1), Value::Float(1.0)], "1.0"),
            ("%*d", vec![text("x"), Value::Int(1)], "%!(BADWIDTH)1"),
            ("%[2]s %[1]s", vec![text("a"), text("b")], "b a"),
            ("a", vec![Value::Null, text("b")], "a%!(EXTRA <nil>, string=b)"),
        ] {
            assert_eq!(sprintf(format, &values).unwrap(), expected, "{format}");
        }
        for format in ["%99999999999999999999d", "%70000s", "%.70000f", "%070000d", "%.70000g"] {
            assert!(sprintf(format, &[Value::Float(1.0)]).is_err(), "{format}");
            let most = format.replace("70000", "60000");
            let said = sprintf(&most, &[Value::Float(1.0)]);
            assert_eq!(said.is_ok(), most.contains("60000"), "{most}");
        }
        assert!(sprintf(&"%60000d".repeat(90), &vec![Value::Int(1); 90]).is_err());
    }

    #[test]
    fn print_puts_blanks_between_what_is_no_text() {
        for (values, expected) in [
            (vec![text("a"), text("b")], "ab"),
            (vec![Value::Int(1), Value::Int(2)], "1 2"),
            (vec![text("a"), Value::Int(1), Value::Int(2), text("b")], "a1 2b"),
            (vec![Value::Null, Value::Bool(true)], "<nil> true"),
            (vec![], ""),
        ] {
            assert_eq!(sprint(&values).unwrap(), expected);
        }
        assert_eq!(sprintln(&[text("a"), text("b"), Value::Int(1)]).unwrap(), "a b 1\n");
    }

    #[test]
    fn a_mark_stays() {
        let marked = text(&MARK.to_string().repeat(3));
        for format in ["%s", "%q", "%x", "%+q"] {
            assert!(
                sprintf(format, std::slice::from_ref(&marked)).unwrap().contains(MARK),
                "{format}"
            );
        }
    }
}
