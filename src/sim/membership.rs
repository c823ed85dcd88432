//! Who is of the fleet: nodes that are deleted, and keys that the desired repository certifies, proven
//! with the agent's own code.

use super::check::{self, settled};
use super::machine::key_of;
use super::tests::{run_for, shop};
use super::{Files, Interference, Reach, Weather, World};
use crate::kinds::binding::Oid;
use crate::kinds::name::NodeName;
use crate::ports::runtime::Pulls;
use crate::ports::store::{Call, Register};
use crate::state::{RequestKind, State};

const NODES: [&str; 3] = ["n0", "n1", "n2"];

fn world(files: Files) -> World {
    let mut world = World::new(9, Weather::default());
    world.remote.commit("the beginning", files);
    for node in NODES {
        world.add_machine(node);
    }
    run_for(&mut world, 60);
    settled(&world).expect("it runs");
    world
}

fn leads(world: &World, node: &NodeName) -> bool {
    let machine = &world.machines[node];
    machine.agent().is_some_and(|agent| agent.is_coordinator(machine.now(world.time)))
}

#[test]
fn a_deleted_node_is_forgotten_with_its_register_and_may_join_anew() {
    let mut world = world(shop(6, "run:v1"));
    let names = NODES.map(NodeName::trusted);
    let gone = names.iter().find(|node| !leads(&world, node)).expect("one does not lead").clone();
    let other = names.iter().find(|node| **node != gone).expect("there are others").clone();
    world.interfere(Interference::Reach(gone.clone(), Reach::NONE));
    run_for(&mut world, 90);
    let forget = RequestKind::Fence { node: gone.clone(), forget: true };
    world.interfere(Interference::Ask(other, forget));
    run_for(&mut world, 60);
    let own = Register::Node(gone.clone());
    assert!(world.store.tree(&own).is_none(), "its register stands in the store");
    assert!(!check::decoded(&world).expect("decodes").nodes.contains_key(&gone));
    for (node, machine) in world.machines.iter().filter(|(node, _)| **node != gone) {
        let agent = machine.agent().expect("runs");
        let shown = agent.picture(&Pulls::default(), machine.now(world.time)).nodes;
        assert!(!shown.contains_key(&gone), "{node} still shows it");
    }
    // It was not dead after all: it reads that nothing is its own any more, and joins as a new one.
    world.interfere(Interference::Reach(gone.clone(), Reach::default()));
    run_for(&mut world, 120);
    assert!(world.store.tree(&own).is_some());
    let state = check::decoded(&world).expect("decodes");
    assert!(state.nodes.get(&gone).is_some_and(|node| !node.is_away()), "{:?}", state.nodes);
    settled(&world).expect("all is well again");
}

/// A shop, and the keys of these nodes.
fn certified(nodes: &[&str]) -> Files {
    let mut files = shop(3, "run:v1");
    let manifests = nodes.iter().map(|name| {
        let key = key_of(&NodeName::trusted(name));
        format!(
            "---\napiVersion: v1\nkind: Node\nmetadata:\n  name: {name}\n  annotations: \
             {{windlass.dev/node-key: '{key}'}}\n"
        )
    });
    files.insert("nodes.yaml".into(), manifests.collect());
    files
}

/// Whether the first node speaks to another, and listens to it.
fn knows(world: &World, other: &str) -> bool {
    let machine = &world.machines[&NodeName::trusted("n0")];
    machine.neighbours.contains_key(&NodeName::trusted(other))
}

#[test]
fn whoever_is_not_certified_is_not_listened_to_whatever_the_store_says() {
    let mut world = world(shop(3, "run:v1"));
    let before = world.remote.tip().expect("a commit").clone();
    assert!(knows(&world, "n1") && knows(&world, "n2"), "nobody is certified, and all count");
    world.interfere(Interference::Push("keys".into(), certified(&["n0", "n1"])));
    run_for(&mut world, 60);
    settled(&world).expect("pods are nobody's affair but the plan's");
    assert!(knows(&world, "n1") && !knows(&world, "n2"));
    // Somebody who can write the store names the commit from before as the one in force.
    name_in_force(&mut world, &before);
    for _ in 0..60 {
        run_for(&mut world, 1);
        assert!(!knows(&world, "n2"), "an older commit has opened the door");
    }
    world.interfere(Interference::Push("all".into(), certified(&NODES)));
    run_for(&mut world, 60);
    assert!(knows(&world, "n1") && knows(&world, "n2"));
}

fn name_in_force(world: &mut World, commit: &Oid) {
    let before = check::decoded(world).expect("decodes");
    let mut after = State::clone(&before);
    after.generation = after.generation.next();
    for app in after.apps.values_mut() {
        let head = std::sync::Arc::make_mut(&mut app.head);
        head.applied.as_mut().expect("in force").revision = commit.clone();
    }
    let writer =
        after.lease.as_ref().map_or_else(|| NodeName::trusted("n0"), |its| its.holder.clone());
    let base = world.store.current(&Register::Coordinator).cloned();
    let why = "the commit before".to_owned();
    let edits = before.edits_to(&after);
    let call = Call::Commit { register: Register::Coordinator, base, edits, why };
    let mut fence = before.generation;
    world.store.perform(&call, &writer, 1, &mut fence).expect("is written");
}
