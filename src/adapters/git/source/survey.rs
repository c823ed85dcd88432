//! A commit seen from outside its files: their names, kinds and sizes, and how the commit follows
//! from another.
//!
//! The last listing is remembered: a directory whose tree is the same as then is copied from it
//! without being opened.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use git2::{ErrorCode, ObjectType, Odb, Repository, Sort};
use tracing::warn;

use crate::desired::charts;
use crate::ports::source::{COMMITS_LISTED_MAX, CommitInfo, FileEntry, FileKind, Relation};

use super::super::chart::DEPTH_MAX;
use super::super::repo;

/// The files of a tree, and where those of each directory stand among them.
#[derive(Clone, Default)]
pub(super) struct Listing {
    pub(super) files: Vec<FileEntry>,
    directories: BTreeMap<String, (git2::Oid, Range<usize>)>,
}

impl Listing {
    /// The files, each chart as one.
    pub(super) fn folded(&self) -> Vec<FileEntry> {
        let id = |directory: &str| {
            let (id, _) = self.directories.get(&format!("{directory}/"))?;
            Some(repo::oid(*id))
        };
        charts::fold(self.files.clone(), id)
    }
}

/// Lists all files below a tree.
pub(super) fn list(
    repo: &Repository,
    tree: git2::Oid,
    known: &Listing,
) -> Result<Listing, git2::Error> {
    let mut walk = Walk { repo, odb: repo.odb()?, known, made: Listing::default() };
    walk.directory(tree, "", 0)?;
    Ok(walk.made)
}

struct Walk<'a> {
    repo: &'a Repository,
    odb: Odb<'a>,
    known: &'a Listing,
    made: Listing,
}

impl Walk<'_> {
    fn directory(&mut self, id: git2::Oid, path: &str, depth: usize) -> Result<(), git2::Error> {
        let from = self.made.files.len();
        match self.known.directories.get(path) {
            Some((known, range)) if *known == id => self.copy(range, from, path),
            _ => self.open(id, path, depth)?,
        }
        let to = self.made.files.len();
        self.made.directories.insert(path.to_owned(), (id, from..to));
        Ok(())
    }

    /// Takes a directory over from the listing known before, with all below it.
    fn copy(&mut self, range: &Range<usize>, from: usize, path: &str) {
        self.made.files.extend_from_slice(&self.known.files[range.clone()]);
        let below = self
            .known
            .directories
            .range(path.to_owned()..)
            .take_while(|(name, _)| name.starts_with(path));
        for (name, (id, old)) in below {
            let shift = |at: usize| at - range.start + from;
            let moved = shift(old.start)..shift(old.end);
            self.made.directories.insert(name.clone(), (*id, moved));
        }
    }

    fn open(&mut self, id: git2::Oid, path: &str, depth: usize) -> Result<(), git2::Error> {
        let tree = self.repo.find_tree(id)?;
        for entry in &tree {
            let name = String::from_utf8_lossy(entry.name_bytes());
            let path = format!("{path}{name}");
            if entry.kind() == Some(ObjectType::Tree) {
                if depth == DEPTH_MAX {
                    warn!(%path, "directories nested too deep are passed over");
                    continue;
                }
                self.directory(entry.id(), &format!("{path}/"), depth + 1)?;
                continue;
            }
            let kind = match entry.filemode() {
                0o120_000 => FileKind::Symlink,
                0o160_000 => FileKind::Submodule,
                _ => FileKind::File,
            };
            let bytes = match kind {
                FileKind::Submodule => 0,
                _ => {
                    let (size, _) = self.odb.read_header(entry.id())?;
                    u64::try_from(size).unwrap_or(u64::MAX)
                }
            };
            self.made.files.push(FileEntry {
                path: Arc::from(path),
                blob: repo::oid(entry.id()),
                kind,
                bytes,
            });
        }
        Ok(())
    }
}

/// How `commit` follows from `since`.
pub(super) fn relation(
    repo: &Repository,
    commit: git2::Oid,
    since: Option<git2::Oid>,
) -> Result<Relation, git2::Error> {
    let Some(since) = since else {
        return Ok(Relation::First);
    };
    if since == commit {
        return Ok(Relation::Same);
    }
    if !repo.odb()?.exists(since) {
        // Not in the branch's history and not kept: as far as can be seen they share nothing.
        warn!(%commit, %since, "the commit in force is not in the copy any more");
        return Ok(Relation::Unrelated);
    }
    Ok(match repo.merge_base(commit, since) {
        Ok(base) if base == since => Relation::Descends,
        Ok(base) if base == commit => Relation::Precedes,
        Ok(_) => Relation::Diverged,
        Err(error) if error.code() == ErrorCode::NotFound => Relation::Unrelated,
        Err(error) => return Err(error),
    })
}

/// Commits from `since`, without it, to `commit`; newest first.
pub(super) fn commits(
    repo: &Repository,
    commit: git2::Oid,
    since: Option<git2::Oid>,
) -> Result<Vec<CommitInfo>, git2::Error> {
    let mut walk = repo.revwalk()?;
    walk.set_sorting(Sort::TIME)?;
    walk.push(commit)?;
    if let Some(since) = since
        && repo.odb()?.exists(since)
    {
        walk.hide(since)?;
    }
    // The commit itself comes first, also where it is older than the other.
    let others = walk.filter(|id| id.as_ref() != Ok(&commit));
    std::iter::once(Ok(commit))
        .chain(others)
        .take(COMMITS_LISTED_MAX)
        .map(|id| Ok(repo::describe(&repo.find_commit(id?)?)))
        .collect()
}
