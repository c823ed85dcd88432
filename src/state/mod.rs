//! The state store's content: which path holds which record, and nothing else.
//!
//! ```text
//! refs/windlass/coordinator                          refs/windlass/nodes/<name>
//!   turn.json            generation, sequence          node.json      what the node says of itself
//!   lease.json           who coordinates               pods.json      how its pods are, a line each
//!   settings.json        what all nodes must share
//!   events.json          what the coordinator did      events.json    what happened on it
//!   answered.json        people's requests, done
//!   apps/<app>/head.json          revision in force     requests.json  what people asked of it
//!   apps/<app>/ledger/<kind>/<namespace>.json           objects and their ids, a line each
//!   apps/<app>/deployments/<namespace>/<name>.json
//!   apps/<app>/replicasets/<namespace>/<name>.json
//!   pods/<node>.json, pods/_unplaced.json               bindings, a line each
//!   alloc/services/<namespace>.json, alloc/nodes.json   addresses given out
//!   fold/<node>.json               what others need of what a node says; only in large fleets
//! ```
//!
//! One file holds what changes together, a line per thing that changes alone, so that
//! `git diff` of two states reads as the list of decisions between them. A path that this version
//! does not know is kept as it is; a path that it knows and can't read is an error, never an
//! absence: absence of pods would stop them.
//!
//! Floor 1: imports `kinds` and `ports`.

mod codec;
mod node_report;
pub mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::kinds::binding::{AppName, Binding, Generation, Placement};
use crate::kinds::fleet::FleetSettings;
use crate::kinds::lease::Lease;
use crate::kinds::name::{Name, NodeName, PodKey, Uid};
use crate::kinds::object::Key;
use crate::kinds::status::EventRecord;

pub use codec::StateFault;
pub use node_report::{NodeReport, PersonRequest, RequestKind};
use records::{
    AppHead, DeploymentRecord, LedgerEntry, NodeAllocation, ServiceAllocation, SetRecord,
};

/// The format this version writes; it also reads the one before.
pub const FORMAT: u32 = 1;

/// A namespaced name of a record.
pub type RecordKey = PodKey;

/// The bindings of one node, or of none.
pub type PodList = BTreeMap<PodKey, Arc<Binding>>;

/// The coordinator's register, decoded. Cheap to clone: everything large is shared.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// The order of this decision among all.
    pub generation: Generation,
    /// The last number given to a thing made here; higher is newer.
    pub sequence: u64,
    /// Who coordinates.
    pub lease: Option<Lease>,
    /// What must be the same on every node; absent before the first decision.
    pub settings: Option<Arc<FleetSettings>>,
    /// What the coordinator did lately, the newest last; bounded by [`EVENTS_MAX`].
    pub events: Arc<Vec<EventRecord>>,
    /// The ids of people's requests that were carried out, by the node whose register still holds
    /// them.
    pub answered: Arc<BTreeMap<NodeName, BTreeSet<Uid>>>,
    /// By app.
    pub apps: BTreeMap<AppName, AppState>,
    /// Bindings by node; those under `None` have no node yet.
    pub pods: BTreeMap<Placement, Arc<PodList>>,
    /// Addresses and ports given to Services, by namespace and name.
    pub services: BTreeMap<Name, Arc<BTreeMap<Name, ServiceAllocation>>>,
    /// What others need of what each node says. While there is any, nobody but those who may
    /// coordinate reads nodes' registers; without, everybody reads them all.
    pub fold: BTreeMap<NodeName, Arc<NodeReport>>,
    /// Pod networks given to nodes.
    pub nodes: Arc<BTreeMap<NodeName, NodeAllocation>>,
    /// Paths of a later version, kept as they are.
    pub unknown: BTreeMap<String, Arc<[u8]>>,
}

/// How many events a register keeps: enough for an hour of trouble, and a bound on its size.
pub const EVENTS_MAX: usize = 300;

/// One app's part of the state.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AppState {
    /// Which revision is in force, and what became of later ones.
    pub head: Arc<AppHead>,
    /// The objects of the revision in force, with the ids given to them.
    pub ledger: BTreeMap<LedgerShard, Arc<BTreeMap<Name, LedgerEntry>>>,
    /// By namespace and name.
    pub deployments: BTreeMap<RecordKey, Arc<DeploymentRecord>>,
    /// ReplicaSets made by Deployments, by namespace and name.
    pub sets: BTreeMap<RecordKey, Arc<SetRecord>>,
}

/// Objects of one kind in one namespace (or outside namespaces) share a file of the ledger.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LedgerShard {
    /// Their kind.
    pub kind: crate::kinds::registry::Kind,
    /// Their namespace.
    pub namespace: Option<Name>,
}

impl LedgerShard {
    /// The shard that holds `key`.
    pub fn of(key: &Key) -> Self {
        Self { kind: key.kind, namespace: key.namespace.clone() }
    }

    /// The key of one of its objects.
    pub fn key(&self, name: &Name) -> Key {
        Key { kind: self.kind, namespace: self.namespace.clone(), name: name.clone() }
    }
}

impl AppState {
    /// The ledger's entry for an object.
    pub fn entry(&self, key: &Key) -> Option<&LedgerEntry> {
        self.ledger.get(&LedgerShard::of(key))?.get(&key.name)
    }

    /// Every object of the ledger.
    pub fn objects(&self) -> impl Iterator<Item = (Key, &LedgerEntry)> {
        self.ledger.iter().flat_map(|(shard, entries)| {
            entries.iter().map(|(name, entry)| (shard.key(name), entry))
        })
    }
}

impl State {
    /// The bindings of a node.
    pub fn pods_of(&self, node: &NodeName) -> Option<&Arc<PodList>> {
        self.pods.get(&Some(node.clone()))
    }

    /// Every binding with its place.
    pub fn all_pods(&self) -> impl Iterator<Item = (&Placement, &Arc<Binding>)> {
        self.pods.iter().flat_map(|(node, pods)| pods.values().map(move |pod| (node, pod)))
    }

    /// Whether a node is taken to be away.
    pub fn is_away(&self, node: &NodeName) -> bool {
        self.nodes.get(node).is_some_and(NodeAllocation::is_away)
    }

    /// Whether a node was deleted by a person.
    pub fn is_forgotten(&self, node: &NodeName) -> bool {
        self.nodes.get(node).is_some_and(NodeAllocation::is_forgotten)
    }

    /// What was given to a Service.
    pub fn service(&self, namespace: &Name, name: &Name) -> Option<&ServiceAllocation> {
        self.services.get(namespace)?.get(name)
    }
}
