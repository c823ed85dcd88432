//! LimitRanges: what a pod is given when it is made, and that nobody's is taken or changed later.

use std::sync::Arc;

use proptest::prelude::{Strategy as _, prop, prop_assert_eq, proptest};

use super::super::{Library, missing_templates, template_for};
use super::{Fleet, deployment, manifest, pod, stateful_set};
use crate::kinds::binding::Binding;
use crate::kinds::node::NodeFacts;
use crate::kinds::quantity::Quantity;

/// A fleet whose node has so many megabytes of memory for pods, and nothing in force.
fn fleet(megabytes: i64) -> Fleet {
    let mut fleet = Fleet::new();
    let facts = NodeFacts {
        allocatable: [("memory", Quantity::bytes(megabytes << 20)), ("pods", Quantity::units(110))]
            .map(|(name, amount)| (name.to_owned(), amount))
            .into(),
        ..NodeFacts::default()
    };
    fleet.input.nodes.values_mut().for_each(|node| node.facts = Arc::new(facts.clone()));
    fleet
}

/// The same, on which this runs and has settled.
fn running(manifests: &str) -> Fleet {
    let mut fleet = fleet(1024);
    fleet.push(manifests);
    fleet.settle();
    fleet
}

/// A LimitRange in `shop` that gives this much memory, and no more than that.
fn range(memory: &str) -> String {
    let spec = format!("spec: {{limits: [{{type: Container, max: {{memory: {memory}}}}}]}}");
    manifest("v1", "LimitRange", "usual", &spec)
}

/// The memory that a pod may use, on any machine that reads its binding: `none` without a limit, nothing
/// where it can't be read.
fn limit(fleet: &Fleet, binding: &Binding) -> String {
    let template = template_for(binding, &fleet.input.apps, &fleet.input.library);
    let Some(template) = template else { return String::new() };
    let resources = &template.spec.containers[0].resources;
    assert_eq!(resources.requests.get("memory"), resources.limits.get("memory"));
    resources.limits.get("memory").map_or("none".to_owned(), ToString::to_string)
}

/// The same of all pods of a manifest, oldest first.
fn limits(fleet: &Fleet, manifest: &str) -> String {
    let bindings = fleet.bindings(manifest);
    let each = bindings.iter().map(|binding| limit(fleet, binding));
    each.collect::<Vec<_>>().join(" ")
}

#[test]
fn a_changed_limit_range_rolls_nothing_and_new_pods_have_it() {
    let web = |replicas| deployment("web", replicas, "v1", "");
    let lone = || pod("lone", "v1", "app: lone");
    let db = |replicas| stateful_set("db", replicas, "v1", "");
    let mut fleet = running(&format!("{}{}{}", web(1), lone(), db(1)));
    let first: Vec<_> = ["web", "lone", "db"].map(|name| fleet.uids(name)).concat();
    for (memory, given) in [("64Mi", "none 64Mi"), ("128Mi", "none 64Mi 128Mi")] {
        let replicas = u32::try_from(given.split(' ').count()).expect("small");
        let sets = fleet.set_records("web").len();
        // The LimitRange alone: every pod stays as it is.
        let (before, own) = (limits(&fleet, "web"), range(memory));
        fleet.push(&format!("{}{}{}{own}", web(replicas - 1), lone(), db(replicas - 1)));
        fleet.settle();
        assert_eq!(limits(&fleet, "web"), before, "{memory}");
        assert_eq!(fleet.set_records("web").len(), sets);
        // One pod more of each, of the same template as ever.
        fleet.push(&format!("{}{}{}{own}", web(replicas), lone(), db(replicas)));
        fleet.settle();
        assert_eq!(limits(&fleet, "web"), given);
        assert_eq!(
            (limits(&fleet, "db").as_str(), limits(&fleet, "lone").as_str()),
            (given, "none")
        );
        assert_eq!(fleet.set_records("web").len(), sets);
    }
    let now: Vec<_> = ["web", "lone", "db"].map(|name| fleet.uids(name)).concat();
    assert!(first.iter().all(|uid| now.contains(uid)), "nobody was replaced");
    // Nor does the end of a LimitRange change anybody.
    fleet.push(&format!("{}{}{}", web(3), lone(), db(3)));
    fleet.settle();
    assert_eq!(limits(&fleet, "web"), "none 64Mi 128Mi");
    assert_eq!([fleet.uids("web"), fleet.uids("lone"), fleet.uids("db")].concat().len(), now.len());
}

#[test]
fn a_limit_range_that_went_from_git_is_sought_where_it_was_written() {
    let web = deployment("web", 1, "v1", "");
    let mut fleet = running(&format!("{web}{}", range("64Mi")));
    let first = fleet.applied().expect("in force");
    fleet.push(&web);
    fleet.settle();
    fleet.input.library = Library::default();
    // What can't be read yet is not taken for nothing: the pod is left alone.
    assert_eq!(limits(&fleet, "web"), "");
    let mut used = std::collections::BTreeSet::new();
    let input = &fleet.input;
    let sought = missing_templates(&input.state, &input.apps, &input.library, &mut used);
    let sought: Vec<_> =
        sought.iter().map(|shelf| (&shelf.revision, shelf.owner.to_string())).collect();
    assert_eq!(sought, [(&first, "LimitRange shop/usual".to_owned())]);
    fleet.fetch_books();
    assert_eq!(limits(&fleet, "web"), "64Mi");
}

#[test]
fn a_binding_names_only_what_gives_its_pod_something() {
    let web = deployment("web", 1, "v1", "");
    let own = web.replace("image: \"v1\"", "image: \"v1\", resources: {limits: {memory: 1Mi}}");
    let own = own.replace("web", "own");
    let bounds = "spec: {limits: [{type: Pod, max: {memory: 1Gi}}]}";
    let bounds = manifest("v1", "LimitRange", "bounds", bounds);
    let fleet = running(&format!("{web}{own}{bounds}{}", range("64Mi")));
    let named = |name: &str| {
        let bindings = fleet.bindings(name);
        let ranges = bindings.iter().flat_map(|binding| &binding.limit_ranges);
        ranges.map(|range| range.owner.to_string()).collect::<Vec<_>>()
    };
    assert_eq!((named("web"), named("own")), (vec!["LimitRange shop/usual".into()], vec![]));
}

#[test]
fn the_scheduler_counts_what_was_given() {
    let mut fleet = fleet(100);
    let web = |replicas| deployment("web", replicas, "v1", "");
    fleet.push(&web(2));
    fleet.settle();
    // Of one template, one that was given a share fits and the next does not.
    fleet.push(&format!("{}{}", web(4), range("64Mi")));
    for _ in 0..5 {
        fleet.turn();
        fleet.work();
    }
    let waiting = fleet.bindings("web").into_iter().filter_map(|pod| pod.message.clone());
    let waiting: Vec<String> = waiting.collect();
    assert!(matches!(&*waiting, [only] if only.contains("Insufficient memory")), "{waiting:?}");
}

proptest! {
    #[test]
    fn whatever_is_pushed_every_pod_keeps_what_it_was_made_with(
        pushes in prop::collection::vec((0..4_u32, 0..4_u8).prop_map(|(replicas, megabytes)| {
            let range = match megabytes { 0 => String::new(), some => range(&format!("{some}Mi")) };
            format!("{}{range}", deployment("web", replicas, "v1", ""))
        }), 1..8),
    ) {
        let mut fleet = fleet(1024);
        let mut made = std::collections::BTreeMap::new();
        for push in pushes {
            fleet.push(&push);
            fleet.settle();
            fleet.fetch_books();
            let given = push.split("memory: ").nth(1).map_or("none", |rest| rest.split('}').next().unwrap_or(""));
            for binding in fleet.bindings("web") {
                let known = made.entry(binding.uid.clone()).or_insert_with(|| given.to_owned());
                prop_assert_eq!(limit(&fleet, &binding), known.clone());
            }
        }
    }
}
