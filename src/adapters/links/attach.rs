//! A pod's link.
//!
//! ```text
//!   pod's namespace                          node
//!   eth0  10.1.0.5/32 ────────── veth ────── wdl…  169.254.1.1/32 (scope link)
//!   default via 169.254.1.1                  10.1.0.5 dev wdl… src <node> proto 87
//! ```
//!
//! Making one that is there already is harmless: each step sets what ought to be. Only where the
//! two ends don't belong together is what is there taken away and made anew.

use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use ipnetwork::Ipv4Network;
use nix::sched::{CloneFlags, setns};
use rtnetlink::packet_route::address::AddressScope;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::wire::{Link, Wire, route_on_link, route_to};
use super::{check_mark, sysctl};
use crate::ports::Fault;
use crate::ports::links::{Attachment, GATEWAY};

/// The link's name in the pod.
const POD_LINK: &str = "eth0";

/// The hardware address of the node's end, the same on every link: each has one neighbour only.
/// Written out so that udev does not give it another after we have told the pod.
const NODE_MAC: [u8; 6] = [0x0a, 0x58, 169, 254, 1, 1];

/// Kernel parameters every pod gets: what Docker sets in namespaces it makes itself. Without the
/// first, a process that is not root can't bind port 80.
const POD_SYSCTLS: [(&str, &str); 2] =
    [("net.ipv4.ip_unprivileged_port_start", "0"), ("net.ipv4.ping_group_range", "0 2147483647")];

/// How often a new link is looked at until packets pass, and how long between looks: 1.5 s in all,
/// more than the one second in which the kernel's link watcher comes round.
const SETTLE_LOOKS_MAX: usize = 300;
const SETTLE_PAUSE: Duration = Duration::from_millis(5);

pub(super) async fn attach(wish: &Attachment) -> Result<(), Fault> {
    check_mark(&wish.link)?;
    let sides = Sides::of(wish.pid)?;
    let node = Wire::open()?;
    sides.enter_pod()?;
    let pod = Wire::open()?;
    sides.leave_pod()?;
    let (on_node, in_pod) = ends(wish, &sides, &node, &pod).await?;
    configure_node(wish, &node, &on_node).await?;
    sides.enter_pod()?;
    configure_pod(wish, &pod, &in_pod).await?;
    settle(&node, &wish.link).await?;
    settle(&pod, POD_LINK).await
}

/// Waits until packets pass. The end that came up first has no queue until the kernel's link watcher
/// comes round to it: at once as a rule, after a second where the ends happen to have the same
/// index. Without this a pod's first packets may be lost (seen). Kernels since 6.8 see to it when
/// they are asked for the link's state.
async fn settle(wire: &Wire, name: &str) -> Result<(), Fault> {
    for _ in 0..SETTLE_LOOKS_MAX {
        match wire.link(name).await? {
            Some(link) if !link.running => tokio::time::sleep(SETTLE_PAUSE).await,
            Some(_) => return Ok(()),
            None => return Err(Fault::transient(format!("link {name} vanished"))),
        }
    }
    tracing::warn!(link = name, "the link is up and the kernel still does not say that it runs");
    Ok(())
}

pub(super) async fn detach(link: &str) -> Result<(), Fault> {
    check_mark(link)?;
    let wire = Wire::open()?;
    match wire.link(link).await? {
        Some(found) if found.is_ours() => wire.remove_link(found.index).await,
        Some(_) => Err(Fault::stalled(format!("{link} is not a veth link, and so not ours"))),
        None => Ok(()),
    }
}

/// The two network namespaces. The thread goes between them; it is ours alone.
struct Sides {
    node: File,
    pod: File,
}

impl Sides {
    fn of(pid: u32) -> Result<Self, Fault> {
        let node = File::open("/proc/thread-self/ns/net")
            .map_err(|error| Fault::transient(format!("own network namespace: {error}")))?;
        let pod = File::open(format!("/proc/{pid}/ns/net")).map_err(|error| {
            Fault::not_found(format!("no network namespace of process {pid}: {error}"))
        })?;
        let inode = |file: &File| file.metadata().map(|data| data.ino()).map_err(Fault::transient);
        if inode(&node)? == inode(&pod)? {
            return Err(Fault::stalled(format!(
                "process {pid} is in the node's own network namespace"
            )));
        }
        Ok(Self { node, pod })
    }

    fn enter_pod(&self) -> Result<(), Fault> {
        enter(&self.pod, "the pod's")
    }

    fn leave_pod(&self) -> Result<(), Fault> {
        enter(&self.node, "the node's")
    }
}

fn enter(namespace: &File, whose: &str) -> Result<(), Fault> {
    setns(namespace, CloneFlags::CLONE_NEWNET)
        .map_err(|error| Fault::stalled(format!("entering {whose} network namespace: {error}")))
}

/// Both ends of the link, made where they are not there or don't belong together.
async fn ends(
    wish: &Attachment,
    sides: &Sides,
    node: &Wire,
    pod: &Wire,
) -> Result<(Link, Link), Fault> {
    let (ours, theirs) = (node.link(&wish.link).await?, pod.link(POD_LINK).await?);
    if let (Some(ours), Some(theirs)) = (&ours, &theirs)
        && belong_together(ours, theirs)
        && has_no_other_address(wish, pod, theirs).await?
    {
        return Ok((ours.clone(), theirs.clone()));
    }
    for (wire, link) in [(node, ours), (pod, theirs)] {
        match link {
            Some(link) if link.kind == Some(InfoKind::Veth) => wire.remove_link(link.index).await?,
            Some(link) => {
                let text =
                    format!("{} is there and is not a veth link, and so not ours", link.name);
                return Err(Fault::stalled(text));
            }
            None => {}
        }
    }
    make(wish, sides, node).await?;
    match (node.link(&wish.link).await?, pod.link(POD_LINK).await?) {
        (Some(ours), Some(theirs)) => Ok((ours, theirs)),
        _ => Err(Fault::transient("the link vanished as soon as it was made")),
    }
}

fn belong_together(ours: &Link, theirs: &Link) -> bool {
    let is_veth = |link: &Link| link.kind == Some(InfoKind::Veth);
    is_veth(ours)
        && is_veth(theirs)
        && ours.peer == Some(theirs.index)
        && theirs.peer == Some(ours.index)
}

async fn has_no_other_address(wish: &Attachment, pod: &Wire, link: &Link) -> Result<bool, Fault> {
    let addresses = pod.addresses().await?;
    let mut here = addresses.iter().filter(|address| address.index == link.index);
    Ok(here.all(|address| address.ip == wish.ip))
}

/// Makes the pair with one end directly in the pod: it is never seen on the node, where udev and
/// network managers would take it for a card.
async fn make(wish: &Attachment, sides: &Sides, node: &Wire) -> Result<(), Fault> {
    let in_pod = LinkMessageBuilder::<LinkUnspec>::new()
        .name(POD_LINK)
        .mtu(wish.mtu)
        .address(pod_mac(wish.ip).to_vec())
        .setns_by_fd(sides.pod.as_raw_fd())
        .build();
    let pair = LinkVeth::new(&wish.link, POD_LINK)
        .mtu(wish.mtu)
        .address(NODE_MAC.to_vec())
        .set_info_data(InfoData::Veth(InfoVeth::Peer(in_pod)))
        .build();
    let made = node.handle.link().add(pair).execute().await;
    made.map_err(|error| Fault::transient(format!("making the pair of links: {error}")))
}

/// As CNI's plugins make them: the same address always has the same.
fn pod_mac(ip: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = ip.octets();
    [0x0a, 0x58, a, b, c, d]
}

async fn configure_node(wish: &Attachment, node: &Wire, link: &Link) -> Result<(), Fault> {
    let name = &link.name;
    // No IPv6 from or to pods over a link that only knows IPv4, and before the link is up, so that
    // none is announced. A pod can't send from addresses that are not its own, and is not told of
    // shorter ways to itself.
    sysctl::write_if_there(&format!("net/ipv6/conf/{name}/disable_ipv6"), "1")?;
    sysctl::write(&format!("net/ipv4/conf/{name}/rp_filter"), "1")?;
    sysctl::write(&format!("net/ipv4/conf/{name}/send_redirects"), "0")?;
    sysctl::write(&format!("net/ipv4/conf/{name}/forwarding"), "1")?;
    bring_up(node, link, wish.mtu).await?;
    // `scope link`: the kernel must not take this address for the node's own when it looks for a
    // source on another link.
    node.add_address(link.index, GATEWAY, AddressScope::Link, None).await?;
    node.add_neighbour(link.index, wish.ip, pod_mac(wish.ip)).await?;
    add_pod_route(wish, node, link).await
}

/// The route to a pod takes the place of one of ours that an earlier link left, never of another.
async fn add_pod_route(wish: &Attachment, node: &Wire, link: &Link) -> Result<(), Fault> {
    let source = node.present(wish.node_ip).await?;
    let mut message = route_on_link(Ipv4Network::from(wish.ip), link.index);
    if let Some(source) = source {
        message = message.pref_source(source);
    }
    let routes = node.routes().await?;
    let there = routes.iter().find(|route| route.to == Ipv4Network::from(wish.ip));
    match there {
        Some(route) if !route.ours => {
            Err(Fault::stalled(format!("there is a route to {} already that is not ours", wish.ip)))
        }
        Some(route) if route.index == Some(link.index) && route.source == source => Ok(()),
        there => {
            let what = format!("adding the route to {}", wish.ip);
            node.add_route(message.build(), there.is_some(), &what).await
        }
    }
}

/// Must be called in the pod's namespace, for its kernel parameters.
async fn configure_pod(wish: &Attachment, pod: &Wire, link: &Link) -> Result<(), Fault> {
    sysctl::write_if_there(&format!("net/ipv6/conf/{POD_LINK}/disable_ipv6"), "1")?;
    for conf in ["all", POD_LINK] {
        sysctl::write(&format!("net/ipv4/conf/{conf}/accept_redirects"), "0")?;
    }
    if let Some(loopback) = pod.link("lo").await? {
        bring_up(pod, &loopback, loopback.mtu).await?;
    }
    bring_up(pod, link, wish.mtu).await?;
    pod.add_address(link.index, wish.ip, AddressScope::Universe, None).await?;
    pod.add_neighbour(link.index, GATEWAY, NODE_MAC).await?;
    let gateway = route_on_link(Ipv4Network::from(GATEWAY), link.index).build();
    pod.add_route(gateway, true, "adding the pod's route to its gateway").await?;
    let everywhere = Ipv4Network::new(Ipv4Addr::UNSPECIFIED, 0).map_err(Fault::transient)?;
    let default = route_to(everywhere).gateway(GATEWAY).output_interface(link.index).build();
    pod.add_route(default, true, "adding the pod's default route").await?;
    for (name, value) in POD_SYSCTLS {
        // Kernels before 4.11 have not got the first, and need it not: nothing else can be done.
        sysctl::write_if_there(&sysctl::path_of(name)?, value)?;
    }
    for (name, value) in &wish.sysctls {
        sysctl::write(&sysctl::path_of(name)?, value)?;
    }
    Ok(())
}

async fn bring_up(wire: &Wire, link: &Link, mtu: u32) -> Result<(), Fault> {
    if link.up && link.mtu == mtu {
        return Ok(());
    }
    let mut change = LinkMessageBuilder::<LinkUnspec>::new().index(link.index).up();
    if link.mtu != mtu {
        change = change.mtu(mtu);
    }
    wire.change_link(change.build(), &format!("bringing {} up", link.name)).await
}
