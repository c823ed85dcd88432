//! What somebody asks on the socket, beyond what the picture answers by itself.

use std::time::Duration;

use crate::kinds::digest::Digest;
use crate::kinds::name::{NodeName, Uid};
use crate::kinds::time::Now;
use crate::ports::Call;
use crate::ports::source::Call as SourceCall;
use crate::state::records::NodeAllocation;
use crate::state::{PersonRequest, RequestKind};

use super::event::{Ask, AskId, Reply};
use super::{Agent, Purpose};

/// How long finding a commit may take.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(30);
/// Requests of people that wait at the same time; more are a script gone wrong.
const REQUESTS_MAX: usize = 1000;

impl Agent {
    pub(super) fn asked(&mut self, id: AskId, ask: Ask, now: Now) {
        match ask {
            Ask::Sync => self.sync(id, now),
            Ask::Diff { commit } => {
                let call = SourceCall::Resolve { text: commit };
                self.call(Purpose::Resolve(id), Call::Source(call), RESOLVE_TIMEOUT);
            }
            Ask::Images => {
                // What was seen some minutes ago is of no use to who has just brought an image.
                self.ask_images(id, now);
            }
            Ask::Adopt { by } => self.asked_to_adopt(id, by, now),
            Ask::Request { what, by } => self.requested(id, what, by, now),
        }
    }

    fn requested(&mut self, id: AskId, what: RequestKind, by: String, now: Now) {
        if let Some(complaint) = self.complaint(&what) {
            return self.reply(id, Reply::Refused(complaint));
        }
        let text = format!("{what:?} {by} {} {}", self.config.incarnation, id.0);
        let uid = Uid::from_bytes(Digest::of(text.as_bytes()).first_16());
        let unknown = std::collections::BTreeMap::new();
        self.add_request(PersonRequest { id: uid, what, by, at: now.wall, unknown });
        self.reply(id, Reply::Accepted);
    }

    fn complaint(&self, what: &RequestKind) -> Option<String> {
        let waiting = self.host.report().map_or(0, |report| report.requests.len());
        if waiting >= REQUESTS_MAX {
            return Some("too many requests wait for the coordinator; try again later".to_owned());
        }
        match what {
            RequestKind::DeletePod { pod, .. } | RequestKind::EvictPod { pod, .. } => {
                let exists = self
                    .store
                    .state()
                    .is_some_and(|state| state.all_pods().any(|(_, binding)| binding.key == *pod));
                (!exists).then(|| format!("pods \"{}\" not found", pod.name))
            }
            RequestKind::Cordon { node }
            | RequestKind::Uncordon { node }
            | RequestKind::Drain { node, .. } => {
                self.given(node).is_none().then(|| format!("nodes \"{node}\" not found"))
            }
            RequestKind::Fence { node, .. } => match self.given(node) {
                None => Some(format!("nodes \"{node}\" not found")),
                Some(given) if given.is_away() => None,
                Some(_) => Some(format!(
                    "node \"{node}\" is heard of: what runs there would run twice. Drain it; or end \
                     its agent and wait until it is NotReady"
                )),
            },
            RequestKind::Suspend { app } | RequestKind::Resume { app } => {
                let state = self.store.state();
                let exists = state.is_some_and(|state| state.apps.contains_key(app));
                (!exists).then(|| format!("apps \"{app}\" not found"))
            }
            RequestKind::Later(_) => Some("this version does not know such a request".to_owned()),
        }
    }

    /// What was given to a node; nothing if there is no such node.
    fn given(&self, node: &NodeName) -> Option<&NodeAllocation> {
        self.store.state()?.nodes.get(node).filter(|given| !given.is_forgotten())
    }
}
