//! An encrypted Secret on its way through the door: its values are taken out before its form is
//! checked, and laid in again, still encrypted, when it has passed.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::base64;
use super::super::tree::{At, Entries as _, Node, Value};
use super::cipher::is_sealed;
use super::{ENCRYPTED, ENTRY, Unsealed, age, file};
use crate::kinds::age::Sealed;
use crate::kinds::object::Body;
use crate::kinds::registry::Kind;

/// What stands in for a value while the rest is checked: `{}`, which is right for every built-in type
/// of Secret.
const STAND_IN: &str = "e30=";

/// What was taken out of an object.
pub(in crate::desired) struct Lock {
    /// The file that it stands in, and its text.
    pub(in crate::desired) path: Arc<str>,
    pub(in crate::desired) text: Arc<str>,
    at: At,
    recipients: Vec<String>,
    /// The values as they are written, by name; the later counts.
    values: Vec<(String, String)>,
    /// Each is a file of age by itself.
    are_files: bool,
}

impl Lock {
    /// Whether a document has one.
    pub(in crate::desired) fn is_on(root: &Node<'_>) -> bool {
        super::entry(root).is_some()
    }

    /// What is to be said of a document that is encrypted as a whole.
    pub(in crate::desired) fn hides_what_it_is(root: &Node<'_>) -> Option<(At, &'static str)> {
        let kind = root.entry("kind").filter(|_| Self::is_on(root))?;
        let is_hidden = kind.node.as_text().is_some_and(is_sealed);
        let message = "what kind of object this is, is encrypted too: encrypt only the values of Secrets \
                       (encrypted_regex: ^(data|stringData)$)";
        is_hidden.then_some((kind.node.at, message))
    }

    /// Takes it out of an object, if it has one; all that is wrong with it.
    pub(in crate::desired) fn take(
        kind: Kind,
        root: &mut Node<'_>,
    ) -> Result<Option<Self>, Vec<(At, String)>> {
        let said = root.entry("metadata").and_then(|metadata| metadata.node.entry("annotations"));
        let said = said.and_then(|annotations| annotations.node.entry(ENCRYPTED));
        let said = said.filter(|_| kind == Kind::Secret);
        let said = said.map(|said| (said.node.at, said.node.as_text() == Some("age")));
        let Some(entry) = super::entry(root) else {
            return match said {
                Some((_, true)) => Self::take_files(root),
                Some((at, false)) => Err(vec![(at, format!("{ENCRYPTED} can be age only"))]),
                None => Ok(None),
            };
        };
        if let Some((at, _)) = said {
            let message = format!("{ENCRYPTED} is for values that SOPS has not encrypted");
            return Err(vec![(at, message)]);
        }
        let at = entry.at;
        let found = file::find(root, kind == Kind::Secret);
        let found = found.map_err(|why: Unsealed| vec![(at, why.to_string())])?;
        if !found.wrong.is_empty() {
            return Err(found.wrong);
        }
        let mut values = Vec::new();
        let begins = root.at;
        if let Some(entries) = root.as_map_mut() {
            entries.retain(|entry| entry.key != ENTRY);
            if kind == Kind::Secret {
                for field in file::VALUES {
                    let Some(map) = entries.get_mut(field).and_then(Node::as_map_mut) else {
                        continue;
                    };
                    for entry in map {
                        if let Value::Text(text) = &mut entry.node.value {
                            values.push((entry.key.to_string(), text.to_string()));
                            *text = STAND_IN.into();
                        }
                    }
                }
            }
        }
        let nowhere = Arc::<str>::from("");
        let (path, text) = (Arc::clone(&nowhere), nowhere);
        let recipients = found.recipients;
        Ok(Some(Self { path, text, at: begins, recipients, values, are_files: false }))
    }

    /// Takes the values out of a Secret each of which is to be a file of age.
    fn take_files(root: &mut Node<'_>) -> Result<Option<Self>, Vec<(At, String)>> {
        let begins = root.at;
        let (mut values, mut wrong) = (Vec::new(), Vec::new());
        for field in file::VALUES {
            let map = root.as_map_mut().and_then(|entries| entries.get_mut(field));
            for entry in map.and_then(Node::as_map_mut).into_iter().flatten() {
                let file = entry.node.as_text().and_then(|text| match field {
                    "data" => String::from_utf8(base64::decode(text)?).ok(),
                    _ => Some(text.to_owned()),
                });
                match file.filter(|file| age::is_file(file)) {
                    Some(file) => {
                        values.push((entry.key.to_string(), file));
                        entry.node.value = Value::Text(STAND_IN.into());
                    }
                    // The value itself is not said: it may be in plain text.
                    None => wrong.push((
                        entry.node.at,
                        format!(
                            "{field}[{}] is no file of age, as `age --armor` writes them",
                            entry.key
                        ),
                    )),
                }
            }
        }
        if !wrong.is_empty() {
            return Err(wrong);
        }
        let nowhere = Arc::<str>::from("");
        let (path, text) = (Arc::clone(&nowhere), nowhere);
        let recipients = Vec::new();
        Ok(Some(Self { path, text, at: begins, recipients, values, are_files: true }))
    }

    /// The names of its values, each once.
    pub(in crate::desired) fn keys(&self) -> Vec<String> {
        let mut keys: Vec<String> = self.values.iter().map(|(key, _)| key.clone()).collect();
        keys.sort();
        keys.dedup();
        keys
    }

    /// Lays the values into the object, checked and completed, and into what it means.
    pub(in crate::desired) fn lay_in(&self, root: &mut Node<'_>, body: &mut Body) {
        let data = root.get_mut("data").and_then(Node::as_map_mut);
        if let Some(data) = data {
            for (key, value) in &self.values {
                if let Some(node) = data.get_mut(key) {
                    node.value = Value::Text(value.clone().into());
                }
            }
        }
        if let Body::Secret(secret) = body {
            let secret = Arc::make_mut(secret);
            secret.data.clear();
            secret.sealed = Some(Arc::new(Sealed {
                path: Arc::clone(&self.path),
                text: Arc::clone(&self.text),
                at: (self.at.line, self.at.column),
                keys: self.keys(),
                recipients: self.recipients.clone(),
                values: match self.are_files {
                    true => {
                        let files = self.values.iter();
                        files.map(|(key, file)| (key.clone(), file.as_str().into())).collect()
                    }
                    false => BTreeMap::new(),
                },
            }));
        }
    }
}
