//! The nodes as the scheduler sees them: what they have, and what is left.

use std::collections::BTreeMap;
use std::net::IpAddr;

use crate::kinds::container::Protocol;
use crate::kinds::labels::Labels;
use crate::kinds::name::NodeName;
use crate::kinds::object::{Body, Key};
use crate::kinds::pod::{PodSpec, ResourceList, Taint};
use crate::kinds::quantity::Quantity;
use crate::kinds::registry::Kind;

use super::super::work::Work;

/// What a node takes where it says nothing: kubelet's `maxPods`.
const PODS_DEFAULT: i64 = 110;

/// Every node.
#[derive(Clone, Debug, Default)]
pub struct Cluster {
    /// By name.
    pub machines: BTreeMap<NodeName, Machine>,
}

/// A node.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Whether it is heard of.
    pub is_ready: bool,
    /// Whether new pods are kept away.
    pub is_cordoned: bool,
    /// Its labels.
    pub labels: Labels,
    /// Its taints.
    pub taints: Vec<Taint>,
    /// What pods may use.
    pub allocatable: ResourceList,
    /// What its pods have reserved.
    pub reserved: ResourceList,
    /// How many pods it runs.
    pub pods: usize,
    /// Ports taken on it.
    pub ports: Vec<(Protocol, u16, Option<IpAddr>)>,
    /// Images on it, by name, with their size in bytes.
    pub images: BTreeMap<String, u64>,
}

impl Cluster {
    pub(in super::super) fn of(work: &Work) -> Self {
        let mut cluster = Self::default();
        for (name, input) in &work.input.nodes {
            let mut machine = Machine {
                is_ready: input.is_ready,
                labels: input.facts.labels.clone(),
                allocatable: input.facts.allocatable.clone(),
                images: input.facts.images.iter().cloned().collect(),
                ..Machine::default()
            };
            machine.heed_wish(work, name);
            cluster.machines.insert(name.clone(), machine);
        }
        for pod in work.pods.values().filter(|pod| !pod.phase().is_over()) {
            let (Some(node), Some(template)) = (&pod.node, &pod.template) else {
                continue;
            };
            cluster.put(node, &template.spec);
        }
        cluster
    }

    /// Reserves what a pod needs.
    pub fn put(&mut self, node: &NodeName, spec: &PodSpec) {
        let Some(machine) = self.machines.get_mut(node) else {
            return;
        };
        machine.pods += 1;
        for (name, quantity) in spec.requests() {
            let reserved = machine.reserved.entry(name).or_default();
            *reserved = *reserved + quantity;
        }
        for port in spec.host_ports() {
            if let Some(number) = port.host_port.or(spec.host_network.then_some(port.port)) {
                machine.ports.push((port.protocol, number, port.host_ip));
            }
        }
    }
}

impl Machine {
    /// Lays what the operator wishes of the node, in the desired repository, over what it says of
    /// itself.
    fn heed_wish(&mut self, work: &Work, name: &NodeName) {
        let key = Key::cluster(Kind::Node, name);
        let wish = work.revisions.values().find_map(|r| r.desired.objects.get(&key));
        let Some(Body::Node(wish)) = wish.map(|object| &object.body) else {
            return;
        };
        self.labels.extend(wish.labels.clone());
        self.taints.clone_from(&wish.taints);
        self.is_cordoned = wish.unschedulable;
    }

    /// What is left of a resource.
    pub fn free(&self, resource: &str) -> Quantity {
        let has = self.allocatable.get(resource).copied().unwrap_or_default();
        has - self.reserved.get(resource).copied().unwrap_or_default()
    }

    /// How many pods it takes.
    pub fn pods_max(&self) -> usize {
        let said = self.allocatable.get("pods").map_or(PODS_DEFAULT, Quantity::as_units);
        usize::try_from(said).unwrap_or(0)
    }
}
