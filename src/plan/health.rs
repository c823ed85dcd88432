//! How the objects of an app are, by the rules of kstatus, which Flux and `kubectl wait` users know:
//! arrived, on their way, or failed.
//!
//! A harbour master's list: for each ship, whether she is moored, under way or aground. What has no
//! way to go (a ConfigMap, a Service) is moored as soon as it is listed. One function per kind; a kind
//! without one counts as arrived. So does a claim that nobody uses and whose class waits for a pod:
//! kstatus would wait with it for ever.
//!
//! The limit: it looks at the revision in force and at what runs; whether the program does what its
//! users want only its readiness probe can tell.
//! <https://github.com/kubernetes-sigs/cli-utils/blob/master/pkg/kstatus/README.md>

use crate::desired::{Desired, MEANING_VERSION};
use crate::kinds::binding::AppName;
use crate::kinds::name::{Name, NodeName, PodKey};
use crate::kinds::object::{Body, Key, Object};
use crate::kinds::pod::PodTemplate;
use crate::kinds::registry::Kind;
use crate::kinds::status::Phase;
use crate::kinds::workload::{
    DaemonSet, DaemonUpdate, Deployment, ReplicaSet, SetUpdate, StatefulSet,
};
use crate::state::RecordKey;

use super::pods::{Pod, Tally};
use super::work::Work;
use super::{canary, daemonset, deployment, storage};

/// How something is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Health {
    /// As the revision in force wants it.
    Current,
    /// On its way.
    InProgress(String),
    /// It will not come to be by itself.
    Failed(String),
}

/// How an app is: as its worst object, and not there before its last wave is.
pub(super) fn of_app(work: &mut Work, app: &AppName) -> Health {
    let in_waves = work.revisions.get(app).and_then(|revision| revision.waves.clone());
    let head = work.next.apps.get(app).map(|state| &state.head);
    let canary = head.and_then(|head| head.canary_now()).map(ToString::to_string);
    match (of_commit(work, app), in_waves, canary) {
        (Health::Current, _, Some(canary)) => Health::InProgress(canary),
        (Health::Current, Some(in_waves), _) => Health::InProgress(in_waves.waves.to_string()),
        (health, ..) => health,
    }
}

/// How that is which is in force of an app's newest revision; waves that have not come don't count.
pub(super) fn of_commit(work: &mut Work, app: &AppName) -> Health {
    let Some(revision) = work.revisions.get(app).cloned() else {
        return Health::InProgress("its revision in force has not been read".to_owned());
    };
    let mut worst = Health::Current;
    let objects = revision.desired.objects.values();
    for object in objects.filter(|object| *revision.commit_of(&object.key) == revision.commit.id) {
        let health = of(work, app, object);
        if health > worst {
            worst = health;
        }
    }
    worst
}

/// How an object is; where a part of its pods goes ahead, how that part is.
pub(super) fn of(work: &mut Work, app: &AppName, object: &Object) -> Health {
    let health = match &object.body {
        Body::Deployment(spec) => of_deployment(work, app, object, spec),
        Body::ReplicaSet(spec) => of_set(work, object, spec),
        Body::StatefulSet(spec) => of_stateful_set(work, app, object, spec),
        Body::DaemonSet(spec) => of_daemon_set(work, app, object, spec),
        Body::Job(_) => of_job(work, app, &object.key),
        Body::Pod(_) => of_pod(work, &object.key),
        Body::Claim(_) => of_claim(work, &object.key),
        _ => Health::Current,
    };
    match health {
        Health::Current => Health::Current,
        Health::InProgress(why) => Health::InProgress(format!("{}: {why}", object.key)),
        Health::Failed(why) => Health::Failed(format!("{}: {why}", object.key)),
    }
}

/// The newest ReplicaSet has all its pods, all available, and no other has any.
fn of_deployment(work: &mut Work, app: &AppName, object: &Object, spec: &Deployment) -> Health {
    let (current, old) = deployment::sort_sets(work, app, object, spec);
    let Some(current) = current else {
        return Health::InProgress("its ReplicaSet is not made yet".to_owned());
    };
    if let Some(why) = missed_deadline(work, app, &object.key, &current) {
        return Health::Failed(why);
    }
    let tally = deployment::tally(work, &current, spec.min_ready_s);
    if let Some(part) = canary::part(work, app, &object.key) {
        return replicas(tally, part.pods);
    }
    let old: u32 = old.iter().map(|key| deployment::tally(work, key, 0).active).sum();
    match replicas(tally, spec.replicas) {
        Health::Current if old > 0 => {
            Health::InProgress(format!("{old} pods of earlier revisions are left"))
        }
        health => health,
    }
}

/// What the Deployment's record says of a roll-out to its current set that stands still.
fn missed_deadline(work: &Work, app: &AppName, key: &Key, current: &RecordKey) -> Option<String> {
    let own = RecordKey::new(key.namespace.as_ref()?, &key.name);
    let progressing = &work.next.apps.get(app)?.deployments.get(&own)?.progressing;
    let is_its = progressing.message.contains(&format!("\"{}\"", current.name));
    let is_late = progressing.reason == "ProgressDeadlineExceeded" && is_its;
    is_late.then(|| progressing.message.trim_end_matches('.').to_owned())
}

/// It has come to a good end, as Flux asks of a Job; one that is suspended waits for nobody.
fn of_job(work: &Work, app: &AppName, key: &Key) -> Health {
    let own = key.namespace.as_ref().map(|namespace| RecordKey::new(namespace, &key.name));
    let state = work.next.apps.get(app);
    let record = own.and_then(|own| state?.jobs.get(&own));
    let Some(run) = record.and_then(|record| record.run.as_ref()) else {
        return Health::InProgress("it has not begun".to_owned());
    };
    let is = |kind: &str| run.conditions.iter().any(|one| one.kind == kind && one.status);
    match (is("Complete"), is("Failed"), is("Suspended")) {
        (true, ..) | (_, _, true) => Health::Current,
        (_, true, _) => Health::Failed("it has failed".to_owned()),
        _ => Health::InProgress("it has not come to its end".to_owned()),
    }
}

/// All its pods are available, and those above the partition run the newest template.
fn of_stateful_set(work: &mut Work, app: &AppName, object: &Object, spec: &StatefulSet) -> Health {
    if let Some(part) = canary::part(work, app, &object.key) {
        let wanted = (part.pods, spec.min_ready_s);
        return of_pods_ahead(work, &object.key, wanted, &spec.template);
    }
    let first = match spec.update {
        SetUpdate::OnDelete => None,
        SetUpdate::RollingUpdate { partition, .. } => Some(spec.start.saturating_add(partition)),
    };
    let is_asked = |pod: &Pod| first.is_some_and(|first| pod.binding.index >= Some(first));
    of_pods(work, &object.key, (spec.replicas, spec.min_ready_s), &spec.template, is_asked)
}

/// It has an available pod of the newest template on every node that it is for.
fn of_daemon_set(work: &mut Work, app: &AppName, object: &Object, spec: &DaemonSet) -> Health {
    let revisions: Vec<_> = work.revisions.values().cloned().collect();
    let desired: Vec<&Desired> = revisions.iter().map(|revision| &*revision.desired).collect();
    let (nodes, given) = (&work.input.nodes, &work.next.nodes);
    let wanted = daemonset::wanted_nodes(nodes, given, &desired, &spec.template.spec);
    if let Some(part) = canary::part(work, app, &object.key) {
        let picked = canary::nodes(work, app);
        let picks = |node: &&NodeName| picked.as_ref().is_none_or(|picked| picked.contains(*node));
        let there = u32::try_from(wanted.iter().filter(picks).count()).unwrap_or(u32::MAX);
        let wanted = (part.pods.min(there), spec.min_ready_s);
        return of_pods_ahead(work, &object.key, wanted, &spec.template);
    }
    let wanted = u32::try_from(wanted.len()).unwrap_or(u32::MAX);
    let is_asked = |_: &Pod| !matches!(spec.update, DaemonUpdate::OnDelete);
    of_pods(work, &object.key, (wanted, spec.min_ready_s), &spec.template, is_asked)
}

/// An owner has so many pods of its newest template, all available.
fn of_pods_ahead(
    work: &mut Work,
    owner: &Key,
    (wanted, min_ready_s): (u32, u32),
    template: &PodTemplate,
) -> Health {
    let active = work.pods_of(owner).into_iter().filter(|pod| pod.is_active());
    let new: Vec<(PodKey, bool)> = active
        .filter(|pod| work.still_means(&pod.binding.template, template) == Some(true))
        .map(readiness)
        .collect();
    replicas(tally(work, &new, min_ready_s), wanted)
}

/// An owner has so many pods, all available, and those that are asked to be run its template.
fn of_pods(
    work: &mut Work,
    owner: &Key,
    (wanted, min_ready_s): (u32, u32),
    template: &PodTemplate,
    is_asked: impl Fn(&Pod) -> bool,
) -> Health {
    let is_old = |pod: &Pod| {
        let reference = &pod.binding.template;
        reference.meaning_version == MEANING_VERSION && reference.meaning != template.meaning
    };
    let active: Vec<&Pod> = work.pods_of(owner).into_iter().filter(|pod| pod.is_active()).collect();
    let old = active.iter().filter(|pod| is_old(pod) && is_asked(pod)).count();
    let pods: Vec<_> = active.into_iter().map(readiness).collect();
    match replicas(tally(work, &pods, min_ready_s), wanted) {
        Health::Current if old > 0 => {
            Health::InProgress(format!("{old} pods of an earlier revision are left"))
        }
        health => health,
    }
}

fn of_set(work: &mut Work, object: &Object, spec: &ReplicaSet) -> Health {
    let Some(namespace) = &object.key.namespace else {
        return Health::Current;
    };
    // A ReplicationController owns its pods by its own key.
    let pods = work.pods_of(&object.key).into_iter().filter(|pod| pod.is_active());
    let pods = pods.filter(|pod| pod.binding.key.namespace == *namespace);
    let pods: Vec<_> = pods.map(readiness).collect();
    replicas(tally(work, &pods, spec.min_ready_s), spec.replicas)
}

fn readiness(pod: &Pod) -> (PodKey, bool) {
    (pod.binding.key.clone(), pod.is_ready())
}

fn tally(work: &mut Work, pods: &[(PodKey, bool)], min_ready_s: u32) -> Tally {
    let mut tally = Tally::default();
    for (key, is_ready) in pods {
        tally.count(*is_ready, work.is_available(key, min_ready_s));
    }
    tally
}

fn replicas(tally: Tally, wanted: u32) -> Health {
    if tally.active == wanted && tally.available >= wanted {
        return Health::Current;
    }
    Health::InProgress(format!("{} of {wanted} pods are available", tally.available))
}

/// It has its volume, or will get it with its first pod.
fn of_claim(work: &Work, key: &Key) -> Health {
    let own = key.namespace.as_ref().and_then(|space| work.next.claim(space, &key.name));
    let Some(claim) = own else {
        return Health::InProgress("it is not made yet".to_owned());
    };
    if claim.volume.is_some() || storage::waits_for_pod(work, key, claim) {
        return Health::Current;
    }
    let why = claim.message.as_deref().unwrap_or("it has no volume");
    Health::InProgress(why.to_owned())
}

fn of_pod(work: &Work, key: &Key) -> Health {
    let namespace = key.namespace.clone().unwrap_or_else(|| Name::trusted(""));
    let pod = work.pods.get(&PodKey { namespace, name: key.name.clone() });
    let Some(pod) = pod.filter(|pod| pod.binding.template.owner.kind == Kind::Pod) else {
        return Health::InProgress("it is not made yet".to_owned());
    };
    match pod.phase() {
        Phase::Succeeded => Health::Current,
        Phase::Failed => Health::Failed("it has failed".to_owned()),
        _ if pod.is_ready() => Health::Current,
        _ => Health::InProgress("it is not ready".to_owned()),
    }
}
