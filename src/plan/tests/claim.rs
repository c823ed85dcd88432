//! Which set owns which pod: adoption, release, and selectors in full.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#non-template-pod-acquisitions>.

use super::{Fleet, pod, replica_set};

const BY_APP: &str = "{matchLabels: {app: web}}";

/// The owner of a Pod written by hand.
fn owner(fleet: &Fleet, name: &str) -> String {
    fleet.bindings(name).first().map(|b| b.owner.to_string()).unwrap_or_default()
}

#[test]
fn a_set_adopts_a_pod_that_matches_and_belongs_to_nobody() {
    let mut fleet = Fleet::running(&pod("lone", "v1", "app: web"));
    let before = fleet.uids("lone");
    let both = format!("{}{}", pod("lone", "v1", "app: web"), replica_set("web", 2, "v1", BY_APP));
    fleet.push(&both);
    fleet.settle();
    assert_eq!(owner(&fleet, "lone"), "ReplicaSet shop/web");
    assert_eq!((fleet.uids("lone"), fleet.pods("web")), (before, "v1=1".into()), "it counts");
}

#[test]
fn a_pod_whose_labels_no_longer_match_is_released_and_goes_on() {
    let with = |labels: &str| {
        format!("{}{}", pod("lone", "v1", labels), replica_set("web", 2, "v1", BY_APP))
    };
    let mut fleet = Fleet::running(&with("app: web"));
    let before = fleet.uids("lone");
    assert_eq!(owner(&fleet, "lone"), "ReplicaSet shop/web");
    fleet.push(&with("app: debug"));
    fleet.settle();
    assert_eq!(owner(&fleet, "lone"), "Pod shop/lone");
    assert_eq!(fleet.uids("lone"), before, "a label is no reason to restart");
    assert_eq!(fleet.pods("web"), "v1=2", "another takes its place");
}

#[test]
fn a_pod_whose_set_is_gone_belongs_to_itself_again() {
    let both = format!("{}{}", pod("lone", "v1", "app: web"), replica_set("web", 1, "v1", BY_APP));
    let mut fleet = Fleet::running(&both);
    let before = fleet.uids("lone");
    fleet.push(&pod("lone", "v1", "app: web"));
    fleet.settle();
    assert_eq!((owner(&fleet, "lone"), fleet.uids("lone")), ("Pod shop/lone".into(), before));
}

#[test]
fn a_pod_that_git_names_is_never_surplus() {
    // The set wants two and has three: one of its own goes, not the one that would come back.
    let mut fleet = Fleet::running(&replica_set("web", 2, "v1", BY_APP));
    let named = |replicas| {
        format!("{}{}", replica_set("web", replicas, "v1", BY_APP), pod("lone", "v1", "app: web"))
    };
    fleet.push(&named(2));
    fleet.settle();
    assert_eq!((fleet.pods("web"), fleet.pods("lone")), ("v1=1".into(), "v1=1".into()));
    fleet.push(&named(0));
    fleet.settle();
    assert_eq!((fleet.pods("web"), fleet.pods("lone")), (String::new(), "v1=1".into()));
}

#[test]
fn one_pod_has_one_owner() {
    let all = format!(
        "{}{}{}",
        pod("lone", "v1", "app: web, tier: front"),
        replica_set("web", 1, "v1", BY_APP),
        replica_set("web2", 1, "v1", "{matchLabels: {tier: front}}")
            .replace("labels: {app: web2}", "labels: {tier: front}")
    );
    let fleet = Fleet::running(&all);
    assert_eq!(owner(&fleet, "lone"), "ReplicaSet shop/web", "the first in order of name");
    assert_eq!((fleet.pods("web"), fleet.pods("web2")), (String::new(), "v1=1".into()));
}

/// Each line: a selector, a pod's labels, whether the set takes it.
#[test]
fn selectors_pick_as_in_kubernetes() {
    let any = "app: web";
    let expression = |e: &str| format!("{{matchLabels: {{app: web}}, matchExpressions: [{e}]}}");
    let table = [
        (BY_APP.to_owned(), "app: web", true),
        (BY_APP.to_owned(), "app: api", false),
        (expression("{key: env, operator: In, values: [a, b]}"), "app: web, env: b", true),
        (expression("{key: env, operator: In, values: [a, b]}"), "app: web, env: c", false),
        (expression("{key: env, operator: In, values: [a, b]}"), any, false),
        (expression("{key: env, operator: NotIn, values: [a]}"), "app: web, env: b", true),
        (expression("{key: env, operator: NotIn, values: [a]}"), "app: web, env: a", false),
        (expression("{key: env, operator: NotIn, values: [a]}"), any, true),
        (expression("{key: env, operator: Exists}"), "app: web, env: \"\"", true),
        (expression("{key: env, operator: Exists}"), any, false),
        (expression("{key: env, operator: DoesNotExist}"), any, true),
        (expression("{key: env, operator: DoesNotExist}"), "app: web, env: a", false),
    ];
    for (selector, labels, takes) in table {
        // The set's own pods must match, or the manifest is refused.
        let own = if selector.contains("Exists}") && !selector.contains("DoesNot") {
            "app: web, env: x"
        } else if selector.contains("operator: In") {
            "app: web, env: a"
        } else {
            "app: web"
        };
        let set = replica_set("web", 1, "v1", &selector)
            .replace("labels: {app: web}}\n    spec", &format!("labels: {{{own}}}}}\n    spec"));
        let fleet = Fleet::running(&format!("{set}{}", pod("lone", "v1", labels)));
        assert!(fleet.head().is_some_and(|head| head.waiting.is_none()), "{set}");
        let expected = if takes { "ReplicaSet shop/web" } else { "Pod shop/lone" };
        assert_eq!(owner(&fleet, "lone"), expected, "{selector} and {labels}");
    }
}

#[test]
fn a_changed_selector_replaces_the_pods_it_no_longer_picks() {
    let mut fleet = Fleet::running(&replica_set("web", 2, "v1", BY_APP));
    let before = fleet.uids("web");
    let other = replica_set("web", 2, "v1", "{matchLabels: {app: shop}}")
        .replace("labels: {app: web}", "labels: {app: shop}");
    fleet.push(&other);
    fleet.settle();
    assert_eq!(fleet.pods("web"), "v1=2");
    assert!(fleet.uids("web").iter().all(|uid| !before.contains(uid)));
}
