//! Turns: while this agent coordinates, it plans and writes what it decided.
//!
//! One turn at a time, from what is known now to a write that says what it was based on. A write
//! that comes too late for what it was based on is refused by the store, and the turn is taken
//! again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::kinds::name::NodeName;
use crate::kinds::time::{Elapsed, Now};
use crate::plan::{self, NodeInput, Plan};
use crate::ports::store::{Answer as StoreAnswer, Call as StoreCall, Edit, Landing, Register, Rev};
use crate::ports::{Answer, Call, Fault};
use crate::state::NodeReport;
use crate::view::picture::TurnTimes;

use super::event::Work;
use super::store::STORE_TIMEOUT;
use super::{Agent, Purpose};

/// How long planning may take; a fleet of thousands needs seconds.
const PLAN_TIMEOUT: Duration = Duration::from_secs(120);
/// The wait after a turn that failed.
const RETRY: Duration = Duration::from_millis(500);
/// The wait after a deleted node's register could not be taken away.
const REMOVAL_RETRY: Duration = Duration::from_secs(600);
/// Small stores are made small again every so many decisions.
const COMPACT_EVERY: u64 = 500;

/// Where the turns stand.
#[derive(Debug, Default)]
pub(super) struct Lead {
    memory: plan::Memory,
    is_dirty: bool,
    stage: Stage,
    wake: Option<Elapsed>,
    retry_at: Option<Elapsed>,
    turns: u64,
    decisions: u64,
    /// What the last turns cost, for metrics.
    pub(super) writes: u64,
    pub(super) turn_times: TurnTimes,
    turn_began: Option<Elapsed>,
    /// A deleted node's register is not taken away before then.
    removal_at: Option<Elapsed>,
    /// Since when the lease's holder knows less than this node of a register that is gone.
    pub(super) outlives_since: Option<Elapsed>,
    /// The newest decision of which it is not known whether it landed: its number is not used again.
    tried: crate::kinds::binding::Generation,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Stage {
    #[default]
    Idle,
    /// From the register in this state.
    Planning(Option<Rev>),
    Writing,
}

impl Lead {
    /// Something changed that a turn may answer.
    pub(super) fn needs_turn(&mut self) {
        self.is_dirty = true;
    }

    /// Whether a turn is under way or due.
    pub(super) fn is_busy(&self) -> bool {
        self.stage != Stage::Idle || self.is_dirty
    }

    pub(super) fn is_writing(&self) -> bool {
        self.stage == Stage::Writing
    }

    pub(super) fn turns(&self) -> u64 {
        self.turns
    }

    fn turn_over(&mut self, now: Now) {
        if let Some(began) = self.turn_began.take() {
            self.turn_times.add(now.elapsed.since(began));
        }
    }

    pub(super) fn next_wake(&self) -> Option<Elapsed> {
        match self.stage {
            Stage::Idle => [self.wake, self.retry_at].into_iter().flatten().min(),
            Stage::Planning(_) | Stage::Writing => None,
        }
    }
}

impl Agent {
    pub(super) fn tend_lead(&mut self, now: Now) {
        if self.lead.wake.is_some_and(|at| at <= now.elapsed) {
            self.lead.wake = None;
            self.lead.is_dirty = true;
        }
        self.lead.retry_at = self.lead.retry_at.filter(|at| *at > now.elapsed);
        let is_due = self.lead.is_dirty && self.lead.retry_at.is_none();
        if !is_due || self.lead.stage != Stage::Idle {
            return;
        }
        if !self.store.is_read() || !self.may_lead(now) {
            return;
        }
        // A turn waits for the revision in force, and for the templates pods still run: without
        // them it would see less than there is.
        if !self.has_read_all() || !self.fetch_books() {
            return;
        }
        let Some(input) = self.turn_input(now) else {
            return;
        };
        self.lead.is_dirty = false;
        self.lead.wake = None;
        let base = self.store.coordinator().and_then(|known| known.rev.clone());
        self.lead.stage = Stage::Planning(base);
        self.lead.turns += 1;
        self.lead.turn_began = Some(now.elapsed);
        let memory = std::mem::take(&mut self.lead.memory);
        self.ask(Purpose::Turn, Work::Plan(Box::new((input, memory))), PLAN_TIMEOUT);
    }

    /// Takes away the registers of nodes that a person has deleted, one after the other: what stands there
    /// is nobody's word. Its node has not been heard of, or it would be on record again; should it write
    /// just now, the register has moved and stays.
    pub(super) fn tend_removals(&mut self, now: Now) {
        let is_waiting = self.lead.removal_at.is_some_and(|at| at > now.elapsed);
        let is_able =
            self.is_leading(now) && self.store.is_heard() && self.lead.stage == Stage::Idle;
        let is_removing = || self.flights.values().any(|its| matches!(its, Purpose::Remove(_)));
        if is_waiting || !is_able || self.is_stopping || is_removing() {
            return;
        }
        let Some((node, rev)) = self.store.forgotten_register() else {
            return;
        };
        let call = StoreCall::Remove { register: Register::Node(node.clone()), rev };
        self.call(Purpose::Remove(node), Call::Store(call), STORE_TIMEOUT);
    }

    pub(super) fn removed(&mut self, node: &NodeName, result: Result<Answer, Fault>, now: Now) {
        match result {
            Ok(Answer::Store(StoreAnswer::Landing(Landing::Landed(_)))) => {
                tracing::info!(%node, "a deleted node's register is gone");
                self.store.forget_register(node);
                self.lead.needs_turn();
            }
            Ok(_) => self.look_at_store(now),
            Err(fault) => {
                tracing::warn!(%node, %fault, "a deleted node's register stays for now");
                self.lead.removal_at = Some(now.elapsed + REMOVAL_RETRY);
            }
        }
    }

    fn turn_input(&self, now: Now) -> Option<plan::Input> {
        let is_gone = self.store.coordinator().is_some_and(|known| known.rev.is_none());
        let mut state = self.store.state()?.clone();
        if is_gone {
            state.generation = state.generation.max(self.lead.tried);
        }
        Some(plan::Input {
            me: self.config.node.clone(),
            incarnation: self.config.incarnation.clone(),
            lease_s: self.config.lease_s(),
            takes_lease: is_gone || !self.is_leading(now),
            writes_anew: is_gone && self.store.bereft_of().is_some(),
            folds_above: self.config.folds_above,
            not_ready_after: self.not_ready_after(),
            settings: self.config.settings.clone(),
            fleet: self.config.fleet.clone(),
            state,
            apps: self.wish.inputs(self.store.state()),
            nodes: self.node_inputs(),
            library: self.library.clone(),
        })
    }

    /// What each node says; this one's own word is taken fresh.
    pub(super) fn node_inputs(&self) -> BTreeMap<NodeName, NodeInput> {
        let settings = self.store.state().and_then(|state| state.settings.as_deref());
        let input = |name: &NodeName, report: &NodeReport, is_able: bool| NodeInput {
            facts: report.facts.clone(),
            pods: report.pods.clone(),
            requests: report.requests.clone(),
            removed_volumes: report.removed_volumes.clone(),
            is_ready: is_able,
            differs: plan::common::differs(settings, &report.facts),
            silence: self.silence_of(name),
        };
        let mut inputs: BTreeMap<NodeName, NodeInput> = self
            .store
            .nodes()
            .map(|(name, report)| {
                let is_able = report.facts.conditions.get("Ready").is_some_and(|c| c.status);
                (name.clone(), input(name, report, is_able))
            })
            .collect();
        let me = &self.config.node;
        if let Some(report) = self.host.report() {
            inputs.insert(me.clone(), input(me, report, self.host.is_able()));
        }
        inputs
    }

    pub(super) fn planned(&mut self, planned: (Plan, plan::Memory), now: Now) {
        let (plan, memory) = planned;
        self.lead.memory = memory;
        self.lead.wake = plan.wake;
        let stage = std::mem::take(&mut self.lead.stage);
        let Some(known) = self.store.coordinator() else { return };
        if !self.may_lead(now) {
            self.lead.is_dirty = true;
            return;
        }
        if stage != Stage::Planning(known.rev.clone()) {
            // The register was read again meanwhile: this plan answers what no longer is.
            self.lead.is_dirty = true;
            return;
        }
        // A register that is gone is written anew, whole.
        let edits = match known.rev {
            Some(_) => known.value.edits_to(&plan.next),
            None => crate::state::State::default().edits_to(&plan.next),
        };
        if edits.is_empty() {
            self.lead.turn_over(now);
            return;
        }
        let call = StoreCall::Commit {
            register: Register::Coordinator,
            base: known.rev.clone(),
            edits: edits.clone(),
            why: plan.why.clone(),
        };
        self.lead.stage = Stage::Writing;
        self.store.asks_to_write(Register::Coordinator, now);
        self.call(Purpose::Decide(Box::new((plan, edits))), Call::Store(call), STORE_TIMEOUT);
    }

    pub(super) fn turn_failed(&mut self, now: Now) {
        // The memory went with it: its timers begin afresh.
        self.lead.stage = Stage::Idle;
        self.lead.is_dirty = true;
        self.lead.retry_at = Some(now.elapsed + RETRY);
    }

    /// The decision was written, or not.
    pub(super) fn decided(
        &mut self,
        (plan, edits): (Plan, Vec<Edit>),
        result: Result<Answer, Fault>,
        now: Now,
    ) {
        self.lead.stage = Stage::Idle;
        self.lead.turn_over(now);
        match result {
            Ok(Answer::Store(StoreAnswer::Landing(Landing::Landed(rev)))) => {
                self.store.fault = None;
                self.landed(rev, plan, &edits);
                self.renewed_by(&Register::Coordinator, now);
            }
            Ok(_) => {
                tracing::info!("somebody else decided first; reading what");
                self.lead.is_dirty = true;
                self.overtaken(now);
            }
            Err(fault) => {
                // It may have landed all the same: look before deciding again.
                self.lead.is_dirty = true;
                self.lead.tried = plan.next.generation;
                self.lead.retry_at = Some(now.elapsed + RETRY);
                self.store_failed(fault, now);
            }
        }
    }

    fn landed(&mut self, rev: Rev, plan: Plan, edits: &[Edit]) {
        let Some(known) = self.store.coordinator() else { return };
        let tree = known.tree.with(edits);
        let generation = plan.next.generation;
        for line in plan.why.lines().filter(|line| !line.is_empty()).take(20) {
            tracing::info!(%generation, "{line}");
        }
        self.lead.is_dirty |= plan.is_unfinished;
        let changed = plan.next.pods.iter().filter(|(place, pods)| {
            known.value.pods.get(*place).is_none_or(|before| !Arc::ptr_eq(before, pods))
        });
        let mut concerned: BTreeSet<NodeName> =
            changed.filter_map(|(place, _)| place.clone()).collect();
        concerned.extend(self.leaders());
        self.store.wrote_state(rev.clone(), tree, plan.next);
        self.say_decided(rev, &concerned);
        self.lead.decisions += 1;
        self.lead.writes += 1;
        self.store.count_written(edits);
        let fence = StoreCall::Fence(generation);
        self.call(Purpose::Fence, Call::Store(fence), STORE_TIMEOUT);
        if self.lead.decisions.is_multiple_of(COMPACT_EVERY) {
            self.call(Purpose::Compact, Call::Store(StoreCall::Compact), STORE_TIMEOUT * 10);
        }
        self.host_needs_look();
        self.network_needs_look();
    }
}
