//! Signatures that Git and ssh-keygen made, and whole histories of commits signed here.

mod history;

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::ec::{EcGroup, EcKey};
use openssl::ecdsa::EcdsaSig;
use openssl::nid::Nid;
use openssl::pkey::{Id, PKey};
use openssl::sha::{sha256, sha512};
use openssl::sign::Signer as Pen;
use proptest::prelude::*;

use super::policy::Policy;
use super::sshsig::{BEGIN, Key, Signature, push_string};
use super::{Distrust, commit, fingerprint, parse_fingerprint};
use crate::kinds::time::Wall;

/// The key of `ed25519.txt`.
pub(in crate::desired) const ADA: &str = "ssh-ed25519 \
     AAAAC3NzaC1lZDI1NTE5AAAAIA7CKQ7Z4MhlkG0UjZ1qEl/m/Tx2bD1TRrCzuQ0D49vP";

/// Commits that `git commit -S` made with keys of ssh-keygen 9.2, and the keys' fingerprints as
/// `ssh-keygen -l` prints them.
const BY_GIT: [(&str, &str); 3] = [
    (include_str!("ed25519.txt"), "SHA256:bF6Y5/p1GASu+fl2n7H3lGkQInHAwXP7JSdPvp8VRHw"),
    (include_str!("ecdsa.txt"), "SHA256:3QTI7DNIy9JxDcpMzIFvs7WFoRRRWLZU9GkWyT/6aIE"),
    (include_str!("rsa.txt"), "SHA256:beshBF/8LSvX6PukrUiZIhqH2ruvnoE5k5hbPsRSk98"),
];

/// Somebody with a key that is the same in every run.
#[derive(Clone, Copy)]
pub(super) struct Hand(pub(super) u8);

impl Hand {
    fn key(self) -> PKey<openssl::pkey::Private> {
        PKey::private_key_from_raw_bytes(&[self.0; 32], Id::ED25519).expect("a key")
    }

    fn blob(self) -> Vec<u8> {
        let mut blob = Vec::new();
        push_string(&mut blob, b"ssh-ed25519");
        push_string(&mut blob, &self.key().raw_public_key().expect("a public key"));
        blob
    }

    /// As `allowed_signers` has it.
    pub(super) fn public(self) -> String {
        format!("ssh-ed25519 {}", STANDARD.encode(self.blob()))
    }

    pub(super) fn fingerprint(self) -> String {
        let text = STANDARD.encode(self.blob());
        Key::parse("ssh-ed25519", &text).expect("a key").fingerprint()
    }

    /// The armoured signature of a message.
    pub(super) fn sign(self, namespace: &str, message: &[u8]) -> String {
        let signed = signed(namespace, message);
        let key = self.key();
        let mut pen = Pen::new_without_digest(&key).expect("a pen");
        let value = pen.sign_oneshot_to_vec(&signed).expect("signed");
        let mut signature = Vec::new();
        push_string(&mut signature, b"ssh-ed25519");
        push_string(&mut signature, &value);
        armour(&self.blob(), namespace, &signature)
    }
}

fn signed(namespace: &str, message: &[u8]) -> Vec<u8> {
    let mut signed = b"SSHSIG".to_vec();
    for part in [namespace.as_bytes(), b"", b"sha512", &sha512(message)] {
        push_string(&mut signed, part);
    }
    signed
}

fn armour(key: &[u8], namespace: &str, signature: &[u8]) -> String {
    let mut bytes = b"SSHSIG\0\0\0\x01".to_vec();
    for part in [key, namespace.as_bytes(), b"", b"sha512", signature] {
        push_string(&mut bytes, part);
    }
    let base64 = STANDARD.encode(bytes);
    let mut text = BEGIN.to_owned();
    for line in base64.as_bytes().chunks(70) {
        let _ = writeln!(text, "{}", String::from_utf8_lossy(line));
    }
    text + "-----END SSH SIGNATURE-----\n"
}

fn is_good(raw: &[u8]) -> bool {
    let Ok(commit) = commit::read(raw) else { return false };
    let signature = commit.signature.and_then(|armour| Signature::read(&armour).ok());
    signature.is_some_and(|signature| signature.is_of(&commit.payload))
}

#[test]
fn what_git_signed_is_good() {
    for (raw, fingerprint) in BY_GIT {
        let commit = commit::read(raw.as_bytes()).expect("is one");
        assert_eq!(commit.time, Wall::from_seconds(1_700_000_000));
        let signature = Signature::read(&commit.signature.expect("is signed")).expect("is read");
        assert_eq!(signature.key.fingerprint(), fingerprint);
        assert_eq!(signature.namespace, "git");
        assert!(signature.is_of(&commit.payload), "{fingerprint}");
        assert!(!signature.is_of(b"something else"));
    }
}

/// Every one of them, one after the other, and what is not a commit any more.
#[test]
fn no_commit_with_one_letter_changed_is_good() {
    for (raw, key) in BY_GIT {
        let raw = raw.as_bytes();
        for at in 0..raw.len() {
            let mut changed = raw.to_vec();
            changed[at] ^= 1;
            // The name of a header that nobody signs for does not exist: all of it counts.
            assert!(!is_good(&changed), "{key}: byte {at}");
        }
    }
}

/// Which of three commits it was, and what became of it: a piece cut out, another put in.
pub(super) fn mutated(raws: [&'static str; 3]) -> impl Strategy<Value = (usize, Vec<u8>)> {
    let put = prop::collection::vec(any::<u8>(), 0..40);
    let mutate = move |(which, at, cut, put): (usize, prop::sample::Index, usize, Vec<u8>)| {
        let raw = raws[which].as_bytes();
        let from = at.index(raw.len());
        let to = (from + cut).min(raw.len());
        (which, [&raw[..from], &put, &raw[to..]].concat())
    };
    (0..3_usize, any::<prop::sample::Index>(), 0..40_usize, put)
        .prop_map(mutate)
        .prop_filter("it is as it was", move |(which, now)| now != raws[*which].as_bytes())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_mutated_commit_is_good((_, mutated) in mutated(BY_GIT.map(|(raw, _)| raw))) {
        prop_assert!(!is_good(&mutated), "{}", String::from_utf8_lossy(&mutated));
    }

    #[test]
    fn any_armour_is_read_without_harm(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let text = format!("{BEGIN}{}\n-----END SSH SIGNATURE-----\n", STANDARD.encode(&bytes));
        prop_assert!(Signature::read(&text).is_err());
        let inner = [b"SSHSIG\0\0\0\x01".as_slice(), &bytes].concat();
        let text = format!("{BEGIN}{}\n-----END SSH SIGNATURE-----\n", STANDARD.encode(&inner));
        prop_assert!(!Signature::read(&text).is_ok_and(|signature| signature.is_of(b"x")));
    }
}

/// A hardware token signs a digest of the message and what it has seen.
#[test]
fn what_a_hardware_token_signed_is_good() {
    let application = b"ssh:";
    let seen = [1, 0, 0, 0, 7];
    let message = b"tree\n";
    let by_token = [&sha256(application)[..], &seen, &sha256(&signed("git", message))].concat();

    let hand = Hand(9);
    let key = hand.key();
    let mut blob = Vec::new();
    for part in
        [&b"sk-ssh-ed25519@openssh.com"[..], &key.raw_public_key().expect("raw"), application]
    {
        push_string(&mut blob, part);
    }
    let value =
        Pen::new_without_digest(&key).and_then(|mut pen| pen.sign_oneshot_to_vec(&by_token));
    let mut signature = Vec::new();
    push_string(&mut signature, b"sk-ssh-ed25519@openssh.com");
    push_string(&mut signature, &value.expect("signed"));
    signature.extend_from_slice(&seen);
    let good = Signature::read(&armour(&blob, "git", &signature)).expect("is read");
    assert!(good.is_of(message));
    assert!(!good.is_of(b"tree"));
    *signature.last_mut().expect("seen") = 8;
    let other = Signature::read(&armour(&blob, "git", &signature)).expect("is read");
    assert!(!other.is_of(message), "the counter is signed as well");

    let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("a curve");
    let key = EcKey::generate(&group).expect("a key");
    let mut context = openssl::bn::BigNumContext::new().expect("a context");
    let form = openssl::ec::PointConversionForm::UNCOMPRESSED;
    let point = key.public_key().to_bytes(&group, form, &mut context).expect("a point");
    let mut blob = Vec::new();
    for part in [&b"sk-ecdsa-sha2-nistp256@openssh.com"[..], b"nistp256", &point, application] {
        push_string(&mut blob, part);
    }
    let value = EcdsaSig::sign(&sha256(&by_token), &key).expect("signed");
    let number = |number: &openssl::bn::BigNumRef| {
        let bytes = number.to_vec();
        if bytes[0] >= 0x80 { [&[0], &bytes[..]].concat() } else { bytes }
    };
    let mut pair = Vec::new();
    push_string(&mut pair, &number(value.r()));
    push_string(&mut pair, &number(value.s()));
    let mut signature = Vec::new();
    push_string(&mut signature, b"sk-ecdsa-sha2-nistp256@openssh.com");
    push_string(&mut signature, &pair);
    signature.extend_from_slice(&seen);
    let good = Signature::read(&armour(&blob, "git", &signature)).expect("is read");
    assert!(good.is_of(message));
    assert!(!good.is_of(b"tree"));
}

fn policy(text: &str) -> Policy {
    Policy::of(text.as_bytes()).unwrap_or_else(|findings| panic!("{text}: {findings:?}"))
}

#[test]
fn a_policy_says_whose_key_it_is() {
    let (ada, bob) = (Hand(1), Hand(2));
    let text = format!(
        "signed: tip\nallowedSigners: |\n  # the office\n  ada@x,ada {}\n  \
         bob@x namespaces=\"file\" {}\n  eve@x valid-after=\"20260101Z\",\
         valid-before=\"20270101Z\" {}\n  mal@x {}\nrevoked: [\"{}\"]\n\
         groups:\n  admins: [ada, eve@x]\n  all: [ada@x]\n  others: [bob@x]\n",
        ada.public(),
        bob.public(),
        Hand(3).public(),
        Hand(4).public(),
        Hand(4).fingerprint(),
    );
    let policy = policy(&text);
    let at = |text: &str| Wall::parse(text).expect("a time");
    let asked = |hand: Hand, namespace: &str, when: &str| {
        let signature = Signature::read(&hand.sign(namespace, b"x")).expect("is read");
        policy.admit(&signature, at(when))
    };
    let now = "2026-06-01T00:00:00Z";
    let signer = asked(ada, "git", now).expect("is good");
    assert_eq!((&*signer.name, signer.groups.join(",")), ("ada@x", "admins,all".to_owned()));
    assert_eq!(signer.key, ada.fingerprint());
    assert_eq!(asked(ada, "file", now), Err(Distrust::Namespace("file".into())));
    assert!(
        matches!(asked(bob, "git", now), Err(Distrust::OtherUse { name, .. }) if name == "bob@x")
    );
    assert!(asked(Hand(3), "git", now).is_ok());
    assert!(matches!(
        asked(Hand(3), "git", "2025-12-31T23:59:59Z"),
        Err(Distrust::TooEarly { .. })
    ));
    assert!(matches!(asked(Hand(3), "git", "2027-01-01T00:00:01Z"), Err(Distrust::TooLate { .. })));
    assert_eq!(asked(Hand(4), "git", now), Err(Distrust::Revoked(Hand(4).fingerprint())));
    assert_eq!(asked(Hand(5), "git", now), Err(Distrust::Unknown(Hand(5).fingerprint())));
}

#[test]
fn what_a_policy_can_not_say() {
    let key = Hand(1).public();
    let good = format!("allowedSigners: ada {key}");
    for (text, why) in [
        ("", "names no key that could sign"),
        ("allowedSigners: ''", "names no key that could sign"),
        ("allowedSigners: [x]", "1:17: error: allowedSigners: expected the lines"),
        ("allowedSigners: '*@x KEY'", "allowedSigners: line 1: *@x is a pattern"),
        ("allowedSigners: ada namespaces=\"file\" KEY", "names no key that could sign"),
        ("GOOD\nsigned: maybe", "2:9: error: signed: expected commits, tip or tag"),
        ("GOOD\nsigned: tag\ntags: [v1]", "3:7: error: tags: expected a pattern of tags' names"),
        ("GOOD\ntags: v*", "tags: counts only with signed: tag"),
        ("openpgp: []", "names no key that could sign"),
        ("GOOD\nopenpgp: x", "2:10: error: openpgp: expected a list of names with their keys"),
        ("GOOD\nopenpgp: [{name: ada}]", "2:11: error: openpgp[0]: needs both name and key"),
        ("GOOD\nopenpgp: [{keys: x}]", "did you mean \"key\"?"),
        ("GOOD\nopenpgp: [{name: ada, key: x}]", "openpgp[0].key: the armour of the public key"),
        ("GOOD\nsinged: tip", "did you mean \"signed\"?"),
        ("GOOD\nkind: Bundle", "give the manifest another name"),
        ("GOOD\nimages: [x]", "2:9: error: images: expected a map with allowed and digest"),
        ("GOOD\nimages: {allowed: [nginx]}", "images.allowed[0]: \"nginx\" is no registry"),
        ("GOOD\nimages: {digest: yes please}", "images.digest: expected required or optional"),
        ("GOOD\nimages: {digests: required}", "images.digests: unknown setting"),
        ("GOOD\nrevoked: [abc]", "\"abc\" is no fingerprint"),
        ("GOOD\nrevoked: [\"PRINT\"]", "names no key that could sign"),
        ("GOOD\ngroups: [x]", "groups: expected a map"),
        ("GOOD\ngroups: {a: x}", "groups[a]: expected a list of signers"),
        ("GOOD\nGOOD", "allowedSigners"),
        ("GOOD\n---\nGOOD", "can have one document only"),
        ("- x", "expected a map"),
    ] {
        let text = text
            .replace("GOOD", &good)
            .replace("KEY", &key)
            .replace("PRINT", &Hand(1).fingerprint());
        let findings = Policy::of(text.as_bytes()).expect_err(&text);
        let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(said.iter().any(|line| line.contains(why)), "{text}: {said:?}");
    }
}

#[test]
fn a_fingerprint_is_read_back() {
    let text = fingerprint(b"x");
    assert_eq!(parse_fingerprint(&text).map(|digest| format!("sha256:{digest}")), Ok(text.clone()));
    for wrong in ["", "sha256:", &text[7..], "sha256:xyz", "SHA256:abc"] {
        assert!(parse_fingerprint(wrong).is_err(), "{wrong}");
    }
}
