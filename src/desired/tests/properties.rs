//! What holds for any input.

use proptest::prelude::*;
use serde_json::{Map, Value as Json};

use super::super::parse;
use super::{corpus, read};
use crate::kinds::binding::Oid;
use crate::kinds::digest::Digest;
use crate::ports::source::FileContent;

fn parse_bytes(path: &str, bytes: &[u8]) -> usize {
    let content = FileContent {
        path: path.into(),
        blob: Oid::new("b"),
        bytes: bytes.into(),
    };
    let file = parse(&content);
    file.objects.len() + file.findings.len()
}

/// The meaning of the object, and of its template, that a text holds.
fn meanings(text: &str) -> Vec<(String, Digest, Option<Digest>)> {
    let content = FileContent {
        path: "a.yaml".into(),
        blob: Oid::new("b"),
        bytes: text.as_bytes().into(),
    };
    let file = parse(&content);
    assert!(
        file.findings.iter().all(|f| !f.is_error()),
        "{:?}\n{text}",
        file.findings
    );
    let objects = file.objects.iter();
    objects
        .map(|object| {
            let template = object.body.template().map(|template| template.meaning);
            (object.key.to_string(), object.meaning, template)
        })
        .collect()
}

fn corpus_files() -> impl Strategy<Value = &'static str> {
    let texts: Vec<&str> = corpus::FILES.iter().map(|(_, text)| *text).collect();
    prop::sample::select(texts)
}

/// The documents of the corpus whose objects run, as JSON.
fn documents() -> Vec<Json> {
    let (desired, _) = read(corpus::FILES);
    let objects = desired.objects.values();
    objects
        .filter(|object| object.key.kind.info().support == crate::kinds::registry::Support::Runs)
        .map(|object| serde_json::from_str(&object.json).expect("JSON"))
        .collect()
}

/// The same value with the keys of its maps in the order that `seed` gives.
fn shuffled(value: &Json, seed: u64) -> Json {
    match value {
        Json::Object(map) => {
            let mut entries: Vec<(&String, &Json)> = map.iter().collect();
            entries.sort_by_key(|(key, _)| Digest::of(format!("{seed}{key}").as_bytes()));
            let entries = entries.into_iter();
            Json::Object(
                entries
                    .map(|(k, v)| (k.clone(), shuffled(v, seed)))
                    .collect::<Map<_, _>>(),
            )
        }
        Json::Array(items) => items.iter().map(|item| shuffled(item, seed)).collect(),
        other => other.clone(),
    }
}

/// Writes every amount of `cpu` in thousandths, and every amount of `memory` in bytes.
fn respelt(value: &mut Json) {
    use crate::kinds::quantity::Quantity;
    match value {
        Json::Object(map) => {
            for (key, value) in map {
                let amount = value.as_str().and_then(|text| Quantity::parse(text).ok());
                match (key.as_str(), amount) {
                    ("cpu", Some(cpu)) => *value = format!("{}m", cpu.as_millis()).into(),
                    ("memory", Some(memory)) => *value = memory.as_units().into(),
                    _ => respelt(value),
                }
            }
        }
        Json::Array(items) => items.iter_mut().for_each(respelt),
        _ => {}
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        for path in ["a.yaml", "a.json", "windlass.yaml", ".windlassignore"] {
            parse_bytes(path, &bytes);
        }
    }

    /// Lines lost, doubled, cut short, shifted, and bytes changed.
    #[test]
    fn no_mutilated_manifest_panics(
        text in corpus_files(),
        wounds in prop::collection::vec((0_u8..6, any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut lines: Vec<Vec<u8>> = text.lines().map(|line| line.as_bytes().to_vec()).collect();
        for (wound, at, byte) in wounds {
            let at = at.index(lines.len());
            match wound {
                0 => { lines[at].clear(); }
                1 => { let line = lines[at].clone(); lines.insert(at, line); }
                2 => { let half = lines[at].len() / 2; lines[at].truncate(half); }
                3 => { lines[at].insert(0, b' '); }
                4 => { let end = usize::from(byte) % (lines[at].len() + 1); lines[at].insert(end, byte); }
                _ => { lines[at].extend_from_slice(b": [null, {}, -1, 1e9, ~]"); }
            }
        }
        parse_bytes("a.yaml", &lines.join(&b'\n'));
    }

    /// Any value in the place of any other.
    #[test]
    fn no_value_in_the_wrong_place_panics(
        pick in any::<prop::sample::Index>(),
        at in any::<prop::sample::Index>(),
        value in prop::sample::select(vec![
            "null", "[]", "{}", "-1", "0", "99999999999", "1.5", "true", "\"\"", "\"x\"", "\"../..\"",
            "[null]", "[[]]", "{\"a\": null}", "\"😀\"", "[{}]",
        ]),
    ) {
        let documents = documents();
        let mut document = documents[pick.index(documents.len())].clone();
        let mut paths = Vec::new();
        pointers(&document, String::new(), &mut paths);
        let path = &paths[at.index(paths.len())];
        *document.pointer_mut(path).expect("is there") = serde_json::from_str(value).expect("JSON");
        parse_bytes("a.json", document.to_string().as_bytes());
    }

    #[test]
    fn an_objects_meaning_does_not_depend_on_its_notation(seed in any::<u64>()) {
        for document in documents() {
            let plain = meanings(&document.to_string());
            let order = shuffled(&document, seed);
            prop_assert_eq!(&meanings(&order.to_string()), &plain);
            let mut yaml = String::new();
            write_yaml(&mut yaml, &order, 0);
            prop_assert_eq!(&meanings(&yaml), &plain, "{}", yaml);
            let mut other = order;
            respelt(&mut other);
            prop_assert_eq!(&meanings(&other.to_string()), &plain, "{}", other);
        }
    }
}

/// Writes block style, texts quoted: serde_yaml writes for YAML 1.2, where `yes` is a word.
fn write_yaml(out: &mut String, value: &Json, depth: usize) {
    let indent = format!("\n{}", "  ".repeat(depth));
    match value {
        Json::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                out.push_str(&indent);
                out.push_str(&Json::from(key.as_str()).to_string());
                out.push_str(": ");
                write_yaml(out, value, depth + 1);
            }
        }
        Json::Array(items) if !items.is_empty() => {
            for item in items {
                out.push_str(&indent);
                out.push_str("- ");
                write_yaml(out, item, depth + 1);
            }
        }
        other => out.push_str(&other.to_string()),
    }
}

fn pointers(value: &Json, path: String, out: &mut Vec<String>) {
    match value {
        Json::Object(map) => {
            for (key, value) in map {
                let key = key.replace('~', "~0").replace('/', "~1");
                pointers(value, format!("{path}/{key}"), out);
            }
        }
        Json::Array(items) => {
            for (index, value) in items.iter().enumerate() {
                pointers(value, format!("{path}/{index}"), out);
            }
        }
        _ => {}
    }
    if !path.is_empty() {
        out.push(path);
    }
}

/// What the API shows, with every default written out, means what the manifest meant: an object
/// that is exported and committed again restarts nothing.
#[test]
fn what_is_shown_means_what_was_written() {
    let (desired, _) = read(corpus::FILES);
    for object in desired.objects.values() {
        let (again, _) = read(&[("a.json", &object.json), ("windlass.yaml", SETTINGS)]);
        let read_back = again
            .objects
            .get(&object.key)
            .unwrap_or_else(|| panic!("{}", object.key));
        assert_eq!(read_back.meaning, object.meaning, "{}", object.key);
        assert_eq!(read_back.json, object.json, "{}", object.key);
        let template = |o: &crate::kinds::object::Object| o.body.template().map(|t| t.meaning);
        assert_eq!(template(read_back), template(object), "{}", object.key);
    }
}

const SETTINGS: &str = include_str!("good/windlass.yaml");
