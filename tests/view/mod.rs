//! What is shown, held against files: run with `UPDATE=1` to write them anew, and read the difference.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use windlass::kinds::name::Name;
use windlass::kinds::object::Key;
use windlass::kinds::registry::{KINDS, Kind};
use windlass::view::cache::Cache;
use windlass::view::objects::Since;
use windlass::view::picture::Picture;
use windlass::view::table::print::{Options, Printer};
use windlass::view::{describe, objects, status, table, why};

use crate::support::fleet;

/// Holds `text` against `tests/view/expected/<name>.txt`.
pub(crate) fn expect(name: &str, text: &str) {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/view/expected");
    let path = dir.join(format!("{name}.txt"));
    if std::env::var("UPDATE").is_ok_and(|value| value == "1") {
        std::fs::write(&path, text).expect("writes what is expected");
        return;
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    if want != text {
        let differs = want
            .lines()
            .zip(text.lines())
            .position(|(one, other)| one != other)
            .map_or_else(|| "at its end".to_owned(), |at| format!("from line {}", at + 1));
        panic!(
            "{} differs {differs}; if that is meant, run with UPDATE=1\n--- now ---\n{text}",
            path.display()
        );
    }
}

fn key(kind: Kind, namespace: Option<&str>, name: &str) -> Key {
    Key { kind, namespace: namespace.map(Name::trusted), name: Name::trusted(name) }
}

/// The name of the first object of a kind whose name begins so.
fn named(picture: &Picture, kind: Kind, prefix: &str) -> Key {
    let shown = objects::list(picture, kind);
    let found = shown.into_iter().find(|shown| shown.key.name.as_str().starts_with(prefix));
    found.unwrap_or_else(|| panic!("no {kind} {prefix}")).key
}

fn print(picture: &Picture, kind: Kind, options: Options) -> String {
    let rows: Vec<Value> = objects::list(picture, kind)
        .iter()
        .map(|shown| {
            let cells = table::cells(kind, &shown.json, picture.now.wall);
            json!({"cells": cells, "object": {"metadata": shown.json["metadata"]}})
        })
        .collect();
    let columns: Vec<Value> = table::columns(kind).iter().map(table::column_json).collect();
    Printer::new(options).print(&json!({"columnDefinitions": columns, "rows": rows}))
}

fn settled() -> Arc<Picture> {
    let mut world = fleet::world();
    fleet::run(&mut world, 100);
    fleet::picture(&world)
}

#[test]
fn tables_of_every_kind() {
    let picture = settled();
    let mut text = String::new();
    for info in KINDS {
        let options = Options { with_namespace: info.namespaced, ..Options::default() };
        let table = print(&picture, info.kind, options.clone());
        let wide = print(&picture, info.kind, Options { wide: true, ..options });
        let _ = writeln!(text, "== {}\n{table}", info.plural);
        if wide != table {
            let _ = writeln!(text, "-- wide\n{wide}");
        }
    }
    expect("tables", &text);
}

#[test]
fn every_cell_has_its_column() {
    let picture = settled();
    for info in KINDS {
        let empty = json!({"metadata": {"name": "x"}});
        let shown = objects::list(&picture, info.kind);
        for object in shown.iter().map(|shown| &shown.json).chain([&empty]) {
            let cells = table::cells(info.kind, object, picture.now.wall);
            assert_eq!(cells.len(), table::columns(info.kind).len(), "{}", info.name);
        }
    }
}

#[test]
fn descriptions() {
    let picture = settled();
    let keys = [
        named(&picture, Kind::Pod, "web-"),
        named(&picture, Kind::Pod, "back-"),
        named(&picture, Kind::Pod, "big"),
        key(Kind::Deployment, Some("shop"), "web"),
        named(&picture, Kind::ReplicaSet, "web-"),
        key(Kind::ReplicationController, Some("shop"), "old"),
        key(Kind::StatefulSet, Some("shop"), "store"),
        key(Kind::DaemonSet, Some("shop"), "log"),
        named(&picture, Kind::ControllerRevision, "store-"),
        key(Kind::Job, Some("shop"), "pack"),
        key(Kind::CronJob, Some("shop"), "tick"),
        named(&picture, Kind::Job, "tick-"),
        key(Kind::Service, Some("shop"), "web"),
        key(Kind::Service, Some("shop"), "back"),
        key(Kind::Node, None, "n0"),
        key(Kind::ConfigMap, Some("shop"), "web-settings"),
        key(Kind::Secret, Some("shop"), "web-keys"),
        key(Kind::Namespace, None, "shop"),
        key(Kind::PodDisruptionBudget, Some("shop"), "web"),
        key(Kind::Ingress, Some("shop"), "front"),
    ];
    let mut text = String::new();
    for key in keys {
        let page = describe::describe(&picture, &key).expect("is there");
        let _ = writeln!(text, "== {key}\n{page}");
    }
    expect("describe", &text);
}

#[test]
fn reasons() {
    let mut world = fleet::world();
    fleet::run(&mut world, 100);
    let mut files = fleet::shop();
    files.insert(
        "shop/new.yaml".into(),
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: new, namespace: shop}\ndata: {a: 1}\n"
            .into(),
    );
    fleet::edit_web(&mut files, "replicas: 3", "replicas: 5");
    world.remote.commit("web: five", files);
    fleet::run(&mut world, 130);
    let picture = fleet::picture(&world);
    let mut text = String::new();
    let keys = [
        named(&picture, Kind::Pod, "web-"),
        named(&picture, Kind::Pod, "back-"),
        named(&picture, Kind::Pod, "big"),
        named(&picture, Kind::Pod, "pulls"),
        named(&picture, Kind::Pod, "lacks"),
        key(Kind::Deployment, Some("shop"), "web"),
        key(Kind::Deployment, Some("shop"), "back"),
        key(Kind::StatefulSet, Some("shop"), "store"),
        key(Kind::DaemonSet, Some("shop"), "log"),
        key(Kind::Job, Some("shop"), "pack"),
        key(Kind::CronJob, Some("shop"), "tick"),
        key(Kind::ConfigMap, Some("shop"), "new"),
        key(Kind::Namespace, None, "kube-system"),
    ];
    for key in keys {
        let page = why::why(&picture, &key).expect("is known").text();
        let _ = writeln!(text, "== {key}\n{page}");
    }
    assert_eq!(why::why(&picture, &key(Kind::Service, Some("shop"), "nobody")), None);
    expect("why", &text);
}

#[test]
fn the_status_page() {
    let mut text = String::new();
    let mut world = fleet::world();
    let mut show = |title: &str, world: &windlass::sim::World| {
        let page = status::status(&fleet::picture(world)).text();
        let _ = writeln!(text, "== {title}\n{page}");
    };
    show("at the beginning", &world);
    fleet::run(&mut world, 100);
    show("settled", &world);
    let mut files = fleet::shop();
    fleet::edit_web(&mut files, "replicas: 3", "replicsa: 3");
    world.remote.commit("web: a typo", files);
    fleet::run(&mut world, 130);
    show("a bad commit", &world);
    let mut files = fleet::shop();
    files.retain(|path, _| path.contains("rest"));
    world.remote.commit("clean up", files);
    fleet::run(&mut world, 160);
    show("too much would go", &world);
    world.remote_is_up = false;
    fleet::run(&mut world, 200);
    show("the remote is away", &world);
    expect("status", &text);
}

#[test]
fn objects_are_kubernetes_json() {
    let picture = settled();
    let mut text = String::new();
    for (kind, prefix) in [
        (Kind::Pod, "web-"),
        (Kind::ReplicaSet, "web-"),
        (Kind::Deployment, "web"),
        (Kind::StatefulSet, "store"),
        (Kind::DaemonSet, "log"),
        (Kind::ControllerRevision, "store-"),
        (Kind::Pod, "store-0"),
        (Kind::Job, "pack"),
        (Kind::Job, "tick-"),
        (Kind::CronJob, "tick"),
        (Kind::Pod, "pack-"),
        (Kind::Pod, "log-"),
        (Kind::Service, "web"),
        (Kind::EndpointSlice, "web-"),
        (Kind::Endpoints, "web"),
        (Kind::Node, "n0"),
        (Kind::Secret, "web-keys"),
        (Kind::Event, "big"),
        (Kind::Lease, "windlass-coordinator"),
    ] {
        let shown = objects::find(&picture, &named(&picture, kind, prefix)).expect("is there");
        let json = serde_json::to_string_pretty(&shown.json).expect("prints");
        let _ = writeln!(text, "== {kind}\n{json}");
    }
    expect("objects", &text);
}

#[test]
fn no_secret_is_shown_but_to_who_asks_for_the_object() {
    let picture = settled();
    let secrets = ["hunter2", "aHVudGVyMg", "s3cr3t", "czNjcjN0"];
    let mut everything = status::status(&picture).text();
    for info in KINDS {
        for shown in objects::list(&picture, info.kind) {
            everything.push_str(&shown.json.to_string());
            everything.push_str(&describe::describe(&picture, &shown.key).unwrap_or_default());
            everything.push_str(&why::why(&picture, &shown.key).unwrap_or_default().text());
            let cells = table::cells(info.kind, &shown.json, picture.now.wall);
            everything.push_str(&Value::Array(cells).to_string());
        }
    }
    for secret in secrets {
        assert!(!everything.contains(secret), "{secret}");
    }
    let key = key(Kind::Secret, Some("shop"), "web-keys");
    let mut shown = objects::find(&picture, &key).expect("is there").json;
    objects::reveal(&picture, &key, &mut shown);
    assert_eq!(shown["data"]["password"], "aHVudGVyMg==");
}

#[test]
fn the_diary_of_what_changed_is_kept_for_a_minute() {
    let mut world = fleet::world();
    fleet::run(&mut world, 20);
    let mut cache = Cache::new(fleet::picture(&world), 100);
    let listed = cache.list(Kind::Pod).version;
    let mut files = fleet::shop();
    fleet::edit_web(&mut files, "replicas: 3", "replicas: 2");
    world.remote.commit("less", files);
    fleet::run(&mut world, 40);
    let picture = fleet::picture(&world);
    let changed = picture.now.elapsed;
    cache.take(picture);
    let told = cache.since(Kind::Pod, listed).expect("is in the diary");
    assert!(!told.is_empty());

    assert!(!cache.tidy(changed + Duration::from_secs(59)), "nothing is old enough");
    assert_eq!(cache.since(Kind::Pod, listed).expect("is there still").len(), told.len());
    assert!(cache.tidy(changed + Duration::from_secs(60)));
    let gone = cache.since(Kind::Pod, listed).expect_err("is forgotten");
    // Who has read to the end goes on.
    let version = told.last().expect("a change").version;
    assert_eq!(gone.oldest, version);
    assert!(cache.since(Kind::Pod, version).expect("nothing was missed").is_empty());
    assert!(cache.tidy(changed + Duration::from_secs(120)), "what it was drawn from is let go");
    assert!(cache.since(Kind::Pod, version).expect("all is as it was").is_empty());

    assert!(cache.tidy(changed + Duration::from_secs(180)));
    assert!(!cache.tidy(changed + Duration::from_secs(719)), "somebody may come back");
    assert!(cache.tidy(changed + Duration::from_secs(720)), "the kind itself goes");
}

/// Two pods that mean the same, and are annotated otherwise.
const TWINS: &str = "apiVersion: v1
kind: Pod
metadata: {name: one, namespace: shop, annotations: {note: of one}}
spec: {containers: [{name: c, image: 'run:1'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: two, namespace: shop, annotations: {note: of two}}
spec: {containers: [{name: c, image: 'run:1'}]}
";

#[test]
fn pods_that_mean_the_same_are_shown_with_their_own_annotations() {
    let mut world = fleet::world();
    let mut files = fleet::shop();
    files.insert("shop/twins.yaml".into(), TWINS.into());
    world.remote.commit("twins", files);
    fleet::run(&mut world, 60);
    let picture = fleet::picture(&world);
    for shown in objects::list(&picture, Kind::Pod) {
        if let name @ ("one" | "two") = shown.key.name.as_str() {
            assert_eq!(shown.json["metadata"]["annotations"]["note"], format!("of {name}"));
            assert_eq!(objects::find(&picture, &shown.key), Some(shown));
        }
    }
}

/// What is pushed meanwhile touches pods in every way: their number, their template, where they are written,
/// what their account gives them, and back.
#[test]
fn what_is_not_drawn_again_would_be_drawn_the_same() {
    let account = "apiVersion: v1\nkind: ServiceAccount\nimagePullSecrets: [{name: own}]\n\
                   metadata: {name: default, namespace: shop}\n";
    let mut world = fleet::world();
    let mut before = fleet::picture(&world);
    let (mut drawn, mut spared) = (0, 0);
    for tenths in 1..1400 {
        let mut files = fleet::shop();
        files.insert("shop/twins.yaml".into(), TWINS.into());
        match tenths {
            400 => fleet::edit_web(&mut files, "replicas: 3", "replicas: 5"),
            600 => fleet::edit_web(&mut files, "production", "practice"),
            800 => fleet::edit_web(&mut files, "# The shop's front", "# Further\n\n# down"),
            1000 => drop(files.insert("shop/account.yaml".into(), account.into())),
            200 | 1200 => {}
            _ => files.clear(),
        }
        if !files.is_empty() {
            world.remote.commit("change", files);
        }
        let until = Duration::from_millis(tenths * 100);
        while world.step(until) {}
        let picture = fleet::picture(&world);
        let (old, all) = (objects::list(&before, Kind::Pod), objects::list(&picture, Kind::Pod));
        let since = objects::list_since(&before, &picture, Kind::Pod);
        assert_eq!(since.len(), all.len());
        for (since, shown) in since.into_iter().zip(all) {
            match since {
                Since::Drawn(again) => {
                    drawn += 1;
                    assert_eq!(again, shown);
                }
                Since::Same(key) => {
                    spared += 1;
                    assert_eq!(key, shown.key);
                    assert!(old.contains(&shown), "at {until:?}: {key} looks otherwise now");
                }
            }
        }
        before = picture;
    }
    assert!(drawn > 0 && spared > 20 * drawn, "{drawn} drawn, {spared} spared");
}
