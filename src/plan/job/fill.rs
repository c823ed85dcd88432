//! As many pods as there is work for, and no more (`manageJob`).

use std::collections::BTreeSet;

use crate::kinds::job::ReplacementPolicy;
use crate::kinds::labels::Labels;
use crate::kinds::name::PodKey;
use crate::kinds::status::Phase;
use crate::plan::Pod;
use crate::plan::memory::Timer;
use crate::plan::work::{NewName, NewPod, PODS_MADE_MAX, Work};
use crate::state::jobs::Wait;

use super::{Running, SOURCE, end_own, has_passed, verdict};

/// Which Job a pod is of; each in its old and its new form.
const LABELS_NAME: [&str; 2] = ["job-name", "batch.kubernetes.io/job-name"];
const LABELS_UID: [&str; 2] = ["controller-uid", "batch.kubernetes.io/controller-uid"];

/// Makes the pods that are missing and ends those that are too many.
pub(super) fn fill(work: &mut Work, job: &mut Running) {
    let active = job.active(work);
    let wanted = wanted(job, active);
    let beyond = beyond_last_index(work, job);
    for key in &beyond {
        end_surplus(work, job, key);
    }
    let active = active.saturating_sub(u32::try_from(beyond.len()).unwrap_or(u32::MAX));
    if active > wanted {
        for key in least_missed(work, job, active - wanted) {
            end_surplus(work, job, &key);
        }
        return;
    }
    let terminating = match job.rules.pod_replacement_policy {
        ReplacementPolicy::Failed => job.terminating(work),
        ReplacementPolicy::TerminatingOrFailed => 0,
    };
    let missing = wanted.saturating_sub(active).saturating_sub(terminating);
    let room = PODS_MADE_MAX.saturating_sub(work.made);
    let missing = usize::try_from(missing).unwrap_or(usize::MAX).min(room);
    if missing == 0 || !may_go_on(work, job) {
        return;
    }
    if job.rules.is_indexed() {
        let indexes = free_indexes(work, job, missing);
        make(work, job, indexes.into_iter().map(Some).collect());
    } else {
        make(work, job, vec![None; missing]);
    }
}

/// How many pods there should be now.
fn wanted(job: &Running, active: u32) -> u32 {
    let done = &job.run;
    match job.rules.completions {
        // One that succeeded says that the queue is empty: the others end by themselves.
        None if done.succeeded > 0 => active,
        None => job.rules.parallelism,
        Some(wanted) if job.rules.is_indexed() => {
            let over = done.completed.count_below(wanted) + done.failed_indexes.count_below(wanted);
            wanted.saturating_sub(over).min(job.rules.parallelism)
        }
        Some(wanted) => wanted.saturating_sub(done.succeeded).min(job.rules.parallelism),
    }
}

/// Pods of indexes that are not asked for any more.
fn beyond_last_index(work: &Work, job: &Running) -> Vec<PodKey> {
    let Some(completions) = job.rules.completions.filter(|_| job.rules.is_indexed()) else {
        return Vec::new();
    };
    let is_beyond =
        |pod: &Pod| pod.is_active() && pod.binding.index.is_some_and(|index| index >= completions);
    job.pods(work, is_beyond).iter().map(|pod| pod.binding.key.clone()).collect()
}

/// The active pods that have come least far.
fn least_missed(work: &Work, job: &Running, count: u32) -> Vec<PodKey> {
    // One written by hand stays: Git names it, and it would come back.
    let mut active = job.pods(work, |pod| pod.is_active() && !pod.is_by_hand());
    active.sort_by_key(|pod| {
        let runs = pod.phase() == Phase::Running;
        (pod.node.is_some(), runs, pod.is_ready(), std::cmp::Reverse(pod.binding.sequence))
    });
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    active.iter().take(count).map(|pod| pod.binding.key.clone()).collect()
}

fn end_surplus(work: &mut Work, job: &mut Running, key: &PodKey) {
    end_own(work, &mut job.run, key, None, "JobScaledDown");
    work.event(&job.key, SOURCE, "SuccessfulDelete", format!("Deleted pod: {}", key.name));
    work.note(format!("{}: pod {key} is one too many", job.key));
}

/// Whether the wait after the last failure is over. Where each index has its own, it is asked there.
fn may_go_on(work: &mut Work, job: &mut Running) -> bool {
    let wait = &mut job.run.wait;
    if wait.is_nothing() {
        return true;
    }
    let limit_s = seconds(*wait);
    has_passed(work, &job.key, Timer::BackOff, &mut wait.waited_s, limit_s)
}

fn seconds(wait: Wait) -> u32 {
    u32::try_from(verdict::back_off(wait.failures).as_secs()).unwrap_or(u32::MAX)
}

/// The lowest indexes that are neither done, given up, waiting after a failure, nor have a pod that
/// may still run.
fn free_indexes(work: &mut Work, job: &mut Running, count: usize) -> Vec<u32> {
    let mut taken: BTreeSet<u32> = job
        .pods(work, |pod| !pod.phase().is_over())
        .iter()
        .filter_map(|pod| pod.binding.index)
        .collect();
    for at in 0..job.run.index_waits.len() {
        let waits = &mut job.run.index_waits[at];
        let (index, limit_s) = (waits.index, seconds(waits.wait));
        let timer = Timer::Index(index);
        if !has_passed(work, &job.key, timer, &mut waits.wait.waited_s, limit_s) {
            taken.insert(index);
        }
    }
    let run = &job.run;
    let is_free = |index: &u32| {
        !taken.contains(index)
            && !run.completed.contains(*index)
            && !run.failed_indexes.contains(*index)
    };
    (0..job.rules.completions.unwrap_or(0)).filter(is_free).take(count).collect()
}

fn make(work: &mut Work, job: &Running, indexes: Vec<Option<u32>>) {
    let count = indexes.len();
    for index in indexes {
        let base = match index {
            Some(index) => format!("{}-{index}", job.key.name),
            None => job.key.name.to_string(),
        };
        let pod = work.make_pod(NewPod {
            namespace: &job.namespace,
            name: NewName::After(&base),
            template: job.run.template.clone(),
            owner: job.key.clone(),
            labels: labels(job),
            index,
            only_node: None,
        });
        let message = format!("Created pod: {}", pod.name);
        work.event(&job.key, SOURCE, "SuccessfulCreate", message);
    }
    if count > 0 {
        let plural = if count == 1 { "" } else { "s" };
        work.note(format!("{}: {count} new pod{plural}", job.key));
    }
}

/// The labels by which Kubernetes tells a Job's pods (`generateSelector`).
fn labels(job: &Running) -> Labels {
    let mut labels = Labels::new();
    if job.is_labelled {
        for key in LABELS_NAME {
            labels.insert(key.to_owned(), job.key.name.to_string());
        }
        for key in LABELS_UID {
            labels.insert(key.to_owned(), job.run.uid.to_string());
        }
    }
    labels
}
