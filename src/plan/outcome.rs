//! What becomes of a revision once it is in force: healthy, or not within its time; and the way back.
//!
//! A removal firm with a return guarantee: when the furniture does not fit by the agreed hour, it
//! goes back to where it stood last, the attempt is noted, and it is not tried again by itself; a new
//! order is.
//!
//! The rule: what counts is the roll-out. A revision that was healthy once is not taken back for what
//! befalls it later. What is gone back to is the last revision that was healthy, at once and not in
//! waves; if that fails as well, nothing is left to go back to, and it stays. The time for which a part
//! that goes ahead is held on purpose does not count; the rest has all of it again.
//!
//! The limit: where going back would put an object into two apps, or take away what another app
//! needs, it is not done, and the status says so. How long a revision has been on its way is counted
//! by the coordinator alone, so one that takes over gives it the whole time again.

use std::sync::Arc;
use std::time::Duration;

use crate::kinds::binding::AppName;
use crate::kinds::object::Key;
use crate::kinds::time::human_duration;
use crate::state::records::{AppHead, Attempt, Verdict, WaitingRevision};

use super::accept;
use super::health::{self, Health};
use super::work::Work;
use super::{Revision, Terms, canary, storage, waves};

/// Notes which revisions have become healthy, and which have not in their time.
pub(super) fn watch(work: &mut Work) {
    let apps: Vec<AppName> = work.revisions.keys().cloned().collect();
    for app in apps {
        waves::advance(work, &app);
        if canary::advance(work, &app) {
            // It waits on purpose: no deadline runs.
            work.memory.begun.remove(&app);
            continue;
        }
        let Some((terms, has_failed_before)) = under_way(work, &app) else {
            work.memory.begun.remove(&app);
            continue;
        };
        match health::of_app(work, &app) {
            Health::Current => is_healthy(work, &app),
            // It may still come to be, and is left alone until then.
            _ if has_failed_before => {}
            Health::Failed(why) => has_failed(work, &app, &terms, &why),
            Health::InProgress(why) => is_under_way(work, &app, &terms, &why),
        }
    }
}

/// The terms of an app whose revision in force has not been healthy yet, and whether it was told to
/// have failed.
fn under_way(work: &Work, app: &AppName) -> Option<(Terms, bool)> {
    let head = &work.next.apps.get(app)?.head;
    let applied = head.applied.as_ref()?;
    let has_failed = head.failed_now();
    let is_open = applied.healthy.is_none() && has_failed.is_none_or(|failed| !failed.goes_back);
    let terms = &work.revisions.get(app)?.terms;
    is_open.then(|| (terms.clone(), has_failed.is_some()))
}

fn head_mut<'w>(work: &'w mut Work, app: &AppName) -> Option<&'w mut AppHead> {
    work.next.apps.get_mut(app).map(|state| Arc::make_mut(&mut state.head))
}

fn is_healthy(work: &mut Work, app: &AppName) {
    let now = work.now.wall;
    work.memory.begun.remove(app);
    let Some(head) = head_mut(work, app) else { return };
    if head.failed_now().is_some() {
        head.failed = None;
    }
    let Some(applied) = &mut head.applied else { return };
    applied.healthy = Some(now);
    let (id, since) = (applied.revision.clone(), applied.since);
    let of = accept::of_app(&work.revisions[app]);
    let after = human_duration(now.since(since));
    let message = format!("revision {} is healthy{of}, after {after}", id.short());
    work.note(message.clone());
    work.event(&accept::app_key(), "coordinator", "RevisionHealthy", message);
    // Somebody may have waited for it.
    work.is_unfinished |= work.next.apps.values().any(|app| app.head.waiting.is_some());
}

fn is_under_way(work: &mut Work, app: &AppName, terms: &Terms, why: &str) {
    let revision = work.revisions[app].commit.id.clone();
    let now = work.now.elapsed;
    let begun = work.memory.begun.entry(app.clone()).or_insert_with(|| (revision.clone(), now));
    if begun.0 != revision {
        *begun = (revision, now);
    }
    let Some(timeout) = terms.spec.wait else {
        return;
    };
    let taken = now.since(begun.1);
    if taken < timeout {
        work.wake_in((timeout - taken).max(Duration::from_millis(1)));
        return;
    }
    let why = format!("it was not healthy within {}: {why}", human_duration(timeout));
    has_failed(work, app, terms, &why);
}

fn has_failed(work: &mut Work, app: &AppName, terms: &Terms, why: &str) {
    let now = work.now.wall;
    let Some(head) = head_mut(work, app) else { return };
    let Some(applied) = head.applied.clone() else { return };
    let goes_back = terms.spec.auto_revert && head.healthy.is_some();
    head.failed = Some(Attempt {
        revision: applied.revision.clone(),
        tree: applied.tree,
        subject: applied.subject,
        author: applied.author,
        why: why.to_owned(),
        since: now,
        goes_back,
        stays: None,
        unknown: std::collections::BTreeMap::new(),
    });
    let of = accept::of_app(&work.revisions[app]);
    let message = format!("revision {} failed{of}: {why}", applied.revision.short());
    work.note(message.clone());
    work.warn(&accept::app_key(), "coordinator", "RevisionFailed", message);
    // The agent reads what is gone back to; then another turn goes there.
    work.is_unfinished |= goes_back;
}

/// Goes back where a revision failed, once what it goes back to has been read.
pub(super) fn go_back(work: &mut Work) {
    let input = work.input;
    for (app, offered) in &input.apps {
        let Some(fallback) = &offered.fallback else { continue };
        let head = work.next.apps.get(app).map(|state| state.head.clone()).unwrap_or_default();
        let failed = head.failed_now().filter(|failed| failed.goes_back);
        let Some(failed) = failed else { continue };
        let is_it =
            |kept: &crate::state::records::Kept| kept.applied.revision == fallback.commit.id;
        if !head.healthy.as_ref().is_some_and(is_it) || !work.revisions.contains_key(app) {
            continue;
        }
        match obstacle(work, app, fallback) {
            Some(why) => stay(work, app, &why),
            None => {
                let attempt = failed.clone();
                carry_back(work, app, fallback, &attempt);
            }
        }
    }
}

/// What forbids to go back.
fn obstacle(work: &Work, app: &AppName, fallback: &Revision) -> Option<String> {
    let others = || work.next.apps.iter().filter(|(other, _)| *other != app);
    let has = |key: &Key| {
        let own = fallback.desired.objects.contains_key(key);
        own || others().any(|(_, state)| state.entry(key).is_some())
    };
    let elsewhere = fallback.desired.objects.keys().find_map(|key| {
        let (other, _) = others().find(|(_, state)| state.entry(key).is_some())?;
        Some(format!("{key} is app {other}'s now"))
    });
    let needs = |revision: &Revision, app: &AppName| {
        let mut vital = revision.terms.needs.iter().filter(|need| need.finding.is_error());
        let missing = vital.find(|need| !has(&need.key))?;
        Some(format!("app {app} needs {}", missing.key))
    };
    let others_revisions = work.revisions.iter().filter(|(other, _)| *other != app);
    elsewhere
        .or_else(|| needs(fallback, app))
        .or_else(|| others_revisions.clone().find_map(|(other, found)| needs(found, other)))
}

fn stay(work: &mut Work, app: &AppName, why: &str) {
    let Some(failed) = head_mut(work, app).and_then(|head| head.failed.as_mut()) else { return };
    if failed.stays.as_deref() == Some(why) {
        return;
    }
    failed.stays = Some(why.to_owned());
    let message = format!("revision {} stays, though it failed: {why}", failed.revision.short());
    work.note(message.clone());
    work.warn(&accept::app_key(), "coordinator", "RevisionStays", message);
}

fn carry_back(work: &mut Work, app: &AppName, fallback: &Arc<Revision>, failed: &Attempt) {
    let now = work.now.wall;
    // Nobody has said that data may go.
    let lost = storage::would_lose(&work.next, app, &fallback.desired);
    storage::keep_data(work, &lost);
    let Some(head) = head_mut(work, app) else { return };
    let Some(kept) = head.healthy.take() else { return };
    if let Some(left) = head.applied.take() {
        accept::remember_tree(head, left.tree);
    }
    let mut applied = kept.applied;
    applied.since = now;
    applied.healthy = None;
    let to = applied.revision.clone();
    head.applied = Some(applied);
    head.waves = None;
    head.canary = None;
    head.base = Some(kept.base);
    head.waiting = Some(WaitingRevision {
        revision: failed.revision.clone(),
        subject: failed.subject.clone(),
        author: failed.author.clone(),
        signer: None,
        since: now,
        verdict: Verdict::Reverted(failed.why.clone()),
        findings: Vec::new(),
        finding_count: 0,
        unknown: std::collections::BTreeMap::new(),
    });
    work.revisions.insert(app.clone(), fallback.clone());
    let of = accept::of_app(fallback);
    let message = format!(
        "back to revision {}{of}, as revision {} failed: {}",
        to.short(),
        failed.revision.short(),
        failed.why
    );
    work.note(message.clone());
    work.warn(&accept::app_key(), "coordinator", "RevisionReverted", message);
}
