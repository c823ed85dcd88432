//! What a person sees: one file per command.
//!
//! A counter with a clerk behind it: you say what you want in the words you know from `kubectl`, he asks
//! the agent on this machine and brings the answer as you know it.
//!
//! ```text
//!   args ─▶ target (resource words) ─▶ client (the agent's socket) ─▶ out (columns, JSON, YAML)
//!                                                 └─▶ fault (error, hint, exit code)
//! ```
//!
//! The rule: standard output is data, standard error is talk. Exit codes are 0 for done, 1 for failed,
//! 2 for a command that makes no sense. The limit: nothing is decided here; `validate` reads files by
//! the same rules as the agent, everything else is the agent's word.
//!
//! Floor 5: imports everything.

pub mod agent;
mod api_resources;
mod app;
mod auth;
mod bundle;
mod change;
mod checkout;
mod client;
mod common;
mod completion;
pub mod config;
mod delete;
mod describe;
mod diff;
mod drain;
mod events;
mod exec;
mod fault;
mod get;
mod history;
mod hook;
mod images;
mod init;
mod lab;
pub mod log;
mod logs;
mod nodes;
mod notify;
mod out;
mod pods;
mod port_forward;
mod progress;
mod rollout;
mod secret;
mod select;
mod serve_git;
mod signature;
mod simulate;
mod socket;
mod state;
mod status;
mod sync;
mod target;
mod tell;
mod template;
mod undo;
mod validate;
mod version;
mod watch;
mod why;
mod yaml;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use client::Client;
use fault::Failure;
use out::Out;

/// Ordinary Kubernetes manifests on plain Docker hosts, straight from Git
#[derive(Debug, Parser)]
#[command(name = "windlass", version, propagate_version = false, max_term_width = 100)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// What every command understands.
#[derive(Args, Clone, Debug)]
struct Global {
    /// Socket of the agent
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "WINDLASS_SOCKET",
        default_value = config::DEFAULT_SOCKET
    )]
    socket: PathBuf,
    /// Namespace to look in
    #[arg(
        short,
        long,
        global = true,
        value_name = "NAME",
        env = "WINDLASS_NAMESPACE",
        default_value = "default"
    )]
    namespace: String,
}

/// What can be done. To add a command: a file beside this one, a variant here, a line in [`run`].
#[derive(Debug, Subcommand)]
enum Command {
    /// List objects, or show some of them
    Get(get::Get),
    /// Tell all about objects: how they are, and what happened to them
    Describe(describe::Describe),
    /// Print what a container prints
    Logs(logs::Logs),
    /// Run a program in a container
    Exec(exec::Exec),
    /// Reach a pod's ports from this machine
    PortForward(port_forward::PortForward),
    /// List what happened
    Events(events::Events),
    /// Show why a pod is where it is, or does not run
    Why(why::Why),
    /// Show how the whole stands: the commit in force, what waits and why, what is broken
    Status(status::StatusArgs),
    /// Look at the desired repository now
    Sync(sync::Sync),
    /// Show what a commit would change
    Diff(diff::Diff),
    /// Follow a Deployment, and take it back, pause it, start it anew: by commits
    Rollout(rollout::Rollout),
    /// Change how many pods there are to be: by a commit
    Scale(change::Scale),
    /// Show the last decisions, who took them, and why
    History(history::History),
    /// Show which images lie on this node, for whom each stays, and how full the disks are
    Images(images::ImagesArgs),
    /// End a pod; its owner makes another
    Delete(delete::Delete),
    /// Keep new pods away from nodes
    Cordon(nodes::Nodes),
    /// Let new pods come to nodes again
    Uncordon(nodes::Nodes),
    /// Cordon nodes, and end what runs there as disruption budgets permit
    Drain(drain::Drain),
    /// Declare a node dead whose machine is off: its pods are made anew elsewhere at once
    Fence(nodes::Fence),
    /// Suspend an app, or let it go on
    App(app::AppArgs),
    /// Take a state store as it is that was restored from a backup
    State(state::State),
    /// Carry commits and images to where no line reaches, in one sealed file
    Bundle(bundle::Bundle),
    /// Check manifests as the agent does, without one
    Validate(validate::Validate),
    /// Show what Helm charts become, as the agent renders them
    Template(template::Template),
    /// Say who may change what
    Auth(auth::Auth),
    /// Encrypt Secrets for Git as SOPS does, for the keys of nodes
    Secret(secret::Secret),
    /// Have a Git server refuse pushes that agents would refuse
    Hook(hook::Hook),
    /// Serve Git to one ssh key, restricted to what its node may write; sshd runs it
    ServeGit(serve_git::ServeGit),
    /// Show the kinds of objects there are, and the words for them
    ApiResources(api_resources::ApiResources),
    /// Make this machine the first node of a fleet
    Init(Box<init::Init>),
    /// Make this machine another node of a fleet
    Join(Box<init::Join>),
    /// Make a fleet on this machine, for trying out
    Lab(lab::LabArgs),
    /// Run a day of failures on machines in memory, to see whether anything breaks
    Simulate(simulate::Simulate),
    /// Run this machine's agent
    Agent(AgentArgs),
    /// Show the versions of this program and of the agent
    Version(version::Version),
    /// Print a script that completes commands in a shell
    Completion(completion::Completion),
}

#[derive(Args, Debug)]
struct AgentArgs {
    /// Configuration
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
}

/// What a command is given beside its own arguments.
struct Context {
    client: Client,
    namespace: String,
    out: Out,
}

/// Runs the program on the arguments of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    fault::conclude(run(cli))
}

/// Prints what clap has to say: help and versions are an answer, all else is a mistake.
fn usage(error: &clap::Error) -> ExitCode {
    // Whoever asked for help and closed the pipe has seen enough.
    let _ = error.print();
    if error.use_stderr() { ExitCode::from(fault::USAGE) } else { ExitCode::SUCCESS }
}

fn run(cli: Cli) -> Result<(), Failure> {
    let Global { socket, namespace } = cli.global;
    let mut context = Context { client: Client::new(socket), namespace, out: Out::default() };
    let context = &mut context;
    match cli.command {
        Command::Agent(args) => agent::run(&args.config).map_err(Failure::plain),
        Command::Validate(args) => validate::run(&args, &mut context.out),
        Command::Template(args) => template::run(&args, &mut context.out),
        Command::Secret(args) => secret::run(&args, context),
        Command::Hook(args) => hook::run(&args, &mut context.out),
        Command::ServeGit(args) => serve_git::run(&args),
        Command::Auth(args) => auth::run(&args, context),
        Command::Completion(args) => completion::run(&args, &mut context.out),
        Command::ApiResources(args) => api_resources::run(&args, &mut context.out),
        Command::Get(args) => wait(get::run(&args, context)),
        Command::Describe(args) => wait(describe::run(&args, context)),
        Command::Logs(args) => wait(logs::run(&args, context)),
        Command::Exec(args) => wait(exec::run(&args, context)),
        Command::PortForward(args) => wait(port_forward::run(&args, context)),
        Command::Events(args) => wait(events::run(&args, context)),
        Command::Why(args) => wait(why::run(&args, context)),
        Command::Diff(args) => wait(diff::run(&args, context)),
        Command::Rollout(args) => wait(rollout::run(&args, context)),
        Command::Scale(args) => change::scale(&args, context),
        Command::History(args) => wait(history::run(&args, context)),
        Command::Images(args) => wait(images::run(&args, context)),
        Command::Delete(args) => wait(delete::run(&args, context)),
        Command::Cordon(args) => wait(nodes::cordon(&args, context)),
        Command::Uncordon(args) => wait(nodes::uncordon(&args, context)),
        Command::Drain(args) => wait(drain::run(&args, context)),
        Command::Fence(args) => wait(nodes::fence(&args, context)),
        Command::App(args) => wait(app::run(&args, context)),
        Command::State(args) => wait(state::run(&args, context)),
        Command::Status(args) => wait(status::run(&args, context)),
        Command::Bundle(args) => wait(bundle::run(&args, context)),
        Command::Sync(args) => wait(sync::run(&args, context)),
        Command::Simulate(args) => simulate::run(&args, context),
        Command::Init(mut args) => wait(init::init(&mut args, context)),
        Command::Join(mut args) => wait(init::join(&mut args, context)),
        Command::Lab(args) => wait(lab::run(&args, context)),
        Command::Version(args) => wait(version::run(&args, context)),
    }
}

/// Runs what has to wait for others. One thread is enough for one person.
fn wait<F: Future<Output = Result<(), Failure>>>(work: F) -> Result<(), Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::plain(format!("the runtime can't be started: {error}")))?;
    let done = runtime.block_on(work);
    // A thread that waits for a key on standard input must not hold the program.
    runtime.shutdown_background();
    done
}
