//! Apps, each accepted or refused by itself, and what holds between them.

use super::{Fleet, deployment, manifest};
use crate::kinds::name::Name;
use crate::state::records::AppHead;

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
const APPS: &str = "apps:\n- {name: base, path: base}\n- {name: web, path: web}\n- {name: api, \
                    path: api}\n";

/// A manifest with an error in it.
const WRONG: &str =
    "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: x, namespace: shop}\ndta: {a: b}\n";

impl Fleet {
    /// What became of each app at the newest commit: `base: in force, shop: refused: 1 error in it`.
    pub(super) fn verdicts(&self) -> String {
        let word = |head: &AppHead| match &head.waiting {
            None => "in force".to_owned(),
            Some(waiting) => format!("{}: {}", waiting.verdict.word(), waiting.verdict.why()),
        };
        let apps = self.input.state.apps.iter();
        let words: Vec<String> =
            apps.map(|(app, state)| format!("{app}: {}", word(&state.head))).collect();
        words.join(", ")
    }
}

/// The Namespace in app base, a Deployment each in the apps web and api.
fn files<'f>(web: &'f str, api: &'f str) -> Vec<(&'f str, &'f str)> {
    vec![
        ("windlass.yaml", APPS),
        ("base/namespace.yaml", NAMESPACE),
        ("web/web.yaml", web),
        ("api/api.yaml", api),
    ]
}

fn running(web: &str, api: &str) -> Fleet {
    let mut fleet = Fleet::new();
    fleet.push_files("first", &files(web, api));
    fleet.settle();
    fleet
}

/// The commits in force, by app, as numbers of pushes.
fn subjects(fleet: &Fleet) -> String {
    let apps = fleet.input.state.apps.iter();
    let words: Vec<String> = apps
        .filter_map(|(app, state)| {
            let applied = state.head.applied.as_ref()?;
            Some(format!("{app}={}", applied.subject))
        })
        .collect();
    words.join(" ")
}

#[test]
fn one_teams_typo_does_not_hold_up_another() {
    let (web, api) = (deployment("web", 1, "v1", ""), deployment("api", 1, "v1", ""));
    let mut fleet = running(&web, &api);
    assert_eq!(fleet.verdicts(), "api: in force, base: in force, web: in force");
    let newer = deployment("api", 1, "v2", "");
    fleet.push_files("second", &files(WRONG, &newer));
    fleet.settle();
    assert_eq!(fleet.verdicts(), "api: in force, base: in force, web: refused: 1 error in it");
    assert_eq!(subjects(&fleet), "api=second base=first web=first");
    assert_eq!((fleet.pods("web"), fleet.pods("api")), ("v1=1".into(), "v2=1".into()));
    let event = fleet.event("RevisionRefused").expect("it is announced");
    assert!(event.contains("for app web") && event.contains("web/web.yaml:"), "{event}");
    fleet.push_files("third", &files(&deployment("web", 1, "v2", ""), &newer));
    fleet.settle();
    assert_eq!(subjects(&fleet), "api=second base=first web=third");
    assert_eq!(fleet.verdicts(), "api: in force, base: in force, web: in force");
}

#[test]
fn an_app_whose_files_did_not_change_costs_nothing() {
    let (web, api) = (deployment("web", 1, "v1", ""), deployment("api", 1, "v1", ""));
    let mut fleet = running(&web, &api);
    let before = fleet.input.state.clone();
    fleet.push_files("second", &files(&web, &api));
    assert!(fleet.turn());
    let after = &fleet.input.state;
    assert_eq!(after.apps, before.apps, "neither heads nor records are written");
    assert_eq!(after.pods, before.pods);
    assert_ne!(after.tip, before.tip);
    let paths: Vec<String> = before.edits_to(after).into_iter().map(|edit| edit.path).collect();
    assert_eq!(paths, ["turn.json"]);
}

#[test]
fn an_error_in_windlass_yaml_refuses_the_commit_for_all() {
    let (web, api) = (deployment("web", 1, "v1", ""), deployment("api", 1, "v1", ""));
    let mut fleet = running(&web, &api);
    let newer = deployment("api", 1, "v2", "");
    let mut wrong = files(&web, &newer);
    wrong[0].1 = "apps: [{name: web}]\n";
    fleet.push_files("second", &wrong);
    fleet.settle();
    assert_eq!(subjects(&fleet), "api=first base=first web=first");
    let verdicts = fleet.verdicts();
    assert_eq!(verdicts.matches("refused").count(), 3, "{verdicts}");
    let told = "api: refused: 1 error in it, base: refused: windlass.yaml or another file";
    assert!(verdicts.starts_with(told), "{verdicts}");
    fleet.push_files("third", &files(&web, &newer));
    fleet.settle();
    assert_eq!(fleet.verdicts(), "api: in force, base: in force, web: in force");
    assert_eq!(fleet.pods("api"), "v2=1");
}

/// Each line: what is pushed on top of what runs, and what becomes of each app.
#[test]
fn what_apps_need_of_each_other_is_in_force_or_comes_with_it() {
    let (web, api) = (deployment("web", 1, "v1", ""), deployment("api", 1, "v1", ""));
    let other = "apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n";
    let both = format!("{NAMESPACE}---\n{other}");
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: other}\n";
    let wrong = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, lables: {}}\n";
    type Changes<'c> = Vec<(&'c str, &'c str)>;
    let table: [(&str, Changes<'_>, &str); 5] = [
        (
            "a Namespace that comes with it",
            vec![("base/namespace.yaml", &both), ("web/c.yaml", config)],
            "api: in force, base: in force, web: in force",
        ),
        (
            "a Namespace that nobody has",
            vec![("web/c.yaml", config)],
            "api: in force, base: in force, web: refused: 1 error in it",
        ),
        (
            "a Namespace that does not come: its app is refused",
            vec![("base/namespace.yaml", &both), ("base/x.yaml", WRONG), ("web/c.yaml", config)],
            "api: in force, base: refused: 1 error in it, web: refused: 1 error in it",
        ),
        (
            "a Namespace in force, though its app is refused",
            vec![("base/namespace.yaml", wrong), ("web/c.yaml", "")],
            "api: in force, base: refused: 1 error in it, web: in force",
        ),
        (
            "a Namespace that others still need",
            vec![("base/namespace.yaml", other), ("web/x.yaml", WRONG), ("api/api.yaml", "")],
            "api: in force, base: waiting: it takes away Namespace shop, which app web in force \
             needs, web: refused: 1 error in it",
        ),
    ];
    for (what, changes, expected) in table {
        let mut fleet = running(&web, &api);
        let mut after = files(&web, &api);
        for (path, text) in changes {
            after.retain(|(known, _)| *known != path);
            after.push((path, text));
        }
        fleet.push_files("second\n\nWindlass-Allow-Prune: yes", &after);
        fleet.settle();
        assert_eq!(fleet.verdicts(), expected, "{what}");
    }
}

#[test]
fn an_object_in_two_apps_refuses_the_one_that_is_listed_later() {
    let (web, api) = (deployment("web", 1, "v1", ""), deployment("api", 1, "v1", ""));
    let mut fleet = running(&web, &api);
    fleet.push_files("second", &files(&web, &deployment("web", 1, "v2", "")));
    fleet.settle();
    assert_eq!(fleet.verdicts(), "api: refused: 1 error in it, base: in force, web: in force");
    let head = &fleet.input.state.apps["api"].head;
    let finding = head.waiting.as_ref().expect("it waits").findings[0].to_string();
    assert!(finding.contains("is written already at web/web.yaml:2:1 (app web)"), "{finding}");
    assert!(finding.starts_with("api/api.yaml:"), "{finding}");
}

#[test]
fn a_file_that_moves_to_another_app_takes_its_pods_along() {
    let (web, api) = (deployment("web", 2, "v1", ""), deployment("api", 1, "v1", ""));
    let mut fleet = running(&web, &api);
    let before = (fleet.uids("web"), fleet.uids("api"), fleet.record_of("web", "web"));
    let moved = format!("{web}{api}");
    let mut after = files("", &moved);
    after.retain(|(path, _)| *path != "web/web.yaml");
    fleet.push_files("second", &after);
    fleet.settle();
    assert_eq!(fleet.verdicts(), "api: in force, base: in force, web: in force");
    let now = (fleet.uids("web"), fleet.uids("api"), fleet.record_of("api", "web"));
    assert_eq!(now, before, "the same pods, the same object, the same ReplicaSet");
    assert!(fleet.bindings("web").iter().all(|pod| pod.template.app == *"api"));
    // And back into no app at all: the app that had it is gone as well.
    let all = format!("{NAMESPACE}{moved}");
    fleet.push_files("third", &[("all.yaml", &all)]);
    fleet.settle();
    assert_eq!(fleet.verdicts(), "default: in force", "apps with nothing left are forgotten");
    let now = (fleet.uids("web"), fleet.uids("api"), fleet.record_of("default", "web"));
    assert_eq!(now, before);
}

#[test]
fn nothing_is_lost_on_its_way_from_one_app_to_another() {
    let (web, api) = (deployment("web", 1, "v1", ""), deployment("api", 1, "v1", ""));
    let mut fleet = running(&web, &api);
    let before = fleet.uids("web");
    // The taker is refused: the giver keeps what it would have given.
    let moved = format!("{web}{WRONG}");
    let after = files("", &moved);
    fleet.push_files("second", &after);
    fleet.settle();
    let verdicts = fleet.verdicts();
    assert!(verdicts.contains("web: waiting: Deployment shop/web moves to app api"), "{verdicts}");
    assert_eq!(fleet.uids("web"), before);
    // The giver is refused: the taker does not have it twice.
    let mut fleet = running(&web, &api);
    let moved = format!("{web}{api}");
    fleet.push_files("second", &files(WRONG, &moved));
    fleet.settle();
    let verdicts = fleet.verdicts();
    assert!(verdicts.contains("api: waiting: Deployment shop/web (api/api.yaml:"), "{verdicts}");
    assert!(verdicts.contains("is still app web's"), "{verdicts}");
    assert_eq!(fleet.uids("web"), before);
}

#[test]
fn an_app_that_is_gone_is_pruned_with_a_word() {
    let (web, api) = (deployment("web", 1, "v1", ""), deployment("api", 1, "v1", ""));
    let mut fleet = running(&web, &api);
    let apps = "apps:\n- {name: base, path: base}\n- {name: api, path: api}\n";
    let fewer = [
        ("windlass.yaml", apps),
        ("base/namespace.yaml", NAMESPACE),
        ("api/api.yaml", api.as_str()),
    ];
    fleet.push_files("second", &fewer);
    fleet.settle();
    let verdicts = fleet.verdicts();
    assert!(
        verdicts.contains("web: held: windlass.yaml has no app web any more, which would delete"),
        "{verdicts}"
    );
    assert_eq!(fleet.pods("web"), "v1=1");
    fleet.push_files("third\n\nWindlass-Allow-Prune: yes", &fewer);
    fleet.settle();
    assert_eq!(fleet.verdicts(), "api: in force, base: in force");
    assert_eq!((fleet.pods("web"), fleet.pods("api")), (String::new(), "v1=1".into()));
}

/// Each line: what the app says of pruning, and what becomes of a commit that deletes one object.
#[test]
fn guards_against_pruning_stand_before_each_app() {
    let config = |count: u32| -> String {
        let one = |n: u32| {
            format!(
                "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: c{n}, namespace: shop}}\n"
            )
        };
        (0..count).map(one).collect()
    };
    let table = [
        (", prune: true", 29, "web: in force"),
        (", prune: false", 29, "web: held: it would delete ConfigMap shop/c29, and the app says"),
        ("", 10, "web: held: it would delete 20 of 30 objects"),
    ];
    for (terms, left, expected) in table {
        let apps = format!("apps: [{{name: web, path: web{terms}}}]\n");
        let many = config(30);
        let mut fleet = Fleet::new();
        fleet.push_files(
            "first",
            &[("windlass.yaml", &apps), ("n.yaml", NAMESPACE), ("web/c.yaml", &many)],
        );
        fleet.settle();
        let fewer = config(left);
        fleet.push_files(
            "second",
            &[("windlass.yaml", &apps), ("n.yaml", NAMESPACE), ("web/c.yaml", &fewer)],
        );
        fleet.settle();
        assert!(fleet.verdicts().contains(expected), "{terms}: {}", fleet.verdicts());
        assert!(fleet.verdicts().contains("default: in force"), "{}", fleet.verdicts());
    }
}

#[test]
fn a_trailer_meant_for_one_app_does_not_let_another_prune_later() {
    let (web, api) = (deployment("web", 1, "v1", ""), deployment("api", 1, "v1", ""));
    let mut fleet = running(&web, &api);
    let newer = deployment("api", 1, "v2", "");
    fleet.push_files("second\n\nWindlass-Allow-Prune: yes", &files(&web, &newer));
    fleet.settle();
    fleet.push_files("third", &files("", &newer));
    fleet.settle();
    let verdicts = fleet.verdicts();
    assert!(verdicts.contains("web: held: it holds no object"), "{verdicts}");
}

#[test]
fn a_suspended_app_stays_as_it_is_and_is_kept_up() {
    let (web, api) = (deployment("web", 2, "v1", ""), deployment("api", 1, "v1", ""));
    let mut fleet = running(&web, &api);
    let apps = "apps:\n- {name: base, path: base}\n- {name: web, path: web, suspend: true}\n- \
                {name: api, path: api}\n";
    let newer = deployment("web", 2, "v2", "");
    let mut after = files(&newer, &api);
    after[0].1 = apps;
    fleet.push_files("second", &after);
    fleet.settle();
    let verdicts = fleet.verdicts();
    assert!(verdicts.contains("web: waiting: it is suspended (windlass.yaml:3:3)"), "{verdicts}");
    assert_eq!(fleet.pods("web"), "v1=2");
    after[0].1 = APPS;
    fleet.push_files("third", &after);
    fleet.settle();
    assert_eq!(fleet.pods("web"), "v2=2");
    assert!(!fleet.input.state.apps.contains_key(&Name::trusted("default")), "it has nothing");
}

/// Apps with terms: api depends on web.
fn with_terms<'f>(apps: &'f str, web: &'f str, api: &'f str) -> Vec<(&'f str, &'f str)> {
    let mut files = files(web, api);
    files[0].1 = apps;
    files
}

const ORDERED: &str = "apps:\n- {name: base, path: base}\n- {name: web, path: web}\n- {name: api, \
                       path: api, dependsOn: [web]}\n";

#[test]
fn an_app_waits_until_what_it_depends_on_is_healthy() {
    let (web, api) = (deployment("web", 1, "v1", ""), deployment("api", 1, "v1", ""));
    let mut fleet = Fleet::new();
    fleet.push_files("first", &with_terms(ORDERED, &web, &api));
    assert!(fleet.turn());
    let verdicts = fleet.verdicts();
    assert!(
        verdicts.starts_with("api: waiting: it waits until app web is healthy at this commit"),
        "{verdicts}"
    );
    assert_eq!((fleet.pods("web"), fleet.pods("api")), ("v1=1".into(), String::new()));
    fleet.settle();
    assert_eq!(fleet.verdicts(), "api: in force, base: in force, web: in force");
    // What does not become healthy keeps what depends on it as it was, and what does not depend on
    // it goes on.
    let (worse, newer) = (deployment("web", 1, "bad2", ""), deployment("api", 1, "v2", ""));
    fleet.push_files("second", &with_terms(ORDERED, &worse, &newer));
    fleet.settle();
    let verdicts = fleet.verdicts();
    assert!(verdicts.starts_with("api: waiting: it waits until app web is healthy"), "{verdicts}");
    assert_eq!(fleet.pods("api"), "v1=1");
    // The next commit does not wait for the one before.
    let better = deployment("web", 1, "v3", "");
    fleet.push_files("third", &with_terms(ORDERED, &better, &newer));
    fleet.settle();
    assert_eq!((fleet.pods("web"), fleet.pods("api")), ("v3=1".into(), "v2=1".into()));
    // One that is refused is not in force at this commit.
    let newest = deployment("api", 1, "v4", "");
    fleet.push_files("fourth", &with_terms(ORDERED, WRONG, &newest));
    fleet.settle();
    let verdicts = fleet.verdicts();
    assert!(
        verdicts.starts_with("api: waiting: it depends on app web, which is not"),
        "{verdicts}"
    );
}

#[test]
fn what_moves_between_apps_that_depend_on_each_other_moves_at_once() {
    let (web, api) = (deployment("web", 1, "v1", ""), deployment("api", 1, "v1", ""));
    let mut fleet = Fleet::new();
    fleet.push_files("first", &with_terms(ORDERED, &web, &api));
    fleet.settle();
    let before = fleet.uids("web");
    let (other, moved) = (deployment("other", 1, "bad1", ""), format!("{web}{api}"));
    fleet.push_files("second", &with_terms(ORDERED, &other, &moved));
    fleet.settle();
    assert_eq!(fleet.verdicts(), "api: in force, base: in force, web: in force");
    assert_eq!(fleet.uids("web"), before);
}

const RETURNS: &str = "apps:\n- {name: base, path: base}\n- {name: web, path: web, autoRevert: \
                       true}\n- {name: api, path: api, wait: {timeout: 2m}, autoRevert: true}\n";

/// Each line: a claim in an app, and whether the app is healthy with it.
#[test]
fn a_claim_that_waits_for_a_pod_is_waited_for_only_if_there_is_one() {
    let claim = |class: &str| {
        let asks = "accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}";
        manifest(
            "v1",
            "PersistentVolumeClaim",
            "data",
            &format!("spec: {{storageClassName: {class}, {asks}}}"),
        )
    };
    let pod = "---\napiVersion: v1\nkind: Pod\nmetadata: {name: web, namespace: shop}\nspec: {nodeName: \
               absent, containers: [{name: main, image: v1}], volumes: [{name: data, \
               persistentVolumeClaim: {claimName: data}}]}\n";
    let table = [
        ("nobody uses it", claim("local-path"), true),
        ("a pod waits for it", format!("{}{pod}", claim("local-path")), false),
        ("no volume will ever do", claim("manual"), false),
    ];
    for (what, manifests, expected) in table {
        let mut fleet = Fleet::new();
        fleet.push(&manifests);
        for _ in 0..5 {
            fleet.turn();
        }
        assert_eq!(healthy(&fleet, "default"), expected, "{what}");
    }
}

fn healthy(fleet: &Fleet, app: &str) -> bool {
    let head = &fleet.input.state.apps[app].head;
    head.applied.as_ref().is_some_and(|applied| applied.healthy.is_some())
}

#[test]
fn a_roll_out_that_misses_its_deadline_goes_back_and_is_not_tried_again() {
    let deadline = "progressDeadlineSeconds: 60";
    for app in ["web", "api"] {
        let (web, api) = (deployment("web", 2, "v1", deadline), deployment("api", 2, "v1", ""));
        let mut fleet = Fleet::new();
        fleet.push_files("first", &with_terms(RETURNS, &web, &api));
        fleet.settle();
        assert!(healthy(&fleet, app));
        let sets = fleet.record_of(app, app);
        let replace = |image: &str| match app {
            "web" => (deployment("web", 2, image, deadline), api.clone()),
            _ => (web.clone(), deployment("api", 2, image, "")),
        };
        let began = fleet.now.elapsed;
        let (worse_web, worse_api) = replace("bad2");
        fleet.push_files("second", &with_terms(RETURNS, &worse_web, &worse_api));
        fleet.settle();
        let took = fleet.now.elapsed.since(began).as_secs();
        assert!((60..=200).contains(&took), "{app}: {took} s");
        assert_eq!(fleet.pods(app), "v1=2", "{app}");
        assert_eq!(fleet.record_of(app, app).map(|r| r.0), sets.map(|r| r.0), "the same object");
        let verdicts = fleet.verdicts();
        assert!(verdicts.contains(&format!("{app}: reverted: ")), "{verdicts}");
        assert!(fleet.event("RevisionReverted").is_some());
        assert!(healthy(&fleet, app), "{app}: what it went back to is healthy again");
        // The same files again, with another commit that has nothing to do with them.
        let mut again = with_terms(RETURNS, &worse_web, &worse_api);
        again.push(("other.yaml", "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: o}\n"));
        fleet.push_files("third", &again);
        fleet.settle();
        assert_eq!(fleet.pods(app), "v1=2", "{app}: it is not tried again");
        assert!(!fleet.verdicts().contains("default: reverted"));
        // The next push is.
        let (better_web, better_api) = replace("v3");
        fleet.push_files("fourth", &with_terms(RETURNS, &better_web, &better_api));
        fleet.settle();
        assert_eq!(fleet.pods(app), "v3=2", "{app}");
        assert!(fleet.verdicts().contains(&format!("{app}: in force")), "{}", fleet.verdicts());
    }
}

#[test]
fn without_anything_to_go_back_to_a_revision_stays_and_may_still_become_healthy() {
    let web = deployment("web", 1, "bad1", "progressDeadlineSeconds: 60");
    let api = deployment("api", 1, "v1", "");
    let mut fleet = Fleet::new();
    fleet.push_files("first", &with_terms(RETURNS, &web, &api));
    fleet.settle();
    let failed = |fleet: &Fleet| fleet.input.state.apps["web"].head.failed_now().is_some();
    assert!(failed(&fleet));
    assert_eq!(fleet.pods("web"), "bad1=1");
    fleet.work_as(|_, _| super::Mood::Ready);
    fleet.turn();
    assert!(healthy(&fleet, "web") && !failed(&fleet));
}

#[test]
fn a_revision_that_took_over_objects_is_not_taken_back() {
    let deadline = "progressDeadlineSeconds: 60";
    let (web, api) = (deployment("web", 1, "v1", deadline), deployment("api", 1, "v1", ""));
    let mut fleet = Fleet::new();
    fleet.push_files("first", &with_terms(RETURNS, &web, &api));
    fleet.settle();
    let before = fleet.uids("api");
    let moved = format!("{}{api}", deployment("web", 1, "bad2", deadline));
    fleet.push_files("second", &with_terms(RETURNS, &moved, ""));
    fleet.settle();
    assert_eq!(fleet.uids("api"), before, "what moved is still there");
    assert!(fleet.input.state.apps["web"].head.failed_now().is_some());
}

#[test]
fn a_person_suspends_an_app_and_lets_it_go_on() {
    use crate::kinds::name::Uid;
    use crate::state::{PersonRequest, RequestKind};
    let (web, api) = (deployment("web", 1, "v1", ""), deployment("api", 1, "v1", ""));
    let mut fleet = running(&web, &api);
    let ask = |fleet: &mut Fleet, id: &str, what: RequestKind| {
        let (id, by, at) = (Uid::trusted(id), "ada".to_owned(), fleet.now.wall);
        let unknown = std::collections::BTreeMap::new();
        let request = PersonRequest { id, what, by, at, unknown };
        let node = fleet.input.nodes.get_mut(super::fleet::NODE).expect("the node");
        node.requests = std::sync::Arc::new(vec![request]);
        fleet.turn();
    };
    ask(&mut fleet, "1", RequestKind::Suspend { app: Name::trusted("web") });
    fleet.push_files("second", &files(&deployment("web", 1, "v2", ""), &api));
    fleet.settle();
    let verdicts = fleet.verdicts();
    assert!(
        verdicts.contains("web: waiting: ada suspended it; `windlass app resume"),
        "{verdicts}"
    );
    assert_eq!(fleet.pods("web"), "v1=1");
    ask(&mut fleet, "2", RequestKind::Resume { app: Name::trusted("web") });
    fleet.settle();
    assert_eq!(fleet.pods("web"), "v2=1");
}
