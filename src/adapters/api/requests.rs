//! What is asked of the coordinator on kubectl's paths and on ours: a node cordoned, drained, deleted,
//! declared dead; a pod evicted; an app suspended. Nothing of it is written in Git, which says in its
//! own time what stays.

use std::sync::Arc;

use bytes::Bytes;
use hyper::StatusCode;
use serde_json::{Value, json};

use super::ask::Parameters;
use super::container;
use super::own;
use super::reply::{self, Answer, No};
use super::serve::{Api, Caller};
use super::write::{self, is_trial};
use crate::agent::event::Ask;
use crate::desired::Desired;
use crate::kinds::name::{Name, NameRule, NodeName, Uid};
use crate::kinds::object::{Body, Key};
use crate::kinds::registry::Kind;
use crate::plan::{self, Pod};
use crate::state::RequestKind;
use crate::state::records::DrainOptions;
use crate::view::picture::Picture;

/// Puts a request to the coordinator, in the caller's name.
pub(super) async fn request(api: &Arc<Api>, caller: Caller, what: RequestKind) -> Result<(), No> {
    let by = name_of(caller).await?;
    own::ask(api, Ask::Request { what, by }).await.map(|_| ())
}

async fn name_of(caller: Caller) -> Result<String, No> {
    tokio::task::spawn_blocking(move || caller.name()).await.map_err(|_| No::defect())
}

/// Cordons a node or uncordons it: of a node nothing else can be changed here.
pub(super) async fn patch_node(
    api: &Arc<Api>,
    caller: Caller,
    key: Key,
    asked: &Parameters,
    body: &Bytes,
) -> Result<Answer, No> {
    let patch = write::read_json(body)?;
    let Some(is_cordoned) = unschedulable(&patch) else {
        return Err(write::refuse(api, &hyper::Method::PATCH, &key));
    };
    let mut node = node(api, key.clone()).await?;
    let was_cordoned = node["spec"]["unschedulable"] == true;
    if !is_cordoned && was_cordoned && is_trial(&Value::Null, asked) {
        no_git_cordon(api, &key)?;
    } else if is_cordoned != was_cordoned && !is_trial(&Value::Null, asked) {
        let name = key.name.clone();
        let what = match is_cordoned {
            true => RequestKind::Cordon { node: name },
            false => RequestKind::Uncordon { node: name },
        };
        request(api, caller, what).await?;
        if !is_cordoned {
            no_git_cordon(api, &key)?;
        }
    }
    let spec = node["spec"].as_object_mut().ok_or_else(No::defect)?;
    match is_cordoned {
        true => spec.insert("unschedulable".into(), true.into()),
        false => spec.remove("unschedulable"),
    };
    Ok(reply::json(&node))
}

/// What a merge patch of `spec.unschedulable`, and of nothing else, asks for.
fn unschedulable(patch: &Value) -> Option<bool> {
    let only = |value: &Value, name: &str| {
        let members = value.as_object()?;
        (members.len() == 1).then(|| members.get(name).cloned())?
    };
    match only(&only(patch, "spec")?, "unschedulable")? {
        Value::Bool(is_cordoned) => Some(is_cordoned),
        Value::Null => Some(false),
        _ => None,
    }
}

/// A node that Git cordons stays cordoned, whatever anybody asks here.
fn no_git_cordon(api: &Api, key: &Key) -> Result<(), No> {
    let picture = api.picture();
    let Some(found) = picture.object(key) else {
        return Ok(());
    };
    match &found.object.body {
        Body::Node(wish) if wish.unschedulable => {
            let (name, place) = (&key.name, write::file(found.object));
            let repository = &api.repository;
            Err(No::forbidden(format!(
                "nodes \"{name}\" is forbidden: {place} of {repository} cordons it \
                 (spec.unschedulable); change it there, and push"
            ))
            .about(key))
        }
        _ => Ok(()),
    }
}

/// A node as it is shown.
async fn node(api: &Arc<Api>, key: Key) -> Result<Value, No> {
    let drawn = api.draw(move |cache| {
        let found = cache.find(&key).ok_or_else(|| No::object(&key))?;
        Ok(found.value())
    });
    drawn.await?
}

/// Deletes a node that is not heard of; any other would register anew.
pub(super) async fn delete_node(
    api: &Arc<Api>,
    caller: Caller,
    key: Key,
    asked: &Parameters,
    body: &Bytes,
) -> Result<Answer, No> {
    let options = write::read_json(body)?;
    let node = node(api, key.clone()).await?;
    if !is_trial(&options, asked) {
        let what = RequestKind::Fence { node: key.name.clone(), forget: true };
        request(api, caller, what).await?;
    }
    Ok(reply::json(&reply::success(&key, node["metadata"]["uid"].as_str().unwrap_or_default())))
}

/// Ends a pod if its disruption budgets permit.
pub(super) async fn evict(
    api: &Arc<Api>,
    caller: Caller,
    key: Key,
    asked: &Parameters,
    body: &Bytes,
) -> Result<Answer, No> {
    let eviction = write::read_json(body)?;
    let options = &eviction["deleteOptions"];
    let picture = api.picture();
    let pod = container::pod(&picture, &key)?;
    let (shown, uid) = (pod.binding.key.clone(), pod.binding.uid.clone());
    write::check_life(options, &uid, &key)?;
    let asking = picture.clone();
    let permitted = tokio::task::spawn_blocking(move || may_evict(&asking, &pod));
    if !permitted.await.map_err(|_| No::defect())? {
        let why = "Cannot evict pod as it would violate the pod's disruption budget.";
        return Err(No::busy(why).about(&key));
    }
    if !is_trial(options, asked) && !is_trial(&eviction, asked) {
        let grace_s = write::grace(options);
        let what = RequestKind::EvictPod { pod: shown, uid: uid.clone(), grace_s };
        request(api, caller, what).await?;
    }
    Ok(reply::json_with(StatusCode::CREATED, &reply::success(&key, Uid::as_str(&uid))))
}

fn may_evict(picture: &Picture, pod: &Pod) -> bool {
    let revisions = picture.apps.values().filter_map(|app| app.applied.as_ref());
    let desired: Vec<&Desired> = revisions.map(|revision| &*revision.desired).collect();
    let pods: Vec<Pod> = picture.pods().collect();
    plan::may_evict(&desired, &pods, pod)
}

/// Drains a node: `POST /windlass/v1/drain?node=NAME`.
pub(super) async fn drain(
    api: &Arc<Api>,
    caller: Caller,
    asked: &Parameters,
) -> Result<Answer, No> {
    let node = named(asked)?;
    let how = DrainOptions {
        force: asked.is_true("force"),
        ignore_daemonsets: asked.is_true("ignoreDaemonsets"),
        delete_emptydir_data: asked.is_true("deleteEmptydirData"),
        grace_s: asked.number("gracePeriodSeconds")?,
    };
    let message = format!("node {node} is being drained");
    request(api, caller, RequestKind::Drain { node, how }).await?;
    Ok(reply::json(&json!({"message": message})))
}

/// Takes a node for dead: `POST /windlass/v1/fence?node=NAME`.
pub(super) async fn fence(
    api: &Arc<Api>,
    caller: Caller,
    asked: &Parameters,
) -> Result<Answer, No> {
    let node = named(asked)?;
    let message = format!("node {node} is declared dead");
    request(api, caller, RequestKind::Fence { node, forget: false }).await?;
    Ok(reply::json(&json!({"message": message})))
}

/// Suspends an app, or lets it go on: `POST /windlass/v1/app?name=NAME&do=suspend`.
pub(super) async fn app(api: &Arc<Api>, caller: Caller, asked: &Parameters) -> Result<Answer, No> {
    let name = asked.get("name").ok_or_else(|| No::bad("name: is missing"))?;
    let app = Name::parse(name, NameRule::Label).map_err(|why| No::bad(format!("name: {why}")))?;
    let (what, word) = match asked.get("do") {
        Some("suspend") => (RequestKind::Suspend { app }, "suspended"),
        Some("resume") => (RequestKind::Resume { app }, "resumed"),
        _ => return Err(No::bad("do: is neither suspend nor resume")),
    };
    let message = format!("app {name} is being {word}");
    request(api, caller, what).await?;
    Ok(reply::json(&json!({"message": message})))
}

/// Takes the state store as it is: `POST /windlass/v1/adopt`.
pub(super) async fn adopt(api: &Arc<Api>, caller: Caller) -> Result<Answer, No> {
    let by = name_of(caller).await?;
    own::ask(api, Ask::Adopt { by }).await?;
    Ok(reply::json(&json!({"message": "the state store is being taken as it is"})))
}

fn named(asked: &Parameters) -> Result<NodeName, No> {
    let name = asked.get("node").ok_or_else(|| No::bad("node: is missing"))?;
    NodeName::parse(name, NameRule::Subdomain).map_err(|why| No::bad(format!("node: {why}")))
}

/// Whether a kind's objects are changed by [`patch_node`] and [`delete_node`].
pub(super) fn is_node(key: &Key) -> bool {
    key.kind == Kind::Node
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_patch_of_the_cordon_is_one() {
        let table = [
            (json!({"spec": {"unschedulable": true}}), Some(true)),
            (json!({"spec": {"unschedulable": false}}), Some(false)),
            (json!({"spec": {"unschedulable": null}}), Some(false)),
            (json!({"spec": {"unschedulable": "yes"}}), None),
            (json!({"spec": {"unschedulable": true, "taints": []}}), None),
            (json!({"spec": {"unschedulable": true}, "metadata": {}}), None),
            (json!([{"op": "add", "path": "/spec/unschedulable", "value": true}]), None),
            (json!({}), None),
            (Value::Null, None),
        ];
        for (patch, expected) in table {
            assert_eq!(unschedulable(&patch), expected, "{patch}");
        }
    }
}
