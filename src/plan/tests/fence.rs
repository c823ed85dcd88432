//! Nodes that a person declares dead.

use std::sync::Arc;

use super::liveness::{fleet, hear, is_lost, pods_on};
use super::requests::{answered, request};
use super::{Fleet, deployment};
use crate::kinds::name::NodeName;
use crate::state::RequestKind;

fn fence(fleet: &mut Fleet, id: &str, name: &str, forget: bool) {
    request(fleet, id, RequestKind::Fence { node: NodeName::trusted(name), forget });
    fleet.turn();
}

/// A fleet of three of which `b` was powered off.
fn bereft() -> Fleet {
    let mut fleet = fleet();
    hear(&mut fleet, &["b"], 60);
    fleet.turn();
    assert!(is_lost(&fleet, "b"));
    fleet
}

fn fenced(fleet: &Fleet, name: &str) -> bool {
    fleet.input.state.nodes[name].fenced.is_some()
}

#[test]
fn what_a_dead_node_ran_is_forgotten_and_replaced_at_once() {
    let mut fleet = bereft();
    fence(&mut fleet, "f", "b", false);
    while fleet.turn() {}
    assert_eq!(pods_on(&fleet, "b"), (0, 0));
    assert_eq!(pods_on(&fleet, "a").0 + pods_on(&fleet, "c").0, 6);
    assert!(fenced(&fleet, "b") && answered(&fleet) == ["f"]);
    let told = fleet.event("NodeFenced");
    assert_eq!(
        told.as_deref(),
        Some("Node b: Node b was declared dead by root: 2 pods are forgotten")
    );
}

#[test]
fn pods_that_wait_for_the_word_of_a_dead_node_vanish() {
    let mut fleet = bereft();
    fleet.pass(301);
    while fleet.turn() {}
    fleet.pass(301);
    while fleet.turn() {}
    assert_eq!(pods_on(&fleet, "b"), (2, 2), "they wait for its word");
    fence(&mut fleet, "f", "b", false);
    assert_eq!(pods_on(&fleet, "b"), (0, 0));
}

#[test]
fn a_node_that_is_heard_of_can_not_be_declared_dead() {
    let mut fleet = fleet();
    fence(&mut fleet, "f", "b", false);
    assert!(!fenced(&fleet, "b") && answered(&fleet) == ["f"]);
    assert_eq!(pods_on(&fleet, "b"), (2, 0));
}

#[test]
fn it_is_used_again_when_it_is_back_and_holds_nothing_of_what_it_had() {
    let mut fleet = bereft();
    fence(&mut fleet, "f", "b", false);
    // It is heard of before it has let go.
    hear(&mut fleet, &["b"], 0);
    fleet.push(&deployment("web", 12, "v1", ""));
    while fleet.turn() {}
    assert!(fenced(&fleet, "b") && !is_lost(&fleet, "b"));
    assert_eq!(pods_on(&fleet, "b"), (0, 0));
    fleet.input.nodes.get_mut("b").expect("the node").pods = Arc::default();
    fleet.turn();
    assert!(!fenced(&fleet, "b") && fleet.event("NodeUnfenced").is_some());
    fleet.push(&deployment("web", 18, "v1", ""));
    while fleet.turn() {}
    assert!(pods_on(&fleet, "b").0 > 0);
}

#[test]
fn a_node_that_was_deleted_is_not_taken_for_living_by_what_it_said_last() {
    let mut fleet = bereft();
    let before = fleet.input.state.nodes["b"].clone();
    fence(&mut fleet, "f", "b", true);
    assert!(fleet.input.state.nodes["b"].is_forgotten());
    // The register still stands there, and a new coordinator has counted no silence.
    fleet.input.nodes.get_mut("b").expect("the node").silence = Default::default();
    fleet.push(&deployment("web", 12, "v1", ""));
    while fleet.turn() {}
    assert!(fleet.input.state.nodes["b"].is_forgotten());
    assert_eq!(pods_on(&fleet, "b"), (0, 0));
    // It registers anew, and has the addresses it had.
    let node = fleet.input.nodes.get_mut("b").expect("the node");
    node.pods = Arc::default();
    hear(&mut fleet, &["b"], 0);
    fleet.turn();
    let after = &fleet.input.state.nodes["b"];
    assert!(after.fenced.is_none() && after.lost.is_none());
    assert_eq!(after.pod_cidr, before.pod_cidr);
    assert_ne!(after.uid, before.uid);
}

#[test]
fn the_dead_do_not_count_among_the_silent() {
    let mut fleet = fleet();
    hear(&mut fleet, &["b", "c"], 60);
    fleet.turn();
    fence(&mut fleet, "f", "b", false);
    fleet.turn();
    fleet.pass(301);
    while fleet.turn() {}
    fleet.pass(301);
    while fleet.turn() {}
    assert_eq!(pods_on(&fleet, "c").1, pods_on(&fleet, "c").0, "one of two is silent: its pods go");
    assert_eq!(pods_on(&fleet, "a").0, 6);
}

#[test]
fn a_node_without_a_register_is_missed_and_one_that_was_deleted_is_forgotten() {
    let mut fleet = fleet();
    // Somebody deleted its ref; one that lives would write it anew.
    fleet.input.nodes.remove("b");
    fleet.turn();
    assert!(!is_lost(&fleet, "b"));
    let wake = fleet.last.as_ref().and_then(|plan| plan.wake);
    assert!(wake.is_some_and(|at| at.since(fleet.now.elapsed).as_secs() <= 40), "{wake:?}");
    fleet.pass(40);
    fleet.turn();
    assert!(is_lost(&fleet, "b"));
    let freed = fleet.input.state.nodes["b"].pod_cidr;
    fence(&mut fleet, "f", "b", true);
    while fleet.turn() {}
    assert!(!fleet.input.state.nodes.contains_key("b"));
    assert_eq!(pods_on(&fleet, "a").0 + pods_on(&fleet, "c").0, 6);
    let newcomer = crate::plan::NodeInput { is_ready: true, ..Default::default() };
    fleet.input.nodes.insert(NodeName::trusted("d"), newcomer);
    fleet.turn();
    assert_eq!(fleet.input.state.nodes["d"].pod_cidr, freed, "its pod network is free");
}
