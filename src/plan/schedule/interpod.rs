//! Pod affinity and anti-affinity. A required term of a pod that is there holds against a pod that
//! comes as well; so do likes and dislikes.

use std::collections::BTreeMap;

use super::topology::Topologies;
use super::{Cluster, Shape, Why};

/// How much a node is liked because a pod there requires such a pod near
/// (`DefaultHardPodAffinityWeight`).
const REQUIRED_WEIGHT: i64 = 1;

/// What holds for a shape, by domain.
#[derive(Debug, Default)]
pub(super) struct Interpod {
    /// For each required term: how many pods there meet all of them.
    met: Vec<(usize, Vec<i64>)>,
    /// How many pods anywhere meet them, once for each term.
    met_anywhere: i64,
    /// Whether the pod meets them itself, so that the first of a group may run anywhere.
    meets_itself: bool,
    /// How many pods there the pod must not meet.
    shunned: BTreeMap<usize, Vec<i64>>,
    /// How many pods there must not meet the pod.
    forbidden: BTreeMap<usize, Vec<i64>>,
    /// How much the pods there draw the pod, or it is drawn to them.
    liked: BTreeMap<usize, Vec<i64>>,
}

/// What one more pod of some shape in a domain does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// It meets all required terms.
    Met,
    /// The pod must not meet it in this topology.
    Shunned(usize),
    /// It must not meet the pod in this topology.
    Forbidden(usize),
    /// It draws the pod in this topology.
    Liked(usize, i64),
}

impl Effect {
    /// Whether it keeps the pod away.
    pub(super) fn refuses(self) -> bool {
        matches!(self, Self::Shunned(_) | Self::Forbidden(_))
    }
}

impl Interpod {
    pub(super) fn of(shape: &Shape, cluster: &Cluster) -> Self {
        let terms = &shape.terms.affinity;
        let topologies = &cluster.topologies;
        let met = terms
            .iter()
            .map(|term| (term.topology, vec![0; topologies.domains(term.topology)]))
            .collect();
        let meets_itself = terms.iter().all(|term| term.means(shape, &cluster.namespaces));
        Self { met, meets_itself, ..Self::default() }
    }

    /// What a pod of shape `other` does to one of shape `mine`.
    pub(super) fn effects(mine: &Shape, other: &Shape, cluster: &Cluster) -> Vec<Effect> {
        let namespaces = &cluster.namespaces;
        let (ours, theirs) = (&mine.terms, &other.terms);
        let mut effects = Vec::new();
        let required = &ours.affinity;
        if !required.is_empty() && required.iter().all(|term| term.means(other, namespaces)) {
            effects.push(Effect::Met);
        }
        for term in ours.anti.iter().filter(|term| term.means(other, namespaces)) {
            effects.push(Effect::Shunned(term.topology));
        }
        for term in theirs.anti.iter().filter(|term| term.means(mine, namespaces)) {
            effects.push(Effect::Forbidden(term.topology));
        }
        for (weight, term) in ours.likes.iter().filter(|(_, term)| term.means(other, namespaces)) {
            effects.push(Effect::Liked(term.topology, *weight));
        }
        for (weight, term) in theirs.likes.iter().filter(|(_, term)| term.means(mine, namespaces)) {
            effects.push(Effect::Liked(term.topology, *weight));
        }
        for term in theirs.affinity.iter().filter(|term| term.means(mine, namespaces)) {
            effects.push(Effect::Liked(term.topology, REQUIRED_WEIGHT));
        }
        effects
    }

    /// So many more pods with this effect are on `node`.
    pub(super) fn take_in(
        &mut self,
        effect: Effect,
        node: usize,
        by: i64,
        topologies: &Topologies,
    ) {
        match effect {
            Effect::Met => {
                for (topology, counts) in &mut self.met {
                    if let Some(domain) = topologies.domain(*topology, node) {
                        counts[domain] += by;
                        self.met_anywhere += by;
                    }
                }
            }
            Effect::Shunned(topology) => add(&mut self.shunned, topology, node, by, topologies),
            Effect::Forbidden(topology) => add(&mut self.forbidden, topology, node, by, topologies),
            Effect::Liked(topology, weight) => {
                add(&mut self.liked, topology, node, weight * by, topologies);
            }
        }
    }

    /// Why a node may not be given the pod.
    pub(super) fn refuses(&self, node: usize, topologies: &Topologies) -> Option<Why> {
        let mut is_met = true;
        for (topology, counts) in &self.met {
            match topologies.domain(*topology, node) {
                // A node outside every domain can't be near anything.
                None => return Some(Why::PodAffinity),
                Some(domain) => is_met &= counts[domain] > 0,
            }
        }
        let is_first = self.met_anywhere == 0 && self.meets_itself;
        if !is_met && !is_first {
            return Some(Why::PodAffinity);
        }
        let is_in = |counts: &BTreeMap<usize, Vec<i64>>| {
            counts.iter().any(|(topology, counts)| {
                topologies.domain(*topology, node).is_some_and(|domain| counts[domain] > 0)
            })
        };
        if is_in(&self.shunned) {
            return Some(Why::PodAntiAffinity);
        }
        is_in(&self.forbidden).then_some(Why::OthersAntiAffinity)
    }

    /// Whether nobody says anything of where the pod may or should run for the pods that are there.
    pub(super) fn is_silent(&self) -> bool {
        self.met.is_empty()
            && self.shunned.is_empty()
            && self.forbidden.is_empty()
            && self.liked.is_empty()
    }

    /// Whether any node is liked better than another for the pods on it.
    pub(super) fn has_likes(&self) -> bool {
        !self.liked.is_empty()
    }

    /// How much a node is liked, on no scale.
    pub(super) fn liking(&self, node: usize, topologies: &Topologies) -> i64 {
        let sums = self.liked.iter();
        sums.filter_map(|(topology, sums)| Some(sums[topologies.domain(*topology, node)?])).sum()
    }
}

fn add(
    counts: &mut BTreeMap<usize, Vec<i64>>,
    topology: usize,
    node: usize,
    amount: i64,
    topologies: &Topologies,
) {
    let domains = topologies.domains(topology);
    let counts = counts.entry(topology).or_insert_with(|| vec![0; domains]);
    if let Some(domain) = topologies.domain(topology, node) {
        counts[domain] += amount;
    }
}
