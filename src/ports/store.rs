//! The state store: compare-and-swap registers, each a tree of small files.
//!
//! Every write names the revision it was based on and is refused if the register has moved, so a
//! writer that has lost its place can't do harm. Source: docs/DESIGN.md §4.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};

use crate::kinds::binding::{Generation, Oid};
use crate::kinds::name::NodeName;
use crate::kinds::time::Wall;

/// A register of the store.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Register {
    /// `refs/windlass/coordinator`: the lease and every decision.
    Coordinator,
    /// `refs/windlass/nodes/<name>`: what a node says of itself.
    Node(NodeName),
}

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator => f.write_str("refs/windlass/coordinator"),
            Self::Node(name) => write!(f, "refs/windlass/nodes/{name}"),
        }
    }
}

/// A state of a register; absent registers have none.
pub type Rev = Oid;

/// Which registers a node reads. Which state each is in every look tells, whatever its scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// The coordinator's and its own: what others say is folded into the coordinator's.
    Own,
    /// Every one.
    All,
}

/// What may be asked of the store.
#[derive(Clone, Debug)]
pub enum Call {
    /// Which state each register is in. The registers that are going to be read are brought along,
    /// in the same connection.
    Look(Scope),
    /// Read a state of a register.
    Read {
        /// The register.
        register: Register,
        /// The state.
        rev: Rev,
    },
    /// Change a register that is still in state `base`.
    Commit {
        /// The register.
        register: Register,
        /// The state the change was made from; none if the register was absent.
        base: Option<Rev>,
        /// The changes.
        edits: Vec<Edit>,
        /// What was decided and why: the commit's message.
        why: String,
    },
    /// Show that the writer of a node's register lives: the register goes on, in a small ring of
    /// states with the content of `base`. It costs no objects, and says nothing new.
    Beat {
        /// The register; not the coordinator's, whose states are a history.
        register: Register,
        /// The state it is in.
        base: Rev,
    },
    /// Take away the register of a node that a person has deleted, if it is still in state `rev`.
    Remove {
        /// The register; not the coordinator's, and not the writer's own.
        register: Register,
        /// The state in which it was seen last.
        rev: Rev,
    },
    /// What the registers were when they were last seen from here, without asking anybody: what an
    /// agent begins with while the store can't be reached. It is no look: nothing follows from
    /// what it does not show, nor from its standing still.
    Recall,
    /// Remember, so that a power cut can't make us forget it, that decisions up to this one may
    /// have been acted on.
    Fence(Generation),
    /// The last decisions, newest first.
    History {
        /// How many.
        limit: usize,
    },
    /// Make the store small again.
    Compact,
}

/// What comes back.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`Call::Look`] and [`Call::Recall`].
    Seen(Glance),
    /// To [`Call::Read`].
    Tree(Tree),
    /// To [`Call::Commit`], [`Call::Beat`] and [`Call::Remove`]; of what was removed, the last state.
    Landing(Landing),
    /// To [`Call::Fence`].
    Fenced,
    /// To [`Call::History`].
    History(Vec<Decision>),
    /// To [`Call::Compact`].
    Compacted,
}

/// Which state each register is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Glance {
    /// The coordinator's.
    pub coordinator: Option<Rev>,
    /// The nodes'.
    pub nodes: Arc<BTreeMap<NodeName, Rev>>,
    /// Whether this process may lead without waiting: the store is on this machine and the
    /// coordinator's lock is ours.
    pub holds_lock: bool,
    /// The nodes whose agents are known to run, because each holds its lock: only of a store on
    /// this machine. Behind a server nobody can tell, and refs must move to show life.
    pub alive: Option<BTreeSet<NodeName>>,
    /// The highest generation this node has ever acted on.
    pub fence: Generation,
}

/// A state of a register: paths and their contents. Cheap to clone.
#[derive(Clone, Default)]
pub struct Tree {
    /// Content by path.
    pub files: Arc<BTreeMap<String, Arc<[u8]>>>,
    /// What that was read as.
    reading: Arc<OnceLock<Arc<dyn Any + Send + Sync>>>,
}

impl PartialEq for Tree {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.files, &other.files) || self.files == other.files
    }
}

impl Eq for Tree {}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").field("files", &self.files).finish()
    }
}

/// A change of one path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Edit {
    /// The path.
    pub path: String,
    /// The new content; none removes it.
    pub content: Option<Arc<[u8]>>,
}

/// How a write ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Landing {
    /// It took effect; the register is in this state.
    Landed(Rev),
    /// Somebody else was first; nothing was written.
    Raced {
        /// The state the register is in.
        theirs: Option<Rev>,
    },
}

/// A past decision, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The state it led to.
    pub rev: Rev,
    /// Who took it.
    pub by: String,
    /// When, by that machine's clock.
    pub time: Wall,
    /// What and why.
    pub why: String,
}

impl Tree {
    /// A tree of these files.
    pub fn new(files: BTreeMap<String, Arc<[u8]>>) -> Self {
        Self { files: Arc::new(files), reading: Arc::default() }
    }

    /// What the tree was read as before, or is now. A tree never changes, and neither does what it says:
    /// whoever has it from the same hand, as the thousand agents of a simulation do, shares that, too.
    pub fn read_as<T, E>(&self, read: impl FnOnce() -> Result<T, E>) -> Result<Arc<T>, E>
    where
        T: Any + Send + Sync,
    {
        let known = self.reading.get().cloned();
        if let Some(known) = known.and_then(|known| known.downcast().ok()) {
            return Ok(known);
        }
        let value = Arc::new(read()?);
        // Of two who read it at once, each keeps its own.
        let _ = self.reading.set(Arc::<T>::clone(&value));
        Ok(value)
    }

    /// The tree after `edits`.
    #[must_use]
    pub fn with(&self, edits: &[Edit]) -> Self {
        let mut files = BTreeMap::clone(&self.files);
        for edit in edits {
            match &edit.content {
                Some(content) => files.insert(edit.path.clone(), content.clone()),
                None => files.remove(&edit.path),
            };
        }
        Self::new(files)
    }
}
