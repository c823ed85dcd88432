//! What an operator waits for, on a real Docker.
//!
//! The floor is what Docker alone needs, in the same run: as many pause containers (ours, which make a
//! network of their own) and containers that join them, created and started over plain HTTP, at the
//! concurrency that is best.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, Instant};

use crate::row::{Row, Unit};
use crate::support::host::Host;
use crate::support::http::{Connection, Events};
use crate::support::site::{IMAGE, NAMESPACE, Site, is_ready, name};
use serde_json::{Value, json};

/// Among these is Docker's best concurrency.
const AT_ONCE: [usize; 3] = [2, 4, 8];
const ROUNDS: usize = 5;
/// By then an agent has looked at its host twice.
const SURVEYED: Duration = Duration::from_secs(330);

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

/// The image of our pause containers, once one runs.
fn pause_image(site: &Site) -> String {
    let list = site.host.plain().get("/containers/json").expect("Docker answers").json();
    let is_pause = |one: &&Value| {
        let name = one["Names"][0].as_str().unwrap_or_default();
        name.starts_with("/wdl_") && !name.starts_with("/wdl_main_")
    };
    let found = list.as_array().into_iter().flatten().find(is_pause);
    found.and_then(|one| one["ImageID"].as_str()).expect("a pause container runs").to_owned()
}

/// Creates a container and starts it.
fn start(docker: &mut Connection, name: &str, body: &Value) {
    let path = format!("/containers/create?name={name}");
    docker.post(&path, body).expect("Docker answers").expect(201);
    let path = format!("/containers/{name}/start");
    docker.post(&path, &Value::Null).expect("Docker answers").expect(204);
}

fn start_pause(docker: &mut Connection, image: &str, name: &str) {
    let body = json!({"Image": image, "Cmd": ["own-network"], "HostConfig": {
        "NetworkMode": "host", "CapDrop": ["ALL"],
        "CapAdd": ["SYS_ADMIN", "NET_ADMIN", "SETPCAP"]}});
    start(docker, name, &body);
}

fn start_app(docker: &mut Connection, name: &str, pause: &str) {
    let body = json!({"Image": IMAGE, "Cmd": ["sleep", "1000000"],
        "HostConfig": {"NetworkMode": format!("container:{pause}")}});
    start(docker, name, &body);
}

fn remove(host: &Host, names: &[String]) {
    let mut docker = host.plain();
    for name in names {
        docker.delete(&format!("/containers/{name}?force=1")).expect("Docker answers");
    }
}

/// As many pods without anything of ours but the pause program; how long that takes.
fn floor(site: &Site, image: &str, pods: usize, at_once: usize) -> Duration {
    let began = Instant::now();
    std::thread::scope(|scope| {
        for worker in 0..at_once.min(pods) {
            scope.spawn(move || {
                let mut docker = site.host.plain();
                for pod in (worker..pods).step_by(at_once) {
                    start_pause(&mut docker, image, &format!("floor-{pod}-pause"));
                    start_app(&mut docker, &format!("floor-{pod}"), &format!("floor-{pod}-pause"));
                }
            });
        }
    });
    let took = began.elapsed();
    let names = (0..pods).flat_map(|pod| [format!("floor-{pod}"), format!("floor-{pod}-pause")]);
    remove(&site.host, &names.collect::<Vec<_>>());
    took
}

/// The least of that.
fn best_floor(site: &Site, image: &str, pods: usize) -> Duration {
    let at_once = AT_ONCE.iter().filter(|at_once| pods > 1 || **at_once == AT_ONCE[0]);
    at_once.map(|at_once| floor(site, image, pods, *at_once)).min().unwrap_or_default()
}

/// The best of some rounds of each, by turns: a machine that is slow for a minute is slow for both.
fn by_turns(mut floor: impl FnMut() -> Duration, mut ours: impl FnMut() -> Duration) -> Pair {
    let rounds = (0..ROUNDS).map(|_| (floor(), ours()));
    let least = |(a, b): (Duration, Duration), (c, d): (Duration, Duration)| (a.min(c), b.min(d));
    let (floor, took) = rounds.reduce(least).unwrap_or_default();
    Pair { floor, took }
}

/// What Docker needs, and what we do.
struct Pair {
    floor: Duration,
    took: Duration,
}

impl Pair {
    fn row(&self, what: impl Into<String>, target_s: f64, kubernetes: &'static str) -> Row {
        Row::time(what, self.took, target_s).floor(self.floor).kubernetes(kubernetes)
    }
}

/// One more container in a pod that runs: what a restart can't do without.
fn restart_floor(site: &Site, image: &str) -> Duration {
    let mut docker = site.host.plain();
    start_pause(&mut docker, image, "floor-pause");
    let began = Instant::now();
    start_app(&mut docker, "floor", "floor-pause");
    let took = began.elapsed();
    remove(&site.host, &["floor".to_owned(), "floor-pause".to_owned()]);
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

/// A Deployment's pods as a watch tells of them, which is how `kubectl wait` looks: asking again and
/// again would cost the agent more than it does.
struct Watched {
    events: Events,
    /// Those that are not ending, by name.
    pods: BTreeMap<String, Value>,
}

impl Watched {
    fn of(site: &Site, app: &str) -> Self {
        let path = format!("/api/v1/namespaces/shop/pods?watch=true&labelSelector=app={app}");
        Self { events: Events::of(&site.socket(), &path), pods: BTreeMap::new() }
    }

    fn wait(&mut self, done: impl Fn(&BTreeMap<String, Value>) -> bool) {
        while !done(&self.pods) {
            let mut event = self.events.next().expect("the watch goes on");
            let pod = event["object"].take();
            let is_ending = !pod["metadata"]["deletionTimestamp"].is_null();
            if is_ending || event["type"] == "DELETED" {
                self.pods.remove(&name(&pod));
            } else {
                self.pods.insert(name(&pod), pod);
            }
        }
    }

    /// Waits until there are so many ready pods, and no others, of this version.
    fn wait_ready(&mut self, count: usize, version: usize) {
        let version = version.to_string();
        let is_so = |pod: &Value| {
            is_ready(pod) && pod["metadata"]["annotations"]["version"] == version.as_str()
        };
        self.wait(|pods| pods.len() == count && pods.values().all(is_so));
    }
}

fn gone(site: &Site, name: &str) {
    site.push(&format!("no {name}"), &[(&format!("{name}.yaml"), None)]);
    wait("the pods' end", || site.containers(&format!("_{name}-")).is_empty());
}

/// From the end of `git push` to every pod ready.
fn push_to_ready(site: &Site, count: usize) -> Duration {
    let mut pods = Watched::of(site, "web");
    site.push("begin", &[("web.yaml", Some(&sleepers("web", count, 1)))]);
    let began = Instant::now();
    pods.wait_ready(count, 1);
    let took = began.elapsed();
    gone(site, "web");
    took
}

fn restart(site: &Site) -> Duration {
    let mut pods = Watched::of(site, "web");
    site.push("begin", &[("web.yaml", Some(&sleepers("web", 1, 1)))]);
    pods.wait_ready(1, 1);
    let ids = site.containers("wdl_main_web-");
    let path = format!("/containers/{}/kill", ids.first().expect("the container"));
    let mut docker = site.host.plain();
    docker.post(&path, &Value::Null).expect("Docker answers").expect(204);
    let began = Instant::now();
    let is_anew =
        |pod: &Value| is_ready(pod) && pod["status"]["containerStatuses"][0]["restartCount"] == 1;
    pods.wait(|pods| pods.values().any(is_anew));
    let took = began.elapsed();
    gone(site, "web");
    took
}

/// A person deletes a pod; from the word to its replacement's being ready.
fn replace(site: &Site) -> Duration {
    let mut pods = Watched::of(site, "web");
    site.push("begin", &[("web.yaml", Some(&sleepers("web", 1, 1)))]);
    pods.wait_ready(1, 1);
    let old = pods.pods.keys().next().cloned().expect("the pod");
    let mut agent = Connection::open(&site.socket()).expect("the agent answers");
    let began = Instant::now();
    agent.delete(&format!("/api/v1/namespaces/shop/pods/{old}")).expect("an answer").expect(200);
    pods.wait(|pods| pods.iter().any(|(name, pod)| *name != old && is_ready(pod)));
    let took = began.elapsed();
    gone(site, "web");
    took
}

fn roll(site: &Site) -> Duration {
    let mut pods = Watched::of(site, "web");
    site.push("begin", &[("web.yaml", Some(&sleepers("web", 10, 1)))]);
    pods.wait_ready(10, 1);
    site.push("roll", &[("web.yaml", Some(&sleepers("web", 10, 2)))]);
    let began = Instant::now();
    pods.wait_ready(10, 2);
    let took = began.elapsed();
    gone(site, "web");
    took
}

/// Memory, CPU and disk of an agent with 100 pods, over a minute in which nothing changes; `began` is when
/// it was started.
fn idle(site: &Site, began: Instant) -> Vec<Row> {
    let mut pods = Watched::of(site, "web");
    site.push("many", &[("web.yaml", Some(&sleepers("web", 100, 1)))]);
    pods.wait_ready(100, 1);
    drop(pods);
    // What follows a roll-out, the word that it is healthy and the packing of the store, is over then.
    std::thread::sleep(Duration::from_secs(60));
    // The second look at the host, five minutes after the first, finds images that came since, and the
    // node says so once: that is no minute in which nothing changes.
    std::thread::sleep(SURVEYED.saturating_sub(began.elapsed()));
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
    let megabytes = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    vec![
        Row::new("agent's memory, 100 pods", Unit::Megabytes, megabytes(resident << 10), 40.0)
            .kubernetes("749 MB with 10 pods"),
        // A tick is 10 ms; over 60 s that is a 6,000th.
        Row::new("agent's CPU, 100 pods, idle", Unit::Percent, cpu as f64 / 60.0, 0.5)
            .kubernetes("7 to 8 % with 10 pods"),
        Row::new("written to disk, idle", Unit::MegabytesADay, megabytes(io * 1440), 50.0),
    ]
}

/// All of it; nothing where this machine can't have a Docker.
pub(crate) fn rows() -> Vec<Row> {
    let began = Instant::now();
    let Some(site) = Site::start("wbench-") else { return Vec::new() };
    site.push("The shop", &[("namespace.yaml", Some(NAMESPACE))]);
    wait("the agent's socket", || site.socket().exists());
    let mut pods = Watched::of(&site, "web");
    site.push("warm", &[("web.yaml", Some(&sleepers("web", 1, 1)))]);
    pods.wait_ready(1, 1);
    drop(pods);
    let image = pause_image(&site);
    gone(&site, "web");
    let mut rows = Vec::new();
    for (count, target_s, kubernetes) in
        [(1, 0.35, "557 ms"), (10, 1.1, "1.47 s"), (30, 3.2, "3.95 s")]
    {
        let pair = by_turns(|| best_floor(&site, &image, count), || push_to_ready(&site, count));
        let what = if count == 1 {
            "push → 1 pod ready".to_owned()
        } else {
            format!("push → {count} pods ready")
        };
        rows.push(pair.row(what, target_s, kubernetes));
    }
    let pair = by_turns(|| restart_floor(&site, &image), || restart(&site));
    rows.push(pair.row("container killed → runs again", 0.15, "240 ms"));
    let pair = by_turns(|| best_floor(&site, &image, 1), || replace(&site));
    rows.push(pair.row("pod deleted → its replacement ready", 0.35, "533 ms"));
    let pair = by_turns(|| best_floor(&site, &image, 10), || roll(&site));
    rows.push(pair.row("rolling update of 10 pods", 2.0, "2.3 s"));
    rows.extend(idle(&site, began));
    rows
}
