//! The records of the coordinator's register. Every one keeps the fields it does not know, so that
//! an agent of this version does not undo the work of one of the next.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};

use crate::kinds::binding::{Oid, TemplateRef};
use crate::kinds::finding::Finding;
use crate::kinds::name::{Name, NodeName, Uid};
use crate::kinds::object::Key;
use crate::kinds::time::{Wall, human_duration};

/// Fields of a later version, kept.
pub type Unknown = BTreeMap<String, serde_json::Value>;

/// Which revision of an app is in force, and what became of later ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AppHead {
    /// The revision in force; none before the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<Applied>,
    /// How far the revision in force has come, while it comes into force in waves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waves: Option<Waves>,
    /// Which part of the revision in force goes ahead, while the rest is held back.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<Canary>,
    /// A later revision that is not in force, and why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting: Option<WaitingRevision>,
    /// The last commit whose word on this app is in force, while that of a later one is not; absent
    /// while it is in step with [`super::State::tip`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Oid>,
    /// The last revision before the one in force that was healthy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<Kept>,
    /// The last revision that was in force and did not become healthy in its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<Attempt>,
    /// Who keeps newer revisions away, beside what Git says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended: Option<Suspension>,
    /// Trees that were in force before, the newest last, bounded by [`TREES_MAX`]: going back to
    /// one of them is a revert, which no guard holds up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trees: Vec<Oid>,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl AppHead {
    /// How far the revision in force has come, if it comes in waves. What was written for another one
    /// (by an agent that knew of no waves) says nothing of it.
    pub fn waves_now(&self) -> Option<&Waves> {
        let applied = self.applied.as_ref()?;
        self.waves.as_ref().filter(|waves| waves.revision == applied.revision)
    }

    /// Which part of the revision in force goes ahead, if the rest is held back.
    pub fn canary_now(&self) -> Option<&Canary> {
        let applied = self.applied.as_ref()?;
        self.canary.as_ref().filter(|canary| canary.revision == applied.revision)
    }

    /// That the revision in force did not become healthy in its time.
    pub fn failed_now(&self) -> Option<&Attempt> {
        let applied = self.applied.as_ref()?;
        self.failed.as_ref().filter(|failed| failed.revision == applied.revision)
    }
}

/// A revision that comes into force in waves: what of it is, and what lies under it meanwhile.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waves {
    /// The commit that comes.
    pub revision: Oid,
    /// What of it is in force.
    pub stage: Stage,
    /// What it comes over, the oldest first: objects whose wave has not come are as they were there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub under: Vec<Layer>,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// `up to wave 1`.
impl std::fmt::Display for Waves {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Stage { wave, is_falling } = self.stage;
        match is_falling {
            false => write!(f, "up to wave {wave}"),
            true => write!(f, "what is gone from Git goes, down to wave {wave}"),
        }
    }
}

/// How far a revision has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Stage {
    /// While it comes, the last wave that is in force; while what it does not have any more goes, the
    /// first that is gone.
    pub wave: i32,
    /// Whether all of it is in force, and what it does not have any more goes.
    #[serde(default)]
    pub is_falling: bool,
}

/// A revision under one that comes into force in waves.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Layer {
    /// The commit.
    pub revision: Oid,
    /// How far it had come; absent if it was in force as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A revision of which a part of the pods goes ahead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    /// The commit.
    pub revision: Oid,
    /// How long the part must have been healthy before the rest follows, in seconds.
    pub hold_s: u32,
    /// How long it has been, as far as that is written down; absent while it is not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy_s: Option<u32>,
    /// The nodes on which alone the part runs; absent where any will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nodes: Option<BTreeSet<NodeName>>,
    /// What is held back.
    pub parts: Vec<CanaryPart>,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// `canary: 2 of 10 pods, healthy for 3m of 10m`.
impl std::fmt::Display for Canary {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let sum =
            |of: fn(&CanaryPart) -> u32| self.parts.iter().map(of).fold(0, u32::saturating_add);
        let (pods, of) = (sum(|part| part.pods), sum(|part| part.of));
        let s = if of == 1 { "" } else { "s" };
        write!(f, "canary: {pods} of {of} pod{s}")?;
        let time = |seconds: u32| human_duration(Duration::from_secs(seconds.into()));
        match self.healthy_s {
            None => f.write_str(", not healthy yet"),
            Some(healthy_s) => {
                write!(f, ", healthy for {} of {}", time(healthy_s), time(self.hold_s))
            }
        }
    }
}

/// A workload of which a part goes ahead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CanaryPart {
    /// The Deployment, StatefulSet or DaemonSet.
    pub owner: Key,
    /// The ReplicaSet, or ControllerRevision, with which the rest stays.
    pub from: Name,
    /// How many pods go ahead.
    pub pods: u32,
    /// How many there were to be in all when that began.
    pub of: u32,
    /// Of a StatefulSet: their numbers.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub ordinals: BTreeSet<u32>,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A revision to go back to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Kept {
    /// What was in force.
    pub applied: Applied,
    /// The last commit with which it was in step: [`AppHead::base`] when it is in force again.
    pub base: Oid,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A revision that did not become healthy in its time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Attempt {
    /// The commit.
    pub revision: Oid,
    /// Its tree.
    pub tree: Oid,
    /// The commit's first line.
    pub subject: String,
    /// The commit's author.
    pub author: String,
    /// What was the matter.
    pub why: String,
    /// When that was found, by the coordinator's clock.
    pub since: Wall,
    /// Whether the last healthy revision is to take its place.
    #[serde(default)]
    pub goes_back: bool,
    /// Why that can't be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stays: Option<String>,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Somebody keeps newer revisions of an app away.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Suspension {
    /// Who.
    pub by: String,
    /// Since when, by the coordinator's clock.
    pub since: Wall,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// How many earlier trees are remembered.
pub const TREES_MAX: usize = 200;

/// A revision in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Applied {
    /// The commit.
    pub revision: Oid,
    /// Its tree below the sub-directory.
    pub tree: Oid,
    /// The commit's first line.
    pub subject: String,
    /// The commit's author.
    pub author: String,
    /// Who signed it, and with which key, where somebody had to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// When it came into force, by the coordinator's clock.
    pub since: Wall,
    /// Which branch and sub-directory it came from; another one is looked at twice.
    pub origin: String,
    /// How many objects it has.
    pub objects: u32,
    /// When all of it was healthy for the first time, by the coordinator's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<Wall>,
    /// Warnings found in it; bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Finding>,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A revision that is not in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct WaitingRevision {
    /// The commit.
    pub revision: Oid,
    /// The commit's first line.
    pub subject: String,
    /// The commit's author.
    pub author: String,
    /// Who signed it, and with which key, where somebody had to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// Since when, by the coordinator's clock.
    pub since: Wall,
    /// Why.
    pub verdict: Verdict,
    /// What is wrong with it, errors first; bounded by [`FINDINGS_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<Finding>,
    /// How many findings there are in all.
    #[serde(default)]
    pub finding_count: u32,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// How many findings of a refused revision the state keeps: `windlass validate` prints the rest.
pub const FINDINGS_MAX: usize = 50;

/// Why a revision is not in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind", content = "why")]
pub enum Verdict {
    /// Something in it is wrong.
    Refused(String),
    /// It would delete too much and waits for a commit with the prune trailer.
    Held(String),
    /// Nothing is wrong with it: something else must come first, or somebody must let it go on.
    Waits(String),
    /// It was in force and did not become healthy: what was before it is in force again.
    Reverted(String),
}

impl Verdict {
    /// The sentence for people.
    pub fn why(&self) -> &str {
        match self {
            Self::Refused(why) | Self::Held(why) | Self::Waits(why) | Self::Reverted(why) => why,
        }
    }

    /// What has become of the revision, in a word.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Refused(_) => "refused",
            Self::Held(_) => "held",
            Self::Waits(_) => "waiting",
            Self::Reverted(_) => "reverted",
        }
    }
}

/// What an object of the desired repository was given when it first came into force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LedgerEntry {
    /// This life of it.
    pub uid: Uid,
    /// When it came into force.
    pub created: Wall,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What the coordinator remembers of a Deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeploymentRecord {
    /// How many times a new template's name met another template's.
    #[serde(default)]
    pub collisions: u32,
    /// The number of the newest ReplicaSet.
    pub revision: u64,
    /// `Available`.
    pub available: ConditionRecord,
    /// `Progressing`.
    pub progressing: ConditionRecord,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A condition of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ConditionRecord {
    /// Whether it holds.
    pub status: bool,
    /// One word.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// Since when it holds or does not.
    pub since: Wall,
    /// When it was last found to.
    pub updated: Wall,
}

/// A ReplicaSet made by a Deployment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SetRecord {
    /// This life of it.
    pub uid: Uid,
    /// The Deployment, in the same namespace.
    pub deployment: Name,
    /// What its pods run.
    pub template: TemplateRef,
    /// The value of `pod-template-hash`.
    pub hash: String,
    /// How many pods it is to have.
    pub replicas: u32,
    /// `deployment.kubernetes.io/revision`.
    pub revision: u64,
    /// Earlier revision numbers of it, as `deployment.kubernetes.io/revision-history` has them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier_revisions: Vec<u64>,
    /// The Deployment's replicas when this was last scaled: by it a scaling is told from a
    /// roll-out (`deployment.kubernetes.io/desired-replicas`).
    pub desired: u32,
    /// The Deployment's replicas and surge when this was last scaled
    /// (`deployment.kubernetes.io/max-replicas`).
    pub max: u32,
    /// When it was made.
    pub created: Wall,
    /// The order in which sets were made.
    pub sequence: u64,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A template of a StatefulSet or DaemonSet, remembered: a ControllerRevision.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RevisionRecord {
    /// This life of it.
    pub uid: Uid,
    /// Whose it is.
    pub owner: Key,
    /// The template.
    pub template: TemplateRef,
    /// Its place in the owner's history; the highest is in force.
    pub revision: u64,
    /// When it was made.
    pub created: Wall,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What the coordinator remembers of a StatefulSet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatefulSetRecord {
    /// The ControllerRevision that was in force before the roll-out that goes on: pods below the
    /// partition stay with it, also when they are made anew.
    pub current: Name,
    /// The ControllerRevision that is in force.
    pub update: Name,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What was given to a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ServiceAllocation {
    /// Its address; none for headless and external ones.
    #[serde(default, rename = "clusterIP", skip_serializing_if = "Option::is_none")]
    pub cluster_ip: Option<Ipv4Addr>,
    /// Its ports on the nodes, by [`crate::kinds::service::ServicePort::allocation_key`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub node_ports: BTreeMap<String, u16>,
    /// The port on which a load balancer asks for local endpoints.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health_check_port: Option<u16>,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What was given to a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeAllocation {
    /// The addresses of its pods.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Ipv4Network,
    /// When the node was first seen.
    pub created: Wall,
    /// This life of it.
    pub uid: Uid,
    /// Since when it has not been heard of, by the coordinator's clock.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lost: Option<Wall>,
    /// Who keeps new pods away from it, beside what Git says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cordoned: Option<Cordon>,
    /// Who wants its pods elsewhere, until they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub draining: Option<Drain>,
    /// Who declared it dead; until it is heard of again and has let go of what it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fenced: Option<Fence>,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

impl NodeAllocation {
    /// A node seen for the first time.
    pub fn new(pod_cidr: Ipv4Network, created: Wall, uid: Uid) -> Self {
        Self {
            pod_cidr,
            created,
            uid,
            lost: None,
            cordoned: None,
            draining: None,
            fenced: None,
            unknown: Unknown::new(),
        }
    }

    /// Whether it is taken to be away: not heard of, or declared dead.
    pub fn is_away(&self) -> bool {
        self.lost.is_some() || self.fenced.is_some()
    }

    /// Whether it was deleted by a person. It is remembered all the same: what its register last said
    /// is still there, and must not be taken for its word.
    pub fn is_forgotten(&self) -> bool {
        self.fenced.as_ref().is_some_and(|fence| fence.is_forgotten)
    }
}

/// Somebody keeps new pods away from a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Cordon {
    /// Who.
    pub by: String,
    /// Since when, by the coordinator's clock.
    pub since: Wall,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Somebody wants a node's pods elsewhere.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Drain {
    /// Who.
    pub by: String,
    /// Since when, by the coordinator's clock.
    pub since: Wall,
    /// Which pods go, and how.
    pub how: DrainOptions,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Which pods a drain ends, and how: `kubectl drain`'s words.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct DrainOptions {
    /// Also pods that no controller makes anew elsewhere.
    pub force: bool,
    /// Pods of DaemonSets stay, and nobody minds.
    pub ignore_daemonsets: bool,
    /// Also pods whose data goes with them.
    pub delete_emptydir_data: bool,
    /// How long a pod may take to end, in seconds; its own where absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grace_s: Option<u32>,
}

/// Somebody declared a node dead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Fence {
    /// Who.
    pub by: String,
    /// Since when, by the coordinator's clock.
    pub since: Wall,
    /// The pods that were bound to it then. It is not used again before it says nothing of them.
    pub pods: BTreeSet<Uid>,
    /// Whether the node was deleted, and is shown no more.
    #[serde(default)]
    pub is_forgotten: bool,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// The store was taken on purpose, and not every node has read so yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Restored {
    /// The epoch that began with it.
    pub epoch: u64,
    /// The nodes that have not yet said that nothing runs on them but what this epoch binds there.
    pub awaits: BTreeSet<NodeName>,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}
