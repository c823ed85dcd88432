//! `nodeSelector` and node affinity: terms are alternatives, a term's expressions all hold.

use crate::kinds::name::NodeName;
use crate::kinds::pod::PodSpec;

use super::{Machine, Why};

pub(super) fn refuses(spec: &PodSpec, name: &NodeName, machine: &Machine) -> Option<Why> {
    (!spec.allows_node(name, machine.labels())).then_some(Why::NodeAffinity)
}

/// The weights of the preferred terms that a node meets.
pub(super) fn preference(spec: &PodSpec, name: &NodeName, machine: &Machine) -> i64 {
    let terms = spec.affinity.node_preferred.iter();
    terms
        .filter(|(_, term)| term.matches(name, machine.labels()))
        .map(|(weight, _)| i64::from(*weight))
        .sum()
}
