//! Links that carry one way only, full disks, and a fleet that folds: what a day of chance meets too
//! seldom to be sure of.

use std::collections::BTreeSet;

use super::check;
use super::tests::{run_for, shop};
use super::{Interference, Reach, Weather, World};
use crate::kinds::name::NodeName;
use crate::ports::runtime::{ContainerId, Pulls};
use crate::ports::store::Register;
use crate::state::NodeReport;

const WHOLE: Reach = Reach { reads: true, pushes: true, speaks: true, hears: true };

/// Five nodes, four of which need not read each other where the bound is three.
fn fleet(folds_above: usize) -> World {
    let mut world = World::new(23, Weather::default());
    world.folds_above = folds_above;
    world.remote.commit("the beginning", shop(0, "run:v1"));
    for name in ["n0", "n1", "n2", "n3", "n4", "n5"] {
        world.add_machine(name);
    }
    run_for(&mut world, 90);
    world.interfere(Interference::Push("six".into(), shop(6, "run:v1")));
    run_for(&mut world, 60);
    check::settled(&world).expect("it runs");
    world
}

fn leader(world: &World) -> Option<NodeName> {
    let leads = |machine: &super::Machine| {
        machine.agent().is_some_and(|agent| agent.is_coordinator(machine.now(world.time)))
    };
    world.machines.iter().find(|(_, machine)| leads(machine)).map(|(node, _)| node.clone())
}

fn running(world: &World) -> BTreeSet<(NodeName, ContainerId)> {
    let all = world.machines.iter().flat_map(|(node, machine)| {
        let running = machine.runtime.containers().filter(|container| container.is_running());
        running.map(|container| (node.clone(), container.id.clone()))
    });
    all.collect()
}

#[test]
fn a_coordinator_whose_way_carries_in_one_direction_only_gives_up_the_lease() {
    for reach in [Reach { reads: false, ..WHOLE }, Reach { pushes: false, ..WHOLE }] {
        let mut world = fleet(50);
        let first = leader(&world).expect("one leads");
        let before = running(&world);
        world.interfere(Interference::Reach(first.clone(), reach));
        run_for(&mut world, 30);
        let next = leader(&world).unwrap_or_else(|| panic!("{reach:?}: nobody leads"));
        assert_ne!(next, first, "{reach:?}");
        assert_eq!(running(&world), before, "{reach:?}: no pod was touched");
        world.interfere(Interference::Reach(first, WHOLE));
        run_for(&mut world, 120);
        check::settled(&world).unwrap_or_else(|what| panic!("{reach:?}: {what}"));
    }
}

#[test]
fn nothing_waits_for_words_that_pass_one_way_only() {
    for reach in [Reach { speaks: false, ..WHOLE }, Reach { hears: false, ..WHOLE }] {
        let mut world = fleet(50);
        let all: Vec<NodeName> = world.machines.keys().cloned().collect();
        for node in &all[..3] {
            world.interfere(Interference::Reach(node.clone(), reach));
        }
        world.interfere(Interference::Push("roll".into(), shop(6, "run:v2")));
        run_for(&mut world, 120);
        check::settled(&world).unwrap_or_else(|what| panic!("{reach:?}: {what}"));
        let state = check::decoded(&world).expect("decodes");
        assert!(state.nodes.values().all(|node| !node.is_away()), "{reach:?}");
    }
}

#[test]
fn a_full_disk_is_said_loses_nothing_and_is_recovered_from() {
    let mut world = fleet(50);
    let before = running(&world);
    let all: Vec<NodeName> = world.machines.keys().cloned().collect();
    for node in &all {
        world.interfere(Interference::FillDisk(node.clone()));
    }
    world.interfere(Interference::Push("roll".into(), shop(6, "run:v2")));
    run_for(&mut world, 300);
    assert_eq!(running(&world), before, "what ran runs on");
    for node in &all {
        let machine = &world.machines[node];
        let agent = machine.agent().expect("it runs");
        let health = agent.picture(&Pulls::new(), machine.now(world.time)).health;
        let faults = [health.source_fault, health.store_fault];
        assert!(
            faults.iter().flatten().any(|fault| fault.contains("no space")),
            "{node} says so: {faults:?}"
        );
    }
    for node in &all {
        world.interfere(Interference::ClearDisk(node.clone()));
    }
    run_for(&mut world, 180);
    check::settled(&world).expect("the new version runs");
}

#[test]
fn a_folding_fleet_leads_packets_as_one_in_which_all_read_all() {
    let (folds, reads) = (fleet(3), fleet(50));
    let state = check::decoded(&folds).expect("decodes");
    assert_eq!(state.fold.len(), 6);
    assert!(check::decoded(&reads).expect("decodes").fold.is_empty());
    for world in [&folds, &reads] {
        for (node, machine) in &world.machines {
            let rules = format!("{:?}", machine.rules.as_ref().expect("rules are in force"));
            for other in world.machines.keys() {
                let register = Register::Node(other.clone());
                let tree = world.store.tree(&register).expect("it has reported");
                for pod in NodeReport::decode(tree).expect("decodes").pods.values() {
                    let ip = pod.status.pod_ip.expect("it runs").to_string();
                    assert!(rules.contains(&ip), "{node} leads packets to {ip} on {other}");
                }
            }
        }
    }
}

#[test]
fn an_ordinary_node_of_a_folding_fleet_reads_only_two_registers_and_leads_when_all_before_it_are_gone()
 {
    let mut world = fleet(2);
    let first = leader(&world).expect("one leads");
    let mut others: Vec<NodeName> =
        world.machines.keys().filter(|node| **node != first).cloned().collect();
    let ordinary = others.pop().expect("there are others");
    let reads = |world: &World| world.machines[&ordinary].load.reads;
    let (before, beats) = (reads(&world), world.machines[&first].load.beats);
    run_for(&mut world, 600);
    assert!(world.machines[&first].load.beats > beats);
    assert!(reads(&world) - before < 10, "{} registers read for nothing", reads(&world) - before);
    // The coordinator, and all who may be next.
    others.truncate(3);
    others.push(first);
    for node in &others {
        world.interfere(Interference::PowerCut(node.clone()));
    }
    run_for(&mut world, 120);
    assert!(leader(&world).is_some_and(|leader| !others.contains(&leader)), "another leads");
    for node in &others {
        world.interfere(Interference::StartAgent(node.clone()));
    }
    run_for(&mut world, 300);
    check::settled(&world).expect("all is as it was");
}
