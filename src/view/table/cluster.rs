//! Machines, rooms for names, configuration, rights and storage.

use serde_json::Value;

use super::cells::{NONE, UNKNOWN, age, joined, plain, since, used_of_hard};
use super::{Column, count, name, shown, wide};
use crate::kinds::time::Wall;
use crate::view::json::{at, is_true, items, members, number, pairs, text};
use crate::view::objects::{CONDITION_KEY, CONDITION_SETTINGS};

pub(super) const NODES: &[Column] = &[
    shown("Name"),
    shown("Status"),
    shown("Roles"),
    shown("Age"),
    shown("Version"),
    wide("Internal-IP"),
    wide("External-IP"),
    wide("OS-Image"),
    wide("Kernel-Version"),
    wide("Container-Runtime"),
];

pub(super) fn node(node: &Value, now: Wall) -> Vec<Value> {
    let address = |kind: &str| {
        let addresses = items(node, "status.addresses").iter();
        let found = addresses
            .filter(|address| text(address, "type") == kind)
            .map(|address| text(address, "address"))
            .next();
        found.map_or_else(|| NONE.to_owned(), str::to_owned)
    };
    let known = |path| match text(node, path) {
        "" => UNKNOWN.to_owned(),
        text => text.to_owned(),
    };
    vec![
        name(node),
        node_status(node).into(),
        roles(node).into(),
        age(node, now).into(),
        text(node, "status.nodeInfo.kubeletVersion").into(),
        address("InternalIP").into(),
        address("ExternalIP").into(),
        known("status.nodeInfo.osImage").into(),
        known("status.nodeInfo.kernelVersion").into(),
        known("status.nodeInfo.containerRuntimeVersion").into(),
    ]
}

fn node_status(node: &Value) -> String {
    let ready = items(node, "status.conditions")
        .iter()
        .find(|condition| text(condition, "type") == "Ready");
    let mut status = match ready {
        Some(ready) if text(ready, "status") == "True" => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    }
    .to_owned();
    let conditions = items(node, "status.conditions");
    for odd in [CONDITION_SETTINGS, CONDITION_KEY] {
        if conditions.iter().any(|condition| text(condition, "type") == odd) {
            status.push(',');
            status.push_str(odd);
        }
    }
    if is_true(node, "spec.unschedulable") {
        status.push_str(",SchedulingDisabled");
    }
    status
}

/// The roles of a node, by its labels (`findNodeRoles`).
pub(in crate::view) fn roles(node: &Value) -> String {
    let mut roles: Vec<&str> = pairs(node, "metadata.labels")
        .into_iter()
        .filter_map(|(key, value)| match key {
            "kubernetes.io/role" => Some(value).filter(|value| !value.is_empty()),
            _ => key.strip_prefix("node-role.kubernetes.io/").filter(|role| !role.is_empty()),
        })
        .collect();
    roles.sort_unstable();
    joined(roles)
}

pub(super) const NAMESPACES: &[Column] = &[shown("Name"), shown("Status"), shown("Age")];

pub(super) fn namespace(namespace: &Value, now: Wall) -> Vec<Value> {
    vec![name(namespace), text(namespace, "status.phase").into(), age(namespace, now).into()]
}

pub(super) const EVENTS: &[Column] = &[
    shown("Last Seen"),
    shown("Type"),
    shown("Reason"),
    shown("Object"),
    wide("Subobject"),
    wide("Source"),
    shown("Message"),
    wide("First Seen"),
    wide("Count"),
    wide("Name"),
];

pub(super) fn event(event: &Value, now: Wall) -> Vec<Value> {
    let kind = text(event, "involvedObject.kind").to_ascii_lowercase();
    let source = match (text(event, "source.component"), text(event, "source.host")) {
        (component, "") => component.to_owned(),
        (component, host) => format!("{component}, {host}"),
    };
    vec![
        since(event, "lastTimestamp", now).into(),
        text(event, "type").into(),
        text(event, "reason").into(),
        format!("{kind}/{}", text(event, "involvedObject.name")).into(),
        text(event, "involvedObject.fieldPath").into(),
        source.into(),
        text(event, "message").trim().into(),
        since(event, "firstTimestamp", now).into(),
        number(event, "count").into(),
        name(event),
    ]
}

pub(super) const LEASES: &[Column] = &[shown("Name"), shown("Holder"), shown("Age")];

pub(super) fn lease(lease: &Value, now: Wall) -> Vec<Value> {
    vec![name(lease), text(lease, "spec.holderIdentity").into(), age(lease, now).into()]
}

pub(super) const CONFIG_MAPS: &[Column] = &[shown("Name"), count("Data"), shown("Age")];

pub(super) fn config_map(map: &Value, now: Wall) -> Vec<Value> {
    let keys = members(map, "data").count() + members(map, "binaryData").count();
    vec![name(map), keys.into(), age(map, now).into()]
}

pub(super) const SECRETS: &[Column] = &[shown("Name"), shown("Type"), count("Data"), shown("Age")];

pub(super) fn secret(secret: &Value, now: Wall) -> Vec<Value> {
    vec![
        name(secret),
        text(secret, "type").into(),
        members(secret, "data").count().into(),
        age(secret, now).into(),
    ]
}

pub(super) const ACCOUNTS: &[Column] = &[shown("Name"), count("Secrets"), shown("Age")];

pub(super) fn account(account: &Value, now: Wall) -> Vec<Value> {
    vec![name(account), items(account, "secrets").len().into(), age(account, now).into()]
}

pub(super) const PRIORITIES: &[Column] = &[
    shown("Name"),
    count("Value"),
    shown("Global-Default"),
    shown("Age"),
    shown("PreemptionPolicy"),
];

pub(super) fn priority(class: &Value, now: Wall) -> Vec<Value> {
    let policy = match text(class, "preemptionPolicy") {
        "" => "PreemptLowerPriority",
        policy => policy,
    };
    vec![
        name(class),
        number(class, "value").into(),
        is_true(class, "globalDefault").into(),
        age(class, now).into(),
        policy.into(),
    ]
}

pub(super) const STORAGE: &[Column] = &[
    shown("Name"),
    shown("Provisioner"),
    shown("ReclaimPolicy"),
    shown("VolumeBindingMode"),
    shown("AllowVolumeExpansion"),
    shown("Age"),
];

pub(super) fn storage(class: &Value, now: Wall) -> Vec<Value> {
    let is_default = pairs(class, "metadata.annotations")
        .contains(&("storageclass.kubernetes.io/is-default-class", "true"));
    let mut name = text(class, "metadata.name").to_owned();
    if is_default {
        name.push_str(" (default)");
    }
    let or = |path, absent: &str| match text(class, path) {
        "" => absent.to_owned(),
        text => text.to_owned(),
    };
    vec![
        name.into(),
        text(class, "provisioner").into(),
        or("reclaimPolicy", "Delete").into(),
        or("volumeBindingMode", "Immediate").into(),
        is_true(class, "allowVolumeExpansion").into(),
        age(class, now).into(),
    ]
}

pub(super) const DRIVERS: &[Column] = &[
    shown("Name"),
    shown("AttachRequired"),
    shown("PodInfoOnMount"),
    shown("StorageCapacity"),
    shown("TokenRequests"),
    shown("RequiresRepublish"),
    shown("Modes"),
    shown("Age"),
];

pub(super) fn driver(driver: &Value, now: Wall) -> Vec<Value> {
    let attaches = at(driver, "spec.attachRequired").is_none_or(|value| value == true);
    let texts = |path| {
        let all = items(driver, path).iter();
        all.filter_map(Value::as_str).collect::<Vec<_>>()
    };
    let modes = match texts("spec.volumeLifecycleModes") {
        modes if modes.is_empty() => "Persistent".to_owned(),
        modes => modes.join(","),
    };
    let audiences: Vec<&str> = items(driver, "spec.tokenRequests")
        .iter()
        .map(|request| text(request, "audience"))
        .collect();
    let tokens = match audiences.as_slice() {
        [] => super::cells::UNSET.to_owned(),
        all => all.join(","),
    };
    vec![
        name(driver),
        attaches.into(),
        is_true(driver, "spec.podInfoOnMount").into(),
        is_true(driver, "spec.storageCapacity").into(),
        tokens.into(),
        is_true(driver, "spec.requiresRepublish").into(),
        modes.into(),
        age(driver, now).into(),
    ]
}

/// `RWO,ROX`.
pub(in crate::view) fn access_modes(object: &Value, path: &str) -> String {
    let short = |mode: &Value| match mode.as_str() {
        Some("ReadWriteOnce") => Some("RWO"),
        Some("ReadOnlyMany") => Some("ROX"),
        Some("ReadWriteMany") => Some("RWX"),
        Some("ReadWriteOncePod") => Some("RWOP"),
        _ => None,
    };
    let modes: Vec<&str> = items(object, path).iter().filter_map(short).collect();
    modes.join(",")
}

pub(super) const VOLUMES: &[Column] = &[
    shown("Name"),
    shown("Capacity"),
    shown("Access Modes"),
    shown("Reclaim Policy"),
    shown("Status"),
    shown("Claim"),
    shown("StorageClass"),
    shown("VolumeAttributesClass"),
    shown("Reason"),
    shown("Age"),
    wide("VolumeMode"),
];

pub(super) fn volume(volume: &Value, now: Wall) -> Vec<Value> {
    let claim = at(volume, "spec.claimRef").map_or_else(String::new, |claim| {
        format!("{}/{}", text(claim, "namespace"), text(claim, "name"))
    });
    let class = or_unset(text(volume, "spec.volumeAttributesClassName"));
    vec![
        name(volume),
        plain(at(volume, "spec.capacity.storage")).into(),
        access_modes(volume, "spec.accessModes").into(),
        text(volume, "spec.persistentVolumeReclaimPolicy").into(),
        phase(volume).into(),
        claim.into(),
        text(volume, "spec.storageClassName").into(),
        class.into(),
        text(volume, "status.reason").into(),
        age(volume, now).into(),
        or_unset(text(volume, "spec.volumeMode")).into(),
    ]
}

/// `Terminating` for what is to go, as `printPersistentVolumeClaim` has it.
pub(in crate::view) fn phase(object: &Value) -> String {
    match at(object, "metadata.deletionTimestamp") {
        Some(_) => "Terminating".to_owned(),
        None => text(object, "status.phase").to_owned(),
    }
}

fn or_unset(text: &str) -> String {
    if text.is_empty() { super::cells::UNSET.to_owned() } else { text.to_owned() }
}

pub(super) const CLAIMS: &[Column] = &[
    shown("Name"),
    shown("Status"),
    shown("Volume"),
    shown("Capacity"),
    shown("Access Modes"),
    shown("StorageClass"),
    shown("VolumeAttributesClass"),
    shown("Age"),
    wide("VolumeMode"),
];

pub(super) fn claim(claim: &Value, now: Wall) -> Vec<Value> {
    vec![
        name(claim),
        phase(claim).into(),
        text(claim, "spec.volumeName").into(),
        plain(at(claim, "status.capacity.storage")).into(),
        access_modes(claim, "status.accessModes").into(),
        text(claim, "spec.storageClassName").into(),
        or_unset(text(claim, "spec.volumeAttributesClassName")).into(),
        age(claim, now).into(),
        or_unset(text(claim, "spec.volumeMode")).into(),
    ]
}

pub(super) const CREATED: &[Column] = &[shown("Name"), shown("Created At")];

pub(super) fn created(object: &Value, _now: Wall) -> Vec<Value> {
    vec![name(object), text(object, "metadata.creationTimestamp").into()]
}

pub(super) const QUOTAS: &[Column] =
    &[shown("Name"), shown("Request"), shown("Limit"), shown("Age")];

pub(super) fn quota(quota: &Value, now: Wall) -> Vec<Value> {
    let is_limit = |name: &str| name.starts_with("limits");
    vec![
        name(quota),
        used_of_hard(quota, |name| !is_limit(name)).into(),
        used_of_hard(quota, is_limit).into(),
        age(quota, now).into(),
    ]
}

pub(super) const BINDINGS: &[Column] = &[
    shown("Name"),
    shown("Role"),
    shown("Age"),
    wide("Users"),
    wide("Groups"),
    wide("ServiceAccounts"),
];

pub(super) fn binding(binding: &Value, now: Wall) -> Vec<Value> {
    let role = format!("{}/{}", text(binding, "roleRef.kind"), text(binding, "roleRef.name"));
    let subjects = |kind: &str| {
        let subjects = items(binding, "subjects").iter();
        let named = subjects.filter(|subject| text(subject, "kind") == kind).map(|subject| {
            match text(subject, "namespace") {
                "" => text(subject, "name").to_owned(),
                namespace => format!("{namespace}/{}", text(subject, "name")),
            }
        });
        named.collect::<Vec<_>>().join(", ")
    };
    vec![
        name(binding),
        role.into(),
        age(binding, now).into(),
        subjects("User").into(),
        subjects("Group").into(),
        subjects("ServiceAccount").into(),
    ]
}
