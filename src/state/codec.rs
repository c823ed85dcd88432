//! From the register's tree to [`State`] and back, as edits of what differs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::jobs::{CronRecord, JobRecord};
use super::records::{DeploymentRecord, RevisionRecord, SetRecord, StatefulSetRecord};
use super::{AppState, FORMAT, LedgerShard, NodeReport, PodList, RecordKey, State};
use crate::kinds::binding::{Binding, Generation, Oid, Placement};
use crate::kinds::name::Name;
use crate::kinds::node::NodeFacts;
use crate::kinds::registry::KINDS;
use crate::kinds::status::PodReport;
use crate::ports::store::{Edit, Tree};

const TURN: &str = "turn.json";
const LEASE: &str = "lease.json";
const SETTINGS: &str = "settings.json";
const RESTORED: &str = "restored.json";
const EVENTS: &str = "events.json";
const ANSWERED: &str = "answered.json";
const NODES: &str = "alloc/nodes.json";
const VOLUMES: &str = "storage/volumes.json";
const UNPLACED: &str = "_unplaced";
const CLUSTER: &str = "_cluster";

/// A register that can't be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StateFault {
    /// A record is not what it should be.
    #[error("the state store's {path} can't be read: {why}")]
    Unreadable {
        /// Its path.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// It was written by a later version.
    #[error(
        "the state store has format {found}, this version reads up to {FORMAT}: upgrade this agent"
    )]
    TooNew {
        /// Its format.
        found: u32,
    },
}

/// The content of `turn.json`.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Turn {
    format: u32,
    #[serde(flatten)]
    generation: Generation,
    sequence: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tip: Option<Oid>,
}

pub(super) fn read<T: DeserializeOwned>(path: &str, bytes: &[u8]) -> Result<T, StateFault> {
    serde_json::from_slice(bytes)
        .map_err(|error| StateFault::Unreadable { path: path.to_owned(), why: error.to_string() })
}

/// JSON of one record, readable in a diff.
pub(super) fn record<T: Serialize>(value: &T) -> Arc<[u8]> {
    let mut bytes = serde_json::to_vec_pretty(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes.into()
}

/// A JSON list with one element to a line, so that a diff shows the elements that changed.
pub(super) fn lines<'a, T: Serialize + 'a>(values: impl IntoIterator<Item = &'a T>) -> Arc<[u8]> {
    let mut bytes = b"[".to_vec();
    for (at, value) in values.into_iter().enumerate() {
        bytes.extend_from_slice(if at == 0 { b"\n" } else { b",\n" });
        bytes.extend(serde_json::to_vec(value).unwrap_or_default());
    }
    bytes.extend_from_slice(b"\n]\n");
    bytes.into()
}

/// The content of `fold/<node>.json`.
#[derive(Serialize, Deserialize)]
struct Folded<N, P> {
    node: N,
    pods: P,
}

fn folded(report: &NodeReport) -> Arc<[u8]> {
    let pods: Vec<&PodReport> = report.pods.values().map(|pod| &**pod).collect();
    let mut bytes = serde_json::to_vec(&Folded { node: &*report.facts, pods }).unwrap_or_default();
    bytes.push(b'\n');
    bytes.into()
}

/// A ledger line: a name with its entry.
#[derive(Serialize, Deserialize)]
struct Named<T> {
    name: Name,
    #[serde(flatten)]
    value: T,
}

fn named_lines<T: Serialize + Clone>(entries: &BTreeMap<Name, T>) -> Arc<[u8]> {
    let named: Vec<Named<T>> = entries
        .iter()
        .map(|(name, value)| Named { name: name.clone(), value: value.clone() })
        .collect();
    lines(&named)
}

fn read_named<T: DeserializeOwned>(
    path: &str,
    bytes: &[u8],
) -> Result<BTreeMap<Name, T>, StateFault> {
    let list: Vec<Named<T>> = read(path, bytes)?;
    Ok(list.into_iter().map(|entry| (entry.name, entry.value)).collect())
}

impl State {
    /// Decodes a register. An empty tree is a new, empty state.
    pub fn decode(tree: &Tree) -> Result<Self, StateFault> {
        let mut state = Self::default();
        for (path, bytes) in &*tree.files {
            state.decode_file(path, bytes)?;
        }
        Ok(state)
    }

    /// Decodes a register of which another state is known: only the files that differ are read. A
    /// decision changes a few of the thousands of files of a large fleet.
    pub fn decode_after(known: (&Tree, &Self), tree: &Tree) -> Result<Self, StateFault> {
        let (known_tree, known) = known;
        let mut state = known.clone();
        for path in known_tree.files.keys().filter(|path| !tree.files.contains_key(*path)) {
            if !state.forget_file(path) {
                return Self::decode(tree);
            }
        }
        for (path, bytes) in &*tree.files {
            let is_known = |old: &Arc<[u8]>| Arc::ptr_eq(old, bytes) || old[..] == bytes[..];
            if !known_tree.files.get(path).is_some_and(is_known) {
                state.decode_file(path, bytes)?;
            }
        }
        Ok(state)
    }

    /// Takes away what a file said; false if that is not known.
    fn forget_file(&mut self, path: &str) -> bool {
        let parts = path.strip_suffix(".json").and_then(|path| path.split_once('/'));
        if path == RESTORED {
            return self.restored.take().is_some();
        }
        match parts {
            Some(("fold", node)) => self.fold.remove(node).is_some(),
            Some(("pods", UNPLACED)) => self.pods.remove(&None).is_some(),
            Some(("pods", node)) => self.pods.remove(&Some(Name::trusted(node))).is_some(),
            _ => false,
        }
    }

    fn decode_file(&mut self, path: &str, bytes: &Arc<[u8]>) -> Result<(), StateFault> {
        let parts: Vec<&str> = path.split('/').collect();
        let stem = |part: &str| Name::trusted(part.strip_suffix(".json").unwrap_or(part));
        match parts.as_slice() {
            [TURN] => {
                let turn: Turn = read(path, bytes)?;
                if turn.format > FORMAT {
                    return Err(StateFault::TooNew { found: turn.format });
                }
                self.generation = turn.generation;
                self.sequence = turn.sequence;
                self.tip = turn.tip;
            }
            [LEASE] => self.lease = Some(read(path, bytes)?),
            [SETTINGS] => self.settings = Some(Arc::new(read(path, bytes)?)),
            [RESTORED] => self.restored = Some(Arc::new(read(path, bytes)?)),
            [EVENTS] => self.events = Arc::new(read(path, bytes)?),
            [ANSWERED] => self.answered = Arc::new(read(path, bytes)?),
            ["alloc", "nodes.json"] => self.nodes = Arc::new(read_named(path, bytes)?),
            ["alloc", "services", file] => {
                self.services.insert(stem(file), Arc::new(read_named(path, bytes)?));
            }
            ["storage", "volumes.json"] => self.volumes = Arc::new(read_named(path, bytes)?),
            ["storage", "claims", file] => {
                self.claims.insert(stem(file), Arc::new(read_named(path, bytes)?));
            }
            ["fold", file] => {
                let folded: Folded<NodeFacts, Vec<Arc<PodReport>>> = read(path, bytes)?;
                let pods = folded.pods.into_iter().map(|pod| (pod.uid.clone(), pod)).collect();
                let report = NodeReport {
                    facts: Arc::new(folded.node),
                    pods: Arc::new(pods),
                    ..NodeReport::default()
                };
                self.fold.insert(stem(file), Arc::new(report));
            }
            ["pods", file] => {
                let list: Vec<Arc<Binding>> = read(path, bytes)?;
                let pods: PodList = list.into_iter().map(|pod| (pod.key.clone(), pod)).collect();
                let name = stem(file);
                let place: Placement = (name != *UNPLACED).then_some(name);
                self.pods.insert(place, Arc::new(pods));
            }
            ["apps", app, rest @ ..] => {
                let known = self.apps.entry(Name::trusted(app)).or_default();
                if !known.decode_file(path, rest, bytes)? {
                    self.unknown.insert(path.to_owned(), bytes.clone());
                }
            }
            _ => {
                self.unknown.insert(path.to_owned(), bytes.clone());
            }
        }
        Ok(())
    }

    /// The edits that turn a register holding `self` into one holding `next`.
    pub fn edits_to(&self, next: &Self) -> Vec<Edit> {
        let mut edits = Edits::default();
        let turn = |state: &Self| (state.generation, state.sequence, state.tip.clone());
        if turn(self) != turn(next) {
            let (generation, sequence, tip) = turn(next);
            edits.put(TURN, record(&Turn { format: FORMAT, generation, sequence, tip }));
        }
        if self.lease != next.lease {
            edits.set(LEASE, next.lease.as_ref().map(record));
        }
        if self.settings != next.settings {
            edits.set(SETTINGS, next.settings.as_ref().map(|settings| record(&**settings)));
        }
        if self.restored != next.restored {
            edits.set(RESTORED, next.restored.as_ref().map(|restored| record(&**restored)));
        }
        if !same(&self.events, &next.events) {
            edits.put(EVENTS, lines(next.events.iter()));
        }
        if !same(&self.answered, &next.answered) {
            edits.put(ANSWERED, record(&*next.answered));
        }
        if !same(&self.nodes, &next.nodes) {
            edits.put(NODES, named_lines(&next.nodes));
        }
        edits.maps(&self.services, &next.services, same, |namespace, entries| {
            (format!("alloc/services/{namespace}.json"), named_lines(entries))
        });
        if !same(&self.volumes, &next.volumes) {
            edits.put(VOLUMES, named_lines(&next.volumes));
        }
        edits.maps(&self.claims, &next.claims, same, |namespace, claims| {
            (format!("storage/claims/{namespace}.json"), named_lines(claims))
        });
        edits.maps(&self.fold, &next.fold, same, |node, report| {
            (format!("fold/{node}.json"), folded(report))
        });
        edits.maps(&self.pods, &next.pods, same, |place, pods| {
            (pods_path(place), lines(pods.values().map(|pod| &**pod)))
        });
        let apps: BTreeSet<&Name> = self.apps.keys().chain(next.apps.keys()).collect();
        let empty = AppState::default();
        for app in apps {
            let before = self.apps.get(app).unwrap_or(&empty);
            let after = next.apps.get(app).unwrap_or(&empty);
            before.edits_to(after, app, &mut edits);
            if self.apps.contains_key(app) && !next.apps.contains_key(app) {
                edits.set(format!("apps/{app}/head.json"), None);
            }
        }
        edits.list
    }
}

fn pods_path(place: &Placement) -> String {
    format!("pods/{}.json", place.as_ref().map_or(UNPLACED, Name::as_str))
}

/// Equal, by looking at the pointer first: most of a state is shared with the one before.
fn same<T: PartialEq>(one: &Arc<T>, other: &Arc<T>) -> bool {
    Arc::ptr_eq(one, other) || one == other
}

#[derive(Default)]
struct Edits {
    list: Vec<Edit>,
}

impl Edits {
    fn put(&mut self, path: impl Into<String>, content: Arc<[u8]>) {
        self.set(path, Some(content));
    }

    fn set(&mut self, path: impl Into<String>, content: Option<Arc<[u8]>>) {
        self.list.push(Edit { path: path.into(), content });
    }

    /// Adds what differs between two maps whose values are a file each; `file` names and writes it.
    fn maps<K: Ord, V>(
        &mut self,
        before: &BTreeMap<K, V>,
        after: &BTreeMap<K, V>,
        same: impl Fn(&V, &V) -> bool,
        file: impl Fn(&K, &V) -> (String, Arc<[u8]>),
    ) {
        for (key, value) in after {
            if !before.get(key).is_some_and(|old| same(old, value)) {
                let (path, content) = file(key, value);
                self.put(path, content);
            }
        }
        for (key, value) in before {
            if !after.contains_key(key) {
                self.set(file(key, value).0, None);
            }
        }
    }
}

impl AppState {
    /// Takes one file below `apps/<app>/`; false if this version does not know it.
    fn decode_file(
        &mut self,
        path: &str,
        parts: &[&str],
        bytes: &Arc<[u8]>,
    ) -> Result<bool, StateFault> {
        let stem = |part: &str| Name::trusted(part.strip_suffix(".json").unwrap_or(part));
        match parts {
            ["head.json"] => self.head = Arc::new(read(path, bytes)?),
            ["ledger", plural, file] => {
                let Some(info) = KINDS.iter().find(|info| info.plural == *plural) else {
                    return Ok(false);
                };
                let namespace = Some(stem(file)).filter(|name| *name != *CLUSTER);
                let shard = LedgerShard { kind: info.kind, namespace };
                self.ledger.insert(shard, Arc::new(read_named(path, bytes)?));
            }
            ["deployments", namespace, file] => {
                let key = RecordKey::new(&Name::trusted(namespace), &stem(file));
                self.deployments.insert(key, Arc::new(read::<DeploymentRecord>(path, bytes)?));
            }
            ["replicasets", namespace, file] => {
                let key = RecordKey::new(&Name::trusted(namespace), &stem(file));
                self.sets.insert(key, Arc::new(read::<SetRecord>(path, bytes)?));
            }
            ["statefulsets", namespace, file] => {
                let key = RecordKey::new(&Name::trusted(namespace), &stem(file));
                self.stateful_sets.insert(key, Arc::new(read::<StatefulSetRecord>(path, bytes)?));
            }
            ["controllerrevisions", namespace, file] => {
                let key = RecordKey::new(&Name::trusted(namespace), &stem(file));
                self.revisions.insert(key, Arc::new(read::<RevisionRecord>(path, bytes)?));
            }
            ["cronjobs", namespace, file] => {
                let key = RecordKey::new(&Name::trusted(namespace), &stem(file));
                self.cron_jobs.insert(key, Arc::new(read::<CronRecord>(path, bytes)?));
            }
            ["jobs", namespace, file] => {
                let key = RecordKey::new(&Name::trusted(namespace), &stem(file));
                self.jobs.insert(key, Arc::new(read::<JobRecord>(path, bytes)?));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn edits_to(&self, next: &Self, app: &Name, edits: &mut Edits) {
        if !same(&self.head, &next.head) && *next != Self::default() {
            edits.put(format!("apps/{app}/head.json"), record(&*next.head));
        }
        edits.maps(&self.ledger, &next.ledger, same, |shard, entries| {
            let namespace = shard.namespace.as_ref().map_or(CLUSTER, Name::as_str);
            let plural = shard.kind.plural();
            (format!("apps/{app}/ledger/{plural}/{namespace}.json"), named_lines(entries))
        });
        let path = |plural: &str, key: &RecordKey| {
            format!("apps/{app}/{plural}/{}/{}.json", key.namespace, key.name)
        };
        edits.maps(&self.deployments, &next.deployments, same, |key, value| {
            (path("deployments", key), record(&**value))
        });
        edits.maps(&self.sets, &next.sets, same, |key, value| {
            (path("replicasets", key), record(&**value))
        });
        edits.maps(&self.stateful_sets, &next.stateful_sets, same, |key, value| {
            (path("statefulsets", key), record(&**value))
        });
        edits.maps(&self.revisions, &next.revisions, same, |key, value| {
            (path("controllerrevisions", key), record(&**value))
        });
        edits.maps(&self.cron_jobs, &next.cron_jobs, same, |key, value| {
            (path("cronjobs", key), record(&**value))
        });
        edits
            .maps(&self.jobs, &next.jobs, same, |key, value| (path("jobs", key), record(&**value)));
    }
}

#[cfg(test)]
mod tests {
    use super::super::records::{LedgerEntry, NodeAllocation, ServiceAllocation};
    use super::*;
    use crate::kinds::binding::TemplateRef;
    use crate::kinds::digest::Digest;
    use crate::kinds::fleet::FleetSettings;
    use crate::kinds::labels::Labels;
    use crate::kinds::lease::Lease;
    use crate::kinds::name::{PodKey, Uid};
    use crate::kinds::object::Key;
    use crate::kinds::registry::Kind;
    use crate::kinds::time::Wall;

    fn name(text: &str) -> Name {
        Name::trusted(text)
    }

    fn template() -> TemplateRef {
        TemplateRef {
            app: name("default"),
            revision: Oid::new("0123456789abcdef"),
            path: "shop/web.yaml".into(),
            owner: Key::namespaced(Kind::Deployment, &name("shop"), &name("web")),
            meaning: Digest::of(b"template"),
            meaning_version: 1,
        }
    }

    fn full_state() -> State {
        let mut state = State {
            generation: Generation { epoch: 1, number: 7 },
            sequence: 3,
            tip: Some(Oid::new("0123456789abcdef")),
            lease: Some(Lease {
                holder: name("a"),
                incarnation: "x".into(),
                term: 1,
                duration_s: 15,
                acquired: Wall::from_seconds(1),
                released: false,
                unknown: BTreeMap::new(),
            }),
            settings: Some(Arc::new(FleetSettings {
                version: 2,
                fields: BTreeMap::from([("fleet.lease".into(), "15s".into())]),
            })),
            ..State::default()
        };
        let set = SetRecord {
            uid: Uid::trusted("s"),
            deployment: name("web"),
            template: template(),
            hash: "abc".into(),
            replicas: 2,
            revision: 1,
            earlier_revisions: vec![],
            desired: 2,
            max: 3,
            created: Wall::from_seconds(5),
            sequence: 1,
            unknown: BTreeMap::new(),
        };
        let binding = Binding {
            key: PodKey::new(&name("shop"), &name("web-abc-1")),
            uid: Uid::trusted("p"),
            template: template(),
            owner: Key::namespaced(Kind::ReplicaSet, &name("shop"), &name("web-abc")),
            labels: Labels::from([("pod-template-hash".into(), "abc".into())]),
            generation: Generation { epoch: 1, number: 7 },
            sequence: 2,
            created: Wall::from_seconds(5),
            deletion: None,
            message: None,
            nominated: None,
            index: None,
            only_node: None,
            limit_ranges: Vec::new(),
            unknown: BTreeMap::new(),
        };
        let entry = LedgerEntry {
            uid: Uid::trusted("d"),
            created: Wall::from_seconds(5),
            unknown: BTreeMap::new(),
        };
        let app = state.apps.entry(name("default")).or_default();
        let shard = LedgerShard { kind: Kind::Deployment, namespace: Some(name("shop")) };
        app.ledger.insert(shard, Arc::new(BTreeMap::from([(name("web"), entry.clone())])));
        let shard = LedgerShard { kind: Kind::Namespace, namespace: None };
        app.ledger.insert(shard, Arc::new(BTreeMap::from([(name("shop"), entry)])));
        app.sets.insert(PodKey::new(&name("shop"), &name("web-abc")), Arc::new(set));
        let revision = RevisionRecord {
            uid: Uid::trusted("r"),
            owner: Key::namespaced(Kind::StatefulSet, &name("shop"), &name("db")),
            template: template(),
            revision: 1,
            created: Wall::from_seconds(5),
            unknown: BTreeMap::new(),
        };
        app.revisions.insert(PodKey::new(&name("shop"), &name("db-abc")), Arc::new(revision));
        let set = StatefulSetRecord {
            current: name("db-abc"),
            update: name("db-abc"),
            unknown: BTreeMap::new(),
        };
        app.stateful_sets.insert(PodKey::new(&name("shop"), &name("db")), Arc::new(set));
        let minutes = vec![Wall::from_seconds(60)];
        let cron = CronRecord { minutes, ..CronRecord::default() };
        app.cron_jobs.insert(PodKey::new(&name("shop"), &name("tick")), Arc::new(cron));
        app.jobs.insert(PodKey::new(&name("shop"), &name("load")), Arc::new(JobRecord::default()));
        let pods = PodList::from([(binding.key.clone(), Arc::new(binding))]);
        state.pods.insert(None, Arc::new(pods.clone()));
        state.pods.insert(Some(name("a")), Arc::new(pods));
        let allocation = ServiceAllocation {
            cluster_ip: Some([10, 96, 0, 7].into()),
            node_ports: BTreeMap::from([("http".into(), 30080)]),
            ..ServiceAllocation::default()
        };
        state.services.insert(name("shop"), Arc::new(BTreeMap::from([(name("web"), allocation)])));
        let node = NodeAllocation::new(
            "10.244.0.0/24".parse().expect("a network"),
            Wall::from_seconds(0),
            Uid::trusted("n"),
        );
        state.nodes = Arc::new(BTreeMap::from([(name("a"), node)]));
        state
    }

    #[test]
    fn a_state_survives_the_store() {
        let state = full_state();
        let tree = Tree::default().with(&State::default().edits_to(&state));
        assert_eq!(State::decode(&tree).expect("decodes"), state);
        assert!(state.edits_to(&state.clone()).is_empty(), "no change, no edit");
    }

    #[test]
    fn what_is_decoded_after_another_state_is_what_is_decoded_alone() {
        let tree = |state: &State| Tree::default().with(&State::default().edits_to(state));
        let full = full_state();
        let mut less = full.clone();
        less.pods.pop_first();
        less.generation = less.generation.next();
        let report = NodeReport { facts: Arc::default(), ..NodeReport::default() };
        let mut folded = full.clone();
        folded.fold.insert(name("a"), Arc::new(report));
        let states = [State::default(), full, less, folded];
        for before in &states {
            for after in &states {
                let (known, wanted) = (tree(before), tree(after));
                let decoded = State::decode_after((&known, before), &wanted).expect("decodes");
                assert_eq!(decoded, *after);
            }
        }
    }

    #[test]
    fn going_back_to_nothing_removes_every_file() {
        let state = full_state();
        let tree = Tree::default().with(&State::default().edits_to(&state));
        let empty = State { generation: state.generation, ..State::default() };
        let left = tree.with(&state.edits_to(&empty));
        let paths: Vec<&String> = left.files.keys().collect();
        assert_eq!(
            paths,
            ["alloc/nodes.json", "events.json", "turn.json"]
                .iter()
                .filter(|path| left.files.contains_key(**path))
                .collect::<Vec<_>>()
        );
        assert_eq!(State::decode(&left).expect("decodes").pods, BTreeMap::new());
    }

    #[test]
    fn one_pod_changed_is_one_line_of_one_file() {
        let state = full_state();
        let mut next = state.clone();
        let place = Some(name("a"));
        let mut pods = PodList::clone(&next.pods[&place]);
        let mut second = Binding::clone(pods.values().next().expect("a pod"));
        second.key.name = name("web-abc-2");
        pods.insert(second.key.clone(), Arc::new(second));
        next.pods.insert(place, Arc::new(pods));
        let edits = state.edits_to(&next);
        let paths: Vec<&str> = edits.iter().map(|edit| edit.path.as_str()).collect();
        assert_eq!(paths, ["pods/a.json"]);
        let content = edits[0].content.as_ref().expect("content");
        assert_eq!(content.iter().filter(|byte| **byte == b'\n').count(), 4, "[, two pods, ]");
    }

    #[test]
    fn unknown_paths_are_kept_and_unreadable_ones_are_errors() {
        let state = full_state();
        let tree = Tree::default().with(&State::default().edits_to(&state));
        let put = |path: &str, content: &[u8]| {
            [Edit { path: path.into(), content: Some(content.into()) }]
        };
        let later = b"from the future";
        let tree = tree.with(&put("apps/default/gadgets/shop/x.json", later));
        let tree = tree.with(&put("gadgets.json", later));
        let decoded = State::decode(&tree).expect("decodes");
        assert_eq!(decoded.unknown.len(), 2);
        let after = tree.with(&decoded.edits_to(&State::default()));
        assert!(after.files.contains_key("gadgets.json"), "our edits leave it alone");

        let tree = tree.with(&put("pods/a.json", later));
        let fault = State::decode(&tree).expect_err("garbage is not an absence of pods");
        assert!(fault.to_string().contains("pods/a.json"), "{fault}");
    }

    #[test]
    fn a_later_format_is_refused() {
        let turn = br#"{"format":99,"epoch":1,"number":1,"sequence":0}"#;
        let tree = Tree::new(BTreeMap::from([(TURN.into(), turn.as_slice().into())]));
        assert_eq!(State::decode(&tree), Err(StateFault::TooNew { found: 99 }));
    }
}
