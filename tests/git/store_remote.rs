//! The state store behind real servers.

use std::path::PathBuf;
use std::time::Duration;

use windlass::adapters::git::{Credentials, StoreConfig};
use windlass::kinds::name::Name;
use windlass::ports::FaultKind;
use windlass::ports::store::{Call, Landing, Register, Scope};

use super::conformance::{self, Backend, commit, fsck, landed, look, node, put, read, recall};
use super::source::spoil;
use crate::support::servers::{Cut, GitDaemon, Httpd, Sshd, Wire, have_servers};
use crate::support::{must_git, scratch};

/// A bare repository behind a server.
pub(crate) struct Remote<S> {
    dir: tempfile::TempDir,
    server: S,
    url: String,
    credentials: Credentials,
}

impl<S> Remote<S> {
    fn new(reach: impl FnOnce(&std::path::Path) -> (S, String, Credentials)) -> Self {
        let dir = scratch("wgit-remote-");
        must_git(dir.path(), &["init", "-q", "--bare", "state.git"]);
        let (server, url, credentials) = reach(dir.path());
        Self { dir, server, url, credentials }
    }
}

pub(crate) fn over_git() -> Remote<GitDaemon> {
    Remote::new(|root| {
        let server = GitDaemon::start(root);
        let url = server.url("state.git");
        (server, url, Credentials::default())
    })
}

pub(crate) fn over_http() -> Remote<Httpd> {
    Remote::new(|root| {
        let server = Httpd::start(root);
        let url = server.url("git", "state.git");
        let credentials =
            Credentials { password_file: Some(server.file("password")), ..Credentials::default() };
        (server, url, credentials)
    })
}

pub(crate) fn over_ssh() -> Remote<Sshd> {
    Remote::new(|root| {
        let server = Sshd::start();
        let url = server.url(&root.join("state.git"));
        let hosts = server.known_hosts("hosts", &server.known_host("host_ed25519"));
        let credentials = Credentials {
            ssh_key: Some(server.file("client")),
            known_hosts: Some(hosts),
            ..Credentials::default()
        };
        (server, url, credentials)
    })
}

impl<S> Backend for Remote<S> {
    fn config(&self, node: &str) -> StoreConfig {
        StoreConfig {
            credentials: self.credentials.clone(),
            timeouts: super::timeouts(),
            ..StoreConfig::new(&self.url, Name::trusted(node), self.dir.path().join(node))
        }
    }

    fn repository(&self) -> PathBuf {
        self.dir.path().join("state.git")
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_over_git_daemon_does_what_a_store_must() {
    let backend = over_git();
    conformance::all(&backend).await;
    fsck(&backend.repository());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_over_http_does_what_a_store_must() {
    if !have_servers("a_store_over_http_does_what_a_store_must") {
        return;
    }
    let backend = over_http();
    conformance::all(&backend).await;
    fsck(&backend.repository());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_over_ssh_does_what_a_store_must() {
    if !have_servers("a_store_over_ssh_does_what_a_store_must") {
        return;
    }
    let backend = over_ssh();
    conformance::all(&backend).await;
    fsck(&backend.repository());
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_over_git_daemon_lose_no_write() {
    let backend = over_git();
    conformance::no_write_is_lost(&backend, 6, 12).await;
    fsck(&backend.repository());
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_over_http_lose_no_write() {
    if !have_servers("writers_over_http_lose_no_write") {
        return;
    }
    let backend = over_http();
    conformance::no_write_is_lost(&backend, 6, 8).await;
    fsck(&backend.repository());
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_over_ssh_lose_no_write() {
    if !have_servers("writers_over_ssh_lose_no_write") {
        return;
    }
    let backend = over_ssh();
    conformance::no_write_is_lost(&backend, 4, 5).await;
    fsck(&backend.repository());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_six_makes_a_register_over_git_daemon() {
    conformance::one_creator_wins(|_| Box::new(over_git()), 5, 6).await;
}

/// A store whose wire can be cut.
fn over_wire() -> (Remote<GitDaemon>, Wire) {
    let mut backend = over_git();
    let wire = Wire::to(backend.server.port);
    backend.url = format!("git://127.0.0.1:{}/state.git", wire.port());
    (backend, wire)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_whose_answer_is_lost_is_found_out() {
    let (backend, wire) = over_wire();
    let a = backend.open("n1");
    let mut base = landed(&a, &Register::Coordinator, None, vec![put("n", "0")], "0").await;
    // The server took it; its answer did not come.
    wire.cut(Cut::Answer);
    for n in 1..4 {
        let edits = vec![put("n", &n.to_string())];
        base = landed(&a, &Register::Coordinator, Some(&base), edits, "more").await;
    }
    // Nor can it be asked again: then nobody knows, and that is said.
    wire.cut(Cut::AnswerAndAll);
    let unknown =
        commit(&a, &Register::Coordinator, Some(&base), vec![put("n", "9")], "last").await;
    let fault = unknown.expect_err("not known");
    assert_eq!(fault.kind, FaultKind::Deadline, "{fault}");
    let refused = commit(&a, &Register::Coordinator, Some(&base), vec![put("n", "x")], "x").await;
    assert_eq!(refused.expect_err("away").kind, FaultKind::Transient);
    wire.cut(Cut::None);
    let now = look(&a).await.coordinator.expect("written");
    assert_eq!(&*read(&a, &Register::Coordinator, &now).await.expect("reads").files["n"], b"9");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_server_the_last_state_is_recalled() {
    let (backend, wire) = over_wire();
    let a = backend.open("n1");
    let rev = landed(&a, &Register::Coordinator, None, vec![put("n", "0")], "0").await;
    let b = backend.open("n2");
    let own = landed(&b, &node("n2"), None, vec![put("s", "x")], "up").await;
    assert_eq!(look(&b).await.coordinator, Some(rev.clone()));
    wire.cut(Cut::All);
    drop(b);
    // An agent that starts now.
    let b = backend.open("n2");
    assert_eq!(
        b.perform(Call::Look(Scope::All)).await.expect_err("away").kind,
        FaultKind::Transient
    );
    let recalled = recall(&b).await;
    assert_eq!(recalled.coordinator, Some(rev.clone()));
    assert_eq!(recalled.nodes.get(&Name::trusted("n2")), Some(&own));
    // The coordinator's register was brought by looking.
    assert_eq!(&*read(&b, &Register::Coordinator, &rev).await.expect("reads").files["n"], b"0");
    wire.cut(Cut::None);
    assert_eq!(look(&b).await.coordinator, Some(rev));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_refuses_is_understood() {
    let backend = over_git();
    let a = backend.open("n1");
    let rev = landed(&a, &Register::Coordinator, None, vec![put("n", "0")], "0").await;
    let write = async || {
        commit(&a, &Register::Coordinator, Some(&rev), vec![put("n", "1")], "1")
            .await
            .expect_err("refused")
    };
    let lock = backend.repository().join("refs/windlass/coordinator.lock");
    std::fs::write(&lock, "").expect("writes");
    let fault = write().await;
    assert_eq!(fault.kind, FaultKind::Transient, "{fault}");
    assert!(fault.message.contains(".lock"), "{fault}");
    std::fs::remove_file(&lock).expect("removes");
    let hook = backend.repository().join("hooks/pre-receive");
    std::fs::create_dir_all(hook.parent().expect("a parent")).expect("makes");
    std::fs::write(&hook, "#!/bin/sh\nexit 1\n").expect("writes");
    crate::support::must_run("chmod", &["+x", &hook.display().to_string()]);
    let fault = write().await;
    assert_eq!(fault.kind, FaultKind::Stalled, "{fault}");
    std::fs::remove_file(&hook).expect("removes");
    must_git(&backend.repository(), &["config", "daemon.receivepack", "false"]);
    let fault = write().await;
    assert_eq!(fault.kind, FaultKind::Stalled, "{fault}");
    assert_eq!(look(&a).await.coordinator, Some(rev));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_copy_costs_a_fetch() {
    for pattern in ["*/HEAD", "*/refs/windlass/coordinator", "*/objects/*"] {
        for running in [false, true] {
            let what = format!("{pattern}, running: {running}");
            let backend = over_git();
            let mut a = Some(backend.open("n1"));
            let store = a.as_ref().expect("open");
            let first = landed(store, &Register::Coordinator, None, vec![put("n", "0")], "0").await;
            let edits = vec![put("n", "1"), put("m", "1")];
            let rev = landed(store, &Register::Coordinator, Some(&first), edits, "1").await;
            if !running {
                a = None;
            }
            let copy = backend.dir.path().join("n1/state.git");
            assert!(spoil(&copy, pattern) > 0, "{what}");
            let a = a.unwrap_or_else(|| backend.open("n1"));
            assert_eq!(look(&a).await.coordinator, Some(rev.clone()), "{what}");
            let tree = read(&a, &Register::Coordinator, &rev).await.expect(&what);
            assert_eq!(&*tree.files["n"], b"1", "{what}");
            let edits = vec![put("n", "2")];
            let next = commit(&a, &Register::Coordinator, Some(&rev), edits, "2").await;
            assert!(matches!(next, Ok(Landing::Landed(_))), "{what}: {next:?}");
            fsck(&backend.repository());
        }
    }
}

/// As a power cut leaves it.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_in_the_copy_is_cleared_with_the_next_start() {
    let backend = over_git();
    let (a, b) = (backend.open("n1"), backend.open("n2"));
    let first = landed(&a, &Register::Coordinator, None, vec![put("n", "0")], "0").await;
    look(&b).await;
    drop(b);
    let copy = backend.dir.path().join("n2/state.git");
    let locks =
        ["refs/windlass/coordinator.lock", "refs/windlass/nodes/n1.lock", "packed-refs.lock"];
    std::fs::create_dir_all(copy.join("refs/windlass/nodes")).expect("made");
    for lock in locks {
        std::fs::write(copy.join(lock), "").expect("written");
    }
    let edits = vec![put("n", "1")];
    let next = landed(&a, &Register::Coordinator, Some(&first), edits, "1").await;
    let b = backend.open("n2");
    assert_eq!(look(&b).await.coordinator, Some(next.clone()));
    let tree = read(&b, &Register::Coordinator, &next).await.expect("is brought along");
    assert_eq!(&*tree.files["n"], b"1");
    assert!(locks.iter().all(|lock| !copy.join(lock).exists()));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_copy_stays_small() {
    let backend = over_git();
    let a = backend.open("n1");
    let b = backend.open("n2");
    let mut rev = None;
    for n in 0..230 {
        let edits = vec![put("n", &n.to_string())];
        rev = Some(landed(&a, &Register::Coordinator, rev.as_ref(), edits, "more").await);
        look(&b).await;
    }
    let packs = |node: &str| {
        std::fs::read_dir(backend.dir.path().join(node).join("state.git/objects/pack"))
            .expect("lists")
            .flatten()
            .filter(|e| e.path().extension().is_some_and(|e| e == "pack"))
            .count()
    };
    for _ in 0..100 {
        if packs("n2") < 100 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(packs("n2") < 100, "{}", packs("n2"));
    read(&b, &Register::Coordinator, &rev.expect("some")).await.expect("reads");
    a.perform(Call::Compact).await.expect("compacts");
    let out = must_git(&backend.dir.path().join("n1/state.git"), &["count-objects"]);
    assert!(out.starts_with("0 objects"), "{out}");
}
