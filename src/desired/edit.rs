//! A change of one object becomes a change of a few lines of its manifest, and of nothing else.
//!
//! A careful hand with a pencil: it finds the word, writes the other one, and leaves comments, order
//! and spacing as their author has them. Then the file is read again by the rules of every commit: the
//! object must say what was asked for and all else what it said before, or nothing is changed.
//!
//! ```text
//!   text ─▶ spans: where it stands ─▶ the new text ─▶ parse ─▶ as before, but for the one thing? ─▶ Ok
//!                                                              └─▶ no: Unplaced, with file and line
//! ```
//! The limit: what stands behind an alias or in a generated file has no line of its own to change.

use std::sync::Arc;

use serde_json::Value;

use super::document::{self, ParsedFile};
use super::spans::{self, Form, Pair, Spot};
use crate::kinds::finding::Place;
use crate::kinds::object::{Key, Object};
use crate::ports::source::FileContent;

/// The annotation by which `kubectl rollout restart` makes a template another one.
pub const ANNOTATION_RESTARTED: &str = "kubectl.kubernetes.io/restartedAt";

/// What somebody asks of an object.
#[derive(Clone, Copy, Debug)]
pub enum Wish<'a> {
    /// `spec.replicas`.
    Replicas(u32),
    /// `spec.paused`.
    Paused(bool),
    /// [`ANNOTATION_RESTARTED`] of the pod template, at this time.
    RestartedAt(&'a str),
    /// The pod template that the object has in this file.
    TemplateOf(&'a FileContent),
}

/// A change that can't be made by itself: a person has to make it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unplaced {
    /// Where.
    pub place: Place,
    /// What would have to stand there.
    pub what: String,
    /// Why it was not done.
    pub why: &'static str,
}

/// The object in a file, also one that only `windlass.yaml` lets through.
pub fn object<'f>(file: &'f ParsedFile, key: &Key) -> Option<&'f Arc<Object>> {
    let waived = file.waivable.iter().filter_map(|waivable| waivable.object.as_ref());
    file.objects.iter().chain(waived).find(|object| object.key == *key)
}

/// The text of the file after the change; the same text where nothing is to be changed.
pub fn edit(file: &FileContent, key: &Key, wish: Wish<'_>) -> Result<String, Unplaced> {
    let before = document::parse(file);
    let line = object(&before, key).map_or(0, |object| object.place.line);
    let unplaced = |line, why| Unplaced {
        place: Place { path: Arc::clone(&file.path), line, column: 0 },
        what: wish.what(file),
        why,
    };
    let Some(old) = object(&before, key) else {
        return Err(unplaced(0, "the object can't be read there"));
    };
    if super::charts::directory(&file.path).is_some() {
        return Err(unplaced(0, "it comes from a chart: its values or its templates say so"));
    }
    let Ok(text) = std::str::from_utf8(&file.bytes) else {
        return Err(unplaced(line, "the file is not UTF-8"));
    };
    let bare = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mark = &text[..text.len() - bare.len()];
    let pencil = Pencil::new(bare);
    let documents = spans::read(bare).unwrap_or_default();
    let Some(spot) = documents.iter().find_map(|document| find(document, key)) else {
        return Err(unplaced(line, "its document can't be told from its neighbours"));
    };
    let line = pencil.line(nearest(spot, wish.path()));
    let new = match pencil.change(spot, key, wish) {
        Ok(new) => format!("{mark}{new}"),
        Err((at, why)) => return Err(unplaced(at.map_or(line, |at| pencil.line(at)), why)),
    };
    let content = FileContent { bytes: new.as_bytes().into(), ..file.clone() };
    let after = document::parse(&content);
    match holds(&before, &after, old, wish) {
        true => Ok(new),
        false => Err(unplaced(line, "its lines stand for other things too, or are not its own")),
    }
}

/// Whether a file that became another one did nothing but this to the object.
pub fn is_just(before: &FileContent, after: &FileContent, key: &Key, wish: Wish<'_>) -> bool {
    let (before, after) = (document::parse(before), document::parse(after));
    object(&before, key).is_some_and(|old| holds(&before, &after, old, wish))
}

impl Wish<'_> {
    /// The field that changes.
    fn path(&self) -> &'static [&'static str] {
        match self {
            Self::Replicas(_) => &["spec", "replicas"],
            Self::Paused(_) => &["spec", "paused"],
            Self::RestartedAt(_) => {
                &["spec", "template", "metadata", "annotations", ANNOTATION_RESTARTED]
            }
            Self::TemplateOf(_) => &["spec", "template"],
        }
    }

    fn what(&self, file: &FileContent) -> String {
        match self {
            Self::Replicas(count) => format!("set spec.replicas to {count}"),
            Self::Paused(paused) => format!("set spec.paused to {paused}"),
            Self::RestartedAt(time) => {
                format!("set the annotation {ANNOTATION_RESTARTED} of spec.template to \"{time}\"")
            }
            Self::TemplateOf(other) if other.path == file.path => {
                "set spec.template to what it was".to_owned()
            }
            Self::TemplateOf(other) => {
                format!("set spec.template to what it was in {}", other.path)
            }
        }
    }
}

/// Whether the object says what was asked for, and the file otherwise says what it said.
fn holds(before: &ParsedFile, after: &ParsedFile, old: &Object, wish: Wish<'_>) -> bool {
    let waived = |file: &ParsedFile| {
        let waived = file.waivable.iter().filter_map(|waivable| waivable.object.clone());
        let all: Vec<Arc<Object>> = file.objects.iter().cloned().chain(waived).collect();
        all
    };
    let errors = |file: &ParsedFile| file.findings.iter().filter(|one| one.is_error()).count();
    let (old_objects, new_objects) = (waived(before), waived(after));
    if errors(after) > errors(before) || old_objects.len() != new_objects.len() {
        return false;
    }
    old_objects.iter().zip(&new_objects).all(|(was, is)| {
        let is_other = was.key != old.key;
        was.key == is.key
            && if is_other { was.meaning == is.meaning } else { says(&was.json, &is.json, wish) }
    })
}

/// Whether the object's JSON is what it was but for the change.
fn says(was: &str, is: &str, wish: Wish<'_>) -> bool {
    let read = |json: &str| serde_json::from_str::<Value>(json).unwrap_or_default();
    let (mut was, mut is) = (read(was), read(is));
    let template = match wish {
        Wish::TemplateOf(file) => template_like(&document::parse(file), &is),
        _ => None,
    };
    take(&mut was, wish.path());
    let now = take(&mut is, wish.path());
    let as_asked = match wish {
        Wish::Replicas(count) => now == Some(count.into()),
        // What is not written is not paused.
        Wish::Paused(paused) => now.unwrap_or(Value::Bool(false)) == Value::Bool(paused),
        Wish::RestartedAt(time) => now == Some(time.into()),
        Wish::TemplateOf(_) => template.is_some() && now == template,
    };
    for json in [&mut was, &mut is] {
        let metadata = json.pointer_mut("/spec/template/metadata").and_then(Value::as_object_mut);
        if let Some(metadata) = metadata
            && metadata
                .get("annotations")
                .and_then(Value::as_object)
                .is_some_and(serde_json::Map::is_empty)
        {
            metadata.remove("annotations");
        }
    }
    as_asked && was == is
}

/// The template of the object of the same name in another file.
fn template_like(file: &ParsedFile, object: &Value) -> Option<Value> {
    let read = |json: &str| serde_json::from_str::<Value>(json).unwrap_or_default();
    let name = |json: &Value| {
        let fields = ["/kind", "/metadata/namespace", "/metadata/name"];
        fields.map(|field| json.pointer(field).cloned())
    };
    let mut all = file.objects.iter().map(|object| read(&object.json));
    all.find(|json| name(json) == name(object))?.pointer("/spec/template").cloned()
}

fn take(json: &mut Value, path: &[&str]) -> Option<Value> {
    let (field, parents) = path.split_last()?;
    let parent = parents.iter().try_fold(json, |json, field| json.get_mut(*field))?;
    parent.as_object_mut()?.remove(*field)
}

/// Where the field stands, or as much of the way to it as is written.
fn nearest(object: &Spot<'_>, path: &[&str]) -> usize {
    let (mut spot, mut at) = (object, object.from);
    for field in path {
        let Some(pair) = spot.pair(field) else { break };
        (spot, at) = (&pair.value, pair.key.from);
    }
    at
}

/// The object's own map: a document, or an item of a list.
fn find<'s, 't>(spot: &'s Spot<'t>, key: &Key) -> Option<&'s Spot<'t>> {
    if let Some(Form::List(items)) = spot.get("items").map(|items| &items.form) {
        return items.iter().find_map(|item| find(item, key));
    }
    let metadata = spot.get("metadata")?;
    let text = |field: &str| metadata.get(field).and_then(Spot::text);
    let namespace = text("namespace").filter(|text| !text.is_empty()).unwrap_or("default");
    let is_it = spot.get("kind").and_then(Spot::text) == Some(key.kind.name())
        && text("name") == Some(key.name.as_str())
        && (!key.kind.info().namespaced || namespace == key.namespace_str());
    is_it.then_some(spot)
}

/// Where it could not be done, and why.
type Blot = (Option<usize>, &'static str);

struct Pencil<'t> {
    text: &'t str,
    newline: &'static str,
    is_json: bool,
}

impl<'t> Pencil<'t> {
    fn new(text: &'t str) -> Self {
        let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
        Self { text, newline, is_json: text.trim_start().starts_with(['{', '[']) }
    }

    /// Counted from 1.
    fn line(&self, at: usize) -> u32 {
        let breaks = self.text.bytes().take(at).filter(|byte| *byte == b'\n').count();
        u32::try_from(breaks + 1).unwrap_or(u32::MAX)
    }

    fn line_start(&self, at: usize) -> usize {
        self.text[..at].rfind('\n').map_or(0, |newline| newline + 1)
    }

    /// The beginning of the line below.
    fn line_end(&self, at: usize) -> usize {
        self.text[at..].find('\n').map_or(self.text.len(), |newline| at + newline + 1)
    }

    fn replaced(&self, from: usize, to: usize, new: &str) -> String {
        [&self.text[..from], new, &self.text[to..]].concat()
    }

    fn change(&self, object: &Spot<'_>, key: &Key, wish: Wish<'_>) -> Result<String, Blot> {
        match wish {
            Wish::Replicas(count) => self.set(object, wish.path(), &count.to_string()),
            Wish::Paused(true) => self.set(object, wish.path(), "true"),
            Wish::Paused(false) => self.unpause(object),
            Wish::RestartedAt(time) => self.set(object, wish.path(), &format!("\"{time}\"")),
            Wish::TemplateOf(file) => self.restore(object, key, file),
        }
    }

    /// Takes the line out where it says nothing else: what `pause` wrote, `resume` takes away.
    fn unpause(&self, object: &Spot<'_>) -> Result<String, Blot> {
        let Some(pair) = object.get("spec").and_then(|spec| spec.pair("paused")) else {
            return Ok(self.text.to_owned());
        };
        let (from, to) = (self.line_start(pair.key.from), self.line_end(pair.value.to));
        let around = [&self.text[from..pair.key.from], &self.text[pair.value.to..to]];
        if around.iter().all(|rest| rest.trim().is_empty()) {
            return Ok(self.replaced(from, to, ""));
        }
        self.set(object, Wish::Paused(false).path(), "false")
    }

    /// Writes a value at a path, with as much of the path as is missing.
    fn set(&self, object: &Spot<'_>, path: &[&str], value: &str) -> Result<String, Blot> {
        let mut spot = object;
        let mut above: Option<&Pair<'_>> = None;
        for (at, field) in path.iter().enumerate() {
            match spot.pair(field) {
                Some(pair) => {
                    above = Some(pair);
                    spot = &pair.value;
                }
                None => return self.insert(spot, above, &path[at..], value),
            }
        }
        match (&spot.form, above) {
            (Form::Text(_), Some(pair)) if self.is_missing(spot) => {
                let colon = self.text[pair.key.to..].find(':').map(|at| pair.key.to + at + 1);
                let colon = colon.ok_or((Some(pair.key.from), "its value can't be placed"))?;
                Ok(self.replaced(colon, colon, &format!(" {value}")))
            }
            (Form::Text(_), _) if !self.text[spot.from..spot.to].contains('\n') => {
                Ok(self.replaced(spot.from, spot.to, value))
            }
            (Form::Alias, _) => Err((Some(spot.from), "it is an alias of another place")),
            _ => Err((Some(spot.from), "what stands there is no single word")),
        }
    }

    /// Only a key was written.
    fn is_missing(&self, spot: &Spot<'_>) -> bool {
        spot.text() == Some("") && self.text[spot.from..spot.to].trim().is_empty()
    }

    /// Writes what is missing of a path into `spot`, the value of `above`.
    fn insert(
        &self,
        spot: &Spot<'_>,
        above: Option<&Pair<'_>>,
        path: &[&str],
        value: &str,
    ) -> Result<String, Blot> {
        let is_missing = self.is_missing(spot);
        if self.text[spot.from..].starts_with('{') && !is_missing {
            return Ok(self.insert_in_brackets(spot, path, value));
        }
        let Some(above) = above else {
            return Err((Some(spot.from), "it has no line of its own"));
        };
        let start = self.line_start(above.key.from);
        let is_own_line = self.text[start..above.key.from].chars().all(|c| c == ' ');
        let indent = match &spot.form {
            Form::Map(_) if self.line_start(spot.from) > above.key.to => {
                spot.from - self.line_start(spot.from)
            }
            Form::Text(_) if is_missing && is_own_line => above.key.from - start + 2,
            Form::Alias => return Err((Some(spot.from), "it is an alias of another place")),
            _ => return Err((Some(above.key.from), "it has no line of its own")),
        };
        let at = self.line_end(above.key.to);
        // The last line of a file need not end.
        let mut lines = match self.text[..at].ends_with('\n') {
            true => String::new(),
            false => self.newline.to_owned(),
        };
        for (depth, field) in path.iter().enumerate() {
            let pad = " ".repeat(indent + 2 * depth);
            let value = if depth + 1 == path.len() { format!(" {value}") } else { String::new() };
            lines.push_str(&format!("{pad}{field}:{value}{}", self.newline));
        }
        Ok(self.replaced(at, at, &lines))
    }

    fn insert_in_brackets(&self, spot: &Spot<'_>, path: &[&str], value: &str) -> String {
        let quote = if self.is_json { "\"" } else { "" };
        let key = |field: &str| format!("{quote}{field}{quote}: ");
        let (keys, brackets) = (path.iter().map(|field| key(field)), path.len() - 1);
        let mut new = keys.collect::<Vec<_>>().join("{");
        new.push_str(value);
        new.push_str(&"}".repeat(brackets));
        if matches!(&spot.form, Form::Map(pairs) if !pairs.is_empty()) {
            new.push_str(", ");
        }
        self.replaced(spot.from + 1, spot.from + 1, &new)
    }

    /// Copies the lines of a template out of another file.
    fn restore(&self, object: &Spot<'_>, key: &Key, file: &FileContent) -> Result<String, Blot> {
        let at = Some(object.from);
        let text =
            std::str::from_utf8(&file.bytes).map_err(|_| (at, "the old file is not UTF-8"))?;
        let source = Pencil::new(text.strip_prefix('\u{feff}').unwrap_or(text));
        let documents = spans::read(source.text).ok_or((at, "the old file can't be read"))?;
        let old = documents.iter().find_map(|document| find(document, key));
        let old =
            old.ok_or((at, "the object can't be told from its neighbours in the old file"))?;
        let (from, to, indent) =
            source.block(old).ok_or((at, "the old template has no lines of its own"))?;
        let (start, end, own_indent) =
            self.block(object).ok_or((at, "its template has no lines of its own"))?;
        let mut lines = String::new();
        for line in source.text[from..to].lines() {
            let bare = line.trim_start_matches(' ');
            let depth = line.len() - bare.len();
            if bare.is_empty() {
                lines.push_str(self.newline);
                continue;
            }
            let depth = (depth + own_indent).checked_sub(indent);
            let depth = depth.ok_or((at, "the old template is not indented evenly"))?;
            lines.push_str(&" ".repeat(depth));
            lines.push_str(bare);
            lines.push_str(self.newline);
        }
        Ok(self.replaced(start, end, &lines))
    }

    /// The lines of `spec.template`, without its own, and how far they are indented.
    fn block(&self, object: &Spot<'_>) -> Option<(usize, usize, usize)> {
        let pair = object.get("spec")?.pair("template")?;
        let Form::Map(_) = pair.value.form else {
            return None;
        };
        let first = self.line_start(pair.value.from);
        let is_block = first > pair.key.to && !self.text[pair.value.from..].starts_with('{');
        // A text in lines ends where the next thing begins: what lies between is not its own.
        let end = pair.value.from + self.text[pair.value.from..pair.value.to].trim_end().len();
        is_block.then(|| (self.line_end(pair.key.to), self.line_end(end), pair.value.from - first))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::kinds::binding::Oid;
    use crate::kinds::name::Name;
    use crate::kinds::registry::Kind;

    const WEB: &str = "\
# The shop's front.
apiVersion: v1
kind: ConfigMap
metadata: {name: web, namespace: shop}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  namespace: shop
spec:
  # Three for the weekend.
  replicas: 3 # see the wiki
  selector: {matchLabels: {app: web}}
  template:
    # What runs.
    metadata:
      labels: {app: web}
    spec:
      containers:
        - name: web
          image: web:1
          args: [sh, -c, 'é']
  # The end.
  minReadySeconds: 5
";

    fn file(text: &str) -> FileContent {
        FileContent { path: "web.yaml".into(), blob: Oid::new(""), bytes: text.as_bytes().into() }
    }

    fn web() -> Key {
        Key::namespaced(Kind::Deployment, &Name::trusted("shop"), &Name::trusted("web"))
    }

    /// The lines that went (`-`) and came (`+`).
    fn difference(old: &str, new: &str) -> String {
        let (old, new): (Vec<_>, Vec<_>) = (old.lines().collect(), new.lines().collect());
        let head = old.iter().zip(&new).take_while(|(a, b)| a == b).count();
        let tail = old[head..].iter().rev().zip(new[head..].iter().rev());
        let tail = tail.take_while(|(a, b)| a == b).count();
        let lines = |mark, lines: &[&str]| {
            lines.iter().map(|line| format!("{mark}{}", line.trim_start())).collect::<Vec<_>>()
        };
        let gone = lines('-', &old[head..old.len() - tail]);
        [gone, lines('+', &new[head..new.len() - tail])].concat().join(" ")
    }

    fn changed(text: &str, wish: Wish<'_>) -> String {
        match edit(&file(text), &web(), wish) {
            Ok(new) => difference(text, &new),
            Err(unplaced) => format!("? {}: {}: {}", unplaced.place, unplaced.what, unplaced.why),
        }
    }

    #[test]
    fn a_change_touches_its_line_and_nothing_else() {
        let json = r#"{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web",
            "namespace": "shop"}, "spec": {"selector": {"matchLabels": {"app": "web"}}, "template":
            {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "web",
            "image": "web:1"}]}}}}"#;
        let table = [
            (WEB, Wish::Replicas(5), "-replicas: 3 # see the wiki +replicas: 5 # see the wiki"),
            (WEB, Wish::Replicas(3), ""),
            (WEB, Wish::Paused(true), "+paused: true"),
            (WEB, Wish::Paused(false), ""),
            (
                WEB,
                Wish::RestartedAt("2026-01-02T03:04:05Z"),
                "+annotations: +kubectl.kubernetes.io/restartedAt: \"2026-01-02T03:04:05Z\"",
            ),
        ];
        for (text, wish, lines) in table {
            assert_eq!(changed(text, wish), lines, "{wish:?}");
            // As Windows' editors leave it.
            let crlf = text.replace('\n', "\r\n");
            assert_eq!(changed(&crlf, wish), lines, "{wish:?}");
        }
        let bare = WEB.replace("  replicas: 3 # see the wiki\n", "");
        assert_eq!(changed(&bare, Wish::Replicas(5)), "+replicas: 5");
        let nothing = WEB.replace("replicas: 3", "replicas:");
        let said = changed(&nothing, Wish::Replicas(5));
        assert_eq!(said, "-replicas: # see the wiki +replicas: 5 # see the wiki");
        let flow =
            WEB.replace("metadata:\n      labels: {app: web}", "metadata: {labels: {app: web}}");
        assert_eq!(
            changed(&flow, Wish::RestartedAt("now")),
            "-metadata: {labels: {app: web}} +metadata: {annotations: \
             {kubectl.kubernetes.io/restartedAt: \"now\"}, labels: {app: web}}"
        );
        let new = edit(&file(json), &web(), Wish::Replicas(2)).expect("placed");
        assert!(new.contains(r#""spec": {"replicas": 2, "selector""#), "{new}");
        let given = WEB.replace(
            "labels: {app: web}\n    spec",
            "labels: {app: web}\n      annotations:\n        a: b\n    spec",
        );
        assert_eq!(
            changed(&given, Wish::RestartedAt("now")),
            "+kubectl.kubernetes.io/restartedAt: \"now\""
        );
        let again = edit(&file(&given), &web(), Wish::RestartedAt("now")).expect("placed");
        assert_eq!(
            changed(&again, Wish::RestartedAt("later")),
            "-kubectl.kubernetes.io/restartedAt: \"now\" +kubectl.kubernetes.io/restartedAt: \"later\""
        );
    }

    #[test]
    fn what_pause_writes_resume_takes_away() {
        for text in [WEB.to_owned(), WEB.replace('\n', "\r\n"), format!("\u{feff}{WEB}")] {
            let paused = edit(&file(&text), &web(), Wish::Paused(true)).expect("placed");
            assert_ne!(paused, text);
            assert_eq!(edit(&file(&paused), &web(), Wish::Paused(false)).expect("placed"), text);
        }
        let noted = WEB.replace("  replicas: 3", "  paused: true # until Monday\n  replicas: 3");
        assert_eq!(
            changed(&noted, Wish::Paused(false)),
            "-paused: true # until Monday +paused: false # until Monday"
        );
    }

    #[test]
    fn a_template_comes_back_with_its_lines() {
        let old = WEB.replace("web:1", "web:0").replace("  # The end.\n", "");
        // The old file was indented otherwise, and ended with it.
        let deep: String = old
            .lines()
            .map(|line| match line.starts_with("    ") {
                true => format!("  {line}\n"),
                false => format!("{line}\n"),
            })
            .collect();
        let restored = edit(&file(WEB), &web(), Wish::TemplateOf(&file(&old))).expect("placed");
        assert_eq!(difference(WEB, &restored), "-image: web:1 +image: web:0");
        let restored = edit(&file(WEB), &web(), Wish::TemplateOf(&file(&deep))).expect("placed");
        assert!(restored.contains("image: web:0\n") && restored.contains("  # The end.\n"));
        let script = WEB.replace(
            "args: [sh, -c, 'é']",
            "args:\n            - |\n              a\n\n              b",
        );
        let back = edit(&file(&script), &web(), Wish::TemplateOf(&file(WEB))).expect("placed");
        assert_eq!(back, WEB);
        let there = edit(&file(WEB), &web(), Wish::TemplateOf(&file(&script))).expect("placed");
        assert_eq!(there, script);
    }

    #[test]
    fn what_has_no_line_of_its_own_is_said_and_left() {
        let anchored = WEB.replace("labels: {app: web}", "labels: &l {app: web}");
        let shared = anchored
            .replace("replicas: 3 #", "replicas: &n 3 #")
            .replace("minReadySeconds: 5", "minReadySeconds: *n");
        let alias = WEB
            .replace("minReadySeconds: 5", "minReadySeconds: &n 5")
            .replace("  replicas: 3 # see the wiki\n", "")
            .replace("  # The end.\n", "")
            + "  replicas: *n\n";
        let table = [
            (shared.as_str(), Wish::Replicas(5), "stand for other things too"),
            (&alias, Wish::Replicas(6), "? web.yaml:24: set spec.replicas to 6: it is an alias"),
            ("a: [", Wish::Replicas(5), "? web.yaml: set spec.replicas to 5: the object can't be"),
        ];
        for (text, wish, why) in table {
            let said = changed(text, wish);
            assert!(said.starts_with("? ") && said.contains(why), "{said}");
        }
        // An anchor that nothing else hangs on is no obstacle.
        assert_eq!(
            changed(&anchored, Wish::Replicas(5)),
            "-replicas: 3 # see the wiki +replicas: 5 # see the wiki"
        );
    }

    #[test]
    fn of_two_of_a_name_the_right_one_is_changed() {
        let other = WEB.replace("namespace: shop", "namespace: other");
        let both = format!("{other}---\n{WEB}");
        let new = edit(&file(&both), &web(), Wish::Replicas(9)).expect("placed");
        assert_eq!(new, format!("{other}---\n{}", WEB.replace("replicas: 3", "replicas: 9")));
    }

    proptest! {
        /// Whatever hands have done to the file: the change is made and says just that, or it is not.
        #[test]
        fn no_text_panics_and_none_says_more_than_was_asked(
            cut in 0..WEB.len(),
            length in 0..40_usize,
            put in prop::sample::select(vec!["", "\n", "  ", "{", "}", "é", "# ", "&a ", "*a", "|", "- ", "\t", ": "]),
        ) {
            let at = |wanted: usize| (0..=wanted).rev().find(|at| WEB.is_char_boundary(*at));
            let (from, to) = (at(cut).unwrap_or(0), at((cut + length).min(WEB.len())).unwrap_or(0));
            let text = [&WEB[..from], put, &WEB[to..]].concat();
            let restored = file(WEB);
            for wish in [
                Wish::Replicas(7),
                Wish::Paused(true),
                Wish::Paused(false),
                Wish::RestartedAt("now"),
                Wish::TemplateOf(&restored),
            ] {
                if let Ok(new) = edit(&file(&text), &web(), wish) {
                    prop_assert!(is_just(&file(&text), &file(&new), &web(), wish), "{text}\n{new}");
                }
            }
        }
    }
}
