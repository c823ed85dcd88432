//! `windlass init --host-remote`: the fleet's own remote, on one of its machines.
//!
//! ```text
//!   /srv/windlass/desired.git, state.git      two bare repositories, of a user made for them
//!   /srv/windlass/.ssh/authorized_keys        a line for each node and person: windlass serve-git
//!   /etc/windlass/fleet_key, fleet_hosts      this node's own key, and the server's: it comes by ssh, too
//! ```
//! Each node has a key of its own, which never leaves it: `join` makes it, `--admit` lets it in. What the
//! server's keys are stands in the token, since they are no secret.
//!
//! The rule: each step looks whether it is done already, says what it did, and touches nothing that is not
//! ours. The limit: sshd is the machine's own; it is asked, never set up.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpStream, ToSocketAddrs as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use clap::Args;
use nix::unistd::{Gid, Uid, User, chown, geteuid};

use super::args::Init;
use crate::adapters::links::Links;
use crate::cli::fault::Failure;
use crate::kinds::name::{NameRule, NodeName};
use crate::ports::links::{Answer as LinksAnswer, Call as LinksCall};

/// A node's own key to the fleet's remote, beside `agent.yaml`.
pub(super) const KEY: &str = "fleet_key";
/// The keys of the machine that has the remote.
pub(super) const HOSTS: &str = "fleet_hosts";
/// Says that the user is ours to remove.
const OWN_USER: &str = ".windlass-made-this-user";
/// sshd says who it is at once.
const PATIENCE: Duration = Duration::from_secs(5);

/// What of `windlass init` is about repositories on this machine.
#[derive(Args, Debug)]
#[command(next_help_heading = "Repositories on this machine")]
pub(super) struct HostArgs {
    /// Keep both repositories on this machine; other nodes reach them by ssh
    #[arg(long, conflicts_with_all = ["desired", "state", "print_join", "print_key"])]
    pub(super) host_remote: bool,
    /// Where they stand
    #[arg(long, value_name = "DIR", default_value = "/srv/windlass", requires = "host_remote")]
    remote_dir: PathBuf,
    /// User as whom they are reached; made if missing
    #[arg(long, value_name = "NAME", default_value = "windlass-git", requires = "host_remote")]
    remote_user: String,
    /// Address at which other nodes reach this machine's sshd; this node's by default
    #[arg(long, value_name = "HOST", requires = "host_remote")]
    remote_address: Option<String>,
    /// Port of sshd
    #[arg(long, value_name = "PORT", default_value_t = 22, requires = "host_remote")]
    remote_port: u16,
    /// The user's list of keys; .ssh/authorized_keys in its home by default
    #[arg(long, value_name = "FILE", requires = "host_remote")]
    authorized_keys: Option<PathBuf>,
    /// Let a node in: its name, and its public key or the file that has it
    #[arg(long, value_name = "NODE=KEY", requires = "host_remote")]
    admit: Vec<String>,
    /// Let a person push manifests: the public key, or the file that has it
    #[arg(long, value_name = "KEY", requires = "host_remote")]
    admit_person: Vec<String>,
    /// Take a node's key back, and its ref out of the state
    #[arg(long, value_name = "NODE", requires = "host_remote")]
    expel: Vec<String>,
    /// Take every key back, and the user away if it was made for this; the repositories stay
    #[arg(long, requires = "host_remote", conflicts_with_all = ["admit", "admit_person", "expel"])]
    pub(super) undo: bool,
}

/// Where the repositories are, for `agent.yaml`.
pub(super) struct Hosted {
    /// The desired repository's address.
    pub(super) desired: String,
    /// The state store's.
    pub(super) state: String,
    /// This node's key.
    pub(super) key: PathBuf,
    /// The server's keys.
    pub(super) hosts: PathBuf,
}

/// What is done, for the person to read.
#[derive(Default)]
pub(super) struct Deeds(String);

impl Deeds {
    fn say(&mut self, what: &str, how: impl std::fmt::Display) {
        self.0.push_str(&format!("{what:<10}{how}\n"));
    }

    pub(super) fn text(&self) -> &str {
        &self.0
    }
}

/// Sets up the repositories and who may reach them. What stands in the way is said before anything is
/// changed.
pub(super) async fn set_up(
    args: &Init,
    node: &NodeName,
    deeds: &mut Deeds,
) -> Result<Hosted, Failure> {
    let host = &args.host;
    let address = match (&host.remote_address, args.machine.address) {
        (Some(address), _) => address.clone(),
        (None, Some(ip)) => ip.to_string(),
        (None, None) => own_address().await?,
    };
    let keys = may_host(host, &address)?;
    let nodes = host.admit.iter().map(|text| admitted(text)).collect::<Result<Vec<_>, _>>()?;
    let people =
        host.admit_person.iter().map(|text| public_key(text)).collect::<Result<Vec<_>, _>>()?;
    let user = ensure_user(host, deeds)?;
    let repository = |name: &str| host.remote_dir.join(name);
    for name in ["desired.git", "state.git"] {
        let branch = args.common.branch.as_deref().unwrap_or("main");
        ensure_repository(&repository(name), branch, &user, deeds)?;
    }
    let etc = args.machine.config.parent().unwrap_or(Path::new("/etc/windlass"));
    fs::create_dir_all(etc).map_err(|error| super::cant_write(etc, &error))?;
    let (key, hosts) = (etc.join(KEY), etc.join(HOSTS));
    if ensure_key(&key, node)? {
        deeds.say("made", format!("{}, this node's own key", key.display()));
    }
    put_file(&hosts, &keys, 0o644, None, "the keys of this machine's sshd", deeds)?;
    let own = public_key(&format!("{}.pub", key.display()))?;
    let list = authorized_keys(host, &user);
    let mut lines = fs::read_to_string(&list).unwrap_or_default();
    let (desired, state) = (repository("desired.git"), repository("state.git"));
    let program = std::env::current_exe().map_err(Failure::plain)?;
    let program = program.display();
    let serves = |node: &NodeName| {
        format!(
            "{program} serve-git --node {node} --desired {} {}",
            desired.display(),
            state.display()
        )
    };
    for (node, key) in nodes.iter().map(|(node, key)| (node, key)).chain([(node, &own)]) {
        lines = with_line(&lines, &mark_of(node.as_str()), &serves(node), key);
    }
    for key in &people {
        let serves = format!("{program} serve-git --person --desired {}", desired.display());
        lines = with_line(&lines, key, &serves, key);
    }
    for name in &host.expel {
        lines = without(&lines, &mark_of(name));
        let register = format!("refs/windlass/nodes/{name}");
        git(&state, &["update-ref", "-d", &register])?;
        deeds.say("expelled", format!("node {name}: its key opens nothing here, its ref is gone"));
    }
    put_file(&list, &lines, 0o600, Some(&user), "who may reach the repositories", deeds)?;
    let port =
        if host.remote_port == 22 { String::new() } else { format!(":{}", host.remote_port) };
    let url = |path: &Path| format!("ssh://{}@{address}{port}{}", user.name, path.display());
    Ok(Hosted { desired: url(&desired), state: url(&state), key, hosts })
}

/// Takes every key back, and the user away if we made it.
pub(super) fn undo(host: &HostArgs, deeds: &mut Deeds) -> Result<(), Failure> {
    let dir = &host.remote_dir;
    let Ok(Some(user)) = User::from_name(&host.remote_user) else {
        deeds.say("kept", format!("{}: there is no user {}", dir.display(), host.remote_user));
        return Ok(());
    };
    let list = authorized_keys(host, &user);
    if let Ok(lines) = fs::read_to_string(&list) {
        let left = without(&lines, SERVES);
        put_file(
            &list,
            &left,
            0o600,
            Some(&user),
            "no key of this fleet is in it any more",
            deeds,
        )?;
    }
    let mark = dir.join(OWN_USER);
    if mark.exists() {
        run("userdel", &[&host.remote_user])?;
        fs::remove_file(&mark).map_err(|error| super::cant_write(&mark, &error))?;
        deeds.say("removed", format!("user {}", host.remote_user));
    }
    deeds
        .say("kept", format!("{}: the manifests and the state are yours to remove", dir.display()));
    Ok(())
}

/// What is in every line of ours.
const SERVES: &str = " serve-git --";

fn mark_of(node: &str) -> String {
    format!("{SERVES}node {node} ")
}

/// The list with one line more, in place of what has this mark.
fn with_line(list: &str, mark: &str, serves: &str, key: &str) -> String {
    format!("{}command=\"{serves}\",restrict {key}\n", without(list, mark))
}

/// The list without our lines that have this mark. Other people's lines stay.
fn without(list: &str, mark: &str) -> String {
    let is_ours = |line: &&str| line.starts_with("command=\"") && line.contains(SERVES);
    let left = list.lines().filter(|line| !(is_ours(line) && line.contains(mark)));
    left.map(|line| format!("{line}\n")).collect()
}

/// Whether this machine can have the repositories; the keys of its sshd.
fn may_host(host: &HostArgs, address: &str) -> Result<String, Failure> {
    let mut bad = Vec::new();
    if !geteuid().is_root() {
        bad.push("only root can set this up".to_owned());
    }
    for path in [&host.remote_dir].into_iter().chain(&host.authorized_keys) {
        let text = path.display().to_string();
        if !path.is_absolute() || text.contains(|c: char| c.is_whitespace() || "\"'\\".contains(c))
        {
            bad.push(format!("{text} must be a whole path, with neither blanks nor quotes in it"));
        }
    }
    for (program, package) in
        [("git", "git"), ("ssh-keygen", "openssh-client"), ("ssh-keyscan", "openssh-client")]
    {
        if Command::new(program).arg("-?").output().is_err() {
            bad.push(format!("{program} is missing: apt-get install {package}"));
        }
    }
    let keys = match greeting(address, host.remote_port) {
        Ok(()) => keys_of(address, host.remote_port).unwrap_or_else(|why| {
            bad.push(why);
            String::new()
        }),
        Err(why) => {
            bad.push(format!(
                "no sshd answers at {address}, port {} ({why}): apt-get install openssh-server, or name \
                 another (--remote-address, --remote-port)",
                host.remote_port
            ));
            String::new()
        }
    };
    match bad.is_empty() {
        true => Ok(keys),
        false => {
            let list: Vec<String> = bad.iter().map(|bad| format!("\n  {bad}")).collect();
            Err(Failure::hinted(
                list.concat(),
                "mend it and run the command again; nothing was changed",
            ))
        }
    }
}

fn greeting(address: &str, port: u16) -> io::Result<()> {
    let found = (address, port).to_socket_addrs()?.next();
    let found = found.ok_or_else(|| io::Error::other("it has no address"))?;
    let mut stream = TcpStream::connect_timeout(&found, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut word = [0; 4];
    stream.read_exact(&mut word)?;
    if word == *b"SSH-" { Ok(()) } else { Err(io::Error::other("something else answers")) }
}

/// The server's keys as it shows them, in the form of `known_hosts`. It is this machine that is asked.
fn keys_of(address: &str, port: u16) -> Result<String, String> {
    let output =
        Command::new("ssh-keyscan").args(["-T", "5", "-p", &port.to_string(), address]).output();
    let output = output.map_err(|error| format!("ssh-keyscan: {error}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut lines: Vec<&str> = text.lines().filter(|line| !line.starts_with('#')).collect();
    lines.sort_unstable();
    if lines.is_empty() {
        return Err(format!("sshd at {address}, port {port} shows no key"));
    }
    Ok(lines.iter().map(|line| format!("{line}\n")).collect())
}

async fn own_address() -> Result<String, Failure> {
    let seen = Links::default().call(LinksCall::Survey).await.map_err(Failure::plain)?;
    let LinksAnswer::Survey(seen) = seen else {
        return Err(Failure::plain("the kernel answered another question"));
    };
    let address = seen.default_source.or_else(|| seen.addresses.first().copied());
    address.map(|ip| ip.to_string()).ok_or_else(|| {
        Failure::hinted(
            "this machine has no address",
            "--remote-address names the one that others reach",
        )
    })
}

fn ensure_user(host: &HostArgs, deeds: &mut Deeds) -> Result<User, Failure> {
    let dir = &host.remote_dir;
    let name = &host.remote_user;
    let find = || User::from_name(name).map_err(Failure::plain);
    let is_new = find()?.is_none();
    if is_new {
        // A password that nobody can type; sshd takes "!" for an account that is locked altogether. The
        // shell is what sshd runs the forced command by.
        let home = dir.display().to_string();
        let words = ["--system", "--home-dir", &home, "--no-create-home", "--shell", "/bin/sh"];
        run("useradd", &[&words[..], &["--password", "*", name]].concat())?;
        deeds.say("made", format!("user {name}: no password, home {home}"));
    }
    let user = find()?.ok_or_else(|| Failure::plain(format!("there is no user {name}")))?;
    if !dir.exists() {
        fs::create_dir_all(dir).map_err(|error| super::cant_write(dir, &error))?;
        own(dir, &user, 0o755)?;
        deeds.say("made", dir.display());
    }
    if is_new {
        // Of an earlier user, who was taken away.
        for left in ["desired.git", "state.git", ".ssh"].map(|name| dir.join(name)) {
            if left.exists() {
                give(&left, &user)?;
                deeds.say("gave", format!("{} to {name}", left.display()));
            }
        }
        let mark = dir.join(OWN_USER);
        fs::write(&mark, "").map_err(|error| super::cant_write(&mark, &error))?;
    }
    Ok(user)
}

fn ensure_repository(
    path: &Path,
    branch: &str,
    user: &User,
    deeds: &mut Deeds,
) -> Result<(), Failure> {
    if path.exists() {
        let said = git(path, &["rev-parse", "--is-bare-repository"])?;
        if said.trim() != "true" {
            return Err(Failure::hinted(
                format!("{} is there, and no bare repository", path.display()),
                "--remote-dir names another place",
            ));
        }
        return Ok(());
    }
    let text = path.display().to_string();
    run("git", &["init", "-q", "--bare", "-b", branch, &text])?;
    // An acknowledged decision outlives a power cut; rings and cut-back histories are garbage soon.
    git(path, &["config", "core.fsync", "all"])?;
    git(path, &["config", "gc.pruneExpire", "1.hour.ago"])?;
    give(path, user)?;
    deeds.say("made", format!("{text}, a bare repository"));
    Ok(())
}

/// Makes a node's key unless it is there; whether it was made.
pub(super) fn ensure_key(path: &Path, node: &NodeName) -> Result<bool, Failure> {
    if path.exists() {
        return Ok(false);
    }
    let text = path.display().to_string();
    run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-C", node.as_str(), "-f", &text])?;
    Ok(true)
}

fn authorized_keys(host: &HostArgs, user: &User) -> PathBuf {
    host.authorized_keys.clone().unwrap_or_else(|| user.dir.join(".ssh/authorized_keys"))
}

/// `n2=ssh-ed25519 AAAA…`, or with a file.
fn admitted(text: &str) -> Result<(NodeName, String), Failure> {
    let wrong = |why: String| Failure::usage(format!("--admit {text}: {why}"));
    let (name, key) = text.split_once('=').ok_or_else(|| wrong("write NODE=KEY".into()))?;
    let name = NodeName::parse(name, NameRule::Subdomain).map_err(wrong)?;
    Ok((name, public_key(key)?))
}

/// A public key, from a file or as it is: type and key, and nothing that sshd would take for options.
pub(super) fn public_key(text: &str) -> Result<String, Failure> {
    let content = match text.contains(' ') {
        true => text.to_owned(),
        false => fs::read_to_string(text)
            .map_err(|error| Failure::usage(format!("{text} can't be read: {error}")))?,
    };
    let mut words = content.split_whitespace();
    let (kind, key) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let is_kind = ["ssh-", "ecdsa-", "sk-"].iter().any(|start| kind.starts_with(start));
    let is_key = key.starts_with("AAAA")
        && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
    match is_kind && is_key && content.trim().lines().count() == 1 {
        true => Ok(format!("{kind} {key}")),
        false => Err(Failure::usage(format!("{text} is no public ssh key"))),
    }
}

/// Writes a file, whole, unless it says just that.
fn put_file(
    path: &Path,
    text: &str,
    mode: u32,
    owner: Option<&User>,
    what: &str,
    deeds: &mut Deeds,
) -> Result<(), Failure> {
    if fs::read_to_string(path).is_ok_and(|there| there == text) {
        return Ok(());
    }
    let failed = |error: &io::Error| super::cant_write(path, error);
    if let Some(dir) = path.parent().filter(|dir| !dir.exists()) {
        fs::create_dir_all(dir).map_err(|error| failed(&error))?;
        if let Some(owner) = owner {
            own(dir, owner, 0o700)?;
        }
    }
    let new = path.with_extension("windlass-new");
    let write = || -> io::Result<()> {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(mode).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    };
    write().map_err(|error| failed(&error))?;
    if let Some(owner) = owner {
        own(&new, owner, mode)?;
    }
    fs::rename(&new, path).map_err(|error| failed(&error))?;
    deeds.say("wrote", format!("{}: {what}", path.display()));
    Ok(())
}

fn own(path: &Path, user: &User, mode: u32) -> Result<(), Failure> {
    let (uid, gid): (Uid, Gid) = (user.uid, user.gid);
    chown(path, Some(uid), Some(gid)).map_err(|error| super::cant_write(path, &error.into()))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
        .map_err(|error| super::cant_write(path, &error))
}

/// With all that is in it.
fn give(path: &Path, user: &User) -> Result<(), Failure> {
    let owner = format!("{}:{}", user.uid, user.gid);
    run("chown", &["-R", &owner, &path.display().to_string()]).map(drop)
}

fn git(repository: &Path, args: &[&str]) -> Result<String, Failure> {
    let path = repository.display().to_string();
    let safe = format!("safe.directory={path}");
    run("git", &[&["-c", &safe, "-C", &path], args].concat())
}

fn run(program: &str, args: &[&str]) -> Result<String, Failure> {
    let output = Command::new(program).args(args).output();
    let output = output.map_err(|error| Failure::plain(format!("{program}: {error}")))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(Failure::plain(format!("{program} {}: {}", args.join(" "), said.trim())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_keys_keeps_what_is_not_ours() {
        let theirs = "# mine\nssh-rsa AAAA ada\ncommand=\"borg serve\" ssh-rsa AAAB\n";
        let one =
            with_line(theirs, &mark_of("n1"), "windlass serve-git --node n1 /x", "ssh-ed25519 A");
        let two =
            with_line(&one, &mark_of("n11"), "windlass serve-git --node n11 /x", "ssh-ed25519 B");
        assert!(two.starts_with(theirs) && two.lines().count() == 5, "{two}");
        let again =
            with_line(&two, &mark_of("n1"), "windlass serve-git --node n1 /x", "ssh-ed25519 C");
        assert!(!again.contains("ssh-ed25519 A") && again.contains("ssh-ed25519 B"), "{again}");
        assert_eq!(without(&again, SERVES), theirs);
    }

    #[test]
    fn only_a_public_key_gets_into_the_list() {
        assert_eq!(public_key("ssh-ed25519 AAAAC3 me").expect("is one"), "ssh-ed25519 AAAAC3");
        for text in [
            "no-pty,command=\"sh\" ssh-ed25519 AAAAC3",
            "ssh-ed25519 BBBB",
            "ssh-ed25519 AAAA\nssh-ed25519 AAAB",
            "ssh-ed25519 AAAA\" ",
            "/nowhere/key.pub",
        ] {
            assert!(public_key(text).is_err(), "{text}");
        }
        assert!(admitted("n2=ssh-ed25519 AAAA").is_ok());
        assert!(admitted("n 2=ssh-ed25519 AAAA").is_err() && admitted("ssh-ed25519 AAAA").is_err());
    }
}
