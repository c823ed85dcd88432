//! `windlass why`: why something is as it is, with the commit and the line it comes from.

use clap::Args;

use super::Context;
use super::client::{self, with_query};
use super::fault::Failure;
use super::out::Data;
use super::target;
use crate::kinds::registry::Kind;

/// Arguments of `windlass why`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  windlass why web-7d9f8c5b4-x2x9z       why this pod is where it is, or does not run
  windlass why deploy/web                why this Deployment is as it is")]
pub(super) struct Why {
    /// POD, KIND NAME, or KIND/NAME
    #[arg(value_name = "WORDS", required = true)]
    words: Vec<String>,
    /// Form of the answer
    #[arg(short, long, value_enum, value_name = "FORM")]
    output: Option<Data>,
}

pub(super) async fn run(args: &Why, context: &mut Context) -> Result<(), Failure> {
    let (kind, name) = target::parse_one(&args.words, Some(Kind::Pod))?;
    let namespace = if kind.info().namespaced { &*context.namespace } else { "" };
    let parameters = [("kind", kind.name()), ("namespace", namespace), ("name", &name)];
    let path = with_query("/windlass/v1/why", &parameters);
    match args.output {
        None => {
            let page = context.client.text(&path).await?;
            context.out.page(&page)
        }
        Some(form) => {
            let why = context.client.json(&path, client::JSON).await?;
            context.out.data(form, &why)
        }
    }
}
