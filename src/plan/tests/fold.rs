//! What the coordinator folds, and when it writes it.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use super::liveness::fleet;
use super::{Fleet, deployment};
use crate::kinds::binding::Generation;
use crate::kinds::fleet::FleetSettings;
use crate::kinds::name::{Name, NodeName};
use crate::kinds::node::NodeFacts;
use crate::kinds::status::{ContainerState, ContainerStatus, PodReport, Truth, Waiting};
use crate::kinds::time::Wall;
use crate::state::NodeReport;

/// A fleet of three that folds above two, all told. Each node has two pods, with addresses.
fn folding() -> Fleet {
    let mut fleet = fleet();
    fleet.input.folds_above = 2;
    for node in ["a", "b", "c"] {
        change(&mut fleet, node, |pod| pod.status.pod_ip = Some(Ipv4Addr::new(10, 244, 0, 9)));
    }
    fleet.turn();
    fleet.turn();
    assert_eq!(fleet.input.state.fold.len(), 3);
    fleet.pass(60);
    assert!(!fleet.turn(), "all is told");
    fleet
}

/// Another word of a node about its first pod.
fn change(fleet: &mut Fleet, node: &str, change: impl FnOnce(&mut PodReport)) {
    let input = fleet.input.nodes.get_mut(node).expect("the node");
    let pods = Arc::make_mut(&mut input.pods);
    change(Arc::make_mut(pods.values_mut().next().expect("a pod")));
}

fn facts(fleet: &mut Fleet, node: &str, change: impl FnOnce(&mut NodeFacts)) {
    change(Arc::make_mut(&mut fleet.input.nodes.get_mut(node).expect("the node").facts));
}

fn unready(pod: &mut PodReport) {
    pod.status.conditions[0].status = Truth::from(false);
}

fn ready(pod: &mut PodReport) {
    pod.status.conditions[0].status = Truth::from(true);
}

fn restarted(pod: &mut PodReport) {
    let before = pod.status.container_statuses.first().map_or(0, |one| one.restart_count);
    pod.status.container_statuses = vec![ContainerStatus {
        name: Name::trusted("main"),
        state: ContainerState::default(),
        last_state: ContainerState::default(),
        ready: true,
        started: None,
        restart_count: before + 1,
        image: "shop:v1".into(),
        image_id: "sha256:1".into(),
        container_id: Some("docker://1".into()),
    }];
}

fn folded<'f>(fleet: &'f Fleet, node: &str) -> &'f NodeReport {
    &fleet.input.state.fold[node]
}

/// Whether the fold says of each node's first pod what the node says.
fn tells(fleet: &Fleet, node: &str) -> bool {
    let said = fleet.input.nodes[node].pods.values().next().expect("a pod");
    folded(fleet, node).pods[&said.uid].status == said.status.brief()
}

fn waits(fleet: &Fleet) -> Option<Duration> {
    let wake = fleet.last.as_ref().and_then(|plan| plan.wake);
    wake.map(|at| at.since(fleet.now.elapsed))
}

#[test]
fn a_brief_has_what_packets_names_and_lists_need_and_no_more() {
    let mut fleet = folding();
    let ip = Ipv4Addr::new(192, 168, 0, 2);
    facts(&mut fleet, "b", |facts| {
        facts.addresses = vec![ip.into()];
        facts.labels.insert("topology.kubernetes.io/zone".into(), "east".into());
        facts.installation = "one".into();
        facts.has_acted = true;
        (facts.knows, facts.holds) = (Some(Generation::default()), Some(Generation::default()));
        facts.started = Wall::from_seconds(7);
    });
    change(&mut fleet, "b", |pod| {
        restarted(pod);
        pod.status.message = Some("a sentence".into());
        let one = &mut pod.status.container_statuses[0];
        one.state = ContainerState::Waiting(Waiting {
            reason: "CrashLoopBackOff".into(),
            message: Some("back-off 10s".into()),
        });
    });
    fleet.pass(30);
    fleet.turn();
    let NodeReport { facts, pods, events, requests, .. } = folded(&fleet, "b");
    assert_eq!((facts.ipv4(), facts.started), (Some(ip), Wall::from_seconds(7)));
    assert_eq!(facts.labels["topology.kubernetes.io/zone"], "east");
    assert_eq!((facts.installation.as_str(), facts.has_acted), ("", false));
    assert_eq!((facts.knows, facts.holds), (None, None));
    assert!(facts.images.is_empty() && events.is_empty() && requests.is_empty());
    assert_eq!(pods.len(), fleet.input.nodes["b"].pods.len());
    let status = &pods.values().next().expect("a pod").status;
    let one = &status.container_statuses[0];
    assert_eq!((one.restart_count, one.image.as_str()), (1, "shop:v1"));
    assert_eq!((one.container_id.as_ref(), one.image_id.as_str()), (None, ""));
    let waiting = Waiting { reason: "CrashLoopBackOff".into(), message: None };
    assert_eq!(one.state, ContainerState::Waiting(waiting));
    assert_eq!((status.message.as_ref(), status.is_ready()), (None, true));
    assert_eq!(status.pod_ip, Some(Ipv4Addr::new(10, 244, 0, 9)));
}

#[test]
fn settings_are_folded_only_where_they_are_not_the_fleets() {
    let settings = |version: u64, value: &str| {
        let fields = [("fleet.evictAfter".to_owned(), value.to_owned())];
        Some(FleetSettings { version, fields: fields.into() })
    };
    for (says, is_told) in [
        (settings(3, "5m"), false),
        (settings(1, "5m"), false),
        (settings(3, "9m"), true),
        (settings(1, "9m"), true),
        // What a change of all would be counted by.
        (settings(4, "5m"), true),
        (None, false),
    ] {
        let mut fleet = folding();
        let in_force = settings(3, "5m").map(Arc::new);
        fleet.input.fleet = in_force.clone().expect("settings");
        fleet.input.state.settings = in_force;
        facts(&mut fleet, "b", |facts| facts.settings.clone_from(&says));
        fleet.turn();
        fleet.pass(30);
        fleet.turn();
        let expected = says.clone().filter(|_| is_told);
        assert_eq!(folded(&fleet, "b").facts.settings, expected, "{says:?}");
    }
}

#[test]
fn what_people_act_by_is_written_at_once_and_at_most_once_a_second_the_rest_within_half_a_minute() {
    type Word = fn(&mut PodReport);
    let moved: Word = |pod| pod.status.pod_ip = Some(Ipv4Addr::new(10, 244, 0, 10));
    let sentence: Word = |pod| pod.status.message = Some("a sentence".into());
    // A word, how long after the last fold it comes, and how long it then waits; none if for ever.
    let cases: [(&str, Word, Duration, Option<Duration>); 6] = [
        ("not ready", unready, Duration::from_secs(2), Some(Duration::ZERO)),
        ("not ready", unready, Duration::from_millis(400), Some(Duration::from_millis(600))),
        ("another address", moved, Duration::from_secs(2), Some(Duration::ZERO)),
        ("a restart", restarted, Duration::from_secs(2), Some(Duration::from_secs(30))),
        ("a restart", restarted, Duration::from_secs(600), Some(Duration::from_secs(30))),
        ("a sentence", sentence, Duration::from_secs(600), None),
    ];
    for (what, word, after, expected) in cases {
        let mut fleet = folding();
        // A fold from which to count.
        change(&mut fleet, "c", moved);
        assert!(fleet.turn());
        fleet.now.elapsed = fleet.now.elapsed + after;
        change(&mut fleet, "b", word);
        let is_written = fleet.turn();
        let waits = waits(&fleet).filter(|_| !is_written);
        let told = format!("{what} after {after:?}");
        let why = fleet.last.as_ref().map(|plan| &plan.why);
        assert_eq!(is_written, expected == Some(Duration::ZERO), "{told}: {why:?}");
        let Some(expected) = expected.filter(|_| !is_written) else {
            assert_eq!(waits, None, "{told}");
            continue;
        };
        assert_eq!(waits, Some(expected), "{told}");
        fleet.now.elapsed = fleet.now.elapsed + expected;
        assert!(fleet.turn() && tells(&fleet, "b"), "{told}: it is written then");
    }
}

#[test]
fn what_flaps_is_written_once_a_second_and_what_is_taken_back_not_at_all() {
    let mut fleet = folding();
    let mut writes = 0;
    for step in 0..100 {
        change(&mut fleet, "b", if step % 2 == 0 { unready } else { ready });
        writes += u32::from(fleet.turn());
        fleet.now.elapsed = fleet.now.elapsed + Duration::from_millis(101);
    }
    assert!((9..=11).contains(&writes), "{writes} writes in ten seconds");

    let mut fleet = folding();
    let pods = fleet.input.nodes["b"].pods.clone();
    change(&mut fleet, "b", restarted);
    assert!(!fleet.turn());
    fleet.input.nodes.get_mut("b").expect("the node").pods = pods;
    fleet.pass(60);
    assert!(!fleet.turn(), "it says what it said");
    // And the half minute begins anew with the next word.
    change(&mut fleet, "b", restarted);
    assert!(!fleet.turn());
    assert_eq!(waits(&fleet), Some(Duration::from_secs(30)));
}

#[test]
fn a_fleet_that_has_folded_stays_folded_and_one_at_the_bound_does_not_begin() {
    for (above, was_folded, expected) in
        [(2, false, 3), (3, false, 0), (50, false, 0), (3, true, 3), (50, true, 3)]
    {
        let mut fleet = if was_folded { folding() } else { fleet() };
        fleet.input.folds_above = above;
        change(&mut fleet, "b", unready);
        fleet.turn();
        fleet.turn();
        assert_eq!(fleet.input.state.fold.len(), expected, "above {above}, before: {was_folded}");
    }
    // Nor when a node's register can't be read for a while: it says what it said.
    let mut fleet = folding();
    let said = fleet.input.state.fold["c"].clone();
    fleet.input.nodes.remove("c");
    change(&mut fleet, "b", unready);
    fleet.turn();
    assert_eq!(fleet.input.state.fold.get("c"), Some(&said));
}

#[test]
fn every_decision_carries_the_whole_fold_of_what_it_rests_on() {
    let mut fleet = folding();
    for node in ["a", "b", "c"] {
        change(&mut fleet, node, restarted);
    }
    assert!(!fleet.turn(), "by itself it waits");
    let before = fleet.input.state.generation;
    fleet.push(&deployment("web", 7, "v1", ""));
    assert!(fleet.turn());
    assert_eq!(fleet.bindings("web").len(), 7);
    assert_eq!(fleet.input.state.generation.number, before.number + 1, "in one write");
    assert!(["a", "b", "c"].iter().all(|node| tells(&fleet, node)));
    // What did not change is the very same value: nobody writes or reads it again.
    let fold = fleet.input.state.fold.clone();
    change(&mut fleet, "b", unready);
    fleet.pass(2);
    assert!(fleet.turn());
    let is_same = |node: &str| {
        let node = NodeName::trusted(node);
        Arc::ptr_eq(&fold[&node], &fleet.input.state.fold[&node])
    };
    assert_eq!(["a", "b", "c"].map(is_same), [true, false, true]);
}
