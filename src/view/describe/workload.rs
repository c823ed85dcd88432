//! Deployments, ReplicaSets and ReplicationControllers, told.

use serde_json::Value;

use super::template::template;
use super::{Page, controller, moment};
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::kinds::status::Phase;
use crate::view::json::{at, items, number, text};
use crate::view::objects::{self, ANNOTATION_REVISION};
use crate::view::picture::Picture;
use crate::view::table::{labels, selector};

pub(super) fn deployment(page: &mut Page, picture: &Picture, key: &Key, deployment: &Value) {
    page.head(deployment);
    let created = text(deployment, "metadata.creationTimestamp");
    page.field(0, "CreationTimestamp", moment(created));
    page.source(deployment);
    page.labels("Labels", deployment, "metadata.labels");
    page.annotations(deployment);
    page.field(0, "Selector", selector(deployment, "spec.selector"));
    let count = |path: &str| number(deployment, path);
    page.field(
        0,
        "Replicas",
        format!(
            "{} desired | {} updated | {} total | {} available | {} unavailable",
            count("spec.replicas"),
            count("status.updatedReplicas"),
            count("status.replicas"),
            count("status.availableReplicas"),
            count("status.unavailableReplicas"),
        ),
    );
    page.field(0, "StrategyType", text(deployment, "spec.strategy.type"));
    page.field(0, "MinReadySeconds", count("spec.minReadySeconds").to_string());
    if let Some(rolling) = at(deployment, "spec.strategy.rollingUpdate") {
        let share = |name| at(rolling, name).map(plain).unwrap_or_default();
        let text =
            format!("{} max unavailable, {} max surge", share("maxUnavailable"), share("maxSurge"));
        page.field(0, "RollingUpdateStrategy", text);
    }
    template(page, at(deployment, "spec.template").unwrap_or(&Value::Null));
    conditions(page, deployment);
    replica_sets(page, picture, key);
}

pub(super) fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn conditions(page: &mut Page, object: &Value) {
    let conditions = items(object, "status.conditions");
    if conditions.is_empty() {
        return;
    }
    page.line(0, "Conditions:");
    page.line(1, "Type\tStatus\tReason");
    page.line(1, "----\t------\t------");
    for condition in conditions {
        let field = |name| text(condition, name);
        page.line(1, format!("{} \t{}\t{}", field("type"), field("status"), field("reason")));
    }
}

/// Which ReplicaSets a Deployment has: the new one, and old ones that still have or had pods.
fn replica_sets(page: &mut Page, picture: &Picture, key: &Key) {
    let Some(namespace) = &key.namespace else {
        return;
    };
    let shown = objects::list(picture, Kind::ReplicaSet);
    let mut own: Vec<(u64, &Value)> = picture
        .sets_of(namespace, &key.name)
        .iter()
        .filter_map(|set| {
            let key = Key::namespaced(Kind::ReplicaSet, namespace, &set.key.name);
            let found = shown.iter().find(|shown| shown.key == key)?;
            Some((set.record.revision, &found.json))
        })
        .collect();
    own.sort_by_key(|(revision, _)| *revision);
    let line = |set: &Value| {
        format!(
            "{} ({}/{} replicas created)",
            text(set, "metadata.name"),
            number(set, "status.replicas"),
            number(set, "spec.replicas")
        )
    };
    let newest = own.pop();
    let old: Vec<String> = own.iter().map(|(_, set)| line(set)).collect();
    let or_none = |text: String| if text.is_empty() { "<none>".to_owned() } else { text };
    page.field(0, "OldReplicaSets", or_none(old.join(", ")));
    page.field(
        0,
        "NewReplicaSet",
        newest.map_or_else(|| "<none>".to_owned(), |(_, set)| line(set)),
    );
}

pub(super) fn set(page: &mut Page, picture: &Picture, key: &Key, set: &Value) {
    page.head(set);
    let picks = match key.kind {
        Kind::ReplicationController => labels(set, "spec.selector"),
        _ => selector(set, "spec.selector"),
    };
    page.field(0, "Selector", picks);
    page.source(set);
    page.labels("Labels", set, "metadata.labels");
    page.annotations(set);
    if let Some(controller) = controller(set) {
        page.field(0, "Controlled By", controller);
    }
    let revision = at(set, "metadata.annotations").and_then(|all| all.get(ANNOTATION_REVISION));
    page.field_if(0, "Revision", revision.and_then(Value::as_str).unwrap_or_default());
    let (has, wants) = (number(set, "status.replicas"), number(set, "spec.replicas"));
    page.field(0, "Replicas", format!("{has} current / {wants} desired"));
    pods_status(page, picture, key);
    template(page, at(set, "spec.template").unwrap_or(&Value::Null));
}

pub(super) fn pods_status(page: &mut Page, picture: &Picture, owner: &Key) {
    let pods = picture.pods_of(owner);
    let count = |phase: Phase| {
        let in_phase = pods.iter().filter(|pod| !pod.is_leaving() && pod.phase() == phase);
        in_phase.count()
    };
    page.field(
        0,
        "Pods Status",
        format!(
            "{} Running / {} Waiting / {} Succeeded / {} Failed",
            count(Phase::Running),
            count(Phase::Pending),
            count(Phase::Succeeded),
            count(Phase::Failed)
        ),
    );
}

/// A PodDisruptionBudget.
pub(super) fn budget(page: &mut Page, budget: &Value) {
    page.head(budget);
    page.source(budget);
    for (name, path) in
        [("Min available", "spec.minAvailable"), ("Max unavailable", "spec.maxUnavailable")]
    {
        if let Some(bound) = at(budget, path) {
            page.field(0, name, plain(bound));
        }
    }
    page.field(0, "Selector", selector(budget, "spec.selector"));
    page.line(0, "Status:");
    for (name, path) in [
        ("Allowed disruptions", "status.disruptionsAllowed"),
        ("Current", "status.currentHealthy"),
        ("Desired", "status.desiredHealthy"),
        ("Total", "status.expectedPods"),
    ] {
        page.field(2, name, number(budget, path).to_string());
    }
}
