//! Where pods may run, proven with the agent's own code: who makes way for whom, who leaves a node,
//! and whom a node turns away though the register says that he belongs there.

use std::sync::Arc;

use super::check::decoded;
use super::tests::run_for;
use super::{Files, Interference, Weather, World};
use crate::kinds::binding::Generation;
use crate::kinds::name::NodeName;
use crate::ports::runtime::Role;
use crate::ports::store::{Answer, Call, Landing, Register, Scope};
use crate::state::{NodeReport, State};

const NODE: &str = "n0";

const BASE: &str = "apiVersion: v1
kind: Namespace
metadata: {name: shop}
---
apiVersion: scheduling.k8s.io/v1
kind: PriorityClass
metadata: {name: high}
value: 1000
";

/// A Deployment of one pod; `spec` is of the pod, in flow style, and ends with a comma.
fn deployment(name: &str, spec: &str, cpus: u32) -> String {
    format!(
        "---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: shop}}
spec:
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}}}
    spec: {{{spec} terminationGracePeriodSeconds: 5, containers: [{{name: {name}, image: \"run:v1\", \
resources: {{requests: {{cpu: {cpus}}}}}}}]}}
"
    )
}

fn node(labels: &str, taints: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {NODE}, labels: {{{labels}}}}}\nspec: \
         {{taints: [{taints}]}}\n"
    )
}

fn files(parts: &[String]) -> Files {
    Files::from([("all.yaml".to_owned(), format!("{BASE}{}", parts.concat()))])
}

fn world(parts: &[String]) -> World {
    let mut world = World::new(11, Weather::default());
    world.remote.commit("the beginning", files(parts));
    world.add_machine(NODE);
    run_for(&mut world, 30);
    world
}

fn push(world: &mut World, parts: &[String]) {
    world.interfere(Interference::Push("a change".into(), files(parts)));
    run_for(world, 60);
}

/// The containers that run, by name.
fn alive(world: &World) -> Vec<String> {
    let machine = &world.machines[&NodeName::trusted(NODE)];
    let running = machine.runtime.containers().filter(|container| container.is_running());
    let mut names: Vec<String> = running
        .filter_map(|container| match &container.marks.role {
            Role::App(name) => Some(name.to_string()),
            Role::Pause | Role::Init(_) => None,
        })
        .collect();
    names.sort();
    names
}

#[test]
fn a_lesser_pod_makes_way_and_comes_back_when_there_is_room() {
    let small = deployment("small", "", 3);
    let big = deployment("big", "priorityClassName: high,", 3);
    let mut world = world(std::slice::from_ref(&small));
    assert_eq!(alive(&world), ["small"]);
    push(&mut world, &[small.clone(), big]);
    assert_eq!(alive(&world), ["big"]);
    let state = decoded(&world).expect("decodes");
    let waiting: Vec<_> = state.all_pods().filter(|(node, _)| node.is_none()).collect();
    assert_eq!(waiting.len(), 1, "the lesser one waits");
    assert_eq!(waiting[0].1.nominated, None);
    push(&mut world, &[small]);
    assert_eq!(alive(&world), ["small"]);
}

#[test]
fn pods_leave_a_node_for_its_taint_and_come_back() {
    let web = deployment("web", "", 1);
    let bears =
        "tolerations: [{key: k, operator: Exists, effect: NoExecute, tolerationSeconds: 90}],";
    let patient = deployment("patient", bears, 1);
    let (clean, foul) = (node("", ""), node("", "{key: k, effect: NoExecute}"));
    let mut world = world(&[web.clone(), patient.clone(), clean.clone()]);
    assert_eq!(alive(&world), ["patient", "web"]);
    push(&mut world, &[web.clone(), patient.clone(), foul]);
    assert_eq!(alive(&world), ["patient"]);
    run_for(&mut world, 60);
    // Its time is over; the one made in its place bears the taint for as long again.
    let ends =
        decoded(&world).expect("decodes").events.iter().any(|event| {
            event.reason == "TaintManagerEviction" && event.message.contains("patient")
        });
    assert!(ends, "it is told to go after 90 s");
    push(&mut world, &[web, patient, clean]);
    assert_eq!(alive(&world), ["patient", "web"]);
}

#[test]
fn a_node_turns_away_a_pod_that_the_register_sends_there_wrongly() {
    let elsewhere = deployment("elsewhere", "nodeSelector: {zone: '2'},", 1);
    let mut world = world(&[elsewhere, node("zone: '1'", "")]);
    assert!(alive(&world).is_empty());
    let before = decoded(&world).expect("decodes");
    // Somebody who may write the register, but not the repository, binds the pod all the same.
    let waiting = before.pods.get(&None).cloned().expect("the pod waits");
    let generation = before.generation.next();
    let mut bound = (*waiting).clone();
    for binding in bound.values_mut() {
        Arc::make_mut(binding).generation = generation;
    }
    let mut next = State { generation, ..State::clone(&before) };
    next.pods.remove(&None);
    next.pods.insert(Some(NodeName::trusted(NODE)), Arc::new(bound));
    let (mut fence, stranger) = (Generation::default(), NodeName::trusted("stranger"));
    let mut ask =
        |call: &Call| world.store.perform(call, &stranger, 99, &mut fence).expect("answers");
    let Answer::Seen(glance) = ask(&Call::Look(Scope::All)) else { panic!("no look") };
    let call = Call::Commit {
        register: Register::Coordinator,
        base: glance.coordinator,
        edits: before.edits_to(&next),
        why: "an impostor".into(),
    };
    assert!(matches!(ask(&call), Answer::Landing(Landing::Landed(_))));
    run_for(&mut world, 120);
    assert!(alive(&world).is_empty());
    let tree = world.store.tree(&Register::Node(NodeName::trusted(NODE))).expect("it has reported");
    let report = NodeReport::decode(tree).expect("decodes");
    let told: Vec<&str> = report.events.iter().map(|event| event.reason.as_str()).collect();
    assert_eq!(told, ["NodeAffinity"]);
    // Its owner has made another, and that one waits.
    let state = decoded(&world).expect("decodes");
    let pods: Vec<_> = state.all_pods().collect();
    assert_eq!(pods.len(), 1);
    assert!(pods[0].0.is_none() && !waiting.contains_key(&pods[0].1.key));
}
