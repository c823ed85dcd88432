//! The files that pods read from the host: `/etc/hosts`, resolvers, ConfigMaps, Secrets, empty
//! directories.
//!
//! Files in memory stand under the run directory (a tmpfs), the others under the data directory.
//! A set of files is swapped as Kubernetes does it (`..data` symlink), so that a reader sees the old
//! or the new, never half.
//!
//! ```text
//!   <run_dir>/pods/<uid>/files/<name>       FileWish::File
//!                        sets/<volume>/     FileWish::Set: web.conf → ..data/web.conf
//!                        memory/<volume>/   FileWish::Directory in memory: a tmpfs of its own
//!                        parts/<digest>     FileWish::SubPath: the part, bound here
//!   <data_dir>/pods/<uid>/volumes/<volume>/ FileWish::Directory on disk
//!   <volumes_dir>/<name>/                   FileWish::Kept: outlives its pods
//!                .<name>.windlass           our mark: only what bears it is ever removed
//! ```
//!
//! Where things are is said by [`Layout`], without looking, so that whoever asks for a container can
//! name what is mounted before it is there.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::kinds::digest::Digest;
use crate::kinds::name::Uid;

/// Where the files of pods stand on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// What must not outlive a reboot, in memory: `/run/windlass`.
    pub run_dir: PathBuf,
    /// What must: `/var/lib/windlass`.
    pub data_dir: PathBuf,
    /// What must outlive its pods: `/var/lib/windlass/volumes`.
    pub volumes_dir: PathBuf,
}

impl Layout {
    /// All pods' directories, in memory and on disk.
    pub fn pods(&self) -> [PathBuf; 2] {
        [self.run_dir.join("pods"), self.data_dir.join("pods")]
    }

    /// A pod's directories, in memory and on disk.
    pub fn pod(&self, pod: &Uid) -> [PathBuf; 2] {
        self.pods().map(|pods| pods.join(safe(pod.as_str())))
    }

    /// Where a [`FileWish::File`] is.
    pub fn file(&self, pod: &Uid, name: &str) -> PathBuf {
        self.in_memory(pod, "files", name)
    }

    /// Where a volume's root is.
    pub fn volume(&self, pod: &Uid, root: &VolumeRoot) -> PathBuf {
        match root {
            VolumeRoot::Set(volume) => self.in_memory(pod, "sets", volume),
            VolumeRoot::Directory(volume, true) => self.in_memory(pod, "memory", volume),
            VolumeRoot::Directory(volume, false) => {
                let [_, on_disk] = self.pod(pod);
                on_disk.join("volumes").join(safe(volume))
            }
            VolumeRoot::Host(path) => Path::new(path).to_path_buf(),
            VolumeRoot::Kept(name) => self.kept(name),
        }
    }

    /// Where a [`FileWish::Kept`] is.
    pub fn kept(&self, name: &str) -> PathBuf {
        self.volumes_dir.join(safe(name))
    }

    /// The mark of a [`FileWish::Kept`], beside it: within, a container could remove it.
    pub fn kept_mark(&self, name: &str) -> PathBuf {
        self.volumes_dir.join(format!(".{}.windlass", safe(name)))
    }

    /// Where a [`FileWish::SubPath`] is bound: a place of its own, so that what the container gets
    /// is what was checked, whatever a symlink says by then.
    pub fn sub_path(&self, pod: &Uid, root: &VolumeRoot, path: &str) -> PathBuf {
        let root = self.volume(pod, root);
        let root = root.as_os_str().as_encoded_bytes();
        let digest = Digest::of_parts([root, path.as_bytes()]);
        self.in_memory(pod, "parts", &digest.hex()[..32])
    }

    fn in_memory(&self, pod: &Uid, kind: &str, name: &str) -> PathBuf {
        let [in_memory, _] = self.pod(pod);
        in_memory.join(kind).join(safe(name))
    }
}

/// Longest file name of Linux is 255 bytes; longer names are cut and digested well below it.
const PART_LEN_MAX: usize = 128;

/// Makes one path component of any text: two texts never make the same, and none leads elsewhere.
/// Names that Kubernetes allows stay as they are.
fn safe(text: &str) -> String {
    use std::fmt::Write as _;
    let mut part = String::with_capacity(text.len());
    for (at, byte) in text.bytes().enumerate() {
        let is_plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if is_plain || (byte == b'.' && at > 0) {
            part.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(part, "%{byte:02x}");
        }
    }
    match part.len() {
        0 => "%".into(),
        1..=PART_LEN_MAX => part,
        _ => format!("%{}", Digest::of(text.as_bytes()).hex()),
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
    /// Take what a container left as its last words: they are read, and the file is empty for the
    /// next.
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
    /// Remove a [`FileWish::Kept`] and everything in it. One that is not there is as good as removed;
    /// one without our mark is none of ours.
    RemoveKept {
        /// Its name.
        name: String,
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
    /// A set of files in memory, swapped whole. To be mounted read-only, as in Kubernetes: who
    /// writes it trusts its paths.
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
    /// A directory that outlives the pod, kept once made.
    Kept {
        /// Its name among all that are kept.
        name: String,
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
    /// A directory that outlives its pods.
    Kept(String),
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
    /// To [`Call::Write`], [`Call::Remove`] and [`Call::RemoveKept`].
    Done,
    /// To [`Call::LastWords`]; bounded.
    Text(String),
    /// To [`Call::List`].
    Pods(Vec<Uid>),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn layout() -> Layout {
        Layout {
            run_dir: "/run/windlass".into(),
            data_dir: "/var/lib/windlass".into(),
            volumes_dir: "/srv/volumes".into(),
        }
    }

    #[test]
    fn paths_are_known_without_looking() {
        let (layout, pod) = (layout(), Uid::trusted("u-1"));
        let volume = |root| layout.volume(&pod, &root).display().to_string();
        assert_eq!(
            layout.file(&pod, "resolv.conf").display().to_string(),
            "/run/windlass/pods/u-1/files/resolv.conf"
        );
        assert_eq!(volume(VolumeRoot::Set("cfg".into())), "/run/windlass/pods/u-1/sets/cfg");
        assert_eq!(
            volume(VolumeRoot::Directory("m".into(), true)),
            "/run/windlass/pods/u-1/memory/m"
        );
        assert_eq!(
            volume(VolumeRoot::Directory("d".into(), false)),
            "/var/lib/windlass/pods/u-1/volumes/d"
        );
        assert_eq!(volume(VolumeRoot::Host("/srv".into())), "/srv");
        assert_eq!(volume(VolumeRoot::Kept("pvc-1_shop_d".into())), "/srv/volumes/pvc-1_shop_d");
        let part = |root: &VolumeRoot, path| layout.sub_path(&pod, root, path);
        let (one, other) = (VolumeRoot::Set("a".into()), VolumeRoot::Set("b".into()));
        assert_ne!(part(&one, "x"), part(&other, "x"));
        assert_ne!(part(&one, "x"), part(&one, "y"));
    }

    proptest! {
        #[test]
        fn no_name_leads_out_of_its_directory(uid in ".*", name in "([./a%]|.){0,300}") {
            let (layout, pod) = (layout(), Uid::trusted(&uid));
            for path in [
                layout.file(&pod, &name),
                layout.volume(&pod, &VolumeRoot::Set(name.clone())),
                layout.volume(&pod, &VolumeRoot::Directory(name.clone(), true)),
                layout.volume(&pod, &VolumeRoot::Directory(name.clone(), false)),
                layout.sub_path(&pod, &VolumeRoot::Host(name.clone()), &name),
            ] {
                let below = path
                    .strip_prefix("/run/windlass/pods")
                    .or_else(|_| path.strip_prefix("/var/lib/windlass/pods"))
                    .expect("below the pods' directory");
                let parts: Vec<_> = below.components().collect();
                prop_assert_eq!(parts.len(), 3, "{:?}", below);
                for part in parts {
                    let std::path::Component::Normal(part) = part else {
                        panic!("{part:?} in {below:?}");
                    };
                    prop_assert!(part.len() <= 255);
                }
            }
        }

        #[test]
        fn two_names_never_share_a_path(a in "([./a%]|.){0,20}", b in "([./a%]|.){0,20}") {
            prop_assert_eq!(a == b, safe(&a) == safe(&b));
        }
    }
}
