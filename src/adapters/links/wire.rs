//! A netlink socket, and the few things we ask of it.

use std::net::{IpAddr, Ipv4Addr};

use futures_util::TryStreamExt as _;
use ipnetwork::Ipv4Network;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::address::{AddressAttribute, AddressMessage, AddressScope};
use rtnetlink::packet_route::link::{
    InfoData, InfoKind, InfoVxlan, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, State,
};
use rtnetlink::packet_route::route::{
    RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope,
};
use rtnetlink::{Error, Handle, RouteMessageBuilder};

use crate::ports::Fault;
use crate::ports::links::{LINK_PREFIX, TUNNEL_LINK};

/// The number that marks our routes, as `ip route` prints it: `proto 87`. Free in
/// `/etc/iproute2/rt_protos`.
pub const ROUTE_PROTOCOL: u8 = 87;

/// The label that marks our address on `lo`. The kernel wants the device's name before the colon.
pub(super) const ADDRESS_LABEL: &str = "lo:wdl";

const ENODEV: i32 = 19;
const EEXIST: i32 = 17;
const ESRCH: i32 = 3;
const EADDRNOTAVAIL: i32 = 99;

/// A link, as far as we look at links.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) index: u32,
    pub(super) name: String,
    /// The other end, in its own namespace's count.
    pub(super) peer: Option<u32>,
    pub(super) kind: Option<InfoKind>,
    /// Of a VXLAN link.
    pub(super) vxlan: Vec<InfoVxlan>,
    /// Its hardware address; zeros where it has none.
    pub(super) mac: [u8; 6],
    pub(super) mtu: u32,
    pub(super) up: bool,
    /// Whether packets pass: the kernel starts a link's queue some time after it is up.
    pub(super) running: bool,
    pub(super) loopback: bool,
}

impl Link {
    /// Whether it is a pod's link on the node.
    pub(super) fn is_ours(&self) -> bool {
        self.name.starts_with(LINK_PREFIX) && self.kind == Some(InfoKind::Veth)
    }

    /// Whether it is our end of the tunnel to other nodes.
    pub(super) fn is_tunnel(&self) -> bool {
        self.name == TUNNEL_LINK && self.kind == Some(InfoKind::Vxlan)
    }
}

/// An address on a link.
#[derive(Clone, Debug)]
pub(super) struct Address {
    pub(super) ip: Ipv4Addr,
    /// The length of the prefix of the network on its link.
    pub(super) prefix: u8,
    pub(super) index: u32,
    pub(super) universal: bool,
    pub(super) label: Option<String>,
    message: AddressMessage,
}

/// A route of the main table.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) to: Ipv4Network,
    pub(super) via: Option<Ipv4Addr>,
    pub(super) index: Option<u32>,
    pub(super) source: Option<Ipv4Addr>,
    pub(super) metric: u32,
    pub(super) ours: bool,
    pub(super) message: RouteMessage,
}

impl Route {
    /// Whether it goes to exactly this network, however its host bits are written.
    pub(super) fn goes_to(&self, network: Ipv4Network) -> bool {
        self.to.network() == network.network() && self.to.prefix() == network.prefix()
    }
}

/// A netlink connection into the network namespace that the thread was in when it was opened.
pub(super) struct Wire {
    pub(super) handle: Handle,
}

impl Wire {
    /// Opens one. Must be called inside a runtime.
    pub(super) fn open() -> Result<Self, Fault> {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|error| Fault::transient(format!("no netlink socket: {error}")))?;
        tokio::spawn(connection);
        Ok(Self { handle })
    }

    pub(super) async fn links(&self) -> Result<Vec<Link>, Fault> {
        let messages = self.handle.link().get().execute().map_ok(read_link);
        messages.try_collect().await.map_err(|error| explain("listing links", &error))
    }

    /// The link of that name, if there is one.
    pub(super) async fn link(&self, name: &str) -> Result<Option<Link>, Fault> {
        let mut found = std::pin::pin!(self.handle.link().get().match_name(name).execute());
        match found.try_next().await {
            Ok(message) => Ok(message.map(read_link)),
            Err(error) if code(&error) == ENODEV => Ok(None),
            Err(error) => Err(explain(&format!("looking for link {name}"), &error)),
        }
    }

    /// Takes a link away, and its other end with it. One that is gone is as good.
    pub(super) async fn remove_link(&self, index: u32) -> Result<(), Fault> {
        accept(self.handle.link().del(index).execute().await, &[ENODEV], "removing a link")
    }

    pub(super) async fn change_link(&self, message: LinkMessage, what: &str) -> Result<(), Fault> {
        accept(self.handle.link().change(message).execute().await, &[], what)
    }

    pub(super) async fn addresses(&self) -> Result<Vec<Address>, Fault> {
        let messages = self.handle.address().get().execute();
        let read = messages.try_filter_map(|message| std::future::ready(Ok(read_address(message))));
        read.try_collect().await.map_err(|error| explain("listing addresses", &error))
    }

    /// `source`, if it is an address of this machine now. The kernel takes no route with another; a
    /// node that has lost its address (a cable, DHCP) must still get pods.
    pub(super) async fn present(
        &self,
        source: Option<Ipv4Addr>,
    ) -> Result<Option<Ipv4Addr>, Fault> {
        let Some(source) = source else {
            return Ok(None);
        };
        let addresses = self.addresses().await?;
        let is_there = addresses.iter().any(|address| address.ip == source);
        Ok(is_there.then_some(source))
    }

    /// Gives a link an address of its own (/32), if it has not got it.
    pub(super) async fn add_address(
        &self,
        index: u32,
        ip: Ipv4Addr,
        scope: AddressScope,
        label: Option<&str>,
    ) -> Result<(), Fault> {
        let mut request = self.handle.address().add(index, IpAddr::V4(ip), 32);
        let message = request.message_mut();
        message.header.scope = scope;
        // A /32 has no broadcast address.
        let is_broadcast = |it: &AddressAttribute| matches!(it, AddressAttribute::Broadcast(_));
        message.attributes.retain(|attribute| !is_broadcast(attribute));
        message.attributes.extend(label.map(|label| AddressAttribute::Label(label.into())));
        accept(request.execute().await, &[EEXIST], &format!("adding address {ip}"))
    }

    pub(super) async fn remove_address(&self, address: Address) -> Result<(), Fault> {
        let what = format!("removing address {}", address.ip);
        let removed = self.handle.address().del(address.message).execute().await;
        accept(removed, &[EADDRNOTAVAIL], &what)
    }

    pub(super) async fn routes(&self) -> Result<Vec<Route>, Fault> {
        let all = RouteMessageBuilder::<Ipv4Addr>::new().build();
        let messages = self.handle.route().get(all).execute();
        let read = messages.try_filter_map(|message| std::future::ready(Ok(read_route(message))));
        read.try_collect().await.map_err(|error| explain("listing routes", &error))
    }

    /// Adds a route. With `replace` it takes the place of the one to the same network.
    pub(super) async fn add_route(
        &self,
        message: RouteMessage,
        replace: bool,
        what: &str,
    ) -> Result<(), Fault> {
        let request = self.handle.route().add(message);
        let request = if replace { request.replace() } else { request };
        accept(request.execute().await, &[], what)
    }

    pub(super) async fn remove_route(&self, route: &Route) -> Result<(), Fault> {
        let removed = self.handle.route().del(route.message.clone()).execute().await;
        accept(removed, &[ESRCH], &format!("removing the route to {}", route.to))
    }

    /// Says at once where the neighbour is: no question on the wire, and none that goes unanswered
    /// where `arp_ignore` is set.
    pub(super) async fn add_neighbour(
        &self,
        index: u32,
        ip: Ipv4Addr,
        mac: [u8; 6],
    ) -> Result<(), Fault> {
        let request = self.handle.neighbours().add(index, IpAddr::V4(ip));
        let request = request.link_layer_address(&mac).replace();
        accept(request.execute().await, &[], &format!("adding neighbour {ip}"))
    }
}

/// The beginning of a route of ours.
pub(super) fn route_to(network: Ipv4Network) -> RouteMessageBuilder<Ipv4Addr> {
    RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(network.network(), network.prefix())
        .protocol(RouteProtocol::Other(ROUTE_PROTOCOL))
}

/// The same, to what is at the other end of the link.
pub(super) fn route_on_link(network: Ipv4Network, index: u32) -> RouteMessageBuilder<Ipv4Addr> {
    route_to(network).output_interface(index).scope(RouteScope::Link)
}

fn read_link(message: LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        peer: None,
        kind: None,
        vxlan: Vec::new(),
        mac: [0; 6],
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        running: false,
        loopback: message.header.flags.contains(LinkFlags::Loopback),
    };
    for attribute in message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name = name,
            LinkAttribute::Link(peer) => link.peer = Some(peer),
            LinkAttribute::Mtu(mtu) => link.mtu = mtu,
            LinkAttribute::OperState(state) => link.running = state == State::Up,
            LinkAttribute::Address(bytes) => link.mac = bytes.try_into().unwrap_or_default(),
            LinkAttribute::LinkInfo(infos) => {
                for info in infos {
                    match info {
                        LinkInfo::Kind(kind) => link.kind = Some(kind),
                        LinkInfo::Data(InfoData::Vxlan(data)) => link.vxlan = data,
                        _ => {}
                    }
                }
            }
            _ => {}
        }
    }
    link
}

fn read_address(message: AddressMessage) -> Option<Address> {
    if message.header.family != AddressFamily::Inet {
        return None;
    }
    let ip = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(IpAddr::V4(ip)) => Some(*ip),
        _ => None,
    })?;
    let label = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Label(label) => Some(label.clone()),
        _ => None,
    });
    Some(Address {
        ip,
        prefix: message.header.prefix_len,
        index: message.header.index,
        universal: message.header.scope == AddressScope::Universe,
        label,
        message,
    })
}

fn read_route(message: RouteMessage) -> Option<Route> {
    if message.header.address_family != AddressFamily::Inet
        || message.header.table != RouteHeader::RT_TABLE_MAIN
    {
        return None;
    }
    let mut to = Ipv4Addr::UNSPECIFIED;
    let (mut via, mut index, mut source, mut metric) = (None, None, None, 0);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(ip)) => to = *ip,
            RouteAttribute::Gateway(RouteAddress::Inet(ip)) => via = Some(*ip),
            RouteAttribute::PrefSource(RouteAddress::Inet(ip)) => source = Some(*ip),
            RouteAttribute::Oif(oif) => index = Some(*oif),
            RouteAttribute::Priority(priority) => metric = *priority,
            _ => {}
        }
    }
    Some(Route {
        to: Ipv4Network::new(to, message.header.destination_prefix_length).ok()?,
        via,
        index,
        source,
        metric,
        ours: message.header.protocol == RouteProtocol::Other(ROUTE_PROTOCOL),
        message,
    })
}

fn code(error: &Error) -> i32 {
    match error {
        Error::NetlinkError(message) => message.raw_code().saturating_abs(),
        _ => 0,
    }
}

pub(super) fn accept(result: Result<(), Error>, as_good: &[i32], what: &str) -> Result<(), Fault> {
    match result {
        Err(error) if !as_good.contains(&code(&error)) => Err(explain(what, &error)),
        _ => Ok(()),
    }
}

/// The kernel's word for it. What needs a person: no permission, or something in the way.
pub(super) fn explain(what: &str, error: &Error) -> Fault {
    const EPERM: i32 = 1;
    let Error::NetlinkError(message) = error else {
        return Fault::transient(format!("{what}: {error}"));
    };
    let text = format!("{what}: {}", message.to_io());
    match code(error) {
        EPERM | EEXIST => Fault::stalled(text),
        ENODEV => Fault::not_found(text),
        _ => Fault::transient(text),
    }
}
