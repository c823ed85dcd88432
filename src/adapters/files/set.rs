//! A set of files that changes as one: the hand of a clock, not its parts.
//!
//! ```text
//!   <volume>/web.conf      → ..data/web.conf      what containers open
//!   <volume>/certs         → ..data/certs
//!   <volume>/..data        → ..v2                 swapped by one rename
//!   <volume>/..v2/web.conf, ..v2/certs/tls.crt    the files
//! ```
//!
//! The layout and the order of steps are Kubernetes' (`pkg/volume/util/atomic_writer.go`), because
//! programs watch `..data` to learn of changes. Versions are counted rather than dated: an adapter
//! that knows no clock can't be fooled by one. After a crash at any step the next write finishes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Component, Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::Gid;

use super::{fault, make_directory, tree};
use crate::ports::Fault;
use crate::ports::files::FileBody;

const CURRENT: &str = "..data";
const CURRENT_DRAFT: &str = "..data_tmp";
const VERSION_PREFIX: &str = "..v";
/// What `fsGroup` adds where nothing may be written (`pkg/volume/volume_linux.go`, `roMask`).
const GROUP_FILE_MODE: u32 = 0o440;
const GROUP_DIR_MODE: u32 = 0o2550;
const DIR_MODE: u32 = 0o755;

/// Makes `volume` hold exactly `files`, the old ones until the moment the new ones are complete.
pub(super) fn write(
    volume: &Path,
    files: &BTreeMap<String, FileBody>,
    group: Option<u32>,
) -> Result<(), Fault> {
    for name in files.keys() {
        if let Some(complaint) = complaint(name) {
            return Err(Fault::stalled(format!(
                "{}: the file name {name:?} {complaint}",
                volume.display()
            )));
        }
    }
    swap(volume, files, group).map_err(|error| fault(&error, volume))
}

/// Whether a name stays in the volume and out of our own names.
fn complaint(name: &str) -> Option<&'static str> {
    let path = Path::new(name);
    let is_plain = !name.is_empty()
        && !name.ends_with('/')
        && !name.contains('\0')
        && path.components().all(|part| matches!(part, Component::Normal(_)));
    if !is_plain {
        return Some("must be a path within the volume, without '..'");
    }
    name.starts_with("..").then_some("may not begin with '..'")
}

fn swap(volume: &Path, files: &BTreeMap<String, FileBody>, group: Option<u32>) -> io::Result<()> {
    make_directory(volume, DIR_MODE)?;
    own_directory(volume, group)?;
    let current = current_version(volume);
    let is_current = current.as_ref().is_some_and(|name| holds(&volume.join(name), files, group));
    if !is_current {
        let next = write_version(volume, files, group, current.as_deref())?;
        let draft = volume.join(CURRENT_DRAFT);
        match fs::remove_file(&draft) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        std::os::unix::fs::symlink(&next, &draft)?;
        fs::rename(&draft, volume.join(CURRENT))?;
    }
    show(volume, files)?;
    sweep(volume, files)
}

/// The directory `..data` points to, if it is one of ours: a container may have laid another link.
fn current_version(volume: &Path) -> Option<String> {
    let target = fs::read_link(volume.join(CURRENT)).ok()?;
    let name = target.to_str()?;
    version_number(name)?;
    Some(name.to_owned())
}

fn version_number(name: &str) -> Option<u64> {
    name.strip_prefix(VERSION_PREFIX)?.parse().ok()
}

/// Whether a version holds exactly these files, with these modes and this group.
fn holds(version: &Path, files: &BTreeMap<String, FileBody>, group: Option<u32>) -> bool {
    let mut count = 0;
    let all_match = files.iter().all(|(name, body)| {
        count += 1;
        matches_file(&version.join(name), body, group).unwrap_or(false)
    });
    all_match && count_files(version).is_ok_and(|found| found == count)
}

fn matches_file(path: &Path, body: &FileBody, group: Option<u32>) -> io::Result<bool> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK).bits())
        .open(path)?;
    let seen = file.metadata()?;
    if seen.len() != body.content.len() as u64
        || seen.mode() & 0o7777 != file_mode(body, group)
        || group.is_some_and(|gid| seen.gid() != gid)
    {
        return Ok(false);
    }
    let mut content = Vec::with_capacity(body.content.len());
    file.read_to_end(&mut content)?;
    Ok(content == *body.content)
}

fn count_files(directory: &Path) -> io::Result<usize> {
    let mut count = 0;
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        count += if entry.file_type()?.is_dir() { count_files(&entry.path())? } else { 1 };
    }
    Ok(count)
}

fn file_mode(body: &FileBody, group: Option<u32>) -> u32 {
    body.mode | group.map_or(0, |_| GROUP_FILE_MODE)
}

/// Writes a version beside the current one and returns its name. What could not be written whole
/// is taken away again.
fn write_version(
    volume: &Path,
    files: &BTreeMap<String, FileBody>,
    group: Option<u32>,
    current: Option<&str>,
) -> io::Result<PathBuf> {
    let after = current.and_then(version_number).unwrap_or(0);
    let name = PathBuf::from(format!("{VERSION_PREFIX}{}", after.wrapping_add(1)));
    let directory = volume.join(&name);
    // A leftover of a write that did not finish.
    remove(&directory)?;
    let written = (|| {
        // Made here and now, so it is no link that somebody laid.
        fs::create_dir(&directory)?;
        own_directory(&directory, group)?;
        for (name, body) in files {
            write_file(&directory, Path::new(name), body, group)?;
        }
        Ok(())
    })();
    match written {
        Ok(()) => Ok(name),
        Err(error) => {
            // The write's own error is the one to tell.
            let _ = remove(&directory);
            Err(error)
        }
    }
}

fn write_file(version: &Path, name: &Path, body: &FileBody, group: Option<u32>) -> io::Result<()> {
    let mut directory = version.to_path_buf();
    for part in name.parent().into_iter().flat_map(Path::components) {
        directory.push(part);
        match fs::create_dir(&directory) {
            Ok(()) => own_directory(&directory, group)?,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
        }
    }
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(0o600).open(version.join(name))?;
    file.write_all(&body.content)?;
    if let Some(gid) = group {
        nix::unistd::fchown(&file, None, Some(Gid::from_raw(gid)))?;
    }
    file.set_permissions(fs::Permissions::from_mode(file_mode(body, group)))
}

fn own_directory(path: &Path, group: Option<u32>) -> io::Result<()> {
    let mode = match group {
        Some(gid) => {
            nix::unistd::chown(path, None, Some(Gid::from_raw(gid)))?;
            DIR_MODE | GROUP_DIR_MODE
        }
        None => DIR_MODE,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

/// Lays the links that containers open.
fn show(volume: &Path, files: &BTreeMap<String, FileBody>) -> io::Result<()> {
    for name in visible(files) {
        let (link, target) = (volume.join(name), Path::new(CURRENT).join(name));
        if fs::read_link(&link).is_ok_and(|found| found == target) {
            continue;
        }
        remove(&link)?;
        std::os::unix::fs::symlink(&target, &link)?;
    }
    Ok(())
}

/// The first part of each file's path.
fn visible(files: &BTreeMap<String, FileBody>) -> BTreeSet<&str> {
    files
        .keys()
        .map(|name| name.split_once('/').map_or(name.as_str(), |(first, _)| first))
        .collect()
}

/// Takes away links to files that are no more, and versions that are not current.
fn sweep(volume: &Path, files: &BTreeMap<String, FileBody>) -> io::Result<()> {
    let (wanted, current) = (visible(files), current_version(volume));
    for entry in fs::read_dir(volume)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_stale = if version_number(&name).is_some() {
            current.as_deref() != Some(&*name)
        } else {
            // Only links are ours; anything else a container has put here.
            !name.starts_with("..") && !wanted.contains(&*name) && entry.file_type()?.is_symlink()
        };
        if is_stale {
            remove(&entry.path())?;
        }
    }
    Ok(())
}

/// Removes a file, a link or a directory, or nothing.
fn remove(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(seen) if seen.is_dir() => {
            tree::remove(path).map_err(|fault| io::Error::other(fault.message))
        }
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}
