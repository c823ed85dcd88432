//! Which of the nodes that could take a pod is liked best.

use crate::kinds::pod::{PodSpec, ResourceList};

use super::{Machine, taints};

/// The larger the better; compared part by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Score {
    disliked_taints: std::cmp::Reverse<usize>,
    /// 0 to 100: how much of its CPU and memory would be left.
    free: i64,
    fewer_pods: std::cmp::Reverse<usize>,
}

pub(super) fn score(spec: &PodSpec, requests: &ResourceList, machine: &Machine) -> Score {
    Score {
        disliked_taints: std::cmp::Reverse(taints::disliked(spec, machine)),
        free: least_allocated(requests, machine),
        fewer_pods: std::cmp::Reverse(machine.pods),
    }
}

/// kube-scheduler's `LeastAllocated`: the mean share of CPU and memory left.
fn least_allocated(requests: &ResourceList, machine: &Machine) -> i64 {
    const COUNTED: [&str; 2] = ["cpu", "memory"];
    let share = |name: &str| {
        let has =
            machine.allocatable.get(name).map_or(0, crate::kinds::quantity::Quantity::as_millis);
        let asked = requests.get(name).copied().unwrap_or_default();
        let left = (machine.free(name) - asked).as_millis().max(0);
        if has <= 0 { 0 } else { left.saturating_mul(100) / has }
    };
    COUNTED.iter().map(|name| share(name)).sum::<i64>() / 2
}
