//! Whether a fleet's past shows in what it has come to.
//!
//! Two travellers meet at the same inn, one after years of wandering, one straight from home: they are
//! shown the same room. When all is healed and settled, a fresh fleet of the same machines is given
//! what is in force as its first and only commit; what both show to kubectl must be the same.
//!
//! The rule: everything that can be shown is compared, save what is excepted here, each exception with
//! its reason ([`is_history`], [`is_identity`], [`stays_back`], [`is_half_way`] and the kinds in [`form`]).
//!
//! The limit: in a repository that is divided into apps, which commit of each is in force may rest on
//! what was healthy before; the fresh fleet is given what is in force, whatever that is.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::{Files, Weather, World, check};
use crate::kinds::binding::DEFAULT_APP;
use crate::kinds::name::PodKey;
use crate::kinds::object::{Body, Key, Object};
use crate::kinds::registry::{KINDS, Kind};
use crate::kinds::workload::{DaemonUpdate, SetUpdate};
use crate::ports::runtime::Pulls;
use crate::state::records::AppHead;
use crate::view::objects::{ANNOTATION_COMMIT, ANNOTATION_SOURCE, Shown, list};
use crate::view::picture::Picture;

/// A fleet of the same machines that has never known anything but these files, settled.
pub(super) fn fresh(world: &World, files: Files, patience: Duration) -> Result<World, String> {
    let mut fresh = World::new(0, Weather::default());
    fresh.folds_above = world.folds_above;
    fresh.store.is_local = world.store.is_local;
    fresh.remote.commit("all that is in force", files);
    for node in world.machines.keys() {
        fresh.add_machine(node.as_str());
    }
    let mut missing = String::new();
    let mut next_look = Duration::ZERO;
    while next_look < patience {
        next_look += Duration::from_secs(5);
        while fresh.step(next_look) {}
        match check::settled(&fresh) {
            Ok(()) => return Ok(fresh),
            Err(what) => missing = what,
        }
    }
    Err(format!("it did not settle: {missing}"))
}

/// The files in force, put together out of what each app has.
pub(super) fn in_force(world: &World) -> Result<Files, String> {
    let state = check::decoded(world)?;
    let mut all = Files::new();
    let mut is_divided = false;
    for (app, state) in &state.apps {
        let Some(applied) = &state.head.applied else {
            continue;
        };
        is_divided |= *app != *DEFAULT_APP;
        all.extend(check::files_of(world, &applied.revision, app));
    }
    if is_divided {
        // Neither waits for the other, and neither goes back: what they are to have is settled.
        let apps = "apps: [{name: a, path: a}, {name: b, path: b}]\n";
        all.insert("windlass.yaml".to_owned(), apps.to_owned());
    }
    // Nor does a later wave wait for one that never becomes healthy: it had come before.
    all.values_mut().for_each(|text| *text = text.replace(super::shop::WAVE, ""));
    Ok(all)
}

/// Whether a wave or a canary stands still before something that never becomes healthy: what runs in
/// place of the rest is what was there before, which a fresh fleet can't have.
pub(super) fn is_half_way(world: &World) -> Result<bool, String> {
    let state = check::decoded(world)?;
    let is_so = |head: &AppHead| head.waves_now().is_some() || head.canary_now().is_some();
    Ok(state.apps.values().any(|app| is_so(&app.head)))
}

/// What of two worlds differs, if anything does.
pub(super) fn difference(world: &World, fresh: &World) -> Option<String> {
    let forms = [world, fresh].map(|world| picture(world).map(|picture| form(&picture)));
    let [Some(own), Some(other)] = forms else {
        return Some("nobody coordinates".to_owned());
    };
    let names: BTreeSet<&String> = own.keys().chain(other.keys()).collect();
    let differs = names.into_iter().filter(|name| own.get(*name) != other.get(*name));
    let text: Vec<String> = differs
        .take(3)
        .map(|name| {
            let said = |form: &BTreeMap<String, Value>| {
                form.get(name).map_or("nothing".to_owned(), Value::to_string)
            };
            format!("{name}:\n  has come to  {}\n  begins with  {}", said(&own), said(&other))
        })
        .collect();
    (!text.is_empty()).then(|| text.join("\n"))
}

/// What the coordinator shows: it has read everything.
fn picture(world: &World) -> Option<Picture> {
    world.machines.values().find_map(|machine| {
        let now = machine.now(world.time);
        let agent = machine.agent().filter(|agent| agent.is_coordinator(now))?;
        Some(agent.picture(&Pulls::default(), now))
    })
}

/// Everything a world shows, by name, without its past.
fn form(picture: &Picture) -> BTreeMap<String, Value> {
    let objects = || picture.objects().map(|found| found.object);
    let behind: BTreeSet<Key> =
        objects().filter(|object| stays_back(object)).map(|object| object.key.clone()).collect();
    let mut form = BTreeMap::new();
    for (app, state) in &picture.state.apps {
        for (key, _) in state.objects() {
            form.insert(format!("{key} is in force"), Value::from(app.as_str()));
        }
    }
    for info in KINDS {
        for shown in list(picture, info.kind) {
            match info.kind {
                // What happened, and who saw it. Memory of earlier templates: the one in force is in
                // its set's status. And volumes: data outlives what made it, for a claim that may
                // come back.
                Kind::Event | Kind::Lease | Kind::ControllerRevision | Kind::PersistentVolume => {}
                Kind::PersistentVolumeClaim => claim(&mut form, &shown),
                Kind::Job => job(&mut form, &shown),
                // For which minutes there were Jobs is a matter of when it was looked.
                Kind::CronJob => put(&mut form, &shown, &["/status"]),
                Kind::Pod => pod(&mut form, picture, &behind, &shown),
                Kind::ReplicaSet => set(&mut form, &behind, &shown),
                Kind::EndpointSlice | Kind::Endpoints => {
                    endpoints(&mut form, &behind, &shown);
                }
                // It is called as its workload.
                Kind::PodDisruptionBudget => {
                    let is_behind = behind.iter().any(|key| key.name == shown.key.name);
                    put(&mut form, &shown, if is_behind { &["/status"] } else { &[] });
                }
                _ if behind.contains(&shown.key) => put(&mut form, &shown, &["/status"]),
                _ => put(&mut form, &shown, &[]),
            }
        }
    }
    form
}

/// Whether pods of earlier templates may rightly be left of an object, or be all there is: what was
/// held back stays where it was met, and a roll-out to what never becomes ready stands still beside
/// what ran before, as far as its budget lets it.
pub(super) fn stays_back(object: &Object) -> bool {
    let image = object.body.template().and_then(|template| template.spec.containers.first());
    let never_arrives = image.is_some_and(|container| !check::runs_well(&container.image));
    never_arrives || is_held_back(&object.body)
}

/// Whether somebody holds a roll-out back, or the kind has none.
pub(super) fn is_held_back(body: &Body) -> bool {
    match body {
        Body::Deployment(deployment) => deployment.paused,
        Body::StatefulSet(set) => match set.update {
            SetUpdate::OnDelete => true,
            SetUpdate::RollingUpdate { partition, .. } => partition > 0,
        },
        Body::DaemonSet(set) => matches!(set.update, DaemonUpdate::OnDelete),
        // Another template is for the pods to come.
        Body::ReplicaSet(_) => true,
        _ => false,
    }
}

fn put(form: &mut BTreeMap<String, Value>, shown: &Shown, without: &[&str]) {
    let mut json = shown.json.clone();
    for pointer in without {
        take(&mut json, pointer);
    }
    strip(&mut json);
    form.insert(shown.key.to_string(), json);
}

fn take(json: &mut Value, pointer: &str) {
    if let Some((parent, name)) = pointer.rsplit_once('/')
        && let Some(Value::Object(parent)) = json.pointer_mut(parent)
    {
        parent.remove(name);
    }
}

/// Claims are excepted as far as they are bound: a claim has what it was given once. Those made for
/// pods outlive them.
fn claim(form: &mut BTreeMap<String, Value>, shown: &Shown) {
    if shown.json.pointer("/metadata/annotations").is_some_and(is_written) {
        put(form, shown, &["/status", "/spec/volumeName"]);
    }
}

fn is_written(annotations: &Value) -> bool {
    annotations.get(ANNOTATION_SOURCE).is_some()
}

/// Finished Jobs are excepted as far as how they ended: what ran once is not run again, and the power
/// that failed under a pod counts as its failure. Those that CronJobs made come and go.
fn job(form: &mut BTreeMap<String, Value>, shown: &Shown) {
    if shown.json.pointer("/metadata/ownerReferences").is_none() {
        put(form, shown, &["/status", "/spec/selector"]);
    }
}

/// Pods have names and nodes by chance, save those that have them by right.
fn pod(
    form: &mut BTreeMap<String, Value>,
    picture: &Picture,
    behind: &BTreeSet<Key>,
    shown: &Shown,
) {
    let Some(namespace) = &shown.key.namespace else {
        return;
    };
    let Some(pod) = picture.pod(&PodKey::new(namespace, &shown.key.name)) else {
        return;
    };
    let owner = &pod.binding.template.owner;
    let ends = matches!(owner.kind, Kind::Job | Kind::CronJob);
    if ends || behind.contains(owner) {
        return;
    }
    let mut json = shown.json.clone();
    let is_ready = pod.is_ready();
    for pointer in ["/status", "/metadata/ownerReferences", "/spec/nodeName"] {
        take(&mut json, pointer);
    }
    let has_name = pod.binding.index.is_some() || owner.kind == Kind::Pod;
    if !has_name {
        take(&mut json, "/metadata/name");
        take(&mut json, "/metadata/generateName");
    }
    if pod.binding.only_node.is_none() {
        take(&mut json, "/spec/affinity");
    }
    // Each has what LimitRanges gave when it was made.
    take(&mut json, "/spec/containers/0/resources");
    strip(&mut json);
    let name = format!("pods of {} ({}): {json}", pod.binding.owner, ready(is_ready));
    let count = form.get(&name).and_then(Value::as_u64).unwrap_or(0);
    form.insert(name, json!(count + 1));
}

fn ready(is_ready: bool) -> &'static str {
    if is_ready { "ready" } else { "not ready" }
}

/// ReplicaSets without pods are memory of earlier templates.
fn set(form: &mut BTreeMap<String, Value>, behind: &BTreeSet<Key>, shown: &Shown) {
    let owner = shown.json.pointer("/metadata/ownerReferences/0/name").and_then(Value::as_str);
    let is_behind = behind.iter().any(|key| Some(key.name.as_str()) == owner);
    let wants = shown.json.pointer("/spec/replicas").and_then(Value::as_u64);
    let has = shown.json.pointer("/status/replicas").and_then(Value::as_u64);
    if owner.is_none() || !is_behind && (wants, has) != (Some(0), Some(0)) {
        let without: &[&str] = if behind.contains(&shown.key) { &["/status"] } else { &[] };
        put(form, shown, without);
    }
}

/// How many there are behind a Service, and how they are. In the scenario it has its workload's name.
fn endpoints(form: &mut BTreeMap<String, Value>, behind: &BTreeSet<Key>, shown: &Shown) {
    let label = shown.json.pointer("/metadata/labels/kubernetes.io~1service-name");
    let service = label.and_then(Value::as_str).unwrap_or(shown.key.name.as_str());
    if behind.iter().any(|key| key.name == *service) {
        return;
    }
    let of = |pointer: &str| shown.json.pointer(pointer).cloned().unwrap_or_default();
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    let all = [of("/endpoints"), of("/subsets")];
    for mut endpoint in all.iter().filter_map(Value::as_array).flatten().cloned() {
        if let Some(fields) = endpoint.as_object_mut() {
            for address in ["targetRef", "nodeName", "zone"] {
                fields.remove(address);
            }
            for addresses in ["addresses", "notReadyAddresses"] {
                let count = fields.get(addresses).and_then(Value::as_array).map(Vec::len);
                fields.insert(addresses.to_owned(), json!(count));
            }
        }
        *counts.entry(endpoint.to_string()).or_default() += 1;
    }
    let name = format!("{} of {service}", shown.key.kind);
    form.insert(name, json!({"behind": counts, "ports": of("/ports")}));
}

/// Takes out what is excepted, wherever it stands.
fn strip(json: &mut Value) {
    match json {
        Value::Object(fields) => strip_fields(fields),
        Value::Array(items) => items.iter_mut().for_each(strip),
        _ => {}
    }
}

fn strip_fields(fields: &mut Map<String, Value>) {
    fields.retain(|name, _| !is_history(name) && !is_identity(name));
    for value in fields.values_mut() {
        strip(value);
    }
}

/// Since when, how often, by which commit: what came before is all that these tell.
fn is_history(field: &str) -> bool {
    const FIELDS: [&str; 22] = [
        ANNOTATION_COMMIT,
        // Who runs on from an earlier commit was written where that had it.
        ANNOTATION_SOURCE,
        "bootID",
        "collisionCount",
        "creationTimestamp",
        "deployment.kubernetes.io/revision",
        "deployment.kubernetes.io/revision-history",
        "generation",
        "kubernetes.io/change-cause",
        "kubernetes.io/limit-ranger",
        "lastHeartbeatTime",
        "lastProbeTime",
        "lastTransitionTime",
        "lastUpdateTime",
        "observedGeneration",
        "startTime",
        // Images come and stay.
        "images",
        // A set that was rolled away from and back is scaled by what was asked for then.
        "deployment.kubernetes.io/desired-replicas",
        "deployment.kubernetes.io/max-replicas",
        // Who is in force in a StatefulSet is told by the newer of its two.
        "currentRevision",
        "currentReplicas",
        // In which order it came into force.
        "windlass.dev/wave",
    ];
    FIELDS.contains(&field)
}

/// What is given out as it comes, and kept for one life: ids, addresses, ports.
fn is_identity(field: &str) -> bool {
    const FIELDS: [&str; 14] = [
        "uid",
        "controller-uid",
        "batch.kubernetes.io/controller-uid",
        "clusterIP",
        "clusterIPs",
        "healthCheckNodePort",
        "hostIP",
        "hostIPs",
        "nodePort",
        "podCIDR",
        "podCIDRs",
        "podIP",
        "podIPs",
        "resourceVersion",
    ];
    FIELDS.contains(&field)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::tests::run_for;

    fn shop(replicas: u32) -> Files {
        let text = format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n---\napiVersion: apps/v1\nkind: \
             Deployment\nmetadata: {{name: web, namespace: shop}}\nspec: {{replicas: {replicas}, selector: \
             {{matchLabels: {{app: web}}}}, template: {{metadata: {{labels: {{app: web}}}}, spec: \
             {{containers: [{{name: main, image: \"run:v1\"}}]}}}}}}\n"
        );
        Files::from([("web.yaml".to_owned(), text)])
    }

    fn settled(histories: &[Files]) -> World {
        let mut world = World::new(3, Weather::default());
        world.add_machine("n0");
        world.add_machine("n1");
        for files in histories {
            world.remote.commit("a change", files.clone());
            run_for(&mut world, 60);
        }
        world
    }

    #[test]
    fn what_is_left_of_the_past_is_told() {
        let world = settled(&[shop(1), shop(3)]);
        let patience = Duration::from_secs(300);
        let files = in_force(&world).expect("something is in force");
        let mut same = fresh(&world, files, patience).expect("it settles");
        run_for(&mut same, 30);
        assert_eq!(difference(&world, &same), None);
        let mut other = fresh(&world, shop(2), patience).expect("it settles");
        run_for(&mut other, 30);
        let told = difference(&world, &other).expect("one pod more");
        assert!(told.contains("Deployment shop/web"), "{told}");
    }
}
