//! StatefulSets: pods with names of their own, made from the first to the last, and ended and renewed
//! from the last to the first.
//!
//! A row of numbered seats. Nobody takes a seat before the ones below it are taken and at ease, and a
//! seat is given to another only when it is known that whoever had it has left: a name is free when
//! its node says that the pod is gone, or when a person has declared that node dead
//! (docs/DESIGN.md, Hard cases 2). So there are never two pods of one name, and this file need not
//! see to it: [`Work::pods`] holds one pod to a name.
//!
//! The rules are Kubernetes' (`stateful_set_control.go`). Three are ours, because with them every
//! roll-out ends that can: a pod that is not ready and was not made from the template it should have is
//! replaced without waiting for it to become ready, so that a reverted mistake heals by itself; when
//! the set shrinks, the last pod goes though it is not ready, and waits for those below it only as long
//! as they may still come up ([`is_hopeless`]); and `maxUnavailable` holds for ordered sets, too.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::kinds::binding::AppName;
use crate::kinds::labels::Labels;
use crate::kinds::name::{Name, PodKey};
use crate::kinds::object::{Body, Key, Object};
use crate::kinds::workload::{SetUpdate, StatefulSet};
use crate::state::RecordKey;
use crate::state::records::StatefulSetRecord;

use super::canary;
use super::memory::Pace;
use super::revisions::{self, Edition, LABEL_REVISION};
use super::work::{NewName, NewPod, PODS_MADE_MAX, Work};

/// The label with a pod's name (`StatefulSetPodNameLabel`).
const LABEL_POD_NAME: &str = "statefulset.kubernetes.io/pod-name";
/// The label with a pod's number (`PodIndexLabel`).
const LABEL_POD_INDEX: &str = "apps.kubernetes.io/pod-index";
/// Who says so in events.
const SOURCE: &str = "statefulset-controller";

/// A StatefulSet in the planner's hands.
struct Seating<'a> {
    app: &'a AppName,
    key: &'a Key,
    namespace: &'a Name,
    spec: &'a StatefulSet,
    /// What pods below the partition are made from.
    current: Edition,
    /// What all others are made from.
    update: Edition,
    /// The numbers of those that go ahead, where the rest is held back, and what that is made from.
    ahead: Option<(BTreeSet<u32>, Edition)>,
}

/// How it is with a seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seat {
    /// Nobody has the name.
    Vacant,
    /// A pod that is not the set's has it.
    Taken,
    /// Its pod is being ended.
    Leaving,
    /// Its pod has finished.
    Over,
    /// Its pod's node is not heard of.
    Lost,
    /// Its pod is not ready.
    Unready,
    /// Its pod is ready, and has not been for long enough.
    Ready,
    /// Its pod is available.
    Available,
}

pub(super) fn keep_stateful_sets(work: &mut Work) {
    for (app, revision) in work.revisions.clone() {
        forget_gone(work, &app, &revision.desired);
        for object in revision.desired.objects.values() {
            if let Body::StatefulSet(spec) = &object.body {
                keep(work, &app, object, spec);
            }
        }
    }
}

fn forget_gone(work: &mut Work, app: &AppName, desired: &crate::desired::Desired) {
    if let Some(state) = work.next.apps.get_mut(app) {
        state.stateful_sets.retain(|key, _| {
            let kind = crate::kinds::registry::Kind::StatefulSet;
            desired.objects.contains_key(&Key::namespaced(kind, &key.namespace, &key.name))
        });
    }
}

fn keep(work: &mut Work, app: &AppName, object: &Object, spec: &StatefulSet) {
    let Some(namespace) = &object.key.namespace else {
        return;
    };
    let Some(update) = revisions::in_force(work, app, object, &spec.template) else {
        return;
    };
    let own = RecordKey::new(namespace, &object.key.name);
    let record = work.next.apps.get(app).and_then(|state| state.stateful_sets.get(&own)).cloned();
    let current = record
        .as_ref()
        .and_then(|record| revisions::edition(work, app, &object.key, &record.current))
        .unwrap_or_else(|| update.clone());
    let ahead = canary::part(work, app, &object.key).and_then(|part| {
        let from = revisions::edition(work, app, &object.key, &part.from)?;
        Some((part.ordinals, from))
    });
    let set = Seating { app, key: &object.key, namespace, spec, current, update, ahead };
    let is_full = fill(work, &set);
    let is_right_sized = shrink(work, &set, is_full);
    roll(work, &set, is_right_sized);
    keep_record(work, &set, record.as_deref());
}

impl Seating<'_> {
    fn pod_key(&self, ordinal: u32) -> PodKey {
        let name = Name::trusted(&format!("{}-{ordinal}", self.key.name));
        PodKey::new(self.namespace, &name)
    }

    /// Whether a pod of this number stays with the template that was in force before.
    fn is_held_back(&self, ordinal: u32) -> bool {
        match self.spec.update {
            SetUpdate::OnDelete => false,
            SetUpdate::RollingUpdate { partition, .. } => {
                ordinal < self.spec.start.saturating_add(partition)
            }
        }
    }

    /// What a pod of this number is made from (`newVersionedStatefulSetPod`).
    fn edition(&self, ordinal: u32) -> &Edition {
        match &self.ahead {
            _ if self.is_held_back(ordinal) => &self.current,
            Some((ahead, from)) if !ahead.contains(&ordinal) => from,
            _ => &self.update,
        }
    }

    /// Whether the pod of this number was made from what it should be.
    fn is_right(&self, work: &Work, ordinal: u32) -> bool {
        let pod = work.pods.get(&self.pod_key(ordinal));
        pod.is_some_and(|pod| revisions::is_of(pod, self.edition(ordinal).name.as_str()))
    }

    fn look(&self, work: &mut Work, ordinal: u32) -> Seat {
        let key = self.pod_key(ordinal);
        let is_available = work.is_available(&key, self.spec.min_ready_s);
        match work.pods.get(&key) {
            None => Seat::Vacant,
            Some(pod) if pod.binding.owner != *self.key => Seat::Taken,
            Some(pod) if pod.is_leaving() => Seat::Leaving,
            Some(pod) if pod.phase().is_over() => Seat::Over,
            Some(pod) if pod.is_lost => Seat::Lost,
            Some(pod) if !pod.is_ready() => Seat::Unready,
            Some(_) if !is_available => Seat::Ready,
            Some(_) => Seat::Available,
        }
    }

    /// The numbers of the pods that there are, the lowest first.
    fn seated(&self, work: &Work) -> Vec<u32> {
        let own = work.pods_of(self.key);
        let mut numbers: Vec<u32> = own.iter().filter_map(|pod| pod.binding.index).collect();
        numbers.sort_unstable();
        numbers
    }

    fn end(&self, work: &mut Work, ordinal: u32, grace_s: Option<u32>, reason: &str) {
        let key = self.pod_key(ordinal);
        // One that has no node is gone at once, and its name is free in the next turn.
        work.is_unfinished |= work.pods.get(&key).is_some_and(|pod| pod.node.is_none());
        work.end_pod(&key, grace_s, reason);
        let message =
            format!("delete Pod {} in StatefulSet {} successful", key.name, self.key.name);
        work.event(self.key, SOURCE, "SuccessfulDelete", message);
    }
}

/// Makes the pods that are missing, in order. Says whether all are there and available.
fn fill(work: &mut Work, set: &Seating<'_>) -> bool {
    let mut is_full = true;
    for ordinal in set.spec.ordinals() {
        let seat = set.look(work, ordinal);
        if seat == Seat::Available {
            continue;
        }
        is_full = false;
        match seat {
            Seat::Vacant if work.made >= PODS_MADE_MAX => break,
            Seat::Vacant => make(work, set, ordinal),
            Seat::Over => set.end(work, ordinal, Some(0), "Finished"),
            _ => {}
        }
        if !set.spec.is_parallel {
            break;
        }
    }
    is_full
}

fn make(work: &mut Work, set: &Seating<'_>, ordinal: u32) {
    let key = set.pod_key(ordinal);
    let edition = set.edition(ordinal);
    work.make_pod(NewPod {
        namespace: set.namespace,
        name: NewName::Exact(&key.name),
        template: edition.template.clone(),
        owner: set.key.clone(),
        labels: Labels::from([
            (LABEL_REVISION.to_owned(), edition.name.to_string()),
            (LABEL_POD_NAME.to_owned(), key.name.to_string()),
            (LABEL_POD_INDEX.to_owned(), ordinal.to_string()),
        ]),
        index: Some(ordinal),
        only_node: None,
    });
    work.note(format!("{}: pod {} is made", set.key, key.name));
    let message = format!("create Pod {} in StatefulSet {} successful", key.name, set.key.name);
    work.event(set.key, SOURCE, "SuccessfulCreate", message);
}

/// Ends pods beyond the set's size, the last first and one after the other. Says whether none is left.
fn shrink(work: &mut Work, set: &Seating<'_>, is_full: bool) -> bool {
    let wanted = set.spec.ordinals();
    let surplus = set.seated(work).into_iter().rev().filter(|number| !wanted.contains(number));
    let surplus: Vec<u32> = surplus.collect();
    let waits = !surplus.is_empty() && !set.spec.is_parallel && !is_full;
    let may_go = match waits {
        true => is_hopeless(work, set),
        false => {
            work.memory.progress.remove(set.key);
            true
        }
    };
    for number in &surplus {
        let is_leaving = set.look(work, *number) == Seat::Leaving;
        if !is_leaving && may_go {
            work.note(format!("{}: pod {} is one too many", set.key, set.pod_key(*number).name));
            set.end(work, *number, None, "ScaledDown");
        }
        if !set.spec.is_parallel {
            break;
        }
    }
    surplus.is_empty()
}

/// How long pods that must go wait for those below to come up; a Deployment's
/// `progressDeadlineSeconds` if nobody says otherwise.
const PATIENCE: Duration = Duration::from_secs(600);

/// Whether those that are to stay can't be waited for: one of them has tried to run and is in a
/// back-off, or nothing has moved for [`PATIENCE`]. Kubernetes waits for ever then, though nobody but
/// the author of the bad template could help, and he has asked for fewer pods.
fn is_hopeless(work: &mut Work, set: &Seating<'_>) -> bool {
    let mut mark = Vec::new();
    for ordinal in set.spec.ordinals() {
        let seat = set.look(work, ordinal);
        let pod = work.pods.get(&set.pod_key(ordinal));
        if seat == Seat::Unready && pod.is_some_and(super::Pod::is_in_back_off) {
            return true;
        }
        mark.push(seat as u32);
    }
    let stood = match work.memory.progress(set.key, mark, work.now.elapsed) {
        Pace::Stands(stood) => stood,
        Pace::Unknown | Pace::Moves => Duration::ZERO,
    };
    work.wake_in(PATIENCE.saturating_sub(stood).max(Duration::from_secs(1)));
    stood >= PATIENCE
}

/// Ends pods that were made from another template than they should have, the last first, as far as
/// `maxUnavailable` allows. Those that are not ready go before those that are: their end costs nothing.
fn roll(work: &mut Work, set: &Seating<'_>, is_right_sized: bool) {
    let SetUpdate::RollingUpdate { max_unavailable, .. } = set.spec.update else {
        return;
    };
    let wanted = set.spec.ordinals();
    let allowed = max_unavailable.rounded_down(set.spec.replicas).max(1);
    let (mut broken, mut old) = (Vec::new(), Vec::new());
    let (mut available, mut under_way) = (0_u32, 0_u32);
    for number in set.seated(work).into_iter().rev().filter(|number| wanted.contains(number)) {
        let seat = set.look(work, number);
        available += u32::from(seat == Seat::Available);
        match (seat, set.is_right(work, number)) {
            (Seat::Available, true) => {}
            (Seat::Available, false) if set.is_held_back(number) => {}
            (Seat::Available, false) => old.push(number),
            (Seat::Unready, false) => broken.push(number),
            // Nobody knows when it comes back; others need not wait for it.
            _ if work.pods.get(&set.pod_key(number)).is_some_and(|pod| pod.is_lost) => {}
            _ => under_way += 1,
        }
    }
    let mut missing = set.spec.replicas.saturating_sub(available);
    for number in broken {
        if under_way < allowed {
            under_way += 1;
            replace(work, set, number, "it is not ready, and its template changed");
        }
    }
    for number in old {
        let is_allowed = missing < allowed && under_way < allowed;
        if is_allowed && (is_right_sized || set.spec.is_parallel) {
            under_way += 1;
            missing += 1;
            replace(work, set, number, "its template changed");
        }
    }
}

fn replace(work: &mut Work, set: &Seating<'_>, number: u32, why: &str) {
    work.note(format!("{}: pod {} is replaced: {why}", set.key, set.pod_key(number).name));
    set.end(work, number, None, "TemplateChanged");
}

/// Writes down which templates are in force. A roll-out is complete when every pod has the new one
/// and is ready (`completeRollingUpdate`).
fn keep_record(work: &mut Work, set: &Seating<'_>, before: Option<&StatefulSetRecord>) {
    let pods = work.pods_of(set.key);
    let wanted = set.spec.ordinals();
    let is_done = |pod: &&&super::Pod| {
        let is_counted = pod.binding.index.is_some_and(|number| wanted.contains(&number));
        is_counted && pod.is_ready() && revisions::is_of(pod, set.update.name.as_str())
    };
    let done = u32::try_from(pods.iter().filter(is_done).count()).unwrap_or(u32::MAX);
    let is_rolling = matches!(set.spec.update, SetUpdate::RollingUpdate { .. });
    let current = match is_rolling && done == set.spec.replicas {
        true => &set.update.name,
        false => &set.current.name,
    };
    let mut in_use = BTreeSet::from([current.clone(), set.update.name.clone()]);
    in_use.extend(set.ahead.iter().map(|(_, from)| from.name.clone()));
    let labels = pods.iter().filter_map(|pod| pod.binding.labels.get(LABEL_REVISION));
    in_use.extend(labels.map(|label| Name::trusted(label)));
    let record = StatefulSetRecord {
        current: current.clone(),
        update: set.update.name.clone(),
        unknown: before.map_or_else(BTreeMap::new, |record| record.unknown.clone()),
    };
    if before.is_some_and(|before| before.current != before.update)
        && record.current == record.update
    {
        work.note(format!("{}: the roll-out is complete", set.key));
    }
    if before != Some(&record)
        && let Some(state) = work.next.apps.get_mut(set.app)
    {
        let own = RecordKey::new(set.namespace, &set.key.name);
        state.stateful_sets.insert(own, Arc::new(record));
    }
    let limit = set.spec.revision_history_limit;
    revisions::forget_old(work, set.app, set.key, &in_use, limit);
}
