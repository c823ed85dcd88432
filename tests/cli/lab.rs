//! A lab's Git server, without the Docker of its nodes: cables, addresses, repositories.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use windlass::adapters::lab::{CLEAN, Lab, run};

use crate::support::{is_root, must_git, scratch};

/// A lab of two nodes in a directory of its own, ended with its owner.
struct Fleet {
    lab: Lab,
    _dir: tempfile::TempDir,
}

impl Fleet {
    fn new(test: &str, number: u8) -> Option<Self> {
        if !is_root(test) {
            return None;
        }
        let dir = scratch("wlab-");
        let work = dir.path().join("work");
        fs::create_dir(&work).expect("made");
        must_git(&work, &["init", "-q", "-b", "main"]);
        must_git(&work, &["commit", "-q", "--allow-empty", "-m", "wish"]);
        let mut lab = Lab {
            name: format!("t{}x{number}", std::process::id() % 100_000),
            dir: dir.path().join("lab"),
            // Labs that people make count from 0.
            network: 200 + number,
            links: 1,
            nodes: [("n1".to_owned(), 11), ("n2".to_owned(), 12)].into(),
            program: env!("CARGO_BIN_EXE_windlass").into(),
            desired: String::new(),
            branch: "main".into(),
            directory: String::new(),
            state: None,
            served: Vec::new(),
            settings: std::collections::BTreeMap::new(),
        };
        lab.state = lab.served_url(&lab.state_repository());
        lab.desired = lab.served_url(&work).expect("a plain path");
        lab.served = vec![lab.state_repository(), work];
        let fleet = Self { lab, _dir: dir };
        fleet.lab.save().expect("saved");
        fleet.lab.make_network().expect("a network");
        for node in fleet.lab.nodes.keys() {
            fleet.lab.make_host(node).expect("a host");
        }
        fleet.lab.start_server(&mut |_| ()).expect("a server");
        Some(fleet)
    }

    fn state(&self) -> &str {
        self.lab.state.as_deref().expect("is served")
    }

    /// Runs git on a node; gives up what is not answered.
    fn git_on(&self, node: &str, dir: &Path, args: &[&str]) -> Output {
        let mut command = self.lab.host(node).command("timeout");
        command.args(["5", "git", "-C"]).arg(dir).args(args);
        for (name, value) in [
            ("GIT_CONFIG_GLOBAL", "/dev/null"),
            ("GIT_CONFIG_NOSYSTEM", "1"),
            ("GIT_AUTHOR_NAME", "Ada"),
            ("GIT_AUTHOR_EMAIL", "ada@example.org"),
            ("GIT_COMMITTER_NAME", "Ada"),
            ("GIT_COMMITTER_EMAIL", "ada@example.org"),
        ] {
            command.env(name, value);
        }
        command.output().expect("git runs")
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let ended = self.lab.down(&mut |_| ());
        if let Err(fault) = ended
            && !std::thread::panicking()
        {
            panic!("{fault}");
        }
    }
}

#[test]
fn nodes_of_a_lab_share_a_git_server_and_are_cut_off_from_it() {
    let Some(fleet) = Fleet::new("nodes_of_a_lab_share_a_git_server", 1) else { return };
    let lab = &fleet.lab;
    let clone = lab.host("n1").dir().join("clone");
    let at = lab.dir.clone();
    let clone_path = clone.display().to_string();
    let cloned = fleet.git_on("n1", &at, &["clone", "-q", &lab.desired, &clone_path]);
    assert!(cloned.status.success(), "{}", String::from_utf8_lossy(&cloned.stderr));

    // The state may be written, what is desired may not, and nothing else may be read.
    let push = |url: &str, from: &str, node: &str| {
        fleet.git_on(node, &clone, &["push", "-q", url, &format!("{from}:refs/windlass/probe/x")])
    };
    assert!(push(fleet.state(), "HEAD", "n1").status.success());
    let listed = fleet.git_on("n2", &at, &["ls-remote", fleet.state()]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("refs/windlass/probe/x"));
    assert!(!push(&lab.desired, "HEAD", "n1").status.success(), "it is only read");
    must_git(&at, &["init", "-q", "--bare", "private.git"]);
    let private = lab.served_url(&at.join("private.git")).expect("a plain path");
    let refused = fleet.git_on("n1", &at, &["ls-remote", &private]);
    assert!(!refused.status.success(), "nobody said that it is served");

    // A cable.
    lab.set_cable("n2", false).expect("cut");
    assert!(!fleet.git_on("n2", &at, &["ls-remote", fleet.state()]).status.success());
    assert!(fleet.git_on("n1", &at, &["ls-remote", fleet.state()]).status.success());
    lab.set_cable("n2", true).expect("healed");
    assert!(fleet.git_on("n2", &at, &["ls-remote", fleet.state()]).status.success());

    // The server.
    lab.stop_server().expect("stopped");
    assert!(!lab.server_answers());
    assert!(!fleet.git_on("n1", &at, &["ls-remote", fleet.state()]).status.success());
    lab.stop_server().expect("also twice");
    lab.start_server(&mut |_| ()).expect("started");
    let listed = fleet.git_on("n2", &at, &["ls-remote", fleet.state()]);
    assert!(String::from_utf8_lossy(&listed.stdout).contains("refs/windlass/probe/x"), "kept");
    let mut steps = 0;
    lab.start_server(&mut |_| steps += 1).expect("runs already");
    assert_eq!(steps, 0);

    // What an acknowledged write costs is paid: see docs/DESIGN.md, the operator of a remote.
    let fsync = run(Command::new("git")
        .arg("-C")
        .arg(lab.state_repository())
        .args(["config", "core.fsync"]));
    assert_eq!(fsync.expect("is set").trim(), "all");
}

#[test]
fn a_lab_that_goes_takes_its_git_server_along() {
    let Some(fleet) = Fleet::new("a_lab_that_goes_takes_its_git_server_along", 2) else { return };
    let lab = fleet.lab.clone();
    drop(fleet);
    assert!(!lab.server_answers());
    assert!(!lab.dir.exists());
    let mark = format!("WINDLASS_LAB={}/server", lab.dir.display());
    let found = Command::new("sh")
        .args(["-c", "grep -lzx \"$1\" /proc/[0-9]*/environ 2>/dev/null || true", "sh", &mark])
        .output();
    assert_eq!(String::from_utf8_lossy(&found.expect("looks").stdout), "", "{CLEAN}");
}

#[test]
fn a_path_that_an_address_can_not_carry_is_not_served() {
    let lab = Lab {
        name: "x".into(),
        dir: "/x".into(),
        network: 7,
        links: 1,
        nodes: [].into(),
        program: "/x".into(),
        desired: String::new(),
        branch: String::new(),
        directory: String::new(),
        state: None,
        served: Vec::new(),
        settings: std::collections::BTreeMap::new(),
    };
    for (path, url) in [
        ("/srv/shop.git", Some("git://10.99.7.2/srv/shop.git")),
        ("/srv/my shop.git", None),
        ("/srv/100%.git", None),
        ("shop.git", None),
    ] {
        assert_eq!(lab.served_url(Path::new(path)).as_deref(), url, "{path}");
    }
    assert!(!lab.has_server());
}
