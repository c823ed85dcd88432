//! Deployments: which ReplicaSet is the current one, what the others are for, and how the whole
//! stands.
//!
//! A template that was run before brings its old ReplicaSet back, so a `git revert` returns to the
//! very set it left. Sets are told apart by what their templates mean, never by their names: a name
//! is a digest of how a template was written, and an upgrade of ours may read the same text
//! differently (docs/DESIGN.md, Hard cases 10).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::desired::MEANING_VERSION;
use crate::kinds::binding::AppName;
use crate::kinds::name::{Name, PodKey};
use crate::kinds::object::{Body, Key, Object};
use crate::kinds::registry::Kind;
use crate::kinds::workload::Deployment;
use crate::state::records::{CanaryPart, ConditionRecord, DeploymentRecord, SetRecord};
use crate::state::{RecordKey, called_after};

use super::canary;
use super::memory::Pace;
use super::pods::Tally;
use super::rollout;
use super::work::Work;

/// `Progressing` of a Deployment that is paused, and of one that was, until it moves: in both cases
/// Kubernetes calls the condition unknown, neither true nor false.
pub const REASON_PAUSED: &str = "DeploymentPaused";
/// See [`REASON_PAUSED`].
pub const REASON_RESUMED: &str = "DeploymentResumed";
const REASON_ARRIVED: &str = "NewReplicaSetAvailable";
const REASON_LATE: &str = "ProgressDeadlineExceeded";
const REASON_UPDATED: &str = "ReplicaSetUpdated";

/// Characters of the template's digest in a set's name; Kubernetes' hash has up to ten.
const HASH_LEN: usize = 10;

/// A Deployment in the planner's hands.
pub(super) struct Rolling<'a> {
    pub(super) app: &'a AppName,
    pub(super) key: &'a Key,
    pub(super) namespace: &'a Name,
    pub(super) spec: &'a Deployment,
    /// The current set, if there is one.
    pub(super) current: Option<RecordKey>,
    /// The others, the oldest first; what is held back comes last.
    pub(super) old: Vec<RecordKey>,
    /// What goes ahead, where the rest is held back.
    pub(super) ahead: Option<CanaryPart>,
}

pub(super) fn roll_deployments(work: &mut Work) {
    for (app, revision) in work.revisions.clone() {
        remove_sets_without_deployment(work, &app);
        for object in revision.desired.objects.values() {
            if let Body::Deployment(spec) = &object.body {
                roll(work, &app, object, spec);
            }
        }
    }
}

/// Sets whose Deployment is gone from Git; their pods have been ended by [`super::claim`].
fn remove_sets_without_deployment(work: &mut Work, app: &AppName) {
    let Some(desired) = work.desired(app) else {
        return;
    };
    let Some(state) = work.next.apps.get_mut(app) else {
        return;
    };
    let exists = |namespace: &Name, name: &Name| {
        desired.objects.contains_key(&Key::namespaced(Kind::Deployment, namespace, name))
    };
    state.sets.retain(|key, set| exists(&key.namespace, &set.deployment));
    state.deployments.retain(|key, _| exists(&key.namespace, &key.name));
}

fn roll(work: &mut Work, app: &AppName, object: &Object, spec: &Arc<Deployment>) {
    let Some(namespace) = &object.key.namespace else {
        return;
    };
    let (current, mut old) = sort_sets(work, app, object, spec);
    let ahead = canary::part(work, app, &object.key);
    let ahead = ahead.filter(|ahead| {
        old.sort_by_key(|key| key.name == ahead.from);
        old.last().is_some_and(|key| key.name == ahead.from)
    });
    let mut rolling = Rolling { app, key: &object.key, namespace, spec, current, old, ahead };
    ensure_current(work, &mut rolling, object);
    let is_scaled = rolling.ahead.is_none() && rollout::is_scaling(work, &rolling);
    if spec.paused || is_scaled {
        rollout::scale(work, &rolling);
    }
    if !spec.paused {
        rollout::step(work, &rolling);
    }
    keep_record(work, &rolling);
    remove_history(work, &rolling);
}

/// The set whose template says what the manifest says, and the others, oldest first.
pub(super) fn sort_sets(
    work: &Work,
    app: &AppName,
    object: &Object,
    spec: &Deployment,
) -> (Option<RecordKey>, Vec<RecordKey>) {
    let Some((state, namespace)) = work.next.apps.get(app).zip(object.key.namespace.as_ref())
    else {
        return (None, Vec::new());
    };
    let named = called_after(&state.sets, namespace, &object.key.name);
    let mut own: Vec<(&RecordKey, &Arc<SetRecord>)> =
        named.filter(|(_, set)| set.deployment == object.key.name).collect();
    own.sort_by_key(|(_, set)| set.sequence);
    let is_current =
        |set: &SetRecord| work.still_means(&set.template, &spec.template) == Some(true);
    let current = own.iter().find(|(_, set)| is_current(set)).map(|(key, _)| *key);
    let old = own.iter().map(|(key, _)| *key).filter(|key| Some(*key) != current).cloned();
    (current.cloned(), old.collect())
}

/// Brings the current set to the front of the history; makes it, unless the Deployment is paused.
fn ensure_current(work: &mut Work, rolling: &mut Rolling<'_>, object: &Object) {
    let Some(reference) = work.reference(rolling.app, object, &rolling.spec.template) else {
        return;
    };
    let newest = newest_revision(work, rolling);
    if let Some(key) = &rolling.current {
        edit_set(work, rolling.app, key, |set| {
            if set.template.meaning_version != MEANING_VERSION {
                set.template = reference;
            }
            if set.revision < newest {
                let earlier = std::mem::replace(&mut set.revision, newest.saturating_add(1));
                set.earlier_revisions.push(earlier);
            }
        });
        return;
    }
    if rolling.spec.paused {
        return;
    }
    let (key, hash) = free_set_name(work, rolling);
    let sequence = work.next_sequence();
    let record = SetRecord {
        uid: work.new_uid("replicaset", &key.to_string()),
        deployment: object.key.name.clone(),
        template: reference,
        hash,
        replicas: 0,
        revision: newest.saturating_add(1),
        earlier_revisions: Vec::new(),
        desired: rolling.spec.replicas,
        max: 0,
        created: work.now.wall,
        sequence,
        unknown: BTreeMap::new(),
    };
    let message = format!("{}: new ReplicaSet {} for a new template", rolling.key, key.name);
    work.note(message);
    if let Some(state) = work.next.apps.get_mut(rolling.app) {
        state.sets.insert(key.clone(), Arc::new(record));
    }
    rolling.current = Some(key);
}

fn newest_revision(work: &Work, rolling: &Rolling<'_>) -> u64 {
    let sets = rolling.old.iter().chain(&rolling.current);
    sets.filter_map(|key| set(work, rolling.app, key)).map(|set| set.revision).max().unwrap_or(0)
}

/// A name for a new set: the Deployment's and a digest of its template as written, salted by the
/// number of collisions, as Kubernetes' `ComputeHash`.
fn free_set_name(work: &mut Work, rolling: &Rolling<'_>) -> (RecordKey, String) {
    let own = RecordKey::new(rolling.namespace, &rolling.key.name);
    let state = work.next.apps.entry(rolling.app.clone()).or_default();
    let mut collisions = state.deployments.get(&own).map_or(0, |record| record.collisions);
    loop {
        let written = rolling.spec.template.written;
        let salted = match collisions {
            0 => written,
            _ => crate::kinds::digest::Digest::of(format!("{written} {collisions}").as_bytes()),
        };
        let hash = salted.safe_text(HASH_LEN);
        let name = Name::trusted(&format!("{}-{hash}", rolling.key.name));
        let key = RecordKey::new(rolling.namespace, &name);
        if !state.sets.contains_key(&key) {
            if let Some(record) = state.deployments.get_mut(&own) {
                Arc::make_mut(record).collisions = collisions;
            }
            return (key, hash);
        }
        collisions += 1;
    }
}

/// A set of an app.
pub(super) fn set<'w>(work: &'w Work, app: &AppName, key: &RecordKey) -> Option<&'w SetRecord> {
    work.next.apps.get(app)?.sets.get(key).map(|set| &**set)
}

/// Changes a set; equal content keeps the shared record, so that nothing is written.
pub(super) fn edit_set(
    work: &mut Work,
    app: &AppName,
    key: &RecordKey,
    change: impl FnOnce(&mut SetRecord),
) {
    let Some(record) = work.next.apps.get_mut(app).and_then(|state| state.sets.get_mut(key)) else {
        return;
    };
    let mut changed = SetRecord::clone(record);
    change(&mut changed);
    if changed != **record {
        *record = Arc::new(changed);
    }
}

/// The key of a set as the owner of pods.
pub(super) fn owner_key(key: &RecordKey) -> Key {
    Key::namespaced(Kind::ReplicaSet, &key.namespace, &key.name)
}

/// Counts the pods of a set.
pub(super) fn tally(work: &mut Work, key: &RecordKey, min_ready_s: u32) -> Tally {
    let active: Vec<(PodKey, bool)> = work
        .pods_of(&owner_key(key))
        .into_iter()
        .filter(|pod| pod.is_active())
        .map(|pod| (pod.binding.key.clone(), pod.is_ready()))
        .collect();
    let mut tally = Tally::default();
    for (pod, ready) in active {
        tally.count(ready, work.is_available(&pod, min_ready_s));
    }
    tally
}

/// Writes down how the roll-out stands, when that has changed.
fn keep_record(work: &mut Work, rolling: &Rolling<'_>) {
    let min_ready_s = rolling.spec.min_ready_s;
    let current =
        rolling.current.as_ref().map_or(Tally::default(), |k| tally(work, k, min_ready_s));
    let old: Tally = rolling
        .old
        .iter()
        .map(|key| tally(work, key, min_ready_s))
        .fold(Tally::default(), std::ops::Add::add);
    let own = RecordKey::new(rolling.namespace, &rolling.key.name);
    let before =
        work.next.apps.get(rolling.app).and_then(|state| state.deployments.get(&own)).cloned();
    let available = available_condition(rolling, current + old);
    let progressing = progressing_condition(work, rolling, current, old, before.as_deref());
    let now = work.now.wall;
    let mut record = before.as_deref().cloned().unwrap_or_else(|| DeploymentRecord {
        collisions: 0,
        revision: 0,
        available: unset(now),
        progressing: unset(now),
        unknown: BTreeMap::new(),
    });
    record.revision = newest_revision(work, rolling);
    turn(&mut record.available, available, now);
    if let Some(progressing) = progressing {
        announce_deadline(work, rolling, &record.progressing, &progressing);
        turn(&mut record.progressing, progressing, now);
    }
    let is_news = before.as_deref() != Some(&record);
    if let Some(state) = work.next.apps.get_mut(rolling.app).filter(|_| is_news) {
        state.deployments.insert(own, Arc::new(record));
    }
}

/// A condition's new value, before it is compared with the old.
struct Finding {
    status: bool,
    reason: &'static str,
    message: String,
}

fn unset(now: crate::kinds::time::Wall) -> ConditionRecord {
    let (reason, message) = (String::new(), String::new());
    ConditionRecord { status: false, reason, message, since: now, updated: now }
}

fn turn(condition: &mut ConditionRecord, finding: Finding, now: crate::kinds::time::Wall) {
    if condition.status == finding.status
        && condition.reason == finding.reason
        && condition.message == finding.message
    {
        return;
    }
    if condition.status != finding.status {
        condition.since = now;
    }
    condition.status = finding.status;
    finding.reason.clone_into(&mut condition.reason);
    condition.message = finding.message;
    condition.updated = now;
}

/// As Kubernetes words it.
fn available_condition(rolling: &Rolling<'_>, all: Tally) -> Finding {
    let (_, unavailable) = rolling.spec.strategy.bounds(rolling.spec.replicas);
    if all.available >= rolling.spec.replicas.saturating_sub(unavailable) {
        Finding {
            status: true,
            reason: "MinimumReplicasAvailable",
            message: "Deployment has minimum availability.".into(),
        }
    } else {
        Finding {
            status: false,
            reason: "MinimumReplicasUnavailable",
            message: "Deployment does not have minimum availability.".into(),
        }
    }
}

/// Whether the roll-out moves, has arrived, or has stood still for too long; none where that is as it
/// was. `NewReplicaSetCreated` and `FoundNewReplicaSet`, which Kubernetes says for a moment, are never
/// seen here: one turn goes from the template to its pods.
fn progressing_condition(
    work: &mut Work,
    rolling: &Rolling<'_>,
    current: Tally,
    old: Tally,
    before: Option<&DeploymentRecord>,
) -> Option<Finding> {
    let before = before.map(|record| &record.progressing);
    let mark_key = rolling.current.as_ref().map_or_else(|| rolling.key.clone(), owner_key);
    if rolling.spec.paused {
        // What stood still on purpose has not been slow.
        work.memory.progress.remove(&mark_key);
        return paused_condition(before);
    }
    let name = rolling.current.as_ref().map(|key| key.name.to_string()).unwrap_or_default();
    let said = |reason: &str| {
        before.is_some_and(|condition| {
            condition.reason == reason && condition.message.contains(&format!("\"{name}\""))
        })
    };
    if let Some(ahead) = &rolling.ahead
        && current.active == ahead.pods
        && current.available >= ahead.pods
    {
        // What is held on purpose is not slow.
        work.memory.progress.remove(&mark_key);
        let message = format!("ReplicaSet \"{name}\" is progressing.");
        return Some(Finding { status: true, reason: REASON_UPDATED, message });
    }
    let wanted = rolling.spec.replicas;
    let arrived = current.active == wanted && current.available >= wanted && old.active == 0;
    let mark = vec![current.active, current.ready, current.available, old.active, wanted];
    let pace = work.memory.progress(&mark_key, mark, work.now.elapsed);
    if arrived {
        let message = format!("ReplicaSet \"{name}\" has successfully progressed.");
        return Some(Finding { status: true, reason: REASON_ARRIVED, message });
    }
    // Once arrived, later trouble is availability's matter, not the roll-out's.
    if said(REASON_ARRIVED) && old.active == 0 {
        return None;
    }
    let is_late = match (rolling.spec.progress_deadline_s, pace) {
        (None, _) | (_, Pace::Moves) => false,
        (Some(_), Pace::Unknown) => said(REASON_LATE),
        (Some(deadline_s), Pace::Stands(stood)) => {
            said(REASON_LATE) || stood >= Duration::from_secs(deadline_s.into())
        }
    };
    if is_late {
        let message = format!("ReplicaSet \"{name}\" has timed out progressing.");
        return Some(Finding { status: false, reason: REASON_LATE, message });
    }
    if let Some(deadline_s) = rolling.spec.progress_deadline_s {
        let stood = if let Pace::Stands(stood) = pace { stood } else { Duration::ZERO };
        work.wake_in(Duration::from_secs(deadline_s.into()).saturating_sub(stood));
    }
    let was_paused = before
        .is_some_and(|before| [REASON_PAUSED, REASON_RESUMED].contains(&before.reason.as_str()));
    if was_paused && pace != Pace::Moves {
        let message = "Deployment is resumed".into();
        return Some(Finding { status: false, reason: REASON_RESUMED, message });
    }
    let message = format!("ReplicaSet \"{name}\" is progressing.");
    Some(Finding { status: true, reason: REASON_UPDATED, message })
}

/// A roll-out that was called failed stays so while it is paused (`checkPausedConditions`).
fn paused_condition(before: Option<&ConditionRecord>) -> Option<Finding> {
    let was_late = before.is_some_and(|condition| condition.reason == REASON_LATE);
    let message = "Deployment is paused".into();
    (!was_late).then_some(Finding { status: false, reason: REASON_PAUSED, message })
}

fn announce_deadline(
    work: &mut Work,
    rolling: &Rolling<'_>,
    before: &ConditionRecord,
    now: &Finding,
) {
    if now.reason == REASON_LATE && before.reason != now.reason {
        work.note(format!("{}: {}", rolling.key, now.message));
        work.warn(rolling.key, "deployment", REASON_LATE, now.message.clone());
    }
}

/// Old sets beyond `revisionHistoryLimit` go, the oldest first; those with pods stay.
fn remove_history(work: &mut Work, rolling: &Rolling<'_>) {
    let idle: Vec<&RecordKey> = rolling
        .old
        .iter()
        .filter(|key| {
            set(work, rolling.app, key).is_some_and(|set| set.replicas == 0)
                && work.pods_of(&owner_key(key)).is_empty()
        })
        .collect();
    let limit = usize::try_from(rolling.spec.revision_history_limit).unwrap_or(usize::MAX);
    let surplus = idle.len().saturating_sub(limit);
    let gone: Vec<RecordKey> = idle.into_iter().take(surplus).cloned().collect();
    if let Some(state) = work.next.apps.get_mut(rolling.app) {
        for key in gone {
            state.sets.remove(&key);
        }
    }
}
