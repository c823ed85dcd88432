//! All rules of one node, rendered whole.
//!
//! The `nat` table decides where a new connection goes (DNAT, at once) and whether the node's
//! address takes the place of its source (once for all, on the way out, by what conntrack knows of
//! the connection: never for what somebody else led). The `filter` table refuses what should have
//! been led somewhere and was not, and lets pods' packets pass a host that forwards nothing.
//! `chains.rs` has the picture.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;

use super::chains;
use super::input::{DNS_PORT, HostPort, Input, ServiceView};
use super::service::{self, Dispatch, MARK_MASQUERADE, MARK_OURS, REJECT_OTHERS, REJECT_TCP};
use super::tree::{self, AddressRule, Look, PortRule};
use crate::kinds::container::Protocol;
use crate::kinds::rules::{Jump, RuleSet, Table};
use crate::ports::links::GATEWAY;

/// Our entries in the built-in chains. They stand first, ahead of Docker's.
const JUMPS: [(Table, &str, &str); 6] = [
    (Table::Filter, "INPUT", chains::INPUT),
    (Table::Filter, "FORWARD", chains::FORWARD),
    (Table::Filter, "OUTPUT", chains::OUTPUT),
    (Table::Nat, "PREROUTING", chains::PREROUTING),
    (Table::Nat, "OUTPUT", chains::OUTPUT),
    (Table::Nat, "POSTROUTING", chains::POSTROUTING),
];

/// Addresses that never leave the machine.
const LOOPBACK: &str = "127.0.0.0/8";

/// Renders every rule of this node. The same input gives the same rules, in whatever order its
/// Services, pods and host ports stand.
pub fn rules(input: &Input) -> RuleSet {
    let (services, input) = (in_order(&input.services), &ordered(input));
    let mut set = RuleSet {
        jumps: JUMPS
            .map(|(table, chain, ours)| Jump { table, chain, rule: format!("-j {ours}") })
            .into(),
        ..RuleSet::default()
    };
    let mut dispatch = Dispatch::default();
    for view in services {
        service::render(view, input, &mut set, &mut dispatch);
    }
    dispatch.ports.extend(input.host_ports.iter().map(host_port));
    lead(input, &mut set, &mut dispatch);
    masquerade(input, &mut set);
    refuse(input, &mut set, &mut dispatch);
    guard_tunnel(input, &mut set);
    pass(input, &mut set, &dispatch);
    set
}

/// By name. Conflicts (two Services with one node port) are refused elsewhere; here the first name
/// wins, whatever the order they came in.
fn in_order(services: &[ServiceView]) -> Vec<&ServiceView> {
    let mut sorted: Vec<&ServiceView> = services.iter().collect();
    sorted.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
    sorted
}

/// Everything but the Services, which are many, in an order that says nothing, and with networks
/// as iptables writes them.
fn ordered(input: &Input) -> Input {
    let mut ordered = Input {
        node: input.node.clone(),
        node_ips: input.node_ips.clone(),
        pod_cidr: input.pod_cidr.map(canonical),
        cluster_cidrs: input.cluster_cidrs.iter().copied().map(canonical).collect(),
        service_cidr: canonical(input.service_cidr),
        services: Vec::new(),
        local_pods: input.local_pods.clone(),
        host_ports: input.host_ports.clone(),
        dns: input.dns,
        neighbours: input.neighbours.clone(),
        zones: input.zones.clone(),
        masquerade_egress: input.masquerade_egress,
        localhost_node_ports: input.localhost_node_ports,
    };
    ordered.local_pods.sort_unstable();
    ordered.local_pods.dedup();
    ordered.neighbours.near.sort_unstable();
    ordered.neighbours.near.dedup();
    if let Some(tunnel) = &mut ordered.neighbours.tunnel {
        tunnel.peers.sort_unstable();
        tunnel.peers.dedup();
        tunnel.doors.sort_unstable();
        tunnel.doors.dedup();
    }
    // A port at one address goes before the same port at all of them.
    ordered.host_ports.sort_by_key(|port| (port.host_ip.is_none(), port.clone()));
    if let Some(mine) = ordered.pod_cidr {
        let covers =
            |all: &Ipv4Network| all.contains(mine.network()) && all.prefix() <= mine.prefix();
        if !ordered.cluster_cidrs.iter().any(covers) {
            ordered.cluster_cidrs.push(mine);
        }
    }
    ordered.cluster_cidrs.sort_unstable();
    ordered.cluster_cidrs.dedup();
    ordered
}

/// Without bits of a host: `10.1.0.7/16` is written 10.1.0.0/16 by everybody else.
pub(super) fn canonical(network: Ipv4Network) -> Ipv4Network {
    Ipv4Network::new(network.network(), network.prefix()).unwrap_or(network)
}

fn host_port(port: &HostPort) -> PortRule {
    let word = port.protocol.lower();
    let address = match port.host_ip {
        Some(ip) if !ip.is_unspecified() => format!("-d {ip}/32 "),
        _ => String::new(),
    };
    PortRule {
        protocol: port.protocol,
        port: port.port,
        rule: format!(
            "{address}-p {word} -m {word} --dport {} -j DNAT --to-destination {}:{}",
            port.port, port.pod_ip, port.pod_port
        ),
    }
}

/// `nat`, before routing: where a new connection goes.
fn lead(input: &Input, set: &mut RuleSet, dispatch: &mut Dispatch) {
    if let Some(dns) = input.dns.filter(|dns| dns.port != DNS_PORT) {
        for word in ["udp", "tcp"] {
            set.add(
                Table::Nat,
                chains::SERVICES,
                format!(
                    "-d {0}/32 -p {word} -m {word} --dport {DNS_PORT} -j DNAT --to-destination {0}:{1}",
                    dns.address, dns.port
                ),
            );
        }
    }
    let addresses = std::mem::take(&mut dispatch.addresses);
    tree::by_address(set, Table::Nat, chains::SERVICES, Look::Destination, addresses);
    let ports = std::mem::take(&mut dispatch.ports);
    let any_port = !ports.is_empty();
    tree::by_port(set, Table::Nat, chains::LOCAL, ports);
    for (chain, loopback_too) in
        [(chains::PREROUTING, false), (chains::OUTPUT, input.localhost_node_ports)]
    {
        set.add(Table::Nat, chain, format!("-j {}", chains::SERVICES));
        if any_port {
            // By a link, a packet for 127.0.0.1 is never honest.
            let but = if loopback_too { String::new() } else { format!("! -d {LOOPBACK} ") };
            set.add(
                Table::Nat,
                chain,
                format!("{but}-m addrtype --dst-type LOCAL -j {}", chains::LOCAL),
            );
        }
    }
}

/// `nat`, after routing: who the connection seems to come from.
fn masquerade(input: &Input, set: &mut RuleSet) {
    let take_over = format!("-j {}", chains::MASQUERADE);
    // Also before there is any pod: a jump to a chain that does not exist is refused.
    set.chain(Table::Nat, chains::HAIRPIN);
    let mut add = |chain: &str, rule: String| set.add(Table::Nat, chain, rule);
    add(chains::POSTROUTING, format!("-m conntrack --ctstate DNAT -j {}", chains::DNATED));
    // What ends on this machine keeps its source: the answer comes by here anyway.
    add(chains::DNATED, "-o lo -j RETURN".into());
    if let Some(pods) = input.pod_cidr {
        let hairpin = chains::HAIRPIN;
        add(chains::DNATED, format!("-s {pods} -d {pods} -j {hairpin}"));
        for pod in &input.local_pods {
            add(hairpin, format!("-s {pod}/32 -d {pod}/32 {take_over}"));
        }
        // A host port reached at 127.0.0.1: no pod can answer to that.
        add(chains::DNATED, format!("-s {LOOPBACK} -d {pods} {take_over}"));
        // On a pod's link, MASQUERADE would choose the address of whichever device comes first, or
        // find none on a node without network: the source is written out.
        let source = input.node_ips.first().copied().unwrap_or(GATEWAY);
        let snat = format!("-d {pods} -j SNAT --to-source {source} --random-fully");
        add(chains::MASQUERADE, snat);
    }
    add(chains::DNATED, format!("-m connmark --mark {MARK_MASQUERADE} {take_over}"));
    add(
        chains::DNATED,
        format!("-m conntrack --ctorigdst {} -j {}", input.service_cidr, chains::FOREIGN),
    );
    for pods in &input.cluster_cidrs {
        add(chains::FOREIGN, format!("-s {pods} -j RETURN"));
    }
    add(chains::FOREIGN, take_over);
    add(chains::MASQUERADE, "-j MASQUERADE --random-fully".into());
    if let Some(pods) = input.pod_cidr.filter(|_| input.masquerade_egress) {
        add(chains::POSTROUTING, format!("-s {pods} -j {}", chains::EGRESS));
        for inside in &input.cluster_cidrs {
            add(chains::EGRESS, format!("-d {inside} -j RETURN"));
        }
        add(chains::EGRESS, "-d 224.0.0.0/4 -j RETURN".into());
        let near = &input.neighbours.near;
        if !near.is_empty() {
            add(chains::EGRESS, format!("-j {}", chains::NODES));
        }
        add(chains::EGRESS, "-j MASQUERADE --random-fully".into());
        if !near.is_empty() {
            let keep = |ip: &Ipv4Addr| format!("-d {ip}/32 -j ACCEPT");
            let leaves = by_node(near, keep);
            tree::by_address(set, Table::Nat, chains::NODES, Look::ToNode, leaves);
        }
    }
}

fn by_node(nodes: &[Ipv4Addr], rule: impl Fn(&Ipv4Addr) -> String) -> Vec<AddressRule> {
    nodes.iter().map(|ip| AddressRule { address: *ip, rule: rule(ip) }).collect()
}

/// `filter`: only nodes of the fleet send into the tunnel. Whoever else could would be among the
/// pods, with whatever source address he likes. Their agents' ports are open to them, whatever the
/// host's policy, and to nobody else.
fn guard_tunnel(input: &Input, set: &mut RuleSet) {
    let Some(tunnel) = &input.neighbours.tunnel else { return };
    let doors = tunnel.doors.iter().copied();
    for (protocol, port) in std::iter::once((Protocol::Udp, tunnel.port)).chain(doors) {
        let word = protocol.lower();
        let rule = format!("-p {word} -m {word} --dport {port} -j {}", chains::TUNNEL);
        set.add(Table::Filter, chains::INPUT, rule);
    }
    let leaves = by_node(&tunnel.peers, |ip| format!("-s {ip}/32 -j ACCEPT"));
    tree::by_address(set, Table::Filter, chains::TUNNEL, Look::FromNode, leaves);
    set.add(Table::Filter, chains::TUNNEL, "-j DROP");
}

/// `filter`: what went to a Service and was led nowhere. Only first packets: a late packet of a
/// connection that was led somewhere must not be answered with a reset.
fn refuse(input: &Input, set: &mut RuleSet, dispatch: &mut Dispatch) {
    let addresses = std::mem::take(&mut dispatch.refused_addresses);
    tree::by_address(set, Table::Filter, chains::REFUSE, Look::Destination, addresses);
    let ports = std::mem::take(&mut dispatch.refused_ports);
    let mut add = |chain: &str, rule: String| set.add(Table::Filter, chain, rule);
    add(chains::REFUSE, format!("-d {} -j {}", input.service_cidr, chains::VACANT));
    if let Some(dns) = input.dns {
        add(chains::VACANT, format!("-d {}/32 -j RETURN", dns.address));
    }
    add(chains::VACANT, format!("-p tcp {REJECT_TCP}"));
    add(chains::VACANT, REJECT_OTHERS.into());
    if !ports.is_empty() {
        add(chains::REFUSE, format!("-m addrtype --dst-type LOCAL -j {}", chains::REFUSE_PORTS));
        tree::by_port(set, Table::Filter, chains::REFUSE_PORTS, ports);
    }
}

/// `filter`: what passes although the host's policy may be to drop. It passes for good: rules that
/// others keep behind ours (`DOCKER-USER`) are not asked about pods.
fn pass(input: &Input, set: &mut RuleSet, dispatch: &Dispatch) {
    let new_ones = format!("-m conntrack --ctstate NEW -j {}", chains::REFUSE);
    let mut add = |chain: &str, rule: String| set.add(Table::Filter, chain, rule);
    let stray = "-m conntrack --ctstate INVALID -j DROP";

    // INPUT: names, our Services on the node itself, answers of pods to the node.
    if input.localhost_node_ports {
        let guard = "! -i lo -m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP";
        add(chains::INPUT, format!("-d {LOOPBACK} {guard}"));
    }
    add(chains::INPUT, new_ones.clone());
    if let Some(dns) = input.dns {
        let sources = input.cluster_cidrs.iter().map(|pods| format!("-s {pods}"));
        for from in sources.chain(["-i lo".to_owned()]) {
            for word in ["udp", "tcp"] {
                add(chains::INPUT, dns_accept(&from, dns.address, dns.port, word));
            }
        }
    }
    for ours in led_by_us(input.service_cidr) {
        add(chains::INPUT, format!("{ours} -j ACCEPT"));
    }
    for pods in &input.cluster_cidrs {
        let answers = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT";
        add(chains::INPUT, format!("-s {pods} {answers}"));
    }
    for port in &dispatch.health_ports {
        add(chains::INPUT, format!("-p tcp -m tcp --dport {port} -j ACCEPT"));
    }

    // FORWARD: a packet that belongs to no connection was not translated either, and its receiver
    // would answer it with a reset (kubernetes/kubernetes#74839).
    for pods in &input.cluster_cidrs {
        add(chains::FORWARD, format!("-s {pods} {stray}"));
        add(chains::FORWARD, format!("-d {pods} {stray}"));
    }
    add(chains::FORWARD, format!("-d {} {stray}", input.service_cidr));
    add(chains::FORWARD, new_ones.clone());
    for pods in &input.cluster_cidrs {
        add(chains::FORWARD, format!("-s {pods} -j ACCEPT"));
        add(chains::FORWARD, format!("-d {pods} -j ACCEPT"));
    }
    for ours in led_by_us(input.service_cidr) {
        add(chains::FORWARD, format!("{ours} -j ACCEPT"));
    }

    add(chains::OUTPUT, format!("-d {} {stray}", input.service_cidr));
    add(chains::OUTPUT, new_ones);
}

/// `-s` stands before `-d` and `-d` before `-i`, as `iptables-save` writes them.
fn dns_accept(from: &str, address: Ipv4Addr, port: u16, word: &str) -> String {
    let mut rule = match from.starts_with("-s") {
        true => format!("{from} -d {address}/32"),
        false => format!("-d {address}/32 {from}"),
    };
    // Writing to a String cannot fail.
    let _ = write!(rule, " -p {word} -m {word} --dport {port} -j ACCEPT");
    rule
}

/// The connections that we led, in both directions: to endpoints outside the pods' networks, and
/// on the node itself.
fn led_by_us(services: Ipv4Network) -> [String; 2] {
    [
        format!("-m conntrack --ctstate DNAT -m connmark --mark {MARK_OURS}"),
        format!("-m conntrack --ctstate DNAT --ctorigdst {services}"),
    ]
}
