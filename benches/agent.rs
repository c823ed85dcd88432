//! What an operator waits for, on a real Docker: `cargo bench --bench agent`; needs root.
//!
//! Beside each figure stands the floor: what Docker alone needs, in the same run, to create and start
//! as many pairs of containers in the host's network, eight at a time.
#![allow(clippy::print_stdout, reason = "a benchmark talks to whoever ran it")]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures real time")]
#![allow(dead_code, reason = "the tests use more of what is shared with them")]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::site::{IMAGE, NAMESPACE, Site, is_ready};

/// Docker's best concurrency on two cores.
const AT_ONCE: usize = 8;
const ROUNDS: usize = 5;

fn sleepers(name: &str, replicas: usize, version: usize) -> String {
    format!(
        "apiVersion: apps/v1
kind: Deployment
metadata: {{name: {name}, namespace: shop}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: {name}}}}}
  template:
    metadata: {{labels: {{app: {name}}}, annotations: {{version: '{version}'}}}}
    spec:
      terminationGracePeriodSeconds: 1
      containers: [{{name: main, image: '{IMAGE}', command: [sleep, '1000000']}}]
"
    )
}

/// Creates and starts containers without anything of ours; how long that takes.
fn floor(site: &Site, pods: usize) -> Duration {
    let began = Instant::now();
    std::thread::scope(|scope| {
        for worker in 0..AT_ONCE.min(pods) {
            scope.spawn(move || {
                let mut docker = site.host.plain();
                for pod in (worker..pods).step_by(AT_ONCE) {
                    for container in ["pause", "main"] {
                        let path = format!("/containers/create?name=floor-{pod}-{container}");
                        let body = json!({
                            "Image": IMAGE, "Cmd": ["sleep", "1000000"],
                            "HostConfig": {"NetworkMode": "host"},
                        });
                        docker.post(&path, &body).expect("Docker answers").expect(201);
                        let path = format!("/containers/floor-{pod}-{container}/start");
                        docker.post(&path, &Value::Null).expect("Docker answers").expect(204);
                    }
                }
            });
        }
    });
    let took = began.elapsed();
    let mut docker = site.host.plain();
    for pod in 0..pods {
        for container in ["pause", "main"] {
            let path = format!("/containers/floor-{pod}-{container}?force=1");
            docker.delete(&path).expect("Docker answers");
        }
    }
    took
}

fn wait(what: &str, done: impl Fn() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < Duration::from_secs(120), "never: {what}");
        // To look costs the agent something too.
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether there are so many ready pods of a Deployment, and no others, of this version.
fn all_ready(site: &Site, name: &str, count: usize, version: usize) -> bool {
    let pods = site.pods(&format!("app={name}"));
    pods.len() == count
        && pods.iter().all(|pod| {
            is_ready(pod)
                && pod["metadata"]["annotations"]["version"] == version.to_string().as_str()
        })
}

fn gone(site: &Site, name: &str) {
    site.push(&format!("no {name}"), &[(&format!("{name}.yaml"), None)]);
    wait("the pods' end", || site.containers(&format!("_{name}-")).is_empty());
}

fn best(mut run: impl FnMut() -> Duration) -> Duration {
    (0..ROUNDS).map(|_| run()).min().unwrap_or_default()
}

fn print(what: &str, took: Duration, floor: Option<Duration>, target: &str) {
    let floor = floor.map_or("-".into(), |floor| format!("{:.0} ms", floor.as_secs_f64() * 1e3));
    println!("| {what} | {:.0} ms | {floor} | {target} |", took.as_secs_f64() * 1e3);
}

/// From the end of `git push` to every pod ready.
fn push_to_ready(site: &Site, count: usize) -> Duration {
    best(|| {
        site.push("begin", &[("web.yaml", Some(&sleepers("web", count, 1)))]);
        let began = Instant::now();
        wait("pods", || all_ready(site, "web", count, 1));
        let took = began.elapsed();
        gone(site, "web");
        took
    })
}

fn restart(site: &Site) -> Duration {
    site.push("begin", &[("web.yaml", Some(&sleepers("web", 1, 1)))]);
    wait("a pod", || all_ready(site, "web", 1, 1));
    let restarts = |site: &Site| {
        site.pods("app=web")[0]["status"]["containerStatuses"][0]["restartCount"].as_i64()
    };
    let ids = site.containers("wdl_main_web-");
    let path = format!("/containers/{}/kill", ids.first().expect("the container"));
    let mut docker = site.host.plain();
    docker.post(&path, &Value::Null).expect("Docker answers").expect(204);
    let began = Instant::now();
    wait("a restart", || restarts(site) == Some(1) && all_ready(site, "web", 1, 1));
    let took = began.elapsed();
    gone(site, "web");
    took
}

fn roll(site: &Site) -> Duration {
    site.push("begin", &[("web.yaml", Some(&sleepers("web", 10, 1)))]);
    wait("pods", || all_ready(site, "web", 10, 1));
    site.push("roll", &[("web.yaml", Some(&sleepers("web", 10, 2)))]);
    let began = Instant::now();
    wait("new pods", || all_ready(site, "web", 10, 2));
    let took = began.elapsed();
    gone(site, "web");
    took
}

/// Memory, CPU and disk of an agent with 100 pods, over a minute in which nothing changes.
fn idle(site: &Site) {
    site.push("many", &[("web.yaml", Some(&sleepers("web", 100, 1)))]);
    wait("pods", || all_ready(site, "web", 100, 1));
    std::thread::sleep(Duration::from_secs(20));
    let pid = site.agent_pid();
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    let field = |text: &str, name: &str| -> u64 {
        let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.trim().trim_end_matches(" kB").trim().parse().unwrap_or_default()
    };
    let ticks = |stat: &str| -> u64 {
        let after = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
        let fields: Vec<&str> = after.split_whitespace().collect();
        let number =
            |at: usize| -> u64 { fields.get(at).and_then(|f| f.parse().ok()).unwrap_or(0) };
        number(11) + number(12) + number(13) + number(14)
    };
    let (cpu, io) = (ticks(&read("stat")), field(&read("io"), "write_bytes:"));
    std::thread::sleep(Duration::from_secs(60));
    let cpu = ticks(&read("stat")) - cpu;
    let io = field(&read("io"), "write_bytes:") - io;
    let resident = field(&read("status"), "VmRSS:");
    println!("| agent's memory, 100 pods | {} MB | - | 40 MB |", resident / 1024);
    // A tick is 10 ms; over 60 s that is a 6,000th.
    println!("| agent's CPU, 100 pods, nothing changes | {:.2} % | - | 0.5 % |", cpu as f64 / 60.0);
    println!(
        "| written to disk, nothing changes | {} MB a day | - | 50 MB a day |",
        (io * 1440) >> 20
    );
}

fn main() {
    let Some(site) = Site::start("wbench-") else { return };
    site.push("The shop", &[("namespace.yaml", Some(NAMESPACE))]);
    wait("an agent", || site.status()["apps"][0]["inForce"].is_object());
    println!("| what | took | Docker alone | target |\n|---|---|---|---|");
    for (count, target) in [(1, "350 ms"), (10, "1,100 ms"), (30, "3,200 ms")] {
        let floor = best(|| floor(&site, count));
        let took = push_to_ready(&site, count);
        print(&format!("push → {count} pod(s) ready"), took, Some(floor), target);
    }
    print("container killed → runs again", best(|| restart(&site)), None, "150 ms");
    print("rolling update of 10 pods", best(|| roll(&site)), None, "2,000 ms");
    idle(&site);
}
