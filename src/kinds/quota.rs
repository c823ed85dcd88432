//! What a namespace may use: `kind: ResourceQuota`.

use super::pod::{PodSpec, QosClass};
use super::quantity::Quantity;
use super::registry::{KINDS, Kind};

/// The suffix of resources of one class of storage.
const OF_CLASS: &str = ".storageclass.storage.k8s.io/";

/// A ResourceQuota, valid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quota {
    /// What it allows.
    pub hard: Vec<Ceiling>,
    /// Which pods count: those that are in all of these.
    pub scopes: Vec<Scope>,
}

/// How much of one thing there may be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ceiling {
    /// As it is written.
    pub name: String,
    /// What that counts.
    pub measure: Measure,
    /// So much.
    pub hard: Quantity,
}

/// Which pods count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Those that ask for nothing.
    BestEffort,
    /// Those that ask for something.
    NotBestEffort,
    /// Those that may run for so long.
    Terminating,
    /// Those that may run for ever.
    NotTerminating,
}

const SCOPES: [(&str, Scope); 4] = [
    ("BestEffort", Scope::BestEffort),
    ("NotBestEffort", Scope::NotBestEffort),
    ("Terminating", Scope::Terminating),
    ("NotTerminating", Scope::NotTerminating),
];

impl Scope {
    /// The scope of that name.
    pub fn parse(text: &str) -> Option<Self> {
        SCOPES.iter().find(|(name, _)| *name == text).map(|(_, scope)| *scope)
    }

    /// Whether a pod is in it.
    pub fn has(self, pod: &PodSpec) -> bool {
        let is_best_effort = pod.qos() == QosClass::BestEffort;
        match self {
            Self::BestEffort => is_best_effort,
            Self::NotBestEffort => !is_best_effort,
            Self::Terminating => pod.active_deadline_s.is_some(),
            Self::NotTerminating => pod.active_deadline_s.is_none(),
        }
    }
}

/// What a name under `hard` counts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Measure {
    /// Pods.
    Pods,
    /// What pods reserve of a resource.
    Requests(String),
    /// What pods are held to of a resource.
    Limits(String),
    /// Objects of a kind.
    Objects(Kind),
    /// Ports on the nodes.
    NodePorts,
    /// Services with a load balancer.
    LoadBalancers,
    /// Claims; of one class, if one is named.
    Claims(Option<String>),
    /// What claims ask for; of one class, if one is named.
    Storage(Option<String>),
}

impl Measure {
    /// What a name under `hard` means.
    pub fn parse(name: &str) -> Option<Self> {
        if let Some((class, what)) = name.split_once(OF_CLASS) {
            return match what {
                "requests.storage" => Some(Self::Storage(Some(class.to_owned()))),
                "persistentvolumeclaims" => Some(Self::Claims(Some(class.to_owned()))),
                _ => None,
            };
        }
        let counted = name.strip_prefix("count/");
        match counted.unwrap_or(name) {
            "pods" => return Some(Self::Pods),
            "persistentvolumeclaims" => return Some(Self::Claims(None)),
            _ => {}
        }
        if let Some(counted) = counted {
            let (plural, group) = counted.split_once('.').unwrap_or((counted, ""));
            return Kind::from_plural(group, plural).map(Self::Objects);
        }
        match name {
            "cpu" | "memory" | "ephemeral-storage" => Some(Self::Requests(name.to_owned())),
            "services.nodeports" => Some(Self::NodePorts),
            "services.loadbalancers" => Some(Self::LoadBalancers),
            "requests.storage" => Some(Self::Storage(None)),
            "configmaps" | "secrets" | "services" | "replicationcontrollers" | "resourcequotas" => {
                let info = KINDS.iter().find(|info| info.plural == name)?;
                Some(Self::Objects(info.kind))
            }
            _ => {
                let requests = name.strip_prefix("requests.").map(str::to_owned);
                let limits = || name.strip_prefix("limits.").map(str::to_owned);
                requests.map(Self::Requests).or_else(|| limits().map(Self::Limits))
            }
        }
    }

    /// Whether it counts pods, which scopes can divide.
    pub fn is_of_pods(&self) -> bool {
        matches!(self, Self::Pods | Self::Requests(_) | Self::Limits(_))
    }
}
