//! The state store's content: which path holds which record, and nothing else.
//!
//! ```text
//! refs/windlass/coordinator                          refs/windlass/nodes/<name>
//!   turn.json            generation, sequence, tip     node.json      what the node says of itself
//!   lease.json           who coordinates               pods.json      how its pods are, a line each
//!   settings.json        what all nodes must share
//!   restored.json        who has not read a restore      events.json    what happened on it
//!   events.json          what the coordinator did
//!   answered.json        people's requests, done
//!   apps/<app>/head.json          revision in force     requests.json  what people asked of it
//!   apps/<app>/ledger/<kind>/<namespace>.json           objects and their ids, a line each
//!   apps/<app>/deployments/<namespace>/<name>.json
//!   apps/<app>/replicasets/<namespace>/<name>.json
//!   apps/<app>/statefulsets/<namespace>/<name>.json
//!   apps/<app>/controllerrevisions/<namespace>/<name>.json
//!   apps/<app>/cronjobs/<namespace>/<name>.json         for which minutes Jobs were made
//!   apps/<app>/jobs/<namespace>/<name>.json             runs of Jobs, also of those that are gone
//!   pods/<node>.json, pods/_unplaced.json               bindings, a line each
//!   alloc/services/<namespace>.json, alloc/nodes.json   addresses given out
//!   storage/claims/<namespace>.json, storage/volumes.json   claims and their volumes, a line each
//!                                                     volumes.json   volumes whose data it removed
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
pub mod jobs;
mod node_report;
pub mod records;
pub mod storage;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::kinds::binding::{AppName, Binding, Generation, Oid, Placement};
use crate::kinds::fleet::FleetSettings;
use crate::kinds::lease::Lease;
use crate::kinds::name::{Name, NodeName, PodKey, Uid};
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::kinds::status::EventRecord;

pub use codec::StateFault;
use jobs::{CronRecord, JobRecord};
pub use node_report::{NodeReport, PersonRequest, RequestKind};
use records::{
    AppHead, DeploymentRecord, LedgerEntry, NodeAllocation, Restored, RevisionRecord,
    ServiceAllocation, SetRecord, StatefulSetRecord,
};
use storage::{ClaimRecord, VolumeRecord};

/// The format this version writes; it also reads the one before.
pub const FORMAT: u32 = 1;

/// A namespaced name of a record.
pub type RecordKey = PodKey;

/// The records of what an owner may have made: whatever it makes is called by its name, a dash and more.
/// Others may be called so, too.
pub fn called_after<'m, T>(
    records: &'m BTreeMap<RecordKey, T>,
    namespace: &Name,
    owner: &Name,
) -> impl Iterator<Item = (&'m RecordKey, &'m T)> {
    let first = RecordKey::new(namespace, &Name::trusted(&format!("{owner}-")));
    let last = first.clone();
    let is_so = move |key: &RecordKey| {
        key.namespace == last.namespace && key.name.as_str().starts_with(last.name.as_str())
    };
    records.range(first..).take_while(move |(key, _)| is_so(key))
}

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
    /// The newest commit on which every app was judged; an app of which a later commit is not in
    /// force has its own [`AppHead::base`].
    pub tip: Option<Oid>,
    /// By app.
    pub apps: BTreeMap<AppName, AppState>,
    /// Bindings by node; those under `None` have no node yet.
    pub pods: BTreeMap<Placement, Arc<PodList>>,
    /// Addresses and ports given to Services, by namespace and name.
    pub services: BTreeMap<Name, Arc<BTreeMap<Name, ServiceAllocation>>>,
    /// Claims, by namespace and name.
    pub claims: BTreeMap<Name, Arc<BTreeMap<Name, ClaimRecord>>>,
    /// Volumes that are or were bound, and those we made, by name.
    pub volumes: Arc<BTreeMap<Name, VolumeRecord>>,
    /// What others need of what each node says. While there is any, nobody but those who may
    /// coordinate reads nodes' registers; without, everybody reads them all.
    pub fold: BTreeMap<NodeName, Arc<NodeReport>>,
    /// While it is not known that all nodes have read that the store was taken on purpose: until then
    /// nothing begins of which there must never be two.
    pub restored: Option<Arc<Restored>>,
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
    /// By namespace and name.
    pub stateful_sets: BTreeMap<RecordKey, Arc<StatefulSetRecord>>,
    /// ControllerRevisions of StatefulSets and DaemonSets, by namespace and name.
    pub revisions: BTreeMap<RecordKey, Arc<RevisionRecord>>,
    /// Jobs, by namespace and name: those in Git, those made by CronJobs, and, bounded by
    /// [`jobs::GONE_JOBS_MAX`], those that have run and are in Git no more.
    pub jobs: BTreeMap<RecordKey, Arc<JobRecord>>,
    /// CronJobs, by namespace and name.
    pub cron_jobs: BTreeMap<RecordKey, Arc<CronRecord>>,
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

    /// Gives an object to another app, with all that is recorded of it, so that it goes on as it is.
    pub fn hand_over(&mut self, key: &Key, to: &mut Self) {
        let shard = LedgerShard::of(key);
        if let Some(entries) = self.ledger.get_mut(&shard)
            && let Some(entry) = Arc::make_mut(entries).remove(&key.name)
        {
            let is_empty = entries.is_empty();
            Arc::make_mut(to.ledger.entry(shard.clone()).or_default())
                .insert(key.name.clone(), entry);
            if is_empty {
                self.ledger.remove(&shard);
            }
        }
        let Some(namespace) = &key.namespace else {
            return;
        };
        let own = RecordKey::new(namespace, &key.name);
        if key.kind == Kind::Deployment {
            to.deployments.extend(self.deployments.remove_entry(&own));
            let is_its = |at: &RecordKey, set: &SetRecord| {
                at.namespace == own.namespace && set.deployment == own.name
            };
            let sets = std::mem::take(&mut self.sets);
            let (its, others) = sets.into_iter().partition(|(at, set)| is_its(at, set));
            self.sets = others;
            let its: BTreeMap<RecordKey, Arc<SetRecord>> = its;
            to.sets.extend(its);
        }
        if key.kind == Kind::StatefulSet {
            to.stateful_sets.extend(self.stateful_sets.remove_entry(&own));
        }
        if key.kind == Kind::Job {
            to.jobs.extend(self.jobs.remove_entry(&own));
        }
        if key.kind == Kind::CronJob {
            to.cron_jobs.extend(self.cron_jobs.remove_entry(&own));
            let is_its = |at: &RecordKey, job: &JobRecord| {
                let made = job.made.as_ref().map(|made| &made.cron_job);
                at.namespace == own.namespace && made == Some(&own.name)
            };
            let jobs = std::mem::take(&mut self.jobs);
            let (its, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
                jobs.into_iter().partition(|(at, job)| is_its(at, job));
            self.jobs = others;
            to.jobs.extend(its);
        }
        let revisions = std::mem::take(&mut self.revisions);
        let (its, others): (BTreeMap<_, _>, BTreeMap<_, _>) =
            revisions.into_iter().partition(|(_, revision)| revision.owner == *key);
        self.revisions = others;
        to.revisions.extend(its);
    }

    /// Whether nothing of the app is left but what it was.
    pub fn is_over(&self) -> bool {
        let head = Arc::clone(&self.head);
        head.applied.is_none()
            && head.waiting.is_none()
            && *self == Self { head, ..Self::default() }
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

    /// The last commit whose word on an app is in force: what a newer one is compared with. None
    /// where nothing of it is in force.
    pub fn base_of(&self, app: &AppName) -> Option<&Oid> {
        let head = &self.apps.get(app)?.head;
        let applied = head.applied.as_ref()?;
        Some(head.base.as_ref().or(self.tip.as_ref()).unwrap_or(&applied.revision))
    }

    /// Whether everything that a commit says of an app is in force.
    pub fn is_in_step(&self, app: &AppName, commit: &Oid) -> bool {
        let is_settled = |head: &AppHead| head.base.is_none() && head.waiting.is_none();
        self.tip.as_ref() == Some(commit)
            && self.apps.get(app).is_some_and(|app| is_settled(&app.head))
    }

    /// Whether a node is taken to be away.
    pub fn is_away(&self, node: &NodeName) -> bool {
        self.nodes.get(node).is_some_and(NodeAllocation::is_away)
    }

    /// Whether a node was deleted by a person.
    pub fn is_forgotten(&self, node: &NodeName) -> bool {
        self.nodes.get(node).is_some_and(NodeAllocation::is_forgotten)
    }

    /// What is recorded of a claim.
    pub fn claim(&self, namespace: &Name, name: &Name) -> Option<&ClaimRecord> {
        self.claims.get(namespace)?.get(name)
    }

    /// Every claim.
    pub fn all_claims(&self) -> impl Iterator<Item = (RecordKey, &ClaimRecord)> {
        self.claims.iter().flat_map(|(namespace, claims)| {
            claims.iter().map(|(name, claim)| (RecordKey::new(namespace, name), claim))
        })
    }

    /// Changes a claim, if there is one.
    pub fn edit_claim(&mut self, key: &RecordKey, change: impl FnOnce(&mut ClaimRecord)) {
        let claims = self.claims.get_mut(&key.namespace).map(Arc::make_mut);
        if let Some(claim) = claims.and_then(|claims| claims.get_mut(&key.name)) {
            change(claim);
        }
    }

    /// What was given to a Service.
    pub fn service(&self, namespace: &Name, name: &Name) -> Option<&ServiceAllocation> {
        self.services.get(namespace)?.get(name)
    }
}
