//! What this node says: of itself, of its pods, and what people asked of it; written to its own
//! register when it differs from what stands there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::kinds::labels::Labels;
use crate::kinds::name::Uid;
use crate::kinds::node::{LABEL_ARCH, LABEL_HOSTNAME, LABEL_OS, NodeCondition, NodeFacts};
use crate::kinds::pod::ResourceList;
use crate::kinds::quantity::Quantity;
use crate::kinds::status::{Phase, PodReport};
use crate::kinds::time::Now;
use crate::node::{self, Around};
use crate::plan;
use crate::ports::runtime::RuntimeSeen;
use crate::ports::store::{Answer as StoreAnswer, Call as StoreCall, Edit, Landing, Tree};
use crate::ports::{Answer, Call, Fault};
use crate::state::NodeReport;

use super::host::Host;
use super::store::STORE_TIMEOUT;
use super::{Agent, Purpose};

/// A node names at most this many images, the largest first, as kubelet
/// (`nodeStatusMaxImages`).
const IMAGES_MAX: usize = 50;
/// The condition of a node with a disk that is too full.
const DISK_PRESSURE: &str = "DiskPressure";
/// What happens within this time is said at once: pods that start together are ready together.
const GATHER: Duration = Duration::from_millis(100);

impl Agent {
    /// What this node says of itself; also while the runtime does not answer, and why it doesn't.
    pub(super) fn refresh_facts(&mut self, now: Now) {
        let is_asked = self.host.runtime.is_some() || self.host.fault.is_some();
        if !is_asked || self.host.network.is_none() {
            return;
        }
        let unseen = RuntimeSeen::default();
        let runtime = self.host.runtime.as_ref().unwrap_or(&unseen);
        let before = self.host.report.as_ref().map(|report| report.facts.clone());
        let facts = self.facts(runtime, before.as_deref(), now);
        if before.as_deref() != Some(&facts) {
            self.host.report.get_or_insert_default().facts = Arc::new(facts);
            self.host_needs_look();
            self.lead.needs_turn();
        }
    }

    fn facts(&self, runtime: &RuntimeSeen, before: Option<&NodeFacts>, now: Now) -> NodeFacts {
        let hostname = self.config.node.to_string();
        let mut labels = Labels::from([
            (LABEL_HOSTNAME.to_owned(), hostname.clone()),
            (LABEL_OS.to_owned(), "linux".to_owned()),
            (LABEL_ARCH.to_owned(), runtime.arch.clone()),
        ]);
        labels.extend(self.config.labels.clone());
        let capacity = self.capacity(runtime);
        let allocatable = capacity
            .iter()
            .map(|(name, has)| {
                let kept = self.config.reserved.get(name).copied().unwrap_or_default();
                (name.clone(), (*has - kept).max(Quantity::ZERO))
            })
            .collect();
        let info = [
            ("architecture", runtime.arch.clone()),
            ("containerRuntimeVersion", format!("docker://{}", runtime.version)),
            ("kernelVersion", runtime.kernel.clone()),
            ("kubeletVersion", format!("v{}-windlass", self.config.version)),
            ("operatingSystem", "linux".to_owned()),
            ("osImage", runtime.os.clone()),
        ];
        NodeFacts {
            addresses: self.node_ip().map(Into::into).into_iter().collect(),
            hostname,
            capacity,
            allocatable,
            labels,
            info: info.map(|(key, value)| (key.to_owned(), value)).into(),
            images: largest_images(runtime),
            conditions: self.conditions(before, now),
            started: self.host.started.unwrap_or_default(),
            installation: self.config.installation.clone(),
            has_acted: self.store.has_acted(),
            contact: self.config.contact.clone(),
            knows: self.store.knows(),
            holds: self.store.holds(),
            epoch: before.map_or(0, |facts| facts.epoch),
            recipients: self.recipients(),
            settings: Some((*self.config.fleet).clone()),
            unknown: BTreeMap::new(),
        }
    }

    /// For whom that was encrypted which this node opens.
    fn recipients(&self) -> Vec<String> {
        let keyring = self.vault.keyring().map(|keyring| keyring.recipients());
        keyring.unwrap_or_default().iter().map(ToString::to_string).collect()
    }

    fn capacity(&self, runtime: &RuntimeSeen) -> ResourceList {
        let memory = i64::try_from(runtime.memory_bytes).unwrap_or(i64::MAX);
        ResourceList::from([
            ("cpu".to_owned(), Quantity::units(runtime.cpus.into())),
            ("memory".to_owned(), Quantity::bytes(memory)),
            ("pods".to_owned(), Quantity::units(self.config.pods_max.into())),
        ])
    }

    fn conditions(&self, before: Option<&NodeFacts>, now: Now) -> BTreeMap<String, NodeCondition> {
        // The fault's own words may differ each time; they would be written each time.
        let (status, reason, message) = match self.host.fault {
            None => (true, "AgentReady", "windlass is posting ready status"),
            Some(_) => (false, "RuntimeNotReady", "the container runtime does not answer"),
        };
        let known = before.and_then(|facts| facts.conditions.get("Ready"));
        let since = match known {
            Some(known) if known.status == status => known.since,
            Some(_) => now.wall,
            None => self.host.started.unwrap_or_default(),
        };
        let (reason, message) = (reason.to_owned(), message.to_owned());
        let ready = NodeCondition { status, reason, message, since };
        let mut conditions = BTreeMap::from([("Ready".to_owned(), ready)]);
        if self.host.larder.complaint.is_some() {
            let known = before.and_then(|facts| facts.conditions.get(DISK_PRESSURE));
            // How full exactly would be written each time.
            let pressure = NodeCondition {
                status: true,
                reason: "KubeletHasDiskPressure".to_owned(),
                message: "a disk with images is too full, and no image may be removed".to_owned(),
                since: known.map_or(now.wall, |known| known.since),
            };
            conditions.insert(DISK_PRESSURE.to_owned(), pressure);
        }
        conditions
    }

    /// Says how the pods here are, if that has changed.
    pub(super) fn refresh_report(&mut self, around: &Around, now: Now) {
        let Host { mine, seen, memory, report, emptying, .. } = &mut self.host;
        let report = report.get_or_insert_default();
        let pods = node::reports(mine, seen, around, &report.pods, memory, now);
        let events = memory.take_events();
        if !events.is_empty() {
            report.events = Arc::new(plan::append_events(&report.events, events));
        }
        if report.removed_volumes != emptying.removed {
            report.removed_volumes = emptying.removed.clone();
            self.lead.needs_turn();
        }
        if *report.pods != pods {
            report.pods = Arc::new(pods);
            self.lead.needs_turn();
            self.network_needs_look();
        }
        self.follow_epoch();
    }

    /// Takes note that nothing runs here any more that an earlier epoch bound here.
    fn follow_epoch(&mut self) {
        let Some(epoch) = self.store.state().map(|state| state.generation.epoch) else { return };
        let said = self.host.report.as_ref().map_or(0, |report| report.facts.epoch);
        if said >= epoch || !self.store.is_heard() || !self.is_alone_with_its_own() {
            return;
        }
        let Host { mine, memory, report, .. } = &mut self.host;
        // A start that was asked for may yet take effect.
        let is_still = memory.works_only_on(|uid| mine.pods.contains_key(uid));
        if let (Some(report), true) = (report, is_still && !memory.is_in_doubt()) {
            Arc::make_mut(&mut report.facts).epoch = epoch;
            self.lead.needs_turn();
        }
    }

    /// Whether the node's register may be written now.
    pub(super) fn may_report(&self) -> bool {
        let is_busy = self.host.is_reporting || self.lead.is_writing();
        let is_read = self.store.is_read() || self.store.is_without_decisions();
        let is_known = is_read && self.store.is_in_touch();
        // After a race one look comes first: what waits for no interval would otherwise be written at
        // once on the same base, and each write makes the look that runs beside it worthless.
        let has_looked = self.host.raced.is_none_or(|looks| self.store.looks() > looks);
        is_known && !is_busy && has_looked && !self.name_is_taken()
    }

    /// Writes the node's register when it differs from what is there, not too often.
    pub(super) fn tend_report(&mut self, now: Now) {
        if !self.may_report() {
            return;
        }
        self.forget_answered_requests();
        let Some(mut report) = self.host.report().cloned() else {
            return;
        };
        let me = &self.config.node;
        let known = self.store.node(me);
        if self.store.is_without_decisions() {
            // Which pods are its own it does not know: what it said of them last stands.
            let Some(known) = known else { return };
            report = NodeReport { facts: report.facts, ..NodeReport::clone(&known.value) };
        }
        // One that somebody deleted is written anew, whole.
        let known = known.filter(|known| known.rev.is_some());
        if known.is_some_and(|known| *known.value == report) {
            self.host.report_at = None;
            return;
        }
        // Requests don't wait, and neither does the first word of a node.
        let is_urgent =
            known.is_none() || known.is_some_and(|known| known.value.requests != report.requests);
        // Whoever coordinates knows without it; of others it waits for what they say, but not for how
        // far the start of a pod has come: written at once, that would make the word that the pod is
        // ready wait for the next write.
        let own = self.own_register();
        let interval = self.config.report_interval;
        let since_last = self.store.asked(&own).map_or(interval, |at| now.elapsed.since(at));
        let can_wait = self.is_leading(now)
            || known.is_some_and(|known| tells_of_starts_only(&known.value, &report));
        let wait = if can_wait { interval } else { interval.saturating_sub(since_last) };
        let due = now.elapsed + wait.max(GATHER);
        let at = self.host.report_at.map_or(due, |at| at.min(due));
        self.host.report_at = Some(at);
        if at > now.elapsed && !is_urgent {
            return;
        }
        let empty = NodeReport::default();
        let edits = known.map_or(&empty, |known| &*known.value).edits_to(&report);
        let call = StoreCall::Commit {
            register: own.clone(),
            base: known.and_then(|known| known.rev.clone()),
            edits: edits.clone(),
            why: "report".to_owned(),
        };
        self.host.report_at = None;
        self.host.is_reporting = true;
        self.store.asks_to_write(own, now);
        let purpose = Purpose::Report(Box::new((report, edits)));
        self.call(purpose, Call::Store(call), STORE_TIMEOUT);
    }

    pub(super) fn reported(
        &mut self,
        (report, edits): (NodeReport, Vec<Edit>),
        result: Result<Answer, Fault>,
        now: Now,
    ) {
        self.host.is_reporting = false;
        match result {
            Ok(Answer::Store(StoreAnswer::Landing(Landing::Landed(rev)))) => {
                let me = self.config.node.clone();
                let known = self.store.node(&me);
                let tree = known.map_or_else(Tree::default, |known| known.tree.clone());
                let tree = tree.with(&edits);
                self.store.wrote_report(&me, rev.clone(), tree, report);
                self.say_reported(rev);
                self.store.count_written(&edits);
                self.host.report_writes += 1;
                self.host.raced = None;
                self.store.fault = None;
                self.renewed_by(&self.own_register(), now);
            }
            Ok(_) => {
                tracing::error!(
                    node = %self.config.node,
                    "somebody else writes this node's register: is another agent running under its name?"
                );
                self.host.raced = Some(self.store.looks());
                self.overtaken(now);
            }
            Err(fault) => self.store_failed(fault, now),
        }
    }

    /// Requests that the coordinator has carried out are done with.
    fn forget_answered_requests(&mut self) {
        let Some(state) = self.store.state() else {
            return;
        };
        let Some(answered) = state.answered.get(&self.config.node) else {
            return;
        };
        let Some(report) = &mut self.host.report else {
            return;
        };
        if report.requests.iter().any(|request| answered.contains(&request.id)) {
            let left = report.requests.iter().filter(|r| !answered.contains(&r.id)).cloned();
            report.requests = Arc::new(left.collect());
            self.lead.needs_turn();
        }
    }

    pub(super) fn add_request(&mut self, request: crate::state::PersonRequest) {
        let report = self.host.report.get_or_insert_default();
        Arc::make_mut(&mut report.requests).push(request);
        self.lead.needs_turn();
    }
}

/// Whether all that is new is how far pods have come that do not run yet.
fn tells_of_starts_only(before: &NodeReport, now: &NodeReport) -> bool {
    let starts = |pod: &PodReport| pod.status.phase == Phase::Pending && !pod.gone;
    let is_start = |(uid, pod): (&Uid, &Arc<PodReport>)| {
        let was = before.pods.get(uid);
        was.is_some_and(|was| was == pod) || was.is_none_or(|was| starts(was)) && starts(pod)
    };
    before.facts == now.facts
        && before.removed_volumes == now.removed_volumes
        && before.pods.keys().all(|uid| now.pods.contains_key(uid))
        && now.pods.iter().all(is_start)
}

/// The newest images, by size.
fn largest_images(runtime: &RuntimeSeen) -> Vec<(String, u64)> {
    let mut images: Vec<(String, u64)> = runtime
        .images
        .iter()
        .flat_map(|(names, bytes, _)| names.iter().map(move |name| (name.clone(), *bytes)))
        .collect();
    images.sort_by(|one, other| (other.1, &one.0).cmp(&(one.1, &other.0)));
    images.truncate(IMAGES_MAX);
    images
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::name::{Name, PodKey};
    use crate::kinds::status::PodStatus;

    fn report(pods: &[(&str, Phase, Option<&str>)]) -> NodeReport {
        let pods = pods.iter().map(|(name, phase, reason)| {
            let status = PodStatus {
                phase: *phase,
                reason: reason.map(str::to_owned),
                ..PodStatus::default()
            };
            let key = PodKey { namespace: Name::trusted("shop"), name: Name::trusted(name) };
            let uid = Uid::trusted(name);
            let pod = PodReport { key, uid: uid.clone(), status, ending: None, gone: false };
            (uid, Arc::new(pod))
        });
        NodeReport { pods: Arc::new(pods.collect()), ..NodeReport::default() }
    }

    #[test]
    fn only_how_far_a_start_has_come_can_wait() {
        use Phase::{Pending, Running, Succeeded};
        let runs = ("a", Running, None);
        let before = report(&[runs, ("b", Pending, None)]);
        for (pods, can_wait, what) in [
            (vec![runs, ("b", Pending, Some("PodInitializing"))], true, "it has come further"),
            (vec![runs, ("b", Pending, None), ("c", Pending, None)], true, "one more begins"),
            (vec![runs, ("b", Running, None)], false, "it runs"),
            (vec![("a", Running, Some("x")), ("b", Pending, None)], false, "one that runs differs"),
            (vec![("a", Succeeded, None), ("b", Pending, None)], false, "one has ended"),
            (vec![("a", Pending, None), ("b", Pending, None)], false, "one is made anew"),
            (vec![("b", Pending, None)], false, "one is gone"),
        ] {
            assert_eq!(tells_of_starts_only(&before, &report(&pods)), can_wait, "{what}");
        }
        let facts = Arc::new(NodeFacts { epoch: 2, ..NodeFacts::default() });
        assert!(!tells_of_starts_only(&before, &NodeReport { facts, ..before.clone() }));
    }
}
