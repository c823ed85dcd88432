//! Volumes that outlive their pods, and the claims by which pods ask for them.

use super::labels::{Labels, Selector};
use super::name::Name;
use super::quantity::Quantity;

/// What a claim asks for: `PersistentVolumeClaimSpec`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimSpec {
    /// How the volume is to be made.
    pub class: ClassChoice,
    /// How large it must be at least.
    pub request: Quantity,
    /// Who may use it at once.
    pub modes: Vec<AccessMode>,
    /// Which volumes will do; every one where absent.
    pub selector: Option<Selector>,
    /// The one volume that will do.
    pub volume: Option<Name>,
}

/// Which class a claim or a volume names. Saying nothing and saying "none" are two things.
/// <https://kubernetes.io/docs/concepts/storage/persistent-volumes/#class-1>
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

/// A claim that each pod of a StatefulSet has for itself; `<name>-<pod>` is what it is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClaimTemplate {
    /// The first part of its name, and the name of the pod's volume.
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
