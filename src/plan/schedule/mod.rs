//! Which node runs which pod.
//!
//! Each rule is a file: it looks at one pod and one node and says nothing, or why not. A pod goes to
//! the node with the best score among those that no rule refuses; the reasons of the others are
//! kept, because "why is it not running?" is the first question anybody asks.
//!
//! ```text
//! priority   who is served first
//! ranking    name taints affinity ports resources images   the node and the pod alone
//! outlook    interpod spread                               the pods that are there
//! choose     the best node that neither refuses, or the reasons
//! ```
//!
//! Every node is looked at for every pod, but not anew: pods that ask the same share one ranking,
//! and a placement changes the standing of one node. Scores are kube-scheduler's, with its default
//! weights; equal scores go to the node with fewer pods, then to the first by name. One thing is
//! otherwise: preferences for nodes and taints are scaled over all nodes, not over those that are able
//! to take the pod, so that a node's standing does not hang on its neighbours'.

mod affinity;
mod choose;
mod cluster;
mod images;
mod interpod;
mod name;
mod outlook;
mod ports;
mod priority;
mod ranking;
mod resources;
mod spread;
mod taints;
mod terms;
#[cfg(test)]
mod tests;
mod topology;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::kinds::name::PodKey;
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;

use super::work::Work;
use choose::Scheduler;
use cluster::{Cluster, Machine, Shape};
use priority::Priorities;

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
    /// The node lacks a label by which the pod is spread.
    SpreadLabel,
    /// The node's domain would have too many of the pod's kind.
    Spread,
    /// A pod that this one must be near is not near.
    PodAffinity,
    /// A pod that this one must not be near is near.
    PodAntiAffinity,
    /// A pod is near that must not have this one near.
    OthersAntiAffinity,
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
            Self::SpreadLabel => f.write_str(
                "node(s) didn't match pod topology spread constraints (missing required label)",
            ),
            Self::Spread => f.write_str("node(s) didn't match pod topology spread constraints"),
            Self::PodAffinity => f.write_str("node(s) didn't match pod affinity rules"),
            Self::PodAntiAffinity => f.write_str("node(s) didn't match pod anti-affinity rules"),
            Self::OthersAntiAffinity => {
                f.write_str("node(s) didn't satisfy existing pods anti-affinity rules")
            }
        }
    }
}

/// Why no node can take a pod: how many nodes refused it, by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unfit {
    /// How many nodes there are.
    pub nodes: usize,
    /// How many refused, by reason: those of the first rule that refuses the node. A node may lack
    /// several resources.
    pub reasons: BTreeMap<Why, usize>,
}

/// `0/3 nodes are available: 2 Insufficient cpu, 1 node(s) were unschedulable.`
impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.nodes == 0 {
            return f.write_str("no nodes available to schedule pods");
        }
        write!(f, "0/{} nodes are available: ", self.nodes)?;
        // Sorted as texts, numbers and all, as kube-scheduler does (`FitError.Error`).
        let mut reasons: Vec<String> =
            self.reasons.iter().map(|(why, count)| format!("{count} {why}")).collect();
        reasons.sort();
        write!(f, "{}.", reasons.join(", "))
    }
}

/// Gives a node to every pod that has none and can have one; the more important first, then the
/// older.
pub(super) fn place_pods(work: &mut Work) {
    let is_waiting = |pod: &&super::Pod| pod.node.is_none() && pod.is_active();
    if !work.pods.values().any(|pod| is_waiting(&pod)) {
        return;
    }
    let priorities = Priorities::of(work);
    let mut cluster = Cluster::of(work);
    let mut waiting: Vec<(Reverse<i32>, u64, PodKey, usize)> = Vec::new();
    for pod in work.pods.values().filter(is_waiting) {
        if let Some(template) = &pod.template
            && let Some(shape) = cluster.shape_of(pod)
        {
            let priority = Reverse(priorities.of_pod(&template.spec));
            waiting.push((priority, pod.binding.sequence, pod.binding.key.clone(), shape));
        }
    }
    waiting.sort();
    let shapes: BTreeSet<usize> = waiting.iter().map(|(.., shape)| *shape).collect();
    cluster.look_for_images(&shapes);
    let mut scheduler = Scheduler::new(cluster);
    for (.., key, shape) in waiting {
        place(work, &mut scheduler, &key, shape);
    }
}

fn place(work: &mut Work, scheduler: &mut Scheduler, key: &PodKey, shape: usize) {
    let about = Key::namespaced(Kind::Pod, &key.namespace, &key.name);
    match scheduler.place(shape) {
        Ok(node) => {
            let node = scheduler.cluster.names[node].clone();
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
