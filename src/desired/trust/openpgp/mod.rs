//! OpenPGP (RFC 9580, and RFC 4880 before it): the public keys in `trust.yaml` and the signatures by
//! which `git commit -S` seals commits with GnuPG.
//!
//! A notary who knows a few seals well, and sends away whoever brings another, rather than one who
//! has heard of all. What is read is what says who signed what: keys, their self-signatures, their
//! revocations, detached signatures. There is no encryption, no compression, no trust between keys, no
//! keyring and no key server here, and nothing nests but a back-signature in its binding.
//!
//! ```text
//!   packet     armour ─▶ packets
//!   signature  a packet ─▶ a signature: by which key, when, with which digest, of what kind
//!   key        a packet ─▶ a key: its fingerprint, its numbers
//!   cert       packets ─▶ keys that may sign, until when, and why others may not
//! ```
//!
//! The rule: a key counts for what its owner has said with SHA-256, SHA-384 or SHA-512, last; where
//! something can't be read or checked that could take a right away, the whole key is refused when
//! `trust.yaml` is read. Times are compared with each other, with no clock.
//!
//! Why not a crate: OpenSSL, which libgit2 brings anyway, does the arithmetic, and what remains is less
//! than the part of a whole OpenPGP (packets of messages, S2K, AEAD, armour of all kinds, a policy to
//! turn most of it off) that would come with one, into the memory of every agent.
//!
//! The limit: no DSA, no Brainpool curves, Ed448; no revocation by another key (a key that has one, or
//! names who may, is refused); of a soft revocation ("superseded") no more is heard than that it is one.

mod cert;
mod key;
mod packet;
mod signature;
#[cfg(test)]
mod tests;

pub(super) use cert::{Cert, Member, Standing};
pub(super) use signature::Signature;

use crate::kinds::digest::hex;

/// How the armour of a signature begins.
pub(super) const BEGIN: &str = "-----BEGIN PGP SIGNATURE-----\n";

/// Bytes in capital hexadecimal digits, as GnuPG prints them.
fn digits(bytes: &[u8]) -> String {
    hex(bytes).to_ascii_uppercase()
}

/// Reads a fingerprint as GnuPG prints it: hexadecimal digits, 40 of a version 4 key, 64 of a version 6
/// key, in groups or not.
pub(super) fn parse_fingerprint(text: &str) -> Option<String> {
    let digits: String = text.chars().filter(|letter| *letter != ' ').collect();
    let is_one = matches!(digits.len(), 40 | 64) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_one.then(|| digits.to_ascii_uppercase())
}
