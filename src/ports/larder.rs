//! What lies on this node's disks of images, and what of it revisions have named.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::kinds::binding::{AppName, Oid};

/// A file system, by the number that the kernel gives it.
pub type DiskId = u64;

/// The images of this node, and the disks they lie on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stock {
    /// The disks.
    pub disks: BTreeMap<DiskId, Disk>,
    /// The images.
    pub images: Vec<Image>,
    /// What an earlier life of the agent has noted with [`super::runtime::Call::NoteNamed`].
    pub named: Named,
}

/// How full a disk is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Disk {
    /// A directory on it, for people.
    pub path: String,
    /// Its size.
    pub bytes_total: u64,
    /// What is left for others than root, as kubelet counts.
    pub bytes_free: u64,
}

impl Disk {
    /// How much of a hundred is in use (kubelet's `usagePercent`).
    pub fn used_percent(&self) -> u64 {
        let free = u128::from(self.bytes_free) * 100;
        let free = free.checked_div(u128::from(self.bytes_total)).unwrap_or(100);
        100 - u64::try_from(free.min(100)).unwrap_or(100)
    }
}

/// Where an image lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In Docker, unpacked.
    Docker,
    /// In the store of the images directory, packed.
    Store,
}

/// Which image: where it lies and what it is called there, Docker's id or the name in the store.
pub type ImageKey = (Place, String);

/// An image that lies here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Which.
    pub key: ImageKey,
    /// On which disk.
    pub disk: DiskId,
    /// Its complete names, with tags.
    pub names: BTreeSet<String>,
    /// Digests and ids that it answers to, `sha256:…`.
    pub digests: BTreeSet<String>,
    /// How much goes with it; layers that others share are counted for each in Docker.
    pub bytes: u64,
    /// Something here can't do without it: a container of whomever, the next bundle, the agent itself.
    pub is_used: bool,
    /// The agent brought it, and nobody has given it another name since.
    pub is_ours: bool,
}

/// What the revisions of each app named, the one in force and those before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Named(pub BTreeMap<AppName, Naming>);

/// What the revisions of an app named. Revisions that name the same images count as one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Naming {
    /// The commit that changed it last.
    pub commit: Oid,
    /// How often it has changed.
    pub changes: u64,
    /// Images, by complete name, and the change up to which they were named.
    pub images: BTreeMap<String, u64>,
}
