//! `metadata`: the same for every object.

use serde_json::{Map, Value, json};

use crate::kinds::binding::TemplateRef;
use crate::kinds::digest::Digest;
use crate::kinds::finding::Place;
use crate::kinds::name::{Name, Uid};
use crate::kinds::object::Key;
use crate::kinds::time::Wall;
use crate::view::json::child;
use crate::view::picture::{Found, Picture};

/// What all annotations of ours begin with.
pub const ANNOTATION_PREFIX: &str = "windlass.dev/";
/// The commit by which an object is as it is: the revision in force, or the one a pod was made from.
pub const ANNOTATION_COMMIT: &str = "windlass.dev/commit";
/// The file and line it is written in.
pub const ANNOTATION_SOURCE: &str = "windlass.dev/source";
/// For whom that was encrypted which a node can open, with commas between.
pub const ANNOTATION_RECIPIENTS: &str = "windlass.dev/age-recipients";
/// Who cordoned a node, beside Git, and since when.
pub(in crate::view) const ANNOTATION_CORDONED: &str = "windlass.dev/cordoned";
/// Who has a node drained, and since when; while it is.
pub(in crate::view) const ANNOTATION_DRAINING: &str = "windlass.dev/draining";
/// Who declared a node dead, and since when; until it is back.
pub(in crate::view) const ANNOTATION_FENCED: &str = "windlass.dev/fenced";
/// How much of the image has come that a pod's container waits for: `27%`, or `3/7` layers.
pub(in crate::view) const ANNOTATION_PULLED: &str = "windlass.dev/pulled";

/// An object with nothing but its type and name.
pub(super) fn blank(key: &Key) -> Map<String, Value> {
    let mut object = Map::new();
    object.insert("apiVersion".into(), key.kind.api_version().into());
    object.insert("kind".into(), key.kind.name().into());
    let metadata = child(&mut object, "metadata");
    metadata.insert("name".into(), key.name.as_str().into());
    if let Some(namespace) = &key.namespace {
        metadata.insert("namespace".into(), namespace.as_str().into());
    }
    object
}

/// Says which life of the object this is, and since when it lives.
pub(super) fn identify(object: &mut Map<String, Value>, uid: &Uid, created: Option<Wall>) {
    let metadata = child(object, "metadata");
    metadata.insert("uid".into(), uid.as_str().into());
    let created = created.map_or(Value::Null, |created| created.to_string().into());
    metadata.insert("creationTimestamp".into(), created);
}

/// Says where an object is written.
pub(super) fn cite(object: &mut Map<String, Value>, commit: &str, place: &Place) {
    let annotations = child(child(object, "metadata"), "annotations");
    annotations.insert(ANNOTATION_COMMIT.into(), commit.into());
    let place = Place { column: 0, ..place.clone() };
    annotations.insert(ANNOTATION_SOURCE.into(), place.to_string().into());
}

/// Where a template is written. The line is known only of what stands in the revision in force.
pub(in crate::view) fn place(picture: &Picture, reference: &TemplateRef) -> Place {
    let found = picture.object(&reference.owner);
    let in_force = found.filter(|found| *found.object.place.path == *reference.path);
    in_force.map_or_else(|| Place::file(&reference.path), |found| found.object.place.clone())
}

/// A written object with everything but its status.
pub(super) fn written(found: &Found<'_>) -> Map<String, Value> {
    let parsed = serde_json::from_str(&found.object.json);
    let mut object = match parsed {
        Ok(Value::Object(object)) => object,
        // What passed the door is JSON; its bare name is still better than a hole in a list.
        _ => blank(&found.object.key),
    };
    if let Some(entry) = found.entry {
        identify(&mut object, &entry.uid, Some(entry.created));
    } else {
        identify(&mut object, &given_uid(&found.object.key), None);
    }
    cite(&mut object, found.revision.commit_of(&found.object.key).as_str(), &found.object.place);
    object
}

/// The id of an object that exists by itself: the same on every node and at every time.
pub(super) fn given_uid(key: &Key) -> Uid {
    Uid::from_bytes(Digest::of_parts([b"given".as_slice(), key.to_string().as_bytes()]).first_16())
}

/// A reference to the object that owns another and decides its end.
pub(super) fn owner(api_version: &str, kind: &str, name: &Name, uid: &Uid) -> Value {
    json!([{
        "apiVersion": api_version,
        "kind": kind,
        "name": name.as_str(),
        "uid": uid.as_str(),
        "controller": true,
        "blockOwnerDeletion": true,
    }])
}
