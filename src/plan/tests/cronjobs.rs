//! CronJobs: which minutes get a Job, whatever the clock does.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/cron-jobs/>.

use std::time::Duration;

use super::{Fleet, Mood, manifest};
use crate::kinds::time::Wall;
use crate::plan::Memory;

/// A CronJob `tick` in `shop`; `more` are further fields of its spec with `;` between.
fn cron(schedule: &str, more: &str) -> String {
    let more: String =
        more.split(';').filter(|m| !m.is_empty()).map(|m| format!("  {}\n", m.trim())).collect();
    let spec = format!(
        "spec:\n  schedule: \"{schedule}\"\n{more}  jobTemplate:\n    spec:\n      template:\n        \
         spec: {{restartPolicy: Never, containers: [{{name: main, image: v1}}]}}"
    );
    manifest("batch/v1", "CronJob", "tick", &spec)
}

const NOON: &str = "2026-11-21T12:00:00Z";

/// A fleet in which this came into force at noon.
fn at_noon(manifest: &str) -> Fleet {
    let mut fleet = Fleet::new();
    set_clock(&mut fleet, NOON);
    fleet.push(manifest);
    fleet.turn();
    fleet.turn();
    fleet
}

fn set_clock(fleet: &mut Fleet, time: &str) {
    fleet.now.wall = Wall::parse(time).expect("a time");
}

/// The minutes of noon for which there are Jobs; those that are over in brackets.
fn jobs(fleet: &Fleet) -> String {
    let noon = Wall::parse(NOON).expect("a time").seconds();
    let jobs = fleet.state().jobs.values().filter_map(|record| {
        let (made, run) = (record.made.as_ref()?, record.run.as_ref()?);
        let minute = (made.scheduled.seconds() - noon) / 60;
        (!run.is_removed).then(|| match run.end() {
            Some(_) => format!("({minute})"),
            None => minute.to_string(),
        })
    });
    jobs.collect::<Vec<_>>().join(" ")
}

/// Plans, has every pod end as `mood` says, and plans again.
fn work(fleet: &mut Fleet, mood: Mood) {
    for _ in 0..3 {
        fleet.turn();
        fleet.work_as(|pod, _| if pod.deletion.is_some() { Mood::Ready } else { mood });
    }
    fleet.turn();
}

#[test]
fn each_minute_that_is_due_gets_its_job() {
    let mut fleet = at_noon(&cron("*/5 * * * *", ""));
    assert_eq!(jobs(&fleet), "", "noon was before it came");
    fleet.pass(299).turn();
    assert_eq!(jobs(&fleet), "");
    fleet.pass(1).turn();
    assert_eq!(jobs(&fleet), "5");
    let minute = Wall::parse(NOON).expect("a time").seconds() / 60 + 5;
    let name = fleet.state().jobs.keys().next().expect("it").name.to_string();
    assert_eq!(name, format!("tick-{minute}"), "its name says which minute");
    assert_eq!(fleet.bindings("tick").len(), 1, "in the same turn it has its pod");
    work(&mut fleet, Mood::Succeeded);
    assert_eq!(jobs(&fleet), "(5)");
    for _ in 0..5 {
        fleet.pass(300);
        work(&mut fleet, Mood::Succeeded);
    }
    assert_eq!(jobs(&fleet), "(20) (25) (30)", "three are kept");
    let event = fleet.event("SawCompletedJob").expect("it is told");
    assert_eq!(
        event,
        format!("CronJob shop/tick: Saw completed job: tick-{}, condition: Complete", minute + 25)
    );
    fleet.push_as("gone\n\nWindlass-Allow-Prune: yes", "");
    work(&mut fleet, Mood::Ready);
    assert!(fleet.state().jobs.is_empty() && fleet.bindings("tick").is_empty());
}

/// What the clock does while one runs, and which Jobs there are then.
#[test]
fn at_most_one_missed_time_is_made_up_for() {
    let table = [
        ("a night off", "", "2026-11-22T06:03:30Z", "1083"),
        ("a night off, and too late", "startingDeadlineSeconds: 20", "2026-11-22T06:03:30Z", ""),
        ("in time", "startingDeadlineSeconds: 40", "2026-11-22T06:03:30Z", "1083"),
        ("suspended", "suspend: true", "2026-11-22T06:03:30Z", ""),
        ("set back a little", "", "2026-11-21T11:30:00Z", ""),
        ("set back to 1970", "", "1970-01-01T00:10:30Z", ""),
    ];
    for (what, more, time, found) in table {
        let mut fleet = at_noon(&cron("* * * * *", more));
        set_clock(&mut fleet, time);
        for _ in 0..3 {
            fleet.turn();
        }
        assert_eq!(jobs(&fleet), found, "{what}");
        let warned = fleet.event("TooManyMissedTimes").is_some();
        assert_eq!(
            warned,
            what.contains("night off") && more.is_empty() || what == "in time",
            "{what}"
        );
    }
}

#[test]
fn a_clock_that_goes_astray_and_comes_back_runs_no_minute_twice() {
    let mut fleet = at_noon(&cron("0 * * * *", "successfulJobsHistoryLimit: 0"));
    let mut made = Vec::new();
    let times = [
        "2026-11-21T13:00:10Z",
        "1970-01-01T00:00:05Z",
        "2026-11-21T13:20:00Z",
        "2026-11-21T12:50:00Z",
        "2026-11-21T13:00:30Z",
        "2031-01-01T00:30:00Z",
        "2026-11-21T14:30:00Z",
        "2026-11-21T15:00:00Z",
    ];
    for time in times {
        set_clock(&mut fleet, time);
        fleet.memory = Memory::default();
        for _ in 0..3 {
            fleet.turn();
            let now = jobs(&fleet);
            if !now.is_empty() && made.last() != Some(&now) {
                made.push(now);
            }
            work(&mut fleet, Mood::Succeeded);
        }
    }
    let far = made.iter().filter(|minute| minute.len() > 4).count();
    assert_eq!(
        (made.len(), far),
        (3, 1),
        "{made:?}: 13:00, 2031, and 15:00 after it is right again"
    );
}

#[test]
fn a_job_that_still_runs_is_heeded() {
    let table = [("Allow", "1 2"), ("Forbid", "1"), ("Replace", "2")];
    for (policy, found) in table {
        let mut fleet = at_noon(&cron("* * * * *", &format!("concurrencyPolicy: {policy}")));
        fleet.pass(60);
        work(&mut fleet, Mood::Clings);
        fleet.pass(60);
        fleet.turn();
        assert_eq!(jobs(&fleet), found, "{policy}");
        work(&mut fleet, Mood::Succeeded);
        fleet.turn();
        let after = match policy {
            "Allow" | "Forbid" => "(1) (2)",
            _ => "(2)",
        };
        work(&mut fleet, Mood::Succeeded);
        assert_eq!(jobs(&fleet), after, "{policy}: afterwards");
    }
}

#[test]
fn another_coordinator_makes_no_second_job_of_a_minute() {
    let mut fleet = at_noon(&cron("* * * * *", "ttl: 1").replace("  ttl: 1\n", ""));
    fleet.pass(60).turn();
    let before = fleet.clone();
    fleet.memory = Memory::default();
    fleet.input.incarnation = "second".into();
    fleet.now.wall = fleet.now.wall + Duration::from_secs(20);
    fleet.turn();
    assert_eq!(jobs(&fleet), "1");
    assert_eq!(fleet.bindings("tick").len(), before.bindings("tick").len());
}

#[test]
fn a_job_keeps_what_it_was_made_with() {
    let mut fleet = at_noon(&cron("* * * * *", ""));
    fleet.pass(60);
    work(&mut fleet, Mood::Ready);
    fleet.push(&cron("* * * * *", "").replace("image: v1", "image: v2"));
    fleet.turn();
    work(&mut fleet, Mood::Ready);
    assert_eq!(fleet.pods("tick"), "v1=1");
    fleet.pass(60);
    work(&mut fleet, Mood::Ready);
    assert_eq!(fleet.pods("tick"), "v1=1 v2=1");
}

#[test]
fn a_job_has_the_labels_of_its_template() {
    let text = cron("* * * * *", "");
    let labelled =
        text.replace("jobTemplate:\n", "jobTemplate:\n    metadata: {labels: {by: clock}}\n");
    assert_ne!(text, labelled);
    let mut fleet = at_noon(&labelled);
    fleet.pass(60);
    work(&mut fleet, Mood::Ready);
    let made = fleet.state().jobs.values().find_map(|job| job.made.clone()).expect("a Job");
    assert_eq!(made.labels["by"], "clock");
}
