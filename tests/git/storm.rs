//! Kills, crowds and full disks: real processes that write through the adapter.
//!
//! A child is this very program, started again with one test and an environment that says what to
//! do. It prints `ACK n` after each write that it was told has landed.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use windlass::adapters::git::{Source, SourceConfig, Store, StoreConfig};
use windlass::kinds::binding::Generation;
use windlass::kinds::name::{Name, NodeName};
use windlass::ports::FaultKind;
use windlass::ports::store::{Answer, Call, Landing, Register};

use super::conformance::{
    Backend as _, commit, count, fsck, history, landed, look, node, put, raise, read,
};
use super::source::Shelf;
use super::store_local::Local;
use crate::support::servers::GitDaemon;
use crate::support::{is_root, must_git, scratch};

fn open(url: &str, node: NodeName, data: PathBuf) -> Store {
    let config = StoreConfig { timeouts: super::timeouts(), ..StoreConfig::new(url, node, data) };
    Store::open(config).expect("opens")
}

const JOB: &str = "WGIT_CHILD_JOB";
const STORE: &str = "WGIT_CHILD_STORE";
const NODE: &str = "WGIT_CHILD_NODE";

/// A child that is killed with its owner.
struct Kid {
    child: Child,
    acks: Receiver<usize>,
}

impl Kid {
    fn start(job: &str, store: &Path, node: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("our program"))
            .args(["--exact", "git::storm::child", "--ignored", "--nocapture"])
            .env(JOB, job)
            .env(STORE, store)
            .env(NODE, node)
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()
            .expect("starts");
        let out = BufReader::new(child.stdout.take().expect("a pipe"));
        let (tell, acks) = channel();
        std::thread::spawn(move || {
            for line in out.lines().map_while(Result::ok) {
                if let Some(n) = line.strip_prefix("ACK ").and_then(|n| n.parse().ok()) {
                    let _ = tell.send(n);
                }
            }
        });
        Self { child, acks }
    }

    /// SIGKILL, at a random moment after its first write; returns the last acknowledged number.
    fn kill_within(mut self, millis: u64) -> usize {
        let first = self.acks.recv_timeout(Duration::from_secs(60)).expect("a first write");
        std::thread::sleep(Duration::from_micros(roll(millis * 1000)));
        self.child.kill().expect("kills");
        self.child.wait().expect("ends");
        // The reader ends with the pipe, and its sender with it.
        self.acks.iter().last().unwrap_or(first)
    }

    fn finish(mut self) -> Vec<usize> {
        assert!(self.child.wait().expect("ends").success());
        self.acks.iter().collect()
    }
}

impl Drop for Kid {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
#[ignore = "started by the other tests of this file"]
async fn child() {
    let Ok(job) = std::env::var(JOB) else { return };
    let store = PathBuf::from(std::env::var(STORE).expect("a store"));
    let name = std::env::var(NODE).expect("a node");
    let ack = |n: usize| {
        let mut out = std::io::stdout().lock();
        writeln!(out, "ACK {n}").and_then(|()| out.flush()).expect("prints");
    };
    let data = store.with_file_name(format!("data-{name}"));
    let copy = store.with_file_name("copy");
    let url = store.display().to_string();
    let store = open(&url, Name::trusted(&name), data);
    match job.split_once(' ').unwrap_or((&job, "")) {
        ("raise", times) => {
            for n in 0..times.parse().expect("a number") {
                raise(&store, &Register::Coordinator).await;
                ack(n);
            }
        }
        ("raise-for-ever", _) => loop {
            raise(&store, &Register::Coordinator).await;
            let glance = look(&store).await;
            let rev = glance.coordinator.expect("written");
            let tree = read(&store, &Register::Coordinator, &rev).await.expect("reads");
            let number = count(&tree);
            ack(number);
            let own = Name::trusted(&name);
            let edits = vec![put("n", &number.to_string())];
            landed(&store, &node(&name), glance.nodes.get(&own), edits, "beat").await;
            let fence = Generation { epoch: 1, number: number as u64 };
            store.perform(Call::Fence(fence)).await.expect("raises");
        },
        ("compact-for-ever", _) => loop {
            for _ in 0..20 {
                raise(&store, &Register::Coordinator).await;
            }
            let rev = look(&store).await.coordinator.expect("written");
            let tree = read(&store, &Register::Coordinator, &rev).await.expect("reads");
            ack(count(&tree));
            store.perform(Call::Compact).await.expect("compacts");
        },
        ("fetch", url) => {
            let source = Source::open(SourceConfig {
                timeouts: super::timeouts(),
                ..SourceConfig::new(url, copy)
            })
            .expect("opens");
            for _ in 0..2 {
                let fault = super::source::fetch(&source).await.expect_err("no room");
                assert_eq!(fault.kind, FaultKind::Stalled, "{fault}");
                assert!(fault.message.contains("free"), "{fault}");
                ack(0);
            }
        }
        other => panic!("unknown job {other:?}"),
    }
}

/// A number from 0 to `below`, different each time; the kills are meant to be random.
fn roll(below: u64) -> u64 {
    use std::hash::{BuildHasher as _, Hasher as _, RandomState};
    RandomState::new().build_hasher().finish() % below
}

fn locks_left(store: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut look_in = vec![store.join("refs"), store.to_path_buf()];
    while let Some(dir) = look_in.pop() {
        for entry in std::fs::read_dir(&dir).expect("lists").flatten() {
            let path = entry.path();
            if path.is_dir() && dir != store {
                look_in.push(path);
            } else if path.extension().is_some_and(|e| e == "lock") {
                found.push(path);
            }
        }
    }
    found
}

async fn stored(store: &Store) -> usize {
    let Some(rev) = look(store).await.coordinator else {
        return 0;
    };
    count(&read(store, &Register::Coordinator, &rev).await.expect("reads"))
}

#[tokio::test(flavor = "multi_thread")]
async fn eight_processes_lose_no_write() {
    let backend = Local::new();
    let kids: Vec<Kid> =
        (0..8).map(|n| Kid::start("raise 40", &backend.store(), &format!("p{n}"))).collect();
    for kid in kids {
        assert_eq!(kid.finish().len(), 40);
    }
    assert_eq!(stored(&backend.open("judge")).await, 320);
    fsck(&backend.store());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hundred_kills_lose_no_acknowledged_write_and_leave_no_lock() {
    let backend = Local::new();
    let store = backend.store();
    let mut stale = 0;
    let mut acknowledged = 0;
    let mut fence = 0;
    for round in 0..120 {
        let kid = Kid::start("raise-for-ever", &store, "n1");
        acknowledged = kid.kill_within(60);
        stale += locks_left(&store).len();
        let judge = backend.open("judge");
        let now = stored(&judge).await;
        assert!(
            now >= acknowledged && now <= acknowledged + 1,
            "round {round}: {now} stored, {acknowledged} acknowledged"
        );
        // One more write, by somebody else, must work at once.
        raise(&judge, &Register::Coordinator).await;
        acknowledged = now + 1;
        // The fence is never behind what was acted on, and never torn.
        let again = open(
            &store.display().to_string(),
            Name::trusted("n1"),
            store.with_file_name("data-n1"),
        );
        let seen = look(&again).await.fence.number;
        assert!(seen >= fence, "{seen} < {fence}");
        fence = seen;
        let own = look(&again).await.nodes.get(&Name::trusted("n1")).cloned();
        landed(&again, &node("n1"), own.as_ref(), vec![put("n", "-")], "recovered").await;
        assert_eq!(locks_left(&store), Vec::<PathBuf>::new(), "round {round}");
    }
    eprintln!("120 kills: {acknowledged} writes, {stale} stale locks met and removed");
    assert!(acknowledged > 120, "the children hardly wrote: {acknowledged}");
    fsck(&store);
    // What killed writers left is cleared.
    let judge = backend.open("judge");
    judge.perform(Call::Compact).await.expect("compacts");
    let litter = std::fs::read_dir(store.join("objects"))
        .expect("lists")
        .flatten()
        .filter(|e| e.file_name().to_string_lossy().starts_with("tmp_object"))
        .count();
    assert_eq!(litter, 0);
    assert_eq!(stored(&judge).await, acknowledged);
    fsck(&store);
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_killed_anywhere_loses_nothing() {
    let backend = Local::new();
    let store = backend.store();
    let (mut compacted, mut cut_short) = (0, 0);
    for round in 0..40 {
        // Enough to be worth compacting.
        let writer = backend.open("writer");
        let many = (0..600).map(|n| put(&format!("f/{n}"), &format!("{round}-{n}"))).collect();
        let base = look(&writer).await.coordinator;
        if round % 4 == 0 {
            landed(&writer, &Register::Coordinator, base.as_ref(), many, "many").await;
        }
        drop(writer);
        let loose = pack_count(&store);
        let kid = Kid::start("compact-for-ever", &store, "n1");
        let acknowledged = kid.kill_within(150);
        if pack_count(&store) < loose {
            compacted += 1;
        }
        cut_short += usize::from(half_done(&store));
        let judge = backend.open("judge");
        let now = stored(&judge).await;
        assert!(
            now >= acknowledged && now <= acknowledged + 20,
            "round {round}: {now} stored, {acknowledged} acknowledged"
        );
        if round % 8 == 7 {
            fsck(&store);
        }
    }
    eprintln!(
        "40 kills: {compacted} compactions had removed something, {cut_short} were cut short"
    );
    assert!(compacted > 0 && cut_short > 0, "compaction hardly ran");
    let judge = backend.open("judge");
    judge.perform(Call::Compact).await.expect("compacts");
    let rev = look(&judge).await.coordinator.expect("written");
    let tree = read(&judge, &Register::Coordinator, &rev).await.expect("reads");
    assert_eq!(tree.files.len(), 601);
    assert_eq!(&*tree.files["f/599"], b"36-599");
    let older = history(&judge, 1000).await;
    let first = &older.last().expect("some").rev;
    read(&judge, &Register::Coordinator, first).await.expect("reads");
    fsck(&store);
}

fn half_done(store: &Path) -> bool {
    let mut entries = std::fs::read_dir(store.join("objects")).expect("lists").flatten();
    entries.any(|e| e.file_name().to_string_lossy().starts_with("windlass-new-"))
}

fn pack_count(store: &Path) -> usize {
    let out = must_git(store, &["count-objects", "-v"]);
    let line = out.lines().find_map(|line| line.strip_prefix("packs: "));
    line.and_then(|n| n.parse().ok()).expect("a number")
}

/// A small file system of its own, unmounted with its owner.
struct Disk {
    dir: tempfile::TempDir,
}

impl Disk {
    fn new(size: &str) -> Self {
        let dir = scratch("wgit-disk-");
        let out = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "wgit-disk"])
            .arg(dir.path())
            .output()
            .expect("mount runs");
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        Self { dir }
    }

    fn free(&self) -> u64 {
        let out = Command::new("df")
            .args(["--output=avail", "-B1"])
            .arg(self.dir.path())
            .output()
            .expect("df runs");
        let text = String::from_utf8_lossy(&out.stdout).into_owned();
        text.lines().last().and_then(|n| n.trim().parse().ok()).expect("a number")
    }

    /// Leaves so many bytes free.
    fn fill(&self, but: u64) {
        let size = self.free().saturating_sub(but);
        let block = vec![7u8; usize::try_from(size).expect("small")];
        std::fs::write(self.dir.path().join("filler"), block).expect("fills");
    }

    fn empty(&self) {
        std::fs::remove_file(self.dir.path().join("filler")).expect("empties");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.dir.path()).status();
    }
}

/// libgit2 writes packs through mapped memory, where a full disk is a signal that kills.
#[tokio::test(flavor = "multi_thread")]
async fn a_fetch_onto_a_full_disk_is_refused_and_does_not_kill() {
    if !is_root("a_fetch_onto_a_full_disk_is_refused_and_does_not_kill") {
        return;
    }
    let shelf = Shelf::new();
    let noise = || -> String { (0..90_000).map(|_| format!("{:016x}", roll(u64::MAX))).collect() };
    for n in 0..4 {
        shelf.write(&format!("noise-{n}"), &noise());
    }
    shelf.push("more than there is room for");
    let daemon = GitDaemon::start(shelf.dir.path());
    for url in [daemon.url("desired.git"), shelf.bare().display().to_string()] {
        // None to begin with, and some that is used up on the way.
        for size in ["2m", "18m"] {
            let disk = Disk::new(size);
            let path = disk.dir.path().join("state.git");
            let kid = Kid::start(&format!("fetch {url}"), &path, "n1");
            assert_eq!(kid.finish(), [0, 0], "{url} {size}");
        }
    }
}

#[tokio::test]
async fn a_full_disk_is_said_clearly_loses_nothing_and_passes() {
    if !is_root("a_full_disk_is_said_clearly_loses_nothing_and_passes") {
        return;
    }
    let disk = Disk::new("40m");
    let path = disk.dir.path().join("state.git");
    let data = disk.dir.path().join("data");
    let url = path.display().to_string();
    let store = open(&url, Name::trusted("n1"), data);
    let fence = |number| Call::Fence(Generation { epoch: 1, number });
    let mut base = landed(&store, &Register::Coordinator, None, vec![put("a", "0")], "0").await;
    store.perform(fence(1)).await.expect("raises");
    let (mut refused, mut fence_refused) = (0, 0);
    let mut known = look(&store).await.fence;
    // Different amounts of room, so that it ends at a blob, a tree, the commit, the ref.
    for pages in 0..16u64 {
        disk.fill(pages * 4096);
        let edits = vec![put("a", &format!("{pages} {}", "x".repeat(2000))), put("d/e/b", "y")];
        match commit(&store, &Register::Coordinator, Some(&base), edits, "more").await {
            Ok(Landing::Landed(rev)) => base = rev,
            Ok(other) => panic!("{other:?}"),
            Err(fault) => {
                refused += 1;
                assert_eq!(fault.kind, FaultKind::Stalled, "{fault}");
                assert!(fault.message.contains("free some space"), "{fault}");
            }
        }
        match store.perform(fence(100 + pages)).await {
            Ok(_) => known.number = 100 + pages,
            Err(fault) => {
                fence_refused += 1;
                assert_eq!(fault.kind, FaultKind::Stalled, "{fault}");
            }
        }
        let glance = look(&store).await;
        assert_eq!(glance.coordinator, Some(base.clone()), "{pages}");
        assert_eq!(glance.fence.number, known.number, "{pages}");
        read(&store, &Register::Coordinator, &base).await.expect("reads");
        disk.empty();
        let next = vec![put("n", &pages.to_string())];
        base = landed(&store, &Register::Coordinator, Some(&base), next, "goes on").await;
        assert_eq!(locks_left(&path), Vec::<PathBuf>::new());
    }
    assert!(refused >= 3 && fence_refused >= 1, "{refused} {fence_refused}");
    // Compaction with no room fails as clearly, and breaks nothing.
    let many = (0..600).map(|n| put(&format!("f/{n}"), &n.to_string())).collect();
    base = landed(&store, &Register::Coordinator, Some(&base), many, "many").await;
    disk.fill(8192);
    let fault = store.perform(Call::Compact).await.expect_err("no room");
    assert!(fault.message.contains("free some space"), "{fault}");
    assert_eq!(look(&store).await.coordinator, Some(base.clone()));
    disk.empty();
    assert!(matches!(store.perform(Call::Compact).await, Ok(Answer::Compacted)));
    assert_eq!(read(&store, &Register::Coordinator, &base).await.expect("reads").files.len(), 603);
    fsck(&path);
}
