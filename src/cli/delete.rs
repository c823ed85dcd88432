//! `windlass delete`: a pod is ended, and its owner makes another; a node that is lost is forgotten. What is written in the repository
//! is deleted there; the agent says where.

use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use super::Context;
use super::client;
use super::config::parse_duration;
use super::fault::Failure;
use super::target::{self, Target};
use crate::adapters::clock;

/// How often it is looked whether an object has gone.
const STEP: Duration = Duration::from_millis(200);

/// Arguments of `windlass delete`.
#[derive(Args, Debug)]
pub(super) struct Delete {
    /// pod NAME..., or pod/NAME...; node NAME of a node that is lost
    #[arg(value_name = "WORDS", required = true)]
    words: Vec<String>,
    /// Seconds its containers have to end; its own where absent
    #[arg(long, value_name = "SECONDS")]
    grace_period: Option<u32>,
    /// Short for --grace-period=1
    #[arg(long, conflicts_with = "grace_period")]
    now: bool,
    /// Wait until it has gone
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_value_t = true,
        default_missing_value = "true",
        action = clap::ArgAction::Set
    )]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "DURATION", default_value = "5m")]
    timeout: String,
    /// Say nothing of objects that are not there
    #[arg(long)]
    ignore_not_found: bool,
}

pub(super) async fn run(args: &Delete, context: &mut Context) -> Result<(), Failure> {
    let targets = target::parse(&args.words)?;
    let timeout = parse_duration(&args.timeout)
        .map_err(|fault| Failure::usage(format!("--timeout: {fault}")))?;
    if targets.iter().any(|target| target.name.is_none()) {
        return Err(Failure::usage("name what shall be deleted: pod NAME"));
    }
    let mut deleted: Vec<(&Target, String)> = Vec::new();
    let mut outcome = Ok(());
    for target in &targets {
        match delete(args, target, context).await {
            Ok(uid) => {
                let resource = target.kind.resource_name();
                let name = target.name.as_deref().unwrap_or_default();
                context.out.text(&format!("{resource} \"{name}\" deleted\n"))?;
                deleted.push((target, uid));
            }
            Err(failure) if failure.is_not_found() && args.ignore_not_found => {}
            Err(failure) => {
                failure.say();
                outcome = Err(Failure::Code(1));
            }
        }
    }
    if args.wait {
        let until = clock::now().elapsed.since_boot() + timeout;
        for (target, uid) in deleted {
            gone(target, &uid, until, context).await?;
        }
    }
    outcome
}

/// Asks for an object's end, and tells which life of it was meant.
async fn delete(args: &Delete, target: &Target, context: &Context) -> Result<String, Failure> {
    let path = target.path(Some(&context.namespace));
    let mut options = json!({
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "propagationPolicy": "Background",
    });
    let grace = if args.now { Some(1) } else { args.grace_period };
    if let Some(grace) = grace {
        options["gracePeriodSeconds"] = grace.into();
    }
    let answer = context.client.delete(&path, &options).await?;
    let uid = answer.pointer("/details/uid").or_else(|| answer.pointer("/metadata/uid"));
    Ok(uid.and_then(Value::as_str).unwrap_or_default().to_owned())
}

/// Waits until an object has gone, or another of its name lives.
async fn gone(
    target: &Target,
    uid: &str,
    until: Duration,
    context: &Context,
) -> Result<(), Failure> {
    let path = target.path(Some(&context.namespace));
    loop {
        match context.client.json(&path, client::JSON).await {
            Err(failure) if failure.is_not_found() => return Ok(()),
            Err(failure) => return Err(failure),
            Ok(object) => {
                let own = object.pointer("/metadata/uid").and_then(Value::as_str);
                if !uid.is_empty() && own != Some(uid) {
                    return Ok(());
                }
            }
        }
        if clock::now().elapsed.since_boot() >= until {
            let name = target.name.as_deref().unwrap_or_default();
            return Err(Failure::hinted(
                format!("{} \"{name}\" is still there", target.kind.info().singular),
                format!(
                    "it will go; windlass why {}/{name} says what it waits for",
                    target.kind.info().singular
                ),
            ));
        }
        tokio::time::sleep(STEP).await;
    }
}
