//! What is in a bundle, as its first file says it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::Refused;
use crate::adapters::images::layout::{self, INDEX_FILE, LAYOUT_FILE};
pub use crate::adapters::images::sources::Packed;
use crate::kinds::digest::Digest;

/// The first file: what is in the bundle.
pub const INDEX: &str = "windlass-bundle.json";
/// The second: the seal on the first.
pub const SEAL: &str = "windlass-bundle.json.sig";
/// The commits, as `git bundle` writes them.
pub const COMMITS: &str = "commits.bundle";
/// The bills of materials, where they were asked for: one for each image, by its manifest.
const BILLS: &str = "sbom/";
/// As tools know CycloneDX in JSON.
const BILL_END: &str = ".cdx.json";
/// What a bundle's signature is for.
pub const NAMESPACE: &str = "windlass-bundle";
/// The form of this page.
const FORMAT: &str = "windlass-bundle/1";
/// Ten thousand images of ten layers take some 20 MB.
pub const INDEX_BYTES_MAX: u64 = 64 << 20;

/// What is in a bundle.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Index {
    /// Which form this page has.
    pub format: String,
    /// When it was made, by the clock of whoever made it; for people.
    pub created: String,
    /// The branch of the desired repository that it brings on.
    pub branch: String,
    /// Where it brings it.
    pub commit: String,
    /// The processor its images are for.
    pub architecture: String,
    /// What must be there before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Base>,
    /// Every image that the manifests of the commit name, whether or not its layers are in here.
    pub images: Vec<Named>,
    /// Blobs of these images that are not in here because the base has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub required: Vec<Part>,
    /// Layers that were packed by whoever made this bundle or one before it: the next need not pack them
    /// again, and by another release of zstd they might come out otherwise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub packed: Vec<Packed>,
    /// The files behind the seal, in order.
    pub parts: Vec<Part>,
}

/// What a bundle builds on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Base {
    /// The commit that the branch must have.
    pub commit: String,
    /// The bundle whose blobs are not sent again: the digest of its first file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bundle: Option<Digest>,
}

/// An image, as manifests name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Named {
    /// The whole name.
    pub name: String,
    /// Its manifest.
    pub manifest: Digest,
    /// All its blobs together.
    pub bytes: u64,
}

/// A file, or a blob.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Part {
    /// Its path in the bundle.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// Its digest.
    pub sha256: Digest,
}

impl Index {
    /// A page that says nothing yet.
    pub(super) fn new(branch: &str, commit: &str, created: String) -> Self {
        Self {
            format: FORMAT.to_owned(),
            created,
            branch: branch.to_owned(),
            commit: commit.to_owned(),
            architecture: crate::adapters::docker::archive::ARCHITECTURE.to_owned(),
            base: None,
            images: Vec::new(),
            required: Vec::new(),
            packed: Vec::new(),
            parts: Vec::new(),
        }
    }

    /// Reads the page and checks everything on it that can be checked by itself.
    pub fn parse(bytes: &[u8]) -> Result<Self, Refused> {
        let unread =
            |error: serde_json::Error| Refused::damaged(format!("{INDEX} can't be read: {error}"));
        let form = form_of(bytes).map_err(unread)?;
        if form != FORMAT {
            return Err(Refused::new(
                format!("the bundle has the form {form:?}, and this program reads {FORMAT}"),
                "apply it with the version of windlass that made it, or a newer one",
            ));
        }
        let index: Self = serde_json::from_slice(bytes).map_err(unread)?;
        index.check().map_err(|why| Refused::damaged(format!("{INDEX}: {why}")))?;
        Ok(index)
    }

    fn check(&self) -> Result<(), String> {
        let is_commit =
            |id: &str| id.len() == 40 && id.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        let commits = self.base.iter().map(|base| &base.commit).chain([&self.commit]);
        if let Some(id) = commits.into_iter().find(|id| !is_commit(id)) {
            return Err(format!("{id:?} is no id of a commit"));
        }
        if !git2::Reference::is_valid_name(&self.branch_ref()) {
            return Err(format!("{:?} is no branch", self.branch));
        }
        let mut seen = BTreeSet::new();
        for part in self.parts.iter().chain(&self.required) {
            let blob = layout::digest_of_path(&part.path);
            let is_known = [COMMITS, LAYOUT_FILE, INDEX_FILE].contains(&&*part.path)
                || self.images.iter().any(|image| bill_path(&image.manifest) == part.path);
            if blob != Some(part.sha256) && !is_known {
                return Err(format!("{:?} is no file of a bundle", part.path));
            }
            if !seen.insert(&part.path) {
                return Err(format!("{:?} is in it twice", part.path));
            }
        }
        if let Some(part) = self.required.iter().find(|part| !part.path.starts_with(layout::BLOBS))
        {
            return Err(format!("{:?} can't be required", part.path));
        }
        let has = |path: &str| self.parts.iter().any(|part| part.path == path);
        if let Some(path) = [COMMITS, LAYOUT_FILE, INDEX_FILE].into_iter().find(|path| !has(path)) {
            return Err(format!("{path} is missing"));
        }
        Ok(())
    }

    /// The branch as Git names it.
    pub fn branch_ref(&self) -> String {
        format!("refs/heads/{}", self.branch)
    }

    /// Blobs that are in here.
    pub fn blobs(&self) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(|part| part.path.starts_with(layout::BLOBS))
    }

    /// Whether bills of materials are among the files.
    pub fn has_bill(&self) -> bool {
        self.parts.iter().any(|part| part.path.starts_with(BILLS))
    }

    /// How long all files are.
    pub fn bytes(&self) -> u64 {
        self.parts.iter().map(|part| part.bytes).sum()
    }
}

/// Which form a page of ours says it has: what else is in it, only the right program knows.
pub(super) fn form_of(page: &[u8]) -> serde_json::Result<String> {
    #[derive(Deserialize)]
    struct Form {
        format: String,
    }
    serde_json::from_slice(page).map(|form: Form| form.format)
}

/// Where an image's bill of materials is.
pub(super) fn bill_path(manifest: &Digest) -> String {
    format!("{BILLS}{manifest}{BILL_END}")
}
