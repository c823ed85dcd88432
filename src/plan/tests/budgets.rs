//! How PodDisruptionBudgets stand, and whom they let go.

use super::super::schedule::{Budgets, Standing};
use super::super::work::Work;
use super::{Fleet, Mood, deployment};
use crate::kinds::name::Name;
use crate::kinds::object::Body;
use crate::kinds::registry::Kind;

fn budget(spec: &str) -> String {
    format!(
        "---\napiVersion: policy/v1\nkind: PodDisruptionBudget\nmetadata: {{name: web, namespace: shop}}\n\
         spec: {{selector: {{matchLabels: {{app: web}}}}, {spec}}}\n"
    )
}

/// How the one budget stands: expected, healthy, wanted, allowed.
pub(super) fn standing(fleet: &mut Fleet) -> String {
    let applied = fleet.app().applied.clone().expect("is in force");
    let mut memory = fleet.memory.clone();
    let mut work = Work::new(&fleet.input, &mut memory, fleet.now);
    work.take_in_pods();
    let wish = applied.desired.objects.values().find_map(|object| match &object.body {
        Body::DisruptionBudget(wish) => Some(wish.clone()),
        _ => None,
    });
    let (desired, shop) = ([&*applied.desired], Name::trusted("shop"));
    let wish = wish.expect("is there");
    let standing = Standing::of(&desired, work.pods.values(), &shop, &wish);
    let Standing { expected, healthy, healthy_wanted, allowed } = standing;
    format!("{expected} {healthy} {healthy_wanted} {allowed}")
}

/// Each line: the budget, how many of the Deployment's three pods are ready, then expected, healthy,
/// wanted and allowed, and whether a pod that is ready may go, and one that is not.
#[test]
fn a_budget_counts_as_the_disruption_controller_does() {
    let always = "unhealthyPodEvictionPolicy: AlwaysAllow";
    let table = [
        ("minAvailable: 2", 3, "3 3 2 1", "ready:yes"),
        ("minAvailable: 2", 2, "3 2 2 0", "ready:no unready:yes"),
        ("minAvailable: 2", 1, "3 1 2 0", "ready:no unready:no"),
        ("minAvailable: 5", 3, "3 3 5 0", "ready:no"),
        ("minAvailable: 50%", 3, "3 3 2 1", "ready:yes"),
        ("maxUnavailable: 1", 3, "3 3 2 1", "ready:yes"),
        ("maxUnavailable: 1", 2, "3 2 2 0", "ready:no unready:yes"),
        ("maxUnavailable: 1", 0, "3 0 2 0", "unready:no"),
        ("maxUnavailable: 0", 3, "3 3 3 0", "ready:no"),
        ("maxUnavailable: 100%", 3, "3 3 0 3", "ready:yes"),
        (&format!("minAvailable: 2, {always}"), 1, "3 1 2 0", "ready:no unready:yes"),
        (
            "minAvailable: 2, unhealthyPodEvictionPolicy: IfHealthyBudget",
            1,
            "3 1 2 0",
            "ready:no unready:no",
        ),
    ];
    for (spec, ready, counts, verdicts) in table {
        let mut fleet =
            Fleet::running(&format!("{}{}", deployment("web", 3, "v1", ""), budget(spec)));
        let mut left = ready;
        fleet.work_as(|_, _| {
            left -= 1;
            if left >= 0 { Mood::Ready } else { Mood::Unready }
        });
        assert_eq!(standing(&mut fleet), counts, "{spec}");
        let applied = fleet.app().applied.clone().expect("is in force");
        let mut memory = fleet.memory.clone();
        let mut work = Work::new(&fleet.input, &mut memory, fleet.now);
        work.take_in_pods();
        let desired = [&*applied.desired];
        let budgets = Budgets::from_parts(&desired, || work.pods.values());
        let mut said = Vec::new();
        for (word, is_ready) in [("ready", true), ("unready", false)] {
            if let Some(pod) = work.pods.values().find(|pod| pod.is_ready() == is_ready) {
                said.push(format!("{word}:{}", if budgets.permit(pod) { "yes" } else { "no" }));
            }
        }
        assert_eq!(said.join(" "), verdicts, "{spec}, {ready} ready");
    }
}

#[test]
fn a_word_that_is_none_is_refused() {
    assert_eq!(Kind::PodDisruptionBudget.info().support, crate::kinds::registry::Support::Runs);
    let mut fleet = Fleet::new();
    fleet.push(&budget("unhealthyPodEvictionPolicy: Never"));
    fleet.settle();
    let waiting = fleet.head().and_then(|head| head.waiting.clone()).expect("it waits");
    let said = waiting.findings[0].to_string();
    assert!(said.contains("\"Never\" must be IfHealthyBudget or AlwaysAllow"), "{said}");
}
