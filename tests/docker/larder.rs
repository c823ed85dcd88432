//! Images without a registry: archives in a directory, given to a real Docker.

use std::fs;
use std::path::PathBuf;

use serde_json::json;
use windlass::adapters::docker::{Docker, Options};
use windlass::adapters::images::{self, Images};
use windlass::kinds::name::Name;
use windlass::ports::Fault;
use windlass::ports::larder::{ImageKey, Place};
use windlass::ports::runtime::{
    ImageSeen, ImageWish, Pull, REASON_NEVER_PULL, REASON_PULL, split_reason,
};

use crate::support::host::Host;
use crate::support::images::{bulky, busybox, oci};

struct Larder {
    images: Images,
    directory: PathBuf,
    _data: tempfile::TempDir,
}

fn larder(host: &Host) -> Larder {
    let data = crate::support::scratch("wdock-larder-");
    let directory = data.path().join("images");
    fs::create_dir(&directory).expect("made");
    let images = open(host, data.path());
    Larder { images, directory, _data: data }
}

fn open(host: &Host, data: &std::path::Path) -> Images {
    let digest_map = data.join("digests.json");
    let docker = Docker::connect(Options {
        socket: host.socket(),
        node: Name::trusted("larder"),
        registry_config: None,
        digest_map: Some(digest_map.clone()),
    });
    let options = images::Options {
        directory: data.join("images"),
        catalogue: data.join("images.json"),
        digest_map,
        brought: data.join("brought.json"),
        named: data.join("named.json"),
        workshop: data.join("bundle"),
        send_limit: None,
    };
    Images::open(docker, options)
}

async fn ensure(images: &Images, image: &str, pull: Pull) -> Result<ImageSeen, Fault> {
    images.ensure(ImageWish { image: image.into(), pull, credentials: Vec::new() }).await
}

fn remove(host: &Host, image: &str) {
    host.plain().delete(&format!("/images/{image}?force=1")).expect("answers").expect(200);
}

/// An image unlike any other.
fn unique(name: &str) -> windlass::adapters::docker::archive::Archive {
    busybox(name, &json!({"Cmd": ["sh"], "Labels": {"larder": name}}))
}

#[tokio::test]
async fn archives_are_loaded_as_they_appear_and_read_once() {
    let Some(host) = Host::shared() else { return };
    let larder = larder(host);
    let (plain, packed) = (unique("wdl.test/larder-plain:1"), unique("wdl.test/larder-zstd:1"));
    fs::write(larder.directory.join("plain.tar"), &plain.tar).expect("written");
    let zstd = zstd::stream::encode_all(&packed.tar[..], 1).expect("packed");
    fs::write(larder.directory.join("packed.tar.zst"), zstd).expect("written");
    fs::write(larder.directory.join("notes.txt"), "no archive").expect("written");
    assert!(larder.images.look().await, "two have come");
    assert!(!larder.images.look().await, "nothing else has");
    for (name, archive) in
        [("wdl.test/larder-plain:1", &plain), ("wdl.test/larder-zstd:1", &packed)]
    {
        let seen = ensure(&larder.images, name, Pull::Never).await.expect("loaded");
        assert_eq!((&seen.id, seen.has_command), (&archive.id, true));
        // An archive is what a registry is elsewhere: also for who always asks.
        assert_eq!(ensure(&larder.images, name, Pull::Always).await.expect("here").id, archive.id);
        // Taken from Docker, it comes again out of its archive.
        remove(host, name);
        let again = ensure(&larder.images, name, Pull::Missing).await.expect("loaded again");
        assert!(again.pulled.is_some() && again.id == archive.id);
    }
    let next_life = open(host, larder.directory.parent().expect("a parent"));
    assert!(!next_life.look().await, "what is known is not read again");
    remove(host, "wdl.test/larder-plain:1");
    let seen = ensure(&next_life, "wdl.test/larder-plain:1", Pull::Missing).await;
    assert_eq!(seen.expect("found by what was written down").id, plain.id);
}

#[tokio::test]
async fn an_image_pinned_by_digest_is_proved_by_its_archive() {
    let Some(host) = Host::shared() else { return };
    let larder = larder(host);
    let saved = unique("wdl.test/larder-pinned:1");
    let (tar, digest) = oci(&saved, None);
    fs::write(larder.directory.join("pinned.tar"), &tar).expect("written");
    assert!(larder.images.look().await);
    let pinned = format!("registry.example/team/app:v7@{digest}");
    let seen = ensure(&larder.images, &pinned, Pull::Never).await.expect("known by its digest");
    assert_eq!(seen.id, saved.id);
    assert!(seen.digest.ends_with(&digest), "{seen:?}");
    // With the archive gone, our own map knows it; and a digest that nothing has is not believed.
    fs::remove_file(larder.directory.join("pinned.tar")).expect("removed");
    larder.images.look().await;
    assert_eq!(ensure(&larder.images, &pinned, Pull::Missing).await.expect("mapped").id, saved.id);
    let other = format!("registry.example/team/app@sha256:{}", "0".repeat(64));
    let fault = ensure(&larder.images, &other, Pull::Never).await.expect_err("nowhere");
    assert_eq!(split_reason(&fault).0, Some(REASON_NEVER_PULL), "{fault:?}");
}

#[tokio::test]
async fn where_an_image_was_looked_for_is_said() {
    let Some(host) = Host::shared() else { return };
    let larder = larder(host);
    let saved = bulky("wdl.test/larder-cut:1", 5000);
    fs::write(larder.directory.join("cut.tar"), &saved.tar[..saved.tar.len() / 2])
        .expect("written");
    assert!(!larder.images.look().await);
    let fault = ensure(&larder.images, "127.0.0.1:5999/none:1", Pull::Missing).await;
    let fault = fault.expect_err("nowhere");
    let directory = larder.directory.display().to_string();
    assert_eq!(split_reason(&fault).0, Some(REASON_PULL));
    for words in ["connection refused", &*directory, "cut.tar", "was it copied whole?"] {
        assert!(fault.message.contains(words), "{words}: {fault}");
    }
    // A layer that is not what its config says: Docker refuses it, and so do we.
    let mut tar = saved.tar.clone();
    let busybox = fs::read("/bin/busybox").expect("busybox-static is installed");
    let at = tar.windows(64).position(|piece| piece == &busybox[4096..4160]).expect("is in it");
    tar[at] ^= 1;
    fs::write(larder.directory.join("cut.tar"), &tar).expect("written");
    larder.images.look().await;
    let fault = ensure(&larder.images, "wdl.test/larder-cut:1", Pull::Never).await;
    let fault = fault.expect_err("is another");
    assert!(fault.message.contains("could not be loaded"), "{fault}");
}

/// What of the images named so lies in a place: whether it is used, and whether it is ours.
async fn lies(larder: &Larder, name: &str, place: Place) -> Option<(ImageKey, bool, bool)> {
    let stock = larder.images.take_stock().await.expect("asked").stock.expect("looked through");
    assert!(stock.disks.values().all(|disk| disk.bytes_total > disk.bytes_free), "{stock:?}");
    let mut found =
        stock.images.into_iter().filter(|its| its.key.0 == place && its.names.contains(name));
    found.next().map(|its| (its.key, its.is_used, its.is_ours))
}

#[tokio::test]
async fn what_the_agent_brought_may_go_and_what_is_used_or_foreign_stays() {
    let Some(host) = Host::shared() else { return };
    let larder = larder(host);
    let [ours, renamed, foreign, used] =
        ["ours", "renamed", "foreign", "used"].map(|name| format!("wdl.test/larder-{name}:1"));
    for name in [&ours, &renamed, &used] {
        let file = larder.directory.join(format!("{}.tar", &name[9..name.len() - 2]));
        fs::write(file, unique(name).tar).expect("written");
    }
    host.load(&unique(&foreign));
    assert!(larder.images.look().await, "they are loaded");
    // That it is asked for does not make it ours.
    ensure(&larder.images, &foreign, Pull::Missing).await.expect("is here");
    let tag = format!("/images/{renamed}/tag?repo=backup.test/kept&tag=1");
    host.plain().send("POST", &tag, &[], &[]).expect("answers").expect(201);
    let body = json!({"Image": used, "Cmd": ["true"]}).to_string();
    let headers = [("Content-Type", "application/json".to_owned())];
    let made =
        host.plain().send("POST", "/containers/create?name=larder-used", &headers, body.as_bytes());
    made.expect("answers").expect(201);
    let mut keys = Vec::new();
    for (name, is_used, is_ours) in [
        (&ours, false, true),
        (&renamed, false, false),
        (&foreign, false, false),
        (&used, true, true),
    ] {
        let (key, seen_used, seen_ours) =
            lies(&larder, name, Place::Docker).await.expect("is there");
        assert_eq!((seen_used, seen_ours), (is_used, is_ours), "{name}");
        keys.push(key);
    }
    // Whatever is asked for, Docker's word on what is used holds.
    let asked = vec![keys[0].clone(), keys[3].clone()];
    assert_eq!(larder.images.remove(asked).await.expect("tried"), [keys[0].clone()]);
    assert_eq!(lies(&larder, &ours, Place::Docker).await, None);
    assert!(lies(&larder, &used, Place::Docker).await.is_some());
    // And it comes again from where it came.
    ensure(&larder.images, &ours, Pull::Never).await.expect("loaded again");
    assert!(lies(&larder, &ours, Place::Docker).await.expect("is there").2, "and is ours again");
    host.plain().delete("/containers/larder-used").expect("answers").expect(204);
    for name in [&ours, &renamed, &foreign, &used, &"backup.test/kept:1".to_owned()] {
        remove(host, name);
    }
}
