//! The state store behind a Git server: pushes that are refused if the ref has moved, and a copy
//! beside it that may be thrown away.
//!
//! ```text
//!   Look    connect, take the list of refs; what is going to be read is fetched in the same connection
//!   Read    from the copy; fetched if it is not there
//!   Commit  written into the copy, pushed: "if the ref still is `base`, make it this commit"
//! ```
//! The rule: a push says nothing. A write took effect if the server acknowledged this very ref, and
//! after anything else, if the ref is our commit when it is read again; no two writes make the same
//! commit. If it can't be read again, the fault says that it is not known.
//!
//! The coordinator's register also goes forward only (no `+`), except when its history is cut.
//!
//! The limit: libgit2 speaks Git's first protocol, so every call is told of every ref (73 kB at
//! 1,000), and it leaves Nagle's algorithm on, which costs some 40 ms per request.

use std::collections::BTreeMap;
use std::sync::Arc;

use git2::{AutotagOption, Direction, ErrorClass, ErrorCode, FetchOptions, Repository};
use tracing::{debug, info};

use crate::kinds::name::NodeName;
use crate::ports::store::{Answer, Call, Glance, Landing, Register, Rev, Scope, Tree};
use crate::ports::{Fault, FaultKind};

use super::access::{Access, proxy};
use super::copy::{Copy, Trouble};
use super::fence::Fence;
use super::place::Place;
use super::push::Pushed;
use super::register::{self, Change, Memo, Scribe};
use super::setup::Timeouts;
use super::store::StoreConfig;
use super::tree::Unwritten;
use super::workers::Workers;
use super::{fault, history, repack, repo, room};

/// Compaction is worth its writes from here on.
const PACKS_MIN: usize = 20;
/// Repacking the copy may take this much longer than other calls.
const COMPACT_PATIENCE: u32 = 10;

/// The state store behind a Git server.
pub struct RemoteStore {
    inner: Arc<Inner>,
    workers: Arc<Workers>,
    timeouts: Timeouts,
}

struct Inner {
    access: Access,
    copy: Arc<Copy>,
    memo: Memo,
    scribe: Scribe,
    fence: Fence,
    /// This node's register.
    own: Register,
}

/// Registers and their states, as a server tells them.
type Refs = BTreeMap<Register, git2::Oid>;

impl RemoteStore {
    /// Opens the store's copy, made if nothing is there. Asks no server.
    pub(super) fn open(config: StoreConfig, place: Place) -> Result<Self, Fault> {
        let copy = Copy::open(&config.data.join("state.git"), "the state store")?;
        let access = Access::new(place, config.credentials, config.data.join("ssh"))?;
        Ok(Self {
            inner: Arc::new(Inner {
                access,
                copy: Arc::new(copy),
                memo: Memo::default(),
                own: Register::Node(config.node.clone()),
                scribe: Scribe::new(config.node, config.history.0, config.history.1),
                fence: Fence::open(&config.data)?,
            }),
            workers: Arc::new(Workers::new("windlass-store")),
            timeouts: config.timeouts,
        })
    }

    /// Does what is asked.
    pub(super) async fn perform(&self, call: Call) -> Result<Answer, Fault> {
        let place = &self.inner.access.place;
        let what = match &call {
            Call::Look(_) => format!("look at {place}"),
            Call::Read { register, .. } => format!("read {register} of {place}"),
            Call::Commit { register, .. } => format!("write {register} of {place}"),
            Call::Beat { register, .. } => format!("beat {register} of {place}"),
            Call::Remove { register, .. } => format!("remove {register} of {place}"),
            Call::Recall => format!("read the copy of {place}"),
            Call::Fence(_) => "write the fence".to_owned(),
            Call::History { .. } => "read the history".to_owned(),
            Call::Compact => format!("repack the copy of {place}"),
        };
        let deadline = match &call {
            Call::Look(_)
            | Call::Read { .. }
            | Call::Commit { .. }
            | Call::Beat { .. }
            | Call::Remove { .. } => self.timeouts.network,
            Call::Compact => self.timeouts.local * COMPACT_PATIENCE,
            Call::Recall | Call::Fence(_) | Call::History { .. } => self.timeouts.local,
        };
        let used_network = deadline == self.timeouts.network;
        let inner = Arc::clone(&self.inner);
        let answer = self.workers.run(&what, deadline, move || inner.perform(&call)).await;
        if used_network && answer.is_ok() {
            let patience = self.timeouts.local * COMPACT_PATIENCE;
            Copy::tidy(&self.inner.copy, &self.workers, patience);
        }
        answer
    }
}

/// Why refs were not fetched.
enum Unfetched {
    Trouble(Trouble),
    /// A ref moved between two requests.
    Moved(Fault),
}

impl From<Fault> for Unfetched {
    fn from(fault: Fault) -> Self {
        Self::Trouble(Trouble::Fault(fault))
    }
}

impl Inner {
    fn perform(&self, call: &Call) -> Result<Answer, Fault> {
        match call {
            Call::Look(scope) => self.copy.with(|repo| self.look(repo, *scope)).map(Answer::Seen),
            Call::Recall => self.copy.with(|repo| self.recall(repo)).map(Answer::Seen),
            Call::Read { register, rev } => {
                self.copy.with(|repo| self.read(repo, register, rev)).map(Answer::Tree)
            }
            Call::Commit { register, base, edits, why } => {
                let change = Change::Edits(edits, why);
                self.copy
                    .with(|repo| self.commit(repo, register, base.as_ref(), &change))
                    .map(Answer::Landing)
            }
            Call::Beat { register, base } => self
                .copy
                .with(|repo| self.commit(repo, register, Some(base), &Change::Beat))
                .map(Answer::Landing),
            Call::Remove { register, rev } => {
                self.copy.with(|repo| self.remove(repo, register, rev)).map(Answer::Landing)
            }
            Call::Fence(generation) => self.fence.raise(*generation).map(|()| Answer::Fenced),
            Call::History { limit } => self.copy.with(|repo| self.history(repo, *limit)),
            Call::Compact => {
                if repack::pack_count(&self.copy.path) >= PACKS_MIN {
                    self.copy.repack()?;
                }
                Ok(Answer::Compacted)
            }
        }
    }

    fn look(&self, repo: &Repository, scope: Scope) -> Result<Glance, Trouble> {
        let is_wanted = |register: &Register| {
            scope == Scope::All || *register == Register::Coordinator || *register == self.own
        };
        let refs = self.fetch(repo, is_wanted)?;
        self.memo.keep(|register| refs.contains_key(register));
        Ok(self.glance(&refs))
    }

    fn glance(&self, refs: &Refs) -> Glance {
        let node = |(register, id): (&Register, &git2::Oid)| -> Option<(NodeName, Rev)> {
            match register {
                Register::Coordinator => None,
                Register::Node(name) => Some((name.clone(), repo::oid(*id))),
            }
        };
        Glance {
            coordinator: refs.get(&Register::Coordinator).copied().map(repo::oid),
            nodes: Arc::new(refs.iter().filter_map(node).collect()),
            // Nobody can hold a lock on another machine.
            holds_lock: false,
            alive: None,
            fence: self.fence.current(),
        }
    }

    fn recall(&self, repo: &Repository) -> Result<Glance, Trouble> {
        let list = || -> Result<Refs, git2::Error> {
            let mut refs = Refs::new();
            for reference in repo.references_glob("refs/windlass/*")? {
                let reference = reference?;
                let register = reference.name().ok().and_then(register::of_ref);
                if let (Some(register), Some(id)) = (register, reference.target()) {
                    refs.insert(register, id);
                }
            }
            Ok(refs)
        };
        list().map(|refs| self.glance(&refs)).map_err(|error| self.copy.sort(error))
    }

    /// Asks what the registers are, and brings the wanted ones that are not here.
    fn fetch(
        &self,
        repo: &Repository,
        is_wanted: impl Fn(&Register) -> bool,
    ) -> Result<Refs, Trouble> {
        let _writing = self.copy.writing();
        self.fetch_while_writing(repo, &is_wanted)
    }

    /// The same, for whoever has seen to it that no object is removed meanwhile.
    fn fetch_while_writing(
        &self,
        repo: &Repository,
        is_wanted: &dyn Fn(&Register) -> bool,
    ) -> Result<Refs, Trouble> {
        match self.fetch_once(repo, is_wanted) {
            // Over http the list and the objects come by two requests.
            Err(Unfetched::Moved(_)) => match self.fetch_once(repo, is_wanted) {
                Err(Unfetched::Moved(fault)) => Err(Trouble::Fault(fault)),
                Err(Unfetched::Trouble(trouble)) => Err(trouble),
                Ok(refs) => Ok(refs),
            },
            Err(Unfetched::Trouble(trouble)) => Err(trouble),
            Ok(refs) => Ok(refs),
        }
    }

    fn fetch_once(
        &self,
        repo: &Repository,
        is_wanted: &dyn Fn(&Register) -> bool,
    ) -> Result<Refs, Unfetched> {
        let here = |error| Unfetched::Trouble(self.copy.sort(error));
        self.access.connected(|notes| {
            let there =
                |error: &git2::Error| Unfetched::from(notes.explain(error, &self.access.place));
            let mut remote = repo.remote_anonymous(&self.access.place.to_string()).map_err(here)?;
            let mut connection = remote
                .connect_auth(Direction::Fetch, Some(self.access.callbacks(notes)), Some(proxy()))
                .map_err(|error| there(&error))?;
            let refs = registers(connection.list().map_err(|error| there(&error))?);
            let mut missing = Vec::new();
            for (register, id) in &refs {
                if !is_wanted(register) {
                    continue;
                }
                let known = repo::target(repo, &register.to_string()).map_err(here)?;
                let is_here = known.is_some_and(|known| says_the_same(repo, known, *id));
                if !is_here {
                    missing.push((register.to_string(), *id));
                }
            }
            if !missing.is_empty() {
                let names: Vec<&str> = missing.iter().map(|(name, _)| name.as_str()).collect();
                room::check(&self.copy.path, 0)?;
                let mut options = FetchOptions::new();
                options
                    .remote_callbacks(self.access.fetching(notes, &self.copy.path))
                    .proxy_options(proxy())
                    .download_tags(AutotagOption::None);
                connection.remote().download(&names, Some(&mut options)).map_err(|error| {
                    debug!(error = error.message(), "fetching registers failed");
                    if error.code() == ErrorCode::Eof {
                        Unfetched::Moved(notes.explain(&error, &self.access.place))
                    } else if fault::is_damage(&error) {
                        here(error)
                    } else {
                        there(&error)
                    }
                })?;
                for (name, id) in &missing {
                    repo.find_commit(*id).map_err(here)?;
                    repo.reference(name, *id, true, "").map_err(here)?;
                }
            }
            Ok(refs)
        })
    }

    fn read(&self, repo: &Repository, register: &Register, rev: &Rev) -> Result<Tree, Trouble> {
        let id = repo::raw(rev)?;
        if !repo
            .odb()
            .and_then(|odb| odb.refresh().map(|()| odb.exists(id)))
            .map_err(|e| self.copy.sort(e))?
        {
            let refs = self.fetch(repo, |other| other == register)?;
            let exists = repo.odb().map(|odb| odb.exists(id)).map_err(|e| self.copy.sort(e))?;
            if !exists {
                let now = refs.get(register).map_or("absent".to_owned(), git2::Oid::to_string);
                return Err(Fault::not_found(format!(
                    "the state {id} of {register} is gone; it is {now} now"
                ))
                .into());
            }
        }
        match self.memo.read(repo, register, id) {
            Ok(tree) => Ok(tree),
            // The id of something that is no state.
            Err(error) if repo.find_commit(id).is_err() && error.class() == ErrorClass::Invalid => {
                Err(Fault::not_found(format!("{id} is not a state of {register}")).into())
            }
            Err(error) => Err(self.copy.sort(error)),
        }
    }

    fn commit(
        &self,
        repo: &Repository,
        register: &Register,
        base: Option<&Rev>,
        change: &Change<'_>,
    ) -> Result<Landing, Trouble> {
        self.scribe.may_write(register)?;
        let base = base.map(repo::raw).transpose()?;
        if let Some(base) = base
            && repo.find_commit(base).is_err()
        {
            let refs = self.fetch(repo, |other| other == register)?;
            let now = refs.get(register).copied();
            if now != Some(base) {
                return Ok(raced(now));
            }
        }
        if change.is_nothing() && base.is_some() {
            let now = self.fetch(repo, |_| false)?.get(register).copied();
            return Ok(match now {
                Some(now) if Some(now) == base => Landing::Landed(repo::oid(now)),
                now => raced(now),
            });
        }
        let _writing = self.copy.writing();
        let (commit, batch) = match self.scribe.write(repo, register, base, change) {
            Ok(made) => made,
            Err(Unwritten::Refused(fault)) => return Err(fault.into()),
            Err(Unwritten::Git(error)) => return Err(self.copy.sort(error)),
        };
        batch
            .write(&self.copy.path)
            .map_err(|error| fault::sort_io(&error, format!("{register} was not written")))?;
        let landing = self.set(repo, register, Some(commit), base)?;
        if let Landing::Landed(_) = landing
            && !base.is_some_and(|base| says_the_same(repo, base, commit))
        {
            // Only the copy: what the server has is what counts.
            if let Err(error) = repo.reference(&register.to_string(), commit, true, "") {
                info!(error = error.message(), "the copy of the state store lags behind");
            }
        }
        Ok(landing)
    }

    fn remove(
        &self,
        repo: &Repository,
        register: &Register,
        rev: &Rev,
    ) -> Result<Landing, Trouble> {
        self.scribe.may_remove(register)?;
        let rev = repo::raw(rev)?;
        let _writing = self.copy.writing();
        let landing = self.set(repo, register, None, Some(rev))?;
        if let Landing::Landed(_) = landing
            && let Ok(mut copy) = repo.find_reference(&register.to_string())
            && let Err(error) = copy.delete()
        {
            info!(error = error.message(), "the copy of the state store lags behind");
        }
        Ok(landing)
    }

    /// Has the server set a register that is in state `base` to this commit, or to none.
    fn set(
        &self,
        repo: &Repository,
        register: &Register,
        commit: Option<git2::Oid>,
        base: Option<git2::Oid>,
    ) -> Result<Landing, Trouble> {
        let refspec = match commit {
            None => format!(":{register}"),
            Some(commit) => {
                let forward = self.goes_forward(repo, register, commit, base);
                let plus = if forward.map_err(|error| self.copy.sort(error))? { "" } else { "+" };
                format!("{plus}{commit}:{register}")
            }
        };
        match self.access.push(repo, &refspec, base) {
            Pushed::Accepted => Ok(landed(commit, base)),
            Pushed::Conflict(now) => Ok(raced(now)),
            Pushed::Rejected(reason) => {
                self.judge(repo, register, commit, base, || rejected(&reason))
            }
            Pushed::Failed { fault, sent: false } => Err(fault.into()),
            Pushed::Failed { fault, sent: true } => {
                self.judge(repo, register, commit, base, || fault.clone())
            }
        }
    }

    /// Reads the ref again after a push that did not say that it worked.
    fn judge(
        &self,
        repo: &Repository,
        register: &Register,
        commit: Option<git2::Oid>,
        base: Option<git2::Oid>,
        why: impl FnOnce() -> Fault,
    ) -> Result<Landing, Trouble> {
        let refs = match self.fetch_while_writing(repo, &|_| false) {
            Ok(refs) => refs,
            Err(Trouble::Fault(again)) => {
                let first = why();
                return Err(Fault {
                    kind: FaultKind::Deadline,
                    message: format!(
                        "whether {register} was written is not known: {} Then it could not be \
                         read: {}",
                        first.message, again.message
                    ),
                }
                .into());
            }
            Err(damage) => return Err(damage),
        };
        match refs.get(register).copied() {
            now if now == commit => Ok(landed(commit, base)),
            now if now != base => Ok(raced(now)),
            _ => Err(why().while_doing(format!("{register} was not written")).into()),
        }
    }

    /// Whether the server need not be told to give up history.
    fn goes_forward(
        &self,
        repo: &Repository,
        register: &Register,
        commit: git2::Oid,
        base: Option<git2::Oid>,
    ) -> Result<bool, git2::Error> {
        Ok(match (register, base) {
            (_, None) => true,
            (Register::Node(_), Some(_)) => false,
            (Register::Coordinator, Some(base)) => {
                repo.find_commit(commit)?.parent_id(0).is_ok_and(|parent| parent == base)
            }
        })
    }

    fn history(&self, repo: &Repository, limit: usize) -> Result<Answer, Trouble> {
        let tip = repo::target(repo, &Register::Coordinator.to_string());
        let list = tip.and_then(|tip| match tip {
            Some(tip) => history::list(repo, tip, limit),
            None => Ok(Vec::new()),
        });
        list.map(Answer::History).map_err(|error| self.copy.sort(error))
    }
}

/// Whether both states are here and have one content, as a register before and after a beat. The copy
/// then may stay where it is: beats are many, and each would be a write to the disk.
fn says_the_same(repo: &Repository, one: git2::Oid, other: git2::Oid) -> bool {
    let tree = |id| repo.find_commit(id).map(|commit| commit.tree_id());
    one == other || matches!((tree(one), tree(other)), (Ok(one), Ok(other)) if one == other)
}

fn registers(heads: &[git2::RemoteHead<'_>]) -> Refs {
    heads.iter().filter_map(|head| Some((register::of_ref(head.name())?, head.oid()))).collect()
}

fn landed(commit: Option<git2::Oid>, base: Option<git2::Oid>) -> Landing {
    Landing::Landed(repo::oid(commit.or(base).unwrap_or(git2::Oid::ZERO_SHA1)))
}

fn raced(now: Option<git2::Oid>) -> Landing {
    Landing::Raced { theirs: now.map(repo::oid) }
}

/// What a server's refusal means, once it is known that nobody else was faster.
fn rejected(reason: &str) -> Fault {
    let lock = ["failed to update ref", "failed to lock", "unable to lock"];
    if lock.iter().any(|part| reason.contains(part)) {
        return Fault::transient(format!(
            "the server could not set the ref ({reason}). If this goes on, a lock of a push that \
             was killed stands there: remove the file named like the ref with `.lock` at its end."
        ));
    }
    if reason.contains("said nothing") {
        return Fault::transient(format!("the push ended strangely: {reason}"));
    }
    Fault::stalled(format!(
        "the server refused the push ({reason}). Check its hooks and rules, whether our key may \
         write refs/windlass/, and whether its disk is full."
    ))
}
