//! Jobs: how many pods, what their ends mean, and when it is over.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/job/>.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use proptest::prelude::{
    ProptestConfig, TestCaseError, any, prop, prop_assert, prop_assert_eq, prop_oneof, proptest,
};
use proptest::strategy::Strategy as Draw;

use super::fleet::pod_key;
use super::{Fleet, Mood, container, manifest, pod};
use crate::kinds::binding::Binding;
use crate::kinds::name::{Name, Uid};
use crate::kinds::status::{ContainerState, ContainerStatus, Phase, PodReport, Terminated};
use crate::state::PersonRequest;
use crate::state::jobs::JobRun;

/// A Job `load` in `shop`; `more` are further fields of its spec with `;` between.
pub(super) fn job(image: &str, more: &str) -> String {
    named_job("load", image, more)
}

fn named_job(name: &str, image: &str, more: &str) -> String {
    let more: String =
        more.split(';').filter(|m| !m.is_empty()).map(|m| format!("  {}\n", m.trim())).collect();
    let spec = format!(
        "spec:\n{more}  template:\n    spec: {{restartPolicy: Never, \
         terminationGracePeriodSeconds: 10, containers: [{{name: main, image: \"{image}\"}}]}}"
    );
    manifest("batch/v1", "Job", name, &spec)
}

/// A pod written by hand belongs to nobody, and a Job has a selector of its own that picks it.
#[test]
fn a_job_with_its_own_selector_takes_up_pods_that_belong_to_nobody() {
    let more = "completions: 2; parallelism: 2; manualSelector: true; \
                selector: {matchLabels: {app: load}}";
    let job = job("v1", more)
        .replace("  template:\n", "  template:\n    metadata: {labels: {app: load}}\n");
    let lone = pod("lone", "v1", "app: load").replace("spec: {", "spec: {restartPolicy: Never, ");
    let mut fleet = Fleet::running(&lone);
    let before = fleet.uids("lone");
    fleet.push(&format!("{lone}{job}"));
    fleet.turns();
    let owner = |fleet: &Fleet| fleet.bindings("lone")[0].owner.to_string();
    assert_eq!(owner(&fleet), "Job shop/load");
    assert_eq!((fleet.bindings("load").len(), fleet.uids("lone")), (1, before), "it counts");
    fleet.ends(|_| Mood::Succeeded);
    fleet.turns();
    fleet.turns();
    assert_eq!((fleet.run().succeeded, fleet.run().end().is_some()), (2, true));
    assert_eq!(fleet.uids("lone").len(), 1, "Git names it");
    // Without the Job it belongs to itself again.
    fleet.push(&lone);
    fleet.turns();
    assert_eq!(owner(&fleet), "Pod shop/lone");
}

/// Jobs that keep what they have come to.
trait Jobs {
    /// What is recorded of `load`.
    fn run(&self) -> JobRun;
    /// Each pod that runs becomes what `mood` says; one that has ended stays as it is.
    fn ends(&mut self, mood: impl Fn(&Binding) -> Mood);
    /// `2 active, 1 ending, 1 done, 0 failed`, and how it ends.
    fn story(&self) -> String;
    /// A turn, then another if the first asked for it.
    fn turns(&mut self);
    /// The pods that run, oldest first.
    fn active(&self) -> Vec<Arc<Binding>>;
}

impl Jobs for Fleet {
    fn run(&self) -> JobRun {
        self.state().jobs[&pod_key("load")].run.clone().expect("it is in Git")
    }

    fn ends(&mut self, mood: impl Fn(&Binding) -> Mood) {
        let before = self.input.nodes["a"].pods.clone();
        self.work_as(|binding, _| match before.get(&binding.uid).map(|r| r.status.phase) {
            Some(Phase::Succeeded) => Mood::Succeeded,
            Some(Phase::Failed) => Mood::Failed,
            _ => mood(binding),
        });
    }

    fn story(&self) -> String {
        let (mut active, mut ending) = (0, 0);
        for binding in self.bindings("load") {
            let node = binding.deletion.is_some();
            let report = self.input.nodes["a"].pods.get(&binding.uid);
            let is_over = report.is_some_and(|report| report.status.phase.is_over());
            active += u32::from(!node && !is_over);
            ending += u32::from(node && !is_over);
        }
        let run = self.run();
        let end = run.end().or(run.verdict());
        let end = end.map_or(String::new(), |c| format!(", {} {}", c.kind, c.reason));
        format!(
            "{active} active, {ending} ending, {} done, {} failed{end}",
            run.succeeded, run.failed
        )
    }

    fn turns(&mut self) {
        for _ in 0..4 {
            self.turn();
        }
    }

    fn active(&self) -> Vec<Arc<Binding>> {
        let is_over = |uid: &Uid| {
            let report = self.input.nodes["a"].pods.get(uid);
            report.is_some_and(|report| report.status.phase.is_over())
        };
        let mut pods = self.bindings("load");
        pods.retain(|binding| binding.deletion.is_none() && !is_over(&binding.uid));
        pods
    }
}

fn started(more: &str) -> Fleet {
    let mut fleet = Fleet::new();
    fleet.push(&job("v1", more));
    fleet.turns();
    fleet
}

/// What a Job comes to when all its pods succeed, one after the other, round by round.
#[test]
fn a_job_is_complete_when_enough_of_its_pods_are() {
    let table: [(&str, &[&str]); 6] = [
        (
            "",
            &[
                "1 active, 0 ending, 0 done, 0 failed",
                "0 active, 0 ending, 1 done, 0 failed, Complete CompletionsReached",
            ],
        ),
        (
            "completions: 3; parallelism: 2",
            &[
                "2 active, 0 ending, 0 done, 0 failed",
                "1 active, 0 ending, 2 done, 0 failed",
                "0 active, 0 ending, 3 done, 0 failed, Complete CompletionsReached",
            ],
        ),
        (
            "completions: 2; parallelism: 5",
            &[
                "2 active, 0 ending, 0 done, 0 failed",
                "0 active, 0 ending, 2 done, 0 failed, Complete CompletionsReached",
            ],
        ),
        (
            "parallelism: 2",
            &[
                "2 active, 0 ending, 0 done, 0 failed",
                "0 active, 0 ending, 2 done, 0 failed, Complete CompletionsReached",
            ],
        ),
        ("parallelism: 0; completions: 1", &["0 active, 0 ending, 0 done, 0 failed"]),
        (
            "completions: 0; parallelism: 1",
            &["0 active, 0 ending, 0 done, 0 failed, Complete CompletionsReached"],
        ),
    ];
    for (more, rounds) in table {
        let mut fleet = started(more);
        for (at, round) in rounds.iter().enumerate() {
            assert_eq!(fleet.story(), *round, "{more}, round {at}");
            fleet.ends(|_| Mood::Succeeded);
            fleet.turns();
        }
        assert!(!fleet.turn(), "{more}: it is at rest");
    }
}

#[test]
fn one_that_finds_the_queue_empty_lets_the_others_finish() {
    let mut fleet = started("parallelism: 3");
    let first = fleet.active()[0].uid.clone();
    fleet.ends(|pod| if pod.uid == first { Mood::Succeeded } else { Mood::Ready });
    fleet.turns();
    assert_eq!(fleet.story(), "2 active, 0 ending, 1 done, 0 failed");
    let second = fleet.active()[0].uid.clone();
    fleet.ends(|pod| if pod.uid == second { Mood::Failed } else { Mood::Ready });
    fleet.turns();
    assert_eq!(fleet.story(), "1 active, 0 ending, 1 done, 1 failed", "nobody is made any more");
    fleet.ends(|_| Mood::Succeeded);
    fleet.turns();
    assert_eq!(fleet.story(), "0 active, 0 ending, 2 done, 1 failed, Complete CompletionsReached");
}

/// A failure, and the seconds until the next pod is made.
#[test]
fn failures_are_waited_for_longer_each_time_until_it_gives_up() {
    let mut fleet = started("backoffLimit: 7");
    for wait in [10, 20, 40, 80, 160, 320, 360] {
        fleet.ends(|_| Mood::Failed);
        fleet.turns();
        assert!(fleet.active().is_empty(), "{wait}");
        for _ in 0..wait - 1 {
            fleet.pass(1).turn();
        }
        assert!(fleet.active().is_empty(), "{wait}: one second early");
        fleet.pass(1).turns();
        assert_eq!(fleet.active().len(), 1, "{wait}");
    }
    fleet.ends(|_| Mood::Failed);
    fleet.turns();
    let end = "0 active, 0 ending, 0 done, 8 failed, Failed BackoffLimitExceeded";
    assert_eq!(fleet.story(), end);
    assert_eq!(
        fleet.event("BackoffLimitExceeded").as_deref(),
        Some("Job shop/load: Job has reached the specified backoff limit")
    );
    assert_eq!(fleet.bindings("load").len(), 8, "all stay for their logs");
}

#[test]
fn another_coordinator_goes_on_with_the_wait() {
    let mut fleet = started("backoffLimit: 9");
    for _ in 0..6 {
        fleet.ends(|_| Mood::Failed);
        fleet.turns();
        fleet.pass(360).turns();
    }
    fleet.ends(|_| Mood::Failed);
    fleet.turns();
    for _ in 0..300 {
        fleet.pass(1).turn();
    }
    fleet.memory = super::super::Memory::default();
    fleet.turn();
    assert!(fleet.active().is_empty());
    for _ in 0..36 + 60 {
        fleet.pass(1).turn();
    }
    assert_eq!(fleet.active().len(), 1, "at most a tenth is waited for twice");
}

#[test]
fn an_index_is_done_once_and_has_its_name() {
    let mut fleet = started("completions: 4; parallelism: 3; completionMode: Indexed");
    let indexes = |fleet: &Fleet| -> Vec<Option<u32>> {
        fleet.active().iter().map(|pod| pod.index).collect()
    };
    assert_eq!(indexes(&fleet), [Some(0), Some(1), Some(2)]);
    let pod = fleet.active()[1].clone();
    assert!(pod.key.name.as_str().starts_with("load-1-"), "{}", pod.key);
    let template = super::super::template_for(&pod, &fleet.input.apps, &fleet.input.library);
    let template = template.expect("it is in force");
    assert_eq!(template.spec.hostname.as_ref().map(Name::as_str), Some("load-1"));
    assert_eq!(template.labels["batch.kubernetes.io/job-completion-index"], "1");
    assert_eq!(pod.labels["batch.kubernetes.io/job-name"], "load");

    fleet.ends(|pod| if pod.index == Some(1) { Mood::Failed } else { Mood::Succeeded });
    fleet.turns();
    assert_eq!(fleet.run().completed.to_string(), "0,2");
    fleet.pass(10).turns();
    assert_eq!(indexes(&fleet), [Some(1), Some(3)]);
    fleet.ends(|_| Mood::Succeeded);
    fleet.turns();
    assert_eq!(fleet.run().completed.to_string(), "0-3");
    assert!(fleet.run().end().is_some_and(|end| end.kind == "Complete"));
}

#[test]
fn an_index_has_a_limit_of_its_own() {
    let more = "completions: 3; parallelism: 3; completionMode: Indexed; backoffLimitPerIndex: 1";
    let mut fleet = started(more);
    for _ in 0..2 {
        fleet.ends(|pod| if pod.index == Some(1) { Mood::Failed } else { Mood::Succeeded });
        fleet.turns();
        fleet.pass(20).turns();
    }
    let run = fleet.run();
    assert_eq!(
        (run.completed.to_string(), run.failed_indexes.to_string()),
        ("0,2".into(), "1".into())
    );
    assert_eq!(fleet.story(), "0 active, 0 ending, 2 done, 2 failed, Failed FailedIndexes");
    let mut fleet = started(&format!("{more}; maxFailedIndexes: 0"));
    for _ in 0..2 {
        fleet.ends(|pod| if pod.index == Some(1) { Mood::Failed } else { Mood::Ready });
        fleet.turns();
        fleet.pass(20).turns();
    }
    fleet.ends(|_| Mood::Ready);
    fleet.turns();
    assert_eq!(
        fleet.story(),
        "0 active, 0 ending, 0 done, 2 failed, Failed MaxFailedIndexesExceeded"
    );
}

#[test]
fn what_is_ending_is_waited_for_before_it_is_over() {
    let mut fleet = started(
        "completions: 2; parallelism: 2; completionMode: Indexed; successPolicy: {rules: [{succeededIndexes: \"0\"}]}",
    );
    fleet.ends(|pod| if pod.index == Some(0) { Mood::Succeeded } else { Mood::Clings });
    fleet.turns();
    assert_eq!(
        fleet.story(),
        "0 active, 1 ending, 1 done, 0 failed, SuccessCriteriaMet SuccessPolicy"
    );
    fleet.ends(|_| Mood::Ready);
    fleet.turns();
    assert_eq!(fleet.story(), "0 active, 0 ending, 1 done, 0 failed, Complete SuccessPolicy");
}

/// How a container ended, and what becomes of the Job by its rules.
#[test]
fn rules_say_what_a_failure_means() {
    let rules = "backoffLimit: 0; podFailurePolicy: {rules: [\
                 {action: FailJob, onExitCodes: {operator: In, values: [42]}}, \
                 {action: Ignore, onExitCodes: {operator: In, values: [7]}}, \
                 {action: Ignore, onPodConditions: [{type: DisruptionTarget}]}]}";
    let table = [
        (42, "0 active, 0 ending, 0 done, 1 failed, Failed PodFailurePolicy"),
        (7, "1 active, 0 ending, 0 done, 0 failed"),
        (1, "0 active, 0 ending, 0 done, 1 failed, Failed BackoffLimitExceeded"),
    ];
    for (code, story) in table {
        let mut fleet = started(rules);
        fleet.ends(|_| Mood::Failed);
        let node = fleet.input.nodes.get_mut("a").expect("the node");
        let end = |report: &Arc<PodReport>| {
            let mut report = PodReport::clone(report);
            report.status.container_statuses = vec![ended(code)];
            Arc::new(report)
        };
        let reports: BTreeMap<_, _> = node.pods.iter().map(|(u, r)| (u.clone(), end(r))).collect();
        node.pods = Arc::new(reports);
        fleet.turns();
        fleet.pass(10).turns();
        assert_eq!(fleet.story(), story, "exit code {code}");
    }
}

fn ended(code: i64) -> ContainerStatus {
    let state = ContainerState::Terminated(Terminated { exit_code: code, ..Terminated::default() });
    ContainerStatus { state, ..container("main") }
}

#[test]
fn a_pod_that_somebody_ends_counts_once() {
    let table = [
        ("completions: 1", "1 active, 0 ending, 0 done, 1 failed"),
        ("completions: 1; completionMode: Indexed", "1 active, 0 ending, 0 done, 1 failed"),
        ("completions: 1; podReplacementPolicy: Failed", "1 active, 0 ending, 0 done, 1 failed"),
    ];
    for (more, story) in table {
        let mut fleet = started(more);
        fleet.ends(|_| Mood::Ready);
        let pod = fleet.active()[0].clone();
        ask_end(&mut fleet, &pod);
        fleet.ends(|_| Mood::Clings);
        fleet.turns();
        let waits = !more.ends_with("s: 1");
        assert_eq!(fleet.run().failed, u32::from(!waits), "{more}: while it ends");
        assert!(fleet.active().len() <= usize::from(!waits), "{more}: while it ends");
        fleet.ends(|_| Mood::Ready);
        fleet.turns();
        fleet.pass(10).turns();
        assert_eq!(fleet.story(), story, "{more}");
        assert!(!fleet.bindings("load").iter().any(|other| other.uid == pod.uid), "{more}");
    }
}

fn ask_end(fleet: &mut Fleet, pod: &Binding) {
    let request = PersonRequest {
        id: Uid::trusted(&format!("end {}", pod.uid)),
        by: "alice".into(),
        at: fleet.now.wall,
        what: crate::state::RequestKind::DeletePod {
            pod: pod.key.clone(),
            uid: None,
            grace_s: None,
        },
        unknown: BTreeMap::new(),
    };
    let node = fleet.input.nodes.get_mut("a").expect("the node");
    node.requests = Arc::new(vec![request]);
    fleet.turn();
}

#[test]
fn it_is_given_up_when_its_time_is_over() {
    let mut fleet = started("activeDeadlineSeconds: 100; backoffLimit: 0");
    fleet.ends(|_| Mood::Ready);
    for _ in 0..99 {
        fleet.pass(1).turn();
    }
    assert_eq!(fleet.story(), "1 active, 0 ending, 0 done, 0 failed");
    fleet.pass(1).turn();
    assert_eq!(
        fleet.story(),
        "0 active, 1 ending, 0 done, 0 failed, FailureTarget DeadlineExceeded"
    );
    fleet.ends(|_| Mood::Ready);
    fleet.turns();
    assert_eq!(fleet.story(), "0 active, 0 ending, 0 done, 0 failed, Failed DeadlineExceeded");
}

#[test]
fn a_suspended_job_waits_and_its_time_with_it() {
    let mut fleet = started("completions: 2; activeDeadlineSeconds: 100");
    fleet.ends(|_| Mood::Succeeded);
    fleet.turns();
    fleet.ends(|_| Mood::Ready);
    fleet.push(&job("v1", "completions: 2; activeDeadlineSeconds: 100; suspend: true"));
    fleet.turns();
    fleet.ends(|pod| if pod.deletion.is_some() { Mood::Succeeded } else { Mood::Ready });
    fleet.turns();
    assert_eq!(
        fleet.story(),
        "0 active, 0 ending, 1 done, 0 failed",
        "what it exits with now says nothing"
    );
    assert_eq!(fleet.run().condition("Suspended").map(|c| c.reason.as_str()), Some("JobSuspended"));
    fleet.pass(1000).turns();
    fleet.push(&job("v1", "completions: 2; activeDeadlineSeconds: 100"));
    fleet.turns();
    assert_eq!(fleet.story(), "1 active, 0 ending, 1 done, 0 failed");
    assert!(fleet.run().condition("Suspended").is_none());
}

#[test]
fn another_template_is_another_run_and_a_revert_runs_nothing_again() {
    let mut fleet = started("");
    fleet.ends(|_| Mood::Succeeded);
    fleet.turns();
    let first = fleet.run();
    fleet.push(&job("v2", ""));
    fleet.turn();
    assert_eq!(fleet.pods("load"), "v2=1 leaving=1", "the finished pod goes");
    fleet.ends(|_| Mood::Succeeded);
    fleet.turns();
    assert!(fleet.run().end().is_some() && fleet.run().uid != first.uid);
    for _ in 0..2 {
        fleet.push_as("Revert \"a change\"", &job("v1", ""));
        fleet.turns();
        fleet.ends(|_| Mood::Ready);
        fleet.turns();
        assert_eq!(fleet.pods("load"), "", "v1 ran already");
        assert_eq!((fleet.run().uid, fleet.run().succeeded), (first.uid.clone(), 1));
        fleet.push(&job("v2", ""));
        fleet.turns();
        assert_eq!(fleet.pods("load"), "", "and so did v2");
    }
    assert!(fleet.event("AlreadyRan").is_some());
}

#[test]
fn a_job_that_comes_back_to_git_does_not_run_again() {
    let mut fleet = started("");
    fleet.ends(|_| Mood::Succeeded);
    fleet.turns();
    fleet.push_as("gone\n\nWindlass-Allow-Prune: yes", "");
    fleet.turns();
    fleet.ends(|_| Mood::Ready);
    fleet.turns();
    assert_eq!(fleet.pods("load"), "");
    fleet.push(&job("v1", ""));
    fleet.turns();
    assert_eq!(fleet.pods("load"), "");
    assert!(fleet.run().end().is_some());
}

#[test]
fn a_run_that_was_broken_off_begins_anew_after_the_other_has_ended() {
    let mut fleet = started("");
    fleet.ends(|_| Mood::Ready);
    fleet.push(&job("v2", ""));
    fleet.turn();
    fleet.ends(|_| Mood::Clings);
    fleet.turns();
    assert_eq!(fleet.pods("load"), "leaving=1", "two templates never run side by side");
    fleet.ends(|_| Mood::Ready);
    fleet.turns();
    assert_eq!(fleet.pods("load"), "v2=1");
    fleet.push(&job("v1", ""));
    fleet.turn();
    fleet.ends(|_| Mood::Ready);
    fleet.turns();
    assert_eq!(fleet.pods("load"), "v1=1", "it had not come to its end");
}

#[test]
fn what_is_removed_after_its_time_does_not_come_back() {
    let mut fleet = started("ttlSecondsAfterFinished: 60");
    fleet.ends(|_| Mood::Succeeded);
    fleet.turns();
    fleet.pass(59).turns();
    assert_eq!(fleet.pods("load"), "v1=1");
    fleet.pass(1).turns();
    fleet.ends(|_| Mood::Ready);
    fleet.turns();
    assert_eq!(fleet.pods("load"), "");
    assert!(fleet.run().is_removed);
    fleet.push(&job("v1", "ttlSecondsAfterFinished: 90"));
    fleet.turns();
    assert_eq!(fleet.pods("load"), "", "the manifest is no drift");
    fleet.push(&job("v2", "ttlSecondsAfterFinished: 60"));
    fleet.turns();
    assert_eq!(fleet.pods("load"), "v2=1", "another template is another run");
}

/// What the world may do to a Job's pods, and people to the Job.
#[derive(Clone, Debug)]
enum Deed {
    Push { parallelism: u32, completions: u32, image: u32, suspend: bool },
    Work(Vec<u8>),
    Ask(usize),
    Pass(u64),
    Forget,
}

fn deeds() -> impl Draw<Value = Vec<Deed>> {
    let push = (0..4_u32, 0..5_u32, 0..2_u32, any::<bool>()).prop_map(
        |(parallelism, completions, image, suspend)| Deed::Push {
            parallelism,
            completions,
            image,
            suspend: suspend && parallelism > 2,
        },
    );
    let deed = prop_oneof![
        1 => push,
        5 => prop::collection::vec(any::<u8>(), 8).prop_map(Deed::Work),
        1 => (0..4_usize).prop_map(Deed::Ask),
        3 => (1..50_u64).prop_map(Deed::Pass),
        1 => proptest::strategy::Just(Deed::Forget),
    ];
    prop::collection::vec(deed, 1..40)
}

fn spec(parallelism: u32, completions: u32, indexed: bool, suspend: bool) -> String {
    let mode = if indexed { "Indexed" } else { "NonIndexed" };
    format!(
        "parallelism: {parallelism}; completions: {completions}; completionMode: {mode}; \
         backoffLimit: 3; suspend: {suspend}"
    )
}

/// What must hold after any turn.
fn check(fleet: &Fleet, seen: &mut BTreeMap<Uid, BTreeSet<u32>>) -> Result<(), TestCaseError> {
    let run = fleet.run();
    let rules = {
        let app = fleet.input.apps.values().next().expect("the app");
        let applied = app.applied.as_ref().expect("in force");
        let key = super::fleet::key(crate::kinds::registry::Kind::Job, "load");
        match &applied.desired.objects[&key].body {
            crate::kinds::object::Body::Job(job) => job.rules.clone(),
            _ => return Ok(()),
        }
    };
    let active = fleet.active();
    let count = u32::try_from(active.len()).expect("few");
    prop_assert!(count <= rules.parallelism, "{count} of {}", rules.parallelism);
    prop_assert!(run.failed <= rules.backoff_limit + 4, "each of four may fail at once, once");
    if rules.is_indexed() {
        let mut indexes = BTreeSet::new();
        for pod in fleet.bindings("load") {
            let report = fleet.input.nodes["a"].pods.get(&pod.uid);
            let runs = report.is_none_or(|r| !r.status.phase.is_over() && !r.gone);
            if runs && pod.sequence > run.sequence {
                prop_assert!(indexes.insert(pod.index), "two pods of {:?}", pod.index);
            }
        }
        let done = seen.entry(run.uid.clone()).or_default();
        for index in 0..8 {
            prop_assert!(run.completed.contains(index) || !done.contains(&index), "undone");
            if run.completed.contains(index) {
                done.insert(index);
            }
        }
        prop_assert!(run.succeeded <= 8);
    }
    if run.verdict().is_some() {
        prop_assert_eq!(count, 0, "nothing runs when how it ends is decided");
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    /// Safety at every step, and in the end it settles.
    #[test]
    fn a_job_keeps_its_bounds_and_comes_to_an_end(deeds in deeds(), indexed in any::<bool>()) {
        let mut fleet = started(&spec(2, 3, indexed, false));
        let mut seen = BTreeMap::new();
        for deed in deeds {
            match deed {
                Deed::Push { parallelism, completions, image, suspend } => {
                    let more = spec(parallelism, completions, indexed, suspend);
                    fleet.push(&job(&format!("v{image}"), &more));
                }
                Deed::Work(fates) => {
                    fleet.ends(|pod| {
                        let at = usize::try_from(pod.sequence).unwrap_or(0) % fates.len();
                        match fates[at] % 6 {
                            0 | 1 => Mood::Succeeded,
                            2 => Mood::Failed,
                            3 => Mood::Clings,
                            4 => Mood::Silent,
                            _ => Mood::Ready,
                        }
                    });
                }
                Deed::Ask(at) => {
                    if let Some(pod) = fleet.active().get(at).cloned() {
                        ask_end(&mut fleet, &pod);
                    }
                }
                Deed::Pass(seconds) => {
                    fleet.pass(seconds);
                }
                Deed::Forget => fleet.memory = super::super::Memory::default(),
            }
            let mut again = fleet.clone();
            fleet.turn();
            again.turn();
            prop_assert_eq!(&fleet.input.state, &again.input.state, "the same input, the same bytes");
            check(&fleet, &mut seen)?;
        }
        fleet.push(&job("v1", &spec(2, 3, indexed, false)));
        for _ in 0..60 {
            fleet.turns();
            check(&fleet, &mut seen)?;
            fleet.ends(|_| Mood::Succeeded);
            fleet.pass(60);
        }
        prop_assert!(fleet.run().end().is_some(), "{}", fleet.story());
        prop_assert!(!fleet.turn(), "it is at rest");
    }
}
