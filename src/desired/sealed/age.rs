//! Files of age: a message under a key of its own, that key under the padlock of each recipient.
//!
//! ```text
//!   age-encryption.org/v1
//!   -> X25519 <a key for once>          one for each recipient
//!   <the file's key, encrypted>
//!   --- <MAC of the above>
//!   <nonce><chunks of 64 KiB, each with its tag>
//! ```
//! <https://age-encryption.org/v1>, on OpenSSL, which is linked already: the crate of rage brings eighty
//! others, most of them for messages in many languages. The limit: X25519 only, armoured files only,
//! as SOPS and manifests have them.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use openssl::derive::Deriver;
use openssl::error::ErrorStack;
use openssl::hash::MessageDigest;
use openssl::memcmp;
use openssl::pkey::{Id, PKey};
use openssl::sign::Signer;
use openssl::symm::{Cipher, decrypt_aead, encrypt_aead};
use zeroize::Zeroizing;

use super::Chance;
use crate::kinds::age::{Identity, KEY_BYTES, Recipient, public};

/// How an armoured file begins.
pub(crate) const BEGIN: &str = "-----BEGIN AGE ENCRYPTED FILE-----";
const END: &str = "-----END AGE ENCRYPTED FILE-----";
const COLUMNS: usize = 64;
const VERSION: &str = "age-encryption.org/v1\n";
const X25519: &str = "age-encryption.org/v1/X25519";
const FILE_KEY_BYTES: usize = 16;
const NONCE_BYTES: usize = 16;
const CHUNK_BYTES: usize = 64 * 1024;
const TAG_BYTES: usize = 16;
/// So many recipients of one file are tried.
const STANZAS_MAX: usize = 1000;

/// Why a file of age can't be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unopened {
    /// None of the keys is for it.
    #[error("none of the keys opens it")]
    NoKey,
    /// It is not what somebody has encrypted.
    #[error("it was changed after it was encrypted, or is no file of age")]
    Broken,
}

impl From<ErrorStack> for Unopened {
    fn from(_: ErrorStack) -> Self {
        Self::Broken
    }
}

/// Whether this is an armoured file, for whomever.
pub(super) fn is_file(text: &str) -> bool {
    unarmour(text).is_some_and(|bytes| Header::parse(&bytes).is_some())
}

/// Opens an armoured file.
pub(super) fn open(armoured: &str, keys: &[Identity]) -> Result<Zeroizing<Vec<u8>>, Unopened> {
    let bytes = unarmour(armoured).ok_or(Unopened::Broken)?;
    let header = Header::parse(&bytes).ok_or(Unopened::Broken)?;
    let file_key = header.file_key(keys)?;
    let mac = hmac(&*hkdf(&file_key, &[], "header")?, &[header.signed])?;
    if mac.len() != header.mac.len() || !memcmp::eq(&mac, &header.mac) {
        return Err(Unopened::Broken);
    }
    let (nonce, body) = header.payload.split_at_checked(NONCE_BYTES).ok_or(Unopened::Broken)?;
    read_chunks(&*hkdf(&file_key, nonce, "payload")?, body)
}

/// Encrypts `plain` for all of `recipients`.
pub(super) fn seal(
    plain: &[u8],
    recipients: &[Recipient],
    chance: &mut Chance<'_>,
) -> Result<String, ErrorStack> {
    let mut file_key = Zeroizing::new([0; FILE_KEY_BYTES]);
    chance(&mut *file_key);
    let mut header = VERSION.to_owned();
    for recipient in recipients {
        let mut once = Zeroizing::new([0; KEY_BYTES]);
        chance(&mut *once);
        let once = PKey::private_key_from_raw_bytes(&*once, Id::X25519)?;
        let share = public(&once)?;
        let key = wrapping_key(&once, recipient.bytes(), &share, recipient)?;
        let body = chacha_seal(&*key, &[0; 12], &*file_key)?;
        let (share, body) = (STANDARD_NO_PAD.encode(share), STANDARD_NO_PAD.encode(body));
        header.push_str(&format!("-> X25519 {share}\n{body}\n"));
    }
    header.push_str("---");
    let mac = hmac(&*hkdf(file_key.as_slice(), &[], "header")?, &[header.as_bytes()])?;
    let mut out = format!("{header} {}\n", STANDARD_NO_PAD.encode(mac)).into_bytes();
    let mut nonce = [0; NONCE_BYTES];
    chance(&mut nonce);
    out.extend_from_slice(&nonce);
    let key = hkdf(file_key.as_slice(), &nonce, "payload")?;
    let chunks = plain.chunks(CHUNK_BYTES).collect::<Vec<_>>();
    let chunks = if chunks.is_empty() { vec![&[][..]] } else { chunks };
    for (at, chunk) in chunks.iter().enumerate() {
        let nonce = chunk_nonce(at, at + 1 == chunks.len());
        out.extend(chacha_seal(&*key, &nonce, chunk)?);
    }
    Ok(armour(&out))
}

fn unarmour(text: &str) -> Option<Vec<u8>> {
    let body = text.trim().strip_prefix(BEGIN)?.strip_suffix(END)?;
    let mut lines: Vec<&str> = body.split('\n').map(|line| line.trim_end_matches('\r')).collect();
    // What stands beside the marks on their lines: nothing.
    if lines.len() < 3 || !lines.remove(0).is_empty() || !lines.pop()?.is_empty() {
        return None;
    }
    let (last, whole) = lines.split_last()?;
    let is_even = whole.iter().all(|line| line.len() == COLUMNS);
    let fits = is_even && (1..=COLUMNS).contains(&last.len());
    if fits { STANDARD.decode(lines.concat()).ok() } else { None }
}

fn armour(bytes: &[u8]) -> String {
    let text = STANDARD.encode(bytes);
    let mut out = format!("{BEGIN}\n");
    for line in text.as_bytes().chunks(COLUMNS) {
        // Base64 is ASCII.
        out.push_str(std::str::from_utf8(line).unwrap_or_default());
        out.push('\n');
    }
    out + END + "\n"
}

/// What stands before the message.
struct Header<'a> {
    /// The shares and bodies of the stanzas for X25519.
    stanzas: Vec<([u8; KEY_BYTES], Vec<u8>)>,
    /// What the MAC is of.
    signed: &'a [u8],
    mac: Vec<u8>,
    payload: &'a [u8],
}

impl<'a> Header<'a> {
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let mut at = VERSION.len();
        if bytes.get(..at)? != VERSION.as_bytes() {
            return None;
        }
        let line_from = |at: usize| {
            let length = bytes.get(at..)?.iter().position(|byte| *byte == b'\n')?;
            let line = std::str::from_utf8(&bytes[at..at + length]).ok()?;
            Some((line, at + length + 1))
        };
        let mut stanzas = Vec::new();
        for _ in 0..STANZAS_MAX {
            let (line, next) = line_from(at)?;
            if let Some(mac) = line.strip_prefix("--- ") {
                let signed = &bytes[..at + 3];
                let mac = STANDARD_NO_PAD.decode(mac).ok()?;
                return Some(Self { stanzas, signed, mac, payload: &bytes[next..] });
            }
            let words: Vec<&str> = line.strip_prefix("-> ")?.split(' ').collect();
            at = next;
            let mut body = String::new();
            loop {
                let (line, next) = line_from(at)?;
                at = next;
                body.push_str(line);
                match line.len() {
                    COLUMNS => {}
                    0..COLUMNS => break,
                    _ => return None,
                }
            }
            let body = STANDARD_NO_PAD.decode(body).ok()?;
            if let ["X25519", share] = words.as_slice() {
                let share = STANDARD_NO_PAD.decode(share).ok()?;
                stanzas.push((share.try_into().ok()?, body));
            }
        }
        None
    }

    fn file_key(&self, keys: &[Identity]) -> Result<Zeroizing<Vec<u8>>, Unopened> {
        for identity in keys {
            let private = identity.private()?;
            for (share, body) in &self.stanzas {
                if body.len() != FILE_KEY_BYTES + TAG_BYTES {
                    return Err(Unopened::Broken);
                }
                // One that is not for this key opens with none, and neither does one that is broken.
                let key = wrapping_key(&private, share, share, &identity.recipient())?;
                if let Some(file_key) = chacha_open(&*key, &[0; 12], body) {
                    return Ok(file_key);
                }
            }
        }
        Err(Unopened::NoKey)
    }
}

/// The key under which a file's key is sent to one recipient.
fn wrapping_key(
    own: &PKey<openssl::pkey::Private>,
    peer: &[u8; KEY_BYTES],
    share: &[u8; KEY_BYTES],
    recipient: &Recipient,
) -> Result<Zeroizing<[u8; KEY_BYTES]>, ErrorStack> {
    let peer = PKey::public_key_from_raw_bytes(peer, Id::X25519)?;
    let mut deriver = Deriver::new(own)?;
    deriver.set_peer(&peer)?;
    // OpenSSL gives no secret that is all zeros, which points of small order would lead to.
    let shared = Zeroizing::new(deriver.derive_to_vec()?);
    hkdf(&shared, &[share.as_slice(), recipient.bytes()].concat(), X25519)
}

/// HKDF-SHA256 (RFC 5869) of one block: 32 bytes.
fn hkdf(key: &[u8], salt: &[u8], info: &str) -> Result<Zeroizing<[u8; KEY_BYTES]>, ErrorStack> {
    // No salt is a salt of zeros (RFC 5869 §2.2).
    let salt = if salt.is_empty() { &[0; KEY_BYTES] } else { salt };
    let extracted = Zeroizing::new(hmac(salt, &[key])?);
    let expanded = Zeroizing::new(hmac(&extracted, &[info.as_bytes(), &[1]])?);
    let mut out = Zeroizing::new([0; KEY_BYTES]);
    out.copy_from_slice(&expanded);
    Ok(out)
}

fn hmac(key: &[u8], parts: &[&[u8]]) -> Result<Vec<u8>, ErrorStack> {
    let key = PKey::hmac(key)?;
    let mut signer = Signer::new(MessageDigest::sha256(), &key)?;
    for part in parts {
        signer.update(part)?;
    }
    signer.sign_to_vec()
}

/// The nonce of a chunk: its number, and whether it is the last.
fn chunk_nonce(number: usize, is_last: bool) -> [u8; 12] {
    let mut nonce = [0; 12];
    nonce[3..11].copy_from_slice(&(number as u64).to_be_bytes());
    nonce[11] = u8::from(is_last);
    nonce
}

fn read_chunks(key: &[u8], body: &[u8]) -> Result<Zeroizing<Vec<u8>>, Unopened> {
    let mut plain = Zeroizing::new(Vec::with_capacity(body.len()));
    let chunks: Vec<&[u8]> = body.chunks(CHUNK_BYTES + TAG_BYTES).collect();
    for (at, chunk) in chunks.iter().enumerate() {
        let is_last = at + 1 == chunks.len();
        let opened = chacha_open(key, &chunk_nonce(at, is_last), chunk).ok_or(Unopened::Broken)?;
        // Only an empty message ends with an empty chunk.
        if opened.is_empty() && at > 0 {
            return Err(Unopened::Broken);
        }
        plain.extend_from_slice(&opened);
    }
    if chunks.is_empty() { Err(Unopened::Broken) } else { Ok(plain) }
}

fn chacha_seal(key: &[u8], nonce: &[u8; 12], plain: &[u8]) -> Result<Vec<u8>, ErrorStack> {
    let mut tag = [0; TAG_BYTES];
    let cipher = Cipher::chacha20_poly1305();
    let mut out = encrypt_aead(cipher, key, Some(nonce), &[], plain, &mut tag)?;
    out.extend_from_slice(&tag);
    Ok(out)
}

fn chacha_open(key: &[u8], nonce: &[u8; 12], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
    let (body, tag) = sealed.split_at_checked(sealed.len().checked_sub(TAG_BYTES)?)?;
    let cipher = Cipher::chacha20_poly1305();
    decrypt_aead(cipher, key, Some(nonce), &[], body, tag).ok().map(Zeroizing::new)
}
