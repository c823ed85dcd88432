//! CronJobs: a Job for each minute that is due.
//!
//! The rules: of the minutes that were missed, however many, at most the latest is made up for; and no
//! minute gets two Jobs. A Job's name follows from its minute, and the minute is written down in the same
//! compare-and-swap that makes the Job: whoever coordinates next knows of it, or it was never made.
//!
//! This is the one place where the wall clock decides. A clock that goes back by less than a day is
//! waited for, as Kubernetes does; one that goes back further was wrong before, and what is due is
//! counted from now on. The limit: where both happen to a schedule in quick succession, a minute that
//! is not among the last [`MINUTES_MAX`] may come again with the clock.
//! Source: `pkg/controller/cronjob/cronjob_controllerv2.go` and `utils.go`.

use std::sync::Arc;
use std::time::Duration;

use crate::kinds::binding::AppName;
use crate::kinds::job::{Concurrency, CronJob};
use crate::kinds::name::Name;
use crate::kinds::object::{Body, Key, Object};
use crate::kinds::registry::Kind;
use crate::kinds::time::Wall;
use crate::state::jobs::{COMPLETE, CronRecord, JobRecord, MINUTES_MAX, MadeJob};
use crate::state::{RecordKey, called_after};

use super::job;
use super::work::Work;

const SOURCE: &str = "cronjob";

/// A clock that goes back by more than this was wrong before.
const SET_BACK_MAX: Duration = Duration::from_secs(86_400);

/// The longest sleep: a wall clock may be set meanwhile, and nobody tells.
const SLEEP_MAX: Duration = Duration::from_secs(600);

/// More missed times than this are worth a word.
const MISSED_MAX: usize = 100;

/// A CronJob in the planner's hands.
struct Ticking<'a> {
    app: &'a AppName,
    key: RecordKey,
    object: &'a Object,
    cron: &'a CronJob,
    record: CronRecord,
}

pub(super) fn look_at_clocks(work: &mut Work) {
    for (app, revision) in work.revisions.clone() {
        if let Some(state) = work.next.apps.get_mut(&app) {
            let exists = |key: &RecordKey| {
                let key = Key::namespaced(Kind::CronJob, &key.namespace, &key.name);
                revision.desired.objects.contains_key(&key)
            };
            state.cron_jobs.retain(|key, _| exists(key));
        }
        for object in revision.desired.objects.values() {
            if let (Body::CronJob(cron), Some(namespace)) = (&object.body, &object.key.namespace) {
                let key = RecordKey::new(namespace, &object.key.name);
                let before = work.next.apps.get(&app).and_then(|state| state.cron_jobs.get(&key));
                let record = before.map(|record| CronRecord::clone(record)).unwrap_or_default();
                let mut ticking = Ticking { app: &app, key, object, cron, record };
                tick(work, &mut ticking);
                put(work, ticking);
            }
        }
    }
}

fn put(work: &mut Work, ticking: Ticking<'_>) {
    let records = &mut work.next.apps.entry(ticking.app.clone()).or_default().cron_jobs;
    let before = records.get(&ticking.key).map(|record| &**record);
    if before.unwrap_or(&CronRecord::default()) != &ticking.record {
        records.insert(ticking.key, Arc::new(ticking.record));
    }
}

fn tick(work: &mut Work, ticking: &mut Ticking<'_>) {
    keep_history(work, ticking);
    let Some(since) = since(work, ticking) else {
        return;
    };
    if ticking.cron.suspend {
        return;
    }
    let now = work.now.wall;
    if let Some(next) = ticking.cron.schedule.next(now) {
        work.wake_in(next.since(now).min(SLEEP_MAX));
    }
    let Some(due) = ticking.cron.schedule.latest(since, now) else {
        return;
    };
    if ticking.record.minutes.contains(&due) {
        ticking.record.since = Some(due);
        return;
    }
    let late = now.since(due);
    let deadline =
        ticking.cron.starting_deadline_s.map(|seconds| Duration::from_secs(seconds.into()));
    if deadline.is_some_and(|deadline| late > deadline) {
        let message = format!("Missed scheduled time to start a job: {due}");
        work.warn(&ticking.object.key, SOURCE, "MissSchedule", message);
        work.note(format!("{}: {due} was missed by too long", ticking.object.key));
        ticking.record.since = Some(due);
        return;
    }
    warn_of_many(work, ticking, since);
    start(work, ticking, due);
}

/// From when on what is due counts.
fn since(work: &Work, ticking: &mut Ticking<'_>) -> Option<Wall> {
    let state = work.next.apps.get(ticking.app)?;
    let created = state.entry(&ticking.object.key)?.created;
    let since = ticking.record.since.unwrap_or(created);
    let now = work.now.wall;
    if since.since(now) > SET_BACK_MAX {
        ticking.record.since = Some(now);
        return Some(now);
    }
    Some(since)
}

fn warn_of_many(work: &mut Work, ticking: &Ticking<'_>, since: Wall) {
    let (schedule, now) = (&ticking.cron.schedule, work.now.wall);
    let mut at = since;
    for _ in 0..=MISSED_MAX {
        match schedule.next(at).filter(|next| *next <= now) {
            Some(next) => at = next,
            None => return,
        }
    }
    let message = format!(
        "too many missed start times (> {MISSED_MAX}): only the latest is made up for. Set or \
         decrease .spec.startingDeadlineSeconds or check clock skew"
    );
    work.warn(&ticking.object.key, SOURCE, "TooManyMissedTimes", message);
}

/// Makes the Job of a minute, unless the one before forbids it.
fn start(work: &mut Work, ticking: &mut Ticking<'_>, due: Wall) {
    let running: Vec<RecordKey> = jobs_of(work, ticking)
        .into_iter()
        .filter(|(_, record)| is_running(record))
        .map(|(key, _)| key)
        .collect();
    match ticking.cron.concurrency {
        Concurrency::Forbid if !running.is_empty() => {
            let message = "Not starting job because prior execution is running and concurrency \
                           policy is Forbid";
            work.event(&ticking.object.key, SOURCE, "JobAlreadyActive", message.into());
            return;
        }
        Concurrency::Replace => {
            for key in &running {
                remove(work, ticking, key);
            }
        }
        Concurrency::Forbid | Concurrency::Allow => {}
    }
    let name = Name::trusted(&format!("{}-{}", ticking.key.name, due.seconds().div_euclid(60)));
    let key = RecordKey::new(&ticking.key.namespace, &name);
    let jobs = work.next.apps.get(ticking.app).map(|state| &state.jobs);
    let is_taken = jobs.is_some_and(|jobs| jobs.contains_key(&key));
    let template = &ticking.cron.job.template;
    let reference = work.reference(ticking.app, ticking.object, template);
    if let Some(reference) = reference.filter(|_| !is_taken) {
        let rules = ticking.cron.job.rules.clone();
        let sequence = work.next_sequence();
        let job_key = job::job_key(&key);
        let run = job::new_run(work, &job_key, reference, rules.is_indexed(), sequence);
        let made = MadeJob {
            cron_job: ticking.key.name.clone(),
            scheduled: due,
            rules,
            labels: ticking.cron.labels.clone(),
            annotations: ticking.cron.annotations.clone(),
        };
        let record = JobRecord { run: Some(run), made: Some(made), ..JobRecord::default() };
        job::put(work, ticking.app, &key, record);
        work.note(format!("{}: Job {name} for {due}", ticking.object.key));
        let message = format!("Created job {name}");
        work.event(&ticking.object.key, SOURCE, "SuccessfulCreate", message);
    }
    let record = &mut ticking.record;
    record.since = Some(due);
    record.minutes.push(due);
    let surplus = record.minutes.len().saturating_sub(MINUTES_MAX);
    record.minutes.drain(..surplus);
}

fn is_running(record: &JobRecord) -> bool {
    record.run.as_ref().is_some_and(|run| run.end().is_none() && !run.is_removed)
}

/// The Jobs it made, the oldest first.
fn jobs_of(work: &Work, ticking: &Ticking<'_>) -> Vec<(RecordKey, Arc<JobRecord>)> {
    let Some(state) = work.next.apps.get(ticking.app) else {
        return Vec::new();
    };
    let RecordKey { namespace, name } = &ticking.key;
    let mut own: Vec<(RecordKey, Arc<JobRecord>)> = called_after(&state.jobs, namespace, name)
        .filter(|(_, record)| record.made.as_ref().is_some_and(|made| made.cron_job == *name))
        .map(|(key, record)| (key.clone(), record.clone()))
        .collect();
    own.sort_by_key(|(_, record)| record.run.as_ref().map(|run| run.sequence));
    own
}

/// Removes a Job: [`super::job`] ends its pods, and then forgets it.
fn remove(work: &mut Work, ticking: &Ticking<'_>, key: &RecordKey) {
    let jobs = work.next.apps.get_mut(ticking.app).map(|state| &mut state.jobs);
    let Some(record) = jobs.and_then(|jobs| jobs.get_mut(key)) else {
        return;
    };
    if let Some(run) = &mut Arc::make_mut(record).run {
        run.is_removed = true;
    }
    work.event(
        &ticking.object.key,
        SOURCE,
        "SuccessfulDelete",
        format!("Deleted job {}", key.name),
    );
}

/// Notes how its Jobs ended, and removes those beyond its history limits, the oldest first.
fn keep_history(work: &mut Work, ticking: &mut Ticking<'_>) {
    let (mut good, mut bad) = (Vec::new(), Vec::new());
    for (key, record) in jobs_of(work, ticking) {
        let run = record.run.as_ref().filter(|run| !run.is_removed);
        let Some(end) = run.and_then(|run| run.end()) else {
            continue;
        };
        if end.kind == COMPLETE {
            let last = &mut ticking.record.last_successful;
            *last = (*last).max(Some(end.since));
            good.push(key);
        } else {
            bad.push(key);
        }
    }
    let limits = [(good, ticking.cron.successful_history), (bad, ticking.cron.failed_history)];
    for (keys, limit) in limits {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        for key in keys.iter().take(keys.len().saturating_sub(limit)) {
            remove(work, ticking, key);
        }
    }
}
