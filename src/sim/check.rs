//! What must hold at every step, and what must hold in the end.
//!
//! After a step only the machines are looked at that it touched: nothing else can have changed, and
//! looking at hundreds after each of their millions of steps would be most of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::agent::Agent;
use crate::kinds::binding::{AppName, Binding, DEFAULT_APP, Generation, Oid};
use crate::kinds::name::{Name, NodeName, PodKey, Uid};
use crate::kinds::object::{Body, Key};
use crate::kinds::registry::Kind;
use crate::kinds::storage::Reclaim;
use crate::kinds::time::Wall;
use crate::plan::{Revision, Terms};
use crate::ports::runtime::{ContainerSeen, Role};
use crate::ports::source::{CommitInfo, Relation};
use crate::ports::store::{Register, Tree};
use crate::state::State;
use crate::state::records::{Verdict, Waves};

use super::{Machine, World};

/// Something that must never be.
pub type Violation = String;

/// Remembers what was seen before, for what may only grow.
#[derive(Debug, Default)]
pub struct Safety {
    /// Whether the manifests are somebody's own: then nothing follows from how they call things.
    is_of_anything: bool,
    generation: Generation,
    /// The decision that was read last.
    known: Option<(Tree, Arc<State>)>,
    last_write: usize,
    /// Pods of which there must never be two, whatever is done to the store.
    identities: BTreeSet<Uid>,
    /// Pods whose node a person declared dead, whether it was or not.
    declared_dead: BTreeSet<Uid>,
    jobs: super::check_jobs::JobsSeen,
    /// Pods that run, by node.
    running: BTreeMap<NodeName, BTreeSet<(PodKey, Uid)>>,
    /// Directories that outlive their pods, by node.
    kept: BTreeMap<NodeName, BTreeSet<String>>,
    /// Volumes whose data was to be removed, by a decision that was written.
    doomed: BTreeSet<Name>,
    leaders: BTreeSet<NodeName>,
    restores: usize,
    /// When the store was restored last, and how often by then.
    restored: (usize, Duration),
    /// What each agent has acted on, in which life.
    acted: BTreeMap<NodeName, (u64, Generation)>,
}

/// So long after a restore whoever led may go on believing so: the lease's duration since it last saw
/// the coordinator's register as it had left it, and once more since its last sign of life.
const UNAWARE: Duration = Duration::from_secs(30);

impl Safety {
    /// For manifests that are not those of the scenarios.
    pub(super) fn of_anything() -> Self {
        Self { is_of_anything: true, ..Self::default() }
    }

    /// Checks what must hold at every step.
    pub fn check(&mut self, world: &World) -> Result<(), Violation> {
        for node in &world.touched {
            let Some(machine) = world.machines.get(node) else {
                continue;
            };
            nobody_spins(world, node, machine)?;
            no_container_twice(node, machine)?;
            one_address_one_pod(node, machine)?;
            self.nobody_goes_back(node, machine)?;
        }
        self.one_coordinator(world)?;
        one_writer_per_ref(world)?;
        if !self.is_of_anything {
            super::check_ends::check(world)?;
        }
        self.data_is_kept(world)?;
        self.decisions_only_grow(world)?;
        self.no_identity_twice(world)
    }

    /// Nobody believes that it leads while another does. Not asked where agents are made to. One that
    /// nothing happens to may cease to lead, as time passes, but not begin.
    ///
    /// Who led when the store was restored can't know it before it looks or is refused, and neither can
    /// another know of it who boots and finds its own lease there: for so long both may believe it.
    /// Only one of them can write (docs/DESIGN.md, Hard cases 27).
    fn one_coordinator(&mut self, world: &World) -> Result<(), Violation> {
        let leads = |node: &NodeName| {
            world.machines.get(node).is_some_and(|machine| {
                let now = machine.now(world.time);
                !machine.always_leads
                    && machine.agent().is_some_and(|agent| agent.is_coordinator(now))
            })
        };
        for node in &world.touched {
            if leads(node) {
                self.leaders.insert(node.clone());
            }
        }
        if self.leaders.len() > 1 {
            self.leaders.retain(leads);
        }
        if self.restored.0 != world.store.restores {
            self.restored = (world.store.restores, world.time);
        }
        let (count, at) = self.restored;
        if count > 0 && world.time < at + UNAWARE {
            return Ok(());
        }
        let mut leaders = self.leaders.iter();
        match (leaders.next(), leaders.next()) {
            (Some(one), Some(other)) => Err(format!("{one} and {other} both lead")),
            _ => Ok(()),
        }
    }

    /// No agent follows an older decision than it has followed.
    fn nobody_goes_back(&mut self, node: &NodeName, machine: &Machine) -> Result<(), Violation> {
        let Some(now) = machine.agent().and_then(Agent::follows) else {
            return Ok(());
        };
        let life = machine.process();
        let before = self.acted.get(node).filter(|(before, _)| *before == life);
        let before = before.map(|(_, generation)| *generation).unwrap_or_default();
        if now < before {
            return Err(format!("{node} follows {now} after {before}"));
        }
        if now > before {
            self.acted.insert(node.clone(), (life, now));
        }
        Ok(())
    }

    /// An older generation changes nothing: the register's number only rises, by one with each write.
    fn decisions_only_grow(&mut self, world: &World) -> Result<(), Violation> {
        let count = world.store.decisions();
        if count == self.last_write {
            return Ok(());
        }
        let Some(tree) = world.store.tree(&Register::Coordinator) else {
            return Ok(());
        };
        self.last_write = count;
        let state = tree.read_as(|| match &self.known {
            Some((before, known)) => State::decode_after((before, known), tree),
            None => State::decode(tree),
        });
        let state = state.map_err(|fault| fault.to_string())?;
        self.known = Some((tree.clone(), Arc::clone(&state)));
        if std::mem::replace(&mut self.restores, world.store.restores) != world.store.restores {
            // Whoever had not seen what came after the backup can't tell that there was any.
            self.generation = Generation::default();
            self.jobs = super::check_jobs::JobsSeen::default();
        }
        if state.generation <= self.generation {
            return Err(format!("{} was written after {}", state.generation, self.generation));
        }
        self.generation = state.generation;
        let identities = state.all_pods().filter(|(_, pod)| pod.is_identity());
        self.identities.extend(identities.map(|(_, pod)| pod.uid.clone()));
        let fences = state.nodes.values().filter_map(|node| node.fenced.as_ref());
        self.declared_dead.extend(fences.flat_map(|fence| fence.pods.iter().cloned()));
        no_name_twice(&state)?;
        no_object_twice(&state)?;
        if !self.is_of_anything {
            pods_are_with_their_data(&state)?;
        }
        self.doom(&state)?;
        self.jobs.check(&state)?;
        budgets_hold(&state)
    }

    /// No two pods of one name run, on whatever machines. A person who declares a node dead answers
    /// for it (docs/DESIGN.md, Hard cases 2). So does one who sets the store back, for pods whose names
    /// are chance: what the store has forgotten runs on until its node has read so. Not for those with
    /// names of their own (27).
    fn no_identity_twice(&mut self, world: &World) -> Result<(), Violation> {
        let mut is_news = false;
        for node in &world.touched {
            let running = world.machines.get(node).map(running_pods).unwrap_or_default();
            let before = self.running.get(node);
            if before.is_none_or(|before| *before != running) {
                is_news = true;
                self.running.insert(node.clone(), running);
            }
        }
        // Where nothing has begun, nothing runs twice that did not before.
        if !is_news {
            return Ok(());
        }
        let is_restored = world.store.restores > 0;
        let mut alive: BTreeMap<&PodKey, (&NodeName, &Uid)> = BTreeMap::new();
        for (node, pods) in &self.running {
            let is_excused = |uid: &Uid| is_restored && !self.identities.contains(uid);
            let counted = pods
                .iter()
                .filter(|(_, uid)| !is_excused(uid) && !self.declared_dead.contains(uid));
            for (pod, uid) in counted {
                if let Some((other, _)) = alive.insert(pod, (node, uid)) {
                    return Err(format!("pod {pod} runs on {other} and on {node}"));
                }
            }
        }
        Ok(())
    }
}

/// The pods of which a program runs on a machine, each with its life.
pub(super) fn running_pods(machine: &Machine) -> BTreeSet<(PodKey, Uid)> {
    let running = machine.runtime.containers().filter(|container| container.is_running());
    let programs = running.filter(|container| matches!(container.marks.role, Role::App(_)));
    programs.map(|its| (its.marks.pod.clone(), its.marks.uid.clone())).collect()
}

impl Safety {
    /// Data is removed only after it was decided, and that only where its class says so.
    fn doom(&mut self, state: &State) -> Result<(), Violation> {
        for (name, volume) in state.volumes.iter().filter(|(_, its)| its.leaving.is_some()) {
            let goes = volume.made.as_ref().is_some_and(|made| made.reclaim == Reclaim::Delete);
            if !goes || !volume.is_released {
                return Err(format!("volume {name} is to be emptied: {volume:?}"));
            }
            self.doomed.insert(name.clone());
        }
        Ok(())
    }

    fn data_is_kept(&mut self, world: &World) -> Result<(), Violation> {
        for node in &world.touched {
            let Some(machine) = world.machines.get(node) else {
                continue;
            };
            let before = self.kept.entry(node.clone()).or_default();
            if *before == machine.kept {
                continue;
            }
            let gone = before.difference(&machine.kept);
            for directory in gone {
                let volume = directory.split('_').next().unwrap_or_default();
                if !self.doomed.contains(volume) {
                    return Err(format!("{node}: {directory} is gone, and nobody decided that"));
                }
            }
            before.clone_from(&machine.kept);
        }
        Ok(())
    }
}

/// A pod is bound to the node that has the data of its claim. In the scenario the claim that a
/// workload's pods share has its name, and one that a pod has for itself is called `data`.
fn pods_are_with_their_data(state: &State) -> Result<(), Violation> {
    for (node, pod) in state.all_pods() {
        let shared = state.claim(&pod.key.namespace, &pod.template.owner.name);
        let own = state.claim(&pod.key.namespace, &pod.claim_name(&Name::trusted("data")));
        let claim = shared.or(own.filter(|_| pod.is_identity()));
        let volume = claim.and_then(|claim| state.volumes.get(claim.volume.as_ref()?));
        let has_data = volume.and_then(|volume| volume.node.as_ref());
        if let (Some(node), Some(has_data)) = (node, has_data)
            && node != has_data
        {
            return Err(format!("pod {} is bound to {node}, its data is on {has_data}", pod.key));
        }
    }
    Ok(())
}

/// The coordinator's register.
pub fn decoded(world: &World) -> Result<Arc<State>, Violation> {
    match world.store.tree(&Register::Coordinator) {
        None => Ok(Arc::default()),
        Some(tree) => tree.read_as(|| State::decode(tree)).map_err(|fault| fault.to_string()),
    }
}

/// No agent is woken again and again for nothing.
fn nobody_spins(world: &World, node: &NodeName, machine: &Machine) -> Result<(), Violation> {
    /// Timers of several parts may fall together and all find nothing to do; more than this is a
    /// timer that is never reset.
    const IDLE_WAKES_MAX: u32 = 30;
    if machine.idle_wakes <= IDLE_WAKES_MAX {
        return Ok(());
    }
    let now = machine.now(world.time).elapsed;
    let wakes = machine.agent().map(crate::agent::Agent::wakes);
    Err(format!("{node}: the agent spins at {now:?}: {wakes:?}"))
}

/// No container of a pod runs twice.
fn no_container_twice(node: &NodeName, machine: &Machine) -> Result<(), Violation> {
    let mut running: BTreeSet<(&Uid, &Role)> = BTreeSet::new();
    for container in machine.runtime.containers().filter(|c| c.is_running()) {
        let marks = &container.marks;
        if !running.insert((&marks.uid, &marks.role)) {
            return Err(format!("{node}: {:?} of pod {} runs twice", marks.role, marks.pod));
        }
    }
    Ok(())
}

/// A node's register is written by that node alone.
fn one_writer_per_ref(world: &World) -> Result<(), Violation> {
    let stranger = world.store.writers().last().filter(|(register, writer)| match register {
        Register::Node(node) => node != writer,
        Register::Coordinator => false,
    });
    stranger.map_or(Ok(()), |(register, writer)| Err(format!("{writer} wrote {register}")))
}

/// No two sandboxes have one address.
fn one_address_one_pod(node: &NodeName, machine: &Machine) -> Result<(), Violation> {
    let mut owners: BTreeMap<std::net::Ipv4Addr, &ContainerSeen> = BTreeMap::new();
    for pause in machine.runtime.containers().filter(|c| c.is_running()) {
        let Some(ip) = pause.marks.ip else { continue };
        if let Some(other) = owners.insert(ip, pause) {
            let (one, two) = (&other.marks.pod, &pause.marks.pod);
            return Err(format!("{node}: {one} and {two} both have {ip}"));
        }
    }
    Ok(())
}

/// No object is in force in two apps.
fn no_object_twice(state: &State) -> Result<(), Violation> {
    let mut seen = BTreeSet::new();
    for (app, state) in &state.apps {
        for (key, _) in state.objects() {
            if !seen.insert(key.clone()) {
                return Err(format!("{key} is in force in app {app} and in another"));
            }
        }
    }
    Ok(())
}

/// No pod's name, and no uid, stands in two places.
fn no_name_twice(state: &State) -> Result<(), Violation> {
    let (mut names, mut uids) = (BTreeSet::new(), BTreeSet::new());
    for (_, pod) in state.all_pods() {
        if !names.insert(&pod.key) || !uids.insert(&pod.uid) {
            return Err(format!("pod {} is bound twice", pod.key));
        }
    }
    Ok(())
}

/// No Deployment asks for more pods than its surge allows.
fn budgets_hold(state: &State) -> Result<(), Violation> {
    for app in state.apps.values() {
        let mut totals: BTreeMap<String, (u32, u32)> = BTreeMap::new();
        for (key, set) in &app.sets {
            let name = format!("{}/{}", key.namespace, set.deployment);
            let entry = totals.entry(name).or_default();
            entry.0 += set.replicas;
            entry.1 = entry.1.max(set.max);
        }
        for (name, (total, max)) in totals {
            if total > max {
                return Err(format!("Deployment {name} asks for {total} pods and may have {max}"));
            }
        }
    }
    Ok(())
}

/// Whether what runs is what the newest good commit says; otherwise what is missing.
pub fn settled(world: &World) -> Result<(), String> {
    let state = decoded(world)?;
    let mut wanted = BTreeMap::new();
    for app in apps_of(world, &state) {
        let head = state.apps.get(&app).map(|app| &app.head);
        let applied = head.and_then(|head| head.applied.as_ref());
        let applied = applied.ok_or_else(|| format!("nothing is in force of app {app}"))?;
        in_force_is_good(world, &state, &app, &applied.revision)?;
        let waves = head.and_then(|head| head.waves_now());
        if let Some(waves) = waves.filter(|_| !is_ill(world, &applied.revision, &app)) {
            return Err(format!("of app {app} only {waves} is in force"));
        }
        let canary = head.and_then(|head| head.canary_now());
        if let Some(canary) = canary.filter(|_| !is_ill(world, &applied.revision, &app)) {
            return Err(format!("the rest of app {app} is held back: {canary}"));
        }
        let Some(in_force) = in_force(world, &app, &applied.revision, waves) else {
            return Err(format!("what is in force of app {app} can't be put together"));
        };
        wanted.extend(wanted_pods(world, &in_force));
    }
    if let Some((node, _)) = state.nodes.iter().find(|(_, node)| node.is_away()) {
        return Err(format!("node {node} is lost, or was declared dead"));
    }
    if let Some(node) = world.machines.keys().find(|node| !state.nodes.contains_key(*node)) {
        return Err(format!("node {node} has not joined"));
    }
    if let Some((_, pod)) = state.all_pods().find(|(_, pod)| pod.deletion.is_some()) {
        return Err(format!("pod {} is still ending", pod.key));
    }
    for (owner, wanted) in &wanted {
        let bound = state.all_pods().filter(|(_, p)| p.template.owner == *owner);
        let bound: Vec<_> = bound.collect();
        if !wanted.bounds(bound.len()).contains(&bound.len()) {
            let count = wanted.count;
            return Err(format!("{owner} has {} pods, {count} are wanted", bound.len()));
        }
        let image = &wanted.image;
        for (node, pod) in bound {
            let Some(node) = node else {
                return Err(format!("pod {} has no node", pod.key));
            };
            if wanted.arrives && !is_running(world, node, &pod.uid, image) {
                return Err(format!("pod {} does not run {image}", pod.key));
            }
        }
    }
    super::check_jobs::have_ended(&state)?;
    nothing_else(world, &state, &wanted)
}

/// What a workload asks for.
struct Wanted {
    count: usize,
    image: String,
    kind: Kind,
    /// Whether all its pods come to run its image.
    arrives: bool,
}

impl Wanted {
    /// How many pods it may have in the end, of which there are so many.
    fn bounds(&self, found: usize) -> std::ops::RangeInclusive<usize> {
        let count = self.count;
        match self.kind {
            // A roll-out to an image that never runs stands still within its surge, beside pods of
            // the image before: that is its end. One that was held back from its first pod on has none.
            Kind::Deployment if !self.arrives && found > 0 => count..=count + count.div_ceil(4),
            Kind::Deployment if !self.arrives => 0..=count,
            Kind::DaemonSet if !self.arrives => count..=count + count.div_ceil(4),
            // It makes no further pod while one does not come up.
            Kind::StatefulSet if !self.arrives => count.min(1)..=count,
            _ => count..=count,
        }
    }
}

pub(super) fn runs_well(image: &str) -> bool {
    ["run", "slow", "deaf"].iter().any(|word| image.contains(word))
}

fn is_running(world: &World, node: &crate::kinds::name::NodeName, uid: &Uid, image: &str) -> bool {
    world.machines.get(node).is_some_and(|machine| {
        machine.runtime.containers().any(|container| {
            container.marks.uid == *uid
                && container.is_running()
                && matches!(container.marks.role, Role::App(_))
                && container.image_id.contains(image)
        })
    })
}

/// Nothing is left that nobody asked for: no stray container, link or file.
fn nothing_else(
    world: &World,
    state: &State,
    wanted: &BTreeMap<Key, Wanted>,
) -> Result<(), String> {
    let is_asked_for =
        |pod: &Binding| pod.owner.kind == Kind::Job || wanted.contains_key(&pod.template.owner);
    let stray = state.all_pods().find(|(_, pod)| !is_asked_for(pod));
    if let Some((_, pod)) = stray {
        return Err(format!("pod {} is bound, and nobody asks for it", pod.key));
    }
    let uids: BTreeSet<&Uid> = state.all_pods().map(|(_, pod)| &pod.uid).collect();
    let links: BTreeSet<String> = uids.iter().map(|uid| crate::node::link_name(uid)).collect();
    for (node, machine) in &world.machines {
        if let Some(stray) = machine.runtime.containers().find(|c| !uids.contains(&c.marks.uid)) {
            return Err(format!("{node}: a container of {} is left", stray.marks.pod));
        }
        if let Some(stray) = machine.files.iter().find(|uid| !uids.contains(uid)) {
            return Err(format!("{node}: files of {stray} are left"));
        }
        if let Some(stray) = machine.links.iter().find(|link| !links.contains(*link)) {
            return Err(format!("{node}: link {stray} is left"));
        }
        if machine.rules.is_none() {
            return Err(format!("{node}: no rules are in force"));
        }
    }
    Ok(())
}

/// The apps that there are, or should be: the newest commit's, if it has a word for them.
fn apps_of(world: &World, state: &State) -> BTreeSet<AppName> {
    let tip = world.remote.tip().and_then(|tip| world.remote.files(tip));
    let listed = tip.map(|files| super::divide(files).parts).unwrap_or_default();
    let is_whole = listed.len() == 1;
    let with_a_word = listed.into_iter().filter(|part| {
        is_whole || part.spec.name != *DEFAULT_APP || !part.desired.objects.is_empty()
    });
    with_a_word.map(|part| part.spec.name).chain(state.apps.keys().cloned()).collect()
}

/// Whether a file belongs to an app, in a repository of the scenario.
fn belongs(files: &super::Files, path: &str, app: &AppName) -> bool {
    let is_divided = is_divided(files);
    let directory = path.split_once('/').map(|(directory, _)| directory);
    let owner = directory.filter(|_| is_divided).unwrap_or(DEFAULT_APP);
    *app == *owner && path != "windlass.yaml"
}

/// Whether an app may rightly have an older revision than the newest: one app of the scenarios goes
/// back from what does not run, or did not in its time because of what befell the machines; one waits
/// for what runs, and is not in force where what it depends on is refused; and what moves between them
/// waits for both.
fn may_lag(world: &World, state: &State, tip: &Oid, app: &AppName) -> bool {
    let waiting = state.apps.values().filter_map(|app| app.head.waiting.as_ref());
    let mut verdicts = waiting.map(|waiting| &waiting.verdict);
    if verdicts.any(|verdict| matches!(verdict, Verdict::Reverted(_))) {
        return true;
    }
    let of_all = files_of(world, tip, &AppName::trusted(DEFAULT_APP));
    if *app == *super::shop::DEPENDENT && of_all.values().any(|text| text.contains("# bad")) {
        return true;
    }
    let files = world.remote.files(tip);
    files.is_some_and(|files| is_divided(files) && files.values().any(|text| text_is_ill(text)))
}

/// What never runs, or ends badly: a Deployment's program as well as a Job's. Or what somebody has
/// paused, which does not become healthy by itself either.
fn text_is_ill(text: &str) -> bool {
    ["\"crash:", "\"missing:", "paused: true"].iter().any(|word| text.contains(word))
}

fn is_divided(files: &super::Files) -> bool {
    files.get("windlass.yaml").is_some_and(|text| text.contains("apps:"))
}

/// What a commit says of an app.
pub(super) fn files_of(world: &World, commit: &Oid, app: &AppName) -> super::Files {
    let files = world.remote.files(commit).cloned().unwrap_or_default();
    let own = files.iter().filter(|(path, _)| belongs(&files, path, app));
    own.map(|(path, text)| (path.clone(), text.clone())).collect()
}

/// What may be in force of an app: what the newest commit says of it, if nothing is wrong with that.
/// Otherwise what was, which may be the word of any commit before without errors: only what was once
/// the branch's newest was looked at, and two pushes may come between two looks.
fn in_force_is_good(
    world: &World,
    state: &State,
    app: &AppName,
    in_force: &Oid,
) -> Result<(), String> {
    let is_bad = |text: &String| text.contains("# bad");
    let found = files_of(world, in_force, app);
    let mut at = world.remote.tip().cloned();
    while let Some(commit) = at {
        at = world.remote.parent(&commit);
        let settings = world.remote.files(&commit).and_then(|files| files.get("windlass.yaml"));
        let files = files_of(world, &commit, app);
        if settings.is_some_and(is_bad) || files.values().any(is_bad) {
            continue;
        }
        if files == found {
            return Ok(());
        }
        if world.remote.tip() == Some(&commit) && !may_lag(world, state, &commit, app) {
            break;
        }
    }
    let waiting = state.apps.get(app).and_then(|app| app.head.waiting.as_ref());
    let why = waiting.map(|waiting| (&waiting.revision, &waiting.verdict));
    let newest = world.remote.tip();
    Err(format!("{in_force:?} of app {app} is in force, newest is {newest:?}; waiting: {why:?}"))
}

/// Whether anything of an app never becomes healthy: then waves after it rightly never come.
fn is_ill(world: &World, commit: &Oid, app: &AppName) -> bool {
    files_of(world, commit, app).values().any(|text| text_is_ill(text))
}

/// What is in force of an app, put together anew from the commits alone.
pub(super) fn in_force(
    world: &World,
    app: &AppName,
    commit: &Oid,
    waves: Option<&Waves>,
) -> Option<Arc<Revision>> {
    let read = |commit: &Oid| {
        let parts = super::divide(world.remote.files(commit)?).parts;
        let part = parts.into_iter().find(|part| part.spec.name == *app);
        let desired = part.map(|part| part.desired).unwrap_or_default();
        let (id, tree) = (commit.clone(), None);
        let (author, message, time) = (String::new(), String::new(), Wall::default());
        Some(Arc::new(Revision {
            commit: CommitInfo { id, author, time, message },
            tree,
            origin: String::new(),
            since: None,
            relation: Relation::First,
            commits: Arc::default(),
            desired: Arc::new(desired),
            findings: Arc::default(),
            terms: Terms::default(),
            signer: None,
            waves: None,
        }))
    };
    crate::plan::in_force(waves, &read(commit)?, read)
}

/// What each workload of a revision asks for.
fn wanted_pods(world: &World, in_force: &Revision) -> BTreeMap<Key, Wanted> {
    let mut wanted = BTreeMap::new();
    for object in in_force.desired.objects.values() {
        let count = match &object.body {
            Body::Deployment(deployment) => deployment.replicas,
            Body::ReplicaSet(set) => set.replicas,
            Body::Pod(_) => 1,
            Body::StatefulSet(set) => set.replicas,
            Body::DaemonSet(_) => u32::try_from(world.machines.len()).unwrap_or(u32::MAX),
            _ => continue,
        };
        let template = object.body.template();
        let image = template.and_then(|template| template.spec.containers.first());
        let image = image.map(|container| container.image.clone()).unwrap_or_default();
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let (kind, arrives) = (object.key.kind, !super::converge::stays_back(object));
        wanted.insert(object.key.clone(), Wanted { count, image, kind, arrives });
    }
    wanted
}
