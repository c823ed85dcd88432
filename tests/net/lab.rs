//! A node, its pods and the world outside, in network namespaces.
//!
//! ```text
//!   pods 10.1.0.1, .2, .9 ── wdl… ── node 192.168.0.1 ── eth0 ── world 192.168.0.254
//!                                    INPUT, FORWARD: DROP        also 203.0.113.5, 8.8.8.8 (clients,
//!                                                                servers) and 10.1.1.1, .2 (pods of
//!                                                                another node)
//! ```

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use socket2::{Domain, Socket, Type};
use windlass::adapters::iptables::{Backend, Choice, Iptables};
use windlass::adapters::links::Links;
use windlass::kinds::container::Protocol;
use windlass::kinds::name::Name;
use windlass::kinds::rules::RuleSet;
use windlass::net::paths::Neighbours;
use windlass::net::trace::{self, Machine, Origin, Packet};
use windlass::net::{DnsListener, Input, words};
use windlass::ports::filter;
use windlass::ports::links::{Attachment, Call, NodeNetwork, PeerPath, PeerRoute};

use crate::support::namespace::Namespace;

pub(super) const NODE: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 1);
pub(super) const WORLD: Ipv4Addr = Ipv4Addr::new(192, 168, 0, 254);
pub(super) const DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 53);
const OUTSIDERS: [[u8; 4]; 4] = [[203, 0, 113, 5], [8, 8, 8, 8], [10, 1, 1, 1], [10, 1, 1, 2]];
const PODS: [u8; 3] = [1, 2, 9];
const PORTS: [u16; 3] = [80, 81, 8080];

/// An answer comes at once or never.
const ANSWER_MAX: Duration = Duration::from_millis(600);

/// What came of a packet.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Reply {
    /// Somebody answered: where it listens, and whom it saw.
    From(SocketAddrV4, Ipv4Addr),
    Refused,
    Silence,
}

pub(super) struct Lab {
    pub(super) node: Namespace,
    pub(super) world: Namespace,
    pub(super) pods: BTreeMap<Ipv4Addr, Namespace>,
    pub(super) filter: Arc<Iptables>,
    pub(super) backend: Backend,
    known: Option<Arc<RuleSet>>,
}

impl Lab {
    /// Builds one, with nobody's rules but the policies; says so and gives none where it can't.
    pub(super) fn new(test: &str, backend: Backend) -> Option<Self> {
        let (Some(node), Some(world)) = (Namespace::new(), Namespace::new()) else {
            crate::support::skip(test, "making network namespaces needs root");
            return None;
        };
        wire_up(&node, &world);
        let iptables = program(backend);
        node.sh(&format!(
            "{iptables} -w -P FORWARD DROP; {iptables} -w -P INPUT DROP;
             {iptables} -w -A INPUT -i lo -j ACCEPT;
             {iptables} -w -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"
        ));
        let mut lab = Self {
            node,
            world,
            pods: BTreeMap::new(),
            filter: Arc::new(Iptables::new(Choice::Always(backend))),
            backend,
            known: None,
        };
        for number in PODS {
            lab.add_pod(Ipv4Addr::new(10, 1, 0, number));
        }
        lab.links(Call::Ensure(node_network()));
        serve(&lab.node, &[NODE], &[9100]);
        serve(&lab.world, &OUTSIDERS.map(Ipv4Addr::from), &PORTS);
        Some(lab)
    }

    fn add_pod(&mut self, ip: Ipv4Addr) {
        let pod = Namespace::new().expect("one could be made before");
        self.links(Call::Attach(attachment(&pod, ip)));
        serve(&pod, &[ip], &PORTS);
        self.pods.insert(ip, pod);
    }

    /// Asks the links adapter, on the node.
    pub(super) fn links(&self, call: Call) -> windlass::ports::links::Answer {
        let done = self.node.block_on(async move { Links::default().call(call).await });
        done.expect("links do as asked")
    }

    /// Makes the rules be those of `input`, by what was there before.
    pub(super) fn apply(&mut self, input: &Input) {
        let wanted = Arc::new(windlass::net::rules(input));
        let known = self.known.replace(wanted.clone());
        self.filter(filter::Call::Apply { wanted, known });
    }

    /// Asks the filter adapter, on the node.
    pub(super) fn filter(&self, call: filter::Call) -> filter::Answer {
        let filter = self.filter.clone();
        let done = self.node.block_on(async move { filter.call(call).await });
        done.expect("the filter does as asked")
    }

    /// Sends a packet for real.
    pub(super) fn send(&self, packet: &Packet) -> Reply {
        let place = match packet.from {
            Origin::Host => &self.node,
            Origin::Outside => &self.world,
            Origin::Pod => &self.pods[&packet.source],
        };
        let packet = packet.clone();
        place.run(move || ask(&packet))
    }

    /// Sends the packets of `table` for real and by the tracer; both must do what stands beside
    /// them.
    pub(super) fn check(&mut self, input: &Input, table: &[(&str, &str)]) {
        self.apply(input);
        let rules = windlass::net::rules(input);
        for (text, expected) in table {
            let packet = words::packet(text).expect(text);
            let verdicts = trace::trace(&rules, &machine(), &packet).expect("readable");
            assert_eq!(trace::describe(&verdicts), *expected, "{text} by the tracer");
            let foretold: Vec<Reply> =
                verdicts.iter().map(|verdict| foretell(&packet, verdict)).collect();
            for _ in 0..verdicts.len() {
                let reply = self.send(&packet);
                assert!(foretold.contains(&reply), "{text}, {:?}: {reply:?}", self.backend);
            }
        }
    }
}

fn foretell(packet: &Packet, verdict: &trace::Verdict) -> Reply {
    match verdict.end {
        trace::End::Rejected => Reply::Refused,
        trace::End::Dropped => Reply::Silence,
        trace::End::Accepted => {
            let (ip, port) = verdict.destination;
            let source = match verdict.masqueraded {
                true => NODE,
                false => packet.source,
            };
            Reply::From(SocketAddrV4::new(ip, port), source)
        }
    }
}

pub(super) fn program(backend: Backend) -> &'static str {
    match backend {
        Backend::Nft => "iptables-nft",
        Backend::Legacy => "iptables-legacy",
    }
}

fn wire_up(node: &Namespace, world: &Namespace) {
    node.sh(&format!(
        "ip link add eth0 type veth peer name wire netns {}
         ip addr add {NODE}/24 dev eth0; ip link set eth0 up",
        world.id()
    ));
    world.sh(&format!("ip addr add {WORLD}/24 dev wire; ip link set wire up"));
    for ip in OUTSIDERS.map(Ipv4Addr::from) {
        world.sh(&format!("ip addr add {ip}/32 dev lo"));
    }
    for network in ["10.1.0.0/24", "10.96.0.0/12", "198.51.100.0/24"] {
        world.sh(&format!("ip route add {network} via {NODE}"));
    }
    node.sh(&format!("ip route add default via {WORLD}"));
}

pub(super) fn attachment(pod: &Namespace, ip: Ipv4Addr) -> Attachment {
    Attachment {
        link: format!("wdl{}", ip.octets()[3]),
        pid: pod.id(),
        ip,
        node_ip: Some(NODE),
        mtu: 1400,
        sysctls: Vec::new(),
    }
}

/// A peer on a link of ours.
pub(super) fn direct(pods: &str, via: Ipv4Addr) -> PeerRoute {
    PeerRoute { pods: pods.parse().expect("a network"), via, path: PeerPath::Direct }
}

pub(super) fn node_network() -> NodeNetwork {
    NodeNetwork {
        dns: Some(DNS),
        services: "10.96.0.0/12".parse().expect("a network"),
        node_ip: Some(NODE),
        peers: vec![direct("10.1.1.0/24", WORLD)],
        vxlan: None,
        localhost_node_ports: true,
    }
}

/// The lab's node with these Services.
pub(super) fn input(services: &[&str]) -> Input {
    let services = services.iter().map(|text| words::service(text).expect(text));
    Input {
        node: Name::trusted("a"),
        node_ips: vec![NODE],
        pod_cidr: Some("10.1.0.0/24".parse().expect("a network")),
        cluster_cidrs: vec!["10.1.0.0/16".parse().expect("a network")],
        service_cidr: "10.96.0.0/12".parse().expect("a network"),
        services: services.collect(),
        local_pods: PODS.map(|n| Ipv4Addr::new(10, 1, 0, n)).into(),
        host_ports: Vec::new(),
        dns: Some(DnsListener { address: DNS, port: 53 }),
        neighbours: Neighbours::default(),
        zones: BTreeMap::new(),
        masquerade_egress: true,
        localhost_node_ports: true,
    }
}

fn machine() -> Machine {
    Machine { addresses: vec![NODE, DNS, Ipv4Addr::new(169, 254, 1, 1)], drops_by_default: true }
}

/// Answers on every address and port, TCP and UDP, with where it listens and whom it sees.
pub(super) fn serve(place: &Namespace, addresses: &[Ipv4Addr], ports: &[u16]) {
    for at in addresses.iter().flat_map(|ip| ports.iter().map(|port| SocketAddrV4::new(*ip, *port)))
    {
        let tcp = place.run(move || TcpListener::bind(at)).expect("binds");
        place.spawn(move || {
            for stream in tcp.incoming().flatten() {
                let (mut stream, peer) = (&stream, stream.peer_addr());
                let _ = peer.map(|peer| stream.write_all(format!("{at} {}", peer.ip()).as_bytes()));
            }
        });
        let udp = place.run(move || UdpSocket::bind(at)).expect("binds");
        place.spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
                let _ = udp.send_to(format!("{at} {}", peer.ip()).as_bytes(), peer);
            }
        });
    }
}

fn ask(packet: &Packet) -> Reply {
    let kind = match packet.protocol {
        Protocol::Tcp => Type::STREAM,
        Protocol::Udp => Type::DGRAM,
        Protocol::Sctp => panic!("no SCTP here"),
    };
    let socket = Socket::new(Domain::IPV4, kind, None).expect("a socket");
    // The node's own source is what its routes say, which is part of what is tested.
    if packet.from == Origin::Outside || packet.source.is_loopback() {
        let source = SocketAddrV4::new(packet.source, 0);
        socket.bind(&source.into()).expect("the source is ours");
    }
    socket.set_read_timeout(Some(ANSWER_MAX)).expect("a time-out");
    let to = SocketAddr::from((packet.destination, packet.port));
    match talk(socket, &to) {
        Ok(text) => {
            let (by, source) = text.split_once(' ').expect("two words");
            Reply::From(by.parse().expect("where"), source.parse().expect("whom"))
        }
        Err(error) => match error.kind() {
            // The second is what `sendto` says where OUTPUT rejects a datagram.
            std::io::ErrorKind::ConnectionRefused | std::io::ErrorKind::PermissionDenied => {
                Reply::Refused
            }
            std::io::ErrorKind::TimedOut | std::io::ErrorKind::WouldBlock => Reply::Silence,
            other => panic!("{packet:?}: {other} {error}"),
        },
    }
}

fn talk(mut socket: Socket, to: &SocketAddr) -> std::io::Result<String> {
    socket.connect_timeout(&(*to).into(), ANSWER_MAX)?;
    if socket.r#type()? == Type::DGRAM {
        socket.send(b"?")?;
        let mut buffer = [0; 64];
        let length = socket.read(&mut buffer)?;
        return Ok(String::from_utf8_lossy(&buffer[..length]).into_owned());
    }
    let mut text = String::new();
    socket.read_to_string(&mut text)?;
    Ok(text)
}
