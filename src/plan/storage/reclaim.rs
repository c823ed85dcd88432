//! Volumes whose claim is gone.
//!
//! They are kept for a claim of the same name, unless it is written that they go. Then their node
//! removes the data and says so, and only then are they forgotten: a node that is away keeps its
//! volumes on the list until it is back.

use std::sync::Arc;

use crate::kinds::name::Name;
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::kinds::storage::Reclaim;
use crate::state::records::NodeAllocation;
use crate::state::storage::VolumeRecord;

use super::SOURCE;
use crate::plan::work::Work;

pub(super) fn keep(work: &mut Work) {
    if work.next.volumes.is_empty() {
        return;
    }
    let names: Vec<Name> = work.next.volumes.keys().cloned().collect();
    for name in names {
        release(work, &name);
        empty(work, &name);
        forget(work, &name);
    }
}

fn edit(work: &mut Work, name: &Name, change: impl FnOnce(&mut VolumeRecord)) {
    if let Some(volume) = Arc::make_mut(&mut work.next.volumes).get_mut(name) {
        change(volume);
    }
}

fn key(name: &Name) -> Key {
    Key::cluster(Kind::PersistentVolume, name)
}

/// Lets go of a claim that is no more, or is another one of that name.
fn release(work: &mut Work, name: &Name) {
    let Some(volume) = work.next.volumes.get(name).filter(|volume| !volume.is_released) else {
        return;
    };
    let of = &volume.claim;
    let claim = work.next.claim(&of.namespace, &of.name);
    let is_its = |claim: &&crate::state::storage::ClaimRecord| {
        claim.uid == of.uid && claim.volume.as_ref() == Some(name)
    };
    if claim.filter(is_its).is_none() {
        work.note(format!(
            "volume {name} is released: its claim {}/{} is gone",
            of.namespace, of.name
        ));
        edit(work, name, |volume| volume.is_released = true);
    }
}

/// Has data removed where that is written.
fn empty(work: &mut Work, name: &Name) {
    let Some(volume) = work.next.volumes.get(name) else {
        return;
    };
    let goes = volume.made.as_ref().is_some_and(|made| made.reclaim == Reclaim::Delete);
    if !volume.is_released || volume.leaving.is_some() || !goes {
        return;
    }
    let now = work.now.wall;
    work.note(format!("volume {name} is to be removed, as its class says"));
    let message = "The claim is gone and the reclaim policy is Delete: the data is removed";
    work.event(&key(name), SOURCE, "VolumeDelete", message.to_owned());
    edit(work, name, |volume| volume.leaving = Some(now));
}

/// Forgets volumes of which nothing is left, and those that left the repository unbound.
fn forget(work: &mut Work, name: &Name) {
    let Some(volume) = work.next.volumes.get(name) else {
        return;
    };
    let is_gone = match &volume.made {
        Some(_) if volume.leaving.is_none() => false,
        Some(made) => match &made.home {
            None => true,
            Some(home) => {
                let node = work.input.nodes.get(home);
                let is_removed =
                    node.is_some_and(|node| node.removed_volumes.contains(&volume.uid));
                // A node that a person deleted takes its volumes with it.
                let is_deleted = work.next.nodes.get(home).is_none_or(NodeAllocation::is_forgotten);
                is_removed || is_deleted
            }
        },
        None => volume.is_released && !is_written(work, name),
    };
    if is_gone {
        work.note(format!("volume {name} is gone"));
        Arc::make_mut(&mut work.next.volumes).remove(name);
    }
}

/// Whether a volume stands in the repository, as far as is known.
fn is_written(work: &Work, name: &Name) -> bool {
    let is_unread = work.input.apps.keys().any(|app| !work.is_known(app));
    let key = key(name);
    is_unread || work.revisions.values().any(|its| its.desired.objects.contains_key(&key))
}
