//! Knocking at a repository's door before anybody moves in: does it answer, may it be written?
//!
//! What is written to find out stands under `refs/windlass/probe/`, which nobody reads, and is taken
//! away again where the server allows it.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use git2::{Direction, PushOptions, Repository, Signature, Time};

use super::access::{Access, Credentials, Notes, proxy};
use super::place::Place;
use super::setup::{self, Timeouts};
use super::workers::Workers;
use super::{fault, repo};
use crate::ports::Fault;

/// A repository that is looked at once.
pub struct Inspection {
    inner: Arc<Inner>,
    workers: Workers,
    timeouts: Timeouts,
}

struct Inner {
    access: Access,
    /// Where objects of ours stand until they are sent.
    scratch: PathBuf,
}

/// Whether what was written to find out is gone again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Left {
    /// Nothing is left.
    Nothing,
    /// A ref of this name: the server lets nobody delete.
    Ref(String),
}

impl Inspection {
    /// Prepares to look at the repository at `url`; `scratch` is an empty directory of the caller's.
    pub fn new(url: &str, credentials: Credentials, scratch: &Path) -> Result<Self, Fault> {
        let timeouts = Timeouts::default();
        setup::prepare(&timeouts)?;
        let objects = scratch.join("objects.git");
        repo::make(&objects, None)?;
        let access = Access::new(Place::parse(url)?, credentials, scratch.join("ssh"))?;
        let inner = Arc::new(Inner { access, scratch: objects });
        Ok(Self { inner, workers: Workers::new("windlass-inspect"), timeouts })
    }

    /// Whether it is on this machine.
    pub fn is_path(&self) -> bool {
        self.inner.access.place.path().is_some()
    }

    /// The newest commit of a branch; none if there is no such branch.
    pub async fn branch(&self, name: &str) -> Result<Option<String>, Fault> {
        let (inner, name) = (self.inner.clone(), format!("refs/heads/{name}"));
        let what = format!("look at {}", inner.access.place);
        self.workers.run(&what, self.timeouts.network, move || inner.tip(&name)).await
    }

    /// Writes a ref and deletes it. `unique` is text unlike any other.
    pub async fn write(&self, unique: &str) -> Result<Left, Fault> {
        let (inner, name) = (self.inner.clone(), format!("refs/windlass/probe/{unique}"));
        let what = format!("write to {}", inner.access.place);
        self.workers.run(&what, self.timeouts.network, move || inner.write(&name)).await
    }
}

impl Inner {
    fn tip(&self, name: &str) -> Result<Option<String>, Fault> {
        let place = &self.access.place;
        if let Some(path) = place.path() {
            let there = repo::open(path)?;
            let tip = repo::target(&there, name).map_err(|error| fault::sort(&error, place))?;
            return Ok(tip.map(|id| id.to_string()));
        }
        let scratch = repo::open(&self.scratch)?;
        self.access.connected(|notes| {
            let explain = |error: git2::Error| notes.explain(&error, place);
            let mut remote = scratch.remote_anonymous(&place.to_string()).map_err(explain)?;
            let callbacks = self.access.callbacks(notes);
            let connection = remote
                .connect_auth(Direction::Fetch, Some(callbacks), Some(proxy()))
                .map_err(explain)?;
            let heads = connection.list().map_err(explain)?;
            let tip = heads.iter().find(|head| head.name() == name);
            Ok(tip.map(|head| head.oid().to_string()))
        })
    }

    fn write(&self, name: &str) -> Result<Left, Fault> {
        let place = &self.access.place;
        let remote_path = place.path();
        let scratch = repo::open(remote_path.unwrap_or(&self.scratch))?;
        let commit = empty_commit(&scratch).map_err(|error| fault::sort(&error, place))?;
        if remote_path.is_some() {
            let written = scratch.reference(name, commit, false, "");
            let mut written = written.map_err(|error| fault::sort(&error, place))?;
            let deleted = written.delete();
            return Ok(left(name, deleted.is_ok()));
        }
        self.access.connected(|notes| self.push(&scratch, notes, &format!("{commit}:{name}")))?;
        let deleted =
            self.access.connected(|notes| self.push(&scratch, notes, &format!(":{name}")));
        Ok(left(name, deleted.is_ok()))
    }

    fn push(&self, scratch: &Repository, notes: &Notes, what: &str) -> Result<(), Fault> {
        let place = &self.access.place;
        // What the server said of the ref: nothing yet, yes, or no and why.
        let said: RefCell<Option<Option<String>>> = RefCell::new(None);
        let pushed = (|| {
            let mut remote = scratch.remote_anonymous(&place.to_string())?;
            let mut callbacks = self.access.callbacks(notes);
            callbacks.push_update_reference(|_name, status| {
                *said.borrow_mut() = Some(status.map(str::to_owned));
                Ok(())
            });
            let mut options = PushOptions::new();
            options.remote_callbacks(callbacks).proxy_options(proxy());
            remote.push(&[what], Some(&mut options))
        })();
        pushed.map_err(|error| notes.explain(&error, place))?;
        match said.into_inner() {
            Some(None) => Ok(()),
            Some(Some(why)) => {
                Err(Fault::stalled(format!("{place}: the server refuses what is written: {why}.")))
            }
            None => Err(Fault::stalled(format!("{place}: the server said nothing of the write."))),
        }
    }
}

fn left(name: &str, is_gone: bool) -> Left {
    if is_gone { Left::Nothing } else { Left::Ref(name.to_owned()) }
}

fn empty_commit(repo: &Repository) -> Result<git2::Oid, git2::Error> {
    let tree = repo.find_tree(repo.treebuilder(None)?.write()?)?;
    let nobody = Signature::new("windlass", "windlass@localhost", &Time::new(0, 0))?;
    repo.commit(None, &nobody, &nobody, "May this be written?", &tree, &[])
}
