//! The state store: looked at, read, and kept in mind.
//!
//! What was read last stays in force while the store can't be reached: losing it stops no pod.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::kinds::binding::Generation;
use crate::kinds::name::NodeName;
use crate::kinds::time::{Elapsed, Now};
use crate::ports::store::{
    Answer as StoreAnswer, Call as StoreCall, Edit, Glance, Register, Rev, Tree,
};
use crate::ports::{Answer, Call, Fault};
use crate::state::{NodeReport, State};

use super::{Agent, Purpose};

/// How long a look at the store, or a write, may take.
pub(super) const STORE_TIMEOUT: Duration = Duration::from_secs(60);
/// The first wait after a look that failed; doubled up to [`RETRY_LONGEST`].
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// What is known of the state store.
#[derive(Debug, Default)]
pub(super) struct Store {
    glance: Option<Glance>,
    coordinator: Option<Known<State>>,
    nodes: BTreeMap<NodeName, Known<NodeReport>>,
    reading: usize,
    is_looking: bool,
    look_at: Option<Elapsed>,
    failures: u32,
    looks: u64,
    /// Content that was written, in bytes, for metrics.
    pub(super) written_bytes: u64,
    /// The store's last fault, if it failed.
    pub(super) fault: Option<Fault>,
}

/// A register as it was last read or written.
#[derive(Clone, Debug)]
pub(super) struct Known<T> {
    pub(super) rev: Option<Rev>,
    pub(super) tree: Tree,
    pub(super) value: T,
}

impl Store {
    /// The coordinator's register, once it was read.
    pub(super) fn state(&self) -> Option<&State> {
        self.coordinator.as_ref().map(|known| &known.value)
    }

    /// The coordinator's register with its revision.
    pub(super) fn coordinator(&self) -> Option<&Known<State>> {
        self.coordinator.as_ref()
    }

    /// A node's register.
    pub(super) fn node(&self, name: &NodeName) -> Option<&Known<NodeReport>> {
        self.nodes.get(name)
    }

    /// Every node's register.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&NodeName, &NodeReport)> {
        self.nodes.iter().map(|(name, known)| (name, &known.value))
    }

    /// Whether this process holds the coordinator's lock.
    pub(super) fn holds_lock(&self) -> bool {
        self.glance.as_ref().is_some_and(|glance| glance.holds_lock)
    }

    /// Whether everything that was looked at has been read.
    pub(super) fn is_read(&self) -> bool {
        self.coordinator.is_some() && self.reading == 0
    }

    pub(super) fn look_soon(&mut self, now: Now) {
        self.look_at = Some(now.elapsed);
    }

    pub(super) fn next_wake(&self) -> Option<Elapsed> {
        self.look_at.filter(|_| !self.is_looking && self.reading == 0)
    }

    /// Takes what this agent itself wrote.
    pub(super) fn wrote_state(&mut self, rev: Rev, tree: Tree, value: State) {
        self.coordinator = Some(Known { rev: Some(rev), tree, value });
    }

    /// Takes what this agent itself wrote.
    pub(super) fn wrote_report(&mut self, me: &NodeName, rev: Rev, tree: Tree, value: NodeReport) {
        self.nodes.insert(me.clone(), Known { rev: Some(rev), tree, value });
    }

    /// Takes note of how much was written.
    pub(super) fn count_written(&mut self, edits: &[Edit]) {
        let content = edits.iter().filter_map(|edit| edit.content.as_ref());
        self.written_bytes += content.map(|content| content.len() as u64).sum::<u64>();
    }

    fn highest_seen(&self) -> Generation {
        let fence = self.glance.as_ref().map(|glance| glance.fence).unwrap_or_default();
        let state = self.state().map(|state| state.generation).unwrap_or_default();
        fence.max(state)
    }
}

impl Agent {
    pub(super) fn look_at_store(&mut self, now: Now) {
        self.store.look_soon(now);
        self.tend_store(now);
    }

    pub(super) fn tend_store(&mut self, now: Now) {
        let is_due = self.store.look_at.is_some_and(|at| at <= now.elapsed);
        // A write under way would make the look see half of it.
        let is_writing = self.lead.is_writing() || self.host.is_reporting();
        if is_due && !self.store.is_looking && self.store.reading == 0 && !is_writing {
            self.store.is_looking = true;
            self.store.look_at = None;
            self.call(Purpose::Look, Call::Store(StoreCall::Look), STORE_TIMEOUT);
        }
    }

    pub(super) fn looked(&mut self, result: Result<Answer, Fault>, now: Now) {
        self.store.is_looking = false;
        self.store.looks += 1;
        let glance = match result {
            Ok(Answer::Store(StoreAnswer::Seen(glance))) => glance,
            Ok(_) => return,
            Err(fault) => return self.store_failed(fault, now),
        };
        self.store.failures = 0;
        self.store.fault = None;
        let poll = self.config.jittered(self.config.store_poll, self.store.looks);
        self.store.look_at.get_or_insert(now.elapsed + poll);
        self.read_what_moved(&glance);
        let vanished: Vec<NodeName> = self
            .store
            .nodes
            .keys()
            .filter(|name| !glance.nodes.contains_key(*name) && **name != self.config.node)
            .cloned()
            .collect();
        for name in vanished {
            self.store.nodes.remove(&name);
        }
        let gained_lock = glance.holds_lock && !self.store.holds_lock();
        self.store.glance = Some(glance);
        if gained_lock {
            self.lead.needs_turn();
        }
    }

    fn read_what_moved(&mut self, glance: &Glance) {
        let known = self.store.coordinator.as_ref().and_then(|known| known.rev.as_ref());
        let mut moved = Vec::new();
        match &glance.coordinator {
            Some(rev) if Some(rev) != known => moved.push((Register::Coordinator, rev.clone())),
            Some(_) => {}
            None if self.store.coordinator.is_none() => {
                // A new store: nothing has been decided yet.
                let value = State::default();
                self.store.coordinator = Some(Known { rev: None, tree: Tree::default(), value });
                self.lead.needs_turn();
            }
            None => {
                tracing::error!(
                    "the coordinator's ref is gone from the state store; what was read last stays in force"
                );
            }
        }
        for (name, rev) in &glance.nodes {
            let known = self.store.nodes.get(name).and_then(|known| known.rev.as_ref());
            if known != Some(rev) {
                moved.push((Register::Node(name.clone()), rev.clone()));
            }
        }
        for (register, rev) in moved {
            self.store.reading += 1;
            let call = StoreCall::Read { register: register.clone(), rev: rev.clone() };
            self.call(Purpose::ReadRegister(register, rev), Call::Store(call), STORE_TIMEOUT);
        }
    }

    pub(super) fn register_read(
        &mut self,
        register: Register,
        rev: Rev,
        result: Result<Answer, Fault>,
        now: Now,
    ) {
        self.store.reading = self.store.reading.saturating_sub(1);
        let tree = match result {
            Ok(Answer::Store(StoreAnswer::Tree(tree))) => tree,
            Ok(_) => return,
            Err(fault) => return self.store_failed(fault, now),
        };
        let taken = match register {
            Register::Coordinator => self.take_state(rev, tree),
            Register::Node(name) => self.take_report(name, rev, tree),
        };
        if let Err(fault) = taken {
            self.store_failed(fault, now);
        }
        self.lead.needs_turn();
        self.host_needs_look();
        self.network_needs_look();
    }

    fn take_state(&mut self, rev: Rev, tree: Tree) -> Result<(), Fault> {
        let value = State::decode(&tree).map_err(Fault::stalled)?;
        let highest = self.store.highest_seen();
        if value.generation < highest {
            return Err(Fault::stalled(format!(
                "the state store holds decision {}, and this node has acted on {highest}: it was \
                 set back; nothing is changed until a newer decision comes or the epoch is raised",
                value.generation
            )));
        }
        self.store.coordinator = Some(Known { rev: Some(rev), tree, value });
        Ok(())
    }

    fn take_report(&mut self, name: NodeName, rev: Rev, tree: Tree) -> Result<(), Fault> {
        let value = NodeReport::decode(&tree).map_err(Fault::stalled)?;
        if name == self.config.node {
            self.host.succeed(&value);
        }
        self.store.nodes.insert(name, Known { rev: Some(rev), tree, value });
        Ok(())
    }

    pub(super) fn store_failed(&mut self, fault: Fault, now: Now) {
        if self.store.fault.as_ref() != Some(&fault) {
            tracing::warn!(%fault, "the state store failed; what was decided stays in force");
        }
        self.store.fault = Some(fault);
        self.store.failures = self.store.failures.saturating_add(1);
        let wait = RETRY_FIRST * 2_u32.saturating_pow(self.store.failures.min(16) - 1);
        self.store.look_at = Some(now.elapsed + wait.min(RETRY_LONGEST));
    }
}
