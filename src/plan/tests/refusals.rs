//! Nodes that turn pods away which the coordinator believes to fit.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Fleet, Mood, deployment};
use crate::kinds::name::{NodeName, Uid};
use crate::kinds::status::REJECTED;

/// Node `a` turns away every pod of this Deployment; all others are ready.
fn turn_away(fleet: &mut Fleet, name: &str) {
    fleet.work_as(|binding, _| match binding.template.owner.name == *name {
        true => Mood::Failed,
        false => Mood::Ready,
    });
    let node = fleet.input.nodes.get_mut(&NodeName::trusted("a")).expect("the node");
    for report in Arc::make_mut(&mut node.pods).values_mut() {
        if report.key.name.as_str().starts_with(name) {
            Arc::make_mut(report).status.message = Some(format!("{REJECTED}OutOfcpu"));
        }
    }
}

/// The pods that were sent to the node in so many seconds of its turning them away.
fn sent(fleet: &mut Fleet, name: &str, seconds: u64) -> usize {
    let mut sent: BTreeSet<Uid> = BTreeSet::new();
    for _ in 0..seconds {
        while fleet.turn() {
            let pods = fleet.input.state.pods_of(&NodeName::trusted("a")).cloned();
            sent.extend(pods.unwrap_or_default().values().map(|pod| pod.uid.clone()));
            turn_away(fleet, name);
        }
        fleet.pass(1);
    }
    sent.len()
}

#[test]
fn a_node_that_turns_a_pod_away_is_asked_more_and_more_rarely() {
    let mut fleet = Fleet::new();
    fleet.push(&deployment("web", 1, "v1", ""));
    let first = sent(&mut fleet, "web", 60);
    assert!((3..=8).contains(&first), "{first} in the first minute");
    let later = sent(&mut fleet, "web", 600);
    assert!((1..=5).contains(&later), "{later} in the next ten");
    let waiting = fleet.bindings("web").into_iter().find(|pod| pod.message.is_some());
    let message = waiting.and_then(|pod| pod.message.clone()).expect("one waits");
    assert!(message.contains("1 node(s) turned such a pod away"), "{message}");
    let wake = fleet.last.as_ref().and_then(|plan| plan.wake);
    assert!(wake.is_some_and(|at| at.since(fleet.now.elapsed).as_secs() <= 300), "{wake:?}");
    // Another template is served at once, and so is what is changed.
    fleet.push(&format!("{}{}", deployment("web", 1, "v1", ""), deployment("api", 1, "v1", "")));
    while fleet.turn() {
        turn_away(&mut fleet, "web");
    }
    assert_eq!(fleet.bindings("api")[0].message, None);
    fleet.push(&deployment("web", 1, "v2", ""));
    while fleet.turn() {
        fleet.work();
    }
    fleet.settle();
    assert_eq!(fleet.bindings("web").len(), 1);
}

#[test]
fn where_it_takes_one_again_all_is_forgiven_in_time() {
    let mut fleet = Fleet::new();
    fleet.push(&deployment("web", 1, "v1", ""));
    sent(&mut fleet, "web", 30);
    fleet.settle();
    assert!(!fleet.memory.refusals.is_empty());
    fleet.pass(1200);
    fleet.push(&deployment("web", 2, "v1", ""));
    while fleet.turn() {}
    assert!(fleet.memory.refusals.is_empty(), "{:?}", fleet.memory.refusals);
}
