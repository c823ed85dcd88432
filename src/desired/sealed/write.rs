//! Files are encrypted and decrypted in their own text: what is not a value stays as it was written,
//! comments and order included, and a commit of them shows what changed and nothing else.
//!
//! SOPS itself writes files anew. What both can read is the same; whether ours can be is checked by
//! opening it before anybody is given it.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::json;
use zeroize::Zeroizing;

use super::super::spans::{self, Form, Spot};
use super::super::tree::{Node, Value};
use super::cipher::{self, DATA_KEY_BYTES, is_sealed};
use super::file::{self, Leaf, Mac, VALUES, documents, said};
use super::metadata::{CreationRule, Metadata, Rule, entry};
use super::{Chance, ENTRY, Unsealed, age};
use crate::kinds::age::{Keyring, Recipient};

/// The version of SOPS whose form is written.
const VERSION: &str = "3.9.0";
/// Which values are encrypted where nobody says so.
const VALUES_OF_SECRETS: &str = "^(data|stringData)$";

/// What is needed to write, beside the text.
pub struct Means<'a> {
    /// Fills with what nobody can guess.
    pub chance: &'a mut Chance<'a>,
    /// Now, as `2026-11-21T20:15:00Z`.
    pub now: String,
}

/// How a file is to be encrypted.
#[derive(Clone, Debug)]
pub struct Manner {
    recipients: Vec<Recipient>,
    rule: Rule,
    is_mac_of_encrypted: bool,
}

impl Manner {
    /// As `.sops.yaml` says; for these, if any are named.
    pub fn of(rule: &CreationRule, recipients: &[String]) -> Result<Self, Unsealed> {
        let all = if recipients.is_empty() { &rule.recipients } else { recipients };
        let manner = Self::for_all(all)?;
        let is_mac_of_encrypted = rule.is_mac_of_encrypted;
        let rule = rule.rule.clone().map_or(manner.rule, |rule| rule);
        Ok(Self { rule, is_mac_of_encrypted, ..manner })
    }

    /// The values of Secrets, for these recipients.
    pub fn for_all(recipients: &[String]) -> Result<Self, Unsealed> {
        let parse = |text: &String| {
            text.parse::<Recipient>().map_err(|why| Unsealed::unfit(format!("{text} {why}")))
        };
        let recipients = recipients.iter().map(parse).collect::<Result<Vec<_>, _>>()?;
        if recipients.is_empty() {
            return Err(Unsealed::unfit("there is nobody to encrypt for"));
        }
        let regex = regex::Regex::new(VALUES_OF_SECRETS);
        let rule =
            regex.map(Rule::EncryptedRegex).map_err(|why| Unsealed::unfit(why.to_string()))?;
        Ok(Self { recipients, rule, is_mac_of_encrypted: false })
    }

    /// As a file is that is encrypted already; for these, if any are named.
    pub fn of_file(path: &str, text: &str, recipients: &[String]) -> Result<Self, Unsealed> {
        let metadata = file::sealed_by(&documents(path, text)?)?;
        let mut names = recipients.to_vec();
        if names.is_empty() {
            names.extend(metadata.keys.into_iter().map(|(name, _)| name));
        }
        let is_mac_of_encrypted = metadata.is_mac_of_encrypted;
        Ok(Self { rule: metadata.rule, is_mac_of_encrypted, ..Self::for_all(&names)? })
    }
}

/// Encrypts a file under a key of its own.
pub fn encrypt(
    path: &str,
    text: &str,
    manner: &Manner,
    means: &mut Means<'_>,
) -> Result<String, Unsealed> {
    let mut key = Zeroizing::new([0; DATA_KEY_BYTES]);
    (means.chance)(&mut *key);
    let mut keys = Vec::new();
    for recipient in &manner.recipients {
        let locked = age::seal(&*key, &[*recipient], means.chance)
            .map_err(|_| Unsealed::unfit(format!("{recipient} is no key of X25519")))?;
        keys.push((recipient.to_string(), locked));
    }
    let metadata = Metadata {
        keys,
        rule: manner.rule.clone(),
        is_mac_of_encrypted: manner.is_mac_of_encrypted,
        mac: String::new(),
        modified: means.now.clone(),
    };
    seal(path, text, metadata, &*key, &Kept::new(), means)
}

/// Encrypts what was changed in a file that is encrypted: what was not stays as it is.
pub fn reencrypt(
    path: &str,
    before: &str,
    plain: &str,
    keyring: &Keyring,
    means: &mut Means<'_>,
) -> Result<String, Unsealed> {
    let roots = documents(path, before)?;
    let metadata = file::sealed_by(&roots)?;
    let key = file::data_key(&metadata, keyring)?;
    let opened = file::open_with(&roots, &metadata, &key)?;
    let mut kept = Kept::new();
    let mut opened = opened.into_iter();
    for root in &roots {
        file::each_leaf(root, &mut |path, node| {
            if let (Some(leaf), Value::Text(text)) = (opened.next(), &node.value)
                && metadata.rule.encrypts(path)
            {
                kept.insert((said(path), leaf.bytes.to_vec()), text.to_string());
            }
            Ok(())
        })?;
    }
    let metadata = Metadata { modified: means.now.clone(), ..metadata };
    seal(path, plain, metadata, &key, &kept, means)
}

/// The text of a file with its values in the clear.
pub fn decrypt(path: &str, text: &str, keyring: &Keyring) -> Result<Zeroizing<String>, Unsealed> {
    let roots = documents(path, text)?;
    let opened = file::open(&roots, keyring)?;
    let spots = spots(text, roots.len())?;
    let mut edits = Edits::default();
    let mut leaves = opened.iter();
    for (root, spot) in roots.iter().zip(&spots) {
        for place in places(text, root, spot)? {
            let Some(leaf) = leaves.next() else { break };
            let is_locked = matches!(&place.node.value, Value::Text(text) if is_sealed(text));
            if is_locked && place.path == leaf.path {
                let plain = std::str::from_utf8(&leaf.bytes).map_err(|_| {
                    Unsealed::unfit(format!("{} is not text", place.path.join(".")))
                })?;
                edits.put(&place, text, written(plain, &place));
            }
        }
        if let Some((from, to)) = extent_of_entry(text, spot) {
            edits.0.push((from, to, String::new()));
        }
    }
    let plain = Zeroizing::new(edits.apply(text));
    let again = documents(path, &plain)?;
    same(&leaves_of(&again)?, &opened)?;
    Ok(plain)
}

/// Values that stay as they are, by path and content.
type Kept = BTreeMap<(String, Vec<u8>), String>;

fn seal(
    path: &str,
    text: &str,
    mut metadata: Metadata,
    key: &[u8],
    kept: &Kept,
    means: &mut Means<'_>,
) -> Result<String, Unsealed> {
    let roots = documents(path, text)?;
    if roots.iter().any(|root| entry(root).is_some()) {
        return Err(Unsealed::unfit("is encrypted already"));
    }
    let spots = spots(text, roots.len())?;
    let mut mac = Mac::new(metadata.is_mac_of_encrypted);
    let mut edits = Edits::default();
    let mut count = 0;
    for (root, spot) in roots.iter().zip(&spots) {
        let is_secret = root.get_text("kind") == Some("Secret");
        for place in places(text, root, spot)? {
            let is_meant = metadata.rule.encrypts(&place.path);
            let (bytes, is_text) = file::plain(&place.node.value);
            mac.take(&bytes, is_meant);
            if !is_meant {
                continue;
            }
            let name = place.path.join(".");
            let line = place.node.at.line;
            if !(is_secret && place.path.first().is_some_and(|first| VALUES.contains(first))) {
                let message = format!(
                    "line {line}: {name} would be encrypted, and nodes could not read the object: only data and \
                     stringData of Secrets can be (encrypted_regex: {VALUES_OF_SECRETS})"
                );
                return Err(Unsealed::unfit(message));
            }
            if !is_text || !matches!(place.node.value, Value::Text(_)) {
                let message = format!("line {line}: {name} must be text: put it in quotes");
                return Err(Unsealed::unfit(message));
            }
            no_comment_beside(text, spot, &place)?;
            let path = said(&place.path);
            let sealed = match kept.get(&(path.clone(), bytes.to_vec())) {
                Some(sealed) => sealed.clone(),
                None => cipher::seal(&bytes, key, &path, means.chance)?,
            };
            count += 1;
            if !sealed.is_empty() {
                let sealed = if place.is_flow { json!(sealed).to_string() } else { sealed };
                edits.put(&place, text, sealed);
            }
        }
    }
    if count == 0 {
        return Err(Unsealed::unfit("holds no value of a Secret to encrypt"));
    }
    metadata.mac = cipher::seal(mac.finish().as_bytes(), key, &metadata.modified, means.chance)?;
    for spot in &spots {
        edits.0.push(entry_after(text, spot, &metadata));
    }
    let sealed = edits.apply(text);
    let again = documents(path, &sealed)?;
    let read = again.first().and_then(entry).map(|said| Metadata::read(&said.node));
    let read = read.unwrap_or_else(|| Err(Unsealed::unfit("can't be encrypted in place")))?;
    same(&file::open_with(&again, &read, key)?, &leaves_of(&roots)?)?;
    Ok(sealed)
}

/// The values of documents in the clear.
fn leaves_of(documents: &[Node<'_>]) -> Result<Vec<Leaf>, Unsealed> {
    let mut leaves = Vec::new();
    for root in documents {
        file::each_leaf(root, &mut |path, node| {
            leaves.push(Leaf::new(root, path, file::plain(&node.value)));
            Ok(())
        })?;
    }
    Ok(leaves)
}

/// Whether what was written says what was meant.
fn same(one: &[Leaf], other: &[Leaf]) -> Result<(), Unsealed> {
    let is_same = one.len() == other.len()
        && one
            .iter()
            .zip(other)
            .all(|(one, other)| one.path == other.path && one.bytes == other.bytes);
    let message = "can't be written in place: it has tags, anchors or values of an unusual form";
    if is_same { Ok(()) } else { Err(Unsealed::unfit(message)) }
}

/// The places of documents that hold something.
fn spots(text: &str, documents: usize) -> Result<Vec<Spot<'_>>, Unsealed> {
    let mut spots = spans::read(text).unwrap_or_default();
    spots.retain(|spot| matches!(spot.form, Form::Map(_)));
    if spots.len() == documents {
        return Ok(spots);
    }
    Err(Unsealed::unfit("can't be edited in place: write it in the usual form"))
}

/// A value and where it stands.
struct Place<'n, 't> {
    path: Vec<&'n str>,
    node: &'n Node<'t>,
    spot: &'n Spot<'t>,
    /// It stands in brackets, as all do in JSON.
    is_flow: bool,
    /// How far its key is indented.
    column: usize,
    /// Where it begins; a block with its mark.
    from: usize,
}

fn places<'n, 't>(
    text: &str,
    root: &'n Node<'t>,
    spot: &'n Spot<'t>,
) -> Result<Vec<Place<'n, 't>>, Unsealed> {
    let mut places = Vec::new();
    let from = spot.from;
    let start = Place { path: Vec::new(), node: root, spot, is_flow: false, column: 0, from };
    gather(text, start, &mut places)?;
    Ok(places)
}

fn gather<'n, 't>(
    text: &str,
    at: Place<'n, 't>,
    places: &mut Vec<Place<'n, 't>>,
) -> Result<(), Unsealed> {
    let Place { path, node, spot, is_flow, column, from } = at;
    let is_flow = is_flow || text[spot.from..].starts_with(['{', '[']);
    let unusual = || {
        let message = "aliases, merge keys and keys of an unusual form can't be edited";
        Unsealed::unfit(format!("line {}: {message}", node.at.line))
    };
    match (&node.value, &spot.form) {
        (_, Form::Alias) => Err(unusual()),
        (Value::Map(entries), Form::Map(pairs)) => {
            if entries.len() != pairs.len() {
                return Err(unusual());
            }
            for entry in entries {
                if path.is_empty() && entry.key == ENTRY {
                    continue;
                }
                let pair = spot.pair(&entry.key).ok_or_else(unusual)?;
                let line = text[..pair.key.from].rfind('\n').map_or(0, |at| at + 1);
                let path = [path.as_slice(), &[&*entry.key]].concat();
                let column = pair.key.from - line;
                let (node, spot) = (&entry.node, &pair.value);
                let from = start_of(text, pair.key.to, spot);
                gather(text, Place { path, node, spot, is_flow, column, from }, places)?;
            }
            Ok(())
        }
        (Value::List(items), Form::List(spots)) if items.len() == spots.len() => {
            for (node, spot) in items.iter().zip(spots) {
                let (path, from) = (path.clone(), spot.from);
                gather(text, Place { path, node, spot, is_flow, column, from }, places)?;
            }
            Ok(())
        }
        (Value::Null, _) => Ok(()),
        (Value::Map(_) | Value::List(_), _) => Err(unusual()),
        _ => {
            places.push(Place { path, node, spot, is_flow, column, from });
            Ok(())
        }
    }
}

/// Refuses comments among values: they would stay readable, and are often an old value.
fn no_comment_beside(text: &str, root: &Spot<'_>, place: &Place<'_, '_>) -> Result<(), Unsealed> {
    let Some(map) = place.path.first().and_then(|first| root.get(first)) else { return Ok(()) };
    let end = end_of(text, map);
    let end_of_line = text[end..].find('\n').map_or(text.len(), |at| end + at);
    let mut scalars = Vec::new();
    scalars_of(text, map, &mut scalars);
    let mut at = map.from;
    for (from, to) in scalars.into_iter().chain([(end_of_line, end_of_line)]) {
        // Comments that SOPS has encrypted stay so.
        let gap = text.get(at..from).unwrap_or_default();
        let comments = gap.match_indices('#').filter(|(at, _)| !gap[*at..].starts_with("#ENC["));
        if let Some((found, _)) = comments.into_iter().next() {
            let line = text[..at + found].matches('\n').count() + 1;
            let message = "a comment among the values would stay readable: take it away, or put it further up";
            return Err(Unsealed::unfit(format!("line {line}: {message}")));
        }
        at = to.max(at);
    }
    Ok(())
}

fn scalars_of(text: &str, spot: &Spot<'_>, out: &mut Vec<(usize, usize)>) {
    match &spot.form {
        Form::Text(_) | Form::Alias => out.push((spot.from, end_of(text, spot))),
        Form::List(items) => items.iter().for_each(|item| scalars_of(text, item, out)),
        Form::Map(pairs) => {
            for pair in pairs {
                scalars_of(text, &pair.key, out);
                scalars_of(text, &pair.value, out);
            }
        }
    }
}

/// A text in the clear as it is written at a place.
fn written(plain: &str, place: &Place<'_, '_>) -> String {
    let is_block = plain.contains('\n')
        && !place.is_flow
        && !plain.starts_with([' ', '\n'])
        && plain.chars().all(|c| c == '\n' || !c.is_control())
        && !plain.ends_with("\n\n");
    if !is_block {
        // A string of JSON is one of YAML.
        return json!(plain).to_string();
    }
    let indent = " ".repeat(place.column + 2);
    let mut out = if plain.ends_with('\n') { "|".to_owned() } else { "|-".to_owned() };
    for line in plain.lines() {
        let _ = write!(out, "\n{}{line}", if line.is_empty() { "" } else { &indent });
    }
    out
}

/// Where the `sops` entry of a document stands, with what parts it from others.
fn extent_of_entry(text: &str, root: &Spot<'_>) -> Option<(usize, usize)> {
    let Form::Map(pairs) = &root.form else { return None };
    let index = pairs.iter().position(|pair| pair.key.text() == Some(ENTRY))?;
    let pair = &pairs[index];
    if !text[root.from..].starts_with('{') {
        let from = text[..pair.key.from].rfind('\n').map_or(0, |at| at + 1);
        let to = line_end(text, end_of(text, &pair.value));
        return Some((from, to));
    }
    Some(match index.checked_sub(1).map(|before| &pairs[before]) {
        Some(before) => (before.value.to, pair.value.to),
        None => (pair.key.from, pairs.get(1).map_or(pair.value.to, |next| next.key.from)),
    })
}

/// The first byte of the next line.
fn line_end(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |found| at + found + 1)
}

/// The `sops` entry as an edit at the end of a document.
fn entry_after(text: &str, root: &Spot<'_>, metadata: &Metadata) -> (usize, usize, String) {
    let (name, rule) = metadata.rule.written();
    let Form::Map(pairs) = &root.form else { return (root.to, root.to, String::new()) };
    if text[root.from..].starts_with('{') {
        let keys =
            metadata.keys.iter().map(|(name, locked)| json!({"recipient": name, "enc": locked}));
        let mut said = json!({
            "age": keys.collect::<Vec<_>>(),
            "lastmodified": metadata.modified,
            "mac": metadata.mac,
            (name): rule,
            "version": VERSION,
        });
        if metadata.is_mac_of_encrypted {
            said["mac_only_encrypted"] = json!(true);
        }
        let at = pairs.last().map_or(root.from + 1, |pair| pair.value.to);
        let comma = if pairs.is_empty() { "" } else { "," };
        return (at, at, format!("{comma}\n\"{ENTRY}\": {said}"));
    }
    let at = line_end(text, end_of(text, root));
    let line = text[..root.from].rfind('\n').map_or(0, |at| at + 1);
    let indent = " ".repeat(root.from - line);
    let mut lines = vec![format!("{ENTRY}:"), "  age:".to_owned()];
    for (name, locked) in &metadata.keys {
        lines.push(format!("    - recipient: {name}"));
        lines.push("      enc: |".to_owned());
        lines.extend(locked.lines().map(|line| format!("        {line}")));
    }
    lines.push(format!("  lastmodified: \"{}\"", metadata.modified));
    lines.push(format!("  mac: {}", metadata.mac));
    lines.push(format!("  {name}: {}", json!(rule)));
    if metadata.is_mac_of_encrypted {
        lines.push("  mac_only_encrypted: true".to_owned());
    }
    lines.push(format!("  version: {VERSION}"));
    let mut said = if text[..at].ends_with('\n') { String::new() } else { "\n".to_owned() };
    for line in lines {
        let _ = writeln!(said, "{indent}{line}");
    }
    (at, at, said)
}

/// Where the value of a key begins: the parser says of a block where its first line does, not its mark.
fn start_of(text: &str, key_end: usize, value: &Spot<'_>) -> usize {
    let gap = text.get(key_end..value.from).unwrap_or_default();
    let first_line =
        gap.split_once('\n').map(|(line, _)| line.split('#').next().unwrap_or_default());
    let mark = first_line.and_then(|line| line.find(['|', '>']));
    mark.map_or(value.from, |at| key_end + at)
}

/// Where a value ends: the parser tells the end of a block only where the next thing begins. What is white
/// space elsewhere (U+2000) may be a text's own end.
fn end_of(text: &str, spot: &Spot<'_>) -> usize {
    spot.from + text[spot.from..spot.to].trim_end_matches([' ', '\t', '\r', '\n']).len()
}

/// Changes to a text, each between two bytes of it.
#[derive(Default)]
struct Edits(Vec<(usize, usize, String)>);

impl Edits {
    /// Puts `new` in the place of a scalar.
    fn put(&mut self, place: &Place<'_, '_>, text: &str, new: String) {
        self.0.push((place.from, end_of(text, place.spot), new));
    }

    fn apply(mut self, text: &str) -> String {
        self.0.sort_by_key(|(from, to, _)| (*from, *to));
        let mut out = String::with_capacity(text.len() * 2);
        let mut at = 0;
        for (from, to, new) in &self.0 {
            if *from >= at {
                out.push_str(&text[at..*from]);
                out.push_str(new);
                at = *to;
            }
        }
        out + &text[at..]
    }
}
