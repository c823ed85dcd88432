//! What the developers of the simulated fleet have in their repository, and what they do to it.

use super::{Files, Rng};

/// A manifest with an error in it. The comment is for the checks, which must not parse it again.
const BAD: &str = "# bad\napiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x, namespace: shop}\nspec: {replicsa: 1}\n";

/// What the developers of the simulated fleet have in their repository.
#[derive(Clone, Debug)]
pub(super) struct Shop {
    workloads: Vec<Workload>,
    edits: u64,
    /// Earlier states, to be reverted to.
    history: Vec<Vec<Workload>>,
    /// Whether it is divided into the apps a and b, beside the default app.
    is_divided: bool,
    /// Chance for everything that came later, so that the faults of a seed stay what they are.
    twists: Rng,
    /// The same for what came later still: budgets and classes.
    guards: Rng,
    /// What a pod of no fixed place asks for, in thousandths of a processor.
    asks_millis: u32,
}

#[derive(Clone, Debug)]
struct Workload {
    name: String,
    replicas: u64,
    image: String,
    shape: Shape,
    /// The class of its claim, if it has one: a Deployment's pods share theirs, each of a
    /// StatefulSet's has its own.
    claim: Option<&'static str>,
    /// Whether each pod has a volume that comes and goes with it.
    has_scratch: bool,
    /// How it is held back.
    hold: Hold,
    /// How many of its pods may be missing on purpose, if anybody cares.
    budget: Option<Budget>,
    /// How much its pods matter.
    class: Option<&'static str>,
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
    /// A ReplicaSet, or in its old form a ReplicationController.
    Set {
        is_old: bool,
    },
    /// Written by hand.
    Pod,
    /// Numbered completions, or not.
    Job {
        indexed: bool,
    },
    CronJob,
}

/// How somebody holds back what would go on by itself, where the kind has a word for it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Hold {
    #[default]
    None,
    /// `paused`, or a Job's `suspend`.
    Paused,
    /// `partition`.
    Below(u64),
    /// `OnDelete`.
    OnDelete,
}

/// What a PodDisruptionBudget asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Budget {
    /// So many ready ones, or all that there are to be.
    AtLeast(u64),
    HalfOfThem,
    /// So many may be missing.
    AllBut(u64),
}

const BUDGETS: [Budget; 5] = [
    Budget::AtLeast(1),
    Budget::AtLeast(3),
    Budget::HalfOfThem,
    Budget::AllBut(0),
    Budget::AllBut(1),
];

/// Which pods matter more than those that say nothing, which less, and which matter more and wait.
const PRIORITIES: [(&str, i32, &str); 3] = [
    ("urgent", 1000, "PreemptLowerPriority"),
    ("patient", 500, "Never"),
    ("idle", -10, "PreemptLowerPriority"),
];

/// So many pods that ask for processors find a place in a whole fleet: more than there ever are. While
/// a machine is lost or drained, some don't.
const PLACES: u32 = 32;
/// What a simulated machine has, in thousandths of a processor.
const MACHINE_MILLIS: u32 = 4000;

/// Classes of claims: data is kept, and data goes with its claim.
const CLASSES: [&str; 2] = ["local-path", "gone"];

/// The apps of a repository that is divided: a goes back by itself, b waits for what is in none, and in
/// both a part goes ahead.
const APPS: &str = "apps:\n\
    - {name: a, path: a, autoRevert: true, wait: {timeout: 1m}, canary: {share: 30%, for: 20s}}\n\
    - {name: b, path: b, dependsOn: [default], canary: {share: 1}}\n";
/// The app that depends on the files of no app.
pub(super) const DEPENDENT: &str = "b";
/// Where its manifests lie: in no app, or in one of them.
const DIRECTORIES: [&str; 3] = ["", "a/", "b/"];

/// What Jobs run: programs that end.
const TASKS: [&str; 4] = ["task", "task", "task", "crash"];

const IMAGES: [&str; 7] = ["run", "run", "run", "slow", "deaf", "crash", "missing"];

impl Shop {
    /// An empty one.
    pub(super) fn new(seed: u64, is_divided: bool, nodes: u32) -> Self {
        Self {
            workloads: Vec::new(),
            edits: 0,
            history: Vec::new(),
            is_divided,
            twists: Rng::new(seed ^ 0x0074_7715),
            guards: Rng::new(seed ^ 0x00b0_d9e7),
            asks_millis: MACHINE_MILLIS / PLACES.div_ceil(nodes.max(1)),
        }
    }

    /// Changes something, and says what.
    pub(super) fn edit(&mut self, rng: &mut Rng) -> String {
        self.edits += 1;
        self.history.push(self.workloads.clone());
        let mut done = self.edit_as_drawn(rng);
        if self.twists.chance(300) {
            done = format!("{}\n{done}", self.twist());
        }
        if self.guards.chance(200) {
            done = format!("{}\n{done}", self.guard());
        }
        done
    }

    /// Somebody thinks again about what a workload's pods are worth.
    fn guard(&mut self) -> String {
        let at = usize::try_from(self.guards.below(self.workloads.len() as u64)).unwrap_or(0);
        let Some(shape) = self.workloads.get(at).map(|workload| workload.shape) else {
            return "nothing".to_owned();
        };
        let (budget, class) = (self.new_budget(shape), self.new_class(shape));
        let Some(workload) = self.workloads.get_mut(at) else {
            return "nothing".to_owned();
        };
        match self.guards.chance(700) {
            true => workload.budget = budget,
            false => workload.class = class,
        }
        format!("guard {}: {:?}, {:?}", workload.name, workload.budget, workload.class)
    }

    fn new_budget(&mut self, shape: Shape) -> Option<Budget> {
        let has_pods = match shape {
            Shape::Deployment { .. } | Shape::Stateful { .. } | Shape::Set { .. } => true,
            Shape::Daemon { .. } | Shape::Pod | Shape::Job { .. } | Shape::CronJob => false,
        };
        (self.guards.chance(400) && has_pods).then(|| self.guards.pick(&BUDGETS).copied())?
    }

    fn new_class(&mut self, shape: Shape) -> Option<&'static str> {
        let is_plain = matches!(shape, Shape::Deployment { .. } | Shape::Set { .. });
        let class = self.guards.pick(&PRIORITIES).map(|(class, ..)| *class);
        class.filter(|_| self.guards.chance(500) && is_plain)
    }

    fn edit_as_drawn(&mut self, rng: &mut Rng) -> String {
        let choice = rng.below(10);
        if self.workloads.is_empty() || (choice < 3 && self.workloads.len() < 5) {
            return self.add(rng);
        }
        let earlier = if choice == 9 { rng.pick(&self.history).cloned() } else { None };
        if let Some(earlier) = earlier {
            self.workloads = earlier;
            return "revert\n\nWindlass-Allow-Prune: yes".to_owned();
        }
        let at = usize::try_from(rng.below(self.workloads.len() as u64)).unwrap_or(0);
        let edits = self.edits;
        if self.is_divided && choice == 5 {
            let directory = rng.pick(&DIRECTORIES).copied().unwrap_or_default();
            if let Some(workload) = self.workloads.get_mut(at) {
                workload.directory = directory;
                return format!("move {} to {directory:?}", workload.name);
            }
        }
        let Some(workload) = self.workloads.get_mut(at) else {
            return "nothing".into();
        };
        let image = new_image(rng, edits, workload.shape);
        match choice {
            3 | 4 => {
                workload.replicas = rng.below(5);
                format!("scale {} to {}", workload.name, workload.replicas)
            }
            8 => {
                let gone = self.workloads.remove(at);
                format!("drop {}\n\nWindlass-Allow-Prune: yes", gone.name)
            }
            _ => {
                workload.image = image;
                format!("update {} to {}", workload.name, workload.image)
            }
        }
    }

    /// Somebody holds a workload back, or lets it go on.
    fn twist(&mut self) -> String {
        let at = usize::try_from(self.twists.below(self.workloads.len() as u64)).unwrap_or(0);
        let below = self.twists.below(4);
        let Some(workload) = self.workloads.get_mut(at) else {
            return "nothing".to_owned();
        };
        workload.hold = match (workload.hold, workload.shape) {
            (_, Shape::Set { .. } | Shape::Pod) => Hold::None,
            (Hold::None, Shape::Stateful { .. }) if below > 0 => Hold::Below(below),
            (Hold::None, Shape::Stateful { .. } | Shape::Daemon { .. }) => Hold::OnDelete,
            (Hold::None, _) => Hold::Paused,
            _ => Hold::None,
        };
        format!("hold {}: {:?}", workload.name, workload.hold)
    }

    fn add(&mut self, rng: &mut Rng) -> String {
        let shape = self.new_shape(rng.chance(250));
        let workload = Workload {
            name: format!("w{}", self.edits),
            replicas: rng.below(4) + 1,
            image: new_image(rng, self.edits, shape),
            shape,
            claim: self.new_claim(shape),
            has_scratch: self.twists.chance(150),
            hold: Hold::None,
            budget: self.new_budget(shape),
            class: self.new_class(shape),
            directory: match self.is_divided {
                true => rng.pick(&DIRECTORIES).copied().unwrap_or_default(),
                false => "",
            },
        };
        let message =
            format!("add {} with {} of {}", workload.name, workload.replicas, workload.image);
        self.workloads.push(workload);
        message
    }

    /// Which kind a workload is of follows from its number and from later chance, so that the faults of
    /// a seed stay what they are.
    fn new_shape(&mut self, is_special: bool) -> Shape {
        match self.edits % 4 {
            0 => Shape::Stateful { is_parallel: is_special },
            1 if self.twists.chance(200) => Shape::Set { is_old: is_special },
            1 if self.twists.chance(100) => Shape::Pod,
            1 => Shape::Deployment { recreate: is_special },
            2 => Shape::Daemon { surges: is_special },
            _ if is_special => Shape::CronJob,
            _ => Shape::Job { indexed: self.edits % 8 == 3 },
        }
    }

    fn new_claim(&mut self, shape: Shape) -> Option<&'static str> {
        let class = CLASSES[usize::from((self.edits / 8).is_multiple_of(2))];
        match shape {
            Shape::Deployment { .. } => (self.edits % 8 == 1).then_some(class),
            Shape::Stateful { .. } => {
                self.twists.chance(400).then(|| self.twists.pick(&CLASSES).copied())?
            }
            _ => None,
        }
    }

    pub(super) fn files(&self) -> Files {
        let mut files = Files::new();
        let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
        files.insert("namespace.yaml".into(), namespace.into());
        files.insert("class.yaml".into(), CLASS.into());
        files.insert("priorities.yaml".into(), priorities());
        if let Some(limits) = self.limits() {
            files.insert("limits.yaml".into(), limits);
        }
        if self.is_divided {
            files.insert("windlass.yaml".into(), APPS.into());
        }
        for workload in &self.workloads {
            let path = format!("{}{}.yaml", workload.directory, workload.name);
            files.insert(path, in_its_wave(&workload.manifest(self.asks_millis), &workload.name));
        }
        files
    }

    /// Every few edits somebody thinks again about what pods are given that don't say what they need;
    /// little, so that they fit all the same.
    fn limits(&self) -> Option<String> {
        let megabytes = (self.edits / 4) % 4;
        (megabytes > 0).then(|| {
            format!(
                "apiVersion: v1\nkind: LimitRange\nmetadata: {{name: usual, namespace: shop}}\nspec: \
                 {{limits: [{{type: Container, max: {{memory: {megabytes}Mi}}}}]}}\n"
            )
        })
    }

    /// A file with an error in it, and where it lies.
    pub(super) fn typo(&self, rng: &mut Rng) -> (&'static str, &'static str) {
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

fn new_image(rng: &mut Rng, version: u64, shape: Shape) -> String {
    let ends = matches!(shape, Shape::Job { .. } | Shape::CronJob);
    let images: &[&str] = if ends { &TASKS } else { &IMAGES };
    format!("{}:v{version}", rng.pick(images).copied().unwrap_or("run"))
}

impl Workload {
    fn manifest(&self, asks_millis: u32) -> String {
        let (api, kind, spec) = self.spec(asks_millis);
        let Self { name, .. } = self;
        let labels = format!("labels: {{app: {name}}}");
        let head = format!("apiVersion: {api}\nkind: {kind}\n");
        let head = format!("{head}metadata: {{name: {name}, namespace: shop, {labels}}}\n");
        let shared = self.claim.filter(|_| matches!(self.shape, Shape::Deployment { .. }));
        let claim = shared.map(|class| format!("---\n{}", claim_of(name, class)));
        let service = matches!(api, "apps/v1" | "v1").then(|| {
            format!(
                "---\napiVersion: v1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
                 spec: {{selector: {{app: {name}}}, ports: [{{port: 80}}]}}\n"
            )
        });
        let budget = self.budget.map(|budget| self.guarded(budget));
        let parts = [Some(format!("{head}spec: {{{spec}}}\n")), claim, service, budget];
        parts.into_iter().flatten().collect()
    }

    /// Its PodDisruptionBudget, which can be kept.
    fn guarded(&self, budget: Budget) -> String {
        let Self { name, replicas, .. } = self;
        let bound = match budget {
            Budget::AtLeast(count) => format!("minAvailable: {}", count.min(*replicas)),
            Budget::HalfOfThem => "minAvailable: \"50%\"".to_owned(),
            Budget::AllBut(count) => format!("maxUnavailable: {count}"),
        };
        format!(
            "---\napiVersion: policy/v1\nkind: PodDisruptionBudget\n\
             metadata: {{name: {name}, namespace: shop}}\n\
             spec: {{{bound}, selector: {{matchLabels: {{app: {name}}}}}}}\n"
        )
    }

    /// The group it is of, its kind, and what it asks for.
    fn spec(&self, asks_millis: u32) -> (&'static str, &'static str, String) {
        let Self { name, replicas, hold, .. } = self;
        let template = self.template(asks_millis);
        let selector = format!("selector: {{matchLabels: {{app: {name}}}}}");
        let own = format!("{selector}, {template}");
        let holds = *hold != Hold::None;
        match self.shape {
            Shape::Deployment { recreate } => {
                let strategy = if recreate { "Recreate" } else { "RollingUpdate" };
                let fields = format!("replicas: {replicas}, strategy: {{type: {strategy}}}");
                ("apps/v1", "Deployment", format!("{fields}, paused: {holds}, {own}"))
            }
            Shape::Stateful { is_parallel } => {
                let policy = if is_parallel { "Parallel" } else { "OrderedReady" };
                let fields = format!(
                    "replicas: {replicas}, serviceName: {name}, podManagementPolicy: {policy}"
                );
                let update = match hold {
                    Hold::Below(below) => format!("{{rollingUpdate: {{partition: {below}}}}}"),
                    Hold::OnDelete => "{type: OnDelete}".to_owned(),
                    _ => "{type: RollingUpdate}".to_owned(),
                };
                let claims = self.claim.map(own_claims).unwrap_or_default();
                let fields = format!("{fields}, updateStrategy: {update}{claims}");
                ("apps/v1", "StatefulSet", format!("{fields}, {own}"))
            }
            Shape::Daemon { surges } => {
                let update = match (holds, surges) {
                    (true, _) => "{type: OnDelete}",
                    (_, true) => "{rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}",
                    (_, false) => "{type: RollingUpdate}",
                };
                let fields = format!("minReadySeconds: {}", u8::from(!surges));
                ("apps/v1", "DaemonSet", format!("{fields}, updateStrategy: {update}, {own}"))
            }
            Shape::Set { is_old: false } => {
                ("apps/v1", "ReplicaSet", format!("replicas: {replicas}, {own}"))
            }
            Shape::Set { is_old: true } => {
                let fields = format!("replicas: {replicas}, selector: {{app: {name}}}");
                ("v1", "ReplicationController", format!("{fields}, {template}"))
            }
            Shape::Pod => ("v1", "Pod", self.pod(asks_millis)),
            Shape::Job { indexed } => {
                let mode = if indexed { "Indexed" } else { "NonIndexed" };
                let fields =
                    format!("completions: {replicas}, parallelism: 2, completionMode: {mode}");
                let fields = format!("{fields}, backoffLimit: 4, suspend: {holds}");
                ("batch/v1", "Job", format!("{fields}, {template}"))
            }
            Shape::CronJob => {
                let fields = format!(
                    "schedule: \"*/3 * * * *\", concurrencyPolicy: Replace, \
                     successfulJobsHistoryLimit: 0, suspend: {holds}"
                );
                let job = format!("jobTemplate: {{spec: {{backoffLimit: 1, {template}}}}}");
                ("batch/v1", "CronJob", format!("{fields}, {job}"))
            }
        }
    }

    fn template(&self, asks_millis: u32) -> String {
        let (name, pod) = (&self.name, self.pod(asks_millis));
        format!("template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{{pod}}}}}")
    }

    /// Only pods that fit anywhere ask for processors: who is bound to a machine by data, or by what it
    /// is, must not find it full in the end.
    fn asks(&self, asks_millis: u32) -> String {
        let fits_anywhere = match self.shape {
            Shape::Deployment { .. } => self.claim.is_none() && !self.has_scratch,
            Shape::Set { .. } => !self.has_scratch,
            _ => false,
        };
        match fits_anywhere {
            true => format!(", resources: {{requests: {{cpu: {asks_millis}m}}}}"),
            false => String::new(),
        }
    }

    fn pod(&self, asks_millis: u32) -> String {
        let Self { name, image, .. } = self;
        let asks = self.asks(asks_millis);
        let class = self.class.map(|class| format!("priorityClassName: {class}, "));
        let class = class.unwrap_or_default();
        let mut volumes = Vec::new();
        if self.claim.is_some() && matches!(self.shape, Shape::Deployment { .. }) {
            let claim = format!("persistentVolumeClaim: {{claimName: {name}}}");
            volumes.push(format!("{{name: data, {claim}}}"));
        }
        if self.has_scratch {
            volumes.push(format!("{{name: scratch, {SCRATCH}}}"));
        }
        let restart = match self.shape {
            Shape::Job { .. } | Shape::CronJob => "restartPolicy: Never, ",
            _ => "",
        };
        let container = format!("{{name: main, image: \"{image}\"{asks}}}");
        let volumes = volumes.join(", ");
        format!(
            "{restart}{class}terminationGracePeriodSeconds: 10, containers: [{container}], \
             volumes: [{volumes}]"
        )
    }
}

/// What makes an object of a manifest come in the second wave.
pub(super) const WAVE: &str = ", annotations: {windlass.dev/wave: \"1\"}";

/// Every third workload comes a wave later, by its number. The first object of a manifest with a name
/// of its own is the one that has something to wait for.
fn in_its_wave(manifest: &str, name: &str) -> String {
    let number: u64 = name.trim_start_matches('w').parse().unwrap_or(0);
    let metadata = format!("metadata: {{name: {name}, namespace: shop");
    match number % 3 {
        2 => {
            let annotated = format!("{metadata}{WAVE}");
            manifest.replacen(&metadata, &annotated, 1)
        }
        _ => manifest.to_owned(),
    }
}

fn priorities() -> String {
    let class = |(name, value, policy): &(&str, i32, &str)| {
        format!(
            "---\napiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\n\
             metadata: {{name: {name}}}\nvalue: {value}\npreemptionPolicy: {policy}\n"
        )
    };
    PRIORITIES.iter().map(class).collect()
}

/// A class whose data goes with its claim.
const CLASS: &str = "apiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {name: gone}\n\
provisioner: rancher.io/local-path\nreclaimPolicy: Delete\nvolumeBindingMode: WaitForFirstConsumer\n";

/// A volume that comes and goes with its pod, of the class that keeps data otherwise.
const SCRATCH: &str = "ephemeral: {volumeClaimTemplate: {spec: {accessModes: [ReadWriteOnce], \
                       resources: {requests: {storage: 1Gi}}}}}";

/// What a claim asks for.
fn asks(class: &str) -> String {
    format!(
        "{{storageClassName: {class}, accessModes: [ReadWriteOnce], \
         resources: {{requests: {{storage: 1Gi}}}}}}"
    )
}

fn claim_of(name: &str, class: &str) -> String {
    let asks = asks(class);
    format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec: {asks}\n"
    )
}

/// The claims of a StatefulSet's pods; of the class whose data may go, they go when it shrinks.
fn own_claims(class: &str) -> String {
    let policy = if class == CLASSES[1] { "Delete" } else { "Retain" };
    let asks = asks(class);
    format!(
        ", persistentVolumeClaimRetentionPolicy: {{whenScaled: {policy}}}, \
         volumeClaimTemplates: [{{metadata: {{name: data}}, spec: {asks}}}]"
    )
}
