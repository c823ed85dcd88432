//! Nodes that turn away what the coordinator believes to fit there.
//!
//! Once is no trouble: the coordinator had an older picture of the node, and the pod's owner makes
//! another. But where the two disagree for good (a node with other books, an agent of another
//! version), pods would be made, sent and turned away without end. So a node that has turned a pod
//! away is asked to take one of the same template again only after a while, which doubles each time.
//! Every other node, and every other template, is served as ever.
//!
//! Only the coordinator's memory holds it: one that takes over asks once more.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::kinds::binding::{Binding, TemplateRef};
use crate::kinds::digest::Digest;
use crate::kinds::name::{NodeName, Uid};
use crate::kinds::object::Key;
use crate::kinds::time::Elapsed;

use super::work::Work;

/// The first wait: a picture that was only old is new by then.
const FIRST: Duration = Duration::from_secs(1);
/// The longest wait, as kubelet's between restarts (`MaxContainerBackOff`).
const LONGEST: Duration = Duration::from_secs(300);
/// A node that has turned nobody away for so long after a wait begins afresh.
const FORGIVEN_AFTER: Duration = Duration::from_secs(600);

/// What was turned away, and by whom.
type Case = (Key, Digest, NodeName);

/// Who was turned away lately.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Refusals(BTreeMap<Case, Refusal>);

#[derive(Clone, Debug, PartialEq)]
struct Refusal {
    /// Those that were counted and are still known.
    pods: BTreeSet<Uid>,
    times: u32,
    until: Elapsed,
}

fn case(template: &TemplateRef, node: &NodeName) -> Case {
    (template.owner.clone(), template.meaning, node.clone())
}

impl Refusals {
    /// Takes note of a pod that its node has turned away.
    fn note(&mut self, binding: &Binding, node: &NodeName, now: Elapsed) {
        let refusal = self.0.entry(case(&binding.template, node)).or_insert_with(|| Refusal {
            pods: BTreeSet::new(),
            times: 0,
            until: now,
        });
        if refusal.pods.insert(binding.uid.clone()) {
            let wait = FIRST * 2_u32.saturating_pow(refusal.times.min(16));
            refusal.times += 1;
            refusal.until = now + wait.min(LONGEST);
        }
    }

    /// Until when a node is not asked to take a pod of this template.
    pub(super) fn until(
        &self,
        template: &TemplateRef,
        node: &NodeName,
        now: Elapsed,
    ) -> Option<Elapsed> {
        let refusal = self.0.get(&case(template, node))?;
        Some(refusal.until).filter(|until| *until > now)
    }

    /// Whether nobody was turned away lately.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Forgets pods that are no more, and cases that are long past.
    pub(super) fn keep_only(&mut self, lives: impl Fn(&Uid) -> bool, now: Elapsed) {
        for refusal in self.0.values_mut() {
            refusal.pods.retain(&lives);
        }
        self.0.retain(|_, refusal| {
            now.since(refusal.until) < FORGIVEN_AFTER || !refusal.pods.is_empty()
        });
    }
}

/// Takes note of the pods that were turned away.
pub(super) fn take_note(work: &mut Work) {
    for pod in work.pods.values() {
        let is_refused = pod.report.as_ref().is_some_and(|report| report.status.is_rejection());
        if let (Some(node), true) = (&pod.node, is_refused) {
            work.memory.refusals.note(&pod.binding, node, work.now.elapsed);
        }
    }
}
