//! A pod: the pause container, what joins it, and what becomes of them.

use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use windlass::kinds::name::Name;
use windlass::ports::FaultKind;
use windlass::ports::runtime::{
    ContainerSeen, ContainerSpec, Marks, NetworkMode, Role, RunState, Share, split_reason,
};

use crate::support::host::{Flavour, Host};
use crate::support::pods::Node;

fn namespace(pid: u32, kind: &str) -> u64 {
    std::fs::metadata(format!("/proc/{pid}/ns/{kind}")).expect("the process is there").ino()
}

fn status(pid: u32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.expect("the field is there").trim().to_owned()
}

fn pid(seen: &ContainerSeen) -> u32 {
    seen.pid().expect("it runs")
}

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
async fn a_held_container_is_started_when_asked_for_again() {
    let Some(host) = Host::shared() else { return };
    let node = Node::new(host, "held");
    let hold = |hold| ContainerSpec { hold, ..node.pause_spec("web") };
    let pause = node.start(hold(true)).await.expect("made");
    assert_eq!(pause.state, RunState::Created);
    let app_spec = |hold| {
        let marks = node.marks("web", Role::App(Name::trusted("app")));
        ContainerSpec {
            name: marks.container_name(),
            labels: marks.to_labels(),
            image: crate::support::images::BUSYBOX.into(),
            entrypoint: Some(vec!["sleep".into(), "1000".into()]),
            network: NetworkMode::Of(pause.id.clone()),
            ipc: Share::Of(pause.id.clone()),
            hold,
            ..ContainerSpec::default()
        }
    };
    let held = node.start(app_spec(true)).await.expect("made");
    assert_eq!(held.state, RunState::Created);
    let started = node.start(hold(false)).await.expect("starts");
    assert_eq!(started.id, pause.id, "what was held is what was started");
    let app = node.start(app_spec(false)).await.expect("starts");
    assert_eq!(app.id, held.id, "what was held is what was started");
    assert_eq!(namespace(pid(&app), "net"), namespace(pid(&started), "net"));

    // Held for one thing, asked for another: made anew. Removed meanwhile: made anew.
    for is_removed in [false, true] {
        node.remove(&[&app]).await;
        let app = node.list().await.into_iter().find(|seen| seen.marks.role != Role::Pause);
        assert_eq!(app, None);
        let held = node.start(app_spec(true)).await.expect("made");
        let mut other = app_spec(false);
        if is_removed {
            node.remove(&[&held]).await;
        } else {
            other.env = vec!["A=1".into()];
        }
        let app = node.start(other).await.expect("starts");
        assert_ne!(app.id, held.id);
        assert_eq!(node.list().await.len(), 2);
        node.remove(&[&app]).await;
    }
    node.remove(&[&pause]).await;
}

#[tokio::test]
async fn ends_are_seen_as_they_were() {
    let Some(host) = Host::shared() else { return };
    let node = Node::new(host, "ends");
    let pause = node.start(node.pause_spec("web")).await.expect("starts");
    let app = |name: &str, command: &[&str]| {
        let marks = node.marks("web", Role::App(Name::trusted(name)));
        ContainerSpec {
            name: marks.container_name(),
            labels: marks.to_labels(),
            ..node.app_spec("web", &pause, command)
        }
    };
    let ended = |seen: &ContainerSeen| !seen.is_running();

    let three = node.start(app("three", &["sh", "-c", "exit 3"])).await.expect("starts");
    let seen = node.wait_for(&three, ended).await;
    assert!(
        matches!(
            seen.state,
            RunState::Ended { started: Some(_), exit_code: 3, oom_killed: false, error: None, .. }
        ),
        "{seen:?}"
    );

    let killed = node.start(app("killed", &["sleep", "1000"])).await.expect("starts");
    node.signal(&killed, "KILL").await;
    let seen = node.wait_for(&killed, ended).await;
    assert!(matches!(seen.state, RunState::Ended { exit_code: 137, .. }), "{seen:?}");
    node.signal(&killed, "TERM").await; // ended already is no error

    // The container's own stop signal where none is given.
    let quits = ContainerSpec {
        stop_signal: Some("SIGQUIT".into()),
        ..app("quits", &["sh", "-c", "trap 'exit 7' QUIT; while :; do sleep 0.01; done"])
    };
    let quits = node.start(quits).await.expect("starts");
    tokio::time::sleep(Duration::from_millis(300)).await;
    node.signal(&quits, "").await;
    let seen = node.wait_for(&quits, ended).await;
    assert!(matches!(seen.state, RunState::Ended { exit_code: 7, .. }), "{seen:?}");

    let eats = ContainerSpec {
        memory_bytes: Some(16 << 20),
        // tail keeps what it reads until the line ends, which never happens.
        ..app("eats", &["sh", "-c", "tail /dev/zero"])
    };
    let eats = node.start(eats).await.expect("starts");
    let seen = node
        .wait_for(&eats, |seen| matches!(seen.state, RunState::Ended { oom_killed: true, .. }))
        .await;
    assert!(matches!(seen.state, RunState::Ended { exit_code: 137, .. }), "{seen:?}");

    let all = node.list().await;
    assert_eq!(all.iter().filter(|seen| !seen.is_running()).count(), 4, "{all:?}");
    node.remove(&all.iter().collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn limits_and_rights_are_those_asked_for() {
    let Some(host) = Host::shared() else { return };
    let node = Node::new(host, "limits");
    let pause = node.start(node.pause_spec("web")).await.expect("starts");
    let spec = ContainerSpec {
        memory_bytes: Some(64 << 20),
        cpu_shares: Some(512),
        cpu_quota_us: Some(50_000),
        oom_score_adj: 900,
        user: Some("1000:1000".into()),
        groups: vec!["2000".into()],
        cap_drop: vec!["ALL".into()],
        cap_add: vec!["NET_BIND_SERVICE".into()],
        security_opts: vec!["no-new-privileges".into()],
        read_only_root: true,
        env: vec!["GREETING=hello there".into()],
        working_dir: Some("/tmp".into()),
        ..node.app_spec("web", &pause, &["sleep", "1000"])
    };
    let app = node.start(spec).await.expect("starts");

    let cgroups = std::fs::read_to_string(format!("/proc/{}/cgroup", pid(&app))).expect("it runs");
    let controller = |names: &str, file: &str, unified: &str| {
        let line = cgroups.lines().find(|line| {
            let mut fields = line.split(':').skip(1);
            fields.next().is_some_and(|field| field.split(',').any(|name| names == name))
        });
        let path = match line {
            Some(line) => {
                format!("/sys/fs/cgroup/{names}{}/{file}", line.rsplit(':').next().expect("a path"))
            }
            None => {
                let line = cgroups.lines().find(|line| line.starts_with("0::")).expect("v2");
                format!("/sys/fs/cgroup{}/{unified}", &line[3..])
            }
        };
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{path}: {e}")).trim().to_owned()
    };
    assert_eq!(controller("memory", "memory.limit_in_bytes", "memory.max"), "67108864");
    let quota = controller("cpu", "cpu.cfs_quota_us", "cpu.max");
    assert!(quota == "50000" || quota == "50000 100000", "{quota}");
    let shares = controller("cpu", "cpu.shares", "cpu.weight");
    assert!(shares == "512" || shares == "20", "{shares}");
    let score = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", pid(&app)));
    assert_eq!(score.expect("it runs").trim(), "900");

    assert_eq!(node.says(&app, "id -u; id -g; id -G").await, "1000\n1000\n1000 2000");
    assert_eq!(status(pid(&app), "CapEff:"), "0000000000000000", "no root, no rights");
    assert_eq!(status(pid(&app), "CapBnd:"), "0000000000000400", "NET_BIND_SERVICE");
    assert_eq!(status(pid(&app), "NoNewPrivs:"), "1");
    assert_eq!(node.says(&app, "echo $GREETING").await, "hello there");
    assert_eq!(node.says(&app, "readlink /proc/self/cwd").await, "/tmp");
    let refused = node.exec(&app, &["touch", "/bin/x"], Duration::from_secs(10)).await;
    let refused = refused.expect("runs");
    assert_ne!(refused.exit_code, 0);
    assert!(refused.output.contains("Read-only file system"), "{refused:?}");
    node.remove(&[&app, &pause]).await;
}

#[tokio::test]
async fn a_refused_oom_score_is_left_out() {
    let Some(host) = Host::shared() else { return };
    let node = Node::new(host, "oom-score");
    let pause = ContainerSpec { oom_score_adj: -998, ..node.pause_spec("web") };
    let pause = node.start(pause).await.expect("starts all the same");
    let score = std::fs::read_to_string(format!("/proc/{}/oom_score_adj", pid(&pause)));
    let score = score.expect("it runs");
    // CAP_SYS_RESOURCE is bit 24.
    let own = u64::from_str_radix(&status(std::process::id(), "CapEff:"), 16).expect("hex");
    let wanted = if own & (1 << 24) == 0 { "0" } else { "-998" };
    assert_eq!(score.trim(), wanted);
    assert_eq!(node.list().await.len(), 1, "the refused attempt is not left behind");
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
async fn an_exec_ends_when_its_time_is_up() {
    let Some(host) = Host::shared() else { return };
    let node = Node::new(host, "exec");
    let (pause, app) = node.pod("web", &["sleep", "1000"]).await;
    let long = Duration::from_secs(20);

    let result = node.exec(&app, &["sh", "-c", "echo out; echo err >&2; exit 5"], long).await;
    let result = result.expect("runs");
    assert_eq!(result.exit_code, 5);
    assert!(result.output.contains("out") && result.output.contains("err"), "{result:?}");

    let begun = tokio::time::Instant::now();
    let script = "echo begun; sleep 1234 & sleep 1235";
    let fault = node
        .exec(&app, &["sh", "-c", script], Duration::from_secs(1))
        .await
        .expect_err("time is up");
    assert_eq!(fault.kind, FaultKind::Deadline, "{fault:?}");
    assert!(fault.message.contains("timed out after 1 s"), "{fault:?}");
    assert!(fault.message.contains("it said: begun"), "{fault:?}");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    let processes = node.says(&app, "ps -o args").await;
    assert!(!processes.contains("123"), "it and its children are gone:\n{processes}");
    assert!(processes.contains("sleep 1000"), "the container is not:\n{processes}");

    // A child that holds the output open is no reason to call the command unfinished.
    let result = node
        .exec(&app, &["sh", "-c", "sleep 3 & exit 4"], Duration::from_secs(1))
        .await
        .expect("has ended");
    assert_eq!(result.exit_code, 4);

    // Much output neither blocks nor grows.
    let result =
        node.exec(&app, &["sh", "-c", "head -c 5000000 /dev/zero"], long).await.expect("runs");
    assert_eq!((result.exit_code, result.output.len()), (0, 10 * 1024));

    let result = node.exec(&app, &["nope"], long).await;
    assert!(
        match &result {
            Ok(result) => result.exit_code != 0 && result.output.contains("not found"),
            Err(fault) => fault.message.contains("not found"),
        },
        "{result:?}"
    );
    node.remove(&[&app]).await;
    let fault = node.exec(&app, &["true"], long).await.expect_err("it is gone");
    assert_eq!(fault.kind, FaultKind::NotFound, "{fault:?}");
    node.remove(&[&pause]).await;
}
