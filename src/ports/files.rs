//! The files that pods read from the host: `/etc/hosts`, resolvers, ConfigMaps, Secrets, empty
//! directories.
//!
//! Files in memory stand under the run directory (a tmpfs), the others under the data directory.
//! A set of files is swapped as Kubernetes does it (`..data` symlink), so that a reader sees the old
//! or the new, never half.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kinds::name::Uid;

/// Where the files stand. Pure, so that the node room can name what it mounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// In memory: gone after a reboot.
    pub run_dir: String,
    /// On disk.
    pub data_dir: String,
}

impl Layout {
    /// A [`FileWish::File`].
    pub fn file(&self, pod: &Uid, name: &str) -> String {
        format!("{}/pods/{pod}/files/{name}", self.run_dir)
    }

    /// A [`FileWish::Set`].
    pub fn set(&self, pod: &Uid, volume: &str) -> String {
        format!("{}/pods/{pod}/sets/{volume}", self.run_dir)
    }

    /// A [`FileWish::Directory`].
    pub fn directory(&self, pod: &Uid, volume: &str, memory: bool) -> String {
        let root = if memory {
            &self.run_dir
        } else {
            &self.data_dir
        };
        format!("{root}/pods/{pod}/empty/{volume}")
    }
}

/// What may be asked of the files.
#[derive(Clone, Debug)]
pub enum Call {
    /// Make a pod's directories and files be these. What is not named is left alone.
    Write {
        /// The pod.
        pod: Uid,
        /// What there must be.
        wishes: Vec<FileWish>,
    },
    /// Read what a container left as its last words.
    LastWords {
        /// The pod.
        pod: Uid,
        /// The file's name as given in [`FileWish::File`].
        name: String,
    },
    /// Remove everything of a pod.
    Remove {
        /// The pod.
        pod: Uid,
    },
    /// Which pods have files.
    List,
}

/// Something a pod must find.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileWish {
    /// A file in memory, written in place: `hosts`, `resolv.conf`.
    File {
        /// Its name, unique in the pod.
        name: String,
        /// Its content.
        content: Arc<[u8]>,
        /// Its mode.
        mode: u32,
        /// Keep what is there already: a file the container writes.
        keep: bool,
    },
    /// A set of files in memory, swapped whole.
    Set {
        /// The volume's name.
        volume: String,
        /// Its files.
        files: BTreeMap<String, FileBody>,
        /// The group that owns them.
        group: Option<u32>,
    },
    /// An empty directory, kept once made.
    Directory {
        /// The volume's name.
        volume: String,
        /// In memory, with at most this many bytes (0: no bound).
        memory: Option<u64>,
        /// The group that owns it.
        group: Option<u32>,
    },
    /// A path of the node, checked or made.
    HostPath {
        /// The path.
        path: String,
        /// What must be there.
        kind: crate::kinds::volume::HostPathKind,
    },
    /// A part of a volume, made if missing, and not reached through symlinks.
    SubPath {
        /// The volume's root on the node.
        root: VolumeRoot,
        /// The part.
        path: String,
    },
}

/// Where a volume is on the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeRoot {
    /// A set of files in memory.
    Set(String),
    /// An empty directory; whether it is in memory.
    Directory(String, bool),
    /// A path of the node.
    Host(String),
}

/// One file of a set. Its content is not printed: it may be a Secret's.
#[derive(Clone, PartialEq, Eq)]
pub struct FileBody {
    /// Its content.
    pub content: Arc<[u8]>,
    /// Its mode.
    pub mode: u32,
}

impl std::fmt::Debug for FileBody {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes, {:04o}", self.content.len(), self.mode)
    }
}

/// What comes back.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`Call::Write`] and [`Call::Remove`].
    Done,
    /// To [`Call::LastWords`]; bounded.
    Text(String),
    /// To [`Call::List`].
    Pods(Vec<Uid>),
}
