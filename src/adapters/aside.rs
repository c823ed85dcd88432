//! Work aside: on a thread of its own, which ends with it.
//!
//! A network namespace belongs to a thread, so what enters one, or must stay in the process' own, goes
//! nowhere near the threads of the pool. Whoever waits bounds the wait; what is not waited for any more
//! goes on to its end.

use tokio::sync::oneshot;

use crate::ports::Fault;

/// Does the work on a thread of this name.
pub(super) async fn aside<T: Send + 'static>(
    name: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Fault> {
    let (sender, done) = oneshot::channel();
    let made = std::thread::Builder::new().name(name.to_owned()).spawn(move || {
        // Nobody waits any more if the caller has gone.
        let _ = sender.send(work());
    });
    made.map_err(|error| Fault::transient(format!("no thread: {error}")))?;
    done.await.map_err(|_| Fault::transient("the work was cut off"))
}
