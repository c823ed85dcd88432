//! Workloads: what asks for pods.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::{apps, core, policy};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::super::path::Path;
use super::super::tree::quoted;
use super::meta::check_annotations;
use super::selector::{selector, workload_selector};
use super::{Check, Meta, TemplateParts, pod as pods};
use crate::kinds::labels::Selector;
use crate::kinds::object::Body;
use crate::kinds::pod::{PodTemplate, RestartPolicy};
use crate::kinds::workload::{Bound, Deployment, DisruptionBudget, ReplicaSet, Share, Strategy};

/// A Pod written by hand: its own template.
pub(super) fn pod(
    pod: core::v1::Pod,
    meta: &Meta,
    parts: TemplateParts,
    check: &mut Check<'_, '_>,
) -> Body {
    let path = Path::Root.field("spec");
    let Some(spec) = pod.spec else {
        check.error(&path, "is required");
        return Body::Plain;
    };
    let spec = pods::spec(&path, &spec, BTreeSet::new(), check);
    Body::Pod(Arc::new(PodTemplate {
        labels: meta.labels.clone(),
        annotations: meta.annotations.clone(),
        spec: spec.into(),
        json: parts.json,
        meaning: parts.meaning,
        written: parts.written,
        given: None,
    }))
}

/// The template of pods that are replicated: `ValidatePodTemplateSpecForReplicaSet`. `claims` are
/// volumes that pods have beside the template's.
pub(super) fn template(
    given: Option<core::v1::PodTemplateSpec>,
    claims: BTreeSet<String>,
    parts: TemplateParts,
    check: &mut Check<'_, '_>,
) -> Arc<PodTemplate> {
    let spec_path = Path::Root.field("spec");
    let path = spec_path.field("template");
    let template = pod_template(&path, given, claims, parts, check);
    let pod_path = path.field("spec");
    if template.spec.restart_policy != RestartPolicy::Always {
        let message = "must be Always here: use a Pod or a Job for what ends";
        check.error(&pod_path.field("restartPolicy"), message);
    }
    if template.spec.active_deadline_s.is_some() {
        let message = "can't be set here: the pods would be replaced for ever";
        check.error(&pod_path.field("activeDeadlineSeconds"), message);
    }
    template
}

/// `ValidatePodTemplateSpec`. `claims` are volumes that pods have beside the template's.
pub(super) fn pod_template(
    path: &Path<'_>,
    template: Option<core::v1::PodTemplateSpec>,
    claims: BTreeSet<String>,
    parts: TemplateParts,
    check: &mut Check<'_, '_>,
) -> Arc<PodTemplate> {
    if template.is_none() {
        check.error(path, "is required");
    }
    let template = template.unwrap_or_default();
    let metadata = template.metadata.unwrap_or_default();
    let labels = metadata.labels.unwrap_or_default();
    let annotations = metadata.annotations.unwrap_or_default();
    let metadata_path = path.field("metadata");
    check.labels(&metadata_path.field("labels"), &labels);
    check_annotations(&metadata_path.field("annotations"), &annotations, check);
    let pod_path = path.field("spec");
    if template.spec.is_none() {
        check.error(&pod_path, "is required");
    }
    let spec = pods::spec(&pod_path, &template.spec.unwrap_or_default(), claims, check);
    Arc::new(PodTemplate {
        labels,
        annotations,
        spec: spec.into(),
        json: parts.json,
        meaning: parts.meaning,
        written: parts.written,
        given: None,
    })
}

/// `ValidateDeploymentSpec`.
pub(super) fn deployment(
    deployment: apps::v1::Deployment,
    parts: TemplateParts,
    check: &mut Check<'_, '_>,
) -> Body {
    let spec = deployment.spec;
    let path = Path::Root.field("spec");
    let selector_path = path.field("selector");
    let selector = selector(&selector_path, &spec.selector, check);
    let template = template(Some(spec.template), BTreeSet::new(), parts, check);
    workload_selector(&selector_path, &selector, &template.labels, check);
    let min_ready_s = check.count(&path.field("minReadySeconds"), spec.min_ready_seconds, 0);
    let deadline_path = path.field("progressDeadlineSeconds");
    let deadline = check.count(&deadline_path, spec.progress_deadline_seconds, 600);
    if deadline <= min_ready_s {
        let message = format!("{deadline} must be more than minReadySeconds, {min_ready_s}");
        check.error(&deadline_path, message);
    }
    let history_path = path.field("revisionHistoryLimit");
    let strategy_path = path.field("strategy");
    let result = Deployment {
        replicas: check.count(&path.field("replicas"), spec.replicas, 1),
        selector,
        template,
        strategy: strategy(&strategy_path, &spec.strategy.unwrap_or_default(), check),
        min_ready_s,
        // The largest number is how Kubernetes says that there is none.
        progress_deadline_s: Some(deadline)
            .filter(|_| spec.progress_deadline_seconds != Some(i32::MAX)),
        revision_history_limit: check.count(&history_path, spec.revision_history_limit, 10),
        paused: spec.paused.unwrap_or(false),
    };
    Body::Deployment(Arc::new(result))
}

/// `ValidateDeploymentStrategy`.
fn strategy(
    path: &Path<'_>,
    strategy: &apps::v1::DeploymentStrategy,
    check: &mut Check<'_, '_>,
) -> Strategy {
    let rolling_path = path.field("rollingUpdate");
    let types = [("RollingUpdate", false), ("Recreate", true)];
    let kind = strategy.type_.as_deref();
    if check.word_or(&path.field("type"), kind, &types, false) {
        if strategy.rolling_update.is_some() {
            check.error(&rolling_path, "can't be set with type Recreate");
        }
        return Strategy::Recreate;
    }
    let rolling = strategy.rolling_update.clone().unwrap_or_default();
    let quarter = Share::Percent(25);
    let given = (rolling.max_surge.as_ref(), rolling.max_unavailable.as_ref());
    let (max_surge, max_unavailable) = bounds(&rolling_path, given, (quarter, quarter), check);
    Strategy::RollingUpdate { max_surge, max_unavailable }
}

/// `maxSurge` and `maxUnavailable` of a roll-out, or what they are if nothing is said.
pub(super) fn bounds(
    path: &Path<'_>,
    (surge, unavailable): (Option<&IntOrString>, Option<&IntOrString>),
    (most, fewest): (Share, Share),
    check: &mut Check<'_, '_>,
) -> (Share, Share) {
    let unavailable_path = path.field("maxUnavailable");
    let max_surge = share_or(&path.field("maxSurge"), surge, most, check);
    let max_unavailable = share_or(&unavailable_path, unavailable, fewest, check);
    if let Share::Percent(101..) = max_unavailable {
        check.error(&unavailable_path, "can't be more than 100%");
    }
    if is_nothing(max_surge) && is_nothing(max_unavailable) {
        check.error(&unavailable_path, "can't be 0 when maxSurge is 0: nothing could ever roll");
    }
    (max_surge, max_unavailable)
}

pub(super) fn is_nothing(share: Share) -> bool {
    matches!(share, Share::Count(0) | Share::Percent(0))
}

pub(super) fn share_or(
    path: &Path<'_>,
    value: Option<&IntOrString>,
    default: Share,
    check: &mut Check<'_, '_>,
) -> Share {
    value.map_or(default, |value| share(path, value, check))
}

/// `ValidatePositiveIntOrPercent`.
fn share(path: &Path<'_>, value: &IntOrString, check: &mut Check<'_, '_>) -> Share {
    match value {
        IntOrString::Int(count) => Share::Count(check.count(path, Some(*count), 0)),
        IntOrString::String(text) => {
            let percent = text
                .strip_suffix('%')
                .filter(|digits| digits.bytes().all(|b| b.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok());
            if percent.is_none() {
                let message =
                    format!("{} must be a number, or a percentage as in 25%", quoted(text));
                check.error(path, message);
            }
            Share::Percent(percent.unwrap_or_default())
        }
    }
}

/// `ValidatePodDisruptionBudgetSpec`.
pub(super) fn disruption_budget(
    budget: policy::v1::PodDisruptionBudget,
    check: &mut Check<'_, '_>,
) -> Body {
    let spec = budget.spec.unwrap_or_default();
    let path = Path::Root.field("spec");
    let (least_path, most_path) = (path.field("minAvailable"), path.field("maxUnavailable"));
    let bound = match (&spec.min_available, &spec.max_unavailable) {
        (Some(_), Some(_)) => {
            check.error(&most_path, "can't be set beside minAvailable");
            Bound::MaxUnavailable(Share::Count(0))
        }
        (Some(least), None) => Bound::MinAvailable(share(&least_path, least, check)),
        (None, Some(most)) => Bound::MaxUnavailable(share(&most_path, most, check)),
        // Neither forbids nothing.
        (None, None) => Bound::MinAvailable(Share::Count(0)),
    };
    if let Bound::MinAvailable(Share::Percent(101..))
    | Bound::MaxUnavailable(Share::Percent(101..)) = bound
    {
        check.error(&path, "a percentage can't be more than 100%");
    }
    let selector_path = path.field("selector");
    let selector = spec.selector.as_ref().map(|given| selector(&selector_path, given, check));
    let policy = spec.unhealthy_pod_eviction_policy.as_deref();
    let policies = [("IfHealthyBudget", false), ("AlwaysAllow", true)];
    let policy_path = path.field("unhealthyPodEvictionPolicy");
    let frees_unhealthy = check.word_or(&policy_path, policy, &policies, false);
    Body::DisruptionBudget(Arc::new(DisruptionBudget { selector, bound, frees_unhealthy }))
}

/// `ValidateReplicaSetSpec`.
pub(super) fn replica_set(
    set: apps::v1::ReplicaSet,
    parts: TemplateParts,
    check: &mut Check<'_, '_>,
) -> Body {
    let spec = set.spec;
    let path = Path::Root.field("spec");
    let selector_path = path.field("selector");
    let selector = selector(&selector_path, &spec.selector, check);
    let template = template(spec.template, BTreeSet::new(), parts, check);
    workload_selector(&selector_path, &selector, &template.labels, check);
    Body::ReplicaSet(Arc::new(ReplicaSet {
        replicas: check.count(&path.field("replicas"), spec.replicas, 1),
        selector,
        template,
        min_ready_s: check.count(&path.field("minReadySeconds"), spec.min_ready_seconds, 0),
    }))
}

/// `ValidateReplicationControllerSpec`.
pub(super) fn replication_controller(
    controller: core::v1::ReplicationController,
    parts: TemplateParts,
    check: &mut Check<'_, '_>,
) -> Body {
    let path = Path::Root.field("spec");
    let Some(spec) = controller.spec else {
        check.error(&path, "is required");
        return Body::Plain;
    };
    let labels = spec.selector.unwrap_or_default();
    let selector_path = path.field("selector");
    check.labels(&selector_path, &labels);
    let selector = Selector::from_labels(&labels);
    let template = template(spec.template, BTreeSet::new(), parts, check);
    workload_selector(&selector_path, &selector, &template.labels, check);
    Body::ReplicaSet(Arc::new(ReplicaSet {
        replicas: check.count(&path.field("replicas"), spec.replicas, 1),
        selector,
        template,
        min_ready_s: check.count(&path.field("minReadySeconds"), spec.min_ready_seconds, 0),
    }))
}
