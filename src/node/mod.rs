//! What this host should do.
//!
//! A watchman with a list of who lives in the house: he looks at who is there ([`Seen`]), at who
//! should be ([`Mine`]), and says what to do next ([`decide`]). He does nothing himself and waits
//! for nothing: what he asked for comes back as an answer ([`Memory::finished`]), and he looks
//! again. Everything he needs to take over from a predecessor hangs on the doors (labels on the
//! containers), so he may be relieved at any moment.
//!
//! ```text
//! admit     at the door: does the pod fit here at all?
//! sandbox   files ─┐
//!           pause ─┴▶ link ─▶ init 1 ─▶ init 2 ─▶ containers ─▶ probes
//! end       preStop ─▶ TERM ─▶ (grace) KILL ─▶ containers, link, pause, files removed ─▶ gone
//! ```
//!
//! Floor 2: imports `kinds`, `ports`, `desired`; knows no clock, disk, network or task.

mod admit;
mod backoff;
mod doubt;
mod env;
mod fields;
mod files;
mod house;
mod images;
mod ip;
pub mod larder;
mod memory;
mod probes;
mod run;
mod sandbox;
mod start;
mod status;
mod step;
mod stop;
mod sweep;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::Ipv4Network;

use crate::desired::Desired;
use crate::kinds::binding::{AppName, Binding};
use crate::kinds::config::{ConfigMap, DEFAULT_ACCOUNT, Secret, ServiceAccount};
use crate::kinds::labels::Labels;
use crate::kinds::name::{Name, NodeName, PodKey as RecordKey, Uid};
use crate::kinds::object::{Body, Key};
use crate::kinds::pod::{PodSpec, PodTemplate, ResourceList, Taint};
use crate::kinds::registry::Kind;
use crate::kinds::storage::ClaimedVolume;
use crate::kinds::time::Now;
use crate::ports::Call;
use crate::ports::files::Layout;
use crate::ports::runtime::{ContainerId, ContainerSeen};

use env::Missing;

pub use ip::IpPool;
pub use memory::{Memory, Ticket};
pub use sandbox::link_name;
pub use start::secrets_of;
pub use status::reports;
pub use step::Step;

/// Who should be here.
#[derive(Clone, Debug, Default)]
pub struct Mine {
    /// The pods bound to this node.
    pub pods: BTreeMap<Uid, Assignment>,
    /// Whether the list is known: until then nobody is turned out.
    pub is_known: bool,
}

/// A pod bound to this node.
#[derive(Clone, Debug)]
pub struct Assignment {
    /// The binding.
    pub binding: Arc<Binding>,
    /// What it runs; absent while its revision can't be read.
    pub template: Option<Arc<PodTemplate>>,
}

/// Who is here.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// Containers with our mark, by id; absent until the runtime has been asked.
    pub containers: Option<BTreeMap<ContainerId, ContainerSeen>>,
    /// Pods that have files.
    pub files: BTreeSet<Uid>,
    /// Our links.
    pub links: BTreeSet<String>,
}

/// What pods see of the world around them.
#[derive(Clone, Debug)]
pub struct Around {
    /// This node.
    pub node: NodeName,
    /// Its address.
    pub node_ip: Option<Ipv4Addr>,
    /// Where files stand.
    pub layout: Layout,
    /// Where its pods' addresses come from; absent until allotted.
    pub pod_network: Option<Ipv4Network>,
    /// Where the cluster's DNS answers.
    pub dns: Ipv4Addr,
    /// The cluster's domain.
    pub domain: String,
    /// The machine's resolvers.
    pub resolvers: Vec<IpAddr>,
    /// The machine's search domains.
    pub searches: Vec<String>,
    /// The largest packet on a pod's link.
    pub mtu: u32,
    /// What pods may use of the machine.
    pub allocatable: ResourceList,
    /// What this node is called and asks for, by which pods are judged at the door; absent while it
    /// is not known for certain, and then nobody is turned away for it.
    pub standing: Option<Standing>,
    /// The volumes of the claims that this node's pods use, or why there is none.
    pub claims: BTreeMap<RecordKey, Result<ClaimedVolume, String>>,
    /// The revisions in force, for ConfigMaps and Secrets.
    pub desired: BTreeMap<AppName, Arc<Desired>>,
    /// The encrypted Secrets that the pods here need, opened, or why they can't be.
    pub opened: BTreeMap<Key, Result<Arc<Secret>, String>>,
    /// Services with their addresses, for variables (`enableServiceLinks`).
    pub services: Arc<Vec<ServiceEnv>>,
    /// Pods that are being ended and to which no packet is led any more: they may be told.
    pub released: BTreeSet<Uid>,
    /// Whether the state store has been read since the agent began. Until then another machine may
    /// have been given what this one's copy still binds here.
    pub has_heard: bool,
    /// Whether the state was taken on purpose and some node may not have read so yet: what it runs may
    /// have been forgotten, and given out again.
    pub is_counting: bool,
    /// How much longer than in a small fleet it takes until all nodes lead packets elsewhere.
    pub following_takes: std::time::Duration,
    /// Raised whenever something changes from which pods' files follow: ConfigMaps and Secrets,
    /// resolvers, the node's address. What was written for it is not looked at again.
    pub files_version: u64,
}

/// A node's labels and taints: its own, with those of its manifest laid over them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Its labels.
    pub labels: Labels,
    /// Its taints.
    pub taints: Vec<Taint>,
}

/// What a Service looks like from a container's environment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceEnv {
    /// Its namespace.
    pub namespace: Name,
    /// Its name.
    pub name: Name,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Its ports: (name, number, transport in lower case).
    pub ports: Vec<(Option<Name>, u16, &'static str)>,
}

impl Around {
    /// Whether pods' files would be the same here.
    pub fn has_same_files(&self, other: &Self) -> bool {
        let same_desired = self.desired.len() == other.desired.len()
            && self.desired.iter().zip(&other.desired).all(|((one_app, one), (two_app, two))| {
                one_app == two_app && Arc::ptr_eq(one, two)
            });
        same_desired
            && self.node_ip == other.node_ip
            && self.layout == other.layout
            && self.claims == other.claims
            && self.opened == other.opened
            && self.dns == other.dns
            && self.domain == other.domain
            && self.resolvers == other.resolvers
            && self.searches == other.searches
            && self.allocatable == other.allocatable
    }

    /// The volume of a claim, or why it can't be used.
    pub fn claimed(&self, namespace: &Name, name: &Name) -> Result<&ClaimedVolume, String> {
        match self.claims.get(&RecordKey::new(namespace, name)) {
            Some(Ok(volume)) => Ok(volume),
            Some(Err(why)) => Err(why.clone()),
            None => Err(format!("persistentvolumeclaim \"{name}\" not found")),
        }
    }

    /// A ConfigMap of the revisions in force.
    pub fn config_map(&self, namespace: &Name, name: &Name) -> Option<&Arc<ConfigMap>> {
        match self.body(Kind::ConfigMap, namespace, name)? {
            Body::ConfigMap(config) => Some(config),
            _ => None,
        }
    }

    /// A Secret of the revisions in force; an encrypted one opened, or why it can't be.
    pub(crate) fn secret(
        &self,
        namespace: &Name,
        name: &Name,
    ) -> Result<Option<&Arc<Secret>>, Missing> {
        let Some(Body::Secret(secret)) = self.body(Kind::Secret, namespace, name) else {
            return Ok(None);
        };
        if secret.sealed.is_none() {
            return Ok(Some(secret));
        }
        match self.opened.get(&Key::namespaced(Kind::Secret, namespace, name)) {
            Some(Ok(opened)) => Ok(Some(opened)),
            Some(Err(why)) => Err(Missing(format!("secret \"{name}\" {why}"))),
            None => Err(Missing(format!("secret \"{name}\" is not decrypted yet"))),
        }
    }

    /// What a pod's ServiceAccount gives it; nothing where there is no such account.
    pub(crate) fn account(&self, namespace: &Name, spec: &PodSpec) -> ServiceAccount {
        let default = Name::trusted(DEFAULT_ACCOUNT);
        let name = spec.service_account.as_ref().unwrap_or(&default);
        match self.body(Kind::ServiceAccount, namespace, name) {
            Some(Body::ServiceAccount(account)) => ServiceAccount::clone(account),
            _ => ServiceAccount::default(),
        }
    }

    fn body(&self, kind: Kind, namespace: &Name, name: &Name) -> Option<&Body> {
        let key = Key::namespaced(kind, namespace, name);
        self.desired.values().find_map(|desired| desired.objects.get(&key)).map(|o| &o.body)
    }
}

/// Something to be done, and whom the answer is for.
#[derive(Clone, Debug)]
pub struct Action {
    /// Comes back with the answer.
    pub ticket: Ticket,
    /// What to do.
    pub call: Call,
    /// After this it counts as failed.
    pub timeout: Duration,
}

/// Says what to do next for every pod that should be here, is here, or was. Safe to repeat: what is
/// under way is not asked for again.
pub fn decide(
    mine: &Mine,
    seen: &Seen,
    around: &Around,
    memory: &mut Memory,
    now: Now,
) -> Vec<Action> {
    let Some(containers) = &seen.containers else {
        return Vec::new();
    };
    let houses = house::houses(&around.node, containers);
    memory.begin_look();
    memory.addresses.learn(around.pod_network, &houses);
    admit::receive(mine, &houses, around, memory, now);
    let mut uids: BTreeSet<Uid> = mine.pods.keys().cloned().collect();
    uids.extend(houses.keys().cloned());
    uids.extend(memory.pods.keys().cloned());
    if mine.is_known {
        uids.extend(seen.files.iter().cloned());
    }
    let empty = house::House::default();
    let mut actions = Vec::new();
    for uid in uids {
        let house = houses.get(&uid).unwrap_or(&empty);
        let steps = match mine.pods.get(&uid) {
            Some(pod) => run::next(&uid, pod, house, seen, around, memory, now),
            None if mine.is_known => sweep::next(&uid, house, seen, around, memory, now),
            None => Vec::new(),
        };
        actions.extend(memory.issue(&uid, steps));
    }
    actions
}
