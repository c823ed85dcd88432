//! What a pod's name is worth when machines go and come back, proven with the agent's own code
//! (docs/DESIGN.md, Hard cases 2 and 19).

use super::check::settled;
use super::tests::run_for;
use super::{Files, Interference, Reach, Weather, World};
use crate::kinds::name::NodeName;
use crate::ports::runtime::Role;
use crate::state::RequestKind;

/// A StatefulSet of one and a DaemonSet; `notes` are annotations of the StatefulSet's pod.
fn files(notes: &str) -> Files {
    let workload = |kind: &str, name: &str, fields: &str, notes: &str| {
        format!(
            "---
apiVersion: apps/v1
kind: {kind}
metadata: {{name: {name}, namespace: shop}}
spec:
  {fields}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}, annotations: {{{notes}}}}}
    spec: {{terminationGracePeriodSeconds: 5, containers: [{{name: {name}, image: \"run:v1\"}}]}}
"
        )
    };
    let text = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n{}{}",
        workload("StatefulSet", "db", "serviceName: db", notes),
        workload("DaemonSet", "log", "minReadySeconds: 0", "")
    );
    Files::from([("all.yaml".to_owned(), text)])
}

fn world(notes: &str) -> World {
    let mut world = World::new(5, Weather::default());
    world.remote.commit("the beginning", files(notes));
    for node in ["n0", "n1", "n2"] {
        world.add_machine(node);
    }
    run_for(&mut world, 60);
    settled(&world).expect("it runs");
    world
}

/// The nodes on which a container of this name runs.
fn runs(world: &World, name: &str) -> Vec<String> {
    let machines = world.machines.iter().filter(|(_, machine)| {
        machine.runtime.containers().any(|container| {
            container.is_running()
                && matches!(&container.marks.role, Role::App(own) if *own == *name)
        })
    });
    machines.map(|(node, _)| node.to_string()).collect()
}

/// The node of `db-0` loses its power, and comes back without a cable.
fn back_alone(world: &mut World, seconds: u64) -> NodeName {
    let node = NodeName::trusted(&runs(world, "db")[0]);
    world.interfere(Interference::PowerCut(node.clone()));
    run_for(world, seconds);
    node
}

fn boot_alone(world: &mut World, node: &NodeName) {
    world.interfere(Interference::Reach(node.clone(), Reach::NONE));
    world.interfere(Interference::StartAgent(node.clone()));
    run_for(world, 120);
}

#[test]
fn a_machine_that_boots_alone_starts_all_but_what_may_run_elsewhere() {
    let mut world = world("");
    let node = back_alone(&mut world, 5);
    boot_alone(&mut world, &node);
    assert_eq!(runs(&world, "db"), Vec::<String>::new(), "its name may have been given away");
    assert!(runs(&world, "log").contains(&node.to_string()), "a DaemonSet asks nobody");
    world.interfere(Interference::Reach(node.clone(), Reach::default()));
    run_for(&mut world, 120);
    assert_eq!(runs(&world, "db").len(), 1, "here, or elsewhere if that was decided meanwhile");
}

#[test]
fn who_takes_it_upon_himself_starts_alone() {
    let mut world = world("windlass.dev/start-offline: 'true'");
    let node = back_alone(&mut world, 5);
    boot_alone(&mut world, &node);
    assert_eq!(runs(&world, "db"), [node.to_string()]);
}

#[test]
fn a_name_that_was_given_away_is_not_taken_up_again_by_a_machine_that_comes_back() {
    let mut world = world("");
    let node = back_alone(&mut world, 90);
    assert_eq!(runs(&world, "db"), Vec::<String>::new(), "nobody has said that it is dead");
    let asked = world.machines.keys().find(|other| **other != node).cloned().expect("another");
    let fence = RequestKind::Fence { node: node.clone(), forget: false };
    world.interfere(Interference::Ask(asked, fence));
    run_for(&mut world, 60);
    let elsewhere = runs(&world, "db");
    assert!(elsewhere.len() == 1 && elsewhere[0] != *node.as_str(), "{elsewhere:?}");
    boot_alone(&mut world, &node);
    assert_eq!(runs(&world, "db"), elsewhere, "one is enough");
    world.interfere(Interference::Reach(node, Reach::default()));
    run_for(&mut world, 120);
    assert_eq!(runs(&world, "db"), elsewhere);
    settled(&world).expect("all is well again");
}

/// Who was told once goes on: a pod whose sandbox dies while the remote is away is made anew.
#[test]
fn a_node_that_has_lost_the_store_makes_its_pods_anew_by_itself() {
    let mut world = world("");
    let node = NodeName::trusted(&runs(&world, "db")[0]);
    world.interfere(Interference::Reach(node.clone(), Reach::NONE));
    run_for(&mut world, 10);
    for _ in 0..8 {
        world.interfere(Interference::KillPause(node.clone()));
    }
    run_for(&mut world, 30);
    assert_eq!(runs(&world, "db"), [node.to_string()]);
    assert_eq!(runs(&world, "log").len(), 3);
}
