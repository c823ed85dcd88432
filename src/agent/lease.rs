//! Who coordinates, as seen from here; and the signs of life that others judge this node by.
//!
//! ```text
//!   a store on this machine   the coordinator's lock is ours, or it is not
//!   a store behind a server   the register names this life of the agent, and a write of ours landed
//!                             within the lease's duration, counted from when it was begun
//! ```
//! Others count the same duration from when they *saw* our last write, which was later: so a holder
//! that can't renew has stopped before anybody may start. And should two ever believe that they
//! lead, only one of them can write: each decision names the one it follows (docs/DESIGN.md §4).

use std::time::Duration;

use crate::kinds::binding::Generation;
use crate::kinds::lease::Lease;
use crate::kinds::name::NodeName;
use crate::kinds::time::{Elapsed, Now};
use crate::plan::Silence;
use crate::plan::common::{self, Voice};
use crate::ports::store::{
    Answer as StoreAnswer, Call as StoreCall, Glance, Landing, Register, Scope,
};
use crate::ports::{Answer, Call, Fault};
use crate::state::{NodeReport, State};

use super::store::{Known, STORE_TIMEOUT};
use super::{Agent, Purpose};

/// A holder renews so many times per duration.
const RENEWALS: u32 = 3;
/// Each further node in the order waits this much longer, so that they don't all try at once.
pub(super) const RANK_WAIT: Duration = Duration::from_secs(2);
/// A node is given up after it has missed so many beats, or more.
const BEATS_MISSED: u32 = 3;

/// What this agent knows of the coordinator's register from its own looks and writes.
#[derive(Debug, Default)]
pub(super) struct Sight {
    /// When the write was begun by which the lease stands.
    pub(super) renewed: Option<Elapsed>,
    /// When the look was begun, or the write, that showed last that the register is as it is known here.
    confirmed: Option<Elapsed>,
    /// When a write of ours was refused because some register was not what it was taken for; until a
    /// look has shown what stands there.
    pub(super) overtaken: Option<Elapsed>,
}

impl Sight {
    /// What a look has shown that was begun then.
    pub(super) fn compare(&mut self, known: Option<&Known<State>>, seen: &Glance, began: Elapsed) {
        let known = known.and_then(|known| known.rev.as_ref());
        if seen.coordinator.as_ref() == known {
            self.confirmed = self.confirmed.max(known.map(|_| began));
            self.overtaken = self.overtaken.filter(|at| *at > began);
        }
    }

    fn is_overtaken(&self) -> bool {
        self.overtaken.is_some()
    }
}

impl Agent {
    /// Whether this agent coordinates.
    pub(super) fn is_leading(&self, now: Now) -> bool {
        let is_followed = self.store.coordinator().is_some() && !self.store.is_refused();
        if !is_followed || self.store.sight.is_overtaken() || self.name_is_taken() {
            return false;
        }
        if self.config.always_leads {
            return true;
        }
        match self.store.is_local() {
            true => self.store.holds_lock(),
            false => self.holds_lease() && !self.has_lapsed(now),
        }
    }

    /// Whether this agent may decide now: it leads, or nobody does; and it has read what all say.
    pub(super) fn may_lead(&self, now: Now) -> bool {
        let is_read = !self.store.is_refused() && self.store.scope() == Scope::All;
        if !is_read || self.store.sight.is_overtaken() || !self.has_the_fleets_settings() {
            return false;
        }
        if self.store.bereft_of().is_none() && self.outdone_by().is_some() {
            return false;
        }
        match self.store.bereft_of() {
            Some(last) => self.may_write_anew(last, now),
            None => self.is_leading(now) || self.may_take_lease(now),
        }
    }

    /// What the other nodes say of what must be the same on all.
    fn voices(&self) -> Vec<Voice<'_>> {
        let is_forgotten =
            |name: &NodeName| self.store.state().is_some_and(|state| state.is_forgotten(name));
        let is_away = |name: &NodeName| self.store.state().is_some_and(|state| state.is_away(name));
        let limit = self.not_ready_after();
        self.store
            .nodes()
            .filter(|(name, _)| **name != self.config.node && !is_forgotten(name))
            .map(|(name, report)| Voice {
                settings: report.facts.settings.as_ref(),
                is_heard: !is_away(name) && self.silence_of(name).lasts < limit,
            })
            .collect()
    }

    /// Whether what must be the same on every node is here as it is in force, or as it is to be.
    fn has_the_fleets_settings(&self) -> bool {
        let own = &*self.config.fleet;
        let recorded = self.store.state().and_then(|state| state.settings.as_deref());
        recorded.is_none_or(|recorded| {
            own.agree_with(recorded)
                || own.agree_with(common::in_force(Some(recorded), own, &self.voices()))
        })
    }

    /// Says in the log when this node's settings come to differ from its fleet's, and gives the lease
    /// to somebody whose settings don't.
    pub(super) fn tend_settings(&mut self, now: Now) {
        let recorded = self.store.state().and_then(|state| state.settings.clone());
        let own = self.config.fleet.clone();
        let complaint = match recorded.as_deref().filter(|recorded| !own.agree_with(recorded)) {
            Some(recorded) => {
                common::complaint(&self.config.node, Some(recorded), &own, &self.voices())
            }
            None => None,
        };
        if complaint != self.settings_complaint {
            match &complaint {
                Some((what, next)) => tracing::warn!("settings differ: {what}; {next}"),
                None => tracing::info!("settings are the fleet's"),
            }
            self.settings_complaint = complaint;
        }
        // An earlier life of this agent must not be waited for either: this one's beats are its.
        let lease = self.store.state().and_then(|state| state.lease.as_ref());
        let has_lease = lease.is_some_and(|lease| self.is_of_us(lease) && !lease.released);
        let is_releasing = self.flights.values().any(|p| matches!(p, Purpose::Release));
        let may_release = self.store.is_in_touch() && !self.store.is_refused() && !is_releasing;
        let is_outvoted = self.settings_complaint.is_some() && !self.has_the_fleets_settings();
        if has_lease && may_release && is_outvoted {
            self.hand_back_lease(now, "has settings that differ from the fleet's");
        }
    }

    /// The store has lost the coordinator's register. Whoever leads knows what it held; otherwise
    /// every node says which decision is the last it knows, and whoever knows the newest may write
    /// it anew. If a node does not say so, a person must decide.
    fn may_write_anew(&self, last: Generation, now: Now) -> bool {
        let is_sure = !self.name_is_taken() && self.store.is_in_touch();
        let (Some(state), true) = (self.store.state(), is_sure) else {
            return false;
        };
        let is_at_most = |node: &NodeName| {
            let known = self.store.report_of(node);
            known.and_then(|report| report.facts.knows).is_some_and(|theirs| theirs <= last)
        };
        // Also who has joined since, and acted on decisions that are not known here.
        let acted = self.store.nodes().filter(|(_, report)| report.facts.has_acted);
        let others = state.nodes.keys().chain(acted.map(|(node, _)| node));
        let mut others = others.filter(|node| **node != self.config.node);
        self.is_leading(now) || !self.another_may_lead(state, now) && others.all(is_at_most)
    }

    /// Whoever holds the lease may still lead, though the register is gone: it is the one to write it
    /// anew, as long as it shows life. One that knows less than this node is not waited for, but until
    /// it has ceased to lead: its beats renew nothing while it misses the register, and it has
    /// said that it does.
    fn another_may_lead(&self, state: &State, now: Now) -> bool {
        let Some(lease) = state.lease.as_ref().filter(|lease| !lease.released) else {
            return false;
        };
        let duration = Duration::from_secs(lease.duration_s.into());
        let has_ceased =
            self.lead.outlives_since.is_some_and(|at| now.elapsed.since(at) >= duration);
        lease.holder != self.config.node
            && !has_ceased
            && self.store.vigil.silence_of_lease(lease) < duration
    }

    /// Notes since when the lease's holder says that it misses the register and knows less than this
    /// node.
    pub(super) fn tend_lease(&mut self, now: Now) {
        let holder = self.store.state().and_then(|state| state.lease.as_ref());
        let holder = holder.and_then(|lease| self.store.report_of(&lease.holder));
        let theirs = holder.and_then(|holder| holder.facts.knows);
        let knows_less = theirs.zip(self.store.bereft_of()).is_some_and(|(its, own)| its < own);
        let since = self.lead.outlives_since.unwrap_or(now.elapsed);
        self.lead.outlives_since = knows_less.then_some(since);
    }

    /// The register names this life of the agent.
    fn holds_lease(&self) -> bool {
        let lease = self.store.state().and_then(|state| state.lease.as_ref());
        lease.is_some_and(|lease| self.is_ours(lease) && !lease.released)
    }

    fn is_ours(&self, lease: &Lease) -> bool {
        lease.holder == self.config.node && lease.incarnation == self.config.incarnation
    }

    /// The lease is this life's, or an earlier one's.
    fn is_of_us(&self, lease: &Lease) -> bool {
        lease.holder == self.config.node
            && lease.incarnation.starts_with(&format!("{}-", self.config.installation))
    }

    /// No write of ours has landed for the lease's duration.
    fn has_lapsed(&self, now: Now) -> bool {
        let renewed = self.store.sight.renewed;
        renewed.is_none_or(|renewed| now.elapsed.since(renewed) >= self.config.lease)
    }

    pub(super) fn may_take_lease(&self, now: Now) -> bool {
        let known = self.store.coordinator();
        let is_seen = known.is_some() && !self.name_is_taken() && self.store.is_in_touch();
        if !is_seen || self.store.is_local() || self.is_stopping {
            return false;
        }
        let Some(lease) = self.store.state().and_then(|state| state.lease.as_ref()) else {
            return true;
        };
        // An earlier life of this very agent is over: its data directory is ours now. So is our own
        // lease that has run out while nobody took it.
        if self.is_of_us(lease) {
            return !self.is_ours(lease) || self.has_lapsed(now);
        }
        let duration = Duration::from_secs(lease.duration_s.into());
        let wait = if lease.released { Duration::ZERO } else { duration };
        let silence = self.store.vigil.silence_of_lease(lease);
        silence >= wait && silence >= wait + RANK_WAIT * self.rank()
    }

    /// How often this node's register moves at least.
    fn beat_interval(&self, now: Now) -> Duration {
        if self.is_leading(now) { self.config.lease / RENEWALS } else { self.fleet_beat() }
    }

    /// How long a node is silent until it counts as lost.
    pub(super) fn not_ready_after(&self) -> Duration {
        self.config.not_ready_after.max(self.fleet_beat() * BEATS_MISSED)
    }

    /// Shows that this node lives, if nothing else has shown it lately.
    pub(super) fn tend_beat(&mut self, now: Now) {
        self.store.beat_at = None;
        if self.store.is_local() || !self.store.is_in_touch() || self.host.is_reporting {
            return;
        }
        let register = self.own_register();
        let known = self.store.node(&self.config.node);
        let Some(base) = known.and_then(|known| known.rev.clone()) else {
            return;
        };
        if self.name_is_taken() {
            return;
        }
        let interval = self.config.jittered(self.beat_interval(now), self.store.looks());
        let due = self.store.asked(&register).map_or(now.elapsed, |asked| asked + interval);
        if due > now.elapsed {
            self.store.beat_at = Some(due);
            return;
        }
        self.host.is_reporting = true;
        self.store.asks_to_write(register.clone(), now);
        self.call(Purpose::Beat, Call::Store(StoreCall::Beat { register, base }), STORE_TIMEOUT);
    }

    pub(super) fn beaten(&mut self, result: Result<Answer, Fault>, now: Now) {
        self.host.is_reporting = false;
        match result {
            Ok(Answer::Store(StoreAnswer::Landing(Landing::Landed(rev)))) => {
                self.store.moved_on(&self.config.node, rev);
                self.renewed_by(&self.own_register(), now);
            }
            Ok(_) => self.overtaken(now),
            Err(fault) => self.store_failed(fault, now),
        }
    }

    /// A write of ours landed: the lease stands anew from when the write was begun. Not one that
    /// has lapsed meanwhile: others may have taken it, so it must be taken again.
    pub(super) fn renewed_by(&mut self, register: &Register, now: Now) {
        let asked = self.store.asked(register);
        let sight = &mut self.store.sight;
        if *register == Register::Coordinator {
            sight.confirmed = sight.confirmed.max(asked);
            sight.renewed = sight.renewed.max(asked);
            return;
        }
        // Whoever misses the coordinator's register, or has not seen for as long as the lease lasts that
        // it stands there as he left it, can't go on by showing life.
        let lease = self.config.lease;
        let is_sure = sight.confirmed.is_some_and(|at| now.elapsed.since(at) < lease);
        if is_sure && !self.has_lapsed(now) && self.store.bereft_of().is_none() {
            self.store.sight.renewed = self.store.sight.renewed.max(asked);
        }
    }

    /// A write of ours was refused, because the register is not what it was taken for: others have
    /// written, or the store was restored. Nothing is decided before that was looked at.
    pub(super) fn overtaken(&mut self, now: Now) {
        self.store.sight.overtaken = Some(now.elapsed);
        self.look_at_store(now);
    }

    /// This node's register.
    pub(super) fn own_register(&self) -> Register {
        Register::Node(self.config.node.clone())
    }

    /// Whether this installation wrote the report, or one that did not yet say which it is.
    pub(super) fn is_by_us(&self, report: &NodeReport) -> bool {
        let theirs = &report.facts.installation;
        theirs.is_empty() || *theirs == self.config.installation
    }

    /// Another machine runs under this node's name.
    pub(super) fn name_is_taken(&self) -> bool {
        let Some(known) = self.store.node(&self.config.node) else {
            return false;
        };
        let silence = self.store.vigil.silence_of(&self.own_register());
        !self.is_by_us(&known.value) && silence.lasts < self.config.not_ready_after
    }

    /// What is wrong with this node's name, for people.
    pub(super) fn name_fault(&self) -> Option<String> {
        self.name_is_taken().then(|| {
            format!(
                "another machine runs under the name {}; this one waits and runs nothing. Give one \
                 of them another name (node.name in agent.yaml). If the other is gone for good, \
                 this one goes on when nothing was heard of it for {} s",
                self.config.node,
                self.config.not_ready_after.as_secs()
            )
        })
    }

    /// For how long a node has not been heard of, from here.
    pub(super) fn silence_of(&self, node: &NodeName) -> Silence {
        if *node == self.config.node {
            return Silence { lasts: Duration::ZERO, was_heard: true };
        }
        self.store.vigil.silence_of(&Register::Node(node.clone()))
    }

    /// Gives the lease back, so that nobody waits for an agent that ends on purpose.
    pub(super) fn release_lease(&mut self, now: Now) {
        if self.is_leading(now) {
            self.hand_back_lease(now, "ends");
        }
    }

    fn hand_back_lease(&mut self, now: Now, why: &str) {
        if self.store.is_local() || self.lead.is_writing() {
            return;
        }
        let Some(known) = self.store.coordinator() else {
            return;
        };
        let (before, mut after): (&State, State) = (&known.value, State::clone(&known.value));
        let Some(lease) = &mut after.lease else {
            return;
        };
        lease.released = true;
        after.generation = after.generation.next();
        let call = StoreCall::Commit {
            register: Register::Coordinator,
            base: known.rev.clone(),
            edits: before.edits_to(&after),
            why: format!("{} {why} and gives the lease back", self.config.node),
        };
        self.store.asks_to_write(Register::Coordinator, now);
        self.call(Purpose::Release, Call::Store(call), RELEASE_TIMEOUT);
    }

    /// The lease was given back, or not: then others wait until it has run out.
    pub(super) fn released(&mut self, result: Result<Answer, Fault>, now: Now) {
        match result {
            Ok(Answer::Store(StoreAnswer::Landing(Landing::Landed(rev)))) => {
                // Whoever may be next is concerned.
                let next = self.leaders();
                self.say_decided(rev, &next);
                self.store.look_soon(now);
            }
            Ok(_) => self.store.look_soon(now),
            Err(fault) => self.store_failed(fault, now),
        }
    }
}

/// How long the agent's end may wait for the lease to be given back.
pub(super) const RELEASE_TIMEOUT: Duration = Duration::from_secs(5);

/// When something was asked for, for those who compare.
pub(super) fn is_since(asked: Option<Elapsed>, began: Elapsed) -> bool {
    asked.is_some_and(|asked| asked >= began)
}
