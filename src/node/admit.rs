//! At the door: a pod that is sent here is looked at once before it is let in.
//!
//! The coordinator has seen to it that the pod fits; but it may have looked at an older picture of
//! this node, or be an impostor. So the node judges for itself, by the rules of kubelet's admission: a
//! pod that does not fit ends as `Failed` and says why, and its owner makes another. The rule: who has
//! been let in stays, whatever becomes of labels, taints or room; so an agent that takes over from
//! another turns nobody out. The limit: what this node can't know for certain it doesn't hold against
//! a pod. Source: `generalFilter` and `Admit` in kubelet's `lifecycle/predicate.go`.

use std::collections::BTreeMap;
use std::fmt;

use crate::kinds::name::Uid;
use crate::kinds::node::LABEL_OS;
use crate::kinds::pod::{HostPort, NodeTerm, PodSpec, ResourceList, TaintEffect};
use crate::kinds::quantity::Quantity;
use crate::kinds::status::{Phase, REJECTED};
use crate::kinds::time::Now;
use crate::kinds::volume::VolumeSource;

use super::house::House;
use super::memory::{Memory, Over};
use super::{Around, Assignment, Mine, Standing};

impl Over {
    /// Whether the pod was turned away and never began.
    pub(crate) fn is_rejection(&self) -> bool {
        self.message.as_ref().is_some_and(|message| message.starts_with(REJECTED))
    }
}

/// Why a pod is turned away.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Why {
    OperatingSystem,
    Resource { name: String, asked: String, used: String, has: String },
    NodeAffinity,
    NodeName,
    NodePorts,
    Taint,
    Volume,
}

impl Why {
    /// One word, as kubelet has it.
    fn reason(&self) -> String {
        match self {
            Self::OperatingSystem => "PodOSSelectorNodeLabelDoesNotMatch".to_owned(),
            Self::Resource { name, .. } => format!("OutOf{name}"),
            Self::NodeAffinity => "NodeAffinity".to_owned(),
            Self::NodeName => "NodeName".to_owned(),
            Self::NodePorts => "NodePorts".to_owned(),
            Self::Taint => "TaintToleration".to_owned(),
            Self::Volume => "VolumeBinding".to_owned(),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let why = match self {
            Self::OperatingSystem => {
                return f.write_str(
                    "Failed to admit pod as the `kubernetes.io/os` label doesn't match node label",
                );
            }
            Self::Resource { name, asked, used, has } => {
                return write!(
                    f,
                    "Node didn't have enough resource: {name}, requested: {asked}, used: {used}, \
                     capacity: {has}"
                );
            }
            Self::NodeAffinity => "node(s) didn't match Pod's node affinity/selector",
            Self::NodeName => "node(s) didn't match the requested node name",
            Self::NodePorts => "node(s) didn't have free ports for the requested pod ports",
            Self::Taint => "node(s) had taints that the pod didn't tolerate",
            Self::Volume => "node(s) didn't match PersistentVolume's node affinity",
        };
        write!(f, "Predicate {} failed: {why}", self.reason())
    }
}

/// Looks at every pod that has not been let in yet, the older first.
pub(super) fn receive(
    mine: &Mine,
    houses: &BTreeMap<Uid, House<'_>>,
    around: &Around,
    memory: &mut Memory,
    now: Now,
) {
    let is_in = |uid: &Uid| {
        let is_here = houses.get(uid).is_some_and(|house| !house.is_empty());
        is_here || memory.pods.get(uid).is_some_and(|pod| pod.is_admitted || pod.over.is_some())
    };
    let mut newcomers: Vec<(&Uid, &Assignment, &PodSpec)> = Vec::new();
    for (uid, pod) in &mine.pods {
        if let Some(template) = &pod.template
            && pod.binding.deletion.is_none()
            && !is_in(uid)
        {
            newcomers.push((uid, pod, &template.spec));
        }
    }
    if newcomers.is_empty() {
        return;
    }
    let mut taken = Taken::default();
    for (uid, pod) in mine.pods.iter().filter(|(uid, _)| is_in(uid)) {
        let is_over = memory.pods.get(uid).is_some_and(|pod| pod.over.is_some() || pod.gone);
        if let Some(template) = pod.template.as_ref().filter(|_| !is_over) {
            taken.add(&template.spec);
        }
    }
    newcomers.sort_by_key(|(_, pod, _)| pod.binding.sequence);
    for (uid, pod, spec) in newcomers {
        let refusal = refuses(spec, &taken, around)
            .or_else(|| is_elsewhere(pod, spec, around).then_some(Why::Volume));
        let record = memory.pod(uid, &pod.binding.key, now);
        match refusal {
            None => {
                record.is_admitted = true;
                taken.add(spec);
            }
            Some(why) => {
                record.over = Some(Over {
                    phase: Phase::Failed,
                    reason: Some(why.reason()),
                    message: Some(format!("{REJECTED}{why}")),
                });
                memory.event(uid, true, &why.reason(), why.to_string(), now);
            }
        }
    }
}

/// What those that were let in have taken.
#[derive(Debug, Default)]
struct Taken {
    pods: u32,
    requests: ResourceList,
    ports: Vec<HostPort>,
}

impl Taken {
    fn add(&mut self, spec: &PodSpec) {
        self.pods += 1;
        for (name, amount) in spec.requests() {
            let sum = self.requests.entry(name).or_default();
            *sum = *sum + amount;
        }
        self.ports.extend(spec.taken_ports());
    }
}

fn refuses(spec: &PodSpec, taken: &Taken, around: &Around) -> Option<Why> {
    let standing = around.standing.as_ref();
    standing
        .and_then(|standing| wrong_system(spec, standing))
        .or_else(|| lacks(spec, taken, &around.allocatable))
        .or_else(|| {
            let standing = standing?;
            (!spec.allows_node(&around.node, &standing.labels)).then_some(Why::NodeAffinity)
        })
        .or_else(|| {
            let is_other = spec.node_name.as_ref().is_some_and(|name| *name != around.node);
            is_other.then_some(Why::NodeName)
        })
        .or_else(|| {
            let mut ports = spec.taken_ports();
            let clashes = ports.any(|port| taken.ports.iter().any(|its| its.clashes(&port)));
            clashes.then_some(Why::NodePorts)
        })
        .or_else(|| {
            // `NoSchedule` is the scheduler's affair.
            let mut taints =
                standing?.taints.iter().filter(|taint| taint.effect == TaintEffect::NoExecute);
            taints.any(|taint| !spec.tolerates(taint)).then_some(Why::Taint)
        })
}

/// Whether a volume of the pod is known to be another node's. One that is not known yet is waited for.
fn is_elsewhere(pod: &Assignment, spec: &PodSpec, around: &Around) -> bool {
    let claims = spec.volumes.iter().filter_map(|volume| match &volume.source {
        VolumeSource::Claim { name, .. } => Some(name),
        _ => None,
    });
    let mut volumes =
        claims.filter_map(|name| around.claimed(&pod.binding.key.namespace, name).ok());
    volumes.any(|volume| {
        let is_others = volume.node.as_ref().is_some_and(|node| *node != around.node);
        let is_out_of_reach = around.standing.as_ref().is_some_and(|standing| {
            let allows = |terms: &Vec<NodeTerm>| {
                terms.iter().any(|term| term.matches(&around.node, &standing.labels))
            };
            !volume.nodes.as_ref().is_none_or(allows)
        });
        is_others || is_out_of_reach
    })
}

fn wrong_system(spec: &PodSpec, standing: &Standing) -> Option<Why> {
    let asked = spec.node_selector.get(LABEL_OS)?;
    (standing.labels.get(LABEL_OS) != Some(asked)).then_some(Why::OperatingSystem)
}

/// The first resource of which there is too little. Nothing is held against a pod before the machine
/// has been looked at.
fn lacks(spec: &PodSpec, taken: &Taken, has: &ResourceList) -> Option<Why> {
    if has.is_empty() {
        return None;
    }
    let why = |name: &str, asked: Quantity, used: Quantity, has: Quantity| {
        let show = |amount: Quantity| match name {
            "cpu" => amount.as_millis(),
            _ => amount.as_units(),
        };
        let [asked, used, has] = [asked, used, has].map(|amount| show(amount).to_string());
        Why::Resource { name: name.to_owned(), asked, used, has }
    };
    let pods = Quantity::units(taken.pods.into());
    if let Some(most) = has.get("pods").filter(|most| pods >= **most) {
        return Some(why("pods", Quantity::units(1), pods, *most));
    }
    spec.requests().into_iter().filter(|(_, asked)| !asked.is_zero()).find_map(|(name, asked)| {
        let used = taken.requests.get(&name).copied().unwrap_or_default();
        let most = has.get(&name).copied().unwrap_or_default();
        (used + asked > most).then(|| why(&name, asked, used, most))
    })
}
