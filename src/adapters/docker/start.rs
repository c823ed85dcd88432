//! Making a container and starting it, so that saying it twice does no harm.
//!
//! ```text
//!   create ─▶ start ─▶ (pause: wait for its network) ─▶ look ─▶ Started
//!     │          │              │
//!     │ name     │ host refuses │ can't make a network
//!     ▼ taken    ▼ oom_score    ▼
//!   a leftover?  once without   once with Docker's
//! ```
//!
//! A container that could not be started is left for people to look at; whoever asked removes it
//! later. What is removed here is only what is made again at once under the same name.

use std::sync::atomic::Ordering;
use std::time::Duration;

use bollard::query_parameters::{CreateContainerOptions, RemoveContainerOptions};

use super::body::{self, Making, OwnNetwork};
use super::pause::{self, Readiness};
use super::{Docker, fault};
use crate::ports::marks;
use crate::ports::runtime::{
    ContainerSeen, ContainerSpec, Marks, REASON_CANNOT_RUN, REASON_CREATE, REASON_RUN, RunState,
};
use crate::ports::{Fault, FaultKind};

/// A leftover under our name, a pause image gone, a refused score, a refused network: each is met
/// at most once.
const ATTEMPTS_MAX: u32 = 5;
/// Docker's exit code for a program that may not be executed.
const EXIT_NOT_EXECUTABLE: i64 = 126;
/// And for one that is not there.
const EXIT_NOT_FOUND: i64 = 127;

/// Docker notes the end of a process a moment after the process is gone.
const END_STEPS_MAX: u32 = 100;
const END_STEP: Duration = Duration::from_millis(20);
/// What came of one attempt.
enum Attempt {
    Started(Box<ContainerSeen>),
    /// Something was mended: try again.
    Again,
    /// The score may be what the host refuses: try again without.
    WithoutScore,
}

impl Docker {
    /// Makes a container and starts it.
    pub(super) async fn start(&self, spec: &ContainerSpec) -> Result<ContainerSeen, Fault> {
        // What could not be adopted again must not be made.
        let label = |key: &str| spec.labels.get(key).map(String::as_str);
        Marks::from_labels(label)
            .and_then(|marks| {
                (marks.node == self.inner.options.node)
                    .then_some(())
                    .ok_or_else(|| format!("label {} is another node's", marks::NODE))
            })
            .map_err(|why| Fault::stalled(format!("{REASON_CREATE}: {}: {why}", spec.name)))?;
        let _turn = self.turn().await?;
        let mut lowers_score = true;
        for _ in 0..ATTEMPTS_MAX {
            match self.attempt(spec, lowers_score).await? {
                Attempt::Started(seen) => return Ok(*seen),
                Attempt::Again => {}
                Attempt::WithoutScore => lowers_score = false,
            }
        }
        Err(Fault::transient(format!(
            "{REASON_CREATE}: {} could not be made in {ATTEMPTS_MAX} attempts",
            spec.name
        )))
    }

    /// A turn to do something that costs Docker much.
    pub(super) async fn turn(&self) -> Result<tokio::sync::SemaphorePermit<'_>, Fault> {
        self.inner.at_once.acquire().await.map_err(|_| Fault::transient("Docker is being left"))
    }

    async fn attempt(&self, spec: &ContainerSpec, lowers_score: bool) -> Result<Attempt, Fault> {
        let is_pause = spec.image.is_empty();
        let image = if is_pause { self.pause_image().await? } else { spec.image.clone() };
        let refused = &self.inner.refused;
        let making = Making {
            image: &image,
            own_network: if refused.host_network.load(Ordering::Relaxed) {
                OwnNetwork::ByDocker
            } else {
                OwnNetwork::ByPause
            },
            may_lower_oom_score: lowers_score && !refused.oom_score.load(Ordering::Relaxed),
        };
        let makes_network = body::makes_network(spec, &making);
        let id = match self.create(spec, &making).await? {
            Created::New(id) => id,
            Created::Again => return Ok(Attempt::Again),
            Created::Already(seen) => return self.already(is_pause, makes_network, seen).await,
        };
        let client = self.client().await?;
        if let Err(error) = client.start_container(&id, None).await {
            return self.start_failed(spec, &making, &id, &error).await;
        }
        self.note_score(spec, &making);
        let seen = Box::new(self.look(&id).await?);
        if !is_pause || is_ready(&seen, makes_network).await? {
            return Ok(Attempt::Started(seen));
        }
        self.pause_ended(&id, makes_network).await
    }

    /// One that was started before, perhaps only just: we may have been killed in between.
    async fn already(
        &self,
        is_pause: bool,
        makes_network: bool,
        seen: Box<ContainerSeen>,
    ) -> Result<Attempt, Fault> {
        if is_pause && seen.is_running() && !is_ready(&seen, makes_network).await? {
            return Ok(Attempt::Started(Box::new(self.look(&seen.id).await?)));
        }
        Ok(Attempt::Started(seen))
    }

    async fn create(&self, spec: &ContainerSpec, making: &Making<'_>) -> Result<Created, Fault> {
        let client = self.client().await?;
        let options = CreateContainerOptions {
            name: Some(spec.name.clone()),
            ..CreateContainerOptions::default()
        };
        let error = match client.create_container(Some(options), body::body(spec, making)).await {
            Ok(created) => return Ok(Created::New(created.id)),
            Err(error) => error,
        };
        let status = fault::status(&error);
        if status.is_none() {
            // Docker has not said no; it has not answered.
            return Err(self.fault(&error));
        }
        let refusal = self.fault(&error).while_doing(REASON_CREATE);
        match status {
            Some(409) => self.name_taken(spec, refusal).await,
            Some(404) if spec.image.is_empty() => {
                self.forget_pause_image().await;
                Ok(Created::Again)
            }
            _ if body::makes_network(spec, making) && refuses_host(fault::message(&error)) => {
                self.note_no_host_network(&refusal.message);
                Ok(Created::Again)
            }
            _ => Err(refusal),
        }
    }

    /// A container has this name already: one of ours that was made and not started is made anew,
    /// one of ours that was started is what was asked for, and any other is not ours to touch.
    async fn name_taken(&self, spec: &ContainerSpec, refusal: Fault) -> Result<Created, Fault> {
        let client = self.client().await?;
        let found = match client.inspect_container(&spec.name, None).await {
            Ok(found) => found,
            // Gone in the meantime.
            Err(error) if fault::status(&error) == Some(404) => return Ok(Created::Again),
            Err(error) => return Err(self.fault(&error)),
        };
        let labels = found.config.as_ref().and_then(|c| c.labels.as_ref());
        let is_same = labels.is_some_and(|labels| {
            spec.labels.iter().all(|(key, value)| labels.get(key) == Some(value))
        });
        let Some(id) = found.id.clone().filter(|_| is_same) else {
            return Err(Fault {
                kind: FaultKind::Stalled,
                message: format!("{}; that container is not this one's", refusal.message),
            });
        };
        let seen = self.understand(found).map_err(Fault::stalled)?;
        if was_started(&seen.state) {
            return Ok(Created::Already(Box::new(seen)));
        }
        tracing::info!(container = %spec.name, "a leftover that was never started is made anew");
        self.remove_now(&id).await?;
        Ok(Created::Again)
    }

    async fn start_failed(
        &self,
        spec: &ContainerSpec,
        making: &Making<'_>,
        id: &str,
        error: &bollard::errors::Error,
    ) -> Result<Attempt, Fault> {
        let refusal = self.fault(error);
        if fault::status(error).is_none() {
            // Docker has not said no; it has not answered.
            return Err(refusal);
        }
        // Docker has translated the error into an exit code; the list says the same later.
        let exit_code = match self.look(id).await {
            Ok(ContainerSeen { state: RunState::Ended { exit_code, .. }, .. }) => exit_code,
            _ => 0,
        };
        let refused = &self.inner.refused;
        if making.may_lower_oom_score
            && spec.oom_score_adj < 0
            && exit_code != EXIT_NOT_FOUND
            && !refused.oom_score_granted.load(Ordering::Relaxed)
        {
            // runc does not say that it was the score ("can't get final child's PID from pipe").
            self.remove_now(id).await?;
            return Ok(Attempt::WithoutScore);
        }
        let (reason, kind) = if [EXIT_NOT_FOUND, EXIT_NOT_EXECUTABLE].contains(&exit_code) {
            (REASON_CANNOT_RUN, FaultKind::Stalled)
        } else {
            (REASON_RUN, refusal.kind)
        };
        Err(Fault { kind, message: format!("{reason}: {}", refusal.message) })
    }

    /// Draws the conclusion from a start that went well.
    fn note_score(&self, spec: &ContainerSpec, making: &Making<'_>) {
        let refused = &self.inner.refused;
        if spec.oom_score_adj >= 0 {
            return;
        }
        if making.may_lower_oom_score {
            refused.oom_score_granted.store(true, Ordering::Relaxed);
        } else if !refused.oom_score.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                "this host lets no process be made less likely to be killed for memory \
                 (no CAP_SYS_RESOURCE): negative oom_score_adj is left out from now on"
            );
        }
    }

    async fn pause_ended(&self, id: &str, makes_network: bool) -> Result<Attempt, Fault> {
        let mut exit_code = None;
        for _ in 0..END_STEPS_MAX {
            if let RunState::Ended { exit_code: code, .. } = self.look(id).await?.state {
                exit_code = Some(code);
                break;
            }
            tokio::time::sleep(END_STEP).await;
        }
        let Some(exit_code) = exit_code else {
            return Err(Fault::stalled(format!(
                "{REASON_RUN}: the pause program's process can't be seen in /proc; the agent must \
                 run in the node's pid namespace"
            )));
        };
        if makes_network && exit_code == pause::EXIT_NO_NETWORK {
            self.note_no_host_network("the pause program may not make a network namespace");
            self.remove_now(id).await?;
            return Ok(Attempt::Again);
        }
        Err(Fault::transient(format!(
            "{REASON_RUN}: the pause program has ended with exit code {exit_code}"
        )))
    }

    fn note_no_host_network(&self, why: &str) {
        if !self.inner.refused.host_network.swap(true, Ordering::Relaxed) {
            tracing::warn!(
                why,
                "pods get their network namespaces from Docker from now on, which is slower"
            );
        }
    }

    pub(super) async fn remove_now(&self, id: &str) -> Result<(), Fault> {
        let options =
            RemoveContainerOptions { force: true, v: true, ..RemoveContainerOptions::default() };
        let client = self.client().await?;
        match client.remove_container(id, Some(options)).await {
            Ok(()) => Ok(()),
            Err(error) if fault::status(&error) == Some(404) => Ok(()),
            Err(error) => Err(self.fault(&error)),
        }
    }
}

/// What came of asking for a container to be made.
enum Created {
    New(String),
    /// It was there, and had been started.
    Already(Box<ContainerSeen>),
    /// Something was mended: try again.
    Again,
}

/// Whether a pause container runs and has got ready.
async fn is_ready(seen: &ContainerSeen, makes_network: bool) -> Result<bool, Fault> {
    match seen.pid() {
        Some(pid) => Ok(pause::ready(pid, makes_network).await? == Readiness::Ready),
        None => Ok(false),
    }
}

fn was_started(state: &RunState) -> bool {
    match state {
        RunState::Running { .. } => true,
        RunState::Ended { started, .. } => started.is_some(),
        RunState::Created => false,
    }
}

fn refuses_host(message: &str) -> bool {
    message.contains("host's network namespace") || message.contains("user namespaces")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_are_told_by_their_words() {
        assert!(refuses_host(
            "cannot share the host's network namespace when user namespaces are enabled"
        ));
        assert!(!refuses_host("no such image"));
    }
}
