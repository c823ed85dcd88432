//! What became of a Job's pods, each counted once.
//!
//! A pod that is gone from its node stays bound until its end stands in the counts: binding and counts
//! are written by one compare-and-swap, so neither a coordinator that dies nor one that was deposed
//! loses an end or counts it twice. Kubernetes does it with finalizers and `uncountedTerminatedPods`.

use std::collections::BTreeSet;

use crate::kinds::job::{FailureAction, FailureRule, JobRules, ReplacementPolicy};
use crate::kinds::name::{PodKey, Uid};
use crate::kinds::registry::Kind;
use crate::kinds::status::{ContainerState, Phase};
use crate::plan::Pod;
use crate::plan::memory::Timer;
use crate::plan::work::Work;
use crate::state::RecordKey;
use crate::state::jobs::{FAILURE_TARGET, IndexWait, JobRun, Wait};

use super::{Running, verdict};

/// Reasons for which a pod was ended that Kubernetes marks by the condition `DisruptionTarget`.
const DISRUPTIONS: [&str; 4] = ["Drained", "Evicted", "EvictionByEvictionAPI", "Preempted"];

/// The condition of pods that were ended by no fault of theirs.
const DISRUPTION_TARGET: &str = "DisruptionTarget";

/// Whether a pod's end is still to be counted by its Job: it must not be forgotten before.
pub(in crate::plan) fn awaits_count(work: &Work, pod: &Pod) -> bool {
    let binding = &pod.binding;
    if binding.owner.kind != Kind::Job || pod.node.is_none() {
        return false;
    }
    let key = RecordKey::new(&binding.key.namespace, &binding.owner.name);
    let state = work.next.apps.get(&binding.template.app);
    let run = state.and_then(|state| state.jobs.get(&key)?.run.as_ref());
    run.is_some_and(|run| binding.sequence > run.sequence && !run.counted.contains(&binding.uid))
}

/// How a pod ended.
struct End {
    key: PodKey,
    uid: Uid,
    index: Option<u32>,
    has_succeeded: bool,
    /// What its failure means, and the sentence if it ends the Job.
    meaning: FailureAction,
    why: String,
}

/// Counts the pods whose end is new, and lets those go that wait for nothing else.
pub(super) fn count(work: &mut Work, job: &mut Running) {
    let ends: Vec<End> = job
        .pods(work, |pod| !job.run.counted.contains(&pod.binding.uid))
        .into_iter()
        .filter_map(|pod| end_of(work, pod, &job.rules))
        .collect();
    for end in ends {
        take(work, job, &end);
        job.run.counted.insert(end.uid);
    }
    let gone: Vec<PodKey> = job
        .pods(work, |pod| job.run.counted.contains(&pod.binding.uid))
        .into_iter()
        .filter(|pod| (pod.is_leaving() && pod.is_gone()) || is_fenced(work, pod))
        .map(|pod| pod.binding.key.clone())
        .collect();
    for key in gone {
        work.forget(&key);
    }
    let bound: BTreeSet<&Uid> =
        work.pods_of(&job.key).into_iter().map(|pod| &pod.binding.uid).collect();
    job.run.counted.retain(|uid| bound.contains(uid));
}

/// Whether a person declared the pod's node dead.
fn is_fenced(work: &Work, pod: &Pod) -> bool {
    let node = pod.node.as_ref().and_then(|node| work.next.nodes.get(node));
    node.is_some_and(|node| node.fenced.is_some())
}

/// Whether a pod's end is to be counted now, and as what.
fn end_of(work: &Work, pod: &Pod, rules: &JobRules) -> Option<End> {
    let phase = pod.phase();
    // An index is an identity: the next pod of it waits for its node's word.
    let early = pod.is_leaving()
        && !rules.is_indexed()
        && rules.pod_replacement_policy == ReplacementPolicy::TerminatingOrFailed;
    let is_at_its_end =
        phase.is_over() || early || is_fenced(work, pod) || (pod.is_leaving() && pod.is_gone());
    if !is_at_its_end {
        return None;
    }
    let has_succeeded = phase == Phase::Succeeded;
    let (meaning, why) = match has_succeeded {
        true => (FailureAction::Count, String::new()),
        false => meaning(work, pod, rules),
    };
    let binding = &pod.binding;
    Some(End {
        key: binding.key.clone(),
        uid: binding.uid.clone(),
        index: binding.index,
        has_succeeded,
        meaning,
        why,
    })
}

/// What a failure means by `podFailurePolicy` (`matchPodFailurePolicy`).
fn meaning(work: &Work, pod: &Pod, rules: &JobRules) -> (FailureAction, String) {
    let policy = rules.pod_failure_policy.iter().flat_map(|policy| &policy.rules);
    let fits = policy.enumerate().find_map(|(at, rule)| {
        let why = by_exit_code(pod, rule).or_else(|| by_condition(work, pod, rule))?;
        Some((rule.action, format!("{why} matching {:?} rule at index {at}", rule.action)))
    });
    fits.unwrap_or((FailureAction::Count, String::new()))
}

fn by_exit_code(pod: &Pod, rule: &FailureRule) -> Option<String> {
    let codes = rule.on_exit_codes.as_ref()?;
    let status = &pod.report.as_ref()?.status;
    let all = status.container_statuses.iter().chain(&status.init_container_statuses);
    let mut named =
        all.filter(|container| codes.container_name.as_ref().is_none_or(|n| *n == container.name));
    named.find_map(|container| match &container.state {
        ContainerState::Terminated(ended) if codes.matches(ended.exit_code) => Some(format!(
            "Container {} for pod {} failed with exit code {}",
            container.name, pod.binding.key, ended.exit_code
        )),
        _ => None,
    })
}

fn by_condition(work: &Work, pod: &Pod, rule: &FailureRule) -> Option<String> {
    let conditions = pod.report.iter().flat_map(|report| &report.status.conditions);
    let mut has: Vec<(&str, &str)> =
        conditions.map(|one| (one.kind.as_str(), one.status.as_str())).collect();
    let reason = pod.binding.deletion.as_ref().map(|deletion| deletion.reason.as_str());
    if reason.is_some_and(|reason| DISRUPTIONS.contains(&reason)) || is_fenced(work, pod) {
        has.push((DISRUPTION_TARGET, "True"));
    }
    let mut patterns = rule.on_pod_conditions.iter();
    patterns
        .find(|pattern| has.contains(&(pattern.kind.as_str(), pattern.status.as_str())))
        .map(|pattern| format!("Pod {} has condition {}", pod.binding.key, pattern.kind))
}

/// Enters one end.
fn take(work: &mut Work, job: &mut Running, end: &End) {
    if end.has_succeeded {
        succeed(work, job, end.index);
        return;
    }
    let name = &end.key;
    work.note(format!("{}: pod {name} failed", job.key));
    if end.meaning != FailureAction::Ignore {
        job.run.failed = job.run.failed.saturating_add(1);
    }
    let per_index = job.rules.backoff_limit_per_index.zip(end.index);
    if let Some((limit, index)) = per_index {
        fail_index(&mut job.run, index, limit, end.meaning);
        work.memory.timers.remove(&(job.key.clone(), Timer::Index(index)));
    } else {
        let failures = job.run.wait.failures.saturating_add(1);
        job.run.wait = Wait { failures, waited_s: 0 };
        work.memory.timers.remove(&(job.key.clone(), Timer::BackOff));
    }
    if end.meaning == FailureAction::FailJob && job.run.verdict().is_none() {
        verdict::decide(work, job, FAILURE_TARGET, "PodFailurePolicy", end.why.clone());
    }
}

fn succeed(work: &mut Work, job: &mut Running, index: Option<u32>) {
    let run = &mut job.run;
    match index.filter(|_| run.is_indexed) {
        Some(index) => {
            if run.completed.insert(index) {
                run.succeeded = run.succeeded.saturating_add(1);
            }
            run.index_waits.retain(|wait| wait.index != index);
        }
        None => run.succeeded = run.succeeded.saturating_add(1),
    }
    run.wait = Wait::default();
    work.memory.timers.remove(&(job.key.clone(), Timer::BackOff));
}

/// One more failure of an index; beyond its limit it is given up.
fn fail_index(run: &mut JobRun, index: u32, limit: u32, meaning: FailureAction) {
    let at = run.index_waits.iter().position(|wait| wait.index == index).unwrap_or_else(|| {
        run.index_waits.push(IndexWait { index, wait: Wait::default() });
        run.index_waits.len() - 1
    });
    let wait = &mut run.index_waits[at].wait;
    // A failure that does not count is waited for all the same, once.
    wait.failures = match meaning {
        FailureAction::Ignore => wait.failures.max(1),
        _ => wait.failures.saturating_add(1),
    };
    wait.waited_s = 0;
    let is_beyond = meaning != FailureAction::Ignore && wait.failures > limit;
    if is_beyond || meaning == FailureAction::FailIndex {
        run.index_waits.remove(at);
        run.failed_indexes.insert(index);
    }
}
