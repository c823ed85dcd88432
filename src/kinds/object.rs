//! One accepted object of the desired repository: its identity, where it was written, its JSON as
//! the API shows it, and what it means to us.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::config::{ConfigMap, Secret, ServiceAccount};
use super::digest::Digest;
use super::finding::Place;
use super::job::{CronJob, Job};
use super::labels::{Labels, Selector};
use super::limits::LimitRange;
use super::name::Name;
use super::node::NodeWish;
use super::pod::PodTemplate;
use super::quota::Quota;
use super::registry::Kind;
use super::service::Service;
use super::storage::{ClaimSpec, OwnClaims, PersistentVolume, StorageClass};
use super::workload::{
    DaemonSet, Deployment, DisruptionBudget, PriorityClass, ReplicaSet, StatefulSet,
};

/// What an object is called: kind, namespace, name. Ordered by kind first, in the order in which
/// kinds are listed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace; absent for kinds that live outside namespaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<Name>,
    /// Its name.
    pub name: Name,
}

impl Key {
    /// The key of an object in a namespace.
    pub fn namespaced(kind: Kind, namespace: &Name, name: &Name) -> Self {
        Self { kind, namespace: Some(namespace.clone()), name: name.clone() }
    }

    /// The key of an object outside namespaces.
    pub fn cluster(kind: Kind, name: &Name) -> Self {
        Self { kind, namespace: None, name: name.clone() }
    }

    /// The namespace, or the empty text.
    pub fn namespace_str(&self) -> &str {
        self.namespace.as_ref().map_or("", Name::as_str)
    }
}

/// `Deployment shop/web`, `Namespace shop`.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name),
            None => write!(f, "{} {}", self.kind, self.name),
        }
    }
}

/// An object that passed the door.
#[derive(Clone, Debug)]
pub struct Object {
    /// What it is called.
    pub key: Key,
    /// Its labels.
    pub labels: Labels,
    /// Its annotations.
    pub annotations: Labels,
    /// Where it was written.
    pub place: Place,
    /// Its JSON with Kubernetes' defaults filled in, as the API shows it. For a Secret this holds
    /// the values: whoever shows it decides whether they may be seen.
    pub json: Arc<str>,
    /// The digest of `json`'s meaning: two manifests that differ only in notation have the same.
    pub meaning: Digest,
    /// What it means.
    pub body: Body,
}

/// Annotations that give an object its wave, ours before Argo CD's.
pub const WAVE_ANNOTATIONS: [&str; 2] = ["windlass.dev/wave", "argocd.argoproj.io/sync-wave"];

impl Object {
    /// In which wave it comes into force; 0 if it does not say. None for what others can't be valid
    /// without: that comes with the first wave and goes with the last, whatever it says.
    pub fn wave(&self) -> Option<i32> {
        if matches!(self.key.kind, Kind::Namespace | Kind::PriorityClass) {
            return None;
        }
        let mut said = WAVE_ANNOTATIONS.iter().filter_map(|key| self.annotations.get(*key));
        Some(said.find_map(|wave| wave.parse().ok()).unwrap_or(0))
    }
}

/// What an object means, by kind.
#[derive(Clone, Debug)]
pub enum Body {
    /// Also every accepted kind on which nothing acts yet.
    Plain,
    /// See [`ConfigMap`].
    ConfigMap(Arc<ConfigMap>),
    /// See [`Secret`].
    Secret(Arc<Secret>),
    /// See [`ServiceAccount`].
    ServiceAccount(Arc<ServiceAccount>),
    /// See [`Service`].
    Service(Arc<Service>),
    /// A pod written by hand.
    Pod(Arc<PodTemplate>),
    /// A ReplicaSet, or a ReplicationController.
    ReplicaSet(Arc<ReplicaSet>),
    /// See [`Deployment`].
    Deployment(Arc<Deployment>),
    /// See [`StatefulSet`].
    StatefulSet(Arc<StatefulSet>),
    /// See [`DaemonSet`].
    DaemonSet(Arc<DaemonSet>),
    /// See [`Job`].
    Job(Arc<Job>),
    /// See [`CronJob`].
    CronJob(Arc<CronJob>),
    /// What the operator wishes of a machine.
    Node(Arc<NodeWish>),
    /// What a PersistentVolumeClaim asks for.
    Claim(Arc<ClaimSpec>),
    /// See [`PersistentVolume`].
    Volume(Arc<PersistentVolume>),
    /// See [`StorageClass`].
    StorageClass(Arc<StorageClass>),
    /// See [`PriorityClass`].
    PriorityClass(PriorityClass),
    /// See [`DisruptionBudget`].
    DisruptionBudget(Arc<DisruptionBudget>),
    /// See [`Quota`].
    Quota(Arc<Quota>),
    /// See [`LimitRange`].
    LimitRange(Arc<LimitRange>),
}

impl Body {
    /// The claims that each pod of a set has for itself.
    pub fn own_claims(&self) -> Option<OwnClaims<'_>> {
        let Self::StatefulSet(set) = self else {
            return None;
        };
        let (templates, retention) = (set.claims.as_slice(), set.retention);
        Some(OwnClaims { templates, retention, ordinals: set.ordinals() })
    }

    /// The pod template of a workload, or of a Pod.
    pub fn template(&self) -> Option<&Arc<PodTemplate>> {
        match self {
            Self::Pod(template) => Some(template),
            Self::ReplicaSet(set) => Some(&set.template),
            Self::Deployment(deployment) => Some(&deployment.template),
            Self::StatefulSet(set) => Some(&set.template),
            Self::DaemonSet(set) => Some(&set.template),
            Self::Job(job) => Some(&job.template),
            Self::CronJob(cron) => Some(&cron.job.template),
            _ => None,
        }
    }

    /// A LimitRange.
    pub fn limit_range(&self) -> Option<&Arc<LimitRange>> {
        match self {
            Self::LimitRange(range) => Some(range),
            _ => None,
        }
    }

    /// Which pods a workload counts as its own.
    pub fn selector(&self) -> Option<&Selector> {
        match self {
            Self::ReplicaSet(set) => Some(&set.selector),
            Self::Deployment(deployment) => Some(&deployment.selector),
            Self::StatefulSet(set) => Some(&set.selector),
            Self::DaemonSet(set) => Some(&set.selector),
            _ => None,
        }
    }
}
