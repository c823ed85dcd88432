//! `/metrics`, as Prometheus reads it. What kubelet and kube-state-metrics already have a name for has
//! that name here, so that dashboards work; the rest begins with `windlass_`.
//!
//! Everything but the `windlass_` and `kubelet_` names is about the whole fleet and the same on every
//! node: scrape one node for it, or drop it from the others.

use std::fmt::Error;
use std::sync::Arc;

use hyper::StatusCode;
use hyper::header::HeaderValue;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;
use serde_json::Value;

use super::reply::{self, Answer, No};
use super::serve::Api;
use crate::kinds::quantity::Quantity;
use crate::kinds::registry::Kind;
use crate::kinds::time::Wall;
use crate::ports::runtime::{Role, RunState};
use crate::view::objects;
use crate::view::picture::{Picture, TURN_SECONDS};

const CONTENT_TYPE: HeaderValue =
    HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");

/// `/metrics`.
pub(super) async fn metrics(api: &Arc<Api>) -> Result<Answer, No> {
    let picture = api.picture();
    let drawn = tokio::task::spawn_blocking(move || text(picture)).await;
    let text = drawn.map_err(|_| No::defect())?.map_err(|_| No::defect())?;
    Ok(reply::bytes(StatusCode::OK, CONTENT_TYPE, text))
}

fn text(picture: Arc<Picture>) -> Result<String, Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Fleet(picture)));
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry)?;
    Ok(text)
}

/// The picture, as numbers.
#[derive(Debug)]
struct Fleet(Arc<Picture>);

type Labels<'l> = Vec<(&'static str, &'l str)>;

/// Numbers of one name.
struct Family<'l> {
    name: &'static str,
    help: &'static str,
    is_counter: bool,
    values: Vec<(Labels<'l>, f64)>,
}

const fn gauge<'l>(name: &'static str, help: &'static str) -> Family<'l> {
    Family { name, help, is_counter: false, values: Vec::new() }
}

/// The name is without its `_total`, which the text adds.
const fn counter<'l>(name: &'static str, help: &'static str) -> Family<'l> {
    Family { name, help, is_counter: true, values: Vec::new() }
}

impl<'l> Family<'l> {
    fn add(&mut self, labels: Labels<'l>, value: f64) {
        self.values.push((labels, value));
    }

    fn with(mut self, labels: Labels<'l>, value: f64) -> Self {
        self.add(labels, value);
        self
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
        if self.values.is_empty() {
            return Ok(());
        }
        let kind = if self.is_counter { MetricType::Counter } else { MetricType::Gauge };
        let mut metric = encoder.encode_descriptor(self.name, self.help, None, kind)?;
        for (labels, value) in &self.values {
            if labels.is_empty() {
                encode_one(&mut metric, self.is_counter, *value)?;
            } else {
                encode_one(&mut metric.encode_family(labels)?, self.is_counter, *value)?;
            }
        }
        Ok(())
    }
}

fn encode_one(
    metric: &mut prometheus_client::encoding::MetricEncoder<'_>,
    is_counter: bool,
    value: f64,
) -> Result<(), Error> {
    if is_counter {
        metric.encode_counter::<NoLabelSet, _, f64>(&value, None)
    } else {
        metric.encode_gauge(&value)
    }
}

impl Collector for Fleet {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), Error> {
        let picture = &*self.0;
        let mut all = own(picture);
        all.extend(kubelet(picture));
        for family in &all {
            family.encode(&mut encoder)?;
        }
        turns(picture, &mut encoder)?;
        let list = |kind| -> Vec<Value> {
            objects::list(picture, kind).into_iter().map(|shown| shown.json).collect()
        };
        let (pods, nodes) = (list(Kind::Pod), list(Kind::Node));
        let counted = COUNTED.map(|(kind, label, names)| (list(kind), label, names));
        let mut all = pod_families(&pods);
        for (objects, label, names) in &counted {
            all.extend(fields(objects, label, names));
        }
        let (jobs, cron_jobs) = (list(Kind::Job), list(Kind::CronJob));
        all.extend(job_families(&jobs));
        all.extend(cron_families(&cron_jobs));
        all.extend(node_families(&nodes));
        let (claims, volumes) = (list(Kind::PersistentVolumeClaim), list(Kind::PersistentVolume));
        all.extend(storage_families(&claims, &volumes));
        all.iter().try_for_each(|family| family.encode(&mut encoder))
    }
}

#[allow(clippy::cast_precision_loss)] // Counts far below 2^53.
fn real(count: u64) -> f64 {
    count as f64
}

fn truth(is_true: bool) -> f64 {
    f64::from(u8::from(is_true))
}

fn own(picture: &Picture) -> Vec<Family<'_>> {
    let health = &picture.health;
    let mut info = gauge("windlass_applied_commit_info", "The commit in force, by app");
    let mut age = gauge(
        "windlass_applied_commit_age_seconds",
        "How long the commit in force has been in force, by app",
    );
    let mut waiting = gauge(
        "windlass_waiting_commit_info",
        "A newer commit that is not in force, by app: refused or held",
    );
    for (app, state) in &picture.state.apps {
        if let Some(applied) = &state.head.applied {
            info.add(vec![("app", app.as_str()), ("commit", applied.revision.as_str())], 1.0);
            let since = picture.now.wall.since(applied.since);
            age.add(vec![("app", app.as_str())], since.as_secs_f64());
        }
        if let Some(newer) = &state.head.waiting {
            waiting.add(vec![("app", app.as_str()), ("commit", newer.revision.as_str())], 1.0);
        }
    }
    let faults = [
        ("source", &health.source_fault),
        ("load", &health.load_fault),
        ("store", &health.store_fault),
        ("runtime", &health.runtime_fault),
        ("network", &health.network_fault),
        ("disk", &health.disk_fault),
    ];
    let mut trouble = gauge("windlass_fault", "Whether a part of the agent is in trouble");
    for (part, fault) in faults {
        trouble.add(vec![("part", part)], truth(fault.is_some()));
    }
    let mut free = gauge("windlass_image_disk_free_bytes", "What is left of a disk with images");
    let mut size = gauge("windlass_image_disk_size_bytes", "How large a disk with images is");
    for disk in health.image_disks.values() {
        free.add(vec![("path", &*disk.path)], real(disk.bytes_free));
        size.add(vec![("path", &*disk.path)], real(disk.bytes_total));
    }
    vec![
        free,
        size,
        counter("windlass_images_removed", "Images removed because a disk was filling")
            .with(Vec::new(), real(health.images_removed.0)),
        counter(
            "windlass_images_removed_bytes",
            "Their size; layers that others share are counted, too",
        )
        .with(Vec::new(), real(health.images_removed.1)),
        gauge("windlass_build_info", "The agent's version")
            .with(vec![("version", &picture.version), ("node", picture.node.as_str())], 1.0),
        info,
        age,
        waiting,
        trouble,
        gauge("windlass_is_coordinator", "Whether this agent coordinates")
            .with(Vec::new(), truth(health.is_leading)),
        counter("windlass_turns", "Turns taken").with(Vec::new(), real(health.turns)),
        counter("windlass_store_writes", "Writes to the state store, by what was written")
            .with(vec![("register", "coordinator")], real(health.decisions))
            .with(vec![("register", "node")], real(health.reports)),
        counter(
            "windlass_store_written_bytes",
            "Content handed to the state store; what reaches the disk depends on the store",
        )
        .with(Vec::new(), real(health.written_bytes)),
    ]
}

/// How long turns took, from the plan's beginning to the write's end.
fn turns(picture: &Picture, encoder: &mut DescriptorEncoder<'_>) -> Result<(), Error> {
    let times = &picture.health.turn_times;
    let bounds = TURN_SECONDS.into_iter().chain([f64::INFINITY]);
    let buckets: Vec<(f64, u64)> = bounds.zip(times.counts).collect();
    let count = times.counts.iter().sum();
    let mut metric = encoder.encode_descriptor(
        "windlass_turn_seconds",
        "How long turns took, from the beginning of the plan to the end of the write",
        None,
        MetricType::Histogram,
    )?;
    metric.encode_histogram::<NoLabelSet>(times.total.as_secs_f64(), count, &buckets, None)
}

fn kubelet(picture: &Picture) -> Vec<Family<'_>> {
    let (mut running, mut ended, mut made, mut pods) = (0_u64, 0_u64, 0_u64, 0_u64);
    for container in picture.containers.values() {
        match (&container.marks.role, &container.state) {
            (Role::Pause, RunState::Running { .. }) => pods += 1,
            (Role::Pause, _) => {}
            (_, RunState::Running { .. }) => running += 1,
            (_, RunState::Ended { .. }) => ended += 1,
            (_, RunState::Created) => made += 1,
        }
    }
    let state = |state: &'static str| vec![("container_state", state)];
    vec![
        gauge("kubelet_running_pods", "Pods of this node that have a running pause container")
            .with(Vec::new(), real(pods)),
        gauge("kubelet_running_containers", "Containers of this node by what they do")
            .with(state("created"), real(made))
            .with(state("exited"), real(ended))
            .with(state("running"), real(running)),
    ]
}

fn text_at<'v>(object: &'v Value, pointer: &str) -> &'v str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn number_at(object: &Value, pointer: &str) -> f64 {
    object.pointer(pointer).and_then(Value::as_f64).unwrap_or_default()
}

fn items_at<'v>(object: &'v Value, pointer: &str) -> &'v [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn pod_families<'v>(pods: &'v [Value]) -> Vec<Family<'v>> {
    let mut info = gauge("kube_pod_info", "Where a pod is and who made it");
    let mut phase = gauge("kube_pod_status_phase", "The pod's phase");
    let mut ready = gauge("kube_pod_status_ready", "Whether the pod is ready");
    let mut restarts =
        counter("kube_pod_container_status_restarts", "How often a container was started again");
    let mut is_ready = gauge("kube_pod_container_status_ready", "Whether a container is ready");
    let mut waiting = gauge("kube_pod_container_status_waiting_reason", "Why a container waits");
    for pod in pods {
        let own = vec![
            ("namespace", text_at(pod, "/metadata/namespace")),
            ("pod", text_at(pod, "/metadata/name")),
            ("uid", text_at(pod, "/metadata/uid")),
        ];
        let with = |more: Labels<'v>| -> Labels<'v> { [own.clone(), more].concat() };
        let owner = |field: &str| text_at(pod, &format!("/metadata/ownerReferences/0/{field}"));
        info.add(
            with(vec![
                ("node", text_at(pod, "/spec/nodeName")),
                ("pod_ip", text_at(pod, "/status/podIP")),
                ("host_ip", text_at(pod, "/status/hostIP")),
                ("created_by_kind", owner("kind")),
                ("created_by_name", owner("name")),
            ]),
            1.0,
        );
        for name in ["Pending", "Running", "Succeeded", "Failed", "Unknown"] {
            let is_so = text_at(pod, "/status/phase") == name;
            phase.add(with(vec![("phase", name)]), truth(is_so));
        }
        let conditions = items_at(pod, "/status/conditions").iter();
        let mut known = conditions.filter(|condition| text_at(condition, "/type") == "Ready");
        let status = known.next().map_or("False", |condition| text_at(condition, "/status"));
        for (name, value) in [("true", "True"), ("false", "False"), ("unknown", "Unknown")] {
            ready.add(with(vec![("condition", name)]), truth(status == value));
        }
        for container in items_at(pod, "/status/containerStatuses") {
            let named = || with(vec![("container", text_at(container, "/name"))]);
            restarts.add(named(), number_at(container, "/restartCount"));
            is_ready.add(named(), truth(container["ready"] == true));
            let reason = text_at(container, "/state/waiting/reason");
            if !reason.is_empty() {
                waiting.add([named(), vec![("reason", reason)]].concat(), 1.0);
            }
        }
    }
    vec![info, phase, ready, restarts, is_ready, waiting]
}

/// The phases of claims and volumes, as kube-state-metrics counts them.
fn storage_families<'v>(claims: &'v [Value], volumes: &'v [Value]) -> Vec<Family<'v>> {
    let mut phase = gauge("kube_persistentvolumeclaim_status_phase", "The phase the claim is in");
    let mut info = gauge("kube_persistentvolumeclaim_info", "The claim's class and volume");
    for claim in claims {
        let own = vec![
            ("namespace", text_at(claim, "/metadata/namespace")),
            ("persistentvolumeclaim", text_at(claim, "/metadata/name")),
        ];
        for name in ["Lost", "Bound", "Pending"] {
            let is_so = text_at(claim, "/status/phase") == name;
            phase.add([own.clone(), vec![("phase", name)]].concat(), truth(is_so));
        }
        let more = vec![
            ("storageclass", text_at(claim, "/spec/storageClassName")),
            ("volumename", text_at(claim, "/spec/volumeName")),
        ];
        info.add([own, more].concat(), 1.0);
    }
    let mut volume_phase =
        gauge("kube_persistentvolume_status_phase", "The phase the volume is in");
    for volume in volumes {
        let own = vec![("persistentvolume", text_at(volume, "/metadata/name"))];
        for name in ["Pending", "Available", "Bound", "Released", "Failed"] {
            let is_so = text_at(volume, "/status/phase") == name;
            volume_phase.add([own.clone(), vec![("phase", name)]].concat(), truth(is_so));
        }
    }
    vec![phase, info, volume_phase]
}

/// One gauge for each field of each object.
fn fields<'v>(objects: &'v [Value], label: &'static str, names: &[Field]) -> Vec<Family<'v>> {
    let families = names.iter().map(|(name, pointer, help)| {
        let mut family = gauge(name, help);
        for object in objects {
            let labels = vec![
                ("namespace", text_at(object, "/metadata/namespace")),
                (label, text_at(object, "/metadata/name")),
            ];
            family.add(labels, number_at(object, pointer));
        }
        family
    });
    families.collect()
}

/// A gauge: its name, where in an object its value is, and what it means.
type Field = (&'static str, &'static str, &'static str);

/// What is counted of each kind of workload, and the label with its name.
const COUNTED: [(Kind, &str, &[Field]); 4] = [
    (Kind::Deployment, "deployment", &DEPLOYMENTS),
    (Kind::ReplicaSet, "replicaset", &REPLICA_SETS),
    (Kind::StatefulSet, "statefulset", &STATEFUL_SETS),
    (Kind::DaemonSet, "daemonset", &DAEMON_SETS),
];

const DEPLOYMENTS: [Field; 6] = [
    ("kube_deployment_spec_replicas", "/spec/replicas", "Pods wanted"),
    ("kube_deployment_status_replicas", "/status/replicas", "Pods there are"),
    ("kube_deployment_status_replicas_ready", "/status/readyReplicas", "Pods that are ready"),
    (
        "kube_deployment_status_replicas_available",
        "/status/availableReplicas",
        "Pods that have been ready for long enough",
    ),
    (
        "kube_deployment_status_replicas_unavailable",
        "/status/unavailableReplicas",
        "Pods that have not",
    ),
    (
        "kube_deployment_status_replicas_updated",
        "/status/updatedReplicas",
        "Pods of the newest template",
    ),
];

const REPLICA_SETS: [Field; 3] = [
    ("kube_replicaset_spec_replicas", "/spec/replicas", "Pods wanted"),
    ("kube_replicaset_status_replicas", "/status/replicas", "Pods there are"),
    ("kube_replicaset_status_ready_replicas", "/status/readyReplicas", "Pods that are ready"),
];

const STATEFUL_SETS: [Field; 6] = [
    ("kube_statefulset_replicas", "/spec/replicas", "Pods wanted"),
    ("kube_statefulset_status_replicas", "/status/replicas", "Pods there are"),
    ("kube_statefulset_status_replicas_ready", "/status/readyReplicas", "Pods that are ready"),
    (
        "kube_statefulset_status_replicas_available",
        "/status/availableReplicas",
        "Pods that have been ready for long enough",
    ),
    (
        "kube_statefulset_status_replicas_current",
        "/status/currentReplicas",
        "Pods of the template that was in force before the roll-out",
    ),
    (
        "kube_statefulset_status_replicas_updated",
        "/status/updatedReplicas",
        "Pods of the newest template",
    ),
];

const DAEMON_SETS: [Field; 7] = [
    (
        "kube_daemonset_status_desired_number_scheduled",
        "/status/desiredNumberScheduled",
        "Nodes that should have a pod",
    ),
    (
        "kube_daemonset_status_current_number_scheduled",
        "/status/currentNumberScheduled",
        "Nodes that should have a pod, and have",
    ),
    (
        "kube_daemonset_status_number_misscheduled",
        "/status/numberMisscheduled",
        "Nodes that have a pod, and should not",
    ),
    ("kube_daemonset_status_number_ready", "/status/numberReady", "Nodes whose pod is ready"),
    (
        "kube_daemonset_status_number_available",
        "/status/numberAvailable",
        "Nodes whose pod has been ready for long enough",
    ),
    (
        "kube_daemonset_status_number_unavailable",
        "/status/numberUnavailable",
        "Nodes whose pod has not",
    ),
    (
        "kube_daemonset_status_updated_number_scheduled",
        "/status/updatedNumberScheduled",
        "Nodes whose pod is of the newest template",
    ),
];

fn job_families(jobs: &[Value]) -> Vec<Family<'_>> {
    const NAMES: [Field; 5] = [
        ("kube_job_spec_completions", "/spec/completions", "Pods that must succeed"),
        ("kube_job_spec_parallelism", "/spec/parallelism", "Pods that may run side by side"),
        ("kube_job_status_active", "/status/active", "Pods that run"),
        ("kube_job_status_succeeded", "/status/succeeded", "Pods that succeeded"),
        ("kube_job_status_failed", "/status/failed", "Pods that failed"),
    ];
    let mut families = fields(jobs, "job_name", &NAMES);
    let ends = [
        ("kube_job_complete", "Complete", "Whether the Job has ended well"),
        ("kube_job_failed", "Failed", "Whether the Job has failed"),
    ];
    for (name, kind, help) in ends {
        let mut family = gauge(name, help);
        for job in jobs {
            let holds = items_at(job, "/status/conditions")
                .iter()
                .any(|one| text_at(one, "/type") == kind && text_at(one, "/status") == "True");
            if holds {
                let labels = vec![
                    ("namespace", text_at(job, "/metadata/namespace")),
                    ("job_name", text_at(job, "/metadata/name")),
                    ("condition", "true"),
                ];
                family.add(labels, 1.0);
            }
        }
        families.push(family);
    }
    families
}

fn cron_families(cron_jobs: &[Value]) -> Vec<Family<'_>> {
    let mut active = gauge("kube_cronjob_status_active", "Jobs of the CronJob that run");
    let mut suspended = gauge("kube_cronjob_spec_suspend", "Whether the CronJob waits");
    let mut last =
        gauge("kube_cronjob_status_last_schedule_time", "For when the last Job was made");
    let mut good = gauge("kube_cronjob_status_last_successful_time", "When a Job last ended well");
    for cron in cron_jobs {
        let labels = || {
            vec![
                ("namespace", text_at(cron, "/metadata/namespace")),
                ("cronjob", text_at(cron, "/metadata/name")),
            ]
        };
        let running = u32::try_from(items_at(cron, "/status/active").len()).unwrap_or(u32::MAX);
        active.add(labels(), f64::from(running));
        suspended.add(labels(), truth(cron["spec"]["suspend"] == true));
        let times =
            [(&mut last, "/status/lastScheduleTime"), (&mut good, "/status/lastSuccessfulTime")];
        for (family, pointer) in times {
            if let Some(time) = Wall::parse(text_at(cron, pointer)) {
                family.add(labels(), real(u64::try_from(time.seconds()).unwrap_or(0)));
            }
        }
    }
    vec![active, suspended, last, good]
}

fn node_families(nodes: &[Value]) -> Vec<Family<'_>> {
    let mut info = gauge("kube_node_info", "What a node is made of");
    let mut condition = gauge("kube_node_status_condition", "A node's conditions");
    let mut capacity = gauge("kube_node_status_capacity", "What a node has");
    let mut allocatable = gauge("kube_node_status_allocatable", "What pods may have of it");
    for node in nodes {
        let name = text_at(node, "/metadata/name");
        let at = |field: &str| text_at(node, &format!("/status/nodeInfo/{field}"));
        info.add(
            vec![
                ("node", name),
                ("kernel_version", at("kernelVersion")),
                ("os_image", at("osImage")),
                ("container_runtime_version", at("containerRuntimeVersion")),
                ("kubelet_version", at("kubeletVersion")),
            ],
            1.0,
        );
        for known in items_at(node, "/status/conditions") {
            for (status, value) in [("true", "True"), ("false", "False"), ("unknown", "Unknown")] {
                let labels = vec![
                    ("node", name),
                    ("condition", text_at(known, "/type")),
                    ("status", status),
                ];
                condition.add(labels, truth(text_at(known, "/status") == value));
            }
        }
        for (family, field) in [(&mut capacity, "capacity"), (&mut allocatable, "allocatable")] {
            let resources = node["status"][field].as_object().into_iter().flatten();
            for (resource, quantity) in resources {
                let unit = match resource.as_str() {
                    "cpu" => "core",
                    "pods" => "integer",
                    _ => "byte",
                };
                if let Some(value) = quantity.as_str().and_then(|quantity| value_of(quantity, unit))
                {
                    let labels = vec![("node", name), ("resource", resource), ("unit", unit)];
                    family.add(labels, value);
                }
            }
        }
    }
    vec![info, condition, capacity, allocatable]
}

#[allow(clippy::cast_precision_loss)] // A machine has less than 2^53 of anything.
fn value_of(quantity: &str, unit: &str) -> Option<f64> {
    let quantity = Quantity::parse(quantity).ok()?;
    match unit {
        "core" => Some(quantity.as_millis() as f64 / 1000.0),
        _ => Some(quantity.as_units() as f64),
    }
}
