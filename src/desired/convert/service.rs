//! Services.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use ipnetwork::Ipv4Network;
use k8s_openapi::api::core::v1 as api;

use super::super::path::Path;
use super::super::tree::quoted;
use super::container::PROTOCOLS;
use super::probe;
use super::{Check, Wanted};
use crate::kinds::container::{PortRef, Protocol};
use crate::kinds::labels::Selector;
use crate::kinds::name::{Name, NameRule};
use crate::kinds::object::Body;
use crate::kinds::service::{Reach, Service, ServicePort, TrafficDistribution};

/// The longest affinity, `core.MaxClientIPServiceAffinitySeconds`: a day.
const AFFINITY_SECONDS_MAX: i32 = 86_400;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    ClusterIp,
    NodePort,
    LoadBalancer,
    ExternalName,
}

const TYPES: &[(&str, Type)] = &[
    ("ClusterIP", Type::ClusterIp),
    ("NodePort", Type::NodePort),
    ("LoadBalancer", Type::LoadBalancer),
    ("ExternalName", Type::ExternalName),
];

/// `ValidateService`.
#[allow(
    clippy::needless_pass_by_value,
    reason = "all conversions take their object"
)]
pub(super) fn service(service: api::Service, check: &mut Check<'_, '_>) -> Body {
    let spec = service.spec.unwrap_or_default();
    let path = Path::Root.field("spec");
    let kind = spec.type_.as_deref();
    let kind = check.word_or(&path.field("type"), kind, TYPES, Type::ClusterIp);
    let (reach, cluster_ip) = reach(&path, &spec, kind, check);
    let ports = ports(&path, &spec, &reach, check);
    let selector = spec.selector.as_ref().filter(|labels| !labels.is_empty());
    if let Some(labels) = selector {
        check.labels(&path.field("selector"), labels);
    }
    let policies = [("Cluster", false), ("Local", true)];
    let mut policy = |field, value: Option<&String>| {
        let value = value.map(String::as_str);
        check.word_or(&path.field(field), value, &policies, false)
    };
    let external = spec.external_traffic_policy.as_ref();
    let external_local = policy("externalTrafficPolicy", external);
    let internal = spec.internal_traffic_policy.as_ref();
    let internal_local = policy("internalTrafficPolicy", internal);
    let result = Service {
        cluster_ip,
        selector: selector.map(Selector::from_labels),
        ports,
        affinity: affinity(&path, &spec, check),
        external_local,
        internal_local,
        external_ips: external_ips(&path, &spec, check),
        source_ranges: source_ranges(&path, &spec, check),
        health_check_node_port: spec
            .health_check_node_port
            .map(|port| check.port(&path.field("healthCheckNodePort"), port)),
        publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
        allocates_node_ports: spec.allocate_load_balancer_node_ports.unwrap_or(true),
        traffic: traffic(&path, &spec, check),
        reach,
    };
    check_outside(&path, &spec, &result, check);
    Body::Service(std::sync::Arc::new(result))
}

/// How far it reaches, and the address it asks for (`ValidateServiceClusterIPsRelatedFields`).
fn reach(
    path: &Path<'_>,
    spec: &api::ServiceSpec,
    kind: Type,
    check: &mut Check<'_, '_>,
) -> (Reach, Option<Ipv4Addr>) {
    let ip_path = path.field("clusterIP");
    let ips_path = path.field("clusterIPs");
    let ips = spec.cluster_ips.as_deref().unwrap_or_default();
    let first = ips.first().map_or("", String::as_str);
    let given = spec.cluster_ip.as_deref().unwrap_or(first);
    if !ips.is_empty() && given != first {
        check.error(&ips_path, "must begin with clusterIP");
    }
    if ips.len() > 1 {
        check.error(
            &ips_path,
            "can have one address only: Services have IPv4 addresses only",
        );
    }
    if kind == Type::ExternalName {
        if !given.is_empty() {
            check.error(&ip_path, "can't be set for type ExternalName");
        }
        let path = path.field("externalName");
        let name = spec.external_name.as_deref().unwrap_or_default();
        let name = name.strip_suffix('.').unwrap_or(name);
        check.name(&path, name, NameRule::Subdomain);
        return (Reach::ExternalName(name.to_owned()), None);
    }
    if given == "None" && kind == Type::ClusterIp {
        return (Reach::Headless, None);
    }
    let reach = match kind {
        Type::NodePort => Reach::NodePort,
        Type::LoadBalancer => Reach::LoadBalancer,
        Type::ClusterIp | Type::ExternalName => Reach::ClusterIp,
    };
    if given == "None" {
        check.error(&ip_path, "can be None for type ClusterIP only");
    }
    if given.is_empty() || given == "None" {
        return (reach, None);
    }
    let ip = given.parse::<Ipv4Addr>().ok();
    match ip {
        Some(ip) => check.want(Wanted::ClusterIp(ip), &ip_path),
        None => {
            let message = format!("{} must be an IPv4 address, or None", quoted(given));
            check.error(&ip_path, message);
        }
    }
    (reach, ip)
}

/// `validateServicePort`, and what must differ among ports.
fn ports(
    path: &Path<'_>,
    spec: &api::ServiceSpec,
    reach: &Reach,
    check: &mut Check<'_, '_>,
) -> Vec<ServicePort> {
    let list_path = path.field("ports");
    let given = spec.ports.as_deref().unwrap_or_default();
    if given.is_empty() && !matches!(reach, Reach::Headless | Reach::ExternalName(_)) {
        check.error(&list_path, "needs at least one port");
    }
    let (mut names, mut numbers) = (BTreeSet::new(), BTreeSet::new());
    let mut node_ports = BTreeSet::new();
    let mut result = Vec::new();
    for (index, port) in given.iter().enumerate() {
        let path = list_path.index(index);
        let name_path = path.field("name");
        let name = port.name.as_deref().filter(|name| !name.is_empty());
        match name {
            Some(name) => {
                check.name(&name_path, name, NameRule::Label);
                if !names.insert(name) {
                    let message = format!("{name:?} is the name of another port already");
                    check.error(&name_path, message);
                }
            }
            None if given.len() > 1 => {
                check.error(&name_path, "is required where there are several ports");
            }
            None => {}
        }
        let protocol_path = path.field("protocol");
        let protocol = port.protocol.as_deref();
        let protocol = check.word_or(&protocol_path, protocol, PROTOCOLS, Protocol::Tcp);
        let number = check.port(&path.field("port"), port.port);
        if !numbers.insert((protocol, number)) {
            let message = format!("port {number} of {} is there already", protocol.as_str());
            check.error(&path.field("port"), message);
        }
        let target_path = path.field("targetPort");
        let target = port
            .target_port
            .as_ref()
            .map_or(PortRef::Number(number), |target| {
                probe::port(&target_path, target, check)
            });
        let node_path = path.field("nodePort");
        let node_port = port.node_port.map(|port| check.port(&node_path, port));
        if let Some(node_port) = node_port {
            if !reach.has_node_ports() {
                check.error(&node_path, "is for the types NodePort and LoadBalancer");
            }
            check.want(Wanted::NodePort(node_port), &node_path);
            if !node_ports.insert((protocol, node_port)) {
                check.error(&node_path, format!("{node_port} is asked for twice"));
            }
        }
        result.push(ServicePort {
            name: name.map(Name::trusted),
            protocol,
            port: number,
            target,
            node_port,
        });
    }
    result
}

fn affinity(
    path: &Path<'_>,
    spec: &api::ServiceSpec,
    check: &mut Check<'_, '_>,
) -> Option<Duration> {
    let kinds = [("None", false), ("ClientIP", true)];
    let affinity_path = path.field("sessionAffinity");
    let affinity = spec.session_affinity.as_deref();
    if !check.word_or(&affinity_path, affinity, &kinds, false) {
        return None;
    }
    let config_path = path.field("sessionAffinityConfig");
    let client_path = config_path.field("clientIP");
    let config = spec.session_affinity_config.as_ref();
    let seconds = config
        .and_then(|config| config.client_ip.as_ref()?.timeout_seconds)
        .unwrap_or_default();
    let path = client_path.field("timeoutSeconds");
    let seconds = check.number(&path, seconds, 1, AFFINITY_SECONDS_MAX);
    Some(Duration::from_secs(seconds.into()))
}

fn external_ips(
    path: &Path<'_>,
    spec: &api::ServiceSpec,
    check: &mut Check<'_, '_>,
) -> Vec<Ipv4Addr> {
    let path = path.field("externalIPs");
    let mut result = Vec::new();
    for (index, text) in spec.external_ips.iter().flatten().enumerate() {
        let path = path.index(index);
        // `ValidateNonSpecialIP`
        match text.parse::<Ipv4Addr>() {
            Ok(ip)
                if ip.is_unspecified()
                    || ip.is_loopback()
                    || ip.is_link_local()
                    || ip.is_multicast() =>
            {
                check.error(&path, format!("{ip} can't be an address from outside"));
            }
            Ok(ip) => result.push(ip),
            Err(_) => check.error(&path, format!("{} is not an IPv4 address", quoted(text))),
        }
    }
    result
}

fn source_ranges(
    path: &Path<'_>,
    spec: &api::ServiceSpec,
    check: &mut Check<'_, '_>,
) -> Vec<Ipv4Network> {
    let path = path.field("loadBalancerSourceRanges");
    let ranges = spec
        .load_balancer_source_ranges
        .as_deref()
        .unwrap_or_default();
    if !ranges.is_empty() && spec.type_.as_deref() != Some("LoadBalancer") {
        check.error(&path, "is for type LoadBalancer");
    }
    let mut result = Vec::new();
    for (index, text) in ranges.iter().enumerate() {
        let range = text.trim().parse::<Ipv4Network>().ok();
        match range.filter(|_| text.contains('/')) {
            Some(range) => result.push(range),
            None => {
                let message = format!("{} is not a range as in 10.0.0.0/8", quoted(text));
                check.error(&path.index(index), message);
            }
        }
    }
    result
}

fn traffic(
    path: &Path<'_>,
    spec: &api::ServiceSpec,
    check: &mut Check<'_, '_>,
) -> TrafficDistribution {
    let kinds = [
        ("PreferSameZone", TrafficDistribution::SameZone),
        ("PreferClose", TrafficDistribution::SameZone),
        ("PreferSameNode", TrafficDistribution::SameNode),
    ];
    let value = spec.traffic_distribution.as_deref();
    let anywhere = TrafficDistribution::Anywhere;
    check.word_or(&path.field("trafficDistribution"), value, &kinds, anywhere)
}

/// Fields that only have a meaning for traffic from outside
/// (`validateServiceExternalTrafficFieldsCombination` and its neighbours).
fn check_outside(
    path: &Path<'_>,
    spec: &api::ServiceSpec,
    service: &Service,
    check: &mut Check<'_, '_>,
) {
    let is_balanced = service.reach == Reach::LoadBalancer;
    let is_outside = service.reach.has_node_ports() || !service.external_ips.is_empty();
    if spec.external_traffic_policy.is_some() && !is_outside {
        let message = "is for the types NodePort and LoadBalancer, or for externalIPs";
        check.error(&path.field("externalTrafficPolicy"), message);
    }
    if spec.health_check_node_port.is_some() && !(is_balanced && service.external_local) {
        let message = "is for type LoadBalancer with externalTrafficPolicy Local";
        check.error(&path.field("healthCheckNodePort"), message);
    }
    if spec.allocate_load_balancer_node_ports.is_some() && !is_balanced {
        check.error(
            &path.field("allocateLoadBalancerNodePorts"),
            "is for type LoadBalancer",
        );
    }
}
