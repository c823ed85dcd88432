//! `windlass diff`: what a commit would change, object by object and field by field.

use clap::Args;
use serde_json::Value;

use super::Context;
use super::client::{self, with_query};
use super::fault::Failure;
use super::out::Data;
use super::progress::waiting;

/// Arguments of `windlass diff`.
#[derive(Args, Debug)]
pub(super) struct Diff {
    /// Branch, tag or id of a commit of the desired repository
    commit: String,
    /// Exit with 1 if anything would change
    #[arg(long)]
    exit_code: bool,
    /// Form of the answer
    #[arg(short, long, value_enum, value_name = "FORM")]
    output: Option<Data>,
}

pub(super) async fn run(args: &Diff, context: &mut Context) -> Result<(), Failure> {
    let path = with_query("/windlass/v1/diff", &[("commit", &args.commit)]);
    let what = "the commit is being read";
    let client = context.client.patient();
    if args.output.is_none() {
        let page = waiting(what, client.text(&path)).await?;
        context.out.page(&page)?;
    }
    if args.output.is_none() && !args.exit_code {
        return Ok(());
    }
    let diff = waiting(what, client.json(&path, client::JSON)).await?;
    if let Some(form) = args.output {
        context.out.data(form, &diff)?;
    }
    let changes = diff.get("changes").and_then(Value::as_array).map_or(0, Vec::len);
    if args.exit_code && changes > 0 { Err(Failure::Code(1)) } else { Ok(()) }
}
