//! What every cluster has, and what the cluster says of itself: namespaces, accounts, events, leases.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value, json};

use super::{Shown, meta};
use crate::kinds::digest::Digest;
use crate::kinds::name::{GIVEN_NAMESPACES, Name, NodeName};
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::kinds::status::EventRecord;
use crate::kinds::time::Wall;
use crate::kinds::workload::SYSTEM_CLASSES;
use crate::view::json::child;
use crate::view::picture::Picture;

/// Where nodes' leases are.
const NODE_LEASES: &str = "kube-node-lease";
/// Where the coordinator's lease is.
const COORDINATOR_LEASES: &str = "kube-system";
/// The coordinator's lease.
const COORDINATOR: &str = "windlass-coordinator";
/// A node's lease is shown as renewed at these steps of seconds: often enough to tell that it lives,
/// seldom enough not to wake those who watch.
const LEASE_STEP_S: i64 = 10;
/// Kubernetes' word for how long a node may be silent (`nodeLeaseDurationSeconds`).
const NODE_LEASE_S: u32 = 40;

pub(super) fn namespaces(picture: &Picture) -> Vec<Shown> {
    let mut shown: BTreeMap<Name, Shown> = BTreeMap::new();
    for found in picture.objects_of(Kind::Namespace) {
        let key = found.object.key.clone();
        let object = meta::written(&found);
        shown.insert(key.name.clone(), namespace(key, object, true));
    }
    for name in GIVEN_NAMESPACES.map(Name::trusted) {
        let key = Key::cluster(Kind::Namespace, &name);
        shown.entry(name).or_insert_with(|| {
            let mut object = meta::blank(&key);
            meta::identify(&mut object, &meta::given_uid(&key), picture.born());
            namespace(key, object, true)
        });
    }
    for (name, left) in leaving(picture, &shown) {
        let key = Key::cluster(Kind::Namespace, &name);
        let mut object = meta::blank(&key);
        meta::identify(&mut object, &meta::given_uid(&key), Some(left.oldest));
        let since = left.since.map(|since| since.to_string());
        child(&mut object, "metadata").insert("deletionTimestamp".into(), json!(since));
        let Shown { key, mut json, hidden } = namespace(key, object, false);
        json["status"]["conditions"] = left.conditions(since.as_deref());
        shown.insert(name, Shown { key, json, hidden });
    }
    shown.into_values().collect()
}

/// What is left in a namespace that is gone from Git.
struct Left {
    claims: usize,
    pods: usize,
    /// Since when there has been the oldest of them.
    oldest: Wall,
    /// Since when the first of them has been ending.
    since: Option<Wall>,
}

impl Left {
    fn note(&mut self, created: Wall, since: Option<Wall>) {
        self.oldest = self.oldest.min(created);
        self.since = [self.since, since].into_iter().flatten().min();
    }

    /// As the namespace controller words it (`nsConditionUpdater`).
    fn conditions(&self, since: Option<&str>) -> Value {
        let counts = [("persistentvolumeclaims", self.claims), ("pods", self.pods)];
        let left = counts.iter().filter(|(_, count)| *count > 0);
        let words = left.map(|(what, count)| format!("{what}. has {count} resource instances"));
        let words: Vec<String> = words.collect();
        let condition = |kind: &str, reason: &str, message: String| {
            json!({
                "type": kind,
                "status": "True",
                "reason": reason,
                "message": message,
                "lastTransitionTime": since,
            })
        };
        let message = format!("Some resources are remaining: {}", words.join(", "));
        let remaining = condition("NamespaceContentRemaining", "SomeResourcesRemain", message);
        if self.claims == 0 {
            return json!([remaining]);
        }
        let message = format!(
            "Some content in the namespace has finalizers remaining: \
             kubernetes.io/pvc-protection in {} resource instances",
            self.claims
        );
        let kept = condition("NamespaceFinalizersRemaining", "SomeFinalizersRemain", message);
        json!([remaining, kept])
    }
}

/// Namespaces that are gone from Git and still have pods, or claims.
fn leaving(picture: &Picture, known: &BTreeMap<Name, Shown>) -> BTreeMap<Name, Left> {
    let mut leaving: BTreeMap<Name, Left> = BTreeMap::new();
    let mut left = |namespace: &Name, created: Wall, since: Option<Wall>, is_claim: bool| {
        if known.contains_key(namespace) {
            return;
        }
        let none = Left { claims: 0, pods: 0, oldest: created, since: None };
        let left = leaving.entry(namespace.clone()).or_insert(none);
        left.note(created, since);
        left.claims += usize::from(is_claim);
        left.pods += usize::from(!is_claim);
    };
    for (_, pod) in picture.state.all_pods() {
        let since = pod.deletion.as_ref().map(|deletion| deletion.since);
        left(&pod.key.namespace, pod.created, since, false);
    }
    for (key, claim) in picture.state.all_claims() {
        left(&key.namespace, claim.created, claim.leaving, true);
    }
    leaving
}

fn namespace(key: Key, mut object: Map<String, Value>, is_active: bool) -> Shown {
    let metadata = child(&mut object, "metadata");
    let name_label = "kubernetes.io/metadata.name".to_owned();
    child(metadata, "labels").insert(name_label, key.name.as_str().into());
    object.insert("spec".into(), json!({"finalizers": ["kubernetes"]}));
    let phase = if is_active { "Active" } else { "Terminating" };
    object.insert("status".into(), json!({"phase": phase}));
    Shown::new(key, Value::Object(object))
}

pub(super) fn service_accounts(picture: &Picture) -> Vec<Shown> {
    let mut shown: BTreeMap<Key, Shown> = BTreeMap::new();
    for found in picture.objects_of(Kind::ServiceAccount) {
        let key = found.object.key.clone();
        let object = Value::Object(meta::written(&found));
        shown.insert(key.clone(), Shown::new(key, object));
    }
    for namespace in namespaces(picture) {
        let default = Name::trusted("default");
        let key = Key::namespaced(Kind::ServiceAccount, &namespace.key.name, &default);
        let created = namespace.json.pointer("/metadata/creationTimestamp");
        shown.entry(key.clone()).or_insert_with(|| {
            let mut object = meta::blank(&key);
            let created = created.and_then(Value::as_str).and_then(Wall::parse);
            meta::identify(&mut object, &meta::given_uid(&key), created);
            Shown::new(key, Value::Object(object))
        });
    }
    shown.into_values().collect()
}

pub(super) fn priority_classes(picture: &Picture) -> Vec<Shown> {
    let mut shown = super::written::list(picture, Kind::PriorityClass);
    for (name, value) in SYSTEM_CLASSES {
        let key = Key::cluster(Kind::PriorityClass, &Name::trusted(name));
        if shown.iter().all(|shown| shown.key != key) {
            let mut object = meta::blank(&key);
            meta::identify(&mut object, &meta::given_uid(&key), picture.born());
            object.insert("value".into(), value.into());
            object.insert("description".into(), description(name).into());
            object.insert("preemptionPolicy".into(), "PreemptLowerPriority".into());
            shown.push(Shown::new(key, Value::Object(object)));
        }
    }
    shown
}

/// As Kubernetes describes the classes it makes itself.
fn description(class: &str) -> &'static str {
    match class {
        "system-node-critical" => {
            "Used for system critical pods that must not be moved from their current node."
        }
        _ => {
            "Used for system critical pods that must run in the cluster, but can be moved to another \
             node if necessary."
        }
    }
}

pub(super) fn events(picture: &Picture) -> Vec<Shown> {
    let mut taken = BTreeSet::new();
    picture
        .happenings()
        .map(|(node, event)| {
            let mut shown = self::event(node, event, 0);
            // One that was told twice with other words in between is one name, told apart.
            let mut salt = 0;
            while !taken.insert(shown.key.clone()) {
                salt += 1;
                shown = self::event(node, event, salt);
            }
            shown
        })
        .collect()
}

fn event(node: Option<&NodeName>, event: &EventRecord, salt: u32) -> Shown {
    let about = &event.about;
    // Events about things outside namespaces are filed under `default`, as in Kubernetes.
    let namespace = about.namespace.clone().unwrap_or_else(|| Name::trusted("default"));
    let uid = event.uid.as_ref().map_or("", |uid| uid.as_str());
    let teller = node.map_or("", Name::as_str);
    let salt = salt.to_string();
    let parts = [teller, &event.source, uid, &event.reason, &event.message, &salt];
    let digest = Digest::of_parts(parts.map(str::as_bytes));
    let name = Name::trusted(&format!("{}.{}", about.name, &digest.hex()[..16]));
    let key = Key::namespaced(Kind::Event, &namespace, &name);
    let mut object = meta::blank(&key);
    let identity = crate::kinds::name::Uid::from_bytes(digest.first_16());
    meta::identify(&mut object, &identity, Some(event.first));
    let component = format!("windlass-{}", event.source);
    let mut source = json!({"component": component});
    if let Some(node) = node {
        source["host"] = node.as_str().into();
    }
    let fields = json!({
        "involvedObject": involved(event),
        "reason": event.reason,
        "message": event.message,
        "source": source,
        "firstTimestamp": event.first.to_string(),
        "lastTimestamp": event.last.to_string(),
        "count": event.count,
        "type": if event.warning { "Warning" } else { "Normal" },
        "eventTime": null,
        "reportingComponent": component,
        "reportingInstance": teller,
    });
    if let Value::Object(fields) = fields {
        object.extend(fields);
    }
    Shown::new(key, Value::Object(object))
}

fn involved(event: &EventRecord) -> Value {
    let about = &event.about;
    let mut involved = json!({
        "kind": about.kind.name(),
        "name": about.name.as_str(),
        "apiVersion": about.kind.api_version(),
    });
    if let Some(namespace) = &about.namespace {
        involved["namespace"] = namespace.as_str().into();
    }
    if let Some(uid) = &event.uid {
        involved["uid"] = uid.as_str().into();
    }
    involved
}

pub(super) fn leases(picture: &Picture) -> Vec<Shown> {
    let mut shown = Vec::new();
    if let Some(lease) = &picture.state.lease {
        let name = Name::trusted(COORDINATOR);
        let namespace = Name::trusted(COORDINATOR_LEASES);
        let key = Key::namespaced(Kind::Lease, &namespace, &name);
        shown.push(self::lease(
            &key,
            lease.holder.as_str(),
            lease.duration_s,
            lease.acquired,
            lease.acquired,
            Some(lease.term),
        ));
    }
    let seconds = picture.now.wall.seconds();
    let now = Wall::from_seconds(seconds - seconds.rem_euclid(LEASE_STEP_S));
    for (name, input) in &picture.nodes {
        let key = Key::namespaced(Kind::Lease, &Name::trusted(NODE_LEASES), name);
        let started = input.facts.started;
        let renewed = if input.is_ready { now } else { started };
        shown.push(self::lease(&key, name.as_str(), NODE_LEASE_S, started, renewed, None));
    }
    shown
}

fn lease(
    key: &Key,
    holder: &str,
    duration_s: u32,
    acquired: Wall,
    renewed: Wall,
    term: Option<u64>,
) -> Shown {
    let mut object = meta::blank(key);
    meta::identify(&mut object, &meta::given_uid(key), Some(acquired));
    let mut spec = json!({
        "holderIdentity": holder,
        "leaseDurationSeconds": duration_s,
        "acquireTime": micro(acquired),
        "renewTime": micro(renewed),
    });
    if let Some(term) = term {
        spec["leaseTransitions"] = term.into();
    }
    object.insert("spec".into(), spec);
    Shown::new(key.clone(), Value::Object(object))
}

/// `metav1.MicroTime`.
fn micro(wall: Wall) -> String {
    let text = wall.to_string();
    let millis = wall.millis().rem_euclid(1000);
    format!("{}.{millis:03}000Z", text.trim_end_matches('Z'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_in_a_namespace_is_counted_by_kind() {
        let told = |claims, pods| {
            let left = Left { claims, pods, oldest: Wall::default(), since: None };
            let conditions = left.conditions(None);
            let messages = conditions.as_array().into_iter().flatten();
            let messages = messages.map(|one| one["message"].as_str().unwrap_or("").to_owned());
            messages.collect::<Vec<_>>()
        };
        assert_eq!(told(0, 3), ["Some resources are remaining: pods. has 3 resource instances"]);
        let both = "Some resources are remaining: persistentvolumeclaims. has 1 resource instances, \
                    pods. has 2 resource instances";
        let kept = "Some content in the namespace has finalizers remaining: \
                    kubernetes.io/pvc-protection in 1 resource instances";
        assert_eq!(told(1, 2), [both, kept]);
    }
}
