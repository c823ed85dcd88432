//! StatefulSets and DaemonSets.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::apps::v1 as api;
use k8s_openapi::api::core::v1 as core;

use super::super::path::Path;
use super::super::tree::quoted;
use super::selector::{selector, workload_selector};
use super::storage::claim_template;
use super::workload::{bounds, is_nothing, share_or, template};
use super::{Check, Meta, TemplateParts};
use crate::kinds::digest::Digest;
use crate::kinds::name::{Name, NameRule};
use crate::kinds::object::Body;
use crate::kinds::pod::{PodSpec, PodTemplate, Toleration};
use crate::kinds::registry::Kind;
use crate::kinds::storage::{ClaimRetention, ClaimTemplate};
use crate::kinds::volume::{Volume, VolumeSource};
use crate::kinds::workload::{DaemonSet, DaemonUpdate, SetUpdate, Share, StatefulSet};

/// The longest name with which `controller-revision-hash`, the name and a hash of ten characters, is
/// still a label's value.
const STATEFUL_NAME_MAX: usize = 52;

/// `ValidateStatefulSetSpec`.
pub(super) fn stateful_set(
    set: api::StatefulSet,
    meta: &Meta,
    parts: TemplateParts,
    check: &mut Check<'_, '_>,
) -> Body {
    let spec = set.spec;
    check_name(meta, check);
    let path = Path::Root.field("spec");
    let selector_path = path.field("selector");
    let selector = selector(&selector_path, &spec.selector, check);
    let given = spec.volume_claim_templates.unwrap_or_default();
    let claims = claims(&path.field("volumeClaimTemplates"), &given, check);
    let names = claims.iter().map(|claim| claim.name.to_string()).collect();
    let template = template(Some(spec.template), names, parts, check);
    workload_selector(&selector_path, &selector, &template.labels, check);
    let service_path = path.field("serviceName");
    let service = check.name_if_given(&service_path, spec.service_name.as_deref(), NameRule::Label);
    if let Some(service) = &service {
        check.mention(Kind::Service, service, &service_path);
    }
    let retention = spec.persistent_volume_claim_retention_policy.unwrap_or_default();
    let ordinals_path = path.field("ordinals");
    let start = spec.ordinals.as_ref().and_then(|ordinals| ordinals.start);
    let policy = spec.pod_management_policy.as_deref();
    let policies = [("OrderedReady", false), ("Parallel", true)];
    let update = spec.update_strategy.unwrap_or_default();
    let history_path = path.field("revisionHistoryLimit");
    Body::StatefulSet(Arc::new(StatefulSet {
        replicas: check.count(&path.field("replicas"), spec.replicas, 1),
        start: check.count(&ordinals_path.field("start"), start, 0),
        selector,
        template: own_template(&template, service.as_ref(), &claims),
        service,
        is_parallel: check.word_or(&path.field("podManagementPolicy"), policy, &policies, false),
        update: set_update(&path.field("updateStrategy"), &update, check),
        min_ready_s: check.count(&path.field("minReadySeconds"), spec.min_ready_seconds, 0),
        revision_history_limit: check.count(&history_path, spec.revision_history_limit, 10),
        claims,
        retention: self::retention(&retention, check),
    }))
}

fn check_name(meta: &Meta, check: &mut Check<'_, '_>) {
    if meta.name.as_str().len() > STATEFUL_NAME_MAX {
        let message = format!(
            "{} is too long: its pods carry it in a label, which leaves {STATEFUL_NAME_MAX} characters",
            quoted(meta.name.as_str())
        );
        check.error(&Path::Root.field("metadata").field("name"), message);
    }
}

/// The claims that each pod has for itself.
fn claims(
    path: &Path<'_>,
    claims: &[core::PersistentVolumeClaim],
    check: &mut Check<'_, '_>,
) -> Vec<ClaimTemplate> {
    let mut result: Vec<ClaimTemplate> = Vec::new();
    for (index, claim) in claims.iter().enumerate() {
        let path = path.index(index);
        let metadata_path = path.field("metadata");
        let name_path = metadata_path.field("name");
        let text = claim.metadata.name.as_deref().unwrap_or_default();
        let name = check.name(&name_path, text, NameRule::Label);
        if result.iter().any(|other| other.name == name) {
            let message = format!("{} is the name of another claim already", quoted(text));
            check.error(&name_path, message);
        }
        let spec = claim.spec.clone().unwrap_or_default();
        result.push(claim_template(&path, name, claim.metadata.clone(), &spec, check));
    }
    result
}

/// The template with what every pod of the set has beside it, its number aside. That is part of what
/// the template means: where Kubernetes forbids the change, the pods are made anew one by one.
fn own_template(
    template: &PodTemplate,
    service: Option<&Name>,
    claims: &[ClaimTemplate],
) -> Arc<PodTemplate> {
    let mut spec = PodSpec::clone(&template.spec);
    spec.subdomain = service.cloned();
    // A claim takes the place of a volume of the same name.
    spec.volumes.retain(|volume| claims.iter().all(|claim| claim.name != volume.name));
    spec.volumes.extend(claims.iter().map(|claim| Volume {
        name: claim.name.clone(),
        source: VolumeSource::OwnClaim { template: claim.name.clone() },
    }));
    let meaning = template.meaning.hex();
    let names = service.into_iter().chain(claims.iter().map(|claim| &claim.name));
    let parts = std::iter::once(meaning.as_bytes()).chain(names.map(|n| n.as_str().as_bytes()));
    let meaning = Digest::of_parts(parts);
    Arc::new(PodTemplate { spec: spec.into(), meaning, ..template.clone() })
}

/// `ValidateStatefulSetSpec`, its `updateStrategy`.
fn set_update(
    path: &Path<'_>,
    update: &api::StatefulSetUpdateStrategy,
    check: &mut Check<'_, '_>,
) -> SetUpdate {
    let rolling_path = path.field("rollingUpdate");
    if is_on_delete(path, update.type_.as_deref(), update.rolling_update.is_some(), check) {
        return SetUpdate::OnDelete;
    }
    let rolling = update.rolling_update.clone().unwrap_or_default();
    let unavailable_path = rolling_path.field("maxUnavailable");
    let one = Share::Count(1);
    let max_unavailable = share_or(&unavailable_path, rolling.max_unavailable.as_ref(), one, check);
    match max_unavailable {
        Share::Count(0) | Share::Percent(0) => {
            check.error(&unavailable_path, "can't be 0: nothing could ever roll");
        }
        Share::Percent(101..) => check.error(&unavailable_path, "can't be more than 100%"),
        _ => {}
    }
    let partition = check.count(&rolling_path.field("partition"), rolling.partition, 0);
    SetUpdate::RollingUpdate { partition, max_unavailable }
}

fn is_on_delete(
    path: &Path<'_>,
    kind: Option<&str>,
    has_rolling: bool,
    check: &mut Check<'_, '_>,
) -> bool {
    let types = [("RollingUpdate", false), ("OnDelete", true)];
    let is_on_delete = check.word_or(&path.field("type"), kind, &types, false);
    if is_on_delete && has_rolling {
        check.error(&path.field("rollingUpdate"), "can't be set with type OnDelete");
    }
    is_on_delete
}

fn retention(
    policy: &api::StatefulSetPersistentVolumeClaimRetentionPolicy,
    check: &mut Check<'_, '_>,
) -> ClaimRetention {
    let spec_path = Path::Root.field("spec");
    let path = spec_path.field("persistentVolumeClaimRetentionPolicy");
    let words = [("Retain", false), ("Delete", true)];
    let (deleted, scaled) = (policy.when_deleted.as_deref(), policy.when_scaled.as_deref());
    ClaimRetention {
        deleted_with_set: check.word_or(&path.field("whenDeleted"), deleted, &words, false),
        deleted_when_scaled: check.word_or(&path.field("whenScaled"), scaled, &words, false),
    }
}

/// `ValidateDaemonSetSpec`.
pub(super) fn daemon_set(
    set: api::DaemonSet,
    parts: TemplateParts,
    check: &mut Check<'_, '_>,
) -> Body {
    let spec = set.spec;
    let path = Path::Root.field("spec");
    let selector_path = path.field("selector");
    let selector = selector(&selector_path, &spec.selector, check);
    let template = template(Some(spec.template), BTreeSet::new(), parts, check);
    workload_selector(&selector_path, &selector, &template.labels, check);
    let update = spec.update_strategy.unwrap_or_default();
    let history_path = path.field("revisionHistoryLimit");
    Body::DaemonSet(Arc::new(DaemonSet {
        selector,
        template: enduring(&template),
        update: daemon_update(&path.field("updateStrategy"), &update, check),
        min_ready_s: check.count(&path.field("minReadySeconds"), spec.min_ready_seconds, 0),
        revision_history_limit: check.count(&history_path, spec.revision_history_limit, 10),
    }))
}

/// `ValidateDaemonSetUpdateStrategy`.
fn daemon_update(
    path: &Path<'_>,
    update: &api::DaemonSetUpdateStrategy,
    check: &mut Check<'_, '_>,
) -> DaemonUpdate {
    if is_on_delete(path, update.type_.as_deref(), update.rolling_update.is_some(), check) {
        return DaemonUpdate::OnDelete;
    }
    let rolling_path = path.field("rollingUpdate");
    let rolling = update.rolling_update.clone().unwrap_or_default();
    let given = (rolling.max_surge.as_ref(), rolling.max_unavailable.as_ref());
    let defaults = (Share::Count(0), Share::Count(1));
    let (max_surge, max_unavailable) = bounds(&rolling_path, given, defaults, check);
    let surge_path = rolling_path.field("maxSurge");
    if let Share::Percent(101..) = max_surge {
        check.error(&surge_path, "can't be more than 100%");
    }
    if !is_nothing(max_surge) && !is_nothing(max_unavailable) {
        check.error(&surge_path, "can't be set unless maxUnavailable is 0");
    }
    DaemonUpdate::RollingUpdate { max_surge, max_unavailable }
}

/// The template with what the pods of every DaemonSet put up with, so that a node in trouble keeps
/// them (`AddOrUpdateDaemonPodTolerations`).
/// <https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/#taints-and-tolerations>
fn enduring(template: &PodTemplate) -> Arc<PodTemplate> {
    let mut spec = PodSpec::clone(&template.spec);
    let own = DaemonSet::tolerations(spec.host_network);
    let missing: Vec<Toleration> = own
        .map(|(key, effect)| Toleration {
            key: Some(key.to_owned()),
            value: None,
            effect: Some(effect),
            seconds: None,
        })
        .filter(|toleration| !spec.tolerations.contains(toleration))
        .collect();
    // One that bears the same only for a while must not be found first.
    let is_replaced = |its: &Toleration| {
        missing
            .iter()
            .any(|own| own.key == its.key && own.effect == its.effect && its.value.is_none())
    };
    spec.tolerations.retain(|its| !is_replaced(its));
    spec.tolerations.extend(missing);
    Arc::new(PodTemplate { spec: spec.into(), ..template.clone() })
}
