//! The scheduler from where people see it: who is served first, and what is said to the others.

use super::Fleet;

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
            let message = "0/1 nodes are available: 1 node(s) didn't have free ports for the \
                           requested pod ports.";
            let said = (!is_served).then_some(message);
            assert_eq!(binding.message.as_deref(), said, "{pods:?}");
        }
    }
}
