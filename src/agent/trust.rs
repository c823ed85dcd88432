//! Which commits are vouched for: asked before anything of a commit is read, on every node, also of
//! what the state store says is in force.
//!
//! A customs officer at each pier: papers are looked at where the crate is opened, whoever says that
//! they were looked at elsewhere. That a commit is good stays true, so it is asked once in an agent's
//! life, and that it is not until there are new tags; what vouches for it is in the node's own copy, so it
//! can be asked without a network.
//!
//! The rules are [`crate::desired::trust`]'s; without a pin (`desired.trust`) nothing is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::desired::trust::{Distrust, Refusal, Signer, TRUST_FILE, Vouched};
use crate::kinds::binding::Oid;
use crate::kinds::time::Now;
use crate::ports::source::{Answer as SourceAnswer, Call as SourceCall, Lineage};
use crate::ports::{Answer, Call, Fault};

use super::event::Work;
use super::wish::{READ_TIMEOUT, RETRY_FIRST};
use super::{Agent, Purpose};

/// Answers that are kept; beyond them some are asked anew.
const KEPT_MAX: usize = 2000;

/// What is known of commits' trust.
#[derive(Debug, Default)]
pub(super) struct Trust {
    /// The commit that brought the pinned policy.
    root: Option<Oid>,
    /// The last commit that was found good: what it stands on is not looked at again.
    newest: Option<Oid>,
    answers: BTreeMap<Oid, Result<Arc<Signer>, Arc<Refusal>>>,
    asked: BTreeSet<Oid>,
    /// How many tags there are in the copy of the repository.
    tags: usize,
}

impl Trust {
    /// Takes note of how many tags there are; whether some are new.
    pub(super) fn hear_tags(&mut self, tags: usize) -> bool {
        std::mem::replace(&mut self.tags, tags) != tags
    }
}

/// What is known of one commit.
#[derive(Clone, Debug)]
pub(super) enum TrustOf {
    /// Nobody has to vouch for it.
    Free,
    /// It is vouched for.
    Good(Arc<Signer>),
    /// It is not.
    Bad(Arc<Refusal>),
    /// It has to be asked.
    Unknown,
}

impl Agent {
    /// What is known of a commit.
    pub(super) fn trust_of(&self, commit: &Oid) -> TrustOf {
        if self.config.trust.is_none() {
            return TrustOf::Free;
        }
        match self.trust.answers.get(commit) {
            Some(Ok(signer)) => TrustOf::Good(signer.clone()),
            Some(Err(refusal)) => TrustOf::Bad(refusal.clone()),
            None => TrustOf::Unknown,
        }
    }

    /// New tags are here: what nobody vouched for may be vouched for now.
    pub(super) fn judge_anew(&mut self) {
        self.trust.answers.retain(|_, answer| answer.is_ok());
        self.wish.read_refused_anew();
        self.lead.needs_turn();
        self.host_needs_look();
        self.network_needs_look();
    }

    /// Who signed a commit that is vouched for.
    pub(super) fn signer_of(&self, commit: &Oid) -> Option<Arc<Signer>> {
        match self.trust_of(commit) {
            TrustOf::Good(signer) => Some(signer),
            _ => None,
        }
    }

    /// Whether something waits to be told of a commit.
    pub(super) fn is_asking_trust(&self) -> bool {
        !self.trust.asked.is_empty()
    }

    /// Asks what a commit stands on.
    pub(super) fn ask_trust(&mut self, commit: &Oid) {
        let known = self.trust.newest.iter().cloned().collect();
        if self.trust.asked.insert(commit.clone()) {
            self.ask_lineage(commit, known);
        }
    }

    fn ask_lineage(&mut self, commit: &Oid, known: Vec<Oid>) {
        let Some(pin) = self.config.trust else { return };
        let call = SourceCall::Lineage {
            commit: commit.clone(),
            file: TRUST_FILE.to_owned(),
            pin,
            root: self.trust.root.clone(),
            known,
        };
        self.call(Purpose::Lineage(commit.clone()), Call::Source(call), READ_TIMEOUT);
    }

    pub(super) fn lineage_read(&mut self, commit: Oid, result: Result<Answer, Fault>, now: Now) {
        match (result, self.config.trust) {
            (Ok(Answer::Source(SourceAnswer::Lineage(lineage))), Some(pin)) => {
                let lineage: Box<Lineage> = lineage;
                self.ask(Purpose::Judge(commit), Work::Vouch(lineage, pin), READ_TIMEOUT);
            }
            (Ok(_), _) => self.trust_unknown(&commit, &Fault::transient("no lineage came"), now),
            (Err(fault), _) => self.trust_unknown(&commit, &fault, now),
        }
    }

    pub(super) fn judged(&mut self, commit: &Oid, result: Result<Vouched, Box<Refusal>>, now: Now) {
        let answer = match result {
            Ok(vouched) => {
                self.trust.root = Some(vouched.root);
                self.trust.newest = Some(commit.clone());
                Ok(vouched.signer)
            }
            // A merge of two policies is judged by all that there is.
            Err(refusal) if refusal.why == Distrust::Short => {
                return self.ask_lineage(commit, Vec::new());
            }
            Err(refusal) => {
                tracing::warn!(%commit, why = %refusal, "a commit is not vouched for");
                if refusal.why.is_for_want_of_a_tag() {
                    // It may have come after its commit was fetched.
                    self.wish.fetch_soon(now);
                }
                Err(Arc::from(refusal))
            }
        };
        self.trust.asked.remove(commit);
        while self.trust.answers.len() >= KEPT_MAX {
            self.trust.answers.pop_first();
        }
        self.trust.answers.insert(commit.clone(), answer);
        if self.is_loading(commit) {
            self.go_on_loading(now);
        }
        // Templates of earlier revisions may have waited for it.
        self.lead.needs_turn();
        self.host_needs_look();
        self.network_needs_look();
    }

    /// It could not be found out; whoever needs to know asks again.
    pub(super) fn trust_unknown(&mut self, commit: &Oid, fault: &Fault, now: Now) {
        self.trust.asked.remove(commit);
        if self.is_loading(commit) {
            self.load_failed(fault, now);
        }
        self.wish.books_retry_at.get_or_insert(now.elapsed + RETRY_FIRST);
    }
}
