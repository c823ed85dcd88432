//! Who is let in, and who is told to go elsewhere.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::{Around, Assignment, Memory, Mine, Seen, Standing, decide, reports};
use super::Host;
use super::house::{around, assignment};
use crate::kinds::labels::Labels;
use crate::kinds::name::{PodKey, Uid};
use crate::kinds::pod::{Taint, TaintEffect};
use crate::kinds::quantity::Quantity;
use crate::kinds::time::Now;

/// A node with 2 CPUs and 1 GiB that takes three pods, in zone 1, with these taints.
fn node(taints: &[(&str, TaintEffect)]) -> Around {
    let amounts = [("cpu", "2"), ("memory", "1Gi"), ("pods", "3")];
    let amounts = amounts
        .map(|(name, amount)| (name.to_owned(), Quantity::parse(amount).expect("an amount")));
    let labels = [("zone", "1"), ("kubernetes.io/os", "linux"), ("kubernetes.io/arch", "amd64")];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let taints = taints.iter().map(|(key, effect)| Taint {
        key: (*key).to_owned(),
        value: String::new(),
        effect: *effect,
    });
    Around {
        allocatable: BTreeMap::from(amounts),
        standing: Some(Standing { labels: Labels::from(labels), taints: taints.collect() }),
        ..around()
    }
}

/// The pod `p<number>`, which is also its age.
fn pod(number: u64, spec: &str) -> (Uid, Assignment) {
    let spec = match spec {
        "" => "containers: [{name: main, image: x}]".to_owned(),
        spec if spec.contains("containers:") => spec.to_owned(),
        spec => format!("containers: [{{name: main, image: x}}], {spec}"),
    };
    let mut pod = assignment(&spec);
    let binding = Arc::make_mut(&mut pod.binding);
    binding.uid = Uid::trusted(&format!("p{number}"));
    binding.key = PodKey {
        name: crate::kinds::name::Name::trusted(&format!("p{number}")),
        ..binding.key.clone()
    };
    binding.sequence = number;
    (binding.uid.clone(), pod)
}

fn mine(specs: &[&str]) -> Mine {
    let pods = specs.iter().zip(0..).map(|(spec, number)| pod(number, spec));
    Mine { pods: pods.collect(), is_known: true }
}

fn seen() -> Seen {
    Seen { containers: Some(BTreeMap::new()), ..Seen::default() }
}

/// What is said of each pod: nothing, or why it is turned away.
fn judged(mine: &Mine, around: &Around, memory: &mut Memory) -> Vec<String> {
    let now = Now::default();
    decide(mine, &seen(), around, memory, now);
    let reports = reports(mine, &seen(), around, &BTreeMap::new(), memory, now);
    reports
        .values()
        .map(|report| {
            let status = &report.status;
            match &status.reason {
                None => String::new(),
                Some(reason) => {
                    let message = status.message.clone().unwrap_or_default();
                    assert_eq!(status.phase.as_str(), "Failed");
                    assert!(status.container_statuses.is_empty());
                    format!("{reason}: {message}")
                }
            }
        })
        .collect()
}

fn room(cpu: &str) -> String {
    format!("containers: [{{name: main, image: x, resources: {{requests: {{cpu: {cpu}}}}}}}]")
}

/// Taints, earlier pods, the pod, what is said of it after "Pod was rejected: ".
type Row<'t> = (&'t [(&'t str, TaintEffect)], Vec<&'t str>, &'t str, &'t str);

fn check(table: Vec<Row<'_>>) {
    for (taints, earlier, spec, expected) in table {
        let mut specs = earlier.clone();
        specs.push(spec);
        let mut memory = Memory::default();
        let mut said = judged(&mine(&specs), &node(taints), &mut memory);
        let last = said.pop().expect("the pod");
        assert_eq!(last.replace(": Pod was rejected: ", ": "), expected, "{earlier:?} | {spec}");
        assert_eq!(last.contains(": Pod was rejected: "), !expected.is_empty());
        if taints.is_empty() {
            assert!(said.iter().all(String::is_empty), "{said:?}");
        }
        let events = memory.take_events();
        assert_eq!(
            events.iter().filter(|event| event.warning).count(),
            usize::from(!expected.is_empty())
        );
    }
}

#[test]
fn who_asks_for_more_than_is_left_is_turned_away_in_kubelets_words() {
    let (one, two) = (room("1500m"), room("501m"));
    check(vec![
        (
            &[],
            vec![&one],
            &two,
            "OutOfcpu: Node didn't have enough resource: cpu, requested: 501, used: 1500, capacity: \
             2000",
        ),
        (
            &[],
            vec![],
            "containers: [{name: main, image: x, resources: {requests: {memory: 2Gi}}}]",
            "OutOfmemory: Node didn't have enough resource: memory, requested: 2147483648, used: 0, \
             capacity: 1073741824",
        ),
        (
            &[],
            vec!["", "", ""],
            "",
            "OutOfpods: Node didn't have enough resource: pods, requested: 1, used: 3, capacity: 3",
        ),
        (
            &[],
            vec![],
            "containers: [{name: main, image: x, resources: {limits: {example.com/gpu: 1}}}]",
            "OutOfexample.com/gpu: Node didn't have enough resource: example.com/gpu, requested: 1, \
             used: 0, capacity: 0",
        ),
    ]);
}

#[test]
fn who_asks_for_another_node_is_turned_away_in_kubelets_words() {
    let port = |ip: &str| {
        format!(
            "containers: [{{name: main, image: x, ports: [{{containerPort: 80, hostPort: 80{ip}}}]}}]"
        )
    };
    let affinity = "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: \
                    {nodeSelectorTerms: [{matchExpressions: [{key: zone, operator: In, values: \
                    ['2']}]}]}}}";
    let evil = &[("k", TaintEffect::NoExecute)][..];
    let lesser = &[("k", TaintEffect::NoSchedule), ("j", TaintEffect::PreferNoSchedule)][..];
    let (any, local) = (port(""), port(", hostIP: 127.0.0.1"));
    let other = port(", hostIP: 10.0.0.1");
    let table: Vec<Row<'_>> = vec![
        (&[], vec![], "", ""),
        (&[], vec![], "nodeSelector: {zone: '1'}", ""),
        (
            &[],
            vec![],
            "nodeSelector: {zone: '2'}",
            "NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node \
             affinity/selector",
        ),
        (
            &[],
            vec![],
            affinity,
            "NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node \
             affinity/selector",
        ),
        (
            &[],
            vec![],
            "nodeSelector: {kubernetes.io/arch: arm64}",
            "NodeAffinity: Predicate NodeAffinity failed: node(s) didn't match Pod's node \
             affinity/selector",
        ),
        (
            &[],
            vec![],
            "nodeSelector: {kubernetes.io/os: windows}",
            "PodOSSelectorNodeLabelDoesNotMatch: Failed to admit pod as the `kubernetes.io/os` \
             label doesn't match node label",
        ),
        (&[], vec![], "nodeName: a", ""),
        (
            &[],
            vec![],
            "nodeName: b",
            "NodeName: Predicate NodeName failed: node(s) didn't match the requested node name",
        ),
        (
            &[],
            vec![&local],
            &any,
            "NodePorts: Predicate NodePorts failed: node(s) didn't have free ports for the requested \
             pod ports",
        ),
        (&[], vec![&local], &other, ""),
        (
            evil,
            vec![],
            "",
            "TaintToleration: Predicate TaintToleration failed: node(s) had taints that the pod \
             didn't tolerate",
        ),
        (evil, vec![], "tolerations: [{key: k, operator: Exists}]", ""),
        (lesser, vec![], "", ""),
    ];
    check(table);
}

#[test]
fn the_older_is_let_in_first_and_who_has_ended_takes_no_room() {
    let (one, two) = (room("1500m"), room("1"));
    let mut both = mine(&[&one, &two]);
    // By name the younger would come first.
    let swapped: BTreeMap<Uid, Assignment> = both
        .pods
        .values()
        .map(|pod| {
            let mut pod = pod.clone();
            let binding = Arc::make_mut(&mut pod.binding);
            binding.sequence = 10 - binding.sequence;
            (binding.uid.clone(), pod)
        })
        .collect();
    both.pods = swapped;
    let mut memory = Memory::default();
    let said = judged(&both, &node(&[]), &mut memory);
    assert!(said[0].starts_with("OutOfcpu") && said[1].is_empty(), "{said:?}");
    // Another one takes the place of the one that was turned away, not of the one that runs.
    let (uid, small) = pod(11, &room("1"));
    both.pods.insert(uid, small);
    let said = judged(&both, &node(&[]), &mut memory);
    assert!(said[2].is_empty(), "1 and 1 CPU are 2: {said:?}");
}

#[test]
fn what_is_not_known_is_held_against_nobody() {
    let spec = "nodeSelector: {zone: '2'}";
    let unknown = Around { standing: None, allocatable: BTreeMap::new(), ..node(&[]) };
    let mut memory = Memory::default();
    assert_eq!(judged(&mine(&[spec, &room("9")]), &unknown, &mut memory), ["", ""]);
    // And who is in stays in, now that it is known.
    assert_eq!(judged(&mine(&[spec, &room("9")]), &node(&[]), &mut memory), ["", ""]);
}

#[test]
fn who_runs_stays_when_another_agent_takes_over() {
    let mut host = Host::running("nodeSelector: {zone: '1'}, containers: [{name: main, image: x}]");
    host.around.standing = Some(Standing {
        labels: Labels::from([("zone".to_owned(), "2".to_owned())]),
        taints: vec![Taint {
            key: "k".into(),
            value: String::new(),
            effect: TaintEffect::NoExecute,
        }],
    });
    host.around.allocatable = BTreeMap::from([("pods".to_owned(), Quantity::ZERO)]);
    host.restart_agent();
    assert_eq!((host.phase().as_str(), host.alive().len()), ("Running", 1));
    // Also if nothing was reported of it before.
    host.memory = Memory::default();
    host.run();
    assert_eq!((host.phase().as_str(), host.alive().len()), ("Running", 1));
}

#[test]
fn who_was_turned_away_stays_so_and_leaves_nothing() {
    let mut host = Host::new("nodeSelector: {zone: '2'}, containers: [{name: main, image: x}]");
    host.around = node(&[]);
    host.run();
    assert_eq!((host.phase().as_str(), host.diary().len()), ("Failed", 0));
    host.around.standing = None;
    host.restart_agent();
    let status = host.report().status;
    assert_eq!((status.phase.as_str(), status.reason.as_deref()), ("Failed", Some("NodeAffinity")));
    host.delete(30);
    assert!(host.is_gone());
}
