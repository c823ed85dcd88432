//! The room's tests at its public functions, as tables that can be read without knowing the code.

mod bad;
mod corpus;
mod desired;
mod properties;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Desired, Files, assemble, charts, parse, wanted};
use crate::kinds::binding::Oid;
use crate::kinds::digest::Digest;
use crate::kinds::finding::Finding;
use crate::ports::source::{FileContent, FileEntry, FileKind};

/// A repository of these files, by path.
pub(super) fn repository(files: &[(&str, &str)]) -> (Vec<FileEntry>, Files) {
    let listing: Vec<FileEntry> = files
        .iter()
        .map(|(path, text)| FileEntry {
            path: (*path).into(),
            blob: Oid::new(&Digest::of(text.as_bytes()).hex()),
            kind: FileKind::File,
            bytes: text.len() as u64,
        })
        .collect();
    let listing = charts::fold(listing, |directory| Some(Oid::new(directory)));
    let contents: BTreeMap<&str, &str> = files.iter().copied().collect();
    let chart = |directory: &str| {
        let below = files
            .iter()
            .filter_map(|(path, text)| Some((charts::below(path, directory)?, text.as_bytes())));
        charts::pack(below)
    };
    let parsed = wanted(&listing)
        .into_iter()
        .map(|entry| {
            let bytes = match entry.kind {
                FileKind::Chart => chart(charts::directory(&entry.path).expect("a chart")).into(),
                _ => contents[&*entry.path].as_bytes().into(),
            };
            let FileEntry { path, blob, .. } = entry;
            let content = FileContent { path: Arc::clone(&path), blob, bytes };
            (path, Arc::new(parse(&content)))
        })
        .collect();
    (listing, parsed)
}

/// What a repository of these files asks for, and what is wrong with it.
pub(super) fn read(files: &[(&str, &str)]) -> (Desired, Vec<Finding>) {
    let (listing, parsed) = repository(files);
    assemble(&listing, &parsed)
}

/// A finding that a test expects: where, and what it says among other things.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Expected {
    path: String,
    line: u32,
    /// `error: spec.replicas: expected an integer`
    text: String,
}

/// The findings announced in a text: at the end of the line where each belongs, after `#!`. What
/// has no room for comments is announced in a file of its own, called `#!`, by `path:line`.
pub(super) fn announced(path: &str, text: &str) -> Vec<Expected> {
    let mut expected = Vec::new();
    for (number, line) in (1_u32..).zip(text.lines()) {
        if path == "#!" {
            if line.is_empty() {
                continue;
            }
            let (place, text) = line.split_once(' ').expect("a place and a finding");
            let (path, line) = place.rsplit_once(':').expect("path:line");
            expected.push(Expected {
                path: path.to_owned(),
                line: line.parse().expect("a line"),
                text: text.to_owned(),
            });
            continue;
        }
        for mark in line.split("#!").skip(1) {
            expected.push(Expected {
                path: path.to_owned(),
                line: number,
                text: mark.trim().to_owned(),
            });
        }
    }
    expected
}

/// Holds findings against what was announced, one to one; says what differs.
pub(super) fn differences(findings: &[Finding], expected: &[Expected]) -> Vec<String> {
    let mut left: Vec<&Expected> = expected.iter().collect();
    let mut differences = Vec::new();
    for finding in findings {
        let said = finding.to_string();
        let met = left.iter().position(|expected| {
            let (severity, text) = expected.text.split_once(": ").expect("severity: text");
            *finding.place.path == *expected.path
                && finding.place.line == expected.line
                && said.contains(&format!(" {severity}: "))
                && said.contains(text)
        });
        match met {
            Some(at) => {
                left.remove(at);
            }
            None => differences.push(format!("not expected: {said}")),
        }
    }
    let missing = left.iter().map(|expected| {
        let Expected { path, line, text } = expected;
        format!("missing: {path}:{line}: {text}")
    });
    differences.extend(missing);
    differences
}
