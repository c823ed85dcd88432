//! Which claims there are.
//!
//! Those of the repository, and those made for pods: for those of a set, one for each pod and template,
//! which outlive them; and for volumes that are written in a pod (`ephemeral`), which don't. A claim
//! that is to go waits for the last pod that uses it (`kubernetes.io/pvc-protection`); if the
//! repository has it again by then, it stays. With its Namespace, every claim is to go.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::desired::Desired;
use crate::kinds::binding::AppName;
use crate::kinds::name::{GIVEN_NAMESPACES, Name, PodKey};
use crate::kinds::object::{Body, Key};
use crate::kinds::registry::Kind;
use crate::kinds::storage::{ClaimSpec, ClassChoice, Reclaim};
use crate::state::storage::{ClaimRecord, MadeFor};
use crate::state::{LedgerShard, RecordKey, State};

use super::stock::{Stock, claims_of, scratch_claims};
use super::{SOURCE, claim_key};
use crate::plan::work::Work;

pub(super) fn keep(work: &mut Work) {
    end_with_pods(work);
    let apps: Vec<(AppName, Arc<Desired>)> =
        work.revisions.iter().map(|(app, its)| (app.clone(), its.desired.clone())).collect();
    let stock = Stock::of(apps.iter().map(|(_, desired)| &**desired));
    for (app, desired) in &apps {
        for object in desired.of_kind(Kind::PersistentVolumeClaim) {
            if let (Body::Claim(spec), Some(namespace)) = (&object.body, &object.key.namespace) {
                let key = RecordKey::new(namespace, &object.key.name);
                let entry = work.next.apps.get(app).and_then(|app| app.entry(&object.key));
                let uid = entry.map(|entry| entry.uid.clone());
                let uid = uid.unwrap_or_else(|| work.new_uid("claim", &key.to_string()));
                let record = new(work, uid, app, spec, None, &stock);
                keep_written(work, &key, record);
            }
        }
    }
    make_for_pods(work, &apps, &stock);
    make_with_pods(work, &stock);
    take_leave(work, &apps);
    forget_unused(work);
}

fn new(
    work: &Work,
    uid: crate::kinds::name::Uid,
    app: &AppName,
    spec: &ClaimSpec,
    made_for: Option<MadeFor>,
    stock: &Stock,
) -> ClaimRecord {
    let class = match &spec.class {
        ClassChoice::Default => stock.default_class().cloned(),
        ClassChoice::None => None,
        ClassChoice::Named(name) => Some(name.clone()),
    };
    ClaimRecord {
        uid,
        created: work.now.wall,
        app: app.clone(),
        spec: spec.clone(),
        class,
        made_for,
        volume: None,
        leaving: None,
        message: None,
        unknown: BTreeMap::new(),
    }
}

/// Enters a claim, or brings its record up to date.
fn keep_written(work: &mut Work, key: &RecordKey, new: ClaimRecord) {
    let Some(known) = work.next.claim(&key.namespace, &key.name) else {
        enter(work, key, new);
        return;
    };
    let is_same = known.spec == new.spec && known.made_for == new.made_for;
    if is_same && known.leaving.is_none() && known.app == new.app {
        return;
    }
    let (is_bound, was_leaving) = (known.volume.is_some(), known.leaving.is_some());
    let is_other = ClaimSpec { request: new.spec.request, ..known.spec.clone() } != new.spec;
    if was_leaving {
        work.note(format!("claim {key} stays: it is wanted again"));
    }
    if is_bound && is_other {
        let message = "The claim is bound: what it asks for anew has no effect on its volume";
        work.warn(&claim_key(key), SOURCE, "ClaimUnchanged", message.to_owned());
    }
    work.next.edit_claim(key, |known| {
        // A bound claim keeps its class: its volume has it.
        let class = if is_bound { known.class.take() } else { new.class };
        known.class = class;
        (known.spec, known.made_for, known.app) = (new.spec, new.made_for, new.app);
        known.leaving = None;
    });
}

fn enter(work: &mut Work, key: &RecordKey, claim: ClaimRecord) {
    let claims = work.next.claims.entry(key.namespace.clone()).or_default();
    Arc::make_mut(claims).insert(key.name.clone(), claim);
}

/// Makes the claims that pods have for themselves.
fn make_for_pods(work: &mut Work, apps: &[(AppName, Arc<Desired>)], stock: &Stock) {
    let mut wanted = Vec::new();
    for pod in work.pods.values().filter(|pod| pod.is_active()) {
        let owner = &pod.binding.template.owner;
        let Some(ordinal) = pod.binding.index else {
            continue;
        };
        let object =
            apps.iter().find_map(|(app, desired)| Some((app, desired.objects.get(owner)?)));
        let Some((app, own)) = object.and_then(|(app, o)| Some((app, o.body.own_claims()?))) else {
            continue;
        };
        for template in own.templates {
            let key =
                RecordKey::new(&pod.binding.key.namespace, &pod.binding.claim_name(&template.name));
            // One of the repository has the better right.
            let is_written = work.next.claim(&key.namespace, &key.name);
            if is_written.is_some_and(|claim| claim.made_for.is_none() && claim.leaving.is_none()) {
                continue;
            }
            let made_for = MadeFor {
                owner: owner.clone(),
                ordinal,
                goes_with_owner: own.retention.deleted_with_set,
                pod: None,
                labels: template.labels.clone(),
                annotations: template.annotations.clone(),
            };
            wanted.push((key, app.clone(), template.spec.clone(), made_for));
        }
    }
    for (key, app, spec, made_for) in wanted {
        if work.next.claim(&key.namespace, &key.name).is_none() {
            work.note(format!("claim {key} is made for its pod"));
        }
        let uid = work.new_uid("claim", &key.to_string());
        let record = new(work, uid, &app, &spec, Some(made_for), stock);
        keep_written(work, &key, record);
    }
}

/// Claims whose pod is gone, with which they came, are gone with it: nobody else has used them.
fn end_with_pods(work: &mut Work) {
    let is_over = |key: &RecordKey, claim: &ClaimRecord| {
        let pod =
            claim.made_for.as_ref().and_then(|made| Some((&made.owner.name, made.pod.as_ref()?)));
        pod.is_some_and(|(name, uid)| {
            let pod = work.pods.get(&PodKey::new(&key.namespace, name));
            pod.is_none_or(|pod| pod.binding.uid != *uid)
        })
    };
    let over = work.next.all_claims().filter(|(key, claim)| is_over(key, claim));
    let over: Vec<RecordKey> = over.map(|(key, _)| key).collect();
    for key in over {
        work.note(format!("claim {key} is gone with its pod"));
        remove(work, &key);
    }
}

/// Makes the claims of volumes that are written in pods (`ephemeral/controller.go`).
fn make_with_pods(work: &mut Work, stock: &Stock) {
    let mut wanted = Vec::new();
    for pod in work.pods.values().filter(|pod| pod.is_active()) {
        let binding = &pod.binding;
        for (name, template) in pod.template.iter().flat_map(|its| scratch_claims(&its.spec)) {
            let key = RecordKey::new(&binding.key.namespace, name);
            if work.next.claim(&key.namespace, &key.name).is_none() {
                let made_for = MadeFor {
                    owner: Key::namespaced(Kind::Pod, &binding.key.namespace, &binding.key.name),
                    ordinal: 0,
                    goes_with_owner: true,
                    pod: Some(binding.uid.clone()),
                    labels: template.labels.clone(),
                    annotations: template.annotations.clone(),
                };
                wanted.push((key, binding.template.app.clone(), template.clone(), made_for));
            }
        }
    }
    for (key, app, template, made_for) in wanted {
        let uid = work.new_uid("claim", &key.to_string());
        let record = new(work, uid, &app, &template.spec, Some(made_for), stock);
        work.note(format!("claim {key} is made with its pod"));
        enter(work, &key, record);
    }
}

/// Marks claims that are to go.
fn take_leave(work: &mut Work, apps: &[(AppName, Arc<Desired>)]) {
    let homeless = homeless(work, apps);
    let going: Vec<RecordKey> = work
        .next
        .all_claims()
        .filter(|(_, claim)| claim.leaving.is_none() && work.is_known(&claim.app))
        .filter(|(_, claim)| claim.made_for.as_ref().is_none_or(|made| made.pod.is_none()))
        .filter(|(key, claim)| {
            let desired = apps.iter().find(|(app, _)| *app == claim.app);
            homeless.contains(&key.namespace)
                || desired.is_some_and(|(_, desired)| !is_wanted(key, claim, desired))
        })
        // The pod of a set that is being made smaller has its claim until it is gone.
        .filter(|(_, claim)| claim.made_for.is_none() || !has_pod(work, claim))
        .map(|(key, _)| key)
        .collect();
    let now = work.now.wall;
    for key in going {
        work.note(format!("claim {key} is to go"));
        work.next.edit_claim(&key, |claim| claim.leaving = Some(now));
    }
}

/// Namespaces of claims that are in no app any more, as far as all are known.
fn homeless(work: &Work, apps: &[(AppName, Arc<Desired>)]) -> BTreeSet<Name> {
    if work.next.apps.keys().any(|app| !work.is_known(app)) {
        return BTreeSet::new();
    }
    let exists = |namespace: &Name| {
        let key = Key::cluster(Kind::Namespace, namespace);
        GIVEN_NAMESPACES.contains(&namespace.as_str())
            || apps.iter().any(|(_, desired)| desired.objects.contains_key(&key))
    };
    work.next.claims.keys().filter(|namespace| !exists(namespace)).cloned().collect()
}

/// Whether a wish still has a claim: it is written there, or its set is, or left it behind.
fn is_wanted(key: &RecordKey, claim: &ClaimRecord, desired: &Desired) -> bool {
    let Some(made_for) = &claim.made_for else {
        return desired.objects.contains_key(&claim_key(key));
    };
    match desired.objects.get(&made_for.owner).map(|owner| owner.body.own_claims()) {
        // The set is gone, or has become something without claims.
        None | Some(None) => !made_for.goes_with_owner,
        Some(Some(own)) => {
            !own.retention.deleted_when_scaled || own.ordinals.contains(&made_for.ordinal)
        }
    }
}

/// Whether the pod that a claim was made for is there.
fn has_pod(work: &Work, claim: &ClaimRecord) -> bool {
    let Some(made_for) = &claim.made_for else {
        return false;
    };
    let mut pods = work.pods.values();
    pods.any(|pod| {
        pod.binding.template.owner == made_for.owner && pod.binding.index == Some(made_for.ordinal)
    })
}

/// The claims that pods with a node use.
fn used(work: &Work) -> BTreeSet<RecordKey> {
    let placed = work.pods.values().filter(|pod| pod.node.is_some());
    placed
        .filter_map(|pod| Some((&pod.binding.key.namespace, pod.template.as_ref()?)))
        .flat_map(|(namespace, template)| {
            claims_of(&template.spec).map(move |claim| RecordKey::new(namespace, claim))
        })
        .collect()
}

/// Whether it is known what every pod runs: until then, any of them may use any claim.
fn are_pods_known(work: &Work, namespace: &Name) -> bool {
    let mut pods = work.pods.values().filter(|pod| pod.binding.key.namespace == *namespace);
    pods.all(|pod| pod.template.is_some())
}

fn forget_unused(work: &mut Work) {
    let leaving: Vec<RecordKey> = work
        .next
        .all_claims()
        .filter(|(_, claim)| claim.leaving.is_some())
        .map(|(key, _)| key)
        .collect();
    if leaving.is_empty() {
        return;
    }
    let used = used(work);
    for key in leaving {
        if used.contains(&key) || !are_pods_known(work, &key.namespace) {
            continue;
        }
        work.note(format!("claim {key} is gone"));
        remove(work, &key);
    }
}

fn remove(work: &mut Work, key: &RecordKey) {
    if let Some(claims) = work.next.claims.get_mut(&key.namespace) {
        Arc::make_mut(claims).remove(&key.name);
        if claims.is_empty() {
            work.next.claims.remove(&key.namespace);
        }
    }
}

/// The claims with data that would go, and volumes of the repository with a claim's data in them, if
/// this came into force for an app. What comes and goes with its pod is nobody's loss.
pub(in crate::plan) fn would_lose(state: &State, app: &AppName, desired: &Desired) -> Vec<Key> {
    let own = state.apps.get(app);
    let loses_home = |namespace: &Name| {
        let key = Key::cluster(Kind::Namespace, namespace);
        let has = own.is_some_and(|own| own.entry(&key).is_some());
        has && !desired.objects.contains_key(&key)
            && !GIVEN_NAMESPACES.contains(&namespace.as_str())
    };
    let claims = state.all_claims().filter(|(key, claim)| {
        let has_data = claim.volume.is_some() && claim.leaving.is_none();
        let outlives = claim.made_for.as_ref().is_none_or(|made| made.pod.is_none());
        let is_left = claim.app == *app && !is_wanted(key, claim, desired);
        has_data && outlives && (is_left || loses_home(&key.namespace))
    });
    let mut lost: Vec<Key> = claims.map(|(key, _)| claim_key(&key)).collect();
    let shard = LedgerShard { kind: Kind::PersistentVolume, namespace: None };
    let written = state.apps.get(app).and_then(|app| app.ledger.get(&shard));
    for name in written.iter().flat_map(|volumes| volumes.keys()) {
        let key = Key::cluster(Kind::PersistentVolume, name);
        let has_data = state.volumes.get(name).is_some_and(|volume| !volume.is_released);
        if has_data && !desired.objects.contains_key(&key) {
            lost.push(key);
        }
    }
    lost
}

/// Sees to it that the data of these claims is kept, whatever their class says.
pub(in crate::plan) fn keep_data(work: &mut Work, lost: &[Key]) {
    for key in lost {
        let Some(namespace) = &key.namespace else {
            continue;
        };
        let volume = work.next.claim(namespace, &key.name).and_then(|claim| claim.volume.clone());
        let Some(name) = volume else {
            continue;
        };
        let made = work.next.volumes.get(&name).and_then(|volume| volume.made.as_ref());
        if made.is_some_and(|made| made.reclaim == Reclaim::Delete) {
            work.note(format!("volume {name} is kept: no commit says that its data may go"));
            let volumes = Arc::make_mut(&mut work.next.volumes);
            if let Some(made) = volumes.get_mut(&name).and_then(|volume| volume.made.as_mut()) {
                made.reclaim = Reclaim::Retain;
            }
        }
    }
}
