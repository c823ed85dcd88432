//! A store that was taken on purpose has forgotten what was decided since: whom names were given to,
//! and where. Until every node says that it runs nothing but what is bound to it in the new epoch,
//! nodes begin nothing of which there must never be two (`node::sandbox`).
//!
//! A captain who wakes without a memory of the last week has the crew counted before he gives out
//! posts. The rule: a node counts once it has said so itself, or a person has declared it dead. The
//! limit: a node that nobody remembers, with no register left in the store, can't be waited for.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::kinds::name::NodeName;
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::state::State;
use crate::state::records::{Restored, Unknown};

use super::work::Work;

/// Everybody who may run something that `state` has forgotten: its own nodes, those that `newest`
/// knows, the newest decision still at hand, and those that `have_registers`. Whoever has joined
/// since keeps what it was given.
pub(super) fn await_all<'n>(
    state: &mut State,
    newest: Option<&State>,
    have_registers: impl Iterator<Item = &'n NodeName>,
    epoch: u64,
) {
    let nodes = Arc::make_mut(&mut state.nodes);
    for (name, node) in newest.iter().flat_map(|newest| &*newest.nodes) {
        let is_free = nodes.values().all(|other| other.pod_cidr != node.pod_cidr);
        if is_free && !node.is_forgotten() {
            nodes.entry(name.clone()).or_insert_with(|| node.clone());
        }
    }
    let mut awaits: BTreeSet<NodeName> = have_registers.cloned().collect();
    awaits.extend(nodes.keys().cloned());
    awaits.retain(|name| nodes.get(name).is_none_or(|node| node.fenced.is_none()));
    let restored = Restored { epoch, awaits, unknown: Unknown::new() };
    state.restored = Some(Arc::new(restored));
}

/// Takes note of who has read of it since.
pub(super) fn count(work: &mut Work) {
    let Some(restored) = work.next.restored.clone() else {
        return;
    };
    let is_awaited = |name: &&NodeName| {
        let said = work.input.nodes.get(*name).map_or(0, |input| input.facts.epoch);
        // One without record and register is one that a person has deleted.
        let is_dead = match work.next.nodes.get(*name) {
            Some(node) => node.fenced.is_some(),
            None => !work.input.nodes.contains_key(*name),
        };
        said < restored.epoch && !is_dead
    };
    let awaits: BTreeSet<NodeName> = restored.awaits.iter().filter(is_awaited).cloned().collect();
    if awaits.is_empty() {
        work.next.restored = None;
        work.note("every node has read the state that was taken, or is dead".to_owned());
        let message =
            "Every node has read the state that was taken: pods with a name of their own begin";
        let about = Key::cluster(Kind::Node, &work.input.me);
        work.event(&about, "node-controller", "StateFollowed", message.to_owned());
    } else if awaits.len() < restored.awaits.len() {
        let restored = Restored { awaits, ..(*restored).clone() };
        work.next.restored = Some(Arc::new(restored));
    }
}
