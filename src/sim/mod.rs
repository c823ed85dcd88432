//! The other world: the same agents on a simulated one, with virtual time and seeded faults.
//!
//! A wind tunnel: the wing is the real one, only the air is made. Everything that can happen to a
//! fleet (a killed agent, a write that landed but was answered by an error, a runtime that forgets
//! to say that a container died, a clock that jumps by years) happens here a thousand times in the
//! time a real one needs to start a container, and in the same order whenever the seed is the same.
//!
//! A run has two halves. In the first, faults fall and *safety* is checked after every step
//! ([`check`]). Then everything is healed, and the fleet must settle: what runs is what the newest
//! good commit says, and nothing shows that it ever was otherwise ([`converge`]).
//!
//! Floor 4: the twin of [`crate::adapters`].

pub mod check;
mod check_ends;
mod check_jobs;
mod converge;
#[cfg(test)]
mod identity;
mod interference;
#[cfg(test)]
mod links;
pub mod load;
mod machine;
#[cfg(test)]
mod membership;
#[cfg(test)]
mod placement;
pub mod rehearsal;
mod rng;
mod runtime;
pub mod scenario;
mod shop;
mod source;
mod store;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::agent::event::{Done, Effect, EffectId, Event, Hint, Parsed, Work};
use crate::desired;
use crate::kinds::name::NodeName;
use crate::kinds::time::Elapsed;
use crate::plan;
use crate::ports::runtime::{ContainerId, RuntimeHint};
use crate::ports::source::{Call as SourceCall, FileContent};
use crate::ports::store::{Answer as StoreAnswer, Call as StoreCall, Glance, Landing, Register};
use crate::ports::{Answer, Call, Fault, peers};
use crate::state::State;

pub use interference::Interference;
pub use load::Load;
pub use machine::{Machine, Reach};
pub use rng::Rng;
pub use source::{Files, Repo, divide, read};
pub use store::Registers;

/// How many of the last happenings are kept if nobody says otherwise, to be printed with a failure.
pub const TRACE_MAX: usize = 40;

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
    /// Above how many nodes a coordinator folds what nodes say.
    pub folds_above: usize,
    /// The machines that the last step, or somebody since, has touched.
    pub touched: BTreeSet<NodeName>,
    /// How many of the last happenings are kept.
    pub trace_max: usize,
    /// What was decided: when, by whom, what.
    pub decisions: Vec<(Duration, NodeName, String)>,
    /// What was planned in the last step, and from what.
    pub planned: Option<Box<(plan::Input, State)>>,
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
            folds_above: machine::FOLDS_ABOVE,
            touched: BTreeSet::new(),
            time: Duration::ZERO,
            trace_max: TRACE_MAX,
            decisions: Vec::new(),
            planned: None,
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
        machine.folds_above = self.folds_above;
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
        let time = self.time.as_secs_f64();
        record(&mut self.trace, self.trace_max, || format!("{time:>10.3} s  {}", text()));
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
        self.touched.clear();
        self.planned = None;
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
        self.touched.insert(node.clone());
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
        self.touched.insert(node.clone());
        let result = match work {
            Work::Parse(files) => Ok(Done::Parsed(files.iter().map(parsed).collect())),
            Work::Vouch(lineage, pin) => Ok(Done::Judged(desired::trust::vouch(&lineage, &pin))),
            Work::Plan(given) => {
                let (input, mut memory) = *given;
                let Some(machine) = self.machines.get(node) else {
                    return;
                };
                let plan = plan::plan(&input, &mut memory, machine.now(self.time));
                self.planned = Some(Box::new((input, plan.next.clone())));
                Ok(Done::Planned(Box::new((plan, memory))))
            }
            Work::Reply(..) => return,
            Work::Call(Call::Store(StoreCall::Look(_)))
                if self.machines.get(node).is_some_and(|machine| machine.looks_hang) =>
            {
                return self.answer_late(node, process, id, deadline);
            }
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
        let remote = (self.remote_is_up && machine.reach.reads).then_some(&self.remote);
        if !matches!(call, Call::Probe(_) | Call::Filter(_)) {
            let time = time.as_secs_f64();
            record(&mut self.trace, self.trace_max, || {
                format!("{time:>10.3} s  {node}: {}", brief(call))
            });
        }
        match call {
            Call::Source(call) => {
                if matches!(call, SourceCall::Fetch) {
                    machine.load.fetches += 1;
                    machine.room_for("the desired repository's copy")?;
                }
                machine.copy.perform(call, remote).map(Answer::Source)
            }
            Call::Store(StoreCall::Recall) if !self.store.is_local => {
                let fence = machine.fence;
                Ok(Answer::Store(StoreAnswer::Seen(Glance { fence, ..machine.glance.clone() })))
            }
            Call::Store(call)
                if !(machine.has_copy_for(call)
                    || self.store_is_up && machine.reach.permits(call)) =>
            {
                Err(Fault::transient("the state store is unreachable"))
            }
            Call::Store(call) => {
                if machine.writes_disk_for(call) {
                    machine.room_for("the state store's copy")?;
                }
                let has_read = matches!(call, StoreCall::Read { .. }) && machine.has_copy_for(call);
                if !has_read {
                    machine.load.count(call, &mut machine.last_read, &self.store);
                }
                let is_stale = !self.store.is_local && self.rng.chance(self.weather.stale);
                if is_stale
                    && matches!(call, StoreCall::Look(_))
                    && let Some(before) = machine.looked.clone()
                {
                    let seen = Glance { fence: machine.fence, ..before };
                    return Ok(Answer::Store(StoreAnswer::Seen(seen)));
                }
                let answer = self.store.perform(call, node, process, &mut machine.fence);
                match (call, &answer) {
                    (StoreCall::Look(scope), Ok(StoreAnswer::Seen(glance))) => {
                        machine.looked = Some(glance.clone());
                        machine.keep_copy_of(glance, *scope);
                    }
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
                    let met = neighbours.iter();
                    machine.neighbours = met.map(|n| (n.name.clone(), n.life.clone())).collect();
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
        let is_met = other.neighbours.get(from).is_some_and(|met| *met == one.life());
        one.reach.speaks && other.reach.hears && is_met
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
        self.touched.insert(node.clone());
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        let now = machine.now(time).wall;
        if machine.runtime.end(id, exit_code, now) {
            self.note(|| format!("{node}: container {id} ends with {exit_code}"));
            self.hint(node, RuntimeHint::Changed(id.clone()));
        }
    }
}

/// Keeps a line, and so many in all.
fn record(trace: &mut VecDeque<String>, most: usize, line: impl FnOnce() -> String) {
    if most == 0 {
        return;
    }
    if trace.len() >= most {
        trace.pop_front();
    }
    trace.push_back(line());
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
        Call::Peers(peers::Call::Meet(others)) => format!("meet {} nodes", others.len()),
        Call::Peers(peers::Call::Say { to, word }) => format!("say {word:?} to {} nodes", to.len()),
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
