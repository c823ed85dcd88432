//! The nodes in order of how well they suit a pod, other pods aside.
//!
//! What doesn't change in a turn (labels, taints, images) is asked once for all pods that ask the
//! same; what does (room, ports) is asked again only of a node that was given a pod since.

use std::cmp::Reverse;
use std::collections::BTreeSet;

use super::{Cluster, Shape, Why, affinity, images, name, ports, resources, taints};

/// kube-scheduler's default weights (`getDefaultPlugins`); resources and images weigh 1.
const WEIGHT_NODE_AFFINITY: i64 = 2;
const WEIGHT_TAINTS: i64 = 3;

/// The nodes in order.
#[derive(Debug)]
pub(super) struct Ranking {
    /// One of the shapes it holds for.
    shape: usize,
    /// By node.
    standing: Vec<Standing>,
    order: BTreeSet<Rank>,
    /// How much of the cluster's log it has read.
    read: usize,
}

/// What is known of a node.
#[derive(Clone, Copy, Debug)]
struct Standing {
    /// Whether no rule that can't change refuses it.
    is_open: bool,
    is_affine: bool,
    is_tolerated: bool,
    /// The part of its score that can't change.
    fixed: i64,
    /// Where it stands in the order.
    rank: Option<Rank>,
}

/// The best first: the higher score, then the fewer pods, then the lower name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    pub(super) score: Reverse<i64>,
    pub(super) pods: usize,
    pub(super) node: usize,
}

impl Ranking {
    pub(super) fn of(shape: usize, cluster: &Cluster) -> Self {
        let mine = &cluster.shapes[shape];
        let (spec, nodes) = (&mine.spec, cluster.machines.len());
        let each = || cluster.names.iter().zip(&cluster.machines);
        let fixed = fixed_parts(mine, cluster);
        let standing = each()
            .zip(&fixed)
            .map(|((node, machine), fixed)| {
                let is_affine = affinity::refuses(spec, node, machine).is_none();
                let is_tolerated = taints::refuses(spec, machine).is_none();
                let is_named = name::refuses(spec, node).is_none();
                let is_open =
                    machine.is_ready && !machine.differs && is_named && is_affine && is_tolerated;
                let fixed = fixed.affinity + fixed.taints + fixed.images;
                Standing { is_open, is_affine, is_tolerated, fixed, rank: None }
            })
            .collect();
        let mut ranking = Self { shape, standing, order: BTreeSet::new(), read: cluster.log.len() };
        let ranks = (0..nodes).filter_map(|node| ranking.rank(node, cluster));
        ranking.order = ranks.collect();
        for rank in &ranking.order {
            ranking.standing[rank.node].rank = Some(*rank);
        }
        ranking
    }

    /// Whether it holds for a shape, too.
    pub(super) fn holds_for(&self, shape: usize, cluster: &Cluster) -> bool {
        self.shape == shape
            || asks_the_same(&cluster.shapes[self.shape], &cluster.shapes[shape], cluster)
    }

    /// Asks again of the nodes to which pods came, or from which they went.
    pub(super) fn catch_up(&mut self, cluster: &Cluster) {
        for change in &cluster.log[self.read..] {
            let rank = self.rank(change.node, cluster);
            let before = std::mem::replace(&mut self.standing[change.node].rank, rank);
            if before != rank {
                if let Some(before) = before {
                    self.order.remove(&before);
                }
                self.order.extend(rank);
            }
        }
        self.read = cluster.log.len();
    }

    /// Where a node stands now; nowhere if it can't take the pod.
    fn rank(&self, node: usize, cluster: &Cluster) -> Option<Rank> {
        let (shape, machine) = (&cluster.shapes[self.shape], &cluster.machines[node]);
        let demand = &shape.demand;
        let standing = self.standing[node];
        let can = standing.is_open
            && resources::fits(demand, machine)
            && ports::refuses(&shape.ports, machine).is_none();
        can.then(|| {
            let room = resources::least_allocated(demand, machine);
            let score = standing.fixed + room + resources::balanced(demand, machine);
            Rank { score: Reverse(score), pods: machine.pods, node }
        })
    }

    /// The nodes that can take the pod, other pods aside, the best first.
    pub(super) fn best_first(&self) -> impl Iterator<Item = Rank> {
        self.order.iter().copied()
    }

    /// Whether the node can take the pod, other pods aside.
    pub(super) fn takes(&self, node: usize) -> bool {
        self.standing[node].rank.is_some()
    }

    /// Whether node selector and node affinity allow the node.
    pub(super) fn is_affine(&self, node: usize) -> bool {
        self.standing[node].is_affine
    }

    /// Whether the node's taints are tolerated.
    pub(super) fn is_tolerated(&self, node: usize) -> bool {
        self.standing[node].is_tolerated
    }
}

/// The parts of a node's score that don't change in a turn, by its weight each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Fixed {
    pub(super) affinity: i64,
    pub(super) taints: i64,
    pub(super) images: i64,
}

/// By node.
pub(super) fn fixed_parts(shape: &Shape, cluster: &Cluster) -> Vec<Fixed> {
    let (spec, nodes) = (&shape.spec, cluster.machines.len());
    let mut parts = vec![Fixed::default(); nodes];
    if !spec.affinity.node_preferred.is_empty() {
        let each = cluster.names.iter().zip(&cluster.machines);
        let liked: Vec<i64> = each.map(|(n, m)| affinity::preference(spec, n, m)).collect();
        let most = liked.iter().copied().max().unwrap_or(0).max(1);
        for (part, liked) in parts.iter_mut().zip(liked) {
            part.affinity = WEIGHT_NODE_AFFINITY * (100 * liked / most);
        }
    }
    let disliked: Vec<i64> =
        cluster.machines.iter().map(|machine| taints::disliked(spec, machine)).collect();
    let most = disliked.iter().copied().max().unwrap_or(0).max(1);
    for (part, count) in parts.iter_mut().zip(disliked) {
        part.taints = WEIGHT_TAINTS * (100 - 100 * count / most);
    }
    if !cluster.images.is_empty() {
        for (part, score) in parts.iter_mut().zip(images::score(spec, &cluster.images, nodes)) {
            part.images = score;
        }
    }
    parts
}

fn asks_the_same(one: &Shape, other: &Shape, cluster: &Cluster) -> bool {
    let (a, b) = (&one.spec, &other.spec);
    one.demand == other.demand
        && one.ports == other.ports
        && a.node_name == b.node_name
        && a.node_selector == b.node_selector
        && a.affinity.node_required == b.affinity.node_required
        && a.affinity.node_preferred == b.affinity.node_preferred
        && a.tolerations == b.tolerations
        && (cluster.images.is_empty() || images::wanted_by(a).eq(images::wanted_by(b)))
}

/// Why a node can't take a pod, other pods aside: the reasons of the first rule that refuses, in
/// kube-scheduler's order.
pub(super) fn refusals(shape: &Shape, node: usize, cluster: &Cluster) -> Vec<Why> {
    let (name, machine) = (&cluster.names[node], &cluster.machines[node]);
    if !machine.is_ready {
        return vec![Why::NotReady];
    }
    if machine.differs {
        return vec![Why::Settings];
    }
    let first = None
        .or_else(|| name::refuses(&shape.spec, name))
        .or_else(|| taints::refuses(&shape.spec, machine))
        .or_else(|| affinity::refuses(&shape.spec, name, machine))
        .or_else(|| ports::refuses(&shape.ports, machine));
    match first {
        Some(why) => vec![why],
        None => resources::refuses(&shape.demand, machine, &cluster.resources),
    }
}
