//! Working with a copy of another repository: one user at a time, mended when it is damaged,
//! repacked when it has become slow.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use git2::Repository;
use tracing::warn;

use crate::ports::{Fault, FaultKind};

use super::durable::{self, Lock};
use super::repo::Pool;
use super::workers::Workers;
use super::{cache, fault, repack};

/// Each fetch and each write leaves a pack, and at 500 a fetch is twice as slow: so many make a repack worth
/// while.
const PACKS_MAX: usize = 200;
/// How long a repack waits for fetches to end before it leaves things as they are.
const FETCHES_WAIT: Duration = Duration::from_secs(30);

/// A copy of another repository.
pub(super) struct Copy {
    pub(super) path: PathBuf,
    /// Of what, for messages.
    what: &'static str,
    pool: Pool,
    lock: Mutex<Option<Lock>>,
    /// Held for reading while objects are written, for writing while they are removed.
    objects: RwLock<()>,
    /// How often the copy was made anew, so that two calls don't do it for one damage.
    rescues: AtomicU64,
    repacking: AtomicBool,
}

/// Why work on a copy failed.
pub(super) enum Trouble {
    /// To be told as it is.
    Fault(Fault),
    /// The copy can't be read.
    Damage(git2::Error),
}

impl From<Fault> for Trouble {
    fn from(fault: Fault) -> Self {
        Self::Fault(fault)
    }
}

impl Copy {
    /// Opens the copy at `path`, made if nothing is there. `what` it is a copy of is for messages.
    pub(super) fn open(path: &Path, what: &'static str) -> Result<Self, Fault> {
        let path = std::path::absolute(path).map_err(Fault::stalled)?;
        let parent = path.parent().map(Path::to_path_buf).unwrap_or_default();
        durable::make_dir(&parent, 0o700)?;
        let copy = Self {
            pool: Pool::new(path.clone()),
            path,
            what,
            lock: Mutex::default(),
            objects: RwLock::default(),
            rescues: AtomicU64::default(),
            repacking: AtomicBool::default(),
        };
        copy.hold()?;
        Ok(copy)
    }

    /// Keeps others away from the copy, opens it, and mends it if need be.
    fn hold(&self) -> Result<(), Fault> {
        let mut lock = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let is_held = lock.as_ref().is_some_and(Lock::is_in_place);
        if is_held && self.path.join("HEAD").exists() {
            return Ok(());
        }
        if !is_held {
            let taken = Lock::take(&cache::lock_path(&self.path), durable::FORKS_WAIT)?.map_err(
                |holder| {
                    Fault::stalled(format!(
                        "the copy of {} in {} is in use by {holder}: is another agent running \
                         with the same data directory?",
                        self.what,
                        self.path.display()
                    ))
                },
            )?;
            taken.sign();
            *lock = Some(taken);
        }
        cache::open(&self.path)
    }

    /// Does `work` with the copy. If the copy is damaged, it is mended and `work` is done again.
    pub(super) fn with<T>(
        &self,
        work: impl Fn(&Repository) -> Result<T, Trouble>,
    ) -> Result<T, Fault> {
        self.hold()?;
        let rescues = self.rescues.load(Ordering::Acquire);
        let damage = match self.attempt(&work) {
            Ok(answer) => return Ok(answer),
            Err(Trouble::Fault(fault)) => return Err(fault),
            // A repack may have moved what was looked for: a fresh look tells.
            Err(Trouble::Damage(_)) => match self.attempt(&work) {
                Ok(answer) => return Ok(answer),
                Err(Trouble::Fault(fault)) => return Err(fault),
                Err(Trouble::Damage(error)) => fault::sort(&error, self.path.display()),
            },
        };
        if damage.kind == FaultKind::Stalled {
            // A full or failing disk: nothing is mended by writing to it.
            return Err(damage);
        }
        self.rescue(&damage, rescues)?;
        self.attempt(&work).map_err(|trouble| match trouble {
            Trouble::Fault(fault) if fault.kind == FaultKind::NotFound => {
                Fault::transient(format!(
                    "{} The copy was damaged and has been made anew; the next fetch brings back \
                     what is missing.",
                    fault.message
                ))
            }
            Trouble::Fault(fault) => fault,
            Trouble::Damage(error) => fault::sort(&error, self.path.display()),
        })
    }

    fn attempt<T>(&self, work: impl Fn(&Repository) -> Result<T, Trouble>) -> Result<T, Trouble> {
        let mut damage = None;
        let outcome = self.pool.with(|repo| {
            work(repo).map_err(|trouble| match trouble {
                Trouble::Fault(fault) => fault,
                Trouble::Damage(error) => {
                    damage = Some(error);
                    Fault::transient("")
                }
            })
        });
        match damage {
            Some(error) => Err(Trouble::Damage(error)),
            None => Ok(outcome?),
        }
    }

    fn rescue(&self, why: &Fault, seen: u64) -> Result<(), Fault> {
        // Nobody opens the copy meanwhile.
        let _held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        if self.rescues.load(Ordering::Acquire) != seen {
            return Ok(());
        }
        let Ok(_alone) = self.objects.try_write() else {
            return Err(Fault::transient(format!(
                "{} The copy is damaged; it is made anew once a fetch under way has ended.",
                why.message
            )));
        };
        self.pool.clear();
        cache::rescue(&self.path, why)?;
        self.rescues.fetch_add(1, Ordering::AcqRel);
        Ok(())
    }

    /// Whether an error of libgit2 means that the copy is damaged.
    pub(super) fn sort(&self, error: git2::Error) -> Trouble {
        if fault::is_damage(&error) {
            Trouble::Damage(error)
        } else {
            Trouble::Fault(fault::sort(&error, self.path.display()))
        }
    }

    /// While this is held, no object is removed: for whoever writes some and then points to them.
    pub(super) fn writing(&self) -> RwLockReadGuard<'_, ()> {
        self.objects.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Repacks the copy.
    pub(super) fn repack(&self) -> Result<(), Fault> {
        let alone = || {
            const STEP: Duration = Duration::from_millis(50);
            let mut waited = Duration::ZERO;
            loop {
                match self.objects.try_write() {
                    Ok(alone) => return Ok(Some(alone)),
                    Err(_) if waited >= FETCHES_WAIT => return Ok(None),
                    Err(_) => {
                        std::thread::sleep(STEP);
                        waited += STEP;
                    }
                }
            }
        };
        repack::repack(&self.path, Duration::ZERO, alone)?;
        self.pool.clear();
        Ok(())
    }

    /// Repacks the copy in the background, if it has become slow. Called after fetches and writes.
    pub(super) fn tidy(copy: &Arc<Self>, workers: &Arc<Workers>, deadline: Duration) {
        if repack::pack_count(&copy.path) <= PACKS_MAX
            || copy.repacking.swap(true, Ordering::AcqRel)
        {
            return;
        }
        let (copy, workers) = (Arc::clone(copy), Arc::clone(workers));
        tokio::spawn(async move {
            let what = format!("repack the copy of {}", copy.what);
            let job = Arc::clone(&copy);
            match workers.run(&what, deadline, move || job.repack()).await {
                Ok(()) => copy.repacking.store(false, Ordering::Release),
                // Not tried again before the next start: it would fail after each fetch.
                Err(fault) => warn!(%fault, "the copy of {} stays large", copy.what),
            }
        });
    }
}
