//! Docker's events as hints, and Docker going away and coming back.

use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::mpsc::Receiver;
use windlass::ports::FaultKind;
use windlass::ports::runtime::{Answer, Call, ContainerSeen, RuntimeHint};

use crate::support::host::Host;
use crate::support::pods::Node;
use crate::support::proxy::Proxy;

const PATIENCE: Duration = Duration::from_secs(60);

async fn next(hints: &mut Receiver<RuntimeHint>) -> RuntimeHint {
    let hint = tokio::time::timeout(PATIENCE, hints.recv()).await;
    hint.expect("a hint comes").expect("hints go on")
}

async fn next_about(hints: &mut Receiver<RuntimeHint>, seen: &ContainerSeen) {
    while next(hints).await != RuntimeHint::Changed(seen.id.clone()) {}
}

/// Takes the hints that are there.
async fn drain(hints: &mut Receiver<RuntimeHint>) -> Vec<RuntimeHint> {
    let mut all = Vec::new();
    while let Ok(Some(hint)) = tokio::time::timeout(Duration::from_millis(500), hints.recv()).await
    {
        all.push(hint);
    }
    all
}

#[tokio::test]
async fn each_change_rings_and_nothing_else_does() {
    let Some(host) = Host::shared() else { return };
    let node = Node::new(host, "rings");
    let mut hints = node.docker.watch();
    assert_eq!(next(&mut hints).await, RuntimeHint::Resync);
    let (pause, app) = node.pod("web", &["sleep", "1000"]).await;
    next_about(&mut hints, &pause).await;
    next_about(&mut hints, &app).await;

    // Probes and other nodes' containers are not heard.
    node.exec(&app, &["true"], PATIENCE).await.expect("runs");
    let other = Node::new(host, "rings-other");
    let others = other.pod("web", &["sleep", "1000"]).await;
    other.remove(&[&others.1, &others.0]).await;
    assert_eq!(drain(&mut hints).await, []);

    node.list().await;
    node.signal(&app, "KILL").await;
    next_about(&mut hints, &app).await;
    let listed = node.list().await;
    let ended = listed.iter().find(|seen| seen.id == app.id).expect("listed");
    assert!(!ended.is_running(), "what was remembered is forgotten: {ended:?}");
    node.remove(&[&app]).await;
    next_about(&mut hints, &app).await;
    node.remove(&[&pause]).await;
    next_about(&mut hints, &pause).await;
}

#[tokio::test]
async fn an_idle_node_costs_one_request() {
    let Some(host) = Host::shared() else { return };
    let proxy = Proxy::start(host.dir().join("counting.sock"), &host.socket());
    let node = Node::through(host, "idle", proxy.socket.clone());
    let (pause, app) = node.pod("web", &["sleep", "1000"]).await;
    node.list().await;
    proxy.requests();
    assert_eq!(node.list().await.len(), 2);
    assert_eq!(proxy.requests(), 3, "Docker is not heard: each is looked at");

    let mut hints = node.docker.watch();
    assert_eq!(next(&mut hints).await, RuntimeHint::Resync);
    // The last events of the pod's start may be on their way.
    for _ in 0..100 {
        drain(&mut hints).await;
        node.list().await;
        if proxy.requests() == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for _ in 0..3 {
        assert_eq!(node.list().await.len(), 2);
        assert_eq!(proxy.requests(), 1, "nothing has happened");
    }
    node.signal(&app, "KILL").await;
    next_about(&mut hints, &app).await;
    proxy.requests();
    node.list().await;
    assert_eq!(proxy.requests(), 2, "one has changed");
    node.remove(&[&app, &pause]).await;
}

#[tokio::test]
async fn docker_may_go_away_and_come_back() {
    let Some(host) = Host::start("wdock-watch-") else {
        return;
    };
    let node = Node::new(&host, "restart");
    let mut hints = node.docker.watch();
    assert_eq!(next(&mut hints).await, RuntimeHint::Resync);
    // As process 1 it would not be ended by TERM, and Docker would wait ten seconds.
    let app = ["sh", "-c", "trap 'exit 0' TERM; sleep 1000 & wait"];
    for signal in [Signal::SIGKILL, Signal::SIGTERM] {
        let (pause, app) = node.pod("web", &app).await;
        drain(&mut hints).await;
        host.stop_docker(signal);
        let fault = node.docker.perform(Call::List).await.expect_err("it is away");
        assert_eq!(fault.kind, FaultKind::Transient, "{fault:?}");
        assert!(fault.message.contains("docker.sock"), "{fault:?}");
        host.start_docker();
        while next(&mut hints).await != RuntimeHint::Resync {}
        // Without live-restore Docker ends what ran, and the labels still say whose it was.
        let ended = node.wait_for(&app, |seen| !seen.is_running()).await;
        assert_eq!(ended.marks, app.marks);
        assert_eq!(node.list().await.len(), 2);
        node.remove(&[&app, &pause]).await;
        let (pause, app) = node.pod("web", &["sleep", "1000"]).await;
        next_about(&mut hints, &app).await;
        node.remove(&[&app, &pause]).await;
        drain(&mut hints).await;
    }
    let Ok(Answer::Containers(left)) = node.docker.perform(Call::List).await else {
        panic!("no list");
    };
    assert_eq!(left, []);
}

#[tokio::test]
async fn docker_may_come_up_after_us() {
    let Some(host) = Host::start("wdock-late-") else {
        return;
    };
    let node = Node::new(&host, "late");
    host.stop_docker(Signal::SIGTERM);
    let mut hints = node.docker.watch();
    let fault = node.docker.perform(Call::Survey).await.expect_err("it is away");
    assert_eq!(fault.kind, FaultKind::Transient, "{fault:?}");
    assert_eq!(drain(&mut hints).await, []);
    host.start_docker();
    assert_eq!(next(&mut hints).await, RuntimeHint::Resync);
    node.docker.perform(Call::Survey).await.expect("it is there");
}
