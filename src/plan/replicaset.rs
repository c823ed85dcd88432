//! ReplicaSets and ReplicationControllers: as many pods as asked for, no more and no fewer.
//!
//! Pods that are being ended or have finished do not count. When there are too many, the ones that
//! would be missed least go first, in the order of Kubernetes' `ActivePodsWithRanks`. Two things are
//! ours: a pod that is not available yet goes before one that is, or a roll-out could fall below what
//! it promised; and a pod written by hand never goes, because Git names it and it would come back.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kinds::binding::{AppName, Placement, TemplateRef};
use crate::kinds::labels::{Labels, Selector};
use crate::kinds::name::PodKey;
use crate::kinds::object::{Body, Key};
use crate::kinds::registry::Kind;
use crate::kinds::status::Phase;

use super::Pod;
use super::work::{NewName, NewPod, PODS_MADE_MAX, Work};

/// The label that tells a Deployment's sets apart.
pub(super) const LABEL_TEMPLATE_HASH: &str = "pod-template-hash";

/// The annotation by which a pod says what its end would cost.
const ANNOTATION_DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What a set asks for, whoever made it.
struct Wanted {
    key: Key,
    template: TemplateRef,
    replicas: u32,
    min_ready_s: u32,
    labels: Labels,
    /// Which pods are its own; absent for sets of Deployments, whose pods carry their hash.
    selector: Option<Selector>,
}

pub(super) fn fill_sets(work: &mut Work) {
    for set in wanted_sets(work) {
        fill(work, &set);
    }
}

fn wanted_sets(work: &Work) -> Vec<Wanted> {
    let mut sets = Vec::new();
    for (app, revision) in &work.revisions {
        sets_by_hand(work, app, &revision.desired, &mut sets);
        let Some(state) = work.next.apps.get(app) else {
            continue;
        };
        for (key, set) in &state.sets {
            let deployment = Key::namespaced(Kind::Deployment, &key.namespace, &set.deployment);
            let min_ready_s = match revision.desired.objects.get(&deployment).map(|o| &o.body) {
                Some(Body::Deployment(spec)) => spec.min_ready_s,
                _ => 0,
            };
            sets.push(Wanted {
                min_ready_s,
                key: Key::namespaced(Kind::ReplicaSet, &key.namespace, &key.name),
                template: set.template.clone(),
                replicas: set.replicas,
                labels: Labels::from([(LABEL_TEMPLATE_HASH.to_owned(), set.hash.clone())]),
                selector: None,
            });
        }
    }
    sets
}

fn sets_by_hand(
    work: &Work,
    app: &AppName,
    desired: &Arc<crate::desired::Desired>,
    sets: &mut Vec<Wanted>,
) {
    for object in desired.objects.values() {
        let Body::ReplicaSet(set) = &object.body else {
            continue;
        };
        let Some(template) = work.reference(app, object, &set.template) else {
            continue;
        };
        sets.push(Wanted {
            key: object.key.clone(),
            template,
            replicas: set.replicas,
            min_ready_s: set.min_ready_s,
            labels: Labels::new(),
            selector: Some(set.selector.clone()),
        });
    }
}

fn fill(work: &mut Work, set: &Wanted) {
    end_finished(work, set);
    end_strangers(work, set);
    let active: Vec<PodKey> = work
        .pods_of(&set.key)
        .into_iter()
        .filter(|pod| pod.is_active())
        .map(|pod| pod.binding.key.clone())
        .collect();
    let wanted = usize::try_from(set.replicas).unwrap_or(usize::MAX);
    if active.len() < wanted {
        let room = PODS_MADE_MAX.saturating_sub(work.made);
        make(work, set, (wanted - active.len()).min(room));
    } else if active.len() > wanted {
        end_surplus(work, set, active.len() - wanted);
    }
}

/// Pods of a set that have finished (evicted, or killed with their node) make room for the next.
fn end_finished(work: &mut Work, set: &Wanted) {
    let finished: Vec<PodKey> = work
        .pods_of(&set.key)
        .into_iter()
        .filter(|pod| !pod.is_leaving() && pod.phase().is_over())
        .map(|pod| pod.binding.key.clone())
        .collect();
    for key in finished {
        work.end_pod(&key, Some(0), "Finished");
    }
}

/// Pods made for an earlier selector: Kubernetes forbids the change, we replace the pods
/// (docs/DESIGN.md, Hard cases 20).
fn end_strangers(work: &mut Work, set: &Wanted) {
    let Some(selector) = &set.selector else {
        return;
    };
    let strangers: Vec<PodKey> = work
        .pods_of(&set.key)
        .into_iter()
        .filter(|pod| !pod.is_leaving() && pod.template.is_some())
        .filter(|pod| !selector.matches(&pod.labels()))
        .map(|pod| pod.binding.key.clone())
        .collect();
    for key in strangers {
        work.end_pod(&key, None, "SelectorChanged");
    }
}

fn make(work: &mut Work, set: &Wanted, count: usize) {
    let Some(namespace) = set.key.namespace.clone() else {
        return;
    };
    for _ in 0..count {
        let pod = work.make_pod(NewPod {
            namespace: &namespace,
            name: NewName::After(set.key.name.as_str()),
            template: set.template.clone(),
            owner: set.key.clone(),
            labels: set.labels.clone(),
            index: None,
            only_node: None,
        });
        work.event(
            &set.key,
            "replicaset",
            "SuccessfulCreate",
            format!("Created pod: {}", pod.name),
        );
    }
    if count > 0 {
        work.note(format!("{}: {count} new pod{}", set.key, plural(count)));
    }
}

fn end_surplus(work: &mut Work, set: &Wanted, count: usize) {
    let victims = least_missed(&work.pods_of(&set.key), count, set.min_ready_s);
    let count = victims.len();
    if count == 0 {
        return;
    }
    for key in &victims {
        work.end_pod(key, None, "ScaledDown");
        work.event(
            &set.key,
            "replicaset",
            "SuccessfulDelete",
            format!("Deleted pod: {}", key.name),
        );
    }
    work.note(format!("{}: {count} pod{} fewer", set.key, plural(count)));
}

fn plural(count: usize) -> &'static str {
    if count == 1 { "" } else { "s" }
}

/// The active pods that would be missed least.
/// <https://kubernetes.io/docs/concepts/workloads/controllers/replicaset/#scaling-a-replicaset>
fn least_missed(pods: &[&Pod], count: usize, min_ready_s: u32) -> Vec<PodKey> {
    let mut per_node: BTreeMap<&Placement, usize> = BTreeMap::new();
    let active: Vec<&&Pod> = pods.iter().filter(|pod| pod.is_active()).collect();
    for pod in &active {
        *per_node.entry(&pod.node).or_default() += 1;
    }
    let mut ranked: Vec<(Worth, PodKey)> = active
        .iter()
        .filter(|pod| !pod.is_by_hand())
        .map(|pod| (worth(pod, per_node[&pod.node], min_ready_s), pod.binding.key.clone()))
        .collect();
    ranked.sort();
    ranked.into_iter().take(count).map(|(_, key)| key).collect()
}

/// What a pod's end would cost, in the order in which it counts; the least goes first.
type Worth = (
    bool,
    u8,
    bool,
    bool,
    i64,
    std::cmp::Reverse<usize>,
    u32,
    std::cmp::Reverse<u32>,
    std::cmp::Reverse<u64>,
);

fn worth(pod: &Pod, neighbours: usize, min_ready_s: u32) -> Worth {
    let needed = std::time::Duration::from_secs(min_ready_s.into());
    let phase = match pod.phase() {
        Phase::Pending => 0,
        Phase::Running | Phase::Succeeded | Phase::Failed => 1,
    };
    let cost = pod
        .template
        .as_ref()
        .and_then(|template| template.annotations.get(ANNOTATION_DELETION_COST))
        .and_then(|cost| cost.parse().ok())
        .unwrap_or(0);
    // Ages are compared by their logarithm, so that of pods made together any may go.
    let age = pod.ready_for.map_or(0, |ready| ready.as_secs().checked_ilog2().unwrap_or(0));
    let restarts = pod
        .report
        .iter()
        .flat_map(|report| &report.status.container_statuses)
        .map(|container| container.restart_count)
        .max()
        .unwrap_or(0);
    (
        pod.node.is_some(),
        phase,
        pod.is_ready(),
        pod.ready_for.is_some_and(|ready| ready >= needed),
        cost,
        std::cmp::Reverse(neighbours),
        age,
        std::cmp::Reverse(restarts),
        std::cmp::Reverse(pod.binding.sequence),
    )
}
