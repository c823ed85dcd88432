//! A day in the life of a fleet, drawn by a seed: pushes good and bad, kills, cuts and jumps; then
//! healing, and the time it may take to settle.

use std::fmt::Write as _;
use std::time::Duration;

use crate::kinds::name::NodeName;
use crate::ports::store::Register;
use crate::state::RequestKind;
use crate::state::records::DrainOptions;

use super::check::{self, Safety};
use super::shop::Shop;
use super::{Interference, Load, Reach, Rng, Weather, World, converge};

/// What a run looks like.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// Where chance begins.
    pub seed: u64,
    /// How many machines.
    pub nodes: u32,
    /// How long faults fall.
    pub trouble: Duration,
    /// How long it may take to settle afterwards. Back-offs of five minutes may stand.
    pub settle: Duration,
    /// Whether every agent believes that it leads.
    pub all_lead: bool,
    /// Whether the repository is divided into apps.
    pub apps: bool,
    /// Above how many nodes a coordinator folds what nodes say.
    pub folds_above: usize,
    /// Whether what it comes to is held against what a fleet without its past comes to.
    pub compares: bool,
    /// How many of the last happenings are told with what went wrong.
    pub trace: usize,
}

/// How a run ended.
#[derive(Debug)]
pub struct Outcome {
    /// How many things happened.
    pub steps: u64,
    /// How many decisions were written.
    pub decisions: usize,
    /// How long it took to settle after healing.
    pub settled_after: Duration,
    /// What was asked of the Git server, and in which time.
    pub load: Load,
    /// See `load`.
    pub lasted: Duration,
}

impl Scenario {
    /// The scenario of a seed, as `make test` runs it.
    pub fn of(seed: u64) -> Self {
        Self {
            seed,
            nodes: 1,
            trouble: Duration::from_secs(600),
            settle: Duration::from_secs(900),
            all_lead: false,
            apps: false,
            folds_above: super::machine::FOLDS_ABOVE,
            compares: true,
            trace: super::TRACE_MAX,
        }
    }

    /// Runs it. An error says what went wrong, how to repeat it, and what happened last.
    pub fn run(&self) -> Result<Outcome, String> {
        let mut world = self.world();
        let mut safety = Safety::default();
        while world.step(self.trouble) {
            safety.check(&world).map_err(|violation| self.report(&world, &violation))?;
        }
        world.heal();
        let deadline = self.trouble + self.settle;
        // Looking whether it has settled costs more than a step, so it is done once a second.
        let mut next_look = self.trouble;
        let mut missing = String::new();
        while next_look < deadline {
            next_look += Duration::from_secs(1);
            while world.step(next_look) {
                safety.check(&world).map_err(|violation| self.report(&world, &violation))?;
            }
            match check::settled(&world) {
                Ok(()) => {
                    let settled_after = next_look - self.trouble;
                    if self.compares {
                        self.forget_the_past(&mut world, &mut safety)?;
                    }
                    let decisions = world.store.decisions();
                    let load = world.machines.values().map(|machine| machine.load).sum();
                    let (steps, lasted) = (world.steps(), world.time);
                    return Ok(Outcome { steps, decisions, settled_after, load, lasted });
                }
                Err(what) => missing = what,
            }
        }
        Err(self.report(&world, &format!("it did not settle: {missing}")))
    }

    /// What the fleet has come to is what a fleet without its past comes to, given what is in force
    /// alone. The two may take a little longer until all is said that was done, and an app may still go
    /// back from what does not run.
    fn forget_the_past(&self, world: &mut World, safety: &mut Safety) -> Result<(), String> {
        const PATIENCE: Duration = Duration::from_secs(300);
        let deadline = world.time + PATIENCE;
        let mut given = None;
        let mut difference = None;
        while world.time < deadline {
            let next_look = world.time + Duration::from_secs(5);
            while world.step(next_look) {
                safety.check(world).map_err(|violation| self.report(world, &violation))?;
            }
            if converge::is_half_way(world)? {
                return Ok(());
            }
            let in_force = converge::in_force(world)?;
            let (files, mut fresh) = match given.take() {
                Some((files, fresh)) if files == in_force => (files, fresh),
                _ => {
                    let fresh = converge::fresh(world, in_force.clone(), self.settle);
                    let fault =
                        |what: String| self.report(world, &format!("a fresh fleet: {what}"));
                    (in_force, fresh.map_err(fault)?)
                }
            };
            let next_look = fresh.time + Duration::from_secs(5);
            while fresh.step(next_look) {}
            difference = converge::difference(world, &fresh);
            if difference.is_none() {
                return Ok(());
            }
            given = Some((files, fresh));
        }
        let what = difference.unwrap_or_default();
        Err(self.report(world, &format!("its past shows: {what}")))
    }

    fn world(&self) -> World {
        let mut rng = Rng::new(self.seed);
        let rough = |rng: &mut Rng, most: u64| u32::try_from(rng.below(most)).unwrap_or(0);
        let weather = Weather {
            fails: rough(&mut rng, 60),
            lies: rough(&mut rng, 40),
            hangs: rough(&mut rng, 10),
            deaf: rough(&mut rng, 200),
            stale: rough(&mut rng, 60),
        };
        let mut world = World::new(self.seed ^ 0x5eed, weather);
        let nodes: Vec<NodeName> =
            (0..self.nodes).map(|number| NodeName::trusted(&format!("n{number}"))).collect();
        let mut shop = Shop::new(self.seed, self.apps, self.nodes);
        world.remote.commit("the beginning", shop.files());
        // One machine may have its store to itself; several share a server.
        world.store.is_local = self.nodes == 1 && self.seed.is_multiple_of(2);
        world.all_lead = self.all_lead;
        world.folds_above = self.folds_above;
        world.trace_max = self.trace;
        for node in &nodes {
            world.add_machine(node.as_str());
        }
        let mut at = Duration::ZERO;
        loop {
            at += rng.between(Duration::from_millis(200), Duration::from_secs(40));
            if at >= self.trouble {
                break;
            }
            trouble(&mut world, &mut rng, &nodes, &mut shop, at);
        }
        self.plan_people(&mut world, &nodes);
        self.plan_links(&mut world, &nodes);
        self.plan_restore(&mut world, &nodes, &shop);
        world
    }

    /// Somebody cordons, drains, uncordons or gives up a node now and then, or evicts its pods. By a chance of its own, so
    /// that the faults of a seed stay what they are.
    fn plan_people(&self, world: &mut World, nodes: &[NodeName]) {
        let mut rng = Rng::new(self.seed ^ 0x0009_e091);
        let mut at = Duration::ZERO;
        loop {
            at += rng.between(Duration::from_secs(10), Duration::from_secs(150));
            let (Some(asked), Some(node)) = (rng.pick(nodes), rng.pick(nodes)) else {
                return;
            };
            if at >= self.trouble {
                return;
            }
            let node = node.clone();
            let what = match rng.below(10) {
                8 | 9 => {
                    world.plan(at, Interference::EvictPods(asked.clone(), node));
                    continue;
                }
                0 | 1 => RequestKind::Cordon { node },
                2 | 3 => RequestKind::Uncordon { node },
                4 | 5 => RequestKind::Drain { node, how: DrainOptions::default() },
                6 => RequestKind::Fence { node, forget: false },
                _ => RequestKind::Fence { node, forget: true },
            };
            world.plan(at, Interference::Ask(asked.clone(), what));
        }
    }

    /// Now and then something passes in one direction only, or a disk is full. By a chance of its
    /// own, too.
    fn plan_links(&self, world: &mut World, nodes: &[NodeName]) {
        let mut rng = Rng::new(self.seed ^ 0x0011_4b5d);
        let mut at = Duration::ZERO;
        loop {
            at += rng.between(Duration::from_secs(5), Duration::from_secs(200));
            let end = at + rng.between(Duration::from_secs(1), Duration::from_secs(120));
            let Some(node) = rng.pick(nodes).cloned().filter(|_| at < self.trouble) else {
                return;
            };
            let whole = Reach::default();
            let reach = match rng.below(6) {
                0 => Reach { speaks: false, ..whole },
                1 => Reach { hears: false, ..whole },
                2 => Reach { reads: false, ..whole },
                3 => Reach { pushes: false, ..whole },
                4 => {
                    world.plan(at, Interference::HangLooks(node.clone()));
                    world.plan(end, Interference::AnswerLooks(node));
                    continue;
                }
                _ => {
                    world.plan(at, Interference::FillDisk(node.clone()));
                    world.plan(end, Interference::ClearDisk(node));
                    continue;
                }
            };
            world.plan(at, Interference::Reach(node.clone(), reach));
            world.plan(end, Interference::Reach(node, whole));
        }
    }

    /// In some runs a backup of the state store is restored, and then somebody says that it is meant, in
    /// a commit or on a machine; or deletes the ref, or does nothing until the end.
    fn plan_restore(&self, world: &mut World, nodes: &[NodeName], shop: &Shop) {
        let mut rng = Rng::new(self.seed ^ 0x0bac_0bac);
        let Some(node) = rng.pick(nodes).filter(|_| rng.chance(400) && !self.all_lead) else {
            return;
        };
        let backup = rng.between(self.trouble / 6, self.trouble / 2);
        let restored = rng.between(backup, self.trouble * 5 / 6);
        let said = restored + rng.between(Duration::from_secs(1), Duration::from_secs(60));
        world.plan(backup, Interference::BackUp);
        world.plan(restored, Interference::Restore);
        let what = match rng.below(4) {
            0 => {
                let mut files = shop.files();
                files.insert("windlass.yaml".into(), "stateEpoch: 5\n".into());
                Interference::Push("epoch 5\n\nWindlass-Allow-Prune: yes".into(), files)
            }
            1 => Interference::Adopt(node.clone()),
            2 if !world.store.is_local => Interference::DeleteRegister(Register::Coordinator),
            _ => return,
        };
        world.plan(said, what);
    }

    fn report(&self, world: &World, what: &str) -> String {
        let mut text = format!(
            "after {} s: {what}\nrepeat with: windlass simulate --seed {} --nodes {} --for {}s \
             --fold-above {}{}\n",
            world.time.as_secs(),
            self.seed,
            self.nodes,
            self.trouble.as_secs(),
            self.folds_above,
            match (self.all_lead, self.apps) {
                (true, _) => " --all-lead",
                (false, true) => " --apps",
                (false, false) => "",
            },
        );
        for line in world.trace() {
            // Writing to a String cannot fail.
            let _ = writeln!(text, "{line}");
        }
        text
    }
}

/// Plans one piece of trouble, and its end where it has one.
fn trouble(world: &mut World, rng: &mut Rng, nodes: &[NodeName], shop: &mut Shop, at: Duration) {
    let Some(node) = rng.pick(nodes).cloned() else {
        return;
    };
    let lasts = rng.between(Duration::from_millis(50), Duration::from_secs(30));
    let end = at + lasts;
    match rng.below(18) {
        0..=3 => {
            // What was mended late may have brought back what had been dropped.
            let message = format!("{}\n\nWindlass-Allow-Prune: yes", shop.edit(rng));
            world.plan(at, Interference::Push(message, shop.files()));
        }
        4 => {
            let mut files = shop.files();
            let (path, text) = shop.typo(rng);
            files.insert(path.into(), text.into());
            world.plan(at, Interference::Push("a typo".into(), files));
            // By then others may have added what is not in it.
            let message = "mended\n\nWindlass-Allow-Prune: yes".to_owned();
            world.plan(end, Interference::Push(message, shop.files()));
        }
        5 | 6 => {
            world.plan(at, Interference::KillAgent(node.clone()));
            world.plan(end, Interference::StartAgent(node));
        }
        7 => {
            world.plan(at, Interference::StopRuntime(node.clone()));
            world.plan(end, Interference::StartRuntime(node));
        }
        8 => world.plan(at, Interference::KillContainer(node)),
        9 => world.plan(at, Interference::KillPause(node)),
        10 => {
            world.plan(at, Interference::PowerCut(node.clone()));
            world.plan(end, Interference::StartAgent(node));
        }
        11 => world.plan(at, Interference::FlushRules(node)),
        12 => {
            let hours = i64::try_from(rng.below(20_000)).unwrap_or(0) - 10_000;
            world.plan(at, Interference::JumpClock(node, hours * 3600));
        }
        13 => {
            world.plan(at, Interference::CutRemote);
            world.plan(end, Interference::HealRemote);
        }
        14 => {
            // Now and then for as long as a lease and more.
            let end = at + lasts * 4;
            world.plan(at, Interference::CutStore);
            world.plan(end, Interference::HealStore);
        }
        15 => {
            // Long enough, now and then, for its pods to be replaced elsewhere.
            let end = at + lasts * 12;
            world.plan(at, Interference::Reach(node.clone(), Reach::NONE));
            world.plan(end, Interference::Reach(node, Reach::default()));
        }
        16 => {
            let end = at + lasts * 12;
            world.plan(at, Interference::PowerCut(node.clone()));
            world.plan(end, Interference::StartAgent(node));
        }
        // Whoever believes that it leads believes that it knows the last decision, too.
        _ if world.store.is_local || world.all_lead => {}
        _ => {
            let register = match rng.below(2) {
                0 => Register::Coordinator,
                _ => Register::Node(node),
            };
            world.plan(at, Interference::DeleteRegister(register));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seeds run by `make test`; `make soak` runs more.
    const SEEDS: u64 = 200;

    #[test]
    fn a_day_of_failures_is_survived_whatever_the_seed() {
        for seed in seeds(SEEDS) {
            // One machine alone differs little from what it was; fleets are all compared.
            let compares = seed.is_multiple_of(4);
            if let Err(report) = (Scenario { compares, ..Scenario::of(seed) }).run() {
                panic!("seed {seed}: {report}");
            }
        }
    }

    /// The seeds of a run: all, or the one that is asked for.
    fn seeds(count: u64) -> std::ops::Range<u64> {
        let first = std::env::var("WINDLASS_SEED").ok().and_then(|seed| seed.parse().ok());
        first.map_or(0..count, |seed| seed..seed + 1)
    }

    #[test]
    fn a_day_of_a_fleet_is_survived_whatever_the_seed() {
        for seed in seeds(60) {
            let nodes = 2 + u32::try_from(seed % 4).unwrap_or(0);
            if let Err(report) = (Scenario { nodes, ..Scenario::of(seed) }).run() {
                panic!("seed {seed}: {report}");
            }
        }
    }

    #[test]
    fn a_day_of_a_repository_with_apps_is_survived_whatever_the_seed() {
        for seed in seeds(60) {
            let nodes = 1 + u32::try_from(seed % 3).unwrap_or(0);
            if let Err(report) = (Scenario { nodes, apps: true, ..Scenario::of(seed) }).run() {
                panic!("seed {seed}: {report}");
            }
        }
    }

    #[test]
    fn a_fleet_in_which_everybody_leads_is_safe() {
        for seed in seeds(20) {
            if let Err(report) = (Scenario { nodes: 3, all_lead: true, ..Scenario::of(seed) }).run()
            {
                panic!("seed {seed}: {report}");
            }
        }
    }

    /// A fleet that folds at three nodes: the same faults, the other way of reading.
    #[test]
    fn a_folding_fleet_survives_its_day_whatever_the_seed() {
        for seed in seeds(30) {
            let nodes = 5 + u32::try_from(seed % 4).unwrap_or(0);
            let scenario = Scenario { nodes, folds_above: 3, ..Scenario::of(seed) };
            if let Err(report) = scenario.run() {
                panic!("seed {seed}: {report}");
            }
        }
    }

    #[test]
    fn hundreds_of_nodes_survive_and_ask_little_of_the_server() {
        let nodes = 200;
        let trouble = Duration::from_secs(60);
        // A fresh fleet of that size costs as much again.
        let scenario = Scenario { nodes, trouble, compares: false, ..Scenario::of(3) };
        let outcome = scenario.run().unwrap_or_else(|report| panic!("{report}"));
        let (load, nodes) = (outcome.load, u64::from(nodes));
        // Before there is a fold everybody reads everybody once. From then on the coordinator and three
        // more read whatever moves, and everybody reads each decision. Half as much again for those
        // who take over, or look whether they must. Were all to read all, it would be ten times that.
        let moves = load.beats + load.writes;
        let decisions = u64::try_from(outcome.decisions).unwrap_or(u64::MAX);
        let expected = nodes * nodes + 4 * moves + nodes * decisions;
        assert!(load.reads < expected * 3 / 2, "{} reads, not {expected}: {load:?}", load.reads);
        // What one core of the server carries: 51 a second of what nodes do by themselves, and the rest
        // for decisions, reports, and looks that follow a word.
        let operations = load.operations() as f64 / outcome.lasted.as_secs_f64();
        assert!(operations < 65.0, "{operations} a second: {load:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_run() {
        let run = || Scenario::of(7).run().map(|outcome| (outcome.steps, outcome.decisions));
        assert_eq!(run(), run());
    }
}
