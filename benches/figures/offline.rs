//! What it costs to carry a fleet's images by hand, and to hand them from node to node.
//!
//! The image is of this machine's own programs, so that it packs as images do. The floors are what
//! people do without us: `docker save | zstd`, `sha256sum`, `cp` and `sync`, `docker save | docker load`.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;
use windlass::adapters::docker::archive::{self, Archive, Entry};

use crate::row::Row;
use crate::support::lab::{Fleet, node_of};
use crate::support::must_git;
use crate::support::shore::{Shore, sleeper};
use crate::support::site::{NAMESPACE, Site, is_ready};

const ROUNDS: usize = 3;
/// So large the image is at most.
const BYTES_MAX: usize = 200 << 20;

/// Rows' targets are so many times the floor.
const SLACK: f64 = 1.5;

/// Programs that every machine has on which this runs, as one image.
fn programs(name: &str) -> Archive {
    let own = std::env::current_exe().expect("a path");
    let others = ["/bin/busybox", "/usr/sbin/dockerd", "/usr/bin/containerd", "/usr/bin/docker"];
    let paths = others.iter().map(Path::new).chain([&*own]);
    let mut room = BYTES_MAX;
    let files: Vec<(String, Vec<u8>)> = paths
        .filter_map(|path| {
            let mut content = fs::read(path).ok()?;
            content.truncate(room);
            room -= content.len();
            Some((format!("bin/{}", path.file_name()?.to_string_lossy()), content))
        })
        .collect();
    let mut entries = vec![Entry::Directory { path: "bin", mode: 0o755 }];
    entries.extend(files.iter().map(|(path, content)| Entry::File { path, content, mode: 0o755 }));
    entries.push(Entry::Link { path: "bin/sleep", target: "busybox" });
    archive::image(name, &entries, &json!({"Env": ["PATH=/bin"]})).expect("an image can be made")
}

fn best(mut run: impl FnMut() -> Duration) -> Duration {
    (0..ROUNDS).map(|_| run()).min().unwrap_or_default()
}

/// How long a line of shell takes.
fn shell(line: &str) -> Duration {
    let began = Instant::now();
    let status = Command::new("sh").args(["-ec", line]).stdout(Stdio::null()).status();
    assert!(status.is_ok_and(|status| status.success()), "{line}");
    began.elapsed()
}

fn beside(what: &str, here: Duration, floor: Duration) -> Row {
    Row::time(what, here, floor.as_secs_f64() * SLACK).floor(floor)
}

/// A bundle made, checked and taken in.
fn bundle(site: &Site) -> Option<Vec<Row>> {
    let image = "registry.invalid/bench/programs:1";
    let saved = programs(image);
    let megabytes = saved.tar.len() >> 20;
    site.push("The namespace", &[("namespace.yaml", Some(NAMESPACE))]);
    let shore = Shore::new(&site.desired())?;
    site.host.load(&saved);
    drop(saved);
    shore.commit("The programs", &[("programs.yaml", &sleeper("programs", image))]);
    let mut made = Default::default();
    let create = best(|| {
        for entry in fs::read_dir(shore.dir.path()).expect("read").flatten() {
            if entry.file_name().to_string_lossy().starts_with("bench.wb") {
                fs::remove_file(entry.path()).expect("removed");
            }
        }
        let began = Instant::now();
        made = shore.create(site, "bench.wb", &["--no-registry"]).expect("made");
        began.elapsed()
    });
    let docker = format!("docker -H unix://{}", site.host.socket().display());
    let packed = shore.path("packed").display().to_string();
    let save = best(|| {
        shell(&format!("{docker} save {image} | zstd -q -3 -f -o {packed}; sync {packed}"))
    });

    let signers = shore.path("signers").display().to_string();
    let one = made.display().to_string();
    let program = env!("CARGO_BIN_EXE_windlass");
    let verify = best(|| shell(&format!("{program} bundle verify {one} --signers {signers}")));
    let hash = best(|| shell(&format!("sha256sum {one}")));

    let apply = best(|| {
        let place = crate::support::scratch("wbench-apply-");
        must_git(place.path(), &["init", "-q", "--bare", "-b", "main", "desired.git"]);
        let config = place.path().join("agent.yaml");
        let text = json!({
            "node": {"name": "n9"},
            "desired": {"url": place.path().join("desired.git")},
            "dataDir": place.path().join("data"),
        });
        fs::write(&config, text.to_string()).expect("written");
        let began = Instant::now();
        shore.apply_to(&config, &made, &[]).expect("taken in");
        began.elapsed()
    });
    let copy = best(|| shell(&format!("cp {one} {packed}; sync {packed}; sha256sum {packed}")));
    Some(vec![
        beside(&format!("bundle of an image of {megabytes} MB made, from Docker"), create, save),
        beside("the same checked", verify, hash),
        beside("the same taken in", apply, copy),
    ])
}

/// From a push until a pod runs whose image only another node's Docker has.
fn from_a_peer() -> Option<Row> {
    let fleet = Fleet::settled()?;
    let place = crate::support::scratch("wbench-peer-");
    let docker =
        |node: &str| format!("docker -H unix://{}", fleet.lab.host(node).socket().display());
    let mut best = Duration::MAX;
    let mut floor = Duration::MAX;
    for round in 0..ROUNDS {
        let image = format!("registry.invalid/bench/programs:{round}");
        let path = place.path().join("image.tar");
        fs::write(&path, programs(&image).tar).expect("written");
        fleet.lab.load_image("n2", &path).expect("loaded");
        let [from, to] = ["n2", "n3"].map(docker);
        floor = floor.min(shell(&format!("{from} save {image} | {to} load -q")));
        shell(&format!("{to} rmi {image}"));
        let name = format!("peer-{round}");
        let manifest =
            sleeper(&name, &image).replace("    spec:\n", "    spec:\n      nodeName: n3\n");
        let began = Instant::now();
        fleet.push("A pod", &[("extra-peer.yaml", &manifest)]);
        fleet.wait("its image", || {
            let pods = fleet.pods("n3");
            let ready = |(pod, shown): (&String, &serde_json::Value)| {
                pod.starts_with(&name) && node_of(shown) == "n3" && is_ready(shown)
            };
            pods.iter().any(ready).then_some(())
        });
        best = best.min(began.elapsed());
    }
    Some(beside("push → a pod ready, its image of another node's Docker", best, floor))
}

/// All of it; nothing where this machine can't have a Docker.
pub(crate) fn rows() -> Vec<Row> {
    let Some(mut rows) = Site::start("wbench-").and_then(|site| bundle(&site)) else {
        return Vec::new();
    };
    rows.extend(from_a_peer());
    rows
}
