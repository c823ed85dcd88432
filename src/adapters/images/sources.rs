//! Where images can be taken from into a store: archives, a registry, this machine's Docker.
//!
//! An image that has a manifest is taken as it is, byte for byte, so that it can be pinned by its digest
//! where it goes. Docker's own store and `docker save` keep no manifests: what comes from there gets one
//! of ours, its layers packed with zstd, and is known by its name.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use futures_util::StreamExt as _;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::archive;
use super::layout::{
    CONFIG_TYPE, Descriptor, Document, Image, LAYER_TYPE, MANIFEST_TYPE, Platform, blob_path,
    digest_of_path,
};
use super::registry::{self, Repository};
use super::store::{self, Store};
use crate::adapters::docker::Docker;
use crate::kinds::digest::Digest;
use crate::kinds::image::{Reference, Version};

/// zstd's own default: a third smaller than gzip's, and as fast as a disk.
const LEVEL: i32 = 3;
/// How deep an index may lie in another.
const DEPTH_MAX: usize = 3;

/// Where images may be taken from.
pub struct Sources {
    /// Archives, and directories of them.
    pub archives: Vec<PathBuf>,
    /// This machine's Docker.
    pub docker: Option<Docker>,
    /// Registries.
    pub registry: Option<registry::Options>,
}

/// A layer that was packed on the way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Packed {
    /// What it is unpacked.
    pub diff_id: Digest,
    /// What it was packed to.
    pub blob: Digest,
    /// How long that is.
    pub bytes: u64,
}

/// An image that was taken.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Taken {
    /// As it stands in the store's page.
    pub(crate) entry: Descriptor,
    /// Everything that belongs to it.
    pub(crate) blobs: BTreeMap<Digest, u64>,
    /// Where it came from.
    pub(crate) from: String,
}

/// What need not be taken: the base has it, or it was taken before.
pub(crate) struct Yard<'a> {
    pub(crate) store: &'a Store,
    pub(crate) base: BTreeMap<Digest, u64>,
    pub(crate) packed: BTreeMap<Digest, Packed>,
    /// Whether the store is to have every layer, to be read: as it goes into the bundle or, if the base has
    /// that, unpacked.
    pub(crate) reads_all: bool,
}

impl Yard<'_> {
    fn has(&self, digest: &Digest, bytes: u64) -> bool {
        !self.reads_all && self.spares(digest, bytes) || self.store.has(digest, bytes)
    }

    fn spares(&self, digest: &Digest, bytes: u64) -> bool {
        self.base.get(digest) == Some(&bytes)
    }

    /// Whether everything of an image is there that need be.
    pub(crate) fn has_all(&self, image: &Taken) -> bool {
        let mut blobs = image.blobs.iter();
        let is_there = |(digest, bytes): (&Digest, &u64)| {
            self.spares(digest, *bytes) || self.store.has(digest, *bytes)
        };
        let can_be_read = || {
            let layers = self.store.layers_of(&image.entry);
            layers.is_ok_and(|layers| layers.iter().all(|layer| self.store.either(layer).is_some()))
        };
        blobs.all(is_there) && (!self.reads_all || can_be_read())
    }
}

/// Where an image was not, and why.
type Misses = Vec<String>;

impl Sources {
    /// Every archive, with what is in it.
    pub(crate) fn survey(&self) -> Result<Vec<(PathBuf, Vec<Image>)>, String> {
        let mut found = Vec::new();
        for path in &self.archives {
            let is_layout = path.join("oci-layout").is_file();
            let paths: Vec<PathBuf> = if path.is_dir() && !is_layout {
                let entries =
                    fs::read_dir(path).map_err(|error| format!("{}: {error}", path.display()))?;
                entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect()
            } else {
                vec![path.clone()]
            };
            for at in paths {
                match archive::survey(&at) {
                    Ok(images) => found.push((at, images)),
                    // Of a directory, what is no archive is passed over; what was named must be one.
                    Err(why) if at == *path => return Err(format!("{}: {why}", at.display())),
                    Err(why) => tracing::warn!(archive = %at.display(), why, "passed over"),
                }
            }
        }
        Ok(found)
    }

    /// Takes an image from where it is found first.
    pub(crate) async fn take(
        &self,
        name: &Reference,
        archives: &[(PathBuf, Vec<Image>)],
        yard: &mut Yard<'_>,
        tell: &mut (dyn FnMut(&str) + Send),
    ) -> Result<Taken, String> {
        let mut misses = Misses::new();
        for (at, images) in archives {
            if let Some(image) = images.iter().find(|image| image.is(name)) {
                tell(&at.display().to_string());
                return import(at, image, name, yard)
                    .map_err(|why| format!("{}: {why}", at.display()));
            }
        }
        if !archives.is_empty() {
            misses.push(format!("it is in none of {} archives", archives.len()));
        }
        // Docker keeps no manifest, so what is pinned by digest is asked of the registry first.
        let is_pinned = matches!(name.version, Version::Digest(_));
        for is_registry in [is_pinned, !is_pinned] {
            let taken = match (is_registry, &self.registry, &self.docker) {
                (true, Some(options), _) => {
                    tell(&name.domain);
                    from_registry(options, name, yard, tell).await
                }
                (false, _, Some(docker)) => {
                    tell("Docker");
                    from_docker(docker, name, yard).await
                }
                _ => continue,
            };
            match taken {
                Ok(taken) => return Ok(taken),
                Err(why) => misses.push(why),
            }
        }
        Err(misses.join("; "))
    }
}

/// Takes an image out of an archive.
fn import(
    at: &Path,
    image: &Image,
    name: &Reference,
    yard: &mut Yard<'_>,
) -> Result<Taken, String> {
    if image.digests.is_empty() {
        repack(at, image, name, yard)
    } else {
        keep(at, image, name, yard)
    }
}

/// As it is, with its manifest.
fn keep(at: &Path, image: &Image, name: &Reference, yard: &mut Yard<'_>) -> Result<Taken, String> {
    let documents = image.digests.iter().map(blob_path);
    let layers = image.layers.iter().map(|layer| layer.path.clone());
    let paths: BTreeSet<String> =
        documents.chain([image.config_path.clone()]).chain(layers).collect();
    let mut blobs = BTreeMap::new();
    archive::read(at, &paths, &mut |path, bytes, content| {
        let digest = digest_of_path(path).ok_or_else(|| format!("{path} is no blob"))?;
        if !yard.has(&digest, bytes) {
            let said = |error: io::Error| format!("{path}: {error}");
            let mut coming = yard.store.receive(Some(digest)).map_err(said)?;
            io::copy(content, &mut coming).map_err(said)?;
            coming.end().map_err(said)?;
        }
        blobs.insert(digest, bytes);
        Ok(())
    })?;
    let top = image.digests.first().ok_or("it has no manifest")?;
    let bytes = *blobs.get(top).ok_or("its manifest has gone from it")?;
    let entry = store::entry(&name.to_string(), *top, bytes, "");
    Ok(Taken { entry, blobs, from: at.display().to_string() })
}

/// With a manifest of ours, its layers packed.
fn repack(
    at: &Path,
    image: &Image,
    name: &Reference,
    yard: &mut Yard<'_>,
) -> Result<Taken, String> {
    if matches!(name.version, Version::Digest(_)) {
        return Err(
            "it has no manifest, so nothing proves that it is the image of that digest".into()
        );
    }
    let mut wanted: BTreeMap<String, Digest> = BTreeMap::new();
    // By another release of zstd it might come out otherwise, and be sent again.
    let is_packed = |yard: &Yard<'_>, diff_id: &Digest| {
        let packed = yard.packed.get(diff_id);
        packed.is_some_and(|p| yard.spares(&p.blob, p.bytes) || yard.store.has(&p.blob, p.bytes))
    };
    for layer in &image.layers {
        let is_there = match yard.packed.get(&layer.diff_id) {
            Some(packed) if yard.reads_all => {
                yard.store.either(&(packed.blob, layer.diff_id)).is_some()
            }
            _ => is_packed(yard, &layer.diff_id),
        };
        if !is_there {
            wanted.insert(layer.path.clone(), layer.diff_id);
        }
    }
    let mut config = Vec::new();
    let mut paths: BTreeSet<String> = wanted.keys().cloned().collect();
    paths.insert(image.config_path.clone());
    archive::read(at, &paths, &mut |path, _, content| {
        if path == image.config_path {
            return content
                .read_to_end(&mut config)
                .map(|_| ())
                .map_err(|e| format!("{path}: {e}"));
        }
        let Some(diff_id) = wanted.get(path) else { return Ok(()) };
        if is_packed(yard, diff_id) {
            let unpack = || {
                let mut coming = yard.store.receive(Some(*diff_id))?;
                io::copy(&mut archive::unpacked(content)?, &mut coming)?;
                coming.end()
            };
            return unpack().map(|_| ()).map_err(|error| format!("{path}: {error}"));
        }
        let packed = pack(yard.store, content).map_err(|error| format!("{path}: {error}"))?;
        if packed.diff_id != *diff_id {
            return Err(format!("{path} is not the layer that its config names"));
        }
        yard.packed.insert(*diff_id, packed);
        Ok(())
    })?;
    let said = |error: io::Error| format!("{}: {error}", yard.store.dir().display());
    let config_bytes = config.len() as u64;
    let config = yard.store.keep(&config).map_err(said)?;
    if config != image.config {
        return Err("its config has changed while it was read".into());
    }
    let describe = |kind: &str, digest: &Digest, size| Descriptor {
        media_type: kind.to_owned(),
        digest: digest.prefixed(),
        size,
        ..Descriptor::default()
    };
    let mut blobs = BTreeMap::from([(config, config_bytes)]);
    let mut layers = Vec::new();
    for layer in &image.layers {
        let packed = yard.packed.get(&layer.diff_id);
        let packed = packed.ok_or_else(|| format!("{} has gone from it", layer.path))?;
        blobs.insert(packed.blob, packed.bytes);
        layers.push(describe(LAYER_TYPE, &packed.blob, packed.bytes));
    }
    let manifest = Document {
        schema_version: 2,
        media_type: MANIFEST_TYPE.to_owned(),
        config: Some(describe(CONFIG_TYPE, &config, config_bytes)),
        layers,
        manifests: None,
    };
    let manifest = serde_json::to_vec(&manifest).map_err(|error| error.to_string())?;
    let bytes = manifest.len() as u64;
    let digest = yard.store.keep(&manifest).map_err(said)?;
    blobs.insert(digest, bytes);
    let entry = store::entry(&name.to_string(), digest, bytes, MANIFEST_TYPE);
    Ok(Taken { entry, blobs, from: at.display().to_string() })
}

/// Packs a layer into the store.
fn pack(store: &Store, content: &mut dyn Read) -> io::Result<Packed> {
    let mut hasher = Sha256::new();
    let mut zstd = zstd::stream::write::Encoder::new(store.receive(None)?, LEVEL)?;
    let mut plain = archive::unpacked(content)?;
    let mut piece = vec![0; 256 << 10];
    loop {
        let count = plain.read(&mut piece)?;
        if count == 0 {
            break;
        }
        hasher.update(&piece[..count]);
        zstd.write_all(&piece[..count])?;
    }
    let (blob, bytes) = zstd.finish()?.end()?;
    Ok(Packed { diff_id: Digest::from_bytes(hasher.finalize().into()), blob, bytes })
}

/// By way of an archive beside the store, which is gone afterwards.
async fn from_docker(
    docker: &Docker,
    name: &Reference,
    yard: &mut Yard<'_>,
) -> Result<Taken, String> {
    let spool = yard.store.dir().join("docker-save.tar");
    let taken = async {
        let said = |error: io::Error| format!("{}: {error}", spool.display());
        let archive = docker.save(&name.to_string()).await.map_err(|fault| fault.to_string())?;
        let mut archive = std::pin::pin!(archive);
        let mut file = File::create(&spool).map_err(said)?;
        while let Some(piece) = archive.next().await {
            let piece = piece.map_err(|fault| format!("Docker: {fault}"))?;
            file.write_all(&piece).map_err(said)?;
        }
        drop(file);
        let images = archive::survey(&spool).map_err(|why| format!("Docker: {why}"))?;
        let image = images.iter().find(|image| image.is(name)).or(images.first());
        let mut image = image.cloned().ok_or("Docker has saved nothing")?;
        if !image.is(name) || !matches!(name.version, Version::Digest(_)) {
            // A manifest that Docker has made for the occasion proves nothing, and its layers are not
            // packed.
            image.digests.clear();
        }
        import(&spool, &image, name, yard)
    };
    let taken = taken.await;
    let _ = fs::remove_file(&spool);
    taken.map(|taken| Taken { from: "Docker".to_owned(), ..taken })
}

/// Blob by blob; what is there is not asked for.
async fn from_registry(
    options: &registry::Options,
    name: &Reference,
    yard: &mut Yard<'_>,
    tell: &mut (dyn FnMut(&str) + Send),
) -> Result<Taken, String> {
    let mut repository = Repository::new(options, name);
    let said = |fault: crate::ports::Fault| fault.to_string();
    let disk = |error: io::Error| error.to_string();
    let top = repository.manifest(name.version_text()).await.map_err(said)?;
    let entry =
        store::entry(&name.to_string(), top.digest, top.content.len() as u64, &top.media_type);
    let mut blobs = BTreeMap::new();
    let mut at = top;
    let mut document: Document;
    let mut depth = 0;
    loop {
        yard.store.keep(&at.content).map_err(disk)?;
        blobs.insert(at.digest, at.content.len() as u64);
        document = serde_json::from_slice(&at.content)
            .map_err(|error| format!("its manifest: {error}"))?;
        let Some(manifests) = &document.manifests else { break };
        let is_ours = |one: &&Descriptor| one.platform.as_ref().is_none_or(Platform::is_ours);
        let ours = manifests.iter().find(is_ours);
        let ours = ours.ok_or("there is none for this machine's processor")?;
        depth += 1;
        if depth > DEPTH_MAX {
            return Err("its index leads on and on".into());
        }
        at = repository.manifest(&ours.digest).await.map_err(said)?;
    }
    let config = document.config.into_iter();
    for blob in config.chain(document.layers) {
        let digest = blob.digest()?;
        if !yard.has(&digest, blob.size) {
            let total = blob.size >> 20;
            let mut done = 0;
            let mut tell = |more: u64| {
                done += more;
                tell(&format!("{}, {} of {total} MB", name.domain, done >> 20));
            };
            repository.blob((digest, blob.size), yard.store, &mut tell).await.map_err(said)?;
        }
        blobs.insert(digest, blob.size);
    }
    Ok(Taken { entry, blobs, from: name.domain.clone() })
}
