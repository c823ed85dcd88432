//! YAML with places: events of the parser become a tree, and words mean what they mean to
//! Kubernetes ([`super::scalar`]).
//!
//! The rule is sigs.k8s.io/yaml, which every manifest goes through on its way to an API server:
//! YAML 1.1, anchors, merge keys, keys that are no strings made into strings. Stricter than it in
//! two things: a key written twice is an error, and so is a `<<` that stands below a key which it
//! would silently change back (yaml.v2 lets the later one win, the YAML specification the other).
//!
//! Documents are parted at `---` lines before parsing, as `kubectl` does, so that a slip in one
//! does not hide those after it.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::scalar::{self, Resolved};
use super::tree::{At, Entry, Node, Value, quoted};

/// Values may nest this deep. Kubernetes' own types need some 20, the JSON schemas of custom
/// resources some 60; the tree's functions call themselves, so there has to be a bound.
pub(super) const DEPTH_MAX: usize = 128;

/// Aliases of one document may repeat this many values. Manifests that share blocks by anchor
/// repeat some hundreds; "billion laughs" wants more than memory holds.
const ALIASED_VALUES_MAX: usize = 100_000;

/// Anchors of one document may stand over this many values, counted once for each anchor above
/// them: what an anchor names is kept until the document ends.
const ANCHORED_VALUES_MAX: usize = 1_000_000;

/// So many slips, and as many oddities, of one document are noted.
const PROBLEMS_MAX: usize = 100;

/// Something wrong with the text, before anybody asks what it means.
#[derive(Debug)]
pub(super) struct Problem {
    pub(super) at: At,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    pub(super) kind: ProblemKind,
}

/// How bad a [`Problem`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ProblemKind {
    /// The document could not be read.
    Fatal,
    /// It could, but it must not be used.
    Error,
    /// It should be looked at.
    Warning,
}

impl Problem {
    pub(super) fn new(kind: ProblemKind, at: At, message: impl Into<String>) -> Self {
        Self { at, message: message.into(), hint: None, kind }
    }

    pub(super) fn fatal(at: At, message: impl Into<String>) -> Self {
        Self::new(ProblemKind::Fatal, at, message)
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// A document, with what is wrong with it. Without a root it could not be read, or is empty.
#[derive(Debug, Default)]
pub(super) struct Document<'a> {
    pub(super) root: Option<Node<'a>>,
    pub(super) problems: Vec<Problem>,
}

/// Reads all documents of a text.
pub(super) fn read(text: &str) -> Vec<Document<'_>> {
    // A directive (`%YAML`, `%TAG`) belongs to the document after the next `---`: such texts,
    // which hardly exist, are left whole.
    if text.starts_with('%') || text.contains("\n%") {
        return parse(text, 0);
    }
    let mut documents = Vec::new();
    for (line, part) in parts(text) {
        documents.extend(parse(part, line));
    }
    documents
}

/// The parts of `text` from one `---` line to the next, with the number of lines before each.
fn parts(text: &str) -> Vec<(u32, &str)> {
    let mut parts = Vec::new();
    let (mut start, mut start_line, mut line, mut offset) = (0, 0, 0_u32, 0);
    for row in text.split_inclusive('\n') {
        let is_mark = row
            .strip_prefix("---")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\r', '\n']));
        if is_mark && offset > start {
            parts.push((start_line, &text[start..offset]));
            (start, start_line) = (offset, line);
        }
        offset += row.len();
        line = line.saturating_add(1);
    }
    parts.push((start_line, &text[start..]));
    parts
}

fn parse(text: &str, lines_before: u32) -> Vec<Document<'_>> {
    // Whether the last line has something on it, and no end.
    let is_cut = text.lines().last().is_some_and(|line| !line.trim().is_empty())
        && !text.ends_with(['\n', '\r']);
    let cut_at = is_cut.then(|| text.chars().count());
    let mut builder = Builder { lines_before, cut_at, ..Builder::default() };
    for event in Parser::new_from_str(text) {
        let step = match event {
            Ok((event, span)) => builder.take(event, span),
            Err(error) => {
                // What is missing at the end is missed on the line below it.
                let (line, column) = (error.marker().line(), error.marker().col());
                let last = text.lines().count().max(1);
                let at = if line > last {
                    builder.at(last, text.lines().last().map_or(0, |row| row.chars().count()))
                } else {
                    builder.at(line, column)
                };
                Err(syntax(at, error.info()))
            }
        };
        if let Err(problem) = step {
            builder.problems.push(problem);
            builder
                .documents
                .push(Document { root: None, problems: std::mem::take(&mut builder.problems) });
            break;
        }
    }
    builder.documents
}

/// The parser's words, with what usually lies behind them.
fn syntax(at: At, info: &str) -> Problem {
    let problem = Problem::fatal(at, format!("this is not YAML: {info}"));
    if info.contains("tab") { problem.hint("indent with spaces") } else { problem }
}

#[derive(Default)]
struct Builder<'a> {
    lines_before: u32,
    documents: Vec<Document<'a>>,
    problems: Vec<Problem>,
    stack: Vec<Frame<'a>>,
    root: Option<Node<'a>>,
    /// Where a text ends whose last line has no end, in characters.
    cut_at: Option<usize>,
    anchors: BTreeMap<usize, Node<'a>>,
    aliased: usize,
    anchored: usize,
}

/// A collection that is still open.
struct Frame<'a> {
    at: At,
    anchor: usize,
    content: Content<'a>,
}

enum Content<'a> {
    List(Vec<Node<'a>>),
    Map {
        entries: Vec<Entry<'a>>,
        /// The key whose value comes next.
        key: Option<Key<'a>>,
        /// What `<<` brings in, and how many entries stood above it.
        merges: Vec<(usize, Node<'a>)>,
    },
}

enum Key<'a> {
    Text(Cow<'a, str>, At),
    Merge,
    /// Not usable; the problem is noted.
    Bad,
}

impl<'a> Builder<'a> {
    fn at(&self, line: usize, column: usize) -> At {
        At {
            line: u32::try_from(line).unwrap_or(u32::MAX).saturating_add(self.lines_before),
            column: u32::try_from(column).unwrap_or(u32::MAX).saturating_add(1),
        }
    }

    fn note(&mut self, kind: ProblemKind, at: At, message: impl Into<String>) {
        note(&mut self.problems, Problem::new(kind, at, message));
    }

    fn take(&mut self, event: Event<'a>, span: Span) -> Result<(), Problem> {
        let at = self.at(span.start.line(), span.start.col());
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd => {}
            Event::DocumentStart(_) => {
                self.anchors.clear();
                (self.aliased, self.anchored) = (0, 0);
            }
            Event::DocumentEnd => {
                let document = Document {
                    root: self.root.take(),
                    problems: std::mem::take(&mut self.problems),
                };
                self.documents.push(document);
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(at, anchor, tag.as_deref(), Content::List(Vec::new()))?;
            }
            Event::MappingStart(anchor, tag) => {
                let content = Content::Map { entries: Vec::new(), key: None, merges: Vec::new() };
                self.open(at, anchor, tag.as_deref(), content)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            Event::Alias(anchor) => {
                let node = self.alias(anchor, at)?;
                self.place(node, false);
            }
            Event::Scalar(mut text, style, anchor, tag) => {
                let is_block = matches!(style, ScalarStyle::Literal | ScalarStyle::Folded);
                if is_block && self.cut_at.is_some_and(|end| span.end.index() >= end) {
                    // The parser adds the end of line that the text's last line does not have; Kubernetes'
                    // does not.
                    if let Some(bare) = text.strip_suffix('\n') {
                        text = Cow::Owned(bare.to_owned());
                    }
                }
                let is_merge = style == ScalarStyle::Plain && tag.is_none() && text == "<<";
                let node = self.scalar(at, text, style, tag.as_deref());
                self.remember(anchor, &node)?;
                self.place(node, is_merge);
            }
        }
        Ok(())
    }

    fn open(
        &mut self,
        at: At,
        anchor: usize,
        tag: Option<&Tag>,
        content: Content<'a>,
    ) -> Result<(), Problem> {
        if self.stack.len() == DEPTH_MAX {
            let message = format!("nested deeper than {DEPTH_MAX} levels");
            return Err(Problem::fatal(at, message));
        }
        if tag.is_some_and(|tag| !tag.is_yaml_core_schema()) {
            let message = "this tag means nothing to Kubernetes; it is passed over";
            self.note(ProblemKind::Warning, at, message);
        }
        self.stack.push(Frame { at, anchor, content });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Problem> {
        let Some(frame) = self.stack.pop() else {
            return Ok(());
        };
        let value = match frame.content {
            Content::List(items) => Value::List(items),
            Content::Map { mut entries, merges, .. } => {
                drop_duplicates(&mut entries, &mut self.problems);
                for (above, source) in merges {
                    self.merge(&mut entries, above, source);
                }
                Value::Map(entries)
            }
        };
        let node = Node::new(frame.at, value);
        self.remember(frame.anchor, &node)?;
        self.place(node, false);
        Ok(())
    }

    fn remember(&mut self, anchor: usize, node: &Node<'a>) -> Result<(), Problem> {
        if anchor == 0 {
            return Ok(());
        }
        self.anchored += node.weight();
        if self.anchored > ANCHORED_VALUES_MAX {
            let message = format!("anchors stand over more than {ANCHORED_VALUES_MAX} values");
            return Err(Problem::fatal(node.at, message));
        }
        self.anchors.insert(anchor, node.clone());
        Ok(())
    }

    fn alias(&mut self, anchor: usize, at: At) -> Result<Node<'a>, Problem> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(Problem::fatal(at, "this alias stands within its own anchor"));
        };
        self.aliased += node.weight();
        if self.aliased > ALIASED_VALUES_MAX {
            let message = format!("aliases repeat more than {ALIASED_VALUES_MAX} values");
            return Err(Problem::fatal(at, message));
        }
        // Nesting can grow by alias of alias; what hangs below this point must still be bounded.
        if self.stack.len() + depth(node) > DEPTH_MAX {
            let message = format!("nested deeper than {DEPTH_MAX} levels");
            return Err(Problem::fatal(at, message));
        }
        Ok(node.clone())
    }

    fn scalar(
        &mut self,
        at: At,
        text: Cow<'a, str>,
        style: ScalarStyle,
        tag: Option<&Tag>,
    ) -> Node<'a> {
        let resolved = match tag {
            Some(tag) if tag.is_yaml_core_schema() => scalar::tagged(Some(&tag.suffix), text),
            // `! text` is the non-specific tag: text.
            Some(tag) if tag.handle.is_empty() && tag.suffix == "!" => {
                Resolved::Value(Value::Text(text))
            }
            Some(_) => scalar::tagged(None, text),
            None if style == ScalarStyle::Plain => scalar::plain(text),
            None => Resolved::Value(Value::Text(text)),
        };
        let value = match resolved {
            Resolved::Value(value) => value,
            Resolved::Odd(value, message) => {
                self.note(ProblemKind::Warning, at, message);
                value
            }
            Resolved::Unfit(message) => {
                self.note(ProblemKind::Error, at, message);
                Value::Null
            }
        };
        Node::new(at, value)
    }

    /// Puts a finished value where it belongs: into the open collection, or at the root.
    fn place(&mut self, node: Node<'a>, is_merge: bool) {
        let waiting_for_key = match self.stack.last() {
            Some(Frame { content: Content::Map { key: None, .. }, .. }) => true,
            Some(_) => false,
            None => {
                self.root = Some(node);
                return;
            }
        };
        if waiting_for_key {
            let new_key = if is_merge { Key::Merge } else { self.key(node) };
            if let Some(Frame { content: Content::Map { key, .. }, .. }) = self.stack.last_mut() {
                *key = Some(new_key);
            }
            return;
        }
        match self.stack.last_mut().map(|frame| &mut frame.content) {
            Some(Content::List(items)) => items.push(node),
            Some(Content::Map { entries, key, merges }) => match key.take() {
                Some(Key::Text(key, at)) => entries.push(Entry { key, at, node }),
                Some(Key::Merge) => merges.push((entries.len(), node)),
                Some(Key::Bad) | None => {}
            },
            None => {}
        }
    }

    fn key(&mut self, node: Node<'a>) -> Key<'a> {
        let at = node.at;
        let raw = match &node.value {
            Value::Bool(_, raw) | Value::Int(_, raw) | Value::Float(_, raw) => Some(raw.clone()),
            _ => None,
        };
        let Some(key) = scalar::key(node.value) else {
            self.note(ProblemKind::Error, at, "a key must be text");
            return Key::Bad;
        };
        if let Some(raw) = raw.filter(|raw| *raw != key) {
            let message = format!("the key {raw} is read as {key:?}, as Kubernetes reads it");
            let problem = Problem::new(ProblemKind::Warning, at, message);
            let hint = format!("write it in quotes: \"{raw}\"");
            note(&mut self.problems, problem.hint(hint));
        }
        Key::Text(key, at)
    }

    /// Adds the entries of `source` (a map, or a list of maps of which the first wins) that
    /// `entries` does not have; the first `above` of them stood above the `<<`.
    fn merge(&mut self, entries: &mut Vec<Entry<'a>>, above: usize, source: Node<'a>) {
        let at = source.at;
        let maps = match source.value {
            Value::Map(map) => vec![map],
            Value::List(items) => items
                .into_iter()
                .filter_map(|item| match item.value {
                    Value::Map(map) => Some(map),
                    _ => {
                        self.note(ProblemKind::Error, item.at, "'<<' takes maps only");
                        None
                    }
                })
                .collect(),
            _ => {
                self.note(ProblemKind::Error, at, "'<<' takes a map or a list of maps");
                return;
            }
        };
        let own: BTreeMap<String, usize> = entries
            .iter()
            .enumerate()
            .map(|(index, entry)| (entry.key.to_string(), index))
            .collect();
        let mut merged: BTreeSet<String> = BTreeSet::new();
        for entry in maps.into_iter().flatten() {
            match own.get(&*entry.key) {
                Some(&index) if index < above => {
                    let place = entries[index].at;
                    let message = format!(
                        "{:?} is also in what '<<' brings in below: readers differ on which wins",
                        entry.key
                    );
                    let problem = Problem::new(ProblemKind::Error, place, message);
                    let hint = "write '<<' above the keys that replace what it brings in";
                    note(&mut self.problems, problem.hint(hint));
                }
                Some(_) => {}
                None => {
                    if merged.insert(entry.key.to_string()) {
                        entries.push(entry);
                    }
                }
            }
        }
    }
}

/// Notes a problem, unless there are enough of its kind. Oddities can't crowd out slips: one slip
/// refuses the document.
fn note(problems: &mut Vec<Problem>, problem: Problem) {
    let room = match problem.kind {
        ProblemKind::Warning => PROBLEMS_MAX,
        ProblemKind::Fatal | ProblemKind::Error => 2 * PROBLEMS_MAX,
    };
    if problems.len() < room {
        problems.push(problem);
    }
}

/// Notes keys that are written twice and keeps the first of each.
pub(super) fn drop_duplicates(entries: &mut Vec<Entry<'_>>, problems: &mut Vec<Problem>) {
    /// Below this many entries comparing each with each is quicker than a set.
    const FEW: usize = 12;
    let is_repeated = if entries.len() <= FEW {
        (1..entries.len()).any(|i| entries[..i].iter().any(|e| e.key == entries[i].key))
    } else {
        let distinct: BTreeSet<&str> = entries.iter().map(|entry| &*entry.key).collect();
        distinct.len() < entries.len()
    };
    if !is_repeated {
        return;
    }
    let mut first: BTreeMap<String, u32> = BTreeMap::new();
    entries.retain(|entry| match first.get(&*entry.key) {
        None => {
            first.insert(entry.key.to_string(), entry.at.line);
            true
        }
        Some(line) => {
            let key = quoted(&entry.key);
            let message = format!("the key {key} stands already at line {line}");
            note(problems, Problem::new(ProblemKind::Error, entry.at, message));
            false
        }
    });
}

fn depth(node: &Node<'_>) -> usize {
    match &node.value {
        Value::List(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Map(entries) => 1 + entries.iter().map(|e| depth(&e.node)).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use proptest::prelude::*;

    use super::super::tree::to_json;
    use super::*;

    /// The documents as JSON, one a line, and the problems as `line:column message`.
    fn read_all(text: &str) -> (String, Vec<String>) {
        let (mut json, mut problems) = (String::new(), Vec::new());
        for document in read(text) {
            if let Some(root) = &document.root {
                writeln!(json, "{}", to_json(root)).expect("a String");
            }
            for problem in document.problems {
                let At { line, column } = problem.at;
                problems.push(format!("{line}:{column} {}", problem.message));
            }
        }
        (json.trim_end().to_owned(), problems)
    }

    #[test]
    fn yaml_is_read_as_kubernetes_reads_it() {
        let table: &[(&str, &str)] = &[
            ("", ""),
            ("# only a comment\n", ""),
            ("mode: 0644\non: yes\n", r#"{"mode":420,"true":true}"#),
            ("a: 'yes'\nb: \"1\"\nc: |\n  1\n", r#"{"a":"yes","b":"1","c":"1\n"}"#),
            ("a:\nb: ~\n", r#"{"a":null,"b":null}"#),
            ("a: 1\n---\nb: 2\n...\n---\n", "{\"a\":1}\n{\"b\":2}\nnull"),
            ("--- # first\na: 1\n--- {b: 2}\n", "{\"a\":1}\n{\"b\":2}"),
            ("a: |\n  ---\n  x\n", r#"{"a":"---\nx\n"}"#),
            // A last line without its end gives a text without it.
            ("a: |\n  é\n  x", r#"{"a":"é\nx"}"#),
            ("a: |+\n  x", r#"{"a":"x"}"#),
            ("a: >\n  x\n  y", r#"{"a":"x y"}"#),
            ("a: |\n  x\nb: z", r#"{"a":"x\n","b":"z"}"#),
            ("a: \"x\\ty\"\r\nb: 2\r\n", r#"{"a":"x\ty","b":2}"#),
            ("a: &x {p: 1}\nb: *x\n", r#"{"a":{"p":1},"b":{"p":1}}"#),
            (
                "base: &b {p: 1, q: 2}\nc:\n  <<: *b\n  q: 3\n",
                r#"{"base":{"p":1,"q":2},"c":{"p":1,"q":3}}"#,
            ),
            (
                "v: &v {p: 1}\nw: &w {p: 2, q: 2}\nc: {<<: [*v, *w]}\n",
                r#"{"c":{"p":1,"q":2},"v":{"p":1},"w":{"p":2,"q":2}}"#,
            ),
            ("'<<': 1\n", r#"{"<<":1}"#),
            ("8080: a\n1.5: b\n", r#"{"1.5":"b","8080":"a"}"#),
            ("a: !!str 1\nb: ! 2\nc: !!int '3'\n", r#"{"a":"1","b":"2","c":3}"#),
            ("%YAML 1.1\n---\na: 1\n", r#"{"a":1}"#),
            ("a: https://x/y#z\nb: [A,B,]\n", r#"{"a":"https://x/y#z","b":["A","B"]}"#),
            ("a: 2015-01-01\nb: 1:30\n", r#"{"a":"2015-01-01","b":"1:30"}"#),
        ];
        for (text, json) in table {
            let (read, problems) = read_all(text);
            let grave = problems.iter().find(|p| !p.contains("is read as"));
            assert_eq!(grave, None, "{text:?}");
            assert_eq!(read, *json, "{text:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        let table: &[(&str, &[&str])] = &[
            ("a: 1\nb: 2\na: 3\n", &["3:1 the key \"a\" stands already at line 1"]),
            ("a: 1\n---\nb: 2\nb: 3\n", &["4:1 the key \"b\" stands already at line 3"]),
            ("y: 1\n", &["1:1 the key y is read as \"true\", as Kubernetes reads it"]),
            ("~: 1\n", &["1:1 a key must be text"]),
            ("? [a]\n: 1\n", &["1:3 a key must be text"]),
            ("a: .inf\n", &["1:4 .inf is not a number JSON can carry"]),
            ("a: !Ref b\n", &["1:4 this tag means nothing to Kubernetes"]),
            ("a: !!int b\n", &["1:4 this is not an integer"]),
            ("a: &a [*a]\n", &["1:8 this alias stands within its own anchor"]),
            ("a: *b\n", &["1:4 this is not YAML"]),
            ("x: &x {p: 1}\nc:\n  p: 2\n  <<: *x\n", &["3:3 \"p\" is also in what"]),
            ("c: {<<: 1}\n", &["1:9 '<<' takes a map"]),
            ("a: [1\n---\nb: {\n---\nc: 1\n", &["1:6", "3:5"]),
            ("a: b: c\n", &["1:5 this is not YAML"]),
            ("a:\n\t- b\n", &["2:"]),
        ];
        for (text, expected) in table {
            let (_, problems) = read_all(text);
            assert_eq!(problems.len(), expected.len(), "{text:?}: {problems:?}");
            for (problem, start) in problems.iter().zip(*expected) {
                assert!(problem.starts_with(start), "{text:?}: {problem}");
            }
        }
    }

    #[test]
    fn a_slip_in_one_document_does_not_hide_the_others() {
        let (json, problems) = read_all("a: [\n---\nb: 1\n");
        assert_eq!((json.as_str(), problems.len()), ("{\"b\":1}", 1));
    }

    #[test]
    fn bombs_are_defused() {
        let mut laughs = String::from("a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n");
        for i in 1..12 {
            let p = i - 1;
            writeln!(
                laughs,
                "a{i}: &a{i} [*a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}, *a{p}]"
            )
            .expect("a String");
        }
        let (_, problems) = read_all(&laughs);
        assert!(problems[0].contains("aliases repeat"), "{problems:?}");

        let mut chain = String::from("a0: &a0 [x]\n");
        for i in 1..200 {
            writeln!(chain, "a{i}: &a{i} [*a{}]", i - 1).expect("a String");
        }
        let (_, problems) = read_all(&chain);
        assert!(problems[0].contains("nested deeper"), "{problems:?}");

        let nested: String = (0..120).fold(String::new(), |mut text, i| {
            write!(text, "&n{i} [").expect("a String");
            text
        });
        let wide = format!("{nested}{}{}", "1,".repeat(20_000), "]".repeat(120));
        let (_, problems) = read_all(&wide);
        assert!(problems[0].contains("anchors stand over"), "{problems:?}");

        for deep in ["- ".repeat(5_000), "[".repeat(5_000), "{a: ".repeat(5_000)] {
            let (_, problems) = read_all(&deep);
            assert_eq!(problems.len(), 1, "{:?}", &deep[..8]);
        }
    }

    /// Values on whose meaning YAML 1.1 and 1.2 agree, as JSON.
    fn agreed() -> impl Strategy<Value = serde_json::Value> {
        use serde_json::Value as Json;
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i32>().prop_map(Json::from),
            (-1000_i32..1000).prop_map(|n| Json::from(f64::from(n) + 0.5)),
            // Words and numbers are where the versions differ; `scalar` has a table of them.
            "[ !-*,/:-~][ -~]{0,11}"
                .prop_filter("a word of YAML 1.1", |text| !is_word(text))
                .prop_map(Json::from),
            "[a-z]{1,3}: [a-z]{1,3}\n[a-zäö€😀]{0,5}\n".prop_map(Json::from),
        ];
        leaf.prop_recursive(4, 24, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Json::from),
                prop::collection::btree_map("[a-z][a-zA-Z0-9./_-]{3,8}", inner, 0..4)
                    .prop_map(Json::from_iter),
            ]
        })
    }

    fn is_word(text: &str) -> bool {
        ["y", "n", "yes", "no", "on", "off"].contains(&text.to_ascii_lowercase().as_str())
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC*") {
            let _ = read(&text);
        }

        #[test]
        fn yaml_like_text_does_not_panic(
            lines in prop::collection::vec("[ ]{0,4}[-?:&*!|>'\"{}\\[\\]a-c0-9 ,#%~<]{0,10}", 0..12)
        ) {
            let _ = read(&lines.join("\n"));
        }

        /// serde_yaml quotes by YAML 1.2 and also what YAML 1.1 would misread; both readers must
        /// then find the same.
        #[test]
        fn agrees_with_serde_yaml_where_the_versions_agree(value in agreed()) {
            let text = serde_yaml::to_string(&value).expect("serializes");
            let theirs: serde_json::Value = serde_yaml::from_str(&text).expect("reads its own");
            let (json, problems) = read_all(&text);
            prop_assert!(problems.is_empty(), "{text:?}: {problems:?}");
            let ours: serde_json::Value = serde_json::from_str(&json).expect("JSON");
            prop_assert_eq!(normal(ours), normal(theirs), "{}", text);
        }
    }

    /// Numbers as floats: `-0.5` and `1.0` print differently here and there.
    fn normal(value: serde_json::Value) -> serde_json::Value {
        use serde_json::Value as Json;
        match value {
            Json::Number(number) => Json::from(number.as_f64()),
            Json::Array(items) => items.into_iter().map(normal).collect(),
            Json::Object(map) => map.into_iter().map(|(k, v)| (k, normal(v))).collect(),
            other => other,
        }
    }
}
