//! ReplicaSets and ReplicationControllers: how many, and who goes first.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/>.

use super::{Fleet, Mood, deployment, manifest, replica_set};
use crate::kinds::name::Name;

const BY_APP: &str = "{matchLabels: {app: web}}";

#[test]
fn pods_that_end_or_have_finished_do_not_count() {
    let mut fleet = Fleet::running(&replica_set("web", 3, "v1", BY_APP));
    let failed = fleet.uids("web")[0].clone();
    fleet.work_as(|pod, _| if pod.uid == failed { Mood::Failed } else { Mood::Ready });
    fleet.turn();
    assert_eq!(fleet.pods("web"), "v1=3 leaving=1", "another is made at once");
    assert!(!fleet.uids("web").contains(&failed));
}

/// Each line: what the pods of a set are like, oldest first, and which goes when one is too many.
#[test]
fn the_pod_that_would_be_missed_least_goes_first() {
    let table: &[(&str, [Mood; 3], usize)] = &[
        ("the newest of equals", [Mood::Ready, Mood::Ready, Mood::Ready], 2),
        ("one that is not ready", [Mood::Ready, Mood::Unready, Mood::Ready], 1),
        ("one that has not begun", [Mood::Silent, Mood::Unready, Mood::Ready], 0),
    ];
    for (what, moods, victim) in table {
        let mut fleet = Fleet::new();
        fleet.push(&replica_set("web", 3, "v1", BY_APP));
        fleet.turn();
        let uids = fleet.uids("web");
        fleet.work_as(|pod, _| {
            moods[uids.iter().position(|uid| *uid == pod.uid).expect("one of three")]
        });
        fleet.turn();
        fleet.push(&replica_set("web", 2, "v1", BY_APP));
        fleet.turn();
        let staying = fleet.uids("web");
        let gone: Vec<usize> = (0..3).filter(|at| !staying.contains(&uids[*at])).collect();
        assert_eq!(gone, [*victim], "{what}");
    }
}

#[test]
fn a_pod_without_a_node_goes_before_any_other() {
    let mut fleet = Fleet::running(&replica_set("web", 2, "v1", BY_APP));
    let node = fleet.input.nodes.values_mut().next().expect("the node");
    node.is_ready = false;
    fleet.push(&replica_set("web", 3, "v1", BY_APP));
    fleet.turn();
    let homeless = fleet.input.state.pods[&None].keys().next().expect("it waits").clone();
    fleet.push(&replica_set("web", 2, "v1", BY_APP));
    fleet.turn();
    assert!(!fleet.names("web").contains(&homeless.name.to_string()));
    assert!(!fleet.input.state.pods.contains_key(&None), "of it nothing is left to wait for");
}

#[test]
fn pod_deletion_cost_is_heeded() {
    let cheap = |replicas, cost: &str| {
        replica_set("web", replicas, "v1", BY_APP).replace(
            "metadata: {labels: {app: web}}",
            &format!(
                "metadata: {{labels: {{app: web}}, annotations: \
                 {{controller.kubernetes.io/pod-deletion-cost: \"{cost}\"}}}}"
            ),
        )
    };
    let mut fleet = Fleet::running(&cheap(2, "-5"));
    let cheap_ones = fleet.uids("web");
    fleet.push(&cheap(3, "7"));
    fleet.settle();
    fleet.push(&cheap(2, "7"));
    fleet.turn();
    let gone: Vec<_> = cheap_ones.iter().filter(|uid| !fleet.uids("web").contains(uid)).collect();
    assert_eq!(gone.len(), 1, "one of the cheap ones, though the dear one is newer");
}

#[test]
fn a_changed_template_of_a_set_leaves_its_pods_alone() {
    let mut fleet = Fleet::running(&replica_set("web", 2, "v1", BY_APP));
    let before = fleet.uids("web");
    fleet.push(&replica_set("web", 2, "v2", BY_APP));
    fleet.settle();
    assert_eq!(fleet.uids("web"), before);
    fleet.push(&replica_set("web", 3, "v2", BY_APP));
    fleet.settle();
    assert_eq!(fleet.pods("web"), "v1=2 v2=1", "new pods are made from the new template");
}

#[test]
fn a_replication_controller_is_a_set_whose_selector_may_be_left_out() {
    let rc = "spec:\n  replicas: 2\n  template:\n    metadata: {labels: {app: old}}\n    spec: \
              {containers: [{name: main, image: v1}]}";
    let fleet = Fleet::running(&manifest("v1", "ReplicationController", "old", rc));
    assert_eq!(fleet.pods("old"), "v1=2");
    let owners: Vec<String> =
        fleet.bindings("old").iter().map(|binding| binding.owner.to_string()).collect();
    assert_eq!(owners, ["ReplicationController shop/old"; 2]);
}

#[test]
fn no_turn_makes_more_than_a_burst_of_pods() {
    let mut fleet = Fleet::new();
    fleet.push(&deployment("web", 1200, "v1", ""));
    let mut made = Vec::new();
    for _ in 0..4 {
        fleet.turn();
        made.push((
            fleet.bindings("web").len(),
            fleet.last.as_ref().is_some_and(|p| p.is_unfinished),
        ));
    }
    assert_eq!(made, [(500, true), (1000, true), (1200, false), (1200, false)]);
}

#[test]
fn names_are_never_given_twice() {
    let mut fleet = Fleet::running(&deployment("web", 1, "v1", ""));
    let taken = fleet.bindings("web")[0].clone();
    // The next pod would get this very name: the register is as it was before the pod was made.
    fleet.input.state.sequence = taken.sequence - 1;
    fleet.push(&deployment("web", 2, "v1", ""));
    fleet.turn();
    let names = fleet.names("web");
    assert_eq!(names.len(), 2);
    assert_ne!(names[0], names[1]);
}

#[test]
fn a_long_name_leaves_room_for_what_tells_pods_apart() {
    let long = "a".repeat(60);
    let fleet =
        Fleet::running(&replica_set(&long, 2, "v1", &format!("{{matchLabels: {{app: {long}}}}}")));
    let names = fleet.names(&long);
    assert!(names.iter().all(|name| name.len() <= 63 && name.starts_with("aaa")), "{names:?}");
    assert_ne!(names[0], names[1]);
    assert!(names.iter().all(|name| Name::trusted(name) == *name.as_str()));
}
