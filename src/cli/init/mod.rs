//! `windlass init` and `windlass join`: a machine becomes a node. What kubeadm is to Kubernetes, with no
//! certificates to hand out and none to expire.
//!
//! ```text
//!   flags, or a token ─▶ settings ─▶ checks ─▶ agent.yaml ─▶ systemd ─▶ the line for the others
//!                        (as the agent         (0600, whole
//!                         reads them)           or not at all)
//! ```
//!
//! All checks are made before anything is written, and all that stands in the way is said at once.
//! The limit: the files that open the repositories are for the person to copy.

mod args;
mod checks;
mod host;
mod token;
mod trust;

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use self::args::{CommonArgs, Machine};
pub(super) use self::args::{Init, Join};
use self::token::Common;
use super::Context;
use super::common::TRUST;
use super::config::{self, Loaded};
use super::fault::Failure;
use super::progress::Steps;
use crate::adapters::identity::Identity;
use crate::kinds::certified::ANNOTATION_NODE_KEY;
use crate::kinds::fleet::FleetSettings;
use crate::kinds::name::{NameRule, NodeName};

/// The unit's name.
const UNIT: &str = "windlass.service";

/// Runs `windlass init`.
pub(super) async fn init(args: &mut Init, context: &mut Context) -> Result<(), Failure> {
    if args.host.host_remote && host_remote(args, context).await? {
        return Ok(());
    }
    if args.print_join || args.print_key {
        let loaded = config::load(&args.machine.config, &config::hostname(), "")
            .map_err(|fault| Failure::hinted(fault, "`windlass init` writes it"))?;
        let text = if args.print_key { certificate(&loaded)? } else { join_line(&loaded)? };
        return context.out.text(&text);
    }
    let settings = from_flags(&args.common)?;
    let done = set_up(&settings, &args.machine, Begin::First).await?;
    context.out.text(&done.text)?;
    let common = Common::of(&done.loaded);
    if let Some(why) = checks::keeps_to_itself(&common) {
        return context.out.text(&format!("\nThis machine stays alone: {why}.\n"));
    }
    say_key(&done.loaded, context)?;
    let line = join_line(&done.loaded)?;
    context
        .out
        .text(&format!("\nOn every other machine, with Docker and iptables there:\n  {line}"))?;
    let files = checks::secrets(&done.loaded);
    if Common::of(&done.loaded).hosts.is_some() {
        context.out.text(
            "\nThere the key is made by which that machine comes, and the command is printed that lets it in \
             here. People push manifests to\n  ",
        )?;
        context.out.text(&format!("{}\n", done.loaded.file.desired.url))?;
        context
            .out
            .text("once `windlass init --host-remote --admit-person KEY` has let them in.\n")?;
    } else if !files.is_empty() {
        let names = files.join(", ");
        context.out.text(&format!(
            "\nThe token holds no secrets. Copy these files to the same places there first, readable by \
             root alone:\n  {names}\nand name them to join as you did here.\n"
        ))?;
    }
    Ok(())
}

/// Sets up the repositories on this machine; whether that was all.
async fn host_remote(args: &mut Init, context: &mut Context) -> Result<bool, Failure> {
    let mut deeds = host::Deeds::default();
    if args.host.undo {
        let undone = host::undo(&args.host, &mut deeds);
        context.out.text(deeds.text())?;
        return undone.map(|()| true);
    }
    let name =
        args.machine.node_name.clone().unwrap_or_else(|| config::hostname().to_ascii_lowercase());
    let node = NodeName::parse(&name, NameRule::Subdomain)
        .map_err(|why| Failure::usage(format!("{name}: {why}: --node-name names it otherwise")))?;
    let hosted = host::set_up(args, &node, &mut deeds).await;
    // Also what was done before something failed.
    context.out.text(deeds.text())?;
    let hosted = hosted?;
    let there = config::load(&args.machine.config, &config::hostname(), "");
    if let Ok(there) = there.as_ref()
        && there.state_url == hosted.state
        && !args.machine.force
    {
        context.out.text(&format!("\n{}\n", join_line(there)?.trim_end()))?;
        return Ok(true);
    }
    args.common.desired = Some(hosted.desired);
    args.common.state = Some(hosted.state);
    args.machine.ssh_key = Some(hosted.key);
    args.machine.known_hosts = Some(hosted.hosts);
    Ok(false)
}

/// Where one of the nodes has the repositories, each comes by a key of its own, which is made here.
fn come_by_own_key(token: &Common, machine: &mut Machine) -> Result<(), Failure> {
    let Some(keys) = token.hosts.as_ref().filter(|_| machine.ssh_key.is_none()) else {
        return Ok(());
    };
    let dir = machine.config.parent().unwrap_or(Path::new("/etc/windlass")).to_owned();
    let (key, hosts) = (dir.join(host::KEY), dir.join(host::HOSTS));
    fs::create_dir_all(&dir).map_err(|error| cant_write(&dir, &error))?;
    fs::write(&hosts, keys).map_err(|error| cant_write(&hosts, &error))?;
    let name = machine.node_name.clone().unwrap_or_else(|| config::hostname().to_ascii_lowercase());
    let node = NodeName::parse(&name, NameRule::Subdomain)
        .map_err(|why| Failure::usage(format!("{name}: {why}: --node-name names it otherwise")))?;
    let is_new = host::ensure_key(&key, &node)?;
    let public = host::public_key(&format!("{}.pub", key.display()))?;
    machine.known_hosts.get_or_insert(hosts);
    machine.ssh_key = Some(key.clone());
    if !is_new {
        return Ok(());
    }
    Err(Failure::hinted(
        format!("{} has just been made, and nobody knows it yet", key.display()),
        format!(
            "on the machine with the repositories, run\n  windlass init --host-remote --admit \
             '{node}={public}'\n(with the flags it was set up with), and then this command again"
        ),
    ))
}

/// Runs `windlass join`.
pub(super) async fn join(args: &mut Join, context: &mut Context) -> Result<(), Failure> {
    let (settings, begin) = match &args.token {
        Some(token) => {
            let common = Common::parse(token);
            let common = common.map_err(|why| Failure::usage(format!("the token {why}")))?;
            may_write(&args.machine)?;
            come_by_own_key(&common, &mut args.machine)?;
            (common.config(), Begin::Token)
        }
        None => (from_flags(&args.common)?, Begin::Flags),
    };
    if settings["state"]["url"].as_str().is_none_or(config::is_path) {
        return Err(Failure::hinted(
            "there is no fleet to join: --state must name the repository where its nodes keep their \
             state, and a path is of this machine alone",
            "copy the line that `windlass init --print-join` prints on its first node",
        ));
    }
    let done = set_up(&settings, &args.machine, begin).await?;
    context.out.text(&done.text)?;
    say_key(&done.loaded, context)?;
    context.out.text("\nwindlass get nodes shows it as soon as its agent runs.\n")
}

/// Says how the machine's key is certified.
fn say_key(loaded: &Loaded, context: &mut Context) -> Result<(), Failure> {
    let manifest = certificate(loaded)?;
    let lines: Vec<String> = manifest.lines().map(|line| format!("  {line}\n")).collect();
    context.out.text(&format!(
        "\nSo that nobody can pass for this machine by writing to the state repository, commit its key \
         beside the manifests. Once one machine's key is there, every machine's must be:\n{}",
        lines.concat()
    ))
}

/// The manifest that certifies this machine's key, which is made if there is none.
fn certificate(loaded: &Loaded) -> Result<String, Failure> {
    let dir = &loaded.file.data_dir;
    fs::create_dir_all(dir).map_err(|error| cant_write(dir, &error))?;
    let key = Identity::open(dir).map_err(Failure::plain)?.public();
    Ok(format!(
        "apiVersion: v1\nkind: Node\nmetadata:\n  name: {}\n  annotations:\n    {ANNOTATION_NODE_KEY}: \
         \"{key}\"\n",
        loaded.agent.node
    ))
}

fn join_line(loaded: &Loaded) -> Result<String, Failure> {
    let common = Common::of(loaded);
    match checks::keeps_to_itself(&common) {
        Some(why) => Err(Failure::plain(format!("no other machine can join: {why}"))),
        None => Ok(format!("windlass join {}\n", common.token())),
    }
}

/// The settings that flags name, as in `agent.yaml`.
fn from_flags(args: &CommonArgs) -> Result<Value, Failure> {
    let Some(desired) = &args.desired else {
        return Err(Failure::usage("--desired must name the repository with the manifests"));
    };
    let desired = absolute(desired);
    let state = args.state.as_deref().map(absolute);
    if state.is_none() && !config::is_path(&desired) {
        return Err(Failure::hinted(
            "where is the fleet's state to be kept? Agents write there, some times a minute",
            format!(
                "--state URL names it. Best is a repository of its own on a server of yours, to which \
                 only agents can write; --state {desired} keeps it beside the manifests, where agents \
                 then need to write too and the server's rate limits hold for both; --state \
                 /var/lib/windlass/state.git is for this machine alone"
            ),
        ));
    }
    let mut settings = json!({"desired": {"url": desired}});
    put(&mut settings, "desired", "branch", &args.branch);
    put(&mut settings, "desired", "directory", &args.directory);
    put(&mut settings, "desired", "trust", &args.trust);
    put(&mut settings, "state", "url", &state);
    put(&mut settings, "network", "podNetwork", &args.pod_network);
    put(&mut settings, "network", "nodePrefix", &args.node_prefix);
    put(&mut settings, "network", "serviceNetwork", &args.service_network);
    put(&mut settings, "network", "dnsAddress", &args.dns_address);
    put(&mut settings, "network", "clusterDomain", &args.cluster_domain);
    put(&mut settings, "network", "nodePorts", &args.node_ports);
    put(&mut settings, "network", "mode", &args.network_mode);
    put(&mut settings, "network", "vxlanId", &args.vxlan_id);
    put(&mut settings, "network", "vxlanPort", &args.vxlan_port);
    Ok(settings)
}

/// A path that is there, in full; all else as it is.
fn absolute(text: &str) -> String {
    match fs::canonicalize(text) {
        Ok(path) => path.display().to_string(),
        Err(_) => text.to_owned(),
    }
}

fn put<T: serde::Serialize>(settings: &mut Value, part: &str, field: &str, value: &Option<T>) {
    if let Some(value) = value {
        settings[part][field] = json!(value);
    }
}

/// How a machine comes to be a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Begin {
    /// It is the first.
    First,
    /// It joins the others, by a token that one of them has printed.
    Token,
    /// It joins the others, by what somebody has typed.
    Flags,
}

/// What has been done.
struct Done {
    loaded: Loaded,
    text: String,
}

async fn set_up(settings: &Value, machine: &Machine, begin: Begin) -> Result<Done, Failure> {
    may_write(machine)?;
    let unique = super::agent::random();
    let scratch = Scratch::make(&unique)?;
    let draft = scratch.0.join("agent.yaml");
    let loaded = load(&draft, &machine.config, &own(settings.clone(), machine)?)?;
    let mut common = Common::of(&loaded);
    let mut notes = Vec::new();
    if begin == Begin::First && loaded.agent.trust.is_none() {
        notes.extend(trust::pin(&mut common, &loaded, &scratch.0.join("pin")).await);
    }
    if begin != Begin::First
        && let Some(fleet) = checks::recorded(&loaded, &scratch.0.join("recorded")).await
    {
        notes = agree(&mut common, &fleet, settings, begin)?;
    }
    // Settings that others must share are written out, also where they are the default: another
    // version may have another.
    let mut settings = common.config();
    settings["node"]["name"] = json!(loaded.agent.node);
    let text = own(settings, machine)?;
    let loaded = load(&draft, &machine.config, &text)?;
    let mut steps = Steps::new(checks::STEPS + 2);
    let joins = begin != Begin::First;
    let found = checks::check(&loaded, joins, &unique, &scratch.0, &mut steps).await;
    if !found.bad.is_empty() {
        steps.end("this machine can't be a node yet");
        let list: Vec<String> = found.bad.iter().map(|bad| format!("\n  {bad}")).collect();
        // Its key, and what `--host-remote` has named, were made before.
        let hint = match machine.ssh_key.as_ref().is_some_and(|key| key.ends_with(host::KEY)) {
            true => "mend it and run the command again; agent.yaml was not written",
            false => "mend it and run the command again; nothing was changed here",
        };
        return Err(Failure::hinted(list.concat(), hint));
    }
    steps.step(&format!("writing {}", machine.config.display()));
    write(&machine.config, &text)?;
    steps.step("starting the agent");
    let started = start(machine)?;
    steps.end(&format!("{} is a node", loaded.agent.node));
    let mut lines: Vec<(&str, String)> = vec![("config", machine.config.display().to_string())];
    lines.extend(found.good);
    lines.push(("agent", started));
    let mut text = String::new();
    for (what, how) in lines {
        text.push_str(&format!("{what:<10}{how}\n"));
    }
    for note in notes.into_iter().chain(found.notes) {
        text.push_str(&format!("note: {note}.\n"));
    }
    Ok(Done { loaded, text })
}

/// Takes over what the fleet has written down, which is newer than any token; what somebody has typed
/// otherwise is refused.
fn agree(
    common: &mut Common,
    fleet: &FleetSettings,
    given: &Value,
    begin: Begin,
) -> Result<Vec<String>, Failure> {
    let is_given = |field: &str| given.pointer(&format!("/{}", field.replace('.', "/"))).is_some();
    let differences = common.settings.differences(fleet);
    // Whoever can write the state must not be able to say whom to trust.
    if let Some(trust) = differences.iter().find(|found| found.field == TRUST) {
        return Err(Failure::hinted(
            trust.told("here"),
            "whom to trust is not taken from the fleet's state. Print the token anew on a node that \
             you trust, or name the fingerprint yourself: --trust sha256:…",
        ));
    }
    let given: Vec<String> = differences
        .iter()
        .filter(|difference| is_given(&difference.field))
        .map(|difference| match begin {
            Begin::Token => difference.told("in the token"),
            Begin::First | Begin::Flags => difference.told("here"),
        })
        .collect();
    if begin == Begin::Flags && !given.is_empty() {
        return Err(Failure::hinted(
            format!("settings differ from those of the fleet: {}", given.join(", ")),
            "leave those flags out: what all nodes share is read from the fleet's state",
        ));
    }
    let mut next = fleet.completed_by(&common.settings);
    next.version = fleet.version;
    common.settings = next;
    let changed = given.iter().map(|given| {
        format!(
            "{given}: the fleet has changed it since the token was printed, and its value was taken"
        )
    });
    Ok(changed.collect())
}

/// Refuses to take away what somebody has written. The template that `make install` puts there names
/// no repository, and is nobody's.
fn may_write(machine: &Machine) -> Result<(), Failure> {
    let path = &machine.config;
    let Ok(text) = fs::read_to_string(path) else { return Ok(()) };
    let there: Value = serde_yaml::from_str(&text).unwrap_or_default();
    let is_template = there["desired"]["url"].as_str() == Some("");
    if machine.force || is_template {
        return Ok(());
    }
    Err(Failure::hinted(
        format!("{} is there already: this machine is a node, or was one", path.display()),
        "--force writes it anew; --config names another place; `windlass init --print-join` prints the \
         line for other machines",
    ))
}

/// Adds what is this machine's own, and makes a file of it.
fn own(mut settings: Value, machine: &Machine) -> Result<String, Failure> {
    put(&mut settings, "node", "name", &machine.node_name);
    put(&mut settings, "node", "address", &machine.address);
    for label in &machine.label {
        let Some((key, value)) = label.split_once('=') else {
            return Err(Failure::usage(format!("--label {label}: write key=value")));
        };
        settings["node"]["labels"][key] = json!(value);
    }
    put(&mut settings, "docker", "socket", &machine.docker_socket);
    if let Some(dir) = &machine.data_dir {
        settings["dataDir"] = json!(dir);
    }
    let desired = machine.credentials()?;
    let state = machine.state_credentials()?;
    for (part, credentials) in [("desired", desired), ("state", state)] {
        if credentials.as_object().is_some_and(|fields| !fields.is_empty()) {
            settings[part]["credentials"] = credentials;
        }
    }
    let yaml = serde_yaml::to_string(&settings).map_err(Failure::plain)?;
    Ok(format!(
        "# Written by windlass. What else may be set, and what it means: systemd/agent.yaml.\n\
         # desired, state.url, network and fleet must be the same on every node.\n{yaml}"
    ))
}

/// Reads the settings as the agent will.
fn load(draft: &Path, config: &Path, text: &str) -> Result<Loaded, Failure> {
    fs::write(draft, text).map_err(|error| cant_write(draft, &error))?;
    config::load(draft, &config::hostname(), "").map_err(|mut fault| {
        fault.path = config.display().to_string();
        Failure::plain(fault)
    })
}

fn cant_write(path: &Path, error: &std::io::Error) -> Failure {
    let hint = match error.kind() {
        std::io::ErrorKind::PermissionDenied => "run it as root",
        _ => "the disk may be full or read-only",
    };
    Failure::hinted(format!("{} can't be written: {error}", path.display()), hint)
}

/// Writes the whole file or nothing; only root reads it.
fn write(path: &Path, text: &str) -> Result<(), Failure> {
    let new = path.with_extension("yaml.new");
    let write = || -> std::io::Result<()> {
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir)?;
        }
        let _ = fs::remove_file(&new);
        let mut file =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)
    };
    write().map_err(|error| cant_write(path, &error))
}

/// Has systemd start the agent, where systemd is and may; how it stands then.
fn start(machine: &Machine) -> Result<String, Failure> {
    let by_hand = format!("not started: windlass agent --config {}", machine.config.display());
    if machine.no_start || !Path::new("/run/systemd/system").is_dir() {
        return Ok(by_hand);
    }
    if machine.config != Path::new(config::DEFAULT_PATH) {
        return Ok(format!("{by_hand} ({UNIT} reads {})", config::DEFAULT_PATH));
    }
    // An agent that runs reads the new configuration only at its next start; pods go on meanwhile.
    for args in [["daemon-reload", ""], ["enable", UNIT], ["restart", UNIT]] {
        let args = args.iter().filter(|arg| !arg.is_empty());
        let output = Command::new("systemctl").args(args.clone()).output();
        let why = match output {
            Ok(output) if output.status.success() => continue,
            Ok(output) => String::from_utf8_lossy(&output.stderr).trim().to_owned(),
            Err(error) => error.to_string(),
        };
        let words: Vec<&str> = args.copied().collect();
        return Err(Failure::hinted(
            format!("systemctl {}: {why}", words.join(" ")),
            "the configuration is written. `make install` installs the unit; journalctl -u windlass \
             says why an agent ends",
        ));
    }
    Ok(format!("runs ({UNIT})"))
}

/// A directory of our own, gone with its owner.
struct Scratch(PathBuf);

impl Scratch {
    fn make(unique: &str) -> Result<Self, Failure> {
        let path = std::env::temp_dir().join(format!("windlass-{unique}"));
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|error| cant_write(&path, &error))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // In a directory for such things: whatever stays is cleared away by others.
        let _ = fs::remove_dir_all(&self.0);
    }
}
