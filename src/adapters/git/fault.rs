//! What libgit2 says, told to the person who is woken by it: what failed, where, why, what to do.
//!
//! libgit2's codes are coarse (most network errors are `-1`), so the sorting looks at its texts as
//! well: texts seen from real servers, and those of large hosting services. A text that is not in
//! the table is passed on as it is, as a fault that may pass by itself.

use std::fmt;
use std::io;

use git2::{ErrorClass, ErrorCode};

use crate::ports::{Fault, FaultKind};

/// Sorts an error of libgit2 that concerns the repository at `place`.
pub(super) fn sort(error: &git2::Error, place: impl fmt::Display) -> Fault {
    let text = error.message().trim();
    let (kind, advice) = judge(error.code(), error.class(), text);
    let mut message = format!("{place}: {}", sentence(text));
    if !advice.is_empty() {
        message.push(' ');
        message.push_str(advice);
    }
    Fault { kind, message }
}

/// Sorts an error of the file system.
pub(super) fn sort_io(error: &io::Error, what: impl fmt::Display) -> Fault {
    let message = format!("{what}: {}", sentence(&error.to_string()));
    let advice = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => DISK_FULL,
        io::ErrorKind::PermissionDenied => PERMISSION,
        io::ErrorKind::ReadOnlyFilesystem => READ_ONLY,
        io::ErrorKind::NotFound => "",
        _ => return Fault::stalled(message),
    };
    Fault::stalled(format!("{message} {advice}").trim_end())
}

fn sentence(text: &str) -> String {
    let text = text.trim_end_matches(['.', ' ']);
    format!("{text}.")
}

const DISK_FULL: &str = "Nothing was lost and running pods are untouched; free some space on that \
                         disk and it goes on by itself.";
const PERMISSION: &str = "Check the owner and mode of the path, and the user the agent runs as.";
const READ_ONLY: &str = "The file system is mounted read-only, perhaps after a disk error: see \
                         `dmesg`.";
const REFUSED: &str = "The server does not accept our key, token or password for this repository. \
                       Check that it is registered there, with the rights that are needed.";
const NO_REPOSITORY: &str = "There is no such repository, or we may not see it: check the address, \
                             and whether our key, token or password has access to it.";
const READ_ONLY_ACCESS: &str = "We may read this repository but not write to it: check the rights of \
                                our key or token, and that the server takes pushes.";
const REFTABLE: &str = "libgit2 can't read this repository's format (reftable or sha256). Convert \
                        it (`git refs migrate --ref-format=files`), or give an ssh or http address \
                        in place of the path.";
const CERTIFICATE: &str = "The server's certificate is not valid for this name or not signed by an \
                           authority this machine trusts. If it is your own authority, name its \
                           certificate as `caFile`.";
const REDIRECTED: &str = "The server sends us to another host, and a password is never sent after \
                          a redirect: write the address it names.";
const BAD_KEY: &str = "The ssh key can't be used. It must be a private key as ssh-keygen makes it; if \
                       it has a passphrase, name a file that holds it as `sshPassphraseFile`.";
const SILENT: &str = "The server was silent for too long; it is tried again.";
const UNRESOLVED: &str = "Is the name right, and does this machine's DNS work? It is tried again.";
const NOT_LISTENING: &str = "Nothing answers there: is the server up? It is tried again.";

/// What a text of libgit2 means: a part of it, who must act, and what to do.
const TEXTS: &[(&str, FaultKind, &str)] = &[
    ("imed out", FaultKind::Transient, SILENT),
    ("syscall failure: Resource temporarily unavailable", FaultKind::Transient, SILENT),
    ("failed to resolve address", FaultKind::Transient, UNRESOLVED),
    ("Connection refused", FaultKind::Transient, NOT_LISTENING),
    ("no such repository", FaultKind::Stalled, NO_REPOSITORY),
    ("Repository not found", FaultKind::Stalled, NO_REPOSITORY),
    ("access denied", FaultKind::Stalled, NO_REPOSITORY),
    ("service not enabled", FaultKind::Stalled, READ_ONLY_ACCESS),
    ("marked as read only", FaultKind::Stalled, READ_ONLY_ACCESS),
    ("Permission to", FaultKind::Stalled, READ_ONLY_ACCESS),
    ("No space left on device", FaultKind::Stalled, DISK_FULL),
    ("Disk quota exceeded", FaultKind::Stalled, DISK_FULL),
    ("Permission denied", FaultKind::Stalled, PERMISSION),
    ("Read-only file system", FaultKind::Stalled, READ_ONLY),
    ("Input/output error", FaultKind::Stalled, "The disk fails: see `dmesg`."),
    ("unsupported extension name", FaultKind::Stalled, REFTABLE),
    ("unknown object format", FaultKind::Stalled, REFTABLE),
    ("does not appear to be a git repository", FaultKind::Stalled, NO_REPOSITORY),
    ("repository not exported", FaultKind::Stalled, NO_REPOSITORY),
    ("failed to resolve path", FaultKind::Stalled, NO_REPOSITORY),
    ("could not find repository", FaultKind::Stalled, NO_REPOSITORY),
    ("unexpected http status code: 404", FaultKind::Stalled, NO_REPOSITORY),
    ("status code: 401", FaultKind::Stalled, REFUSED),
    ("status code: 403", FaultKind::Stalled, REFUSED),
    ("status code: 404", FaultKind::Stalled, NO_REPOSITORY),
    ("too many redirects or authentication replays", FaultKind::Stalled, REFUSED),
    ("cannot redirect", FaultKind::Stalled, REDIRECTED),
    ("unexpected redirect", FaultKind::Stalled, REDIRECTED),
    ("SSL certificate is invalid", FaultKind::Stalled, CERTIFICATE),
    ("certificate", FaultKind::Stalled, CERTIFICATE),
    ("Unable to extract public key", FaultKind::Stalled, BAD_KEY),
    ("authenticat", FaultKind::Stalled, REFUSED),
    ("invalid content-type", FaultKind::Stalled, NO_REPOSITORY),
];

fn judge(code: ErrorCode, class: ErrorClass, text: &str) -> (FaultKind, &'static str) {
    if let Some((_, kind, advice)) = TEXTS.iter().find(|(part, ..)| text.contains(part)) {
        return (*kind, advice);
    }
    match code {
        ErrorCode::Auth => (FaultKind::Stalled, REFUSED),
        ErrorCode::Certificate => (FaultKind::Stalled, CERTIFICATE),
        ErrorCode::NotFound if class == ErrorClass::Repository => {
            (FaultKind::Stalled, NO_REPOSITORY)
        }
        _ => (FaultKind::Transient, ""),
    }
}

/// Whether the error says that what was read is damaged or missing, rather than that reading
/// failed.
pub(super) fn is_damage(error: &git2::Error) -> bool {
    matches!(
        error.class(),
        ErrorClass::Odb
            | ErrorClass::Zlib
            | ErrorClass::Object
            | ErrorClass::Tree
            | ErrorClass::Indexer
            | ErrorClass::Reference
            | ErrorClass::Config
            | ErrorClass::Sha1
    )
}
