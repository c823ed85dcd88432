//! `windlass rollout undo`: a workload's template becomes one that it had before.
//!
//! ```text
//!   which template   the ReplicaSets or ControllerRevisions that the agent shows, or a commit that is named
//!   how              back along the branch to where it stood last: the commits on the way that changed it
//!                    ├─ reverting them does that and nothing else     git revert, the newest first
//!                    └─ it would take other things along, or clash    its lines in that file, as they were
//! ```
//! Which of the two it is, is tried in memory first. As with kubectl, only the template goes back; how
//! many pods there are stays as it is.

use clap::Args;
use git2::{Commit, DiffDelta, Tree};

use super::Context;
use super::change::key;
use super::checkout::{Checkout, Making, Written, short, unread};
use super::client;
use super::fault::Failure;
use super::out::talk;
use super::rollout::{annotation, revisions};
use super::target::Target;
use crate::desired::{self, Wish};
use crate::kinds::digest::Digest;
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::ports::source::FileContent;
use crate::view::objects::ANNOTATION_COMMIT;

/// How far back the branch is looked through; what is older is restored by an edit.
const COMMITS_MAX: usize = 1000;

/// What goes back.
const KINDS: [Kind; 3] = [Kind::Deployment, Kind::StatefulSet, Kind::DaemonSet];

/// Arguments of `windlass rollout undo`.
#[derive(Args, Debug)]
#[command(
    after_help = "Prints the Git change that does it, and says whether it is a revert or an edit; \
                  --commit makes it."
)]
pub(super) struct Undo {
    /// deploy/NAME, sts/NAME, ds/NAME
    #[arg(value_name = "WORDS", required = true)]
    words: Vec<String>,
    /// Which of `rollout history`; 0 is the one before the current
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    to_revision: u64,
    /// The template as a commit of the checkout has it; no agent is asked then
    #[arg(long, value_name = "COMMIT", conflicts_with = "to_revision")]
    to_commit: Option<String>,
    #[command(flatten)]
    making: Making,
}

pub(super) async fn run(args: &Undo, context: &mut Context) -> Result<(), Failure> {
    let key = key(&args.words, &KINDS, context)?;
    let checkout = Checkout::open(&args.making)?;
    let (commit, what) = match &args.to_commit {
        Some(commit) => (commit.clone(), "the template".to_owned()),
        None => match wanted(args.to_revision, &key, &checkout, context).await? {
            Some((revision, commit)) => (commit, format!("revision {revision}")),
            None => return skip(&key, context),
        },
    };
    let found = checkout.repository.revparse_single(&commit);
    let aim = found.and_then(|object| object.peel_to_commit()).map_err(|_| missing(&commit))?;
    let head = checkout.head()?;
    let now = checkout.find(&head, &key)?;
    let then = checkout.find(&aim, &key)?;
    if template(&now) == template(&then) {
        return skip(&key, context);
    }
    let title = format!("Undo {key}: back to {what} of commit {}", short(aim.id()));
    match way(&checkout, &head, &now, &then.file)? {
        Way::Revert(commits) => revert(args, &checkout, &commits, &title, context),
        Way::Edit(why) => {
            talk(&format!("{why}: the template's lines are put back as they were\n"));
            let wish = Wish::TemplateOf(&then.file);
            checkout.edit(&args.making, &now, wish, &title, &mut context.out)
        }
    }
}

fn missing(commit: &str) -> Failure {
    let commit = commit.get(..10).unwrap_or(commit);
    Failure::hinted(format!("the checkout has no commit {commit}"), "git fetch && git pull")
}

fn skip(key: &Key, context: &mut Context) -> Result<(), Failure> {
    let object = format!("{}/{}", key.kind.resource_name(), key.name);
    let line = format!("{object} skipped rollback (current template already matches)\n");
    context.out.text(&line)
}

fn template(written: &Written) -> Option<Digest> {
    written.object.body.template().map(|template| template.meaning)
}

/// The revision to go back to, and a commit that has its template; none if it is the current one.
async fn wanted(
    revision: u64,
    key: &Key,
    checkout: &Checkout,
    context: &Context,
) -> Result<Option<(u64, String)>, Failure> {
    let name = &key.name;
    let target = Target { kind: key.kind, name: Some(name.to_string()) };
    let path = target.path(Some(&context.namespace));
    let workload = context.client.json(&path, client::JSON).await?;
    if workload.pointer("/spec/paused").is_some_and(|paused| paused == true) {
        return Err(Failure::plain(format!(
            "you cannot rollback a paused deployment; resume it first with 'windlass rollout resume \
             deploy/{name}' and try again"
        )));
    }
    let in_force = annotation(&workload, ANNOTATION_COMMIT).unwrap_or_default();
    must_contain(checkout, in_force)?;
    let sets = revisions(key.kind, &workload, context).await?;
    let current = sets.last().map(|(number, _)| *number);
    let chosen = match revision {
        0 => sets.iter().rev().find(|(number, _)| Some(*number) < current),
        wanted => sets.iter().find(|(number, _)| *number == wanted),
    };
    let Some((number, set)) = chosen else {
        let kind = key.kind.info().singular;
        let what = match revision {
            0 => format!("no rollout history found for {kind} \"{name}\""),
            wanted => format!("unable to find specified revision {wanted} in history"),
        };
        let hint = format!("windlass rollout history {kind}/{name} lists those that are kept");
        return Err(Failure::hinted(what, hint));
    };
    let commit = annotation(set, ANNOTATION_COMMIT).unwrap_or_default();
    Ok((Some(*number) != current).then(|| (*number, commit.to_owned())))
}

/// A change on top of what the fleet does not run yet would push other people's work along, or be
/// refused when it is pushed.
fn must_contain(checkout: &Checkout, in_force: &str) -> Result<(), Failure> {
    let head = checkout.head()?.id();
    let commit = git2::Oid::from_str(in_force).map_err(|_| missing(in_force))?;
    let is_below = checkout.repository.graph_descendant_of(head, commit).unwrap_or(false);
    if head == commit || is_below { Ok(()) } else { Err(missing(in_force)) }
}

/// How the template comes back.
enum Way<'r> {
    /// These commits, the newest first, are reverted.
    Revert(Vec<Commit<'r>>),
    /// Its lines are restored, because of this.
    Edit(String),
}

fn way<'r>(
    checkout: &'r Checkout,
    head: &Commit<'r>,
    now: &Written,
    then: &FileContent,
) -> Result<Way<'r>, Failure> {
    let Some(commits) = culprits(checkout, head, now, then).map_err(|error| unread(&error))? else {
        return Ok(Way::Edit("no commit of this branch leads back to it alone".into()));
    };
    let names: Vec<String> = commits.iter().map(|commit| short(commit.id())).collect();
    let names = names.join(" and ");
    let Some(tree) = reverted(checkout, head, &commits).map_err(|error| unread(&error))? else {
        return Ok(Way::Edit(format!("a revert of {names} would clash with later commits")));
    };
    let before = head.tree().map_err(|error| unread(&error))?;
    let diff = checkout.repository.diff_tree_to_tree(Some(&before), Some(&tree), None);
    let diff = diff.map_err(|error| unread(&error))?;
    let path = |delta: &DiffDelta<'_>| {
        let file = delta.new_file().path().or_else(|| delta.old_file().path());
        file.map(|path| path.display().to_string()).unwrap_or_default()
    };
    let other = diff.deltas().map(|delta| path(&delta)).find(|path| *path != *now.file.path);
    if let Some(other) = other {
        return Ok(Way::Edit(format!("a revert of {names} would also change {other}")));
    }
    let key = &now.object.key;
    let after = checkout.file(&tree, &now.file.path);
    let does_it =
        after.is_some_and(|after| desired::is_just(&now.file, &after, key, Wish::TemplateOf(then)));
    Ok(match does_it {
        true => Way::Revert(commits),
        false => Way::Edit(format!("a revert of {names} would change more than the template")),
    })
}

/// The commits, the newest first, that changed the template since it was last as it is wanted.
fn culprits<'r>(
    checkout: &'r Checkout,
    head: &Commit<'r>,
    now: &Written,
    then: &FileContent,
) -> Result<Option<Vec<Commit<'r>>>, git2::Error> {
    let key = &now.object.key;
    let meaning = |file: &FileContent| {
        let parsed = desired::parse(file);
        desired::object(&parsed, key)?.body.template().map(|template| template.meaning)
    };
    let wanted = meaning(then);
    let mut known: Option<(FileContent, Option<Digest>)> = None;
    let mut look = |commit: &Commit<'_>| {
        let file = checkout.file(&commit.tree()?, &now.file.path);
        let Some(file) = file else { return Ok::<_, git2::Error>(None) };
        if let Some((last, digest)) = &known
            && last.blob == file.blob
        {
            return Ok(*digest);
        }
        let digest = meaning(&file);
        known = Some((file, digest));
        Ok(digest)
    };
    let (mut commit, mut commits) = (head.clone(), Vec::new());
    let mut here = look(&commit)?;
    for _ in 0..COMMITS_MAX {
        if here == wanted {
            return Ok(Some(commits));
        }
        // Along the branch itself: what a merge brought in is the merge's doing.
        let Ok(parent) = commit.parent(0) else { break };
        let there = look(&parent)?;
        if there.is_none() {
            break;
        }
        if there != here {
            commits.push(commit);
        }
        (commit, here) = (parent, there);
    }
    Ok(None)
}

/// The tree after reverting the commits one by one; none if they clash with what came later.
fn reverted<'r>(
    checkout: &'r Checkout,
    head: &Commit<'r>,
    commits: &[Commit<'r>],
) -> Result<Option<Tree<'r>>, git2::Error> {
    let repository = &checkout.repository;
    // Trees that are only tried are not written to the disk.
    let odb = repository.odb()?;
    odb.add_new_mempack_backend(1000)?;
    let mut tree = head.tree()?;
    for commit in commits {
        let mut index =
            repository.merge_trees(&commit.tree()?, &tree, &commit.parent(0)?.tree()?, None)?;
        if index.has_conflicts() {
            return Ok(None);
        }
        tree = repository.find_tree(index.write_tree_to(repository)?)?;
    }
    Ok(Some(tree))
}

fn revert(
    args: &Undo,
    checkout: &Checkout,
    commits: &[Commit<'_>],
    title: &str,
    context: &mut Context,
) -> Result<(), Failure> {
    let command = |commit: &Commit<'_>| {
        let mut words = vec!["revert", "--no-edit"];
        if commit.parent_count() > 1 {
            words.extend(["-m", "1"]);
        }
        words
    };
    if !args.making.is_meant() {
        for commit in commits {
            let subject = commit.summary().ok().flatten().unwrap_or_default();
            let words = command(commit).join(" ");
            let line = format!("git {words} {}  # {subject}\n", short(commit.id()));
            context.out.page(&line)?;
        }
        talk(&format!("--commit makes this revert: {title}\n"));
        return Ok(());
    }
    checkout.must_have_branch()?;
    let mut options = git2::StatusOptions::new();
    let changed = checkout.repository.statuses(Some(options.include_untracked(false)));
    if changed.is_ok_and(|changed| !changed.is_empty()) {
        return Err(Failure::hinted(
            "the checkout has changes that are not committed",
            "commit them, or put them aside: git stash",
        ));
    }
    for commit in commits {
        let id = commit.id().to_string();
        let done = checkout.git(&[command(commit), vec![&id]].concat());
        if done.is_err() {
            // Nothing half done is left; if there is nothing to abort, that is well.
            let _ = checkout.git(&["revert", "--abort"]);
            done?;
        }
    }
    checkout.announce(&args.making, &mut context.out)
}
