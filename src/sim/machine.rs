//! One simulated machine: its clocks, its containers, its files and links, and its agent.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use crate::agent::Agent;
use crate::agent::config::Config;
use crate::agent::event::{Effect, Event};
use crate::kinds::binding::Generation;
use crate::kinds::digest::Digest;
use crate::kinds::fleet::FleetSettings;
use crate::kinds::labels::Labels;
use crate::kinds::name::{NodeName, Uid};
use crate::kinds::node::Contact;
use crate::kinds::pod::ResourceList;
use crate::kinds::rules::RuleSet;
use crate::kinds::time::{Elapsed, Now, Wall};
use crate::kinds::zone::Zone;
use crate::plan::Settings;
use crate::ports::files::Layout;
use crate::ports::store::{Glance, Register, Rev, Scope};
use crate::ports::{Answer, Call, Fault, files, filter, links, names, probe, store};

use super::load::Load;
use super::runtime::Runtime;
use super::source::Copy;

/// What an agent wants done, and when it wants to be woken.
type Woken = (Vec<Effect>, Option<(Duration, Elapsed)>);

/// When the world begins, by a right clock: 2026-01-01.
const BEGINNING_S: i64 = 1_767_225_600;

/// What passes between a machine and the world around it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reach {
    /// It can read the remote and the store.
    pub reads: bool,
    /// It can push to the store.
    pub pushes: bool,
    /// Its words reach others.
    pub speaks: bool,
    /// Others' words reach it.
    pub hears: bool,
}

impl Default for Reach {
    fn default() -> Self {
        Self { reads: true, pushes: true, speaks: true, hears: true }
    }
}

impl Reach {
    /// Nothing passes.
    pub const NONE: Self = Self { reads: false, pushes: false, speaks: false, hears: false };

    /// Whether a call reaches the store.
    pub(super) fn permits(self, call: &store::Call) -> bool {
        match call {
            store::Call::Commit { .. } | store::Call::Beat { .. } | store::Call::Remove { .. } => {
                self.pushes
            }
            _ => self.reads,
        }
    }
}

/// As `fleet.foldAbove` is if nobody says otherwise.
pub(super) const FOLDS_ABOVE: usize = 50;

/// A machine.
pub struct Machine {
    node: NodeName,
    agent: Option<Agent>,
    process: u64,
    /// Its containers.
    pub runtime: Runtime,
    /// Whether the runtime answers.
    pub runtime_is_up: bool,
    /// Its copy of the desired repository.
    pub copy: Copy,
    /// The highest generation it has acted on.
    pub fence: Generation,
    /// Whom it listens to, and in which life.
    pub neighbours: BTreeMap<NodeName, String>,
    /// What its copy of the store holds.
    pub glance: Glance,
    /// What its last look showed.
    pub looked: Option<Glance>,
    /// The states of registers it has read.
    pub has_read: BTreeSet<Rev>,
    /// Pods that have files.
    pub files: BTreeSet<Uid>,
    /// Directories that outlive their pods, and every reboot.
    pub kept: BTreeSet<String>,
    /// Links of pods.
    pub links: BTreeSet<String>,
    /// The packet filter; absent when somebody has flushed it.
    pub rules: Option<Arc<RuleSet>>,
    /// What DNS answers.
    pub zone: Option<Arc<Zone>>,
    /// What of the world around it can reach it, and what it can reach.
    pub reach: Reach,
    /// Whether its looks at the store are not answered, while it can write there.
    pub looks_hang: bool,
    /// Whether its disk takes nothing more.
    pub disk_is_full: bool,
    /// What it has asked of the Git server.
    pub load: Load,
    /// The state of each register that it read last.
    pub last_read: BTreeMap<Register, Rev>,
    /// Whether its agents believe that they lead, whoever else does too.
    pub always_leads: bool,
    /// How long its agents let pods stay on a lost node, in seconds.
    pub eviction_s: u32,
    /// Above how many nodes its agents fold what nodes say.
    pub folds_above: usize,
    /// What its `agent.yaml` says of what must be the same on every node.
    pub fleet: FleetSettings,
    /// By how much its clock is wrong.
    pub clock_skew_s: i64,
    booted: Duration,
    pub(super) wake_is_set: Option<Elapsed>,
    /// Timers in a row that led to nothing.
    pub idle_wakes: u32,
}

impl Machine {
    pub(super) fn new(node: &NodeName, time: Duration) -> Self {
        Self {
            node: node.clone(),
            agent: None,
            process: 0,
            runtime: Runtime::default(),
            runtime_is_up: true,
            copy: Copy::default(),
            fence: Generation::default(),
            neighbours: BTreeMap::new(),
            glance: Glance::default(),
            looked: None,
            has_read: BTreeSet::new(),
            files: BTreeSet::new(),
            kept: BTreeSet::new(),
            links: BTreeSet::new(),
            rules: None,
            zone: None,
            reach: Reach::default(),
            looks_hang: false,
            disk_is_full: false,
            load: Load::default(),
            last_read: BTreeMap::new(),
            always_leads: false,
            eviction_s: settings().eviction_s,
            folds_above: FOLDS_ABOVE,
            fleet: FleetSettings { version: 1, ..FleetSettings::default() },
            clock_skew_s: 0,
            booted: time,
            wake_is_set: None,
            idle_wakes: 0,
        }
    }

    /// The machine's clocks at a time of the world.
    pub fn now(&self, time: Duration) -> Now {
        let seconds = BEGINNING_S + self.clock_skew_s;
        Now {
            elapsed: Elapsed::new(time.saturating_sub(self.booted) + Duration::from_secs(60)),
            wall: Wall::from_seconds(seconds) + time,
        }
    }

    /// The time of the world at a reading of the boot clock.
    fn time_of(&self, elapsed: Elapsed) -> Duration {
        self.booted + elapsed.since_boot().saturating_sub(Duration::from_secs(60))
    }

    /// Which life of its agent this is.
    pub fn process(&self) -> u64 {
        self.process
    }

    /// The same, as its words have it.
    pub fn life(&self) -> String {
        format!("{}-{}", self.node, self.process)
    }

    /// The agent, while it runs.
    pub fn agent(&self) -> Option<&Agent> {
        self.agent.as_ref()
    }

    /// Starts an agent if none runs, and says which life it is.
    pub(super) fn start_agent(&mut self, _time: Duration) -> Option<u64> {
        if self.agent.is_some() {
            return None;
        }
        self.process += 1;
        self.wake_is_set = None;
        self.agent = Some(Agent::new(config(self)));
        Some(self.process)
    }

    pub(super) fn kill_agent(&mut self) {
        self.agent = None;
        self.wake_is_set = None;
    }

    pub(super) fn power_cut(&mut self, time: Duration) {
        self.kill_agent();
        let now = self.now(time).wall;
        self.runtime.end_all(now);
        self.links.clear();
        self.files.clear();
        self.rules = None;
        self.zone = None;
        self.booted = time;
    }

    /// Gives an event to the agent; its effects, and when to wake it.
    pub(super) fn on(&mut self, process: u64, event: Event, time: Duration) -> Option<Woken> {
        if process != self.process {
            return None;
        }
        let now = self.now(time);
        let agent = self.agent.as_mut()?;
        let is_wake = matches!(event, Event::Woke);
        let effects = agent.on(event, now);
        self.idle_wakes = if is_wake && effects.is_empty() { self.idle_wakes + 1 } else { 0 };
        let wake = agent.next_wake();
        let is_news = wake.is_some_and(|at| self.wake_is_set.is_none_or(|set| at < set));
        if !is_news {
            return Some((effects, None));
        }
        self.wake_is_set = wake;
        // A timer never fires before its time, and never in no time at all.
        let at = wake.map(|due| (self.time_of(due).max(time) + Duration::from_micros(50), due));
        Some((effects, at))
    }

    /// Keeps what was seen of the store. A register that somebody deleted stays in the copy.
    pub(super) fn keep_copy_of(&mut self, glance: &Glance, scope: Scope) {
        let brought =
            glance.nodes.iter().filter(|(name, _)| scope == Scope::All || **name == self.node);
        if scope == Scope::All {
            let copied = Arc::make_mut(&mut self.glance.nodes);
            copied.extend(brought.map(|(name, rev)| (name.clone(), rev.clone())));
        } else if let Some(own) = glance.nodes.get(&self.node) {
            Arc::make_mut(&mut self.glance.nodes).insert(self.node.clone(), own.clone());
        }
        let before = self.glance.coordinator.take();
        self.glance.coordinator = glance.coordinator.clone().or(before);
    }

    /// Whether a call to the store can be answered from this machine's own disk.
    pub(super) fn has_copy_for(&self, call: &store::Call) -> bool {
        match call {
            store::Call::Fence(_) => true,
            store::Call::Read { rev, .. } => self.has_read.contains(rev),
            _ => false,
        }
    }

    /// Whether a call to the store can't be carried out without room on this machine's disk.
    pub(super) fn writes_disk_for(&self, call: &store::Call) -> bool {
        match call {
            store::Call::Commit { .. } | store::Call::Fence(_) => true,
            store::Call::Read { rev, .. } => !self.has_read.contains(rev),
            _ => false,
        }
    }

    /// Whether something may be written to the disk.
    pub(super) fn room_for(&self, what: &str) -> Result<(), Fault> {
        match self.disk_is_full {
            false => Ok(()),
            true => Err(Fault::transient(format!("no space left on device, for {what}"))),
        }
    }

    /// Carries out what needs neither the runtime, nor Git, nor the store.
    pub(super) fn perform(&mut self, call: &Call) -> Result<Answer, Fault> {
        match call {
            Call::Files(call) => self.perform_files(call).map(Answer::Files),
            Call::Links(call) => self.perform_links(call).map(Answer::Links),
            Call::Filter(call) => Ok(Answer::Filter(self.perform_filter(call))),
            Call::Probe(_) => Ok(Answer::Probe(probe::Answer { good: true, message: "ok".into() })),
            Call::Names(call) => {
                self.zone = Some(call.zone.clone());
                Ok(Answer::Names(names::Answer { port: 53 }))
            }
            Call::Keyring => Ok(Answer::Keyring(Arc::default())),
            Call::Source(_)
            | Call::Store(_)
            | Call::Runtime(_)
            | Call::Peers(_)
            | Call::Outcomes(_) => Err(Fault::stalled("this call is carried out elsewhere")),
        }
    }

    fn perform_files(&mut self, call: &files::Call) -> Result<files::Answer, Fault> {
        Ok(match call {
            files::Call::Write { pod, wishes } => {
                self.room_for("files of pods")?;
                self.files.insert(pod.clone());
                for wish in wishes {
                    if let files::FileWish::Kept { name, .. } = wish {
                        self.kept.insert(name.clone());
                    }
                }
                files::Answer::Done
            }
            files::Call::LastWords { .. } => files::Answer::Text(String::new()),
            files::Call::Remove { pod } => {
                self.files.remove(pod);
                files::Answer::Done
            }
            files::Call::RemoveKept { name } => {
                self.kept.remove(name);
                files::Answer::Done
            }
            files::Call::List => files::Answer::Pods(self.files.iter().cloned().collect()),
        })
    }

    fn perform_links(&mut self, call: &links::Call) -> Result<links::Answer, Fault> {
        match call {
            links::Call::Attach(attachment) => {
                let lives = self.runtime.containers().any(|c| c.pid() == Some(attachment.pid));
                if !lives {
                    return Err(Fault::not_found(format!("process {} is gone", attachment.pid)));
                }
                self.links.insert(attachment.link.clone());
                Ok(links::Answer::Done)
            }
            links::Call::Detach { link } => {
                self.links.remove(link);
                Ok(links::Answer::Done)
            }
            links::Call::List => Ok(links::Answer::Links(self.links.iter().cloned().collect())),
            links::Call::Ensure(_) => Ok(links::Answer::Done),
            links::Call::Survey => {
                let own = Ipv4Addr::new(192, 168, 0, 10);
                Ok(links::Answer::Survey(Box::new(links::NetworkSeen {
                    addresses: vec![own],
                    default_source: Some(own),
                    mtu: 1500,
                    ..links::NetworkSeen::default()
                })))
            }
            links::Call::Clear => {
                self.links.clear();
                Ok(links::Answer::Done)
            }
        }
    }

    fn perform_filter(&mut self, call: &filter::Call) -> filter::Answer {
        match call {
            filter::Call::Apply { wanted, .. } => {
                self.rules = Some(wanted.clone());
                filter::Answer::Done
            }
            filter::Call::Check { wanted } => {
                filter::Answer::Intact(self.rules.as_ref() == Some(wanted))
            }
            filter::Call::ForgetFlows { .. } => filter::Answer::Done,
            filter::Call::Clear => {
                self.rules = None;
                filter::Answer::Done
            }
        }
    }
}

/// The key that a machine has, for others to know it by.
pub(super) fn key_of(node: &NodeName) -> String {
    Digest::of(node.as_str().as_bytes()).hex()
}

fn config(machine: &Machine) -> Config {
    let Machine { node, process, always_leads, eviction_s, folds_above, .. } = machine;
    let (process, always_leads) = (*process, *always_leads);
    Config {
        node: node.clone(),
        incarnation: format!("{node}-{process}"),
        installation: node.to_string(),
        contact: Some(Contact {
            key: key_of(node),
            life: format!("{node}-{process}"),
            hint_port: Some(1),
            api_port: None,
        }),
        labels: Labels::new(),
        address: None,
        settings: Arc::new(Settings { eviction_s: *eviction_s, ..settings() }),
        fleet: Arc::new(machine.fleet.clone()),
        layout: Layout {
            run_dir: "/run/windlass".into(),
            data_dir: "/var/lib/windlass".into(),
            volumes_dir: "/var/lib/windlass/volumes".into(),
        },
        domain: "cluster.local".into(),
        origin: "main".into(),
        trust: None,
        poll: Duration::from_secs(10),
        source_is_watched: false,
        store_poll: Duration::from_secs(10),
        lease: Duration::from_secs(15),
        beat: Duration::from_secs(10),
        not_ready_after: Duration::from_secs(40),
        folds_above: *folds_above,
        always_leads,
        report_interval: Duration::from_secs(1),
        reserved: ResourceList::new(),
        overlay: crate::net::paths::Overlay::default(),
        collect: crate::node::larder::Limits::default(),
        pods_max: 110,
        notes: false,
        hooks: Vec::new(),
        version: "0.0.0".into(),
        jitter: process,
    }
}

/// The settings of every simulated fleet.
pub(super) fn settings() -> Settings {
    let network = |ip, prefix| {
        ipnetwork::Ipv4Network::new(ip, prefix).unwrap_or_else(|_| Ipv4Addr::UNSPECIFIED.into())
    };
    Settings {
        // Room for 4,096 nodes; the default's 256 are too few for large simulations.
        pod_network: network(Ipv4Addr::new(10, 240, 0, 0), 12),
        node_prefix: 24,
        service_network: network(Ipv4Addr::new(10, 96, 0, 0), 16),
        dns_ip: Ipv4Addr::new(10, 96, 0, 10),
        node_ports: (30000, 32767),
        follows_rewrites: false,
        eviction_s: 60,
    }
}
