//! Which volume a claim gets.
//!
//! First the one it had before, then the one it names, then one that is kept for it, then the
//! smallest of the repository that suits, and else one that is made. A claim whose class waits gets
//! one of the last two kinds only together with a pod: the scheduler asks [`choose`] for each node and
//! [`bind`]s on the node it takes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::desired::Desired;
use crate::kinds::labels::Labels;
use crate::kinds::name::{Name, NodeName};
use crate::kinds::object::Key;
use crate::kinds::storage::{Medium, Provisioner, Reclaim, StorageClass};
use crate::state::storage::{ClaimRecord, ClaimReference, MadeVolume, VolumeRecord};
use crate::state::{RecordKey, State};

use super::stock::{Stock, allows, claims_of};
use super::{SOURCE, claim_key};
use crate::plan::work::Work;

/// What a claim gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::plan) enum Choice {
    /// A volume of the repository.
    Take(Name),
    /// A new one.
    Make,
}

/// Binds claims that need not wait for a pod, and says of the others why they have no volume.
pub(super) fn bind_claims(work: &mut Work) {
    let unbound: Vec<RecordKey> = work
        .next
        .all_claims()
        .filter(|(_, claim)| claim.volume.is_none() && claim.leaving.is_none())
        .filter(|(_, claim)| work.is_known(&claim.app))
        .map(|(key, _)| key)
        .collect();
    if unbound.is_empty() {
        return;
    }
    let desired: Vec<Arc<Desired>> = work.revisions.values().map(|r| r.desired.clone()).collect();
    let stock = Stock::of(desired.iter().map(|desired| &**desired));
    for key in unbound {
        bind_claim(work, &stock, &key);
    }
}

fn bind_claim(work: &mut Work, stock: &Stock, key: &RecordKey) {
    let Some(claim) = work.next.claim(&key.namespace, &key.name).cloned() else {
        return;
    };
    if let Some(volume) = former(&work.next, stock, key, &claim) {
        work.note(format!("claim {key} takes its volume {volume} back"));
        bind(work, stock, key, &Choice::Take(volume), None);
        return;
    }
    let class = claim.class.as_ref().and_then(|name| stock.class(name));
    if let Some(volume) = best(&work.next, stock, key, &claim, |_| true, &BTreeSet::new())
        && (class.is_none_or(|class| !class.waits) || is_meant(stock, key, &claim, &volume))
    {
        bind(work, stock, key, &Choice::Take(volume), None);
        return;
    }
    let (reason, message, is_trouble) = match (&claim.spec.volume, &claim.class, class) {
        (Some(volume), ..) => {
            ("FailedBinding", format!("volume \"{volume}\" is not there, or does not suit"), true)
        }
        (None, None, _) => {
            let message =
                "no persistent volumes available for this claim and no storage class is set";
            ("FailedBinding", message.to_owned(), true)
        }
        (None, Some(name), None) => {
            let message = format!("storageclass.storage.k8s.io \"{name}\" not found");
            ("ProvisioningFailed", message, true)
        }
        (None, Some(_), Some(class)) if class.waits => {
            let message = "waiting for first consumer to be created before binding";
            ("WaitForFirstConsumer", message.to_owned(), false)
        }
        (None, Some(_), Some(class)) if can_make(class, &claim) => {
            bind(work, stock, key, &Choice::Make, None);
            return;
        }
        (None, Some(name), Some(_)) => {
            let message = format!(
                "no persistent volumes of class \"{name}\" are available for this claim, and none \
                 are made"
            );
            ("FailedBinding", message, true)
        }
    };
    if claim.message.as_ref() != Some(&message) {
        work.push_event(&claim_key(key), SOURCE, reason, message.clone(), is_trouble);
        work.next.edit_claim(key, |claim| claim.message = Some(message));
    }
}

/// Whether a claim without a volume rightly has none: its class waits for a pod, and no pod names it.
pub(in crate::plan) fn waits_for_pod(work: &Work, key: &Key, claim: &ClaimRecord) -> bool {
    let stock = Stock::of(work.revisions.values().map(|revision| &*revision.desired));
    let class = claim.class.as_ref().and_then(|name| stock.class(name));
    let waits = class.is_some_and(|class| class.waits) && claim.spec.volume.is_none();
    let mut pods = work.pods.values();
    let is_named = pods.any(|pod| {
        let mut claims = pod.template.iter().flat_map(|template| claims_of(&template.spec));
        Some(&pod.binding.key.namespace) == key.namespace.as_ref()
            && claims.any(|name| *name == key.name)
    });
    waits && !is_named
}

/// Whether claim or volume name each other, so that nobody need be waited for.
fn is_meant(stock: &Stock, key: &RecordKey, claim: &ClaimRecord, volume: &Name) -> bool {
    let kept_for = stock.written().get(volume).and_then(|facts| facts.kept_for.as_ref());
    claim.spec.volume.as_ref() == Some(volume) || kept_for.is_some_and(|of| is_for(key, of))
}

fn is_for(key: &RecordKey, of: &(Name, Name)) -> bool {
    (&key.namespace, &key.name) == (&of.0, &of.1)
}

/// Whether a claim comes and goes with its pod, and its data with it.
fn is_scratch(claim: &ClaimRecord) -> bool {
    claim.made_for.as_ref().is_some_and(|made| made.pod.is_some())
}

/// The volume that a claim of this name had before, the latest first. One that comes with its pod had
/// none, whoever bore its name.
fn former(state: &State, stock: &Stock, key: &RecordKey, claim: &ClaimRecord) -> Option<Name> {
    if is_scratch(claim) {
        return None;
    }
    let had = state.volumes.iter().filter(|(name, volume)| {
        let of = &volume.claim;
        let names_other = claim.spec.volume.as_ref().is_some_and(|asked| asked != *name);
        volume.is_released
            && volume.leaving.is_none()
            && !names_other
            && (&of.namespace, &of.name) == (&key.namespace, &key.name)
    });
    let suiting = had.filter(|(name, volume)| {
        let facts = stock.facts(name, Some(volume));
        facts.is_some_and(|facts| match &volume.made {
            // It has the data; that a directory was meant for less does not matter.
            Some(_) => {
                let modes = &claim.spec.modes;
                facts.class == claim.class && modes.iter().all(|mode| facts.modes.contains(mode))
            }
            None => facts.suits(claim),
        })
    });
    suiting.max_by_key(|(_, volume)| volume.sequence).map(|(name, _)| name.clone())
}

/// The volume of the repository that suits a claim best: the one that is kept for it, then the
/// smallest.
fn best(
    state: &State,
    stock: &Stock,
    key: &RecordKey,
    claim: &ClaimRecord,
    is_reached: impl Fn(&super::VolumeFacts) -> bool,
    taken: &BTreeSet<Name>,
) -> Option<Name> {
    let free = stock.written().iter().filter(|(name, facts)| {
        let names_other = claim.spec.volume.as_ref().is_some_and(|asked| asked != *name);
        !names_other
            && !taken.contains(*name)
            && !state.volumes.contains_key(*name)
            && facts.kept_for.as_ref().is_none_or(|of| is_for(key, of))
            && facts.suits(claim)
            && is_reached(facts)
    });
    let best = free.min_by_key(|(name, facts)| (facts.kept_for.is_none(), facts.capacity, *name));
    best.map(|(name, _)| name.clone())
}

fn can_make(class: &StorageClass, claim: &ClaimRecord) -> bool {
    // A new volume has no labels, and no name that anybody could have asked for.
    class.provisioner != Provisioner::Nobody
        && claim.spec.selector.is_none()
        && claim.spec.volume.is_none()
}

/// What a claim that has no volume yet would get on a node; nothing if it can get none there. `taken`
/// are volumes promised to other claims of the pod.
pub(in crate::plan) fn choose(
    state: &State,
    stock: &Stock,
    key: &RecordKey,
    claim: &ClaimRecord,
    (node, labels): (&NodeName, &Labels),
    taken: &BTreeSet<Name>,
) -> Option<Choice> {
    let class = stock.class(claim.class.as_ref()?)?;
    if !class.waits {
        return None;
    }
    let is_reached = |facts: &super::VolumeFacts| facts.is_reached_from(node, labels);
    if let Some(volume) = best(state, stock, key, claim, is_reached, taken) {
        return Some(Choice::Take(volume));
    }
    let may = can_make(class, claim) && allows(class.nodes.as_deref(), node, labels);
    may.then_some(Choice::Make)
}

/// Binds a claim; `node` is where its first pod goes.
pub(in crate::plan) fn bind(
    work: &mut Work,
    stock: &Stock,
    key: &RecordKey,
    choice: &Choice,
    node: Option<&NodeName>,
) {
    let Some(claim) = work.next.claim(&key.namespace, &key.name).cloned() else {
        return;
    };
    let of = ClaimReference {
        namespace: key.namespace.clone(),
        name: key.name.clone(),
        uid: claim.uid.clone(),
    };
    let sequence = work.next_sequence();
    let name = match choice {
        Choice::Take(name) => {
            take(work, name, of, sequence);
            name.clone()
        }
        Choice::Make => make(work, stock, &claim, &of, sequence, node),
    };
    work.note(format!("claim {key} is bound to volume {name}"));
    work.next.edit_claim(key, |claim| {
        claim.volume = Some(name);
        claim.message = None;
    });
}

fn take(work: &mut Work, name: &Name, of: ClaimReference, sequence: u64) {
    let (uid, created) = (work.new_uid("volume", name.as_str()), work.now.wall);
    let volumes = Arc::make_mut(&mut work.next.volumes);
    let volume = volumes.entry(name.clone()).or_insert_with(|| VolumeRecord {
        uid,
        created,
        sequence,
        claim: of.clone(),
        is_released: false,
        node: None,
        made: None,
        leaving: None,
        unknown: BTreeMap::new(),
    });
    (volume.claim, volume.sequence, volume.is_released) = (of, sequence, false);
}

fn make(
    work: &mut Work,
    stock: &Stock,
    claim: &ClaimRecord,
    of: &ClaimReference,
    sequence: u64,
    node: Option<&NodeName>,
) -> Name {
    let name = Name::trusted(&format!("pvc-{}", claim.uid));
    let class_name = claim.class.clone().unwrap_or_else(|| Name::trusted(""));
    let class = stock.class(&class_name);
    let is_local = class.is_some_and(|class| class.is_local());
    let record = VolumeRecord {
        uid: work.new_uid("volume", name.as_str()),
        created: work.now.wall,
        sequence,
        node: node.filter(|_| is_local).cloned(),
        made: Some(MadeVolume {
            class: class_name,
            capacity: claim.spec.request,
            modes: claim.spec.modes.clone(),
            reclaim: match is_scratch(claim) {
                true => Reclaim::Delete,
                false => class.map(|class| class.reclaim).unwrap_or_default(),
            },
            is_docker: class
                .is_some_and(|class| matches!(class.provisioner, Provisioner::Docker { .. })),
            home: node.cloned(),
        }),
        is_released: false,
        leaving: None,
        unknown: BTreeMap::new(),
        claim: of.clone(),
    };
    Arc::make_mut(&mut work.next.volumes).insert(name.clone(), record);
    let about = claim_key(&RecordKey::new(&of.namespace, &of.name));
    let message = format!("Successfully provisioned volume {name}");
    work.event(&about, SOURCE, "ProvisioningSucceeded", message);
    name
}

/// Takes note of the node on which a volume is used first: a path of the node without a word on
/// nodes is that node's from then on if one node at a time may use it, for its data is there.
pub(in crate::plan) fn first_use(
    work: &mut Work,
    stock: &Stock,
    claim: &ClaimRecord,
    node: &NodeName,
) {
    let Some(name) = &claim.volume else {
        return;
    };
    let Some(facts) = stock.facts(name, work.next.volumes.get(name)) else {
        return;
    };
    let is_path = matches!(facts.medium, Some(Medium::Path { .. }));
    let pins = is_path && facts.nodes.is_none() && facts.is_exclusive(claim);
    let Some(volume) = work.next.volumes.get(name) else {
        return;
    };
    let has_home = volume.made.as_ref().is_none_or(|made| made.home.is_some());
    if has_home && (!pins || volume.node.is_some()) {
        return;
    }
    if let Some(volume) = Arc::make_mut(&mut work.next.volumes).get_mut(name) {
        if pins && volume.node.is_none() {
            volume.node = Some(node.clone());
        }
        if let Some(made) = &mut volume.made {
            made.home.get_or_insert_with(|| node.clone());
        }
    }
}
