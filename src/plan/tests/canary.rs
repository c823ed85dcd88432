//! Canaries: how much of what is new runs while the rest is held back, for how long, and what ends it.

use std::sync::Arc;

use proptest::prelude::{ProptestConfig, any, prop, prop_assert, proptest};

use super::liveness::hear;
use super::{Fleet, Mood, daemon_set, deployment, manifest, stateful_set};
use crate::kinds::labels::Labels;
use crate::kinds::name::NodeName;
use crate::kinds::node::NodeFacts;
use crate::plan::{Memory, NodeInput};
use crate::state::records::AppHead;

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";

/// A commit of the app `web`, treated as `canary` says.
fn push(fleet: &mut Fleet, message: &str, canary: &str, web: &str) {
    let settings = format!("apps:\n- {{name: web, path: web{canary}}}\n");
    let files =
        [("windlass.yaml", &*settings), ("namespace.yaml", NAMESPACE), ("web/web.yaml", web)];
    fleet.push_files(message, &files);
}

/// Nodes a, b and c, of which c is in Berlin; `web` runs there.
fn running(web: &str) -> Fleet {
    let mut fleet = Fleet::new();
    for name in ["a", "b", "c"] {
        let site = if name == "c" { "berlin" } else { "paris" };
        let labels = Labels::from([("site".to_owned(), site.to_owned())]);
        let facts = Arc::new(NodeFacts { labels, ..NodeFacts::default() });
        let input = NodeInput { is_ready: true, facts, ..NodeInput::default() };
        fleet.input.nodes.insert(NodeName::trusted(name), input);
        hear(&mut fleet, &[name], 0);
    }
    push(&mut fleet, "first", "", web);
    go_on(&mut fleet, 60);
    fleet
}

fn go_on(fleet: &mut Fleet, seconds: u32) {
    for _ in 0..seconds {
        fleet.turn();
        fleet.work_everywhere();
        fleet.pass(1);
    }
}

fn head(fleet: &Fleet) -> &AppHead {
    &fleet.input.state.apps["web"].head
}

fn standing(fleet: &Fleet) -> String {
    head(fleet).canary_now().map_or("none".to_owned(), ToString::to_string)
}

fn web(replicas: u32, image: &str) -> String {
    deployment("web", replicas, image, "progressDeadlineSeconds: 60")
}

const TENTH: &str = ", canary: {share: 10%, for: 5m}, autoRevert: true";

#[test]
fn a_part_goes_ahead_is_held_and_the_rest_follows_by_itself() {
    let mut fleet = running(&web(10, "v1"));
    push(&mut fleet, "second", TENTH, &web(10, "v2"));
    fleet.turn();
    assert_eq!(standing(&fleet), "canary: 1 of 10 pods, not healthy yet");
    go_on(&mut fleet, 100);
    assert_eq!(fleet.pods("web"), "v1=9 v2=1");
    assert_eq!(standing(&fleet), "canary: 1 of 10 pods, healthy for 90s of 5m");
    assert!(head(&fleet).applied.as_ref().is_some_and(|applied| applied.healthy.is_none()));
    assert_eq!(
        fleet.event("RevisionCanary").map(|said| said.contains("follows in 5m")),
        Some(true)
    );
    // Another coordinator goes on with the time that is written down.
    fleet.memory = Memory::default();
    go_on(&mut fleet, 195);
    assert_eq!(fleet.pods("web"), "v1=9 v2=1");
    go_on(&mut fleet, 60);
    assert_eq!((fleet.pods("web"), standing(&fleet)), ("v2=10".into(), "none".into()));
    assert!(head(&fleet).applied.as_ref().is_some_and(|applied| applied.healthy.is_some()));
}

#[test]
fn each_kind_of_workload_has_its_part() {
    let cases = [
        // Percents round up; one goes always.
        (", canary: {share: 10%, for: 10m}", web(3, "v1"), web(3, "v2"), "v1=2 v2=1"),
        (", canary: {share: 50%, for: 10m}", web(5, "v1"), web(5, "v2"), "v1=2 v2=3"),
        (", canary: {share: 2, for: 10m}", web(5, "v1"), web(5, "v2"), "v1=3 v2=2"),
        (", canary: {share: 2, for: 10m}", web(1, "v1"), web(1, "v2"), "v2=1"),
        // Larger as well: the rest grows with the template that it has.
        (", canary: {share: 2, for: 10m}", web(5, "v1"), web(8, "v2"), "v1=6 v2=2"),
        (", canary: {share: 2, for: 10m}", web(8, "v1"), web(5, "v2"), "v1=3 v2=2"),
        // Nothing to hold: it runs nowhere yet, or no template changes.
        (", canary: {share: 2, for: 10m}", web(0, "v1"), web(3, "v2"), "v2=3"),
        (", canary: {share: 2, for: 10m}", web(2, "v1"), web(5, "v1"), "v1=5"),
        // The last of a StatefulSet, the first nodes of a DaemonSet.
        (
            ", canary: {share: 40%, for: 10m}",
            stateful_set("web", 5, "v1", ""),
            stateful_set("web", 5, "v2", ""),
            "v1=3 v2=2",
        ),
        (
            ", canary: {share: 1, for: 10m}",
            daemon_set("web", "v1", "", ""),
            daemon_set("web", "v2", "", ""),
            "v1=2 v2=1",
        ),
        (
            ", canary: {nodeSelector: {site: berlin}, for: 10m}",
            daemon_set("web", "v1", "", ""),
            daemon_set("web", "v2", "", ""),
            "v1=2 v2=1",
        ),
    ];
    for (canary, before, after, expected) in cases {
        let mut fleet = running(&before);
        push(&mut fleet, "second", canary, &after);
        go_on(&mut fleet, 60);
        assert_eq!(fleet.pods("web"), expected, "{canary} {after}");
        go_on(&mut fleet, 660);
        let last = if after.contains("v2") { "v2" } else { "v1" };
        let pods = fleet.pods("web");
        assert!(pods.starts_with(last) && !pods.contains(' '), "{canary} {after}: {pods}");
        assert_eq!(standing(&fleet), "none", "{canary} {after}");
    }
}

#[test]
fn a_canary_on_named_nodes_runs_nowhere_else() {
    let canary = ", canary: {nodes: [c], for: 5m}";
    let mut fleet = running(&web(6, "v1"));
    let on = |fleet: &Fleet, image: &str| {
        let mut nodes: Vec<String> = fleet
            .input
            .state
            .all_pods()
            .filter(|(_, pod)| pod.deletion.is_none() && fleet.image(&pod.template) == image)
            .map(|(node, _)| node.as_ref().map_or("-".to_owned(), ToString::to_string))
            .collect();
        nodes.sort();
        nodes.join(" ")
    };
    assert_eq!(on(&fleet, "v1"), "a a b b c c");
    push(&mut fleet, "second", canary, &web(6, "v2"));
    go_on(&mut fleet, 60);
    assert_eq!((fleet.pods("web"), on(&fleet, "v2")), ("v1=4 v2=2".into(), "c c".into()));
    go_on(&mut fleet, 400);
    assert_eq!(fleet.pods("web"), "v2=6");

    let mut fleet = running(&stateful_set("web", 6, "v1", ""));
    push(&mut fleet, "second", canary, &stateful_set("web", 6, "v2", ""));
    go_on(&mut fleet, 100);
    assert_eq!((fleet.pods("web"), on(&fleet, "v2")), ("v1=4 v2=2".into(), "c c".into()));

    let mut fleet = running(&daemon_set("web", "v1", "", ""));
    push(&mut fleet, "second", canary, &daemon_set("web", "v2", "", ""));
    go_on(&mut fleet, 100);
    assert_eq!(fleet.lamps("web"), "a:v1 b:v1 c:v2");

    // Where nothing of it could run, it does not run everywhere instead.
    let mut fleet = running(&web(6, "v1"));
    push(&mut fleet, "second", ", canary: {nodes: [d]}", &web(6, "v2"));
    go_on(&mut fleet, 60);
    assert_eq!(fleet.pods("web"), "v1=6");
    assert!(fleet.verdicts().contains("web: waiting: nothing of what changes has a pod"));
}

#[test]
fn one_that_does_not_become_healthy_goes_back_and_one_that_falls_ill_begins_anew() {
    let mut fleet = running(&web(10, "v1"));
    push(&mut fleet, "second", TENTH, &web(10, "bad"));
    go_on(&mut fleet, 50);
    assert_eq!(fleet.pods("web"), "bad=1 v1=9");
    go_on(&mut fleet, 60);
    assert_eq!((fleet.pods("web"), standing(&fleet)), ("v1=10".into(), "none".into()));
    assert!(head(&fleet).failed.is_some() && fleet.verdicts().contains("web: reverted"));

    // Without a way back it stays where it is; what mends it goes on.
    let mut fleet = running(&web(10, "v1"));
    push(&mut fleet, "second", ", canary: {share: 10%, for: 5m}", &web(10, "bad"));
    go_on(&mut fleet, 600);
    assert_eq!(fleet.pods("web"), "bad=1 v1=9");

    // A pod that is not ready for a moment: the time begins anew.
    let mut fleet = running(&web(10, "v1"));
    push(&mut fleet, "second", TENTH, &web(10, "v2"));
    go_on(&mut fleet, 200);
    for node in ["a", "b", "c"] {
        fleet.work_on(node, |_, image| if image == "v2" { Mood::Unready } else { Mood::Ready });
    }
    fleet.turn();
    assert_eq!(standing(&fleet), "canary: 1 of 10 pods, not healthy yet");
    go_on(&mut fleet, 290);
    assert_eq!(fleet.pods("web"), "v1=9 v2=1");
    go_on(&mut fleet, 60);
    assert_eq!(fleet.pods("web"), "v2=10");
}

#[test]
fn a_revert_in_the_middle_goes_straight_back_and_another_commit_begins_its_own() {
    let mut fleet = running(&web(10, "v1"));
    push(&mut fleet, "second", TENTH, &web(10, "v2"));
    go_on(&mut fleet, 60);
    assert_eq!(fleet.pods("web"), "v1=9 v2=1");
    push(&mut fleet, "revert", TENTH, &web(10, "v1"));
    go_on(&mut fleet, 20);
    assert_eq!((fleet.pods("web"), standing(&fleet)), ("v1=10".into(), "none".into()));

    push(&mut fleet, "third", TENTH, &web(10, "v3"));
    go_on(&mut fleet, 60);
    push(&mut fleet, "fourth", TENTH, &web(10, "v4"));
    go_on(&mut fleet, 60);
    assert_eq!(fleet.pods("web"), "v1=9 v4=1", "what went ahead of it is not held on to");
    go_on(&mut fleet, 400);
    assert_eq!(fleet.pods("web"), "v4=10");
    // Back to what was healthy last: at once.
    push(&mut fleet, "back", TENTH, &web(10, "v1"));
    go_on(&mut fleet, 20);
    assert_eq!(fleet.pods("web"), "v1=10");
    // Nobody asks for it any more, in a commit that leaves the app alone.
    push(&mut fleet, "fifth", TENTH, &web(10, "v5"));
    go_on(&mut fleet, 60);
    assert_eq!(fleet.pods("web"), "v1=9 v5=1");
    push(&mut fleet, "go on", "", &web(10, "v5"));
    go_on(&mut fleet, 20);
    assert_eq!(fleet.pods("web"), "v5=10");
}

#[test]
fn what_is_gone_from_git_stays_as_long_as_what_may_need_it() {
    let config = |name: &str| manifest("v1", "ConfigMap", name, "data: {a: b}");
    let mut fleet = running(&format!("{}{}", config("old"), web(10, "v1")));
    push(&mut fleet, "second", TENTH, &format!("{}{}", config("new"), web(10, "v2")));
    let has = |fleet: &Fleet| {
        let objects = fleet.input.state.apps["web"].objects();
        let names = objects.map(|(key, _)| key.name.to_string());
        names.filter(|name| *name != "web").collect::<Vec<_>>().join(" ")
    };
    go_on(&mut fleet, 100);
    assert_eq!((has(&fleet), fleet.pods("web")), ("new old".into(), "v1=9 v2=1".into()));
    go_on(&mut fleet, 400);
    assert_eq!((has(&fleet), fleet.pods("web")), ("new".into(), "v2=10".into()));
}

#[test]
fn a_workload_that_can_t_be_divided_comes_with_the_rest() {
    let recreate = |image: &str| deployment("job", 3, image, "strategy: {type: Recreate}");
    let both = |image: &str| format!("{}{}", recreate(image), web(10, image));
    let mut fleet = running(&both("v1"));
    push(&mut fleet, "second", TENTH, &both("v2"));
    go_on(&mut fleet, 100);
    assert_eq!((fleet.pods("job"), fleet.pods("web")), ("v1=3".into(), "v1=9 v2=1".into()));
    go_on(&mut fleet, 400);
    assert_eq!((fleet.pods("job"), fleet.pods("web")), ("v2=3".into(), "v2=10".into()));
}

/// How many pods that are to stay run this image, and how many another than `v1`.
fn ahead(fleet: &Fleet, newest: &str) -> (usize, usize) {
    let pods = fleet.bindings("web").into_iter().filter(|pod| pod.deletion.is_none());
    let images: Vec<String> = pods.map(|pod| fleet.image(&pod.template)).collect();
    let new = images.iter().filter(|image| *image == newest).count();
    (new, images.iter().filter(|image| *image != "v1").count())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// While it is held, never more than its share runs the newest template, whatever the pods do and
    /// however often people change their mind; what went ahead for another commit goes within the
    /// surge. At the end all of it is what the last commit says.
    #[test]
    fn never_more_than_its_share_is_new_while_it_is_held(
        kind in 0..3_usize,
        replicas in 1..8_u32,
        percent in 1..99_u32,
        // A commit with this image, and whose pods are well by these numbers in the turns after it.
        changes in prop::collection::vec((2..5_u32, prop::collection::vec(any::<u8>(), 1..20)), 1..5),
    ) {
        let image = |number: u32| format!("v{number}");
        let workload = |image: &str| match kind {
            0 => deployment("web", replicas, image, ""),
            1 => stateful_set("web", replicas, image, ""),
            _ => daemon_set("web", image, "", ""),
        };
        let canary = format!(", canary: {{share: {percent}%, for: 30m}}");
        let mut fleet = running(&workload("v1"));
        let of = if kind == 2 { 3 } else { replicas };
        let share = (percent * of).div_ceil(100) as usize;
        let surge = if kind == 0 { replicas.div_ceil(4) as usize } else { 0 };
        let mut last = 1;
        for (at, (number, fates)) in changes.into_iter().enumerate() {
            last = number;
            push(&mut fleet, &format!("change {at}"), &canary, &workload(&image(number)));
            for fate in fates {
                fleet.turn();
                let (new, all) = ahead(&fleet, &image(number));
                prop_assert!(new <= share, "{new} of {of} are new, {share} may be");
                prop_assert!(all <= share + surge, "{all} of {of} are not v1: {share} + {surge}");
                for node in ["a", "b", "c"] {
                    fleet.work_on(node, |pod, _| match (u64::from(fate) + pod.sequence) % 5 {
                        0 => Mood::Unready,
                        1 => Mood::Silent,
                        _ => Mood::Ready,
                    });
                }
                fleet.pass(1);
            }
        }
        for _ in 0..200 {
            go_on(&mut fleet, 1);
            fleet.pass(20);
        }
        prop_assert!(standing(&fleet) == "none", "{}", standing(&fleet));
        let expected = format!("{}={of}", image(last));
        prop_assert!(fleet.pods("web") == expected, "{} is not {expected}", fleet.pods("web"));
    }
}
