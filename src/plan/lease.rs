//! Who coordinates: the one who writes says so in what it writes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kinds::lease::Lease;
use crate::kinds::name::NodeName;
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::kinds::status::EventRecord;
use crate::kinds::time::Now;
use crate::state::State;

use super::restored;
use super::work::{Work, append_events};

/// Who is to coordinate.
#[derive(Clone, Debug)]
pub struct Leader {
    /// The node.
    pub node: NodeName,
    /// Which life of its agent.
    pub incarnation: String,
    /// How long others wait for it when it is silent, in seconds.
    pub lease_s: u32,
}

/// A register as it stands, taken on purpose by `leader` under a new epoch. What follows is decided as
/// ever, from what everybody reads; beside the epoch it only says who is to be counted first
/// ([`restored`]): the nodes of `newest`, the newest decision at hand, and those with registers.
pub fn adopted<'n>(
    state: &State,
    newest: Option<&State>,
    have_registers: impl Iterator<Item = &'n NodeName>,
    leader: &Leader,
    epoch: u64,
    by: &str,
    now: Now,
) -> State {
    let before = state.lease.as_ref();
    let message = format!("{by}: the state store is taken as it is, decision {}", state.generation);
    let event = EventRecord {
        about: Key::cluster(Kind::Node, &leader.node),
        uid: None,
        warning: true,
        reason: "StateAdopted".to_owned(),
        message,
        count: 1,
        first: now.wall,
        last: now.wall,
        source: "node-controller".to_owned(),
        unknown: BTreeMap::new(),
    };
    let mut next = State {
        generation: state.generation.next_in(epoch),
        lease: Some(lease(before, leader, now)),
        events: Arc::new(append_events(&state.events, vec![event])),
        ..state.clone()
    };
    restored::await_all(&mut next, newest, have_registers, epoch);
    next
}

fn lease(before: Option<&Lease>, leader: &Leader, now: Now) -> Lease {
    Lease {
        holder: leader.node.clone(),
        incarnation: leader.incarnation.clone(),
        term: before.map_or(0, |lease| lease.term) + 1,
        duration_s: leader.lease_s,
        acquired: now.wall,
        released: false,
        unknown: before.map(|lease| lease.unknown.clone()).unwrap_or_default(),
    }
}

/// Puts this agent's name on the register, if another's is there or its own has run out.
pub(super) fn take_lease(work: &mut Work) {
    let before = work.next.lease.as_ref();
    let is_mine = before.is_some_and(|lease| {
        lease.holder == work.input.me && lease.incarnation == work.input.incarnation
    });
    if is_mine && !work.input.takes_lease {
        return;
    }
    let input = work.input;
    let leader = Leader {
        node: input.me.clone(),
        incarnation: input.incarnation.clone(),
        lease_s: input.lease_s,
    };
    let next = lease(before, &leader, work.now);
    work.note(format!("{} coordinates, term {}", input.me, next.term));
    work.next.lease = Some(next);
}
