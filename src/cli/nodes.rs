//! `windlass cordon`, `uncordon`, `fence`: what a person says of a node, beside Git.

use std::io::{BufRead as _, IsTerminal as _};
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::Context;
use super::client::{self, with_query};
use super::fault::Failure;
use super::out::talk;
use super::target::Target;
use crate::adapters::clock;
use crate::kinds::registry::Kind;

/// How often it is looked whether the coordinator has answered.
pub(super) const STEP: Duration = Duration::from_millis(200);
/// How long it may take: a store on a slow remote is looked at every few seconds, and a coordinator
/// that fails is followed by another within twenty.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(60);

/// Arguments of `windlass cordon` and `windlass uncordon`.
#[derive(Args, Debug)]
pub(super) struct Nodes {
    /// Nodes
    #[arg(value_name = "NODE", required = true)]
    nodes: Vec<String>,
}

/// Arguments of `windlass fence`.
#[derive(Args, Debug)]
pub(super) struct Fence {
    /// The node whose machine is off
    #[arg(value_name = "NODE")]
    node: String,
    /// Don't ask whether the machine is off
    #[arg(short, long)]
    yes: bool,
}

/// Keeps new pods away from nodes.
pub(super) async fn cordon(args: &Nodes, context: &mut Context) -> Result<(), Failure> {
    for name in &args.nodes {
        let node = set_cordon(name, true, context).await?;
        let source = node.pointer("/metadata/annotations/windlass.dev~1source");
        talk(&match source.and_then(Value::as_str) {
            Some(source) => format!(
                "hint: this holds until somebody uncordons it; to say so in Git, set \
                 spec.unschedulable: true at {source}\n"
            ),
            None => format!(
                "hint: this holds until somebody uncordons it; to say so in Git, push\n  {}\n",
                json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name},
                       "spec": {"unschedulable": true}})
            ),
        });
    }
    Ok(())
}

/// Lets new pods come to nodes again.
pub(super) async fn uncordon(args: &Nodes, context: &mut Context) -> Result<(), Failure> {
    for name in &args.nodes {
        set_cordon(name, false, context).await?;
    }
    Ok(())
}

/// A node as it is now.
pub(super) async fn node(name: &str, context: &Context) -> Result<Value, Failure> {
    context.client.json(&path(name), client::JSON).await
}

fn path(name: &str) -> String {
    Target { kind: Kind::Node, name: Some(name.to_owned()) }.path(None)
}

/// Whether new pods are kept away from a node.
pub(super) fn is_cordoned(node: &Value) -> bool {
    node.pointer("/spec/unschedulable") == Some(&Value::Bool(true))
}

/// Cordons a node or uncordons it, says so as kubectl does, and waits until it is so.
pub(super) async fn set_cordon(
    name: &str,
    wanted: bool,
    context: &mut Context,
) -> Result<Value, Failure> {
    let word = if wanted { "cordoned" } else { "uncordoned" };
    let node = node(name, context).await?;
    if is_cordoned(&node) == wanted {
        context.out.text(&format!("node/{name} already {word}\n"))?;
        return Ok(node);
    }
    let value = if wanted { Value::Bool(true) } else { Value::Null };
    let patch = json!({"spec": {"unschedulable": value}});
    context.client.patch(&path(name), &patch).await?;
    let node = answered(name, context, |node| is_cordoned(node) == wanted).await?;
    context.out.text(&format!("node/{name} {word}\n"))?;
    Ok(node)
}

/// Waits until the coordinator has done what was asked of it.
async fn answered(
    name: &str,
    context: &Context,
    is_done: impl Fn(&Value) -> bool,
) -> Result<Value, Failure> {
    let until = clock::now().elapsed.since_boot() + ANSWER_MAX;
    loop {
        let node = node(name, context).await?;
        if is_done(&node) {
            return Ok(node);
        }
        if clock::now().elapsed.since_boot() >= until {
            return Err(Failure::hinted(
                format!("nothing has come of it within {} s", ANSWER_MAX.as_secs()),
                "it will be done as soon as somebody coordinates; windlass status says who does",
            ));
        }
        tokio::time::sleep(STEP).await;
    }
}

/// Declares a node dead.
pub(super) async fn fence(args: &Fence, context: &mut Context) -> Result<(), Failure> {
    let name = &args.node;
    node(name, context).await?;
    if !args.yes {
        confirm(name)?;
    }
    let path = with_query("/windlass/v1/fence", &[("node", name)]);
    context.client.post(&path, client::JSON).await?;
    let is_fenced =
        |node: &Value| node.pointer("/metadata/annotations/windlass.dev~1fenced").is_some();
    answered(name, context, is_fenced).await?;
    context.out.text(&format!("node/{name} fenced\n"))?;
    talk("It is used again when it is heard of and holds none of the pods it had.\n");
    Ok(())
}

fn confirm(name: &str) -> Result<(), Failure> {
    talk(&format!(
        "Its machine must be off. The pods that were on {name} are made anew elsewhere, at once; if \
         the machine\nis on, they run twice, until it reads that they are not its own any more.\n"
    ));
    if !std::io::stdin().is_terminal() {
        return Err(Failure::hinted("nobody is there to confirm it", "--yes says that it is off"));
    }
    talk(&format!("Type {name} to go on: "));
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.map_err(|error| Failure::plain(format!("standard input can't be read: {error}")))?;
    if answer.trim() == name { Ok(()) } else { Err(Failure::plain("nothing was done")) }
}
