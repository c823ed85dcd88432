//! Functions of text.
//!
//! Go counts bytes where it cuts; so do we, but a text is never cut inside a character: that is an
//! error. A text with a mark in it is counted by characters, which is what it stands for.

use super::super::template::format;
use super::super::value::{MARK, Value};
use super::args::{
    ITEMS_MAX, count, done, exactly, fits, int, is_marked, joined, mark, present, shown, strings,
    text, texts,
};

type Answer = Result<Value, String>;

/// `unicode.ToUpper`: characters that become several stay as they are.
pub(super) fn upper_char(c: char) -> char {
    let mut upper = c.to_uppercase();
    match (upper.next(), upper.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

/// `unicode.ToLower`.
pub(super) fn lower_char(c: char) -> char {
    let mut lower = c.to_lowercase();
    match (lower.next(), lower.next()) {
        (Some(one), None) => one,
        _ => c,
    }
}

fn one<'a>(name: &str, args: &'a [Value]) -> Result<&'a str, String> {
    let [value] = exactly(name, args)?;
    text(value)
}

fn two<'a>(name: &str, args: &'a [Value]) -> Result<(&'a str, &'a str), String> {
    let [a, b] = exactly(name, args)?;
    Ok((text(a)?, text(b)?))
}

/// Sprig greets.
pub(super) fn hello(args: &[Value]) -> Answer {
    let [] = exactly("hello", args)?;
    done("Hello!")
}

/// Helm asks no name server unless told to.
pub(super) fn host_by_name(args: &[Value]) -> Answer {
    one("getHostByName", args)?;
    done("")
}

pub(super) fn trim(args: &[Value]) -> Answer {
    done(one("trim", args)?.trim())
}

pub(super) fn trim_all(args: &[Value]) -> Answer {
    let (cutset, whole) = two("trimAll", args)?;
    done(whole.trim_matches(|c| cutset.contains(c)))
}

pub(super) fn trim_prefix(args: &[Value]) -> Answer {
    let (prefix, whole) = two("trimPrefix", args)?;
    done(whole.strip_prefix(prefix).unwrap_or(whole))
}

pub(super) fn trim_suffix(args: &[Value]) -> Answer {
    let (suffix, whole) = two("trimSuffix", args)?;
    done(whole.strip_suffix(suffix).unwrap_or(whole))
}

pub(super) fn upper(args: &[Value]) -> Answer {
    done(one("upper", args)?.chars().map(upper_char).collect::<String>())
}

pub(super) fn lower(args: &[Value]) -> Answer {
    done(one("lower", args)?.chars().map(lower_char).collect::<String>())
}

/// `strings.Title`'s idea of what parts words.
fn parts_words(c: char) -> bool {
    if c.is_ascii() {
        return !c.is_ascii_alphanumeric() && c != '_';
    }
    !c.is_alphanumeric() && c.is_whitespace()
}

pub(super) fn title(args: &[Value]) -> Answer {
    let mut previous = ' ';
    let titled = |c: char| {
        let starts = parts_words(std::mem::replace(&mut previous, c));
        if starts { upper_char(c) } else { c }
    };
    done(one("title", args)?.chars().map(titled).collect::<String>())
}

pub(super) fn untitle(args: &[Value]) -> Answer {
    let mut starts = true;
    let lowered = |c: char| {
        if c.is_whitespace() {
            starts = true;
            return c;
        }
        if std::mem::take(&mut starts) { lower_char(c) } else { c }
    };
    done(one("untitle", args)?.chars().map(lowered).collect::<String>())
}

pub(super) fn swapcase(args: &[Value]) -> Answer {
    let mut after_space = true;
    let swapped = |c: char| {
        if c.is_uppercase() {
            after_space = false;
            lower_char(c)
        } else if c.is_lowercase() {
            after_space = false;
            upper_char(c)
        } else {
            after_space = c.is_whitespace();
            c
        }
    };
    done(one("swapcase", args)?.chars().map(swapped).collect::<String>())
}

pub(super) fn repeat(args: &[Value]) -> Answer {
    let [times, whole] = exactly("repeat", args)?;
    let whole = text(whole)?;
    if int(times)? < 0 {
        return Err("error calling repeat: strings: negative Repeat count".to_owned());
    }
    let times = count(times)?;
    fits(whole.len().saturating_mul(times))?;
    done(if whole.is_empty() { String::new() } else { whole.repeat(times) })
}

/// `whole[from..to]`, by bytes, or by characters where the text is marked.
fn cut(whole: &str, from: usize, to: usize) -> Answer {
    if is_marked(&Value::text(whole)) {
        let kept = whole.chars().skip(from).take(to.saturating_sub(from));
        return done(kept.collect::<String>());
    }
    if from > to || to > whole.len() {
        return Err(format!("slice bounds out of range [{from}:{to}] with length {}", whole.len()));
    }
    whole
        .get(from..to)
        .map_or_else(|| Err("a text can't be cut inside a character".to_owned()), done)
}

/// The length that [`cut`] goes by.
fn length(whole: &str) -> usize {
    if whole.contains(MARK) { whole.chars().count() } else { whole.len() }
}

pub(super) fn trunc(args: &[Value]) -> Answer {
    let [most, whole] = exactly("trunc", args)?;
    let (most, whole) = (int(most)?, text(whole)?);
    let length = length(whole);
    let size = usize::try_from(most.unsigned_abs()).unwrap_or(usize::MAX);
    if size >= length {
        return done(whole);
    }
    if most < 0 { cut(whole, length - size, length) } else { cut(whole, 0, size) }
}

pub(super) fn substr(args: &[Value]) -> Answer {
    let [start, end, whole] = exactly("substr", args)?;
    let (start, end, whole) = (int(start)?, int(end)?, text(whole)?);
    let length = length(whole);
    let end_at = usize::try_from(end).ok();
    let Ok(start) = usize::try_from(start) else {
        let Some(end) = end_at else {
            return Err(format!("slice bounds out of range [:{end}]"));
        };
        return cut(whole, 0, end);
    };
    cut(whole, start, end_at.filter(|end| *end <= length).unwrap_or(length))
}

pub(super) fn nospace(args: &[Value]) -> Answer {
    done(one("nospace", args)?.chars().filter(|c| !c.is_whitespace()).collect::<String>())
}

pub(super) fn initials(args: &[Value]) -> Answer {
    let whole = one("initials", args)?;
    done(whole.split_whitespace().filter_map(|word| word.chars().next()).collect::<String>())
}

pub(super) fn abbrev(args: &[Value]) -> Answer {
    let [width, whole] = exactly("abbrev", args)?;
    let (width, whole) = (int(width)?, text(whole)?);
    if width < 4 {
        return done(whole);
    }
    let chars: Vec<char> = whole.chars().collect();
    done(abbreviated(&chars, 0, usize::try_from(width).unwrap_or(usize::MAX)))
}

pub(super) fn abbrevboth(args: &[Value]) -> Answer {
    let [left, right, whole] = exactly("abbrevboth", args)?;
    let (left, right, whole) = (int(left)?, int(right)?, text(whole)?);
    if right < 4 || left > 0 && right < 7 {
        return done(whole);
    }
    let chars: Vec<char> = whole.chars().collect();
    let width = usize::try_from(right).unwrap_or(usize::MAX);
    done(abbreviated(&chars, usize::try_from(left.max(0)).unwrap_or(usize::MAX), width))
}

/// `goutils.AbbreviateFull`: `width` is at least 4, and 7 where the beginning goes too.
fn abbreviated(chars: &[char], offset: usize, width: usize) -> String {
    let of = |part: Option<&[char]>| part.unwrap_or_default().iter().collect::<String>();
    if chars.len() <= width {
        return of(Some(chars));
    }
    let room = width.saturating_sub(3);
    let last = chars.len().saturating_sub(room);
    let offset = offset.min(last);
    if offset <= 4 {
        return format!("{}...", of(chars.get(..room)));
    }
    if offset.saturating_add(room) < chars.len() {
        let rest = chars.get(offset..).unwrap_or_default();
        return format!("...{}", abbreviated(rest, 0, room));
    }
    format!("...{}", of(chars.get(last..)))
}

pub(super) fn wrap(args: &[Value]) -> Answer {
    let [width, whole] = exactly("wrap", args)?;
    wrapped(text(whole)?, int(width)?, "\n", false)
}

pub(super) fn wrap_with(args: &[Value]) -> Answer {
    let [width, separator, whole] = exactly("wrapWith", args)?;
    let separator = match text(separator)? {
        "" => "\n",
        other => other,
    };
    wrapped(text(whole)?, int(width)?, separator, true)
}

/// `goutils.WrapCustom`, by characters.
fn wrapped(whole: &str, width: i64, separator: &str, long_words: bool) -> Answer {
    let chars: Vec<char> = whole.chars().collect();
    let width = usize::try_from(width.max(1)).unwrap_or(usize::MAX);
    let mut out = String::new();
    let mut offset = 0;
    while chars.len() - offset > width {
        fits(out.len())?;
        let rest = chars.get(offset..).unwrap_or_default();
        if rest.first() == Some(&' ') {
            offset += 1;
            continue;
        }
        let line = rest.get(..=width).unwrap_or(rest);
        let (taken, skipped) = match line.iter().rposition(|c| *c == ' ') {
            Some(space) => (space, 1),
            None if long_words => (width, 0),
            None => match rest.iter().skip(width).position(|c| *c == ' ') {
                Some(space) => (width + space, 1),
                None => {
                    out.extend(rest);
                    return done(out);
                }
            },
        };
        out.extend(rest.iter().take(taken));
        out.push_str(separator);
        offset += taken + skipped;
    }
    out.extend(chars.get(offset..).unwrap_or_default());
    done(out)
}

pub(super) fn contains(args: &[Value]) -> Answer {
    let (part, whole) = two("contains", args)?;
    Ok(Value::Bool(whole.contains(part)))
}

pub(super) fn has_prefix(args: &[Value]) -> Answer {
    let (part, whole) = two("hasPrefix", args)?;
    Ok(Value::Bool(whole.starts_with(part)))
}

pub(super) fn has_suffix(args: &[Value]) -> Answer {
    let (part, whole) = two("hasSuffix", args)?;
    Ok(Value::Bool(whole.ends_with(part)))
}

fn each_present(args: &[Value], text_of: impl Fn(&str) -> String) -> Answer {
    let parts: Vec<String> = present(args)?.iter().map(|text| text_of(text)).collect();
    done(joined(&parts, " ")?)
}

pub(super) fn quote(args: &[Value]) -> Answer {
    each_present(args, |text| format::quote(text, false))
}

pub(super) fn squote(args: &[Value]) -> Answer {
    each_present(args, |text| format!("'{text}'"))
}

pub(super) fn cat(args: &[Value]) -> Answer {
    each_present(args, str::to_owned)
}

fn indented(name: &str, args: &[Value], first: &str) -> Answer {
    let [spaces, whole] = exactly(name, args)?;
    let whole = text(whole)?;
    if int(spaces)? < 0 {
        return Err("strings: negative Repeat count".to_owned());
    }
    let spaces = count(spaces)?;
    let lines = whole.matches('\n').count().saturating_add(1);
    fits(lines.saturating_mul(spaces).saturating_add(whole.len()))?;
    let pad = " ".repeat(spaces);
    done(format!("{first}{pad}{}", whole.replace('\n', &format!("\n{pad}"))))
}

pub(super) fn indent(args: &[Value]) -> Answer {
    indented("indent", args, "")
}

pub(super) fn nindent(args: &[Value]) -> Answer {
    indented("nindent", args, "\n")
}

pub(super) fn replace(args: &[Value]) -> Answer {
    let [old, new, whole] = exactly("replace", args)?;
    let (old, new, whole) = (text(old)?, text(new)?, text(whole)?);
    let found = whole.matches(old).count();
    fits(found.saturating_mul(new.len()).saturating_add(whole.len()))?;
    let replaced = whole.replace(old, new);
    // What stood in place of the mark is unknown, so what is replaced in it is, too.
    if whole.contains(MARK) && !replaced.contains(MARK) {
        return mark(whole.chars().count());
    }
    done(replaced)
}

pub(super) fn plural(args: &[Value]) -> Answer {
    let [singular, many, number] = exactly("plural", args)?;
    done(if int(number)? == 1 { text(singular)? } else { text(many)? })
}

pub(super) fn to_string(args: &[Value]) -> Answer {
    let [value] = exactly("toString", args)?;
    done(shown(value)?)
}

pub(super) fn to_strings(args: &[Value]) -> Answer {
    let [value] = exactly("toStrings", args)?;
    texts(strings(value)?)
}

pub(super) fn join(args: &[Value]) -> Answer {
    let [separator, value] = exactly("join", args)?;
    done(joined(&strings(value)?, text(separator)?)?)
}

pub(super) fn sort_alpha(args: &[Value]) -> Answer {
    let [value] = exactly("sortAlpha", args)?;
    let mut sorted = match value {
        Value::Null => vec![shown(value)?],
        other => strings(other)?,
    };
    sorted.sort_unstable();
    texts(sorted)
}

/// `strings.Split`: an empty separator parts characters.
fn parts<'a>(whole: &'a str, separator: &str) -> Vec<&'a str> {
    if !separator.is_empty() {
        return whole.split(separator).take(ITEMS_MAX.saturating_add(1)).collect();
    }
    let ends = whole.char_indices().map(|(at, c)| (at, at + c.len_utf8()));
    ends.take(ITEMS_MAX.saturating_add(1)).filter_map(|(from, to)| whole.get(from..to)).collect()
}

/// The map that `split` gives: `_0`, `_1` and so on.
fn numbered(parts: &[&str]) -> Answer {
    if parts.len() > ITEMS_MAX {
        return Err(format!("the map would have more than {ITEMS_MAX} keys"));
    }
    let pairs = parts.iter().enumerate();
    Ok(Value::map(pairs.map(|(at, part)| (format!("_{at}").into(), Value::text(part))).collect()))
}

pub(super) fn split(args: &[Value]) -> Answer {
    let (separator, whole) = two("split", args)?;
    numbered(&parts(whole, separator))
}

pub(super) fn split_list(args: &[Value]) -> Answer {
    let (separator, whole) = two("splitList", args)?;
    texts(parts(whole, separator))
}

pub(super) fn splitn(args: &[Value]) -> Answer {
    let [separator, most, whole] = exactly("splitn", args)?;
    let (separator, most, whole) = (text(separator)?, int(most)?, text(whole)?);
    let Ok(most) = usize::try_from(most) else {
        return numbered(&parts(whole, separator));
    };
    if !separator.is_empty() {
        let most = most.min(ITEMS_MAX.saturating_add(1));
        return numbered(&whole.splitn(most, separator).collect::<Vec<_>>());
    }
    let all = parts(whole, separator);
    if all.len() <= most {
        return numbered(&all);
    }
    let Some(heads) = most.checked_sub(1) else {
        return numbered(&[]);
    };
    let mut some: Vec<&str> = all.iter().take(heads).copied().collect();
    let used: usize = some.iter().map(|part| part.len()).sum();
    some.extend(whole.get(used..));
    numbered(&some)
}

#[cfg(test)]
#[path = "text_tests.rs"]
mod tests;
