//! `nodeSelector` and node affinity: terms are alternatives, a term's expressions all hold.

use crate::kinds::labels::{Labels, Selector};
use crate::kinds::name::NodeName;
use crate::kinds::pod::{NodeTerm, PodSpec};

use super::{Machine, Why};

pub(super) fn refuses(spec: &PodSpec, name: &NodeName, machine: &Machine) -> Option<Why> {
    let selector = &spec.node_selector;
    let is_selected =
        selector.is_empty() || Selector::from_labels(selector).matches(machine.labels());
    let required = spec.affinity.node_required.as_ref();
    let is_affine =
        required.is_none_or(|terms| terms.iter().any(|term| matches(term, name, machine)));
    (!(is_selected && is_affine)).then_some(Why::NodeAffinity)
}

/// The weights of the preferred terms that a node meets.
pub(super) fn preference(spec: &PodSpec, name: &NodeName, machine: &Machine) -> i64 {
    let terms = spec.affinity.node_preferred.iter();
    terms
        .filter(|(_, term)| matches(term, name, machine))
        .map(|(weight, _)| i64::from(*weight))
        .sum()
}

/// Whether a node meets a term; a term that asks nothing meets no node.
fn matches(term: &NodeTerm, name: &NodeName, machine: &Machine) -> bool {
    if term.labels.is_empty() && term.fields.is_empty() {
        return false;
    }
    let are_fields_met = || {
        let fields = Labels::from([("metadata.name".to_owned(), name.to_string())]);
        term.fields.iter().all(|requirement| requirement.matches(&fields))
    };
    term.labels.iter().all(|requirement| requirement.matches(machine.labels()))
        && (term.fields.is_empty() || are_fields_met())
}
