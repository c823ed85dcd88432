//! Whether a value is a key's signature: the arithmetic, which is OpenSSL's. An error is a value or a key
//! that is none.

use std::ops::RangeInclusive;

use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::{EcGroup, EcKey, EcPoint};
use openssl::ecdsa::EcdsaSig;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey, Public};
use openssl::rsa::Rsa;
use openssl::sha::{sha256, sha384, sha512};
use openssl::sign::Verifier;

/// Shorter RSA keys are taken apart for sport; longer ones only keep the machine busy (OpenSSH's bound
/// as well).
pub(super) const RSA_BITS: RangeInclusive<i32> = 2048..=16384;

/// Digests that can't be forged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    /// The digest of a message.
    pub(super) fn digest(self, message: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => sha256(message).to_vec(),
            Self::Sha384 => sha384(message).to_vec(),
            Self::Sha512 => sha512(message).to_vec(),
        }
    }

    /// As OpenSSL names it.
    fn name(self) -> MessageDigest {
        match self {
            Self::Sha256 => MessageDigest::sha256(),
            Self::Sha384 => MessageDigest::sha384(),
            Self::Sha512 => MessageDigest::sha512(),
        }
    }
}

/// NIST's curves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    fn nid(self) -> Nid {
        match self {
            Self::P256 => Nid::X9_62_PRIME256V1,
            Self::P384 => Nid::SECP384R1,
            Self::P521 => Nid::SECP521R1,
        }
    }
}

/// How many bits a number has; 0 if it can't be told.
pub(super) fn bits(number: &[u8]) -> i32 {
    BigNum::from_slice(number).map(|number| number.num_bits()).unwrap_or_default()
}

/// Ed25519 signs the message itself.
pub(super) fn ed25519(key: &[u8; 32], value: &[u8], message: &[u8]) -> Result<bool, ErrorStack> {
    let key = PKey::public_key_from_raw_bytes(key, Id::ED25519)?;
    Verifier::new_without_digest(&key)?.verify_oneshot(value, message)
}

/// A point of the curve and the two numbers of a signature.
pub(super) fn ecdsa(
    curve: Curve,
    point: &[u8],
    r: &[u8],
    s: &[u8],
    digest: &[u8],
) -> Result<bool, ErrorStack> {
    let group = EcGroup::from_curve_name(curve.nid())?;
    let mut context = BigNumContext::new()?;
    let point = EcPoint::from_bytes(&group, point, &mut context)?;
    let key: EcKey<Public> = EcKey::from_public_key(&group, &point)?;
    key.check_key()?;
    let (r, s) = (BigNum::from_slice(r)?, BigNum::from_slice(s)?);
    EcdsaSig::from_private_components(r, s)?.verify(digest, &key)
}

/// PKCS#1 v1.5; the value is as long as the key.
pub(super) fn rsa(
    e: &[u8],
    n: &[u8],
    hash: Hash,
    value: &[u8],
    message: &[u8],
) -> Result<bool, ErrorStack> {
    let rsa = Rsa::from_public_components(BigNum::from_slice(n)?, BigNum::from_slice(e)?)?;
    let key = PKey::from_rsa(rsa)?;
    let mut verifier = Verifier::new(hash.name(), &key)?;
    verifier.update(message)?;
    verifier.verify(value)
}
