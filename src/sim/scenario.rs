//! A day in the life of a fleet, drawn by a seed: pushes good and bad, kills, cuts and jumps; then
//! healing, and the time it may take to settle.

use std::fmt::Write as _;
use std::time::Duration;

use crate::kinds::name::NodeName;
use crate::ports::store::Register;
use crate::state::RequestKind;
use crate::state::records::DrainOptions;

use super::check::{self, Safety};
use super::{Files, Interference, Load, Reach, Rng, Weather, World};

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
                    let decisions = world.store.decisions();
                    let settled_after = next_look - self.trouble;
                    let load = world.machines.values().map(|machine| machine.load).sum();
                    let (steps, lasted) = (world.steps(), world.time);
                    return Ok(Outcome { steps, decisions, settled_after, load, lasted });
                }
                Err(what) => missing = what,
            }
        }
        Err(self.report(&world, &format!("it did not settle: {missing}")))
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
        let mut shop = Shop { is_divided: self.apps, ..Shop::default() };
        world.remote.commit("the beginning", shop.files());
        // One machine may have its store to itself; several share a server.
        world.store.is_local = self.nodes == 1 && self.seed.is_multiple_of(2);
        world.all_lead = self.all_lead;
        world.folds_above = self.folds_above;
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

    /// Somebody cordons, drains, uncordons or gives up a node now and then. By a chance of its own, so
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
            let what = match rng.below(8) {
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
            let reach = match rng.below(5) {
                0 => Reach { speaks: false, ..whole },
                1 => Reach { hears: false, ..whole },
                2 => Reach { reads: false, ..whole },
                3 => Reach { pushes: false, ..whole },
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

/// A manifest with an error in it. The comment is for the checks, which must not parse it again.
const BAD: &str = "# bad\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x, namespace: shop}\nspec: {replicsa: 1}\n";

/// What the developers of the simulated fleet have in their repository.
#[derive(Clone, Debug, Default)]
struct Shop {
    deployments: Vec<Workload>,
    edits: u64,
    /// Earlier states, to be reverted to.
    history: Vec<Vec<Workload>>,
    /// Whether it is divided into the apps a and b, beside the default app.
    is_divided: bool,
}

#[derive(Clone, Debug)]
struct Workload {
    name: String,
    replicas: u64,
    image: String,
    shape: Shape,
    /// The class of the claim that its pods share, if they have one.
    claim: Option<&'static str>,
    /// Where it lies, if the repository is divided.
    directory: &'static str,
}

/// Of which kind it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Deployment {
        recreate: bool,
    },
    Stateful {
        is_parallel: bool,
    },
    Daemon {
        surges: bool,
    },
    /// Numbered completions, or not.
    Job {
        indexed: bool,
    },
    CronJob,
}

/// Classes of claims: data is kept, and data goes with its claim.
const CLASSES: [&str; 2] = ["local-path", "gone"];

/// The apps of a repository that is divided: a goes back by itself, b waits for what is in none.
const APPS: &str = "apps:\n- {name: a, path: a, autoRevert: true, wait: {timeout: 1m}}\n\
                    - {name: b, path: b, dependsOn: [default]}\n";
/// Where its manifests lie: in no app, or in one of them.
const DIRECTORIES: [&str; 3] = ["", "a/", "b/"];

/// What Jobs run: programs that end.
const TASKS: [&str; 4] = ["task", "task", "task", "crash"];

const IMAGES: [&str; 7] = ["run", "run", "run", "slow", "deaf", "crash", "missing"];

impl Shop {
    /// Changes something, and says what.
    fn edit(&mut self, rng: &mut Rng) -> String {
        self.edits += 1;
        self.history.push(self.deployments.clone());
        let choice = rng.below(10);
        if self.deployments.is_empty() || (choice < 3 && self.deployments.len() < 5) {
            return self.add(rng);
        }
        let earlier = if choice == 9 { rng.pick(&self.history).cloned() } else { None };
        if let Some(earlier) = earlier {
            self.deployments = earlier;
            return "revert\n\nWindlass-Allow-Prune: yes".to_owned();
        }
        let at = usize::try_from(rng.below(self.deployments.len() as u64)).unwrap_or(0);
        let edits = self.edits;
        if self.is_divided && choice == 5 {
            let directory = rng.pick(&DIRECTORIES).copied().unwrap_or_default();
            if let Some(workload) = self.deployments.get_mut(at) {
                workload.directory = directory;
                return format!("move {} to {directory:?}", workload.name);
            }
        }
        let Some(workload) = self.deployments.get_mut(at) else {
            return "nothing".into();
        };
        let image = new_image(rng, edits, workload.shape);
        match choice {
            3 | 4 => {
                workload.replicas = rng.below(5);
                format!("scale {} to {}", workload.name, workload.replicas)
            }
            8 => {
                let gone = self.deployments.remove(at);
                format!("drop {}\n\nWindlass-Allow-Prune: yes", gone.name)
            }
            _ => {
                workload.image = image;
                format!("update {} to {}", workload.name, workload.image)
            }
        }
    }

    fn add(&mut self, rng: &mut Rng) -> String {
        let shape = new_shape(rng.chance(250), self.edits);
        let workload = Workload {
            name: format!("w{}", self.edits),
            replicas: rng.below(4) + 1,
            image: new_image(rng, self.edits, shape),
            shape,
            claim: None,
            directory: match self.is_divided {
                true => rng.pick(&DIRECTORIES).copied().unwrap_or_default(),
                false => "",
            },
        };
        // By the number, not by chance, so that the rest of a seed stays what it is.
        let shares = matches!(workload.shape, Shape::Deployment { .. });
        let claim = (shares && self.edits % 8 == 1)
            .then(|| CLASSES[usize::from((self.edits / 8).is_multiple_of(2))]);
        let workload = Workload { claim, ..workload };
        let message =
            format!("add {} with {} of {}", workload.name, workload.replicas, workload.image);
        self.deployments.push(workload);
        message
    }

    fn files(&self) -> Files {
        let mut files = Files::new();
        let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
        files.insert("namespace.yaml".into(), namespace.into());
        files.insert("class.yaml".into(), CLASS.into());
        if self.is_divided {
            files.insert("windlass.yaml".into(), APPS.into());
        }
        for workload in &self.deployments {
            let path = format!("{}{}.yaml", workload.directory, workload.name);
            files.insert(path, in_its_wave(&workload.manifest(), &workload.name));
        }
        files
    }

    /// A file with an error in it, and where it lies.
    fn typo(&self, rng: &mut Rng) -> (&'static str, &'static str) {
        if !self.is_divided {
            return ("bad.yaml", BAD);
        }
        match rng.below(4) {
            0 => ("bad.yaml", BAD),
            1 => ("windlass.yaml", "# bad\napps: none\n"),
            2 => ("a/bad.yaml", BAD),
            _ => ("b/bad.yaml", BAD),
        }
    }
}

/// Which kind a workload is of follows from its number, so that the faults of a seed stay what they are.
fn new_shape(is_special: bool, number: u64) -> Shape {
    match number % 4 {
        0 => Shape::Stateful { is_parallel: is_special },
        1 => Shape::Deployment { recreate: is_special },
        2 => Shape::Daemon { surges: is_special },
        _ if is_special => Shape::CronJob,
        _ => Shape::Job { indexed: number % 8 == 3 },
    }
}

fn new_image(rng: &mut Rng, version: u64, shape: Shape) -> String {
    let ends = matches!(shape, Shape::Job { .. } | Shape::CronJob);
    let images: &[&str] = if ends { &TASKS } else { &IMAGES };
    format!("{}:v{version}", rng.pick(images).copied().unwrap_or("run"))
}

impl Workload {
    fn job(&self, indexed: bool) -> String {
        let Self { name, replicas, image, .. } = self;
        let mode = if indexed { "Indexed" } else { "NonIndexed" };
        format!(
            "apiVersion: batch/v1
kind: Job
metadata: {{name: {name}, namespace: shop}}
spec:
  completions: {replicas}
  parallelism: 2
  completionMode: {mode}
  backoffLimit: 4
  template:
    spec:
      restartPolicy: Never
      terminationGracePeriodSeconds: 10
      containers:
        - {{name: main, image: \"{image}\"}}
"
        )
    }

    fn cron_job(&self) -> String {
        let Self { name, image, .. } = self;
        format!(
            "apiVersion: batch/v1
kind: CronJob
metadata: {{name: {name}, namespace: shop}}
spec:
  schedule: \"*/3 * * * *\"
  concurrencyPolicy: Replace
  successfulJobsHistoryLimit: 0
  jobTemplate:
    spec:
      backoffLimit: 1
      template:
        spec:
          restartPolicy: Never
          terminationGracePeriodSeconds: 10
          containers:
            - {{name: main, image: \"{image}\"}}
"
        )
    }

    fn manifest(&self) -> String {
        let Self { name, replicas, image, shape, claim, .. } = self;
        let (mount, claim) = match claim {
            None => (String::new(), String::new()),
            Some(class) => (volume(name), claim_of(name, class)),
        };
        let (kind, fields) = match shape {
            Shape::Deployment { recreate } => {
                let strategy = if *recreate { "Recreate" } else { "RollingUpdate" };
                ("Deployment", format!("replicas: {replicas}\n  strategy: {{type: {strategy}}}"))
            }
            Shape::Stateful { is_parallel } => {
                let policy = if *is_parallel { "Parallel" } else { "OrderedReady" };
                let fields = format!(
                    "replicas: {replicas}\n  serviceName: {name}\n  podManagementPolicy: {policy}"
                );
                ("StatefulSet", fields)
            }
            Shape::Daemon { surges: true } => {
                let bounds = "{maxSurge: 1, maxUnavailable: 0}";
                ("DaemonSet", format!("updateStrategy: {{rollingUpdate: {bounds}}}"))
            }
            Shape::Daemon { surges: false } => ("DaemonSet", "minReadySeconds: 1".to_owned()),
            Shape::Job { indexed } => return self.job(*indexed),
            Shape::CronJob => return self.cron_job(),
        };
        format!(
            "apiVersion: apps/v1
kind: {kind}
metadata: {{name: {name}, namespace: shop}}
spec:
  {fields}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
        - {{name: main, image: \"{image}\"}}
{mount}{claim}---
apiVersion: v1
kind: Service
metadata: {{name: {name}, namespace: shop}}
spec:
  selector: {{app: {name}}}
  ports: [{{port: 80}}]
"
        )
    }
}

/// Every third workload comes a wave later, by its number. The first object of a manifest is the one
/// that has something to wait for.
fn in_its_wave(manifest: &str, name: &str) -> String {
    let number: u64 = name.trim_start_matches('w').parse().unwrap_or(0);
    let metadata = "namespace: shop}";
    match number % 3 {
        2 => manifest.replacen(
            metadata,
            "namespace: shop, annotations: {windlass.dev/wave: \"1\"}}",
            1,
        ),
        _ => manifest.to_owned(),
    }
}

/// A class whose data goes with its claim.
const CLASS: &str = "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: gone}\n\
provisioner: rancher.io/local-path\nreclaimPolicy: Delete\nvolumeBindingMode: WaitForFirstConsumer\n";

fn volume(claim: &str) -> String {
    format!("      volumes: [{{name: data, persistentVolumeClaim: {{claimName: {claim}}}}}]\n")
}

fn claim_of(name: &str, class: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {{name: {name}, namespace: shop}}
spec: {{storageClassName: {class}, accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}}}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Seeds run by `make test`; `make soak` runs more.
    const SEEDS: u64 = 200;

    #[test]
    fn a_day_of_failures_is_survived_whatever_the_seed() {
        for seed in seeds(SEEDS) {
            if let Err(report) = Scenario::of(seed).run() {
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
        let scenario = Scenario { nodes, trouble, ..Scenario::of(3) };
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
