//! Images from neighbours.
//!
//! ```text
//!   every node ◀─ have you got it? ─ this one          all at once, a short question
//!   those who have it in their store ◀─ blob by blob   up to three at once, each blob checked
//!   where only Dockers have it, one makes it ready     docker save, packed into its store
//! ```
//! Layers that are here are not asked for, nor those that Docker has of other images. A neighbour that
//! fails is left out, and its blob asked of another; what has come stays, so the next try is shorter.
//!
//! The limit: what an image named by a tag is, the neighbour says. Only a digest proves it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::future::join_all;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::Instant;

use super::Spread;
use super::layout::{Descriptor, Image, Layer};
use super::receive::receive;
use super::store::{self, Store};
use crate::adapters::api::{BLOBS, IMAGES};
use crate::adapters::docker::Docker;
use crate::adapters::line::Lines;
use crate::kinds::digest::Digest;
use crate::kinds::image::{Reference, Version};
use crate::kinds::name::NodeName;
use crate::ports::Fault;
use crate::view::picture::Picture;

/// So many neighbours are asked for one image.
const ASKED_MAX: usize = 16;
/// So many of them send at once.
const SENDERS_MAX: usize = 3;
/// How long a neighbour may take to say whether he has it.
const ANSWER_MAX: Duration = Duration::from_secs(5);
/// How long he may take to get it ready: `docker save` of a few gigabytes on a slow disk.
const READY_MAX: Duration = Duration::from_secs(900);
/// How long a sender may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// Who sends a blob more slowly is left: another may have it.
const SLOWEST_BYTES_PER_S: u64 = 256 << 10;
const OFFER_BYTES_MAX: usize = 1 << 20;
/// A store of ten thousand images.
const LIST_BYTES_MAX: usize = 16 << 20;
/// An image's papers: its index, perhaps one below that, its manifest, its config.
const PAPERS_MAX: usize = 8;

/// What a neighbour has of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Offer {
    /// How it stands in his store's page; none if he would have to get it ready.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) entry: Option<Descriptor>,
    /// What belongs to it.
    #[serde(default)]
    pub(crate) blobs: BTreeMap<Digest, u64>,
}

/// What has come.
#[derive(Debug)]
pub(super) enum Fetched {
    /// All of the image: it stands in the store's page.
    Whole,
    /// What Docker does not have of it. Only Docker can put it together.
    Rest(Image),
}

/// The way to other nodes.
#[derive(Clone)]
pub struct Peers {
    /// Lines to them.
    pub lines: Lines,
    /// Who they are.
    pub pictures: watch::Receiver<Arc<Picture>>,
}

/// A neighbour.
#[derive(Clone, Debug)]
struct Peer {
    node: NodeName,
    at: SocketAddr,
    key: String,
    from: Option<IpAddr>,
}

impl Peers {
    /// Brings an image into the store; or says who was asked, and what was wrong. Layers that `docker` has
    /// are left out.
    pub(super) async fn fetch(
        &self,
        name: &Reference,
        store: &Store,
        docker: Option<&Docker>,
        tell: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Fetched, String> {
        let mut peers = self.neighbours(&name.path);
        peers.truncate(ASKED_MAX);
        if peers.is_empty() {
            return Err("no other node can be asked".into());
        }
        let answers = join_all(peers.iter().map(|peer| self.ask(peer, name, false))).await;
        let mut offers: Vec<(Peer, Offer)> = Vec::new();
        let mut misses = Vec::new();
        for (peer, answer) in peers.into_iter().zip(answers) {
            match answer {
                Ok(offer) => offers.push((peer, offer)),
                Err(fault) => misses.push(format!("node {}: {fault}", peer.node)),
            }
        }
        // Whoever has it in his store sends it as it is; only if nobody has, one gets it ready.
        offers.sort_by_key(|(_, offer)| offer.entry.is_none());
        let Some((first, offer)) = offers.first().cloned() else {
            return Err(misses.join("; "));
        };
        let offer = match offer.entry {
            Some(_) => offer,
            None => self
                .ask(&first, name, true)
                .await
                .map_err(|fault| format!("node {}: {fault}", first.node))?,
        };
        let offered =
            offer.entry.as_ref().ok_or_else(|| format!("node {} has lost it", first.node))?;
        proves(name, offered)?;
        // Under the name that was asked for, whatever else he calls it.
        let entry =
            store::entry(&name.to_string(), offered.digest()?, offered.size, &offered.media_type);
        let mut senders = vec![first.clone()];
        let same = offers.into_iter().filter(|(peer, other)| {
            peer.node != first.node
                && other.entry.as_ref().is_some_and(|its| its.digest == entry.digest)
        });
        senders.extend(same.map(|(peer, _)| peer).take(SENDERS_MAX - 1));
        store.make().map_err(|error| format!("{}: {error}", store.dir().display()))?;
        let mut image = self.papers(&senders, &entry, &offer.blobs, store).await?;
        let diff_ids: Vec<Digest> = image.layers.iter().map(|layer| layer.diff_id).collect();
        let held = match docker {
            // If it can't be asked, all is fetched.
            Some(docker) => docker.layers_held(&diff_ids).await.unwrap_or(0),
            None => 0,
        };
        for layer in image.layers.iter_mut().take(held) {
            layer.is_held = true;
        }
        let missing = wanted(offer.blobs, &image);
        self.receive(&senders, &missing, store, tell).await?;
        match store.blobs_of(&entry) {
            Ok(_) => {}
            Err(_) if held > 0 => return Ok(Fetched::Rest(image)),
            Err(why) => return Err(why),
        }
        let entered = store.enter(vec![entry]);
        entered.map_err(|error| format!("{}: {error}", store.dir().display()))?;
        Ok(Fetched::Whole)
    }

    /// Brings the papers of an image, by which its layers are known.
    async fn papers(
        &self,
        senders: &[Peer],
        entry: &Descriptor,
        offered: &BTreeMap<Digest, u64>,
        store: &Store,
    ) -> Result<Image, String> {
        for _ in 0..PAPERS_MAX {
            let Some(paper) = store.paper_missing(entry)? else { return store.image(entry) };
            let bytes = offered.get(&paper).ok_or_else(|| format!("nobody offers {paper}"))?;
            self.blob_of_any(senders, (paper, *bytes), store).await?;
        }
        Err("its index leads on and on".into())
    }

    /// Brings a blob that one of them has in its store; or says why none does.
    pub(super) async fn fetch_blob(&self, blob: (Digest, u64), store: &Store) -> Result<(), Fault> {
        let peers = self.neighbours(&blob.0.hex());
        if peers.is_empty() {
            return Err(Fault::not_found("no other node can be asked"));
        }
        self.blob_of_any(&peers, blob, store).await.map_err(Fault::not_found)
    }

    /// Brings a blob of the first that sends it, each in its turn.
    async fn blob_of_any(
        &self,
        peers: &[Peer],
        blob: (Digest, u64),
        store: &Store,
    ) -> Result<(), String> {
        let longest = SILENCE_MAX + Duration::from_secs(blob.1 / SLOWEST_BYTES_PER_S);
        let mut misses = Vec::new();
        for peer in peers {
            let mut quiet = |_| ();
            let coming = self.blob(peer, blob, store, &mut quiet);
            let came = tokio::time::timeout(longest, coming).await;
            match came.unwrap_or_else(|_| Err(Fault::deadline("it sends too slowly"))) {
                Ok(()) => return Ok(()),
                Err(fault) => misses.push(format!("node {}: {fault}", peer.node)),
            }
        }
        Err(misses.join("; "))
    }

    /// Every blob in the stores of all that answer, and who did not.
    pub(super) async fn blobs(&self) -> Spread {
        let asked = self.neighbours("").into_iter().map(|peer| async move {
            let told = self.told::<BTreeMap<_, _>>(&peer, BLOBS, LIST_BYTES_MAX, ANSWER_MAX).await;
            told.map_err(|fault| format!("node {}: {fault}", peer.node))
        });
        let told: Vec<_> =
            futures_util::stream::iter(asked).buffer_unordered(ASKED_MAX).collect().await;
        let (mut lists, mut silent) = (Vec::new(), Vec::new());
        for told in told {
            match told {
                Ok(its) => lists.push(its),
                Err(why) => silent.push(why),
            }
        }
        silent.sort();
        Spread { blobs: agreed(lists), silent }
    }

    /// Other nodes that answer, in an order of their own for each thing and each asker, so that not all
    /// ask the same.
    fn neighbours(&self, thing: &str) -> Vec<Peer> {
        let picture = self.pictures.borrow().clone();
        let own = picture.nodes.get(&picture.node);
        let from = own.and_then(|own| own.facts.addresses.first().copied());
        let mut peers: Vec<(u64, Peer)> = picture
            .nodes
            .iter()
            .filter(|(node, _)| **node != picture.node)
            .filter(|(node, _)| picture.state.nodes.get(*node).is_none_or(|its| its.lost.is_none()))
            .filter(|(node, _)| picture.doubt_of(node).is_none())
            .filter_map(|(node, input)| {
                let contact = input.facts.contact.as_ref()?;
                let at = SocketAddr::new(*input.facts.addresses.first()?, contact.api_port?);
                let parts = [picture.node.as_str(), node.as_str(), thing].map(str::as_bytes);
                let order = Digest::of_parts(parts).first_u64();
                Some((order, Peer { node: node.clone(), at, key: contact.key.clone(), from }))
            })
            .collect();
        peers.sort_by_key(|(order, _)| *order);
        peers.into_iter().map(|(_, peer)| peer).collect()
    }

    async fn ask(&self, peer: &Peer, name: &Reference, prepare: bool) -> Result<Offer, Fault> {
        let longest = if prepare { READY_MAX } else { ANSWER_MAX };
        self.told(peer, &question(name, prepare), OFFER_BYTES_MAX, longest).await
    }

    /// What a neighbour answers in JSON.
    async fn told<T: DeserializeOwned>(
        &self,
        peer: &Peer,
        path: &str,
        bytes_max: usize,
        longest: Duration,
    ) -> Result<T, Fault> {
        let asking = async {
            let answer = self.get(peer, path).await?;
            let body = Limited::new(answer.into_body(), bytes_max).collect().await;
            let body = body.map_err(|error| Fault::transient(format!("its answer: {error}")))?;
            serde_json::from_slice(&body.to_bytes()).map_err(Fault::stalled)
        };
        let asked = tokio::time::timeout(longest, asking).await;
        asked.map_err(|_| Fault::deadline(format!("no answer within {longest:?}")))?
    }

    async fn get(&self, peer: &Peer, path: &str) -> Result<Response<Incoming>, Fault> {
        let line = self.lines.dial(peer.at, peer.from, &peer.key).await?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(line))
            .await
            .map_err(Fault::transient)?;
        // It ends with the answer's body.
        tokio::spawn(connection);
        let request = Request::get(path).header("host", "node").body(Empty::<Bytes>::new());
        let answer = sender.send_request(request.map_err(Fault::stalled)?).await;
        let answer = answer.map_err(Fault::transient)?;
        match answer.status() {
            StatusCode::OK => Ok(answer),
            StatusCode::NOT_FOUND => Err(Fault::not_found("does not have it")),
            status => {
                let body = Limited::new(answer.into_body(), OFFER_BYTES_MAX).collect().await;
                let body = body.map(http_body_util::Collected::to_bytes).unwrap_or_default();
                let json: serde_json::Value = serde_json::from_slice(&body).unwrap_or_default();
                let why = json["message"].as_str().unwrap_or_default();
                Err(Fault::transient(format!("{status}: {why}")))
            }
        }
    }

    /// Has the senders send what is missing.
    async fn receive(
        &self,
        senders: &[Peer],
        blobs: &BTreeMap<Digest, u64>,
        store: &Store,
        tell: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<(), String> {
        let is_missing = |(digest, bytes): &(&Digest, &u64)| !store.has(digest, **bytes);
        let total: u64 = blobs.iter().filter(is_missing).map(|(_, bytes)| bytes).sum();
        store.has_room(total)?;
        let done = AtomicU64::new(0);
        let (mut left, mut faults): (Vec<&Peer>, _) = (senders.iter().collect(), Vec::new());
        loop {
            let missing = blobs.iter().filter(is_missing);
            let mut missing: Vec<(Digest, u64)> =
                missing.map(|(digest, bytes)| (*digest, *bytes)).collect();
            if missing.is_empty() {
                return Ok(());
            }
            // The largest first: the others fit beside it.
            missing.sort_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
            let waiting = Mutex::new(VecDeque::from(missing));
            let came = |count| {
                let done = done.fetch_add(count, Ordering::Relaxed) + count;
                tell(done.min(total), total);
            };
            // What one could not send, those who have not failed try in the next round.
            let work = left.iter().map(|peer| self.drain(peer, &waiting, store, &came));
            let outcomes = join_all(work).await;
            let failed: Vec<bool> = outcomes.iter().map(Option::is_some).collect();
            faults.extend(outcomes.into_iter().flatten());
            let before = left.len();
            left = left.into_iter().zip(failed).filter(|(_, f)| !f).map(|(peer, _)| peer).collect();
            if left.is_empty() || left.len() == before {
                let is_whole = blobs.iter().all(|blob| !is_missing(&blob));
                return if is_whole { Ok(()) } else { Err(faults.join("; ")) };
            }
        }
    }

    /// Has a neighbour send what waits, until nothing does or he fails; then why.
    async fn drain(
        &self,
        peer: &Peer,
        waiting: &Mutex<VecDeque<(Digest, u64)>>,
        store: &Store,
        came: &(dyn Fn(u64) + Sync),
    ) -> Option<String> {
        let next = || waiting.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        while let Some(blob) = next() {
            if let Err(fault) = self.blob(peer, blob, store, &mut |count| came(count)).await {
                tracing::warn!(node = %peer.node, blob = %blob.0, %fault, "a blob of an image did not come");
                return Some(format!("node {}: {fault}", peer.node));
            }
        }
        None
    }

    async fn blob(
        &self,
        peer: &Peer,
        blob: (Digest, u64),
        store: &Store,
        tell: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), Fault> {
        let path = format!("{BLOBS}{}", blob.0.prefixed());
        let answer = tokio::time::timeout(ANSWER_MAX * 2, self.get(peer, &path)).await;
        let body = answer.map_err(|_| Fault::deadline("it does not answer"))??.into_body();
        receive(body, blob, store, SILENCE_MAX, tell).await
    }
}

/// What must come of what is offered: not the layers that Docker has, unless they lie higher up as well.
fn wanted(mut offered: BTreeMap<Digest, u64>, image: &Image) -> BTreeMap<Digest, u64> {
    let (held, new): (Vec<_>, Vec<_>) = image.layers.iter().partition(|layer| layer.is_held);
    let new: Vec<_> = new.into_iter().filter_map(Layer::blob).collect();
    for digest in held.into_iter().filter_map(Layer::blob).filter(|digest| !new.contains(digest)) {
        offered.remove(&digest);
    }
    offered
}

/// What nobody contradicts: one of those who give a blob another length is wrong, and it is not counted on.
fn agreed(lists: Vec<BTreeMap<Digest, u64>>) -> BTreeMap<Digest, u64> {
    let mut lengths: BTreeMap<Digest, BTreeSet<u64>> = BTreeMap::new();
    for (digest, bytes) in lists.into_iter().flatten() {
        lengths.entry(digest).or_default().insert(bytes);
    }
    let one = |(digest, lengths): (Digest, BTreeSet<u64>)| {
        Some((digest, lengths.first().copied().filter(|_| lengths.len() == 1)?))
    };
    lengths.into_iter().filter_map(one).collect()
}

fn question(name: &Reference, prepare: bool) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("name", &name.to_string());
    if prepare {
        query.append_pair("prepare", "true");
    }
    format!("{IMAGES}?{}", query.finish())
}

/// Whether an image that is offered is the one of the digest that is asked for. That its manifest is
/// what it is called by, is checked when it comes.
fn proves(name: &Reference, entry: &Descriptor) -> Result<(), String> {
    match &name.version {
        Version::Digest(digest) if *digest != entry.digest => {
            Err(format!("what is offered is {}, and that is another", entry.digest))
        }
        _ => Ok(()),
    }
}

/// How fast images are sent, all together.
#[derive(Debug)]
pub(super) struct Pace {
    bytes_per_s: Option<u64>,
    next: Mutex<Option<Instant>>,
}

impl Pace {
    pub(super) fn new(bytes_per_s: Option<u64>) -> Self {
        Self { bytes_per_s, next: Mutex::new(None) }
    }

    /// Waits until so many bytes may be sent.
    pub(super) async fn wait(&self, bytes: usize) {
        let Some(rate) = self.bytes_per_s else { return };
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let turn = next.map_or(now, |next| next.max(now));
            let takes =
                Duration::from_micros((bytes as u64).saturating_mul(1_000_000) / rate.max(1));
            *next = Some(turn + takes);
            turn
        };
        tokio::time::sleep_until(turn).await;
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::blob_path;
    use super::*;

    #[tokio::test]
    async fn images_are_sent_no_faster_than_they_may_be() {
        let pace = Pace::new(Some(10_000));
        let began = Instant::now();
        tokio::join!(pace.wait(1000), pace.wait(1000), pace.wait(1000));
        assert!(began.elapsed() >= Duration::from_millis(200), "{:?}", began.elapsed());
        let unbounded = Pace::new(None);
        let began = Instant::now();
        for _ in 0..100 {
            unbounded.wait(1 << 30).await;
        }
        assert!(began.elapsed() < Duration::from_secs(1));
    }

    #[test]
    fn what_is_told_in_two_ways_is_not_counted_on() {
        let (one, two) = (Digest::of(b"one"), Digest::of(b"two"));
        let lists = vec![[(one, 1), (two, 2)].into(), [(one, 1)].into(), [(two, 3)].into()];
        assert_eq!(agreed(lists), [(one, 1)].into());
    }

    #[test]
    fn what_docker_has_is_not_asked_for() {
        let digest = |text: &str| Digest::of(text.as_bytes());
        let layer = |text: &str, is_held| Layer {
            path: blob_path(&digest(text)),
            diff_id: digest(text),
            zstd_bytes: None,
            is_held,
        };
        let offered: BTreeMap<Digest, u64> =
            ["manifest", "base", "empty", "app"].map(|text| (digest(text), 1)).into();
        let image = |held: usize| Image {
            names: Vec::new(),
            digests: Vec::new(),
            config: digest("config"),
            config_path: String::new(),
            layers: ["base", "empty", "app", "empty"]
                .iter()
                .enumerate()
                .map(|(number, text)| layer(text, number < held))
                .collect(),
        };
        for (held, left) in [
            (0, &["manifest", "base", "empty", "app"][..]),
            (1, &["manifest", "empty", "app"]),
            (2, &["manifest", "empty", "app"]),
            (3, &["manifest", "empty"]),
            (4, &["manifest"]),
        ] {
            let left: BTreeMap<Digest, u64> = left.iter().map(|text| (digest(text), 1)).collect();
            assert_eq!(wanted(offered.clone(), &image(held)), left, "{held}");
        }
    }

    #[test]
    fn another_image_than_the_one_asked_for_is_not_taken() {
        let digest = |text: &[u8]| Digest::of(text).prefixed();
        let offer = |text: &[u8]| Descriptor { digest: digest(text), ..Descriptor::default() };
        let pinned =
            Reference::parse(&format!("r.example/app@{}", digest(b"one"))).expect("a name");
        assert!(proves(&pinned, &offer(b"one")).is_ok());
        assert!(proves(&pinned, &offer(b"two")).is_err());
        let tagged = Reference::parse("r.example/app:1").expect("a name");
        assert!(proves(&tagged, &offer(b"two")).is_ok(), "what a tag means the neighbour says");
    }
}
