//! What an image is made of, as the OCI image specification and `docker save` write it down.
//!
//! ```text
//!   index.json ─▶ (index ─▶)* manifest ─▶ config: its digest is Docker's id of the image
//!                                     └─▶ layers: packed; unpacked they must be the config's diff ids
//! ```
//! <https://github.com/opencontainers/image-spec/blob/main/image-layout.md>; `docker save` before
//! Docker 25 writes `manifest.json` alone, which names a config and layers and has no digest.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::adapters::docker::archive::ARCHITECTURE;
use crate::kinds::digest::Digest;
use crate::kinds::image::{Reference, Version};

/// The file that says of a directory that it is a layout.
pub(crate) const LAYOUT_FILE: &str = "oci-layout";
/// Its content.
pub(crate) const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// The file in which a layout's images stand.
pub(crate) const INDEX_FILE: &str = "index.json";
/// The file in which those of `docker save` stand.
pub(crate) const DOCKER_FILE: &str = "manifest.json";
/// Where blobs are.
pub(crate) const BLOBS: &str = "blobs/sha256/";
/// Manifests, indexes and configs are at most this long; registries refuse manifests above 4 MiB.
pub(crate) const JSON_BYTES_MAX: u64 = 8 << 20;

/// containerd's annotation with an image's whole name.
pub(crate) const NAME: &str = "io.containerd.image.name";
/// The specification's; often a tag alone.
const REF_NAME: &str = "org.opencontainers.image.ref.name";

/// What manifests of ours say they are.
pub(crate) const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
/// What an index of ours says it is.
const INDEX_TYPE: &str = "application/vnd.oci.image.index.v1+json";
/// What a config of ours says it is.
pub(crate) const CONFIG_TYPE: &str = "application/vnd.oci.image.config.v1+json";
/// A layer packed by us.
pub(crate) const LAYER_TYPE: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// What a registry is asked for: OCI's forms, and Docker's older ones.
pub(crate) const ACCEPTED: [&str; 4] = [
    INDEX_TYPE,
    MANIFEST_TYPE,
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
];

/// A blob, as a manifest or an index names it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Descriptor {
    /// What it is.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) media_type: String,
    /// Its digest.
    pub(crate) digest: String,
    /// Its length.
    pub(crate) size: u64,
    /// What it runs on, in an index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) platform: Option<Platform>,
    /// Names, among others.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(crate) annotations: BTreeMap<String, String>,
}

impl Descriptor {
    /// The digest, if it is one that we know.
    pub(crate) fn digest(&self) -> Result<Digest, String> {
        Digest::parse(&self.digest).ok_or_else(|| format!("{:?} is no SHA-256 digest", self.digest))
    }
}

/// A processor and a system.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Platform {
    pub(crate) architecture: String,
    pub(crate) os: String,
}

/// An index or a manifest: which of the two, is told by what it holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Document {
    pub(crate) schema_version: u32,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) media_type: String,
    /// Of an index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) manifests: Option<Vec<Descriptor>>,
    /// Of a manifest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) config: Option<Descriptor>,
    /// Of a manifest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) layers: Vec<Descriptor>,
}

impl Document {
    /// An index of these.
    pub(crate) fn index(manifests: Vec<Descriptor>) -> Self {
        Self {
            schema_version: 2,
            media_type: INDEX_TYPE.to_owned(),
            manifests: Some(manifests),
            ..Self::default()
        }
    }
}

/// What of a config is of interest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    pub(crate) architecture: String,
    pub(crate) os: String,
    pub(crate) rootfs: RootFs,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct RootFs {
    pub(crate) diff_ids: Vec<String>,
}

impl Config {
    /// Reads a config; what is unpacked from the layers must have these digests.
    pub(crate) fn read(bytes: &[u8]) -> Result<Vec<Digest>, String> {
        let config: Self =
            serde_json::from_slice(bytes).map_err(|error| format!("its config: {error}"))?;
        if config.architecture != ARCHITECTURE || config.os != "linux" {
            return Err(format!(
                "it is for {}/{}, and this is linux/{ARCHITECTURE}",
                config.os, config.architecture
            ));
        }
        let ids = config.rootfs.diff_ids.iter().map(|id| {
            Digest::parse(id).ok_or_else(|| format!("its config: {id:?} is no SHA-256 digest"))
        });
        ids.collect()
    }
}

impl Platform {
    /// Whether what is for it runs here.
    pub(crate) fn is_ours(&self) -> bool {
        self.architecture == ARCHITECTURE && self.os == "linux"
    }
}

/// An image in `manifest.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(crate) struct DockerEntry {
    pub(crate) config: String,
    pub(crate) repo_tags: Option<Vec<String>>,
    pub(crate) layers: Vec<String>,
}

/// An image that was found, wherever it lies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Image {
    /// What it is called, complete: `docker.io/library/busybox:1`.
    pub(crate) names: Vec<String>,
    /// By what it can be pinned: its manifest, and the indexes through which that was found. Each was
    /// computed from the bytes.
    pub(crate) digests: Vec<Digest>,
    /// Docker's id of it.
    pub(crate) config: Digest,
    /// Where its config lies.
    pub(crate) config_path: String,
    /// Its layers, the lowest first.
    pub(crate) layers: Vec<Layer>,
}

/// A layer of an image.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Layer {
    /// Where it lies.
    pub(crate) path: String,
    /// What it must be when it is unpacked.
    pub(crate) diff_id: Digest,
    /// How long it is when it is unpacked, if zstd has packed it and it was counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) zstd_bytes: Option<u64>,
    /// Whether Docker has it, so that it is named and not handed over.
    #[serde(skip)]
    pub(crate) is_held: bool,
}

impl Layer {
    /// The blob it is, in an OCI layout.
    pub(crate) fn blob(&self) -> Option<Digest> {
        digest_of_path(&self.path)
    }
}

impl Image {
    /// Whether it is what somebody asks for.
    pub(crate) fn is(&self, asked: &Reference) -> bool {
        match &asked.version {
            Version::Digest(digest) => {
                Digest::parse(digest).is_some_and(|digest| self.digests.contains(&digest))
            }
            Version::Tag(_) => self.names.contains(&asked.to_string()),
        }
    }
}

/// The files of an archive that say what is in it: by path, manifests, indexes and configs. Whoever
/// gathered them has checked that what lies below `blobs/sha256/` has the digest it is called by.
pub(crate) type Texts = BTreeMap<String, Vec<u8>>;

/// The images that an archive's own texts tell of. What is for another platform is passed over;
/// everything else that is not as it must be refuses the whole archive.
pub(crate) fn images(texts: &Texts) -> Result<Vec<Image>, String> {
    let mut images = match texts.get(INDEX_FILE) {
        Some(index) => {
            let index: Document = parse(INDEX_FILE, index)?;
            let mut found = Vec::new();
            for descriptor in index.manifests.unwrap_or_default() {
                let names = names(&descriptor.annotations);
                walk(texts, &descriptor, &names, &mut Vec::new(), &mut found)?;
            }
            found
        }
        None => Vec::new(),
    };
    if let Some(entries) = texts.get(DOCKER_FILE) {
        let entries: Vec<DockerEntry> = parse(DOCKER_FILE, entries)?;
        for entry in entries {
            take_docker(texts, entry, &mut images)?;
        }
    }
    if images.is_empty() {
        return Err(match texts.contains_key(INDEX_FILE) || texts.contains_key(DOCKER_FILE) {
            true => format!("{NO_IMAGE} for linux/{ARCHITECTURE}"),
            false => "it is no image archive: neither index.json nor manifest.json is in it".into(),
        });
    }
    Ok(images)
}

/// How it is said that an archive is one, and empty.
pub(crate) const NO_IMAGE: &str = "it holds no image";

fn parse<'t, T: Deserialize<'t>>(what: &str, bytes: &'t [u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| format!("{what}: {error}"))
}

/// How deep indexes may be in each other.
const DEPTH_MAX: usize = 4;

/// Follows a descriptor down to the manifests that are for this machine.
fn walk(
    texts: &Texts,
    at: &Descriptor,
    names: &[String],
    above: &mut Vec<Digest>,
    found: &mut Vec<Image>,
) -> Result<(), String> {
    let is_other = |p: &Platform| !p.architecture.is_empty() && p.architecture != ARCHITECTURE;
    if at.platform.as_ref().is_some_and(is_other) || above.len() > DEPTH_MAX {
        return Ok(());
    }
    let digest = at.digest()?;
    let path = blob_path(&digest);
    let Some(text) = texts.get(&path) else {
        // Of an index of many platforms an archive may hold one.
        return if above.is_empty() { Err(format!("{path} is missing in it")) } else { Ok(()) };
    };
    let document: Document = parse(&path, text)?;
    above.push(digest);
    if let Some(manifests) = &document.manifests {
        for below in manifests {
            walk(texts, below, names, above, found)?;
        }
    } else if let Some(config) = &document.config {
        // Attestations and signatures look like images and have other configs.
        if let Some(image) = of_manifest(texts, &document, config, names, above)? {
            found.push(image);
        }
    }
    above.pop();
    Ok(())
}

fn of_manifest(
    texts: &Texts,
    manifest: &Document,
    config: &Descriptor,
    names: &[String],
    digests: &[Digest],
) -> Result<Option<Image>, String> {
    let digest = config.digest()?;
    let config_path = blob_path(&digest);
    let Some(text) = texts.get(&config_path) else {
        return Err(format!("{config_path} is missing in it"));
    };
    let Ok(diff_ids) = Config::read(text) else {
        return Ok(None);
    };
    if diff_ids.len() != manifest.layers.len() {
        return Err(format!(
            "its config {digest:?} tells of {} layers, and its manifest of {}",
            diff_ids.len(),
            manifest.layers.len()
        ));
    }
    let layers = manifest.layers.iter().zip(diff_ids).map(|(layer, diff_id)| {
        Ok::<_, String>(Layer {
            path: blob_path(&layer.digest()?),
            diff_id,
            zstd_bytes: None,
            is_held: false,
        })
    });
    Ok(Some(Image {
        names: names.to_vec(),
        digests: digests.to_vec(),
        config: digest,
        config_path,
        layers: layers.collect::<Result<_, _>>()?,
    }))
}

/// Takes what `docker save` tells of an image: its names, and all else if no index told it.
fn take_docker(texts: &Texts, entry: DockerEntry, images: &mut Vec<Image>) -> Result<(), String> {
    let config_path = clean(&entry.config).ok_or("manifest.json names a file outside of it")?;
    let text = texts.get(&config_path);
    let text = text.ok_or_else(|| format!("{config_path} is missing in it"))?;
    let config = Digest::of(text);
    let tags = entry.repo_tags.unwrap_or_default();
    let names: Vec<String> = tags.iter().filter_map(|tag| complete(tag)).collect();
    let mut known: Vec<&mut Image> = images.iter_mut().filter(|i| i.config == config).collect();
    if let Some(image) = known.first_mut() {
        for name in names.into_iter().filter(|name| !image.names.contains(name)).collect::<Vec<_>>()
        {
            image.names.push(name);
        }
        return Ok(());
    }
    let diff_ids = Config::read(text)?;
    if diff_ids.len() != entry.layers.len() {
        return Err(format!("{config_path} does not have the layers that manifest.json names"));
    }
    let layers = entry.layers.iter().zip(diff_ids).map(|(path, diff_id)| {
        let path = clean(path).ok_or("manifest.json names a file outside of it")?;
        Ok::<_, String>(Layer { path, diff_id, zstd_bytes: None, is_held: false })
    });
    let layers = layers.collect::<Result<_, _>>()?;
    images.push(Image { names, digests: Vec::new(), config, config_path, layers });
    Ok(())
}

/// Where a blob lies.
pub(crate) fn blob_path(digest: &Digest) -> String {
    format!("{BLOBS}{digest}")
}

/// The digest that a path says its content has.
pub(crate) fn digest_of_path(path: &str) -> Option<Digest> {
    Digest::parse(&format!("sha256:{}", path.strip_prefix(BLOBS)?))
}

/// A path inside an archive, without what leads nowhere; none if it leads outside.
pub(crate) fn clean(path: &str) -> Option<String> {
    let mut parts = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            part => parts.push(part),
        }
    }
    (!parts.is_empty() && !path.starts_with('/')).then(|| parts.join("/"))
}

/// What an index calls an image: whole names only, a tag alone says nothing.
fn names(annotations: &BTreeMap<String, String>) -> Vec<String> {
    let whole = annotations.get(NAME).into_iter();
    let short = annotations.get(REF_NAME).filter(|name| name.contains(['/', ':', '@']));
    let mut names: Vec<String> = whole.chain(short).filter_map(|name| complete(name)).collect();
    names.dedup();
    names
}

/// A name that bears a tag, complete. One that bears a digest is proved by the digest alone.
fn complete(name: &str) -> Option<String> {
    let reference = Reference::parse(name).ok()?;
    matches!(reference.version, Version::Tag(_)).then(|| reference.to_string())
}
