//! What must not end what runs.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use nix::sys::signal::Signal;
use windlass::adapters::clock;

use crate::support::host::run;
use crate::support::must_git;
use crate::support::site::{NAMESPACE, Site, web};

fn with_web(prefix: &str, replicas: u32) -> Option<Site> {
    let site = Site::start(prefix)?;
    site.push("The shop", &[("namespace.yaml", Some(NAMESPACE))]);
    site.push("web", &[("web.yaml", Some(&web("one", replicas, 30080)))]);
    site.wait_ready("app=web", replicas as usize);
    Some(site)
}

/// How often each pod's containers were restarted.
fn restarts(site: &Site) -> BTreeMap<String, i64> {
    let pods = site.pods("app=web");
    let count =
        |pod: &serde_json::Value| pod["status"]["containerStatuses"][0]["restartCount"].as_i64();
    pods.iter().map(|pod| (crate::support::site::name(pod), count(pod).unwrap_or(-1))).collect()
}

#[test]
fn an_agent_killed_a_hundred_times_loses_and_doubles_nothing() {
    let Some(mut site) = with_web("we2e-storm-", 3) else { return };
    let steady = "
apiVersion: apps/v1
kind: Deployment
metadata: {name: steady, namespace: shop}
spec:
  selector: {matchLabels: {app: steady}}
  template:
    metadata: {labels: {app: steady}}
    spec: {containers: [{name: main, image: 'registry.example.com/test/app:1', command: [sleep, '1000000']}]}
";
    site.push("steady", &[("steady.yaml", Some(steady))]);
    site.wait_ready("app=steady", 1);
    let kept = site.containers("steady");
    assert_eq!(kept.len(), 2, "the pod and its pause");

    // Kills come at any moment of a start, of a turn, of a roll-out.
    let mut seed: u64 = 7;
    for round in 0..100_u32 {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        if round % 5 == 0 {
            let page = format!("page{round}");
            site.push(&page, &[("web.yaml", Some(&web(&page, 2 + round % 3, 30080)))]);
        }
        std::thread::sleep(Duration::from_millis((seed >> 33) % 300));
        site.stop_agent(Signal::SIGKILL);
        site.start_agent();
    }
    let last = site.push("the end", &[("web.yaml", Some(&web("end", 3, 30080)))]);
    site.wait_in_force(&last);
    site.wait("the last page everywhere", |site| {
        site.wait_ready("app=web", 3);
        (0..12).all(|_| site.fetch(30080) == Ok("end".into())).then_some(())
    });
    site.wait("nothing but three pods and their pauses", |site| {
        (site.containers("_web-").len() == 6 || site.containers("web").len() == 6).then_some(())
    });
    assert_eq!(site.containers("steady"), kept, "who was not to change was not touched");

    site.stop_agent(Signal::SIGTERM);
    let store = site.data_dir().join("state.git");
    must_git(&store, &["fsck", "--strict", "--no-dangling"]);
    // Files that processes lock are kept; those that are locks by being there must be gone.
    let store_files = run(std::process::Command::new("find").arg(&store).args(["-name", "*.lock"]));
    let left: Vec<&str> =
        store_files.lines().filter(|path| !path.contains("state.git/windlass/")).collect();
    assert!(left.is_empty(), "{left:?}");
    site.start_agent();
    let after = site.push("after", &[("web.yaml", Some(&web("after", 1, 30080)))]);
    site.wait_in_force(&after);
}

#[test]
fn docker_restarted_brings_everything_back() {
    let Some(site) = with_web("we2e-dockerd-", 2) else { return };
    site.wait("a page", |site| site.fetch(30080).ok());
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        site.host.stop_docker(signal);
        std::thread::sleep(Duration::from_millis(500));
        site.host.start_docker();
        site.wait_ready("app=web", 2);
        site.wait("a page", |site| site.fetch(30080).ok());
    }
}

#[test]
fn after_a_power_cut_pods_run_without_the_remote() {
    let Some(mut site) = with_web("we2e-power-", 2) else { return };
    site.cut_power();
    fs::rename(site.host.dir().join("desired.git"), site.host.dir().join("gone.git"))
        .expect("moved");
    site.host.start_docker();
    site.start_agent();
    site.wait_ready("app=web", 2);
    site.wait("a page", |site| (site.fetch(30080) == Ok("one".into())).then_some(()));
}

#[test]
fn rules_that_somebody_flushed_come_back() {
    let Some(site) = with_web("we2e-flush-", 1) else { return };
    site.wait("a page", |site| site.fetch(30080).ok());
    for table in ["filter", "nat"] {
        run(site.host.command("iptables").args(["-t", table, "-F"]));
    }
    site.wait("a page again", |site| site.fetch(30080).ok());
}

#[test]
fn a_killed_container_runs_again_at_once() {
    let Some(site) = with_web("we2e-kill-", 1) else { return };
    let before = restarts(&site);
    let (name, _) = before.first_key_value().expect("a pod");
    let id = site
        .containers(name)
        .into_iter()
        .find(|id| {
            let seen = site.host.plain().get(&format!("/containers/{id}/json")).expect("inspected");
            seen.json()["Config"]["Cmd"][0] != serde_json::Value::Null
        })
        .expect("the pod's container");
    site.host
        .plain()
        .post(&format!("/containers/{id}/kill"), &serde_json::Value::Null)
        .expect("killed");
    let began = clock::now().elapsed;
    site.wait("one restart", |site| (restarts(site).get(name) == Some(&1)).then_some(()));
    site.wait_ready("app=web", 1);
    // No promise about time, but not the back-off of a second failure.
    let took = clock::now().elapsed.since(began);
    assert!(took < Duration::from_secs(8), "{took:?}");
}

#[test]
fn a_full_disk_loses_nothing() {
    let Some(mut site) = Site::without_agent("we2e-disk-") else { return };
    let disk = site.data_dir();
    let mount = ["-t", "tmpfs", "-o", "size=40m", "disk"];
    run(std::process::Command::new("mount").args(mount).arg(&disk));
    site.start_agent();
    site.push("The shop", &[("namespace.yaml", Some(NAMESPACE))]);
    let good = site.push("web", &[("web.yaml", Some(&web("one", 2, 30080)))]);
    site.wait_ready("app=web", 2);
    site.wait_in_force(&good);
    let containers = site.containers("web");

    let filler = disk.join("filler");
    let _ = fs::write(&filler, vec![0; 64 << 20]);
    let next = site.push("web: three", &[("web.yaml", Some(&web("one", 3, 30080)))]);
    site.wait("a clear complaint", |site| {
        let faults = site.status()["faults"].to_string();
        faults.contains("full").then_some(())
    });
    assert_eq!(site.containers("web"), containers, "what runs goes on");
    site.stop_agent(Signal::SIGKILL);
    site.start_agent();
    site.wait("an answer", |site| (!site.status().is_null()).then_some(()));
    assert_eq!(site.containers("web"), containers, "a restart on a full disk changes nothing");

    fs::remove_file(&filler).expect("removed");
    site.wait_in_force(&next);
    site.wait_ready("app=web", 3);
}
