//! A chart's directory as one file, as [`crate::desired::charts`] has it.

use std::sync::Arc;

use git2::{ObjectType, Oid, Repository, Tree, TreeEntry};

use super::repo;
use crate::desired::charts;

/// Directories nested deeper than this are not entered: a bound for the walk, on trees that nobody has
/// vouched for. Linux' PATH_MAX allows 2,048.
pub(crate) const DEPTH_MAX: usize = 128;

/// Visits what lies below a tree, directories left out, with its path from there.
pub(crate) fn walk(
    repo: &Repository,
    tree: &Tree<'_>,
    visit: &mut dyn FnMut(String, &TreeEntry<'_>) -> Result<(), git2::Error>,
) -> Result<(), git2::Error> {
    walk_below(repo, tree, "", 0, visit)
}

fn walk_below(
    repo: &Repository,
    tree: &Tree<'_>,
    above: &str,
    depth: usize,
    visit: &mut dyn FnMut(String, &TreeEntry<'_>) -> Result<(), git2::Error>,
) -> Result<(), git2::Error> {
    for entry in tree {
        let path = format!("{above}{}", String::from_utf8_lossy(entry.name_bytes()));
        if entry.kind() != Some(ObjectType::Tree) {
            visit(path, &entry)?;
        } else if depth < DEPTH_MAX {
            let below = repo.find_tree(entry.id())?;
            walk_below(repo, &below, &format!("{path}/"), depth + 1, visit)?;
        }
    }
    Ok(())
}

/// Whether an entry is a file: no link, no submodule, whatever mode somebody gave it.
pub(crate) fn is_file(entry: &TreeEntry<'_>) -> bool {
    entry.kind() == Some(ObjectType::Blob) && entry.filemode() != 0o120_000
}

/// The chart in a directory. Of one that is larger than a chart may be there is a part, which shows that
/// it is too large.
pub(crate) fn pack(repo: &Repository, directory: Oid) -> Result<Vec<u8>, git2::Error> {
    let odb = repo.odb()?;
    let mut files = Vec::new();
    let mut left = Some(charts::BYTES_MAX);
    walk(repo, &repo.find_tree(directory)?, &mut |path, entry| {
        if is_file(entry)
            && let Some(room) = left
        {
            let (size, _) = odb.read_header(entry.id())?;
            left = room.checked_sub(u64::try_from(size).unwrap_or(u64::MAX));
            files.push((path, entry.id()));
        }
        Ok(())
    })?;
    let mut contents = Vec::with_capacity(files.len());
    for (path, id) in &files {
        contents.push((path.as_str(), repo.find_blob(*id)?));
    }
    Ok(charts::pack(contents.iter().map(|(path, blob)| (*path, blob.content()))))
}

/// The outermost directory above `path` that is a chart, as many bytes of it as that is long, and its id;
/// the root is none.
pub(crate) fn around(
    repo: &Repository,
    root: &Tree<'_>,
    path: &[u8],
) -> Result<Option<(usize, Oid)>, git2::Error> {
    let mut tree = root.clone();
    let mut from = 0;
    let slashes = path.iter().enumerate().filter(|(_, byte)| **byte == b'/');
    for (to, _) in slashes.take(DEPTH_MAX) {
        let name = path.get(from..to).unwrap_or_default();
        let below = tree.get_name_bytes(name);
        let below = below.filter(|entry| entry.kind() == Some(ObjectType::Tree));
        let Some(id) = below.map(|entry| entry.id()) else { return Ok(None) };
        tree = repo.find_tree(id)?;
        if is_chart(&tree) && !name.starts_with(b".") {
            return Ok(Some((to, id)));
        }
        from = to + 1;
    }
    Ok(None)
}

/// The file at a path, if there is one: whatever mode somebody gave it, as a listing has it. (A delta of a
/// comparison has the mode as it is written, and git2 panics at those that Git does not write.)
pub(crate) fn file(root: &Tree<'_>, path: &[u8]) -> Result<Option<Oid>, git2::Error> {
    Ok(repo::at(root, path)?.filter(is_file).map(|entry| entry.id()))
}

/// Whether a directory is a chart.
pub(crate) fn is_chart(tree: &Tree<'_>) -> bool {
    tree.get_name(charts::CHART_FILE).is_some_and(|entry| is_file(&entry))
}

/// What an id stands for: a file, or the directory of a chart.
pub(crate) fn content(repo: &Repository, id: Oid) -> Result<Arc<[u8]>, git2::Error> {
    let object = repo.find_object(id, None)?;
    match object.as_blob() {
        Some(blob) => Ok(blob.content().into()),
        None => pack(repo, id).map(Into::into),
    }
}
