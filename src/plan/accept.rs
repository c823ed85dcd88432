//! Is the newest commit taken, refused or held?
//!
//! A commit is a transaction: taken whole or not at all, app by app. Four doors stand before it, in
//! this order: somebody must vouch for it, its history must follow from the revision in force, nothing
//! in it may be wrong, and it must not delete more than its author seems to have meant. What passes
//! may have to wait for its hour ([`super::windows`]), and where there are several apps it must also
//! fit with the others: [`super::apps`]. Source: docs/DESIGN.md §2 and Hard cases 8.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kinds::binding::{AppName, Oid};
use crate::kinds::finding::Finding;
use crate::kinds::name::{GIVEN_NAMESPACES, Name};
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::ports::source::Relation;
use crate::state::records::{
    AppHead, Applied, Attempt, FINDINGS_MAX, Kept, TREES_MAX, Verdict, WaitingRevision,
};
use crate::state::{AppState, State};

use super::apps::{Refusal, Table};
use super::work::Work;
use super::{Revision, canary, storage, waves, windows};

/// The trailer with which an author says that a large deletion is meant.
pub(super) const PRUNE_TRAILER: &str = "Windlass-Allow-Prune";

/// Up to this many objects may go with one commit without the trailer, whatever their share of the
/// whole.
const PRUNE_FREE: usize = 10;

/// The verdict's place among warnings kept in the state.
const WARNINGS_MAX: usize = 20;

/// Takes up what is in force, as far as it has been read.
pub(super) fn take_in_force(work: &mut Work) {
    for (app, input) in &work.input.apps {
        let applied = input.applied.clone();
        if let Some(applied) = applied.filter(|revision| is_in_force(work, app, revision)) {
            work.revisions.insert(app.clone(), applied);
        }
    }
}

pub(super) fn accept_revisions(work: &mut Work) {
    let Some(mut table) = offered(work) else {
        return;
    };
    let follows = work.input.settings.follows_rewrites;
    for (app, offer) in table.offers.clone() {
        let state = work.next.apps.get(app).cloned().unwrap_or_default();
        if is_same(offer, &state) {
            table.same.insert(app);
            continue;
        }
        let lost = lost(&work.next, &table, app, offer);
        let verdict = judge(offer, &state, &table, lost.first(), follows);
        let verdict = verdict.err().or_else(|| windows::hold(work, app, offer));
        let verdict = verdict.or_else(|| canary::hold(work, app, offer));
        if let Some(verdict) = verdict {
            table.shut.insert(app, Refusal { verdict, findings: Vec::new() });
        }
    }
    work.memory.unclocked.retain(|app, _| table.offers.contains_key(app));
    table.ask_dependencies(work);
    table.settle(work);
    decide(work, &table);
}

/// What the newest commit offers to each app; none if there is none, or if it was compared with what
/// is in force no longer: then the agent looks again.
fn offered<'i>(work: &Work<'i>) -> Option<Table<'i>> {
    let mut offers = BTreeMap::new();
    for (app, input) in &work.input.apps {
        let Some(candidate) = &input.candidate else { continue };
        if candidate.since.as_ref() != work.next.base_of(app) {
            return None;
        }
        offers.insert(app, candidate);
    }
    (!offers.is_empty()).then(|| Table::of(offers))
}

fn is_in_force(work: &Work, app: &AppName, revision: &Revision) -> bool {
    let Some(head) = work.next.apps.get(app).map(|state| &state.head) else {
        return false;
    };
    let stage = revision.waves.as_ref().map(|in_waves| &in_waves.waves);
    let is_it = |applied: &Applied| applied.revision == revision.commit.id;
    head.applied.as_ref().is_some_and(is_it) && head.waves_now() == stage
}

/// Whether a commit says of the app what is in force already.
fn is_same(offer: &Revision, state: &AppState) -> bool {
    let Some(applied) = &state.head.applied else {
        return false;
    };
    let follows = matches!(offer.relation, Relation::Same | Relation::Descends);
    let has_its_files = offer.terms.is_part && offer.tree.as_ref() == Some(&applied.tree);
    if offer.terms.distrust.is_some() {
        return false;
    }
    applied.revision == offer.commit.id
        || (follows && has_its_files && !offer.findings.iter().any(Finding::is_error))
}

/// Writes down what became of each app.
fn decide(work: &mut Work, table: &Table<'_>) {
    let Some(tip) = table.offers.values().next().map(|offer| offer.commit.id.clone()) else {
        return;
    };
    for (app, offer) in table.offers.clone() {
        let refusal = table.shut.get(app);
        match refusal {
            Some(refusal) => wait(work, app, offer, refusal),
            None if table.same.contains(app) => canary::recall(work, app, offer),
            None => {
                if !is_prune_allowed(offer) {
                    // A revert to before there was a claim: nobody said that its data may go.
                    let lost = lost(&work.next, table, app, offer);
                    storage::keep_data(work, &lost);
                }
                let moves = gives_to_others(work, table, app);
                apply(work, app, offer, moves);
            }
        }
        let state = work.next.apps.entry(app.clone()).or_default();
        let base = match refusal {
            None => None,
            Some(_) => work.input.state.base_of(app).cloned(),
        };
        let is_settled = refusal.is_some() || state.head.waiting.is_none();
        if !is_settled || state.head.base != base {
            let head = Arc::make_mut(&mut state.head);
            head.base = base;
            head.waiting = head.waiting.take().filter(|_| refusal.is_some());
        }
    }
    work.next.tip = Some(tip);
}

/// Claims with data, and volumes, that an app would lose: what goes to another app with their set is
/// not lost.
fn lost(state: &State, table: &Table<'_>, app: &AppName, offer: &Revision) -> Vec<Key> {
    let mut lost = storage::would_lose(state, app, &offer.desired);
    lost.retain(|key| {
        let claim = key.namespace.as_ref().and_then(|space| state.claim(space, &key.name));
        let owner = claim.and_then(|claim| claim.made_for.as_ref()).map(|made| &made.owner);
        table.elsewhere(app, owner.unwrap_or(key)).is_none()
    });
    lost
}

/// Whether a commit would be taken, for whoever must know before it is.
pub fn may_accept(
    candidate: &Revision,
    state: &State,
    app: &AppName,
    follows_rewrites: bool,
) -> bool {
    let lost = storage::would_lose(state, app, &candidate.desired);
    let nothing = AppState::default();
    let app = state.apps.get(app).unwrap_or(&nothing);
    judge(candidate, app, &Table::default(), lost.first(), follows_rewrites).is_ok()
}

/// The doors.
fn judge(
    candidate: &Revision,
    state: &AppState,
    table: &Table<'_>,
    lost: Option<&Key>,
    follows_rewrites: bool,
) -> Result<(), Verdict> {
    if let Some(why) = &candidate.terms.distrust {
        return Err(Verdict::Refused(why.clone()));
    }
    check_history(candidate.relation, follows_rewrites)?;
    let count = candidate.findings.iter().filter(|finding| finding.is_error()).count();
    if count > 0 {
        return Err(Verdict::Refused(errors(count)));
    }
    if candidate.terms.is_unknown {
        let why = "windlass.yaml or another file for all apps has an error";
        return Err(Verdict::Refused(why.to_owned()));
    }
    let tried = state.head.failed.as_ref().filter(|failed| is_tried(candidate, failed));
    if let Some(failed) = tried {
        return Err(Verdict::Reverted(failed.why.clone()));
    }
    check_prune(candidate, state, table, lost)?;
    if let Some(suspension) = &state.head.suspended {
        let by = &suspension.by;
        return Err(Verdict::Waits(format!(
            "{by} suspended it; `windlass app resume {}` lets it go on",
            candidate.terms.spec.name
        )));
    }
    if candidate.terms.spec.suspend {
        let why = format!("it is suspended ({})", candidate.terms.spec.place);
        return Err(Verdict::Waits(why));
    }
    Ok(())
}

/// Whether a revision was in force and failed: the same commit, or in one part of the repository the
/// same files.
fn is_tried(candidate: &Revision, failed: &Attempt) -> bool {
    let has_its_files = candidate.terms.is_part && candidate.tree.as_ref() == Some(&failed.tree);
    candidate.commit.id == failed.revision || has_its_files
}

/// `1 error in it`.
pub(super) fn errors(count: usize) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{count} error{s} in it")
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

/// Whether the commit deletes no more than its author seems to have meant. What goes to another app
/// is not deleted.
fn check_prune(
    candidate: &Revision,
    state: &AppState,
    table: &Table<'_>,
    lost: Option<&Key>,
) -> Result<(), Verdict> {
    let was_in_force = candidate.tree.as_ref().is_some_and(|tree| state.head.trees.contains(tree));
    if was_in_force || is_prune_allowed(candidate) {
        return Ok(());
    }
    let app = &candidate.terms.spec.name;
    let (gone, stays): (Vec<Key>, Vec<Key>) = state
        .objects()
        .map(|(key, _)| key)
        .filter(|key| table.elsewhere(app, key).is_none())
        .partition(|key| !candidate.desired.objects.contains_key(key));
    match prune_complaint(candidate, state, &gone, gone.len() + stays.len(), lost) {
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
    lost: Option<&Key>,
) -> Option<String> {
    if had == 0 || gone.is_empty() && lost.is_none() {
        return None;
    }
    let spec = &candidate.terms.spec;
    if candidate.terms.is_gone {
        let app = &spec.name;
        return Some(format!(
            "windlass.yaml has no app {app} any more, which would delete all its {had} objects"
        ));
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
    // Those that exist by themselves go on without a manifest, with what is in them.
    let is_over =
        |key: &&Key| key.kind == Kind::Namespace && !GIVEN_NAMESPACES.contains(&key.name.as_str());
    if let Some(namespace) = gone.iter().find(is_over) {
        return Some(format!("it would delete {namespace} and everything in it"));
    }
    if let Some(lost) = lost {
        return Some(format!("it would delete {lost}, which has data"));
    }
    if !spec.prune {
        let objects = match gone {
            [only] => only.to_string(),
            _ => format!("{} objects", gone.len()),
        };
        return Some(format!("it would delete {objects}, and the app says `prune: false`"));
    }
    (gone.len() > PRUNE_FREE.max(had / 2))
        .then(|| format!("it would delete {} of {had} objects", gone.len()))
}

fn apply(work: &mut Work, app: &AppName, candidate: &Arc<Revision>, gives: bool) {
    let now = work.now.wall;
    let commit = &candidate.commit;
    let base = work.next.base_of(app).cloned();
    let had_any = base.is_some();
    let takes = takes_from_others(work, app, candidate);
    // What moves between apps is neither in two of them nor in none for a time.
    let is_at_once = takes || gives || candidate.terms.is_gone;
    let canary = if is_at_once { None } else { canary::begin(work, app, candidate) };
    let has_canary = canary.is_some();
    let first = if is_at_once { None } else { waves::begin(work, app, candidate, has_canary) };
    let state = work.next.apps.entry(app.clone()).or_default();
    let head = Arc::make_mut(&mut state.head);
    if let Some(before) = head.applied.take() {
        remember_tree(head, before.tree.clone());
        if let Some(base) = base.filter(|_| before.healthy.is_some()) {
            let applied = Applied { warnings: Vec::new(), ..before };
            head.healthy = Some(Kept { applied, base, unknown: BTreeMap::new() });
        }
    }
    if takes {
        // Who went back would leave behind what nobody else has.
        head.healthy = None;
    }
    head.failed = None;
    head.waves = first.as_ref().and_then(|first| Some(first.waves.as_ref()?.waves.clone()));
    let ahead = canary.as_ref().map(|canary| format!(", {canary}")).unwrap_or_default();
    head.canary = canary;
    if candidate.terms.is_gone {
        work.revisions.insert(app.clone(), candidate.clone());
        if had_any {
            work.note(format!("app {app} is gone from windlass.yaml"));
        }
        return;
    }
    let warnings = candidate.findings.iter().take(WARNINGS_MAX).cloned().collect();
    head.applied = Some(Applied {
        revision: commit.id.clone(),
        tree: candidate.tree.clone().unwrap_or_else(|| Oid::new("")),
        subject: commit.subject().to_owned(),
        author: commit.author.clone(),
        signer: candidate.signer.as_ref().map(ToString::to_string),
        since: now,
        origin: candidate.origin.clone(),
        objects: u32::try_from(candidate.desired.objects.len()).unwrap_or(u32::MAX),
        warnings,
        healthy: None,
        unknown: std::collections::BTreeMap::new(),
    });
    let of = of_app(candidate);
    let how = first.as_ref().and_then(|first| first.waves.as_ref());
    let how = how.map(|in_waves| format!(", {}", in_waves.waves)).unwrap_or_default();
    work.revisions.insert(app.clone(), first.unwrap_or_else(|| candidate.clone()));
    let (id, subject) = (commit.id.short(), commit.subject());
    let message = format!("revision {id} in force{of}{how}{ahead}: {subject}");
    work.note(message.clone());
    work.event(&app_key(), "coordinator", "RevisionApplied", message);
}

/// Whether objects of an app go to another one.
fn gives_to_others(work: &Work, table: &Table<'_>, app: &AppName) -> bool {
    let state = work.next.apps.get(app);
    let mut objects = state.into_iter().flat_map(AppState::objects);
    objects.any(|(key, _)| table.elsewhere(app, &key).is_some())
}

/// Whether objects come to an app from another one.
fn takes_from_others(work: &Work, app: &AppName, candidate: &Revision) -> bool {
    let mut others = work.next.apps.iter().filter(|(other, _)| *other != app);
    others.any(|(_, state)| {
        state.objects().any(|(key, _)| candidate.desired.objects.contains_key(&key))
    })
}

pub(super) fn remember_tree(head: &mut AppHead, tree: Oid) {
    if tree.as_str().is_empty() {
        return;
    }
    head.trees.retain(|known| *known != tree);
    head.trees.push(tree);
    let surplus = head.trees.len().saturating_sub(TREES_MAX);
    head.trees.drain(..surplus);
}

/// ` for app shop`, where there is more than one.
pub(super) fn of_app(revision: &Revision) -> String {
    let is_part = revision.terms.is_part;
    if is_part { format!(" for app {}", revision.terms.spec.name) } else { String::new() }
}

fn wait(work: &mut Work, app: &AppName, candidate: &Revision, refusal: &Refusal) {
    let now = work.now.wall;
    let state = work.next.apps.entry(app.clone()).or_default();
    let verdict = refusal.verdict.clone();
    let known = state.head.waiting.as_ref().is_some_and(|waiting| {
        waiting.revision == candidate.commit.id && waiting.verdict == verdict
    });
    if known {
        return;
    }
    let mut findings: Vec<Finding> = candidate.findings.to_vec();
    findings.extend(refusal.findings.iter().cloned());
    findings.sort_by(|one, other| (one.severity, &one.place).cmp(&(other.severity, &other.place)));
    let finding_count = u32::try_from(findings.len()).unwrap_or(u32::MAX);
    findings.truncate(FINDINGS_MAX);
    let first = findings.first().filter(|_| !matches!(verdict, Verdict::Waits(_)));
    let first = first.map(|finding| format!(": {finding}")).unwrap_or_default();
    let reason = match &verdict {
        Verdict::Refused(_) => "RevisionRefused",
        Verdict::Held(_) => "RevisionHeld",
        Verdict::Waits(_) => "RevisionWaits",
        Verdict::Reverted(_) => "RevisionReverted",
    };
    let commit = &candidate.commit;
    let (id, word, of) = (commit.id.short(), verdict.word(), of_app(candidate));
    let message = format!("revision {id} {word}{of}: {}{first}", verdict.why());
    let is_warning = !matches!(verdict, Verdict::Waits(_));
    Arc::make_mut(&mut state.head).waiting = Some(WaitingRevision {
        revision: commit.id.clone(),
        subject: commit.subject().to_owned(),
        author: commit.author.clone(),
        signer: candidate.signer.as_ref().map(ToString::to_string),
        since: now,
        verdict,
        findings,
        finding_count,
        unknown: std::collections::BTreeMap::new(),
    });
    work.note(message.clone());
    if is_warning {
        work.warn(&app_key(), "coordinator", reason, message);
    } else {
        work.event(&app_key(), "coordinator", reason, message);
    }
}

/// What events about the repository as a whole are filed under: Kubernetes has no object for it,
/// and every fleet has this one.
pub(super) fn app_key() -> Key {
    Key::cluster(Kind::Namespace, &Name::trusted("default"))
}
