//! Volumes that are written in a pod (`ephemeral`): they come with it, and go with it.
//! <https://kubernetes.io/docs/concepts/storage/ephemeral-volumes/#generic-ephemeral-volumes>.

use super::storage::{
    bound, claim, message_of, push, record, settle, two_nodes, verdict, volume_of,
};
use super::{Fleet, stateful_set};
use crate::kinds::storage::Reclaim;
use crate::state::records::Verdict;

/// A set of one whose pod has a volume `scratch`.
fn set(image: &str) -> String {
    let claim = "volumeClaimTemplate: {metadata: {labels: {use: cache}}, spec: {accessModes: \
                 [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}}";
    let volumes = format!("volumes: [{{name: scratch, ephemeral: {{{claim}}}}}], containers:");
    stateful_set("db", 1, image, "").replace("containers:", &volumes)
}

fn running() -> Fleet {
    let mut fleet = two_nodes();
    push(&mut fleet, "a set", &set("v1"));
    fleet
}

/// What of its volumes is left, and which are to be emptied.
fn volumes(fleet: &Fleet) -> (usize, usize) {
    let volumes = fleet.input.state.volumes.values();
    (volumes.clone().count(), volumes.filter(|volume| volume.leaving.is_some()).count())
}

#[test]
fn it_is_made_with_its_pod_and_bound_where_that_goes() {
    let fleet = running();
    let claim = record(&fleet, "db-0-scratch");
    let made_for = claim.made_for.clone().expect("it is made");
    assert_eq!(made_for.owner.to_string(), "Pod shop/db-0");
    assert_eq!(made_for.pod.as_ref(), fleet.uids("db").first());
    assert_eq!(made_for.labels["use"], "cache");
    let made = volume_of(&fleet, "db-0-scratch").made.clone().expect("it is made");
    assert_eq!(made.class.as_str(), "local-path");
    assert_eq!(made.reclaim, Reclaim::Delete, "though its class keeps what is others'");
}

/// The next pod of the same name begins with an empty one: what the first wrote was the first's.
#[test]
fn it_goes_with_its_pod_and_the_next_of_that_name_gets_another() {
    let mut fleet = running();
    let first = bound(&fleet, "db-0-scratch");
    push(&mut fleet, "another", &set("v2"));
    let second = bound(&fleet, "db-0-scratch");
    assert!(first != second && second.starts_with("pvc-"), "{first} {second}");
    assert_eq!(volumes(&fleet), (2, 1), "the first is to be emptied");
    let leaving = &fleet.input.state.volumes[first.as_str()];
    assert!(leaving.is_released && leaving.leaving.is_some());
}

/// While its pod has not ended, it stays: the pod may still write.
#[test]
fn it_stays_until_its_pod_is_gone() {
    let mut fleet = running();
    let first = bound(&fleet, "db-0-scratch");
    fleet.push(&set("v2"));
    fleet.turn();
    fleet.turn();
    assert_eq!((bound(&fleet, "db-0-scratch"), volumes(&fleet)), (first, (1, 0)));
}

/// Its data is the pod's, as an emptyDir's is: no trailer is asked for, and a revert keeps none.
#[test]
fn no_commit_is_held_for_it() {
    let mut fleet = running();
    push(&mut fleet, "without the set", "");
    assert_eq!(verdict(&fleet), "in force");
    assert_eq!((fleet.input.state.all_claims().count(), volumes(&fleet)), (0, (1, 1)));
}

#[test]
fn a_claim_of_the_repository_with_its_name_keeps_the_pod_waiting() {
    let mut fleet = two_nodes();
    let taken = claim("db-0-scratch", "");
    push(&mut fleet, "both", &format!("{}{taken}", set("v1")));
    let why = message_of(&fleet, "db-0");
    assert!(why.contains("PVC shop/db-0-scratch was not created for pod shop/db-0"), "{why}");
    assert_eq!(volumes(&fleet), (0, 0));
    let message = format!("of its own\n\n{}", "Windlass-Allow-Prune: yes");
    push(&mut fleet, &message, &set("v1"));
    assert_eq!(message_of(&fleet, "db-0"), "");
    let held = fleet.head().and_then(|head| head.waiting.as_ref());
    assert!(!held.is_some_and(|waiting| matches!(waiting.verdict, Verdict::Held(_))));
}

/// What a released volume of that name holds was written for others.
#[test]
fn it_takes_back_no_volume_of_a_claim_that_had_its_name() {
    let mut fleet = two_nodes();
    let kept = claim("db-0-scratch", "");
    let user = super::storage::user("web", &["db-0-scratch"]);
    push(&mut fleet, "a claim", &format!("{kept}{user}"));
    let first = bound(&fleet, "db-0-scratch");
    push(&mut fleet, super::storage::ALLOWED, "");
    push(&mut fleet, "a set", &set("v1"));
    assert_ne!(bound(&fleet, "db-0-scratch"), first);
    settle(&mut fleet);
    assert!(fleet.input.state.volumes[first.as_str()].leaving.is_none(), "it is kept");
}
