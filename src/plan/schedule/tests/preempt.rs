//! Who has to go for whom, as tables; and what holds for any board.

use proptest::prelude::{ProptestConfig, prop, prop_assert, prop_assert_eq, proptest};
use proptest::strategy::Strategy as Draw;

use super::{cluster, shape_in};
use crate::kinds::labels::{Labels, Selector};
use crate::kinds::name::{Name, NodeName, PodKey};
use crate::kinds::workload::{Bound, DisruptionBudget, Share};
use crate::plan::schedule::budgets::Budgets;
use crate::plan::schedule::choose::Scheduler;
use crate::plan::schedule::preempt::{Board, Candidate, Resident};

/// A pod that is there: `x a 5 cpu:2` is pod x on node a, of priority 5, with its request. `-a`: it is
/// being ended. Then its labels and the rest of its spec.
type There<'t> = (&'t str, &'t str, &'t str);

fn asks(request: &str, more: &str) -> String {
    let (resource, amount) = request.split_once(':').expect("a request");
    let room = match resource {
        "port" => format!("ports: [{{containerPort: 80, hostPort: {amount}}}]"),
        _ => format!("resources: {{requests: {{{resource}: {amount}}}}}"),
    };
    format!("containers: [{{name: m, image: i, {room}}}], {more}")
}

/// The scheduler over these nodes, and who is where; later pods are newer.
fn board(nodes: &str, there: &[There<'_>], guarded: i64) -> (Scheduler, Board) {
    let mut cluster = cluster(nodes);
    let mut residents = vec![Vec::new(); cluster.machines.len()];
    for (sequence, (words, labels, more)) in there.iter().enumerate() {
        let words: Vec<&str> = words.split_whitespace().collect();
        let [name, node, priority, request] = words[..] else { panic!("{words:?}") };
        let (is_leaving, node) = node.strip_prefix('-').map_or((false, node), |node| (true, node));
        let template = super::template(labels, &asks(request, more));
        let shop = Name::trusted("shop");
        let shape = cluster.shape(&template, &shop, &Labels::new(), None, is_leaving);
        let at = cluster.node(&NodeName::trusted(node)).expect("a node");
        cluster.put(at, shape);
        residents[at].push(Resident {
            key: PodKey::new(&shop, &Name::trusted(name)),
            shape,
            priority: priority.parse().expect("a number"),
            sequence: sequence as u64,
            is_leaving,
            is_preempted: false,
        });
    }
    // One budget guards pods with `guarded: "yes"`, and lets so many of them go.
    let selector = Selector::from_labels(&Labels::from([("guarded".into(), "yes".into())]));
    let bound = Bound::MinAvailable(Share::Count(0));
    let wish = DisruptionBudget { selector: Some(selector), bound, frees_unhealthy: false };
    let budgets = Budgets::just(&Name::trusted("shop"), wish, guarded);
    (Scheduler::new(cluster), Board { residents, budgets })
}

fn told(scheduler: &Scheduler, board: &Board, candidate: &Candidate) -> String {
    let node = &scheduler.cluster.names[candidate.node];
    let victims = candidate.victims.iter();
    let victims = victims.map(|at| board.residents[candidate.node][*at].key.name.to_string());
    format!("{node}: {}", victims.collect::<Vec<_>>().join(" "))
}

/// Where room is made for a pod of priority 10, and who goes.
fn room(nodes: &str, there: &[There<'_>], guarded: i64, request: &str, more: &str) -> String {
    let (mut scheduler, board) = board(nodes, there, guarded);
    let shape = shape_in(&mut scheduler.cluster, "shop", "app: big", &asks(request, more));
    match scheduler.find_victims(shape, 10, &board, 0, None) {
        Ok(candidate) => told(&scheduler, &board, &candidate),
        Err(unfit) => unfit.to_string(),
    }
}

const GUARDED: &str = "guarded: 'yes'";

#[test]
fn as_few_and_as_unimportant_as_will_do() {
    type Row<'t> = (&'t str, &'t [There<'t>], &'t str, &'t str);
    let table: &[Row<'_>] = &[
        // Nobody who matters as much goes.
        (
            "a",
            &[("x a 10 cpu:3", "", "")],
            "cpu:2",
            "0/1 nodes are available: 1 No preemption victims found for incoming pod.",
        ),
        ("a", &[("x a 9 cpu:3", "", "")], "cpu:2", "a: x"),
        // The more important are let back first, then the older.
        ("a", &[("x a 1 cpu:2", "", ""), ("y a 2 cpu:2", "", "")], "cpu:2", "a: x"),
        ("a", &[("x a 1 cpu:2", "", ""), ("y a 1 cpu:2", "", "")], "cpu:2", "a: y"),
        // The node whose most important victim matters least.
        ("a;b", &[("x a 5 cpu:3", "", ""), ("y b 4 cpu:3", "", "")], "cpu:2", "b: y"),
        // The least sum: of two nodes with the same most important one.
        (
            "a;b",
            &[
                ("x a 5 cpu:2", "", ""),
                ("y a 4 cpu:2", "", ""),
                ("v b 5 cpu:2", "", ""),
                ("w b 3 cpu:2", "", ""),
            ],
            "cpu:4",
            "b: v w",
        ),
        // One victim weighs less than two of them.
        (
            "a;b",
            &[("x a 5 cpu:2", "", ""), ("y a 0 cpu:2", "", ""), ("v b 5 cpu:4", "", "")],
            "cpu:4",
            "b: v",
        ),
        // The latest start.
        ("a;b", &[("x a 5 cpu:3", "", ""), ("y b 5 cpu:3", "", "")], "cpu:2", "b: y"),
        // Ports and the number of pods can be made free, too.
        ("a", &[("x a 5 port:80", "", "")], "port:80", "a: x"),
        ("a pods:1", &[("x a 5 cpu:1", "", "")], "cpu:1", "a: x"),
        // What is leaving anyway costs nothing.
        ("a;b", &[("x a 1 cpu:3", "", ""), ("y -b 5 cpu:3", "", "")], "cpu:2", "b: "),
        ("a", &[("x -a 1 cpu:2", "", ""), ("y a 5 cpu:2", "", "")], "cpu:2", "a: "),
        ("a", &[("x -a 1 cpu:2", "", ""), ("y a 5 cpu:2", "", "")], "cpu:4", "a: y"),
    ];
    for (nodes, there, request, expected) in table {
        assert_eq!(room(nodes, there, 0, request, ""), *expected, "{nodes} | {there:?}");
    }
}

#[test]
fn budgets_are_heeded_where_there_is_a_choice() {
    type Row<'t> = (&'t str, &'t [There<'t>], i64, &'t str);
    let table: &[Row<'_>] = &[
        // Though it matters more, the unguarded one goes.
        ("a;b", &[("x a 1 cpu:3", GUARDED, ""), ("y b 5 cpu:3", "", "")], 0, "b: y"),
        ("a;b", &[("x a 1 cpu:3", GUARDED, ""), ("y b 5 cpu:3", "", "")], 1, "a: x"),
        ("a", &[("x a 1 cpu:2", GUARDED, ""), ("y a 5 cpu:2", "", "")], 0, "a: y"),
        ("a", &[("x a 1 cpu:2", GUARDED, ""), ("y a 5 cpu:2", "", "")], 1, "a: x"),
        // Where there is none it goes all the same.
        ("a", &[("x a 1 cpu:3", GUARDED, "")], 0, "a: x"),
        // What is leaving is not counted again.
        ("a", &[("x -a 1 cpu:3", GUARDED, "")], 0, "a: "),
    ];
    for (nodes, there, guarded, expected) in table {
        assert_eq!(room(nodes, there, *guarded, "cpu:2", ""), *expected, "{nodes} | {there:?}");
    }
}

#[test]
fn who_leaves_must_help() {
    const NEAR: &str = "labelSelector: {matchLabels: {app: small}}, topologyKey: host";
    let apart = format!(
        "affinity: {{podAntiAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: [{{{NEAR}}}]}}}}"
    );
    let together = format!(
        "affinity: {{podAffinity: {{requiredDuringSchedulingIgnoredDuringExecution: [{{{NEAR}}}]}}}}"
    );
    let spread = "topologySpreadConstraints: [{maxSkew: 1, topologyKey: host, whenUnsatisfiable: \
                  DoNotSchedule, labelSelector: {matchLabels: {app: big}}}]";
    let shuns = "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: \
                 [{labelSelector: {matchLabels: {app: big}}, topologyKey: host}]}}";
    let small = |words| (words, "app: small", "");
    type Row<'t> = (&'t str, Vec<There<'t>>, &'t str, &'t str, &'t str);
    let table: Vec<Row<'_>> = vec![
        // The node refuses the pod whoever is there.
        (
            "a cordoned; b lost; c !k=v:NoSchedule; d",
            vec![("x d 10 cpu:4", "", "")],
            "cpu:1",
            "",
            "0/4 nodes are available: 1 No preemption victims found for incoming pod, 3 Preemption \
             is not helpful for scheduling.",
        ),
        (
            "a; b zone=1",
            vec![small("x a 1 cpu:4"), small("y b 2 cpu:4")],
            "cpu:1",
            "nodeSelector: {zone: '1'}",
            "b: y",
        ),
        // It has not that much at all.
        ("a cpu:2; b cpu:4", vec![small("x a 1 cpu:2"), small("y b 2 cpu:4")], "cpu:3", "", "b: y"),
        // Those who matter more keep what is needed.
        (
            "a",
            vec![("x a 10 cpu:3", "", ""), ("y a 1 cpu:1", "", "")],
            "cpu:2",
            "",
            "0/1 nodes are available: 1 Insufficient cpu.",
        ),
        // Whom it must not meet goes. Of lesser pods that it must be near nobody can tell whether they
        // stay: such a pod preempts nobody, as in Kubernetes.
        ("a", vec![small("x a 1 cpu:1")], "cpu:1", &apart, "a: x"),
        ("a", vec![("x a 1 cpu:1", "", shuns)], "cpu:1", "", "a: x"),
        (
            "a",
            vec![("x a 10 cpu:2", "app: small", ""), ("y a 5 cpu:2", "", "")],
            "cpu:2",
            &together,
            "a: y",
        ),
        (
            "a",
            vec![small("x a 1 cpu:2"), ("y a 5 cpu:2", "", "")],
            "cpu:2",
            &together,
            "0/1 nodes are available: 1 node(s) didn't match pod affinity rules.",
        ),
        // Spread counts who would be left.
        (
            "a;b",
            vec![("x a 1 cpu:1", "app: big", ""), ("y b 10 cpu:4", "", "")],
            "cpu:1",
            spread,
            "a: x",
        ),
    ];
    for (nodes, there, request, more, expected) in table {
        assert_eq!(room(nodes, &there, 0, request, more), expected, "{nodes} | {there:?} | {more}");
    }
}

/// Some nodes' pods, as (node, priority, half cores, leaving, guarded, kind).
type Pods = Vec<(usize, i32, u32, bool, bool, usize)>;

fn pods() -> impl Draw<Value = Pods> {
    let pod = (0..3_usize, -2..12_i32, 1..5_u32, 0..6_u32, 0..3_u32, 0..4_usize);
    let pod = pod.prop_map(|(node, priority, half, leaving, guarded, kind)| {
        (node, priority, half, leaving == 0, guarded == 0, kind)
    });
    prop::collection::vec(pod, 0..14)
}

const KINDS: [&str; 4] = [
    "",
    "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: \
     host, labelSelector: {matchLabels: {app: big}}}]}}",
    "affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{topologyKey: \
     zone, labelSelector: {matchLabels: {kind: k2}}}]}}",
    "topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule, \
     labelSelector: {matchLabels: {kind: k3}}}]",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Only lesser pods go; without them the pod fits, with any one of them back it doesn't; and the
    /// trial leaves no trace.
    #[test]
    fn victims_are_lesser_enough_and_none_too_many(pods in pods(), kind in 0..4_usize, half in 1..8_u32) {
        let nodes = "a zone=1; b zone=1; c zone=2";
        let words: Vec<(String, String, &str)> = pods
            .iter()
            .enumerate()
            .map(|(at, (node, priority, half, leaving, guarded, kind))| {
                let node = ["a", "b", "c"][*node];
                let dash = if *leaving { "-" } else { "" };
                let words = format!("p{at} {dash}{node} {priority} cpu:{}m", half * 500);
                let guarded = if *guarded { ", guarded: 'yes'" } else { "" };
                (words, format!("app: small, kind: k{kind}{guarded}"), KINDS[*kind])
            })
            .collect();
        let there: Vec<There<'_>> =
            words.iter().map(|(words, labels, more)| (words.as_str(), labels.as_str(), *more)).collect();
        let (mut scheduler, board) = board(nodes, &there, 1);
        let spec = asks(&format!("cpu:{}m", half * 500), KINDS[kind]);
        let shape = shape_in(&mut scheduler.cluster, "shop", &format!("app: big, kind: k{kind}"), &spec);
        let before = format!("{:?}", scheduler.cluster.machines);
        let answer = scheduler.find_victims(shape, 10, &board, 0, None);
        let mut after = scheduler.cluster.machines.clone();
        for machine in &mut after {
            machine.ports.sort();
        }
        prop_assert_eq!(before, format!("{:?}", after));
        prop_assert_eq!(&scheduler.find_victims(shape, 10, &board, 0, None), &answer, "asked again");
        let Ok(Candidate { node, victims, .. }) = answer else {
            return Ok(());
        };
        let residents = &board.residents[node];
        prop_assert!(victims.iter().all(|at| residents[*at].priority < 10 && !residents[*at].is_leaving));
        // Take them away for good, with all lesser pods that are leaving: it fits. One back: it doesn't.
        let gone: Vec<usize> = (0..residents.len())
            .filter(|at| victims.contains(at) || residents[*at].is_leaving && residents[*at].priority < 10)
            .collect();
        for at in &gone {
            scheduler.cluster.take(node, residents[*at].shape);
        }
        let refused = |scheduler: &mut Scheduler| {
            let mut unfit = Scheduler::new(std::mem::take(&mut scheduler.cluster));
            let ranking = unfit.ranking(shape);
            let outlook = unfit.outlook(shape, &ranking);
            let refuses = outlook.and_then(|outlook| outlook.refuses(node, &unfit.cluster));
            let takes = ranking.takes(node);
            scheduler.cluster = unfit.cluster;
            !takes || refuses.is_some()
        };
        prop_assert!(!refused(&mut scheduler), "it fits once they are gone");
        for at in &victims {
            scheduler.cluster.put(node, residents[*at].shape);
            prop_assert!(refused(&mut scheduler), "p{at} could have stayed");
            scheduler.cluster.take(node, residents[*at].shape);
        }
    }
}
