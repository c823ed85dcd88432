//! Claims, volumes and classes: what is written, joined with what was bound.

use serde_json::{Map, Value, json};

use super::{Shown, meta};
use crate::kinds::name::Name;
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::kinds::storage::{
    AccessMode, ClaimSpec, LOCAL_PATH_CLASS, LOCAL_PATH_PROVISIONER, Medium, StorageClass,
};
use crate::kinds::time::Wall;
use crate::plan::storage::{Stock, VolumeFacts};
use crate::state::RecordKey;
use crate::state::storage::{ClaimRecord, VolumeRecord};
use crate::view::json::child;
use crate::view::picture::Picture;

/// What keeps a claim until no pod uses it.
const CLAIM_FINALIZER: &str = "kubernetes.io/pvc-protection";
/// What keeps a volume until its claim is gone.
const VOLUME_FINALIZER: &str = "kubernetes.io/pv-protection";

/// What the revisions in force have of classes and volumes.
pub(in crate::view) fn stock(picture: &Picture) -> Stock {
    let applied = picture.apps.values().filter_map(|app| app.applied.as_ref());
    Stock::of(applied.map(|revision| &*revision.desired))
}

pub(super) fn claims(picture: &Picture) -> Vec<Shown> {
    let stock = stock(picture);
    let mut shown: Vec<Shown> = Vec::new();
    for (key, record) in picture.state.all_claims() {
        shown.push(claim(picture, &stock, &key, record));
    }
    // One that came into force this moment has no record yet.
    for found in picture.objects_of(Kind::PersistentVolumeClaim) {
        if shown.iter().all(|shown| shown.key != found.object.key) {
            let mut object = meta::written(&found);
            object.insert("status".into(), json!({"phase": "Pending"}));
            shown.push(Shown::new(found.object.key.clone(), Value::Object(object)));
        }
    }
    shown
}

fn claim(picture: &Picture, stock: &Stock, key: &RecordKey, record: &ClaimRecord) -> Shown {
    let name = Key::namespaced(Kind::PersistentVolumeClaim, &key.namespace, &key.name);
    let mut object = match picture.object(&name) {
        Some(found) => meta::written(&found),
        None => {
            let mut object = meta::blank(&name);
            object.insert("spec".into(), spec(&record.spec));
            if let Some(made_for) = &record.made_for {
                let metadata = child(&mut object, "metadata");
                metadata.insert("labels".into(), json!(made_for.labels));
                metadata.insert("annotations".into(), json!(made_for.annotations));
                if let Some(pod) = &made_for.pod {
                    let owner = meta::owner("v1", "Pod", &made_for.owner.name, pod);
                    metadata.insert("ownerReferences".into(), owner);
                }
            }
            object
        }
    };
    meta::identify(&mut object, &record.uid, Some(record.created));
    keep(&mut object, CLAIM_FINALIZER, record.leaving);
    let volume = record.volume.as_ref();
    let facts = volume.and_then(|name| stock.facts(name, picture.state.volumes.get(name)));
    let spec = child(&mut object, "spec");
    if let Some(class) = &record.class {
        spec.insert("storageClassName".into(), class.as_str().into());
    }
    if let Some(volume) = volume {
        spec.insert("volumeName".into(), volume.as_str().into());
    }
    let status = match (volume, facts) {
        (None, _) => json!({"phase": "Pending"}),
        (Some(_), None) => json!({"phase": "Lost"}),
        (Some(_), Some(facts)) => json!({
            "phase": "Bound",
            "accessModes": modes(&facts.modes),
            "capacity": {"storage": facts.capacity.to_string()},
        }),
    };
    object.insert("status".into(), status);
    Shown::new(name, Value::Object(object))
}

/// Says what keeps an object, and since when it would go.
fn keep(object: &mut Map<String, Value>, finalizer: &str, leaving: Option<Wall>) {
    let metadata = child(object, "metadata");
    metadata.insert("finalizers".into(), json!([finalizer]));
    if let Some(since) = leaving {
        metadata.insert("deletionTimestamp".into(), since.to_string().into());
        metadata.insert("deletionGracePeriodSeconds".into(), 0.into());
    }
}

fn modes(modes: &[AccessMode]) -> Value {
    modes.iter().map(|mode| mode.as_str()).collect()
}

fn spec(spec: &ClaimSpec) -> Value {
    let mut shown = json!({
        "accessModes": modes(&spec.modes),
        "resources": {"requests": {"storage": spec.request.to_string()}},
        "volumeMode": "Filesystem",
    });
    if let Some(volume) = &spec.volume {
        shown["volumeName"] = volume.as_str().into();
    }
    shown
}

pub(super) fn volumes(picture: &Picture) -> Vec<Shown> {
    let stock = stock(picture);
    let mut shown = Vec::new();
    for found in picture.objects_of(Kind::PersistentVolume) {
        let name = &found.object.key.name;
        let record = picture.state.volumes.get(name);
        let mut object = meta::written(&found);
        finish(picture, &mut object, record, stock.facts(name, record).as_ref());
        shown.push(Shown::new(found.object.key.clone(), Value::Object(object)));
    }
    for (name, record) in picture.state.volumes.iter().filter(|(_, its)| its.made.is_some()) {
        let key = Key::cluster(Kind::PersistentVolume, name);
        let Some(facts) = stock.facts(name, Some(record)) else {
            continue;
        };
        let mut object = meta::blank(&key);
        meta::identify(&mut object, &record.uid, Some(record.created));
        object.insert("spec".into(), made_spec(&facts));
        finish(picture, &mut object, Some(record), Some(&facts));
        shown.push(Shown::new(key, Value::Object(object)));
    }
    shown
}

/// The spec of a volume that we made.
fn made_spec(facts: &VolumeFacts) -> Value {
    let class = facts.class.as_ref().map_or("", Name::as_str);
    let mut spec = json!({
        "accessModes": modes(&facts.modes),
        "capacity": {"storage": facts.capacity.to_string()},
        "persistentVolumeReclaimPolicy": facts.reclaim.as_str(),
        "storageClassName": class,
        "volumeMode": "Filesystem",
    });
    match &facts.medium {
        // Below the directory that the node's agent.yaml names for volumes.
        Some(Medium::Directory(name)) => spec["local"] = json!({"path": name}),
        Some(Medium::Path { path, .. }) => spec["hostPath"] = json!({"path": path}),
        // Kubernetes has no words for a volume of Docker's; this is what it had for plug-ins.
        Some(Medium::Docker { name, driver, .. }) => {
            spec["flexVolume"] =
                json!({"driver": format!("docker/{driver}"), "options": {"name": name}});
        }
        None => {}
    }
    spec
}

/// What of a volume is not written: its claim, its node, its phase.
fn finish(
    picture: &Picture,
    object: &mut Map<String, Value>,
    record: Option<&VolumeRecord>,
    facts: Option<&VolumeFacts>,
) {
    keep(object, VOLUME_FINALIZER, record.and_then(|record| record.leaving));
    let spec = child(object, "spec");
    if let Some(record) = record {
        let of = &record.claim;
        spec.insert(
            "claimRef".into(),
            json!({
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": of.namespace.as_str(),
                "name": of.name.as_str(),
                "uid": of.uid.as_str(),
            }),
        );
    }
    if let Some(node) = facts.and_then(|facts| facts.node.as_ref()) {
        let named = json!({"key": "metadata.name", "operator": "In", "values": [node.as_str()]});
        let terms = json!([{"matchFields": [named]}]);
        spec.insert("nodeAffinity".into(), json!({"required": {"nodeSelectorTerms": terms}}));
    }
    let phase = match record {
        None => "Available",
        Some(record) if record.is_released || !has_claim(picture, record) => "Released",
        Some(_) => "Bound",
    };
    object.insert("status".into(), json!({"phase": phase}));
}

fn has_claim(picture: &Picture, record: &VolumeRecord) -> bool {
    let of = &record.claim;
    let claim = picture.state.claim(&of.namespace, &of.name);
    claim.is_some_and(|claim| claim.uid == of.uid)
}

pub(super) fn classes(picture: &Picture) -> Vec<Shown> {
    let mut shown = super::written::list(picture, Kind::StorageClass);
    let key = Key::cluster(Kind::StorageClass, &Name::trusted(LOCAL_PATH_CLASS));
    if shown.iter().any(|shown| shown.key == key) {
        return shown;
    }
    let stock = stock(picture);
    let Some(class) = stock.class(&key.name) else {
        return shown;
    };
    shown.push(Shown::new(key.clone(), Value::Object(given(picture, &key, class))));
    shown
}

/// The class that is there though no repository says so.
fn given(picture: &Picture, key: &Key, class: &StorageClass) -> Map<String, Value> {
    let mut object = meta::blank(key);
    meta::identify(&mut object, &meta::given_uid(key), picture.born());
    let is_default = class.is_default.to_string();
    child(child(&mut object, "metadata"), "annotations")
        .insert("storageclass.kubernetes.io/is-default-class".into(), is_default.into());
    object.insert("provisioner".into(), LOCAL_PATH_PROVISIONER.into());
    object.insert("reclaimPolicy".into(), class.reclaim.as_str().into());
    object.insert("volumeBindingMode".into(), "WaitForFirstConsumer".into());
    object
}
