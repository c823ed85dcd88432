//! A stick that is plugged in: bundles in a watched directory, or in what is mounted in it, are taken in.
//!
//! The rule: what was refused is refused once, and said; the same file is not tried again before it has
//! changed or the agent was started anew. One that builds on what other nodes have waits for them. The
//! limit: pieces must all be there, on one medium.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::apply::{self, Target};
use super::pieces;
use super::sign::Signers;
use crate::adapters::images::Images;

/// How often it is looked whether something was plugged in. A mount wakes nobody who watches a
/// directory, so the kernel's word would not be enough.
const LOOK_EVERY: Duration = Duration::from_secs(3);
/// A bundle that builds on what no node could send is passed over so often, a minute: one may come.
const AGAIN_LOOKS: u32 = 20;
/// More bundles than this in one place are not looked at.
const BUNDLES_MAX: usize = 100;

/// What is watched, and whose seals count.
#[derive(Clone, Debug)]
pub struct Post {
    /// The directory.
    pub directory: PathBuf,
    /// The list of signers, read anew for each bundle.
    pub signers: PathBuf,
}

/// What tells a file from another.
type Stamp = (u64, i64, u64, u64);

/// Watches until the process ends. What a bundle builds on comes from other nodes. `taken` is told when a
/// branch has moved.
pub async fn watch(
    post: Post,
    images: Images,
    target: impl Fn() -> Target + Send + Sync + 'static,
    taken: impl Fn() + Send,
) {
    let target = std::sync::Arc::new(target);
    let mut seen: BTreeMap<PathBuf, Stamp> = BTreeMap::new();
    let mut before = BTreeMap::new();
    let mut later: BTreeMap<PathBuf, u32> = BTreeMap::new();
    loop {
        let now = bundles(&post.directory);
        // A file that is being written is another at the next look.
        let still: Vec<PathBuf> = now
            .iter()
            .filter(|(path, stamp)| before.get(*path) == Some(*stamp))
            .map(|(path, _)| path.clone())
            .collect();
        for path in still {
            let stamp = now.get(&path).copied();
            if seen.get(&path).copied() == stamp {
                continue;
            }
            if let Some(looks) = later.get_mut(&path).filter(|looks| **looks > 0) {
                *looks -= 1;
                continue;
            }
            if !gather(&path, &post.signers, target(), &images).await {
                later.insert(path, AGAIN_LOOKS);
                continue;
            }
            seen.extend(stamp.map(|stamp| (path.clone(), stamp)));
            let (signers, target, bundle) = (post.signers.clone(), target.clone(), path.clone());
            let work = tokio::task::spawn_blocking(move || take_in(&bundle, &signers, &target()));
            if work.await.unwrap_or(false) {
                taken();
            }
        }
        seen.retain(|path, _| now.contains_key(path));
        later.retain(|path, _| now.contains_key(path));
        before = now;
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Has brought what is not here of what a bundle builds on; whether all of it is here now. What is wrong
/// with the bundle is said when it is taken in.
async fn gather(bundle: &Path, signers: &Path, target: Target, images: &Images) -> bool {
    let (path, signers) = (bundle.to_owned(), signers.to_owned());
    let looking = tokio::task::spawn_blocking(move || {
        let signers = Signers::read(&signers).ok()?;
        apply::missing(&path, &signers, &target).ok()
    });
    for part in looking.await.ok().flatten().unwrap_or_default() {
        if let Err(fault) = images.gather(part.sha256, part.bytes).await {
            tracing::warn!(bundle = %bundle.display(), blob = %part.sha256, %fault, "a bundle waits: no other node sends this, on which it builds");
            return false;
        }
    }
    true
}

/// Takes a bundle in; whether a branch has moved.
fn take_in(bundle: &Path, signers: &Path, target: &Target) -> bool {
    let path = bundle.display();
    tracing::info!(bundle = %path, "a bundle was found");
    let signers = match Signers::read(signers) {
        Ok(signers) => signers,
        Err(why) => {
            tracing::warn!(bundle = %path, why, "nobody may send bundles yet: write bundles.signers");
            return false;
        }
    };
    match apply::apply(bundle, &signers, target, &mut |_| ()) {
        Ok(applied) => {
            let (by, commit) = (applied.signed.by, applied.index.commit);
            tracing::info!(bundle = %path, by, commit, blobs = applied.blobs, moved = applied.has_moved, "a bundle was taken in");
            applied.has_moved
        }
        Err(refused) => {
            tracing::warn!(bundle = %path, why = refused.what, hint = refused.hint, "a bundle was refused");
            false
        }
    }
}

/// Bundles in a directory and in those directly below it.
fn bundles(directory: &Path) -> BTreeMap<PathBuf, Stamp> {
    let mut found = BTreeMap::new();
    let mut directories = vec![directory.to_owned()];
    for depth in 0..2 {
        for directory in std::mem::take(&mut directories) {
            for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
                let path = entry.path();
                let Ok(meta) = fs::metadata(&path) else { continue };
                if meta.is_dir() && depth == 0 {
                    directories.push(path);
                } else if meta.is_file() && pieces::is_bundle(&path) && found.len() < BUNDLES_MAX {
                    let stamp = stamp(&path).unwrap_or_default();
                    found.insert(path, stamp);
                }
            }
        }
    }
    found
}

/// Of all its pieces: while one is still being copied, it is another at each look.
fn stamp(bundle: &Path) -> Option<Stamp> {
    let mut stamp = Stamp::default();
    for piece in pieces::find(bundle).ok()? {
        let meta = fs::metadata(piece).ok()?;
        stamp.0 += meta.len();
        stamp.1 = stamp.1.max(meta.mtime());
        (stamp.2, stamp.3) = (meta.ino(), meta.dev());
    }
    Some(stamp)
}
