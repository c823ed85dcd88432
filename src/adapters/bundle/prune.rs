//! What earlier bundles brought, and nothing needs any more.
//!
//! The page of each bundle that was taken in is kept. What the last of them name, and all since the
//! oldest commit in force, stays, so that a revert finds its images; what only older ones name goes.
//! What other nodes sent was named by no page, and stays.
//!
//! The limit: only the store is pruned. What Docker has unpacked, `docker image prune -a` removes; what
//! of that is in the store comes again when a pod needs it.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::Path;

use super::Refused;
use super::apply::{Target, lock};
use super::index::Index;
use crate::adapters::git::write_file;
use crate::adapters::images::store::Store;
use crate::kinds::digest::Digest;

/// Where pages are kept.
const PAGES: &str = "pages";
/// More are not kept: one a week for twenty years.
const PAGES_MAX: usize = 1000;

/// What was removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Names that no longer stand in the store's page.
    pub images: Vec<String>,
    /// Blobs.
    pub blobs: usize,
    /// Their length.
    pub bytes: u64,
}

/// Keeps the page of a bundle that was taken in.
pub(super) fn note(workshop: &Path, page: &[u8]) -> io::Result<()> {
    let dir = workshop.join(PAGES);
    fs::create_dir_all(&dir)?;
    let known = numbers(&dir)?;
    let last = known.last().copied().unwrap_or(0);
    if fs::read(dir.join(format!("{last:09}.json"))).is_ok_and(|before| before == page) {
        return Ok(());
    }
    for old in known.iter().rev().skip(PAGES_MAX - 1) {
        fs::remove_file(dir.join(format!("{old:09}.json")))?;
    }
    write_file(&dir.join(format!("{:09}.json", last + 1)), page)
}

fn numbers(dir: &Path) -> io::Result<Vec<u64>> {
    let mut numbers: Vec<u64> = fs::read_dir(dir)?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.strip_suffix(".json")?.parse().ok())
        .collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// The pages of all bundles that were taken in, in order.
fn pages(workshop: &Path) -> Result<Vec<Index>, Refused> {
    let dir = workshop.join(PAGES);
    let unread =
        |error: io::Error| Refused::new(format!("{}: {error}", dir.display()), "check that disk");
    if !dir.exists() {
        return Ok(Vec::new());
    }
    let numbers = numbers(&dir).map_err(unread)?;
    let read = numbers.into_iter().map(|number| {
        let page = fs::read(dir.join(format!("{number:09}.json"))).map_err(unread)?;
        Index::parse(&page)
    });
    read.collect()
}

/// The page of the bundle that was taken in last: the next may leave out what it named.
pub(crate) fn newest_page(workshop: &Path) -> Result<Option<Index>, String> {
    let dir = workshop.join(PAGES);
    let said = |why: &dyn std::fmt::Display| format!("{}: {why}", dir.display());
    if !dir.exists() {
        return Ok(None);
    }
    let Some(last) = numbers(&dir).map_err(|error| said(&error))?.pop() else { return Ok(None) };
    let page = fs::read(dir.join(format!("{last:09}.json"))).map_err(|error| said(&error))?;
    Index::parse(&page).map(Some).map_err(|refused| said(&refused))
}

/// Removes from the store what neither the last `keep` bundles nor any since the oldest of the commits
/// in force named.
pub fn prune(target: &Target, keep: usize, in_force: &[String]) -> Result<Pruned, Refused> {
    let _lock = lock(&target.workshop)?;
    let pages = pages(&target.workshop)?;
    let mut from = pages.len().saturating_sub(keep.max(1));
    for commit in in_force {
        let brought = pages.iter().rposition(|page| page.commit == *commit);
        // What somebody pushed on board may build on any of them.
        from = from.min(brought.unwrap_or(0));
    }
    let (old, kept) = pages.split_at(from);
    let named = |pages: &[Index]| -> BTreeSet<String> {
        pages.iter().flat_map(|page| page.images.iter().map(|image| image.name.clone())).collect()
    };
    let mut dropped = named(old);
    for name in named(kept) {
        dropped.remove(&name);
    }
    let store = Store::in_images(&target.images);
    let mut needed: BTreeSet<Digest> = store.needed_without(&dropped).map_err(|why| {
        Refused::new(
            format!("{}: {why}", store.dir().display()),
            "apply the last bundle again, which mends it; nothing was removed",
        )
    })?;
    for page in kept {
        needed.extend(page.blobs().chain(&page.required).map(|part| part.sha256));
    }
    let (images, blobs) =
        store.clear(&dropped, &needed).map_err(|error| unpruned(&store, &error))?;
    Ok(Pruned { images, blobs: blobs.len(), bytes: blobs.values().sum() })
}

fn unpruned(store: &Store, error: &io::Error) -> Refused {
    Refused::new(format!("{}: {error}", store.dir().display()), "check that disk, and run it again")
}
