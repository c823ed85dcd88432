//! Which files of a commit count, and why the others don't: what [`super::cross`] begins with.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::document::{ParsedFile, Role};
use super::ignore::Ignore;
use super::{Files, IGNORE_FILE, Skipped, Why, bytes_max, charts, sort_of};
use crate::kinds::finding::{Finding, Place};
use crate::ports::source::{FileEntry, FileKind};

/// Picks the files that count, and says of the others why they don't.
pub(super) fn choose<'f>(
    listing: &[FileEntry],
    files: &'f Files,
    ignore: &Ignore,
    findings: &mut Vec<Finding>,
    skipped: &mut Vec<Skipped>,
) -> Vec<&'f ParsedFile> {
    let mut chosen: Vec<(&Arc<str>, &ParsedFile)> = Vec::new();
    let mut sources: BTreeSet<&str> = BTreeSet::new();
    for entry in listing {
        let path = &*entry.path;
        let mut skip = |why| {
            skipped.push(Skipped { path: Arc::clone(&entry.path), why });
        };
        match sort_of(entry) {
            Err(Some(why)) => skip(why),
            Err(None) => {}
            Ok(()) if ignore.is_ignored(path) => {
                skip(Why::Ignored);
                findings.extend(half_ignored(entry, ignore));
            }
            // Two of them could be one to us.
            Ok(()) if path.contains(char::REPLACEMENT_CHARACTER) => {
                let message = "the name of this file, or of a directory above it, is not UTF-8";
                findings.push(Finding::error(Place::file(path), message).hint("rename it"));
            }
            Ok(()) if entry.bytes > bytes_max(entry) => {
                let message = format!(
                    "{} bytes are more than the {} that {} may have",
                    entry.bytes,
                    bytes_max(entry),
                    if entry.kind == FileKind::Chart { "a chart" } else { "a manifest" },
                );
                let finding = Finding::error(Place::file(path), message)
                    .hint("if it is no manifest, list it in .windlassignore");
                findings.push(finding);
            }
            Ok(()) => match files.get_key_value(path) {
                Some((path, file)) => {
                    if matches!(file.role, Role::Source) {
                        sources.insert(directory(path));
                    }
                    if !file.is_manifest && matches!(file.role, Role::Plain) {
                        skip(Why::NotAManifest);
                    }
                    chosen.push((path, &**file));
                }
                None => {
                    let finding = Finding::error(Place::file(path), "this file was not read");
                    findings.push(finding);
                }
            },
        }
    }
    // Below a chart or a kustomization stand templates and patches; that it can't be rendered is
    // said once.
    if !sources.is_empty() {
        chosen.retain(|(path, file)| {
            matches!(file.role, Role::Source)
                || !sources.iter().any(|s| s.is_empty() || charts::below(path, s).is_some())
        });
    }
    chosen.into_iter().map(|(_, file)| file).collect()
}

/// With a chart all that lies in its directory is passed over, so all of that has to be ignored.
fn half_ignored(entry: &FileEntry, ignore: &Ignore) -> Option<Finding> {
    let directory = charts::directory(&entry.path).filter(|_| entry.kind == FileKind::Chart)?;
    let is_whole = ignore.is_directory_ignored(directory);
    let message = format!("is ignored, and {directory}/ is not: what else lies there is not read");
    let hint = format!("list {directory}/ in {IGNORE_FILE}, or move the manifests elsewhere");
    (!is_whole).then(|| Finding::error(Place::file(&entry.path), message).hint(hint))
}

fn directory(path: &str) -> &str {
    path.rsplit_once('/').map_or("", |(directory, _)| directory)
}
