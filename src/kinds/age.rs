//! Keys of age: a padlock that anybody may have (a recipient), and the key to it (an identity).
//!
//! Written as age and SOPS write them, `age1…` and `AGE-SECRET-KEY-1…`: 32 bytes of X25519 in Bech32
//! (<https://age-encryption.org/v1>). The limit: hardware tokens, passphrases, ssh keys and the
//! post-quantum `age1pq1…` are other kinds of locks, and are told apart by name only.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use openssl::error::ErrorStack;
use openssl::pkey::{Id, PKey, Private};
use zeroize::Zeroizing;

/// How long a key of X25519 is.
pub const KEY_BYTES: usize = 32;
const RECIPIENT: &str = "age";
const IDENTITY: &str = "age-secret-key-";

/// For whom something is encrypted: an X25519 public key.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Recipient([u8; KEY_BYTES]);

impl Recipient {
    /// A public key as it is.
    pub fn of(public: [u8; KEY_BYTES]) -> Self {
        Self(public)
    }

    /// The public key.
    pub fn bytes(&self) -> &[u8; KEY_BYTES] {
        &self.0
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bech32::encode(RECIPIENT, &self.0))
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Recipient {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let other = |prefix| text.len() > 60 && text.starts_with(prefix);
        if text.starts_with("ssh-") {
            return Err("is an ssh key; Windlass opens age's own keys (age1…) only");
        }
        if other("age1pq1") {
            return Err("is a post-quantum key of age, which is not built yet");
        }
        let key = bech32::decode(RECIPIENT, text).ok_or("is not a recipient of age (age1…)")?;
        Ok(Self(*key))
    }
}

/// What opens that which was encrypted for its recipient. Prints its recipient only.
#[derive(Clone)]
pub struct Identity {
    secret: Zeroizing<[u8; KEY_BYTES]>,
    recipient: Recipient,
}

impl Identity {
    /// The identity of a secret key.
    pub fn of(secret: Zeroizing<[u8; KEY_BYTES]>) -> Result<Self, ErrorStack> {
        let recipient = Recipient(public(&private(&secret)?)?);
        Ok(Self { secret, recipient })
    }

    /// For whom that was encrypted which it opens.
    pub fn recipient(&self) -> Recipient {
        self.recipient
    }

    /// The secret key.
    pub fn private(&self) -> Result<PKey<Private>, ErrorStack> {
        private(&self.secret)
    }

    /// `AGE-SECRET-KEY-1…`, for the file that keeps it.
    pub fn to_secret_text(&self) -> Zeroizing<String> {
        Zeroizing::new(bech32::encode(IDENTITY, &self.secret).to_ascii_uppercase())
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Identity({})", self.recipient)
    }
}

impl FromStr for Identity {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.starts_with("AGE-PLUGIN-") {
            return Err("is a key of a plugin of age, which Windlass does not run");
        }
        let lower = Zeroizing::new(text.to_ascii_lowercase());
        let is_upper = !text.bytes().any(|byte| byte.is_ascii_lowercase());
        let secret = bech32::decode(IDENTITY, &lower).filter(|_| is_upper);
        let secret = secret.ok_or("is not an identity of age (AGE-SECRET-KEY-1…)")?;
        Self::of(secret).map_err(|_| "is no key of X25519")
    }
}

fn private(secret: &[u8; KEY_BYTES]) -> Result<PKey<Private>, ErrorStack> {
    PKey::private_key_from_raw_bytes(secret, Id::X25519)
}

/// The public half of a key.
pub fn public(key: &PKey<Private>) -> Result<[u8; KEY_BYTES], ErrorStack> {
    let bytes = key.raw_public_key()?;
    // X25519 has no keys of another length.
    Ok(bytes.try_into().unwrap_or_default())
}

/// What a node can open, or why nothing.
#[derive(Clone, Debug, Default)]
pub struct Keyring {
    /// Its keys.
    pub identities: Vec<Identity>,
    /// The file that they are read from.
    pub file: String,
    /// Why there are none, where there should be some.
    pub trouble: Option<String>,
}

impl Keyring {
    /// Reads a file as `age-keygen` writes it: a key a line, empty lines, comments.
    pub fn parse(file: &str, text: &str) -> Self {
        let mut keyring = Self { file: file.to_owned(), ..Self::default() };
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match line.parse() {
                Ok(identity) => keyring.identities.push(identity),
                // The line itself is not said: it may be a key.
                Err(why) => {
                    keyring.trouble = Some(format!("line {} of {file} {why}", at + 1));
                }
            }
        }
        if keyring.identities.is_empty() && keyring.trouble.is_none() {
            keyring.trouble = Some(format!("{file} has no key in it"));
        }
        keyring
    }

    /// For whom that was encrypted which it opens.
    pub fn recipients(&self) -> Vec<Recipient> {
        self.identities.iter().map(Identity::recipient).collect()
    }

    /// Whether it opens the same.
    pub fn is_same(&self, other: &Self) -> bool {
        self.recipients() == other.recipients() && self.trouble == other.trouble
    }
}

/// What nobody without a key can read: a Secret as the commit has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Sealed {
    /// The file that it stands in: SOPS vouches for files, not for objects.
    pub path: Arc<str>,
    /// The file's text.
    pub text: Arc<str>,
    /// Where in the file the object begins, as line and column.
    pub at: (u32, u32),
    /// The names of its values.
    pub keys: Vec<String>,
    /// For whom it is encrypted; files of age don't say.
    pub recipients: Vec<String>,
    /// Its values, where each is a file of age by itself; none where SOPS has encrypted the file.
    pub values: BTreeMap<String, Arc<str>>,
}

impl fmt::Debug for Sealed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, at, keys, recipients, .. } = self;
        write!(f, "Sealed({path}:{} {keys:?} for {recipients:?})", at.0)
    }
}

/// Bech32 (BIP 173) without its bound on length, as age uses it.
mod bech32 {
    use zeroize::Zeroizing;

    use super::KEY_BYTES;

    const LETTERS: &[u8; 32] = b"qpzry9x8gf2tvdw0s3jn54khce6mua7l";
    const CHECKSUM: usize = 6;

    fn polymod(values: impl Iterator<Item = u8>) -> u32 {
        const GENERATOR: [u32; 5] =
            [0x3b6a_57b2, 0x2650_8e6d, 0x1ea1_19fa, 0x3d42_33dd, 0x2a14_62b3];
        values.fold(1, |sum, value| {
            let top = sum >> 25;
            let shifted = (sum & 0x01ff_ffff) << 5 ^ u32::from(value);
            let used = GENERATOR.iter().enumerate().filter(|(bit, _)| top >> bit & 1 == 1);
            used.fold(shifted, |sum, (_, generator)| sum ^ generator)
        })
    }

    fn expanded(prefix: &str) -> impl Iterator<Item = u8> + '_ {
        let high = prefix.bytes().map(|byte| byte >> 5);
        high.chain(std::iter::once(0)).chain(prefix.bytes().map(|byte| byte & 31))
    }

    /// Regroups bits; what is left over at the end is filled up with zeros.
    fn regroup(data: &[u8], from: u32, to: u32) -> Zeroizing<Vec<u8>> {
        let mut out = Zeroizing::new(Vec::with_capacity(data.len() * 2));
        let (mut held, mut bits) = (0_u32, 0);
        for byte in data {
            held = (held << from | u32::from(*byte)) & 0xffff;
            bits += from;
            while bits >= to {
                bits -= to;
                out.push((held >> bits & ((1 << to) - 1)).to_le_bytes()[0]);
            }
        }
        if bits > 0 {
            out.push((held << (to - bits) & ((1 << to) - 1)).to_le_bytes()[0]);
        }
        out
    }

    pub(super) fn encode(prefix: &str, data: &[u8; KEY_BYTES]) -> String {
        let words = regroup(data, 8, 5);
        let padded = words.iter().copied().chain([0; CHECKSUM]);
        let sum = polymod(expanded(prefix).chain(padded)) ^ 1;
        let check = (0..CHECKSUM).map(|at| (sum >> (5 * (5 - at)) & 31).to_le_bytes()[0]);
        let letters = words.iter().copied().chain(check);
        let letters = letters.map(|word| char::from(LETTERS[usize::from(word)]));
        format!("{prefix}1{}", letters.collect::<String>())
    }

    pub(super) fn decode(prefix: &str, text: &str) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
        let letters = text.strip_prefix(prefix)?.strip_prefix('1')?;
        let value = |byte| LETTERS.iter().position(|letter| *letter == byte);
        let words: Option<Vec<u8>> =
            letters.bytes().map(|byte| u8::try_from(value(byte)?).ok()).collect();
        let words = Zeroizing::new(words?);
        if polymod(expanded(prefix).chain(words.iter().copied())) != 1 {
            return None;
        }
        let data = &words[..words.len().checked_sub(CHECKSUM)?];
        let bytes = regroup(data, 5, 8);
        // 256 bits are 52 words of five, four bits of which say nothing and must be zero.
        let (key, rest) = bytes.split_at_checked(KEY_BYTES)?;
        let is_whole =
            data.len() == (KEY_BYTES * 8).div_ceil(5) && rest.iter().all(|byte| *byte == 0);
        let mut out = Zeroizing::new([0; KEY_BYTES]);
        out.copy_from_slice(key);
        is_whole.then_some(out)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Made by `age-keygen` 1.1.1, and used nowhere else.
    const SECRET: &str =
        "AGE-SECRET-KEY-149DS54TCMK90V7MCCDZMFV29GS97XJFQ7DD8TEPQDAQSKH5GG56SSCTT92";
    const PUBLIC: &str = "age16d947vl58jh2a7g0gdsvc89ujzf7wx7edtckf3arzygaq4eugunqyfzjc8";

    #[test]
    fn a_key_of_age_keygen_is_read_and_written_the_same() {
        let identity: Identity = SECRET.parse().expect("a key");
        assert_eq!(identity.recipient().to_string(), PUBLIC);
        assert_eq!(*identity.to_secret_text(), SECRET);
        let recipient: Recipient = PUBLIC.parse().expect("a recipient");
        assert_eq!(recipient, identity.recipient());
    }

    #[test]
    fn one_letter_more_less_or_other_is_no_key() {
        for at in 0..SECRET.len() {
            for other in ["Q", "P", "1", ""] {
                let mut text = SECRET.to_owned();
                text.replace_range(at..=at, other);
                if text != SECRET {
                    assert!(text.parse::<Identity>().is_err(), "{text}");
                }
            }
        }
        assert!(SECRET.to_ascii_lowercase().parse::<Identity>().is_err());
        assert!(PUBLIC.to_ascii_uppercase().parse::<Recipient>().is_err());
        assert!(format!("{PUBLIC}q").parse::<Recipient>().is_err());
    }

    #[test]
    fn what_is_no_key_of_ours_is_named_and_not_repeated() {
        let table = [
            ("", "f has no key in it"),
            ("# only a comment\n\n", "f has no key in it"),
            (
                "AGE-PLUGIN-YUBIKEY-1QQQ",
                "line 1 of f is a key of a plugin of age, which Windlass does not run",
            ),
            ("\nhunter2", "line 2 of f is not an identity of age (AGE-SECRET-KEY-1…)"),
        ];
        for (text, trouble) in table {
            assert_eq!(Keyring::parse("f", text).trouble.as_deref(), Some(trouble), "{text:?}");
        }
        let keyring = Keyring::parse("f", &format!("# created: now\n# public key: x\n{SECRET}\n"));
        assert_eq!(keyring.trouble, None);
        assert_eq!(keyring.recipients().len(), 1);
        let printed = format!("{keyring:?}");
        assert!(!printed.contains("SECRET"), "{printed}");
    }
}
