//! The adapter: links made, found, mended and taken away.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use windlass::adapters::links::{Links, ROUTE_PROTOCOL};
use windlass::ports::links::{Answer, Attachment, Call, NetworkSeen, NodeNetwork};
use windlass::ports::{Fault, FaultKind};

use super::lab::{DNS, NODE, WORLD, attachment, direct, node_network};
use crate::support::{namespace::Namespace, skip};

const POD: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 5);

fn call(place: &Namespace, call: Call) -> Result<Answer, Fault> {
    place.block_on(async move { Links::default().call(call).await })
}

fn links(place: &Namespace) -> Vec<String> {
    match call(place, Call::List) {
        Ok(Answer::Links(links)) => links,
        other => panic!("{other:?}"),
    }
}

fn survey(place: &Namespace) -> NetworkSeen {
    match call(place, Call::Survey) {
        Ok(Answer::Survey(seen)) => *seen,
        other => panic!("{other:?}"),
    }
}

/// A node with a card, and a pod's namespace.
fn places(test: &str) -> Option<(Namespace, Namespace)> {
    let (Some(node), Some(pod)) = (Namespace::new(), Namespace::new()) else {
        skip(test, "making network namespaces needs root");
        return None;
    };
    node.sh(&format!(
        "ip link add eth0 type veth peer name wire; ip addr add {NODE}/24 dev eth0
         ip link set eth0 up; ip link set wire up"
    ));
    Some((node, pod))
}

/// What there is on both sides, indexes included; not whether the carrier was seen yet.
fn state(node: &Namespace, pod: &Namespace) -> String {
    let look = "ip -o -4 addr show | tr -s ' ' | cut -d' ' -f2-4; ip route; ip -o link
                ip neigh show nud permanent";
    let settled = "s/ linkdown//; s/ state [A-Z]*//; s/,LOWER_UP//; s/NO-CARRIER,//; s/,M-DOWN//";
    let look = format!("({look}) | sed '{settled}'");
    let parameters = node.sh("cat /proc/sys/net/ipv4/conf/wdl5/rp_filter");
    format!("{}{}{parameters}", node.sh(&look), pod.sh(&look))
}

#[test]
fn a_pod_gets_its_link() {
    let Some((node, pod)) = places("a_pod_gets_its_link") else {
        return;
    };
    let mut wish = attachment(&pod, POD);
    wish.sysctls = vec![("net.ipv4.tcp_keepalive_time".into(), "77".into())];
    call(&node, Call::Attach(wish.clone())).expect("attaches");
    assert_eq!(links(&node), ["wdl5"]);
    let inside =
        pod.sh("ip -o -4 addr show eth0; ip route; ip link show eth0; ip -6 addr show eth0");
    for expected in [
        "inet 10.1.0.5/32",
        "default via 169.254.1.1 dev eth0",
        "169.254.1.1 dev eth0 proto 87 scope link",
        "mtu 1400",
    ] {
        assert!(inside.contains(expected), "{expected} in\n{inside}");
    }
    assert!(!inside.contains("inet6"), "no IPv6 over it: {inside}");
    let outside = node.sh("ip route show 10.1.0.5; ip -o addr show wdl5");
    assert!(outside.contains("10.1.0.5 dev wdl5 proto 87 scope link src 192.168.0.1"), "{outside}");
    assert!(outside.contains("169.254.1.1/32 scope link wdl5"), "{outside}");
    for (parameter, value) in [
        ("net.ipv4.ip_unprivileged_port_start", "0"),
        ("net.ipv4.ping_group_range", "0\t2147483647"),
        ("net.ipv4.tcp_keepalive_time", "77"),
        ("net.ipv4.conf.eth0.accept_redirects", "0"),
    ] {
        assert_eq!(pod.sh(&format!("sysctl -n {parameter}")).trim(), value, "{parameter}");
        if parameter.ends_with("time") {
            assert_ne!(node.sh(&format!("sysctl -n {parameter}")).trim(), value, "not the node's");
        }
    }
    // No question goes over the wire: some hosts let nobody answer it (`arp_ignore`).
    assert!(node.sh("ip neigh show nud permanent").contains("10.1.0.5 dev wdl5"));
    assert!(pod.sh("ip neigh show nud permanent").contains("169.254.1.1 dev eth0"));
    node.sh("sysctl -qw net.ipv4.conf.all.arp_ignore=8");
    pod.sh("sysctl -qw net.ipv4.conf.all.arp_ignore=8");
    // Packets pass both ways.
    node.sh("busybox ping -c1 -W1 10.1.0.5");
    pod.sh(&format!("busybox ping -c1 -W1 {NODE}"));
}

#[test]
fn attaching_again_changes_nothing_and_mends_what_is_half_made() {
    let test = "attaching_again_changes_nothing_and_mends_what_is_half_made";
    let Some((node, pod)) = places(test) else {
        return;
    };
    let wish = attachment(&pod, POD);
    let attach = |wish: &Attachment| call(&node, Call::Attach(wish.clone())).expect("attaches");
    attach(&wish);
    let good = state(&node, &pod);
    attach(&wish);
    assert_eq!(state(&node, &pod), good, "the very same link: its index is part of this");
    for breakage in [
        "ip addr flush dev eth0",
        "ip route flush table main",
        "ip link set eth0 down",
        "ip link set eth0 mtu 1280",
        "ip neigh flush all nud permanent",
    ] {
        pod.sh(breakage);
        attach(&wish);
        assert_eq!(state(&node, &pod), good, "after {breakage} in the pod");
    }
    for breakage in [
        "ip route del 10.1.0.5",
        "ip route replace 10.1.0.5 dev eth0 proto 87",
        "ip addr flush dev wdl5",
        "ip link set wdl5 down",
    ] {
        node.sh(breakage);
        attach(&wish);
        assert_eq!(state(&node, &pod), good, "after {breakage} on the node");
    }
    // Made anew where the two ends don't belong together, or the address is another.
    node.sh("ip link del wdl5; ip link add wdl5 type veth peer name other");
    attach(&wish);
    node.sh("busybox ping -c1 -W1 10.1.0.5");
    pod.sh("ip link del eth0; ip link add eth0 type veth peer name other");
    attach(&wish);
    node.sh("busybox ping -c1 -W1 10.1.0.5");
    let moved = Attachment { ip: Ipv4Addr::new(10, 1, 0, 6), ..wish };
    attach(&moved);
    assert!(!pod.sh("ip -4 addr").contains("10.1.0.5"));
    node.sh("busybox ping -c1 -W1 10.1.0.6");
    assert_eq!(links(&node), ["wdl5"]);
}

#[test]
fn what_is_not_ours_is_refused() {
    let Some((node, pod)) = places("what_is_not_ours_is_refused") else {
        return;
    };
    let wish = attachment(&pod, POD);
    let named = |link: &str| Attachment { link: link.into(), ..wish.clone() };
    node.sh("ip link add wdlbridge type bridge; ip route add 10.1.0.5 dev eth0");
    pod.sh("ip link add eth0 type bridge");
    let kind = |done: Result<Answer, Fault>| done.map(|_| ()).map_err(|fault| fault.kind);
    let stalled = Err(FaultKind::Stalled);
    assert_eq!(kind(call(&node, Call::Attach(named("eth0")))), stalled, "no mark");
    assert_eq!(kind(call(&node, Call::Detach { link: "eth0".into() })), stalled, "no mark");
    assert_eq!(kind(call(&node, Call::Detach { link: "wdlbridge".into() })), stalled, "no veth");
    assert_eq!(kind(call(&node, Call::Attach(wish.clone()))), stalled, "the pod has another eth0");
    pod.sh("ip link del eth0");
    assert_eq!(kind(call(&node, Call::Attach(wish.clone()))), stalled, "another's route");
    let own = Attachment { pid: node.id(), ..wish.clone() };
    assert_eq!(kind(call(&node, Call::Attach(own))), stalled, "the node's own namespace");
    let dead = Attachment { pid: u32::MAX - 1, ..wish.clone() };
    assert_eq!(kind(call(&node, Call::Attach(dead))), Err(FaultKind::NotFound));
    let mut odd = wish;
    odd.sysctls = vec![("net.ipv4.no_such_thing".into(), "1".into())];
    node.sh("ip route del 10.1.0.5");
    let fault = call(&node, Call::Attach(odd)).expect_err("no such parameter");
    assert!(fault.message.contains("no_such_thing"), "{fault}");
    assert!(node.sh("ip link show eth0").contains("UP"));
}

#[test]
fn links_go_and_stay_gone() {
    let Some((node, pod)) = places("links_go_and_stay_gone") else {
        return;
    };
    call(&node, Call::Attach(attachment(&pod, POD))).expect("attaches");
    for _ in 0..2 {
        call(&node, Call::Detach { link: "wdl5".into() }).expect("detaches, also twice");
        assert!(links(&node).is_empty());
        assert!(!pod.sh("ip link").contains("eth0"));
        assert_eq!(node.sh("ip route show 10.1.0.5"), "");
    }
}

#[test]
fn the_nodes_routes_are_made_followed_and_cleared() {
    let test = "the_nodes_routes_are_made_followed_and_cleared";
    let Some((node, pod)) = places(test) else {
        return;
    };
    node.sh("ip route add 172.30.0.0/16 via 192.168.0.9; ip addr add 10.9.9.9/32 dev lo");
    let before = node.sh("ip route; ip -4 addr");
    let ensure = |wish: &NodeNetwork| call(&node, Call::Ensure(wish.clone()));
    let wish = node_network();
    for _ in 0..2 {
        ensure(&wish).expect("done, also twice");
        let routes = node.sh("ip route show proto 87");
        assert!(routes.contains("10.96.0.0/12 dev lo scope link src 192.168.0.1"), "{routes}");
        assert!(
            routes.contains("10.1.1.0/24 via 192.168.0.254 dev eth0 src 192.168.0.1"),
            "{routes}"
        );
        assert_eq!(routes.lines().count(), 2, "{routes}");
        assert!(node.sh("ip -4 addr show lo").contains("10.96.0.53/32 scope host lo:wdl"));
    }
    assert_eq!(node.sh("sysctl -n net.ipv4.ip_forward").trim(), "1");
    assert_eq!(node.sh("sysctl -n net.ipv4.conf.all.route_localnet").trim(), "1");
    // The world changes: a peer moves, one comes, one can't be reached, the DNS address moves.
    call(&node, Call::Attach(attachment(&pod, POD))).expect("attaches");
    let mut next = wish.clone();
    next.dns = Some(Ipv4Addr::new(10, 96, 0, 10));
    next.peers = vec![
        direct("10.1.1.0/24", Ipv4Addr::new(192, 168, 0, 7)),
        direct("10.1.2.0/24", Ipv4Addr::new(203, 0, 113, 1)),
        direct("10.1.3.0/24", WORLD),
        direct("172.30.0.0/16", WORLD),
    ];
    let fault = ensure(&next).expect_err("two of them can't be");
    assert!(fault.message.contains("10.1.2.0/24 via 203.0.113.1"), "{fault}");
    assert!(fault.message.contains("172.30.0.0/16"), "another's route stands: {fault}");
    let routes = node.sh("ip route show proto 87");
    assert!(routes.contains("10.1.1.0/24 via 192.168.0.7"), "{routes}");
    assert!(routes.contains("10.1.3.0/24 via 192.168.0.254"), "{routes}");
    assert!(routes.contains("10.1.0.5 dev wdl5"), "a pod's route is the link's: {routes}");
    let addresses = node.sh("ip -4 addr show lo");
    assert!(addresses.contains("10.96.0.10/32") && !addresses.contains(&DNS.to_string()));
    // The node is called otherwise from now on.
    node.sh("ip addr add 192.168.0.2/24 dev eth0");
    next.node_ip = Some(Ipv4Addr::new(192, 168, 0, 2));
    next.peers.truncate(1);
    ensure(&next).expect("done");
    let routes = node.sh("ip route show proto 87");
    assert!(!routes.contains("10.1.3.0/24"), "no longer wanted: {routes}");
    assert!(routes.contains("10.96.0.0/12 dev lo scope link src 192.168.0.2"), "{routes}");
    node.sh("ip addr del 192.168.0.2/24 dev eth0");
    call(&node, Call::Clear).expect("cleared");
    assert_eq!(node.sh("ip route; ip -4 addr"), before);
    assert!(links(&node).is_empty());
    call(&node, Call::Clear).expect("cleared, also twice");
}

#[test]
fn a_node_without_network_still_has_services() {
    let Some(node) = Namespace::new() else {
        skip("a_node_without_network_still_has_services", "needs root");
        return;
    };
    let mut wish = node_network();
    (wish.node_ip, wish.peers) = (None, Vec::new());
    call(&node, Call::Ensure(wish)).expect("done");
    let route = node.sh("ip route get 10.96.0.10");
    assert!(route.contains(&format!("dev lo src {DNS}")), "{route}");
    let seen = survey(&node);
    assert_eq!((seen.addresses, seen.default_source), (vec![], None));
}

#[test]
fn a_node_that_loses_its_address_keeps_its_pods() {
    let Some((node, pod)) = places("a_node_that_loses_its_address_keeps_its_pods") else {
        return;
    };
    let wish = attachment(&pod, POD);
    let everything = || {
        let mut network = node_network();
        network.peers.clear();
        call(&node, Call::Ensure(network)).expect("done");
        call(&node, Call::Attach(wish.clone())).expect("attaches");
    };
    everything();
    let good = state(&node, &pod);
    node.sh("ip addr flush dev eth0");
    assert_eq!(node.sh("ip route show 10.1.0.5"), "", "the kernel drops it");
    everything();
    node.sh("busybox ping -c1 -W1 10.1.0.5");
    assert!(node.sh("ip route get 10.96.0.10").contains(&format!("src {DNS}")));
    node.sh(&format!("ip addr add {NODE}/24 dev eth0"));
    everything();
    assert_eq!(state(&node, &pod), good);
}

#[test]
fn the_machine_is_seen_without_docker_and_without_us() {
    let test = "the_machine_is_seen_without_docker_and_without_us";
    let Some((node, pod)) = places(test) else {
        return;
    };
    node.sh(
        "ip link add docker0 type bridge; ip addr add 172.17.0.1/16 dev docker0; ip link set docker0 up
         ip link add br-0123456789ab type bridge; ip addr add 172.18.0.1/16 dev br-0123456789ab
         ip link set br-0123456789ab up
         ip link add asleep type bridge; ip addr add 172.19.0.1/16 dev asleep
         ip link add br-lan type bridge; ip addr add 192.168.7.1/24 dev br-lan; ip link set br-lan up
         ip addr add 169.254.9.9/16 dev eth0; ip link set eth0 mtu 1420
         ip route add default via 192.168.7.9 metric 200; ip route add default via 192.168.0.9 metric 100
         ip route add blackhole 10.200.0.0/16",
    );
    call(&node, Call::Ensure(node_network())).expect("done");
    call(&node, Call::Attach(attachment(&pod, POD))).expect("attaches");
    let seen = survey(&node);
    assert_eq!(seen.addresses, [NODE, Ipv4Addr::new(192, 168, 7, 1)]);
    assert_eq!(seen.default_source, Some(NODE));
    assert_eq!(seen.mtu, 1420);
    let routes: Vec<String> = seen.routes.iter().map(ToString::to_string).collect();
    assert_eq!(
        routes,
        [
            "10.200.0.0/16",
            "169.254.0.0/16",
            "172.17.0.0/16",
            "172.18.0.0/16",
            "192.168.0.0/24",
            "192.168.7.0/24"
        ]
    );
    node.sh("ip route replace default via 192.168.7.9 metric 50 src 192.168.0.1");
    assert_eq!(survey(&node).default_source, Some(NODE), "the route's own word counts");
}

#[test]
#[ignore = "a benchmark: its figures are for people"]
fn attaching_takes_milliseconds() {
    let Some((node, _)) = places("attaching_takes_milliseconds") else {
        return;
    };
    let pods: Vec<Namespace> = (0..30).map(|_| Namespace::new().expect("made before")).collect();
    let mut times: Vec<Duration> = Vec::new();
    let mut again: Vec<Duration> = Vec::new();
    #[allow(clippy::disallowed_methods)] // A benchmark measures time.
    let now = Instant::now;
    for (n, pod) in (10..).zip(&pods) {
        for list in [&mut times, &mut again] {
            let wish = attachment(pod, Ipv4Addr::new(10, 1, 0, n));
            list.push(node.block_on(async move {
                let start = now();
                Links::default().call(Call::Attach(wish)).await.expect("attaches");
                start.elapsed()
            }));
        }
    }
    for (what, mut times) in [("attach", times), ("attach again", again)] {
        times.sort();
        println!("{what}: min {:?} median {:?} max {:?}", times[0], times[15], times[29]);
    }
    assert_eq!(ROUTE_PROTOCOL, 87);
}
