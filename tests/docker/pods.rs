//! A pod: the pause container, what joins it, and what becomes of them.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use windlass::kinds::name::Name;
use windlass::ports::FaultKind;
use windlass::ports::runtime::{ContainerSpec, Marks, Role, RunState, Share, split_reason};

use crate::support::host::{Flavour, Host};
use crate::support::pods::{Node, namespace, pid, status};

#[tokio::test]
async fn a_pod_has_a_network_of_its_own_and_a_powerless_pause() {
    let Some(host) = Host::shared() else { return };
    let node = Node::new(host, "own-network");
    let (pause, app) = node.pod("web", &["sleep", "1000"]).await;

    let host_network = host.netns().metadata().expect("is there").ino();
    let network = namespace(pid(&pause), "net");
    assert_ne!(network, host_network, "pause left the host's network");
    assert_ne!(network, namespace(std::process::id(), "net"));
    assert_eq!(namespace(pid(&app), "net"), network, "the app joined it");
    assert_eq!(namespace(pid(&app), "ipc"), namespace(pid(&pause), "ipc"));
    assert_ne!(namespace(pid(&app), "pid"), namespace(pid(&pause), "pid"));

    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(status(pid(&pause), set), "0000000000000000", "{set}");
    }
    assert_eq!(status(pid(&pause), "NoNewPrivs:"), "1");
    assert_eq!(status(pid(&pause), "Seccomp:"), "2", "its own filter");
    let links = node.says(&app, "ip -o link").await;
    assert_eq!(links.lines().count(), 1, "{links}");
    assert!(links.contains("lo") && links.contains("UP"), "{links}");
    assert_eq!(node.says(&app, "hostname").await, "web");
    node.remove(&[&app, &pause]).await;
}

#[tokio::test]
async fn pause_reaps_the_orphans_of_a_shared_pid_namespace() {
    let Some(host) = Host::shared() else { return };
    let node = Node::new(host, "orphans");
    let pause = node.start(node.pause_spec("web")).await.expect("starts");
    let app = ContainerSpec {
        pid: Share::Of(pause.id.clone()),
        ..node.app_spec("web", &pause, &["sleep", "1000"])
    };
    let app = node.start(app).await.expect("starts");
    assert_eq!(namespace(pid(&app), "pid"), namespace(pid(&pause), "pid"));

    // Each leaves a child whose parent is gone; the children end a moment later.
    for _ in 0..20 {
        node.says(&app, "(sleep 0.05 &) ; true").await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    let processes = node.says(&app, "ps -o pid,stat,comm").await;
    assert!(processes.contains("pause"), "{processes}");
    assert!(!processes.contains(" Z"), "zombies are left:\n{processes}");
    assert!(!processes.contains("[sleep]"), "{processes}");

    // And it ends at once when asked, though it is process 1.
    let begun = tokio::time::Instant::now();
    node.signal(&pause, "TERM").await;
    let ended = node.wait_for(&pause, |seen| !seen.is_running()).await;
    assert!(matches!(ended.state, RunState::Ended { exit_code: 0, .. }), "{ended:?}");
    assert!(begun.elapsed() < Duration::from_secs(5));
    node.remove(&[&app, &pause]).await;
}

#[tokio::test]
async fn a_container_is_adopted_from_its_labels_alone() {
    let Some(host) = Host::shared() else { return };
    let node = Node::new(host, "adoption");
    let pause = node.start(node.pause_spec("web")).await.expect("starts");
    let marks = Marks {
        attempt: 4,
        backoff: Duration::from_millis(40_001),
        grace_s: 77,
        sandbox: 3,
        ..node.marks("web", Role::Init(Name::trusted("setup")))
    };
    let spec = ContainerSpec {
        name: marks.container_name(),
        labels: marks.to_labels(),
        ..node.app_spec("web", &pause, &["sleep", "1000"])
    };
    let app = node.start(spec).await.expect("starts");

    // Another agent process on the same node, and one of another node.
    let again = Node::new(host, "adoption");
    let listed = again.list().await;
    let found = listed.iter().find(|seen| seen.id == app.id).expect("listed");
    assert_eq!(found.marks, marks);
    assert_eq!(found.state, app.state);
    assert!(found.is_running());
    let found = listed.iter().find(|seen| seen.id == pause.id).expect("listed");
    assert_eq!(found.marks.ip, Some(std::net::Ipv4Addr::new(10, 244, 0, 7)));
    let other = Node::new(host, "adoption-other");
    assert_eq!(other.list().await, []);
    assert_eq!(other.inspect(&app).await, None);
    node.remove(&[&app, &pause]).await;
    assert_eq!(node.list().await, []);
    node.remove(&[&app, &pause]).await; // gone already is no error
}

#[tokio::test]
async fn unreadable_labels_are_left_alone() {
    let Some(host) = Host::shared() else { return };
    let node = Node::new(host, "unreadable");
    let body = serde_json::json!({
        "Image": crate::support::images::BUSYBOX,
        "Cmd": ["sleep", "1000"],
        "Labels": {"io.windlass.node": "unreadable", "io.windlass.format": "99"},
        "HostConfig": {"NetworkMode": "none"},
    });
    let mut plain = host.plain();
    let made = plain.post("/containers/create?name=from-the-future", &body);
    let id = made.expect("answers").expect(201).json()["Id"].to_string();
    assert_eq!(node.list().await, []);
    let id = id.trim_matches('"');
    let there = plain.get(&format!("/containers/{id}/json")).expect("answers");
    there.expect(200);
    plain.delete(&format!("/containers/{id}?force=1")).expect("answers").expect(204);
}

#[tokio::test]
async fn start_errors_say_what_a_user_needs() {
    let Some(host) = Host::shared() else { return };
    let node = Node::new(host, "start-errors");
    let pause = node.start(node.pause_spec("web")).await.expect("starts");
    let with = |attempt, change: &dyn Fn(&mut ContainerSpec)| {
        let marks = Marks { attempt, ..node.marks("web", Role::App(Name::trusted("app"))) };
        let mut spec = ContainerSpec {
            name: marks.container_name(),
            labels: marks.to_labels(),
            ..node.app_spec("web", &pause, &["sleep", "1000"])
        };
        change(&mut spec);
        spec
    };
    let table: [(&str, FaultKind, ContainerSpec); 5] = [
        (
            "ContainerCannotRun: exec: \"foo\": executable file not found in $PATH",
            FaultKind::Stalled,
            with(1, &|spec| spec.entrypoint = Some(vec!["foo".into()])),
        ),
        (
            "ContainerCannotRun: exec: \"/etc/passwd\": permission denied",
            FaultKind::Stalled,
            with(2, &|spec| {
                spec.entrypoint = Some(vec!["/etc/passwd".into()]);
            }),
        ),
        (
            "CreateContainerError: No such image: wdl.test/absent:1",
            FaultKind::NotFound,
            with(3, &|spec| spec.image = "wdl.test/absent:1".into()),
        ),
        (
            "CreateContainerError: invalid mount config for type \"bind\": bind source path does not exist: /no/such/path",
            FaultKind::Stalled,
            with(4, &|spec| {
                spec.mounts = vec![windlass::ports::runtime::MountSpec {
                    source: windlass::ports::runtime::MountSource::Path("/no/such/path".into()),
                    target: "/x".into(),
                    read_only: true,
                    propagation: "rprivate",
                }];
            }),
        ),
        (
            "CreateContainerError: wdl",
            FaultKind::Stalled,
            with(5, &|spec| {
                spec.labels.remove("io.windlass.pod.uid");
            }),
        ),
    ];
    for (message, kind, spec) in table {
        let fault = node.start(spec).await.expect_err(message);
        assert!(fault.message.starts_with(message), "{fault:?}\nwanted {message}");
        assert_eq!(fault.kind, kind, "{fault:?}");
        assert!(split_reason(&fault).0.is_some());
    }

    // What could not be started is left to be looked at, with the reason.
    let listed = node.list().await;
    let failed: Vec<_> = listed.iter().filter(|seen| seen.marks.attempt == 1).collect();
    let [failed] = failed[..] else { panic!("{listed:?}") };
    let RunState::Ended { started: None, exit_code: 127, error: Some(error), .. } = &failed.state
    else {
        panic!("{failed:?}");
    };
    assert_eq!(error, "exec: \"foo\": executable file not found in $PATH");
    for seen in node.list().await {
        node.remove(&[&seen]).await;
    }
}

#[tokio::test]
async fn starting_twice_is_starting_once() {
    let Some(host) = Host::shared() else { return };
    let node = Node::new(host, "twice");
    let (pause, app) = node.pod("web", &["sleep", "1000"]).await;
    let spec = node.app_spec("web", &pause, &["sleep", "1000"]);
    assert_eq!(node.start(spec.clone()).await.as_ref(), Ok(&app), "it runs already");

    // A crash between making and starting leaves one that is made anew.
    node.remove(&[&app]).await;
    let body = serde_json::json!({
        "Image": crate::support::images::BUSYBOX,
        "Cmd": ["false"],
        "Labels": spec.labels,
    });
    let path = format!("/containers/create?name={}", spec.name);
    let made = host.plain().post(&path, &body).expect("answers").expect(201);
    let again = node.start(spec.clone()).await.expect("starts");
    assert_ne!(made.json()["Id"], serde_json::json!(*again.id));
    assert!(again.is_running());

    // Somebody else's is not touched.
    node.remove(&[&again]).await;
    let body = serde_json::json!({"Image": crate::support::images::BUSYBOX, "Cmd": ["false"]});
    let made = host.plain().post(&path, &body).expect("answers").expect(201);
    let fault = node.start(spec).await.expect_err("the name is taken");
    assert_eq!(fault.kind, FaultKind::Stalled, "{fault:?}");
    let id = made.json()["Id"].as_str().expect("an id").to_owned();
    let mut plain = host.plain();
    plain.get(&format!("/containers/{id}/json")).expect("answers").expect(200);
    plain.delete(&format!("/containers/{id}?force=1")).expect("answers").expect(204);
    node.remove(&[&pause]).await;
}

#[tokio::test]
async fn where_host_network_is_refused_docker_makes_the_network() {
    let Some(host) = Host::start_as("wdock-userns-", Flavour::UserNamespaces) else {
        return;
    };
    let node = Node::new(&host, "userns");
    for pod in ["one", "two"] {
        let (pause, app) = node.pod(pod, &["sleep", "1000"]).await;
        let network = namespace(pid(&pause), "net");
        assert_ne!(network, host.netns().metadata().expect("is there").ino());
        assert_eq!(namespace(pid(&app), "net"), network);
        assert_eq!(status(pid(&pause), "CapBnd:"), "0000000000000000");
        assert!(node.says(&app, "ip -o link").await.contains("lo"));
        assert!(node.says(&app, "head -1 /proc/self/uid_map").await.contains("200000"));
        node.remove(&[&app, &pause]).await;
    }
    assert_eq!(node.list().await, [], "the refused attempt is not left behind");
}

#[tokio::test]
async fn where_pause_may_not_make_its_network_docker_does() {
    let Some(host) = Host::shared() else { return };
    let node = Node::new(host, "no-unshare");
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW",
        "syscalls": [{"names": ["unshare"], "action": "SCMP_ACT_ERRNO"}]}"#;
    let spec = ContainerSpec {
        security_opts: vec![format!("seccomp={profile}")],
        ..node.pause_spec("web")
    };
    let pause = node.start(spec).await.expect("starts all the same");
    let network = namespace(pid(&pause), "net");
    assert_ne!(network, host.netns().metadata().expect("is there").ino());
    assert_eq!(status(pid(&pause), "CapBnd:"), "0000000000000000");
    assert_eq!(node.list().await.len(), 1, "the first attempt is not left behind");
    node.remove(&[&pause]).await;
}
