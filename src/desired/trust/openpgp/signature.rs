//! Signatures (RFC 9580 §5.2): read, and checked beside a key.

use super::super::arithmetic::{self, Hash};
use super::super::wire::Wire;
use super::digits;
use super::key::{Key, Shape, algorithm};
use super::packet::{self, kind};
use crate::kinds::time::Wall;

/// Kinds of signatures (§5.2.1).
pub(super) mod purpose {
    pub(in super::super) const DOCUMENT: u8 = 0x00;
    pub(in super::super) const CERTIFICATIONS: std::ops::RangeInclusive<u8> = 0x10..=0x13;
    pub(in super::super) const SUBKEY_BINDING: u8 = 0x18;
    pub(in super::super) const BACK: u8 = 0x19;
    pub(in super::super) const DIRECT: u8 = 0x1F;
    pub(in super::super) const REVOKES_KEY: u8 = 0x20;
    pub(in super::super) const REVOKES_SUBKEY: u8 = 0x28;
    pub(in super::super) const REVOKES_CERTIFICATION: u8 = 0x30;
}

/// A signature.
#[derive(Clone, Debug)]
pub(in super::super) struct Signature {
    pub(super) purpose: u8,
    version: u8,
    algorithm: u8,
    /// The digest; or the name of one that is not trusted.
    hash: Result<Hash, &'static str>,
    /// Of itself, what is signed: up to the end of its hashed subpackets.
    own: Vec<u8>,
    /// How the digest begins.
    begins: [u8; 2],
    salt: Vec<u8>,
    value: Vec<u8>,
    pub(super) said: Said,
    /// Back-signatures in it. They are good or not by themselves, wherever they stand.
    pub(super) within: Vec<Vec<u8>>,
    /// The last eight bytes of its key's id, where only these are said, and nobody signs for them.
    hint: Option<Vec<u8>>,
}

/// What it says by hashed subpackets (§5.2.3).
#[derive(Clone, Debug, Default)]
pub(super) struct Said {
    pub(super) created: Option<Wall>,
    /// Seconds after which it is not good any more.
    pub(super) expires: Option<u32>,
    /// Seconds after which its key is not.
    pub(super) key_expires: Option<u32>,
    pub(super) flags: Option<u8>,
    /// The fingerprint of its key.
    issuer: Option<String>,
    /// Somebody else may revoke the key.
    pub(super) has_revoker: bool,
    /// Something that must be understood and isn't.
    has_unknown: bool,
}

impl Hash {
    /// §9.5.
    fn of(number: u8) -> Result<Self, &'static str> {
        match number {
            8 => Ok(Self::Sha256),
            9 => Ok(Self::Sha384),
            10 => Ok(Self::Sha512),
            1 => Err("MD5"),
            2 => Err("SHA-1"),
            3 => Err("RIPEMD-160"),
            11 => Err("SHA-224"),
            _ => Err("a digest that is not read"),
        }
    }

    /// Of version 6 (§9.5, table 23).
    fn salt_bytes(self) -> usize {
        match self {
            Self::Sha256 => 16,
            Self::Sha384 => 24,
            Self::Sha512 => 32,
        }
    }
}

impl Signature {
    /// Reads an armoured signature of a document.
    pub(in super::super) fn read(armour: &str) -> Result<Self, String> {
        let bytes = packet::bare(armour, "SIGNATURE")?;
        let packets = packet::split(&bytes).ok_or("the signature is damaged")?;
        let [one] = packets[..] else {
            return Err("it bears more than one OpenPGP signature".into());
        };
        if one.kind != kind::SIGNATURE {
            return Err("its OpenPGP signature is something else".into());
        }
        let signature = Self::unpack(one.body)?;
        if signature.purpose != purpose::DOCUMENT {
            return Err("its OpenPGP signature is not one of a document as it is".into());
        }
        if signature.said.issuer.is_none() {
            return Err(
                "its OpenPGP signature does not say the fingerprint of its key (GnuPG does from 2.1.16)".into()
            );
        }
        Ok(signature)
    }

    /// Reads the body of a packet.
    pub(super) fn unpack(body: &[u8]) -> Result<Self, String> {
        match body.first() {
            Some(4 | 6) => {
                Self::take_apart(body).ok_or_else(|| "a signature is damaged".to_owned())
            }
            Some(version) => Err(format!("a signature of version {version} is not read")),
            None => Err("a signature is damaged".to_owned()),
        }
    }

    fn take_apart(body: &[u8]) -> Option<Self> {
        let mut wire = Wire(body);
        let version = wire.byte()?;
        let [purpose, algorithm, hash] = wire.take(3)? else { return None };
        let hash = Hash::of(*hash);
        let hashed = area(&mut wire, version)?;
        let own = body[..body.len() - wire.0.len()].to_vec();
        let loose = area(&mut wire, version)?;
        let begins = wire.take(2)?.try_into().ok()?;
        let salt = match version {
            6 => {
                let length = usize::from(wire.byte()?);
                let is_right = hash.ok().is_none_or(|hash| hash.salt_bytes() == length);
                wire.take(length).filter(|_| is_right)?.to_vec()
            }
            _ => Vec::new(),
        };
        let mut signature = Self {
            purpose: *purpose,
            version,
            algorithm: *algorithm,
            hash,
            own,
            begins,
            salt,
            value: wire.0.to_vec(),
            said: Said::default(),
            within: Vec::new(),
            hint: None,
        };
        for (is_critical, kind, value) in subpackets(hashed)? {
            signature.hear(is_critical, kind, value)?;
        }
        for (_, kind, value) in subpackets(loose)? {
            match kind {
                16 => signature.hint = Some(value.to_vec()),
                32 => signature.within.push(value.to_vec()),
                _ => {}
            }
        }
        // A hint that disagrees with what is signed for was put there by somebody else.
        let end = signature.said.issuer.as_ref().zip(signature.hint.as_ref());
        let agrees = end.is_none_or(|(issuer, hint)| key_id(issuer) == digits(hint));
        agrees.then_some(signature)
    }

    /// Takes a hashed subpacket; nothing if it is damaged, or there twice and could mean two things.
    fn hear(&mut self, is_critical: bool, kind: u8, value: &[u8]) -> Option<()> {
        let said = &mut self.said;
        let number = || value.try_into().ok().map(u32::from_be_bytes);
        match kind {
            2 => {
                let created = Wall::from_seconds(i64::from(number()?));
                said.created.replace(created).is_none().then_some(())
            }
            3 => said.expires.replace(number()?).is_none().then_some(()),
            9 => said.key_expires.replace(number()?).is_none().then_some(()),
            27 => said.flags.replace(*value.first()?).is_none().then_some(()),
            33 => {
                let (version, print) = value.split_first()?;
                let is_one = matches!((version, print.len()), (4, 20) | (6, 32));
                let is_own = is_one && *version == self.version;
                said.issuer.replace(digits(print)).is_none().then_some(()).filter(|()| is_own)
            }
            12 => {
                said.has_revoker = true;
                Some(())
            }
            16 => {
                self.hint = Some(value.to_vec());
                Some(())
            }
            32 => {
                self.within.push(value.to_vec());
                Some(())
            }
            // What it takes nothing to understand: it is for exporting, encrypting, finding keys, people.
            4 | 7 | 11 | 21..=26 | 28..=30 | 34 | 39 => Some(()),
            _ => {
                said.has_unknown |= is_critical;
                Some(())
            }
        }
    }

    /// The fingerprint of the key that made it, as it says.
    pub(in super::super) fn fingerprint(&self) -> &str {
        self.said.issuer.as_deref().unwrap_or_default()
    }

    /// The name of its digest, if that is not to be trusted.
    pub(in super::super) fn weakness(&self) -> Option<&'static str> {
        self.hash.err()
    }

    /// When it was made, as it says.
    pub(in super::super) fn created(&self) -> Option<Wall> {
        self.said.created
    }

    /// Until when it is good; for ever where it does not say.
    pub(in super::super) fn until(&self) -> Option<Wall> {
        let seconds = self.said.expires.filter(|seconds| *seconds > 0)?;
        self.said.created.map(|created| super::cert::after(created, seconds))
    }

    /// Whether it can be this key's, by what it says.
    pub(super) fn claims(&self, key: &Key) -> bool {
        match (&self.said.issuer, &self.hint) {
            (Some(issuer), _) => *issuer == key.fingerprint,
            (None, Some(hint)) => key_id(&key.fingerprint) == digits(hint),
            (None, None) => true,
        }
    }

    /// Whether it is the key's signature of what these parts make together, good to be trusted.
    pub(super) fn is_by(&self, key: &Key, parts: &[&[u8]]) -> bool {
        self.check(key, parts) == Some(true)
    }

    fn check(&self, key: &Key, parts: &[&[u8]]) -> Option<bool> {
        let hash = self.hash.ok()?;
        let shape = key.shape.as_ref().ok()?;
        let is_fit = (self.version, self.algorithm) == (key.version, key.algorithm)
            && !self.said.has_unknown
            && self.said.created.is_some_and(|created| created >= key.created);
        if !is_fit {
            return None;
        }
        let mut message = self.salt.clone();
        for part in parts {
            message.extend_from_slice(part);
        }
        message.extend_from_slice(&self.own);
        message.extend_from_slice(&[self.version, 0xFF]);
        message.extend_from_slice(&u32::try_from(self.own.len()).ok()?.to_be_bytes());
        let digest = hash.digest(&message);
        if !digest.starts_with(&self.begins) {
            return None;
        }
        let mut wire = Wire(&self.value);
        let checked = match shape {
            Shape::Rsa { n, e } => {
                let value = padded(wire.counted()?, n.len())?;
                arithmetic::rsa(e, n, hash, &value, &message)
            }
            Shape::Ecdsa(curve, point) => {
                let (r, s) = (wire.counted()?, wire.counted()?);
                arithmetic::ecdsa(*curve, point, r, s, &digest)
            }
            Shape::Ed25519(point) if self.algorithm == algorithm::EDDSA_LEGACY => {
                let (r, s) = (padded(wire.counted()?, 32)?, padded(wire.counted()?, 32)?);
                arithmetic::ed25519(point, &[r, s].concat(), &digest)
            }
            Shape::Ed25519(point) => arithmetic::ed25519(point, wire.take(64)?, &digest),
        };
        // Whatever OpenSSL can't read is not a signature.
        wire.0.is_empty().then(|| checked.unwrap_or(false))
    }
}

/// A number with the zeros in front that its count left out.
fn padded(number: &[u8], length: usize) -> Option<Vec<u8>> {
    let zeros = length.checked_sub(number.len())?;
    Some([&vec![0; zeros], number].concat())
}

/// The short id of a key: the end of a fingerprint of version 4, the beginning of one of version 6.
fn key_id(fingerprint: &str) -> &str {
    const DIGITS: usize = 16;
    match fingerprint.len() {
        40 => &fingerprint[40 - DIGITS..],
        _ => fingerprint.get(..DIGITS).unwrap_or_default(),
    }
}

/// An area of subpackets.
fn area<'a>(wire: &mut Wire<'a>, version: u8) -> Option<&'a [u8]> {
    let length = match version {
        4 => u32::from(wire.short()?),
        _ => wire.number()?,
    };
    wire.take(usize::try_from(length).ok()?)
}

/// Whether each must be understood, its kind, and what it says.
fn subpackets(area: &[u8]) -> Option<Vec<(bool, u8, &[u8])>> {
    let mut wire = Wire(area);
    let mut found = Vec::new();
    while !wire.0.is_empty() {
        let length = packet::subpacket_length(&mut wire)?;
        let (kind, value) = wire.take(usize::try_from(length).ok()?)?.split_first()?;
        found.push((kind & 0x80 != 0, kind & 0x7F, value));
    }
    Some(found)
}
