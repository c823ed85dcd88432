//! Pods: the binding says that there is one, the template what it runs, the node how it is.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{Shown, Since, meta, pull};
use crate::kinds::binding::Binding;
use crate::kinds::config::DEFAULT_ACCOUNT;
use crate::kinds::individual::{ENV_COMPLETION_INDEX, JOB_COMPLETION_INDEX};
use crate::kinds::limits::ANNOTATION_GIVEN;
use crate::kinds::name::{Name, PodKey, Uid};
use crate::kinds::object::{Body, Key};
use crate::kinds::pod::{PodSpec, PodTemplate};
use crate::kinds::registry::Kind;
use crate::kinds::status::{CONDITION_SCHEDULED, Phase};
use crate::kinds::volume::VolumeSource;
use crate::kinds::workload::DaemonSet;
use crate::plan::Pod;
use crate::view::json::child;
use crate::view::picture::Picture;

/// Templates' JSON, parsed once for all pods that run them; by where the text lies in memory, since templates
/// that mean the same may say it differently, and have other annotations.
type Parsed = BTreeMap<usize, Arc<Value>>;

pub(super) fn list(picture: &Picture) -> Vec<Shown> {
    let mut parsed = Parsed::new();
    picture.pods().map(|pod| show(picture, &pod, &mut parsed)).collect()
}

/// The same, without those that would be drawn as they were drawn from an earlier picture.
pub(super) fn list_since(before: &Picture, picture: &Picture) -> Vec<Since> {
    let mut old: BTreeMap<Uid, Pod> = if has_same_owners(before, picture) {
        before.pods().map(|pod| (pod.binding.uid.clone(), pod)).collect()
    } else {
        BTreeMap::new()
    };
    let mut parsed = Parsed::new();
    let since = |pod: Pod| {
        let uid = &pod.binding.uid;
        let is_same = old.remove(uid).is_some_and(|old| looks_same(&old, &pod))
            && before.pulling.get(uid) == picture.pulling.get(uid);
        if is_same {
            Since::Same(key(&pod))
        } else {
            Since::Drawn(show(picture, &pod, &mut parsed))
        }
    };
    picture.pods().map(since).collect()
}

/// Whether everything but the pods themselves that a pod is drawn from is as it was: who owns it, where that
/// is written, and its account.
fn has_same_owners(before: &Picture, picture: &Picture) -> bool {
    let revisions = |picture: &Picture| -> Vec<_> {
        let apps = picture.apps.iter();
        apps.map(|(app, input)| (app.clone(), input.applied.as_ref().map(Arc::as_ptr))).collect()
    };
    let (old, new) = (&before.state.apps, &picture.state.apps);
    let mut apps = old.iter().zip(new);
    revisions(before) == revisions(picture)
        && old.len() == new.len()
        && apps.all(|((old_app, old), (app, new))| {
            let has_same_ids = are_same(&old.ledger, &new.ledger)
                && are_same(&old.sets, &new.sets)
                && are_same(&old.jobs, &new.jobs);
            old_app == app && has_same_ids
        })
}

/// Whether the records of two moments are the same ones, not only alike.
fn are_same<K: Eq, V>(old: &BTreeMap<K, Arc<V>>, new: &BTreeMap<K, Arc<V>>) -> bool {
    let mut pairs = old.iter().zip(new);
    old.len() == new.len() && pairs.all(|(old, new)| old.0 == new.0 && Arc::ptr_eq(old.1, new.1))
}

/// Whether a pod is drawn the same, as far as that lies with itself.
fn looks_same(old: &Pod, new: &Pod) -> bool {
    // A StatefulSet's pods, and those that LimitRanges gave something, have a template each: made of one
    // text, by the binding, and of what was given.
    let has_same_template = match (&old.template, &new.template) {
        (Some(old), Some(new)) => Arc::ptr_eq(&old.json, &new.json) && old.given == new.given,
        (None, None) => true,
        _ => false,
    };
    // Of `ready_for`, which grows all the time, nothing is shown.
    has_same_template
        && old.binding == new.binding
        && old.node == new.node
        && old.report == new.report
        && old.is_lost == new.is_lost
}

fn key(pod: &Pod) -> Key {
    Key::namespaced(Kind::Pod, &pod.binding.key.namespace, &pod.binding.key.name)
}

pub(super) fn find(picture: &Picture, key: &Key) -> Option<Shown> {
    let namespace = key.namespace.as_ref()?;
    let pod = picture.pod(&PodKey::new(namespace, &key.name))?;
    Some(show(picture, &pod, &mut Parsed::new()))
}

fn show(picture: &Picture, pod: &Pod, parsed: &mut Parsed) -> Shown {
    let key = key(pod);
    let template = pod.template.as_deref().map(|template| {
        let parse = || Arc::new(serde_json::from_str(&template.json).unwrap_or_default());
        let place = Arc::as_ptr(&template.json).addr();
        let known = parsed.entry(place).or_insert_with(parse);
        known.clone()
    });
    let template = template.as_deref();
    let mut object = meta::blank(&key);
    describe_identity(picture, pod, template, &mut object);
    object.insert("spec".into(), spec(picture, pod, template));
    let mut status = status(pod);
    if let Some(pulling) = picture.pulling.get(&pod.binding.uid) {
        pull::tell(pulling, &mut status, &mut object);
    }
    object.insert("status".into(), status);
    Shown::new(key, Value::Object(object))
}

fn describe_identity(
    picture: &Picture,
    pod: &Pod,
    template: Option<&Value>,
    object: &mut Map<String, Value>,
) {
    let binding = &pod.binding;
    meta::identify(object, &binding.uid, Some(binding.created));
    let annotations = template.and_then(|template| template.pointer("/metadata/annotations"));
    let metadata = child(object, "metadata");
    let labels = pod.labels();
    if !labels.is_empty() {
        metadata.insert("labels".into(), json!(labels));
    }
    if let Some(annotations) = annotations {
        metadata.insert("annotations".into(), annotations.clone());
    }
    let own = pod.template.as_ref().filter(|template| template.given.is_some());
    if let Some(given) = own.and_then(|own| own.annotations.get(ANNOTATION_GIVEN)) {
        child(metadata, "annotations").insert(ANNOTATION_GIVEN.into(), given.as_str().into());
    }
    if let Some(index) = binding.job_index() {
        let annotations = child(metadata, "annotations");
        annotations.insert(JOB_COMPLETION_INDEX.into(), index.to_string().into());
    }
    if binding.owner.kind != Kind::Pod {
        let prefix = match binding.job_index() {
            Some(index) => format!("{}-{index}-", binding.owner.name),
            None => format!("{}-", binding.owner.name),
        };
        metadata.insert("generateName".into(), prefix.into());
        if let Some(uid) = owner_uid(picture, binding) {
            let owner = &binding.owner;
            let api_version = owner.kind.api_version();
            let reference = meta::owner(&api_version, owner.kind.name(), &owner.name, &uid);
            metadata.insert("ownerReferences".into(), reference);
        }
    }
    if let Some(deletion) = &binding.deletion {
        let grace = std::time::Duration::from_secs(deletion.grace_s.into());
        let at = (deletion.since + grace).to_string();
        metadata.insert("deletionTimestamp".into(), at.into());
        metadata.insert("deletionGracePeriodSeconds".into(), deletion.grace_s.into());
    }
    let commit = binding.template.revision.as_str();
    meta::cite(object, commit, &meta::place(picture, &binding.template));
}

fn owner_uid(picture: &Picture, binding: &Binding) -> Option<Uid> {
    let owner = &binding.owner;
    let made = picture.sets().find(|set| {
        owner.kind == Kind::ReplicaSet
            && owner.namespace.as_ref() == Some(&set.key.namespace)
            && owner.name == set.key.name
    });
    let job = || {
        let key = PodKey::new(owner.namespace.as_ref()?, &owner.name);
        let app = picture.state.apps.get(&binding.template.app)?;
        app.jobs.get(&key)?.run.as_ref().map(|run| run.uid.clone())
    };
    if owner.kind == Kind::Job {
        return job();
    }
    made.map(|set| set.record.uid.clone())
        .or_else(|| picture.object(owner)?.entry.map(|entry| entry.uid.clone()))
}

fn spec(picture: &Picture, pod: &Pod, template: Option<&Value>) -> Value {
    let mut spec = match template.and_then(|template| template.get("spec")) {
        Some(Value::Object(spec)) => spec.clone(),
        // The commit it was made from can't be read: its status says so.
        _ => Map::from_iter([("containers".to_owned(), json!([]))]),
    };
    if let Some(node) = &pod.node {
        spec.insert("nodeName".into(), node.as_str().into());
    }
    if let Some(index) = pod.binding.job_index() {
        spec.insert("hostname".into(), pod.binding.job_hostname(index).as_str().into());
        tell_index(&mut spec);
    }
    let account = spec.get("serviceAccountName").cloned().unwrap_or_else(|| DEFAULT_ACCOUNT.into());
    if !spec.contains_key("imagePullSecrets")
        && let Some(secrets) = pull_secrets(picture, pod, &account)
    {
        spec.insert("imagePullSecrets".into(), secrets);
    }
    spec.insert("serviceAccountName".into(), account.clone());
    spec.insert("serviceAccount".into(), account);
    individualize(&mut spec, pod);
    Value::Object(spec)
}

/// What a pod that names no secrets has from its account.
fn pull_secrets(picture: &Picture, pod: &Pod, account: &Value) -> Option<Value> {
    let name = Name::trusted(account.as_str()?);
    let key = Key::namespaced(Kind::ServiceAccount, &pod.binding.key.namespace, &name);
    let Body::ServiceAccount(account) = &picture.object(&key)?.object.body else {
        return None;
    };
    let named = |name: &Name| json!({"name": name.as_str()});
    let secrets: Vec<Value> = account.image_pull_secrets.iter().map(named).collect();
    (!secrets.is_empty()).then(|| secrets.into())
}

/// What sets the pod apart from others of its template (`crate::kinds::individual`), as Kubernetes'
/// controllers write it into the pod.
fn individualize(spec: &mut Map<String, Value>, pod: &Pod) {
    let binding = &pod.binding;
    let Some(template) = pod.template.as_ref() else {
        return;
    };
    let own = &template.spec;
    if template.given.is_some() {
        lay_in_resources(spec, own);
    }
    if binding.owner.kind == Kind::StatefulSet {
        spec.insert("hostname".into(), binding.key.name.as_str().into());
        if let Some(subdomain) = &own.subdomain {
            spec.insert("subdomain".into(), subdomain.as_str().into());
        }
        claims(spec, own);
    }
    if let Some(node) = &binding.only_node {
        // `ReplaceDaemonSetPodNodeNameNodeAffinity`.
        let field = json!({"key": "metadata.name", "operator": "In", "values": [node.as_str()]});
        let affinity = child(child(spec, "affinity"), "nodeAffinity");
        affinity.insert(
            "requiredDuringSchedulingIgnoredDuringExecution".into(),
            json!({"nodeSelectorTerms": [{"matchFields": [field]}]}),
        );
        endure(spec, own.host_network);
    }
}

/// What LimitRanges gave containers, beside what they say.
fn lay_in_resources(spec: &mut Map<String, Value>, own: &PodSpec) {
    for (list, containers) in
        [("initContainers", &own.init_containers), ("containers", &own.containers)]
    {
        let shown = spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
        for (shown, own) in shown.filter_map(Value::as_object_mut).zip(containers) {
            let resources = child(shown, "resources");
            for (field, amounts) in
                [("limits", &own.resources.limits), ("requests", &own.resources.requests)]
            {
                for (name, amount) in amounts {
                    let said = child(resources, field).entry(name.clone());
                    said.or_insert_with(|| amount.to_string().into());
                }
            }
        }
    }
}

/// The pod's own claims, in the place of volumes of the same name.
fn claims(spec: &mut Map<String, Value>, own: &PodSpec) {
    let list = spec.entry("volumes").or_insert_with(|| json!([]));
    let Some(list) = list.as_array_mut() else {
        return;
    };
    for volume in &own.volumes {
        if let VolumeSource::Claim { name, read_only: false, scratch: None } = &volume.source {
            list.retain(|shown| shown["name"] != *volume.name.as_str());
            let claim = json!({"claimName": name.as_str()});
            list.push(json!({"name": volume.name.as_str(), "persistentVolumeClaim": claim}));
        }
    }
    if list.is_empty() {
        spec.remove("volumes");
    }
}

/// `AddOrUpdateDaemonPodTolerations`.
fn endure(spec: &mut Map<String, Value>, host_network: bool) {
    let list = spec.entry("tolerations").or_insert_with(|| json!([]));
    let Some(list) = list.as_array_mut() else {
        return;
    };
    for (key, effect) in DaemonSet::tolerations(host_network) {
        let own = json!({"effect": effect.as_str(), "key": key, "operator": "Exists"});
        let is_same = |its: &Value| {
            ["effect", "key", "operator"].iter().all(|field| its.get(field) == own.get(field))
        };
        list.retain(|its| !is_same(its));
        list.push(own);
    }
}

/// The variable in which the containers of an Indexed Job's pod have its number.
fn tell_index(spec: &mut Map<String, Value>) {
    let path = format!("metadata.labels['{JOB_COMPLETION_INDEX}']");
    for list in ["initContainers", "containers"] {
        let containers = spec.get_mut(list).and_then(Value::as_array_mut);
        let each = containers.into_iter().flatten().filter_map(Value::as_object_mut);
        for container in each {
            let variables = container.entry("env").or_insert_with(|| json!([]));
            let Some(variables) = variables.as_array_mut() else {
                continue;
            };
            if variables.iter().all(|one| one["name"] != ENV_COMPLETION_INDEX) {
                let from = json!({"fieldRef": {"apiVersion": "v1", "fieldPath": path}});
                variables.push(json!({"name": ENV_COMPLETION_INDEX, "valueFrom": from}));
            }
        }
    }
}

/// The node's word; before it has spoken, what the coordinator knows.
fn status(pod: &Pod) -> Value {
    let reported = pod.report.as_ref().and_then(|report| serde_json::to_value(&report.status).ok());
    let Some(Value::Object(mut status)) = reported else {
        return unreported(pod);
    };
    for (one, all) in [("podIP", "podIPs"), ("hostIP", "hostIPs")] {
        if let Some(ip) = status.get(one).cloned() {
            status.insert(all.into(), json!([{ "ip": ip }]));
        }
    }
    if pod.is_lost {
        mark_lost(&mut status);
    }
    Value::Object(status)
}

/// What the node said last may be true no longer, so its pods count as not ready, as Kubernetes'
/// node lifecycle controller marks them.
fn mark_lost(status: &mut Map<String, Value>) {
    let conditions = status.get_mut("conditions").and_then(Value::as_array_mut);
    for condition in conditions.into_iter().flatten() {
        if condition.get("type").and_then(Value::as_str) == Some("Ready") {
            condition["status"] = "False".into();
            condition["reason"] = "NodeLost".into();
            condition["message"] = "The pod's node has not been heard of.".into();
        }
    }
}

fn unreported(pod: &Pod) -> Value {
    let since = pod.binding.created.to_string();
    let mut condition = json!({
        "type": CONDITION_SCHEDULED,
        "status": if pod.node.is_some() { "True" } else { "False" },
        "lastTransitionTime": since,
    });
    if pod.node.is_none() {
        condition["reason"] = "Unschedulable".into();
        if let Some(message) = &pod.binding.message {
            condition["message"] = message.as_str().into();
        }
    }
    let qos = |template: &Arc<PodTemplate>| template.spec.qos().as_str();
    let mut status = json!({
        "phase": Phase::Pending.as_str(),
        "conditions": [condition],
        "qosClass": pod.template.as_ref().map_or("BestEffort", qos),
    });
    if let Some(node) = &pod.binding.nominated {
        status["nominatedNodeName"] = node.as_str().into();
    }
    status
}
