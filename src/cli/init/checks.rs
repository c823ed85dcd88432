//! What is looked at before a configuration is written: everything that would keep the agent from
//! working, said at once and before anything is changed.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use super::token::Common;
use super::trust;
use crate::adapters::docker::{Docker, Options};
use crate::adapters::git::inspect::{Inspection, Left};
use crate::adapters::git::{Store, StoreConfig};
use crate::adapters::links::Links;
use crate::cli::config::{self, Loaded};
use crate::cli::progress::Steps;
use crate::kinds::fleet::FleetSettings;
use crate::kinds::name::Name;
use crate::plan::Settings;
use crate::ports::links::{Answer as LinksAnswer, Call as LinksCall};
use crate::ports::runtime::{Answer as RuntimeAnswer, Call as RuntimeCall};
use crate::ports::store::{Answer as StoreAnswer, Call as StoreCall, Register, Rev, Scope};
use crate::ports::{Fault, FaultKind};
use crate::state::State;

/// Docker says who it is in milliseconds.
const DOCKER_MAX: Duration = Duration::from_secs(10);

/// What was found: good news, and what stands in the way.
#[derive(Default)]
pub(super) struct Findings {
    /// What was looked at, and how it is.
    pub(super) good: Vec<(&'static str, String)>,
    /// What to know about it.
    pub(super) notes: Vec<String>,
    /// What stands in the way, with what to do.
    pub(super) bad: Vec<String>,
}

impl Findings {
    fn take(&mut self, what: &'static str, found: Result<String, Fault>) {
        match found {
            Ok(good) => self.good.push((what, good)),
            Err(fault) => self.bad.push(format!("{what}: {}", fault.message)),
        }
    }
}

/// How many steps [`check`] takes.
pub(super) const STEPS: usize = 6;

/// Looks at everything that the configuration names. `scratch` is an empty directory.
pub(super) async fn check(
    loaded: &Loaded,
    joins: bool,
    unique: &str,
    scratch: &Path,
    steps: &mut Steps,
) -> Findings {
    let mut found = Findings::default();
    let desired = &loaded.file.desired;
    steps.step(&format!("looking at {}", config::without_secrets(&desired.url)));
    let seen = desired_repository(loaded, &scratch.join("desired"), &mut found.notes).await;
    let is_there = seen.is_ok();
    found.take("desired", seen);
    if let Some(pin) = loaded.agent.trust.filter(|_| is_there) {
        found.take("trust", trust::check(loaded, pin, &scratch.join("trust")).await);
    }
    steps.step(&format!("writing to {}", config::without_secrets(&loaded.state_url)));
    let seen = state_store(loaded, unique, &scratch.join("state"), &mut found.notes).await;
    let is_there = seen.is_ok();
    found.take("state", seen);
    steps.step("looking at the fleet");
    if is_there && !config::is_path(&loaded.state_url) {
        let seen = fleet(loaded, joins, &scratch.join("fleet")).await;
        found.take("fleet", seen);
    }
    steps.step("asking Docker");
    found.take("Docker", docker(loaded).await);
    steps.step("asking iptables");
    found.take("iptables", iptables());
    steps.step("looking at this machine's network");
    found.take("node", network(loaded).await);
    found
}

async fn desired_repository(
    loaded: &Loaded,
    scratch: &Path,
    notes: &mut Vec<String>,
) -> Result<String, Fault> {
    let desired = &loaded.file.desired;
    let inspection = Inspection::new(&desired.url, loaded.credentials.clone(), scratch)?;
    let tip = inspection.branch(&desired.branch).await?;
    let commit = match &tip {
        Some(tip) => format!("at {}", tip.get(..7).unwrap_or(tip)),
        None => {
            notes.push(format!(
                "branch {} is not there yet: push manifests to it, and they run",
                desired.branch
            ));
            "not there yet".to_owned()
        }
    };
    Ok(format!("{}, branch {} {commit}", desired.url, desired.branch))
}

async fn state_store(
    loaded: &Loaded,
    unique: &str,
    scratch: &Path,
    notes: &mut Vec<String>,
) -> Result<String, Fault> {
    let url = &loaded.state_url;
    if config::is_path(url) {
        return Ok(format!("{url}, of this machine alone"));
    }
    let inspection = Inspection::new(url, loaded.state_credentials.clone(), scratch)?;
    if let Left::Ref(name) = inspection.write(unique).await? {
        notes.push(format!(
            "the server lets nobody delete refs, so {name} stays in the state store; it does no harm"
        ));
    }
    if *url == loaded.file.desired.url {
        notes.push(
            "state stands beside the manifests: every agent needs to write there, the server's \
             rate limits hold for both, and a stolen key can change what runs. A repository of \
             its own is better"
                .into(),
        );
    }
    Ok(format!("{url}, may be written"))
}

fn open(loaded: &Loaded, scratch: &Path) -> Result<Store, Fault> {
    Store::open(StoreConfig {
        credentials: loaded.state_credentials.clone(),
        ..StoreConfig::new(&loaded.state_url, loaded.agent.node.clone(), scratch.to_path_buf())
    })
}

async fn decisions(store: &Store, rev: Rev) -> Result<State, Fault> {
    let call = StoreCall::Read { register: Register::Coordinator, rev };
    let StoreAnswer::Tree(tree) = store.perform(call).await? else {
        return Err(Fault::stalled("the state store answered another question"));
    };
    State::decode(&tree).map_err(Fault::stalled)
}

/// What the fleet has written down that all nodes must share. Nothing where it can't be read: [`check`]
/// says why.
pub(super) async fn recorded(loaded: &Loaded, scratch: &Path) -> Option<FleetSettings> {
    let store = open(loaded, scratch).ok()?;
    let StoreAnswer::Seen(glance) = store.perform(StoreCall::Look(Scope::Own)).await.ok()? else {
        return None;
    };
    let state = decisions(&store, glance.coordinator?).await.ok()?;
    state.settings.map(Arc::unwrap_or_clone)
}

/// Who is in the fleet already, and whether our settings agree with what it has given out.
async fn fleet(loaded: &Loaded, joins: bool, scratch: &Path) -> Result<String, Fault> {
    let node = loaded.agent.node.clone();
    let store = open(loaded, scratch)?;
    let StoreAnswer::Seen(glance) = store.perform(StoreCall::Look(Scope::Own)).await? else {
        return Err(Fault::stalled("the state store answered another question"));
    };
    // A machine that was in the fleet before keeps what makes it itself in its data directory.
    let is_known = loaded.file.data_dir.join("installation").exists();
    if glance.nodes.contains_key(&node) && !is_known {
        return Err(Fault::stalled(format!(
            "there is a node {node} already. Give this one another name (--node-name); if it is \
             that machine, installed anew, delete refs/windlass/nodes/{node} in the state store"
        )));
    }
    let Some(rev) = glance.coordinator else {
        let word = if joins { "nobody has coordinated it yet" } else { "new" };
        return Ok(word.to_owned());
    };
    let state = decisions(&store, rev).await?;
    let complaints = disagreements(&loaded.agent.settings, &state);
    if !complaints.is_empty() {
        let why = complaints.join("; ");
        return Err(Fault::stalled(format!(
            "settings differ from those of the fleet: {why}. Take them from the line that \
             `windlass init` printed on its first node"
        )));
    }
    let names: Vec<&str> = glance.nodes.keys().map(Name::as_str).collect();
    let leader = state.lease.as_ref().map(|lease| format!(", {} coordinates", lease.holder));
    Ok(format!("nodes {}{}", names.join(", "), leader.unwrap_or_default()))
}

/// Where our settings can't be those by which the fleet has given out addresses.
fn disagreements(ours: &Settings, state: &State) -> Vec<String> {
    let mut wrong = Vec::new();
    let pods = state.nodes.iter().find(|(_, node)| {
        !ours.pod_network.contains(node.pod_cidr.network())
            || node.pod_cidr.prefix() != ours.node_prefix
    });
    if let Some((name, node)) = pods {
        wrong.push(format!(
            "node {name} has pods at {}, which is no /{} of network.podNetwork {}",
            node.pod_cidr, ours.node_prefix, ours.pod_network
        ));
    }
    let services = state.services.iter().flat_map(|(namespace, services)| {
        services.iter().map(move |(name, given)| (namespace, name, given))
    });
    for (namespace, name, given) in services {
        if let Some(ip) = given.cluster_ip.filter(|ip| !ours.service_network.contains(*ip)) {
            wrong.push(format!(
                "Service {namespace}/{name} has {ip}, which is not in network.serviceNetwork {}",
                ours.service_network
            ));
            break;
        }
    }
    wrong
}

async fn docker(loaded: &Loaded) -> Result<String, Fault> {
    let socket = &loaded.file.docker.socket;
    let docker = Docker::connect(Options {
        socket: socket.clone(),
        node: loaded.agent.node.clone(),
        registry_config: None,
        digest_map: None,
    });
    let asked = tokio::time::timeout(DOCKER_MAX, docker.perform(RuntimeCall::Survey)).await;
    let fault = |why: String| {
        Fault::stalled(format!(
            "{} does not answer: {why}. Install it (apt-get install docker.io), start it, or say \
             where it is (--docker-socket)",
            socket.display()
        ))
    };
    match asked {
        Ok(Ok(RuntimeAnswer::Survey(seen))) => {
            Ok(format!("{} at {}", seen.version, socket.display()))
        }
        Ok(Ok(_)) => Err(fault("it answered another question".into())),
        Ok(Err(error)) if error.kind == FaultKind::Stalled => Err(error),
        Ok(Err(error)) => Err(fault(error.message)),
        Err(_) => Err(fault(format!("it was silent for {} s", DOCKER_MAX.as_secs()))),
    }
}

fn iptables() -> Result<String, Fault> {
    let mut versions = Vec::new();
    for program in ["iptables", "iptables-save", "iptables-restore"] {
        let output = Command::new(program).arg("--version").output().map_err(|error| {
            Fault::stalled(format!("{program}: {error}. Install it: apt-get install iptables"))
        })?;
        versions.push(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let version = versions.into_iter().next().unwrap_or_default();
    Ok(version.trim_start_matches("iptables ").to_owned())
}

async fn network(loaded: &Loaded) -> Result<String, Fault> {
    let LinksAnswer::Survey(seen) = Links::default().call(LinksCall::Survey).await? else {
        return Err(Fault::stalled("the kernel answered another question"));
    };
    let complaints = config::overlaps(&loaded.agent.settings, &seen.routes);
    if !complaints.is_empty() {
        return Err(Fault::stalled(complaints.join("; ")));
    }
    let name = &loaded.agent.node;
    let address = loaded.agent.address.or(seen.default_source);
    match address.or_else(|| seen.addresses.first().copied()) {
        Some(ip) if seen.addresses.contains(&ip) => Ok(format!("{name} at {ip}")),
        Some(ip) => Err(Fault::stalled(format!(
            "{ip} is no address of this machine, which has {:?}",
            seen.addresses
        ))),
        None => Ok(format!("{name}, without a network")),
    }
}

/// The files that open the repositories: they are in no token.
pub(super) fn secrets(loaded: &Loaded) -> Vec<String> {
    let of = |credentials: &config::CredentialsFile| {
        let files = [
            &credentials.ssh_key_file,
            &credentials.ssh_passphrase_file,
            &credentials.known_hosts_file,
            &credentials.token_file,
            &credentials.ca_file,
        ];
        files.into_iter().flatten().map(|file| file.display().to_string()).collect::<Vec<_>>()
    };
    let mut all = of(&loaded.file.desired.credentials);
    all.extend(of(&loaded.file.state.credentials));
    all.sort();
    all.dedup();
    all
}

/// Why no other machine could join with these settings.
pub(super) fn keeps_to_itself(common: &Common) -> Option<&'static str> {
    if config::is_path(&common.state) {
        return Some(
            "its state is on its own disk (--state names a repository that all can reach)",
        );
    }
    config::is_path(&common.desired).then_some("its desired repository is a path of this machine")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::name::Uid;
    use crate::kinds::time::Wall;
    use crate::state::records::{NodeAllocation, ServiceAllocation};
    use std::collections::BTreeMap;

    #[test]
    fn settings_that_can_not_be_the_fleets_are_found() {
        let settings = |pods: &str, prefix: u8, services: &str| Settings {
            pod_network: pods.parse().expect(pods),
            node_prefix: prefix,
            service_network: services.parse().expect(services),
            dns_ip: [10, 96, 0, 10].into(),
            node_ports: (30000, 32767),
            follows_rewrites: false,
            eviction_s: 300,
        };
        let node = NodeAllocation::new(
            "10.244.3.0/24".parse().expect("a network"),
            Wall::from_seconds(0),
            Uid::trusted("n"),
        );
        let service = ServiceAllocation {
            cluster_ip: Some([10, 96, 0, 77].into()),
            ..ServiceAllocation::default()
        };
        let mut state = State::default();
        assert!(disagreements(&settings("10.0.0.0/8", 20, "10.9.0.0/16"), &state).is_empty());
        state.nodes = Arc::new(BTreeMap::from([(Name::trusted("a"), node)]));
        let services = BTreeMap::from([(Name::trusted("web"), service)]);
        state.services.insert(Name::trusted("shop"), Arc::new(services));
        for (pods, prefix, services, words) in [
            ("10.244.0.0/16", 24, "10.96.0.0/16", [].as_slice()),
            ("10.0.0.0/16", 24, "10.96.0.0/16", &["podNetwork"]),
            ("10.244.0.0/16", 25, "10.96.0.0/16", &["podNetwork"]),
            ("10.0.0.0/16", 24, "10.97.0.0/16", &["podNetwork", "serviceNetwork"]),
        ] {
            let found = disagreements(&settings(pods, prefix, services), &state);
            assert_eq!(found.len(), words.len(), "{pods}: {found:?}");
            for (complaint, word) in found.iter().zip(words) {
                assert!(complaint.contains(word), "{complaint}");
            }
        }
    }
}
