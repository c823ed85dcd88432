//! What the agent knows, for those who look: it makes the [`Picture`] from which [`crate::view`] draws
//! everything that is shown.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kinds::name::NodeName;
use crate::kinds::status::EventRecord;
use crate::kinds::time::Now;
use crate::ports::runtime::Pulls;
use crate::view::picture::{Health, Picture};

use super::Agent;

impl Agent {
    /// What the agent knows now. How far pulls have come is given: it is nothing that the agent goes by.
    pub fn picture(&self, pulls: &Pulls, now: Now) -> Picture {
        let nodes = self.store.nodes();
        let mut events: BTreeMap<NodeName, Arc<Vec<EventRecord>>> =
            nodes.map(|(name, report)| (name.clone(), report.events.clone())).collect();
        if let Some(report) = self.host.report() {
            events.insert(self.config.node.clone(), report.events.clone());
        }
        let given = self.store.state().map(|state| state.nodes.clone()).unwrap_or_default();
        let mut nodes = self.node_inputs();
        nodes.retain(|name, _| given.get(name).is_none_or(|node| !node.is_forgotten()));
        for (name, input) in &mut nodes {
            input.is_ready &= given.get(name).is_none_or(|node| !node.is_away());
        }
        Picture {
            node: self.config.node.clone(),
            version: self.config.version.clone(),
            settings: self.config.settings.clone(),
            domain: self.config.domain.clone(),
            now,
            is_known: self.store.state().is_some(),
            state: self.store.state().cloned().unwrap_or_default(),
            apps: self.wish.inputs(self.store.state()),
            library: self.library.clone(),
            nodes,
            events,
            services: self.network.services.clone(),
            containers: Arc::new(self.host.containers().cloned().unwrap_or_default()),
            pulling: Arc::new(self.host.pulling(pulls)),
            certified: self.wish.certified.clone(),
            keyring: self.vault.keyring().cloned().unwrap_or_default(),
            health: self.health(now),
        }
    }

    fn health(&self, now: Now) -> Health {
        let text = |fault: &Option<crate::ports::Fault>| fault.as_ref().map(ToString::to_string);
        Health {
            tip: self.wish.tip.clone(),
            branch_is_missing: self.wish.branch_is_missing,
            reached: self.wish.reached,
            source_fault: text(&self.wish.fetch_fault),
            load_fault: text(&self.wish.load_fault),
            store_fault: self
                .name_fault()
                .or_else(|| self.set_back_fault())
                .or_else(|| text(&self.store.fault)),
            adoptable: self.adoptable(),
            decision: self.store.state().map(|state| state.generation).unwrap_or_default(),
            runtime_fault: text(&self.host.fault),
            network_fault: text(&self.network.fault),
            disk_fault: self.host.larder.complaint.clone(),
            image_disks: self.images_here().map(|stock| stock.disks.clone()).unwrap_or_default(),
            images_removed: self.host.larder.removed,
            deaf: self.herald.faults(),
            is_leading: self.is_leading(now),
            turns: self.lead.turns(),
            decisions: self.lead.writes,
            reports: self.host.report_writes,
            written_bytes: self.store.written_bytes,
            turn_times: self.lead.turn_times,
        }
    }
}
