//! Keeps a repository of ours small, as one keeps a desk: what is still used goes into one folder,
//! and only when the folder is closed are the loose sheets thrown away.
//!
//! libgit2 never repacks. Each fetch leaves a pack and each written object a file, and reads slow
//! down with both (500 packs: 3 ms a fetch, 1,500: 22 ms).
//!
//! ```text
//!   1  what the refs reach ─▶ windlass-new-…/pack-X          anybody may read and write
//!   2  writers kept out: refs moved since? ─▶ a second, small pack;
//!      pack-X into objects/pack (.pack, then .idx), synced; the old packs are removed
//!   3  loose objects that are in pack-X are removed           anybody may read and write
//!   4  those that nothing reaches are removed, a few at a time, writers kept out each time
//! ```
//! A kill between any two steps leaves copies or litter, never a hole; the next run clears both.
//!
//! What the refs don't reach is removed only once it is older than a grace time, where others than
//! us may write (a push re-uses an object that is there before it points a ref to it).

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use git2::{ErrorCode, ObjectType, Repository};
use tracing::{debug, warn};

use crate::ports::Fault;

use super::{durable, fault, repo, room};

/// How the names of new packs, and of directories in which they are made, begin.
pub(super) const WORKSHOP: &str = "windlass-new-";

/// How much there is to tidy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Clutter {
    /// Packs.
    pub(super) packs: usize,
    /// Objects in a file each.
    pub(super) loose: usize,
}

/// Counts packs and loose objects.
pub(super) fn clutter(git_dir: &Path) -> Clutter {
    let objects = git_dir.join("objects");
    Clutter {
        packs: packs(&objects).map_or(0, |packs| packs.len()),
        loose: loose(&objects).map_or(0, |loose| loose.len()),
    }
}

/// Counts packs alone: one directory to read.
pub(super) fn pack_count(git_dir: &Path) -> usize {
    let names = fs::read_dir(git_dir.join("objects/pack")).into_iter().flatten().flatten();
    names.filter(|entry| entry.path().extension().is_some_and(|e| e == "idx")).count()
}

/// Repacks the repository at `git_dir`. `keep_out` keeps writers out until its answer is dropped;
/// none means that they can't be kept out now, and what needs it is left for the next time.
/// Unreachable objects younger than `grace` are left alone.
pub(super) fn repack<G>(
    git_dir: &Path,
    grace: Duration,
    keep_out: impl FnMut() -> Result<Option<G>, Fault>,
) -> Result<(), Fault> {
    let objects = git_dir.join("objects");
    let failed = |error: &io::Error| sort(error, git_dir);
    let workshop = objects.join(format!("{WORKSHOP}{}", repo::unique()));
    let mut run = Run {
        git_dir,
        old_packs: packs(&objects).map_err(|e| failed(&e))?,
        old_loose: loose(&objects).map_err(|e| failed(&e))?,
        objects,
        workshop: workshop.clone(),
        grace,
        clock: SystemTime::UNIX_EPOCH,
        kept: BTreeSet::new(),
        keep_out,
    };
    room::check(git_dir, run.size())?;
    fs::create_dir(&workshop).map_err(|e| failed(&e))?;
    let outcome = run.run();
    let _ = fs::remove_dir_all(&workshop);
    outcome
}

/// So many loose objects are removed while writers wait: a few milliseconds, on a slow disk half a
/// second.
const REMOVED_AT_ONCE: usize = 200;

/// One repack.
struct Run<'a, F> {
    git_dir: &'a Path,
    objects: PathBuf,
    workshop: PathBuf,
    grace: Duration,
    old_packs: BTreeSet<PathBuf>,
    old_loose: Vec<(git2::Oid, PathBuf)>,
    /// The file system's time, by the new packs: no other clock is asked how old a file is.
    clock: SystemTime,
    /// What must not be lost.
    kept: BTreeSet<git2::Oid>,
    keep_out: F,
}

impl<G, F: FnMut() -> Result<Option<G>, Fault>> Run<'_, F> {
    fn failed(&self, error: &io::Error) -> Fault {
        sort(error, self.git_dir)
    }

    /// How large the new pack may become: what is there now.
    fn size(&self) -> u64 {
        let packs = self.old_packs.iter().map(|name| self.objects.join("pack").join(name));
        let loose = self.old_loose.iter().map(|(_, path)| path.clone());
        let size = |path: PathBuf| fs::metadata(path).map_or(0, |meta| meta.len());
        packs.chain(loose).map(size).sum()
    }

    fn is_old(&self, path: &Path) -> bool {
        let age = self.clock.duration_since(modified(path)).unwrap_or_default();
        self.grace.is_zero() || age >= self.grace
    }

    fn run(&mut self) -> Result<(), Fault> {
        // A repository of its own: one that is in use may have removed packs still open.
        let repo = repo::open(self.git_dir)?;
        let before = roots(&repo)?;
        write_pack(&repo, &self.workshop, &before, &BTreeSet::new())?;
        let Some(mut roots_kept) = self.swap_packs(&repo, &before)? else {
            return Ok(());
        };
        let removed = self.old_loose.len();
        let (packed, unreached): (Vec<_>, Vec<_>) = std::mem::take(&mut self.old_loose)
            .into_iter()
            .partition(|(id, _)| self.kept.contains(id));
        for (_, path) in &packed {
            remove(path).map_err(|e| self.failed(&e))?;
        }
        for some in unreached.chunks(REMOVED_AT_ONCE) {
            let Some(_writers_wait) = (self.keep_out)()? else {
                return Ok(());
            };
            // Something taken into use again since then?
            let now = roots(&repo)?;
            if now != roots_kept {
                self.kept.extend(reached(&repo, &now, &roots_kept)?);
                roots_kept = now;
            }
            for (id, path) in some {
                if !self.kept.contains(id) && self.is_old(path) {
                    remove(path).map_err(|e| self.failed(&e))?;
                }
            }
        }
        debug!(
            repository = %self.git_dir.display(),
            packed = packed.len(),
            looked_at = removed,
            "repacked"
        );
        Ok(())
    }

    /// Puts the new pack in the place of the old ones; returns what refs it is good for.
    fn swap_packs(
        &mut self,
        repo: &Repository,
        before: &BTreeSet<git2::Oid>,
    ) -> Result<Option<BTreeSet<git2::Oid>>, Fault> {
        let Some(_writers_wait) = (self.keep_out)()? else {
            return Ok(None);
        };
        let now = roots(repo)?;
        if now != *before {
            write_pack(repo, &self.workshop, &now, before)?;
        }
        let directory = self.objects.join("pack");
        let added = move_packs(&self.workshop, &directory).map_err(|e| self.failed(&e))?;
        for pack in &added {
            let index = directory.join(pack).with_extension("idx");
            let bytes = fs::read(&index).map_err(|e| self.failed(&e))?;
            self.kept.extend(index_ids(&bytes));
            self.clock = self.clock.max(modified(&index));
        }
        // The next run may remove them, however soon it comes, unless somebody touches them.
        for pack in &added {
            let file = fs::File::open(directory.join(pack));
            file.and_then(|file| {
                file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1))
            })
            .map_err(|e| self.failed(&e))?;
        }
        // Who has it open would keep removed packs on the disk.
        repo::outdate(self.git_dir);
        for pack in self.old_packs.difference(&added) {
            let path = directory.join(pack);
            let all_kept = || {
                fs::read(path.with_extension("idx"))
                    .is_ok_and(|index| index_ids(&index).all(|id| self.kept.contains(&id)))
            };
            let pinned = path.with_extension("keep").exists();
            if !pinned && (self.is_old(&path) || all_kept()) {
                remove_pack(&path).map_err(|e| self.failed(&e))?;
            }
        }
        clear_litter(&self.objects, &self.workshop, &|path| self.is_old(path));
        Ok(Some(now))
    }
}

fn sort(error: &io::Error, git_dir: &Path) -> Fault {
    fault::sort_io(error, format!("can't repack {}", git_dir.display()))
}

/// What `from` reaches and `but` does not, and perhaps some more.
fn reached(
    repo: &Repository,
    from: &BTreeSet<git2::Oid>,
    but: &BTreeSet<git2::Oid>,
) -> Result<BTreeSet<git2::Oid>, Fault> {
    let mut found = BTreeSet::new();
    let mut look = || -> Result<(), git2::Error> {
        let mut walk = repo.revwalk()?;
        for id in from.difference(but) {
            walk.push(*id)?;
        }
        for id in but {
            walk.hide(*id)?;
        }
        for id in walk {
            let commit = repo.find_commit(id?)?;
            let tree = commit.tree()?;
            found.extend([commit.id(), tree.id()]);
            tree.walk(git2::TreeWalkMode::PreOrder, |_, entry| {
                found.insert(entry.id());
                git2::TreeWalkResult::Ok
            })?;
        }
        Ok(())
    };
    look().map_err(|error| fault::sort(&error, repo.path().display()))?;
    Ok(found)
}

/// Removes what is left of writers that were killed. No pack is made.
pub(super) fn clear_litter(objects: &Path, but: &Path, is_old: &dyn Fn(&Path) -> bool) {
    let list = |path: &Path| fs::read_dir(path).into_iter().flatten().flatten();
    for entry in list(objects).chain(list(&objects.join("pack"))) {
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        // Of libgit2 and of us; never of `git`, whose pushes may be under way.
        let litter = name.starts_with("tmp_object_git2_")
            || name.starts_with("pack_git2_")
            || name.starts_with(WORKSHOP) && path != but
            || is_old(&path) && is_half_a_pack(&path);
        if !litter {
            continue;
        }
        let outcome = match entry.file_type() {
            Ok(kind) if kind.is_dir() => fs::remove_dir_all(&path),
            _ => fs::remove_file(&path),
        };
        if let Err(error) = outcome {
            warn!(path = %path.display(), %error, "litter of a killed writer can't be removed");
        }
    }
}

fn is_half_a_pack(path: &Path) -> bool {
    let other = match path.extension().and_then(|e| e.to_str()) {
        Some("pack") => "idx",
        Some("idx") => "pack",
        _ => return false,
    };
    !path.with_extension(other).exists()
}

/// What the refs point to.
fn roots(repo: &Repository) -> Result<BTreeSet<git2::Oid>, Fault> {
    let all = || -> Result<_, git2::Error> {
        let mut roots = BTreeSet::new();
        for reference in repo.references()? {
            // One that can't be read might hold what we are about to remove.
            if let Some(id) = reference?.target() {
                roots.insert(id);
            }
        }
        Ok(roots)
    };
    all().map_err(|error| fault::sort(&error, repo.path().display()))
}

/// Writes a pack of what `from` reaches and `but` does not.
fn write_pack(
    repo: &Repository,
    into: &Path,
    from: &BTreeSet<git2::Oid>,
    but: &BTreeSet<git2::Oid>,
) -> Result<(), Fault> {
    let write = || -> Result<(), git2::Error> {
        let mut builder = repo.packbuilder()?;
        builder.set_threads(1);
        let mut walk = repo.revwalk()?;
        let is_commit = |id: git2::Oid| -> Result<bool, git2::Error> {
            Ok(repo.find_object(id, None)?.kind() == Some(ObjectType::Commit))
        };
        for id in from.difference(but) {
            if is_commit(*id)? {
                walk.push(*id)?;
            } else {
                builder.insert_recursive(*id, None)?;
            }
        }
        for id in but {
            match walk.hide(*id) {
                Ok(()) => {}
                Err(error) if error.code() == ErrorCode::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        builder.insert_walk(&mut walk)?;
        if builder.object_count() > 0 {
            builder.write(into, 0)?;
        }
        Ok(())
    };
    write().map_err(|error| fault::sort(&error, repo.path().display()))
}

/// Moves finished packs to where they count. A pack counts once its index is there.
fn move_packs(from: &Path, to: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let names: Vec<PathBuf> = fs::read_dir(from)?
        .map(|entry| entry.map(|e| PathBuf::from(e.file_name())))
        .collect::<io::Result<_>>()?;
    for extension in ["pack", "idx"] {
        for name in &names {
            if name.extension().is_some_and(|e| e == extension) {
                fs::rename(from.join(name), to.join(name))?;
            }
        }
        durable::sync_dir(to)?;
    }
    Ok(names.into_iter().filter(|name| name.extension().is_some_and(|e| e == "pack")).collect())
}

fn remove_pack(pack: &Path) -> io::Result<()> {
    for extension in ["idx", "rev", "bitmap", "pack"] {
        remove(&pack.with_extension(extension))?;
    }
    Ok(())
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn modified(path: &Path) -> SystemTime {
    fs::metadata(path).and_then(|meta| meta.modified()).unwrap_or(SystemTime::UNIX_EPOCH)
}

/// The names of complete packs: `pack-….pack`.
fn packs(objects: &Path) -> io::Result<BTreeSet<PathBuf>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(objects.join("pack"))? {
        let name = PathBuf::from(entry?.file_name());
        if name.extension().is_some_and(|e| e == "idx") {
            let pack = name.with_extension("pack");
            if objects.join("pack").join(&pack).exists() {
                found.insert(pack);
            }
        }
    }
    Ok(found)
}

/// Objects in a file each: `ab/cdef…`.
fn loose(objects: &Path) -> io::Result<Vec<(git2::Oid, PathBuf)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(objects)? {
        let entry = entry?;
        let first = entry.file_name().to_string_lossy().into_owned();
        if first.len() != 2 {
            continue;
        }
        for entry in fs::read_dir(entry.path())? {
            let entry = entry?;
            let name = format!("{first}{}", entry.file_name().to_string_lossy());
            if name.len() == 40
                && let Ok(id) = git2::Oid::from_str(&name)
            {
                found.push((id, entry.path()));
            }
        }
    }
    Ok(found)
}

/// The ids in a pack's index, version 2 (gitformat-pack(5)): magic and version, 256 counts, then
/// the ids, sorted.
fn index_ids(index: &[u8]) -> impl Iterator<Item = git2::Oid> + '_ {
    const IDS_AT: usize = 8 + 256 * 4;
    let count = index
        .get(IDS_AT - 4..IDS_AT)
        .and_then(|bytes| bytes.first_chunk::<4>())
        .map_or(0, |bytes| u32::from_be_bytes(*bytes));
    let count = usize::try_from(count).unwrap_or(0);
    let version_2 = index.starts_with(&[0xff, b't', b'O', b'c', 0, 0, 0, 2]);
    index
        .get(IDS_AT..)
        .unwrap_or_default()
        .chunks_exact(20)
        .take(if version_2 { count } else { 0 })
        .filter_map(|bytes| git2::Oid::from_bytes(bytes).ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use git2::Signature;

    struct Scratch {
        dir: tempfile::TempDir,
        repo: Repository,
        tip: Option<git2::Oid>,
    }

    impl Scratch {
        fn new() -> Self {
            let dir = tempfile::tempdir().expect("a directory");
            let repo = Repository::init_bare(dir.path()).expect("a repository");
            Self { dir, repo, tip: None }
        }

        fn commit(&mut self, text: &str) -> git2::Oid {
            let repo = &self.repo;
            let mut tree = repo.treebuilder(None).expect("a tree");
            let blob = repo.blob(text.as_bytes()).expect("a blob");
            tree.insert("a", blob, 0o100_644).expect("inserts");
            let tree = repo.find_tree(tree.write().expect("writes")).expect("finds");
            let who = Signature::now("n", "x@y").expect("a name");
            let parent = self.tip.map(|id| repo.find_commit(id).expect("a parent"));
            let parents: Vec<_> = parent.iter().collect();
            let id = repo
                .commit(Some("refs/windlass/x"), &who, &who, text, &tree, &parents)
                .expect("commits");
            self.tip = Some(id);
            id
        }

        fn readable(&self, tip: git2::Oid) -> usize {
            let repo = Repository::open(self.dir.path()).expect("opens");
            let mut walk = repo.revwalk().expect("walks");
            walk.push(tip).expect("pushes");
            walk.map(|id| {
                let tree = repo.find_commit(id.expect("an id")).expect("reads").tree();
                for entry in &tree.expect("a tree") {
                    repo.find_blob(entry.id()).expect("a blob");
                }
            })
            .count()
        }
    }

    #[test]
    fn what_refs_reach_stays_and_the_rest_goes() {
        let mut s = Scratch::new();
        for n in 0..10 {
            s.commit(&format!("old {n}"));
        }
        s.tip = None;
        s.repo.find_reference("refs/windlass/x").and_then(|mut r| r.delete()).expect("deletes");
        for n in 0..10 {
            s.commit(&format!("new {n}"));
        }
        fs::write(s.dir.path().join("objects/tmp_object_git2_abc"), "x").expect("writes");
        fs::create_dir(s.dir.path().join("objects/windlass-new-1-1")).expect("makes");
        let tip = s.tip.expect("some");
        repack(s.dir.path(), Duration::ZERO, || Ok(Some(()))).expect("repacks");
        assert_eq!(clutter(s.dir.path()), Clutter { packs: 1, loose: 0 });
        assert_eq!(s.readable(tip), 10);
        assert!(!s.dir.path().join("objects/tmp_object_git2_abc").exists());
        assert!(!s.dir.path().join("objects/windlass-new-1-1").exists());
        let size = |path: PathBuf| fs::metadata(path).map_or(0, |m| m.len());
        let pack = packs(&s.dir.path().join("objects")).expect("lists");
        let index = pack.first().expect("one").with_extension("idx");
        let index = s.dir.path().join("objects/pack").join(index);
        assert_eq!(index_ids(&fs::read(&index).expect("reads")).count(), 30);
        assert!(size(index) > 0);
        // Again, with nothing new: the same pack by the same name must not be removed.
        repack(s.dir.path(), Duration::ZERO, || Ok(Some(()))).expect("repacks");
        assert_eq!(s.readable(tip), 10);
    }

    #[test]
    fn an_object_taken_into_use_again_while_we_pack_stays() {
        let mut s = Scratch::new();
        s.commit("again");
        s.tip = None;
        s.repo.find_reference("refs/windlass/x").and_then(|mut r| r.delete()).expect("deletes");
        s.commit("kept");
        let dir = s.dir.path().to_path_buf();
        let mut once = true;
        // "again" is garbage when packing begins, and its blob and tree are in use at its end.
        repack(&dir, Duration::ZERO, || {
            if std::mem::take(&mut once) {
                s.commit("again");
            }
            Ok(Some(()))
        })
        .expect("repacks");
        assert_eq!(s.readable(s.tip.expect("some")), 2);
    }

    #[test]
    fn an_object_taken_into_use_again_while_we_remove_stays() {
        let mut s = Scratch::new();
        s.commit("again");
        s.tip = None;
        s.repo.find_reference("refs/windlass/x").and_then(|mut r| r.delete()).expect("deletes");
        s.commit("kept");
        let dir = s.dir.path().to_path_buf();
        let mut rounds = 0;
        // The packs are in place; then "again" is in use again, and its objects are still loose.
        repack(&dir, Duration::ZERO, || {
            rounds += 1;
            if rounds == 2 {
                s.commit("again");
            }
            Ok(Some(()))
        })
        .expect("repacks");
        assert_eq!((rounds, s.readable(s.tip.expect("some"))), (2, 2));
    }

    #[test]
    fn young_garbage_is_left_where_others_may_write() {
        let mut s = Scratch::new();
        s.commit("old");
        s.tip = None;
        s.repo.find_reference("refs/windlass/x").and_then(|mut r| r.delete()).expect("deletes");
        s.commit("kept");
        let hour = Duration::from_secs(3600);
        repack(s.dir.path(), hour, || Ok(Some(()))).expect("repacks");
        assert_eq!(clutter(s.dir.path()), Clutter { packs: 1, loose: 3 });
        repack(s.dir.path(), Duration::ZERO, || Ok::<Option<()>, _>(None)).expect("gives way");
        assert_eq!(clutter(s.dir.path()), Clutter { packs: 1, loose: 3 });
    }

    #[test]
    fn nothing_is_removed_when_something_can_not_be_read() {
        let mut s = Scratch::new();
        s.commit("a");
        let tip = s.commit("b");
        let path = s.dir.path().join("objects");
        let hex = s.repo.find_commit(tip).expect("reads").tree_id().to_string();
        let broken = path.join(&hex[..2]).join(&hex[2..]);
        fs::remove_file(&broken).expect("removes");
        let before = clutter(s.dir.path());
        repack(s.dir.path(), Duration::ZERO, || Ok(Some(()))).expect_err("damaged");
        assert_eq!(clutter(s.dir.path()), before);
    }
}
