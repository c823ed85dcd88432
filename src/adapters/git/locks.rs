//! The files by which Git locks a ref while somebody moves it, and what a kill leaves of them.
//!
//! ```text
//!   refs/heads/main.lock     there while refs/heads/main is moved; libgit2 fails at once where it stands
//! ```
//! Who is killed in between leaves one for ever, and nobody moves that ref again until it is removed.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use git2::ErrorCode;
use tracing::warn;

/// A lock that stands unchanged for so long belongs to a writer that was killed, where no other program of
/// ours can be writing: `git` holds one for less than a millisecond.
pub(super) const STALE_AMONG_OURS: Duration = Duration::from_millis(250);
/// The same in a repository that others push to. Their `reference-transaction` hook runs while the lock
/// stands (githooks(5)).
pub(super) const STALE_AMONG_OTHERS: Duration = Duration::from_secs(5);
/// How often a lock may be in the way before a write is given up.
const TRIES_MAX: u32 = 20;
/// Between two looks at a lock.
const STEP: Duration = Duration::from_millis(10);

/// Moves a ref, also where a killed writer has left its lock, which is removed when it has stood unchanged
/// for `stale`.
pub(super) fn past<T>(
    git_dir: &Path,
    name: &str,
    stale: Duration,
    work: impl Fn() -> Result<T, git2::Error>,
) -> Result<T, git2::Error> {
    let mut tries = 0;
    loop {
        match work() {
            Err(error) if error.code() == ErrorCode::Locked && tries < TRIES_MAX => {
                tries += 1;
                clear_if_stale(&git_dir.join(format!("{name}.lock")), stale);
            }
            other => return other,
        }
    }
}

/// Waits until a lock is gone, or removes it when nobody alive can hold it.
pub(super) fn clear_if_stale(path: &Path, stale: Duration) {
    let stamp = || {
        let meta = fs::metadata(path).ok()?;
        Some((meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.size()))
    };
    let Some(first) = stamp() else { return };
    let mut stood = Duration::ZERO;
    while stood < stale {
        std::thread::sleep(STEP);
        stood += STEP;
        if stamp() != Some(first) {
            return;
        }
    }
    remove(path);
}

/// Removes all locks of refs in a repository of ours. Who calls is the only one who uses it, so whoever
/// held one is gone.
pub(crate) fn clear(git_dir: &Path) {
    let mut directories = vec![git_dir.join("refs")];
    let mut locks = vec![git_dir.join("packed-refs.lock"), git_dir.join("HEAD.lock")];
    while let Some(directory) = directories.pop() {
        for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
            let path = entry.path();
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|extension| extension == "lock") {
                locks.push(path);
            }
        }
    }
    locks.iter().filter(|lock: &&PathBuf| lock.exists()).for_each(|lock| remove(lock));
}

fn remove(lock: &Path) {
    match fs::remove_file(lock) {
        Ok(()) => warn!(lock = %lock.display(), "removed the lock of a writer that was killed"),
        Err(error) => warn!(lock = %lock.display(), %error, "a stale lock can't be removed"),
    }
}
