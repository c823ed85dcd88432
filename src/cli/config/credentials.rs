//! What opens repositories, as `agent.yaml` has it.

use std::path::PathBuf;

use serde::Deserialize;

use super::File;
use crate::adapters::git::Credentials;

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

pub(super) fn credentials(file: &CredentialsFile) -> Credentials {
    Credentials {
        username: file.username.clone(),
        ssh_key: file.ssh_key_file.clone(),
        ssh_passphrase_file: file.ssh_passphrase_file.clone(),
        known_hosts: file.known_hosts_file.clone(),
        password_file: file.token_file.clone(),
        ca_file: file.ca_file.clone(),
    }
}

/// Where notes on commits are written, and what opens it: the desired repository where nothing else
/// is said.
pub(super) fn notes(file: &File, desired: &Credentials) -> Option<(String, Credentials)> {
    let notes = file.notes.as_ref()?;
    let url = notes.url.clone().unwrap_or_else(|| file.desired.url.clone());
    let own = notes.credentials.as_ref().map(credentials);
    Some((url, own.unwrap_or_else(|| desired.clone())))
}
