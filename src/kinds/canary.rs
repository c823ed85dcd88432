//! A part that goes ahead: which pods of an app run a new template first, and for how long.
//!
//! The bird that miners took along: it breathes the new air before everybody else does.

use std::collections::BTreeSet;
use std::time::Duration;

use super::labels::Labels;
use super::name::NodeName;
use super::workload::Share;

/// What `canary` in `windlass.yaml` says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Canary {
    /// Which pods go ahead.
    pub ahead: Ahead,
    /// How long all of them must have been healthy before the rest follows; nothing is at once.
    pub hold: Duration,
}

/// Which pods of each workload go ahead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ahead {
    /// So many; percents round up.
    Share(Share),
    /// Those on these nodes.
    Nodes(BTreeSet<NodeName>),
    /// Those on nodes with these labels.
    Labelled(Labels),
}

impl Ahead {
    /// Whether a node is one of those that are asked for; none where any will do.
    pub fn picks(&self, node: &NodeName, labels: &Labels) -> Option<bool> {
        match self {
            Self::Share(_) => None,
            Self::Nodes(nodes) => Some(nodes.contains(node)),
            Self::Labelled(asked) => {
                Some(asked.iter().all(|(key, value)| labels.get(key) == Some(value)))
            }
        }
    }
}
