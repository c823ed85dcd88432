//! `windlass init --host-remote`: the fleet's own remote behind a real sshd, a real Docker.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Output};

use super::{refused, said, token_in, windlass};
use crate::support::host::Host;
use crate::support::servers::{Sshd, have_servers};
use crate::support::{must_git, must_run, scratch};

/// A machine with sshd, and a place for the files of machines.
struct Site {
    host: &'static Host,
    dir: tempfile::TempDir,
    server: Sshd,
}

/// Somebody's own line in the list of keys.
const THEIRS: &str = "# the operator's own key\n";

impl Site {
    fn new(test: &str) -> Option<Self> {
        if !have_servers(test) {
            return None;
        }
        let host = Host::shared()?;
        let server = Sshd::start_by_keys();
        fs::write(server.file("authorized_keys"), THEIRS).expect("written");
        Some(Self { host, dir: scratch("winit-host-"), server })
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, machine: &str, node: &str, args: &[&str]) -> Output {
        let mut command = windlass(args);
        command
            .args(["--node-name", node, "--docker-socket"])
            .arg(self.host.socket())
            .arg("--config")
            .arg(self.path(machine).join("etc/agent.yaml"))
            .arg("--data-dir")
            .arg(self.path(machine).join("data"));
        command.output().expect("runs")
    }

    /// `windlass init --host-remote` on the first machine, with sshd at this port.
    fn hosts_at(&self, port: u16, more: &[&str]) -> Output {
        let (dir, port) = (self.path("fleet").display().to_string(), port.to_string());
        let list = self.server.file("authorized_keys").display().to_string();
        let user = must_run("id", &["-un"]);
        let mut args = vec!["init", "--host-remote", "--remote-dir", &dir, "--remote-user", &user];
        args.extend(["--remote-address", "127.0.0.1", "--remote-port", &port]);
        args.extend(["--authorized-keys", &list]);
        args.extend(more);
        self.run("one", "n1", &args)
    }

    fn hosts(&self, more: &[&str]) -> Output {
        self.hosts_at(self.server.port, more)
    }

    fn keys(&self) -> String {
        fs::read_to_string(self.server.file("authorized_keys")).expect("is there")
    }
}

#[track_caller]
fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", said(output));
    said(output)
}

#[test]
fn a_machine_has_the_fleet_s_own_remote_and_others_join_it() {
    let test = "a_machine_has_the_fleet_s_own_remote_and_others_join_it";
    let Some(site) = Site::new(test) else { return };
    refused(&site.hosts_at(1, &[]), &["no sshd answers", "openssh-server", "nothing was changed"]);
    assert!(!site.path("fleet").exists() && !site.path("one").exists() && site.keys() == THEIRS);

    let text = succeeded(&site.hosts(&[]));
    for words in
        ["desired.git, a bare repository", "this node's own key", "may be written", "ssh://"]
    {
        assert!(text.contains(words), "{words:?} in:\n{text}");
    }
    let token = token_in(&text);
    let again = succeeded(&site.hosts(&[]));
    assert_eq!(token_in(&again), token);
    assert!(!again.contains("made") && !again.contains("wrote"), "nothing is left to do:\n{again}");
    let keys = site.keys();
    assert!(keys.starts_with(THEIRS) && keys.lines().count() == 2, "{keys}");
    assert!(
        keys.contains("serve-git --node n1 --desired ")
            && keys.contains("\",restrict ssh-ed25519 AAAA")
    );

    // Another machine makes its key, is let in, and joins.
    let join = || site.run("two", "n2", &["join", &token]);
    let text =
        refused(&join(), &["nobody knows it yet", "--host-remote --admit 'n2=ssh-ed25519 AAAA"]);
    let admit = text.split('\'').nth(1).expect("what to let in").to_owned();
    refused(&join(), &["desired:", "state:"]);
    succeeded(&site.hosts(&["--admit", &admit]));
    let text = succeeded(&join());
    assert!(text.contains("nobody has coordinated it yet"), "{text}");
    assert_ne!(
        fs::read(site.path("one/etc/fleet_key")).expect("a key"),
        fs::read(site.path("two/etc/fleet_key")).expect("a key"),
        "each has its own"
    );

    // A person pushes manifests, and is no node.
    let person = site.server.file("stranger.pub").display().to_string();
    succeeded(&site.hosts(&["--admit-person", &person]));
    assert!(site.keys().contains("serve-git --person --desired "));

    // A node is turned out.
    let state = site.path("fleet/state.git");
    must_git(&site.path("fleet"), &["init", "-q", "work"]);
    let work = site.path("fleet/work");
    must_git(&work, &["commit", "-q", "--allow-empty", "-m", "a report"]);
    must_git(&work, &["push", "-q", "../state.git", "HEAD:refs/windlass/nodes/n2"]);
    let text = succeeded(&site.hosts(&["--expel", "n2"]));
    assert!(text.contains("node n2: its key opens nothing here"), "{text}");
    assert_eq!(must_git(&state, &["for-each-ref"]), "");
    assert!(!site.keys().contains("--node n2 ") && site.keys().contains("--node n1 "));
    let text = said(&site.run("two", "n2", &["join", &token, "--force"]));
    assert!(text.contains("desired:"), "{text}");

    // And all of it is undone; what people and agents have written stays.
    let text = succeeded(&site.hosts(&["--undo"]));
    assert!(text.contains("yours to remove"), "{text}");
    assert_eq!(site.keys(), THEIRS);
    assert!(state.exists());
}

/// In a mount namespace of its own, with an /etc and a /srv that go with it: a machine's own users are
/// nobody else's.
const AS_SHIPPED: &str = r#"
mount -t tmpfs tmpfs "$AWAY"
mkdir "$AWAY/upper" "$AWAY/work"
mount -t overlay overlay -o "lowerdir=/etc,upperdir=$AWAY/upper,workdir=$AWAY/work" /etc
mount -t tmpfs -o mode=755 tmpfs /srv
mkdir /srv/bin
touch /srv/bin/windlass
mount --bind "$PROGRAM" /srv/bin/windlass
/usr/sbin/sshd -D -e -f "$SSHD" &
sshd=$!
trap 'kill $sshd; wait' EXIT
for step in $(seq 100); do ssh-keyscan -p "$PORT" 127.0.0.1 >/dev/null 2>&1 && break; sleep 0.1; done
etc=$AWAY/one/etc
set -- --remote-address 127.0.0.1 --remote-port "$PORT" --node-name n1 --docker-socket "$DOCKER" \
    --config "$etc/agent.yaml" --data-dir "$AWAY/one/data"
/srv/bin/windlass init --host-remote "$@"
stat -c '%n is of %U, %a' /srv/windlass /srv/windlass/.ssh/authorized_keys /srv/windlass/state.git
ssh="ssh -F none -p $PORT -i $etc/fleet_key -o IdentitiesOnly=yes -o BatchMode=yes \
    -o UserKnownHostsFile=$etc/fleet_hosts -o GlobalKnownHostsFile=/dev/null"
git init -q "$AWAY/work.git"
cd "$AWAY/work.git"
git -c user.name=n1 -c user.email=n1@fleet commit -q --allow-empty -m report
push() { GIT_SSH_COMMAND=$ssh git push -q "ssh://windlass-git@127.0.0.1:$PORT/srv/windlass/$1" "HEAD:$2"; }
push state.git refs/windlass/nodes/n1 && echo "its own ref: written"
push state.git refs/windlass/nodes/n2 || echo "another's ref: refused"
push desired.git refs/heads/main || echo "a branch: refused"
$ssh windlass-git@127.0.0.1 id || echo "a shell: refused"
/srv/bin/windlass init --host-remote --undo "$@"
id windlass-git || echo "the user: gone"
push state.git refs/windlass/nodes/n1 || echo "its own ref: refused now"
git -C /srv/windlass/state.git -c safe.directory='*' for-each-ref --format='%(refname) stays'
"#;

#[test]
fn the_user_is_made_as_sshd_wants_him_and_taken_away_again() {
    let test = "the_user_is_made_as_sshd_wants_him_and_taken_away_again";
    let Some(site) = Site::new(test) else { return };
    let away = site.path("away");
    fs::create_dir(&away).expect("made");
    // As Debian has it: who may write whose list of keys is looked at.
    let config = site.path("sshd_config");
    let port = crate::support::servers::free_port();
    let text = format!(
        "ListenAddress 127.0.0.1\nPort {port}\nHostKey {}\nPidFile none\nUsePAM no\n\
         PasswordAuthentication no\n",
        site.server.file("host_ed25519").display()
    );
    fs::write(&config, text).expect("written");
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "--propagation", "private", "sh", "-euc", AS_SHIPPED])
        .env("AWAY", &away)
        .env("PROGRAM", env!("CARGO_BIN_EXE_windlass"))
        .env("SSHD", &config)
        .env("PORT", port.to_string())
        .env("DOCKER", site.host.socket());
    let text = succeeded(&command.output().expect("runs"));
    for words in [
        "windlass-git",
        "/srv/windlass is of windlass-git, 755",
        "authorized_keys is of windlass-git, 600",
        "its own ref: written",
        "node n1 may not write this ref",
        "another's ref: refused",
        "a branch: refused",
        "a shell: refused",
        "the user: gone",
        "its own ref: refused now",
        "refs/windlass/nodes/n1 stays",
    ] {
        assert!(text.contains(words), "{words:?} in:\n{text}");
    }
    assert!(!must_run("cat", &["/etc/passwd"]).contains("windlass-git"), "of this machine nobody");
}
