//! Commits that `git commit -S` signed with GnuPG's keys, good ones and those that may not.

use windlass::adapters::git::Source;
use windlass::desired::trust::{TRUST_FILE, fingerprint};
use windlass::kinds::binding::Oid;

use super::source::{Shelf, fetch};
use super::trust::ask;
use crate::support::gpg::Gpg;

/// When keys are made; a day.
const T0: i64 = 1_690_000_000;
const DAY: i64 = 86_400;

/// Commits at this time, and pushes.
fn commit(shelf: &Shelf, message: &str, at: i64) -> Oid {
    let date = format!("{at} +0000");
    let work = shelf.work();
    crate::support::must_git(&work, &["add", "-A"]);
    let status = std::process::Command::new("git")
        .current_dir(&work)
        .env("GIT_AUTHOR_DATE", &date)
        .env("GIT_COMMITTER_DATE", &date)
        .args(["-c", "user.name=x", "-c", "user.email=x@example.org", "commit", "-q"])
        .args(["--allow-empty", "-m", message])
        .status();
    assert!(status.expect("git runs").success(), "{message}");
    shelf.git(&["push", "-q", "--force", "origin", "HEAD:main"]);
    Oid::new(&shelf.git(&["rev-parse", "HEAD"]))
}

/// Keys as they were when commits were signed, and as `trust.yaml` has them.
fn keyrings(shelf: &Shelf) -> (Gpg, Gpg) {
    let before = Gpg::make(&shelf.dir.path().join("g1"));
    for (name, spec) in [
        ("ada", ["ed25519", "sign", "never"]),
        ("cyd", ["nistp384", "sign", "never"]),
        ("old", ["ed25519", "sign", "2d"]),
        ("longer", ["ed25519", "sign", "2d"]),
        ("gone", ["ed25519", "sign", "never"]),
        ("eve", ["ed25519", "sign", "never"]),
    ] {
        before.key(T0, name, spec, &[]);
    }
    for (name, usage) in [("rsa", "cert"), ("part", "cert"), ("unfit", "sign")] {
        before.key(T0, name, ["rsa2048", usage, "never"], &[]);
        before.subkey(T0 + 1, name, ["rsa2048", "sign", "never"], &[]);
    }
    let after = before.copy(&shelf.dir.path().join("g2"));
    let longer = after.fingerprint("longer", 0);
    after.run(T0 + DAY, &["--quick-set-expire", &longer, "30d"]);
    let gone = after.fingerprint("gone", 0);
    let file = shelf.dir.path().join(format!("g2/openpgp-revocs.d/{gone}.rev"));
    let text =
        std::fs::read_to_string(&file).expect("a revocation").replace(":-----BEGIN", "-----BEGIN");
    std::fs::write(&file, text).expect("written");
    after.run(T0 + DAY, &["--import", &file.display().to_string()]);
    let part = after.fingerprint("part", 0);
    after.edit(T0 + DAY, &part, &["key 1", "revkey", "y", "0", "", "y", "save"]);
    let unfit = after.fingerprint("unfit", 0);
    after.edit(T0 + DAY, &unfit, &["key 1", "change-usage", "a", "s", "q", "save"]);
    (before, after)
}

#[tokio::test]
async fn commits_signed_with_gnupg_are_judged() {
    let shelf = Shelf::new();
    let (before, after) = keyrings(&shelf);
    let names = ["ada", "cyd", "rsa", "old", "longer", "gone", "part", "unfit"];
    let entries: String = names.iter().map(|name| after.entry(name)).collect();
    let trust = format!("openpgp:\n{entries}");
    let pin = fingerprint(trust.as_bytes());
    shelf.write(TRUST_FILE, &trust);
    before.sign_with(&shelf.work(), "ada", T0 + 10, &[]);
    let root = commit(&shelf, "trust", T0 + 10);
    let source = Source::open(shelf.config()).expect("opens");

    let (soon, late) = (T0 + DAY, T0 + 3 * DAY);
    let sha1: &[&str] = &["--digest-algo", "SHA1"];
    // Who signs, when, with what; when the commit says it is; the part that signs; what is said.
    for (name, signed, more, dated, part, want) in [
        ("ada", soon, &[][..], soon, 0, Ok(())),
        ("cyd", soon, &[], soon, 0, Ok(())),
        ("rsa", soon, &[], soon, 1, Ok(())),
        ("rsa", soon, &["--digest-algo", "SHA256"], soon, 1, Ok(())),
        ("old", soon, &[], soon, 0, Ok(())),
        ("old", soon, &[], late, 0, Err("was good until")),
        // Its owner has said later that it is good for longer.
        ("longer", soon, &[], late, 0, Ok(())),
        ("longer", soon, &[], T0 + 40 * DAY, 0, Err("was good until")),
        ("gone", soon, &[], soon, 0, Err("has revoked")),
        ("part", soon, &[], soon, 1, Err("has revoked")),
        ("unfit", soon, &[], soon, 1, Err("which is not for signing")),
        ("eve", soon, &[], soon, 0, Err("trust.yaml does not name")),
        ("ada", soon, sha1, soon, 0, Err("by SHA-1, which is too weak")),
        ("rsa", soon, sha1, soon, 1, Err("by SHA-1, which is too weak")),
    ] {
        let case = format!("{name} {more:?} at {dated}");
        shelf.git(&["checkout", "-q", "-B", "main", root.as_str()]);
        before.sign_with(&shelf.work(), name, signed, more);
        let tip = commit(&shelf, &case, dated);
        fetch(&source).await.expect("fetched");
        let print = before.fingerprint(name, part);
        match (ask(&source, &tip, &pin).await, want) {
            (Ok(vouched), Ok(())) => {
                assert_eq!(vouched.signer.key, print, "{case}");
                assert_eq!(&*vouched.signer.name, format!("{name}@example.org"));
            }
            (Err((culprit, why)), Err(part)) => {
                let said = why.to_string();
                assert_eq!(culprit, tip, "{case}");
                assert!(said.contains(part) && said.contains(&print), "{case}: {said}");
            }
            (other, want) => panic!("{case}: wanted {want:?}, found {other:?}"),
        }
    }
}

/// What a key says of itself by SHA-1 anybody with some money could have it say.
#[test]
fn a_key_that_says_what_it_is_by_sha_1_is_none() {
    let shelf = Shelf::new();
    let gpg = Gpg::make(&shelf.dir.path().join("g"));
    gpg.key(T0, "weak", ["rsa2048", "sign", "never"], &["--cert-digest-algo", "SHA1"]);
    gpg.key(T0, "dsa", ["dsa2048", "sign", "never"], &[]);
    gpg.key(T0, "cert", ["ed25519", "cert", "never"], &[]);
    for (name, want) in [
        ("weak", "is signed with SHA-1, which is too weak"),
        ("dsa", "is a DSA key, which is too weak"),
        ("cert", "has no part that is for signing"),
    ] {
        let text = format!("openpgp:\n{}", gpg.entry(name));
        let findings = windlass::desired::trust::Policy::of(text.as_bytes()).expect_err(name);
        let said: Vec<String> = findings.iter().map(ToString::to_string).collect();
        assert!(
            said.iter().any(|line| line.contains(want) && line.contains(&gpg.fingerprint(name, 0))),
            "{name}: {said:?}"
        );
    }
}
