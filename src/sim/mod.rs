//! The other world: the same agents on a simulated one, with virtual time and seeded faults.
//!
//! A wind tunnel: the wing is the real one, only the air is made. Everything that can happen to a
//! fleet (a killed agent, a write that landed but was answered by an error, a runtime that forgets
//! to say that a container died, a clock that jumps by years) happens here a thousand times in the
//! time a real one needs to start a container, and in the same order whenever the seed is the same.
//!
//! A run has two halves. In the first, faults fall and *safety* is checked after every step
//! ([`check`]). Then everything is healed, and the fleet must settle: what runs is what the newest
//! good commit says.
//!
//! Floor 4: the twin of [`crate::adapters`].

pub mod check;
mod check_jobs;
#[cfg(test)]
mod identity;
mod machine;
#[cfg(test)]
mod placement;
pub mod rehearsal;
mod rng;
mod runtime;
pub mod scenario;
mod source;
mod store;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::agent::event::{Ask, AskId, Done, Effect, EffectId, Event, Hint, Parsed, Work};
use crate::desired;
use crate::kinds::name::NodeName;
use crate::kinds::time::Elapsed;
use crate::plan;
use crate::ports::runtime::{ContainerId, RuntimeHint};
use crate::ports::source::FileContent;
use crate::ports::store::{Answer as StoreAnswer, Call as StoreCall, Glance, Landing, Register};
use crate::ports::{Answer, Call, Fault, peers};
use crate::state::RequestKind;

pub use machine::Machine;
pub use rng::Rng;
pub use source::{Files, Repo, read};
pub use store::Registers;

/// How many of the last happenings are kept, to be printed with a failure.
const TRACE_MAX: usize = 40;

/// How often what goes wrong, per thousand calls.
#[derive(Clone, Copy, Debug, Default)]
pub struct Weather {
    /// A call fails and has done nothing.
    pub fails: u32,
    /// A call has done its work and is answered by an error.
    pub lies: u32,
    /// A call has done its work and is never answered.
    pub hangs: u32,
    /// A hint is lost.
    pub deaf: u32,
    /// A look at the store shows what the one before it showed, as a server behind others may.
    pub stale: u32,
}

/// A world with its machines.
pub struct World {
    /// Chance.
    pub rng: Rng,
    /// What goes wrong.
    pub weather: Weather,
    /// The desired repository.
    pub remote: Repo,
    /// Whether it can be reached.
    pub remote_is_up: bool,
    /// The state store.
    pub store: Registers,
    /// Whether it can be reached.
    pub store_is_up: bool,
    /// Whether every agent believes that it leads.
    pub all_lead: bool,
    /// How long pods stay on a lost node, in seconds: less than in earnest, so that much happens.
    pub eviction_s: u32,
    /// The machines.
    pub machines: BTreeMap<NodeName, Machine>,
    /// The time since the world began.
    pub time: Duration,
    /// What was decided: when, by whom, what.
    pub decisions: Vec<(Duration, NodeName, String)>,
    agenda: BTreeMap<(Duration, u64), Item>,
    count: u64,
    steps: u64,
    trace: VecDeque<String>,
}

/// Something that will happen.
enum Item {
    /// An effect reaches the world.
    Apply { node: NodeName, process: u64, effect: Box<Effect> },
    /// An event reaches an agent.
    Event { node: NodeName, process: u64, event: Box<Event> },
    /// An agent's timer.
    Wake { node: NodeName, process: u64, due: Elapsed },
    /// A program ends by itself.
    Ends { node: NodeName, id: ContainerId, exit_code: i64 },
    /// Somebody, or something, interferes.
    Interference(Interference),
}

/// What may befall a world from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Interference {
    /// An agent is killed.
    KillAgent(NodeName),
    /// An agent is started, if none runs.
    StartAgent(NodeName),
    /// The runtime stops, and every container with it.
    StopRuntime(NodeName),
    /// The runtime answers again.
    StartRuntime(NodeName),
    /// A container is killed.
    KillContainer(NodeName),
    /// A pause container is killed.
    KillPause(NodeName),
    /// The power goes and comes back: containers, links, files in memory and the agent are gone.
    PowerCut(NodeName),
    /// Somebody flushes the packet filter.
    FlushRules(NodeName),
    /// The wall clock jumps by this many seconds.
    JumpClock(NodeName, i64),
    /// A machine can reach neither the remote nor the store.
    CutOff(NodeName),
    /// It can reach them again.
    Rejoin(NodeName),
    /// The store can't be reached by anybody.
    CutStore,
    /// The store can be reached again.
    HealStore,
    /// Somebody deletes a register.
    DeleteRegister(Register),
    /// Somebody makes a backup of the store.
    BackUp,
    /// Somebody restores it.
    Restore,
    /// Somebody on a machine says that the store is to be taken as it is.
    Adopt(NodeName),
    /// The remote can't be reached.
    CutRemote,
    /// The remote can be reached again.
    HealRemote,
    /// Somebody pushes.
    Push(String, Files),
    /// Somebody forces the branch back by this many commits.
    SetBack(usize),
    /// Somebody on a machine asks the agent there for something.
    Ask(NodeName, RequestKind),
}

impl World {
    /// An empty world of this seed.
    pub fn new(seed: u64, weather: Weather) -> Self {
        Self {
            rng: Rng::new(seed),
            weather,
            remote: Repo::default(),
            remote_is_up: true,
            store: Registers::default(),
            store_is_up: true,
            all_lead: false,
            eviction_s: 60,
            machines: BTreeMap::new(),
            time: Duration::ZERO,
            decisions: Vec::new(),
            agenda: BTreeMap::new(),
            count: 0,
            steps: 0,
            trace: VecDeque::new(),
        }
    }

    /// Adds a machine and starts its agent.
    pub fn add_machine(&mut self, name: &str) {
        let node = NodeName::trusted(name);
        let mut machine = Machine::new(&node, self.time);
        machine.always_leads = self.all_lead;
        machine.eviction_s = self.eviction_s;
        self.machines.insert(node.clone(), machine);
        self.start_agent(&node);
    }

    /// Plans an interference.
    pub fn plan(&mut self, at: Duration, what: Interference) {
        self.put(at, Item::Interference(what));
    }

    /// How many things have happened.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The last happenings, oldest first.
    pub fn trace(&self) -> impl Iterator<Item = &String> {
        self.trace.iter()
    }

    fn put(&mut self, at: Duration, item: Item) {
        self.count += 1;
        self.agenda.insert((at.max(self.time), self.count), item);
    }

    fn note(&mut self, text: impl FnOnce() -> String) {
        if self.trace.len() == TRACE_MAX {
            self.trace.pop_front();
        }
        let time = self.time.as_secs_f64();
        self.trace.push_back(format!("{time:>10.3} s  {}", text()));
    }

    /// Lets the next thing happen; false when nothing is left before `until`.
    pub fn step(&mut self, until: Duration) -> bool {
        let Some((&(at, count), _)) = self.agenda.first_key_value() else {
            return false;
        };
        if at > until {
            self.time = until;
            return false;
        }
        let Some(item) = self.agenda.remove(&(at, count)) else {
            return false;
        };
        self.time = at;
        self.steps += 1;
        match item {
            Item::Apply { node, process, effect } => self.apply(&node, process, *effect),
            Item::Event { node, process, event } => self.deliver(&node, process, *event),
            Item::Wake { node, process, due } => {
                // A timer that was set again since is not this one.
                let machine = self.machines.get_mut(&node);
                if let Some(machine) = machine.filter(|m| m.wake_is_set == Some(due)) {
                    machine.wake_is_set = None;
                    self.deliver(&node, process, Event::Woke);
                }
            }
            Item::Ends { node, id, exit_code } => self.end_container(&node, &id, exit_code),
            Item::Interference(what) => self.interfere(what),
        }
        true
    }

    fn start_agent(&mut self, node: &NodeName) {
        let time = self.time;
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        if let Some(process) = machine.start_agent(time) {
            self.note(|| format!("{node}: agent {process} starts"));
            self.deliver(node, process, Event::Began);
        }
    }

    /// Gives an event to an agent, and its effects to the world.
    fn deliver(&mut self, node: &NodeName, process: u64, event: Event) {
        let time = self.time;
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        let Some((effects, wake)) = machine.on(process, event, time) else {
            return;
        };
        for effect in effects {
            let delay = self.rng.between(Duration::from_micros(200), Duration::from_millis(20));
            let item = Item::Apply { node: node.clone(), process, effect: Box::new(effect) };
            self.put(time + delay, item);
        }
        if let Some((at, due)) = wake {
            self.put(at, Item::Wake { node: node.clone(), process, due });
        }
    }

    /// An effect reaches the world. The process that asked for it may be dead by now: what it asked
    /// for happens all the same.
    fn apply(&mut self, node: &NodeName, process: u64, effect: Effect) {
        let Effect { id, work, deadline } = effect;
        let result = match work {
            Work::Parse(files) => Ok(Done::Parsed(files.iter().map(parsed).collect())),
            Work::Plan(given) => {
                let (input, mut memory) = *given;
                let Some(machine) = self.machines.get(node) else {
                    return;
                };
                let plan = plan::plan(&input, &mut memory, machine.now(self.time));
                Ok(Done::Planned(Box::new((plan, memory))))
            }
            Work::Reply(..) => return,
            Work::Call(call) => {
                if self.rng.chance(self.weather.fails) {
                    self.note(|| format!("{node}: fails: {}", brief(&call)));
                    Err(Fault::transient("simulated: nothing was done"))
                } else {
                    let answer = self.perform(node, process, &call);
                    let lies = answer.is_ok() && self.rng.chance(self.weather.lies);
                    if self.rng.chance(self.weather.hangs) {
                        self.note(|| format!("{node}: done and never answered: {}", brief(&call)));
                        return self.answer_late(node, process, id, deadline);
                    }
                    if lies {
                        self.note(|| {
                            format!("{node}: done, answered by an error: {}", brief(&call))
                        });
                        Err(Fault::transient("simulated: the answer was lost"))
                    } else {
                        answer.map(Done::Answer)
                    }
                }
            }
        };
        let delay = self.rng.between(Duration::from_micros(200), Duration::from_millis(80));
        self.send(node, process, delay, Event::Done(id, result));
    }

    fn answer_late(&mut self, node: &NodeName, process: u64, id: EffectId, deadline: Duration) {
        let fault = Fault::deadline("simulated: no answer in time");
        // Adapters give up what shows no progress, long before a slow pull's own bound.
        let silence = deadline.min(Duration::from_secs(120));
        self.send(node, process, silence, Event::Done(id, Err(fault)));
    }

    fn send(&mut self, node: &NodeName, process: u64, delay: Duration, event: Event) {
        let item = Item::Event { node: node.clone(), process, event: Box::new(event) };
        self.put(self.time + delay, item);
    }

    fn perform(&mut self, node: &NodeName, process: u64, call: &Call) -> Result<Answer, Fault> {
        let time = self.time;
        if self.store.is_local && matches!(call, Call::Store(_)) {
            let running = self.machines.iter().filter(|(_, machine)| machine.agent().is_some());
            self.store.alive = running.map(|(name, _)| name.clone()).collect();
        }
        let Some(machine) = self.machines.get_mut(node) else {
            return Err(Fault::not_found("no such machine"));
        };
        let remote = (self.remote_is_up && !machine.is_cut_off).then_some(&self.remote);
        if !matches!(call, Call::Probe(_) | Call::Filter(_)) {
            let text = brief(call);
            if self.trace.len() == TRACE_MAX {
                self.trace.pop_front();
            }
            self.trace.push_back(format!("{:>10.3} s  {node}: {text}", time.as_secs_f64()));
        }
        match call {
            Call::Source(call) => machine.copy.perform(call, remote).map(Answer::Source),
            Call::Store(StoreCall::Recall) if !self.store.is_local => {
                let fence = machine.fence;
                Ok(Answer::Store(StoreAnswer::Seen(Glance { fence, ..machine.glance.clone() })))
            }
            Call::Store(call)
                if (!self.store_is_up || machine.is_cut_off) && !machine.has_copy_for(call) =>
            {
                Err(Fault::transient("the state store is unreachable"))
            }
            Call::Store(call) => {
                let is_stale = !self.store.is_local && self.rng.chance(self.weather.stale);
                if is_stale
                    && matches!(call, StoreCall::Look)
                    && let Some(before) = machine.looked.clone()
                {
                    let seen = Glance { fence: machine.fence, ..before };
                    return Ok(Answer::Store(StoreAnswer::Seen(seen)));
                }
                let answer = self.store.perform(call, node, process, &mut machine.fence);
                if let (StoreCall::Look, Ok(StoreAnswer::Seen(glance))) = (call, &answer) {
                    machine.looked = Some(glance.clone());
                }
                match (call, &answer) {
                    (_, Ok(StoreAnswer::Seen(glance))) => machine.keep_copy_of(glance),
                    (
                        StoreCall::Commit { register: Register::Coordinator, why, .. },
                        Ok(StoreAnswer::Landing(Landing::Landed(rev))),
                    ) => {
                        self.decisions.push((time, node.clone(), why.clone()));
                        machine.glance.coordinator = Some(rev.clone());
                        machine.has_read.insert(rev.clone());
                    }
                    (StoreCall::Read { rev, .. }, Ok(_)) => {
                        machine.has_read.insert(rev.clone());
                    }
                    _ => {}
                }
                // A lock goes with its process, also one that was taken on its behalf too late.
                let lives = machine.agent().is_some() && machine.process() == process;
                let taken =
                    self.store.lock.as_ref().filter(|lock| **lock == (node.clone(), process));
                if taken.is_some() && !lives {
                    self.store.lock = None;
                }
                answer.map(Answer::Store)
            }
            Call::Runtime(call) => {
                if !machine.runtime_is_up {
                    return Err(Fault::transient("the runtime does not answer"));
                }
                let outcome = machine.runtime.perform(call, machine.now(time).wall);
                if let Some(later) = outcome.later {
                    let (id, exit_code) = (later.id, later.exit_code);
                    let item = Item::Ends { node: node.clone(), id, exit_code };
                    self.put(time + later.after, item);
                }
                for id in outcome.changed {
                    self.hint(node, RuntimeHint::Changed(id));
                }
                outcome.answer.map(Answer::Runtime)
            }
            Call::Peers(call) => Ok(Answer::Peers(self.speak(node, call))),
            other => machine.perform(other),
        }
    }

    /// Carries words from one machine to others. Some are lost, none is repeated, and none passes a
    /// machine that is cut off.
    fn speak(&mut self, from: &NodeName, call: &peers::Call) -> peers::Answer {
        match call {
            peers::Call::Meet(neighbours) => {
                if let Some(machine) = self.machines.get_mut(from) {
                    machine.neighbours = neighbours.clone();
                }
            }
            peers::Call::Say { to, word } => {
                for name in to {
                    let passes = self.may_speak(from, name) && !self.rng.chance(self.weather.deaf);
                    let process = self.machines.get(name).map(Machine::process);
                    if let (true, Some(process)) = (passes, process) {
                        let event = Event::Hint(Hint::Heard(from.clone(), word.clone()));
                        let delay =
                            self.rng.between(Duration::from_micros(200), Duration::from_millis(50));
                        self.send(name, process, delay, event);
                    }
                }
            }
        }
        peers::Answer::Done
    }

    fn may_speak(&self, from: &NodeName, to: &NodeName) -> bool {
        let (Some(one), Some(other)) = (self.machines.get(from), self.machines.get(to)) else {
            return false;
        };
        let is_met = other.neighbours.iter().any(|met| met.name == *from && met.life == one.life());
        !one.is_cut_off && !other.is_cut_off && is_met
    }

    fn hint(&mut self, node: &NodeName, hint: RuntimeHint) {
        let Some(machine) = self.machines.get(node) else {
            return;
        };
        let process = machine.process();
        if matches!(hint, RuntimeHint::Changed(_)) && self.rng.chance(self.weather.deaf) {
            return;
        }
        let delay = self.rng.between(Duration::from_micros(100), Duration::from_millis(5));
        self.send(node, process, delay, Event::Hint(Hint::Runtime(hint)));
    }

    fn end_container(&mut self, node: &NodeName, id: &ContainerId, exit_code: i64) {
        let time = self.time;
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        let now = machine.now(time).wall;
        if machine.runtime.end(id, exit_code, now) {
            self.note(|| format!("{node}: container {id} ends with {exit_code}"));
            self.hint(node, RuntimeHint::Changed(id.clone()));
        }
    }

    /// Carries out an interference.
    pub fn interfere(&mut self, what: Interference) {
        self.note(|| match &what {
            Interference::Push(message, _) => format!("-- push: {message}"),
            other => format!("-- {other:?}"),
        });
        let time = self.time;
        match what {
            Interference::KillAgent(node) => {
                if let Some(machine) = self.machines.get_mut(&node) {
                    machine.kill_agent();
                }
                self.release_lock(&node);
            }
            Interference::StartAgent(node) => self.start_agent(&node),
            Interference::StopRuntime(node) => {
                if let Some(machine) = self.machines.get_mut(&node) {
                    machine.runtime_is_up = false;
                    let now = machine.now(time).wall;
                    machine.runtime.end_all(now);
                }
            }
            Interference::StartRuntime(node) => {
                if let Some(machine) = self.machines.get_mut(&node) {
                    machine.runtime_is_up = true;
                }
                self.hint(&node, RuntimeHint::Resync);
            }
            Interference::KillContainer(node) => self.kill_one(&node, false),
            Interference::KillPause(node) => self.kill_one(&node, true),
            Interference::PowerCut(node) => {
                if let Some(machine) = self.machines.get_mut(&node) {
                    machine.power_cut(time);
                }
                self.release_lock(&node);
            }
            Interference::FlushRules(node) => {
                if let Some(machine) = self.machines.get_mut(&node) {
                    machine.rules = None;
                }
            }
            Interference::JumpClock(node, seconds) => {
                if let Some(machine) = self.machines.get_mut(&node) {
                    machine.clock_skew_s += seconds;
                }
            }
            Interference::CutOff(node) => self.set_cut_off(&node, true),
            Interference::Rejoin(node) => self.set_cut_off(&node, false),
            Interference::CutStore => self.store_is_up = false,
            Interference::HealStore => self.store_is_up = true,
            Interference::DeleteRegister(register) => self.store.delete(&register),
            Interference::BackUp => self.store.back_up(),
            Interference::Restore => self.store.restore(),
            Interference::Adopt(node) => self.ask(&node, Ask::Adopt { by: "root".to_owned() }),
            Interference::CutRemote => self.remote_is_up = false,
            Interference::HealRemote => self.remote_is_up = true,
            Interference::Push(message, files) => {
                self.remote.commit(&message, files);
                self.source_moved();
            }
            Interference::SetBack(by) => self.set_back(by),
            Interference::Ask(node, what) => {
                self.ask(&node, Ask::Request { what, by: "root".to_owned() });
            }
        }
    }

    fn ask(&mut self, node: &NodeName, ask: Ask) {
        let Some(process) = self.machines.get(node).map(Machine::process) else {
            return;
        };
        self.count += 1;
        let event = Event::Asked(AskId(self.count), ask);
        self.send(node, process, Duration::from_millis(1), event);
    }

    fn set_cut_off(&mut self, node: &NodeName, is_cut_off: bool) {
        if let Some(machine) = self.machines.get_mut(node) {
            machine.is_cut_off = is_cut_off;
        }
    }

    fn set_back(&mut self, by: usize) {
        let mut to = self.remote.tip().cloned();
        for _ in 0..by {
            to = to.map(|at| self.remote.parent(&at).unwrap_or(at));
        }
        if let Some(to) = to {
            self.remote.set_back(&to);
            self.source_moved();
        }
    }

    fn source_moved(&mut self) {
        let nodes: Vec<(NodeName, u64)> =
            self.machines.iter().map(|(node, machine)| (node.clone(), machine.process())).collect();
        for (node, process) in nodes {
            if !self.rng.chance(self.weather.deaf) {
                let event = Event::Hint(Hint::SourceMoved);
                self.send(&node, process, Duration::from_millis(1), event);
            }
        }
    }

    fn release_lock(&mut self, node: &NodeName) {
        if self.store.lock.as_ref().is_some_and(|(holder, _)| holder == node) {
            self.store.lock = None;
        }
    }

    fn kill_one(&mut self, node: &NodeName, pause: bool) {
        let Some(machine) = self.machines.get(node) else {
            return;
        };
        let running: Vec<ContainerId> = machine
            .runtime
            .containers()
            .filter(|container| container.is_running())
            .filter(|container| container.marks.role.container().is_none() == pause)
            .map(|container| container.id.clone())
            .collect();
        if let Some(id) = self.rng.pick(&running).cloned() {
            self.end_container(node, &id, 137);
        }
    }

    /// Ends all faults: everything is up and nothing goes wrong any more.
    pub fn heal(&mut self) {
        self.note(|| "-- everything is healed".to_owned());
        self.weather = Weather::default();
        self.remote_is_up = true;
        self.store_is_up = true;
        self.agenda.retain(|_, item| !matches!(item, Item::Interference(_)));
        let nodes: Vec<NodeName> = self.machines.keys().cloned().collect();
        for node in nodes {
            self.interfere(Interference::StartRuntime(node.clone()));
            self.set_cut_off(&node, false);
            self.start_agent(&node);
        }
        self.uncordon_all();
        if self.store.restores > 0 {
            self.adopt_at_last();
        }
        self.source_moved();
    }
}

impl World {
    /// Where a store that was restored is still refused, somebody says at last that it is meant: on one
    /// machine after the other, because one that knows nothing newer has nothing to say, and once
    /// more, when all have looked.
    fn adopt_at_last(&mut self) {
        let nodes: Vec<NodeName> = self.machines.keys().cloned().collect();
        for round in [5, 40] {
            for (after, node) in (round..).step_by(4).zip(&nodes) {
                let at = self.time + Duration::from_secs(after);
                self.plan(at, Interference::Adopt(node.clone()));
            }
        }
    }

    /// Whoever cordoned a node says that it may be used again, as soon as agents know of it.
    fn uncordon_all(&mut self) {
        let nodes: Vec<NodeName> = self.machines.keys().cloned().collect();
        for node in nodes {
            for after in [10, 60] {
                let what = RequestKind::Uncordon { node: node.clone() };
                let at = self.time + Duration::from_secs(after);
                self.plan(at, Interference::Ask(node.clone(), what));
            }
        }
    }
}

fn parsed(file: &FileContent) -> Parsed {
    (file.path.clone(), file.blob.clone(), desired::parse(file))
}

/// A call in a few words, without what it carries.
fn brief(call: &Call) -> String {
    use crate::ports::runtime::Call as RuntimeCall;
    let text = match call {
        Call::Runtime(RuntimeCall::Start(spec)) => format!("start {}", spec.name),
        Call::Names(_) => "serve names".to_owned(),
        Call::Files(crate::ports::files::Call::Write { pod, .. }) => {
            format!("write files of {pod}")
        }
        Call::Store(crate::ports::store::Call::Commit { register, base, edits, why }) => {
            let base = base.as_ref().map_or("nothing", |rev| rev.short());
            let paths: Vec<&str> = edits.iter().map(|edit| edit.path.as_str()).collect();
            let why = why.lines().next().unwrap_or_default();
            format!("write {register} after {base}: {why} {paths:?}")
        }
        other => format!("{other:?}"),
    };
    text.chars().take(160).collect()
}
