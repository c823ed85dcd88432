//! One value as SOPS writes it: `ENC[AES256_GCM,data:…,iv:…,tag:…,type:str]`.
//!
//! The path of a value goes into its tag, so a value can't be moved to another key. Its type does not:
//! the MAC over the whole file is what vouches for it (`aes/cipher.go` of SOPS).

use openssl::symm::{Cipher, decrypt_aead, encrypt_aead};
use zeroize::Zeroizing;

use super::super::base64;
use super::{Chance, Unsealed};

/// How long a file's key is.
pub(super) const DATA_KEY_BYTES: usize = 32;
/// SOPS' nonces, longer than AES-GCM's usual 12 bytes.
const NONCE_BYTES: usize = 32;
/// AES-GCM would take shorter tags, and those can be guessed.
const TAG_BYTES: usize = 16;
const BEGIN: &str = "ENC[AES256_GCM,";

/// Whether a text is such a value, or means to be.
pub(super) fn is_sealed(text: &str) -> bool {
    text.starts_with("ENC[") && text.ends_with(']')
}

/// An encrypted value, taken apart.
struct Value<'t> {
    data: Vec<u8>,
    nonce: Vec<u8>,
    tag: Vec<u8>,
    kind: &'t str,
}

impl<'t> Value<'t> {
    fn parse(text: &'t str) -> Option<Self> {
        let mut parts = text.strip_prefix(BEGIN)?.strip_suffix(']')?.split(',');
        let mut part = |name: &str| parts.next()?.strip_prefix(name)?.strip_prefix(':');
        let bytes = |text: &str| base64::decode(text);
        let (data, nonce, tag) = (bytes(part("data")?)?, bytes(part("iv")?)?, bytes(part("tag")?)?);
        let kind = part("type")?;
        let fits = nonce.len() == NONCE_BYTES && tag.len() == TAG_BYTES && parts.next().is_none();
        fits.then_some(Self { data, nonce, tag, kind })
    }
}

/// What was encrypted: text, or what the MAC has of a number or a boolean.
pub(super) struct Opened {
    /// Its bytes.
    pub(super) bytes: Zeroizing<Vec<u8>>,
    /// Whether it was text.
    pub(super) is_text: bool,
}

/// Opens a value that stands at a path; `said` is the path as SOPS writes it into the tag.
pub(super) fn open(text: &str, key: &[u8], said: &str) -> Result<Opened, Unsealed> {
    let bytes = Zeroizing::new(Vec::new());
    // SOPS leaves empty texts as they are.
    if text.is_empty() {
        return Ok(Opened { bytes, is_text: true });
    }
    let broken = || Unsealed::Value(said.trim_end_matches(':').to_owned());
    let value = Value::parse(text).ok_or_else(broken)?;
    let cipher = Cipher::aes_256_gcm();
    let plain =
        decrypt_aead(cipher, key, Some(&value.nonce), said.as_bytes(), &value.data, &value.tag);
    let plain = Zeroizing::new(plain.map_err(|_| broken())?);
    let text = || std::str::from_utf8(&plain).map_err(|_| broken());
    let (bytes, is_text) = match value.kind {
        "str" | "bytes" => (plain, true),
        "int" => {
            let number: i64 = text()?.parse().map_err(|_| broken())?;
            (Zeroizing::new(number.to_string().into_bytes()), false)
        }
        "float" => {
            let number: f64 = text()?.parse().map_err(|_| broken())?;
            (Zeroizing::new(number.to_string().into_bytes()), false)
        }
        "bool" => match text()? {
            "True" | "true" => (Zeroizing::new(b"True".to_vec()), false),
            "False" | "false" => (Zeroizing::new(b"False".to_vec()), false),
            _ => return Err(broken()),
        },
        "time" => (plain, false),
        _ => return Err(broken()),
    };
    Ok(Opened { bytes, is_text })
}

/// Encrypts a text for its place.
pub(super) fn seal(
    plain: &[u8],
    key: &[u8],
    said: &str,
    chance: &mut Chance<'_>,
) -> Result<String, Unsealed> {
    if plain.is_empty() {
        return Ok(String::new());
    }
    let (mut nonce, mut tag) = ([0; NONCE_BYTES], [0; TAG_BYTES]);
    chance(&mut nonce);
    let cipher = Cipher::aes_256_gcm();
    let data = encrypt_aead(cipher, key, Some(&nonce), said.as_bytes(), plain, &mut tag)
        .map_err(|_| Unsealed::Value(said.to_owned()))?;
    let (data, nonce, tag) = (base64::encode(&data), base64::encode(&nonce), base64::encode(&tag));
    Ok(format!("{BEGIN}data:{data},iv:{nonce},tag:{tag},type:str]"))
}
