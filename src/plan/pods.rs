//! Pods in the planner's hands: the binding, what its node says of it, what it runs.

use std::sync::Arc;
use std::time::Duration;

use crate::kinds::binding::{Binding, Deletion, Placement};
use crate::kinds::labels::Labels;
use crate::kinds::name::PodKey;
use crate::kinds::pod::PodTemplate;
use crate::kinds::registry::Kind;
use crate::kinds::status::{ContainerState, Phase, PodReport};

use super::work::Work;

/// A pod as the planner sees it.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its binding.
    pub binding: Arc<Binding>,
    /// Its node.
    pub node: Placement,
    /// What its node says of it.
    pub report: Option<Arc<PodReport>>,
    /// What it runs; absent while its revision can't be read.
    pub template: Option<Arc<PodTemplate>>,
    /// Whether it has been ready long enough, by its owner's `minReadySeconds`; told by
    /// [`Work::is_available`].
    pub ready_for: Option<Duration>,
    /// Whether its node is lost: what it said last may be true no longer.
    pub is_lost: bool,
}

impl Pod {
    /// Its labels: its template's, and its own.
    pub fn labels(&self) -> Labels {
        let mut labels = self.template.as_ref().map(|t| t.labels.clone()).unwrap_or_default();
        labels.extend(self.binding.labels.clone());
        labels
    }

    /// Whether it was written by hand: Git names it, and would have it back if it went.
    pub fn is_by_hand(&self) -> bool {
        self.binding.template.owner.kind == Kind::Pod
    }

    /// Where it is in its life.
    pub fn phase(&self) -> Phase {
        self.report.as_ref().map(|report| report.status.phase).unwrap_or_default()
    }

    /// Whether it is being ended.
    pub fn is_leaving(&self) -> bool {
        self.binding.deletion.is_some()
    }

    /// Whether its node says that nothing of it is left.
    pub fn is_gone(&self) -> bool {
        self.report.as_ref().is_some_and(|report| report.gone)
    }

    /// Whether it has finished, and its end is not decided yet.
    pub fn is_spent(&self) -> bool {
        !self.is_leaving() && self.phase().is_over()
    }

    /// Whether it counts for its owner: neither finished nor being ended.
    pub fn is_active(&self) -> bool {
        !self.is_leaving() && !self.phase().is_over()
    }

    /// Whether it is ready.
    pub fn is_ready(&self) -> bool {
        !self.is_leaving()
            && !self.is_lost
            && self.report.as_ref().is_some_and(|report| report.status.is_ready())
    }

    /// Whether one of its containers has failed to run and waits for its next attempt.
    pub fn is_in_back_off(&self) -> bool {
        let status = self.report.iter().map(|report| &report.status);
        let mut containers = status
            .flat_map(|its| its.container_statuses.iter().chain(&its.init_container_statuses));
        containers.any(|container| match &container.state {
            ContainerState::Waiting(waiting) => waiting.reason.ends_with("BackOff"),
            _ => false,
        })
    }

    /// How long it may take to stop.
    pub fn grace_s(&self) -> u32 {
        self.template.as_ref().map_or(DEFAULT_GRACE_S, |template| template.spec.termination_grace_s)
    }
}

/// How many pods of a set there are, are ready, are available. Pods that are being ended or have
/// finished are not counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// There are.
    pub active: u32,
    /// Are ready.
    pub ready: u32,
    /// Have been ready for as long as is asked.
    pub available: u32,
}

impl Tally {
    /// Counts pods, going by [`Pod::ready_for`].
    pub fn of<'p>(pods: impl IntoIterator<Item = &'p Pod>, min_ready_s: u32) -> Self {
        let needed = Duration::from_secs(min_ready_s.into());
        let mut tally = Self::default();
        for pod in pods.into_iter().filter(|pod| pod.is_active()) {
            let is_available = pod.ready_for.is_some_and(|ready_for| ready_for >= needed);
            tally.count(pod.is_ready(), is_available);
        }
        tally
    }

    /// Counts one more active pod.
    pub(super) fn count(&mut self, is_ready: bool, is_available: bool) {
        self.active += 1;
        self.ready += u32::from(is_ready);
        self.available += u32::from(is_available);
    }
}

impl std::ops::Add for Tally {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self {
            active: self.active + other.active,
            ready: self.ready + other.ready,
            available: self.available + other.available,
        }
    }
}

/// `v1.DefaultTerminationGracePeriodSeconds`, for pods whose template can't be read.
const DEFAULT_GRACE_S: u32 = 30;

/// Takes the nodes' word: pods that are gone are forgotten, those of Jobs once their end is counted.
pub(super) fn take_reports(work: &mut Work) {
    let gone: Vec<PodKey> = work
        .pods
        .values()
        .filter(|pod| {
            let nothing_began = pod.node.is_none();
            pod.is_leaving() && (nothing_began || pod.is_gone())
        })
        .filter(|pod| !super::job::awaits_count(work, pod))
        .map(|pod| pod.binding.key.clone())
        .collect();
    for key in gone {
        work.forget(&key);
    }
}

/// Marks a pod for its end.
pub(super) fn ended(binding: &Binding, deletion: Deletion) -> Arc<Binding> {
    Arc::new(Binding { deletion: Some(deletion), ..binding.clone() })
}
