//! Which nodes are heard of. A node that is silent for too long is *lost*: nothing new is placed on
//! it, its pods leave their Services, and after their toleration they are replaced elsewhere. It is
//! found again the moment it is heard of.
//!
//! That a node is lost is written down, so that a new coordinator, whose count begins afresh, does
//! not take it for living. Source: Kubernetes' node lifecycle controller (`nodeMonitorGracePeriod`
//! 40 s; `unhealthyZoneThreshold` 0.55; taints `unreachable` and `not-ready`).

use std::sync::Arc;

use crate::kinds::name::NodeName;
use crate::kinds::object::Key;
use crate::kinds::pod::{Taint, TaintEffect};
use crate::kinds::registry::Kind;

use super::evict::{TAINT_NOT_READY, TAINT_UNREACHABLE, Taints};
use super::fence;
use super::work::Work;

/// With more than this share of the nodes silent, in hundredths, it is rather us who hear nothing.
const SILENT_SHARE_MAX: usize = 55;
const SOURCE: &str = "node-controller";

/// Notes which nodes are lost and which are found again.
pub(super) fn judge_nodes(work: &mut Work) {
    let limit = work.input.not_ready_after;
    let (mut lost, mut found) = (Vec::new(), Vec::new());
    let mut is_counting = false;
    work.memory.unregistered.retain(|name, _| {
        work.next.nodes.contains_key(name) && !work.input.nodes.contains_key(name)
    });
    for (name, node) in &*work.next.nodes {
        let silence = match work.input.nodes.get(name) {
            Some(input) => input.silence,
            None => {
                is_counting |= node.lost.is_none();
                work.memory.silence_without_register(name, work.now.elapsed)
            }
        };
        if silence.is_news(node.lost.is_some(), limit) {
            let list = if node.lost.is_some() { &mut found } else { &mut lost };
            list.push(name.clone());
        }
    }
    if is_counting {
        work.wake_in(limit);
    }
    for name in lost {
        let seconds = limit.as_secs();
        set_lost(work, &name, true);
        work.note(format!("node {name} is not ready: nothing was heard of it for {seconds} s"));
        let message = format!("Node {name} status is now: NodeNotReady");
        work.warn(&Key::cluster(Kind::Node, &name), SOURCE, "NodeNotReady", message);
    }
    for name in found {
        set_lost(work, &name, false);
        work.note(format!("node {name} is heard of again"));
        let message = format!("Node {name} status is now: NodeReady");
        work.event(&Key::cluster(Kind::Node, &name), SOURCE, "NodeReady", message);
    }
    fence::lower(work);
}

fn set_lost(work: &mut Work, name: &NodeName, is_lost: bool) {
    let since = work.now.wall;
    if let Some(node) = Arc::make_mut(&mut work.next.nodes).get_mut(name) {
        node.lost = is_lost.then_some(since);
    }
}

/// Adds the taints of nodes that are lost, or that say themselves that they are not ready. With too
/// many silent at once none is given up.
pub(super) fn taint_nodes(work: &Work, taints: &mut Taints) {
    // Of those that a person declared dead it is known that it is not us.
    let unfenced = || work.next.nodes.values().filter(|node| node.fenced.is_none());
    let lost = unfenced().filter(|node| node.lost.is_some()).count();
    let are_too_many = lost * 100 > unfenced().count() * SILENT_SHARE_MAX;
    for name in work.next.nodes.keys() {
        let says_unready = work.input.nodes.get(name).is_some_and(|input| !input.is_ready);
        let key = match (work.is_lost(name), says_unready) {
            (true, _) if !are_too_many => TAINT_UNREACHABLE,
            (false, true) => TAINT_NOT_READY,
            _ => continue,
        };
        let effect = TaintEffect::NoExecute;
        let taint = Taint { key: key.to_owned(), value: String::new(), effect };
        taints.entry(name.clone()).or_default().push(taint);
    }
}
