//! Namespaces that go: what is in them goes along, and nothing is left in the register.

use super::{Fleet, deployment, replica_set, service};

const SHOP: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
const OTHER: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n";
const PRUNE: &str = "The shop closes\n\nWindlass-Allow-Prune: yes";

fn contents() -> String {
    let budget = "---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {name: web, \
                  namespace: shop}\nspec: {minAvailable: 2, selector: {matchLabels: {app: web}}}\n";
    let ports = "selector: {app: web}, ports: [{port: 80}]";
    let set = replica_set("old", 1, "v1", "{matchLabels: {app: old}}");
    [deployment("web", 2, "v1", "").as_str(), &set, &service("web", ports), budget].concat()
}

#[test]
fn a_namespace_that_goes_takes_all_that_is_in_it_along() {
    let mut fleet = Fleet::new();
    fleet.push_exactly("The shop", &format!("{SHOP}---\n{OTHER}{}", contents()));
    fleet.settle();
    assert_eq!(fleet.pods("web"), "v1=2");
    fleet.push_exactly("The shop closes", OTHER);
    fleet.settle();
    let waiting = fleet.head().and_then(|head| head.waiting.clone()).expect("it is held");
    assert!(waiting.verdict.why().contains("delete Namespace shop and everything in it"));
    assert_eq!(fleet.pods("web"), "v1=2", "nothing of it is in force");
    fleet.push_exactly(PRUNE, OTHER);
    fleet.turn();
    assert_eq!(fleet.pods("web"), "leaving=2", "a budget does not hold up what nobody wants");
    fleet.settle();
    assert_eq!(fleet.input.state.all_pods().count(), 0);
    let state = fleet.state();
    let left: Vec<String> = state.objects().map(|(key, _)| key.to_string()).collect();
    assert_eq!(left, ["Namespace other"]);
    assert!(state.sets.is_empty() && state.deployments.is_empty());
    assert_eq!(fleet.allocation("web"), (None, Vec::new()), "its address is free again");
}

#[test]
fn a_namespace_can_not_go_from_under_its_objects() {
    let mut fleet = Fleet::new();
    fleet.push_exactly("The shop", &format!("{SHOP}---\n{OTHER}{}", contents()));
    fleet.settle();
    fleet.push_exactly(PRUNE, &format!("{OTHER}{}", contents()));
    fleet.settle();
    let waiting = fleet.head().and_then(|head| head.waiting.clone()).expect("it is refused");
    let said = waiting.findings[0].to_string();
    assert!(said.contains("there is no Namespace shop"), "{said}");
    assert_eq!(fleet.pods("web"), "v1=2");
}
