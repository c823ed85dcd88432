//! Canaries: a part of an app's pods runs a new template before the rest does.
//!
//! A taster at the king's table: he eats first, and the others begin when he has been well for a while.
//! Which pods go ahead is settled when the commit comes into force, and stands in the register
//! ([`Canary`]) with what the rest stays with meanwhile, so a coordinator that takes over goes on with
//! the same taster and the time that he has been well. Whoever makes pods asks [`part`].
//!
//! The rule: each workload whose template changes is held to so many new pods, at least one, until all
//! of those have been healthy without a break for as long as `for` says; then the rest follows by
//! itself. What is held back stays with the template that was in force before the canary, also through
//! another commit in the middle, which begins with a canary of its own. A workload that returns to that
//! template is not held, nor is a commit with the files of the last healthy revision. What a commit
//! takes out of Git stays until the rest may follow ([`super::waves`]).
//!
//! The limits: only pods are held. Services, ConfigMaps and what runs once (Jobs, Pods) change at once,
//! and so does what moves between apps. Where no part can go ahead (`Recreate`), the workload comes with
//! the rest; one of which a person decides pod by pod (`OnDelete`, `paused`) is not held at all.

use std::collections::{BTreeMap, BTreeSet};

use crate::desired::Desired;
use crate::kinds::binding::{AppName, TemplateRef};
use crate::kinds::canary::Ahead;
use crate::kinds::name::{Name, NodeName};
use crate::kinds::object::{Body, Key, Object};
use crate::kinds::pod::PodTemplate;
use crate::kinds::registry::Kind;
use crate::kinds::time::human_duration;
use crate::kinds::workload::{
    DaemonSet, DaemonUpdate, Deployment, SetUpdate, StatefulSet, Strategy,
};
use crate::state::records::{AppHead, Canary, CanaryPart, Verdict};
use crate::state::{AppState, RecordKey, called_after};

use super::health::{self, Health};
use super::pods::Pod;
use super::work::Work;
use super::{Revision, accept, daemonset, revisions, waves, windows};

/// What goes ahead of a workload, if the rest of it is held back.
pub(super) fn part(work: &Work, app: &AppName, owner: &Key) -> Option<CanaryPart> {
    let canary = work.next.apps.get(app)?.head.canary_now()?;
    canary.parts.iter().find(|part| part.owner == *owner).cloned()
}

/// The nodes on which alone an app's canary runs, if it is held to some.
pub(super) fn nodes(work: &Work, app: &AppName) -> Option<BTreeSet<NodeName>> {
    work.next.apps.get(app)?.head.canary_now()?.nodes.clone()
}

/// The nodes to which a pod is held because it goes ahead, if it is.
pub(super) fn nodes_for<'w>(work: &'w Work, pod: &Pod) -> Option<&'w BTreeSet<NodeName>> {
    let template = &pod.binding.template;
    let canary = work.next.apps.get(&template.app)?.head.canary_now()?;
    let part = canary.parts.iter().find(|part| part.owner == template.owner)?;
    canary.nodes.as_ref().filter(|_| is_ahead(pod, part))
}

/// Whether a pod is not made from what is held on to.
fn is_ahead(pod: &Pod, part: &CanaryPart) -> bool {
    match part.owner.kind {
        Kind::Deployment => pod.binding.owner.name != part.from,
        Kind::DaemonSet => {
            let hash = part.from.as_str().strip_prefix(part.owner.name.as_str());
            !revisions::is_of(pod, hash.unwrap_or_default().trim_start_matches('-'))
        }
        _ => !revisions::is_of(pod, part.from.as_str()),
    }
}

/// What a commit would begin with.
struct Draft {
    hold_s: u32,
    nodes: Option<BTreeSet<NodeName>>,
    parts: Vec<CanaryPart>,
    /// Whether something could go ahead, if only it had a pod on those nodes.
    is_astray: bool,
}

/// Why a commit must wait, if it must: it is to begin on nodes on which nothing of it runs.
pub(super) fn hold(work: &Work, app: &AppName, offer: &Revision) -> Option<Verdict> {
    let draft = draft(work, app, offer)?;
    if !draft.is_astray || draft.parts.iter().any(|part| part.pods > 0) {
        return None;
    }
    let place = &offer.terms.spec.place;
    Some(Verdict::Waits(format!(
        "nothing of what changes has a pod on the nodes of its canary ({place}); name others there"
    )))
}

/// The canary with which a commit comes into force, if it does.
pub(super) fn begin(work: &Work, app: &AppName, offer: &Revision) -> Option<Canary> {
    let Draft { hold_s, nodes, parts, .. } = draft(work, app, offer)?;
    let revision = offer.commit.id.clone();
    let (healthy_s, unknown) = (None, BTreeMap::new());
    let canary = Canary { revision, hold_s, healthy_s, nodes, parts, unknown };
    canary.parts.iter().any(|part| part.pods > 0).then_some(canary)
}

fn draft(work: &Work, app: &AppName, offer: &Revision) -> Option<Draft> {
    let asked = offer.terms.spec.canary.as_ref()?;
    let state = work.next.apps.get(app)?;
    if state.head.applied.is_none() || windows::is_way_back(work, app, offer) {
        return None;
    }
    let nodes = picked_nodes(work, &asked.ahead);
    let hold_s = u32::try_from(asked.hold.as_secs()).unwrap_or(u32::MAX);
    let mut draft = Draft { hold_s, nodes, parts: Vec::new(), is_astray: false };
    for object in offer.desired.objects.values() {
        let drafting = Drafting { work, state, object, asked: &asked.ahead };
        let part = match &object.body {
            Body::Deployment(spec) if !spec.paused => drafting.deployment(spec, &draft),
            Body::StatefulSet(spec) => drafting.stateful_set(spec, &draft),
            Body::DaemonSet(spec) => drafting.daemon_set(spec, &draft),
            _ => None,
        };
        let can_go =
            !matches!(&object.body, Body::Deployment(spec) if spec.strategy == Strategy::Recreate);
        draft.is_astray |= can_go && part.as_ref().is_some_and(|part| part.pods == 0);
        draft.parts.extend(part);
    }
    Some(draft)
}

/// The nodes of the fleet that are asked for; none where any will do.
fn picked_nodes(work: &Work, asked: &Ahead) -> Option<BTreeSet<NodeName>> {
    if matches!(asked, Ahead::Share(_)) {
        return None;
    }
    let revisions: Vec<_> = work.revisions.values().cloned().collect();
    let desired: Vec<&Desired> = revisions.iter().map(|revision| &*revision.desired).collect();
    let rooms = daemonset::rooms(&work.input.nodes, &work.next.nodes, &desired);
    let picked = rooms.into_iter().filter(|(name, room)| {
        let is_picked = asked.picks(name, &room.labels);
        is_picked.unwrap_or_default()
    });
    Some(picked.map(|(name, _)| name).collect())
}

/// A workload of which is to be said how much of it goes ahead.
struct Drafting<'a, 'w> {
    work: &'a Work<'w>,
    state: &'a AppState,
    object: &'a Object,
    asked: &'a Ahead,
}

impl Drafting<'_, '_> {
    fn owner(&self) -> &Key {
        &self.object.key
    }

    /// With what it was held to stay before, in the middle of a canary.
    fn held(&self) -> Option<&Name> {
        let canary = self.state.head.canary_now()?;
        canary.parts.iter().find(|part| part.owner == *self.owner()).map(|part| &part.from)
    }

    fn changes(&self, from: &TemplateRef, to: &PodTemplate) -> bool {
        self.work.still_means(from, to) != Some(true)
    }

    fn part(&self, from: Name, pods: u32, of: u32) -> CanaryPart {
        let (ordinals, unknown) = (BTreeSet::new(), BTreeMap::new());
        CanaryPart { owner: self.owner().clone(), from, pods, of, ordinals, unknown }
    }

    /// The share of so many; none where nodes are asked for.
    fn share(&self, of: u32) -> Option<u32> {
        match self.asked {
            Ahead::Share(share) => Some(share.rounded_up(of).clamp(1, of.max(1))),
            Ahead::Nodes(_) | Ahead::Labelled(_) => None,
        }
    }

    fn deployment(&self, spec: &Deployment, draft: &Draft) -> Option<CanaryPart> {
        let Key { namespace, name, .. } = self.owner();
        let sets = called_after(&self.state.sets, namespace.as_ref()?, name);
        let sets: Vec<_> = sets.filter(|(_, set)| set.deployment == *name).collect();
        let held = self.held().and_then(|held| sets.iter().find(|(key, _)| key.name == *held));
        let (key, set) = held.or_else(|| sets.iter().max_by_key(|(_, set)| set.revision))?;
        if sets.iter().all(|(_, set)| set.replicas == 0) || spec.replicas == 0 {
            return None;
        }
        if !self.changes(&set.template, &spec.template) {
            return None;
        }
        let on_nodes = |nodes: &BTreeSet<NodeName>| match nodes.is_empty() {
            true => 0,
            false => self.pods_on(nodes).count().clamp(1, spec.replicas as usize),
        };
        let pods = match (&spec.strategy, &draft.nodes) {
            (Strategy::Recreate, _) => 0,
            (_, Some(nodes)) => u32::try_from(on_nodes(nodes)).unwrap_or(u32::MAX),
            (_, None) => self.share(spec.replicas)?,
        };
        Some(self.part(key.name.clone(), pods, spec.replicas))
    }

    fn stateful_set(&self, spec: &StatefulSet, draft: &Draft) -> Option<CanaryPart> {
        let SetUpdate::RollingUpdate { partition, .. } = spec.update else { return None };
        let own = RecordKey::new(self.owner().namespace.as_ref()?, &self.owner().name);
        let record = self.state.stateful_sets.get(&own)?;
        let from = self.held().unwrap_or(&record.update);
        let edition = revisions::edition_of(self.state, self.owner(), from)?;
        let has_any = self.work.owned.get(self.owner()).is_some_and(|pods| !pods.is_empty());
        if !has_any || !self.changes(&edition.template, &spec.template) {
            return None;
        }
        let first = spec.start.saturating_add(partition);
        let may_go = spec.ordinals().rev().filter(|ordinal| *ordinal >= first);
        let ordinals: BTreeSet<u32> = match &draft.nodes {
            None => {
                let share = self.share(spec.replicas)?;
                may_go.take(usize::try_from(share).unwrap_or(usize::MAX)).collect()
            }
            Some(nodes) => {
                let there: BTreeSet<u32> =
                    self.pods_on(nodes).filter_map(|pod| pod.binding.index).collect();
                may_go.filter(|ordinal| there.contains(ordinal)).collect()
            }
        };
        let pods = u32::try_from(ordinals.len()).unwrap_or(u32::MAX);
        Some(CanaryPart { ordinals, ..self.part(from.clone(), pods, spec.replicas) })
    }

    fn daemon_set(&self, spec: &DaemonSet, draft: &Draft) -> Option<CanaryPart> {
        if matches!(spec.update, DaemonUpdate::OnDelete) {
            return None;
        }
        let held = self.held().cloned();
        let from = held.or_else(|| revisions::newest(self.state, self.owner()))?;
        let edition = revisions::edition_of(self.state, self.owner(), &from)?;
        let has_any = self.work.owned.get(self.owner()).is_some_and(|pods| !pods.is_empty());
        if !has_any || !self.changes(&edition.template, &spec.template) {
            return None;
        }
        let revisions: Vec<_> = self.work.revisions.values().cloned().collect();
        let desired: Vec<&Desired> = revisions.iter().map(|revision| &*revision.desired).collect();
        let (nodes, given) = (&self.work.input.nodes, &self.work.next.nodes);
        let wanted = daemonset::wanted_nodes(nodes, given, &desired, &spec.template.spec);
        let of = u32::try_from(wanted.len()).unwrap_or(u32::MAX);
        let pods = match &draft.nodes {
            None => self.share(of)?,
            Some(nodes) => u32::try_from(wanted.intersection(nodes).count()).unwrap_or(u32::MAX),
        };
        Some(self.part(from, pods, of))
    }

    /// Its pods on these nodes.
    fn pods_on(&self, nodes: &BTreeSet<NodeName>) -> impl Iterator<Item = &Pod> {
        let is_there = move |pod: &&Pod| pod.node.as_ref().is_some_and(|node| nodes.contains(node));
        let own = self.work.pods.values().filter(|pod| pod.binding.template.owner == *self.owner());
        own.filter(|pod| pod.is_active()).filter(is_there)
    }
}

/// Lets the rest follow once the part has been healthy for long enough. Says whether it is held on
/// purpose: healthy, and not for long enough.
pub(super) fn advance(work: &mut Work, app: &AppName) -> bool {
    let head = work.next.apps.get(app).map(|state| state.head.clone());
    let Some(canary) = head.as_ref().and_then(|head| head.canary_now()) else {
        work.memory.canaries.remove(app);
        return false;
    };
    if !work.revisions.get(app).is_some_and(|revision| waves::is_last(revision)) {
        return false;
    }
    let health = health::of_commit(work, app);
    if health != Health::Current {
        work.memory.canaries.remove(app);
        // Who has just taken over can't know yet that it has been ready for `minReadySeconds`.
        if canary.healthy_s.is_some() && !is_ready(work, canary) {
            edit(work, app, |canary| canary.healthy_s = None);
            tell(work, app, "its canary is not healthy any more: its time begins anew");
        }
        return false;
    }
    let mut healthy_s = canary.healthy_s.unwrap_or_default();
    let since = work.memory.canaries.get(app).copied();
    let Some(since) = work.count_on(since, &mut healthy_s, canary.hold_s) else {
        end(work, app, "its canary is healthy: the rest follows");
        return false;
    };
    work.memory.canaries.insert(app.clone(), since);
    if canary.healthy_s != Some(healthy_s) {
        edit(work, app, |canary| canary.healthy_s = Some(healthy_s));
    }
    if canary.healthy_s.is_none() {
        let hold = std::time::Duration::from_secs(canary.hold_s.into());
        let hold = human_duration(hold);
        tell(work, app, &format!("its canary is healthy: the rest follows in {hold}"));
    }
    true
}

/// Whether all that goes ahead is ready, for however short a time.
fn is_ready(work: &Work, canary: &Canary) -> bool {
    canary.parts.iter().all(|part| {
        let own = work.pods.values().filter(|pod| pod.binding.template.owner == part.owner);
        let ready = own.filter(|pod| is_ahead(pod, part) && pod.is_ready()).count();
        u32::try_from(ready).unwrap_or(u32::MAX) >= part.pods
    })
}

/// Ends a canary that a newer commit, which leaves the app's files as they are, does not ask for.
pub(super) fn recall(work: &mut Work, app: &AppName, offer: &Revision) {
    let head = work.next.apps.get(app).map(|state| &state.head);
    let is_held = head.is_some_and(|head| head.canary_now().is_some());
    if is_held && offer.terms.spec.canary.is_none() {
        end(work, app, "windlass.yaml asks for no canary any more: the rest follows");
    }
}

fn end(work: &mut Work, app: &AppName, why: &str) {
    tell(work, app, why);
    work.memory.canaries.remove(app);
    if let Some(head) = head_mut(work, app) {
        head.canary = None;
    }
    // Pods are made before this is asked.
    work.is_unfinished = true;
}

fn edit(work: &mut Work, app: &AppName, change: impl FnOnce(&mut Canary)) {
    if let Some(canary) = head_mut(work, app).and_then(|head| head.canary.as_mut()) {
        change(canary);
    }
}

fn head_mut<'w>(work: &'w mut Work, app: &AppName) -> Option<&'w mut AppHead> {
    work.next.apps.get_mut(app).map(|state| std::sync::Arc::make_mut(&mut state.head))
}

fn tell(work: &mut Work, app: &AppName, what: &str) {
    let Some(revision) = work.revisions.get(app) else { return };
    let (id, of) = (revision.commit.id.short(), accept::of_app(revision));
    let message = format!("revision {id}{of}: {what}");
    work.note(message.clone());
    work.event(&accept::app_key(), "coordinator", "RevisionCanary", message);
}
