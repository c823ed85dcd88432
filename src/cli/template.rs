//! `windlass template`: what charts become, as the agent renders them.

use std::path::PathBuf;

use clap::Args;

use super::fault::Failure;
use super::out::Out;
use super::validate;
use crate::desired::charts::{self, Rendered};

/// Arguments of `windlass template`.
#[derive(Args, Debug)]
#[command(
    after_help = "What Helm would be told on the command line stands in the chart: values in its \
                  values.yaml, the release's name and namespace in the annotations of its Chart.yaml."
)]
pub(super) struct Template {
    /// A chart's directory, or one with charts below it
    #[arg(value_name = "DIRECTORY", default_value = ".")]
    directory: PathBuf,
}

pub(super) fn run(args: &Template, out: &mut Out) -> Result<(), Failure> {
    let found = validate::charts_of(&args.directory)?;
    if found.is_empty() {
        return Err(Failure::hinted(
            format!("there is no chart in {} or below it", args.directory.display()),
            format!("a chart is a directory with a {}", charts::CHART_FILE),
        ));
    }
    for (directory, packed) in found {
        let rendered = charts::render(&directory, &packed)
            .map_err(|finding| Failure::plain(finding.to_string()))?;
        for Rendered { name, text, .. } in rendered {
            let line_end = if text.ends_with('\n') { "" } else { "\n" };
            out.text(&format!("---\n# Source: {name}\n{text}{line_end}"))?;
        }
    }
    Ok(())
}
