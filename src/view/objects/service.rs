//! Services with what was allotted to them, and the two forms in which Kubernetes tells what is
//! behind one.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::{Shown, meta};
use crate::kinds::digest::Digest;
use crate::kinds::name::{Name, PodKey};
use crate::kinds::object::{Body, Key};
use crate::kinds::registry::Kind;
use crate::kinds::service::{Endpoint, EndpointState, Reach, Service};
use crate::net::ServiceView;
use crate::state::records::ServiceAllocation;
use crate::view::json::child;
use crate::view::picture::{Found, Picture};

/// The Service an EndpointSlice belongs to.
pub(in crate::view) const LABEL_SERVICE_NAME: &str = "kubernetes.io/service-name";
const LABEL_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
/// `endpointslice.MaxEndpoints`: what the API allows one slice to hold.
const ENDPOINTS_MAX: usize = 1000;

pub(super) fn services(picture: &Picture) -> Vec<Shown> {
    let objects = picture.objects_of(Kind::Service);
    objects.map(|found| service(picture, &found)).collect()
}

fn service(picture: &Picture, found: &Found<'_>) -> Shown {
    let key = &found.object.key;
    let mut object = meta::written(found);
    let Body::Service(written) = &found.object.body else {
        return Shown::new(key.clone(), Value::Object(object));
    };
    let allotted =
        key.namespace.as_ref().and_then(|namespace| picture.state.service(namespace, &key.name));
    let nothing = ServiceAllocation::default();
    fill_in(child(&mut object, "spec"), written, allotted.unwrap_or(&nothing));
    let published = view_of(picture, key).map(|view| {
        let ips = view.load_balancer_ips.iter();
        ips.map(|ip| json!({"ip": ip.to_string(), "ipMode": "VIP"})).collect::<Vec<_>>()
    });
    let mut balancer = json!({});
    if let Some(published) = published.filter(|published| !published.is_empty()) {
        balancer["ingress"] = Value::Array(published);
    }
    object.insert("status".into(), json!({"loadBalancer": balancer}));
    Shown::new(key.clone(), Value::Object(object))
}

fn fill_in(spec: &mut Map<String, Value>, written: &Service, allotted: &ServiceAllocation) {
    if let Some(ip) = allotted.cluster_ip {
        spec.insert("clusterIP".into(), ip.to_string().into());
        spec.insert("clusterIPs".into(), json!([ip.to_string()]));
    }
    if written.reach.has_cluster_ip() || written.reach == Reach::Headless {
        for (name, value) in
            [("ipFamilies", json!(["IPv4"])), ("ipFamilyPolicy", "SingleStack".into())]
        {
            spec.entry(name).or_insert(value);
        }
    }
    if written.reach == Reach::Headless {
        spec.insert("clusterIPs".into(), json!(["None"]));
    }
    if let Some(port) = allotted.health_check_port {
        spec.insert("healthCheckNodePort".into(), port.into());
    }
    let Some(Value::Array(ports)) = spec.get_mut("ports") else {
        return;
    };
    for (json, port) in ports.iter_mut().zip(&written.ports) {
        if let Some(number) = allotted.node_ports.get(&port.allocation_key()) {
            json["nodePort"] = (*number).into();
        }
    }
}

fn view_of<'p>(picture: &'p Picture, key: &Key) -> Option<&'p ServiceView> {
    picture
        .services
        .iter()
        .find(|view| Some(&view.namespace) == key.namespace.as_ref() && view.name == key.name)
}

/// Pods by name, to point at them.
fn uids(picture: &Picture) -> BTreeMap<PodKey, String> {
    let pods = picture.state.all_pods();
    pods.map(|(_, pod)| (pod.key.clone(), pod.uid.to_string())).collect()
}

fn target(endpoint: &Endpoint, uids: &BTreeMap<PodKey, String>) -> Option<Value> {
    let pod = endpoint.pod.as_ref()?;
    let mut target = json!({
        "kind": "Pod",
        "namespace": pod.namespace.as_str(),
        "name": pod.name.as_str(),
    });
    if let Some(uid) = uids.get(pod) {
        target["uid"] = uid.as_str().into();
    }
    Some(target)
}

/// Endpoints that have the same port numbers share a slice and a subset.
fn by_ports(view: &ServiceView) -> BTreeMap<&[Option<u16>], Vec<&Endpoint>> {
    let mut groups: BTreeMap<&[Option<u16>], Vec<&Endpoint>> = BTreeMap::new();
    for endpoint in &view.endpoints {
        let group = groups.entry(endpoint.ports.as_slice()).or_default();
        group.push(endpoint);
    }
    groups
}

fn ports(service: &Service, numbers: &[Option<u16>]) -> Value {
    let ports = service.ports.iter().zip(numbers);
    let known = ports.filter_map(|(port, number)| {
        let number = (*number)?;
        Some(json!({
            "name": port.name.as_ref().map_or("", Name::as_str),
            "port": number,
            "protocol": port.protocol.as_str(),
        }))
    });
    Value::Array(known.collect())
}

/// Services that have endpoints of ours: those with a selector.
fn selecting(picture: &Picture) -> impl Iterator<Item = &ServiceView> {
    picture.services.iter().filter(|view| {
        view.spec.selector.is_some() && !matches!(view.spec.reach, Reach::ExternalName(_))
    })
}

fn service_key(view: &ServiceView) -> Key {
    Key::namespaced(Kind::Service, &view.namespace, &view.name)
}

pub(super) fn slices(picture: &Picture) -> Vec<Shown> {
    let uids = uids(picture);
    let mut shown = Vec::new();
    for view in selecting(picture) {
        let mut groups = by_ports(view);
        if groups.is_empty() {
            // A Service without endpoints has an empty slice: clients look for one.
            groups.insert(&[], Vec::new());
        }
        for (numbers, endpoints) in groups {
            let pieces: Vec<&[&Endpoint]> = match endpoints.as_slice() {
                [] => vec![&[]],
                all => all.chunks(ENDPOINTS_MAX).collect(),
            };
            for (at, piece) in pieces.into_iter().enumerate() {
                shown.push(slice(picture, view, numbers, at, piece, &uids));
            }
        }
    }
    shown
}

fn slice(
    picture: &Picture,
    view: &ServiceView,
    numbers: &[Option<u16>],
    piece: usize,
    endpoints: &[&Endpoint],
    uids: &BTreeMap<PodKey, String>,
) -> Shown {
    let text = format!("{}/{} {numbers:?} {piece}", view.namespace, view.name);
    let suffix = Digest::of(text.as_bytes()).safe_text(5);
    let name = Name::trusted(&format!("{}-{suffix}", view.name));
    let key = Key::namespaced(Kind::EndpointSlice, &view.namespace, &name);
    let mut object = meta::blank(&key);
    adorn(picture, view, &key, &mut object);
    let metadata = child(&mut object, "metadata");
    metadata.insert("generateName".into(), format!("{}-", view.name).into());
    let labels = child(metadata, "labels");
    labels.insert(LABEL_SERVICE_NAME.into(), view.name.as_str().into());
    labels.insert(LABEL_MANAGED_BY.into(), "windlass".into());
    object.insert("addressType".into(), "IPv4".into());
    let endpoints = endpoints.iter().map(|one| slice_endpoint(one, uids));
    object.insert("endpoints".into(), Value::Array(endpoints.collect()));
    object.insert("ports".into(), ports(&view.spec, numbers));
    Shown::new(key, Value::Object(object))
}

/// Labels, age and owner, which are the Service's.
fn adorn(picture: &Picture, view: &ServiceView, key: &Key, object: &mut Map<String, Value>) {
    let service = picture.object(&service_key(view));
    let entry = service.and_then(|found| found.entry);
    meta::identify(object, &meta::given_uid(key), entry.map(|entry| entry.created));
    let metadata = child(object, "metadata");
    if let Some(found) = service {
        let labels = child(metadata, "labels");
        for (name, value) in &found.object.labels {
            labels.insert(name.clone(), value.as_str().into());
        }
    }
    if let Some(entry) = entry.filter(|_| key.kind == Kind::EndpointSlice) {
        let owner = meta::owner("v1", "Service", &view.name, &entry.uid);
        metadata.insert("ownerReferences".into(), owner);
    }
}

fn slice_endpoint(endpoint: &Endpoint, uids: &BTreeMap<PodKey, String>) -> Value {
    let (ready, serving, terminating) = match endpoint.state {
        EndpointState::Ready => (true, true, false),
        EndpointState::ServingTerminating => (false, true, true),
        EndpointState::NotReady => (false, false, false),
    };
    let mut json = json!({
        "addresses": [endpoint.ip.to_string()],
        "conditions": {"ready": ready, "serving": serving, "terminating": terminating},
    });
    if let Some(target) = target(endpoint, uids) {
        json["targetRef"] = target;
    }
    if let Some(node) = &endpoint.node {
        json["nodeName"] = node.as_str().into();
    }
    if let Some(hostname) = &endpoint.hostname {
        json["hostname"] = hostname.as_str().into();
    }
    json
}

pub(super) fn endpoints(picture: &Picture) -> Vec<Shown> {
    let uids = uids(picture);
    let one = |view| endpoints_of(picture, view, &uids);
    selecting(picture).map(one).collect()
}

fn endpoints_of(picture: &Picture, view: &ServiceView, uids: &BTreeMap<PodKey, String>) -> Shown {
    let key = Key::namespaced(Kind::Endpoints, &view.namespace, &view.name);
    let mut object = meta::blank(&key);
    adorn(picture, view, &key, &mut object);
    let groups = by_ports(view).into_iter();
    let subsets: Vec<Value> =
        groups.map(|(numbers, endpoints)| subset(view, numbers, &endpoints, uids)).collect();
    if !subsets.is_empty() {
        object.insert("subsets".into(), Value::Array(subsets));
    }
    Shown::new(key, Value::Object(object))
}

fn subset(
    view: &ServiceView,
    numbers: &[Option<u16>],
    endpoints: &[&Endpoint],
    uids: &BTreeMap<PodKey, String>,
) -> Value {
    let address = |endpoint: &&Endpoint| {
        let mut json = json!({"ip": endpoint.ip.to_string()});
        if let Some(hostname) = &endpoint.hostname {
            json["hostname"] = hostname.as_str().into();
        }
        if let Some(node) = &endpoint.node {
            json["nodeName"] = node.as_str().into();
        }
        if let Some(target) = target(endpoint, uids) {
            json["targetRef"] = target;
        }
        json
    };
    let (ready, other): (Vec<&Endpoint>, Vec<&Endpoint>) =
        endpoints.iter().partition(|endpoint| endpoint.state == EndpointState::Ready);
    let mut subset = json!({});
    if !ready.is_empty() {
        subset["addresses"] = ready.iter().map(address).collect();
    }
    // The old form has no word for "stopping, still serving".
    let other: Vec<&Endpoint> =
        other.into_iter().filter(|endpoint| endpoint.state == EndpointState::NotReady).collect();
    if !other.is_empty() {
        subset["notReadyAddresses"] = other.iter().map(address).collect();
    }
    subset["ports"] = ports(&view.spec, numbers);
    subset
}
