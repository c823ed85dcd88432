//! JSON with places. YAML is said to contain JSON, but not its `\/` in older readers, nor its
//! surrogate pairs, nor tabs everywhere; so JSON has a reader of its own.

use std::borrow::Cow;

use super::tree::{At, Entry, Node, Value};
use super::yaml::{DEPTH_MAX, Problem};

/// Reads the values of a JSON text, one after the other, as `kubectl` does. Stops at the first
/// thing that is not JSON.
pub(super) fn read(text: &str) -> (Vec<Node<'_>>, Vec<Problem>) {
    let mut reader = Reader {
        text,
        at: 0,
        line: 1,
        line_start: 0,
        column_at: (0, 1),
        depth: 0,
        problems: Vec::new(),
    };
    let mut values = Vec::new();
    loop {
        reader.skip_blank();
        if reader.at == text.len() {
            return (values, reader.problems);
        }
        match reader.value() {
            Ok(value) => values.push(value),
            Err(problem) => {
                reader.problems.push(problem);
                return (values, reader.problems);
            }
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    line: u32,
    line_start: usize,
    /// A byte offset on this line and its column: columns are counted on from here, so that a
    /// long line costs its length once.
    column_at: (usize, u32),
    depth: usize,
    problems: Vec<Problem>,
}

impl<'a> Reader<'a> {
    fn here(&mut self) -> At {
        if self.column_at.0 < self.line_start {
            self.column_at = (self.line_start, 1);
        }
        let (from, column) = self.column_at;
        let more = self
            .text
            .get(from..self.at)
            .map_or(0, |s| s.chars().count());
        let column = column.saturating_add(u32::try_from(more).unwrap_or(u32::MAX));
        self.column_at = (self.at, column);
        At {
            line: self.line,
            column,
        }
    }

    fn fail<T>(&mut self, message: impl Into<String>) -> Result<T, Problem> {
        Err(Problem::fatal(self.here(), message))
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_blank(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b'\n' => {
                    self.line = self.line.saturating_add(1);
                    self.line_start = self.at + 1;
                }
                b' ' | b'\t' | b'\r' => {}
                _ => return,
            }
            self.at += 1;
        }
    }

    fn value(&mut self) -> Result<Node<'a>, Problem> {
        self.skip_blank();
        let at = self.here();
        let value = match self.peek() {
            Some(b'{') => self.nested(Self::map)?,
            Some(b'[') => self.nested(Self::list)?,
            Some(b'"') => Value::Text(self.string()?),
            Some(b'-' | b'0'..=b'9') => self.number()?,
            Some(_) => self.word()?,
            None => return self.fail("the JSON ends in the middle"),
        };
        Ok(Node::new(at, value))
    }

    fn nested(
        &mut self,
        read: fn(&mut Self) -> Result<Value<'a>, Problem>,
    ) -> Result<Value<'a>, Problem> {
        if self.depth == DEPTH_MAX {
            return self.fail(format!("nested deeper than {DEPTH_MAX} levels"));
        }
        self.depth += 1;
        self.at += 1;
        let value = read(self)?;
        self.depth -= 1;
        Ok(value)
    }

    fn map(&mut self) -> Result<Value<'a>, Problem> {
        let mut entries: Vec<Entry<'a>> = Vec::new();
        self.skip_blank();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(Value::Map(entries));
        }
        loop {
            self.skip_blank();
            let at = self.here();
            if self.peek() != Some(b'"') {
                return self.fail("expected a key in double quotes");
            }
            let key = self.string()?;
            self.skip_blank();
            if self.peek() != Some(b':') {
                return self.fail("expected ':' after the key");
            }
            self.at += 1;
            let node = self.value()?;
            entries.push(Entry { key, at, node });
            self.skip_blank();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b'}') => break,
                _ => return self.fail("expected ',' or '}'"),
            }
        }
        self.at += 1;
        super::yaml::drop_duplicates(&mut entries, &mut self.problems);
        Ok(Value::Map(entries))
    }

    fn list(&mut self) -> Result<Value<'a>, Problem> {
        let mut items = Vec::new();
        self.skip_blank();
        if self.peek() == Some(b']') {
            self.at += 1;
            return Ok(Value::List(items));
        }
        loop {
            items.push(self.value()?);
            self.skip_blank();
            match self.peek() {
                Some(b',') => self.at += 1,
                Some(b']') => break,
                _ => return self.fail("expected ',' or ']'"),
            }
        }
        self.at += 1;
        Ok(Value::List(items))
    }

    fn word(&mut self) -> Result<Value<'a>, Problem> {
        let rest = &self.text[self.at..];
        let end = rest
            .find(|c: char| !c.is_ascii_alphanumeric())
            .unwrap_or(rest.len());
        let word = &rest[..end];
        let value = match word {
            "null" => Value::Null,
            "true" => Value::Bool(true, Cow::Borrowed(word)),
            "false" => Value::Bool(false, Cow::Borrowed(word)),
            _ => return self.fail("expected a JSON value"),
        };
        self.at += end;
        Ok(value)
    }

    fn number(&mut self) -> Result<Value<'a>, Problem> {
        let rest = &self.text[self.at..];
        let end = rest
            .find(|c: char| !matches!(c, '0'..='9' | '+' | '-' | '.' | 'e' | 'E'))
            .unwrap_or(rest.len());
        let raw = &rest[..end];
        let value = match serde_json::from_str::<serde_json::Number>(raw) {
            Ok(number) => match (number.as_i64(), number.as_f64()) {
                (Some(value), _) => Value::Int(value, Cow::Borrowed(raw)),
                (None, Some(value)) => Value::Float(value, Cow::Borrowed(raw)),
                (None, None) => return self.fail("a number that is out of range"),
            },
            Err(_) => return self.fail("expected a JSON number"),
        };
        self.at += end;
        Ok(value)
    }

    fn string(&mut self) -> Result<Cow<'a, str>, Problem> {
        let start = self.at + 1;
        let bytes = self.text.as_bytes();
        let mut end = start;
        let mut escaped = false;
        loop {
            match bytes.get(end) {
                Some(b'"') => break,
                Some(b'\\') => {
                    escaped = true;
                    end += 2;
                }
                Some(0..=0x1f) => {
                    self.at = end;
                    return self.fail("a control character within a string: write it as an escape");
                }
                Some(_) => end += 1,
                None => return self.fail("this string has no end"),
            }
        }
        let text = if escaped {
            // Escapes are few; serde_json knows them all, surrogate pairs included.
            match serde_json::from_str::<String>(&self.text[self.at..=end]) {
                Ok(text) => Cow::Owned(text),
                Err(_) => return self.fail("this string has an escape that JSON does not know"),
            }
        } else {
            Cow::Borrowed(&self.text[start..end])
        };
        self.at = end + 1;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::tree::to_json;
    use super::*;

    fn place(problem: &Problem) -> (u32, u32) {
        (problem.at.line, problem.at.column)
    }

    #[test]
    fn json_is_read_with_places() {
        let (values, problems) =
            read("{\"a\": [1,\t2.5, \"x\\/\\ud83d\\ude00\"],\n \"ü\": {\"b\": null}} {}");
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(values.len(), 2);
        assert_eq!(
            to_json(&values[0]),
            "{\"a\":[1,2.5,\"x/😀\"],\"ü\":{\"b\":null}}"
        );
        let inner = values[0]
            .get("ü")
            .and_then(|m| m.entry("b"))
            .expect("is there");
        assert_eq!((inner.at.line, inner.at.column), (2, 8));
    }

    #[test]
    fn what_is_not_json_is_said_with_its_place() {
        let table = [
            ("{\"a\": }", (1, 7)),
            ("{\n \"a\" 1}", (2, 6)),
            ("{\"a\": 1,}", (1, 9)),
            ("[1 2]", (1, 4)),
            ("{\"a\": \"x", (1, 7)),
            ("{\"a\": \"x\ny\"}", (1, 9)),
            ("{\"a\": \"\\x\"}", (1, 7)),
            ("{\"a\": 01}", (1, 7)),
            ("// comment\n{}", (1, 1)),
            ("{'a': 1}", (1, 2)),
            ("[nul]", (1, 2)),
        ];
        for (text, at) in table {
            let (_, problems) = read(text);
            assert_eq!(problems.len(), 1, "{text:?}");
            assert_eq!(place(&problems[0]), at, "{text:?}: {}", problems[0].message);
        }
        let (_, problems) = read("{\"a\": 1,\n\"a\": 2}");
        assert_eq!(place(&problems[0]), (2, 1), "duplicate");
        let deep = "[".repeat(100_000);
        assert!(read(&deep).1[0].message.contains("nested"));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = read(&text);
        }

        #[test]
        fn what_serde_json_writes_is_read_back(text in "\\PC*", number in any::<i64>()) {
            let written = serde_json::json!({"t": text, "n": [number, null, true]}).to_string();
            let (values, problems) = read(&written);
            prop_assert!(problems.is_empty());
            let read_back: serde_json::Value = serde_json::from_str(&to_json(&values[0])).expect("JSON");
            prop_assert_eq!(read_back, serde_json::from_str::<serde_json::Value>(&written).expect("JSON"));
        }
    }
}
