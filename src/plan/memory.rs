//! What the coordinator remembers between turns and may forget at any time: since when things have
//! been as they are, on its own clock. A new coordinator begins afresh, which only makes it wait
//! longer (docs/DESIGN.md, Hard cases 3).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::kinds::binding::{AppName, Oid};
use crate::kinds::name::{NodeName, Uid};
use crate::kinds::object::Key;
use crate::kinds::time::Elapsed;

use super::vigil::Silence;

/// Timers by what they are about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Memory {
    /// Since when each pod has been seen ready.
    pub ready_since: BTreeMap<Uid, Elapsed>,
    /// Each roll-out's last progress, by the ReplicaSet that is rolled to; and that of StatefulSets that
    /// are to become smaller.
    pub progress: BTreeMap<Key, Progress>,
    /// Since when each app's revision in force has been on its way.
    pub begun: BTreeMap<AppName, (Oid, Elapsed)>,
    /// Since when each app's newest revision has waited for a window that can't be told.
    pub unclocked: BTreeMap<AppName, Elapsed>,
    /// Since when the healthy time of each app's canary has been counted that is not written down yet.
    pub canaries: BTreeMap<AppName, Elapsed>,
    /// Since when each pod has been on a node with a taint that it bears for a while only.
    pub tainted_since: BTreeMap<Uid, Elapsed>,
    /// Since when nodes that are on record have had no register.
    pub unregistered: BTreeMap<NodeName, Elapsed>,
    /// Which nodes turned away what.
    pub(crate) refusals: super::refusals::Refusals,
    /// When nodes' words were last folded.
    pub(crate) folding: super::fold::Folding,
    /// Since when a Job's time has been counted that is not written down yet.
    pub timers: BTreeMap<(Key, Timer), Elapsed>,
}

/// A time that a Job waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Timer {
    /// Its `activeDeadlineSeconds`.
    Deadline,
    /// The wait after its last failure.
    BackOff,
    /// The wait after an index's last failure.
    Index(u32),
}

/// A roll-out's last progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// What was counted then: any change of it is progress.
    pub mark: Vec<u32>,
    /// When.
    pub at: Elapsed,
}

/// Whether a roll-out moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// Nobody was watching.
    Unknown,
    /// Something changed since the last look.
    Moves,
    /// Nothing has changed for so long.
    Stands(Duration),
}

impl Memory {
    /// Notes whether a pod is ready, and returns for how long it has been.
    pub(crate) fn ready_for(&mut self, uid: &Uid, ready: bool, now: Elapsed) -> Option<Duration> {
        if !ready {
            self.ready_since.remove(uid);
            return None;
        }
        let since = *self.ready_since.entry(uid.clone()).or_insert(now);
        Some(now.since(since))
    }

    /// Notes what a roll-out has come to, and tells whether that is news.
    pub(crate) fn progress(&mut self, key: &Key, mark: Vec<u32>, now: Elapsed) -> Pace {
        match self.progress.get_mut(key) {
            Some(progress) if progress.mark == mark => Pace::Stands(now.since(progress.at)),
            Some(progress) => {
                *progress = Progress { mark, at: now };
                Pace::Moves
            }
            None => {
                self.progress.insert(key.clone(), Progress { mark, at: now });
                Pace::Unknown
            }
        }
    }

    /// For how long a node on record has had no register: one that lives would have written it anew.
    pub(crate) fn silence_without_register(&mut self, node: &NodeName, now: Elapsed) -> Silence {
        let since = *self.unregistered.entry(node.clone()).or_insert(now);
        Silence { lasts: now.since(since), was_heard: false }
    }

    /// Forgets pods, ReplicaSets and Jobs that are no more, so that it never grows beyond what there is.
    pub(crate) fn keep_only(
        &mut self,
        pod_lives: impl Fn(&Uid) -> bool,
        set_lives: impl Fn(&Key) -> bool,
        job_lives: impl Fn(&Key) -> bool,
    ) {
        self.ready_since.retain(|uid, _| pod_lives(uid));
        self.progress.retain(|key, _| set_lives(key));
        self.tainted_since.retain(|uid, _| pod_lives(uid));
        self.timers.retain(|(key, _), _| job_lives(key));
    }
}
