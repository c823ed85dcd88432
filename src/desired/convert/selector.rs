//! Label selectors of workloads, Services and affinities.

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as api;

use super::super::path::Path;
use super::Check;
use crate::kinds::labels::{Labels, Requirement, Selector, label_value_complaint};

#[derive(Clone, Copy)]
enum Operator {
    In,
    NotIn,
    Exists,
    DoesNotExist,
}

const OPERATORS: &[(&str, Operator)] = &[
    ("In", Operator::In),
    ("NotIn", Operator::NotIn),
    ("Exists", Operator::Exists),
    ("DoesNotExist", Operator::DoesNotExist),
];

/// `ValidateLabelSelector`.
pub(super) fn selector(
    path: &Path<'_>,
    selector: &api::LabelSelector,
    check: &mut Check<'_, '_>,
) -> Selector {
    let mut requirements = Vec::new();
    if let Some(labels) = &selector.match_labels {
        check.labels(&path.field("matchLabels"), labels);
        requirements.extend_from_slice(Selector::from_labels(labels).requirements());
    }
    let list = path.field("matchExpressions");
    for (index, expression) in selector.match_expressions.iter().flatten().enumerate() {
        requirements.extend(requirement(&list.index(index), expression, check));
    }
    Selector::new(requirements)
}

fn requirement(
    path: &Path<'_>,
    expression: &api::LabelSelectorRequirement,
    check: &mut Check<'_, '_>,
) -> Option<Requirement> {
    check.label_key(&path.field("key"), &expression.key);
    let operator = check.word(&path.field("operator"), &expression.operator, OPERATORS)?;
    let values = expression.values.as_deref().unwrap_or_default();
    let values_path = path.field("values");
    for (index, value) in values.iter().enumerate() {
        check.complain(
            &values_path.index(index),
            value,
            label_value_complaint(value),
        );
    }
    let wants_values = matches!(operator, Operator::In | Operator::NotIn);
    if wants_values == values.is_empty() {
        let message = if wants_values {
            "needs at least one value"
        } else {
            "must be empty with this operator"
        };
        check.error(&values_path, message);
    }
    let key = expression.key.clone();
    Some(match operator {
        Operator::In => Requirement::In(key, values.iter().cloned().collect()),
        Operator::NotIn => Requirement::NotIn(key, values.iter().cloned().collect()),
        Operator::Exists => Requirement::Exists(key),
        Operator::DoesNotExist => Requirement::DoesNotExist(key),
    })
}

/// The selector of a workload: not empty, and one that picks the workload's own pods
/// (`ValidatePodTemplateSpecForReplicaSet`).
pub(super) fn workload_selector(
    path: &Path<'_>,
    selector: &Selector,
    template_labels: &Labels,
    check: &mut Check<'_, '_>,
) {
    if selector.is_everything() {
        check.error(
            path,
            "must not be empty: it would pick every pod of the namespace",
        );
        return;
    }
    if selector.matches(template_labels) {
        return;
    }
    let spec_path = Path::Root.field("spec");
    let template_path = spec_path.field("template");
    let metadata_path = template_path.field("metadata");
    let labels_path = metadata_path.field("labels");
    if check.report.is_echo(&labels_path) || check.report.has_error_within(path) {
        return;
    }
    let line = labels_path.locate(check.root).line;
    check.error_hint(
        path,
        format!("the selector {selector} does not pick the template's own labels"),
        format!("the template's labels stand at line {line}"),
    );
}
