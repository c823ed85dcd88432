//! What must be the same on every node: as text, by the field of `agent.yaml`.
//!
//! Nodes that count differently, or give out addresses of different networks, quarrel in ways that
//! show late. So what must agree is compared before a node decides anything, as text in one form
//! only (`5m`, never `300s`), and without a word about what a field means: a version that knows more
//! fields compares those that both know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What must be the same on every node.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct FleetSettings {
    /// `fleet.version`: whoever changes a field for the whole fleet raises it.
    pub version: u64,
    /// Values by the field's path in `agent.yaml`.
    pub fields: BTreeMap<String, String>,
}

/// A field in which a node differs from its fleet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The field's path in `agent.yaml`.
    pub field: String,
    /// The node's value.
    pub own: String,
    /// The fleet's.
    pub fleet: String,
}

impl Difference {
    /// Says so of a node: `fleet.lease is 20s on n2 and 15s in the fleet`.
    pub fn told(&self, place: &str) -> String {
        let shown = |text: &str| if text.is_empty() { "\"\"".to_owned() } else { text.to_owned() };
        let (own, fleet) = (shown(&self.own), shown(&self.fleet));
        format!("{} is {own} {place} and {fleet} in the fleet", self.field)
    }
}

impl FleetSettings {
    /// Where a node that has these differs from its fleet.
    pub fn differences(&self, fleet: &Self) -> Vec<Difference> {
        let both = self.fields.iter().filter_map(|(field, own)| {
            let fleet = fleet.fields.get(field).filter(|fleet| *fleet != own)?;
            Some(Difference { field: field.clone(), own: own.clone(), fleet: fleet.clone() })
        });
        both.collect()
    }

    /// Whether a node that has these may decide for a fleet that has those. The version says who is
    /// ahead, not that anything differs.
    pub fn agree_with(&self, fleet: &Self) -> bool {
        let mut both =
            self.fields.iter().filter_map(|(field, own)| Some((own, fleet.fields.get(field)?)));
        both.all(|(own, fleet)| own == fleet)
    }

    /// These, with the fields that only the other knows.
    #[must_use]
    pub fn completed_by(&self, other: &Self) -> Self {
        let mut fields = other.fields.clone();
        fields.extend(self.fields.clone());
        Self { version: self.version, fields }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(version: u64, fields: &[(&str, &str)]) -> FleetSettings {
        let fields = fields.iter().map(|(field, value)| ((*field).into(), (*value).into()));
        FleetSettings { version, fields: fields.collect() }
    }

    #[test]
    fn only_fields_that_both_know_are_compared() {
        let fleet = settings(1, &[("fleet.lease", "15s"), ("desired.directory", "")]);
        for (own, expected) in [
            (settings(1, &[("fleet.lease", "15s"), ("desired.directory", "")]), None),
            (settings(7, &[("fleet.lease", "15s"), ("later", "x")]), None),
            (settings(1, &[]), None),
            (
                settings(1, &[("fleet.lease", "20s")]),
                Some("fleet.lease is 20s here and 15s in the fleet"),
            ),
            (
                settings(1, &[("desired.directory", "shop")]),
                Some("desired.directory is shop here and \"\" in the fleet"),
            ),
        ] {
            let said: Vec<String> =
                own.differences(&fleet).iter().map(|found| found.told("here")).collect();
            assert_eq!(said.first().map(String::as_str), expected, "{own:?}");
            assert_eq!(own.agree_with(&fleet), expected.is_none());
        }
    }

    #[test]
    fn fields_of_another_version_are_kept() {
        let ours = settings(2, &[("a", "1")]);
        let theirs = settings(1, &[("a", "0"), ("b", "2")]);
        assert_eq!(ours.completed_by(&theirs), settings(2, &[("a", "1"), ("b", "2")]));
    }
}
