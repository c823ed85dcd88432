//! Claims and volumes: what is bound to what, where pods may run for it, and what becomes of data.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Fleet, manifest};
use crate::kinds::name::{Name, NodeName};
use crate::kinds::status::{Phase, PodReport, PodStatus};
use crate::plan::NodeInput;
use crate::state::RecordKey;
use crate::state::records::Verdict;
use crate::state::storage::{ClaimRecord, VolumeRecord};

/// A fleet with a second node `b`.
pub(super) fn two_nodes() -> Fleet {
    let mut fleet = Fleet::new();
    let node = NodeInput { is_ready: true, ..NodeInput::default() };
    fleet.input.nodes.insert(NodeName::trusted("b"), node);
    fleet
}

/// Turns until nothing changes; nodes let go of pods that are to end.
pub(super) fn settle(fleet: &mut Fleet) {
    for _ in 0..50 {
        let has_changed = fleet.turn();
        for (name, node) in &mut fleet.input.nodes {
            let mut reports = BTreeMap::new();
            for pod in fleet.input.state.pods_of(name).into_iter().flat_map(|pods| pods.values()) {
                let status = PodStatus { phase: Phase::Running, ..PodStatus::default() };
                let report = PodReport {
                    key: pod.key.clone(),
                    uid: pod.uid.clone(),
                    status,
                    ending: None,
                    gone: pod.deletion.is_some(),
                };
                reports.insert(pod.uid.clone(), Arc::new(report));
            }
            node.pods = Arc::new(reports);
        }
        fleet.pass(1);
        if !has_changed {
            return;
        }
    }
    panic!("it does not settle: {:?}", fleet.last.as_ref().map(|plan| &plan.why));
}

pub(super) fn push(fleet: &mut Fleet, message: &str, manifests: &str) {
    fleet.push_as(message, manifests);
    settle(fleet);
}

pub(super) const ALLOWED: &str = "less\n\nWindlass-Allow-Prune: yes";

/// A claim for 1Gi; `more` are further fields of its spec, in flow style.
pub(super) fn claim(name: &str, more: &str) -> String {
    let spec = format!(
        "spec: {{accessModes: [ReadWriteOnce], resources: {{requests: {{storage: 1Gi}}}}{more}}}"
    );
    manifest("v1", "PersistentVolumeClaim", name, &spec)
}

/// A pod that uses claims.
pub(super) fn user(name: &str, claims: &[&str]) -> String {
    let volumes: Vec<String> = claims
        .iter()
        .map(|claim| format!("{{name: {claim}, persistentVolumeClaim: {{claimName: {claim}}}}}"))
        .collect();
    let spec = format!(
        "spec: {{containers: [{{name: main, image: v1}}], volumes: [{}]}}",
        volumes.join(", ")
    );
    manifest("v1", "Pod", name, &spec)
}

/// A volume of class `manual` at a path; `more` are further fields of its spec, in flow style.
fn volume(name: &str, size: &str, more: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: PersistentVolume\nmetadata: {{name: {name}, labels: {{is: \
         {name}}}}}\nspec: {{storageClassName: manual, capacity: {{storage: {size}}}, accessModes: \
         [ReadWriteOnce], hostPath: {{path: /srv/{name}}}{more}}}\n"
    )
}

fn class(name: &str, more: &str) -> String {
    format!(
        "---\napiVersion: storage.k8s.io/v1\nkind: StorageClass\nmetadata: {{name: {name}}}\n{more}\n"
    )
}

pub(super) fn record<'f>(fleet: &'f Fleet, name: &str) -> &'f ClaimRecord {
    let found = fleet.input.state.claim(&Name::trusted("shop"), &Name::trusted(name));
    found.unwrap_or_else(|| panic!("no claim {name}"))
}

/// The volume of a claim, or `-`.
pub(super) fn bound(fleet: &Fleet, name: &str) -> String {
    let claim = fleet.input.state.claim(&Name::trusted("shop"), &Name::trusted(name));
    let volume = claim.and_then(|claim| claim.volume.clone());
    volume.map_or_else(|| "-".to_owned(), |volume| volume.to_string())
}

pub(super) fn volume_of<'f>(fleet: &'f Fleet, claim: &str) -> &'f VolumeRecord {
    &fleet.input.state.volumes[bound(fleet, claim).as_str()]
}

/// The node of a pod; `-` before it has one.
pub(super) fn node_of(fleet: &Fleet, pod: &str) -> String {
    let mut pods = fleet.input.state.all_pods();
    let found = pods.find(|(_, binding)| binding.key.name == *pod);
    let (node, _) = found.unwrap_or_else(|| panic!("no pod {pod}"));
    node.as_ref().map_or_else(|| "-".to_owned(), NodeName::to_string)
}

pub(super) fn message_of(fleet: &Fleet, pod: &str) -> String {
    let mut pods = fleet.input.state.all_pods();
    let found = pods.find(|(_, binding)| binding.key.name == *pod);
    found.and_then(|(_, binding)| binding.message.clone()).unwrap_or_default()
}

fn cordon(fleet: &mut Fleet, node: &str) {
    fleet.input.nodes.get_mut(node).expect("the node").is_ready = false;
}

fn uncordon(fleet: &mut Fleet, node: &str) {
    fleet.input.nodes.get_mut(node).expect("the node").is_ready = true;
}

pub(super) fn verdict(fleet: &Fleet) -> String {
    match fleet.head().and_then(|head| head.waiting.as_ref()) {
        None => "in force".into(),
        Some(waiting) => match &waiting.verdict {
            Verdict::Refused(why) => format!("refused: {why} {:?}", waiting.findings),
            Verdict::Held(why) | Verdict::Waits(why) | Verdict::Reverted(why) => {
                format!("held: {why}")
            }
        },
    }
}

#[test]
fn a_claim_waits_for_its_pod_and_is_bound_in_the_turn_that_places_it() {
    let mut fleet = two_nodes();
    push(&mut fleet, "claim", &claim("data", ""));
    assert_eq!(bound(&fleet, "data"), "-");
    assert_eq!(record(&fleet, "data").class.as_ref().map(Name::as_str), Some("local-path"));
    let said = fleet.event("WaitForFirstConsumer").expect("it is said");
    assert!(
        said.starts_with("PersistentVolumeClaim shop/data: waiting for first consumer"),
        "{said}"
    );
    fleet.push(&format!("{}{}", claim("data", ""), user("web", &["data"])));
    fleet.turn();
    assert_ne!(node_of(&fleet, "web"), "-");
    let volume = volume_of(&fleet, "data");
    assert_eq!(volume.node.as_ref().map(Name::as_str), Some(node_of(&fleet, "web").as_str()));
    assert!(bound(&fleet, "data").starts_with("pvc-"));
    assert!(fleet.event("ProvisioningSucceeded").is_some());
}

#[test]
fn a_pod_goes_back_to_the_node_that_has_its_data_and_nowhere_else() {
    let mut fleet = two_nodes();
    push(&mut fleet, "one", &format!("{}{}", claim("data", ""), user("web", &["data"])));
    let home = node_of(&fleet, "web");
    push(&mut fleet, "none", &claim("data", ""));
    cordon(&mut fleet, &home);
    push(&mut fleet, "again", &format!("{}{}", claim("data", ""), user("web", &["data"])));
    assert_eq!(node_of(&fleet, "web"), "-");
    let why = message_of(&fleet, "web");
    assert!(
        why.contains("1 node(s) didn't match PersistentVolume's node affinity")
            && why.contains("1 node(s) were not ready"),
        "{why}"
    );
    uncordon(&mut fleet, &home);
    settle(&mut fleet);
    assert_eq!(node_of(&fleet, "web"), home);
}

/// Each line: what the claim asks for, and which of the volumes it gets.
#[test]
fn a_claim_gets_the_smallest_volume_that_suits_it() {
    let volumes = [
        volume("large", "10Gi", ""),
        volume("small", "2Gi", ""),
        volume("tiny", "1Mi", ""),
        volume("kept", "1Gi", ", claimRef: {namespace: shop, name: other}"),
    ];
    let table = [
        (", storageClassName: manual", "small"),
        (", storageClassName: manual, selector: {matchLabels: {is: large}}", "large"),
        (", storageClassName: manual, volumeName: large", "large"),
        (", storageClassName: manual, volumeName: tiny", "-"),
        (", storageClassName: manual, volumeName: kept", "-"),
        (", storageClassName: \"\"", "-"),
        (", storageClassName: absent", "-"),
    ];
    for (more, expected) in table {
        let mut fleet = two_nodes();
        push(&mut fleet, "one", &format!("{}{}", volumes.concat(), claim("data", more)));
        assert_eq!(
            (verdict(&fleet).as_str(), bound(&fleet, "data").as_str()),
            ("in force", expected),
            "{more}"
        );
    }
    let mut fleet = two_nodes();
    let wide = ", storageClassName: manual";
    push(&mut fleet, "kept", &format!("{}{}", volumes.concat(), claim("other", wide)));
    assert_eq!(bound(&fleet, "other"), "kept", "it is kept for that claim, small as others are");
    let many = claim("data", wide).replace("ReadWriteOnce", "ReadWriteMany");
    push(&mut fleet, "many", &format!("{}{}{many}", volumes.concat(), claim("other", wide)));
    assert_eq!(bound(&fleet, "data"), "-", "no volume may be used by many");
}

#[test]
fn two_claims_of_one_pod_never_get_one_volume() {
    let local = |name: &str| {
        let at = ", nodeAffinity: {required: {nodeSelectorTerms: [{matchFields: [{key: \
                  metadata.name, operator: In, values: [b]}]}]}}";
        volume(name, "2Gi", at)
    };
    let class = class(
        "manual",
        "provisioner: kubernetes.io/no-provisioner\nvolumeBindingMode: WaitForFirstConsumer",
    );
    let (one, two) =
        (claim("one", ", storageClassName: manual"), claim("two", ", storageClassName: manual"));
    let mut fleet = two_nodes();
    let pod = user("web", &["one", "two"]);
    push(&mut fleet, "one volume", &format!("{class}{}{one}{two}{pod}", local("v1")));
    assert_eq!((node_of(&fleet, "web").as_str(), bound(&fleet, "one").as_str()), ("-", "-"));
    let why = message_of(&fleet, "web");
    assert!(why.contains("2 node(s) didn't find available persistent volumes to bind"), "{why}");
    push(&mut fleet, "two", &format!("{class}{}{}{one}{two}{pod}", local("v1"), local("v2")));
    assert_eq!(node_of(&fleet, "web"), "b");
    assert_eq!([bound(&fleet, "one"), bound(&fleet, "two")], ["v1", "v2"]);
}

#[test]
fn a_path_that_one_node_may_use_belongs_to_the_node_that_used_it_first() {
    let mut fleet = two_nodes();
    let rest =
        format!("{}{}", volume("disk", "2Gi", ""), claim("data", ", storageClassName: manual"));
    push(&mut fleet, "one", &format!("{rest}{}", user("web", &["data"])));
    let home = node_of(&fleet, "web");
    push(&mut fleet, "none", &rest);
    cordon(&mut fleet, &home);
    push(&mut fleet, "again", &format!("{rest}{}", user("api", &["data"])));
    assert_eq!(node_of(&fleet, "api"), "-", "its data is on {home}");
}

#[test]
fn a_volume_of_one_pod_is_not_given_to_two() {
    let mut fleet = two_nodes();
    let alone = claim("data", "").replace("ReadWriteOnce", "ReadWriteOncePod");
    push(
        &mut fleet,
        "both",
        &format!("{alone}{}{}", user("one", &["data"]), user("two", &["data"])),
    );
    assert_eq!(
        [node_of(&fleet, "one").as_str() == "-", node_of(&fleet, "two").as_str() == "-"],
        [false, true]
    );
    let why = message_of(&fleet, "two");
    assert!(why.contains("ReadWriteOncePod access mode"), "{why}");
    // Pods of one node may share another.
    let mut fleet = two_nodes();
    let both = format!("{}{}{}", claim("data", ""), user("one", &["data"]), user("two", &["data"]));
    push(&mut fleet, "both", &both);
    assert_eq!(node_of(&fleet, "one"), node_of(&fleet, "two"));
}

#[test]
fn a_volume_that_no_node_owns_is_still_used_on_one_node_at_a_time() {
    let class =
        class("remote", "provisioner: windlass.dev/docker-volume\nparameters: {driver: rclone}\n");
    let mut fleet = two_nodes();
    let rest = format!("{class}{}", claim("data", ", storageClassName: remote"));
    push(&mut fleet, "one", &format!("{rest}{}", user("one", &["data"])));
    let first = node_of(&fleet, "one");
    assert!(volume_of(&fleet, "data").node.is_none());
    cordon(&mut fleet, &first);
    push(&mut fleet, "two", &format!("{rest}{}{}", user("one", &["data"]), user("two", &["data"])));
    assert_eq!(node_of(&fleet, "two"), "-");
    let why = message_of(&fleet, "two");
    assert!(why.contains("a volume that is in use on another node"), "{why}");
    push(&mut fleet, "only two", &format!("{rest}{}", user("two", &["data"])));
    assert_ne!(node_of(&fleet, "two"), first, "when the first is gone it may be used elsewhere");
}

#[test]
fn a_pod_whose_claim_is_missing_says_so() {
    let mut fleet = two_nodes();
    push(&mut fleet, "one", &user("web", &["data"]));
    assert_eq!(
        message_of(&fleet, "web"),
        "0/2 nodes are available: persistentvolumeclaim \"data\" not found."
    );
    push(&mut fleet, "claim", &format!("{}{}", claim("data", ""), user("web", &["data"])));
    assert_ne!(node_of(&fleet, "web"), "-");
}

#[test]
fn a_commit_that_lets_go_of_data_is_held() {
    let mut fleet = two_nodes();
    push(&mut fleet, "one", &format!("{}{}", claim("data", ""), user("web", &["data"])));
    push(&mut fleet, "no claim", &user("web", &["data"]));
    assert!(
        verdict(&fleet)
            .starts_with("held: it would delete PersistentVolumeClaim shop/data, which has data"),
        "{}",
        verdict(&fleet)
    );
    // One without a volume has none.
    let mut fleet = two_nodes();
    push(&mut fleet, "one", &claim("data", ""));
    push(&mut fleet, "none", "");
    assert_eq!((verdict(&fleet).as_str(), bound(&fleet, "data").as_str()), ("in force", "-"));
    // A volume of the repository, with a claim's data in it.
    let mut fleet = two_nodes();
    let claim = claim("data", ", storageClassName: manual");
    push(&mut fleet, "one", &format!("{}{claim}", volume("disk", "2Gi", "")));
    push(&mut fleet, "none", &claim);
    assert!(
        verdict(&fleet).starts_with("held: it would delete PersistentVolume disk"),
        "{}",
        verdict(&fleet)
    );
}

#[test]
fn a_claim_in_use_goes_when_the_last_pod_has() {
    let mut fleet = two_nodes();
    let pod = user("web", &["data"]);
    push(&mut fleet, "one", &format!("{}{pod}", claim("data", "")));
    let volume = bound(&fleet, "data");
    push(&mut fleet, ALLOWED, &pod);
    assert!(record(&fleet, "data").leaving.is_some(), "the pod uses it");
    assert!(!fleet.input.state.volumes[volume.as_str()].is_released);
    push(&mut fleet, "wanted again", &format!("{}{pod}", claim("data", "")));
    assert_eq!((record(&fleet, "data").leaving, bound(&fleet, "data")), (None, volume.clone()));
    push(&mut fleet, ALLOWED, "");
    let key = RecordKey::new(&Name::trusted("shop"), &Name::trusted("data"));
    assert!(fleet.input.state.claim(&key.namespace, &key.name).is_none());
    assert!(fleet.input.state.volumes[volume.as_str()].is_released);
}

#[test]
fn a_revert_finds_its_data_again_and_nobody_else_does() {
    let mut fleet = two_nodes();
    let first = format!("{}{}", claim("data", ""), user("web", &["data"]));
    push(&mut fleet, "one", &first);
    let (volume, home) = (bound(&fleet, "data"), node_of(&fleet, "web"));
    push(&mut fleet, ALLOWED, "");
    push(&mut fleet, "another", &format!("{}{}", claim("other", ""), user("api", &["other"])));
    assert_ne!(bound(&fleet, "other"), volume, "a released volume is for its claim alone");
    push(&mut fleet, "revert", &format!("{first}{}", claim("other", "")));
    assert_eq!((bound(&fleet, "data"), node_of(&fleet, "web")), (volume, home));
}

#[test]
fn data_is_removed_where_that_is_written_and_allowed_and_when_its_node_says_so() {
    let class = class(
        "gone",
        "provisioner: rancher.io/local-path\nreclaimPolicy: Delete\nvolumeBindingMode: WaitForFirstConsumer",
    );
    let first =
        format!("{class}{}{}", claim("data", ", storageClassName: gone"), user("web", &["data"]));
    let mut fleet = two_nodes();
    push(&mut fleet, "one", &first);
    let (volume, home) = (bound(&fleet, "data"), node_of(&fleet, "web"));
    push(&mut fleet, ALLOWED, &class);
    let record = &fleet.input.state.volumes[volume.as_str()];
    assert!(record.leaving.is_some(), "{record:?}");
    let uid = record.uid.clone();
    // The claim is back before the data is gone: what is being removed is given to nobody.
    push(&mut fleet, "back", &first);
    assert_ne!(bound(&fleet, "data"), volume);
    let node = fleet.input.nodes.get_mut(home.as_str()).expect("the node");
    node.removed_volumes = Arc::new([uid].into());
    settle(&mut fleet);
    assert!(!fleet.input.state.volumes.contains_key(volume.as_str()));
}

#[test]
fn a_directory_outlives_the_class_that_made_it() {
    let class = class(
        "mine",
        "provisioner: rancher.io/local-path\nvolumeBindingMode: WaitForFirstConsumer",
    );
    let rest = format!("{}{}", claim("data", ", storageClassName: mine"), user("web", &["data"]));
    let mut fleet = two_nodes();
    push(&mut fleet, "one", &format!("{class}{rest}"));
    push(&mut fleet, "no class", &rest);
    let applied = fleet.input.apps["default"].applied.clone().expect("a revision");
    let stock = crate::plan::storage::Stock::of([&*applied.desired]);
    let key = RecordKey::new(&Name::trusted("shop"), &Name::trusted("data"));
    let found = crate::plan::storage::mounted(&fleet.input.state, &stock, &key).expect("mounted");
    let expected = format!("{}_shop_data", bound(&fleet, "data"));
    assert_eq!(found.medium, crate::kinds::storage::Medium::Directory(expected));
}

#[test]
fn a_revert_to_before_a_claim_keeps_its_data_whatever_its_class_says() {
    let class = class(
        "gone",
        "provisioner: rancher.io/local-path\nreclaimPolicy: Delete\nvolumeBindingMode: WaitForFirstConsumer",
    );
    let mut fleet = two_nodes();
    push(&mut fleet, "before", &class);
    let first =
        format!("{class}{}{}", claim("data", ", storageClassName: gone"), user("web", &["data"]));
    push(&mut fleet, "one", &first);
    let volume = bound(&fleet, "data");
    push(&mut fleet, "revert", &class);
    assert_eq!(verdict(&fleet), "in force");
    let record = &fleet.input.state.volumes[volume.as_str()];
    assert!(record.is_released && record.leaving.is_none(), "{record:?}");
}

#[test]
fn the_default_class_is_the_one_that_says_so() {
    let own = class(
        "mine",
        "provisioner: windlass.dev/local-path\nvolumeBindingMode: WaitForFirstConsumer",
    );
    let default = own.replace(
        "{name: mine}",
        "{name: mine, annotations: {storageclass.kubernetes.io/is-default-class: \"true\"}}",
    );
    for (classes, expected) in [("", "local-path"), (&own, "local-path"), (&default, "mine")] {
        let mut fleet = two_nodes();
        push(&mut fleet, "one", &format!("{classes}{}", claim("data", "")));
        let class = record(&fleet, "data").class.as_ref().map(Name::as_str);
        assert_eq!(class, Some(expected), "{}", verdict(&fleet));
    }
}
