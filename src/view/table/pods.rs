//! Pods: the table everybody looks at first. What one word says of all containers follows
//! `printPod`, container by container.

use serde_json::Value;

use super::cells::{NONE, age, or_none};
use super::{Column, name, shown, wide};
use crate::kinds::status::{CONDITION_INITIALIZED, CONDITION_READY};
use crate::kinds::time::{Wall, human_duration};
use crate::view::json::{is_true, items, number, text};
use crate::view::objects::ANNOTATION_PULLED;

pub(super) const COLUMNS: &[Column] = &[
    shown("Name"),
    shown("Ready"),
    shown("Status"),
    shown("Restarts"),
    shown("Age"),
    wide("IP"),
    wide("Node"),
    wide("Nominated Node"),
    wide("Readiness Gates"),
];

pub(super) fn cells(pod: &Value, now: Wall) -> Vec<Value> {
    let summary = summary(pod);
    let restarts = match summary.last_restart {
        Some(at) if summary.restarts > 0 => {
            let ago = human_duration(now.since(at));
            format!("{} ({ago} ago)", summary.restarts)
        }
        _ => summary.restarts.to_string(),
    };
    vec![
        name(pod),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.word.into(),
        restarts.into(),
        age(pod, now).into(),
        or_none(text(pod, "status.podIP")).into(),
        or_none(text(pod, "spec.nodeName")).into(),
        or_none(text(pod, "status.nominatedNodeName")).into(),
        gates(pod).into(),
    ]
}

fn gates(pod: &Value) -> String {
    let gates = items(pod, "spec.readinessGates");
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let holds = gates.iter().filter(|gate| has_condition(pod, text(gate, "conditionType")));
    format!("{}/{}", holds.count(), gates.len())
}

fn has_condition(pod: &Value, kind: &str) -> bool {
    items(pod, "status.conditions")
        .iter()
        .any(|condition| text(condition, "type") == kind && text(condition, "status") == "True")
}

/// A pod in one line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::view) struct Summary {
    /// Containers that are ready.
    pub(in crate::view) ready: usize,
    /// Containers there are.
    pub(in crate::view) total: usize,
    /// `Running`, `CrashLoopBackOff`, `Init:0/2`, `Terminating` …
    pub(in crate::view) word: String,
    /// How often containers were started again.
    pub(in crate::view) restarts: i64,
    /// When last.
    pub(in crate::view) last_restart: Option<Wall>,
}

impl Summary {
    fn count_restarts(&mut self, status: &Value) {
        self.restarts += number(status, "restartCount");
        let finished = Wall::parse(text(status, "lastState.terminated.finishedAt"));
        self.last_restart = self.last_restart.max(finished);
    }
}

/// Puts a pod in one line.
pub(in crate::view) fn summary(pod: &Value) -> Summary {
    let init = items(pod, "spec.initContainers");
    let sidecars: Vec<&str> = init
        .iter()
        .filter(|container| text(container, "restartPolicy") == "Always")
        .map(|container| text(container, "name"))
        .collect();
    let phase = text(pod, "status.phase");
    let reason = text(pod, "status.reason");
    let mut summary = Summary {
        total: items(pod, "spec.containers").len() + sidecars.len(),
        word: if reason.is_empty() { phase } else { reason }.to_owned(),
        ..Summary::default()
    };
    let mut of_sidecars = Summary::default();
    let is_initializing = start_up(pod, init.len(), &sidecars, &mut summary, &mut of_sidecars);
    if !is_initializing || has_condition(pod, CONDITION_INITIALIZED) {
        summary.restarts = of_sidecars.restarts;
        summary.last_restart = of_sidecars.last_restart;
        main_part(pod, &mut summary);
    }
    let pulled = pod.pointer("/metadata/annotations").map(|all| &all[ANNOTATION_PULLED]);
    if let Some(pulled) = pulled.and_then(Value::as_str) {
        summary.word = format!("{} ({pulled})", summary.word);
    }
    let is_leaving = !text(pod, "metadata.deletionTimestamp").is_empty();
    if is_leaving && reason == "NodeLost" {
        "Unknown".clone_into(&mut summary.word);
    } else if is_leaving && !["Succeeded", "Failed"].contains(&phase) {
        "Terminating".clone_into(&mut summary.word);
    }
    summary
}

/// Goes through the init containers up to the first that is not done; true if there is one.
fn start_up(
    pod: &Value,
    init: usize,
    sidecars: &[&str],
    summary: &mut Summary,
    of_sidecars: &mut Summary,
) -> bool {
    for (at, status) in items(pod, "status.initContainerStatuses").iter().enumerate() {
        let is_sidecar = sidecars.contains(&text(status, "name"));
        summary.count_restarts(status);
        if is_sidecar {
            of_sidecars.count_restarts(status);
        }
        let ended = status.pointer("/state/terminated");
        let waits = text(status, "state.waiting.reason");
        let word = match ended {
            Some(end) if number(end, "exitCode") == 0 => continue,
            _ if is_sidecar && is_true(status, "started") => {
                summary.ready += usize::from(is_true(status, "ready"));
                continue;
            }
            Some(end) => format!("Init:{}", end_word(end)),
            None if !waits.is_empty() && waits != "PodInitializing" => format!("Init:{waits}"),
            None => format!("Init:{at}/{init}"),
        };
        summary.word = word;
        return true;
    }
    false
}

fn end_word(end: &Value) -> String {
    let reason = text(end, "reason");
    let signal = number(end, "signal");
    match (reason, signal) {
        ("", 0) => format!("ExitCode:{}", number(end, "exitCode")),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn main_part(pod: &Value, summary: &mut Summary) {
    let mut has_running = false;
    for status in items(pod, "status.containerStatuses").iter().rev() {
        summary.count_restarts(status);
        let waits = text(status, "state.waiting.reason");
        if !waits.is_empty() {
            waits.clone_into(&mut summary.word);
        } else if let Some(end) = status.pointer("/state/terminated") {
            summary.word = end_word(end);
        } else if is_true(status, "ready") && status.pointer("/state/running").is_some() {
            has_running = true;
            summary.ready += 1;
        }
    }
    if summary.word == "Completed" && has_running {
        let is_ready = has_condition(pod, CONDITION_READY);
        let word = if is_ready { "Running" } else { "NotReady" };
        word.clone_into(&mut summary.word);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn pod(phase: &str, init: &[Value], main: &[Value]) -> Value {
        let spec = |statuses: &[Value]| -> Vec<Value> {
            let names = statuses.iter().map(|status| {
                let mut container = json!({"name": status["name"]});
                if status["sidecar"] == true {
                    container["restartPolicy"] = "Always".into();
                }
                container
            });
            names.collect()
        };
        json!({
            "metadata": {"name": "p"},
            "spec": {"initContainers": spec(init), "containers": spec(main)},
            "status": {"phase": phase, "initContainerStatuses": init, "containerStatuses": main},
        })
    }

    fn running(ready: bool) -> Value {
        json!({"name": "c", "ready": ready, "started": true, "restartCount": 0,
               "state": {"running": {}}})
    }

    fn waiting(reason: &str) -> Value {
        json!({"name": "c", "ready": false, "restartCount": 3,
               "state": {"waiting": {"reason": reason}},
               "lastState": {"terminated": {"finishedAt": "2026-01-01T00:00:00Z", "exitCode": 1}}})
    }

    fn ended(code: i64, reason: &str) -> Value {
        json!({"name": "c", "ready": false, "restartCount": 0,
               "state": {"terminated": {"exitCode": code, "reason": reason}}})
    }

    fn sidecar(mut status: Value) -> Value {
        status["sidecar"] = true.into();
        status["name"] = "s".into();
        status
    }

    #[test]
    fn one_word_says_how_a_pod_is() {
        let conditioned = |kind: &str, mut pod: Value| {
            pod["status"]["conditions"] = json!([{"type": kind, "status": "True"}]);
            pod
        };
        let pulled = |mut pod: Value| {
            pod["metadata"]["annotations"] = json!({ANNOTATION_PULLED: "27%"});
            pod
        };
        let leaving = |mut pod: Value| {
            pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
            pod
        };
        let table = [
            (pod("Running", &[], &[running(true)]), "1/1 Running 0"),
            (pod("Running", &[], &[running(false)]), "0/1 Running 0"),
            (pod("Pending", &[], &[waiting("ContainerCreating")]), "0/1 ContainerCreating 3"),
            (pod("Running", &[], &[waiting("CrashLoopBackOff")]), "0/1 CrashLoopBackOff 3"),
            (pod("Failed", &[], &[ended(1, "Error")]), "0/1 Error 0"),
            (pod("Failed", &[], &[ended(3, "")]), "0/1 ExitCode:3 0"),
            (pod("Succeeded", &[], &[ended(0, "Completed")]), "0/1 Completed 0"),
            (pod("Running", &[], &[running(true), ended(0, "Completed")]), "1/2 NotReady 0"),
            (
                conditioned("Ready", pod("Running", &[], &[running(true), ended(0, "Completed")])),
                "1/2 Running 0",
            ),
            (
                pod(
                    "Pending",
                    &[ended(0, "Completed"), running(false)],
                    &[waiting("PodInitializing")],
                ),
                "0/1 Init:1/2 0",
            ),
            (
                pod("Pending", &[waiting("ImagePullBackOff")], &[waiting("PodInitializing")]),
                "0/1 Init:ImagePullBackOff 3",
            ),
            (
                pod("Pending", &[ended(2, "Error")], &[waiting("PodInitializing")]),
                "0/1 Init:Error 0",
            ),
            (pod("Running", &[sidecar(running(true))], &[running(true)]), "2/2 Running 0"),
            (leaving(pod("Running", &[], &[running(true)])), "1/1 Terminating 0"),
            (
                pulled(pod("Pending", &[], &[waiting("ContainerCreating")])),
                "0/1 ContainerCreating (27%) 3",
            ),
            (leaving(pulled(pod("Pending", &[], &[]))), "0/0 Terminating 0"),
            (leaving(pod("Succeeded", &[], &[ended(0, "Completed")])), "0/1 Completed 0"),
        ];
        for (pod, line) in table {
            let got = summary(&pod);
            let text = format!("{}/{} {} {}", got.ready, got.total, got.word, got.restarts);
            assert_eq!(text, line, "{pod}");
        }
    }

    #[test]
    fn restarts_say_when_the_last_one_was() {
        let now = Wall::parse("2026-01-01T00:05:00Z").expect("a time");
        let cells = cells(&pod("Running", &[], &[waiting("CrashLoopBackOff")]), now);
        assert_eq!(cells[3], "3 (5m ago)");
        assert_eq!(cells.len(), COLUMNS.len());
    }
}
