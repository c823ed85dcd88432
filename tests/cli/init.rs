//! `windlass init` and `windlass join`: real repositories behind a real server, a real Docker.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::sync::Arc;

use windlass::adapters::git::{Store, StoreConfig};
use windlass::cli::config;
use windlass::kinds::name::{Name, Uid};
use windlass::kinds::time::Wall;
use windlass::ports::store::{Answer, Call, Landing, Register};
use windlass::state::State;
use windlass::state::records::NodeAllocation;

use super::{refused, said, token_in, windlass};
use crate::support::host::Host;
use crate::support::keys::Keys;
use crate::support::servers::GitDaemon;
use crate::support::{must_git, scratch};

/// Two repositories behind a server, and a place for machines' files.
struct Site {
    host: &'static Host,
    dir: tempfile::TempDir,
    server: GitDaemon,
}

impl Site {
    fn new() -> Option<Self> {
        let host = Host::shared()?;
        let dir = scratch("winit-");
        let at = dir.path();
        must_git(at, &["init", "-q", "--bare", "-b", "main", "desired.git"]);
        must_git(at, &["init", "-q", "--bare", "-b", "main", "state.git"]);
        must_git(at, &["init", "-q", "-b", "main", "work"]);
        let work = at.join("work");
        must_git(&work, &["commit", "-q", "--allow-empty", "-m", "wish"]);
        must_git(&work, &["push", "-q", "../desired.git", "main"]);
        let server = GitDaemon::start(at);
        Some(Self { host, dir, server })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Runs the program for a machine: its files stand in `<machine>/`.
    fn run(&self, machine: &str, line: &str) -> Output {
        let args: Vec<&str> = line.split_whitespace().collect();
        let mut command = windlass(&args);
        command
            .arg("--config")
            .arg(self.path(machine).join("etc/agent.yaml"))
            .arg("--data-dir")
            .arg(self.path(machine).join("data"))
            .arg("--docker-socket")
            .arg(self.host.socket());
        command.output().expect("runs")
    }

    fn config(&self, machine: &str) -> config::Loaded {
        let path = self.path(machine).join("etc/agent.yaml");
        config::load(&path, "unused", "x").expect("the agent reads what was written")
    }

    fn init(&self) -> Output {
        let (desired, state) = (self.server.url("desired.git"), self.server.url("state.git"));
        let line = format!(
            "init --desired {desired} --state {state} --node-name n1 --pod-network 10.77.0.0/16 \
             --label disk=ssd"
        );
        self.run("one", &line)
    }

    fn refs(&self) -> String {
        must_git(&self.path("state.git"), &["for-each-ref", "--format=%(refname)"])
    }
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn one_machine_begins_and_others_join() {
    let Some(site) = Site::new() else { return };
    let text = succeeded(&site.init());
    for words in ["n1 at", "branch main at", "may be written", "not started: windlass agent"] {
        assert!(text.contains(words), "{words:?} in:\n{text}");
    }
    assert_eq!(site.refs(), "", "nothing of the test write is left");
    let path = site.path("one/etc/agent.yaml");
    assert_eq!(fs::metadata(&path).expect("written").permissions().mode() & 0o777, 0o600);
    let one = site.config("one");
    assert_eq!(one.agent.node, "n1");
    assert_eq!(one.agent.settings.pod_network.to_string(), "10.77.0.0/16");
    assert_eq!(one.agent.labels["disk"], "ssd");

    // Again: refused, and nothing changed; with --force it is written anew.
    let before = fs::read_to_string(&path).expect("is there");
    refused(&site.init(), &["is there already", "--force", "--print-join"]);
    assert_eq!(fs::read_to_string(&path).expect("is there"), before);
    let token = token_in(&text);
    let config = path.display().to_string();
    let printed = windlass(&["init", "--print-join", "--config", &config]).output();
    assert_eq!(token_in(&succeeded(&printed.expect("runs"))), token);

    // Another machine.
    let text = succeeded(&site.run("two", &format!("join {token} --node-name n2")));
    assert!(text.contains("nobody has coordinated it yet"), "{text}");
    let two = site.config("two");
    assert_eq!(two.agent.node, "n2");
    assert_eq!(two.agent.settings, one.agent.settings);
    assert_eq!((two.state_url, two.agent.domain), (one.state_url, one.agent.domain));
    assert!(two.agent.labels.is_empty(), "labels are each machine's own");
    assert_eq!(two.file.desired.url, one.file.desired.url);

    // The same by hand, and a token with settings beside it.
    let (desired, state) = (site.server.url("desired.git"), site.server.url("state.git"));
    let line = format!(
        "join --desired {desired} --state {state} --pod-network 10.77.0.0/16 --node-name n3"
    );
    succeeded(&site.run("three", &line));
    assert_eq!(site.config("three").agent.settings, one.agent.settings);
    let output = site.run("four", &format!("join {token} --pod-network 10.78.0.0/16"));
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));
    assert!(!site.path("four/etc").exists());
}

#[test]
fn what_stands_in_the_way_is_said_at_once_and_nothing_is_written() {
    let Some(site) = Site::new() else { return };
    let hook = site.path("state.git/hooks/pre-receive");
    fs::create_dir_all(hook.parent().expect("a directory")).expect("made");
    fs::write(&hook, "#!/bin/sh\nexit 1\n").expect("written");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("set");
    let (nowhere, state) = (site.server.url("nowhere.git"), site.server.url("state.git"));
    let args = format!(
        "init --desired {nowhere} --state {state} --address 203.0.113.77 --node-name n1 --config {}",
        site.path("one/etc/agent.yaml").display()
    );
    let mut command = windlass(&args.split_whitespace().collect::<Vec<_>>());
    command.args(["--docker-socket", "/nowhere/docker.sock"]);
    refused(
        &command.output().expect("runs"),
        &[
            "desired:",
            "nowhere.git",
            "state:",
            "refuses what is written",
            "Docker: /nowhere/docker.sock",
            "apt-get install docker.io",
            "203.0.113.77 is no address of this machine",
            "nothing was changed",
        ],
    );
    assert!(!site.path("one").exists());

    // A server that lets nobody delete: what stays is named.
    fs::remove_file(&hook).expect("removed");
    let hook = hook.with_file_name("update");
    fs::write(&hook, "#!/bin/sh\ncase $3 in *[1-9a-f]*) exit 0 ;; esac\nexit 1\n")
        .expect("written");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("set");
    let text = succeeded(&site.init());
    assert!(text.contains("note: the server lets nobody delete refs"), "{text}");
    assert!(site.refs().starts_with("refs/windlass/probe/"), "{}", site.refs());
}

#[test]
fn settings_that_make_no_sense_are_refused_before_anything_is_asked() {
    let dir = scratch("winit-");
    let config = dir.path().join("agent.yaml").display().to_string();
    let run = |line: &str| {
        let args: Vec<&str> = line.split_whitespace().collect();
        windlass(&args).args(["--config", &config]).output().expect("runs")
    };
    let url = "git://127.0.0.1:1";
    for (line, words) in [
        ("init".to_owned(), ["--desired must name", ""].as_slice()),
        (format!("init --desired {url}/a.git"), &["where is the fleet's state", "--state"]),
        (
            format!(
                "init --desired {url}/a.git --state {url}/b.git --pod-network x --network-mode y"
            ),
            &["network.podNetwork", "network.mode"],
        ),
        (
            format!("init --desired {url}/a.git --state {url}/b.git --ssh-key /nowhere/key"),
            &["/nowhere/key can't be read"],
        ),
        (format!("init --desired {url}/a.git --state {url}/b.git --label x"), &["key=value"]),
        ("join e30".to_owned(), &["the token is damaged"]),
        (format!("join --desired {url}/a.git"), &["where is the fleet's state"]),
        (
            format!("join --desired {url}/a.git --state /var/lib/windlass/state.git"),
            &["there is no fleet to join"],
        ),
    ] {
        refused(&run(&line), words);
        assert!(!Path::new(&config).exists(), "{line}");
    }
    // What somebody has written stays; the template that the package brings does not.
    fs::write(&config, "desired: {url: /srv/shop.git}\n").expect("written");
    refused(&run(&format!("init --desired {url}/a.git --state {url}/b.git")), &["already"]);
    let template = include_str!("../../systemd/agent.yaml");
    fs::write(&config, template).expect("written");
    let output = run(&format!("init --desired {url}/a.git --state {url}/b.git"));
    refused(&output, &["desired: git://127.0.0.1:1/a.git", "nothing was changed"]);
    assert_eq!(fs::read_to_string(&config).expect("is there"), template);
}

#[test]
fn a_machine_may_stay_alone() {
    let Some(site) = Site::new() else { return };
    let desired = site.path("desired.git").display().to_string();
    let text = succeeded(&site.run("one", &format!("init --desired {desired}")));
    assert!(text.contains("This machine stays alone"), "{text}");
    assert!(!text.contains("windlass join"), "{text}");
    let data = site.path("one/data/state.git");
    assert_eq!(site.config("one").state_url, data.display().to_string());
    let config = site.path("one/etc/agent.yaml").display().to_string();
    let printed = windlass(&["init", "--print-join", "--config", &config]).output();
    refused(&printed.expect("runs"), &["no other machine can join"]);
}

/// Writes a register as an agent of that name does.
fn write_register(site: &Site, node: &str, register: Register, state: &State) {
    let url = site.server.url("state.git");
    let data = site.path(&format!("store-{node}"));
    let edits = State::default().edits_to(state);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let landing = runtime.block_on(async {
        let store = Store::open(StoreConfig::new(&url, Name::trusted(node), data)).expect("opens");
        let why = "a test".to_owned();
        store.perform(Call::Commit { register, base: None, edits, why }).await
    });
    assert!(matches!(landing, Ok(Answer::Landing(Landing::Landed(_)))), "{landing:?}");
}

#[test]
fn who_joins_agrees_with_the_fleet_and_takes_nobodys_name() {
    let Some(site) = Site::new() else { return };
    let token = token_in(&succeeded(&site.init()));
    let node = NodeAllocation::new(
        "10.88.3.0/24".parse().expect("a network"),
        Wall::from_seconds(0),
        Uid::trusted("n"),
    );
    let nodes = Arc::new(BTreeMap::from([(Name::trusted("n1"), node)]));
    let state = State { nodes, ..State::default() };
    write_register(&site, "n1", Register::Coordinator, &state);
    let n2 = format!("join {token} --node-name n2");
    refused(&site.run("two", &n2), &["settings differ", "node n1 has pods at 10.88.3.0/24"]);

    write_register(&site, "n9", Register::Node(Name::trusted("n9")), &state);
    let n9 = format!("join {token} --node-name n9 --force");
    refused(&site.run("two", &n9), &["there is a node n9 already", "--node-name"]);
    assert!(!site.path("two/etc").exists());
    // That machine itself may be set up again.
    let data = site.path("two/data");
    fs::create_dir_all(&data).expect("made");
    fs::write(data.join("installation"), "x\n").expect("written");
    let again = site.run("two", &n9);
    assert!(!said(&again).contains("already"), "{}", said(&again));
}

#[test]
fn a_fleet_is_pinned_to_the_trust_it_begins_with() {
    let Some(site) = Site::new() else { return };
    let work = site.path("work");
    let keys = Keys::make(site.dir.path(), &["ada", "eve"]);
    let (trust, pin) = keys.trust(&["ada"]);
    keys.sign_with(&work, Some("ada"));
    fs::write(work.join("trust.yaml"), trust).expect("written");
    must_git(&work, &["add", "-A"]);
    must_git(&work, &["commit", "-q", "-m", "trust"]);
    must_git(&work, &["push", "-q", "../desired.git", "main"]);
    let text = succeeded(&site.init());
    assert!(text.contains("is signed by ada@example.org"), "{text}");
    assert!(text.contains(&format!("fingerprint {pin} is trusted from now on")), "{text}");
    assert_eq!(site.config("one").file.desired.trust, pin);
    let token = token_in(&text);
    succeeded(&site.run("two", &format!("join {token} --node-name n2")));
    assert_eq!(site.config("two").file.desired.trust, pin, "the token says whom to trust");

    // What nobody vouches for is said before anything is written, and so is a pin of something else.
    keys.sign_with(&work, None);
    must_git(&work, &["commit", "-q", "--allow-empty", "-m", "plain"]);
    must_git(&work, &["push", "-q", "../desired.git", "main"]);
    refused(&site.run("three", &format!("join {token} --node-name n3")), &["it is not signed"]);
    let (_, other) = keys.trust(&["eve"]);
    let (desired, state) = (site.server.url("desired.git"), site.server.url("state.git"));
    let line = format!("init --desired {desired} --state {state} --node-name n4 --trust {other}");
    refused(&site.run("four", &line), &["no commit of the branch has the trust.yaml", &other]);

    // Whoever can write the state can't say whom others trust.
    let mut recorded = (*site.config("one").agent.fleet).clone();
    recorded.fields.insert("desired.trust".into(), other);
    let settings = Some(Arc::new(recorded));
    write_register(&site, "n1", Register::Coordinator, &State { settings, ..State::default() });
    let said = ["desired.trust is", "not taken from the fleet's state"];
    refused(&site.run("five", &format!("join {token} --node-name n5")), &said);
}
