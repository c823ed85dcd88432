//! The files pods read from the host, as a porter keeps the rooms of a hotel: each guest finds his
//! room as ordered, what he needs is exchanged while he is there, and when he leaves everything of
//! his goes, but nothing of the neighbours'.
//!
//! The rule: whoever reads sees the old or the new, never half, and a full disk leaves the old. The
//! limit: calls for one pod must come one after the other, as the agent makes them; different pods'
//! may come together.
//!
//! Containers may write to empty directories and lay symlinks there, so nothing here walks through
//! a path that a container could have bent: parts of volumes are found by the kernel with "stay
//! beneath", and nothing is deleted through a link or across a mount. Sets of files are mounted
//! read-only, so their paths can be trusted.

mod part;
mod set;
#[cfg(test)]
mod tests;
mod tree;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::fcntl::{FallocateFlags, OFlag};
use nix::mount::{MntFlags, MsFlags};
use nix::unistd::Gid;

use crate::kinds::name::Uid;
use crate::ports::files::{Answer, Call, FileWish, Layout, VolumeRoot};
use crate::ports::{Fault, FaultKind};

/// `v1.MaxContainerTerminationMessageLength`.
const LAST_WORDS_BYTES_MAX: u64 = 4096;
/// Only root passes through.
const PODS_MODE: u32 = 0o700;
/// An empty directory's mode in Kubernetes; whoever the container runs as may write.
const EMPTY_DIR_MODE: u32 = 0o777;
/// What `fsGroup` adds to a directory that may be written: group's rights, and that what is made
/// in it belongs to the group too (`pkg/volume/volume_linux.go`).
const GROUP_DIR_MODE: u32 = 0o2770;
/// `TMPFS_MAGIC`.
const TMPFS: nix::sys::statfs::FsType = nix::sys::statfs::TMPFS_MAGIC;

/// The files pods read, on this node.
#[derive(Clone, Debug)]
pub struct Files {
    layout: Arc<Layout>,
}

impl Files {
    /// Makes the directories of `layout` if they are missing. Says so in the log if what should be
    /// in memory is not: Secrets would be written to disk then.
    pub fn open(layout: Layout) -> Result<Self, Fault> {
        let [in_memory, on_disk] = layout.pods();
        for (directory, mode) in [(&layout.run_dir, 0o755), (&layout.data_dir, 0o700)] {
            make_directory(directory, mode).map_err(|error| fault(&error, directory))?;
        }
        for directory in [&in_memory, &on_disk] {
            // Secrets are readable for whoever a container runs as; containers reach them by mounts,
            // and users of the node not at all.
            make_directory(directory, PODS_MODE)
                .and_then(|()| {
                    fs::set_permissions(directory, fs::Permissions::from_mode(PODS_MODE))
                })
                .map_err(|error| fault(&error, directory))?;
        }
        let is_tmpfs = nix::sys::statfs::statfs(&in_memory)
            .is_ok_and(|statfs| statfs.filesystem_type() == TMPFS);
        if !is_tmpfs {
            tracing::warn!(
                directory = %in_memory.display(),
                "not in memory (tmpfs): Secrets of pods are written to its disk; use a directory under /run"
            );
        }
        Ok(Self { layout: Arc::new(layout) })
    }

    /// Where things are.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Carries out a call, on a thread that may block.
    pub async fn perform(&self, call: Call) -> Result<Answer, Fault> {
        let layout = Arc::clone(&self.layout);
        tokio::task::spawn_blocking(move || carry_out(&layout, call))
            .await
            .unwrap_or_else(|broken| Err(Fault::transient(format!("files: {broken}"))))
    }
}

fn carry_out(layout: &Layout, call: Call) -> Result<Answer, Fault> {
    match call {
        Call::Write { pod, wishes } => {
            for wish in &wishes {
                grant(layout, &pod, wish)?;
            }
            Ok(Answer::Done)
        }
        Call::LastWords { pod, name } => last_words(&layout.file(&pod, &name)),
        Call::Remove { pod } => {
            for directory in layout.pod(&pod) {
                tree::remove(&directory)?;
            }
            Ok(Answer::Done)
        }
        Call::RemoveKept { name } => remove_kept(layout, &name),
        Call::List => list(layout),
    }
}

fn grant(layout: &Layout, pod: &Uid, wish: &FileWish) -> Result<(), Fault> {
    match wish {
        FileWish::File { name, content, mode, keep } => {
            let path = layout.file(pod, name);
            write_file(&path, content, *mode, *keep).map_err(|error| fault(&error, &path))
        }
        FileWish::Set { volume, files, group } => {
            let path = layout.volume(pod, &VolumeRoot::Set(volume.clone()));
            set::write(&path, files, *group)
        }
        FileWish::Directory { volume, memory, group } => {
            let root = VolumeRoot::Directory(volume.clone(), memory.is_some());
            let path = layout.volume(pod, &root);
            let made = match memory {
                Some(bytes) => mount_memory(&path, *bytes, *group),
                None => make_empty_dir(&path, *group),
            };
            made.map_err(|error| fault(&error, &path))
        }
        FileWish::Kept { name, group } => {
            let path = layout.kept(name);
            make_kept(layout, name, *group).map_err(|error| fault(&error, &path))
        }
        FileWish::HostPath { path, kind } => part::host_path(Path::new(path), *kind),
        FileWish::SubPath { root, path } => {
            part::sub_path(&layout.volume(pod, root), path, &layout.sub_path(pod, root, path))
        }
    }
}

/// Makes `path` hold `content`. A file that exists is written in place, because a container has it
/// bind-mounted and would not see another file of the same name; its space is reserved before the
/// first byte is touched. A file that does not exist appears whole.
fn write_file(path: &Path, content: &[u8], mode: u32, keep: bool) -> io::Result<()> {
    let opened =
        OpenOptions::new().read(true).write(true).custom_flags(OFlag::O_NOFOLLOW.bits()).open(path);
    match opened {
        Ok(_) if keep => Ok(()),
        Ok(mut file) => {
            if file.metadata()?.permissions().mode() & 0o7777 != mode {
                file.set_permissions(fs::Permissions::from_mode(mode))?;
            }
            let mut before = Vec::new();
            file.read_to_end(&mut before)?;
            if before != content {
                overwrite(&file, content)?;
            }
            Ok(())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => create_whole(path, content, mode),
        Err(error) => Err(error),
    }
}

fn overwrite(file: &File, content: &[u8]) -> io::Result<()> {
    let length = content.len() as u64;
    if length > file.metadata()?.len() {
        let bytes = i64::try_from(length).map_err(io::Error::other)?;
        match nix::fcntl::fallocate(file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, bytes) {
            // A file system that can't reserve (nfs, say) must do without.
            Ok(()) | Err(nix::errno::Errno::EOPNOTSUPP) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    file.write_all_at(content, 0)?;
    file.set_len(length)
}

fn create_whole(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let parent = parent_of(path)?;
    make_directory(parent, 0o755)?;
    let draft = draft_of(path);
    let written = (|| {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .custom_flags(OFlag::O_NOFOLLOW.bits())
            .open(&draft)?;
        file.write_all(content)?;
        // Not by the mode at creation: the process' umask would take bits away.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        fs::rename(&draft, path)
    })();
    if written.is_err() {
        // What could not be made whole is not left behind; the first error is the one to tell.
        let _ = fs::remove_file(&draft);
    }
    written
}

/// A name beside `path` that no wish can have: they never begin with a dot.
fn draft_of(path: &Path) -> PathBuf {
    let mut name = std::ffi::OsString::from(".draft-");
    name.push(path.file_name().unwrap_or_default());
    path.with_file_name(name)
}

fn make_empty_dir(path: &Path, group: Option<u32>) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(seen) if seen.is_dir() => return Ok(()),
        Ok(_) => return Err(io::Error::from(io::ErrorKind::NotADirectory)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    make_directory(parent_of(path)?, 0o755)?;
    // Finished under another name first: a directory that is there is right, also after a crash.
    let draft = draft_of(path);
    make_directory(&draft, 0o700)?;
    let mode = match group {
        Some(gid) => {
            nix::unistd::chown(&draft, None, Some(Gid::from_raw(gid)))?;
            EMPTY_DIR_MODE | GROUP_DIR_MODE
        }
        None => EMPTY_DIR_MODE,
    };
    fs::set_permissions(&draft, fs::Permissions::from_mode(mode))?;
    fs::rename(&draft, path)
}

/// Makes a directory that outlives its pods. The mark comes first: what is there without one was not
/// made by us, and is neither given to a pod nor ever removed.
fn make_kept(layout: &Layout, name: &str, group: Option<u32>) -> io::Result<()> {
    let (path, mark) = (layout.kept(name), layout.kept_mark(name));
    make_directory(parent_of(&path)?, 0o711)?;
    let is_marked = fs::symlink_metadata(&mark).is_ok_and(|seen| seen.is_file());
    if !is_marked {
        if fs::symlink_metadata(&path).is_ok() {
            return Err(io::Error::other("is there already and was not made by Windlass"));
        }
        create_whole(&mark, format!("{name}\n").as_bytes(), 0o600)?;
    }
    make_empty_dir(&path, group)
}

fn remove_kept(layout: &Layout, name: &str) -> Result<Answer, Fault> {
    let (path, mark) = (layout.kept(name), layout.kept_mark(name));
    match fs::symlink_metadata(&mark) {
        Ok(seen) if seen.is_file() => {}
        // It was removed before, or never made; what stands there unmarked is not ours.
        _ => return Ok(Answer::Done),
    }
    tree::remove(&path)?;
    fs::remove_file(&mark).map_err(|error| fault(&error, &mark))?;
    Ok(Answer::Done)
}

fn mount_memory(path: &Path, bytes: u64, group: Option<u32>) -> io::Result<()> {
    make_directory(path, 0o755)?;
    if is_mount_point(path)? {
        return Ok(());
    }
    let mut options = match group {
        Some(gid) => format!("mode={:o},gid={gid}", EMPTY_DIR_MODE | GROUP_DIR_MODE),
        None => format!("mode={EMPTY_DIR_MODE:o}"),
    };
    if bytes > 0 {
        options.push_str(&format!(",size={bytes}"));
    }
    nix::mount::mount(
        Some("tmpfs"),
        path,
        Some("tmpfs"),
        MsFlags::empty(),
        Some(options.as_str()),
    )?;
    Ok(())
}

fn is_mount_point(path: &Path) -> io::Result<bool> {
    Ok(fs::symlink_metadata(path)?.dev() != fs::metadata(parent_of(path)?)?.dev())
}

fn last_words(path: &Path) -> Result<Answer, Fault> {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
            .open(path)?;
        let length = file.metadata()?.len();
        // The end of it, as kubelet: the reason comes last.
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_WORDS_BYTES_MAX)))?;
        let mut words = Vec::new();
        io::Read::by_ref(&mut file).take(LAST_WORDS_BYTES_MAX).read_to_end(&mut words)?;
        // The next attempt of the container finds the file empty.
        file.set_len(0)?;
        Ok(words)
    };
    let words = read().map_err(|error| fault(&error, path))?;
    Ok(Answer::Text(String::from_utf8_lossy(&words).into_owned()))
}

fn list(layout: &Layout) -> Result<Answer, Fault> {
    let mut pods = std::collections::BTreeSet::new();
    for directory in layout.pods() {
        let entries = fs::read_dir(&directory).map_err(|error| fault(&error, &directory))?;
        for entry in entries {
            let entry = entry.map_err(|error| fault(&error, &directory))?;
            if let Some(name) = entry.file_name().to_str() {
                pods.insert(Uid::trusted(name));
            }
        }
    }
    Ok(Answer::Pods(pods.into_iter().collect()))
}

/// Makes a directory and its parents; the mode is for those that are new.
fn make_directory(path: &Path, mode: u32) -> io::Result<()> {
    match fs::create_dir(path) {
        Ok(()) => fs::set_permissions(path, fs::Permissions::from_mode(mode)),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            if fs::metadata(path)?.is_dir() {
                Ok(())
            } else {
                Err(io::Error::from(io::ErrorKind::NotADirectory))
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_directory(parent_of(path)?, mode)?;
            make_directory(path, mode)
        }
        Err(error) => Err(error),
    }
}

fn parent_of(path: &Path) -> io::Result<&Path> {
    path.parent().ok_or_else(|| io::Error::other(format!("{} has no parent", path.display())))
}

/// Sorts an error by who must act, and names the path.
fn fault(error: &io::Error, path: &Path) -> Fault {
    use io::ErrorKind as Kind;
    let kind = match error.kind() {
        Kind::NotFound => FaultKind::NotFound,
        Kind::StorageFull
        | Kind::QuotaExceeded
        | Kind::ReadOnlyFilesystem
        | Kind::PermissionDenied
        | Kind::NotADirectory
        | Kind::IsADirectory
        | Kind::AlreadyExists => FaultKind::Stalled,
        _ => FaultKind::Transient,
    };
    let advice = match error.kind() {
        Kind::StorageFull => "; what was there before is unchanged, free some space",
        _ => "",
    };
    Fault { kind, message: format!("{}: {}{advice}", path.display(), describe(error)) }
}

/// An error's text without its number, which helps nobody.
fn describe(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(at) => text[..at].to_lowercase(),
        None => text,
    }
}

/// Unmounts without following a link and without waiting for those who still use it.
fn unmount(path: &Path) -> nix::Result<()> {
    nix::mount::umount2(path, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
}
