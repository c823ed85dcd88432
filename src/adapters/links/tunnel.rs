//! The link to nodes that share none with this one: VXLAN, every entry of which is written by us.
//!
//! ```text
//!   wdl-vx  10.244.1.1/32, 0a:59:0a:f4:01:01      from the network of this node's pods
//!   ├ neighbour 10.244.2.1 is 0a:59:0a:f4:02:01   permanent: nobody is asked
//!   ├ fdb 0a:59:0a:f4:02:01 at 172.16.5.7         permanent: nothing is learnt
//!   └ route 10.244.2.0/24 via 10.244.2.1 onlink   (`node.rs`)
//! ```
//!
//! What stands right is not touched: entries of peers that stay see no gap. Only where the link
//! itself is another than wanted (its number, port, address) is it made anew.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt as _;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::AddressScope;
use rtnetlink::packet_route::link::{InfoKind, InfoVxlan};
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState,
};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVxlan};

use super::sysctl;
use super::wire::{Link, Wire, accept, explain};
use crate::ports::Fault;
use crate::ports::links::{NodeNetwork, PeerPath, TUNNEL_LINK, Vxlan};

const ENOENT: i32 = 2;

type Mac = [u8; 6];

/// Makes the tunnel's end be as wished; the link, if there is to be one.
pub(super) async fn ensure(wire: &Wire, wish: &NodeNetwork) -> Result<Option<Link>, Fault> {
    let there = wire.link(TUNNEL_LINK).await?;
    if there.as_ref().is_some_and(|link| link.kind != Some(InfoKind::Vxlan)) {
        return Err(Fault::stalled(format!(
            "{TUNNEL_LINK} is there and is no VXLAN link, and so not ours"
        )));
    }
    let Some(end) = &wish.vxlan else {
        if let Some(link) = there {
            wire.remove_link(link.index).await?;
        }
        return Ok(None);
    };
    let link = match there {
        Some(link) if is_as_wanted(&link, end) => link,
        there => {
            if let Some(link) = there {
                wire.remove_link(link.index).await?;
            }
            make(wire, end).await?
        }
    };
    configure(wire, &link, end).await?;
    let (mut neighbours, mut places) = (BTreeMap::new(), BTreeMap::new());
    for peer in &wish.peers {
        if let PeerPath::Vxlan { address, mac } = peer.path {
            neighbours.insert(address, mac);
            places.insert(mac, peer.via);
        }
    }
    // First where they are, then who they are: no packet is sent to nowhere.
    ensure_places(wire, &link, &places).await?;
    ensure_neighbours(wire, &link, &neighbours).await?;
    Ok(Some(link))
}

fn is_as_wanted(link: &Link, end: &Vxlan) -> bool {
    let has = |wanted: &InfoVxlan| link.vxlan.contains(wanted);
    has(&InfoVxlan::Id(end.id))
        && has(&InfoVxlan::Port(end.port))
        && has(&InfoVxlan::Local(end.local))
        && has(&InfoVxlan::Learning(false))
        && link.mac == end.mac
}

async fn make(wire: &Wire, end: &Vxlan) -> Result<Link, Fault> {
    // No `dev`: the routes of the machine say by which link a peer is reached, also after it has got
    // another. The hardware address is given at once, or udev would choose one.
    let message = LinkVxlan::new(TUNNEL_LINK, end.id)
        .port(end.port)
        .local(end.local)
        .learning(false)
        .address(end.mac.to_vec())
        .mtu(end.mtu)
        .build();
    let what = format!("making link {TUNNEL_LINK} (VXLAN {} at UDP port {})", end.id, end.port);
    accept(wire.handle.link().add(message).execute().await, &[], &what)?;
    let made = wire.link(TUNNEL_LINK).await?;
    made.ok_or_else(|| Fault::transient(format!("link {TUNNEL_LINK} vanished")))
}

async fn configure(wire: &Wire, link: &Link, end: &Vxlan) -> Result<(), Fault> {
    sysctl::write_if_there(&format!("net/ipv6/conf/{TUNNEL_LINK}/disable_ipv6"), "1")?;
    for (name, value) in [
        // A peer may send by the tunnel although we send to it directly.
        ("rp_filter", "2"),
        ("accept_redirects", "0"),
        ("send_redirects", "0"),
        ("forwarding", "1"),
    ] {
        sysctl::write(&format!("net/ipv4/conf/{TUNNEL_LINK}/{name}"), value)?;
    }
    if !link.up || link.mtu != end.mtu {
        let change = LinkMessageBuilder::<LinkUnspec>::new().index(link.index).up().mtu(end.mtu);
        wire.change_link(change.build(), &format!("bringing {TUNNEL_LINK} up")).await?;
    }
    let mut is_there = false;
    for address in wire.addresses().await? {
        if address.index == link.index {
            if address.ip == end.address {
                is_there = true;
            } else {
                wire.remove_address(address).await?;
            }
        }
    }
    if is_there {
        return Ok(());
    }
    wire.add_address(link.index, end.address, AddressScope::Universe, None).await
}

/// At which node each hardware address is.
async fn ensure_places(
    wire: &Wire,
    link: &Link,
    wanted: &BTreeMap<Mac, Ipv4Addr>,
) -> Result<(), Fault> {
    let mut there = BTreeMap::new();
    for entry in entries(wire, link, AddressFamily::Bridge).await? {
        match (mac_of(&entry), address_of(&entry)) {
            (Some(mac), Some(at)) if wanted.get(&mac) == Some(&at) => {
                there.insert(mac, at);
            }
            // One that stays and moves is replaced below.
            (Some(mac), _) if wanted.contains_key(&mac) => {}
            _ => remove(wire, entry).await?,
        }
    }
    for (mac, at) in wanted.iter().filter(|(mac, _)| !there.contains_key(*mac)) {
        let request = wire.handle.neighbours().add_bridge(link.index, mac);
        let request = request.flags(NeighbourFlags::Own).destination(IpAddr::V4(*at)).replace();
        accept(request.execute().await, &[], &format!("adding the tunnel to {at}"))?;
    }
    Ok(())
}

/// Which hardware address each end of the tunnel has.
async fn ensure_neighbours(
    wire: &Wire,
    link: &Link,
    wanted: &BTreeMap<Ipv4Addr, Mac>,
) -> Result<(), Fault> {
    let mut there = BTreeMap::new();
    for entry in entries(wire, link, AddressFamily::Inet).await? {
        match (address_of(&entry), mac_of(&entry)) {
            (Some(ip), Some(mac))
                if wanted.get(&ip) == Some(&mac)
                    && entry.header.state == NeighbourState::Permanent =>
            {
                there.insert(ip, mac);
            }
            (Some(ip), _) if wanted.contains_key(&ip) => {}
            // What the kernel notes by itself (multicast needs no neighbour) is no entry of ours.
            _ if entry.header.state == NeighbourState::Noarp => {}
            _ => remove(wire, entry).await?,
        }
    }
    for (ip, mac) in wanted.iter().filter(|(ip, _)| !there.contains_key(*ip)) {
        wire.add_neighbour(link.index, *ip, *mac).await?;
    }
    Ok(())
}

async fn entries(
    wire: &Wire,
    link: &Link,
    family: AddressFamily,
) -> Result<Vec<NeighbourMessage>, Fault> {
    let all = wire.handle.neighbours().get().set_address_family(family).execute();
    let here = all.try_filter(|entry| std::future::ready(entry.header.ifindex == link.index));
    here.try_collect().await.map_err(|error| explain("listing the tunnel's entries", &error))
}

async fn remove(wire: &Wire, mut entry: NeighbourMessage) -> Result<(), Fault> {
    let by_name = |attribute: &NeighbourAttribute| {
        matches!(
            attribute,
            NeighbourAttribute::Destination(_) | NeighbourAttribute::LinkLayerAddress(_)
        )
    };
    entry.attributes.retain(by_name);
    let removed = wire.handle.neighbours().del(entry).execute().await;
    accept(removed, &[ENOENT], "removing an entry of the tunnel")
}

fn mac_of(entry: &NeighbourMessage) -> Option<Mac> {
    entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::LinkLayerAddress(bytes) => Mac::try_from(bytes.as_slice()).ok(),
        _ => None,
    })
}

fn address_of(entry: &NeighbourMessage) -> Option<Ipv4Addr> {
    entry.attributes.iter().find_map(|attribute| match attribute {
        NeighbourAttribute::Destination(NeighbourAddress::Inet(ip)) => Some(*ip),
        // What is in a table of hardware addresses is not said to be IPv4.
        NeighbourAttribute::Destination(NeighbourAddress::Other(bytes)) => {
            <[u8; 4]>::try_from(bytes.as_slice()).ok().map(Ipv4Addr::from)
        }
        _ => None,
    })
}
