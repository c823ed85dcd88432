//! Machines: what the operator wishes of them, and what they say of themselves.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use super::binding::Generation;
use super::fleet::FleetSettings;
use super::labels::Labels;
use super::pod::{ResourceList, Taint};
use super::time::Wall;

/// The label with a node's name, set by every kubelet.
pub const LABEL_HOSTNAME: &str = "kubernetes.io/hostname";
/// The label with a node's operating system.
pub const LABEL_OS: &str = "kubernetes.io/os";
/// The label with a node's architecture, in Go's words (`amd64`, `arm64`).
pub const LABEL_ARCH: &str = "kubernetes.io/arch";
/// The label with a node's zone.
pub const LABEL_ZONE: &str = "topology.kubernetes.io/zone";

/// `kind: Node` in the desired repository: labels, taints and cordon, by the operator.
#[derive(Clone, Debug, Default)]
pub struct NodeWish {
    /// Labels laid over the node's own.
    pub labels: Labels,
    /// Annotations.
    pub annotations: Labels,
    /// Taints.
    pub taints: Vec<Taint>,
    /// Whether new pods are kept away.
    pub unschedulable: bool,
    /// The public key that is certified to be the node's.
    pub key: Option<String>,
}

/// What a node says of itself; the content of `node.json` in its ref.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct NodeFacts {
    /// Addresses of the node, the one other nodes use first.
    pub addresses: Vec<IpAddr>,
    /// The kernel's host name.
    pub hostname: String,
    /// What there is.
    pub capacity: ResourceList,
    /// What pods may use of it.
    pub allocatable: ResourceList,
    /// Labels the agent gives: host name, operating system, architecture, those of `agent.yaml`.
    pub labels: Labels,
    /// `nodeInfo`, by Kubernetes' field names.
    pub info: BTreeMap<String, String>,
    /// Images on the node, as (name, bytes), the largest first; bounded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<(String, u64)>,
    /// What is wrong, by condition type (`MemoryPressure`, `DiskPressure`, `Ready`): (status, reason,
    /// message, since).
    #[serde(default)]
    pub conditions: BTreeMap<String, NodeCondition>,
    /// When the agent began.
    pub started: Wall,
    /// Which installation of the agent says so: made with its data directory, so that two machines
    /// under one name are told apart.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub installation: String,
    /// The node has acted on decisions of this store: a store in which some node has, and that holds
    /// no decision, has lost it and is not new.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub has_acted: bool,
    /// How other nodes reach the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contact: Option<Contact>,
    /// The newest decision the node knows; said only while the store has lost it, so that whoever
    /// knows the newest of all can write it anew.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub knows: Option<Generation>,
    /// The newest decision whose content the node still has, which may be older; said as `knows` is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<Generation>,
    /// The newest epoch in which it was seen that nothing runs on the node but what is bound to it:
    /// whatever an earlier epoch had it run has ended.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub epoch: u64,
    /// For whom that was encrypted which the node can open: recipients of age.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub recipients: Vec<String>,
    /// What its `agent.yaml` says of what must be the same on every node.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub settings: Option<FleetSettings>,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde asks so")]
fn is_zero(epoch: &u64) -> bool {
    *epoch == 0
}

impl NodeFacts {
    /// The address other nodes use.
    pub fn ipv4(&self) -> Option<Ipv4Addr> {
        self.addresses.iter().find_map(|ip| match ip {
            IpAddr::V4(ip) => Some(*ip),
            IpAddr::V6(_) => None,
        })
    }
}

/// Where other nodes reach a node's agent, and how they know that it is it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Contact {
    /// Its public key, Ed25519, in hexadecimal.
    pub key: String,
    /// Which life of the agent: what was signed in another is not listened to.
    pub life: String,
    /// Where it listens for hints, by UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint_port: Option<u16>,
    /// Where its API answers other nodes, by TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_port: Option<u16>,
}

/// One of a node's conditions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeCondition {
    /// Whether it holds.
    pub status: bool,
    /// One word.
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// Since when.
    pub since: Wall,
}
