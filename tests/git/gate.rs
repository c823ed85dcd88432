//! `windlass serve-git` behind a real sshd: what a node's key opens, and what it doesn't.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use windlass::adapters::git::inspect::{Inspection, Left};
use windlass::adapters::git::{Credentials, Store, StoreConfig};
use windlass::kinds::name::Name;
use windlass::ports::store::Register;

use super::conformance::{commit, landed, node, put};
use crate::support::servers::{Sshd, have_servers};
use crate::support::{must_git, scratch};

/// A server with two repositories: the key `client` is node n2's, `stranger` a person's.
struct Gate {
    dir: tempfile::TempDir,
    server: Sshd,
}

impl Gate {
    fn new(test: &str, more: &str) -> Option<Self> {
        if !have_servers(test) {
            return None;
        }
        let dir = scratch("wgit-gate-");
        for name in ["state.git", "desired.git", "other.git"] {
            must_git(dir.path(), &["init", "-q", "--bare", "-b", "main", name]);
        }
        must_git(dir.path(), &["init", "-q", "-b", "main", "work"]);
        let gate = Self { dir, server: Sshd::start_by_keys() };
        must_git(&gate.path("work"), &["commit", "-q", "--allow-empty", "-m", "wish"]);
        must_git(&gate.path("work"), &["push", "-q", "../desired.git", "main"]);
        let key = |name: &str| fs::read_to_string(gate.server.file(name)).expect("a key");
        let (state, desired) = (gate.path("state.git"), gate.path("desired.git"));
        let (state, desired) = (state.display(), desired.display());
        let program = env!("CARGO_BIN_EXE_windlass");
        let lines = format!(
            "command=\"{program} serve-git --node n2 --desired {desired} {more} {state}\",restrict {}\
             command=\"{program} serve-git --person --desired {desired}\",restrict {}",
            key("client.pub"),
            key("stranger.pub"),
        );
        fs::write(gate.server.file("authorized_keys"), lines).expect("written");
        gate.server.known_hosts("hosts", &gate.server.known_host("host_ed25519"));
        Some(gate)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn ssh(&self, key: &str, options: &str) -> String {
        let (key, hosts) = (self.server.file(key), self.server.file("hosts"));
        format!(
            "ssh -F none -p {} -i {} -o IdentitiesOnly=yes -o BatchMode=yes -o UserKnownHostsFile={} \
             -o GlobalKnownHostsFile=/dev/null {options}",
            self.server.port,
            key.display(),
            hosts.display()
        )
    }

    /// Git in the work directory, over ssh with this key.
    fn git(&self, key: &str, args: &[&str], environment: &[(&str, &str)]) -> Output {
        let mut git = Command::new("git");
        git.current_dir(self.path("work"))
            .args(args)
            .env("GIT_SSH_COMMAND", self.ssh(key, "-o 'SendEnv=GIT_* LD_*'"))
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .envs(environment.iter().copied());
        git.output().expect("git runs")
    }

    fn url(&self, repository: &Path) -> String {
        self.server.url(repository)
    }

    /// Pushes the commit to a ref of a repository; what was said if it was refused.
    fn push(&self, key: &str, repository: &str, refspec: &str) -> Result<(), String> {
        let url = self.url(&self.path(repository));
        let output = self.git(key, &["push", "-q", &url, refspec], &[]);
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    fn refs(&self, repository: &str) -> String {
        must_git(&self.path(repository), &["for-each-ref", "--format=%(refname)"])
    }
}

#[test]
fn a_node_writes_its_own_ref_and_no_other() {
    let Some(gate) = Gate::new("a_node_writes_its_own_ref_and_no_other", "") else { return };
    for (repository, refspec) in [
        ("state.git", "main:refs/windlass/nodes/n2"),
        ("state.git", "main:refs/windlass/coordinator"),
        ("state.git", "main:refs/windlass/probe/abc"),
        ("state.git", ":refs/windlass/probe/abc"),
    ] {
        assert_eq!(gate.push("client", repository, refspec), Ok(()), "{refspec}");
    }
    let before = (gate.refs("state.git"), gate.refs("desired.git"));
    for (repository, refspec, words) in [
        ("state.git", "main:refs/windlass/nodes/n1", "node n2 may not write this ref"),
        ("state.git", ":refs/windlass/nodes/n2", "node n2 may not delete this ref"),
        ("state.git", ":refs/windlass/coordinator", "node n2 may not delete this ref"),
        ("state.git", "main:refs/heads/main", "node n2 may not write this ref"),
        ("state.git", "main:refs/windlass/probe/a/b", "node n2 may not write this ref"),
        ("desired.git", "main:refs/heads/main2", "this key may not write this ref"),
        ("desired.git", "main:refs/windlass/nodes/n2", "this key may not write this ref"),
        ("desired.git", "main:refs/notes/windlass", "this key may not write this ref"),
        ("other.git", "main:refs/windlass/nodes/n2", "is not served to this key"),
    ] {
        let said = gate.push("client", repository, refspec).expect_err(refspec);
        assert!(said.contains(words), "{repository} {refspec}: {said}");
    }
    // One ref that is refused takes the others along.
    let url = gate.url(&gate.path("state.git"));
    let both =
        ["push", "-q", &url, "+main~0:refs/windlass/nodes/n2", "main:refs/windlass/nodes/n3"];
    assert!(!gate.git("client", &both, &[]).status.success());
    // A large one is answered, too, and does not hang.
    let mut bulk = vec![0; 8 << 20];
    getrandom::fill(&mut bulk).expect("randomness");
    fs::write(gate.path("work/bulk"), bulk).expect("written");
    must_git(&gate.path("work"), &["add", "bulk"]);
    must_git(&gate.path("work"), &["commit", "-q", "-m", "bulk"]);
    let said = gate.push("client", "desired.git", "main").expect_err("a branch");
    assert!(said.contains("[remote rejected]") && said.contains("may not write"), "{said}");
    assert_eq!((gate.refs("state.git"), gate.refs("desired.git")), before);
    // It reads both.
    for name in ["state.git", "desired.git"] {
        let read = gate.git("client", &["ls-remote", &gate.url(&gate.path(name))], &[]);
        assert!(read.status.success() && !read.stdout.is_empty(), "{name}");
    }
}

#[test]
fn what_a_power_cut_left_of_a_push_stands_in_nobodys_way() {
    let test = "what_a_power_cut_left_of_a_push_stands_in_nobodys_way";
    let Some(gate) = Gate::new(test, "") else { return };
    let push = |refspec: &str| gate.push("client", "state.git", refspec);
    for refspec in ["main:refs/windlass/nodes/n2", "main:refs/windlass/probe/abc"] {
        assert_eq!(push(refspec), Ok(()), "{refspec}");
    }
    let state = gate.path("state.git");
    let lock = |name: &str| {
        let lock = state.join(format!("{name}.lock"));
        fs::write(&lock, "").expect("left");
        lock
    };
    must_git(&gate.path("work"), &["commit", "-q", "--allow-empty", "-m", "another"]);
    let own = lock("refs/windlass/nodes/n2");
    // Somebody is at work there: it may be his.
    let mut writer =
        Command::new("sleep").arg("1000").current_dir(&state).spawn().expect("it runs");
    let said = push("main:refs/windlass/nodes/n2").expect_err("it is locked");
    writer.kill().expect("ended");
    writer.wait().expect("ended");
    assert!(said.contains("lock") && own.exists(), "{said}");
    let (others, all) = (lock("refs/windlass/nodes/n1"), lock("packed-refs"));
    assert_eq!(push("main:refs/windlass/nodes/n2"), Ok(()));
    assert!(!own.exists() && others.exists() && all.exists(), "only what is in the way goes");
    assert_eq!(push(":refs/windlass/probe/abc"), Ok(()));
    assert!(others.exists() && !all.exists());
    // The branch that HEAD names is locked with HEAD.
    let desired = gate.path("desired.git");
    let (head, branch) = (desired.join("HEAD.lock"), desired.join("refs/heads/main.lock"));
    for lock in [&head, &branch] {
        fs::write(lock, "").expect("left");
    }
    assert_eq!(gate.push("stranger", "desired.git", "main"), Ok(()));
    assert!(!head.exists() && !branch.exists());
    // A push that is refused moves nothing.
    assert!(push("main:refs/windlass/nodes/n1").is_err());
    assert!(others.exists());
    let pushed = must_git(&state, &["rev-parse", "refs/windlass/nodes/n2"]);
    assert_eq!(pushed, must_git(&gate.path("work"), &["rev-parse", "main"]));
}

#[test]
fn a_node_s_key_is_no_shell_and_paths_and_variables_do_nothing() {
    let test = "a_node_s_key_is_no_shell_and_paths_and_variables_do_nothing";
    let Some(gate) = Gate::new(test, "") else { return };
    let touched = gate.path("touched");
    let touch = format!("touch {}", touched.display());
    let state = gate.path("state.git").display().to_string();
    let served = |request: &str| {
        let ssh = gate.ssh("client", "root@127.0.0.1");
        let mut command = Command::new("sh");
        let output =
            command.args(["-c", &format!("{ssh} \"$1\" </dev/null"), "sh", request]).output();
        let output = output.expect("ssh runs");
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for request in [
        String::new(),
        touch.clone(),
        format!("git-upload-pack '{state}'; {touch}"),
        format!("git-upload-pack '{state}' $({touch})"),
        format!("git-upload-pack --upload-pack='{touch}' '{state}'"),
        format!("git-upload-archive '{state}'"),
        format!("git-shell -c '{touch}'"),
        format!("git-receive-pack '{state}/../other.git'"),
        format!("git-receive-pack '{state}/.'"),
        format!("git-receive-pack '{}/./state.git'", gate.dir.path().display()),
        "git-receive-pack 'state.git'".to_owned(),
        "git-receive-pack '~/state.git'".to_owned(),
        "git-upload-pack '/etc'".to_owned(),
    ] {
        let (is_served, said) = served(&request);
        assert!(!is_served, "{request}");
        assert!(said.contains("error: ") && said.contains("node n2"), "{request}: {said}");
    }
    // What the client's variables name is not run, and another repository is not written.
    let evil = gate.path("evil");
    fs::create_dir(&evil).expect("made");
    for name in ["pre-receive", "post-receive", "update", "git", "git-unpack-objects"] {
        fs::write(evil.join(name), format!("#!/bin/sh\n{touch}\n")).expect("written");
        fs::set_permissions(evil.join(name), fs::Permissions::from_mode(0o755)).expect("set");
    }
    let (evil, other) = (evil.display(), gate.path("other.git"));
    let variables = [
        format!("GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=core.hooksPath GIT_CONFIG_VALUE_0={evil}"),
        format!("GIT_CONFIG_PARAMETERS=\"'core.hookspath'='{evil}'\""),
        format!("GIT_OBJECT_DIRECTORY={}/objects", other.display()),
        "GIT_NAMESPACE=elsewhere".to_owned(),
        format!("GIT_EXEC_PATH={evil}"),
    ];
    let url = gate.url(&gate.path("state.git"));
    let mut harmful = Vec::new();
    for variables in &variables {
        // Something new, or nothing would have to be written.
        must_git(&gate.path("work"), &["commit", "-q", "--allow-empty", "-m", variables]);
        // They are ssh's alone: the client's own Git heeds some, and hands others to nobody.
        let over = format!("env {variables} {}", gate.ssh("client", "-o 'SendEnv=GIT_* LD_*'"));
        let args = ["push", "-q", &url, "main:refs/windlass/nodes/n2"];
        let push = gate.git("client", &args, &[("GIT_SSH_COMMAND", &over)]);
        let is_harmless = push.status.success()
            && !touched.exists()
            && gate.refs("state.git") == "refs/windlass/nodes/n2"
            && must_git(&other, &["count-objects"]).starts_with("0 objects");
        if !is_harmless {
            harmful.push((variables, String::from_utf8_lossy(&push.stderr).into_owned()));
        }
        let _ = fs::remove_file(&touched);
    }
    assert!(harmful.is_empty(), "these were heeded: {harmful:#?}");
    assert_eq!(gate.refs("state.git"), "refs/windlass/nodes/n2");
    assert_eq!(gate.refs("other.git"), "");
}

#[test]
fn a_person_pushes_branches_and_sees_no_state() {
    let Some(gate) = Gate::new("a_person_pushes_branches_and_sees_no_state", "") else { return };
    assert_eq!(gate.push("stranger", "desired.git", "main:refs/heads/topic"), Ok(()));
    let said = gate.push("stranger", "desired.git", "main:refs/windlass/coordinator");
    assert!(said.expect_err("refused").contains("may not write this ref"));
    let read = gate.git("stranger", &["ls-remote", &gate.url(&gate.path("state.git"))], &[]);
    assert!(String::from_utf8_lossy(&read.stderr).contains("is not served to this key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_works_behind_the_gate() {
    let Some(gate) = Gate::new("an_agent_works_behind_the_gate", "--never-leads") else { return };
    let url = gate.url(&gate.path("state.git"));
    let credentials = Credentials {
        ssh_key: Some(gate.server.file("client")),
        known_hosts: Some(gate.server.file("hosts")),
        ..Credentials::default()
    };
    let scratch = gate.path("probe");
    fs::create_dir(&scratch).expect("made");
    let inspection = Inspection::new(&url, credentials.clone(), &scratch).expect("opened");
    assert_eq!(inspection.write("abc").await.expect("may be written"), Left::Nothing);
    // A thief has the key, and whatever name he likes.
    let open = |name: &str| {
        let credentials = credentials.clone();
        let config = StoreConfig::new(&url, Name::trusted(name), gate.path(name));
        Store::open(StoreConfig { credentials, timeouts: super::timeouts(), ..config })
    };
    let (store, thief) = (open("n2").expect("opened"), open("n1").expect("opened"));
    let own = node("n2");
    let first = landed(&store, &own, None, vec![put("a", "1")], "report").await;
    landed(&store, &own, Some(&first), vec![put("a", "2")], "report").await;
    for (store, register) in [(&thief, node("n1")), (&store, Register::Coordinator)] {
        let refused = commit(store, &register, None, vec![put("a", "1")], "seize").await;
        let fault = refused.expect_err("another's");
        assert!(fault.message.contains("node n2 may not write this ref"), "{fault}");
    }
    assert_eq!(gate.refs("state.git"), "refs/windlass/nodes/n2");
}

#[test]
fn the_hook_of_the_documents_lets_a_node_write_its_own_ref_and_no_other() {
    let text = include_str!("../../docs/SECURITY.md");
    let script = text.split("```sh\n").nth(1).and_then(|rest| rest.split("```").next());
    let script: Vec<&str> = script.expect("a script").lines().map(str::trim_start).collect();
    let dir = scratch("wgit-hook-");
    must_git(dir.path(), &["init", "-q", "--bare", "state.git"]);
    must_git(dir.path(), &["init", "-q", "work"]);
    let work = dir.path().join("work");
    must_git(&work, &["commit", "-q", "--allow-empty", "-m", "said"]);
    let hook = dir.path().join("state.git/hooks/pre-receive");
    fs::create_dir_all(hook.parent().expect("hooks")).expect("made");
    fs::write(&hook, script.join("\n")).expect("written");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("made");
    let push = |variable: &str, who: &str, what: &str| {
        let mut git = Command::new("git");
        git.current_dir(&work).args(["push", "-q", "../state.git", what]).env(variable, who);
        let output = git.output().expect("git runs");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success() || said.contains(" may not write "), "{what}: {said}");
        output.status.success()
    };
    for (variable, other) in [("GL_USERNAME", "n1"), ("GITEA_PUSHER_NAME", "n22")] {
        for (what, may) in [
            ("HEAD:refs/windlass/nodes/n2".to_owned(), true),
            ("+HEAD:refs/windlass/coordinator".to_owned(), true),
            ("HEAD:refs/windlass/probe/x".to_owned(), true),
            (":refs/windlass/probe/x".to_owned(), true),
            (":refs/windlass/nodes/n2".to_owned(), false),
            (":refs/windlass/coordinator".to_owned(), false),
            (format!("HEAD:refs/windlass/nodes/{other}"), false),
            (format!("HEAD:refs/heads/{other}"), false),
        ] {
            assert_eq!(push(variable, "node-n2", &what), may, "{what}");
        }
        assert!(push(variable, "ada", "+HEAD:refs/heads/main"), "a person is not held up");
    }
}
