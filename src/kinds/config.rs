//! ConfigMaps and Secrets: what pods read.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

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
    /// `data`, with `stringData` laid over it.
    pub data: BTreeMap<String, Arc<[u8]>>,
    /// Whether a change of `data` under the same name is refused.
    pub immutable: bool,
}

/// Prints the keys only: a Secret must not reach a log by way of `{:?}`.
impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&str> = self.data.keys().map(String::as_str).collect();
        f.debug_struct("Secret").field("kind", &self.kind).field("keys", &keys).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_does_not_print_its_values() {
        let data = BTreeMap::from([("password".to_owned(), Arc::from(b"hunter2".as_slice()))]);
        let secret = Secret { kind: "Opaque".into(), data, immutable: false };
        let printed = format!("{secret:?}");
        assert!(printed.contains("password") && !printed.contains("hunter2"), "{printed}");
        assert!(!printed.contains("104"), "nor as numbers: {printed}");
    }
}
