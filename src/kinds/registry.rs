//! The kinds Windlass knows, one row each: how `kubectl` names them, where they live, and what
//! Windlass does with them. A newcomer who wants to add a kind begins here.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::name::NameRule;

/// The version of Kubernetes whose API is spoken, major and minor: that of the types we are built with.
pub const KUBERNETES: (&str, &str) = ("1", "34");

/// What happens to a manifest of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Support {
    /// It is carried out.
    Runs,
    /// It is accepted and shown, and a warning says that nothing acts on it yet: ignoring it does
    /// no harm.
    Shown,
    /// It is refused, unless `windlass.yaml` lists it under `unenforced`: ignoring it would leave
    /// open what its author wanted closed.
    Refused,
    /// Only Windlass makes such objects; in a manifest they are refused.
    Made,
}

/// A kind's row.
#[derive(Debug)]
pub struct KindInfo {
    /// The kind.
    pub kind: Kind,
    /// As written in a manifest.
    pub name: &'static str,
    /// API group; empty for core.
    pub group: &'static str,
    /// API version within the group.
    pub version: &'static str,
    /// In URLs and on the command line.
    pub plural: &'static str,
    /// On the command line.
    pub singular: &'static str,
    /// On the command line.
    pub short: &'static [&'static str],
    /// Whether objects live in a namespace.
    pub namespaced: bool,
    /// Whether `get all` lists it.
    pub in_all: bool,
    /// The rule for its objects' names.
    pub names: NameRule,
    /// What Windlass does with it.
    pub support: Support,
}

macro_rules! kinds {
    ($($(#[$doc:meta])* $kind:ident, $group:literal, $version:literal, $plural:literal, $singular:literal,
       [$($short:literal),*], $scope:ident, $all:literal, $names:ident, $support:ident;)*) => {
        /// A kind of object. The order is the order in which objects are listed and applied.
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $($(#[$doc])* $kind,)* }

        /// Every kind, in order.
        pub const KINDS: &[KindInfo] = &[$(KindInfo {
            kind: Kind::$kind,
            name: stringify!($kind),
            group: $group,
            version: $version,
            plural: $plural,
            singular: $singular,
            short: &[$($short),*],
            namespaced: kinds!(@scope $scope),
            in_all: $all,
            names: NameRule::$names,
            support: Support::$support,
        },)*];
    };
    (@scope Namespaced) => { true };
    (@scope Cluster) => { false };
}

kinds! {
    /// A room for names.
    Namespace, "", "v1", "namespaces", "namespace", ["ns"], Cluster, false, Label, Runs;
    /// A machine.
    Node, "", "v1", "nodes", "node", ["no"], Cluster, false, Subdomain, Runs;
    /// How important pods are to each other.
    PriorityClass, "scheduling.k8s.io", "v1", "priorityclasses", "priorityclass", ["pc"], Cluster, false, Subdomain, Runs;
    /// How volumes are made.
    StorageClass, "storage.k8s.io", "v1", "storageclasses", "storageclass", ["sc"], Cluster, false, Subdomain, Runs;
    /// A storage driver.
    CSIDriver, "storage.k8s.io", "v1", "csidrivers", "csidriver", [], Cluster, false, Subdomain, Shown;
    /// A volume.
    PersistentVolume, "", "v1", "persistentvolumes", "persistentvolume", ["pv"], Cluster, false, Subdomain, Runs;
    /// Which Ingress controller serves an Ingress.
    IngressClass, "networking.k8s.io", "v1", "ingressclasses", "ingressclass", [], Cluster, false, Subdomain, Shown;
    /// Rights everywhere.
    ClusterRole, "rbac.authorization.k8s.io", "v1", "clusterroles", "clusterrole", [], Cluster, false, PathSegment, Shown;
    /// Who has rights everywhere.
    ClusterRoleBinding, "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "clusterrolebinding", [], Cluster, false, PathSegment, Shown;
    /// Rights in a namespace.
    Role, "rbac.authorization.k8s.io", "v1", "roles", "role", [], Namespaced, false, PathSegment, Shown;
    /// Who has rights in a namespace.
    RoleBinding, "rbac.authorization.k8s.io", "v1", "rolebindings", "rolebinding", [], Namespaced, false, PathSegment, Shown;
    /// Who a pod is.
    ServiceAccount, "", "v1", "serviceaccounts", "serviceaccount", ["sa"], Namespaced, false, Subdomain, Runs;
    /// Defaults and bounds for containers of a namespace.
    LimitRange, "", "v1", "limitranges", "limitrange", ["limits"], Namespaced, false, Subdomain, Runs;
    /// What a namespace may use.
    ResourceQuota, "", "v1", "resourcequotas", "resourcequota", ["quota"], Namespaced, false, Subdomain, Runs;
    /// Configuration.
    ConfigMap, "", "v1", "configmaps", "configmap", ["cm"], Namespaced, false, Subdomain, Runs;
    /// Confidential configuration.
    Secret, "", "v1", "secrets", "secret", [], Namespaced, false, Subdomain, Runs;
    /// A request for a volume.
    PersistentVolumeClaim, "", "v1", "persistentvolumeclaims", "persistentvolumeclaim", ["pvc"], Namespaced, false, Subdomain, Runs;
    /// Pods of one purpose behind one address.
    Service, "", "v1", "services", "service", ["svc"], Namespaced, true, DnsLabel, Runs;
    /// Where a Service's packets go (old form).
    Endpoints, "", "v1", "endpoints", "endpoints", ["ep"], Namespaced, false, Subdomain, Refused;
    /// Where a Service's packets go.
    EndpointSlice, "discovery.k8s.io", "v1", "endpointslices", "endpointslice", [], Namespaced, false, Subdomain, Refused;
    /// HTTP from outside.
    Ingress, "networking.k8s.io", "v1", "ingresses", "ingress", ["ing"], Namespaced, false, Subdomain, Shown;
    /// Which pods may talk.
    NetworkPolicy, "networking.k8s.io", "v1", "networkpolicies", "networkpolicy", ["netpol"], Namespaced, false, Subdomain, Refused;
    /// How many pods may be missing on purpose.
    PodDisruptionBudget, "policy", "v1", "poddisruptionbudgets", "poddisruptionbudget", ["pdb"], Namespaced, false, Subdomain, Runs;
    /// Containers that share a network and a fate.
    Pod, "", "v1", "pods", "pod", ["po"], Namespaced, true, Subdomain, Runs;
    /// A number of pods (old form).
    ReplicationController, "", "v1", "replicationcontrollers", "replicationcontroller", ["rc"], Namespaced, true, Subdomain, Runs;
    /// A number of pods.
    ReplicaSet, "apps", "v1", "replicasets", "replicaset", ["rs"], Namespaced, true, Subdomain, Runs;
    /// A number of pods, rolled from one template to the next.
    Deployment, "apps", "v1", "deployments", "deployment", ["deploy"], Namespaced, true, Subdomain, Runs;
    /// Pods with names of their own.
    StatefulSet, "apps", "v1", "statefulsets", "statefulset", ["sts"], Namespaced, true, Label, Runs;
    /// A pod on every node.
    DaemonSet, "apps", "v1", "daemonsets", "daemonset", ["ds"], Namespaced, true, Subdomain, Runs;
    /// A remembered template.
    ControllerRevision, "apps", "v1", "controllerrevisions", "controllerrevision", [], Namespaced, false, Subdomain, Made;
    /// Pods that end.
    Job, "batch", "v1", "jobs", "job", [], Namespaced, true, Subdomain, Runs;
    /// Jobs at set times.
    CronJob, "batch", "v1", "cronjobs", "cronjob", ["cj"], Namespaced, true, Subdomain, Runs;
    /// Replicas by load.
    HorizontalPodAutoscaler, "autoscaling", "v2", "horizontalpodautoscalers", "horizontalpodautoscaler", ["hpa"], Namespaced, true, Subdomain, Shown;
    /// Something that happened.
    Event, "", "v1", "events", "event", ["ev"], Namespaced, false, Subdomain, Made;
    /// Who holds a role, and until when.
    Lease, "coordination.k8s.io", "v1", "leases", "lease", [], Namespaced, false, Subdomain, Made;
}

impl Kind {
    /// The kind's row.
    pub fn info(self) -> &'static KindInfo {
        &KINDS[self as usize]
    }

    /// The kind of a manifest's `kind` in a `group`, whatever its version.
    pub fn find(group: &str, name: &str) -> Option<Self> {
        KINDS.iter().find(|info| info.group == group && info.name == name).map(|info| info.kind)
    }

    /// The kind a person means on the command line: plural, singular, short or kind name, in any
    /// case, optionally with the group (`deployments.apps`).
    pub fn parse_resource(text: &str) -> Option<Self> {
        let text = text.to_ascii_lowercase();
        let (name, group) = match text.split_once('.') {
            Some((name, group)) => (name, Some(group)),
            None => (text.as_str(), None),
        };
        KINDS
            .iter()
            .filter(|info| group.is_none_or(|group| info.group == group))
            .find(|info| info.plural == name || info.singular == name || info.short.contains(&name))
            .map(|info| info.kind)
    }

    /// The kind of a resource in a URL.
    pub fn from_plural(group: &str, plural: &str) -> Option<Self> {
        KINDS.iter().find(|info| info.group == group && info.plural == plural).map(|i| i.kind)
    }

    /// The kind's name as in a manifest.
    pub fn name(self) -> &'static str {
        self.info().name
    }

    /// The kind's plural as in a URL and in the state store's paths.
    pub fn plural(self) -> &'static str {
        self.info().plural
    }

    /// As a manifest's `apiVersion` says it: `v1`, `apps/v1`.
    pub fn api_version(self) -> String {
        let info = self.info();
        match info.group {
            "" => info.version.to_owned(),
            group => format!("{group}/{}", info.version),
        }
    }

    /// As `kubectl` prints an object's type: `deployment.apps`, `pod`.
    pub fn resource_name(self) -> String {
        let info = self.info();
        match info.group {
            "" => info.singular.to_owned(),
            group => format!("{}.{group}", info.singular),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Kind {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

impl<'de> Deserialize<'de> for Kind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        KINDS
            .iter()
            .find(|info| info.name == text)
            .map(|info| info.kind)
            .ok_or_else(|| serde::de::Error::custom(format!("unknown kind '{text}'")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_stands_at_its_kind() {
        for (at, info) in KINDS.iter().enumerate() {
            assert_eq!(info.kind as usize, at, "{}", info.name);
            assert_eq!(info.kind.info().name, info.name);
        }
    }

    #[test]
    fn people_may_name_a_kind_in_every_way_kubectl_knows() {
        let table = [
            ("po", Some(Kind::Pod)),
            ("Pods", Some(Kind::Pod)),
            ("deploy", Some(Kind::Deployment)),
            ("deployments.apps", Some(Kind::Deployment)),
            ("deployment.batch", None),
            ("netpol", Some(Kind::NetworkPolicy)),
            ("gadget", None),
        ];
        for (text, kind) in table {
            assert_eq!(Kind::parse_resource(text), kind, "{text}");
        }
    }
}
