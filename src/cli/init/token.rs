//! What must be the same on every node of a fleet, and the token that carries it from the first node
//! to the others: text that can be copied from one terminal to another. It holds no secret.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::host::HOSTS;
use crate::cli::{common, config};
use crate::kinds::fleet::FleetSettings;

/// The form of tokens that this version makes and reads.
const VERSION: u32 = 1;

/// What must be the same on every node, and where the repositories are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Common {
    /// The form of the token.
    v: u32,
    /// The desired repository's address.
    pub(super) desired: String,
    /// The state store's.
    pub(super) state: String,
    /// What must be the same.
    pub(super) settings: FleetSettings,
    /// The server's keys, where one of the nodes is the server and each has a key of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) hosts: Option<String>,
}

impl Common {
    /// What of a configuration must be the same elsewhere.
    pub(super) fn of(loaded: &config::Loaded) -> Self {
        let hosts = loaded.file.state.credentials.known_hosts_file.as_ref();
        let hosts = hosts.filter(|path| path.ends_with(HOSTS));
        Self {
            hosts: hosts.and_then(|path| std::fs::read_to_string(path).ok()),
            v: VERSION,
            desired: loaded.file.desired.url.clone(),
            state: loaded.state_url.clone(),
            settings: (*loaded.agent.fleet).clone(),
        }
    }

    /// As it stands in `agent.yaml`.
    pub(super) fn config(&self) -> Value {
        let mut config = common::config(&self.settings);
        config["desired"]["url"] = self.desired.as_str().into();
        config["state"] = json!({"url": self.state});
        config
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

    fn sample() -> Common {
        let text = "desired: {url: git://h/shop.git}\nstate: {url: git://h/state.git}";
        let path = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(path.path(), text).expect("written");
        Common::of(&config::load(path.path(), "n1", "x").expect("is right"))
    }

    #[test]
    fn a_token_brings_the_settings_over() {
        let sample = sample();
        let token = sample.token();
        assert_eq!(Common::parse(&format!(" {token}\n")), Ok(sample));
        assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_'));
    }

    #[test]
    fn a_token_that_is_none_says_so() {
        let token = sample().token();
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
