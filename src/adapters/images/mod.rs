//! Images that no registry is needed for: what lies on this machine, and what other nodes have.
//!
//! A larder: who cooks looks on the stove (Docker) first, then on the shelves (archives and the store in
//! the images directory), asks the neighbours for what is pinned by digest, and goes shopping last.
//!
//! ```text
//!   <dataDir>/images/
//!     app.tar, base.tar.gz, tools.tar.zst    put there by people: loaded as they appear
//!     store/                                 an OCI layout, kept by us: what bundles bring, and what
//!       oci-layout  index.json  blobs/       other nodes sent; loaded when a pod needs it
//!   <dataDir>/images.json                    what was found in which archive, so that a start reads none
//!   <dataDir>/digests.json                   manifest digest ─▶ Docker's id, which Docker forgets
//!   <dataDir>/brought.json, named.json       which of it may go when the disk fills
//! ```
//!
//! The rule: a digest is believed when it was computed. An image answers to a digest if a manifest (or
//! an index above it) in its archive has that digest, names the config, and Docker calls an image by
//! that config's digest, which it does only when every layer is what the config says.
//!
//! The limit: a tag is what the newest archive says it is. Pin by digest what must not change.

pub(crate) mod archive;
pub(crate) mod layout;
mod load;
pub mod peers;
mod receive;
pub mod registry;
mod shelf;
pub mod sources;
mod stock;
pub(crate) mod store;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::Stream;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt as _;
use tokio::sync::mpsc;
use tokio::time::Instant;

use self::layout::Image;
use self::peers::{Fetched, Offer, Pace, Peers};
use self::shelf::Shelves;
use self::sources::{Sources, Yard};
use self::store::Store;
use super::docker::Docker;
use crate::kinds::digest::Digest;
use crate::kinds::image::{ImageName, Reference, Version};
use crate::ports::Fault;
use crate::ports::runtime::{
    ImageSeen, ImageWish, Pull, PullProgress, REASON_NEVER_PULL, REASON_PULL,
};

/// The store in the images directory.
pub const STORE: &str = "store";
/// How long a registry may take to answer before it is looked elsewhere as well.
const PATIENCE: Duration = Duration::from_secs(3);
/// A file is taken for whole when it has not changed for so long.
const QUIET: Duration = Duration::from_millis(500);
/// Who writes for longer than so many looks is noticed again later.
const QUIET_LOOKS_MAX: u32 = 240;
/// How often the directory is looked at where the kernel tells nothing of it.
const LOOK_EVERY: Duration = Duration::from_secs(10);

/// Where images lie on this machine.
#[derive(Clone, Debug)]
pub struct Options {
    /// The images directory.
    pub directory: PathBuf,
    /// What is known of it.
    pub catalogue: PathBuf,
    /// Which image of Docker a digest stands for.
    pub digest_map: PathBuf,
    /// Which images of Docker we have brought.
    pub brought: PathBuf,
    /// What revisions have named.
    pub named: PathBuf,
    /// Where bundles are taken in.
    pub workshop: PathBuf,
    /// How many bytes a second are sent to other nodes at most, all together.
    pub send_limit: Option<u64>,
}

/// The larder. Cheap to clone.
#[derive(Clone)]
pub struct Images {
    inner: Arc<Inner>,
}

struct Inner {
    docker: Docker,
    options: Options,
    shelves: Mutex<Shelves>,
    /// Loading is work for the disk: one at a time.
    loading: tokio::sync::Mutex<()>,
    /// And one look at a time is written down.
    surveying: tokio::sync::Mutex<()>,
    /// And one note of what was brought.
    noting: Mutex<()>,
    /// The other nodes, once they can be asked.
    peers: OnceLock<Peers>,
    /// Images that are being fetched from them.
    flights: Mutex<BTreeMap<String, Arc<tokio::sync::Mutex<()>>>>,
    pace: Pace,
}

/// Whoever brings something from other nodes, or waits for who does.
struct Turn {
    images: Images,
    what: String,
    held: Option<tokio::sync::OwnedMutexGuard<()>>,
}

/// What the stores of other nodes have.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spread {
    /// Blobs, and their lengths.
    pub blobs: BTreeMap<Digest, u64>,
    /// Nodes that could not be asked, and why.
    pub silent: Vec<String>,
}

/// A blob as it is sent.
pub(crate) type Pieces = Pin<Box<dyn Stream<Item = Result<Bytes, Fault>> + Send>>;

/// Read from a blob at once.
const PIECE_BYTES: usize = 64 << 10;

#[allow(clippy::wrong_self_convention)] // Where an image comes from; nothing is converted.
impl Images {
    /// The larder of this machine. Nothing is looked at yet.
    pub fn open(docker: Docker, options: Options) -> Self {
        let shelves = Mutex::new(Shelves::remembered(&options.catalogue, &options.directory));
        let loading = tokio::sync::Mutex::new(());
        let pace = Pace::new(options.send_limit);
        let peers = OnceLock::new();
        let surveying = tokio::sync::Mutex::new(());
        let (flights, noting) = (Mutex::default(), Mutex::default());
        let inner =
            Inner { docker, options, shelves, loading, surveying, noting, peers, flights, pace };
        Self { inner: Arc::new(inner) }
    }

    /// From now on other nodes can be asked.
    pub fn join(&self, peers: Peers) {
        // Only ever called once; a second way would be no better.
        let _ = self.inner.peers.set(peers);
    }

    fn store(&self) -> Store {
        Store::in_images(&self.inner.options.directory)
    }

    fn shelves(&self) -> MutexGuard<'_, Shelves> {
        // Every change leaves the shelves whole.
        self.inner.shelves.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has an image on this node, wherever it comes from.
    pub async fn ensure(&self, wish: ImageWish) -> Result<ImageSeen, Fault> {
        let docker = &self.inner.docker;
        let Ok(name) = ImageName::parse(&wish.image) else {
            return docker.ensure_image(wish).await;
        };
        let before = docker.find_image(&name).await?;
        if let (Some(seen), true) = (&before, wish.pull != Pull::Always) {
            return Ok(seen.clone());
        }
        let mut misses = match self.from_shelves(&name).await {
            Ok(seen) => return Ok(seen),
            Err(why) => vec![why],
        };
        if wish.pull == Pull::Never {
            return docker.ensure_image(wish).await.map_err(|fault| tell(fault, &misses));
        }
        // What is pinned by digest is the same wherever it comes from, and neighbours are near.
        let is_pinned =
            matches!(&name, ImageName::Reference(Reference { version: Version::Digest(_), .. }));
        if is_pinned {
            match self.from_peers(&name).await {
                Ok(seen) => return Ok(seen),
                Err(why) => misses.push(why),
            }
        }
        let may_ask_peers = wish.pull == Pull::Missing && !is_pinned;
        match self.from_registry(wish, &name, may_ask_peers).await {
            Err((fault, why)) => {
                misses.extend(why);
                Err(tell(fault, &misses))
            }
            Ok(seen) => {
                if seen.pulled.is_some() {
                    let is_new = before.is_none_or(|before| before.id != seen.id);
                    self.note_brought(&seen.id, [name.to_string()], is_new);
                }
                Ok(seen)
            }
        }
    }

    /// What a tag means the registry knows best. Where none can be reached that takes Docker most of a
    /// minute to find out: meanwhile it is looked whether the image has come, and neighbours are asked.
    async fn from_registry(
        &self,
        wish: ImageWish,
        name: &ImageName,
        may_ask_peers: bool,
    ) -> Result<ImageSeen, (Fault, Option<String>)> {
        let docker = &self.inner.docker;
        let pulls = docker.pulls();
        let mut from_peers = None;
        let mut pull = std::pin::pin!(docker.ensure_image(wish));
        let fault = loop {
            match tokio::time::timeout(PATIENCE, &mut pull).await {
                Ok(Ok(seen)) => return Ok(seen),
                Ok(Err(fault)) => break fault,
                Err(_) => {}
            }
            let has_answered =
                pulls.borrow().get(&name.to_string()).is_some_and(|pull| pull.layers_total > 0);
            if has_answered {
                continue;
            }
            if let Ok(seen) = self.from_shelves(name).await {
                return Ok(seen);
            }
            if may_ask_peers && from_peers.is_none() {
                match self.from_peers(name).await {
                    Ok(seen) => return Ok(seen),
                    Err(why) => from_peers = Some(why),
                }
            }
        };
        if may_ask_peers && from_peers.is_none() {
            match self.from_peers(name).await {
                Ok(seen) => return Ok(seen),
                Err(why) => from_peers = Some(why),
            }
        }
        Err((fault, from_peers))
    }

    /// An image that lies here; or where it was not found.
    async fn from_shelves(&self, name: &ImageName) -> Result<ImageSeen, String> {
        // A commit may be here before the kernel has told of the images that came with it.
        let now = shelf::stamps(&self.inner.options.directory);
        let renewed = self.shelves().renewed(&now);
        if let Some(stamps) = renewed {
            self.survey(stamps).await;
        }
        let found = self.shelves().find(name);
        let (at, image) = found.ok_or_else(|| self.shelves().absence())?;
        self.load(at.clone(), image, Some(name.clone())).await.map_err(|fault| {
            tracing::warn!(image = %name, archive = %at.display(), %fault, "can't be loaded");
            format!("it could not be loaded: {fault}")
        })
    }

    /// Brings an image from other nodes, and loads it.
    async fn from_peers(&self, name: &ImageName) -> Result<ImageSeen, String> {
        let (Some(peers), ImageName::Reference(reference)) = (self.inner.peers.get(), name) else {
            return Err("no other node can be asked".into());
        };
        let store = self.store();
        let line = self.inner.docker.show_pull(&reference.to_string());
        let progress = |done, total| {
            line.write(PullProgress {
                bytes_done: done,
                bytes_total: total,
                ..PullProgress::default()
            });
        };
        // Two pods that lack the same image fetch it once.
        let _turn = self.fly(reference.to_string()).await;
        if let Ok(seen) = self.from_shelves(name).await {
            return Ok(seen);
        }
        let docker = Some(&self.inner.docker);
        let fetched = peers.fetch(reference, &store, docker, &progress).await?;
        tracing::info!(image = %name, "has come from another node");
        if let Fetched::Rest(image) = fetched {
            if let Ok(seen) = self.complete(name, image).await {
                return Ok(seen);
            }
            peers.fetch(reference, &store, None, &progress).await?;
        }
        self.from_shelves(name).await
    }

    /// Has Docker put an image together of the layers that have come and those that it has.
    async fn complete(&self, name: &ImageName, image: Image) -> Result<ImageSeen, Fault> {
        let (held, layers) =
            (image.layers.iter().filter(|layer| layer.is_held).count(), image.layers.len());
        let loaded = self.load(self.store().dir().to_owned(), image, Some(name.clone())).await;
        match &loaded {
            Ok(_) => tracing::info!(image = %name, held, layers, "Docker had the lower layers"),
            // It keeps images in another way, or has dropped one since.
            Err(fault) => {
                tracing::info!(image = %name, held, layers, %fault, "Docker wants the lower layers too");
            }
        }
        loaded
    }

    /// Every blob in the store.
    pub(crate) fn blobs(&self) -> Result<BTreeMap<Digest, u64>, Fault> {
        let store = self.store();
        if !store.dir().exists() {
            return Ok(BTreeMap::new());
        }
        store.blobs().map_err(|error| Fault::stalled(format!("{}: {error}", store.dir().display())))
    }

    /// Every blob that another node has in its store, and which nodes could not be asked.
    pub(crate) async fn blobs_elsewhere(&self) -> Spread {
        match self.inner.peers.get() {
            Some(peers) => peers.blobs().await,
            None => Spread::default(),
        }
    }

    /// Brings a blob into the store that another node has in its. It goes on when whoever asked has
    /// stopped waiting.
    pub(crate) async fn gather(&self, digest: Digest, bytes: u64) -> Result<(), Fault> {
        let store = self.store();
        store
            .make()
            .map_err(|error| Fault::stalled(format!("{}: {error}", store.dir().display())))?;
        if store.has(&digest, bytes) {
            return Ok(());
        }
        store.has_room(bytes).map_err(Fault::stalled)?;
        let Some(peers) = self.inner.peers.get().cloned() else {
            return Err(Fault::not_found("no other node can be asked"));
        };
        let images = self.clone();
        let coming = tokio::spawn(async move {
            // Who asks again joins.
            let _turn = images.fly(digest.prefixed()).await;
            match store.has(&digest, bytes) {
                true => Ok(()),
                false => peers.fetch_blob((digest, bytes), &store).await,
            }
        });
        coming.await.map_err(|_| Fault::transient("fetching it was broken off"))?
    }

    fn noting(&self) -> MutexGuard<'_, ()> {
        self.inner.noting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until nobody else brings this from other nodes. Until all turns are dropped, the store is not
    /// cleared.
    async fn fly(&self, what: String) -> Turn {
        let flight = self.flights().entry(what.clone()).or_default().clone();
        // Also who stops waiting leaves.
        let mut turn = Turn { images: self.clone(), what, held: None };
        turn.held = Some(flight.lock_owned().await);
        turn
    }

    fn flights(&self) -> MutexGuard<'_, BTreeMap<String, Arc<tokio::sync::Mutex<()>>>> {
        self.inner.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What this node has of an image, for another. To get it ready costs as much as packing it.
    pub(crate) async fn offer(&self, name: &Reference, prepare: bool) -> Result<Offer, Fault> {
        let store = self.store();
        let stored = |store: &Store| {
            let entry = store.find(name)?;
            let blobs = store.blobs_of(&entry).ok()?;
            Some(Offer { entry: Some(entry), blobs })
        };
        if let Some(offer) = stored(&store) {
            return Ok(offer);
        }
        let asked = ImageName::Reference(name.clone());
        let archive = self.shelves().find(&asked).filter(|(at, _)| !at.is_dir());
        let in_docker = match (&archive, &name.version) {
            // Docker has no manifests: what it has can't be proved to be of that digest.
            (None, Version::Tag(_)) => self.inner.docker.find_image(&asked).await?,
            _ => None,
        };
        if archive.is_none() && in_docker.is_none() {
            return Err(Fault::not_found(format!("image {name} is not on this node")));
        }
        if !prepare {
            return Ok(Offer { entry: None, blobs: BTreeMap::new() });
        }
        let _turn = self.inner.loading.lock().await;
        if let Some(offer) = stored(&store) {
            return Ok(offer);
        }
        let bytes = in_docker.as_ref().map_or(0, |image| image.bytes.saturating_mul(2));
        let sources = Sources {
            archives: archive.iter().map(|(at, _)| at.clone()).collect(),
            docker: Some(self.inner.docker.clone()),
            registry: None,
        };
        let archives = archive.map(|(at, image)| vec![(at, vec![image])]).unwrap_or_default();
        let (own, name) = (store.clone(), name.clone());
        let handle = tokio::runtime::Handle::current();
        // Packing keeps a processor busy, and the agent has two threads for everything.
        let packing = tokio::task::spawn_blocking(move || {
            own.make().map_err(|error| format!("{}: {error}", own.dir().display()))?;
            own.has_room(bytes)?;
            let mut yard = Yard {
                store: &own,
                base: BTreeMap::new(),
                packed: BTreeMap::new(),
                reads_all: false,
            };
            let mut quiet = |_: &str| ();
            let taken = handle.block_on(sources.take(&name, &archives, &mut yard, &mut quiet))?;
            own.enter(vec![taken.entry]).map_err(|error| error.to_string())
        });
        let packed = packing.await.map_err(|_| Fault::transient("packing it was broken off"))?;
        packed.map_err(Fault::stalled)?;
        stored(&store).ok_or_else(|| Fault::transient("it was made ready and is gone"))
    }

    /// A blob of the store, no faster than images may be sent.
    pub(crate) async fn send(&self, digest: &Digest) -> Result<(u64, Pieces), Fault> {
        let path = self.store().blob(digest);
        let missing =
            |_| Fault::not_found(format!("blob {} is not on this node", digest.prefixed()));
        let file = tokio::fs::File::open(&path).await.map_err(missing)?;
        let bytes = file.metadata().await.map_err(missing)?.len();
        let images = self.clone();
        let pieces = futures_util::stream::try_unfold(file, move |mut file| {
            let images = images.clone();
            async move {
                let mut piece = vec![0; PIECE_BYTES];
                let count = file.read(&mut piece).await.map_err(Fault::transient)?;
                images.inner.pace.wait(count).await;
                piece.truncate(count);
                Ok((count > 0).then(|| (Bytes::from(piece), file)))
            }
        });
        Ok((bytes, Box::pin(pieces)))
    }

    /// Loads an image, unless Docker has it. It goes on when whoever asked has stopped waiting.
    async fn load(
        &self,
        at: PathBuf,
        image: Image,
        asked: Option<ImageName>,
    ) -> Result<ImageSeen, Fault> {
        let images = self.clone();
        let loading = tokio::spawn(async move {
            let _turn = images.inner.loading.lock().await;
            images.load_now(&at, image, asked.as_ref()).await
        });
        loading.await.map_err(|_| Fault::transient("loading the image was broken off"))?
    }

    async fn load_now(
        &self,
        at: &Path,
        image: Image,
        asked: Option<&ImageName>,
    ) -> Result<ImageSeen, Fault> {
        let Inner { docker, options, .. } = &*self.inner;
        let names = archive::docker_names(&image);
        let diff_ids: Vec<_> = image.layers.iter().map(|layer| layer.diff_id).collect();
        let began = Instant::now();
        let mut took = None;
        let mut found = docker.find_loaded(&image.config, &diff_ids, &names).await?;
        if found.is_none() {
            load::hand_over(docker, at, vec![image.clone()]).await?;
            found = docker.find_loaded(&image.config, &diff_ids, &names).await?;
            took = Some(began.elapsed());
            let took_ms = began.elapsed().as_millis();
            tracing::info!(image = names.join(", "), archive = %at.display(), took_ms, "loaded");
        }
        let found = found.ok_or_else(|| {
            let id = image.config.prefixed();
            Fault::stalled(format!("Docker has loaded {} and has no image {id}", at.display()))
        })?;
        load::remember(&options.digest_map, &image.digests, &found.id).map_err(|error| {
            Fault::stalled(format!("{}: {error}", options.digest_map.display()))
        })?;
        let given = names.iter().filter_map(|name| ImageName::parse(name).ok());
        let given = given.chain(asked.cloned()).map(|name| name.to_string());
        self.note_brought(&found.id, given, took.is_some());
        let mut seen = ImageSeen { pulled: took, ..found };
        if let Some(ImageName::Reference(asked)) = asked {
            match &asked.version {
                // A name that another image has borne since is its own again.
                Version::Tag(_) => docker.name_image(&seen.id, asked).await?,
                Version::Digest(_) => seen.digest = asked.to_string(),
            }
        }
        Ok(seen)
    }

    /// Watches the images directory for as long as somebody listens; a word for each time images have
    /// come.
    pub fn watch(&self) -> mpsc::Receiver<()> {
        let (tell, told) = mpsc::channel(1);
        let images = self.clone();
        tokio::spawn(async move {
            let directory = images.inner.options.directory.clone();
            let mut bell = shelf::Bell::hang(&directory);
            while !tell.is_closed() {
                if images.look().await {
                    // One word that waits says all that another would.
                    let _ = tell.try_send(());
                }
                bell.wait(LOOK_EVERY).await;
            }
        });
        told
    }

    /// Looks at the shelves once, loads what people have put there, and says whether images have come.
    pub async fn look(&self) -> bool {
        let directory = self.inner.options.directory.clone();
        let mut before = shelf::stamps(&directory);
        for _ in 0..QUIET_LOOKS_MAX {
            if self.shelves().is_as(&before) {
                return false;
            }
            tokio::time::sleep(QUIET).await;
            let now = shelf::stamps(&directory);
            if now == before {
                break;
            }
            before = now;
        }
        let news = self.survey(before).await;
        for (at, image) in &news {
            // The store's images are loaded when a pod needs them.
            if !at.is_dir()
                && let Err(fault) = self.load(at.clone(), image.clone(), None).await
            {
                tracing::warn!(archive = %at.display(), %fault, "can't be loaded");
            }
        }
        !news.is_empty()
    }

    /// Looks into what is new among these; what was found in it.
    async fn survey(&self, stamps: shelf::Stamps) -> Vec<(PathBuf, Image)> {
        // Who looks with older eyes than another did is mended by the next look.
        let _turn = self.inner.surveying.lock().await;
        let known = self.shelves().clone();
        let surveyed = tokio::task::spawn_blocking(move || known.survey(stamps)).await;
        let Ok((shelves, news)) = surveyed else { return Vec::new() };
        if let Err(error) = shelves.remember(&self.inner.options.catalogue) {
            let path = self.inner.options.catalogue.display();
            tracing::warn!(%path, %error, "what lies in the images directory is read anew at the next start");
        }
        *self.shelves() = shelves;
        news
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.held = None;
        let mut flights = self.images.flights();
        // Whoever else waits has it, too.
        if flights.get(&self.what).is_some_and(|flight| Arc::strong_count(flight) == 1) {
            flights.remove(&self.what);
        }
    }
}

/// Says where an image was not, beside why Docker does not have it.
fn tell(mut fault: Fault, misses: &[String]) -> Fault {
    if [REASON_PULL, REASON_NEVER_PULL].iter().any(|reason| fault.message.starts_with(reason)) {
        fault.message = format!("{}; {}", fault.message, misses.join("; "));
    }
    fault
}
