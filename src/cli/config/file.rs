//! The fields of `agent.yaml`, and what each is where it is not written.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::Deserialize;

use super::super::tell::{HookFile, NotesFile};
use super::{
    AGE_KEYS, DEFAULT_SOCKET, FOLD_ABOVE, HINT_PORT, SIGNERS, credentials, parse_duration,
};
use crate::adapters::bundle;
use crate::kinds::labels::Labels;
use crate::net::paths::Overlay;
use crate::node::larder::Limits;

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
    /// Encrypted Secrets.
    #[serde(default)]
    pub secrets: Secrets,
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

/// What opens a repository.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CredentialsFile {
    /// The user.
    pub username: Option<String>,
    /// A private ssh key.
    pub ssh_key_file: Option<PathBuf>,
    /// The passphrase of the key.
    pub ssh_passphrase_file: Option<PathBuf>,
    /// Known hosts.
    pub known_hosts_file: Option<PathBuf>,
    /// A token, a password, or `user:password`.
    pub token_file: Option<PathBuf>,
    /// Certificates to trust beside the machine's own.
    pub ca_file: Option<PathBuf>,
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
    /// When images go because a disk fills, and which.
    pub collect: Collect,
}

/// When images go because a disk fills, and which.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Collect {
    /// From so many percent of a disk in use; 100 for never.
    pub above: u64,
    /// Until no more than so many percent are.
    pub down_to: u64,
    /// What has come less than so long ago stays.
    pub min_age: String,
    /// So many revisions before the one in force keep their images.
    pub revisions: u64,
    /// Whether images may go that the agent did not bring.
    pub foreign: bool,
}

impl Default for Collect {
    fn default() -> Self {
        let limits = Limits::default();
        Self {
            above: limits.high_percent,
            down_to: limits.low_percent,
            min_age: format!("{}s", limits.min_age.as_secs()),
            revisions: limits.revisions,
            foreign: limits.takes_foreign,
        }
    }
}

impl Collect {
    /// As the agent takes it, or what is wrong with it.
    pub fn limits(&self) -> Result<Limits, String> {
        if self.above > 100 || self.down_to >= self.above {
            let (above, down_to) = (self.above, self.down_to);
            return Err(format!(
                "above is {above} and downTo {down_to}: percent of a disk, the second below the first"
            ));
        }
        Ok(Limits {
            high_percent: self.above,
            low_percent: self.down_to,
            min_age: parse_duration(&self.min_age)?,
            revisions: self.revisions,
            takes_foreign: self.foreign,
        })
    }
}

/// Encrypted Secrets.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Secrets {
    /// The file with this node's keys, as `windlass secret keys generate` and `age-keygen` write it.
    pub keys: PathBuf,
}

impl Default for Secrets {
    fn default() -> Self {
        Self { keys: AGE_KEYS.into() }
    }
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
