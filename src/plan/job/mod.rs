//! Jobs: pods until enough of them have succeeded, or too many have failed.
//!
//! A Job is a run of its template. Another template is another run, which begins when the pods of the
//! one before have ended; a template that has run to its end before does not run again, whichever way
//! it comes back (docs/DESIGN.md, Hard cases 20). What the pods came to is counted by [`results`],
//! whether that is an end by [`verdict`], and [`fill`] makes the next ones.
//!
//! The rules: every end counts once; no index has two pods, not even while one of them is on a node that
//! nobody hears of (Hard cases 2). The limit: of finished pods the newest [`FINISHED_KEPT_MAX`] are kept
//! for their logs.
//! Source: `pkg/controller/job/job_controller.go` and the files beside it.

mod fill;
mod results;
mod verdict;

use std::sync::Arc;
use std::time::Duration;

use crate::desired::MEANING_VERSION;
use crate::kinds::binding::AppName;
use crate::kinds::job::JobRules;
use crate::kinds::name::{Name, PodKey};
use crate::kinds::object::{Body, Key, Object};
use crate::kinds::registry::Kind;
use crate::state::RecordKey;
use crate::state::jobs::{GONE_JOBS_MAX, JobRecord, JobRun, PAST_RUNS_MAX};

use super::memory::Timer;
use super::work::Work;
use super::{Pod, claim};

pub(super) use results::awaits_count;

/// Who says so in events.
const SOURCE: &str = "job";

/// How many finished pods of a Job are kept for their logs. Kubernetes keeps all; here each is
/// containers on some machine's disk.
pub(super) const FINISHED_KEPT_MAX: usize = 100;

/// A Job in the planner's hands.
struct Running {
    key: Key,
    namespace: Name,
    rules: JobRules,
    /// Whether its pods carry the labels by which Kubernetes tells them apart.
    is_labelled: bool,
    run: JobRun,
}

pub(super) fn run_jobs(work: &mut Work) {
    for (app, revision) in work.revisions.clone() {
        let_go(work, &app);
        for object in revision.desired.objects.values() {
            if let (Body::Job(job), Some(namespace)) = (&object.body, &object.key.namespace) {
                begin(work, &app, object, job);
                adopt(work, &app, &object.key, job);
                let is_labelled = job.manual_selector.is_none();
                let key = RecordKey::new(namespace, &object.key.name);
                step_record(work, &app, &key, &job.rules, is_labelled);
            }
        }
        for (key, rules) in made_jobs(work, &app) {
            step_record(work, &app, &key, &rules, true);
        }
    }
}

/// Takes up pods written by hand that a selector of the Job's own picks, as long as its run goes on and
/// nobody has suspended it: one that ends its pods would have those back that Git names, again and
/// again. They are of the present run from then on, and count.
fn adopt(work: &mut Work, app: &AppName, key: &Key, job: &crate::kinds::job::Job) {
    let Some((selector, namespace)) = job.manual_selector.as_ref().zip(key.namespace.as_ref())
    else {
        return;
    };
    let own = RecordKey::new(namespace, &key.name);
    let record = work.next.apps.get(app).and_then(|state| state.jobs.get(&own));
    let run = record.and_then(|record| record.run.as_ref());
    if job.rules.suspend || run.is_none_or(|run| run.verdict().is_some() || run.end().is_some()) {
        return;
    }
    for pod in claim::adopt_by(work, key, selector) {
        // A Job tells the pods of its runs by their numbers.
        let sequence = work.next_sequence();
        work.edit(&pod, |binding| binding.sequence = sequence);
    }
}

/// Jobs made by CronJobs, with the rules they were made with.
fn made_jobs(work: &Work, app: &AppName) -> Vec<(RecordKey, JobRules)> {
    let jobs = work.next.apps.get(app).map(|state| &state.jobs).into_iter().flatten();
    jobs.filter_map(|(key, record)| Some((key.clone(), record.made.as_ref()?.rules.clone())))
        .collect()
}

/// Jobs that are gone from Git: what they ran to its end is remembered. Their pods have been ended by
/// [`super::claim`].
fn let_go(work: &mut Work, app: &AppName) {
    let (Some(desired), Some(state)) = (work.desired(app), work.next.apps.get_mut(app)) else {
        return;
    };
    let is_gone = |key: &RecordKey, record: &JobRecord| match &record.made {
        Some(made) => !desired.objects.contains_key(&Key::namespaced(
            Kind::CronJob,
            &key.namespace,
            &made.cron_job,
        )),
        None => !desired.objects.contains_key(&job_key(key)),
    };
    state.jobs.retain(|key, record| {
        if !is_gone(key, record) {
            return true;
        }
        if record.run.is_some() {
            shelve(Arc::make_mut(record));
        }
        record.made.is_none() && !record.past.is_empty()
    });
    let mut gone: Vec<(u64, RecordKey)> = state
        .jobs
        .iter()
        .filter(|(_, record)| record.run.is_none())
        .map(|(key, record)| (record.past.last().map_or(0, |run| run.sequence), key.clone()))
        .collect();
    gone.sort();
    for (_, key) in gone.iter().take(gone.len().saturating_sub(GONE_JOBS_MAX)) {
        state.jobs.remove(key);
    }
}

/// Puts the present run away: among those remembered if it came to its end.
fn shelve(record: &mut JobRecord) {
    if let Some(mut run) = record.run.take().filter(|run| run.end().is_some()) {
        run.counted.clear();
        record.past.push(run);
        let surplus = record.past.len().saturating_sub(PAST_RUNS_MAX);
        record.past.drain(..surplus);
    }
}

/// Sees to it that the run is one of the template in Git.
fn begin(work: &mut Work, app: &AppName, object: &Object, job: &crate::kinds::job::Job) {
    let Some(namespace) = &object.key.namespace else {
        return;
    };
    let key = RecordKey::new(namespace, &object.key.name);
    let before = work.next.apps.get(app).and_then(|state| state.jobs.get(&key)).cloned();
    let Some(reference) = work.reference(app, object, &job.template) else {
        return;
    };
    let is_indexed = job.rules.is_indexed();
    let same = |run: &JobRun, if_unknown: bool| {
        let says = work.still_means(&run.template, &job.template);
        run.is_indexed == is_indexed && says.unwrap_or(if_unknown)
    };
    let mut record = before.as_deref().cloned().unwrap_or_default();
    // A run whose own commit can't be read any more is left as it is.
    if let Some(run) = record.run.as_mut().filter(|run| same(run, true)) {
        if run.template.meaning_version != MEANING_VERSION {
            run.template = reference;
            put(work, app, &key, record);
        }
        return;
    }
    let is_replaced = record.run.is_some();
    shelve(&mut record);
    let known = record.past.iter().position(|run| same(run, false));
    if is_replaced {
        work.note(format!("{} is replaced: its template changed", object.key));
    }
    let sequence = work.next_sequence();
    record.run = Some(match known {
        Some(at) => {
            let run = record.past.remove(at);
            let message = "This template ran to its end before and is not run again; \
                           change it, say by an annotation, to have it run anew";
            work.note(format!("{}: {message}", object.key));
            JobRun { sequence, ..run }
        }
        None => new_run(work, &object.key, reference, is_indexed, sequence),
    });
    put(work, app, &key, record);
    if known.is_some() {
        let message = "This template ran to its end before and is not run again";
        work.event(&object.key, SOURCE, "AlreadyRan", message.into());
    }
}

/// A run that has just begun.
pub(super) fn new_run(
    work: &Work,
    key: &Key,
    template: crate::kinds::binding::TemplateRef,
    is_indexed: bool,
    sequence: u64,
) -> JobRun {
    JobRun {
        uid: work.new_uid("job", &format!("{key} {sequence}")),
        template,
        is_indexed,
        created: work.now.wall,
        sequence,
        started: None,
        active_s: 0,
        succeeded: 0,
        failed: 0,
        completed: crate::kinds::indexes::IndexSet::default(),
        failed_indexes: crate::kinds::indexes::IndexSet::default(),
        counted: std::collections::BTreeSet::new(),
        wait: crate::state::jobs::Wait::default(),
        index_waits: Vec::new(),
        conditions: Vec::new(),
        is_removed: false,
        unknown: std::collections::BTreeMap::new(),
    }
}

/// Writes a record down, when it says something new.
pub(super) fn put(work: &mut Work, app: &AppName, key: &RecordKey, record: JobRecord) {
    let jobs = &mut work.next.apps.entry(app.clone()).or_default().jobs;
    if jobs.get(key).is_none_or(|before| **before != record) {
        jobs.insert(key.clone(), Arc::new(record));
    }
}

/// The key of a Job as the owner of pods.
pub(super) fn job_key(key: &RecordKey) -> Key {
    Key::namespaced(Kind::Job, &key.namespace, &key.name)
}

/// Takes a Job one step further.
fn step_record(
    work: &mut Work,
    app: &AppName,
    key: &RecordKey,
    rules: &JobRules,
    is_labelled: bool,
) {
    let Some(record) = work.next.apps.get(app).and_then(|state| state.jobs.get(key)).cloned()
    else {
        return;
    };
    let Some(run) = record.run.clone() else {
        return;
    };
    let had_ended = run.end().is_some();
    let mut job = Running {
        key: job_key(key),
        namespace: key.namespace.clone(),
        rules: rules.clone(),
        is_labelled,
        run,
    };
    step(work, &mut job);
    if let Some(made) = record.made.as_ref().filter(|_| !had_ended)
        && let Some(end) = job.run.end()
    {
        let cron = Key { kind: Kind::CronJob, name: made.cron_job.clone(), ..job.key.clone() };
        let message = format!("Saw completed job: {}, condition: {}", key.name, end.kind);
        work.event(&cron, "cronjob", "SawCompletedJob", message);
    }
    let is_over = job.run.is_removed && work.pods_of(&job.key).is_empty();
    if record.made.is_some() && is_over {
        work.next.apps.entry(app.clone()).or_default().jobs.remove(key);
    } else if record.run.as_ref() != Some(&job.run) {
        put(work, app, key, JobRecord { run: Some(job.run), ..JobRecord::clone(&record) });
    }
}

fn step(work: &mut Work, job: &mut Running) {
    results::count(work, job);
    if !end_earlier_runs(work, job) {
        return;
    }
    if job.run.is_removed {
        end_all(work, job, "JobRemoved");
        return;
    }
    if job.run.end().is_none() && job.run.verdict().is_none() {
        verdict::suspend_or_resume(work, job);
        verdict::judge(work, job);
    }
    if job.run.verdict().is_some() {
        end_active(work, job, "JobFinished");
        verdict::conclude(work, job);
    } else if job.rules.suspend {
        end_active(work, job, "JobSuspended");
    } else {
        fill::fill(work, job);
    }
    expire(work, job);
    drop_old_pods(work, job);
}

impl Running {
    /// Its pods of this run that `pick` picks.
    fn pods<'w>(&self, work: &'w Work, pick: impl Fn(&Pod) -> bool) -> Vec<&'w Pod> {
        let since = self.run.sequence;
        let mut pods = work.pods_of(&self.key);
        pods.retain(|pod| pod.binding.sequence > since && pick(pod));
        pods
    }

    /// How many of its pods are neither finished nor being ended.
    fn active(&self, work: &Work) -> u32 {
        u32::try_from(self.pods(work, Pod::is_active).len()).unwrap_or(u32::MAX)
    }

    /// How many of its pods are being ended and have not ended yet.
    fn terminating(&self, work: &Work) -> u32 {
        u32::try_from(self.pods(work, is_terminating).len()).unwrap_or(u32::MAX)
    }
}

/// Whether a pod is being ended and may still run.
fn is_terminating(pod: &Pod) -> bool {
    pod.is_leaving() && !pod.phase().is_over()
}

/// Ends a pod for the Job's own reasons: whatever it comes to now does not count (Kubernetes takes its
/// finalizer off, `deleteJobPods`).
fn end_own(work: &mut Work, run: &mut JobRun, key: &PodKey, grace_s: Option<u32>, reason: &str) {
    if let Some(pod) = work.pods.get(key) {
        run.counted.insert(pod.binding.uid.clone());
        work.end_pod(key, grace_s, reason);
    }
}

/// Ends the pods of earlier runs. False while one of them may still run: two templates of one Job
/// never run side by side.
fn end_earlier_runs(work: &mut Work, job: &Running) -> bool {
    let since = job.run.sequence;
    let earlier: Vec<(PodKey, bool, bool)> = work
        .pods_of(&job.key)
        .into_iter()
        .filter(|pod| pod.binding.sequence < since)
        .map(|pod| (pod.binding.key.clone(), pod.is_leaving(), pod.phase().is_over()))
        .collect();
    for (key, is_leaving, _) in &earlier {
        if !is_leaving {
            work.end_pod(key, None, "JobReplaced");
        }
    }
    earlier.iter().all(|(key, _, is_over)| *is_over || !work.pods.contains_key(key))
}

fn end_active(work: &mut Work, job: &mut Running, reason: &str) {
    let active: Vec<PodKey> =
        job.pods(work, Pod::is_active).iter().map(|pod| pod.binding.key.clone()).collect();
    for key in active {
        end_own(work, &mut job.run, &key, None, reason);
        let message = format!("Deleted pod: {}", key.name);
        work.event(&job.key, SOURCE, "SuccessfulDelete", message);
    }
}

fn end_all(work: &mut Work, job: &mut Running, reason: &str) {
    let all: Vec<(PodKey, bool)> = job
        .pods(work, |pod| !pod.is_leaving())
        .iter()
        .map(|pod| (pod.binding.key.clone(), pod.phase().is_over()))
        .collect();
    for (key, is_over) in all {
        end_own(work, &mut job.run, &key, is_over.then_some(0), reason);
    }
}

/// Removes it when it has been finished for `ttlSecondsAfterFinished`. Its record stays, so that the
/// manifest in Git does not bring it back.
fn expire(work: &mut Work, job: &mut Running) {
    let (Some(end), Some(ttl_s)) = (job.run.end(), job.rules.ttl_s) else {
        return;
    };
    let left = Duration::from_secs(ttl_s.into()).saturating_sub(work.now.wall.since(end.since));
    if !left.is_zero() {
        work.wake_in(left);
        return;
    }
    job.run.is_removed = true;
    work.note(format!("{} is removed {ttl_s} s after its end", job.key));
    end_all(work, job, "JobRemoved");
}

/// Of finished pods the oldest go, beyond those kept for their logs.
fn drop_old_pods(work: &mut Work, job: &mut Running) {
    let finished = job.pods(work, |pod| !pod.is_leaving() && pod.phase().is_over());
    let surplus = finished.len().saturating_sub(FINISHED_KEPT_MAX);
    let old: Vec<PodKey> =
        finished.iter().take(surplus).map(|pod| pod.binding.key.clone()).collect();
    for key in old {
        end_own(work, &mut job.run, &key, Some(0), "Finished");
    }
}

/// Whether `limit_s` have passed, of which `stored_s` stand in the record.
fn has_passed(work: &mut Work, key: &Key, timer: Timer, stored_s: &mut u32, limit_s: u32) -> bool {
    let key = (key.clone(), timer);
    let since = work.memory.timers.get(&key).copied();
    match work.count_on(since, stored_s, limit_s) {
        None => true,
        Some(since) => {
            work.memory.timers.insert(key, since);
            false
        }
    }
}
