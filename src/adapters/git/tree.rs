//! A register's state as a Git tree, and back: writing makes only what changed, reading fetches only
//! what is new.
//!
//! ```text
//!   base tree ── edits ──▶ new tree        a changed file costs its blob and the trees above it
//!   old Tree  ── diff  ──▶ new Tree        an unchanged sub-tree is not opened
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;

use git2::{ErrorCode, ObjectType, Repository};

use crate::ports::Fault;
use crate::ports::store::{Edit, Tree};

use super::packfile::Batch;

const FILE: i32 = 0o100_644;
const DIRECTORY: i32 = 0o040_000;

/// A path is at most this long; Linux' PATH_MAX.
const PATH_BYTES_MAX: usize = 4096;

/// What is to be done in one directory.
#[derive(Default)]
struct Changes<'a> {
    /// Files written or removed here.
    files: BTreeMap<&'a str, Option<&'a [u8]>>,
    /// Changes further down.
    below: BTreeMap<&'a str, Self>,
}

impl<'a> Changes<'a> {
    fn new(edits: &'a [Edit]) -> Result<Self, Fault> {
        let mut root = Self::default();
        for edit in edits {
            check(&edit.path)?;
            let mut at = &mut root;
            let mut rest = edit.path.as_str();
            while let Some((directory, below)) = rest.split_once('/') {
                at = at.below.entry(directory).or_default();
                rest = below;
            }
            at.files.insert(rest, edit.content.as_deref());
        }
        Ok(root)
    }
}

fn check(path: &str) -> Result<(), Fault> {
    let bad = path.len() > PATH_BYTES_MAX
        || path.contains('\0')
        || path.split('/').any(|part| {
            part.is_empty() || part == "." || part == ".." || part.eq_ignore_ascii_case(".git")
        });
    if bad {
        return Err(Fault::stalled(format!(
            "{path:?} can't be the path of a file in the state store"
        )));
    }
    Ok(())
}

/// Why a tree could not be written.
pub(super) enum Unwritten {
    /// The edits can't be done.
    Refused(Fault),
    /// libgit2 failed.
    Git(git2::Error),
}

impl From<git2::Error> for Unwritten {
    fn from(error: git2::Error) -> Self {
        Self::Git(error)
    }
}

impl From<Fault> for Unwritten {
    fn from(fault: Fault) -> Self {
        Self::Refused(fault)
    }
}

/// Adds the tree that `edits` make of `base` to `batch`, with what is new in it.
pub(super) fn write(
    repo: &Repository,
    batch: &mut Batch,
    base: Option<git2::Oid>,
    edits: &[Edit],
) -> Result<git2::Oid, Unwritten> {
    let changes = Changes::new(edits)?;
    let mut writer = Writer { repo, batch };
    match writer.directory(base, &changes, "")? {
        Some(id) => Ok(id),
        None => Ok(batch.add(ObjectType::Tree, Vec::new())?),
    }
}

struct Writer<'a> {
    repo: &'a Repository,
    batch: &'a mut Batch,
}

/// What stands in a directory: name, mode, id.
type Entries = BTreeMap<Vec<u8>, (i32, git2::Oid)>;

impl Writer<'_> {
    /// Writes a directory; none if nothing is left in it.
    fn directory(
        &mut self,
        base: Option<git2::Oid>,
        changes: &Changes<'_>,
        path: &str,
    ) -> Result<Option<git2::Oid>, Unwritten> {
        let mut entries = Entries::new();
        if let Some(base) = base {
            for entry in &self.repo.find_tree(base)? {
                let place = (entry.filemode_raw(), entry.id());
                entries.insert(entry.name_bytes().to_vec(), place);
            }
        }
        for (name, below) in &changes.below {
            let here = entries.get(name.as_bytes()).copied();
            let old = here.filter(|(mode, _)| *mode == DIRECTORY).map(|(_, id)| id);
            let made = self.directory(old, below, &format!("{path}{name}/"))?;
            let file = changes.files.get(name);
            match made {
                // A file may make room for a directory in the same edits.
                Some(_) if file.is_some_and(Option::is_some) => return Err(both(path, name)),
                Some(_) if here.is_some() && old.is_none() && file.is_none() => {
                    return Err(both(path, name));
                }
                Some(id) => {
                    entries.insert(name.as_bytes().to_vec(), (DIRECTORY, id));
                }
                None if old.is_some() => {
                    entries.remove(name.as_bytes());
                }
                None => {}
            }
        }
        for (name, content) in &changes.files {
            let here = entries.get(name.as_bytes()).copied();
            let is_directory = here.is_some_and(|(mode, _)| mode == DIRECTORY);
            match content {
                Some(_) if is_directory => return Err(both(path, name)),
                Some(content) => {
                    let known = here.map(|(_, id)| id);
                    let id = self.add(ObjectType::Blob, content.to_vec(), known)?;
                    entries.insert(name.as_bytes().to_vec(), (FILE, id));
                }
                // Removing what is not there is no error: the tree is as wished.
                None if is_directory => {}
                None => {
                    entries.remove(name.as_bytes());
                }
            }
        }
        if entries.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.add(ObjectType::Tree, encode(&entries), base)?))
    }

    /// Adds an object unless it is what was there before.
    fn add(
        &mut self,
        kind: ObjectType,
        content: Vec<u8>,
        known: Option<git2::Oid>,
    ) -> Result<git2::Oid, git2::Error> {
        match known {
            Some(known) if git2::Oid::hash_object(kind, &content)? == known => Ok(known),
            _ => self.batch.add(kind, content),
        }
    }
}

/// Git's form of a tree: `mode name NUL id`, sorted as if directories' names ended in `/`.
fn encode(entries: &Entries) -> Vec<u8> {
    let mut sorted: Vec<_> = entries.iter().collect();
    sorted.sort_by_cached_key(|(name, (mode, _))| {
        let end = (*mode == DIRECTORY).then_some(b'/');
        name.iter().copied().chain(end).collect::<Vec<u8>>()
    });
    let mut content = Vec::new();
    for (name, (mode, id)) in sorted {
        content.extend(format!("{mode:o} ").as_bytes());
        content.extend(name);
        content.push(0);
        content.extend(id.as_bytes());
    }
    content
}

fn both(path: &str, name: &str) -> Unwritten {
    Unwritten::Refused(Fault::stalled(format!(
        "{path}{name} would be a file and a directory in the state store"
    )))
}

/// Reads a tree, given one that was read before.
pub(super) fn read(
    repo: &Repository,
    tree: git2::Oid,
    known: Option<(git2::Oid, &Tree)>,
) -> Result<Tree, git2::Error> {
    let (old, mut files) = match known {
        Some((old, known)) => (Some(old), BTreeMap::clone(&known.files)),
        None => (None, BTreeMap::new()),
    };
    read_changes(repo, &mut files, "", old, Some(tree))?;
    Ok(Tree::new(files))
}

/// Makes `files` below `prefix` what `new` says, where they are what `old` says.
fn read_changes(
    repo: &Repository,
    files: &mut BTreeMap<String, Arc<[u8]>>,
    prefix: &str,
    old: Option<git2::Oid>,
    new: Option<git2::Oid>,
) -> Result<(), git2::Error> {
    if old == new {
        return Ok(());
    }
    let old = match old.map(|id| repo.find_tree(id)).transpose() {
        Ok(tree) => tree,
        // A state that was read earlier may be gone by now; then everything is read again.
        Err(error) if error.code() == ErrorCode::NotFound => {
            files.retain(|path, _| !path.starts_with(prefix));
            None
        }
        Err(error) => return Err(error),
    };
    let new = new.map(|id| repo.find_tree(id)).transpose()?;
    let entry = |tree: &Option<git2::Tree<'_>>, name: &str| {
        let entry = tree.as_ref()?.get_name(name)?;
        Some((entry.kind(), entry.id()))
    };
    let is_tree = |e: Option<(Option<ObjectType>, git2::Oid)>| {
        e.and_then(|(kind, id)| (kind == Some(ObjectType::Tree)).then_some(id))
    };
    for gone in old.iter().flat_map(git2::Tree::iter) {
        let name = String::from_utf8_lossy(gone.name_bytes());
        let now = entry(&new, &name);
        if gone.kind() == Some(ObjectType::Tree) {
            if is_tree(now).is_none() {
                read_changes(repo, files, &format!("{prefix}{name}/"), Some(gone.id()), None)?;
            }
        } else if now.is_none_or(|(kind, _)| kind != Some(ObjectType::Blob)) {
            files.remove(&format!("{prefix}{name}"));
        }
    }
    for now in new.iter().flat_map(git2::Tree::iter) {
        let name = String::from_utf8_lossy(now.name_bytes());
        let before = entry(&old, &name);
        let path = format!("{prefix}{name}");
        match now.kind() {
            Some(ObjectType::Tree) => {
                let old = is_tree(before);
                read_changes(repo, files, &format!("{path}/"), old, Some(now.id()))?;
            }
            Some(ObjectType::Blob) if before == Some((now.kind(), now.id())) => {}
            Some(ObjectType::Blob) => {
                let blob = repo.find_blob(now.id())?;
                files.insert(path, blob.content().into());
            }
            // Nobody of ours writes anything else.
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn scratch() -> (tempfile::TempDir, Repository) {
        let dir = tempfile::tempdir().expect("a directory");
        let repo = Repository::init_bare(dir.path()).expect("a repository");
        (dir, repo)
    }

    fn edit(path: &str, content: Option<&str>) -> Edit {
        Edit { path: path.into(), content: content.map(|text| text.as_bytes().into()) }
    }

    fn try_write(
        repo: &Repository,
        base: Option<git2::Oid>,
        edits: &[Edit],
    ) -> Result<git2::Oid, Unwritten> {
        let mut batch = Batch::default();
        let id = write(repo, &mut batch, base, edits)?;
        batch.write(repo.path()).expect("writes");
        Ok(id)
    }

    fn must_write(repo: &Repository, base: Option<git2::Oid>, edits: &[Edit]) -> git2::Oid {
        match try_write(repo, base, edits) {
            Ok(id) => id,
            Err(Unwritten::Refused(fault)) => panic!("{fault}"),
            Err(Unwritten::Git(error)) => panic!("{error}"),
        }
    }

    fn any_edit() -> impl Strategy<Value = Edit> {
        // Directories have capital names, so that a file is never a directory as well.
        let path = proptest::sample::select(vec![
            "a", "b", "D/a", "D/b", "D/E/a", "D/E/b", "F/a", "D.x", "D/E.x",
        ]);
        let content = proptest::option::of("[xyz]{0,2}");
        (path, content).prop_map(|(path, content)| edit(path, content.as_deref()))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn what_is_written_is_read_again(
            steps in proptest::collection::vec(proptest::collection::vec(any_edit(), 0..6), 1..6)
        ) {
            let (_dir, repo) = scratch();
            let mut model = Tree::default();
            let mut base = None;
            let mut known: Option<(git2::Oid, Tree)> = None;
            for edits in &steps {
                let id = must_write(&repo, base, edits);
                model = model.with(edits);
                let whole = read(&repo, id, None).expect("reads");
                let by_changes =
                    read(&repo, id, known.as_ref().map(|(id, tree)| (*id, tree))).expect("reads");
                prop_assert_eq!(&whole, &model);
                prop_assert_eq!(&by_changes, &model);
                base = Some(id);
                known = Some((id, by_changes));
            }
        }
    }

    #[test]
    fn the_same_content_is_the_same_tree() {
        let (_dir, repo) = scratch();
        let one = must_write(&repo, None, &[edit("D/a", Some("1")), edit("b", Some("2"))]);
        let half = must_write(&repo, None, &[edit("b", Some("2")), edit("D/c", Some("3"))]);
        let two = must_write(&repo, Some(half), &[edit("D/a", Some("1")), edit("D/c", None)]);
        assert_eq!(one, two);
        let empty = must_write(&repo, Some(one), &[edit("D/a", None), edit("b", None)]);
        assert_eq!(empty.to_string(), "4b825dc642cb6eb9a060e54bf8d69288fbee4904");
    }

    #[test]
    fn a_directory_can_take_a_files_place_and_back() {
        let (_dir, repo) = scratch();
        let file = must_write(&repo, None, &[edit("a", Some("1"))]);
        let dir = must_write(&repo, Some(file), &[edit("a", None), edit("a/b", Some("2"))]);
        let back = must_write(&repo, Some(dir), &[edit("a/b", None), edit("a", Some("1"))]);
        assert_eq!(file, back);
        let old = read(&repo, file, None).expect("reads");
        let new = read(&repo, dir, Some((file, &old))).expect("reads");
        assert_eq!(new.files.keys().collect::<Vec<_>>(), ["a/b"]);
        let again = read(&repo, back, Some((dir, &new))).expect("reads");
        assert_eq!(again, old);
    }

    #[test]
    fn paths_that_git_or_a_file_system_would_not_hold_are_refused() {
        let (_dir, repo) = scratch();
        for path in ["", "/a", "a/", "a//b", "../a", "a/./b", ".git/config", "a/.GIT", "a\0b"] {
            let outcome = try_write(&repo, None, &[edit(path, Some("x"))]);
            assert!(matches!(outcome, Err(Unwritten::Refused(_))), "{path:?}");
        }
        for edits in [
            [edit("a", Some("1")), edit("a/b", Some("2"))],
            [edit("a/b", Some("2")), edit("a", Some("1"))],
        ] {
            assert!(matches!(try_write(&repo, None, &edits), Err(Unwritten::Refused(_))));
            let base = must_write(&repo, None, &edits[..1]);
            let outcome = try_write(&repo, Some(base), &edits[1..]);
            assert!(matches!(outcome, Err(Unwritten::Refused(_))));
        }
    }
}
