//! Annotated tags that `git tag -s` signed: brought with the commits they are on, from a path and from a
//! server, and judged.

use windlass::adapters::git::{Credentials, Source, SourceConfig};
use windlass::desired::trust::{Distrust, TRUST_FILE, fingerprint};
use windlass::kinds::binding::Oid;
use windlass::ports::source::{Answer, Call};

use super::source::Shelf;
use super::trust::ask;
use crate::support::gpg::Gpg;
use crate::support::keys::Keys;
use crate::support::must_git;
use crate::support::servers::{Sshd, have_servers};

/// How many tags are here after a fetch.
async fn fetched(source: &Source) -> usize {
    match source.perform(Call::Fetch).await.expect("fetched") {
        Answer::Fetched { tags, .. } => tags,
        other => panic!("fetch: {other:?}"),
    }
}

/// What is said of a commit: whose it is, or why not.
async fn said(source: &Source, commit: &Oid, pin: &str) -> String {
    match ask(source, commit, pin).await {
        Ok(vouched) => format!("by {}", vouched.signer.name),
        Err((culprit, why)) => {
            assert_eq!(culprit, *commit);
            assert_eq!(why.is_for_want_of_a_tag(), !matches!(why, Distrust::Unsigned));
            why.to_string()
        }
    }
}

async fn tags_are_brought_and_judged(shelf: &Shelf, config: SourceConfig) {
    let keys = Keys::make(shelf.dir.path(), &["ada", "eve"]);
    let gpg = Gpg::make(&shelf.dir.path().join("g"));
    gpg.key(1_690_000_000, "cyd", ["ed25519", "sign", "never"], &[]);
    let work = shelf.work();
    let (trust, _) = keys.trust(&["ada"]);
    let trust = format!("signed: tag\ntags: \"v*\"\n{trust}openpgp:\n{}", gpg.entry("cyd"));
    let pin = fingerprint(trust.as_bytes());
    let push_tag = |name: &str| must_git(&work, &["push", "-q", "--force", "origin", name]);
    let unsigned = |work: &std::path::Path| keys.sign_with(work, None);
    shelf.write(TRUST_FILE, &trust);
    unsigned(&work);
    let root = shelf.push("trust");
    keys.sign_with(&work, Some("ada"));
    must_git(&work, &["tag", "-s", "-m", "the first", "v1"]);
    push_tag("v1");
    let source = Source::open(config).expect("opens");
    // Whatever is not asked for in so many words is not brought.
    must_git(&work, &["tag", "plain"]);
    push_tag("plain");
    assert_eq!(fetched(&source).await, 1);
    assert_eq!(said(&source, &root, &pin).await, "by ada@example.org");

    // A commit without a tag, whoever signed it.
    shelf.write("web.yaml", "one");
    let one = shelf.push("one");
    assert_eq!(fetched(&source).await, 1);
    let untagged = "bears no tag v* that is signed";
    assert_eq!(said(&source, &one, &pin).await, untagged);
    // A tag of another name; one that names no signer; one that is a mere name for the commit.
    must_git(&work, &["tag", "-s", "-m", "x", "test-1"]);
    push_tag("test-1");
    must_git(&work, &["tag", "v1.5"]);
    push_tag("v1.5");
    assert_eq!(fetched(&source).await, 2);
    assert_eq!(said(&source, &one, &pin).await, untagged);
    must_git(&work, &["tag", "-a", "-m", "x", "v2"]);
    push_tag("v2");
    assert_eq!(fetched(&source).await, 3);
    assert_eq!(said(&source, &one, &pin).await, "has the tag v2, which is not signed");
    // Signed by somebody else.
    keys.sign_with(&work, Some("eve"));
    must_git(&work, &["tag", "-d", "v2"]);
    must_git(&work, &["tag", "-s", "-m", "x", "v2"]);
    push_tag("v2");
    assert_eq!(fetched(&source).await, 4, "the one that was there stays here");
    let why = said(&source, &one, &pin).await;
    assert!(why.starts_with("has the tag v2, which is ") && !why.contains("by "), "{why}");
    // The good one, moved: it is on the commit that it was made for.
    let good = must_git(&work, &["rev-parse", "v1"]);
    must_git(&shelf.bare(), &["update-ref", "refs/tags/v3", &good]);
    assert_eq!(fetched(&source).await, 4);
    assert_ne!(said(&source, &one, &pin).await, "by ada@example.org");
    // Its words put on the commit: what was signed was something else.
    let raw = must_git(&work, &["cat-file", "tag", "v1"]) + "\n";
    let forged = raw.replace(root.as_str(), one.as_str()).replace("tag v1", "tag v4");
    std::fs::write(work.join("forged"), forged).expect("written");
    let forged = must_git(&work, &["hash-object", "-t", "tag", "-w", "forged"]);
    std::fs::remove_file(work.join("forged")).expect("removed");
    must_git(&work, &["update-ref", "refs/tags/v4", &forged]);
    push_tag("v4");
    assert_eq!(fetched(&source).await, 5);
    let why = said(&source, &one, &pin).await;
    assert!(why.starts_with("has the tag v"), "{why}");
    // At last, with GnuPG.
    gpg.sign_with(&work, "cyd", 1_890_000_000, &[]);
    must_git(&work, &["tag", "-s", "-m", "x", "v5"]);
    push_tag("v5");
    assert_eq!(fetched(&source).await, 6);
    assert_eq!(said(&source, &one, &pin).await, "by cyd@example.org");

    // Commits between need nothing, but for those that change who may sign.
    unsigned(&work);
    shelf.write("web.yaml", "two");
    shelf.push("two");
    shelf.write("web.yaml", "three");
    let three = shelf.push("three");
    keys.sign_with(&work, Some("ada"));
    must_git(&work, &["tag", "-s", "-m", "x", "v6"]);
    push_tag("v6");
    assert_eq!(fetched(&source).await, 7);
    assert_eq!(said(&source, &three, &pin).await, "by ada@example.org");
    // What was seen once stays, though it is removed there; also for who begins with the copy.
    must_git(&work, &["push", "-q", "origin", ":refs/tags/v6", ":refs/tags/v5"]);
    assert_eq!(fetched(&source).await, 7);
    assert_eq!(said(&source, &three, &pin).await, "by ada@example.org");
    assert_eq!(said(&source, &one, &pin).await, "by cyd@example.org");

    // One on a commit that comes only with a newer one.
    shelf.write("web.yaml", "four");
    shelf.push("four");
    must_git(&work, &["tag", "-a", "-m", "x", "v7"]);
    push_tag("v7");
    shelf.write("web.yaml", "five");
    shelf.push("five");
    assert_eq!(fetched(&source).await, 8);
}

#[tokio::test]
async fn tags_are_judged_from_a_path() {
    let shelf = Shelf::new();
    tags_are_brought_and_judged(&shelf, SourceConfig { tags: true, ..shelf.config() }).await;
}

#[tokio::test]
async fn tags_are_judged_from_a_server() {
    if !have_servers("tags_are_judged_from_a_server") {
        return;
    }
    let shelf = Shelf::new();
    let server = Sshd::start();
    let credentials = Credentials {
        ssh_key: Some(server.file("client")),
        known_hosts: Some(server.known_hosts("hosts", &server.known_host("host_ed25519"))),
        ..Credentials::default()
    };
    let config = shelf.config_for(&server.url(&shelf.bare()));
    let config = SourceConfig { tags: true, credentials, ..config };
    tags_are_brought_and_judged(&shelf, config).await;
}

/// A copy whose disk was damaged keeps the tags on what it keeps.
#[tokio::test]
async fn tags_outlive_damage_to_the_copy() {
    let shelf = Shelf::new();
    let keys = Keys::make(shelf.dir.path(), &["ada"]);
    let (trust, _) = keys.trust(&["ada"]);
    let trust = format!("signed: tag\n{trust}");
    let pin = fingerprint(trust.as_bytes());
    shelf.write(TRUST_FILE, &trust);
    let root = shelf.push("trust");
    keys.sign_with(&shelf.work(), Some("ada"));
    shelf.git(&["tag", "-s", "-m", "x", "v1"]);
    shelf.git(&["push", "-q", "origin", "v1"]);
    let config = || SourceConfig { tags: true, ..shelf.config() };
    let source = Source::open(config()).expect("opens");
    assert_eq!(fetched(&source).await, 1);
    source.perform(Call::Keep { commits: vec![root.clone()] }).await.expect("kept");
    drop(source);
    std::fs::write(shelf.cache().join("HEAD"), "\0").expect("written");
    std::fs::rename(shelf.bare(), shelf.bare().with_extension("away")).expect("moved");
    let source = Source::open(config()).expect("opens");
    assert_eq!(said(&source, &root, &pin).await, "by ada@example.org");
}
