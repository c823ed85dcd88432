//! The records of Jobs and CronJobs.
//!
//! A Job's record outlives what it is about: what has run to its end is remembered by its template, so
//! that a `git revert` does not run an old migration again (docs/DESIGN.md, Hard cases 20). All of it
//! is bounded.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::records::Unknown;
use crate::kinds::binding::TemplateRef;
use crate::kinds::indexes::IndexSet;
use crate::kinds::job::JobRules;
use crate::kinds::labels::Labels;
use crate::kinds::name::{Name, Uid};
use crate::kinds::time::Wall;

/// How many runs of a Job with other templates are remembered.
pub const PAST_RUNS_MAX: usize = 20;

/// How many Jobs that are gone from Git are remembered in an app; the oldest are forgotten first.
pub const GONE_JOBS_MAX: usize = 200;

/// What the coordinator remembers of a Job.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobRecord {
    /// The run of the template in force; none while the Job is not in Git.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<JobRun>,
    /// Runs of other templates that came to their end, the newest last; bounded by [`PAST_RUNS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub past: Vec<JobRun>,
    /// The CronJob that made it, and how.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<MadeJob>,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What a Job got from the CronJob that made it: later edits of the CronJob do not reach it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MadeJob {
    /// The CronJob, in the same namespace.
    pub cron_job: Name,
    /// The minute it was made for.
    pub scheduled: Wall,
    /// What it asks for beside its template.
    pub rules: JobRules,
    /// Its labels.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Its annotations.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub annotations: Labels,
}

/// What the coordinator remembers of a CronJob.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CronRecord {
    /// Up to when it has been looked what was due.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Wall>,
    /// The minutes for which Jobs were made, the newest last; bounded by [`MINUTES_MAX`]. None of them
    /// is taken twice, wherever a clock jumps to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub minutes: Vec<Wall>,
    /// When a Job of it last came to a good end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_successful: Option<Wall>,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// How many minutes a CronJob remembers.
pub const MINUTES_MAX: usize = 20;

/// One run of a Job: from a template's coming into force to the last pod's end.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobRun {
    /// This life of the Job.
    pub uid: Uid,
    /// What its pods run.
    pub template: TemplateRef,
    /// Whether its completions are numbered; another mode is another run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_indexed: bool,
    /// When it was made.
    pub created: Wall,
    /// The order in which things were made: pods of this run are newer.
    pub sequence: u64,
    /// Since when it runs; none while it is suspended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<Wall>,
    /// For how long it had run when that was last written down, in seconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub active_s: u32,
    /// Pods that succeeded.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub succeeded: u32,
    /// Pods that failed.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub failed: u32,
    /// Indexes that are done.
    #[serde(default, skip_serializing_if = "IndexSet::is_empty")]
    pub completed: IndexSet,
    /// Indexes that are given up.
    #[serde(default, skip_serializing_if = "IndexSet::is_empty")]
    pub failed_indexes: IndexSet,
    /// The pods whose end stands in the counts, as long as they are bound: each counts once.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub counted: BTreeSet<Uid>,
    /// Failures since the last success.
    #[serde(default, skip_serializing_if = "Wait::is_nothing")]
    pub wait: Wait,
    /// Failures of indexes that are neither done nor given up, where each has a limit of its own.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub index_waits: Vec<IndexWait>,
    /// `Suspended`, `SuccessCriteriaMet`, `Complete`, `FailureTarget`, `Failed`, as they came.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<JobCondition>,
    /// Whether it was removed after its `ttlSecondsAfterFinished`, and is shown no more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_removed: bool,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Failures in a row, and how much of the wait after the last has passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Wait {
    /// Failures in a row.
    pub failures: u32,
    /// How much of the wait had passed when that was last written down, in seconds.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub waited_s: u32,
}

impl Wait {
    /// Whether there is nothing to wait for.
    pub fn is_nothing(&self) -> bool {
        self.failures == 0
    }
}

/// An index's failures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IndexWait {
    /// Which.
    pub index: u32,
    /// How often, and since when.
    #[serde(flatten)]
    pub wait: Wait,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(count: &u32) -> bool {
    *count == 0
}

/// One of a Job's conditions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct JobCondition {
    /// Which.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: bool,
    /// One word.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// Since when.
    pub since: Wall,
}

/// All that was asked for is done; what still runs is being ended.
pub const SUCCESS_CRITERIA_MET: &str = "SuccessCriteriaMet";
/// It has ended well.
pub const COMPLETE: &str = "Complete";
/// It has failed; what still runs is being ended.
pub const FAILURE_TARGET: &str = "FailureTarget";
/// It has ended badly.
pub const FAILED: &str = "Failed";
/// It waits.
pub const SUSPENDED: &str = "Suspended";

impl JobRun {
    /// The condition of that type, if it holds.
    pub fn condition(&self, kind: &str) -> Option<&JobCondition> {
        self.conditions.iter().find(|condition| condition.kind == kind && condition.status)
    }

    /// `Complete` or `Failed`, when all has ended.
    pub fn end(&self) -> Option<&JobCondition> {
        self.condition(COMPLETE).or_else(|| self.condition(FAILED))
    }

    /// `SuccessCriteriaMet` or `FailureTarget`, when how it ends is decided.
    pub fn verdict(&self) -> Option<&JobCondition> {
        self.condition(SUCCESS_CRITERIA_MET).or_else(|| self.condition(FAILURE_TARGET))
    }
}
