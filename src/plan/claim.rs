//! Which set owns which pod.
//!
//! As Kubernetes' `PodControllerRefManager`: a set adopts pods that match its selector and belong to
//! nobody, and releases pods that no longer match. A Pod written by hand belongs to nobody until a
//! set adopts it; pods that a set made itself are never released, they end with it. So does a Job
//! with a selector of its own (`manualSelector`), as long as it has work to give: what it adopts is of
//! its present run from then on, and counts.
//! A pod whose owner is gone from Git ends.

use crate::kinds::labels::Selector;
use crate::kinds::name::PodKey;
use crate::kinds::object::{Body, Key};
use crate::kinds::registry::Kind;

use super::work::Work;

pub(super) fn settle_ownership(work: &mut Work) {
    end_orphans(work);
    let sets = selectors(work);
    release(work, &sets);
    adopt(work, &sets);
}

/// A set that may own pods, in order of key.
struct Claimant {
    key: Key,
    selector: Selector,
}

/// ReplicaSets, ReplicationControllers and Jobs written by hand. Sets of Deployments and other Jobs are
/// not here: their selectors have something in them that no pod written by hand carries.
fn selectors(work: &Work) -> Vec<Claimant> {
    let desired = work.revisions.values().map(|revision| &revision.desired);
    let objects = desired.flat_map(|desired| desired.objects.values());
    let claimants = objects.filter_map(|object| {
        let selector = match &object.body {
            Body::ReplicaSet(set) => &set.selector,
            Body::Job(job) => job.manual_selector.as_ref()?,
            _ => return None,
        };
        Some(Claimant { key: object.key.clone(), selector: selector.clone() })
    });
    claimants.collect()
}

/// Ends pods whose owner is not in Git any more.
fn end_orphans(work: &mut Work) {
    let orphans: Vec<PodKey> = work
        .pods
        .values()
        .filter(|pod| !pod.is_leaving() && work.is_known(&pod.binding.template.app))
        .filter(|pod| !is_wanted(work, &pod.binding.template.owner))
        .map(|pod| pod.binding.key.clone())
        .collect();
    for key in orphans {
        work.note(format!("pod {key} ends: its owner is gone from Git"));
        work.end_pod(&key, None, "NotInGit");
    }
}

fn is_wanted(work: &Work, owner: &Key) -> bool {
    work.revisions.values().any(|revision| revision.desired.objects.contains_key(owner))
}

/// Pods written by hand that a set had adopted, and that it no longer picks or that it left behind.
fn release(work: &mut Work, sets: &[Claimant]) {
    let released: Vec<(PodKey, Key)> = work
        .pods
        .values()
        .filter(|pod| work.is_known(&pod.binding.template.app))
        .filter(|pod| pod.is_by_hand() && pod.binding.owner.kind != Kind::Pod)
        .filter(|pod| {
            let owner = sets.iter().find(|set| set.key == pod.binding.owner);
            owner.is_none_or(|set| !set.selector.matches(&pod.labels()))
        })
        .map(|pod| (pod.binding.key.clone(), pod.binding.template.owner.clone()))
        .collect();
    for (key, own) in released {
        work.note(format!("pod {key} belongs to itself again"));
        work.hand_over(&key, &own);
    }
}

/// Jobs adopt when their run has begun ([`super::job`]).
fn adopt(work: &mut Work, sets: &[Claimant]) {
    for set in sets.iter().filter(|set| set.key.kind != Kind::Job) {
        adopt_by(work, &set.key, &set.selector);
    }
}

/// Gives an owner the pods that its selector picks and that belong to nobody; says which.
pub(super) fn adopt_by(work: &mut Work, owner: &Key, selector: &Selector) -> Vec<PodKey> {
    let adopted: Vec<PodKey> = work
        .pods
        .values()
        .filter(|pod| Some(&pod.binding.key.namespace) == owner.namespace.as_ref())
        .filter(|pod| pod.is_by_hand() && pod.binding.owner.kind == Kind::Pod)
        .filter(|pod| pod.is_active() && selector.matches(&pod.labels()))
        .map(|pod| pod.binding.key.clone())
        .collect();
    for key in &adopted {
        work.note(format!("{owner} adopts pod {key}"));
        work.hand_over(key, owner);
    }
    adopted
}
