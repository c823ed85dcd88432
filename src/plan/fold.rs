//! What everybody needs of what the nodes say, folded into the coordinator's register: in a large
//! fleet nobody but those who may coordinate reads nodes' registers (docs/DESIGN.md, Hard cases 7).
//!
//! A town crier: he reads all the letters, and calls out what concerns the square. He calls at once
//! what people act by (which pods get packets, where nodes are), at most once a second; the rest he
//! adds to whatever he calls next, and keeps it back for half a minute at most.
//!
//! The rule: **every write carries the whole fold of what it was decided by.** So whoever follows a
//! decision that ends a pod knows the readiness of those that it was ended for, and acknowledged
//! decisions keep their meaning (Hard cases 14).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::kinds::fleet::FleetSettings;
use crate::kinds::name::{NodeName, Uid};
use crate::kinds::node::{Contact, LABEL_ZONE, NodeFacts};
use crate::kinds::status::PodReport;
use crate::kinds::time::Elapsed;
use crate::state::NodeReport;

use super::NodeInput;
use super::work::Work;

/// What others act by is written at most this often by itself.
const URGENT_EVERY: Duration = Duration::from_secs(1);
/// What is only shown waits at most this long for a write that it may go with.
const SHOWN_WITHIN: Duration = Duration::from_secs(30);

/// What the coordinator remembers of its fold.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Folding {
    /// When a fold was last decided.
    at: Option<Elapsed>,
    /// Since when something waits that is only shown.
    shown_since: Option<Elapsed>,
    /// What each node's word was made into: most nodes say what they said before.
    made: BTreeMap<NodeName, Made>,
    /// The settings that were in force when it was.
    settings: Option<Arc<FleetSettings>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Made {
    facts: Arc<NodeFacts>,
    pods: Arc<BTreeMap<Uid, Arc<PodReport>>>,
    brief: Arc<NodeReport>,
}

/// Folds what the nodes say into the next state, if that is due or a write goes out anyway.
pub(super) fn fold_reports(work: &mut Work, is_written: bool) {
    let known = &work.input.state.fold;
    // Who is not in the record of nodes yet is of no use to others. Once folded, always folded: a
    // fleet at the bound must not change its ways with every node that comes and goes.
    let is_large = work.next.nodes.len() > work.input.folds_above || !known.is_empty();
    if !is_large {
        return;
    }
    let fold = folded(work, known);
    let mut changed = fold.iter().filter_map(|(node, report)| match known.get(node) {
        Some(before) if Arc::ptr_eq(before, report) => None,
        before => Some((before, report)),
    });
    let is_less = known.keys().any(|node| !fold.contains_key(node));
    let now = work.now.elapsed;
    let folding = &mut work.memory.folding;
    if !is_less && changed.clone().next().is_none() {
        folding.shown_since = None;
        return;
    }
    let is_news = |before: Option<&Arc<NodeReport>>, report: &NodeReport| {
        before.is_none_or(|before| acted_by(before) != acted_by(report))
    };
    let is_urgent = is_less || changed.any(|(before, report)| is_news(before, report));
    let shown_since = *folding.shown_since.get_or_insert(now);
    let due = match is_urgent {
        true => folding.at.map_or(now, |at| at + URGENT_EVERY),
        false => shown_since + SHOWN_WITHIN,
    };
    if due > now && !is_written {
        return work.wake_in(due.since(now));
    }
    (folding.at, folding.shown_since) = (Some(now), None);
    work.next.fold = fold;
}

/// The fold of what is known now. What is as it was is shared with what was written.
fn folded(
    work: &mut Work,
    known: &BTreeMap<NodeName, Arc<NodeReport>>,
) -> BTreeMap<NodeName, Arc<NodeReport>> {
    let in_force = work.next.settings.clone();
    let mut before = std::mem::take(&mut work.memory.folding.made);
    if std::mem::replace(&mut work.memory.folding.settings, in_force.clone()) != in_force {
        before.clear();
    }
    let given = work.input.nodes.iter().filter(|(node, _)| work.next.nodes.contains_key(*node));
    let made = given.map(|(node, input)| {
        let is_same = |made: &Made| {
            Arc::ptr_eq(&made.facts, &input.facts) && Arc::ptr_eq(&made.pods, &input.pods)
        };
        let made = before.remove(node).filter(is_same);
        (node.clone(), made.unwrap_or_else(|| make(input, known.get(node), in_force.as_deref())))
    });
    let made: BTreeMap<NodeName, Made> = made.collect();
    // A node whose register nobody can read at the moment said what it said.
    let unread = known.iter().filter(|(node, _)| work.next.nodes.contains_key(*node));
    let mut fold: BTreeMap<_, _> =
        unread.map(|(node, said)| (node.clone(), said.clone())).collect();
    fold.extend(made.iter().map(|(node, made)| (node.clone(), made.brief.clone())));
    work.memory.folding.made = made;
    fold
}

fn make(
    input: &NodeInput,
    known: Option<&Arc<NodeReport>>,
    in_force: Option<&FleetSettings>,
) -> Made {
    let (facts, pods) = (input.facts.clone(), input.pods.clone());
    let mut brief =
        NodeReport { facts: facts.clone(), pods: pods.clone(), ..NodeReport::default() }.brief();
    // Who has the fleet's settings need not say so: whoever says nothing asks for no others.
    let says = facts.settings.as_ref().zip(in_force);
    if says.is_some_and(|(own, fleet)| own.version <= fleet.version && own.agree_with(fleet)) {
        Arc::make_mut(&mut brief.facts).settings = None;
    }
    let brief = match known {
        Some(known) if **known == brief => known.clone(),
        _ => Arc::new(brief),
    };
    Made { facts, pods, brief }
}

type ActedBy<'r> =
    (&'r [IpAddr], Option<&'r Contact>, Option<&'r String>, Vec<(&'r Uid, Option<IpAddr>, bool)>);

/// What other nodes act by: where the node is, its zone, and which of its pods get packets where.
fn acted_by(report: &NodeReport) -> ActedBy<'_> {
    let facts = &report.facts;
    let pods = report.pods.iter().map(|(uid, pod)| {
        let status = &pod.status;
        let ip = status.pod_ip.map(IpAddr::V4).or(status.host_ip);
        let is_over = status.phase.is_over() || pod.gone;
        (uid, ip.filter(|_| !is_over), status.is_ready() && !is_over)
    });
    // A pod that no packet is led to yet is no news.
    let pods = pods.filter(|(_, ip, _)| ip.is_some()).collect();
    (&facts.addresses, facts.contact.as_ref(), facts.labels.get(LABEL_ZONE), pods)
}
