//! Where pods may and should run: affinity, tolerations, topology spread.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1 as api;

use super::super::path::Path;
use super::super::tree::quoted;
use super::Check;
use super::selector::selector;
use crate::kinds::labels::{Requirement, label_value_complaint};
use crate::kinds::name::NameRule;
use crate::kinds::pod::{Affinity, NodeTerm, PodTerm, TaintEffect, Toleration, TopologySpread};

/// The fields of [`api::NodeAffinity`] and its siblings, whose names fill a line.
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// `validateAffinity`.
pub(super) fn affinity(
    path: &Path<'_>,
    affinity: &api::Affinity,
    check: &mut Check<'_, '_>,
) -> Affinity {
    let mut result = Affinity::default();
    if let Some(node) = &affinity.node_affinity {
        node_affinity(&path.field("nodeAffinity"), node, &mut result, check);
    }
    if let Some(pod) = &affinity.pod_affinity {
        let path = path.field("podAffinity");
        let required = pod.required_during_scheduling_ignored_during_execution.as_deref();
        let preferred = pod.preferred_during_scheduling_ignored_during_execution.as_deref();
        result.pod_required = terms(&path.field(REQUIRED), required, check);
        result.pod_preferred = weighted(&path.field(PREFERRED), preferred, check);
    }
    if let Some(pod) = &affinity.pod_anti_affinity {
        let path = path.field("podAntiAffinity");
        let required = pod.required_during_scheduling_ignored_during_execution.as_deref();
        let preferred = pod.preferred_during_scheduling_ignored_during_execution.as_deref();
        result.anti_required = terms(&path.field(REQUIRED), required, check);
        result.anti_preferred = weighted(&path.field(PREFERRED), preferred, check);
    }
    result
}

fn node_affinity(
    path: &Path<'_>,
    affinity: &api::NodeAffinity,
    result: &mut Affinity,
    check: &mut Check<'_, '_>,
) {
    if let Some(required) = &affinity.required_during_scheduling_ignored_during_execution {
        result.node_required = Some(node_selector(&path.field(REQUIRED), required, check));
    }
    let path = path.field(PREFERRED);
    let preferred = affinity.preferred_during_scheduling_ignored_during_execution.iter();
    for (index, term) in preferred.flatten().enumerate() {
        let path = path.index(index);
        let weight = weight(&path, term.weight, check);
        let term = node_term(&path.field("preference"), &term.preference, check);
        result.node_preferred.push((weight, term));
    }
}

/// `ValidateNodeSelector`.
pub(super) fn node_selector(
    path: &Path<'_>,
    selector: &api::NodeSelector,
    check: &mut Check<'_, '_>,
) -> Vec<NodeTerm> {
    let terms_path = path.field("nodeSelectorTerms");
    if selector.node_selector_terms.is_empty() {
        check.error(&terms_path, "needs at least one term");
    }
    let terms = selector.node_selector_terms.iter().enumerate();
    terms.map(|(index, term)| node_term(&terms_path.index(index), term, check)).collect()
}

fn weight(path: &Path<'_>, weight: i32, check: &mut Check<'_, '_>) -> i32 {
    check.number(&path.field("weight"), weight, 1, 100);
    weight
}

fn node_term(path: &Path<'_>, term: &api::NodeSelectorTerm, check: &mut Check<'_, '_>) -> NodeTerm {
    let labels_path = path.field("matchExpressions");
    let fields_path = path.field("matchFields");
    let labels = term.match_expressions.iter().flatten().enumerate();
    let labels = labels
        .filter_map(|(index, item)| node_requirement(&labels_path.index(index), item, check))
        .collect();
    let fields = term.match_fields.iter().flatten().enumerate();
    let fields = fields
        .filter_map(|(index, item)| field_requirement(&fields_path.index(index), item, check))
        .collect();
    NodeTerm { labels, fields }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
    Greater,
    Less,
}

const OPERATORS: &[(&str, Operator)] = &[
    ("In", Operator::In),
    ("NotIn", Operator::NotIn),
    ("Exists", Operator::Exists),
    ("DoesNotExist", Operator::DoesNotExist),
    ("Gt", Operator::Greater),
    ("Lt", Operator::Less),
];

/// `ValidateNodeSelectorRequirement`.
fn node_requirement(
    path: &Path<'_>,
    requirement: &api::NodeSelectorRequirement,
    check: &mut Check<'_, '_>,
) -> Option<Requirement> {
    check.label_key(&path.field("key"), &requirement.key);
    let operator = check.word(&path.field("operator"), &requirement.operator, OPERATORS)?;
    let values = requirement.values.as_deref().unwrap_or_default();
    let values_path = path.field("values");
    let key = requirement.key.clone();
    match operator {
        Operator::In | Operator::NotIn => {
            if values.is_empty() {
                check.error(&values_path, "needs at least one value");
            }
            for (index, value) in values.iter().enumerate() {
                let path = values_path.index(index);
                check.complain(&path, value, label_value_complaint(value));
            }
            let values = values.iter().cloned().collect();
            Some(match operator {
                Operator::In => Requirement::In(key, values),
                _ => Requirement::NotIn(key, values),
            })
        }
        Operator::Exists | Operator::DoesNotExist => {
            if !values.is_empty() {
                check.error(&values_path, "must be empty with this operator");
            }
            Some(match operator {
                Operator::Exists => Requirement::Exists(key),
                _ => Requirement::DoesNotExist(key),
            })
        }
        Operator::Greater | Operator::Less => {
            let bound = match values {
                [value] => value.parse::<i64>().ok(),
                _ => None,
            };
            let Some(bound) = bound else {
                check.error(&values_path, "must be a single whole number with this operator");
                return None;
            };
            Some(match operator {
                Operator::Greater => Requirement::Greater(key, bound),
                _ => Requirement::Less(key, bound),
            })
        }
    }
}

/// `ValidateNodeFieldSelectorRequirement`: a node's name is the only field.
fn field_requirement(
    path: &Path<'_>,
    requirement: &api::NodeSelectorRequirement,
    check: &mut Check<'_, '_>,
) -> Option<Requirement> {
    let fields = [("metadata.name", ())];
    check.word(&path.field("key"), &requirement.key, &fields);
    let operators = [("In", Operator::In), ("NotIn", Operator::NotIn)];
    let operator = check.word(&path.field("operator"), &requirement.operator, &operators)?;
    let values_path = path.field("values");
    let [value] = requirement.values.as_deref().unwrap_or_default() else {
        check.error(&values_path, "must be a single node name");
        return None;
    };
    check.name(&values_path.index(0), value, NameRule::Subdomain);
    let (key, values) = (requirement.key.clone(), BTreeSet::from([value.clone()]));
    Some(match operator {
        Operator::In => Requirement::In(key, values),
        _ => Requirement::NotIn(key, values),
    })
}

fn terms(
    path: &Path<'_>,
    terms: Option<&[api::PodAffinityTerm]>,
    check: &mut Check<'_, '_>,
) -> Vec<PodTerm> {
    let terms = terms.unwrap_or_default().iter().enumerate();
    terms.map(|(index, term)| pod_term(&path.index(index), term, check)).collect()
}

fn weighted(
    path: &Path<'_>,
    terms: Option<&[api::WeightedPodAffinityTerm]>,
    check: &mut Check<'_, '_>,
) -> Vec<(i32, PodTerm)> {
    let terms = terms.unwrap_or_default().iter().enumerate();
    terms
        .map(|(index, term)| {
            let path = path.index(index);
            let weight = weight(&path, term.weight, check);
            let term_path = path.field("podAffinityTerm");
            (weight, pod_term(&term_path, &term.pod_affinity_term, check))
        })
        .collect()
}

/// `validatePodAffinityTerm`.
fn pod_term(path: &Path<'_>, term: &api::PodAffinityTerm, check: &mut Check<'_, '_>) -> PodTerm {
    check.label_key(&path.field("topologyKey"), &term.topology_key);
    let namespaces_path = path.field("namespaces");
    let namespaces = term.namespaces.iter().flatten().enumerate();
    let namespaces = namespaces
        .map(|(index, name)| check.name(&namespaces_path.index(index), name, NameRule::Label))
        .collect();
    let has_selector = term.label_selector.is_some();
    PodTerm {
        selector: term
            .label_selector
            .as_ref()
            .map(|labels| selector(&path.field("labelSelector"), labels, check)),
        namespaces,
        namespace_selector: term
            .namespace_selector
            .as_ref()
            .map(|labels| selector(&path.field("namespaceSelector"), labels, check)),
        topology_key: term.topology_key.clone(),
        match_label_keys: keys(
            &path.field("matchLabelKeys"),
            term.match_label_keys.as_deref(),
            has_selector,
            check,
        ),
        mismatch_label_keys: keys(
            &path.field("mismatchLabelKeys"),
            term.mismatch_label_keys.as_deref(),
            has_selector,
            check,
        ),
    }
}

/// `validateMatchLabelKeys`.
fn keys(
    path: &Path<'_>,
    keys: Option<&[String]>,
    has_selector: bool,
    check: &mut Check<'_, '_>,
) -> Vec<String> {
    let keys = keys.unwrap_or_default();
    if !keys.is_empty() && !has_selector {
        check.error(path, "can only be set with a labelSelector");
    }
    for (index, key) in keys.iter().enumerate() {
        check.label_key(&path.index(index), key);
    }
    keys.to_vec()
}

/// Effects by name.
pub(super) const EFFECTS: &[(&str, TaintEffect)] = &[
    ("NoSchedule", TaintEffect::NoSchedule),
    ("PreferNoSchedule", TaintEffect::PreferNoSchedule),
    ("NoExecute", TaintEffect::NoExecute),
];

/// `ValidateTolerations`.
pub(super) fn toleration(
    path: &Path<'_>,
    toleration: &api::Toleration,
    check: &mut Check<'_, '_>,
) -> Toleration {
    let key = toleration.key.as_deref().filter(|key| !key.is_empty());
    if let Some(key) = key {
        check.label_key(&path.field("key"), key);
    }
    let operator_path = path.field("operator");
    let operators = [("Equal", false), ("Exists", true)];
    let operator = toleration.operator.as_deref();
    let exists = check.word_or(&operator_path, operator, &operators, false);
    if key.is_none() && !exists && operator.is_none_or(|o| o == "Equal") {
        let message = "must be Exists where there is no key, which tolerates every taint";
        check.error(&operator_path, message);
    }
    let value_path = path.field("value");
    let value = toleration.value.as_deref().unwrap_or_default();
    if exists && !value.is_empty() {
        check.error(&value_path, "must be empty with operator Exists");
    } else {
        check.complain(&value_path, value, label_value_complaint(value));
    }
    let effect_path = path.field("effect");
    let effect =
        toleration.effect.as_deref().and_then(|effect| check.word(&effect_path, effect, EFFECTS));
    if toleration.toleration_seconds.is_some() && effect != Some(TaintEffect::NoExecute) {
        let message = "must be NoExecute where tolerationSeconds is set";
        check.error(&effect_path, message);
    }
    Toleration {
        key: key.map(str::to_owned),
        value: (!exists).then(|| value.to_owned()),
        effect,
        seconds: toleration.toleration_seconds,
    }
}

/// `validateTopologySpreadConstraints`, for the one at `index`.
pub(super) fn topology_spread(
    path: &Path<'_>,
    spread: &api::TopologySpreadConstraint,
    check: &mut Check<'_, '_>,
) -> TopologySpread {
    check.label_key(&path.field("topologyKey"), &spread.topology_key);
    let kinds = [("DoNotSchedule", true), ("ScheduleAnyway", false)];
    let when_path = path.field("whenUnsatisfiable");
    let refuses = check.word(&when_path, &spread.when_unsatisfiable, &kinds).unwrap_or(true);
    let min_path = path.field("minDomains");
    if spread.min_domains.is_some() && !refuses {
        check.error(&min_path, "can only be set with whenUnsatisfiable DoNotSchedule");
    }
    let most = i32::MAX;
    let policies = [("Honor", true), ("Ignore", false)];
    let mut policy = |field, value: Option<&str>, default| {
        check.word_or(&path.field(field), value, &policies, default)
    };
    let affinity_policy = spread.node_affinity_policy.as_deref();
    let honors_node_affinity = policy("nodeAffinityPolicy", affinity_policy, true);
    let honors_taints = policy("nodeTaintsPolicy", spread.node_taints_policy.as_deref(), false);
    let labels = spread.label_selector.as_ref();
    TopologySpread {
        max_skew: check.number(&path.field("maxSkew"), spread.max_skew, 1, most),
        topology_key: spread.topology_key.clone(),
        refuses,
        selector: labels.map(|labels| selector(&path.field("labelSelector"), labels, check)),
        min_domains: spread.min_domains.map(|domains| check.number(&min_path, domains, 1, most)),
        match_label_keys: keys(
            &path.field("matchLabelKeys"),
            spread.match_label_keys.as_deref(),
            labels.is_some(),
            check,
        ),
        honors_node_affinity,
        honors_taints,
    }
}

/// Two constraints on one topology that also agree on what happens.
pub(super) fn check_spread_pairs(
    path: &Path<'_>,
    spreads: &[TopologySpread],
    check: &mut Check<'_, '_>,
) {
    let mut seen = BTreeSet::new();
    for (index, spread) in spreads.iter().enumerate() {
        if !seen.insert((&spread.topology_key, spread.refuses)) {
            let message =
                format!("{} has a constraint of this kind already", quoted(&spread.topology_key));
            check.error(&path.index(index), message);
        }
    }
}
