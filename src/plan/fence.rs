//! A node that a person declares dead. What was bound to it is forgotten at once, without its word:
//! nobody waits for it any more, and its pods are made anew elsewhere.
//!
//! The rule: only a node that is not heard of can be declared dead; one that is can be drained. The
//! fence falls when the node is heard of again and says nothing of the pods it had, for it has read
//! by then that they are not its own any more, and has removed them. The limit: whether the machine is
//! off only the person knows. If it is not, its pods run twice until it reads the state again
//! (docs/DESIGN.md, Hard cases 2).

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::kinds::name::{NodeName, PodKey, Uid};
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::state::records::{Fence, NodeAllocation, Unknown};

use super::work::Work;

/// Who says so in events.
const SOURCE: &str = "node-controller";

/// Takes a node for dead, and deletes it if `forget` says so.
pub(super) fn raise(work: &mut Work, name: &NodeName, by: &str, forget: bool) {
    let Some(node) = work.next.nodes.get(name) else {
        return;
    };
    if !node.is_away() {
        work.note(format!("{by} declared node {name} dead, which is heard of: passed over"));
        return;
    }
    let keys: Vec<PodKey> = work
        .pods
        .values()
        .filter(|pod| pod.node.as_ref() == Some(name))
        .map(|pod| pod.binding.key.clone())
        .collect();
    let mut pods: BTreeSet<Uid> =
        node.fenced.as_ref().map(|fence| fence.pods.clone()).unwrap_or_default();
    pods.extend(
        keys.iter().filter_map(|key| work.pods.get(key)).map(|pod| pod.binding.uid.clone()),
    );
    let is_forgotten = forget || node.is_forgotten();
    let (by, since) = (by.to_owned(), work.now.wall);
    let done = if forget { "deleted" } else { "declared dead" };
    work.note(format!("{by}: node {name} is {done}, {} pods with it", keys.len()));
    let message = format!("Node {name} was {done} by {by}: {} pods are forgotten", keys.len());
    work.warn(&Key::cluster(Kind::Node, name), SOURCE, "NodeFenced", message);
    for key in keys {
        // A Job's turn comes later: it counts them, then it forgets them.
        if !work.pods.get(&key).is_some_and(|pod| super::job::awaits_count(work, pod)) {
            work.forget(&key);
        }
    }
    if let Some(node) = Arc::make_mut(&mut work.next.nodes).get_mut(name) {
        node.draining = None;
        if forget {
            node.cordoned = None;
        }
        node.fenced = Some(Fence { by, since, pods, is_forgotten, unknown: Unknown::new() });
    }
}

/// Lets nodes back that are heard of again and have let go of what they had.
pub(super) fn lower(work: &mut Work) {
    let back: Vec<NodeName> = work
        .next
        .nodes
        .iter()
        .filter(|(_, node)| node.lost.is_none())
        .filter_map(|(name, node)| Some((name, node.fenced.as_ref()?)))
        .filter(|(name, fence)| {
            let said = work.input.nodes.get(*name);
            said.is_some_and(|said| !said.pods.keys().any(|uid| fence.pods.contains(uid)))
        })
        .map(|(name, _)| name.clone())
        .collect();
    for name in back {
        let (uid, created) = (work.new_uid("node", name.as_str()), work.now.wall);
        if let Some(node) = Arc::make_mut(&mut work.next.nodes).get_mut(&name) {
            let NodeAllocation { pod_cidr, .. } = *node;
            if node.is_forgotten() {
                let unknown = std::mem::take(&mut node.unknown);
                *node = NodeAllocation { unknown, ..NodeAllocation::new(pod_cidr, created, uid) };
            }
            node.fenced = None;
        }
        work.note(format!("node {name} is back, and holds none of the pods it had"));
        let message = format!("Node {name} is back, and holds none of the pods it had");
        work.event(&Key::cluster(Kind::Node, &name), SOURCE, "NodeUnfenced", message);
    }
}

/// Forgets nodes that were deleted, once their registers are gone from the store too: then nothing
/// stands anywhere that could be taken for their word, and their pod networks are free.
pub(super) fn bury(work: &mut Work) {
    let gone: Vec<NodeName> = work
        .next
        .nodes
        .iter()
        .filter(|(name, node)| node.is_forgotten() && !work.input.nodes.contains_key(*name))
        .filter(|(name, _)| work.pods.values().all(|pod| pod.node.as_ref() != Some(*name)))
        .map(|(name, _)| name.clone())
        .collect();
    for name in gone {
        Arc::make_mut(&mut work.next.nodes).remove(&name);
        work.note(format!("node {name}, which was deleted, is forgotten"));
    }
}
