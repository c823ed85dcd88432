//! The objects that ask for pods.

use std::sync::Arc;

use super::labels::Selector;
use super::name::Name;
use super::pod::{PodTemplate, TaintEffect};
use super::storage::{ClaimRetention, ClaimTemplate};

/// A number of pods of one template; also a ReplicationController.
#[derive(Clone, Debug)]
pub struct ReplicaSet {
    /// How many.
    pub replicas: u32,
    /// Which pods count as its own.
    pub selector: Selector,
    /// What new ones are made from.
    pub template: Arc<PodTemplate>,
    /// How long a pod must be ready to count as available, in seconds.
    pub min_ready_s: u32,
}

/// A number of pods, rolled from one template to the next.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// How many.
    pub replicas: u32,
    /// Which pods count as its own.
    pub selector: Selector,
    /// What new ones are made from.
    pub template: Arc<PodTemplate>,
    /// How the next template takes over.
    pub strategy: Strategy,
    /// How long a pod must be ready to count as available, in seconds.
    pub min_ready_s: u32,
    /// How long a roll-out may stand still before it is called failed, in seconds; absent is never.
    pub progress_deadline_s: Option<u32>,
    /// How many old ReplicaSets are kept to return to.
    pub revision_history_limit: u32,
    /// Whether a new template waits.
    pub paused: bool,
}

/// How the next template takes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Strategy {
    /// All old pods end before the first new one starts.
    Recreate,
    /// Step by step.
    RollingUpdate {
        /// How many pods there may be above `replicas`; rounds up.
        max_surge: Share,
        /// How many pods may be missing; rounds down.
        max_unavailable: Share,
    },
}

/// Pods with names of their own, numbered from [`Self::start`].
#[derive(Clone, Debug)]
pub struct StatefulSet {
    /// How many.
    pub replicas: u32,
    /// The number of the first.
    pub start: u32,
    /// Which pods count as its own.
    pub selector: Selector,
    /// What new ones are made from. The domain of their names is in it, and a volume for each claim
    /// that a pod has for itself.
    pub template: Arc<PodTemplate>,
    /// The Service under whose name theirs are published.
    pub service: Option<Name>,
    /// Whether pods are made and ended all at once; otherwise one waits for the other.
    pub is_parallel: bool,
    /// How the next template takes over.
    pub update: SetUpdate,
    /// How long a pod must be ready to count as available, in seconds.
    pub min_ready_s: u32,
    /// How many old templates are kept to return to.
    pub revision_history_limit: u32,
    /// The claims that each pod has for itself.
    pub claims: Vec<ClaimTemplate>,
    /// What becomes of them when nobody uses them any more.
    pub retention: ClaimRetention,
}

impl StatefulSet {
    /// The numbers that its pods are to have.
    pub fn ordinals(&self) -> std::ops::Range<u32> {
        self.start..self.start.saturating_add(self.replicas)
    }
}

/// How the next template takes over in a StatefulSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SetUpdate {
    /// A pod that somebody ends comes back with it.
    OnDelete,
    /// From the last pod to the first.
    RollingUpdate {
        /// So many pods, counted from the first, stay with the template they had.
        partition: u32,
        /// How many pods may be missing; rounds down, and one always may.
        max_unavailable: Share,
    },
}

/// A pod on every node that its template allows.
#[derive(Clone, Debug)]
pub struct DaemonSet {
    /// Which pods count as its own.
    pub selector: Selector,
    /// What new ones are made from. What every such pod puts up with is in it.
    pub template: Arc<PodTemplate>,
    /// How the next template takes over.
    pub update: DaemonUpdate,
    /// How long a pod must be ready to count as available, in seconds.
    pub min_ready_s: u32,
    /// How many old templates are kept to return to.
    pub revision_history_limit: u32,
}

impl DaemonSet {
    /// The taints that its pods put up with whether or not they say so.
    /// <https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/#taints-and-tolerations>
    pub fn tolerations(host_network: bool) -> impl Iterator<Item = (&'static str, TaintEffect)> {
        use TaintEffect::{NoExecute, NoSchedule};
        let all = [
            ("node.kubernetes.io/not-ready", NoExecute),
            ("node.kubernetes.io/unreachable", NoExecute),
            ("node.kubernetes.io/disk-pressure", NoSchedule),
            ("node.kubernetes.io/memory-pressure", NoSchedule),
            ("node.kubernetes.io/pid-pressure", NoSchedule),
            ("node.kubernetes.io/unschedulable", NoSchedule),
        ];
        let hosts = host_network.then_some(("node.kubernetes.io/network-unavailable", NoSchedule));
        all.into_iter().chain(hosts)
    }
}

/// How the next template takes over in a DaemonSet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DaemonUpdate {
    /// A pod that somebody ends comes back with it.
    OnDelete,
    /// Node by node.
    RollingUpdate {
        /// On how many nodes the new pod comes before the old one goes; rounds up.
        max_surge: Share,
        /// On how many nodes the pod may be missing; rounds up.
        max_unavailable: Share,
    },
}

/// A number, or a percentage of some whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Share {
    /// That many.
    Count(u32),
    /// That many in a hundred.
    Percent(u32),
}

impl Share {
    /// Of `whole`, rounded up.
    pub fn rounded_up(self, whole: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => clamp((u64::from(percent) * u64::from(whole)).div_ceil(100)),
        }
    }

    /// Of `whole`, rounded down.
    pub fn rounded_down(self, whole: u32) -> u32 {
        match self {
            Self::Count(count) => count,
            Self::Percent(percent) => clamp(u64::from(percent) * u64::from(whole) / 100),
        }
    }
}

fn clamp(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

impl Strategy {
    /// `(max_surge, max_unavailable)` as counts for `replicas`; where both come to nothing, one pod
    /// may be missing, or the roll-out could never move (`deploymentutil.ResolveFenceposts`).
    pub fn bounds(&self, replicas: u32) -> (u32, u32) {
        match self {
            Self::Recreate => (0, replicas),
            Self::RollingUpdate { max_surge, max_unavailable } => {
                let surge = max_surge.rounded_up(replicas);
                let unavailable = max_unavailable.rounded_down(replicas);
                if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable) }
            }
        }
    }
}

/// How important pods are to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PriorityClass {
    /// The higher goes first.
    pub value: i32,
    /// Whether pods that name no class have this one.
    pub is_default: bool,
    /// Whether its pods may push lesser ones off a node.
    pub preempts: bool,
}

/// The classes that exist by themselves, with their values (`SystemPriorityClasses`).
pub const SYSTEM_CLASSES: [(&str, i32); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

/// How many pods may be missing on purpose: `kind: PodDisruptionBudget`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DisruptionBudget {
    /// Which pods of its namespace; absent picks none, an empty one picks all.
    pub selector: Option<Selector>,
    /// Its bound.
    pub bound: Bound,
    /// Whether a pod that runs and is not ready may always be evicted
    /// (`unhealthyPodEvictionPolicy: AlwaysAllow`), and not only while enough others are ready.
    pub frees_unhealthy: bool,
}

/// What a [`DisruptionBudget`] asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// So many must be there and ready.
    MinAvailable(Share),
    /// So many may be missing.
    MaxUnavailable(Share),
}

impl Bound {
    /// How many pods must be healthy where their owners want `wanted` of them: percents are of what
    /// is wanted and round up (`getExpectedPodCount` of the disruption controller).
    pub fn healthy_wanted(self, wanted: u32) -> u32 {
        match self {
            Self::MinAvailable(share) => share.rounded_up(wanted),
            Self::MaxUnavailable(share) => wanted.saturating_sub(share.rounded_up(wanted)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn surge_rounds_up_and_unavailable_rounds_down() {
        let rolling = |surge, unavailable| Strategy::RollingUpdate {
            max_surge: surge,
            max_unavailable: unavailable,
        };
        let quarter = Share::Percent(25);
        let table = [
            (rolling(quarter, quarter), 10, (3, 2)),
            (rolling(quarter, quarter), 1, (1, 0)),
            (rolling(Share::Count(0), quarter), 3, (0, 1)),
            (rolling(Share::Count(0), Share::Percent(50)), 3, (0, 1)),
            (rolling(Share::Count(0), Share::Percent(10)), 3, (0, 1)),
            (rolling(Share::Percent(0), Share::Count(0)), 3, (0, 1)),
            (Strategy::Recreate, 3, (0, 3)),
        ];
        for (strategy, replicas, bounds) in table {
            assert_eq!(strategy.bounds(replicas), bounds, "{strategy:?} of {replicas}");
        }
    }

    #[test]
    fn a_budget_rounds_in_favour_of_what_it_says() {
        use Bound::{MaxUnavailable, MinAvailable};
        let table = [
            (MinAvailable(Share::Count(2)), 3, 2),
            (MinAvailable(Share::Count(5)), 3, 5),
            (MinAvailable(Share::Percent(50)), 3, 2),
            (MaxUnavailable(Share::Count(1)), 3, 2),
            (MaxUnavailable(Share::Count(5)), 3, 0),
            (MaxUnavailable(Share::Percent(30)), 7, 4),
        ];
        for (bound, wanted, healthy) in table {
            assert_eq!(bound.healthy_wanted(wanted), healthy, "{bound:?} of {wanted}");
        }
    }
}
