//! What may be written here, which is little, and for all else: which file to change.

use std::sync::Arc;

use bytes::Bytes;
use hyper::Method;
use serde_json::Value;

use super::ask::Parameters;
use super::container;
use super::reply::{self, Answer, No};
use super::requests;
use super::serve::{Api, Caller};
use crate::kinds::name::Uid;
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::state::RequestKind;
use crate::view::picture::Picture;

/// Ends a pod; its owner may make another.
pub(super) async fn delete_pod(
    api: &Arc<Api>,
    caller: Caller,
    key: Key,
    asked: &Parameters,
    body: &Bytes,
) -> Result<Answer, No> {
    let options = read_json(body)?;
    let pod = container::pod(&api.picture(), &key)?;
    let grace_s = match grace(&options) {
        None => asked.number::<u32>("gracePeriodSeconds")?,
        given => given,
    };
    let uid = pod.binding.uid.clone();
    check_life(&options, &uid, &key)?;
    if !is_trial(&options, asked) {
        let pod = pod.binding.key.clone();
        let what = RequestKind::DeletePod { pod, uid: Some(uid.clone()), grace_s };
        requests::request(api, caller, what).await?;
    }
    Ok(reply::json(&reply::success(&key, Uid::as_str(&uid))))
}

/// Whether it is only to be said what would be done.
pub(super) fn is_trial(options: &Value, asked: &Parameters) -> bool {
    options["dryRun"].as_array().is_some_and(|runs| !runs.is_empty())
        || asked.get("dryRun").is_some()
}

/// How long a pod may take to end, by the options of its deletion.
pub(super) fn grace(options: &Value) -> Option<u32> {
    let seconds = options["gracePeriodSeconds"].as_u64();
    seconds.map(|seconds| u32::try_from(seconds).unwrap_or(u32::MAX))
}

/// Refuses to delete another life of a pod than the one that is meant.
pub(super) fn check_life(options: &Value, uid: &Uid, key: &Key) -> Result<(), No> {
    let expected = options["preconditions"]["uid"].as_str();
    if expected.is_none_or(|expected| expected == uid.as_str()) {
        return Ok(());
    }
    let message = format!(
        "Operation cannot be fulfilled on pods \"{}\": the UID in the precondition does not match the UID in record",
        key.name
    );
    Err(No::conflict(message).about(key))
}

/// The body of a request; null where there is none.
pub(super) fn read_json(body: &Bytes) -> Result<Value, No> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Value::Null);
    }
    if body.starts_with(b"k8s\0") {
        return Err(No::media_type());
    }
    serde_json::from_slice(body).map_err(|error| No::bad(format!("the body is no JSON: {error}")))
}

/// Refuses to write to an object, and says where it is written.
pub(super) fn refuse(api: &Api, method: &Method, key: &Key) -> No {
    let picture = api.picture();
    let resource = reply::resource(key.kind);
    let what = format!("{resource} \"{}\" is forbidden", key.name);
    let repository = &api.repository;
    let Some(place) = place(&picture, key) else {
        let message = if *method == Method::POST || *method == Method::PUT {
            format!("{what}: write it into a file of {repository}, and push")
        } else {
            format!("{what}: it is written in no file; what runs follows from {repository}")
        };
        return No::forbidden(message).about(key);
    };
    No::forbidden(format!(
        "{what}: {place} of {repository} says what it is; change it there, and push"
    ))
    .about(key)
}

/// Refuses to make objects of a kind.
pub(super) fn refuse_kind(api: &Api, kind: Kind) -> No {
    let resource = reply::resource(kind);
    let repository = &api.repository;
    No::forbidden(format!(
        "{resource} is forbidden: objects are made by writing them into a file of {repository}, and pushing"
    ))
}

/// Where an object, or what it was made for, is written: `shop/web.yaml:3 (Deployment shop/web)`.
fn place(picture: &Picture, key: &Key) -> Option<String> {
    if let Some(found) = picture.object(key) {
        return Some(file(found.object));
    }
    let owner = match key.kind {
        Kind::Pod => {
            let pod = container::pod(picture, key).ok()?;
            pod.binding.template.owner.clone()
        }
        Kind::ReplicaSet => {
            let namespace = key.namespace.as_ref()?;
            let set = picture
                .sets()
                .find(|set| set.key.namespace == *namespace && set.key.name == key.name)?;
            Key::namespaced(Kind::Deployment, namespace, &set.record.deployment)
        }
        Kind::ControllerRevision => {
            let own = crate::state::RecordKey::new(key.namespace.as_ref()?, &key.name);
            let mut apps = picture.state.apps.values();
            apps.find_map(|app| app.revisions.get(&own))?.owner.clone()
        }
        Kind::Job => {
            let record_key = crate::state::RecordKey::new(key.namespace.as_ref()?, &key.name);
            let jobs = picture.state.apps.values().filter_map(|app| app.jobs.get(&record_key));
            let made = jobs.into_iter().find_map(|record| record.made.as_ref())?;
            Key { kind: Kind::CronJob, name: made.cron_job.clone(), ..key.clone() }
        }
        Kind::Endpoints => Key { kind: Kind::Service, ..key.clone() },
        _ => return None,
    };
    let found = picture.object(&owner)?;
    Some(format!("{} ({owner})", file(found.object)))
}

/// The file and line in which an object is written.
pub(super) fn file(object: &crate::kinds::object::Object) -> String {
    let place = &object.place;
    crate::kinds::finding::Place { column: 0, ..place.clone() }.to_string()
}
