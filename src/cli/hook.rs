//! `windlass hook`: a bare repository refuses what agents would refuse, while whoever pushes still sees
//! why.
//!
//! ```text
//!   git push ─▶ receive-pack ─▶ hooks/pre-receive ─▶ windlass hook run ─▶ vouched for? ─▶ good?
//!                (objects in quarantine)
//! ```
//! The rules are the agents', in the same order: nothing of a commit's tree but `trust.yaml` is read
//! before somebody vouches for it. What the branch had before is taken as given. The limit: what only
//! the fleet knows (a held deletion, a taken address) is not known here, and whoever can write the
//! server's disk goes round it: agents judge for themselves.

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, Subcommand};
use git2::{Oid as GitOid, Repository, RepositoryOpenFlags};

use super::checkout;
use super::fault::Failure;
use super::out::Out;
use super::signature::{self, Seal};
use super::validate::Report;
use crate::desired::trust::{TRUST_FILE, parse_fingerprint};
use crate::desired::{self, Files};
use crate::kinds::binding::Oid;

/// Arguments of `windlass hook`.
#[derive(Args, Debug)]
pub(super) struct Hook {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Put the hook into a bare repository on this machine
    Install(Install),
    /// Judge a push; Git runs it, in the repository
    Run(Rules),
}

/// Arguments of `windlass hook install`.
#[derive(Args, Debug)]
struct Install {
    /// Bare repository that people push to
    #[arg(value_name = "REPOSITORY")]
    repository: PathBuf,
    #[command(flatten)]
    rules: Rules,
    /// Replace a pre-receive hook that is there
    #[arg(long)]
    force: bool,
}

/// What is judged, and how.
#[derive(Args, Debug)]
struct Rules {
    /// Branch that agents follow
    #[arg(long, value_name = "NAME", default_value = "main")]
    branch: String,
    /// Directory that agents follow
    #[arg(long, value_name = "PATH", default_value = "")]
    directory: String,
    /// Fingerprint of the first trust.yaml, as agents have it; the one that is there if absent
    #[arg(long, value_name = "SHA256:…")]
    trust: Option<String>,
}

/// What our hook begins with: only such a one is replaced without being asked to.
const MARK: &str = "#!/bin/sh\n# Written by `windlass hook install`.\n";

pub(super) fn run(args: &Hook, out: &mut Out) -> Result<(), Failure> {
    match &args.what {
        What::Install(install) => put(install, out),
        What::Run(rules) => judge_push(rules, out),
    }
}

fn put(install: &Install, out: &mut Out) -> Result<(), Failure> {
    let Install { repository, rules, force } = install;
    rules.check()?;
    let opened = Repository::open_bare(repository).map_err(|_| {
        Failure::hinted(
            format!("{} is no bare repository", repository.display()),
            "name the one on the server that people push to; git init --bare makes one",
        )
    })?;
    let hooks = opened.path().join("hooks");
    let hook = hooks.join("pre-receive");
    let there = fs::read_to_string(&hook);
    let is_ours = there.as_ref().is_ok_and(|text| text.starts_with(MARK));
    if hook.exists() && !is_ours && !force {
        return Err(Failure::hinted(
            format!("{} is there already", hook.display()),
            "--force replaces it; to keep it, have it run `windlass hook run` with its own input",
        ));
    }
    let failed = |error: std::io::Error| {
        Failure::plain(format!("{} can't be written: {error}", hook.display()))
    };
    let program = std::env::current_exe().map_err(failed)?;
    let mut words = vec![program.display().to_string(), "hook".into(), "run".into()];
    words.extend(["--branch".into(), rules.branch.clone()]);
    words.extend(["--directory".into(), rules.directory.clone()]);
    words.extend(rules.trust.iter().flat_map(|pin| ["--trust".to_owned(), pin.clone()]));
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    let text = format!("{MARK}exec {}\n", words.join(" "));
    // Whole or not at all: half a hook would let everything through, or nothing.
    let new = hooks.join("pre-receive.windlass-new");
    let write = || -> std::io::Result<()> {
        fs::create_dir_all(&hooks)?;
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o755)
            .open(&new)?;
        file.write_all(text.as_bytes())?;
        file.set_permissions(fs::Permissions::from_mode(0o755))?;
        file.sync_all()?;
        fs::rename(&new, &hook)
    };
    write().map_err(failed)?;
    out.text(&format!("{} judges pushes to {}\n", hook.display(), rules.branch))
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}

impl Rules {
    fn check(&self) -> Result<(), Failure> {
        let pin = self.trust.as_deref().map(parse_fingerprint).transpose();
        pin.map(drop).map_err(|why| Failure::usage(format!("--trust: {why}")))
    }

    /// The directory, with a slash at its end if there is one.
    fn below(&self) -> String {
        match self.directory.trim_matches('/') {
            "" | "." => String::new(),
            directory => format!("{directory}/"),
        }
    }
}

/// Judges what Git says on standard input: `<old> <new> <ref>`, a line each.
fn judge_push(rules: &Rules, out: &mut Out) -> Result<(), Failure> {
    rules.check()?;
    let branch = format!("refs/heads/{}", rules.branch);
    // New objects stand in quarantine; Git says in the environment where.
    let none: [&Path; 0] = [];
    let repository = Repository::open_ext(".", RepositoryOpenFlags::FROM_ENV, none)
        .map_err(|error| unread(&error))?;
    let (mut tips, mut tags) = (Vec::new(), Vec::new());
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|error| Failure::plain(format!("standard input: {error}")))?;
        let words: Vec<&str> = line.split(' ').collect();
        let [old, new, name] = words[..] else {
            return Err(Failure::hinted(
                "standard input has no <old> <new> <ref>",
                "Git runs this",
            ));
        };
        let id = |text: &str| GitOid::from_str(text).map_err(|error| unread(&error));
        let (old, new) = (id(old)?, id(new)?);
        // A branch that is deleted changes nothing: agents keep what is in force.
        if name == branch && !new.is_zero() {
            tips.push((Some(old).filter(|old| !old.is_zero()), new));
        } else if name.starts_with("refs/tags/") && !new.is_zero() {
            tags.push(new);
        }
    }
    for (old, new) in tips {
        judge(rules, &repository, (old, new), &tags, out)?;
    }
    Ok(())
}

fn unread(error: &git2::Error) -> Failure {
    Failure::plain(format!("the repository can't be read: {}", error.message()))
}

fn judge(
    rules: &Rules,
    repository: &Repository,
    (old, new): (Option<GitOid>, GitOid),
    tags: &[GitOid],
    out: &mut Out,
) -> Result<(), Failure> {
    let commit = repository.find_commit(new).map_err(|error| unread(&error))?;
    let short = Oid::new(&new.to_string()).short().to_owned();
    let file = format!("{}{TRUST_FILE}", rules.below());
    let pin = rules.trust.as_deref().and_then(|text| parse_fingerprint(text).ok());
    let has_policy = |id: GitOid| signature::content(repository, id, &file).is_some();
    let given = old.filter(|old| has_policy(*old));
    if pin.is_some() || given.is_some() || has_policy(new) {
        // By the policy of before, if there is one: a push can't do away with it.
        let known: BTreeSet<GitOid> = given.into_iter().collect();
        let seal = signature::judge(repository, &commit, &file, (known, tags), pin);
        match seal.map_err(|error| unread(&error))? {
            Seal::Good { signer, .. } => {
                out.text(&format!("commit {short} is signed by {signer}\n"))?;
            }
            Seal::Bad(refusal) => {
                for finding in refusal.why.findings() {
                    out.text(&format!("{finding}\n"))?;
                }
                return Err(Failure::plain(format!("commit {short} would be refused: {refusal}")));
            }
            Seal::Unknown(why) => {
                return Err(Failure::plain(format!("commit {short} can't be checked: {why}")));
            }
        }
    }
    let report = read(repository, &commit, &rules.below()).map_err(|error| unread(&error))?;
    out.text(&report.lines(Path::new(".")))?;
    match report.errors() {
        0 => Ok(()),
        1 => Err(Failure::plain(format!("commit {short} would be refused: 1 error in it"))),
        count => {
            Err(Failure::plain(format!("commit {short} would be refused: {count} errors in it")))
        }
    }
}

fn read(
    repository: &Repository,
    commit: &git2::Commit<'_>,
    below: &str,
) -> Result<Report, git2::Error> {
    // A directory that is not there has nothing wrong in it.
    let listing = checkout::list_if_any(repository, commit, below)?;
    let contents = checkout::contents(repository, &listing)?;
    let parsed =
        contents.iter().map(|file| (Arc::clone(&file.path), Arc::new(desired::parse(file))));
    let files: Files = parsed.collect();
    Ok(Report::of(&listing, &files))
}
