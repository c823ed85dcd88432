//! The store of images: an OCI layout that only grows by what has been checked.
//!
//! A blob is written beside its place, and gets its name when it has come whole, has the digest it is
//! called by, and is on the disk: what has a name is true, whatever was switched off when.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use sha2::{Digest as _, Sha256};

use super::STORE;
use super::layout::{
    self, Descriptor, Document, INDEX_FILE, Image, JSON_BYTES_MAX, LAYOUT_FILE, MANIFEST_TYPE,
    Platform, Texts,
};
use crate::adapters::git::write_file;
use crate::kinds::digest::Digest;
use crate::kinds::image::{Reference, Version};

/// Where blobs are that have not come whole.
const COMING: &str = "coming";
/// Whose turn it is to change the page.
const TURN: &str = "index.lock";
/// What must be left on the disk.
const FREE_BYTES_MIN: u64 = 64 << 20;
/// An index of more is none of images.
const DOCUMENTS_MAX: usize = 10_000;

/// The store.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    dir: PathBuf,
}

impl Store {
    /// The store in an images directory.
    pub(crate) fn in_images(images: &Path) -> Self {
        Self::at(images.join(STORE))
    }

    /// A store by itself.
    pub(crate) fn at(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Where it is.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Makes what is missing of its directories, and clears away what was coming to somebody who is
    /// gone.
    pub(crate) fn make(&self) -> io::Result<()> {
        fs::create_dir_all(self.dir.join(layout::BLOBS))?;
        fs::create_dir_all(self.dir.join(COMING))?;
        for entry in fs::read_dir(self.dir.join(COMING))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let writer = name.split('-').next().unwrap_or_default();
            if !Path::new("/proc").join(writer).exists() {
                fs::remove_file(entry.path())?;
            }
        }
        let index = self.dir.join(INDEX_FILE);
        if !index.exists() {
            write_file(&index, &serde_json::to_vec(&Document::index(Vec::new()))?)?;
        }
        let mark = self.dir.join(LAYOUT_FILE);
        if mark.exists() { Ok(()) } else { write_file(&mark, layout::LAYOUT.as_bytes()) }
    }

    /// Where a blob is, or would be.
    pub(crate) fn blob(&self, digest: &Digest) -> PathBuf {
        self.dir.join(layout::blob_path(digest))
    }

    /// Whether a blob is there.
    pub(crate) fn has(&self, digest: &Digest, bytes: u64) -> bool {
        fs::metadata(self.blob(digest)).is_ok_and(|meta| meta.is_file() && meta.len() == bytes)
    }

    /// A blob that comes now; what its digest must be, if that is known before.
    pub(crate) fn receive(&self, expected: Option<Digest>) -> io::Result<Coming> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let beside = self.dir.join(COMING).join(format!("{}-{number}", std::process::id()));
        let file = File::create(&beside)?;
        let blobs = self.dir.join(layout::BLOBS);
        Ok(Coming {
            file,
            beside,
            hasher: Sha256::new(),
            bytes: 0,
            blobs,
            expected,
            has_ended: false,
        })
    }

    /// A short blob, at once.
    pub(crate) fn keep(&self, content: &[u8]) -> io::Result<Digest> {
        let digest = Digest::of(content);
        if !self.has(&digest, content.len() as u64) {
            let mut coming = self.receive(Some(digest))?;
            coming.write_all(content)?;
            coming.end()?;
        }
        Ok(digest)
    }

    /// The page is changed by one at a time: agents and `windlass bundle` write it. Held until dropped.
    fn turn(&self) -> io::Result<File> {
        let file = File::create(self.dir.join(TURN))?;
        file.lock()?;
        Ok(file)
    }

    /// The page of its images.
    pub(crate) fn index(&self) -> io::Result<Document> {
        Ok(serde_json::from_slice(&fs::read(self.dir.join(INDEX_FILE))?)?)
    }

    /// Takes names from the page; those that stood there.
    pub(crate) fn forget(&self, names: &BTreeSet<String>) -> io::Result<Vec<String>> {
        let _turn = self.turn()?;
        let before = self.index()?.manifests.unwrap_or_default();
        let (gone, left): (Vec<_>, Vec<_>) = before.into_iter().partition(|one| {
            one.annotations.get(layout::NAME).is_some_and(|name| names.contains(name))
        });
        if !gone.is_empty() {
            let page = serde_json::to_vec_pretty(&Document::index(left))?;
            write_file(&self.dir.join(INDEX_FILE), &page)?;
        }
        Ok(gone.into_iter().filter_map(|one| one.annotations.get(layout::NAME).cloned()).collect())
    }

    /// The blobs that are needed once images of these names are gone.
    pub(crate) fn needed_without(
        &self,
        names: &BTreeSet<String>,
    ) -> Result<BTreeSet<Digest>, String> {
        let index = self.index().map_err(|error| error.to_string())?;
        let stays = |entry: &&Descriptor| {
            entry.annotations.get(layout::NAME).is_none_or(|name| !names.contains(name))
        };
        let mut needed = BTreeSet::new();
        for entry in index.manifests.iter().flatten().filter(stays) {
            needed.extend(self.blobs_of(entry)?.into_keys());
        }
        Ok(needed)
    }

    /// Every blob that has come, with its length.
    pub(crate) fn blobs(&self) -> io::Result<BTreeMap<Digest, u64>> {
        let mut blobs = BTreeMap::new();
        for entry in fs::read_dir(self.dir.join(layout::BLOBS))? {
            let entry = entry?;
            let path = format!("{}{}", layout::BLOBS, entry.file_name().to_string_lossy());
            if let Some(digest) = layout::digest_of_path(&path) {
                blobs.insert(digest, entry.metadata()?.len());
            }
        }
        Ok(blobs)
    }

    /// Takes images off the page, and away every blob that is not needed. First the names, then what
    /// they named: cut off in between, the next time goes on.
    pub(crate) fn clear(
        &self,
        names: &BTreeSet<String>,
        needed: &BTreeSet<Digest>,
    ) -> io::Result<(Vec<String>, BTreeMap<Digest, u64>)> {
        let gone = self.forget(names)?;
        let mut blobs = self.blobs()?;
        blobs.retain(|digest, _| !needed.contains(digest));
        for digest in blobs.keys() {
            fs::remove_file(self.blob(digest))?;
        }
        Ok((gone, blobs))
    }

    /// Enters images that are older than what is there, or may be: names that are borne stay.
    pub(crate) fn enter_beside(&self, older: Vec<Descriptor>) -> io::Result<()> {
        let there = self.index()?.manifests.unwrap_or_default();
        let name = |one: &Descriptor| one.annotations.get(layout::NAME).cloned();
        let new = older.into_iter().filter(|one| there.iter().all(|its| name(its) != name(one)));
        self.enter(new.collect())
    }

    /// Enters images. One that bears a name gives it up to a new one.
    pub(crate) fn enter(&self, new: Vec<Descriptor>) -> io::Result<()> {
        let _turn = self.turn()?;
        let before = self.index().unwrap_or_else(|_| Document::index(Vec::new()));
        let mut all = before.manifests.clone().unwrap_or_default();
        let name = |one: &Descriptor| one.annotations.get(layout::NAME).cloned();
        all.retain(|old| new.iter().all(|new| name(new) != name(old)));
        all.extend(new);
        all.sort_by_key(name);
        let after = Document::index(all);
        if after == before {
            return Ok(());
        }
        write_file(&self.dir.join(INDEX_FILE), &serde_json::to_vec_pretty(&after)?)
    }
}

impl Store {
    /// How an image stands in the page: by its name, or, if it is pinned by digest, by that.
    pub(crate) fn find(&self, name: &Reference) -> Option<Descriptor> {
        if let Version::Digest(digest) = &name.version {
            let digest = Digest::parse(digest)?;
            let bytes = fs::metadata(self.blob(&digest)).ok()?.len();
            return Some(entry(&name.to_string(), digest, bytes, ""));
        }
        let text = name.to_string();
        let entries = self.index().ok()?.manifests.unwrap_or_default();
        entries.into_iter().find(|one| one.annotations.get(layout::NAME) == Some(&text))
    }

    /// Everything that belongs to an image, if all of it is here. Of an index only what is for this
    /// machine need be.
    pub(crate) fn blobs_of(&self, entry: &Descriptor) -> Result<BTreeMap<Digest, u64>, String> {
        let mut blobs = BTreeMap::new();
        let mut next = vec![entry.digest()?];
        while let Some(digest) = next.pop() {
            let text = self.text(&digest)?;
            if blobs.len() > DOCUMENTS_MAX {
                return Err(format!("{digest} is in an index without end"));
            }
            blobs.insert(digest, text.len() as u64);
            let document: Document = serde_json::from_slice(&text)
                .map_err(|error| format!("{}: {error}", self.blob(&digest).display()))?;
            let is_ours = |one: &&Descriptor| one.platform.as_ref().is_none_or(Platform::is_ours);
            for below in document.manifests.iter().flatten().filter(is_ours) {
                next.push(below.digest()?);
            }
            for blob in document.config.iter().chain(&document.layers) {
                let digest = blob.digest()?;
                if !self.has(&digest, blob.size) {
                    return Err(format!("blob {digest} is missing"));
                }
                blobs.insert(digest, blob.size);
            }
        }
        Ok(blobs)
    }

    /// An image's layers for this machine, the lowest first: each blob, and what it is unpacked.
    pub(crate) fn layers_of(&self, entry: &Descriptor) -> Result<Vec<(Digest, Digest)>, String> {
        let image = self.image(entry)?;
        let each = image.layers.iter().map(|layer| {
            let blob = layer.blob().ok_or_else(|| format!("{} is no blob", layer.path))?;
            Ok((blob, layer.diff_id))
        });
        each.collect()
    }

    /// An image, of which the papers are here.
    pub(crate) fn image(&self, entry: &Descriptor) -> Result<Image, String> {
        let (texts, missing) = self.papers(entry)?;
        if let Some(missing) = missing {
            return Err(format!("blob {missing} is missing"));
        }
        let image = layout::images(&texts)?.into_iter().next();
        image.ok_or_else(|| layout::NO_IMAGE.to_owned())
    }

    /// What of an image's papers must come next, if they are not all here.
    pub(crate) fn paper_missing(&self, entry: &Descriptor) -> Result<Option<Digest>, String> {
        self.papers(entry).map(|(_, missing)| missing)
    }

    /// An image's papers for this machine, down to its config, and the first that is not here.
    fn papers(&self, entry: &Descriptor) -> Result<(Texts, Option<Digest>), String> {
        let page = serde_json::to_vec(&Document::index(vec![entry.clone()]));
        let page = page.map_err(|error| error.to_string())?;
        let mut texts = Texts::from([(INDEX_FILE.to_owned(), page)]);
        let mut at = entry.digest()?;
        for _ in 0..DOCUMENTS_MAX {
            if !self.blob(&at).is_file() {
                return Ok((texts, Some(at)));
            }
            let text = self.text(&at)?;
            let document: Document =
                serde_json::from_slice(&text).map_err(|error| format!("manifest {at}: {error}"))?;
            texts.insert(layout::blob_path(&at), text);
            let mut manifests = document.manifests.iter().flatten();
            let is_ours = |one: &&Descriptor| one.platform.as_ref().is_none_or(Platform::is_ours);
            if let Some(ours) = manifests.find(is_ours) {
                at = ours.digest()?;
                continue;
            }
            let config = document.config.ok_or("its index has nothing for this processor")?;
            let config = config.digest()?;
            if !self.blob(&config).is_file() {
                return Ok((texts, Some(config)));
            }
            texts.insert(layout::blob_path(&config), self.text(&config)?);
            return Ok((texts, None));
        }
        Err("its index leads on and on".into())
    }

    /// Where a layer lies, packed or else unpacked.
    pub(crate) fn either(&self, (packed, unpacked): &(Digest, Digest)) -> Option<PathBuf> {
        [packed, unpacked].map(|digest| self.blob(digest)).into_iter().find(|path| path.is_file())
    }

    /// A manifest or a config.
    fn text(&self, digest: &Digest) -> Result<Vec<u8>, String> {
        let path = self.blob(digest);
        let said = |why: &dyn std::fmt::Display| format!("{}: {why}", path.display());
        if fs::metadata(&path).map_err(|error| said(&error))?.len() > JSON_BYTES_MAX {
            return Err(said(&"is no manifest"));
        }
        let text = fs::read(&path).map_err(|error| said(&error))?;
        if Digest::of(&text) != *digest {
            return Err(said(&"is damaged: its content has another digest"));
        }
        Ok(text)
    }

    /// Whether so much more finds room.
    pub(crate) fn has_room(&self, bytes: u64) -> Result<(), String> {
        room(&[(&self.dir, bytes)])
    }
}

/// Whether so much more finds room in these directories, some of which may be on one disk. One that
/// can't be looked at is not counted.
pub(crate) fn room(wanted: &[(&Path, u64)]) -> Result<(), String> {
    let mut disks: BTreeMap<u64, (&Path, u64, u64)> = BTreeMap::new();
    for (path, bytes) in wanted {
        let (Ok(meta), Ok(disk)) = (fs::metadata(path), nix::sys::statvfs::statvfs(*path)) else {
            continue;
        };
        let free = disk.blocks_available().saturating_mul(disk.fragment_size());
        let (_, sum, _) = disks.entry(meta.dev()).or_insert((path, 0, free));
        *sum = sum.saturating_add(*bytes);
    }
    for (path, bytes, free) in disks.into_values() {
        let needed = bytes.saturating_add(FREE_BYTES_MIN);
        if bytes > 0 && free < needed {
            let (free, needed) = (free >> 20, needed >> 20);
            return Err(format!(
                "the disk of {} has {free} MB free, and {needed} MB are needed",
                path.display()
            ));
        }
    }
    Ok(())
}

/// An image in a store's page.
pub(crate) fn entry(name: &str, manifest: Digest, bytes: u64, media_type: &str) -> Descriptor {
    Descriptor {
        media_type: if media_type.is_empty() { MANIFEST_TYPE } else { media_type }.to_owned(),
        digest: manifest.prefixed(),
        size: bytes,
        platform: None,
        annotations: [(layout::NAME.to_owned(), name.to_owned())].into(),
    }
}

/// A blob on its way. One that is dropped before its end has not come.
pub(crate) struct Coming {
    file: File,
    beside: PathBuf,
    blobs: PathBuf,
    expected: Option<Digest>,
    hasher: Sha256,
    bytes: u64,
    has_ended: bool,
}

impl Write for Coming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hasher.update(&bytes[..count]);
        self.bytes += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Drop for Coming {
    fn drop(&mut self) {
        if !self.has_ended {
            let _ = fs::remove_file(&self.beside);
        }
    }
}

impl Coming {
    /// It has come, if it is what it was said to be: its digest and its length.
    pub(crate) fn end(mut self) -> io::Result<(Digest, u64)> {
        let found = Digest::from_bytes(self.hasher.clone().finalize().into());
        if let Some(expected) = self.expected.filter(|expected| *expected != found) {
            let why = format!("what came as {expected} has the digest {found}");
            return Err(io::Error::new(io::ErrorKind::InvalidData, why));
        }
        self.file.sync_all()?;
        fs::rename(&self.beside, self.blobs.join(found.hex()))?;
        self.has_ended = true;
        File::open(&self.blobs)?.sync_all()?;
        Ok((found, self.bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn store() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().expect("a directory");
        let store = Store::in_images(dir.path());
        store.make().expect("made");
        (dir, store)
    }

    fn image(store: &Store, name: &str, layer: &[u8]) -> Descriptor {
        let describe = |digest: Digest, size: usize| Descriptor {
            digest: digest.prefixed(),
            size: size as u64,
            ..Descriptor::default()
        };
        let layer = describe(store.keep(layer).expect("kept"), layer.len());
        let config = describe(store.keep(b"{}").expect("kept"), 2);
        let manifest =
            Document { config: Some(config), layers: vec![layer], ..Document::default() };
        let manifest = serde_json::to_vec(&manifest).expect("json");
        let digest = store.keep(&manifest).expect("kept");
        entry(name, digest, manifest.len() as u64, "")
    }

    fn digest_of(store: &Store, name: &str) -> Option<String> {
        store.find(&Reference::parse(name).expect("a name")).map(|entry| entry.digest)
    }

    #[test]
    fn two_directories_on_one_disk_share_its_room() {
        let dir = tempfile::tempdir().expect("a directory");
        let (one, two) = (dir.path().join("one"), dir.path().join("two"));
        for path in [&one, &two] {
            fs::create_dir(path).expect("made");
        }
        let disk = nix::sys::statvfs::statvfs(dir.path()).expect("looked at");
        let free = disk.blocks_available() * disk.fragment_size() - FREE_BYTES_MIN;
        let much = free / 3 * 2;
        assert_eq!(room(&[(&one, much)]), Ok(()));
        assert_eq!(room(&[(&one, much), (&two, 0)]), Ok(()));
        let said = room(&[(&one, much), (&two, much)]).expect_err("not both");
        assert!(said.contains("one") && said.contains("MB are needed"), "{said}");
        assert_eq!(room(&[(&one, 0), (&two, 0)]), Ok(()), "who brings nothing needs nothing");
        assert_eq!(room(&[(Path::new("/nowhere"), u64::MAX)]), Ok(()), "not known");
    }

    #[test]
    fn a_name_is_one_image_s_at_a_time_and_an_older_one_does_not_take_it() {
        let (_dir, store) = store();
        let name = "r.example/app:1";
        let (one, two) = (image(&store, name, b"one"), image(&store, name, b"two"));
        store.enter(vec![one.clone()]).expect("entered");
        store.enter(vec![two.clone()]).expect("entered");
        assert_eq!(digest_of(&store, name), Some(two.digest.clone()));
        store.enter_beside(vec![one.clone()]).expect("passed over");
        assert_eq!(digest_of(&store, name), Some(two.digest));
        let pinned = format!("r.example/other@{}", one.digest);
        assert_eq!(digest_of(&store, &pinned), Some(one.digest), "a digest needs no name");
        assert_eq!(store.forget(&[name.to_owned()].into()).expect("forgotten"), [name]);
        assert_eq!(digest_of(&store, name), None);
    }

    #[test]
    fn who_enters_at_the_same_time_loses_nothing() {
        let (_dir, store) = store();
        std::thread::scope(|scope| {
            for number in 0..8 {
                let store = store.clone();
                scope.spawn(move || {
                    let name = format!("r.example/app:{number}");
                    store.enter(vec![image(&store, &name, name.as_bytes())]).expect("entered");
                });
            }
        });
        assert_eq!(store.index().expect("read").manifests.map(|all| all.len()), Some(8));
    }

    #[test]
    fn what_is_not_whole_or_not_true_is_not_offered() {
        let (_dir, store) = store();
        let entry = image(&store, "r.example/app:1", b"layer");
        assert_eq!(store.blobs_of(&entry).expect("whole").len(), 3);
        let mut coming = store.receive(Some(Digest::of(b"other"))).expect("begins");
        coming.write_all(b"forged").expect("written");
        assert!(coming.end().is_err(), "it is not what it was said to be");
        assert!(!store.has(&Digest::of(b"forged"), 6) && !store.has(&Digest::of(b"other"), 6));
        drop(store.receive(None).expect("begins"));
        assert_eq!(fs::read_dir(store.dir().join(COMING)).expect("read").count(), 0);
        fs::remove_file(store.blob(&Digest::of(b"layer"))).expect("removed");
        assert!(store.blobs_of(&entry).is_err_and(|why| why.contains("missing")));
        let digest = entry.digest().expect("a digest");
        fs::write(store.blob(&digest), b"{}").expect("spoiled");
        assert!(store.blobs_of(&entry).is_err_and(|why| why.contains("damaged")));
    }
}
