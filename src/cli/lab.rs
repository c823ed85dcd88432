//! `windlass lab`: a fleet on this machine, for trying out and for tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::adapters::lab::{FIRST_NODE, LABS, LINKS_MAX, Lab, LabFault, NODES_MAX};
use crate::view::status::Status;

use super::Context;
use super::client::{Client, JSON};
use super::fault::Failure;
use super::progress::Steps;

/// How long pods may take until `up --wait` gives up.
const WAIT_MAX: Duration = Duration::from_secs(180);
const WAIT_STEP: Duration = Duration::from_millis(100);

/// Which lab, and what about it.
#[derive(Debug, Args)]
pub(super) struct LabArgs {
    /// Which lab.
    #[arg(long, global = true, default_value = "lab", value_name = "LAB")]
    lab: String,
    #[command(subcommand)]
    command: LabCommand,
}

#[derive(Debug, Subcommand)]
enum LabCommand {
    /// Makes a fleet, or starts what of it does not run.
    Up(Up),
    /// Leaves nothing of it.
    Down,
    /// Says which labs there are.
    List,
    /// Takes the power from a node; its disk stays.
    StopNode(One),
    /// Switches a node on.
    StartNode(One),
    /// Pulls a node's network cable.
    Cut(One),
    /// Plugs it in again.
    Heal(One),
    /// Ends the Git server of a lab of several nodes; its repositories stay.
    StopServer,
    /// Starts it again.
    StartServer,
    /// Runs a program, or a shell, in a node's network.
    Shell(Shell),
}

#[derive(Debug, Args)]
struct Up {
    /// How many machines.
    #[arg(long, default_value_t = 1)]
    nodes: u8,
    /// Over how many links they are spread; between links there is a router.
    #[arg(long)]
    links: Option<u8>,
    /// The desired repository: a path or a URL.
    #[arg(long, value_name = "URL")]
    desired: String,
    /// Its branch.
    #[arg(long, default_value = "main")]
    branch: String,
    /// The directory in it with the manifests.
    #[arg(long, default_value = "")]
    directory: String,
    /// Image archives (*.tar) to load into each node's Docker.
    #[arg(long, value_name = "DIR")]
    images: Option<PathBuf>,
    /// A setting of the nodes' agents, such as fleet.lease=5s; may be given several times.
    #[arg(long, value_name = "FIELD=VALUE")]
    set: Vec<String>,
    /// Waits until every pod is ready.
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Args)]
struct One {
    /// Which node.
    node: String,
}

#[derive(Debug, Args)]
struct Shell {
    /// Which node.
    node: String,
    /// The program and its arguments.
    #[arg(last = true)]
    command: Vec<String>,
}

impl From<LabFault> for Failure {
    fn from(fault: LabFault) -> Self {
        Self::plain(fault)
    }
}

/// Runs the command.
pub(super) async fn run(args: &LabArgs, context: &mut Context) -> Result<(), Failure> {
    if let Some(complaint) = Lab::name_complaint(&args.lab) {
        return Err(Failure::usage(format!("lab name {:?} {complaint}", args.lab)));
    }
    match &args.command {
        LabCommand::Up(up) => return up_lab(&args.lab, up).await,
        LabCommand::List => return list(context),
        LabCommand::Down => {
            let lab = Lab::open(&args.lab)?;
            let mut steps = Steps::new(lab.nodes.len() + 1);
            lab.down(&mut |step| steps.step(step))?;
            steps.end(&format!("lab {} is gone", lab.name));
        }
        LabCommand::StopNode(one) => with_node(&args.lab, &one.node)?.stop_node(&one.node)?,
        LabCommand::StartNode(one) => {
            let lab = with_node(&args.lab, &one.node)?;
            let mut steps = Steps::new(3);
            lab.start_node(&one.node, &mut |step| steps.step(step))?;
            steps.end(&format!("{} runs", one.node));
        }
        LabCommand::Cut(one) => with_node(&args.lab, &one.node)?.set_cable(&one.node, false)?,
        LabCommand::Heal(one) => with_node(&args.lab, &one.node)?.set_cable(&one.node, true)?,
        LabCommand::StopServer => with_server(&args.lab)?.stop_server()?,
        LabCommand::StartServer => {
            let lab = with_server(&args.lab)?;
            let mut steps = Steps::new(1);
            lab.start_server(&mut |step| steps.step(step))?;
            steps.end(&format!("the Git server runs at {}", lab.server_address()));
        }
        LabCommand::Shell(shell) => {
            let lab = with_node(&args.lab, &shell.node)?;
            return shell_in(&lab, shell);
        }
    }
    Ok(())
}

fn with_node(lab: &str, node: &str) -> Result<Lab, LabFault> {
    let lab = Lab::open(lab)?;
    if lab.nodes.contains_key(node) {
        return Ok(lab);
    }
    let names: Vec<&str> = lab.nodes.keys().map(String::as_str).collect();
    Err(LabFault::new(
        format!("node {node}"),
        format!("lab {} has no such node, but {}", lab.name, names.join(", ")),
    ))
}

fn with_server(lab: &str) -> Result<Lab, LabFault> {
    let lab = Lab::open(lab)?;
    if lab.has_server() {
        return Ok(lab);
    }
    Err(LabFault::new(
        format!("lab {}", lab.name),
        "has one node, whose repositories are paths: there is no Git server",
    ))
}

/// The labs that are there, in order of their names.
fn labs() -> Vec<Lab> {
    let Ok(entries) = fs::read_dir(LABS) else { return Vec::new() };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut labs: Vec<Lab> = names.filter_map(|name| Lab::open(&name).ok()).collect();
    labs.sort_by(|a, b| a.name.cmp(&b.name));
    labs
}

fn list(context: &mut Context) -> Result<(), Failure> {
    for lab in labs() {
        for node in lab.nodes.keys() {
            let address = lab.address(node).map(|address| address.to_string()).unwrap_or_default();
            let word = if lab.agent_answers(node) { "runs" } else { "is off" };
            let socket = lab.agent_socket(node);
            let line = format!("{} {node} {address} {word} {}\n", lab.name, socket.display());
            context.out.text(&line)?;
        }
        if let Some(state) = lab.state.as_ref().filter(|_| lab.has_server()) {
            let word = if lab.server_answers() { "runs" } else { "is off" };
            let address = lab.server_address();
            context.out.text(&format!("{} git {address} {word} {state}\n", lab.name))?;
        }
    }
    Ok(())
}

async fn up_lab(name: &str, up: &Up) -> Result<(), Failure> {
    if up.nodes == 0 || up.nodes > NODES_MAX {
        return Err(Failure::usage(format!("--nodes must be 1 to {NODES_MAX}")));
    }
    if up.links.is_some_and(|links| links == 0 || links > LINKS_MAX) {
        return Err(Failure::usage(format!("--links must be 1 to {LINKS_MAX}")));
    }
    let lab = planned(name, up)?;
    let archives = up.images.as_deref().map(archives).transpose()?.unwrap_or_default();
    let mut steps = Steps::new(1 + lab.nodes.len() * (3 + archives.len()));
    lab.save()?;
    take_program(&lab.program)?;
    lab.make_network()?;
    if lab.has_server() {
        lab.start_server(&mut |step| steps.step(step))?;
    }
    for node in lab.nodes.keys() {
        lab.start_docker(node, &mut |step| steps.step(step))?;
        for archive in &archives {
            let file = archive.file_name().unwrap_or_default().to_string_lossy();
            steps.step(&format!("{node}: image {file}"));
            lab.load_image(node, archive)?;
        }
        lab.start_node(node, &mut |step| steps.step(step))?;
    }
    steps.end(&format!("lab {name}: {} node(s) run", lab.nodes.len()));
    if up.wait { wait(&lab).await } else { Ok(()) }
}

/// The lab as it is to be: as it was, and what is asked for.
fn planned(name: &str, up: &Up) -> Result<Lab, LabFault> {
    let dir = Lab::dir_of(name);
    let before = Lab::open(name).ok();
    let network = match &before {
        Some(lab) => lab.network,
        None => {
            let taken: Vec<u8> = labs().iter().map(|lab| lab.network).collect();
            let free = (0..=u8::MAX).find(|number| !taken.contains(number));
            free.ok_or_else(|| LabFault::new("lab", "every network of labs is taken"))?
        }
    };
    let nodes = (0..up.nodes).map(|n| (format!("n{}", n + 1), FIRST_NODE + n)).collect();
    let mut lab = Lab {
        name: name.to_owned(),
        program: dir.join("windlass"),
        dir,
        network,
        links: up.links.or(before.as_ref().map(|lab| lab.links)).unwrap_or(1),
        nodes,
        desired: up.desired.clone(),
        branch: up.branch.clone(),
        directory: up.directory.clone(),
        state: None,
        served: Vec::new(),
        settings: before.as_ref().map(|lab| lab.settings.clone()).unwrap_or_default(),
    };
    for setting in &up.set {
        let (path, value) = setting.split_once('=').ok_or_else(|| {
            LabFault::new(format!("--set {setting}"), "write it as fleet.lease=5s")
        })?;
        lab.settings.insert(path.to_owned(), value.to_owned());
    }
    let path = fs::canonicalize(&up.desired).ok();
    // One node reads paths and keeps its state by itself; several share a server.
    if up.nodes > 1 {
        let state = lab.state_repository();
        lab.state = Some(served(&lab, &state)?);
        lab.served.push(state);
        if let Some(path) = path {
            lab.desired = served(&lab, &path)?;
            lab.served.push(path);
        }
    } else if let Some(path) = path {
        lab.desired = path.display().to_string();
    }
    if let Some(before) = before.as_ref().filter(|before| before.links != lab.links) {
        return Err(LabFault::new(
            format!("lab {name}"),
            format!(
                "was made with {} link(s), and cables stay where they are; `windlass lab --lab {name} \
                 down` first",
                before.links
            ),
        ));
    }
    // Agents that run read no new configuration, and state that is elsewhere is lost.
    if let Some(before) = before.filter(|before| before.state != lab.state) {
        let kind = if before.nodes.len() > 1 { "several nodes" } else { "one node" };
        return Err(LabFault::new(
            format!("lab {name}"),
            format!(
                "was made for {kind}, which keep state elsewhere; `windlass lab --lab {name} down` first"
            ),
        ));
    }
    Ok(lab)
}

fn served(lab: &Lab, path: &Path) -> Result<String, LabFault> {
    lab.served_url(path).ok_or_else(|| {
        let why = "can't be served to several nodes: its path has characters other than letters, digits and /._+-@,=";
        LabFault::new(path.display().to_string(), why)
    })
}

/// Puts this program into the lab, so that building a newer one disturbs no agent.
fn take_program(to: &Path) -> Result<(), LabFault> {
    let copy = || -> std::io::Result<()> {
        let new = to.with_extension("new");
        fs::copy(std::env::current_exe()?, &new)?;
        fs::rename(&new, to)
    };
    copy().map_err(|error| LabFault::new(format!("copying to {}", to.display()), error))
}

fn archives(dir: &Path) -> Result<Vec<PathBuf>, LabFault> {
    let entries = fs::read_dir(dir)
        .map_err(|error| LabFault::new(format!("images in {}", dir.display()), error))?;
    let paths = entries.filter_map(|entry| Some(entry.ok()?.path()));
    let mut archives: Vec<PathBuf> =
        paths.filter(|path| path.extension().is_some_and(|extension| extension == "tar")).collect();
    archives.sort();
    Ok(archives)
}

/// Waits until every pod is ready, and shows how far they are.
async fn wait(lab: &Lab) -> Result<(), Failure> {
    let Some(node) = lab.nodes.keys().next() else { return Ok(()) };
    let client = Client::new(lab.agent_socket(node));
    let mut steps = Steps::new(1);
    let mut waited = Duration::ZERO;
    let mut said = "the agent does not answer".to_owned();
    while waited < WAIT_MAX {
        let status = client.json("/windlass/v1/status", JSON).await.ok();
        if let Some(status) = status.and_then(|json| serde_json::from_value::<Status>(json).ok()) {
            if let Some(waiting) = status.apps.iter().find_map(|app| app.waiting.as_ref()) {
                let commit = waiting.commit.short();
                return Err(Failure::hinted(
                    format!("commit {commit}: {}", waiting.why),
                    "windlass status shows each finding",
                ));
            }
            let is_applied = status.apps.iter().any(|app| app.in_force.is_some());
            let pods = status.pods;
            let now = format!("pods ready: {} of {}", pods.ready, pods.total);
            if is_applied && pods.total > 0 {
                steps.reach(pods.ready, pods.total, &now);
            }
            if is_applied && pods.ready == pods.total {
                steps.end(&format!("every pod is ready ({})", pods.total));
                return Ok(());
            }
            said = match status.troubled_pods.first() {
                Some(pod) => format!("{now}; {}: {} {}", pod.pod, pod.status, pod.message),
                None => now,
            };
        }
        tokio::time::sleep(WAIT_STEP).await;
        waited += WAIT_STEP;
    }
    let log = lab.host(node).dir().join("agent.log");
    let seconds = WAIT_MAX.as_secs();
    Err(Failure::hinted(format!("not ready after {seconds} s: {said}"), log.display()))
}

fn shell_in(lab: &Lab, shell: &Shell) -> Result<(), Failure> {
    let mut words = shell.command.iter().map(String::as_str);
    let program = words.next().unwrap_or("sh");
    let host = lab.host(&shell.node);
    let mut command = host.command(program);
    command
        .args(words)
        .env("DOCKER_HOST", format!("unix://{}", host.socket().display()))
        .env("WINDLASS_SOCKET", lab.agent_socket(&shell.node))
        .stdin(std::process::Stdio::inherit());
    let status = command.status().map_err(|error| Failure::plain(format!("{program}: {error}")))?;
    match status.code() {
        Some(0) => Ok(()),
        code => Err(Failure::Code(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))),
    }
}
