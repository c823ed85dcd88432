//! Nodes that fall silent: their pods leave their Services at once and are replaced after their
//! toleration; nothing is given up while it may be us who hear nothing.

use std::sync::Arc;
use std::time::Duration;

use super::super::{NodeInput, Silence};
use super::{Fleet, deployment};
use crate::kinds::name::NodeName;
use crate::kinds::status::PodReport;

const OTHERS: [&str; 2] = ["b", "c"];

/// A fleet of three on which six pods run. Every pod that was bound is ready.
pub(super) fn fleet() -> Fleet {
    let mut fleet = Fleet::new();
    for name in OTHERS {
        let input = NodeInput { is_ready: true, ..NodeInput::default() };
        fleet.input.nodes.insert(NodeName::trusted(name), input);
    }
    hear(&mut fleet, &["a", "b", "c"], 0);
    fleet.push(&deployment("web", 6, "v1", ""));
    fleet.turn();
    all_ready(&mut fleet);
    fleet.turn();
    fleet
}

/// Every pod is ready on its node.
pub(super) fn all_ready(fleet: &mut Fleet) {
    fleet.work();
    let ready = fleet.input.nodes["a"].pods.values().next().cloned().expect("a has a pod");
    for name in OTHERS {
        let node = NodeName::trusted(name);
        let pods = fleet.input.state.pods_of(&node).cloned().unwrap_or_default();
        let reports = pods.values().map(|binding| {
            let (key, uid) = (binding.key.clone(), binding.uid.clone());
            let report = PodReport { key, uid: uid.clone(), ..PodReport::clone(&ready) };
            (uid, Arc::new(report))
        });
        fleet.input.nodes.get_mut(&node).expect("the node").pods = Arc::new(reports.collect());
    }
}

/// These nodes have been silent for so long.
pub(super) fn hear(fleet: &mut Fleet, names: &[&str], seconds: u64) {
    for name in names {
        let node = fleet.input.nodes.get_mut(*name).expect("the node");
        let lasts = Duration::from_secs(seconds);
        node.silence = Silence { lasts, was_heard: seconds == 0 };
    }
}

pub(super) fn is_lost(fleet: &Fleet, name: &str) -> bool {
    fleet.input.state.nodes[name].lost.is_some()
}

/// How many pods are bound to a node, and how many of them are being ended.
pub(super) fn pods_on(fleet: &Fleet, name: &str) -> (usize, usize) {
    let pods = fleet.input.state.pods_of(&NodeName::trusted(name)).cloned().unwrap_or_default();
    (pods.len(), pods.values().filter(|pod| pod.deletion.is_some()).count())
}

#[test]
fn a_silent_node_is_lost_and_its_pods_are_replaced_after_their_toleration() {
    let mut fleet = fleet();
    assert_eq!(pods_on(&fleet, "b"), (2, 0));
    hear(&mut fleet, &["b"], 39);
    assert!(!fleet.turn() && !is_lost(&fleet, "b"));
    hear(&mut fleet, &["b"], 40);
    assert!(fleet.turn() && is_lost(&fleet, "b"));
    assert_eq!(
        fleet.event("NodeNotReady").as_deref(),
        Some("Node b: Node b status is now: NodeNotReady")
    );
    fleet.turn();
    assert_eq!(fleet.record("web").available.reason, "MinimumReplicasUnavailable");
    fleet.pass(299).turn();
    assert_eq!(pods_on(&fleet, "b"), (2, 0), "they are borne with for five minutes");
    fleet.pass(2);
    while fleet.turn() {}
    assert_eq!(
        pods_on(&fleet, "b"),
        (2, 2),
        "they stand in the list until the node says they are gone"
    );
    assert_eq!(pods_on(&fleet, "a").0 + pods_on(&fleet, "c").0, 6, "others took their place");
}

#[test]
fn a_node_that_comes_back_in_time_keeps_its_pods() {
    let mut fleet = fleet();
    hear(&mut fleet, &["b"], 60);
    fleet.turn();
    fleet.pass(200).turn();
    hear(&mut fleet, &["b"], 0);
    assert!(fleet.turn() && !is_lost(&fleet, "b"));
    fleet.pass(3600).turn();
    assert_eq!(pods_on(&fleet, "b"), (2, 0));
}

#[test]
fn with_most_nodes_silent_nothing_is_given_up() {
    let mut fleet = fleet();
    hear(&mut fleet, &OTHERS, 60);
    fleet.turn();
    assert!(is_lost(&fleet, "b") && is_lost(&fleet, "c"));
    fleet.pass(3600).turn();
    assert_eq!((pods_on(&fleet, "b"), pods_on(&fleet, "c")), ((2, 0), (2, 0)));
}

#[test]
fn a_new_coordinator_does_not_take_a_lost_node_for_living() {
    let mut fleet = fleet();
    hear(&mut fleet, &["b"], 60);
    fleet.turn();
    // It has counted no silence yet, and heard nothing either.
    fleet.input.nodes.get_mut("b").expect("the node").silence = Silence::default();
    fleet.turn();
    assert!(is_lost(&fleet, "b"));
}

#[test]
fn nothing_is_placed_on_a_lost_node() {
    let mut fleet = fleet();
    hear(&mut fleet, &["b"], 60);
    fleet.turn();
    fleet.push(&deployment("web", 12, "v1", ""));
    while fleet.turn() {}
    assert_eq!(pods_on(&fleet, "b"), (2, 0));
    assert_eq!(pods_on(&fleet, "a").0 + pods_on(&fleet, "c").0, 10);
}
