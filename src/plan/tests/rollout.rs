//! Deployments: roll-outs step by step, as Kubernetes does them.
//! <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/>.

use super::{Fleet, Mood, deployment};
use crate::kinds::binding::Binding;

fn rolling(surge: &str, unavailable: &str) -> String {
    format!("strategy: {{rollingUpdate: {{maxSurge: {surge}, maxUnavailable: {unavailable}}}}}")
}

/// Each line: replicas, maxSurge, maxUnavailable, and the sizes of the old and the new set after
/// each turn that changed them.
#[test]
fn a_rolling_update_goes_step_by_step_within_its_bounds() {
    let table = [
        (3, "1", "0", "v1=3 v2=1 | v1=2 v2=1 | v1=2 v2=2 | v1=1 v2=2 | v1=1 v2=3 | v1=0 v2=3"),
        (3, "0", "1", "v1=2 v2=0 | v1=2 v2=1 | v1=1 v2=1 | v1=1 v2=2 | v1=0 v2=2 | v1=0 v2=3"),
        (3, "3", "0", "v1=3 v2=3 | v1=0 v2=3"),
        (3, "0", "3", "v1=0 v2=0 | v1=0 v2=3"),
        (3, "1", "1", "v1=2 v2=1 | v1=1 v2=2 | v1=0 v2=3"),
        // A quarter of 10: three more, two fewer.
        (10, "25%", "25%", "v1=8 v2=3 | v1=5 v2=5 | v1=3 v2=8 | v1=0 v2=10"),
        (1, "25%", "25%", "v1=1 v2=1 | v1=0 v2=1"),
        // A third of 3 is one, up and down.
        (3, "33%", "34%", "v1=2 v2=1 | v1=1 v2=2 | v1=0 v2=3"),
        // Both come to nothing: one may be missing, or it could never move.
        (3, "0", "33%", "v1=2 v2=0 | v1=2 v2=1 | v1=1 v2=1 | v1=1 v2=2 | v1=0 v2=2 | v1=0 v2=3"),
        (2, "100%", "0", "v1=2 v2=2 | v1=0 v2=2"),
    ];
    for (replicas, surge, unavailable, steps) in table {
        let strategy = rolling(surge, unavailable);
        let mut fleet = Fleet::running(&deployment("web", replicas, "v1", &strategy));
        fleet.push(&deployment("web", replicas, "v2", &strategy));
        assert_eq!(fleet.steps("web"), steps, "{replicas} pods, +{surge} -{unavailable}");
        fleet.settle();
        assert_eq!(fleet.pods("web"), format!("v2={replicas}"));
    }
}

#[test]
fn no_surge_and_nobody_missing_is_refused() {
    let mut fleet = Fleet::running(&deployment("web", 3, "v1", ""));
    fleet.push(&deployment("web", 3, "v2", &rolling("0", "0")));
    fleet.settle();
    let waiting = fleet.head().and_then(|head| head.waiting.as_ref()).expect("it waits");
    assert_eq!(waiting.verdict.why(), "1 error in it");
    assert_eq!(fleet.pods("web"), "v1=3", "nothing of it is in force");
}

#[test]
fn recreate_waits_until_every_old_pod_is_gone() {
    let recreate = "strategy: {type: Recreate}";
    let mut fleet = Fleet::running(&deployment("web", 2, "v1", recreate));
    fleet.push(&deployment("web", 2, "v2", recreate));
    fleet.turn();
    assert_eq!((fleet.sets("web"), fleet.pods("web")), ("v1=0 v2=0".into(), "leaving=2".into()));
    let first = fleet.bindings("web")[0].uid.clone();
    fleet.work_as(|pod, _| if pod.uid == first { Mood::Clings } else { Mood::Ready });
    fleet.turn();
    assert_eq!((fleet.sets("web"), fleet.pods("web")), ("v1=0 v2=0".into(), "leaving=1".into()));
    fleet.work();
    fleet.turn();
    assert_eq!((fleet.sets("web"), fleet.pods("web")), ("v1=0 v2=2".into(), "v2=2".into()));
}

#[test]
fn a_pod_is_available_only_after_min_ready_seconds() {
    let slow = format!("minReadySeconds: 10; {}", rolling("1", "0"));
    let mut fleet = Fleet::running(&deployment("web", 2, "v1", &slow));
    fleet.push(&deployment("web", 2, "v2", &slow));
    fleet.turn();
    fleet.work();
    fleet.turn();
    assert_eq!(fleet.sets("web"), "v1=2 v2=1", "ready, and not yet available");
    let wake = fleet.last.as_ref().and_then(|plan| plan.wake).expect("it asks to be woken");
    assert_eq!(wake.since(fleet.now.elapsed).as_secs(), 10);
    fleet.pass(9).turn();
    assert_eq!(fleet.sets("web"), "v1=2 v2=1");
    fleet.pass(1).turn();
    assert_eq!(fleet.sets("web"), "v1=1 v2=1");
}

#[test]
fn a_pod_that_turns_unready_begins_its_min_ready_seconds_anew() {
    let slow = format!("minReadySeconds: 10; {}", rolling("1", "0"));
    let mut fleet = Fleet::running(&deployment("web", 1, "v1", &slow));
    fleet.push(&deployment("web", 1, "v2", &slow));
    fleet.turn();
    fleet.work();
    fleet.turn();
    fleet.pass(9);
    fleet.work_as(|_, image| if image == "v2" { Mood::Unready } else { Mood::Ready });
    fleet.turn();
    fleet.work();
    fleet.turn();
    fleet.pass(9).turn();
    assert_eq!(fleet.sets("web"), "v1=1 v2=1");
    fleet.pass(1).turn();
    assert_eq!(fleet.sets("web"), "v1=0 v2=1");
}

#[test]
fn a_bad_image_stops_the_roll_out_within_its_bounds() {
    let mut fleet = Fleet::running(&deployment("web", 4, "v1", ""));
    fleet.push(&deployment("web", 4, "bad", ""));
    fleet.settle();
    assert_eq!(fleet.pods("web"), "bad=2 v1=3", "a quarter up, a quarter down");
    fleet.push(&deployment("web", 4, "v3", ""));
    fleet.settle();
    assert_eq!(fleet.pods("web"), "v3=4");
}

#[test]
fn a_roll_out_that_stands_still_is_called_failed_and_goes_on() {
    let impatient = "progressDeadlineSeconds: 60";
    let mut fleet = Fleet::running(&deployment("web", 2, "v1", impatient));
    let progressing = |fleet: &Fleet| {
        let condition = &fleet.record("web").progressing;
        (condition.status, condition.reason.clone())
    };
    assert_eq!(progressing(&fleet), (true, "NewReplicaSetAvailable".into()));
    fleet.push(&deployment("web", 2, "bad", impatient));
    for _ in 0..5 {
        fleet.turn();
        fleet.work();
    }
    assert_eq!(progressing(&fleet), (true, "ReplicaSetUpdated".into()));
    fleet.pass(59).turn();
    assert_eq!(progressing(&fleet), (true, "ReplicaSetUpdated".into()));
    fleet.pass(1).turn();
    assert_eq!(progressing(&fleet), (false, "ProgressDeadlineExceeded".into()));
    let event = fleet.event("ProgressDeadlineExceeded").expect("it is announced");
    assert!(event.starts_with("Deployment shop/web: ReplicaSet \"web-"), "{event}");
    fleet.pass(3600).turn();
    assert_eq!(fleet.pods("web"), "bad=1 v1=2", "it only says so, it rolls nothing back");
    fleet.work_as(|_, _| Mood::Ready);
    for _ in 0..10 {
        fleet.turn();
        fleet.work_as(|_, _| Mood::Ready);
    }
    assert_eq!(progressing(&fleet), (true, "NewReplicaSetAvailable".into()), "late, and arrived");
}

#[test]
fn a_change_in_the_middle_of_a_roll_out_rolls_over() {
    let strategy = rolling("1", "0");
    let mut fleet = Fleet::running(&deployment("web", 3, "v1", &strategy));
    fleet.push(&deployment("web", 3, "v2", &strategy));
    fleet.turn();
    fleet.work();
    fleet.turn();
    assert_eq!(fleet.sets("web"), "v1=2 v2=1");
    fleet.push(&deployment("web", 3, "v3", &strategy));
    // Both old sets give way, the oldest first; nobody waits until v2 has arrived.
    let steps = fleet.steps("web");
    assert!(steps.starts_with("v1=2 v2=1 v3=1 | v1=1 v2=1 v3=1"), "{steps}");
    fleet.settle();
    assert_eq!(fleet.pods("web"), "v3=3");
}

#[test]
fn scaling_is_no_roll_out() {
    let mut fleet = Fleet::running(&deployment("web", 2, "v1", ""));
    let before = fleet.names("web");
    fleet.push(&deployment("web", 5, "v1", ""));
    fleet.settle();
    assert_eq!(fleet.sets("web"), "v1=5");
    assert!(before.iter().all(|name| fleet.names("web").contains(name)), "the first two stayed");
    fleet.push(&deployment("web", 0, "v1", ""));
    fleet.settle();
    assert_eq!((fleet.sets("web"), fleet.pods("web")), ("v1=0".into(), String::new()));
}

/// Kubernetes' own example: 10 pods, three more while rolling; the rest of v2 never gets ready. Then
/// 15 are wanted: the five more are shared in proportion.
/// <https://kubernetes.io/docs/concepts/workloads/controllers/deployment/#proportional-scaling>
#[test]
fn scaling_in_the_middle_of_a_roll_out_is_shared_in_proportion() {
    let strategy = rolling("3", "2");
    let mut fleet = Fleet::running(&deployment("web", 10, "v1", &strategy));
    fleet.push(&deployment("web", 10, "bad", &strategy));
    fleet.settle();
    assert_eq!(fleet.sets("web"), "v1=8 bad=5");
    fleet.push(&deployment("web", 15, "bad", &strategy));
    fleet.turn();
    assert_eq!(fleet.sets("web"), "v1=11 bad=7");
    fleet.settle();
    assert_eq!(fleet.sets("web"), "v1=11 bad=7", "no more may be missing");
    fleet.push(&deployment("web", 5, "bad", &strategy));
    fleet.turn();
    // 8 and 3 are 11 in proportion and 8 in all; three of five must be available, and are.
    assert_eq!(fleet.sets("web"), "v1=3 bad=3");
    fleet.settle();
    assert_eq!(fleet.pods("web"), "bad=5 v1=3");
}

#[test]
fn scaled_to_nothing_in_the_middle_of_a_roll_out_leaves_nothing() {
    let strategy = rolling("2", "2");
    let mut fleet = Fleet::running(&deployment("web", 10, "v1", &strategy));
    fleet.push(&deployment("web", 10, "bad", &strategy));
    fleet.settle();
    fleet.push(&deployment("web", 0, "bad", &strategy));
    fleet.turn();
    assert_eq!(fleet.sets("web"), "v1=0 bad=0");
}

#[test]
fn a_paused_deployment_scales_and_does_not_roll() {
    let mut fleet = Fleet::running(&deployment("web", 2, "v1", ""));
    fleet.push(&deployment("web", 3, "v2", "paused: true"));
    fleet.settle();
    assert_eq!(fleet.sets("web"), "v1=3");
    assert_eq!(fleet.record("web").progressing.reason, "DeploymentPaused");
    fleet.push(&deployment("web", 3, "v2", ""));
    fleet.settle();
    assert_eq!(fleet.pods("web"), "v2=3");
}

#[test]
fn a_revert_brings_the_old_set_back() {
    let mut fleet = Fleet::running(&deployment("web", 2, "v1", ""));
    let first = fleet.set_records("web")[0].0.clone();
    fleet.push(&deployment("web", 2, "v2", ""));
    fleet.settle();
    fleet.push(&deployment("web", 2, "v1", ""));
    fleet.settle();
    assert_eq!(fleet.sets("web"), "v1=2 v2=0", "two sets, as before");
    let (name, set) = fleet.set_records("web")[0];
    assert_eq!((name, set.revision, set.earlier_revisions.as_slice()), (&first, 3, &[1][..]));
    let hash = &set.hash;
    let all_carry = fleet.bindings("web").iter().all(|b: &std::sync::Arc<Binding>| {
        b.labels["pod-template-hash"] == *hash && b.owner.name == first.name
    });
    assert!(all_carry);
}

#[test]
fn a_revert_in_the_middle_ends_only_what_was_new() {
    let mut fleet = Fleet::running(&deployment("web", 4, "v1", ""));
    let before = fleet.names("web");
    fleet.push(&deployment("web", 4, "bad", ""));
    fleet.settle();
    fleet.push(&deployment("web", 4, "v1", ""));
    fleet.settle();
    let after = fleet.names("web");
    let stayed = before.iter().filter(|name| after.contains(name)).count();
    assert_eq!((fleet.pods("web"), stayed), ("v1=4".into(), 3), "one had made room for bad ones");
}

#[test]
fn the_same_template_written_otherwise_restarts_nothing() {
    let spec = |cpu: &str, more: &str| {
        deployment("web", 2, "v1", "").replace(
            "containers: [{name: main, image: \"v1\"}]",
            &format!(
                "{more}containers: [{{name: main, image: \"v1\", resources: {{limits: {{cpu: {cpu}}}}}}}]"
            ),
        )
    };
    let mut fleet = Fleet::running(&spec("1000m", ""));
    let before = fleet.uids("web");
    let writings = [
        spec("1", ""),
        spec("\"1\"", "restartPolicy: Always, "),
        spec("1.0", "dnsPolicy: ClusterFirst, securityContext: {}, "),
    ];
    for writing in writings {
        fleet.push(&writing);
        fleet.settle();
        assert_eq!(fleet.uids("web"), before, "{writing}");
        assert_eq!(fleet.set_records("web").len(), 1);
    }
    fleet.push(&spec("1001m", ""));
    fleet.settle();
    assert_ne!(fleet.uids("web"), before, "that is another amount");
}

#[test]
fn old_sets_are_kept_up_to_the_limit() {
    let kept = |limit: &str, versions: u32| {
        let mut fleet = Fleet::new();
        for version in 0..versions {
            fleet.push(&deployment("web", 1, &format!("v{version}"), limit));
            fleet.settle();
        }
        fleet.turn();
        fleet.set_records("web").len()
    };
    assert_eq!(kept("", 14), 11, "ten old ones and the current");
    assert_eq!(kept("revisionHistoryLimit: 2", 6), 3);
    assert_eq!(kept("revisionHistoryLimit: 0", 4), 1);
}

#[test]
fn a_deployment_that_leaves_git_takes_its_pods_and_sets_along() {
    let both = format!("{}{}", deployment("web", 3, "v1", ""), deployment("api", 1, "v1", ""));
    let mut fleet = Fleet::running(&both);
    fleet.push(&deployment("api", 1, "v1", ""));
    fleet.turn();
    assert_eq!((fleet.pods("web"), fleet.sets("web")), ("leaving=3".into(), String::new()));
    let reasons: Vec<String> = fleet
        .bindings("web")
        .iter()
        .filter_map(|b| b.deletion.as_ref().map(|d| d.reason.clone()))
        .collect();
    assert_eq!(reasons, ["NotInGit"; 3]);
    fleet.settle();
    assert_eq!((fleet.pods("web"), fleet.pods("api")), (String::new(), "v1=1".into()));
    assert_eq!(fleet.state().deployments.len(), 1);
}

#[test]
fn two_templates_of_one_name_get_two_sets() {
    let mut fleet = Fleet::running(&deployment("web", 1, "v1", ""));
    // What a collision of digests comes to: the name of v2's set is taken by another template.
    let (taken, _) = {
        let mut other = fleet.clone();
        other.push(&deployment("web", 1, "v2", ""));
        other.settle();
        let (key, set) = other.set_records("web")[1];
        (key.clone(), set.hash.clone())
    };
    let app = fleet.input.state.apps.values_mut().next().expect("the app");
    let (_, record) = app.sets.pop_first().expect("the set of v1");
    app.sets.insert(taken.clone(), record);
    fleet.push(&deployment("web", 1, "v2", ""));
    fleet.turn();
    let sets = fleet.set_records("web");
    assert_eq!(sets.len(), 2);
    assert_ne!(sets[1].0, &taken);
    assert_eq!(fleet.record("web").collisions, 1);
}

#[test]
fn order_of_sets_does_not_hang_on_the_wall_clock() {
    // The clock is set back by a year between two versions; the older set still gives way first.
    let strategy = rolling("1", "0");
    let mut fleet = Fleet::running(&deployment("web", 2, "v1", &strategy));
    fleet.now.wall = crate::kinds::time::Wall::from_seconds(1_600_000_000);
    fleet.push(&deployment("web", 2, "v2", &strategy));
    fleet.turn();
    fleet.work();
    fleet.turn();
    assert_eq!(fleet.sets("web"), "v1=1 v2=1");
    fleet.push(&deployment("web", 2, "v3", &strategy));
    fleet.turn();
    fleet.work();
    fleet.turn();
    assert_eq!(fleet.sets("web"), "v1=0 v2=1 v3=1");
}

#[test]
fn a_turn_that_only_keeps_records_says_which() {
    let mut fleet = Fleet::new();
    fleet.push(&deployment("web", 2, "v1", ""));
    let mut said = Vec::new();
    for _ in 0..6 {
        fleet.turn();
        said.extend(fleet.last.as_ref().map(|plan| plan.why.clone()));
        fleet.work();
    }
    said.retain(|why| why.starts_with(crate::plan::RECORDS));
    let both = "Deployment shop/web: MinimumReplicasAvailable; \
                Deployment shop/web: NewReplicaSetAvailable";
    assert_eq!(said, [format!("{} {both}", crate::plan::RECORDS)]);
}
