//! ControllerRevisions: which templates a StatefulSet or a DaemonSet has had, and which is in force.
//!
//! As with a Deployment's sets, templates are told apart by what they mean (docs/DESIGN.md, Hard
//! cases 10): a `git revert` returns to the very revision it left, and pods that still have it stay.
//! A record holds no template, only where one is written; what has gone from Git can be returned to
//! no more. Kubernetes' `pkg/controller/history`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::desired::MEANING_VERSION;
use crate::kinds::binding::{AppName, TemplateRef};
use crate::kinds::digest::Digest;
use crate::kinds::name::{Name, PodKey};
use crate::kinds::object::{Key, Object};
use crate::kinds::pod::PodTemplate;
use crate::state::records::RevisionRecord;
use crate::state::{AppState, RecordKey, called_after};

use super::pods::Pod;
use super::work::Work;

/// The label by which a pod says which of its owner's templates it was made from
/// (`ControllerRevisionHashLabelKey`).
pub(super) const LABEL_REVISION: &str = "controller-revision-hash";

/// Characters of the template's digest in a revision's name, as in a ReplicaSet's.
const HASH_LEN: usize = 10;

/// A template that is in force or was, and how it is called.
#[derive(Clone, Debug)]
pub(super) struct Edition {
    /// The ControllerRevision's name.
    pub(super) name: Name,
    /// The template.
    pub(super) template: TemplateRef,
}

impl Edition {
    /// What follows the owner's name in its own.
    pub(super) fn hash(&self, owner: &Name) -> &str {
        let name = self.name.as_str();
        name.strip_prefix(owner.as_str()).and_then(|rest| rest.strip_prefix('-')).unwrap_or(name)
    }
}

/// Sees to it that the template in force is the newest of its owner's history.
pub(super) fn in_force(
    work: &mut Work,
    app: &AppName,
    object: &Object,
    template: &PodTemplate,
) -> Option<Edition> {
    let namespace = object.key.namespace.clone()?;
    let reference = work.reference(app, object, template)?;
    let history = history(work, app, &object.key);
    let newest = history.last().map_or(0, |(_, record)| record.revision);
    let known = history
        .iter()
        .find(|(_, record)| work.still_means(&record.template, template) == Some(true));
    let (name, record) = match known {
        Some((name, record)) => {
            let mut record = RevisionRecord::clone(record);
            if record.template.meaning_version != MEANING_VERSION {
                record.template = reference;
            }
            if record.revision < newest {
                record.revision = newest.saturating_add(1);
            }
            (name.clone(), record)
        }
        None => {
            let name = free_name(work, app, &namespace, &object.key.name, template);
            work.note(format!("{}: new revision {name} for a new template", object.key));
            let record = RevisionRecord {
                uid: work.new_uid("controllerrevision", &format!("{namespace}/{name}")),
                owner: object.key.clone(),
                template: reference,
                revision: newest.saturating_add(1),
                created: work.now.wall,
                unknown: BTreeMap::new(),
            };
            (name, record)
        }
    };
    let edition = Edition { name: name.clone(), template: record.template.clone() };
    let own = RecordKey::new(&namespace, &name);
    let state = work.next.apps.entry(app.clone()).or_default();
    if state.revisions.get(&own).is_none_or(|before| **before != record) {
        state.revisions.insert(own, Arc::new(record));
    }
    Some(edition)
}

/// A revision that is remembered.
pub(super) fn edition(work: &Work, app: &AppName, owner: &Key, name: &Name) -> Option<Edition> {
    edition_of(work.next.apps.get(app)?, owner, name)
}

/// The same, in an app's records.
pub(super) fn edition_of(state: &AppState, owner: &Key, name: &Name) -> Option<Edition> {
    let key = RecordKey::new(owner.namespace.as_ref()?, name);
    let record = state.revisions.get(&key)?;
    Some(Edition { name: name.clone(), template: record.template.clone() })
}

/// The revision of an owner that came into force last.
pub(super) fn newest(state: &AppState, owner: &Key) -> Option<Name> {
    history_in(state, owner).pop().map(|(name, _)| name)
}

/// What is remembered of an owner's templates, the one in force last.
fn history(work: &Work, app: &AppName, owner: &Key) -> Vec<(Name, Arc<RevisionRecord>)> {
    work.next.apps.get(app).map(|state| history_in(state, owner)).unwrap_or_default()
}

fn history_in(state: &AppState, owner: &Key) -> Vec<(Name, Arc<RevisionRecord>)> {
    let Some(namespace) = owner.namespace.as_ref() else {
        return Vec::new();
    };
    let mut own: Vec<(Name, Arc<RevisionRecord>)> =
        called_after(&state.revisions, namespace, &owner.name)
            .filter(|(_, record)| record.owner == *owner)
            .map(|(key, record)| (key.name.clone(), record.clone()))
            .collect();
    own.sort_by_key(|(_, record)| record.revision);
    own
}

/// The owner's name and a digest of the template as written, salted where that is taken.
fn free_name(
    work: &Work,
    app: &AppName,
    namespace: &Name,
    owner: &Name,
    template: &PodTemplate,
) -> Name {
    let known = work.next.apps.get(app).map(|state| &state.revisions);
    let mut salted = template.written;
    loop {
        let name = Name::trusted(&format!("{owner}-{}", salted.safe_text(HASH_LEN)));
        let is_taken =
            known.is_some_and(|known| known.contains_key(&PodKey::new(namespace, &name)));
        if !is_taken {
            return name;
        }
        salted = Digest::of(salted.hex().as_bytes());
    }
}

/// Forgets revisions beyond `limit`, the oldest first; those that are in use stay
/// (`truncateHistory`).
pub(super) fn forget_old(
    work: &mut Work,
    app: &AppName,
    owner: &Key,
    in_use: &BTreeSet<Name>,
    limit: u32,
) {
    let Some(namespace) = &owner.namespace else {
        return;
    };
    let idle: Vec<Name> = history(work, app, owner)
        .into_iter()
        .map(|(name, _)| name)
        .filter(|name| !in_use.contains(name))
        .collect();
    let surplus = idle.len().saturating_sub(usize::try_from(limit).unwrap_or(usize::MAX));
    if let Some(state) = work.next.apps.get_mut(app) {
        for name in idle.into_iter().take(surplus) {
            state.revisions.remove(&RecordKey::new(namespace, &name));
        }
    }
}

/// Forgets what belongs to objects that are gone from Git; their pods have been ended by
/// [`super::claim`].
pub(super) fn forget_orphans(work: &mut Work) {
    for (app, revision) in &work.revisions {
        if let Some(state) = work.next.apps.get_mut(app) {
            let objects = &revision.desired.objects;
            state.revisions.retain(|_, record| objects.contains_key(&record.owner));
        }
    }
}

/// Whether a pod was made from the template of this name. The name of a DaemonSet's revision stands
/// in its pods' labels without the DaemonSet's own.
pub(super) fn is_of(pod: &Pod, label: &str) -> bool {
    pod.binding.labels.get(LABEL_REVISION).is_some_and(|its| its == label)
}
