//! Docker's events, as hints: a doorbell, not a message.
//!
//! Docker is asked for events from the moment it said what time it is, and replays those, so
//! between [`RuntimeHint::Resync`] and the first event nothing is lost. After Docker was away, or
//! when hints came faster than they were taken, `Resync` is told again: everything must be listed.

use std::time::Duration;

use bollard::models::EventMessage;
use bollard::query_parameters::EventsOptions;
use futures_util::StreamExt as _;
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
        let mut events = std::pin::pin!(client.events(Some(options)));
        let mut has_dropped = false;
        loop {
            tokio::select! {
                event = events.next() => match event {
                    Some(Ok(event)) => has_dropped |= !self.ring(hints, event),
                    Some(Err(error)) => {
                        tracing::debug!(%error, "Docker's events have ended");
                        return;
                    }
                    None => return,
                },
                // Docker drops the events of who reads slowly, and doesn't say so; so the hints are
                // dropped here instead, and that is said once there is room.
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

    /// Passes one event on; whether there was room for it.
    fn ring(&self, hints: &mpsc::Sender<RuntimeHint>, event: EventMessage) -> bool {
        let Some(id) = event.actor.and_then(|actor| actor.id) else {
            return true;
        };
        let id = ContainerId::from(id);
        self.inner.seen.changed(&id);
        hints.try_send(RuntimeHint::Changed(id)).is_ok()
    }
}
