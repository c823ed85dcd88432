//! The state store in memory: compare-and-swap registers, and every state they were ever in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::kinds::binding::{Generation, Oid};
use crate::kinds::digest::Digest;
use crate::kinds::name::NodeName;
use crate::kinds::time::Wall;
use crate::ports::Fault;
use crate::ports::store::{Answer, Call, Decision, Edit, Glance, Landing, Register, Rev, Tree};

/// So many states a ring has.
const RING: u64 = 16;

/// The state of a ring after so many moves.
fn ring(root: &Rev, moved: u64) -> Rev {
    match moved % RING {
        0 => root.clone(),
        place => Oid::new(&format!("{root}.{place}")),
    }
}

/// The coordinator's register and the nodes', as they were.
type Backup = (Option<Rev>, Arc<BTreeMap<NodeName, Rev>>);

/// The registers.
#[derive(Clone, Debug, Default)]
pub struct Registers {
    coordinator: Option<Rev>,
    nodes: Arc<BTreeMap<NodeName, Rev>>,
    /// Where each node's register stands in its ring: the state whose content it has, and how often
    /// it has moved since.
    rings: BTreeMap<NodeName, (Rev, u64)>,
    trees: BTreeMap<Rev, Tree>,
    log: Vec<(Register, Rev, String)>,
    backup: Option<Backup>,
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
        self.trees.get(self.current(register)?)
    }

    /// The content of a state.
    pub(super) fn state(&self, rev: &Rev) -> Option<&Tree> {
        self.trees.get(rev)
    }

    /// How many registers there are.
    pub(super) fn size(&self) -> u64 {
        self.nodes.len() as u64 + u64::from(self.coordinator.is_some())
    }

    /// Which state a register is in.
    pub fn current(&self, register: &Register) -> Option<&Rev> {
        match register {
            Register::Coordinator => self.coordinator.as_ref(),
            Register::Node(node) => self.nodes.get(node),
        }
    }

    /// Forgets all states but those the registers are in, for who counts memory: a real store keeps
    /// them on disk. Nothing can be set back any more.
    pub fn forget_past(&mut self) {
        let rings = self.rings.values().map(|(root, _)| root);
        let now = self.coordinator.iter().chain(self.nodes.values()).chain(rings);
        let now: BTreeSet<Rev> = now.cloned().collect();
        self.trees.retain(|rev, _| now.contains(rev));
        self.log.retain(|(_, rev, _)| now.contains(rev));
        self.backup = None;
    }

    fn set(&mut self, register: &Register, rev: Option<Rev>) {
        match (register, rev) {
            (Register::Coordinator, rev) => self.coordinator = rev,
            (Register::Node(node), Some(rev)) => {
                Arc::make_mut(&mut self.nodes).insert(node.clone(), rev);
            }
            (Register::Node(node), None) => {
                Arc::make_mut(&mut self.nodes).remove(node);
            }
        }
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
        let rev = rev.clone();
        self.set(register, Some(rev));
        true
    }

    /// Remembers what every register is.
    pub fn back_up(&mut self) {
        self.backup = Some((self.coordinator.clone(), self.nodes.clone()));
    }

    /// Puts every register back to what it was when that was last remembered.
    pub fn restore(&mut self) {
        if let Some((coordinator, nodes)) = &self.backup {
            (self.coordinator, self.nodes) = (coordinator.clone(), nodes.clone());
            self.restores += 1;
        }
    }

    /// Deletes a register, as somebody with a right to push may.
    pub fn delete(&mut self, register: &Register) {
        self.set(register, None);
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
            Call::Look(_) => Ok(Answer::Seen(self.glance(node, process, *fence))),
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
            Call::Beat { register, base } => Ok(Answer::Landing(self.beat(register, base))),
            Call::Remove { register, rev } => {
                let theirs = self.current(register).cloned();
                Ok(Answer::Landing(match theirs {
                    Some(now) if now == *rev => {
                        self.delete(register);
                        Landing::Landed(now)
                    }
                    theirs => Landing::Raced { theirs },
                }))
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
        let (coordinator, nodes) = (self.coordinator.clone(), self.nodes.clone());
        let alive = self.is_local.then(|| self.alive.clone());
        Glance { coordinator, nodes, holds_lock, alive, fence }
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

    /// Moves a node's register on in its ring: the same few states over one content.
    fn beat(&mut self, register: &Register, base: &Rev) -> Landing {
        let theirs = self.current(register);
        let Register::Node(node) = register else {
            return Landing::Raced { theirs: theirs.cloned() };
        };
        if theirs != Some(base) {
            return Landing::Raced { theirs: theirs.cloned() };
        }
        let known = self.rings.get(node).filter(|(root, moved)| ring(root, *moved) == *base);
        let (root, moved) = known.cloned().unwrap_or_else(|| (base.clone(), 0));
        let next = ring(&root, moved + 1);
        if !self.trees.contains_key(&next) {
            let tree = self.trees.get(base).cloned().unwrap_or_default();
            self.trees.insert(next.clone(), tree);
        }
        self.rings.insert(node.clone(), (root, moved + 1));
        self.set(register, Some(next.clone()));
        Landing::Landed(next)
    }

    fn commit(
        &mut self,
        register: &Register,
        base: Option<&Rev>,
        edits: &[Edit],
        why: &str,
    ) -> Landing {
        let theirs = self.current(register);
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
        self.set(register, Some(rev.clone()));
        self.decisions += usize::from(*register == Register::Coordinator);
        self.log.push((register.clone(), rev.clone(), why.to_owned()));
        Landing::Landed(rev)
    }
}
