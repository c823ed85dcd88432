//! This node's key: by it other nodes know that what reaches them over the network comes from here.
//!
//! The public half stands in the node's register, which only this node writes: Git is the PKI, there
//! is no authority, and nothing expires. The private half stays in the data directory.

use std::fs;
use std::path::Path;

use openssl::error::ErrorStack;
use openssl::pkey::{Id, PKey, Private, Public};
use openssl::sign::{Signer, Verifier};

use crate::kinds::digest::hex;
use crate::ports::Fault;

use super::git::write_file;

/// A node's key pair, Ed25519.
#[derive(Clone)]
pub struct Identity {
    key: PKey<Private>,
    public: Vec<u8>,
}

impl Identity {
    /// Reads the key in the data directory, made if there is none.
    pub fn open(dir: &Path) -> Result<Self, Fault> {
        let path = dir.join("node.key");
        let fault = |error: &dyn std::fmt::Display| {
            Fault::stalled(format!(
                "{}: {error}. Without it other nodes can't know this one; remove it to have a new \
                 one made",
                path.display()
            ))
        };
        let key = match fs::read(&path) {
            Ok(pem) => PKey::private_key_from_pem(&pem).map_err(|error| fault(&error))?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let key = PKey::generate_ed25519().map_err(|error| fault(&error))?;
                let pem = key.private_key_to_pem_pkcs8().map_err(|error| fault(&error))?;
                write_file(&path, &pem).map_err(|error| fault(&error))?;
                key
            }
            Err(error) => return Err(fault(&error)),
        };
        Self::of(key).map_err(|error| fault(&error))
    }

    fn of(key: PKey<Private>) -> Result<Self, ErrorStack> {
        let public = key.raw_public_key()?;
        Ok(Self { key, public })
    }

    /// The public half, in hexadecimal, as it stands in the node's register.
    pub fn public(&self) -> String {
        hex(&self.public)
    }

    /// The pair, for TLS.
    pub fn key(&self) -> &PKey<Private> {
        &self.key
    }

    /// Signs bytes.
    pub fn sign(&self, bytes: &[u8]) -> Result<Vec<u8>, Fault> {
        let sign = || Signer::new_without_digest(&self.key)?.sign_oneshot_to_vec(bytes);
        sign().map_err(Fault::stalled)
    }
}

/// Another node's public key.
#[derive(Clone)]
pub struct PublicKey(PKey<Public>);

impl PublicKey {
    /// Reads what [`Identity::public`] gave; none if it is no key.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.as_bytes();
        if !text.is_ascii() || !digits.len().is_multiple_of(2) {
            return None;
        }
        let byte = |at: usize| u8::from_str_radix(text.get(at..at + 2)?, 16).ok();
        let bytes: Vec<u8> = (0..digits.len()).step_by(2).map(byte).collect::<Option<_>>()?;
        PKey::public_key_from_raw_bytes(&bytes, Id::ED25519).ok().map(Self)
    }

    /// Whether the node signed these bytes so.
    pub fn has_signed(&self, bytes: &[u8], signature: &[u8]) -> bool {
        let verify = || Verifier::new_without_digest(&self.0)?.verify_oneshot(signature, bytes);
        verify().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_kept_and_only_its_owner_signs() {
        let dir = tempfile::tempdir().expect("a directory");
        let first = Identity::open(dir.path()).expect("is made");
        let again = Identity::open(dir.path()).expect("is read");
        assert_eq!(first.public(), again.public());
        let public = PublicKey::parse(&first.public()).expect("a key");
        let signature = again.sign(b"moved").expect("signs");
        assert!(public.has_signed(b"moved", &signature));
        assert!(!public.has_signed(b"Moved", &signature));
        let other = tempfile::tempdir().expect("a directory");
        let other = Identity::open(other.path()).expect("is made");
        assert!(!public.has_signed(b"moved", &other.sign(b"moved").expect("signs")));
        assert!(PublicKey::parse("zz").is_none() && PublicKey::parse("").is_none());
    }

    #[test]
    fn the_key_is_for_its_owner_alone_and_a_torn_one_is_named() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        Identity::open(dir.path()).expect("is made");
        let path = dir.path().join("node.key");
        let mode = fs::metadata(&path).expect("is there").permissions().mode();
        assert_eq!(mode & 0o077, 0, "{mode:o}");
        fs::write(&path, "torn").expect("writes");
        let fault = Identity::open(dir.path()).err().expect("can't be read");
        assert!(fault.message.contains("node.key"), "{fault}");
    }
}
