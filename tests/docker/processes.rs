//! What containers' processes may do, what is run beside them, and how they end.

use std::time::Duration;

use windlass::kinds::name::Name;
use windlass::ports::FaultKind;
use windlass::ports::runtime::{ContainerSeen, ContainerSpec, Role, RunState};

use crate::support::host::Host;
use crate::support::pods::{Node, pid, status};

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
