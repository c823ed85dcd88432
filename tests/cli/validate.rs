//! `windlass validate` on good directories and bad ones.

use std::path::Path;

use serde_json::Value;

use super::{expect, transcript, windlass};
use crate::support::keys::Keys;
use crate::support::{must_git, scratch};

fn validate(dir: &Path, args: &[&str]) -> (String, Option<i32>) {
    let output = windlass(&["validate"]).args(args).arg(dir).output().expect("runs");
    let text = transcript("validate DIR", &output).replace(&dir.display().to_string(), "DIR");
    (text, output.status.code())
}

fn write(dir: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        let path = dir.join(path);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("makes it");
        std::fs::write(path, text).expect("writes");
    }
}

const GOOD: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {a: b}\n";
const BAD: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: b}\ndta: {a: b}\n";

#[test]
fn examples_are_good() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let (text, code) = validate(&root.join("examples/repo"), &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("0 errors, 0 warnings; it would be accepted"), "{text}");
    let (text, code) = validate(&root.join("tests/view/shop"), &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("DIR/back.yaml:43:39: warning: Pod shop/lacks:"), "{text}");
}

#[test]
fn every_finding_has_its_line() {
    let dir = scratch("wdl-cli-");
    write(
        dir.path(),
        &[
            ("a.yaml", GOOD),
            ("team/b.yaml", BAD),
            ("team/c.yaml", "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: [}\n"),
            ("team/d.yml", "apiVersion: apps/v1\nkind: Deploymnt\nmetadata: {name: d}\n"),
            ("notes.yaml", "just: notes\n"),
            ("README.md", "# words\n"),
            (".github/ci.yaml", "kind: Nonsense\n"),
            ("old/x.yaml", BAD),
            (".windlassignore", "old/\n"),
        ],
    );
    let (text, code) = validate(dir.path(), &[]);
    assert_eq!(code, Some(1), "{text}");
    expect("validate", &text);
    let (json, code) = validate(dir.path(), &["-o", "json"]);
    assert_eq!(code, Some(1), "{json}");
    let json = json.strip_prefix("$ windlass validate DIR\n").expect("its head");
    let json = json.strip_suffix("[Some(1)]\n").expect("its code");
    let report: Value = serde_json::from_str(json).expect("JSON");
    assert_eq!(report["refused"], true);
    assert_eq!(report["findings"][0]["place"]["path"], "team/b.yaml");
    assert_eq!(report["findings"][0]["place"]["line"], 4);
    assert_eq!(report["errors"].as_u64(), Some(text.matches(": error: ").count() as u64));
}

#[test]
fn places_are_seen_from_where_one_stands() {
    let dir = scratch("wdl-cli-");
    write(dir.path(), &[("team/b.yaml", BAD)]);
    let here = windlass(&["validate"]).current_dir(dir.path()).output().expect("runs");
    assert!(here.stdout.starts_with(b"team/b.yaml:4:1: error:"), "{here:?}");
    let above = windlass(&["validate", "team"]).current_dir(dir.path()).output().expect("runs");
    assert!(above.stdout.starts_with(b"team/b.yaml:4:1: error:"), "{above:?}");
}

#[test]
fn a_work_tree_is_read_as_it_would_be_committed() {
    let dir = scratch("wdl-cli-");
    must_git(dir.path(), &["init", "-q"]);
    write(
        dir.path(),
        &[
            (".gitignore", "build/\n*.tmp.yaml\n"),
            ("shop/a.yaml", GOOD),
            ("shop/x.tmp.yaml", BAD),
            ("shop/build/y.yaml", BAD),
            ("vendor/lib/.git/HEAD", "ref: refs/heads/main\n"),
            ("vendor/lib/z.yaml", BAD),
        ],
    );
    let (text, code) = validate(dir.path(), &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("1 manifest, 1 object: 0 errors"), "{text}");
    let (text, code) = validate(&dir.path().join("shop"), &[]);
    assert_eq!(code, Some(0), "{text}");
    // What is committed all the same counts, ignored or not.
    must_git(dir.path(), &["add", "-f", "shop/x.tmp.yaml"]);
    let (text, code) = validate(dir.path(), &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("DIR/shop/x.tmp.yaml:4:1: error:"), "{text}");
}

#[test]
fn what_can_not_be_checked_is_said() {
    let dir = scratch("wdl-cli-");
    let (text, code) = validate(&dir.path().join("nowhere"), &[]);
    assert_eq!(code, Some(1));
    assert!(text.contains("can't be read: No such file"), "{text}");
    let (text, code) = validate(dir.path(), &[]);
    assert_eq!(code, Some(1));
    assert!(text.contains("there is nothing to run: it would be refused"), "{text}");
    write(dir.path(), &[("a.yaml", GOOD)]);
    let (text, code) = validate(&dir.path().join("a.yaml"), &[]);
    assert_eq!(code, Some(1));
    assert!(text.contains("is not a directory"), "{text}");
    must_git(dir.path(), &["init", "-q", "--bare", "bare.git"]);
    let (text, code) = validate(&dir.path().join("bare.git"), &[]);
    assert_eq!(code, Some(1));
    assert!(text.contains("is a bare repository"), "{text}");
}

#[test]
fn symbolic_links_are_not_followed() {
    let dir = scratch("wdl-cli-");
    write(dir.path(), &[("shop/a.yaml", GOOD)]);
    std::os::unix::fs::symlink("..", dir.path().join("shop/up")).expect("links");
    std::os::unix::fs::symlink("a.yaml", dir.path().join("shop/b.yaml")).expect("links");
    let (text, code) = validate(dir.path(), &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("1 manifest, 1 object: 0 errors, 0 warnings; 1 file passed over"),
        "{text}"
    );
}

#[test]
fn a_checkout_says_who_signed_its_newest_commit() {
    let dir = scratch("wdl-cli-");
    let work = dir.path().join("work");
    std::fs::create_dir(&work).expect("made");
    must_git(&work, &["init", "-q", "-b", "main"]);
    let keys = Keys::make(dir.path(), &["ada", "eve"]);
    let (trust, fingerprint) = keys.trust(&["ada"]);
    write(&work, &[("a.yaml", GOOD), ("trust.yaml", &trust)]);
    let (text, code) = validate(&work, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains(&format!("trust.yaml has the fingerprint {fingerprint}\n")), "{text}");

    let commit = |key: Option<&str>, message: &str| {
        keys.sign_with(&work, key);
        must_git(&work, &["add", "-A"]);
        must_git(&work, &["commit", "-q", "--allow-empty", "-m", message]);
        validate(&work, &[])
    };
    let by_ada = format!("is signed by ada@example.org ({})", keys.fingerprint("ada"));
    for message in ["first", "second"] {
        let (text, code) = commit(Some("ada"), message);
        assert!(code == Some(0) && text.contains(&by_ada), "{text}");
    }
    let (text, code) = commit(Some("eve"), "third");
    assert_eq!(code, Some(0), "what is committed already is no fault of the files: {text}");
    assert!(text.contains("DIR/trust.yaml: warning: the newest commit, "), "{text}");
    assert!(text.contains(&keys.fingerprint("eve")), "{text}");
    must_git(&work, &["reset", "-q", "--hard", "HEAD~1"]);
    let (text, _) = commit(None, "third");
    assert!(text.contains("would be refused: it is not signed; sign it:"), "{text}");

    // A trust.yaml by which nobody could sign would be the last commit ever.
    write(&work, &[("trust.yaml", "allowedSigners: ''\n")]);
    let (text, code) = validate(&work, &[]);
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("names no key that could sign a commit"), "{text}");
}
