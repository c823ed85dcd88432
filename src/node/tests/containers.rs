//! Containers that end: restart policies, back-off, reasons, last words.
//! <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#restart-policy>.

use super::{Host, seconds};

const MAIN: &str = "containers: [{name: main, image: x}]";

/// Each line: policy, exit code, whether it runs again, and the phase where it does not.
#[test]
fn a_container_is_started_again_by_its_policy() {
    let table = [
        ("Always", 0, true, "Running"),
        ("Always", 1, true, "Running"),
        ("OnFailure", 0, false, "Succeeded"),
        ("OnFailure", 1, true, "Running"),
        ("Never", 0, false, "Succeeded"),
        ("Never", 1, false, "Failed"),
    ];
    for (policy, exit_code, is_started_again, phase) in table {
        let mut host = Host::running(&format!("restartPolicy: {policy}, {MAIN}"));
        host.end("main", exit_code);
        host.pass(seconds(1));
        let runs = !host.alive().is_empty();
        assert_eq!(
            (runs, host.phase().as_str()),
            (is_started_again, phase),
            "{policy} {exit_code}"
        );
    }
}

#[test]
fn a_container_that_crashes_at_once_waits_ten_seconds_doubling_to_five_minutes() {
    let mut host = Host::running(MAIN);
    let mut waits = Vec::new();
    for _ in 0..8 {
        host.turn_page();
        host.end("main", 1);
        let ended = host.now.elapsed;
        for _ in 0..400 {
            if !host.alive().is_empty() {
                break;
            }
            host.pass(seconds(1));
        }
        waits.push(host.now.elapsed.since(ended).as_secs());
    }
    // The first start again comes at once; the harness looks once a second.
    assert_eq!(waits, [1, 10, 20, 40, 80, 160, 300, 300]);
    assert_eq!(host.restarts("main"), 8);
    host.pass(seconds(600));
    host.end("main", 1);
    host.pass(seconds(1));
    assert_eq!(host.alive(), ["main"], "ten minutes of good run wipe the slate");
}

#[test]
fn back_off_is_said_and_survives_the_agent() {
    let mut host = Host::running(MAIN);
    for _ in 0..2 {
        host.end("main", 1);
        host.run();
        host.pass(seconds(11));
    }
    host.end("main", 1);
    host.pass(seconds(5));
    let words = "waiting CrashLoopBackOff: back-off 20s restarting failed container=main \
                 pod=web_shop(the-pod)";
    assert_eq!(host.state("main"), words);
    assert_eq!(host.last_state("main"), "terminated Error 1");
    host.restart_agent();
    assert_eq!(host.state("main"), words);
    host.pass(seconds(14));
    assert!(host.alive().is_empty(), "19 s of 20");
    host.pass(seconds(2));
    assert_eq!(host.alive(), ["main"]);
}

/// Each line: how a container ends, and how that is said.
#[test]
fn reasons_are_kubernetes_own() {
    let table = [
        (0, false, None, "terminated Completed 0"),
        (2, false, None, "terminated Error 2"),
        (137, true, None, "terminated OOMKilled 137"),
        (137, false, None, "terminated Error 137"),
        (127, false, Some("no such file"), "terminated ContainerCannotRun 127: no such file"),
    ];
    for (exit_code, oom, error, words) in table {
        let mut host = Host::running(&format!("restartPolicy: Never, {MAIN}"));
        host.end_so("main", exit_code, oom, error);
        host.run();
        assert_eq!(host.state("main"), words);
    }
}

#[test]
fn images_that_cannot_be_had_are_said_and_tried_again() {
    let mut host = Host::running("containers: [{name: main, image: missing}]");
    let first = "waiting ErrImagePull: manifest unknown: missing";
    assert_eq!(host.state("main"), first);
    assert_eq!(host.phase(), "Pending");
    host.pass(seconds(1200));
    assert_eq!(host.times("image main"), [0, 10, 30, 70, 150, 310, 610, 910], "10 s to 5 min");
    assert_eq!(host.state("main"), "waiting ImagePullBackOff: manifest unknown: missing");
    let mut never = Host::running("containers: [{name: main, image: never}]");
    assert_eq!(never.state("main"), "waiting ErrImageNeverPull: it is not here");
    let mut broken = Host::running("containers: [{name: main, image: broken}]");
    assert_eq!(broken.state("main"), "waiting ContainerCannotRun: exec: no such file");
}

#[test]
fn a_missing_config_map_is_an_error_of_that_container_until_it_comes() {
    let mut host = Host::running(
        "containers: [{name: main, image: x, env: [{name: A, valueFrom: {configMapKeyRef: {name: \
         c, key: k}}}]}, {name: other, image: x}]",
    );
    host.pass(seconds(60));
    let state = host.state("main");
    assert!(
        state.starts_with("waiting CreateContainerConfigError: configmap \"c\" not found"),
        "{state}"
    );
    assert_eq!(host.alive(), ["other"]);
}

#[test]
fn last_words_are_taken_before_the_next_attempt_begins() {
    let mut host = Host::running(MAIN);
    host.words.insert("main".into(), "out of ink".into());
    host.hangs.insert("words");
    host.end("main", 1);
    host.pass(seconds(3));
    assert!(host.alive().is_empty(), "the next would write to the same file");
    host.answer();
    assert_eq!(host.alive(), ["main"]);
    assert_eq!(host.last_state("main"), "terminated Error 1: out of ink");
    // The second life says nothing: it is not credited with the words of the first.
    host.end("main", 1);
    host.run();
    assert_eq!(host.last_state("main"), "terminated Error 1");
}

#[test]
fn last_words_survive_the_agent() {
    let mut host = Host::running(&format!("restartPolicy: Never, {MAIN}"));
    host.words.insert("main".into(), "out of ink".into());
    host.end("main", 1);
    host.run();
    host.restart_agent();
    assert_eq!(host.state("main"), "terminated Error 1: out of ink");
}

/// Each line: policy, exit code, what the file says, what the log says, and what is said.
#[test]
fn the_log_speaks_where_the_file_is_silent_and_the_manifest_says_so() {
    let table = [
        ("FallbackToLogsOnError", 1, "", "the log", "terminated Error 1: the log"),
        ("FallbackToLogsOnError", 1, "the file", "the log", "terminated Error 1: the file"),
        ("FallbackToLogsOnError", 0, "", "the log", "terminated Completed 0"),
        ("File", 1, "", "the log", "terminated Error 1"),
    ];
    for (policy, exit_code, file, log, words) in table {
        let mut host = Host::running(&format!(
            "restartPolicy: Never, containers: [{{name: main, image: x, terminationMessagePolicy: \
             {policy}}}]"
        ));
        host.words.insert("main".into(), file.into());
        host.log = log.into();
        host.end("main", exit_code);
        host.run();
        assert_eq!(host.state("main"), words, "{policy}, {exit_code}, {file:?}");
    }
}

#[test]
fn a_pod_past_its_deadline_fails() {
    let mut host = Host::running(&format!("activeDeadlineSeconds: 30, {MAIN}"));
    host.pass(seconds(29));
    assert_eq!(host.phase(), "Running");
    host.pass(seconds(2));
    let status = host.report().status;
    assert_eq!(
        (status.phase.as_str(), status.reason.as_deref()),
        ("Failed", Some("DeadlineExceeded"))
    );
    assert!(host.alive().is_empty());
}

#[test]
fn of_each_container_the_present_life_and_the_one_before_are_kept() {
    let mut host = Host::running(MAIN);
    for _ in 0..4 {
        host.end("main", 1);
        host.pass(seconds(400));
    }
    let lives = host.seen.containers.iter().flat_map(|all| all.values());
    let lives = lives.filter(|c| c.marks.role.container().is_some()).count();
    assert_eq!(lives, 2);
}
