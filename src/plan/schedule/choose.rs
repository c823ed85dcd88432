//! The choice of a node: the best of those that no rule refuses, or why there is none.

use std::cmp::Reverse;

use super::levels::Levels;
use super::outlook::Outlook;
use super::ranking::{Rank, Ranking, refusals};
use super::spread::Spreads;
use super::{Cluster, Reach, Unfit, Why};

/// kube-scheduler's default weights.
const WEIGHT_INTERPOD: i64 = 2;
const WEIGHT_SPREAD: i64 = 2;

/// So many rankings and outlooks are kept, the latest used: pods come in runs of one template.
const KEPT_MAX: usize = 16;

/// Shapes, how long the log was when they were asked about, and the answer.
type Known = Vec<(usize, usize, Unfit)>;

/// The cluster, and answers that hold for more than one pod.
#[derive(Debug, Default)]
pub(super) struct Scheduler {
    pub(super) cluster: Cluster,
    /// The latest used last.
    rankings: Vec<Ranking>,
    outlooks: Vec<Outlook>,
    /// Shapes for which there was no node, and how long the log was then.
    unfit: Known,
    /// The same of shapes for which no room could be made.
    hopeless: Known,
}

impl Scheduler {
    pub(super) fn new(cluster: Cluster) -> Self {
        Self { cluster, ..Self::default() }
    }

    /// Finds a node for a pod and reserves what it needs there, or says why there is none. The node
    /// on which room was made for it is taken if it fits there. `reach` is what its claims refuse.
    pub(super) fn place(
        &mut self,
        shape: usize,
        nominated: Option<usize>,
        reach: Option<&Reach>,
    ) -> Result<usize, Unfit> {
        let now = self.cluster.log.len();
        let asked = |(of, at, _): &&(usize, usize, Unfit)| *of == shape && *at == now;
        if reach.is_none()
            && let Some((_, _, unfit)) = self.unfit.iter().find(asked)
        {
            return Err(unfit.clone());
        }
        let ranking = self.ranking(shape);
        let outlook = self.outlook(shape, &ranking);
        let fits = |node: &usize| {
            let refuses =
                outlook.as_ref().and_then(|outlook| outlook.refuses(*node, &self.cluster));
            ranking.takes(*node) && refuses.is_none() && is_reached(reach, *node)
        };
        let best = || best(&ranking, outlook.as_ref(), reach, &self.cluster);
        let node = nominated.filter(fits).or_else(best);
        let result = match node {
            Some(node) => {
                self.cluster.put(node, shape);
                Ok(node)
            }
            None => Err(self.say_why(shape, outlook.as_ref(), reach)),
        };
        self.keep_ranking(ranking);
        if let Some(outlook) = outlook {
            self.keep_outlook(outlook);
        }
        if let Err(unfit) = &result
            && reach.is_none()
        {
            keep(&mut self.unfit, (shape, now, unfit.clone()));
        }
        result
    }

    /// Why no room could be made for pods of a shape, if that was asked and nothing has changed since.
    pub(super) fn known_hopeless(&self, shape: usize) -> Option<&Unfit> {
        let now = self.cluster.log.len();
        let known = self.hopeless.iter().find(|(of, at, _)| *of == shape && *at == now);
        known.map(|(_, _, unfit)| unfit)
    }

    pub(super) fn keep_hopeless(&mut self, shape: usize, unfit: &Unfit) {
        keep(&mut self.hopeless, (shape, self.cluster.log.len(), unfit.clone()));
    }

    pub(super) fn keep_ranking(&mut self, ranking: Ranking) {
        keep(&mut self.rankings, ranking);
    }

    pub(super) fn keep_outlook(&mut self, outlook: Outlook) {
        keep(&mut self.outlooks, outlook);
    }

    /// How well each node suits the pod, others aside; to be kept afterwards.
    pub(super) fn ranking(&mut self, shape: usize) -> Ranking {
        let cluster = &self.cluster;
        let known = self.rankings.iter().rposition(|known| known.holds_for(shape, cluster));
        match known {
            Some(at) => {
                let mut ranking = self.rankings.remove(at);
                ranking.catch_up(cluster);
                ranking
            }
            None => Ranking::of(shape, cluster),
        }
    }

    /// What other pods mean for it; nothing if neither it nor any other pod says a word of others. To
    /// be kept afterwards.
    pub(super) fn outlook(&mut self, shape: usize, ranking: &Ranking) -> Option<Outlook> {
        let cluster = &self.cluster;
        let is_lone = cluster.shapes[shape].terms.is_empty();
        if is_lone && !cluster.shapes.iter().any(|other| other.terms.concern_others()) {
            return None;
        }
        match self.outlooks.iter().rposition(|known| known.shape == shape) {
            Some(at) => {
                let mut outlook = self.outlooks.remove(at);
                outlook.catch_up(ranking, cluster);
                Some(outlook)
            }
            None => Some(Outlook::of(shape, ranking, cluster)),
        }
    }

    fn say_why(&self, shape: usize, outlook: Option<&Outlook>, reach: Option<&Reach>) -> Unfit {
        let cluster = &self.cluster;
        let mut unfit = Unfit { nodes: cluster.machines.len(), ..Unfit::default() };
        for node in 0..cluster.machines.len() {
            let mut reasons: Vec<Why> = refusals(&cluster.shapes[shape], node, cluster);
            if reasons.is_empty() {
                reasons.extend(reach.and_then(|reach| reach[node].clone()));
            }
            if reasons.is_empty() {
                reasons.extend(outlook.and_then(|outlook| outlook.refuses(node, cluster)));
            }
            for why in reasons {
                *unfit.reasons.entry(why).or_default() += 1;
            }
        }
        unfit
    }
}

fn keep<T>(kept: &mut Vec<T>, new: T) {
    if kept.len() >= KEPT_MAX {
        kept.remove(0);
    }
    kept.push(new);
}

/// Whether the pod's claims let it run on a node.
pub(super) fn is_reached(reach: Option<&Reach>, node: usize) -> bool {
    reach.is_none_or(|reach| reach[node].is_none())
}

fn best(
    ranking: &Ranking,
    outlook: Option<&Outlook>,
    reach: Option<&Reach>,
    cluster: &Cluster,
) -> Option<usize> {
    let Some(outlook) = outlook else {
        let mut able = ranking.best_first().filter(|rank| is_reached(reach, rank.node));
        return able.next().map(|rank| rank.node);
    };
    if let Some(levels) = outlook.levels().filter(|_| reach.is_none()) {
        return best_by_level(ranking, levels, &outlook.spreads, cluster);
    }
    best_of_all(ranking, outlook, reach, cluster)
}

/// Goes through the nodes, best first, until no other could catch up were it as empty as any.
fn best_by_level(
    ranking: &Ranking,
    levels: &Levels,
    spreads: &Spreads,
    cluster: &Cluster,
) -> Option<usize> {
    let range = Range::of(levels.each().filter_map(|level| spreads.fullness_at(level)));
    let with = |rank: Rank, full: Option<i64>| {
        let more = WEIGHT_SPREAD * range.score(full);
        Rank { score: Reverse(rank.score.0 + more), ..rank }
    };
    let mut best: Option<Rank> = None;
    for rank in ranking.best_first() {
        if best.is_some_and(|best| best < with(rank, Some(range.emptiest))) {
            break;
        }
        let rank = with(rank, spreads.fullness(rank.node, &cluster.topologies));
        best = Some(best.map_or(rank, |best| best.min(rank)));
    }
    best.map(|rank| rank.node)
}

/// Looks at every node.
pub(super) fn best_of_all(
    ranking: &Ranking,
    outlook: &Outlook,
    reach: Option<&Reach>,
    cluster: &Cluster,
) -> Option<usize> {
    let mut able = ranking.best_first().filter(|rank| {
        is_reached(reach, rank.node) && outlook.refuses(rank.node, cluster).is_none()
    });
    if !outlook.has_likes() {
        return able.next().map(|rank| rank.node);
    }
    let mut able: Vec<Rank> = able.collect();
    let more = likes(&able, outlook, cluster);
    for (rank, more) in able.iter_mut().zip(more) {
        rank.score = Reverse(rank.score.0 + more.interpod + more.spread);
    }
    able.into_iter().min().map(|rank| rank.node)
}

/// What other pods add to a node's score, by its weight each.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Likes {
    pub(super) interpod: i64,
    pub(super) spread: i64,
}

/// Both parts go from 0 to 100 over the nodes that are able to take the pod, before they are weighed.
pub(super) fn likes(able: &[Rank], outlook: &Outlook, cluster: &Cluster) -> Vec<Likes> {
    let topologies = &cluster.topologies;
    let liking = able.iter().map(|rank| outlook.interpod.liking(rank.node, topologies));
    let liking: Vec<i64> = liking.collect();
    let least = liking.iter().copied().min().unwrap_or(0);
    let range = liking.iter().copied().max().unwrap_or(0) - least;
    let full = able.iter().map(|rank| outlook.spreads.fullness(rank.node, topologies));
    let full: Vec<Option<i64>> = full.collect();
    let fullness = Range::of(full.iter().flatten().copied());
    let both = liking.into_iter().zip(full);
    both.map(|(liking, full)| {
        let interpod = if range > 0 { 100 * (liking - least) / range } else { 0 };
        let spread = fullness.score(full);
        Likes { interpod: WEIGHT_INTERPOD * interpod, spread: WEIGHT_SPREAD * spread }
    })
    .collect()
}

/// How full the emptiest and the fullest node are.
#[derive(Clone, Copy, Debug)]
struct Range {
    emptiest: i64,
    fullest: i64,
}

impl Range {
    fn of(fullness: impl Iterator<Item = i64>) -> Self {
        let ends = fullness.fold(None, |ends: Option<(i64, i64)>, full| {
            Some(ends.map_or((full, full), |(low, high)| (low.min(full), high.max(full))))
        });
        let (emptiest, fullest) = ends.unwrap_or((0, 0));
        Self { emptiest, fullest }
    }

    /// From 0 to 100 for the emptiest; 0 for a node outside every domain.
    fn score(self, full: Option<i64>) -> i64 {
        match full {
            None => 0,
            Some(_) if self.fullest == 0 => 100,
            Some(full) => 100 * (self.fullest + self.emptiest - full) / self.fullest,
        }
    }
}
