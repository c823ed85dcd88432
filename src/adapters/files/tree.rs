//! Taking a directory away with everything that is ours in it, and nothing else.
//!
//! The rule: no symlink is followed and no mount is crossed, so whatever a container or a person
//! has hung in there (a hostPath above all) loses at most its place, never its content. Mounts below
//! are taken down first; what can't be taken down stops the removal with a fault.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use std::{fs, io};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{Mode, SFlag};
use nix::unistd::UnlinkatFlags;

use super::{fault, unmount};
use crate::ports::Fault;

/// Removes `directory`; that it is not there is no error.
pub(super) fn remove(directory: &Path) -> Result<(), Fault> {
    let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) else {
        return Err(Fault::stalled(format!("{} can't be removed", directory.display())));
    };
    // Only the way to it is resolved, as the mount table has it resolved; it itself may be a link.
    let parent = match fs::canonicalize(parent) {
        Ok(parent) => parent,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(fault(&error, parent)),
    };
    let real = parent.join(name);
    for mounted in mounts_below(&real).map_err(|error| fault(&error, &real))? {
        match unmount(&mounted) {
            // Gone with the one above it, or by somebody else's hand.
            Ok(()) | Err(Errno::EINVAL | Errno::ENOENT) => {}
            Err(errno) => {
                return Err(fault(&errno.into(), &mounted).while_doing("can't unmount"));
            }
        }
    }
    let deleted = (|| {
        let name = CString::new(name.as_bytes()).map_err(|_| Errno::EINVAL)?;
        let parent = nix::fcntl::open(&parent, directory_flags(), Mode::empty())?;
        delete(parent.as_fd(), &name)
    })();
    deleted.map_err(|errno: Errno| fault(&errno.into(), &real).while_doing("can't delete"))
}

/// The places below `directory` where something is mounted, the deepest first.
fn mounts_below(directory: &Path) -> io::Result<Vec<PathBuf>> {
    // The thread's, which may be in another mount namespace than the process it belongs to.
    let table = fs::read("/proc/thread-self/mountinfo")?;
    let mut mounted: Vec<PathBuf> = table
        .split(|byte| *byte == b'\n')
        .filter_map(|line| line.split(|byte| *byte == b' ').nth(4))
        .map(unescape)
        .filter(|path| path.starts_with(directory))
        .collect();
    // Later mounts lie over earlier ones at the same place, and deeper ones come later.
    mounted.reverse();
    mounted.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    Ok(mounted)
}

/// The kernel writes blanks, tabs, line ends and backslashes as three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&first, tail)) = rest.split_first() {
        let octal = (first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

/// Deletes `name` in `parent`. A container can nest directories by the hundred thousand, so this
/// does not descend: every directory met is emptied of its files, its directories are moved up
/// beside it, and so on until the top is empty. Two descriptors do, whatever the depth.
fn delete(parent: impl AsFd + Copy, name: &CStr) -> nix::Result<()> {
    if !is_directory(parent, name)? {
        return unlink(parent, name, UnlinkatFlags::NoRemoveDir);
    }
    let top = open_below(parent, name)?;
    let mut raised = 0;
    loop {
        let names = names_in(&top)?;
        if names.is_empty() {
            return unlink(parent, name, UnlinkatFlags::RemoveDir);
        }
        for name in names {
            if is_directory(&top, &name)? {
                flatten(&top, &name, &mut raised)?;
            } else {
                unlink(&top, &name, UnlinkatFlags::NoRemoveDir)?;
            }
        }
    }
}

/// Empties the directory `name` in `top`, its own directories raised into `top`, and removes it.
fn flatten(top: &OwnedFd, name: &CStr, raised: &mut u64) -> nix::Result<()> {
    let directory = open_below(top, name)?;
    for inner in names_in(&directory)? {
        if is_directory(&directory, &inner)? {
            raise(&directory, &inner, top, raised)?;
        } else {
            unlink(&directory, &inner, UnlinkatFlags::NoRemoveDir)?;
        }
    }
    unlink(top, name, UnlinkatFlags::RemoveDir)
}

fn raise(from: &OwnedFd, name: &CStr, top: &OwnedFd, raised: &mut u64) -> nix::Result<()> {
    loop {
        let free = CString::new(format!(".raised-{raised}")).map_err(|_| Errno::EINVAL)?;
        *raised += 1;
        match nix::fcntl::renameat(from, name, top, free.as_c_str()) {
            // A container may have used the name; there are as many more as there are numbers.
            Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR) => {}
            answer => return answer,
        }
    }
}

fn names_in(directory: &OwnedFd) -> nix::Result<Vec<CString>> {
    let again = nix::fcntl::openat(directory, c".", directory_flags(), Mode::empty())?;
    let mut listing = Dir::from_fd(again)?;
    let mut names = Vec::new();
    for entry in listing.iter() {
        let entry = entry?;
        if !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            names.push(entry.file_name().to_owned());
        }
    }
    Ok(names)
}

fn is_directory(parent: impl AsFd, name: &CStr) -> nix::Result<bool> {
    match nix::sys::stat::fstatat(parent, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(seen) => Ok(SFlag::from_bits_truncate(seen.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR),
        Err(Errno::ENOENT) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Opens a directory that is neither a link nor a mount point.
fn open_below(parent: impl AsFd, name: &CStr) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(directory_flags())
        .resolve(ResolveFlag::RESOLVE_NO_XDEV | ResolveFlag::RESOLVE_NO_SYMLINKS);
    match nix::fcntl::openat2(&parent, name, how) {
        // Before Linux 5.6: the mount table had nothing below, a moment ago, which must do.
        Err(Errno::ENOSYS) => nix::fcntl::openat(&parent, name, directory_flags(), Mode::empty()),
        answer => answer,
    }
}

fn directory_flags() -> OFlag {
    OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC
}

/// That it is gone already is no error.
fn unlink(parent: impl AsFd, name: &CStr, flags: UnlinkatFlags) -> nix::Result<()> {
    match nix::unistd::unlinkat(parent, name, flags) {
        Err(Errno::ENOENT) => Ok(()),
        answer => answer,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mount_points_are_unescaped() {
        for (field, path) in [
            (&b"/run/x"[..], "/run/x"),
            (br"/a\040b\134c", "/a b\\c"),
            (br"/end\04", "/end\\04"),
            (br"/no\999", "/no\\999"),
        ] {
            assert_eq!(unescape(field), Path::new(path));
        }
    }

    #[test]
    fn links_are_deleted_and_not_followed() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let (kept, gone) = (scratch.path().join("kept"), scratch.path().join("gone"));
        fs::create_dir_all(kept.join("inner")).expect("made");
        fs::write(kept.join("inner/file"), "x").expect("written");
        fs::create_dir_all(gone.join("a/b")).expect("made");
        std::os::unix::fs::symlink(&kept, gone.join("link")).expect("linked");
        std::os::unix::fs::symlink(&kept, gone.join("a/b/link")).expect("linked");
        std::os::unix::fs::symlink("/nowhere", gone.join("a/dangling")).expect("linked");
        fs::write(gone.join("a/.raised-0"), "a name of ours").expect("written");
        fs::write(gone.join(".raised-1"), "another").expect("written");
        remove(&gone).expect("removed");
        assert!(!gone.exists());
        assert_eq!(fs::read(kept.join("inner/file")).expect("still there"), b"x");
        remove(&gone).expect("gone already is no error");
    }

    #[test]
    fn depth_is_no_obstacle() {
        let scratch = tempfile::tempdir().expect("a scratch directory");
        let top = scratch.path().join("top");
        fs::create_dir(&top).expect("made");
        // Far deeper than PATH_MAX allows a path to be, so each is made from within.
        let mut at = nix::fcntl::open(&top, directory_flags(), Mode::empty()).expect("opened");
        for _ in 0..2_500 {
            nix::sys::stat::mkdirat(&at, c"d", Mode::S_IRWXU).expect("made");
            at = nix::fcntl::openat(&at, c"d", directory_flags(), Mode::empty()).expect("opened");
        }
        remove(&top).expect("removed");
        assert!(!top.exists());
    }
}
