//! Lines of `allowed_signers`, as ssh-keygen(1) has them: names, options, a key.
//!
//! ```text
//! ada@example.org,ada namespaces="git",valid-before="20270101Z" ssh-ed25519 AAAA… a word of comment
//! ```
//! Three things are stricter than there. A name is a name, not a pattern: what a signer may change is
//! decided by it. A date must be one of UTC (`Z`): else it would mean another moment on each node's
//! clock. And no line lends its trust to a certificate authority.

use super::sshsig::{Key, NAMESPACE, Signature};
use crate::kinds::time::Wall;

/// A line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub(super) names: Vec<String>,
    pub(super) key: Key,
    /// Patterns of what it signs; anything if absent.
    namespaces: Option<String>,
    pub(super) after: Option<Wall>,
    pub(super) before: Option<Wall>,
}

impl Line {
    /// Reads a line; nothing if it is empty or a comment.
    pub fn read(line: &str) -> Result<Option<Self>, String> {
        read(line)
    }

    /// Whose key it is.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Whether the key is good for some time only.
    pub fn is_dated(&self) -> bool {
        self.after.is_some() || self.before.is_some()
    }

    /// Whether its key made a signature.
    pub fn has_key_of(&self, signature: &Signature) -> bool {
        self.key == signature.key
    }

    /// Whether the key is for this use.
    pub fn is_for(&self, namespace: &str) -> bool {
        self.namespaces.as_ref().is_none_or(|patterns| matches_list(patterns, namespace))
    }

    /// Whether the key is for commits.
    pub(super) fn is_for_git(&self) -> bool {
        self.is_for(NAMESPACE)
    }
}

fn read(line: &str) -> Result<Option<Line>, String> {
    let line = line.trim();
    if line.is_empty() || line.starts_with('#') {
        return Ok(None);
    }
    let (names, rest) = word(line);
    let names = names.split(',').map(name).collect::<Result<Vec<String>, String>>()?;
    let (mut kind, mut rest) = word(rest);
    let mut options = Options::default();
    if !is_key_type(kind) && !kind.is_empty() {
        for option in split_options(kind)? {
            options.take(&option)?;
        }
        (kind, rest) = word(rest);
    }
    let (blob, _comment) = word(rest);
    if blob.is_empty() {
        return Err("expected names, a key's type and the key".into());
    }
    let key = Key::parse(kind, blob)?;
    let Options { namespaces, after, before } = options;
    if let (Some(after), Some(before)) = (after, before)
        && after > before
    {
        return Err("the key is never good: valid-after is later than valid-before".into());
    }
    Ok(Some(Line { names, key, namespaces, after, before }))
}

fn is_key_type(text: &str) -> bool {
    ["ssh-", "ecdsa-", "sk-"].iter().any(|begin| text.starts_with(begin))
}

/// The first word, blanks within double quotes belonging to it, and the rest.
fn word(text: &str) -> (&str, &str) {
    let text = text.trim_start();
    let mut is_quoted = false;
    let end = text.find(|letter: char| {
        is_quoted ^= letter == '"';
        letter.is_ascii_whitespace() && !is_quoted
    });
    text.split_at(end.unwrap_or(text.len()))
}

fn name(text: &str) -> Result<String, String> {
    if text.is_empty() {
        return Err("a signer's name is empty".into());
    }
    if text.contains(['*', '?', '!', '"']) {
        return Err(format!("{text} is a pattern, and what a signer may do goes by his name"));
    }
    Ok(text.to_owned())
}

fn split_options(text: &str) -> Result<Vec<String>, String> {
    let mut options = vec![String::new()];
    let mut is_quoted = false;
    for letter in text.chars() {
        match letter {
            '"' => is_quoted = !is_quoted,
            ',' if !is_quoted => {
                options.push(String::new());
                continue;
            }
            _ => {}
        }
        if let Some(last) = options.last_mut() {
            last.push(letter);
        }
    }
    if is_quoted { Err("a quotation mark is missing".into()) } else { Ok(options) }
}

#[derive(Default)]
struct Options {
    namespaces: Option<String>,
    after: Option<Wall>,
    before: Option<Wall>,
}

impl Options {
    fn take(&mut self, option: &str) -> Result<(), String> {
        let (name, value) = option.split_once('=').unwrap_or((option, ""));
        let value = || {
            let inner = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            inner.ok_or_else(|| format!("{name} must be followed by =\"…\""))
        };
        let twice = || Err(format!("{name} is written twice"));
        match name.to_ascii_lowercase().as_str() {
            "cert-authority" => {
                Err("certificate authorities are not built yet: name the keys themselves".into())
            }
            "namespaces" if self.namespaces.is_some() => twice(),
            "namespaces" => {
                self.namespaces = Some(value()?.to_owned());
                Ok(())
            }
            "valid-after" if self.after.is_some() => twice(),
            "valid-after" => {
                self.after = Some(date(value()?)?);
                Ok(())
            }
            "valid-before" if self.before.is_some() => twice(),
            "valid-before" => {
                self.before = Some(date(value()?)?);
                Ok(())
            }
            _ => Err(format!("option {name:?} is not known")),
        }
    }
}

/// `YYYYMMDD` or `YYYYMMDDHHMM[SS]`, and `Z`.
fn date(text: &str) -> Result<Wall, String> {
    let wrong = || format!("{text:?} is not a date such as 20270101Z or 202701012359Z");
    let Some(digits) = text.strip_suffix(['Z', 'z']) else {
        return Err(format!(
            "{text:?} has no Z at its end: each node would take it for its own time"
        ));
    };
    let is_date = digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_date || ![8, 12, 14].contains(&digits.len()) {
        return Err(wrong());
    }
    let padded = format!("{digits:0<14}");
    let part = |from: usize, to: usize| &padded[from..to];
    let text = format!(
        "{}-{}-{}T{}:{}:{}Z",
        part(0, 4),
        part(4, 6),
        part(6, 8),
        part(8, 10),
        part(10, 12),
        part(12, 14)
    );
    Wall::parse(&text).ok_or_else(wrong)
}

/// OpenSSH's `match_pattern_list`: one that matches must be there, and none with `!` that does.
fn matches_list(patterns: &str, text: &str) -> bool {
    let mut is_in = false;
    for pattern in patterns.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if matches(pattern.as_bytes(), text.as_bytes()) => return false,
            Some(_) => {}
            None => is_in |= matches(pattern.as_bytes(), text.as_bytes()),
        }
    }
    is_in
}

/// `*` for any letters, `?` for one.
pub(super) fn matches(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern, text) {
        ([], []) => true,
        ([b'*', pattern @ ..], _) => (0..=text.len()).any(|at| matches(pattern, &text[at..])),
        ([b'?', pattern @ ..], [_, text @ ..]) => matches(pattern, text),
        ([one, pattern @ ..], [other, text @ ..]) => one == other && matches(pattern, text),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::ADA;
    use super::*;

    #[test]
    fn a_line_names_a_key() {
        let line = read(&format!(
            "ada@example.org,ada namespaces=\"file,git\",valid-after=\"20260101Z\",\
             valid-before=\"202701012359Z\" {ADA} of the office"
        ));
        let line = line.expect("is right").expect("is a line");
        assert_eq!(line.names, ["ada@example.org", "ada"]);
        assert!(line.is_for_git());
        assert_eq!(line.after, Wall::parse("2026-01-01T00:00:00Z"));
        assert_eq!(line.before, Wall::parse("2027-01-01T23:59:00Z"));
        assert_eq!(read("# ada\n"), Ok(None));
        assert_eq!(read("  "), Ok(None));
    }

    #[test]
    fn what_a_line_can_not_say() {
        for (line, why) in [
            ("ada", "expected names"),
            ("*@example.org KEY", "is a pattern"),
            ("ada,!bob KEY", "is a pattern"),
            ("ada, KEY", "is empty"),
            ("ada cert-authority KEY", "certificate authorities are not built yet"),
            ("ada valid-before=\"20270101\" KEY", "has no Z"),
            ("ada valid-before=20270101Z KEY", "must be followed by"),
            ("ada valid-before=\"20271301Z\" KEY", "is not a date"),
            ("ada valid-before=\"2027Z\" KEY", "is not a date"),
            ("ada valid-after=\"20270101Z\",valid-before=\"20260101Z\" KEY", "never good"),
            ("ada namespaces=\"git KEY", "a quotation mark is missing"),
            ("ada namespaces=\"git\",namespaces=\"x\" KEY", "written twice"),
            ("ada no-touch-required KEY", "\"no-touch-required\" is not known"),
            ("ada ssh-ed25519 !!!!", "not base64"),
            ("ada ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAA", "damaged"),
            ("ada ssh-dss AAAAB3NzaC1kc3MAAAAA", "too weak"),
        ] {
            let text = line.replace("KEY", ADA);
            let found = read(&text).expect_err(line);
            assert!(found.contains(why), "{line}: {found}");
        }
    }

    #[test]
    fn namespaces_are_patterns() {
        for (patterns, is_git) in [
            ("git", true),
            ("*", true),
            ("g?t", true),
            ("file,git", true),
            ("file", false),
            ("*,!git", false),
            ("", false),
            ("gi", false),
        ] {
            assert_eq!(matches_list(patterns, "git"), is_git, "{patterns}");
        }
    }
}
