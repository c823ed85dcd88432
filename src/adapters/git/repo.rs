//! Repositories of ours: made whole or not at all, opened, and kept open for the next call.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use git2::{
    ErrorCode, ObjectType, Reference, Repository, RepositoryInitOptions, Tag, Tree, TreeEntry,
};

use crate::kinds::binding::Oid;
use crate::kinds::time::Wall;
use crate::ports::Fault;
use crate::ports::source::CommitInfo;

use super::{durable, fault};

/// What a repository of ours is configured with.
pub(super) const CONFIG: &[(&str, &str)] = &[
    // Should `git` itself ever write here: an acknowledged write survives a power cut.
    ("core.fsync", "all"),
    // We repack ourselves; a repack by somebody else at the same time only costs.
    ("gc.auto", "0"),
    ("maintenance.auto", "false"),
    ("receive.autogc", "false"),
    // State is moved, never deleted; `git push --mirror` from a wrong directory is refused.
    ("receive.denyDeletes", "true"),
    // A secret is never sent to another host that a redirect leads to.
    ("http.followRedirects", "false"),
    // The history of a register is its audit log; the reflog would be a second one.
    ("core.logAllRefUpdates", "false"),
];

/// What is at a path below a tree, if anything is.
pub(super) fn at(tree: &Tree<'_>, path: &[u8]) -> Result<Option<TreeEntry<'static>>, git2::Error> {
    match tree.get_path(Path::new(OsStr::from_bytes(path))) {
        Ok(entry) => Ok(Some(entry)),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The id of the directory at a path below a tree, if there is one; for an empty path, of the tree itself.
pub(super) fn directory(tree: &Tree<'_>, path: &[u8]) -> Result<Option<git2::Oid>, git2::Error> {
    if path.is_empty() {
        return Ok(Some(tree.id()));
    }
    let found = at(tree, path)?.filter(|entry| entry.kind() == Some(ObjectType::Tree));
    Ok(found.map(|entry| entry.id()))
}

/// Opens the bare repository at `path`, or makes it if nothing is there. Whether it was made is
/// told as well.
pub(super) fn open_or_make(path: &Path) -> Result<(Repository, bool), Fault> {
    let vacant = match fs::read_dir(path) {
        Ok(mut entries) => entries.next().is_none(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => true,
        Err(error) => {
            return Err(fault::sort_io(&error, format!("can't read {}", path.display())));
        }
    };
    if vacant {
        make(path, None)?;
    }
    Ok((open(path)?, vacant))
}

/// Makes a bare repository beside `path` and moves it there, so that neither a kill nor another
/// maker can leave half of one. `mark` is an empty file put into it.
pub(super) fn make(path: &Path, mark: Option<&str>) -> Result<(), Fault> {
    let what = || format!("can't make the repository {}", path.display());
    let parent = path.parent().unwrap_or(Path::new("/"));
    durable::make_dir(parent, 0o755)?;
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let beside = parent.join(format!(".{name}.new-{}", unique()));
    let outcome = (|| {
        let mut options = RepositoryInitOptions::new();
        options.bare(true).no_reinit(true).external_template(false);
        let repo = Repository::init_opts(&beside, &options)
            .map_err(|error| fault::sort(&error, what()))?;
        let mut config = repo.config().map_err(|error| fault::sort(&error, what()))?;
        for (key, value) in CONFIG {
            config.set_str(key, value).map_err(|error| fault::sort(&error, what()))?;
        }
        let mark = mark.map_or(Ok(()), |name| fs::write(beside.join(name), ""));
        mark.and_then(|()| durable::sync_tree(&beside))
            .and_then(|()| fs::rename(&beside, path))
            .and_then(|()| durable::sync_dir(parent))
            .map_err(|error| fault::sort_io(&error, what()))
    })();
    if let Err(fault) = outcome {
        let _ = fs::remove_dir_all(&beside);
        // Somebody else was faster: theirs is as good as ours.
        if !path.join("HEAD").exists() {
            return Err(fault);
        }
    }
    Ok(())
}

/// A name part that no other process and no other call uses.
pub(super) fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Opens the repository at `path`, and only there: not one that surrounds it.
pub(super) fn open(path: &Path) -> Result<Repository, Fault> {
    if path.is_file() {
        return Err(Fault::stalled(format!("{} is a file, not a repository", path.display())));
    }
    Repository::open(path).map_err(|error| fault::sort(&error, path.display()))
}

/// Repositories that are open and idle. A call takes one and brings it back; one that is given up
/// never does. libgit2 keeps parsed objects and open packs in it.
pub(super) struct Pool {
    path: PathBuf,
    idle: Mutex<Vec<(Stamp, Repository)>>,
}

/// A file whose change says: what you know of this repository is out of date.
const OUTDATED: &str = "objects/windlass-outdated";

/// Makes everybody open the repository at `git_dir` anew: packs were removed, or history came back
/// to a copy that had lost some.
pub(super) fn outdate(git_dir: &Path) {
    // Only a hint: not synced, and no harm if it fails.
    let _ = fs::write(git_dir.join(OUTDATED), unique());
}

/// Changes when the repository should be opened anew.
type Stamp = Option<(u64, u64, i64, i64)>;

/// More are not kept open: as many as calls run at a time.
const IDLE_MAX: usize = 4;

impl Pool {
    pub(super) fn new(path: PathBuf) -> Self {
        Self { path, idle: Mutex::new(Vec::new()) }
    }

    fn stamp(&self) -> Stamp {
        let meta = fs::metadata(self.path.join(OUTDATED)).ok()?;
        Some((meta.dev(), meta.ino(), meta.mtime(), meta.mtime_nsec()))
    }

    fn idle(&self) -> std::sync::MutexGuard<'_, Vec<(Stamp, Repository)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Does `work` with a repository.
    pub(super) fn with<T>(
        &self,
        work: impl FnOnce(&Repository) -> Result<T, Fault>,
    ) -> Result<T, Fault> {
        let stamp = self.stamp();
        let kept = {
            let mut idle = self.idle();
            idle.retain(|(when, _)| *when == stamp);
            idle.pop()
        };
        let (stamp, repo) = match kept {
            Some(kept) => kept,
            None => (stamp, open(&self.path)?),
        };
        let outcome = work(&repo);
        // After a fault a fresh look is worth more than a warm cache.
        if outcome.is_ok() {
            let mut idle = self.idle();
            if idle.len() < IDLE_MAX {
                idle.push((stamp, repo));
            }
        }
        outcome
    }

    /// Closes what is idle.
    pub(super) fn clear(&self) {
        self.idle().clear();
    }
}

/// The port's way to write an object's id.
pub(super) fn oid(id: git2::Oid) -> Oid {
    Oid::new(&id.to_string())
}

/// libgit2's way.
pub(super) fn raw(id: &Oid) -> Result<git2::Oid, Fault> {
    git2::Oid::from_str(id.as_str())
        .map_err(|_| Fault::not_found(format!("{id:?} is not the id of a Git object")))
}

/// What a ref points to; none if it does not exist.
pub(super) fn target(repo: &Repository, name: &str) -> Result<Option<git2::Oid>, git2::Error> {
    match repo.refname_to_id(name) {
        Ok(id) => Ok(Some(id)),
        Err(error) if error.code() == ErrorCode::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The annotated tags that refs of a pattern name. A ref of somebody's that is broken, or names a commit
/// itself, is none.
pub(super) fn annotated<'r>(
    repo: &'r Repository,
    glob: &str,
) -> Result<impl Iterator<Item = (Reference<'r>, Tag<'r>)> + use<'r>, git2::Error> {
    let refs = repo.references_glob(glob)?.filter_map(Result::ok);
    Ok(refs.filter_map(|reference| {
        let tag = repo.find_tag(reference.target()?).ok()?;
        Some((reference, tag))
    }))
}

/// A commit, for people.
pub(super) fn describe(commit: &git2::Commit<'_>) -> CommitInfo {
    let author = commit.author();
    CommitInfo {
        id: oid(commit.id()),
        author: format!(
            "{} <{}>",
            String::from_utf8_lossy(author.name_bytes()),
            String::from_utf8_lossy(author.email_bytes())
        ),
        time: Wall::from_seconds(commit.time().seconds()),
        message: String::from_utf8_lossy(commit.message_bytes()).into_owned(),
    }
}
