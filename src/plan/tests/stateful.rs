//! StatefulSets: who comes when, who goes when, and what a name is worth.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/>.

use std::sync::Arc;

use super::liveness::{fleet as fleet_of_three, hear};
use super::requests::request;
use super::{Fleet, Mood, container, stateful_set};
use crate::kinds::name::NodeName;
use crate::kinds::status::{ContainerState, ContainerStatus, Waiting};
use crate::state::RequestKind;

const PARALLEL: &str = "podManagementPolicy: Parallel";

fn partition(number: u32) -> String {
    format!("updateStrategy: {{rollingUpdate: {{partition: {number}}}}}")
}

/// What is left when everything has settled.
fn settled(fleet: &mut Fleet) -> String {
    fleet.settle();
    fleet.seats("db")
}

/// Each line: what a fleet goes through when a set of this kind is first there, then changed.
#[test]
fn pods_come_from_the_first_to_the_last_and_go_from_the_last_to_the_first() {
    let table: &[(&str, String, String, &[&str])] = &[
        (
            "made in order",
            stateful_set("db", 0, "v1", ""),
            stateful_set("db", 3, "v1", ""),
            &["", "0:v1?", "0:v1 1:v1?", "0:v1 1:v1 2:v1?", "0:v1 1:v1 2:v1"],
        ),
        (
            "ended in reverse order",
            stateful_set("db", 3, "v1", ""),
            stateful_set("db", 1, "v1", ""),
            &["0:v1 1:v1 2:v1", "0:v1 1:v1 2:v1!", "0:v1 1:v1!", "0:v1"],
        ),
        (
            "renewed in reverse order",
            stateful_set("db", 3, "v1", ""),
            stateful_set("db", 3, "v2", ""),
            &[
                "0:v1 1:v1 2:v1",
                "0:v1 1:v1 2:v1!",
                "0:v1 1:v1 2:v2?",
                "0:v1 1:v1! 2:v2",
                "0:v1 1:v2? 2:v2",
                "0:v1! 1:v2 2:v2",
                "0:v2? 1:v2 2:v2",
                "0:v2 1:v2 2:v2",
            ],
        ),
        (
            "all at once",
            stateful_set("db", 0, "v1", PARALLEL),
            stateful_set("db", 3, "v1", PARALLEL),
            &["", "0:v1? 1:v1? 2:v1?", "0:v1 1:v1 2:v1"],
        ),
        (
            "all away at once",
            stateful_set("db", 3, "v1", PARALLEL),
            stateful_set("db", 1, "v1", PARALLEL),
            &["0:v1 1:v1 2:v1", "0:v1 1:v1! 2:v1!", "0:v1"],
        ),
        (
            "renewed one by one, for Parallel is about scaling",
            stateful_set("db", 2, "v1", PARALLEL),
            stateful_set("db", 2, "v2", PARALLEL),
            &["0:v1 1:v1", "0:v1 1:v1!", "0:v1 1:v2?", "0:v1! 1:v2", "0:v2? 1:v2", "0:v2 1:v2"],
        ),
        (
            "two at a time",
            stateful_set("db", 3, "v1", PARALLEL),
            stateful_set(
                "db",
                3,
                "v2",
                &format!("{PARALLEL}; updateStrategy: {{rollingUpdate: {{maxUnavailable: 2}}}}"),
            ),
            &[
                "0:v1 1:v1 2:v1",
                "0:v1 1:v1! 2:v1!",
                "0:v1 1:v2? 2:v2?",
                "0:v1! 1:v2 2:v2",
                "0:v2? 1:v2 2:v2",
                "0:v2 1:v2 2:v2",
            ],
        ),
        (
            "numbered from another number",
            stateful_set("db", 0, "v1", "ordinals: {start: 5}"),
            stateful_set("db", 2, "v1", "ordinals: {start: 5}"),
            &["", "5:v1?", "5:v1 6:v1?", "5:v1 6:v1"],
        ),
        (
            "renumbered: the new ones first",
            stateful_set("db", 2, "v1", ""),
            stateful_set("db", 2, "v1", "ordinals: {start: 1}"),
            &["0:v1 1:v1", "0:v1 1:v1 2:v1?", "0:v1! 1:v1 2:v1", "1:v1 2:v1"],
        ),
        (
            "not at all with OnDelete",
            stateful_set("db", 2, "v1", "updateStrategy: {type: OnDelete}"),
            stateful_set("db", 2, "v2", "updateStrategy: {type: OnDelete}"),
            &["0:v1 1:v1"],
        ),
        (
            "those above the partition",
            stateful_set("db", 3, "v1", ""),
            stateful_set("db", 3, "v2", &partition(2)),
            &["0:v1 1:v1 2:v1", "0:v1 1:v1 2:v1!", "0:v1 1:v1 2:v2?", "0:v1 1:v1 2:v2"],
        ),
    ];
    for (what, before, after, steps) in table {
        let mut fleet = Fleet::running(before);
        fleet.push(after);
        assert_eq!(fleet.seatings("db"), *steps, "{what}");
    }
}

#[test]
fn nobody_comes_before_those_below_are_available() {
    let mut fleet = Fleet::new();
    fleet.push(&stateful_set("db", 2, "v1", "minReadySeconds: 10"));
    fleet.turn();
    fleet.work();
    fleet.turn();
    fleet.pass(9).turn();
    assert_eq!(fleet.seats("db"), "0:v1", "ready, and not for long enough");
    fleet.pass(1).turn();
    assert_eq!(fleet.seats("db"), "0:v1 1:v1?");
}

#[test]
fn a_missing_pod_comes_back_with_what_its_place_asks_for() {
    let end = |fleet: &mut Fleet, name: &str| {
        let pod = super::fleet::pod_key(name);
        request(fleet, name, RequestKind::DeletePod { pod, uid: None, grace_s: None });
        settled(fleet)
    };
    let mut fleet = Fleet::running(&stateful_set("db", 3, "v1", ""));
    fleet.push(&stateful_set("db", 3, "v2", &partition(2)));
    assert_eq!(settled(&mut fleet), "0:v1 1:v1 2:v2");
    assert_eq!(end(&mut fleet, "db-0"), "0:v1 1:v1 2:v2", "below the partition: what it had");
    assert_eq!(end(&mut fleet, "db-2"), "0:v1 1:v1 2:v2");
    fleet.push(&stateful_set("db", 3, "v3", &partition(2)));
    assert_eq!(settled(&mut fleet), "0:v1 1:v1 2:v3");
    assert_eq!(end(&mut fleet, "db-1"), "0:v1 1:v1 2:v3", "the one in force before, not the last");
    fleet.push(&stateful_set("db", 4, "v3", &partition(2)));
    assert_eq!(settled(&mut fleet), "0:v1 1:v1 2:v3 3:v3");
    fleet.push(&stateful_set("db", 4, "v3", &partition(0)));
    assert_eq!(settled(&mut fleet), "0:v3 1:v3 2:v3 3:v3");
    assert_eq!(end(&mut fleet, "db-0"), "0:v3 1:v3 2:v3 3:v3");

    let on_delete = |image| stateful_set("db", 2, image, "updateStrategy: {type: OnDelete}");
    let mut fleet = Fleet::running(&on_delete("v1"));
    fleet.push(&on_delete("v2"));
    assert_eq!(settled(&mut fleet), "0:v1 1:v1");
    assert_eq!(end(&mut fleet, "db-0"), "0:v2 1:v1", "a person's word brings the new one");
}

/// Kubernetes waits here until a person deletes the pod.
#[test]
fn a_reverted_mistake_heals_by_itself() {
    for policy in ["", PARALLEL] {
        let mut fleet = Fleet::running(&stateful_set("db", 3, "v1", policy));
        let first = fleet.uids("db")[0].clone();
        fleet.push(&stateful_set("db", 3, "bad", policy));
        assert_eq!(settled(&mut fleet), "0:v1 1:v1 2:bad?", "it goes no further");
        fleet.push(&stateful_set("db", 3, "v1", policy));
        assert_eq!(settled(&mut fleet), "0:v1 1:v1 2:v1", "{policy}");
        assert_eq!(fleet.uids("db")[0], first, "whoever was well is left alone");

        let mut fleet = Fleet::running(&stateful_set("db", 3, "bad", policy));
        fleet.push(&stateful_set("db", 3, "v1", policy));
        assert_eq!(settled(&mut fleet), "0:v1 1:v1 2:v1", "never well: {policy}");
    }
}

/// One pod of the bad template came up, the next did not: the healthy one must not be waited for.
#[test]
fn a_mistake_that_shows_late_heals_too() {
    let mut fleet = Fleet::running(&stateful_set("db", 3, "v1", ""));
    fleet.push(&stateful_set("db", 3, "v2", ""));
    for _ in 0..60 {
        fleet.turn();
        fleet.work_as(|pod, image| match (image, pod.index) {
            ("v2", Some(1)) => Mood::Unready,
            _ => Mood::Ready,
        });
        fleet.pass(1);
    }
    assert_eq!(fleet.seats("db"), "0:v1 1:v2? 2:v2");
    fleet.push(&stateful_set("db", 3, "v1", ""));
    assert_eq!(settled(&mut fleet), "0:v1 1:v1 2:v1");
}

/// The first pod is not ready, and will not be.
fn work_badly(fleet: &mut Fleet) {
    fleet.work_as(|pod, _| if pod.index == Some(0) { Mood::Unready } else { Mood::Ready });
}

/// The first pod of three has come to a bad end, and now fewer are wanted.
fn too_many() -> Fleet {
    let mut fleet = Fleet::running(&stateful_set("db", 3, "v1", ""));
    work_badly(&mut fleet);
    fleet.push(&stateful_set("db", 1, "v1", ""));
    fleet.turn();
    assert_eq!(fleet.seats("db"), "0:v1? 1:v1 2:v1", "the first may still come up");
    fleet
}

/// Kubernetes keeps them all until a person has mended the template.
#[test]
fn a_set_whose_template_stays_bad_shrinks_all_the_same() {
    let mut fleet = too_many();
    fleet.pass(590).turn();
    assert_eq!(fleet.seats("db"), "0:v1? 1:v1 2:v1");
    let wake = fleet.last.as_ref().and_then(|plan| plan.wake).expect("it is looked again");
    assert_eq!(wake.since(fleet.now.elapsed).as_secs(), 10);
    fleet.pass(10).turn();
    assert_eq!(fleet.seats("db"), "0:v1? 1:v1 2:v1!", "the last goes first");
    for _ in 0..4 {
        work_badly(&mut fleet);
        fleet.turn();
    }
    assert_eq!(fleet.seats("db"), "0:v1?");
    fleet.push(&stateful_set("db", 2, "v2", ""));
    assert_eq!(settled(&mut fleet), "0:v2 1:v2", "and recovers");
}

#[test]
fn who_is_in_a_back_off_is_not_waited_for() {
    let mut fleet = too_many();
    let node = fleet.input.nodes.get_mut("a").expect("the node");
    for report in Arc::make_mut(&mut node.pods).values_mut() {
        let waiting = Waiting { reason: "CrashLoopBackOff".into(), message: None };
        let status = &mut Arc::make_mut(report).status;
        status.container_statuses =
            vec![ContainerStatus { state: ContainerState::Waiting(waiting), ..container("main") }];
    }
    fleet.turn();
    assert_eq!(fleet.seats("db"), "0:v1? 1:v1 2:v1!");
}

/// How long it stood still at an earlier time does not count.
#[test]
fn patience_begins_anew_with_each_wish() {
    let mut fleet = too_many();
    fleet.pass(590).turn();
    fleet.push(&stateful_set("db", 3, "v1", ""));
    fleet.turn();
    fleet.pass(1000);
    fleet.push(&stateful_set("db", 1, "v1", ""));
    fleet.turn();
    assert_eq!(fleet.seats("db"), "0:v1? 1:v1 2:v1");
}

#[test]
fn a_revert_returns_to_the_revision_it_left() {
    let mut fleet = Fleet::running(&stateful_set("db", 1, "v1", ""));
    let revision =
        |fleet: &Fleet| fleet.bindings("db")[0].labels["controller-revision-hash"].clone();
    let first = revision(&fleet);
    fleet.push(&stateful_set("db", 1, "v2", ""));
    fleet.settle();
    assert_ne!(revision(&fleet), first);
    fleet.push(&stateful_set("db", 1, "v1", ""));
    fleet.settle();
    assert_eq!(revision(&fleet), first);
    let numbers = |fleet: &Fleet| {
        let mut numbers: Vec<u64> =
            fleet.state().revisions.values().map(|revision| revision.revision).collect();
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(numbers(&fleet), [2, 3], "it was renumbered to the front");

    for image in 0..9 {
        fleet.push(&stateful_set("db", 1, &format!("x{image}"), "revisionHistoryLimit: 2"));
        fleet.settle();
    }
    assert_eq!(numbers(&fleet), [10, 11, 12], "two beside the one in force");
    fleet.push("");
    fleet.settle();
    assert!(fleet.state().revisions.is_empty() && fleet.state().stateful_sets.is_empty());
}

#[test]
fn pods_carry_their_names_and_numbers() {
    let fleet = Fleet::running(&stateful_set("db", 2, "v1", ""));
    let pods = fleet.bindings("db");
    let labels: Vec<(&str, &str)> =
        pods[1].labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let revision = fleet.state().revisions.keys().next().expect("one").name.to_string();
    assert_eq!(
        labels,
        [
            ("apps.kubernetes.io/pod-index", "1"),
            ("controller-revision-hash", revision.as_str()),
            ("statefulset.kubernetes.io/pod-name", "db-1"),
        ]
    );
}

#[test]
fn a_pod_that_has_finished_makes_room_for_the_next_of_its_name() {
    let mut fleet = Fleet::running(&stateful_set("db", 2, "v1", ""));
    let failed = fleet.uids("db")[0].clone();
    fleet.work_as(|pod, _| if pod.uid == failed { Mood::Failed } else { Mood::Ready });
    assert_eq!(settled(&mut fleet), "0:v1 1:v1");
    assert!(!fleet.uids("db").contains(&failed));
}

/// docs/DESIGN.md, Hard cases 2.
#[test]
fn a_name_is_given_anew_only_when_its_node_says_so_or_a_person_does() {
    let mut fleet = fleet_of_three();
    let web = super::deployment("web", 6, "v1", "");
    fleet.push(&format!("{web}{}", stateful_set("db", 3, "v1", PARALLEL)));
    while fleet.turn() {}
    super::liveness::all_ready(&mut fleet);
    while fleet.turn() {}
    let on_b = |fleet: &Fleet| {
        let pods = fleet.input.state.pods_of(&NodeName::trusted("b")).cloned().unwrap_or_default();
        let own = pods.values().filter(|pod| pod.owner.name == *"db");
        own.map(|pod| (pod.uid.clone(), pod.deletion.is_some())).collect::<Vec<_>>()
    };
    let [(uid, false)] = &on_b(&fleet)[..] else { panic!("one pod of three is on b") };
    hear(&mut fleet, &["b"], 60);
    for _ in 0..4 {
        fleet.pass(400);
        while fleet.turn() {}
    }
    assert_eq!(
        on_b(&fleet),
        [(uid.clone(), true)],
        "it is to end, and nobody knows whether it has"
    );
    assert_eq!(fleet.bindings("db").len(), 3, "so no other has its name");
    let node = NodeName::trusted("b");
    request(&mut fleet, "f", RequestKind::Fence { node, forget: false });
    while fleet.turn() {}
    assert!(on_b(&fleet).is_empty(), "a person says that it is dead");
    assert_eq!(fleet.bindings("db").len(), 3);
    assert!(!fleet.uids("db").contains(uid));
}
