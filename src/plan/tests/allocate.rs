//! Addresses and ports: given once, kept, and what is asked for honoured.

use std::sync::Arc;

use super::{Fleet, service};
use crate::kinds::name::NodeName;
use crate::plan::NodeInput;

const PORT: &str = "ports: [{port: 80}]";

#[test]
fn a_service_keeps_its_address_for_life() {
    let mut fleet = Fleet::running(&service("web", PORT));
    let (first, _) = fleet.allocation("web");
    assert!(first.as_ref().is_some_and(|ip| ip.starts_with("10.96.")), "{first:?}");
    fleet.push(&format!("{}{}", service("web", "ports: [{port: 81}]"), service("api", PORT)));
    fleet.settle();
    assert_eq!(fleet.allocation("web").0, first);
    assert_ne!(fleet.allocation("api").0, first);
    fleet.push(&service("api", PORT));
    fleet.settle();
    assert_eq!(fleet.allocation("web"), (None, vec![]), "given back");
    fleet.push(&format!("{}{}", service("web", PORT), service("api", PORT)));
    fleet.settle();
    assert_eq!(fleet.allocation("web").0, first, "the same name is sought at the same place");
}

#[test]
fn an_address_asked_for_is_given() {
    let fleet = Fleet::running(&service("web", &format!("clusterIP: 10.96.7.7, {PORT}")));
    assert_eq!(fleet.allocation("web").0.as_deref(), Some("10.96.7.7"));
}

/// Each line: what a Service asks for that it can't have, and what is said.
#[test]
fn what_cannot_be_given_is_said_in_words() {
    let table = [
        ("10.1.2.3", "asks for 10.1.2.3, which is not in the service network 10.96.0.0/16"),
        ("10.96.0.10", "asks for 10.96.0.10, which Service kube-system/kube-dns has"),
        ("10.96.0.0", "asks for 10.96.0.0, which is the service network's own"),
        ("10.96.255.255", "asks for 10.96.255.255, which is the service network's own"),
    ];
    for (address, words) in table {
        let mut fleet = Fleet::running(&service("web", PORT));
        let before = fleet.allocation("web");
        fleet.push(&service("web", &format!("clusterIP: {address}, {PORT}")));
        fleet.settle();
        assert_eq!(fleet.allocation("web"), before, "{address}: it keeps what it has");
        let said = fleet.input.state.events.iter().any(|event| event.message == words);
        assert!(said, "{address}: {:?}", fleet.input.state.events);
    }
}

#[test]
fn an_address_that_another_has_is_not_taken_from_it() {
    let mut fleet = Fleet::running(&service("api", PORT));
    let (taken, _) = fleet.allocation("api");
    let taken = taken.expect("an address");
    let asking = service("web", &format!("clusterIP: {taken}, {PORT}"));
    fleet.push(&format!("{}{asking}", service("api", PORT)));
    fleet.settle();
    assert_eq!(fleet.allocation("api").0.as_ref(), Some(&taken));
    assert_eq!(fleet.allocation("web").0, None);
    let words = fleet.event("ClusterIPAllocated").expect("it is said");
    assert_eq!(words, format!("Service shop/web: asks for {taken}, which Service shop/api has"));
    // When the other goes, the address is free.
    fleet.push(&asking);
    fleet.settle();
    assert_eq!(fleet.allocation("web").0, Some(taken));
}

#[test]
fn node_ports_are_given_kept_and_honoured() {
    let node_port = |ports: &str| service("web", &format!("type: NodePort, ports: [{ports}]"));
    let mut fleet = Fleet::running(&node_port("{port: 80}"));
    let (_, first) = fleet.allocation("web");
    assert!(matches!(first[..], [30000..=32767]), "{first:?}");
    // The port is filed by name or by transport and number: a second one changes nothing.
    fleet.push(&node_port("{port: 80, name: http}, {port: 81, name: admin, nodePort: 30111}"));
    fleet.settle();
    assert_eq!(fleet.allocation("web").1[0], 30111, "asked for");
    fleet.push(&node_port("{port: 80, name: http}, {port: 81, name: admin, nodePort: 30112}"));
    let (_, before) = fleet.allocation("web");
    fleet.settle();
    let (_, after) = fleet.allocation("web");
    assert_eq!((after[0], after[1]), (30112, before[1]), "one moved, the other stayed");
    fleet.push(&service("web", PORT));
    fleet.settle();
    assert!(fleet.allocation("web").1.is_empty(), "given back when the type changes");
}

#[test]
fn a_node_port_that_another_has_is_not_taken_from_it() {
    let asking = |name| service(name, "type: NodePort, ports: [{port: 80, nodePort: 30080}]");
    let mut fleet = Fleet::running(&asking("api"));
    let text = format!("{}{}", asking("api"), asking("web"));
    fleet.push(&text);
    fleet.settle();
    let is_refused = fleet.head().is_some_and(|head| head.waiting.is_some());
    assert!(is_refused, "two manifests that ask for one port are an error at the door");
    let (_, given) = fleet.allocation("api");
    assert_eq!(given, [30080]);
}

#[test]
fn a_service_that_gets_its_port_by_chance_gives_way_to_nobody() {
    let chance = service("api", "type: NodePort, ports: [{port: 80}]");
    let mut fleet = Fleet::running(&chance);
    let (_, given) = fleet.allocation("api");
    let asking =
        service("web", &format!("type: NodePort, ports: [{{port: 80, nodePort: {}}}]", given[0]));
    fleet.push(&format!("{chance}{asking}"));
    fleet.settle();
    assert_eq!((fleet.allocation("api").1, fleet.allocation("web").1), (given.clone(), vec![]));
    let words = fleet.event("PortAllocated").expect("it is said");
    assert!(
        words.ends_with(&format!("asks for node port {}, which Service shop/api has", given[0]))
    );
}

#[test]
fn headless_and_external_services_have_no_address() {
    let all = format!(
        "{}{}",
        service("peers", &format!("clusterIP: None, selector: {{a: b}}, {PORT}")),
        service("far", "type: ExternalName, externalName: example.com")
    );
    let fleet = Fleet::running(&all);
    assert_eq!((fleet.allocation("peers").0, fleet.allocation("far").0), (None, None));
}

#[test]
fn a_full_network_gives_nothing_and_breaks_nothing() {
    let mut fleet = Fleet::new();
    let settings = Arc::make_mut(&mut fleet.input.settings);
    settings.service_network = "10.96.0.8/29".parse().expect("a network");
    settings.node_ports = (30000, 30001);
    let all: String =
        (0..8).map(|n| service(&format!("s{n}"), "type: NodePort, ports: [{port: 80}]")).collect();
    fleet.push(&all);
    fleet.settle();
    let given: std::collections::BTreeSet<_> =
        (0..8).filter_map(|n| fleet.allocation(&format!("s{n}")).0).collect();
    assert_eq!(given.len(), 5, "six addresses, one of them the resolver's: {given:?}");
    let ports: Vec<u16> = (0..8).flat_map(|n| fleet.allocation(&format!("s{n}")).1).collect();
    assert_eq!(ports.len(), 2, "{ports:?}");
}

#[test]
fn every_node_gets_a_pod_network_of_its_own() {
    let mut fleet = Fleet::new();
    Arc::make_mut(&mut fleet.input.settings).pod_network = "10.244.0.0/22".parse().expect("one");
    for name in ["b", "c", "d", "e"] {
        fleet.input.nodes.insert(NodeName::trusted(name), NodeInput::default());
    }
    fleet.turn();
    let given: Vec<String> =
        fleet.input.state.nodes.values().map(|node| node.pod_cidr.to_string()).collect();
    assert_eq!(given, ["10.244.0.0/24", "10.244.1.0/24", "10.244.2.0/24", "10.244.3.0/24"]);
    let words = fleet.event("CIDRNotAvailable").expect("it is said");
    assert_eq!(words, "Node e: no pod network is left of 10.244.0.0/22 for node e");
    fleet.input.nodes.remove(&NodeName::trusted("a"));
    fleet.turn();
    assert_eq!(fleet.input.state.nodes.len(), 4, "a silent node keeps its network");
}
