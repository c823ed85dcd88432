//! The containers of one pod, sorted: which is the pod's present sandbox, which container is the
//! present one of its name, and which are leftovers.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use crate::kinds::name::{Name, NodeName, Uid};
use crate::ports::runtime::{ContainerId, ContainerSeen, Role, RunState};

/// A pod's containers.
#[derive(Clone, Debug, Default)]
pub(crate) struct House<'s> {
    /// Pause containers, the newest sandbox last.
    pub(crate) pauses: Vec<&'s ContainerSeen>,
    /// The others by name, the newest attempt last.
    pub(crate) containers: BTreeMap<Name, Vec<&'s ContainerSeen>>,
}

/// Sorts this node's containers by pod.
pub(crate) fn houses<'s>(
    node: &NodeName,
    containers: &'s BTreeMap<ContainerId, ContainerSeen>,
) -> BTreeMap<Uid, House<'s>> {
    let mut houses: BTreeMap<Uid, House<'s>> = BTreeMap::new();
    for container in containers.values().filter(|c| c.marks.node == *node) {
        let house = houses.entry(container.marks.uid.clone()).or_default();
        match &container.marks.role {
            Role::Pause => house.pauses.push(container),
            Role::Init(name) | Role::App(name) => {
                house.containers.entry(name.clone()).or_default().push(container);
            }
        }
    }
    for house in houses.values_mut() {
        house.pauses.sort_by_key(|pause| pause.marks.sandbox);
        for lives in house.containers.values_mut() {
            lives.sort_by_key(|life| life.marks.attempt);
        }
    }
    houses
}

impl<'s> House<'s> {
    /// The newest pause container.
    pub(crate) fn pause(&self) -> Option<&'s ContainerSeen> {
        self.pauses.last().copied()
    }

    /// The newest sandbox's number; 0 before the first.
    pub(crate) fn sandbox(&self) -> u32 {
        let others = self.containers.values().flatten();
        self.pauses.iter().chain(others).map(|c| c.marks.sandbox).max().unwrap_or(0)
    }

    /// The pod's address, as its pause container says.
    pub(crate) fn ip(&self) -> Option<Ipv4Addr> {
        self.pause().and_then(|pause| pause.marks.ip)
    }

    /// The newest life of a container.
    pub(crate) fn life(&self, name: &Name) -> Option<&'s ContainerSeen> {
        self.containers.get(name).and_then(|lives| lives.last()).copied()
    }

    /// How the life before the newest ended, for `lastState`.
    pub(crate) fn life_before(&self, name: &Name) -> Option<&'s ContainerSeen> {
        let lives = self.containers.get(name)?;
        lives.len().checked_sub(2).and_then(|at| lives.get(at)).copied()
    }

    /// Everything, pause last.
    pub(crate) fn all(&self) -> impl Iterator<Item = &'s ContainerSeen> {
        self.containers.values().flatten().copied().chain(self.pauses.iter().copied())
    }

    /// What runs, pause left out.
    pub(crate) fn running(&self) -> impl Iterator<Item = &'s ContainerSeen> {
        self.containers.values().flatten().copied().filter(|container| container.is_running())
    }

    /// Whether nothing is here.
    pub(crate) fn is_empty(&self) -> bool {
        self.pauses.is_empty() && self.containers.is_empty()
    }

    /// Dead containers nobody needs any more: of each name the present life and the one before are
    /// kept for their logs.
    pub(crate) fn leftovers(&self) -> Vec<ContainerId> {
        let old_pauses = self.pauses.iter().rev().skip(1);
        let old_lives = self.containers.values().flat_map(|lives| lives.iter().rev().skip(2));
        old_pauses
            .chain(old_lives)
            .filter(|container| !container.is_running())
            .map(|container| container.id.clone())
            .collect()
    }
}

/// A container that was made and never started: a crash came between, or its start failed.
pub(crate) fn is_stillborn(container: &ContainerSeen) -> bool {
    container.state == RunState::Created
}
