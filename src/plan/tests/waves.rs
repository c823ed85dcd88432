//! Waves: what comes into force when, over what, and what goes last.

use std::collections::BTreeSet;

use proptest::prelude::{ProptestConfig, prop, proptest};

use super::super::in_force;
use super::{Fleet, Mood, deployment};
use crate::kinds::binding::Oid;
use crate::kinds::object::Key;

impl Fleet {
    /// Puts together what is in force of apps that come in waves, as the agent does.
    pub(super) fn put_together(&mut self) {
        let state = &self.input.state;
        for (app, input) in &mut self.input.apps {
            let Some(head) = state.apps.get(app).map(|state| &state.head) else { continue };
            let read = |commit: &Oid| {
                let mut known = self.history.iter();
                known.find(|r| r.terms.spec.name == *app && r.commit.id == *commit).cloned()
            };
            let was_partly = input.applied.as_ref().is_some_and(|own| own.waves.is_some());
            let top = head.applied.as_ref().and_then(|applied| read(&applied.revision));
            if let Some(top) = top.filter(|_| head.waves_now().is_some() || was_partly) {
                input.applied = in_force(head.waves_now(), &top, read);
            }
        }
    }

    fn stage(&self) -> String {
        let waves = self.head().and_then(|head| head.waves_now());
        waves.map_or("whole".to_owned(), ToString::to_string)
    }

    /// What is in force, by the ledger.
    fn objects(&self) -> BTreeSet<Key> {
        let apps = self.input.state.apps.values();
        apps.flat_map(|app| app.objects().map(|(key, _)| key)).collect()
    }
}

/// A Deployment in a wave, under the annotation of Argo CD or under ours.
fn wave(name: &str, wave: i32, image: &str, annotation: &str) -> String {
    let metadata = format!("metadata: {{name: {name}, namespace: shop");
    let annotated = format!("{metadata}, annotations: {{{annotation}: \"{wave}\"}}");
    deployment(name, 1, image, "progressDeadlineSeconds: 60").replacen(&metadata, &annotated, 1)
}

const ARGO: &str = "argocd.argoproj.io/sync-wave";
const OURS: &str = "windlass.dev/wave";

fn three(base: &str, web: &str, front: &str) -> String {
    let base = wave("base", -1, base, ARGO);
    format!("{base}{}{}", deployment("web", 1, web, ""), wave("front", 5, front, OURS))
}

fn pods(fleet: &Fleet) -> String {
    ["base", "web", "front"].map(|name| fleet.pods(name)).join(" | ")
}

/// Stages and pods, after each turn that changed a stage.
fn story(fleet: &mut Fleet) -> Vec<String> {
    let mut told = Vec::new();
    for _ in 0..60 {
        let before = fleet.stage();
        let has_changed = fleet.turn();
        if fleet.stage() != before {
            told.push(format!("{}: {}", fleet.stage(), pods(fleet)));
        }
        let reports = fleet.input.nodes[super::fleet::NODE].pods.clone();
        fleet.work();
        fleet.pass(1);
        if !has_changed && fleet.input.nodes[super::fleet::NODE].pods == reports {
            break;
        }
    }
    told
}

#[test]
fn a_wave_comes_when_the_one_before_is_healthy() {
    let mut fleet = Fleet::new();
    fleet.push(&three("v1", "v1", "v1"));
    assert_eq!(
        story(&mut fleet),
        ["up to wave -1: v1=1 |  | ", "up to wave 0: v1=1 |  | ", "whole: v1=1 | v1=1 | "]
    );
    assert_eq!(pods(&fleet), "v1=1 | v1=1 | v1=1");
    fleet.push(&three("v2", "v2", "v2"));
    assert!(fleet.turn());
    assert_eq!(
        (fleet.stage(), pods(&fleet)),
        ("up to wave -1".into(), "v1=1 v2=1 | v1=1 | v1=1".into())
    );
    let told = story(&mut fleet);
    assert_eq!(
        told,
        ["up to wave 0: v2=1 leaving=1 | v1=1 | v1=1", "whole: v2=1 | v2=1 leaving=1 | v1=1"]
    );
    assert_eq!(pods(&fleet), "v2=1 | v2=1 | v2=1");
    let healthy = fleet.event("RevisionHealthy");
    assert!(healthy.is_some(), "it is healthy when all of it is");
    // Nothing to wait for in the first waves: they are passed by at once.
    fleet.push(&three("v2", "v2", "v3"));
    assert!(fleet.turn());
    assert_eq!((fleet.stage(), pods(&fleet)), ("whole".into(), "v2=1 | v2=1 | v2=1 v3=1".into()));
}

#[test]
fn what_does_not_become_healthy_keeps_the_later_waves_as_they_were() {
    let mut fleet = Fleet::running(&three("v1", "v1", "v1"));
    fleet.push(&three("v2", "bad2", "v2"));
    fleet.settle();
    assert_eq!(fleet.stage(), "up to wave 0");
    assert_eq!(pods(&fleet), "v2=1 | bad2=1 v1=1 | v1=1");
    // A restart of what waits makes its pod from the revision that it is of.
    let before = fleet.uids("front");
    fleet.work_as(|binding, image| match image {
        _ if before.contains(&binding.uid) => Mood::Failed,
        image if image.starts_with("bad") => Mood::Unready,
        _ => Mood::Ready,
    });
    fleet.settle();
    assert_eq!(fleet.pods("front"), "v1=1");
    assert_ne!(fleet.uids("front"), before);
    // Somebody looks at it with a new agent, who reads everything anew.
    for input in fleet.input.apps.values_mut() {
        input.applied = None;
    }
    fleet.turn();
    fleet.put_together();
    fleet.settle();
    assert_eq!(pods(&fleet), "v2=1 | bad2=1 v1=1 | v1=1");
    // The next commit does not wait; it begins with its own first wave.
    fleet.push(&three("v3", "v3", "v3"));
    assert!(fleet.turn());
    assert_eq!(
        (fleet.stage(), pods(&fleet)),
        ("up to wave -1".into(), "v2=1 v3=1 | bad2=1 v1=1 | v1=1".into())
    );
    let told = story(&mut fleet);
    assert_eq!(
        told.last().map(String::as_str),
        Some("whole: v3=1 | v3=1 leaving=1 | v1=1"),
        "{told:?}"
    );
    assert_eq!(pods(&fleet), "v3=1 | v3=1 | v3=1");
}

#[test]
fn a_revert_in_the_middle_brings_back_what_had_come() {
    let mut fleet = Fleet::running(&three("v1", "v1", "v1"));
    let sets = fleet.set_records("base").len();
    fleet.push(&three("bad2", "v2", "v2"));
    fleet.settle();
    assert_eq!(
        (fleet.stage(), pods(&fleet)),
        ("up to wave -1".into(), "bad2=1 v1=1 | v1=1 | v1=1".into())
    );
    fleet.push(&three("v1", "v1", "v1"));
    fleet.settle();
    assert_eq!((fleet.stage(), pods(&fleet)), ("whole".into(), "v1=1 | v1=1 | v1=1".into()));
    assert_eq!(fleet.set_records("base").len(), sets + 1, "the set that was left is back");
}

#[test]
fn what_is_gone_goes_last_and_in_reverse() {
    let mut fleet = Fleet::running(&three("v1", "v1", "v1"));
    let message = "less\n\nWindlass-Allow-Prune: yes";
    fleet.push_as(message, &wave("new", 3, "v1", OURS));
    let mut told = Vec::new();
    for _ in 0..20 {
        let before = (fleet.stage(), pods(&fleet), fleet.pods("new"));
        fleet.turn();
        let now = (fleet.stage(), pods(&fleet), fleet.pods("new"));
        if now != before {
            told.push(format!("{}: {} | {}", now.0, now.1, now.2));
        }
        fleet.work();
        fleet.pass(1);
    }
    assert_eq!(
        told,
        [
            "up to wave 3: v1=1 | v1=1 | v1=1 | v1=1",
            "what is gone from Git goes, down to wave 5: v1=1 | v1=1 | v1=1 | v1=1",
            "what is gone from Git goes, down to wave 5: v1=1 | v1=1 | leaving=1 | v1=1",
            "what is gone from Git goes, down to wave 0: v1=1 | v1=1 |  | v1=1",
            "what is gone from Git goes, down to wave 0: v1=1 | leaving=1 |  | v1=1",
            "whole: v1=1 |  |  | v1=1",
            "whole: leaving=1 |  |  | v1=1",
            "whole:  |  |  | v1=1",
        ]
    );
}

#[test]
fn what_moves_between_apps_does_not_wait_for_its_wave() {
    let apps = "apps: [{name: a, path: a}, {name: b, path: b}]\n";
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
    let web = wave("web", 4, "v1", OURS);
    let (before, after) = (wave("base", 0, "v1", OURS), wave("base", 0, "v2", OURS));
    let mut fleet = Fleet::new();
    let files = |a: String, b: String| {
        [
            ("windlass.yaml", apps.to_owned()),
            ("n.yaml", namespace.to_owned()),
            ("a/a.yaml", a),
            ("b/b.yaml", b),
        ]
    };
    let push = |fleet: &mut Fleet, message: &str, files: &[(&str, String)]| {
        let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, &**text)).collect();
        fleet.push_files(message, &files);
    };
    push(&mut fleet, "first", &files(format!("{before}{web}"), String::new()));
    fleet.settle();
    let uids = fleet.uids("web");
    push(
        &mut fleet,
        "second",
        &files(after.clone(), format!("{}{web}", wave("other", 0, "v1", OURS))),
    );
    fleet.turn();
    assert!(fleet.input.state.apps.values().all(|app| app.head.waves_now().is_none()));
    fleet.settle();
    assert_eq!(fleet.uids("web"), uids, "it goes on as it is");
    assert_eq!(fleet.pods("base"), "v2=1");
}

#[test]
fn an_automatic_return_in_the_middle_takes_everything_back() {
    let apps = "apps: [{name: default, autoRevert: true}]\n";
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
    let mut fleet = Fleet::new();
    let push = |fleet: &mut Fleet, message: &str, text: &str| {
        fleet.push_files(
            message,
            &[("windlass.yaml", apps), ("n.yaml", namespace), ("a.yaml", text)],
        );
    };
    let four = |base: &str, web: &str, front: &str| {
        format!("{}{}", three(base, web, front), wave("late", 2, web, OURS))
    };
    push(&mut fleet, "first", &four("v1", "v1", "v1"));
    fleet.settle();
    push(&mut fleet, "second", &four("v2", "v2", "v2").replace("replicas: 1", "replicas: 2"));
    fleet.turn();
    // The second commit's programs never become ready.
    for _ in 0..300 {
        fleet.work_as(|_, image| if image == "v2" { Mood::Unready } else { Mood::Ready });
        fleet.turn();
        fleet.pass(1);
    }
    fleet.settle();
    assert!(fleet.verdicts().contains("reverted"), "{}", fleet.verdicts());
    assert_eq!((fleet.stage(), pods(&fleet)), ("whole".into(), "v1=1 | v1=1 | v1=1".into()));
    assert_eq!(fleet.pods("late"), "v1=1");
}

/// A push of objects, by wave and image, none where that is 0; and the turns until the next.
type Deed = (Vec<(i32, u8)>, u8);

fn manifests(objects: &[(i32, u8)]) -> String {
    let each = objects.iter().enumerate().filter(|(_, (_, image))| *image > 0);
    each.map(|(number, (number_of_wave, image))| {
        let image = if image % 4 == 3 { format!("bad{image}") } else { format!("v{image}") };
        wave(&format!("w{number}"), *number_of_wave, &image, OURS)
    })
    .collect()
}

/// Whatever is pushed in the middle of whatever: nothing that is in force and stays is ever absent,
/// what the planner takes to be in force is what nodes put together, and in the end what is in force
/// is the last commit and nothing else.
fn tell(deeds: &[Deed]) {
    let mut fleet = Fleet::new();
    let message = "a change\n\nWindlass-Allow-Prune: yes";
    let in_force = |fleet: &mut Fleet| -> BTreeSet<Key> {
        let own = fleet.app().applied.as_ref();
        own.map(|own| own.desired.objects.keys().cloned().collect()).unwrap_or_default()
    };
    let mut before = BTreeSet::new();
    for (objects, rounds) in deeds {
        fleet.push_as(message, &manifests(objects));
        let wanted = fleet.history.last().map(|last| last.desired.clone()).unwrap_or_default();
        let stays = before.into_iter().filter(|key| wanted.objects.contains_key(key));
        let stays: BTreeSet<Key> = stays.collect();
        for _ in 0..*rounds {
            fleet.turn();
            let planned = fleet.objects();
            assert!(planned.is_superset(&stays), "{}", fleet.stage());
            // A stage that was changed in this turn is carried out in the next.
            if !fleet.last.as_ref().is_some_and(|last| last.is_unfinished) {
                assert_eq!(planned, in_force(&mut fleet), "{}", fleet.stage());
            }
            fleet.work();
            fleet.pass(1);
        }
        before = in_force(&mut fleet);
    }
    let last: Vec<(i32, u8)> = vec![(1, 1), (0, 2), (2, 4), (0, 0), (-1, 5)];
    fleet.push_as(message, &manifests(&last));
    fleet.settle();
    assert_eq!(fleet.stage(), "whole");
    let all: Vec<String> = (0..5).map(|number| fleet.pods(&format!("w{number}"))).collect();
    assert_eq!(all, ["v1=1", "v2=1", "v4=1", "", "v5=1"]);
}

/// The second commit put w1 into another wave than the first; the third, which has no w1, is letting
/// go of it by that wave when the fourth comes. Of the second nothing is left by then.
#[test]
fn a_commit_of_which_nothing_is_left_may_still_say_what_goes_when() {
    tell(&[
        (vec![(0, 1), (-1, 1), (0, 0), (-1, 1), (0, 0)], 2),
        (vec![(0, 3), (0, 1), (-1, 1), (0, 0), (0, 0)], 2),
        (vec![(2, 2), (0, 0), (1, 1), (0, 0), (0, 1)], 6),
        (vec![(0, 0); 5], 1),
    ]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    #[test]
    fn waves_always_come_to_their_end(
        deeds in prop::collection::vec((prop::collection::vec((-2..3_i32, 0..6_u8), 5), 0..12_u8), 1..8),
    ) {
        tell(&deeds);
    }
}
