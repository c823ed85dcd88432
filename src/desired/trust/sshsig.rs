//! SSH signatures: OpenSSH's PROTOCOL.sshsig, and the public keys in it (RFC 4253 §6.6, RFC 5656,
//! RFC 8332, RFC 8709, OpenSSH's PROTOCOL.u2f).
//!
//! The formats are strings with their lengths in front, a page of code; OpenSSL, which libgit2 brings
//! anyway, does the arithmetic. Everything is read to its last byte, and what is not needed must not
//! be there.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use openssl::error::ErrorStack;
use openssl::sha::sha256;

use super::arithmetic::{self, Curve, Hash, RSA_BITS, ed25519, rsa};
use super::wire::Wire;

/// The namespace in which Git signs.
pub(super) const NAMESPACE: &str = "git";
/// How the armour of a signature begins.
pub(super) const BEGIN: &str = "-----BEGIN SSH SIGNATURE-----\n";
const END: &str = "-----END SSH SIGNATURE-----\n";
/// The longest line between them.
const ARMOUR_COLUMNS: usize = 70;
const MAGIC: &[u8] = b"SSHSIG";

/// A public key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Key {
    /// As SSH writes it down; two keys are the same if this is.
    blob: Vec<u8>,
    shape: Shape,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Shape {
    Ed25519([u8; 32]),
    Ecdsa(Curve, Vec<u8>),
    Rsa {
        e: Vec<u8>,
        n: Vec<u8>,
    },
    /// Of a hardware token: what it signs begins with the application's name.
    SkEd25519([u8; 32], Vec<u8>),
    SkEcdsa(Vec<u8>, Vec<u8>),
}

impl Curve {
    /// By SSH's name for it.
    fn parse(name: &[u8]) -> Option<Self> {
        match name {
            b"nistp256" => Some(Self::P256),
            b"nistp384" => Some(Self::P384),
            b"nistp521" => Some(Self::P521),
            _ => None,
        }
    }

    /// RFC 5656 §6.2.1.
    fn hash(self) -> Hash {
        match self {
            Self::P256 => Hash::Sha256,
            Self::P384 => Hash::Sha384,
            Self::P521 => Hash::Sha512,
        }
    }
}

impl Key {
    /// Reads a key as `allowed_signers` and `.pub` files write it: its type, and its blob in base64.
    pub(super) fn parse(kind: &str, text: &str) -> Result<Self, String> {
        let blob = STANDARD.decode(text).map_err(|_| "the key is not base64".to_owned())?;
        let key = Self::read(&blob)?;
        match Wire(&blob).string() {
            Some(written) if written == kind.as_bytes() => Ok(key),
            _ => Err(format!("the key is not of type {kind}")),
        }
    }

    /// Reads a key from its blob.
    fn read(blob: &[u8]) -> Result<Self, String> {
        let mut wire = Wire(blob);
        let damaged = || "the key is damaged".to_owned();
        let kind = wire.string().ok_or_else(damaged)?;
        let name = String::from_utf8_lossy(kind).into_owned();
        let shape = wire.shape(kind).ok_or_else(|| match name.as_str() {
            "ssh-dss" => "DSA keys are too weak to be trusted".to_owned(),
            _ if name.contains("-cert-") => "it is a certificate, not a key".to_owned(),
            _ if is_known(kind) => damaged(),
            _ => format!("keys of type {name:?} are not known"),
        })?;
        if !wire.0.is_empty() {
            return Err(damaged());
        }
        if let Shape::Rsa { n, .. } = &shape {
            let bits = arithmetic::bits(n);
            if !RSA_BITS.contains(&bits) {
                return Err(format!("an RSA key of {bits} bits is not to be trusted"));
            }
        }
        Ok(Self { blob: blob.to_vec(), shape })
    }

    /// `SHA256:` and the digest in base64, as `ssh-keygen -l` prints it.
    pub(super) fn fingerprint(&self) -> String {
        format!("SHA256:{}", STANDARD_NO_PAD.encode(sha256(&self.blob)))
    }
}

const fn is_known(kind: &[u8]) -> bool {
    matches!(
        kind,
        b"ssh-ed25519"
            | b"ssh-rsa"
            | b"ecdsa-sha2-nistp256"
            | b"ecdsa-sha2-nistp384"
            | b"ecdsa-sha2-nistp521"
            | b"sk-ssh-ed25519@openssh.com"
            | b"sk-ecdsa-sha2-nistp256@openssh.com"
    )
}

/// A signature.
#[derive(Clone, Debug)]
pub struct Signature {
    pub(super) key: Key,
    pub(super) namespace: String,
    /// What the message was digested with, and SSH's name for it.
    hash: (&'static [u8], Hash),
    /// All of it.
    bytes: Vec<u8>,
    /// As SSH writes it down.
    blob: Vec<u8>,
}

/// PROTOCOL.sshsig has these two, and no SHA-384.
const HASHES: [(&[u8], Hash); 2] = [(b"sha256", Hash::Sha256), (b"sha512", Hash::Sha512)];

impl Signature {
    /// Reads an armoured signature.
    pub fn read(armour: &str) -> Result<Self, String> {
        // Git ends the armour with an empty line.
        let armour =
            armour.strip_suffix("\n\n").map_or(armour.to_owned(), |bare| bare.to_owned() + "\n");
        let inner = armour.strip_prefix(BEGIN).and_then(|rest| rest.strip_suffix(END));
        let inner = inner.ok_or("the armour of the signature is damaged")?;
        let base64: String = inner.chars().filter(|letter| *letter != '\n').collect();
        let bytes = STANDARD.decode(base64).map_err(|_| "the signature is not base64")?;
        Self::unpack(&bytes).ok_or("the signature is damaged")?
    }

    fn unpack(bytes: &[u8]) -> Option<Result<Self, String>> {
        let mut wire = Wire(bytes.strip_prefix(MAGIC)?);
        if wire.number()? != 1 {
            return Some(Err("the signature is of a version that is not known".into()));
        }
        let key = wire.string()?;
        let namespace = std::str::from_utf8(wire.string()?).ok()?.to_owned();
        let reserved = wire.string()?;
        let named = wire.string()?;
        let hash = HASHES.into_iter().find(|(name, _)| *name == named)?;
        let blob = wire.string()?.to_vec();
        if !wire.0.is_empty() || !reserved.is_empty() {
            return None;
        }
        let bytes = bytes.to_vec();
        Some(Key::read(key).map(|key| Self { key, namespace, hash, bytes, blob }))
    }

    /// Its armour as OpenSSH writes it.
    pub fn armour(&self) -> String {
        let base64 = STANDARD.encode(&self.bytes);
        let mut armour = BEGIN.to_owned();
        let mut rest = base64.as_str();
        while !rest.is_empty() {
            let (line, more) = rest.split_at(rest.len().min(ARMOUR_COLUMNS));
            armour.push_str(line);
            armour.push('\n');
            rest = more;
        }
        armour + END
    }

    /// The fingerprint of the key that made it, `SHA256:…`.
    pub fn fingerprint(&self) -> String {
        self.key.fingerprint()
    }

    /// Whether it was made for this use.
    pub fn is_for(&self, namespace: &str) -> bool {
        self.namespace == namespace
    }

    /// Whether it is the key's signature of this message.
    pub fn is_of(&self, message: &[u8]) -> bool {
        let signed = self.signed(message);
        // Whatever OpenSSL can't read is not a signature.
        self.check(&signed).is_some_and(|checked| checked.unwrap_or(false))
    }

    /// What the key has signed.
    fn signed(&self, message: &[u8]) -> Vec<u8> {
        let (name, hash) = self.hash;
        let mut signed = MAGIC.to_vec();
        for part in [self.namespace.as_bytes(), b"", name, &hash.digest(message)] {
            push_string(&mut signed, part);
        }
        signed
    }

    fn check(&self, signed: &[u8]) -> Option<Result<bool, ErrorStack>> {
        let mut wire = Wire(&self.blob);
        let (kind, value) = (wire.string()?, wire.string()?);
        // A token adds what it has seen: a touch, and how often it was used.
        let seen = wire.0;
        let is_plain = seen.is_empty();
        match &self.key.shape {
            Shape::Ed25519(key) if is_plain && kind == b"ssh-ed25519" => {
                Some(ed25519(key, value, signed))
            }
            Shape::Ecdsa(curve, point) if is_plain && kind == self.kind() => {
                ecdsa(*curve, point, value, &curve.hash().digest(signed))
            }
            Shape::Rsa { e, n } if is_plain => {
                let hash = match kind {
                    b"rsa-sha2-256" => Hash::Sha256,
                    b"rsa-sha2-512" => Hash::Sha512,
                    // `ssh-rsa` is SHA-1.
                    _ => return None,
                };
                Some(rsa(e, n, hash, value, signed))
            }
            Shape::SkEd25519(key, application) if kind == self.kind() && seen.len() == 5 => {
                Some(ed25519(key, value, &by_token(application, seen, signed)))
            }
            Shape::SkEcdsa(point, application) if kind == self.kind() && seen.len() == 5 => {
                let digest = sha256(&by_token(application, seen, signed));
                ecdsa(Curve::P256, point, value, &digest)
            }
            _ => None,
        }
    }

    fn kind(&self) -> &[u8] {
        Wire(&self.key.blob).string().unwrap_or_default()
    }
}

/// What a hardware token signs: PROTOCOL.u2f, "SSH U2F Signatures".
fn by_token(application: &[u8], seen: &[u8], signed: &[u8]) -> Vec<u8> {
    [&sha256(application), seen, &sha256(signed)].concat()
}

fn ecdsa(
    curve: Curve,
    point: &[u8],
    value: &[u8],
    digest: &[u8],
) -> Option<Result<bool, ErrorStack>> {
    let mut wire = Wire(value);
    let (r, s) = (wire.number_of_any_size()?, wire.number_of_any_size()?);
    if !wire.0.is_empty() {
        return None;
    }
    Some(arithmetic::ecdsa(curve, point, r, s, digest))
}

pub(super) fn push_string(to: &mut Vec<u8>, text: &[u8]) {
    to.extend_from_slice(&u32::try_from(text.len()).unwrap_or(u32::MAX).to_be_bytes());
    to.extend_from_slice(text);
}

impl<'a> Wire<'a> {
    fn string(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.take(length)
    }

    /// A number that is not negative, without needless zeros in front (RFC 4251 §5).
    fn number_of_any_size(&mut self) -> Option<&'a [u8]> {
        let bytes = self.string()?;
        let is_written_right = match bytes {
            [] => false,
            [0, second, ..] => *second >= 0x80,
            [first, ..] => *first < 0x80,
        };
        is_written_right.then_some(bytes)
    }

    fn shape(&mut self, kind: &[u8]) -> Option<Shape> {
        let raw = |bytes: &[u8]| <[u8; 32]>::try_from(bytes).ok();
        Some(match kind {
            b"ssh-ed25519" => Shape::Ed25519(raw(self.string()?)?),
            b"ssh-rsa" => {
                let e = self.number_of_any_size()?.to_vec();
                Shape::Rsa { e, n: self.number_of_any_size()?.to_vec() }
            }
            b"sk-ssh-ed25519@openssh.com" => {
                let key = raw(self.string()?)?;
                Shape::SkEd25519(key, self.string()?.to_vec())
            }
            b"sk-ecdsa-sha2-nistp256@openssh.com" => {
                let point = self.point(Curve::P256)?;
                Shape::SkEcdsa(point, self.string()?.to_vec())
            }
            _ => {
                let curve = Curve::parse(kind.strip_prefix(b"ecdsa-sha2-")?)?;
                Shape::Ecdsa(curve, self.point(curve)?)
            }
        })
    }

    /// A point of the curve that is named before it.
    fn point(&mut self, curve: Curve) -> Option<Vec<u8>> {
        let named = Curve::parse(self.string()?)?;
        let point = self.string()?.to_vec();
        (named == curve).then_some(point)
    }
}
