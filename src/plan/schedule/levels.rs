//! Nodes by how full they are for pods that spread by default, so that the best is found without a look
//! at each: nearly every pod of a fleet is such a pod.
//!
//! The limit: it holds where nothing else is said of other pods, and where no two nodes share a host
//! name. Elsewhere every node is looked at.

use std::collections::BTreeMap;

use super::Cluster;
use super::ranking::Ranking;
use super::spread::Spreads;

/// What a node's fullness hangs on: the pods counted on it, and its zone; none where it lacks the label.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Level {
    pub(super) on_host: Option<i64>,
    pub(super) zone: Option<usize>,
}

/// How many of the nodes that can take the pod are at each level.
#[derive(Debug)]
pub(super) struct Levels {
    /// By node; none where it can't take the pod.
    of_node: Vec<Option<Level>>,
    nodes: BTreeMap<Level, usize>,
}

impl Levels {
    pub(super) fn of(spreads: &Spreads, ranking: &Ranking, cluster: &Cluster) -> Option<Self> {
        if !spreads.has_levels(cluster) {
            return None;
        }
        let mut levels =
            Self { of_node: vec![None; cluster.machines.len()], nodes: BTreeMap::new() };
        for node in 0..cluster.machines.len() {
            levels.look_at(node, spreads, ranking, cluster);
        }
        Some(levels)
    }

    /// Looks again at a node to which pods came, or from which they went.
    pub(super) fn look_at(
        &mut self,
        node: usize,
        spreads: &Spreads,
        ranking: &Ranking,
        cluster: &Cluster,
    ) {
        let can = ranking.takes(node);
        let level = can.then(|| spreads.level(node, &cluster.topologies)).flatten();
        let before = std::mem::replace(&mut self.of_node[node], level);
        if before == level {
            return;
        }
        if let Some(level) = level {
            *self.nodes.entry(level).or_default() += 1;
        }
        if let Some(before) = before
            && let Some(nodes) = self.nodes.get_mut(&before)
        {
            *nodes -= 1;
            if *nodes == 0 {
                self.nodes.remove(&before);
            }
        }
    }

    /// Each level at which there is a node.
    pub(super) fn each(&self) -> impl Iterator<Item = Level> {
        self.nodes.keys().copied()
    }
}
