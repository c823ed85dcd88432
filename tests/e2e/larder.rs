//! A disk that fills: a real Docker whose images lie on a small one.

use std::collections::BTreeSet;
use std::fs;

use nix::sys::signal::Signal;
use serde_json::{Value, json};

use crate::support::host::run;
use crate::support::images::{bulky, busybox};
use crate::support::site::{IMAGE, NAMESPACE, Site};

/// The disk; what an agent may fill of it; what each image takes.
const DISK_MB: usize = 320;
const ABOVE_PERCENT: u64 = 40;
const IMAGE_MB: usize = 30;

/// A pod that sleeps, from the image of this version.
fn sleeper(version: u32) -> String {
    format!(
        r#"apiVersion: apps/v1
kind: Deployment
metadata: {{name: app, namespace: shop}}
spec:
  strategy: {{type: Recreate}}
  selector: {{matchLabels: {{app: app}}}}
  template:
    metadata: {{labels: {{app: app, version: "{version}"}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers: [{{name: main, image: "{}", command: [sleep, "100000"]}}]
"#,
        named(version)
    )
}

fn named(version: u32) -> String {
    format!("registry.invalid/team/app:{version}")
}

/// A site with Docker's files on a small disk, and no agent yet.
fn small() -> Option<Site> {
    let site = Site::without_agent("we2e-full-")?;
    site.host.stop_docker(Signal::SIGTERM);
    let data = site.host.dir().join("data");
    fs::create_dir_all(&data).expect("made");
    let size = format!("size={DISK_MB}m");
    run(std::process::Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(&data));
    site.host.start_docker();
    site.host.load(&busybox(IMAGE, &json!({"Cmd": ["sh"]})));
    let path = site.host.dir().join("agent.yaml");
    let text = fs::read_to_string(&path).expect("written");
    let mut config: Value = serde_json::from_str(&text).expect("JSON");
    config["images"]["collect"] =
        json!({"above": ABOVE_PERCENT, "downTo": 20, "minAge": "3s", "revisions": 2});
    fs::write(&path, config.to_string()).expect("written");
    Some(site)
}

/// Puts the image of a version where the agent finds it.
fn bring(site: &Site, version: u32) {
    let tar = bulky(&named(version), IMAGE_MB << 20).tar;
    let path = site.data_dir().join(format!("images/{version}.tar"));
    fs::write(&path, tar).expect("written");
    site.wait("the archive is loaded", |site| tags(site).contains(&named(version)).then_some(()));
}

/// What the images in Docker are called.
fn tags(site: &Site) -> BTreeSet<String> {
    let listed = site.host.plain().get("/images/json").expect("answers").expect(200);
    let listed: Value = serde_json::from_str(&listed.text()).expect("JSON");
    let images = listed.as_array().into_iter().flatten();
    let tags = images.flat_map(|image| image["RepoTags"].as_array().cloned().unwrap_or_default());
    tags.filter_map(|tag| Some(tag.as_str()?.to_owned())).collect()
}

fn versions(site: &Site) -> Vec<u32> {
    let tags = tags(site);
    (1..20).filter(|version| tags.contains(&named(*version))).collect()
}

fn runs(site: &Site, version: u32) {
    site.wait_ready(&format!("app=app,version={version}"), 1);
}

#[test]
fn a_disk_that_fills_loses_old_images_and_a_revert_finds_its_own() {
    let Some(mut site) = small() else { return };
    site.host.load(&bulky("foreign.test/x:1", 1 << 20));
    site.start_agent();
    site.push("shop", &[("namespace.yaml", Some(NAMESPACE))]);
    let deploy = |site: &Site, version: u32| {
        bring(site, version);
        site.push(&format!("{version}"), &[("app.yaml", Some(&sleeper(version)))]);
        runs(site, version);
    };
    for version in 1..=3 {
        deploy(&site, version);
    }
    assert_eq!(versions(&site), [1, 2, 3], "there is room");
    // The next is too much: what is older than the last two revisions goes, and nothing else.
    for version in 4..=5 {
        deploy(&site, version);
        let left = [version - 2, version - 1, version];
        site.wait("an old image is gone", |site| (versions(site) == left).then_some(()));
    }
    // What revisions named is known in the agent's next life.
    site.stop_agent(Signal::SIGTERM);
    site.start_agent();
    runs(&site, 5);
    std::thread::sleep(std::time::Duration::from_secs(4));
    deploy(&site, 6);
    site.wait("an old image is gone", |site| (versions(site) == [4, 5, 6]).then_some(()));
    let left = tags(&site);
    assert!(left.contains("foreign.test/x:1") && left.contains(IMAGE), "not ours: {left:?}");
    assert!(left.iter().any(|tag| tag.contains("pause")), "{left:?}");
    // No registry, no archive, no neighbour: what a revert needs is here.
    for version in 1..=6 {
        fs::remove_file(site.data_dir().join(format!("images/{version}.tar"))).expect("removed");
    }
    site.git(&["revert", "--no-edit", "HEAD"]);
    site.git(&["push", "-q", "origin", "main"]);
    runs(&site, 5);
    site.push("further back", &[("app.yaml", Some(&sleeper(4)))]);
    runs(&site, 4);
    let metrics = site.fetch_from(crate::support::site::METRICS, "/metrics").expect("answered");
    assert!(metrics.contains("windlass_images_removed_total 1"), "{metrics}");
    // What somebody else fills the disk with is not ours to remove; it is said.
    site.host.load(&bulky("foreign.test/large:1", 100 << 20));
    bring(&site, 7);
    site.wait("the disk is too full", |site| {
        let node = site.get("/api/v1/nodes/n1");
        let conditions = node["status"]["conditions"].as_array()?.clone();
        conditions
            .iter()
            .any(|one| one["type"] == "DiskPressure" && one["status"] == "True")
            .then_some(())
    });
    let (said, _) = site.windlass(&["status"]);
    assert!(said.contains("no image may be removed"), "{said}");
    let (said, _) = site.windlass(&["events", "-A"]);
    assert!(said.contains("FreeDiskSpaceFailed"), "{said}");
    assert!(tags(&site).contains("foreign.test/large:1"));
}
