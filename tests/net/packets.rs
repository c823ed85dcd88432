//! The same rows by the tracer and by real packets, with nft and with legacy.

use std::collections::BTreeMap;

use windlass::adapters::iptables::Backend;
use windlass::net::words;

use super::lab::{Lab, Reply, input};

/// Runs a test on both of the kernel's rule machines.
pub(super) fn on_both(test: &str, run: impl Fn(&mut Lab)) {
    for backend in [Backend::Nft, Backend::Legacy] {
        if let Some(mut lab) = Lab::new(test, backend) {
            run(&mut lab);
        }
    }
}

#[test]
fn cluster_addresses_from_everywhere() {
    on_both("cluster_addresses_from_everywhere", |lab| {
        let world = input(&[
            "shop/web ip=10.96.0.10 tcp:80 udp:80 -> 10.1.0.1:8080@a",
            "shop/far ip=10.96.0.11 tcp:80 -> 10.1.1.1:8080@b",
            "shop/both ip=10.96.0.12 tcp:80 -> 10.1.0.1:8080@a 10.1.1.1:8080@b",
            "shop/none ip=10.96.0.13 tcp:80 udp:80",
            "shop/here ip=10.96.0.14 tcp:80 internal-local -> 10.1.1.1:8080@b",
            "shop/off ip=10.96.0.15 tcp:80 -> 203.0.113.5:80",
            "shop/host ip=10.96.0.16 tcp:80 -> 192.168.0.1:9100@a",
        ]);
        let both = "50% 10.1.0.1:8080 | 50% 10.1.1.1:8080";
        let both_masked = "50% 10.1.0.1:8080, masquerade | 50% 10.1.1.1:8080, masquerade";
        lab.check(
            &world,
            &[
                ("pod 10.1.0.9 > 10.96.0.10:80", "10.1.0.1:8080"),
                ("pod 10.1.0.9 > udp 10.96.0.10:80", "10.1.0.1:8080"),
                ("pod 10.1.0.1 > 10.96.0.10:80", "10.1.0.1:8080, masquerade"),
                ("pod 10.1.0.1 > udp 10.96.0.10:80", "10.1.0.1:8080, masquerade"),
                ("host 192.168.0.1 > 10.96.0.10:80", "10.1.0.1:8080, masquerade"),
                ("host 192.168.0.1 > udp 10.96.0.10:80", "10.1.0.1:8080, masquerade"),
                ("outside 203.0.113.5 > 10.96.0.10:80", "10.1.0.1:8080, masquerade"),
                ("outside 10.1.1.1 > 10.96.0.10:80", "10.1.0.1:8080"),
                ("pod 10.1.0.9 > 10.96.0.11:80", "10.1.1.1:8080"),
                ("host 192.168.0.1 > 10.96.0.11:80", "10.1.1.1:8080, masquerade"),
                ("outside 203.0.113.5 > 10.96.0.11:80", "10.1.1.1:8080, masquerade"),
                ("pod 10.1.0.9 > 10.96.0.12:80", both),
                ("host 192.168.0.1 > 10.96.0.12:80", both_masked),
                ("pod 10.1.0.9 > 10.96.0.13:80", "rejected"),
                ("pod 10.1.0.9 > udp 10.96.0.13:80", "rejected"),
                ("host 192.168.0.1 > 10.96.0.13:80", "rejected"),
                ("host 192.168.0.1 > udp 10.96.0.13:80", "rejected"),
                ("outside 203.0.113.5 > 10.96.0.13:80", "rejected"),
                ("pod 10.1.0.9 > 10.96.9.9:80", "rejected"),
                ("host 192.168.0.1 > 10.96.9.9:80", "rejected"),
                ("pod 10.1.0.9 > 10.96.0.10:81", "rejected"),
                ("pod 10.1.0.9 > 10.96.0.14:80", "dropped"),
                ("host 192.168.0.1 > 10.96.0.14:80", "dropped"),
                ("pod 10.1.0.9 > 10.96.0.15:80", "203.0.113.5:80, masquerade"),
                ("pod 10.1.0.9 > 10.96.0.16:80", "192.168.0.1:9100"),
                ("host 192.168.0.1 > 10.96.0.16:80", "192.168.0.1:9100"),
                // No Service: straight to pods, out of the cluster, and to the node's own port.
                ("pod 10.1.0.9 > 10.1.0.1:80", "10.1.0.1:80"),
                ("pod 10.1.0.9 > 10.1.1.1:80", "10.1.1.1:80"),
                ("host 192.168.0.1 > 10.1.0.1:80", "10.1.0.1:80"),
                ("outside 203.0.113.5 > 10.1.0.1:80", "10.1.0.1:80"),
                ("pod 10.1.0.9 > 203.0.113.5:80", "203.0.113.5:80, masquerade"),
                ("pod 10.1.0.9 > udp 203.0.113.5:80", "203.0.113.5:80, masquerade"),
                ("pod 10.1.0.9 > 192.168.0.1:9100", "dropped"),
            ],
        );
    });
}

#[test]
fn node_ports_from_everywhere() {
    on_both("node_ports_from_everywhere", |lab| {
        let world = input(&[
            "shop/web ip=10.96.0.10 tcp:80=30080 udp:80=30080 -> 10.1.0.1:8080@a",
            "shop/far ip=10.96.0.11 tcp:80=30081 -> 10.1.1.1:8080@b",
            "shop/none ip=10.96.0.12 tcp:80=30082 udp:80=30082",
            "shop/host ip=10.96.0.13 tcp:80=30083 -> 192.168.0.1:9100@a",
        ]);
        let (near, far) = ("10.1.0.1:8080, masquerade", "10.1.1.1:8080, masquerade");
        lab.check(
            &world,
            &[
                ("outside 203.0.113.5 > 192.168.0.1:30080", near),
                ("outside 203.0.113.5 > udp 192.168.0.1:30080", near),
                ("outside 203.0.113.5 > 192.168.0.1:30081", far),
                ("pod 10.1.0.9 > 192.168.0.1:30080", near),
                ("pod 10.1.0.9 > 192.168.0.1:30081", far),
                ("pod 10.1.0.1 > 192.168.0.1:30080", near),
                ("pod 10.1.0.9 > 169.254.1.1:30080", near),
                ("host 192.168.0.1 > 192.168.0.1:30080", near),
                ("host 192.168.0.1 > 192.168.0.1:30081", far),
                ("host 127.0.0.1 > 127.0.0.1:30080", near),
                ("host 127.0.0.1 > 127.0.0.1:30081", far),
                ("host 127.0.0.1 > udp 127.0.0.1:30080", near),
                ("outside 203.0.113.5 > 192.168.0.1:30082", "rejected"),
                ("outside 203.0.113.5 > udp 192.168.0.1:30082", "rejected"),
                ("pod 10.1.0.9 > 192.168.0.1:30082", "rejected"),
                ("host 127.0.0.1 > 127.0.0.1:30082", "rejected"),
                ("outside 203.0.113.5 > 192.168.0.1:30083", "192.168.0.1:9100"),
                ("outside 203.0.113.5 > 192.168.0.1:9100", "dropped"),
            ],
        );
    });
}

#[test]
fn policies_external_addresses_and_ranges() {
    on_both("policies_external_addresses_and_ranges", |lab| {
        let both = "-> 10.1.0.1:8080@a 10.1.1.1:8080@b";
        let world = input(&[
            &format!("shop/here ip=10.96.0.10 tcp:80=30080 ext=198.51.100.1 external-local {both}"),
            "shop/far ip=10.96.0.11 tcp:80=30081 external-local -> 10.1.1.1:8080@b",
            &format!("shop/inside ip=10.96.0.12 tcp:80 internal-local {both}"),
            "shop/lb ip=10.96.0.13 tcp:80 ext=198.51.100.3 lb=198.51.100.2 range=203.0.113.0/24 \
             -> 10.1.0.1:8080@a",
            "shop/old ip=10.96.0.14 tcp:80 -> 10.1.0.2:8080@a~ 10.1.1.1:8080@b!",
        ]);
        let spread = "50% 10.1.0.1:8080 | 50% 10.1.1.1:8080";
        let masked = "50% 10.1.0.1:8080, masquerade | 50% 10.1.1.1:8080, masquerade";
        lab.check(
            &world,
            &[
                ("outside 203.0.113.5 > 192.168.0.1:30080", "10.1.0.1:8080"),
                ("outside 203.0.113.5 > 198.51.100.1:80", "10.1.0.1:8080"),
                ("pod 10.1.0.9 > 192.168.0.1:30080", spread),
                ("host 192.168.0.1 > 192.168.0.1:30080", masked),
                ("host 127.0.0.1 > 127.0.0.1:30080", masked),
                ("outside 203.0.113.5 > 192.168.0.1:30081", "dropped"),
                ("pod 10.1.0.9 > 192.168.0.1:30081", "10.1.1.1:8080"),
                ("host 192.168.0.1 > 192.168.0.1:30081", "10.1.1.1:8080, masquerade"),
                ("pod 10.1.0.9 > 10.96.0.12:80", "10.1.0.1:8080"),
                ("outside 203.0.113.5 > 198.51.100.2:80", "10.1.0.1:8080, masquerade"),
                ("outside 8.8.8.8 > 198.51.100.2:80", "dropped"),
                ("outside 8.8.8.8 > 198.51.100.3:80", "10.1.0.1:8080, masquerade"),
                ("pod 10.1.0.9 > 10.96.0.14:80", "10.1.0.2:8080"),
            ],
        );
    });
}

#[test]
fn host_ports_lead_to_their_pod() {
    on_both("host_ports_lead_to_their_pod", |lab| {
        let mut world = input(&[]);
        world.host_ports = [
            "tcp 8085 -> 10.1.0.1:80",
            "udp 8085 -> 10.1.0.2:80",
            "tcp 127.0.0.1:9090 -> 10.1.0.1:81",
        ]
        .map(|text| words::host_port(text).expect(text))
        .into();
        lab.check(
            &world,
            &[
                ("outside 203.0.113.5 > 192.168.0.1:8085", "10.1.0.1:80"),
                ("outside 203.0.113.5 > udp 192.168.0.1:8085", "10.1.0.2:80"),
                ("host 192.168.0.1 > 192.168.0.1:8085", "10.1.0.1:80"),
                ("host 127.0.0.1 > 127.0.0.1:8085", "10.1.0.1:80, masquerade"),
                ("host 127.0.0.1 > 127.0.0.1:9090", "10.1.0.1:81, masquerade"),
                ("outside 203.0.113.5 > 192.168.0.1:9090", "dropped"),
                ("pod 10.1.0.1 > 192.168.0.1:8085", "10.1.0.1:80, masquerade"),
                ("pod 10.1.0.9 > 192.168.0.1:8085", "10.1.0.1:80"),
            ],
        );
    });
}

#[test]
fn endpoints_share_evenly() {
    const TRIES: usize = 300;
    on_both("endpoints_share_evenly", |lab| {
        let world = input(&["shop/web ip=10.96.0.10 tcp:80 \
             -> 10.1.0.1:8080@a 10.1.0.2:8080@a 10.1.1.1:8080@b"]);
        lab.apply(&world);
        let packet = words::packet("pod 10.1.0.9 > 10.96.0.10:80").expect("reads");
        let mut counts: BTreeMap<Reply, usize> = BTreeMap::new();
        for _ in 0..TRIES {
            *counts.entry(lab.send(&packet)).or_default() += 1;
        }
        assert_eq!(counts.len(), 3, "{counts:?}");
        // A third of 300, plus or minus six standard deviations: once in 10^8 by chance.
        let fair = 100 - 49..=100 + 49;
        assert!(counts.values().all(|count| fair.contains(count)), "{counts:?}");
    });
}

#[test]
fn a_client_stays_with_its_endpoint_while_others_come_and_go() {
    on_both("a_client_stays_with_its_endpoint_while_others_come_and_go", |lab| {
        let with = |ends: &str| {
            input(&[&format!("shop/web ip=10.96.0.10 tcp:80=30080 affinity=10800 -> {ends}")])
        };
        lab.apply(&with("10.1.0.1:8080@a 10.1.0.2:8080@a 10.1.1.1:8080@b 10.1.1.2:8080@b"));
        let service = words::packet("outside 203.0.113.5 > 10.96.0.10:80").expect("reads");
        let node_port = words::packet("outside 203.0.113.5 > 192.168.0.1:30080").expect("reads");
        let first = lab.send(&service);
        let Reply::From(chosen, _) = first else { panic!("{first:?}") };
        for _ in 0..8 {
            assert_eq!(lab.send(&service), first);
            assert_eq!(lab.send(&node_port), first);
        }
        // Others draw for themselves.
        let others: Vec<Reply> =
            ["pod 10.1.0.9", "pod 10.1.0.1", "pod 10.1.0.2", "outside 8.8.8.8"]
                .iter()
                .map(|from| {
                    lab.send(&words::packet(&format!("{from} > 10.96.0.10:80")).expect("reads"))
                })
                .collect();
        assert!(others.iter().all(|reply| matches!(reply, Reply::From(..))), "{others:?}");
        // All the others but one go, and one comes.
        let stays =
            if chosen.ip().octets()[2] == 0 { "10.1.1.1:8080@b" } else { "10.1.0.1:8080@a" };
        lab.apply(&with(&format!("{chosen}@x {stays} 10.1.0.9:8080@a")));
        for _ in 0..8 {
            assert_eq!(lab.send(&service), first);
        }
        // Its own goes.
        lab.apply(&with(stays));
        let Reply::From(other, _) = lab.send(&service) else { panic!("no answer") };
        assert_eq!(format!("{other}@{}", &stays[stays.len() - 1..]), stays);
    });
}

#[test]
fn loopback_is_not_reached_from_a_wire() {
    on_both("loopback_is_not_reached_from_a_wire", |lab| {
        lab.apply(&input(&["shop/web ip=10.96.0.10 tcp:80=30080 -> 10.1.0.1:8080@a"]));
        super::lab::serve(&lab.node, &[std::net::Ipv4Addr::LOCALHOST], &[7777]);
        // The neighbour has taken its own 127.0.0.1 away and sends what is for it over the wire.
        lab.node.sh(&format!("{} -w -P INPUT ACCEPT", super::lab::program(lab.backend)));
        lab.world.sh("sysctl -qw net.ipv4.conf.all.route_localnet=1
             ip addr del 127.0.0.1/8 dev lo; ip route flush table local 127.0.0.0/8
             ip route add 127.0.0.1/32 via 192.168.0.1 dev wire");
        for port in [30_080, 7777] {
            let packet = words::packet(&format!("outside 203.0.113.5 > 127.0.0.1:{port}"));
            assert_eq!(lab.send(&packet.expect("reads")), Reply::Silence, "{port}");
        }
    });
}
