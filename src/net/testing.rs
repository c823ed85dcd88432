//! A small world in words, for the tables of this room's tests.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::input::{DnsListener, HostPort, Input, ServiceView};
use super::trace::{self, Machine, Origin, Packet};
use crate::kinds::container::{PortRef, Protocol};
use crate::kinds::name::Name;
use crate::kinds::rules::RuleSet;
use crate::kinds::service::{
    Endpoint, EndpointState, Reach, Service, ServicePort, TrafficDistribution,
};

/// A ClusterIP Service with one port, 80 to 8080.
pub(super) fn service(port_name: &str) -> Service {
    Service {
        reach: Reach::ClusterIp,
        cluster_ip: None,
        selector: None,
        ports: vec![ServicePort {
            name: Some(Name::trusted(port_name)),
            protocol: Protocol::Tcp,
            port: 80,
            target: PortRef::Number(8080),
            node_port: None,
        }],
        affinity: None,
        external_local: false,
        internal_local: false,
        external_ips: Vec::new(),
        source_ranges: Vec::new(),
        health_check_node_port: None,
        publish_not_ready: false,
        allocates_node_ports: true,
        traffic: TrafficDistribution::Anywhere,
    }
}

fn protocol(word: &str) -> Protocol {
    match word {
        "tcp" => Protocol::Tcp,
        "udp" => Protocol::Udp,
        "sctp" => Protocol::Sctp,
        other => panic!("transport {other}"),
    }
}

/// Reads `shop/web ip=10.96.0.10 tcp:80=30080 external-local -> 10.1.0.2:8080@a 10.1.1.2:8080@b~`.
///
/// `=30080` is a node port; `~` marks an endpoint that stops, `!` one that is not ready.
pub(super) fn view(text: &str) -> ServiceView {
    let (head, tail) = text.split_once("->").unwrap_or((text, ""));
    let mut words = head.split_whitespace();
    let (namespace, name) = words
        .next()
        .and_then(|w| w.split_once('/'))
        .expect("namespace/name");
    let mut spec = service("x");
    spec.ports.clear();
    let mut view = ServiceView {
        namespace: Name::trusted(namespace),
        name: Name::trusted(name),
        spec: Arc::new(spec.clone()),
        ip: None,
        node_ports: Vec::new(),
        load_balancer_ips: Vec::new(),
        endpoints: Vec::new(),
    };
    for word in words {
        let address = |text: &str| -> Ipv4Addr { text.parse().expect("an address") };
        match word.split_once(['=', ':']) {
            Some(("ip", ip)) => view.ip = Some(address(ip)),
            Some(("lb", ip)) => view.load_balancer_ips.push(address(ip)),
            Some(("ext", ip)) => spec.external_ips.push(address(ip)),
            Some(("range", range)) => spec.source_ranges.push(range.parse().expect("a range")),
            Some(("affinity", s)) => {
                spec.affinity = Some(Duration::from_secs(s.parse().expect("seconds")));
            }
            Some(("health", port)) => {
                spec.health_check_node_port = Some(port.parse().expect("a port"));
            }
            Some((word, port)) => {
                let (port, node_port) = port.split_once('=').unwrap_or((port, ""));
                spec.ports.push(ServicePort {
                    name: None,
                    protocol: protocol(word),
                    port: port.parse().expect("a port"),
                    target: PortRef::Number(8080),
                    node_port: None,
                });
                view.node_ports.push(node_port.parse().ok());
            }
            None => match word {
                "external-local" => spec.external_local = true,
                "internal-local" => spec.internal_local = true,
                "headless" => spec.reach = Reach::Headless,
                "external-name" => spec.reach = Reach::ExternalName("example.org".into()),
                "same-node" => spec.traffic = TrafficDistribution::SameNode,
                other => panic!("word {other}"),
            },
        }
    }
    view.endpoints = tail
        .split_whitespace()
        .map(|word| endpoint(word, spec.ports.len()))
        .collect();
    view.spec = Arc::new(spec);
    view
}

fn endpoint(word: &str, ports: usize) -> Endpoint {
    let (state, word) = match word.strip_suffix('~') {
        Some(rest) => (EndpointState::ServingTerminating, rest),
        None => match word.strip_suffix('!') {
            Some(rest) => (EndpointState::NotReady, rest),
            None => (EndpointState::Ready, word),
        },
    };
    let (socket, node) = word.split_once('@').unwrap_or((word, ""));
    let socket: std::net::SocketAddrV4 = socket.parse().expect("address:port");
    Endpoint {
        ip: *socket.ip(),
        node: (!node.is_empty()).then(|| Name::trusted(node)),
        pod: None,
        hostname: None,
        state,
        ports: vec![Some(socket.port()); ports],
    }
}

/// Node a at 192.168.0.1 with pods 10.1.0.1, .2 and .9; the cluster's pods are 10.1.0.0/16, its
/// Services 10.96.0.0/12.
pub(super) fn input(services: &[&str]) -> Input {
    let local = [1, 2, 9].map(|n| Ipv4Addr::new(10, 1, 0, n));
    Input {
        node: Name::trusted("a"),
        node_ips: vec![Ipv4Addr::new(192, 168, 0, 1)],
        pod_cidr: Some("10.1.0.0/24".parse().expect("a network")),
        cluster_cidrs: vec!["10.1.0.0/16".parse().expect("a network")],
        service_cidr: "10.96.0.0/12".parse().expect("a network"),
        services: services.iter().map(|text| view(text)).collect(),
        local_pods: local.to_vec(),
        host_ports: Vec::new(),
        dns: Some(DnsListener {
            address: Ipv4Addr::new(10, 96, 0, 53),
            port: 53,
        }),
        zones: BTreeMap::new(),
        masquerade_egress: true,
        localhost_node_ports: true,
    }
}

/// `tcp 8080 -> 10.1.0.1:80`, or with an address: `tcp 127.0.0.1:8080 -> 10.1.0.1:80`.
pub(super) fn host_port(text: &str) -> HostPort {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [word, at, _, to] = words[..] else {
        panic!("host port {text}")
    };
    let (ip, port) = at.split_once(':').unwrap_or(("", at));
    let to: std::net::SocketAddrV4 = to.parse().expect("address:port");
    HostPort {
        protocol: protocol(word),
        host_ip: ip.parse().ok(),
        port: port.parse().expect("a port"),
        pod_ip: *to.ip(),
        pod_port: to.port(),
    }
}

/// Node a, where nothing passes but by a rule.
pub(super) fn machine() -> Machine {
    Machine {
        addresses: vec![
            Ipv4Addr::new(192, 168, 0, 1),
            Ipv4Addr::new(10, 96, 0, 53),
            Ipv4Addr::new(169, 254, 1, 1),
        ],
        drops_by_default: true,
    }
}

/// Reads `pod 10.1.0.9 > udp 10.96.0.10:80`; TCP where nothing is said.
pub(super) fn packet(text: &str) -> Packet {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (from, source, word, to) = match words[..] {
        [from, source, ">", to] => (from, source, "tcp", to),
        [from, source, ">", word, to] => (from, source, word, to),
        _ => panic!("packet {text}"),
    };
    let to: std::net::SocketAddrV4 = to.parse().expect("address:port");
    let from = match from {
        "pod" => Origin::Pod,
        "host" => Origin::Host,
        "outside" => Origin::Outside,
        other => panic!("origin {other}"),
    };
    let source = source.parse().expect("an address");
    Packet {
        protocol: protocol(word),
        ..Packet::tcp(from, source, *to.ip(), to.port())
    }
}

/// Where the packets of `table` go, against what stands beside them.
pub(super) fn check(rules: &RuleSet, table: &[(&str, &str)]) {
    for (from, expected) in table {
        let verdicts = trace::trace(rules, &machine(), &packet(from)).expect("rules are readable");
        assert_eq!(trace::describe(&verdicts), *expected, "{from}");
        let total: f64 = verdicts.iter().map(|verdict| verdict.chance).sum();
        assert!(
            (total - 1.0).abs() < 1e-6,
            "{from}: chances add up to {total}"
        );
    }
}
