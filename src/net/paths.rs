//! The way to other nodes' pods: as a letter goes by hand to the neighbour and by post to the rest.
//!
//! ```text
//!   same link      10.244.1.0/24 via 192.168.0.12                        the peer is the next hop
//!   another link   10.244.2.0/24 via 10.244.2.1 dev wdl-vx onlink        in VXLAN, UDP to the peer
//!                    neighbour 10.244.2.1 is 0a:59:0a:f4:02:01           derived from its pods' network
//!                    fdb       0a:59:0a:f4:02:01 is at 172.16.5.7
//! ```
//!
//! The rule: each node chooses for itself, by its own addresses. Nothing is exchanged for a tunnel:
//! its ends' addresses follow from the networks that the coordinator has allotted, and nothing is
//! learnt from packets. Every node that has peers listens on its tunnel, whichever way it sends, and
//! the tunnel takes packets whose way back is another. So where two nodes choose differently (the
//! prefix of one is wrong, or `network.mode` is being changed) packets still arrive.
//!
//! The limit of that: a machine that checks strictly on its own card that packets come in by the
//! link it would answer by (`rp_filter` 1, as some distributions set it) drops what a peer sends
//! directly while it sends to that peer by the tunnel. That is the operator's setting, and stays.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;

use crate::kinds::container::Protocol;
use crate::ports::links::{NodeNetwork, PeerPath, PeerRoute, Vxlan};

/// What VXLAN puts before a packet: Ethernet, VXLAN, UDP and IPv4 (RFC 7348 §5). The outer Ethernet
/// header is no part of a link's MTU, the inner one is.
pub const OVERHEAD: u32 = 14 + 8 + 8 + 20;

/// The first two bytes of the hardware address of a tunnel's end; its IP address is the rest. Local,
/// unicast, and not those of pods' links (`0a:58`).
const MAC_PREFIX: [u8; 2] = [0x0a, 0x59];

/// How the way to a peer is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Directly where we share a link, by VXLAN otherwise.
    #[default]
    Auto,
    /// Never by VXLAN: where no link is shared, the network between knows where pods are.
    Direct,
    /// Always by VXLAN, also where a link is shared: some clouds drop what is not from a machine's
    /// own address.
    Vxlan,
}

impl Mode {
    /// Reads the word of it.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "auto" => Some(Self::Auto),
            "direct" => Some(Self::Direct),
            "vxlan" => Some(Self::Vxlan),
            _ => None,
        }
    }
}

/// What the operator may set about ways between nodes. The same on every node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlay {
    /// How ways are chosen.
    pub mode: Mode,
    /// The VXLAN network identifier. Two fleets that share a network need two.
    pub id: u32,
    /// The UDP port.
    pub port: u16,
}

impl Default for Overlay {
    /// The port is what Linux took before IANA gave 4789, which Docker Swarm has: two that listen at
    /// one port of one machine would need to agree.
    fn default() -> Self {
        Self { mode: Mode::Auto, id: 4096, port: 8472 }
    }
}

impl Overlay {
    /// The largest packet of a pod, where the machine's link takes `link_mtu`.
    ///
    /// It leaves room for VXLAN unless there can be none, whoever is in the fleet today: a node that
    /// joins from another link must not change what running pods believe of theirs.
    pub fn pod_mtu(&self, link_mtu: u32) -> u32 {
        match self.mode {
            Mode::Direct => link_mtu,
            Mode::Auto | Mode::Vxlan => link_mtu.saturating_sub(OVERHEAD),
        }
    }
}

/// The way to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// The peer is the next hop.
    Direct,
    /// In VXLAN.
    Vxlan,
    /// None of ours: either the network between knows it, or the peer has an address of this node's
    /// and can't be told from it.
    Others,
}

/// Chooses the way to the peer at `peer`; `near` are this node's addresses, each with the prefix of
/// the network on its link.
pub fn path(near: &[Ipv4Network], peer: Ipv4Addr, mode: Mode) -> Path {
    if near.iter().any(|own| own.ip() == peer) {
        return Path::Others;
    }
    let shares_link = near.iter().any(|own| own.contains(peer));
    match mode {
        Mode::Auto | Mode::Direct if shares_link => Path::Direct,
        Mode::Auto | Mode::Vxlan => Path::Vxlan,
        Mode::Direct => Path::Others,
    }
}

/// The end of the tunnel of the node whose pods have these addresses: the first one, which no pod
/// gets.
pub fn tunnel_end(pods: Ipv4Network) -> (Ipv4Addr, [u8; 6]) {
    let ip = pods.nth(1).unwrap_or(pods.network());
    let [a, b, c, d] = ip.octets();
    let [one, two] = MAC_PREFIX;
    (ip, [one, two, a, b, c, d])
}

/// This node, as far as ways follow from it.
#[derive(Clone, Debug)]
pub struct Own {
    /// Its address.
    pub ip: Option<Ipv4Addr>,
    /// Its pods; absent until they are allotted addresses.
    pub pods: Option<Ipv4Network>,
    /// Its addresses, each with the prefix of the network on its link.
    pub near: Vec<Ipv4Network>,
    /// What the link of its address takes.
    pub link_mtu: u32,
}

/// Another node.
#[derive(Clone, Copy, Debug)]
pub struct Peer {
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its pods.
    pub pods: Ipv4Network,
}

/// Puts the ways to `peers` into `network`.
pub fn lay(network: &mut NodeNetwork, own: &Own, overlay: &Overlay, peers: &[Peer]) {
    let end = own.pods.zip(own.ip).filter(|_| !peers.is_empty());
    network.vxlan = end.map(|(pods, local)| {
        let (address, mac) = tunnel_end(pods);
        let mtu = own.link_mtu.saturating_sub(OVERHEAD);
        Vxlan { id: overlay.id, port: overlay.port, local, address, mac, mtu }
    });
    let has_end = network.vxlan.is_some();
    network.peers = peers
        .iter()
        .filter_map(|peer| {
            let path = match path(&own.near, peer.ip, overlay.mode) {
                Path::Direct => PeerPath::Direct,
                Path::Vxlan if has_end => {
                    let (address, mac) = tunnel_end(peer.pods);
                    PeerPath::Vxlan { address, mac }
                }
                Path::Vxlan | Path::Others => return None,
            };
            Some(PeerRoute { pods: peer.pods, via: peer.ip, path })
        })
        .collect();
}

/// What the rules must know of the ways of `network`; `doors` are this node's ports for other nodes.
pub fn neighbours(
    network: &NodeNetwork,
    overlay: &Overlay,
    peers: &[Peer],
    doors: &[(Protocol, u16)],
) -> Neighbours {
    let is_direct = |peer: &&PeerRoute| peer.path == PeerPath::Direct;
    Neighbours {
        near: network.peers.iter().filter(is_direct).map(|peer| peer.via).collect(),
        tunnel: network.vxlan.map(|_| Tunnel {
            port: overlay.port,
            // All of them, also those we send to directly: they may choose differently.
            peers: peers.iter().map(|peer| peer.ip).collect(),
            doors: doors.to_vec(),
        }),
    }
}

/// Other nodes, as the rules see them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Neighbours {
    /// Nodes that share a link with this one: they know where our pods are, so pods keep their
    /// address there.
    pub near: Vec<Ipv4Addr>,
    /// Who may send into the tunnel.
    pub tunnel: Option<Tunnel>,
}

/// The tunnel, as the rules see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Its UDP port.
    pub port: u16,
    /// Who may send there.
    pub peers: Vec<Ipv4Addr>,
    /// Other ports that are for the same.
    pub doors: Vec<(Protocol, u16)>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Network {
        text.parse().expect(text)
    }

    fn ip(text: &str) -> Ipv4Addr {
        text.parse().expect(text)
    }

    #[test]
    fn the_way_follows_from_the_links() {
        use Path::{Direct, Others, Vxlan};
        // own addresses | peer | auto, direct, vxlan
        for (near, peer, expected) in [
            ("192.168.0.1/24", "192.168.0.2", [Direct, Direct, Vxlan]),
            ("192.168.0.1/24", "192.168.1.2", [Vxlan, Others, Vxlan]),
            ("192.168.0.1/23", "192.168.1.2", [Direct, Direct, Vxlan]),
            ("10.0.0.5/8 192.168.0.1/24", "192.168.0.2", [Direct, Direct, Vxlan]),
            ("10.0.0.5/8 192.168.0.1/24", "172.16.0.1", [Vxlan, Others, Vxlan]),
            // As clouds give addresses: no link has a neighbour.
            ("10.128.0.2/32", "10.128.0.3", [Vxlan, Others, Vxlan]),
            ("10.0.0.0/31", "10.0.0.1", [Direct, Direct, Vxlan]),
            // No network at all.
            ("", "192.168.0.2", [Vxlan, Others, Vxlan]),
            // Two machines that say they have the same address.
            ("192.168.0.1/24", "192.168.0.1", [Others, Others, Others]),
            ("192.168.0.1/24 10.9.9.9/32", "10.9.9.9", [Others, Others, Others]),
        ] {
            let own: Vec<Ipv4Network> = near.split_whitespace().map(net).collect();
            let found =
                [Mode::Auto, Mode::Direct, Mode::Vxlan].map(|mode| path(&own, ip(peer), mode));
            assert_eq!(found, expected, "{near} -> {peer}");
        }
    }

    #[test]
    fn a_tunnels_end_follows_from_the_pods_network() {
        for (pods, address, mac) in [
            ("10.244.2.0/24", "10.244.2.1", [0x0a, 0x59, 10, 244, 2, 1]),
            ("10.244.2.8/29", "10.244.2.9", [0x0a, 0x59, 10, 244, 2, 9]),
        ] {
            assert_eq!(tunnel_end(net(pods)), (ip(address), mac), "{pods}");
        }
        let (_, [first, ..]) = tunnel_end(net("10.0.0.0/24"));
        assert_eq!(first & 3, 2, "local and unicast");
    }

    #[test]
    fn pods_leave_room_for_a_tunnel_that_may_come() {
        for (mode, mtu) in [(Mode::Auto, 1450), (Mode::Vxlan, 1450), (Mode::Direct, 1500)] {
            assert_eq!(Overlay { mode, ..Overlay::default() }.pod_mtu(1500), mtu, "{mode:?}");
        }
    }

    fn network() -> NodeNetwork {
        NodeNetwork {
            dns: None,
            services: net("10.96.0.0/16"),
            node_ip: Some(ip("192.168.0.1")),
            peers: Vec::new(),
            vxlan: None,
            localhost_node_ports: false,
        }
    }

    fn own() -> Own {
        Own {
            ip: Some(ip("192.168.0.1")),
            pods: Some(net("10.1.0.0/24")),
            near: vec![net("192.168.0.1/24")],
            link_mtu: 1500,
        }
    }

    #[test]
    fn ways_are_laid() {
        let near = Peer { ip: ip("192.168.0.2"), pods: net("10.1.1.0/24") };
        let far = Peer { ip: ip("172.16.0.3"), pods: net("10.1.2.0/24") };
        let twin = Peer { ip: ip("192.168.0.1"), pods: net("10.1.3.0/24") };
        let words = |own: &Own, peers: &[Peer]| {
            let mut network = network();
            lay(&mut network, own, &Overlay::default(), peers);
            let way = |peer: &PeerRoute| match peer.path {
                PeerPath::Direct => format!("{} via {}", peer.pods, peer.via),
                PeerPath::Vxlan { address, .. } => {
                    format!("{} via {address} at {}", peer.pods, peer.via)
                }
            };
            let ways: Vec<String> = network.peers.iter().map(way).collect();
            let end = network.vxlan.map(|end| format!(" | {} mtu {}", end.address, end.mtu));
            format!("{}{}", ways.join(", "), end.unwrap_or_default())
        };
        let nobody = Own { pods: None, ..own() };
        for (own, peers, expected) in [
            (own(), vec![], ""),
            (own(), vec![near], "10.1.1.0/24 via 192.168.0.2 | 10.1.0.1 mtu 1450"),
            (
                own(),
                vec![near, far, twin],
                "10.1.1.0/24 via 192.168.0.2, 10.1.2.0/24 via 10.1.2.1 at 172.16.0.3 | 10.1.0.1 mtu 1450",
            ),
            // No address for our end yet: nobody could answer.
            (nobody, vec![near, far], "10.1.1.0/24 via 192.168.0.2"),
        ] {
            assert_eq!(words(&own, &peers), expected);
        }
    }

    #[test]
    fn every_peer_may_send_into_the_tunnel_and_near_ones_see_pods() {
        let near = Peer { ip: ip("192.168.0.2"), pods: net("10.1.1.0/24") };
        let far = Peer { ip: ip("172.16.0.3"), pods: net("10.1.2.0/24") };
        let (mut network, overlay) = (network(), Overlay::default());
        lay(&mut network, &own(), &overlay, &[near, far]);
        let doors = [(Protocol::Tcp, 9474)];
        let found = neighbours(&network, &overlay, &[near, far], &doors);
        assert_eq!(found.near, [near.ip]);
        let peers = vec![near.ip, far.ip];
        let tunnel = Tunnel { port: 8472, peers, doors: doors.to_vec() };
        assert_eq!(found.tunnel, Some(tunnel));
    }
}
