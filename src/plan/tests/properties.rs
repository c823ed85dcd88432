//! What holds at every step of any roll-out, and on any register whatever.

use proptest::prelude::{
    Just, ProptestConfig, TestCaseError, any, prop, prop_assert, prop_assert_eq, prop_oneof,
    proptest,
};
use proptest::strategy::Strategy as Draw;

use super::fleet::spec_of;
use super::{Fleet, Mood, daemon_set, deployment, pod, replica_set, service, stateful_set};
use crate::plan::plan;

/// What developers may do to the Deployment, and the world to its pods.
#[derive(Clone, Debug)]
enum Deed {
    Push {
        replicas: u32,
        image: u32,
        surge: String,
        unavailable: String,
        min_ready: u32,
    },
    /// Each pod's fate is drawn from these numbers.
    Work(Vec<u8>),
    Pass(u64),
}

fn push() -> impl Draw<Value = Deed> {
    (0..9_u32, 0..5_u32, share_text(), share_text(), prop_oneof![Just(0_u32), 1..6_u32]).prop_map(
        |(replicas, image, surge, unavailable, min_ready)| Deed::Push {
            replicas,
            image,
            surge,
            unavailable,
            min_ready,
        },
    )
}

fn share_text() -> impl Draw<Value = String> {
    prop_oneof![
        (0..4_u32).prop_map(|count| count.to_string()),
        (0..=100_u32).prop_map(|percent| format!("{percent}%")),
    ]
}

fn deeds() -> impl Draw<Value = Vec<Deed>> {
    let deed = prop_oneof![
        1 => push(),
        4 => prop::collection::vec(any::<u8>(), 12).prop_map(Deed::Work),
        2 => (1..8_u64).prop_map(Deed::Pass),
    ];
    prop::collection::vec(deed, 1..40)
}

fn web(replicas: u32, image: &str, surge: &str, unavailable: &str, min_ready: u32) -> String {
    let strategy = format!(
        "minReadySeconds: {min_ready}; strategy: {{rollingUpdate: {{maxSurge: {surge}, \
         maxUnavailable: {unavailable}}}}}"
    );
    deployment("web", replicas, image, &strategy)
}

/// Pods that count, and those of them that have been ready for `minReadySeconds`.
fn counts(fleet: &Fleet, min_ready: u32) -> (u32, u32) {
    let mut counts = (0, 0);
    for binding in fleet.bindings("web").iter().filter(|b| b.deletion.is_none()) {
        counts.0 += 1;
        let since = fleet.memory.ready_since.get(&binding.uid);
        let ready = since.map(|since| fleet.now.elapsed.since(*since).as_secs());
        counts.1 += u32::from(ready.is_some_and(|ready| ready >= min_ready.into()));
    }
    counts
}

/// How many pods the Deployment's sets ask for.
fn asked(fleet: &Fleet) -> u32 {
    let Some(app) = fleet.input.state.apps.values().next() else {
        return 0;
    };
    app.sets.values().map(|set| set.replicas).sum()
}

/// Plans once and checks what must hold after any turn.
fn turn_within_bounds(fleet: &mut Fleet) -> Result<(), TestCaseError> {
    let before_spec = spec_of(fleet, "web");
    let asked_before = asked(fleet);
    let mut again = fleet.clone();
    // Let the memory see the reports first, so that both counts speak of the same moment.
    let mut looking = fleet.clone();
    looking.turn();
    let min_ready = spec_of(&looking, "web").map_or(0, |spec| spec.min_ready_s);
    let available_before = {
        let mut seen = fleet.clone();
        seen.memory = looking.memory.clone();
        counts(&seen, min_ready).1
    };
    fleet.turn();
    again.turn();
    prop_assert_eq!(&fleet.input.state, &again.input.state, "the same input, the same bytes");
    let Some(spec) = spec_of(fleet, "web") else {
        return Ok(());
    };
    let (surge, unavailable) = spec.strategy.bounds(spec.replicas);
    let asked = asked(fleet);
    let (active, available) = counts(fleet, min_ready);
    prop_assert_eq!(active, asked, "pods are what the sets ask for");
    // A change of `replicas` is not held to what may be missing, as in Kubernetes.
    let is_scaling = before_spec.is_none_or(|before| before.replicas != spec.replicas);
    // A smaller surge takes nothing away by itself, as in Kubernetes.
    prop_assert!(
        asked <= asked_before.max(spec.replicas + surge) || is_scaling,
        "{asked} of {} +{surge}",
        spec.replicas
    );
    let least = available_before.min(spec.replicas.saturating_sub(unavailable));
    prop_assert!(
        available >= least || is_scaling,
        "{available_before} were available, {available} are, {least} must be"
    );
    Ok(())
}

fn mood(fate: u8) -> Mood {
    match fate {
        0..=120 => Mood::Ready,
        121..=170 => Mood::Unready,
        171..=220 => Mood::Silent,
        221..=245 => Mood::Clings,
        _ => Mood::Failed,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// The budget is never exceeded at any step of any roll-out, and in the end everything is as
    /// the last good commit says.
    #[test]
    fn a_roll_out_keeps_within_its_bounds_and_arrives(deeds in deeds()) {
        let mut fleet = Fleet::new();
        for deed in deeds {
            match deed {
                Deed::Push { replicas, image, surge, unavailable, min_ready } => {
                    let image = format!("v{image}");
                    fleet.push(&web(replicas, &image, &surge, &unavailable, min_ready));
                }
                Deed::Work(fates) => {
                    let mut fates = fates.into_iter().cycle();
                    fleet.work_as(|_, _| mood(fates.next().unwrap_or(0)));
                }
                Deed::Pass(seconds) => {
                    fleet.pass(seconds);
                }
            }
            turn_within_bounds(&mut fleet)?;
        }
        fleet.settle();
        if let Some(spec) = spec_of(&fleet, "web") {
            let image = &spec.template.spec.containers[0].image;
            let expected = match spec.replicas {
                0 => String::new(),
                count => format!("{image}={count}"),
            };
            prop_assert_eq!(fleet.pods("web"), expected);
        }
    }

    /// Two coordinators that are given the same write the same, byte for byte, whatever they have
    /// been through.
    #[test]
    fn the_same_input_gives_the_same_bytes(deeds in deeds()) {
        let mut fleet = Fleet::new();
        for deed in deeds {
            match deed {
                Deed::Push { replicas, image, surge, unavailable, min_ready } => {
                    let image = format!("v{image}");
                    fleet.push(&web(replicas, &image, &surge, &unavailable, min_ready));
                }
                Deed::Work(fates) => {
                    let mut fates = fates.into_iter().cycle();
                    fleet.work_as(|_, _| mood(fates.next().unwrap_or(0)));
                }
                Deed::Pass(seconds) => {
                    fleet.pass(seconds);
                }
            }
            let mut other = fleet.clone();
            fleet.turn();
            other.turn();
            prop_assert_eq!(bytes(&fleet), bytes(&other));
        }
    }

    /// Whatever the register holds, and whatever is missing of it, a turn comes to an end without
    /// a panic, gives the same twice, and what it gives can be written and read.
    #[test]
    fn plan_never_fails_it_reports(wounds in prop::collection::vec(any::<(u8, u32)>(), 0..12)) {
        let mut fleet = a_fleet_of_everything();
        for wound in wounds {
            wounds::strike(&mut fleet, wound);
        }
        let mut memory = fleet.memory.clone();
        let one = plan(&fleet.input, &mut memory, fleet.now);
        let two = plan(&fleet.input, &mut fleet.memory.clone(), fleet.now);
        prop_assert_eq!(&one.next, &two.next);
        prop_assert_eq!(&one.why, &two.why);
        let edits = crate::state::State::default().edits_to(&one.next);
        let tree = crate::ports::store::Tree::default().with(&edits);
        let read = crate::state::State::decode(&tree);
        prop_assert!(read.is_ok(), "{:?}", read.err());
    }
}

/// What a turn writes: every file, and the commit's message.
fn bytes(fleet: &Fleet) -> (crate::ports::store::Tree, Option<String>) {
    let edits = crate::state::State::default().edits_to(&fleet.input.state);
    let why = fleet.last.as_ref().map(|plan| plan.why.clone());
    (crate::ports::store::Tree::default().with(&edits), why)
}

fn a_fleet_of_everything() -> Fleet {
    let all = format!(
        "{}{}{}{}{}{}{}",
        web(3, "v1", "1", "0", 0),
        deployment("api", 2, "v1", "strategy: {type: Recreate}"),
        replica_set("old", 2, "v1", "{matchLabels: {app: old}}"),
        pod("lone", "v1", "app: old"),
        service("web", "type: NodePort, ports: [{port: 80}]"),
        stateful_set("db", 2, "v1", "updateStrategy: {rollingUpdate: {partition: 1}}"),
        daemon_set("log", "v1", "", ""),
    );
    let mut fleet = Fleet::running(&all);
    fleet.push(&all.replace("v1", "v2"));
    fleet.turn();
    fleet.work();
    fleet.turn();
    fleet
}

/// Ways in which a register can be other than we left it.
mod wounds {
    use std::sync::Arc;

    use super::Fleet;
    use crate::kinds::binding::Oid;
    use crate::kinds::name::{Name, NodeName};
    use crate::plan::Library;

    pub(super) fn strike(fleet: &mut Fleet, (kind, number): (u8, u32)) {
        let state = &mut fleet.input.state;
        let Some(app) = state.apps.values_mut().next() else {
            return;
        };
        let at = number as usize;
        match kind % 21 {
            0 => app.sets.clear(),
            1 => app.deployments.clear(),
            2 => app.ledger.clear(),
            3 => app.head = Arc::default(),
            4 => state.apps.clear(),
            5 => {
                let count = app.sets.len().max(1);
                if let Some(set) = app.sets.values_mut().nth(at % count) {
                    let set = Arc::make_mut(set);
                    (set.replicas, set.max, set.desired) = (number, number / 3, number / 2);
                }
            }
            6 => {
                // One pod stands in two places.
                let first = state.pods.values().flat_map(|pods| pods.values()).next().cloned();
                if let Some(pod) = first {
                    let elsewhere = Some(Name::trusted("z"));
                    let list = state.pods.entry(elsewhere).or_default();
                    Arc::make_mut(list).insert(pod.key.clone(), pod);
                }
            }
            7 => each_pod(fleet, at, |pod| pod.owner = pod.template.owner.clone()),
            8 => each_pod(fleet, at, |pod| pod.template.revision = Oid::new("gone")),
            9 => each_pod(fleet, at, |pod| pod.template.meaning_version = 0),
            10 => each_pod(fleet, at, |pod| pod.template.app = Name::trusted("other")),
            11 => each_pod(fleet, at, |pod| pod.sequence = u64::MAX),
            12 => fleet.input.library = Library::default(),
            13 => fleet.input.nodes.clear(),
            14 => {
                fleet.input.nodes.insert(NodeName::trusted("z"), Default::default());
            }
            15 => {
                let settings = Arc::make_mut(&mut fleet.input.settings);
                let prefix = u8::try_from(16 + number % 17).unwrap_or(32);
                let network =
                    ipnetwork::Ipv4Network::new([10, 9, 0, 0].into(), prefix).expect("a network");
                settings.service_network = network;
                settings.pod_network = network;
                settings.node_ports = (30000, 30000 + u16::try_from(number % 3).unwrap_or(0));
            }
            16 => fleet.app().applied = None,
            17 => app.revisions.clear(),
            18 => app.stateful_sets.clear(),
            19 => each_pod(fleet, at, |pod| {
                pod.labels.clear();
                pod.index = pod.index.map(|_| number);
                pod.only_node = pod.only_node.as_ref().map(|_| Name::trusted("elsewhere"));
            }),
            _ => {
                if let Some(set) = app.sets.values_mut().next() {
                    let set = Arc::make_mut(set);
                    set.revision = u64::MAX - 1;
                    set.replicas = u32::MAX;
                    set.max = 1;
                }
                state.sequence = u64::MAX - u64::from(number % 2);
                state.generation.number = u64::MAX;
            }
        }
    }

    fn each_pod(
        fleet: &mut Fleet,
        at: usize,
        change: impl Fn(&mut crate::kinds::binding::Binding),
    ) {
        for list in fleet.input.state.pods.values_mut() {
            for (number, pod) in Arc::make_mut(list).values_mut().enumerate() {
                if number % 3 == at % 3 {
                    change(Arc::make_mut(pod));
                }
            }
        }
    }
}
