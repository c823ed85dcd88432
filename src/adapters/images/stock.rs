//! Taking stock: what lies here of images, how full the disks are, and what goes.
//!
//! ```text
//!   <dataDir>/brought.json   Docker's id ─▶ names: what we pulled or loaded, and is ours to remove
//!   <dataDir>/named.json     what revisions named, kept for the agent's next life
//! ```
//!
//! What may go is decided elsewhere ([`crate::node::larder`]). The limits: an image that came while
//! the machine lost its power may not be noted, and stays. Archives that people put into the images
//! directory are theirs, and stay.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::Images;
use super::layout;
use crate::adapters::bundle::{lock, newest_page};
use crate::adapters::docker::HeldImage;
use crate::adapters::git::write_file;
use crate::kinds::digest::Digest;
use crate::ports::Fault;
use crate::ports::larder::{Disk, DiskId, Image, ImageKey, Named, Place, Stock};
use crate::ports::runtime::RuntimeSeen;

/// By Docker's id: the names we gave it.
type Brought = BTreeMap<String, BTreeSet<String>>;

/// What we have noted of images.
struct Notes {
    named: Named,
    brought: Brought,
    /// The ids of images by the digests they were pinned by.
    pinned: BTreeMap<String, String>,
}

/// What in the store belongs to no image any more, as if it were one.
const NAMELESS: &str = "blobs of no image";

impl Images {
    /// What Docker says of itself and its host, and what lies here of images. Whoever can't tell
    /// the second removes none.
    pub async fn take_stock(&self) -> Result<RuntimeSeen, Fault> {
        // Read before Docker is asked: an image that comes in between is in the list and not yet
        // noted, so it stays.
        let notes = self.notes();
        let (mut seen, held, root) = self.inner.docker.survey().await?;
        let stock = async { self.stock(notes?, &held, &root).await };
        match stock.await {
            Ok(stock) => seen.stock = Some(stock),
            Err(fault) => {
                tracing::warn!(%fault, "which images lie here is not known; none is removed");
            }
        }
        Ok(seen)
    }

    fn notes(&self) -> Result<Notes, Fault> {
        let options = &self.inner.options;
        Ok(Notes {
            named: read(&options.named)?,
            brought: read(&options.brought)?,
            pinned: read(&options.digest_map)?,
        })
    }

    /// What lies here.
    async fn stock(&self, notes: Notes, held: &[HeldImage], root: &Path) -> Result<Stock, Fault> {
        let Notes { named, brought, pinned } = notes;
        let used = self.inner.docker.used_images().await?;
        let mut stock = Stock { named, ..Stock::default() };
        let there: BTreeSet<&str> = held.iter().map(|image| &*image.id).collect();
        if brought.keys().any(|id| !there.contains(&**id)) {
            self.change_brought(|brought| brought.retain(|id, _| there.contains(&**id)));
        }
        if let Some(disk) = measure(root, &mut stock) {
            stock.images.extend(held.iter().map(|image| {
                let mapped = pinned.iter().filter(|(_, id)| **id == image.id);
                let names = image.names();
                let given = brought.get(&image.id);
                Image {
                    key: (Place::Docker, image.id.clone()),
                    disk,
                    digests: image
                        .digests()
                        .into_iter()
                        .chain(mapped.map(|one| one.0.clone()))
                        .collect(),
                    bytes: image.bytes,
                    is_used: used.contains(&image.id),
                    is_ours: given.is_some_and(|given| names.is_subset(given)),
                    names,
                }
            }));
        }
        let images = self.clone();
        let stored = tokio::task::spawn_blocking(move || images.stored(stock)).await;
        stored.map_err(|_| Fault::transient("looking through the store was broken off"))?
    }

    /// What the store has, beside the rest.
    fn stored(&self, mut stock: Stock) -> Result<Stock, Fault> {
        let store = self.store();
        if !store.dir().exists() {
            return Ok(stock);
        }
        let Some(disk) = measure(store.dir(), &mut stock) else { return Ok(stock) };
        let page = newest_page(&self.inner.options.workshop).map_err(Fault::stalled)?;
        let page = page.as_ref();
        let promised: BTreeSet<&str> =
            page.into_iter().flat_map(|page| &page.images).map(|image| &*image.name).collect();
        let awaited = page.into_iter().flat_map(|page| page.blobs().chain(&page.required));
        let mut nameless = store.blobs().map_err(|error| self.unread(&error))?;
        for part in awaited {
            nameless.remove(&part.sha256);
        }
        let index = store.index().map_err(|error| self.unread(&error))?;
        let entries: Vec<(&String, BTreeMap<Digest, u64>)> = index
            .manifests
            .iter()
            .flatten()
            .filter_map(|one| Some((one.annotations.get(layout::NAME)?, one)))
            // One that is not whole is nobody's image: it may go, and frees what it alone has.
            .map(|(name, one)| (name, store.blobs_of(one).unwrap_or_default()))
            .collect();
        let mut owners: BTreeMap<Digest, u32> = BTreeMap::new();
        for digest in entries.iter().flat_map(|(_, blobs)| blobs.keys()) {
            *owners.entry(*digest).or_default() += 1;
            nameless.remove(digest);
        }
        if !nameless.is_empty() {
            stock.images.push(Image {
                key: (Place::Store, NAMELESS.to_owned()),
                disk,
                names: BTreeSet::new(),
                digests: nameless.keys().map(Digest::prefixed).collect(),
                bytes: nameless.values().sum(),
                is_used: false,
                is_ours: true,
            });
        }
        for (name, blobs) in entries {
            let alone = blobs.iter().filter(|(digest, _)| owners.get(digest) == Some(&1));
            stock.images.push(Image {
                key: (Place::Store, name.clone()),
                disk,
                names: [name.clone()].into(),
                bytes: alone.map(|(_, bytes)| bytes).sum(),
                digests: blobs.keys().map(Digest::prefixed).collect(),
                is_used: promised.contains(&**name),
                is_ours: true,
            });
        }
        Ok(stock)
    }

    fn unread(&self, error: &io::Error) -> Fault {
        Fault::stalled(format!("{}: {error}", self.store().dir().display()))
    }

    /// Removes images; those that are gone.
    pub async fn remove(&self, keys: Vec<ImageKey>) -> Result<Vec<ImageKey>, Fault> {
        // Nobody hands Docker an image, or packs one, meanwhile.
        let _turn = self.inner.loading.lock().await;
        let (in_docker, in_store): (Vec<_>, Vec<_>) =
            keys.into_iter().partition(|(place, _)| *place == Place::Docker);
        let mut gone = Vec::new();
        for key in in_docker {
            match self.inner.docker.drop_image(&key.1).await {
                Ok(true) => {
                    tracing::info!(image = key.1, "removed: the disk was filling");
                    gone.push(key);
                }
                Ok(false) => {}
                Err(fault) => tracing::warn!(image = key.1, %fault, "this image can't be removed"),
            }
        }
        if in_store.is_empty() {
            return Ok(gone);
        }
        let images = self.clone();
        let names: BTreeSet<String> = in_store.into_iter().map(|(_, name)| name).collect();
        let swept = tokio::task::spawn_blocking(move || images.sweep(&names)).await;
        match swept.map_err(|_| Fault::transient("clearing the store was broken off"))? {
            Ok(names) => gone.extend(names.into_iter().map(|name| (Place::Store, name))),
            Err(why) => tracing::warn!(why, "nothing was removed from the store of images"),
        }
        Ok(gone)
    }

    /// Takes images out of the store, and the blobs that nobody needs then.
    fn sweep(&self, names: &BTreeSet<String>) -> Result<Vec<String>, String> {
        if !self.flights().is_empty() {
            return Err("images are coming from other nodes".into());
        }
        let (store, workshop) = (self.store(), &self.inner.options.workshop);
        // Whoever takes in a bundle counts on blobs that no name stands for yet.
        let _lock = match workshop.exists() {
            true => Some(lock(workshop).map_err(|refused| refused.to_string())?),
            false => None,
        };
        let page = newest_page(workshop)?;
        let promised = page.iter().flat_map(|page| page.blobs().chain(&page.required));
        let promised: BTreeSet<Digest> = promised.map(|part| part.sha256).collect();
        let mut needed = store.needed_without(names)?;
        needed.extend(promised);
        let (mut gone, blobs) = store.clear(names, &needed).map_err(|error| error.to_string())?;
        let bytes: u64 = blobs.values().sum();
        tracing::info!(images = ?gone, blobs = blobs.len(), bytes, "removed from the store: the disk was filling");
        gone.extend(names.contains(NAMELESS).then(|| NAMELESS.to_owned()));
        Ok(gone)
    }

    /// Keeps what revisions have named.
    pub async fn note_named(&self, named: Named) -> Result<(), Fault> {
        let path = self.inner.options.named.clone();
        let write = move || {
            let text = serde_json::to_vec(&named).map_err(io::Error::other)?;
            write_file(&path, &text)
                .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))
        };
        let written = tokio::task::spawn_blocking(write).await;
        written.map_err(|_| Fault::transient("it was broken off"))?.map_err(Fault::transient)
    }

    /// Takes note that an image is here because we brought it, and what we call it.
    pub(super) fn note_brought(
        &self,
        id: &str,
        names: impl IntoIterator<Item = String>,
        is_new: bool,
    ) {
        self.change_brought(|brought| {
            if is_new || brought.contains_key(id) {
                brought.entry(id.to_owned()).or_default().extend(names);
            }
        });
    }

    fn change_brought(&self, change: impl FnOnce(&mut Brought)) {
        let path = &self.inner.options.brought;
        let _one = self.noting();
        let changed = read::<Brought>(path).map_err(|fault| fault.message).and_then(|before| {
            let mut brought = before.clone();
            change(&mut brought);
            if brought == before {
                return Ok(());
            }
            let text = serde_json::to_vec(&brought).map_err(|error| error.to_string())?;
            write_file(path, &text).map_err(|error| error.to_string())
        });
        if let Err(why) = changed {
            tracing::warn!(path = %path.display(), why, "which images are ours to remove is not noted; they stay");
        }
    }
}

/// How full the disk is that has this directory; none if that can't be told.
fn measure(dir: &Path, stock: &mut Stock) -> Option<DiskId> {
    let id = std::fs::metadata(dir).ok()?.dev();
    let seen = nix::sys::statvfs::statvfs(dir).ok()?;
    let size = |blocks: u64| blocks.saturating_mul(seen.fragment_size());
    let disk = Disk {
        path: dir.display().to_string(),
        bytes_total: size(seen.blocks()),
        bytes_free: size(seen.blocks_available()),
    };
    stock.disks.entry(id).or_insert(disk);
    Some(id)
}

/// A file of ours; empty if it is absent. One that can't be read must not be taken for empty: then
/// images would go that it keeps.
fn read<T: Default + serde::de::DeserializeOwned>(path: &PathBuf) -> Result<T, Fault> {
    let fault = |why: &dyn std::fmt::Display| {
        Fault::stalled(format!("{}: {why}; remove it to begin anew", path.display()))
    };
    match std::fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes).map_err(|error| fault(&error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(T::default()),
        Err(error) => Err(fault(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapters::docker::{Docker, Options as DockerOptions};
    use crate::adapters::images::Options;
    use crate::adapters::images::layout::Document;
    use crate::adapters::images::store::{Store, entry};
    use crate::kinds::name::Name;

    fn larder(data: &Path) -> (Images, Store) {
        let docker = Docker::connect(DockerOptions {
            socket: data.join("none"),
            node: Name::trusted("n1"),
            registry_config: None,
            digest_map: None,
        });
        let options = Options {
            directory: data.join("images"),
            catalogue: data.join("images.json"),
            digest_map: data.join("digests.json"),
            brought: data.join("brought.json"),
            named: data.join("named.json"),
            workshop: data.join("bundle"),
            send_limit: None,
        };
        let store = Store::in_images(&options.directory);
        store.make().expect("made");
        (Images::open(docker, options), store)
    }

    fn put(store: &Store, name: &str, layers: &[&str]) {
        let describe = |text: &[u8]| layout::Descriptor {
            digest: store.keep(text).expect("kept").prefixed(),
            size: text.len() as u64,
            ..layout::Descriptor::default()
        };
        let document = Document {
            config: Some(describe(name.as_bytes())),
            layers: layers.iter().map(|layer| describe(layer.as_bytes())).collect(),
            ..Document::default()
        };
        let text = serde_json::to_vec(&document).expect("JSON");
        let digest = store.keep(&text).expect("kept");
        store.enter(vec![entry(name, digest, text.len() as u64, "")]).expect("entered");
    }

    fn names(stock: &Stock) -> Vec<&str> {
        let mut names: Vec<&str> = stock.images.iter().map(|image| &*image.key.1).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn the_store_gives_back_what_no_other_image_needs() {
        let data = tempfile::tempdir().expect("a directory");
        let (images, store) = larder(data.path());
        put(&store, "r.example/one:1", &["shared", "only one's"]);
        put(&store, "r.example/two:1", &["shared"]);
        store.keep(b"left by one that was cut off").expect("kept");
        let stock = images.stored(Stock::default()).expect("looked through");
        assert_eq!(names(&stock), [NAMELESS, "r.example/one:1", "r.example/two:1"]);
        assert!(stock.images.iter().all(|image| image.is_ours && !image.is_used));
        let one = stock.images.iter().find(|its| its.key.1.contains("one")).expect("is there");
        assert!(one.digests.contains(&Digest::of(b"r.example/one:1").prefixed()), "its id counts");
        let before: u64 = store.blobs().expect("read").values().sum();
        let freed = one.bytes;
        let going = ["r.example/one:1".to_owned(), NAMELESS.to_owned()].into();
        let gone = images.sweep(&going).expect("swept");
        assert_eq!(gone, ["r.example/one:1", NAMELESS]);
        let after: u64 = store.blobs().expect("read").values().sum();
        assert_eq!(before - after, freed + 28, "just what was said");
        let stock = images.stored(Stock::default()).expect("looked through");
        assert_eq!(names(&stock), ["r.example/two:1"]);
    }

    #[test]
    fn nothing_goes_while_somebody_counts_on_it() {
        let data = tempfile::tempdir().expect("a directory");
        let (images, store) = larder(data.path());
        put(&store, "r.example/one:1", &["layer"]);
        let going = ["r.example/one:1".to_owned()].into();
        std::fs::create_dir(data.path().join("bundle")).expect("made");
        let applying = lock(&data.path().join("bundle")).expect("free");
        assert!(images.sweep(&going).is_err(), "a bundle is being taken in");
        drop(applying);
        images.flights().insert("r.example/two:1".into(), std::sync::Arc::default());
        assert!(images.sweep(&going).is_err(), "an image is coming");
        images.flights().clear();
        assert_eq!(images.sweep(&going).expect("swept"), ["r.example/one:1"]);
    }

    #[tokio::test]
    async fn who_stops_waiting_for_an_image_holds_nothing_up() {
        let data = tempfile::tempdir().expect("a directory");
        let (images, _) = larder(data.path());
        let short = std::time::Duration::from_millis(20);
        let first = images.fly("r.example/one:1".into()).await;
        let second = images.fly("r.example/one:1".into());
        assert!(tokio::time::timeout(short, second).await.is_err(), "one at a time");
        assert!(!images.flights().is_empty(), "the first is at it");
        let next = images.fly("r.example/one:1".into());
        let (next, ()) = tokio::join!(next, async move { drop(first) });
        assert_eq!(images.flights().len(), 1, "the next is at it");
        drop(next);
        assert!(images.flights().is_empty());
    }

    #[test]
    fn what_is_not_understood_is_not_taken_for_nothing() {
        let data = tempfile::tempdir().expect("a directory");
        let path = data.path().join("named.json");
        assert_eq!(read::<Named>(&path).expect("absent"), Named::default());
        std::fs::write(&path, "{").expect("written");
        assert!(read::<Named>(&path).is_err_and(|fault| fault.message.contains("named.json")));
    }
}
