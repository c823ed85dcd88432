//! The invariants of the crate's front page that a whole fleet is needed to break.

use std::collections::BTreeSet;
use std::time::Duration;

use super::check::{self, Safety};
use super::{Files, Interference, Reach, Rng, Weather, World};
use crate::kinds::binding::DEFAULT_APP;
use crate::kinds::name::NodeName;
use crate::kinds::rules::CHAIN_PREFIX;
use crate::ports::links::LINK_PREFIX;
use crate::ports::runtime::{ContainerId, Marks};
use crate::ports::store::{Call, Landing, Register};
use crate::state::{EVENTS_MAX, NodeReport, RequestKind};

fn node() -> NodeName {
    NodeName::trusted("n0")
}

/// A Namespace, a Deployment of so many pods of this image, a Service.
pub(super) fn shop(replicas: u32, image: &str) -> Files {
    let text = format!(
        "apiVersion: v1
kind: Namespace
metadata: {{name: shop}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: shop}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec: {{terminationGracePeriodSeconds: 5, containers: [{{name: main, image: \"{image}\"}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: shop}}
spec: {{selector: {{app: web}}, ports: [{{port: 80}}]}}
"
    );
    Files::from([("shop.yaml".to_owned(), text)])
}

/// What is the matter, and how it comes about.
type Trouble = (&'static str, fn(&mut World));

/// A fleet of one on which three pods run.
fn running() -> World {
    let mut world = World::new(7, Weather::default());
    world.remote.commit("the beginning", shop(3, "run:v1"));
    world.add_machine("n0");
    run_for(&mut world, 30);
    check::settled(&world).expect("it runs");
    world
}

pub(super) fn run_for(world: &mut World, seconds: u64) {
    let until = world.time + Duration::from_secs(seconds);
    let mut safety = Safety::default();
    while world.step(until) {
        safety.check(world).expect("safe");
    }
}

fn alive(world: &World) -> BTreeSet<ContainerId> {
    let all = world.machines[&node()].runtime.containers();
    all.filter(|container| container.is_running()).map(|container| container.id.clone()).collect()
}

fn report(world: &World) -> NodeReport {
    let tree = world.store.tree(&Register::Node(node())).expect("the node has reported");
    NodeReport::decode(tree).expect("decodes")
}

#[test]
fn one_writer_per_ref() {
    // Each step of every run checks who wrote; here, two agents on one store, and two writes that
    // begin at the same state.
    let mut world = running();
    world.add_machine("n1");
    run_for(&mut world, 120);
    let writers: BTreeSet<_> = world.store.writers().iter().cloned().collect();
    let n1 = NodeName::trusted("n1");
    assert!(writers.contains(&(Register::Node(n1.clone()), n1.clone())));
    assert!(!writers.contains(&(Register::Coordinator, n1.clone())), "it does not hold the lock");
    let write = |base: Option<crate::ports::store::Rev>| Call::Commit {
        register: Register::Coordinator,
        base,
        edits: Vec::new(),
        why: "a test".into(),
    };
    let mut fence = crate::kinds::binding::Generation::default();
    let mut landed = 0;
    for _ in 0..2 {
        let call = write(None);
        let answer = world.store.perform(&call, &n1, 1, &mut fence).expect("an answer");
        let crate::ports::store::Answer::Landing(landing) = answer else {
            panic!("no landing");
        };
        landed += u32::from(matches!(landing, Landing::Landed(_)));
    }
    assert_eq!(landed, 0, "both began at a state that is no more");
}

#[test]
fn an_older_generation_changes_nothing() {
    let mut world = running();
    world.interfere(Interference::Push("fewer".into(), shop(1, "run:v2")));
    run_for(&mut world, 60);
    check::settled(&world).expect("settled");
    let (before, generation) = (alive(&world), check::decoded(&world).expect("decodes").generation);
    // A backup is restored: in it, three pods of v1 run.
    assert!(world.store.set_back(&Register::Coordinator, 6));
    assert!(check::decoded(&world).expect("decodes").generation < generation);
    run_for(&mut world, 300);
    assert_eq!(alive(&world), before);
    // Nor does an agent that knows nothing but its own fence act on it.
    world.interfere(Interference::KillAgent(node()));
    world.interfere(Interference::StartAgent(node()));
    run_for(&mut world, 300);
    assert_eq!(alive(&world), before);
}

#[test]
fn losing_the_lease_or_the_store_stops_no_pod() {
    let somebody_else = Some((NodeName::trusted("n9"), 1));
    let troubles: [Trouble; 4] = [
        ("the store is gone", |world| world.store_is_up = false),
        ("the lock is another's", |world| world.store.lock = Some((NodeName::trusted("n9"), 1))),
        ("the remote is gone", |world| world.interfere(Interference::CutRemote)),
        ("all of it", |world| {
            world.store_is_up = false;
            world.remote_is_up = false;
            world.store.lock = Some((NodeName::trusted("n9"), 1));
        }),
    ];
    for (what, trouble) in troubles {
        let mut world = running();
        let before = alive(&world);
        trouble(&mut world);
        run_for(&mut world, 6 * 3600);
        assert_eq!(alive(&world), before, "{what}: after six hours");
        world.interfere(Interference::KillContainer(node()));
        run_for(&mut world, 30);
        let after = alive(&world);
        assert_eq!(after.len(), before.len(), "{what}: what ends is started again");
        world.interfere(Interference::KillAgent(node()));
        world.store.lock.clone_from(&somebody_else);
        world.interfere(Interference::StartAgent(node()));
        run_for(&mut world, 600);
        assert_eq!(alive(&world), after, "{what}: and an agent that is restarted stops nothing");
    }
}

#[test]
fn every_rule_link_container_and_file_we_own_carries_our_mark_and_we_touch_nothing_unmarked() {
    let mut world = running();
    let state = check::decoded(&world).expect("decodes");
    let uids: BTreeSet<_> = state.all_pods().map(|(_, pod)| pod.uid.clone()).collect();
    let machine = &world.machines[&node()];
    assert_eq!(machine.files, uids, "files stand under their pod's id");
    assert_eq!(machine.links.len(), 3);
    assert!(machine.links.iter().all(|link| link.starts_with(LINK_PREFIX)));
    for container in machine.runtime.containers() {
        let labels = container.marks.to_labels();
        let read = Marks::from_labels(|key| labels.get(key).map(String::as_str));
        assert_eq!(read.as_ref(), Ok(&container.marks), "labels say all there is to know");
        assert_eq!((&container.marks.node, uids.contains(&container.marks.uid)), (&node(), true));
    }
    let rules = machine.rules.clone().expect("rules are in force");
    let chains = rules.chains.values().flatten().map(|(chain, _)| chain);
    assert!(chains.clone().count() > 5);
    for chain in chains {
        assert!(chain.starts_with(CHAIN_PREFIX), "{chain}");
    }
    assert!(rules.jumps.iter().all(|jump| jump.rule.contains(CHAIN_PREFIX)));
    // A container of another node on the same runtime, and a link of somebody else's.
    let machine = world.machines.get_mut(&node()).expect("the machine");
    let own = machine.runtime.containers().next().expect("one").marks.clone();
    let foreign = Marks {
        node: NodeName::trusted("n9"),
        uid: crate::kinds::name::Uid::trusted("foreign"),
        ip: None,
        ..own
    };
    let spec = crate::ports::runtime::ContainerSpec {
        name: "foreign".into(),
        labels: foreign.to_labels(),
        image: "run".into(),
        ..Default::default()
    };
    let call = crate::ports::runtime::Call::Start(Box::new(spec));
    machine.runtime.perform(&call, crate::kinds::time::Wall::default());
    world.interfere(Interference::Push("none".into(), shop(0, "run:v1")));
    run_for(&mut world, 300);
    let left: Vec<_> = world.machines[&node()].runtime.containers().collect();
    assert_eq!(left.len(), 1);
    assert!(left[0].is_running() && left[0].marks.uid == foreign.uid, "it runs on");
}

#[test]
fn a_tick_is_safe_to_repeat_and_to_stop_anywhere() {
    // The agent is killed after every so many steps of the world, and its effects with it or not.
    let mut rng = Rng::new(3);
    for stop_after in (1..160).step_by(3) {
        let mut world = World::new(stop_after, Weather::default());
        world.remote.commit("the beginning", shop(3, "run:v1"));
        world.add_machine("n0");
        let mut safety = Safety::default();
        for round in 0..4 {
            if round == 2 {
                world.interfere(Interference::Push("next".into(), shop(2, "slow:v2")));
            }
            for _ in 0..stop_after {
                world.step(Duration::from_secs(600));
                safety.check(&world).expect("safe");
            }
            world.interfere(Interference::KillAgent(node()));
            for _ in 0..rng.below(20) {
                world.step(Duration::from_secs(600));
            }
            world.interfere(Interference::StartAgent(node()));
        }
        run_for(&mut world, 120);
        check::settled(&world).unwrap_or_else(|what| panic!("stopped after {stop_after}: {what}"));
    }
}

#[test]
fn status_is_written_even_when_all_else_fails() {
    // From the first day on: no remote, no runtime.
    let mut world = World::new(7, Weather::default());
    world.remote_is_up = false;
    world.store.is_local = true;
    world.add_machine("n0");
    world.interfere(Interference::StopRuntime(node()));
    run_for(&mut world, 60);
    let ready = report(&world).facts.conditions["Ready"].clone();
    assert_eq!((ready.status, ready.reason.as_str()), (false, "RuntimeNotReady"));
    let writes = world.store.writers().len();
    run_for(&mut world, 86_400);
    assert_eq!(world.store.writers().len(), writes, "said once");
    world.interfere(Interference::StartRuntime(node()));
    run_for(&mut world, 60);
    assert!(report(&world).facts.conditions["Ready"].status);

    // Later: a bad commit, and a runtime that goes away.
    let mut world = running();
    let mut bad = shop(3, "run:v2");
    bad.insert("bad.yaml".into(), "# bad\nkind: Pod\n".into());
    world.interfere(Interference::StopRuntime(node()));
    world.interfere(Interference::Push("a typo".into(), bad));
    run_for(&mut world, 60);
    assert!(!report(&world).facts.conditions["Ready"].status);
    let head = check::decoded(&world).expect("decodes").apps[DEFAULT_APP].head.clone();
    assert!(head.waiting.as_ref().is_some_and(|waiting| !waiting.findings.is_empty()));
}

#[test]
fn every_queue_loop_wait_and_retry_has_a_stated_bound() {
    // A day on which nothing works: how much is done in the second half is a bound on every retry.
    let mut world =
        World::new(7, Weather { fails: 200, lies: 50, hangs: 20, deaf: 500, stale: 50 });
    let mut files = shop(4, "crash:v1");
    files.extend(shop(2, "missing:v1").into_values().map(|text| {
        let text = text.replace("name: web", "name: api").replace("app: web", "app: api");
        let text = text.split_once("---").map(|(_, rest)| rest.to_owned());
        ("api.yaml".to_owned(), text.expect("two documents"))
    }));
    world.remote.commit("the beginning", files);
    world.store.is_local = true;
    world.add_machine("n0");
    run_for(&mut world, 43_200);
    let (steps, writes) = (world.steps(), world.store.writers().len());
    run_for(&mut world, 43_200);
    let hours = 12;
    let steps = (world.steps() - steps) / hours;
    let writes = (world.store.writers().len() - writes) as u64 / hours;
    assert!(steps < 20_000, "{steps} happenings an hour");
    assert!(writes < 1_000, "{writes} writes an hour");
    assert!(report(&world).events.len() <= EVENTS_MAX);
    assert!(check::decoded(&world).expect("decodes").events.len() <= EVENTS_MAX);
    let containers = world.machines[&node()].runtime.containers().count();
    assert!(containers <= 6 * 4, "{containers} containers: dead ones are removed");
    assert!(world.agenda.len() < 200, "{} things under way", world.agenda.len());
}

#[test]
fn a_node_declared_dead_gives_up_what_it_ran_when_it_is_back() {
    let mut world = World::new(11, Weather::default());
    world.remote.commit("the beginning", shop(0, "run:v1"));
    for name in ["n0", "n1", "n2"] {
        world.add_machine(name);
    }
    run_for(&mut world, 60);
    world.interfere(Interference::Push("six".into(), shop(6, "run:v1")));
    run_for(&mut world, 60);
    check::settled(&world).expect("it runs");
    let pods_on = |world: &World, node: &NodeName| {
        let state = check::decoded(world).expect("decodes");
        state.pods_of(node).map_or(0, |pods| pods.len())
    };
    let leads = |world: &World, node: &NodeName| {
        let machine = &world.machines[node];
        machine.agent().is_some_and(|agent| agent.is_coordinator(machine.now(world.time)))
    };
    let names: Vec<NodeName> = world.machines.keys().cloned().collect();
    let gone = names.iter().find(|node| !leads(&world, node)).expect("one does not lead").clone();
    let other = names.iter().find(|node| **node != gone).expect("there are others").clone();
    assert_eq!(pods_on(&world, &gone), 2);
    // Cut off, it keeps running what it has.
    world.interfere(Interference::Reach(gone.clone(), Reach::NONE));
    run_for(&mut world, 90);
    let fence = RequestKind::Fence { node: gone.clone(), forget: false };
    world.interfere(Interference::Ask(other.clone(), fence));
    run_for(&mut world, 30);
    assert_eq!(pods_on(&world, &gone), 0);
    let running = |world: &World| world.machines[&gone].runtime.containers().count();
    assert!(running(&world) > 0, "nobody has told it yet");
    world.interfere(Interference::Reach(gone.clone(), Reach::default()));
    run_for(&mut world, 120);
    assert_eq!(running(&world), 0);
    check::settled(&world).expect("the fence has fallen");
    // Drained and uncordoned, the others serve.
    let how = crate::state::records::DrainOptions::default();
    world.interfere(Interference::Ask(
        gone.clone(),
        RequestKind::Drain { node: other.clone(), how },
    ));
    run_for(&mut world, 60);
    assert_eq!(pods_on(&world, &other), 0);
    check::settled(&world).expect("all pods have another node");
    assert!(check::decoded(&world).expect("decodes").answered.is_empty(), "all is acknowledged");
}

#[test]
fn a_node_with_settings_of_its_own_neither_decides_nor_gets_new_pods() {
    let mut world = World::new(5, Weather::default());
    world.remote.commit("the beginning", shop(3, "run:v1"));
    let names = ["n0", "n1", "n2"].map(NodeName::trusted);
    for name in &names {
        world.machines.insert(name.clone(), super::Machine::new(name, world.time));
    }
    let configure = |world: &mut World, name: &NodeName, version: u64, value: &str| {
        world.interfere(Interference::KillAgent(name.clone()));
        let machine = world.machines.get_mut(name).expect("a machine");
        let fields = [("fleet.evictAfter".to_owned(), value.to_owned())];
        machine.fleet = crate::kinds::fleet::FleetSettings { version, fields: fields.into() };
        world.interfere(Interference::StartAgent(name.clone()));
    };
    for name in &names {
        configure(&mut world, name, 1, "1m");
    }
    run_for(&mut world, 60);
    check::settled(&world).expect("it runs");
    let in_force = |world: &World| {
        let settings = check::decoded(world).expect("decodes").settings.clone().expect("settings");
        (settings.version, settings.fields["fleet.evictAfter"].clone())
    };
    let leader = |world: &World| {
        let leads = |machine: &super::Machine| {
            machine.agent().is_some_and(|agent| agent.is_coordinator(machine.now(world.time)))
        };
        world.machines.iter().find(|(_, machine)| leads(machine)).map(|(name, _)| name.clone())
    };
    let pods_on = |world: &World, node: &NodeName| {
        check::decoded(world).expect("decodes").pods_of(node).map_or(0, |pods| pods.len())
    };
    assert_eq!(in_force(&world), (1, "1m".to_owned()));

    // A slip on one node; what runs there stays, and nothing new comes.
    let slipped = leader(&world).expect("somebody leads");
    let before = pods_on(&world, &slipped);
    configure(&mut world, &slipped, 1, "9m");
    run_for(&mut world, 60);
    assert_ne!(leader(&world), None);
    assert_ne!(leader(&world).as_ref(), Some(&slipped));
    assert_eq!((in_force(&world), pods_on(&world, &slipped)), ((1, "1m".to_owned()), before));
    world.interfere(Interference::Push("nine".into(), shop(9, "run:v1")));
    run_for(&mut world, 60);
    check::settled(&world).expect("all pods have another node");
    assert_eq!(pods_on(&world, &slipped), before);
    // Nor does it lead where it is alone.
    let others: Vec<&NodeName> = names.iter().filter(|name| **name != slipped).collect();
    for other in &others {
        world.interfere(Interference::KillAgent((*other).clone()));
    }
    run_for(&mut world, 60);
    assert_eq!(leader(&world), None);
    for other in &others {
        world.interfere(Interference::StartAgent((*other).clone()));
    }
    run_for(&mut world, 120);

    // Meant: one after the other, and it holds from the second on.
    configure(&mut world, &slipped, 2, "9m");
    run_for(&mut world, 60);
    assert_eq!(in_force(&world), (1, "1m".to_owned()));
    configure(&mut world, others[0], 2, "9m");
    run_for(&mut world, 60);
    assert_eq!(in_force(&world), (2, "9m".to_owned()));
    assert_ne!(leader(&world), None);
    assert_ne!(leader(&world).as_ref(), Some(others[1]), "now it is the one that differs");
    world.interfere(Interference::Push("twelve".into(), shop(12, "run:v1")));
    configure(&mut world, others[1], 2, "9m");
    run_for(&mut world, 120);
    check::settled(&world).expect("it settles");
    assert!(pods_on(&world, &slipped) > before);
}

/// A fleet of three whose store was restored from a backup: in it are three pods of `v1`, and by now
/// there is one of `v2`.
fn restored() -> World {
    let mut world = World::new(13, Weather::default());
    world.remote.commit("the beginning", shop(3, "run:v1"));
    for name in ["n0", "n1", "n2"] {
        world.add_machine(name);
    }
    run_for(&mut world, 60);
    check::settled(&world).expect("it runs");
    world.interfere(Interference::BackUp);
    world.interfere(Interference::Push("fewer".into(), shop(1, "run:v2")));
    run_for(&mut world, 60);
    check::settled(&world).expect("settled");
    world.interfere(Interference::Restore);
    world
}

fn all_alive(world: &World) -> BTreeSet<(NodeName, ContainerId)> {
    let machines = world.machines.iter();
    machines
        .flat_map(|(name, machine)| {
            let running = machine.runtime.containers().filter(|container| container.is_running());
            running.map(move |container| (name.clone(), container.id.clone()))
        })
        .collect()
}

#[test]
fn a_restored_store_is_refused_until_somebody_says_that_it_is_meant() {
    let n1 = NodeName::trusted("n1");
    let epoch = |files: &mut Files, number: u64| {
        files.insert("windlass.yaml".into(), format!("stateEpoch: {number}\n"));
    };
    let (mut low, mut high) = (shop(1, "run:v2"), shop(1, "run:v2"));
    epoch(&mut low, 0);
    epoch(&mut high, 3);
    let ways = [
        ("nobody says anything", vec![], None),
        ("a commit that is refused", vec![Interference::Push("zero".into(), low)], None),
        ("a commit", vec![Interference::Push("three".into(), high)], Some(3)),
        ("a person", vec![Interference::Adopt(n1.clone())], Some(1)),
        (
            "a person, after every agent has ended",
            [Interference::KillAgent as fn(NodeName) -> Interference, Interference::StartAgent]
                .into_iter()
                .flat_map(|what| ["n0", "n1", "n2"].map(|name| what(NodeName::trusted(name))))
                .chain([Interference::Adopt(n1.clone())])
                .collect(),
            Some(1),
        ),
        ("the ref is deleted", vec![Interference::DeleteRegister(Register::Coordinator)], Some(0)),
    ];
    for (what, steps, expected) in ways {
        let mut world = restored();
        let before = all_alive(&world);
        run_for(&mut world, 120);
        assert_eq!(all_alive(&world), before, "{what}: nothing is touched");
        let stood = check::decoded(&world).expect("decodes").generation;
        for step in steps {
            run_for(&mut world, 10);
            world.interfere(step);
        }
        run_for(&mut world, 120);
        let stands = check::decoded(&world).expect("decodes").generation;
        let Some(epoch) = expected else {
            assert_eq!((all_alive(&world), stands), (before, stood), "{what}");
            continue;
        };
        assert_eq!(stands.epoch, epoch, "{what}");
        check::settled(&world).unwrap_or_else(|missing| panic!("{what}: {missing}"));
        // The same backup once more: it is of an older epoch now.
        let before = all_alive(&world);
        world.interfere(Interference::Restore);
        run_for(&mut world, 120);
        assert_eq!(all_alive(&world), before, "{what}, and again");
    }
}

#[test]
fn a_node_lost_for_good_while_the_coordinators_ref_is_gone_holds_up_nobody_who_is_told_so() {
    let mut world = restored();
    // Two nodes come back with the copies of their disks; the third never does.
    for name in ["n0", "n1", "n2"] {
        world.interfere(Interference::KillAgent(NodeName::trusted(name)));
    }
    world.interfere(Interference::DeleteRegister(Register::Coordinator));
    for name in ["n1", "n2"] {
        world.interfere(Interference::StartAgent(NodeName::trusted(name)));
    }
    run_for(&mut world, 300);
    assert!(world.store.tree(&Register::Coordinator).is_none(), "the third may know better");
    world.interfere(Interference::Adopt(NodeName::trusted("n2")));
    run_for(&mut world, 30);
    assert_eq!(check::decoded(&world).expect("decodes").generation.epoch, 1);
    // And if it does come back, it follows.
    world.interfere(Interference::StartAgent(NodeName::trusted("n0")));
    run_for(&mut world, 300);
    check::settled(&world).expect("it settles");
}

#[test]
fn who_has_acted_on_more_than_he_still_has_sends_nobody_in_a_circle() {
    let [n0, n1, n2] = ["n0", "n1", "n2"].map(NodeName::trusted);
    let mut world = World::new(13, Weather::default());
    world.remote.commit("the beginning", shop(3, "run:v1"));
    for name in [&n0, &n1, &n2] {
        world.add_machine(name.as_str());
    }
    let push = |world: &mut World, replicas: u32| {
        let files = shop(replicas, "run:v1");
        world.interfere(Interference::Push(format!("{replicas}"), files));
        run_for(world, 60);
    };
    run_for(&mut world, 60);
    world.interfere(Interference::BackUp);
    push(&mut world, 2);
    // One is cut off, and keeps what it read; the others act on more, and lose it.
    world.interfere(Interference::Reach(n2.clone(), Reach::NONE));
    push(&mut world, 1);
    world.interfere(Interference::Restore);
    run_for(&mut world, 60);
    for name in [&n0, &n1] {
        world.interfere(Interference::KillAgent(name.clone()));
        world.interfere(Interference::StartAgent(name.clone()));
    }
    run_for(&mut world, 60);
    world.interfere(Interference::DeleteRegister(Register::Coordinator));
    world.interfere(Interference::Reach(n2.clone(), Reach::default()));
    run_for(&mut world, 120);
    assert!(world.store.tree(&Register::Coordinator).is_none(), "nobody has the newest");
    world.interfere(Interference::Adopt(n0));
    run_for(&mut world, 30);
    assert!(world.store.tree(&Register::Coordinator).is_none(), "another has a newer one");
    world.interfere(Interference::Adopt(n2.clone()));
    run_for(&mut world, 120);
    let (_, by, _) =
        world.decisions.iter().rev().find(|(_, _, why)| why.contains("taken")).expect("taken");
    assert_eq!(*by, n2);
    check::settled(&world).expect("it settles");
}

#[test]
fn whoever_waits_for_its_turn_to_take_a_store_waits_in_peace() {
    // A commit permits it to all, one after the other; then the store is gone before their turn comes.
    let mut world = restored();
    run_for(&mut world, 60);
    let mut files = shop(1, "run:v2");
    files.insert("windlass.yaml".into(), "stateEpoch: 3\n".into());
    for name in ["n0", "n1"] {
        world.interfere(Interference::KillAgent(NodeName::trusted(name)));
    }
    run_for(&mut world, 60);
    world.interfere(Interference::Push("three".into(), files));
    run_for(&mut world, 1);
    world.interfere(Interference::CutStore);
    run_for(&mut world, 120);
    assert!(world.machines[&NodeName::trusted("n2")].agent().is_some(), "and nobody spins");
}

#[test]
fn who_does_not_see_that_the_store_was_set_back_soon_ceases_to_lead() {
    let mut world = World::new(13, Weather::default());
    world.remote.commit("the beginning", shop(3, "run:v1"));
    for name in ["n0", "n1", "n2"] {
        world.add_machine(name);
    }
    run_for(&mut world, 60);
    let leaders = |world: &World| -> Vec<NodeName> {
        let leads = |machine: &super::Machine| {
            machine.agent().is_some_and(|agent| agent.is_coordinator(machine.now(world.time)))
        };
        let all = world.machines.iter().filter(|(_, machine)| leads(machine));
        all.map(|(name, _)| name.clone()).collect()
    };
    let holder = |world: &World| check::decoded(world).expect("decodes").lease.clone();
    let first = leaders(&world).pop().expect("somebody leads");
    world.interfere(Interference::KillAgent(first.clone()));
    run_for(&mut world, 60);
    let second = leaders(&world).pop().expect("another leads");
    // Its looks hang, its signs of life land; and the store is what it was when the first one led.
    world.interfere(Interference::HangLooks(second.clone()));
    run_for(&mut world, 3);
    let mut writes = 0;
    while holder(&world).is_some_and(|lease| lease.holder != first) {
        writes += 1;
        assert!(world.store.set_back(&Register::Coordinator, writes), "it once led");
    }
    world.interfere(Interference::StartAgent(first.clone()));
    let until = world.time + Duration::from_secs(31);
    while world.step(until) {}
    assert_eq!(leaders(&world), std::slice::from_ref(&first), "twice the lease's duration later");
    for _ in 0..60 {
        let next = world.time + Duration::from_secs(1);
        while world.step(next) {}
        assert!(!leaders(&world).contains(&second));
    }
    // Nor does it try to write again and again before it has looked.
    world.interfere(Interference::Push("more".into(), shop(4, "run:v1")));
    world.interfere(Interference::AnswerLooks(second));
    let until = world.time + Duration::from_secs(60);
    while world.step(until) {}
    assert_eq!(leaders(&world), [first]);
}
