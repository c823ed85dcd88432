//! What Kubernetes writes into a manifest where its author wrote nothing.
//!
//! Simple ones are a table by type and field; those that depend on other fields are functions in
//! [`computed`]. Source: `SetDefaults_*` in `pkg/apis/*/v1/defaults.go`, and the conversions beside
//! them.

mod computed;

pub(super) use computed::{Finish, autoscaler, finish, pod};

/// A value written into an empty field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fill {
    Text(&'static str),
    Int(i64),
    /// An empty structure, which is then given its own defaults.
    Structure,
}

use Fill::{Int, Structure, Text};

/// 0644 in octal, as JSON writes it.
const MODE_0644: i64 = 0o644;

const RETENTION: &str = "apps.v1.StatefulSetPersistentVolumeClaimRetentionPolicy";

/// Defaults by type and field.
pub(super) const FILLS: &[(&str, &str, Fill)] = &[
    ("core.v1.PodSpec", "restartPolicy", Text("Always")),
    ("core.v1.PodSpec", "dnsPolicy", Text("ClusterFirst")),
    ("core.v1.PodSpec", "schedulerName", Text("default-scheduler")),
    ("core.v1.PodSpec", "terminationGracePeriodSeconds", Int(30)),
    ("core.v1.PodSpec", "securityContext", Structure),
    ("core.v1.Container", "terminationMessagePath", Text("/dev/termination-log")),
    ("core.v1.Container", "terminationMessagePolicy", Text("File")),
    ("core.v1.Container", "resources", Structure),
    ("core.v1.ContainerPort", "protocol", Text("TCP")),
    ("core.v1.Probe", "timeoutSeconds", Int(1)),
    ("core.v1.Probe", "periodSeconds", Int(10)),
    ("core.v1.Probe", "successThreshold", Int(1)),
    ("core.v1.Probe", "failureThreshold", Int(3)),
    ("core.v1.HTTPGetAction", "path", Text("/")),
    ("core.v1.HTTPGetAction", "scheme", Text("HTTP")),
    ("core.v1.GRPCAction", "service", Text("")),
    ("core.v1.ObjectFieldSelector", "apiVersion", Text("v1")),
    ("core.v1.ResourceFieldSelector", "divisor", Text("0")),
    ("core.v1.SecretVolumeSource", "defaultMode", Int(MODE_0644)),
    ("core.v1.ConfigMapVolumeSource", "defaultMode", Int(MODE_0644)),
    ("core.v1.DownwardAPIVolumeSource", "defaultMode", Int(MODE_0644)),
    ("core.v1.ProjectedVolumeSource", "defaultMode", Int(MODE_0644)),
    ("core.v1.ServiceAccountTokenProjection", "expirationSeconds", Int(3600)),
    ("core.v1.HostPathVolumeSource", "type", Text("")),
    ("core.v1.Secret", "type", Text("Opaque")),
    ("core.v1.Service", "spec", Structure),
    ("core.v1.ServiceSpec", "sessionAffinity", Text("None")),
    ("core.v1.ServiceSpec", "type", Text("ClusterIP")),
    ("core.v1.ServicePort", "protocol", Text("TCP")),
    ("core.v1.ReplicationControllerSpec", "replicas", Int(1)),
    ("apps.v1.ReplicaSetSpec", "replicas", Int(1)),
    ("apps.v1.DeploymentSpec", "replicas", Int(1)),
    ("apps.v1.DeploymentSpec", "revisionHistoryLimit", Int(10)),
    ("apps.v1.DeploymentSpec", "progressDeadlineSeconds", Int(600)),
    ("apps.v1.DeploymentSpec", "strategy", Structure),
    ("apps.v1.DeploymentStrategy", "type", Text("RollingUpdate")),
    ("apps.v1.StatefulSetSpec", "replicas", Int(1)),
    ("apps.v1.StatefulSetSpec", "revisionHistoryLimit", Int(10)),
    ("apps.v1.StatefulSetSpec", "podManagementPolicy", Text("OrderedReady")),
    ("apps.v1.StatefulSetSpec", "updateStrategy", Structure),
    ("apps.v1.StatefulSetSpec", "persistentVolumeClaimRetentionPolicy", Structure),
    (RETENTION, "whenDeleted", Text("Retain")),
    (RETENTION, "whenScaled", Text("Retain")),
    ("apps.v1.StatefulSetUpdateStrategy", "type", Text("RollingUpdate")),
    ("apps.v1.RollingUpdateStatefulSetStrategy", "maxUnavailable", Int(1)),
    ("apps.v1.RollingUpdateStatefulSetStrategy", "partition", Int(0)),
    ("apps.v1.DaemonSetSpec", "revisionHistoryLimit", Int(10)),
    ("apps.v1.DaemonSetSpec", "updateStrategy", Structure),
    ("apps.v1.DaemonSetUpdateStrategy", "type", Text("RollingUpdate")),
    ("apps.v1.RollingUpdateDaemonSet", "maxSurge", Int(0)),
    ("apps.v1.RollingUpdateDaemonSet", "maxUnavailable", Int(1)),
    ("batch.v1.CronJobSpec", "concurrencyPolicy", Text("Allow")),
    ("batch.v1.CronJobSpec", "failedJobsHistoryLimit", Int(1)),
    ("batch.v1.CronJobSpec", "successfulJobsHistoryLimit", Int(3)),
    ("batch.v1.JobSpec", "completionMode", Text("NonIndexed")),
    ("batch.v1.PodFailurePolicyOnPodConditionsPattern", "status", Text("True")),
    ("scheduling.v1.PriorityClass", "preemptionPolicy", Text("PreemptLowerPriority")),
    ("autoscaling.v2.HorizontalPodAutoscalerSpec", "minReplicas", Int(1)),
    ("core.v1.PersistentVolumeClaimSpec", "volumeMode", Text("Filesystem")),
    ("core.v1.PersistentVolumeSpec", "volumeMode", Text("Filesystem")),
    ("core.v1.PersistentVolumeSpec", "persistentVolumeReclaimPolicy", Text("Retain")),
    // Kubernetes' default is Delete. Here it takes a word of the author's to have data destroyed.
    ("storage.v1.StorageClass", "reclaimPolicy", Text("Retain")),
    ("storage.v1.StorageClass", "volumeBindingMode", Text("Immediate")),
];

/// Fields that are no pointers in Go: there `0` and `false` are the same as nothing, and are not
/// written out. (Empty texts never are.)
pub(super) const ZERO_IS_ABSENT: &[(&str, &str)] = &[
    ("core.v1.PodSpec", "hostIPC hostNetwork hostPID"),
    ("core.v1.Container", "stdin stdinOnce tty"),
    ("core.v1.ContainerPort", "hostPort"),
    ("core.v1.VolumeMount", "readOnly"),
    ("core.v1.PersistentVolumeClaimVolumeSource", "readOnly"),
    ("core.v1.NFSVolumeSource", "readOnly"),
    (
        "core.v1.Probe",
        "failureThreshold initialDelaySeconds periodSeconds successThreshold timeoutSeconds",
    ),
    ("core.v1.ServicePort", "nodePort"),
    ("core.v1.ServiceSpec", "healthCheckNodePort publishNotReadyAddresses"),
    ("core.v1.ReplicationControllerSpec", "minReadySeconds"),
    ("core.v1.NodeSpec", "unschedulable"),
    ("apps.v1.ReplicaSetSpec", "minReadySeconds"),
    ("apps.v1.DeploymentSpec", "minReadySeconds paused"),
    ("apps.v1.StatefulSetSpec", "minReadySeconds"),
    ("apps.v1.DaemonSetSpec", "minReadySeconds"),
    ("scheduling.v1.PriorityClass", "globalDefault"),
];
