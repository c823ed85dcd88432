//! What is asked of the spread of pods that say nothing of it themselves: kube-scheduler's system
//! defaults (`systemDefaultConstraints`). They are liked, never required.
//!
//! Such a pod is spread among those that the Services and the set that own up to it select together
//! (`helper.DefaultSelector`); where nobody does, it is not spread. The set of a Deployment selects by
//! the hash of its template as well, so that a roll-out spreads the new pods for themselves.

use std::collections::BTreeMap;

use crate::kinds::binding::Binding;
use crate::kinds::labels::{Labels, Requirement, Selector};
use crate::kinds::name::Name;
use crate::kinds::node::{LABEL_HOSTNAME, LABEL_ZONE};
use crate::kinds::object::{Body, Key, Object};
use crate::kinds::registry::Kind;

use super::super::replicaset::LABEL_TEMPLATE_HASH;
use super::Shape;

/// Labels and `maxSkew`, in kube-scheduler's order.
pub(super) const CONSTRAINTS: [(&str, u32); 2] = [(LABEL_HOSTNAME, 3), (LABEL_ZONE, 5)];

/// Whoever selects pods.
#[derive(Debug, Default)]
pub(super) struct Selectors {
    /// Of Services, by namespace; each asks for something.
    services: BTreeMap<Name, Vec<Selector>>,
    /// Of Deployments, ReplicaSets, ReplicationControllers and StatefulSets.
    sets: BTreeMap<Key, Selector>,
}

/// The object whose selector is that of the set that owns a pod: the Deployment, where it made the
/// set. None for a pod that is nobody's.
pub(super) fn owner_of(binding: &Binding) -> Option<&Key> {
    let source = &binding.template.owner;
    match (binding.owner.kind, source.kind) {
        (Kind::Pod, _) => None,
        (_, Kind::Deployment) => Some(source),
        _ => Some(&binding.owner),
    }
}

impl Selectors {
    /// Takes in an object, if it selects pods.
    pub(super) fn learn(&mut self, key: &Key, object: &Object) {
        let set = match &object.body {
            Body::Service(service) => {
                if let (Some(selector), Some(namespace)) = (&service.selector, &key.namespace)
                    && !selector.is_everything()
                {
                    let services = self.services.entry(namespace.clone()).or_default();
                    services.push(selector.clone());
                }
                return;
            }
            // kube-scheduler asks no DaemonSet: its pods have no choice.
            Body::DaemonSet(_) => return,
            body => body.selector(),
        };
        if let Some(set) = set {
            self.sets.insert(key.clone(), set.clone());
        }
    }

    /// What selects pods of that shape, all taken together; none if nobody does.
    pub(super) fn of(&self, shape: &Shape) -> Option<Selector> {
        let services = self.services.get(&shape.namespace).into_iter().flatten();
        let services = services.filter(|selector| selector.matches(&shape.labels));
        let mut requirements: Vec<Requirement> =
            services.flat_map(Selector::requirements).cloned().collect();
        if let Some(owner) = &shape.owner {
            // A set may outlive the selector it was made for; then the hash alone tells.
            let set = self.sets.get(owner).filter(|selector| selector.matches(&shape.labels));
            requirements.extend(set.into_iter().flat_map(Selector::requirements).cloned());
            requirements.extend(hash(owner, &shape.labels));
        }
        (!requirements.is_empty()).then(|| Selector::new(requirements))
    }
}

fn hash(owner: &Key, labels: &Labels) -> Option<Requirement> {
    let hash = labels.get(LABEL_TEMPLATE_HASH).filter(|_| owner.kind == Kind::Deployment)?;
    Some(Requirement::equals(LABEL_TEMPLATE_HASH, hash))
}
