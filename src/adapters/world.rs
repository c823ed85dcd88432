//! All adapters together: where the agent's calls become deeds.

use std::path::PathBuf;
use std::sync::Arc;

use crate::ports::outcomes::{Answer as OutcomeAnswer, Call as OutcomeCall};
use crate::ports::runtime::{Answer as RuntimeAnswer, Call as RuntimeCall};
use crate::ports::{Answer, Call, Fault};

use super::dns::Dns;
use super::docker::Docker;
use super::files::Files;
use super::git::{Notes, Source, Store};
use super::hints::Hints;
use super::hooks::Hooks;
use super::images::Images;
use super::iptables::Iptables;
use super::keyring;
use super::links::Links;
use super::probe::Prober;

/// This machine, and what it reaches.
pub struct World {
    /// The desired repository.
    pub source: Source,
    /// The state store.
    pub store: Store,
    /// The container runtime.
    pub docker: Docker,
    /// Images that no registry is needed for.
    pub images: Images,
    /// What pods read from the host.
    pub files: Files,
    /// The packet filter.
    pub filter: Iptables,
    /// Links, addresses and routes.
    pub links: Links,
    /// DNS.
    pub names: Dns,
    /// Probes over the network.
    pub prober: Prober,
    /// Words to other nodes.
    pub hints: Hints,
    /// Notes on commits, if they are wanted.
    pub notes: Option<Notes>,
    /// Addresses that are called.
    pub hooks: Hooks,
    /// The file with the keys to encrypted Secrets.
    pub keys: PathBuf,
}

impl World {
    /// Carries out a call.
    pub async fn perform(&self, call: Call) -> Result<Answer, Fault> {
        match call {
            Call::Source(call) => self.source.perform(call).await.map(Answer::Source),
            Call::Store(call) => self.store.perform(call).await.map(Answer::Store),
            Call::Runtime(RuntimeCall::EnsureImage(wish)) => {
                let image = self.images.ensure(wish).await?;
                Ok(Answer::Runtime(RuntimeAnswer::Image(Box::new(image))))
            }
            Call::Runtime(RuntimeCall::Survey) => {
                let seen = self.images.take_stock().await?;
                Ok(Answer::Runtime(RuntimeAnswer::Survey(Box::new(seen))))
            }
            Call::Runtime(RuntimeCall::NoteNamed(named)) => {
                self.images.note_named(*named).await?;
                Ok(Answer::Runtime(RuntimeAnswer::Done))
            }
            Call::Runtime(RuntimeCall::RemoveImages(keys)) => {
                self.images.remove(keys).await.map(RuntimeAnswer::Removed).map(Answer::Runtime)
            }
            Call::Runtime(call) => self.docker.perform(call).await.map(Answer::Runtime),
            Call::Filter(call) => self.filter.call(call).await.map(Answer::Filter),
            Call::Links(call) => self.links.call(call).await.map(Answer::Links),
            Call::Files(call) => self.files.perform(call).await.map(Answer::Files),
            Call::Probe(call) => Ok(Answer::Probe(self.prober.perform(&call).await)),
            Call::Names(call) => self.names.call(call).await.map(Answer::Names),
            Call::Peers(call) => self.hints.call(call).await.map(Answer::Peers),
            Call::Keyring => Ok(Answer::Keyring(Arc::new(keyring::read(&self.keys)))),
            Call::Outcomes(call) => self.outcomes(call).await.map(Answer::Outcomes),
        }
    }

    async fn outcomes(&self, call: OutcomeCall) -> Result<OutcomeAnswer, Fault> {
        match call {
            OutcomeCall::Note(outcomes) => match &self.notes {
                Some(notes) => notes.write(outcomes).await.map(|()| OutcomeAnswer::Noted),
                None => Err(Fault::stalled("no repository is set for notes")),
            },
            OutcomeCall::Post { hook, url, body } => {
                self.hooks.post(hook, &url, &body).await.map(|()| OutcomeAnswer::Posted)
            }
        }
    }
}
