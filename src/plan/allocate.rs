//! Addresses: a pod network for each node, an address and node ports for each Service. Given once
//! and kept; what a manifest asks for is honoured.
//!
//! A new address is sought from where the digest of its owner's name points, so that a store made
//! anew gives most Services the address they had. As in Kubernetes, the first part of a range is
//! left to manifests that ask (`strategy for static and dynamic allocation`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use ipnetwork::Ipv4Network;

use crate::kinds::digest::Digest;
use crate::kinds::name::{Name, NodeName};
use crate::kinds::object::{Body, Key};
use crate::kinds::registry::Kind;
use crate::kinds::service::{Reach, Service};
use crate::state::records::{NodeAllocation, ServiceAllocation};

use super::work::Work;

pub(super) fn give_addresses(work: &mut Work) {
    give_pod_networks(work);
    give_service_addresses(work);
}

/// Every node that has reported gets a pod network.
fn give_pod_networks(work: &mut Work) {
    let without: Vec<NodeName> = work
        .input
        .nodes
        .keys()
        .filter(|node| !work.next.nodes.contains_key(*node))
        .cloned()
        .collect();
    let mut free = FreeNetworks::of(work);
    for node in without {
        match free.next() {
            Some(pod_cidr) => {
                work.note(format!("node {node} gets pods' addresses {pod_cidr}"));
                let uid = work.new_uid("node", node.as_str());
                let created = work.now.wall;
                let allocation = NodeAllocation::new(pod_cidr, created, uid);
                Arc::make_mut(&mut work.next.nodes).insert(node, allocation);
            }
            None => {
                let network = work.input.settings.pod_network;
                let message = format!("no pod network is left of {network} for node {node}");
                work.warn(
                    &Key::cluster(Kind::Node, &node),
                    "allocator",
                    "CIDRNotAvailable",
                    message,
                );
            }
        }
    }
}

/// The pod networks that no node has, the lowest first.
struct FreeNetworks {
    taken: BTreeSet<Ipv4Addr>,
    prefix: u8,
    /// The next to look at; none after the last.
    at: Option<u32>,
    last: u32,
}

impl FreeNetworks {
    fn of(work: &Work) -> Self {
        let settings = &work.input.settings;
        let whole = settings.pod_network;
        Self {
            taken: work.next.nodes.values().map(|node| node.pod_cidr.network()).collect(),
            prefix: settings.node_prefix,
            at: Some(u32::from(whole.network())),
            last: u32::from(whole.broadcast()),
        }
    }
}

impl Iterator for FreeNetworks {
    type Item = Ipv4Network;

    fn next(&mut self) -> Option<Ipv4Network> {
        let step = 1_u32.checked_shl(32_u32.checked_sub(self.prefix.into())?)?;
        while let Some(at) = self.at {
            if at.checked_add(step - 1).is_none_or(|end| end > self.last) {
                return None;
            }
            self.at = at.checked_add(step);
            let address = Ipv4Addr::from(at);
            if !self.taken.contains(&address) {
                return Ipv4Network::new(address, self.prefix).ok();
            }
        }
        None
    }
}

/// What is given out already.
struct Taken {
    addresses: BTreeMap<Ipv4Addr, Key>,
    ports: BTreeMap<u16, Key>,
}

fn give_service_addresses(work: &mut Work) {
    let wanted: BTreeMap<Key, Arc<Service>> = work
        .revisions
        .values()
        .flat_map(|revision| revision.desired.objects.values())
        .filter_map(|object| match &object.body {
            Body::Service(service) => Some((object.key.clone(), service.clone())),
            _ => None,
        })
        .collect();
    release(work, &wanted);
    let mut taken = taken(work);
    // Those who ask for something are served before those who take what is left.
    let (asking, others): (Vec<_>, Vec<_>) = wanted.iter().partition(|(_, service)| asks(service));
    for (key, service) in asking.into_iter().chain(others) {
        let Some(namespace) = &key.namespace else {
            continue;
        };
        let before = work.next.service(namespace, &key.name).cloned();
        let after = allot(work, &mut taken, key, service, before.clone().unwrap_or_default());
        if before.as_ref() != Some(&after) {
            let entries = work.next.services.entry(namespace.clone()).or_default();
            Arc::make_mut(entries).insert(key.name.clone(), after);
        }
    }
}

fn asks(service: &Service) -> bool {
    service.cluster_ip.is_some() || service.ports.iter().any(|port| port.node_port.is_some())
}

/// Takes back what belongs to Services that are gone. Only if every app's revision is known: an app
/// that can't be read has not lost its Services.
fn release(work: &mut Work, wanted: &BTreeMap<Key, Arc<Service>>) {
    if work.next.apps.keys().any(|app| !work.is_known(app)) {
        return;
    }
    let is_wanted = |namespace: &Name, name: &Name| {
        wanted.contains_key(&Key::namespaced(Kind::Service, namespace, name))
    };
    for (namespace, entries) in &mut work.next.services {
        if entries.keys().any(|name| !is_wanted(namespace, name)) {
            Arc::make_mut(entries).retain(|name, _| is_wanted(namespace, name));
        }
    }
    work.next.services.retain(|_, entries| !entries.is_empty());
}

fn taken(work: &Work) -> Taken {
    let mut taken = Taken { addresses: BTreeMap::new(), ports: BTreeMap::new() };
    let settings = &work.input.settings;
    let dns =
        Key::namespaced(Kind::Service, &Name::trusted("kube-system"), &Name::trusted("kube-dns"));
    taken.addresses.insert(settings.dns_ip, dns);
    for (namespace, entries) in &work.next.services {
        for (name, allocation) in &**entries {
            let key = Key::namespaced(Kind::Service, namespace, name);
            if let Some(address) = allocation.cluster_ip {
                taken.addresses.insert(address, key.clone());
            }
            let ports = allocation.node_ports.values().chain(&allocation.health_check_port);
            for port in ports {
                taken.ports.insert(*port, key.clone());
            }
        }
    }
    taken
}

/// What a Service is to have, given what it has.
fn allot(
    work: &mut Work,
    taken: &mut Taken,
    key: &Key,
    service: &Service,
    mut has: ServiceAllocation,
) -> ServiceAllocation {
    if service.reach.has_cluster_ip() {
        has.cluster_ip = cluster_ip(work, taken, key, service, has.cluster_ip);
    } else {
        has.cluster_ip = None;
    }
    let before = std::mem::take(&mut has.node_ports);
    let wants_ports = match service.reach {
        Reach::NodePort => true,
        Reach::LoadBalancer => service.allocates_node_ports,
        _ => false,
    };
    for port in service.ports.iter().filter(|_| wants_ports) {
        let name = port.allocation_key();
        let had = before.get(&name).copied();
        if let Some(number) = node_port(work, taken, key, &name, port.node_port, had) {
            has.node_ports.insert(name, number);
        }
    }
    has.health_check_port = if service.reach == Reach::LoadBalancer && service.external_local {
        let had = has.health_check_port;
        node_port(work, taken, key, "health-check", service.health_check_node_port, had)
    } else {
        None
    };
    has
}

fn cluster_ip(
    work: &mut Work,
    taken: &mut Taken,
    key: &Key,
    service: &Service,
    had: Option<Ipv4Addr>,
) -> Option<Ipv4Addr> {
    let network = work.input.settings.service_network;
    let address = match service.cluster_ip {
        Some(asked) if !network.contains(asked) => {
            let message =
                format!("asks for {asked}, which is not in the service network {network}");
            work.warn(key, "allocator", "ClusterIPOutOfRange", message);
            return had;
        }
        Some(asked) if asked == network.network() || asked == network.broadcast() => {
            let message = format!("asks for {asked}, which is the service network's own");
            work.warn(key, "allocator", "ClusterIPOutOfRange", message);
            return had;
        }
        Some(asked) => match taken.addresses.get(&asked).filter(|owner| *owner != key) {
            Some(owner) => {
                let message = format!("asks for {asked}, which {owner} has");
                work.warn(key, "allocator", "ClusterIPAllocated", message);
                return had;
            }
            None => asked,
        },
        None => match had {
            Some(address) if network.contains(address) => return had,
            _ => free_address(network, taken, key)?,
        },
    };
    taken.addresses.insert(address, key.clone());
    Some(address)
}

fn free_address(network: Ipv4Network, taken: &Taken, key: &Key) -> Option<Ipv4Addr> {
    let first = u32::from(network.network()) + 1;
    let count = u32::from(network.broadcast()).checked_sub(first)?;
    let reserved = (count / 16).clamp(16, 256).min(count / 2);
    let number = pick(key, "clusterIP", reserved, count, |offset| {
        !taken.addresses.contains_key(&Ipv4Addr::from(first + offset))
    })?;
    Some(Ipv4Addr::from(first + number))
}

fn node_port(
    work: &mut Work,
    taken: &mut Taken,
    key: &Key,
    name: &str,
    asked: Option<u16>,
    had: Option<u16>,
) -> Option<u16> {
    let (low, high) = work.input.settings.node_ports;
    let number = match asked {
        Some(asked) => match taken.ports.get(&asked).filter(|owner| *owner != key) {
            Some(owner) => {
                let message = format!("asks for node port {asked}, which {owner} has");
                work.warn(key, "allocator", "PortAllocated", message);
                return had;
            }
            None => asked,
        },
        None => match had {
            Some(had) if (low..=high).contains(&had) => had,
            _ => {
                let count = u32::from(high.saturating_sub(low)) + 1;
                let reserved = (count / 32).clamp(16, 128).min(count / 2);
                let offset = pick(key, name, reserved, count, |offset| {
                    let port = u16::try_from(u32::from(low) + offset).unwrap_or(high);
                    !taken.ports.contains_key(&port)
                })?;
                u16::try_from(u32::from(low) + offset).ok()?
            }
        },
    };
    taken.ports.insert(number, key.clone());
    Some(number)
}

/// A free number in `reserved..count`, sought from where the owner's digest points; in the reserved
/// part only when nothing else is left.
fn pick(
    key: &Key,
    what: &str,
    reserved: u32,
    count: u32,
    is_free: impl Fn(u32) -> bool,
) -> Option<u32> {
    let dynamic = count.checked_sub(reserved).filter(|dynamic| *dynamic > 0)?;
    let digest = Digest::of(format!("{what} {key}").as_bytes()).first_u64();
    let start = u32::try_from(digest % u64::from(dynamic)).unwrap_or(0);
    (0..dynamic)
        .map(|step| reserved + (start + step) % dynamic)
        .chain(0..reserved)
        .find(|offset| is_free(*offset))
}
