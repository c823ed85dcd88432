//! What the rules are rendered from: the part of the world that decides where packets go.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnetwork::Ipv4Network;

use crate::kinds::container::Protocol;
use crate::kinds::name::{Name, NodeName};
use crate::kinds::service::{Endpoint, Service};

use super::paths::Neighbours;

/// Everything the rules of one node follow from.
#[derive(Clone, Debug)]
pub struct Input {
    /// This node.
    pub node: NodeName,
    /// Its addresses. The first is what its pods see as the source of masqueraded connections.
    pub node_ips: Vec<Ipv4Addr>,
    /// The addresses of this node's pods; absent until they are allotted.
    pub pod_cidr: Option<Ipv4Network>,
    /// The addresses of all pods of the cluster.
    pub cluster_cidrs: Vec<Ipv4Network>,
    /// The addresses of Services.
    pub service_cidr: Ipv4Network,
    /// The Services, in any order.
    pub services: Vec<ServiceView>,
    /// The addresses of this node's pods that have a link of their own.
    pub local_pods: Vec<Ipv4Addr>,
    /// Ports of this node that lead to a pod of this node.
    pub host_ports: Vec<HostPort>,
    /// Where DNS answers.
    pub dns: Option<DnsListener>,
    /// Other nodes.
    pub neighbours: Neighbours,
    /// The zone of each node that has one, for `trafficDistribution`.
    pub zones: BTreeMap<NodeName, String>,
    /// Whether pods' connections out of the cluster leave with the node's address.
    pub masquerade_egress: bool,
    /// Whether node ports also answer at 127.0.0.1 of the node.
    ///
    /// This needs `net.ipv4.conf.all.route_localnet=1` ([`crate::ports::links::NodeNetwork`]), with which
    /// the kernel no longer drops packets for 127.0.0.0/8 that come in by a link: a neighbour on the
    /// same wire could reach what listens on loopback only (CVE-2020-8558). The rules therefore drop
    /// such packets themselves, and must be in force before the parameter is set.
    pub localhost_node_ports: bool,
}

/// A Service as the network sees it: what was asked, what was allotted, and what is behind it.
#[derive(Clone, Debug)]
pub struct ServiceView {
    /// Its namespace.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
    /// What was asked.
    pub spec: Arc<Service>,
    /// Its address; absent until one is allotted, and for Services that have none.
    pub ip: Option<Ipv4Addr>,
    /// The node port of each of `spec.ports`; a missing element counts as none.
    pub node_ports: Vec<Option<u16>>,
    /// Addresses of the load balancer that leads to it (`ipMode: VIP`).
    pub load_balancer_ips: Vec<Ipv4Addr>,
    /// What is behind it.
    pub endpoints: Vec<Endpoint>,
}

/// A port of this node that leads to a pod of this node (`hostPort`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// The transport.
    pub protocol: Protocol,
    /// The node's address it answers at; all where absent.
    pub host_ip: Option<Ipv4Addr>,
    /// The node's port.
    pub port: u16,
    /// The pod's address.
    pub pod_ip: Ipv4Addr,
    /// The pod's port.
    pub pod_port: u16,
}

/// Where this node's DNS server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DnsListener {
    /// The cluster's DNS address.
    pub address: Ipv4Addr,
    /// The port it got there: 53, or another where 53 was taken. Clients always ask at 53.
    pub port: u16,
}

/// The port at which clients ask for names.
pub const DNS_PORT: u16 = 53;
