//! The desired repository behind real servers: what works, and what is said when it doesn't.

use std::path::PathBuf;
use std::time::Duration;

use windlass::adapters::git::{Credentials, Source, SourceConfig, Timeouts};
use windlass::kinds::binding::Oid;
use windlass::ports::source::Relation;
use windlass::ports::{Fault, FaultKind};

use super::source::{Shelf, fetch, read, resolve, survey, texts};
use crate::support::must_git;
use crate::support::servers::{GitDaemon, Httpd, Silent, Sshd, have_servers};

fn config(shelf: &Shelf, url: &str, credentials: Credentials) -> SourceConfig {
    SourceConfig {
        credentials,
        timeouts: super::timeouts(),
        ..SourceConfig::new(url, shelf.cache())
    }
}

/// Fetches as the agent does: what passes by itself is tried again. A busy machine makes servers slow.
async fn fetched(source: &Source) -> Result<Option<Oid>, Fault> {
    for _ in 0..5 {
        match fetch(source).await {
            Err(fault) if matches!(fault.kind, FaultKind::Transient | FaultKind::Deadline) => {
                tokio::time::sleep(Duration::from_millis(300)).await;
            }
            done => return done,
        }
    }
    fetch(source).await
}

fn with_ssh(server: &Sshd, key: &str, known_hosts: PathBuf) -> Credentials {
    Credentials {
        ssh_key: Some(server.file(key)),
        known_hosts: Some(known_hosts),
        ..Credentials::default()
    }
}

fn with_password(file: PathBuf) -> Credentials {
    Credentials { password_file: Some(file), ..Credentials::default() }
}

/// Everything a source must do, over a server.
async fn works(shelf: &Shelf, url: &str, credentials: Credentials) {
    let source = Source::open(config(shelf, url, credentials)).expect("opens");
    assert_eq!(fetched(&source).await, Ok(None), "{url}: no branch yet");
    shelf.write("a/web.yaml", "one");
    let one = shelf.push("one");
    assert_eq!(fetched(&source).await, Ok(Some(one.clone())), "{url}");
    assert_eq!(fetched(&source).await, Ok(Some(one.clone())), "{url}: again");
    shelf.write("a/web.yaml", "two");
    let two = shelf.push("two");
    shelf.git(&["tag", "-a", "v2", "-m", "v2"]);
    shelf.git(&["push", "-q", "origin", "v2"]);
    assert_eq!(fetched(&source).await, Ok(Some(two.clone())), "{url}");
    let seen = survey(&source, &two, Some(&one)).await.expect("lists");
    assert_eq!(seen.relation, Relation::Descends);
    let contents = read(&source, &seen.files).await.expect("reads");
    assert_eq!(texts(&contents), [("a/web.yaml".to_owned(), "two".to_owned())]);
    shelf.git(&["checkout", "-q", "-b", "feature", one.as_str()]);
    shelf.git(&["commit", "-q", "--allow-empty", "-m", "feature"]);
    shelf.git(&["push", "-q", "origin", "feature"]);
    let feature = shelf.git(&["rev-parse", "HEAD"]);
    assert_eq!(resolve(&source, "v2").await, Ok(two.clone()), "{url}");
    assert_eq!(resolve(&source, "feature").await.expect("found").as_str(), feature);
    survey(&source, &resolve(&source, "feature").await.expect("found"), None)
        .await
        .expect("was brought");
    // Force-pushed, and something big enough for several packets.
    shelf.git(&["checkout", "-q", "--orphan", "rewritten"]);
    for n in 0..300 {
        shelf.write(&format!("many/{n}.yaml"), &format!("{n}").repeat(200));
    }
    let three = shelf.push("three");
    assert_eq!(fetched(&source).await, Ok(Some(three.clone())), "{url}");
    let seen = survey(&source, &three, Some(&two)).await.expect("lists");
    assert_eq!((seen.relation, seen.files.len()), (Relation::Unrelated, 301));
    // Damage to the copy costs a fetch, and what is kept survives with the history gone.
    drop(source);
}

#[tokio::test]
async fn ssh_works() {
    if !have_servers("ssh_works") {
        return;
    }
    let shelf = Shelf::new();
    let server = Sshd::start();
    let hosts = server.known_hosts("hosts", &server.known_host("host_ed25519"));
    works(&shelf, &server.url(&shelf.bare()), with_ssh(&server, "client", hosts)).await;
}

#[tokio::test]
async fn http_with_a_password_works() {
    if !have_servers("http_with_a_password_works") {
        return;
    }
    let shelf = Shelf::new();
    let server = Httpd::start(shelf.dir.path());
    works(&shelf, &server.url("git", "desired.git"), with_password(server.file("password"))).await;
}

#[tokio::test]
async fn https_with_an_authority_of_ones_own_works() {
    if !have_servers("https_with_an_authority_of_ones_own_works") {
        return;
    }
    let shelf = Shelf::new();
    let server = Httpd::start(shelf.dir.path());
    let url = server.tls_url("git", "desired.git");
    let untrusted = fault_of(&shelf, &url, with_password(server.file("password"))).await;
    assert_eq!(untrusted.kind, FaultKind::Stalled, "{untrusted}");
    assert!(untrusted.message.contains("caFile"), "{untrusted}");
    let credentials = Credentials {
        ca_file: Some(server.file("tls.crt")),
        ..with_password(server.file("password"))
    };
    works(&shelf, &url, credentials).await;
}

#[tokio::test]
async fn git_daemon_works() {
    let shelf = Shelf::new();
    let server = GitDaemon::start(shelf.dir.path());
    works(&shelf, &server.url("desired.git"), Credentials::default()).await;
}

async fn fault_of(shelf: &Shelf, url: &str, credentials: Credentials) -> Fault {
    match Source::open(config(shelf, url, credentials)) {
        Ok(source) => fetch(&source).await.expect_err(url),
        Err(fault) => fault,
    }
}

#[tokio::test]
async fn what_is_wrong_with_ssh_is_said() {
    if !have_servers("what_is_wrong_with_ssh_is_said") {
        return;
    }
    let shelf = Shelf::new();
    shelf.push("one");
    let server = Sshd::start();
    let url = server.url(&shelf.bare());
    let good = server.known_hosts("hosts", &server.known_host("host_ed25519"));
    let rsa_only = server.known_hosts("rsa", &server.known_host("host_rsa"));
    let empty = server.known_hosts("empty", "");
    let lie = server.known_host("host_ed25519").replace(
        std::fs::read_to_string(server.file("host_ed25519.pub")).expect("reads").trim(),
        std::fs::read_to_string(server.file("client.pub")).expect("reads").trim(),
    );
    let changed = server.known_hosts("changed", &lie);
    let revoked = server
        .known_hosts("revoked", &format!("{0}@revoked {0}", server.known_host("host_ed25519")));
    let hashed = server.known_hosts("hashed", &server.known_host("host_ed25519"));
    crate::support::must_run("ssh-keygen", &["-q", "-H", "-f", &hashed.display().to_string()]);

    for hosts in [&good, &rsa_only, &hashed] {
        let source = Source::open(config(&shelf, &url, with_ssh(&server, "client", hosts.clone())))
            .expect("opens");
        let tip = fetched(&source).await;
        assert!(matches!(tip, Ok(Some(_))), "{tip:?} {}", hosts.display());
    }
    let refused = [
        (with_ssh(&server, "client", empty.clone()), "ssh key is not known", "add this line"),
        (with_ssh(&server, "client", changed), "HAS CHANGED", "remove that line"),
        (with_ssh(&server, "client", revoked), "revoked", "Ask the server's owner"),
        (with_ssh(&server, "client", PathBuf::from("/none")), "can't read known hosts /none", ""),
        (
            with_ssh(&server, "stranger", good.clone()),
            "does not accept the ssh key",
            "authorized_keys",
        ),
        (with_ssh(&server, "none", good.clone()), "can't read", "none"),
        (with_ssh(&server, "locked", good.clone()), "key can't be used", "sshPassphraseFile"),
    ];
    for (credentials, what, advice) in refused {
        let fault = fault_of(&shelf, &url, credentials).await;
        assert_eq!(fault.kind, FaultKind::Stalled, "{fault}");
        assert!(fault.message.contains(what) && fault.message.contains(advice), "{fault}");
    }
    // What the message says to add is what makes it work.
    let fault = fault_of(&shelf, &url, with_ssh(&server, "client", empty.clone())).await;
    let from = fault.message.find(": [127").expect("a line") + 2;
    std::fs::write(&empty, fault.message[from..].trim_end_matches('.')).expect("writes");
    let source =
        Source::open(config(&shelf, &url, with_ssh(&server, "client", empty))).expect("opens");
    let tip = fetched(&source).await;
    assert!(matches!(tip, Ok(Some(_))), "{tip:?} after {}", fault.message);
    drop(source);

    std::fs::write(server.file("phrase"), "open sesame\n").expect("writes");
    let unlocked = Credentials {
        ssh_passphrase_file: Some(server.file("phrase")),
        ..with_ssh(&server, "locked", good.clone())
    };
    let source = Source::open(config(&shelf, &url, unlocked)).expect("opens");
    let tip = fetched(&source).await;
    assert!(matches!(tip, Ok(Some(_))), "{tip:?}");
    drop(source);

    let nowhere = server.url(&shelf.dir.path().join("none.git"));
    let fault = fault_of(&shelf, &nowhere, with_ssh(&server, "client", good)).await;
    eprintln!("no repository over ssh: {fault}");
    assert_eq!(fault.kind, FaultKind::Stalled, "{fault}");
}

#[tokio::test]
async fn what_is_wrong_with_http_is_said_and_the_secret_never() {
    if !have_servers("what_is_wrong_with_http_is_said_and_the_secret_never") {
        return;
    }
    let shelf = Shelf::new();
    shelf.push("one");
    let server = Httpd::start(shelf.dir.path());
    let password = || with_password(server.file("password"));
    let url = |place: &str| server.url(place, "desired.git");
    std::fs::write(server.file("void"), "\n").expect("writes");
    let stalled = [
        (url("git"), with_password(server.file("wrong")), "does not accept the password"),
        (url("git"), Credentials::default(), "passwordFile"),
        (url("git"), with_password(server.file("void")), "is empty"),
        (url("git"), with_password(server.file("none")), "can't read"),
        (server.url("git", "none.git"), password(), "no such repository"),
        (server.url("open", "none.git"), Credentials::default(), "no such repository"),
        (url("nothing"), Credentials::default(), "no such repository"),
        (url("denied"), password(), "does not accept our key, token or password"),
        (url("away"), password(), "cannot redirect"),
    ];
    for (url, credentials, what) in stalled {
        let fault = fault_of(&shelf, &url, credentials).await;
        eprintln!("{fault}");
        assert_eq!(fault.kind, FaultKind::Stalled, "{fault}");
        assert!(fault.message.contains(what), "{what}: {fault}");
        assert!(!fault.message.contains("hunter2") && !fault.message.contains("s3cret"), "{fault}");
    }
    let moved = Source::open(config(&shelf, &url("moved"), password())).expect("opens");
    assert!(matches!(fetch(&moved).await, Ok(Some(_))), "on the same host");
    drop(moved);
    let broken = fault_of(&shelf, &url("broken"), password()).await;
    assert_eq!(broken.kind, FaultKind::Transient, "{broken}");
    // A password that was replaced is used without a restart.
    let source = Source::open(config(&shelf, &url("git"), with_password(server.file("wrong"))))
        .expect("opens");
    fetch(&source).await.expect_err("wrong");
    std::fs::copy(server.file("password"), server.file("wrong")).expect("copies");
    let tip = fetched(&source).await;
    assert!(matches!(tip, Ok(Some(_))), "{tip:?}");
}

#[tokio::test]
async fn what_is_wrong_with_the_network_passes_by_itself() {
    let shelf = Shelf::new();
    shelf.push("one");
    let port = crate::support::servers::free_port();
    let silent = Silent::start();
    let daemon = GitDaemon::start(shelf.dir.path());
    let mut urls = vec![
        format!("http://127.0.0.1:{port}/x"),
        format!("https://127.0.0.1:{port}/x"),
        format!("git://127.0.0.1:{port}/x"),
        format!("ssh://git@127.0.0.1:{port}/x"),
        "http://wgit.invalid/x".to_owned(),
        "ssh://git@wgit.invalid/x".to_owned(),
    ];
    for scheme in ["http", "https", "git", "ssh"] {
        urls.push(format!("{scheme}://127.0.0.1:{}/x", silent.port()));
    }
    for url in urls {
        let fault = fault_of(&shelf, &url, Credentials::default()).await;
        eprintln!("{fault}");
        assert_eq!(fault.kind, FaultKind::Transient, "{fault}");
        assert!(fault.message.contains(&url), "{fault}");
    }
    let fault = fault_of(&shelf, &daemon.url("none.git"), Credentials::default()).await;
    assert_eq!(fault.kind, FaultKind::Stalled, "{fault}");
    must_git(&shelf.bare(), &["fsck"]);
}

#[tokio::test]
async fn a_call_has_an_end_of_its_own() {
    let shelf = Shelf::new();
    let silent = Silent::start();
    let url = format!("git://127.0.0.1:{}/x", silent.port());
    let source = Source::open(SourceConfig {
        timeouts: Timeouts { network: Duration::from_millis(200), ..super::timeouts() },
        ..config(&shelf, &url, Credentials::default())
    })
    .expect("opens");
    for _ in 0..4 {
        let fault = fetch(&source).await.expect_err("silent");
        assert_eq!(fault.kind, FaultKind::Deadline, "{fault}");
    }
    let fault = fetch(&source).await.expect_err("at the cap");
    assert!(
        fault.kind == FaultKind::Transient && fault.message.contains("4 earlier Git calls hang"),
        "{fault}"
    );
    // They end by their time-out, and it goes on.
    for _ in 0..300 {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let fault = fetch(&source).await.expect_err("silent");
        if fault.kind == FaultKind::Deadline {
            return;
        }
    }
    panic!("calls given up never ended");
}
