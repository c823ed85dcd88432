//! What must hold of every plan that ends pods which could have gone on: an eviction leaves as many
//! ready as their budget asks for, and who makes way for another matters less.
//!
//! Plans are judged and not what is written, since only a plan has beside it what its planner knew.
//! What budgets and classes say is read anew from the commits.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kinds::binding::{Binding, Placement};
use crate::kinds::name::{NodeName, Uid};
use crate::kinds::object::{Body, Key};
use crate::kinds::registry::Kind;
use crate::kinds::status::PodReport;
use crate::kinds::workload::DisruptionBudget;
use crate::plan::{DRAINED, EVICTED, Input, PREEMPTED};
use crate::state::{PodList, State};

use super::World;
use super::check::{Violation, in_force};

/// Checks what was planned in the last step, if anything was.
pub(super) fn check(world: &World) -> Result<(), Violation> {
    let Some((input, next)) = world.planned.as_deref() else {
        return Ok(());
    };
    let ended = newly_ended(&input.state, next);
    for (place, pod) in ended.iter().filter(|(_, pod)| ends_for(pod, &[PREEMPTED])) {
        makes_way(world, next, place, pod)?;
    }
    if ended.iter().any(|(_, pod)| ends_for(pod, &[DRAINED, EVICTED])) {
        leaves_enough(world, input, next, &ended)?;
    }
    Ok(())
}

type Placed<'s> = (&'s Placement, &'s Binding);

fn ends_for(pod: &Binding, reasons: &[&str]) -> bool {
    pod.deletion.as_ref().is_some_and(|deletion| reasons.contains(&deletion.reason.as_str()))
}

/// The pods that end by this plan.
fn newly_ended<'s>(before: &State, next: &'s State) -> Vec<Placed<'s>> {
    let was_ending = |place: &Placement, pod: &Binding| {
        let known = before.pods.get(place).and_then(|pods| pods.get(&pod.key));
        known.is_none_or(|known| known.uid != pod.uid || known.deletion.is_some())
    };
    let is_as_before = |place: &Placement, pods: &Arc<PodList>| {
        before.pods.get(place).is_some_and(|before| Arc::ptr_eq(before, pods))
    };
    let changed = next.pods.iter().filter(|(place, pods)| !is_as_before(place, pods));
    let ending = changed.flat_map(|(place, pods)| pods.values().map(move |pod| (place, &**pod)));
    ending.filter(|(place, pod)| pod.deletion.is_some() && !was_ending(place, pod)).collect()
}

/// Somebody who matters more is to have the room.
fn makes_way(
    world: &World,
    next: &State,
    place: &Placement,
    victim: &Binding,
) -> Result<(), Violation> {
    let own = priority(world, victim);
    let waiting = next.pods.get(&None).into_iter().flat_map(|pods| pods.values());
    let mut heirs = waiting.filter(|pod| pod.nominated == *place && pod.deletion.is_none());
    match heirs.any(|heir| priority(world, heir) > own) {
        true => Ok(()),
        false => Err(format!("pod {} is preempted, and by nobody who matters more", victim.key)),
    }
}

/// What the commit that a pod was made from gives it.
fn priority(world: &World, pod: &Binding) -> i32 {
    let files = world.remote.files(&pod.template.revision);
    let parts = files.map(|files| super::divide(files).parts).unwrap_or_default();
    let find = |key: &Key| parts.iter().find_map(|part| part.desired.objects.get(key));
    let template = find(&pod.template.owner).and_then(|owner| owner.body.template());
    let class = template.and_then(|template| template.spec.priority_class.clone());
    let class = class.and_then(|class| find(&Key::cluster(Kind::PriorityClass, &class)));
    match class.map(|class| &class.body) {
        Some(Body::PriorityClass(class)) => class.value,
        _ => 0,
    }
}

/// What is ready and stays, and what ends for other reasons than somebody's wish, is as much as each
/// budget of what was evicted asks for. What budgets have no say in may have come after.
fn leaves_enough(
    world: &World,
    input: &Input,
    next: &State,
    ended: &[Placed<'_>],
) -> Result<(), Violation> {
    let reports: BTreeMap<&Uid, (&NodeName, &PodReport)> = input
        .nodes
        .iter()
        .flat_map(|(node, said)| said.pods.iter().map(move |(uid, pod)| (uid, (node, &**pod))))
        .collect();
    let is_ready = |pod: &Binding| {
        let report = reports.get(&pod.uid);
        report.is_some_and(|(node, pod)| !next.is_away(node) && pod.status.is_ready())
    };
    let is_wished = |pod: &Binding| ends_for(pod, &[DRAINED, EVICTED]);
    for (app, state) in &next.apps {
        let Some(applied) = &state.head.applied else { continue };
        let Some(revision) = in_force(world, app, &applied.revision, state.head.waves_now()) else {
            continue;
        };
        for (key, object) in &revision.desired.objects {
            let Body::DisruptionBudget(budget) = &object.body else { continue };
            let is_its = |pod: &Binding| {
                let owner = &pod.template.owner;
                owner.namespace == key.namespace && owner.name == key.name
            };
            let evicted = ended.iter().filter(|(_, pod)| is_its(pod) && is_wished(pod));
            if evicted.filter(|(_, pod)| is_ready(pod)).count() == 0 {
                continue;
            }
            let own =
                revision.desired.objects.values().filter(|other| {
                    other.key.namespace == key.namespace && other.key.name == key.name
                });
            let wanted = own.filter_map(|other| replicas(&other.body)).max();
            let Some(wanted) = wanted.map(|count| budget.bound.healthy_wanted(count)) else {
                continue;
            };
            let staying = next.all_pods().filter(|(_, pod)| pod.deletion.is_none());
            let others = ended.iter().filter(|(_, pod)| !is_wished(pod)).map(|(_, pod)| *pod);
            let counted = staying.map(|(_, pod)| &**pod).chain(others);
            let left = counted.filter(|pod| is_its(pod) && is_ready(pod)).count();
            if left < usize::try_from(wanted).unwrap_or(usize::MAX) {
                return Err(told(key.name.as_str(), budget, left, wanted));
            }
        }
    }
    Ok(())
}

fn told(name: &str, budget: &DisruptionBudget, left: usize, wanted: u32) -> String {
    format!("{left} pods of {name} are left ready, and {wanted} must be: {:?}", budget.bound)
}

fn replicas(body: &Body) -> Option<u32> {
    match body {
        Body::Deployment(deployment) => Some(deployment.replicas),
        Body::ReplicaSet(set) => Some(set.replicas),
        Body::StatefulSet(set) => Some(set.replicas),
        _ => None,
    }
}
