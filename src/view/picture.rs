//! The picture: everything the agent knows at one moment, as one value that is cheap to make and to
//! keep. Everything that is shown is drawn from it, and nothing else is asked.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::kinds::age::Keyring;
use crate::kinds::binding::{AppName, Binding, Generation, Oid, Placement};
use crate::kinds::certified::{Certified, Doubt};
use crate::kinds::name::{Name, NodeName, PodKey, Uid};
use crate::kinds::object::{Key, Object};
use crate::kinds::registry::Kind;
use crate::kinds::status::{CONDITION_READY, EventRecord};
use crate::kinds::time::{Now, Wall};
use crate::net::ServiceView;
use crate::plan::{self, AppInput, Library, NodeInput, Pod, Revision, Settings};
use crate::ports::larder::{Disk, DiskId};
use crate::ports::runtime::{ContainerId, ContainerSeen, PullProgress};
use crate::state::records::{LedgerEntry, SetRecord};
use crate::state::{RecordKey, State};

/// Everything the agent knows at one moment.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The agent's node.
    pub node: NodeName,
    /// The program's version.
    pub version: String,
    /// What the operator has set.
    pub settings: Arc<Settings>,
    /// The cluster's domain.
    pub domain: String,
    /// When this was so.
    pub now: Now,
    /// Whether the state store has been read.
    pub is_known: bool,
    /// The coordinator's register.
    pub state: State,
    /// The desired repository.
    pub apps: BTreeMap<AppName, AppInput>,
    /// Templates of earlier revisions.
    pub library: Library,
    /// What each node says.
    pub nodes: BTreeMap<NodeName, NodeInput>,
    /// What happened on each node.
    pub events: BTreeMap<NodeName, Arc<Vec<EventRecord>>>,
    /// Services with what is behind them.
    pub services: Arc<Vec<ServiceView>>,
    /// This node's containers, for logs and exec.
    pub containers: Arc<BTreeMap<ContainerId, ContainerSeen>>,
    /// This node's pods' containers that wait for an image, and how far its pull has come. Known
    /// here only: it changes too often to be told to others.
    pub pulling: Arc<BTreeMap<Uid, BTreeMap<Name, PullProgress>>>,
    /// Which keys of nodes count.
    pub certified: Arc<Certified>,
    /// This node's keys to encrypted Secrets. Their `Debug` names for whom they are, not what they are.
    pub keyring: Arc<Keyring>,
    /// How the agent itself is.
    pub health: Health,
}

/// How the agent itself is.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// The newest commit seen.
    pub tip: Option<Oid>,
    /// Whether the branch is known not to exist.
    pub branch_is_missing: bool,
    /// When the desired repository was last reached.
    pub reached: Option<Wall>,
    /// Why it was not.
    pub source_fault: Option<String>,
    /// Why the newest commit could not be read.
    pub load_fault: Option<String>,
    /// Why the state store could not be read or written.
    pub store_fault: Option<String>,
    /// What of the state store could be taken on purpose, while it can't be followed.
    pub adoptable: Option<Adoptable>,
    /// The newest decision that is followed.
    pub decision: Generation,
    /// Why the runtime does not answer.
    pub runtime_fault: Option<String>,
    /// Why rules, routes or names are not as they should be.
    pub network_fault: Option<String>,
    /// Which disk is too full though no image may be removed.
    pub disk_fault: Option<String>,
    /// The disks on which images lie.
    pub image_disks: BTreeMap<DiskId, Disk>,
    /// Images removed since the agent began, and their bytes.
    pub images_removed: (u64, u64),
    /// Who can't be told what became of commits, and why; known to the coordinator only.
    pub deaf: Vec<(String, String)>,
    /// Whether this agent coordinates.
    pub is_leading: bool,
    /// Turns taken.
    pub turns: u64,
    /// Decisions written.
    pub decisions: u64,
    /// Reports written.
    pub reports: u64,
    /// Content handed to the state store, in bytes.
    pub written_bytes: u64,
    /// How long turns took.
    pub turn_times: TurnTimes,
}

/// A state store that can't be followed, and could be taken as it is on purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Adoptable {
    /// What is the matter with it.
    pub what: String,
    /// The decision that would be taken.
    pub decision: Generation,
    /// The newest that anybody is known to have acted on.
    pub newest: Generation,
    /// The epoch that would begin.
    pub epoch: u64,
    /// Nothing is left to be taken: the fleet would begin with no pods.
    pub is_empty: bool,
}

/// The bounds between short turns and long ones, in seconds.
pub const TURN_SECONDS: [f64; 8] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.0, 10.0];

/// How long turns took, from the beginning of the plan to the end of the write.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct TurnTimes {
    /// How many took up to each of [`TURN_SECONDS`], and not up to the one before; the last took longer.
    pub counts: [u64; TURN_SECONDS.len() + 1],
    /// All of them together.
    pub total: Duration,
}

impl TurnTimes {
    /// Takes note of one more.
    pub fn add(&mut self, time: Duration) {
        let seconds = time.as_secs_f64();
        let at = TURN_SECONDS.iter().take_while(|bound| **bound < seconds).count();
        self.counts[at] += 1;
        self.total += time;
    }
}

/// An object of the revision in force.
#[derive(Clone, Copy, Debug)]
pub struct Found<'p> {
    /// The app it belongs to.
    pub app: &'p AppName,
    /// The revision in force of that app.
    pub revision: &'p Arc<Revision>,
    /// The object.
    pub object: &'p Arc<Object>,
    /// What it was given when it came into force; absent for a moment after that.
    pub entry: Option<&'p LedgerEntry>,
}

/// A ReplicaSet made by a Deployment.
#[derive(Clone, Copy, Debug)]
pub struct FoundSet<'p> {
    /// The app it belongs to.
    pub app: &'p AppName,
    /// Its name.
    pub key: &'p RecordKey,
    /// What is recorded of it.
    pub record: &'p SetRecord,
}

impl Picture {
    /// Every object of the revisions in force.
    pub fn objects(&self) -> impl Iterator<Item = Found<'_>> {
        self.apps.iter().flat_map(move |(app, input)| {
            let revision = input.applied.iter();
            revision.flat_map(move |revision| {
                let objects = revision.desired.objects.values();
                objects.map(move |object| self.found(app, revision, object))
            })
        })
    }

    fn found<'p>(
        &'p self,
        app: &'p AppName,
        revision: &'p Arc<Revision>,
        object: &'p Arc<Object>,
    ) -> Found<'p> {
        let entry = self.state.apps.get(app).and_then(|state| state.entry(&object.key));
        Found { app, revision, object, entry }
    }

    /// The objects of one kind.
    pub fn objects_of(&self, kind: Kind) -> impl Iterator<Item = Found<'_>> {
        self.objects().filter(move |found| found.object.key.kind == kind)
    }

    /// An object of the revision in force.
    pub fn object(&self, key: &Key) -> Option<Found<'_>> {
        self.apps.iter().find_map(|(app, input)| {
            let revision = input.applied.as_ref()?;
            let object = revision.desired.objects.get(key)?;
            Some(self.found(app, revision, object))
        })
    }

    /// Every pod, with what is known of it.
    pub fn pods(&self) -> impl Iterator<Item = Pod> {
        self.state.all_pods().map(|(node, binding)| self.pod_of(node, binding))
    }

    /// The pod of that name.
    pub fn pod(&self, key: &PodKey) -> Option<Pod> {
        self.state.pods.iter().find_map(|(node, pods)| {
            let binding = pods.get(key)?;
            Some(self.pod_of(node, binding))
        })
    }

    /// The pods of an owner, the oldest first.
    pub fn pods_of(&self, owner: &Key) -> Vec<Pod> {
        let mut pods: Vec<Pod> = self
            .state
            .all_pods()
            .filter(|(_, binding)| binding.owner == *owner)
            .map(|(node, binding)| self.pod_of(node, binding))
            .collect();
        pods.sort_by_key(|pod| pod.binding.sequence);
        pods
    }

    fn pod_of(&self, node: &Placement, binding: &Arc<Binding>) -> Pod {
        let report = node
            .as_ref()
            .and_then(|node| self.nodes.get(node))
            .and_then(|input| input.pods.get(&binding.uid))
            .cloned();
        // The coordinator counts on its own clock for how long a pod has been ready; whoever only
        // looks goes by the time the node wrote down, as Kubernetes does.
        let ready_for = report.as_ref().and_then(|report| {
            let ready = report.status.condition(CONDITION_READY)?;
            let since = ready.last_transition_time?;
            let counts = ready.status.is_true() && binding.deletion.is_none();
            // A node whose clock is ahead says nothing of how long; that it is ready is certain.
            let is_ahead = since > self.now.wall;
            let ready_for = if is_ahead { Duration::MAX } else { self.now.wall.since(since) };
            counts.then_some(ready_for)
        });
        let is_lost = node.as_ref().is_some_and(|node| self.is_lost(node));
        Pod {
            binding: binding.clone(),
            node: node.clone(),
            report,
            template: plan::template_for(binding, &self.apps, &self.library),
            ready_for: ready_for.filter(|_| !is_lost),
            is_lost,
        }
    }

    /// Why the key that a node says it has does not count as its; nothing if it does, or if it says none.
    pub fn doubt_of(&self, node: &NodeName) -> Option<Doubt> {
        let contact = self.nodes.get(node)?.facts.contact.as_ref()?;
        self.certified.doubt(node, &contact.key)
    }

    /// Whether a node has not been heard of for too long.
    pub fn is_lost(&self, node: &NodeName) -> bool {
        self.state.is_away(node)
    }

    /// Every ReplicaSet made by a Deployment.
    pub fn sets(&self) -> impl Iterator<Item = FoundSet<'_>> {
        self.state.apps.iter().flat_map(|(app, state)| {
            state.sets.iter().map(move |(key, record)| FoundSet { app, key, record })
        })
    }

    /// The ReplicaSets of a Deployment, the oldest first.
    pub fn sets_of(&self, namespace: &Name, deployment: &Name) -> Vec<FoundSet<'_>> {
        let mut sets: Vec<FoundSet<'_>> = self
            .sets()
            .filter(|set| set.key.namespace == *namespace && set.record.deployment == *deployment)
            .collect();
        sets.sort_by_key(|set| set.record.sequence);
        sets
    }

    /// What happened, as every node and the coordinator tell it; the coordinator under no node.
    pub fn happenings(&self) -> impl Iterator<Item = (Option<&NodeName>, &EventRecord)> {
        let nodes = self.events.iter();
        let told =
            nodes.flat_map(|(node, events)| events.iter().map(move |event| (Some(node), event)));
        told.chain(self.state.events.iter().map(|event| (None, event)))
    }

    /// Since when there is a cluster: the age of what exists by itself.
    pub fn born(&self) -> Option<Wall> {
        self.state.nodes.values().map(|node| node.created).min()
    }
}
