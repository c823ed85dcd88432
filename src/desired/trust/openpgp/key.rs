//! Public keys (RFC 9580 §5.5.2, §5.5.4).

use openssl::sha::{sha1, sha256};

use super::super::arithmetic::{self, Curve, RSA_BITS};
use super::super::wire::Wire;
use super::digits;
use crate::kinds::time::Wall;

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    pub(super) version: u8,
    pub(super) algorithm: u8,
    pub(super) created: Wall,
    /// As GnuPG prints it.
    pub(super) fingerprint: String,
    /// Its numbers; or why nothing that it signs is trusted.
    pub(super) shape: Result<Shape, String>,
    /// As it stands before what is signed about it.
    pub(super) framed: Vec<u8>,
}

/// What signatures are checked with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    Ecdsa(Curve, Vec<u8>),
    /// As GnuPG has it, with its numbers counted; and as RFC 9580 has it, plain.
    Ed25519([u8; 32]),
}

/// Algorithms (§9.1).
pub(super) mod algorithm {
    pub(in super::super) const RSA: u8 = 1;
    pub(in super::super) const RSA_SIGN_ONLY: u8 = 3;
    pub(in super::super) const ECDSA: u8 = 19;
    pub(in super::super) const EDDSA_LEGACY: u8 = 22;
    pub(in super::super) const ED25519: u8 = 27;
}

/// §9.2.
const CURVES: [(&[u8], Curve); 3] = [
    (&[0x2A, 0x86, 0x48, 0xCE, 0x3D, 0x03, 0x01, 0x07], Curve::P256),
    (&[0x2B, 0x81, 0x04, 0x00, 0x22], Curve::P384),
    (&[0x2B, 0x81, 0x04, 0x00, 0x23], Curve::P521),
];
const ED25519_LEGACY: &[u8] = &[0x2B, 0x06, 0x01, 0x04, 0x01, 0xDA, 0x47, 0x0F, 0x01];

impl Key {
    /// Reads the body of a packet.
    pub(super) fn read(body: &[u8]) -> Result<Self, String> {
        let damaged = || "a key is damaged".to_owned();
        let mut wire = Wire(body);
        let version = wire.byte().ok_or_else(damaged)?;
        if version != 4 && version != 6 {
            return Err(format!("a key of version {version} is not read"));
        }
        let created = wire.number().ok_or_else(damaged)?;
        let algorithm = wire.byte().ok_or_else(damaged)?;
        if version == 6 {
            let length = wire.number().ok_or_else(damaged)?;
            if usize::try_from(length).ok() != Some(wire.0.len()) {
                return Err(damaged());
            }
        }
        let framed = framed(version, body).ok_or_else(damaged)?;
        // SHA-1 only names a key of version 4; what it signs is checked with its numbers.
        let digest = if version == 4 { sha1(&framed).to_vec() } else { sha256(&framed).to_vec() };
        let shape = shape(algorithm, wire);
        Ok(Self {
            version,
            algorithm,
            created: Wall::from_seconds(i64::from(created)),
            fingerprint: digits(&digest),
            shape,
            framed,
        })
    }
}

/// §5.2.4: what stands before a key where it is signed, or named.
fn framed(version: u8, body: &[u8]) -> Option<Vec<u8>> {
    let mut framed = match version {
        4 => [&[0x99][..], &u16::try_from(body.len()).ok()?.to_be_bytes()].concat(),
        _ => [&[0x9B][..], &u32::try_from(body.len()).ok()?.to_be_bytes()].concat(),
    };
    framed.extend_from_slice(body);
    Some(framed)
}

fn shape(algorithm: u8, wire: Wire<'_>) -> Result<Shape, String> {
    match algorithm {
        algorithm::RSA | algorithm::RSA_SIGN_ONLY => {
            let shape = rsa(wire).ok_or("is damaged")?;
            match &shape {
                Shape::Rsa { n, .. } if !RSA_BITS.contains(&arithmetic::bits(n)) => {
                    Err(format!("is an RSA key of {} bits", arithmetic::bits(n)))
                }
                _ => Ok(shape),
            }
        }
        algorithm::ECDSA => ecdsa(wire).ok_or_else(|| "is of a curve that is not read".to_owned()),
        algorithm::EDDSA_LEGACY => {
            ed25519_legacy(wire).ok_or_else(|| "is of a curve that is not read".to_owned())
        }
        algorithm::ED25519 => {
            let key = wire.0.try_into().map(Shape::Ed25519);
            key.map_err(|_| "is damaged".to_owned())
        }
        17 => Err("is a DSA key, which is too weak".to_owned()),
        16 | 18 | 25 | 26 => Err("is for encryption".to_owned()),
        _ => Err(format!("is of algorithm {algorithm}, which is not read")),
    }
}

fn rsa(mut wire: Wire<'_>) -> Option<Shape> {
    let n = wire.counted()?.to_vec();
    let e = wire.counted()?.to_vec();
    wire.0.is_empty().then_some(Shape::Rsa { n, e })
}

fn ecdsa(mut wire: Wire<'_>) -> Option<Shape> {
    let length = wire.byte()?;
    let named = wire.take(usize::from(length))?;
    let (_, curve) = CURVES.iter().find(|(id, _)| *id == named)?;
    let point = wire.counted()?.to_vec();
    wire.0.is_empty().then_some(Shape::Ecdsa(*curve, point))
}

fn ed25519_legacy(mut wire: Wire<'_>) -> Option<Shape> {
    let length = wire.byte()?;
    if wire.take(usize::from(length))? != ED25519_LEGACY {
        return None;
    }
    // 0x40 says that the point is as Ed25519 has it.
    let point = wire.counted()?.strip_prefix(&[0x40])?.try_into().ok()?;
    wire.0.is_empty().then_some(Shape::Ed25519(point))
}
