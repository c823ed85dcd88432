//! `windlass api-resources`: the kinds there are, the words for them, and what is done with each.

use std::fmt::Write as _;

use clap::{Args, ValueEnum};

use super::fault::Failure;
use super::out::Out;
use crate::kinds::registry::{KINDS, KindInfo, Support};
use crate::view::tabs;

/// Arguments of `windlass api-resources`.
#[derive(Args, Debug)]
pub(super) struct ApiResources {
    /// Only kinds that live in namespaces, or (false) only those that don't
    #[arg(long, value_name = "BOOL", num_args = 0..=1, default_missing_value = "true")]
    namespaced: Option<bool>,
    /// Form of the answer
    #[arg(short, long, value_enum, value_name = "FORM")]
    output: Option<Form>,
    /// Leave out the heads of columns
    #[arg(long)]
    no_headers: bool,
}

/// Forms of the answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Nothing but names
    Name,
    /// More columns
    Wide,
}

/// kubectl's tab stops.
const PADDING: usize = 3;
const LEAST: usize = 6;

pub(super) fn run(args: &ApiResources, out: &mut Out) -> Result<(), Failure> {
    let chosen = |info: &&KindInfo| args.namespaced.is_none_or(|wanted| wanted == info.namespaced);
    let mut chosen: Vec<&KindInfo> = KINDS.iter().filter(chosen).collect();
    // As kubectl: the core group first, then by group.
    chosen.sort_by_key(|info| (info.group, info.plural));
    let mut text = String::new();
    if !args.no_headers && args.output != Some(Form::Name) {
        text.push_str("NAME\tSHORTNAMES\tAPIVERSION\tNAMESPACED\tKIND");
        text.push_str(if args.output == Some(Form::Wide) { "\tIN A MANIFEST\n" } else { "\n" });
    }
    for info in chosen {
        // Writing to a String cannot fail.
        let _ = match args.output {
            Some(Form::Name) => match info.group {
                "" => writeln!(text, "{}", info.plural),
                group => writeln!(text, "{}.{group}", info.plural),
            },
            form => {
                let row = [
                    info.plural.to_owned(),
                    info.short.join(","),
                    info.kind.api_version(),
                    info.namespaced.to_string(),
                    info.name.to_owned(),
                ];
                let mut row = row.join("\t");
                if form == Some(Form::Wide) {
                    row.push('\t');
                    row.push_str(support(info.support));
                }
                writeln!(text, "{row}")
            }
        };
    }
    out.text(&tabs::lay_out(&text, LEAST, PADDING))
}

fn support(support: Support) -> &'static str {
    match support {
        Support::Runs => "carried out",
        Support::Shown => "accepted, nothing acts on it yet",
        Support::Refused => "refused",
        Support::Made => "refused: only made by Windlass",
    }
}
