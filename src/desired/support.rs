//! What Windlass does with each field of the kinds it runs: the one list that the door, the tests
//! and the README's table are read from.
//!
//! A field of a known type stands either in [`RUNS`] or in [`ROWS`]; a test walks Kubernetes' own
//! schemas and fails when a new release brings a field about which nobody has decided. Until
//! somebody has, it is refused.
//!
//! How it is decided: a field is refused if leaving it out could do harm (open what its author
//! closed, lose data, place a pod where it must not run), and gets a warning if it can't.

use crate::kinds::registry::Kind;

/// What happens to a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is carried out.
    Runs,
    /// It is kept and shown; there is nothing to carry out.
    Shown,
    /// It is kept and shown whole, and a warning says why it has no effect.
    Warned,
    /// The manifest is refused.
    Refused,
    /// It is what an API server adds to an object; it is left out without a word.
    Dropped,
}

/// A field and what happens to it.
#[derive(Clone, Copy, Debug)]
pub struct FieldSupport {
    /// The type it belongs to, as in `core.v1.PodSpec`.
    pub definition: &'static str,
    /// Its name.
    pub field: &'static str,
    /// What happens to it.
    pub verdict: Verdict,
    /// Why, where it is not simply carried out.
    pub sentence: &'static str,
    /// Values for which all this does not hold, because they ask for what happens anyway.
    pub except: &'static [&'static str],
}

/// Every field of the kinds that run, and what happens to it.
pub fn fields() -> impl Iterator<Item = FieldSupport> {
    let runs = RUNS.iter().flat_map(|(definition, fields)| {
        fields.split_whitespace().map(|field| FieldSupport {
            definition,
            field,
            verdict: Verdict::Runs,
            sentence: "",
            except: &[],
        })
    });
    let media =
        ["core.v1.Volume", "core.v1.PersistentVolumeSpec"].into_iter().flat_map(|definition| {
            MEDIA.iter().map(move |(field, sentence)| FieldSupport {
                definition,
                field,
                verdict: Verdict::Refused,
                sentence,
                except: &[],
            })
        });
    runs.chain(media).chain(ROWS.iter().copied())
}

/// What is said of a field about which nobody has decided yet.
pub(super) const UNDECIDED: &str =
    "is newer than this version of Windlass, which does not carry it out";

/// Why a kind is refused; the sentence goes on after the kind's name.
pub fn refusal(kind: Kind) -> &'static str {
    match kind {
        Kind::NetworkPolicy => "is not enforced yet, and would leave open what it is to close",
        Kind::Endpoints | Kind::EndpointSlice => {
            "is not carried out yet: packets would not reach what it names"
        }
        Kind::ControllerRevision | Kind::Event | Kind::Lease => {
            "is made by Windlass only; it has no place in a manifest"
        }
        _ => "is not supported",
    }
}

/// What follows from nothing acting on a kind that is accepted; goes on after "but".
pub fn consequence(kind: Kind) -> &'static str {
    match kind {
        Kind::ClusterRole | Kind::ClusterRoleBinding | Kind::Role | Kind::RoleBinding => {
            "it only says who may change the repository, with `authorize: roles` in trust.yaml"
        }
        Kind::Ingress | Kind::IngressClass => "no requests from outside are routed by it yet",
        Kind::HorizontalPodAutoscaler => "replicas are not changed by it yet",
        Kind::CSIDriver => "no volumes are made by it",
        _ => "nothing acts on it yet",
    }
}

/// Fields that are carried out, by type.
const RUNS: &[(&str, &str)] = &[
    ("meta.v1.ObjectMeta", "name namespace labels annotations"),
    ("meta.v1.LabelSelector", "matchExpressions matchLabels"),
    ("meta.v1.LabelSelectorRequirement", "key operator values"),
    ("core.v1.Namespace", "apiVersion kind metadata spec"),
    (
        "core.v1.ServiceAccount",
        "apiVersion automountServiceAccountToken imagePullSecrets kind metadata",
    ),
    ("core.v1.Node", "apiVersion kind metadata spec"),
    ("core.v1.NodeSpec", "taints unschedulable"),
    ("core.v1.Taint", "effect key value"),
    (
        "scheduling.v1.PriorityClass",
        "apiVersion kind metadata globalDefault preemptionPolicy value",
    ),
    ("core.v1.LimitRange", "apiVersion kind metadata spec"),
    ("core.v1.LimitRangeSpec", "limits"),
    ("core.v1.LimitRangeItem", "default defaultRequest max maxLimitRequestRatio min type"),
    ("core.v1.ResourceQuota", "apiVersion kind metadata spec"),
    ("core.v1.ResourceQuotaSpec", "hard scopes"),
    ("core.v1.ConfigMap", "apiVersion kind metadata binaryData data immutable"),
    ("core.v1.Secret", "apiVersion kind metadata data immutable stringData type"),
    ("core.v1.Service", "apiVersion kind metadata spec"),
    (
        "core.v1.ServiceSpec",
        "allocateLoadBalancerNodePorts clusterIP clusterIPs externalIPs externalName \
         externalTrafficPolicy healthCheckNodePort internalTrafficPolicy loadBalancerSourceRanges \
         ports publishNotReadyAddresses selector sessionAffinity sessionAffinityConfig \
         trafficDistribution type",
    ),
    ("core.v1.ServicePort", "name nodePort port protocol targetPort"),
    ("core.v1.SessionAffinityConfig", "clientIP"),
    ("core.v1.ClientIPConfig", "timeoutSeconds"),
    ("core.v1.Pod", "apiVersion kind metadata spec"),
    ("core.v1.ReplicationController", "apiVersion kind metadata spec"),
    ("core.v1.ReplicationControllerSpec", "minReadySeconds replicas selector template"),
    ("apps.v1.ReplicaSet", "apiVersion kind metadata spec"),
    ("apps.v1.ReplicaSetSpec", "minReadySeconds replicas selector template"),
    ("apps.v1.Deployment", "apiVersion kind metadata spec"),
    (
        "apps.v1.DeploymentSpec",
        "minReadySeconds paused progressDeadlineSeconds replicas revisionHistoryLimit selector \
         strategy template",
    ),
    ("apps.v1.DeploymentStrategy", "rollingUpdate type"),
    ("apps.v1.RollingUpdateDeployment", "maxSurge maxUnavailable"),
    ("policy.v1.PodDisruptionBudget", "apiVersion kind metadata spec"),
    (
        "policy.v1.PodDisruptionBudgetSpec",
        "maxUnavailable minAvailable selector unhealthyPodEvictionPolicy",
    ),
    ("apps.v1.StatefulSet", "apiVersion kind metadata spec"),
    (
        "apps.v1.StatefulSetSpec",
        "minReadySeconds ordinals persistentVolumeClaimRetentionPolicy podManagementPolicy \
         replicas revisionHistoryLimit selector serviceName template updateStrategy \
         volumeClaimTemplates",
    ),
    ("apps.v1.StatefulSetOrdinals", "start"),
    ("apps.v1.StatefulSetPersistentVolumeClaimRetentionPolicy", "whenDeleted whenScaled"),
    ("apps.v1.StatefulSetUpdateStrategy", "rollingUpdate type"),
    ("apps.v1.RollingUpdateStatefulSetStrategy", "maxUnavailable partition"),
    ("apps.v1.DaemonSet", "apiVersion kind metadata spec"),
    (
        "apps.v1.DaemonSetSpec",
        "minReadySeconds revisionHistoryLimit selector template updateStrategy",
    ),
    ("apps.v1.DaemonSetUpdateStrategy", "rollingUpdate type"),
    ("apps.v1.RollingUpdateDaemonSet", "maxSurge maxUnavailable"),
    ("batch.v1.Job", "apiVersion kind metadata spec"),
    (
        "batch.v1.JobSpec",
        "activeDeadlineSeconds backoffLimit backoffLimitPerIndex completionMode completions \
         manualSelector maxFailedIndexes parallelism podFailurePolicy podReplacementPolicy selector \
         successPolicy suspend template ttlSecondsAfterFinished",
    ),
    ("batch.v1.CronJob", "apiVersion kind metadata spec"),
    (
        "batch.v1.CronJobSpec",
        "concurrencyPolicy failedJobsHistoryLimit jobTemplate schedule startingDeadlineSeconds \
         successfulJobsHistoryLimit suspend timeZone",
    ),
    ("batch.v1.JobTemplateSpec", "metadata spec"),
    ("batch.v1.PodFailurePolicy", "rules"),
    ("batch.v1.PodFailurePolicyRule", "action onExitCodes onPodConditions"),
    ("batch.v1.PodFailurePolicyOnExitCodesRequirement", "containerName operator values"),
    ("batch.v1.PodFailurePolicyOnPodConditionsPattern", "status type"),
    ("batch.v1.SuccessPolicy", "rules"),
    ("batch.v1.SuccessPolicyRule", "succeededCount succeededIndexes"),
    ("core.v1.PodTemplateSpec", "metadata spec"),
    (
        "core.v1.PodSpec",
        "activeDeadlineSeconds affinity automountServiceAccountToken containers dnsConfig \
         dnsPolicy enableServiceLinks hostAliases hostIPC hostNetwork hostPID hostname \
         imagePullSecrets initContainers nodeName nodeSelector os overhead preemptionPolicy priorityClassName readinessGates restartPolicy securityContext serviceAccount \
         serviceAccountName setHostnameAsFQDN shareProcessNamespace subdomain \
         terminationGracePeriodSeconds tolerations topologySpreadConstraints volumes",
    ),
    ("core.v1.Affinity", "nodeAffinity podAffinity podAntiAffinity"),
    (
        "core.v1.NodeAffinity",
        "preferredDuringSchedulingIgnoredDuringExecution \
         requiredDuringSchedulingIgnoredDuringExecution",
    ),
    ("core.v1.PreferredSchedulingTerm", "preference weight"),
    ("core.v1.NodeSelectorTerm", "matchExpressions matchFields"),
    ("core.v1.NodeSelectorRequirement", "key operator values"),
    ("core.v1.NodeSelector", "nodeSelectorTerms"),
    (
        "core.v1.PodAffinity",
        "preferredDuringSchedulingIgnoredDuringExecution \
         requiredDuringSchedulingIgnoredDuringExecution",
    ),
    (
        "core.v1.PodAntiAffinity",
        "preferredDuringSchedulingIgnoredDuringExecution \
         requiredDuringSchedulingIgnoredDuringExecution",
    ),
    ("core.v1.WeightedPodAffinityTerm", "podAffinityTerm weight"),
    (
        "core.v1.PodAffinityTerm",
        "labelSelector matchLabelKeys mismatchLabelKeys namespaceSelector namespaces topologyKey",
    ),
    (
        "core.v1.Container",
        "args command env envFrom image imagePullPolicy lifecycle livenessProbe name ports \
         readinessProbe resources restartPolicy securityContext startupProbe stdin stdinOnce \
         terminationMessagePath terminationMessagePolicy tty volumeMounts workingDir",
    ),
    ("core.v1.EnvVar", "name value valueFrom"),
    ("core.v1.EnvVarSource", "configMapKeyRef fieldRef resourceFieldRef secretKeyRef"),
    ("core.v1.ConfigMapKeySelector", "key name optional"),
    ("core.v1.SecretKeySelector", "key name optional"),
    ("core.v1.ObjectFieldSelector", "apiVersion fieldPath"),
    ("core.v1.ResourceFieldSelector", "containerName divisor resource"),
    ("core.v1.EnvFromSource", "configMapRef prefix secretRef"),
    ("core.v1.ConfigMapEnvSource", "name optional"),
    ("core.v1.SecretEnvSource", "name optional"),
    ("core.v1.Lifecycle", "postStart preStop stopSignal"),
    ("core.v1.LifecycleHandler", "exec httpGet sleep tcpSocket"),
    ("core.v1.ExecAction", "command"),
    ("core.v1.HTTPGetAction", "host httpHeaders path port scheme"),
    ("core.v1.HTTPHeader", "name value"),
    ("core.v1.SleepAction", "seconds"),
    ("core.v1.TCPSocketAction", "host port"),
    ("core.v1.GRPCAction", "port service"),
    (
        "core.v1.Probe",
        "exec failureThreshold grpc httpGet initialDelaySeconds periodSeconds successThreshold \
         tcpSocket terminationGracePeriodSeconds timeoutSeconds",
    ),
    ("core.v1.ContainerPort", "containerPort hostIP hostPort name protocol"),
    ("core.v1.ResourceRequirements", "limits requests"),
    (
        "core.v1.SecurityContext",
        "allowPrivilegeEscalation appArmorProfile capabilities privileged procMount \
         readOnlyRootFilesystem runAsGroup runAsNonRoot runAsUser seccompProfile",
    ),
    ("core.v1.AppArmorProfile", "localhostProfile type"),
    ("core.v1.SeccompProfile", "localhostProfile type"),
    ("core.v1.Capabilities", "add drop"),
    ("core.v1.VolumeMount", "mountPath mountPropagation name readOnly subPath subPathExpr"),
    ("core.v1.PodDNSConfig", "nameservers options searches"),
    ("core.v1.PodDNSConfigOption", "name value"),
    ("core.v1.HostAlias", "hostnames ip"),
    ("core.v1.LocalObjectReference", "name"),
    ("core.v1.PodReadinessGate", "conditionType"),
    (
        "core.v1.PodSecurityContext",
        "appArmorProfile fsGroup fsGroupChangePolicy runAsGroup runAsNonRoot runAsUser \
         seccompProfile supplementalGroups sysctls",
    ),
    ("core.v1.Sysctl", "name value"),
    ("core.v1.Toleration", "effect key operator tolerationSeconds value"),
    (
        "core.v1.TopologySpreadConstraint",
        "labelSelector matchLabelKeys maxSkew minDomains nodeAffinityPolicy nodeTaintsPolicy \
         topologyKey whenUnsatisfiable",
    ),
    (
        "core.v1.Volume",
        "configMap downwardAPI emptyDir ephemeral hostPath name persistentVolumeClaim projected \
         secret",
    ),
    ("core.v1.ConfigMapVolumeSource", "defaultMode items name optional"),
    ("core.v1.SecretVolumeSource", "defaultMode items optional secretName"),
    ("core.v1.KeyToPath", "key mode path"),
    ("core.v1.DownwardAPIVolumeSource", "defaultMode items"),
    ("core.v1.DownwardAPIVolumeFile", "fieldRef mode path resourceFieldRef"),
    ("core.v1.EmptyDirVolumeSource", "medium sizeLimit"),
    ("core.v1.EphemeralVolumeSource", "volumeClaimTemplate"),
    ("core.v1.PersistentVolumeClaimTemplate", "metadata spec"),
    ("core.v1.HostPathVolumeSource", "path type"),
    ("core.v1.PersistentVolumeClaimVolumeSource", "claimName readOnly"),
    ("core.v1.PersistentVolumeClaim", "apiVersion kind metadata spec"),
    (
        "core.v1.PersistentVolumeClaimSpec",
        "accessModes resources selector storageClassName volumeMode volumeName",
    ),
    ("core.v1.VolumeResourceRequirements", "limits requests"),
    ("core.v1.PersistentVolume", "apiVersion kind metadata spec"),
    (
        "core.v1.PersistentVolumeSpec",
        "accessModes capacity claimRef hostPath local mountOptions nfs nodeAffinity \
         persistentVolumeReclaimPolicy storageClassName volumeMode",
    ),
    ("core.v1.LocalVolumeSource", "path"),
    ("core.v1.NFSVolumeSource", "path readOnly server"),
    ("core.v1.VolumeNodeAffinity", "required"),
    ("core.v1.ObjectReference", "apiVersion kind name namespace"),
    (
        "storage.v1.StorageClass",
        "allowedTopologies apiVersion kind metadata parameters provisioner reclaimPolicy \
         volumeBindingMode",
    ),
    ("core.v1.TopologySelectorTerm", "matchLabelExpressions"),
    ("core.v1.TopologySelectorLabelRequirement", "key values"),
    ("core.v1.ProjectedVolumeSource", "defaultMode sources"),
    ("core.v1.VolumeProjection", "configMap downwardAPI secret"),
    ("core.v1.ConfigMapProjection", "items name optional"),
    ("core.v1.SecretProjection", "items name optional"),
    ("core.v1.DownwardAPIProjection", "items"),
];

macro_rules! rows {
    ($($verdict:ident $definition:literal {
        $($field:literal $(except [$($except:literal),*])? $sentence:literal;)*
    })*) => {
        &[$($(FieldSupport {
            definition: $definition,
            field: $field,
            verdict: Verdict::$verdict,
            sentence: $sentence,
            except: &[$($($except),*)?],
        },)*)*]
    };
}

/// Where data may be in Kubernetes and not here, whether a pod names it or a volume.
const MEDIA: &[(&str, &str)] = &[
    ("awsElasticBlockStore", "is not supported: Windlass has no cloud disks"),
    ("azureDisk", "is not supported: Windlass has no cloud disks"),
    ("azureFile", "is not supported: Windlass has no cloud disks"),
    ("cephfs", "is not supported: mount it on the node and use hostPath"),
    ("cinder", "is not supported: Windlass has no cloud disks"),
    ("fc", "is not supported: mount it on the node and use hostPath"),
    ("flexVolume", "is not supported: there are no volume plug-ins"),
    ("flocker", "is not supported: there are no volume plug-ins"),
    ("gcePersistentDisk", "is not supported: Windlass has no cloud disks"),
    ("glusterfs", "is not supported: mount it on the node and use hostPath"),
    ("iscsi", "is not supported: mount it on the node and use hostPath"),
    ("photonPersistentDisk", "is not supported: Windlass has no cloud disks"),
    ("portworxVolume", "is not supported: there are no volume plug-ins"),
    ("quobyte", "is not supported: there are no volume plug-ins"),
    ("rbd", "is not supported: mount it on the node and use hostPath"),
    ("scaleIO", "is not supported: there are no volume plug-ins"),
    ("storageos", "is not supported: there are no volume plug-ins"),
    ("vsphereVolume", "is not supported: Windlass has no cloud disks"),
];

/// Fields that are not simply carried out. The sentence goes on after the field's name.
const ROWS: &[FieldSupport] = rows! {
    Dropped "meta.v1.ObjectMeta" {
        "creationTimestamp" "is set by the API";
        "deletionGracePeriodSeconds" "is set by the API";
        "deletionTimestamp" "is set by the API";
        "generation" "is set by the API";
        "managedFields" "is set by the API";
        "resourceVersion" "is set by the API";
        "selfLink" "is set by the API";
        "uid" "is set by the API";
    }
    Refused "meta.v1.ObjectMeta" {
        "generateName" "makes a new object each time it is applied; an object in Git needs a name";
    }
    Warned "meta.v1.ObjectMeta" {
        "finalizers" "has no effect: an object is deleted when it leaves the repository";
        "ownerReferences" "has no effect: an object of the repository belongs to the repository";
    }
    Refused "core.v1.ResourceQuotaSpec" {
        "scopeSelector" "is not judged yet: write `scopes`, or a quota for the whole namespace";
    }
    Refused "batch.v1.JobSpec" {
        "scheduling" "is not supported: pods are placed one by one";
        "managedBy" except ["kubernetes.io/job-controller"] "names another controller; Windlass has only its own";
    }
    Warned "core.v1.NamespaceSpec" {
        "finalizers" except ["kubernetes"] "has no effect";
    }
    Dropped "core.v1.NodeSpec" {
        "externalID" "is set by the API";
        "providerID" "is set by the cloud";
    }
    Warned "core.v1.NodeSpec" {
        "podCIDR" "has no effect: Windlass gives each node its addresses";
        "podCIDRs" "has no effect: Windlass gives each node its addresses";
    }
    Refused "core.v1.NodeSpec" {
        "configSource" "is not supported: an agent is configured by its own agent.yaml";
        "podPreemptionPolicy" "is newer than this version of Windlass, which does not carry it out";
    }
    Dropped "core.v1.Taint" {
        "timeAdded" "is set by the API";
    }
    Shown "scheduling.v1.PriorityClass" {
        "description" "is for people";
    }
    Shown "core.v1.ServiceAccount" {
        "secrets" "lists what others may hand out";
    }
    Shown "core.v1.ServicePort" {
        "appProtocol" "is a hint for others";
    }
    Warned "core.v1.ServiceSpec" {
        "ipFamilyPolicy" except ["SingleStack"] "has no effect: Services have IPv4 addresses only";
        "loadBalancerIP" "has no effect: a load balancer Service is published on the nodes' addresses";
    }
    Refused "core.v1.ServiceSpec" {
        "ipFamilies" except ["IPv4"] "asks for IPv6, which is not supported";
        "loadBalancerClass" "names another load balancer; Windlass has only its own";
    }
    Refused "core.v1.PodSpec" {
        "ephemeralContainers" "can't be part of a manifest, in Kubernetes neither";
        "hostUsers" except ["true"] "asks for a user namespace, which is not supported";
        "hostnameOverride" "is not supported";
        "resourceClaims" "is not supported: devices can't be claimed";
        "resources" "is not supported: give each container its own";
        "runtimeClassName" "is not supported: containers run by Docker's own runtime";
        "schedulerName" except ["default-scheduler"] "names another scheduler; Windlass has only its own, default-scheduler";
        "schedulingGates" "is not supported: the pod would have to wait for somebody to lift them";
        "schedulingGroup" "is not supported: pods are placed one by one";
    }
    Warned "core.v1.PodSpec" {
        "evictionResponders" "has no effect";
        "priority" "has no effect: a pod's priority follows from its priorityClassName";
    }
    Refused "core.v1.PodOS" {
        "name" except ["linux"] "asks for another operating system; Windlass runs Linux containers";
    }
    Warned "core.v1.Container" {
        "resizePolicy" "has no effect: a change of resources makes the pod anew";
    }
    Refused "core.v1.Container" {
        "restartPolicyRules" "is not supported";
        "volumeDevices" "is not supported: raw block devices can't be claimed";
    }
    Refused "core.v1.EnvVarSource" {
        "fileKeyRef" "is not supported";
    }
    Refused "core.v1.HTTPGetAction" {
        "protocol" "is newer than this version of Windlass, which does not carry it out";
    }
    Refused "core.v1.GRPCAction" {
        "mode" "is newer than this version of Windlass, which does not carry it out";
    }
    Refused "core.v1.ResourceRequirements" {
        "claims" "is not supported: devices can't be claimed";
    }
    Warned "core.v1.SecurityContext" {
        "seLinuxOptions" "has no effect: Docker gives containers their SELinux labels";
    }
    Refused "core.v1.SecurityContext" {
        "windowsOptions" "is for Windows; Windlass runs Linux containers";
    }
    Warned "core.v1.PodSecurityContext" {
        "seLinuxChangePolicy" "has no effect: Docker gives containers their SELinux labels";
        "seLinuxOptions" "has no effect: Docker gives containers their SELinux labels";
    }
    Refused "core.v1.PodSecurityContext" {
        "supplementalGroupsPolicy" except ["Merge"] "is not supported: the groups of the image's user are always kept";
        "windowsOptions" "is for Windows; Windlass runs Linux containers";
    }
    Refused "core.v1.VolumeMount" {
        "bindMountOptions" "is newer than this version of Windlass, which does not carry it out";
        "recursiveReadOnly" except ["Disabled", "IfPossible"] "is not supported: mounts below a read-only mount stay writable";
    }
    Refused "core.v1.Volume" {
        "csi" "is not supported: there are no CSI drivers";
        "gitRepo" "is not supported: clone in an init container";
        "image" "is not supported: copy from the image in an init container";
        "nfs" "is not supported: mount it on the node and use hostPath";
    }
    Refused "core.v1.PersistentVolumeClaimSpec" {
        "dataSource" "is not supported: there are no snapshots, and volumes are not cloned";
        "dataSourceRef" "is not supported: there are no snapshots, and volumes are not cloned";
        "volumeAttributesClassName" "is not supported: there are no CSI drivers";
    }
    Refused "core.v1.PersistentVolumeSpec" {
        "csi" "is not supported: there are no CSI drivers; use local, hostPath, nfs, or a class of a Docker volume driver";
        "volumeAttributesClassName" "is not supported: there are no CSI drivers";
    }
    Warned "core.v1.LocalVolumeSource" {
        "fsType" "has no effect: what is mounted at the path is used as it is";
    }
    Dropped "core.v1.ObjectReference" {
        "resourceVersion" "is set by the API";
        "uid" "is set by the API";
    }
    Warned "core.v1.ObjectReference" {
        "fieldPath" "has no effect";
    }
    Warned "storage.v1.StorageClass" {
        "allowVolumeExpansion" "has no effect: volumes are not bounded in size, so a claim may ask for more at any time";
    }
    Refused "storage.v1.StorageClass" {
        "mountOptions" except [] "is not supported: give them to the driver, under parameters";
    }
    Refused "core.v1.ConfigMapVolumeSource" {
        "defaultUser" "is newer than this version of Windlass, which does not carry it out";
    }
    Refused "core.v1.SecretVolumeSource" {
        "defaultUser" "is newer than this version of Windlass, which does not carry it out";
    }
    Refused "core.v1.DownwardAPIVolumeSource" {
        "defaultUser" "is newer than this version of Windlass, which does not carry it out";
    }
    Refused "core.v1.ProjectedVolumeSource" {
        "defaultUser" "is newer than this version of Windlass, which does not carry it out";
    }
    Refused "core.v1.KeyToPath" {
        "user" "is newer than this version of Windlass, which does not carry it out";
    }
    Refused "core.v1.DownwardAPIVolumeFile" {
        "user" "is newer than this version of Windlass, which does not carry it out";
    }
    Refused "core.v1.EmptyDirVolumeSource" {
        "mode" "is newer than this version of Windlass, which does not carry it out";
    }
    Refused "core.v1.VolumeProjection" {
        "clusterTrustBundle" "is not supported";
        "podCertificate" "is not supported: no certificates are issued";
    }
    Warned "core.v1.VolumeProjection" {
        "serviceAccountToken" "has no effect yet: no tokens are issued, the file will be missing";
    }
};
