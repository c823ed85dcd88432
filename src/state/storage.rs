//! The records of claims and volumes.
//!
//! ```text
//! storage/claims/<namespace>.json   claims, by name: those of the repository and those made for pods
//! storage/volumes.json              volumes that are or were bound, and those we made, by name
//! ```
//! What a record says of a volume's place is a name, never a path: where data is follows from the
//! repository ([`crate::kinds::storage::StorageClass::medium`], [`PersistentVolume`]). So whoever can
//! write the state store can show a pod no directory that was not meant for its claim.
//!
//! [`PersistentVolume`]: crate::kinds::storage::PersistentVolume

use serde::{Deserialize, Serialize};

use super::records::Unknown;
use crate::kinds::binding::AppName;
use crate::kinds::labels::Labels;
use crate::kinds::name::{Name, NodeName, Uid};
use crate::kinds::object::Key;
use crate::kinds::quantity::Quantity;
use crate::kinds::storage::{AccessMode, ClaimSpec, Reclaim, docker_name, made_name};
use crate::kinds::time::Wall;

/// A claim: one of the repository, or one that was made for a pod.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimRecord {
    /// This life of it.
    pub uid: Uid,
    /// When it came into force.
    pub created: Wall,
    /// The app it belongs to.
    pub app: AppName,
    /// What it asks for.
    pub spec: ClaimSpec,
    /// Its class: what it names, or what was the default when it came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<Name>,
    /// Whose pods it was made for; none if it stands in the repository.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made_for: Option<MadeFor>,
    /// Its volume, once it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Name>,
    /// Since when it is to go; it does when no pod uses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<Wall>,
    /// Why it has no volume.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// Whose pods a claim was made for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MadeFor {
    /// The StatefulSet; or the pod, if the claim comes and goes with it.
    pub owner: Key,
    /// Which of its pods.
    pub ordinal: u32,
    /// Whether the claim goes when the set does.
    pub goes_with_owner: bool,
    /// The life of the pod that it comes and goes with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pod: Option<Uid>,
    /// Labels of the claim.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// Annotations of the claim.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub annotations: Labels,
}

/// A volume: one of the repository that is or was bound, or one that was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeRecord {
    /// This life of it.
    pub uid: Uid,
    /// When it was made, or first bound.
    pub created: Wall,
    /// The order in which volumes were bound.
    pub sequence: u64,
    /// The claim it is or was bound to.
    pub claim: ClaimReference,
    /// Whether that claim is gone. The data is that claim's still: nobody else gets the volume.
    #[serde(default)]
    pub is_released: bool,
    /// The one node that has its data; any where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<NodeName>,
    /// What is known of a volume that we made; of one in the repository, its manifest says it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub made: Option<MadeVolume>,
    /// Since when its data is to be removed; it is forgotten when its node says that it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaving: Option<Wall>,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// The claim that a volume is bound to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClaimReference {
    /// Its namespace.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
    /// Which life of it.
    pub uid: Uid,
}

impl VolumeRecord {
    /// What the directory of a volume that we made is called, or Docker's volume.
    pub fn made_name(&self, volume: &Name) -> String {
        let is_docker = self.made.as_ref().is_some_and(|made| made.is_docker);
        let name = made_name(volume, &self.claim.namespace, &self.claim.name);
        if is_docker { docker_name(&name) } else { name }
    }
}

/// A volume that we made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MadeVolume {
    /// By which class.
    pub class: Name,
    /// What its claim asked for.
    pub capacity: Quantity,
    /// Who may use it at once.
    pub modes: Vec<AccessMode>,
    /// What becomes of its data.
    pub reclaim: Reclaim,
    /// Whether Docker has it; a directory of its node otherwise.
    #[serde(default)]
    pub is_docker: bool,
    /// The node that used it first, and that removes its data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub home: Option<NodeName>,
}
