//! Who reads what, and how often (docs/DESIGN.md, Hard cases 7). One rule:
//!
//! ```text
//!   the coordinator's register holds no fold   everybody reads every register
//!   it holds one                               everybody reads it and its own register; every
//!                                              other is read by whoever coordinates, may be next,
//!                                              or finds that nobody does, or that the store does
//!                                              not hold what was acted on
//! ```
//! The coordinator alone decides whether there is a fold, by the size of the fleet, so nobody has to
//! know the bound. Who may be next follows from names and from what the coordinator has written, the
//! same on every node.
//!
//! A server's core carries some 65 operations a second ([`OPERATION`]), whatever they are. So in a
//! large fleet what a node does unasked gets rarer with the fleet's size, and so does what everybody
//! does at the same word.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::kinds::name::NodeName;
use crate::kinds::time::Now;
use crate::ports::store::Scope;

use super::Agent;

/// So many of the nodes, in order of name, may be next: they look as often as the coordinator, read
/// what it reads, and are told what it is told.
pub(super) const STANDBYS: u32 = 3;
/// In a fleet of up to so many nodes everybody looks that often.
const SMALL_FLEET: usize = 10;
/// Those who may be next look so many times per duration of the lease.
const LOOKS: u32 = 6;
/// What one look, beat or write costs a core of the Git server (docs/GIT-SERVER.md).
const OPERATION: Duration = Duration::from_millis(15);
/// One kind of operation that all nodes do by themselves may take this share of one core: 17 a
/// second. Beats, looks, and fetches of the desired repository are three of them.
const SHARE_OF_CORE: u32 = 4;

/// How often each of so many nodes may do by itself what it would do every `interval`.
pub(crate) fn seldom(interval: Duration, nodes: usize) -> Duration {
    interval.max(all_once(nodes) * SHARE_OF_CORE)
}

fn all_once(nodes: usize) -> Duration {
    OPERATION * u32::try_from(nodes).unwrap_or(u32::MAX)
}

impl Agent {
    /// Which registers this node is to read.
    pub(super) fn scope(&self, now: Now) -> Scope {
        let is_folded = self.store.state().is_some_and(|state| !state.fold.is_empty());
        let is_ordinary = is_folded
            && self.store.knows().is_none()
            && !self.is_leading(now)
            && !self.is_standby()
            && !self.may_take_lease(now);
        if is_ordinary { Scope::Own } else { Scope::All }
    }

    /// How many nodes come before this one when a coordinator is missing.
    pub(super) fn rank(&self) -> u32 {
        let before = self.store.successors().take_while(|name| **name < self.config.node);
        u32::try_from(before.take(100).count()).unwrap_or(100)
    }

    fn is_standby(&self) -> bool {
        self.rank() < STANDBYS
    }

    /// How often the store is looked at.
    pub(super) fn store_poll(&self, now: Now) -> Duration {
        let poll = self.config.store_poll;
        if self.store.is_local() {
            return poll;
        }
        let is_small = self.store.size() <= SMALL_FLEET;
        if is_small || self.is_leading(now) || self.is_standby() {
            (self.config.lease / LOOKS).min(poll)
        } else {
            self.seldom(poll)
        }
    }

    /// How often nodes' registers move at least, in a fleet of this size.
    pub(super) fn fleet_beat(&self) -> Duration {
        self.seldom(self.config.beat)
    }

    /// How often every node may do by itself what it would do every `interval`.
    pub(super) fn seldom(&self, interval: Duration) -> Duration {
        seldom(interval, self.store.size())
    }

    /// How long the server's core needs to do something once for every node: that long the looks are
    /// spread that follow a word to everybody.
    pub(super) fn all_once(&self) -> Duration {
        all_once(self.store.size())
    }

    /// The nodes whose silence is counted here; none where it is everybody's. An ordinary node judges
    /// the lease, by the holder's register beside the coordinator's, and its own name.
    pub(super) fn watched(&self, scope: Scope) -> Option<BTreeSet<NodeName>> {
        let lease = self.store.state().and_then(|state| state.lease.as_ref());
        let watched = || lease.map(|lease| lease.holder.clone()).into_iter();
        (scope == Scope::Own).then(|| watched().chain([self.config.node.clone()]).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_all_do_by_themselves_gets_rarer_with_the_fleet() {
        let base = Duration::from_secs(10);
        for (nodes, seconds) in [(1, 10), (100, 10), (166, 10), (200, 12), (1000, 60), (5000, 300)]
        {
            assert_eq!(seldom(base, nodes).as_secs(), seconds, "{nodes} nodes");
        }
    }
}
