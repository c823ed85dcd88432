//! `windlass bundle create`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use git2::Repository;

use super::super::checkout::{content, list, unread};
use super::super::config::SIGNERS;
use super::{Bar, Context, Failure, signers, summary, talk};
use crate::adapters::bundle::create::{self, Order, Progress};
use crate::adapters::bundle::pieces::PIECE_BYTES_MIN;
use crate::adapters::clock;
use crate::adapters::docker::{Docker, Options};
use crate::adapters::images::registry;
use crate::adapters::images::sources::Sources;
use crate::desired::{self, Files};
use crate::kinds::image::{ImageName, Reference};
use crate::kinds::name::Name;
use crate::ports::runtime::Credentials;

const DOCKER: &str = "/var/run/docker.sock";

/// Arguments of `windlass bundle create`.
#[derive(Args, Debug)]
#[command(
    after_help = "Images are sought in archives, then in the registry (pinned by digest) or in Docker \
    (by name), then in the other. A run that was cut off goes on where it ended."
)]
pub(super) struct Create {
    /// File to make, such as shop.wb
    #[arg(value_name = "FILE", required_unless_present = "list")]
    out: Option<PathBuf>,
    /// Clone of the desired repository, or a bare one
    #[arg(long, value_name = "DIR", default_value = ".")]
    repo: PathBuf,
    /// Directory in it with the manifests, as the agents' desired.directory
    #[arg(long, value_name = "PATH", default_value = "")]
    directory: String,
    /// Branch that the fleet follows
    #[arg(long, value_name = "NAME", default_value = "main")]
    branch: String,
    /// Commit to bring; the branch's newest where absent
    #[arg(long, value_name = "REVISION")]
    commit: Option<String>,
    /// An earlier bundle that is applied already, or what windlass bundle report wrote on a node: what is
    /// there is left out
    #[arg(long, value_name = "FILE")]
    base: Option<PathBuf>,
    /// A commit that is there already, where there is no earlier bundle
    #[arg(long, value_name = "REVISION", conflicts_with = "base")]
    base_commit: Option<String>,
    /// Private ssh key that seals it, or the public half of one that ssh-agent has
    #[arg(long, value_name = "FILE", required_unless_present = "list")]
    key: Option<PathBuf>,
    /// Whose seal must be on the base, as OpenSSH's allowed_signers; it is not checked where absent
    #[arg(long, value_name = "FILE", requires = "base", num_args = 0..=1, default_missing_value = SIGNERS)]
    signers: Option<PathBuf>,
    /// Archive of images, or a directory of them; may be given several times
    #[arg(long, value_name = "PATH")]
    archive: Vec<PathBuf>,
    /// Docker's socket; Docker is asked where it is there
    #[arg(long, value_name = "PATH", default_value = DOCKER)]
    docker: PathBuf,
    /// Ask no registry
    #[arg(long)]
    no_registry: bool,
    /// A registry that is asked without TLS; may be given several times
    #[arg(long, value_name = "HOST:PORT")]
    plain_http: Vec<String>,
    /// Docker's config.json with what opens registries
    #[arg(long, value_name = "FILE")]
    registry_config: Option<PathBuf>,
    /// Cut it into pieces no longer than this, such as 4GB for a FAT stick
    #[arg(long, value_name = "SIZE", value_parser = size)]
    split: Option<u64>,
    /// Put a bill of materials in for every image, its packages, in the directory sbom (CycloneDX)
    #[arg(long)]
    sbom: bool,
    /// List the images that the manifests name, and make nothing
    #[arg(long)]
    list: bool,
}

/// `700MB`, `4GB`, `2GiB`.
fn size(text: &str) -> Result<u64, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit {
        "" | "B" => 1,
        "MB" | "M" => 1_000_000,
        "GB" | "G" => 1_000_000_000,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return Err("write it as 700MB, 4GB or 2GiB".into()),
    };
    let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit));
    let bytes = bytes.ok_or("write it as 700MB, 4GB or 2GiB")?;
    if bytes < PIECE_BYTES_MIN {
        return Err(format!("must be {PIECE_BYTES_MIN} bytes or more"));
    }
    Ok(bytes)
}

pub(super) async fn run(args: &Create, context: &mut Context) -> Result<(), Failure> {
    let repository = Repository::discover(&args.repo).map_err(|_| {
        Failure::hinted(
            format!("{} is in no Git repository", args.repo.display()),
            "clone the desired repository, and name the clone: --repo DIR",
        )
    })?;
    let revision = args.commit.clone().unwrap_or_else(|| format!("refs/heads/{}", args.branch));
    let commit = resolve(&repository, &revision)?;
    let images = images(&repository, &commit, &args.directory)?;
    if args.list {
        let lines: String = images.iter().map(|image| format!("{image}\n")).collect();
        return context.out.text(&lines);
    }
    // clap sees to it that both are there.
    let (Some(out), Some(key)) = (args.out.clone(), args.key.clone()) else {
        return Err(Failure::usage("name a file to make, and a key with --key"));
    };
    let base_commit =
        args.base_commit.as_deref().map(|base| resolve(&repository, base)).transpose()?;
    let order = Order {
        repository: repository.path().to_owned(),
        branch: args.branch.clone(),
        commit: commit.id().to_string(),
        images,
        base: args.base.clone(),
        trust: args.signers.as_deref().map(signers).transpose()?,
        base_commit: base_commit.map(|commit| commit.id().to_string()),
        sources: sources(args)?,
        key,
        out,
        piece_bytes: args.split,
        created: clock::now().wall.to_string(),
        has_bills: args.sbom,
    };
    let mut bar = Bar::new();
    let mut tell = |progress| match progress {
        Progress::Image(done, total, what) => bar.steps.reach(done, total, &what),
        Progress::Listing(done, total) => bar.steps.reach(done, total, "packages are listed"),
        Progress::Writing(done, total) => bar.at("MB written", done, total),
    };
    let made = create::create(&order, &mut tell).await?;
    bar.steps.end("sealed");
    let files: Vec<String> = made.files.iter().map(|file| file.display().to_string()).collect();
    context.out.text(&format!("{}{}\n", summary(&made.index), files.join("\n")))
}

fn resolve<'r>(repository: &'r Repository, revision: &str) -> Result<git2::Commit<'r>, Failure> {
    let found = repository.revparse_single(revision).and_then(|object| object.peel_to_commit());
    found.map_err(|error| {
        Failure::hinted(
            format!("there is no commit {revision}: {}", error.message()),
            "git fetch, then name a branch with --branch or a commit with --commit",
        )
    })
}

/// The images that the manifests of a commit name, each once.
fn images(
    repository: &Repository,
    commit: &git2::Commit<'_>,
    directory: &str,
) -> Result<Vec<Reference>, Failure> {
    let below = directory.trim_matches('/');
    let listing = list(repository, commit, below).map_err(|error| unread(&error))?;
    let mut files = Files::new();
    for entry in desired::wanted(&listing) {
        if let Some(content) = content(repository, &entry.path, entry.blob.as_str()) {
            files.insert(Arc::clone(&entry.path), Arc::new(desired::parse(&content)));
        }
    }
    let division = desired::divide(&listing, &files);
    let parts = division.parts.iter();
    let findings = division.settings.iter().chain(parts.flat_map(|part| &part.findings));
    let errors: Vec<String> =
        findings.filter(|finding| finding.is_error()).map(ToString::to_string).collect();
    if !errors.is_empty() {
        talk(&format!("{}\n", errors.join("\n")));
        return Err(Failure::hinted(
            format!("commit {} would be refused", commit.id()),
            "mend what is wrong with it, commit, and make the bundle of that",
        ));
    }
    let mut found: BTreeMap<String, Reference> = BTreeMap::new();
    let mut ids = BTreeSet::new();
    for object in division.parts.iter().flat_map(|part| part.desired.objects.values()) {
        let containers = object.body.template().into_iter().flat_map(|t| t.spec.all_containers());
        for container in containers {
            match ImageName::parse(&container.image) {
                Ok(ImageName::Reference(name)) => {
                    found.insert(name.to_string(), name);
                }
                Ok(ImageName::Id(id)) => {
                    ids.insert(id);
                }
                // The manifests were found to be right.
                Err(_) => {}
            }
        }
    }
    for id in ids {
        talk(&format!(
            "warning: image {id} is named by Docker's id, and can't be carried; name it\n"
        ));
    }
    if division.parts.iter().all(|part| part.desired.objects.is_empty()) {
        return Err(Failure::hinted(
            format!("commit {} has no manifests in {:?}", commit.id(), below),
            "name the directory that the agents follow: --directory PATH",
        ));
    }
    Ok(found.into_values().collect())
}

fn sources(args: &Create) -> Result<Sources, Failure> {
    let docker = args.docker.exists().then(|| {
        Docker::connect(Options {
            socket: args.docker.clone(),
            node: Name::trusted("bundle"),
            registry_config: None,
            digest_map: None,
        })
    });
    let credentials = args.registry_config.as_ref().map(|path| {
        let said =
            |why: &dyn std::fmt::Display| Failure::plain(format!("{}: {why}", path.display()));
        let json = std::fs::read(path).map_err(|error| said(&error))?;
        Credentials::from_docker_config(&json).map_err(|why| said(&why))
    });
    let options = registry::Options {
        plain_http: args.plain_http.iter().cloned().collect(),
        credentials: credentials.transpose()?.unwrap_or_default(),
    };
    Ok(Sources {
        archives: args.archive.clone(),
        docker,
        registry: (!args.no_registry).then_some(options),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read() {
        for (text, bytes) in [("4GB", 4_000_000_000), ("2GiB", 2 << 30), ("700MB", 700_000_000)] {
            assert_eq!(size(text), Ok(bytes));
        }
        for text in ["", "4", "4TB", "GB", "-1GB", "99999999999GB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
