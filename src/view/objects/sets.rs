//! StatefulSets and DaemonSets with their counts, and the templates they have had.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::workload::{ANNOTATION_CAUSE, Owned, set_generation};
use super::{Shown, meta};
use crate::desired::Desired;
use crate::kinds::name::NodeName;
use crate::kinds::object::{Body, Key};
use crate::kinds::registry::Kind;
use crate::kinds::workload::{DaemonSet, StatefulSet};
use crate::plan::{self, Pod, Tally, template_of};
use crate::state::RecordKey;
use crate::state::records::RevisionRecord;
use crate::view::json::child;
use crate::view::picture::{Found, Picture};

/// The label by which a pod says which of its owner's templates it was made from.
const LABEL_REVISION: &str = "controller-revision-hash";
/// The same on a StatefulSet's ControllerRevisions.
const LABEL_HASH: &str = "controller.kubernetes.io/hash";

pub(super) fn stateful_sets(picture: &Picture) -> Vec<Shown> {
    let owned = Owned::of(picture);
    let objects = picture.objects_of(Kind::StatefulSet);
    objects.map(|found| stateful_set(picture, &found, &owned)).collect()
}

fn stateful_set(picture: &Picture, found: &Found<'_>, owned: &Owned) -> Shown {
    let key = &found.object.key;
    let mut object = meta::written(found);
    if let (Body::StatefulSet(spec), Some(namespace)) = (&found.object.body, &key.namespace) {
        let state = picture.state.apps.get(found.app);
        let own = RecordKey::new(namespace, &key.name);
        let record = state.and_then(|state| state.stateful_sets.get(&own));
        let (current, update) =
            record.map_or(("", ""), |record| (record.current.as_str(), record.update.as_str()));
        let generation = newest_revision(picture, key);
        set_generation(&mut object, generation);
        let status = stateful_status(spec, owned.of_owner(key), current, update, generation);
        object.insert("status".into(), status);
    }
    Shown::new(key.clone(), Value::Object(object))
}

/// The counts of `updateStatefulSet`. A pod that is being ended is there and is of no revision.
fn stateful_status(
    spec: &StatefulSet,
    pods: &[Pod],
    current: &str,
    update: &str,
    generation: u64,
) -> Value {
    let tally = Tally::of(pods, spec.min_ready_s);
    let of = |revision: &str| {
        let pods = pods.iter().filter(|pod| pod.is_active());
        pods.filter(|pod| revision_of(pod) == Some(revision)).count()
    };
    let mut status = json!({
        "observedGeneration": generation,
        "replicas": pods.len(),
        "availableReplicas": tally.available,
        "collisionCount": 0,
    });
    for (name, count) in [
        ("readyReplicas", usize::try_from(tally.ready).unwrap_or(usize::MAX)),
        ("currentReplicas", of(current)),
        ("updatedReplicas", of(update)),
    ] {
        if count > 0 {
            status[name] = count.into();
        }
    }
    for (name, revision) in [("currentRevision", current), ("updateRevision", update)] {
        if !revision.is_empty() {
            status[name] = revision.into();
        }
    }
    status
}

fn revision_of(pod: &Pod) -> Option<&str> {
    pod.binding.labels.get(LABEL_REVISION).map(String::as_str)
}

/// The number of the newest template; a turn takes up a commit and its sets together, so that what is
/// in force is always also observed.
fn newest_revision(picture: &Picture, owner: &Key) -> u64 {
    newest(picture, owner).map_or(1, |(_, record)| record.revision)
}

fn newest<'p>(
    picture: &'p Picture,
    owner: &Key,
) -> Option<(&'p RecordKey, &'p Arc<RevisionRecord>)> {
    let states = picture.state.apps.values();
    let records = states.flat_map(|state| &state.revisions);
    let own = records.filter(|(_, record)| record.owner == *owner);
    own.max_by_key(|(_, record)| record.revision)
}

pub(super) fn daemon_sets(picture: &Picture) -> Vec<Shown> {
    let owned = Owned::of(picture);
    let objects = picture.objects_of(Kind::DaemonSet);
    objects.map(|found| daemon_set(picture, &found, &owned)).collect()
}

fn daemon_set(picture: &Picture, found: &Found<'_>, owned: &Owned) -> Shown {
    let key = &found.object.key;
    let mut object = meta::written(found);
    if let Body::DaemonSet(spec) = &found.object.body {
        let generation = newest_revision(picture, key);
        set_generation(&mut object, generation);
        let prefix = format!("{}-", key.name);
        let hash = newest(picture, key)
            .and_then(|(key, _)| key.name.as_str().strip_prefix(&prefix))
            .unwrap_or_default();
        let desired: Vec<&Desired> =
            picture.apps.values().filter_map(|app| Some(&*app.applied.as_ref()?.desired)).collect();
        let wanted =
            plan::wanted_nodes(&picture.nodes, &picture.state.nodes, &desired, &spec.template.spec);
        let mut status = daemon_status(spec, owned.of_owner(key), &wanted, hash);
        status["observedGeneration"] = generation.into();
        object.insert("status".into(), status);
    }
    Shown::new(key.clone(), Value::Object(object))
}

/// The counts of `updateDaemonSetStatus`: of nodes, not of pods.
fn daemon_status(spec: &DaemonSet, pods: &[Pod], wanted: &BTreeSet<NodeName>, hash: &str) -> Value {
    let nodes = |counts: &dyn Fn(&Pod) -> bool| -> BTreeSet<&NodeName> {
        let pods = pods.iter().filter(|pod| pod.is_active() && counts(pod));
        pods.filter_map(|pod| pod.binding.only_node.as_ref()).collect()
    };
    let among = |nodes: BTreeSet<&NodeName>| {
        nodes.into_iter().filter(|node| wanted.contains(*node)).count()
    };
    let all = nodes(&|_| true);
    let is_available = |pod: &Pod| Tally::of([pod], spec.min_ready_s).available > 0;
    let misplaced = all.iter().filter(|node| !wanted.contains(**node)).count();
    let available = among(nodes(&is_available));
    let mut status = json!({
        "currentNumberScheduled": among(all),
        "numberMisscheduled": misplaced,
        "desiredNumberScheduled": wanted.len(),
        "numberReady": among(nodes(&Pod::is_ready)),
    });
    for (name, count) in [
        ("updatedNumberScheduled", among(nodes(&|pod| revision_of(pod) == Some(hash)))),
        ("numberAvailable", available),
        ("numberUnavailable", wanted.len().saturating_sub(available)),
    ] {
        if count > 0 {
            status[name] = count.into();
        }
    }
    status
}

pub(super) fn revisions(picture: &Picture) -> Vec<Shown> {
    let records = picture.state.apps.values().flat_map(|state| &state.revisions);
    records.map(|(key, record)| revision(picture, key, record)).collect()
}

/// As `history.NewControllerRevision` makes it.
fn revision(picture: &Picture, key: &RecordKey, record: &RevisionRecord) -> Shown {
    let owner = &record.owner;
    let prefix = format!("{}-", owner.name);
    let hash = key.name.as_str().strip_prefix(&prefix).unwrap_or_default();
    let found = template_of(&record.template, &picture.apps, &picture.library);
    let parsed = found.and_then(|template| serde_json::from_str(&template.json).ok());
    let key = Key::namespaced(Kind::ControllerRevision, &key.namespace, &key.name);
    let mut object = meta::blank(&key);
    meta::identify(&mut object, &record.uid, Some(record.created));
    let metadata = child(&mut object, "metadata");
    let labels = child(metadata, "labels");
    if let Some(Value::Object(own)) =
        parsed.as_ref().and_then(|template: &Value| template.pointer("/metadata/labels"))
    {
        labels.extend(own.clone());
    }
    let label = if owner.kind == Kind::DaemonSet { LABEL_REVISION } else { LABEL_HASH };
    labels.insert(label.into(), hash.into());
    let cause = format!("commit {}", record.template.revision.short());
    child(metadata, "annotations").insert(ANNOTATION_CAUSE.into(), cause.into());
    if let Some(entry) = picture.object(owner).and_then(|found| found.entry) {
        let (version, kind) = (owner.kind.api_version(), owner.kind.name());
        let reference = meta::owner(&version, kind, &owner.name, &entry.uid);
        metadata.insert("ownerReferences".into(), reference);
    }
    let place = meta::place(picture, &record.template);
    meta::cite(&mut object, record.template.revision.as_str(), &place);
    // Absent while its commit has not been read.
    if let Some(Value::Object(mut template)) = parsed {
        template.insert("$patch".into(), "replace".into());
        object.insert("data".into(), json!({"spec": {"template": Map::from_iter(template)}}));
    }
    object.insert("revision".into(), record.revision.into());
    Shown::new(key, Value::Object(object))
}
