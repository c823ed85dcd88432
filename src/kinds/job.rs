//! Jobs: pods that end, and when enough of them have.
//!
//! What a Job asks for is split in two: its template, and its rules. The rules are small and stand by
//! themselves, so that a Job made by a CronJob can carry those it was made with.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::indexes::IndexSet;
use super::labels::{Labels, Selector};
use super::name::Name;
use super::pod::PodTemplate;
use super::schedule::Schedule;

/// Pods that end.
#[derive(Clone, Debug)]
pub struct Job {
    /// How many, and what counts as the end.
    pub rules: JobRules,
    /// What they run.
    pub template: Arc<PodTemplate>,
    /// The selector as written, with `manualSelector`: the pods then carry no generated labels.
    pub manual_selector: Option<Selector>,
}

/// Everything a Job says beside its template; in the JSON of Kubernetes' `JobSpec`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobRules {
    /// How many pods run side by side.
    pub parallelism: u32,
    /// How many must succeed; without it the pods share a work queue, and one that succeeds says
    /// that it is empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completions: Option<u32>,
    /// Whether each completion has a number.
    pub completion_mode: CompletionMode,
    /// How many pods may fail.
    pub backoff_limit: u32,
    /// How many pods of one index may fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backoff_limit_per_index: Option<u32>,
    /// How many indexes may fail.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_failed_indexes: Option<u32>,
    /// How long it may take, in seconds.
    #[serde(default, rename = "activeDeadlineSeconds", skip_serializing_if = "Option::is_none")]
    pub active_deadline_s: Option<u32>,
    /// How long it is kept after its end, in seconds.
    #[serde(default, rename = "ttlSecondsAfterFinished", skip_serializing_if = "Option::is_none")]
    pub ttl_s: Option<u32>,
    /// Whether it waits.
    pub suspend: bool,
    /// When a pod that is ending is replaced.
    pub pod_replacement_policy: ReplacementPolicy,
    /// What failures mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod_failure_policy: Option<Rules<FailureRule>>,
    /// Which indexes are enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub success_policy: Option<Rules<SuccessRule>>,
}

impl JobRules {
    /// Whether each completion has a number.
    pub fn is_indexed(&self) -> bool {
        self.completion_mode == CompletionMode::Indexed
    }
}

/// Rules in order; the first that fits counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rules<T> {
    /// They.
    pub rules: Vec<T>,
}

/// Whether completions are numbered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum CompletionMode {
    /// One is as good as another.
    #[default]
    NonIndexed,
    /// Each has its number, from 0.
    Indexed,
}

/// When a pod that is ending is replaced.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum ReplacementPolicy {
    /// As soon as its end is decided.
    #[default]
    TerminatingOrFailed,
    /// When it has ended.
    Failed,
}

/// What a kind of failure means.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FailureRule {
    /// What it means.
    pub action: FailureAction,
    /// By how a container ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_exit_codes: Option<ExitCodes>,
    /// By a condition of the pod.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub on_pod_conditions: Vec<ConditionPattern>,
}

/// What a failure means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureAction {
    /// It counts.
    Count,
    /// The whole Job has failed.
    FailJob,
    /// Its index has failed.
    FailIndex,
    /// It does not count.
    Ignore,
}

/// How a container ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ExitCodes {
    /// Which container; any where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub container_name: Option<Name>,
    /// Whether the codes are those that fit, or those that don't.
    pub operator: CodeOperator,
    /// Exit codes.
    pub values: Vec<i32>,
}

impl ExitCodes {
    /// Whether a failure with this code fits. Success never does.
    pub fn matches(&self, code: i64) -> bool {
        let is_listed = self.values.iter().any(|value| i64::from(*value) == code);
        code != 0 && is_listed == (self.operator == CodeOperator::In)
    }
}

/// How exit codes are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum CodeOperator {
    /// One of them.
    In,
    /// None of them.
    NotIn,
}

/// A condition of a pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConditionPattern {
    /// Which.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
}

/// Which indexes are enough.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SuccessRule {
    /// These; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded_indexes: Option<IndexSet>,
    /// So many of them; all where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub succeeded_count: Option<u32>,
}

impl SuccessRule {
    /// Whether what is done is enough.
    pub fn is_met(&self, done: &IndexSet, completions: u32) -> bool {
        let (found, all) = match &self.succeeded_indexes {
            Some(named) => (done.common_below(named, completions), named.count_below(completions)),
            None => (done.count_below(completions), completions),
        };
        found >= self.succeeded_count.unwrap_or(all)
    }
}

/// Jobs at set times.
#[derive(Clone, Debug)]
pub struct CronJob {
    /// When.
    pub schedule: Schedule,
    /// What happens if the one before still runs.
    pub concurrency: Concurrency,
    /// How late one may begin, in seconds.
    pub starting_deadline_s: Option<u32>,
    /// Whether it waits.
    pub suspend: bool,
    /// How many that ended well are kept.
    pub successful_history: u32,
    /// How many that ended badly are kept.
    pub failed_history: u32,
    /// What is made.
    pub job: Job,
    /// Labels of what is made.
    pub labels: Labels,
    /// Annotations of what is made.
    pub annotations: Labels,
}

/// What happens if the Job before still runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Concurrency {
    /// Both run.
    #[default]
    Allow,
    /// The next one waits.
    Forbid,
    /// The one before is ended.
    Replace,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_success_rule_counts_only_what_it_names() {
        let set = |text: &str| IndexSet::parse(text).expect("a set");
        let table = [
            (None, Some(2), "0,3", true),
            (None, Some(3), "0,3", false),
            (Some("0-2"), None, "0-2", true),
            (Some("0-2"), None, "0,1,4", false),
            (Some("0-2"), Some(1), "2", true),
            (Some("0-2"), Some(1), "4", false),
        ];
        for (named, count, done, met) in table {
            let rule = SuccessRule { succeeded_indexes: named.map(set), succeeded_count: count };
            assert_eq!(rule.is_met(&set(done), 5), met, "{rule:?} of {done}");
        }
    }

    #[test]
    fn exit_codes_never_match_success() {
        let codes = |operator| ExitCodes { container_name: None, operator, values: vec![3, 4] };
        let table = [(0, false, false), (3, true, false), (5, false, true)];
        for (code, is_in, is_not_in) in table {
            assert_eq!(codes(CodeOperator::In).matches(code), is_in, "{code}");
            assert_eq!(codes(CodeOperator::NotIn).matches(code), is_not_in, "{code}");
        }
    }
}
