//! A small world in words, for tables that a person can read: tests, simulations, a packet asked
//! about on a command line.
//!
//! ```text
//!   shop/web ip=10.96.0.10 tcp:80=30080 external-local -> 10.1.0.2:8080@a 10.1.1.2:8080@b~
//!   tcp 127.0.0.1:8080 -> 10.1.0.1:80
//!   pod 10.1.0.9 > udp 10.96.0.10:80
//! ```

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::Arc;
use std::time::Duration;

use super::input::{HostPort, ServiceView};
use super::trace::{Origin, Packet};
use crate::kinds::container::{PortRef, Protocol};
use crate::kinds::name::Name;
use crate::kinds::service::{
    Endpoint, EndpointState, Reach, Service, ServicePort, TrafficDistribution,
};

/// A `ClusterIP` Service without ports, with Kubernetes' defaults.
pub fn plain_service() -> Service {
    Service {
        reach: Reach::ClusterIp,
        cluster_ip: None,
        selector: None,
        ports: Vec::new(),
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

/// Reads a Service: its name, its address and ports, its policies, and after `->` its endpoints.
///
/// `tcp:80=30080` is a port with its node port and may have a name, `tcp:80/http`; of an endpoint
/// `@a` is its node, `~` says that it stops, `!` that it is not ready, `#db-0` its host name.
pub fn service(text: &str) -> Result<ServiceView, String> {
    let (head, tail) = text.split_once("->").unwrap_or((text, ""));
    let mut words = head.split_whitespace();
    let name = words.next().unwrap_or_default();
    let (namespace, name) =
        name.split_once('/').ok_or_else(|| format!("'{name}' is not namespace/name"))?;
    let mut view = ServiceView {
        namespace: Name::trusted(namespace),
        name: Name::trusted(name),
        spec: Arc::new(plain_service()),
        ip: None,
        node_ports: Vec::new(),
        load_balancer_ips: Vec::new(),
        endpoints: Vec::new(),
    };
    let mut spec = plain_service();
    for word in words {
        match word.split_once(['=', ':']) {
            Some((key, value)) => setting(key, value, &mut view, &mut spec)?,
            None => flag(word, &mut spec)?,
        }
    }
    for word in tail.split_whitespace() {
        view.endpoints.push(endpoint(word, spec.ports.len())?);
    }
    view.spec = Arc::new(spec);
    Ok(view)
}

fn setting(
    key: &str,
    value: &str,
    view: &mut ServiceView,
    spec: &mut Service,
) -> Result<(), String> {
    match key {
        "ip" => view.ip = Some(read(value)?),
        "lb" => view.load_balancer_ips.push(read(value)?),
        "ext" => spec.external_ips.push(read(value)?),
        "range" => spec.source_ranges.push(read(value)?),
        "affinity" => spec.affinity = Some(Duration::from_secs(read(value)?)),
        "health" => spec.health_check_node_port = Some(read(value)?),
        "alias" => spec.reach = Reach::ExternalName(value.into()),
        transport => {
            let (port, name) = value.split_once('/').unwrap_or((value, ""));
            let (port, node_port) = match port.split_once('=') {
                Some((port, node_port)) => (port, Some(read(node_port)?)),
                None => (port, None),
            };
            spec.ports.push(ServicePort {
                name: (!name.is_empty()).then(|| Name::trusted(name)),
                protocol: protocol(transport)?,
                port: read(port)?,
                target: PortRef::Number(read(port)?),
                node_port: None,
            });
            view.node_ports.push(node_port);
        }
    }
    Ok(())
}

fn flag(word: &str, spec: &mut Service) -> Result<(), String> {
    match word {
        "external-local" => spec.external_local = true,
        "internal-local" => spec.internal_local = true,
        "headless" => spec.reach = Reach::Headless,
        "same-node" => spec.traffic = TrafficDistribution::SameNode,
        "same-zone" => spec.traffic = TrafficDistribution::SameZone,
        other => return Err(format!("unknown word '{other}'")),
    }
    Ok(())
}

fn endpoint(word: &str, ports: usize) -> Result<Endpoint, String> {
    let bare = word.trim_end_matches(['~', '!']);
    let state = match &word[bare.len()..] {
        "" => EndpointState::Ready,
        "~" => EndpointState::ServingTerminating,
        "!" => EndpointState::NotReady,
        other => return Err(format!("unknown state '{other}' of an endpoint")),
    };
    let (bare, hostname) = match bare.split_once('#') {
        Some((bare, hostname)) => (bare, Some(hostname.to_owned())),
        None => (bare, None),
    };
    let (socket, node) = bare.split_once('@').unwrap_or((bare, ""));
    let socket: SocketAddrV4 = read(socket)?;
    Ok(Endpoint {
        ip: *socket.ip(),
        node: (!node.is_empty()).then(|| Name::trusted(node)),
        pod: None,
        hostname,
        state,
        ports: vec![Some(socket.port()); ports],
    })
}

/// Reads a host port: `tcp 8080 -> 10.1.0.1:80`, or at one address, `tcp 127.0.0.1:8080 -> …`.
pub fn host_port(text: &str) -> Result<HostPort, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [transport, at, "->", to] = words[..] else {
        return Err(format!("'{text}' is not 'transport port -> address:port'"));
    };
    let (host_ip, port) = match at.split_once(':') {
        Some((ip, port)) => (Some(read(ip)?), port),
        None => (None, at),
    };
    let to: SocketAddrV4 = read(to)?;
    Ok(HostPort {
        protocol: protocol(transport)?,
        host_ip,
        port: read(port)?,
        pod_ip: *to.ip(),
        pod_port: to.port(),
    })
}

/// Reads the first packet of a connection; TCP where nothing is said.
pub fn packet(text: &str) -> Result<Packet, String> {
    let words: Vec<&str> = text.split_whitespace().collect();
    let (from, source, transport, to) = match words[..] {
        [from, source, ">", to] => (from, source, "tcp", to),
        [from, source, ">", transport, to] => (from, source, transport, to),
        _ => return Err(format!("'{text}' is not 'origin source > address:port'")),
    };
    let from = match from {
        "pod" => Origin::Pod,
        "host" => Origin::Host,
        "outside" => Origin::Outside,
        other => return Err(format!("unknown origin '{other}'")),
    };
    let to: SocketAddrV4 = read(to)?;
    let source: Ipv4Addr = read(source)?;
    Ok(Packet { protocol: protocol(transport)?, ..Packet::tcp(from, source, *to.ip(), to.port()) })
}

fn protocol(word: &str) -> Result<Protocol, String> {
    [Protocol::Tcp, Protocol::Udp, Protocol::Sctp]
        .into_iter()
        .find(|protocol| protocol.lower() == word)
        .ok_or_else(|| format!("unknown transport '{word}'"))
}

fn read<T: std::str::FromStr>(word: &str) -> Result<T, String> {
    word.parse().map_err(|_| format!("'{word}' is not what it should be here"))
}
