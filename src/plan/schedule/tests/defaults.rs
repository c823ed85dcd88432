//! Pods that say nothing of how they spread.

use proptest::prelude::{ProptestConfig, prop, prop_assert, prop_assert_eq, proptest};

use super::scores::asks;
use super::{cluster, template};
use crate::kinds::labels::Labels;
use crate::kinds::name::Name;
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::plan::schedule::Cluster;
use crate::plan::schedule::choose::{Scheduler, best_of_all};
use crate::plan::schedule::weigh::{PLUGINS, scale};
use crate::sim::{self, Files};

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: \
                       {selector: {app: web}, ports: [{port: 80}]}\n";

/// A manifest of a set with pods like these.
fn set(kind: &str, labels: &str) -> String {
    let (api, selector) = match kind {
        "ReplicationController" => ("v1", format!("{{{labels}}}")),
        _ => ("apps/v1", format!("{{matchLabels: {{{labels}}}}}")),
    };
    format!(
        "apiVersion: {api}\nkind: {kind}\nmetadata: {{name: web, namespace: shop}}\nspec: {{selector: \
         {selector}, template: {{metadata: {{labels: {{{labels}}}}}, spec: {{containers: [{{name: m, \
         image: i}}]}}}}}}\n"
    )
}

/// The cluster, with everybody who selects pods in these manifests.
fn with(mut cluster: Cluster, manifests: &[&str]) -> Cluster {
    let namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";
    let text = [&[namespace], manifests].concat().join("---\n");
    let (desired, findings) = sim::read(&Files::from([("all.yaml".to_owned(), text)]));
    assert!(findings.iter().all(|finding| !finding.is_error()), "{}", findings[0]);
    for (key, object) in &desired.objects {
        cluster.selectors.learn(key, object);
    }
    cluster
}

/// A kind of pods of that owner, ready to be placed.
fn shape(
    cluster: &mut Cluster,
    labels: &str,
    spec: &str,
    owner: Option<Kind>,
    hash: &str,
) -> usize {
    let shop = Name::trusted("shop");
    let owner = owner.map(|kind| Key::namespaced(kind, &shop, &Name::trusted("web")));
    let more = match hash {
        "" => Labels::new(),
        hash => Labels::from([("pod-template-hash".to_owned(), hash.to_owned())]),
    };
    let shape = cluster.shape(&template(labels, spec), &shop, &more, owner.as_ref(), false);
    cluster.prepare(&[shape].into());
    shape
}

/// How many of so many such pods each node is given.
fn spread(cluster: Cluster, pods: usize, labels: &str, spec: &str, owner: Option<Kind>) -> String {
    let mut cluster = cluster;
    let hash = if owner == Some(Kind::Deployment) { "x" } else { "" };
    let shape = shape(&mut cluster, labels, spec, owner, hash);
    let mut counts = vec![0; cluster.machines.len()];
    let mut scheduler = Scheduler::new(cluster);
    for _ in 0..pods {
        counts[scheduler.place(shape, None, None).expect("there is room")] += 1;
    }
    let counts: Vec<String> = counts.iter().map(ToString::to_string).collect();
    counts.join("/")
}

#[test]
fn who_is_selected_is_spread_over_the_hosts() {
    const RACK: &str = "topologySpreadConstraints: [{maxSkew: 1, topologyKey: rack, \
        whenUnsatisfiable: WHEN, labelSelector: {matchLabels: {app: web}}}]";
    const WEB: &str = "app: web, tier: front";
    let (soft, hard) =
        (RACK.replace("WHEN", "ScheduleAnyway"), RACK.replace("WHEN", "DoNotSchedule"));
    let sets = [Kind::ReplicaSet, Kind::ReplicationController, Kind::Deployment]
        .map(|kind| (kind, set(&kind.to_string(), WEB)));
    // (manifests, labels and spec and owner of six pods, how many go to each)
    type Row<'t> = (Vec<&'t str>, &'t str, &'t str, Option<Kind>, &'t str);
    let mut table: Vec<Row<'_>> = vec![
        (vec![SERVICE], WEB, "", None, "2/2/2"),
        // Nobody selects them: they go where there is most left.
        (vec![], WEB, "", None, "0/3/3"),
        (vec![SERVICE], "app: api", "", None, "0/3/3"),
        (vec![&sets[0].1], WEB, "", None, "0/3/3"),
        // Whoever says how it spreads says all of it.
        (vec![SERVICE], WEB, &soft, None, "0/3/3"),
        (vec![SERVICE, &sets[0].1], WEB, &hard, Some(Kind::ReplicaSet), "0/3/3"),
    ];
    for (kind, manifest) in &sets {
        table.push((vec![manifest], WEB, "", Some(*kind), "2/2/2"));
        table.push((vec![SERVICE, manifest], WEB, "", Some(*kind), "2/2/2"));
    }
    for (manifests, labels, spec, owner, expected) in table {
        let mut board = with(cluster("a rack=1; b rack=1; c rack=1"), &manifests);
        let heavy = shape(&mut board, "app: heavy", &asks("2", "4Gi"), None, "");
        board.put(0, heavy);
        let found = spread(board, 6, labels, spec, owner);
        assert_eq!(found, expected, "{manifests:?} {labels} {spec} {owner:?}");
    }
}

#[test]
fn zones_are_balanced_and_a_node_without_one_counts_by_its_host() {
    const ZONE: &str = "topology.kubernetes.io/zone";
    // (zones of the nodes, pods, how many go to each)
    let table = [
        (&["1", "1", "1", "2"][..], 2, "1/0/0/1"),
        (&["1", "1", "1", "2"], 5, "1/1/1/2"),
        (&["1", "1", "2", "2"], 8, "2/2/2/2"),
        (&["", "", "", ""], 8, "2/2/2/2"),
        // Kubernetes adds nothing for the label a node lacks, so such a node looks emptier.
        (&["1", "1", "", ""], 8, "1/1/3/3"),
    ];
    for (zones, pods, expected) in table {
        let nodes = zones.iter().zip('a'..).map(|(zone, name)| match *zone {
            "" => name.to_string(),
            zone => format!("{name} {ZONE}={zone}"),
        });
        let nodes = nodes.collect::<Vec<_>>().join(";");
        let found = spread(with(cluster(&nodes), &[SERVICE]), pods, "app: web", "", None);
        assert_eq!(found, expected, "{nodes}");
    }
}

#[test]
fn selectors_are_taken_together() {
    let deployment = set("Deployment", "app: web");
    let other = SERVICE.replace("{app: web}", "{tier: front}").replace("name: web", "name: other");
    let all = SERVICE.replace("namespace: shop", "namespace: bank");
    let mut cluster = with(cluster("a"), &[SERVICE, &other, &deployment]);
    let bank = "apiVersion: v1\nkind: Namespace\nmetadata: {name: bank}\n---\n";
    cluster = with(cluster, &[bank, &all]);
    // (labels, owner, hash, what selects the pod)
    let table = [
        ("app: web", None, "", "app=web"),
        ("app: web, tier: front", None, "", "tier=front,app=web"),
        ("app: api", None, "", ""),
        ("app: web", Some(Kind::Deployment), "x", "app=web,app=web,pod-template-hash=x"),
        ("app: old", Some(Kind::Deployment), "x", "pod-template-hash=x"),
        ("app: old", Some(Kind::ReplicaSet), "x", ""),
    ];
    for (labels, owner, hash, expected) in table {
        let shape = shape(&mut cluster, labels, "", owner, hash);
        let found = cluster.selectors.of(&cluster.shapes[shape]);
        assert_eq!(found.map_or(String::new(), |found| found.to_string()), expected, "{labels}");
    }
}

#[test]
fn it_is_told_where_the_spread_is_told() {
    let mut cluster = with(cluster("a; b"), &[SERVICE]);
    let shape = shape(&mut cluster, "app: web", "", None, "");
    cluster.put(0, shape);
    let told = scale(cluster, shape, None);
    let at = PLUGINS.iter().position(|name| *name == "PodTopologySpread").expect("a column");
    let found: Vec<(&str, i64)> =
        told.able.iter().map(|node| (node.node.as_str(), node.scores[at])).collect();
    // ln 4 for the one pod on a, and 2 for each host: 2 of 3.39.
    assert_eq!(found, [("b", 200), ("a", 118)]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn no_look_at_a_node_that_is_spared_would_have_changed_the_choice(
        nodes in prop::collection::vec((0..4_u32, 1..5_u32, 1..6_u32), 1..12),
        order in prop::collection::vec((0..4_usize, 0..8_usize), 1..32),
    ) {
        let nodes = nodes.iter().enumerate().map(|(at, (zone, cpu, pods))| match zone {
            0 => format!("n{at} cpu:{cpu} pods:{pods}"),
            _ => format!("n{at} cpu:{cpu} pods:{pods} topology.kubernetes.io/zone={zone}"),
        });
        let nodes = nodes.collect::<Vec<_>>().join(";");
        let deployment = set("Deployment", "app: web");
        let mut board = with(cluster(&nodes), &[SERVICE, &deployment]);
        let kinds = [("", None, ""), ("500m", None, ""), ("", Some(Kind::Deployment), "x"), (
            "500m", Some(Kind::Deployment), "y",
        )];
        let shapes = kinds.map(|(cpu, owner, hash)| {
            let spec = if cpu.is_empty() { String::new() } else { asks(cpu, "64Mi") };
            shape(&mut board, "app: web", &spec, owner, hash)
        });
        let mut scheduler = Scheduler::new(board);
        let mut placed = Vec::new();
        for (pick, goes) in order {
            let shape = shapes[pick];
            let ranking = scheduler.ranking(shape);
            let outlook = scheduler.outlook(shape, &ranking).expect("it spreads");
            prop_assert!(outlook.levels().is_some());
            let expected = best_of_all(&ranking, &outlook, None, &scheduler.cluster);
            scheduler.keep_ranking(ranking);
            scheduler.keep_outlook(outlook);
            let found = scheduler.place(shape, None, None).ok();
            prop_assert_eq!(found, expected, "after {:?}", placed);
            placed.extend(found.map(|node| (node, shape)));
            if goes == 0 && let Some((node, shape)) = placed.pop() {
                scheduler.cluster.take(node, shape);
            }
        }
    }
}
