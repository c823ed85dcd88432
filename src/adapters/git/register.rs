//! A decision, written down as a commit. Nothing points to it until the caller moves the ref.
//!
//! ```text
//!   coordinator   … ◀─ c1 ◀─ c2 ◀─ c3       a chain: its history is the audit log
//!   nodes/n1      c7                        no parent: nobody asks what a node said before
//! ```
//! - author: the node; its address names the register, so that a lost ref's commits can be found
//! - committer: the same node; its address is different for every write, so that "the ref is our
//!   commit" can be said of nobody else's write

use std::collections::BTreeMap;
use std::hash::{BuildHasher as _, Hasher as _, RandomState};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use git2::{ErrorCode, ObjectType, Repository, Signature};

use crate::kinds::name::{Name, NameRule, NodeName};
use crate::ports::Fault;
use crate::ports::store::{Edit, Register, Tree};

use super::packfile::Batch;
use super::tree::{self, Unwritten};
use super::{history, repo};

/// A ring has so many commits. Who looks after exactly so many beats sees none; at a beat every
/// few seconds nobody looks that rarely and means it.
const RING: u32 = 16;
const RING_HOST: &str = "beat.windlass";

/// The state a ring began from, and the place in it.
fn ring_place(address: &str) -> Option<(&str, u32)> {
    let (place, host) = address.split_once('@')?;
    let (number, origin) = place.split_once('.')?;
    (host == RING_HOST).then_some((origin, number.parse().ok()?))
}

/// All registers stand below this.
pub(super) const PREFIX: &str = "refs/windlass/";

/// The register a ref is, if it is one.
pub(super) fn of_ref(name: &str) -> Option<Register> {
    match name.strip_prefix(PREFIX)? {
        "coordinator" => Some(Register::Coordinator),
        other => {
            let node = other.strip_prefix("nodes/")?;
            let node = Name::parse(node, NameRule::Subdomain).ok()?;
            Some(Register::Node(node))
        }
    }
}

/// The author's address on a register's commits.
fn address(register: &Register) -> String {
    let name = register.to_string();
    let short = name.strip_prefix(PREFIX).unwrap_or(&name);
    format!("{short}@windlass")
}

/// What is to become of a register.
pub(super) enum Change<'a> {
    /// Its content changes; and why.
    Edits(&'a [Edit], &'a str),
    /// Its writer shows that it lives.
    Beat,
}

impl Change<'_> {
    /// Whether nothing is asked for.
    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Self::Edits(edits, _) if edits.is_empty())
    }
}

/// Writes commits in the name of one agent.
pub(super) struct Scribe {
    node: NodeName,
    /// Of this life of the agent.
    incarnation: String,
    written: AtomicU64,
    /// A commit of the coordinator's chain and how long the chain is there.
    length: Mutex<Option<(git2::Oid, usize)>>,
    history_max: usize,
    history_kept: usize,
}

impl Scribe {
    pub(super) fn new(node: NodeName, history_max: usize, history_kept: usize) -> Self {
        Self {
            node,
            incarnation: format!("{:016x}", RandomState::new().build_hasher().finish()),
            written: AtomicU64::new(0),
            length: Mutex::new(None),
            history_max,
            history_kept,
        }
    }

    /// Refuses to write what another writes: one writer per ref.
    pub(super) fn may_write(&self, register: &Register) -> Result<(), Fault> {
        match register {
            Register::Node(node) if *node != self.node => Err(Fault::stalled(format!(
                "{register} is written by node {node} only, and this is {}",
                self.node
            ))),
            _ => Ok(()),
        }
    }

    /// Refuses to remove what may not be removed: only what another node has written, which a person
    /// has deleted.
    pub(super) fn may_remove(&self, register: &Register) -> Result<(), Fault> {
        match register {
            Register::Node(node) if *node != self.node => Ok(()),
            _ => Err(Fault::stalled(format!("{register} is not removed"))),
        }
    }

    /// Makes the commit that makes `change` of `base`, and what belongs to it.
    pub(super) fn write(
        &self,
        repo: &Repository,
        register: &Register,
        base: Option<git2::Oid>,
        change: &Change<'_>,
    ) -> Result<(git2::Oid, Batch), Unwritten> {
        let mut batch = Batch::default();
        let commit = match (change, base) {
            (Change::Edits(edits, why), _) => {
                self.decision(repo, &mut batch, register, base, edits, why)?
            }
            (Change::Beat, Some(base)) => self.beat(repo, &mut batch, register, base)?,
            (Change::Beat, None) => {
                return Err(Fault::stalled("an absent register has no beats").into());
            }
        };
        Ok((commit, batch))
    }

    /// Makes the commit that makes `edits` on top of `base`.
    fn decision(
        &self,
        repo: &Repository,
        batch: &mut Batch,
        register: &Register,
        base: Option<git2::Oid>,
        edits: &[Edit],
        why: &str,
    ) -> Result<git2::Oid, Unwritten> {
        let base_tree = match base {
            Some(id) => Some(repo.find_commit(id)?.tree_id()),
            None => None,
        };
        let tree = tree::write(repo, batch, base_tree, edits)?;
        let parent = match (register, base) {
            (Register::Coordinator, Some(base)) => Some(self.parent(repo, batch, base)?),
            _ => None,
        };
        let number = self.written.fetch_add(1, Ordering::Relaxed);
        let content = CommitText {
            tree,
            parent,
            node: &self.node,
            author: &address(register),
            committer: &format!("{}.{number}@windlass", self.incarnation),
            seconds: Signature::now("windlass", "windlass")?.when().seconds(),
            message: why,
        };
        let commit = batch.add(ObjectType::Commit, content.encode())?;
        if *register == Register::Coordinator {
            // One more than its parent, which was counted just now.
            let mut length = self.length();
            *length = length.map(|(_, length)| (commit, length + 1));
        }
        Ok(commit)
    }

    /// Makes the commit that follows `base` in the ring of its state, unless it is there.
    fn beat(
        &self,
        repo: &Repository,
        batch: &mut Batch,
        register: &Register,
        base: git2::Oid,
    ) -> Result<git2::Oid, Unwritten> {
        if *register == Register::Coordinator {
            return Err(Fault::stalled("the coordinator's register has no beats").into());
        }
        let base = repo.find_commit(base)?;
        let now = base.committer();
        let place = String::from_utf8_lossy(now.email_bytes()).into_owned();
        let (origin, next) = match ring_place(&place) {
            Some((origin, number)) => (origin.to_owned(), (number + 1) % RING),
            None => (base.id().to_string(), 0),
        };
        // Everything is taken over, the time too, so that the same place is the same commit.
        let content = CommitText {
            tree: base.tree_id(),
            parent: None,
            node: &self.node,
            author: &address(register),
            committer: &format!("{next}.{origin}@{RING_HOST}"),
            seconds: now.when().seconds(),
            message: &format!("beat {next}"),
        }
        .encode();
        let id = git2::Oid::hash_object(ObjectType::Commit, &content)?;
        if repo.odb()?.exists(id) {
            return Ok(id);
        }
        Ok(batch.add(ObjectType::Commit, content)?)
    }

    fn length(&self) -> std::sync::MutexGuard<'_, Option<(git2::Oid, usize)>> {
        self.length.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The parent of the next decision: `base`, or the same with its history cut back.
    fn parent(
        &self,
        repo: &Repository,
        batch: &mut Batch,
        base: git2::Oid,
    ) -> Result<git2::Oid, git2::Error> {
        let known = *self.length();
        let mut parent = base;
        let mut length = history::length(repo, base, known)?;
        if length >= self.history_max {
            parent = history::squash(repo, batch, base, self.history_kept)?;
            length = self.history_kept;
        }
        *self.length() = Some((parent, length));
        Ok(parent)
    }
}

/// A commit, to be written.
struct CommitText<'a> {
    tree: git2::Oid,
    parent: Option<git2::Oid>,
    node: &'a NodeName,
    author: &'a str,
    committer: &'a str,
    seconds: i64,
    message: &'a str,
}

impl CommitText<'_> {
    /// Git's form of it. Node names and our addresses have no character that means something in it.
    fn encode(&self) -> Vec<u8> {
        let parent = self.parent.map(|id| format!("parent {id}\n")).unwrap_or_default();
        let (node, seconds) = (self.node, self.seconds);
        let message = self.message.trim_end().replace('\0', " ");
        format!(
            "tree {}\n{parent}author {node} <{}> {seconds} +0000\ncommitter {node} <{}> {seconds} \
             +0000\n\n{message}\n",
            self.tree, self.author, self.committer
        )
        .into_bytes()
    }
}

/// Trees that were read, one of each register, so that reading the next costs what changed.
#[derive(Default)]
pub(super) struct Memo(Mutex<BTreeMap<Register, (git2::Oid, Tree)>>);

impl Memo {
    fn map(&self) -> std::sync::MutexGuard<'_, BTreeMap<Register, (git2::Oid, Tree)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads a commit's tree.
    pub(super) fn read(
        &self,
        repo: &Repository,
        register: &Register,
        commit: git2::Oid,
    ) -> Result<Tree, git2::Error> {
        let id = repo.find_commit(commit)?.tree_id();
        let known = self.map().get(register).cloned();
        let tree = match known {
            Some((known, tree)) if known == id => return Ok(tree),
            Some((known, old)) => tree::read(repo, id, Some((known, &old)))?,
            None => tree::read(repo, id, None)?,
        };
        self.map().insert(register.clone(), (id, tree.clone()));
        Ok(tree)
    }

    /// Forgets registers that are no more.
    pub(super) fn keep(&self, is_there: impl Fn(&Register) -> bool) {
        self.map().retain(|register, _| is_there(register));
    }
}

/// At most so many objects are looked through for a lost state.
const SEARCHED_MAX: usize = 200_000;

/// The newest commits of a register that can be read whole, newest first, whatever the ref says:
/// what an operator can go back to.
pub(super) fn readable(git_dir: &Path, register: &Register, limit: usize) -> Vec<git2::Oid> {
    let Ok(repo) = repo::open(git_dir) else {
        return Vec::new();
    };
    let Ok(odb) = repo.odb() else {
        return Vec::new();
    };
    let mut ids = Vec::new();
    let _ = odb.foreach(|id| {
        ids.push(*id);
        ids.len() < SEARCHED_MAX
    });
    let address = address(register);
    let mut found: Vec<(i64, git2::Oid, Option<git2::Oid>)> = ids
        .into_iter()
        .filter_map(|id| {
            let commit = repo.find_commit(id).ok()?;
            let ours = commit.author().email_bytes() == address.as_bytes();
            ours.then(|| (commit.committer().when().seconds(), id, commit.parent_id(0).ok()))
        })
        .collect();
    // Newest first; of those of the same second, first what nothing follows.
    let parents: Vec<git2::Oid> = found.iter().filter_map(|(.., parent)| *parent).collect();
    found.sort_by_key(|(time, id, _)| (-time, parents.contains(id), *id));
    found.into_iter().map(|(_, id, _)| id).filter(|id| is_whole(&repo, *id)).take(limit).collect()
}

/// Whether a commit's whole tree can be read.
pub(super) fn is_whole(repo: &Repository, commit: git2::Oid) -> bool {
    let tree = repo.find_commit(commit).map(|commit| commit.tree_id());
    tree.is_ok_and(|tree| tree::read(repo, tree, None).is_ok())
}

/// What to tell an operator about a register that can't be read.
pub(super) fn damaged(git_dir: &Path, register: &Register, error: &git2::Error) -> Fault {
    let dir = git_dir.display();
    let found = readable(git_dir, register, 1);
    let advice = match found.first() {
        Some(commit) => format!(
            "The newest state of it that can be read is {commit}. Look at it with `git --git-dir \
             {dir} show {commit}`, and go back to it with `rm -f {dir}/{register} && git \
             --git-dir {dir} update-ref {register} {commit}`."
        ),
        None => format!(
            "No earlier state of it can be read. Restore {dir} from a backup, or remove the \
             register with `rm -f {dir}/{register}`: it is then made anew from the desired \
             repository and from what runs."
        ),
    };
    Fault::stalled(format!(
        "the state store's {register} is damaged: {}. Nothing running is stopped, and nothing is \
         written until it is mended. {advice} Then check the disk, and `git --git-dir {dir} fsck`.",
        error.message().trim_end_matches('.')
    ))
}

/// Whether an error says that an object is not there at all.
pub(super) fn is_missing(error: &git2::Error) -> bool {
    error.code() == ErrorCode::NotFound
}
