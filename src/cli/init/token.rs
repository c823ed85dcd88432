//! What must be the same on every node of a fleet, and the token that carries it from the first node
//! to the others: text that can be copied from one terminal to another. It holds no secret.

use std::net::Ipv4Addr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::cli::config;

/// The form of tokens that this version makes and reads.
const VERSION: u32 = 1;

/// What must be the same on every node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Common {
    /// The form of the token.
    v: u32,
    /// The desired repository.
    pub(super) desired: Desired,
    /// The state store's address.
    pub(super) state: String,
    /// Addresses and names.
    pub(super) network: Network,
    /// How nodes keep watch over each other.
    pub(super) fleet: Fleet,
}

/// The desired repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Desired {
    pub(super) url: String,
    branch: String,
    directory: String,
    follow_rewrites: bool,
}

/// Addresses and names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Network {
    pod_network: String,
    node_prefix: u8,
    service_network: String,
    dns_address: Ipv4Addr,
    cluster_domain: String,
    node_ports: String,
    mode: String,
    vxlan_id: u32,
    vxlan_port: u16,
}

/// How nodes keep watch over each other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Fleet {
    lease: String,
    beat: String,
    not_ready_after: String,
    /// Not in tokens of earlier versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    fold_above: Option<usize>,
}

impl Common {
    /// What of a configuration must be the same elsewhere.
    pub(super) fn of(loaded: &config::Loaded) -> Self {
        let (file, network) = (&loaded.file, &loaded.file.network);
        Self {
            v: VERSION,
            desired: Desired {
                url: file.desired.url.clone(),
                branch: file.desired.branch.clone(),
                directory: file.desired.directory.clone(),
                follow_rewrites: file.desired.follow_rewrites,
            },
            state: loaded.state_url.clone(),
            network: Network {
                pod_network: network.pod_network.clone(),
                node_prefix: network.node_prefix,
                service_network: network.service_network.clone(),
                dns_address: loaded.agent.settings.dns_ip,
                cluster_domain: network.cluster_domain.clone(),
                node_ports: network.node_ports.clone(),
                mode: network.mode.clone(),
                vxlan_id: network.vxlan_id,
                vxlan_port: network.vxlan_port,
            },
            fleet: Fleet {
                lease: file.fleet.lease.clone(),
                beat: file.fleet.beat.clone(),
                not_ready_after: file.fleet.not_ready_after.clone(),
                fold_above: Some(file.fleet.fold_above),
            },
        }
    }

    /// As it stands in `agent.yaml`.
    pub(super) fn config(&self) -> Value {
        json!({
            "desired": self.desired,
            "state": {"url": self.state},
            "network": self.network,
            "fleet": self.fleet,
        })
    }

    /// Packs it.
    pub(super) fn token(&self) -> String {
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(self).unwrap_or_default())
    }

    /// Unpacks a token.
    pub(super) fn parse(token: &str) -> Result<Self, String> {
        let damaged = "is damaged; copy the whole line that `windlass init` printed";
        let bytes = URL_SAFE_NO_PAD.decode(token.trim()).map_err(|_| damaged.to_owned())?;
        let json: Value = serde_json::from_slice(&bytes).map_err(|_| damaged.to_owned())?;
        match json.get("v").and_then(Value::as_u64) {
            Some(version) if version == u64::from(VERSION) => {}
            Some(version) if version > u64::from(VERSION) => {
                return Err("is of a newer windlass: install that version here".into());
            }
            _ => return Err(damaged.into()),
        }
        serde_json::from_value(json).map_err(|error| format!("can't be read: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn common() -> Common {
        let text = "desired: {url: git://h/shop.git}\nstate: {url: git://h/state.git}";
        let path = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(path.path(), text).expect("written");
        Common::of(&config::load(path.path(), "n1", "x").expect("is right"))
    }

    #[test]
    fn a_token_brings_the_settings_over() {
        let common = common();
        let token = common.token();
        assert_eq!(Common::parse(&format!(" {token}\n")), Ok(common));
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    }

    #[test]
    fn a_token_that_is_none_says_so() {
        let token = common().token();
        let newer = URL_SAFE_NO_PAD.encode(br#"{"v":2,"desired":7}"#);
        for (token, word) in [
            ("", "damaged"),
            ("hello", "damaged"),
            (&token[..token.len() - 8], "damaged"),
            ("e30", "damaged"),
            (newer.as_str(), "newer"),
        ] {
            let complaint = Common::parse(token).expect_err(token);
            assert!(complaint.contains(word), "{token}: {complaint}");
        }
    }
}
