//! What `init` and `join` are told.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Map, Value, json};

use super::host::HostArgs;
use crate::cli::config;
use crate::cli::fault::Failure;

/// Arguments of `windlass init`.
#[derive(Args, Debug)]
#[command(after_help = "Checks everything first, and changes nothing unless all is well.")]
pub(in crate::cli) struct Init {
    #[command(flatten)]
    pub(super) common: CommonArgs,
    #[command(flatten)]
    pub(super) machine: Machine,
    #[command(flatten)]
    pub(super) host: HostArgs,
    /// Print the line for other machines, from the configuration that is there
    #[arg(long)]
    pub(super) print_join: bool,
    /// Print this machine's public key as a manifest that certifies it, from the configuration that
    /// is there
    #[arg(long, conflicts_with = "print_join")]
    pub(super) print_key: bool,
}

/// Arguments of `windlass join`.
#[derive(Args, Debug)]
#[command(after_help = "Checks everything first, and changes nothing unless all is well.")]
pub(in crate::cli) struct Join {
    /// What `windlass init` printed; instead of it, the settings one by one
    #[arg(value_name = "TOKEN", conflicts_with = "CommonArgs")]
    pub(super) token: Option<String>,
    #[command(flatten)]
    pub(super) common: CommonArgs,
    #[command(flatten)]
    pub(super) machine: Machine,
}

/// What must be the same on every node.
#[derive(Args, Debug)]
#[command(next_help_heading = "The same on every node")]
pub(super) struct CommonArgs {
    /// Repository with the manifests: a path, ssh://, https://, git://
    #[arg(long, value_name = "URL")]
    pub(super) desired: Option<String>,
    /// Branch of it
    #[arg(long, value_name = "NAME")]
    pub(super) branch: Option<String>,
    /// Directory in it with the manifests
    #[arg(long, value_name = "PATH")]
    pub(super) directory: Option<String>,
    /// Fingerprint of its first trust.yaml; init takes that of the one that is there
    #[arg(long, value_name = "SHA256:…")]
    pub(super) trust: Option<String>,
    /// Repository where agents keep the fleet's state
    #[arg(long, value_name = "URL")]
    pub(super) state: Option<String>,
    /// Where pods' addresses come from
    #[arg(long, value_name = "CIDR")]
    pub(super) pod_network: Option<String>,
    /// Prefix length of one node's share of it
    #[arg(long, value_name = "BITS")]
    pub(super) node_prefix: Option<u8>,
    /// Where Services' addresses come from
    #[arg(long, value_name = "CIDR")]
    pub(super) service_network: Option<String>,
    /// Service address at which DNS answers
    #[arg(long, value_name = "IP")]
    pub(super) dns_address: Option<Ipv4Addr>,
    /// Domain of Services' names
    #[arg(long, value_name = "NAME")]
    pub(super) cluster_domain: Option<String>,
    /// Node ports, first and last
    #[arg(long, value_name = "FIRST-LAST")]
    pub(super) node_ports: Option<String>,
    /// How pods of other nodes are reached: auto, direct, vxlan
    #[arg(long, value_name = "MODE")]
    pub(super) network_mode: Option<String>,
    /// VXLAN network identifier
    #[arg(long, value_name = "NUMBER")]
    pub(super) vxlan_id: Option<u32>,
    /// UDP port of VXLAN
    #[arg(long, value_name = "PORT")]
    pub(super) vxlan_port: Option<u16>,
}

/// What is this machine's own.
#[derive(Args, Debug)]
#[command(next_help_heading = "This machine")]
pub(super) struct Machine {
    /// Configuration to write
    #[arg(long, value_name = "FILE", default_value = config::DEFAULT_PATH)]
    pub(super) config: PathBuf,
    /// Write it anew if it is there
    #[arg(long)]
    pub(super) force: bool,
    /// Leave the systemd unit as it is
    #[arg(long)]
    pub(super) no_start: bool,
    /// Name of the node; the host's name by default
    #[arg(long, value_name = "NAME")]
    pub(super) node_name: Option<String>,
    /// Address of the node; that of the default route by default
    #[arg(long, value_name = "IP")]
    pub(super) address: Option<Ipv4Addr>,
    /// Label of the node; may be given several times
    #[arg(long, value_name = "KEY=VALUE")]
    pub(super) label: Vec<String>,
    /// Docker's socket
    #[arg(long, value_name = "PATH")]
    pub(super) docker_socket: Option<PathBuf>,
    /// Where what outlives a reboot is kept
    #[arg(long, value_name = "DIR")]
    pub(super) data_dir: Option<PathBuf>,
    /// User at the Git server
    #[arg(long, value_name = "NAME")]
    username: Option<String>,
    /// Private ssh key that reads the desired repository, and writes state unless --state-ssh-key
    #[arg(long, value_name = "FILE")]
    pub(super) ssh_key: Option<PathBuf>,
    /// Passphrase of the key
    #[arg(long, value_name = "FILE")]
    ssh_passphrase_file: Option<PathBuf>,
    /// Keys of the ssh servers, of both repositories
    #[arg(long, value_name = "FILE")]
    pub(super) known_hosts: Option<PathBuf>,
    /// Token or password that reads the desired repository
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// Certificates to trust beside the machine's own
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// User at the Git server of the state
    #[arg(long, value_name = "NAME")]
    state_username: Option<String>,
    /// Private ssh key that writes state
    #[arg(long, value_name = "FILE")]
    state_ssh_key: Option<PathBuf>,
    /// Passphrase of that key
    #[arg(long, value_name = "FILE")]
    state_ssh_passphrase_file: Option<PathBuf>,
    /// Token or password that writes state; never taken from --token-file, the server may be another
    #[arg(long, value_name = "FILE")]
    state_token_file: Option<PathBuf>,
}

impl Machine {
    /// What opens the desired repository, as in `agent.yaml`.
    pub(super) fn credentials(&self) -> Result<Value, Failure> {
        files(
            self.username.as_ref(),
            &[
                ("sshKeyFile", self.ssh_key.as_ref()),
                ("sshPassphraseFile", self.ssh_passphrase_file.as_ref()),
                ("knownHostsFile", self.known_hosts.as_ref()),
                ("tokenFile", self.token_file.as_ref()),
                ("caFile", self.ca_file.as_ref()),
            ],
        )
    }

    /// What opens the state store. A public key gives nothing away, so one may serve for both.
    pub(super) fn state_credentials(&self) -> Result<Value, Failure> {
        let (key, passphrase) = match &self.state_ssh_key {
            Some(key) => (Some(key), self.state_ssh_passphrase_file.as_ref()),
            None => (self.ssh_key.as_ref(), self.ssh_passphrase_file.as_ref()),
        };
        files(
            self.state_username.as_ref(),
            &[
                ("sshKeyFile", key),
                ("sshPassphraseFile", passphrase),
                ("knownHostsFile", self.known_hosts.as_ref()),
                ("tokenFile", self.state_token_file.as_ref()),
                ("caFile", self.ca_file.as_ref()),
            ],
        )
    }
}

fn files(username: Option<&String>, files: &[(&str, Option<&PathBuf>)]) -> Result<Value, Failure> {
    let mut fields = Map::new();
    if let Some(name) = username {
        fields.insert("username".into(), json!(name));
    }
    for (field, file) in files {
        if let Some(file) = file {
            fields.insert((*field).to_owned(), json!(in_full(file)?));
        }
    }
    Ok(Value::Object(fields))
}

/// The agent runs elsewhere: it needs the whole path.
fn in_full(file: &Path) -> Result<PathBuf, Failure> {
    fs::canonicalize(file)
        .map_err(|error| Failure::usage(format!("{} can't be read: {error}", file.display())))
}
