//! `windlass images`: which images lie on this node, for whom each stays, and how full the disks are.

use clap::{Args, ValueEnum};

use super::Context;
use super::client::{self, with_query};
use super::fault::Failure;
use super::out::Data;

const PATH: &str = "/windlass/v1/images";

/// Arguments of `windlass images`.
#[derive(Args, Debug)]
pub(super) struct ImagesArgs {
    /// Form of the answer
    #[arg(short, long, value_enum, value_name = "FORM")]
    output: Option<Form>,
}

/// Forms of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// JSON
    Json,
    /// YAML
    Yaml,
    /// With ids
    Wide,
}

pub(super) async fn run(args: &ImagesArgs, context: &mut Context) -> Result<(), Failure> {
    let form = match args.output {
        Some(Form::Json) => Data::Json,
        Some(Form::Yaml) => Data::Yaml,
        // The agent words the page: it may be of another version than this program.
        form => {
            let wide = (form == Some(Form::Wide)).to_string();
            let page = context.client.text(&with_query(PATH, &[("wide", &wide)])).await?;
            return context.out.page(&page);
        }
    };
    let images = context.client.json(PATH, client::JSON).await?;
    context.out.data(form, &images)
}
