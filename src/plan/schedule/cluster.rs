//! The nodes as the scheduler sees them: what they have, what is left, and which pods are there.
//!
//! Nodes, kinds of pods, resources and domains are numbers here, so that nothing is compared by name
//! once a turn has begun. Pods of one template and one set of labels are one [`Shape`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::desired::Desired;
use crate::kinds::digest::Digest;
use crate::kinds::labels::Labels;
use crate::kinds::name::{Name, NodeName};
use crate::kinds::node::NodeFacts;
use crate::kinds::object::{Body, Key};
use crate::kinds::pod::{HostPort, PodSpec, PodTemplate, Taint};
use crate::kinds::quantity::Quantity;
use crate::kinds::registry::Kind;

use crate::state::records::NodeAllocation;

use super::super::NodeInput;
use super::super::pods::Pod;
use super::super::work::Work;
use super::defaults::{self, Selectors};
use super::images::{self, Images};
use super::resources::{Demand, Resources, SCORED};
use super::terms::Terms;
use super::topology::Topologies;

/// What a node takes where it says nothing: kubelet's `maxPods`.
const PODS_DEFAULT: i64 = 110;

/// Every node, and the pods on them.
#[derive(Debug, Default)]
pub(super) struct Cluster {
    /// In order; a node is its place in this list.
    pub(super) names: Vec<NodeName>,
    /// By node.
    pub(super) machines: Vec<Machine>,
    pub(super) resources: Resources,
    pub(super) topologies: Topologies,
    /// Labels of the namespaces, for `namespaceSelector`.
    pub(super) namespaces: BTreeMap<Name, Labels>,
    /// Who selects pods, for those that say nothing of how they spread.
    pub(super) selectors: Selectors,
    pub(super) shapes: Vec<Shape>,
    /// Images that shapes want, and where they are.
    pub(super) images: Images,
    /// What came and went, in order: whoever keeps an answer reads here what has changed since.
    pub(super) log: Vec<Change>,
    /// Room kept for pods that others make way for: (node, shape).
    pub(super) claims: Vec<(usize, usize)>,
    by_key: BTreeMap<(Says, Name, Labels, Option<Key>, bool), usize>,
    /// The shape asked for last: pods come in order of their names, so alike ones come together.
    last: Option<(Arc<PodTemplate>, Labels, usize)>,
}

/// What a template means, and what its pods were given beside it.
type Says = (Digest, Option<Digest>);

/// A pod of some shape came to a node, or went.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Change {
    pub(super) node: usize,
    pub(super) shape: usize,
    /// 1 for one that came, -1 for one that went.
    pub(super) by: i64,
    /// It is not there: room is kept for it. Such a pod keeps others away and draws nobody, because
    /// it may never come.
    pub(super) is_claim: bool,
}

/// A node.
#[derive(Clone, Debug, Default)]
pub(super) struct Machine {
    /// Whether it is heard of.
    pub(super) is_ready: bool,
    /// Whether new pods are kept away.
    pub(super) is_cordoned: bool,
    /// Whether its settings are others than its fleet's.
    pub(super) differs: bool,
    /// Its taints.
    pub(super) taints: Vec<Taint>,
    /// How many pods it runs.
    pub(super) pods: usize,
    /// How many pods it takes.
    pub(super) pods_max: usize,
    /// Ports taken on it.
    pub(super) ports: Vec<HostPort>,
    /// CPU and memory its pods are taken to use, for scores.
    pub(super) counted: [i64; SCORED],
    facts: Arc<NodeFacts>,
    /// Its labels with the operator's laid over them, if there are any.
    relabelled: Option<Labels>,
    /// What pods may use, by resource.
    allocatable: Vec<i64>,
    /// What its pods have reserved, by resource.
    reserved: Vec<i64>,
}

/// Pods that are alike to the scheduler.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) namespace: Name,
    pub(super) labels: Labels,
    /// The object whose selector is that of the set that owns them.
    pub(super) owner: Option<Key>,
    /// Whether they are being ended.
    pub(super) is_leaving: bool,
    pub(super) spec: Arc<PodSpec>,
    pub(super) demand: Demand,
    pub(super) ports: Vec<HostPort>,
    pub(super) terms: Terms,
    /// The node of each of them that has one.
    pub(super) nodes: Vec<usize>,
}

impl Cluster {
    pub(super) fn of(work: &Work) -> Self {
        let desired: Vec<&Desired> = work.revisions.values().map(|r| &*r.desired).collect();
        Self::from_parts(&work.input.nodes, &work.next.nodes, &desired, work.pods.values())
    }

    /// The nodes, as what is desired and what people asked for would have them, with these pods on
    /// them.
    pub(super) fn from_parts<'p>(
        nodes: &BTreeMap<NodeName, NodeInput>,
        given: &BTreeMap<NodeName, NodeAllocation>,
        desired: &[&Desired],
        pods: impl Iterator<Item = &'p Pod>,
    ) -> Self {
        let mut cluster = Self::default();
        for (name, input) in nodes {
            let mut machine = Machine::new(input.facts.clone(), &mut cluster.resources);
            machine.is_ready = input.is_ready;
            machine.differs = input.differs;
            let key = Key::cluster(Kind::Node, name);
            let wish = desired.iter().find_map(|desired| desired.objects.get(&key));
            if let Some(Body::Node(wish)) = wish.map(|object| &object.body) {
                machine.heed(wish);
            }
            if let Some(given) = given.get(name) {
                machine.is_cordoned |= given.cordoned.is_some();
                machine.is_ready &= !given.is_away();
            }
            cluster.push(name.clone(), machine);
        }
        for (key, object) in desired.iter().flat_map(|desired| &desired.objects) {
            if key.kind == Kind::Namespace {
                cluster.know_namespace(&key.name, &object.labels);
            }
            cluster.selectors.learn(key, object);
        }
        for pod in pods.filter(|pod| !pod.phase().is_over()) {
            let node = pod.node.as_ref().and_then(|node| cluster.node(node));
            if let Some(node) = node
                && let Some(shape) = cluster.shape_of(pod)
            {
                cluster.put(node, shape);
            }
        }
        cluster.log.clear();
        cluster
    }

    /// Adds a node; they come in order of name.
    pub(super) fn push(&mut self, name: NodeName, machine: Machine) {
        self.names.push(name);
        self.machines.push(machine);
    }

    pub(super) fn know_namespace(&mut self, name: &Name, labels: &Labels) {
        let mut labels = labels.clone();
        // Every namespace has its name as a label (`NamespaceDefaultLabelName`).
        labels.insert("kubernetes.io/metadata.name".to_owned(), name.to_string());
        self.namespaces.insert(name.clone(), labels);
    }

    /// The node of that name.
    pub(super) fn node(&self, name: &NodeName) -> Option<usize> {
        self.names.binary_search(name).ok()
    }

    /// The shape of a pod; none if it is not known what it runs.
    pub(super) fn shape_of(&mut self, pod: &Pod) -> Option<usize> {
        let template = pod.template.as_ref()?;
        let (namespace, more) = (&pod.binding.key.namespace, &pod.binding.labels);
        let (owner, is_leaving) = (defaults::owner_of(&pod.binding), pod.is_leaving());
        if let Some((last, labels, shape)) = &self.last
            && Arc::ptr_eq(last, template)
            && labels == more
        {
            let known = &self.shapes[*shape];
            let is_alike = known.is_leaving == is_leaving && known.owner.as_ref() == owner;
            if is_alike && known.namespace == *namespace {
                return Some(*shape);
            }
        }
        let shape = self.shape(template, namespace, more, owner, is_leaving);
        self.last = Some((template.clone(), more.clone(), shape));
        Some(shape)
    }

    pub(super) fn shape(
        &mut self,
        template: &PodTemplate,
        namespace: &Name,
        more: &Labels,
        owner: Option<&Key>,
        is_leaving: bool,
    ) -> usize {
        let mut labels = template.labels.clone();
        labels.extend(more.clone());
        let says = (template.meaning, template.given);
        let key = (says, namespace.clone(), labels.clone(), owner.cloned(), is_leaving);
        if let Some(known) = self.by_key.get(&key) {
            return *known;
        }
        let spec = template.spec.clone();
        let shape = Shape {
            demand: Demand::of(&spec, &mut self.resources),
            ports: spec.taken_ports().collect(),
            terms: Terms::of(&spec, namespace, &labels, &mut self.topologies, &self.machines),
            namespace: namespace.clone(),
            labels,
            owner: owner.cloned(),
            is_leaving,
            spec,
            nodes: Vec::new(),
        };
        self.shapes.push(shape);
        self.by_key.insert(key, self.shapes.len() - 1);
        self.shapes.len() - 1
    }

    /// Looks up what pods of these shapes, for which nodes are sought, leave to others: how they spread
    /// where they do not say, and which nodes have their images.
    pub(super) fn prepare(&mut self, shapes: &BTreeSet<usize>) {
        for shape in shapes {
            let shape = &mut self.shapes[*shape];
            // One constraint of its own, of whatever kind, is all that a pod asks.
            if shape.terms.spread.is_empty()
                && let Some(selector) = self.selectors.of(shape)
            {
                shape.terms.spread_by_default(&selector, &mut self.topologies, &self.machines);
            }
        }
        self.look_for_images(shapes);
    }

    /// Finds out which nodes have images that these shapes want.
    fn look_for_images(&mut self, shapes: &BTreeSet<usize>) {
        let shapes = shapes.iter().map(|shape| &self.shapes[*shape]);
        let wanted = shapes.flat_map(|shape| images::wanted_by(&shape.spec)).collect();
        self.images = images::find(&wanted, self.machines.iter().map(|machine| &*machine.facts));
    }

    /// Gives a node a pod.
    pub(super) fn put(&mut self, node: usize, shape: usize) {
        self.shapes[shape].nodes.push(node);
        self.change(Change { node, shape, by: 1, is_claim: false });
    }

    /// Takes a pod from a node.
    pub(super) fn take(&mut self, node: usize, shape: usize) {
        let nodes = &mut self.shapes[shape].nodes;
        if let Some(at) = nodes.iter().rposition(|its| *its == node) {
            nodes.swap_remove(at);
            self.change(Change { node, shape, by: -1, is_claim: false });
        }
    }

    /// Keeps room on a node for a pod that is to come.
    pub(super) fn claim(&mut self, node: usize, shape: usize) {
        self.claims.push((node, shape));
        self.change(Change { node, shape, by: 1, is_claim: true });
    }

    /// Gives back the room kept.
    pub(super) fn give_back(&mut self, node: usize, shape: usize) {
        if let Some(at) = self.claims.iter().position(|claim| *claim == (node, shape)) {
            self.claims.swap_remove(at);
            self.change(Change { node, shape, by: -1, is_claim: true });
        }
    }

    fn change(&mut self, change: Change) {
        self.count(change);
        self.log.push(change);
    }

    /// Counts a pod on its node, or no more, without a word in the log: whoever does this sees to it
    /// that it is undone before anybody else looks.
    pub(super) fn count(&mut self, change: Change) {
        self.machines[change.node].count(&self.shapes[change.shape], change.by);
    }
}

impl Machine {
    pub(super) fn new(facts: Arc<NodeFacts>, resources: &mut Resources) -> Self {
        let mut allocatable = Vec::new();
        for (resource, amount) in resources.amounts(&facts.allocatable) {
            if allocatable.len() <= resource {
                allocatable.resize(resource + 1, 0);
            }
            allocatable[resource] = amount;
        }
        let pods = facts.allocatable.get("pods").map_or(PODS_DEFAULT, Quantity::as_units);
        Self { allocatable, pods_max: usize::try_from(pods).unwrap_or(0), facts, ..Self::default() }
    }

    fn count(&mut self, shape: &Shape, by: i64) {
        self.pods = if by > 0 { self.pods + 1 } else { self.pods.saturating_sub(1) };
        for (resource, amount) in &shape.demand.requests {
            if self.reserved.len() <= *resource {
                self.reserved.resize(resource + 1, 0);
            }
            let reserved = &mut self.reserved[*resource];
            *reserved = reserved.saturating_add(by.saturating_mul(*amount));
        }
        for (sum, amount) in self.counted.iter_mut().zip(shape.demand.counted) {
            *sum = sum.saturating_add(by.saturating_mul(amount));
        }
        if by > 0 {
            self.ports.extend_from_slice(&shape.ports);
        } else {
            for port in &shape.ports {
                if let Some(at) = self.ports.iter().position(|taken| taken == port) {
                    self.ports.swap_remove(at);
                }
            }
        }
    }

    /// Lays what the operator wishes of the node, in the desired repository, over what it says of
    /// itself.
    fn heed(&mut self, wish: &crate::kinds::node::NodeWish) {
        if !wish.labels.is_empty() {
            let mut labels = self.facts.labels.clone();
            labels.extend(wish.labels.clone());
            self.relabelled = Some(labels);
        }
        self.taints.clone_from(&wish.taints);
        self.is_cordoned = wish.unschedulable;
    }

    /// Its labels.
    pub(super) fn labels(&self) -> &Labels {
        self.relabelled.as_ref().unwrap_or(&self.facts.labels)
    }

    /// What pods may use of a resource.
    pub(super) fn has(&self, resource: usize) -> i64 {
        self.allocatable.get(resource).copied().unwrap_or(0)
    }

    /// What its pods have reserved of a resource.
    pub(super) fn reserved(&self, resource: usize) -> i64 {
        self.reserved.get(resource).copied().unwrap_or(0)
    }

    /// What is left of a resource.
    pub(super) fn free(&self, resource: usize) -> i64 {
        self.has(resource).saturating_sub(self.reserved(resource))
    }
}
