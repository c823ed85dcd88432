//! What holds for any nodes and any pods: nothing bound violates a required rule, and what is kept
//! between placements changes none of them.

use proptest::prelude::{ProptestConfig, prop, prop_assert, prop_assert_eq, proptest};
use proptest::strategy::Strategy as Draw;

use super::{cluster, shape_in};
use crate::plan::schedule::choose::Scheduler;
use crate::plan::schedule::{Cluster, Why};

/// Some nodes: zones are few, some nodes have none, some have little room or a taint.
fn nodes() -> impl Draw<Value = String> {
    let node = (0..5_u32, 1..5_u32, 0..8_u32).prop_map(|(zone, cpu, odd)| {
        let zone = if zone == 0 { String::new() } else { format!("zone={zone} ") };
        let odd = match odd {
            0 => "!k=v:NoSchedule",
            1 => "!k=v:PreferNoSchedule",
            2 => "pods:2",
            _ => "",
        };
        format!("{zone}cpu:{cpu} {odd}")
    });
    prop::collection::vec(node, 1..9).prop_map(|nodes| {
        let nodes = nodes.into_iter().enumerate().map(|(at, node)| format!("n{at} {node}"));
        nodes.collect::<Vec<_>>().join(";")
    })
}

/// Some kinds of pods, as (app, spec).
fn kinds() -> impl Draw<Value = Vec<(u32, String)>> {
    let term = (0..7_u32, 0..3_u32, 0..2_u32, 1..3_u32).prop_map(|(kind, app, key, skew)| {
        let key = ["host", "zone"][key as usize];
        let term = format!("{{topologyKey: {key}, labelSelector: {{matchLabels: {{app: a{app}}}}}}}");
        let required = format!("requiredDuringSchedulingIgnoredDuringExecution: [{term}]");
        let preferred = format!(
            "preferredDuringSchedulingIgnoredDuringExecution: [{{weight: 7, podAffinityTerm: {term}}}]"
        );
        let spread = |when: &str| {
            format!(
                "topologySpreadConstraints: [{{maxSkew: {skew}, topologyKey: {key}, \
                 whenUnsatisfiable: {when}, labelSelector: {{matchLabels: {{app: a{app}}}}}}}]"
            )
        };
        match kind {
            0 => format!("affinity: {{podAffinity: {{{required}}}}}"),
            1 => format!("affinity: {{podAntiAffinity: {{{required}}}}}"),
            2 => format!("affinity: {{podAffinity: {{{preferred}}}}}"),
            3 => format!("affinity: {{podAntiAffinity: {{{preferred}}}}}"),
            4 => spread("DoNotSchedule"),
            5 => spread("ScheduleAnyway"),
            _ => "tolerations: [{key: k, operator: Exists}]".to_owned(),
        }
    });
    let kind = (0..3_u32, term, 1..4_u32).prop_map(|(app, term, half)| {
        let cpu = half * 500;
        let room = format!("resources: {{requests: {{cpu: {cpu}m, memory: 64Mi}}}}");
        (app, format!("containers: [{{name: m, image: i, {room}}}], {term}"))
    });
    prop::collection::vec(kind, 1..5)
}

/// A cluster with these kinds of pods, on which `placed` have been put.
fn board(nodes: &str, kinds: &[(u32, String)], placed: &[(usize, usize)]) -> Cluster {
    let mut cluster = cluster(nodes);
    for (app, spec) in kinds {
        // Kinds that happen to be equal are one shape; a mark keeps them apart.
        let mark = cluster.shapes.len();
        shape_in(&mut cluster, "shop", &format!("app: a{app}, mark: m{mark}"), spec);
    }
    for (node, shape) in placed {
        cluster.put(*node, *shape);
    }
    cluster
}

/// Looks at a placement with no counts kept: pods and nodes one by one.
fn complaint(
    cluster: &Cluster,
    placed: &[(usize, usize)],
    node: usize,
    mine: usize,
) -> Option<Why> {
    let near = |topology: usize, other: usize| {
        let domain = cluster.topologies.domain(topology, node);
        domain.is_some() && domain == cluster.topologies.domain(topology, other)
    };
    let (shapes, namespaces) = (&cluster.shapes, &cluster.namespaces);
    let me = &shapes[mine];
    for (other_node, other) in placed {
        let other = &shapes[*other];
        let meets = |term: &&super::super::terms::Term| near(term.topology, *other_node);
        if me.terms.anti.iter().filter(meets).any(|term| term.means(other, namespaces)) {
            return Some(Why::PodAntiAffinity);
        }
        if other.terms.anti.iter().filter(meets).any(|term| term.means(me, namespaces)) {
            return Some(Why::OthersAntiAffinity);
        }
    }
    for term in &me.terms.affinity {
        let means = |(_, other): &&(usize, usize)| term.means(&shapes[*other], namespaces);
        let in_domain =
            |(at, _): &&(usize, usize)| cluster.topologies.domain(term.topology, *at).is_some();
        let is_first =
            !placed.iter().filter(means).any(|pod| in_domain(&pod)) && term.means(me, namespaces);
        let is_met = placed.iter().filter(means).any(|(at, _)| near(term.topology, *at));
        let has_domain = cluster.topologies.domain(term.topology, node).is_some();
        if !(is_met || is_first && has_domain) {
            return Some(Why::PodAffinity);
        }
    }
    for spread in me.terms.spread.iter().filter(|spread| spread.refuses) {
        let Some(own) = cluster.topologies.domain(spread.topology, node) else {
            return Some(Why::SpreadLabel);
        };
        let mut pods = vec![0; cluster.topologies.domains(spread.topology)];
        for (at, other) in placed {
            if spread.counts(&shapes[*other], &me.namespace)
                && let Some(domain) = cluster.topologies.domain(spread.topology, *at)
            {
                pods[domain] += 1;
            }
        }
        let least = pods.iter().min().copied().unwrap_or(0);
        let then = pods[own] + u32::from(spread.counts(me, &me.namespace));
        if then > least + spread.max_skew {
            return Some(Why::Spread);
        }
    }
    None
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn nothing_bound_violates_a_required_rule(
        nodes in nodes(),
        kinds in kinds(),
        order in prop::collection::vec(0..5_usize, 1..24),
    ) {
        let mut placed = Vec::new();
        let mut scheduler = Scheduler::new(board(&nodes, &kinds, &[]));
        for pick in order {
            let shape = pick % kinds.len();
            let answer = scheduler.place(shape, None, None);
            // Somebody who starts afresh comes to the same.
            let afresh = Scheduler::new(board(&nodes, &kinds, &placed)).place(shape, None, None);
            prop_assert_eq!(&answer, &afresh, "after {:?}", placed);
            let cluster = &scheduler.cluster;
            match answer {
                Ok(node) => {
                    prop_assert_eq!(complaint(cluster, &placed, node, shape), None);
                    placed.push((node, shape));
                    let machine = &cluster.machines[node];
                    prop_assert!(machine.free(0) >= 0 && machine.pods <= machine.pods_max);
                }
                Err(unfit) => {
                    let refused: usize = unfit.reasons.values().sum();
                    prop_assert!(refused >= cluster.machines.len(), "{}", unfit);
                }
            }
        }
    }
}
