//! What a commit changes, beside each of its parents, for whoever judges whether its author may: the
//! files that differ, on both sides, and on both sides all that can have a say in rights.
//!
//! Nothing is judged here. A file that can have a say is found by its name or by a word in it
//! ([`RIGHTS`]); one that hides the word gives nobody anything, since what is not brought does not count.

use std::collections::BTreeMap;
use std::sync::Arc;

use git2::{Blob, Commit, Delta, DiffOptions, ObjectType, Repository, Tree};

use crate::desired::{self, FILE_BYTES_MAX, charts};
use crate::ports::source::{FileContent, Step};

use super::super::{chart, repo};

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
        let found = repo::directory(&root, self.directory.as_bytes())?;
        found.map(|id| self.repo.find_tree(id)).transpose()
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
            let file = delta.new_file();
            let Some(path) = file.path_bytes().or_else(|| delta.old_file().path_bytes()) else {
                continue;
            };
            let [was, is] = [self.chart(before, path)?, self.chart(after, path)?];
            let length = |chart: &Option<(usize, git2::Oid)>| chart.map(|(length, _)| length);
            if length(&was) == length(&is) {
                for (side, tree, chart) in [(&mut old, before, was), (&mut new, after, is)] {
                    let file = tree.map_or(Ok(None), |tree| chart::file(tree, path))?;
                    Self::insert(side, path, chart, file);
                }
                continue;
            }
            // A directory became a chart, or is none any more: what lies there without a change is read
            // in another way as well.
            let outermost = [length(&was), length(&is)].into_iter().flatten().min();
            let directory = path.get(..outermost.unwrap_or_default()).unwrap_or_default();
            for (side, tree) in [(&mut old, before), (&mut new, after)] {
                self.insert_all(side, tree, directory)?;
            }
        }
        let parent = parent.map(|parent| repo::oid(parent.id()));
        Ok(Step { parent, before: self.read(old)?, after: self.read(new)? })
    }

    /// The chart that a path lies in.
    fn chart(
        &self,
        tree: Option<&Tree<'_>>,
        path: &[u8],
    ) -> Result<Option<(usize, git2::Oid)>, git2::Error> {
        tree.map_or(Ok(None), |tree| chart::around(self.repo, tree, path))
    }

    /// Adds a file that differs, or the chart that it lies in.
    fn insert(
        side: &mut BTreeMap<String, git2::Oid>,
        path: &[u8],
        chart: Option<(usize, git2::Oid)>,
        file: Option<git2::Oid>,
    ) {
        if let Some((length, id)) = chart {
            let directory = String::from_utf8_lossy(path.get(..length).unwrap_or_default());
            side.insert(format!("{directory}/{}", charts::CHART_FILE), id);
            return;
        }
        let path = String::from_utf8_lossy(path);
        if let Some(id) = file.filter(|_| desired::is_read(&path)) {
            side.insert(path.into_owned(), id);
        }
    }

    /// Adds all that is read below a directory, which may be a chart.
    fn insert_all(
        &self,
        side: &mut BTreeMap<String, git2::Oid>,
        tree: Option<&Tree<'_>>,
        directory: &[u8],
    ) -> Result<(), git2::Error> {
        let Some(root) = tree else { return Ok(()) };
        let file = [directory, b"/", charts::CHART_FILE.as_bytes()].concat();
        if let Some(chart) = chart::around(self.repo, root, &file)? {
            Self::insert(side, &file, Some(chart), None);
            return Ok(());
        }
        let Some(id) = repo::directory(root, directory)? else { return Ok(()) };
        let below = self.repo.find_tree(id)?;
        let above = String::from_utf8_lossy(directory).into_owned();
        let mut paths = Vec::new();
        chart::walk(self.repo, &below, &mut |path, entry| {
            if chart::is_file(entry) {
                paths.push((format!("{above}/{path}"), entry.id()));
            }
            Ok(())
        })?;
        for (path, id) in paths {
            let chart = chart::around(self.repo, root, path.as_bytes())?;
            Self::insert(side, path.as_bytes(), chart, Some(id));
        }
        Ok(())
    }

    /// Files of a tree that can have a say in rights.
    fn say(&mut self, tree: Option<&Tree<'_>>) -> Result<BTreeMap<String, git2::Oid>, git2::Error> {
        let Some(tree) = tree else { return Ok(BTreeMap::new()) };
        Ok(self.look(tree, 0)?.into_iter().collect())
    }

    fn rights(&mut self, id: git2::Oid, depth: usize) -> Result<Arc<Vec<Found>>, git2::Error> {
        if let Some(known) = self.rights.get(&id) {
            return Ok(known.clone());
        }
        let tree = self.repo.find_tree(id)?;
        let found = match chart::is_chart(&tree) {
            // All of it, or nothing: it is not read in parts.
            true if self.says_rights(&tree)? => vec![(charts::CHART_FILE.to_owned(), id)],
            true => Vec::new(),
            false => self.look(&tree, depth)?,
        };
        let found = Arc::new(found);
        self.rights.insert(id, found.clone());
        Ok(found)
    }

    /// Whether anything in a chart can say something of rights; what is packed in it, perhaps.
    fn says_rights(&self, tree: &Tree<'_>) -> Result<bool, git2::Error> {
        let mut does = false;
        chart::walk(self.repo, tree, &mut |path, entry| {
            if !does && chart::is_file(entry) {
                does = path.ends_with(".tgz") || says_rights(&self.repo.find_blob(entry.id())?);
            }
            Ok(())
        })?;
        Ok(does)
    }

    /// The same of a directory that is no chart, as the root is none.
    fn look(&mut self, tree: &Tree<'_>, depth: usize) -> Result<Vec<Found>, git2::Error> {
        let mut found = Vec::new();
        for entry in tree {
            let name = String::from_utf8_lossy(entry.name_bytes()).into_owned();
            match entry.kind() {
                // As deep as a commit is listed.
                Some(ObjectType::Tree) if !name.starts_with('.') && depth < chart::DEPTH_MAX => {
                    let below = self.rights(entry.id(), depth + 1)?;
                    found.extend(below.iter().map(|(path, id)| (format!("{name}/{path}"), *id)));
                }
                Some(ObjectType::Blob) if chart::is_file(&entry) && desired::is_read(&name) => {
                    let blob = self.repo.find_blob(entry.id())?;
                    if desired::rules_others(&name) || says_rights(&blob) {
                        found.push((name, entry.id()));
                    }
                }
                _ => {}
            }
        }
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
                    let bytes = chart::content(self.repo, id)?;
                    // What is larger is not read by agents either; of a chart, whose files take room of
                    // their own in it, that is seen when it is taken apart.
                    let max = if charts::is_packed(&bytes) {
                        2 * charts::BYTES_MAX
                    } else {
                        FILE_BYTES_MAX
                    };
                    if u64::try_from(bytes.len()).is_ok_and(|size| size > max) {
                        continue;
                    }
                    // Charts are large, and each of their versions is another.
                    if !charts::is_packed(&bytes) {
                        self.contents.insert(id, bytes.clone());
                    }
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
