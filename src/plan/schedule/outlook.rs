//! What the pods that are there mean for pods of one shape: kept while such pods are placed, and
//! brought up to date from the cluster's log.

use std::collections::BTreeMap;

use super::cluster::Change;
use super::interpod::{Effect, Interpod};
use super::levels::Levels;
use super::ranking::Ranking;
use super::spread::Spreads;
use super::{Cluster, Why};

/// What other pods mean for pods of a shape.
#[derive(Debug)]
pub(super) struct Outlook {
    pub(super) shape: usize,
    pub(super) interpod: Interpod,
    pub(super) spreads: Spreads,
    /// Nodes by how full they are, where that can be told at once.
    levels: Option<Levels>,
    /// What one more pod of each shape does.
    effects: BTreeMap<usize, Effects>,
    /// How much of the cluster's log it has read.
    read: usize,
}

#[derive(Debug, Default)]
struct Effects {
    interpod: Vec<Effect>,
    /// Constraints that count it.
    spread: Vec<usize>,
}

impl Outlook {
    pub(super) fn of(shape: usize, ranking: &Ranking, cluster: &Cluster) -> Self {
        let mine = &cluster.shapes[shape];
        let mut outlook = Self {
            shape,
            interpod: Interpod::of(mine, cluster),
            spreads: Spreads::of(mine, ranking, cluster),
            levels: None,
            effects: BTreeMap::new(),
            read: cluster.log.len(),
        };
        for (other, shape) in cluster.shapes.iter().enumerate() {
            let effects = Effects::of(outlook.shape, other, cluster);
            let does_nothing = effects.interpod.is_empty() && effects.spread.is_empty();
            outlook.effects.insert(other, effects);
            if does_nothing {
                continue;
            }
            for node in &shape.nodes {
                outlook
                    .take_in(Change { node: *node, shape: other, by: 1, is_claim: false }, cluster);
            }
        }
        for (node, shape) in &cluster.claims {
            let claim = Change { node: *node, shape: *shape, by: 1, is_claim: true };
            outlook.take_in(claim, cluster);
        }
        outlook.spreads.find_least();
        outlook.levels = Levels::of(&outlook.spreads, ranking, cluster);
        outlook
    }

    /// Takes in the pods that came and went since.
    pub(super) fn catch_up(&mut self, ranking: &Ranking, cluster: &Cluster) {
        for change in &cluster.log[self.read..] {
            self.take_in(*change, cluster);
            if let Some(levels) = &mut self.levels {
                levels.look_at(change.node, &self.spreads, ranking, cluster);
            }
        }
        self.read = cluster.log.len();
        self.spreads.find_least();
    }

    /// Takes in a change that is in no log, to see what would be.
    pub(super) fn suppose(&mut self, change: Change, cluster: &Cluster) {
        self.take_in(change, cluster);
        self.spreads.find_least();
    }

    fn take_in(&mut self, change: Change, cluster: &Cluster) {
        let Change { node, shape, by, is_claim } = change;
        let mine = self.shape;
        let effects =
            self.effects.entry(shape).or_insert_with(|| Effects::of(mine, shape, cluster));
        for effect in effects.interpod.iter().filter(|effect| !is_claim || effect.refuses()) {
            self.interpod.take_in(*effect, node, by, &cluster.topologies);
        }
        for constraint in effects.spread.iter().filter(|_| !is_claim) {
            self.spreads.take_in(*constraint, node, by, &cluster.topologies);
        }
    }

    /// Why a node may not be given the pod.
    pub(super) fn refuses(&self, node: usize, cluster: &Cluster) -> Option<Why> {
        let spread = self.spreads.refuses(node, &cluster.topologies);
        spread.or_else(|| self.interpod.refuses(node, &cluster.topologies))
    }

    /// Nodes by how full they are, if that is all that other pods mean.
    pub(super) fn levels(&self) -> Option<&Levels> {
        self.levels.as_ref().filter(|_| self.interpod.is_silent())
    }

    /// Whether other pods make one node better than another.
    pub(super) fn has_likes(&self) -> bool {
        self.interpod.has_likes() || self.spreads.has_likes()
    }
}

impl Effects {
    fn of(mine: usize, other: usize, cluster: &Cluster) -> Self {
        let (mine, other) = (&cluster.shapes[mine], &cluster.shapes[other]);
        let spread = mine.terms.spread.iter().enumerate();
        let spread = spread.filter(|(_, spread)| spread.counts(other, &mine.namespace));
        Self {
            interpod: Interpod::effects(mine, other, cluster),
            spread: spread.map(|(constraint, _)| constraint).collect(),
        }
    }
}
