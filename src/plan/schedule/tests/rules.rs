//! Each rule alone.

use super::{check, place};

#[test]
fn a_pod_needs_room() {
    const TWO: &str = "containers: [{name: m, image: i, resources: {requests: {cpu: 2}}}]";
    const BIG: &str =
        "containers: [{name: m, image: i, resources: {requests: {cpu: 5, memory: 9Gi}}}]";
    const GPU: &str = "containers: [{name: m, image: i, resources: \
                       {requests: {example.com/gpu: 1}, limits: {example.com/gpu: 1}}}]";
    check(&[
        ("a cpu:1; b cpu:2", &[], "", TWO, "b"),
        ("a cpu:3; b cpu:2", &[("a", "", TWO)], "", TWO, "b"),
        (
            "a cpu:2; b cpu:1",
            &[("a", "", TWO)],
            "",
            TWO,
            "0/2 nodes are available: 2 Insufficient cpu.",
        ),
        (
            "a; b memory:16Gi",
            &[],
            "",
            BIG,
            "0/2 nodes are available: 1 Insufficient memory, 2 Insufficient cpu.",
        ),
        ("a; b example.com/gpu:1", &[], "", GPU, "b"),
        ("a", &[], "", GPU, "0/1 nodes are available: 1 Insufficient example.com/gpu."),
        ("a pods:1", &[("a", "", "")], "", "", "0/1 nodes are available: 1 Too many pods."),
    ]);
}

#[test]
fn a_pod_goes_where_its_node_selector_and_affinity_allow() {
    const EITHER: &str = "affinity: {nodeAffinity: {requiredDuringSchedulingIgnoredDuringExecution: \
        {nodeSelectorTerms: [{matchExpressions: [{key: disk, operator: In, values: [ssd]}]}, \
        {matchFields: [{key: metadata.name, operator: In, values: [c]}]}]}}}";
    const NONE: &str =
        "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector.";
    check(&[
        ("a; b disk=ssd", &[], "", "nodeSelector: {disk: ssd}", "b"),
        ("a; b disk=hdd", &[], "", "nodeSelector: {disk: ssd}", NONE),
        ("a; b disk=ssd", &[], "", EITHER, "b"),
        ("a; b; c", &[], "", EITHER, "c"),
        ("a; b", &[], "", EITHER, NONE),
        ("a; b", &[], "", "nodeName: b", "b"),
        (
            "a",
            &[],
            "",
            "nodeName: b",
            "0/1 nodes are available: 1 node(s) didn't match the requested node name.",
        ),
    ]);
}

#[test]
fn a_pod_stays_off_taints_cordons_and_lost_nodes() {
    const TOLERANT: &str = "tolerations: [{key: k, operator: Equal, value: v}]";
    check(&[
        ("a !k=v:NoSchedule; b", &[], "", "", "b"),
        ("a !k=v:NoSchedule; b cordoned", &[], "", TOLERANT, "a"),
        (
            "a !k=v:NoSchedule; b !k=w:NoExecute; c cordoned; d lost",
            &[],
            "",
            "",
            "0/4 nodes are available: 1 node(s) had untolerated taint {k: v}, \
             1 node(s) had untolerated taint {k: w}, 1 node(s) were not ready, \
             1 node(s) were unschedulable.",
        ),
        (
            "a cordoned",
            &[],
            "",
            "tolerations: [{key: node.kubernetes.io/unschedulable, operator: Exists}]",
            "a",
        ),
    ]);
}

#[test]
fn a_host_port_is_taken_once() {
    const PORT: &str =
        "containers: [{name: m, image: i, ports: [{containerPort: 80, hostPort: 80}]}]";
    const ONE: &str = "containers: [{name: m, image: i, ports: \
                       [{containerPort: 80, hostPort: 80, hostIP: 10.0.0.1}]}]";
    const OTHER: &str = "containers: [{name: m, image: i, ports: \
                         [{containerPort: 80, hostPort: 80, hostIP: 10.0.0.2}]}]";
    const NONE: &str =
        "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports.";
    check(&[
        ("a; b", &[("a", "", PORT)], "", PORT, "b"),
        ("a", &[("a", "", PORT)], "", ONE, NONE),
        ("a", &[("a", "", ONE)], "", PORT, NONE),
        ("a", &[("a", "", ONE)], "", OTHER, "a"),
    ]);
}

/// A required term of this kind, with more fields.
fn near(kind: &str, app: &str, key: &str, more: &str) -> String {
    format!(
        "affinity: {{{kind}: {{requiredDuringSchedulingIgnoredDuringExecution: \
         [{{topologyKey: {key}, labelSelector: {{matchLabels: {{app: {app}}}}}{more}}}]}}}}"
    )
}

#[test]
fn a_pod_runs_near_those_it_needs() {
    const NODES: &str = "a zone=1; b zone=1; c zone=2; d";
    const NONE: &str = "0/4 nodes are available: 4 node(s) didn't match pod affinity rules.";
    let term = |app, more| near("podAffinity", app, "zone", more);
    check(&[
        // With the one it needs in a's zone, the emptier node of that zone.
        (NODES, &[("a", "app: db", "")], "app: web", &term("db", ""), "b"),
        (NODES, &[], "app: web", &term("db", ""), NONE),
        // The first of a group runs where it likes, if there is a domain.
        (NODES, &[], "app: web", &term("web", ""), "a"),
        ("d", &[], "app: web", &term("web", ""), &NONE.replace('4', "1")),
        // A pod in no domain is near nothing, so the group has not begun.
        (NODES, &[("d", "app: web", "")], "app: web", &term("web", ""), "a"),
        // Namespaces: the pod's own, or those named or picked.
        (NODES, &[("bank/c", "app: db", "")], "app: web", &term("db", ""), NONE),
        (NODES, &[("bank/c", "app: db", "")], "", &term("db", ", namespaces: [bank]"), "c"),
        (
            NODES,
            &[("bank/c", "app: db", "")],
            "",
            &term("db", ", namespaceSelector: {matchLabels: {trade: bank}}"),
            "c",
        ),
        (NODES, &[("bank/c", "app: db", "")], "", &term("db", ", namespaceSelector: {}"), "c"),
        (
            NODES,
            &[("c", "app: db", "")],
            "",
            &term("db", ", namespaceSelector: {matchLabels: {trade: bank}}"),
            NONE,
        ),
        // Label keys whose values are shared, or are not.
        (
            NODES,
            &[("a", "app: db, v: '1'", ""), ("c", "app: db, v: '2'", "")],
            "v: '2'",
            &term("db", ", matchLabelKeys: [v]"),
            "c",
        ),
        (
            NODES,
            &[("a", "app: db, v: '1'", ""), ("c", "app: db, v: '2'", "")],
            "v: '1'",
            &term("db", ", mismatchLabelKeys: [v]"),
            "c",
        ),
    ]);
}

#[test]
fn a_pod_keeps_away_from_those_it_shuns_and_those_that_shun_it() {
    const NODES: &str = "a zone=1; b zone=1; c zone=2";
    let term = |app, key| near("podAntiAffinity", app, key, "");
    check(&[
        (NODES, &[("a", "app: db", "")], "app: web", &term("db", "zone"), "c"),
        (NODES, &[("a", "app: db", "")], "app: web", &term("db", "host"), "b"),
        (NODES, &[("a", "app: db", &term("web", "zone"))], "app: web", "", "c"),
        (NODES, &[("bank/a", "app: db", &term("web", "zone"))], "app: web", "", "b"),
        // One that is being ended is there until it is gone.
        (NODES, &[("-a", "app: db", "")], "app: web", &term("db", "zone"), "c"),
        // A node in no domain is near nothing.
        ("a zone=1; b", &[("b", "app: db", "")], "app: web", &term("db", "zone"), "a"),
        (
            "a zone=1; b zone=2",
            &[("a", "app: db", ""), ("b", "app: x", &term("web", "zone"))],
            "app: web",
            &term("db", "zone"),
            "0/2 nodes are available: 1 node(s) didn't match pod anti-affinity rules, \
             1 node(s) didn't satisfy existing pods anti-affinity rules.",
        ),
    ]);
}

fn spread(key: &str, more: &str) -> String {
    format!(
        "topologySpreadConstraints: [{{maxSkew: 1, topologyKey: {key}, whenUnsatisfiable: \
         DoNotSchedule, labelSelector: {{matchLabels: {{app: web}}}}{more}}}]"
    )
}

#[test]
fn pods_spread_over_domains() {
    const NODES: &str = "a zone=1; b zone=1; c zone=2";
    const WEB: &str = "app: web";
    let web = |node| (node, WEB, "");
    let by_zone = spread("zone", "");
    check(&[
        (NODES, &[web("a")], WEB, &by_zone, "c"),
        (NODES, &[web("a"), ("c", "app: db", ""), ("c", "app: db", "")], WEB, &by_zone, "c"),
        // Pods of other namespaces and pods that leave don't count.
        (NODES, &[web("bank/a"), web("bank/a"), web("c")], WEB, &by_zone, "b"),
        (NODES, &[web("-c"), web("-c"), web("a")], WEB, &by_zone, "c"),
        // A pod that isn't counted itself raises nothing.
        (NODES, &[web("c"), ("a", "app: x", ""), ("b", "app: x", "")], "app: other", &by_zone, "a"),
        (
            "a zone=1; b zone=2 cpu:0; c",
            &[web("a")],
            WEB,
            &format!(
                "{by_zone}, containers: [{{name: m, image: i, resources: {{requests: {{cpu: 1}}}}}}]"
            ),
            "0/3 nodes are available: 1 Insufficient cpu, \
             1 node(s) didn't match pod topology spread constraints, \
             1 node(s) didn't match pod topology spread constraints (missing required label).",
        ),
        // With fewer domains than asked for, none may have more than the skew.
        (
            "a zone=1; b zone=2",
            &[web("a"), web("b")],
            WEB,
            &spread("zone", ", minDomains: 3"),
            "0/2 nodes are available: 2 node(s) didn't match pod topology spread constraints.",
        ),
        // Only pods of the same version are counted.
        (
            NODES,
            &[
                ("c", "app: web, v: '1'", ""),
                ("c", "app: web, v: '1'", ""),
                ("a", "app: web, v: '2'", ""),
            ],
            "app: web, v: '2'",
            &spread("zone", ", matchLabelKeys: [v]"),
            "c",
        ),
    ]);
}

#[test]
fn which_nodes_make_domains_is_a_policy() {
    const NODES: &str = "a zone=1 d=ssd; b zone=2; c zone=3 d=ssd !k=v:NoSchedule";
    const WEB: &str = "app: web";
    let ssd = |more: &str| format!("nodeSelector: {{d: ssd}}, {}", spread("zone", more));
    let there: &[super::There<'_>] = &[("a", WEB, "")];
    let none = "1 node(s) didn't match Pod's node affinity/selector, \
                1 node(s) didn't match pod topology spread constraints, \
                1 node(s) had untolerated taint {k: v}.";
    // By default taints are ignored: zone 3 is empty and can't be used.
    assert_eq!(place(NODES, there, WEB, &ssd("")), format!("0/3 nodes are available: {none}"));
    assert_eq!(place(NODES, there, WEB, &ssd(", nodeTaintsPolicy: Honor")), "a");
    let ignoring = ssd(", nodeTaintsPolicy: Honor, nodeAffinityPolicy: Ignore");
    assert_eq!(place(NODES, there, WEB, &ignoring), format!("0/3 nodes are available: {none}"));
}
