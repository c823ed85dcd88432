//! Dispatch without a queue: a packet finds its Service as a reader finds a word in a dictionary,
//! first by the thumb index, then by the page.
//!
//! iptables tries the rules of a chain one after the other. With one rule per Service in one chain a
//! packet meets thousands; here it meets some tens, behind rules for ever smaller networks (or
//! ranges of ports). The shape depends on the addresses alone, not on how many there are beside
//! them, so one Service more changes one or two chains.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;

use super::chains;
use crate::kinds::container::Protocol;
use crate::kinds::rules::{RuleSet, Table};

/// So many rules may stand in one chain before they are divided.
const RULES_MAX: usize = 32;

/// So many rules are not worth a chain of their own.
const INLINE_MAX: usize = 2;

/// How many bits of the address one level decides: 2^5 networks in a chain.
const BITS: u8 = 5;

/// How many ports are behind one rule where there are many.
const PORTS_PER_GROUP: u16 = 64;

/// What a tree of addresses looks at, and what its chains are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Where packets go: a Service.
    Destination,
    /// Where packets go: a node.
    ToNode,
    /// Where packets come from: a node.
    FromNode,
}

impl Look {
    fn flag(self) -> &'static str {
        match self {
            Self::Destination | Self::ToNode => "-d",
            Self::FromNode => "-s",
        }
    }

    fn chain(self, network: Ipv4Network) -> String {
        match self {
            Self::Destination => chains::by_address(network),
            Self::ToNode | Self::FromNode => chains::by_node(network),
        }
    }
}

/// A rule that only concerns packets to (or from) one address.
#[derive(Clone, Debug)]
pub(super) struct AddressRule {
    pub(super) address: Ipv4Addr,
    pub(super) rule: String,
}

/// A rule that only concerns packets to one port.
#[derive(Clone, Debug)]
pub(super) struct PortRule {
    pub(super) protocol: Protocol,
    pub(super) port: u16,
    pub(super) rule: String,
}

/// Puts `leaves` below the chain `root`. Those of one address keep their order.
pub(super) fn by_address(
    set: &mut RuleSet,
    table: Table,
    root: &str,
    look: Look,
    mut leaves: Vec<AddressRule>,
) {
    leaves.sort_by_key(|leaf| leaf.address);
    set.chain(table, root);
    divide(set, table, root, look, &mut leaves);
}

fn divide(set: &mut RuleSet, table: Table, chain: &str, look: Look, leaves: &mut [AddressRule]) {
    let (Some(first), Some(last)) = (leaves.first(), leaves.last()) else {
        return;
    };
    if leaves.len() <= RULES_MAX || first.address == last.address {
        return write(set, table, chain, leaves);
    }
    let prefix = prefix_below(first.address, last.address);
    let together =
        |a: &AddressRule, b: &AddressRule| cut(a.address, prefix) == cut(b.address, prefix);
    for group in leaves.chunk_by_mut(together) {
        let Some(network) = cut(group[0].address, prefix) else {
            continue;
        };
        if group.len() <= INLINE_MAX {
            write(set, table, chain, group);
        } else {
            let below = look.chain(network);
            set.add(table, chain, format!("{} {network} -j {below}", look.flag()));
            divide(set, table, &below, look, group);
        }
    }
}

fn write(set: &mut RuleSet, table: Table, chain: &str, leaves: &mut [AddressRule]) {
    let rules = leaves.iter_mut().map(|leaf| std::mem::take(&mut leaf.rule));
    set.chain(table, chain).extend(rules);
}

/// The length of the prefixes that tell `first` and `last` apart: one of 2, 7, 12, 17, 22, 27, 32,
/// the shortest that is longer than what both have in common.
fn prefix_below(first: Ipv4Addr, last: Ipv4Addr) -> u8 {
    let common = (u32::from(first) ^ u32::from(last)).leading_zeros();
    let left = 32 - u8::try_from(common.min(32)).unwrap_or(32);
    32 - (left.saturating_sub(1) / BITS) * BITS
}

fn cut(address: Ipv4Addr, prefix: u8) -> Option<Ipv4Network> {
    let network = Ipv4Network::new(address, prefix).ok()?;
    Ipv4Network::new(network.network(), prefix).ok()
}

/// Puts `leaves` below the chain `root`. Those of one port keep their order.
pub(super) fn by_port(set: &mut RuleSet, table: Table, root: &str, mut leaves: Vec<PortRule>) {
    leaves.sort_by_key(|leaf| (leaf.protocol, leaf.port));
    set.chain(table, root);
    if leaves.len() <= RULES_MAX {
        let rules = set.chain(table, root);
        rules.extend(leaves.into_iter().map(|leaf| leaf.rule));
        return;
    }
    let group_of = |leaf: &PortRule| (leaf.protocol, leaf.port / PORTS_PER_GROUP);
    for group in leaves.chunk_by_mut(|a, b| group_of(a) == group_of(b)) {
        let (protocol, number) = group_of(&group[0]);
        let first = number * PORTS_PER_GROUP;
        let last = first + (PORTS_PER_GROUP - 1);
        let below = chains::by_port(protocol, first);
        let word = protocol.lower();
        set.add(table, root, format!("-p {word} -m {word} --dport {first}:{last} -j {below}"));
        let rules = group.iter_mut().map(|leaf| std::mem::take(&mut leaf.rule));
        set.chain(table, &below).extend(rules);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn planted(addresses: impl Iterator<Item = u32>) -> RuleSet {
        let leaves = addresses
            .map(|n| AddressRule {
                address: n.into(),
                rule: format!("-d {}/32 -j X", Ipv4Addr::from(n)),
            })
            .collect();
        let mut set = RuleSet::default();
        by_address(&mut set, Table::Nat, "ROOT", Look::Destination, leaves);
        set
    }

    /// The number of rules a packet to `address` meets, and whether it meets its own.
    fn met(set: &RuleSet, address: Ipv4Addr) -> (usize, bool) {
        fn walk(set: &RuleSet, chain: &str, address: Ipv4Addr, met: &mut usize) -> bool {
            for rule in &set.chains[&Table::Nat][chain] {
                *met += 1;
                let words: Vec<&str> = rule.split(' ').collect();
                let network: Ipv4Network = words[1].parse().expect("a network");
                if network.contains(address)
                    && (words[3] == "X" || walk(set, words[3], address, met))
                {
                    return true;
                }
            }
            false
        }
        let mut count = 0;
        let found = walk(set, "ROOT", address, &mut count);
        (count, found)
    }

    #[test]
    fn a_packet_meets_tens_of_rules_among_thousands() {
        let base = u32::from(Ipv4Addr::new(10, 96, 0, 0));
        let in_a_row: Vec<u32> = (1..=5_000).map(|n| base + n).collect();
        let scattered: Vec<u32> = (0..5_000_u32)
            .map(|n| base + (n.wrapping_mul(2_654_435_761) >> 12))
            .collect::<BTreeSet<_>>()
            .into_iter()
            .collect();
        for (name, addresses) in [("in a row", in_a_row), ("scattered", scattered)] {
            let set = planted(addresses.iter().copied());
            let mut most = 0;
            for &address in &addresses {
                let (count, found) = met(&set, address.into());
                assert!(found, "{name}: {}", Ipv4Addr::from(address));
                most = most.max(count);
            }
            assert!(most <= 4 * RULES_MAX, "{name}: {most} rules");
            let extra = set.rule_count() - addresses.len();
            assert!(extra <= addresses.len() / 3, "{name}: {extra} rules of dispatch");
        }
    }

    #[test]
    fn one_service_more_changes_few_chains() {
        let base = u32::from(Ipv4Addr::new(10, 96, 0, 0));
        let before = planted((1..=3_000).map(|n| base + n));
        let after = planted((1..=3_001).map(|n| base + n));
        let changed = after.chains[&Table::Nat]
            .iter()
            .filter(|(name, rules)| before.chains[&Table::Nat].get(*name) != Some(rules))
            .count();
        assert!(changed <= 2, "{changed} chains changed");
    }

    #[test]
    fn one_address_with_many_ports_ends() {
        let set = planted(std::iter::repeat_n(7, 100));
        assert_eq!(set.rule_count(), 100);
    }

    #[test]
    fn ports_are_grouped_where_there_are_many() {
        let leaves = |ports: std::ops::RangeInclusive<u16>| {
            ports
                .map(|port| PortRule { protocol: Protocol::Tcp, port, rule: format!("{port}") })
                .collect::<Vec<_>>()
        };
        let mut few = RuleSet::default();
        by_port(&mut few, Table::Nat, "ROOT", leaves(30_000..=30_009));
        assert_eq!(few.chains[&Table::Nat].len(), 1);
        let mut all = RuleSet::default();
        by_port(&mut all, Table::Nat, "ROOT", leaves(30_000..=32_767));
        assert_eq!(all.chains[&Table::Nat]["ROOT"].len(), 44);
        let mut last = RuleSet::default();
        by_port(&mut last, Table::Nat, "ROOT", leaves(65_000..=65_535));
        assert!(last.chains[&Table::Nat]["ROOT"].last().expect("a rule").contains(":65535"));
    }
}
