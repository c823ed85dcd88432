//! Regular expressions in Go's syntax, by the `regex` crate: both go back to RE2.
//!
//! What differs is translated: `\d`, `\w`, `\s` and `\b` know ASCII only in Go, brackets in a class are
//! plain characters there, `\Q…\E` quotes, and a brace that counts nothing stands for itself.

use regex::{Captures, Regex, RegexBuilder};

use super::super::value::Value;
use super::args::{ITEMS_MAX, done, exactly, fits, int, is_marked, mark, text, texts};

type Answer = Result<Value, String>;

/// A compiled expression may take this many bytes; one that counts far is large.
const SIZE_MAX: usize = 128 << 10;

/// How many bytes may be looked at for all matches of an expression in a text: from each match on the rest
/// is looked at again, at the worst.
const LOOKED_AT_MAX: usize = 128 << 20;

/// How long a text may be in which is sought.
const SOUGHT_MAX: usize = 1 << 20;

/// A text in which may be sought.
fn sought(whole: &str) -> Result<&str, String> {
    if whole.len() > SOUGHT_MAX {
        return Err(format!("a text of more than {} MiB can't be searched", SOUGHT_MAX >> 20));
    }
    Ok(whole)
}

/// Counts what is looked at after each match.
#[derive(Default)]
struct Gaze(usize);

impl Gaze {
    fn on(&mut self, rest: usize) -> Result<(), String> {
        self.0 = self.0.saturating_add(rest);
        if self.0 > LOOKED_AT_MAX {
            return Err("there are too many matches in too long a text".to_owned());
        }
        Ok(())
    }
}

/// An expression may be this long.
const PATTERN_MAX: usize = 16 << 10;

fn compiled(pattern: &str) -> Result<Regex, String> {
    if pattern.len() > PATTERN_MAX {
        return Err("error parsing regexp: expression too large".to_owned());
    }
    let build = RegexBuilder::new(&translated(pattern)).size_limit(SIZE_MAX).build();
    build.map_err(|error| {
        let text = error.to_string();
        let reason = text.lines().last().unwrap_or_default().trim();
        let reason = reason.strip_prefix("error: ").unwrap_or(reason);
        format!("error parsing regexp: {reason}: `{pattern}`")
    })
}

/// A class of Go's as one of ours.
fn perl_class(c: char) -> Option<&'static str> {
    Some(match c {
        'd' => "[0-9]",
        'D' => "[^0-9]",
        'w' => "[0-9A-Za-z_]",
        'W' => "[^0-9A-Za-z_]",
        's' => r"[\t\n\x0C\r ]",
        'S' => r"[^\t\n\x0C\r ]",
        _ => return None,
    })
}

fn translated(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len());
    let mut rest = pattern;
    let mut is_class = false;
    while let Some(c) = rest.chars().next() {
        let after = rest.get(c.len_utf8()..).unwrap_or_default();
        rest = after;
        match c {
            '\\' => rest = escape(&mut out, after, is_class),
            '[' if is_class => match after.strip_prefix(':').and_then(|name| name.split_once(":]"))
            {
                Some((name, after))
                    if name.bytes().all(|b| b.is_ascii_alphabetic() || b == b'^') =>
                {
                    out.push_str(&format!("[:{name}:]"));
                    rest = after;
                }
                _ => out.push_str("\\["),
            },
            '[' => {
                is_class = true;
                out.push('[');
                if let Some(after) = rest.strip_prefix('^') {
                    out.push('^');
                    rest = after;
                }
                // A bracket that closes nothing yet is a character.
                if let Some(after) = rest.strip_prefix(']') {
                    out.push_str("\\]");
                    rest = after;
                }
            }
            ']' if is_class => {
                is_class = false;
                out.push(']');
            }
            '&' | '~' if is_class => out.extend(['\\', c]),
            // Two hyphens are a difference to us, and two characters to Go.
            '-' if is_class && after.starts_with('-') => out.push_str("\\-"),
            '{' if !is_class && !counts(after) => out.push_str("\\{"),
            other => out.push(other),
        }
    }
    out
}

/// Translates what follows a backslash, and gives what is left.
fn escape<'a>(out: &mut String, after: &'a str, is_class: bool) -> &'a str {
    let Some(c) = after.chars().next() else {
        out.push('\\');
        return after;
    };
    let rest = after.get(c.len_utf8()..).unwrap_or_default();
    match c {
        'Q' if !is_class => {
            let (quoted, rest) = rest.split_once("\\E").unwrap_or((rest, ""));
            out.push_str(&regex::escape(quoted));
            return rest;
        }
        'b' if !is_class => out.push_str(r"(?-u:\b)"),
        'B' if !is_class => out.push_str(r"(?-u:\B)"),
        '<' | '>' => out.push(c),
        other => match perl_class(other) {
            Some(class) => out.push_str(class),
            None => out.extend(['\\', other]),
        },
    }
    rest
}

/// Whether `2}`, `2,}` or `2,3}` follows.
fn counts(after: &str) -> bool {
    let Some((inside, _)) = after.split_once('}') else {
        return false;
    };
    let (least, most) = inside.split_once(',').unwrap_or((inside, ""));
    let is_number = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    !least.is_empty() && is_number(least) && is_number(most)
}

pub(super) fn is_match(args: &[Value]) -> Answer {
    let [pattern, whole] = exactly("regexMatch", args)?;
    Ok(Value::Bool(compiled(text(pattern)?)?.is_match(text(whole)?)))
}

/// The mark if `whole` has one and what was made of it has none.
fn kept(whole: &Value, made: Value) -> Answer {
    match (&made, whole) {
        (Value::Text(text), Value::Text(from)) if is_marked(whole) && !is_marked(&made) => {
            mark(text.chars().count().max(from.chars().count()))
        }
        _ => Ok(made),
    }
}

pub(super) fn find(args: &[Value]) -> Answer {
    let [pattern, whole] = exactly("regexFind", args)?;
    let pattern = compiled(text(pattern)?)?;
    let found = pattern.find(text(whole)?).map_or("", |found| found.as_str());
    kept(whole, done(found)?)
}

/// So many that a negative number of Go's means all.
fn limit(number: i64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}

pub(super) fn find_all(args: &[Value]) -> Answer {
    let [pattern, whole, most] = exactly("regexFindAll", args)?;
    let (pattern, most) = (compiled(text(pattern)?)?, limit(int(most)?));
    let whole = sought(text(whole)?)?;
    let (mut gaze, mut all) = (Gaze::default(), Vec::new());
    for found in pattern.find_iter(whole).take(most) {
        gaze.on(whole.len().saturating_sub(found.start()))?;
        all.push(found.as_str());
    }
    texts(all)
}

/// Replaces every match by what `replacement` writes.
fn replaced(
    args: &[Value],
    name: &str,
    replacement: impl Fn(&Captures<'_>, &str, &mut String),
) -> Answer {
    let [pattern, whole_value, by] = exactly(name, args)?;
    let (pattern, whole, by) = (compiled(text(pattern)?)?, text(whole_value)?, text(by)?);
    let whole = sought(whole)?;
    let (mut out, mut end, mut gaze) = (String::new(), 0, Gaze::default());
    for captures in pattern.captures_iter(whole) {
        let found = captures.get_match();
        gaze.on(whole.len().saturating_sub(found.start()))?;
        out.push_str(whole.get(end..found.start()).unwrap_or_default());
        // A replacement names a group at most once in three bytes.
        fits(out.len().saturating_add(by.len().saturating_mul(found.len() / 2 + 1)))?;
        replacement(&captures, by, &mut out);
        fits(out.len())?;
        end = found.end();
    }
    out.push_str(whole.get(end..).unwrap_or_default());
    kept(whole_value, done(out)?)
}

#[allow(clippy::redundant_closure_for_method_calls, reason = "the method binds one lifetime only")]
pub(super) fn replace_all(args: &[Value]) -> Answer {
    replaced(args, "regexReplaceAll", |captures, by, out| captures.expand(by, out))
}

pub(super) fn replace_all_literal(args: &[Value]) -> Answer {
    replaced(args, "regexReplaceAllLiteral", |_, by, out| out.push_str(by))
}

/// `regexp.Split`.
pub(super) fn split(args: &[Value]) -> Answer {
    let [pattern, whole, most] = exactly("regexSplit", args)?;
    let (expression, whole, most) = (text(pattern)?, text(whole)?, limit(int(most)?));
    let pattern = compiled(expression)?;
    if most == 0 {
        return texts(Vec::<&str>::new());
    }
    if !expression.is_empty() && whole.is_empty() {
        return texts([""]);
    }
    let (mut parts, mut begin, mut end) = (Vec::new(), 0, 0);
    let mut gaze = Gaze::default();
    for found in pattern.find_iter(sought(whole)?) {
        gaze.on(whole.len().saturating_sub(found.start()))?;
        if parts.len() + 1 >= most || parts.len() > ITEMS_MAX {
            break;
        }
        end = found.start();
        if found.end() != 0 {
            parts.push(whole.get(begin..end).unwrap_or_default());
        }
        begin = found.end();
    }
    if end != whole.len() {
        parts.push(whole.get(begin..).unwrap_or_default());
    }
    texts(parts)
}

pub(super) fn quote_meta(args: &[Value]) -> Answer {
    let [whole] = exactly("regexQuoteMeta", args)?;
    let mut out = String::new();
    for c in text(whole)?.chars() {
        if r"\.+*?()|[]{}^$".contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    done(out)
}

#[cfg(test)]
mod tests {
    use super::super::args::strings;
    use super::*;

    /// Calls a function; what begins with `#` is a number.
    fn call(function: fn(&[Value]) -> Answer, args: &[&str]) -> String {
        let value = |arg: &&str| match arg.strip_prefix('#') {
            Some(number) => Value::Int(number.parse().expect("a number")),
            None => Value::text(arg),
        };
        let args: Vec<Value> = args.iter().map(value).collect();
        match function(&args) {
            Ok(Value::Bool(truth)) => truth.to_string(),
            Ok(value) => strings(&value).expect("texts").join("|"),
            Err(problem) => format!("error: {problem}"),
        }
    }

    #[test]
    fn expressions_mean_what_they_mean_to_go() {
        let table: &[(&str, &str, bool)] = &[
            (r"^\d+$", "12", true),
            (r"^\d+$", "٣", false),
            (r"^[\w.-]+$", "a_b.c-d", true),
            (r"^[^\s]+$", "a b", false),
            (r"^[[]$", "[", true),
            (r"^[]a]$", "]", true),
            (r"^[a&&b]+$", "a&b", true),
            (r"^[[:alpha:]]+$", "abc", true),
            (r"^a{2}$", "aa", true),
            (r"^a{b}$", "a{b}", true),
            (r"^{{x}}$", "{{x}}", true),
            (r"^\Qa.b\E+$", "a.bb", true),
            (r"\bfoo\b", "a foo b", true),
            (r"^\/\-\_\<$", "/-_<", true),
            (r"(?i)^ABC$", "abc", true),
            (r"^(?P<n>x)$", "x", true),
            (r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", "my-name", true),
        ];
        for (pattern, whole, matches) in table {
            assert_eq!(call(is_match, &[pattern, whole]), matches.to_string(), "{pattern}");
        }
        assert!(call(is_match, &["(", "x"]).starts_with("error: error parsing regexp: "));
        assert!(call(is_match, &["(a{1000}){1000}", "x"]).starts_with("error"));
    }

    #[test]
    fn matches_are_found_replaced_and_parted() {
        type Row = (fn(&[Value]) -> Answer, &'static [&'static str], &'static str);
        let table: &[Row] = &[
            (find, &["[a-z]+", "12ab3"], "ab"),
            (find, &["x", "12ab3"], ""),
            (find_all, &["[2,4,6,8]", "123456789", "#-1"], "2|4|6|8"),
            (find_all, &["[2,4,6,8]", "123456789", "#2"], "2|4"),
            (find_all, &["a", "aaa", "#0"], ""),
            (replace_all, &["a(x*)b", "-ab-axxb-", "${1}W"], "-W-xxW-"),
            (replace_all, &["a(x*)b", "-ab-axxb-", "$1W"], "---"),
            (replace_all, &["a", "aXa", "$$"], "$X$"),
            (replace_all_literal, &["a(x*)b", "-ab-axxb-", "${1}"], "-${1}-${1}-"),
            (replace_all, &["", "ab", "-"], "-a-b-"),
            (split, &["z+", "pizza", "#-1"], "pi|a"),
            (split, &["z", "pizza", "#2"], "pi|za"),
            (split, &["a", "", "#-1"], ""),
            (split, &["", "abc", "#-1"], "a|b|c"),
            (split, &[",", "a,b,", "#-1"], "a|b|"),
            (quote_meta, &["1.2(3)"], r"1\.2\(3\)"),
        ];
        for (function, args, expected) in table {
            assert_eq!(call(*function, args), *expected, "{args:?}");
        }
    }

    #[test]
    fn a_mark_is_not_replaced_away() {
        let marked = format!("a{}", super::super::super::value::MARK);
        let args = ["[^a-z]", &marked, ""].map(Value::text);
        assert!(replace_all(&args).is_ok_and(|value| is_marked(&value)));
    }
}
