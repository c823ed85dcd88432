//! A state store that can't be followed as it is, taken on purpose: it was restored from a backup, set
//! back, or lost with a node that nobody can ask any more.
//!
//! A ship's log that was washed overboard and replaced by an older copy: the crew goes on with what it
//! remembers, and nobody writes a line, until the owner says "from here on, this one". He says so by
//! `stateEpoch` in a commit, which every node reads for itself, or by `windlass state adopt` on one of
//! them. That node then writes what stands there under a new epoch, in one compare-and-swap. Whatever
//! was decided in an older epoch counts less from then on, also what nobody here knows of.
//!
//! The limit: what was decided after the backup is forgotten. Pods of that time end when their nodes
//! read the new epoch, and others are made in their place; for so long both may run, but nothing
//! that has a name of its own: that begins when all nodes are known to follow (`plan::restored`).

use std::time::Duration;

use crate::kinds::binding::Generation;
use crate::kinds::name::NodeName;
use crate::kinds::time::{Elapsed, Now};
use crate::plan;
use crate::ports::store::{
    Answer as StoreAnswer, Call as StoreCall, Edit, Landing, Register, Rev, Scope, Tree,
};
use crate::ports::{Answer, Call, Fault};
use crate::state::State;
use crate::view::picture::Adoptable;

use super::event::{AskId, Reply};
use super::lease::RANK_WAIT;
use super::store::STORE_TIMEOUT;
use super::{Agent, Purpose};

/// What stands in the store, or is remembered, and would be taken.
#[derive(Clone, Debug)]
pub(super) struct Offer {
    base: Option<Rev>,
    tree: Tree,
    state: State,
    what: &'static str,
}

/// A store about to be taken.
#[derive(Clone, Debug)]
pub(super) struct Adoption {
    state: State,
    tree: Tree,
    edits: Vec<Edit>,
}

/// Who has permitted it.
#[derive(Debug, Default)]
pub(super) struct Permit {
    /// The epoch that a person on this machine permitted, and who.
    granted: Option<(u64, String)>,
    /// When this node tries, where a commit permits it to all.
    at: Option<Elapsed>,
}

impl Permit {
    pub(super) fn next_wake(&self) -> Option<Elapsed> {
        self.at
    }
}

impl Agent {
    /// What could be taken on purpose; nothing while the store is as it should be.
    fn offer(&self) -> Option<Offer> {
        if self.name_is_taken() {
            return None;
        }
        let nothing = || (None, Tree::default());
        let ((base, tree), what) = if let Some((rev, stands)) = self.store.stands() {
            let (tree, _) = stands?;
            match self.store.is_gone() {
                // What this machine's copy holds.
                true => (nothing(), "it has lost refs/windlass/coordinator"),
                false => ((Some(rev.clone()), tree.clone()), "it was set back"),
            }
        } else if let Some(known) = self.store.coordinator() {
            let what = match known.rev {
                None if self.store.bereft_of().is_some() => "it has lost refs/windlass/coordinator",
                Some(_) if self.outdone_by().is_some() => "it was set back",
                _ => return None,
            };
            ((known.rev.clone(), known.tree.clone()), what)
        } else if self.store.is_lost() {
            (nothing(), "it has lost refs/windlass/coordinator, and this node has no copy of it")
        } else {
            return None;
        };
        let state = self.store.at_hand().cloned().unwrap_or_default();
        Some(Offer { base, tree, state, what })
    }

    /// A node that has acted on a newer decision than the one that is known here.
    pub(super) fn outdone_by(&self) -> Option<(&NodeName, Generation)> {
        let own = self.store.state().map(|state| state.generation).unwrap_or_default();
        let says = self.store.say_missing().filter(|(name, _)| **name != self.config.node);
        says.filter_map(|(name, report)| Some((name, report.facts.knows?)))
            .filter(|(_, theirs)| *theirs > own)
            .max_by_key(|(_, theirs)| *theirs)
    }

    /// What is the matter with a store that this node follows, while another has seen newer.
    pub(super) fn set_back_fault(&self) -> Option<String> {
        let known = self.store.coordinator().filter(|known| known.rev.is_some())?;
        let (node, theirs) = self.outdone_by()?;
        Some(format!(
            "the state store holds decision {}, and node {node} has acted on {theirs}: it was set \
             back, and nothing is decided. {WAYS_OUT}",
            known.value.generation
        ))
    }

    /// The newest decision that anybody is known to have acted on.
    fn newest_known(&self) -> Generation {
        let says = self.store.say_missing().filter_map(|(_, report)| report.facts.knows);
        says.fold(self.store.highest_seen(), Generation::max)
    }

    /// Somebody who is heard of and has newer decisions than are on offer, where nothing stands in the
    /// store: what he has is to be taken, not this. Not what he has acted on and has no more, by which
    /// two might each send the asker to the other.
    fn better_offer(&self, offer: &Offer) -> Option<(&NodeName, Generation)> {
        let says = self.store.say_missing().filter(|(name, _)| **name != self.config.node);
        says.filter(|_| offer.base.is_none())
            .filter_map(|(name, report)| Some((name, report.facts.holds.or(report.facts.knows)?)))
            .filter(|(_, theirs)| *theirs > offer.state.generation)
            .filter(|(name, _)| self.silence_of(name).lasts < self.not_ready_after())
            .max_by_key(|(_, theirs)| *theirs)
    }

    /// Whoever held the lease has not noticed yet what has become of the store. He may be the one to
    /// write anew what is gone.
    fn holder_goes_on(&self, offer: &Offer) -> bool {
        let state = self.store.state().unwrap_or(&offer.state);
        let Some(lease) = state.lease.as_ref().filter(|lease| !lease.released) else {
            return false;
        };
        let holder = self.store.report_of(&lease.holder);
        let has_noticed = holder.is_some_and(|holder| holder.facts.knows.is_some());
        let duration = Duration::from_secs(lease.duration_s.into());
        let is_alive = self.store.vigil.silence_of_lease(lease) < duration;
        lease.holder != self.config.node && !has_noticed && is_alive
    }

    /// The epoch that a commit names which is in force, or may come into force.
    fn desired_epoch(&self) -> u64 {
        let nothing = State::default();
        let state = self.store.state().unwrap_or(&nothing);
        let follows = self.config.settings.follows_rewrites;
        let newest = self.wish.newest.iter().flat_map(|newest| &newest.parts);
        let acceptable = newest.filter(|(app, part)| plan::may_accept(part, state, app, follows));
        let acceptable = acceptable.map(|(_, part)| part);
        let revisions = self.wish.applied.values().chain(acceptable);
        revisions.map(|revision| revision.desired.settings.state_epoch).max().unwrap_or(0)
    }

    /// Somebody on this machine says that the store is to be taken as it is.
    pub(super) fn asked_to_adopt(&mut self, id: AskId, by: String, now: Now) {
        let Some(offer) = self.offer() else {
            let why = match self.store.stands() {
                Some(_) => {
                    "what stands in refs/windlass/coordinator can't be read: delete it, and the nodes \
                     write the newest decision anew"
                }
                None => {
                    "the state store is as it should be, or can't be reached: nothing is to be \
                         taken on purpose"
                }
            };
            return self.reply(id, Reply::Refused(why.to_owned()));
        };
        if self.store.scope() == Scope::Own {
            let why =
                "this node is about to read what the others know: say so again in a few seconds";
            return self.reply(id, Reply::Refused(why.to_owned()));
        }
        if let Some((node, theirs)) = self.better_offer(&offer) {
            let own = offer.state.generation;
            return self.reply(
                id,
                Reply::Refused(format!(
                    "node {node} has decision {theirs}, this one only {own}: say so there"
                )),
            );
        }
        let epoch = self.newest_known().max(offer.state.generation).epoch + 1;
        self.permit.granted = Some((epoch, by));
        self.reply(id, Reply::Accepted);
        self.tend_adoption(now);
    }

    /// Takes the store as it is, if it can't be followed and somebody has permitted it.
    pub(super) fn tend_adoption(&mut self, now: Now) {
        if !self.store.is_in_touch() || self.store.scope() == Scope::Own {
            // Its turn is reckoned anew when the store can be seen again; a time that has passed would
            // wake the agent again and again until then.
            self.permit.at = None;
            return;
        }
        let Some(offer) = self.offer() else {
            self.permit = Permit::default();
            return;
        };
        let newest = self.newest_known().max(offer.state.generation);
        let (epoch, by) = match self.permit.granted.clone() {
            Some((epoch, by)) if epoch > newest.epoch => (epoch, by),
            _ => (self.desired_epoch(), "a commit (stateEpoch)".to_owned()),
        };
        let is_busy = self.lead.is_writing() || self.is_adopting() || self.is_stopping;
        let is_best = self.better_offer(&offer).is_none() && !self.holder_goes_on(&offer);
        let may = epoch > newest.epoch && !is_busy && is_best;
        if !may || self.store.is_local() && !self.store.holds_lock() {
            self.permit.at = None;
            return;
        }
        // A commit permits it to all: they try one after the other.
        let wait = if self.permit.granted.is_some() { 0 } else { self.rank() };
        let at = *self.permit.at.get_or_insert(now.elapsed + RANK_WAIT * wait);
        if at > now.elapsed {
            return;
        }
        self.permit.at = None;
        let lead = plan::Leader {
            node: self.config.node.clone(),
            incarnation: self.config.incarnation.clone(),
            lease_s: self.config.lease_s(),
        };
        let registers = self.store.nodes().map(|(name, _)| name);
        let state =
            plan::adopted(&offer.state, self.store.state(), registers, &lead, epoch, &by, now);
        let before = if offer.base.is_some() { &offer.state } else { &State::default() };
        let edits = before.edits_to(&state);
        let why =
            format!("{by}: the state store is taken as it is ({}), epoch {epoch}", offer.what);
        tracing::warn!(generation = %state.generation, "{why}");
        let call = StoreCall::Commit {
            register: Register::Coordinator,
            base: offer.base,
            edits: edits.clone(),
            why,
        };
        self.store.asks_to_write(Register::Coordinator, now);
        let adoption = Box::new(Adoption { state, tree: offer.tree, edits });
        self.call(Purpose::Adopt(adoption), Call::Store(call), STORE_TIMEOUT);
    }

    fn is_adopting(&self) -> bool {
        self.flights.values().any(|purpose| matches!(purpose, Purpose::Adopt(_)))
    }

    /// It was taken, or somebody else was first.
    pub(super) fn adopted(&mut self, adoption: Adoption, result: Result<Answer, Fault>, now: Now) {
        let Adoption { state, tree, edits } = adoption;
        match result {
            Ok(Answer::Store(StoreAnswer::Landing(Landing::Landed(rev)))) => {
                let fence = StoreCall::Fence(state.generation);
                self.call(Purpose::Fence, Call::Store(fence), STORE_TIMEOUT);
                self.store.wrote_state(rev.clone(), tree.with(&edits), state);
                self.store.count_written(&edits);
                self.permit = Permit::default();
                self.renewed_by(&Register::Coordinator, now);
                let next = self.leaders();
                self.say_decided(rev, &next);
                self.refresh_facts(now);
                self.lead.needs_turn();
                self.host_needs_look();
                self.network_needs_look();
            }
            Ok(_) => self.overtaken(now),
            Err(fault) => self.store_failed(fault, now),
        }
    }

    /// What `windlass state adopt` would take.
    pub(super) fn adoptable(&self) -> Option<Adoptable> {
        let offer = self.offer()?;
        let newest = self.newest_known().max(offer.state.generation);
        Some(Adoptable {
            what: offer.what.to_owned(),
            decision: offer.state.generation,
            newest,
            epoch: newest.epoch + 1,
            is_empty: offer.state.generation == Generation::default(),
        })
    }
}

/// What a person may do about a store that was set back.
pub(super) const WAYS_OUT: &str = "If that was not meant, delete refs/windlass/coordinator there: the \
     nodes write the newest decision anew. If it was, `windlass state adopt` on one node, or a higher \
     stateEpoch in windlass.yaml, takes it as it is";
