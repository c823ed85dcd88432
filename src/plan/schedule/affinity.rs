//! `nodeSelector` and required node affinity: terms are alternatives, a term's expressions all hold.

use crate::kinds::labels::{Labels, Selector};
use crate::kinds::name::NodeName;
use crate::kinds::pod::{NodeTerm, PodSpec};

use super::{Machine, Why};

pub(super) fn refuses(spec: &PodSpec, name: &NodeName, machine: &Machine) -> Option<Why> {
    let selected = Selector::from_labels(&spec.node_selector).matches(&machine.labels);
    let required = spec.affinity.node_required.as_ref();
    let affine = required.is_none_or(|terms| terms.iter().any(|term| matches(term, name, machine)));
    (!(selected && affine)).then_some(Why::NodeAffinity)
}

/// Whether a node meets a term; a term that asks nothing meets no node.
pub(super) fn matches(term: &NodeTerm, name: &NodeName, machine: &Machine) -> bool {
    if term.labels.is_empty() && term.fields.is_empty() {
        return false;
    }
    let fields = Labels::from([("metadata.name".to_owned(), name.to_string())]);
    term.labels.iter().all(|requirement| requirement.matches(&machine.labels))
        && term.fields.iter().all(|requirement| requirement.matches(&fields))
}
