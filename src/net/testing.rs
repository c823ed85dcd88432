//! One node's world, for the tables of this room's tests.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::input::{DnsListener, Input};
use super::paths::Neighbours;
use super::trace::{self, Machine};
use super::words;
use crate::kinds::name::Name;
use crate::kinds::rules::RuleSet;

/// Node a at 192.168.0.1 with pods 10.1.0.1, .2 and .9; the cluster's pods are 10.1.0.0/16, its
/// Services 10.96.0.0/12.
pub(super) fn input(services: &[&str]) -> Input {
    let local = [1, 2, 9].map(|n| Ipv4Addr::new(10, 1, 0, n));
    Input {
        node: Name::trusted("a"),
        node_ips: vec![Ipv4Addr::new(192, 168, 0, 1)],
        pod_cidr: Some("10.1.0.0/24".parse().expect("a network")),
        cluster_cidrs: vec!["10.1.0.0/16".parse().expect("a network")],
        service_cidr: "10.96.0.0/12".parse().expect("a network"),
        services: services.iter().map(|text| words::service(text).expect(text)).collect(),
        local_pods: local.to_vec(),
        host_ports: Vec::new(),
        dns: Some(DnsListener { address: Ipv4Addr::new(10, 96, 0, 53), port: 53 }),
        neighbours: Neighbours::default(),
        zones: BTreeMap::new(),
        masquerade_egress: true,
        localhost_node_ports: true,
    }
}

/// Node a, where nothing passes but by a rule.
pub(super) fn machine() -> Machine {
    Machine {
        addresses: vec![
            Ipv4Addr::new(192, 168, 0, 1),
            Ipv4Addr::new(10, 96, 0, 53),
            Ipv4Addr::new(169, 254, 1, 1),
        ],
        drops_by_default: true,
    }
}

/// Where the packets of `table` go, against what stands beside them.
pub(super) fn check(rules: &RuleSet, table: &[(&str, &str)]) {
    for (from, expected) in table {
        let verdicts = trace::trace(rules, &machine(), &words::packet(from).expect(from))
            .expect("rules are readable");
        assert_eq!(trace::describe(&verdicts), *expected, "{from}");
        let total: f64 = verdicts.iter().map(|verdict| verdict.chance).sum();
        assert!((total - 1.0).abs() < 1e-6, "{from}: chances add up to {total}");
    }
}
