//! Network namespaces without names: each is held by a thread and is gone when the thread is,
//! however the test ends.

use std::process::Command;
use std::sync::mpsc;

use nix::sched::{CloneFlags, unshare};

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace, loopback up.
pub(crate) struct Namespace {
    jobs: mpsc::Sender<Job>,
    thread_id: u32,
}

impl Namespace {
    /// Makes one; none without the right to.
    pub(crate) fn new() -> Option<Self> {
        let (jobs, work) = mpsc::channel::<Job>();
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            let made = unshare(CloneFlags::CLONE_NEWNET);
            let id = nix::unistd::gettid().as_raw();
            tell.send(made.ok().map(|()| id)).expect("the maker waits");
            work.into_iter().for_each(|job| job());
        });
        let thread_id = told.recv().expect("the thread answers")?;
        let namespace = Self { jobs, thread_id: thread_id.unsigned_abs() };
        namespace.sh("ip link set lo up");
        Some(namespace)
    }

    /// The task that is in it: `/proc/<id>/ns/net`.
    pub(crate) fn id(&self) -> u32 {
        self.thread_id
    }

    /// Does `work` inside. What it spawns, threads and programs, is inside too.
    pub(crate) fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        let (send, receive) = mpsc::channel();
        let job = move || {
            // A panic is carried over, and the thread lives on.
            let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            send.send(done).expect("the asker waits");
        };
        self.jobs.send(Box::new(job)).expect("the thread lives");
        match receive.recv().expect("the thread answers") {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    }

    /// Runs a future inside, on a runtime of its own.
    pub(crate) fn block_on<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> T {
        self.run(move || {
            let mut runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = runtime.enable_all().build().expect("a runtime");
            runtime.block_on(work)
        })
    }

    /// Runs a thread inside until the test program ends.
    pub(crate) fn spawn(&self, work: impl FnOnce() + Send + 'static) {
        self.run(move || {
            std::thread::spawn(work);
        });
    }

    /// Runs a command inside; it must succeed. Returns what it prints.
    pub(crate) fn sh(&self, command: &str) -> String {
        let command = command.to_owned();
        self.run(move || {
            let mut shell = Command::new("sh");
            let output = shell.args(["-euc", &command]).output().expect("sh runs");
            let complaint = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command}: {complaint}");
            String::from_utf8_lossy(&output.stdout).into_owned()
        })
    }
}
