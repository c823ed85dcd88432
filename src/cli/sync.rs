//! `windlass sync`: the desired repository is looked at now, not at the next poll.

use clap::Args;

use super::Context;
use super::client;
use super::fault::Failure;
use super::progress::waiting;

/// Arguments of `windlass sync`.
#[derive(Args, Debug)]
pub(super) struct Sync {}

pub(super) async fn run(_args: &Sync, context: &mut Context) -> Result<(), Failure> {
    let client = context.client.patient();
    let asked = client.post("/windlass/v1/sync", client::TEXT);
    let line = waiting("the repository is being fetched", asked).await?;
    context.out.text(line.trim_end())?;
    context.out.text("\n")
}
