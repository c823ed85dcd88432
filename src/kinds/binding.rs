//! A pod that was given a name and perhaps a node: the line the coordinator writes and the node
//! reads.
//!
//! A binding is a reference, not a copy. It says which template of which revision the pod runs; the
//! node takes that template only from a revision it has fetched and verified itself. Whoever steals
//! a key to the state store can therefore move pods about, but run nothing that was not committed.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use super::digest::Digest;
use super::labels::Labels;
use super::name::{Name, NodeName, PodKey, Uid};
use super::object::Key;
use super::time::Wall;

/// The order of decisions: the epoch of the store, then the number of the coordinator's write in
/// it. An agent that has acted on one never acts on a lower one.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Generation {
    /// Raised only by a person or a commit, when a store was restored or made anew.
    pub epoch: u64,
    /// Raised by every write of a coordinator.
    pub number: u64,
}

impl Generation {
    /// The generation of the next write.
    #[must_use]
    pub fn next(self) -> Self {
        Self { epoch: self.epoch, number: self.number.saturating_add(1) }
    }

    /// The generation of the next write, under a new epoch: above any of an earlier one, also of those
    /// that nobody here knows.
    #[must_use]
    pub fn next_in(self, epoch: u64) -> Self {
        Self { epoch: self.epoch.max(epoch), ..self.next() }
    }

    /// The generation of a write that replaces a register that is gone: beyond any that may have
    /// been written to it without our knowledge.
    #[must_use]
    pub fn leap(self) -> Self {
        Self { epoch: self.epoch, number: self.number.saturating_add(1000) }
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch, self.number)
    }
}

/// A Git object id, as text: `ports` and rooms above carry it without knowing Git.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Oid(std::sync::Arc<str>);

impl Oid {
    /// Takes the hexadecimal text of an object id.
    pub fn new(hex: &str) -> Self {
        Self(hex.into())
    }

    /// All digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The first seven digits, as `git log --oneline` shows.
    pub fn short(&self) -> &str {
        &self.0[..self.0.len().min(7)]
    }
}

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.short())
    }
}

/// The name of an app: a part of the desired repository that is accepted or refused by itself.
pub type AppName = Name;

/// The app that holds everything where `windlass.yaml` names none.
pub const DEFAULT_APP: &str = "default";

/// Where a template, or a LimitRange, is written: enough to find it again in an old revision.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TemplateRef {
    /// The app.
    pub app: AppName,
    /// The commit.
    pub revision: Oid,
    /// The file that holds the owner, or the directory that renders it.
    pub path: String,
    /// The object in it: the Deployment, ReplicaSet, Pod or LimitRange as written.
    pub owner: Key,
    /// The digest of its meaning, as the coordinator saw it.
    pub meaning: Digest,
    /// Which version of our reading gave that digest: digests of two versions can't be compared,
    /// the templates themselves must be.
    #[serde(default)]
    pub meaning_version: u32,
}

/// A pod with a name, and with a node once it is placed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Binding {
    /// What it is called.
    #[serde(flatten)]
    pub key: PodKey,
    /// This life of it.
    pub uid: Uid,
    /// What it runs.
    pub template: TemplateRef,
    /// The object that owns it and decides its end: a ReplicaSet, or the Pod as written.
    pub owner: Key,
    /// Labels it has beside its template's: `pod-template-hash` and the like.
    #[serde(default, skip_serializing_if = "Labels::is_empty")]
    pub labels: Labels,
    /// The decision that made or last changed it.
    pub generation: Generation,
    /// The order in which pods were made; higher is newer.
    pub sequence: u64,
    /// When it was made, for people.
    pub created: Wall,
    /// When it is to end; absent while it is wanted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deletion: Option<Deletion>,
    /// Why it has no node, while it has none: what the scheduler says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The node on which others are being ended for it, while it waits for them
    /// (`status.nominatedNodeName`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nominated: Option<NodeName>,
    /// Its number among the pods of its owner: a StatefulSet's ordinal, an Indexed Job's completion
    /// index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u32>,
    /// The one node it is made for: a DaemonSet's pods.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub only_node: Option<NodeName>,
    /// The LimitRanges that gave its containers something when it was made, in the order in which they
    /// did: as with the template, only where each is written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub limit_ranges: Vec<TemplateRef>,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

impl Binding {
    /// What it is made of: where its template is written, and what it was given beside it.
    pub fn references(&self) -> impl Iterator<Item = &TemplateRef> {
        std::iter::once(&self.template).chain(&self.limit_ranges)
    }
}

/// The end of a pod, decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Deletion {
    /// How long it may take, in seconds.
    pub grace_s: u32,
    /// When it was decided, for people.
    pub since: Wall,
    /// Why, in one word, for events: `ScaledDown`, `NotInGit`, `Preempted` …
    pub reason: String,
}

/// A pod's place: its node, or none yet.
pub type Placement = Option<NodeName>;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::registry::Kind;

    #[test]
    fn a_generation_orders_by_epoch_first() {
        let old = Generation { epoch: 1, number: 99 };
        let restored = Generation { epoch: 2, number: 1 };
        assert!(old < restored && old < old.next());
    }

    #[test]
    fn a_binding_keeps_fields_of_a_later_version() {
        let owner = Key::namespaced(Kind::Pod, &Name::trusted("shop"), &Name::trusted("web"));
        let template = TemplateRef {
            app: Name::trusted(DEFAULT_APP),
            revision: Oid::new("abc"),
            path: "web.yaml".into(),
            owner: owner.clone(),
            meaning: Digest::of(b"x"),
            meaning_version: 1,
        };
        let mut binding = Binding {
            key: PodKey::new(&Name::trusted("shop"), &Name::trusted("web")),
            uid: Uid::trusted("u"),
            template: template.clone(),
            owner,
            labels: Labels::new(),
            generation: Generation { epoch: 1, number: 2 },
            sequence: 3,
            created: Wall::from_seconds(0),
            deletion: None,
            message: None,
            nominated: None,
            index: None,
            only_node: None,
            limit_ranges: Vec::new(),
            unknown: BTreeMap::new(),
        };
        let mut json = serde_json::to_value(&binding).expect("serializes");
        json["fromTheFuture"] = serde_json::json!({"x": 1});
        let read: Binding = serde_json::from_value(json.clone()).expect("parses");
        assert_eq!(serde_json::to_value(&read).expect("serializes"), json);
        // What an earlier version wrote has no LimitRanges, and says nothing of them.
        assert!(json.get("limitRanges").is_none());
        binding.limit_ranges.push(template);
        let json = serde_json::to_value(&binding).expect("serializes");
        assert_eq!(serde_json::from_value::<Binding>(json).expect("parses"), binding);
    }
}
