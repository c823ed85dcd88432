//! ResourceQuotas: what a namespace's manifests may ask for in all.
//!
//! A landlord's ceiling on a flat's electricity: what counts is the sum of what the plates on the
//! appliances say, not what the meter shows this minute. So what is counted is what a commit **writes
//! down**: each workload at its replicas, each object once. A commit whose sum is above `hard` is
//! refused where it goes beyond, in the order of files and lines; where Kubernetes would take the
//! Deployment and refuse its pods.
//!
//! What LimitRanges give counts as if it were written ([`Filled`]).
//!
//! The limits follow from that. Pods above `replicas` for the time of a roll-out (`maxSurge`) are let
//! through: held back they would hold up the roll-out for ever. A DaemonSet counts as one pod, and a
//! warning says so: how many machines there are is no commit's matter. A Job counts with the pods that it
//! runs at once, as long as it stands in Git; a CronJob with those of one run. Of apps that are taken
//! at different commits each is judged with what its own commit has of the others.
//!
//! <https://kubernetes.io/docs/concepts/policy/resource-quotas/>

use std::collections::BTreeMap;

use super::limits::Filled;
use crate::kinds::finding::Finding;
use crate::kinds::job::Job;
use crate::kinds::name::Name;
use crate::kinds::object::{Body, Object};
use crate::kinds::pod::{PodSpec, ResourceList};
use crate::kinds::quantity::Quantity;
use crate::kinds::quota::{Ceiling, Measure, Quota, Scope};
use crate::kinds::registry::Kind;
use crate::kinds::service::Reach;
use crate::kinds::storage::{ClaimSpec, ClassChoice};

/// What a quota says of a resource that every container must then say of itself, too.
const SAID_BY_ALL: [&str; 2] = ["cpu", "memory"];

/// A quota, and where it is written.
struct Judged<'o> {
    object: &'o Object,
    quota: &'o Quota,
}

impl<'o> Judged<'o> {
    fn of(object: &'o Object) -> Option<Self> {
        let Body::Quota(quota) = &object.body else { return None };
        Some(Self { object, quota })
    }
}

/// Judges namespaces' quotas by all that a commit has.
pub(super) fn check(objects: &[&Object], filled: &Filled<'_>, found: &mut Vec<Finding>) {
    let quotas: Vec<Judged<'_>> = objects.iter().filter_map(|object| Judged::of(object)).collect();
    for judged in &quotas {
        let Judged { object: of, quota } = judged;
        let own = objects.iter().filter(|own| own.key.namespace == of.key.namespace);
        let mut own: Vec<&Object> = own.copied().collect();
        own.sort_by(|one, other| one.place.cmp(&other.place));
        for object in &own {
            found.extend(unsaid(judged, object, filled));
        }
        for Ceiling { name, measure, hard } in &quota.hard {
            let mut used = Quantity::ZERO;
            for object in &own {
                let asked = amount(object, measure, &quota.scopes, filled);
                if asked.is_zero() {
                    continue;
                }
                if used + asked > *hard {
                    found.push(exceeded(of, object, name, [asked, used, *hard]));
                }
                used = used + asked;
            }
        }
    }
    tell_of_daemons(&quotas, objects, filled, found);
}

/// In Kubernetes' words: `exceeded quota: compute, requested: pods=3, used: pods=2, limited: pods=4`.
fn exceeded(quota: &Object, object: &Object, name: &str, of: [Quantity; 3]) -> Finding {
    let [asked, used, hard] = of;
    let (its, place) = (&quota.key.name, &quota.place);
    let message = format!(
        "exceeded quota: {its}, requested: {name}={asked}, used: {name}={used}, limited: \
         {name}={hard} ({place})"
    );
    Finding::error(object.place.clone(), message).of(&object.key)
}

/// The pods that a workload is to have, and how they are.
fn pods<'o>(object: &'o Object, filled: &'o Filled<'_>) -> Option<(u32, &'o PodSpec)> {
    let spec = filled.spec(object)?;
    let at_once = |job: &Job| {
        let completions = job.rules.completions.unwrap_or(u32::MAX);
        job.rules.parallelism.min(completions)
    };
    let count = match &object.body {
        Body::Deployment(spec) => spec.replicas,
        Body::ReplicaSet(spec) => spec.replicas,
        Body::StatefulSet(spec) => spec.replicas,
        Body::Job(job) => at_once(job),
        Body::CronJob(cron) => at_once(&cron.job),
        _ => 1,
    };
    Some((count, spec))
}

fn counted<'o>(
    object: &'o Object,
    scopes: &[Scope],
    filled: &'o Filled<'_>,
) -> Option<(u32, &'o PodSpec)> {
    pods(object, filled).filter(|(_, spec)| scopes.iter().all(|scope| scope.has(spec)))
}

/// How much of something an object asks for.
fn amount(object: &Object, measure: &Measure, scopes: &[Scope], filled: &Filled<'_>) -> Quantity {
    let number = |count: u32| Quantity::units(i64::from(count));
    let of_pods = |of: fn(&PodSpec) -> ResourceList, name: &str| {
        let Some((count, spec)) = counted(object, scopes, filled) else { return Quantity::ZERO };
        of(spec).get(name).map_or(Quantity::ZERO, |each| each.times(count))
    };
    match measure {
        Measure::Pods => {
            counted(object, scopes, filled).map_or(Quantity::ZERO, |(count, _)| number(count))
        }
        Measure::Requests(name) => of_pods(PodSpec::requests, name),
        Measure::Limits(name) => of_pods(PodSpec::limits, name),
        Measure::Objects(kind) => number(u32::from(object.key.kind == *kind)),
        Measure::Claims(class) => {
            let all = claims(object, class.as_deref());
            number(all.iter().map(|(count, _)| *count).fold(0, u32::saturating_add))
        }
        Measure::Storage(class) => {
            let all = claims(object, class.as_deref()).into_iter();
            all.fold(Quantity::ZERO, |sum, (count, claim)| sum + claim.request.times(count))
        }
        Measure::NodePorts | Measure::LoadBalancers => {
            let Body::Service(service) = &object.body else { return Quantity::ZERO };
            let is_balanced = service.reach == Reach::LoadBalancer;
            let has_ports =
                service.reach == Reach::NodePort || (is_balanced && service.allocates_node_ports);
            let ports = u32::try_from(service.ports.len()).unwrap_or(u32::MAX);
            match measure {
                Measure::NodePorts => number(if has_ports { ports } else { 0 }),
                _ => number(u32::from(is_balanced)),
            }
        }
    }
}

/// The claims that an object is or makes, and how many of each.
fn claims<'o>(object: &'o Object, class: Option<&str>) -> Vec<(u32, &'o ClaimSpec)> {
    let all: Vec<(u32, &ClaimSpec)> = match &object.body {
        Body::Claim(claim) => vec![(1, &**claim)],
        Body::StatefulSet(set) => {
            set.claims.iter().map(|claim| (set.replicas, &claim.spec)).collect()
        }
        _ => Vec::new(),
    };
    let is_of = |claim: &ClaimSpec| match (&claim.class, class) {
        (_, None) => true,
        (ClassChoice::Named(name), Some(class)) => *name == *class,
        _ => false,
    };
    all.into_iter().filter(|(_, claim)| is_of(claim)).collect()
}

/// Where a quota has a ceiling for CPU or memory, every container must say how much of it is its own.
fn unsaid(judged: &Judged<'_>, object: &Object, filled: &Filled<'_>) -> Option<Finding> {
    let (_, spec) = counted(object, &judged.quota.scopes, filled)?;
    let mut missing: Vec<String> = Vec::new();
    for Ceiling { name, measure, .. } in &judged.quota.hard {
        let says = |container: &crate::kinds::container::Container| match measure {
            Measure::Requests(what) if SAID_BY_ALL.contains(&what.as_str()) => {
                let resources = &container.resources;
                resources.requests.contains_key(what) || resources.limits.contains_key(what)
            }
            Measure::Limits(what) if SAID_BY_ALL.contains(&what.as_str()) => {
                container.resources.limits.contains_key(what)
            }
            _ => true,
        };
        let silent = spec.all_containers().filter(|container| !says(container));
        let silent: Vec<&Name> = silent.map(|container| &container.name).collect();
        if !silent.is_empty() {
            let names: Vec<&str> = silent.into_iter().map(Name::as_str).collect();
            missing.push(format!("{name} for: {}", names.join(",")));
        }
    }
    let its = &judged.object.key.name;
    let message = format!("failed quota: {its}: must specify {}", missing.join("; "));
    (!missing.is_empty()).then(|| Finding::error(object.place.clone(), message).of(&object.key))
}

fn tell_of_daemons(
    quotas: &[Judged<'_>],
    objects: &[&Object],
    filled: &Filled<'_>,
    found: &mut Vec<Finding>,
) {
    for object in objects.iter().filter(|object| object.key.kind == Kind::DaemonSet) {
        let is_counted = |judged: &&Judged<'_>| {
            judged.object.key.namespace == object.key.namespace
                && judged.quota.hard.iter().any(|ceiling| ceiling.measure.is_of_pods())
                && counted(object, &judged.quota.scopes, filled).is_some()
        };
        if let Some(judged) = quotas.iter().find(is_counted) {
            let message =
                format!("counts as one pod for {}, not as one on each node", judged.object.key);
            found.push(Finding::warning(object.place.clone(), message).of(&object.key));
        }
    }
}

/// How much of each resource that a quota names is asked for by these objects.
pub fn used(quota: &Object, objects: &[&Object]) -> BTreeMap<String, Quantity> {
    let Some(Judged { object, quota }) = Judged::of(quota) else { return BTreeMap::new() };
    let own = objects.iter().filter(|own| own.key.namespace == object.key.namespace);
    let own: Vec<&Object> = own.copied().collect();
    let filled = Filled::of(&own);
    let sum = |measure: &Measure| {
        own.iter().map(|own| amount(own, measure, &quota.scopes, &filled)).sum()
    };
    quota.hard.iter().map(|ceiling| (ceiling.name.clone(), sum(&ceiling.measure))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::Desired;
    use crate::kinds::binding::Oid;
    use crate::ports::source::{FileContent, FileEntry, FileKind};

    /// What the files of a commit come to, each under its number.
    fn read_all(texts: &[String]) -> (Desired, Vec<String>) {
        let content = |(at, text): (usize, &String)| FileContent {
            path: format!("{at}.yaml").into(),
            blob: Oid::new(""),
            bytes: text.as_bytes().into(),
        };
        let contents: Vec<FileContent> = texts.iter().enumerate().map(content).collect();
        let entry = |content: &FileContent| FileEntry {
            path: content.path.clone(),
            blob: content.blob.clone(),
            kind: FileKind::File,
            bytes: 1,
        };
        let listing: Vec<FileEntry> = contents.iter().map(entry).collect();
        let parse = |file: &FileContent| {
            (file.path.clone(), std::sync::Arc::new(crate::desired::parse(file)))
        };
        let files = contents.iter().map(parse).collect();
        let (desired, findings) = crate::desired::assemble(&listing, &files);
        (desired, findings.iter().map(ToString::to_string).collect())
    }

    fn quota(spec: &str) -> String {
        format!(
            "apiVersion: v1\nkind: Namespace\nmetadata: {{name: shop}}\n---\napiVersion: v1\nkind: \
             ResourceQuota\nmetadata: {{name: q, namespace: shop}}\nspec: {spec}\n"
        )
    }

    fn workload(kind: &str, name: &str, fields: &str, resources: &str) -> String {
        let group = if kind == "Job" { "batch/v1" } else { "apps/v1" };
        let selector = match kind {
            "Job" => String::new(),
            _ => format!("selector: {{matchLabels: {{a: {name}}}}}, "),
        };
        let (service, restart) = match kind {
            "StatefulSet" => (format!("serviceName: {name}, "), ""),
            "Job" => (String::new(), "restartPolicy: Never, "),
            _ => (String::new(), ""),
        };
        format!(
            "apiVersion: {group}\nkind: {kind}\nmetadata: {{name: {name}, namespace: shop}}\nspec: \
             {{{selector}{service}{fields}template: {{metadata: {{labels: {{a: {name}}}}}, spec: \
             {{{restart}containers: [{{name: m, image: x, resources: {resources}}}]}}}}}}\n"
        )
    }

    const SMALL: &str = "{requests: {cpu: 500m, memory: 64Mi}, limits: {memory: 128Mi}}";

    #[test]
    fn what_is_written_down_is_held_against_what_is_allowed() {
        let web = |replicas: u32| {
            workload("Deployment", "web", &format!("replicas: {replicas}, "), SMALL)
        };
        let silent = workload("Deployment", "web", "replicas: 1, ", "{}");
        let set = workload(
            "StatefulSet",
            "db",
            "replicas: 3, volumeClaimTemplates: [{metadata: {name: d}, spec: {accessModes: \
             [ReadWriteOnce], storageClassName: fast, resources: {requests: {storage: 1Gi}}}}], ",
            SMALL,
        );
        let job = workload("Job", "job", "parallelism: 5, completions: 2, ", SMALL);
        let config = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: c, namespace: shop}\n";
        let ports = "apiVersion: v1\nkind: Service\nmetadata: {name: s, namespace: shop}\nspec: \
                     {type: NodePort, ports: [{name: a, port: 1}, {name: b, port: 2}]}\n";
        for (hard, objects, expected) in [
            ("{hard: {pods: 3}}", vec![web(3)], ""),
            (
                "{hard: {pods: 3}}",
                vec![web(4)],
                "requested: pods=4, used: pods=0, limited: pods=3 (0.yaml:5:1)",
            ),
            (
                "{hard: {pods: 4}}",
                vec![web(2), set.clone()],
                "StatefulSet shop/db: exceeded quota: q, requested: pods=3, used: pods=2, limited: pods=4",
            ),
            ("{hard: {pods: 2}}", vec![job.clone()], ""),
            ("{hard: {count/pods: '1'}}", vec![job], "requested: count/pods=2"),
            ("{hard: {requests.cpu: '1'}}", vec![web(2)], ""),
            (
                "{hard: {cpu: '1'}}",
                vec![web(3)],
                "requested: cpu=1500m, used: cpu=0, limited: cpu=1",
            ),
            ("{hard: {limits.memory: 256Mi}}", vec![web(3)], "requested: limits.memory=384Mi"),
            (
                "{hard: {limits.cpu: '9'}}",
                vec![web(1)],
                "failed quota: q: must specify limits.cpu for: m",
            ),
            ("{hard: {memory: 1Gi}}", vec![silent.clone()], "must specify memory for: m"),
            (
                "{hard: {pods: 1}, scopes: [BestEffort]}",
                vec![web(4), silent.clone().replace("web", "x")],
                "",
            ),
            ("{hard: {pods: 0}, scopes: [BestEffort]}", vec![silent], "requested: pods=1"),
            ("{hard: {configmaps: 0}}", vec![config.to_owned()], "requested: configmaps=1"),
            ("{hard: {count/configmaps: 1}}", vec![config.to_owned()], ""),
            (
                "{hard: {count/deployments.apps: 0}}",
                vec![web(0)],
                "requested: count/deployments.apps=1",
            ),
            (
                "{hard: {services.nodeports: 1}}",
                vec![ports.to_owned()],
                "requested: services.nodeports=2",
            ),
            (
                "{hard: {requests.storage: 2Gi}}",
                vec![set.clone()],
                "requested: requests.storage=3Gi",
            ),
            (
                "{hard: {persistentvolumeclaims: 2}}",
                vec![set.clone()],
                "requested: persistentvolumeclaims=3",
            ),
            (
                "{hard: {fast.storageclass.storage.k8s.io/requests.storage: 1Gi}}",
                vec![set.clone()],
                "requests.storage=3Gi",
            ),
            ("{hard: {slow.storageclass.storage.k8s.io/requests.storage: 1Gi}}", vec![set], ""),
            ("{hard: {apples: 1}}", vec![], "is not something that is counted"),
            ("{hard: {configmaps: 1}, scopes: [Terminating]}", vec![], "is not of pods"),
            (
                "{hard: {pods: 1}, scopes: [PriorityClass]}",
                vec![],
                "PriorityClass\" is not judged yet",
            ),
            (
                "{hard: {pods: 9}}",
                vec![workload("DaemonSet", "d", "", SMALL)],
                "warning: DaemonSet shop/d: counts as one pod",
            ),
        ] {
            let mut texts = vec![quota(hard)];
            texts.extend(objects);
            let (_, mut said) = read_all(&texts);
            said.retain(|said| !said.contains("there is no"));
            match expected {
                "" => assert_eq!(said, Vec::<String>::new(), "{hard}"),
                words => assert!(said.len() == 1 && said[0].contains(words), "{hard}: {said:?}"),
            }
        }
    }

    #[test]
    fn what_limit_ranges_give_counts_as_if_it_were_written() {
        let silent = workload("Deployment", "web", "replicas: 2, ", "{}");
        let quota = quota("{hard: {limits.memory: 1Gi, requests.memory: 1Gi}}");
        let range = |memory: &str| {
            format!(
                "apiVersion: v1\nkind: LimitRange\nmetadata: {{name: usual, namespace: shop}}\nspec: \
                 {{limits: [{{type: Container, default: {{memory: {memory}}}, defaultRequest: \
                 {{memory: 1Mi}}}}]}}\n"
            )
        };
        let said = |texts: &[String]| read_all(texts).1;
        assert!(
            said(&[quota.clone(), silent.clone()])[0].contains("must specify limits.memory for")
        );
        let (desired, none) = read_all(&[quota.clone(), silent.clone(), range("512Mi")]);
        assert_eq!(none, Vec::<String>::new());
        let all: Vec<&Object> = desired.objects.values().map(|object| &**object).collect();
        let quotas = all.iter().find(|object| object.key.kind == Kind::ResourceQuota);
        let used = used(quotas.expect("one"), &all);
        let used: Vec<String> = used.iter().map(|(name, used)| format!("{name}={used}")).collect();
        assert_eq!(used, ["limits.memory=1Gi", "requests.memory=2Mi"]);
        let above = said(&[quota, silent, range("600Mi")]);
        assert!(
            above[0].contains("exceeded quota: q, requested: limits.memory=1200Mi"),
            "{above:?}"
        );
    }

    #[test]
    fn another_namespace_is_another_quota_and_what_is_used_is_told() {
        let other = workload("Deployment", "web", "replicas: 9, ", SMALL).replace("shop", "other");
        let space = "apiVersion: v1\nkind: Namespace\nmetadata: {name: other}\n".to_owned();
        let own = workload("Deployment", "web", "replicas: 2, ", SMALL);
        let quota = quota("{hard: {pods: 2, limits.memory: 1Gi, requests.cpu: '4'}}");
        let (desired, said) = read_all(&[quota, other, space, own]);
        assert_eq!(said, Vec::<String>::new());
        let all: Vec<&Object> = desired.objects.values().map(|object| &**object).collect();
        let quota = all.iter().find(|object| object.key.kind == Kind::ResourceQuota).expect("one");
        let used: Vec<String> =
            used(quota, &all).iter().map(|(name, used)| format!("{name}={used}")).collect();
        assert_eq!(used, ["limits.memory=256Mi", "pods=2", "requests.cpu=1"]);
    }
}
