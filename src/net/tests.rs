//! Where packets go: the behaviours of a Service, by the tracer. `tests/net` does the same with
//! packets.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::paths::Tunnel;
use super::testing::{check, input, machine};
use super::trace::{self, Packet, Phase, Tracer};
use super::words;
use super::{chains, restore, rules};
use crate::kinds::container::Protocol;
use crate::kinds::rules::{CHAIN_PREFIX, RuleSet, Table};
use crate::kinds::service::EndpointState;
use proptest::prelude::*;

fn packet(text: &str) -> Packet {
    words::packet(text).expect(text)
}

fn rendered(services: &[&str]) -> RuleSet {
    rules(&input(services))
}

#[test]
fn a_cluster_address_leads_to_its_endpoints() {
    let set = rendered(&[
        "shop/web ip=10.96.0.10 tcp:80 -> 10.1.0.1:8080@a",
        "shop/far ip=10.96.0.11 tcp:80 -> 10.1.1.1:8080@b",
        "shop/db ip=10.96.0.12 tcp:53 udp:53 sctp:53 -> 10.1.0.2:5353@a",
        "lab/web ip=10.96.0.13 tcp:80 -> 10.1.0.2:80@a",
        "shop/off ip=10.96.0.14 tcp:80 -> 203.0.113.80:80",
    ]);
    check(
        &set,
        &[
            ("pod 10.1.0.9 > 10.96.0.10:80", "10.1.0.1:8080"),
            ("pod 10.1.0.1 > 10.96.0.10:80", "10.1.0.1:8080, masquerade"),
            ("pod 10.1.0.9 > 10.96.0.11:80", "10.1.1.1:8080"),
            ("host 192.168.0.1 > 10.96.0.10:80", "10.1.0.1:8080, masquerade"),
            ("host 192.168.0.1 > 10.96.0.11:80", "10.1.1.1:8080, masquerade"),
            ("outside 203.0.113.5 > 10.96.0.10:80", "10.1.0.1:8080, masquerade"),
            ("outside 10.1.1.7 > 10.96.0.10:80", "10.1.0.1:8080"),
            ("pod 10.1.0.9 > udp 10.96.0.12:53", "10.1.0.2:5353"),
            ("pod 10.1.0.9 > sctp 10.96.0.12:53", "10.1.0.2:5353"),
            ("pod 10.1.0.9 > 10.96.0.13:80", "10.1.0.2:80"),
            ("pod 10.1.0.9 > 10.96.0.14:80", "203.0.113.80:80, masquerade"),
            ("outside 203.0.113.5 > 10.96.0.14:80", "203.0.113.80:80, masquerade"),
            // Straight to a pod nothing changes.
            ("pod 10.1.0.9 > 10.1.0.1:8080", "10.1.0.1:8080"),
            ("outside 203.0.113.5 > 10.1.0.1:8080", "10.1.0.1:8080"),
            ("host 192.168.0.1 > 10.1.0.1:8080", "10.1.0.1:8080"),
        ],
    );
}

#[test]
fn endpoints_share_evenly() {
    let ends: Vec<String> = (1..=7).map(|n| format!("10.1.1.{n}:80@b")).collect();
    let set = rendered(&[&format!("shop/web ip=10.96.0.10 tcp:80 -> {}", ends.join(" "))]);
    let found =
        trace::trace(&set, &machine(), &packet("pod 10.1.0.9 > 10.96.0.10:80")).expect("readable");
    let places: BTreeSet<Ipv4Addr> = found.iter().map(|verdict| verdict.destination.0).collect();
    assert_eq!(places.len(), 7);
    for verdict in found {
        assert!((verdict.chance - 1.0 / 7.0).abs() < 1e-8, "{verdict:?}");
    }
}

#[test]
fn who_has_no_endpoints_is_refused_at_once() {
    let set = rendered(&[
        "shop/web ip=10.96.0.10 tcp:80=30080 udp:80=30080 ext=198.51.100.1 lb=198.51.100.2 \
         -> 10.1.0.1:80@a!",
    ]);
    let mut table = Vec::new();
    for from in ["pod 10.1.0.9", "host 192.168.0.1", "outside 203.0.113.5"] {
        for word in ["tcp", "udp"] {
            for to in [
                "10.96.0.10:80",
                "10.96.0.10:81",
                "10.96.9.9:80",
                "192.168.0.1:30080",
                "198.51.100.1:80",
                "198.51.100.2:80",
            ] {
                table.push((format!("{from} > {word} {to}"), "rejected"));
            }
        }
    }
    let table: Vec<(&str, &str)> = table.iter().map(|(from, to)| (from.as_str(), *to)).collect();
    check(&set, &table);
}

#[test]
fn a_late_or_stray_packet_is_never_answered_with_a_reset() {
    let set = rendered(&["shop/web ip=10.96.0.10 tcp:80 -> 10.1.0.1:80@a"]);
    for (from, phase, expected) in [
        ("pod 10.1.0.9 > 10.96.0.10:80", Phase::Stray, "dropped"),
        ("host 192.168.0.1 > 10.96.0.10:80", Phase::Stray, "dropped"),
        ("outside 10.1.1.1 > 10.1.0.1:80", Phase::Stray, "dropped"),
        ("pod 10.1.0.1 > 203.0.113.5:80", Phase::Stray, "dropped"),
        ("pod 10.1.0.9 > 10.96.0.10:80", Phase::Later, "10.96.0.10:80"),
        // Strays between other people are theirs.
        ("outside 172.17.0.2 > 203.0.113.5:80", Phase::Later, "dropped"),
    ] {
        let mut packet = packet(from);
        packet.phase = phase;
        let found = trace::trace(&set, &machine(), &packet).expect("readable");
        assert_eq!(trace::describe(&found), expected, "{from} {phase:?}");
    }
    let mut open = machine();
    open.drops_by_default = false;
    let mut stray = packet("outside 172.17.0.2 > 203.0.113.5:80");
    stray.phase = Phase::Stray;
    let found = trace::trace(&set, &open, &stray).expect("readable");
    assert_eq!(trace::describe(&found), "203.0.113.5:80");
}

#[test]
fn a_node_port_answers_on_every_address_of_the_node() {
    let set = rendered(&["shop/web ip=10.96.0.10 tcp:80=30080 -> 10.1.1.1:8080@b"]);
    let there = "10.1.1.1:8080, masquerade";
    check(
        &set,
        &[
            ("outside 203.0.113.5 > 192.168.0.1:30080", there),
            ("pod 10.1.0.9 > 192.168.0.1:30080", there),
            ("pod 10.1.0.9 > 169.254.1.1:30080", there),
            ("host 192.168.0.1 > 192.168.0.1:30080", there),
            ("host 127.0.0.1 > 127.0.0.1:30080", there),
            // Another transport, another port: the node's own business, dropped by its policy.
            ("outside 203.0.113.5 > udp 192.168.0.1:30080", "dropped"),
            ("outside 203.0.113.5 > 192.168.0.1:30081", "dropped"),
            // Not our address.
            ("outside 203.0.113.5 > 192.168.0.2:30080", "dropped"),
        ],
    );
    let mut without = input(&["shop/web ip=10.96.0.10 tcp:80=30080 -> 10.1.1.1:8080@b"]);
    without.localhost_node_ports = false;
    check(
        &rules(&without),
        &[
            ("host 127.0.0.1 > 127.0.0.1:30080", "dropped"),
            ("host 192.168.0.1 > 192.168.0.1:30080", there),
        ],
    );
}

#[test]
fn loopback_is_not_reached_from_a_wire() {
    let set = rendered(&["shop/web ip=10.96.0.10 tcp:80=30080 -> 10.1.1.1:8080@b"]);
    let mut open = machine();
    open.drops_by_default = false;
    for from in ["outside 203.0.113.5", "outside 127.0.0.1", "pod 10.1.0.9"] {
        for port in [30_080, 22] {
            let packet = packet(&format!("{from} > 127.0.0.1:{port}"));
            let found = trace::trace(&set, &open, &packet).expect("readable");
            assert_eq!(trace::describe(&found), "dropped", "{from} {port}");
        }
    }
    let own = trace::trace(&set, &open, &packet("host 127.0.0.1 > 127.0.0.1:22"));
    assert_eq!(trace::describe(&own.expect("readable")), "127.0.0.1:22");
}

#[test]
fn external_policy_local_keeps_the_source_and_stays() {
    let text = "shop/web ip=10.96.0.10 tcp:80=30080 ext=198.51.100.1 external-local";
    let both = rendered(&[&format!("{text} -> 10.1.0.1:80@a 10.1.1.1:80@b")]);
    let spread = "50% 10.1.0.1:80 | 50% 10.1.1.1:80";
    let masked = "50% 10.1.0.1:80, masquerade | 50% 10.1.1.1:80, masquerade";
    check(
        &both,
        &[
            ("outside 203.0.113.5 > 192.168.0.1:30080", "10.1.0.1:80"),
            ("outside 203.0.113.5 > 198.51.100.1:80", "10.1.0.1:80"),
            ("pod 10.1.0.9 > 192.168.0.1:30080", spread),
            ("pod 10.1.0.9 > 198.51.100.1:80", spread),
            ("host 192.168.0.1 > 192.168.0.1:30080", masked),
            ("host 127.0.0.1 > 127.0.0.1:30080", masked),
            ("pod 10.1.0.9 > 10.96.0.10:80", spread),
        ],
    );
    let elsewhere = rendered(&[&format!("{text} -> 10.1.1.1:80@b")]);
    check(
        &elsewhere,
        &[
            ("outside 203.0.113.5 > 192.168.0.1:30080", "dropped"),
            ("outside 203.0.113.5 > 198.51.100.1:80", "dropped"),
            ("pod 10.1.0.9 > 192.168.0.1:30080", "10.1.1.1:80"),
            ("host 192.168.0.1 > 192.168.0.1:30080", "10.1.1.1:80, masquerade"),
        ],
    );
    let stopping = rendered(&[&format!("{text} -> 10.1.0.1:80@a~ 10.1.1.1:80@b")]);
    check(
        &stopping,
        &[
            ("outside 203.0.113.5 > 192.168.0.1:30080", "10.1.0.1:80"),
            ("pod 10.1.0.9 > 10.96.0.10:80", "10.1.1.1:80"),
        ],
    );
}

#[test]
fn internal_policy_local_stays_or_is_dropped() {
    let text = "shop/web ip=10.96.0.10 tcp:80=30080 internal-local";
    let here = rendered(&[&format!("{text} -> 10.1.0.1:80@a 10.1.1.1:80@b")]);
    check(
        &here,
        &[
            ("pod 10.1.0.9 > 10.96.0.10:80", "10.1.0.1:80"),
            (
                "outside 203.0.113.5 > 192.168.0.1:30080",
                "50% 10.1.0.1:80, masquerade | 50% 10.1.1.1:80, masquerade",
            ),
        ],
    );
    let elsewhere = rendered(&[&format!("{text} -> 10.1.1.1:80@b")]);
    check(
        &elsewhere,
        &[
            ("pod 10.1.0.9 > 10.96.0.10:80", "dropped"),
            ("host 192.168.0.1 > 10.96.0.10:80", "dropped"),
            ("outside 203.0.113.5 > 192.168.0.1:30080", "10.1.1.1:80, masquerade"),
        ],
    );
}

#[test]
fn external_addresses_and_source_ranges() {
    let set = rendered(&[
        "shop/web ip=10.96.0.10 tcp:80=30080 ext=198.51.100.1 lb=198.51.100.2 lb=192.168.0.1 \
         range=203.0.113.0/24 range=192.168.0.0/24 -> 10.1.0.1:8080@a",
        "shop/open ip=10.96.0.11 tcp:81 lb=198.51.100.2 range=0.0.0.0/0 -> 10.1.0.1:81@a",
    ]);
    let there = "10.1.0.1:8080, masquerade";
    check(
        &set,
        &[
            ("outside 203.0.113.5 > 198.51.100.2:80", there),
            ("outside 8.8.8.8 > 198.51.100.2:80", "dropped"),
            ("outside 8.8.8.8 > 192.168.0.1:80", "dropped"),
            ("outside 203.0.113.5 > 192.168.0.1:80", there),
            // The ranges hold at the load balancer's address only.
            ("outside 8.8.8.8 > 198.51.100.1:80", there),
            ("outside 8.8.8.8 > 192.168.0.1:30080", there),
            // The node's own packets, also where they carry the balancer's address.
            ("host 192.168.0.1 > 198.51.100.2:80", there),
            ("host 198.51.100.2 > 198.51.100.2:80", there),
            ("outside 8.8.8.8 > 198.51.100.2:81", "10.1.0.1:81, masquerade"),
        ],
    );
}

#[test]
fn a_client_stays_with_its_endpoint_while_others_come_and_go() {
    let with = |ends: &str| {
        rendered(&[&format!("shop/web ip=10.96.0.10 tcp:80=30080 affinity=10800 -> {ends}")])
    };
    let three = with("10.1.1.1:80@b 10.1.1.2:80@b 10.1.1.3:80@b");
    let first = trace::trace(&three, &machine(), &packet("pod 10.1.0.9 > 10.96.0.10:80"))
        .expect("readable");
    assert_eq!(first.len(), 3);
    let gone = with("10.1.1.1:80@b 10.1.1.2:80@b");
    for verdict in first {
        let mut again = packet("pod 10.1.0.9 > 192.168.0.1:30080");
        again.remembered = verdict.remembered.clone();
        let found = trace::trace(&three, &machine(), &again).expect("readable");
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].destination, verdict.destination);
        let after = trace::trace(&gone, &machine(), &again).expect("readable");
        if verdict.destination.0 == Ipv4Addr::new(10, 1, 1, 3) {
            assert_eq!(after.len(), 2, "the dead endpoint's clients draw again");
        } else {
            assert_eq!(after[0].destination, verdict.destination);
        }
    }
}

#[test]
fn host_ports_lead_to_their_pod() {
    let mut world = input(&[]);
    world.host_ports = [
        "tcp 8080 -> 10.1.0.1:80",
        "udp 8080 -> 10.1.0.2:80",
        "tcp 192.168.0.1:8080 -> 10.1.0.2:81",
        "tcp 127.0.0.1:9090 -> 10.1.0.1:90",
    ]
    .map(|text| words::host_port(text).expect(text))
    .into();
    check(
        &rules(&world),
        &[
            ("outside 203.0.113.5 > 192.168.0.1:8080", "10.1.0.2:81"),
            ("outside 203.0.113.5 > 169.254.1.1:8080", "10.1.0.1:80"),
            ("outside 203.0.113.5 > udp 192.168.0.1:8080", "10.1.0.2:80"),
            ("host 192.168.0.1 > 192.168.0.1:8080", "10.1.0.2:81"),
            ("host 127.0.0.1 > 127.0.0.1:8080", "10.1.0.1:80, masquerade"),
            ("host 127.0.0.1 > 127.0.0.1:9090", "10.1.0.1:90, masquerade"),
            ("outside 203.0.113.5 > 192.168.0.1:9090", "dropped"),
            ("outside 203.0.113.5 > 127.0.0.1:9090", "dropped"),
            ("pod 10.1.0.2 > 192.168.0.1:8080", "10.1.0.2:81, masquerade"),
            ("pod 10.1.0.9 > 192.168.0.1:8080", "10.1.0.2:81"),
        ],
    );
}

#[test]
fn only_pods_leaving_the_cluster_are_masqueraded() {
    let table = |masked| {
        [
            ("pod 10.1.0.9 > 203.0.113.5:443", masked),
            ("pod 10.1.0.9 > 10.1.1.1:80", "10.1.1.1:80"),
            ("pod 10.1.0.9 > 224.0.0.5:80", "224.0.0.5:80"),
            ("host 192.168.0.1 > 203.0.113.5:443", "203.0.113.5:443"),
            ("outside 10.1.1.1 > 203.0.113.5:443", "203.0.113.5:443"),
        ]
    };
    let mut world = input(&[]);
    check(&rules(&world), &table("203.0.113.5:443, masquerade"));
    world.masquerade_egress = false;
    check(&rules(&world), &table("203.0.113.5:443"));
}

#[test]
fn pods_keep_their_address_towards_nodes_that_know_them() {
    let mut world = input(&[]);
    let node = |last: u16| Ipv4Addr::from(0xc0a8_0000 + u32::from(last));
    world.neighbours.near = vec![node(2), node(3)];
    check(
        &rules(&world),
        &[
            ("pod 10.1.0.9 > 192.168.0.2:9100", "192.168.0.2:9100"),
            ("pod 10.1.0.9 > 192.168.0.4:9100", "192.168.0.4:9100, masquerade"),
            ("pod 10.1.0.9 > 203.0.113.5:443", "203.0.113.5:443, masquerade"),
        ],
    );
    world.neighbours.near = (2..1000).map(node).collect();
    check(
        &rules(&world),
        &[
            ("pod 10.1.0.9 > 192.168.2.77:9100", "192.168.2.77:9100"),
            ("pod 10.1.0.9 > 192.168.4.77:9100", "192.168.4.77:9100, masquerade"),
        ],
    );
}

#[test]
fn only_nodes_of_the_fleet_send_into_the_tunnel_and_to_our_doors() {
    let mut world = input(&[]);
    let mut open = machine();
    open.drops_by_default = false;
    let node = |last: u16| Ipv4Addr::from(0xc0a8_0000 + u32::from(last));
    for peers in [vec![node(2), node(3)], (2..1000).map(node).collect()] {
        world.neighbours.tunnel =
            Some(Tunnel { port: 8472, peers, doors: vec![(Protocol::Tcp, 9474)] });
        let set = rules(&world);
        // Whether or not all else is let in.
        for machine in [&machine(), &open] {
            for (text, expected) in [
                ("outside 192.168.0.3 > udp 192.168.0.1:8472", "192.168.0.1:8472"),
                ("outside 192.168.77.3 > udp 192.168.0.1:8472", "dropped"),
                ("pod 10.1.0.9 > udp 192.168.0.1:8472", "dropped"),
                ("outside 192.168.0.3 > 192.168.0.1:9474", "192.168.0.1:9474"),
                ("outside 192.168.77.3 > 192.168.0.1:9474", "dropped"),
                ("pod 10.1.0.9 > 192.168.0.1:9474", "dropped"),
            ] {
                let found = trace::trace(&set, machine, &packet(text)).expect("readable");
                assert_eq!(trace::describe(&found), expected, "{text}");
                assert!(found.iter().all(|verdict| verdict.met < 150), "{found:?}");
            }
        }
    }
}

#[test]
fn what_others_led_is_left_alone() {
    // As Docker publishes a port: its own DNAT in PREROUTING, after our jump.
    let mut set = rendered(&["shop/web ip=10.96.0.10 tcp:80=30080 -> 10.1.0.1:8080@a"]);
    set.jumps.push(crate::kinds::rules::Jump {
        table: Table::Nat,
        chain: "PREROUTING",
        rule: "-p tcp -m tcp --dport 5000 -j DNAT --to-destination 172.17.0.2:5000".into(),
    });
    let mut open = machine();
    open.drops_by_default = false;
    let packet = packet("outside 203.0.113.5 > 192.168.0.1:5000");
    let found = trace::trace(&set, &open, &packet).expect("readable");
    assert_eq!(trace::describe(&found), "172.17.0.2:5000");
}

#[test]
fn names_are_reached_also_at_another_port() {
    let mut world = input(&[]);
    let table = [
        ("pod 10.1.0.9 > udp 10.96.0.53:53", "10.96.0.53:53"),
        ("pod 10.1.0.9 > 10.96.0.53:53", "10.96.0.53:53"),
        ("host 10.96.0.53 > udp 10.96.0.53:53", "10.96.0.53:53"),
        // Others use names by leave of the host's own policy.
        ("outside 203.0.113.5 > udp 10.96.0.53:53", "dropped"),
        ("pod 10.1.0.9 > 10.96.0.53:22", "dropped"),
    ];
    check(&rules(&world), &table);
    if let Some(dns) = &mut world.dns {
        dns.port = 5353;
    }
    check(
        &rules(&world),
        &[
            ("pod 10.1.0.9 > udp 10.96.0.53:53", "10.96.0.53:5353"),
            ("host 10.96.0.53 > 10.96.0.53:53", "10.96.0.53:5353"),
        ],
    );
}

#[test]
fn pods_reach_the_node_only_through_services_and_answers() {
    let set = rendered(&[
        "kube-system/metrics ip=10.96.0.10 tcp:80 -> 192.168.0.1:9100@a",
        "shop/web ip=10.96.0.11 tcp:80=30080 external-local health=32000 -> 192.168.0.1:80@a",
    ]);
    check(
        &set,
        &[
            ("pod 10.1.0.9 > 10.96.0.10:80", "192.168.0.1:9100"),
            ("host 192.168.0.1 > 10.96.0.10:80", "192.168.0.1:9100"),
            ("pod 10.1.0.9 > 192.168.0.1:9100", "dropped"),
            ("outside 203.0.113.5 > 192.168.0.1:30080", "192.168.0.1:80"),
            ("outside 203.0.113.5 > 192.168.0.1:32000", "192.168.0.1:32000"),
        ],
    );
    let mut answer = packet("pod 10.1.0.9 > 192.168.0.1:40000");
    answer.phase = Phase::Later;
    let found = trace::trace(&set, &machine(), &answer).expect("readable");
    assert_eq!(trace::describe(&found), "192.168.0.1:40000");
}

#[test]
fn services_without_an_address_have_no_rules() {
    let bare = rendered(&[]);
    let set = rendered(&[
        "shop/db headless tcp:80 -> 10.1.0.1:80@a",
        "shop/out alias=example.org tcp:80",
        "shop/new tcp:80 -> 10.1.0.1:80@a",
    ]);
    assert_eq!(bare, set);
}

#[test]
fn a_node_without_an_address_still_reaches_its_pods() {
    let mut world = input(&["shop/web ip=10.96.0.10 tcp:80 -> 10.1.0.1:8080@a"]);
    world.node_ips.clear();
    let set = rules(&world);
    let snat = "-d 10.1.0.0/24 -j SNAT --to-source 169.254.1.1 --random-fully";
    assert_eq!(set.chains[&Table::Nat][chains::MASQUERADE][0], snat);
    check(&set, &[("pod 10.1.0.1 > 10.96.0.10:80", "10.1.0.1:8080, masquerade")]);
}

#[test]
fn the_same_input_gives_the_same_rules_in_any_order() {
    let texts = [
        "shop/web ip=10.96.0.10 tcp:80=30080 -> 10.1.0.1:80@a 10.1.1.1:80@b",
        "lab/web ip=10.96.0.11 tcp:80=30080 -> 10.1.0.2:80@a",
        "lab/db ip=10.96.0.12 udp:53 -> 10.1.0.2:80@a",
    ];
    let mut world = input(&texts);
    let first = rules(&world);
    world.services.reverse();
    world.local_pods.reverse();
    world.pod_cidr = Some("10.1.0.77/24".parse().expect("a network"));
    for service in &mut world.services {
        service.endpoints.reverse();
    }
    assert_eq!(rules(&world), first);
}

#[test]
fn every_chain_is_ours_short_enough_and_led_to() {
    let many: Vec<String> = (1..200)
        .map(|n| {
            format!(
                "ns-{n}/web ip=10.96.0.{n} tcp:80={} udp:81={} ext=198.51.100.{n} \
                 lb=198.51.101.{n} range=10.0.0.0/8 external-local internal-local affinity=60 \
                 -> 10.1.0.1:80@a 10.1.1.1:80@b",
                30_000 + 2 * n,
                30_001 + 2 * n
            )
        })
        .collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let set = rendered(&many);
    Tracer::new(&set).expect("readable, and no jump leads nowhere");
    for table in Table::ALL {
        for (chain, _) in set.chains(table) {
            assert!(chain.starts_with(CHAIN_PREFIX), "{chain}");
            assert!(chain.len() <= chains::CHAIN_LEN_MAX, "{chain}");
            let target = format!("-j {chain}");
            let rules = set.chains(table).flat_map(|(_, rules)| rules);
            let jumps = set.jumps.iter().filter(|jump| jump.table == table);
            let all = rules.chain(jumps.map(|jump| &jump.rule));
            assert!(
                all.into_iter().any(|rule| rule.ends_with(&target)),
                "nothing leads to {chain}"
            );
        }
    }
}

#[test]
fn one_endpoint_more_changes_one_chain() {
    let text = "shop/web ip=10.96.0.10 tcp:80=30080 -> 10.1.0.1:80@a";
    let before = rendered(&[text]);
    let after = rendered(&[&format!("{text} 10.1.1.1:80@b")]);
    let text = restore(&before, &after).expect("a change");
    let chains = text.lines().filter(|line| line.starts_with(':')).count();
    assert_eq!(chains, 1, "{text}");
}

#[test]
fn same_names_in_other_namespaces_share_nothing() {
    let ids = ["a/b-c", "a-b/c", "ab/c", "a/bc"].map(|name| {
        let view = words::service(&format!("{name} tcp:80")).expect(name);
        chains::PortId::of(&view, &view.spec.ports[0]).spread()
    });
    let distinct: BTreeSet<&String> = ids.iter().collect();
    assert_eq!(distinct.len(), ids.len());
}

/// A Service in words, with its number in its address and in its endpoints' port.
fn any_service(number: u8) -> impl Strategy<Value = String> {
    let flags = proptest::sample::subsequence(
        vec!["external-local", "internal-local", "affinity=60", "same-node", "range=10.0.0.0/8"],
        0..=5,
    );
    let end = (1..5_u8, 1..4_u8, proptest::sample::select(vec!["", "~", "!"]));
    (flags, proptest::collection::vec(end, 0..5)).prop_map(move |(flags, ends)| {
        let ends: Vec<String> = ends
            .into_iter()
            .map(|(host, node, state)| {
                let name = char::from(b'a' + node - 1);
                format!("10.1.{}.{host}:{}@{name}{state}", node - 1, 8000 + u16::from(number))
            })
            .collect();
        format!(
            "ns/s{number} ip=10.96.0.{number} tcp:80={} udp:80 ext=198.51.100.{number} \
             lb=198.51.101.{number} {} -> {}",
            30_000 + u16::from(number),
            flags.join(" "),
            ends.join(" ")
        )
    })
}

/// `iptables-restore` refuses a table whole if one rule jumps nowhere.
#[test]
fn every_jump_leads_to_a_chain_also_on_an_empty_node() {
    let mut world = input(&[]);
    for pods in [world.local_pods.clone(), Vec::new()] {
        world.local_pods = pods;
        let set = rules(&world);
        for table in Table::ALL {
            for (chain, rules) in set.chains(table) {
                for target in rules.iter().filter_map(|rule| rule.split("-j WDL-").nth(1)) {
                    let target = format!("WDL-{}", target.split(' ').next().unwrap_or_default());
                    let exists = set.chains(table).any(|(name, _)| *name == target);
                    assert!(exists, "{table} {chain} jumps to {target}");
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn packets_only_reach_endpoints_that_may_get_them(
        services in (any_service(1), any_service(2), any_service(3)),
        origin in proptest::sample::select(vec![
            "pod 10.1.0.9", "pod 10.1.0.1", "host 192.168.0.1", "outside 203.0.113.5",
        ]),
        word in proptest::sample::select(vec!["tcp", "udp"]),
        number in 1..4_u8,
        to in proptest::sample::select(vec!["10.96.0", "198.51.100", "198.51.101", "node"]),
    ) {
        let texts = [services.0, services.1, services.2];
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let world = input(&texts);
        let to = match to {
            "node" => format!("192.168.0.1:{}", 30_000 + u16::from(number)),
            network => format!("{network}.{number}:80"),
        };
        let packet = packet(&format!("{origin} > {word} {to}"));
        let found = trace::trace(&rules(&world), &machine(), &packet).expect("readable");
        let total: f64 = found.iter().map(|verdict| verdict.chance).sum();
        prop_assert!((total - 1.0).abs() < 1e-6);
        let ends = &world.services[usize::from(number) - 1].endpoints;
        let ready = ends.iter().any(|end| end.state == EndpointState::Ready);
        for verdict in found {
            if verdict.end != trace::End::Accepted {
                continue;
            }
            let (ip, port) = verdict.destination;
            let end = ends.iter().find(|end| end.ip == ip && end.ports[0] == Some(port));
            let states = ends.iter().filter(|end| end.ip == ip).map(|end| end.state);
            prop_assert!(end.is_some(), "{} is nobody", verdict);
            prop_assert!(
                states.clone().any(|state| state != EndpointState::NotReady),
                "{} is not ready", verdict
            );
            let local_only = world.services[usize::from(number) - 1].spec.internal_local
                || world.services[usize::from(number) - 1].spec.external_local;
            let stops = states.clone().all(|state| state != EndpointState::Ready);
            prop_assert!(!(stops && ready && !local_only), "{} stops while others are ready", verdict);
        }
    }
}
