//! Versions and constraints on them, as Masterminds' semver v3.4 reads both.

use std::cmp::Ordering;
use std::rc::Rc;

use super::super::value::{Host, Value};
use super::args::{exactly, text};

type Answer = Result<Value, String>;

/// A constraint may have this many parts.
const PARTS_MAX: usize = 1_000;

#[derive(Clone, Debug, PartialEq, Eq)]
struct Version {
    major: u64,
    minor: u64,
    patch: u64,
    pre: String,
    metadata: String,
    original: String,
}

fn is_identifier(text: &str) -> bool {
    let is_part = |part: &str| {
        !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
    };
    text.split('.').all(is_part)
}

/// Parts `1.2.3-pre+meta`; both tails are absent where they aren't written.
fn tails(text: &str) -> (&str, Option<&str>, Option<&str>) {
    let (rest, metadata) = match text.split_once('+') {
        Some((rest, metadata)) => (rest, Some(metadata)),
        None => (text, None),
    };
    match rest.split_once('-') {
        Some((numbers, pre)) => (numbers, Some(pre), metadata),
        None => (rest, None, metadata),
    }
}

impl Version {
    /// `NewVersion`: minor and patch may be missing, a `v` may stand before.
    fn parse(text: &str) -> Result<Self, String> {
        let wrong = || "invalid semantic version".to_owned();
        let (numbers, pre, metadata) = tails(text.strip_prefix('v').unwrap_or(text));
        let mut parts = [0, 0, 0];
        for (given, part) in numbers.split('.').enumerate() {
            let is_number = !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
            let slot = parts.get_mut(given).filter(|_| is_number).ok_or_else(wrong)?;
            *slot = part.parse().map_err(|_| format!("error parsing version segment: {part}"))?;
        }
        for tail in [pre, metadata].into_iter().flatten() {
            if !is_identifier(tail) {
                return Err(wrong());
            }
        }
        let pre = pre.unwrap_or_default();
        let starts_with_zero = |part: &str| {
            part.len() > 1 && part.starts_with('0') && part.bytes().all(|b| b.is_ascii_digit())
        };
        if pre.split('.').any(starts_with_zero) {
            return Err("version segment starts with 0".to_owned());
        }
        let [major, minor, patch] = parts;
        Ok(Self {
            major,
            minor,
            patch,
            pre: pre.to_owned(),
            metadata: metadata.unwrap_or_default().to_owned(),
            original: text.to_owned(),
        })
    }

    fn compare(&self, other: &Self) -> Ordering {
        let numbers = |of: &Self| (of.major, of.minor, of.patch);
        numbers(self).cmp(&numbers(other)).then_with(|| compare_pre(&self.pre, &other.pre))
    }

    fn text(&self) -> String {
        let mut out = format!("{}.{}.{}", self.major, self.minor, self.patch);
        for (sign, tail) in [('-', &self.pre), ('+', &self.metadata)] {
            if !tail.is_empty() {
                out.push(sign);
                out.push_str(tail);
            }
        }
        out
    }
}

/// A release is above its prereleases; numbers are below words.
fn compare_pre(a: &str, b: &str) -> Ordering {
    match (a.is_empty(), b.is_empty()) {
        (true, true) => return Ordering::Equal,
        (true, false) => return Ordering::Greater,
        (false, true) => return Ordering::Less,
        (false, false) => {}
    }
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let (a, b) = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(a), Some(b)) => (a, b),
        };
        let order = match (a.parse::<u64>(), b.parse::<u64>()) {
            (Ok(a), Ok(b)) => a.cmp(&b),
            (Ok(_), Err(_)) => Ordering::Less,
            (Err(_), Ok(_)) => Ordering::Greater,
            (Err(_), Err(_)) => a.cmp(b),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

impl Host for Version {
    fn name(&self) -> &'static str {
        "*semver.Version"
    }

    fn get(&self, name: &str, args: &[Value]) -> Option<Answer> {
        let number = |number| Value::Int(i64::try_from(number).unwrap_or(i64::MAX));
        let next = |major, minor, patch| {
            let empty = String::new;
            let next =
                Self { major, minor, patch, pre: empty(), metadata: empty(), original: empty() };
            let original = next.text();
            Value::Host(Rc::new(Self { original, ..next }))
        };
        let up = |number: u64| number.saturating_add(1);
        Some(Ok(match name {
            "Major" => number(self.major),
            "Minor" => number(self.minor),
            "Patch" => number(self.patch),
            "Prerelease" => Value::text(&self.pre),
            "Metadata" => Value::text(&self.metadata),
            "Original" => Value::text(&self.original),
            "String" => Value::text(self.text()),
            "IncMajor" => next(up(self.major), 0, 0),
            "IncMinor" => next(self.major, up(self.minor), 0),
            "IncPatch" if !self.pre.is_empty() => next(self.major, self.minor, self.patch),
            "IncPatch" => next(self.major, self.minor, up(self.patch)),
            "Compare" | "Equal" | "LessThan" | "GreaterThan" | "LessThanEqual"
            | "GreaterThanEqual" => return Some(self.compared(name, args)),
            _ => return None,
        }))
    }

    fn text(&self) -> Option<String> {
        Some(Self::text(self))
    }
}

impl Version {
    fn compared(&self, name: &str, args: &[Value]) -> Answer {
        let [other] = exactly(name, args)?;
        let Value::Host(other) = other else {
            return Err(format!(
                "wrong type for value; expected *semver.Version; got {}",
                other.kind()
            ));
        };
        let order = self.compare(&Self::parse(&other.text().unwrap_or_default())?);
        Ok(match name {
            "Equal" => Value::Bool(order.is_eq()),
            "LessThan" => Value::Bool(order.is_lt()),
            "GreaterThan" => Value::Bool(order.is_gt()),
            "LessThanEqual" => Value::Bool(order.is_le()),
            "GreaterThanEqual" => Value::Bool(order.is_ge()),
            _ => Value::Int(order as i64),
        })
    }
}

pub(super) fn semver(args: &[Value]) -> Answer {
    let [version] = exactly("semver", args)?;
    Ok(Value::Host(Rc::new(Version::parse(text(version)?)?)))
}

pub(super) fn semver_compare(args: &[Value]) -> Answer {
    let [constraint, version] = exactly("semverCompare", args)?;
    satisfies(text(constraint)?, text(version)?).map(Value::Bool)
}

/// Whether `version` satisfies `constraint`: what `kubeVersion` of a chart asks, too.
pub(in crate::desired::chart) fn satisfies(
    constraint: &str,
    version: &str,
) -> Result<bool, String> {
    let groups = constraint.split("||").take(PARTS_MAX).map(group);
    let groups: Vec<Vec<Constraint>> = groups.collect::<Result<_, _>>()?;
    let version = Version::parse(version)?;
    Ok(groups.iter().any(|all| {
        let has_pre = all.iter().any(|one| !one.version.pre.is_empty());
        (version.pre.is_empty() || has_pre) && all.iter().all(|one| one.allows(&version))
    }))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    Unequal,
    Above,
    Below,
    AtLeast,
    AtMost,
    Tilde,
    Caret,
}

/// Longest first.
const OPERATORS: [(&str, Operator); 11] = [
    ("!=", Operator::Unequal),
    (">=", Operator::AtLeast),
    ("=>", Operator::AtLeast),
    ("<=", Operator::AtMost),
    ("=<", Operator::AtMost),
    ("~>", Operator::Tilde),
    ("~", Operator::Tilde),
    ("^", Operator::Caret),
    (">", Operator::Above),
    ("<", Operator::Below),
    ("=", Operator::Equal),
];

/// How much of a constraint's version is left open: `*`, `1.x`, `1.2.x`, or nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    All,
    Minor,
    Patch,
    Nothing,
}

struct Constraint {
    operator: Operator,
    version: Version,
    open: Open,
}

/// The constraints of which all must hold: parted by commas or blanks, ranges written out.
fn group(whole: &str) -> Result<Vec<Constraint>, String> {
    let wrong = || format!("improper constraint: {whole}");
    let mut all: Vec<Constraint> = Vec::new();
    let mut rest = whole.trim_start();
    if rest.is_empty() {
        // An empty constraint is `*`, but one of blanks only is none.
        return if whole.is_empty() {
            Ok(vec![Constraint::parse(Operator::Equal, "*")?])
        } else {
            Err(wrong())
        };
    }
    while !rest.is_empty() {
        if all.len() >= PARTS_MAX {
            return Err(wrong());
        }
        let found = OPERATORS
            .iter()
            .find_map(|(sign, operator)| rest.strip_prefix(sign).map(|rest| (*operator, rest)));
        let is_bare = found.is_none();
        let (operator, after) = found.unwrap_or((Operator::Equal, rest));
        let (version, after) = word(after.trim_start());
        let (range, tail) = match is_bare.then(|| after.trim_start().strip_prefix('-')).flatten() {
            Some(upper)
                if after.starts_with(char::is_whitespace)
                    && upper.starts_with(char::is_whitespace) =>
            {
                let (upper, after) = word(upper.trim_start());
                (Some(upper), after)
            }
            _ => (None, after),
        };
        let problem = |_| wrong();
        if let Some(upper) = range {
            all.push(Constraint::parse(Operator::AtLeast, version).map_err(problem)?);
            all.push(Constraint::parse(Operator::AtMost, upper).map_err(problem)?);
        } else {
            all.push(Constraint::parse(operator, version).map_err(problem)?);
        }
        rest = tail.trim_start();
        if let Some(after) = rest.strip_prefix(',') {
            rest = after.trim_start();
            if rest.is_empty() {
                return Err(wrong());
            }
        } else if !rest.is_empty() && rest.len() == tail.len() {
            return Err(wrong());
        }
    }
    Ok(all)
}

/// A version's characters at the beginning, and what follows them.
fn word(text: &str) -> (&str, &str) {
    let is_part = |c: char| c.is_ascii_alphanumeric() || "*.-+".contains(c);
    text.split_at_checked(text.find(|c| !is_part(c)).unwrap_or(text.len())).unwrap_or((text, ""))
}

impl Constraint {
    fn parse(operator: Operator, text: &str) -> Result<Self, String> {
        let wrong = || "improper constraint".to_owned();
        let (numbers, pre, metadata) = tails(text.strip_prefix('v').unwrap_or(text));
        let parts: Vec<&str> = numbers.split('.').collect();
        let is_open =
            |part: Option<&&str>| part.is_none_or(|part| matches!(*part, "x" | "X" | "*"));
        let is_number = |part: &&str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
        if parts.len() > 3 || !parts.iter().all(|part| is_number(part) || is_open(Some(part))) {
            return Err(wrong());
        }
        let number = |at: usize| parts.get(at).copied().unwrap_or("0");
        let (open, numbers) = if is_open(parts.first()) {
            (Open::All, "0.0.0".to_owned())
        } else if is_open(parts.get(1)) {
            (Open::Minor, format!("{}.0.0", number(0)))
        } else if is_open(parts.get(2)) {
            (Open::Patch, format!("{}.{}.0", number(0), number(1)))
        } else {
            (Open::Nothing, format!("{}.{}.{}", number(0), number(1), number(2)))
        };
        let pre = pre.map(|pre| format!("-{pre}")).unwrap_or_default();
        if metadata.is_some_and(|metadata| !is_identifier(metadata)) {
            return Err(wrong());
        }
        let version = Version::parse(&format!("{numbers}{pre}")).map_err(|_| wrong())?;
        Ok(Self { operator, version, open })
    }

    fn allows(&self, version: &Version) -> bool {
        let own = &self.version;
        let order = version.compare(own);
        match self.operator {
            Operator::Equal if self.open == Open::Nothing => order.is_eq(),
            Operator::Equal | Operator::Tilde => self.is_near(version),
            Operator::Unequal => self.differs(version),
            Operator::Below => order.is_lt(),
            Operator::AtLeast => order.is_ge(),
            Operator::Above => match self.open {
                Open::Minor => version.major > own.major,
                Open::Patch => (version.major, version.minor) > (own.major, own.minor),
                Open::All | Open::Nothing => order.is_gt(),
            },
            Operator::AtMost => match self.open {
                Open::Nothing => order.is_le(),
                Open::Minor => version.major <= own.major,
                Open::All | Open::Patch => (version.major, version.minor) <= (own.major, own.minor),
            },
            Operator::Caret => self.is_compatible(version),
        }
    }

    fn is_near(&self, version: &Version) -> bool {
        let own = &self.version;
        if version.compare(own).is_lt() {
            return false;
        }
        let is_any = (own.major, own.minor, own.patch) == (0, 0, 0)
            && matches!(self.open, Open::All | Open::Nothing);
        is_any
            || version.major == own.major
                && (version.minor == own.minor || self.open == Open::Minor)
    }

    fn differs(&self, version: &Version) -> bool {
        let own = &self.version;
        if self.open == Open::Nothing || version.major != own.major {
            return version.compare(own).is_ne();
        }
        match self.open {
            Open::Minor => false,
            _ if version.minor != own.minor => true,
            Open::Patch => {
                let has_pre = !(version.pre.is_empty() && own.pre.is_empty());
                has_pre && compare_pre(&version.pre, &own.pre).is_ne()
            }
            Open::All | Open::Nothing => version.compare(own).is_ne(),
        }
    }

    fn is_compatible(&self, version: &Version) -> bool {
        let own = &self.version;
        if version.compare(own).is_lt() {
            return false;
        }
        if own.major > 0 || self.open == Open::Minor {
            return version.major == own.major;
        }
        if version.major > 0 {
            return false;
        }
        if own.minor > 0 || self.open == Open::Patch {
            return version.minor == own.minor;
        }
        version.minor == 0 && version.patch == own.patch
    }
}

#[cfg(test)]
#[path = "versions_tests.rs"]
mod tests;
