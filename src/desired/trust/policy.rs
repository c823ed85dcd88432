//! `trust.yaml`: who may sign, and what must be signed.
//!
//! ```text
//! signed: commits               # every commit (the default), or `tip`: the newest, and changes of this file
//! allowedSigners: |             # as ssh-keygen(1) and Git have it
//!   ada@example.org ssh-ed25519 AAAA…
//! revoked: ["SHA256:…"]
//! groups: {admins: [ada@example.org]}
//! images: {allowed: [docker.io/library], digest: required}   # see `admission`
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::super::admission::{ImagePolicy, read_images};
use super::super::near::nearest;
use super::super::path::Path;
use super::super::report::Report;
use super::super::tree::{At, Described, Node, Value, quoted};
use super::super::yaml::{self, Document, ProblemKind};
use super::signers::{self, Line};
use super::sshsig::{NAMESPACE, Signature};
use super::{Distrust, Signer, TRUST_FILE};
use crate::kinds::finding::{Finding, Severity};
use crate::kinds::time::Wall;

/// What `trust.yaml` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// What must be signed.
    pub extent: Extent,
    lines: Vec<Line>,
    revoked: BTreeSet<String>,
    groups: BTreeMap<String, BTreeSet<String>>,
    pub(in crate::desired) images: ImagePolicy,
}

/// What must be signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// Every commit.
    #[default]
    Commits,
    /// The newest commit, and those that change `trust.yaml`.
    Tip,
}

impl Policy {
    /// Reads the file's content; all that is wrong with it if it can't be used.
    pub(super) fn of(bytes: &[u8]) -> Result<Self, Vec<Finding>> {
        let file = TRUST_FILE.into();
        let mut report = Report::new(&file);
        let policy = match std::str::from_utf8(bytes) {
            Ok(text) => read(text, &mut report),
            Err(_) => {
                error(&mut report, At::default(), &Path::Root, "this file is not UTF-8");
                Self::default()
            }
        };
        let has_errors = report.has_errors();
        if has_errors { Err(report.finish()) } else { Ok(policy) }
    }

    /// Whether it lets the key of a signature, made at that time, sign commits, and who that is. The
    /// signature itself is not looked at.
    pub(super) fn admit(&self, signature: &Signature, at: Wall) -> Result<Signer, Distrust> {
        let key = signature.key.fingerprint();
        if signature.namespace != NAMESPACE {
            return Err(Distrust::Namespace(signature.namespace.clone()));
        }
        if self.revoked.contains(&key) {
            return Err(Distrust::Revoked(key));
        }
        let mut why = Distrust::Unknown(key.clone());
        for line in self.lines.iter().filter(|line| line.key == signature.key) {
            match allow(line, &key, at) {
                Ok(()) => return Ok(self.signer(line, key)),
                Err(complaint) => why = complaint,
            }
        }
        Err(why)
    }

    fn signer(&self, line: &Line, key: String) -> Signer {
        let has_one = |members: &BTreeSet<String>| line.names.iter().any(|n| members.contains(n));
        let groups = self.groups.iter().filter(|(_, members)| has_one(members));
        Signer {
            name: line.names[0].as_str().into(),
            names: line.names.clone(),
            groups: groups.map(|(name, _)| name.clone()).collect(),
            key,
        }
    }
}

fn allow(line: &Line, key: &str, at: Wall) -> Result<(), Distrust> {
    let (key, name) = (key.to_owned(), line.names[0].clone());
    if !line.is_for_git() {
        return Err(Distrust::OtherUse { key, name });
    }
    if let Some(from) = line.after.filter(|from| at < *from) {
        return Err(Distrust::TooEarly { key, name, from, at });
    }
    if let Some(until) = line.before.filter(|until| at > *until) {
        return Err(Distrust::TooLate { key, name, until, at });
    }
    Ok(())
}

/// Settings there are.
const KNOWN: [&str; 5] = ["allowedSigners", "groups", "images", "revoked", "signed"];

fn error(report: &mut Report, at: At, path: &Path<'_>, message: impl Into<String>) {
    report.add(Severity::Error, at, path, message, None);
}

fn unfit(expected: &str, node: &Node<'_>, path: &Path<'_>, report: &mut Report) {
    let found = Described(&node.value, false).to_string();
    error(report, node.at, path, format!("expected {expected}, found {found}"));
}

/// Reads the file's text. A policy by which nobody could sign is an error: it could never be changed
/// again.
pub(in crate::desired) fn read(text: &str, report: &mut Report) -> Policy {
    let mut policy = Policy::default();
    let mut documents = 0;
    for Document { root, problems } in yaml::read(text) {
        for problem in problems {
            let severity = match problem.kind {
                ProblemKind::Warning => Severity::Warning,
                ProblemKind::Fatal | ProblemKind::Error => Severity::Error,
            };
            report.add(severity, problem.at, &Path::Root, problem.message, problem.hint);
        }
        let Some(root) = root.filter(|root| root.value != Value::Null) else { continue };
        documents += 1;
        match root.as_map() {
            _ if documents > 1 => error(report, root.at, &Path::Root, "can have one document only"),
            None => unfit("a map", &root, &Path::Root, report),
            Some(entries) => {
                for entry in entries {
                    read_field(entry, &mut policy, report);
                }
            }
        }
    }
    let is_good =
        |line: &&Line| line.is_for_git() && !policy.revoked.contains(&line.key.fingerprint());
    if policy.lines.iter().filter(is_good).count() == 0 && !report.has_errors() {
        let message = "names no key that could sign a commit: nothing could ever change again";
        error(report, At::default(), &Path::Root.field("allowedSigners"), message);
    }
    tell_of_strangers(&policy, report);
    policy
}

fn read_field(entry: &super::super::tree::Entry<'_>, policy: &mut Policy, report: &mut Report) {
    let path = Path::Root.field(&entry.key);
    match &*entry.key {
        "signed" => match entry.node.as_text() {
            Some("commits") => policy.extent = Extent::Commits,
            Some("tip") => policy.extent = Extent::Tip,
            Some("tag") => {
                let message = "signed tags are not built yet: write commits or tip";
                error(report, entry.node.at, &path, message);
            }
            _ => unfit("commits or tip", &entry.node, &path, report),
        },
        "allowedSigners" => match entry.node.as_text() {
            Some(text) => read_lines(text, entry.at, &path, policy, report),
            None => unfit("the lines of an allowed_signers file", &entry.node, &path, report),
        },
        "revoked" => match entry.node.as_list() {
            Some(items) => {
                for (index, item) in items.iter().enumerate() {
                    read_revoked(item, &path.index(index), policy, report);
                }
            }
            None => unfit("a list of fingerprints", &entry.node, &path, report),
        },
        "groups" => match entry.node.as_map() {
            Some(groups) => {
                for group in groups {
                    let members = names(&group.node, &path.key(&group.key), report);
                    policy.groups.insert(group.key.to_string(), members);
                }
            }
            None => unfit("a map from groups to signers", &entry.node, &path, report),
        },
        "images" => policy.images = read_images(&entry.node, &path, report),
        "openpgp" => {
            let message = "OpenPGP keys are not built yet";
            let hint = "sign with SSH keys: git config gpg.format ssh".to_owned();
            report.add(Severity::Error, entry.at, &path, message, Some(hint));
        }
        key => {
            let hint = nearest(key, KNOWN).map(|near| format!("did you mean {near:?}?"));
            let hint = hint.or_else(|| {
                let is_manifest = ["apiVersion", "kind"].contains(&key);
                is_manifest.then(|| {
                    format!(
                        "{TRUST_FILE} at the root says who may sign; give the manifest another name"
                    )
                })
            });
            report.add(Severity::Error, entry.at, &path, "unknown setting", hint);
        }
    }
}

fn read_lines(text: &str, at: At, path: &Path<'_>, policy: &mut Policy, report: &mut Report) {
    for (number, line) in text.lines().enumerate() {
        match signers::read(line) {
            Ok(None) => {}
            Ok(Some(line)) => {
                if !line.is_for_git() {
                    let message =
                        format!("the key of {} is for no commits (namespaces)", line.names[0]);
                    report.add(Severity::Warning, at, path, message, None);
                }
                policy.lines.push(line);
            }
            Err(complaint) => error(report, at, path, format!("line {}: {complaint}", number + 1)),
        }
    }
}

fn read_revoked(item: &Node<'_>, path: &Path<'_>, policy: &mut Policy, report: &mut Report) {
    /// `SHA256:` and 32 bytes in base64.
    const LENGTH: usize = 50;
    match item.as_text() {
        Some(text) if text.starts_with("SHA256:") && text.len() == LENGTH => {
            policy.revoked.insert(text.to_owned());
        }
        Some(text) => {
            let message =
                format!("{} is no fingerprint: SHA256:…, as ssh-keygen -l prints it", quoted(text));
            error(report, item.at, path, message);
        }
        None => unfit("a fingerprint", item, path, report),
    }
}

fn names(node: &Node<'_>, path: &Path<'_>, report: &mut Report) -> BTreeSet<String> {
    let Some(items) = node.as_list() else {
        unfit("a list of signers", node, path, report);
        return BTreeSet::new();
    };
    let mut names = BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        match item.as_text() {
            Some(name) => {
                names.insert(name.to_owned());
            }
            None => unfit("a signer's name", item, &path.index(index), report),
        }
    }
    names
}

/// A group with a name that no signer has grants nothing, and somebody believes it does.
fn tell_of_strangers(policy: &Policy, report: &mut Report) {
    let known: BTreeSet<&str> =
        policy.lines.iter().flat_map(|line| &line.names).map(String::as_str).collect();
    let groups = Path::Root.field("groups");
    for (group, members) in &policy.groups {
        for name in members.iter().filter(|name| !known.contains(name.as_str())) {
            let message = format!("no signer has the name {}", quoted(name));
            let hint = nearest(name, known.iter().copied());
            let hint = hint.map(|near| format!("did you mean {near:?}?"));
            report.add(Severity::Warning, At::default(), &groups.key(group), message, hint);
        }
    }
}
