//! Pods leave a node whose `NoExecute` taints they don't put up with: at once, or after the seconds
//! they do (`tolerationSeconds`). A house in which something is the matter: who can't bear it goes,
//! who bears it for a while goes when the while is over, and who bears anything stays.
//!
//! The rule is that of Kubernetes' taint-eviction-controller. Every pod bears a node that is not ready
//! or unreachable for a while of the operator's choosing, unless it says otherwise itself
//! (`DefaultTolerationSeconds`). That is judged here and not written into the template, so that a
//! change of the while restarts nothing.
//!
//! The limit: times are counted on this coordinator's own clock and forgotten with it; its successor
//! counts from the beginning, which only lets pods stay longer. Pods that have finished stay.
//! Source: <https://kubernetes.io/docs/concepts/scheduling-eviction/taint-and-toleration/>.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::kinds::name::{Name, NodeName, PodKey};
use crate::kinds::object::{Body, Key};
use crate::kinds::pod::{PodSpec, Taint, TaintEffect, Toleration};
use crate::kinds::registry::Kind;

use super::work::Work;

/// The taint of a node that says it is not ready (`TaintNodeNotReady`).
pub(super) const TAINT_NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The taint of a node that has not been heard of (`TaintNodeUnreachable`).
pub(super) const TAINT_UNREACHABLE: &str = "node.kubernetes.io/unreachable";

/// `DefaultNotReadyTolerationSeconds`, `DefaultUnreachableTolerationSeconds`.
pub(super) const EVICTION_S: u32 = 300;

/// Who says so in events, as Kubernetes names it.
const SOURCE: &str = "taint-eviction-controller";

/// The `NoExecute` taints in force, by node. Others in a list are passed over.
pub(super) type Taints = BTreeMap<NodeName, Vec<Taint>>;

/// The taints that manifests ask for.
pub(super) fn wished_taints(work: &Work) -> Taints {
    let wishes = work.input.nodes.keys().filter_map(|name| {
        let key = Key::cluster(Kind::Node, name);
        let object = work.revisions.values().find_map(|r| r.desired.objects.get(&key))?;
        let Body::Node(wish) = &object.body else { return None };
        Some((name.clone(), wish.taints.clone()))
    });
    wishes.collect()
}

/// Ends pods that don't put up with the taints of their node, or have long enough. `eviction_s` is
/// how long a pod that says nothing of it stays on a node that is not ready or unreachable.
pub(super) fn evict_pods(work: &mut Work, taints: &Taints, eviction_s: u32) {
    let borne: BTreeMap<PodKey, Option<Duration>> = work
        .pods
        .values()
        .filter(|pod| pod.is_active())
        .filter_map(|pod| {
            let taints = taints.get(pod.node.as_ref()?)?;
            // What it puts up with is not known while it is not known what it is.
            let spec = &pod.template.as_ref()?.spec;
            let taints = || taints.iter().filter(|taint| taint.effect == TaintEffect::NoExecute);
            taints().next()?;
            Some((pod.binding.key.clone(), bears_for(spec, taints(), eviction_s)))
        })
        .collect();
    cancel(work, &borne);
    for (key, bears) in borne {
        if let Some(bears) = bears {
            evict(work, &key, bears);
        }
    }
}

/// How long a pod puts up with taints; nothing if for ever. Of several tolerations the first counts
/// for each taint, and of all the shortest (`getMinTolerationTime`).
fn bears_for<'t>(
    spec: &PodSpec,
    taints: impl Iterator<Item = &'t Taint>,
    eviction_s: u32,
) -> Option<Duration> {
    let defaults = defaults(spec, eviction_s);
    let mut shortest = None;
    for taint in taints {
        let mut tolerations = spec.tolerations.iter().chain(&defaults);
        let Some(toleration) = tolerations.find(|toleration| toleration.tolerates(taint)) else {
            return Some(Duration::ZERO);
        };
        if let Some(seconds) = toleration.seconds {
            let bears = Duration::from_secs(u64::try_from(seconds).unwrap_or(0));
            shortest = Some(shortest.map_or(bears, |shortest: Duration| shortest.min(bears)));
        }
    }
    shortest
}

/// What a pod puts up with though it doesn't say so: a toleration for each of the two taints about
/// which it says nothing at all.
fn defaults(spec: &PodSpec, eviction_s: u32) -> Vec<Toleration> {
    let keys = [TAINT_NOT_READY, TAINT_UNREACHABLE].into_iter();
    keys.filter(|key| {
        !spec.tolerations.iter().any(|its| {
            its.key.as_deref().is_none_or(|its| its == *key)
                && its.effect.is_none_or(|effect| effect == TaintEffect::NoExecute)
        })
    })
    .map(|key| Toleration {
        key: Some(key.to_owned()),
        value: None,
        effect: Some(TaintEffect::NoExecute),
        seconds: Some(eviction_s.into()),
    })
    .collect()
}

/// Forgets since when pods have borne what they need not bear any more.
fn cancel(work: &mut Work, borne: &BTreeMap<PodKey, Option<Duration>>) {
    let counted: Vec<(PodKey, bool)> = work
        .pods
        .values()
        .filter(|pod| work.memory.tainted_since.contains_key(&pod.binding.uid))
        .map(|pod| (pod.binding.key.clone(), pod.is_active()))
        .filter(|(key, _)| borne.get(key).copied().flatten().is_none())
        .collect();
    for (key, is_active) in counted {
        if let Some(pod) = work.pods.get(&key) {
            work.memory.tainted_since.remove(&pod.binding.uid);
        }
        if is_active {
            say(work, &key, format!("Cancelling deletion of Pod {key}"));
        }
    }
}

fn evict(work: &mut Work, key: &PodKey, bears: Duration) {
    let Some(pod) = work.pods.get(key) else {
        return;
    };
    let (uid, now) = (pod.binding.uid.clone(), work.now.elapsed);
    let node = pod.node.as_ref().map_or("", Name::as_str).to_owned();
    let since = *work.memory.tainted_since.entry(uid.clone()).or_insert(now);
    let left = bears.saturating_sub(now.since(since));
    if !left.is_zero() {
        work.wake_in(left);
        return;
    }
    work.memory.tainted_since.remove(&uid);
    work.note(format!("pod {key} ends: it puts up with {node}'s taints no longer"));
    say(work, key, format!("Marking for deletion Pod {key}"));
    work.end_pod(key, None, "Evicted");
}

fn say(work: &mut Work, key: &PodKey, message: String) {
    let about = Key::namespaced(Kind::Pod, &key.namespace, &key.name);
    work.event(&about, SOURCE, "TaintManagerEviction", message);
}
