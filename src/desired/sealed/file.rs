//! All values of a file in order, and the MAC over them (`sops.go` of SOPS).
//!
//! The MAC is of values alone, as Go's reader of YAML has them: so `0644` counts as `420`, and `yes`,
//! which is a boolean to Kubernetes, as the text it is to that reader.

use openssl::sha::Sha512;
use zeroize::Zeroizing;

use super::super::document::read_text;
use super::super::tree::{At, Node, Value, as_whole};
use super::super::yaml::ProblemKind;
use super::cipher::{self, DATA_KEY_BYTES, is_sealed};
use super::metadata::{Metadata, entry};
use super::{ENTRY, Unsealed, age};
use crate::kinds::age::Keyring;
use crate::kinds::digest::hex;

/// What the MAC of encrypted values begins with (`MACOnlyEncryptedInitialization`): the SHA-256 of
/// "sops", so that it never equals one of all values.
const ONLY_ENCRYPTED: [u8; 32] = [
    0x8a, 0x3f, 0xd2, 0xad, 0x54, 0xce, 0x66, 0x52, 0x7b, 0x10, 0x34, 0xf3, 0xd1, 0x47, 0xbe, 0x0b,
    0x0b, 0x97, 0x5b, 0x3b, 0xf4, 0x4f, 0x72, 0xc6, 0xfd, 0xad, 0xec, 0x81, 0x76, 0xf2, 0x7d, 0x69,
];

/// The fields of a Secret that may be encrypted: what else it says, everybody must be able to read.
pub(super) const VALUES: [&str; 2] = ["data", "stringData"];

/// A value of a file in the clear.
pub(super) struct Leaf {
    /// Where its document begins.
    pub(super) document: (u32, u32),
    /// The names on the way to it.
    pub(super) path: Vec<String>,
    pub(super) bytes: Zeroizing<Vec<u8>>,
    pub(super) is_text: bool,
}

impl Leaf {
    pub(super) fn new(
        document: &Node<'_>,
        path: &[&str],
        (bytes, is_text): (Zeroizing<Vec<u8>>, bool),
    ) -> Self {
        let path = path.iter().map(|name| (*name).to_owned()).collect();
        Self { document: (document.at.line, document.at.column), path, bytes, is_text }
    }
}

/// An encrypted document as far as it can be read without a key.
pub(super) struct Found {
    /// For whom.
    pub(super) recipients: Vec<String>,
    /// What is wrong with it, and where.
    pub(super) wrong: Vec<(At, String)>,
}

/// Looks at a document that has a `sops` entry.
pub(super) fn find(root: &Node<'_>, is_secret: bool) -> Result<Found, Unsealed> {
    let metadata = sealed_by(std::slice::from_ref(root))?;
    let mut wrong = Vec::new();
    each_leaf(root, &mut |path, node| {
        let is_value = is_secret && path.first().is_some_and(|first| VALUES.contains(first));
        let (is_meant, is_done) = (metadata.rule.encrypts(path), is_done(node));
        let name = path.join(".");
        if (is_meant || is_done) && !is_value {
            let message = format!(
                "{name} is encrypted, or is to be: only data and stringData of Secrets can be; tell SOPS so \
                 by encrypted_regex: ^(data|stringData)$"
            );
            wrong.push((node.at, message));
        } else if is_meant && !is_done {
            let message = format!(
                "{name} stands in plain text in a file that is meant to be encrypted: it counts as known \
                 to everybody; change it, then encrypt the file"
            );
            wrong.push((node.at, message));
        } else if is_done && !is_meant {
            wrong.push((node.at, format!("{name} is encrypted, and the file says that it is not")));
        }
        Ok(())
    })?;
    let recipients = metadata.keys.into_iter().map(|(recipient, _)| recipient).collect();
    Ok(Found { recipients, wrong })
}

/// Whether a value is as SOPS leaves one that is to be encrypted.
fn is_done(node: &Node<'_>) -> bool {
    match &node.value {
        Value::Text(text) => text.is_empty() || is_sealed(text),
        _ => false,
    }
}

/// The documents of a file that hold something.
pub(super) fn documents<'t>(path: &str, text: &'t str) -> Result<Vec<Node<'t>>, Unsealed> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut roots = Vec::new();
    for document in read_text(text, name) {
        let is_wrong = |kind| kind != ProblemKind::Warning;
        if let Some(problem) = document.problems.iter().find(|problem| is_wrong(problem.kind)) {
            let (line, message) = (problem.at.line, &problem.message);
            return Err(Unsealed::unfit(format!("line {line}: {message}")));
        }
        roots.extend(document.root.filter(|root| root.value != Value::Null));
    }
    Ok(roots)
}

/// What SOPS says of a file; none if it is not encrypted.
pub(super) fn metadata_of(documents: &[Node<'_>]) -> Result<Option<Metadata>, Unsealed> {
    let said = documents.first().and_then(entry);
    said.map(|said| Metadata::read(&said.node)).transpose()
}

/// The same of a file that must be encrypted.
pub(super) fn sealed_by(documents: &[Node<'_>]) -> Result<Metadata, Unsealed> {
    metadata_of(documents)?.ok_or_else(|| Unsealed::unfit("is not encrypted by SOPS"))
}

/// Opens a file: all its values, in order.
pub(super) fn open(documents: &[Node<'_>], keyring: &Keyring) -> Result<Vec<Leaf>, Unsealed> {
    let metadata = sealed_by(documents)?;
    let key = data_key(&metadata, keyring)?;
    open_with(documents, &metadata, &key)
}

/// The same by the file's own key.
pub(super) fn open_with(
    documents: &[Node<'_>],
    metadata: &Metadata,
    key: &[u8],
) -> Result<Vec<Leaf>, Unsealed> {
    let mut mac = Mac::new(metadata.is_mac_of_encrypted);
    let mut leaves = Vec::new();
    for root in documents {
        each_leaf(root, &mut |path, node| {
            let is_encrypted = metadata.rule.encrypts(path);
            let (bytes, is_text) = if is_encrypted {
                let Value::Text(text) = &node.value else {
                    return Err(Unsealed::Value(path.join(".")));
                };
                let opened = cipher::open(text, key, &said(path))?;
                (opened.bytes, opened.is_text)
            } else {
                plain(&node.value)
            };
            mac.take(&bytes, is_encrypted);
            leaves.push(Leaf::new(root, path, (bytes, is_text)));
            Ok(())
        })?;
    }
    let expected =
        cipher::open(&metadata.mac, key, &metadata.modified).map_err(|_| Unsealed::Mac)?;
    if expected.bytes.as_slice() != mac.finish().as_bytes() {
        return Err(Unsealed::Mac);
    }
    Ok(leaves)
}

/// The file's key, by one of ours.
pub(super) fn data_key(
    metadata: &Metadata,
    keyring: &Keyring,
) -> Result<Zeroizing<Vec<u8>>, Unsealed> {
    let ours: Vec<String> = keyring.recipients().iter().map(ToString::to_string).collect();
    // Whom it names first: the others would only cost time.
    let (first, rest): (Vec<_>, Vec<_>) =
        metadata.keys.iter().partition(|(recipient, _)| ours.contains(recipient));
    let is_named = !first.is_empty();
    for (_, locked) in first.into_iter().chain(rest) {
        match age::open(locked, &keyring.identities) {
            Ok(key) if key.len() == DATA_KEY_BYTES => return Ok(key),
            Ok(_) => return Err(Unsealed::Key("has not the length it should have".to_owned())),
            Err(age::Unopened::NoKey) => {}
            Err(broken) if is_named => return Err(Unsealed::Key(broken.to_string())),
            Err(_) => {}
        }
    }
    if is_named {
        return Err(Unsealed::Key("does not open with the key it names".to_owned()));
    }
    let recipients = metadata.keys.iter().map(|(recipient, _)| recipient.clone()).collect();
    Err(Unsealed::NotForUs { recipients, have: what_is_had(keyring) })
}

/// What there is to open files with.
pub(super) fn what_is_had(keyring: &Keyring) -> String {
    let ours: Vec<String> = keyring.recipients().iter().map(ToString::to_string).collect();
    match &keyring.trouble {
        Some(trouble) => trouble.clone(),
        None => format!("the key in {} is {}", keyring.file, ours.join(", ")),
    }
}

/// The path of a value as its tag has it.
pub(super) fn said(path: &[&str]) -> String {
    path.join(":") + ":"
}

/// Calls `visit` for each value of a document with the names on the way to it; items of a list have
/// the list's (`walkSlice`), and what says nothing is passed over.
pub(super) fn each_leaf<'n>(
    root: &'n Node<'_>,
    visit: &mut impl FnMut(&[&'n str], &'n Node<'_>) -> Result<(), Unsealed>,
) -> Result<(), Unsealed> {
    let mut path = Vec::new();
    let Value::Map(entries) = &root.value else {
        return Err(Unsealed::unfit("a file of SOPS holds maps"));
    };
    for entry in entries.iter().filter(|entry| entry.key != ENTRY) {
        path.push(&*entry.key);
        walk(&entry.node, &mut path, visit)?;
        path.pop();
    }
    Ok(())
}

fn walk<'n>(
    node: &'n Node<'_>,
    path: &mut Vec<&'n str>,
    visit: &mut impl FnMut(&[&'n str], &'n Node<'_>) -> Result<(), Unsealed>,
) -> Result<(), Unsealed> {
    match &node.value {
        Value::Null => Ok(()),
        Value::Map(entries) => entries.iter().try_for_each(|entry| {
            path.push(&*entry.key);
            let walked = walk(&entry.node, path, visit);
            path.pop();
            walked
        }),
        Value::List(items) => items.iter().try_for_each(|item| walk(item, path, visit)),
        _ => visit(path, node),
    }
}

/// A value that is not encrypted as the MAC has it (`ToBytes`), and whether it is text.
pub(super) fn plain(value: &Value<'_>) -> (Zeroizing<Vec<u8>>, bool) {
    let (text, is_text) = match value {
        Value::Text(text) => (text.to_string(), true),
        // Words of YAML 1.1 that are texts to Go's reader of today.
        Value::Bool(_, raw) if !["true", "false"].contains(&&*raw.to_ascii_lowercase()) => {
            (raw.to_string(), true)
        }
        Value::Bool(true, _) => ("True".to_owned(), false),
        Value::Bool(false, _) => ("False".to_owned(), false),
        Value::Int(number, _) => (number.to_string(), false),
        Value::Float(number, _) => match as_whole(*number) {
            Some(whole) => (whole.to_string(), false),
            None => (number.to_string(), false),
        },
        Value::Null | Value::List(_) | Value::Map(_) => (String::new(), false),
    };
    (Zeroizing::new(text.into_bytes()), is_text)
}

/// SHA-512 over values, in hexadecimal.
pub(super) struct Mac {
    hash: Sha512,
    is_of_encrypted: bool,
}

impl Mac {
    pub(super) fn new(is_of_encrypted: bool) -> Self {
        let mut hash = Sha512::new();
        if is_of_encrypted {
            hash.update(&ONLY_ENCRYPTED);
        }
        Self { hash, is_of_encrypted }
    }

    pub(super) fn take(&mut self, bytes: &[u8], is_encrypted: bool) {
        if is_encrypted || !self.is_of_encrypted {
            self.hash.update(bytes);
        }
    }

    pub(super) fn finish(self) -> String {
        hex(&self.hash.finish()).to_ascii_uppercase()
    }
}
