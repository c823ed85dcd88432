//! Alone: no network, no remote, and a clock that has forgotten the time.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;
use std::time::Duration;

use serde_json::Value;
use windlass::adapters::clock;

use crate::support::host::run;
use crate::support::site::{IMAGE, NAMESPACE, Site, name, web};

/// The agent's wall clock is wrong by what a file says.
const WRONG_CLOCK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/wrong_clock.c");
/// "Within seconds": a machine that builds other things meanwhile is slow.
const UP_MAX: Duration = Duration::from_secs(60);

fn restarts(site: &Site) -> BTreeMap<String, Value> {
    let pods = site.pods("app=web");
    pods.iter()
        .map(|pod| (name(pod), pod["status"]["containerStatuses"][0]["containerID"].clone()))
        .collect()
}

fn jobs(site: &Site) -> Vec<String> {
    let list = site.get("/apis/batch/v1/namespaces/shop/jobs");
    list["items"].as_array().into_iter().flatten().map(name).collect()
}

#[test]
fn a_machine_that_boots_alone_in_1970_runs_its_pods_and_takes_the_time_calmly() {
    let Some(mut site) = Site::start("we2e-alone-") else { return };
    let cron = format!(
        "apiVersion: batch/v1
kind: CronJob
metadata: {{name: tick, namespace: shop}}
spec:
  schedule: \"* * * * *\"
  successfulJobsHistoryLimit: 50
  jobTemplate:
    spec:
      template:
        spec:
          restartPolicy: OnFailure
          containers: [{{name: main, image: {IMAGE}, command: [echo, tick]}}]
"
    );
    let commit = site.push(
        "The shop",
        &[
            ("namespace.yaml", Some(NAMESPACE)),
            ("web.yaml", Some(&web("one", 2, 30080))),
            ("tick.yaml", Some(&cron)),
        ],
    );
    site.wait_ready("app=web", 2);
    site.cut_power();
    let before = 2; // A minute may have passed by itself, before the cut and at the boot.
    fs::rename(site.desired(), site.host.dir().join("gone.git")).expect("moved");
    run(site.host.command("ip").args(["link", "set", "eth0", "down"]));

    let (time, shim) = (site.host.dir().join("time"), site.host.dir().join("wrong_clock.so"));
    run(Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&shim).arg(WRONG_CLOCK));
    let since_1970 = clock::now().wall.seconds();
    fs::write(&time, (330 - since_1970).to_string()).expect("written");
    site.host.start_docker();
    let began = clock::now().elapsed;
    site.start_agent_with(&[
        ("LD_PRELOAD", &shim.display().to_string()),
        ("WRONG_CLOCK", &time.display().to_string()),
    ]);
    site.wait_ready("app=web", 2);
    let took = clock::now().elapsed.since(began);
    println!("two pods ready {took:?} after the agent's start, alone in 1970");
    assert!(took < UP_MAX, "{took:?}");
    let log = site.log();
    assert!(log.contains("1970-01-01T00:05"), "the agent believes that it is 1970: {log}");
    assert_eq!(site.status()["apps"][0]["inForce"]["commit"], commit.as_str());
    let ran = restarts(&site);
    let had = jobs(&site).len();
    assert!(had <= before + 1, "{had} jobs");

    // Somebody sets the clock: more than fifty years in one step.
    fs::write(&time, "0").expect("written");
    std::thread::sleep(Duration::from_secs(8));
    let status = site.status();
    assert_eq!(status["isCoordinator"], true, "the lease is where it was: {status:#}");
    assert_eq!(restarts(&site), ran, "nothing was started again");
    assert_eq!(site.wait_ready("app=web", 2).len(), 2);
    let have = jobs(&site).len();
    assert!(
        have <= had + 2,
        "at most one missed minute is made up for, and one may be due: {have}"
    );
    // And it goes on from there.
    fs::rename(site.host.dir().join("gone.git"), site.desired()).expect("moved back");
    site.push("web: two", &[("web.yaml", Some(&web("two", 2, 30080)))]);
    site.wait("a roll-out", |site| {
        let now = restarts(site);
        (now.len() == 2 && now.keys().all(|pod| !ran.contains_key(pod))).then_some(())
    });
}
