//! How pods end, and what is swept away.
//! <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-termination>.

use super::house::uid;
use super::{Host, seconds};
use crate::kinds::name::Name;
use crate::ports::runtime::Role;

fn main_with(more: &str) -> String {
    format!("containers: [{{name: main, image: x{more}}}]")
}

#[test]
fn a_pod_is_told_and_cleared_away() {
    let mut host = Host::running(&main_with(""));
    host.turn_page();
    host.delete(30);
    let diary = host.diary();
    assert_eq!(diary, ["TERM main", "remove", "detach", "remove files"]);
    assert!(host.is_gone());
}

/// Each line: what the hook is, the grace period, when TERM comes and when KILL, for a program that
/// does not listen.
#[test]
fn pre_stop_runs_within_the_grace_period() {
    let sleep = |s: u32| format!(", lifecycle: {{preStop: {{sleep: {{seconds: {s}}}}}}}");
    let table = [
        (String::new(), 30, 0, 30),
        (String::new(), 1, 0, 2),
        (sleep(10), 30, 10, 30),
        // The hook takes it all: two seconds more, once.
        (sleep(30), 30, 30, 32),
        (sleep(29), 30, 29, 31),
    ];
    for (hook, grace_s, term, kill) in table {
        let grace = format!("terminationGracePeriodSeconds: {grace_s}, ");
        let mut host = Host::running(&format!("{grace}{}", main_with(&hook)));
        host.is_deaf = true;
        host.delete(grace_s);
        host.pass(seconds(60));
        assert_eq!(
            (host.times("TERM main"), host.times("KILL main")),
            (vec![term], vec![kill]),
            "{hook:?} of {grace_s}"
        );
        assert!(host.is_gone());
    }
}

#[test]
fn a_hook_that_never_answers_does_not_hold_up_the_end() {
    let hook = ", lifecycle: {preStop: {exec: {command: [drain]}}}";
    let mut host = Host::running(&main_with(hook));
    host.is_deaf = true;
    host.hangs.insert("preStop");
    host.delete(10);
    host.pass(seconds(30));
    assert_eq!((host.times("TERM main"), host.times("KILL main")), (vec![10], vec![12]));
}

#[test]
fn no_grace_is_kill_at_once() {
    let mut host = Host::running(&main_with(", lifecycle: {preStop: {exec: {command: [drain]}}}"));
    host.turn_page();
    host.delete(0);
    assert_eq!(host.diary()[0], "KILL main");
    assert!(host.is_gone());
}

#[test]
fn nobody_is_told_while_packets_are_still_led_there_but_not_for_ever() {
    let mut host = Host::running(&main_with(""));
    host.delete(30);
    assert!(host.is_gone());
    let mut host = Host::running(&main_with(""));
    host.is_deaf = true;
    host.delete(30);
    host.around.released.clear();
    let mut waits = Host::running(&main_with(""));
    waits.hangs.insert("TERM");
    let pod = waits.mine.pods.get_mut(&uid()).expect("the pod");
    let deletion = crate::kinds::binding::Deletion {
        grace_s: 30,
        since: crate::kinds::time::Wall::default(),
        reason: "Deleted".into(),
    };
    std::sync::Arc::make_mut(&mut pod.binding).deletion = Some(deletion);
    waits.pass(seconds(10));
    assert_eq!(waits.times("TERM main"), [3], "nobody acknowledged: after three seconds");
}

#[test]
fn a_shorter_grace_takes_effect_while_a_pod_is_ending() {
    let mut host = Host::running(&main_with(""));
    host.is_deaf = true;
    host.delete(60);
    host.pass(seconds(5));
    host.delete(8);
    host.pass(seconds(60));
    assert_eq!(host.times("KILL main"), [8], "counted from the beginning");
}

#[test]
fn an_ending_goes_on_where_a_killed_agent_left_it() {
    let hook = ", lifecycle: {preStop: {exec: {command: [drain]}}}";
    let mut host = Host::running(&main_with(hook));
    host.is_deaf = true;
    host.delete(30);
    host.pass(seconds(20));
    assert_eq!((host.times("preStop main").len(), host.times("TERM main").len()), (1, 1));
    host.restart_agent();
    host.pass(seconds(60));
    assert_eq!(host.times("preStop main"), [] as [u64; 0], "the hook has run");
    assert_eq!(host.times("TERM main"), [] as [u64; 0], "it was told");
    assert_eq!(host.times("KILL main"), [30], "and its time is what it was");
    assert!(host.is_gone());
}

#[test]
fn an_ending_of_before_a_boot_begins_anew() {
    let mut host = Host::running(&main_with(""));
    host.is_deaf = true;
    host.delete(30);
    host.now.elapsed = crate::kinds::time::Elapsed::new(seconds(100));
    host.restart_agent();
    assert_eq!(host.diary(), [] as [&str; 0], "told before; its grace runs from now");
    assert_eq!(host.alive(), ["main"]);
}

/// What became of the containers meanwhile.
type Story = (&'static str, fn(&mut Host));

#[test]
fn a_pod_that_ends_while_the_runtime_is_gone_is_cleared_away_when_it_is_back() {
    let stories: [Story; 3] = [
        ("its containers run on", |_| {}),
        ("they ended with it", Host::end_all),
        ("they are gone", |host| host.seen.containers.as_mut().expect("listed").clear()),
    ];
    for (story, fate) in stories {
        let mut host = Host::running(&main_with(""));
        host.turn_page();
        host.is_docker_gone = true;
        host.delete(10);
        host.pass(seconds(3600));
        let tries = host.times("TERM main").len();
        assert!((100..150).contains(&tries), "every half minute for an hour: {tries}");
        assert!(host.memory.take_events().len() < 10, "and said once");
        host.is_docker_gone = false;
        fate(&mut host);
        host.pass(seconds(60));
        assert!(host.is_gone(), "{story}: {:?}", host.diary().last());
    }
}

#[test]
fn strangers_with_our_mark_are_swept_and_nobody_else() {
    let mut host = Host::running(&main_with(""));
    host.put("stray", "a", "stray", Role::App(Name::trusted("x")));
    host.put("foreign", "b", "foreign", Role::App(Name::trusted("x")));
    host.seen.links.remove(&super::super::link_name(&crate::kinds::name::Uid::trusted("foreign")));
    host.is_deaf = true;
    host.turn_page();
    host.pass(seconds(60));
    let diary = host.diary();
    assert_eq!(diary, ["TERM x", "KILL x", "remove", "detach"], "with the grace on its label");
    let left = host.seen.containers.as_ref().expect("listed");
    assert!(left.contains_key("foreign"), "another node's container on the same Docker");
    assert_eq!(host.alive(), ["main", "x"]);
}

#[test]
fn nobody_is_turned_out_before_the_list_is_known() {
    let mut host = Host::running(&main_with(""));
    host.mine.pods.clear();
    host.mine.is_known = false;
    host.turn_page();
    host.pass(seconds(3600));
    assert_eq!(host.diary(), [] as [&str; 0]);
    host.mine.is_known = true;
    host.run();
    assert!(host.alive().is_empty());
}

#[test]
fn a_pod_that_has_finished_keeps_its_containers_and_gives_back_the_rest() {
    let mut host = Host::running(&format!("restartPolicy: Never, {}", main_with("")));
    host.end("main", 0);
    host.turn_page();
    host.run();
    assert_eq!(host.diary(), ["words main", "remove", "detach"]);
    assert_eq!(host.state("main"), "terminated Completed 0");
    host.restart_agent();
    host.pass(seconds(600));
    assert_eq!(host.phase(), "Succeeded");
    assert!(host.alive().is_empty(), "finished is finished, whoever looks");
}
