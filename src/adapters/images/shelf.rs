//! What lies in the images directory, and what was found in it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::layout::{INDEX_FILE, Image, LAYOUT_FILE, NO_IMAGE};
use super::{STORE, archive};
use crate::adapters::git::write_file;
use crate::kinds::image::ImageName;

/// What the names of archives end with.
const ENDINGS: [&str; 6] = [".tar", ".tar.gz", ".tgz", ".tar.zst", ".tar.zstd", ".tzst"];
/// More archives than this are somebody's backup.
const ARCHIVES_MAX: usize = 10_000;
/// Archives that can't be read and are named to whoever misses an image.
const COMPLAINTS_TOLD: usize = 3;

/// What tells a file from an earlier one of the same name: length, time, inode.
pub(super) type Stamp = (u64, i64, i64, u64);
/// Every archive, by its name in the directory.
pub(super) type Stamps = BTreeMap<String, Stamp>;

/// What lies in the directory now.
pub(super) fn stamps(directory: &Path) -> Stamps {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let archives = entries.filter_map(|entry| {
        let name = entry.file_name().into_string().ok().filter(|name| !name.starts_with('.'))?;
        let path = entry.path();
        let is_archive = ENDINGS.iter().any(|ending| name.ends_with(ending)) && path.is_file();
        // Of a layout, the index is written last.
        let file = match () {
            () if is_archive => path,
            () if path.join(LAYOUT_FILE).is_file() => path.join(INDEX_FILE),
            () => return None,
        };
        let meta = fs::metadata(file).ok()?;
        Some((name, (meta.len(), meta.mtime(), meta.mtime_nsec(), meta.ino())))
    });
    archives.take(ARCHIVES_MAX).collect()
}

/// What was found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Shelves {
    archives: BTreeMap<String, Archive>,
    /// Where they lie; not kept, an operator may move them.
    #[serde(skip)]
    directory: PathBuf,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Archive {
    stamp: Stamp,
    images: Vec<Image>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    complaint: Option<String>,
}

impl Shelves {
    /// What an earlier life has found. What can't be read is looked for again.
    pub(super) fn remembered(catalogue: &Path, directory: &Path) -> Self {
        let kept = fs::read(catalogue).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { directory: directory.to_owned(), ..kept.unwrap_or_default() }
    }

    pub(super) fn remember(&self, catalogue: &Path) -> io::Result<()> {
        write_file(catalogue, &serde_json::to_vec(self)?)
    }

    /// What is to be looked into because the store is not what it was: everything else is as it is
    /// known. What is in the store has come whole, so nobody need wait until it is at rest.
    pub(super) fn renewed(&self, now: &Stamps) -> Option<Stamps> {
        let store = *now.get(STORE)?;
        let mut stamps: Stamps =
            self.archives.iter().map(|(name, archive)| (name.clone(), archive.stamp)).collect();
        (stamps.insert(STORE.to_owned(), store) != Some(store)).then_some(stamps)
    }

    /// Whether just this lies there.
    pub(super) fn is_as(&self, stamps: &Stamps) -> bool {
        let known = self.archives.iter().map(|(name, archive)| (name, &archive.stamp));
        known.eq(stamps.iter())
    }

    /// Looks into what is new; what was found in it is told beside.
    pub(super) fn survey(mut self, stamps: Stamps) -> (Self, Vec<(PathBuf, Image)>) {
        let mut news = Vec::new();
        self.archives.retain(|name, archive| stamps.get(name) == Some(&archive.stamp));
        for (name, stamp) in stamps {
            if self.archives.contains_key(&name) {
                continue;
            }
            let path = self.directory.join(&name);
            let (images, complaint) = match archive::survey(&path) {
                Ok(images) => (images, None),
                // Nothing has been put into the store yet.
                Err(why) if name == STORE && why.starts_with(NO_IMAGE) => (Vec::new(), None),
                Err(why) => {
                    tracing::warn!(archive = %path.display(), why, "this archive of images can't be used");
                    (Vec::new(), Some(why))
                }
            };
            news.extend(images.iter().map(|image| (path.clone(), image.clone())));
            self.archives.insert(name, Archive { stamp, images, complaint });
        }
        (self, news)
    }

    /// An image that somebody asks for, and the archive it is in. Of two archives that have it, the
    /// one that was written last.
    pub(super) fn find(&self, name: &ImageName) -> Option<(PathBuf, Image)> {
        let is_it = |image: &&Image| match name {
            ImageName::Reference(asked) => image.is(asked),
            ImageName::Id(id) => image.config.prefixed() == *id,
        };
        let mut newest_first: Vec<(&String, &Archive)> = self.archives.iter().collect();
        newest_first
            .sort_by_key(|(_, archive)| std::cmp::Reverse((archive.stamp.1, archive.stamp.2)));
        let mut found = newest_first.into_iter().filter_map(|(name, archive)| {
            let image = archive.images.iter().find(is_it)?;
            Some((self.directory.join(name), image.clone()))
        });
        found.next()
    }

    /// That an image is not there, in words.
    pub(super) fn absence(&self) -> String {
        let directory = self.directory.display();
        let images: usize = self.archives.values().map(|archive| archive.images.len()).sum();
        let mut said = match images {
            0 => format!("{directory} has no image"),
            1 => format!("it is not the one image in {directory}"),
            _ => format!("it is not among the {images} images in {directory}"),
        };
        let complaints = self.archives.iter().filter_map(|(name, archive)| {
            Some(format!("; {name} there can't be used: {}", archive.complaint.as_ref()?))
        });
        said.extend(complaints.take(COMPLAINTS_TOLD));
        said
    }
}

/// Rings when something happens in the directory.
pub(super) struct Bell {
    directory: PathBuf,
    /// Of the directory and of the store in it.
    watched: Option<(RecommendedWatcher, bool)>,
    ring: mpsc::Sender<()>,
    rings: mpsc::Receiver<()>,
}

impl Bell {
    pub(super) fn hang(directory: &Path) -> Self {
        let (ring, rings) = mpsc::channel(1);
        let mut bell = Self { directory: directory.to_owned(), watched: None, ring, rings };
        bell.tend();
        bell
    }

    /// Watches what can be watched. Where the kernel refuses, looking now and then must do.
    fn tend(&mut self) {
        let store = self.directory.join(STORE);
        let has_store = store.is_dir();
        if self.watched.as_ref().is_some_and(|(_, watches_store)| *watches_store == has_store) {
            return;
        }
        let ring = self.ring.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            if !matches!(&event, Ok(event) if event.kind.is_access()) {
                let _ = ring.try_send(());
            }
        });
        self.watched = watcher.ok().and_then(|mut watcher| {
            watcher.watch(&self.directory, RecursiveMode::NonRecursive).ok()?;
            if has_store {
                watcher.watch(&store, RecursiveMode::NonRecursive).ok()?;
            }
            Some((watcher, has_store))
        });
    }

    /// Waits until it rings, but no longer than this.
    pub(super) async fn wait(&mut self, longest: Duration) {
        let _ = tokio::time::timeout(longest, self.rings.recv()).await;
        self.tend();
    }
}
