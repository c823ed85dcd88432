//! What the machine's network is like without us.

use std::path::PathBuf;

use rtnetlink::packet_route::link::InfoKind;

use super::resolvers;
use super::wire::{Address, Link, Route, Wire};
use crate::ports::Fault;
use crate::ports::links::{Near, NetworkSeen};

/// What Ethernet carries, where no link says otherwise.
const MTU_DEFAULT: u32 = 1500;

/// How many hexadecimal digits of a network's id Docker puts into a bridge's name (`br-…`).
const DOCKER_ID_LEN: usize = 12;

pub(super) async fn survey(resolver_files: &[PathBuf]) -> Result<NetworkSeen, Fault> {
    let wire = Wire::open()?;
    let (links, addresses) = (wire.links().await?, wire.addresses().await?);
    let routes = wire.routes().await?;
    let (resolvers, searches) = resolvers::read(resolver_files);
    Ok(look(&links, &addresses, &routes, resolvers, searches))
}

fn look(
    links: &[Link],
    addresses: &[Address],
    routes: &[Route],
    resolvers: Vec<std::net::IpAddr>,
    searches: Vec<String>,
) -> NetworkSeen {
    let reachable = reachable(links, addresses);
    let default = routes
        .iter()
        .filter(|route| route.to.prefix() == 0 && !route.ours)
        .min_by_key(|route| route.metric);
    let default_source = default.and_then(|route| {
        let on_its_link = || reachable.iter().find(|(_, link)| Some(link.index) == route.index);
        route.source.or_else(|| on_its_link().map(|(address, _)| address.ip))
    });
    let main = default_source.or(reachable.first().map(|(address, _)| address.ip));
    let mtu = reachable
        .iter()
        .find(|(address, _)| Some(address.ip) == main)
        .map_or(MTU_DEFAULT, |(_, link)| link.mtu);
    let mut networks: Vec<_> = routes
        .iter()
        .filter(|route| !route.ours && route.to.prefix() != 0)
        .map(|route| route.to)
        .collect();
    networks.sort();
    networks.dedup();
    NetworkSeen {
        near: reachable.iter().filter_map(|(address, link)| near(address, link)).collect(),
        addresses: reachable.into_iter().map(|(address, _)| address.ip).collect(),
        default_source,
        routes: networks,
        mtu,
        resolvers,
        searches,
    }
}

/// Addresses at which others may reach the machine, each with its link, in the order of links.
fn reachable<'a>(links: &'a [Link], addresses: &'a [Address]) -> Vec<(&'a Address, &'a Link)> {
    let mut found: Vec<(&Address, &Link)> = addresses
        .iter()
        .filter(|address| {
            address.universal && !address.ip.is_loopback() && !address.ip.is_link_local()
        })
        .filter_map(|address| {
            let link = links.iter().find(|link| link.index == address.index)?;
            Some((address, link))
        })
        .filter(|(_, link)| link.up && !link.loopback && !is_dockers(link))
        .filter(|(_, link)| !link.is_ours() && !link.is_tunnel())
        .collect();
    found.sort_by_key(|(_, link)| link.index);
    found
}

fn near(address: &Address, link: &Link) -> Option<Near> {
    let network = ipnetwork::Ipv4Network::new(address.ip, address.prefix).ok()?;
    Some(Near { network, mtu: link.mtu })
}

fn is_dockers(link: &Link) -> bool {
    let made = |name: &str| {
        name.strip_prefix("br-").is_some_and(|id| {
            id.len() == DOCKER_ID_LEN && id.bytes().all(|byte| byte.is_ascii_hexdigit())
        })
    };
    link.kind == Some(InfoKind::Bridge)
        && (link.name == "docker0" || link.name == "docker_gwbridge" || made(&link.name))
}
