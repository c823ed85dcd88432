//! What holds at every step of any roll-out of a StatefulSet or a DaemonSet.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::{
    ProptestConfig, TestCaseError, any, prop, prop_assert, prop_assert_eq, proptest,
};
use proptest::strategy::Strategy as Draw;

use super::liveness::hear;
use super::{Fleet, Mood, daemon_set, stateful_set};
use crate::kinds::name::NodeName;
use crate::plan::NodeInput;

/// What developers may ask for.
#[derive(Clone, Copy, Debug)]
struct Wish {
    replicas: u32,
    image: u32,
    is_parallel: bool,
    partition: u32,
    bound: u32,
    min_ready: u32,
    surges: bool,
}

#[derive(Clone, Debug)]
enum Deed {
    Push(Wish),
    /// Each pod's fate is drawn from these numbers.
    Work(Vec<u8>),
    Pass(u64),
}

fn wish() -> impl Draw<Value = Wish> {
    let numbers = (0..6_u32, 0..4_u32, 0..4_u32, 1..4_u32, 0..4_u32);
    (numbers, any::<bool>(), any::<bool>()).prop_map(|(numbers, is_parallel, surges)| {
        let (replicas, image, partition, bound, min_ready) = numbers;
        Wish { replicas, image, is_parallel, partition, bound, min_ready, surges }
    })
}

fn deeds() -> impl Draw<Value = Vec<Deed>> {
    let deed = prop::strategy::Union::new_weighted(vec![
        (1, wish().prop_map(Deed::Push).boxed()),
        (5, prop::collection::vec(any::<u8>(), 8).prop_map(Deed::Work).boxed()),
        (2, (1..6_u64).prop_map(Deed::Pass).boxed()),
    ]);
    (wish(), prop::collection::vec(deed, 1..40)).prop_map(|(first, mut deeds)| {
        deeds.insert(0, Deed::Push(first));
        deeds
    })
}

fn mood(fate: u8) -> Mood {
    match fate {
        0..=140 => Mood::Ready,
        141..=180 => Mood::Unready,
        181..=215 => Mood::Silent,
        216..=245 => Mood::Clings,
        _ => Mood::Failed,
    }
}

fn database(wish: Wish) -> String {
    let Wish { replicas, image, is_parallel, partition, bound, min_ready, .. } = wish;
    let policy = if is_parallel { "Parallel" } else { "OrderedReady" };
    let more = format!(
        "minReadySeconds: {min_ready}; podManagementPolicy: {policy}; updateStrategy: \
         {{rollingUpdate: {{partition: {partition}, maxUnavailable: {bound}}}}}"
    );
    stateful_set("db", replicas, &format!("v{image}"), &more)
}

fn agents(wish: Wish) -> String {
    let Wish { image, bound, min_ready, surges, .. } = wish;
    let bounds = match surges {
        true => format!("maxSurge: {bound}, maxUnavailable: 0"),
        false => format!("maxUnavailable: {bound}"),
    };
    let more =
        format!("minReadySeconds: {min_ready}; updateStrategy: {{rollingUpdate: {{{bounds}}}}}");
    daemon_set("log", &format!("v{image}"), &more, "")
}

/// The numbers of the pods that are to stay and have been ready for long enough.
fn available(fleet: &Fleet, name: &str, min_ready: u32) -> BTreeSet<String> {
    let pods = fleet.bindings(name).into_iter().filter(|pod| pod.deletion.is_none());
    pods.filter(|pod| {
        let since = fleet.memory.ready_since.get(&pod.uid);
        since.is_some_and(|since| fleet.now.elapsed.since(*since).as_secs() >= u64::from(min_ready))
    })
    .map(|pod| pod.key.name.to_string())
    .collect()
}

/// What was available when the turn looked, and what it left available.
fn turn(fleet: &mut Fleet, name: &str, min_ready: u32) -> (BTreeSet<String>, BTreeSet<String>) {
    let mut looking = fleet.clone();
    looking.turn();
    let before = {
        let mut seen = fleet.clone();
        seen.memory = looking.memory;
        available(&seen, name, min_ready)
    };
    fleet.turn();
    (before, available(fleet, name, min_ready))
}

fn one_pod_to_a_name(fleet: &Fleet) -> Result<(), TestCaseError> {
    let mut names = BTreeSet::new();
    for (_, pod) in fleet.input.state.all_pods() {
        prop_assert!(names.insert(pod.key.clone()), "{} twice", pod.key);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    /// Never two pods of one name; never more missing than may be; nobody before those below; and in
    /// the end everything is as the last commit says.
    #[test]
    fn a_stateful_set_keeps_its_order_and_its_bounds_and_arrives(deeds in deeds()) {
        let mut fleet = Fleet::new();
        let mut wish = None;
        for deed in deeds {
            let mut is_scaling = false;
            match deed {
                Deed::Push(next) => {
                    is_scaling = wish.is_none_or(|wish: Wish| wish.replicas != next.replicas);
                    wish = Some(next);
                    fleet.push(&database(next));
                }
                Deed::Work(fates) => {
                    let mut fates = fates.into_iter().cycle();
                    fleet.work_as(|_, _| mood(fates.next().unwrap_or(0)));
                }
                Deed::Pass(seconds) => {
                    fleet.pass(seconds);
                }
            }
            let Some(wish) = wish else { continue };
            let old: BTreeSet<_> = fleet.bindings("db").iter().map(|pod| pod.uid.clone()).collect();
            let (before, after) = turn(&mut fleet, "db", wish.min_ready);
            one_pod_to_a_name(&fleet)?;
            let within = |names: &BTreeSet<String>| {
                let numbers = (0..wish.replicas).map(|number| format!("db-{number}"));
                u32::try_from(numbers.filter(|name| names.contains(name)).count()).unwrap_or(0)
            };
            let least = within(&before).min(wish.replicas.saturating_sub(wish.bound));
            prop_assert!(within(&after) >= least || is_scaling, "{before:?} then {after:?}");
            let made = fleet.bindings("db").into_iter().filter(|pod| !old.contains(&pod.uid));
            for pod in made.filter(|_| !wish.is_parallel) {
                let number = pod.index.unwrap_or(0);
                let below = (0..number).map(|number| format!("db-{number}"));
                let are_there = below.clone().all(|name| before.contains(&name));
                prop_assert!(are_there, "{} came before {:?}", pod.key, below.collect::<Vec<_>>());
            }
        }
        fleet.settle();
        let Some(wish) = wish else { return Ok(()) };
        let pods = fleet.bindings("db");
        prop_assert_eq!(pods.len(), wish.replicas as usize);
        for pod in pods.iter().filter(|pod| pod.index >= Some(wish.partition)) {
            prop_assert_eq!(fleet.image(&pod.template), format!("v{}", wish.image));
        }
    }

    /// Never more than one pod to a node, two where they overlap; never more nodes without than may
    /// be; and in the end each has one of the last commit.
    #[test]
    fn a_daemon_set_keeps_within_its_bounds_and_arrives(deeds in deeds()) {
        follow_daemon_set(deeds)?;
    }
}

fn follow_daemon_set(deeds: Vec<Deed>) -> Result<(), TestCaseError> {
    let mut fleet = Fleet::new();
    for name in ["b", "c"] {
        let input = NodeInput { is_ready: true, ..NodeInput::default() };
        fleet.input.nodes.insert(NodeName::trusted(name), input);
    }
    hear(&mut fleet, &["a", "b", "c"], 0);
    let mut wish = None;
    for deed in deeds {
        match deed {
            Deed::Push(next) => {
                wish = Some(next);
                fleet.push(&agents(next));
            }
            Deed::Work(fates) => {
                let mut fates = fates.into_iter().cycle();
                for node in ["a", "b", "c"] {
                    fleet.work_on(node, |_, _| mood(fates.next().unwrap_or(0)));
                }
            }
            Deed::Pass(seconds) => {
                fleet.pass(seconds);
            }
        }
        let Some(wish) = wish else { continue };
        let (before, after) = turn(&mut fleet, "log", wish.min_ready);
        one_pod_to_a_name(&fleet)?;
        let mut staying: BTreeMap<_, u32> = BTreeMap::new();
        for pod in fleet.bindings("log").iter().filter(|pod| pod.deletion.is_none()) {
            *staying.entry(pod.only_node.clone()).or_default() += 1;
        }
        let most = staying.values().max().copied().unwrap_or(0);
        prop_assert!(most <= if wish.surges { 2 } else { 1 }, "{staying:?}");
        // Counted by node: where two overlap, one of them may go.
        let nodes = |names: &BTreeSet<String>| -> BTreeSet<NodeName> {
            let pods = fleet.bindings("log");
            let pods = pods.iter().filter(|pod| names.contains(pod.key.name.as_str()));
            pods.filter_map(|pod| pod.only_node.clone()).collect()
        };
        let unavailable = if wish.surges { 0 } else { wish.bound as usize };
        let least = nodes(&before).len().min(3_usize.saturating_sub(unavailable));
        prop_assert!(nodes(&after).len() >= least, "{before:?} then {after:?}");
    }
    fleet.settle_everywhere();
    fleet.pass(10);
    for _ in 0..30 {
        fleet.settle_everywhere();
        fleet.pass(5);
    }
    let Some(wish) = wish else { return Ok(()) };
    let image = wish.image;
    prop_assert_eq!(fleet.lamps("log"), format!("a:v{image} b:v{image} c:v{image}"));
    Ok(())
}

/// A second roll-out begins while pods of two templates are on a node: the one that serves stays.
#[test]
fn of_two_old_pods_on_a_node_the_one_that_serves_stays() {
    let wish = Wish {
        replicas: 0,
        image: 0,
        is_parallel: false,
        partition: 0,
        bound: 1,
        min_ready: 1,
        surges: true,
    };
    let at_work = |fates: [u8; 8]| Deed::Work(fates.to_vec());
    let plain = Wish { min_ready: 0, surges: false, ..wish };
    let deeds = vec![
        Deed::Push(Wish { image: 1, ..plain }),
        Deed::Push(plain),
        at_work([0; 8]),
        Deed::Push(plain),
        Deed::Push(Wish { image: 1, bound: 2, ..wish }),
        at_work([0; 8]),
        at_work([0; 8]),
        Deed::Push(wish),
        at_work([0, 0, 0, 141, 0, 0, 0, 0]),
        Deed::Pass(2),
        Deed::Push(Wish { image: 2, min_ready: 0, ..wish }),
    ];
    follow_daemon_set(deeds).expect("within its bounds");
}
