//! What nodes ask of their Git server in an idle hour, by the way they take; by how much decisions make
//! it grow; and the same counted in a simulation of 1,000 nodes.
//!
//! An idle node does three things by itself: it looks at the state, shows that it lives, and looks at
//! the desired repository. What each carries is counted on the wire, with as many refs as the fleet
//! has nodes.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::time::Duration;

use windlass::adapters::git::{Credentials, Source, SourceConfig, Store, StoreConfig};
use windlass::kinds::binding::Oid;
use windlass::kinds::name::Name;
use windlass::ports::source::Call as SourceCall;
use windlass::ports::store::{Answer, Call, Edit, Landing, Register, Scope};
use windlass::sim::{Load, Weather, World};

use crate::plan::manifests;
use crate::row::{Row, Unit};
use crate::support::servers::{GitDaemon, Httpd, Sshd, Wire, have_servers};
use crate::support::{must_git, scratch};

const NODES: u32 = 1000;
const HOUR_S: f64 = 3600.0;
/// How often each of the three is done among 1,000 nodes: what all nodes do by themselves comes to 17
/// of each a second (docs/GIT-SERVER.md).
const EVERY_S: f64 = 60.0;
const ROUNDS: u32 = 20;
const DECISIONS: u32 = 200;
const PODS_EACH: usize = 10;

/// All of it.
pub(crate) fn rows() -> Vec<Row> {
    let mut rows = hours();
    rows.extend(growth());
    rows.extend(simulated());
    rows
}

/// What one node carries over the wire in an hour in which nothing happens, among 1,000.
fn hours() -> Vec<Row> {
    let mut rows = Vec::new();
    {
        let dir = repositories();
        let server = GitDaemon::start(dir.path());
        let wire = Wire::to(server.port);
        let url = |repo: &str| format!("git://127.0.0.1:{}/{repo}", wire.port());
        rows.push(hour("git://", dir.path(), &url, &Credentials::default(), &wire));
    }
    if !have_servers("bench") {
        return rows;
    }
    {
        let dir = repositories();
        let server = Httpd::start(dir.path());
        let wire = Wire::to(server.port);
        let credentials =
            Credentials { password_file: Some(server.file("password")), ..Credentials::default() };
        let url = |repo: &str| format!("http://127.0.0.1:{}/git/{repo}", wire.port());
        rows.push(hour("http://", dir.path(), &url, &credentials, &wire));
    }
    {
        let dir = repositories();
        let server = Sshd::start();
        let wire = Wire::to(server.port);
        let through =
            |text: String| text.replace(&server.port.to_string(), &wire.port().to_string());
        let line = through(server.known_host("host_ed25519"));
        let credentials = Credentials {
            ssh_key: Some(server.file("client")),
            known_hosts: Some(server.known_hosts("hosts", &line)),
            ..Credentials::default()
        };
        let url = |repo: &str| through(server.url(&dir.path().join(repo)));
        rows.push(hour("ssh://", dir.path(), &url, &credentials, &wire));
    }
    rows
}

/// A desired repository with one commit, and a state with a ref for each of 1,000 nodes.
fn repositories() -> tempfile::TempDir {
    let dir = scratch("wbench-load-");
    must_git(dir.path(), &["init", "-q", "--bare", "state.git"]);
    must_git(dir.path(), &["init", "-q", "--bare", "-b", "main", "desired.git"]);
    must_git(dir.path(), &["init", "-q", "-b", "main", "clone"]);
    let clone = dir.path().join("clone");
    must_git(&clone, &["commit", "-q", "--allow-empty", "-m", "nothing"]);
    must_git(&clone, &["push", "-q", "../desired.git", "main"]);
    let commit = must_git(&clone, &["rev-parse", "main"]);
    must_git(&clone, &["push", "-q", "../state.git", "main:refs/windlass/coordinator"]);
    let refs: String =
        (1..NODES).map(|node| format!("{commit} refs/windlass/nodes/node-{node:04}\n")).collect();
    let packed = format!("# pack-refs with: peeled fully-peeled sorted \n{refs}");
    fs::write(dir.path().join("state.git/packed-refs"), packed).expect("writes");
    dir
}

fn hour(
    by: &str,
    dir: &Path,
    url: &dyn Fn(&str) -> String,
    credentials: &Credentials,
    wire: &Wire,
) -> Row {
    let credentials = || credentials.clone();
    let config = StoreConfig {
        credentials: credentials(),
        ..StoreConfig::new(&url("state.git"), Name::trusted("node-0000"), dir.join("node"))
    };
    let store = Store::open(config).expect("opens");
    let config = SourceConfig {
        credentials: credentials(),
        ..SourceConfig::new(&url("desired.git"), dir.join("cache"))
    };
    let source = Source::open(config).expect("opens");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    let register = Register::Node(Name::trusted("node-0000"));
    let content = Some(b"{}\n".as_slice().into());
    let edits = vec![Edit { path: "node.json".into(), content }];
    runtime.block_on(async {
        let first =
            Call::Commit { register: register.clone(), base: None, edits, why: "report".into() };
        let mut base = landed(&store.perform(first).await.expect("writes"));
        store.perform(Call::Look(Scope::Own)).await.expect("looks");
        source.perform(SourceCall::Fetch).await.expect("fetches");
        let before = wire.carried();
        for _ in 0..ROUNDS {
            store.perform(Call::Look(Scope::Own)).await.expect("looks");
            let beat = Call::Beat { register: register.clone(), base: base.clone() };
            base = landed(&store.perform(beat).await.expect("beats"));
            source.perform(SourceCall::Fetch).await.expect("fetches");
        }
        // The last words of the last connection.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let each = exact(wire.carried() - before) / f64::from(ROUNDS);
        let (count, megabytes) = (3.0 * HOUR_S / EVERY_S, each * HOUR_S / EVERY_S / 1e6);
        let what = format!("a node's idle hour among 1,000, {by}, {count:.0} requests");
        Row::new(what, Unit::Megabytes, megabytes, TARGET_HOUR_MB)
    })
}

/// Two lists of 1,000 refs of 73 bytes a minute, and a little for the third request.
const TARGET_HOUR_MB: f64 = 12.0;

fn landed(answer: &Answer) -> Oid {
    match answer {
        Answer::Landing(Landing::Landed(rev)) => rev.clone(),
        other => panic!("{other:?}"),
    }
}

/// What the state repository takes on the server's disk.
fn growth() -> Vec<Row> {
    let dir = scratch("wbench-grow-");
    must_git(dir.path(), &["init", "-q", "--bare", "state.git"]);
    let state = dir.path().join("state.git");
    let server = GitDaemon::start(dir.path());
    let config =
        StoreConfig::new(&server.url("state.git"), Name::trusted("n1"), dir.path().join("n1"));
    let store = Store::open(config).expect("opens");
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.expect("a runtime");
    // A line per pod, as long as a binding.
    let pods = |node: u32, round: u32| {
        let line = |pod: usize| {
            format!(
                "{{\"pod\":{pod},\"round\":{round},\"node\":{node},{}}}\n",
                "\"x\":0,".repeat(60)
            )
        };
        let content: String = (0..PODS_EACH).map(line).collect();
        Edit {
            path: format!("pods/node-{node:04}.json"),
            content: Some(content.into_bytes().into()),
        }
    };
    let before = runtime.block_on(async {
        let commit = |base: Option<Oid>, edits: Vec<Edit>| Call::Commit {
            register: Register::Coordinator,
            base,
            edits,
            why: "a pod goes elsewhere".into(),
        };
        let all = (0..NODES).map(|node| pods(node, 0)).collect();
        let mut base = landed(&store.perform(commit(None, all)).await.expect("writes"));
        must_git(&state, &["gc", "-q", "--prune=now"]);
        let before = disk(&state);
        for round in 1..=DECISIONS {
            let edits = vec![pods(round % NODES, round)];
            base = landed(&store.perform(commit(Some(base), edits)).await.expect("writes"));
        }
        before
    });
    let each = |bytes: u64| exact(bytes.saturating_sub(before)) / f64::from(DECISIONS) / 1e3;
    let loose = each(disk(&state));
    must_git(&state, &["gc", "-q", "--prune=now"]);
    let packed = each(disk(&state));
    let row = |what: &str, amount: f64, target: f64| {
        let what = format!("a decision on the server's disk, 10,000 pods on 1,000 nodes, {what}");
        Row::new(what, Unit::Kilobytes, amount, target)
    };
    vec![row("as written", loose, TARGET_LOOSE_KB), row("after git gc", packed, TARGET_PACKED_KB)]
}

/// Five objects at 4 kB, and a list of 1,000 files of 40 bytes.
const TARGET_LOOSE_KB: f64 = 70.0;
const TARGET_PACKED_KB: f64 = 5.0;

/// What a directory takes on the disk, its directories not counted: they are there once.
fn disk(dir: &Path) -> u64 {
    let entries = fs::read_dir(dir).expect("reads").flatten();
    let sizes = entries.map(|entry| match entry.metadata() {
        Ok(meta) if meta.is_dir() => disk(&entry.path()),
        Ok(meta) => meta.blocks() * 512,
        Err(_) => 0,
    });
    sizes.sum()
}

/// An idle quarter of an hour of 1,000 nodes with ten pods each, in virtual time; what the server was
/// asked in it, a second.
fn simulated() -> Vec<Row> {
    let mut world = World::new(1, Weather::default());
    world.trace_max = 0;
    world.remote.commit("pods", manifests(NODES / 10, 10, "", None));
    for number in 0..NODES {
        let name = format!("n{number:04}");
        world.add_machine(&name);
        if let Some(machine) = world.machines.get_mut(name.as_str()) {
            machine.runtime.is_plain = true;
        }
    }
    run_for(&mut world, SETTLING);
    let (before, decisions) = (asked(&world), world.store.decisions());
    run_for(&mut world, IDLE);
    let (after, seconds) = (asked(&world), IDLE.as_secs_f64());
    let a_second = |count: fn(&Load) -> u64| exact(count(&after) - count(&before)) / seconds;
    let decided = exact((world.store.decisions() - decisions) as u64) * HOUR_S / seconds;
    let calculated = 3.0 * f64::from(NODES) / EVERY_S;
    let told = a_second(|load| load.told_bytes) * HOUR_S / f64::from(NODES) / 1e6;
    vec![
        Row::new(
            format!("1,000 idle nodes, simulated: requests a second ({calculated:.0} calculated)"),
            Unit::Plain,
            a_second(Load::operations),
            65.0,
        ),
        Row::new("the same: refs told to a node in an hour", Unit::Megabytes, told, TARGET_HOUR_MB),
        Row::new("the same: decisions an hour", Unit::Plain, decided, TARGET_DECISIONS),
    ]
}

/// One a minute would be nothing to speak of.
const TARGET_DECISIONS: f64 = 60.0;
const SETTLING: Duration = Duration::from_secs(600);
const IDLE: Duration = Duration::from_secs(900);

fn run_for(world: &mut World, time: Duration) {
    let until = world.time + time;
    while world.step(until) {}
}

fn asked(world: &World) -> Load {
    world.machines.values().map(|machine| machine.load).sum()
}

fn exact(count: u64) -> f64 {
    u32::try_from(count).map_or(count as f64, f64::from)
}
