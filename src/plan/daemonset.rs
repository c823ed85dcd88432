//! DaemonSets: a pod on every node that the template allows.
//!
//! A lamp in every room: who adds a room gets one more, and who changes the lamps does so room by room.
//! Which rooms have one follows from the nodes alone (labels, taints), never from how full they are: a
//! pod that finds no room is made all the same and waits for its node, and for no other. Cordons and the
//! taints of nodes in trouble it puts up with ([`DaemonSet::tolerations`]); what a drain ends it is not
//! part of.
//!
//! The rules are Kubernetes' (`daemon_controller.go`, `update.go`). One is ours: nodes that are not heard
//! of are left alone and count for nobody. A fleet always has some that are off; a roll-out passes
//! them by and takes them up when they are back.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::desired::Desired;
use crate::kinds::binding::AppName;
use crate::kinds::labels::Labels;
use crate::kinds::name::{Name, NodeName, PodKey};
use crate::kinds::object::{Body, Key, Object};
use crate::kinds::pod::{PodSpec, Taint, TaintEffect};
use crate::kinds::registry::Kind;
use crate::kinds::workload::{DaemonSet, DaemonUpdate};
use crate::state::records::NodeAllocation;

use super::NodeInput;
use super::canary;
use super::revisions::{self, Edition, LABEL_REVISION};
use super::work::{NewName, NewPod, PODS_MADE_MAX, Work};

/// Who says so in events.
const SOURCE: &str = "daemonset-controller";

/// A node as a DaemonSet sees it.
#[derive(Clone, Debug)]
pub(super) struct Room {
    pub(super) labels: Labels,
    taints: Vec<Taint>,
    /// Whether it is not heard of, or was declared dead.
    is_away: bool,
}

/// What a DaemonSet has to do with a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// It wants a pod there.
    Wants,
    /// It wants none, and lets one be that is there.
    Bears,
    /// Its pods leave.
    Leaves,
}

/// The nodes on which a DaemonSet with these pods wants one (`DesiredNumberScheduled`).
pub fn wanted_nodes(
    nodes: &BTreeMap<NodeName, NodeInput>,
    given: &BTreeMap<NodeName, NodeAllocation>,
    desired: &[&Desired],
    spec: &PodSpec,
) -> BTreeSet<NodeName> {
    let rooms = rooms(nodes, given, desired);
    let wanted = rooms.into_iter().filter(|(name, room)| claim(spec, name, room) == Claim::Wants);
    wanted.map(|(name, _)| name).collect()
}

/// The nodes there are.
pub(super) fn rooms(
    nodes: &BTreeMap<NodeName, NodeInput>,
    given: &BTreeMap<NodeName, NodeAllocation>,
    desired: &[&Desired],
) -> BTreeMap<NodeName, Room> {
    let known = nodes.iter().filter_map(|(name, input)| Some((name, input, given.get(name)?)));
    let known = known.filter(|(_, _, given)| !given.is_forgotten());
    let rooms = known.map(|(name, input, given)| {
        let mut labels = input.facts.labels.clone();
        let key = Key::cluster(Kind::Node, name);
        let wish = desired.iter().find_map(|desired| desired.objects.get(&key));
        let mut taints = Vec::new();
        if let Some(Body::Node(wish)) = wish.map(|object| &object.body) {
            labels.extend(wish.labels.clone());
            taints.clone_from(&wish.taints);
        }
        (name.clone(), Room { labels, taints, is_away: given.is_away() })
    });
    rooms.collect()
}

/// `nodeShouldRunDaemonPod`.
fn claim(spec: &PodSpec, name: &NodeName, room: &Room) -> Claim {
    let is_named = spec.node_name.as_ref().is_none_or(|asked| asked == name);
    if !is_named || !spec.allows_node(name, &room.labels) {
        return Claim::Leaves;
    }
    let refusing = |effect| {
        let mut taints = room.taints.iter().filter(move |taint| taint.effect == effect);
        taints.any(|taint| !spec.tolerates(taint))
    };
    if refusing(TaintEffect::NoExecute) {
        Claim::Leaves
    } else if refusing(TaintEffect::NoSchedule) {
        Claim::Bears
    } else {
        Claim::Wants
    }
}

/// A DaemonSet in the planner's hands.
struct Lighting<'a> {
    app: &'a AppName,
    key: &'a Key,
    namespace: &'a Name,
    spec: &'a DaemonSet,
    /// What new pods are made from.
    update: Edition,
    /// What those of nodes that are held back are made from.
    held: Option<(BTreeSet<NodeName>, Edition)>,
    rooms: &'a BTreeMap<NodeName, Room>,
}

/// The pods of a node that are neither being ended nor over, the oldest first.
#[derive(Clone, Debug, Default)]
struct Lamps {
    new: Vec<PodKey>,
    old: Vec<PodKey>,
    /// Whether there are others, which are being ended.
    has_leaving: bool,
}

pub(super) fn keep_daemon_sets(work: &mut Work) {
    let revisions = work.revisions.clone();
    let mut rooms = None;
    for (app, revision) in &revisions {
        for object in revision.desired.objects.values() {
            if let Body::DaemonSet(spec) = &object.body {
                let rooms = rooms.get_or_insert_with(|| {
                    let desired: Vec<&Desired> =
                        revisions.values().map(|its| &*its.desired).collect();
                    self::rooms(&work.input.nodes, &work.next.nodes, &desired)
                });
                keep(work, app, object, spec, rooms);
            }
        }
    }
}

fn keep(
    work: &mut Work,
    app: &AppName,
    object: &Object,
    spec: &Arc<DaemonSet>,
    rooms: &BTreeMap<NodeName, Room>,
) {
    let Some(namespace) = &object.key.namespace else {
        return;
    };
    let Some(update) = revisions::in_force(work, app, object, &spec.template) else {
        return;
    };
    let mut set = Lighting { app, key: &object.key, namespace, spec, update, held: None, rooms };
    let wanted: BTreeSet<&NodeName> = rooms
        .iter()
        .filter(|(name, room)| claim(&spec.template.spec, name, room) == Claim::Wants)
        .map(|(name, _)| name)
        .collect();
    set.held = set.held_back(work, &wanted);
    manage(work, &set, &wanted);
    match set.bounds(wanted.len()) {
        None => {}
        Some((0, unavailable)) => replace(work, &set, &wanted, unavailable),
        Some((surge, _)) => overlap(work, &set, &wanted, surge),
    }
    forget_old(work, &set);
}

impl Lighting<'_> {
    /// `(maxSurge, maxUnavailable)` for so many nodes; none where a person decides.
    fn bounds(&self, nodes: usize) -> Option<(u32, u32)> {
        let nodes = u32::try_from(nodes).unwrap_or(u32::MAX);
        match self.spec.update {
            DaemonUpdate::OnDelete => None,
            DaemonUpdate::RollingUpdate { max_surge, max_unavailable } => {
                let surge = max_surge.rounded_up(nodes);
                let unavailable = max_unavailable.rounded_up(nodes);
                Some((surge, if surge == 0 { unavailable.max(1) } else { unavailable }))
            }
        }
    }

    /// Which nodes are held back while a part goes ahead, and with what. Those that have a new pod are
    /// ahead still; then those that are heard of, by name.
    fn held_back(
        &self,
        work: &Work,
        wanted: &BTreeSet<&NodeName>,
    ) -> Option<(BTreeSet<NodeName>, Edition)> {
        let part = canary::part(work, self.app, self.key)?;
        let from = revisions::edition(work, self.app, self.key, &part.from)?;
        let picked = canary::nodes(work, self.app);
        let lamps = self.lamps(work);
        let has_new = |node: &NodeName| lamps.get(node).is_some_and(|lamps| !lamps.new.is_empty());
        let mut ahead: Vec<&NodeName> = wanted.iter().copied().collect();
        ahead.retain(|node| picked.as_ref().is_none_or(|picked| picked.contains(*node)));
        ahead.sort_by_key(|node| (!has_new(node), self.is_away(node)));
        ahead.truncate(usize::try_from(part.pods).unwrap_or(usize::MAX));
        let held = self.rooms.keys().filter(|node| !ahead.contains(node)).cloned();
        Some((held.collect(), from))
    }

    /// What a node's pod is made from.
    fn edition(&self, node: &NodeName) -> &Edition {
        let held = self.held.as_ref().filter(|(held, _)| held.contains(node));
        held.map_or(&self.update, |(_, from)| from)
    }

    /// How that is called in the pod's labels.
    fn hash(&self, node: &NodeName) -> &str {
        self.edition(node).hash(&self.key.name)
    }

    fn surges(&self) -> bool {
        self.bounds(1).is_some_and(|(surge, _)| surge > 0)
    }

    fn is_away(&self, node: &NodeName) -> bool {
        self.rooms.get(node).is_none_or(|room| room.is_away)
    }

    /// The pods there are, by the node they are made for.
    fn lamps(&self, work: &Work) -> BTreeMap<NodeName, Lamps> {
        let mut lamps: BTreeMap<NodeName, Lamps> = BTreeMap::new();
        for pod in work.pods_of(self.key) {
            let Some(node) = &pod.binding.only_node else {
                continue;
            };
            let lamps = lamps.entry(node.clone()).or_default();
            match revisions::is_of(pod, self.hash(node)) {
                _ if pod.is_leaving() || pod.phase().is_over() => lamps.has_leaving = true,
                true => lamps.new.push(pod.binding.key.clone()),
                false => lamps.old.push(pod.binding.key.clone()),
            }
        }
        lamps
    }

    fn make(&self, work: &mut Work, node: &NodeName) {
        if work.made >= PODS_MADE_MAX {
            return;
        }
        let pod = work.make_pod(NewPod {
            namespace: self.namespace,
            name: NewName::After(self.key.name.as_str()),
            template: self.edition(node).template.clone(),
            owner: self.key.clone(),
            labels: Labels::from([(LABEL_REVISION.to_owned(), self.hash(node).to_owned())]),
            index: None,
            only_node: Some(node.clone()),
        });
        work.note(format!("{}: pod {} is made for {node}", self.key, pod.name));
        let message = format!("Created pod: {}", pod.name);
        work.event(self.key, SOURCE, "SuccessfulCreate", message);
    }

    fn end(&self, work: &mut Work, pod: &PodKey, grace_s: Option<u32>, reason: &str) {
        // One that has no node is gone at once, and another can be made in the next turn.
        work.is_unfinished |= work.pods.get(pod).is_some_and(|pod| pod.node.is_none());
        work.end_pod(pod, grace_s, reason);
        let message = format!("Deleted pod: {}", pod.name);
        work.event(self.key, SOURCE, "SuccessfulDelete", message);
    }
}

/// Sees to it that there is one pod where one is wanted, and none where none is borne.
fn manage(work: &mut Work, set: &Lighting<'_>, wanted: &BTreeSet<&NodeName>) {
    let finished: Vec<PodKey> = work
        .pods_of(set.key)
        .into_iter()
        .filter(|pod| !pod.is_leaving() && pod.phase().is_over())
        .map(|pod| pod.binding.key.clone())
        .collect();
    for pod in finished {
        set.end(work, &pod, Some(0), "Finished");
    }
    let mut lamps = set.lamps(work);
    for (node, room) in set.rooms {
        let lamps = lamps.remove(node).unwrap_or_default();
        let spec = &set.spec.template.spec;
        if claim(spec, node, room) == Claim::Leaves {
            for pod in lamps.new.iter().chain(&lamps.old) {
                work.note(format!("{}: {node} is not for its pods any more", set.key));
                set.end(work, pod, None, "NodeNotWanted");
            }
            continue;
        }
        if room.is_away {
            continue;
        }
        let is_dark = lamps.new.is_empty() && lamps.old.is_empty();
        if is_dark && wanted.contains(node) && (!lamps.has_leaving || set.surges()) {
            set.make(work, node);
        }
        prune(work, set, &lamps);
    }
}

/// Of several pods on one node the best stays, of equals the oldest; where pods overlap, the best of
/// the new and of the old.
fn prune(work: &mut Work, set: &Lighting<'_>, lamps: &Lamps) {
    let groups = match set.surges() {
        true => vec![lamps.new.clone(), lamps.old.clone()],
        false => vec![[lamps.new.as_slice(), &lamps.old].concat()],
    };
    for group in groups.into_iter().filter(|group| group.len() > 1) {
        let mut ranked: Vec<(Reverse<Worth>, u64, PodKey)> = Vec::new();
        for pod in group {
            let sequence = work.pods.get(&pod).map_or(u64::MAX, |pod| pod.binding.sequence);
            ranked.push((Reverse(worth(work, set, &pod)), sequence, pod));
        }
        ranked.sort();
        for (_, _, pod) in ranked.into_iter().skip(1) {
            set.end(work, &pod, None, "ScaledDown");
        }
    }
}

/// How an old pod stands in the way of its node's new one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Worth {
    /// It is not ready: its end costs nothing.
    None,
    /// It is ready, and has not been for long enough.
    Soon,
    /// It is available.
    Full,
}

fn worth(work: &mut Work, set: &Lighting<'_>, pod: &PodKey) -> Worth {
    let is_available = work.is_available(pod, set.spec.min_ready_s);
    match work.pods.get(pod).is_some_and(super::Pod::is_ready) {
        false => Worth::None,
        true if !is_available => Worth::Soon,
        true => Worth::Full,
    }
}

/// The old pod goes, then the new one comes: on as many nodes at once as may be without.
fn replace(work: &mut Work, set: &Lighting<'_>, wanted: &BTreeSet<&NodeName>, max: u32) {
    let lamps = set.lamps(work);
    let (mut useless, mut good, mut missing) = (Vec::new(), Vec::new(), 0_u32);
    for node in wanted.iter().filter(|node| !set.is_away(node)) {
        let lamps = lamps.get(*node).cloned().unwrap_or_default();
        match (lamps.new.first(), lamps.old.first()) {
            (Some(new), None) => missing += u32::from(worth(work, set, new) != Worth::Full),
            (None, Some(old)) => match worth(work, set, old) {
                Worth::None => useless.push(old.clone()),
                Worth::Soon => missing += 1,
                Worth::Full => good.push(old.clone()),
            },
            _ => missing += 1,
        }
    }
    let room = usize::try_from(max.saturating_sub(missing)).unwrap_or(usize::MAX);
    // What is no use is missing already. Kubernetes does not count it, and may take too many at once.
    let room = room.saturating_sub(useless.len());
    for pod in useless.into_iter().chain(good.into_iter().take(room)) {
        work.note(format!("{}: pod {} is replaced: its template changed", set.key, pod.name));
        set.end(work, &pod, None, "TemplateChanged");
    }
}

/// The new pod comes, and when it is available the old one goes: on so many nodes at once.
fn overlap(work: &mut Work, set: &Lighting<'_>, wanted: &BTreeSet<&NodeName>, max: u32) {
    let lamps = set.lamps(work);
    let (mut free, mut next, mut doubled) = (Vec::new(), Vec::new(), 0_u32);
    for node in wanted.iter().filter(|node| !set.is_away(node)) {
        let lamps = lamps.get(*node).cloned().unwrap_or_default();
        let Some(old) = lamps.old.first() else {
            continue;
        };
        let worth_of_old = worth(work, set, old);
        match lamps.new.first() {
            None if worth_of_old == Worth::None => free.push((*node).clone()),
            None => next.push((*node).clone()),
            Some(new) => {
                if worth_of_old == Worth::None || worth(work, set, new) == Worth::Full {
                    work.note(format!("{}: pod {} has been replaced", set.key, old.name));
                    set.end(work, old, None, "TemplateChanged");
                } else {
                    doubled += 1;
                }
            }
        }
    }
    let room = usize::try_from(max.saturating_sub(doubled)).unwrap_or(usize::MAX);
    for node in free.into_iter().chain(next.into_iter().take(room)) {
        set.make(work, &node);
    }
}

fn forget_old(work: &mut Work, set: &Lighting<'_>) {
    let mut in_use = BTreeSet::from([set.update.name.clone()]);
    in_use.extend(set.held.iter().map(|(_, from)| from.name.clone()));
    in_use.extend(work.pods_of(set.key).iter().filter_map(|pod| {
        let hash = pod.binding.labels.get(LABEL_REVISION)?;
        Some(Name::trusted(&format!("{}-{hash}", set.key.name)))
    }));
    let limit = set.spec.revision_history_limit;
    revisions::forget_old(work, set.app, set.key, &in_use, limit);
}
