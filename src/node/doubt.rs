//! Pods of which more may run than is seen.
//!
//! A start whose answer was lost may have taken effect. Until a listing that was asked for after it
//! has come, such a pod isn't gone and its address isn't free: else two pods could get one address.

use std::collections::BTreeMap;

use crate::kinds::name::Uid;
use crate::ports::{Answer, Fault, FaultKind};

use super::memory::Memory;
use super::step::Step;

/// By pod: whether the listing under way was asked for after the doubt arose.
#[derive(Clone, Debug, Default)]
pub(crate) struct Doubts(BTreeMap<Uid, bool>);

impl Doubts {
    /// Takes how a step ended: one without an answer may have taken effect.
    pub(crate) fn weigh(&mut self, uid: &Uid, step: &Step, result: &Result<Answer, Fault>) {
        let is_start = matches!(step, Step::Pause | Step::Start(_));
        let is_answered = result
            .as_ref()
            .err()
            .is_none_or(|fault| matches!(fault.kind, FaultKind::Stalled | FaultKind::NotFound));
        if is_start && !is_answered {
            self.0.insert(uid.clone(), false);
        }
    }

    /// Whether something of the pod may run unseen.
    pub(crate) fn about(&self, uid: &Uid) -> bool {
        self.0.contains_key(uid)
    }
}

impl Memory {
    /// Whether only a listing can tell what runs: ask for one soon.
    pub fn is_in_doubt(&self) -> bool {
        !self.doubts.0.is_empty()
    }

    /// A listing is asked for now.
    pub fn listing_begins(&mut self) {
        self.doubts.0.values_mut().for_each(|is_asked| *is_asked = true);
    }

    /// It has come.
    pub fn listing_came(&mut self) {
        self.doubts.0.retain(|_, is_asked| !*is_asked);
    }
}
