//! The rules of one port of one Service.
//!
//! One chain leads to any endpoint (`spread`), one to those of this node (`local`), one decides
//! between them for packets from outside (`external`). None is made that nothing leads to.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::chains::PortId;
use super::input::{Input, ServiceView};
use super::pick::{self, Target, Targets};
use super::rules;
use super::tree::{AddressRule, PortRule};
use crate::kinds::container::Protocol;
use crate::kinds::rules::{RuleSet, Table};
use crate::kinds::service::ServicePort;

/// On the connection: it was led here by us, by something else than a cluster address.
pub(super) const MARK_OURS: &str = "0x1000/0x1000";
/// On the connection: its source gives way to the node's address.
pub(super) const MARK_MASQUERADE: &str = "0x2000/0x2000";
/// Both.
const MARK_BOTH: &str = "0x3000/0x3000";

/// Most rules are no longer than this: their text is made in one piece.
const RULE_LEN: usize = 96;

/// The rules that lead to our chains, gathered from all Services and then put into trees.
#[derive(Default)]
pub(super) struct Dispatch {
    /// Services' addresses, to be led somewhere.
    pub(super) addresses: Vec<AddressRule>,
    /// Node ports and host ports, likewise.
    pub(super) ports: Vec<PortRule>,
    /// Services' addresses at which packets end.
    pub(super) refused_addresses: Vec<AddressRule>,
    /// Node ports at which packets end.
    pub(super) refused_ports: Vec<PortRule>,
    /// Ports at which load balancers ask for our endpoints.
    pub(super) health_ports: Vec<u16>,
}

/// Renders all ports of a Service into chains of `set` and entries of `dispatch`.
pub(super) fn render(
    view: &ServiceView,
    input: &Input,
    set: &mut RuleSet,
    dispatch: &mut Dispatch,
) {
    if !view.spec.reach.has_cluster_ip() {
        return;
    }
    let here = pick::Here { node: &input.node, zones: &input.zones };
    for (index, port) in view.spec.ports.iter().enumerate() {
        let service_port = Port {
            view,
            port,
            id: PortId::of(view, port),
            node_port: view.node_ports.get(index).copied().flatten(),
            targets: pick::targets(&view.endpoints, index, view.spec.traffic, &here),
        };
        service_port.render_internal(set, dispatch);
        service_port.render_external(input, set, dispatch);
    }
    if view.spec.external_local {
        dispatch.health_ports.extend(view.spec.health_check_node_port);
    }
}

struct Port<'a> {
    view: &'a ServiceView,
    port: &'a ServicePort,
    id: PortId,
    node_port: Option<u16>,
    targets: Targets,
}

/// What becomes of packets that are led nowhere.
#[derive(Clone, Copy)]
enum Refusal {
    /// Nobody in the fleet could answer: say so.
    Reject,
    /// Somebody could, but not here, or not for this source: be silent, as kube-proxy is.
    Drop,
}

impl Port<'_> {
    /// At the Service's own address.
    fn render_internal(&self, set: &mut RuleSet, dispatch: &mut Dispatch) {
        let Some(ip) = self.view.ip else { return };
        let chain = if self.view.spec.internal_local {
            self.local_chain(set)
        } else {
            self.spread_chain(set)
        };
        match chain {
            Some(chain) => dispatch.addresses.push(self.at(ip, &format!("-j {chain}"))),
            // With no endpoint anywhere the address is vacant, and refused with all vacant ones.
            None if self.targets.any => self.refuse_at(ip, Refusal::Drop, dispatch),
            None => {}
        }
    }

    /// At node ports, external addresses and the load balancer's.
    fn render_external(&self, input: &Input, set: &mut RuleSet, dispatch: &mut Dispatch) {
        let spec = &self.view.spec;
        let balanced = &self.view.load_balancer_ips;
        if self.node_port.is_none() && spec.external_ips.is_empty() && balanced.is_empty() {
            return;
        }
        let everywhere = || spec.external_ips.iter().chain(balanced).copied();
        if self.targets.any {
            let jump = format!("-j {}", self.external_chain(input, set));
            if let Some(port) = self.node_port {
                dispatch.ports.push(self.at_port(port, &jump));
            }
            let externals = spec.external_ips.iter();
            dispatch.addresses.extend(externals.map(|ip| self.at(*ip, &jump)));
            for ip in balanced {
                let way = self.firewall(*ip, input, set).map(|chain| format!("-j {chain}"));
                let way = way.as_ref().unwrap_or(&jump);
                dispatch.addresses.push(self.at(*ip, way));
            }
            if !spec.source_ranges.is_empty() {
                for ip in balanced {
                    self.refuse_at(*ip, Refusal::Drop, dispatch);
                }
            }
        }
        let refusal = match (self.targets.any, self.external_is_local()) {
            (false, _) => Refusal::Reject,
            (true, true) if self.targets.local.is_empty() => Refusal::Drop,
            (true, _) => return,
        };
        for ip in everywhere() {
            self.refuse_at(ip, refusal, dispatch);
        }
        if let Some(port) = self.node_port {
            let rule = refusal_rule(refusal, self.port.protocol);
            dispatch.refused_ports.push(self.at_port(port, rule));
        }
    }

    fn external_is_local(&self) -> bool {
        self.view.spec.external_local
    }

    /// Cluster policy: from anywhere to any endpoint, the source lost. Local policy: the source
    /// kept and only endpoints of this node, except for pods and the node itself, to whom the
    /// Service's outside is as good as its inside (behaviour 11).
    fn external_chain(&self, input: &Input, set: &mut RuleSet) -> String {
        let chain = self.id.external();
        let mut rules = Vec::new();
        let spread = self.spread_chain(set);
        if !self.external_is_local() {
            rules.push(format!("-j CONNMARK --set-xmark {MARK_BOTH}"));
            rules.extend(spread.map(|spread| format!("-j {spread}")));
        } else {
            rules.push(format!("-j CONNMARK --set-xmark {MARK_OURS}"));
            if let Some(spread) = spread {
                let pods = input.cluster_cidrs.iter();
                rules.extend(pods.map(|cidr| format!("-s {cidr} -j {spread}")));
                rules.push(format!(
                    "-m addrtype --src-type LOCAL -j CONNMARK --set-xmark {MARK_MASQUERADE}"
                ));
                rules.push(format!("-m addrtype --src-type LOCAL -j {spread}"));
            }
            rules.extend(self.local_chain(set).map(|local| format!("-j {local}")));
        }
        *set.chain(Table::Nat, &chain) = rules;
        chain
    }

    /// `loadBalancerSourceRanges`: who else comes falls through, and is dropped by the filter.
    fn firewall(&self, balanced: Ipv4Addr, input: &Input, set: &mut RuleSet) -> Option<String> {
        let ranges = &self.view.spec.source_ranges;
        if ranges.is_empty() {
            return None;
        }
        let (chain, external) = (self.id.firewall(), self.id.external());
        let mut rules: Vec<String> = ranges
            .iter()
            .map(|range| match range.prefix() {
                0 => format!("-j {external}"),
                _ => format!("-s {} -j {external}", rules::canonical(*range)),
            })
            .collect();
        // The node's own packets to such an address may carry that address as their source.
        let node_is_in = |ip: &Ipv4Addr| ranges.iter().any(|range| range.contains(*ip));
        if input.node_ips.iter().any(node_is_in) {
            rules.push(format!("-s {balanced}/32 -j {external}"));
        }
        let known = set.chain(Table::Nat, &chain);
        for rule in rules {
            if !known.contains(&rule) {
                known.push(rule);
            }
        }
        Some(chain)
    }

    fn spread_chain(&self, set: &mut RuleSet) -> Option<String> {
        self.dnat_chain(self.id.spread(), &self.targets.spread, set)
    }

    fn local_chain(&self, set: &mut RuleSet) -> Option<String> {
        self.dnat_chain(self.id.local(), &self.targets.local, set)
    }

    /// The chain that leads to `targets`, if there are any.
    fn dnat_chain(&self, chain: String, targets: &[Target], set: &mut RuleSet) -> Option<String> {
        if targets.is_empty() {
            return None;
        }
        let rules = set.chain(Table::Nat, &chain);
        if rules.is_empty() {
            *rules = self.dnats(targets);
        }
        Some(chain)
    }

    /// First those who have been here, then a fair draw among all: the first of n with 1/n, the
    /// next with 1/(n-1), the last always.
    fn dnats(&self, targets: &[Target]) -> Vec<String> {
        let affinity = self.view.spec.affinity;
        let again = affinity.map(came_within);
        let mut rules = Vec::with_capacity(targets.len() * 2);
        if let Some(again) = &again {
            for target in targets {
                rules.push(self.dnat(*target, 1, Some(again)));
            }
        }
        for (at, target) in targets.iter().enumerate() {
            let remember = affinity.map(|_| "--set");
            rules.push(self.dnat(*target, targets.len() - at, remember));
        }
        rules
    }

    /// Leads one in `left` packets to `target`, by way of the list of its clients if there is one.
    fn dnat(&self, (ip, port): Target, left: usize, list: Option<&str>) -> String {
        let mut rule = String::with_capacity(RULE_LEN);
        // Writing to a String cannot fail.
        let _ = write!(rule, "-p {}", self.port.protocol.lower());
        if left > 1 {
            let share = one_in(left);
            let _ = write!(rule, " -m statistic --mode random --probability {share}");
        }
        if let Some(what) = list {
            let name = self.id.clients_of(ip, port);
            let _ =
                write!(rule, " -m recent {what} --name {name} --mask 255.255.255.255 --rsource");
        }
        let _ = write!(rule, " -j DNAT --to-destination {ip}:{port}");
        rule
    }

    fn at(&self, address: Ipv4Addr, action: &str) -> AddressRule {
        let (word, port) = (self.port.protocol.lower(), self.port.port);
        let mut rule = String::with_capacity(RULE_LEN);
        // Writing to a String cannot fail.
        let _ = write!(rule, "-d {address}/32 -p {word} -m {word} --dport {port} {action}");
        AddressRule { address, rule }
    }

    fn at_port(&self, port: u16, action: &str) -> PortRule {
        let protocol = self.port.protocol;
        let word = protocol.lower();
        PortRule { protocol, port, rule: format!("-p {word} -m {word} --dport {port} {action}") }
    }

    fn refuse_at(&self, ip: Ipv4Addr, refusal: Refusal, dispatch: &mut Dispatch) {
        let rule = self.at(ip, refusal_rule(refusal, self.port.protocol));
        dispatch.refused_addresses.push(rule);
    }
}

/// One part in `left`, as `iptables-save` prints it: eleven digits of a number of 2^-31 parts, which
/// is how the kernel keeps it (`XT_STATISTIC_MODE_RANDOM`). What is read back is what was written.
fn one_in(left: usize) -> String {
    const ONE: u128 = 1 << 31;
    const DIGITS: u128 = 100_000_000_000;
    let left = left as u128;
    let parts = (ONE + left / 2) / left;
    let digits = (parts * DIGITS + ONE / 2) / ONE;
    format!("{}.{:011}", digits / DIGITS, digits % DIGITS)
}

/// `--update` matches who came within the time and counts the time anew; `--reap` forgets the rest.
fn came_within(timeout: Duration) -> String {
    format!("--update --seconds {} --reap", timeout.as_secs().max(1))
}

/// TCP gets a reset: it ends the attempt at once, and unlike ICMP is not held back by the kernel's
/// `icmp_ratelimit`.
pub(super) const REJECT_TCP: &str = "-j REJECT --reject-with tcp-reset";
/// What others get.
pub(super) const REJECT_OTHERS: &str = "-j REJECT --reject-with icmp-port-unreachable";

fn refusal_rule(refusal: Refusal, protocol: Protocol) -> &'static str {
    match (refusal, protocol) {
        (Refusal::Drop, _) => "-j DROP",
        (Refusal::Reject, Protocol::Tcp) => REJECT_TCP,
        (Refusal::Reject, Protocol::Udp | Protocol::Sctp) => REJECT_OTHERS,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_written_as_the_kernel_keeps_them() {
        for (left, text) in [
            (1, "1.00000000000"),
            (2, "0.50000000000"),
            (3, "0.33333333349"),
            (7, "0.14285714272"),
            (10, "0.10000000009"),
            (1000, "0.00100000016"),
        ] {
            assert_eq!(one_in(left), text);
        }
    }
}
