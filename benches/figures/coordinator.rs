//! What a coordinator of 1,000 nodes keeps in memory, with 10,000 pods placed and reported.
//!
//! The agent's own code in a process of its own, in the simulated world: one machine is there, the
//! other nodes are registers that say what such a machine says. It places the pods itself, reads what
//! is reported and folds it, so what is counted has been through all of it. What the simulated store
//! remembers of the past is dropped each second: a real one has it on disk. The limit: no Docker, no
//! Git, no sockets; those are in the row of an agent with 100 pods.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use windlass::kinds::binding::Generation;
use windlass::kinds::name::NodeName;
use windlass::kinds::node::{Contact, NodeFacts};
use windlass::kinds::status::PodReport;
use windlass::ports::store::{Call, Edit, Register};
use windlass::sim::{Interference, Weather, World};
use windlass::state::{NodeReport, State};

use crate::plan::manifests;
use crate::row::{Row, Unit};

const NODES: u32 = 1000;
const DEPLOYMENTS: u32 = 1000;
const PODS_EACH: u32 = 10;
/// What Docker has on a machine in use.
const IMAGES: u64 = 30;
/// DESIGN's.
const TARGET_MB: f64 = 150.0;
/// DESIGN has none for a moment's most; this is what a small machine can spare.
const TARGET_ROLLING_MB: f64 = 250.0;
/// The argument by which the benchmark starts itself for this.
pub(crate) const CHILD: &str = "hold-a-coordinator";

/// All of it.
pub(crate) fn rows() -> Vec<Row> {
    let itself = std::env::current_exe().expect("this program is a file");
    let output = Command::new(itself).arg(CHILD).output().expect("starts");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
    let megabytes: Vec<f64> =
        text.split_whitespace().filter_map(|word| word.parse().ok()).collect();
    let row = |what: &str, at: usize, target: f64| {
        Row::new(
            format!("coordinator of 1,000 nodes, 10,000 pods, {what}"),
            Unit::Megabytes,
            megabytes[at],
            target,
        )
    };
    vec![row("resident", 0, TARGET_MB), row("while all of them roll", 1, TARGET_ROLLING_MB)]
}

/// What the child does: becomes a coordinator, and says what that takes in MB, at rest and, while all
/// Deployments begin to roll, at most.
pub(crate) fn hold() {
    let first = NodeName::trusted("n0000");
    let mut world = World::new(1, Weather::default());
    world.trace_max = 0;
    world.add_machine(first.as_str());
    let machine = world.machines.get_mut(&first).expect("the machine");
    machine.runtime.is_plain = true;
    machine.runtime.size = (8, 32 << 30);
    run_for(&mut world, 30);
    let facts = said(&world, &first).facts;
    for number in 1..NODES {
        let report = NodeReport { facts: Arc::new(like(&facts, number)), ..NodeReport::default() };
        say(&mut world, &name(number), &report);
    }
    run_for(&mut world, 30);
    let files = manifests(DEPLOYMENTS, PODS_EACH, "", None);
    world.interfere(Interference::Push("10,000 pods".to_owned(), files));
    run_for(&mut world, 40);
    let state = decided(&world);
    let placed = state.all_pods().filter(|(node, _)| node.is_some()).count();
    assert_eq!(placed, usize::try_from(DEPLOYMENTS * PODS_EACH).unwrap_or(0));
    let own = said(&world, &first);
    let like_this = own.pods.values().find(|pod| pod.status.is_ready()).expect("a pod is ready");
    for number in 1..NODES {
        let name = name(number);
        let bound = state.pods_of(&name).into_iter().flat_map(|pods| pods.values());
        let pods = bound.map(|pod| {
            let (key, uid) = (pod.key.clone(), pod.uid.clone());
            let report = PodReport { key, uid: uid.clone(), ..PodReport::clone(like_this) };
            (uid, Arc::new(report))
        });
        let before = said(&world, &name);
        say(&mut world, &name, &NodeReport { pods: Arc::new(pods.collect()), ..before });
    }
    drop(state);
    run_for(&mut world, 60);
    let state = decided(&world);
    let folded: usize = state.fold.values().map(|report| report.pods.len()).sum();
    assert!(folded >= placed - 100, "only {folded} pods are folded");
    drop(state);
    let (agent, now) = (&world.machines[&first], world.machines[&first].now(world.time));
    assert!(agent.agent().is_some_and(|agent| agent.is_coordinator(now)), "it leads");
    // jemalloc gives back what has been free for a second.
    std::thread::sleep(Duration::from_secs(3));
    let resident = megabytes("VmRSS:");
    // From here on VmHWM begins anew (proc(5)).
    std::fs::write("/proc/self/clear_refs", "5").expect("written");
    let mut files = manifests(DEPLOYMENTS, PODS_EACH, "", None);
    files.values_mut().for_each(|text| *text = text.replace("web:1", "web:2"));
    world.interfere(Interference::Push("roll".to_owned(), files));
    run_for(&mut world, 40);
    println!("{resident} {}", megabytes("VmHWM:"));
}

/// A figure of this process, by the name that proc(5) has for it.
fn megabytes(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("reads");
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    let kilobytes: f64 = line.trim().trim_end_matches(" kB").trim().parse().unwrap_or(0.0);
    kilobytes / 1024.0
}

fn name(number: u32) -> NodeName {
    NodeName::trusted(&format!("n{number:04}"))
}

fn run_for(world: &mut World, seconds: u64) {
    for _ in 0..seconds {
        let until = world.time + Duration::from_secs(1);
        while world.step(until) {}
        world.store.forget_past();
    }
}

fn said(world: &World, node: &NodeName) -> NodeReport {
    let tree = world.store.tree(&Register::Node(node.clone())).expect("it has said something");
    NodeReport::decode(tree).expect("reads")
}

fn decided(world: &World) -> State {
    let tree = world.store.tree(&Register::Coordinator).expect("something was decided");
    State::decode(tree).expect("reads")
}

/// What another machine of the same make says of itself.
fn like(facts: &NodeFacts, number: u32) -> NodeFacts {
    let name = name(number);
    let mut facts = facts.clone();
    let [.., high, low] = number.to_be_bytes();
    facts.addresses = vec![IpAddr::V4(Ipv4Addr::new(10, 1, high, low))];
    facts.labels.insert("kubernetes.io/hostname".into(), name.to_string());
    facts.hostname = name.to_string();
    facts.installation = name.to_string();
    facts.contact = facts.contact.map(|contact| Contact { life: name.to_string(), ..contact });
    facts.images = (0..IMAGES)
        .map(|n| (format!("registry.example.com/shop/image-{n}:v1.{n}"), n << 20))
        .collect();
    facts
}

/// Writes a node's register as its agent would.
fn say(world: &mut World, node: &NodeName, report: &NodeReport) {
    let register = Register::Node(node.clone());
    let before = world.store.tree(&register).map(|_| said(world, node));
    let edits: Vec<Edit> = before.clone().unwrap_or_default().edits_to(report);
    let base = world.store.current(&register).cloned();
    let call = Call::Commit { register, base, edits, why: "report".to_owned() };
    let mut fence = Generation::default();
    world.store.perform(&call, node, 1, &mut fence).expect("writes");
}
