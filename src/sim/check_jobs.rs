//! What must hold of Jobs and CronJobs at every decision, and what must have become of them in the end.

use std::collections::{BTreeMap, BTreeSet};

use crate::kinds::binding::Binding;
use crate::kinds::name::Uid;
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::kinds::time::Wall;
use crate::state::State;
use crate::state::jobs::{JobRun, SUSPENDED};

use super::check::Violation;

/// Remembers what was counted before, for what may only grow or happen once.
#[derive(Debug, Default)]
pub(super) struct JobsSeen {
    /// For each minute of each life of a CronJob, the Job it got.
    minutes: BTreeMap<(Uid, Wall), Uid>,
    /// What each run had come to.
    counts: BTreeMap<Uid, (u32, u32)>,
}

impl JobsSeen {
    /// Checks a decision against all before it.
    pub(super) fn check(&mut self, state: &State) -> Result<(), Violation> {
        for app in state.apps.values() {
            for (key, record) in &app.jobs {
                let Some(run) = &record.run else {
                    continue;
                };
                if let Some(made) = &record.made {
                    let cron = Key::namespaced(Kind::CronJob, &key.namespace, &made.cron_job);
                    let life = app.entry(&cron).map(|entry| entry.uid.clone());
                    let minute = (life.unwrap_or_else(|| Uid::trusted("gone")), made.scheduled);
                    let first = self.minutes.entry(minute).or_insert_with(|| run.uid.clone());
                    if *first != run.uid {
                        return Err(format!("Job {key} was made twice for {}", made.scheduled));
                    }
                }
                self.grows_by_what_ended(state, key, run)?;
            }
        }
        Ok(())
    }

    /// No count falls, no index counts twice, none has two pods.
    fn grows_by_what_ended(
        &mut self,
        state: &State,
        key: &crate::state::RecordKey,
        run: &JobRun,
    ) -> Result<(), Violation> {
        let (good, bad) =
            self.counts.insert(run.uid.clone(), (run.succeeded, run.failed)).unwrap_or_default();
        if run.succeeded < good || run.failed < bad {
            return Err(format!("the counts of Job {key} fell"));
        }
        if run.is_indexed && run.succeeded != run.completed.count_below(u32::MAX) {
            return Err(format!("Job {key} counts {} of {}", run.succeeded, run.completed));
        }
        let is_own = |pod: &&Binding| {
            let is_its = pod.owner.kind == Kind::Job && pod.owner.name == key.name;
            is_its && pod.sequence > run.sequence
        };
        let mut indexes = BTreeSet::new();
        for pod in state.all_pods().map(|(_, pod)| &**pod).filter(is_own) {
            let may_run = !run.counted.contains(&pod.uid) && pod.deletion.is_none();
            if may_run && pod.index.is_some() && !indexes.insert(pod.index) {
                return Err(format!("Job {key} has two pods of index {:?}", pod.index));
            }
        }
        Ok(())
    }
}

/// Every Job that is in force has come to its end, or somebody suspended it; one made by a CronJob may have begun just now.
pub(super) fn have_ended(state: &State) -> Result<(), String> {
    for app in state.apps.values() {
        for (key, record) in app.jobs.iter().filter(|(_, record)| record.made.is_none()) {
            let is_under_way =
                |run: &JobRun| run.end().is_none() && run.condition(SUSPENDED).is_none();
            if record.run.as_ref().is_some_and(is_under_way) {
                return Err(format!("Job {key} has not come to its end"));
            }
        }
    }
    Ok(())
}
