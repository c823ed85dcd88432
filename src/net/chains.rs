//! What our chains are called.
//!
//! ```text
//!   nat   PREROUTING ─▶ WDL-PREROUTING ─┬─▶ WDL-SERVICES ─▶ WDL-D-… ─▶ WDL-S-… DNAT
//!         OUTPUT ─────▶ WDL-OUTPUT ─────┤      (tree by address)    ├─▶ WDL-L-… DNAT
//!                                       └─▶ WDL-LOCAL ────▶ WDL-P-… ─▶ WDL-X-… ─▶ WDL-S-…
//!                                              (tree by port)
//!         POSTROUTING ▶ WDL-POSTROUTING ┬─▶ WDL-DNATED ─▶ WDL-HAIRPIN, WDL-FOREIGN ─▶ WDL-MASQUERADE
//!                                       └─▶ WDL-EGRESS ─▶ WDL-NODES ─▶ WDL-N-… (tree by address)
//!   filter INPUT, FORWARD, OUTPUT ─▶ WDL-INPUT, … ─▶ WDL-REFUSE ─┬─▶ WDL-D-… (tree by address)
//!                                                               ├─▶ WDL-VACANT
//!                                                               └─▶ WDL-REFUSE-PORTS ─▶ WDL-P-…
//!                 WDL-INPUT ─▶ WDL-TUNNEL ─▶ WDL-N-… (tree by source)
//! ```

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;

use super::input::ServiceView;
use crate::kinds::container::Protocol;
use crate::kinds::digest::Digest;
use crate::kinds::service::ServicePort;

/// The longest name that iptables takes (`XT_EXTENSION_MAXNAMELEN - 1`).
#[cfg(test)]
pub(super) const CHAIN_LEN_MAX: usize = 28;

/// How much of a digest stands in a name: 27^16 is 2^76, so that no two Services share a chain.
const DIGEST_LEN: usize = 16;

pub(super) const PREROUTING: &str = "WDL-PREROUTING";
pub(super) const OUTPUT: &str = "WDL-OUTPUT";
pub(super) const POSTROUTING: &str = "WDL-POSTROUTING";
pub(super) const INPUT: &str = "WDL-INPUT";
pub(super) const FORWARD: &str = "WDL-FORWARD";
/// By destination address: Services.
pub(super) const SERVICES: &str = "WDL-SERVICES";
/// By destination port, at the node's own addresses: node ports, host ports.
pub(super) const LOCAL: &str = "WDL-LOCAL";
/// What was led elsewhere by somebody, perhaps us.
pub(super) const DNATED: &str = "WDL-DNATED";
/// Pods that reach themselves.
pub(super) const HAIRPIN: &str = "WDL-HAIRPIN";
/// Connections to a Service's address, perhaps from outside the cluster.
pub(super) const FOREIGN: &str = "WDL-FOREIGN";
/// The node's address takes the place of the source.
pub(super) const MASQUERADE: &str = "WDL-MASQUERADE";
/// Out of the cluster.
pub(super) const EGRESS: &str = "WDL-EGRESS";
/// Nodes where pods keep their address.
pub(super) const NODES: &str = "WDL-NODES";
/// What is for nodes of the fleet only: what is sent into the tunnel, and to their agents.
pub(super) const TUNNEL: &str = "WDL-TUNNEL";
/// What goes to a Service and was led nowhere.
pub(super) const REFUSE: &str = "WDL-REFUSE";
/// The same, for node ports.
pub(super) const REFUSE_PORTS: &str = "WDL-REFUSE-PORTS";
/// Service addresses that nobody has, or nobody answers at.
pub(super) const VACANT: &str = "WDL-VACANT";

/// The identity of one port of one Service, in a form that fits into names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PortId(String);

impl PortId {
    /// Namespace, name, port and transport all count, so that no two ports in the cluster share
    /// one. The port counts by name where it has one: renumbering it keeps its clients' affinity.
    pub(super) fn of(view: &ServiceView, port: &ServicePort) -> Self {
        let digest = Digest::of_parts([
            view.namespace.as_str().as_bytes(),
            view.name.as_str().as_bytes(),
            port.allocation_key().as_bytes(),
            port.protocol.lower().as_bytes(),
        ]);
        Self(digest.safe_text(DIGEST_LEN))
    }

    /// The chain that leads to any endpoint.
    pub(super) fn spread(&self) -> String {
        format!("WDL-S-{}", self.0)
    }

    /// The chain that leads to endpoints of this node.
    pub(super) fn local(&self) -> String {
        format!("WDL-L-{}", self.0)
    }

    /// The chain of packets that come by a node port, an external address or a load balancer.
    pub(super) fn external(&self) -> String {
        format!("WDL-X-{}", self.0)
    }

    /// The chain that lets only some sources through to `external`.
    pub(super) fn firewall(&self) -> String {
        format!("WDL-F-{}", self.0)
    }

    /// The list of the clients of one endpoint. Named for the endpoint, so that other endpoints
    /// may come and go and clients stay.
    pub(super) fn clients_of(&self, ip: Ipv4Addr, port: u16) -> String {
        let digest = Digest::of_parts([
            self.0.as_bytes(),
            ip.octets().as_slice(),
            port.to_be_bytes().as_slice(),
        ]);
        format!("WDL-{}", digest.safe_text(DIGEST_LEN))
    }
}

/// The chain of the addresses in `network`.
pub(super) fn by_address(network: Ipv4Network) -> String {
    format!("WDL-D-{:08x}-{}", u32::from(network.network()), network.prefix())
}

/// The chain of the nodes in `network`.
pub(super) fn by_node(network: Ipv4Network) -> String {
    format!("WDL-N-{:08x}-{}", u32::from(network.network()), network.prefix())
}

/// The chain of a group of ports that begins with `first`.
pub(super) fn by_port(protocol: Protocol, first: u16) -> String {
    format!("WDL-P-{}-{first}", protocol.lower())
}
