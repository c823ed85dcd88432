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

#[test]
fn room_that_was_made_is_kept_for_whom_it_was_made() {
    let before = format!("{CLASSES}{}", rival("small", "low"));
    let mut fleet = Fleet::running(&before);
    fleet.push(&format!("{before}{}", rival("big", "high")));
    fleet.turn();
    fleet.push(&format!("{before}{}{}", rival("big", "high"), rival("next", "")));
    // The lesser one is gone; an equally important and older one could not take the room either, and
    // one that matters less gets nothing.
    fleet.work_as(|_, _| Mood::Clings);
    fleet.turn();
    assert_eq!(all(&fleet, &["big", "next"]), "big waits for a, next waits");
    fleet.work();
    fleet.turn();
    assert_eq!(all(&fleet, &["big", "next"]), "big runs, next waits");
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
    // Two nodes would be needed to see a choice; here: of two pods on one node, which one goes.
    let two = |name: &str, class: &str, label: &str| {
        format!(
            "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: \
             {{app: {label}}}}}\nspec: {{priorityClassName: {class}, containers: [{{name: main, \
             image: v1, resources: {{requests: {{cpu: 1}}}}}}]}}\n"
        )
    };
    let budget = "---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: guard, \
                  namespace: shop}\nspec: {minAvailable: 100%, selector: {matchLabels: {app: x}}}\n";
    for (budget, expected) in
        [("", "x leaves, z runs, big waits for a"), (budget, "x runs, z leaves, big waits for a")]
    {
        let before = format!("{CLASSES}{budget}{}{}", two("x", "low", "x"), two("z", "usual", "z"));
        let mut fleet = Fleet::new();
        let facts = NodeFacts {
            allocatable: [("cpu".to_owned(), Quantity::units(2))].into(),
            ..NodeFacts::default()
        };
        fleet.input.nodes.get_mut("a").expect("the node").facts = Arc::new(facts);
        fleet.push(&before);
        fleet.settle();
        assert_eq!(all(&fleet, &["x", "z"]), "x runs, z runs");
        fleet.push(&format!("{before}{}", two("big", "high", "big")));
        fleet.turn();
        assert_eq!(all(&fleet, &["x", "z", "big"]), expected);
    }
}
