//! Domains: nodes that share the value of a label. Keys and values become numbers.

use std::collections::BTreeMap;

use super::Machine;

/// The domains of every label that somebody asks about.
#[derive(Debug, Default)]
pub(super) struct Topologies(Vec<(String, Topology)>);

/// The domains of one label.
#[derive(Debug, Default)]
pub(super) struct Topology {
    /// By node; none where the node lacks the label.
    of_node: Vec<Option<usize>>,
    /// How many there are.
    domains: usize,
}

impl Topologies {
    /// The number of the topology of this label.
    pub(super) fn number(&mut self, key: &str, machines: &[Machine]) -> usize {
        if let Some(known) = self.0.iter().position(|(known, _)| known == key) {
            return known;
        }
        let mut values: BTreeMap<&str, usize> = BTreeMap::new();
        let mut of_node = Vec::with_capacity(machines.len());
        for machine in machines {
            let value = machine.labels().get(key);
            of_node.push(value.map(|value| {
                let next = values.len();
                *values.entry(value).or_insert(next)
            }));
        }
        let domains = values.len();
        self.0.push((key.to_owned(), Topology { of_node, domains }));
        self.0.len() - 1
    }

    /// The domain of a node.
    pub(super) fn domain(&self, topology: usize, node: usize) -> Option<usize> {
        self.0[topology].1.of_node.get(node).copied().flatten()
    }

    /// Whether no two nodes share a domain.
    pub(super) fn is_one_each(&self, topology: usize) -> bool {
        let topology = &self.0[topology].1;
        topology.of_node.iter().flatten().count() == topology.domains
    }

    /// How many domains there are.
    pub(super) fn domains(&self, topology: usize) -> usize {
        self.0[topology].1.domains
    }
}
