//! `agent.yaml`: what an operator may set, what it is when he does not, and what is wrong with it.
//!
//! Everything has a default but the desired repository. All mistakes are said at once, with the
//! field's name, and nothing is started until they are mended.

mod credentials;

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ipnetwork::Ipv4Network;
use serde::Deserialize;

pub use credentials::CredentialsFile;
use credentials::{credentials, notes};

use super::tell::{HookFile, NotesFile, hooks};
use crate::adapters::bundle;
use crate::adapters::git::Credentials;
use crate::adapters::hooks::HookAccess;
use crate::adapters::iptables::{Backend, Choice};
use crate::agent::config::Config;
use crate::desired::trust::parse_fingerprint;
use crate::kinds::labels::{Labels, label_key_complaint, label_value_complaint};
use crate::kinds::name::{NameRule, NodeName};
use crate::kinds::pod::ResourceList;
use crate::kinds::quantity::Quantity;
pub use crate::kinds::time::parse_duration;
use crate::net::paths::{Mode, Overlay};
use crate::plan::Settings;
use crate::ports::files::Layout;

/// Where the agent looks for its configuration.
pub const DEFAULT_PATH: &str = "/etc/windlass/agent.yaml";
/// Where the keys stand that may seal bundles.
pub const SIGNERS: &str = "/etc/windlass/allowed_signers";
/// Where agents answer each other.
const PEER_PORT: u16 = 9474;
/// Where the agent's socket is.
pub const DEFAULT_SOCKET: &str = "/run/windlass/agent.sock";

/// The file.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct File {
    /// This machine.
    #[serde(default)]
    pub node: Node,
    /// The desired repository.
    pub desired: Desired,
    /// The state store.
    #[serde(default)]
    pub state: State,
    /// How nodes keep watch over each other.
    #[serde(default)]
    pub fleet: Fleet,
    /// Addresses, names and rules.
    #[serde(default)]
    pub network: Network,
    /// The container runtime.
    #[serde(default)]
    pub docker: Docker,
    /// What outlives a reboot.
    #[serde(default = "data_dir")]
    pub data_dir: PathBuf,
    /// What does not.
    #[serde(default = "run_dir")]
    pub run_dir: PathBuf,
    /// What outlives its pods.
    #[serde(default)]
    pub volumes: Volumes,
    /// Images that no registry is needed for.
    #[serde(default)]
    pub images: Images,
    /// Bundles that come on a medium.
    #[serde(default)]
    pub bundles: Bundles,
    /// The socket.
    #[serde(default)]
    pub api: Api,
    /// Notes on commits, written if this is there.
    #[serde(default)]
    pub notes: Option<NotesFile>,
    /// Who else is told what became of commits.
    #[serde(default)]
    pub hooks: Vec<HookFile>,
    /// The log.
    #[serde(default)]
    pub log: Log,
}

/// This machine.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Node {
    /// Its name; the host name where absent.
    pub name: Option<String>,
    /// Its address; that of the default route where absent.
    pub address: Option<Ipv4Addr>,
    /// Labels for it.
    #[serde(default)]
    pub labels: Labels,
    /// How many pods it takes; 110 where absent, as kubelet.
    pub max_pods: Option<u32>,
    /// Kept for the machine itself.
    #[serde(default)]
    pub reserved: std::collections::BTreeMap<String, String>,
}

/// The desired repository.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Desired {
    /// Its address: a path, `ssh://`, `https://` …
    pub url: String,
    /// The branch.
    #[serde(default = "main")]
    pub branch: String,
    /// The sub-directory with the manifests.
    #[serde(default)]
    pub directory: String,
    /// How often it is asked.
    #[serde(default = "poll")]
    pub poll: String,
    /// Whether a branch that was set back or rewritten is followed.
    #[serde(default)]
    pub follow_rewrites: bool,
    /// The fingerprint of its first `trust.yaml`; commits need no signature where it is empty.
    #[serde(default)]
    pub trust: String,
    /// What opens it.
    #[serde(default)]
    pub credentials: CredentialsFile,
}

/// The state store.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct State {
    /// Its address; `state.git` in the data directory where absent.
    pub url: Option<String>,
    /// What opens it. The fleet's key, not the one that reads the desired repository.
    #[serde(default)]
    pub credentials: CredentialsFile,
}

/// How the nodes of a fleet keep watch over each other. To be the same on all.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Fleet {
    /// Raised by whoever changes what must be the same on every node.
    pub version: u64,
    /// How long others wait for a silent coordinator.
    pub lease: String,
    /// How often a node shows that it lives.
    pub beat: String,
    /// How long a node is silent until it counts as lost.
    pub not_ready_after: String,
    /// How long pods stay on a lost node that say nothing of it themselves.
    pub evict_after: String,
    /// In fleets of more nodes not every node reads what every other says.
    pub fold_above: usize,
}

impl Default for Fleet {
    fn default() -> Self {
        Self {
            version: 1,
            lease: "15s".into(),
            beat: "10s".into(),
            not_ready_after: "40s".into(),
            evict_after: "5m".into(),
            fold_above: FOLD_ABOVE,
        }
    }
}

/// Addresses, names and rules.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Network {
    /// Where pods' addresses come from.
    pub pod_network: String,
    /// The prefix length of one node's share.
    pub node_prefix: u8,
    /// Where Services' addresses come from.
    pub service_network: String,
    /// Where DNS answers; the tenth Service address where absent.
    pub dns_address: Option<Ipv4Addr>,
    /// Where nodes tell each other that something has moved, by UDP; 0 for not at all.
    pub hint_port: u16,
    /// The cluster's domain.
    pub cluster_domain: String,
    /// Node ports, first and last.
    pub node_ports: String,
    /// Which iptables: `auto`, `nft`, `legacy`.
    pub packet_filter: String,
    /// How pods of other nodes are reached: `auto`, `direct`, `vxlan`.
    pub mode: String,
    /// The VXLAN network identifier.
    pub vxlan_id: u32,
    /// The UDP port of VXLAN.
    pub vxlan_port: u16,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            pod_network: "10.244.0.0/16".into(),
            node_prefix: 24,
            service_network: "10.96.0.0/16".into(),
            dns_address: None,
            cluster_domain: "cluster.local".into(),
            node_ports: "30000-32767".into(),
            packet_filter: "auto".into(),
            mode: "auto".into(),
            vxlan_id: Overlay::default().id,
            vxlan_port: Overlay::default().port,
            hint_port: HINT_PORT,
        }
    }
}

/// The container runtime.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Docker {
    /// Docker's socket.
    pub socket: PathBuf,
    /// The machine's own registry credentials.
    pub registry_config: Option<PathBuf>,
}

impl Default for Docker {
    fn default() -> Self {
        Self { socket: "/var/run/docker.sock".into(), registry_config: None }
    }
}

/// The socket.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Api {
    /// Its path.
    pub socket: PathBuf,
    /// Where `/metrics` is answered over TCP; nowhere if absent.
    pub metrics: Option<std::net::SocketAddr>,
    /// The port at which other nodes' agents are answered, 0 for none; 9474 where the state store is
    /// on another machine and it is absent.
    pub peer_port: Option<u16>,
}

impl Default for Api {
    fn default() -> Self {
        Self { socket: DEFAULT_SOCKET.into(), metrics: None, peer_port: None }
    }
}

/// Volumes that outlive their pods.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Volumes {
    /// The directory in which they are made; `volumes` in the data directory where absent.
    pub path: Option<PathBuf>,
}

/// Images that no registry is needed for.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Images {
    /// The directory with their archives; `images` in the data directory where absent.
    pub path: Option<PathBuf>,
    /// How many bytes a second are sent to other nodes at most, such as `10M`; no bound where absent.
    pub send_limit: Option<String>,
}

/// Bundles that come on a medium.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Bundles {
    /// A directory: bundles in it, or in what is mounted in it, are taken in; none where absent.
    pub watch: Option<PathBuf>,
    /// Whose seals count, as OpenSSH's `allowed_signers`.
    pub signers: PathBuf,
    /// Where commits are pushed to, where agents read the desired repository at another address.
    pub push_to: Option<String>,
    /// What may push there; what reads the desired repository where absent.
    pub credentials: Option<CredentialsFile>,
}

impl Default for Bundles {
    fn default() -> Self {
        Self { watch: None, signers: SIGNERS.into(), push_to: None, credentials: None }
    }
}

impl File {
    /// Where commits of bundles go, and what opens it.
    pub fn landing(&self) -> bundle::apply::Desired {
        let may_push = self.bundles.credentials.as_ref().unwrap_or(&self.desired.credentials);
        bundle::apply::Desired {
            url: self.bundles.push_to.clone().unwrap_or_else(|| self.desired.url.clone()),
            branch: self.desired.branch.clone(),
            credentials: credentials(may_push),
        }
    }

    /// Where a bundle goes on this machine.
    pub fn bundle_target(&self, desired: Option<bundle::apply::Desired>) -> bundle::apply::Target {
        bundle::apply::Target {
            images: self.images_dir(),
            desired,
            workshop: self.data_dir.join("bundle"),
        }
    }

    /// Where archives of images lie.
    pub fn images_dir(&self) -> PathBuf {
        self.images.path.clone().unwrap_or_else(|| self.data_dir.join("images"))
    }
}

/// The log.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Log {
    /// `text` or `json`.
    pub format: String,
    /// `error`, `warn`, `info`, `debug`, or a filter as `tracing` reads it.
    pub level: String,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: "text".into(), level: "info".into() }
    }
}

fn main() -> String {
    "main".into()
}

fn poll() -> String {
    "60s".into()
}

fn data_dir() -> PathBuf {
    "/var/lib/windlass".into()
}

fn run_dir() -> PathBuf {
    "/run/windlass".into()
}

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
    /// Where notes on commits are written, and what opens it.
    pub notes: Option<(String, Credentials)>,
    /// How addresses are opened that are told what became of commits.
    pub hooks: Vec<HookAccess>,
    /// How many bytes of images a second are sent to other nodes at most.
    pub send_limit: Option<u64>,
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
    let send_limit = file.images.send_limit.as_deref().and_then(|text| {
        let bytes = Quantity::parse(text).map(|quantity| quantity.as_units());
        let bytes = bytes.and_then(|bytes| {
            u64::try_from(bytes).ok().filter(|bytes| *bytes > 0).ok_or("must be more than 0".into())
        });
        wrong.take("images.sendLimit", bytes)
    });
    let watch = watch(&file.fleet, &mut wrong);
    let overlay = overlay(&file.network, &mut wrong);
    let (Some(node), Some(poll), Some(filter), Some(settings), Some(watch), Some(overlay), true) =
        (node, poll, filter, settings, watch, overlay, wrong.0.is_empty())
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
        notes,
        hooks,
        send_limit,
    })
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
