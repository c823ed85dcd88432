//! Where a pod's claims let it run: on the node that has its data, and nowhere else. A DaemonSet's pod is
//! held to its node in the same way.
//!
//! A claim with a volume draws its pod to where the volume is reached. A claim that waits for its pod
//! lets it go wherever a volume can be had, and is bound there in the same turn; from then on it draws
//! too. This is the one rule that is asked of the pod and not of its shape: pods of one template have
//! claims of their own, and what one is given changes what is left for the next.
//! Source: kube-scheduler's plug-ins `volumebinding` and `volumerestrictions`.

use std::collections::{BTreeMap, BTreeSet};

use crate::desired::Desired;
use crate::kinds::labels::Labels;
use crate::kinds::name::{Name, NodeName, PodKey};
use crate::kinds::storage::AccessMode;
use crate::kinds::volume::VolumeSource;
use crate::state::storage::ClaimRecord;
use crate::state::{RecordKey, State};

use super::super::pods::Pod;
use super::super::storage::{self, Choice, Stock, VolumeFacts, claims_of};
use super::super::work::Work;
use super::{Cluster, Why};

/// Why each node can't take a pod for the sake of its claims, by node.
pub(super) type Reach = Vec<Option<Why>>;

/// Claims, volumes, and who uses them.
#[derive(Debug)]
pub(super) struct Volumes {
    stock: Stock,
    /// Pods with a node, by the claims they use.
    users: BTreeMap<RecordKey, Vec<(PodKey, NodeName)>>,
}

/// A claim of a pod, and its volume if it has one.
struct Held<'s> {
    key: RecordKey,
    record: &'s ClaimRecord,
    facts: Option<VolumeFacts>,
}

impl Volumes {
    pub(super) fn of<'p>(desired: &[&Desired], pods: impl Iterator<Item = &'p Pod>) -> Self {
        let mut volumes =
            Self { stock: Stock::of(desired.iter().copied()), users: BTreeMap::new() };
        for pod in pods.filter(|pod| !pod.phase().is_over()) {
            if let Some(node) = &pod.node {
                volumes.note_use(pod, node);
            }
        }
        volumes
    }

    fn note_use(&mut self, pod: &Pod, node: &NodeName) {
        for key in keys(pod) {
            self.users.entry(key).or_default().push((pod.binding.key.clone(), node.clone()));
        }
    }

    /// Where a pod may run for the sake of its claims, or because it is made for one node; everywhere if
    /// nothing sets it apart. The error is why it
    /// can run nowhere, as kube-scheduler words it.
    pub(super) fn reach(
        &self,
        state: &State,
        cluster: &Cluster,
        pod: &Pod,
    ) -> Result<Option<Reach>, String> {
        let mut claims = Vec::new();
        for key in keys(pod) {
            claims.push(self.held(state, key, pod)?);
        }
        let only = pod.binding.only_node.as_ref();
        if claims.is_empty() && only.is_none() {
            return Ok(None);
        }
        let each = cluster.names.iter().zip(&cluster.machines);
        let reach = each.map(|(node, machine)| {
            if only.is_some_and(|only| only != node) {
                return Some(Why::NodeAffinity);
            }
            self.refuses(state, &claims, &pod.binding.key, (node, machine.labels()))
        });
        Ok(Some(reach.collect()))
    }

    fn held<'s>(&self, state: &'s State, key: RecordKey, pod: &Pod) -> Result<Held<'s>, String> {
        let name = &key.name;
        let record = state
            .claim(&key.namespace, name)
            .ok_or_else(|| format!("persistentvolumeclaim \"{name}\" not found"))?;
        if record.leaving.is_some() {
            return Err(format!("persistentvolumeclaim \"{name}\" is being deleted"));
        }
        let of = record.made_for.as_ref().and_then(|made| made.pod.as_ref());
        if is_scratch(pod, name) && of != Some(&pod.binding.uid) {
            let pod = &pod.binding.key;
            return Err(format!("PVC {key} was not created for pod {pod} (pod is not owner)"));
        }
        let Some(volume) = &record.volume else {
            let class = record.class.as_ref().and_then(|class| self.stock.class(class));
            if class.is_none_or(|class| !class.waits) {
                return Err("pod has unbound immediate PersistentVolumeClaims".to_owned());
            }
            return Ok(Held { key, record, facts: None });
        };
        let facts = self
            .stock
            .facts(volume, state.volumes.get(volume))
            .ok_or_else(|| format!("persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""))?;
        Ok(Held { key, record, facts: Some(facts) })
    }

    fn refuses(
        &self,
        state: &State,
        claims: &[Held<'_>],
        pod: &PodKey,
        node: (&NodeName, &Labels),
    ) -> Option<Why> {
        for claim in claims {
            if let Some(facts) = &claim.facts
                && !facts.is_reached_from(node.0, node.1)
            {
                return Some(Why::VolumeAffinity);
            }
            if let Some(why) = self.is_taken(claim, pod, node.0) {
                return Some(why);
            }
        }
        self.choices(state, claims, node).is_none().then_some(Why::NoVolume)
    }

    /// Whether others use a claim so that the pod may not, here or at all.
    fn is_taken(&self, claim: &Held<'_>, pod: &PodKey, node: &NodeName) -> Option<Why> {
        let users = self.users.get(&claim.key)?;
        let mut others = users.iter().filter(|(user, _)| user != pod);
        let modes = &claim.record.spec.modes;
        if modes.contains(&AccessMode::ReadWriteOncePod) {
            return others.next().map(|_| Why::VolumeOfOnePod);
        }
        let is_exclusive = claim.facts.as_ref().is_some_and(|f| f.is_exclusive(claim.record));
        (is_exclusive && others.any(|(_, its)| its != node)).then_some(Why::VolumeInUse)
    }

    /// What the claims that have no volume yet would get on a node; nothing if one gets none.
    fn choices(
        &self,
        state: &State,
        claims: &[Held<'_>],
        node: (&NodeName, &Labels),
    ) -> Option<Vec<(RecordKey, Choice)>> {
        let mut taken: BTreeSet<Name> = BTreeSet::new();
        let mut choices = Vec::new();
        for claim in claims.iter().filter(|claim| claim.facts.is_none()) {
            let (key, record) = (&claim.key, claim.record);
            let choice = storage::choose(state, &self.stock, key, record, node, &taken)?;
            if let Choice::Take(volume) = &choice {
                taken.insert(volume.clone());
            }
            choices.push((key.clone(), choice));
        }
        Some(choices)
    }

    /// Binds the claims of a pod that was given a node.
    pub(super) fn settle(&mut self, work: &mut Work, cluster: &Cluster, key: &PodKey, at: usize) {
        let Some(pod) = work.pods.get(key).cloned() else {
            return;
        };
        let (node, labels) = (&cluster.names[at], cluster.machines[at].labels());
        let held: Result<Vec<Held<'_>>, String> =
            keys(&pod).map(|key| self.held(&work.next, key, &pod)).collect();
        let held = held.unwrap_or_default();
        let choices = self.choices(&work.next, &held, (node, labels)).unwrap_or_default();
        for (claim, choice) in &choices {
            storage::bind(work, &self.stock, claim, choice, Some(node));
        }
        for claim in keys(&pod) {
            if let Some(record) = work.next.claim(&claim.namespace, &claim.name).cloned() {
                storage::first_use(work, &self.stock, &record, node);
            }
        }
        self.note_use(&pod, node);
    }
}

/// Whether a claim of a pod is to come and go with it (`ephemeral.VolumeIsForPod`).
fn is_scratch(pod: &Pod, claim: &Name) -> bool {
    let mut volumes = pod.template.iter().flat_map(|template| &template.spec.volumes);
    volumes.any(|volume| match &volume.source {
        VolumeSource::Claim { name, scratch, .. } => name == claim && scratch.is_some(),
        _ => false,
    })
}

/// The claims of a pod, each once.
fn keys(pod: &Pod) -> impl Iterator<Item = RecordKey> {
    let namespace = &pod.binding.key.namespace;
    let claims: BTreeSet<&Name> =
        pod.template.iter().flat_map(|template| claims_of(&template.spec)).collect();
    claims.into_iter().map(|claim| RecordKey::new(namespace, claim))
}
