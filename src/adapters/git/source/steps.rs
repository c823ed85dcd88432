//! What a commit changes, beside each of its parents, for whoever judges whether its author may: the
//! files that differ, on both sides, and on both sides all that can have a say in rights.
//!
//! Nothing is judged here. A file that can have a say is found by its name or by a word in it
//! ([`RIGHTS`]); one that hides the word gives nobody anything, since what is not brought does not count.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use git2::{Blob, Commit, Delta, DiffOptions, ErrorCode, FileMode, ObjectType, Repository, Tree};

use crate::desired::{self, FILE_BYTES_MAX};
use crate::ports::source::{FileContent, Step};

use super::super::repo;

/// The API group of roles and bindings.
const RIGHTS: &[u8] = b"rbac.authorization.k8s.io";

/// A file's path below some directory, and its blob.
type Found = (String, git2::Oid);

/// Looks for steps; what was seen once is remembered.
pub(super) struct Steps<'r> {
    repo: &'r Repository,
    /// The directory that agents follow; empty for all.
    directory: String,
    /// Files that can have a say in rights, by the tree that they are below.
    rights: BTreeMap<git2::Oid, Arc<Vec<Found>>>,
    contents: BTreeMap<git2::Oid, Arc<[u8]>>,
}

impl<'r> Steps<'r> {
    pub(super) fn new(repo: &'r Repository, directory: &str) -> Self {
        let directory = directory.to_owned();
        Self { repo, directory, rights: BTreeMap::new(), contents: BTreeMap::new() }
    }

    /// From each of a commit's parents to it; from nothing, where it has none.
    pub(super) fn of(&mut self, commit: &Commit<'_>) -> Result<Vec<Step>, git2::Error> {
        let own = self.tree(commit)?;
        let mut steps = Vec::new();
        for parent in commit.parents() {
            let before = self.tree(&parent)?;
            steps.push(self.step(Some(&parent), before.as_ref(), own.as_ref())?);
        }
        if steps.is_empty() {
            steps.push(self.step(None, None, own.as_ref())?);
        }
        Ok(steps)
    }

    fn tree(&self, commit: &Commit<'_>) -> Result<Option<Tree<'r>>, git2::Error> {
        let root = self.repo.find_tree(commit.tree_id())?;
        if self.directory.is_empty() {
            return Ok(Some(root));
        }
        match root.get_path(Path::new(&self.directory)) {
            Ok(entry) if entry.kind() == Some(ObjectType::Tree) => {
                self.repo.find_tree(entry.id()).map(Some)
            }
            Ok(_) => Ok(None),
            Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn step(
        &mut self,
        parent: Option<&Commit<'_>>,
        before: Option<&Tree<'_>>,
        after: Option<&Tree<'_>>,
    ) -> Result<Step, git2::Error> {
        let [mut old, mut new] = [self.say(before)?, self.say(after)?];
        let mut options = DiffOptions::new();
        options.include_typechange(true);
        let diff = self.repo.diff_tree_to_tree(before, after, Some(&mut options))?;
        for delta in diff.deltas().filter(|delta| delta.status() != Delta::Unmodified) {
            for (side, file) in [(&mut old, delta.old_file()), (&mut new, delta.new_file())] {
                let is_file = matches!(file.mode(), FileMode::Blob | FileMode::BlobExecutable);
                let path = file.path_bytes().map(String::from_utf8_lossy);
                if let Some(path) = path.filter(|path| is_file && desired::is_read(path)) {
                    side.insert(path.into_owned(), file.id());
                }
            }
        }
        let parent = parent.map(|parent| repo::oid(parent.id()));
        Ok(Step { parent, before: self.read(old)?, after: self.read(new)? })
    }

    /// Files of a tree that can have a say in rights.
    fn say(&mut self, tree: Option<&Tree<'_>>) -> Result<BTreeMap<String, git2::Oid>, git2::Error> {
        let Some(tree) = tree else { return Ok(BTreeMap::new()) };
        Ok(self.rights(tree.id())?.iter().cloned().collect())
    }

    fn rights(&mut self, id: git2::Oid) -> Result<Arc<Vec<Found>>, git2::Error> {
        if let Some(known) = self.rights.get(&id) {
            return Ok(known.clone());
        }
        let mut found = Vec::new();
        for entry in &self.repo.find_tree(id)? {
            let name = String::from_utf8_lossy(entry.name_bytes()).into_owned();
            match entry.kind() {
                Some(ObjectType::Tree) if !name.starts_with('.') => {
                    let below = self.rights(entry.id())?;
                    found.extend(below.iter().map(|(path, id)| (format!("{name}/{path}"), *id)));
                }
                Some(ObjectType::Blob)
                    if entry.filemode() != 0o120_000 && desired::is_read(&name) =>
                {
                    let blob = self.repo.find_blob(entry.id())?;
                    if desired::rules_others(&name) || says_rights(&blob) {
                        found.push((name, entry.id()));
                    }
                }
                _ => {}
            }
        }
        let found = Arc::new(found);
        self.rights.insert(id, found.clone());
        Ok(found)
    }

    fn read(
        &mut self,
        files: BTreeMap<String, git2::Oid>,
    ) -> Result<Vec<FileContent>, git2::Error> {
        let mut contents = Vec::with_capacity(files.len());
        for (path, id) in files {
            let known = self.contents.get(&id).cloned();
            let bytes = match known {
                Some(bytes) => bytes,
                None => {
                    let blob = self.repo.find_blob(id)?;
                    // What is larger is not read by agents either.
                    if u64::try_from(blob.size()).is_ok_and(|size| size > FILE_BYTES_MAX) {
                        continue;
                    }
                    let bytes: Arc<[u8]> = blob.content().into();
                    self.contents.insert(id, bytes.clone());
                    bytes
                }
            };
            contents.push(FileContent { path: path.into(), blob: repo::oid(id), bytes });
        }
        Ok(contents)
    }
}

fn says_rights(blob: &Blob<'_>) -> bool {
    let mut words = blob.content().windows(RIGHTS.len());
    words.any(|word| word == RIGHTS)
}
