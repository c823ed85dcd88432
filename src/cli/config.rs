//! `agent.yaml`: what an operator may set, what it is when he does not, and what is wrong with it.
//!
//! Everything has a default but the desired repository. All mistakes are said at once, with the
//! field's name, and nothing is started until they are mended.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::Ipv4Network;

pub use self::file::*;
use super::tell::hooks;
use crate::adapters::git::Credentials;
use crate::adapters::hooks::HookAccess;
use crate::adapters::iptables::{Backend, Choice};
use crate::agent::config::Config;
use crate::desired::trust::parse_fingerprint;
use crate::kinds::labels::{label_key_complaint, label_value_complaint};
use crate::kinds::name::{NameRule, NodeName};
use crate::kinds::pod::ResourceList;
use crate::kinds::quantity::Quantity;
pub use crate::kinds::time::parse_duration;
use crate::net::paths::{Mode, Overlay};
use crate::plan::Settings;
use crate::ports::files::Layout;

mod file;

/// Where the agent looks for its configuration.
pub const DEFAULT_PATH: &str = "/etc/windlass/agent.yaml";
/// Where the keys stand that may seal bundles.
pub const SIGNERS: &str = "/etc/windlass/allowed_signers";
/// Where a node's keys to encrypted Secrets stand.
pub const AGE_KEYS: &str = "/etc/windlass/age.txt";
/// Where agents answer each other.
const PEER_PORT: u16 = 9474;
/// Where the agent's socket is.
pub const DEFAULT_SOCKET: &str = "/run/windlass/agent.sock";

/// What is wrong with a configuration, all of it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path} can't be used:\n{}", complaints.iter().map(|c| format!("  {c}")).collect::<Vec<_>>().join("\n"))]
pub struct ConfigFault {
    /// The file.
    pub path: String,
    /// Each complaint names its field.
    pub complaints: Vec<String>,
}

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// For the agent.
    pub agent: Config,
    /// The file as it was read.
    pub file: File,
    /// What opens the desired repository.
    pub credentials: Credentials,
    /// What opens the state store.
    pub state_credentials: Credentials,
    /// The state store.
    pub state_url: String,
    /// Which iptables.
    pub filter: Choice,
    /// Where other nodes' agents are answered; nowhere if absent.
    pub peer_port: Option<u16>,
    /// How many bytes of images a second are sent to other nodes at most.
    pub send_limit: Option<u64>,
    /// Where notes on commits are written, and what opens it.
    pub notes: Option<(String, Credentials)>,
    /// How addresses are opened that are told what became of commits.
    pub hooks: Vec<HookAccess>,
}

/// Reads and checks a configuration. `hostname` names the node where the file does not;
/// `incarnation` tells this life of the agent from any other.
pub fn load(path: &Path, hostname: &str, incarnation: &str) -> Result<Loaded, ConfigFault> {
    let fault = |complaint: String| ConfigFault {
        path: path.display().to_string(),
        complaints: vec![complaint],
    };
    let text = std::fs::read_to_string(path).map_err(|error| fault(error.to_string()))?;
    let file: File = serde_yaml::from_str(&text).map_err(|error| fault(error.to_string()))?;
    check(file, hostname, incarnation)
        .map_err(|complaints| ConfigFault { path: path.display().to_string(), complaints })
}

/// Collects complaints, so that all are said at once.
#[derive(Default)]
struct Complaints(Vec<String>);

impl Complaints {
    fn take<T>(&mut self, field: &str, result: Result<T, String>) -> Option<T> {
        result.map_err(|complaint| self.0.push(format!("{field}: {complaint}"))).ok()
    }
}

fn check(file: File, hostname: &str, incarnation: &str) -> Result<Loaded, Vec<String>> {
    let mut wrong = Complaints::default();
    let named = file.node.name.clone().unwrap_or_else(|| hostname.to_ascii_lowercase());
    let node = wrong.take("node.name", NodeName::parse(&named, NameRule::Subdomain));
    for (key, value) in &file.node.labels {
        for complaint in [label_key_complaint(key), label_value_complaint(value)] {
            wrong.take::<()>(
                "node.labels",
                complaint.map_or(Ok(()), |c| Err(format!("{key}: {c}"))),
            );
        }
    }
    let reserved: ResourceList = file
        .node
        .reserved
        .iter()
        .filter_map(|(name, text)| {
            let quantity = wrong.take(&format!("node.reserved.{name}"), Quantity::parse(text))?;
            Some((name.clone(), quantity))
        })
        .collect();
    let poll = wrong.take("desired.poll", parse_duration(&file.desired.poll));
    if file.desired.url.is_empty() {
        wrong.take::<()>("desired.url", Err("is missing".into()));
    }
    let hooks = hooks(&file.hooks).unwrap_or_else(|complaints| {
        wrong.0.extend(complaints);
        Vec::new()
    });
    let trust = match file.desired.trust.as_str() {
        "" => None,
        text => wrong.take("desired.trust", parse_fingerprint(text)),
    };
    let filter = wrong.take("network.packetFilter", parse_filter(&file.network.packet_filter));
    let settings = settings(&file, &mut wrong);
    let send_limit = send_limit(&file, &mut wrong);
    let collect = wrong.take("images.collect", file.images.collect.limits());
    let watch = watch(&file.fleet, &mut wrong);
    let overlay = overlay(&file.network, &mut wrong);
    let (
        Some(node),
        Some(poll),
        Some(filter),
        Some(settings),
        Some(watch),
        Some(overlay),
        Some(collect),
    ) = (node, poll, filter, settings, watch, overlay, collect.filter(|_| wrong.0.is_empty()))
    else {
        return Err(wrong.0);
    };
    let is_local = is_path(&file.desired.url);
    let state_url = file
        .state
        .url
        .clone()
        .unwrap_or_else(|| file.data_dir.join("state.git").display().to_string());
    let mut agent = Config {
        node,
        incarnation: incarnation.to_owned(),
        // The data directory says which.
        installation: String::new(),
        contact: None,
        labels: file.node.labels.clone(),
        address: file.node.address,
        settings: Arc::new(settings),
        fleet: Arc::default(),
        layout: Layout {
            run_dir: file.run_dir.clone(),
            data_dir: file.data_dir.clone(),
            volumes_dir: file.volumes.path.clone().unwrap_or_else(|| file.data_dir.join("volumes")),
        },
        domain: file.network.cluster_domain.clone(),
        origin: format!("{}:{}", file.desired.branch, file.desired.directory),
        trust,
        poll,
        source_is_watched: is_local,
        store_poll: if is_path(&state_url) { STORE_POLL } else { REMOTE_POLL },
        lease: watch.lease,
        beat: watch.beat,
        not_ready_after: watch.not_ready_after,
        folds_above: file.fleet.fold_above,
        always_leads: false,
        report_interval: REPORT_INTERVAL,
        reserved,
        overlay,
        collect,
        pods_max: file.node.max_pods.unwrap_or(PODS_MAX),
        notes: file.notes.is_some(),
        hooks: hooks.iter().map(|(hook, _)| hook.clone()).collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        jitter: crate::kinds::digest::Digest::of(incarnation.as_bytes()).first_u64(),
    };
    agent.fleet = Arc::new(super::common::of(&file, &agent));
    let state_credentials = credentials(&file.state.credentials);
    let credentials = credentials(&file.desired.credentials);
    // Whoever keeps the state store to himself has nobody to talk to.
    let default = if is_path(&state_url) { 0 } else { PEER_PORT };
    let peer_port = Some(file.api.peer_port.unwrap_or(default)).filter(|port| *port != 0);
    let notes = notes(&file, &credentials);
    let hooks = hooks.into_iter().map(|(_, access)| access).collect();
    Ok(Loaded {
        agent,
        file,
        credentials,
        state_credentials,
        state_url,
        filter,
        peer_port,
        send_limit,
        notes,
        hooks,
    })
}

/// How many bytes of images a second are sent at most.
fn send_limit(file: &File, wrong: &mut Complaints) -> Option<u64> {
    let text = file.images.send_limit.as_deref()?;
    let bytes = Quantity::parse(text).map(|quantity| quantity.as_units());
    let bytes = bytes.and_then(|bytes| {
        u64::try_from(bytes).ok().filter(|bytes| *bytes > 0).ok_or("must be more than 0".into())
    });
    wrong.take("images.sendLimit", bytes)
}

/// How often the state store is asked: on this machine only to find what a lost hint would have
/// told.
const STORE_POLL: Duration = Duration::from_secs(30);
/// Where nodes tell each other that something has moved.
const HINT_PORT: u16 = 9473;
/// So many nodes may read each other's registers (docs/DESIGN.md, Hard cases 7).
const FOLD_ABOVE: usize = 50;
/// How often a store behind a server is asked by those who need not know at once.
const REMOTE_POLL: Duration = Duration::from_secs(10);
/// A lease must outlast some writes over a slow line.
const LEASE_MIN: Duration = Duration::from_secs(3);

/// How nodes keep watch over each other, checked.
struct Watchfulness {
    lease: Duration,
    beat: Duration,
    not_ready_after: Duration,
}

fn watch(fleet: &Fleet, wrong: &mut Complaints) -> Option<Watchfulness> {
    let lease = wrong.take("fleet.lease", parse_duration(&fleet.lease))?;
    let beat = wrong.take("fleet.beat", parse_duration(&fleet.beat))?;
    let field = "fleet.notReadyAfter";
    let not_ready_after = wrong.take(field, parse_duration(&fleet.not_ready_after))?;
    if lease < LEASE_MIN || lease > Duration::from_secs(3600) {
        wrong.take::<()>("fleet.lease", Err("must be 3s to 1h".into()));
    }
    if beat < Duration::from_secs(1) {
        wrong.take::<()>("fleet.beat", Err("must be 1s or more".into()));
    }
    if not_ready_after < beat * 3 {
        wrong.take::<()>(field, Err("must be three beats or more".into()));
    }
    Some(Watchfulness { lease, beat, not_ready_after })
}

/// How often a node writes its report at most. A report is for others and for the time after a
/// restart; the coordinator on this node knows without it.
const REPORT_INTERVAL: Duration = Duration::from_secs(2);
/// kubelet's `maxPods`.
const PODS_MAX: u32 = 110;

fn settings(file: &File, wrong: &mut Complaints) -> Option<Settings> {
    let network = &file.network;
    let pods = wrong.take("network.podNetwork", parse_network(&network.pod_network));
    let services = wrong.take("network.serviceNetwork", parse_network(&network.service_network));
    let ports = wrong.take("network.nodePorts", parse_ports(&network.node_ports));
    let evict_after = wrong.take("fleet.evictAfter", parse_duration(&file.fleet.evict_after));
    let (pod_network, service_network, node_ports) = (pods?, services?, ports?);
    let evict_after = evict_after?;
    if pod_network.overlaps(service_network) {
        let complaint = format!("{service_network} overlaps network.podNetwork {pod_network}");
        wrong.take::<()>("network.serviceNetwork", Err(complaint));
    }
    if network.node_prefix < pod_network.prefix() || network.node_prefix > 29 {
        let complaint = format!("must lie between {} and 29", pod_network.prefix());
        wrong.take::<()>("network.nodePrefix", Err(complaint));
    }
    if let Some(complaint) = NameRule::Subdomain.complaint(&network.cluster_domain) {
        wrong.take::<()>("network.clusterDomain", Err(complaint));
    }
    let dns_ip = network.dns_address.or_else(|| service_network.nth(10));
    let dns_ip = dns_ip.filter(|ip| service_network.contains(*ip));
    let dns_ip = wrong.take(
        "network.dnsAddress",
        dns_ip.ok_or_else(|| format!("must be in network.serviceNetwork {service_network}")),
    )?;
    Some(Settings {
        pod_network,
        node_prefix: network.node_prefix,
        service_network,
        dns_ip,
        node_ports,
        follows_rewrites: file.desired.follow_rewrites,
        eviction_s: u32::try_from(evict_after.as_secs()).unwrap_or(u32::MAX),
    })
}

fn overlay(network: &Network, wrong: &mut Complaints) -> Option<Overlay> {
    let mode = Mode::parse(&network.mode)
        .ok_or_else(|| format!("'{}' is none of auto, direct, vxlan", network.mode));
    let mode = wrong.take("network.mode", mode);
    // RFC 7348 §5: 24 bits.
    if network.vxlan_id == 0 || network.vxlan_id >= 1 << 24 {
        wrong.take::<()>("network.vxlanId", Err("must lie between 1 and 16777215".into()));
    }
    if network.vxlan_port == 0 {
        wrong.take::<()>("network.vxlanPort", Err("must not be 0".into()));
    }
    Some(Overlay { mode: mode?, id: network.vxlan_id, port: network.vxlan_port })
}

fn parse_network(text: &str) -> Result<Ipv4Network, String> {
    let network: Ipv4Network =
        text.parse().map_err(|_| format!("'{text}' is not a network such as 10.244.0.0/16"))?;
    if network.ip() != network.network() {
        return Err(format!(
            "'{text}' has bits below its prefix; write {}/{}",
            network.network(),
            network.prefix()
        ));
    }
    Ok(network)
}

fn parse_ports(text: &str) -> Result<(u16, u16), String> {
    let complaint = || format!("'{text}' is not a range such as 30000-32767");
    let (low, high) = text.split_once('-').ok_or_else(complaint)?;
    let low: u16 = low.trim().parse().map_err(|_| complaint())?;
    let high: u16 = high.trim().parse().map_err(|_| complaint())?;
    if low == 0 || high < low { Err(complaint()) } else { Ok((low, high)) }
}

fn parse_filter(text: &str) -> Result<Choice, String> {
    match text {
        "auto" => Ok(Choice::AsDocker),
        "nft" => Ok(Choice::Always(Backend::Nft)),
        "legacy" => Ok(Choice::Always(Backend::Legacy)),
        _ => Err(format!("'{text}' is none of auto, nft, legacy")),
    }
}

/// Where notes go, and what opens it: the desired repository and its own where nothing is said.
fn notes(file: &File, desired: &Credentials) -> Option<(String, Credentials)> {
    let notes = file.notes.as_ref()?;
    let url = notes.url.clone().unwrap_or_else(|| file.desired.url.clone());
    let own = notes.credentials.as_ref().map(credentials);
    Some((url, own.unwrap_or_else(|| desired.clone())))
}

fn credentials(file: &CredentialsFile) -> Credentials {
    Credentials {
        username: file.username.clone(),
        ssh_key: file.ssh_key_file.clone(),
        ssh_passphrase_file: file.ssh_passphrase_file.clone(),
        known_hosts: file.known_hosts_file.clone(),
        password_file: file.token_file.clone(),
        ca_file: file.ca_file.clone(),
    }
}

/// What this machine is called: the node's name where the file says none.
pub fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim().to_owned()
}

/// Whether an address is a path of this machine.
pub fn is_path(url: &str) -> bool {
    url.starts_with('/') || url.starts_with("file://")
}

/// An address as it may be shown to others: without a password that stands in it.
pub fn without_secrets(address: &str) -> String {
    match url::Url::parse(address) {
        Ok(mut url) if url.password().is_some() => {
            // Only an address without a host has no room for one.
            let _ = url.set_password(None);
            url.to_string()
        }
        _ => address.to_owned(),
    }
}

/// Networks of ours that overlap a route of the machine: packets would go astray, so the agent does
/// not start.
pub fn overlaps(settings: &Settings, routes: &[Ipv4Network]) -> Vec<String> {
    let ours = [
        ("network.podNetwork", settings.pod_network),
        ("network.serviceNetwork", settings.service_network),
    ];
    ours.iter()
        .flat_map(|(field, network)| {
            let clashing = routes.iter().filter(move |route| {
                route.prefix() > 0 && network.overlaps(**route)
            });
            clashing.map(move |route| {
                format!("{field}: {network} overlaps the machine's route to {route}; choose another network")
            })
        })
        .collect()
}

#[cfg(test)]
mod tests;
