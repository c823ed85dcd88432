//! The three doors before a commit, and each guard of DESIGN, Hard cases 8.

use super::{Fleet, deployment};
use crate::kinds::binding::Oid;
use crate::ports::source::Relation;
use crate::state::records::Verdict;

const CLAIM: &str = "---\napiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {name: data, \
                     namespace: shop}\nspec: {accessModes: [ReadWriteOnce], resources: {requests: \
                     {storage: 1Gi}}}\n";

/// A pod that uses it, so that it is bound.
const USER: &str = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: user, namespace: shop}\nspec: \
                    {containers: [{name: main, image: v1}], volumes: [{name: data, \
                    persistentVolumeClaim: {claimName: data}}]}\n";

/// So many ConfigMaps.
fn configs(count: u32) -> String {
    (0..count)
        .map(|n| {
            format!(
                "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c{n}, namespace: shop}}\n"
            )
        })
        .collect()
}

/// What became of the newest commit: `in force`, `refused: …`, `held: …`.
fn verdict(fleet: &Fleet) -> String {
    match fleet.head().and_then(|head| head.waiting.as_ref()) {
        None => "in force".into(),
        Some(waiting) => match &waiting.verdict {
            Verdict::Refused(why) => format!("refused: {why}"),
            Verdict::Held(why) => format!("held: {why}"),
        },
    }
}

#[test]
fn a_refused_commit_changes_nothing() {
    let mut fleet = Fleet::running(&deployment("web", 2, "v1", ""));
    let (applied, pods) = (fleet.applied(), fleet.uids("web"));
    let wrong = deployment("web", 5, "v2", "").replace("replicas", "replicsa");
    fleet.push(&format!("{wrong}{}", deployment("api", 1, "v1", "")));
    fleet.settle();
    assert_eq!(verdict(&fleet), "refused: 1 error in it");
    assert_eq!((fleet.applied(), fleet.uids("web")), (applied, pods));
    assert_eq!(fleet.pods("api"), "", "nor does what is right in it come into force");
    let waiting = fleet.head().and_then(|head| head.waiting.clone()).expect("it waits");
    assert_eq!(waiting.finding_count, 1);
    let finding = waiting.findings[0].to_string();
    assert!(finding.starts_with("all.yaml:") && finding.contains("replicsa"), "{finding}");
    let event = fleet.event("RevisionRefused").expect("it is announced");
    assert!(event.contains("all.yaml:"), "{event}");
}

#[test]
fn what_was_refused_is_forgotten_when_it_is_mended() {
    let mut fleet = Fleet::running(&deployment("web", 1, "v1", ""));
    fleet.push("---\nkind: Pod\n");
    fleet.settle();
    assert!(verdict(&fleet).starts_with("refused"));
    fleet.push(&deployment("web", 2, "v1", ""));
    fleet.settle();
    assert_eq!((verdict(&fleet), fleet.pods("web")), ("in force".into(), "v1=2".into()));
}

/// Each line: how the branch moved, what becomes of it, and what becomes of it where rewritten
/// history is followed.
#[test]
fn history_must_follow_from_what_is_in_force() {
    let table = [
        (Relation::Descends, "in force", "in force"),
        (Relation::Precedes, "refused: the branch was set back", "in force"),
        (Relation::Diverged, "refused: the branch was rewritten", "in force"),
        (Relation::Unrelated, "refused: the branch shares no history", "in force"),
    ];
    for (relation, strict, following) in table {
        for (follows, expected) in [(false, strict), (true, following)] {
            let mut fleet = Fleet::running(&deployment("web", 1, "v1", ""));
            std::sync::Arc::make_mut(&mut fleet.input.settings).follows_rewrites = follows;
            let text = format!(
                "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n{}",
                deployment("web", 2, "v1", "")
            );
            let revision = fleet.revision("moved", Some("another"), &[("all.yaml", &text)]);
            fleet.offer(super::super::Revision { relation, ..revision });
            fleet.settle();
            let verdict = verdict(&fleet);
            assert!(verdict.starts_with(expected), "{relation:?}, {follows}: {verdict}");
        }
    }
}

/// Each line: what the next commit holds, and what is said of it.
#[test]
fn a_commit_that_deletes_much_is_held() {
    let with =
        |text: &str| format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n{text}");
    let first = format!("{}{CLAIM}{USER}", configs(29));
    let table: &[(&str, Option<String>, &str)] = &[
        (
            "nothing at all",
            Some(String::new()),
            "held: it holds no object, which would delete all 32",
        ),
        ("no directory", None, "held: the directory is missing, which would delete all 32 objects"),
        (
            "a claim less",
            Some(with(&format!("{}{USER}", configs(29)))),
            "held: it would delete PersistentVolumeClaim shop/data, which has data",
        ),
        (
            "a namespace less",
            Some("apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n".into()),
            "held: it would delete Namespace shop and everything in it",
        ),
        ("16 of 32", Some(with(&format!("{}{CLAIM}{USER}", configs(13)))), "in force"),
        (
            "17 of 32",
            Some(with(&format!("{}{CLAIM}{USER}", configs(12)))),
            "held: it would delete 17 of 32",
        ),
    ];
    for (what, next, expected) in table {
        let mut fleet = Fleet::running(&first);
        let before = fleet.input.state.apps.clone();
        let text = next.clone().unwrap_or_default();
        let tree = next.as_ref().map(|_| "another tree");
        let files: &[(&str, &str)] = if next.is_some() { &[("all.yaml", &text)] } else { &[] };
        let revision = fleet.revision("clean up", tree, files);
        fleet.offer(revision);
        fleet.settle();
        let verdict = verdict(&fleet);
        assert!(verdict.starts_with(expected), "{what}: {verdict}");
        if expected.starts_with("held") {
            assert!(verdict.ends_with("trailer `Windlass-Allow-Prune: yes`"), "{verdict}");
            let ledgers = |apps: &std::collections::BTreeMap<_, crate::state::AppState>| {
                apps.values().map(|app| app.ledger.clone()).collect::<Vec<_>>()
            };
            assert_eq!(
                ledgers(&fleet.input.state.apps),
                ledgers(&before),
                "{what}: nothing applies"
            );
        }
    }
}

#[test]
fn few_objects_may_go_without_a_word() {
    let mut fleet = Fleet::running(&configs(11));
    fleet.push(&configs(1));
    fleet.settle();
    assert_eq!(verdict(&fleet), "in force", "ten of twelve: a small repository may change");
}

#[test]
fn moving_to_another_branch_is_looked_at_twice() {
    for (next, expected) in [(2, "held: the branch or directory was changed"), (3, "in force")] {
        let mut fleet = Fleet::running(&configs(3));
        let text =
            format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n{}", configs(next));
        let revision = fleet.revision("elsewhere", Some("t"), &[("all.yaml", &text)]);
        fleet.offer(super::super::Revision { origin: "other".into(), ..revision });
        fleet.settle();
        let verdict = verdict(&fleet);
        assert!(verdict.starts_with(expected), "{next}: {verdict}");
    }
}

#[test]
fn renaming_a_file_deletes_nothing() {
    let text = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n{}",
        deployment("web", 2, "v1", "")
    );
    let mut fleet = Fleet::new();
    let revision = fleet.revision("first", Some("one"), &[("web.yaml", &text)]);
    fleet.offer(revision);
    fleet.settle();
    let before = fleet.uids("web");
    let revision = fleet.revision("moved", Some("two"), &[("shop/web.yaml", &text)]);
    fleet.offer(revision);
    fleet.settle();
    assert_eq!((verdict(&fleet), fleet.uids("web")), ("in force".into(), before));
}

#[test]
fn the_trailer_is_sought_on_every_commit_between() {
    let first = format!("{}{CLAIM}", configs(30));
    let messages = [
        ("drop it\n\nWindlass-Allow-Prune: yes", "a later commit", "in force"),
        ("drop it\n\nwindlass-allow-prune: YES", "a later commit", "in force"),
        ("drop it", "and mean it\n\nWindlass-Allow-Prune: yes", "in force"),
        ("drop it\n\nWindlass-Allow-Prune: no", "a later commit", "held"),
        ("drop it", "Windlass-Allow-Prune: yes is what I should have said", "held"),
    ];
    for (one, two, expected) in messages {
        let mut fleet = Fleet::running(&first);
        // Two commits in one look: the first is never seen by itself.
        fleet.push_as(one, &configs(1));
        fleet.push_as(two, &configs(2));
        fleet.settle();
        let verdict = verdict(&fleet);
        assert!(verdict.starts_with(expected), "{one:?}, {two:?}: {verdict}");
    }
}

#[test]
fn an_old_trailer_does_not_allow_what_comes_later() {
    let mut fleet = Fleet::running(&configs(30));
    fleet.push_as("fewer\n\nWindlass-Allow-Prune: yes", &configs(25));
    fleet.settle();
    assert_eq!(verdict(&fleet), "in force");
    fleet.push(&configs(1));
    fleet.settle();
    assert!(verdict(&fleet).starts_with("held"), "{}", verdict(&fleet));
}

#[test]
fn a_revert_always_passes() {
    let mut fleet = Fleet::running(&configs(2));
    fleet.push(&format!("{}{CLAIM}", configs(40)));
    fleet.settle();
    fleet.push(&configs(2));
    fleet.settle();
    assert_eq!(verdict(&fleet), "in force", "39 of 43 objects and a claim go: it was so before");
    let trees = &fleet.head().expect("a head").trees;
    assert_eq!(trees.len(), 2, "{trees:?}");
}

#[test]
fn a_revert_of_what_was_held_passes() {
    let first = configs(30);
    let mut fleet = Fleet::running(&first);
    fleet.push(&configs(1));
    fleet.settle();
    assert!(verdict(&fleet).starts_with("held"));
    fleet.push(&first);
    fleet.settle();
    assert_eq!(verdict(&fleet), "in force");
}

#[test]
fn the_same_verdict_is_said_once() {
    let mut fleet = Fleet::running(&configs(30));
    fleet.push(&configs(1));
    assert!(fleet.turn());
    assert!(!fleet.pass(60).turn(), "nothing new is written for it");
    let since = fleet.head().and_then(|h| h.waiting.as_ref()).expect("it waits").since;
    assert_eq!(fleet.now.wall.since(since).as_secs(), 60);
}

#[test]
fn a_commit_compared_with_another_than_the_one_in_force_is_looked_at_again() {
    let mut fleet = Fleet::running(&deployment("web", 1, "v1", ""));
    let text = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
    let revision = fleet.revision("late", Some("t"), &[("all.yaml", text)]);
    let since = Some(Oid::new("an-earlier-one"));
    fleet.offer(super::super::Revision { since, ..revision });
    assert!(!fleet.turn());
    assert_eq!(fleet.pods("web"), "v1=1");
}
