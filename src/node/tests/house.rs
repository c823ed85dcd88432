//! A host in a test: one pod, a runtime that keeps a diary, and a clock that is wound by hand.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::super::step::Step;
use super::super::{Action, Around, Assignment, Memory, Mine, Seen, decide, link_name, reports};
use crate::desired;
use crate::kinds::binding::{Binding, DEFAULT_APP, Deletion, Generation, Oid, TemplateRef};
use crate::kinds::digest::Digest;
use crate::kinds::name::{Name, PodKey, Uid};
use crate::kinds::object::{Body, Key};
use crate::kinds::registry::Kind;
use crate::kinds::status::{ContainerState, ContainerStatus, PodReport};
use crate::kinds::time::{Elapsed, Now, Wall};
use crate::ports::files::{Answer as FilesAnswer, Call as FilesCall, Layout};
use crate::ports::links::Answer as LinksAnswer;
use crate::ports::probe::Answer as ProbeAnswer;
use crate::ports::runtime::{
    Answer as RuntimeAnswer, Call as RuntimeCall, ContainerId, ContainerSeen, ContainerSpec,
    ExecResult, ImageSeen, Marks, Role, RunState,
};
use crate::ports::source::FileContent;
use crate::ports::{Answer, Call, Fault};

pub(super) const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// One pod on one host.
pub(super) struct Host {
    pub(super) mine: Mine,
    pub(super) seen: Seen,
    pub(super) around: Around,
    pub(super) memory: Memory,
    pub(super) now: Now,
    /// What was done, each line with the second since the beginning.
    diary: Vec<(u64, String)>,
    /// Steps that are under way and not answered: those whose word begins so.
    pub(super) hangs: BTreeSet<&'static str>,
    hanging: Vec<Action>,
    /// The runtime does not answer.
    pub(super) is_docker_gone: bool,
    /// Programs that do not hear TERM.
    pub(super) is_deaf: bool,
    /// What probes come to, by the kind's word; good where absent.
    pub(super) bad_probes: BTreeSet<&'static str>,
    /// What containers leave as their last words.
    pub(super) words: BTreeMap<String, String>,
    /// What containers' logs end with.
    pub(super) log: String,
    made: u32,
    began: Elapsed,
}

/// The uid of the pod.
pub(super) fn uid() -> Uid {
    Uid::trusted("the-pod")
}

impl Host {
    /// A host to which a pod with this spec (in flow style) was just bound.
    pub(super) fn new(spec: &str) -> Self {
        let began = Elapsed::new(seconds(100_000));
        let mut host = Self {
            mine: Mine { pods: BTreeMap::new(), is_known: true },
            seen: Seen { containers: Some(BTreeMap::new()), ..Seen::default() },
            around: around(),
            memory: Memory::default(),
            now: Now { elapsed: began, wall: Wall::from_seconds(1_700_000_000) },
            diary: Vec::new(),
            hangs: BTreeSet::new(),
            hanging: Vec::new(),
            is_docker_gone: false,
            is_deaf: false,
            bad_probes: BTreeSet::new(),
            words: BTreeMap::new(),
            log: String::new(),
            made: 0,
            began,
        };
        host.mine.pods.insert(uid(), assignment(spec));
        host
    }

    /// The same, with everything that is to happen at once done.
    pub(super) fn running(spec: &str) -> Self {
        let mut host = Self::new(spec);
        host.run();
        host
    }

    /// Does what is to be done now, and what follows from that at once.
    pub(super) fn run(&mut self) {
        /// More than any pod of a test takes.
        const ROUNDS_MAX: u32 = 60;
        for _ in 0..ROUNDS_MAX {
            if !self.is_docker_gone {
                // What this host sees is what there is: a listing would find the same.
                self.memory.listing_begins();
                self.memory.listing_came();
            }
            let actions = decide(&self.mine, &self.seen, &self.around, &mut self.memory, self.now);
            if actions.is_empty() {
                return;
            }
            for action in actions {
                self.act(action);
            }
        }
        panic!("it never comes to rest: {:?}", self.diary);
    }

    /// Lets time pass, waking when asked to.
    pub(super) fn pass(&mut self, duration: Duration) {
        let end = self.now.elapsed + duration;
        loop {
            self.run();
            let wake = self.memory.next_wake().filter(|wake| *wake <= end);
            let to = wake.map_or(end, |wake| wake.max(self.now.elapsed + Duration::from_millis(1)));
            let to = to.min(end);
            let step = to.since(self.now.elapsed);
            let wall = Wall::from_millis(
                1_700_000_000_000
                    + i64::try_from(to.since(self.began).as_millis()).expect("a short test"),
            );
            self.now = Now { elapsed: to, wall };
            if step.is_zero() || to == end {
                self.run();
                return;
            }
        }
    }

    /// Forgets the diary so far.
    pub(super) fn turn_page(&mut self) {
        self.diary.clear();
    }

    /// What was done, in order.
    pub(super) fn diary(&self) -> Vec<&str> {
        self.diary.iter().map(|(_, line)| line.as_str()).collect()
    }

    /// When something was done, in seconds since the host began.
    pub(super) fn times(&self, what: &str) -> Vec<u64> {
        self.diary.iter().filter(|(_, line)| line == what).map(|(at, _)| *at).collect()
    }

    fn act(&mut self, action: Action) {
        let word = self.word(&action);
        self.diary.push((self.now.elapsed.since(self.began).as_secs(), word.clone()));
        if self.hangs.iter().any(|hang| word.starts_with(hang)) {
            self.hanging.push(action);
        } else {
            let result = self.perform(&action.ticket.step, action.call);
            self.memory.finished(action.ticket, result, &mut self.seen, self.now);
        }
    }

    /// Answers what hangs.
    pub(super) fn answer(&mut self) {
        self.hangs.clear();
        for action in std::mem::take(&mut self.hanging) {
            let result = self.perform(&action.ticket.step, action.call);
            self.memory.finished(action.ticket, result, &mut self.seen, self.now);
        }
        self.run();
    }

    fn word(&self, action: &Action) -> String {
        let name = |id: &ContainerId| self.name_of(id);
        match &action.ticket.step {
            Step::Files(_) => "files".into(),
            Step::Pause => "pause".into(),
            Step::Attach(_) => "attach".into(),
            Step::Image(container) => format!("image {container}"),
            Step::Start(container) => format!("start {container}"),
            Step::PostStart(container, _) => format!("postStart {container}"),
            Step::PreStop(id) => format!("preStop {}", name(id)),
            Step::Signal(id) => match &action.call {
                Call::Runtime(RuntimeCall::Signal { signal, .. }) if !signal.is_empty() => {
                    format!("{signal} {}", name(id))
                }
                _ => format!("TERM {}", name(id)),
            },
            Step::Probe(container, kind, _) => {
                format!("{} {container}", format!("{kind:?}").to_lowercase())
            }
            Step::LastWords(container, _) => format!("words {container}"),
            Step::Tail(container, _) => format!("tail {container}"),
            Step::Remove(_) => "remove".into(),
            Step::Detach(_) => "detach".into(),
            Step::RemoveFiles => "remove files".into(),
        }
    }

    fn perform(&mut self, step: &Step, call: Call) -> Result<Answer, Fault> {
        match call {
            Call::Runtime(call) => {
                if self.is_docker_gone {
                    return Err(Fault::transient("dockerd does not answer"));
                }
                self.perform_runtime(call).map(Answer::Runtime)
            }
            Call::Files(FilesCall::LastWords { name, .. }) => {
                let container = name.trim_start_matches("last-words-").to_owned();
                let words = self.words.remove(&container).unwrap_or_default();
                Ok(Answer::Files(FilesAnswer::Text(words)))
            }
            Call::Files(_) => Ok(Answer::Files(FilesAnswer::Done)),
            Call::Links(_) => Ok(Answer::Links(LinksAnswer::Done)),
            Call::Probe(_) => {
                let Step::Probe(_, kind, _) = step else {
                    return Ok(Answer::Probe(ProbeAnswer { good: true, message: "ok".into() }));
                };
                let word = format!("{kind:?}").to_lowercase();
                let good = !self.bad_probes.contains(word.as_str());
                Ok(Answer::Probe(ProbeAnswer { good, message: "503".into() }))
            }
            other => panic!("a node asks for no {other:?}"),
        }
    }

    fn perform_runtime(&mut self, call: RuntimeCall) -> Result<RuntimeAnswer, Fault> {
        match call {
            RuntimeCall::EnsureImage(wish) if wish.image.contains("missing") => {
                Err(Fault::not_found(format!("ErrImagePull: manifest unknown: {}", wish.image)))
            }
            RuntimeCall::EnsureImage(wish) if wish.image.contains("never") => {
                Err(Fault::not_found("ErrImageNeverPull: it is not here"))
            }
            RuntimeCall::EnsureImage(wish) => {
                let image = ImageSeen { id: wish.image, has_command: true, ..ImageSeen::default() };
                Ok(RuntimeAnswer::Image(Box::new(image)))
            }
            RuntimeCall::Start(spec) if spec.image.contains("broken") => {
                Err(Fault::stalled("ContainerCannotRun: exec: no such file"))
            }
            RuntimeCall::Start(spec) => Ok(RuntimeAnswer::Started(Box::new(self.start(&spec)))),
            RuntimeCall::Signal { id, signal } => {
                if signal == "KILL" {
                    self.end_id(&id, 137);
                } else if !self.is_deaf {
                    self.end_id(&id, 0);
                }
                Ok(RuntimeAnswer::Done)
            }
            RuntimeCall::Tail(_) => Ok(RuntimeAnswer::Text(self.log.clone())),
            RuntimeCall::Exec { .. } => {
                Ok(RuntimeAnswer::Exec(ExecResult { exit_code: 0, output: String::new() }))
            }
            RuntimeCall::Remove { .. } => Ok(RuntimeAnswer::Done),
            other => panic!("a node asks for no {other:?}"),
        }
    }

    fn start(&mut self, spec: &ContainerSpec) -> ContainerSeen {
        self.made += 1;
        ContainerSeen {
            id: format!("c{}", self.made).into(),
            marks: Marks::from_labels(|key| spec.labels.get(key).map(String::as_str))
                .expect("marks"),
            state: RunState::Running { started: self.now.wall, pid: self.made },
            image_id: spec.image.clone(),
        }
    }

    fn containers(&mut self) -> &mut BTreeMap<ContainerId, ContainerSeen> {
        self.seen.containers.as_mut().expect("listed")
    }

    fn name_of(&self, id: &ContainerId) -> String {
        let known = self.seen.containers.as_ref().and_then(|all| all.get(id));
        let name = known.and_then(|container| container.marks.role.container());
        name.map_or_else(|| "pause".into(), ToString::to_string)
    }

    /// The newest container of that name; `pause` for the pause container.
    pub(super) fn newest(&self, name: &str) -> ContainerSeen {
        let all = self.seen.containers.iter().flat_map(|all| all.values());
        let of_name = all.filter(|c| match c.marks.role.container() {
            Some(own) => *own == name,
            None => name == "pause",
        });
        of_name
            .max_by_key(|c| (c.marks.sandbox, c.marks.attempt))
            .unwrap_or_else(|| panic!("no container {name}"))
            .clone()
    }

    fn end_id(&mut self, id: &ContainerId, exit_code: i64) {
        self.end_with(id, exit_code, false, None);
    }

    fn end_with(&mut self, id: &ContainerId, exit_code: i64, oom: bool, error: Option<String>) {
        let finished = self.now.wall;
        let Some(container) = self.containers().get_mut(id) else {
            return;
        };
        if let RunState::Running { started, .. } = container.state {
            let started = error.is_none().then_some(started);
            container.state =
                RunState::Ended { started, finished, exit_code, oom_killed: oom, error };
        }
    }

    /// A program ends by itself.
    pub(super) fn end(&mut self, name: &str, exit_code: i64) {
        let id = self.newest(name).id;
        self.end_id(&id, exit_code);
    }

    /// A program ends in a particular way.
    pub(super) fn end_so(&mut self, name: &str, exit_code: i64, oom: bool, error: Option<&str>) {
        let id = self.newest(name).id;
        self.end_with(&id, exit_code, oom, error.map(ToOwned::to_owned));
    }

    /// Everything ends at once.
    pub(super) fn end_all(&mut self) {
        let ids: Vec<ContainerId> = self.containers().keys().cloned().collect();
        for id in ids {
            self.end_id(&id, 137);
        }
    }

    /// Names of what runs, pause left out.
    pub(super) fn alive(&self) -> Vec<String> {
        let all = self.seen.containers.iter().flat_map(|all| all.values());
        let running = all.filter(|container| container.is_running());
        let mut names: Vec<String> =
            running.filter_map(|c| c.marks.role.container().map(ToString::to_string)).collect();
        names.sort();
        names
    }

    /// The pod is to end.
    pub(super) fn delete(&mut self, grace_s: u32) {
        let since = self.now.wall;
        let pod = self.mine.pods.get_mut(&uid()).expect("the pod");
        let binding = Arc::make_mut(&mut pod.binding);
        binding.deletion = Some(Deletion { grace_s, since, reason: "Deleted".into() });
        self.around.released.insert(uid());
        self.run();
    }

    /// The agent is killed and another takes over: it knows what was reported and what it sees.
    pub(super) fn restart_agent(&mut self) {
        let report = self.report();
        self.memory = Memory::default();
        self.memory.succeed([&report]);
        self.hanging.clear();
        self.hangs.clear();
        self.turn_page();
        self.run();
    }

    /// What the node says of the pod.
    pub(super) fn report(&mut self) -> PodReport {
        let before = BTreeMap::new();
        let all =
            reports(&self.mine, &self.seen, &self.around, &before, &mut self.memory, self.now);
        PodReport::clone(&all[&uid()])
    }

    fn container(&mut self, name: &str) -> ContainerStatus {
        let status = self.report().status;
        let all = status.init_container_statuses.into_iter().chain(status.container_statuses);
        all.into_iter().find(|status| status.name == *name).expect("a status")
    }

    /// `running`, `waiting CrashLoopBackOff: …`, `terminated Error 1: last words`.
    pub(super) fn state(&mut self, name: &str) -> String {
        say(&self.container(name).state)
    }

    /// The same of the life before.
    pub(super) fn last_state(&mut self, name: &str) -> String {
        say(&self.container(name).last_state)
    }

    pub(super) fn restarts(&mut self, name: &str) -> u32 {
        self.container(name).restart_count
    }

    pub(super) fn is_ready(&mut self) -> bool {
        self.report().status.is_ready()
    }

    pub(super) fn phase(&mut self) -> String {
        self.report().status.phase.as_str().to_owned()
    }

    /// Whether nothing of the pod is left.
    pub(super) fn is_gone(&mut self) -> bool {
        self.report().gone
            && self.containers().is_empty()
            && self.seen.files.is_empty()
            && self.seen.links.is_empty()
    }

    /// A container that somebody else's agent, or an earlier life of ours, left.
    pub(super) fn put(&mut self, id: &str, node: &str, pod: &str, role: Role) {
        let marks = Marks {
            node: Name::trusted(node),
            pod: PodKey::new(&Name::trusted("shop"), &Name::trusted(pod)),
            uid: Uid::trusted(pod),
            role,
            attempt: 0,
            backoff: Duration::ZERO,
            grace_s: 5,
            ip: None,
            sandbox: 1,
        };
        let state = RunState::Running { started: self.now.wall, pid: 77 };
        let seen = ContainerSeen { id: id.into(), marks, state, image_id: String::new() };
        self.containers().insert(id.into(), seen);
        self.seen.links.insert(link_name(&Uid::trusted(pod)));
    }
}

fn say(state: &ContainerState) -> String {
    let with = |text: String, message: &Option<String>| match message {
        Some(message) => format!("{text}: {message}"),
        None => text,
    };
    match state {
        ContainerState::Waiting(w) => with(format!("waiting {}", w.reason), &w.message),
        ContainerState::Running(_) => "running".into(),
        ContainerState::Terminated(t) => {
            with(format!("terminated {} {}", t.reason, t.exit_code), &t.message)
        }
        ContainerState::Unknown {} => "nothing".into(),
    }
}

pub(super) fn around() -> Around {
    Around {
        node: Name::trusted("a"),
        node_ip: Some([192, 168, 0, 10].into()),
        layout: Layout {
            run_dir: "/run/windlass".into(),
            data_dir: "/var/lib/windlass".into(),
            volumes_dir: "/var/lib/windlass/volumes".into(),
        },
        pod_network: Some("10.244.0.0/24".parse().expect("a network")),
        dns: [10, 96, 0, 10].into(),
        domain: "cluster.local".into(),
        resolvers: Vec::new(),
        searches: Vec::new(),
        mtu: 1500,
        allocatable: BTreeMap::new(),
        standing: None,
        claims: BTreeMap::new(),
        desired: BTreeMap::new(),
        opened: BTreeMap::new(),
        services: Arc::default(),
        released: BTreeSet::new(),
        has_heard: true,
        is_counting: false,
        following_takes: std::time::Duration::ZERO,
        files_version: 1,
    }
}

/// A pod `shop/web` with this spec, as the door gives it.
pub(super) fn assignment(spec: &str) -> Assignment {
    let text = format!(
        "apiVersion: v1\nkind: Pod\nmetadata: {{name: web, namespace: shop}}\nspec: {{{spec}}}\n"
    );
    let content =
        FileContent { path: "web.yaml".into(), blob: Oid::new(""), bytes: text.as_bytes().into() };
    let parsed = desired::parse(&content);
    let object = parsed.objects.first().unwrap_or_else(|| panic!("{spec}: {parsed:?}"));
    let Body::Pod(template) = &object.body else {
        panic!("{spec} is no pod");
    };
    let key = PodKey::new(&Name::trusted("shop"), &Name::trusted("web"));
    let owner = Key::namespaced(Kind::Pod, &key.namespace, &key.name);
    let binding = Binding {
        key,
        uid: uid(),
        template: TemplateRef {
            app: Name::trusted(DEFAULT_APP),
            revision: Oid::new("abc"),
            path: "web.yaml".into(),
            owner: owner.clone(),
            meaning: Digest::of(b""),
            meaning_version: desired::MEANING_VERSION,
        },
        owner,
        labels: BTreeMap::new(),
        generation: Generation::default(),
        sequence: 1,
        created: Wall::default(),
        deletion: None,
        message: None,
        nominated: None,
        index: None,
        only_node: None,
        limit_ranges: Vec::new(),
        unknown: BTreeMap::new(),
    };
    Assignment { binding: Arc::new(binding), template: Some(template.clone()) }
}
