//! In which order a pod is started, and what is taken over.
//! <https://kubernetes.io/docs/concepts/workloads/pods/init-containers/>.

use super::{Host, seconds};

/// The steps of a diary that begin with this word.
fn only<'d>(host: &'d Host, word: &str) -> Vec<&'d str> {
    host.diary().into_iter().filter(|line| line.starts_with(word)).collect()
}

#[test]
fn sandbox_first_then_init_containers_one_by_one_then_all_others() {
    let mut host = Host::running(
        "initContainers: [{name: one, image: x}, {name: two, image: x}], \
         containers: [{name: a, image: x}, {name: b, image: x}]",
    );
    let diary = host.diary();
    let at = |line: &str| diary.iter().position(|l| *l == line).unwrap_or_else(|| panic!("{line}"));
    assert!(at("pause") < at("attach") && at("attach") < at("start one"));
    assert!(at("files") < at("start one") && at("image one") < at("start one"));
    assert_eq!(only(&host, "image").len(), 4, "images of later containers are fetched meanwhile");
    assert_eq!(only(&host, "start"), ["start one"]);
    assert_eq!(
        (host.phase(), host.state("a")),
        ("Pending".into(), "waiting PodInitializing".into())
    );
    host.end("one", 0);
    host.run();
    assert_eq!(only(&host, "start"), ["start one", "start two"]);
    host.end("two", 0);
    host.run();
    assert_eq!(only(&host, "start"), ["start one", "start two", "start a", "start b"]);
    assert!(host.is_ready());
    assert_eq!(host.state("one"), "terminated Completed 0");
}

#[test]
fn an_init_container_that_fails_is_tried_again_and_holds_up_the_rest() {
    let spec = "initContainers: [{name: one, image: x}], containers: [{name: a, image: x}]";
    let mut host = Host::running(spec);
    host.end("one", 3);
    host.pass(seconds(60));
    assert_eq!(host.alive(), ["one"]);
    let mut never = Host::running(&format!("restartPolicy: Never, {spec}"));
    never.end("one", 3);
    never.pass(seconds(60));
    assert_eq!((never.alive().len(), never.phase().as_str()), (0, "Failed"));
}

#[test]
fn a_sidecar_starts_before_the_rest_stays_and_stops_last() {
    let mut host = Host::new(
        "initContainers: [{name: log, image: x, restartPolicy: Always, startupProbe: {tcpSocket: \
         {port: 80}}}, {name: net, image: x, restartPolicy: Always}], \
         containers: [{name: main, image: x}]",
    );
    host.bad_probes.insert("startup");
    host.run();
    host.pass(seconds(5));
    assert_eq!(host.alive(), ["log"], "the next waits for its startup probe");
    host.bad_probes.clear();
    host.pass(seconds(10));
    assert_eq!(host.alive(), ["log", "main", "net"]);
    host.turn_page();
    host.is_deaf = true;
    host.delete(10);
    assert_eq!(only(&host, "TERM"), ["TERM main"]);
    host.end("main", 0);
    host.run();
    assert_eq!(only(&host, "TERM"), ["TERM main", "TERM net"], "in reverse order");
    host.end("net", 0);
    host.run();
    assert_eq!(only(&host, "TERM"), ["TERM main", "TERM net", "TERM log"]);
}

#[test]
fn a_restarted_agent_adopts_everything_and_starts_nothing() {
    let mut host = Host::running(
        "containers: [{name: main, image: x, readinessProbe: {tcpSocket: {port: 80}}}]",
    );
    host.end("main", 1);
    host.run();
    host.pass(seconds(700));
    let before = host.report();
    assert!(before.status.is_ready());
    host.hangs.insert("readiness");
    let id = host.newest("main").id;
    host.restart_agent();
    host.hangs.insert("readiness");
    host.pass(seconds(1));
    assert!(!host.diary().iter().any(|line| line.starts_with("start") || *line == "pause"));
    assert_eq!(host.newest("main").id, id);
    assert_eq!(host.restarts("main"), 1, "counts survive");
    assert!(host.is_ready(), "and stays in its Services until a probe says otherwise");
    host.bad_probes.insert("readiness");
    host.answer();
    host.pass(seconds(60));
    assert!(!host.is_ready());
}

#[test]
fn what_is_under_way_is_not_asked_for_again() {
    let mut host = Host::new("containers: [{name: main, image: x}]");
    host.hangs = ["pause", "image"].into();
    host.run();
    host.run();
    host.pass(seconds(30));
    assert_eq!((only(&host, "pause").len(), only(&host, "image").len()), (1, 1));
    host.answer();
    assert_eq!(host.alive(), ["main"]);
}

#[test]
fn a_dead_pause_container_makes_everything_anew() {
    let mut host = Host::running(
        "initContainers: [{name: one, image: x}], containers: [{name: main, image: x}]",
    );
    host.end("one", 0);
    host.run();
    host.turn_page();
    host.end("pause", 137);
    host.run();
    assert_eq!(only(&host, "KILL"), ["KILL main"], "its network is gone, nobody is asked");
    assert_eq!(only(&host, "start"), ["start one"], "init containers run again");
    host.end("one", 0);
    host.run();
    assert_eq!(host.alive(), ["main"]);
    assert_eq!(host.restarts("main"), 1);
    assert_eq!(host.newest("main").marks.sandbox, 2);
}

#[test]
fn nothing_is_done_before_the_runtime_was_seen() {
    let mut host = Host::new("containers: [{name: main, image: x}]");
    host.seen.containers = None;
    host.run();
    assert!(host.diary().is_empty());
}

#[test]
fn a_pod_whose_template_cannot_be_read_runs_on_untouched() {
    let mut host = Host::running("containers: [{name: main, image: x}]");
    host.turn_page();
    for pod in host.mine.pods.values_mut() {
        pod.template = None;
    }
    host.pass(seconds(600));
    assert!(host.diary().is_empty(), "{:?}", host.diary());
    assert_eq!(host.report().status.reason.as_deref(), Some("TemplateNotFound"));
    assert_eq!(host.alive(), ["main"]);
}
