//! Images: found, pulled from a real registry, or not to be had.

use std::path::PathBuf;

use serde_json::json;
use windlass::adapters::docker::{Docker, Options};
use windlass::kinds::name::Name;
use windlass::ports::runtime::{
    Answer, Call, Credentials, ImageSeen, ImageWish, Pull, REASON_IMAGE_NAME, REASON_NEVER_PULL,
    REASON_PULL, split_reason,
};
use windlass::ports::{Fault, FaultKind};

use crate::support::host::Host;
use crate::support::images::{BUSYBOX, busybox};
use crate::support::registry::{PASSWORD, Registry, USER};

fn docker(host: &Host) -> Docker {
    docker_with(host, None, None)
}

fn docker_with(
    host: &Host,
    registry_config: Option<PathBuf>,
    digest_map: Option<PathBuf>,
) -> Docker {
    Docker::connect(Options {
        socket: host.socket(),
        node: Name::trusted("images"),
        registry_config,
        digest_map,
    })
}

async fn ensure(
    docker: &Docker,
    image: &str,
    pull: Pull,
    credentials: &[Credentials],
) -> Result<ImageSeen, Fault> {
    let wish = ImageWish { image: image.into(), pull, credentials: credentials.to_vec() };
    match docker.perform(Call::EnsureImage(wish)).await? {
        Answer::Image(image) => Ok(*image),
        other => panic!("{other:?}"),
    }
}

fn credentials(registry: &str, password: &str) -> Credentials {
    Credentials { registry: registry.into(), username: USER.into(), password: password.into() }
}

/// An image of its own layers, so that pulling it really fetches something.
fn load_unique(host: &Host, name: &str) -> String {
    let config = json!({"Cmd": ["sh"], "User": "1000", "Labels": {"unique": name}});
    host.load(&busybox(name, &config))
}

#[tokio::test]
async fn an_image_is_pulled_when_its_policy_says_so() {
    let Some(host) = Host::shared() else { return };
    let Some(registry) = Registry::start(host, 5001, false) else {
        return;
    };
    let id = load_unique(host, "wdl.test/policy:1");
    let digest = registry.push("wdl.test/policy:1", "team/policy", "v1");
    host.plain().delete("/images/wdl.test/policy:1").expect("answers").expect(200);
    let image = format!("{}/team/policy:v1", registry.address);
    let docker = docker(host);

    let fault = ensure(&docker, &image, Pull::Never, &[]).await.expect_err("missing");
    assert_eq!(split_reason(&fault).0, Some(REASON_NEVER_PULL), "{fault:?}");
    let pulled = ensure(&docker, &image, Pull::Missing, &[]).await.expect("pulled");
    assert!(pulled.pulled.is_some());
    let expected = ImageSeen {
        id: id.clone(),
        digest: format!("{}/team/policy@{digest}", registry.address),
        user: "1000".into(),
        has_command: true,
        ..pulled.clone()
    };
    assert_eq!(pulled, expected);
    assert!(pulled.bytes > 100_000);
    for (pull, is_pulled) in [(Pull::Missing, false), (Pull::Never, false), (Pull::Always, true)] {
        let seen = ensure(&docker, &image, pull, &[]).await.expect("here");
        assert_eq!(seen.pulled.is_some(), is_pulled, "{pull:?}");
        assert_eq!(seen.id, id);
    }
    // By id, and pinned by digest with a tag that is not looked at.
    assert_eq!(ensure(&docker, &id, Pull::Missing, &[]).await.expect("here").id, id);
    let pinned = format!("{}/team/policy:nonsense@{digest}", registry.address);
    assert_eq!(ensure(&docker, &pinned, Pull::Missing, &[]).await.expect("here").id, id);
    let path = format!("/images/{image}");
    host.plain().delete(&path).expect("answers").expect(200);
    let again = ensure(&docker, &pinned, Pull::Missing, &[]).await.expect("pulled");
    assert!(again.pulled.is_some() && again.id == id, "{again:?}");
}

#[tokio::test]
async fn what_can_t_be_pulled_says_who_must_act() {
    let Some(host) = Host::shared() else { return };
    let Some(open) = Registry::start(host, 5002, false) else {
        return;
    };
    let Some(locked) = Registry::start(host, 5003, true) else {
        return;
    };
    load_unique(host, "wdl.test/faults:1");
    open.push("wdl.test/faults:1", "faults", "v1");
    locked.push("wdl.test/faults:1", "faults", "v1");
    let docker = docker(host);
    let in_open = |name: &str| format!("{}/{name}", open.address);
    let in_locked = format!("{}/faults:v1", locked.address);
    let wrong = credentials(&locked.address, "wrong");
    let table = [
        (in_open("faults:nope"), vec![], FaultKind::NotFound, REASON_PULL, "manifest unknown"),
        (in_open("absent:v1"), vec![], FaultKind::NotFound, REASON_PULL, "not found"),
        (in_locked.clone(), vec![], FaultKind::Stalled, REASON_PULL, "no basic auth credentials"),
        (in_locked.clone(), vec![wrong.clone()], FaultKind::Stalled, REASON_PULL, "unauthorized"),
        (
            "127.0.0.1:5999/dead:v1".into(),
            vec![],
            FaultKind::Transient,
            REASON_PULL,
            "connection refused",
        ),
        ("Not/Valid".into(), vec![], FaultKind::Stalled, REASON_IMAGE_NAME, "lower case"),
        ("a b".into(), vec![], FaultKind::Stalled, REASON_IMAGE_NAME, "repository name"),
        (
            format!("sha256:{}", "0".repeat(64)),
            vec![],
            FaultKind::NotFound,
            REASON_PULL,
            "not on this node",
        ),
    ];
    for (image, credentials, kind, reason, words) in table {
        let fault = ensure(&docker, &image, Pull::Missing, &credentials).await.expect_err(&image);
        assert_eq!(fault.kind, kind, "{fault:?}");
        assert_eq!(split_reason(&fault).0, Some(reason), "{fault:?}");
        assert!(fault.message.contains(words), "{fault:?}");
        assert!(!fault.message.contains("wrong"), "{fault:?}");
    }

    // The right one among several; the nearest is tried first and refused.
    let right = credentials("127.0.0.1:5003", PASSWORD);
    let nearer = credentials("127.0.0.1:5003/faults", "wrong");
    let elsewhere = credentials("registry.example", "wrong");
    let seen = ensure(&docker, &in_locked, Pull::Missing, &[elsewhere, right, nearer])
        .await
        .expect("pulled");
    assert!(seen.pulled.is_some());
}

#[tokio::test]
async fn the_node_s_own_credentials_serve_where_the_pod_has_none() {
    let Some(host) = Host::shared() else { return };
    let Some(locked) = Registry::start(host, 5004, true) else {
        return;
    };
    load_unique(host, "wdl.test/own:1");
    locked.push("wdl.test/own:1", "own", "v1");
    let config = host.dir().join("config.json");
    let auths = json!({"auths": {&locked.address: {"username": USER, "password": PASSWORD}}});
    std::fs::write(&config, auths.to_string()).expect("written");
    let docker = docker_with(host, Some(config), None);
    let image = format!("{}/own:v1", locked.address);
    let seen = ensure(&docker, &image, Pull::Always, &[]).await.expect("pulled");
    assert!(seen.pulled.is_some());
}

#[tokio::test]
async fn two_pods_share_one_pull_and_its_progress_is_seen() {
    let Some(host) = Host::shared() else { return };
    let Some(registry) = Registry::start(host, 5005, false) else {
        return;
    };
    load_unique(host, "wdl.test/shared:1");
    registry.push("wdl.test/shared:1", "shared", "v1");
    host.plain().delete("/images/wdl.test/shared:1").expect("answers").expect(200);
    let image = format!("{}/shared:v1", registry.address);
    let docker = docker(host);
    let mut board = docker.pulls();
    let watching = tokio::spawn({
        let image = image.clone();
        async move {
            let mut most = None;
            loop {
                board.changed().await.expect("the board stays");
                match board.borrow().get(&image) {
                    Some(progress) => most = Some(progress.percent()),
                    None if most.is_some() => return most,
                    None => {}
                }
            }
        }
    });
    let both = tokio::join!(
        ensure(&docker, &image, Pull::Always, &[]),
        ensure(&docker, &image, Pull::Always, &[])
    );
    let (one, other) = (both.0.expect("pulled"), both.1.expect("pulled"));
    assert!(one.pulled.is_some());
    assert_eq!(one, other, "the same pull, to the microsecond");
    let most = tokio::time::timeout(std::time::Duration::from_secs(5), watching).await;
    assert!(most.expect("it ends").expect("runs").is_some());
}

#[tokio::test]
async fn an_image_pinned_by_digest_is_found_by_our_own_map() {
    let Some(host) = Host::shared() else { return };
    let id = load_unique(host, "wdl.test/mapped:1");
    let digest = format!("sha256:{}", "5".repeat(64));
    let map = host.dir().join("digests.json");
    std::fs::write(&map, json!({&digest: &id}).to_string()).expect("written");
    let docker = docker_with(host, None, Some(map));
    let image = format!("registry.example/app@{digest}");
    let seen = ensure(&docker, &image, Pull::Never, &[]).await.expect("mapped");
    assert_eq!((seen.id, seen.digest), (id, image));
    let other = format!("registry.example/app@sha256:{}", "6".repeat(64));
    ensure(&docker, &other, Pull::Never, &[]).await.expect_err("not mapped");
}

#[tokio::test]
async fn a_survey_tells_of_docker_its_host_and_its_images() {
    let Some(host) = Host::shared() else { return };
    let id = host.load_busybox();
    let Ok(Answer::Survey(seen)) = docker(host).perform(Call::Survey).await else {
        panic!("no survey");
    };
    assert!(seen.version.contains('.') && seen.cpus > 0 && seen.memory_bytes > 1 << 20, "{seen:?}");
    assert!(["amd64", "arm64"].contains(&seen.arch.as_str()), "{seen:?}");
    assert!(!seen.kernel.is_empty() && !seen.os.is_empty());
    let listed = seen.images.iter().find(|(_, _, found)| *found == id);
    let (names, bytes, _) = listed.expect("listed");
    assert!(names.iter().any(|name| name == BUSYBOX) && *bytes > 100_000, "{names:?}");
}
