//! Copies of other repositories on this machine: what an agent with no network starts from.
//!
//! ```text
//!   refs/windlass/tip           of the desired repository: the branch's newest commit
//!   refs/windlass/keep/<oid>    of the desired repository: commits that stay, come what may
//!   refs/windlass/tag/<oid>     of the desired repository: annotated tags that were seen, by their objects
//!   refs/windlass/coordinator   of the state store: the registers as last seen
//!   refs/windlass/nodes/<name>
//!   windlass-cache              a mark: this directory is ours, and may be made anew
//! ```
//! A copy that is damaged is made anew. The kept commits are carried over, each with its history
//! if that can be read, else alone; only what can't be read at all is lost, and said to be.
//!
//! ```text
//!   cache ─ copy what is readable ─▶ cache.rescued     then: cache ─▶ cache.broken
//!                                                            cache.rescued ─▶ cache
//! ```

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use git2::{ObjectType, Repository};
use tracing::{error, info, warn};

use crate::ports::Fault;

use super::{durable, fault, locks, repo};

/// The branch's newest commit.
pub(super) const TIP: &str = "refs/windlass/tip";
/// Commits that stay.
pub(super) const KEEP: &str = "refs/windlass/keep/";

/// Annotated tags that were seen: by their objects, so that one that is moved or removed there stays.
pub(super) const TAG: &str = "refs/windlass/tag/";

const MARK: &str = "windlass-cache";

fn beside(cache: &Path, what: &str) -> PathBuf {
    let mut name = cache.as_os_str().to_owned();
    name.push(what);
    PathBuf::from(name)
}

/// The path of the lock that one user of the cache holds.
pub(super) fn lock_path(cache: &Path) -> PathBuf {
    beside(cache, ".lock")
}

/// Opens the cache; makes it if nothing is there, and makes it anew if it is damaged. Nobody else may be
/// using it.
pub(super) fn open(cache: &Path) -> Result<(), Fault> {
    finish_rescue(cache)?;
    if is_vacant(cache) {
        return make(cache);
    }
    if !cache.join(MARK).exists() {
        return Err(Fault::stalled(format!(
            "{} is not empty and not a cache of the agent's: name another directory, or remove it",
            cache.display()
        )));
    }
    locks::clear(cache);
    match check(cache) {
        Ok(()) => Ok(()),
        Err(why) => rescue(cache, &why),
    }
}

fn is_vacant(path: &Path) -> bool {
    fs::read_dir(path).map_or(true, |mut entries| entries.next().is_none())
}

fn make(path: &Path) -> Result<(), Fault> {
    repo::make(path, Some(MARK))
}

/// Whether what the refs name can be read. Not every object is: that is noticed when it is read.
fn check(cache: &Path) -> Result<(), Fault> {
    let head = fs::read_to_string(cache.join("HEAD")).unwrap_or_default();
    if !head.starts_with("ref: refs/heads/") || head.contains('\0') {
        return Err(Fault::transient("HEAD is damaged"));
    }
    let repo = repo::open(cache)?;
    let look = || -> Result<(), git2::Error> {
        // One of the settings keeps secrets from following a redirect.
        let config = repo.config()?.snapshot()?;
        for (key, _) in repo::CONFIG {
            config.get_str(key)?;
        }
        for reference in repo.references_glob("refs/windlass/*")? {
            reference?.peel_to_commit()?.tree()?;
        }
        Ok(())
    };
    look().map_err(|error| fault::sort(&error, cache.display()))?;
    // libgit2 passes over refs that it can't read.
    for id in kept_names(cache) {
        if !matches!(repo::target(&repo, &format!("{KEEP}{id}")), Ok(Some(target)) if target == id)
        {
            return Err(Fault::transient(format!("the ref {KEEP}{id} is damaged")));
        }
    }
    match repo::target(&repo, TIP) {
        Ok(_) => Ok(()),
        Err(error) => Err(fault::sort(&error, cache.display())),
    }
}

/// The commits that were to stay: by the refs' names, which survive when their content does not.
pub(super) fn kept_names(cache: &Path) -> BTreeSet<git2::Oid> {
    names(cache, KEEP)
}

/// The tags that were seen, in the same way.
pub(super) fn tag_names(cache: &Path) -> BTreeSet<git2::Oid> {
    names(cache, TAG)
}

fn names(cache: &Path, prefix: &str) -> BTreeSet<git2::Oid> {
    let files = fs::read_dir(cache.join(prefix))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let packed = fs::read_to_string(cache.join("packed-refs")).unwrap_or_default();
    let packed =
        packed.lines().filter_map(|line| line.split_once(prefix).map(|(_, id)| id.to_owned()));
    files
        .chain(packed)
        .filter(|name| name.len() == 40)
        .filter_map(|name| git2::Oid::from_str(&name).ok())
        .collect()
}

/// Does what was left of a rescue that was interrupted.
fn finish_rescue(cache: &Path) -> Result<(), Fault> {
    let (rescued, broken) = (beside(cache, ".rescued"), beside(cache, ".broken"));
    let io = |error: &std::io::Error| {
        fault::sort_io(error, format!("can't mend the cache {}", cache.display()))
    };
    if rescued.exists() {
        if is_vacant(cache) && broken.exists() {
            // The old one was moved away, so the new one was complete.
            fs::rename(&rescued, cache).map_err(|e| io(&e))?;
        } else {
            fs::remove_dir_all(&rescued).map_err(|e| io(&e))?;
        }
    }
    if broken.exists() && !is_vacant(cache) {
        fs::remove_dir_all(&broken).map_err(|e| io(&e))?;
    }
    Ok(())
}

/// Makes the cache anew and carries the kept commits over. Nobody may be using it.
pub(super) fn rescue(cache: &Path, why: &Fault) -> Result<(), Fault> {
    error!(
        cache = %cache.display(),
        %why,
        "a copy of a repository is damaged and is made anew; check the disk"
    );
    let (rescued, broken) = (beside(cache, ".rescued"), beside(cache, ".broken"));
    let io = |error: &std::io::Error| {
        fault::sort_io(error, format!("can't mend the cache {}", cache.display()))
    };
    if rescued.exists() {
        fs::remove_dir_all(&rescued).map_err(|e| io(&e))?;
    }
    make(&rescued)?;
    let kept = carry_over(cache, &rescued).map_err(|error| {
        fault::sort(&error, format!("can't mend the cache {}", cache.display()))
    })?;
    if broken.exists() {
        fs::remove_dir_all(&broken).map_err(|e| io(&e))?;
    }
    fs::rename(cache, &broken).map_err(|e| io(&e))?;
    fs::rename(&rescued, cache).map_err(|e| io(&e))?;
    if let Some(parent) = cache.parent() {
        durable::sync_dir(parent).map_err(|e| io(&e))?;
    }
    // What can't be removed now is removed at the next start.
    let _ = fs::remove_dir_all(&broken);
    info!(cache = %cache.display(), kept, "the copy was made anew");
    Ok(())
}

/// Copies the kept commits that can be read; returns how many.
fn carry_over(from: &Path, to: &Path) -> Result<usize, git2::Error> {
    let mut shallow = Vec::new();
    let mut carried = Vec::new();
    for id in kept_names(from) {
        // A repository for each: one that met damage is not asked again.
        let repo = Repository::open(to)?;
        let odb = repo.odb()?;
        odb.add_disk_alternate(&from.join("objects").to_string_lossy())?;
        if copy(&repo, id, true).is_ok() {
            carried.push(id);
        } else if copy(&repo, id, false).is_ok() {
            warn!(commit = %id, "kept without its history, which is damaged; a fetch brings it back");
            shallow.push(id);
            carried.push(id);
        } else {
            error!(commit = %id, "a kept commit can't be read any more; a fetch may bring it back");
        }
    }
    let text: String = shallow.iter().map(|id| format!("{id}\n")).collect();
    if !text.is_empty() {
        durable::write_file(&to.join("shallow"), text.as_bytes())
            .map_err(|error| git2::Error::from_str(&error.to_string()))?;
    }
    let repo = Repository::open(to)?;
    for id in &carried {
        repo.reference(&format!("{KEEP}{id}"), *id, true, "")?;
    }
    carry_tags(from, to)?;
    Ok(carried.len())
}

/// Copies the tags on commits that were carried over: without its tag a commit that needs one is not read.
fn carry_tags(from: &Path, to: &Path) -> Result<(), git2::Error> {
    let known: BTreeSet<git2::Oid> = {
        let repo = Repository::open(to)?;
        let mut walk = repo.revwalk()?;
        if repo.references_glob(&format!("{KEEP}*"))?.next().is_some() {
            walk.push_glob(&format!("{KEEP}*"))?;
        }
        walk.filter_map(Result::ok).collect()
    };
    let own = Repository::open(to)?;
    for id in tag_names(from) {
        // As with commits: one that met damage is not asked again.
        let repo = Repository::open(to)?;
        let odb = repo.odb()?;
        odb.add_disk_alternate(&from.join("objects").to_string_lossy())?;
        let is_on_one = |tag: git2::Tag<'_>| known.contains(&tag.target_id());
        if !repo.find_tag(id).is_ok_and(is_on_one) {
            continue;
        }
        lay_in_tag(&own, odb.read(id)?.data())?;
    }
    Ok(())
}

/// Lays a tag's object into a copy, with the ref by which it stays.
pub(super) fn lay_in_tag(copy: &Repository, object: &[u8]) -> Result<(), git2::Error> {
    let id = copy.odb()?.write(ObjectType::Tag, object)?;
    copy.reference(&format!("{TAG}{id}"), id, true, "").map(|_| ())
}

/// Packs a commit, from wherever it can be read, into `repo` itself.
fn copy(repo: &Repository, commit: git2::Oid, history: bool) -> Result<(), git2::Error> {
    let mut builder = repo.packbuilder()?;
    builder.set_threads(1);
    if history {
        let mut walk = repo.revwalk()?;
        walk.push(commit)?;
        builder.insert_walk(&mut walk)?;
    } else {
        builder.insert_commit(commit)?;
    }
    // Reading checks each object against its id.
    builder.write(&repo.path().join("objects/pack"), 0)
}

/// The cache lacks some commits' parents.
pub(super) fn is_shallow(cache: &Path) -> bool {
    cache.join("shallow").exists()
}
