//! `windlass auth can-i`, `windlass validate --as`: who may change what, by the roles of a checkout.
//!
//! It is asked of a directory, not of an agent: rights are judged by what commits say
//! ([`crate::desired::authorize`]), so CI and whoever is about to push get the answer that agents and
//! `windlass hook` would give.

use std::path::Path;

use clap::{Args, Subcommand};
use git2::Repository;

use super::Context;
use super::checkout::{self, unread};
use super::fault::Failure;
use super::out::talk;
use super::{signature, validate};
use crate::desired::authorize::{Asked, GROUP, Who, World, lacks};
use crate::desired::trust::{Policy, TRUST_FILE};
use crate::kinds::finding::{Finding, Place};
use crate::kinds::registry::Kind;
use crate::ports::source::FileContent;
use crate::view::tabs;

/// Arguments of `windlass auth`.
#[derive(Args, Debug)]
pub(super) struct Auth {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Say whether a signer may change something, by the roles of a checkout
    CanI(CanI),
}

/// Arguments of `windlass auth can-i`.
#[derive(Args, Debug)]
#[command(after_help = "Examples:
  windlass auth can-i update deployments/web -n shop --as ada@example.org
  windlass auth can-i update trust.windlass.dev --as ada@example.org
  windlass auth can-i --list -n shop --as ada@example.org

Exits with 1 if he may not.")]
struct CanI {
    /// create, update, delete, …
    #[arg(value_name = "VERB", required_unless_present = "list")]
    verb: Option<String>,
    /// RESOURCE or RESOURCE/NAME
    #[arg(value_name = "RESOURCE", required_unless_present = "list")]
    resource: Option<String>,
    /// Signer, as trust.yaml names him
    #[arg(long = "as", value_name = "SIGNER")]
    signer: String,
    /// Part of the object that is meant
    #[arg(long, value_name = "NAME")]
    subresource: Option<String>,
    /// Ask for all namespaces
    #[arg(short = 'A', long)]
    all_namespaces: bool,
    /// List all that he may
    #[arg(long, conflicts_with_all = ["verb", "resource", "subresource"])]
    list: bool,
    /// Directory with manifests and trust.yaml
    #[arg(long, value_name = "DIRECTORY", default_value = ".")]
    directory: std::path::PathBuf,
}

pub(super) fn run(args: &Auth, context: &mut Context) -> Result<(), Failure> {
    let What::CanI(args) = &args.what;
    let contents = validate::contents(&args.directory)?;
    let who = match policy(&contents)? {
        None => {
            let no_file = format!("{} has no {TRUST_FILE}", args.directory.display());
            return Err(Failure::hinted(no_file, "without one, whoever may push may change all"));
        }
        Some(policy) => {
            if !policy.authorize {
                talk(&format!(
                    "hint: {TRUST_FILE} does not say `authorize: roles`: whoever may sign may change all\n"
                ));
            }
            signer(&policy, &args.signer)?
        }
    };
    let roles = World::of(&contents).roles();
    let namespace = Some(context.namespace.as_str()).filter(|_| !args.all_namespaces);
    if args.list {
        let lines: Vec<String> = roles.list(&who, namespace);
        let text = format!("RESOURCES\tNAMES\tVERBS\n{}\n", lines.join("\n"));
        return context.out.text(&tabs::lay_out(&text, 0, 3));
    }
    let (verb, resource) = (args.verb.as_deref(), args.resource.as_deref());
    let Some((verb, resource)) = verb.zip(resource) else { return Ok(()) };
    let (resource, name) = match resource.split_once('/') {
        Some((resource, name)) => (resource, Some(name)),
        None => (resource, None),
    };
    let (group, mut plural, is_namespaced) = match Kind::parse_resource(resource) {
        Some(kind) => {
            let info = kind.info();
            (info.group.to_owned(), info.plural.to_owned(), info.namespaced)
        }
        None => {
            let (plural, group) = resource.split_once('.').unwrap_or((resource, ""));
            (group.to_owned(), plural.to_owned(), group != GROUP)
        }
    };
    if let Some(sub) = &args.subresource {
        plural = format!("{plural}/{sub}");
    }
    let namespace = namespace.filter(|_| is_namespaced);
    let asked = Asked { verb, group: &group, resource: &plural, namespace, name };
    let may = roles.may(&who, &asked);
    context.out.text(if may { "yes\n" } else { "no\n" })?;
    if may { Ok(()) } else { Err(Failure::Code(1)) }
}

fn policy(contents: &[FileContent]) -> Result<Option<Policy>, Failure> {
    let file = contents.iter().find(|content| &*content.path == TRUST_FILE);
    let read = file.map(|file| Policy::of(&file.bytes)).transpose();
    read.map_err(|findings| {
        let first = findings.first().map(ToString::to_string).unwrap_or_default();
        Failure::hinted(first, "`windlass validate` says all that is wrong with it")
    })
}

fn signer(policy: &Policy, name: &str) -> Result<Who, Failure> {
    policy.who(name).ok_or_else(|| {
        Failure::hinted(
            format!("{TRUST_FILE} has no key of {name}"),
            "name somebody as its allowedSigners do",
        )
    })
}

/// What of the changes in a directory a signer may not make, since a commit: the one that is named,
/// what the branch's remote has, or the newest.
pub(super) fn judge(
    directory: &Path,
    name: &str,
    since: Option<&str>,
) -> Result<Vec<Finding>, Failure> {
    let none = || {
        let hint = "rights are judged by the roles of the commit before: stand in a checkout";
        Failure::hinted(format!("{} is in no Git checkout", directory.display()), hint)
    };
    let repository = Repository::discover(directory).map_err(|_| none())?;
    let root = repository.workdir().and_then(|root| root.canonicalize().ok()).ok_or_else(none)?;
    let below = directory.canonicalize().map_err(|_| none())?;
    let below = below.strip_prefix(&root).ok().and_then(Path::to_str).ok_or_else(none)?;
    let below = if below.is_empty() { String::new() } else { format!("{below}/") };
    let commit = match since {
        Some(text) => repository.revparse_single(text).and_then(|found| found.peel_to_commit()),
        None => signature::upstream_or_head(&repository),
    };
    let commit = commit.map_err(|error| unread(&error))?;
    let before = checkout::list_if_any(&repository, &commit, &below)
        .and_then(|listing| checkout::contents(&repository, &listing));
    let before = before.map_err(|error| unread(&error))?;
    let policy = policy(&before)?.filter(|policy| policy.authorize);
    let Some(policy) = policy else {
        let message = format!(
            "whoever may sign may change all: {TRUST_FILE} of the commit before does not say \
             `authorize: roles`"
        );
        return Ok(vec![Finding::warning(Place::file(TRUST_FILE), message)]);
    };
    let who = signer(&policy, name)?;
    let after = validate::contents(directory)?;
    Ok(lacks(&World::of(&before), &World::of(&after), &who))
}
