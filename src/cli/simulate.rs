//! `windlass simulate`: the agent's own code on machines that exist in memory only.
//!
//! Without a directory: a day of failures in seconds, drawn by a seed. With one: what would become of
//! these manifests on so many machines, and if this one died.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;

use super::Context;
use super::config::parse_duration;
use super::fault::Failure;
use super::validate;
use crate::kinds::name::{NameRule, NodeName};
use crate::kinds::quantity::Quantity;
use crate::plan;
use crate::sim::TRACE_MAX;
use crate::sim::rehearsal::{Rehearsal, Story, Trouble};
use crate::sim::scenario::Scenario;

/// How long manifests are played through if nobody says otherwise.
const LASTS: Duration = Duration::from_secs(900);

/// What is simulated.
#[derive(Args, Debug)]
#[command(
    after_help = "With a directory, exits with 1 if the manifests would be refused or a pod \
                        has no node in the end."
)]
pub(super) struct Simulate {
    /// Manifests to play through; without, a day of failures is drawn by the seed
    #[arg(value_name = "DIRECTORY")]
    directory: Option<PathBuf>,
    /// Where chance begins; the same seed gives the same run
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other; 0 goes on until something is wrong
    #[arg(long, default_value_t = 1, value_name = "COUNT", conflicts_with = "directory")]
    seeds: u64,
    /// How many machines
    #[arg(long, default_value_t = 1)]
    nodes: u32,
    /// Every agent believes that it leads: safety does not rest on the lease
    #[arg(long, conflicts_with = "directory")]
    all_lead: bool,
    /// The repository is divided into apps
    #[arg(long, conflicts_with_all = ["directory", "all_lead"])]
    apps: bool,
    /// In fleets of more machines not every one reads what every other says, as fleet.foldAbove
    #[arg(long, value_name = "NODES", default_value_t = 50, conflicts_with = "directory")]
    fold_above: usize,
    /// How many of the last happenings are told with what went wrong
    #[arg(long, value_name = "LINES", default_value_t = TRACE_MAX, conflicts_with = "directory")]
    trace: usize,
    /// A machine loses its power: n1@2m for good, n1@2m-5m until then; may be given several times
    #[arg(long, value_name = "NODE@TIME", requires = "directory")]
    kill: Vec<String>,
    /// A machine loses its way to the Git server, written alike
    #[arg(long, value_name = "NODE@TIME", requires = "directory")]
    cut: Vec<String>,
    /// How long it goes on (15m), or how long failures fall (10m)
    #[arg(long = "for", value_name = "TIME")]
    lasts: Option<String>,
    /// Processors of each machine
    #[arg(long, default_value_t = 4, requires = "directory")]
    cpus: u32,
    /// Memory of each machine
    #[arg(long, default_value = "8Gi", requires = "directory")]
    memory: String,
}

/// Runs the command.
pub(super) fn run(args: &Simulate, context: &mut Context) -> Result<(), Failure> {
    if let Some(directory) = &args.directory {
        return rehearse(args, directory, context);
    }
    let lasts = duration(args.lasts.as_deref())?;
    let last = args.seeds.checked_sub(1).map_or(u64::MAX, |more| args.seed.saturating_add(more));
    for seed in args.seed..=last {
        let (nodes, all_lead, apps) = (args.nodes.max(1), args.all_lead, args.apps);
        let (folds_above, trace) = (args.fold_above, args.trace);
        let scenario = Scenario { nodes, all_lead, apps, folds_above, trace, ..Scenario::of(seed) };
        let trouble = lasts.unwrap_or(scenario.trouble);
        let outcome = Scenario { trouble, ..scenario }.run().map_err(Failure::plain)?;
        context.out.text(&format!(
            "seed {seed}: {} things happened, {} decisions, settled {} s after the last fault\n",
            outcome.steps,
            outcome.decisions,
            outcome.settled_after.as_secs(),
        ))?;
        if nodes > 1 {
            context.out.text(&outcome.load.told(nodes, outcome.lasted))?;
        }
    }
    Ok(())
}

fn rehearse(args: &Simulate, directory: &Path, context: &mut Context) -> Result<(), Failure> {
    let memory = Quantity::parse(&args.memory)
        .map_err(|why| Failure::usage(format!("--memory {why}")))?
        .as_units();
    let kills = args.kill.iter().map(|text| trouble(text, true));
    let cuts = args.cut.iter().map(|text| trouble(text, false));
    let rehearsal = Rehearsal {
        files: validate::texts(directory)?,
        nodes: args.nodes.max(1),
        cpus: args.cpus,
        memory_bytes: u64::try_from(memory).unwrap_or(0),
        troubles: kills.chain(cuts).collect::<Result<_, _>>()?,
        lasts: duration(args.lasts.as_deref())?.unwrap_or(LASTS),
        seed: args.seed,
    };
    let story = rehearsal.run().map_err(Failure::plain)?;
    context.out.text(&told(&story))?;
    if let Some(why) = &story.refused {
        let hint = format!("windlass validate {} shows each finding", directory.display());
        return Err(Failure::hinted(
            format!("the manifests would not come into force: {why}"),
            hint,
        ));
    }
    let homeless = story.pods.iter().filter(|(_, node, _)| node.is_none()).count();
    if homeless > 0 { Err(Failure::Code(1)) } else { Ok(()) }
}

fn duration(text: Option<&str>) -> Result<Option<Duration>, Failure> {
    let read = |text| parse_duration(text).map_err(|why| Failure::usage(format!("--for {why}")));
    text.map(read).transpose()
}

/// Reads `n1@2m` and `n1@2m-5m`.
fn trouble(text: &str, is_power_cut: bool) -> Result<Trouble, Failure> {
    let complaint = || Failure::usage(format!("'{text}' is none of n1@2m and n1@2m-5m"));
    let time = |text: &str| parse_duration(text).map_err(|_| complaint());
    let (node, times) = text.split_once('@').ok_or_else(complaint)?;
    let node = NodeName::parse(node, NameRule::Subdomain).map_err(|_| complaint())?;
    let (from, until) = match times.split_once('-') {
        Some((from, until)) => (time(from)?, Some(time(until)?)),
        None => (time(times)?, None),
    };
    if until.is_some_and(|until| until <= from) {
        return Err(complaint());
    }
    Ok(Trouble { node, is_power_cut, from, until })
}

fn told(story: &Story) -> String {
    let mut text = String::new();
    for (at, node, what) in &story.decisions {
        let lines =
            what.lines().filter(|line| !line.is_empty() && !line.starts_with(plan::RECORDS));
        let lines: Vec<&str> = lines.collect();
        // The first line sums up the others where there are several.
        for line in lines.get(1..).filter(|rest| !rest.is_empty()).unwrap_or(&lines) {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{:>6} s  {node}: {line}", at.as_secs());
        }
    }
    text.push('\n');
    for (pod, node, why) in &story.pods {
        let node = node.as_ref().map_or("<none>", |node| node.as_str());
        let why = why.as_deref().unwrap_or_default();
        let _ = writeln!(text, "{}", format!("{pod:<50} {node:<20} {why}").trim_end());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn troubles_are_read() {
        let read =
            |text| trouble(text, true).map(|t| (t.from.as_secs(), t.until.map(|u| u.as_secs())));
        assert_eq!(read("n1@2m").ok(), Some((120, None)));
        assert_eq!(read("n1@30s-5m").ok(), Some((30, Some(300))));
        for wrong in ["n1", "@2m", "n1@", "n1@x", "n1@5m-2m", "N_1@2m"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }
}
