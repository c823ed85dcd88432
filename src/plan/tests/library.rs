//! Templates of revisions that are no longer in force, and what happens while they can't be read.

use std::collections::BTreeSet;

use super::super::{Library, Shelf, missing_templates, plan, template_of};
use super::{Fleet, deployment, replica_set};

fn missing(fleet: &Fleet) -> BTreeSet<Shelf> {
    let mut used = BTreeSet::new();
    let input = &fleet.input;
    missing_templates(&input.state, &input.apps, &input.library, &mut used)
}

#[test]
fn a_template_that_says_the_same_today_is_not_sought() {
    let mut fleet = Fleet::running(&deployment("web", 2, "v1", ""));
    fleet.push(&deployment("web", 3, "v1", ""));
    fleet.settle();
    fleet.input.library = Library::default();
    assert!(missing(&fleet).is_empty());
}

#[test]
fn a_template_of_an_earlier_revision_is_sought_where_it_was_written() {
    let set = |image| replica_set("web", 2, image, "{matchLabels: {app: web}}");
    let mut fleet = Fleet::running(&set("v1"));
    let first = fleet.applied().expect("in force");
    fleet.push(&set("v2"));
    fleet.settle();
    fleet.input.library = Library::default();
    let sought = missing(&fleet);
    let shelf = sought.first().expect("one");
    assert_eq!(sought.len(), 1);
    assert_eq!((shelf.revision.clone(), shelf.path.as_str()), (first, "all.yaml"));
    assert_eq!(shelf.owner.to_string(), "ReplicaSet shop/web");
    // What was looked for and not found is not sought again.
    fleet.input.library.put(shelf.clone(), None);
    assert!(missing(&fleet).is_empty());
    let reference = &fleet.bindings("web")[0].template;
    assert!(template_of(reference, &fleet.input.apps, &fleet.input.library).is_none());
}

#[test]
fn pods_whose_template_is_not_found_are_left_alone() {
    let mut fleet = Fleet::running(&replica_set("web", 2, "v1", "{matchLabels: {app: web}}"));
    let before = fleet.uids("web");
    fleet.push(&replica_set("web", 2, "v2", "{matchLabels: {app: web}}"));
    fleet.settle();
    for shelf in {
        fleet.input.library = Library::default();
        missing(&fleet)
    } {
        fleet.input.library.put(shelf, None);
    }
    let next = plan(&fleet.input, &mut fleet.memory, fleet.now).next;
    assert_eq!(next, fleet.input.state);
    assert_eq!(fleet.uids("web"), before);
}

#[test]
fn a_reading_of_an_earlier_version_restarts_nothing() {
    // As after an upgrade that changed how manifests are read: digests can't be compared.
    let mut fleet = Fleet::running(&deployment("web", 2, "v1", ""));
    let before = fleet.uids("web");
    let app = fleet.input.state.apps.values_mut().next().expect("the app");
    for set in app.sets.values_mut() {
        let set = std::sync::Arc::make_mut(set);
        set.template.meaning_version = 0;
        set.template.meaning = crate::kinds::digest::Digest::of(b"another reading");
    }
    for list in fleet.input.state.pods.values_mut() {
        for binding in std::sync::Arc::make_mut(list).values_mut() {
            let binding = std::sync::Arc::make_mut(binding);
            binding.template.meaning_version = 0;
            binding.template.meaning = crate::kinds::digest::Digest::of(b"another reading");
        }
    }
    fleet.settle();
    assert_eq!((fleet.uids("web"), fleet.set_records("web").len()), (before, 1));
}

#[test]
fn an_app_that_is_not_read_is_not_touched() {
    let all = format!(
        "{}{}{}",
        deployment("web", 2, "v1", ""),
        replica_set("old", 1, "v1", "{matchLabels: {app: web}}")
            .replace("labels: {app: old}", "labels: {app: web}"),
        super::pod("lone", "v1", "app: web"),
    );
    let mut fleet =
        Fleet::running(&format!("{all}{}", super::service("web", "ports: [{port: 80}]")));
    let app = fleet.app();
    app.applied = None;
    let next = plan(&fleet.input, &mut fleet.memory, fleet.now).next;
    assert_eq!(next, fleet.input.state, "no adoption, no release, no end, no address taken back");
}
