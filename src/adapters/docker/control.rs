//! Signals to containers, and their end.

use std::time::Duration;

use bollard::query_parameters::{KillContainerOptions, RemoveVolumeOptions};
use futures_util::StreamExt as _;

use super::{AT_ONCE_MIN, Docker, fault};
use crate::ports::Fault;
use crate::ports::marks::VOLUME;
use crate::ports::runtime::ContainerId;

/// Docker's own default where neither the image nor the spec names a signal.
const STOP_SIGNAL: &str = "SIGTERM";
/// How long a removal that somebody else began may take.
const REMOVAL_MAX: Duration = Duration::from_secs(30);
const REMOVAL_STEP: Duration = Duration::from_millis(50);

impl Docker {
    /// Sends a signal; the container's own stop signal where `signal` is empty. One that has ended
    /// or is gone needs none, so that is no error.
    pub(super) async fn signal(&self, id: &str, signal: &str) -> Result<(), Fault> {
        let client = self.client().await?;
        let signal = if signal.is_empty() {
            match client.inspect_container(id, None).await {
                Ok(found) => found
                    .config
                    .and_then(|config| config.stop_signal)
                    .filter(|signal| !signal.is_empty())
                    .unwrap_or_else(|| STOP_SIGNAL.into()),
                Err(error) if fault::status(&error) == Some(404) => return Ok(()),
                Err(error) => return Err(self.fault(&error)),
            }
        } else {
            signal.to_owned()
        };
        let options = KillContainerOptions { signal: signal.clone() };
        match client.kill_container(id, Some(options)).await {
            Ok(()) => Ok(()),
            // 409: it is not running; 20.10 says 500 for one that ended this moment.
            Err(error) if matches!(fault::status(&error), Some(404 | 409)) => Ok(()),
            Err(error) if fault::message(&error).contains("is not running") => Ok(()),
            Err(error) => Err(self.fault(&error).while_doing(format!("sending {signal}"))),
        }
    }

    /// Removes containers with the volumes Docker made for them. All are tried; the faults of all
    /// are told.
    pub(super) async fn remove(&self, ids: &[ContainerId]) -> Result<(), Fault> {
        let mut removals = futures_util::stream::iter(ids.iter().cloned())
            .map(|id| async move {
                let answer = self.remove_one(&id).await;
                (id, answer)
            })
            .buffer_unordered(AT_ONCE_MIN);
        let mut worst: Option<Fault> = None;
        while let Some((id, answer)) = removals.next().await {
            let Err(fault) = answer else {
                continue;
            };
            let fault = fault.while_doing(format!("removing container {id}"));
            worst = Some(match worst {
                None => fault,
                Some(before) => Fault {
                    kind: before.kind.max(fault.kind),
                    message: format!("{}; {}", before.message, fault.message),
                },
            });
        }
        worst.map_or(Ok(()), Err)
    }

    /// Removes a volume that we had made.
    pub(super) async fn remove_volume(&self, name: &str) -> Result<(), Fault> {
        let _turn = self.turn().await?;
        let client = self.client().await?;
        let doing = |fault: Fault| fault.while_doing(format!("removing volume {name}"));
        let seen = match client.inspect_volume(name).await {
            Ok(seen) => seen,
            Err(error) if fault::status(&error) == Some(404) => return Ok(()),
            Err(error) => return Err(doing(self.fault(&error))),
        };
        if !seen.labels.contains_key(VOLUME) {
            return Err(Fault::stalled(format!("volume {name} was not made by Windlass")));
        }
        match client.remove_volume(name, None::<RemoveVolumeOptions>).await {
            Ok(()) => Ok(()),
            Err(error) if fault::status(&error) == Some(404) => Ok(()),
            Err(error) => Err(doing(self.fault(&error))),
        }
    }

    async fn remove_one(&self, id: &str) -> Result<(), Fault> {
        let _turn = self.turn().await?;
        let removal = async {
            loop {
                match self.remove_now(id).await {
                    // Somebody else's removal is under way: ours is done when that one is.
                    Err(fault) if fault.message.contains("already in progress") => {
                        tokio::time::sleep(REMOVAL_STEP).await;
                    }
                    answer => return answer,
                }
            }
        };
        tokio::time::timeout(REMOVAL_MAX, removal).await.unwrap_or_else(|_| {
            Err(Fault::deadline(format!(
                "a removal is under way and has not ended in {} s",
                REMOVAL_MAX.as_secs()
            )))
        })
    }
}
