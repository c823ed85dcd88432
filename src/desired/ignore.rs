//! `.windlassignore`: which files are none of ours. The patterns are those of `.gitignore`.
//!
//! <https://git-scm.com/docs/gitignore#_pattern_format>. Written here because it is a page, and the
//! crates that do it bring a regular expression engine and a directory walker along.

/// The patterns of a `.windlassignore`, in order; of those that match the last one decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Ignore {
    patterns: Vec<Pattern>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Pattern {
    /// `!`: what it matches is not ignored after all.
    includes: bool,
    /// It ends in `/`: directories only.
    directories_only: bool,
    /// It has a `/` before its end: it counts from the root. Otherwise it matches a name at any
    /// depth.
    is_rooted: bool,
    /// Between slashes.
    parts: Vec<String>,
}

impl Ignore {
    /// Reads the file's text.
    pub(super) fn parse(text: &str) -> Self {
        Self { patterns: text.lines().filter_map(pattern).collect() }
    }

    /// Whether the file at `path` is ignored, by itself or with a directory above it.
    pub(super) fn is_ignored(&self, path: &str) -> bool {
        if self.patterns.is_empty() {
            return false;
        }
        // Git does not look into an ignored directory, so nothing below it comes back.
        let directories = path.match_indices('/').map(|(at, _)| &path[..at]);
        directories.into_iter().any(|directory| self.decides(directory, true))
            || self.decides(path, false)
    }

    /// Whether a directory is ignored as a whole, by itself or with one above it: then nothing below it
    /// comes back.
    pub(super) fn is_directory_ignored(&self, path: &str) -> bool {
        let above = path.match_indices('/').map(|(at, _)| &path[..at]);
        above.chain([path]).any(|directory| self.decides(directory, true))
    }

    fn decides(&self, path: &str, is_directory: bool) -> bool {
        self.patterns
            .iter()
            .rev()
            .find(|pattern| pattern.matches(path, is_directory))
            .is_some_and(|pattern| !pattern.includes)
    }
}

fn pattern(line: &str) -> Option<Pattern> {
    let mut text = trim_end(line);
    if text.is_empty() || text.starts_with('#') {
        return None;
    }
    let includes = text.starts_with('!');
    if includes {
        text = &text[1..];
    }
    let directories_only = text.ends_with('/');
    let text = text.strip_suffix('/').unwrap_or(text);
    let is_rooted = text.contains('/');
    let text = text.strip_prefix('/').unwrap_or(text);
    (!text.is_empty()).then(|| Pattern {
        includes,
        directories_only,
        is_rooted,
        parts: text.split('/').map(str::to_owned).collect(),
    })
}

/// Trailing blanks don't count unless the last one is escaped.
fn trim_end(line: &str) -> &str {
    let bare = line.trim_end_matches([' ', '\t', '\r']);
    if bare.ends_with('\\') && bare.len() < line.len() { &line[..=bare.len()] } else { bare }
}

impl Pattern {
    fn matches(&self, path: &str, is_directory: bool) -> bool {
        if self.directories_only && !is_directory {
            return false;
        }
        if self.is_rooted {
            return matches_path(&self.parts, path);
        }
        let name = path.rsplit('/').next().unwrap_or(path);
        matches_name(self.parts[0].as_bytes(), name.as_bytes())
    }
}

/// Whether the parts match all of `path`; `**` stands for any number of directories.
fn matches_path(parts: &[String], path: &str) -> bool {
    let names: Vec<&str> = path.split('/').collect();
    let (mut part, mut name) = (0, 0);
    // Where to take up again if what follows the last `**` does not fit here.
    let mut retry: Option<(usize, usize)> = None;
    loop {
        let is_last = part + 1 == parts.len();
        let fits = match parts.get(part).map(String::as_str) {
            Some("**") if is_last => return name < names.len(),
            Some("**") => {
                retry = Some((part, name));
                part += 1;
                continue;
            }
            Some(text) => {
                name < names.len() && matches_name(text.as_bytes(), names[name].as_bytes())
            }
            None if name == names.len() => return true,
            None => false,
        };
        if fits {
            (part, name) = (part + 1, name + 1);
            continue;
        }
        match retry {
            Some((star, taken)) if taken < names.len() => {
                retry = Some((star, taken + 1));
                (part, name) = (star + 1, taken + 1);
            }
            _ => return false,
        }
    }
}

/// Whether a pattern with `*`, `?`, `[…]` and `\` matches all of a name.
fn matches_name(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    loop {
        if p < pattern.len() && pattern[p] == b'*' {
            retry = Some((p, n));
            p += 1;
            continue;
        }
        if p == pattern.len() && n == name.len() {
            return true;
        }
        let step = match name.get(n) {
            Some(byte) if p < pattern.len() => matches_one(&pattern[p..], *byte),
            _ => None,
        };
        if let Some(used) = step {
            (p, n) = (p + used, n + 1);
            continue;
        }
        match retry {
            Some((star, taken)) if taken < name.len() => {
                retry = Some((star, taken + 1));
                (p, n) = (star + 1, taken + 1);
            }
            _ => return false,
        }
    }
}

/// How much of `pattern` is used up by matching `byte`, if it does.
fn matches_one(pattern: &[u8], byte: u8) -> Option<usize> {
    match pattern {
        [b'?', ..] => Some(1),
        [b'\\', escaped, ..] => (*escaped == byte).then_some(2),
        [b'[', class @ ..] => match class_end(class) {
            Some(end) => matches_class(&class[..end], byte).then_some(end + 2),
            None => (byte == b'[').then_some(1),
        },
        [literal, ..] => (*literal == byte).then_some(1),
        [] => None,
    }
}

/// Where the `]` of a class is. One that stands first is a member.
fn class_end(class: &[u8]) -> Option<usize> {
    let negated = usize::from(matches!(class.first(), Some(b'!' | b'^')));
    let from = negated + 1;
    let rest = class.get(from..)?;
    rest.iter().position(|byte| *byte == b']').map(|at| at + from)
}

fn matches_class(class: &[u8], byte: u8) -> bool {
    let (negated, mut members) = match class {
        [b'!' | b'^', members @ ..] => (true, members),
        members => (false, members),
    };
    let mut is_member = false;
    loop {
        members = match members {
            [low, b'-', high, rest @ ..] => {
                is_member |= (*low..=*high).contains(&byte);
                rest
            }
            [member, rest @ ..] => {
                is_member |= *member == byte;
                rest
            }
            [] => return is_member != negated,
        };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn patterns_are_those_of_gitignore() {
        let table: &[(&str, &str, bool)] = &[
            ("", "a.yaml", false),
            ("# a.yaml", "a.yaml", false),
            ("\\#a.yaml", "#a.yaml", true),
            ("a.yaml", "a.yaml", true),
            ("a.yaml", "x/y/a.yaml", true),
            ("/a.yaml", "a.yaml", true),
            ("/a.yaml", "x/a.yaml", false),
            ("x/a.yaml", "x/a.yaml", true),
            ("x/a.yaml", "y/x/a.yaml", false),
            ("*.json", "x/a.json", true),
            ("*.json", "a.yaml", false),
            ("charts", "charts/x/a.yaml", true),
            ("charts/", "charts/a.yaml", true),
            ("charts/", "x/charts/a.yaml", true),
            ("charts/", "charts", false),
            ("/charts/", "x/charts/a.yaml", false),
            ("x/*", "x/a.yaml", true),
            ("x/*", "x/y/a.yaml", true),
            ("x/*.yaml", "x/y/a.yaml", false),
            ("**/test", "test/a.yaml", true),
            ("**/test/*.yaml", "x/y/test/a.yaml", true),
            ("x/**", "x/y/a.yaml", true),
            ("x/**", "x", false),
            ("x/**/a.yaml", "x/a.yaml", true),
            ("x/**/a.yaml", "x/y/z/a.yaml", true),
            ("x/**/a.yaml", "y/x/a.yaml", false),
            ("a?.yaml", "ab.yaml", true),
            ("a[0-9].yaml", "a5.yaml", true),
            ("a[!0-9].yaml", "a5.yaml", false),
            ("a[]x].yaml", "a].yaml", true),
            ("a[b", "a[b", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-d", false),
            ("a.yaml  ", "a.yaml", true),
            ("a\\ ", "a ", true),
            ("*.yaml\n!keep.yaml", "keep.yaml", false),
            ("*.yaml\n!keep.yaml", "other.yaml", true),
            ("!keep.yaml\n*.yaml", "keep.yaml", true),
            ("x/\n!x/keep.yaml", "x/keep.yaml", true),
            ("x/*\n!x/keep.yaml", "x/keep.yaml", false),
            ("a.yaml\r", "a.yaml", true),
        ];
        for (patterns, path, ignored) in table {
            let ignore = Ignore::parse(patterns);
            assert_eq!(ignore.is_ignored(path), *ignored, "{patterns:?} on {path:?}");
        }
    }

    proptest! {
        #[test]
        fn no_pattern_panics(patterns in "[a*?\\[\\]!^/\\\\ #\\-\n]{0,24}", path in "[ab/\\-]{0,12}") {
            let _ = Ignore::parse(&patterns).is_ignored(&path);
        }

        #[test]
        fn a_plain_name_ignores_itself(path in "[a-z]{1,5}(/[a-z]{1,5}){0,3}") {
            let rooted = format!("/{path}");
            prop_assert!(Ignore::parse(&rooted).is_ignored(&path));
            let negated = format!("/{path}\n!/{path}");
            prop_assert!(!Ignore::parse(&negated).is_ignored(&path));
        }
    }
}
