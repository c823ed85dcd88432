//! No registry, no network: images from archives, commits and images from a bundle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use windlass::kinds::digest::Digest;

use crate::support::host::run;
use crate::support::images::{bulky, busybox, oci, stacked};
use crate::support::lab::{Fleet, NODES};
use crate::support::must_git;
use crate::support::registry::Registry;
use crate::support::servers::{Httpd, Sshd, have_servers};
use crate::support::shore::{Shore, sleeper};
use crate::support::site::{NAMESPACE, Site, is_ready, web};

/// Why the first container of the first pod waits.
fn waits(site: &Site, app: &str) -> Option<String> {
    let pods = site.pods(&format!("app={app}"));
    let waiting = pods.first()?.pointer("/status/containerStatuses/0/state/waiting")?;
    Some(format!("{}: {}", waiting["reason"].as_str()?, waiting["message"].as_str()?))
}

#[test]
fn a_pod_that_waits_for_its_image_starts_when_an_archive_of_it_appears() {
    let Some(site) = Site::start("we2e-larder-") else { return };
    let saved = busybox("unused.test/x:1", &json!({"Labels": {"for": "larder"}}));
    let (tar, digest) = oci(&saved, None);
    let image = format!("registry.invalid/team/app:1@{digest}");
    site.push(
        "app",
        &[("namespace.yaml", Some(NAMESPACE)), ("app.yaml", Some(&sleeper("app", &image)))],
    );
    let images = site.data_dir().join("images");
    let why = site.wait("the pod waits", |site| {
        waits(site, "app").filter(|why| why.contains("has no image"))
    });
    assert!(why.starts_with("ErrImagePull") || why.starts_with("ImagePullBackOff"), "{why}");
    assert!(why.contains(&images.display().to_string()), "{why}");
    let pod = crate::support::site::name(&site.pods("app=app")[0]);
    let (said, _) = site.windlass(&["why", "pod", &pod, "-n", "shop"]);
    assert!(said.contains("images directory"), "{said}");
    // Copied slowly, as from a stick: it is taken when it is whole.
    let path = images.join("app.tar");
    fs::write(&path, &tar[..tar.len() / 2]).expect("written");
    std::thread::sleep(Duration::from_millis(700));
    fs::write(&path, &tar).expect("written");
    site.wait_ready("app=app", 1);
}

fn tip(site: &Site) -> String {
    must_git(&site.desired(), &["rev-parse", "main"])
}

fn remove_images(site: &Site, names: &[&str]) {
    for name in names {
        let path = format!("/images/{name}?force=1");
        site.host.plain().delete(&path).expect("answers").expect(200);
    }
}

/// The page of a bundle.
fn page(bundle: &Path) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
    let output = command.args(["bundle", "show", "-o", "json"]).arg(bundle).output().expect("runs");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

/// Every blob of the store, with whether it is what it is called.
fn blobs(site: &Site) -> BTreeMap<String, bool> {
    let dir = site.data_dir().join("images/store/blobs/sha256");
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    let checked = entries.map(|entry| {
        let name = entry.file_name().to_string_lossy().into_owned();
        let content = fs::read(entry.path()).expect("read");
        (name.clone(), Digest::of(&content).hex() == name)
    });
    checked.collect()
}

/// What a bundle's bills of materials say: each image, with the packages in it.
fn bills(shore: &Shore, pieces: &[PathBuf]) -> BTreeMap<String, Vec<String>> {
    let whole: Vec<u8> = pieces.iter().flat_map(|piece| fs::read(piece).expect("read")).collect();
    let dir = tempfile::tempdir_in(shore.dir.path()).expect("a directory");
    fs::write(dir.path().join("whole.wb"), whole).expect("written");
    let mut tar = Command::new("tar");
    let status = tar.args(["-xf", "whole.wb", "sbom"]).current_dir(&dir).status();
    assert!(status.expect("tar runs").success());
    let files = fs::read_dir(dir.path().join("sbom")).expect("bills").flatten();
    let read = files.map(|file| {
        let bill: Value =
            serde_json::from_slice(&fs::read(file.path()).expect("read")).expect("JSON");
        assert_eq!(
            (&bill["bomFormat"], &bill["specVersion"]),
            (&json!("CycloneDX"), &json!("1.6"))
        );
        let image = &bill["metadata"]["component"];
        let hash = image["hashes"][0]["content"].as_str().expect("a hash");
        assert_eq!(file.file_name().to_string_lossy(), format!("{hash}.cdx.json"));
        let packages = bill["components"].as_array().expect("components").iter();
        let packages = packages.filter_map(|one| one["purl"].as_str().map(str::to_owned));
        let text = |field: &str| image[field].as_str().expect("text").to_owned();
        (format!("{}:{}", text("name"), text("version")), packages.collect())
    });
    read.collect()
}

/// tar, git and ssh-keygen read what they are given.
fn anybody_takes_it_apart(shore: &Shore, one: &Path) {
    let apart = shore.path("apart");
    fs::create_dir(&apart).expect("made");
    let tar = Command::new("tar").arg("-xf").arg(one).arg("-C").arg(&apart).status();
    assert!(tar.expect("tar runs").success());
    must_git(
        &shore.path("clone"),
        &["bundle", "verify", "-q", &apart.join("commits.bundle").display().to_string()],
    );
    let verify = Command::new("ssh-keygen")
        .args(["-Y", "verify", "-I", "ada@example", "-n", "windlass-bundle", "-f"])
        .arg(shore.path("signers"))
        .arg("-s")
        .arg(apart.join("windlass-bundle.json.sig"))
        .stdin(fs::File::open(apart.join("windlass-bundle.json")).expect("opens"))
        .stdout(Stdio::null())
        .status();
    assert!(verify.expect("ssh-keygen runs").success());
}

/// Cut short, lengthened, changed, sealed by a stranger.
fn nothing_is_taken_of_what_is_not_whole(site: &Site, shore: &Shore, one: &Path, forged: &Path) {
    let first = tip(site);
    let bytes = fs::read(one).expect("read");
    let bad = shore.path("bad.wb");
    let refuse = |content: &[u8], words: &str| {
        fs::write(&bad, content).expect("written");
        let said = shore.apply(site, &bad, &[]).expect_err(words);
        assert!(said.contains(words) && said.contains("hint: "), "{words}: {said}");
        assert_eq!((tip(site), blobs(site).len()), (first.clone(), 0), "{words}");
    };
    refuse(&bytes[..bytes.len() - 600], "ends in the middle of");
    refuse(&bytes[..700], "ends in the middle of windlass-bundle.json");
    refuse(&[&bytes[..], b"more"].concat(), "something follows its end");
    refuse(b"no bundle at all", "ends in the middle of");
    for at in (600..bytes.len()).step_by(bytes.len() / 12) {
        let mut other = bytes.clone();
        other[at] ^= 0x20;
        refuse(&other, "");
    }
    refuse(&fs::read(forged).expect("read"), "which nobody of the list has");
}

/// The same bundle, sealed by somebody whom nobody knows.
fn forged(shore: &Shore, site: &Site, args: &[&str]) -> PathBuf {
    let rename = |from: &str, to: &str| {
        for half in ["", ".pub"] {
            let path = |name: &str| shore.path(&format!("{name}{half}"));
            fs::rename(path(from), path(to)).expect("moved");
        }
    };
    rename("key", "kept");
    let made = Command::new("ssh-keygen")
        .args(["-q", "-t", "ed25519", "-N", "", "-f"])
        .arg(shore.path("key"))
        .status();
    assert!(made.expect("runs").success());
    let forged = shore.create(site, "forged.wb", args).expect("made");
    rename("kept", "key");
    forged
}

/// To a node that has nothing, the difference is of no use, and that is said; nor is the whole, where there
/// is no room for it.
fn needs_its_base_and_room(site: &Site, shore: &Shore, one: &Path, two: &Path) {
    let elsewhere = site.host.dir().join("elsewhere");
    let disk = elsewhere.join("data");
    fs::create_dir_all(&disk).expect("made");
    let mount = |options: &str| {
        run(Command::new("mount").args(["-t", "tmpfs", "-o", options, "disk"]).arg(&disk));
    };
    mount("size=65m");
    must_git(&elsewhere, &["init", "-q", "--bare", "-b", "main", "desired.git"]);
    let config = elsewhere.join("agent.yaml");
    let json = json!({"node": {"name": "n9"}, "desired": {"url": elsewhere.join("desired.git")}, "dataDir": disk});
    fs::write(&config, json.to_string()).expect("written");
    let said = shore.apply_to(&config, two, &[]).expect_err("has no base");
    assert!(said.contains("builds on what was here before (commit"), "{said}");
    assert!(said.contains("no agent answers"), "other nodes could not be asked: {said}");
    let said = shore.apply_to(&config, one, &[]).expect_err("has no room");
    assert!(said.contains("MB are needed") && said.contains("nothing has been taken"), "{said}");
    let store = disk.join("images/store/blobs/sha256");
    assert_eq!(fs::read_dir(store).expect("a store").count(), 0);
    mount("remount,size=300m");
    assert!(shore.apply_to(&config, one, &[]).is_ok(), "the whole one brings everything");
    let said = shore.apply_to(&config, two, &[]).expect("and then it fits");
    assert!(said.contains("is at commit"), "{said}");
}

#[test]
fn a_bundle_brings_commits_and_images_and_an_older_one_sets_nothing_back() {
    let Some(site) = Site::start("we2e-bundle-") else { return };
    let first = site.push(
        "The shop",
        &[("namespace.yaml", Some(NAMESPACE)), ("web.yaml", Some(&web("one", 1, 30080)))],
    );
    site.wait_ready("app=web", 1);
    let Some(shore) = Shore::new(&site.desired()) else { return };
    // One image from an archive, one from a registry, by digest, and one from Docker.
    let config = |label: &str| json!({"Cmd": ["sh"], "Labels": {"image": label}});
    let archived = bulky("registry.invalid/shop/archived:1", 300_000);
    shore.archive("archived.tar", &archived.tar);
    site.host.load(&busybox("registry.invalid/shop/local:1", &config("local")));
    let Some(registry) = Registry::start(&site.host, 5001, false) else { return };
    site.host.load(&busybox("wdl.test/pushed:1", &config("pushed")));
    let digest = registry.push("wdl.test/pushed:1", "team/pushed", "v1");
    let pinned = format!("{}/team/pushed:v1@{digest}", registry.address);
    let files = [
        ("archived.yaml", sleeper("archived", "registry.invalid/shop/archived:1")),
        ("local.yaml", sleeper("local", "registry.invalid/shop/local:1")),
        ("pushed.yaml", sleeper("pushed", &pinned)),
    ];
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, &**text)).collect();
    let second = shore.commit("Three more", &files);
    let plain = ["--plain-http", &*registry.address, "--sbom"];
    let lost = shore.create(&site, "x.wb", &["--no-registry"]).expect_err("one is not to be had");
    assert!(lost.contains("team/pushed") && lost.contains("nowhere to be had"), "{lost}");
    let one = shore.create(&site, "one.wb", &plain).expect("made");
    let whole = page(&one);
    assert_eq!(whole["images"].as_array().map(Vec::len), Some(4), "the web server's as well");
    let listed = bills(&shore, std::slice::from_ref(&one));
    assert_eq!(listed.len(), 4, "{listed:?}");
    let busybox = "pkg:deb/debian/busybox-static@1:1.35.0?arch=amd64";
    assert_eq!(listed["registry.invalid/shop/archived:1"], [busybox]);
    assert_eq!(listed["registry.invalid/shop/local:1"], [""; 0], "it has no list");
    let forged = forged(&shore, &site, &plain);
    drop(registry);
    remove_images(&site, &["registry.invalid/shop/local:1", "wdl.test/pushed:1"]);

    anybody_takes_it_apart(&shore, &one);
    nothing_is_taken_of_what_is_not_whole(&site, &shore, &one, &forged);
    assert_eq!(tip(&site), first);

    let said = shore.apply(&site, &one, &[]).expect("taken in");
    assert!(said.contains("sealed by ada@example"), "{said}");
    assert_eq!(tip(&site), second);
    for app in ["archived", "local", "pushed"] {
        site.wait_ready(&format!("app={app}"), 1);
    }
    assert!(shore.apply(&site, &one, &[]).expect("again").contains("already; 0 new blobs"));

    // What the base has is left out.
    let newer = bulky("registry.invalid/shop/archived:2", 300_000);
    shore.archive("newer.tar", &newer.tar);
    let text = sleeper("archived", "registry.invalid/shop/archived:2");
    shore.commit("A newer one", &[("archived.yaml", &text)]);
    let base = one.display().to_string();
    let signers = shore.path("signers").display().to_string();
    let args =
        ["--base", &*base, "--signers", &*signers, "--no-registry", "--split", "1MiB", "--sbom"];
    let lost = shore.create(&site, "two.wb", &args).expect_err("the registry's is gone");
    assert!(lost.contains("team/pushed"), "{lost}");
    let text = sleeper("pushed", "registry.invalid/shop/archived:2");
    let third = shore.commit("No registry any more", &[("pushed.yaml", &text)]);
    // The site's own image is in Docker; the layers of the first bundle are known.
    shore.create(&site, "two.wb", &args).expect("made");
    let pieces = fs::read_dir(shore.dir.path()).expect("read").flatten();
    let pieces = pieces.filter(|entry| entry.file_name().to_string_lossy().starts_with("two.wb."));
    let mut pieces: Vec<PathBuf> = pieces.map(|entry| entry.path()).collect();
    pieces.sort();
    assert_eq!(pieces.len(), 2, "cut");
    let listed = bills(&shore, &pieces);
    let local = &listed["registry.invalid/shop/local:1"];
    assert_eq!(local, &[""; 0], "what the base has was read, and left out");
    assert_eq!(listed["registry.invalid/shop/archived:2"], [busybox]);
    let two = shore.path("two.wb.001");
    let difference = page(&two);
    assert!(difference["required"].as_array().is_some_and(|all| !all.is_empty()), "{difference}");

    needs_its_base_and_room(&site, &shore, &one, &two);

    shore.apply(&site, &two, &[]).expect("taken in");
    assert_eq!(tip(&site), third);
    site.wait_in_force(&third);
    site.wait_ready("app=archived", 1);
    assert!(blobs(&site).values().all(|is_true| *is_true));
    let said = shore.apply(&site, &one, &[]).expect_err("is older");
    assert!(said.contains("older than what the fleet has"), "{said}");
    assert_eq!(tip(&site), third);
    assert!(shore.apply(&site, &one, &["--images-only"]).is_ok());
    // What only the first had goes, when it is asked for; what a revert would need stays until then.
    let agent = site.host.dir().join("agent.yaml").display().to_string();
    let prune =
        |keep: &str| site.windlass(&["bundle", "prune", "--config", &agent, "--keep", keep]).0;
    let had = blobs(&site).len();
    assert!(prune("2").contains("0 images and 0 blobs removed"));
    let said = prune("1");
    assert!(said.contains("shop/archived:1") && said.contains("team/pushed"), "{said}");
    assert!(!said.contains("shop/local:1"), "the second bundle names it too: {said}");
    assert!(blobs(&site).len() < had);
    assert!(shore.apply(&site, &two, &[]).expect("again").contains("0 new blobs"));
    // Somebody has pushed something else meanwhile.
    site.git(&["fetch", "-q", "origin"]);
    site.git(&["reset", "-q", "--hard", "origin/main"]);
    let aside = site.push("A mend on board", &[("note.txt", Some("x"))]);
    shore.commit("On shore", &[("other.txt", "y")]);
    let args = ["--base-commit", "HEAD~1", "--no-registry"];
    let three = shore.create(&site, "three.wb", &args).expect("made");
    let said = shore.apply(&site, &three, &[]).expect_err("has parted");
    assert!(said.contains("does not lead to"), "{said}");
    assert_eq!(tip(&site), aside);
}

#[test]
fn a_stick_that_is_plugged_in_is_taken_in_if_it_is_sealed() {
    let Some(mut site) = Site::start("we2e-stick-") else { return };
    let first = site.push("The shop", &[("namespace.yaml", Some(NAMESPACE))]);
    let Some(shore) = Shore::new(&site.desired()) else { return };
    site.stop_agent(nix::sys::signal::Signal::SIGTERM);
    let media = site.host.dir().join("media");
    fs::create_dir_all(media.join("stick")).expect("made");
    let config = site.host.dir().join("agent.yaml");
    let mut json: Value = serde_json::from_slice(&fs::read(&config).expect("read")).expect("JSON");
    json["bundles"] = json!({"watch": media, "signers": shore.path("signers")});
    fs::write(&config, json.to_string()).expect("written");
    site.start_agent();

    shore.archive("app.tar", &bulky("registry.invalid/shop/app:1", 100_000).tar);
    let text = sleeper("app", "registry.invalid/shop/app:1");
    let second = shore.commit("By stick", &[("app.yaml", &text)]);
    let made = shore.create(&site, "x.wb", &["--no-registry"]).expect("made");
    let mut bytes = fs::read(&made).expect("read");
    let last = bytes.len() - 2000;
    bytes[last] ^= 1;
    fs::write(media.join("stick/bad.wb"), &bytes).expect("written");
    site.wait("it is refused", |site| site.log().contains("a bundle was refused").then_some(()));
    assert_eq!(tip(&site), first);
    fs::copy(&made, media.join("stick/good.wb")).expect("copied");
    site.wait_in_force(&second);
    site.wait_ready("app=app", 1);
    assert_eq!(site.log().matches("a bundle was refused").count(), 1, "{}", site.log());
}

/// Runs it again and again, killed a little later each time, and looks after each; how often it was killed
/// before it came to its end.
fn until_it_ends(site: &Site, run: impl Fn() -> Command, look: impl Fn(u64)) -> u32 {
    let said = site.host.dir().join("said");
    let (mut kills, mut wait) = (0, 3);
    loop {
        let mut command = run();
        command.stdout(Stdio::null()).stderr(File::create(&said).expect("made"));
        let mut child = command.spawn().expect("it runs");
        std::thread::sleep(Duration::from_millis(wait));
        let has_ended = child.try_wait().expect("asked").is_some();
        let _ = child.kill();
        let ended = child.wait().expect("ends");
        look(wait);
        if has_ended && ended.success() {
            return kills;
        }
        kills += 1;
        wait = wait * 5 / 4 + 1;
        let said = || fs::read_to_string(&said).unwrap_or_default();
        assert!(wait < 60_000, "after {kills} kills it comes to no end: {}", said());
    }
}

#[test]
fn a_power_cut_in_the_middle_of_a_bundle_costs_the_time_since() {
    let Some(site) = Site::start("we2e-cut-") else { return };
    let first = site.push("The shop", &[("namespace.yaml", Some(NAMESPACE))]);
    let Some(shore) = Shore::new(&site.desired()) else { return };
    let mut files = Vec::new();
    for number in 0..4 {
        let name = format!("registry.invalid/shop/bulky:{number}");
        shore.archive(&format!("{number}.tar"), &bulky(&name, 6_000_000).tar);
        files.push((format!("{number}.yaml"), sleeper(&format!("bulky-{number}"), &name)));
    }
    let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (&**name, &**text)).collect();
    let second = shore.commit("Much", &files);
    // Making it is cut off as often as it takes, and what was gathered is not gathered again.
    let bundle = shore.path("much.wb");
    let making = || {
        let mut command = creating();
        command.arg(&bundle).arg("--repo").arg(shore.path("clone"));
        command.arg("--archive").arg(shore.path("archives")).arg("--key").arg(shore.path("key"));
        command
    };
    let kills = until_it_ends(&site, making, |wait| {
        if bundle.exists() {
            let mut verify = Command::new(env!("CARGO_BIN_EXE_windlass"));
            verify.args(["bundle", "verify"]).arg(&bundle);
            let output = verify.arg("--signers").arg(shore.path("signers")).output();
            let output = output.expect("it runs");
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "after {wait} ms: {said}");
        }
    });
    assert!(kills >= 5, "{kills}");
    assert!(!shore.path("much.wb.work").exists(), "nothing else is left");
    let expected: Vec<String> = page(&bundle)["parts"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|part| part["path"].as_str()?.strip_prefix("blobs/sha256/").map(str::to_owned))
        .collect();
    let config = site.host.dir().join("agent.yaml");
    let kills = until_it_ends(
        &site,
        || shore.applying(&config, &bundle),
        |wait| {
            // What has a name is true, and the branch moves when all is there.
            let there = blobs(&site);
            assert!(there.values().all(|is_true| *is_true), "after {wait} ms");
            let now = tip(&site);
            assert!(now == first || now == second, "{now}");
            if now == second {
                assert!(expected.iter().all(|blob| there.contains_key(blob)), "after {wait} ms");
            }
        },
    );
    assert!(kills >= 5);
    assert_eq!(tip(&site), second);
    for number in 0..4 {
        site.wait_ready(&format!("app=bulky-{number}"), 1);
    }
    let left = fs::read_dir(site.data_dir().join("images/store/coming")).expect("read").count();
    assert_eq!(left, 0, "what was cut off is cleared away");
    let mode = fs::metadata(site.data_dir().join("bundle")).expect("there").permissions().mode();
    assert_eq!(mode & 0o077, 0, "nobody else looks in");
}

#[test]
fn commits_are_pushed_over_ssh_and_https_and_a_refusal_is_told() {
    if !have_servers("commits_are_pushed_over_ssh_and_https_and_a_refusal_is_told") {
        return;
    }
    let dir = crate::support::scratch("we2e-push-");
    must_git(dir.path(), &["init", "-q", "--bare", "-b", "main", "desired.git"]);
    let there = dir.path().join("desired.git");
    let Some(shore) = Shore::new(&there) else { return };
    let made = |name: &str, args: &[&str]| shore.create_by(creating(), name, args).expect("made");
    let configure = |desired: Value| {
        let path = dir.path().join("agent.yaml");
        let config =
            json!({"node": {"name": "n1"}, "desired": desired, "dataDir": dir.path().join("data")});
        fs::write(&path, config.to_string()).expect("written");
        path
    };
    let tip = || must_git(&there, &["rev-parse", "main"]);

    let sshd = Sshd::start();
    let hosts = sshd.known_hosts("hosts", &sshd.known_host("host_ed25519"));
    let config = configure(json!({"url": sshd.url(&there), "credentials": {
        "sshKeyFile": sshd.file("client"), "knownHostsFile": hosts,
    }}));
    let first = shore.commit("one", &[("namespace.yaml", NAMESPACE)]);
    let one = made("one.wb", &[]);
    shore.apply_to(&config, &one, &[]).expect("pushed by ssh");
    assert_eq!(tip(), first);

    let second = shore.commit("two", &[("note.txt", "2")]);
    let two = made("two.wb", &["--base", &one.display().to_string()]);
    let hook = there.join("hooks/pre-receive");
    fs::create_dir_all(there.join("hooks")).expect("made");
    fs::write(&hook, "#!/bin/sh\nexit 1\n").expect("written");
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).expect("set");
    let said = shore.apply_to(&config, &two, &[]).expect_err("the hook says no");
    assert!(said.contains("its commits are not") && said.contains("hook"), "{said}");
    assert_eq!(tip(), first);
    fs::remove_file(&hook).expect("removed");

    let httpd = Httpd::start(dir.path());
    let config = configure(json!({"url": httpd.tls_url("git", "desired.git"), "credentials": {
        "tokenFile": httpd.file("wrong"), "caFile": httpd.file("tls.crt"),
    }}));
    let said = shore.apply_to(&config, &two, &[]).expect_err("a wrong token");
    assert!(said.contains("does not accept the password") && !said.contains("hunter2"), "{said}");
    assert_eq!(tip(), first);
    let token = httpd.file("password").display().to_string();
    shore.apply_to(&config, &two, &["--token-file", &token]).expect("pushed by https");
    assert_eq!(tip(), second);
}

/// One pod on each node, from this image.
fn everywhere(name: &str, image: &str) -> String {
    sleeper(name, image).replace("kind: Deployment", "kind: DaemonSet")
}

/// Every node has a ready pod of this name's DaemonSet.
fn wait_everywhere(fleet: &Fleet, name: &str) {
    fleet.wait(&format!("{name} on every node"), || {
        let pods = fleet.pods("n1");
        let ready = pods
            .iter()
            .filter(|(pod, shown)| pod.starts_with(&format!("{name}-")) && is_ready(shown));
        let nodes: BTreeSet<&str> =
            ready.filter_map(|(_, shown)| shown["spec"]["nodeName"].as_str()).collect();
        (nodes.len() == NODES.len()).then_some(())
    });
}

fn store_of(fleet: &Fleet, node: &str) -> PathBuf {
    let config = fs::read_to_string(fleet.lab.host(node).dir().join("agent.yaml")).expect("read");
    let config: Value = serde_yaml::from_str(&config).expect("YAML");
    Path::new(config["dataDir"].as_str().expect("is set")).join("images/store/blobs/sha256")
}

/// An image above another that every Docker has: only what lies above it goes over the wire.
fn sends_no_layer_that_docker_has(fleet: &Fleet, shore: &Shore) {
    let path = shore.path("stacked.tar");
    let below = bulky("registry.invalid/fleet/below:1", 500_000);
    fs::write(&path, &below.tar).expect("written");
    for node in NODES {
        fleet.lab.load_image(node, &path).expect("loaded");
    }
    let above = stacked("registry.invalid/fleet/above:1", &below, 100_000);
    fs::write(&path, &above.tar).expect("written");
    fleet.lab.load_image("n2", &path).expect("loaded");
    let sizes = |node: &str| -> BTreeMap<PathBuf, u64> {
        let blobs = fs::read_dir(store_of(fleet, node)).expect("a store").flatten();
        blobs.map(|blob| (blob.path(), blob.metadata().expect("is there").len())).collect()
    };
    let before = ["n1", "n3"].map(sizes);
    fleet.push(
        "Above",
        &[("extra-above.yaml", &everywhere("above", "registry.invalid/fleet/above:1"))],
    );
    wait_everywhere(fleet, "above");
    for (node, before) in ["n1", "n3"].iter().zip(before) {
        let new: u64 = sizes(node)
            .iter()
            .filter(|(path, _)| !before.contains_key(*path))
            .map(|one| one.1)
            .sum();
        assert!((100_000..200_000).contains(&new), "{new} bytes came to {node}");
        assert!(fleet.log(node).contains("Docker had the lower layers"), "{}", fleet.log(node));
        let socket = format!("unix://{}", fleet.lab.host(node).socket().display());
        let args = ["images", "-q", "--no-trunc", "registry.invalid/fleet/above:1"];
        let output = Command::new("docker").args(["-H", &socket]).args(args).output();
        let id = String::from_utf8_lossy(&output.expect("docker runs").stdout).into_owned();
        assert_eq!(id.trim(), above.id, "{node}");
    }
}

/// `windlass bundle create`, from archives alone.
fn creating() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
    command.args(["bundle", "create", "--no-registry", "--docker", "/nowhere"]);
    command
}

/// A bundle of what the fleet says it lacks, on a node that has lost some of the rest.
fn takes_a_difference_on_any_node(fleet: &Fleet, shore: &Shore, there: &str) {
    let config = |node: &str| fleet.lab.host(node).dir().join("agent.yaml");
    let held = shore.path("held.json");
    let mut report = Command::new(env!("CARGO_BIN_EXE_windlass"));
    report.args(["bundle", "report"]).arg(&held).arg("--config").arg(config("n2"));
    let output = report.output().expect("it runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    shore.archive("third.tar", &bulky("registry.invalid/fleet/third:1", 250_000).tar);
    let text = everywhere("third", "registry.invalid/fleet/third:1");
    let commit = shore.commit("A third", &[("extra-third.yaml", &text)]);
    let base = held.display().to_string();
    let difference = shore.create_by(creating(), "third.wb", &["--base", &base]).expect("made");
    let shown = page(&difference);
    assert_eq!(shown["base"], json!({"commit": there}), "it builds on a report");
    let parts = shown["parts"].as_array().expect("parts").iter();
    let brought = parts.filter(|part| part["path"].as_str().is_some_and(|p| p.contains("blobs/")));
    assert_eq!(brought.count(), 3, "one image, and nothing that was there: {shown}");
    let required: Vec<&str> = shown["required"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|part| part["sha256"].as_str())
        .collect();
    let store = store_of(fleet, "n3");
    let hex = |digest: &str| digest.trim_start_matches("sha256:").to_owned();
    let lost = required.iter().map(|digest| store.join(hex(digest))).find(|path| path.exists());
    let lost = lost.expect("n3 has some of them");
    fs::remove_file(&lost).expect("removed");
    let desired = fleet.desired().display().to_string();
    shore.apply_to(&config("n3"), &difference, &["--push-to", &desired]).expect("taken in");
    assert!(
        required.iter().all(|digest| store.join(hex(digest)).exists()),
        "neighbours sent the rest"
    );
    assert_eq!(must_git(&fleet.desired(), &["rev-parse", "main"]), commit);
    wait_everywhere(fleet, "third");

    // And back, by the next stick.
    let clone = shore.path("clone");
    must_git(&clone, &["revert", "--no-edit", "HEAD"]);
    let base = difference.display().to_string();
    let back = shore.create_by(creating(), "back.wb", &["--base", &base]).expect("made");
    shore.apply_to(&config("n2"), &back, &["--push-to", &desired]).expect("taken in");
    assert_eq!(
        must_git(&fleet.desired(), &["rev-parse", "main"]),
        must_git(&clone, &["rev-parse", "HEAD"])
    );
    fleet.wait("the third is gone", || {
        fleet.pods("n1").keys().all(|pod| !pod.starts_with("third-")).then_some(())
    });
}

#[test]
fn a_bundle_on_one_node_feeds_a_fleet_without_any_route_out() {
    let Some(fleet) = Fleet::settled() else { return };
    let Some(shore) = Shore::new(&fleet.desired()) else { return };
    for node in NODES {
        let routes =
            fleet.inside(node, || Command::new("ip").args(["route", "show", "default"]).output());
        assert_eq!(routes.expect("ip runs").stdout, b"", "{node} has no default route");
    }
    let saved = bulky("unused.test/x:1", 400_000);
    let (tar, digest) = oci(&saved, None);
    shore.archive("pinned.tar", &tar);
    shore.archive("tagged.tar", &bulky("registry.invalid/fleet/tagged:1", 300_000).tar);
    let image = fs::read(fleet.image()).expect("the shop's image");
    shore.archive("shop.tar", &image);
    let commit = shore.commit(
        "Everywhere",
        &[
            (
                "extra-pinned.yaml",
                &everywhere("pinned", &format!("registry.invalid/fleet/app@{digest}")),
            ),
            ("extra-tagged.yaml", &everywhere("tagged", "registry.invalid/fleet/tagged:1")),
        ],
    );
    let bundle = shore.create_by(creating(), "fleet.wb", &[]).expect("made");
    let config = fleet.lab.host("n1").dir().join("agent.yaml");
    let desired = fleet.desired().display().to_string();
    shore.apply_to(&config, &bundle, &["--push-to", &desired]).expect("taken in");
    assert_eq!(must_git(&fleet.desired(), &["rev-parse", "main"]), commit);
    wait_everywhere(&fleet, "pinned");
    wait_everywhere(&fleet, "tagged");
    for node in ["n2", "n3"] {
        let blobs = fs::read_dir(store_of(&fleet, node)).expect("a store").count();
        assert_eq!(blobs, 6, "two images on {node}, and nothing that it had");
    }

    // Images are looked at when somebody asks.
    let listed = fleet.windlass("n3", &["images"]);
    assert!(listed.contains("registry.invalid/fleet/tagged:1"), "{listed}");
    takes_a_difference_on_any_node(&fleet, &shore, &commit);

    // What one node's Docker has, the others get from it.
    let path = shore.path("lone.tar");
    fs::write(&path, bulky("registry.invalid/fleet/lone:1", 200_000).tar).expect("written");
    fleet.lab.load_image("n2", &path).expect("loaded");
    fleet.pull();
    fleet.push(
        "One more",
        &[("extra-lone.yaml", &everywhere("lone", "registry.invalid/fleet/lone:1"))],
    );
    wait_everywhere(&fleet, "lone");
    assert!(fleet.log("n2").contains("another node fetches an image"), "{}", fleet.log("n2"));
    sends_no_layer_that_docker_has(&fleet, &shore);
    // And what nobody has, nobody is said to have.
    fleet.push(
        "And none",
        &[("extra-none.yaml", &everywhere("none", "registry.invalid/fleet/none:1"))],
    );
    let why = fleet.wait("why it waits", || {
        let pods = fleet.pods("n1");
        let waiting = pods.values().filter(|pod| {
            pod["metadata"]["name"].as_str().is_some_and(|name| name.starts_with("none-"))
        });
        let messages = waiting.filter_map(|pod| {
            let waiting = pod.pointer("/status/containerStatuses/0/state/waiting/message")?;
            waiting.as_str().map(str::to_owned)
        });
        messages.into_iter().find(|why| why.contains("does not have it"))
    });
    assert!(why.contains("node n") && why.contains("windlass/images"), "{why}");
}
