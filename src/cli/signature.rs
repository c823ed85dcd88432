//! Whether the newest commit of a checkout would be vouched for, as an agent would say.
//!
//! What is taken as given is what the branch's remote has, or else the commit before: whoever checks
//! his own work trusts what it stands on.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use git2::Repository;

use crate::adapters::git::source::lineage::{Question, bring};
use crate::desired::trust::{Distrust, Refusal, Signer, TRUST_FILE, vouch};
use crate::kinds::digest::Digest;
use crate::ports::source::Lineage;

/// What is said of the newest commit.
pub(super) enum Seal {
    /// Somebody has signed it.
    Good {
        /// The commit.
        commit: String,
        /// Who.
        signer: Arc<Signer>,
    },
    /// It would be refused.
    Bad(Box<Refusal>),
    /// It can't be told, and why.
    Unknown(String),
}

/// Looks at the newest commit of the checkout that a directory with a `trust.yaml` lies in; nothing if
/// it lies in none, or has no commit.
pub(super) fn of(directory: &Path) -> Option<Seal> {
    let repository = Repository::discover(directory).ok()?;
    let root = repository.workdir()?.canonicalize().ok()?;
    let below = directory.canonicalize().ok()?;
    let file = below.strip_prefix(&root).ok()?.join(TRUST_FILE);
    let file = file.to_str()?.to_owned();
    let head = repository.head().and_then(|head| head.peel_to_commit()).ok()?;
    let known = given(&repository, &head);
    match judge(&repository, &head, &file, (known, &[]), None) {
        Ok(seal) => Some(seal),
        Err(error) => Some(Seal::Unknown(format!(
            "its history can't be read here ({}): a clone with all of it can",
            error.message()
        ))),
    }
}

/// Judges a commit, with others and what they stand on as given, and with tags that no ref names yet; by a
/// pin, or else by the policy that is given with those.
pub(super) fn judge(
    repository: &Repository,
    head: &git2::Commit<'_>,
    file: &str,
    (known, tags): (BTreeSet<git2::Oid>, &[git2::Oid]),
    pin: Option<Digest>,
) -> Result<Seal, git2::Error> {
    if repository.is_shallow() {
        let why = "this clone is shallow; `git fetch --unshallow` brings its history";
        return Ok(Seal::Unknown(why.to_owned()));
    }
    // By the policy that is given; a repository that has none yet begins with its own.
    let first = || known.iter().find_map(|id| content(repository, *id, file));
    let policy = || first().or_else(|| content(repository, head.id(), file));
    let Some(pin) = pin.or_else(|| policy().map(|policy| Digest::of(&policy))) else {
        return Ok(Seal::Unknown(format!("{TRUST_FILE} is not committed yet")));
    };
    let look = |known: BTreeSet<git2::Oid>| -> Result<Option<Lineage>, git2::Error> {
        let (commit, file) = (head.id(), file.to_owned());
        let tags = tags.to_vec();
        bring(repository, Question { tags, commit, file, pin: &pin, root: None, known })
    };
    let judged = |lineage: Option<Lineage>| lineage.map(|lineage| vouch(&lineage, &pin));
    let mut answer = judged(look(known)?);
    if matches!(&answer, Some(Err(refusal)) if refusal.why == Distrust::Short) {
        answer = judged(look(BTreeSet::new())?);
    }
    Ok(match answer {
        Some(Ok(vouched)) => Seal::Good { commit: head.id().to_string(), signer: vouched.signer },
        Some(Err(refusal)) => Seal::Bad(refusal),
        None => Seal::Unknown("its history is too long to be checked here".to_owned()),
    })
}

/// What is taken as given: what the branch's remote has, or the commits before the newest.
fn given(repository: &Repository, head: &git2::Commit<'_>) -> BTreeSet<git2::Oid> {
    match upstream(repository, head) {
        Some(id) => BTreeSet::from([id]),
        None => head.parent_ids().collect(),
    }
}

/// What the branch's remote has, if the newest commit stands on it.
fn upstream(repository: &Repository, head: &git2::Commit<'_>) -> Option<git2::Oid> {
    let branch = git2::Branch::wrap(repository.head().ok()?);
    let id = branch.upstream().ok()?.get().peel_to_commit().ok()?.id();
    let is_before = repository.graph_descendant_of(head.id(), id).unwrap_or(false);
    is_before.then_some(id)
}

/// The commit on which a checkout's changes stand: what the branch's remote has, or the newest.
pub(super) fn upstream_or_head(repository: &Repository) -> Result<git2::Commit<'_>, git2::Error> {
    let head = repository.head()?.peel_to_commit()?;
    match upstream(repository, &head) {
        Some(id) => repository.find_commit(id),
        None => Ok(head),
    }
}

/// A file of a commit.
pub(super) fn content(repository: &Repository, commit: git2::Oid, file: &str) -> Option<Vec<u8>> {
    let tree = repository.find_commit(commit).ok()?.tree().ok()?;
    let entry = tree.get_path(Path::new(file)).ok()?;
    Some(repository.find_blob(entry.id()).ok()?.content().to_vec())
}
