//! `windlass rollout`: how far a Deployment, StatefulSet or DaemonSet has come, which templates it had,
//! and the commits that take it back ([`super::undo`]) or change its course ([`super::change`]).

use std::time::Duration;

use clap::{Args, Subcommand};
use serde_json::Value;
use tokio::time::timeout;

use super::Context;
use super::client::{self, with_query};
use super::config::parse_duration;
use super::fault::Failure;
use super::target::{self, Target};
use super::watch::Watch;
use super::{change, undo};
use crate::kinds::registry::Kind;
use crate::view::tabs;

const REVISION: &str = "deployment.kubernetes.io/revision";
const CAUSE: &str = "kubernetes.io/change-cause";

/// Arguments of `windlass rollout`.
#[derive(Args, Debug)]
pub(super) struct Rollout {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Wait until a workload has been rolled out
    Status(Status),
    /// List the templates a workload has had, and the commits they came with
    History(History),
    /// Go back to an earlier template: by git revert where that does it
    Undo(undo::Undo),
    /// Keep a Deployment's next templates waiting
    Pause(change::Change),
    /// Let a paused Deployment roll out
    Resume(change::Change),
    /// Start pods anew, step by step
    Restart(change::Change),
}

#[derive(Args, Debug)]
struct Status {
    /// deploy/NAME, sts/NAME or ds/NAME
    #[arg(value_name = "WORDS", required = true)]
    words: Vec<String>,
    /// Say how it stands, and don't wait
    #[arg(
        short,
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    watch: bool,
    /// How long to wait; 0s for as long as it takes
    #[arg(long, value_name = "DURATION", default_value = "0s")]
    timeout: String,
}

#[derive(Args, Debug)]
struct History {
    /// deploy/NAME, sts/NAME or ds/NAME
    #[arg(value_name = "WORDS", required = true)]
    words: Vec<String>,
    /// Show this one whole
    #[arg(long, value_name = "NUMBER")]
    revision: Option<u64>,
}

pub(super) async fn run(args: &Rollout, context: &mut Context) -> Result<(), Failure> {
    match &args.what {
        What::Status(args) => status(args, context).await,
        What::History(args) => history(args, context).await,
        What::Undo(args) => undo::run(args, context).await,
        What::Pause(args) => change::pause(args, true, context),
        What::Resume(args) => change::pause(args, false, context),
        What::Restart(args) => change::restart(args, context),
    }
}

/// The workload that is meant.
#[derive(Clone, Debug)]
struct Rolled {
    kind: Kind,
    name: String,
}

impl Rolled {
    fn parse(words: &[String]) -> Result<Self, Failure> {
        match target::parse_one(words, None)? {
            (kind @ (Kind::Deployment | Kind::StatefulSet | Kind::DaemonSet), name) => {
                Ok(Self { kind, name })
            }
            (kind, _) => Err(Failure::usage(format!(
                "a {kind} is not rolled out; name deploy/NAME, sts/NAME or ds/NAME"
            ))),
        }
    }

    /// As kubectl names it: `deployment "web"`, `daemon set "web"`.
    fn title(&self) -> String {
        let kind = match self.kind {
            Kind::DaemonSet => "daemon set",
            kind => kind.info().singular,
        };
        format!("{kind} \"{}\"", self.name)
    }

    /// As a person names it: `deploy/web`.
    fn word(&self) -> String {
        let info = self.kind.info();
        format!("{}/{}", info.short.first().unwrap_or(&info.singular), self.name)
    }

    fn target(&self) -> Target {
        Target { kind: self.kind, name: Some(self.name.clone()) }
    }
}

async fn status(args: &Status, context: &mut Context) -> Result<(), Failure> {
    let rolled = Rolled::parse(&args.words)?;
    let limit = parse_duration(&args.timeout)
        .map_err(|fault| Failure::usage(format!("--timeout: {fault}")))?;
    let work = follow(&rolled, args.watch, context);
    if limit == Duration::ZERO {
        return work.await;
    }
    match timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(Failure::hinted(
            "timed out waiting for the condition",
            format!("windlass why {} says what it waits for", rolled.word()),
        )),
    }
}

async fn follow(rolled: &Rolled, is_watch: bool, context: &mut Context) -> Result<(), Failure> {
    // One that is not there is an error, not a wait.
    let path = rolled.target().path(Some(&context.namespace));
    context.client.json(&path, client::JSON).await?;
    let path = target::collection(rolled.kind, Some(&context.namespace));
    let path = with_query(&path, &[("fieldSelector", &format!("metadata.name={}", rolled.name))]);
    let mut said = String::new();
    loop {
        let list = context.client.json(&path, client::JSON).await?;
        let since = list.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        let since = since.unwrap_or_default();
        let Some(object) = list.pointer("/items/0") else {
            return Err(gone(rolled));
        };
        if say(rolled, object, &mut said, context)? || !is_watch {
            return Ok(());
        }
        let client = context.client.clone();
        let mut watch = Watch::new(&client, path.clone(), client::JSON, since);
        while let Some(event) = watch.next().await? {
            if event.change == "DELETED" {
                return Err(gone(rolled));
            }
            if say(rolled, &event.object, &mut said, context)? {
                return Ok(());
            }
        }
    }
}

fn gone(rolled: &Rolled) -> Failure {
    Failure::plain(format!("{} was deleted while it was rolled out", rolled.title()))
}

/// Says how it stands, if that is news, and whether it is done.
fn say(
    rolled: &Rolled,
    object: &Value,
    said: &mut String,
    context: &mut Context,
) -> Result<bool, Failure> {
    let (line, is_done) = progress(rolled, object)?;
    if line != *said {
        context.out.text(&line)?;
        *said = line;
    }
    Ok(is_done)
}

/// How it stands, in kubectl's words (`k8s.io/kubectl/pkg/polymorphichelpers/rollout_status.go`).
fn progress(rolled: &Rolled, object: &Value) -> Result<(String, bool), Failure> {
    match rolled.kind {
        Kind::StatefulSet => stateful_progress(object),
        Kind::DaemonSet => daemon_progress(&rolled.name, object),
        _ => deployment_progress(&rolled.name, object),
    }
}

fn number(object: &Value, path: &str) -> i64 {
    object.pointer(path).and_then(Value::as_i64).unwrap_or_default()
}

/// Whether the object says more than has been taken in of it.
fn is_unseen(object: &Value) -> bool {
    number(object, "/metadata/generation") > number(object, "/status/observedGeneration")
}

/// Of a set that is not rolled out by itself it can't be said how far it has come.
fn check_strategy(object: &Value) -> Result<(), Failure> {
    match object.pointer("/spec/updateStrategy/type").and_then(Value::as_str) {
        Some("RollingUpdate") => Ok(()),
        _ => {
            Err(Failure::plain("rollout status is only available for RollingUpdate strategy type"))
        }
    }
}

fn stateful_progress(object: &Value) -> Result<(String, bool), Failure> {
    check_strategy(object)?;
    if is_unseen(object) {
        return Ok(("Waiting for statefulset spec update to be observed...\n".to_owned(), false));
    }
    let wanted = object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    let missing = wanted - number(object, "/status/readyReplicas");
    let updated = number(object, "/status/updatedReplicas");
    let new = wanted - number(object, "/spec/updateStrategy/rollingUpdate/partition");
    Ok(if missing > 0 {
        (format!("Waiting for {missing} pods to be ready...\n"), false)
    } else if updated < new {
        let waiting = "Waiting for partitioned roll out to finish";
        (format!("{waiting}: {updated} out of {new} new pods have been updated...\n"), false)
    } else {
        (format!("partitioned roll out complete: {updated} new pods have been updated...\n"), true)
    })
}

fn daemon_progress(name: &str, object: &Value) -> Result<(String, bool), Failure> {
    check_strategy(object)?;
    if is_unseen(object) {
        return Ok(("Waiting for daemon set spec update to be observed...\n".to_owned(), false));
    }
    let wanted = number(object, "/status/desiredNumberScheduled");
    let updated = number(object, "/status/updatedNumberScheduled");
    let available = number(object, "/status/numberAvailable");
    let waiting = format!("Waiting for daemon set \"{name}\" rollout to finish");
    Ok(if updated < wanted {
        (format!("{waiting}: {updated} out of {wanted} new pods have been updated...\n"), false)
    } else if available < wanted {
        (format!("{waiting}: {available} of {wanted} updated pods are available...\n"), false)
    } else {
        (format!("daemon set \"{name}\" successfully rolled out\n"), true)
    })
}

fn deployment_progress(name: &str, object: &Value) -> Result<(String, bool), Failure> {
    let number = |path: &str| number(object, path);
    if is_unseen(object) {
        return Ok(("Waiting for deployment spec update to be observed...\n".to_owned(), false));
    }
    let conditions = object.pointer("/status/conditions").and_then(Value::as_array);
    let is_late = conditions.into_iter().flatten().any(|condition| {
        condition["type"] == "Progressing" && condition["reason"] == "ProgressDeadlineExceeded"
    });
    if is_late {
        return Err(Failure::hinted(
            format!("deployment \"{name}\" exceeded its progress deadline"),
            format!("windlass why deploy/{name}"),
        ));
    }
    let wanted = object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1);
    let updated = number("/status/updatedReplicas");
    let all = number("/status/replicas");
    let available = number("/status/availableReplicas");
    let waiting = format!("Waiting for deployment \"{name}\" rollout to finish");
    Ok(if updated < wanted {
        (format!("{waiting}: {updated} out of {wanted} new replicas have been updated...\n"), false)
    } else if all > updated {
        let old = all - updated;
        (format!("{waiting}: {old} old replicas are pending termination...\n"), false)
    } else if available < updated {
        (format!("{waiting}: {available} of {updated} updated replicas are available...\n"), false)
    } else {
        (format!("deployment \"{name}\" successfully rolled out\n"), true)
    })
}

/// The templates that a workload has had, as the objects made for them, the oldest first, each with its
/// number.
pub(super) async fn revisions(
    kind: Kind,
    workload: &Value,
    context: &Context,
) -> Result<Vec<(u64, Value)>, Failure> {
    let uid = workload.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
    let made = made_for(kind);
    let path = target::collection(made, Some(&context.namespace));
    let mut sets = context.client.json(&path, client::JSON).await?;
    let sets = sets.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take);
    let mut revisions: Vec<(u64, Value)> = sets
        .into_iter()
        .flatten()
        .filter(|set| owner(set) == Some(uid))
        .filter_map(|set| Some((revision(made, &set)?, set)))
        .collect();
    revisions.sort_by_key(|(revision, _)| *revision);
    Ok(revisions)
}

/// What remembers the templates of such a workload.
fn made_for(kind: Kind) -> Kind {
    match kind {
        Kind::Deployment => Kind::ReplicaSet,
        _ => Kind::ControllerRevision,
    }
}

async fn history(args: &History, context: &mut Context) -> Result<(), Failure> {
    let rolled = Rolled::parse(&args.words)?;
    let path = rolled.target().path(Some(&context.namespace));
    let object = context.client.json(&path, client::JSON).await?;
    let revisions = revisions(rolled.kind, &object, context).await?;
    let title = format!("{}/{}", rolled.kind.resource_name(), rolled.name);
    let Some(wanted) = args.revision else {
        let mut table = "REVISION\tCHANGE-CAUSE\n".to_owned();
        for (revision, set) in &revisions {
            let cause = annotation(set, CAUSE).unwrap_or("<none>");
            table.push_str(&format!("{revision}\t{cause}\n"));
        }
        let table = tabs::lay_out(&table, 0, 2);
        return context.out.page(&format!("{title} \n{table}\n"));
    };
    let Some((_, set)) = revisions.iter().find(|(revision, _)| *revision == wanted) else {
        return Err(Failure::hinted(
            format!("{} has no revision {wanted}", rolled.title()),
            format!("windlass rollout history {} lists those that are kept", rolled.word()),
        ));
    };
    let set_name = set.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let namespace = context.namespace.clone();
    let page = super::describe::page(made_for(rolled.kind), &namespace, set_name, context).await?;
    context.out.page(&format!("{title} with revision #{wanted}\n{page}"))
}

/// The number of what was made for a template in its owner's history.
fn revision(kind: Kind, made: &Value) -> Option<u64> {
    match kind {
        Kind::ReplicaSet => annotation(made, REVISION)?.parse().ok(),
        _ => made.get("revision")?.as_u64(),
    }
}

fn owner(set: &Value) -> Option<&str> {
    set.pointer("/metadata/ownerReferences/0/uid")?.as_str()
}

pub(super) fn annotation<'v>(set: &'v Value, name: &str) -> Option<&'v str> {
    set.pointer("/metadata/annotations")?.get(name)?.as_str()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn progress_is_told_in_kubectls_words() {
        let deployment = |observed: i64, updated: i64, all: i64, available: i64, reason: &str| {
            json!({
                "metadata": {"generation": 2},
                "spec": {"replicas": 3},
                "status": {
                    "observedGeneration": observed,
                    "updatedReplicas": updated,
                    "replicas": all,
                    "availableReplicas": available,
                    "conditions": [{"type": "Progressing", "reason": reason}],
                },
            })
        };
        let waiting = "Waiting for deployment \"web\" rollout to finish: ";
        let table = [
            (
                deployment(1, 3, 3, 3, ""),
                "Waiting for deployment spec update to be observed...".to_owned(),
            ),
            (
                deployment(2, 1, 4, 3, ""),
                format!("{waiting}1 out of 3 new replicas have been updated..."),
            ),
            (
                deployment(2, 3, 4, 3, ""),
                format!("{waiting}1 old replicas are pending termination..."),
            ),
            (
                deployment(2, 3, 3, 2, ""),
                format!("{waiting}2 of 3 updated replicas are available..."),
            ),
            (deployment(2, 3, 3, 3, ""), "deployment \"web\" successfully rolled out".to_owned()),
        ];
        for (object, line) in table {
            let (said, is_done) = deployment_progress("web", &object).expect("it goes on");
            assert_eq!(said, format!("{line}\n"));
            assert_eq!(is_done, line.contains("successfully"), "{line}");
        }
        let late = deployment(2, 1, 4, 3, "ProgressDeadlineExceeded");
        assert!(deployment_progress("web", &late).is_err());
    }

    #[test]
    fn sets_are_told_of_in_kubectls_words_too() {
        let rolling = |spec: Value, status: Value| {
            let mut object = json!({"metadata": {"generation": 2}, "spec": spec, "status": status});
            object["spec"]["updateStrategy"]["type"] = "RollingUpdate".into();
            object["status"]["observedGeneration"] = 2.into();
            object
        };
        let stateful = |ready: i64, updated: i64, partition: i64| {
            let strategy = json!({"rollingUpdate": {"partition": partition}});
            rolling(
                json!({"replicas": 3, "updateStrategy": strategy}),
                json!({"readyReplicas": ready, "updatedReplicas": updated}),
            )
        };
        let daemon = |updated: i64, available: i64| {
            rolling(
                json!({}),
                json!({"desiredNumberScheduled": 3, "updatedNumberScheduled": updated,
                       "numberAvailable": available}),
            )
        };
        let waiting = "Waiting for daemon set \"web\" rollout to finish: ";
        let table = [
            (Kind::StatefulSet, stateful(1, 3, 0), "Waiting for 2 pods to be ready...".to_owned()),
            (
                Kind::StatefulSet,
                stateful(3, 1, 1),
                "Waiting for partitioned roll out to finish: 1 out of 2 new pods have been updated..."
                    .to_owned(),
            ),
            (
                Kind::StatefulSet,
                stateful(3, 2, 1),
                "partitioned roll out complete: 2 new pods have been updated...".to_owned(),
            ),
            (
                Kind::DaemonSet,
                daemon(2, 3),
                format!("{waiting}2 out of 3 new pods have been updated..."),
            ),
            (
                Kind::DaemonSet,
                daemon(3, 2),
                format!("{waiting}2 of 3 updated pods are available..."),
            ),
            (Kind::DaemonSet, daemon(3, 3), "daemon set \"web\" successfully rolled out".to_owned()),
        ];
        for (kind, object, line) in table {
            let rolled = Rolled { kind, name: "web".to_owned() };
            let (said, is_done) = progress(&rolled, &object).expect("it goes on");
            assert_eq!(said, format!("{line}\n"));
            assert_eq!(is_done, !line.starts_with("Waiting"), "{line}");
        }
        let by_hand = json!({"spec": {"updateStrategy": {"type": "OnDelete"}}});
        assert!(stateful_progress(&by_hand).is_err() && daemon_progress("web", &by_hand).is_err());
    }
}
