//! What a pod's containers may mount.

use std::sync::Arc;

use super::container::{KeyRef, ResourceRef};
use super::name::Name;
use super::quantity::Quantity;
use super::storage::ClaimTemplate;

/// A volume of a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volume {
    /// Its name within the pod.
    pub name: Name,
    /// What it is.
    pub source: VolumeSource,
}

/// What a volume is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VolumeSource {
    /// A directory that lives as long as the pod.
    EmptyDir {
        /// In memory rather than on disk.
        memory: bool,
        /// How much it may hold.
        size_limit: Option<Quantity>,
    },
    /// A path of the node.
    HostPath {
        /// The path.
        path: String,
        /// What must be there.
        kind: HostPathKind,
    },
    /// Files that we write and keep up to date: `configMap`, `secret`, `downwardAPI`, `projected`.
    Files(FileVolume),
    /// A claim of the namespace.
    Claim {
        /// The claim.
        name: Name,
        /// Whether writing is refused.
        read_only: bool,
        /// What the claim is made from, if it comes and goes with the pod.
        scratch: Option<Arc<ClaimTemplate>>,
    },
    /// A claim that comes and goes with the pod, `ephemeral`;
    /// [`super::binding::Binding::own_template`] makes a [`Self::Claim`] of it.
    Scratch(Arc<ClaimTemplate>),
    /// The claim that each pod of a StatefulSet has for itself;
    /// [`super::binding::Binding::own_template`] makes a [`Self::Claim`] of it.
    OwnClaim {
        /// The [`super::storage::ClaimTemplate`].
        template: Name,
    },
}

/// What must be at a `hostPath`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HostPathKind {
    /// Anything, or nothing: not checked.
    #[default]
    Unchecked,
    /// A directory; made, 0755, if missing.
    DirectoryOrCreate,
    /// A directory.
    Directory,
    /// A file; made, 0644, if missing.
    FileOrCreate,
    /// A file.
    File,
    /// A UNIX socket.
    Socket,
    /// A character device.
    CharDevice,
    /// A block device.
    BlockDevice,
}

/// Files that we write.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FileVolume {
    /// Where the files come from; later ones win.
    pub sources: Vec<FileSource>,
    /// The mode of files that have none of their own.
    pub mode: u32,
}

/// Where files come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FileSource {
    /// Keys of a ConfigMap.
    ConfigMap(ConfigFiles),
    /// Keys of a Secret.
    Secret(ConfigFiles),
    /// Fields of the pod.
    Downward(Vec<DownwardFile>),
    /// The token of the pod's ServiceAccount; not issued here yet.
    Token {
        /// File name.
        path: String,
    },
}

/// Keys of a ConfigMap or Secret as files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigFiles {
    /// The object.
    pub name: Name,
    /// The keys and their paths; all keys under their own names where absent.
    pub items: Option<Vec<KeyToPath>>,
    /// Whether the object, or a key, may be absent.
    pub optional: bool,
}

/// One key as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyToPath {
    /// The key.
    pub key: String,
    /// The path in the volume.
    pub path: String,
    /// Its mode; the volume's where absent.
    pub mode: Option<u32>,
}

/// One field of the pod as a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DownwardFile {
    /// The path in the volume.
    pub path: String,
    /// What is written.
    pub value: DownwardValue,
    /// Its mode; the volume's where absent.
    pub mode: Option<u32>,
}

/// What a [`DownwardFile`] holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DownwardValue {
    /// A field of the pod.
    Field(String),
    /// An amount of a container.
    Resource(ResourceRef),
}

impl VolumeSource {
    /// The names of the ConfigMaps it reads, and whether each may be absent.
    pub fn config_maps(&self) -> Vec<(&Name, bool)> {
        self.files(|source| match source {
            FileSource::ConfigMap(files) => Some((&files.name, files.optional)),
            _ => None,
        })
    }

    /// The names of the Secrets it reads, and whether each may be absent.
    pub fn secrets(&self) -> Vec<(&Name, bool)> {
        self.files(|source| match source {
            FileSource::Secret(files) => Some((&files.name, files.optional)),
            _ => None,
        })
    }

    /// Whether each pod has one of its own.
    pub fn is_own_claim(&self) -> bool {
        matches!(self, Self::OwnClaim { .. } | Self::Scratch(_))
    }

    fn files<'a, T>(&'a self, pick: impl Fn(&'a FileSource) -> Option<T>) -> Vec<T> {
        match self {
            Self::Files(volume) => volume.sources.iter().filter_map(pick).collect(),
            _ => Vec::new(),
        }
    }
}

impl KeyRef {
    /// A required key.
    pub fn required(name: &Name, key: &str) -> Self {
        Self { name: name.clone(), key: key.into(), optional: false }
    }
}
