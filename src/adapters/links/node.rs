//! The node's own addresses and routes.

use std::net::Ipv4Addr;

use rtnetlink::packet_route::address::AddressScope;
use rtnetlink::packet_route::route::RouteMessage;
use rtnetlink::{LinkMessageBuilder, LinkUnspec};

use ipnetwork::Ipv4Network;

use super::wire::{ADDRESS_LABEL, Link, Route, Wire, route_on_link, route_to};
use super::{sysctl, tunnel};
use crate::ports::Fault;
use crate::ports::links::{NodeNetwork, PeerPath, PeerRoute};

/// Makes everything that can be made; says of the rest all that went wrong.
pub(super) async fn ensure(wish: &NodeNetwork) -> Result<(), Fault> {
    let wire = Wire::open()?;
    sysctl::write("net/ipv4/ip_forward", "1")?;
    if wish.localhost_node_ports {
        sysctl::write("net/ipv4/conf/all/route_localnet", "1")?;
    }
    let loopback = loopback(&wire).await?;
    let mut faults = Vec::new();
    let mut note = |done: Result<(), Fault>| faults.extend(done.err());
    note(ensure_address(&wire, &loopback, wish.dns).await);
    let tunnel = match tunnel::ensure(&wire, wish).await {
        Ok(tunnel) => tunnel,
        Err(fault) => {
            // A kernel without VXLAN is no trouble where every node is on a link of ours.
            let is_needed = wish.peers.iter().any(|peer| peer.path != PeerPath::Direct);
            tracing::debug!(%fault, is_needed, "no tunnel");
            note(if is_needed { Err(fault) } else { Ok(()) });
            None
        }
    };
    // The kernel took the routes of a link along with it.
    let routes = wire.routes().await?;
    let source = wire.present(wish.node_ip).await?;
    let wanted = wanted_routes(wish, source, &loopback, tunnel.as_ref());
    for (network, via, message) in &wanted {
        note(ensure_route(&wire, &routes, *network, *via, message).await);
    }
    note(remove_others(&wire, &routes, &wanted).await);
    Fault::all(faults)
}

async fn loopback(wire: &Wire) -> Result<Link, Fault> {
    let found = wire.links().await?.into_iter().find(|link| link.loopback);
    let loopback = found.ok_or_else(|| Fault::stalled("there is no loopback link"))?;
    if !loopback.up {
        let up = LinkMessageBuilder::<LinkUnspec>::new().index(loopback.index).up();
        wire.change_link(up.build(), "bringing loopback up").await?;
    }
    Ok(loopback)
}

/// The DNS address, of host scope: never the source of a packet that leaves the node.
async fn ensure_address(wire: &Wire, lo: &Link, wanted: Option<Ipv4Addr>) -> Result<(), Fault> {
    let mut there = false;
    for address in wire.addresses().await? {
        let ours = address.label.as_deref() == Some(ADDRESS_LABEL);
        if Some(address.ip) == wanted {
            there = true;
        } else if ours {
            wire.remove_address(address).await?;
        }
    }
    match wanted {
        Some(ip) if !there => {
            wire.add_address(lo.index, ip, AddressScope::Host, Some(ADDRESS_LABEL)).await
        }
        _ => Ok(()),
    }
}

type Wanted = (Ipv4Network, Option<Ipv4Addr>, RouteMessage);

fn wanted_routes(
    wish: &NodeNetwork,
    source: Option<Ipv4Addr>,
    loopback: &Link,
    tunnel: Option<&Link>,
) -> Vec<Wanted> {
    let from_node =
        |route: rtnetlink::RouteMessageBuilder<Ipv4Addr>, source: Option<Ipv4Addr>| match source {
            Some(ip) => route.pref_source(ip).build(),
            None => route.build(),
        };
    // A node without an address still has the DNS address to speak from.
    let services = route_on_link(wish.services, loopback.index);
    let to_services = from_node(services, source.or(wish.dns));
    let to_peer = |peer: &PeerRoute| match peer.path {
        PeerPath::Direct => {
            let route = from_node(route_to(peer.pods).gateway(peer.via), source);
            Some((peer.pods, Some(peer.via), route))
        }
        PeerPath::Vxlan { address, .. } => {
            let (link, end) = (tunnel?, wish.vxlan?);
            // The answer must come back by the tunnel: nobody between knows where pods are.
            let route = route_to(peer.pods).gateway(address).output_interface(link.index).onlink();
            Some((peer.pods, Some(address), from_node(route, Some(end.address))))
        }
    };
    let mut wanted = vec![(wish.services, None, to_services)];
    wanted.extend(wish.peers.iter().filter_map(to_peer));
    wanted
}

async fn ensure_route(
    wire: &Wire,
    routes: &[Route],
    network: Ipv4Network,
    via: Option<Ipv4Addr>,
    message: &RouteMessage,
) -> Result<(), Fault> {
    let what = match via {
        Some(via) => format!("adding the route to {network} via {via}"),
        None => format!("adding the route to {network}"),
    };
    let same = |route: &&Route| route.goes_to(network);
    match routes.iter().filter(same).min_by_key(|route| route.metric) {
        Some(there) if !there.ours => {
            Err(Fault::stalled(format!("{what}: there is one already that is not ours")))
        }
        Some(there) if is_as_wanted(there, via, message) => Ok(()),
        there => wire.add_route(message.clone(), there.is_some(), &what).await,
    }
}

fn is_as_wanted(there: &Route, via: Option<Ipv4Addr>, wanted: &RouteMessage) -> bool {
    use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute};
    let source = wanted.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::PrefSource(RouteAddress::Inet(ip)) => Some(*ip),
        _ => None,
    });
    there.via == via && there.source == source
}

/// Removes routes of ours that are not wanted. Those by a pod's link belong to the link.
async fn remove_others(wire: &Wire, routes: &[Route], wanted: &[Wanted]) -> Result<(), Fault> {
    let links = wire.links().await?;
    let to_pod = |route: &Route| {
        let by = links.iter().find(|link| Some(link.index) == route.index);
        by.is_some_and(Link::is_ours)
    };
    let is_wanted = |route: &Route| wanted.iter().any(|(network, _, _)| route.goes_to(*network));
    let mut faults = Vec::new();
    for route in routes.iter().filter(|route| route.ours) {
        if !to_pod(route) && !is_wanted(route) {
            faults.extend(wire.remove_route(route).await.err());
        }
    }
    Fault::all(faults)
}

/// Takes away everything with our mark.
pub(super) async fn clear() -> Result<(), Fault> {
    let wire = Wire::open()?;
    let mut faults = Vec::new();
    let is_ours = |link: &Link| link.is_ours() || link.is_tunnel();
    for link in wire.links().await?.into_iter().filter(is_ours) {
        faults.extend(wire.remove_link(link.index).await.err());
    }
    for route in wire.routes().await?.iter().filter(|route| route.ours) {
        faults.extend(wire.remove_route(route).await.err());
    }
    for address in wire.addresses().await? {
        if address.label.as_deref() == Some(ADDRESS_LABEL) {
            faults.extend(wire.remove_address(address).await.err());
        }
    }
    Fault::all(faults)
}
