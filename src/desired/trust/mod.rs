//! Who may change the desired repository, and whether a commit is theirs.
//!
//! A ship's articles with the crew's seals beneath: an order counts if it bears the seal of somebody
//! whom the articles name, and the articles themselves are changed by the same rule. The articles are
//! `trust.yaml` at the root of the repository; a seal is the signature in a commit.
//!
//! ```text
//!   pin (agent.yaml) ─▶ the oldest commit whose trust.yaml is just that: the root
//!                         │  every later commit is judged by the trust.yaml of each of its parents
//!                         ▼
//!                       the commit in question: signed by somebody whom they name?
//! ```
//!
//! The rule: [`vouch`] is a function of the pin and the commits alone. It asks no clock and no
//! network, and what it says of a commit does not depend on which commits a node saw before: so a
//! node that was off for a month, while keys were changed twice, says what all others say. Nothing of
//! a commit's tree but `trust.yaml` is looked at until it has spoken.
//!
//! A commit is good if
//! - it and each of its parents comes after the root and has a `trust.yaml`;
//! - where it must be signed, its signature is good by the `trust.yaml` of **every** parent: with one
//!   parent's alone, a key that was revoked could be used beside the revocation and merged with it.
//!   The commit in question must be signed, so must one that changes `trust.yaml`, and with
//!   `signed: commits` so must all between it and the root. With `signed: tag` the commit in question
//!   must bear a signed tag instead, by whatever ref that is found: the name and the commit are in what was
//!   signed. So a tag that was moved is on the commit that it was made for, and on no other;
//! - a merge of parents that differ keeps the `trust.yaml` of one of them, and what it brings in from
//!   the others is good by that one as well.
//!
//! Whether a signature came in time (`valid-before`) is judged by the date in the commit, or in its
//! parent if that is later, never by a node's clock: what was good once stays good, also on a machine
//! that believes it is 1970. So a key past its date can't be used by setting back the date of a commit
//! that stands on newer ones.
//!
//! With `authorize: roles` in a parent's `trust.yaml` the commit must be signed, and its signer be allowed
//! what it changes beside that parent, by the parent's Roles and bindings ([`super::authorize`]). A merge
//! is held against each of its parents: who could choose one would choose the one that lets him.
//!
//! Seals are SSH's (`sshsig`) and OpenPGP's (`openpgp`); both are checked over the bytes of the object.
//!
//! The limit: no certificate authorities. A signature covers the commit and through its tree and parents all
//! it stands on, by Git's SHA-1 (libgit2 refuses known collisions); it does not say for which branch
//! it was made.

mod arithmetic;
mod commit;
mod history;
mod openpgp;
mod policy;
mod seal;
mod signers;
mod sshsig;
mod tag;
#[cfg(test)]
mod tests;
mod wire;

/// A key that is one, for tests elsewhere.
#[cfg(test)]
pub(super) use tests::ADA as TEST_KEY;

use std::fmt;
use std::sync::Arc;

pub use history::{Refusal, Vouched, vouch};
pub(super) use policy::read as read_policy;
pub use policy::{Extent, Policy};
pub use signers::Line as SignerLine;
pub use sshsig::Signature;

use crate::kinds::digest::Digest;
use crate::kinds::finding::Finding;
use crate::kinds::time::Wall;

/// Who may change the repository, at its root.
pub const TRUST_FILE: &str = "trust.yaml";

/// Somebody who signed a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signer {
    /// The name by which `trust.yaml` has the key; the first, where it has several.
    pub name: Arc<str>,
    /// All its names.
    pub names: Vec<String>,
    /// The groups that have one of them.
    pub groups: Vec<String>,
    /// The key's fingerprint: `SHA256:…`, or OpenPGP's digits.
    pub key: String,
}

impl fmt::Display for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.key)
    }
}

/// Why a commit is not to be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Distrust {
    /// It has no signature.
    #[error("is not signed")]
    Unsigned,
    /// No tag of the kind that is asked for is on it.
    #[error("bears no tag {0} that is signed")]
    Untagged(String),
    /// A tag is on it, and does not count.
    #[error("has the tag {name}, which {why}")]
    Tag {
        /// The tag.
        name: String,
        /// What is wrong with it.
        why: Box<Self>,
    },
    /// Its object, or the signature in it, can't be read.
    #[error("can't be checked: {0}")]
    Malformed(String),
    /// The signature is of a kind that is not read.
    #[error("is signed by something that is neither an SSH nor an OpenPGP key")]
    Foreign,
    /// The signature is of a digest that can be forged.
    #[error("bears a signature by {digest}, which is too weak, with the key {key} of {name}")]
    Weak {
        /// The key.
        key: String,
        /// Whose.
        name: String,
        /// The digest.
        digest: &'static str,
    },
    /// The key is there, and can't sign.
    #[error("is signed with the key {key} of {name}, which {why}")]
    Unfit {
        /// The key.
        key: String,
        /// Whose.
        name: String,
        /// Why it can't.
        why: String,
    },
    /// The signature was made for something else than Git.
    #[error("bears a signature that was made for {0:?}, not for git")]
    Namespace(String),
    /// No line of `trust.yaml` has the key.
    #[error("is signed with the key {0}, which trust.yaml does not name")]
    Unknown(String),
    /// `trust.yaml` has revoked the key.
    #[error("is signed with the key {0}, which trust.yaml has revoked")]
    Revoked(String),
    /// `trust.yaml` has the key for other things than Git.
    #[error("is signed with the key {key} of {name}, which is not for commits (namespaces)")]
    OtherUse {
        /// The key.
        key: String,
        /// Whose.
        name: String,
    },
    /// It was made before the key was good.
    #[error("is of {at}, and the key {key} of {name} is good from {from} only")]
    TooEarly {
        /// The key.
        key: String,
        /// Whose.
        name: String,
        /// From when the key is good.
        from: Wall,
        /// When the commit was made.
        at: Wall,
    },
    /// It was made after the key was good.
    #[error("is of {at}, and the key {key} of {name} was good until {until} only")]
    TooLate {
        /// The key.
        key: String,
        /// Whose.
        name: String,
        /// Until when the key was good.
        until: Wall,
        /// When the commit was made, or the one before it.
        at: Wall,
    },
    /// The signature is not that of the commit.
    #[error("does not have what its signature was made for (key {0})")]
    Invalid(String),
    /// The repository has no `trust.yaml` with the pinned content.
    #[error("has no commit before it whose trust.yaml is the pinned one")]
    NoRoot,
    /// It has no `trust.yaml`.
    #[error("has no trust.yaml any more")]
    Dropped,
    /// Its parent has no `trust.yaml`, or has one that nobody vouches for.
    #[error("does not follow from the commit that brought the pinned trust.yaml")]
    Beside,
    /// Its `trust.yaml` can't be used.
    #[error("has a trust.yaml that can't be used: {0}")]
    BadPolicy(String),
    /// It is a merge with a `trust.yaml` that none of its parents has.
    #[error("is a merge that changes trust.yaml")]
    ChangedInMerge,
    /// It changes what its signer may not change, by the roles of its parent.
    #[error("makes {} that {signer} may not make", counted(findings.len()))]
    Oversteps {
        /// Whose commit it is.
        signer: String,
        /// What, and where.
        findings: Vec<Finding>,
    },
    /// Nobody could ever give rights again.
    #[error("leaves nobody who may change trust.yaml, by its roles and bindings")]
    LocksOut,
    /// It is a merge that can't be judged by what came; asked with the whole lineage, it can.
    #[error("can't be judged by a part of its history")]
    Short,
}

impl Distrust {
    /// What is wrong in particular.
    pub fn findings(&self) -> &[Finding] {
        match self {
            Self::Oversteps { findings, .. } => findings,
            _ => &[],
        }
    }

    /// Whether a tag would mend it.
    pub fn is_for_want_of_a_tag(&self) -> bool {
        matches!(self, Self::Untagged(_) | Self::Tag { .. })
    }

    /// What its author is to do.
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Unsigned => {
                "sign it: git commit --amend --no-edit -S, with user.signingKey set, and gpg.format ssh \
                 for an SSH key; several: git rebase --exec 'git commit --amend --no-edit -S' BASE"
            }
            Self::Foreign => {
                "sign it with a key that trust.yaml names: git config gpg.format ssh, or openpgp"
            }
            Self::Weak { .. } => {
                "sign it anew with SHA-512: digest-algo in gpg.conf may say otherwise"
            }
            Self::Untagged(_) | Self::Tag { .. } => {
                "have somebody sign one whom trust.yaml names: git tag -s NAME COMMIT, and push it: git push \
                 origin NAME"
            }
            Self::Malformed(_) | Self::Invalid(_) | Self::Namespace(_) => {
                "sign it anew: git commit --amend --no-edit -S"
            }
            Self::Unknown(_) | Self::Revoked(_) | Self::OtherUse { .. } | Self::Unfit { .. } => {
                "sign it with a key that trust.yaml named before it; a new key is brought in by a \
                 commit signed with an old one"
            }
            Self::TooEarly { .. } | Self::TooLate { .. } => {
                "sign it with a key that is good at its date; trust.yaml says until when each is"
            }
            Self::NoRoot => {
                "is it the right repository? desired.trust in agent.yaml is the fingerprint of its \
                 trust.yaml, as `windlass validate` prints it"
            }
            Self::Dropped => "bring trust.yaml back: git revert",
            Self::Beside => "rebase it onto the branch, where trust.yaml is, and sign it",
            Self::BadPolicy(_) => {
                "mend trust.yaml; `windlass validate` says all that is wrong in it"
            }
            Self::Oversteps { .. } => {
                "somebody who may is to sign it: git commit --amend --no-edit -S; what stands on it is \
                 to be rebased"
            }
            Self::LocksOut => {
                "with `authorize: roles`, bind cluster-admin, or update on trust.windlass.dev, to \
                 somebody whom trust.yaml names"
            }
            Self::Short => "this is a defect in Windlass: please report it",
            Self::ChangedInMerge => {
                "merge with the trust.yaml of one side, and change it in a commit of its own"
            }
        }
    }
}

/// `1 change`, `2 changes`.
fn counted(changes: usize) -> String {
    format!("{changes} change{}", if changes == 1 { "" } else { "s" })
}

/// The fingerprint by which an agent is told its first `trust.yaml`: `sha256:` and 64 digits.
pub fn fingerprint(text: &[u8]) -> String {
    format!("sha256:{}", Digest::of(text))
}

/// Reads a fingerprint.
pub fn parse_fingerprint(text: &str) -> Result<Digest, String> {
    let digits = text.trim().strip_prefix("sha256:");
    let digest = digits.and_then(|digits| {
        serde_json::from_value(serde_json::Value::String(digits.to_ascii_lowercase())).ok()
    });
    digest.ok_or_else(|| {
        format!("{text:?} is no fingerprint of a trust.yaml: sha256: and 64 digits, as `windlass validate` prints it")
    })
}
