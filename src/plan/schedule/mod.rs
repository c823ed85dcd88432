//! Which node runs which pod.
//!
//! Each rule is a file: it looks at one pod and one node and says nothing, or why not. A pod goes to
//! the node with the best score among those that no rule refuses; the reasons of the others are
//! kept, because "why is it not running?" is the first question anybody asks.

mod affinity;
mod cluster;
mod name;
mod ports;
mod resources;
mod score;
mod taints;

use std::collections::BTreeMap;
use std::fmt;

use crate::kinds::name::{NodeName, PodKey};
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;

pub use cluster::{Cluster, Machine};

use super::work::Work;

/// Why a node can't take a pod, worded as kube-scheduler does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The node has not been heard of for too long.
    NotReady,
    /// It is cordoned.
    Unschedulable,
    /// The pod asks for another node by name.
    OtherNode,
    /// The pod asks for labels that the node has not.
    NodeAffinity,
    /// The node has a taint that the pod does not tolerate.
    Taint(String),
    /// The node has too little left of a resource.
    Resource(String),
    /// The node runs as many pods as it may.
    TooManyPods,
    /// A port of the node is taken.
    HostPort,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady => f.write_str("node(s) were not ready"),
            Self::Unschedulable => f.write_str("node(s) were unschedulable"),
            Self::OtherNode => f.write_str("node(s) didn't match the requested node name"),
            Self::NodeAffinity => f.write_str("node(s) didn't match Pod's node affinity/selector"),
            Self::Taint(taint) => write!(f, "node(s) had untolerated taint {{{taint}}}"),
            Self::Resource(name) => write!(f, "Insufficient {name}"),
            Self::TooManyPods => f.write_str("Too many pods"),
            Self::HostPort => {
                f.write_str("node(s) didn't have free ports for the requested pod ports")
            }
        }
    }
}

/// Why no node can take a pod: how many nodes refused it, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfit {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many refused, by reason; a node may have several.
    pub reasons: BTreeMap<Why, usize>,
}

/// `0/3 nodes are available: 2 Insufficient cpu, 1 node(s) were unschedulable.`
impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available: ", self.nodes)?;
        for (at, (why, count)) in self.reasons.iter().enumerate() {
            if at > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{count} {why}")?;
        }
        f.write_str(".")
    }
}

/// Gives a node to every pod that has none and can have one; the more important first, then the
/// older.
pub(super) fn place_pods(work: &mut Work) {
    let mut waiting: Vec<(std::cmp::Reverse<i32>, u64, PodKey)> = work
        .pods
        .values()
        .filter(|pod| pod.node.is_none() && pod.is_active() && pod.template.is_some())
        .map(|pod| (std::cmp::Reverse(0), pod.binding.sequence, pod.binding.key.clone()))
        .collect();
    if waiting.is_empty() {
        return;
    }
    waiting.sort();
    let mut cluster = Cluster::of(work);
    for (_, _, key) in waiting {
        place(work, &mut cluster, &key);
    }
}

fn place(work: &mut Work, cluster: &mut Cluster, key: &PodKey) {
    let Some(template) = work.pods.get(key).and_then(|pod| pod.template.clone()) else {
        return;
    };
    let about = Key::namespaced(Kind::Pod, &key.namespace, &key.name);
    match choose(cluster, &template.spec) {
        Ok(node) => {
            cluster.put(&node, &template.spec);
            work.place(key, &node);
            work.note(format!("pod {key} goes to {node}"));
            let message = format!("Successfully assigned {key} to {node}");
            work.event(&about, "scheduler", "Scheduled", message);
        }
        Err(unfit) => {
            let message = unfit.to_string();
            let is_news = work
                .pods
                .get(key)
                .is_some_and(|pod| pod.binding.message.as_ref() != Some(&message));
            if is_news {
                work.note(format!("pod {key} waits: {message}"));
                work.warn(&about, "scheduler", "FailedScheduling", message.clone());
                work.edit(key, |binding| binding.message = Some(message));
            }
        }
    }
}

/// The best node for a pod, or why there is none.
pub fn choose(cluster: &Cluster, spec: &crate::kinds::pod::PodSpec) -> Result<NodeName, Unfit> {
    let mut unfit = Unfit { nodes: cluster.machines.len(), ..Unfit::default() };
    let requests = spec.requests();
    let mut best: Option<(score::Score, &NodeName)> = None;
    for (name, machine) in &cluster.machines {
        let refusals = refusals(spec, &requests, name, machine);
        if refusals.is_empty() {
            let score = score::score(spec, &requests, machine);
            if best.as_ref().is_none_or(|(so_far, _)| score > *so_far) {
                best = Some((score, name));
            }
        }
        for why in refusals {
            *unfit.reasons.entry(why).or_default() += 1;
        }
    }
    best.map(|(_, name)| name.clone()).ok_or(unfit)
}

/// Every reason for which a node can't take a pod.
pub fn refusals(
    spec: &crate::kinds::pod::PodSpec,
    requests: &crate::kinds::pod::ResourceList,
    name: &NodeName,
    machine: &Machine,
) -> Vec<Why> {
    let mut refusals = Vec::new();
    if !machine.is_ready {
        refusals.push(Why::NotReady);
    }
    refusals.extend(name::refuses(spec, name));
    refusals.extend(taints::refuses(spec, machine));
    refusals.extend(affinity::refuses(spec, name, machine));
    refusals.extend(ports::refuses(spec, machine));
    refusals.extend(resources::refuses(requests, machine));
    refusals
}
