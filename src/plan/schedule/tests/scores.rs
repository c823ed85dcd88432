//! Which of several nodes is liked best.

use super::check;

pub(super) fn asks(cpu: &str, memory: &str) -> String {
    format!(
        "containers: [{{name: m, image: i, resources: {{requests: {{cpu: {cpu}, memory: {memory}}}}}}}]"
    )
}

#[test]
fn nodes_with_more_left_are_liked_better() {
    let some = asks("1", "2Gi");
    check(&[
        ("a; b", &[], "", "", "a"),
        ("a; b", &[("a", "", &some)], "", &some, "b"),
        ("a; b cpu:8 memory:16Gi", &[], "", &some, "b"),
        // What asks for nothing is taken to use a little.
        ("a; b", &[("a", "", "")], "", "", "b"),
        // CPU and memory used to the same degree.
        (
            "a; b",
            &[("a", "", &asks("2", "1")), ("b", "", &asks("1", "2Gi"))],
            "",
            &asks("1", "2Gi"),
            "b",
        ),
    ]);
}

#[test]
fn preferences_for_nodes_weigh() {
    const SSD: &str = "affinity: {nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: \
        [{weight: 10, preference: {matchExpressions: [{key: d, operator: Exists}]}}]}}";
    const IMAGE: &str = "containers: [{name: m, image: big}]";
    check(&[
        ("a; b d=ssd", &[("b", "", "")], "", SSD, "b"),
        ("a !k:PreferNoSchedule; b", &[("b", "", "")], "", "", "b"),
        ("a; b has:big:latest=900000000", &[], "", IMAGE, "b"),
        ("a; b has:big:latest=20000000", &[], "", IMAGE, "a"),
    ]);
}

/// A preferred term of this kind.
fn liking(kind: &str, app: &str) -> String {
    format!(
        "affinity: {{{kind}: {{preferredDuringSchedulingIgnoredDuringExecution: [{{weight: 50, \
         podAffinityTerm: {{topologyKey: zone, labelSelector: {{matchLabels: {{app: {app}}}}}}}}}]}}}}"
    )
}

#[test]
fn preferences_for_pods_weigh_both_ways() {
    const NODES: &str = "a zone=1; b zone=2";
    let required = "affinity: {podAffinity: {requiredDuringSchedulingIgnoredDuringExecution: \
        [{topologyKey: zone, labelSelector: {matchLabels: {app: web}}}]}}";
    check(&[
        (NODES, &[("b", "app: db", "")], "app: web", &liking("podAffinity", "db"), "b"),
        (NODES, &[("a", "app: db", "")], "app: web", &liking("podAntiAffinity", "db"), "b"),
        (NODES, &[("b", "app: db", &liking("podAffinity", "web"))], "app: web", "", "b"),
        (
            NODES,
            &[("a", "app: db", &liking("podAntiAffinity", "web")), ("b", "", ""), ("b", "", "")],
            "app: web",
            "",
            "b",
        ),
        (NODES, &[("b", "app: db", required)], "app: web", "", "b"),
    ]);
}

#[test]
fn an_uneven_spread_may_be_only_disliked() {
    const SOFT: &str = "topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, \
        whenUnsatisfiable: ScheduleAnyway, labelSelector: {matchLabels: {app: web}}}]";
    const WEB: &str = "app: web";
    let full = asks("3", "6Gi");
    check(&[
        ("a zone=1; b zone=1; c zone=2", &[("a", WEB, ""), ("c", "", "")], WEB, SOFT, "c"),
        // A node outside every domain comes last.
        ("a; b zone=1", &[("b", WEB, "")], WEB, SOFT, "b"),
        // Refused nowhere: the other zone has no room.
        ("a zone=1; b zone=2 pods:1", &[("a", WEB, ""), ("b", "", &full)], WEB, SOFT, "a"),
    ]);
}

#[test]
fn what_is_told_of_the_scores_is_what_decides() {
    use super::super::choose::Scheduler;
    use super::super::weigh::scale;
    use super::{cluster, shape_in};
    let nodes = "a zone=1 cpu:4 has:web:latest=500000000; b zone=2 cpu:8 !k=v:PreferNoSchedule; c \
                 zone=2 cpu:4; d cordoned";
    let near = "affinity: {podAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: \
                9, podAffinityTerm: {topologyKey: zone, labelSelector: {matchLabels: {app: x}}}}]}, \
                nodeAffinity: {preferredDuringSchedulingIgnoredDuringExecution: [{weight: 5, \
                preference: {matchExpressions: [{key: zone, operator: In, values: ['2']}]}}]}}";
    let spread = "topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: \
                  ScheduleAnyway, labelSelector: {matchLabels: {app: x}}}]";
    for more in ["", near, spread] {
        let mut board = cluster(nodes);
        let shape = shape_in(&mut board, "shop", "app: x", more);
        for node in [0, 2, 0] {
            board.put(node, shape);
        }
        board.prepare(&[shape].into());
        let mut scheduler = Scheduler::new(board);
        let chosen = scheduler.place(shape, None, None).expect("there is room");
        let mut board = std::mem::take(&mut scheduler.cluster);
        board.take(chosen, shape);
        board.log.clear();
        let name = board.names[chosen].clone();
        let told = scale(board, shape, None);
        assert_eq!(told.able[0].node, name, "{more}: {told:?}");
        assert_eq!(told.able.len(), 3);
        assert!(told.unable.keys().eq(["d"].map(crate::kinds::name::NodeName::trusted).iter()));
        for weighed in &told.able {
            assert_eq!(weighed.scores.iter().sum::<i64>(), weighed.total);
        }
    }
}
