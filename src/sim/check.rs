//! What must hold at every step, and what must hold in the end.
//!
//! After a step only the machines are looked at that it touched: nothing else can have changed, and
//! looking at hundreds after each of their millions of steps would be most of a run.

use std::collections::{BTreeMap, BTreeSet};

use crate::agent::Agent;
use crate::kinds::binding::{DEFAULT_APP, Generation};
use crate::kinds::name::{NodeName, Uid};
use crate::kinds::object::Body;
use crate::kinds::workload::Strategy;
use crate::ports::runtime::{ContainerSeen, Role};
use crate::ports::store::Register;
use crate::state::State;

use super::{Machine, World};

/// Something that must never be.
pub type Violation = String;

/// Remembers what was seen before, for what may only grow.
#[derive(Debug, Default)]
pub struct Safety {
    generation: Generation,
    last_write: usize,
    leaders: BTreeSet<NodeName>,
    restores: usize,
    /// What each agent has acted on, in which life.
    acted: BTreeMap<NodeName, (u64, Generation)>,
}

impl Safety {
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
        self.decisions_only_grow(world)
    }

    /// Nobody believes that it leads while another does. Not asked where agents are made to. One that
    /// nothing happens to may cease to lead, as time passes, but not begin.
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
        if world.store.tree(&Register::Coordinator).is_none() {
            return Ok(());
        }
        self.last_write = count;
        let state = decoded(world)?;
        if std::mem::replace(&mut self.restores, world.store.restores) != world.store.restores {
            // Whoever had not seen what came after the backup can't tell that there was any.
            self.generation = Generation::default();
        }
        if state.generation <= self.generation {
            return Err(format!("{} was written after {}", state.generation, self.generation));
        }
        self.generation = state.generation;
        no_name_twice(&state)?;
        budgets_hold(&state)
    }
}

/// The coordinator's register.
pub fn decoded(world: &World) -> Result<State, Violation> {
    match world.store.tree(&Register::Coordinator) {
        None => Ok(State::default()),
        Some(tree) => State::decode(tree).map_err(|fault| fault.to_string()),
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
    let app = state.apps.get(DEFAULT_APP).ok_or("nothing is in force")?;
    let applied = app.head.applied.as_ref().ok_or("nothing is in force")?;
    let may_be_in_force = good_ones(world);
    if !may_be_in_force.contains(&applied.revision) {
        let newest = may_be_in_force.first();
        let why = app.head.waiting.as_ref().map(|waiting| (&waiting.revision, &waiting.verdict));
        let in_force = &applied.revision;
        return Err(format!("{in_force:?} is in force, {newest:?} should be; waiting: {why:?}"));
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
    let wanted = wanted_pods(world, &applied.revision);
    for (owner, (count, image)) in &wanted {
        let bound = state.all_pods().filter(|(_, p)| p.template.owner.to_string() == *owner);
        let bound: Vec<_> = bound.collect();
        // A roll-out to an image that never runs stands still within its surge, beside pods of
        // the image before: that is its end.
        let most = if runs_well(image) { *count } else { count + count.div_ceil(4) };
        if bound.len() < *count || bound.len() > most {
            return Err(format!("{owner} has {} pods, {count} are wanted", bound.len()));
        }
        for (node, pod) in bound {
            let Some(node) = node else {
                return Err(format!("pod {} has no node", pod.key));
            };
            if runs_well(image) && !is_running(world, node, &pod.uid, image) {
                return Err(format!("pod {} does not run {image}", pod.key));
            }
        }
    }
    nothing_else(world, &state, &wanted)
}

fn runs_well(image: &str) -> bool {
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
    wanted: &BTreeMap<String, (usize, String)>,
) -> Result<(), String> {
    let stray = state.all_pods().find(|(_, p)| !wanted.contains_key(&p.template.owner.to_string()));
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

/// The commits that may be in force: the newest, if nothing is wrong with it. Otherwise the one that
/// was, which may be any before it without errors: only what was once the branch's newest was looked
/// at, and two pushes may come between two looks.
fn good_ones(world: &World) -> Vec<crate::kinds::binding::Oid> {
    let is_good = |files: &super::Files| !files.values().any(|text| text.contains("# bad"));
    let mut good = Vec::new();
    let mut at = world.remote.tip().cloned();
    while let Some(commit) = at {
        at = world.remote.parent(&commit);
        let is_tip = world.remote.tip() == Some(&commit);
        if world.remote.files(&commit).is_some_and(is_good) {
            good.push(commit);
            if is_tip {
                break;
            }
        }
    }
    good
}

/// How many pods each workload of a commit asks for, and which image they run.
fn wanted_pods(
    world: &World,
    commit: &crate::kinds::binding::Oid,
) -> BTreeMap<String, (usize, String)> {
    let mut wanted = BTreeMap::new();
    for (path, text) in world.remote.files(commit).into_iter().flatten() {
        let content = crate::ports::source::FileContent {
            path: path.as_str().into(),
            blob: crate::kinds::binding::Oid::new(""),
            bytes: text.as_bytes().into(),
        };
        for object in &crate::desired::parse(&content).objects {
            let count = match &object.body {
                Body::Deployment(deployment) => deployment.replicas,
                Body::ReplicaSet(set) => set.replicas,
                Body::Pod(_) => 1,
                _ => continue,
            };
            let template = object.body.template();
            let image = template.and_then(|template| template.spec.containers.first());
            let image = image.map(|container| container.image.clone()).unwrap_or_default();
            let count = usize::try_from(count).unwrap_or(usize::MAX);
            wanted.insert(object.key.to_string(), (count, image));
        }
    }
    wanted
}

/// Whether a strategy lets pods of two templates run side by side.
pub fn overlaps(strategy: &Strategy) -> bool {
    matches!(strategy, Strategy::RollingUpdate { .. })
}
