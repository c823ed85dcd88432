//! `windlass status`: how the whole stands.

use clap::Args;
use serde_json::Value;

use super::Context;
use super::client;
use super::fault::Failure;
use super::out::{Data, talk};
use crate::view::status::Status;

const PATH: &str = "/windlass/v1/status";

/// Arguments of `windlass status`.
#[derive(Args, Debug)]
pub(super) struct StatusArgs {
    /// Exit with 1 if anything is not well
    #[arg(long)]
    check: bool,
    /// Form of the answer
    #[arg(short, long, value_enum, value_name = "FORM")]
    output: Option<Data>,
}

pub(super) async fn run(args: &StatusArgs, context: &mut Context) -> Result<(), Failure> {
    match args.output {
        // The agent words the page: it may be of another version than this program.
        None => {
            let page = context.client.text(PATH).await?;
            context.out.page(&page)?;
        }
        Some(form) => {
            let status = context.client.json(PATH, client::JSON).await?;
            context.out.data(form, &status)?;
        }
    }
    if !args.check {
        return Ok(());
    }
    let status = context.client.json(PATH, client::JSON).await?;
    let complaints = complaints(&read(status)?);
    if complaints.is_empty() {
        return Ok(());
    }
    talk(&format!("not well: {}\n", complaints.join("; ")));
    Err(Failure::Code(1))
}

fn read(status: Value) -> Result<Status, Failure> {
    serde_json::from_value(status).map_err(|error| {
        Failure::hinted(
            format!("the agent's status can't be read: {error}"),
            "windlass version: the agent may be of another version",
        )
    })
}

/// What is not well, in few words each.
fn complaints(status: &Status) -> Vec<String> {
    let mut complaints = Vec::new();
    if !status.is_known {
        complaints.push("the state store has not been read".to_owned());
    }
    if status.coordinator.is_none() {
        complaints.push("no node coordinates".to_owned());
    }
    for app in &status.apps {
        if let Some(waiting) = &app.waiting {
            let (commit, word) = (waiting.commit.short(), waiting.word());
            let of = if status.apps.len() > 1 {
                format!(" for app {}", app.name)
            } else {
                String::new()
            };
            complaints.push(format!("commit {commit} is {word}{of}"));
        }
        let failed = app.in_force.as_ref().filter(|revision| revision.failed.is_some());
        if let Some(revision) = failed {
            complaints.push(format!("commit {} did not become healthy", revision.commit.short()));
        }
    }
    let counts = [("nodes", status.nodes), ("pods", status.pods)];
    for (what, counted) in counts.into_iter().filter(|(_, counted)| counted.ready < counted.total) {
        complaints.push(format!("{} of {} {what} ready", counted.ready, counted.total));
    }
    complaints
        .extend(status.faults.iter().map(|fault| format!("{}: {}", fault.part, fault.message)));
    complaints
}
