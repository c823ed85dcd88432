//! Jobs and CronJobs: what is written, or was made, with what it has come to.

use serde_json::{Map, Value, json};

use super::{Shown, meta};
use crate::kinds::job::JobRules;
use crate::kinds::object::{Body, Key};
use crate::kinds::registry::Kind;
use crate::plan::{Pod, template_of};
use crate::state::RecordKey;
use crate::state::jobs::{COMPLETE, JobRecord, JobRun, MadeJob};
use crate::view::json::child;
use crate::view::picture::{Found, Picture};

/// Which Job a pod is of, as Kubernetes labels it; its old form beside it.
const LABELS_NAME: [&str; 2] = ["batch.kubernetes.io/job-name", "job-name"];
const LABELS_UID: [&str; 2] = ["batch.kubernetes.io/controller-uid", "controller-uid"];
/// The minute a Job was made for.
const ANNOTATION_SCHEDULED: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";

pub(super) fn jobs(picture: &Picture) -> Vec<Shown> {
    let written = picture.objects_of(Kind::Job).filter_map(|found| written_job(picture, &found));
    written.chain(made_jobs(picture)).collect()
}

/// A Job of the repository; none when its `ttlSecondsAfterFinished` are over.
fn written_job(picture: &Picture, found: &Found<'_>) -> Option<Shown> {
    let key = &found.object.key;
    let record_key = RecordKey::new(key.namespace.as_ref()?, &key.name);
    let state = picture.state.apps.get(found.app);
    let run = state.and_then(|state| state.jobs.get(&record_key)?.run.as_ref());
    if run.is_some_and(|run| run.is_removed) {
        return None;
    }
    let mut object = meta::written(found);
    let Body::Job(job) = &found.object.body else {
        return Some(Shown::new(key.clone(), Value::Object(object)));
    };
    if let Some(run) = run {
        meta::identify(&mut object, &run.uid, Some(run.created));
        if job.manual_selector.is_none() {
            generate_selector(child(&mut object, "spec"), key, run);
        }
        object.insert("status".into(), status(run, &picture.pods_of(key), &job.rules));
    }
    child(&mut object, "metadata").insert("generation".into(), 1.into());
    Some(Shown::new(key.clone(), Value::Object(object)))
}

/// `generateSelector`: the labels that tell this life of the Job from all others.
fn generate_selector(spec: &mut Map<String, Value>, key: &Key, run: &JobRun) {
    let uid = run.uid.as_str();
    spec.insert("selector".into(), json!({"matchLabels": { LABELS_UID[0]: uid }}));
    let labels = child(child(child(spec, "template"), "metadata"), "labels");
    for label in LABELS_NAME {
        labels.insert(label.into(), key.name.as_str().into());
    }
    for label in LABELS_UID {
        labels.insert(label.into(), uid.into());
    }
}

/// Zeros are left out, as Kubernetes does.
fn status(run: &JobRun, pods: &[Pod], rules: &JobRules) -> Value {
    let mut status = json!({});
    let own = || pods.iter().filter(|pod| pod.binding.sequence > run.sequence);
    let count = |pick: fn(&Pod) -> bool| own().filter(|pod| pick(pod)).count();
    let counts = [
        ("active", count(Pod::is_active)),
        ("ready", count(Pod::is_ready)),
        ("terminating", count(|pod| pod.is_leaving() && !pod.phase().is_over())),
        ("succeeded", usize::try_from(run.succeeded).unwrap_or(usize::MAX)),
        ("failed", usize::try_from(run.failed).unwrap_or(usize::MAX)),
    ];
    for (name, count) in counts {
        let is_always = ["ready", "terminating"].contains(&name);
        if count > 0 || (is_always && run.started.is_some()) {
            status[name] = count.into();
        }
    }
    if !run.completed.is_empty() {
        status["completedIndexes"] = run.completed.to_string().into();
    }
    if rules.backoff_limit_per_index.is_some() {
        status["failedIndexes"] = run.failed_indexes.to_string().into();
    }
    if let Some(started) = run.started {
        status["startTime"] = started.to_string().into();
    }
    if let Some(complete) = run.condition(COMPLETE) {
        status["completionTime"] = complete.since.to_string().into();
    }
    let conditions = run.conditions.iter().map(|condition| {
        let since = condition.since.to_string();
        json!({
            "type": condition.kind,
            "status": if condition.status { "True" } else { "False" },
            "lastProbeTime": since,
            "lastTransitionTime": since,
            "reason": condition.reason,
            "message": condition.message,
        })
    });
    if !run.conditions.is_empty() {
        status["conditions"] = conditions.collect();
    }
    status["uncountedTerminatedPods"] = json!({});
    status
}

/// Jobs that CronJobs made.
fn made_jobs(picture: &Picture) -> impl Iterator<Item = Shown> + '_ {
    let apps = picture.state.apps.values();
    let records = apps.flat_map(|app| &app.jobs);
    records.filter_map(|(key, record): (&RecordKey, &std::sync::Arc<JobRecord>)| {
        let (made, run) = (record.made.as_ref()?, record.run.as_ref()?);
        (!run.is_removed).then(|| made_job(picture, key, made, run))
    })
}

fn made_job(picture: &Picture, key: &RecordKey, made: &MadeJob, run: &JobRun) -> Shown {
    let key = Key::namespaced(Kind::Job, &key.namespace, &key.name);
    let cron_key = Key { kind: Kind::CronJob, name: made.cron_job.clone(), ..key.clone() };
    let mut object = meta::blank(&key);
    meta::identify(&mut object, &run.uid, Some(run.created));
    let template = template_of(&run.template, &picture.apps, &picture.library);
    let template: Value = template
        .and_then(|template| serde_json::from_str(&template.json).ok())
        .unwrap_or_else(|| json!({"spec": {"containers": []}}));
    let metadata = child(&mut object, "metadata");
    metadata.insert("generation".into(), 1.into());
    // `SetDefaults_Job`: without labels of its own it has its template's.
    let labels = match made.labels.is_empty() {
        false => Some(json!(made.labels)),
        true => template.pointer("/metadata/labels").cloned(),
    };
    metadata.insert("labels".into(), labels.unwrap_or_else(|| json!({})));
    let mut annotations = json!(made.annotations);
    annotations[ANNOTATION_SCHEDULED] = made.scheduled.to_string().into();
    metadata.insert("annotations".into(), annotations);
    if let Some(entry) = picture.object(&cron_key).and_then(|found| found.entry) {
        let owner = meta::owner("batch/v1", "CronJob", &made.cron_job, &entry.uid);
        metadata.insert("ownerReferences".into(), owner);
    }
    let place = meta::place(picture, &run.template);
    meta::cite(&mut object, run.template.revision.as_str(), &place);
    let rules = serde_json::to_value(&made.rules).unwrap_or_default();
    object.insert("spec".into(), rules);
    let spec = child(&mut object, "spec");
    spec.insert("template".into(), template);
    generate_selector(spec, &key, run);
    object.insert("status".into(), status(run, &picture.pods_of(&key), &made.rules));
    Shown::new(key, Value::Object(object))
}

pub(super) fn cron_jobs(picture: &Picture) -> Vec<Shown> {
    picture.objects_of(Kind::CronJob).map(|found| cron_job(picture, &found)).collect()
}

fn cron_job(picture: &Picture, found: &Found<'_>) -> Shown {
    let key = &found.object.key;
    let mut object = meta::written(found);
    child(&mut object, "metadata").insert("generation".into(), 1.into());
    let state = picture.state.apps.get(found.app);
    let mut status = json!({});
    let record_key = key.namespace.as_ref().map(|ns| RecordKey::new(ns, &key.name));
    let record = record_key.and_then(|key| state?.cron_jobs.get(&key));
    if let Some(record) = record {
        let times = [
            ("lastScheduleTime", record.minutes.last()),
            ("lastSuccessfulTime", record.last_successful.as_ref()),
        ];
        for (name, time) in times {
            if let Some(time) = time {
                status[name] = time.to_string().into();
            }
        }
    }
    let active: Vec<Value> = state
        .into_iter()
        .flat_map(|state| &state.jobs)
        .filter(|(job, record)| {
            let maker = record.made.as_ref().map(|made| &made.cron_job);
            maker == Some(&key.name) && Some(&job.namespace) == key.namespace.as_ref()
        })
        .filter_map(|(job, record)| Some((job, record.run.as_ref()?)))
        .filter(|(_, run)| run.end().is_none() && !run.is_removed)
        .map(|(job, run)| {
            json!({
                "apiVersion": "batch/v1",
                "kind": "Job",
                "namespace": job.namespace.as_str(),
                "name": job.name.as_str(),
                "uid": run.uid.as_str(),
            })
        })
        .collect();
    if !active.is_empty() {
        status["active"] = active.into();
    }
    object.insert("status".into(), status);
    Shown::new(key.clone(), Value::Object(object))
}
