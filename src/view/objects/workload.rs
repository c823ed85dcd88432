//! ReplicaSets, ReplicationControllers and Deployments, with their counts.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Shown, meta};
use crate::kinds::object::{Body, Key};
use crate::kinds::registry::Kind;
use crate::kinds::workload::Deployment;
use crate::plan::{Pod, REASON_PAUSED, REASON_RESUMED, Tally, still_means, template_of};
use crate::state::records::{ConditionRecord, DeploymentRecord, SetRecord};
use crate::view::json::child;
use crate::view::picture::{Found, FoundSet, Picture};

/// The label that tells a Deployment's sets apart.
const LABEL_TEMPLATE_HASH: &str = "pod-template-hash";
/// The number of a ReplicaSet in its Deployment's history.
pub(in crate::view) const ANNOTATION_REVISION: &str = "deployment.kubernetes.io/revision";
/// Earlier numbers of it.
const ANNOTATION_REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
const ANNOTATION_DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const ANNOTATION_MAX: &str = "deployment.kubernetes.io/max-replicas";
/// What `kubectl rollout history` shows beside a revision's number.
pub(super) const ANNOTATION_CAUSE: &str = "kubernetes.io/change-cause";

/// Pods by owner, gathered once for a whole list.
pub(super) struct Owned(BTreeMap<Key, Vec<Pod>>);

impl Owned {
    pub(super) fn of(picture: &Picture) -> Self {
        let mut owned: BTreeMap<Key, Vec<Pod>> = BTreeMap::new();
        for pod in picture.pods() {
            let owner = pod.binding.owner.clone();
            owned.entry(owner).or_default().push(pod);
        }
        Self(owned)
    }

    pub(super) fn of_owner(&self, owner: &Key) -> &[Pod] {
        self.0.get(owner).map_or(&[], Vec::as_slice)
    }

    fn tally(&self, owner: &Key, min_ready_s: u32) -> Tally {
        Tally::of(self.of_owner(owner), min_ready_s)
    }
}

pub(super) fn sets(picture: &Picture, kind: Kind) -> Vec<Shown> {
    let owned = Owned::of(picture);
    let mut shown: Vec<Shown> =
        picture.objects_of(kind).map(|found| written_set(&found, &owned)).collect();
    if kind == Kind::ReplicaSet {
        shown.extend(picture.sets().map(|set| made_set(picture, &set, &owned)));
    }
    shown
}

fn written_set(found: &Found<'_>, owned: &Owned) -> Shown {
    let key = &found.object.key;
    let mut object = meta::written(found);
    if let Body::ReplicaSet(set) = &found.object.body {
        let tally = owned.tally(key, set.min_ready_s);
        set_generation(&mut object, 1);
        object.insert("status".into(), set_status(tally));
    }
    Shown::new(key.clone(), Value::Object(object))
}

pub(super) fn set_generation(object: &mut Map<String, Value>, generation: u64) {
    child(object, "metadata").insert("generation".into(), generation.into());
}

/// Zeros are left out, as Kubernetes does; `replicas` always stands.
fn set_status(tally: Tally) -> Value {
    let mut status = json!({"replicas": tally.active, "observedGeneration": 1});
    let counts = [
        ("fullyLabeledReplicas", tally.active),
        ("readyReplicas", tally.ready),
        ("availableReplicas", tally.available),
    ];
    for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        status[name] = count.into();
    }
    status
}

/// A ReplicaSet as Kubernetes' Deployment controller would have made it.
fn made_set(picture: &Picture, set: &FoundSet<'_>, owned: &Owned) -> Shown {
    let record = set.record;
    let key = Key::namespaced(Kind::ReplicaSet, &set.key.namespace, &set.key.name);
    let deployment_key = Key::namespaced(Kind::Deployment, &set.key.namespace, &record.deployment);
    let deployment = picture.object(&deployment_key);
    let spec = deployment.and_then(|found| match &found.object.body {
        Body::Deployment(spec) => Some(spec),
        _ => None,
    });
    let min_ready_s = spec.map_or(0, |spec| spec.min_ready_s);
    let template = template(picture, record);

    let mut object = meta::blank(&key);
    meta::identify(&mut object, &record.uid, Some(record.created));
    let metadata = child(&mut object, "metadata");
    let labels = template.pointer("/metadata/labels").cloned();
    metadata.insert("labels".into(), labels.unwrap_or_else(|| json!({})));
    metadata.insert("annotations".into(), annotations(record));
    if let Some(entry) = deployment.and_then(|found| found.entry) {
        let owner = meta::owner("apps/v1", "Deployment", &record.deployment, &entry.uid);
        metadata.insert("ownerReferences".into(), owner);
    }
    set_generation(&mut object, 1);
    let place = meta::place(picture, &record.template);
    meta::cite(&mut object, record.template.revision.as_str(), &place);

    let mut spec_json = json!({
        "replicas": record.replicas,
        "selector": selector(deployment.as_ref(), record),
        "template": template,
    });
    if min_ready_s > 0 {
        spec_json["minReadySeconds"] = min_ready_s.into();
    }
    object.insert("spec".into(), spec_json);
    object.insert("status".into(), set_status(owned.tally(&key, min_ready_s)));
    Shown::new(key, Value::Object(object))
}

fn annotations(record: &SetRecord) -> Value {
    let mut annotations = json!({
        ANNOTATION_DESIRED: record.desired.to_string(),
        ANNOTATION_MAX: record.max.to_string(),
        ANNOTATION_REVISION: record.revision.to_string(),
        ANNOTATION_CAUSE: format!("commit {}", record.template.revision.short()),
    });
    if !record.earlier_revisions.is_empty() {
        let earlier: Vec<String> =
            record.earlier_revisions.iter().map(ToString::to_string).collect();
        annotations[ANNOTATION_REVISION_HISTORY] = earlier.join(",").into();
    }
    annotations
}

/// The set's template with its hash; empty while its commit can't be read.
fn template(picture: &Picture, record: &SetRecord) -> Value {
    let found = template_of(&record.template, &picture.apps, &picture.library);
    let parsed = found.and_then(|template| serde_json::from_str(&template.json).ok());
    let mut template = match parsed {
        Some(Value::Object(template)) => template,
        _ => Map::from_iter([("spec".to_owned(), json!({"containers": []}))]),
    };
    let labels = child(child(&mut template, "metadata"), "labels");
    labels.insert(LABEL_TEMPLATE_HASH.into(), record.hash.as_str().into());
    Value::Object(template)
}

fn selector(deployment: Option<&Found<'_>>, record: &SetRecord) -> Value {
    let written = deployment
        .and_then(|found| serde_json::from_str::<Value>(&found.object.json).ok())
        .and_then(|json| json.pointer("/spec/selector").cloned());
    let mut selector = match written {
        Some(Value::Object(selector)) => selector,
        _ => Map::new(),
    };
    let labels = child(&mut selector, "matchLabels");
    labels.insert(LABEL_TEMPLATE_HASH.into(), record.hash.as_str().into());
    Value::Object(selector)
}

pub(super) fn deployments(picture: &Picture) -> Vec<Shown> {
    let owned = Owned::of(picture);
    let objects = picture.objects_of(Kind::Deployment);
    objects.map(|found| deployment(picture, &found, &owned)).collect()
}

fn deployment(picture: &Picture, found: &Found<'_>, owned: &Owned) -> Shown {
    let key = &found.object.key;
    let mut object = meta::written(found);
    if let (Body::Deployment(spec), Some(namespace)) = (&found.object.body, &key.namespace) {
        let record_key = crate::state::RecordKey::new(namespace, &key.name);
        let state = picture.state.apps.get(found.app);
        let record =
            state.and_then(|state| state.deployments.get(&record_key)).map(|record| &**record);
        let sets = picture.sets_of(namespace, &key.name);
        let revision = record.map_or(0, |record| record.revision);
        // A turn takes up a commit and its Deployments together: what is in force is always also
        // observed.
        set_generation(&mut object, revision.max(1));
        if revision > 0 {
            let annotations = child(child(&mut object, "metadata"), "annotations");
            annotations.insert(ANNOTATION_REVISION.into(), revision.to_string().into());
        }
        object.insert("status".into(), status(picture, spec, record, &sets, owned));
    }
    Shown::new(key.clone(), Value::Object(object))
}

/// The counts as `deploymentutil` computes them.
fn status(
    picture: &Picture,
    spec: &Deployment,
    record: Option<&DeploymentRecord>,
    sets: &[FoundSet<'_>],
    owned: &Owned,
) -> Value {
    let tally = |set: &FoundSet<'_>| {
        let key = Key::namespaced(Kind::ReplicaSet, &set.key.namespace, &set.key.name);
        owned.tally(&key, spec.min_ready_s)
    };
    let all = sets.iter().map(tally).fold(Tally::default(), |a, b| a + b);
    let current = sets
        .iter()
        .filter(|set| {
            let said = &set.record.template;
            still_means(said, &spec.template, &picture.apps, &picture.library) == Some(true)
        })
        .map(tally)
        .fold(Tally::default(), |a, b| a + b);
    let wanted: u32 = sets.iter().map(|set| set.record.replicas).sum();
    let mut status = json!({
        "observedGeneration": record.map_or(1, |record| record.revision.max(1)),
    });
    let counts = [
        ("replicas", all.active),
        ("updatedReplicas", current.active),
        ("readyReplicas", all.ready),
        ("availableReplicas", all.available),
        ("unavailableReplicas", wanted.saturating_sub(all.available)),
        ("collisionCount", record.map_or(0, |record| record.collisions)),
    ];
    for (name, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
        status[name] = count.into();
    }
    if let Some(record) = record {
        let mut conditions = vec![condition("Available", &record.available)];
        // Without a deadline nobody asks whether it moves, as in Kubernetes.
        if spec.progress_deadline_s.is_some() {
            conditions.push(condition("Progressing", &record.progressing));
        }
        status["conditions"] = conditions.into();
    }
    status
}

fn condition(kind: &str, record: &ConditionRecord) -> Value {
    let status = match record.reason.as_str() {
        REASON_PAUSED | REASON_RESUMED => "Unknown",
        _ if record.status => "True",
        _ => "False",
    };
    json!({
        "type": kind,
        "status": status,
        "lastUpdateTime": record.updated.to_string(),
        "lastTransitionTime": record.since.to_string(),
        "reason": record.reason,
        "message": record.message,
    })
}
