//! Which node runs which pod.
//!
//! Each rule is a file: it looks at one pod and one node and says nothing, or why not. A pod goes to
//! the node with the best score among those that no rule refuses; the reasons of the others are
//! kept, because "why is it not running?" is the first question anybody asks.
//!
//! ```text
//! priority   who is served first
//! ranking    name taints affinity ports resources images   the node and the pod alone
//! volumes                                              the pod's own claims
//! outlook    interpod spread defaults                      the pods that are there
//! levels                                                   nodes that are equally full of them
//! choose     the best node that neither refuses, or the reasons
//! weigh      how nodes suit a pod now, by rule, for people who ask
//! preempt    which lesser pods would have to go, and what budgets say to that
//! ```
//!
//! Every node is looked at for every pod, but not anew: pods that ask the same share one ranking,
//! and a placement changes the standing of one node. Scores are kube-scheduler's, with its default
//! weights; equal scores go to the node with fewer pods, then to the first by name. One thing is
//! otherwise: preferences for nodes and taints are scaled over all nodes, not over those that are able
//! to take the pod, so that a node's standing does not hang on its neighbours'.

mod affinity;
mod budgets;
mod choose;
mod cluster;
mod defaults;
mod images;
mod interpod;
mod levels;
mod name;
mod outlook;
mod ports;
mod preempt;
mod priority;
mod ranking;
mod resources;
mod spread;
mod taints;
mod terms;
#[cfg(test)]
mod tests;
mod topology;
mod volumes;
mod weigh;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::kinds::name::PodKey;
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::kinds::time::Elapsed;

use super::canary;
use super::work::Work;
use volumes::{Reach, Volumes};
pub use weigh::{PLUGINS, Scale, Weighed, weigh};

pub(super) use budgets::Budgets;
pub use budgets::Standing;
use choose::Scheduler;
use cluster::{Cluster, Machine, Shape};
use preempt::{Board, Candidate, Resident};
use priority::Priorities;

/// Why a pod ends that was in the way of another, as its binding says.
pub(crate) const PREEMPTED: &str = "Preempted";

/// The most pods for which room is made in one turn; the others are asked in the next, which follows
/// at once. Trying nodes out costs more than looking at them.
const PREEMPTORS_MAX: usize = 100;

/// Why a node can't take a pod, worded as kube-scheduler does.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// The node has not been heard of for too long.
    NotReady,
    /// Its settings are others than its fleet's.
    Settings,
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
    /// A volume of the pod is not reached from the node.
    VolumeAffinity,
    /// No volume for a claim of the pod can be had there.
    NoVolume,
    /// A volume that one node at a time may use is used on another.
    VolumeInUse,
    /// A volume that one pod at a time may use is used.
    VolumeOfOnePod,
    /// The node turned away a pod of the same template lately.
    TurnedAway,
    /// It is not one of the nodes on which pods of a new template go ahead.
    NotAhead,
    /// Nobody on the node matters less than the pod.
    NoVictims,
    /// The node would refuse the pod with nobody else on it.
    NotHelpful,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady => f.write_str("node(s) were not ready"),
            Self::Settings => f.write_str("node(s) had settings other than the fleet's"),
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
            Self::VolumeAffinity => {
                f.write_str("node(s) didn't match PersistentVolume's node affinity")
            }
            Self::NoVolume => {
                f.write_str("node(s) didn't find available persistent volumes to bind")
            }
            Self::VolumeInUse => {
                f.write_str("node(s) can't mount a volume that is in use on another node")
            }
            Self::VolumeOfOnePod => f.write_str(
                "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod \
                 access mode",
            ),
            Self::TurnedAway => {
                f.write_str("node(s) turned such a pod away, and are asked again after a while")
            }
            Self::NotAhead => f.write_str("node(s) were not the canary's"),
            Self::NoVictims => f.write_str("No preemption victims found for incoming pod"),
            Self::NotHelpful => f.write_str("Preemption is not helpful for scheduling"),
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
    let mut waiting: Vec<Waiting> = Vec::new();
    for pod in work.pods.values().filter(is_waiting) {
        if let Some(template) = &pod.template
            && let Some(shape) = cluster.shape_of(pod)
        {
            waiting.push(Waiting {
                priority: Reverse(priorities.of_pod(&template.spec)),
                sequence: pod.binding.sequence,
                key: pod.binding.key.clone(),
                shape,
                preempts: priorities.preempts(&template.spec),
            });
        }
    }
    waiting.sort();
    let shapes: BTreeSet<usize> = waiting.iter().map(|pod| pod.shape).collect();
    cluster.prepare(&shapes);
    let revisions: Vec<_> = work.revisions.values().map(|its| its.desired.clone()).collect();
    let desired: Vec<&crate::desired::Desired> = revisions.iter().map(|its| &**its).collect();
    let volumes = Volumes::of(&desired, work.pods.values());
    let scheduler = Scheduler::new(cluster);
    let mut desk = Desk { scheduler, volumes, board: None, priorities, preemptors: 0 };
    // Room that was made for a pod is kept from those that matter no more than it does
    // (`RunFilterPluginsWithNominatedPods`).
    for equals in waiting.chunk_by(|one, other| one.priority == other.priority) {
        for pod in equals {
            desk.claim(work, pod);
        }
        for pod in equals {
            desk.serve(work, pod);
        }
    }
}

/// A pod that waits for a node, in the order in which they are served.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Waiting {
    priority: Reverse<i32>,
    sequence: u64,
    key: PodKey,
    shape: usize,
    /// Whether others may be ended for it.
    preempts: bool,
}

/// Where pods are served.
struct Desk {
    scheduler: Scheduler,
    volumes: Volumes,
    /// Who is where; made when a pod that fits nowhere first asks.
    board: Option<Board>,
    priorities: Priorities,
    /// For how many pods room was made.
    preemptors: usize,
}

/// What became of a pod that fits nowhere.
enum Relief {
    /// Others were told to make way on this node.
    Made(usize),
    /// They have been told before and are still there, or will be in the next turn.
    Awaited,
    /// Nobody can make way, and why.
    None(String),
}

impl Desk {
    /// The node on which room was made for a pod, if it is still there.
    fn nominated(&self, work: &Work, pod: &Waiting) -> Option<usize> {
        let node = work.pods.get(&pod.key)?.binding.nominated.as_ref()?;
        self.scheduler.cluster.node(node)
    }

    fn claim(&mut self, work: &Work, pod: &Waiting) {
        if let Some(node) = self.nominated(work, pod) {
            self.scheduler.cluster.claim(node, pod.shape);
        }
    }

    fn serve(&mut self, work: &mut Work, pod: &Waiting) {
        let nominated = self.nominated(work, pod);
        if let Some(node) = nominated {
            self.scheduler.cluster.give_back(node, pod.shape);
        }
        let (key, about) = (&pod.key, pod_key(&pod.key));
        let cluster = &self.scheduler.cluster;
        let reach = work.pods.get(key).map(|its| self.volumes.reach(&work.next, cluster, its));
        let reach = match reach.unwrap_or(Ok(None)) {
            Ok(reach) => reach,
            Err(why) => {
                let nodes = cluster.machines.len();
                self.say_why(work, pod, Some(format!("0/{nodes} nodes are available: {why}.")));
                return;
            }
        };
        let reach = self.keep_ahead(work, key, reach);
        let reach = self.spare(work, key, reach);
        let unfit = match self.scheduler.place(pod.shape, nominated, reach.as_ref()) {
            Ok(node) => {
                self.volumes.settle(work, &self.scheduler.cluster, key, node);
                let node = self.scheduler.cluster.names[node].clone();
                work.place(key, &node);
                work.note(format!("pod {key} goes to {node}"));
                let message = format!("Successfully assigned {key} to {node}");
                work.event(&about, "scheduler", "Scheduled", message);
                return;
            }
            Err(unfit) => unfit,
        };
        let (node, message) = match self.make_room(work, pod, nominated, reach.as_ref()) {
            // What was said stays true.
            Relief::Awaited => (nominated, None),
            Relief::Made(node) => (Some(node), Some(unfit.to_string())),
            Relief::None(why) if unfit.nodes == 0 => (None, Some(format!("{unfit}{why}"))),
            Relief::None(why) => (None, Some(format!("{unfit} preemption: {why}"))),
        };
        self.say_why(work, pod, message);
        let name = node.map(|node| self.scheduler.cluster.names[node].clone());
        let is_news = work.pods.get(key).is_some_and(|pod| pod.binding.nominated != name);
        if is_news {
            work.edit(key, |binding| binding.nominated = name);
        }
        if let Some(node) = node {
            self.scheduler.cluster.claim(node, pod.shape);
        }
    }

    /// Holds a pod that goes ahead to the nodes on which it may.
    fn keep_ahead(&self, work: &Work, key: &PodKey, reach: Option<Reach>) -> Option<Reach> {
        let Some(nodes) = work.pods.get(key).and_then(|pod| canary::nodes_for(work, pod)) else {
            return reach;
        };
        let names = &self.scheduler.cluster.names;
        let mut reach = reach.unwrap_or_else(|| vec![None; names.len()]);
        for (why, _) in reach.iter_mut().zip(names).filter(|(_, name)| !nodes.contains(*name)) {
            why.get_or_insert(Why::NotAhead);
        }
        Some(reach)
    }

    /// Leaves alone nodes that turned away such a pod lately.
    fn spare(&self, work: &mut Work, key: &PodKey, reach: Option<Reach>) -> Option<Reach> {
        let now = work.now.elapsed;
        let pod = work.pods.get(key).filter(|_| !work.memory.refusals.is_empty());
        let Some(template) = pod.map(|pod| pod.binding.template.clone()) else {
            return reach;
        };
        let names = &self.scheduler.cluster.names;
        let spared: Vec<(usize, Elapsed)> = names
            .iter()
            .enumerate()
            .filter_map(|(at, name)| Some((at, work.memory.refusals.until(&template, name, now)?)))
            .collect();
        let Some(soonest) = spared.iter().map(|(_, until)| *until).min() else {
            return reach;
        };
        work.wake_in(soonest.since(now));
        let mut reach = reach.unwrap_or_else(|| vec![None; names.len()]);
        for (at, _) in spared {
            reach[at].get_or_insert(Why::TurnedAway);
        }
        Some(reach)
    }

    fn say_why(&self, work: &mut Work, pod: &Waiting, message: Option<String>) {
        let Some(message) = message else {
            return;
        };
        let key = &pod.key;
        let binding = work.pods.get(key).map(|pod| &pod.binding);
        if binding.is_some_and(|binding| binding.message.as_ref() != Some(&message)) {
            work.note(format!("pod {key} waits: {message}"));
            work.warn(&pod_key(key), "scheduler", "FailedScheduling", message.clone());
            work.edit(key, |binding| binding.message = Some(message));
        }
    }

    /// Ends lesser pods where that makes room and costs least.
    fn make_room(
        &mut self,
        work: &mut Work,
        pod: &Waiting,
        nominated: Option<usize>,
        reach: Option<&Reach>,
    ) -> Relief {
        let nodes = self.scheduler.cluster.machines.len();
        if nodes == 0 {
            return Relief::None(String::new());
        }
        // `PodEligibleToPreemptOthers`.
        if !pod.preempts {
            return Relief::None("not eligible due to preemptionPolicy=Never.".to_owned());
        }
        let priority = pod.priority.0;
        let board = self
            .board
            .get_or_insert_with(|| board(work, &mut self.scheduler.cluster, &self.priorities));
        if let Some(node) = nominated {
            let mut residents = board.residents[node].iter();
            let is_awaited = residents.any(|its| its.is_preempted && its.priority < priority);
            if is_awaited && self.scheduler.room_would_help(pod.shape, node) {
                return Relief::Awaited;
            }
        }
        if self.preemptors >= PREEMPTORS_MAX {
            work.is_unfinished = true;
            return Relief::Awaited;
        }
        let start = usize::try_from(pod.sequence).unwrap_or(0) % nodes;
        match self.scheduler.find_victims(pod.shape, priority, board, start, reach) {
            Ok(candidate) => {
                // Waiting for what leaves anyway is no progress: it must not call for another turn.
                self.preemptors += usize::from(!candidate.victims.is_empty());
                self.end_victims(work, pod, &candidate);
                Relief::Made(candidate.node)
            }
            Err(unfit) => Relief::None(unfit.to_string()),
        }
    }

    fn end_victims(&mut self, work: &mut Work, pod: &Waiting, candidate: &Candidate) {
        let Some(board) = &mut self.board else {
            return;
        };
        let cluster = &mut self.scheduler.cluster;
        let node = cluster.names[candidate.node].clone();
        let uid = work.pods.get(&pod.key).map(|pod| pod.binding.uid.clone());
        let uid = uid.map_or_else(String::new, |uid| uid.to_string());
        for at in &candidate.victims {
            let victim = &mut board.residents[candidate.node][*at];
            work.note(format!("pod {} ends on {node}: pod {} needs its room", victim.key, pod.key));
            let message = format!("Preempted by pod {uid} on node {node}");
            work.event(&pod_key(&victim.key), "scheduler", "Preempted", message);
            work.end_pod(&victim.key, None, PREEMPTED);
            let shape = &cluster.shapes[victim.shape];
            board.budgets.spend(&shape.namespace, &shape.labels);
            cluster.take(candidate.node, victim.shape);
            if let Some(leaving) = work.pods.get(&victim.key).and_then(|p| cluster.shape_of(p)) {
                victim.shape = leaving;
                cluster.put(candidate.node, leaving);
            }
            (victim.is_leaving, victim.is_preempted) = (true, true);
        }
        if !candidate.victims.is_empty() {
            // Their owners are asked before the scheduler: they make others in the next turn.
            work.is_unfinished = true;
        }
        // Whoever was to have that room and matters less looks for another.
        let hopes: Vec<PodKey> = work
            .pods
            .values()
            .filter(|other| other.node.is_none() && other.binding.nominated.as_ref() == Some(&node))
            .filter(|other| {
                let spec = other.template.as_ref().map(|template| &template.spec);
                spec.is_some_and(|spec| self.priorities.of_pod(spec) < pod.priority.0)
            })
            .map(|other| other.binding.key.clone())
            .collect();
        for key in hopes {
            work.edit(&key, |binding| binding.nominated = None);
        }
    }
}

/// Who is where.
fn board(work: &Work, cluster: &mut Cluster, priorities: &Priorities) -> Board {
    let mut residents = vec![Vec::new(); cluster.machines.len()];
    for pod in work.pods.values().filter(|pod| !pod.phase().is_over()) {
        let node = pod.node.as_ref().and_then(|node| cluster.node(node));
        if let (Some(node), Some(template)) = (node, &pod.template)
            && let Some(shape) = cluster.shape_of(pod)
        {
            let deletion = pod.binding.deletion.as_ref();
            residents[node].push(Resident {
                key: pod.binding.key.clone(),
                shape,
                priority: priorities.of_pod(&template.spec),
                sequence: pod.binding.sequence,
                is_leaving: deletion.is_some(),
                is_preempted: deletion.is_some_and(|deletion| deletion.reason == PREEMPTED),
            });
        }
    }
    Board { residents, budgets: Budgets::of(work) }
}

fn pod_key(key: &PodKey) -> Key {
    Key::namespaced(Kind::Pod, &key.namespace, &key.name)
}
