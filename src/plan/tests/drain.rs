//! Cordons, drains and evictions: who may go, and when.

use super::liveness::{all_ready, fleet, hear, pods_on};
use super::requests::{answered, request};
use super::{Fleet, deployment, manifest, pod};
use crate::kinds::name::{NodeName, PodKey};
use crate::state::RequestKind;
use crate::state::records::{DrainOptions, NodeAllocation};

fn node(name: &str) -> NodeName {
    NodeName::trusted(name)
}

fn cordon(fleet: &mut Fleet, name: &str) {
    request(fleet, &format!("cordon-{name}"), RequestKind::Cordon { node: node(name) });
    fleet.turn();
}

fn uncordon(fleet: &mut Fleet, name: &str) {
    request(fleet, &format!("uncordon-{name}"), RequestKind::Uncordon { node: node(name) });
    fleet.turn();
}

fn drain(fleet: &mut Fleet, name: &str, how: DrainOptions) {
    request(fleet, &format!("drain-{name}"), RequestKind::Drain { node: node(name), how });
    fleet.turn();
}

fn given<'f>(fleet: &'f Fleet, name: &str) -> &'f NodeAllocation {
    &fleet.input.state.nodes[name]
}

/// The budget of everything called `web`.
fn budget(bound: &str) -> String {
    let spec = format!("spec: {{selector: {{matchLabels: {{app: web}}}}, {bound}}}");
    manifest("policy/v1", "PodDisruptionBudget", "guard", &spec)
}

/// The pods that end for good are gone, the others ready, and that is read.
fn work(fleet: &mut Fleet) {
    all_ready(fleet);
    fleet.pass(1);
    fleet.turn();
}

#[test]
fn nothing_new_comes_to_a_cordoned_node_and_nothing_there_goes() {
    let mut fleet = fleet();
    cordon(&mut fleet, "b");
    assert_eq!(given(&fleet, "b").cordoned.as_ref().map(|c| &*c.by), Some("root"));
    assert!(fleet.event("NodeNotSchedulable").is_some());
    fleet.push(&deployment("web", 12, "v1", ""));
    while fleet.turn() {}
    assert_eq!(pods_on(&fleet, "b"), (2, 0));
    uncordon(&mut fleet, "b");
    fleet.push(&deployment("web", 18, "v1", ""));
    while fleet.turn() {}
    assert!(given(&fleet, "b").cordoned.is_none() && pods_on(&fleet, "b").0 > 2);
}

#[test]
fn what_git_cordons_no_person_uncordons() {
    let mut fleet = Fleet::new();
    let cordoned =
        "---\napiVersion: v1\nkind: Node\nmetadata: {name: a}\nspec: {unschedulable: true}\n";
    fleet.push(&format!("{cordoned}{}", pod("p", "v1", "")));
    fleet.turn();
    uncordon(&mut fleet, "a");
    assert_eq!(
        fleet.bindings("p")[0].message.as_deref().map(|m| m.contains("unschedulable")),
        Some(true)
    );
}

#[test]
fn without_a_budget_all_go_at_once_and_come_elsewhere() {
    let mut fleet = fleet();
    drain(&mut fleet, "b", DrainOptions::default());
    assert!(given(&fleet, "b").cordoned.is_some() && given(&fleet, "b").draining.is_some());
    assert_eq!(pods_on(&fleet, "b"), (2, 2));
    assert_eq!(pods_on(&fleet, "a").0 + pods_on(&fleet, "c").0, 6);
    work_gone(&mut fleet);
    assert_eq!(pods_on(&fleet, "b"), (0, 0));
    assert!(given(&fleet, "b").draining.is_none() && given(&fleet, "b").cordoned.is_some());
    assert_eq!(fleet.event("NodeDrained").as_deref(), Some("Node b: Node b is drained"));
    let before = fleet.input.state.clone();
    fleet.pass(600);
    assert!(!fleet.turn(), "{:?}", fleet.last.map(|plan| plan.why));
    assert_eq!(fleet.input.state, before);
}

/// What ends on other nodes than the first is gone.
fn work_gone(fleet: &mut Fleet) {
    for name in ["b", "c"] {
        let pods = fleet.input.state.pods_of(&node(name)).cloned().unwrap_or_default();
        let input = fleet.input.nodes.get_mut(name).expect("the node");
        let reports = std::sync::Arc::make_mut(&mut input.pods);
        for binding in pods.values().filter(|binding| binding.deletion.is_some()) {
            if let Some(report) = reports.get_mut(&binding.uid) {
                std::sync::Arc::make_mut(report).gone = true;
            }
        }
    }
    fleet.turn();
    fleet.turn();
}

#[test]
fn a_budget_lets_go_as_many_as_it_may_and_the_rest_when_others_are_ready() {
    let web = deployment("web", 6, "v1", "");
    let mut fleet = fleet();
    fleet.push(&format!("{web}{}", budget("maxUnavailable: 1")));
    while fleet.turn() {}
    drain(&mut fleet, "b", DrainOptions::default());
    assert_eq!(pods_on(&fleet, "b"), (2, 1), "one may be missing");
    fleet.turn();
    assert_eq!(pods_on(&fleet, "b"), (2, 1), "its replacement is not ready");
    work_gone(&mut fleet);
    assert_eq!(pods_on(&fleet, "b"), (1, 0));
    // A coordinator that takes over goes on where this one stood.
    fleet.memory = Default::default();
    work(&mut fleet);
    assert_eq!(pods_on(&fleet, "b"), (1, 1));
    work_gone(&mut fleet);
    work(&mut fleet);
    assert_eq!(pods_on(&fleet, "b"), (0, 0));
    assert!(given(&fleet, "b").draining.is_none());
}

#[test]
fn an_uncordon_ends_a_drain() {
    let mut fleet = fleet();
    let web = deployment("web", 6, "v1", "");
    fleet.push(&format!("{web}{}", budget("maxUnavailable: 0")));
    while fleet.turn() {}
    drain(&mut fleet, "b", DrainOptions::default());
    assert_eq!(pods_on(&fleet, "b"), (2, 0), "the budget lets nobody go");
    uncordon(&mut fleet, "b");
    assert!(given(&fleet, "b").draining.is_none());
    fleet.push(&web);
    while fleet.turn() {}
    assert_eq!(pods_on(&fleet, "b"), (2, 0));
}

#[test]
fn who_is_by_himself_or_has_data_stays_unless_it_is_said() {
    let with_data = manifest(
        "v1",
        "Pod",
        "data",
        "spec: {volumes: [{name: d, emptyDir: {}}], containers: [{name: main, image: v1}]}",
    );
    let manifests =
        format!("{}{}{with_data}", deployment("web", 1, "v1", ""), pod("alone", "v1", ""));
    let leaving = |force: bool, delete_emptydir_data: bool| {
        let mut fleet = Fleet::running(&manifests);
        let how = DrainOptions { force, delete_emptydir_data, ..DrainOptions::default() };
        drain(&mut fleet, "a", how);
        let names = ["web", "alone", "data"].into_iter();
        let leave = |name: &&str| fleet.bindings(name).iter().any(|b| b.deletion.is_some());
        names.filter(leave).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(leaving(false, false), "web");
    assert_eq!(leaving(true, false), "web alone");
    assert_eq!(leaving(false, true), "web");
    assert_eq!(leaving(true, true), "web alone data");
}

fn evict(fleet: &mut Fleet, id: &str, which: usize) -> PodKey {
    let binding = fleet.bindings("web")[which].clone();
    let (pod, uid) = (binding.key.clone(), binding.uid.clone());
    request(fleet, id, RequestKind::EvictPod { pod: pod.clone(), uid, grace_s: Some(7) });
    pod
}

#[test]
fn an_eviction_waits_until_the_budget_permits_and_is_then_answered() {
    let mut fleet =
        Fleet::running(&format!("{}{}", deployment("web", 3, "v1", ""), budget("minAvailable: 2")));
    let first = evict(&mut fleet, "e1", 0);
    evict(&mut fleet, "e2", 1);
    fleet.turn();
    assert_eq!(answered(&fleet), ["e1"]);
    let ending = fleet.bindings("web").into_iter().find(|b| b.key == first);
    let deletion = ending.and_then(|b| b.deletion.clone()).expect("it ends");
    assert_eq!((deletion.grace_s, &*deletion.reason), (7, "EvictionByEvictionAPI"));
    fleet.turn();
    assert_eq!(answered(&fleet), ["e1"], "the other waits");
    fleet.settle();
    assert_eq!(answered(&fleet), ["e1", "e2"]);
    assert_eq!(fleet.pods("web"), "v1=3");
}

#[test]
fn a_pod_that_is_not_ready_may_go_while_enough_others_are() {
    let may_go = |bound: &str, unready: usize| {
        let web = deployment("web", 3, "v1", "");
        let mut fleet = Fleet::running(&format!("{web}{}", budget(bound)));
        let sick: Vec<_> = fleet.uids("web").into_iter().take(unready).collect();
        fleet.work_as(|binding, _| match sick.contains(&binding.uid) {
            true => super::Mood::Unready,
            false => super::Mood::Ready,
        });
        fleet.turn();
        evict(&mut fleet, "e", 0);
        fleet.turn();
        !answered(&fleet).is_empty()
    };
    assert!(may_go("minAvailable: 2", 1));
    assert!(!may_go("minAvailable: 2", 2));
    assert!(!may_go("minAvailable: 3", 0));
}

#[test]
fn a_request_of_a_later_version_is_left_for_who_knows_it() {
    let text =
        r#"{"id":"x","what":{"teleportPod":{"pod":"p"}},"by":"root","at":"2026-01-01T00:00:00Z"}"#;
    let request: crate::state::PersonRequest = serde_json::from_str(text).expect("reads");
    assert!(matches!(request.what, RequestKind::Later(_)));
    let mut fleet = Fleet::running(&deployment("web", 1, "v1", ""));
    super::requests::request(&mut fleet, "x", request.what);
    assert!(!fleet.turn() && answered(&fleet).is_empty());
}

#[test]
fn a_node_nobody_knows_can_not_be_cordoned() {
    let mut fleet = fleet();
    hear(&mut fleet, &["b"], 0);
    cordon(&mut fleet, "nobody");
    assert!(!fleet.input.state.nodes.contains_key("nobody"));
    assert_eq!(answered(&fleet), ["cordon-nobody"]);
}
