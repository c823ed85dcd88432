//! Which UDP flows the kernel must forget when Services change.
//!
//! The kernel remembers where a client's first datagram went and sends the others after it for as
//! long as they keep coming. TCP ends with its endpoint; UDP has to be told
//! (kube-proxy: `conntrack/cleanup.go`).

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use super::input::{Input, ServiceView};
use super::pick::{self, Here};
use crate::kinds::container::Protocol;
use crate::ports::filter::Flow;

/// The flows that led to an endpoint that is no more, and those that came to nothing because there
/// was none. To be forgotten after the new rules are in force.
pub fn stale_flows(before: &Input, after: &Input) -> Vec<Flow> {
    let (old, new) = (entrances(before), entrances(after));
    let nobody = BTreeSet::new();
    let mut flows = BTreeSet::new();
    for entrance in old.keys().chain(new.keys()) {
        let was = old.get(entrance).unwrap_or(&nobody);
        let is = new.get(entrance).unwrap_or(&nobody);
        let (destination, port) = *entrance;
        let flow = |endpoint| Flow { destination, port, endpoint };
        if was.is_empty() && !is.is_empty() {
            flows.insert(flow(None));
        }
        flows.extend(was.difference(is).map(|gone| flow(Some(*gone))));
    }
    flows.into_iter().collect()
}

/// Where UDP clients of Services and host ports send, and the endpoints they may be led to.
/// Unspecified is every address of the node.
type Entrances = BTreeMap<(Ipv4Addr, u16), BTreeSet<Ipv4Addr>>;

fn entrances(input: &Input) -> Entrances {
    let mut entrances = Entrances::new();
    for view in &input.services {
        if view.spec.reach.has_cluster_ip() {
            service_entrances(view, input, &mut entrances);
        }
    }
    let udp = |protocol| protocol == Protocol::Udp;
    for port in input.host_ports.iter().filter(|port| udp(port.protocol)) {
        let at = port.host_ip.unwrap_or(Ipv4Addr::UNSPECIFIED);
        entrances.entry((at, port.port)).or_default().insert(port.pod_ip);
    }
    entrances
}

fn service_entrances(view: &ServiceView, input: &Input, entrances: &mut Entrances) {
    let here = Here { node: &input.node, zones: &input.zones };
    for (index, port) in view.spec.ports.iter().enumerate() {
        if port.protocol != Protocol::Udp {
            continue;
        }
        let targets = pick::targets(&view.endpoints, index, view.spec.traffic, &here);
        let all = targets.spread.iter().chain(&targets.local);
        let endpoints: BTreeSet<Ipv4Addr> = all.map(|(ip, _)| *ip).collect();
        let addresses = view
            .ip
            .iter()
            .chain(&view.spec.external_ips)
            .chain(&view.load_balancer_ips)
            .map(|ip| (*ip, port.port));
        let node_port = view.node_ports.get(index).copied().flatten();
        let node_port = node_port.map(|port| (Ipv4Addr::UNSPECIFIED, port));
        for entrance in addresses.chain(node_port) {
            entrances.entry(entrance).or_default().extend(&endpoints);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::testing::input;
    use crate::net::words;

    fn shown(before: &str, after: &str) -> String {
        let world =
            |text: &str| input(&text.split(';').filter(|it| !it.is_empty()).collect::<Vec<_>>());
        let flows = stale_flows(&world(before), &world(after));
        let one = |flow: &Flow| {
            let end = flow.endpoint.map_or("*".to_owned(), |ip| ip.to_string());
            format!("{}:{}>{end}", flow.destination, flow.port)
        };
        flows.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn flows_to_what_is_gone_are_forgotten() {
        let dns = "a/dns ip=10.96.0.5 tcp:53 udp:53=30053 ->";
        let (one, two) = ("10.1.0.1:53@a", "10.1.1.1:53@b");
        for (before, after, expected) in [
            (format!("{dns} {one} {two}"), format!("{dns} {one} {two}"), ""),
            (format!("{dns} {one}"), format!("{dns} {one} {two}"), ""),
            (
                format!("{dns} {one} {two}"),
                format!("{dns} {one} {two}!"),
                "0.0.0.0:30053>10.1.1.1 10.96.0.5:53>10.1.1.1",
            ),
            (format!("{dns} {one}!"), format!("{dns} {one}"), "0.0.0.0:30053>* 10.96.0.5:53>*"),
            (format!("{dns} {one}"), String::new(), "0.0.0.0:30053>10.1.0.1 10.96.0.5:53>10.1.0.1"),
            (String::new(), "a/web ip=10.96.0.6 tcp:80 -> 10.1.0.1:80@a".into(), ""),
            ("a/db headless udp:53 -> 10.1.0.1:80@a".into(), String::new(), ""),
        ] {
            assert_eq!(shown(&before, &after), expected, "{before} => {after}");
        }
    }

    #[test]
    fn host_ports_count_too() {
        let with = |ports: &[&str]| {
            let mut world = input(&[]);
            world.host_ports =
                ports.iter().map(|text| words::host_port(text).expect(text)).collect();
            world
        };
        let before = with(&["udp 8053 -> 10.1.0.1:53", "tcp 8080 -> 10.1.0.1:80"]);
        let after = with(&["udp 8053 -> 10.1.0.2:53"]);
        let gone = Flow {
            destination: Ipv4Addr::UNSPECIFIED,
            port: 8053,
            endpoint: Some(Ipv4Addr::new(10, 1, 0, 1)),
        };
        assert_eq!(stale_flows(&before, &after), [gone]);
    }
}
