//! The text that turns the rules that are there into the rules that are wanted.
//!
//! Like an editor's mark-up on a printed page: only chains that differ are set anew, and what is
//! gone is struck out last, when nothing refers to it any more. `iptables-restore --noflush` takes
//! each table as one transaction: packets meet the old rules or the new, never half.

use std::fmt::Write as _;

use crate::kinds::rules::{Chains, RuleSet, Table};

/// The input for `iptables-restore --noflush` that makes `known` into `wanted`, both tables one
/// after the other; nothing where they are the same. Jumps in built-in chains are not part of it.
///
/// A chain that is named is emptied or made by its own line, so the text also holds where a chain
/// of `known` has vanished in the meantime. It does not where an unchanged chain has: then
/// `iptables-restore` refuses the table whole, and one must look what is there.
pub fn restore(known: &RuleSet, wanted: &RuleSet) -> Option<String> {
    let mut text = String::new();
    let none = Chains::new();
    for table in Table::ALL {
        let before = known.chains.get(&table).unwrap_or(&none);
        let after = wanted.chains.get(&table).unwrap_or(&none);
        write_table(&mut text, table, before, after);
    }
    (!text.is_empty()).then_some(text)
}

fn write_table(text: &mut String, table: Table, before: &Chains, after: &Chains) {
    let changed: Vec<(&String, &Vec<String>)> =
        after.iter().filter(|(chain, rules)| before.get(*chain) != Some(*rules)).collect();
    let gone: Vec<&String> = before.keys().filter(|chain| !after.contains_key(*chain)).collect();
    if changed.is_empty() && gone.is_empty() {
        return;
    }
    // Writing to a String cannot fail.
    let _ = writeln!(text, "*{table}");
    for chain in changed.iter().map(|(chain, _)| *chain).chain(gone.iter().copied()) {
        let _ = writeln!(text, ":{chain} - [0:0]");
    }
    for (chain, rules) in changed {
        for rule in rules {
            let _ = writeln!(text, "-A {chain} {rule}");
        }
    }
    for chain in gone {
        let _ = writeln!(text, "-X {chain}");
    }
    text.push_str("COMMIT\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    fn set(text: &[(&str, &[&str])]) -> RuleSet {
        let mut set = RuleSet::default();
        for (chain, rules) in text {
            set.chain(Table::Nat, chain);
            for rule in *rules {
                set.add(Table::Nat, chain, *rule);
            }
        }
        set
    }

    #[test]
    fn only_what_differs_is_written_and_what_is_gone_goes_last() {
        let known = set(&[("WDL-A", &["-j WDL-B"]), ("WDL-B", &["-j ACCEPT"]), ("WDL-C", &[])]);
        let wanted = set(&[("WDL-A", &["-j WDL-D"]), ("WDL-C", &[]), ("WDL-D", &["-j ACCEPT"])]);
        let expected = "*nat\n:WDL-A - [0:0]\n:WDL-D - [0:0]\n:WDL-B - [0:0]\n\
                        -A WDL-A -j WDL-D\n-A WDL-D -j ACCEPT\n-X WDL-B\nCOMMIT\n";
        assert_eq!(restore(&known, &wanted).as_deref(), Some(expected));
        assert_eq!(restore(&wanted, &wanted), None);
    }

    /// What `iptables-restore --noflush` does, as far as our text goes; the kernel's refusals are
    /// panics.
    fn apply(chains: &mut Chains, text: &str) {
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix(':') {
                let chain = rest.split(' ').next().expect("a name");
                chains.insert(chain.to_owned(), Vec::new());
            } else if let Some(rest) = line.strip_prefix("-A ") {
                let (chain, rule) = rest.split_once(' ').expect("a rule");
                chains.get_mut(chain).expect("the chain exists").push(rule.to_owned());
            } else if let Some(chain) = line.strip_prefix("-X ") {
                let target = format!("-j {chain}");
                let referred = chains.values().flatten().any(|rule| *rule == target);
                assert!(!referred, "{chain} is still referred to");
                assert_eq!(chains.remove(chain), Some(Vec::new()), "{chain} is not empty");
            } else if line == "COMMIT" {
                for target in chains.values().flatten() {
                    let target = target.strip_prefix("-j ").expect("a jump");
                    assert!(chains.contains_key(target), "{target} dangles");
                }
            }
        }
    }

    /// Up to eight chains; each refers only to later ones, so that none refers to itself.
    fn chains() -> impl Strategy<Value = Chains> {
        proptest::collection::btree_map(0..8_u8, proptest::collection::vec(0..8_u8, 0..4), 0..8)
            .prop_map(|map| {
                let name = |n: u8| format!("WDL-{n}");
                let rules = |chain: u8, targets: &[u8]| {
                    let later = targets.iter().filter(|t| **t > chain && map.contains_key(t));
                    later.map(|t| format!("-j {}", name(*t))).collect()
                };
                map.iter().map(|(n, targets)| (name(*n), rules(*n, targets))).collect()
            })
    }

    proptest! {
        #[test]
        fn any_rules_become_any_others(before in chains(), after in chains()) {
            let of = |chains: &Chains| RuleSet {
                chains: BTreeMap::from([(Table::Filter, chains.clone())]),
                jumps: Vec::new(),
            };
            let mut there = before.clone();
            if let Some(text) = restore(&of(&before), &of(&after)) {
                apply(&mut there, &text);
            }
            prop_assert_eq!(there, after);
        }
    }
}
