//! The state store on this machine: a bare repository that is opened, not pushed to.
//!
//! Pushing to a path loses writes, because libgit2 sets the ref without looking. Here the ref is
//! compared and set under Git's own ref lock, and all of ours take turns by a flock, so that nobody
//! spins and everything that stands in the way afterwards is known to be left by somebody dead.
//!
//! ```text
//!   <store>/windlass/write.lock         held for one write, or while compaction removes things
//!   <store>/windlass/compact.lock       held while compacting
//!   <store>/windlass/coordinator.lock   held for life by the agent that may lead without waiting
//!   <store>/windlass/node-<name>.lock   held for life by the agent of that name
//! ```
//! The rule: a write took effect if and only if the ref is our commit when it is read again.
//!
//! The limit: the store's owner is trusted. Whoever can write its files can write its refs.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use git2::Repository;
use tracing::{info, warn};

use crate::kinds::name::NodeName;
use crate::ports::Fault;
use crate::ports::store::{Answer, Call, Glance, Landing, Register, Rev, Tree};

use super::durable::Lock;
use super::fence::Fence;
use super::register::{self, Change, Memo, Scribe};
use super::repo::{self, Pool};
use super::setup::Timeouts;
use super::store::StoreConfig;
use super::tree::Unwritten;
use super::workers::Workers;
use super::{durable, fault, history, locks, repack};

/// How long a write waits for the writes of others. Each takes milliseconds.
const WRITERS_WAIT: Duration = Duration::from_secs(10);
/// Compaction is worth its writes from so many packs on: each decision makes one …
const PACKS_MIN: usize = 16;
/// … or from so many loose objects on, which pushes of other agents leave.
const LOOSE_MIN: usize = 500;
/// With so many packs, the store is compacted without being asked: reads slow down with them.
const PACKS_MAX: usize = 200;
/// Pushes of other agents may be under way: what they wrote and nothing points to yet stays.
const COMPACT_GRACE: Duration = Duration::from_secs(600);
/// Compaction of a large store may take this much longer than other calls.
const COMPACT_PATIENCE: u32 = 10;

/// The state store on this machine.
pub struct LocalStore {
    inner: Arc<Inner>,
    workers: Arc<Workers>,
    timeouts: Timeouts,
}

struct Inner {
    git_dir: PathBuf,
    ground: Ground,
    node: NodeName,
    pool: Pool,
    memo: Memo,
    scribe: Scribe,
    fence: Fence,
    locks: Mutex<Locks>,
}

/// Locks held for life.
#[derive(Default)]
struct Locks {
    node: Option<Lock>,
    coordinator: Option<Lock>,
}

impl LocalStore {
    /// Opens the store at `path`, made if nothing is there.
    pub(super) fn open(config: StoreConfig, path: &Path) -> Result<Self, Fault> {
        let path = std::path::absolute(path).map_err(Fault::stalled)?;
        let (repo, made) = repo::open_or_make(&path)?;
        if made {
            info!(store = %path.display(), "made a new state store");
        }
        let git_dir = repo.path().to_path_buf();
        drop(repo);
        // libgit2 would make them with the first register, and not sync their names.
        for directory in ["refs/windlass", "refs/windlass/nodes"] {
            durable::make_dir(&git_dir.join(directory), 0o755)?;
        }
        Ok(Self {
            inner: Arc::new(Inner {
                pool: Pool::new(git_dir.clone()),
                ground: Ground { git_dir: git_dir.clone(), compacting: Arc::default() },
                memo: Memo::default(),
                scribe: Scribe::new(config.node.clone(), config.history.0, config.history.1),
                fence: Fence::open(&config.data)?,
                locks: Mutex::default(),
                node: config.node,
                git_dir,
            }),
            workers: Arc::new(Workers::new("windlass-store")),
            timeouts: config.timeouts,
        })
    }

    /// Does what is asked.
    pub(super) async fn perform(&self, call: Call) -> Result<Answer, Fault> {
        let what = match &call {
            Call::Look(_) => "look at the state store".to_owned(),
            Call::Read { register, .. } => format!("read {register}"),
            Call::Commit { register, .. } => format!("write {register}"),
            Call::Beat { register, .. } => format!("beat {register}"),
            Call::Remove { register, .. } => format!("remove {register}"),
            Call::Recall => "read the state store".to_owned(),
            Call::Fence(_) => "write the fence".to_owned(),
            Call::History { .. } => "read the history".to_owned(),
            Call::Compact => "compact the state store".to_owned(),
        };
        let deadline = match &call {
            Call::Compact => self.timeouts.local * COMPACT_PATIENCE,
            _ => self.timeouts.local,
        };
        let wrote = matches!(call, Call::Commit { .. });
        let inner = Arc::clone(&self.inner);
        let answer = self.workers.run(&what, deadline, move || inner.perform(call)).await;
        if wrote && answer.is_ok() {
            self.tidy();
        }
        answer
    }

    /// Compacts the store in the background, if it has become slow.
    fn tidy(&self) {
        let ground = self.inner.ground.clone();
        if repack::pack_count(&ground.git_dir) <= PACKS_MAX
            || ground.compacting.swap(true, Ordering::AcqRel)
        {
            return;
        }
        let workers = Arc::clone(&self.workers);
        let deadline = self.timeouts.local * COMPACT_PATIENCE;
        tokio::spawn(async move {
            let job = ground.clone();
            let done = workers.run("compact the state store", deadline, move || job.compact());
            match done.await {
                Ok(()) => ground.compacting.store(false, Ordering::Release),
                // Not tried again before the next start or the next wish: it would fail each time.
                Err(fault) => warn!(%fault, "the state store stays large"),
            }
        });
    }
}

impl Inner {
    fn perform(&self, call: Call) -> Result<Answer, Fault> {
        if !self.git_dir.join("HEAD").exists() {
            return Err(Fault::stalled(format!(
                "the state store {} is gone: was it moved, or is its disk not mounted? Nothing \
                 running is stopped. Put it back; to begin with an empty one, restart the agent.",
                self.git_dir.display()
            )));
        }
        match call {
            Call::Look(_) => self.look().map(Answer::Seen),
            Call::Recall => self.glance(false).map(Answer::Seen),
            Call::Read { register, rev } => self.read(&register, &rev).map(Answer::Tree),
            Call::Commit { register, base, edits, why } => self
                .commit(&register, base.as_ref(), &Change::Edits(&edits, &why))
                .map(Answer::Landing),
            Call::Beat { register, base } => {
                self.commit(&register, Some(&base), &Change::Beat).map(Answer::Landing)
            }
            Call::Remove { register, rev } => self.remove(&register, &rev).map(Answer::Landing),
            Call::Fence(generation) => self.fence.raise(generation).map(|()| Answer::Fenced),
            Call::History { limit } => self.history(limit),
            Call::Compact => self.ground.compact().map(|()| Answer::Compacted),
        }
    }

    /// Holds the node's lock, or says who has it. Two agents under one name would undo each
    /// other's work.
    fn hold_name(&self, locks: &mut Locks) -> Result<(), Fault> {
        if locks.node.as_ref().is_some_and(Lock::is_in_place) {
            return Ok(());
        }
        let path = self.ground.lock_dir()?.join(format!("node-{}.lock", self.node));
        locks.node = match Lock::take(&path, durable::FORKS_WAIT)? {
            Ok(lock) => {
                lock.sign();
                Some(lock)
            }
            Err(holder) => {
                return Err(Fault::stalled(format!(
                    "another agent runs under the name {} on the state store {} ({holder}). Give \
                     one of them another name, or stop it; this one waits.",
                    self.node,
                    self.git_dir.display()
                )));
            }
        };
        Ok(())
    }

    fn hold_coordinator(&self, locks: &mut Locks) -> Result<bool, Fault> {
        if locks.coordinator.as_ref().is_some_and(Lock::is_in_place) {
            return Ok(true);
        }
        let path = self.ground.lock_dir()?.join("coordinator.lock");
        locks.coordinator = Lock::try_take(&path)?.ok();
        if let Some(lock) = &locks.coordinator {
            lock.sign();
        }
        Ok(locks.coordinator.is_some())
    }

    fn locks(&self) -> std::sync::MutexGuard<'_, Locks> {
        self.locks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) -> Result<Glance, Fault> {
        let holds_lock = {
            let mut locks = self.locks();
            self.hold_name(&mut locks)?;
            self.hold_coordinator(&mut locks)?
        };
        let mut glance = self.glance(holds_lock)?;
        glance.alive = Some(self.alive(glance.nodes.keys())?);
        self.memo.keep(|register| match register {
            Register::Coordinator => glance.coordinator.is_some(),
            Register::Node(node) => glance.nodes.contains_key(node),
        });
        Ok(glance)
    }

    /// The nodes whose agents hold their locks.
    fn alive<'n>(
        &self,
        nodes: impl Iterator<Item = &'n NodeName>,
    ) -> Result<BTreeSet<NodeName>, Fault> {
        let dir = self.ground.lock_dir()?;
        let lives = |node: &&NodeName| {
            **node == self.node || Lock::is_held(&dir.join(format!("node-{node}.lock")))
        };
        Ok(nodes.filter(lives).cloned().collect())
    }

    fn glance(&self, holds_lock: bool) -> Result<Glance, Fault> {
        self.pool.with(|repo| {
            let mut glance = Glance {
                coordinator: None,
                nodes: Arc::default(),
                holds_lock,
                alive: None,
                fence: self.fence.current(),
            };
            for name in self.register_names(repo)? {
                let Some(register) = register::of_ref(&name) else {
                    continue;
                };
                // Gone since it was listed: then it is absent.
                let Some(rev) = self.current(repo, &register)? else {
                    continue;
                };
                match register {
                    Register::Coordinator => glance.coordinator = Some(repo::oid(rev)),
                    Register::Node(node) => {
                        Arc::make_mut(&mut glance.nodes).insert(node, repo::oid(rev));
                    }
                }
            }
            Ok(glance)
        })
    }

    /// The names of all registers. libgit2 passes over refs that it can't read, and a torn register
    /// must not look absent: so the files count as well.
    fn register_names(&self, repo: &Repository) -> Result<BTreeSet<String>, Fault> {
        let list = || -> Result<BTreeSet<String>, git2::Error> {
            let mut references = repo.references_glob("refs/windlass/*")?;
            let names = references.names();
            names.map(|name| name.map(str::to_owned)).collect()
        };
        let mut names = list().map_err(|error| fault::sort(&error, self.git_dir.display()))?;
        for directory in ["refs/windlass", "refs/windlass/nodes"] {
            let entries = match fs::read_dir(self.git_dir.join(directory)) {
                Ok(entries) => entries,
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                Err(error) => {
                    let what = format!("can't list {directory} in {}", self.git_dir.display());
                    return Err(fault::sort_io(&error, what));
                }
            };
            for entry in entries.flatten() {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                if !name.ends_with(".lock") && entry.path().is_file() {
                    names.insert(format!("{directory}/{name}"));
                }
            }
        }
        Ok(names)
    }

    /// What a register's ref says now.
    fn current(&self, repo: &Repository, register: &Register) -> Result<Option<git2::Oid>, Fault> {
        repo::target(repo, &register.to_string()).map_err(|error| {
            if fault::is_damage(&error) {
                register::damaged(&self.git_dir, register, &error)
            } else {
                fault::sort(&error, self.git_dir.display())
            }
        })
    }

    /// Names what is wrong when a state can't be read: gone because another took its place, or
    /// damaged.
    fn unreadable(
        &self,
        repo: &Repository,
        register: &Register,
        rev: git2::Oid,
        error: &git2::Error,
    ) -> Fault {
        match self.current(repo, register) {
            Ok(Some(now)) if now != rev && register::is_missing(error) => {
                Fault::not_found(format!("the state {rev} of {register} is gone; it is {now} now"))
            }
            Ok(Some(now)) if now == rev && fault::is_damage(error) => {
                register::damaged(&self.git_dir, register, error)
            }
            Ok(_) => fault::sort(error, format!("{} ({register})", self.git_dir.display())),
            Err(fault) => fault,
        }
    }

    fn read(&self, register: &Register, rev: &Rev) -> Result<Tree, Fault> {
        let rev = repo::raw(rev)?;
        let read = |repo: &Repository| {
            self.memo
                .read(repo, register, rev)
                .map_err(|error| self.unreadable(repo, register, rev, &error))
        };
        // Compaction may have moved an object while it was looked for: a fresh look finds it.
        self.pool.with(read).or_else(|_| self.pool.with(read))
    }

    fn commit(
        &self,
        register: &Register,
        base: Option<&Rev>,
        change: &Change<'_>,
    ) -> Result<Landing, Fault> {
        self.hold_name(&mut self.locks())?;
        self.scribe.may_write(register)?;
        let base = base.map(repo::raw).transpose()?;
        let _turn = self.ground.take_turn()?;
        self.pool.with(|repo| {
            let now = self.current(repo, register)?;
            if now != base {
                return Ok(raced(now));
            }
            if let (true, Some(base)) = (change.is_nothing(), base) {
                return Ok(Landing::Landed(repo::oid(base)));
            }
            let (commit, batch) = match self.scribe.write(repo, register, base, change) {
                Ok(made) => made,
                Err(Unwritten::Refused(fault)) => return Err(fault),
                Err(Unwritten::Git(error)) if fault::is_damage(&error) => {
                    return Err(match base {
                        Some(base) => self.unreadable(repo, register, base, &error),
                        None => fault::sort(&error, self.git_dir.display()),
                    });
                }
                Err(Unwritten::Git(error)) => {
                    return Err(fault::sort(&error, self.git_dir.display())
                        .while_doing(format!("{register} was not written")));
                }
            };
            batch.write(&self.git_dir).map_err(|error| {
                let what = format!("{register} was not written to {}", self.git_dir.display());
                fault::sort_io(&error, what)
            })?;
            let moved = self.move_ref(repo, register, commit, base);
            match self.current(repo, register)? {
                Some(now) if now == commit => {
                    if let Err(error) = moved {
                        // Seen by everybody, so it counts; whether a power cut would undo it is
                        // not known.
                        warn!(%register, error = error.message(), "written, with an error");
                    }
                    Ok(Landing::Landed(repo::oid(commit)))
                }
                now if now != base => Ok(raced(now)),
                _ => Err(match moved {
                    Err(error) => fault::sort(&error, self.git_dir.display()),
                    Ok(()) => Fault::transient("the ref did not move"),
                }
                .while_doing(format!("{register} was not written"))),
            }
        })
    }

    fn remove(&self, register: &Register, rev: &Rev) -> Result<Landing, Fault> {
        self.hold_name(&mut self.locks())?;
        self.scribe.may_remove(register)?;
        let rev = repo::raw(rev)?;
        let _turn = self.ground.take_turn()?;
        self.pool.with(|repo| {
            let now = self.current(repo, register)?;
            if now != Some(rev) {
                return Ok(raced(now));
            }
            let name = register.to_string();
            // Git compares once more, under its own lock.
            let removed = self
                .past_locks(&name, || repo.find_reference(&name).and_then(|mut it| it.delete()));
            match self.current(repo, register)? {
                None => Ok(Landing::Landed(repo::oid(rev))),
                now if now != Some(rev) => Ok(raced(now)),
                _ => Err(match removed {
                    Err(error) => fault::sort(&error, self.git_dir.display()),
                    Ok(()) => Fault::transient("the ref did not go"),
                }
                .while_doing(format!("{register} was not removed"))),
            }
        })
    }

    /// Compares and sets a ref. The caller holds the write lock.
    fn move_ref(
        &self,
        repo: &Repository,
        register: &Register,
        to: git2::Oid,
        from: Option<git2::Oid>,
    ) -> Result<(), git2::Error> {
        let name = register.to_string();
        let from = from.unwrap_or(git2::Oid::ZERO_SHA1);
        // With an old value given, `force` does not override anything: it must match.
        self.past_locks(&name, || repo.reference_matching(&name, to, true, from, "").map(drop))
    }

    /// Does something with a ref, also where a killed writer has left a lock on it: no agent writes but us.
    fn past_locks(
        &self,
        name: &str,
        work: impl Fn() -> Result<(), git2::Error>,
    ) -> Result<(), git2::Error> {
        locks::past(&self.git_dir, name, locks::STALE_AMONG_OURS, work)
    }

    fn history(&self, limit: usize) -> Result<Answer, Fault> {
        self.pool.with(|repo| {
            let Some(tip) = self.current(repo, &Register::Coordinator)? else {
                return Ok(Answer::History(Vec::new()));
            };
            history::list(repo, tip, limit)
                .map(Answer::History)
                .map_err(|error| self.unreadable(repo, &Register::Coordinator, tip, &error))
        })
    }
}

/// The store's directory, as far as it takes no agent to deal with it: a compaction that goes on in
/// the background must not hold the locks of a store that was closed.
#[derive(Clone)]
struct Ground {
    git_dir: PathBuf,
    /// Whether it is being compacted, or is not worth another try.
    compacting: Arc<AtomicBool>,
}

impl Ground {
    fn lock_dir(&self) -> Result<PathBuf, Fault> {
        let dir = self.git_dir.join("windlass");
        // Whoever can open a lock can hold it: nobody else may.
        durable::make_dir(&dir, 0o700)?;
        Ok(dir)
    }

    /// Waits until no other agent writes.
    fn take_turn(&self) -> Result<Lock, Fault> {
        let path = self.lock_dir()?.join("write.lock");
        Lock::take(&path, WRITERS_WAIT)?.map_err(|holder| {
            Fault::transient(format!(
                "the state store {} has been kept busy by {holder} for {} s: is that process \
                 stopped, or the disk hanging?",
                self.git_dir.display(),
                WRITERS_WAIT.as_secs()
            ))
        })
    }

    fn compact(&self) -> Result<(), Fault> {
        let objects = self.git_dir.join("objects");
        let Ok(_one) = Lock::try_take(&self.lock_dir()?.join("compact.lock"))? else {
            // Another agent is at it.
            return Ok(());
        };
        let clutter = repack::clutter(&self.git_dir);
        if clutter.loose < LOOSE_MIN && clutter.packs < PACKS_MIN {
            let _turn = self.take_turn()?;
            repack::clear_litter(&objects, Path::new(""), &|_| false);
            return Ok(());
        }
        repack::repack(&self.git_dir, COMPACT_GRACE, || self.take_turn().map(Some))?;
        Ok(())
    }
}

fn raced(now: Option<git2::Oid>) -> Landing {
    Landing::Raced { theirs: now.map(repo::oid) }
}
