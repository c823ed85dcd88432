//! Claims, volumes and classes, told.

use serde_json::Value;

use super::Page;
use crate::kinds::name::Name;
use crate::kinds::object::Key;
use crate::plan::storage::claims_of;
use crate::view::json::{at, items, members, pairs, text};
use crate::view::picture::Picture;
use crate::view::table::{access_modes, phase};

fn class_or_none(object: &Value) -> &str {
    text(object, "spec.storageClassName")
}

fn finalizers(page: &mut Page, object: &Value) {
    let all = items(object, "metadata.finalizers").iter().filter_map(Value::as_str);
    page.field(0, "Finalizers", format!("[{}]", all.collect::<Vec<_>>().join(" ")));
}

pub(super) fn claim(page: &mut Page, picture: &Picture, key: &Key, claim: &Value) {
    page.head(claim);
    page.source(claim);
    page.field(0, "StorageClass", class_or_none(claim));
    page.field(0, "Status", phase(claim));
    page.field(0, "Volume", text(claim, "spec.volumeName"));
    page.labels("Labels", claim, "metadata.labels");
    page.annotations(claim);
    finalizers(page, claim);
    page.field(0, "Capacity", text(claim, "status.capacity.storage"));
    page.field(0, "Access Modes", access_modes(claim, "status.accessModes"));
    page.field(0, "VolumeMode", text(claim, "spec.volumeMode"));
    page.list("Used By", &users(picture, key));
}

/// The pods that name a claim.
fn users(picture: &Picture, key: &Key) -> Vec<String> {
    let pods =
        picture.pods().filter(|pod| Some(&pod.binding.key.namespace) == key.namespace.as_ref());
    let names = |claim: &&Name| **claim == key.name;
    let using = pods.filter(|pod| {
        let template = pod.template.as_ref();
        template.is_some_and(|template| claims_of(&template.spec).any(|claim| names(&claim)))
    });
    let mut users: Vec<String> = using.map(|pod| pod.binding.key.name.to_string()).collect();
    users.sort();
    users
}

pub(super) fn volume(page: &mut Page, volume: &Value) {
    page.head(volume);
    page.source(volume);
    page.labels("Labels", volume, "metadata.labels");
    page.annotations(volume);
    finalizers(page, volume);
    page.field(0, "StorageClass", class_or_none(volume));
    page.field(0, "Status", phase(volume));
    let claim = at(volume, "spec.claimRef").map_or_else(String::new, |claim| {
        format!("{}/{}", text(claim, "namespace"), text(claim, "name"))
    });
    page.field(0, "Claim", claim);
    page.field(0, "Reclaim Policy", text(volume, "spec.persistentVolumeReclaimPolicy"));
    page.field(0, "Access Modes", access_modes(volume, "spec.accessModes"));
    page.field(0, "VolumeMode", text(volume, "spec.volumeMode"));
    page.field(0, "Capacity", text(volume, "spec.capacity.storage"));
    affinity(page, volume);
    page.line(0, "Source:");
    source(page, volume);
}

fn affinity(page: &mut Page, volume: &Value) {
    let terms = items(volume, "spec.nodeAffinity.required.nodeSelectorTerms");
    if terms.is_empty() {
        page.field(0, "Node Affinity", "<none>");
        return;
    }
    page.line(0, "Node Affinity:");
    page.line(1, "Required Terms:");
    for (number, term) in terms.iter().enumerate() {
        let lists = ["matchExpressions", "matchFields"].map(|list| items(term, list));
        let all: Vec<String> = lists.into_iter().flatten().map(requirement).collect();
        page.field(2, &format!("Term {number}"), all.join(", "));
    }
}

fn requirement(requirement: &Value) -> String {
    let values = items(requirement, "values").iter().filter_map(Value::as_str);
    let values: Vec<&str> = values.collect();
    let operator = text(requirement, "operator").to_lowercase();
    format!("{} {operator} [{}]", text(requirement, "key"), values.join(", "))
}

fn source(page: &mut Page, volume: &Value) {
    let kinds = [
        ("hostPath", "HostPath (bare host directory volume)"),
        ("local", "LocalVolume (a persistent volume backed by local storage on a node)"),
        ("nfs", "NFS (an NFS mount that lasts the lifetime of a pod)"),
        ("flexVolume", "Docker (a volume of a Docker volume driver)"),
    ];
    let spec = at(volume, "spec").unwrap_or(&Value::Null);
    let found = kinds.iter().find_map(|(kind, words)| Some((spec.get(*kind)?, words)));
    let Some((source, words)) = found else {
        page.field(1, "Type", "<unknown>");
        return;
    };
    page.field(1, "Type", words);
    for (name, field) in [
        ("Server", "server"),
        ("Path", "path"),
        ("HostPathType", "type"),
        ("Driver", "driver"),
        ("Volume", "options.name"),
    ] {
        page.field_if(1, name, text(source, field));
    }
}

pub(super) fn class(page: &mut Page, class: &Value) {
    page.head(class);
    page.source(class);
    let default = ("storageclass.kubernetes.io/is-default-class", "true");
    let is_default = pairs(class, "metadata.annotations").contains(&default);
    page.field(0, "IsDefaultClass", if is_default { "Yes" } else { "No" });
    page.annotations(class);
    page.field(0, "Provisioner", text(class, "provisioner"));
    let parameters: Vec<String> = members(class, "parameters")
        .map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()))
        .collect();
    let parameters = parameters.join(",");
    page.field(0, "Parameters", if parameters.is_empty() { "<none>" } else { &parameters });
    page.field(0, "ReclaimPolicy", text(class, "reclaimPolicy"));
    page.field(0, "VolumeBindingMode", text(class, "volumeBindingMode"));
}
