//! `trust.yaml`: who may sign, and what must be signed.
//!
//! ```text
//! signed: commits               # every commit (the default); `tip`: the newest, and changes of this file;
//!                               # `tag`: the newest bears a signed tag, and changes of this file are signed
//! tags: "v*"                    # with `signed: tag`: which
//! allowedSigners: |             # as ssh-keygen(1) and Git have it
//!   ada@example.org ssh-ed25519 AAAA…
//! openpgp:                      # as `gpg --armor --export` writes them
//! - {name: bob@example.org, key: "-----BEGIN PGP PUBLIC KEY BLOCK-----…"}
//! authorize: roles              # see `authorize`; without it whoever may sign may change all
//! revoked: ["SHA256:…"]         # or an OpenPGP fingerprint
//! groups: {admins: [ada@example.org]}
//! images: {allowed: [docker.io/library], digest: required}   # see `admission`
//! ```

use std::collections::{BTreeMap, BTreeSet};

use super::super::admission::{ImagePolicy, read_images};
use super::super::authorize::Who;
use super::super::near::nearest;
use super::super::path::Path;
use super::super::report::Report;
use super::super::tree::{At, Described, Node, Value, quoted};
use super::super::yaml::{self, Document, ProblemKind};
use super::openpgp::{self, Cert, Standing};
use super::seal::Seal;
use super::signers::Line;
use super::sshsig::{NAMESPACE, Signature};
use super::{Distrust, Signer, TRUST_FILE};
use crate::kinds::finding::{Finding, Severity};
use crate::kinds::time::Wall;

/// What `trust.yaml` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// What must be signed.
    pub extent: Extent,
    /// The pattern of tags that count, with [`Extent::Tag`]; any where it is absent.
    tags: Option<String>,
    /// Whether roles and bindings say who may change what; then every commit must be signed.
    pub authorize: bool,
    lines: Vec<Line>,
    certs: Vec<Holder>,
    revoked: BTreeSet<String>,
    groups: BTreeMap<String, BTreeSet<String>>,
    pub(in crate::desired) images: ImagePolicy,
}

/// Somebody with an OpenPGP key.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Holder {
    name: String,
    cert: Cert,
}

/// What must be signed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// Every commit.
    #[default]
    Commits,
    /// The newest commit, and those that change `trust.yaml`.
    Tip,
    /// A tag on the newest commit, and commits that change `trust.yaml`.
    Tag,
}

impl Policy {
    /// Reads the file's content; all that is wrong with it if it can't be used.
    pub fn of(bytes: &[u8]) -> Result<Self, Vec<Finding>> {
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

    /// Whose seal it is, of this message, and whether that one may set it at that time.
    pub(super) fn check(&self, seal: &Seal, message: &[u8], at: Wall) -> Result<Signer, Distrust> {
        match seal {
            Seal::Ssh(signature) => {
                let signer = self.admit(signature, at)?;
                let is_good = signature.is_of(message);
                is_good.then_some(()).ok_or_else(|| Distrust::Invalid(signer.key.clone()))?;
                Ok(signer)
            }
            Seal::OpenPgp(signature) => self.check_openpgp(signature, message, at),
        }
    }

    fn check_openpgp(
        &self,
        signature: &openpgp::Signature,
        message: &[u8],
        at: Wall,
    ) -> Result<Signer, Distrust> {
        let key = signature.fingerprint().to_owned();
        // Of one key that is there twice, the entry by which it may counts, as with lines.
        let mut why = match self.revoked.contains(&key) {
            true => return Err(Distrust::Revoked(key)),
            false => Distrust::Unknown(key.clone()),
        };
        for Holder { name, cert } in &self.certs {
            let members = cert.members().iter();
            for member in members.filter(|member| member.fingerprint() == key) {
                let allowed = match self.revoked.contains(cert.fingerprint()) {
                    true => Err(Distrust::Revoked(key.clone())),
                    false => allow_openpgp(name, member, signature, at),
                };
                match allowed {
                    Ok(()) if member.signed(signature, message) => {
                        return Ok(self.signer(std::slice::from_ref(name), key));
                    }
                    Ok(()) => why = Distrust::Invalid(key.clone()),
                    Err(complaint) => why = complaint,
                }
            }
        }
        Err(why)
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
                Ok(()) => return Ok(self.signer(&line.names, key)),
                Err(complaint) => why = complaint,
            }
        }
        Err(why)
    }

    /// The pattern of tags that count.
    pub(super) fn tags(&self) -> &str {
        self.tags.as_deref().unwrap_or("*")
    }

    /// Somebody of whom it has a key, by name.
    pub fn who(&self, name: &str) -> Option<Who> {
        let line = self.lines.iter().find(|line| line.names.iter().any(|own| own == name));
        if let Some(line) = line {
            return Some(Who::from(&self.signer(&line.names, String::new())));
        }
        let holder = self.certs.iter().find(|holder| holder.name == name)?;
        Some(Who::from(&self.signer(std::slice::from_ref(&holder.name), String::new())))
    }

    /// Everybody who can sign, at one time or another.
    pub(super) fn everybody(&self) -> impl Iterator<Item = Who> {
        let lines = self
            .lines
            .iter()
            .filter(|line| line.is_for_git() && !self.revoked.contains(&line.key.fingerprint()));
        let holders = self.certs.iter().filter(|holder| self.can_sign(&holder.cert));
        let names = lines.map(|line| line.names.as_slice());
        let names = names.chain(holders.map(|holder| std::slice::from_ref(&holder.name)));
        names.map(|names| Who::from(&self.signer(names, String::new())))
    }

    fn can_sign(&self, cert: &Cert) -> bool {
        let signs = |member: &openpgp::Member| {
            *member.standing() == Standing::Signs && !self.revoked.contains(member.fingerprint())
        };
        !self.revoked.contains(cert.fingerprint()) && cert.members().iter().any(signs)
    }

    fn signer(&self, names: &[String], key: String) -> Signer {
        let has_one = |members: &BTreeSet<String>| names.iter().any(|n| members.contains(n));
        let groups = self.groups.iter().filter(|(_, members)| has_one(members));
        Signer {
            name: names[0].as_str().into(),
            names: names.to_vec(),
            groups: groups.map(|(name, _)| name.clone()).collect(),
            key,
        }
    }
}

/// Whether a key may have made a signature at that time.
fn allow_openpgp(
    name: &str,
    member: &openpgp::Member,
    signature: &openpgp::Signature,
    at: Wall,
) -> Result<(), Distrust> {
    let (key, name) = (member.fingerprint().to_owned(), name.to_owned());
    if let Some(digest) = signature.weakness() {
        return Err(Distrust::Weak { key, name, digest });
    }
    match member.standing() {
        Standing::Signs => {}
        Standing::Revoked => return Err(Distrust::Revoked(key)),
        Standing::Unfit(why) => return Err(Distrust::Unfit { key, name, why: why.clone() }),
    }
    // What the signature says of its time counts as well: whichever is later, against a key's end.
    let made = signature.created().unwrap_or(at);
    let from = member.from();
    if made < from {
        return Err(Distrust::TooEarly { key, name, from, at: made });
    }
    let at = at.max(made);
    match [member.until(), signature.until()].into_iter().flatten().min() {
        Some(until) if at >= until => Err(Distrust::TooLate { key, name, until, at }),
        _ => Ok(()),
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
const KNOWN: [&str; 8] =
    ["allowedSigners", "authorize", "groups", "images", "openpgp", "revoked", "signed", "tags"];

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
    if policy.tags.is_some() && policy.extent != Extent::Tag && !report.has_errors() {
        let message = "counts only with signed: tag";
        error(report, At::default(), &Path::Root.field("tags"), message);
    }
    if policy.everybody().next().is_none() && !report.has_errors() {
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
            Some("tag") => policy.extent = Extent::Tag,
            _ => unfit("commits, tip or tag", &entry.node, &path, report),
        },
        "tags" => match entry.node.as_text() {
            Some(pattern) if !pattern.is_empty() => policy.tags = Some(pattern.to_owned()),
            _ => unfit("a pattern of tags' names, such as v*", &entry.node, &path, report),
        },
        "authorize" => match entry.node.as_text() {
            Some("roles") => policy.authorize = true,
            _ => unfit("roles", &entry.node, &path, report),
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
        "openpgp" => match entry.node.as_list() {
            Some(items) => {
                for (index, item) in items.iter().enumerate() {
                    read_holder(item, &path.index(index), policy, report);
                }
            }
            None => unfit("a list of names with their keys", &entry.node, &path, report),
        },
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
        match Line::read(line) {
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

/// A key that can't sign is an error if nothing in it can, and else a matter for whoever tries.
fn read_holder(item: &Node<'_>, path: &Path<'_>, policy: &mut Policy, report: &mut Report) {
    let Some(fields) = item.as_map() else {
        return unfit("a name and a key", item, path, report);
    };
    let (mut name, mut key) = (None, None);
    for field in fields {
        let path = path.field(&field.key);
        let text = field.node.as_text().filter(|text| !text.is_empty());
        match (&*field.key, text) {
            ("name", Some(text)) => name = Some(text.to_owned()),
            ("key", Some(text)) => match Cert::read(text) {
                Ok(cert) => key = Some((cert, field.at)),
                Err(complaint) => error(report, field.at, &path, complaint),
            },
            ("name", None) => unfit("a signer's name", &field.node, &path, report),
            ("key", None) => unfit("what gpg --armor --export writes", &field.node, &path, report),
            (other, _) => {
                let hint = nearest(other, ["name", "key"]);
                let hint = hint.map(|near| format!("did you mean {near:?}?"));
                report.add(Severity::Error, field.at, &path, "unknown setting", hint);
            }
        }
    }
    match (name, key) {
        (Some(name), Some((cert, at))) => {
            let print = cert.fingerprint();
            let members = cert.members();
            let has = |standing| members.iter().any(|member| *member.standing() == standing);
            if has(Standing::Signs) {
            } else if has(Standing::Revoked) {
                let message = format!("the key {print} of {name} is revoked: it signs nothing");
                report.add(Severity::Warning, at, &path.field("key"), message, None);
            } else {
                let message = format!("the key {print} has no part that is for signing");
                error(report, at, &path.field("key"), message);
            }
            policy.certs.push(Holder { name, cert });
        }
        _ if report.has_errors() => {}
        _ => error(report, item.at, path, "needs both name and key"),
    }
}

fn read_revoked(item: &Node<'_>, path: &Path<'_>, policy: &mut Policy, report: &mut Report) {
    /// `SHA256:` and 32 bytes in base64.
    const LENGTH: usize = 50;
    match item.as_text() {
        Some(text) if text.starts_with("SHA256:") && text.len() == LENGTH => {
            policy.revoked.insert(text.to_owned());
        }
        Some(text) => match openpgp::parse_fingerprint(text) {
            Some(print) => {
                policy.revoked.insert(print);
            }
            None => {
                let message = format!(
                    "{} is no fingerprint: SHA256:…, as ssh-keygen -l prints it, or the 40 digits of gpg's",
                    quoted(text)
                );
                error(report, item.at, path, message);
            }
        },
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
    let lines = policy.lines.iter().flat_map(|line| &line.names);
    let names = lines.chain(policy.certs.iter().map(|holder| &holder.name));
    let known: BTreeSet<&str> = names.map(String::as_str).collect();
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
