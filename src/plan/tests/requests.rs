//! The lease, and what people ask for.

use std::sync::Arc;

use super::fleet::{NODE, pod_key};
use super::{Fleet, Mood, deployment};
use crate::kinds::name::{NodeName, PodKey, Uid};
use crate::state::{PersonRequest, RequestKind};

fn ask(fleet: &mut Fleet, id: &str, pod: &PodKey, uid: Option<Uid>, grace_s: Option<u32>) {
    request(fleet, id, RequestKind::DeletePod { pod: pod.clone(), uid, grace_s });
}

/// Somebody asks for this at the first node.
pub(super) fn request(fleet: &mut Fleet, id: &str, what: RequestKind) {
    let request = PersonRequest {
        id: Uid::trusted(id),
        what,
        by: "root".into(),
        at: fleet.now.wall,
        unknown: Default::default(),
    };
    let node = fleet.input.nodes.get_mut(&NodeName::trusted(NODE)).expect("the node");
    Arc::make_mut(&mut node.requests).push(request);
}

/// The requests that were carried out.
pub(super) fn answered(fleet: &Fleet) -> Vec<String> {
    let ids = fleet.input.state.answered.get(&NodeName::trusted(NODE));
    ids.into_iter().flatten().map(ToString::to_string).collect()
}

#[test]
fn a_pod_that_somebody_deletes_is_replaced_and_the_request_acknowledged() {
    let mut fleet = Fleet::running(&deployment("web", 2, "v1", ""));
    let victim = fleet.bindings("web")[0].clone();
    ask(&mut fleet, "r1", &victim.key, None, Some(5));
    fleet.turn();
    let found = fleet.bindings("web").into_iter().find(|b| b.uid == victim.uid).expect("leaving");
    let deletion = found.deletion.clone().expect("it ends");
    assert_eq!((deletion.grace_s, deletion.reason.as_str()), (5, "Deleted"));
    assert_eq!(fleet.pods("web"), "v1=2 leaving=1", "its set makes another in the same turn");
    assert_eq!(answered(&fleet), ["r1"]);
}

#[test]
fn a_request_is_carried_out_once() {
    let mut fleet = Fleet::running(&deployment("web", 1, "v1", ""));
    let key = pod_key(fleet.bindings("web")[0].key.name.as_str());
    ask(&mut fleet, "r1", &key, None, None);
    fleet.settle();
    let after = fleet.uids("web");
    assert_eq!(after.len(), 1);
    for _ in 0..3 {
        fleet.turn();
        fleet.work();
    }
    assert_eq!(fleet.uids("web"), after, "the node still holds the request; it was answered");
    let node = fleet.input.nodes.get_mut(&NodeName::trusted(NODE)).expect("the node");
    node.requests = Arc::default();
    fleet.turn();
    assert!(answered(&fleet).is_empty(), "the node has read the answer: it is forgotten");
}

#[test]
fn a_request_for_another_life_ends_nobody() {
    let mut fleet = Fleet::running(&deployment("web", 1, "v1", ""));
    let key = fleet.bindings("web")[0].key.clone();
    ask(&mut fleet, "r1", &key, Some(Uid::trusted("another-life")), None);
    ask(&mut fleet, "r2", &pod_key("nobody"), None, None);
    fleet.turn();
    assert_eq!(fleet.pods("web"), "v1=1");
    assert_eq!(answered(&fleet), ["r1", "r2"], "they are answered all the same");
}

#[test]
fn a_shorter_grace_wins_and_a_longer_one_does_not() {
    let mut fleet = Fleet::running(&deployment("web", 1, "v1", ""));
    let victim = fleet.bindings("web")[0].clone();
    let grace = |fleet: &Fleet| {
        let all = fleet.bindings("web");
        let found = all.iter().find(|b| b.uid == victim.uid).expect("leaving");
        found.deletion.as_ref().expect("it ends").grace_s
    };
    let asked = [(Some(20), 20), (Some(60), 20), (None, 10), (Some(0), 0), (Some(30), 0)];
    for (number, (grace_s, expected)) in asked.into_iter().enumerate() {
        ask(&mut fleet, &format!("r{number}"), &victim.key, None, grace_s);
        fleet.turn();
        fleet.work_as(|_, _| Mood::Clings);
        assert_eq!(grace(&fleet), expected, "after {grace_s:?}");
    }
}

#[test]
fn the_lease_is_taken_once_and_by_whoever_writes() {
    let mut fleet = Fleet::running(&deployment("web", 1, "v1", ""));
    let lease = fleet.input.state.lease.clone().expect("a lease");
    assert_eq!((lease.holder.as_str(), lease.term, lease.duration_s), (NODE, 1, 15));
    fleet.pass(3600).turn();
    assert_eq!(fleet.input.state.lease.as_ref(), Some(&lease), "time alone changes nothing");
    fleet.input.incarnation = "second".into();
    fleet.turn();
    let next = fleet.input.state.lease.clone().expect("a lease");
    assert_eq!((next.term, next.incarnation.as_str()), (2, "second"));
    assert!(fleet.last.as_ref().is_some_and(|plan| plan.why.contains("a coordinates, term 2")));
}

#[test]
fn a_turn_that_decides_nothing_writes_nothing() {
    let mut fleet = Fleet::running(&deployment("web", 3, "v1", ""));
    let before = fleet.input.state.clone();
    fleet.pass(86_400);
    assert!(!fleet.turn());
    assert_eq!(fleet.input.state, before);
    assert!(before.edits_to(&fleet.input.state).is_empty());
}

#[test]
fn one_push_is_one_turn_from_commit_to_node() {
    let mut fleet = Fleet::new();
    fleet.push(&deployment("web", 3, "v1", ""));
    fleet.turn();
    let placed = fleet.input.state.pods_of(&NodeName::trusted(NODE)).map(|pods| pods.len());
    assert_eq!(placed, Some(3));
    let why = fleet.last.as_ref().map(|plan| plan.why.clone()).unwrap_or_default();
    for word in ["in force", "new ReplicaSet", "3 new pods", "goes to a"] {
        assert!(why.contains(word), "{why}");
    }
}
