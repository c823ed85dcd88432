//! Nodes: what each says of itself, under what the operator wishes of it.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Shown, meta};
use crate::kinds::certified::Doubt;
use crate::kinds::name::NodeName;
use crate::kinds::node::{NodeCondition, NodeFacts, NodeWish};
use crate::kinds::object::{Body, Key};
use crate::kinds::pod::{Taint, TaintEffect};
use crate::kinds::registry::Kind;
use crate::kinds::time::Wall;
use crate::plan::NodeInput;
use crate::plan::common::{self, Voice};
use crate::state::records::NodeAllocation;
use crate::view::json::child;
use crate::view::picture::{Found, Picture};

/// Kubernetes writes a node's heartbeat into its conditions this often when nothing else changes
/// (`nodeStatusReportFrequency`).
const HEARTBEAT: Duration = Duration::from_secs(300);

/// What every kubelet says of a node, and how it words it when all is well.
const PRESSURES: [(&str, &str, &str); 3] = [
    ("MemoryPressure", "KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ("DiskPressure", "KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ("PIDPressure", "KubeletHasSufficientPID", "kubelet has sufficient PID available"),
];

/// The condition of a node whose settings are others than its fleet's.
pub(in crate::view) const CONDITION_SETTINGS: &str = "SettingsDiffer";
/// The condition of a node whose key the desired repository does not certify, though it does others'.
pub(in crate::view) const CONDITION_KEY: &str = "Uncertified";

pub(super) fn list(picture: &Picture) -> Vec<Shown> {
    let reporting = picture.nodes.keys().cloned();
    let wished = picture.objects_of(Kind::Node);
    let names: BTreeSet<NodeName> =
        reporting.chain(wished.map(|found| found.object.key.name.clone())).collect();
    names.iter().map(|name| node(picture, name)).collect()
}

fn node(picture: &Picture, name: &NodeName) -> Shown {
    let key = Key::cluster(Kind::Node, name);
    let found = picture.object(&key);
    let wish = found.and_then(|found| match &found.object.body {
        Body::Node(wish) => Some(&**wish),
        _ => None,
    });
    let said = picture.nodes.get(name);
    let nothing = NodeFacts::default();
    let facts = said.map_or(&nothing, |input| &*input.facts);

    let mut object = found.map_or_else(|| meta::blank(&key), |found| meta::written(&found));
    let given = picture.state.nodes.get(name).filter(|given| !given.is_forgotten());
    let (uid, created) = match (given, found.and_then(|found| found.entry)) {
        (Some(given), _) => (given.uid.clone(), Some(given.created)),
        (None, Some(entry)) => (entry.uid.clone(), Some(entry.created)),
        (None, None) => (meta::given_uid(&key), None),
    };
    meta::identify(&mut object, &uid, created);
    label(&mut object, facts, wish, found.as_ref());
    let spec = child(&mut object, "spec");
    if let Some(given) = given {
        let cidr = given.pod_cidr.to_string();
        spec.insert("podCIDR".into(), cidr.clone().into());
        spec.insert("podCIDRs".into(), json!([cidr]));
    }
    let is_cordoned = wish.is_some_and(|wish| wish.unschedulable)
        || given.is_some_and(|given| given.cordoned.is_some());
    let taints = taints(wish, is_cordoned);
    if !taints.is_empty() {
        spec.insert("taints".into(), Value::Array(taints));
    }
    if is_cordoned {
        spec.insert("unschedulable".into(), true.into());
    }
    if let Some(given) = given {
        sign(&mut object, given);
    }
    object.insert("status".into(), status(picture, name, facts, said));
    Shown::new(key, Value::Object(object))
}

fn label(
    object: &mut Map<String, Value>,
    facts: &NodeFacts,
    wish: Option<&NodeWish>,
    found: Option<&Found<'_>>,
) {
    let metadata = child(object, "metadata");
    let mut labels = facts.labels.clone();
    labels.extend(wish.map(|wish| wish.labels.clone()).unwrap_or_default());
    metadata.insert("labels".into(), json!(labels));
    if !facts.recipients.is_empty() {
        let recipients = facts.recipients.join(",");
        child(metadata, "annotations")
            .insert(meta::ANNOTATION_RECIPIENTS.into(), recipients.into());
    }
    if found.is_none() {
        child(metadata, "annotations");
    }
}

/// Says who did what to the node, beside Git.
fn sign(object: &mut Map<String, Value>, given: &NodeAllocation) {
    let cordoned = given.cordoned.as_ref().map(|done| (&done.by, done.since));
    let draining = given.draining.as_ref().map(|done| (&done.by, done.since));
    let fenced = given.fenced.as_ref().map(|done| (&done.by, done.since));
    let all = [
        (meta::ANNOTATION_CORDONED, cordoned),
        (meta::ANNOTATION_DRAINING, draining),
        (meta::ANNOTATION_FENCED, fenced),
    ];
    for (name, done) in all {
        if let Some((by, since)) = done {
            let annotations = child(child(object, "metadata"), "annotations");
            annotations.insert(name.into(), format!("by {by} since {since}").into());
        }
    }
}

fn taints(wish: Option<&NodeWish>, is_cordoned: bool) -> Vec<Value> {
    let cordon = Taint {
        key: "node.kubernetes.io/unschedulable".into(),
        value: String::new(),
        effect: TaintEffect::NoSchedule,
    };
    let wished = wish.map(|wish| wish.taints.as_slice()).unwrap_or_default();
    let taints = wished.iter().chain(is_cordoned.then_some(&cordon));
    let json = taints.map(|taint| {
        let mut json = json!({"key": taint.key, "effect": taint.effect.as_str()});
        if !taint.value.is_empty() {
            json["value"] = taint.value.as_str().into();
        }
        json
    });
    json.collect()
}

fn status(
    picture: &Picture,
    name: &NodeName,
    facts: &NodeFacts,
    said: Option<&NodeInput>,
) -> Value {
    let mut addresses: Vec<Value> = facts
        .addresses
        .iter()
        .map(|ip| json!({"type": "InternalIP", "address": ip.to_string()}))
        .collect();
    let hostname = if facts.hostname.is_empty() { name.as_str() } else { facts.hostname.as_str() };
    addresses.push(json!({"type": "Hostname", "address": hostname}));
    let images =
        facts.images.iter().map(|(name, bytes)| json!({"names": [name], "sizeBytes": bytes}));
    json!({
        "addresses": addresses,
        "allocatable": facts.allocatable,
        "capacity": facts.capacity,
        "conditions": conditions(picture, name, facts, said.is_some() && !picture.is_lost(name)),
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 0}},
        "images": images.collect::<Vec<_>>(),
        "nodeInfo": info(facts),
    })
}

/// Every field of `nodeInfo`: clients take none of them to be absent.
fn info(facts: &NodeFacts) -> Value {
    const FIELDS: [&str; 10] = [
        "architecture",
        "bootID",
        "containerRuntimeVersion",
        "kernelVersion",
        "kubeProxyVersion",
        "kubeletVersion",
        "machineID",
        "operatingSystem",
        "osImage",
        "systemUUID",
    ];
    let fields = FIELDS.into_iter().map(|name| {
        let value = facts.info.get(name).map_or("", String::as_str);
        (name.to_owned(), Value::from(value))
    });
    Value::Object(fields.collect())
}

/// Where a node's settings differ from its fleet's, and what to do; nothing if they don't.
pub(in crate::view) fn settings_of(picture: &Picture, name: &NodeName) -> Option<(String, String)> {
    let input = picture.nodes.get(name).filter(|input| input.differs)?;
    let others = picture.nodes.iter().filter(|(other, _)| *other != name);
    let voices: Vec<Voice<'_>> = others
        .map(|(other, input)| Voice {
            settings: input.facts.settings.as_ref(),
            is_heard: !picture.is_lost(other),
        })
        .collect();
    let recorded = picture.state.settings.as_deref();
    common::complaint(name, recorded, input.facts.settings.as_ref()?, &voices)
}

/// Why a node's key does not count, for people; that something is not read yet passes by itself.
pub(in crate::view) fn key_doubt_of(picture: &Picture, name: &NodeName) -> Option<Doubt> {
    picture.doubt_of(name).filter(|doubt| *doubt != Doubt::Unread)
}

fn conditions(picture: &Picture, name: &NodeName, facts: &NodeFacts, is_heard: bool) -> Vec<Value> {
    let heartbeat = heartbeat(picture.now.wall);
    let mut conditions: Vec<Value> = Vec::new();
    for (kind, reason, message) in PRESSURES {
        let fine = NodeCondition {
            status: false,
            reason: reason.to_owned(),
            message: message.to_owned(),
            since: facts.started,
        };
        let condition = facts.conditions.get(kind).unwrap_or(&fine);
        conditions.push(condition_json(kind, condition, is_heard, heartbeat));
    }
    let silent = NodeCondition {
        status: false,
        reason: String::new(),
        message: String::new(),
        since: facts.started,
    };
    let ready = facts.conditions.get("Ready").unwrap_or(&silent);
    let others = facts
        .conditions
        .iter()
        .filter(|(kind, _)| *kind != "Ready" && PRESSURES.iter().all(|(known, ..)| known != kind));
    for (kind, condition) in others {
        conditions.push(condition_json(kind, condition, is_heard, heartbeat));
    }
    if let Some((what, next)) = settings_of(picture, name) {
        let message = format!("{what}; {next}.");
        let reason = "SettingsDiffer".to_owned();
        let condition = NodeCondition { status: true, reason, message, since: facts.started };
        conditions.push(condition_json(CONDITION_SETTINGS, &condition, is_heard, heartbeat));
    }
    if let Some(doubt) = key_doubt_of(picture, name) {
        let message = format!("{doubt}; other nodes do not listen to it.");
        let reason = "KeyDoesNotCount".to_owned();
        let condition = NodeCondition { status: true, reason, message, since: facts.started };
        conditions.push(condition_json(CONDITION_KEY, &condition, is_heard, heartbeat));
    }
    conditions.push(condition_json("Ready", ready, is_heard, heartbeat));
    conditions
}

fn heartbeat(now: Wall) -> Wall {
    let step = i64::try_from(HEARTBEAT.as_secs()).unwrap_or(1);
    Wall::from_seconds(now.seconds() - now.seconds().rem_euclid(step))
}

fn condition_json(kind: &str, condition: &NodeCondition, is_heard: bool, heartbeat: Wall) -> Value {
    let (status, reason, message) = match (is_heard, condition.status) {
        (true, true) => ("True", condition.reason.as_str(), condition.message.as_str()),
        (true, false) => ("False", condition.reason.as_str(), condition.message.as_str()),
        (false, _) => {
            ("Unknown", "NodeStatusUnknown", "The agent of this node has not been heard of.")
        }
    };
    json!({
        "type": kind,
        "status": status,
        "lastHeartbeatTime": heartbeat.to_string(),
        "lastTransitionTime": condition.since.to_string(),
        "reason": reason,
        "message": message,
    })
}
