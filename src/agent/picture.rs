//! What the agent knows, for those who look: one value, cheap to make and to keep, from which
//! [`crate::view`] draws everything that is shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kinds::binding::{AppName, Oid};
use crate::kinds::name::NodeName;
use crate::kinds::status::EventRecord;
use crate::kinds::time::{Now, Wall};
use crate::net::ServiceView;
use crate::plan::{AppInput, Library, NodeInput, Settings};
use crate::ports::runtime::{ContainerId, ContainerSeen};
use crate::state::State;

use super::Agent;

/// Everything the agent knows at one moment.
#[derive(Clone, Debug)]
pub struct Picture {
    /// The agent's node.
    pub node: NodeName,
    /// The program's version.
    pub version: String,
    /// What the operator has set.
    pub settings: Arc<Settings>,
    /// The cluster's domain.
    pub domain: String,
    /// When this was so.
    pub now: Now,
    /// Whether the state store has been read.
    pub is_known: bool,
    /// The coordinator's register.
    pub state: State,
    /// The desired repository.
    pub apps: BTreeMap<AppName, AppInput>,
    /// Templates of earlier revisions.
    pub library: Library,
    /// What each node says.
    pub nodes: BTreeMap<NodeName, NodeInput>,
    /// What happened on each node.
    pub events: BTreeMap<NodeName, Arc<Vec<EventRecord>>>,
    /// Services with what is behind them.
    pub services: Arc<Vec<ServiceView>>,
    /// This node's containers, for logs and exec.
    pub containers: Arc<BTreeMap<ContainerId, ContainerSeen>>,
    /// How the agent itself is.
    pub health: Health,
}

/// How the agent itself is.
#[derive(Clone, Debug, Default)]
pub struct Health {
    /// The newest commit seen.
    pub tip: Option<Oid>,
    /// Whether the branch is known not to exist.
    pub branch_is_missing: bool,
    /// When the desired repository was last reached.
    pub reached: Option<Wall>,
    /// Why it was not.
    pub source_fault: Option<String>,
    /// Why the newest commit could not be read.
    pub load_fault: Option<String>,
    /// Why the state store could not be read or written.
    pub store_fault: Option<String>,
    /// Why the runtime does not answer.
    pub runtime_fault: Option<String>,
    /// Why rules, routes or names are not as they should be.
    pub network_fault: Option<String>,
    /// Whether this agent coordinates.
    pub is_leading: bool,
    /// Turns taken.
    pub turns: u64,
    /// Decisions written.
    pub decisions: u64,
    /// Reports written.
    pub reports: u64,
}

impl Agent {
    /// What the agent knows now.
    pub fn picture(&self, now: Now) -> Picture {
        let nodes = self.store.nodes();
        let mut events: BTreeMap<NodeName, Arc<Vec<EventRecord>>> =
            nodes.map(|(name, report)| (name.clone(), report.events.clone())).collect();
        if let Some(report) = self.host.report() {
            events.insert(self.config.node.clone(), report.events.clone());
        }
        Picture {
            node: self.config.node.clone(),
            version: self.config.version.clone(),
            settings: self.config.settings.clone(),
            domain: self.config.domain.clone(),
            now,
            is_known: self.store.state().is_some(),
            state: self.store.state().cloned().unwrap_or_default(),
            apps: self.wish.inputs(),
            library: self.library.clone(),
            nodes: self.node_inputs(),
            events,
            services: self.network.services.clone(),
            containers: Arc::new(self.host.containers().cloned().unwrap_or_default()),
            health: self.health(),
        }
    }

    fn health(&self) -> Health {
        let text = |fault: &Option<crate::ports::Fault>| fault.as_ref().map(ToString::to_string);
        Health {
            tip: self.wish.tip.clone(),
            branch_is_missing: self.wish.branch_is_missing,
            reached: self.wish.reached,
            source_fault: text(&self.wish.fetch_fault),
            load_fault: text(&self.wish.load_fault),
            store_fault: text(&self.store.fault),
            runtime_fault: text(&self.host.fault),
            network_fault: text(&self.network.fault),
            is_leading: self.is_leading(),
            turns: self.lead.turns(),
            decisions: self.lead.writes,
            reports: self.host.report_writes,
        }
    }
}
