//! How each node suits a pod now, rule by rule: the same sums that decided, laid open. They are of
//! the moment somebody asks; what was there when the pod was placed is not kept.

use std::collections::BTreeMap;

use super::super::NodeInput;
use super::super::pods::Pod;
use super::choose::{Likes, Scheduler, likes};
use super::defaults::owner_of;
use super::ranking::{Rank, fixed_parts, refusals};
use super::{Cluster, Reach, Volumes, Why, resources};
use crate::desired::Desired;
use crate::kinds::labels::Labels;
use crate::kinds::name::NodeName;
use crate::state::State;

/// What is weighed, by kube-scheduler's names, in the order of [`Weighed::scores`].
pub const PLUGINS: [&str; 7] = [
    "NodeResourcesFit",
    "BalancedAllocation",
    "ImageLocality",
    "TaintToleration",
    "NodeAffinity",
    "PodTopologySpread",
    "InterPodAffinity",
];

/// A node that could take the pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weighed {
    /// The node.
    pub node: NodeName,
    /// Each score times its weight: they add up to the total.
    pub scores: [i64; PLUGINS.len()],
    /// By which nodes are compared.
    pub total: i64,
}

/// How nodes suit a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scale {
    /// Those that could take it, in the order in which they would be chosen.
    pub able: Vec<Weighed>,
    /// Those that could not, and why.
    pub unable: BTreeMap<NodeName, Vec<Why>>,
}

/// Weighs every node for a pod, as if the pod were not there. Nothing if it is not known what it
/// runs.
pub fn weigh(
    nodes: &BTreeMap<NodeName, NodeInput>,
    state: &State,
    desired: &[&Desired],
    pods: &[Pod],
    pod: &Pod,
) -> Option<Scale> {
    let template = pod.template.as_ref()?;
    let others = pods.iter().filter(|other| other.binding.uid != pod.binding.uid);
    let mut cluster = Cluster::from_parts(nodes, &state.nodes, desired, others.clone());
    let (more, owner): (&Labels, _) = (&pod.binding.labels, owner_of(&pod.binding));
    let shape = cluster.shape(template, &pod.binding.key.namespace, more, owner, false);
    cluster.prepare(&[shape].into());
    // What keeps it from every node is said in its binding.
    let reach = Volumes::of(desired, others).reach(state, &cluster, pod).unwrap_or_default();
    Some(scale(cluster, shape, reach.as_ref()))
}

pub(super) fn scale(cluster: Cluster, shape: usize, reach: Option<&Reach>) -> Scale {
    let mut scheduler = Scheduler::new(cluster);
    let ranking = scheduler.ranking(shape);
    let outlook = scheduler.outlook(shape, &ranking);
    let cluster = &scheduler.cluster;
    let refuses = |node: usize| {
        let volumes = reach.and_then(|reach| reach[node].clone());
        volumes.or_else(|| outlook.as_ref().and_then(|outlook| outlook.refuses(node, cluster)))
    };
    let able: Vec<Rank> =
        ranking.best_first().filter(|rank| refuses(rank.node).is_none()).collect();
    let liked = match &outlook {
        Some(outlook) if outlook.has_likes() => likes(&able, outlook, cluster),
        _ => vec![Likes::default(); able.len()],
    };
    let unable = (0..cluster.machines.len()).filter_map(|node| {
        let mut reasons = refusals(&cluster.shapes[shape], node, cluster);
        if reasons.is_empty() {
            reasons.extend(refuses(node));
        }
        (!reasons.is_empty()).then(|| (cluster.names[node].clone(), reasons))
    });
    let unable = unable.collect();
    let fixed = fixed_parts(&cluster.shapes[shape], cluster);
    let demand = &cluster.shapes[shape].demand;
    let mut weighed: Vec<(Rank, Weighed)> = able
        .into_iter()
        .zip(liked)
        .map(|(rank, liked)| {
            let (machine, fixed) = (&cluster.machines[rank.node], fixed[rank.node]);
            let scores = [
                resources::least_allocated(demand, machine),
                resources::balanced(demand, machine),
                fixed.images,
                fixed.taints,
                fixed.affinity,
                liked.spread,
                liked.interpod,
            ];
            let total = scores.iter().sum();
            let rank = Rank { score: std::cmp::Reverse(total), ..rank };
            (rank, Weighed { node: cluster.names[rank.node].clone(), scores, total })
        })
        .collect();
    weighed.sort_by_key(|(rank, _)| *rank);
    Scale { able: weighed.into_iter().map(|(_, weighed)| weighed).collect(), unable }
}
