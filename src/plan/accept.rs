//! Is the newest commit taken, refused or held?
//!
//! A commit is a transaction: taken whole or not at all. Three doors stand before it, in this
//! order: its history must follow from the revision in force, nothing in it may be wrong, and it
//! must not delete more than its author seems to have meant. Source: docs/DESIGN.md §2 and Hard
//! cases 8.

use std::sync::Arc;

use crate::kinds::binding::{AppName, Oid};
use crate::kinds::finding::Finding;
use crate::kinds::name::Name;
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::ports::source::Relation;
use crate::state::AppState;
use crate::state::records::{AppHead, Applied, FINDINGS_MAX, TREES_MAX, Verdict, WaitingRevision};

use super::Revision;
use super::work::Work;

/// The trailer with which an author says that a large deletion is meant.
pub(super) const PRUNE_TRAILER: &str = "Windlass-Allow-Prune";

/// Up to this many objects may go with one commit without the trailer, whatever their share of the
/// whole.
const PRUNE_FREE: usize = 10;

/// The verdict's place among warnings kept in the state.
const WARNINGS_MAX: usize = 20;

pub(super) fn accept_revisions(work: &mut Work) {
    let apps: Vec<AppName> = work.input.apps.keys().cloned().collect();
    for app in apps {
        accept_app(work, &app);
    }
}

fn accept_app(work: &mut Work, app: &AppName) {
    let input = &work.input.apps[app];
    if let Some(applied) = input.applied.clone().filter(|revision| is_in_force(work, app, revision))
    {
        work.revisions.insert(app.clone(), applied);
    }
    let Some(candidate) = input.candidate.clone() else {
        return;
    };
    let state = work.next.apps.entry(app.clone()).or_default();
    let in_force = state.head.applied.as_ref().map(|applied| applied.revision.clone());
    if candidate.since != in_force {
        // It was compared with a revision that is no longer in force: the agent looks again.
        return;
    }
    if in_force.as_ref() == Some(&candidate.commit.id) {
        clear_waiting(state);
        return;
    }
    match judge(&candidate, state, work.input.settings.follows_rewrites) {
        Ok(()) => apply(work, app, &candidate),
        Err(verdict) => wait(work, app, &candidate, verdict),
    }
}

fn is_in_force(work: &Work, app: &AppName, revision: &Revision) -> bool {
    let head = work.next.apps.get(app).map(|state| &state.head);
    head.and_then(|head| head.applied.as_ref())
        .is_some_and(|applied| applied.revision == revision.commit.id)
}

fn clear_waiting(state: &mut AppState) {
    if state.head.waiting.is_some() {
        Arc::make_mut(&mut state.head).waiting = None;
    }
}

/// Whether a commit would be taken, for whoever must know before it is.
pub fn may_accept(candidate: &Revision, app: Option<&AppState>, follows_rewrites: bool) -> bool {
    judge(candidate, app.unwrap_or(&AppState::default()), follows_rewrites).is_ok()
}

/// The three doors.
fn judge(candidate: &Revision, state: &AppState, follows_rewrites: bool) -> Result<(), Verdict> {
    check_history(candidate.relation, follows_rewrites)?;
    let errors = candidate.findings.iter().filter(|finding| finding.is_error()).count();
    if errors > 0 {
        let s = if errors == 1 { "" } else { "s" };
        return Err(Verdict::Refused(format!("{errors} error{s} in it")));
    }
    check_prune(candidate, state)
}

fn check_history(relation: Relation, follows_rewrites: bool) -> Result<(), Verdict> {
    let refused = |what: &str| {
        Err(Verdict::Refused(format!(
            "{what}; to go back, push a `git revert`; to follow rewritten history, set \
             `desired.followRewrites: true` in agent.yaml"
        )))
    };
    match relation {
        Relation::First | Relation::Same | Relation::Descends => Ok(()),
        _ if follows_rewrites => Ok(()),
        Relation::Precedes => refused("the branch was set back behind the revision in force"),
        Relation::Diverged => {
            refused("the branch was rewritten: it does not contain the revision in force")
        }
        Relation::Unrelated => refused("the branch shares no history with the revision in force"),
    }
}

/// Whether the commit deletes no more than its author seems to have meant.
fn check_prune(candidate: &Revision, state: &AppState) -> Result<(), Verdict> {
    let was_in_force = candidate.tree.as_ref().is_some_and(|tree| state.head.trees.contains(tree));
    if was_in_force || is_prune_allowed(candidate) {
        return Ok(());
    }
    let gone: Vec<Key> = state
        .objects()
        .map(|(key, _)| key)
        .filter(|key| !candidate.desired.objects.contains_key(key))
        .collect();
    let had = state.objects().count();
    match prune_complaint(candidate, state, &gone, had) {
        None => Ok(()),
        Some(complaint) => Err(Verdict::Held(format!(
            "{complaint}; if that is meant, push a commit with the trailer `{PRUNE_TRAILER}: yes`"
        ))),
    }
}

fn is_prune_allowed(candidate: &Revision) -> bool {
    candidate.commits.iter().any(|commit| {
        commit.trailer(PRUNE_TRAILER).is_some_and(|value| value.eq_ignore_ascii_case("yes"))
    })
}

fn prune_complaint(
    candidate: &Revision,
    state: &AppState,
    gone: &[Key],
    had: usize,
) -> Option<String> {
    if had == 0 || gone.is_empty() {
        return None;
    }
    if candidate.tree.is_none() {
        return Some(format!("the directory is missing, which would delete all {had} objects"));
    }
    if candidate.desired.objects.is_empty() {
        return Some(format!("it holds no object, which would delete all {had}"));
    }
    let origin = state.head.applied.as_ref().map(|applied| applied.origin.as_str());
    if origin.is_some_and(|origin| origin != candidate.origin) {
        return Some(format!(
            "the branch or directory was changed and {} of {had} objects are not in the new one",
            gone.len()
        ));
    }
    if candidate.relation == Relation::Unrelated {
        return Some(format!("its history is unrelated and {} of {had} objects go", gone.len()));
    }
    if let Some(namespace) = gone.iter().find(|key| key.kind == Kind::Namespace) {
        return Some(format!("it would delete {namespace} and everything in it"));
    }
    if let Some(claim) = gone.iter().find(|key| key.kind == Kind::PersistentVolumeClaim) {
        return Some(format!("it would delete {claim} and its data"));
    }
    (gone.len() > PRUNE_FREE.max(had / 2))
        .then(|| format!("it would delete {} of {had} objects", gone.len()))
}

fn apply(work: &mut Work, app: &AppName, candidate: &Arc<Revision>) {
    let now = work.now.wall;
    let commit = &candidate.commit;
    let state = work.next.apps.entry(app.clone()).or_default();
    let head = Arc::make_mut(&mut state.head);
    if let Some(before) = head.applied.take() {
        remember_tree(head, before.tree);
    }
    head.waiting = None;
    let warnings = candidate.findings.iter().take(WARNINGS_MAX).cloned().collect();
    head.applied = Some(Applied {
        revision: commit.id.clone(),
        tree: candidate.tree.clone().unwrap_or_else(|| Oid::new("")),
        subject: commit.subject().to_owned(),
        author: commit.author.clone(),
        since: now,
        origin: candidate.origin.clone(),
        objects: u32::try_from(candidate.desired.objects.len()).unwrap_or(u32::MAX),
        warnings,
        unknown: std::collections::BTreeMap::new(),
    });
    work.revisions.insert(app.clone(), candidate.clone());
    let message = format!("revision {} in force: {}", commit.id.short(), commit.subject());
    work.note(message.clone());
    work.event(&app_key(), "coordinator", "RevisionApplied", message);
}

fn remember_tree(head: &mut AppHead, tree: Oid) {
    if tree.as_str().is_empty() {
        return;
    }
    head.trees.retain(|known| *known != tree);
    head.trees.push(tree);
    let surplus = head.trees.len().saturating_sub(TREES_MAX);
    head.trees.drain(..surplus);
}

fn wait(work: &mut Work, app: &AppName, candidate: &Revision, verdict: Verdict) {
    let now = work.now.wall;
    let state = work.next.apps.entry(app.clone()).or_default();
    let known = state.head.waiting.as_ref().is_some_and(|waiting| {
        waiting.revision == candidate.commit.id && waiting.verdict == verdict
    });
    if known {
        return;
    }
    let mut findings: Vec<Finding> = candidate.findings.to_vec();
    findings.sort_by(|one, other| (one.severity, &one.place).cmp(&(other.severity, &other.place)));
    let finding_count = u32::try_from(findings.len()).unwrap_or(u32::MAX);
    findings.truncate(FINDINGS_MAX);
    let first = findings.first().map(|finding| format!(": {finding}")).unwrap_or_default();
    let (reason, word) = match &verdict {
        Verdict::Refused(_) => ("RevisionRefused", "refused"),
        Verdict::Held(_) => ("RevisionHeld", "held"),
    };
    let commit = &candidate.commit;
    let message = format!("revision {} {word}: {}{first}", commit.id.short(), verdict.why());
    Arc::make_mut(&mut state.head).waiting = Some(WaitingRevision {
        revision: commit.id.clone(),
        subject: commit.subject().to_owned(),
        author: commit.author.clone(),
        since: now,
        verdict,
        findings,
        finding_count,
        unknown: std::collections::BTreeMap::new(),
    });
    work.note(message.clone());
    work.warn(&app_key(), "coordinator", reason, message);
}

/// What events about the repository as a whole are filed under: Kubernetes has no object for it,
/// and every fleet has this one.
fn app_key() -> Key {
    Key::cluster(Kind::Namespace, &Name::trusted("default"))
}
