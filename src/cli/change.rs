//! `windlass scale`, and `windlass rollout pause`, `resume` and `restart`: a line of a manifest changes,
//! by a commit.

use clap::Args;

use super::Context;
use super::checkout::{Checkout, Making};
use super::fault::Failure;
use super::target;
use crate::adapters::clock;
use crate::desired::Wish;
use crate::kinds::name::{Name, NameRule};
use crate::kinds::object::{Body, Key};
use crate::kinds::registry::Kind;

/// Arguments of `windlass scale`.
#[derive(Args, Debug)]
#[command(after_help = "Prints the change of the manifest, as a patch; --commit makes it.")]
pub(super) struct Scale {
    /// deploy/NAME, rs/NAME, rc/NAME, sts/NAME
    #[arg(value_name = "WORDS", required = true)]
    words: Vec<String>,
    /// How many pods
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(..=i64::from(i32::MAX)))]
    replicas: u32,
    /// Only if there are so many now, by the manifest
    #[arg(long, value_name = "COUNT")]
    current_replicas: Option<u32>,
    #[command(flatten)]
    making: Making,
}

/// Arguments of `windlass rollout pause`, `resume` (Deployments only) and `restart`.
#[derive(Args, Debug)]
#[command(after_help = "Prints the change of the manifest, as a patch; --commit makes it.")]
pub(super) struct Change {
    /// deploy/NAME; also sts/NAME and ds/NAME to restart
    #[arg(value_name = "WORDS", required = true)]
    words: Vec<String>,
    #[command(flatten)]
    making: Making,
}

/// The object that is meant, of one of these kinds.
pub(super) fn key(words: &[String], kinds: &[Kind], context: &Context) -> Result<Key, Failure> {
    let (kind, name) = target::parse_one(words, None)?;
    if !kinds.contains(&kind) {
        let known: Vec<&str> = kinds.iter().map(|kind| kind.info().singular).collect();
        let known = known.join(", ");
        return Err(Failure::usage(format!("that can't be done to a {kind}; it can to: {known}")));
    }
    let valid = |text: &str, rule: NameRule| {
        Name::parse(text, rule).map_err(|fault| Failure::usage(format!("'{text}': {fault}")))
    };
    let namespace = valid(&context.namespace, NameRule::Label)?;
    Ok(Key::namespaced(kind, &namespace, &valid(&name, kind.info().names)?))
}

pub(super) fn scale(args: &Scale, context: &mut Context) -> Result<(), Failure> {
    const KINDS: [Kind; 4] =
        [Kind::Deployment, Kind::ReplicaSet, Kind::ReplicationController, Kind::StatefulSet];
    let key = key(&args.words, &KINDS, context)?;
    let checkout = Checkout::open(&args.making)?;
    let written = checkout.find(&checkout.head()?, &key)?;
    let has = number(&written.object.json, "/spec/replicas").unwrap_or(1);
    if let Some(wanted) = args.current_replicas.filter(|wanted| u64::from(*wanted) != has) {
        return Err(Failure::plain(format!("Expected replicas to be {wanted}, was {has}")));
    }
    let title = format!("Scale {key} from {has} to {}", args.replicas);
    let wish = Wish::Replicas(args.replicas);
    checkout.edit(&args.making, &written, wish, &title, &mut context.out)
}

pub(super) fn pause(args: &Change, paused: bool, context: &mut Context) -> Result<(), Failure> {
    let key = key(&args.words, &[Kind::Deployment], context)?;
    let checkout = Checkout::open(&args.making)?;
    let written = checkout.find(&checkout.head()?, &key)?;
    if is_paused(&written.object.body) == paused {
        let state = if paused { "already" } else { "not" };
        let name = &key.name;
        return Err(Failure::plain(format!("deployments.apps \"{name}\" is {state} paused")));
    }
    let title = format!("{} {key}", if paused { "Pause" } else { "Resume" });
    checkout.edit(&args.making, &written, Wish::Paused(paused), &title, &mut context.out)
}

pub(super) fn restart(args: &Change, context: &mut Context) -> Result<(), Failure> {
    const KINDS: [Kind; 3] = [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet];
    let key = key(&args.words, &KINDS, context)?;
    let checkout = Checkout::open(&args.making)?;
    let written = checkout.find(&checkout.head()?, &key)?;
    if is_paused(&written.object.body) {
        return Err(Failure::plain(format!(
            "deployments.apps \"{}\" can't restart paused deployment (run rollout resume first)",
            key.name
        )));
    }
    let now = clock::now().wall.to_string();
    let title = format!("Restart {key}");
    checkout.edit(&args.making, &written, Wish::RestartedAt(&now), &title, &mut context.out)
}

fn is_paused(body: &Body) -> bool {
    matches!(body, Body::Deployment(deployment) if deployment.paused)
}

fn number(json: &str, path: &str) -> Option<u64> {
    serde_json::from_str::<serde_json::Value>(json).ok()?.pointer(path)?.as_u64()
}
