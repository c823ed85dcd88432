//! The volumes of this node's pods: which they are, and which are to be emptied.
//!
//! A volume is emptied only when the coordinator's register says so, when no pod bound here uses it,
//! and when there is nobody here who is not bound here: such a one may still have it open. That it was
//! done stands in this node's register until the coordinator has read it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::kinds::name::Uid;
use crate::kinds::storage::ClaimedVolume;
use crate::kinds::time::{Elapsed, Now};
use crate::plan::storage::{Stock, claims_of, mounted};
use crate::ports::files::Call as FilesCall;
use crate::ports::runtime::Call as RuntimeCall;
use crate::ports::{Answer, Call, Fault};
use crate::state::RecordKey;

use super::{Agent, Purpose};

/// How long the removal of a volume may take: it may hold millions of files.
const REMOVAL_TIMEOUT: Duration = Duration::from_secs(600);
/// The wait after a removal that failed.
const RETRY: Duration = Duration::from_secs(10);

/// What is being emptied.
#[derive(Debug, Default)]
pub(super) struct Emptying {
    under_way: BTreeSet<Uid>,
    /// What was removed, until the coordinator has forgotten it.
    pub(super) removed: Arc<BTreeSet<Uid>>,
    retry_at: Option<Elapsed>,
}

impl Emptying {
    pub(super) fn next_wake(&self) -> Option<Elapsed> {
        self.retry_at
    }
}

impl Agent {
    /// The volumes of the claims that pods here use, or why they can't be used.
    pub(super) fn claimed_volumes(&self) -> BTreeMap<RecordKey, Result<ClaimedVolume, String>> {
        let mut claims = BTreeMap::new();
        let Some(state) = self.store.state() else {
            return claims;
        };
        let mut stock: Option<Stock> = None;
        for pod in self.host.mine.pods.values() {
            let namespace = &pod.binding.key.namespace;
            for claim in pod.template.iter().flat_map(|template| claims_of(&template.spec)) {
                let stock = stock.get_or_insert_with(|| self.stock());
                let key = RecordKey::new(namespace, claim);
                let volume = mounted(state, stock, &key).and_then(|its| self.is_safe(its));
                claims.insert(key, volume);
            }
        }
        claims
    }

    fn stock(&self) -> Stock {
        Stock::of(self.wish.applied.values().map(|revision| &*revision.desired))
    }

    /// A volume that one node at a time may use, and that is no node's own, may have gone to another
    /// while this one was off: what the copy of the register says of it is not enough
    /// (docs/DESIGN.md, Hard cases 2).
    fn is_safe(&self, volume: ClaimedVolume) -> Result<ClaimedVolume, String> {
        let is_own = volume.node.as_ref() == Some(&self.config.node);
        let is_counting = self.store.state().is_some_and(|state| state.restored.is_some());
        let why = if !self.host.has_been_in_touch {
            "the state store has not been reached since this agent started"
        } else if is_counting {
            "the state store was taken on purpose, and not every node has read so yet"
        } else {
            return Ok(volume);
        };
        if volume.is_exclusive && !is_own {
            let name = &volume.volume;
            return Err(format!("volume \"{name}\" may be in use on another node: {why}"));
        }
        Ok(volume)
    }

    /// Empties volumes that are to be, and forgets those that the coordinator has forgotten.
    pub(super) fn tend_volumes(&mut self, now: Now) {
        let Some(state) = self.store.state() else {
            return;
        };
        if self.host.emptying.retry_at.is_some_and(|at| at > now.elapsed) {
            return;
        }
        self.host.emptying.retry_at = None;
        let listed: BTreeSet<&Uid> = state.volumes.values().map(|volume| &volume.uid).collect();
        let removed = &self.host.emptying.removed;
        let kept: BTreeSet<Uid> =
            removed.iter().filter(|uid| listed.contains(uid)).cloned().collect();
        let is_here = |volume: &&crate::state::storage::VolumeRecord| {
            let home = volume.made.as_ref().and_then(|made| made.home.as_ref());
            volume.leaving.is_some() && home == Some(&self.config.node)
        };
        let going: Vec<(Uid, Call)> = state
            .volumes
            .iter()
            .filter(|(_, volume)| is_here(volume))
            .filter(|(_, volume)| {
                let uid = &volume.uid;
                !kept.contains(uid) && !self.host.emptying.under_way.contains(uid)
            })
            .map(|(volume, record)| {
                let name = record.made_name(volume);
                let is_docker = record.made.as_ref().is_some_and(|made| made.is_docker);
                let call = match is_docker {
                    true => Call::Runtime(RuntimeCall::RemoveVolume { name }),
                    false => Call::Files(FilesCall::RemoveKept { name }),
                };
                (record.uid.clone(), call)
            })
            .collect();
        if kept.len() != removed.len() {
            self.host.emptying.removed = Arc::new(kept);
        }
        // A decision that is not the newest must empty nothing: the claim may be back.
        if going.is_empty() || !self.store.is_in_touch() || !self.is_alone_with_its_own() {
            return;
        }
        for (uid, call) in going {
            tracing::info!(?call, "data is removed: its claim is gone, and its class says Delete");
            self.host.emptying.under_way.insert(uid.clone());
            self.call(Purpose::EmptyVolume(uid), call, REMOVAL_TIMEOUT);
        }
    }

    /// Whether every container here belongs to a pod that is bound here. No pod bound here uses a
    /// volume that is to be emptied: its claim is gone, and claims outlast the pods that use them.
    pub(super) fn is_alone_with_its_own(&self) -> bool {
        let mine = &self.host.mine;
        let Some(containers) = self.host.containers() else {
            return false;
        };
        mine.is_known
            && containers.values().all(|container| mine.pods.contains_key(&container.marks.uid))
    }

    pub(super) fn volume_emptied(&mut self, uid: Uid, result: Result<Answer, Fault>, now: Now) {
        self.host.emptying.under_way.remove(&uid);
        match result {
            Ok(_) => {
                Arc::make_mut(&mut self.host.emptying.removed).insert(uid);
                self.host_needs_look();
            }
            Err(fault) => {
                tracing::warn!(%fault, "a volume can't be removed");
                self.host.emptying.retry_at = Some(now.elapsed + RETRY);
            }
        }
    }
}
