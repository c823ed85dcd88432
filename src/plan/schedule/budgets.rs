//! PodDisruptionBudgets: how many pods each lets go. Preemption heeds them where it has a choice, and
//! breaks the fewest where it has none.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kinds::labels::Labels;
use crate::kinds::name::Name;
use crate::kinds::object::{Body, Key};
use crate::kinds::registry::Kind;
use crate::kinds::workload::DisruptionBudget;

use super::super::work::Work;

/// Every budget in force.
#[derive(Clone, Debug, Default)]
pub(super) struct Budgets(Vec<Budget>);

#[derive(Clone, Debug)]
struct Budget {
    namespace: Name,
    wish: Arc<DisruptionBudget>,
    /// How many more pods it lets go: `status.disruptionsAllowed`.
    allowed: i64,
}

impl Budgets {
    pub(super) fn of(work: &Work) -> Self {
        let objects = work.revisions.values().flat_map(|revision| &revision.desired.objects);
        let budgets = objects.filter_map(|(key, object)| match &object.body {
            Body::DisruptionBudget(wish) if key.kind == Kind::PodDisruptionBudget => {
                let namespace = key.namespace.clone()?;
                let allowed = allowed(work, &namespace, wish);
                Some(Budget { namespace, wish: wish.clone(), allowed })
            }
            _ => None,
        });
        Self(budgets.collect())
    }

    #[cfg(test)]
    pub(super) fn just(namespace: &Name, wish: DisruptionBudget, allowed: i64) -> Self {
        Self(vec![Budget { namespace: namespace.clone(), wish: Arc::new(wish), allowed }])
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

/// Healthy pods less those that must be healthy. What owners want is counted, not what there is: a
/// set that is short of pods is disrupted already.
fn allowed(work: &Work, namespace: &Name, wish: &DisruptionBudget) -> i64 {
    let mut owners: BTreeMap<&Key, u32> = BTreeMap::new();
    let mut healthy = 0_i64;
    let pods = work.pods.values().filter(|pod| pod.binding.key.namespace == *namespace);
    for pod in pods.filter(|pod| pod.is_active() && picks(wish, &pod.labels())) {
        let owner = &pod.binding.template.owner;
        owners.entry(owner).or_insert_with(|| replicas(work, owner));
        healthy += i64::from(pod.is_ready());
    }
    let wanted = owners.values().fold(0_u32, |sum, count| sum.saturating_add(*count));
    (healthy - i64::from(wish.bound.healthy_wanted(wanted))).max(0)
}

/// How many pods the object in Git asks for; a Pod asks for itself.
fn replicas(work: &Work, owner: &Key) -> u32 {
    let object = work.revisions.values().find_map(|r| r.desired.objects.get(owner));
    match object.map(|object| &object.body) {
        Some(Body::Deployment(deployment)) => deployment.replicas,
        Some(Body::ReplicaSet(set)) => set.replicas,
        _ => 1,
    }
}
