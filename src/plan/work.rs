//! The planner's bench: the next state while it is being made, and the pods taken apart.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::desired::{Desired, MEANING_VERSION};
use crate::kinds::binding::{AppName, Binding, Deletion, Generation, Placement, TemplateRef};
use crate::kinds::digest::Digest;
use crate::kinds::labels::Labels;
use crate::kinds::name::{Name, NodeName, PodKey, Uid};
use crate::kinds::object::{Body, Key, Object};
use crate::kinds::pod::{PodSpec, PodTemplate};
use crate::kinds::registry::Kind;
use crate::kinds::status::EventRecord;
use crate::kinds::time::{Elapsed, Now};
use crate::state::{AppState, EVENTS_MAX, PodList, RecordKey, State};

use super::pods::{self, Pod};
use super::{Input, Memory, Plan, Revision, library, unsaid};

/// A commit message lists at most this many decisions; the rest are counted.
const NOTES_MAX: usize = 100;

/// The most pods made in one turn, as the burst of Kubernetes' ReplicaSet controller
/// (`BurstReplicas`): a mistyped replica count is noticed before it has made a million pods.
pub(super) const PODS_MADE_MAX: usize = 500;

/// The next state while it is being made.
pub(super) struct Work<'a> {
    pub(super) input: &'a Input,
    pub(super) memory: &'a mut Memory,
    pub(super) now: Now,
    /// The next state. Pods stand in `pods` until [`Work::finish`].
    pub(super) next: State,
    /// Every pod.
    pub(super) pods: BTreeMap<PodKey, Pod>,
    /// Pods by owner.
    pub(super) owned: BTreeMap<Key, BTreeSet<PodKey>>,
    /// The revision in force of each app after [`super::accept`]; an app whose revision has not been
    /// read is absent, and nothing of it is touched.
    pub(super) revisions: BTreeMap<AppName, Arc<Revision>>,
    /// How many pods this turn has made.
    pub(super) made: usize,
    /// Something was decided that others will answer in another turn, at once.
    pub(super) is_unfinished: bool,
    generation: Generation,
    notes: Vec<String>,
    events: Vec<EventRecord>,
    wake: Option<Elapsed>,
    reader: library::Reader<'a>,
}

impl<'a> Work<'a> {
    pub(super) fn new(input: &'a Input, memory: &'a mut Memory, now: Now) -> Self {
        Self {
            input,
            memory,
            now,
            next: State { pods: BTreeMap::new(), ..input.state.clone() },
            pods: BTreeMap::new(),
            owned: BTreeMap::new(),
            revisions: BTreeMap::new(),
            made: 0,
            is_unfinished: false,
            generation: match input.writes_anew {
                true => input.state.generation.leap(),
                false => input.state.generation.next(),
            },
            notes: Vec::new(),
            events: Vec::new(),
            wake: None,
            reader: library::Reader::new(&input.apps, &input.library),
        }
    }

    /// Begins the epoch that a commit in force names, if it is a new one: a store of an older epoch can't
    /// be taken for this one's then.
    pub(super) fn raise_epoch(&mut self) {
        let named = self.revisions.values().map(|revision| revision.desired.settings.state_epoch);
        let epoch = named.max().unwrap_or(0);
        if epoch > self.generation.epoch {
            self.generation = self.generation.next_in(epoch);
            self.next.generation = self.generation;
            self.note(format!("epoch {epoch} begins, as stateEpoch says"));
        }
    }

    /// Takes the pods apart, once it is known which nodes are lost.
    pub(super) fn take_in_pods(&mut self) {
        for (node, binding) in self.input.state.all_pods() {
            self.take_in(node.clone(), binding.clone());
        }
    }

    /// Whether a node is lost, or was declared dead.
    pub(super) fn is_lost(&self, node: &NodeName) -> bool {
        self.next.is_away(node)
    }

    fn take_in(&mut self, node: Placement, binding: Arc<Binding>) {
        let report = node
            .as_ref()
            .and_then(|node| self.input.nodes.get(node))
            .and_then(|node| node.pods.get(&binding.uid))
            .cloned();
        let template = self.reader.template_for(&binding);
        let is_lost = node.as_ref().is_some_and(|node| self.is_lost(node));
        let ready = !is_lost
            && binding.deletion.is_none()
            && report.as_ref().is_some_and(|report| report.status.is_ready());
        let ready_for = self.memory.ready_for(&binding.uid, ready, self.now.elapsed);
        self.owned.entry(binding.owner.clone()).or_default().insert(binding.key.clone());
        let pod = Pod { binding, node, report, template, ready_for, is_lost };
        self.pods.insert(pod.binding.key.clone(), pod);
    }

    /// What the revision in force of an app asks for.
    pub(super) fn desired(&self, app: &AppName) -> Option<Arc<Desired>> {
        self.revisions.get(app).map(|revision| revision.desired.clone())
    }

    /// Whether the app's revision in force is known, so that its pods may be touched.
    pub(super) fn is_known(&self, app: &AppName) -> bool {
        self.revisions.contains_key(app)
    }

    /// A reference to the template of `object` in the revision in force.
    pub(super) fn reference(
        &self,
        app: &AppName,
        object: &Object,
        template: &PodTemplate,
    ) -> Option<TemplateRef> {
        Some(reference(app, self.revisions.get(app)?, object, template.meaning))
    }

    /// The LimitRanges in force that give the containers of a new pod something. Those that give its
    /// template nothing are left out: a binding is read by every node.
    fn limit_ranges_for(&self, namespace: &Name, template: &TemplateRef) -> Vec<TemplateRef> {
        let ranges = self.revisions.iter().flat_map(|(app, revision)| {
            let ranges = revision.desired.limit_ranges(namespace);
            ranges.map(move |(object, range)| (app, revision, object, range))
        });
        let mut ranges: Vec<_> = ranges.filter(|(.., range)| range.gives()).collect();
        if ranges.is_empty() {
            return Vec::new();
        }
        ranges.sort_by(|(.., one, _), (.., other, _)| one.key.cmp(&other.key));
        let book = library::book_of(template, &self.input.apps, &self.input.library);
        // While it is not known what the template says, each may have something to give.
        if let Some(template) = book.and_then(Body::template) {
            let mut spec = PodSpec::clone(&template.spec);
            ranges.retain(|(.., range)| !range.give(&mut spec).given.is_empty());
        }
        let each = ranges.into_iter();
        each.map(|(app, revision, object, _)| reference(app, revision, object, object.meaning))
            .collect()
    }

    /// See [`library::still_means`].
    pub(super) fn still_means(
        &self,
        reference: &TemplateRef,
        template: &PodTemplate,
    ) -> Option<bool> {
        library::still_means(reference, template, &self.input.apps, &self.input.library)
    }

    /// The pods an owner has, newest last.
    pub(super) fn pods_of(&self, owner: &Key) -> Vec<&Pod> {
        let keys = self.owned.get(owner).into_iter().flatten();
        let mut pods: Vec<&Pod> = keys.filter_map(|key| self.pods.get(key)).collect();
        pods.sort_by_key(|pod| pod.binding.sequence);
        pods
    }

    /// Whether a pod has been ready for `min_ready_s`; if it will be, asks to be woken then.
    pub(super) fn is_available(&mut self, key: &PodKey, min_ready_s: u32) -> bool {
        let Some(ready_for) = self.pods.get(key).and_then(|pod| pod.ready_for) else {
            return false;
        };
        let needed = Duration::from_secs(min_ready_s.into());
        if ready_for < needed {
            self.wake_in(needed - ready_for);
        }
        ready_for >= needed
    }

    /// Gives the next number: whatever is made now is newer than whatever was made before.
    pub(super) fn next_sequence(&mut self) -> u64 {
        self.next.sequence = self.next.sequence.saturating_add(1);
        self.next.sequence
    }

    /// An id for something made now. It depends on nothing but what was decided, so two runs agree,
    /// and on the generation, so two lives of one name differ.
    pub(super) fn new_uid(&self, what: &str, about: &str) -> Uid {
        let generation = self.generation.to_string();
        let parts = [what.as_bytes(), generation.as_bytes(), about.as_bytes()];
        Uid::from_bytes(Digest::of_parts(parts).first_16())
    }

    /// Makes a pod without a node, under `name` or under a new name that begins with `base`.
    pub(super) fn make_pod(&mut self, new: NewPod<'_>) -> PodKey {
        let sequence = self.next_sequence();
        let name = match new.name {
            NewName::Exact(name) => name.clone(),
            NewName::After(base) => self.free_name(new.namespace, base, sequence),
        };
        let key = PodKey::new(new.namespace, &name);
        let limit_ranges = self.limit_ranges_for(new.namespace, &new.template);
        let binding = Binding {
            key: key.clone(),
            uid: self.new_uid("pod", &format!("{key} {sequence}")),
            template: new.template,
            owner: new.owner,
            labels: new.labels,
            generation: self.generation,
            sequence,
            created: self.now.wall,
            deletion: None,
            message: None,
            nominated: None,
            index: new.index,
            only_node: new.only_node,
            limit_ranges,
            unknown: BTreeMap::new(),
        };
        self.made += 1;
        self.take_in(None, Arc::new(binding));
        key
    }

    /// `base-xxxxx`, unused in the namespace. The random part of Kubernetes' names is here a digest
    /// of the pod's number.
    fn free_name(&self, namespace: &Name, base: &str, sequence: u64) -> Name {
        /// Room for `-xxxxx` in a DNS label, as Kubernetes' name generator keeps
        /// (`maxGeneratedNameLength`).
        const BASE_LEN_MAX: usize = 57;
        let base = &base[..base.len().min(BASE_LEN_MAX)];
        let mut salt = 0_u32;
        loop {
            let text = format!("{namespace}/{base} {} {sequence} {salt}", self.generation.epoch);
            let name =
                Name::trusted(&format!("{base}-{}", Digest::of(text.as_bytes()).safe_text(5)));
            if !self.pods.contains_key(&PodKey::new(namespace, &name)) {
                return name;
            }
            salt += 1;
        }
    }

    /// Decides that a pod ends. Says nothing and does nothing if that was decided before, except
    /// that a shorter grace wins.
    pub(super) fn end_pod(&mut self, key: &PodKey, grace_s: Option<u32>, reason: &str) {
        let generation = self.generation;
        let since = self.now.wall;
        let Some(pod) = self.pods.get_mut(key) else {
            return;
        };
        let grace_s = grace_s.unwrap_or_else(|| pod.grace_s());
        match &pod.binding.deletion {
            Some(deletion) if deletion.grace_s <= grace_s => return,
            Some(deletion) => {
                let deletion = Deletion { grace_s, ..deletion.clone() };
                pod.binding = pods::ended(&pod.binding, deletion);
            }
            None => {
                let deletion = Deletion { grace_s, since, reason: reason.to_owned() };
                pod.binding = pods::ended(&pod.binding, deletion);
            }
        }
        Arc::make_mut(&mut pod.binding).generation = generation;
        pod.ready_for = None;
        if pod.node.is_none() {
            let key = key.clone();
            self.forget(&key);
        }
    }

    /// Forgets a pod of which nothing is left.
    pub(super) fn forget(&mut self, key: &PodKey) {
        let Some(pod) = self.pods.remove(key) else {
            return;
        };
        if let Some(owned) = self.owned.get_mut(&pod.binding.owner) {
            owned.remove(key);
        }
    }

    /// Gives a pod to another owner.
    pub(super) fn hand_over(&mut self, key: &PodKey, owner: &Key) {
        let Some(pod) = self.pods.get_mut(key) else {
            return;
        };
        if let Some(owned) = self.owned.get_mut(&pod.binding.owner) {
            owned.remove(key);
        }
        Arc::make_mut(&mut pod.binding).owner = owner.clone();
        self.owned.entry(owner.clone()).or_default().insert(key.clone());
    }

    /// Changes a pod's binding.
    pub(super) fn edit(&mut self, key: &PodKey, change: impl FnOnce(&mut Binding)) {
        let generation = self.generation;
        if let Some(pod) = self.pods.get_mut(key) {
            let binding = Arc::make_mut(&mut pod.binding);
            change(binding);
            binding.generation = generation;
        }
    }

    /// Places a pod on a node.
    pub(super) fn place(&mut self, key: &PodKey, node: &Name) {
        self.edit(key, |binding| {
            binding.message = None;
            binding.nominated = None;
        });
        if let Some(pod) = self.pods.get_mut(key) {
            pod.node = Some(node.clone());
        }
    }

    /// A line for the commit's message.
    pub(super) fn note(&mut self, text: impl Into<String>) {
        self.notes.push(text.into());
    }

    /// An event for people.
    pub(super) fn event(&mut self, about: &Key, source: &str, reason: &str, message: String) {
        self.push_event(about, source, reason, message, false);
    }

    /// An event for people, that something is the matter.
    pub(super) fn warn(&mut self, about: &Key, source: &str, reason: &str, message: String) {
        self.push_event(about, source, reason, message, true);
    }

    /// An event for people; `warning` says whether something is the matter.
    pub(super) fn push_event(
        &mut self,
        about: &Key,
        source: &str,
        reason: &str,
        message: String,
        warning: bool,
    ) {
        let uid = match about.kind {
            Kind::Pod => {
                let namespace = about.namespace.clone().unwrap_or_else(|| Name::trusted(""));
                let key = PodKey { namespace, name: about.name.clone() };
                self.pods.get(&key).map(|pod| pod.binding.uid.clone())
            }
            Kind::Job => {
                let key = about.namespace.as_ref().map(|ns| RecordKey::new(ns, &about.name));
                let mut jobs = self.next.apps.values().filter_map(|a| a.jobs.get(key.as_ref()?));
                jobs.find_map(|job| job.run.as_ref()).map(|run| run.uid.clone())
            }
            _ => self.next.apps.values().find_map(|app| app.entry(about)).map(|e| e.uid.clone()),
        };
        self.events.push(EventRecord {
            about: about.clone(),
            uid,
            warning,
            reason: reason.to_owned(),
            message,
            count: 1,
            first: self.now.wall,
            last: self.now.wall,
            source: source.to_owned(),
            unknown: BTreeMap::new(),
        });
    }

    /// Asks to plan again after this long.
    pub(super) fn wake_in(&mut self, duration: Duration) {
        let at = self.now.elapsed + duration;
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// Counts on towards `limit_s`, of which `stored_s` stand in a record and the rest was counted on
    /// this coordinator's own clock `since` then. Gives from when it counts now; none once it is over.
    ///
    /// What is counted is written down now and then, so that another coordinator goes on from there: a
    /// tenth of the limit is the most that is counted twice.
    pub(super) fn count_on(
        &mut self,
        since: Option<Elapsed>,
        stored_s: &mut u32,
        limit_s: u32,
    ) -> Option<Elapsed> {
        const STEP_S_MIN: u32 = 30;
        const STEP_S_MAX: u32 = 3600;
        let now = self.now.elapsed;
        let mut since = since.unwrap_or(now);
        let counted = now.since(since);
        let (limit, stored) =
            (Duration::from_secs(limit_s.into()), Duration::from_secs((*stored_s).into()));
        let left = limit.saturating_sub(stored + counted);
        if left.is_zero() {
            return None;
        }
        let step_s = (limit_s / 10).clamp(STEP_S_MIN, STEP_S_MAX);
        let whole_s = u32::try_from(counted.as_secs()).unwrap_or(u32::MAX);
        if whole_s >= step_s {
            *stored_s = stored_s.saturating_add(whole_s);
            since = now;
        }
        self.wake_in(left.min(Duration::from_secs(step_s.into())));
        Some(since)
    }

    /// Puts the pods back and gives the next state.
    pub(super) fn finish(mut self) -> Plan {
        let mut lists: BTreeMap<Placement, PodList> = BTreeMap::new();
        for (key, pod) in std::mem::take(&mut self.pods) {
            lists.entry(pod.node).or_default().insert(key, pod.binding);
        }
        let lives: BTreeSet<&Uid> =
            lists.values().flat_map(|list| list.values().map(|pod| &pod.uid)).collect();
        let sets: BTreeSet<Key> = self.next.apps.values().flat_map(rolled).collect();
        let jobs: BTreeSet<Key> = self
            .next
            .apps
            .values()
            .flat_map(|app| &app.jobs)
            .filter(|(_, job)| job.run.as_ref().is_some_and(|run| run.end().is_none()))
            .map(|(key, _)| super::job::job_key(key))
            .collect();
        self.memory.refusals.keep_only(|uid| lives.contains(uid), self.now.elapsed);
        self.memory.keep_only(
            |uid| lives.contains(uid),
            |key| sets.contains(key),
            |key| jobs.contains(key),
        );
        for (place, list) in lists {
            let shared = match self.input.state.pods.get(&place) {
                Some(before) if **before == list => before.clone(),
                _ => Arc::new(list),
            };
            self.next.pods.insert(place, shared);
        }
        self.next.apps.retain(|_, app| !app.is_over());
        let is_written = self.next != self.input.state;
        super::fold::fold_reports(&mut self, is_written);
        // Events alone are no reason to write: they go out with the next decision, which is what
        // they are about anyway.
        if is_written || self.next.fold != self.input.state.fold {
            self.next.generation = self.generation;
            self.next.events = Arc::new(append_events(&self.next.events, self.events));
            if self.notes.is_empty() {
                self.notes.push(unsaid::differences(&self.input.state, &self.next));
            }
        }
        Plan {
            why: message(&self.notes),
            wake: self.wake,
            is_unfinished: self.is_unfinished || self.made >= PODS_MADE_MAX,
            next: self.next,
        }
    }
}

/// Where an object of a revision is written.
fn reference(app: &AppName, of: &Revision, object: &Object, meaning: Digest) -> TemplateRef {
    TemplateRef {
        app: app.clone(),
        revision: of.commit_of(&object.key).clone(),
        path: object.place.path.to_string(),
        owner: object.key.clone(),
        meaning,
        meaning_version: MEANING_VERSION,
    }
}

/// What progress is remembered of.
fn rolled(app: &AppState) -> impl Iterator<Item = Key> {
    let stateful = app.stateful_sets.keys();
    let stateful =
        stateful.map(|key| Key::namespaced(Kind::StatefulSet, &key.namespace, &key.name));
    app.sets.keys().map(super::deployment::owner_key).chain(stateful)
}

/// Adds events to a register's list; one that says what another said before raises its count.
pub(crate) fn append_events(before: &[EventRecord], new: Vec<EventRecord>) -> Vec<EventRecord> {
    let mut events = before.to_vec();
    for event in new {
        let again = events.iter().position(|old| {
            old.about == event.about
                && old.uid == event.uid
                && old.reason == event.reason
                && old.message == event.message
        });
        match again {
            Some(at) => {
                let old = events.remove(at);
                let count = old.count.saturating_add(event.count);
                events.push(EventRecord { count, first: old.first, ..event });
            }
            None => events.push(event),
        }
    }
    let surplus = events.len().saturating_sub(EVENTS_MAX);
    events.drain(..surplus);
    events
}

/// The commit's message: the first decision as its subject, all of them below.
fn message(notes: &[String]) -> String {
    let subject = match notes {
        [] => return String::new(),
        [only] => return only.clone(),
        [first, rest @ ..] => format!("{first} (and {} more)", rest.len()),
    };
    let mut body: Vec<String> = notes.iter().take(NOTES_MAX).cloned().collect();
    if notes.len() > NOTES_MAX {
        body.push(format!("… and {} more", notes.len() - NOTES_MAX));
    }
    format!("{subject}\n\n{}", body.join("\n"))
}

/// A pod to be made.
pub(super) struct NewPod<'n> {
    pub(super) namespace: &'n Name,
    pub(super) name: NewName<'n>,
    pub(super) template: TemplateRef,
    pub(super) owner: Key,
    pub(super) labels: Labels,
    /// See [`Binding::index`].
    pub(super) index: Option<u32>,
    /// See [`Binding::only_node`].
    pub(super) only_node: Option<NodeName>,
}

/// How a new pod is called.
pub(super) enum NewName<'n> {
    /// Just so.
    Exact(&'n Name),
    /// This, a dash, and five characters.
    After(&'n str),
}
