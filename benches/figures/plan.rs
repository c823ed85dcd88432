//! What planning costs.
//!
//! 10,000 pods onto 5,000 nodes, with default features and with pod anti-affinity and topology spread;
//! then room made for 500 pods on 1,000 nodes full of lesser ones, and one turn in which one
//! Deployment of 1,000 has changed: alone, and in a fleet of 10,000 pods of all kinds. One core:
//! planning has one thread.
//! kube-scheduler looks at a tenth of the nodes for each pod; this looks at all.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use windlass::kinds::binding::{DEFAULT_APP, Oid};
use windlass::kinds::digest::Digest;
use windlass::kinds::name::{Name, NodeName};
use windlass::kinds::node::NodeFacts;
use windlass::kinds::quantity::Quantity;
use windlass::kinds::status::{CONDITION_READY, Phase, PodCondition, PodReport, PodStatus, Truth};
use windlass::kinds::time::{Elapsed, Now, Wall};
use windlass::plan::{
    AppInput, Input, Library, Memory, NodeInput, Revision, Settings, Terms, plan,
};
use windlass::ports::source::{CommitInfo, Relation};
use windlass::sim::{self, Files};
use windlass::state::State;

use crate::row::Row;

const ROUNDS: u32 = 3;

fn quantity(text: &str) -> Quantity {
    Quantity::parse(text).expect("a quantity")
}

fn nodes(count: u32) -> BTreeMap<NodeName, NodeInput> {
    let node = |n: u32| {
        let name = format!("node-{n:04}");
        let resources: BTreeMap<String, Quantity> =
            [("cpu", "8"), ("memory", "32Gi"), ("pods", "110")]
                .into_iter()
                .map(|(name, amount)| (name.to_owned(), quantity(amount)))
                .collect();
        let labels = [
            ("kubernetes.io/hostname", name.clone()),
            ("topology.kubernetes.io/zone", format!("zone-{}", n % 10)),
        ];
        let facts = NodeFacts {
            hostname: name.clone(),
            capacity: resources.clone(),
            allocatable: resources,
            labels: labels.into_iter().map(|(key, value)| (key.to_owned(), value)).collect(),
            ..NodeFacts::default()
        };
        let input = NodeInput { facts: Arc::new(facts), is_ready: true, ..NodeInput::default() };
        (NodeName::trusted(&name), input)
    };
    (0..count).map(node).collect()
}

pub(crate) fn manifests(
    deployments: u32,
    replicas: u32,
    more: &str,
    changed: Option<u32>,
) -> Files {
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
    let mut files = Files::from([("namespace.yaml".to_owned(), namespace.to_owned())]);
    for n in 0..deployments {
        let version = if changed == Some(n) { 2 } else { 1 };
        let mut text = format!(
            "apiVersion: apps/v1
kind: Deployment
metadata: {{name: web-{n}, namespace: shop}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web-{n}}}}}
  template:
    metadata: {{labels: {{app: web-{n}}}}}
    spec:
      containers:
        - name: web
          image: registry.example.com/web:{version}
          resources: {{requests: {{cpu: 100m, memory: 128Mi}}}}
"
        );
        for line in more.lines() {
            let _ = writeln!(text, "      {}", line.replace("NAME", &format!("web-{n}")));
        }
        files.insert(format!("web-{n}.yaml"), text);
    }
    files
}

fn revision(number: u32, files: &Files, since: Option<Oid>) -> Arc<Revision> {
    let (desired, findings) = sim::read(files);
    assert!(findings.iter().all(|finding| !finding.is_error()), "{}", findings[0]);
    let commit = CommitInfo {
        id: Oid::new(&Digest::of(&number.to_be_bytes()).hex()[..40]),
        author: "A. Developer <dev@example.com>".into(),
        time: Wall::from_seconds(1_700_000_000),
        message: "a change".into(),
    };
    Arc::new(Revision {
        commits: Arc::new([commit.clone()]),
        commit,
        tree: Some(Oid::new(&Digest::of(b"tree").hex()[..40])),
        origin: "main:".into(),
        relation: if since.is_some() { Relation::Descends } else { Relation::First },
        since,
        signer: None,
        desired: Arc::new(desired),
        findings: findings.into(),
        terms: Terms::default(),
        waves: None,
    })
}

fn input(nodes: BTreeMap<NodeName, NodeInput>, revision: Arc<Revision>) -> Input {
    let network = |text: &str| text.parse().expect("a network");
    Input {
        me: NodeName::trusted("node-0000"),
        incarnation: "bench".into(),
        lease_s: 15,
        takes_lease: false,
        fleet: Arc::default(),
        writes_anew: false,
        folds_above: 50,
        not_ready_after: std::time::Duration::from_secs(40),
        settings: Arc::new(Settings {
            pod_network: network("10.0.0.0/8"),
            node_prefix: 24,
            service_network: network("192.168.0.0/16"),
            dns_ip: "192.168.0.10".parse().expect("an address"),
            node_ports: (30000, 32767),
            follows_rewrites: false,
            eviction_s: 300,
        }),
        state: State::default(),
        apps: BTreeMap::from([(
            Name::trusted(DEFAULT_APP),
            AppInput { candidate: Some(revision), ..AppInput::default() },
        )]),
        nodes,
        library: Library::default(),
    }
}

fn now(seconds: u64) -> Now {
    Now {
        elapsed: Elapsed::new(Duration::from_secs(1000 + seconds)),
        wall: Wall::from_seconds(1_700_000_000 + i64::try_from(seconds).unwrap_or_default()),
    }
}

/// Plans until nothing is left to do; how long that took, how many turns, and the state.
fn settle(input: &mut Input, memory: &mut Memory, at: u64) -> (Duration, u32) {
    let mut took = Duration::ZERO;
    for turn in 1..=100 {
        let began = Instant::now();
        let plan = plan(input, memory, now(at));
        took += began.elapsed();
        let is_done = plan.next == input.state && !plan.is_unfinished;
        input.state = plan.next;
        let app = input.apps.get_mut(DEFAULT_APP).expect("the app");
        if let Some(candidate) = app.candidate.take() {
            app.applied = Some(candidate);
        }
        if is_done {
            return (took, turn);
        }
    }
    panic!("never settled");
}

/// Lets every pod be ready where it is.
fn all_ready(input: &mut Input) {
    let condition = PodCondition {
        kind: CONDITION_READY.into(),
        status: Truth::from(true),
        last_transition_time: None,
        reason: None,
        message: None,
    };
    let mut reports: BTreeMap<NodeName, BTreeMap<_, _>> = BTreeMap::new();
    for (node, binding) in input.state.all_pods() {
        let status = PodStatus {
            phase: Phase::Running,
            conditions: vec![condition.clone()],
            ..PodStatus::default()
        };
        let (key, uid) = (binding.key.clone(), binding.uid.clone());
        let uid_of = uid.clone();
        let report = PodReport { key, uid, status, ending: None, gone: false };
        let node = node.clone().expect("every pod has a node");
        reports.entry(node).or_default().insert(uid_of, Arc::new(report));
    }
    for (node, pods) in reports {
        if let Some(input) = input.nodes.get_mut(&node) {
            input.pods = Arc::new(pods);
        }
    }
}

const SPREAD: &str = "affinity:
  podAntiAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector: {matchLabels: {app: NAME}}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: DoNotSchedule
    labelSelector: {matchLabels: {app: NAME}}
";

/// 500 pods come to 1,000 nodes that are full of 10,000 lesser ones.
fn make_room() -> Row {
    let full = |files: &mut Files| {
        for text in files.values_mut() {
            *text = text.replace("cpu: 100m", "cpu: 800m");
        }
    };
    let mut files = manifests(1000, 10, "", None);
    full(&mut files);
    let first = revision(1, &files, None);
    let mut fleet = input(nodes(1000), first.clone());
    let mut memory = Memory::default();
    settle(&mut fleet, &mut memory, 0);
    all_ready(&mut fleet);
    settle(&mut fleet, &mut memory, 60);
    let class = "apiVersion: scheduling.k8s.io/v1\nkind: PriorityClass\nmetadata: {name: high}\nvalue: \
                 1000\n---\n";
    let mut urgent = manifests(1, 500, "priorityClassName: high", None);
    full(&mut urgent);
    let urgent = urgent["web-0.yaml"].replace("web-0", "urgent");
    files.insert("urgent.yaml".to_owned(), format!("{class}{urgent}"));
    let app = fleet.apps.get_mut(DEFAULT_APP).expect("the app");
    app.candidate = Some(revision(2, &files, Some(first.commit.id.clone())));
    let (took, turns) = settle(&mut fleet, &mut memory, 120);
    let waiting = fleet.state.all_pods().filter(|(_, pod)| pod.nominated.is_some()).count();
    assert_eq!(waiting, 500);
    let what = format!("room for 500 pods on 1,000 full nodes, {turns} turns");
    Row::time(what, took, 5.0)
}

/// A fleet of 1,000 nodes: 1,000 Deployments with 7 pods each, 200 StatefulSets with 10, 500 Jobs with 2.
fn every_kind(changed: Option<u32>) -> Files {
    let mut files = manifests(1000, 7, "", changed);
    let template = |name: &str, more: &str| {
        format!(
            "template: {{metadata: {{labels: {{app: {name}}}}}, spec: {{{more}containers: [{{name: main, \
             image: \"registry.example.com/main:1\", resources: {{requests: {{cpu: 100m}}}}}}]}}}}"
        )
    };
    for n in 0..200 {
        let name = format!("db-{n}");
        let policy = if n % 2 == 0 { "Parallel" } else { "OrderedReady" };
        let fields = format!("replicas: 10, serviceName: {name}, podManagementPolicy: {policy}");
        let spec = format!(
            "{fields}, selector: {{matchLabels: {{app: {name}}}}}, {}",
            template(&name, "")
        );
        let head = "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {namespace: shop, name: ";
        files.insert(format!("{name}.yaml"), format!("{head}{name}}}\nspec: {{{spec}}}\n"));
    }
    for n in 0..500 {
        let name = format!("load-{n}");
        let template = template(&name, "restartPolicy: Never, ");
        let head = "apiVersion: batch/v1\nkind: Job\nmetadata: {namespace: shop, name: ";
        let spec = format!("completions: 2, parallelism: 2, {template}");
        files.insert(format!("{name}.yaml"), format!("{head}{name}}}\nspec: {{{spec}}}\n"));
    }
    files
}

/// One turn of a fleet that has 10,000 pods of every kind, after one thing has changed.
fn busy_fleet() -> Vec<Row> {
    let first = revision(1, &every_kind(None), None);
    let mut fleet = input(nodes(1000), first.clone());
    let mut memory = Memory::default();
    // Ordered sets get one pod after the other.
    let mut at = 0;
    while fleet.state.all_pods().count() < 10_000 {
        assert!(at < 3600, "only {} pods", fleet.state.all_pods().count());
        settle(&mut fleet, &mut memory, at);
        all_ready(&mut fleet);
        at += 60;
    }
    settle(&mut fleet, &mut memory, at);
    let second = revision(2, &every_kind(Some(500)), Some(first.commit.id.clone()));
    let measure = |what: &str, change: &dyn Fn(&mut Input)| {
        let mut best = Duration::MAX;
        for _ in 0..ROUNDS {
            let (mut fleet, mut memory) = (fleet.clone(), memory.clone());
            change(&mut fleet);
            let began = Instant::now();
            let plan = plan(&fleet, &mut memory, now(at + 60));
            best = best.min(began.elapsed());
            assert!(plan.next != fleet.state, "{what}: nothing was decided");
        }
        Row::time(format!("one turn, 10,000 pods of all kinds, {what}"), best, 0.05)
    };
    let commit = measure("one Deployment changed", &|fleet| {
        let app = fleet.apps.get_mut(DEFAULT_APP).expect("the app");
        app.candidate = Some(second.clone());
    });
    let failure = measure("one pod has failed", &|fleet| {
        let node = fleet.nodes.values_mut().find(|node| !node.pods.is_empty()).expect("a node");
        let pods = Arc::make_mut(&mut node.pods);
        let report = pods.values_mut().next().expect("a pod");
        Arc::make_mut(report).status.phase = Phase::Failed;
    });
    vec![commit, failure]
}

/// All of it.
pub(crate) fn rows() -> Vec<Row> {
    let mut rows = Vec::new();
    for (what, more, target_s, kubernetes) in [
        ("plan 10,000 pods onto 5,000 nodes", "", 1.5, "34.6 s"),
        ("the same, anti-affinity and spread", SPREAD, 6.0, ""),
    ] {
        let mut best = Duration::MAX;
        for _ in 0..ROUNDS {
            let files = manifests(1000, 10, more, None);
            let mut input = input(nodes(5000), revision(1, &files, None));
            let (took, turns) = settle(&mut input, &mut Memory::default(), 0);
            let placed = input.state.all_pods().filter(|(node, _)| node.is_some()).count();
            assert_eq!(placed, 10_000, "after {turns} turns");
            best = best.min(took);
        }
        rows.push(Row::time(what, best, target_s).kubernetes(kubernetes));
    }

    rows.push(make_room());

    let files = manifests(1000, 1, "", None);
    let first = revision(1, &files, None);
    let mut fleet = input(nodes(100), first.clone());
    let mut memory = Memory::default();
    settle(&mut fleet, &mut memory, 0);
    all_ready(&mut fleet);
    settle(&mut fleet, &mut memory, 60);
    let mut best = Duration::MAX;
    for _ in 0..ROUNDS {
        let (mut fleet, mut memory) = (fleet.clone(), memory.clone());
        let files = manifests(1000, 1, "", Some(500));
        let app = fleet.apps.get_mut(DEFAULT_APP).expect("the app");
        app.candidate = Some(revision(2, &files, Some(first.commit.id.clone())));
        let began = Instant::now();
        let plan = plan(&fleet, &mut memory, now(120));
        best = best.min(began.elapsed());
        assert!(plan.why.contains("web-500"), "{}", plan.why);
    }
    rows.push(Row::time("one turn, one Deployment of 1,000 changed", best, 0.05));
    rows.extend(busy_fleet());
    rows
}
