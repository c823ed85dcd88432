//! Whether a Job is done, and how: the first rule that holds counts, in the order of `syncJob`.

use std::time::Duration;

use crate::kinds::pod::RestartPolicy;
use crate::plan::Pod;
use crate::plan::memory::Timer;
use crate::plan::work::Work;
use crate::state::jobs::{
    COMPLETE, FAILED, FAILURE_TARGET, JobCondition, SUCCESS_CRITERIA_MET, SUSPENDED,
};

use super::{Running, SOURCE, has_passed};

/// Sets a condition.
fn set(work: &Work, job: &mut Running, kind: &str, status: bool, reason: &str, message: String) {
    let conditions = &mut job.run.conditions;
    conditions.retain(|condition| condition.kind != kind);
    conditions.push(JobCondition {
        kind: kind.to_owned(),
        status,
        reason: reason.to_owned(),
        message,
        since: work.now.wall,
    });
}

/// Decides how it ends.
pub(super) fn decide(
    work: &mut Work,
    job: &mut Running,
    kind: &str,
    reason: &str,
    message: String,
) {
    work.note(format!("{}: {message}", job.key));
    set(work, job, kind, true, reason, message);
}

/// Follows `suspend`: time that it waits does not count against its deadline.
pub(super) fn suspend_or_resume(work: &mut Work, job: &mut Running) {
    let was = job.run.condition(SUSPENDED).is_some();
    let timer = (job.key.clone(), Timer::Deadline);
    if job.rules.suspend {
        if !was {
            set(work, job, SUSPENDED, true, "JobSuspended", "Job suspended".into());
            work.event(&job.key, SOURCE, "Suspended", "Job suspended".into());
            job.run.started = None;
            job.run.active_s = 0;
            work.memory.timers.remove(&timer);
        }
        return;
    }
    if was {
        set(work, job, SUSPENDED, false, "JobResumed", "Job resumed".into());
        work.event(&job.key, SOURCE, "Resumed", "Job resumed".into());
    }
    if job.run.started.is_none() {
        job.run.started = Some(work.now.wall);
    }
}

/// Looks whether it is done.
pub(super) fn judge(work: &mut Work, job: &mut Running) {
    let verdict = failure(work, job).or_else(|| success(work, job));
    if let Some((kind, reason, message)) = verdict {
        decide(work, job, kind, reason, message);
    }
}

type Verdict = (&'static str, &'static str, String);

fn failure(work: &mut Work, job: &mut Running) -> Option<Verdict> {
    let failed = |reason, message: &str| Some((FAILURE_TARGET, reason, message.to_owned()));
    let rules = &job.rules;
    if job.run.failed > rules.backoff_limit || restarts_too_often(work, job) {
        let message = "Job has reached the specified backoff limit";
        return failed("BackoffLimitExceeded", message);
    }
    if let Some(deadline_s) = rules.active_deadline_s.filter(|_| !rules.suspend)
        && has_passed(work, &job.key, Timer::Deadline, &mut job.run.active_s, deadline_s)
    {
        let message = "Job was active longer than specified deadline";
        return failed("DeadlineExceeded", message);
    }
    let rules = &job.rules;
    let completions = rules.completions.filter(|_| rules.is_indexed())?;
    let given_up = job.run.failed_indexes.count_below(completions);
    if rules.max_failed_indexes.is_some_and(|most| given_up > most) {
        let message = "Job has exceeded the specified maximal number of failed indexes";
        return failed("MaxFailedIndexesExceeded", message);
    }
    let done = job.run.completed.count_below(completions);
    if given_up > 0 && given_up.saturating_add(done) >= completions {
        return failed("FailedIndexes", "Job has failed indexes");
    }
    None
}

/// Containers that are started again in their pods count as failures too (`pastBackoffLimitOnFailure`).
fn restarts_too_often(work: &Work, job: &Running) -> bool {
    let restarts = |pod: &Pod| -> u32 {
        let status = pod.report.as_ref().map(|report| &report.status);
        let all = status.into_iter().flat_map(|status| {
            status.init_container_statuses.iter().chain(&status.container_statuses)
        });
        all.map(|container| container.restart_count).sum()
    };
    let is_counted = |pod: &Pod| {
        let policy = pod.template.as_ref().map(|template| template.spec.restart_policy);
        pod.is_active() && policy == Some(RestartPolicy::OnFailure)
    };
    let total: u32 = job.pods(work, is_counted).into_iter().map(restarts).sum();
    total > 0 && total >= job.rules.backoff_limit
}

fn success(work: &Work, job: &Running) -> Option<Verdict> {
    let run = &job.run;
    if let (Some(policy), Some(completions)) = (&job.rules.success_policy, job.rules.completions) {
        let met = policy.rules.iter().position(|rule| rule.is_met(&run.completed, completions));
        if let Some(at) = met {
            let message = format!("Matched rules at index {at}");
            return Some((SUCCESS_CRITERIA_MET, "SuccessPolicy", message));
        }
    }
    let is_done = match job.rules.completions {
        Some(wanted) if job.rules.is_indexed() => run.completed.count_below(wanted) >= wanted,
        Some(wanted) => run.succeeded >= wanted,
        // The pod that found the queue empty succeeds; the others finish what they hold.
        None => run.succeeded > 0 && job.active(work) == 0,
    };
    is_done.then(|| {
        let message = "Reached expected number of succeeded pods".to_owned();
        (SUCCESS_CRITERIA_MET, "CompletionsReached", message)
    })
}

/// When nothing of it runs any more, it is over.
pub(super) fn conclude(work: &mut Work, job: &mut Running) {
    if job.run.end().is_some() || job.active(work) > 0 || job.terminating(work) > 0 {
        return;
    }
    let Some(verdict) = job.run.verdict().cloned() else {
        return;
    };
    if verdict.kind == SUCCESS_CRITERIA_MET {
        set(work, job, COMPLETE, true, &verdict.reason, verdict.message);
        work.note(format!("{} is complete", job.key));
        work.event(&job.key, SOURCE, "Completed", "Job completed".into());
    } else {
        work.warn(&job.key, SOURCE, &verdict.reason, verdict.message.clone());
        set(work, job, FAILED, true, &verdict.reason, verdict.message);
        work.note(format!("{} has failed", job.key));
    }
    for timer in [Timer::Deadline, Timer::BackOff] {
        work.memory.timers.remove(&(job.key.clone(), timer));
    }
    job.run.index_waits.clear();
    job.run.active_s = 0;
}

/// How long to wait after failures in a row: 10 s, 20 s, 40 s … six minutes.
/// <https://kubernetes.io/docs/concepts/workloads/controllers/job/#pod-backoff-failure-policy>
pub(super) fn back_off(failures: u32) -> Duration {
    const FIRST_S: u64 = 10;
    const LONGEST_S: u64 = 360;
    let doubled = FIRST_S.saturating_mul(1_u64 << failures.saturating_sub(1).min(10));
    Duration::from_secs(if failures == 0 { 0 } else { doubled.min(LONGEST_S) })
}
