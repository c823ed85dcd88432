//! What the watchman keeps in his head: what is under way, what failed and when, what probes said.
//! All of it may be lost at any moment; what must not be lost is in labels and in the state store.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::time::Duration;

use crate::kinds::digest::Digest;
use crate::kinds::name::{Name, PodKey, Uid};
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::kinds::status::{
    ContainerState, EndingReport, EventRecord, Phase, PodReport, PodStatus,
};
use crate::kinds::time::{Elapsed, Now, Wall};
use crate::ports::files::Answer as FilesAnswer;
use crate::ports::runtime::{
    Answer as RuntimeAnswer, ContainerId, ContainerSeen, ImageSeen, split_reason,
};
use crate::ports::{Answer, Call, Fault, FaultKind};

use super::backoff::Trouble;
use super::doubt::Doubts;
use super::ip::IpPool;
use super::probes::{ProbeKind, ProbeMemory};
use super::step::Step;
use super::stop::Ending;
use super::{Action, Seen, probes};

impl Step {
    /// Whether the step, once done, leaves something on the machine: whoever clears a pod away waits
    /// for it. A pull or a probe may go on for an hour and leaves nothing.
    pub(crate) fn leaves_traces(&self) -> bool {
        match self {
            Self::Files(_)
            | Self::Pause
            | Self::Attach(_)
            | Self::Start(_)
            | Self::Remove(_)
            | Self::Detach(_)
            | Self::RemoveFiles => true,
            Self::Image(_)
            | Self::PostStart(..)
            | Self::PreStop(_)
            | Self::Signal(_)
            | Self::Probe(..)
            | Self::Tail(..)
            | Self::LastWords(..) => false,
        }
    }

    /// Whether two steps get in each other's way, so that the second waits for the first.
    fn excludes(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Files(_) | Self::RemoveFiles, Self::Files(_) | Self::RemoveFiles)
            | (Self::Pause, Self::Pause)
            | (Self::Attach(_) | Self::Detach(_), Self::Attach(_) | Self::Detach(_))
            | (Self::Remove(_), Self::Remove(_)) => true,
            _ => self == other,
        }
    }
}

/// Whom an answer is for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket {
    /// The pod.
    pub pod: Uid,
    /// What was asked for.
    pub step: Step,
}

/// A step that is wanted now.
pub(crate) struct Want {
    pub(crate) step: Step,
    pub(crate) call: Call,
    pub(crate) timeout: Duration,
}

/// Everything kept between looks.
#[derive(Clone, Debug, Default)]
pub struct Memory {
    /// By pod.
    pub(crate) pods: BTreeMap<Uid, PodMemory>,
    /// The node's addresses.
    pub(crate) addresses: IpPool,
    pub(crate) doubts: Doubts,
    /// What happened since [`Memory::take_events`].
    events: Vec<EventRecord>,
    /// Containers that an earlier agent reported ready: they stay so until a probe says otherwise,
    /// or a restart of the agent would take every pod out of its Services.
    was_ready: BTreeSet<String>,
    wake: Option<Elapsed>,
}

/// What is kept of a pod.
#[derive(Clone, Debug, Default)]
pub(crate) struct PodMemory {
    pub(crate) key: Option<PodKey>,
    pub(crate) in_flight: BTreeSet<Step>,
    pub(crate) began: Option<Wall>,
    pub(crate) began_at: Option<Elapsed>,
    pub(crate) ip: Option<Ipv4Addr>,
    /// The digest of the files that are written.
    pub(crate) files: Option<Digest>,
    /// For which version of the surroundings, and which address, that was found to be so.
    pub(crate) files_checked: Option<(u64, Option<Ipv4Addr>)>,
    pub(crate) files_trouble: Option<Trouble>,
    /// The pause container whose namespace has its link.
    pub(crate) attached: Option<ContainerId>,
    pub(crate) sandbox_trouble: Option<Trouble>,
    pub(crate) containers: BTreeMap<Name, ContainerMemory>,
    /// Containers being stopped.
    pub(crate) endings: BTreeMap<ContainerId, Ending>,
    /// Since when the pod is being ended.
    pub(crate) ending_since: Option<Elapsed>,
    /// How far an earlier agent had come with that.
    pub(crate) inherited_ending: Option<EndingReport>,
    pub(crate) remove_trouble: Option<Trouble>,
    /// It was let in: it stays whatever becomes of the house.
    pub(crate) is_admitted: bool,
    /// How it finished, once it has.
    pub(crate) over: Option<Over>,
    /// Since when each condition is as it is.
    pub(crate) conditions: BTreeMap<&'static str, (bool, Wall)>,
    /// Nothing of it is left.
    pub(crate) gone: bool,
}

impl PodMemory {
    /// Takes over what an earlier agent had read of last words: the files are empty since.
    fn recall_last_words(&mut self, status: &PodStatus) {
        let containers = status.init_container_statuses.iter().chain(&status.container_statuses);
        for container in containers {
            for state in [&container.state, &container.last_state] {
                let ContainerState::Terminated(end) = state else {
                    continue;
                };
                let id = end.container_id.as_deref().and_then(|id| id.strip_prefix(URI_SCHEME));
                if let (Some(id), Some(words)) = (id, &end.message) {
                    let record = self.containers.entry(container.name.clone()).or_default();
                    record.last_words.insert(id.into(), words.clone());
                }
            }
        }
    }

    /// Whether a step has to wait for one that is under way. Who asks first need not make the call.
    pub(crate) fn is_busy_with(&self, step: &Step) -> bool {
        self.in_flight.iter().any(|other| other.excludes(step))
    }

    /// Whether nothing is under way that leaves something on the machine.
    pub(crate) fn is_still(&self) -> bool {
        !self.in_flight.iter().any(Step::leaves_traces)
    }
}

/// How a pod finished.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Over {
    pub(crate) phase: Phase,
    pub(crate) reason: Option<String>,
    pub(crate) message: Option<String>,
}

/// What is kept of a container.
#[derive(Clone, Debug, Default)]
pub(crate) struct ContainerMemory {
    pub(crate) image: Option<ImageSeen>,
    pub(crate) image_trouble: Option<Trouble>,
    pub(crate) start_trouble: Option<Trouble>,
    /// What its configuration lacks.
    pub(crate) lacks: Option<String>,
    /// When each ended life was first seen ended.
    pub(crate) ended_at: BTreeMap<ContainerId, Elapsed>,
    /// The life this agent started last.
    pub(crate) started_by_us: Option<ContainerId>,
    /// The life whose `postStart` has run.
    pub(crate) post_started: Option<ContainerId>,
    /// The life this agent started last, and when: its `postStart` may be a wait.
    pub(crate) started_at: Option<(ContainerId, Elapsed)>,
    /// Last words by life.
    pub(crate) last_words: BTreeMap<ContainerId, String>,
    /// The life in whose log last words were sought.
    pub(crate) tail_read: Option<ContainerId>,
    pub(crate) probes: BTreeMap<ProbeKind, ProbeMemory>,
    /// The life whose back-off was announced last, so that it is announced once.
    pub(crate) backoff_said: Option<ContainerId>,
}

impl ContainerMemory {
    /// Whether this agent started that life: what an earlier one started has had its `postStart`.
    pub(crate) fn is_started_by_us(&self, life: &ContainerSeen) -> bool {
        self.started_by_us.as_ref() == Some(&life.id)
    }
}

impl Memory {
    /// Takes over from an earlier agent: what it last reported ready stays so until it is probed.
    pub fn succeed<'r>(&mut self, reports: impl IntoIterator<Item = &'r PodReport>) {
        for report in reports {
            let ready = report.status.container_statuses.iter().filter(|status| status.ready);
            self.was_ready.extend(ready.filter_map(|status| status.container_id.clone()));
            let memory = self.pods.entry(report.uid.clone()).or_default();
            memory.key = Some(report.key.clone());
            memory.began = report.status.start_time;
            memory.inherited_ending = report.ending.clone();
            // Whoever was here before came in by that agent's leave.
            memory.is_admitted = true;
            memory.recall_last_words(&report.status);
            if report.status.phase.is_over() {
                memory.over = Some(Over {
                    phase: report.status.phase,
                    reason: report.status.reason.clone(),
                    message: report.status.message.clone(),
                });
            }
        }
    }

    /// When to look again though nothing has happened.
    pub fn next_wake(&self) -> Option<Elapsed> {
        self.wake
    }

    /// What happened since the last call.
    pub fn take_events(&mut self) -> Vec<EventRecord> {
        std::mem::take(&mut self.events)
    }

    /// Every pod's link must be looked after again: the node's address changed, and with it the
    /// source of the routes to pods.
    pub fn forget_links(&mut self) {
        for pod in self.pods.values_mut() {
            pod.attached = None;
        }
    }

    /// The pods something is kept of.
    pub fn known_pods(&self) -> impl Iterator<Item = &Uid> {
        self.pods.keys()
    }

    /// Whether all that is under way and leaves traces is of these pods.
    pub fn works_only_on(&self, is_bound: impl Fn(&Uid) -> bool) -> bool {
        self.pods.iter().all(|(uid, pod)| pod.is_still() || is_bound(uid))
    }

    /// Whether anything is under way.
    pub fn is_idle(&self) -> bool {
        self.pods.values().all(|pod| pod.in_flight.is_empty())
    }

    /// Forgets the wake-up asked for: [`super::decide`] collects it anew.
    pub(crate) fn begin_look(&mut self) {
        self.wake = None;
    }

    pub(crate) fn wake_at(&mut self, at: Elapsed) {
        self.wake = Some(self.wake.map_or(at, |wake| wake.min(at)));
    }

    /// What is kept of a pod.
    pub(crate) fn pod(&mut self, uid: &Uid, key: &PodKey, now: Now) -> &mut PodMemory {
        let memory = self.pods.entry(uid.clone()).or_default();
        memory.key.get_or_insert_with(|| key.clone());
        memory.began.get_or_insert(now.wall);
        memory.began_at.get_or_insert(now.elapsed);
        memory
    }

    pub(crate) fn was_ready(&self, id: &ContainerId) -> bool {
        self.was_ready.contains(&container_uri(id))
    }

    /// Turns wants into actions, leaving out what is under way.
    pub(crate) fn issue(&mut self, uid: &Uid, wants: Vec<Want>) -> Vec<Action> {
        let Some(memory) = self.pods.get_mut(uid) else {
            return Vec::new();
        };
        let mut actions = Vec::new();
        for want in wants {
            if memory.is_busy_with(&want.step) {
                continue;
            }
            memory.in_flight.insert(want.step.clone());
            let ticket = Ticket { pod: uid.clone(), step: want.step };
            actions.push(Action { ticket, call: want.call, timeout: want.timeout });
        }
        actions
    }

    /// An event about a pod.
    pub(crate) fn event(
        &mut self,
        uid: &Uid,
        warning: bool,
        reason: &str,
        message: String,
        now: Now,
    ) {
        let Some(key) = self.pods.get(uid).and_then(|pod| pod.key.clone()) else {
            return;
        };
        self.events.push(EventRecord {
            about: Key::namespaced(Kind::Pod, &key.namespace, &key.name),
            uid: Some(uid.clone()),
            warning,
            reason: reason.to_owned(),
            message,
            count: 1,
            first: now.wall,
            last: now.wall,
            source: "node".to_owned(),
            unknown: BTreeMap::new(),
        });
    }

    /// Takes the answer to what [`super::decide`] asked for.
    pub fn finished(
        &mut self,
        ticket: Ticket,
        result: Result<Answer, Fault>,
        seen: &mut Seen,
        now: Now,
    ) {
        let Ticket { pod: uid, step } = ticket;
        if let Some(memory) = self.pods.get_mut(&uid) {
            memory.in_flight.remove(&step);
        }
        self.doubts.weigh(&uid, &step, &result);
        match step {
            Step::Files(digest) => {
                // Also after a failure: some of them may be there.
                seen.files.insert(uid.clone());
                self.files_written(&uid, digest, result, now);
            }
            Step::Pause => self.pause_started(&uid, result, seen, now),
            Step::Attach(pause) => self.attached(&uid, pause, result, seen, now),
            Step::Image(name) => self.image_ready(&uid, &name, result, now),
            Step::Start(name) => self.container_started(&uid, &name, result, seen, now),
            Step::PostStart(name, id) => self.post_started(&uid, &name, &id, &result, now),
            Step::PreStop(id) => self.pre_stopped(&uid, &id, &result, now),
            Step::Signal(id) => self.signalled(&uid, &id, result, seen, now),
            Step::Probe(name, kind, id) => {
                probes::answered(self, &uid, &name, kind, &id, &result, now);
            }
            Step::LastWords(name, id) => self.last_words(&uid, &name, id, result),
            Step::Tail(name, id) => self.tail(&uid, &name, id, result),
            Step::Remove(ids) => self.removed(&uid, &ids, result, seen, now),
            Step::Detach(link) => {
                if result.is_ok() {
                    seen.links.remove(&link);
                }
                self.note_removal(&uid, result.err(), now);
            }
            Step::RemoveFiles => {
                if result.is_ok() {
                    seen.files.remove(&uid);
                    if let Some(memory) = self.pods.get_mut(&uid) {
                        memory.files_checked = None;
                        memory.files = None;
                    }
                }
                self.note_removal(&uid, result.err(), now);
            }
        }
    }

    fn files_written(
        &mut self,
        uid: &Uid,
        digest: Digest,
        result: Result<Answer, Fault>,
        now: Now,
    ) {
        let Some(memory) = self.pods.get_mut(uid) else {
            return;
        };
        match result {
            Ok(_) => {
                memory.files = Some(digest);
                memory.files_trouble = None;
            }
            Err(fault) => {
                let before = memory.files_trouble.as_ref();
                let trouble =
                    Trouble::again(before, now.elapsed, "ContainerCreating", fault.message.clone());
                memory.files_trouble = Some(trouble);
                self.event(uid, true, "FailedMount", fault.message, now);
            }
        }
    }

    pub(super) fn pause_started(
        &mut self,
        uid: &Uid,
        result: Result<Answer, Fault>,
        seen: &mut Seen,
        now: Now,
    ) {
        let Some(memory) = self.pods.get_mut(uid) else {
            return;
        };
        match result {
            Ok(Answer::Runtime(RuntimeAnswer::Started(container))) => {
                memory.sandbox_trouble = None;
                if let Some(containers) = &mut seen.containers {
                    containers.insert(container.id.clone(), *container);
                }
            }
            Ok(_) => {}
            Err(fault) => self.sandbox_failed(uid, &fault, now),
        }
    }

    fn sandbox_failed(&mut self, uid: &Uid, fault: &Fault, now: Now) {
        let Some(memory) = self.pods.get_mut(uid) else {
            return;
        };
        let message = format!("Failed to create pod sandbox: {}", fault.message);
        let before = memory.sandbox_trouble.as_ref();
        let trouble = Trouble::again(before, now.elapsed, "ContainerCreating", message.clone());
        memory.sandbox_trouble = Some(trouble);
        self.event(uid, true, "FailedCreatePodSandBox", message, now);
    }

    /// A pod is not begun before something is known.
    pub(super) fn awaits_word(&mut self, uid: &Uid, reason: &str, message: &str, now: Now) {
        let Some(memory) = self.pods.get_mut(uid) else {
            return;
        };
        if memory.sandbox_trouble.as_ref().is_some_and(|trouble| trouble.message == message) {
            return;
        }
        memory.sandbox_trouble = Some(Trouble {
            count: 0,
            at: now.elapsed,
            reason: reason.to_owned(),
            message: message.to_owned(),
            is_forgiven: false,
        });
        self.event(uid, true, reason, message.to_owned(), now);
    }

    fn attached(
        &mut self,
        uid: &Uid,
        pause: ContainerId,
        result: Result<Answer, Fault>,
        seen: &mut Seen,
        now: Now,
    ) {
        let Some(memory) = self.pods.get_mut(uid) else {
            return;
        };
        match result {
            Ok(_) => {
                memory.attached = Some(pause);
                memory.sandbox_trouble = None;
                seen.links.insert(super::sandbox::link_name(uid));
            }
            Err(fault) => self.sandbox_failed(uid, &fault, now),
        }
    }

    /// The containers of a pod whose images are being had.
    pub fn fetching(&self, uid: &Uid) -> impl Iterator<Item = &Name> {
        let under_way = self.pods.get(uid).into_iter().flat_map(|pod| &pod.in_flight);
        under_way.filter_map(|step| match step {
            Step::Image(container) => Some(container),
            _ => None,
        })
    }

    fn image_ready(&mut self, uid: &Uid, name: &Name, result: Result<Answer, Fault>, now: Now) {
        let Some(memory) = self.pods.get_mut(uid) else {
            return;
        };
        let container = memory.containers.entry(name.clone()).or_default();
        match result {
            Ok(Answer::Runtime(RuntimeAnswer::Image(image))) => {
                container.image_trouble = None;
                let message = match image.pulled {
                    Some(took) => format!(
                        "Successfully pulled image for container {name} in {}ms",
                        took.as_millis()
                    ),
                    None => format!("Container image for {name} already present on machine"),
                };
                container.image = Some(*image);
                self.event(uid, false, "Pulled", message, now);
            }
            Ok(_) => {}
            Err(fault) => {
                let message = refused(&mut container.image_trouble, &fault, "ErrImagePull", now);
                self.event(uid, true, "Failed", message, now);
            }
        }
    }

    fn container_started(
        &mut self,
        uid: &Uid,
        name: &Name,
        result: Result<Answer, Fault>,
        seen: &mut Seen,
        now: Now,
    ) {
        let Some(memory) = self.pods.get_mut(uid) else {
            return;
        };
        let record = memory.containers.entry(name.clone()).or_default();
        // The next start asks for the image again: it may have been removed, and `Always` means it.
        record.image = None;
        match result {
            Ok(Answer::Runtime(RuntimeAnswer::Started(container))) => {
                record.start_trouble = None;
                record.probes.clear();
                record.started_by_us = Some(container.id.clone());
                record.started_at = Some((container.id.clone(), now.elapsed));
                if let Some(containers) = &mut seen.containers {
                    containers.insert(container.id.clone(), *container);
                }
                self.event(uid, false, "Started", format!("Started container {name}"), now);
            }
            Ok(_) => {}
            Err(fault) => {
                let message = refused(&mut record.start_trouble, &fault, "RunContainerError", now);
                self.event(uid, true, "Failed", message, now);
            }
        }
    }

    fn post_started(
        &mut self,
        uid: &Uid,
        name: &Name,
        id: &ContainerId,
        result: &Result<Answer, Fault>,
        now: Now,
    ) {
        let complaint = probes::complaint(result);
        let Some(memory) = self.pods.get_mut(uid) else {
            return;
        };
        let record = memory.containers.entry(name.clone()).or_default();
        record.post_started = Some(id.clone());
        if let Some(complaint) = complaint {
            memory.endings.entry(id.clone()).or_insert_with(|| Ending::begin(now.elapsed, None));
            let message = format!("PostStartHook failed for container {name}: {complaint}");
            self.event(uid, true, "FailedPostStartHook", message, now);
        }
    }

    fn pre_stopped(
        &mut self,
        uid: &Uid,
        id: &ContainerId,
        result: &Result<Answer, Fault>,
        now: Now,
    ) {
        let complaint = probes::complaint(result);
        let Some(memory) = self.pods.get_mut(uid) else {
            return;
        };
        if let Some(ending) = memory.endings.get_mut(id) {
            ending.pre_stop_is_over = true;
        }
        if let Some(complaint) = complaint {
            self.event(
                uid,
                true,
                "FailedPreStopHook",
                format!("PreStopHook failed: {complaint}"),
                now,
            );
        }
    }

    fn signalled(
        &mut self,
        uid: &Uid,
        id: &ContainerId,
        result: Result<Answer, Fault>,
        seen: &mut Seen,
        now: Now,
    ) {
        let Err(fault) = result else { return };
        if fault.kind == FaultKind::NotFound {
            // It ended or went away meanwhile; the runtime will say so, and if that is lost the
            // next listing does. A container that is gone altogether must not be waited for.
            let known = seen.containers.as_mut();
            if let Some(known) = known.filter(|all| all.get(id).is_some_and(|c| !c.is_running())) {
                known.remove(id);
            }
            return;
        }
        let ending = self.pods.get_mut(uid).and_then(|memory| memory.endings.get_mut(id));
        let is_news = ending.is_none_or(|ending| ending.signal_failed(now.elapsed));
        if is_news {
            self.event(uid, true, "FailedKillPod", fault.message, now);
        }
    }

    fn last_words(
        &mut self,
        uid: &Uid,
        name: &Name,
        id: ContainerId,
        result: Result<Answer, Fault>,
    ) {
        let Some(memory) = self.pods.get_mut(uid) else {
            return;
        };
        let text = match result {
            Ok(Answer::Files(FilesAnswer::Text(text))) => text,
            _ => String::new(),
        };
        memory.containers.entry(name.clone()).or_default().last_words.insert(id, text);
    }

    fn tail(&mut self, uid: &Uid, name: &Name, id: ContainerId, result: Result<Answer, Fault>) {
        let Some(memory) = self.pods.get_mut(uid) else {
            return;
        };
        let record = memory.containers.entry(name.clone()).or_default();
        if let Ok(Answer::Runtime(RuntimeAnswer::Text(text))) = result {
            record.last_words.insert(id.clone(), text);
        }
        record.tail_read = Some(id);
    }

    fn removed(
        &mut self,
        uid: &Uid,
        ids: &[ContainerId],
        result: Result<Answer, Fault>,
        seen: &mut Seen,
        now: Now,
    ) {
        if result.is_ok() {
            if let Some(containers) = &mut seen.containers {
                for id in ids {
                    containers.remove(id);
                }
            }
            if let Some(memory) = self.pods.get_mut(uid) {
                memory.endings.retain(|id, _| !ids.contains(id));
            }
        }
        self.note_removal(uid, result.err(), now);
    }

    fn note_removal(&mut self, uid: &Uid, fault: Option<Fault>, now: Now) {
        let Some(memory) = self.pods.get_mut(uid) else {
            return;
        };
        match fault {
            None => memory.remove_trouble = None,
            Some(fault) => {
                let before = memory.remove_trouble.as_ref();
                // While the runtime is gone this fails every half minute, for days perhaps.
                let is_news = before.is_none_or(|before| before.message != fault.message);
                let trouble =
                    Trouble::again(before, now.elapsed, "FailedKillPod", fault.message.clone());
                memory.remove_trouble = Some(trouble);
                if is_news {
                    self.event(uid, true, "FailedKillPod", fault.message, now);
                }
            }
        }
    }

    /// Forgets a pod of which nothing is left and nobody speaks.
    pub(crate) fn forget(&mut self, uid: &Uid) {
        if self.doubts.about(uid) {
            return;
        }
        self.pods.remove(uid);
        self.addresses.give_back(uid);
    }
}

/// Notes that the runtime refused something again; how that reads. `otherwise` is the reason where the
/// fault names none.
fn refused(trouble: &mut Option<Trouble>, fault: &Fault, otherwise: &str, now: Now) -> String {
    let (reason, text) = split_reason(fault);
    let reason = reason.unwrap_or(otherwise);
    *trouble = Some(Trouble::again(trouble.as_ref(), now.elapsed, reason, text.to_owned()));
    format!("{reason}: {text}")
}

/// `docker://<id>`, as Kubernetes writes a container's id.
pub(crate) fn container_uri(id: &ContainerId) -> String {
    format!("{URI_SCHEME}{id}")
}

const URI_SCHEME: &str = "docker://";
