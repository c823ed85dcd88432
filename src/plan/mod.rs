//! What should run where.
//!
//! A helmsman who is handed the chart, the log and the time, and answers with the next entry of the
//! log: [`plan`] takes everything known and gives the next state of the coordinator's register. It
//! never fails; what it can't do it reports. The same input gives the same bytes.
//!
//! One turn goes all the way from a commit to placed pods, in this order:
//!
//! ```text
//! lease    this agent says that it coordinates
//! nodes    which are heard of, which are lost?
//! common   what must all nodes share?
//! go back  to the last healthy revision, where a newer one failed
//! accept   is the newest commit taken, refused or held?
//! ledger   which objects are new, which are gone?
//! pods     what do the nodes say of each pod; which have ended, which were turned away?
//! people   what do people ask for; which nodes are fenced?
//! restored who has read that the store was taken on purpose?
//! evict    who must leave a node for its taints?
//! drain    who must leave a node because somebody wants it empty?
//! claim    which ReplicaSet owns which pod?
//! cron     CronJobs: Jobs made for the minutes that are due
//! job      Jobs: ends counted, verdicts, pods for what is left to do
//! deploy   Deployments: ReplicaSets up and down, step by step
//! sets     ReplicaSets, ReplicationControllers: pods made and ended
//! stateful StatefulSets: pods by number, one after the other
//! daemons  DaemonSets: a pod on each node
//! single   Pods written by hand
//! storage  claims, and the volumes they are bound to
//! allocate addresses for nodes and Services
//! schedule pods without a node get one
//! watch    has what is in force become healthy, or failed to; may the next wave, or the rest, come?
//! fold     what others need of what the nodes say
//! ```
//!
//! Floor 2: imports `kinds`, `ports`, `desired`, `state`; knows no clock, disk, network or task.

mod accept;
mod allocate;
mod apps;
mod canary;
mod claim;
pub mod common;
mod cronjob;
mod daemonset;
mod deployment;
mod drain;
mod evict;
mod fence;
mod fold;
mod health;
mod job;
mod lease;
mod ledger;
mod library;
mod liveness;
mod memory;
mod outcome;
mod people;
mod pods;
mod refusals;
mod replicaset;
mod restored;
mod revisions;
mod rollout;
pub mod schedule;
mod single;
mod statefulset;
pub mod storage;
#[cfg(test)]
mod tests;
mod unsaid;
mod vigil;
mod waves;
mod windows;
mod work;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::Ipv4Network;

use crate::desired::trust::Signer;
use crate::desired::{AppSpec, Desired, Need};
use crate::kinds::binding::{AppName, Oid};
use crate::kinds::finding::Finding;
use crate::kinds::fleet::FleetSettings;
use crate::kinds::name::{NodeName, Uid};
use crate::kinds::node::NodeFacts;
use crate::kinds::status::PodReport;
use crate::kinds::time::{Elapsed, Now};
use crate::kinds::window::Window;
use crate::ports::source::{CommitInfo, Relation};
use crate::state::{PersonRequest, State};

pub use accept::may_accept;
pub use apps::{Offer, offers};
pub use daemonset::wanted_nodes;
pub use deployment::{REASON_PAUSED, REASON_RESUMED};
pub(crate) use drain::DRAINED;
pub use lease::{Leader, adopted};
pub use library::{
    Library, Reader, Shelf, book_of, missing_templates, references, still_means, template_for,
    template_of,
};
pub use memory::Memory;
pub(crate) use people::EVICTED;
pub use pods::{Pod, Tally};
pub(crate) use schedule::PREEMPTED;
pub use unsaid::RECORDS;
pub use vigil::{Silence, Vigil};
pub use waves::{InWaves, in_force, is_made_of};
use work::Work;
pub(crate) use work::append_events;

/// Everything a turn looks at.
#[derive(Clone, Debug)]
pub struct Input {
    /// The agent that plans.
    pub me: NodeName,
    /// Which life of that agent.
    pub incarnation: String,
    /// How long others wait for a silent coordinator, in seconds.
    pub lease_s: u32,
    /// Whether it takes the lease anew: it did not have it, or had let it run out.
    pub takes_lease: bool,
    /// Whether the register is gone from the store and is written anew.
    pub writes_anew: bool,
    /// In fleets of more nodes than this, what they say is folded into the coordinator's register.
    pub folds_above: usize,
    /// How long a node is silent until it counts as lost.
    pub not_ready_after: Duration,
    /// What the operator has set.
    pub settings: Arc<Settings>,
    /// What this node says must be the same on every node.
    pub fleet: Arc<FleetSettings>,
    /// The coordinator's register as it is.
    pub state: State,
    /// The desired repository, by app.
    pub apps: BTreeMap<AppName, AppInput>,
    /// What each node says.
    pub nodes: BTreeMap<NodeName, NodeInput>,
    /// Templates of revisions that are no longer in force.
    pub library: Library,
}

/// What the operator has set, the same on every node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where pods' addresses come from.
    pub pod_network: Ipv4Network,
    /// The prefix length of one node's share of it.
    pub node_prefix: u8,
    /// Where Services' addresses come from.
    pub service_network: Ipv4Network,
    /// The address at which DNS answers; out of `service_network`.
    pub dns_ip: std::net::Ipv4Addr,
    /// Ports given to Services on the nodes: first and last.
    pub node_ports: (u16, u16),
    /// Whether a branch that was set back or rewritten is followed.
    pub follows_rewrites: bool,
    /// How long a pod that says nothing of it stays on a node that is lost or not ready, in seconds.
    pub eviction_s: u32,
}

/// One app of the desired repository.
#[derive(Clone, Debug, Default)]
pub struct AppInput {
    /// The revision in force, if it has been read.
    pub applied: Option<Arc<Revision>>,
    /// The newest revision, read; absent if it is the one in force.
    pub candidate: Option<Arc<Revision>>,
    /// The last healthy revision, read where the one in force has failed.
    pub fallback: Option<Arc<Revision>>,
}

/// A commit, read whole.
#[derive(Clone, Debug)]
pub struct Revision {
    /// The commit.
    pub commit: CommitInfo,
    /// Its tree below the sub-directory; none if that is missing.
    pub tree: Option<Oid>,
    /// Which branch and sub-directory it came from.
    pub origin: String,
    /// The commit in force when it was looked at.
    pub since: Option<Oid>,
    /// How it follows from that one.
    pub relation: Relation,
    /// The commits between, newest first, itself among them.
    pub commits: Arc<[CommitInfo]>,
    /// Who signed it, where somebody has to.
    pub signer: Option<Arc<Signer>>,
    /// What it asks for.
    pub desired: Arc<Desired>,
    /// What is wrong with it.
    pub findings: Arc<[Finding]>,
    /// How its app is to be treated.
    pub terms: Terms,
    /// Where it comes into force in waves: what of it is. `desired` is what is in force, then.
    pub waves: Option<Arc<InWaves>>,
}

/// How an app is to be treated, as the revision has it.
#[derive(Clone, Debug, Default)]
pub struct Terms {
    /// What `windlass.yaml` says.
    pub spec: Arc<AppSpec>,
    /// What it needs that other apps may have.
    pub needs: Arc<[Need]>,
    /// When it may be changed: the windows of all, and its own.
    pub windows: Arc<[Window]>,
    /// Whether the app is a part of the repository, and not the whole of it.
    pub is_part: bool,
    /// Whether `windlass.yaml` does not list it any more.
    pub is_gone: bool,
    /// Whether `windlass.yaml` can't be read, so that nothing is known of it.
    pub is_unknown: bool,
    /// Why the commit is not to be trusted; nothing of it was read then.
    pub distrust: Option<String>,
}

/// What a node says, and what we think of it.
#[derive(Clone, Debug, Default)]
pub struct NodeInput {
    /// What it says of itself.
    pub facts: Arc<NodeFacts>,
    /// What it says of its pods.
    pub pods: Arc<BTreeMap<Uid, Arc<PodReport>>>,
    /// What people asked of it.
    pub requests: Arc<Vec<PersonRequest>>,
    /// Volumes whose data it removed.
    pub removed_volumes: Arc<std::collections::BTreeSet<Uid>>,
    /// Whether it says that pods may be placed on it.
    pub is_ready: bool,
    /// Whether its settings are others than its fleet's.
    pub differs: bool,
    /// For how long it has not been heard of.
    pub silence: Silence,
}

/// What a turn decided.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The next state of the register; equal to the input's if nothing is to be done.
    pub next: State,
    /// What was decided and why, for the commit's message.
    pub why: String,
    /// When to plan again though nothing has happened.
    pub wake: Option<Elapsed>,
    /// There was more to do than one turn may: plan again at once.
    pub is_unfinished: bool,
}

/// Whether the disruption budgets of what is desired let a pod be evicted now. The coordinator asks
/// again before it ends it.
pub fn may_evict(desired: &[&Desired], pods: &[Pod], pod: &Pod) -> bool {
    schedule::Budgets::from_parts(desired, || pods.iter()).permit(pod)
}

/// Decides the next state of the register. Takes time, never asks for it.
pub fn plan(input: &Input, memory: &mut Memory, now: Now) -> Plan {
    let mut work = Work::new(input, memory, now);
    lease::take_lease(&mut work);
    liveness::judge_nodes(&mut work);
    common::keep_settings(&mut work);
    work.take_in_pods();
    accept::take_in_force(&mut work);
    outcome::go_back(&mut work);
    accept::accept_revisions(&mut work);
    work.raise_epoch();
    ledger::keep_ledger(&mut work);
    refusals::take_note(&mut work);
    pods::take_reports(&mut work);
    people::answer_requests(&mut work);
    fence::bury(&mut work);
    restored::count(&mut work);
    let mut taints = evict::wished_taints(&work);
    liveness::taint_nodes(&work, &mut taints);
    evict::evict_pods(&mut work, &taints, input.settings.eviction_s);
    drain::drain_nodes(&mut work);
    claim::settle_ownership(&mut work);
    cronjob::look_at_clocks(&mut work);
    job::run_jobs(&mut work);
    deployment::roll_deployments(&mut work);
    replicaset::fill_sets(&mut work);
    revisions::forget_orphans(&mut work);
    statefulset::keep_stateful_sets(&mut work);
    daemonset::keep_daemon_sets(&mut work);
    single::keep_pods(&mut work);
    allocate::give_addresses(&mut work);
    storage::keep_storage(&mut work);
    schedule::place_pods(&mut work);
    outcome::watch(&mut work);
    work.finish()
}
