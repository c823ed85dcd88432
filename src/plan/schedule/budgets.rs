//! PodDisruptionBudgets: how many pods each lets go. A drain and an eviction wait until they permit;
//! preemption heeds them where it has a choice, and breaks the fewest where it has none.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::desired::Desired;
use crate::kinds::labels::Labels;
use crate::kinds::name::Name;
use crate::kinds::object::{Body, Key};
use crate::kinds::registry::Kind;
use crate::kinds::status::Phase;
use crate::kinds::workload::{Bound, DisruptionBudget, Share};

use super::super::pods::Pod;
use super::super::work::Work;

/// Every budget in force.
#[derive(Clone, Debug, Default)]
pub(in crate::plan) struct Budgets(Vec<Budget>);

#[derive(Clone, Debug)]
struct Budget {
    namespace: Name,
    wish: Arc<DisruptionBudget>,
    /// How many more pods are healthy than must be; below 0 where too few are.
    spare: i64,
    /// How many more pods it lets go: `status.disruptionsAllowed`.
    allowed: i64,
}

impl Budgets {
    pub(in crate::plan) fn of(work: &Work) -> Self {
        let desired: Vec<&Desired> = work.revisions.values().map(|r| &*r.desired).collect();
        Self::from_parts(&desired, || work.pods.values())
    }

    /// The budgets that are desired, where there are these pods.
    pub(in crate::plan) fn from_parts<'p, P>(desired: &[&Desired], pods: impl Fn() -> P) -> Self
    where
        P: Iterator<Item = &'p Pod>,
    {
        let objects = desired.iter().flat_map(|desired| &desired.objects);
        let budgets = objects.filter_map(|(key, object)| match &object.body {
            Body::DisruptionBudget(wish) if key.kind == Kind::PodDisruptionBudget => {
                let namespace = key.namespace.clone()?;
                let standing = Standing::of(desired, pods(), &namespace, wish);
                let spare = i64::from(standing.healthy) - i64::from(standing.healthy_wanted);
                let allowed = i64::from(standing.allowed);
                Some(Budget { namespace, wish: wish.clone(), spare, allowed })
            }
            _ => None,
        });
        Self(budgets.collect())
    }

    /// Whether a pod may be evicted now. A pod that does not run yet, or no more, always may; one that
    /// is not ready may while enough others are, or always, as the budget says
    /// (`unhealthyPodEvictionPolicy`).
    pub(in crate::plan) fn permit(&self, pod: &Pod) -> bool {
        if pod.is_leaving() || pod.phase() != Phase::Running {
            return true;
        }
        let (namespace, labels) = (&pod.binding.key.namespace, pod.labels());
        let mut budgets = self.0.iter().filter(|budget| budget.means(namespace, &labels));
        budgets.all(|budget| match pod.is_ready() {
            true => budget.allowed > 0,
            false => budget.wish.frees_unhealthy || budget.spare >= 0,
        })
    }

    /// A pod is being evicted.
    pub(in crate::plan) fn evict(&mut self, pod: &Pod) {
        if pod.is_ready() {
            self.spend(&pod.binding.key.namespace, &pod.labels());
        }
    }

    #[cfg(test)]
    pub(super) fn just(namespace: &Name, wish: DisruptionBudget, allowed: i64) -> Self {
        let namespace = namespace.clone();
        Self(vec![Budget { namespace, wish: Arc::new(wish), spare: allowed, allowed }])
    }

    /// For each pod, in this order, whether ending it would break a budget if those before it ended
    /// (`filterPodsWithPDBViolation`).
    pub(super) fn broken_by<'p>(
        &self,
        pods: impl Iterator<Item = (&'p Name, &'p Labels)>,
    ) -> Vec<bool> {
        let mut left: Vec<i64> = self.0.iter().map(|budget| budget.allowed).collect();
        pods.map(|(namespace, labels)| {
            let mut is_broken = false;
            for (budget, left) in self.0.iter().zip(&mut left) {
                if budget.means(namespace, labels) {
                    *left -= 1;
                    is_broken |= *left < 0;
                }
            }
            is_broken
        })
        .collect()
    }

    /// A pod that was there is being ended.
    pub(super) fn spend(&mut self, namespace: &Name, labels: &Labels) {
        for budget in self.0.iter_mut().filter(|budget| budget.means(namespace, labels)) {
            budget.allowed -= 1;
            budget.spare -= 1;
        }
    }
}

impl Budget {
    fn means(&self, namespace: &Name, labels: &Labels) -> bool {
        self.namespace == *namespace && picks(&self.wish, labels)
    }
}

fn picks(wish: &DisruptionBudget, labels: &Labels) -> bool {
    wish.selector.as_ref().is_some_and(|selector| selector.matches(labels))
}

/// How a budget stands: its `status`, as the disruption controller computes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// `expectedPods`.
    pub expected: u32,
    /// `currentHealthy`.
    pub healthy: u32,
    /// `desiredHealthy`.
    pub healthy_wanted: u32,
    /// `disruptionsAllowed`.
    pub allowed: u32,
}

impl Standing {
    /// Counts. What owners want counts, not what there is: a set that is short of pods is disrupted
    /// already. Only where a plain number must be there nobody asks for owners
    /// (`getExpectedPodCount`).
    pub fn of<'p>(
        desired: &[&Desired],
        pods: impl Iterator<Item = &'p Pod>,
        namespace: &Name,
        wish: &DisruptionBudget,
    ) -> Self {
        let mut owners: BTreeMap<&Key, u32> = BTreeMap::new();
        let (mut healthy, mut matching, mut alone) = (0_u32, 0_u32, 0_u32);
        let pods = pods.filter(|pod| pod.binding.key.namespace == *namespace);
        for pod in pods.filter(|pod| picks(wish, &pod.labels())) {
            matching += 1;
            if pod.is_active() {
                let owner = &pod.binding.template.owner;
                match replicas(desired, owner) {
                    Some(count) => _ = owners.insert(owner, count),
                    None => alone += 1,
                }
                healthy += u32::from(pod.is_ready());
            }
        }
        let wanted = owners.values().fold(alone, |sum, count| sum.saturating_add(*count));
        let healthy_wanted = wish.bound.healthy_wanted(wanted);
        let expected = match wish.bound {
            Bound::MinAvailable(Share::Count(_)) => matching,
            _ => wanted,
        };
        let allowed = if expected == 0 { 0 } else { healthy.saturating_sub(healthy_wanted) };
        Self { expected, healthy, healthy_wanted, allowed }
    }
}

/// How many pods the object in Git asks for. Where it names no number (a Pod, a DaemonSet, a Job) its
/// pods count as they are: Kubernetes gives up on such a budget and allows no disruption at all.
fn replicas(desired: &[&Desired], owner: &Key) -> Option<u32> {
    let object = desired.iter().find_map(|desired| desired.objects.get(owner));
    match object.map(|object| &object.body) {
        Some(Body::Deployment(deployment)) => Some(deployment.replicas),
        Some(Body::ReplicaSet(set)) => Some(set.replicas),
        Some(Body::StatefulSet(set)) => Some(set.replicas),
        _ => None,
    }
}
