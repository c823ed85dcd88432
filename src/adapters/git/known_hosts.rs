//! Is this the server we know? The list of known hosts answers as OpenSSH reads it (sshd(8),
//! SSH_KNOWN_HOSTS FILE FORMAT): plain, with a port, with patterns, hashed, revoked.
//!
//! libgit2 has a check of its own, against `~/.ssh/known_hosts` only, and can't say what was wrong.
//! The limit: certificates of hosts (`@cert-authority`) are not understood by libssh2 and are
//! passed over.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use sha1::{Digest as _, Sha1};

/// What the list says of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the host's.
    Known,
    /// Nothing is known of the host.
    Unknown,
    /// The host is known by another key of the same type, in this line.
    Changed { line: usize, known: HostKey },
    /// The host is known, by keys of other types only.
    OtherType { line: usize, known: HostKey },
    /// The key must not be used any more.
    Revoked { line: usize },
}

/// A server's public key, as on the wire (RFC 4253 §6.6): its type stands first in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HostKey(pub(super) Vec<u8>);

impl HostKey {
    /// `ssh-ed25519` and the like.
    pub(super) fn kind(&self) -> &str {
        let Some((length, rest)) = self.0.split_first_chunk::<4>() else {
            return "unknown";
        };
        let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
        rest.get(..length).and_then(|kind| std::str::from_utf8(kind).ok()).unwrap_or("unknown")
    }

    /// `SHA256:…`, as `ssh-keygen -l` shows it.
    pub(super) fn fingerprint(&self) -> String {
        let digest = sha2::Sha256::digest(&self.0);
        format!("SHA256:{}", STANDARD_NO_PAD.encode(digest))
    }
}

/// As it stands in the list: type and base64.
impl fmt::Display for HostKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind(), STANDARD.encode(&self.0))
    }
}

/// How a host is written in the list.
pub(super) fn written(host: &str, port: u16) -> String {
    if port == 22 { host.to_owned() } else { format!("[{host}]:{port}") }
}

/// Looks a server's key up. Where several lines fit, one that has the key wins, except a revoked
/// one, which always wins.
pub(super) fn look_up(list: &str, host: &str, port: u16, shown: &HostKey) -> Verdict {
    let name = written(&host.to_lowercase(), port);
    let mut verdict = Verdict::Unknown;
    for (index, text) in list.lines().enumerate() {
        let line = index + 1;
        let Some(entry) = Entry::parse(text) else {
            continue;
        };
        if !entry.is_for(&name) {
            continue;
        }
        match entry.mark {
            Mark::Revoked if entry.key == *shown => return Verdict::Revoked { line },
            Mark::Revoked | Mark::Authority => {}
            Mark::None if entry.key == *shown => verdict = Verdict::Known,
            Mark::None if verdict == Verdict::Known => {}
            Mark::None => {
                let known = entry.key;
                let same_type = known.kind() == shown.kind();
                match verdict {
                    Verdict::Changed { .. } => {}
                    _ if same_type => verdict = Verdict::Changed { line, known },
                    Verdict::Unknown => verdict = Verdict::OtherType { line, known },
                    _ => {}
                }
            }
        }
    }
    verdict
}

/// Whether a line of the list is about this host.
pub(super) fn is_about(line: &str, host: &str, port: u16) -> bool {
    let name = written(&host.to_lowercase(), port);
    Entry::parse(line).is_some_and(|entry| entry.is_for(&name))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    None,
    Authority,
    Revoked,
}

struct Entry<'a> {
    mark: Mark,
    hosts: &'a str,
    key: HostKey,
}

impl<'a> Entry<'a> {
    /// Reads a line; none for comments and for lines that say nothing we understand.
    fn parse(line: &'a str) -> Option<Self> {
        let line = line.trim();
        if line.starts_with('#') {
            return None;
        }
        let mut words = line.split_ascii_whitespace();
        let mut hosts = words.next()?;
        let mark = match hosts {
            "@revoked" => Mark::Revoked,
            "@cert-authority" => Mark::Authority,
            _ => Mark::None,
        };
        if mark != Mark::None {
            hosts = words.next()?;
        }
        let _kind = words.next()?;
        let key = STANDARD.decode(words.next()?).ok()?;
        Some(Self { mark, hosts, key: HostKey(key) })
    }

    fn is_for(&self, name: &str) -> bool {
        if let Some(hashed) = self.hosts.strip_prefix("|1|") {
            return hashed_matches(hashed, name).unwrap_or(false);
        }
        let mut matches = false;
        for pattern in self.hosts.split(',') {
            match pattern.strip_prefix('!') {
                Some(not) if pattern_matches(not, name) => return false,
                Some(_) => {}
                None => matches |= pattern_matches(pattern, name),
            }
        }
        matches
    }
}

/// `salt|hash`, both base64; the hash is HMAC-SHA1 of the name with the salt as key.
fn hashed_matches(hashed: &str, name: &str) -> Option<bool> {
    let (salt, hash) = hashed.split_once('|')?;
    let salt = STANDARD.decode(salt).ok()?;
    let hash = STANDARD.decode(hash).ok()?;
    Some(hmac_sha1(&salt, name.as_bytes()) == hash)
}

/// RFC 2104. Salts are as long as the digest, so keys above the block size need not be handled.
fn hmac_sha1(key: &[u8], text: &[u8]) -> Vec<u8> {
    let mut block = [0u8; 64];
    for (to, from) in block.iter_mut().zip(key) {
        *to = *from;
    }
    let inner =
        Sha1::new().chain_update(block.map(|byte| byte ^ 0x36)).chain_update(text).finalize();
    Sha1::new().chain_update(block.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().to_vec()
}

/// `*` stands for any text and `?` for any character, as in ssh_config(5), PATTERNS.
fn pattern_matches(pattern: &str, name: &str) -> bool {
    let pattern: Vec<char> = pattern.to_lowercase().chars().collect();
    let name: Vec<char> = name.chars().collect();
    let (mut p, mut n) = (0, 0);
    // Where the last `*` stands, and how much it covers: the only choice that need be undone.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => {
                p += 1;
                n += 1;
            }
            _ => {
                let Some((at, covered)) = star else {
                    return false;
                };
                p = at + 1;
                n = covered + 1;
                star = Some((at, covered + 1));
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(kind: &str, body: &str) -> HostKey {
        let mut blob = u32::try_from(kind.len()).expect("short").to_be_bytes().to_vec();
        blob.extend_from_slice(kind.as_bytes());
        blob.extend_from_slice(body.as_bytes());
        HostKey(blob)
    }

    #[test]
    fn lines_are_understood_as_openssh_understands_them() {
        let a = key("ssh-ed25519", "a");
        let b = key("ssh-ed25519", "b");
        let rsa = key("ssh-rsa", "r");
        let changed = |line| Verdict::Changed { line, known: b.clone() };
        let table = [
            (format!("git.example {a} me"), Verdict::Known),
            (format!("GIT.example {a}"), Verdict::Known),
            (format!("other,git.example {a}"), Verdict::Known),
            (format!("other {a}"), Verdict::Unknown),
            (format!("[git.example]:22 {a}"), Verdict::Unknown),
            (format!("[git.example]:2222 {a}"), Verdict::Unknown),
            (format!("*.example {a}"), Verdict::Known),
            (format!("git.* {a}"), Verdict::Known),
            (format!("g?t.example {a}"), Verdict::Known),
            (format!("*.example,!git.example {a}"), Verdict::Unknown),
            (format!("# git.example {a}"), Verdict::Unknown),
            (format!("\n\ngit.example {b}"), changed(3)),
            (format!("git.example {b}\ngit.example {a}"), Verdict::Known),
            (format!("git.example {rsa}"), Verdict::OtherType { line: 1, known: rsa.clone() }),
            (format!("git.example {rsa}\ngit.example {b}"), changed(2)),
            (format!("git.example {a}\n@revoked * {a}"), Verdict::Revoked { line: 2 }),
            (format!("@cert-authority *.example {a}"), Verdict::Unknown),
            ("git.example ssh-ed25519 !!!".into(), Verdict::Unknown),
            ("git.example".into(), Verdict::Unknown),
        ];
        for (list, expected) in table {
            assert_eq!(look_up(&list, "git.example", 22, &a), expected, "{list}");
        }
        let list = format!("[git.example]:2222 {a}");
        assert_eq!(look_up(&list, "git.example", 2222, &a), Verdict::Known);
        assert_eq!(a.kind(), "ssh-ed25519");
    }

    #[test]
    fn a_hashed_name_is_found() {
        // Made by ssh-keygen -H, as Debian's ssh writes its list.
        let body = "AAAAC3NzaC1lZDI1NTE5AAAAIIk3XLm1zTrzDUg4xwQ7W3S1k951P0shnEp4ss4vdYJ1";
        let list = format!(
            "|1|nuUFt5HnhhMuWw3VNRMUwCrP6DQ=|WpnggzX4JfKOqqJwxL36A/o4Dzo= ssh-ed25519 {body}"
        );
        let key = HostKey(STANDARD.decode(body).expect("base64"));
        assert_eq!(look_up(&list, "git.example", 2222, &key), Verdict::Known);
        assert_eq!(look_up(&list, "git.example", 22, &key), Verdict::Unknown);
        assert_eq!(key.fingerprint(), "SHA256:SAYSECF3NXo2HdVQZrUpQMM6ZPUUSXLB6INQT5aMRmg");
        // RFC 2202, test case 2.
        let hex = |bytes: Vec<u8>| bytes.iter().map(|b| format!("{b:02x}")).collect::<String>();
        assert_eq!(
            hex(hmac_sha1(b"Jefe", b"what do ya want for nothing?")),
            "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79"
        );
    }
}
