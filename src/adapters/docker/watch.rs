//! Docker's events, as hints: a doorbell, not a message.
//!
//! Docker is asked for events from the moment it said what time it is, and replays those, so
//! between [`RuntimeHint::Resync`] and the first event nothing is lost. After Docker was away, or
//! when hints came faster than they were taken, `Resync` is told again: everything must be listed.

use std::time::Duration;

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptions;
use futures_util::{Stream, StreamExt as _};
use tokio::sync::mpsc;

use super::Docker;
use crate::kinds::time::Wall;
use crate::ports::Fault;
use crate::ports::marks;
use crate::ports::runtime::{ContainerId, RuntimeHint};

/// Changes of state and nothing else: health checks and execs of probes come by the thousand.
/// `oom` may follow the `die` it explains.
const ACTIONS: [&str; 6] = ["start", "die", "oom", "pause", "unpause", "destroy"];
/// Docker away: the first look comes soon, because it may have been restarted only.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
/// And never later than this, because pods wait for it.
const BACKOFF_MAX: Duration = Duration::from_secs(5);
/// Hints not yet taken. Beyond this one `Resync` says as much.
const HINTS_MAX: usize = 1024;

impl Docker {
    /// Listens to Docker until the receiver is dropped.
    pub fn watch(&self) -> mpsc::Receiver<RuntimeHint> {
        let (hints, receiver) = mpsc::channel(HINTS_MAX);
        let docker = self.clone();
        tokio::spawn(async move { docker.listen(&hints).await });
        receiver
    }

    async fn listen(&self, hints: &mpsc::Sender<RuntimeHint>) {
        let mut backoff = BACKOFF_MIN;
        let mut is_told = false;
        while !hints.is_closed() {
            match self.server_time().await {
                Ok(since) => {
                    tracing::info!("Docker is heard");
                    (backoff, is_told) = (BACKOFF_MIN, false);
                    self.inner.seen.heard();
                    if hints.send(RuntimeHint::Resync).await.is_err() {
                        return;
                    }
                    self.make_ready();
                    self.pass_on(hints, since).await;
                    self.inner.seen.lost();
                    self.forget_client().await;
                    if hints.is_closed() {
                        return;
                    }
                    tracing::warn!("Docker is no longer heard");
                }
                Err(fault) => {
                    if !is_told {
                        tracing::warn!(%fault, "Docker can't be reached; trying again");
                        is_told = true;
                    }
                    self.forget_client().await;
                }
            }
            tokio::select! {
                () = tokio::time::sleep(backoff) => {}
                () = hints.closed() => return,
            }
            backoff = (backoff * 2).min(BACKOFF_MAX);
        }
    }

    /// Loads the pause image now rather than with the first pod.
    fn make_ready(&self) {
        let docker = self.clone();
        tokio::spawn(async move {
            if let Err(fault) = docker.pause_image().await {
                tracing::warn!(%fault, "the pause image can't be loaded; the first pod tries again");
            }
        });
    }

    async fn server_time(&self) -> Result<String, Fault> {
        let client = self.client().await?;
        let info = client.info().await.map_err(|error| self.fault(&error))?;
        let text = info.system_time.unwrap_or_default();
        let now = Wall::parse(&text)
            .ok_or_else(|| Fault::transient(format!("Docker says its time is {text:?}")))?;
        let (seconds, millis) = (now.seconds(), now.millis().rem_euclid(1000));
        Ok(format!("{seconds}.{millis:03}000000"))
    }

    /// Docker's events from a moment on, until it is lost.
    async fn pass_on(&self, hints: &mpsc::Sender<RuntimeHint>, since: String) {
        let Ok(client) = self.client().await else {
            return;
        };
        let mark = format!("{}={}", marks::NODE, self.inner.options.node);
        let options = EventsOptions {
            since: Some(since),
            filters: Some(
                [
                    ("type".to_owned(), vec!["container".to_owned()]),
                    ("label".to_owned(), vec![mark]),
                    ("event".to_owned(), ACTIONS.map(str::to_owned).to_vec()),
                ]
                .into(),
            ),
            ..EventsOptions::default()
        };
        let ids = client.events(Some(options)).map(|event| match event {
            Ok(event) => Some(subject(event)),
            Err(error) => {
                tracing::debug!(%error, "Docker's events have ended");
                None
            }
        });
        let note = |id: &ContainerId| self.inner.seen.changed(id);
        ring(ids, hints, note).await;
    }
}

/// The container an event is about.
fn subject(event: EventMessage) -> Option<ContainerId> {
    event.actor?.id.map(ContainerId::from)
}

/// Passes containers on as hints until there are no more or nobody listens. Docker drops the events
/// of who reads slowly, and doesn't say so; so hints that find no room are dropped here instead, and
/// `Resync` says so as soon as there is room.
async fn ring(
    ids: impl Stream<Item = Option<Option<ContainerId>>>,
    hints: &mpsc::Sender<RuntimeHint>,
    note: impl Fn(&ContainerId),
) {
    let mut ids = std::pin::pin!(ids);
    let mut has_dropped = false;
    loop {
        tokio::select! {
            id = ids.next() => {
                // The stream has ended, or its next item was an error.
                let Some(Some(id)) = id else { return };
                let Some(id) = id else { continue };
                note(&id);
                has_dropped |= hints.try_send(RuntimeHint::Changed(id)).is_err();
            }
            room = hints.reserve(), if has_dropped => match room {
                Ok(room) => {
                    room.send(RuntimeHint::Resync);
                    has_dropped = false;
                }
                Err(_) => return,
            },
            () = hints.closed() => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn hints_that_find_no_room_become_one_resync() {
        let (sender, mut receiver) = mpsc::channel(2);
        let ids: Vec<ContainerId> = ["a", "b", "c", "d"].map(ContainerId::from).to_vec();
        let told = futures_util::stream::iter(ids.clone().into_iter().map(|id| Some(Some(id))));
        let noted = std::sync::Mutex::new(Vec::new());
        let note = |id: &ContainerId| noted.lock().expect("whole").push(id.clone());
        // Docker says no more for now, and doesn't hang up.
        let told = told.chain(futures_util::stream::pending());
        let heard = async {
            let mut heard = Vec::new();
            while heard.len() < 3 {
                // Whoever listens is slow.
                tokio::time::sleep(Duration::from_millis(20)).await;
                heard.extend(receiver.recv().await);
            }
            heard
        };
        tokio::select! {
            () = ring(told, &sender, note) => panic!("it hung up"),
            heard = heard => assert_eq!(
                heard,
                [
                    RuntimeHint::Changed("a".into()),
                    RuntimeHint::Changed("b".into()),
                    RuntimeHint::Resync,
                ]
            ),
        }
        assert_eq!(*noted.lock().expect("whole"), ids, "all are forgotten by the memory");
    }
}
