//! What a pod's name is worth when machines go and come back, proven with the agent's own code
//! (docs/DESIGN.md, Hard cases 2 and 19).

use super::check::{self, settled};
use super::tests::run_for;
use super::{Files, Interference, Reach, Weather, World};
use crate::kinds::name::{Name, NodeName, PodKey};
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

/// A fleet whose store was restored: in the backup `db-0` is on the first node; since then it has moved
/// to the second, which is cut off.
fn moved_and_restored() -> (World, NodeName, NodeName) {
    let mut world = world("");
    let first = NodeName::trusted(&runs(&world, "db")[0]);
    let asked = world.machines.keys().find(|other| **other != first).cloned().expect("another");
    world.interfere(Interference::BackUp);
    world.interfere(Interference::Ask(asked.clone(), RequestKind::Cordon { node: first.clone() }));
    run_for(&mut world, 10);
    let pod = PodKey::new(&Name::trusted("shop"), &Name::trusted("db-0"));
    let delete = RequestKind::DeletePod { pod, uid: None, grace_s: None };
    world.interfere(Interference::Ask(asked, delete));
    run_for(&mut world, 60);
    let second = NodeName::trusted(&runs(&world, "db")[0]);
    assert_ne!(first, second);
    world.interfere(Interference::Reach(second.clone(), Reach::NONE));
    world.interfere(Interference::Restore);
    run_for(&mut world, 60);
    world.interfere(Interference::Adopt(first.clone()));
    run_for(&mut world, 120);
    (world, first, second)
}

#[test]
fn a_restored_store_gives_out_no_name_that_a_node_may_still_bear() {
    let (mut world, first, second) = moved_and_restored();
    assert_eq!(check::decoded(&world).expect("decodes").generation.epoch, 1, "it was taken");
    assert_eq!(runs(&world, "db"), [second.to_string()], "it may run there, and it does");
    world.interfere(Interference::Reach(second.clone(), Reach::default()));
    run_for(&mut world, 120);
    assert_eq!(runs(&world, "db"), [first.to_string()], "the other has read it, and ended its own");
    settled(&world).expect("all is well again");
    assert_eq!(check::decoded(&world).expect("decodes").restored, None);
}

#[test]
fn after_a_restore_a_node_that_is_declared_dead_holds_up_no_name() {
    let (mut world, first, second) = moved_and_restored();
    let asked = world.machines.keys().find(|n| **n != first && **n != second).cloned();
    let fence = RequestKind::Fence { node: second.clone(), forget: false };
    world.interfere(Interference::PowerCut(second));
    world.interfere(Interference::Ask(asked.expect("a third"), fence));
    run_for(&mut world, 60);
    assert_eq!(runs(&world, "db"), [first.to_string()]);
}
