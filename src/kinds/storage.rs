//! Volumes that outlive their pods, and the claims by which pods ask for them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::labels::{Labels, Selector};
use super::name::{Name, NodeName};
use super::pod::NodeTerm;
use super::quantity::Quantity;
use super::volume::HostPathKind;

/// What a claim asks for: `PersistentVolumeClaimSpec`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimSpec {
    /// How the volume is to be made.
    pub class: ClassChoice,
    /// How large it must be at least.
    pub request: Quantity,
    /// Who may use it at once.
    pub modes: Vec<AccessMode>,
    /// Which volumes will do; every one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selector: Option<Selector>,
    /// The one volume that will do.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Name>,
}

/// Which class a claim or a volume names. Saying nothing and saying "none" are two things.
/// <https://kubernetes.io/docs/concepts/storage/persistent-volumes/#class-1>
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ClassChoice {
    /// Nothing is said: the default class.
    #[default]
    Default,
    /// `storageClassName: ""`: no class, so only a volume that exists will do.
    None,
    /// That class.
    Named(Name),
}

/// Who may use a volume at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AccessMode {
    /// Pods of one node, to read and write.
    ReadWriteOnce,
    /// Pods of many nodes, to read.
    ReadOnlyMany,
    /// Pods of many nodes, to read and write.
    ReadWriteMany,
    /// One pod.
    ReadWriteOncePod,
}

/// A claim that each pod has for itself: one of a StatefulSet's, called `<name>-<pod>`, or that of a
/// volume that is written in the pod, called `<pod>-<name>`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimTemplate {
    /// Its part of the claim's name, and the name of the pod's volume.
    pub name: Name,
    /// Labels of the claims.
    pub labels: Labels,
    /// Annotations of the claims.
    pub annotations: Labels,
    /// What they ask for.
    pub spec: ClaimSpec,
}

/// What becomes of a StatefulSet's claims when nobody uses them any more:
/// `persistentVolumeClaimRetentionPolicy`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClaimRetention {
    /// Whether they go with the set.
    pub deleted_with_set: bool,
    /// Whether they go when the set is made smaller.
    pub deleted_when_scaled: bool,
}

impl AccessMode {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadWriteOnce => "ReadWriteOnce",
            Self::ReadOnlyMany => "ReadOnlyMany",
            Self::ReadWriteMany => "ReadWriteMany",
            Self::ReadWriteOncePod => "ReadWriteOncePod",
        }
    }

    /// Whether pods of several nodes may use the volume at once.
    pub fn is_shared(self) -> bool {
        matches!(self, Self::ReadOnlyMany | Self::ReadWriteMany)
    }
}

/// What becomes of a volume's data when its claim is gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Reclaim {
    /// It is kept.
    #[default]
    Retain,
    /// It is removed.
    Delete,
}

impl Reclaim {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Retain => "Retain",
            Self::Delete => "Delete",
        }
    }
}

/// A volume that stands in the repository: `kind: PersistentVolume`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PersistentVolume {
    /// Its class; none takes claims that ask for none.
    pub class: Option<Name>,
    /// How much it holds.
    pub capacity: Quantity,
    /// Who may use it at once.
    pub modes: Vec<AccessMode>,
    /// Where its data is.
    pub medium: Medium,
    /// From which nodes it is reached: one of these terms; from all where absent.
    pub nodes: Option<Vec<NodeTerm>>,
    /// The claim it is kept for, by namespace and name.
    pub claim: Option<(Name, Name)>,
    /// What becomes of its data.
    pub reclaim: Reclaim,
}

/// Where a volume's data is, as the node that mounts it must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Medium {
    /// A directory of ours, below the node's directory for volumes.
    Directory(String),
    /// A path of the node.
    Path {
        /// The path.
        path: String,
        /// What must be there.
        kind: HostPathKind,
    },
    /// A volume of Docker's, which is made when it is first used.
    Docker {
        /// What Docker calls it.
        name: String,
        /// The driver.
        driver: String,
        /// What the driver is told.
        options: BTreeMap<String, String>,
    },
}

/// How volumes are made: `kind: StorageClass`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StorageClass {
    /// Who makes them.
    pub provisioner: Provisioner,
    /// What becomes of their data.
    pub reclaim: Reclaim,
    /// Whether a claim is bound only when a pod wants it, so that the volume is where the pod can
    /// run (`WaitForFirstConsumer`).
    pub waits: bool,
    /// Whether claims that name no class have this one.
    pub is_default: bool,
    /// On which nodes volumes may be made: one of these terms; on all where absent.
    pub nodes: Option<Vec<NodeTerm>>,
}

/// Who makes the volumes of a class.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provisioner {
    /// A directory on the node of the claim's first pod.
    LocalPath,
    /// Nobody: only volumes that stand in the repository will do.
    Nobody,
    /// A driver of Docker's.
    Docker {
        /// The driver.
        driver: String,
        /// What it is told; `${pvc.metadata.name}` and the like stand for the claim's.
        options: BTreeMap<String, String>,
    },
}

/// The class that is there though no repository says so, and the default unless one says so.
pub const LOCAL_PATH_CLASS: &str = "local-path";

/// What the provisioner of [`LOCAL_PATH_CLASS`] is called.
pub const LOCAL_PATH_PROVISIONER: &str = "windlass.dev/local-path";

impl StorageClass {
    /// [`LOCAL_PATH_CLASS`].
    pub fn local_path() -> Self {
        Self {
            provisioner: Provisioner::LocalPath,
            reclaim: Reclaim::Retain,
            waits: true,
            is_default: true,
            nodes: None,
        }
    }

    /// Whether its volumes are reached from the one node on which they were made.
    pub fn is_local(&self) -> bool {
        match &self.provisioner {
            Provisioner::LocalPath => true,
            // Without a type, Docker's own driver makes a directory of the node.
            Provisioner::Docker { driver, options } => {
                driver == "local" && options.get("type").is_none_or(|kind| kind == "none")
            }
            Provisioner::Nobody => false,
        }
    }

    /// Docker's volume that was made for a claim of this class; nothing if it makes none. What the
    /// driver is told follows from the repository, so whoever can write the state store can't have
    /// anything else mounted.
    pub fn docker_volume(&self, volume: &Name, namespace: &Name, claim: &Name) -> Option<Medium> {
        let Provisioner::Docker { driver, options } = &self.provisioner else {
            return None;
        };
        let fill = |text: &String| {
            text.replace("${pv.metadata.name}", volume.as_str())
                .replace("${pvc.metadata.namespace}", namespace.as_str())
                .replace("${pvc.metadata.name}", claim.as_str())
        };
        Some(Medium::Docker {
            name: docker_name(&made_name(volume, namespace, claim)),
            driver: driver.clone(),
            options: options.iter().map(|(key, text)| (key.clone(), fill(text))).collect(),
        })
    }
}

/// What the directory of a volume is called that was made for a claim. Everything but the volume's
/// name is the claim's, so whoever can write the state store can point a pod at no directory that was
/// not made for a claim of that name.
pub fn made_name(volume: &Name, namespace: &Name, claim: &Name) -> String {
    format!("{volume}_{namespace}_{claim}")
}

/// What Docker calls a volume of ours.
pub fn docker_name(name: &str) -> String {
    format!("windlass_{name}")
}

/// A claim's volume, as the node that mounts it is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimedVolume {
    /// The volume.
    pub volume: Name,
    /// Where its data is.
    pub medium: Medium,
    /// From which nodes it is reached; from all where absent.
    pub nodes: Option<Vec<NodeTerm>>,
    /// The one node that has it; any where absent.
    pub node: Option<NodeName>,
    /// Whether two nodes must never use it at once.
    pub is_exclusive: bool,
    /// Whether it may be read only.
    pub read_only: bool,
}

/// The claims that each pod of a set has for itself.
#[derive(Clone, Debug)]
pub struct OwnClaims<'s> {
    /// What they are made from.
    pub templates: &'s [ClaimTemplate],
    /// What becomes of them.
    pub retention: ClaimRetention,
    /// The numbers of the pods that the set is to have.
    pub ordinals: std::ops::Range<u32>,
}
