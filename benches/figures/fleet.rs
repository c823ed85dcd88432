//! What a fleet of three costs, on a lab with a real Git server; and a write of its coordinator, by
//! the way it takes.

use std::path::Path;
use std::time::{Duration, Instant};

use windlass::adapters::git::{Credentials, Store, StoreConfig};
use windlass::kinds::binding::Oid;
use windlass::kinds::name::Name;
use windlass::ports::store::{Answer, Call, Edit, Landing, Register, Scope};

use crate::row::Row;
use crate::support::lab::{Fleet, LEASE, NODES, PODS, node_of, now, shop};
use crate::support::servers::{GitDaemon, Httpd, Sshd, have_servers};
use crate::support::site::is_ready;
use crate::support::{must_git, scratch};

const ROUNDS: usize = 5;
const WRITES: u32 = 20;
/// What is promised beyond the lease.
const FAILOVER_SPARE: Duration = Duration::from_secs(5);

/// All of it.
pub(crate) fn rows() -> Vec<Row> {
    let mut rows = writes();
    let Some(fleet) = Fleet::settled() else { return Vec::new() };
    rows.push(pushes(&fleet));
    rows.push(failover(&fleet));
    rows
}

/// From a push to the remote until the new pods run on all three nodes, each of which asks the remote
/// once a second.
fn pushes(fleet: &Fleet) -> Row {
    let mut best = Duration::MAX;
    for round in 0..ROUNDS {
        let pods = 3;
        fleet.push("None", &[("web.yaml", &shop("one", 0))]);
        fleet.wait_settled(0);
        let began = Instant::now();
        fleet.push(&format!("Round {round}"), &[("web.yaml", &shop("one", pods))]);
        fleet.wait("pods on each node", || {
            let found = fleet.pods(NODES[0]);
            let ready = found.values().filter(|pod| is_ready(pod));
            let nodes: std::collections::BTreeSet<&str> = ready.map(node_of).collect();
            (nodes.len() == NODES.len()).then_some(())
        });
        best = best.min(began.elapsed());
    }
    fleet.push("As before", &[("web.yaml", &shop("one", PODS))]);
    fleet.wait_settled(PODS);
    Row::time("remote push → a pod ready on each of 3 nodes", best, 2.5)
}

/// From the coordinator's death until the next one has decided.
fn failover(fleet: &Fleet) -> Row {
    let mut worst = Duration::ZERO;
    for _ in 0..ROUNDS {
        let first = fleet.coordinator();
        let began = now();
        fleet.kill_agent(first);
        fleet.wait("another coordinator", || {
            let leads = |node: &&str| fleet.status(node)["isCoordinator"] == true;
            Fleet::others(first).into_iter().find(leads)
        });
        worst = worst.max(now().since(began));
        fleet.start_agent(first);
        fleet.wait_settled(PODS);
    }
    let target = (LEASE + FAILOVER_SPARE).as_secs_f64();
    let lease = LEASE.as_secs();
    Row::time(
        format!("coordinator killed → next decides, worst of 5, lease {lease} s"),
        worst,
        target,
    )
}

fn writes() -> Vec<Row> {
    let mut rows = Vec::new();
    {
        let dir = repository();
        let url = dir.path().join("state.git").display().to_string();
        rows.push(write("path", dir.path(), &url, &Credentials::default()));
    }
    {
        let dir = repository();
        let server = GitDaemon::start(dir.path());
        rows.push(write("git://", dir.path(), &server.url("state.git"), &Credentials::default()));
    }
    if !have_servers("bench") {
        return rows;
    }
    {
        let dir = repository();
        let server = Httpd::start(dir.path());
        let credentials =
            Credentials { password_file: Some(server.file("password")), ..Credentials::default() };
        rows.push(write("http://", dir.path(), &server.url("git", "state.git"), &credentials));
    }
    {
        let dir = repository();
        let server = Sshd::start();
        let url = server.url(&dir.path().join("state.git"));
        let hosts = server.known_hosts("hosts", &server.known_host("host_ed25519"));
        let credentials = Credentials {
            ssh_key: Some(server.file("client")),
            known_hosts: Some(hosts),
            ..Credentials::default()
        };
        rows.push(write("ssh://", dir.path(), &url, &credentials));
    }
    rows
}

fn repository() -> tempfile::TempDir {
    let dir = scratch("wbench-store-");
    must_git(dir.path(), &["init", "-q", "--bare", "state.git"]);
    dir
}

/// The median of some writes of the coordinator's register.
fn write(by: &str, dir: &Path, url: &str, credentials: &Credentials) -> Row {
    let config = StoreConfig {
        credentials: credentials.clone(),
        ..StoreConfig::new(url, Name::trusted("n1"), dir.join("n1"))
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let times = runtime.block_on(async {
        let store = Store::open(config).expect("opens");
        store.perform(Call::Look(Scope::All)).await.expect("looks");
        let mut base: Option<Oid> = None;
        let mut times = Vec::new();
        for number in 0..WRITES {
            let content = Some(format!("{number}{}", "x".repeat(300)).into_bytes().into());
            let edits = vec![Edit { path: format!("pods/n{number}.json"), content }];
            let register = Register::Coordinator;
            let began = Instant::now();
            let call = Call::Commit { register, base: base.clone(), edits, why: "one pod".into() };
            match store.perform(call).await.expect("writes") {
                Answer::Landing(Landing::Landed(rev)) => base = Some(rev),
                other => panic!("{other:?}"),
            }
            times.push(began.elapsed());
        }
        times.sort();
        times
    });
    Row::time(format!("a decision written, {by}"), times[times.len() / 2], target(by))
}

/// FACTS' medians on a busy machine, and half as much again.
fn target(by: &str) -> f64 {
    match by {
        "path" => 0.02,
        "ssh://" => 0.45,
        _ => 0.12,
    }
}
