//! DaemonSets: which nodes have a pod, and how the next template comes to them.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/daemonset/>.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::fleet::pod_key;
use super::liveness::hear;
use super::requests::request;
use super::{Fleet, Mood, daemon_set, manifest};
use crate::kinds::labels::Labels;
use crate::kinds::name::NodeName;
use crate::kinds::node::NodeFacts;
use crate::kinds::quantity::Quantity;
use crate::plan::NodeInput;
use crate::state::RequestKind;
use crate::state::records::DrainOptions;

/// A node joins, with these labels and this much CPU.
fn join(fleet: &mut Fleet, name: &str, labels: &[(&str, &str)], cpu: &str) {
    let labels = labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
    let cpu = Quantity::parse(cpu).expect("an amount");
    let facts = NodeFacts {
        labels: labels.collect::<Labels>(),
        allocatable: BTreeMap::from([("cpu".to_owned(), cpu)]),
        ..NodeFacts::default()
    };
    let input = NodeInput { is_ready: true, facts: Arc::new(facts), ..NodeInput::default() };
    fleet.input.nodes.insert(NodeName::trusted(name), input);
    hear(fleet, &[name], 0);
}

/// Nodes a, b and c, and what was pushed has settled.
fn fleet(manifests: &str) -> Fleet {
    let mut fleet = Fleet::new();
    for name in ["a", "b", "c"] {
        join(&mut fleet, name, &[("disk", if name == "c" { "slow" } else { "fast" })], "1");
    }
    fleet.push(manifests);
    fleet.settle_everywhere();
    fleet
}

fn settled(fleet: &mut Fleet) -> String {
    fleet.settle_everywhere();
    fleet.lamps("log")
}

/// How a DaemonSet's pods were after each turn that changed them.
fn steps(fleet: &mut Fleet) -> Vec<String> {
    let mut steps = vec![fleet.lamps("log")];
    for _ in 0..60 {
        fleet.turn();
        let step = fleet.lamps("log");
        if steps.last() != Some(&step) {
            steps.push(step);
        }
        fleet.work_everywhere();
        fleet.pass(1);
    }
    steps
}

fn node(name: &str, spec: &str, labels: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {name}, labels: {{{labels}}}}}\n\
         spec: {{{spec}}}\n"
    )
}

/// Each line: what the pods ask for, what is said of the nodes, and which nodes have a pod.
#[test]
fn a_pod_is_where_the_template_allows_it() {
    let taint = |effect: &str| format!("taints: [{{key: gpu, effect: {effect}}}]");
    let tolerates = "tolerations: [{key: gpu, operator: Exists}],";
    let table: &[(&str, &str, String, &str)] = &[
        ("everywhere", "", String::new(), "a:v1 b:v1 c:v1"),
        ("by label", "nodeSelector: {disk: fast},", String::new(), "a:v1 b:v1"),
        (
            "by a label of the operator's",
            "nodeSelector: {disk: fast},",
            node("c", "", "disk: fast"),
            "a:v1 b:v1 c:v1",
        ),
        ("on one node", "nodeName: b,", String::new(), "b:v1"),
        ("not where a taint forbids it", "", node("b", &taint("NoSchedule"), ""), "a:v1 c:v1"),
        ("unless it is borne", tolerates, node("b", &taint("NoExecute"), ""), "a:v1 b:v1 c:v1"),
        (
            "disliked is not forbidden",
            "",
            node("b", &taint("PreferNoSchedule"), ""),
            "a:v1 b:v1 c:v1",
        ),
        ("on a cordoned node too", "", node("b", "unschedulable: true", ""), "a:v1 b:v1 c:v1"),
    ];
    for (what, pod, nodes, lamps) in table {
        let mut fleet = fleet(&format!("{}{nodes}", daemon_set("log", "v1", "", pod)));
        assert_eq!(settled(&mut fleet), *lamps, "{what}");
    }
}

#[test]
fn pods_follow_nodes_that_join_and_labels_that_change() {
    let fast = daemon_set("log", "v1", "", "nodeSelector: {disk: fast},");
    let mut fleet = fleet(&fast);
    assert_eq!(settled(&mut fleet), "a:v1 b:v1");
    join(&mut fleet, "d", &[("disk", "fast")], "1");
    assert_eq!(settled(&mut fleet), "a:v1 b:v1 d:v1");
    fleet.push(&format!("{fast}{}", node("a", "", "disk: broken")));
    assert_eq!(settled(&mut fleet), "b:v1 d:v1", "what does not match leaves");
    let taint = |effect: &str| {
        let node = node("b", &format!("taints: [{{key: x, effect: {effect}}}]"), "");
        format!("{fast}{node}")
    };
    fleet.push(&taint("NoSchedule"));
    assert_eq!(settled(&mut fleet), "a:v1 b:v1 d:v1", "whoever is there stays");
    fleet.push(&taint("NoExecute"));
    assert_eq!(settled(&mut fleet), "a:v1 d:v1");
    fleet.push("");
    assert_eq!(settled(&mut fleet), "");
    assert!(fleet.state().revisions.is_empty());
}

/// A full node is no reason to have none: the pod waits for its node, and for no other.
#[test]
fn a_pod_that_finds_no_room_waits_for_its_own_node() {
    let big = "containers: [{name: main, image: v1, resources: {requests: {cpu: 900m}}}]";
    let hog = manifest("v1", "Pod", "hog", &format!("spec: {{nodeName: b, {big}}}"));
    let small = daemon_set("log", "v1", "", "")
        .replace("image: \"v1\"", "image: \"v1\", resources: {requests: {cpu: 500m}}");
    let mut fleet = fleet(&hog);
    fleet.push(&format!("{hog}{small}"));
    assert_eq!(settled(&mut fleet), "a:v1 b:v1… c:v1");
    let waiting = fleet.bindings("log").into_iter().find(|pod| pod.message.is_some());
    assert_eq!(
        waiting.and_then(|pod| pod.message.clone()).as_deref(),
        Some(
            "0/3 nodes are available: 1 Insufficient cpu, 2 node(s) didn't match Pod's node \
             affinity/selector. preemption: 0/3 nodes are available: 1 No preemption victims \
             found for incoming pod, 2 Preemption is not helpful for scheduling."
        )
    );
    fleet.push(&small);
    assert_eq!(settled(&mut fleet), "a:v1 b:v1 c:v1");
}

#[test]
fn the_next_template_comes_node_by_node() {
    let rolling = |bounds: &str| format!("updateStrategy: {{rollingUpdate: {{{bounds}}}}}");
    let table: &[(&str, String, &[&str])] = &[
        (
            "one at a time",
            String::new(),
            &[
                "a:v1 b:v1 c:v1",
                "a:v1! b:v1 c:v1",
                "a:v2? b:v1 c:v1",
                "a:v2 b:v1! c:v1",
                "a:v2 b:v2? c:v1",
                "a:v2 b:v2 c:v1!",
                "a:v2 b:v2 c:v2?",
                "a:v2 b:v2 c:v2",
            ],
        ),
        (
            "half of three is two",
            rolling("maxUnavailable: 50%"),
            &[
                "a:v1 b:v1 c:v1",
                "a:v1! b:v1! c:v1",
                "a:v2? b:v2? c:v1",
                "a:v2 b:v2 c:v1!",
                "a:v2 b:v2 c:v2?",
                "a:v2 b:v2 c:v2",
            ],
        ),
        (
            "the new one first",
            rolling("maxSurge: 1, maxUnavailable: 0"),
            &[
                "a:v1 b:v1 c:v1",
                "a:v1 a:v2? b:v1 c:v1",
                "a:v1! a:v2 b:v1 b:v2? c:v1",
                "a:v2 b:v1! b:v2 c:v1 c:v2?",
                "a:v2 b:v2 c:v1! c:v2",
                "a:v2 b:v2 c:v2",
            ],
        ),
        ("when a person says so", "updateStrategy: {type: OnDelete}".into(), &["a:v1 b:v1 c:v1"]),
    ];
    for (what, strategy, expected) in table {
        let mut fleet = fleet(&daemon_set("log", "v1", strategy, ""));
        fleet.push(&daemon_set("log", "v2", strategy, ""));
        assert_eq!(steps(&mut fleet), *expected, "{what}");
    }
}

#[test]
fn a_reverted_mistake_heals_and_returns_to_the_revision_it_left() {
    for strategy in ["", "updateStrategy: {rollingUpdate: {maxSurge: 1, maxUnavailable: 0}}"] {
        let mut fleet = fleet(&daemon_set("log", "v1", strategy, ""));
        let first = fleet.uids("log");
        fleet.push(&daemon_set("log", "bad", strategy, ""));
        let stuck = settled(&mut fleet);
        assert!(stuck == "a:bad? b:v1 c:v1" || stuck == "a:v1 a:bad? b:v1 c:v1", "{stuck}");
        fleet.push(&daemon_set("log", "v1", strategy, ""));
        assert_eq!(settled(&mut fleet), "a:v1 b:v1 c:v1");
        let after = fleet.uids("log");
        assert!(first[1..].iter().all(|uid| after.contains(uid)), "whoever was well stays");
        let mut numbers: Vec<u64> =
            fleet.state().revisions.values().map(|revision| revision.revision).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, [2, 3]);
    }
}

/// In a fleet there is always one that is off.
#[test]
fn a_roll_out_passes_by_nodes_that_are_not_heard_of_and_takes_them_up_later() {
    let mut fleet = fleet(&daemon_set("log", "v1", "", ""));
    hear(&mut fleet, &["b"], 60);
    fleet.pass(1000);
    assert_eq!(settled(&mut fleet), "a:v1 b:v1 c:v1", "its pod is not given up");
    fleet.push(&daemon_set("log", "v2", "", ""));
    assert_eq!(settled(&mut fleet), "a:v2 b:v1 c:v2");
    hear(&mut fleet, &["b"], 0);
    assert_eq!(settled(&mut fleet), "a:v2 b:v2 c:v2");

    hear(&mut fleet, &["b"], 60);
    fleet.turn();
    let node = NodeName::trusted("b");
    request(&mut fleet, "f", RequestKind::Fence { node, forget: false });
    assert_eq!(settled(&mut fleet), "a:v2 c:v2", "declared dead, and no other waits for it");
}

#[test]
fn a_drain_leaves_them_and_a_deleted_one_comes_back() {
    let mut fleet = fleet(&daemon_set("log", "v1", "", ""));
    let how = DrainOptions { ignore_daemonsets: true, ..DrainOptions::default() };
    let uids = fleet.uids("log");
    request(&mut fleet, "d", RequestKind::Drain { node: NodeName::trusted("b"), how });
    assert_eq!(settled(&mut fleet), "a:v1 b:v1 c:v1");
    assert_eq!(fleet.uids("log"), uids);
    assert!(fleet.input.state.nodes["b"].draining.is_none(), "nobody else is there: it is drained");
    let name = fleet.names("log")[0].clone();
    let pod = pod_key(&name);
    request(&mut fleet, "x", RequestKind::DeletePod { pod, uid: None, grace_s: None });
    assert_eq!(settled(&mut fleet), "a:v1 b:v1 c:v1");
    assert!(!fleet.names("log").contains(&name));
}

#[test]
fn a_pod_that_has_failed_makes_room_for_the_next() {
    let mut fleet = fleet(&daemon_set("log", "v1", "", ""));
    fleet.work_on("b", |_, _| Mood::Failed);
    let failed = fleet.uids("log");
    assert_eq!(settled(&mut fleet), "a:v1 b:v1 c:v1");
    assert_ne!(fleet.uids("log"), failed);
}

#[test]
fn a_budget_of_theirs_counts_those_there_are() {
    let budget = "---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: log, \
                  namespace: shop}\nspec: {maxUnavailable: 1, selector: {matchLabels: {app: log}}}\n";
    let mut fleet = fleet(&format!("{}{budget}", daemon_set("log", "v1", "", "")));
    assert_eq!(settled(&mut fleet), "a:v1 b:v1 c:v1");
    assert_eq!(super::budgets::standing(&mut fleet), "3 3 2 1", "and not 1 3 0 3");
}
