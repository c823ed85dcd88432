//! What asks for pods, and what watches over their number.

use serde_json::Value;

use super::cells::{NONE, UNKNOWN, age, containers, labels, or_none, plain, selector, since};
use super::{Column, count, name, shown, wide};
use crate::kinds::time::{Wall, human_duration};
use crate::view::json::{at, is_true, items, number, text};

const CONTAINERS: &str = "spec.template.spec.containers";

pub(super) const SETS: &[Column] = &[
    shown("Name"),
    count("Desired"),
    count("Current"),
    count("Ready"),
    shown("Age"),
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

pub(super) fn set(set: &Value, now: Wall) -> Vec<Value> {
    let (names, images) = containers(set, CONTAINERS);
    // A ReplicationController's selector is a bare map of labels.
    let picks = if text(set, "kind") == "ReplicationController" {
        labels(set, "spec.selector")
    } else {
        selector(set, "spec.selector")
    };
    vec![
        name(set),
        number(set, "spec.replicas").into(),
        number(set, "status.replicas").into(),
        number(set, "status.readyReplicas").into(),
        age(set, now).into(),
        names.into(),
        images.into(),
        picks.into(),
    ]
}

pub(super) const DEPLOYMENTS: &[Column] = &[
    shown("Name"),
    shown("Ready"),
    count("Up-to-date"),
    count("Available"),
    shown("Age"),
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

pub(super) fn deployment(deployment: &Value, now: Wall) -> Vec<Value> {
    let (names, images) = containers(deployment, CONTAINERS);
    let ready = number(deployment, "status.readyReplicas");
    let wanted = number(deployment, "spec.replicas");
    vec![
        name(deployment),
        format!("{ready}/{wanted}").into(),
        number(deployment, "status.updatedReplicas").into(),
        number(deployment, "status.availableReplicas").into(),
        age(deployment, now).into(),
        names.into(),
        images.into(),
        selector(deployment, "spec.selector").into(),
    ]
}

pub(super) const STATEFUL_SETS: &[Column] =
    &[shown("Name"), shown("Ready"), shown("Age"), wide("Containers"), wide("Images")];

pub(super) fn stateful_set(set: &Value, now: Wall) -> Vec<Value> {
    let (names, images) = containers(set, CONTAINERS);
    let ready = number(set, "status.readyReplicas");
    let wanted = number(set, "spec.replicas");
    vec![
        name(set),
        format!("{ready}/{wanted}").into(),
        age(set, now).into(),
        names.into(),
        images.into(),
    ]
}

pub(super) const DAEMON_SETS: &[Column] = &[
    shown("Name"),
    count("Desired"),
    count("Current"),
    count("Ready"),
    count("Up-to-date"),
    count("Available"),
    shown("Node Selector"),
    shown("Age"),
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

pub(super) fn daemon_set(set: &Value, now: Wall) -> Vec<Value> {
    let (names, images) = containers(set, CONTAINERS);
    vec![
        name(set),
        number(set, "status.desiredNumberScheduled").into(),
        number(set, "status.currentNumberScheduled").into(),
        number(set, "status.numberReady").into(),
        number(set, "status.updatedNumberScheduled").into(),
        number(set, "status.numberAvailable").into(),
        labels(set, "spec.template.spec.nodeSelector").into(),
        age(set, now).into(),
        names.into(),
        images.into(),
        selector(set, "spec.selector").into(),
    ]
}

pub(super) const JOBS: &[Column] = &[
    shown("Name"),
    shown("Status"),
    shown("Completions"),
    shown("Duration"),
    shown("Age"),
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

pub(super) fn job(job: &Value, now: Wall) -> Vec<Value> {
    let (names, images) = containers(job, CONTAINERS);
    let conditions = items(job, "status.conditions");
    let holds = |kind: &str| {
        conditions.iter().any(|one| text(one, "type") == kind && text(one, "status") == "True")
    };
    let status = ["Complete", "Failed", "Suspended"]
        .into_iter()
        .find(|kind| holds(kind))
        .unwrap_or("Running");
    let done = number(job, "status.succeeded");
    let completions = match at(job, "spec.completions").and_then(Value::as_i64) {
        Some(wanted) => format!("{done}/{wanted}"),
        None => format!("{done}/1"),
    };
    vec![
        name(job),
        status.into(),
        completions.into(),
        duration(job, now).into(),
        age(job, now).into(),
        names.into(),
        images.into(),
        selector(job, "spec.selector").into(),
    ]
}

fn duration(job: &Value, now: Wall) -> String {
    let began = Wall::parse(text(job, "status.startTime"));
    let ended = Wall::parse(text(job, "status.completionTime")).unwrap_or(now);
    began.map_or_else(String::new, |began| human_duration(ended.since(began)))
}

pub(super) const CRON_JOBS: &[Column] = &[
    shown("Name"),
    shown("Schedule"),
    shown("Timezone"),
    shown("Suspend"),
    count("Active"),
    shown("Last Schedule"),
    shown("Age"),
    wide("Containers"),
    wide("Images"),
    wide("Selector"),
];

pub(super) fn cron_job(job: &Value, now: Wall) -> Vec<Value> {
    let template = "spec.jobTemplate.spec";
    let (names, images) = containers(job, &format!("{template}.template.spec.containers"));
    let suspended = if is_true(job, "spec.suspend") { "True" } else { "False" };
    let last = if text(job, "status.lastScheduleTime").is_empty() {
        NONE.to_owned()
    } else {
        since(job, "status.lastScheduleTime", now)
    };
    vec![
        name(job),
        text(job, "spec.schedule").into(),
        or_none(text(job, "spec.timeZone")).into(),
        suspended.into(),
        items(job, "status.active").len().into(),
        last.into(),
        age(job, now).into(),
        names.into(),
        images.into(),
        selector(job, &format!("{template}.selector")).into(),
    ]
}

pub(super) const REVISIONS: &[Column] =
    &[shown("Name"), shown("Controller"), count("Revision"), shown("Age")];

pub(super) fn revision(revision: &Value, now: Wall) -> Vec<Value> {
    let owner = items(revision, "metadata.ownerReferences").first();
    let controller = owner.map_or_else(
        || NONE.to_owned(),
        |owner| {
            let kind = text(owner, "kind").to_ascii_lowercase();
            format!("{kind}.apps/{}", text(owner, "name"))
        },
    );
    vec![
        name(revision),
        controller.into(),
        number(revision, "revision").into(),
        age(revision, now).into(),
    ]
}

pub(super) const AUTOSCALERS: &[Column] = &[
    shown("Name"),
    shown("Reference"),
    shown("Targets"),
    shown("MinPods"),
    shown("MaxPods"),
    count("Replicas"),
    shown("Age"),
];

pub(super) fn autoscaler(scaler: &Value, now: Wall) -> Vec<Value> {
    let target = at(scaler, "spec.scaleTargetRef")
        .map(|target| format!("{}/{}", text(target, "kind"), text(target, "name")));
    let metrics: Vec<String> = items(scaler, "spec.metrics").iter().map(metric).collect();
    let least = at(scaler, "spec.minReplicas");
    vec![
        name(scaler),
        target.unwrap_or_default().into(),
        or_none(&metrics.join(", ")).into(),
        least.map_or_else(|| "<unset>".to_owned(), |least| plain(Some(least))).into(),
        number(scaler, "spec.maxReplicas").to_string().into(),
        number(scaler, "status.currentReplicas").into(),
        age(scaler, now).into(),
    ]
}

/// Nothing measures here yet, so what is now is not known.
fn metric(metric: &Value) -> String {
    let name = text(metric, "resource.name");
    let wanted = at(metric, "resource.target.averageUtilization");
    match wanted {
        Some(percent) => format!("{name}: {UNKNOWN}/{percent}%"),
        None => format!("{name}: {UNKNOWN}/{}", plain(at(metric, "resource.target.averageValue"))),
    }
}

pub(super) const BUDGETS: &[Column] = &[
    shown("Name"),
    shown("Min Available"),
    shown("Max Unavailable"),
    count("Allowed Disruptions"),
    shown("Age"),
];

pub(super) fn budget(budget: &Value, now: Wall) -> Vec<Value> {
    let bound = |path| {
        let bound = plain(at(budget, path));
        if bound.is_empty() { "N/A".to_owned() } else { bound }
    };
    vec![
        name(budget),
        bound("spec.minAvailable").into(),
        bound("spec.maxUnavailable").into(),
        number(budget, "status.disruptionsAllowed").into(),
        age(budget, now).into(),
    ]
}
