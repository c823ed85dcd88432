//! Probes and hooks in the life of a container.

use super::{Host, seconds};

fn main_with(more: &str) -> String {
    format!("terminationGracePeriodSeconds: 20, containers: [{{name: main, image: x, {more}}}]")
}

#[test]
fn a_pod_is_ready_only_after_its_first_good_answer_and_unready_after_three_bad_ones() {
    let mut host = Host::new(&main_with("readinessProbe: {tcpSocket: {port: 80}}"));
    host.bad_probes.insert("readiness");
    host.pass(seconds(30));
    assert!(!host.is_ready());
    host.bad_probes.clear();
    host.pass(seconds(10));
    assert!(host.is_ready());
    host.bad_probes.insert("readiness");
    host.turn_page();
    while host.is_ready() {
        host.pass(seconds(1));
        assert!(host.diary().len() < 10);
    }
    assert_eq!(host.times("readiness main").len(), 3);
    assert_eq!(host.alive(), ["main"], "it only leaves its Services");
}

#[test]
fn initial_delay_is_waited_for() {
    let mut host =
        Host::new(&main_with("readinessProbe: {tcpSocket: {port: 80}, initialDelaySeconds: 7}"));
    host.pass(seconds(6));
    assert!(host.times("readiness main").is_empty());
    host.pass(seconds(2));
    assert_eq!(host.times("readiness main"), [7]);
}

#[test]
fn a_startup_probe_keeps_the_others_waiting() {
    let mut host = Host::new(&main_with(
        "startupProbe: {tcpSocket: {port: 80}, failureThreshold: 30}, livenessProbe: {tcpSocket: \
         {port: 80}}, readinessProbe: {tcpSocket: {port: 80}}",
    ));
    host.bad_probes.insert("startup");
    host.pass(seconds(60));
    assert!(host.times("liveness main").is_empty() && host.times("readiness main").is_empty());
    host.bad_probes.clear();
    host.pass(seconds(11));
    assert!(!host.times("liveness main").is_empty());
    assert!(host.is_ready());
    let asked = host.times("startup main").len();
    host.pass(seconds(60));
    assert_eq!(host.times("startup main").len(), asked, "once it has passed it is done with");
}

#[test]
fn a_container_that_hangs_is_stopped_with_grace_and_started_again() {
    let mut host =
        Host::running(&main_with("livenessProbe: {tcpSocket: {port: 80}, periodSeconds: 5}"));
    host.is_deaf = true;
    host.bad_probes.insert("liveness");
    host.turn_page();
    host.pass(seconds(60));
    let (term, kill) = (host.times("TERM main")[0], host.times("KILL main")[0]);
    assert_eq!(kill - term, 20, "its grace period");
    assert!((10..=15).contains(&term), "three bad answers, 5 s apart: {term}");
    assert_eq!(host.restarts("main"), 1);
}

#[test]
fn the_probes_own_grace_period_holds() {
    let mut host = Host::running(&main_with(
        "livenessProbe: {tcpSocket: {port: 80}, terminationGracePeriodSeconds: 4}",
    ));
    host.is_deaf = true;
    host.bad_probes.insert("liveness");
    host.pass(seconds(60));
    assert_eq!(host.times("KILL main")[0] - host.times("TERM main")[0], 4);
}

#[test]
fn a_container_is_not_up_before_its_post_start_is_over() {
    let sleepy =
        "lifecycle: {postStart: {sleep: {seconds: 5}}}, readinessProbe: {tcpSocket: {port: 80}}";
    let mut host = Host::running(&main_with(sleepy));
    host.pass(seconds(4));
    assert!(host.times("readiness main").is_empty() && !host.is_ready());
    host.pass(seconds(2));
    assert!(host.is_ready());
    let exec = "lifecycle: {postStart: {exec: {command: [warm-up]}}}";
    let mut host = Host::new(&main_with(exec));
    host.hangs.insert("postStart");
    host.pass(seconds(4));
    assert!(!host.is_ready());
    host.answer();
    assert!(host.is_ready());
    assert_eq!(host.times("postStart main").len(), 1);
    host.restart_agent();
    assert!(host.is_ready());
    assert!(host.times("postStart main").is_empty(), "a new agent does not run it again");
}
