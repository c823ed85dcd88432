//! A node's register: what it says of itself, of its pods, of what happened, and what people asked
//! of it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::codec::{StateFault, lines, read, record};
use super::records::{DrainOptions, Unknown};
use crate::kinds::binding::AppName;
use crate::kinds::name::{NodeName, PodKey, Uid};
use crate::kinds::node::NodeFacts;
use crate::kinds::status::{EventRecord, PodReport};
use crate::kinds::time::Wall;
use crate::ports::store::{Edit, Tree};

/// A node's register, decoded.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeReport {
    /// Of itself.
    pub facts: Arc<NodeFacts>,
    /// Of its pods, by uid.
    pub pods: Arc<BTreeMap<Uid, Arc<PodReport>>>,
    /// What happened, the newest last; bounded by [`super::EVENTS_MAX`].
    pub events: Arc<Vec<EventRecord>>,
    /// What people asked of its agent, until the coordinator has answered.
    pub requests: Arc<Vec<PersonRequest>>,
    /// Volumes whose data it removed because it was told to, until the coordinator has forgotten them.
    pub removed_volumes: Arc<BTreeSet<Uid>>,
    /// Paths of a later version, kept as they are.
    pub unknown: BTreeMap<String, Arc<[u8]>>,
}

/// Something a person asked for. The coordinator answers by its id.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PersonRequest {
    /// Unique.
    pub id: Uid,
    /// What.
    pub what: RequestKind,
    /// Who asked.
    pub by: String,
    /// When, by the node's clock.
    pub at: Wall,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What a person may ask for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum RequestKind {
    /// End a pod; its owner may make another.
    #[serde(rename_all = "camelCase")]
    DeletePod {
        /// Which.
        pod: PodKey,
        /// Which life of it; any where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        uid: Option<Uid>,
        /// How long it may take, in seconds; its own where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grace_s: Option<u32>,
    },
    /// End a pod as soon as its disruption budgets permit; it waits until then.
    #[serde(rename_all = "camelCase")]
    EvictPod {
        /// Which.
        pod: PodKey,
        /// Which life of it.
        uid: Uid,
        /// How long it may take, in seconds; its own where absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        grace_s: Option<u32>,
    },
    /// Keep new pods away from a node.
    Cordon {
        /// Which.
        node: NodeName,
    },
    /// Let new pods come again, and end no more.
    Uncordon {
        /// Which.
        node: NodeName,
    },
    /// Keep new pods away from a node, and end those that are there as budgets permit.
    Drain {
        /// Which.
        node: NodeName,
        /// Which pods go, and how.
        how: DrainOptions,
    },
    /// Take a node that is not heard of for dead: what was bound to it is replaced at once.
    Fence {
        /// Which.
        node: NodeName,
        /// Whether to delete it as well.
        forget: bool,
    },
    /// Take no newer revision of an app.
    Suspend {
        /// Which.
        app: AppName,
    },
    /// Take newer revisions again, also one that failed.
    Resume {
        /// Which.
        app: AppName,
    },
    /// Something of a later version: whoever knows it may carry it out.
    #[serde(untagged)]
    Later(serde_json::Value),
}

const FACTS: &str = "node.json";
const PODS: &str = "pods.json";
const EVENTS: &str = "events.json";
const REQUESTS: &str = "requests.json";
const REMOVED_VOLUMES: &str = "volumes.json";

impl NodeReport {
    /// Decodes a register.
    pub fn decode(tree: &Tree) -> Result<Self, StateFault> {
        let mut report = Self::default();
        for (path, bytes) in &*tree.files {
            match path.as_str() {
                FACTS => report.facts = Arc::new(read(path, bytes)?),
                PODS => {
                    let list: Vec<Arc<PodReport>> = read(path, bytes)?;
                    let by_uid = list.into_iter().map(|pod| (pod.uid.clone(), pod));
                    report.pods = Arc::new(by_uid.collect());
                }
                EVENTS => report.events = Arc::new(read(path, bytes)?),
                REQUESTS => report.requests = Arc::new(read(path, bytes)?),
                REMOVED_VOLUMES => report.removed_volumes = Arc::new(read(path, bytes)?),
                _ => {
                    report.unknown.insert(path.clone(), bytes.clone());
                }
            }
        }
        Ok(report)
    }

    /// What the nodes that don't read this register need of it: everything that packets, names and
    /// words to its agent follow from, and what a list of pods or nodes shows. Images, events,
    /// sentences and ids of containers stay where they are.
    #[must_use]
    pub fn brief(&self) -> Self {
        let facts = NodeFacts {
            images: Vec::new(),
            installation: String::new(),
            has_acted: false,
            knows: None,
            holds: None,
            epoch: 0,
            ..(*self.facts).clone()
        };
        let brief = |pod: &PodReport| PodReport {
            key: pod.key.clone(),
            uid: pod.uid.clone(),
            status: pod.status.brief(),
            ending: None,
            gone: pod.gone,
        };
        let pods = self.pods.iter().map(|(uid, pod)| (uid.clone(), Arc::new(brief(pod))));
        Self { facts: Arc::new(facts), pods: Arc::new(pods.collect()), ..Self::default() }
    }

    /// The edits that turn a register holding `self` into one holding `next`.
    pub fn edits_to(&self, next: &Self) -> Vec<Edit> {
        let mut edits = Vec::new();
        let mut put = |path: &str, content: Arc<[u8]>| {
            edits.push(Edit { path: path.into(), content: Some(content) });
        };
        if self.facts != next.facts {
            put(FACTS, record(&*next.facts));
        }
        if self.pods != next.pods {
            put(PODS, lines(next.pods.values().map(|pod| &**pod)));
        }
        if self.events != next.events {
            put(EVENTS, lines(next.events.iter()));
        }
        if self.requests != next.requests {
            put(REQUESTS, lines(next.requests.iter()));
        }
        if self.removed_volumes != next.removed_volumes {
            put(REMOVED_VOLUMES, lines(next.removed_volumes.iter()));
        }
        edits
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::name::Name;
    use crate::kinds::status::PodStatus;

    #[test]
    fn a_report_survives_the_store() {
        let key = PodKey::new(&Name::trusted("shop"), &Name::trusted("web"));
        let uid = Uid::trusted("u");
        let pod = PodReport {
            key: key.clone(),
            uid: uid.clone(),
            status: PodStatus::default(),
            ending: None,
            gone: false,
        };
        let request = PersonRequest {
            id: Uid::trusted("r"),
            what: RequestKind::DeletePod { pod: key, uid: None, grace_s: Some(0) },
            by: "root".into(),
            at: Wall::from_seconds(9),
            unknown: Unknown::new(),
        };
        let report = NodeReport {
            pods: Arc::new(BTreeMap::from([(uid, Arc::new(pod))])),
            requests: Arc::new(vec![request]),
            removed_volumes: Arc::new(BTreeSet::from([Uid::trusted("v")])),
            ..NodeReport::default()
        };
        let tree = Tree::default().with(&NodeReport::default().edits_to(&report));
        assert_eq!(NodeReport::decode(&tree).expect("decodes"), report);
        assert!(report.edits_to(&report.clone()).is_empty());
    }
}
