//! Threads for calls that block, each with a clock beside it: a diver on a line. If the time is up
//! the line is cut, the caller goes on, and the diver comes up whenever he can.
//!
//! libgit2 bounds each read of a socket, not a whole call, and a disk may hang for minutes; neither
//! can be interrupted from outside. A call that is given up goes on in its thread and may still
//! take effect. The number of such threads is bounded: at the bound, calls fail at once, because
//! the next one would most likely hang as well.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, oneshot};
use tracing::{info, warn};

use crate::ports::Fault;

/// How many calls run at a time. The agent has one in flight per ref and a few for the desired
/// repository; libgit2 gains nothing from more.
const RUNNING_MAX: usize = 8;
/// How many calls may have been given up and still run. Each holds a thread and perhaps a socket,
/// 0.2 MB.
pub(super) const ABANDONED_MAX: usize = 4;
/// An idle thread waits this long for work before it ends.
const IDLE: Duration = Duration::from_secs(20);

type Job = Box<dyn FnOnce() + Send>;

const RUNS: u8 = 0;
const ENDED: u8 = 1;
const ABANDONED: u8 = 2;

/// A set of threads for one store or one repository, so that a hanging one does not use up the
/// other's.
pub(super) struct Workers {
    name: &'static str,
    shared: Arc<Shared>,
    slots: Arc<Semaphore>,
}

struct Shared {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Threads that wait, by a number of their own; the last to come is the first to go.
    idle: Vec<(u64, SyncSender<Job>)>,
    number: u64,
    /// What has been given up and has not ended.
    abandoned: Vec<String>,
}

impl Shared {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Gives a call up when its caller stops waiting, whether by the deadline or because it was
/// dropped.
struct Line {
    what: String,
    phase: Arc<AtomicU8>,
    shared: Arc<Shared>,
}

impl Drop for Line {
    fn drop(&mut self) {
        let gave_up = self
            .phase
            .compare_exchange(RUNS, ABANDONED, Ordering::AcqRel, Ordering::Acquire)
            .is_ok();
        if gave_up {
            warn!(call = %self.what, "given up; it goes on by itself");
            self.shared.state().abandoned.push(self.what.clone());
        }
    }
}

impl Workers {
    pub(super) fn new(name: &'static str) -> Self {
        Self {
            name,
            shared: Arc::new(Shared { state: Mutex::new(State::default()) }),
            // Those given up keep their slot, so that there are always some for the living.
            slots: Arc::new(Semaphore::new(RUNNING_MAX + ABANDONED_MAX)),
        }
    }

    /// Runs `job` on a thread of its own and waits for it at most `deadline`.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        what: &str,
        deadline: Duration,
        job: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        {
            let state = self.shared.state();
            if state.abandoned.len() >= ABANDONED_MAX {
                return Err(Fault::transient(format!(
                    "{what} was not tried: {} earlier Git calls hang ({}). They end by themselves \
                     when the server or the disk answers; if they don't, restart the agent, which \
                     stops no pod.",
                    state.abandoned.len(),
                    state.abandoned.join(", "),
                )));
            }
        }
        let late =
            || Fault::deadline(format!("{what} took longer than {} s", deadline.as_secs_f32()));
        match tokio::time::timeout(deadline, self.start(what, job)).await {
            Ok(outcome) => outcome,
            Err(_elapsed) => Err(late()),
        }
    }

    async fn start<T: Send + 'static>(
        &self,
        what: &str,
        job: impl FnOnce() -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, Fault> {
        let slot = Arc::clone(&self.slots).acquire_owned().await.map_err(Fault::transient)?;
        let phase = Arc::new(AtomicU8::new(RUNS));
        let (tell, told) = oneshot::channel();
        let line = Line {
            what: what.to_owned(),
            phase: Arc::clone(&phase),
            shared: Arc::clone(&self.shared),
        };
        let shared = Arc::clone(&self.shared);
        let name = what.to_owned();
        self.hand_over(Box::new(move || {
            let outcome = catch_unwind(AssertUnwindSafe(job)).unwrap_or_else(|_panic| {
                Err(Fault::transient(format!("{name} failed inside: this is a defect of windlass")))
            });
            // First the phase, then the answer: who sees the answer sees that it has ended.
            if phase.swap(ENDED, Ordering::AcqRel) == ABANDONED {
                info!(call = %name, "a call given up earlier has ended");
                let mut state = shared.state();
                if let Some(at) = state.abandoned.iter().position(|other| *other == name) {
                    state.abandoned.swap_remove(at);
                }
            }
            drop(slot);
            // Nobody listens to a call given up.
            let _ = tell.send(outcome);
        }))?;
        let outcome = told
            .await
            .map_err(|_gone| Fault::transient(format!("{what} ended without an answer")))?;
        drop(line);
        outcome
    }

    /// Gives the job to an idle thread, or to a new one.
    fn hand_over(&self, job: Job) -> Result<(), Fault> {
        let idle = self.shared.state().idle.pop();
        if let Some((_, give)) = idle {
            // Who was taken from the list waits for a job.
            return give.send(job).map_err(Fault::transient);
        }
        let shared = Arc::clone(&self.shared);
        std::thread::Builder::new()
            .name(self.name.to_owned())
            .spawn(move || work(&shared, job))
            .map(drop)
            .map_err(|error| Fault::transient(format!("no thread for a Git call: {error}")))
    }
}

/// The life of a thread: a job, then a place in the list of idle threads, then the next job.
fn work(shared: &Arc<Shared>, first: Job) {
    first();
    loop {
        let (give, take) = sync_channel::<Job>(1);
        let number = {
            let mut state = shared.state();
            state.number += 1;
            let number = state.number;
            state.idle.push((number, give));
            number
        };
        let job = match take.recv_timeout(IDLE) {
            Ok(job) => job,
            Err(_) => {
                let mut state = shared.state();
                if let Some(at) = state.idle.iter().position(|(n, _)| *n == number) {
                    state.idle.remove(at);
                    return;
                }
                drop(state);
                // Taken from the list in this very moment: a job is on its way.
                let Ok(job) = take.recv() else { return };
                job
            }
        };
        job();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::FaultKind;

    #[tokio::test]
    async fn a_call_that_hangs_is_given_up_and_counted_until_it_ends() {
        let workers = Workers::new("wgit-test");
        let (release, gate) = std::sync::mpsc::channel::<()>();
        let gate = Arc::new(Mutex::new(gate));
        for n in 0..ABANDONED_MAX {
            let gate = Arc::clone(&gate);
            let fault = workers
                .run(&format!("call {n}"), Duration::from_millis(20), move || {
                    let gate = gate.lock().unwrap_or_else(PoisonError::into_inner);
                    gate.recv().map_err(Fault::transient)
                })
                .await
                .expect_err("hangs");
            assert_eq!(fault.kind, FaultKind::Deadline);
        }
        let at_once = workers
            .run("one more", Duration::from_secs(60), || Ok(1))
            .await
            .expect_err("at the cap");
        assert_eq!(at_once.kind, FaultKind::Transient);
        assert!(at_once.message.contains("4 earlier Git calls hang (call 0"), "{at_once}");

        for _ in 0..ABANDONED_MAX {
            release.send(()).expect("a call waits");
        }
        for _ in 0..200 {
            if workers.shared.state().abandoned.is_empty() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let again = workers.run("again", Duration::from_secs(60), || Ok(1)).await;
        assert_eq!(again, Ok(1));
    }

    #[tokio::test]
    async fn a_panic_is_a_fault_and_threads_are_used_again() {
        let workers = Workers::new("wgit-test");
        let fault = workers
            .run::<()>("a call", Duration::from_secs(5), || panic!("on purpose"))
            .await
            .expect_err("panics");
        assert!(fault.message.contains("defect"), "{fault}");
        let mut threads = std::collections::BTreeSet::new();
        for _ in 0..20 {
            let id = workers
                .run("id", Duration::from_secs(5), || {
                    Ok(format!("{:?}", std::thread::current().id()))
                })
                .await
                .expect("answers");
            threads.insert(id);
        }
        assert!(threads.len() <= 3, "{threads:?}");
    }
}
