//! Taints and tolerations, and the cordon, which Kubernetes treats as a taint
//! (`node.kubernetes.io/unschedulable:NoSchedule`).

use crate::kinds::pod::{PodSpec, Taint, TaintEffect};

use super::{Machine, Why};

/// The taint of a cordoned node.
const TAINT_UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

pub(super) fn refuses(spec: &PodSpec, machine: &Machine) -> Option<Why> {
    if machine.is_cordoned && !spec.tolerates(&cordon()) {
        return Some(Why::Unschedulable);
    }
    machine
        .taints
        .iter()
        .filter(|taint| taint.effect != TaintEffect::PreferNoSchedule)
        .find(|taint| !spec.tolerates(taint))
        .map(|taint| Why::Taint(format!("{}: {}", taint.key, taint.value)))
}

/// How many taints of the liked-least kind the pod does not put up with.
pub(super) fn disliked(spec: &PodSpec, machine: &Machine) -> i64 {
    let taints = machine.taints.iter();
    let disliked = taints
        .filter(|taint| taint.effect == TaintEffect::PreferNoSchedule && !spec.tolerates(taint));
    i64::try_from(disliked.count()).unwrap_or(i64::MAX)
}

fn cordon() -> Taint {
    let key = TAINT_UNSCHEDULABLE.to_owned();
    Taint { key, value: String::new(), effect: TaintEffect::NoSchedule }
}
