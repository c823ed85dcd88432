//! Preemption: a pod that fits nowhere may take the place of lesser ones.
//!
//! A full boat that meets somebody in the water: whoever matters less climbs out, as few as will do,
//! and the seat is kept for the one who is coming. For each node it is tried out what would be if all
//! lesser pods were gone; those that can stay all the same stay, the most important first. The node
//! where this costs least is chosen, by kube-scheduler's measure (`SelectVictimsOnNode`,
//! `pickOneNodeForPreemption`). Nothing is ended here: the answer says who would have to go.
//!
//! Pods that are being ended anyway cost nothing and are not asked again. That one rule is ours:
//! kube-scheduler counts them as victims.

use std::cmp::Reverse;

use crate::kinds::name::PodKey;

use super::budgets::Budgets;
use super::choose::{Scheduler, is_reached};
use super::cluster::Change;
use super::outlook::Outlook;
use super::ranking::refusals;
use super::{Cluster, Reach, Unfit, Why};

/// Nodes that could be freed are compared up to this many, or a tenth of all where that is more
/// (`minCandidateNodesAbsolute`, `minCandidateNodesPercentage`).
const CANDIDATES_MIN: usize = 100;

/// The pods that are there, by node, and the budgets that protect them.
#[derive(Debug, Default)]
pub(super) struct Board {
    pub(super) residents: Vec<Vec<Resident>>,
    pub(super) budgets: Budgets,
}

/// A pod on a node.
#[derive(Clone, Debug)]
pub(super) struct Resident {
    pub(super) key: PodKey,
    pub(super) shape: usize,
    pub(super) priority: i32,
    /// Higher is newer.
    pub(super) sequence: u64,
    /// It is being ended.
    pub(super) is_leaving: bool,
    /// It is being ended to make room for another.
    pub(super) is_preempted: bool,
}

/// A node on which room can be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) node: usize,
    /// Who would have to go, as places among the node's residents; the most important first.
    pub(super) victims: Vec<usize>,
    /// How many of them a budget protects.
    violations: usize,
}

impl Scheduler {
    /// Finds the node on which room for a pod of this priority costs least, or says why there is
    /// none. `start` is where looking begins: it matters only in fleets too large to compare all.
    pub(super) fn find_victims(
        &mut self,
        shape: usize,
        priority: i32,
        board: &Board,
        start: usize,
        reach: Option<&Reach>,
    ) -> Result<Candidate, Unfit> {
        // A shape's pods are all of one priority.
        if reach.is_none()
            && let Some(unfit) = self.known_hopeless(shape)
        {
            return Err(unfit.clone());
        }
        let ranking = self.ranking(shape);
        let mut outlook = self.outlook(shape, &ranking);
        self.keep_ranking(ranking);
        let nodes = self.cluster.machines.len();
        let mut unfit = Unfit { nodes, ..Unfit::default() };
        let mut candidates = Vec::new();
        for node in (0..nodes).map(|offset| (start + offset) % nodes) {
            if candidates.len() >= CANDIDATES_MIN.max(nodes / 10) {
                break;
            }
            if !is_reached(reach, node) {
                *unfit.reasons.entry(Why::NotHelpful).or_default() += 1;
                continue;
            }
            let residents = &board.residents[node];
            let mut trial =
                Trial { cluster: &mut self.cluster, outlook: outlook.as_mut(), node, shape };
            match trial.run(priority, residents, &board.budgets) {
                Ok(candidate) => candidates.push(candidate),
                Err(reasons) => {
                    for why in reasons {
                        *unfit.reasons.entry(why).or_default() += 1;
                    }
                }
            }
        }
        if let Some(outlook) = outlook {
            self.keep_outlook(outlook);
        }
        let cost = |candidate: &Candidate| cost(candidate, &board.residents[candidate.node]);
        let best = candidates.into_iter().min_by_key(cost);
        best.ok_or_else(|| {
            if reach.is_none() {
                self.keep_hopeless(shape, &unfit);
            }
            unfit
        })
    }

    /// Whether less company on the node could let the pod in there.
    pub(super) fn room_would_help(&mut self, shape: usize, node: usize) -> bool {
        let ranking = self.ranking(shape);
        let outlook = self.outlook(shape, &ranking);
        let reasons = reasons(shape, node, outlook.as_ref(), &self.cluster);
        let is_hopeless = is_hopeless(&reasons, shape, node, &self.cluster);
        self.keep_ranking(ranking);
        if let Some(outlook) = outlook {
            self.keep_outlook(outlook);
        }
        !is_hopeless
    }
}

/// What a node's victims cost, the least first (`pickOneNodeForPreemption`).
type Cost = (usize, i32, i64, usize, Reverse<u64>, usize);

fn cost(candidate: &Candidate, residents: &[Resident]) -> Cost {
    let victims = || candidate.victims.iter().map(|at| &residents[*at]);
    let highest = victims().map(|victim| victim.priority).max();
    // Shifted so that each victim weighs something, also one of negative priority.
    let sum = victims().map(|victim| i64::from(victim.priority) + (1 << 31)).sum();
    let top = victims().filter(|victim| Some(victim.priority) == highest);
    let oldest = top.map(|victim| victim.sequence).min().unwrap_or(u64::MAX);
    (
        candidate.violations,
        highest.unwrap_or(i32::MIN),
        sum,
        candidate.victims.len(),
        Reverse(oldest),
        candidate.node,
    )
}

fn reasons(shape: usize, node: usize, outlook: Option<&Outlook>, cluster: &Cluster) -> Vec<Why> {
    let mut reasons = refusals(&cluster.shapes[shape], node, cluster);
    if reasons.is_empty() {
        reasons.extend(outlook.and_then(|outlook| outlook.refuses(node, cluster)));
    }
    reasons
}

/// Whether the node would refuse the pod with nobody else on it (`UnschedulableAndUnresolvable`).
fn is_hopeless(reasons: &[Why], shape: usize, node: usize, cluster: &Cluster) -> bool {
    let (machine, demand) = (&cluster.machines[node], &cluster.shapes[shape].demand);
    reasons.iter().any(|why| match why {
        Why::NotReady
        | Why::Settings
        | Why::Unschedulable
        | Why::OtherNode
        | Why::NodeAffinity
        | Why::Taint(_)
        | Why::SpreadLabel
        | Why::PodAffinity
        | Why::VolumeAffinity
        | Why::NoVolume
        | Why::VolumeInUse
        | Why::VolumeOfOnePod
        | Why::TurnedAway
        | Why::NotAhead
        | Why::NotHelpful => true,
        Why::Resource(name) => demand.requests.iter().any(|(resource, asked)| {
            cluster.resources.name(*resource) == name && *asked > machine.has(*resource)
        }),
        Why::TooManyPods => machine.pods_max == 0,
        Why::HostPort
        | Why::Spread
        | Why::PodAntiAffinity
        | Why::OthersAntiAffinity
        | Why::NoVictims => false,
    })
}

/// One node, tried out: everything done to it is undone.
struct Trial<'t> {
    cluster: &'t mut Cluster,
    outlook: Option<&'t mut Outlook>,
    node: usize,
    shape: usize,
}

impl Trial<'_> {
    fn run(
        &mut self,
        priority: i32,
        residents: &[Resident],
        budgets: &Budgets,
    ) -> Result<Candidate, Vec<Why>> {
        let reasons = self.reasons();
        if is_hopeless(&reasons, self.shape, self.node, self.cluster) {
            return Err(vec![Why::NotHelpful]);
        }
        let lesser = || residents.iter().enumerate().filter(|(_, its)| its.priority < priority);
        if lesser().next().is_none() {
            return Err(vec![Why::NoVictims]);
        }
        for (_, resident) in lesser() {
            self.move_pod(resident.shape, -1);
        }
        let reasons = self.reasons();
        if !reasons.is_empty() {
            for (_, resident) in lesser() {
                self.move_pod(resident.shape, 1);
            }
            return Err(reasons);
        }
        let staying = lesser().filter(|(_, its)| !its.is_leaving).map(|(at, _)| at).collect();
        let (victims, violations) = self.reprieve(staying, residents, budgets);
        let leaving = lesser().filter(|(_, its)| its.is_leaving).map(|(at, _)| at);
        for at in victims.iter().copied().chain(leaving) {
            self.move_pod(residents[at].shape, 1);
        }
        Ok(Candidate { node: self.node, victims, violations })
    }

    /// Lets back whoever can stay: first those that a budget protects, each sort by importance. Says
    /// who can't, and how many of them are protected.
    fn reprieve(
        &mut self,
        mut pods: Vec<usize>,
        residents: &[Resident],
        budgets: &Budgets,
    ) -> (Vec<usize>, usize) {
        // `MoreImportantPod`: by priority, then by age.
        let importance = |at: &usize| (Reverse(residents[*at].priority), residents[*at].sequence);
        pods.sort_by_key(importance);
        let about = pods.iter().map(|at| {
            let shape = &self.cluster.shapes[residents[*at].shape];
            (&residents[*at].key.namespace, &shape.labels)
        });
        let broken = budgets.broken_by(about);
        let mut victims = Vec::new();
        let mut violations = 0;
        for is_protected in [true, false] {
            let sort = pods.iter().zip(&broken).filter(|(_, broken)| **broken == is_protected);
            for (at, _) in sort {
                let shape = residents[*at].shape;
                self.move_pod(shape, 1);
                if !self.reasons().is_empty() {
                    self.move_pod(shape, -1);
                    victims.push(*at);
                    violations += usize::from(is_protected);
                }
            }
        }
        victims.sort_by_key(importance);
        (victims, violations)
    }

    fn reasons(&self) -> Vec<Why> {
        reasons(self.shape, self.node, self.outlook.as_deref(), self.cluster)
    }

    fn move_pod(&mut self, shape: usize, by: i64) {
        let change = Change { node: self.node, shape, by, is_claim: false };
        self.cluster.count(change);
        if let Some(outlook) = &mut self.outlook {
            outlook.suppose(change, self.cluster);
        }
    }
}
