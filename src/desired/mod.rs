//! A Git tree becomes a wish.
//!
//! It is the door of the house: people bring what they have, and whatever comes in is a valid
//! object; what can't come in is turned away with file, line and a word on how to mend it, all of
//! it at once.
//!
//! ```text
//!   listing ─▶ wanted ─▶ (read) ─▶ parse, file by file ─────────────────▶ assemble ─▶ Desired, findings
//!                                  │ yaml, json   text to a tree with places   │ ignore, settings
//!                                  │ envelope     apiVersion and kind          │ cross   between objects
//!                                  │ walk         shape, form, defaults        ▼
//!                                  │ convert      validation, our types     changes   what a commit changes
//!                                  │ chart        a chart's files to manifests first
//! ```
//!
//! The rule: what a file holds depends on its path and content alone, so it is parsed once and kept
//! for as long as the blob stands in the tree; everything else is cheap and done for every commit.
//! An error anywhere refuses the commit, or the app it stands in: whoever holds a [`Desired`] with an
//! error among its findings must not act on it.
//!
//! The limit: no I/O, no clock; kustomizations are not rendered yet and say so.
//!
//! Read in this order: `tree` and `path`; `yaml`, `scalar`, `json`; `shape`, `support` and
//! `defaults`; `walk`; `convert`; `meaning`; `document`; `charts` and `chart`; `settings`, `apps`, `windows`, `canary`, `ignore`, `choose` and `cross`;
//! `admission`; `changes`; `spans` and `edit`; `sealed`; `trust`, which decides whether any of it is read.

mod admission;
mod apps;
pub mod authorize;
mod base64;
mod canary;
mod changes;
mod chart;
pub mod charts;
mod choose;
mod convert;
mod cross;
mod defaults;
mod document;
mod edit;
mod envelope;
mod ignore;
mod json;
mod meaning;
mod near;
mod path;
mod report;
mod scalar;
pub mod sealed;
mod settings;
mod shape;
mod spans;
pub mod support;
/// Every schema of Kubernetes' objects by its name, for those who show shapes to people;
/// [`SCHEMA_ROOTS`] says which is that of a kind. Read anew at each call: it takes some megabytes.
pub fn schemas() -> Schemas {
    shape::schemas()
}

#[cfg(test)]
mod tests;
mod tree;
pub mod trust;
mod walk;
mod windows;
mod yaml;

use std::collections::BTreeMap;
use std::sync::Arc;

pub use admission::quota_used;
pub use apps::AppSpec;
pub use changes::{Change, Difference, FieldChange, REDACTED};
pub use cross::{Division, Files, Need, Part};
pub use document::ParsedFile;
pub use edit::{ANNOTATION_RESTARTED, Unplaced, Wish, edit, is_just, object};
pub use settings::Settings;
pub use shape::{ROOTS as SCHEMA_ROOTS, Schemas};

use crate::kinds::finding::Finding;
use crate::kinds::limits::LimitRange;
use crate::kinds::name::Name;
use crate::kinds::object::{Body, Key, Object};
use crate::kinds::registry::Kind;
use crate::ports::source::{FileContent, FileEntry, FileKind};

/// What a repository says of itself, at its root.
const SETTINGS_FILE: &str = "windlass.yaml";
/// Which of its files are none of ours, at its root.
const IGNORE_FILE: &str = ".windlassignore";
/// What makes its directory a chart; Helm does not know the second.
const CHARTS: [&str; 2] = [charts::CHART_FILE, "Chart.yml"];
/// What makes its directory a kustomization.
const KUSTOMIZATIONS: [&str; 2] = ["kustomization.yaml", "kustomization.yml"];

/// A larger file is not read. The largest manifest that Kubernetes takes is some 1.5 MiB (etcd's
/// bound on one object), and a file holds a few of them at most; what is larger is something else,
/// and reading it would only cost memory.
pub const FILE_BYTES_MAX: u64 = 8 * 1024 * 1024;

/// Which version of our reading gave a digest of meaning: digests of two versions can't be compared.
/// Raise it when defaults or the canonical form change, or an upgrade would take every template for
/// a new one.
pub const MEANING_VERSION: u32 = 3;

/// What a revision of the repository asks for.
#[derive(Clone, Debug, Default)]
pub struct Desired {
    /// Its objects.
    pub objects: BTreeMap<Key, Arc<Object>>,
    /// Files that look like manifests and were passed over, in order of path.
    pub skipped: Vec<Skipped>,
    /// What `windlass.yaml` says.
    pub settings: Settings,
}

impl Desired {
    /// The objects of a kind.
    pub fn of_kind(&self, kind: Kind) -> impl Iterator<Item = &Arc<Object>> {
        let first = Key::cluster(kind, &Name::trusted(""));
        let objects = self.objects.range(first..);
        objects.take_while(move |(key, _)| key.kind == kind).map(|(_, object)| object)
    }

    /// The LimitRanges of a namespace, by name.
    pub fn limit_ranges(
        &self,
        namespace: &Name,
    ) -> impl Iterator<Item = (&Arc<Object>, &Arc<LimitRange>)> {
        let first = Key::namespaced(Kind::LimitRange, namespace, &Name::trusted(""));
        let here = first.namespace.clone();
        let objects = self
            .objects
            .range(first..)
            .take_while(move |(key, _)| key.kind == Kind::LimitRange && key.namespace == here);
        objects.filter_map(|(_, object)| Some((object, object.body.limit_range()?)))
    }
}

/// A file that was passed over.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Skipped {
    /// Its path.
    pub path: Arc<str>,
    /// Why.
    pub why: Why,
}

/// Why a file was passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// `.windlassignore` says so.
    Ignored,
    /// No document in it has `apiVersion` or `kind`.
    NotAManifest,
    /// It is a symbolic link; they are not followed.
    Symlink,
    /// It is a submodule; they are not followed.
    Submodule,
}

/// Picks the files of a survey that must be read: manifests, `windlass.yaml`, `.windlassignore`.
pub fn wanted(listing: &[FileEntry]) -> Vec<FileEntry> {
    listing
        .iter()
        .filter(|entry| sort_of(entry).is_ok() && entry.bytes <= bytes_max(entry))
        .cloned()
        .collect()
}

/// How large a file, or a chart, may be.
fn bytes_max(entry: &FileEntry) -> u64 {
    if entry.kind == FileKind::Chart { charts::BYTES_MAX } else { FILE_BYTES_MAX }
}

/// Whether a file is to be read; if not, why, unless it is of no interest at all.
fn sort_of(entry: &FileEntry) -> Result<(), Option<Why>> {
    match entry.kind {
        _ if is_hidden(&entry.path) => Err(None),
        FileKind::Submodule => Err(Some(Why::Submodule)),
        _ if !is_read(&entry.path) => Err(None),
        FileKind::Symlink => Err(Some(Why::Symlink)),
        FileKind::File | FileKind::Chart => Ok(()),
    }
}

/// Whether a file of that path is one that is read.
pub fn is_read(path: &str) -> bool {
    let is_manifest = path.rsplit_once('.').is_some_and(|(_, extension)| {
        ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known))
    });
    !is_hidden(path) && (is_manifest || is_ours(path))
}

fn is_ours(path: &str) -> bool {
    [IGNORE_FILE, sealed::CREATION_FILE].contains(&path)
}

/// `.github`, `.gitlab-ci.yml`: other tools keep their own files there.
fn is_hidden(path: &str) -> bool {
    !is_ours(path) && path.split('/').any(|part| part.starts_with('.'))
}

/// Whether a file of that name has a say in which others are read, and how.
pub fn rules_others(name: &str) -> bool {
    [SETTINGS_FILE, IGNORE_FILE].contains(&name)
        || CHARTS.contains(&name)
        || KUSTOMIZATIONS.contains(&name)
}

/// Reads a file. The answer depends on the file's path and content alone and may be kept by them.
pub fn parse(content: &FileContent) -> ParsedFile {
    document::parse(content)
}

/// Puts a commit together from its listing and its files, parsed, by path. Returns everything that
/// is wrong with it, sorted; if any of that is an error, the wish must not be acted on.
pub fn assemble(listing: &[FileEntry], files: &Files) -> (Desired, Vec<Finding>) {
    cross::assemble(listing, files)
}

/// The same, divided into the apps that `windlass.yaml` names.
pub fn divide(listing: &[FileEntry], files: &Files) -> Division {
    cross::divide(listing, files)
}

/// Says what differs between two wishes.
pub fn changes(old: &Desired, new: &Desired) -> Vec<Change> {
    changes::changes(old, new)
}

/// Finds what pods are made of in a file: an object that has a template, or a LimitRange.
pub fn book(file: &ParsedFile, owner: &Key) -> Option<Body> {
    let object = file.objects.iter().find(|object| object.key == *owner)?;
    let is_book = object.body.template().is_some() || object.body.limit_range().is_some();
    is_book.then(|| object.body.clone())
}
