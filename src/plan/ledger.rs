//! Which objects are new, and which are gone: each object of the desired repository is given an id
//! when it first comes into force, and loses it when it goes. One that moves to another app keeps it,
//! and all that is recorded of it: its pods don't notice.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kinds::binding::AppName;
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::state::jobs::JobRecord;
use crate::state::records::LedgerEntry;
use crate::state::{LedgerShard, RecordKey};

use super::work::Work;

pub(super) fn keep_ledger(work: &mut Work) {
    let apps: Vec<AppName> = work.revisions.keys().cloned().collect();
    if work.next.apps.len() > 1 {
        apps.iter().for_each(|app| take_over(work, app));
    }
    for app in apps {
        keep_app(work, &app);
    }
}

/// Takes what has come to an app from another one.
fn take_over(work: &mut Work, app: &AppName) {
    let Some(desired) = work.desired(app) else {
        return;
    };
    let own = work.next.apps.get(app);
    let is_new = |key: &&Key| own.is_none_or(|own| own.entry(key).is_none());
    let giver = |key: &Key| {
        let mut others = work.next.apps.iter().filter(|(other, _)| *other != app);
        others.find(|(_, state)| state.entry(key).is_some()).map(|(other, _)| other.clone())
    };
    let moved: Vec<(Key, AppName)> = desired
        .objects
        .keys()
        .filter(is_new)
        .filter_map(|key| Some((key.clone(), giver(key)?)))
        .collect();
    for (key, from) in moved {
        let Some(mut giver) = work.next.apps.remove(&from) else { continue };
        let taker = work.next.apps.entry(app.clone()).or_default();
        giver.hand_over(&key, taker);
        work.next.apps.insert(from.clone(), giver);
        take_claims(work, &key, app);
        work.note(format!("{key} moves from app {from} to app {app}"));
    }
    // What ran for the other app runs for this one.
    let state = work.next.apps.entry(app.clone()).or_default();
    for set in state.sets.values_mut().filter(|set| set.template.app != *app) {
        Arc::make_mut(set).template.app = app.clone();
    }
    let runs = |job: &JobRecord| job.run.as_ref().is_some_and(|run| run.template.app != *app);
    for job in state.jobs.values_mut().filter(|job| runs(job)) {
        if let Some(run) = &mut Arc::make_mut(job).run {
            run.template.app = app.clone();
        }
    }
    for revision in state.revisions.values_mut().filter(|its| its.template.app != *app) {
        Arc::make_mut(revision).template.app = app.clone();
    }
    for pod in work.pods.values_mut().filter(|pod| pod.binding.template.app != *app) {
        if desired.objects.contains_key(&pod.binding.template.owner) {
            Arc::make_mut(&mut pod.binding).template.app = app.clone();
        }
    }
}

/// Claims go where they are written, or where the set is whose pods they were made for.
fn take_claims(work: &mut Work, key: &Key, app: &AppName) {
    let moved: Vec<RecordKey> = work
        .next
        .all_claims()
        .filter(|(at, claim)| {
            let own = Key::namespaced(Kind::PersistentVolumeClaim, &at.namespace, &at.name);
            let owner = claim.made_for.as_ref().map(|made| &made.owner);
            claim.app != *app && *owner.unwrap_or(&own) == *key
        })
        .map(|(at, _)| at)
        .collect();
    for at in moved {
        let claims = work.next.claims.get_mut(&at.namespace).map(Arc::make_mut);
        if let Some(claim) = claims.and_then(|claims| claims.get_mut(&at.name)) {
            claim.app = app.clone();
        }
    }
}

fn keep_app(work: &mut Work, app: &AppName) {
    let Some(desired) = work.desired(app) else {
        return;
    };
    let state = work.next.apps.entry(app.clone()).or_default();
    let new: Vec<Key> =
        desired.objects.keys().filter(|key| state.entry(key).is_none()).cloned().collect();
    let gone: Vec<Key> = state
        .objects()
        .map(|(key, _)| key)
        .filter(|key| !desired.objects.contains_key(key))
        .collect();
    for key in &new {
        enter(work, app, key);
    }
    for key in &gone {
        strike(work, app, key);
    }
    note(work, &new, &gone);
}

fn enter(work: &mut Work, app: &AppName, key: &Key) {
    let entry = LedgerEntry {
        uid: work.new_uid("object", &key.to_string()),
        created: work.now.wall,
        unknown: BTreeMap::new(),
    };
    let state = work.next.apps.entry(app.clone()).or_default();
    let shard = state.ledger.entry(LedgerShard::of(key)).or_default();
    Arc::make_mut(shard).insert(key.name.clone(), entry);
}

fn strike(work: &mut Work, app: &AppName, key: &Key) {
    let state = work.next.apps.entry(app.clone()).or_default();
    let shard = LedgerShard::of(key);
    if let Some(entries) = state.ledger.get_mut(&shard) {
        Arc::make_mut(entries).remove(&key.name);
        if entries.is_empty() {
            state.ledger.remove(&shard);
        }
    }
}

fn note(work: &mut Work, new: &[Key], gone: &[Key]) {
    for key in new {
        work.note(format!("{key} is new"));
    }
    for key in gone {
        work.note(format!("{key} is gone from Git"));
    }
}
