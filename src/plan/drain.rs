//! Draining: a node's pods are ended so that others take their place elsewhere. A ship that is to be
//! laid up: nobody boards any more, and those aboard go ashore as the berths ashore allow.
//!
//! A drain is state, so a coordinator that takes over goes on with it. Each turn ends as many pods as
//! the disruption budgets permit; when their replacements are ready, the budgets permit more. It is
//! over when nobody is left who may go. Which pods may go is `kubectl drain`'s rule
//! (`pkg/drain/filters.go`).

use std::sync::Arc;

use crate::kinds::name::{NodeName, PodKey};
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::kinds::volume::VolumeSource;
use crate::state::records::{Drain, DrainOptions};

use super::Pod;
use super::schedule::Budgets;
use super::work::Work;

/// Why a pod ends whose node is drained, as its binding says.
pub(crate) const DRAINED: &str = "Drained";
/// Who says so in events.
const SOURCE: &str = "node-controller";

/// Goes on with every drain.
pub(super) fn drain_nodes(work: &mut Work) {
    let draining: Vec<(NodeName, Drain)> = work
        .next
        .nodes
        .iter()
        .filter_map(|(name, node)| Some((name.clone(), node.draining.clone()?)))
        .collect();
    if draining.is_empty() {
        return;
    }
    let mut budgets = Budgets::of(work);
    for (name, drain) in draining {
        let going: Vec<PodKey> = work
            .pods
            .values()
            .filter(|pod| pod.node.as_ref() == Some(&name) && may_go(pod, &drain.how))
            .map(|pod| pod.binding.key.clone())
            .collect();
        if going.is_empty() {
            end(work, &name);
        }
        for key in going {
            evict(work, &key, &name, &drain.how, &mut budgets);
        }
    }
}

/// Whether a drain ends this pod. One of which it is not known what it runs is waited for.
fn may_go(pod: &Pod, how: &DrainOptions) -> bool {
    if pod.binding.owner.kind == Kind::DaemonSet {
        // It would come back at once: its pods heed no cordon.
        return false;
    }
    if pod.is_leaving() || pod.phase().is_over() {
        return true;
    }
    let has_data = pod.template.as_ref().is_some_and(|template| {
        let mut volumes = template.spec.volumes.iter();
        volumes.any(|volume| matches!(volume.source, VolumeSource::EmptyDir { .. }))
    });
    (how.force || !pod.is_by_hand()) && (how.delete_emptydir_data || !has_data)
}

fn evict(
    work: &mut Work,
    key: &PodKey,
    node: &NodeName,
    how: &DrainOptions,
    budgets: &mut Budgets,
) {
    let Some(pod) = work.pods.get(key).filter(|pod| !pod.is_leaving()) else {
        return;
    };
    if pod.template.is_none() || !budgets.permit(pod) {
        return;
    }
    budgets.evict(pod);
    work.note(format!("pod {key} ends: node {node} is drained"));
    let about = Key::namespaced(Kind::Pod, &key.namespace, &key.name);
    work.event(&about, SOURCE, DRAINED, format!("Evicting pod: node {node} is drained"));
    work.end_pod(key, how.grace_s, DRAINED);
}

fn end(work: &mut Work, name: &NodeName) {
    if let Some(node) = Arc::make_mut(&mut work.next.nodes).get_mut(name) {
        node.draining = None;
    }
    work.note(format!("node {name} is drained"));
    let message = format!("Node {name} is drained");
    work.event(&Key::cluster(Kind::Node, name), SOURCE, "NodeDrained", message);
}
