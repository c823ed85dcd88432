//! Files that a power cut can't halve, and locks that a kill can't leave behind.
//!
//! A file is written beside itself, synced, renamed, and its directory synced: a reader finds the
//! old or the new. A lock is flock(2), which ends with the process that holds it, however it ends.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::ports::Fault;

use super::fault;

/// Makes a directory and those above it; when it returns, a power cut can't undo the last of them.
pub(super) fn make_dir(path: &Path, mode: u32) -> Result<(), Fault> {
    if path.is_dir() {
        return Ok(());
    }
    DirBuilder::new()
        .recursive(true)
        .mode(mode)
        .create(path)
        .and_then(|()| path.parent().map_or(Ok(()), sync_dir))
        .map_err(|error| fault::sort_io(&error, format!("can't make {}", path.display())))
}

/// Writes a file so that after a power cut it is the old or the new.
pub(crate) fn write_file(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let beside = PathBuf::from(beside);
    let outcome = (|| {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(&beside, path)?;
        match path.parent() {
            Some(parent) => sync_dir(parent),
            None => Ok(()),
        }
    })();
    if outcome.is_err() {
        // On a full disk even the remains take space.
        let _ = fs::remove_file(&beside);
    }
    outcome
}

/// Makes names in a directory survive a power cut.
pub(super) fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// Makes a whole directory survive a power cut.
pub(super) fn sync_tree(path: &Path) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            sync_tree(&entry.path())?;
        } else {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_dir(path)
}

/// How long a lock that is held for life is waited for. A process being started has copies of its
/// parent's locks until it runs its own program: for that moment a free lock seems taken.
pub(super) const FORKS_WAIT: Duration = Duration::from_millis(300);

/// A lock held by this process until it is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    file: File,
    path: PathBuf,
}

impl Lock {
    /// Takes the lock if nobody has it. Otherwise tells who has, as far as is known.
    pub(super) fn try_take(path: &Path) -> Result<Result<Self, Holder>, Fault> {
        let what = || format!("can't lock {}", path.display());
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            // Whoever can open the file can lock it, so nobody else may.
            .mode(0o600)
            .open(path)
            .map_err(|error| fault::sort_io(&error, what()))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut text = String::new();
                let _ = file.read_to_string(&mut text);
                return Ok(Err(Holder(text.trim().parse().ok())));
            }
            Err(TryLockError::Error(error)) => return Err(fault::sort_io(&error, what())),
        }
        let lock = Self { file, path: path.to_path_buf() };
        if lock.is_in_place() {
            Ok(Ok(lock))
        } else {
            // Removed between opening and locking.
            Ok(Err(Holder(None)))
        }
    }

    /// Takes the lock, waiting for others at most `patience`.
    pub(super) fn take(path: &Path, patience: Duration) -> Result<Result<Self, Holder>, Fault> {
        const STEP: Duration = Duration::from_millis(1);
        let mut waited = Duration::ZERO;
        loop {
            match Self::try_take(path)? {
                Ok(lock) => return Ok(Ok(lock)),
                Err(holder) if waited >= patience => return Ok(Err(holder)),
                Err(_) => {
                    std::thread::sleep(STEP);
                    waited += STEP;
                }
            }
        }
    }

    /// Whether somebody holds the lock at `path`. Whoever wants it at this very moment waits for
    /// others longer than this takes.
    pub(super) fn is_held(path: &Path) -> bool {
        let Ok(file) = File::open(path) else { return false };
        matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
    }

    /// Writes our process id into the lock, for the message of whoever comes second.
    pub(super) fn sign(&self) {
        // Only for people: not synced, and no harm if it fails.
        let mut file = &self.file;
        let _ = file
            .set_len(0)
            .and_then(|()| file.seek(io::SeekFrom::Start(0)))
            .and_then(|_| writeln!(file, "{}", std::process::id()));
    }

    /// Whether the locked file still is the one that others would lock.
    pub(super) fn is_in_place(&self) -> bool {
        let (Ok(ours), Ok(theirs)) = (self.file.metadata(), fs::metadata(&self.path)) else {
            return false;
        };
        (ours.dev(), ours.ino()) == (theirs.dev(), theirs.ino())
    }
}

/// Who holds a lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Holder(Option<u32>);

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            Some(pid) => write!(f, "process {pid}"),
            None => f.write_str("another process"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_had_by_one_and_says_who() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.lock");
        let first = Lock::try_take(&path).expect("opens").expect("free");
        first.sign();
        let holder = Lock::try_take(&path).expect("opens").expect_err("taken");
        assert_eq!(holder, Holder(Some(std::process::id())));
        assert!(first.is_in_place() && Lock::is_held(&path));
        fs::remove_file(&path).expect("removes");
        assert!(!first.is_in_place());
        let second = Lock::try_take(&path).expect("opens").expect("a new file");
        drop((first, second));
        assert!(!Lock::is_held(&path) && !Lock::is_held(&dir.path().join("no.lock")));
        let waits = Lock::take(&path, Duration::from_millis(5)).expect("opens");
        assert!(waits.is_ok());
    }

    #[test]
    fn a_file_is_replaced_whole() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a.json");
        write_file(&path, b"one").expect("writes");
        write_file(&path, b"two").expect("writes");
        assert_eq!(fs::read(&path).expect("reads"), b"two");
        assert_eq!(fs::read_dir(dir.path()).expect("lists").count(), 1);
    }
}
