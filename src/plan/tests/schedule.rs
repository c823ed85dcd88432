//! The scheduler from where people see it: who is served first, and what is said to the others.

use std::sync::Arc;

use super::{Fleet, Mood};
use crate::kinds::binding::Binding;
use crate::kinds::node::NodeFacts;
use crate::kinds::quantity::Quantity;

const CLASSES: &str = "---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: high}
value: 1000
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: usual}
value: 10
globalDefault: true
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: low}
value: -5
";

/// A pod that wants the node's port 80, so that only one can run.
fn rival(name: &str, class: &str) -> String {
    let class =
        if class.is_empty() { String::new() } else { format!("priorityClassName: {class}, ") };
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop}}\nspec: \
         {{{class}containers: [{{name: main, image: v1, ports: [{{containerPort: 80, hostPort: \
         80}}]}}]}}\n"
    )
}

const NO_PORT: &str =
    "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";
const NO_VICTIMS: &str = "preemption: 0/1 nodes are available: 1 No preemption victims found for \
                          incoming pod.";

#[test]
fn the_more_important_pod_is_served_first_then_the_older() {
    // (pods with their classes, oldest first; who runs)
    type Row<'t> = (&'t [(&'t str, &'t str)], &'t str);
    let table: &[Row<'_>] = &[
        (&[("a", ""), ("b", "")], "a"),
        (&[("a", ""), ("b", "high")], "b"),
        (&[("a", "low"), ("b", "")], "b"),
        (&[("a", "usual"), ("b", "")], "a"),
        (&[("a", "high"), ("b", "system-node-critical")], "b"),
    ];
    for (pods, expected) in table {
        let mut fleet = Fleet::new();
        let rivals: String = pods.iter().map(|(name, class)| rival(name, class)).collect();
        fleet.push(&format!("{CLASSES}{rivals}"));
        fleet.turn();
        let state = &fleet.input.state;
        for (node, binding) in state.all_pods() {
            let is_served = binding.key.name == **expected;
            assert_eq!(node.is_some(), is_served, "{pods:?}: {}", binding.key);
            let message = (!is_served).then(|| format!("{NO_PORT} {NO_VICTIMS}"));
            assert_eq!(binding.message, message, "{pods:?}");
        }
    }
}

/// A pod's binding, and whether it has a node.
fn binding(fleet: &Fleet, name: &str) -> Option<(bool, Arc<Binding>)> {
    let mut all = fleet.input.state.all_pods();
    let found = all.find(|(_, binding)| binding.key.name == *name);
    found.map(|(node, binding)| (node.is_some(), binding.clone()))
}

/// What stands of a pod: `runs`, `leaves`, `waits`, `waits for a`, `gone`.
fn stands(fleet: &Fleet, name: &str) -> String {
    match binding(fleet, name) {
        None => "gone".to_owned(),
        Some((_, binding)) if binding.deletion.is_some() => "leaves".to_owned(),
        Some((true, _)) => "runs".to_owned(),
        Some((false, binding)) => match &binding.nominated {
            Some(node) => format!("waits for {node}"),
            None => "waits".to_owned(),
        },
    }
}

fn all(fleet: &Fleet, names: &[&str]) -> String {
    let each = names.iter().map(|name| format!("{name} {}", stands(fleet, name)));
    each.collect::<Vec<_>>().join(", ")
}

#[test]
fn a_more_important_pod_takes_the_place_of_a_lesser() {
    let mut fleet = Fleet::running(&format!("{CLASSES}{}", rival("small", "low")));
    fleet.push(&format!("{CLASSES}{}{}", rival("small", "low"), rival("big", "high")));
    fleet.turn();
    assert_eq!(all(&fleet, &["small", "big"]), "small leaves, big waits for a");
    let (_, big) = binding(&fleet, "big").expect("it is there");
    assert_eq!(big.message.as_deref(), Some(NO_PORT));
    let said = format!("Pod shop/small: Preempted by pod {} on node a", big.uid);
    assert_eq!(fleet.event("Preempted"), Some(said));
    let (_, small) = binding(&fleet, "small").expect("it is there");
    assert_eq!(small.deletion.as_ref().map(|d| d.reason.as_str()), Some("Preempted"));
    // While it clings, nobody is asked again and nothing new is said.
    fleet.turn();
    assert!(!fleet.turn(), "{:?}", fleet.last.as_ref().map(|plan| &plan.why));
    fleet.work();
    fleet.turn();
    assert!(stands(&fleet, "big").starts_with("runs"), "{}", all(&fleet, &["small", "big"]));
    let (_, big) = binding(&fleet, "big").expect("it is there");
    assert_eq!((&big.nominated, &big.message), (&None, &None));
    // Git has the lesser one made anew, and it waits.
    assert_eq!(stands(&fleet, "small"), "waits");
    fleet.settle();
    assert_eq!(all(&fleet, &["small", "big"]), "small waits, big runs");
}

/// A pod that asks for so many CPUs.
fn sized(name: &str, class: &str, cpus: u32, labels: &str) -> String {
    let class =
        if class.is_empty() { String::new() } else { format!("priorityClassName: {class}, ") };
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: \
         {{{labels}}}}}\nspec: {{{class}containers: [{{name: main, image: v1, resources: {{requests: \
         {{cpu: {cpus}}}}}}}]}}\n"
    )
}

/// A fleet whose node has so many CPUs.
fn with_cpus(cpus: i64) -> Fleet {
    let mut fleet = Fleet::new();
    let amounts = [("cpu".to_owned(), Quantity::units(cpus))].into();
    let facts = NodeFacts { allocatable: amounts, ..NodeFacts::default() };
    fleet.input.nodes.get_mut("a").expect("the node").facts = Arc::new(facts);
    fleet
}

#[test]
fn room_that_was_made_is_kept_for_whom_it_was_made() {
    for (class, expected) in
        [("", "next waits"), ("high", "next waits"), ("system-node-critical", "next runs")]
    {
        let mut fleet = with_cpus(4);
        let before =
            format!("{CLASSES}{}{}", sized("one", "low", 2, ""), sized("two", "low", 2, ""));
        fleet.push(&before);
        fleet.settle();
        let with_big = format!("{before}{}", sized("big", "high", 4, ""));
        fleet.push(&with_big);
        fleet.turn();
        assert_eq!(all(&fleet, &["one", "two", "big"]), "one leaves, two leaves, big waits for a");
        // One of them is gone, the other clings, and there comes a third for whom that would do.
        fleet.work_as(|pod, _| if pod.key.name == *"one" { Mood::Ready } else { Mood::Clings });
        fleet.push(&format!("{with_big}{}", sized("next", class, 2, "")));
        fleet.turn();
        assert_eq!(all(&fleet, &["next"]), expected, "{class}");
        if class != "system-node-critical" {
            fleet.work();
            fleet.turn();
            assert_eq!(all(&fleet, &["big", "next"]), "big runs, next waits", "{class}");
        }
    }
}

#[test]
fn who_matters_more_still_may_take_the_room_first() {
    let before = format!("{CLASSES}{}", rival("small", "low"));
    let mut fleet = Fleet::running(&before);
    fleet.push(&format!("{before}{}", rival("usual", "")));
    fleet.turn();
    assert_eq!(all(&fleet, &["small", "usual"]), "small leaves, usual waits for a");
    fleet.push(&format!("{before}{}{}", rival("usual", ""), rival("big", "high")));
    fleet.turn();
    assert_eq!(all(&fleet, &["usual", "big"]), "usual waits, big waits for a");
    fleet.settle();
    assert_eq!(all(&fleet, &["small", "usual", "big"]), "small waits, usual waits, big runs");
}

#[test]
fn preemption_policy_never_waits_its_turn() {
    let polite = rival("big", "high").replace("spec: {", "spec: {preemptionPolicy: Never, ");
    let class = CLASSES.replace("value: 1000", "value: 1000\npreemptionPolicy: Never");
    for (classes, big) in [(CLASSES.to_owned(), polite), (class, rival("big", "high"))] {
        let before = format!("{classes}{}", rival("small", "low"));
        let mut fleet = Fleet::running(&before);
        fleet.push(&format!("{before}{big}"));
        fleet.turn();
        assert_eq!(all(&fleet, &["small", "big"]), "small runs, big waits");
        let (_, big) = binding(&fleet, "big").expect("it is there");
        let said = format!("{NO_PORT} preemption: not eligible due to preemptionPolicy=Never.");
        assert_eq!(big.message, Some(said));
    }
}

#[test]
fn a_budget_in_git_is_heeded() {
    // Of two pods on one node, which one goes?
    let budget = "---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: guard, \
                  namespace: shop}\nspec: {minAvailable: 100%, selector: {matchLabels: {app: x}}}\n";
    for (budget, expected) in
        [("", "x leaves, z runs, big waits for a"), (budget, "x runs, z leaves, big waits for a")]
    {
        let before = format!(
            "{CLASSES}{budget}{}{}",
            sized("x", "low", 1, "app: x"),
            sized("z", "usual", 1, "app: z")
        );
        let mut fleet = with_cpus(2);
        fleet.push(&before);
        fleet.settle();
        assert_eq!(all(&fleet, &["x", "z"]), "x runs, z runs");
        fleet.push(&format!("{before}{}", sized("big", "high", 1, "app: big")));
        fleet.turn();
        assert_eq!(all(&fleet, &["x", "z", "big"]), expected);
    }
}

#[test]
fn one_turn_makes_room_for_so_many_and_the_next_goes_on() {
    let web = |name: &str, class: &str| {
        super::deployment(name, 120, "v1", "")
            .replace("spec: {", &format!("spec: {{priorityClassName: {class}, "))
            .replace("image: \"v1\"", "image: v1, resources: {requests: {cpu: 1}}")
    };
    let mut fleet = Fleet::new();
    let amounts = [("cpu", 120), ("pods", 500)];
    let amounts = amounts.map(|(name, amount)| (name.to_owned(), Quantity::units(amount)));
    let facts = NodeFacts { allocatable: amounts.into(), ..NodeFacts::default() };
    fleet.input.nodes.get_mut("a").expect("the node").facts = Arc::new(facts);
    let low = format!("{CLASSES}{}", web("web", "low"));
    fleet.push(&low);
    fleet.settle();
    fleet.push(&format!("{low}{}", web("shop", "high")));
    let mut leaving = Vec::new();
    for _ in 0..4 {
        fleet.turn();
        let pods = fleet.bindings("web");
        leaving.push(pods.iter().filter(|pod| pod.deletion.is_some()).count());
        let again = fleet.last.as_ref().is_some_and(|plan| plan.is_unfinished);
        assert_eq!(again, leaving.len() < 3, "{leaving:?}");
    }
    assert_eq!(leaving, [100, 120, 120, 120]);
    fleet.settle();
    let runs = |name: &str| {
        let all = fleet.input.state.all_pods();
        all.filter(|(node, pod)| node.is_some() && pod.template.owner.name == *name).count()
    };
    assert_eq!((runs("shop"), runs("web")), (120, 0));
}
