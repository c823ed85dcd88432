//! Fingerprints: how one content is told from another without keeping both.
//!
//! Everything here is a pure function of bytes, so two agents that see the same manifest give it
//! the same name.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

/// The alphabet of Kubernetes' generated names (`k8s.io/apimachinery/pkg/util/rand`): no vowels,
/// so no words by accident, and no look-alikes.
const SAFE_ALPHABET: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// A SHA-256 of some content.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

impl Digest {
    /// Digests `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }

    /// Digests several parts; a part's length is digested with it, so that `["ab", "c"]` and
    /// `["a", "bc"]` differ.
    pub fn of_parts<'a>(parts: impl IntoIterator<Item = &'a [u8]>) -> Self {
        let mut hasher = Sha256::new();
        for part in parts {
            hasher.update((part.len() as u64).to_be_bytes());
            hasher.update(part);
        }
        Self(hasher.finalize().into())
    }

    /// The first 16 bytes, for a [`super::name::Uid`].
    pub fn first_16(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&self.0[..16]);
        bytes
    }

    /// The first 8 bytes as a number: for spreading and for seeds.
    pub fn first_u64(&self) -> u64 {
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&self.0[..8]);
        u64::from_be_bytes(bytes)
    }

    /// `len` characters of Kubernetes' safe alphabet, as in `web-7d9f8c5b4-x2x9z`.
    pub fn safe_text(&self, len: usize) -> String {
        self.0
            .iter()
            .take(len)
            .map(|&byte| char::from(SAFE_ALPHABET[usize::from(byte) % SAFE_ALPHABET.len()]))
            .collect()
    }

    /// The digest whose bytes these are: what a streaming hasher came to.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads `sha256:` and 64 lower-case hexadecimal digits, as registries write digests.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.strip_prefix("sha256:").filter(|hex| hex.len() == 64)?;
        let is_lower = hex.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let bytes = unhex(hex).filter(|_| is_lower)?;
        Some(Self(bytes.try_into().ok()?))
    }

    /// As registries write it.
    pub fn prefixed(&self) -> String {
        format!("sha256:{self}")
    }

    /// All 64 hexadecimal digits.
    pub fn hex(&self) -> String {
        hex(&self.0)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.hex()[..12])
    }
}

impl Serialize for Digest {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = unhex(&text)
            .and_then(|bytes| <[u8; 32]>::try_from(bytes).ok())
            .ok_or_else(|| serde::de::Error::custom("a digest is 64 hexadecimal digits"))?;
        Ok(Self(bytes))
    }
}

/// Lower-case hexadecimal of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    let digit = |value: u8| char::from(b"0123456789abcdef"[usize::from(value & 0xf)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(*byte)]).collect()
}

/// The bytes of a hexadecimal text, or `None` if it is not one.
pub fn unhex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_survives_json() {
        let digest = Digest::of(b"windlass");
        let json = serde_json::to_string(&digest).expect("serializes");
        assert_eq!(serde_json::from_str::<Digest>(&json).expect("parses"), digest);
        assert!(serde_json::from_str::<Digest>("\"xyz\"").is_err());
    }

    #[test]
    fn parts_do_not_run_into_each_other() {
        let one = Digest::of_parts([b"ab".as_slice(), b"c".as_slice()]);
        let other = Digest::of_parts([b"a".as_slice(), b"bc".as_slice()]);
        assert_ne!(one, other);
    }

    #[test]
    fn registries_digests_are_read_strictly() {
        let digest = Digest::of(b"x");
        assert_eq!(Digest::parse(&digest.prefixed()), Some(digest));
        let hex = digest.hex();
        for text in [hex.clone(), format!("sha256:{}", hex.to_uppercase()), "sha256:12".into()] {
            assert_eq!(Digest::parse(&text), None, "{text}");
        }
    }

    #[test]
    fn safe_text_has_no_vowels() {
        let text = Digest::of(b"x").safe_text(10);
        assert_eq!(text.len(), 10);
        assert!(text.bytes().all(|b| SAFE_ALPHABET.contains(&b)));
    }
}
