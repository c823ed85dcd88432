//! Which images go when the disk fills.
//!
//! A cook who runs out of shelf throws out what has stood there longest without being used, and never
//! what is on today's menu or what last week's needs. kubelet's rule (`pkg/kubelet/images`, Kubernetes
//! page "Garbage collection"): when a disk is used up to [`Limits::high_percent`], images go, those first
//! that were used longest ago, until it is used no more than [`Limits::low_percent`]; what is used, or has
//! only just come, stays.
//!
//! Beyond kubelet's: what the revision in force and those before it name stays, so that a `git revert`
//! finds its images with no registry in reach; and what the agent did not bring is not its to remove.
//!
//! The limit: sizes are what Docker says, which counts shared layers for each image. So little goes at
//! once, and the disk is measured again. When an image was used is known since the agent began.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::kinds::binding::{AppName, Oid};
use crate::kinds::image::ImageName;
use crate::kinds::pod::PodSpec;
use crate::kinds::time::{Elapsed, Now};
use crate::ports::larder::{Disk, DiskId, Image, ImageKey, Named, Naming, Stock};

/// An image that could not be removed is let be for so long.
const REFUSED: Duration = Duration::from_secs(300);

/// When images go, and which may.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// From here on images go; 100 for never (`imageGCHighThresholdPercent`).
    pub high_percent: u64,
    /// Until no more than this is used (`imageGCLowThresholdPercent`).
    pub low_percent: u64,
    /// What has come less than so long ago stays (`imageMinimumGCAge`).
    pub min_age: Duration,
    /// So many revisions before the one in force keep their images.
    pub revisions: u64,
    /// Whether images may go that the agent did not bring.
    pub takes_foreign: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            high_percent: 85,
            low_percent: 80,
            min_age: Duration::from_secs(120),
            revisions: 5,
            takes_foreign: false,
        }
    }
}

/// What is remembered of images from one look to the next.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    sights: BTreeMap<ImageKey, Sight>,
    /// Disks that were found too full, until they are not.
    collecting: BTreeSet<DiskId>,
}

#[derive(Clone, Copy, Debug)]
struct Sight {
    first: Elapsed,
    used: Option<Elapsed>,
    refused_until: Option<Elapsed>,
}

/// Whether an image stays, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Standing {
    /// Something here can't do without it: a container of whomever, the next bundle, the agent itself.
    Used,
    /// It is named, by a pod bound here or by a revision that is kept.
    Named,
    /// The agent did not bring it.
    Foreign,
    /// Nobody needs it: it goes when the disk fills.
    Idle,
}

/// Who needs which images, by complete name, digest or id.
#[derive(Clone, Debug, Default)]
pub struct Needs<'k>(BTreeMap<&'k str, BTreeSet<&'k String>>);

impl<'k> Needs<'k> {
    /// What is needed by these names; one with a digest means whatever has that.
    pub fn of(names: impl IntoIterator<Item = &'k String>) -> Self {
        let mut needs = BTreeMap::<_, BTreeSet<_>>::new();
        for name in names {
            let digest = name.rsplit_once('@').map_or(&**name, |(_, digest)| digest);
            needs.entry(&**name).or_default().insert(name);
            needs.entry(digest).or_default().insert(name);
        }
        Self(needs)
    }

    /// The names by which an image is needed.
    pub fn names<'i>(&'i self, image: &'i Image) -> impl Iterator<Item = &'k String> + 'i {
        let known = image.names.iter().chain(&image.digests);
        known.filter_map(|name| self.0.get(&**name)).flatten().copied()
    }
}

/// Says how an image stands.
pub fn standing(image: &Image, needs: &Needs<'_>, limits: &Limits) -> Standing {
    if image.is_used {
        Standing::Used
    } else if needs.names(image).next().is_some() {
        Standing::Named
    } else if image.is_ours || limits.takes_foreign {
        Standing::Idle
    } else {
        Standing::Foreign
    }
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// These go now; then the disks are to be measured again.
    pub remove: Vec<ImageKey>,
    /// Disks that are too full though nothing more may go.
    pub full: Vec<DiskId>,
    /// Something may go then that has only just come: it is to be looked again.
    pub again: Option<Elapsed>,
}

/// The images that a pod needs, by complete name.
pub fn images_of(spec: &PodSpec) -> impl Iterator<Item = String> {
    // What can't be a name never was had.
    spec.all_containers().filter_map(|its| Some(ImageName::parse(&its.image).ok()?.to_string()))
}

impl Naming {
    /// Whether an image was named so few changes ago.
    fn keeps(&self, named_at: u64, revisions: u64) -> bool {
        self.changes.saturating_sub(named_at) <= revisions
    }
}

impl Named {
    /// Takes note of what the revision of an app that is in force names; whether that is news. A commit
    /// that comes into force in waves is one change.
    pub fn follow(
        &mut self,
        app: &AppName,
        commit: &Oid,
        images: &BTreeSet<String>,
        revisions: u64,
    ) -> bool {
        let before = self.0.get(app);
        let current = before.into_iter().flat_map(|naming| {
            naming.images.iter().filter(|(_, at)| **at == naming.changes).map(|(name, _)| name)
        });
        if before.is_some() && current.eq(images.iter()) || before.is_none() && images.is_empty() {
            return false;
        }
        let mut naming = before.cloned().unwrap_or_else(|| Naming {
            commit: commit.clone(),
            changes: 0,
            images: BTreeMap::new(),
        });
        if naming.commit != *commit {
            naming.commit = commit.clone();
            naming.changes += 1;
        }
        naming.images.extend(images.iter().map(|name| (name.clone(), naming.changes)));
        let counted = naming.clone();
        naming.images.retain(|_, at| counted.keeps(*at, revisions));
        let is_news = before != Some(&naming);
        self.0.insert(app.clone(), naming);
        is_news
    }

    /// Takes note that one of the apps that there are has changed: those that are gone grow older with it,
    /// or they would be kept for ever.
    pub fn age_others(&mut self, present: &BTreeSet<AppName>, revisions: u64) {
        for naming in self.0.iter_mut().filter(|(app, _)| !present.contains(*app)).map(|one| one.1)
        {
            naming.changes += 1;
            let counted = naming.clone();
            naming.images.retain(|_, at| counted.keeps(*at, revisions));
        }
        self.0.retain(|app, naming| present.contains(app) || !naming.images.is_empty());
    }

    /// Every image that a revision in force names, or one of so many before it, by app.
    pub fn kept(&self, revisions: u64) -> impl Iterator<Item = (&AppName, &String)> {
        self.0.iter().flat_map(move |(app, naming)| {
            let kept = naming.images.iter().filter(move |(_, at)| naming.keeps(**at, revisions));
            kept.map(move |(name, _)| (app, name))
        })
    }
}

impl Memory {
    /// Takes note that an image was to go and is still there.
    pub fn refused(&mut self, key: &ImageKey, now: Now) {
        if let Some(sight) = self.sights.get_mut(key) {
            sight.refused_until = Some(now.elapsed + REFUSED);
        }
    }
}

/// Says which images go now. `kept` are those that are needed by name, digest or id.
pub fn collect(
    stock: &Stock,
    kept: &BTreeSet<String>,
    limits: &Limits,
    memory: &mut Memory,
    now: Now,
) -> Verdict {
    let needs = Needs::of(kept);
    let present: BTreeSet<&ImageKey> = stock.images.iter().map(|image| &image.key).collect();
    memory.sights.retain(|key, _| present.contains(key));
    let mut idle: Vec<(&Image, Sight)> = Vec::new();
    for image in &stock.images {
        let fresh = Sight { first: now.elapsed, used: None, refused_until: None };
        let sight = memory.sights.entry(image.key.clone()).or_insert(fresh);
        match standing(image, &needs, limits) {
            Standing::Used | Standing::Named => sight.used = Some(now.elapsed),
            Standing::Idle => idle.push((image, *sight)),
            Standing::Foreign => {}
        }
    }
    // `byLastUsedAndDetected`; what was not used since the agent began was used longest ago.
    idle.sort_by_key(|(image, sight)| (sight.used, sight.first, &image.key));
    let mut verdict = Verdict::default();
    for (id, disk) in &stock.disks {
        let used = disk.used_percent();
        if used >= limits.high_percent && limits.high_percent < 100 {
            memory.collecting.insert(*id);
        } else if used <= limits.low_percent {
            memory.collecting.remove(id);
        }
        if !memory.collecting.contains(id) {
            continue;
        }
        let is_refused = |sight: &Sight| sight.refused_until.is_some_and(|at| at > now.elapsed);
        let here = idle.iter().filter(|(image, its)| image.disk == *id && !is_refused(its));
        let (aged, young): (Vec<_>, Vec<_>) =
            here.partition(|(_, sight)| now.elapsed.since(sight.first) >= limits.min_age);
        let going = oldest(aged.iter().map(|(image, _)| *image), excess(disk, limits));
        let ages = young.iter().map(|(_, sight)| sight.first + limits.min_age).min();
        if going.is_empty() && ages.is_none() && used >= limits.high_percent {
            verdict.full.push(*id);
        }
        if going.is_empty() {
            verdict.again = verdict.again.into_iter().chain(ages).min();
        }
        verdict.remove.extend(going);
    }
    memory.collecting.retain(|id| stock.disks.contains_key(id));
    verdict
}

/// How much must go from a disk (kubelet's `amountToFree`).
fn excess(disk: &Disk, limits: &Limits) -> u64 {
    let wanted = u128::from(disk.bytes_total) * u128::from(100 - limits.low_percent.min(100)) / 100;
    u64::try_from(wanted).unwrap_or(u64::MAX).saturating_sub(disk.bytes_free)
}

/// The first of these that have so much together, if all of them have it.
fn oldest<'i>(images: impl Iterator<Item = &'i Image>, bytes: u64) -> Vec<ImageKey> {
    let mut left = bytes;
    let mut going = Vec::new();
    for image in images {
        if left == 0 {
            break;
        }
        left = left.saturating_sub(image.bytes);
        going.push(image.key.clone());
    }
    going
}

#[cfg(test)]
mod tests;
