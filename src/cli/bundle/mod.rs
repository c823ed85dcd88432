//! `windlass bundle`: commits and images for a fleet that no line reaches, in one sealed file.

mod create;

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::Context;
use super::client::{self, Client, with_query};
use super::config::{self, Loaded, SIGNERS};
use super::fault::Failure;
use super::out::{Data, talk};
use super::progress::Steps;
use crate::adapters::bundle::Refused;
use crate::adapters::bundle::apply::{self, Progress, Target};
use crate::adapters::bundle::index::Index;
use crate::adapters::bundle::sign::{self, Signers};
use crate::adapters::bundle::{prune, report};
use crate::adapters::clock;
use crate::adapters::images::Spread;
use crate::view::status::Status;

/// Progress is shown in so many steps.
const STEPS: u64 = 1000;

/// Arguments of `windlass bundle`.
#[derive(Args, Debug)]
pub(super) struct Bundle {
    #[command(subcommand)]
    command: BundleCommand,
}

#[derive(Debug, Subcommand)]
enum BundleCommand {
    /// Make a bundle of a commit and every image its manifests name
    Create(Box<create::Create>),
    /// Read a bundle to its end, and say whether it is what was sealed
    Verify(Verify),
    /// Show what a bundle says is in it
    Show(Show),
    /// Take a bundle in, on any node of the fleet: all of it, or nothing
    Apply(Apply),
    /// Remove from this node's store what only earlier bundles named
    Prune(Prune),
    /// Write down what the fleet has, for --base of the next bundle
    Report(Report),
}

#[derive(Args, Debug)]
#[command(
    after_help = "The next bundle may be applied on any node: what one lacks, nodes send each other."
)]
struct Report {
    /// File to write, such as one on the stick; - for standard output
    #[arg(value_name = "FILE")]
    out: PathBuf,
    /// Configuration of this node's agent
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
}

#[derive(Args, Debug)]
#[command(after_help = "What a commit in force may need stays: the agent is asked.")]
struct Prune {
    /// Keep the images of so many bundles, so that a revert finds them
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    keep: usize,
    /// Configuration of this node's agent
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
}

#[derive(Args, Debug)]
struct Verify {
    /// The bundle, a piece of it, or the directory it is in
    #[arg(value_name = "FILE")]
    bundle: PathBuf,
    /// Whose seals count, as OpenSSH's allowed_signers
    #[arg(long, value_name = "FILE", default_value = SIGNERS)]
    signers: PathBuf,
}

#[derive(Args, Debug)]
struct Show {
    /// The bundle, a piece of it, or the directory it is in
    #[arg(value_name = "FILE")]
    bundle: PathBuf,
    /// Form of the answer
    #[arg(short, long, value_enum, value_name = "FORM")]
    output: Option<Data>,
}

#[derive(Args, Debug)]
#[command(
    after_help = "What was cut off goes on where it ended: run it again. An older bundle sets nothing back."
)]
struct Apply {
    /// The bundle, a piece of it, or the directory it is in
    #[arg(value_name = "FILE")]
    bundle: PathBuf,
    /// Configuration of this node's agent
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    config: PathBuf,
    /// Whose seals count, as OpenSSH's allowed_signers
    #[arg(long, value_name = "FILE", default_value = SIGNERS)]
    signers: PathBuf,
    /// Take the images, and leave the desired repository alone
    #[arg(long)]
    images_only: bool,
    /// Address at which the desired repository can be pushed to, where agents read it at another
    #[arg(long, value_name = "URL", conflicts_with = "images_only")]
    push_to: Option<String>,
    /// Private ssh key that may push to the desired repository
    #[arg(long, value_name = "FILE")]
    ssh_key: Option<PathBuf>,
    /// File with the passphrase of that key
    #[arg(long, value_name = "FILE", requires = "ssh_key")]
    ssh_passphrase_file: Option<PathBuf>,
    /// File with a token or `user:password` that may push
    #[arg(long, value_name = "FILE", conflicts_with = "ssh_key")]
    token_file: Option<PathBuf>,
}

impl From<Refused> for Failure {
    fn from(refused: Refused) -> Self {
        Self::hinted(&refused.what, &refused.hint)
    }
}

/// Runs the command.
pub(super) async fn run(args: &Bundle, context: &mut Context) -> Result<(), Failure> {
    match &args.command {
        BundleCommand::Create(create) => create::run(create, context).await,
        BundleCommand::Verify(args) => verify(args, context),
        BundleCommand::Show(args) => show(args, context),
        BundleCommand::Apply(args) => take_in(args, context).await,
        BundleCommand::Prune(args) => clear(args, context).await,
        BundleCommand::Report(args) => report(args, context).await,
    }
}

/// How this node's agent is configured.
fn load(path: &Path) -> Result<Loaded, Failure> {
    config::load(path, &config::hostname(), "").map_err(Failure::plain)
}

/// The list of signers; a bundle that nobody may sign is not read.
fn signers(path: &Path) -> Result<Signers, Failure> {
    let hint = format!(
        "write the public keys that may seal bundles into it, one a line, as OpenSSH has it: \
         'ada@example.com namespaces=\"{}\" ssh-ed25519 AAAA…', or name another file with --signers",
        crate::adapters::bundle::NAMESPACE
    );
    let signers = Signers::read(path).map_err(|why| Failure::hinted(why, hint))?;
    for complaint in &signers.complaints {
        talk(&format!("warning: {}: {complaint}\n", path.display()));
    }
    Ok(signers)
}

/// Shows bytes as a bar.
struct Bar {
    steps: Steps,
    shown: u64,
}

impl Bar {
    fn new() -> Self {
        Self { steps: Steps::new(1), shown: u64::MAX }
    }

    fn at(&mut self, what: &str, done: u64, total: u64) {
        let step = (done * STEPS).checked_div(total).unwrap_or(STEPS);
        if step != self.shown {
            self.shown = step;
            let (done, total) = (done >> 20, total >> 20);
            let (done, total) = (usize::try_from(done), usize::try_from(total));
            self.steps.reach(done.unwrap_or(0), total.unwrap_or(0).max(1), what);
        }
    }

    fn progress(&mut self, progress: Progress) {
        match progress {
            Progress::Checking(done, total) => self.at("MB checked", done, total),
            Progress::Taking(done, total) => self.at("MB taken", done, total),
        }
    }
}

fn verify(args: &Verify, context: &mut Context) -> Result<(), Failure> {
    let signers = signers(&args.signers)?;
    let mut bar = Bar::new();
    let (index, signed) = apply::verify(&args.bundle, &signers, &mut |at| bar.progress(at))?;
    bar.steps.end("every byte is what was sealed");
    context.out.text(&format!(
        "{}sealed by {} ({})\n",
        summary(&index),
        signed.by,
        signed.fingerprint
    ))
}

fn show(args: &Show, context: &mut Context) -> Result<(), Failure> {
    let (index, digest, page, seal) = apply::page(&args.bundle)?;
    if let Some(form) = args.output {
        let mut value: serde_json::Value = serde_json::from_slice(&page).map_err(Failure::plain)?;
        value["digest"] = json!(digest.prefixed());
        return context.out.data(form, &value);
    }
    let mut text = summary(&index);
    for image in &index.images {
        text.push_str(&format!(
            "  {} {} ({} MB)\n",
            image.name,
            image.manifest.prefixed(),
            image.bytes >> 20
        ));
    }
    let key = sign::fingerprint(&seal).map_err(Failure::plain)?;
    text.push_str(&format!(
        "sealed with the key {key}; nothing was checked, windlass bundle verify does that\n"
    ));
    context.out.text(&text)
}

/// What is in it, in three lines.
fn summary(index: &Index) -> String {
    let short = apply::short;
    let base = match &index.base {
        None => "it needs nothing that is there".to_owned(),
        Some(base) => format!(
            "it needs commit {} and {} earlier blobs",
            short(&base.commit),
            index.required.len()
        ),
    };
    let bill = if index.has_bill() { ", with bills of materials" } else { "" };
    format!(
        "branch {} to commit {}, made {}\n{} images for {}, {} MB in {} files{bill}; {base}\n",
        index.branch,
        short(&index.commit),
        index.created,
        index.images.len(),
        index.architecture,
        index.bytes() >> 20,
        index.parts.len(),
    )
}

/// Has the agent fetch from other nodes what the bundle builds on and is not here. Whether that was
/// all, is seen when it is taken in.
async fn gather(
    bundle: &Path,
    signers: &Signers,
    target: &Target,
    client: &Client,
) -> Result<(), Failure> {
    let missing = apply::missing(bundle, signers, target)?;
    let mut steps = Steps::new(missing.len());
    for (done, part) in missing.iter().enumerate() {
        steps.reach(done, missing.len(), "blobs have come from other nodes");
        let (digest, bytes) = (part.sha256.prefixed(), part.bytes.to_string());
        let path = with_query("/windlass/v1/blobs", &[("digest", &digest), ("bytes", &bytes)]);
        if let Err(failure) = client.patient().post(&path, client::JSON).await {
            talk("warning: not all that it builds on has come from other nodes\n");
            failure.say();
            return Ok(());
        }
    }
    if !missing.is_empty() {
        steps.end("what it builds on is here");
    }
    Ok(())
}

async fn report(args: &Report, context: &mut Context) -> Result<(), Failure> {
    let loaded = load(&args.config)?;
    let target = loaded.file.bundle_target(Some(loaded.file.landing()));
    let client = Client::new(loaded.file.api.socket.clone());
    let spread = match client.json("/windlass/v1/blobs", client::JSON).await {
        Ok(json) => serde_json::from_value(json).map_err(Failure::plain)?,
        Err(failure) => {
            talk("warning: what other nodes have is not in it\n");
            failure.say();
            Spread::default()
        }
    };
    for why in &spread.silent {
        talk(&format!("warning: what it has is not in it: {why}\n"));
    }
    let held = report::report(&target, spread.blobs, clock::now().wall.to_string())?;
    let mut text = serde_json::to_string_pretty(&held).map_err(Failure::plain)?;
    text.push('\n');
    if args.out == Path::new("-") {
        return context.out.text(&text);
    }
    std::fs::write(&args.out, &text)
        .map_err(|error| Failure::plain(format!("{}: {error}", args.out.display())))?;
    let bytes = held.blobs.values().fold(0_u64, |sum, bytes| sum.saturating_add(*bytes));
    context.out.text(&format!(
        "branch {} at commit {}, {} blobs of {} MB: {}\n",
        held.branch,
        apply::short(&held.commit),
        held.blobs.len(),
        bytes >> 20,
        args.out.display()
    ))
}

async fn take_in(args: &Apply, context: &mut Context) -> Result<(), Failure> {
    let signers = signers(&args.signers)?;
    let loaded = load(&args.config)?;
    let mut desired = loaded.file.landing();
    if let Some(url) = &args.push_to {
        desired.url.clone_from(url);
    }
    if let Some(key) = &args.ssh_key {
        desired.credentials.ssh_key = Some(key.clone());
        desired.credentials.ssh_passphrase_file.clone_from(&args.ssh_passphrase_file);
    }
    if let Some(token) = &args.token_file {
        desired.credentials.password_file = Some(token.clone());
    }
    let target = loaded.file.bundle_target((!args.images_only).then_some(desired));
    let mut bar = Bar::new();
    gather(&args.bundle, &signers, &target, &Client::new(loaded.file.api.socket.clone())).await?;
    let applied = apply::apply(&args.bundle, &signers, &target, &mut |at| bar.progress(at))?;
    bar.steps.end("taken in");
    let moved = match applied.has_moved {
        true => format!(
            "branch {} is at commit {}",
            applied.index.branch,
            apply::short(&applied.index.commit)
        ),
        false if args.images_only => "the desired repository was left alone".to_owned(),
        false => format!(
            "branch {} was at commit {} already",
            applied.index.branch,
            apply::short(&applied.index.commit)
        ),
    };
    context.out.text(&format!(
        "{moved}; {} new blobs for {} images; sealed by {}\n",
        applied.blobs,
        applied.index.images.len(),
        applied.signed.by
    ))?;
    if applied.has_moved {
        // The agent would look by itself, a little later.
        let _ = context.client.post("/windlass/v1/sync", client::TEXT).await;
    }
    Ok(())
}

async fn clear(args: &Prune, context: &mut Context) -> Result<(), Failure> {
    let loaded = load(&args.config)?;
    let status = context.client.json("/windlass/v1/status", client::JSON).await?;
    let status: Status = serde_json::from_value(status).map_err(Failure::plain)?;
    let in_force = status.apps.iter().filter_map(|app| app.in_force.as_ref());
    let in_force: Vec<String> = in_force.map(|one| one.commit.as_str().to_owned()).collect();
    let target = loaded.file.bundle_target(None);
    let pruned = prune::prune(&target, args.keep, &in_force)?;
    let mut text: String = pruned.images.iter().map(|image| format!("{image}\n")).collect();
    text.push_str(&format!(
        "{} images and {} blobs removed, {} MB\n",
        pruned.images.len(),
        pruned.blobs,
        pruned.bytes >> 20
    ));
    context.out.text(&text)
}
