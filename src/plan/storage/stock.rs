//! Which volumes and classes there are, as the repository and the records say together.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::desired::Desired;
use crate::kinds::labels::Labels;
use crate::kinds::name::{Name, NodeName};
use crate::kinds::object::{Body, Object};
use crate::kinds::pod::{NodeTerm, PodSpec};
use crate::kinds::quantity::Quantity;
use crate::kinds::registry::Kind;
use crate::kinds::storage::{
    AccessMode, ClaimTemplate, ClaimedVolume, LOCAL_PATH_CLASS, Medium, Reclaim, StorageClass,
    docker_name,
};
use crate::kinds::volume::VolumeSource;
use crate::state::storage::{ClaimRecord, VolumeRecord};
use crate::state::{RecordKey, State};

/// The classes, and the volumes of the repository.
#[derive(Clone, Debug, Default)]
pub struct Stock {
    classes: BTreeMap<Name, Arc<StorageClass>>,
    default: Option<Name>,
    /// The volumes that stand in the repository.
    written: BTreeMap<Name, VolumeFacts>,
}

/// What is known of a volume, whoever made it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VolumeFacts {
    /// Its class.
    pub class: Option<Name>,
    /// How much it holds.
    pub capacity: Quantity,
    /// Who may use it at once.
    pub modes: Vec<AccessMode>,
    /// What becomes of its data.
    pub reclaim: Reclaim,
    /// Where its data is; unknown of Docker's if the class that made it is gone.
    pub medium: Option<Medium>,
    /// From which nodes it is reached, by what its manifest or its class says.
    pub nodes: Option<Vec<NodeTerm>>,
    /// The one node that has its data.
    pub node: Option<NodeName>,
    /// Its labels.
    pub labels: Labels,
    /// The claim that its manifest keeps it for.
    pub kept_for: Option<(Name, Name)>,
}

impl VolumeFacts {
    /// Whether a node reaches it.
    pub fn is_reached_from(&self, node: &NodeName, labels: &Labels) -> bool {
        self.node.as_ref().is_none_or(|its| its == node)
            && allows(self.nodes.as_deref(), node, labels)
    }

    /// Whether it gives a claim what that asks for, whoever has it.
    pub(super) fn suits(&self, claim: &ClaimRecord) -> bool {
        let spec = &claim.spec;
        self.class == claim.class
            && self.capacity >= spec.request
            && spec.modes.iter().all(|mode| self.modes.contains(mode))
            && spec.selector.as_ref().is_none_or(|selector| selector.matches(&self.labels))
    }

    /// Whether pods of two nodes must not use it at once.
    pub fn is_exclusive(&self, claim: &ClaimRecord) -> bool {
        !claim.spec.modes.iter().any(|mode| mode.is_shared())
    }
}

/// Whether one of the terms, if there are any, takes a node.
pub(super) fn allows(terms: Option<&[NodeTerm]>, node: &NodeName, labels: &Labels) -> bool {
    terms.is_none_or(|terms| terms.iter().any(|term| term.matches(node, labels)))
}

impl Stock {
    /// What the revisions in force have.
    pub fn of<'d>(desired: impl IntoIterator<Item = &'d Desired>) -> Self {
        let mut stock = Self::default();
        for desired in desired {
            for object in desired.of_kind(Kind::StorageClass) {
                if let Body::StorageClass(class) = &object.body {
                    stock.classes.insert(object.key.name.clone(), class.clone());
                }
            }
            for object in desired.of_kind(Kind::PersistentVolume) {
                stock.take_volume(object);
            }
        }
        let mut classes = stock.classes.iter();
        let default = classes.find(|(_, class)| class.is_default).map(|(name, _)| name.clone());
        let own = Name::trusted(LOCAL_PATH_CLASS);
        let made = || {
            let is_default = default.is_none();
            Arc::new(StorageClass { is_default, ..StorageClass::local_path() })
        };
        stock.classes.entry(own.clone()).or_insert_with(made);
        stock.default = Some(default.unwrap_or(own));
        stock
    }

    fn take_volume(&mut self, object: &Object) {
        let Body::Volume(volume) = &object.body else {
            return;
        };
        let name = &object.key.name;
        let medium = match &volume.medium {
            Medium::Docker { driver, options, .. } => Medium::Docker {
                name: docker_name(name.as_str()),
                driver: driver.clone(),
                options: options.clone(),
            },
            other => other.clone(),
        };
        let facts = VolumeFacts {
            class: volume.class.clone(),
            capacity: volume.capacity,
            modes: volume.modes.clone(),
            reclaim: volume.reclaim,
            medium: Some(medium),
            nodes: volume.nodes.clone(),
            node: None,
            labels: object.labels.clone(),
            kept_for: volume.claim.clone(),
        };
        self.written.insert(name.clone(), facts);
    }

    /// The class of that name.
    pub fn class(&self, name: &Name) -> Option<&Arc<StorageClass>> {
        self.classes.get(name)
    }

    /// The class of claims that name none.
    pub fn default_class(&self) -> Option<&Name> {
        self.default.as_ref()
    }

    /// The volumes of the repository.
    pub fn written(&self) -> &BTreeMap<Name, VolumeFacts> {
        &self.written
    }

    /// What is known of a volume; nothing if it is in no repository and we did not make it.
    pub fn facts(&self, name: &Name, record: Option<&VolumeRecord>) -> Option<VolumeFacts> {
        let node = record.and_then(|record| record.node.clone());
        let Some((record, made)) = record.and_then(|record| Some((record, record.made.as_ref()?)))
        else {
            let facts = self.written.get(name)?;
            return Some(VolumeFacts { node, ..facts.clone() });
        };
        let class = self.class(&made.class);
        let of = &record.claim;
        let medium = match made.is_docker {
            false => Some(Medium::Directory(record.made_name(name))),
            true => class.and_then(|class| class.docker_volume(name, &of.namespace, &of.name)),
        };
        Some(VolumeFacts {
            class: Some(made.class.clone()),
            capacity: made.capacity,
            modes: made.modes.clone(),
            reclaim: made.reclaim,
            medium,
            nodes: class.and_then(|class| class.nodes.clone()).filter(|_| node.is_none()),
            node,
            labels: Labels::new(),
            kept_for: None,
        })
    }
}

/// The claims that a pod's volumes name.
pub fn claims_of(spec: &PodSpec) -> impl Iterator<Item = &Name> {
    spec.volumes.iter().filter_map(|volume| match &volume.source {
        VolumeSource::Claim { name, .. } => Some(name),
        _ => None,
    })
}

/// The claims that come and go with a pod, and what they are made from.
pub(super) fn scratch_claims(spec: &PodSpec) -> impl Iterator<Item = (&Name, &Arc<ClaimTemplate>)> {
    spec.volumes.iter().filter_map(|volume| match &volume.source {
        VolumeSource::Claim { name, scratch: Some(template), .. } => Some((name, template)),
        _ => None,
    })
}

/// The volume that a pod of `namespace` finds under a claim's name, or why there is none, as kubelet
/// words it.
pub fn mounted(state: &State, stock: &Stock, key: &RecordKey) -> Result<ClaimedVolume, String> {
    let name = &key.name;
    let claim = state
        .claim(&key.namespace, name)
        .ok_or_else(|| format!("persistentvolumeclaim \"{name}\" not found"))?;
    let volume = claim
        .volume
        .as_ref()
        .ok_or_else(|| format!("persistentvolumeclaim \"{name}\" is not bound"))?;
    let record = state.volumes.get(volume);
    let is_its = record.is_some_and(|record| {
        let of = &record.claim;
        record.leaving.is_none()
            && of.uid == claim.uid
            && (&of.namespace, &of.name) == (&key.namespace, name)
    });
    if !is_its {
        return Err(format!("persistentvolume \"{volume}\" is not that of claim \"{name}\""));
    }
    let facts = stock
        .facts(volume, record)
        .ok_or_else(|| format!("persistentvolume \"{volume}\" not found"))?;
    let medium = facts.medium.clone().ok_or_else(|| {
        let class = claim.class.as_ref().map_or("", Name::as_str);
        format!("storageclass \"{class}\" not found, which says what volume \"{volume}\" is")
    })?;
    let is_exclusive = facts.is_exclusive(claim);
    // `ReadOnlyMany` alone is mounted read-only.
    let read_only = claim.spec.modes == [AccessMode::ReadOnlyMany];
    Ok(ClaimedVolume {
        volume: volume.clone(),
        medium,
        nodes: facts.nodes,
        node: facts.node,
        is_exclusive,
        read_only,
    })
}
