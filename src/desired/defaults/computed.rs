//! Defaults that depend on other fields.

use std::borrow::Cow;

use super::super::base64;
use super::super::shape::{SHAPES, Type};
use super::super::tree::{At, Entries as _, Entry, Node, Value};

/// Completes an object of one type after its fields were checked and its simple defaults filled.
pub(in super::super) type Finish = for<'a> fn(&mut Vec<Entry<'a>>, At);

/// What completes objects of type `definition`.
pub(in super::super) fn finish(definition: &str) -> Option<Finish> {
    Some(match definition {
        "core.v1.PodSpec" => pod_spec,
        "core.v1.Container" => container,
        "core.v1.Volume" => volume,
        "core.v1.LimitRangeItem" => limit,
        "core.v1.ServiceSpec" => service_spec,
        "core.v1.ServicePort" => service_port,
        "core.v1.Secret" => secret,
        "core.v1.ReplicationController" => replication_controller,
        "apps.v1.DeploymentStrategy" => strategy,
        "apps.v1.StatefulSetUpdateStrategy" => set_strategy,
        "apps.v1.DaemonSetUpdateStrategy" => daemon_strategy,
        "batch.v1.CronJobSpec" => cron_job_spec,
        "batch.v1.Job" => job,
        "batch.v1.JobSpec" => job_spec,
        _ => return None,
    })
}

fn text<'n>(entries: &'n [Entry<'_>], key: &str) -> Option<&'n str> {
    entries.iter().find(|entry| entry.key == key).and_then(|entry| entry.node.as_text())
}

fn flag(entries: &[Entry<'_>], key: &str) -> bool {
    entries.iter().any(|entry| entry.key == key && matches!(entry.node.value, Value::Bool(true, _)))
}

fn map<'a>(at: At, entries: Vec<Entry<'a>>) -> Node<'a> {
    Node::new(at, Value::Map(entries))
}

fn entry<'a>(at: At, key: &'static str, node: Node<'a>) -> Entry<'a> {
    Entry { key: Cow::Borrowed(key), at, node }
}

/// `serviceAccount` is the old name of `serviceAccountName`; the API shows both.
fn pod_spec(entries: &mut Vec<Entry<'_>>, at: At) {
    let (new, old) = ("serviceAccountName", "serviceAccount");
    let value = text(entries, new).or_else(|| text(entries, old));
    if let Some(value) = value.map(str::to_owned) {
        let at = entries
            .iter()
            .find(|entry| entry.key == new || entry.key == old)
            .map_or(at, |entry| entry.node.at);
        entries.put(at, new, Node::text(at, value.clone()));
        entries.put(at, old, Node::text(at, value));
    }
}

/// An image without a tag, or tagged `latest`, is asked for each time; any other, one pinned by
/// digest included, only if it is missing (`parsers.ParseImageName`).
fn container(entries: &mut Vec<Entry<'_>>, at: At) {
    if !entries.has("imagePullPolicy") {
        let image = text(entries, "image").unwrap_or_default();
        let policy = if is_latest(image) { "Always" } else { "IfNotPresent" };
        entries.put(at, "imagePullPolicy", Node::text(at, policy));
    }
}

fn is_latest(image: &str) -> bool {
    let (name, is_pinned) = match image.split_once('@') {
        Some((name, _)) => (name, true),
        None => (image, false),
    };
    let name = name.rsplit_once('/').map_or(name, |(_, name)| name);
    match name.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => !is_pinned,
    }
}

/// A volume that does not say what it is is an empty directory.
fn volume(entries: &mut Vec<Entry<'_>>, at: At) {
    if entries.iter().all(|entry| entry.key == "name") {
        entries.put(at, "emptyDir", map(at, Vec::new()));
    }
}

/// What is given to containers that don't say follows from what they may have
/// (`SetDefaults_LimitRangeItem`): the most as the limit, the limit and then the least as the request.
fn limit(entries: &mut Vec<Entry<'_>>, _at: At) {
    if text(entries, "type") != Some("Container") {
        return;
    }
    for (from, to) in [("max", "default"), ("default", "defaultRequest"), ("min", "defaultRequest")]
    {
        lay_in(entries, from, to);
    }
}

/// Gives a map what another has and it has not.
fn lay_in(entries: &mut Vec<Entry<'_>>, from: &str, to: &'static str) {
    let Some(Node { at, value: Value::Map(more), .. }) = entries.get_mut(from).cloned() else {
        return;
    };
    if !entries.has(to) {
        entries.put(at, to, map(at, Vec::new()));
    }
    if let Some(own) = entries.get_mut(to).and_then(Node::as_map_mut) {
        let missing: Vec<_> = more.into_iter().filter(|entry| !own.has(&entry.key)).collect();
        own.extend(missing);
    }
}

/// Three hours, `v1.DefaultClientIPServiceAffinitySeconds`.
const AFFINITY_SECONDS: i64 = 10_800;

fn service_spec(entries: &mut Vec<Entry<'_>>, at: At) {
    let kind = text(entries, "type").unwrap_or_default().to_owned();
    match text(entries, "sessionAffinity") {
        Some("ClientIP") => {
            let has_timeout = entries
                .iter()
                .find(|entry| entry.key == "sessionAffinityConfig")
                .and_then(|entry| entry.node.get("clientIP")?.get("timeoutSeconds"))
                .is_some();
            if !has_timeout {
                let timeout = entry(at, "timeoutSeconds", Node::int(at, AFFINITY_SECONDS));
                let client = entry(at, "clientIP", map(at, vec![timeout]));
                entries.put(at, "sessionAffinityConfig", map(at, vec![client]));
            }
        }
        Some("None") => entries.retain(|entry| entry.key != "sessionAffinityConfig"),
        _ => {}
    }
    let has_node_ports = kind == "NodePort" || kind == "LoadBalancer";
    if has_node_ports && !entries.has("externalTrafficPolicy") {
        entries.put(at, "externalTrafficPolicy", Node::text(at, "Cluster"));
    }
    if (has_node_ports || kind == "ClusterIP") && !entries.has("internalTrafficPolicy") {
        entries.put(at, "internalTrafficPolicy", Node::text(at, "Cluster"));
    }
    if kind == "LoadBalancer" && !entries.has("allocateLoadBalancerNodePorts") {
        entries.put(at, "allocateLoadBalancerNodePorts", Node::bool(at, true));
    }
}

fn service_port(entries: &mut Vec<Entry<'_>>, at: At) {
    let number = |key: &str| {
        let entry = entries.iter().find(|entry| entry.key == key)?;
        entry.node.as_int()
    };
    let is_unset = !entries.has("targetPort")
        || number("targetPort") == Some(0)
        || text(entries, "targetPort") == Some("");
    if let (true, Some(port @ 1..)) = (is_unset, number("port")) {
        entries.put(at, "targetPort", Node::int(at, port));
    }
}

/// `stringData` is only written, never shown: it becomes part of `data`, over what stands there.
fn secret(entries: &mut Vec<Entry<'_>>, _: At) {
    let Some(index) = entries.iter().position(|entry| entry.key == "stringData") else {
        return;
    };
    let plain = entries.remove(index);
    if !entries.has("data") {
        entries.put(plain.at, "data", map(plain.node.at, Vec::new()));
    }
    let Some(data) = entries.get_mut("data").and_then(Node::as_map_mut) else {
        return;
    };
    let Value::Map(plain) = plain.node.value else {
        return;
    };
    for entry in plain {
        let encoded = base64::encode(entry.node.as_text().unwrap_or_default().as_bytes());
        let node = Node::text(entry.node.at, encoded);
        match data.get_mut(&entry.key) {
            Some(old) => *old = node,
            None => data.push(Entry { node, ..entry }),
        }
    }
}

/// A ReplicationController without a selector takes its template's labels, one without labels too.
fn replication_controller(entries: &mut Vec<Entry<'_>>, at: At) {
    let Some(spec) = entries.get_mut("spec") else {
        return;
    };
    let labels = spec
        .get("template")
        .and_then(|template| template.get("metadata")?.get("labels"))
        .filter(|labels| !labels.is_empty())
        .cloned();
    let Some(labels) = labels else {
        return;
    };
    if let Some(spec) = spec.as_map_mut()
        && !spec.has("selector")
    {
        spec.put(at, "selector", labels.clone());
    }
    if let Some(metadata) = entries.get_mut("metadata").and_then(Node::as_map_mut)
        && !metadata.has("labels")
    {
        metadata.put(at, "labels", labels);
    }
}

/// A Job without labels takes its template's (`SetDefaults_Job`).
fn job(entries: &mut Vec<Entry<'_>>, at: At) {
    let spec = entries.iter().find(|entry| entry.key == "spec").map(|entry| &entry.node);
    let labels = spec
        .and_then(|spec| spec.get("template")?.get("metadata")?.get("labels"))
        .filter(|labels| !labels.is_empty())
        .cloned();
    if let (Some(labels), Some(metadata)) =
        (labels, entries.get_mut("metadata").and_then(Node::as_map_mut))
        && !metadata.has("labels")
    {
        metadata.put(at, "labels", labels);
    }
}

/// `SetDefaults_Job`: neither count means one pod; a limit for each index leaves the whole without one;
/// rules for failures need to see how a pod ended before it is replaced.
fn job_spec(entries: &mut Vec<Entry<'_>>, at: At) {
    if !entries.has("completions") && !entries.has("parallelism") {
        entries.put(at, "completions", Node::int(at, 1));
    }
    if !entries.has("parallelism") {
        entries.put(at, "parallelism", Node::int(at, 1));
    }
    if !entries.has("backoffLimit") {
        let is_per_index = entries.has("backoffLimitPerIndex");
        let limit = if is_per_index { i64::from(i32::MAX) } else { BACKOFF_LIMIT };
        entries.put(at, "backoffLimit", Node::int(at, limit));
    }
    if !entries.has("suspend") {
        entries.put(at, "suspend", Node::bool(at, false));
    }
    if !entries.has("podReplacementPolicy") {
        let has_rules = entries.has("podFailurePolicy");
        let policy = if has_rules { "Failed" } else { "TerminatingOrFailed" };
        entries.put(at, "podReplacementPolicy", Node::text(at, policy));
    }
}

fn cron_job_spec(entries: &mut Vec<Entry<'_>>, at: At) {
    if !entries.has("suspend") {
        entries.put(at, "suspend", Node::bool(at, false));
    }
}

/// How many pods of a Job may fail where it does not say.
const BACKOFF_LIMIT: i64 = 6;

fn strategy(entries: &mut Vec<Entry<'_>>, at: At) {
    if text(entries, "type") != Some("RollingUpdate") {
        return;
    }
    if !entries.has("rollingUpdate") {
        entries.put(at, "rollingUpdate", map(at, Vec::new()));
    }
    if let Some(rolling) = entries.get_mut("rollingUpdate").and_then(Node::as_map_mut) {
        for bound in ["maxSurge", "maxUnavailable"] {
            if !rolling.has(bound) {
                rolling.put(at, bound, Node::text(at, "25%"));
            }
        }
    }
}

/// `SetDefaults_StatefulSet`, its strategy.
fn set_strategy(entries: &mut Vec<Entry<'_>>, at: At) {
    rolling_update(entries, at, [("maxUnavailable", 1), ("partition", 0)]);
}

/// `SetDefaults_DaemonSet`, its strategy.
fn daemon_strategy(entries: &mut Vec<Entry<'_>>, at: At) {
    rolling_update(entries, at, [("maxSurge", 0), ("maxUnavailable", 1)]);
}

/// A `rollingUpdate` that nobody wrote; one that somebody did has its own defaults.
fn rolling_update(entries: &mut Vec<Entry<'_>>, at: At, bounds: [(&'static str, i64); 2]) {
    if text(entries, "type") == Some("RollingUpdate") && !entries.has("rollingUpdate") {
        let bounds = bounds.map(|(key, value)| entry(at, key, Node::int(at, value)));
        entries.put(at, "rollingUpdate", map(at, bounds.into()));
    }
}

/// What a Pod gets that a template does not (`SetDefaults_Pod`): the limits of its containers as
/// requests where there are none, links to Services, and on the node's network the ports of the
/// node.
pub(in super::super) fn pod(pod: &mut Node<'_>) {
    let Some(spec) = pod.get_mut("spec") else {
        return;
    };
    let at = spec.at;
    let Some(entries) = spec.as_map_mut() else {
        return;
    };
    if !entries.has("enableServiceLinks") {
        entries.put(at, "enableServiceLinks", Node::bool(at, true));
    }
    let host_network = flag(entries, "hostNetwork");
    for list in ["containers", "initContainers"] {
        let containers = entries.get_mut(list).and_then(Node::as_list_mut);
        for container in containers.into_iter().flatten() {
            let resources = container.get_mut("resources").and_then(Node::as_map_mut);
            if let Some(resources) = resources {
                lay_in(resources, "limits", "requests");
            }
            let ports = container.get_mut("ports").and_then(Node::as_list_mut);
            for port in ports.into_iter().flatten().filter(|_| host_network) {
                host_port(port);
            }
        }
    }
}

fn host_port(port: &mut Node<'_>) {
    let number = port.get("containerPort").and_then(Node::as_int);
    if let (Some(number), Some(entries)) = (number, port.as_map_mut())
        && let Some(at) = entries.first().map(|entry| entry.at)
        && !entries.has("hostPort")
    {
        entries.put(at, "hostPort", Node::int(at, number));
    }
}

/// Turns a checked `autoscaling/v1` autoscaler into the `autoscaling/v2` one that the API shows
/// (`Convert_v1_HorizontalPodAutoscaler_To_autoscaling_HorizontalPodAutoscaler`), and gives its
/// shape; one that is v2 already stays as it is.
pub(in super::super) fn autoscaler(root: &mut Node<'_>) -> Option<Type> {
    const NEW: &str = "autoscaling/v2";
    if root.get_text("apiVersion") == Some(NEW) {
        return None;
    }
    let at = root.at;
    root.as_map_mut()?.put(at, "apiVersion", Node::text(at, NEW));
    if let Some(spec) = root.get_mut("spec").and_then(Node::as_map_mut) {
        let old = "targetCPUUtilizationPercentage";
        if let Some(index) = spec.iter().position(|entry| entry.key == old) {
            let Entry { at, node, .. } = spec.remove(index);
            let target = map(
                at,
                vec![
                    entry(at, "averageUtilization", node),
                    entry(at, "type", Node::text(at, "Utilization")),
                ],
            );
            let resource = map(
                at,
                vec![entry(at, "name", Node::text(at, "cpu")), entry(at, "target", target)],
            );
            let metric = map(
                at,
                vec![
                    entry(at, "resource", resource),
                    entry(at, "type", Node::text(at, "Resource")),
                ],
            );
            spec.put(at, "metrics", Node::new(at, Value::List(vec![metric])));
        }
        if !spec.has("minReplicas") {
            spec.put(at, "minReplicas", Node::int(at, 1));
        }
    }
    SHAPES.root(NEW, "HorizontalPodAutoscaler")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_latest_without_a_tag() {
        let table = [
            ("nginx", true),
            ("nginx:latest", true),
            ("nginx:1.27", false),
            ("registry:5000/nginx", true),
            ("registry:5000/nginx:1.27", false),
            ("nginx@sha256:0123", false),
            ("nginx:1.27@sha256:0123", false),
            ("nginx:latest@sha256:0123", true),
        ];
        for (image, latest) in table {
            assert_eq!(is_latest(image), latest, "{image}");
        }
    }
}
