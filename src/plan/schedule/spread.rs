//! Topology spread: in no domain more than `maxSkew` pods above the emptiest.

use super::levels::Level;
use super::ranking::Ranking;
use super::topology::Topologies;
use super::{Cluster, Shape, Why};

/// The constraints of a shape, with what is counted for each.
#[derive(Debug, Default)]
pub(super) struct Spreads {
    hard: Vec<Count>,
    soft: Vec<Count>,
}

#[derive(Debug)]
struct Count {
    /// Its place among the shape's constraints.
    constraint: usize,
    topology: usize,
    max_skew: i64,
    min_domains: usize,
    counts_itself: bool,
    is_default: bool,
    /// By node: whether its pods are counted and its domain exists for this pod.
    eligible: Vec<bool>,
    /// Pods by domain; none where no eligible node is in it.
    pods: Vec<Option<i64>>,
    /// How many domains exist.
    domains: usize,
    /// Pods in the emptiest.
    least: i64,
}

impl Spreads {
    pub(super) fn of(shape: &Shape, ranking: &Ranking, cluster: &Cluster) -> Self {
        let mut spreads = Self::default();
        for (constraint, spread) in shape.terms.spread.iter().enumerate() {
            let siblings = || shape.terms.spread.iter().filter(|s| s.refuses == spread.refuses);
            // A node counts where it has the labels of all constraints of the kind.
            let eligible: Vec<bool> = (0..cluster.machines.len())
                .map(|node| {
                    (!spread.honors_node_affinity || ranking.is_affine(node))
                        && (!spread.honors_taints || ranking.is_tolerated(node))
                        && (spread.is_default
                            || siblings()
                                .all(|s| cluster.topologies.domain(s.topology, node).is_some()))
                })
                .collect();
            let mut count = Count {
                constraint,
                topology: spread.topology,
                max_skew: spread.max_skew.into(),
                min_domains: usize::try_from(spread.min_domains).unwrap_or(usize::MAX),
                counts_itself: spread.counts(shape, &shape.namespace),
                is_default: spread.is_default,
                pods: vec![None; cluster.topologies.domains(spread.topology)],
                eligible,
                domains: 0,
                least: 0,
            };
            let mut has_outside = false;
            for (node, _) in count.eligible.iter().enumerate().filter(|(_, is)| **is) {
                match cluster.topologies.domain(count.topology, node) {
                    Some(domain) => count.pods[domain] = Some(0),
                    None => has_outside = true,
                }
            }
            // Nodes without the label that count all the same are a domain among the others, the one
            // of no name.
            count.domains = count.pods.iter().flatten().count() + usize::from(has_outside);
            let list = if spread.refuses { &mut spreads.hard } else { &mut spreads.soft };
            list.push(count);
        }
        spreads
    }

    /// So many more pods that this constraint counts are on `node`.
    pub(super) fn take_in(
        &mut self,
        constraint: usize,
        node: usize,
        by: i64,
        topologies: &Topologies,
    ) {
        let counts = self.hard.iter_mut().chain(&mut self.soft);
        for count in counts.filter(|count| count.constraint == constraint) {
            if count.eligible[node]
                && let Some(domain) = topologies.domain(count.topology, node)
                && let Some(pods) = &mut count.pods[domain]
            {
                *pods += by;
            }
        }
    }

    /// Looks for the emptiest domain; to be done before nodes are asked about.
    pub(super) fn find_least(&mut self) {
        for count in &mut self.hard {
            let least = count.pods.iter().flatten().min().copied().unwrap_or(i32::MAX.into());
            count.least = if count.domains < count.min_domains { 0 } else { least };
        }
    }

    /// Why a node may not be given the pod.
    pub(super) fn refuses(&self, node: usize, topologies: &Topologies) -> Option<Why> {
        for count in &self.hard {
            let Some(domain) = topologies.domain(count.topology, node) else {
                return Some(Why::SpreadLabel);
            };
            let there = count.pods[domain].unwrap_or(0);
            let then = there + i64::from(count.counts_itself);
            if then - count.least > count.max_skew {
                return Some(Why::Spread);
            }
        }
        None
    }

    pub(super) fn has_likes(&self) -> bool {
        !self.soft.is_empty()
    }

    /// How full a node's domains are, the more domains there are the heavier; none where the node
    /// lacks one of the labels that the pod itself names.
    pub(super) fn fullness(&self, node: usize, topologies: &Topologies) -> Option<i64> {
        let mut sum = 0;
        for count in &self.soft {
            let domain = match topologies.domain(count.topology, node) {
                None if count.is_default => continue,
                domain => domain?,
            };
            sum += count.fullness(count.pods[domain].unwrap_or(0));
        }
        Some(sum)
    }

    /// Whether nodes of one level are equally full.
    pub(super) fn has_levels(&self, cluster: &Cluster) -> bool {
        self.defaults().is_some_and(|(host, _)| cluster.topologies.is_one_each(host.topology))
    }

    /// The level of a node.
    pub(super) fn level(&self, node: usize, topologies: &Topologies) -> Option<Level> {
        let (host, zone) = self.defaults()?;
        let on_host = topologies.domain(host.topology, node);
        let on_host = on_host.map(|domain| host.pods[domain].unwrap_or(0));
        Some(Level { on_host, zone: topologies.domain(zone.topology, node) })
    }

    /// How full the nodes of a level are.
    pub(super) fn fullness_at(&self, level: Level) -> Option<i64> {
        let (host, zone) = self.defaults()?;
        let on_host = level.on_host.map(|there| host.fullness(there));
        let in_zone = level.zone.map(|domain| zone.fullness(zone.pods[domain].unwrap_or(0)));
        Some(on_host.unwrap_or(0) + in_zone.unwrap_or(0))
    }

    /// The default constraints, if it is by them that the pod spreads: by host and by zone.
    fn defaults(&self) -> Option<(&Count, &Count)> {
        match &self.soft[..] {
            [host, zone] if host.is_default && zone.is_default => Some((host, zone)),
            _ => None,
        }
    }
}

impl Count {
    /// `scoreForCount`.
    fn fullness(&self, there: i64) -> i64 {
        there * log_weight(self.domains) + (self.max_skew - 1) * LOG_SCALE
    }
}

/// `topologyNormalizingWeight` is the natural logarithm of domains + 2: here straight between the powers
/// of two, in 1024ths. No floating point, so that every machine finds the same.
fn log_weight(domains: usize) -> i64 {
    let number = i64::try_from(domains).unwrap_or(i64::MAX / 4096).saturating_add(2);
    let whole = number.ilog2();
    let part = ((number - (1 << whole)) * LOG_SCALE) >> whole;
    (i64::from(whole) * LOG_SCALE + part) * LN_2 / LOG_SCALE
}

const LOG_SCALE: i64 = 1024;

/// The natural logarithm of 2, in 1024ths.
const LN_2: i64 = 710;
