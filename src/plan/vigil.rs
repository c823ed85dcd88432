//! Who is heard of: silence, counted so that nothing else is taken for it.
//!
//! A lookout on a coast in fog: a ship that shows no light for long enough is given up, but only the
//! time counts in which he could see. A register that moves is a light. Time counts between two
//! successful looks that lie at most about one poll apart; outages, suspend and failed fetches never
//! count, and after a long gap every count starts afresh. Only this machine's own clock is used
//! (docs/DESIGN.md, Hard cases 3).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::kinds::lease::Lease;
use crate::kinds::name::NodeName;
use crate::kinds::time::Elapsed;
use crate::ports::store::{Glance, Register, Rev};

/// Looks that lie further apart than this many polls say nothing of the time between them.
const APART_MAX: u32 = 2;
/// Looks that lie further apart than this many polls make every count start afresh.
const GAP: u32 = 6;

/// For how long something has not been heard of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Silence {
    /// How long.
    pub lasts: Duration,
    /// Whether it was heard of at all since the lookout began.
    pub was_heard: bool,
}

impl Silence {
    /// Whether it changes what is thought of a node that is lost, or is not: it has become too
    /// long, or has ended before our eyes.
    pub fn is_news(&self, is_lost: bool, limit: Duration) -> bool {
        match is_lost {
            false => self.lasts >= limit,
            true => self.lasts < limit && self.was_heard,
        }
    }
}

/// The registers as they were last seen, and for how long each has stood still.
#[derive(Clone, Debug, Default)]
pub struct Vigil {
    looked: Option<Elapsed>,
    marks: BTreeMap<Register, Mark>,
}

#[derive(Clone, Debug)]
struct Mark {
    rev: Option<Rev>,
    silence: Silence,
}

impl Vigil {
    /// Takes a successful look that began and ended at these times; `poll` is how often looks are
    /// taken. Of nodes, it is looked out for those that are `watched`, or for all. Whoever was not
    /// looked out for until now begins afresh.
    pub fn looked(
        &mut self,
        glance: &Glance,
        watched: Option<&BTreeSet<NodeName>>,
        began: Elapsed,
        ended: Elapsed,
        poll: Duration,
    ) {
        let is_first = self.looked.is_none();
        if let Some(watched) = watched {
            self.marks.retain(|register, _| match register {
                Register::Node(node) => watched.contains(node),
                Register::Coordinator => true,
            });
        }
        let apart = self.looked.map_or(Duration::ZERO, |last| began.since(last));
        self.looked = Some(ended);
        if apart > poll * GAP {
            for mark in self.marks.values_mut() {
                mark.silence.lasts = Duration::ZERO;
            }
        }
        let counts = if apart > poll * APART_MAX { Duration::ZERO } else { apart };
        for (register, mark) in &mut self.marks {
            let now = seen(glance, register);
            let moved = now.is_some() && now != mark.rev.as_ref();
            mark.silence = match (moved, is_alive(glance, register)) {
                (false, false) => Silence { lasts: mark.silence.lasts + counts, ..mark.silence },
                _ => Silence { lasts: Duration::ZERO, was_heard: true },
            };
            if now.is_some() {
                mark.rev = now.cloned();
            }
        }
        let nodes = match watched {
            Some(watched) => Box::new(watched.iter()) as Box<dyn Iterator<Item = &NodeName>>,
            None => Box::new(glance.nodes.keys()),
        };
        let nodes = nodes.cloned().map(Register::Node);
        for register in nodes.chain([Register::Coordinator]) {
            let (Some(rev), false) = (seen(glance, &register), self.marks.contains_key(&register))
            else {
                continue;
            };
            let was_heard = !is_first || is_alive(glance, &register);
            let silence = Silence { lasts: Duration::ZERO, was_heard };
            self.marks.insert(register, Mark { rev: Some(rev.clone()), silence });
        }
    }

    /// A node was heard of in another way.
    pub fn hears(&mut self, node: &NodeName) {
        if let Some(mark) = self.marks.get_mut(&Register::Node(node.clone())) {
            mark.silence = Silence { lasts: Duration::ZERO, was_heard: true };
        }
    }

    /// For how long a register has stood still; of one never seen, no time at all.
    pub fn silence_of(&self, register: &Register) -> Silence {
        self.marks.get(register).map(|mark| mark.silence).unwrap_or_default()
    }

    /// For how long a lease has shown no life: neither the coordinator's register nor that of the
    /// holder has moved, so one beat serves both. One that was never seen, because it is gone, shows none.
    pub fn silence_of_lease(&self, lease: &Lease) -> Duration {
        let both = [Register::Node(lease.holder.clone()), Register::Coordinator];
        let marks = both.iter().filter_map(|register| self.marks.get(register));
        marks.map(|mark| mark.silence.lasts).min().unwrap_or_default()
    }
}

fn seen<'g>(glance: &'g Glance, register: &Register) -> Option<&'g Rev> {
    match register {
        Register::Coordinator => glance.coordinator.as_ref(),
        Register::Node(node) => glance.nodes.get(node),
    }
}

fn is_alive(glance: &Glance, register: &Register) -> bool {
    match (register, &glance.alive) {
        (Register::Node(name), Some(alive)) => alive.contains(name),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::binding::Oid;

    const POLL: Duration = Duration::from_secs(10);

    fn at(seconds: u64) -> Elapsed {
        Elapsed::new(Duration::from_secs(seconds))
    }

    fn node() -> Register {
        Register::Node(NodeName::trusted("a"))
    }

    fn glance(rev: &str) -> Glance {
        let nodes = BTreeMap::from([(NodeName::trusted("a"), Oid::new(rev))]);
        Glance { nodes: nodes.into(), coordinator: Some(Oid::new("c")), ..Glance::default() }
    }

    fn looks(times: &[(u64, &str)]) -> Vigil {
        let mut vigil = Vigil::default();
        for (time, rev) in times {
            vigil.looked(&glance(rev), None, at(*time), at(*time), POLL);
        }
        vigil
    }

    fn lease() -> Lease {
        Lease {
            holder: NodeName::trusted("a"),
            incarnation: "x".into(),
            term: 1,
            duration_s: 15,
            acquired: crate::kinds::time::Wall::from_seconds(0),
            released: false,
            unknown: BTreeMap::new(),
        }
    }

    fn lasts(vigil: &Vigil) -> u64 {
        vigil.silence_of(&node()).lasts.as_secs()
    }

    #[test]
    fn what_stands_still_is_silent_for_the_time_between_looks() {
        for (times, expected) in [
            (&[(0, "1"), (10, "1"), (21, "1")][..], 21),
            (&[(0, "1"), (10, "2"), (20, "2")][..], 10),
            // A look failed in between: this time does not count, what was counted stays.
            (&[(0, "1"), (10, "1"), (40, "1"), (50, "1")][..], 20),
            // An outage, or a machine that slept: everything starts afresh.
            (&[(0, "1"), (10, "1"), (4000, "1"), (4010, "1")][..], 10),
        ] {
            assert_eq!(lasts(&looks(times)), expected, "{times:?}");
        }
    }

    #[test]
    fn a_look_counts_from_the_end_of_the_one_before_to_its_own_beginning() {
        let mut vigil = Vigil::default();
        vigil.looked(&glance("1"), None, at(0), at(3), POLL);
        vigil.looked(&glance("1"), None, at(10), at(14), POLL);
        assert_eq!(lasts(&vigil), 7);
    }

    #[test]
    fn only_what_moved_before_our_eyes_was_heard() {
        assert!(!looks(&[(0, "1"), (10, "1")]).silence_of(&node()).was_heard);
        assert!(looks(&[(0, "1"), (10, "2")]).silence_of(&node()).was_heard);
        let mut vigil = looks(&[(0, "1")]);
        vigil.hears(&NodeName::trusted("a"));
        assert!(vigil.silence_of(&node()).was_heard);
    }

    #[test]
    fn a_register_that_was_deleted_is_silent_and_one_that_comes_back_is_not() {
        let mut vigil = looks(&[(0, "1"), (10, "2")]);
        vigil.looked(&Glance::default(), None, at(20), at(20), POLL);
        assert_eq!(lasts(&vigil), 10);
        vigil.looked(&glance("3"), None, at(30), at(30), POLL);
        assert_eq!(lasts(&vigil), 0);
    }

    #[test]
    fn a_held_lock_is_life_though_nothing_moves() {
        let alive = |names: &[&str]| Glance {
            alive: Some(names.iter().map(|name| NodeName::trusted(name)).collect()),
            ..glance("1")
        };
        let mut vigil = Vigil::default();
        vigil.looked(&alive(&["a"]), None, at(0), at(0), POLL);
        vigil.looked(&alive(&["a"]), None, at(10), at(10), POLL);
        assert_eq!(vigil.silence_of(&node()), Silence { lasts: Duration::ZERO, was_heard: true });
        vigil.looked(&alive(&[]), None, at(20), at(20), POLL);
        assert_eq!(lasts(&vigil), 10);
    }

    #[test]
    fn only_the_watched_are_looked_out_for_and_others_begin_afresh() {
        let mut vigil = looks(&[(0, "1"), (10, "1")]);
        let nobody = BTreeSet::new();
        vigil.looked(&glance("1"), Some(&nobody), at(20), at(20), POLL);
        assert_eq!(lasts(&vigil), 0);
        assert_eq!(vigil.silence_of(&Register::Coordinator).lasts, Duration::from_secs(20));
        vigil.looked(&glance("1"), None, at(30), at(30), POLL);
        vigil.looked(&glance("1"), None, at(40), at(40), POLL);
        assert_eq!(lasts(&vigil), 10);
    }

    #[test]
    fn a_register_that_was_gone_before_the_first_look_keeps_no_lease_alive() {
        let gone = |rev: &str| Glance { coordinator: None, ..glance(rev) };
        let mut vigil = Vigil::default();
        for time in [0, 10, 20] {
            vigil.looked(&gone("1"), None, at(time), at(time), POLL);
        }
        assert_eq!(vigil.silence_of_lease(&lease()).as_secs(), 20);
    }

    #[test]
    fn a_lease_lives_while_either_register_moves() {
        let lease = lease();
        let vigil = looks(&[(0, "1"), (10, "1"), (20, "2")]);
        assert_eq!(vigil.silence_of(&Register::Coordinator).lasts, Duration::from_secs(20));
        assert_eq!(vigil.silence_of_lease(&lease), Duration::ZERO);
        let vigil = looks(&[(0, "1"), (10, "1"), (20, "1")]);
        assert_eq!(vigil.silence_of_lease(&lease), Duration::from_secs(20));
    }
}
