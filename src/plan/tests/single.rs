//! Pods written by hand.

use super::{Fleet, Mood, pod};

#[test]
fn a_pod_is_made_once_under_its_own_name() {
    let mut fleet = Fleet::running(&pod("lone", "v1", "a: b"));
    assert_eq!(fleet.names("lone"), ["lone"]);
    let uids = fleet.uids("lone");
    assert!(!fleet.turn());
    assert_eq!(fleet.uids("lone"), uids);
}

/// Each line: the manifest's next writing, and whether the pod is made anew.
#[test]
fn only_another_spec_makes_a_pod_anew() {
    let first = pod("lone", "v1", "a: b");
    let table = [
        ("another label", pod("lone", "v1", "a: c, d: e"), false),
        ("no label", pod("lone", "v1", ""), false),
        ("an annotation", first.replace("labels:", "annotations: {x: y}, labels:"), false),
        (
            "a default written out",
            first.replace("spec: {", "spec: {restartPolicy: Always, "),
            false,
        ),
        ("another image", pod("lone", "v2", "a: b"), true),
        ("another policy", first.replace("spec: {", "spec: {restartPolicy: Never, "), true),
    ];
    for (what, next, is_made_anew) in table {
        let mut fleet = Fleet::running(&first);
        let before = fleet.uids("lone");
        fleet.push(&next);
        fleet.settle();
        assert_eq!(fleet.names("lone"), ["lone"], "{what}");
        assert_eq!(fleet.uids("lone") != before, is_made_anew, "{what}");
    }
}

#[test]
fn the_new_pod_waits_until_the_name_is_free() {
    let mut fleet = Fleet::running(&pod("lone", "v1", "a: b"));
    fleet.push(&pod("lone", "v2", "a: b"));
    fleet.turn();
    assert_eq!(fleet.pods("lone"), "leaving=1");
    fleet.work_as(|_, _| Mood::Clings);
    fleet.turn();
    assert_eq!(fleet.pods("lone"), "leaving=1");
    fleet.work();
    fleet.turn();
    assert_eq!(fleet.pods("lone"), "v2=1");
}

#[test]
fn a_pod_that_has_done_its_work_stays_done() {
    let mut fleet = Fleet::running(&pod("lone", "v1", "a: b"));
    let before = fleet.uids("lone");
    fleet.work_as(|_, _| Mood::Succeeded);
    fleet.turn();
    fleet.pass(3600).turn();
    assert_eq!(fleet.uids("lone"), before);
}

#[test]
fn a_pod_by_hand_whose_name_a_set_has_given_away_takes_it_over() {
    let set = super::replica_set("web", 1, "v1", "{matchLabels: {app: web}}");
    let mut fleet = Fleet::running(&set);
    let name = fleet.names("web")[0].clone();
    fleet.push(&format!("{set}{}", pod(&name, "v1", "a: b")));
    fleet.settle();
    assert_eq!(fleet.names(&name), std::slice::from_ref(&name), "by hand");
    assert_eq!(fleet.pods("web"), "v1=1", "and the set has one under another name");
    assert!(!fleet.names("web").contains(&name));
}
