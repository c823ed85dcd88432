//! The desired repository on another machine: over ssh and over https, and what goes wrong there.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;

use crate::support::servers::{Httpd, Sshd, have_servers};
use crate::support::site::{NAMESPACE, Site, VISITOR, web};

/// How a server is opened, and how that is spoiled.
struct Lock {
    /// The file that opens it: known hosts, a token.
    file: PathBuf,
    /// What is put there instead.
    wrong: String,
    /// What is said of that.
    complaint: &'static str,
}

/// A server on the visitor's machine.
struct Server<S> {
    server: S,
    run: fn(&mut S),
    stop: fn(&mut S),
}

/// Replaces a file that only its owner may read.
fn write(path: &Path, text: &str) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("set");
}

/// Waits until this commit runs, which shows this page.
fn arrives(site: &Site, page: &str, commit: &str) {
    site.wait_in_force(commit);
    site.wait("the end of the roll-out", |site| {
        (site.status()["pods"] == json!({"total": 2, "ready": 2})).then_some(())
    });
    site.wait(&format!("the page {page}"), |site| {
        (site.fetch(30080).as_deref() == Ok(page)).then_some(())
    });
    assert_eq!(site.status()["faults"], json!([]));
}

/// Pushes a page once the remote is known not to be reached: what runs goes on. The commit.
fn misses(site: &Site, page: &str, complaint: &str) -> String {
    let containers = site.containers("web");
    let said = || site.windlass(&["status"]).0;
    // A fetch that began before may still see the push.
    site.wait(complaint, |_| said().contains(complaint).then_some(()));
    let commit = site.push(page, &[("web.yaml", Some(&web(page, 2, 30080)))]);
    std::thread::sleep(Duration::from_secs(1));
    let said = said();
    assert!(said.contains(complaint) && said.contains("2 of 2 ready"), "{said}");
    assert_eq!(site.containers("web"), containers, "nothing was touched");
    assert!(site.fetch(30080).is_ok(), "what runs answers");
    commit
}

/// Everything that is asked of a remote.
fn is_followed<S: Send + 'static>(site: &Site, mut remote: Server<S>, lock: &Lock) {
    let shop = web("one", 2, 30080);
    let one = site.push("one", &[("ns.yaml", Some(NAMESPACE)), ("web.yaml", Some(&shop))]);
    arrives(site, "one", &one);

    let right = fs::read_to_string(&lock.file).expect("read");
    write(&lock.file, &lock.wrong);
    let two = misses(site, "two", lock.complaint);
    write(&lock.file, &right);
    let (said, is_well) = site.windlass(&["sync"]);
    assert!(is_well, "{said}");
    arrives(site, "two", &two);

    (remote.stop)(&mut remote.server);
    let three = misses(site, "three", "is the server up?");
    let remote = site.visitor.run(move || {
        (remote.run)(&mut remote.server);
        remote
    });
    arrives(site, "three", &three);
    drop(remote);
}

#[test]
fn a_remote_over_ssh_is_followed() {
    if !have_servers("a_remote_over_ssh_is_followed") {
        return;
    }
    let Some(mut site) = Site::without_agent("we2e-ssh-") else { return };
    let sshd = site.visitor.run(|| Sshd::start_at(VISITOR));
    let hosts = sshd.known_hosts("hosts", &sshd.known_host("host_ed25519"));
    site.configure(&json!({"url": sshd.url(&site.desired()), "poll": "500ms", "credentials": {
        "sshKeyFile": sshd.file("client"), "knownHostsFile": hosts,
    }}));
    site.start_agent();
    let public = |name: &str| fs::read_to_string(sshd.file(name)).expect("read");
    let wrong = sshd
        .known_host("host_ed25519")
        .replace(public("host_ed25519.pub").trim(), public("client.pub").trim());
    let lock = Lock { file: hosts, wrong, complaint: "HAS CHANGED" };
    is_followed(&site, Server { server: sshd, run: Sshd::run, stop: Sshd::stop }, &lock);
}

#[test]
fn a_remote_over_https_is_followed() {
    if !have_servers("a_remote_over_https_is_followed") {
        return;
    }
    let Some(mut site) = Site::without_agent("we2e-https-") else { return };
    let root = site.host.dir().to_path_buf();
    let httpd = site.visitor.run(move || Httpd::start_at(VISITOR, &root));
    let token = httpd.file("password");
    site.configure(&json!({"url": httpd.tls_url("git", "desired.git"), "poll": "500ms",
        "credentials": {"tokenFile": token, "caFile": httpd.file("tls.crt")}}));
    site.start_agent();
    let wrong = "fleet:hunter2\n".to_owned();
    let lock = Lock { file: token, wrong, complaint: "does not accept the password" };
    is_followed(&site, Server { server: httpd, run: Httpd::run, stop: Httpd::stop }, &lock);
    assert!(!site.log().contains("hunter2"), "secrets are not logged");
}
