//! The state store in memory: compare-and-swap registers, and every state they were ever in.

use std::collections::{BTreeMap, BTreeSet};

use crate::kinds::binding::{Generation, Oid};
use crate::kinds::digest::Digest;
use crate::kinds::name::NodeName;
use crate::kinds::time::Wall;
use crate::ports::Fault;
use crate::ports::store::{Answer, Call, Decision, Edit, Glance, Landing, Register, Rev, Tree};

/// The registers.
#[derive(Clone, Debug, Default)]
pub struct Registers {
    current: BTreeMap<Register, Rev>,
    trees: BTreeMap<Rev, Tree>,
    log: Vec<(Register, Rev, String)>,
    backup: BTreeMap<Register, Rev>,
    /// How often a backup was restored.
    pub restores: usize,
    writers: Vec<(Register, NodeName)>,
    writes: u64,
    decisions: usize,
    /// Whether the store is on the agents' own machine, where locks tell who leads and who lives.
    pub is_local: bool,
    /// Whose agents run.
    pub alive: BTreeSet<NodeName>,
    /// Who holds the coordinator's lock: which process of which node.
    pub lock: Option<(NodeName, u64)>,
}

impl Registers {
    /// The content of a register.
    pub fn tree(&self, register: &Register) -> Option<&Tree> {
        self.trees.get(self.current.get(register)?)
    }

    /// How many times the coordinator's register was written.
    pub fn decisions(&self) -> usize {
        self.decisions
    }

    /// Who has written, in the order of writing: (register, node).
    pub fn writers(&self) -> &[(Register, NodeName)] {
        &self.writers
    }

    /// Puts a register back to what it was so many writes ago, as a restored backup does; false if
    /// there were not so many.
    pub fn set_back(&mut self, register: &Register, writes: usize) -> bool {
        let earlier = self.log.iter().rev().filter(|(r, _, _)| r == register).nth(writes);
        let Some((_, rev, _)) = earlier else {
            return false;
        };
        self.current.insert(register.clone(), rev.clone());
        true
    }

    /// Remembers what every register is.
    pub fn back_up(&mut self) {
        self.backup.clone_from(&self.current);
    }

    /// Puts every register back to what it was when that was last remembered.
    pub fn restore(&mut self) {
        if !self.backup.is_empty() {
            self.current.clone_from(&self.backup);
            self.restores += 1;
        }
    }

    /// Deletes a register, as somebody with a right to push may.
    pub fn delete(&mut self, register: &Register) {
        self.current.remove(register);
    }

    /// Carries out a call of one process of `node`.
    pub fn perform(
        &mut self,
        call: &Call,
        node: &NodeName,
        process: u64,
        fence: &mut Generation,
    ) -> Result<Answer, Fault> {
        match call {
            Call::Look => Ok(Answer::Seen(self.glance(node, process, *fence))),
            Call::Read { register, rev } => {
                let tree = self.trees.get(rev).cloned();
                tree.map(Answer::Tree)
                    .ok_or_else(|| Fault::not_found(format!("{register} was never {rev}")))
            }
            Call::Commit { register, base, edits, why } => {
                let landing = self.commit(register, base.as_ref(), edits, why);
                if matches!(landing, Landing::Landed(_)) {
                    self.writers.push((register.clone(), node.clone()));
                }
                Ok(Answer::Landing(landing))
            }
            Call::Fence(generation) => {
                *fence = (*fence).max(*generation);
                Ok(Answer::Fenced)
            }
            Call::History { limit } => Ok(Answer::History(self.history(*limit))),
            Call::Beat { register, base } => {
                Ok(Answer::Landing(self.commit(register, Some(base), &[], "beat")))
            }
            Call::Recall => {
                let glance = self.glance(node, process, *fence);
                Ok(Answer::Seen(Glance { holds_lock: false, ..glance }))
            }
            Call::Compact => Ok(Answer::Compacted),
        }
    }

    fn glance(&mut self, node: &NodeName, process: u64, fence: Generation) -> Glance {
        let own = (node.clone(), process);
        let holds_lock = self.is_local && *self.lock.get_or_insert(own.clone()) == own;
        let nodes = self.current.iter().filter_map(|(register, rev)| match register {
            Register::Node(name) => Some((name.clone(), rev.clone())),
            Register::Coordinator => None,
        });
        let coordinator = self.current.get(&Register::Coordinator).cloned();
        let alive = self.is_local.then(|| self.alive.clone());
        Glance { coordinator, nodes: nodes.collect(), holds_lock, alive, fence }
    }

    fn history(&self, limit: usize) -> Vec<Decision> {
        let newest = self.log.iter().rev().filter(|(r, _, _)| *r == Register::Coordinator);
        newest
            .take(limit)
            .map(|(_, rev, why)| Decision {
                rev: rev.clone(),
                by: String::new(),
                time: Wall::default(),
                why: why.clone(),
            })
            .collect()
    }

    fn commit(
        &mut self,
        register: &Register,
        base: Option<&Rev>,
        edits: &[Edit],
        why: &str,
    ) -> Landing {
        let theirs = self.current.get(register);
        if theirs != base {
            return Landing::Raced { theirs: theirs.cloned() };
        }
        let empty = Tree::default();
        let before = base.and_then(|rev| self.trees.get(rev)).unwrap_or(&empty);
        let tree = before.with(edits);
        self.writes += 1;
        let text = format!("{register} {}", self.writes);
        let rev: Rev = Oid::new(&Digest::of(text.as_bytes()).hex()[..40]);
        self.trees.insert(rev.clone(), tree);
        self.current.insert(register.clone(), rev.clone());
        // Beats are many and say nothing.
        if !edits.is_empty() {
            self.decisions += usize::from(*register == Register::Coordinator);
            self.log.push((register.clone(), rev.clone(), why.to_owned()));
        }
        Landing::Landed(rev)
    }
}
