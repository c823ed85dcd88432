//! What befalls a simulated world from outside, and its end.

use std::time::Duration;

use crate::agent::event::{Ask, AskId, Event, Hint};
use crate::kinds::name::NodeName;
use crate::ports::runtime::{ContainerId, RuntimeHint};
use crate::ports::store::Register;
use crate::state::RequestKind;

use super::machine::{Machine, Reach};
use super::{Files, Item, Weather, World, check};

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
    /// A machine can reach only so much of what is around it.
    Reach(NodeName, Reach),
    /// A machine's looks at the store are not answered, though its writes are.
    HangLooks(NodeName),
    /// They are answered again.
    AnswerLooks(NodeName),
    /// The disk of a machine takes nothing more.
    FillDisk(NodeName),
    /// There is room on it again.
    ClearDisk(NodeName),
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
    /// Somebody on a machine asks for every pod that runs on another to be evicted.
    EvictPods(NodeName, NodeName),
}

impl Interference {
    /// The machine that it befalls, if it is one alone.
    fn node(&self) -> Option<&NodeName> {
        match self {
            Self::KillAgent(node)
            | Self::StartAgent(node)
            | Self::StopRuntime(node)
            | Self::StartRuntime(node)
            | Self::KillContainer(node)
            | Self::KillPause(node)
            | Self::PowerCut(node)
            | Self::FlushRules(node)
            | Self::JumpClock(node, _)
            | Self::Reach(node, _)
            | Self::HangLooks(node)
            | Self::AnswerLooks(node)
            | Self::FillDisk(node)
            | Self::ClearDisk(node)
            | Self::Adopt(node)
            | Self::Ask(node, _)
            | Self::EvictPods(node, _) => Some(node),
            Self::CutStore
            | Self::HealStore
            | Self::DeleteRegister(_)
            | Self::BackUp
            | Self::Restore
            | Self::CutRemote
            | Self::HealRemote
            | Self::Push(..)
            | Self::SetBack(_) => None,
        }
    }
}

impl World {
    /// Carries out an interference.
    pub fn interfere(&mut self, what: Interference) {
        self.note(|| match &what {
            Interference::Push(message, _) => format!("-- push: {message}"),
            other => format!("-- {other:?}"),
        });
        let time = self.time;
        self.touched.extend(what.node().cloned());
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
            Interference::Reach(node, reach) => self.change(&node, |m| m.reach = reach),
            Interference::HangLooks(node) => self.change(&node, |m| m.looks_hang = true),
            Interference::AnswerLooks(node) => self.change(&node, |m| m.looks_hang = false),
            Interference::FillDisk(node) => self.change(&node, |m| m.disk_is_full = true),
            Interference::ClearDisk(node) => self.change(&node, |m| m.disk_is_full = false),
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
            Interference::EvictPods(node, of) => {
                let pods = self.machines.get(&of).map(check::running_pods).unwrap_or_default();
                for (pod, uid) in pods {
                    let what = RequestKind::EvictPod { pod, uid, grace_s: None };
                    self.ask(&node, Ask::Request { what, by: "root".to_owned() });
                }
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

    fn change(&mut self, node: &NodeName, change: impl FnOnce(&mut Machine)) {
        self.touched.insert(node.clone());
        if let Some(machine) = self.machines.get_mut(node) {
            change(machine);
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
            self.change(&node, |machine| {
                machine.reach = Reach::default();
                machine.looks_hang = false;
                machine.disk_is_full = false;
            });
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
    /// machine after the other, because one that knows nothing newer has nothing to say, and again
    /// when all have looked: a call that hung when all was healed is given up after a minute. In a large fleet some are enough: among them are those who may be
    /// next, who know what all know.
    fn adopt_at_last(&mut self) {
        let nodes: Vec<NodeName> = self.machines.keys().take(10).cloned().collect();
        for round in [5, 40, 90] {
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
