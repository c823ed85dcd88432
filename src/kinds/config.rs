//! ConfigMaps and Secrets: what pods read.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use super::age::Sealed;
use super::name::Name;

/// The size Kubernetes allows a ConfigMap or Secret: `core.MaxSecretSize`, 1 MiB.
pub const CONFIG_BYTES_MAX: usize = 1024 * 1024;

/// Files and values by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigMap {
    /// `data` and `binaryData` together.
    pub data: BTreeMap<String, Arc<[u8]>>,
    /// Whether a change of `data` under the same name is refused.
    pub immutable: bool,
}

/// As a ConfigMap, but its values are shown nowhere except to those who may read Secrets.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret {
    /// `Opaque`, `kubernetes.io/dockerconfigjson` …
    pub kind: String,
    /// `data`, with `stringData` laid over it; empty where it is encrypted.
    pub data: BTreeMap<String, Arc<[u8]>>,
    /// Whether a change of `data` under the same name is refused.
    pub immutable: bool,
    /// What it is opened from, where it is encrypted.
    pub sealed: Option<Arc<Sealed>>,
}

impl Secret {
    /// The names of its values, encrypted or not.
    pub fn keys(&self) -> impl Iterator<Item = &String> {
        self.data.keys().chain(self.sealed.iter().flat_map(|sealed| &sealed.keys))
    }
}

/// What pods that run under an account are given with it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceAccount {
    /// Credentials for registries, for pods that name none themselves.
    pub image_pull_secrets: Vec<Name>,
    /// Whether they find its files, where they don't say so themselves.
    pub automounts: Option<bool>,
}

/// The account of pods that name none; every namespace has it.
pub const DEFAULT_ACCOUNT: &str = "default";

/// Prints the keys only: a Secret must not reach a log by way of `{:?}`.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.keys().collect();
        f.debug_struct("Secret").field("kind", &self.kind).field("keys", &keys).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print_its_values() {
        let data = BTreeMap::from([("password".to_owned(), Arc::from(b"hunter2".as_slice()))]);
        let secret = Secret { kind: "Opaque".into(), data, ..Secret::default() };
        let printed = format!("{secret:?}");
        assert!(printed.contains("password") && !printed.contains("hunter2"), "{printed}");
        assert!(!printed.contains("104"), "nor as numbers: {printed}");
    }
}
