//! Namespaces that go: what is in them goes along, and nothing is left in the register.

use super::{Fleet, deployment, replica_set, service, stateful_set};

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

/// `default` exists by itself: a manifest gives it labels, and takes nothing along when it goes.
#[test]
fn a_namespace_that_exists_by_itself_may_go_from_git() {
    let default = "apiVersion: v1\nkind: Namespace\nmetadata: {name: default}\n";
    let contents = contents().replace("namespace: shop", "namespace: default");
    let mut fleet = Fleet::new();
    fleet.push_exactly("default", &format!("{default}{contents}"));
    fleet.settle();
    let pods = fleet.input.state.all_pods().count();
    assert_eq!(pods, 3);
    fleet.push_exactly("by itself", &contents);
    fleet.settle();
    assert_eq!(fleet.head().and_then(|head| head.waiting.clone()), None);
    assert_eq!(fleet.input.state.all_pods().count(), pods);
}

/// The claims of a StatefulSet's pods outlive the set, and not their Namespace; their data does.
#[test]
fn claims_go_with_their_namespace_and_data_stays() {
    let claims = "volumeClaimTemplates: [{metadata: {name: data}, spec: {accessModes: \
                  [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}]";
    let set = stateful_set("db", 1, "v1", claims);
    let mut fleet = Fleet::new();
    fleet.push_exactly("The shop", &format!("{SHOP}---\n{OTHER}{set}"));
    fleet.settle();
    fleet.push_exactly("Without", &format!("{SHOP}---\n{OTHER}"));
    fleet.settle();
    assert_eq!(fleet.input.state.all_claims().count(), 1, "the set is gone");
    fleet.push_exactly(PRUNE, OTHER);
    fleet.settle();
    assert_eq!(fleet.input.state.all_claims().count(), 0);
    let volumes: Vec<_> = fleet.input.state.volumes.values().collect();
    assert!(matches!(volumes[..], [volume] if volume.is_released && volume.leaving.is_none()));
    fleet.push_exactly("The shop again", &format!("{SHOP}---\n{OTHER}{set}"));
    fleet.settle();
    let volumes: Vec<_> = fleet.input.state.volumes.values().collect();
    assert!(matches!(volumes[..], [volume] if !volume.is_released), "it finds its data again");
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
