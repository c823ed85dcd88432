//! PodDisruptionBudgets, with how they stand.

use serde_json::{Value, json};

use super::{Shown, meta};
use crate::desired::Desired;
use crate::kinds::object::Body;
use crate::kinds::registry::Kind;
use crate::kinds::status::CONDITION_READY;
use crate::kinds::time::Wall;
use crate::plan::Pod;
use crate::plan::schedule::Standing;
use crate::view::picture::{Found, Picture};

pub(super) fn list(picture: &Picture) -> Vec<Shown> {
    let desired: Vec<&Desired> = picture
        .apps
        .values()
        .filter_map(|app| app.applied.as_ref())
        .map(|revision| &*revision.desired)
        .collect();
    let budgets: Vec<Found<'_>> = picture.objects_of(Kind::PodDisruptionBudget).collect();
    let pods: Vec<Pod> = if budgets.is_empty() { Vec::new() } else { picture.pods().collect() };
    budgets.iter().map(|found| budget(found, &desired, &pods)).collect()
}

fn budget(found: &Found<'_>, desired: &[&Desired], pods: &[Pod]) -> Shown {
    let key = &found.object.key;
    let mut object = meta::written(found);
    if let (Body::DisruptionBudget(wish), Some(namespace)) = (&found.object.body, &key.namespace) {
        let standing = Standing::of(desired, pods.iter(), namespace, wish);
        let is_picked = |pod: &&Pod| {
            let picks = |labels| wish.selector.as_ref().is_some_and(|s| s.matches(labels));
            pod.binding.key.namespace == *namespace && picks(&pod.labels())
        };
        // Nothing of it is stored: it turned, at the latest, when the last of its pods did.
        let since = pods.iter().filter(is_picked).filter_map(turned).max();
        let since = since.or_else(|| found.entry.map(|entry| entry.created));
        let (status, reason) = match standing.allowed {
            0 => ("False", "InsufficientPods"),
            _ => ("True", "SufficientPods"),
        };
        object.insert(
            "status".into(),
            json!({
                "conditions": [{
                    "type": "DisruptionAllowed",
                    "status": status,
                    "reason": reason,
                    "message": "",
                    "observedGeneration": 1,
                    "lastTransitionTime": since.map(|since| since.to_string()),
                }],
                "currentHealthy": standing.healthy,
                "desiredHealthy": standing.healthy_wanted,
                "disruptionsAllowed": standing.allowed,
                "expectedPods": standing.expected,
                "observedGeneration": 1,
            }),
        );
        super::workload::set_generation(&mut object, 1);
    }
    Shown::new(key.clone(), Value::Object(object))
}

/// When a pod became ready or ceased to be.
fn turned(pod: &Pod) -> Option<Wall> {
    let ready = pod.report.as_ref()?.status.condition(CONDITION_READY)?;
    ready.last_transition_time
}
