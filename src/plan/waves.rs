//! Waves: an app's objects come into force one group after the other.
//!
//! A caravan that crosses a river: the next group goes in when the one before stands on the other
//! bank. Until then it camps where it was. So what is in force is put together from the commit that
//! comes and from what was in force before: objects whose wave has come are as the commit says, the
//! others as they were, and what the commit does not have any more goes last, in reverse order.
//!
//! ```text
//!            wave 0        wave 1        wave 2        gone, of wave 1    gone, of wave 0
//! stage 0    new           as it was     as it was     is there           is there
//! stage 1    new           new           as it was     is there           is there
//! stage 2    new           new           new           is there           is there
//! falling 1  new           new           new           -                  is there
//! over       new           new           new           -                  -
//! ```
//!
//! The rule: the register says which commits lie on one another and how far each has come
//! ([`Waves`]); every node puts the same together from them ([`in_force`]). A newer commit does not
//! wait for the one before: it begins with its own first wave on top of whatever is in force.
//!
//! The limits: a wave of which nothing changes and all is healthy is passed by at once. Objects that
//! move from one app to another, and an app that ends, come and go at once. So does a commit on top
//! of more than [`LAYERS_MAX`] others that have not come to their end.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::desired::Desired;
use crate::kinds::binding::{AppName, Oid};
use crate::kinds::object::{Key, Object};
use crate::state::records::{Layer, Stage, Waves};

use super::health::{self, Health};
use super::work::Work;
use super::{Revision, accept};

/// Each costs every node a reading of a commit.
const LAYERS_MAX: usize = 8;

/// A revision that is partly in force.
#[derive(Clone, Debug)]
pub struct InWaves {
    /// How far it has come, and over what.
    pub waves: Waves,
    /// All that it asks for.
    pub whole: Arc<Desired>,
    /// The commits of the objects that are still as they were.
    pub origins: BTreeMap<Key, Oid>,
}

impl Revision {
    /// The commit by which an object is in force.
    pub fn commit_of(&self, key: &Key) -> &Oid {
        let origin = self.waves.as_ref().and_then(|in_waves| in_waves.origins.get(key));
        origin.unwrap_or(&self.commit.id)
    }
}

impl Stage {
    /// Whether an object of the commit is in force.
    fn has(self, object: &Object) -> bool {
        self.is_falling || object.wave().is_none_or(|wave| wave <= self.wave)
    }

    /// Whether an object that the commit does not have is in force still.
    fn keeps(self, object: &Object) -> bool {
        !self.is_falling || object.wave().is_none_or(|wave| wave < self.wave)
    }
}

/// What is in force of an app, where `top` is its newest revision, read as a whole, and `read` gives
/// others; none as long as one of those is missing.
pub fn in_force(
    waves: Option<&Waves>,
    top: &Arc<Revision>,
    read: impl Fn(&Oid) -> Option<Arc<Revision>>,
) -> Option<Arc<Revision>> {
    let Some(waves) = waves else {
        return Some(top.clone());
    };
    let mut base: Option<Arc<Revision>> = None;
    for layer in &waves.under {
        let own = read(&layer.revision)?;
        base = Some(match layer.stage {
            None => own,
            Some(stage) => {
                let (under, unknown) = (Vec::new(), BTreeMap::new());
                let revision = layer.revision.clone();
                let waves = Waves { revision, stage, under, unknown };
                Arc::new(lay(base.as_deref(), &own, waves))
            }
        });
    }
    Some(Arc::new(lay(base.as_deref(), top, waves.clone())))
}

/// Whether `revision` is what [`in_force`] would give.
pub fn is_made_of(revision: &Arc<Revision>, top: &Arc<Revision>, waves: Option<&Waves>) -> bool {
    match (waves, &revision.waves) {
        (None, _) => Arc::ptr_eq(revision, top),
        (Some(waves), Some(own)) => {
            let is_its = revision.commit.id == top.commit.id;
            is_its && own.waves == *waves && Arc::ptr_eq(&own.whole, &top.desired)
        }
        (Some(_), None) => false,
    }
}

/// Lays as much of a revision over what is in force as its stage says.
fn lay(base: Option<&Revision>, own: &Revision, waves: Waves) -> Revision {
    let stage = waves.stage;
    let asked = own.desired.objects.iter().filter(|(_, object)| stage.has(object));
    let mut objects: BTreeMap<Key, Arc<Object>> =
        asked.map(|(key, object)| (key.clone(), object.clone())).collect();
    let mut origins = BTreeMap::new();
    if let Some(base) = base {
        for (key, object) in &base.desired.objects {
            let stays = own.desired.objects.contains_key(key) || stage.keeps(object);
            if stays && !objects.contains_key(key) {
                objects.insert(key.clone(), object.clone());
                origins.insert(key.clone(), base.commit_of(key).clone());
            }
        }
    }
    let whole = own.desired.clone();
    let desired = Desired { objects, ..Desired::clone(&whole) };
    let in_waves = InWaves { waves, whole, origins };
    Revision { desired: Arc::new(desired), waves: Some(Arc::new(in_waves)), ..own.clone() }
}

/// What is in force of a commit as soon as it is taken, if it comes in waves; or if a part of it goes
/// ahead of the rest, and there is anything that must stay as long.
pub(super) fn begin(
    work: &mut Work,
    app: &AppName,
    candidate: &Arc<Revision>,
    has_canary: bool,
) -> Option<Arc<Revision>> {
    let base = work.revisions.get(app).cloned();
    let head = work.next.apps.get(app).map(|state| state.head.clone()).unwrap_or_default();
    if head.applied.is_some() && base.is_none() {
        return None;
    }
    let before = base.as_ref().map(|base| base.desired.clone()).unwrap_or_default();
    let every = before.objects.values().chain(candidate.desired.objects.values());
    let waves: BTreeSet<i32> = every.filter_map(|object| object.wave()).collect();
    // What is held back may need what is gone from Git.
    let is_gone = |key: &Key| !candidate.desired.objects.contains_key(key);
    let keeps = has_canary && before.objects.keys().any(is_gone);
    if waves.len() < 2 && !keeps {
        return None;
    }
    let stage = first_stage(work, app, &before, &candidate.desired)?;
    let mut under = head.waves_now().map(|waves| waves.under.clone()).unwrap_or_default();
    under.extend(head.applied.as_ref().map(|applied| Layer {
        revision: applied.revision.clone(),
        stage: head.waves_now().map(|waves| waves.stage),
        unknown: BTreeMap::new(),
    }));
    let revision = candidate.commit.id.clone();
    let new = Waves { revision, stage, under, unknown: BTreeMap::new() };
    let mut first = lay(base.as_deref(), candidate, new);
    if let Some(in_waves) = first.waves.as_mut().map(Arc::make_mut) {
        let left: BTreeSet<&Oid> = in_waves.origins.values().collect();
        in_waves.waves.under = needed(std::mem::take(&mut in_waves.waves.under), stage, &left);
        if in_waves.waves.under.len() > LAYERS_MAX {
            return None;
        }
    }
    Some(Arc::new(first))
}

/// The layers that must be read: those of which anything is `left`. One below something that falls
/// stays as well: it may say in which wave an object goes that a deeper one has in another.
fn needed(under: Vec<Layer>, top: Stage, left: &BTreeSet<&Oid>) -> Vec<Layer> {
    let mut is_below_falling = top.is_falling;
    let mut kept: Vec<Layer> = Vec::new();
    for layer in under.into_iter().rev() {
        let falls = layer.stage.is_some_and(|stage| stage.is_falling);
        let is_needed = is_below_falling || falls || left.contains(&layer.revision);
        is_below_falling |= falls;
        if is_needed {
            kept.insert(0, layer);
        }
    }
    kept
}

/// The first wave that has anything to wait for; none if there is none.
fn first_stage(work: &mut Work, app: &AppName, before: &Desired, new: &Desired) -> Option<Stage> {
    let gone = || before.objects.values().filter(|object| !new.objects.contains_key(&object.key));
    let waves = waves_of(new.objects.values());
    for wave in &waves {
        let objects = new.objects.values().filter(|object| object.wave() == Some(*wave));
        let is_as_it_was = |work: &mut Work, object: &Object| {
            let was = before.objects.get(&object.key);
            was.is_some_and(|was| was.meaning == object.meaning)
                && health::of(work, app, object) == Health::Current
        };
        if !objects.into_iter().all(|object| is_as_it_was(work, object)) {
            let is_all = Some(wave) == waves.last() && gone().next().is_none();
            return (!is_all).then_some(Stage { wave: *wave, is_falling: false });
        }
    }
    fall(gone())
}

fn waves_of<'o>(objects: impl Iterator<Item = &'o Arc<Object>>) -> BTreeSet<i32> {
    objects.filter_map(|object| object.wave()).collect()
}

/// The highest wave of what is to go; none if all of it may go at once.
fn fall<'o>(gone: impl Iterator<Item = &'o Arc<Object>>) -> Option<Stage> {
    let waves = waves_of(gone);
    let highest = waves.last().filter(|_| waves.len() > 1)?;
    Some(Stage { wave: *highest, is_falling: true })
}

/// What comes after a stage; none if that is the end.
fn next_stage(in_force: &Desired, in_waves: &InWaves) -> Option<Stage> {
    let stage = in_waves.waves.stage;
    let whole = &in_waves.whole.objects;
    let gone = || in_force.objects.values().filter(|object| !whole.contains_key(&object.key));
    let waves = waves_of(whole.values());
    let next = waves.iter().find(|wave| !stage.is_falling && **wave > stage.wave);
    match next {
        Some(next) if Some(next) == waves.last() && gone().next().is_none() => None,
        Some(next) => Some(Stage { wave: *next, is_falling: false }),
        None => fall(gone()),
    }
}

/// Whether all of a revision's waves have come, so that only what is gone from Git is left to go.
pub(super) fn is_last(revision: &Revision) -> bool {
    let in_waves = revision.waves.as_ref();
    let next = in_waves.and_then(|in_waves| next_stage(&revision.desired, in_waves));
    next.is_none_or(|next| next.is_falling)
}

fn is_held(work: &Work, app: &AppName) -> bool {
    work.next.apps.get(app).is_some_and(|state| state.head.canary_now().is_some())
}

/// Lets the next wave come, or go, once the last has arrived, or is gone.
pub(super) fn advance(work: &mut Work, app: &AppName) {
    let Some(revision) = work.revisions.get(app).cloned() else { return };
    let Some(in_waves) = &revision.waves else { return };
    let is_over = match in_waves.waves.stage.is_falling {
        true => !is_leaving(work, app, &revision),
        false => health::of_commit(work, app) == Health::Current,
    };
    if !is_over {
        return;
    }
    if is_last(&revision) && is_held(work, app) {
        return;
    }
    let next = next_stage(&revision.desired, in_waves);
    let next = next.map(|stage| Waves { stage, ..in_waves.waves.clone() });
    let how = next.as_ref().map_or_else(|| "all waves in force".to_owned(), Waves::to_string);
    let (id, of) = (revision.commit.id.short(), accept::of_app(&revision));
    let message = format!("revision {id}{of}: {how}");
    if let Some(state) = work.next.apps.get_mut(app) {
        Arc::make_mut(&mut state.head).waves = next;
    }
    work.note(message.clone());
    work.event(&accept::app_key(), "coordinator", "RevisionWave", message);
    // The agent puts together what is in force now.
    work.is_unfinished = true;
}

/// Whether pods of what is gone are still ending, on nodes that are there.
fn is_leaving(work: &Work, app: &AppName, revision: &Revision) -> bool {
    work.pods.values().any(|pod| {
        let template = &pod.binding.template;
        pod.binding.deletion.is_some()
            && !pod.is_lost
            && template.app == *app
            && !revision.desired.objects.contains_key(&template.owner)
    })
}
