//! A fleet in a test: pushes, turns, and a node that does what its pods' images say.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::{
    AppInput, Input, Library, Memory, NodeInput, Offer, Plan, Revision, Settings, Shelf, Terms,
    missing_templates, offers, plan,
};
use crate::kinds::binding::{Binding, DEFAULT_APP, Oid, TemplateRef};
use crate::kinds::digest::Digest;
use crate::kinds::name::{Name, NodeName, PodKey, Uid};
use crate::kinds::object::{Body, Key};
use crate::kinds::status::{CONDITION_READY, Phase, PodCondition, PodReport, PodStatus, Truth};
use crate::kinds::time::{Elapsed, Now, Wall};
use crate::ports::source::{CommitInfo, Relation};
use crate::sim;
use crate::state::records::{AppHead, DeploymentRecord, SetRecord};
use crate::state::{AppState, RecordKey, State};

/// The node every pod goes to.
pub(super) const NODE: &str = "a";

/// How a pod is on its node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    /// It runs and is ready; if it is being ended, it is gone.
    Ready,
    /// It runs and is not ready.
    Unready,
    /// Nothing is said of it yet.
    Silent,
    /// It has failed for good.
    Failed,
    /// It has done its work.
    Succeeded,
    /// It is ready and, told to end, does not.
    Clings,
}

/// A repository, a node, the register.
#[derive(Clone)]
pub(super) struct Fleet {
    pub(super) input: Input,
    pub(super) memory: Memory,
    pub(super) now: Now,
    /// The last turn.
    pub(super) last: Option<Plan>,
    commits: u64,
    since_applied: Vec<CommitInfo>,
    all_commits: Vec<CommitInfo>,
    pub(super) history: Vec<Arc<Revision>>,
}

impl Fleet {
    /// One node, nothing in force.
    pub(super) fn new() -> Self {
        let network = |text: &str| text.parse().expect("a network");
        let settings = Settings {
            pod_network: network("10.244.0.0/16"),
            node_prefix: 24,
            service_network: network("10.96.0.0/16"),
            dns_ip: "10.96.0.10".parse().expect("an address"),
            node_ports: (30000, 32767),
            follows_rewrites: false,
            eviction_s: 300,
        };
        let input = Input {
            fleet: Arc::default(),
            me: NodeName::trusted(NODE),
            incarnation: "first".into(),
            lease_s: 15,
            takes_lease: false,
            writes_anew: false,
            folds_above: 50,
            not_ready_after: Duration::from_secs(40),
            settings: Arc::new(settings),
            state: State::default(),
            apps: BTreeMap::from([(Name::trusted(DEFAULT_APP), AppInput::default())]),
            nodes: BTreeMap::from([(
                NodeName::trusted(NODE),
                NodeInput { is_ready: true, ..NodeInput::default() },
            )]),
            library: Library::default(),
        };
        let now = Now {
            elapsed: Elapsed::new(Duration::from_secs(1000)),
            wall: Wall::from_seconds(1_700_000_000),
        };
        Self {
            input,
            memory: Memory::default(),
            now,
            last: None,
            commits: 0,
            since_applied: Vec::new(),
            all_commits: Vec::new(),
            history: Vec::new(),
        }
    }

    /// A fleet on which this runs and has settled.
    pub(super) fn running(manifests: &str) -> Self {
        let mut fleet = Self::new();
        fleet.push(manifests);
        fleet.settle();
        fleet
    }

    pub(super) fn app(&mut self) -> &mut AppInput {
        self.input.apps.get_mut(DEFAULT_APP).expect("the app")
    }

    /// Commits these manifests and the Namespace `shop`.
    pub(super) fn push(&mut self, manifests: &str) -> &mut Self {
        self.push_as("a change", manifests)
    }

    /// The same, with this commit message.
    pub(super) fn push_as(&mut self, message: &str, manifests: &str) -> &mut Self {
        let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
        self.push_exactly(message, &format!("{namespace}{manifests}"))
    }

    /// Commits these manifests and nothing else.
    pub(super) fn push_exactly(&mut self, message: &str, manifests: &str) -> &mut Self {
        let files: &[(&str, &str)] = &[("all.yaml", manifests)];
        let tree = Digest::of(manifests.as_bytes()).hex()[..40].to_owned();
        let revision = self.revision(message, Some(&tree), files);
        self.offer(revision);
        self
    }

    /// A commit of these files, on top of everything pushed so far.
    pub(super) fn revision(
        &mut self,
        message: &str,
        tree: Option<&str>,
        files: &[(&str, &str)],
    ) -> Revision {
        let files: sim::Files =
            files.iter().copied().map(|(path, text)| (path.to_owned(), text.to_owned())).collect();
        let (desired, findings) = sim::read(&files);
        self.commits += 1;
        let number = self.commits;
        let id = Oid::new(&Digest::of(format!("{message} {number}").as_bytes()).hex()[..40]);
        let commit = CommitInfo {
            id,
            author: "A. Developer <dev@example.com>".into(),
            time: self.now.wall,
            message: message.into(),
        };
        self.since_applied.insert(0, commit.clone());
        self.all_commits.push(commit.clone());
        let since = self.applied();
        Revision {
            commit,
            tree: tree.map(Oid::new),
            origin: "main".into(),
            relation: if since.is_some() { Relation::Descends } else { Relation::First },
            since,
            commits: self.since_applied.clone().into(),
            signer: None,
            desired: Arc::new(desired),
            findings: findings.into(),
            terms: Terms::default(),
            waves: None,
        }
    }

    /// Commits these files, `windlass.yaml` among them, and offers each app its part.
    pub(super) fn push_files(&mut self, message: &str, files: &[(&str, &str)]) -> &mut Self {
        let texts = files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned()));
        let division = sim::divide(&texts.collect());
        let template = self.revision(message, None, &[]);
        for input in self.input.apps.values_mut() {
            input.candidate = None;
        }
        for (app, offer) in offers(division, &self.input.state) {
            let since = self.input.state.base_of(&app).cloned();
            let Offer { tree, desired, findings, terms } = offer;
            let relation = if since.is_some() { Relation::Descends } else { Relation::First };
            let commit = template.commit.clone();
            let mut between: Vec<CommitInfo> = Vec::new();
            for known in self.all_commits.iter().rev() {
                if Some(&known.id) == since.as_ref() {
                    break;
                }
                between.push(known.clone());
            }
            let (commits, origin) = (between.into(), "main".into());
            let revision = Arc::new(Revision {
                commit,
                tree,
                origin,
                since,
                relation,
                commits,
                signer: None,
                desired,
                findings,
                terms,
                waves: None,
            });
            self.history.push(revision.clone());
            self.input.apps.entry(app).or_default().candidate = Some(revision);
        }
        self
    }

    /// Makes a commit the newest.
    pub(super) fn offer(&mut self, revision: Revision) {
        let revision = Arc::new(revision);
        self.history.push(revision.clone());
        self.app().candidate = Some(revision);
    }

    /// The commit in force.
    pub(super) fn applied(&self) -> Option<Oid> {
        self.head()?.applied.as_ref().map(|applied| applied.revision.clone())
    }

    pub(super) fn head(&self) -> Option<&AppHead> {
        self.input.state.apps.get(DEFAULT_APP).map(|app| &*app.head)
    }

    pub(super) fn state(&self) -> &AppState {
        &self.input.state.apps[DEFAULT_APP]
    }

    /// Plans once and takes over what was decided. Says whether anything was.
    pub(super) fn turn(&mut self) -> bool {
        self.fetch_books();
        let plan = plan(&self.input, &mut self.memory, self.now);
        let has_changed = plan.next != self.input.state;
        self.input.state = plan.next.clone();
        self.last = Some(plan);
        let applied = self.applied();
        let app = self.app();
        if app.candidate.as_ref().is_some_and(|c| Some(&c.commit.id) == applied.as_ref()) {
            app.applied = app.candidate.take();
            self.since_applied.clear();
        }
        self.adopt_parts();
        self.put_together();
        self.read_fallbacks();
        has_changed
    }

    /// Reads what is gone back to, as the agent does.
    fn read_fallbacks(&mut self) {
        let state = &self.input.state;
        for (app, input) in &mut self.input.apps {
            let head = state.apps.get(app).map(|app| &app.head);
            let goes_back = head.and_then(|head| head.failed_now()).is_some_and(|f| f.goes_back);
            let kept = head.and_then(|head| head.healthy.as_ref()).filter(|_| goes_back);
            input.fallback = kept.and_then(|kept| {
                let mut known = self.history.iter().rev();
                let is_it = |r: &&Arc<Revision>| {
                    r.terms.spec.name == *app && r.commit.id == kept.applied.revision
                };
                known.find(is_it).cloned()
            });
            // What was offered was compared with another commit than is in force now.
            if let Some(candidate) = &input.candidate
                && candidate.since.as_ref() != state.base_of(app)
            {
                let since = state.base_of(app).cloned();
                input.candidate = Some(Arc::new(Revision { since, ..Revision::clone(candidate) }));
            }
        }
    }

    /// Takes over what came into force of each app, as the agent does.
    fn adopt_parts(&mut self) {
        let state = &self.input.state;
        for (app, input) in &mut self.input.apps {
            let head = state.apps.get(app).and_then(|app| app.head.applied.as_ref());
            let is_it = |revision: &Arc<Revision>| {
                head.is_some_and(|applied| applied.revision == revision.commit.id)
            };
            if let Some(candidate) = &input.candidate {
                if is_it(candidate) {
                    input.applied = Some(candidate.clone());
                }
                if state.is_in_step(app, &candidate.commit.id) {
                    input.candidate = None;
                }
            }
            if !input.applied.as_ref().is_some_and(is_it) {
                let mut known = self.history.iter().rev();
                input.applied = known.find(|r| r.terms.spec.name == *app && is_it(r)).cloned();
            }
        }
        let is_known = |app: &Name| *app == *DEFAULT_APP || state.apps.contains_key(app);
        self.input.apps.retain(|app, _| is_known(app));
    }

    /// Finds templates and LimitRanges of earlier revisions, as the agent does in Git.
    pub(super) fn fetch_books(&mut self) {
        let mut used = std::collections::BTreeSet::new();
        let Input { state, apps, library, .. } = &self.input;
        let missing = missing_templates(state, apps, library, &mut used);
        self.input.library.keep_only(&used);
        for shelf in missing {
            let found = self.book(&shelf);
            self.input.library.put(shelf, found);
        }
    }

    fn book(&self, shelf: &Shelf) -> Option<Body> {
        let mut parts = self.history.iter().filter(|r| r.commit.id == shelf.revision);
        let object = parts.find_map(|part| part.desired.objects.get(&shelf.owner))?;
        Some(object.body.clone())
    }

    /// Lets time pass.
    pub(super) fn pass(&mut self, seconds: u64) -> &mut Self {
        let duration = Duration::from_secs(seconds);
        self.now = Now { elapsed: self.now.elapsed + duration, wall: self.now.wall + duration };
        self
    }

    /// The node does its work: each pod becomes what `mood` says of it and its image.
    pub(super) fn work_as(&mut self, mood: impl FnMut(&Binding, &str) -> Mood) {
        self.work_on(NODE, mood);
    }

    /// The same on another node.
    pub(super) fn work_on(&mut self, node: &str, mut mood: impl FnMut(&Binding, &str) -> Mood) {
        let node = NodeName::trusted(node);
        let before = self.input.nodes[&node].pods.clone();
        let mut reports = BTreeMap::new();
        for binding in self.input.state.pods_of(&node).into_iter().flat_map(|pods| pods.values()) {
            let image = self.image(&binding.template);
            let mood = mood(binding, &image);
            if let Some(report) = report(binding, mood, before.get(&binding.uid)) {
                reports.insert(binding.uid.clone(), Arc::new(report));
            }
        }
        self.input.nodes.get_mut(&node).expect("the node").pods = Arc::new(reports);
    }

    /// The node does its work as the images say.
    pub(super) fn work(&mut self) {
        self.work_as(|_, image| if image.starts_with("bad") { Mood::Unready } else { Mood::Ready });
    }

    /// Every node that is heard of does its work as the images say.
    pub(super) fn work_everywhere(&mut self) {
        let heard = self.input.nodes.iter().filter(|(_, node)| node.silence.lasts.is_zero());
        let heard: Vec<NodeName> = heard.map(|(name, _)| name.clone()).collect();
        for node in heard {
            self.work_on(node.as_str(), |_, image| match image.starts_with("bad") {
                true => Mood::Unready,
                false => Mood::Ready,
            });
        }
    }

    /// Turns and work of every node that is heard of, until nothing changes any more.
    pub(super) fn settle_everywhere(&mut self) {
        for _ in 0..300 {
            let before = (self.input.state.clone(), self.reports());
            self.turn();
            self.work_everywhere();
            self.pass(1);
            if (self.input.state.clone(), self.reports()) == before {
                return;
            }
        }
        panic!("it does not settle; the last turn: {:?}", self.last.as_ref().map(|p| &p.why));
    }

    fn reports(&self) -> Vec<Arc<BTreeMap<Uid, Arc<PodReport>>>> {
        self.input.nodes.values().map(|node| node.pods.clone()).collect()
    }

    /// Turns and work until nothing changes any more.
    pub(super) fn settle(&mut self) {
        /// More than any roll-out of a test takes.
        const ROUNDS_MAX: u32 = 300;
        for _ in 0..ROUNDS_MAX {
            let has_changed = self.turn();
            let reports = self.input.nodes[NODE].pods.clone();
            self.work();
            if has_changed || self.input.nodes[NODE].pods != reports {
                self.pass(1);
                continue;
            }
            let wake = self.last.as_ref().and_then(|plan| plan.wake);
            match wake {
                Some(wake) => {
                    let wait = wake.since(self.now.elapsed).max(Duration::from_secs(1));
                    self.pass(wait.as_secs());
                }
                None => return,
            }
        }
        panic!("it does not settle; the last turn: {:?}", self.last.as_ref().map(|p| &p.why));
    }

    /// Turns and work, and how the sets of a Deployment stood after each turn that changed them.
    pub(super) fn steps(&mut self, deployment: &str) -> String {
        let mut steps = Vec::new();
        for _ in 0..100 {
            let has_changed = self.turn();
            let step = self.sets(deployment);
            if steps.last() != Some(&step) {
                steps.push(step);
            }
            self.work();
            self.pass(1);
            if !has_changed {
                break;
            }
        }
        steps.join(" | ")
    }

    /// What a template runs.
    pub(super) fn image(&self, reference: &TemplateRef) -> String {
        let book = self.book(&Shelf::of(reference));
        let template = book.as_ref().and_then(Body::template);
        template.map(|template| template.spec.containers[0].image.clone()).unwrap_or_default()
    }

    /// The sets of a Deployment, oldest first.
    pub(super) fn set_records(&self, deployment: &str) -> Vec<(&RecordKey, &SetRecord)> {
        let mut sets: Vec<_> = self
            .state()
            .sets
            .iter()
            .filter(|(_, set)| set.deployment == *deployment)
            .map(|(key, set)| (key, &**set))
            .collect();
        sets.sort_by_key(|(_, set)| set.sequence);
        sets
    }

    /// `v1=2 v2=1`: how many pods each set of a Deployment is to have, oldest first.
    pub(super) fn sets(&self, deployment: &str) -> String {
        let sets = self.set_records(deployment);
        let words: Vec<String> = sets
            .iter()
            .map(|(_, set)| format!("{}={}", self.image(&set.template), set.replicas))
            .collect();
        words.join(" ")
    }

    /// Every binding whose manifest has this name, oldest first.
    pub(super) fn bindings(&self, manifest: &str) -> Vec<Arc<Binding>> {
        let all = self.input.state.all_pods().map(|(_, binding)| binding);
        let mut found: Vec<Arc<Binding>> =
            all.filter(|b| b.template.owner.name == *manifest).cloned().collect();
        found.sort_by_key(|binding| binding.sequence);
        found
    }

    /// `v1=2 v2=1 leaving=1`: the pods of a manifest.
    pub(super) fn pods(&self, manifest: &str) -> String {
        let mut counts: BTreeMap<String, u32> = BTreeMap::new();
        let mut leaving = 0;
        for binding in self.bindings(manifest) {
            if binding.deletion.is_some() {
                leaving += 1;
            } else {
                *counts.entry(self.image(&binding.template)).or_default() += 1;
            }
        }
        let mut words: Vec<String> =
            counts.iter().map(|(i, count)| format!("{i}={count}")).collect();
        if leaving > 0 {
            words.push(format!("leaving={leaving}"));
        }
        words.join(" ")
    }

    /// `a:v1 b:v1! b:v2?`: a DaemonSet's pods by node, the older first, marked as in [`Self::seats`].
    pub(super) fn lamps(&self, name: &str) -> String {
        let mut pods = self.bindings(name);
        pods.sort_by(|one, other| one.only_node.cmp(&other.only_node));
        let lamps = pods.iter().map(|pod| {
            let node = pod.only_node.as_ref().expect("a node");
            let place = self.input.state.all_pods().find(|(_, other)| other.uid == pod.uid);
            let is_placed = place.and_then(|(place, _)| place.as_ref()) == Some(node);
            let said = self.input.nodes.get(node).and_then(|node| node.pods.get(&pod.uid));
            let mark = match (&pod.deletion, said.is_some_and(|said| said.status.is_ready())) {
                (Some(_), _) => "!",
                (None, true) => "",
                (None, false) if is_placed => "?",
                (None, false) => "…",
            };
            format!("{node}:{}{mark}", self.image(&pod.template))
        });
        lamps.collect::<Vec<_>>().join(" ")
    }

    /// `0:v1 1:v2? 2:v1!`: a StatefulSet's pods by number and image; `?` is not ready, `!` is being
    /// ended.
    pub(super) fn seats(&self, name: &str) -> String {
        let mut pods = self.bindings(name);
        pods.sort_by_key(|pod| pod.index);
        let seats = pods.iter().map(|pod| {
            let number = pod.index.expect("a number");
            assert_eq!(pod.key.name.as_str(), format!("{name}-{number}"));
            let said = self.input.nodes.values().find_map(|node| node.pods.get(&pod.uid));
            let mark = match (&pod.deletion, said.is_some_and(|said| said.status.is_ready())) {
                (Some(_), _) => "!",
                (None, true) => "",
                (None, false) => "?",
            };
            format!("{number}:{}{mark}", self.image(&pod.template))
        });
        seats.collect::<Vec<_>>().join(" ")
    }

    /// Turns and work, and how a StatefulSet's pods were after each turn that changed them.
    pub(super) fn seatings(&mut self, name: &str) -> Vec<String> {
        let mut steps = vec![self.seats(name)];
        for _ in 0..100 {
            let has_changed = self.turn();
            let step = self.seats(name);
            if steps.last() != Some(&step) {
                steps.push(step);
            }
            self.work();
            self.pass(1);
            if !has_changed && steps.last() == Some(&self.seats(name)) {
                break;
            }
        }
        steps
    }

    /// The names of a manifest's pods that are to stay, in order of name.
    pub(super) fn names(&self, manifest: &str) -> Vec<String> {
        let staying = self.bindings(manifest).into_iter().filter(|b| b.deletion.is_none());
        let mut names: Vec<String> = staying.map(|b| b.key.name.to_string()).collect();
        names.sort();
        names
    }

    /// The uids of a manifest's pods that are to stay.
    pub(super) fn uids(&self, manifest: &str) -> Vec<Uid> {
        let staying = self.bindings(manifest).into_iter().filter(|b| b.deletion.is_none());
        staying.map(|b| b.uid.clone()).collect()
    }

    /// What is remembered of a Deployment.
    pub(super) fn record(&self, deployment: &str) -> &DeploymentRecord {
        let key = RecordKey::new(&Name::trusted("shop"), &Name::trusted(deployment));
        &self.state().deployments[&key]
    }

    /// A Deployment's id and those of its sets, by the books of an app.
    pub(super) fn record_of(&self, app: &str, deployment: &str) -> Option<(Uid, Vec<Uid>)> {
        let state = self.input.state.apps.get(app)?;
        let (shop, name) = (Name::trusted("shop"), Name::trusted(deployment));
        let key = Key::namespaced(crate::kinds::registry::Kind::Deployment, &shop, &name);
        let sets = state.sets.values().filter(|set| set.deployment == name);
        Some((state.entry(&key)?.uid.clone(), sets.map(|set| set.uid.clone()).collect()))
    }

    /// What was given to a Service: `10.96.3.4 30080`.
    pub(super) fn allocation(&self, name: &str) -> (Option<String>, Vec<u16>) {
        let found = self.input.state.service(&Name::trusted("shop"), &Name::trusted(name));
        let found = found.cloned().unwrap_or_default();
        let address = found.cluster_ip.map(|ip| ip.to_string());
        (address, found.node_ports.values().copied().collect())
    }

    /// The newest event with this reason.
    pub(super) fn event(&self, reason: &str) -> Option<String> {
        let events = self.input.state.events.iter().rev();
        events
            .into_iter()
            .find(|e| e.reason == reason)
            .map(|e| format!("{}: {}", e.about, e.message))
    }
}

fn report(binding: &Binding, mood: Mood, before: Option<&Arc<PodReport>>) -> Option<PodReport> {
    let is_leaving = binding.deletion.is_some();
    let (phase, ready) = match mood {
        Mood::Silent => return before.map(|report| PodReport::clone(report)),
        Mood::Ready | Mood::Clings => (Phase::Running, true),
        Mood::Unready => (Phase::Running, false),
        Mood::Failed => (Phase::Failed, false),
        Mood::Succeeded => (Phase::Succeeded, false),
    };
    let condition = PodCondition {
        kind: CONDITION_READY.into(),
        status: Truth::from(ready),
        last_transition_time: None,
        reason: None,
        message: None,
    };
    Some(PodReport {
        key: binding.key.clone(),
        uid: binding.uid.clone(),
        status: PodStatus { phase, conditions: vec![condition], ..PodStatus::default() },
        ending: None,
        gone: is_leaving && mood != Mood::Clings,
    })
}

/// A manifest in `shop`: its kind, name, and what follows `metadata`.
pub(super) fn manifest(version: &str, kind: &str, name: &str, rest: &str) -> String {
    format!(
        "---\napiVersion: {version}\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\n{rest}\n"
    )
}

/// A pod template in `shop`, labelled `app: <name>`.
fn template(name: &str, image: &str) -> String {
    format!(
        "  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec: \
         {{terminationGracePeriodSeconds: 10, containers: [{{name: main, image: \"{image}\"}}]}}"
    )
}

/// A Deployment; `more` are further fields of its spec, in flow style, with commas between.
pub(super) fn deployment(name: &str, replicas: u32, image: &str, more: &str) -> String {
    let more: String = more.split(';').map(|field| format!("  {}\n", field.trim())).collect();
    let template = template(name, image);
    let spec = format!(
        "spec:\n  replicas: {replicas}\n  selector: {{matchLabels: {{app: {name}}}}}\n{more}{template}"
    );
    manifest("apps/v1", "Deployment", name, &spec)
}

/// A StatefulSet; `more` as with a Deployment.
pub(super) fn stateful_set(name: &str, replicas: u32, image: &str, more: &str) -> String {
    let more: String = more.split(';').map(|field| format!("  {}\n", field.trim())).collect();
    let template = template(name, image);
    let spec = format!(
        "spec:\n  serviceName: {name}\n  replicas: {replicas}\n  selector: {{matchLabels: {{app: \
         {name}}}}}\n{more}{template}"
    );
    manifest("apps/v1", "StatefulSet", name, &spec)
}

/// A DaemonSet; `more` as with a Deployment, `pod` are further fields of its pods.
pub(super) fn daemon_set(name: &str, image: &str, more: &str, pod: &str) -> String {
    let more: String = more.split(';').map(|field| format!("  {}\n", field.trim())).collect();
    let template = format!(
        "  template:\n    metadata: {{labels: {{app: {name}}}}}\n    spec: {{{pod} containers: \
         [{{name: main, image: \"{image}\"}}]}}"
    );
    let spec = format!("spec:\n  selector: {{matchLabels: {{app: {name}}}}}\n{more}{template}");
    manifest("apps/v1", "DaemonSet", name, &spec)
}

/// A ReplicaSet with this selector.
pub(super) fn replica_set(name: &str, replicas: u32, image: &str, selector: &str) -> String {
    let template = template(name, image);
    let spec = format!("spec:\n  replicas: {replicas}\n  selector: {selector}\n{template}");
    manifest("apps/v1", "ReplicaSet", name, &spec)
}

/// A Pod with these labels.
pub(super) fn pod(name: &str, image: &str, labels: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: {name}, namespace: shop, labels: \
         {{{labels}}}}}\nspec: {{containers: [{{name: main, image: \"{image}\"}}]}}\n"
    )
}

/// A Service; `spec` in flow style.
pub(super) fn service(name: &str, spec: &str) -> String {
    manifest("v1", "Service", name, &format!("spec: {{{spec}}}"))
}

/// The key of a manifest in `shop`.
pub(super) fn key(kind: crate::kinds::registry::Kind, name: &str) -> Key {
    Key::namespaced(kind, &Name::trusted("shop"), &Name::trusted(name))
}

/// The key of a pod in `shop`.
pub(super) fn pod_key(name: &str) -> PodKey {
    PodKey::new(&Name::trusted("shop"), &Name::trusted(name))
}

/// What a revision says of a Deployment.
pub(super) fn spec_of(
    fleet: &Fleet,
    name: &str,
) -> Option<Arc<crate::kinds::workload::Deployment>> {
    let applied = fleet.input.apps.get(DEFAULT_APP)?.applied.as_ref()?;
    let key = key(crate::kinds::registry::Kind::Deployment, name);
    match &applied.desired.objects.get(&key)?.body {
        Body::Deployment(spec) => Some(spec.clone()),
        _ => None,
    }
}
