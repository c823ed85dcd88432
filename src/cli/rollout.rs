//! `windlass rollout`: how far a Deployment has come, which templates it had, and the commits that take
//! it back ([`super::undo`]) or change its course ([`super::change`]).

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

pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
const CAUSE: &str = "kubernetes.io/change-cause";

/// Arguments of `windlass rollout`.
#[derive(Args, Debug)]
pub(super) struct Rollout {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Wait until a Deployment has been rolled out
    Status(Status),
    /// List the templates a Deployment has had, and the commits they came with
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
    /// deploy/NAME
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
    /// deploy/NAME
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

/// The Deployment that is meant.
fn deployment(words: &[String]) -> Result<String, Failure> {
    match target::parse_one(words, None)? {
        (Kind::Deployment, name) => Ok(name),
        (kind, _) => Err(Failure::usage(format!("a {kind} is not rolled out; name deploy/NAME"))),
    }
}

async fn status(args: &Status, context: &mut Context) -> Result<(), Failure> {
    let name = deployment(&args.words)?;
    let limit = parse_duration(&args.timeout)
        .map_err(|fault| Failure::usage(format!("--timeout: {fault}")))?;
    let work = follow(&name, args.watch, context);
    if limit == Duration::ZERO {
        return work.await;
    }
    match timeout(limit, work).await {
        Ok(done) => done,
        Err(_) => Err(Failure::hinted(
            "timed out waiting for the condition",
            format!("windlass why deploy/{name} says what it waits for"),
        )),
    }
}

async fn follow(name: &str, is_watch: bool, context: &mut Context) -> Result<(), Failure> {
    // One that is not there is an error, not a wait.
    let target = Target { kind: Kind::Deployment, name: Some(name.to_owned()) };
    context.client.json(&target.path(Some(&context.namespace)), client::JSON).await?;
    let path = target::collection(Kind::Deployment, Some(&context.namespace));
    let path = with_query(&path, &[("fieldSelector", &format!("metadata.name={name}"))]);
    let mut said = String::new();
    loop {
        let list = context.client.json(&path, client::JSON).await?;
        let since = list.pointer("/metadata/resourceVersion").and_then(Value::as_str);
        let since = since.unwrap_or_default();
        let Some(object) = list.pointer("/items/0") else {
            return Err(gone(name));
        };
        if say(name, object, &mut said, context)? || !is_watch {
            return Ok(());
        }
        let client = context.client.clone();
        let mut watch = Watch::new(&client, path.clone(), client::JSON, since);
        while let Some(event) = watch.next().await? {
            if event.change == "DELETED" {
                return Err(gone(name));
            }
            if say(name, &event.object, &mut said, context)? {
                return Ok(());
            }
        }
    }
}

fn gone(name: &str) -> Failure {
    Failure::plain(format!("deployment \"{name}\" was deleted while it was rolled out"))
}

/// Says how it stands, if that is news, and whether it is done.
fn say(
    name: &str,
    object: &Value,
    said: &mut String,
    context: &mut Context,
) -> Result<bool, Failure> {
    let (line, is_done) = progress(name, object)?;
    if line != *said {
        context.out.text(&line)?;
        *said = line;
    }
    Ok(is_done)
}

/// How it stands, in kubectl's words (`k8s.io/kubectl/pkg/polymorphichelpers/rollout_status.go`).
fn progress(name: &str, object: &Value) -> Result<(String, bool), Failure> {
    let number = |path: &str| object.pointer(path).and_then(Value::as_i64).unwrap_or_default();
    if number("/metadata/generation") > number("/status/observedGeneration") {
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

/// The templates that a Deployment has had, as its ReplicaSets, the oldest first, each with its number.
pub(super) async fn revisions(
    deployment: &Value,
    context: &Context,
) -> Result<Vec<(u64, Value)>, Failure> {
    let uid = deployment.pointer("/metadata/uid").and_then(Value::as_str).unwrap_or_default();
    let path = target::collection(Kind::ReplicaSet, Some(&context.namespace));
    let mut sets = context.client.json(&path, client::JSON).await?;
    let sets = sets.get_mut("items").and_then(Value::as_array_mut).map(std::mem::take);
    let mut revisions: Vec<(u64, Value)> = sets
        .into_iter()
        .flatten()
        .filter(|set| owner(set) == Some(uid))
        .filter_map(|set| Some((annotation(&set, REVISION)?.parse().ok()?, set)))
        .collect();
    revisions.sort_by_key(|(revision, _)| *revision);
    Ok(revisions)
}

async fn history(args: &History, context: &mut Context) -> Result<(), Failure> {
    let name = deployment(&args.words)?;
    let target = Target { kind: Kind::Deployment, name: Some(name.clone()) };
    let path = target.path(Some(&context.namespace));
    let deployment = context.client.json(&path, client::JSON).await?;
    let revisions = revisions(&deployment, context).await?;
    let Some(wanted) = args.revision else {
        let mut table = "REVISION\tCHANGE-CAUSE\n".to_owned();
        for (revision, set) in &revisions {
            let cause = annotation(set, CAUSE).unwrap_or("<none>");
            table.push_str(&format!("{revision}\t{cause}\n"));
        }
        let table = tabs::lay_out(&table, 0, 2);
        return context.out.page(&format!("deployment.apps/{name} \n{table}\n"));
    };
    let Some((_, set)) = revisions.iter().find(|(revision, _)| *revision == wanted) else {
        return Err(Failure::hinted(
            format!("deployment \"{name}\" has no revision {wanted}"),
            format!("windlass rollout history deploy/{name} lists those that are kept"),
        ));
    };
    let set_name = set.pointer("/metadata/name").and_then(Value::as_str).unwrap_or_default();
    let namespace = context.namespace.clone();
    let page = super::describe::page(Kind::ReplicaSet, &namespace, set_name, context).await?;
    context.out.page(&format!("deployment.apps/{name} with revision #{wanted}\n{page}"))
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
            let (said, is_done) = progress("web", &object).expect("it goes on");
            assert_eq!(said, format!("{line}\n"));
            assert_eq!(is_done, line.contains("successfully"), "{line}");
        }
        let late = deployment(2, 1, 4, 3, "ProgressDeadlineExceeded");
        assert!(progress("web", &late).is_err());
    }
}
