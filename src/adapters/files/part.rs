//! Paths that somebody else wrote: parts of volumes, and paths of the node.
//!
//! A part (`subPath`) is found from the volume's root by the kernel with "stay beneath" (openat2),
//! and what was found is bound to a place of its own, through its descriptor. So a container that
//! swaps a directory for a symlink between our look and Docker's mount gains nothing
//! (CVE-2017-1002101 was that).

use std::fs::{self, OpenOptions};
use std::io;
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _};
use std::path::{Component, Path};

use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag};
use nix::mount::MsFlags;
use nix::sys::stat::{FileStat, Mode, SFlag};

use super::{fault, make_directory, parent_of, unmount};
use crate::kinds::volume::HostPathKind;
use crate::ports::Fault;

/// Checks what is at a path of the node, or makes it, as its kind says
/// (<https://kubernetes.io/docs/concepts/storage/volumes/#hostpath-volume-types>).
pub(super) fn host_path(path: &Path, kind: HostPathKind) -> Result<(), Fault> {
    let made = match kind {
        // Nothing is checked, but a mount needs something to mount: what other runtimes make.
        HostPathKind::Unchecked => match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_directory(path, 0o755),
            _ => Ok(()),
        },
        HostPathKind::DirectoryOrCreate => match fs::metadata(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => make_directory(path, 0o755),
            answer => answer.map(drop),
        },
        HostPathKind::FileOrCreate => make_file(path),
        HostPathKind::Directory
        | HostPathKind::File
        | HostPathKind::Socket
        | HostPathKind::CharDevice
        | HostPathKind::BlockDevice => Ok(()),
    };
    made.map_err(|error| fault(&error, path).while_doing("hostPath"))?;
    let Some((is_right, wanted)) = right_type(kind) else {
        return Ok(());
    };
    match fs::metadata(path) {
        Ok(seen) if is_right(&seen.file_type()) => Ok(()),
        // A person must act also when it is missing: nobody will make it but he.
        Ok(_) => Err(type_fault(path, wanted)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Err(type_fault(path, wanted)),
        Err(error) => Err(fault(&error, path).while_doing("hostPath")),
    }
}

type IsRight = fn(&fs::FileType) -> bool;

fn right_type(kind: HostPathKind) -> Option<(IsRight, &'static str)> {
    Some(match kind {
        HostPathKind::Unchecked => return None,
        HostPathKind::DirectoryOrCreate | HostPathKind::Directory => {
            (fs::FileType::is_dir, "a directory")
        }
        HostPathKind::FileOrCreate | HostPathKind::File => (fs::FileType::is_file, "a file"),
        HostPathKind::Socket => (|seen| seen.is_socket(), "a socket"),
        HostPathKind::CharDevice => (|seen| seen.is_char_device(), "a character device"),
        HostPathKind::BlockDevice => (|seen| seen.is_block_device(), "a block device"),
    })
}

/// In kubelet's words, which people search for.
fn type_fault(path: &Path, wanted: &str) -> Fault {
    Fault::stalled(format!("hostPath type check failed: {} is not {wanted}", path.display()))
}

/// Makes an empty file unless there is something; not its parents, as in Kubernetes.
fn make_file(path: &Path) -> io::Result<()> {
    let made = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path);
    match made {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        answer => answer.map(drop),
    }
}

/// Binds the part `path` of the volume at `root` to `place`. What is missing of it is made as a
/// directory, with the mode of the root, as kubelet does.
pub(super) fn sub_path(root: &Path, path: &str, place: &Path) -> Result<(), Fault> {
    let is_plain = Path::new(path)
        .components()
        .all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !is_plain || path.contains('\0') {
        return Err(Fault::stalled(format!(
            "subPath {path:?} must be a path within the volume, without '..'"
        )));
    }
    bind(root, Path::new(path), place).map_err(|errno| match errno {
        Errno::EXDEV | Errno::ELOOP => {
            Fault::stalled(format!("subPath {path:?} leads out of the volume through a symlink"))
        }
        Errno::ENOSYS => {
            Fault::stalled(format!("subPath {path:?} needs Linux 5.6 or newer (openat2)"))
        }
        _ => fault(&errno.into(), root).while_doing(format!("subPath {path:?}")),
    })
}

fn bind(root: &Path, path: &Path, place: &Path) -> nix::Result<()> {
    let root = nix::fcntl::open(root, OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())?;
    let part = open_or_make(&root, path)?;
    let (wanted, found) = (stat(&part)?, nix::sys::stat::lstat(place));
    let is_directory = SFlag::from_bits_truncate(wanted.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR;
    match found {
        Ok(found) if same(&found, &wanted) => return Ok(()),
        // Something else is bound: the part was replaced since. Containers that have the old one
        // keep it, as in Kubernetes, and the next gets the new one.
        Ok(_) => match unmount(place) {
            Ok(()) | Err(Errno::EINVAL) => {}
            Err(errno) => return Err(errno),
        },
        Err(_) => {}
    }
    make_place(place, is_directory).map_err(|error| errno_of(&error))?;
    let source = format!("/proc/self/fd/{}", part.as_raw_fd());
    nix::mount::mount(
        Some(source.as_str()),
        place,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )
}

/// An empty directory or file to bind over.
fn make_place(place: &Path, is_directory: bool) -> io::Result<()> {
    match fs::symlink_metadata(place) {
        Ok(seen) if seen.is_dir() == is_directory => return Ok(()),
        Ok(seen) if seen.is_dir() => fs::remove_dir(place)?,
        Ok(_) => fs::remove_file(place)?,
        Err(_) => make_directory(parent_of(place)?, 0o755)?,
    }
    if is_directory { make_directory(place, 0o755) } else { fs::write(place, b"") }
}

fn open_or_make(root: &OwnedFd, path: &Path) -> nix::Result<OwnedFd> {
    match open_beneath(root, path) {
        Err(Errno::ENOENT) => {}
        answer => return answer,
    }
    let mode = Mode::from_bits_truncate(stat(root)?.st_mode & 0o777);
    let mut at = open_beneath(root, Path::new("."))?;
    let mut walked = std::path::PathBuf::new();
    for part in path.components() {
        let Component::Normal(name) = part else {
            continue;
        };
        walked.push(name);
        at = match open_beneath(root, &walked) {
            Err(Errno::ENOENT) => {
                match nix::sys::stat::mkdirat(&at, name, mode) {
                    Ok(()) | Err(Errno::EEXIST) => {}
                    Err(errno) => return Err(errno),
                }
                let made = open_beneath(root, &walked)?;
                // mkdir obeys the umask; the descriptor is only a path, so by its name in /proc.
                let by_descriptor = format!("/proc/self/fd/{}", made.as_raw_fd());
                let with_group = mode | Mode::from_bits_truncate(stat(&made)?.st_mode & 0o2000);
                nix::sys::stat::fchmodat(
                    nix::fcntl::AT_FDCWD,
                    by_descriptor.as_str(),
                    with_group,
                    nix::sys::stat::FchmodatFlags::FollowSymlink,
                )?;
                made
            }
            answer => answer?,
        };
    }
    Ok(at)
}

fn open_beneath(root: &OwnedFd, path: &Path) -> nix::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() { Path::new(".") } else { path };
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    nix::fcntl::openat2(root, path, how)
}

fn stat(file: &OwnedFd) -> nix::Result<FileStat> {
    nix::sys::stat::fstat(file)
}

fn same(a: &FileStat, b: &FileStat) -> bool {
    a.st_dev == b.st_dev && a.st_ino == b.st_ino
}

fn errno_of(error: &io::Error) -> Errno {
    error.raw_os_error().map_or(Errno::EIO, Errno::from_raw)
}
