//! Change windows: what waits for its hour, and what does not.

use super::{Fleet, deployment};
use crate::kinds::time::Wall;

const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";

/// Nine to five in Berlin from Monday to Friday, for all but the app base.
const HOURS: &str =
    "{kind: allow, schedule: \"0 9 * * 1-5\", duration: 8h, timeZone: Europe/Berlin}";

fn settings() -> String {
    format!(
        "apps:\n- {{name: base, path: base}}\n- {{name: web, path: web, windows: [{HOURS}]}}\n\
         - {{name: api, path: api, autoRevert: true, windows: [{HOURS}]}}\n"
    )
}

fn push(fleet: &mut Fleet, message: &str, base: &str, web: &str, api: &str) {
    let api = deployment("api", 1, api, "progressDeadlineSeconds: 60");
    let files = [
        ("windlass.yaml", settings()),
        ("base/namespace.yaml", format!("{NAMESPACE}{base}")),
        ("web/web.yaml", deployment("web", 1, web, "")),
        ("api/api.yaml", api),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, &**text)).collect();
    fleet.push_files(message, &files);
}

fn set_clock(fleet: &mut Fleet, text: &str) {
    fleet.now.wall = Wall::parse(text).expect("a time");
}

/// Some seconds go by: settling would wait until a window opens.
fn go_on(fleet: &mut Fleet, seconds: u32) {
    for _ in 0..seconds {
        fleet.turn();
        fleet.work();
        fleet.pass(1);
    }
}

/// A fleet set up on a Friday night, outside its windows.
fn running() -> Fleet {
    let mut fleet = Fleet::new();
    set_clock(&mut fleet, "2026-11-20T20:00:00Z");
    push(&mut fleet, "first", "", "v1", "v1");
    fleet.settle();
    assert_eq!((fleet.pods("web"), fleet.pods("api")), ("v1=1".into(), "v1=1".into()));
    fleet
}

#[test]
fn a_commit_outside_its_window_waits_until_one_opens() {
    let mut fleet = running();
    push(&mut fleet, "second", "", "v2", "v1");
    go_on(&mut fleet, 5);
    assert_eq!(
        fleet.verdicts(),
        "api: in force, base: in force, web: waiting: outside its change windows until \
         2026-11-23T08:00:00Z (windlass.yaml:3:36); a commit with the trailer `Windlass-Now: web` \
         does not wait"
    );
    assert_eq!(fleet.pods("web"), "v1=1");
    assert!(!fleet.turn(), "while it waits nothing is written");
    assert!(fleet.last.as_ref().is_some_and(|plan| plan.wake.is_some()), "it is looked at again");
    // A typo is told at once, though it is night.
    push(&mut fleet, "third", "data: wrong\n", "v2", "v1");
    go_on(&mut fleet, 5);
    assert!(fleet.verdicts().contains("base: refused"), "{}", fleet.verdicts());
    push(&mut fleet, "fourth", "", "v2", "v1");
    set_clock(&mut fleet, "2026-11-23T07:59:59Z");
    fleet.turn();
    assert_eq!(fleet.pods("web"), "v1=1");
    go_on(&mut fleet, 9);
    assert_eq!(fleet.pods("web"), "v2=1");
    assert_eq!(fleet.verdicts(), "api: in force, base: in force, web: in force");
}

#[test]
fn an_urgent_commit_and_the_way_back_do_not_wait() {
    let mut fleet = running();
    push(&mut fleet, "second\n\nWindlass-Now: web", "", "v2", "v2");
    go_on(&mut fleet, 9);
    assert_eq!((fleet.pods("web"), fleet.pods("api")), ("v2=1".into(), "v1=1".into()));
    assert!(fleet.verdicts().contains("api: waiting"), "{}", fleet.verdicts());
    // The files of the last healthy revision.
    push(&mut fleet, "Revert \"second\"", "", "v1", "v1");
    go_on(&mut fleet, 9);
    assert_eq!(fleet.pods("web"), "v1=1");
    assert_eq!(fleet.verdicts(), "api: in force, base: in force, web: in force");
    // What fails goes back by itself, also at night.
    push(&mut fleet, "third\n\nWindlass-Now: yes", "", "v1", "bad2");
    fleet.turn();
    assert_eq!(fleet.pods("api"), "bad2=1 v1=1");
    go_on(&mut fleet, 90);
    assert!(fleet.verdicts().contains("api: reverted"), "{}", fleet.verdicts());
    assert_eq!(fleet.pods("api"), "v1=1");
}

#[test]
fn what_needs_a_namespace_that_waits_waits_too() {
    let mut fleet = Fleet::new();
    set_clock(&mut fleet, "2026-11-20T20:00:00Z");
    let settings = "windows: [{kind: deny, schedule: \"0 18 * * *\", duration: 12h}]\napps:\n\
                    - {name: base, path: base}\n- {name: web, path: web}\n";
    let other = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n";
    let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: other}\n";
    let push = |fleet: &mut Fleet, message: &str, base: &str, web: &str| {
        let files = [("windlass.yaml", settings), ("base/n.yaml", base), ("web/c.yaml", web)];
        fleet.push_files(message, &files);
        go_on(fleet, 5);
    };
    push(&mut fleet, "first", NAMESPACE, "");
    push(&mut fleet, "second\n\nWindlass-Now: web", &format!("{NAMESPACE}{other}"), config);
    let verdicts = fleet.verdicts();
    assert!(verdicts.contains("base: waiting: outside its change windows until 2026-11-21T06:0"));
    assert!(verdicts.ends_with("web: waiting: it needs Namespace other of app base, which waits"));
    set_clock(&mut fleet, "2026-11-21T06:00:00Z");
    go_on(&mut fleet, 5);
    assert_eq!(fleet.verdicts(), "base: in force, web: in force");
}

#[test]
fn a_clock_that_is_plainly_wrong_neither_opens_nor_shuts_for_ever() {
    let mut fleet = running();
    push(&mut fleet, "second", "", "v2", "v1");
    // The machine that coordinates was switched off, and begins in 1970: on a Thursday at 11.
    set_clock(&mut fleet, "1970-01-01T10:00:00Z");
    go_on(&mut fleet, 5);
    let verdicts = fleet.verdicts();
    assert!(verdicts.contains("clock is earlier than the commit"), "{verdicts}");
    assert!(verdicts.contains("it waits for 24h instead"), "{verdicts}");
    assert_eq!(fleet.pods("web"), "v1=1");
    assert!(!fleet.turn());
    // Somebody sets it.
    let mut mended = fleet.clone();
    set_clock(&mut mended, "2026-11-20T20:20:00Z");
    go_on(&mut mended, 5);
    assert!(mended.verdicts().contains("until 2026-11-23T08:00:00Z"), "{}", mended.verdicts());
    // Nobody does.
    for _ in 0..24 {
        fleet.pass(3600).turn();
    }
    go_on(&mut fleet, 9);
    assert_eq!(fleet.pods("web"), "v2=1");
}
