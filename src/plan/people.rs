//! What people ask for. A request stands in the register of the node on which it was asked; here it is
//! carried out, and its id noted until that node has read so and taken it down.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::kinds::binding::AppName;
use crate::kinds::name::{NodeName, PodKey, Uid};
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::state::records::{Cordon, Drain, DrainOptions, NodeAllocation, Suspension, Unknown};
use crate::state::{PersonRequest, RequestKind};

use super::fence;
use super::schedule::Budgets;
use super::work::Work;

/// Who says so in events.
const SOURCE: &str = "node-controller";
/// Why an evicted pod ends, as Kubernetes' `DisruptionTarget` words it.
pub(crate) const EVICTED: &str = "EvictionByEvictionAPI";

/// Carries out what people asked for, and remembers that it did until the node has read so.
pub(super) fn answer_requests(work: &mut Work) {
    let mut answered: BTreeMap<NodeName, BTreeSet<Uid>> = BTreeMap::new();
    let mut budgets = None;
    let input = work.input;
    for (node, said) in &input.nodes {
        let before = input.state.answered.get(node);
        for request in said.requests.iter() {
            let already = before.is_some_and(|ids| ids.contains(&request.id));
            if already || carry_out(work, request, &mut budgets) {
                answered.entry(node.clone()).or_default().insert(request.id.clone());
            }
        }
    }
    if *work.next.answered != answered {
        work.next.answered = Arc::new(answered);
    }
}

/// Whether it is done with; otherwise it is looked at again in the next turn.
fn carry_out(work: &mut Work, request: &PersonRequest, budgets: &mut Option<Budgets>) -> bool {
    let by = &request.by;
    match &request.what {
        RequestKind::DeletePod { pod, uid, grace_s } => {
            if lives(work, pod, uid.as_ref()) {
                work.note(format!("{by} asked for the end of pod {pod}"));
                work.end_pod(pod, *grace_s, "Deleted");
            }
            true
        }
        RequestKind::EvictPod { pod, uid, grace_s } => {
            if !lives(work, pod, Some(uid)) {
                return true;
            }
            let budgets = budgets.get_or_insert_with(|| Budgets::of(work));
            let Some(found) = work.pods.get(pod).filter(|found| budgets.permit(found)) else {
                return false;
            };
            budgets.evict(found);
            work.note(format!("{by} asked for pod {pod} to be evicted"));
            work.end_pod(pod, *grace_s, EVICTED);
            true
        }
        RequestKind::Cordon { node } => {
            cordon(work, node, by);
            true
        }
        RequestKind::Uncordon { node } => {
            uncordon(work, node, by);
            true
        }
        RequestKind::Drain { node, how } => {
            drain(work, node, by, how);
            true
        }
        RequestKind::Fence { node, forget } => {
            fence::raise(work, node, by, *forget);
            true
        }
        RequestKind::Suspend { app } => {
            suspend(work, app, by);
            true
        }
        RequestKind::Resume { app } => {
            resume(work, app, by);
            true
        }
        RequestKind::Later(_) => false,
    }
}

fn lives(work: &Work, pod: &PodKey, uid: Option<&Uid>) -> bool {
    work.pods.get(pod).is_some_and(|found| uid.is_none_or(|uid| *uid == found.binding.uid))
}

fn node_mut<'w>(work: &'w mut Work, name: &NodeName) -> Option<&'w mut NodeAllocation> {
    work.next.nodes.get(name)?;
    Arc::make_mut(&mut work.next.nodes).get_mut(name)
}

fn cordon(work: &mut Work, name: &NodeName, by: &str) {
    let since = work.now.wall;
    let Some(node) = node_mut(work, name).filter(|node| node.cordoned.is_none()) else {
        return;
    };
    node.cordoned = Some(Cordon { by: by.to_owned(), since, unknown: Unknown::new() });
    work.note(format!("{by} cordoned node {name}"));
    let message = format!("Node {name} status is now: NodeNotSchedulable");
    work.event(&Key::cluster(Kind::Node, name), SOURCE, "NodeNotSchedulable", message);
}

fn uncordon(work: &mut Work, name: &NodeName, by: &str) {
    let Some(node) = node_mut(work, name) else {
        return;
    };
    let was_draining = node.draining.take().is_some();
    if node.cordoned.take().is_none() && !was_draining {
        return;
    }
    let drain = if was_draining { ", which ends its drain" } else { "" };
    work.note(format!("{by} uncordoned node {name}{drain}"));
    let message = format!("Node {name} status is now: NodeSchedulable");
    work.event(&Key::cluster(Kind::Node, name), SOURCE, "NodeSchedulable", message);
}

fn suspend(work: &mut Work, app: &AppName, by: &str) {
    let since = work.now.wall;
    let Some(state) = work.next.apps.get_mut(app).filter(|app| app.head.suspended.is_none()) else {
        return;
    };
    let suspension = Suspension { by: by.to_owned(), since, unknown: Unknown::new() };
    Arc::make_mut(&mut state.head).suspended = Some(suspension);
    work.note(format!("{by} suspended app {app}"));
}

fn resume(work: &mut Work, app: &AppName, by: &str) {
    let Some(state) = work.next.apps.get_mut(app) else {
        return;
    };
    let head = Arc::make_mut(&mut state.head);
    // What failed and was taken back may be tried again; what failed and is in force stays noted.
    let is_back = head.failed_now().is_none() && head.failed.take().is_some();
    if head.suspended.take().is_none() && !is_back {
        return;
    }
    work.note(format!("{by} resumed app {app}"));
    // The newest revision is looked at anew.
    work.is_unfinished = true;
}

fn drain(work: &mut Work, name: &NodeName, by: &str, how: &DrainOptions) {
    cordon(work, name, by);
    let since = work.now.wall;
    let Some(node) = node_mut(work, name) else {
        return;
    };
    let (by, how) = (by.to_owned(), how.clone());
    let note = format!("{by} asked for node {name} to be drained");
    node.draining = Some(Drain { by, since, how, unknown: Unknown::new() });
    work.note(note);
}
