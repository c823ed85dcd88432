//! What things cost, printed: `cargo test --test all measure -- --ignored --nocapture`.

#![allow(clippy::print_stderr, reason = "it prints what it measures")]
#![allow(clippy::too_many_lines, reason = "a list of measurements")]

use std::time::Duration;

use windlass::adapters::git::{Credentials, Source, SourceConfig, watch::Watch};
use windlass::ports::store::Register;

use super::conformance::{Backend as _, landed, look, node, put, read};
use super::source::{Shelf, fetch, survey};
use super::store_local::Local;
use super::store_remote::{over_git, over_http, over_ssh};
use crate::support::servers::{GitDaemon, Httpd, Sshd};

/// Milliseconds, gathered.
#[derive(Default)]
struct Times(Vec<f64>);

#[allow(clippy::disallowed_methods, reason = "measures time")]
fn clock() -> std::time::Instant {
    std::time::Instant::now()
}

impl Times {
    fn add(&mut self, since: std::time::Instant) {
        self.0.push(since.elapsed().as_secs_f64() * 1000.0);
    }

    fn print(&mut self, what: &str) {
        self.0.sort_by(f64::total_cmp);
        let at = |part: usize| self.0[(self.0.len() - 1) * part / 100];
        eprintln!(
            "{what:<52} n={:<4} min {:>7.2}  p50 {:>7.2}  p95 {:>7.2} ms",
            self.0.len(),
            at(0),
            at(50),
            at(95)
        );
    }
}

/// Bytes this process has caused to be written to disks.
fn written() -> u64 {
    let text = std::fs::read_to_string("/proc/self/io").expect("reads");
    let line = text.lines().find(|line| line.starts_with("write_bytes")).expect("a line");
    line.rsplit(' ').next().and_then(|n| n.parse().ok()).expect("a number")
}

#[tokio::test]
#[ignore = "measures"]
async fn measure_local_store() {
    let backend = Local::new();
    let a = backend.open("n1");
    let pods =
        (0..500).map(|n| put(&format!("pods/node-{}/pod-{n}", n % 50), &"x".repeat(300))).collect();
    let mut base = landed(&a, &Register::Coordinator, None, pods, "begin").await;
    let (mut commits, mut looks, mut reads) =
        (Times::default(), Times::default(), Times::default());
    let b = backend.open("n2");
    read(&b, &Register::Coordinator, &base).await.expect("reads");
    let before = written();
    for n in 0..300 {
        let path = format!("pods/node-{}/pod-{n}", n % 50);
        let edits =
            vec![put(&path, &format!("{n}{}", "y".repeat(300))), put("lease.json", &n.to_string())];
        let begun = clock();
        base = landed(&a, &Register::Coordinator, Some(&base), edits, "one pod").await;
        commits.add(begun);
        let begun = clock();
        look(&b).await;
        looks.add(begun);
        let begun = clock();
        read(&b, &Register::Coordinator, &base).await.expect("reads");
        reads.add(begun);
    }
    commits.print("local: commit of 1 of 500 pods and the lease, synced");
    eprintln!("local: bytes written per commit {}", (written() - before) / 300);
    looks.print("local: look");
    reads.print("local: read, 1 of 500 pods changed");
    let mut own = None;
    let mut times = Times::default();
    let before = written();
    for n in 0..100 {
        let begun = clock();
        own = Some(
            landed(&a, &node("n1"), own.as_ref(), vec![put("status", &n.to_string())], "s").await,
        );
        times.add(begun);
    }
    times.print("local: commit of a node's status");
    eprintln!("local: bytes written per status {}", (written() - before) / 100);
    let before = written();
    let mut own = own.expect("some");
    for _ in 0..20 {
        own = match super::conformance::beat(&a, &node("n1"), &own).await {
            Ok(windlass::ports::store::Landing::Landed(rev)) => rev,
            other => panic!("{other:?}"),
        };
    }
    let first_round = written() - before;
    let before = written();
    let mut times = Times::default();
    for _ in 0..100 {
        let begun = clock();
        own = match super::conformance::beat(&a, &node("n1"), &own).await {
            Ok(windlass::ports::store::Landing::Landed(rev)) => rev,
            other => panic!("{other:?}"),
        };
        times.add(begun);
    }
    times.print("local: beat");
    eprintln!(
        "local: bytes per beat {} (first round {})",
        (written() - before) / 100,
        first_round / 20
    );
    let begun = clock();
    let before = written();
    a.perform(windlass::ports::store::Call::Compact).await.expect("compacts");
    let mut times = Times::default();
    times.add(begun);
    times.print("local: compact after 400 commits");
    eprintln!("local: bytes written by compaction {}", written() - before);
}

async fn measure_remote(what: &str, backend: &dyn super::conformance::Backend) {
    let a = backend.open("n1");
    let b = backend.open("n2");
    let pods =
        (0..500).map(|n| put(&format!("pods/node-{}/pod-{n}", n % 50), &"x".repeat(300))).collect();
    let mut base = landed(&a, &Register::Coordinator, None, pods, "begin").await;
    look(&b).await;
    let (mut commits, mut looks, mut news, mut reads) =
        (Times::default(), Times::default(), Times::default(), Times::default());
    for n in 0..20 {
        let path = format!("pods/node-{}/pod-{n}", n % 50);
        let edits = vec![put(&path, &format!("{n}")), put("lease.json", &n.to_string())];
        let begun = clock();
        base = landed(&a, &Register::Coordinator, Some(&base), edits, "one pod").await;
        commits.add(begun);
        let begun = clock();
        look(&b).await;
        news.add(begun);
        let begun = clock();
        read(&b, &Register::Coordinator, &base).await.expect("reads");
        reads.add(begun);
        let begun = clock();
        look(&b).await;
        looks.add(begun);
    }
    commits.print(&format!("{what}: commit"));
    looks.print(&format!("{what}: look, nothing new"));
    news.print(&format!("{what}: look that brings a changed register"));
    reads.print(&format!("{what}: read of it"));
}

#[tokio::test]
#[ignore = "measures"]
async fn measure_remote_stores() {
    measure_remote("git", &over_git()).await;
    measure_remote("http", &over_http()).await;
    measure_remote("ssh", &over_ssh()).await;
}

#[tokio::test]
#[ignore = "measures"]
async fn measure_source() {
    let shelf = Shelf::new();
    for n in 0..10_000 {
        let text = format!(
            "kind: ConfigMap\nmetadata:\n  name: c{n}\ndata:\n  k: {}\n",
            "v".repeat(n % 900)
        );
        shelf.write(&format!("d{}/f{n}.yaml", n % 100), &text);
    }
    let mut tip = shelf.push("10,000 files");
    let mut times = Times::default();
    let source = Source::open(shelf.config()).expect("opens");
    let begun = clock();
    fetch(&source).await.expect("fetches");
    times.add(begun);
    times.print("path: first fetch of 10,000 files");
    for what in ["cold", "again, nothing changed"] {
        let mut times = Times::default();
        let begun = clock();
        let seen = survey(&source, &tip, None).await.expect("lists");
        times.add(begun);
        times.print(&format!("survey of 10,000 files, {what}"));
        assert_eq!(seen.files.len(), 10_000);
    }
    let seen = survey(&source, &tip, None).await.expect("lists");
    for _ in 0..3 {
        let mut times = Times::default();
        let begun = clock();
        super::source::read(&source, &seen.files).await.expect("reads");
        times.add(begun);
        times.print("read of 10,000 blobs");
    }
    let daemon = GitDaemon::start(shelf.dir.path());
    let httpd = Httpd::start(shelf.dir.path());
    let sshd = Sshd::start();
    let remotes = [
        ("path", shelf.bare().display().to_string(), Credentials::default()),
        ("git", daemon.url("desired.git"), Credentials::default()),
        (
            "http",
            httpd.url("git", "desired.git"),
            Credentials { password_file: Some(httpd.file("password")), ..Credentials::default() },
        ),
        (
            "ssh",
            sshd.url(&shelf.bare()),
            Credentials {
                ssh_key: Some(sshd.file("client")),
                known_hosts: Some(sshd.known_hosts("hosts", &sshd.known_host("host_ed25519"))),
                ..Credentials::default()
            },
        ),
    ];
    drop(source);
    for (what, url, credentials) in remotes {
        let source = Source::open(SourceConfig {
            credentials,
            cache: shelf.dir.path().join(format!("cache-{what}")),
            ..shelf.config_for(&url)
        })
        .expect("opens");
        let (mut fetches, mut surveys, mut idle) =
            (Times::default(), Times::default(), Times::default());
        let begun = clock();
        fetch(&source).await.expect("fetches");
        let mut first = Times::default();
        first.add(begun);
        first.print(&format!("{what}: first fetch"));
        survey(&source, &tip, None).await.expect("lists");
        for n in 0..20 {
            let before = tip.clone();
            shelf.write("d7/f7.yaml", &format!("{what} {n}"));
            tip = shelf.push("one file");
            let begun = clock();
            fetch(&source).await.expect("fetches");
            fetches.add(begun);
            let begun = clock();
            survey(&source, &tip, Some(&before)).await.expect("lists");
            surveys.add(begun);
            let begun = clock();
            fetch(&source).await.expect("fetches");
            idle.add(begun);
        }
        fetches.print(&format!("{what}: fetch of one new commit"));
        idle.print(&format!("{what}: fetch, nothing new"));
        surveys.print("survey after one of 10,000 changed");
    }
    let (_watch, mut bell) = Watch::start(&shelf.bare());
    let mut times = Times::default();
    for n in 0..20 {
        while tokio::time::timeout(Duration::from_millis(300), bell.recv()).await.is_ok() {}
        shelf.git(&["commit", "-q", "--allow-empty", "-m", &n.to_string()]);
        let work = shelf.work();
        let push = std::thread::spawn(move || {
            crate::support::must_git(&work, &["push", "-q", "origin", "HEAD:main"]);
            clock()
        });
        bell.recv().await.expect("rings");
        let rang = clock();
        let ended = push.join().expect("pushes");
        times.0.push(if rang > ended { (rang - ended).as_secs_f64() * 1000.0 } else { 0.0 });
    }
    times.print("path: the bell rings after `git push` has ended by");
}
