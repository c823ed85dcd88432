//! What the adapter costs beside Docker itself. Not a test of anything: run it on a quiet machine
//! with `cargo test --release --test all measure -- --ignored --nocapture --test-threads 1`.

// What is measured is said to whoever asked for it.
#![allow(clippy::print_stdout)]

use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use serde_json::json;
use windlass::kinds::name::Name;
use windlass::ports::runtime::{ContainerSeen, ContainerSpec, Role};

use crate::support::host::Host;
use crate::support::http::Connection;
use crate::support::images::BUSYBOX;
use crate::support::pods::Node;

const ROUNDS: usize = 21;
const SLEEP: [&str; 2] = ["sleep", "10000"];

// The clock is read here because measuring is what this is for.
#[allow(clippy::disallowed_methods)]
fn clock() -> Instant {
    Instant::now()
}

fn told(what: &str, mut times: Vec<Duration>) {
    times.sort();
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    println!(
        "{what:<44} min {:>7.1} ms   median {:>7.1} ms   n {}",
        ms(times[0]),
        ms(times[times.len() / 2]),
        times.len()
    );
}

/// Our own processor time and memory, from /proc.
fn own_cost() -> (f64, u64) {
    let stat = std::fs::read_to_string("/proc/self/stat").expect("we run");
    let fields: Vec<&str> = stat.rsplit_once(')').expect("a name").1.split_whitespace().collect();
    let ticks: f64 =
        fields[11].parse::<f64>().expect("a number") + fields[12].parse::<f64>().expect("a number");
    let status = std::fs::read_to_string("/proc/self/status").expect("we run");
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a size");
    (ticks / 100.0, rss.trim().trim_end_matches(" kB").parse().expect("a number"))
}

fn create(plain: &mut Connection, name: &str, body: &serde_json::Value) -> String {
    let path = format!("/containers/create?name={name}");
    let made = plain.post(&path, body).expect("answers").expect(201);
    made.json()["Id"].as_str().expect("an id").to_owned()
}

fn raw_pod(plain: &mut Connection, pause_image: &str, name: &str) -> [String; 2] {
    let pause = json!({"Image": pause_image, "Cmd": ["own-network"], "HostConfig": {
        "NetworkMode": "host", "CapDrop": ["ALL"], "CapAdd": ["SYS_ADMIN", "NET_ADMIN", "SETPCAP"]}});
    let pause = create(plain, &format!("{name}-p"), &pause);
    plain.post(&format!("/containers/{pause}/start"), &json!(null)).expect("answers").expect(204);
    let app = json!({"Image": BUSYBOX, "Cmd": SLEEP,
        "HostConfig": {"NetworkMode": format!("container:{pause}")}});
    let app = create(plain, &format!("{name}-a"), &app);
    plain.post(&format!("/containers/{app}/start"), &json!(null)).expect("answers").expect(204);
    [pause, app]
}

fn raw_remove(plain: &mut Connection, ids: &[String]) {
    for id in ids.iter().rev() {
        plain.delete(&format!("/containers/{id}?force=1&v=1")).expect("answers").expect(204);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn measure() {
    let Some(host) = Host::start("wdock-measure-") else {
        return;
    };
    let node = Node::new(&host, "measure");
    let mut plain = host.plain();
    let (pause, app) = node.pod("warm", &SLEEP).await;
    let pause_image = pause.image_id.clone();
    node.remove(&[&app, &pause]).await;

    let (mut floor, mut ours, mut removals) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        // In turns, so that whatever else the machine does meets both.
        let begun = clock();
        let ids = raw_pod(&mut plain, &pause_image, &format!("raw{round}"));
        floor.push(begun.elapsed());
        raw_remove(&mut plain, &ids);
        let begun = clock();
        let (pause, app) = node.pod("one", &SLEEP).await;
        ours.push(begun.elapsed());
        let begun = clock();
        node.remove(&[&app, &pause]).await;
        removals.push(begun.elapsed());
    }
    told("pod, floor (plain HTTP)", floor);
    told("pod, adapter", ours);
    told("pod removed, adapter", removals);

    let (mut floor, mut ours) = (Vec::new(), Vec::new());
    for round in 0..10 {
        let begun = clock();
        let made: Vec<[String; 2]> = std::thread::scope(|scope| {
            let workers: Vec<_> = (0..4)
                .map(|worker| {
                    let (host, image) = (&host, pause_image.as_str());
                    scope.spawn(move || {
                        let mut plain = host.plain();
                        (0..30)
                            .filter(|n| n % 4 == worker)
                            .map(|n| raw_pod(&mut plain, image, &format!("raw{round}-{n}")))
                            .collect::<Vec<_>>()
                    })
                })
                .collect();
            workers.into_iter().flat_map(|worker| worker.join().expect("runs")).collect()
        });
        floor.push(begun.elapsed());
        for ids in &made {
            raw_remove(&mut plain, ids);
        }
        let begun = clock();
        let names: Vec<String> = (0..30).map(|n| format!("pod-{n}")).collect();
        let node = &node;
        let made: Vec<_> = futures_util::stream::iter(&names)
            .map(|name| async move { node.pod(name, &SLEEP).await })
            .buffer_unordered(4)
            .collect()
            .await;
        ours.push(begun.elapsed());
        let all: Vec<&ContainerSeen> = made.iter().flat_map(|(pause, app)| [app, pause]).collect();
        node.remove(&all).await;
    }
    told("30 pods, floor at concurrency 4", floor);
    told("30 pods, adapter at concurrency 4", ours);

    told("container killed to hint", kills(&node).await);
    list_of_a_hundred(&node).await;
}

async fn kills(node: &Node<'_>) -> Vec<Duration> {
    let mut hints = node.docker.watch();
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let (pause, app) = node.pod("killed", &SLEEP).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        while hints.try_recv().is_ok() {}
        let pid = i32::try_from(app.pid().expect("it runs")).expect("a pid");
        let begun = clock();
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::SIGKILL)
            .expect("killed");
        hints.recv().await.expect("a hint");
        times.push(begun.elapsed());
        node.remove(&[&app, &pause]).await;
    }
    times
}

async fn list_of_a_hundred(node: &Node<'_>) {
    let pause = node.start(node.pause_spec("many")).await.expect("starts");
    let mut all = vec![pause.clone()];
    for n in 0..99 {
        let marks = node.marks("many", Role::App(Name::trusted(&format!("app-{n}"))));
        let spec = ContainerSpec {
            name: marks.container_name(),
            labels: marks.to_labels(),
            ..node.app_spec("many", &pause, &SLEEP)
        };
        all.push(node.start(spec).await.expect("starts"));
    }
    let mut cold = Vec::new();
    for _ in 0..ROUNDS {
        let begun = clock();
        assert_eq!(node.list().await.len(), 100);
        cold.push(begun.elapsed());
    }
    told("list of 100, Docker not heard", cold);
    let mut hints = node.docker.watch();
    hints.recv().await.expect("a resync");
    node.list().await;
    let (cpu_before, _) = own_cost();
    let mut warm = Vec::new();
    for _ in 0..101 {
        let begun = clock();
        assert_eq!(node.list().await.len(), 100);
        warm.push(begun.elapsed());
    }
    told("list of 100, Docker heard", warm);
    let (cpu_after, rss) = own_cost();
    println!(
        "one list of 100: {:.2} ms of our CPU; we are {rss} kB",
        (cpu_after - cpu_before) * 10.0
    );
    let floor: Vec<Duration> = (0..ROUNDS)
        .map(|_| {
            let begun = clock();
            let mut plain = node.host.plain();
            plain.get("/containers/json?all=1").expect("answers").expect(200);
            begun.elapsed()
        })
        .collect();
    told("list of 100, floor", floor);
    node.remove(&all.iter().rev().collect::<Vec<_>>()).await;
}
