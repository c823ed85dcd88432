//! Commits that `git commit -S` made with GnuPG 2.2 in November 2023, by keys of July; and the samples of RFC 9580.
//! What a key may not is tried with GnuPG itself, in `tests/git/openpgp.rs`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use openssl::pkey::{Id, PKey};
use openssl::sha::sha512;
use openssl::sign::Signer as Pen;
use proptest::prelude::*;

use super::super::commit;
use super::super::policy::Policy;
use super::super::seal::Seal;
use super::super::tests::mutated;
use super::*;
use crate::kinds::time::Wall;

/// A commit, the key, and the fingerprint of the part that signed.
const BY_GIT: [(&str, &str, &str); 3] = [
    (include_str!("ada.txt"), include_str!("ada.asc"), "05DCE176FA0115DFDE393D1AD2263F0953BC346A"),
    // By a subkey; there is one for encryption as well.
    (include_str!("bob.txt"), include_str!("bob.asc"), "FF4F8B6D51A1C7583A105BBABF01B575523E012F"),
    (include_str!("cyd.txt"), include_str!("cyd.asc"), "FECA90860FB5B66A94EA9A3A6A863BFD36B59613"),
];

fn is_good(raw: &[u8], cert: &str) -> bool {
    let Ok(commit) = commit::read(raw) else { return false };
    let (Some(armour), Ok(cert)) = (commit.signature, Cert::read(cert)) else { return false };
    let Ok(signature) = Signature::read(&armour) else { return false };
    let mut members = cert.members().iter();
    members.any(|member| {
        *member.standing() == Standing::Signs && member.signed(&signature, &commit.payload)
    })
}

fn indented(text: &str) -> String {
    text.lines().map(|line| format!("    {line}\n")).collect()
}

fn policy(name: &str, cert: &str, more: &str) -> Policy {
    let text = format!("openpgp:\n- name: {name}\n  key: |\n{}{more}", indented(cert));
    Policy::of(text.as_bytes()).unwrap_or_else(|findings| panic!("{text}: {findings:?}"))
}

fn judge(policy: &Policy, raw: &str, at: Wall) -> Result<String, String> {
    let commit = commit::read(raw.as_bytes()).expect("is one");
    let seal = Seal::read(&commit.signature.expect("is signed")).map_err(|why| why.to_string())?;
    let signer = policy.check(&seal, &commit.payload, at);
    signer.map(|signer| signer.to_string()).map_err(|why| why.to_string())
}

#[test]
fn what_gnupg_signed_is_good() {
    let at = Wall::from_seconds(1_700_000_000);
    for (raw, cert, print) in BY_GIT {
        assert!(is_good(raw.as_bytes(), cert), "{print}");
        let said = judge(&policy("ada@x", cert, ""), raw, at);
        assert_eq!(said, Ok(format!("ada@x ({print})")));
    }
}

#[test]
fn a_key_counts_from_when_it_is_until_when_it_was() {
    let (raw, cert, print) = BY_GIT[2];
    let known = policy("cyd@x", cert, "");
    // Three years from July 2023; what is asked is never what the time is now.
    let judged = |seconds| judge(&known, raw, Wall::from_seconds(seconds));
    let until = 1_690_000_000 + 3 * 365 * 86_400;
    assert!(judged(until - 1).is_ok());
    assert!(judged(0).is_ok(), "a date may lie before the key's; the signature's own may not");
    let late = judged(until).expect_err("is over");
    assert!(late.contains(print) && late.contains("was good until"), "{late}");

    let revoked = policy(
        "cyd@x",
        BY_GIT[2].1,
        &format!(
            "- name: ada@x\n  key: |\n{}revoked: [\"{}\"]\n",
            indented(BY_GIT[0].1),
            print.to_lowercase(),
        ),
    );
    let said = judge(&revoked, raw, Wall::from_seconds(1)).expect_err("is revoked");
    assert!(said.contains(print) && said.contains("has revoked"), "{said}");

    let unknown = judge(&policy("ada@x", BY_GIT[0].1, ""), raw, Wall::from_seconds(1));
    let said = unknown.expect_err("is not known");
    assert!(said.contains(print) && said.contains("does not name"), "{said}");
}

/// A key is revoked with all that belongs to it, and one part by itself.
#[test]
fn a_main_key_takes_its_parts_along() {
    let (raw, cert, part) = BY_GIT[1];
    let ada = format!("- name: ada@x\n  key: |\n{}", indented(BY_GIT[0].1));
    let main = Cert::read(cert).expect("is one").fingerprint().to_owned();
    assert_ne!(main, part);
    for print in [&main, part] {
        let policy = policy("bob@x", cert, &format!("{ada}revoked: [\"{print}\"]\n"));
        let said = judge(&policy, raw, Wall::from_seconds(1)).expect_err("is revoked");
        assert!(said.contains(part) && said.contains("has revoked"), "{said}");
    }
}

#[test]
fn no_commit_with_one_letter_changed_is_good() {
    for (raw, cert, print) in BY_GIT {
        let raw = raw.as_bytes();
        for at in 0..raw.len() {
            let mut changed = raw.to_vec();
            changed[at] ^= 1;
            assert!(!is_good(&changed, cert), "{print}: byte {at}");
        }
    }
}

/// The key of a quorum of tests is small; what is changed in it must not make it another that counts.
#[test]
fn no_key_with_one_bit_changed_signs() {
    for (raw, cert, print) in BY_GIT {
        let bytes = packet::bare(cert, "PUBLIC KEY BLOCK").expect("is one");
        let step = if bytes.len() > 1000 { 7 } else { 1 };
        let mut is_same = 0;
        for at in (0..bytes.len()).step_by(step) {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            let armour = block("PUBLIC KEY BLOCK", &changed);
            is_same += usize::from(is_good(raw.as_bytes(), &armour));
        }
        // What nobody signs: hints, and parts that are not those that signed.
        assert!(is_same < bytes.len() / step / 2, "{print}: {is_same}");
    }
}

fn block(label: &str, bytes: &[u8]) -> String {
    format!(
        "-----BEGIN PGP {label}-----\n\n{}\n-----END PGP {label}-----\n",
        STANDARD.encode(bytes)
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn no_mutated_commit_is_good((which, mutated) in mutated(BY_GIT.map(|(raw, ..)| raw))) {
        prop_assert!(!is_good(&mutated, BY_GIT[which].1), "{}", String::from_utf8_lossy(&mutated));
    }

    #[test]
    fn anything_is_read_without_harm(
        which in 0..3_usize,
        at in any::<prop::sample::Index>(),
        put in prop::collection::vec(any::<u8>(), 0..200),
    ) {
        let _ = Signature::read(&block("SIGNATURE", &put));
        let _ = Signature::unpack(&put);
        let _ = Cert::read(&block("PUBLIC KEY BLOCK", &put));
        let good = packet::bare(BY_GIT[which].1, "PUBLIC KEY BLOCK").expect("is one");
        let from = at.index(good.len());
        let mixed = [&good[..from], &put, good.get(from + put.len()..).unwrap_or_default()].concat();
        let _ = Cert::read(&block("PUBLIC KEY BLOCK", &mixed));
    }
}

/// RFC 9580, A.3, and the secret of A.4.
const V6: &str = include_str!("v6.asc");
const V6_PRINT: &str = "CB186C4F0609A697E4D52DFA6C722B0C1F1E27C18A56708F6525EC27BAD9ACC9";
const V6_SECRET: &str = "1972817b12be707e8d5f586ce61361201d344eb266a2c82fde6835762b65b0b7";

/// A signature of version 6 with that key.
fn v6_signature(message: &[u8], hash: u8) -> String {
    let hex = |text: &str| -> Vec<u8> {
        let digits = |at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal");
        (0..text.len()).step_by(2).map(digits).collect()
    };
    let hashed =
        [&[5, 2][..], &1_700_000_000_u32.to_be_bytes(), &[34, 33, 6], &hex(V6_PRINT)].concat();
    let length = u32::try_from(hashed.len()).expect("short").to_be_bytes();
    let own = [&[6, 0, 27, hash][..], &length, &hashed].concat();
    let salt = [7; 32];
    let end = [&[6, 0xFF][..], &u32::try_from(own.len()).expect("short").to_be_bytes()].concat();
    let digest = sha512(&[&salt[..], message, &own, &end].concat());
    let key = PKey::private_key_from_raw_bytes(&hex(V6_SECRET), Id::ED25519).expect("a key");
    let mut pen = Pen::new_without_digest(&key).expect("a pen");
    let value = pen.sign_oneshot_to_vec(&digest).expect("signed");
    let body = [&own[..], &[0; 4], &digest[..2], &[32], &salt, &value].concat();
    let packet =
        [&[0xC2, 0xFF][..], &u32::try_from(body.len()).expect("short").to_be_bytes(), &body];
    block("SIGNATURE", &packet.concat())
}

#[test]
fn a_key_of_version_6_signs() {
    let cert = Cert::read(V6).expect("is one");
    assert_eq!(cert.fingerprint(), V6_PRINT);
    let standings: Vec<&Standing> = cert.members().iter().map(Member::standing).collect();
    assert_eq!(standings[0], &Standing::Signs);
    assert!(matches!(standings[1], Standing::Unfit(_)), "is for encryption");
    let signature = Signature::read(&v6_signature(b"x", 10)).expect("is read");
    assert_eq!(signature.fingerprint(), V6_PRINT);
    assert!(cert.members()[0].signed(&signature, b"x"));
    assert!(!cert.members()[0].signed(&signature, b"y"));
    assert!(
        Signature::read(&v6_signature(b"x", 8)).is_err(),
        "the salt is as long as the digest asks"
    );
}

#[test]
fn what_is_no_key_for_trust() {
    for (text, why) in [
        ("", "damaged"),
        ("-----BEGIN PGP PRIVATE KEY BLOCK-----\n", "SECRET key"),
        (&block("PUBLIC KEY BLOCK", &[0xC5, 0]), "SECRET key"),
        (&block("PUBLIC KEY BLOCK", &[]), "does not begin with a key"),
        (&block("PUBLIC KEY BLOCK", &[0xCD, 1, b'x']), "does not begin with a key"),
        (&block("PUBLIC KEY BLOCK", &[0xC6, 6, 3, 0, 0, 0, 0, 1]), "version 3"),
        (&block("PUBLIC KEY BLOCK", &[0xC6, 224, 1]), "damaged"),
        // A part of a packet, were its length that of a subpacket.
        (&block("PUBLIC KEY BLOCK", &[&[0xCD, 224, 0][..], &[b'x'; 8384]].concat()), "damaged"),
        (&block("PUBLIC KEY BLOCK", &[0x9B, 1, 2, 3]), "damaged"),
        (BY_GIT[0].0, "damaged"),
    ] {
        let said = Cert::read(text).expect_err(text);
        assert!(said.contains(why), "{text}: {said}");
    }
    // Two keys in one block; a checksum that is another's.
    let both: Vec<u8> = [BY_GIT[0].1, BY_GIT[2].1]
        .iter()
        .flat_map(|cert| packet::bare(cert, "PUBLIC KEY BLOCK").expect("is one"))
        .collect();
    let said = Cert::read(&block("PUBLIC KEY BLOCK", &both)).expect_err("are two");
    assert!(said.contains("more than one key"), "{said}");
    let other = BY_GIT[0].1.replace("=2nvv", "=2nvw");
    assert!(Cert::read(&other).expect_err("is damaged").contains("damaged"));
}

/// Who signs with a key that is not his can't have it count as his by hanging it below his own.
#[test]
fn a_subkey_agrees_to_be_one() {
    // Bob's signing subkey loses its back-signature, which nobody signs for: the last packet but two.
    let bytes = packet::bare(BY_GIT[1].1, "PUBLIC KEY BLOCK").expect("is one");
    let at = bytes.windows(2).position(|two| two == [32, 4]);
    let at = at.expect("a back-signature");
    let mut changed = bytes;
    // Another kind of subpacket: a notation, which is not looked at there.
    changed[at] = 20;
    let cert = Cert::read(&block("PUBLIC KEY BLOCK", &changed)).expect("is one");
    let standing = cert.members()[1].standing();
    assert_eq!(*standing, Standing::Unfit("has not agreed to be its main key's".into()));
}
