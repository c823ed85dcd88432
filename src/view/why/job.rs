//! Why a Job or a CronJob is as it is.

use super::Why;
use crate::kinds::name::Name;
use crate::kinds::object::{Body, Key};
use crate::kinds::registry::Kind;
use crate::kinds::time::human_duration;
use crate::plan::Pod;
use crate::state::RecordKey;
use crate::state::jobs::{JobRun, SUSPENDED};
use crate::view::picture::Picture;

pub(super) fn tell(picture: &Picture, key: &Key, why: &mut Why) {
    let Some(namespace) = &key.namespace else {
        return;
    };
    let record_key = RecordKey::new(namespace, &key.name);
    if key.kind == Kind::CronJob {
        cron_job(picture, key, &record_key, why);
        return;
    }
    let records = picture.state.apps.values().filter_map(|app| app.jobs.get(&record_key));
    if let Some(run) = records.into_iter().find_map(|record| record.run.as_ref()) {
        job(picture, key, namespace, run, why);
    }
}

fn job(picture: &Picture, key: &Key, namespace: &Name, run: &JobRun, why: &mut Why) {
    let (good, bad) = (run.succeeded, run.failed);
    let count = format!("{good} of its pods succeeded, {bad} failed.");
    why.outcome = format!("{} {count}", why.outcome);
    let conditions = run.conditions.iter().filter(|condition| condition.status);
    let mut lines: Vec<String> = conditions
        .map(|condition| format!("{}: {}: {}", condition.kind, condition.reason, condition.message))
        .collect();
    if let Some(end) = run.end() {
        let age = human_duration(picture.now.wall.since(end.since));
        let commit = run.template.revision.short();
        lines.push(format!(
            "this template came to its end {age} ago, at commit {commit}; it is not run again"
        ));
        if run.is_removed {
            lines.push("it was removed after its ttlSecondsAfterFinished".to_owned());
        }
        why.hint(
            "to have it run anew, change its template: an annotation under spec.template will do",
        );
    } else if run.condition(SUSPENDED).is_none() && run.wait.failures > 0 {
        lines.push(format!(
            "{} failures in a row: the next pod is made after a wait",
            run.wait.failures
        ));
    }
    let earlier = |pod: &Pod| pod.binding.sequence < run.sequence && !pod.phase().is_over();
    for pod in picture.pods_of(key).iter().filter(|pod| earlier(pod)) {
        let name = &pod.binding.key.name;
        lines.push(format!("it waits until pod {name} has ended, which runs an earlier template"));
        why.hint(format!("windlass why {name} -n {namespace}"));
    }
    why.add("How it gets on", lines);
}

fn cron_job(picture: &Picture, key: &Key, record_key: &RecordKey, why: &mut Why) {
    let Some(found) = picture.object(key) else {
        return;
    };
    let Body::CronJob(cron) = &found.object.body else {
        return;
    };
    let mut lines = Vec::new();
    let state = picture.state.apps.get(found.app);
    let record = state.and_then(|state| state.cron_jobs.get(record_key));
    if let Some(last) = record.and_then(|record| record.minutes.last()) {
        lines.push(format!("the last Job was made for {last}"));
    }
    match cron.schedule.next(picture.now.wall) {
        _ if cron.suspend => lines.push("it is suspended".to_owned()),
        Some(next) => lines.push(format!("the next Job is due at {next}")),
        None => lines.push("its schedule is never due".to_owned()),
    }
    why.add("When", lines);
}
