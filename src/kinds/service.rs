//! Pods of one purpose behind one address, and where the packets go.

use std::net::Ipv4Addr;
use std::time::Duration;

use ipnetwork::Ipv4Network;
use serde::{Deserialize, Serialize};

use super::container::{PortRef, Protocol};
use super::labels::Selector;
use super::name::{Name, NodeName, PodKey};

/// A Service, valid.
#[derive(Clone, Debug)]
pub struct Service {
    /// How far it reaches.
    pub reach: Reach,
    /// The address the manifest asks for; one is allotted where absent.
    pub cluster_ip: Option<Ipv4Addr>,
    /// The pods behind it; absent where its endpoints are written by hand.
    pub selector: Option<Selector>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// How long a client stays with one endpoint; absent is not at all.
    pub affinity: Option<Duration>,
    /// Whether packets from outside stay on the node they reach.
    pub external_local: bool,
    /// Whether packets from inside stay on their node.
    pub internal_local: bool,
    /// Further addresses that lead to it.
    pub external_ips: Vec<Ipv4Addr>,
    /// Who may use the load balancer's address; everybody where empty.
    pub source_ranges: Vec<Ipv4Network>,
    /// The port on which a load balancer asks for local endpoints.
    pub health_check_node_port: Option<u16>,
    /// Whether pods count that are not ready.
    pub publish_not_ready: bool,
    /// Whether node ports are allotted to a load balancer Service.
    pub allocates_node_ports: bool,
    /// Whether endpoints near the client are preferred.
    pub traffic: TrafficDistribution,
}

/// How far a Service reaches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    /// No address of its own: DNS answers with the pods'.
    Headless,
    /// An address inside the cluster.
    ClusterIp,
    /// Also a port on every node.
    NodePort,
    /// Also published by a load balancer.
    LoadBalancer,
    /// An alias in DNS.
    ExternalName(String),
}

impl Reach {
    /// Whether it has an address inside the cluster.
    pub fn has_cluster_ip(&self) -> bool {
        matches!(self, Self::ClusterIp | Self::NodePort | Self::LoadBalancer)
    }

    /// Whether it has ports on every node.
    pub fn has_node_ports(&self) -> bool {
        matches!(self, Self::NodePort | Self::LoadBalancer)
    }

    /// `spec.type` as Kubernetes writes it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Headless | Self::ClusterIp => "ClusterIP",
            Self::NodePort => "NodePort",
            Self::LoadBalancer => "LoadBalancer",
            Self::ExternalName(_) => "ExternalName",
        }
    }
}

/// `trafficDistribution`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum TrafficDistribution {
    /// Any endpoint.
    #[default]
    Anywhere,
    /// One of the client's zone where there is one (`PreferSameZone`, `PreferClose`).
    SameZone,
    /// One of the client's node where there is one, else of its zone (`PreferSameNode`).
    SameNode,
}

/// A port of a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServicePort {
    /// Its name; absent only where it is the only one.
    pub name: Option<Name>,
    /// Its transport.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
    /// The pods' port.
    pub target: PortRef,
    /// The nodes' port the manifest asks for.
    pub node_port: Option<u16>,
}

impl ServicePort {
    /// How the allocation of a node port is filed: by name, or by transport and number.
    pub fn allocation_key(&self) -> String {
        match &self.name {
            Some(name) => name.to_string(),
            None => format!("{}-{}", self.protocol.lower(), self.port),
        }
    }
}

/// Whether an endpoint may get packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum EndpointState {
    /// Ready, or published though not.
    Ready,
    /// Stopping, still answering: used only if nothing is ready.
    ServingTerminating,
    /// Neither.
    NotReady,
}

/// A place packets of a Service may go.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// The pod's address.
    pub ip: Ipv4Addr,
    /// The node it is on; absent for addresses outside.
    pub node: Option<NodeName>,
    /// The pod; absent for endpoints written by hand.
    pub pod: Option<PodKey>,
    /// The pod's host name, published in DNS for headless Services.
    pub hostname: Option<String>,
    /// Whether it may get packets.
    pub state: EndpointState,
    /// The number of each of the Service's ports here, in the Service's order; absent where this
    /// pod has no port of that name.
    pub ports: Vec<Option<u16>>,
}
