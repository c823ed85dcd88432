//! Commits that somebody must vouch for.

use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use windlass::desired::trust::TRUST_FILE;

use crate::support::keys::Keys;
use crate::support::must_git;
use crate::support::site::{NAMESPACE, Site, web};

/// What is said of a commit that is not in force.
#[track_caller]
fn refusal(site: &Site, commit: &str) -> String {
    let waiting = site.wait("a refusal", |site| {
        let waiting = site.status()["apps"][0]["waiting"].clone();
        (waiting["commit"] == commit).then_some(waiting)
    });
    waiting["why"].as_str().expect("a reason").to_owned()
}

/// Pushes what lies there under another signature.
fn amend(site: &Site) -> String {
    site.git(&["commit", "-q", "--amend", "--no-edit"]);
    site.git(&["push", "-q", "--force", "origin", "main"]);
    site.git(&["rev-parse", "HEAD"])
}

#[test]
fn only_what_somebody_vouches_for_comes_into_force() {
    let Some(mut site) = Site::without_agent("we2e-trust-") else { return };
    let dir = site.host.dir().to_path_buf();
    let work = dir.join("work");
    let keys = Keys::make(&dir, &["ada", "bob", "eve"]);
    let (trust, pin) = keys.trust(&["ada"]);
    keys.sign_with(&work, Some("ada"));
    site.push("The shop", &[("namespace.yaml", Some(NAMESPACE)), (TRUST_FILE, Some(&trust))]);
    let desired = dir.join("desired.git");
    site.configure(&json!({"url": desired, "poll": "1s", "trust": pin}));
    site.start_agent();

    // Signed: taken, and it is said by whom.
    let good = site.push("web", &[("web.yaml", Some(&web("one", 2, 30080)))]);
    site.wait_in_force(&good);
    site.wait_ready("app=web", 2);
    let containers = site.containers("web");
    let by_ada = format!("ada@example.org ({})", keys.fingerprint("ada"));
    assert_eq!(site.status()["apps"][0]["inForce"]["signer"], by_ada);
    let (said, _) = site.windlass(&["status"]);
    assert!(said.contains(&format!("by Ada, signed by {by_ada}")), "{said}");

    // Not signed: refused, whatever is in it, and nothing of it was read.
    keys.sign_with(&work, None);
    let plain = site.push("two", &[("web.yaml", Some("apiVersion: [")), ("x.yaml", Some("{{"))]);
    let why = refusal(&site, &plain);
    assert!(why.starts_with("it is not signed; sign it: git commit --amend"), "{why}");
    assert_eq!(site.status()["apps"][0]["waiting"]["findingCount"], 0);
    assert_eq!(site.status()["apps"][0]["inForce"]["commit"], good.as_str());
    let (said, is_well) = site.windlass(&["diff", &plain]);
    assert!(!is_well && said.contains("is not signed"), "{said}");
    let (said, _) = site.windlass(&["status"]);
    assert!(said.contains("it is not signed"), "{said}");

    // Signed by a stranger; then by whom it should be, at last.
    keys.sign_with(&work, Some("eve"));
    let stranger = amend(&site);
    let why = refusal(&site, &stranger);
    assert!(why.contains(&keys.fingerprint("eve")), "{why}");
    keys.sign_with(&work, Some("ada"));
    fs::write(work.join("web.yaml"), web("two", 2, 30080)).expect("written");
    fs::remove_file(work.join("x.yaml")).expect("removed");
    site.git(&["add", "-A"]);
    assert_eq!(site.containers("web"), containers, "nothing was touched");
    let mended = amend(&site);
    site.wait_in_force(&mended);
    let (said, is_well) = site.windlass(&["diff", "HEAD"]);
    assert!(is_well && said.contains(&format!("is signed by {by_ada}")), "{said}");

    // Other keys come in by a commit signed with an old one, and count from there.
    let (second, _) = keys.trust(&["bob"]);
    site.push("bob takes over", &[(TRUST_FILE, Some(&second))]);
    keys.sign_with(&work, Some("bob"));
    let bob = site.push("bob", &[("web.yaml", Some(&web("three", 2, 30080)))]);
    site.wait_in_force(&bob);
    keys.sign_with(&work, Some("ada"));
    let late = site.push("ada is late", &[]);
    let why = refusal(&site, &late);
    assert!(why.contains(&keys.fingerprint("ada")), "{why}");
    site.wait_ready("app=web", 2);

    from_its_own_disk(&mut site, &bob, &late);
}

/// What is released is what bears a signed tag, also if the tag comes later than its commit.
#[test]
fn a_signed_tag_brings_a_commit_into_force() {
    let Some(mut site) = Site::without_agent("we2e-tag-") else { return };
    let dir = site.host.dir().to_path_buf();
    let work = dir.join("work");
    let keys = Keys::make(&dir, &["ada", "eve"]);
    let (trust, _) = keys.trust(&["ada"]);
    let trust = format!("signed: tag\ntags: v*\n{trust}");
    let pin = windlass::desired::trust::fingerprint(trust.as_bytes());
    let tag = |site: &Site, name: &str, by: &str| {
        keys.sign_with(&work, Some(by));
        site.git(&["tag", "-s", "-f", "-m", "a release", name]);
        keys.sign_with(&work, None);
        site.git(&["push", "-q", "--force", "origin", name]);
    };
    let first =
        site.push("The shop", &[("namespace.yaml", Some(NAMESPACE)), (TRUST_FILE, Some(&trust))]);
    tag(&site, "v1", "ada");
    let desired = dir.join("desired.git");
    site.configure(&json!({"url": desired, "poll": "1s", "trust": pin}));
    site.start_agent();
    site.wait_in_force(&first);

    let second = site.push("web", &[("web.yaml", Some(&web("one", 2, 30080)))]);
    let why = refusal(&site, &second);
    assert!(why.starts_with("it bears no tag v* that is signed; have somebody sign one"), "{why}");
    tag(&site, "v2", "eve");
    let why = site.wait("another reason", |site| {
        let why = site.status()["apps"][0]["waiting"]["why"].as_str()?.to_owned();
        why.contains("v2").then_some(why)
    });
    assert!(why.contains(&keys.fingerprint("eve")), "{why}");
    // The first one's, moved: it is the first one's still.
    site.git(&["push", "-q", "--force", "origin", "v1:refs/tags/v2"]);
    assert_eq!(site.status()["apps"][0]["inForce"]["commit"], first.as_str());
    tag(&site, "v2", "ada");
    site.wait_in_force(&second);
    site.wait_ready("app=web", 2);

    // Its tag is gone there, and the node begins alone: it has its own copy.
    site.git(&["push", "-q", "origin", ":refs/tags/v2", ":refs/tags/v1"]);
    site.stop_agent(Signal::SIGKILL);
    fs::rename(&desired, desired.with_extension("away")).expect("moved");
    site.start_agent();
    site.wait_in_force(&second);
    site.wait("the pods", |site| (site.status()["pods"]["ready"] == 2).then_some(()));
    let faults = site.status()["faults"].to_string();
    assert!(!faults.contains("is not to be trusted"), "{faults}");
}

/// A node that starts alone asks again, and believes nobody: neither the state store nor what it
/// fetched.
fn from_its_own_disk(site: &mut Site, good: &str, bad: &str) {
    // Two pods of two containers each, and nothing of those before them.
    let containers = site.wait("the roll-out's end", |site| {
        Some(site.containers("web")).filter(|containers| containers.len() == 4)
    });
    site.stop_agent(Signal::SIGKILL);
    let desired = site.desired();
    fs::rename(&desired, desired.with_extension("away")).expect("moved");
    site.start_agent();
    site.wait_in_force(good);
    site.wait("the pods", |site| (site.status()["pods"]["ready"] == 2).then_some(()));
    assert_eq!(site.containers("web"), containers);

    // Somebody has the key of the state store, and says that the refused commit is in force.
    site.stop_agent(Signal::SIGKILL);
    let state = site.data_dir().join("state.git");
    say_in_force(&state, bad);
    site.start_agent();
    let fault = site.wait("a fault", |site| {
        let faults = site.status()["faults"].as_array().cloned().unwrap_or_default();
        let said = |fault: &Value| fault["message"].as_str().unwrap_or_default().to_owned();
        faults.iter().map(said).find(|message| message.contains("is not to be trusted"))
    });
    assert!(fault.contains(&bad[..7]), "{fault}");
    assert_eq!(site.containers("web"), containers, "what ran goes on");
}

/// Writes the register of the coordinator so that this commit is in force.
fn say_in_force(state: &std::path::Path, commit: &str) {
    let path = "apps/default/head.json";
    let name = "refs/windlass/coordinator";
    let text = must_git(state, &["show", &format!("{name}:{path}")]);
    let mut head: Value = serde_json::from_str(&text).expect("JSON");
    head["applied"]["revision"] = commit.into();
    head["waiting"] = Value::Null;
    let file = state.join("forged.json");
    fs::write(&file, head.to_string()).expect("written");
    let blob = must_git(state, &["hash-object", "-w", "forged.json"]);
    let index = state.join("forged.index");
    let tree = std::process::Command::new("sh")
        .current_dir(state)
        .env("GIT_INDEX_FILE", &index)
        .env("GIT_DIR", state)
        .args(["-c", &format!(
            "git read-tree {name} && git update-index --cacheinfo 100644,{blob},{path} && git write-tree"
        )])
        .output()
        .expect("git runs");
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8_lossy(&tree.stdout).trim().to_owned();
    let forged = must_git(state, &["commit-tree", &tree, "-p", name, "-m", "forged"]);
    must_git(state, &["update-ref", name, &forged]);
}

#[test]
fn only_what_its_signer_may_comes_into_force() {
    let Some(mut site) = Site::without_agent("we2e-rights-") else { return };
    let dir = site.host.dir().to_path_buf();
    let work = dir.join("work");
    let keys = Keys::make(&dir, &["ada", "eve"]);
    let (trust, _) = keys.trust(&["ada", "eve"]);
    let trust = format!("{trust}authorize: roles\n");
    let pin = windlass::desired::trust::fingerprint(trust.as_bytes());
    let bound = "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRoleBinding\n\
                 metadata: {name: ada}\nsubjects: [{kind: User, name: ada@example.org, apiGroup: \
                 rbac.authorization.k8s.io}]\nroleRef: {apiGroup: rbac.authorization.k8s.io, kind: \
                 ClusterRole, name: cluster-admin}\n";
    keys.sign_with(&work, Some("ada"));
    let files = [("namespace.yaml", Some(NAMESPACE)), (TRUST_FILE, Some(&*trust))];
    site.push("The shop", &[files[0], files[1], ("ada.yaml", Some(bound))]);
    let desired = dir.join("desired.git");
    site.configure(&json!({"url": desired, "poll": "1s", "trust": pin}));
    site.start_agent();
    let web = web("one", 1, 30080);
    let good = site.push("web", &[("web.yaml", Some(&web))]);
    site.wait_in_force(&good);

    keys.sign_with(&work, Some("eve"));
    let over = site.push("eve's own", &[("web.yaml", None)]);
    let why = refusal(&site, &over);
    assert!(why.contains("that eve@example.org may not make"), "{why}");
    let waiting = site.status()["apps"][0]["waiting"].clone();
    let said = waiting["findings"].to_string();
    assert!(
        said.contains("may not delete deployments.apps") && said.contains("web.yaml"),
        "{said}"
    );
    assert_eq!(site.status()["apps"][0]["inForce"]["commit"], good.as_str());
}
