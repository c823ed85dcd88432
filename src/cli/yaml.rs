//! JSON as YAML, in kubectl's layout, so that a reader of YAML 1.1 and one of 1.2 read the same: what
//! either of them could take for a number, a truth value or a time stands in quotes. (serde_yaml writes
//! times bare.)

use serde_json::{Map, Value};

/// Writes a value, its keys in the order they have.
pub(super) fn write(value: &Value) -> String {
    let mut writer = Writer { out: String::new() };
    match value {
        Value::Object(members) if !members.is_empty() => writer.members(members, 0, false),
        Value::Array(items) if !items.is_empty() => writer.items(items, 0, false),
        scalar => writer.scalar(scalar, 0),
    }
    writer.out
}

struct Writer {
    out: String,
}

impl Writer {
    fn pad(&mut self, indent: usize) {
        self.out.extend(std::iter::repeat_n(' ', indent));
    }

    /// With `goes_on` the first member stands on the line that has begun.
    fn members(&mut self, members: &Map<String, Value>, indent: usize, goes_on: bool) {
        for (at, (key, value)) in members.iter().enumerate() {
            if at > 0 || !goes_on {
                self.pad(indent);
            }
            self.out.push_str(&word(key));
            self.out.push(':');
            match value {
                Value::Object(members) if !members.is_empty() => {
                    self.out.push('\n');
                    self.members(members, indent + 2, false);
                }
                Value::Array(items) if !items.is_empty() => {
                    self.out.push('\n');
                    self.items(items, indent, false);
                }
                scalar => {
                    self.out.push(' ');
                    self.scalar(scalar, indent);
                }
            }
        }
    }

    fn items(&mut self, items: &[Value], indent: usize, goes_on: bool) {
        for (at, item) in items.iter().enumerate() {
            if at > 0 || !goes_on {
                self.pad(indent);
            }
            self.out.push_str("- ");
            match item {
                Value::Object(members) if !members.is_empty() => {
                    self.members(members, indent + 2, true);
                }
                Value::Array(items) if !items.is_empty() => self.items(items, indent + 2, true),
                scalar => self.scalar(scalar, indent),
            }
        }
    }

    fn scalar(&mut self, scalar: &Value, indent: usize) {
        match scalar {
            Value::String(text) if is_block(text) => self.block(text, indent + 2),
            Value::String(text) => {
                self.out.push_str(&word(text));
                self.out.push('\n');
            }
            // Numbers, truth values, null, and empty collections are written as in JSON.
            other => {
                self.out.push_str(&other.to_string());
                self.out.push('\n');
            }
        }
    }

    /// Lines as they are. The sign says what becomes of the ends of lines behind the last one.
    fn block(&mut self, text: &str, indent: usize) {
        let body = text.trim_end_matches('\n');
        self.out.push_str(match text.len() - body.len() {
            0 => "|-\n",
            1 => "|\n",
            _ => "|+\n",
        });
        for line in text.strip_suffix('\n').unwrap_or(text).split('\n') {
            if !line.is_empty() {
                self.pad(indent);
                self.out.push_str(line);
            }
            self.out.push('\n');
        }
    }
}

/// Whether text of several lines can stand as it is.
fn is_block(text: &str) -> bool {
    text.contains('\n')
        && !text.starts_with([' ', '\n', '\t'])
        && !text.chars().any(|c| is_special(c) && !matches!(c, '\n' | '\t'))
}

/// Whether a character must be escaped: controls, and what one version of YAML or the other takes
/// for the end of a line.
fn is_special(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
}

/// Text of one line: bare if it can be, otherwise in quotes; in double ones where it could be taken
/// for something else, or has what only they can hold.
fn word(text: &str) -> String {
    if text.is_empty() || is_mistakable(text) || text.chars().any(is_special) {
        quoted(text)
    } else if is_plain(text) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "''"))
    }
}

fn quoted(text: &str) -> String {
    use std::fmt::Write as _;
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if is_special(c) => {
                // Writing to a String cannot fail.
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Whether the syntax lets text without special characters stand bare.
fn is_plain(text: &str) -> bool {
    let mut characters = text.chars();
    let Some(first) = characters.next() else {
        return false;
    };
    // `--port` may stand bare, a lone `-` begins a list.
    let begins = match first {
        '-' => characters.next().is_some_and(|second| second != ' ') && !text.starts_with("---"),
        '.' => !text.starts_with("..."),
        c => !" ?:,[]{}#&*!|>'\"%@`=<~".contains(c),
    };
    begins && !text.ends_with([' ', ':']) && !text.contains(": ") && !text.contains(" #")
}

/// Whether some reader takes bare text for something else.
fn is_mistakable(text: &str) -> bool {
    const WORDS: [&str; 9] = ["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let bare = text.trim_start_matches(['-', '+']).replace('_', "");
    let is_number = bare.parse::<f64>().is_ok() || bare == ".inf" || bare == ".nan";
    let has_base = ["0x", "0o", "0b"].iter().any(|base| bare.to_lowercase().starts_with(base));
    // `1:30` is 90 to YAML 1.1.
    let is_sexagesimal = bare.contains(':')
        && bare.starts_with(|c: char| c.is_ascii_digit())
        && bare.chars().all(|c| c.is_ascii_digit() || matches!(c, ':' | '.'));
    let is_date = text.len() >= 8
        && text.bytes().take(4).all(|byte| byte.is_ascii_digit())
        && text.as_bytes()[4] == b'-'
        && text.as_bytes()[5].is_ascii_digit();
    is_number
        || has_base
        || is_sexagesimal
        || is_date
        || bare.to_lowercase().starts_with(".inf")
        || bare.to_lowercase().starts_with(".nan")
        || WORDS.iter().any(|word| text.eq_ignore_ascii_case(word))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn words_are_quoted_where_they_could_be_mistaken() {
        let plain = [
            "web",
            "--port",
            "-x",
            "/etc/web",
            "a:b",
            "10.96.0.1",
            "a b",
            "x#y",
            "v1",
            "1Gi",
            "0.1.0",
            "16fdd12e-8612-8814-8d52-576d445406f3",
            ".spec",
            "100m",
            "sha256:ab",
            "é",
        ];
        for text in plain {
            assert_eq!(word(text), text);
        }
        let quoted = [
            "",
            " ",
            "-",
            "- a",
            "---",
            "yes",
            "No",
            "on",
            "~",
            "null",
            "0644",
            "1e3",
            "0x1F",
            "1_000",
            "1:30",
            "2026-01-01",
            "2026-01-01T00:00:00Z",
            "a: b",
            "a #b",
            "a:",
            "*a",
            "&a",
            "!a",
            "|",
            "{a}",
            "[a]",
            "'a",
            "%a",
            "@a",
            "`a",
            "=",
            "<<",
            ".inf",
            "-.INF",
            ".NaN",
            "+1",
            "\u{2028}",
        ];
        for text in quoted {
            assert!(word(text).starts_with(['"', '\'']), "{text}");
        }
    }

    #[test]
    fn the_layout_is_kubectls() {
        let value = json!({
            "args": ["--port", "8080"],
            "empty": {}, "none": [], "null": null, "is": true, "count": 3,
            "ports": [{"name": "http", "port": 80}, {"name": "b"}],
            "nested": [[1, 2], []],
            "text": "listen 8080\n\nroot /srv\n", "open": "a\nb", "wide": "a\n\n",
            "odd": " a\n", "said": "it's: so",
        });
        assert_eq!(
            write(&value),
            "args:\n- --port\n- \"8080\"\nempty: {}\nnone: []\n\"null\": null\nis: true\ncount: 3\n\
             ports:\n- name: http\n  port: 80\n- name: b\nnested:\n- - 1\n  - 2\n- []\n\
             text: |\n  listen 8080\n\n  root /srv\nopen: |-\n  a\n  b\nwide: |+\n  a\n\n\
             odd: \" a\\n\"\nsaid: 'it''s: so'\n"
        );
        assert_eq!(write(&json!("a\nb\n")), "|\n  a\n  b\n");
        assert_eq!(write(&json!([])), "[]\n");
    }

    fn values() -> impl Strategy<Value = Value> {
        let text = prop_oneof![
            "[ -~\n\t]{0,12}",
            "[-+.:0-9eExXTZ_]{0,10}",
            "[a-z:# \n'\"{}\\[\\]!&*|>%@`~=<,?-]{0,10}",
            "\\PC{0,6}",
            any::<String>(),
        ];
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i32>().prop_map(Value::from),
            text.prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 24, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[a-z0-9:. -]{0,5}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_written_reads_as_it_was(value in values()) {
            let text = write(&value);
            let read: Value = serde_yaml::from_str(&text)
                .map_err(|error| TestCaseError::fail(format!("{error}:\n{text}")))?;
            prop_assert_eq!(read, value, "{}", text);
        }
    }
}
