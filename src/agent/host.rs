//! This machine: the pods bound here, what the runtime says of them, and what is reported.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use crate::kinds::image::Reference;
use crate::kinds::labels::Labels;
use crate::kinds::name::{Name, Uid};
use crate::kinds::object::{Body, Key};
use crate::kinds::registry::Kind;
use crate::kinds::time::{Elapsed, Now};
use crate::node::{self, Around, Assignment, Mine, Seen, ServiceEnv, Standing, Ticket};
use crate::plan;
use crate::ports::files::{Answer as FilesAnswer, Call as FilesCall};
use crate::ports::links::{Answer as LinksAnswer, Call as LinksCall, NetworkSeen};
use crate::ports::runtime::{
    Answer as RuntimeAnswer, Call as RuntimeCall, ContainerId, ContainerSeen, PullProgress, Pulls,
    RunState, RuntimeHint, RuntimeSeen,
};
use crate::ports::{Answer, Call, Fault};
use crate::state::NodeReport;

use super::config::Config;
use super::{Agent, Purpose};

/// How often everything is listed anew, though events tell of every change: they can be lost.
const RESYNC: Duration = Duration::from_secs(60);
/// How often the machine and its images are looked at.
const SURVEY: Duration = Duration::from_secs(300);
/// The wait after a listing or a survey that failed.
const RETRY: Duration = Duration::from_secs(1);
/// How long a listing may take; a runtime under load is slow, not dead.
const LIST_TIMEOUT: Duration = Duration::from_secs(30);
/// What is said when a disk has no room left.
const NO_SPACE: &str = "no space left";
/// What is known of this machine.
#[derive(Debug)]
pub(super) struct Host {
    pub(super) memory: node::Memory,
    pub(super) seen: Seen,
    pub(super) mine: Mine,
    around: Option<Arc<Around>>,
    pub(super) runtime: Option<RuntimeSeen>,
    pub(super) network: Option<NetworkSeen>,
    pub(super) report: Option<NodeReport>,
    pub(super) emptying: super::volumes::Emptying,
    pub(super) larder: super::larder::Larder,
    /// Whether the state store was reached since this agent started.
    pub(super) has_been_in_touch: bool,
    has_succeeded: bool,
    needs_look: bool,
    needs_around: bool,
    /// What was known when the listing under way was asked for.
    listing: Option<BTreeMap<ContainerId, ContainerSeen>>,
    list_at: Option<Elapsed>,
    pub(super) survey_at: Option<Elapsed>,
    pub(super) is_surveying: bool,
    inspecting: BTreeSet<ContainerId>,
    inspect_again: BTreeSet<ContainerId>,
    has_listed_files: bool,
    has_listed_links: bool,
    pub(super) is_reporting: bool,
    /// How many looks had been taken when a write of it found another state than it was based on.
    pub(super) raced: Option<u64>,
    pub(super) report_at: Option<Elapsed>,
    pub(super) started: Option<crate::kinds::time::Wall>,
    /// The runtime's last fault, if it failed.
    pub(super) fault: Option<Fault>,
    /// How many times the node's register was written.
    pub(super) report_writes: u64,
}

impl Host {
    pub(super) fn new(_config: &Config) -> Self {
        Self {
            memory: node::Memory::default(),
            seen: Seen::default(),
            mine: Mine::default(),
            around: None,
            runtime: None,
            network: None,
            report: None,
            emptying: super::volumes::Emptying::default(),
            larder: super::larder::Larder::default(),
            has_been_in_touch: false,
            has_succeeded: false,
            needs_look: true,
            needs_around: true,
            listing: None,
            list_at: None,
            survey_at: None,
            is_surveying: false,
            inspecting: BTreeSet::new(),
            inspect_again: BTreeSet::new(),
            has_listed_files: false,
            has_listed_links: false,
            is_reporting: false,
            raced: None,
            report_at: None,
            started: None,
            fault: None,
            report_writes: 0,
        }
    }

    /// Takes over from the agent that wrote this report, once.
    pub(super) fn succeed(&mut self, report: &NodeReport) {
        if !self.has_succeeded {
            self.has_succeeded = true;
            self.memory.succeed(report.pods.values().map(|pod| &**pod));
            let mut own = report.clone();
            own.pods = Arc::default();
            self.emptying.removed = report.removed_volumes.clone();
            self.report.get_or_insert(own);
        }
    }

    /// What this node says now.
    pub(super) fn report(&self) -> Option<&NodeReport> {
        self.report.as_ref().filter(|report| report.facts.started.seconds() > 0)
    }

    /// Whether pods may be placed here.
    pub(super) fn is_able(&self) -> bool {
        self.runtime.is_some() && self.network.is_some() && self.fault.is_none()
    }

    pub(super) fn is_reporting(&self) -> bool {
        self.is_reporting
    }

    pub(super) fn pods(&self) -> &BTreeMap<Uid, Assignment> {
        &self.mine.pods
    }

    pub(super) fn around(&self) -> Option<&Arc<Around>> {
        self.around.as_ref()
    }

    pub(super) fn network(&self) -> Option<&NetworkSeen> {
        self.network.as_ref()
    }

    pub(super) fn containers(&self) -> Option<&BTreeMap<ContainerId, ContainerSeen>> {
        self.seen.containers.as_ref()
    }

    /// The containers that wait for an image, and how far its pull has come.
    pub(super) fn pulling(&self, pulls: &Pulls) -> BTreeMap<Uid, BTreeMap<Name, PullProgress>> {
        if pulls.is_empty() {
            return BTreeMap::new();
        }
        let waiting = self.mine.pods.iter().map(|(uid, pod)| {
            let waiting = self.memory.fetching(uid).filter_map(|name| {
                let template = pod.template.as_ref()?;
                let mut containers = template.spec.all_containers();
                let container = containers.find(|container| container.name == *name)?;
                let image = Reference::parse(&container.image).ok()?.to_string();
                Some((name.clone(), *pulls.get(&image)?))
            });
            (uid.clone(), waiting.collect::<BTreeMap<_, _>>())
        });
        waiting.filter(|(_, containers)| !containers.is_empty()).collect()
    }

    pub(super) fn next_wake(&self) -> Option<Elapsed> {
        let list = self.list_at.filter(|_| self.listing.is_none());
        let survey = self.survey_at.filter(|_| !self.is_surveying);
        let look = self.memory.next_wake();
        let empty = self.emptying.next_wake();
        [list, survey, look, empty].into_iter().flatten().min()
    }

    /// When the report that waits may be written.
    pub(super) fn next_report(&self) -> Option<Elapsed> {
        self.report_at
    }
}

impl Agent {
    /// Something that the pods here depend on may have changed.
    pub(super) fn host_needs_look(&mut self) {
        self.host.needs_look = true;
        self.host.needs_around = true;
        self.is_stirred = true;
    }

    pub(super) fn survey_host(&mut self, now: Now) {
        self.host.started.get_or_insert(now.wall);
        self.host.survey_at = None;
        self.host.is_surveying = true;
        self.call(Purpose::SurveyRuntime, Call::Runtime(RuntimeCall::Survey), LIST_TIMEOUT);
        self.survey_links();
    }

    /// Looks at the machine and its images again, now.
    pub(super) fn survey_soon(&mut self, now: Now) {
        if !self.host.is_surveying {
            self.host.survey_at = Some(now.elapsed);
        }
    }

    pub(super) fn survey_links(&mut self) {
        self.call(Purpose::SurveyLinks, Call::Links(LinksCall::Survey), LIST_TIMEOUT);
    }

    pub(super) fn list_host(&mut self, now: Now) {
        self.list_containers(now);
        self.call(Purpose::ListFiles, Call::Files(FilesCall::List), LIST_TIMEOUT);
        self.call(Purpose::ListLinks, Call::Links(LinksCall::List), LIST_TIMEOUT);
    }

    fn list_containers(&mut self, _now: Now) {
        if self.host.listing.is_none() {
            self.host.listing = Some(self.host.seen.containers.clone().unwrap_or_default());
            self.host.list_at = None;
            self.host.memory.listing_begins();
            self.call(Purpose::ListContainers, Call::Runtime(RuntimeCall::List), LIST_TIMEOUT);
        }
    }

    pub(super) fn tend_host(&mut self, now: Now) {
        if self.host.list_at.is_some_and(|at| at <= now.elapsed) {
            self.list_host(now);
        }
        if self.host.survey_at.is_some_and(|at| at <= now.elapsed) && !self.host.is_surveying {
            self.survey_host(now);
        }
        if self.host.memory.next_wake().is_some_and(|at| at <= now.elapsed) {
            self.host.needs_look = true;
        }
        if !self.host.has_been_in_touch && self.store.is_heard() {
            self.host.has_been_in_touch = true;
            self.host_needs_look();
        }
        if self.host.emptying.next_wake().is_some_and(|at| at <= now.elapsed) {
            self.host.needs_look = true;
        }
        if !self.host.needs_look {
            return;
        }
        self.assign();
        self.look_around(now);
        let Some(around) = self.host.around.clone() else {
            return;
        };
        self.host.needs_look = false;
        let Host { mine, seen, memory, .. } = &mut self.host;
        let actions = node::decide(mine, seen, &around, memory, now);
        for action in actions {
            let purpose = Purpose::Pod(Box::new(action.ticket));
            self.call(purpose, action.call, action.timeout);
        }
        self.sweep_links();
        self.tend_volumes(now);
        self.refresh_report(&around, now);
    }

    /// Takes the pods bound here from the coordinator's register.
    fn assign(&mut self) {
        let Some(state) = self.store.state() else {
            return;
        };
        // What is bound to this name is another machine's. Whether it is shows this node's own
        // register, which is read beside the coordinator's.
        if self.name_is_taken() || !self.host.mine.is_known && !self.store.is_read() {
            return;
        }
        let apps = self.wish.inputs(Some(state));
        // Files and links are swept by the same list, so it is known only once they are too.
        self.host.mine.is_known =
            self.store.is_read() && self.host.has_listed_files && self.host.has_listed_links;
        let pods = state.pods_of(&self.config.node);
        self.host.mine.pods = pods
            .into_iter()
            .flat_map(|pods| pods.values())
            .map(|binding| {
                let template = plan::template_for(binding, &apps, &self.library);
                let assignment = Assignment { binding: binding.clone(), template };
                (binding.uid.clone(), assignment)
            })
            .collect();
    }

    fn look_around(&mut self, now: Now) {
        if self.host.around.is_some() && !self.host.needs_around {
            return;
        }
        let (Some(network), Some(state)) = (&self.host.network, self.store.state()) else {
            return;
        };
        if self.vault.keyring().is_none() {
            return;
        }
        let facts = self.host.report.as_ref().map(|report| report.facts.clone());
        let desired = self.wish.applied.iter();
        let desired = desired.map(|(app, revision)| (app.clone(), revision.desired.clone()));
        let mut around = Around {
            node: self.config.node.clone(),
            node_ip: self.node_ip(),
            layout: self.config.layout.clone(),
            pod_network: state.nodes.get(&self.config.node).map(|node| node.pod_cidr),
            dns: self.config.settings.dns_ip,
            domain: self.config.domain.clone(),
            resolvers: network.resolvers.clone(),
            searches: network.searches.clone(),
            mtu: self.config.overlay.pod_mtu(self.link_mtu(network)),
            standing: facts.as_ref().and_then(|facts| self.standing(&facts.labels)),
            allocatable: facts.map(|facts| facts.allocatable.clone()).unwrap_or_default(),
            claims: self.claimed_volumes(),
            desired: desired.collect(),
            opened: BTreeMap::new(),
            services: Arc::new(self.service_variables()),
            released: self.released_everywhere(),
            has_heard: self.host.has_been_in_touch,
            is_counting: state.restored.is_some(),
            following_takes: self.following_takes(),
            files_version: 0,
        };
        around.opened = self.opened(&around, now);
        let before = self.host.around.as_deref();
        let is_same = before.is_some_and(|before| before.has_same_files(&around));
        let version = before.map_or(0, |before| before.files_version);
        let files_version = if is_same { version } else { version + 1 };
        self.host.around = Some(Arc::new(Around { files_version, ..around }));
        self.host.needs_around = false;
    }

    /// What this node is, if the revision in force has been read: an older one may ask for other
    /// labels, and a pod must not be turned away for them.
    fn standing(&self, own: &Labels) -> Option<Standing> {
        if !self.has_read_any() || !self.has_read_all() {
            return None;
        }
        let key = Key::cluster(Kind::Node, &self.config.node);
        let mut revisions = self.wish.applied.values();
        let wish = revisions.find_map(|revision| revision.desired.objects.get(&key));
        let wish = wish.map(|object| &object.body);
        let mut standing = Standing { labels: own.clone(), taints: Vec::new() };
        if let Some(Body::Node(wish)) = wish {
            standing.labels.extend(wish.labels.clone());
            standing.taints.clone_from(&wish.taints);
        }
        Some(standing)
    }

    /// This node's address: the operator's choice, the default route's source, or the first.
    pub(super) fn node_ip(&self) -> Option<Ipv4Addr> {
        let network = self.host.network.as_ref()?;
        self.config
            .address
            .or(network.default_source)
            .or_else(|| network.addresses.first().copied())
    }

    /// What the link of this node's address takes.
    pub(super) fn link_mtu(&self, network: &NetworkSeen) -> u32 {
        let own = self.node_ip();
        let near = network.near.iter().find(|near| Some(near.network.ip()) == own);
        near.map_or(network.mtu, |near| near.mtu)
    }

    fn service_variables(&self) -> Vec<ServiceEnv> {
        let Some(state) = self.store.state() else {
            return Vec::new();
        };
        let objects = self.wish.objects();
        objects
            .filter_map(|object| {
                let Body::Service(service) = &object.body else {
                    return None;
                };
                let namespace = object.key.namespace.as_ref()?;
                let ip = state.service(namespace, &object.key.name)?.cluster_ip?;
                let ports = service.ports.iter();
                Some(ServiceEnv {
                    namespace: namespace.clone(),
                    name: object.key.name.clone(),
                    ip,
                    ports: ports
                        .map(|port| (port.name.clone(), port.port, port.protocol.lower()))
                        .collect(),
                })
            })
            .collect()
    }

    pub(super) fn pod_answered(&mut self, ticket: Ticket, result: Result<Answer, Fault>, now: Now) {
        if let Err(fault) = &result {
            tracing::debug!(pod = %ticket.pod, step = ?ticket.step, %fault, "a step failed");
            // Docker's and the kernel's words: an image may be what has to make room.
            if fault.message.contains(NO_SPACE) {
                self.survey_soon(now);
            }
        }
        let Host { memory, seen, .. } = &mut self.host;
        memory.finished(ticket, result, seen, now);
        if memory.is_in_doubt() {
            let soon = now.elapsed + RETRY;
            self.host.list_at = Some(self.host.list_at.map_or(soon, |at| at.min(soon)));
        }
        self.host.needs_look = true;
    }

    pub(super) fn runtime_hinted(&mut self, hint: RuntimeHint, now: Now) {
        match hint {
            RuntimeHint::Resync => {
                self.host.listing = None;
                self.list_host(now);
            }
            RuntimeHint::Changed(id) => self.inspect(id),
            RuntimeHint::Images => {
                self.host.memory.images_came(now);
                self.host.needs_look = true;
                self.survey_soon(now);
            }
        }
    }

    fn inspect(&mut self, id: ContainerId) {
        if self.host.inspecting.insert(id.clone()) {
            let call = Call::Runtime(RuntimeCall::Inspect(id.clone()));
            self.call(Purpose::InspectContainer(id), call, LIST_TIMEOUT);
        } else {
            self.host.inspect_again.insert(id);
        }
    }

    pub(super) fn container_inspected(
        &mut self,
        id: &ContainerId,
        result: Result<Answer, Fault>,
        now: Now,
    ) {
        self.host.inspecting.remove(id);
        if self.host.inspect_again.remove(id) {
            self.inspect(id.clone());
        }
        let Some(known) = &mut self.host.seen.containers else {
            return;
        };
        match result {
            Ok(Answer::Runtime(RuntimeAnswer::Container(Some(container)))) => {
                take_newer(known, *container);
            }
            Ok(_) => {
                known.remove(id);
            }
            Err(_) => self.host.list_at = Some(now.elapsed + RETRY),
        }
        self.host.needs_look = true;
    }

    pub(super) fn containers_listed(&mut self, result: Result<Answer, Fault>, now: Now) {
        let Some(before) = self.host.listing.take() else {
            return;
        };
        match result {
            Ok(Answer::Runtime(RuntimeAnswer::Containers(list))) => {
                if self.host.fault.take().is_some() {
                    self.refresh_facts(now);
                }
                let known = self.host.seen.containers.get_or_insert_default();
                merge_listing(known, &before, list);
                self.host.memory.listing_came();
                // A doubt that arose while it was under way needs another.
                let wait = if self.host.memory.is_in_doubt() { RETRY } else { RESYNC };
                self.host.list_at = Some(now.elapsed + wait);
                self.host.needs_look = true;
            }
            Ok(_) => {}
            Err(fault) => self.runtime_failed(fault, now),
        }
    }

    fn runtime_failed(&mut self, fault: Fault, now: Now) {
        if self.host.fault.as_ref() != Some(&fault) {
            tracing::warn!(%fault, "the container runtime does not answer");
        }
        self.host.fault = Some(fault);
        self.host.list_at = Some(now.elapsed + RETRY);
        self.refresh_facts(now);
    }

    pub(super) fn runtime_surveyed(&mut self, result: Result<Answer, Fault>, now: Now) {
        self.host.is_surveying = false;
        match result {
            Ok(Answer::Runtime(RuntimeAnswer::Survey(survey))) => {
                self.host.runtime = Some(*survey);
                self.host.survey_at = Some(now.elapsed + SURVEY);
                self.refresh_facts(now);
                self.collect_images(now);
                self.tell_images(None, now);
            }
            Ok(_) => {}
            Err(fault) => {
                self.host.survey_at = Some(now.elapsed + RETRY);
                self.tell_images(Some(&fault), now);
                self.runtime_failed(fault, now);
            }
        }
    }

    pub(super) fn links_surveyed(&mut self, result: Result<Answer, Fault>, now: Now) {
        match result {
            Ok(Answer::Links(LinksAnswer::Survey(survey))) => {
                if self.host.network.as_ref() != Some(&*survey) {
                    let mtu = |agent: &Self| agent.host.network().map(|seen| agent.link_mtu(seen));
                    let before = (self.node_ip(), mtu(self));
                    self.host.network = Some(*survey);
                    if before.1.is_some() && before.1 != mtu(self) {
                        self.host.memory.forget_links();
                    }
                    let before = before.0;
                    if before.is_some() && before != self.node_ip() {
                        // The kernel drops every route whose source is an address that goes.
                        tracing::info!(address = ?self.node_ip(), "this node's address changed");
                        self.host.memory.forget_links();
                    }
                    self.host_needs_look();
                    self.network_needs_look();
                    self.refresh_facts(now);
                }
            }
            Ok(_) => {}
            Err(fault) => {
                tracing::warn!(%fault, "the machine's addresses can't be read");
                self.host.survey_at = Some(now.elapsed + RETRY);
            }
        }
    }

    pub(super) fn files_listed(&mut self, result: Result<Answer, Fault>, now: Now) {
        match result {
            Ok(Answer::Files(FilesAnswer::Pods(pods))) => {
                self.host.has_listed_files = true;
                self.host.seen.files.extend(pods);
                self.host.needs_look = true;
            }
            Ok(_) => {}
            Err(fault) => {
                tracing::warn!(%fault, "the pods' files can't be listed");
                self.host.list_at = Some(now.elapsed + RETRY);
            }
        }
    }

    pub(super) fn links_listed(&mut self, result: Result<Answer, Fault>, now: Now) {
        match result {
            Ok(Answer::Links(LinksAnswer::Links(links))) => {
                self.host.has_listed_links = true;
                self.host.seen.links = links.into_iter().collect();
                self.host.needs_look = true;
            }
            Ok(_) => {}
            Err(fault) => {
                tracing::warn!(%fault, "links can't be listed");
                self.host.list_at = Some(now.elapsed + RETRY);
            }
        }
    }

    /// Takes away links that belong to no pod that is or was here.
    fn sweep_links(&mut self) {
        if !self.host.mine.is_known {
            return;
        }
        let owned: BTreeSet<String> = self
            .host
            .mine
            .pods
            .keys()
            .chain(self.host.memory.known_pods())
            .map(node::link_name)
            .collect();
        let strays: Vec<String> =
            self.host.seen.links.iter().filter(|link| !owned.contains(*link)).cloned().collect();
        for link in strays {
            self.host.seen.links.remove(&link);
            self.call(Purpose::Sweep, Call::Links(LinksCall::Detach { link }), LIST_TIMEOUT);
        }
    }
}

/// How far a container's life has come: it never goes back, so an answer that says less than what
/// is known was asked for earlier.
fn progress(container: &ContainerSeen) -> u8 {
    match container.state {
        RunState::Created => 0,
        RunState::Running { .. } => 1,
        RunState::Ended { .. } => 2,
    }
}

fn take_newer(known: &mut BTreeMap<ContainerId, ContainerSeen>, container: ContainerSeen) {
    let is_older = known.get(&container.id).is_some_and(|old| progress(old) > progress(&container));
    if !is_older {
        known.insert(container.id.clone(), container);
    }
}

/// Takes a listing that was asked for when `before` was known: what came or went since then is
/// newer than the listing.
fn merge_listing(
    known: &mut BTreeMap<ContainerId, ContainerSeen>,
    before: &BTreeMap<ContainerId, ContainerSeen>,
    list: Vec<ContainerSeen>,
) {
    let listed: BTreeSet<ContainerId> = list.iter().map(|container| container.id.clone()).collect();
    known.retain(|id, _| listed.contains(id) || !before.contains_key(id));
    for container in list {
        let went_since = before.contains_key(&container.id) && !known.contains_key(&container.id);
        if !went_since {
            take_newer(known, container);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::name::{Name, PodKey};
    use crate::kinds::time::Wall;
    use crate::ports::runtime::{Marks, Role};

    fn container(id: &str, state: RunState) -> ContainerSeen {
        ContainerSeen {
            id: id.into(),
            marks: Marks {
                node: Name::trusted("a"),
                pod: PodKey::new(&Name::trusted("shop"), &Name::trusted("web")),
                uid: Uid::trusted("u"),
                role: Role::Pause,
                attempt: 0,
                backoff: Duration::ZERO,
                grace_s: 30,
                ip: None,
                sandbox: 1,
            },
            state,
            image_id: String::new(),
        }
    }

    fn running() -> RunState {
        RunState::Running { started: Wall::default(), pid: 1 }
    }

    fn map(all: &[ContainerSeen]) -> BTreeMap<ContainerId, ContainerSeen> {
        all.iter().map(|c| (c.id.clone(), c.clone())).collect()
    }

    #[test]
    fn a_late_listing_does_not_undo_what_came_after_it() {
        let before = map(&[container("stays", running()), container("removed", running())]);
        let mut known = map(&[container("stays", running()), container("started", running())]);
        let list = vec![
            container("stays", running()),
            container("removed", running()),
            container("started", RunState::Created),
        ];
        merge_listing(&mut known, &before, list);
        let ids: Vec<&str> = known.keys().map(|id| &**id).collect();
        assert_eq!(ids, ["started", "stays"]);
        assert!(known["started"].is_running(), "the listing saw it before it ran");
    }

    #[test]
    fn a_listing_finds_what_events_missed() {
        let before = map(&[container("died", running()), container("gone", running())]);
        let mut known = before.clone();
        let ended = RunState::Ended {
            started: None,
            finished: Wall::default(),
            exit_code: 1,
            oom_killed: false,
            error: None,
        };
        merge_listing(&mut known, &before, vec![container("died", ended.clone())]);
        assert_eq!(known.len(), 1);
        assert_eq!(known["died"].state, ended);
    }
}
