//! `windlass history`: the last decisions, newest first: who took them, when, and why.

use clap::Args;

use super::Context;
use super::client::{self, with_query};
use super::fault::Failure;
use super::out::Data;

/// Arguments of `windlass history`.
#[derive(Args, Debug)]
pub(super) struct History {
    /// How many to show
    #[arg(long, value_name = "COUNT", default_value_t = 20)]
    limit: u32,
    /// Form of the answer
    #[arg(short, long, value_enum, value_name = "FORM")]
    output: Option<Data>,
}

pub(super) async fn run(args: &History, context: &mut Context) -> Result<(), Failure> {
    let path = with_query("/windlass/v1/history", &[("limit", &args.limit.to_string())]);
    match args.output {
        None => {
            let page = context.client.text(&path).await?;
            context.out.page(&page)
        }
        Some(form) => {
            let history = context.client.json(&path, client::JSON).await?;
            context.out.data(form, &history)
        }
    }
}
