//! Secrets under lock: files that SOPS has encrypted for age keys, and Secrets whose values are files of age.
//!
//! A letter that passes through many hands unopened: whoever reads a commit sees that a Secret is
//! there, what it is called and which values it has, and plans by that; only a node that runs a pod
//! which needs it, and has a key to it, opens it, in memory.
//!
//! ```text
//!   metadata   what SOPS says of a file: for whom, by which rule, the MAC
//!   age        the file's key, under the padlock of each recipient
//!   cipher     one value, AES-256-GCM, its path in its tag
//!   file       all values in order, and the MAC over them
//!   write      the same the other way round, in the file's own text
//! ```
//!
//! The rule: nothing of a file is given away before its MAC is checked; a file of age has its own. A Secret says
//! that its values are such ([`ENCRYPTED`]), for there are programs that open theirs themselves. The limit: of SOPS' ways to lock
//! a file's key age's X25519 only, of its stores YAML and JSON, and comments are neither encrypted nor
//! read. No chance and no clock of its own: who writes brings them.

mod age;
mod cipher;
mod file;
mod lock;
mod metadata;
#[cfg(test)]
mod tests;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) use lock::Lock;
use metadata::entry;
pub use metadata::{CreationRule, CreationRules};
pub use write::{Manner, Means, decrypt, encrypt, reencrypt};

use super::base64;
use crate::kinds::age::Keyring;
use crate::kinds::config::{CONFIG_BYTES_MAX, Secret};

/// What SOPS says of a file, at the root of each of its documents.
pub(super) const ENTRY: &str = "sops";
/// What a Secret says of itself if each of its values is an armoured file: `age`.
pub(super) const ENCRYPTED: &str = "windlass.dev/encrypted";
/// How files are to be encrypted, at the root of a repository.
pub const CREATION_FILE: &str = ".sops.yaml";

/// Fills a buffer with what nobody can guess.
pub type Chance<'a> = dyn FnMut(&mut [u8]) + 'a;

/// Why something can't be opened, or encrypted. Never holds a value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unsealed {
    /// It is not built so that it could be.
    #[error("{0}")]
    Unfit(String),
    /// It is for others.
    #[error("it is encrypted for {}, and {have}", recipients.join(", "))]
    NotForUs {
        /// For whom.
        recipients: Vec<String>,
        /// What this node has instead.
        have: String,
    },
    /// A value, by its path.
    #[error("the value at {0} is not what was encrypted: the file was changed since, or by hand")]
    Value(String),
    /// The file's key.
    #[error("the file's key {0}")]
    Key(String),
    /// The file as a whole.
    #[error("the file's MAC does not fit what it holds: it was changed since it was encrypted")]
    Mac,
}

impl Unsealed {
    fn unfit(message: impl Into<String>) -> Self {
        Self::Unfit(message.into())
    }
}

/// Opens a Secret as the commit has it.
pub fn open(secret: &Secret, keyring: &Keyring) -> Result<Secret, Unsealed> {
    let Some(sealed) = &secret.sealed else { return Ok(secret.clone()) };
    if !sealed.values.is_empty() {
        return open_values(secret, &sealed.values, keyring);
    }
    let opened = file::open(&file::documents(&sealed.path, &sealed.text)?, keyring)?;
    let mut data: BTreeMap<String, Arc<[u8]>> = BTreeMap::new();
    for field in ["data", "stringData"] {
        let values = opened.iter().filter(|value| value.document == sealed.at);
        for value in values {
            let [first, key] = value.path.as_slice() else { continue };
            if first != field {
                continue;
            }
            let not_text = || Unsealed::unfit(format!("{field}[{key}] is not text"));
            let plain = if value.is_text { Ok(&value.bytes) } else { Err(not_text()) }?;
            let plain: Arc<[u8]> = match field {
                "data" => {
                    let text = std::str::from_utf8(plain).map_err(|_| not_text())?;
                    let decoded = base64::decode(text);
                    decoded
                        .ok_or_else(|| Unsealed::unfit(format!("data[{key}] is not base64")))?
                        .into()
                }
                _ => plain.as_slice().into(),
            };
            data.insert(key.clone(), plain);
        }
    }
    if !data.keys().eq(&sealed.keys) {
        return Err(Unsealed::unfit("does not hold the values that it names"));
    }
    whole(secret, data)
}

/// Opens values that are files of age.
fn open_values(
    secret: &Secret,
    values: &BTreeMap<String, Arc<str>>,
    keyring: &Keyring,
) -> Result<Secret, Unsealed> {
    let mut data: BTreeMap<String, Arc<[u8]>> = BTreeMap::new();
    for (key, file) in values {
        let plain = age::open(file, &keyring.identities).map_err(|why| match why {
            age::Unopened::NoKey => {
                let have = file::what_is_had(keyring);
                Unsealed::unfit(format!("data[{key}] is encrypted for others, and {have}"))
            }
            age::Unopened::Broken => Unsealed::Value(key.clone()),
        })?;
        data.insert(key.clone(), plain.as_slice().into());
    }
    whole(secret, data)
}

/// The Secret with what was found in it, if one may hold so much.
fn whole(secret: &Secret, data: BTreeMap<String, Arc<[u8]>>) -> Result<Secret, Unsealed> {
    let bytes: usize = data.values().map(|value| value.len()).sum();
    if bytes > CONFIG_BYTES_MAX {
        return Err(Unsealed::unfit(format!("holds more than {CONFIG_BYTES_MAX} bytes")));
    }
    Ok(Secret { kind: secret.kind.clone(), data, immutable: secret.immutable, sealed: None })
}

/// For whom a file is encrypted; none if it is not.
pub fn recipients(path: &str, text: &str) -> Result<Option<Vec<String>>, Unsealed> {
    Ok(file::metadata_of(&file::documents(path, text)?)?
        .map(|metadata| metadata.keys.into_iter().map(|(recipient, _)| recipient).collect()))
}
