//! `windlass simulate`: a day of failures in seconds, drawn by a seed, on machines that exist in memory
//! only. The code that runs is the agent's own.

use clap::Args;

use super::Context;
use super::fault::Failure;
use crate::sim::scenario::Scenario;

/// What is simulated.
#[derive(Args, Debug)]
pub(super) struct Simulate {
    /// Where chance begins; the same seed gives the same run
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// How many seeds, one after the other; 0 goes on until something is wrong
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    seeds: u64,
    /// How many machines
    #[arg(long, default_value_t = 1)]
    nodes: u32,
    /// Every agent believes that it leads: safety does not rest on the lease
    #[arg(long)]
    all_lead: bool,
}

/// Runs the command.
pub(super) fn run(args: &Simulate, context: &mut Context) -> Result<(), Failure> {
    let last = args.seeds.checked_sub(1).map_or(u64::MAX, |more| args.seed.saturating_add(more));
    for seed in args.seed..=last {
        let (nodes, all_lead) = (args.nodes.max(1), args.all_lead);
        let scenario = Scenario { nodes, all_lead, ..Scenario::of(seed) };
        let outcome = scenario.run().map_err(Failure::plain)?;
        context.out.text(&format!(
            "seed {seed}: {} things happened, {} decisions, settled {} s after the last fault\n",
            outcome.steps,
            outcome.decisions,
            outcome.settled_after.as_secs(),
        ))?;
    }
    Ok(())
}
