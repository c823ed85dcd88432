//! Links, addresses and routes.
//!
//! Each pod has a veth pair of its own: `eth0` with the pod's address in its namespace, `wdl…` on
//! the node, a /32 route to it. No bridge (docs/DESIGN.md §5).

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;

/// The mark of our links. Not `wl…`, which is what wireless cards are called.
pub const LINK_PREFIX: &str = "wdl";

/// The link to nodes that share none with this one.
pub const TUNNEL_LINK: &str = "wdl-vx";

/// The address of every pod's gateway, on the node's end of its link.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);

/// What may be asked of links, addresses and routes.
#[derive(Clone, Debug)]
pub enum Call {
    /// Give a pod's network namespace its link. Saying it again mends what is missing and changes
    /// nothing else: to be said again for every pod when the node's address changes, because the
    /// kernel drops all routes with an address that goes as their source.
    Attach(Attachment),
    /// Take a pod's link away.
    Detach {
        /// The node's end.
        link: String,
    },
    /// Which links of ours there are.
    List,
    /// Make the node's own addresses and routes be these. To be said again now and then:
    /// systemd-networkd removes routes it does not know when it takes a link over.
    Ensure(NodeNetwork),
    /// Look at the machine: addresses and routes.
    Survey,
    /// Take everything of ours away.
    Clear,
}

/// A pod's link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attachment {
    /// The node's end.
    pub link: String,
    /// A process in the pod's network namespace.
    pub pid: u32,
    /// The pod's address.
    pub ip: Ipv4Addr,
    /// The node's address: the source of packets the node sends to the pod.
    pub node_ip: Option<Ipv4Addr>,
    /// The largest packet.
    pub mtu: u32,
    /// Kernel parameters of the namespace, `net.…`.
    pub sysctls: Vec<(String, String)>,
}

/// The node's own addresses and routes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeNetwork {
    /// The address on `lo` at which DNS answers.
    pub dns: Option<Ipv4Addr>,
    /// Service addresses; routed to `lo`, so that the node's own packets get as far as the rules
    /// also on a machine with no default route.
    pub services: Ipv4Network,
    /// The node's address.
    pub node_ip: Option<Ipv4Addr>,
    /// Other nodes' pods.
    pub peers: Vec<PeerRoute>,
    /// This node's end of the tunnel; none where there are no peers.
    pub vxlan: Option<Vxlan>,
    /// Whether node ports answer at 127.0.0.1 too: sets `net.ipv4.conf.all.route_localnet`, and so
    /// must only be asked for once the rules are in force that keep others away from loopback.
    pub localhost_node_ports: bool,
}

/// The way to another node's pods.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PeerRoute {
    /// Its pods.
    pub pods: Ipv4Network,
    /// Its address.
    pub via: Ipv4Addr,
    /// How packets get there.
    pub path: PeerPath,
}

/// How packets get to another node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerPath {
    /// It is on a link of ours.
    Direct,
    /// In VXLAN.
    Vxlan {
        /// The address of its end of the tunnel.
        address: Ipv4Addr,
        /// The hardware address of it.
        mac: [u8; 6],
    },
}

/// This node's end of the tunnel to nodes on other links. Nothing is learnt from packets and nothing
/// is sent to many: what is on the other side is in [`PeerRoute`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Vxlan {
    /// The network identifier.
    pub id: u32,
    /// The UDP port.
    pub port: u16,
    /// The node's address.
    pub local: Ipv4Addr,
    /// The address inside, from which the node itself speaks to pods at the other end.
    pub address: Ipv4Addr,
    /// The hardware address inside.
    pub mac: [u8; 6],
    /// The largest packet inside.
    pub mtu: u32,
}

/// What comes back.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To calls that change something.
    Done,
    /// To [`Call::List`].
    Links(Vec<String>),
    /// To [`Call::Survey`].
    Survey(Box<NetworkSeen>),
}

/// An address of the machine and the network it is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Near {
    /// The address, with the prefix of the network on its link.
    pub network: Ipv4Network,
    /// The largest packet on the link.
    pub mtu: u32,
}

/// The machine's addresses and routes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSeen {
    /// Addresses of the machine that others may reach: not loopback, not Docker's, not ours.
    pub addresses: Vec<Ipv4Addr>,
    /// The same, each with the prefix of the network on its link and what that link takes.
    pub near: Vec<Near>,
    /// The source address of packets on the default route, if there is one.
    pub default_source: Option<Ipv4Addr>,
    /// Networks that the machine has routes to, ours left out.
    pub routes: Vec<Ipv4Network>,
    /// The MTU of the link that has the node's address.
    pub mtu: u32,
    /// The machine's resolvers.
    pub resolvers: Vec<std::net::IpAddr>,
    /// The machine's search domains.
    pub searches: Vec<String>,
}
