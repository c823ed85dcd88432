//! Who leaves a node for its taints, and when.

use super::Fleet;
use super::fleet::NODE;
use crate::kinds::name::Name;
use crate::kinds::registry::Kind;

fn pod(tolerations: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Pod\nmetadata: {{name: p, namespace: shop}}\nspec: {{tolerations: \
         [{tolerations}], containers: [{{name: main, image: v1}}]}}\n"
    )
}

fn node(taints: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Node\nmetadata: {{name: {NODE}}}\nspec: {{taints: [{taints}]}}\n"
    )
}

/// After how many seconds the pod is told to leave; nothing if it is not within an hour.
fn leaves_after(taints: &str, tolerations: &str) -> Option<u64> {
    let mut fleet = Fleet::running(&pod(tolerations));
    fleet.push(&format!("{}{}", pod(tolerations), node(taints)));
    fleet.turn();
    let began = fleet.now.elapsed;
    loop {
        fleet.turn();
        let passed = fleet.now.elapsed.since(began).as_secs();
        if fleet.bindings("p")[0].deletion.is_some() {
            return Some(passed);
        }
        let wake = fleet.last.as_ref().and_then(|plan| plan.wake).filter(|_| passed < 3600)?;
        let wait = wake.since(fleet.now.elapsed).as_secs();
        // A moment before it is time nothing happens.
        if wait > 1 {
            fleet.pass(wait - 1).turn();
            assert!(fleet.bindings("p")[0].deletion.is_none(), "too early: {taints} {tolerations}");
        }
        fleet.pass(1);
    }
}

#[test]
fn a_pod_leaves_when_it_bears_a_taint_no_longer() {
    let k = "{key: k, value: v, effect: NoExecute}";
    let j = "{key: j, effect: NoExecute}";
    let lost = "{key: node.kubernetes.io/unreachable, effect: NoExecute}";
    let sick = "{key: node.kubernetes.io/not-ready, effect: NoExecute}";
    let bears = |key: &str, seconds: i64| {
        format!("{{key: {key}, operator: Exists, effect: NoExecute, tolerationSeconds: {seconds}}}")
    };
    let for_ever = "{operator: Exists}";
    let table: Vec<(String, String, Option<u64>)> = vec![
        (k.into(), String::new(), Some(0)),
        (k.into(), for_ever.into(), None),
        (k.into(), "{key: k, operator: Equal, value: w}".into(), Some(0)),
        (k.into(), bears("k", 60), Some(60)),
        (k.into(), bears("k", -5), Some(0)),
        // All must be borne, and the shortest counts; for one taint the first counts.
        (format!("{k}, {j}"), bears("k", 60), Some(0)),
        (format!("{k}, {j}"), format!("{}, {}", bears("k", 60), bears("j", 20)), Some(20)),
        (format!("{k}, {j}"), format!("{}, {for_ever}", bears("k", 60)), Some(60)),
        (k.into(), format!("{for_ever}, {}", bears("k", 60)), None),
        // Other taints turn nobody out.
        ("{key: k, value: v, effect: NoSchedule}".into(), String::new(), None),
        ("{key: k, value: v, effect: PreferNoSchedule}".into(), String::new(), None),
        // The defaults, and who has words of his own.
        (lost.into(), String::new(), Some(300)),
        (sick.into(), String::new(), Some(300)),
        (lost.into(), bears("node.kubernetes.io/unreachable", 10), Some(10)),
        (lost.into(), bears("node.kubernetes.io/not-ready", 10), Some(300)),
        (lost.into(), for_ever.into(), None),
    ];
    for (taints, tolerations, expected) in table {
        assert_eq!(leaves_after(&taints, &tolerations), expected, "{taints} | {tolerations}");
    }
}

#[test]
fn a_taint_that_goes_in_time_is_forgotten() {
    let bears = pod("{key: k, operator: Exists, effect: NoExecute, tolerationSeconds: 60}");
    let taint = node("{key: k, effect: NoExecute}");
    let mut fleet = Fleet::running(&bears);
    fleet.push(&format!("{bears}{taint}"));
    fleet.turn();
    fleet.turn();
    assert_eq!(fleet.memory.tainted_since.len(), 1);
    fleet.pass(50).push(&bears);
    fleet.turn();
    assert_eq!(fleet.memory.tainted_since.len(), 0);
    fleet.pass(5).push(&format!("{bears}{taint}"));
    fleet.turn();
    fleet.pass(50).turn();
    assert!(fleet.bindings("p")[0].deletion.is_none(), "the time begins afresh");
    fleet.pass(10).turn();
    assert_eq!(fleet.bindings("p")[0].deletion.as_ref().map(|d| &*d.reason), Some("Evicted"));
}

#[test]
fn the_end_is_told_and_the_owner_makes_another() {
    let web = super::deployment("web", 2, "v1", "");
    let mut fleet = Fleet::running(&web);
    fleet.push(&format!("{web}{}", node("{key: k, effect: NoExecute}")));
    fleet.turn();
    assert_eq!(fleet.pods("web"), "v1=2 leaving=2", "others are made in the same turn");
    let told = fleet.event("TaintManagerEviction").expect("it is told");
    assert!(told.contains(": Marking for deletion Pod shop/web-"), "{told}");
    let placed = fleet.input.state.all_pods().filter(|(node, _)| node.is_some()).count();
    assert_eq!(placed, 2, "and none of them comes back here");
    let key = crate::kinds::object::Key::cluster(Kind::Node, &Name::trusted(NODE));
    assert!(fleet.state().entry(&key).is_some());
}
