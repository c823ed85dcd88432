//! What a pod asks of other pods, with everything filled in that follows from the pod itself: its
//! namespace, and the values of the label keys that must or must not be shared.

use std::collections::{BTreeMap, BTreeSet};

use crate::kinds::labels::{Labels, Requirement, Selector};
use crate::kinds::name::Name;
use crate::kinds::pod::{PodSpec, PodTerm, TopologySpread};

use super::topology::Topologies;
use super::{Machine, Shape, defaults};

/// What pods of one shape ask of others.
#[derive(Debug, Default)]
pub(super) struct Terms {
    /// Each must be met in the node's domain.
    pub(super) affinity: Vec<Term>,
    /// None may be met in the node's domain.
    pub(super) anti: Vec<Term>,
    /// Liked by so much; disliked where negative.
    pub(super) likes: Vec<(i64, Term)>,
    pub(super) spread: Vec<Spread>,
}

/// Some pods, and the domain in which they are sought.
#[derive(Debug)]
pub(super) struct Term {
    pub(super) topology: usize,
    namespaces: Vec<Name>,
    namespace_selector: Option<Selector>,
    selector: Option<Selector>,
}

/// How evenly some pods spread.
#[derive(Debug)]
pub(super) struct Spread {
    pub(super) topology: usize,
    pub(super) max_skew: u32,
    pub(super) min_domains: u32,
    /// Whether it refuses a node, or only dislikes it.
    pub(super) refuses: bool,
    pub(super) honors_node_affinity: bool,
    pub(super) honors_taints: bool,
    /// Whether it is not the pod's own word: a node that lacks its label is judged by the others
    /// (`requireAllTopologies`).
    pub(super) is_default: bool,
    selector: Option<Selector>,
}

impl Terms {
    pub(super) fn of(
        spec: &PodSpec,
        namespace: &Name,
        labels: &Labels,
        topologies: &mut Topologies,
        machines: &[Machine],
    ) -> Self {
        let mut term = |term: &PodTerm| Term {
            topology: topologies.number(&term.topology_key, machines),
            namespaces: if term.namespaces.is_empty() && term.namespace_selector.is_none() {
                vec![namespace.clone()]
            } else {
                term.namespaces.clone()
            },
            namespace_selector: term.namespace_selector.clone(),
            selector: narrowed(
                term.selector.as_ref(),
                &term.match_label_keys,
                &term.mismatch_label_keys,
                labels,
            ),
        };
        let affinity = &spec.affinity;
        let required = affinity.pod_required.iter().map(&mut term).collect();
        let anti = affinity.anti_required.iter().map(&mut term).collect();
        let liked = affinity.pod_preferred.iter().map(|(weight, of)| (i64::from(*weight), of));
        let disliked = affinity.anti_preferred.iter().map(|(weight, of)| (-i64::from(*weight), of));
        let likes = liked.chain(disliked).map(|(weight, of)| (weight, term(of))).collect();
        let spread = spec.topology_spread.iter().map(|of| spread(of, labels, topologies, machines));
        let spread = spread.collect();
        Self { affinity: required, anti, likes, spread }
    }

    /// Spreads pods that do not say how among those that the selector picks.
    pub(super) fn spread_by_default(
        &mut self,
        selector: &Selector,
        topologies: &mut Topologies,
        machines: &[Machine],
    ) {
        self.spread.extend(defaults::CONSTRAINTS.map(|(key, max_skew)| Spread {
            topology: topologies.number(key, machines),
            max_skew,
            min_domains: 1,
            refuses: false,
            honors_node_affinity: true,
            honors_taints: false,
            is_default: true,
            selector: Some(selector.clone()),
        }));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.spread.is_empty() && !self.concern_others()
    }

    /// Whether they say something of where other pods may or should run: affinity works both ways.
    pub(super) fn concern_others(&self) -> bool {
        !(self.affinity.is_empty() && self.anti.is_empty() && self.likes.is_empty())
    }
}

fn spread(
    of: &TopologySpread,
    labels: &Labels,
    topologies: &mut Topologies,
    machines: &[Machine],
) -> Spread {
    Spread {
        topology: topologies.number(&of.topology_key, machines),
        max_skew: of.max_skew,
        min_domains: of.min_domains.unwrap_or(1),
        refuses: of.refuses,
        honors_node_affinity: of.honors_node_affinity,
        honors_taints: of.honors_taints,
        is_default: false,
        selector: narrowed(of.selector.as_ref(), &of.match_label_keys, &[], labels),
    }
}

/// A selector that also asks for the pod's own values of some labels, and for others than its own of
/// some. Keys that the pod lacks are passed over, as the API server does.
fn narrowed(
    selector: Option<&Selector>,
    shared: &[String],
    unshared: &[String],
    labels: &Labels,
) -> Option<Selector> {
    let mut requirements = selector?.requirements().to_vec();
    for key in shared {
        if let Some(value) = labels.get(key) {
            requirements.push(Requirement::equals(key, value));
        }
    }
    for key in unshared {
        if let Some(value) = labels.get(key) {
            requirements.push(Requirement::NotIn(key.clone(), BTreeSet::from([value.clone()])));
        }
    }
    Some(Selector::new(requirements))
}

impl Term {
    /// Whether it means pods of that shape.
    pub(super) fn means(&self, shape: &Shape, namespaces: &BTreeMap<Name, Labels>) -> bool {
        let Some(selector) = &self.selector else {
            return false;
        };
        let is_in_namespace = self.namespaces.contains(&shape.namespace)
            || self.namespace_selector.as_ref().is_some_and(|selector| {
                selector.is_everything()
                    || namespaces.get(&shape.namespace).is_some_and(|its| selector.matches(its))
            });
        is_in_namespace && selector.matches(&shape.labels)
    }
}

impl Spread {
    /// Whether it counts pods of that shape, being of `namespace` itself. Pods that are being ended
    /// are not counted: whoever replaces them may take their place.
    pub(super) fn counts(&self, shape: &Shape, namespace: &Name) -> bool {
        !shape.is_leaving
            && shape.namespace == *namespace
            && self.selector.as_ref().is_some_and(|selector| selector.matches(&shape.labels))
    }
}
