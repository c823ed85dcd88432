//! What would happen: somebody's own manifests on machines that exist in memory only, with failures
//! that they name. Answers "does it fit?", "what goes where?", "what if this node dies?" before the
//! commit is pushed.
//!
//! Programs here run until they are told to stop, and init containers end well after a second. The
//! limit: probes always succeed, images are always there, and volumes never fill up.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::kinds::binding::DEFAULT_APP;
use crate::kinds::name::NodeName;
use crate::kinds::registry::Kind;
use crate::state::State;

use super::check::{self, Safety};
use super::{Files, Interference, Reach, Weather, World, read};

/// How often happenings that wait are let happen.
const STEP: Duration = Duration::from_secs(1);
/// As agents have it if nobody says otherwise.
const EVICTION_S: u32 = 300;
/// The machines join before the story begins: otherwise the first to come would get every pod.
const JOIN: Duration = Duration::from_secs(60);

/// What is rehearsed.
#[derive(Clone, Debug)]
pub struct Rehearsal {
    /// The manifests.
    pub files: Files,
    /// How many machines there are. They are called as the manifests' Nodes, and n1, n2 … beyond.
    pub nodes: u32,
    /// Processors of each.
    pub cpus: u32,
    /// Memory of each.
    pub memory_bytes: u64,
    /// What befalls them, and when.
    pub troubles: Vec<Trouble>,
    /// How long it goes on.
    pub lasts: Duration,
    /// Where chance begins.
    pub seed: u64,
}

/// Something that befalls a machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// Which.
    pub node: NodeName,
    /// Whether it loses its power, rather than its way to the Git server.
    pub is_power_cut: bool,
    /// When.
    pub from: Duration,
    /// When it is over; never where absent.
    pub until: Option<Duration>,
}

/// What came of it.
#[derive(Debug)]
pub struct Story {
    /// What was decided: when, by whom, what.
    pub decisions: Vec<(Duration, NodeName, String)>,
    /// The pods in the end: (pod, node, why it has none).
    pub pods: Vec<(String, Option<NodeName>, Option<String>)>,
    /// Why the manifests are not in force, if they are not.
    pub refused: Option<String>,
}

impl Rehearsal {
    /// The machines' names.
    pub fn names(&self) -> Vec<NodeName> {
        let (desired, _) = read(&self.files);
        let wished = desired.objects.keys().filter(|key| key.kind == Kind::Node);
        let mut names: Vec<NodeName> = wished.map(|key| key.name.clone()).collect();
        let count = usize::try_from(self.nodes).unwrap_or(usize::MAX);
        names.truncate(count);
        let mut number = 0;
        while names.len() < count {
            number += 1;
            let name = NodeName::trusted(&format!("n{number}"));
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    fn sidecars(&self) -> BTreeSet<String> {
        let (desired, _) = read(&self.files);
        let templates = desired.objects.values().filter_map(|object| object.body.template());
        let init = templates.flat_map(|template| &template.spec.init_containers);
        init.filter(|container| container.is_sidecar).map(|c| c.image.clone()).collect()
    }

    /// Plays it through. An error says which trouble names no machine, or what came about that must never
    /// be.
    pub fn run(&self) -> Result<Story, String> {
        let names = self.names();
        let mut world = World::new(self.seed, Weather::default());
        world.trace_max = 0;
        world.plan(JOIN, Interference::Push("the manifests".to_owned(), self.files.clone()));
        for name in &names {
            world.eviction_s = EVICTION_S;
            world.add_machine(name.as_str());
            if let Some(machine) = world.machines.get_mut(name) {
                machine.runtime.is_plain = true;
                machine.runtime.sidecars = self.sidecars();
                machine.runtime.size = (self.cpus, self.memory_bytes);
            }
        }
        for trouble in &self.troubles {
            if !names.contains(&trouble.node) {
                let known: Vec<&str> = names.iter().map(NodeName::as_str).collect();
                return Err(format!("there is no node {}, but {}", trouble.node, known.join(", ")));
            }
            let node = || trouble.node.clone();
            let (begins, ends) = if trouble.is_power_cut {
                (Interference::PowerCut(node()), Interference::StartAgent(node()))
            } else {
                let whole = Interference::Reach(node(), Reach::default());
                (Interference::Reach(node(), Reach::NONE), whole)
            };
            world.plan(JOIN + trouble.from, begins);
            if let Some(until) = trouble.until {
                world.plan(JOIN + until, ends);
            }
        }
        let (mut now, mut safety) = (Duration::ZERO, Safety::of_anything());
        while now < JOIN + self.lasts {
            now += STEP;
            while world.step(now) {
                safety.check(&world).map_err(|what| {
                    format!("{} s after the push: {what}", now.saturating_sub(JOIN).as_secs())
                })?;
            }
        }
        let state = check::decoded(&world)?;
        let story = world.decisions.into_iter().filter(|(at, ..)| *at >= JOIN);
        let decisions = story.map(|(at, node, what)| (at - JOIN, node, what)).collect();
        Ok(Story { pods: pods(&state), refused: refused(&state), decisions })
    }
}

fn pods(state: &State) -> Vec<(String, Option<NodeName>, Option<String>)> {
    let mut pods: Vec<_> = state
        .all_pods()
        .map(|(node, pod)| {
            let why = match &pod.deletion {
                Some(deletion) => Some(format!("ending: {}", deletion.reason)),
                None => pod.message.clone(),
            };
            (pod.key.to_string(), node.clone(), why)
        })
        .collect();
    pods.sort();
    pods
}

fn refused(state: &State) -> Option<String> {
    let heads = state.apps.iter().map(|(app, state)| (app, &state.head));
    heads.into_iter().find_map(|(app, head)| {
        let why = head.waiting.as_ref()?.verdict.why();
        let of = if *app == *DEFAULT_APP { String::new() } else { format!("app {app}: ") };
        Some(format!("{of}{why}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rehearsal(replicas: u32, cpu: &str) -> Rehearsal {
        let text = format!(
            "apiVersion: v1
kind: Namespace
metadata: {{name: shop}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: shop}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      initContainers: [{{name: first, image: \"setup:1\"}}]
      containers: [{{name: main, image: \"crash-report:1\", resources: {{requests: {{cpu: \"{cpu}\"}}}}}}]
"
        );
        Rehearsal {
            files: Files::from([("shop.yaml".to_owned(), text)]),
            nodes: 3,
            cpus: 4,
            memory_bytes: 8 << 30,
            troubles: Vec::new(),
            lasts: Duration::from_secs(600),
            seed: 1,
        }
    }

    fn on(story: &Story, node: &str) -> usize {
        story
            .pods
            .iter()
            .filter(|(_, on, why)| on.as_ref().is_some_and(|on| *on == *node) && why.is_none())
            .count()
    }

    #[test]
    fn what_does_not_fit_is_told() {
        let story = rehearsal(13, "1").run().expect("plays");
        let waiting: Vec<_> = story.pods.iter().filter(|(_, node, _)| node.is_none()).collect();
        assert_eq!(waiting.len(), 1, "{:?}", story.pods);
        assert!(waiting[0].2.as_ref().is_some_and(|why| why.contains("Insufficient cpu")));
    }

    #[test]
    fn pods_of_a_node_that_dies_go_elsewhere() {
        let node = NodeName::trusted("n2");
        let from = Duration::from_secs(60);
        let trouble = Trouble { node, is_power_cut: true, from, until: None };
        let quiet = rehearsal(6, "1").run().expect("plays");
        assert_eq!(on(&quiet, "n2"), 2);
        let story =
            Rehearsal { troubles: vec![trouble], ..rehearsal(6, "1") }.run().expect("plays");
        assert_eq!(
            (on(&story, "n1") + on(&story, "n3"), on(&story, "n2")),
            (6, 0),
            "{:?}",
            story.pods
        );
        assert!(story.decisions.iter().any(|(_, _, what)| what.contains("n2 is not ready")));
    }

    #[test]
    fn a_node_that_is_not_there_is_an_error() {
        let trouble = Trouble {
            node: NodeName::trusted("n9"),
            is_power_cut: true,
            from: Duration::ZERO,
            until: None,
        };
        let error = Rehearsal { troubles: vec![trouble], ..rehearsal(1, "1") }.run();
        assert_eq!(error.err().as_deref(), Some("there is no node n9, but n1, n2, n3"));
    }
}
