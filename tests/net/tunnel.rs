//! Three nodes, two on one link and one behind a router that knows nothing of pods.
//!
//! ```text
//!   a 192.168.0.1 ─┐
//!   b 192.168.0.2 ─┴─ bridge ── router 192.168.0.254 | 172.16.5.254 ── c 172.16.5.3
//!     pods 10.1.0.2, 10.1.1.2, 10.1.2.2              drops pods' packets, and pieces of packets
//! ```

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::Ipv4Network;
use rustix::net::sockopt::{Ipv4PathMtuDiscovery, set_ip_mtu_discover};
use windlass::adapters::iptables::{Choice, Iptables};
use windlass::adapters::links::Links;
use windlass::kinds::name::Name;
use windlass::net::paths::{self, Mode, Overlay, Own, Peer};
use windlass::net::{self, Input, words};
use windlass::ports::links::{Answer, Attachment, Call, NodeNetwork};
use windlass::ports::{Fault, filter};

use super::lab::serve;
use crate::support::{namespace::Namespace, skip};

/// An answer comes at once or never.
const ANSWER_MAX: Duration = Duration::from_millis(600);
/// IPv4 and UDP headers.
const HEADERS: usize = 28;

struct Node {
    name: &'static str,
    host: Namespace,
    pod: Namespace,
    pods: Ipv4Network,
    ip: Ipv4Addr,
    overlay: Overlay,
    filter: Arc<Iptables>,
}

impl Node {
    fn pod_ip(&self) -> Ipv4Addr {
        self.pods.nth(2).expect("an address")
    }

    /// The address from which the node speaks into the tunnel.
    fn tunnel_ip(&self) -> Ipv4Addr {
        paths::tunnel_end(self.pods).0
    }

    fn peer(&self) -> Peer {
        Peer { ip: self.ip, pods: self.pods }
    }

    fn links(&self, call: Call) -> Result<Answer, Fault> {
        self.host.block_on(async move { Links::default().call(call).await })
    }

    /// The node's network and rules as its agent makes them of what it sees and of its peers.
    fn wish(&self, peers: &[Peer]) -> (NodeNetwork, Input) {
        let Ok(Answer::Survey(seen)) = self.links(Call::Survey) else { panic!("no survey") };
        let own = Own {
            ip: Some(self.ip),
            pods: Some(self.pods),
            near: seen.near.iter().map(|near| near.network).collect(),
            link_mtu: seen.mtu,
        };
        let services: Ipv4Network = "10.96.0.0/12".parse().expect("a network");
        let mut network = NodeNetwork {
            dns: None,
            services,
            node_ip: Some(self.ip),
            peers: Vec::new(),
            vxlan: None,
            localhost_node_ports: false,
        };
        paths::lay(&mut network, &own, &self.overlay, peers);
        let service = "shop/c ip=10.96.0.10 tcp:80 -> 10.1.2.2:80@c";
        let input = Input {
            node: Name::trusted(self.name),
            node_ips: vec![self.ip],
            pod_cidr: Some(self.pods),
            cluster_cidrs: vec!["10.1.0.0/16".parse().expect("a network")],
            service_cidr: services,
            services: vec![words::service(service).expect(service)],
            local_pods: vec![self.pod_ip()],
            host_ports: Vec::new(),
            dns: None,
            neighbours: paths::neighbours(&network, &self.overlay, peers, &[]),
            zones: BTreeMap::new(),
            masquerade_egress: true,
            localhost_node_ports: false,
        };
        (network, input)
    }

    fn ensure(&self, peers: &[Peer]) {
        let (network, input) = self.wish(peers);
        self.links(Call::Ensure(network)).expect("the network is as wished");
        let wanted = Arc::new(net::rules(&input));
        self.filter(filter::Call::Apply { wanted, known: None });
        let attachment = Attachment {
            link: "wdl2".into(),
            pid: self.pod.id(),
            ip: self.pod_ip(),
            node_ip: Some(self.ip),
            mtu: self.overlay.pod_mtu(1500),
            sysctls: Vec::new(),
        };
        self.links(Call::Attach(attachment)).expect("a pod has its link");
    }

    fn filter(&self, call: filter::Call) -> filter::Answer {
        let filter = self.filter.clone();
        self.host.block_on(async move { filter.call(call).await }).expect("the filter does it")
    }

    /// Everything about the ways to others, links' numbers included.
    fn ways(&self) -> String {
        self.host.sh("ip -d -o link show wdl-vx | sed 's/ qlen [0-9]*//'; ip -o addr show wdl-vx
             bridge fdb show dev wdl-vx | sort; ip neigh show dev wdl-vx | sort
             ip route show proto 87; sysctl net.ipv4.conf.wdl-vx.rp_filter")
    }
}

struct Fleet {
    a: Node,
    b: Node,
    c: Node,
    _router: Namespace,
    /// Keeps the cable between the two: its owner is the bridge's namespace.
    _switch: Namespace,
}

impl Fleet {
    fn new(test: &str, overlay: Overlay) -> Option<Self> {
        let (Some(switch), Some(router)) = (Namespace::new(), Namespace::new()) else {
            skip(test, "making network namespaces needs root");
            return None;
        };
        switch.sh("ip link add br0 type bridge; ip link set br0 up");
        let plug = |place: &Namespace, card: &str, end: &str, ip: &str| {
            switch.sh(&format!(
                "ip link add {end} type veth peer name {card} netns {}
                 ip link set {end} master br0; ip link set {end} up",
                place.id()
            ));
            place.sh(&format!("ip addr add {ip}/24 dev {card}; ip link set {card} up"));
        };
        plug(&router, "near", "port-r", "192.168.0.254");
        let node = |name, number: u8, ip: &str| {
            let node = Node {
                name,
                host: Namespace::new().expect("made before"),
                pod: Namespace::new().expect("made before"),
                pods: Ipv4Network::new(Ipv4Addr::new(10, 1, number, 0), 24).expect("a network"),
                ip: ip.parse().expect("an address"),
                overlay,
                filter: Arc::new(Iptables::new(Choice::AsDocker)),
            };
            if name == "c" {
                router.sh(&format!(
                    "ip link add far type veth peer name eth0 netns {}
                     ip addr add 172.16.5.254/24 dev far; ip link set far up",
                    node.host.id()
                ));
                node.host.sh(&format!("ip addr add {ip}/24 dev eth0; ip link set eth0 up"));
            } else {
                plug(&node.host, "eth0", &format!("port-{name}"), ip);
            }
            let gateway = if name == "c" { "172.16.5.254" } else { "192.168.0.254" };
            node.host.sh(&format!(
                "ip route add default via {gateway}
                 iptables -w -P INPUT DROP; iptables -w -P FORWARD DROP
                 iptables -w -A INPUT -i lo -j ACCEPT
                 iptables -w -A INPUT -p tcp --dport 9100 -j ACCEPT
                 iptables -w -A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT"
            ));
            node
        };
        let (a, b, c) =
            (node("a", 0, "192.168.0.1"), node("b", 1, "192.168.0.2"), node("c", 2, "172.16.5.3"));
        // As routers are: they let no strange addresses through. And no packet is to be divided.
        router.sh("sysctl -qw net.ipv4.ip_forward=1
             for way in -s -d; do iptables -w -A FORWARD $way 10.1.0.0/16 -j DROP; done
             iptables -w -A FORWARD -f -j DROP");
        let fleet = Self { a, b, c, _router: router, _switch: switch };
        fleet.settle();
        for node in fleet.nodes() {
            serve(&node.pod, &[node.pod_ip()], &[80]);
            serve(&node.host, &[node.ip], &[9100]);
        }
        Some(fleet)
    }

    fn nodes(&self) -> [&Node; 3] {
        [&self.a, &self.b, &self.c]
    }

    fn peers_of(&self, node: &Node) -> Vec<Peer> {
        self.nodes().iter().filter(|other| other.ip != node.ip).map(|other| other.peer()).collect()
    }

    fn settle(&self) {
        for node in self.nodes() {
            node.ensure(&self.peers_of(node));
        }
    }

    /// Every pod reaches every pod and is seen as who it is.
    #[track_caller]
    fn check_pods(&self) {
        for from in self.nodes() {
            for to in self.nodes() {
                let seen = ask(&from.pod, to.pod_ip(), 80);
                assert_eq!(seen, Ok(from.pod_ip()), "{} > {}", from.name, to.name);
            }
        }
    }
}

/// Whom a server sees that is asked from `place`, by TCP.
fn ask(place: &Namespace, ip: Ipv4Addr, port: u16) -> Result<Ipv4Addr, std::io::ErrorKind> {
    place.run(move || {
        let at = SocketAddrV4::new(ip, port).into();
        let mut stream = TcpStream::connect_timeout(&at, ANSWER_MAX).map_err(|e| e.kind())?;
        stream.set_read_timeout(Some(ANSWER_MAX)).map_err(|e| e.kind())?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map_err(|e| e.kind())?;
        let (_, seen) = text.split_once(' ').expect("two words");
        Ok(seen.parse().expect("an address"))
    })
}

/// Sends a datagram of so many bytes, headers included, that nobody may divide, as `ping -M do` does;
/// whether it is answered.
fn whole(place: &Namespace, ip: Ipv4Addr, bytes: usize) -> bool {
    place.run(move || {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("binds");
        set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::DO).expect("is set");
        socket.set_read_timeout(Some(ANSWER_MAX)).expect("is set");
        socket.connect((ip, 80)).expect("connects");
        socket.send(&vec![b'x'; bytes - HEADERS]).is_ok() && socket.recv(&mut [0; 64]).is_ok()
    })
}

#[test]
fn every_pod_reaches_every_pod_and_is_seen_as_who_it_is() {
    let test = "every_pod_reaches_every_pod_and_is_seen_as_who_it_is";
    let Some(fleet) = Fleet::new(test, Overlay::default()) else { return };
    let Fleet { a, b, c, .. } = &fleet;
    fleet.check_pods();
    let ways = a.host.sh("ip route show proto 87");
    assert!(ways.contains("10.1.1.0/24 via 192.168.0.2 dev eth0 src 192.168.0.1"), "{ways}");
    assert!(ways.contains("10.1.2.0/24 via 10.1.2.1 dev wdl-vx src 10.1.0.1 onlink"), "{ways}");
    assert!(c.host.sh("ip route show proto 87").contains("10.1.0.0/24 via 10.1.0.1 dev wdl-vx"));

    // Nodes and pods. Behind the tunnel a node is known by its end of it.
    assert_eq!(ask(&a.host, b.pod_ip(), 80), Ok(a.ip));
    assert_eq!(ask(&a.host, c.pod_ip(), 80), Ok(a.tunnel_ip()));
    assert_eq!(ask(&c.host, a.pod_ip(), 80), Ok(c.tunnel_ip()));
    assert_eq!(ask(&b.pod, a.ip, 9100), Ok(b.pod_ip()), "a neighbour knows where our pods are");
    assert_eq!(ask(&c.pod, a.ip, 9100), Ok(c.ip), "the network between does not");
    assert_eq!(ask(&a.pod, c.ip, 9100), Ok(a.ip));

    // A Service whose endpoint is behind the tunnel.
    let service = Ipv4Addr::new(10, 96, 0, 10);
    assert_eq!(ask(&a.pod, service, 80), Ok(a.pod_ip()));
    assert_eq!(ask(&a.host, service, 80), Ok(a.tunnel_ip()));
    assert_eq!(ask(&c.host, service, 80), Ok(c.ip));
}

#[test]
fn packets_are_as_large_as_the_way_takes_and_no_larger() {
    let test = "packets_are_as_large_as_the_way_takes_and_no_larger";
    let Some(fleet) = Fleet::new(test, Overlay::default()) else { return };
    let Fleet { a, b, c, .. } = &fleet;
    for (from, to) in [(a, b), (a, c), (c, b)] {
        let name = format!("{} > {}", from.name, to.name);
        assert!(whole(&from.pod, to.pod_ip(), 1450), "{name}");
        assert!(!whole(&from.pod, to.pod_ip(), 1451), "{name}");
    }
    // The node itself: directly what the card takes, into the tunnel what is left.
    assert!(!whole(&a.host, c.pod_ip(), 1451));
    assert!(whole(&a.host, c.pod_ip(), 1450));
    // Much at once, in packets as large as can be; a divided one would not pass the router.
    let listener = c.pod.run(|| TcpListener::bind("10.1.2.2:81")).expect("binds");
    c.pod.spawn(move || {
        let (mut stream, _) = listener.accept().expect("is called");
        let mut all = Vec::new();
        stream.read_to_end(&mut all).expect("reads");
        write!(stream, "{}", all.len()).expect("answers");
    });
    let said = a.pod.run(|| {
        let mut stream = TcpStream::connect("10.1.2.2:81").expect("connects");
        stream.set_read_timeout(Some(Duration::from_secs(10))).expect("is set");
        stream.write_all(&vec![7; 1 << 20]).expect("writes");
        stream.shutdown(std::net::Shutdown::Write).expect("ends");
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text)
    });
    assert_eq!(said.expect("an answer"), (1 << 20).to_string());
}

#[test]
fn what_is_there_stays_and_what_is_broken_comes_back() {
    let test = "what_is_there_stays_and_what_is_broken_comes_back";
    let Some(fleet) = Fleet::new(test, Overlay::default()) else { return };
    let Fleet { a, c, .. } = &fleet;
    let good = a.ways();
    fleet.settle();
    assert_eq!(a.ways(), good, "the very same link");
    for breakage in [
        "bridge fdb del 0a:59:0a:01:02:01 dev wdl-vx dst 172.16.5.3",
        "bridge fdb replace 0a:59:0a:01:02:01 dev wdl-vx dst 172.16.5.9",
        "bridge fdb append 0a:59:0a:01:07:01 dev wdl-vx dst 172.16.5.9",
        "ip neigh flush dev wdl-vx nud permanent",
        "ip neigh replace 10.1.2.1 lladdr 0a:59:00:00:00:00 dev wdl-vx nud permanent",
        "ip neigh replace 10.1.7.1 lladdr 0a:59:00:00:00:00 dev wdl-vx nud permanent",
        "ip route del 10.1.2.0/24",
        "ip route replace 10.1.2.0/24 via 10.1.2.1 dev wdl-vx onlink proto 87",
        "ip route add 10.1.7.0/24 via 10.1.2.1 dev wdl-vx onlink proto 87",
        "ip addr flush dev wdl-vx",
        "ip addr add 10.1.0.9/32 dev wdl-vx",
        "ip link set wdl-vx mtu 1300",
        "ip link set wdl-vx down",
        "sysctl -qw net.ipv4.conf.wdl-vx.rp_filter=1",
    ] {
        a.host.sh(breakage);
        assert_ne!(a.ways(), good, "{breakage} breaks something");
        a.ensure(&fleet.peers_of(a));
        assert_eq!(a.ways(), good, "after {breakage}");
    }
    // Another link than ours under the same name, in all that matters.
    for other in [
        "id 4096 dstport 8472 local 192.168.0.1 nolearning",
        "id 4096 dstport 8472 local 192.168.0.1 address 0a:59:0a:01:00:01",
        "id 4096 dstport 4789 local 192.168.0.1 nolearning address 0a:59:0a:01:00:01",
        "id 4095 dstport 8472 local 192.168.0.1 nolearning address 0a:59:0a:01:00:01",
        "id 4096 dstport 8472 nolearning address 0a:59:0a:01:00:01",
    ] {
        let (address, rest) = match other.split_once(" address ") {
            Some((rest, address)) => (format!("address {address}"), rest),
            None => (String::new(), other),
        };
        a.host.sh(&format!("ip link del wdl-vx; ip link add wdl-vx {address} type vxlan {rest}"));
        a.ensure(&fleet.peers_of(a));
        fleet.check_pods();
    }
    a.host.sh("ip link del wdl-vx");
    a.ensure(&fleet.peers_of(a));
    fleet.check_pods();

    // Somebody's firewall throws all away, ours with it.
    let (_, input) = a.wish(&fleet.peers_of(a));
    let wanted = Arc::new(net::rules(&input));
    let check = || a.filter(filter::Call::Check { wanted: wanted.clone() });
    assert_eq!(check(), filter::Answer::Intact(true));
    a.host.sh("iptables -w -F WDL-TUNNEL");
    assert_eq!(check(), filter::Answer::Intact(false));
    assert!(ask(&c.pod, a.pod_ip(), 80).is_err(), "the tunnel is shut");
    a.host.sh("iptables -w -F; iptables -w -t nat -F; iptables -w -X; iptables -w -t nat -X");
    assert_eq!(check(), filter::Answer::Intact(false));
    a.ensure(&fleet.peers_of(a));
    assert_eq!(check(), filter::Answer::Intact(true));
    fleet.check_pods();

    // All that is ours goes.
    a.links(Call::Clear).expect("cleared");
    assert_eq!(a.host.sh("ip route show proto 87; ip -o link | grep wdl || true"), "");
}

#[test]
fn peers_go_and_move() {
    let Some(mut fleet) = Fleet::new("peers_go_and_move", Overlay::default()) else { return };
    // c gets another address, as by DHCP: the kernel drops what stood on the old one.
    let c = &mut fleet.c;
    c.host.sh("ip addr del 172.16.5.3/24 dev eth0; ip addr add 172.16.5.9/24 dev eth0
         ip route add default via 172.16.5.254");
    c.ip = Ipv4Addr::new(172, 16, 5, 9);
    fleet.settle();
    fleet.check_pods();
    let Fleet { a, b, c, .. } = &fleet;
    assert!(a.host.sh("bridge fdb show dev wdl-vx").contains("dst 172.16.5.9"));
    assert!(!a.host.sh("bridge fdb show dev wdl-vx").contains("172.16.5.3"));
    assert!(c.host.sh("ip route show 10.1.2.2").contains("src 172.16.5.9"));
    assert!(c.host.sh("ip -d link show wdl-vx").contains("local 172.16.5.9"));

    // c comes to the others' link: no tunnel any more, and none is missed.
    a.ensure(&[b.peer(), Peer { ip: Ipv4Addr::new(192, 168, 0, 3), pods: c.pods }]);
    let routes = a.host.sh("ip route show proto 87");
    assert!(routes.contains("10.1.2.0/24 via 192.168.0.3 dev eth0"), "{routes}");
    assert_eq!(a.host.sh("bridge fdb show dev wdl-vx; ip neigh show dev wdl-vx"), "");

    // c leaves the fleet: what it sends is not let in.
    a.ensure(&[b.peer()]);
    assert!(!a.host.sh("ip route show proto 87").contains("10.1.2.0"));
    b.ensure(&[a.peer()]);
    assert!(ask(&c.pod, a.pod_ip(), 80).is_err());
    assert_eq!(ask(&b.pod, a.pod_ip(), 80), Ok(b.pod_ip()));
    let dropped = a.host.sh("iptables -w -vnxL WDL-TUNNEL | awk '/DROP/ { print $1 }'");
    assert!(dropped.trim().parse::<u32>().is_ok_and(|count| count > 0), "by the rule: {dropped}");

    // Everybody leaves: no tunnel.
    a.ensure(&[]);
    assert_eq!(a.host.sh("ip -o link | grep wdl-vx || true"), "");
}

#[test]
fn nodes_that_choose_differently_still_reach_each_other() {
    let test = "nodes_that_choose_differently_still_reach_each_other";
    let Some(mut fleet) = Fleet::new(test, Overlay::default()) else { return };
    let way = |node: &Node, pods: &str| node.host.sh(&format!("ip route show {pods}"));
    fleet.a.overlay.mode = Mode::Vxlan;
    fleet.settle();
    assert!(way(&fleet.a, "10.1.1.0/24").contains("wdl-vx"));
    assert!(way(&fleet.b, "10.1.0.0/24").contains("via 192.168.0.1"));
    fleet.check_pods();
    assert_eq!(ask(&fleet.a.host, fleet.b.pod_ip(), 80), Ok(fleet.a.tunnel_ip()));
    assert_eq!(ask(&fleet.b.host, fleet.a.pod_ip(), 80), Ok(fleet.b.ip));

    // A prefix that is wrong on one side.
    fleet.a.overlay.mode = Mode::Auto;
    fleet.a.host.sh("ip addr add 192.168.0.1/32 dev lo; ip addr del 192.168.0.1/24 dev eth0
         ip addr add 192.168.0.1/32 dev eth0; ip addr del 192.168.0.1/32 dev lo
         ip route add 192.168.0.254 dev eth0; ip route add 192.168.0.2 dev eth0
         ip route add default via 192.168.0.254");
    fleet.settle();
    assert!(way(&fleet.a, "10.1.1.0/24").contains("wdl-vx"));
    assert!(way(&fleet.b, "10.1.0.0/24").contains("via 192.168.0.1"));
    fleet.check_pods();
}

#[test]
fn a_link_of_somebody_elses_is_left_alone() {
    let test = "a_link_of_somebody_elses_is_left_alone";
    let Some(fleet) = Fleet::new(test, Overlay::default()) else { return };
    let Fleet { a, b, c, .. } = &fleet;
    a.host.sh("ip link del wdl-vx; ip link add wdl-vx type bridge");
    let (network, _) = a.wish(&[b.peer()]);
    a.links(Call::Ensure(network)).expect("nobody is behind it, so nobody misses it");
    let (network, _) = a.wish(&[b.peer(), c.peer()]);
    let fault = a.links(Call::Ensure(network)).expect_err("c can't be reached");
    assert!(fault.message.contains("wdl-vx"), "{fault}");
    assert!(a.host.sh("ip -d link show wdl-vx").contains("bridge"));
    assert_eq!(ask(&a.pod, b.pod_ip(), 80), Ok(a.pod_ip()), "all others are");
    a.links(Call::Clear).expect("cleared");
    assert!(a.host.sh("ip -d link show wdl-vx").contains("bridge"));
}
