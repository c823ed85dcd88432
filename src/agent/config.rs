//! What the operator has set, checked and complete. Read from `agent.yaml` by [`crate::cli`].

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use crate::kinds::digest::Digest;
use crate::kinds::fleet::FleetSettings;
use crate::kinds::labels::Labels;
use crate::kinds::name::NodeName;
use crate::kinds::node::Contact;
use crate::kinds::pod::ResourceList;
use crate::net::paths::Overlay;
use crate::node::larder::Limits;
use crate::plan::Settings;
use crate::ports::files::Layout;

/// An agent's configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub node: NodeName,
    /// This life of the agent, unlike any other.
    pub incarnation: String,
    /// This installation of it: every life of it has this in front of its incarnation, and a dash.
    pub installation: String,
    /// Where other nodes reach this agent.
    pub contact: Option<Contact>,
    /// Labels the operator gives this node.
    pub labels: Labels,
    /// This node's address, where it is not the one of the default route.
    pub address: Option<Ipv4Addr>,
    /// What is the same on every node.
    pub settings: Arc<Settings>,
    /// The same and more, as text to be compared.
    pub fleet: Arc<FleetSettings>,
    /// Where pods' files stand.
    pub layout: Layout,
    /// The cluster's domain.
    pub domain: String,
    /// Which branch and sub-directory are read, for the record.
    pub origin: String,
    /// The fingerprint of the first `trust.yaml`; nobody has to vouch for commits if it is absent.
    pub trust: Option<Digest>,
    /// How often the desired repository is asked though nobody said that it moved.
    pub poll: Duration,
    /// Whether somebody says when it moves; then it is asked less often.
    pub source_is_watched: bool,
    /// How often the state store is asked though nobody said that it moved.
    pub store_poll: Duration,
    /// How long others wait for a silent coordinator.
    pub lease: Duration,
    /// How often this node shows that it lives, at least, where its register must move for that.
    pub beat: Duration,
    /// How long a node is silent until it counts as lost.
    pub not_ready_after: Duration,
    /// Above how many nodes a coordinator here folds what they say into its register.
    pub folds_above: usize,
    /// Believes that it leads, whoever else does too. Only simulations set it: that no harm comes
    /// of it shows that safety does not rest on the lease.
    pub always_leads: bool,
    /// The least time between two writes of the node's own register.
    pub report_interval: Duration,
    /// Kept for the machine itself, out of what pods may use.
    pub reserved: ResourceList,
    /// How ways to other nodes' pods are chosen.
    pub overlay: Overlay,
    /// When images go, and which may.
    pub collect: Limits,
    /// How many pods this node takes.
    pub pods_max: u32,
    /// Whether what became of commits is written to Git notes.
    pub notes: bool,
    /// Who else is told what became of commits.
    pub hooks: Vec<Hook>,
    /// The version of this program.
    pub version: String,
    /// A number by which nodes' polls are spread.
    pub jitter: u64,
}

/// One who is told what became of commits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// What the status calls it.
    pub name: String,
    /// Its address; `{commit}` stands for the commit's id.
    pub url: String,
    /// What it understands.
    pub kind: HookKind,
}

/// What one who is told understands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HookKind {
    /// Our own JSON.
    Generic,
    /// GitHub's commit statuses.
    Github,
    /// GitLab's.
    Gitlab,
}

impl Config {
    /// How long others wait for a silent coordinator, in seconds.
    pub fn lease_s(&self) -> u32 {
        u32::try_from(self.lease.as_secs()).unwrap_or(u32::MAX)
    }

    /// `interval`, spread by up to a tenth either way, differently on every node and every time.
    pub fn jittered(&self, interval: Duration, count: u64) -> Duration {
        let digest = crate::kinds::digest::Digest::of_parts([
            self.node.as_str().as_bytes(),
            &self.jitter.to_be_bytes(),
            &count.to_be_bytes(),
        ]);
        let permille = u32::try_from(digest.first_u64() % 200).unwrap_or(100);
        interval * (900 + permille) / 1000
    }

    /// A point of `interval`, another on every node and every time.
    pub fn somewhere_in(&self, interval: Duration, count: u64) -> Duration {
        let text = format!("{} {count}", self.node);
        let digest = crate::kinds::digest::Digest::of(text.as_bytes());
        interval * u32::try_from(digest.first_u64() % 1000).unwrap_or(0) / 1000
    }
}
