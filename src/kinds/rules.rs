//! Packet filter rules as values: rendered whole, compared whole, and written as one transaction.
//!
//! A rule is the text `iptables-restore` reads, without the chain's name. Keeping it as text makes
//! the comparison, the snapshot tests and the packet tracer look at the very thing the kernel gets.

use std::collections::BTreeMap;
use std::fmt;

/// The mark of our chains: everything else in a table is somebody else's.
pub const CHAIN_PREFIX: &str = "WDL-";

/// The tables we write to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Table {
    /// Whether a packet passes.
    Filter,
    /// Where a connection goes and who it seems to come from.
    Nat,
}

impl Table {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Filter, Self::Nat];

    /// As iptables writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Filter => "filter",
            Self::Nat => "nat",
        }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Our chains of one table, by name.
pub type Chains = BTreeMap<String, Vec<String>>;

/// Everything we want of the packet filter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuleSet {
    /// Our chains.
    pub chains: BTreeMap<Table, Chains>,
    /// What leads from a built-in chain into ours: (table, built-in chain, rule), to stand first.
    pub jumps: Vec<Jump>,
}

/// A rule in a built-in chain that leads into ours. It stands ahead of everything else there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Jump {
    /// The table.
    pub table: Table,
    /// The built-in chain: `INPUT`, `FORWARD`, `PREROUTING` …
    pub chain: &'static str,
    /// The rule's text.
    pub rule: String,
}

impl Table {
    /// Position in [`Table::ALL`]; tables are written in this order.
    pub fn index(self) -> usize {
        self as usize
    }
}

impl RuleSet {
    /// The chains of `table`, possibly none.
    pub fn chains(&self, table: Table) -> impl Iterator<Item = (&String, &Vec<String>)> {
        self.chains.get(&table).into_iter().flatten()
    }

    /// Appends `rule` to a chain, making the chain if it is new.
    pub fn add(&mut self, table: Table, chain: &str, rule: impl Into<String>) {
        self.chain(table, chain).push(rule.into());
    }

    /// The rules of a chain, which is made, empty, if it is new.
    pub fn chain(&mut self, table: Table, chain: &str) -> &mut Vec<String> {
        self.chains.entry(table).or_default().entry(chain.to_owned()).or_default()
    }

    /// How many rules there are, jumps included.
    pub fn rule_count(&self) -> usize {
        self.jumps.len()
            + self.chains.values().flat_map(BTreeMap::values).map(Vec::len).sum::<usize>()
    }
}
