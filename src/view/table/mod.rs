//! The columns of `get`, kind by kind, as an API server of Kubernetes fills them: kubectl prints what it
//! is sent, so a table here is what a person sees there.
//!
//! Columns and cells follow `k8s.io/kubernetes/pkg/printers/internalversion`; those of priority 1 are
//! shown by `-o wide`.

mod cells;
mod cluster;
mod network;
mod pods;
pub mod print;
mod workloads;

pub(in crate::view) use cells::{labels, selector};
pub(in crate::view) use cluster::{access_modes, phase, roles};
pub(in crate::view) use pods::{Summary, summary};

use serde_json::{Value, json};

use super::json::text;
use crate::kinds::registry::Kind;
use crate::kinds::time::Wall;

/// A column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Column {
    /// As the head says it, in words.
    pub name: &'static str,
    /// `string`, `integer`, `date`.
    pub holds: &'static str,
    /// 0 is always shown, 1 with `-o wide`.
    pub priority: u8,
}

/// How to make the cells of one object.
type Cells = fn(&Value, Wall) -> Vec<Value>;

const fn shown(name: &'static str) -> Column {
    Column { name, holds: "string", priority: 0 }
}

const fn count(name: &'static str) -> Column {
    Column { name, holds: "integer", priority: 0 }
}

const fn wide(name: &'static str) -> Column {
    Column { name, holds: "string", priority: 1 }
}

/// The columns of a kind.
pub fn columns(kind: Kind) -> &'static [Column] {
    layout(kind).0
}

/// The cells of an object of a kind, one for each column.
pub fn cells(kind: Kind, object: &Value, now: Wall) -> Vec<Value> {
    (layout(kind).1)(object, now)
}

fn layout(kind: Kind) -> (&'static [Column], Cells) {
    match kind {
        Kind::Pod => (pods::COLUMNS, pods::cells),
        Kind::ReplicaSet | Kind::ReplicationController => (workloads::SETS, workloads::set),
        Kind::Deployment => (workloads::DEPLOYMENTS, workloads::deployment),
        Kind::StatefulSet => (workloads::STATEFUL_SETS, workloads::stateful_set),
        Kind::DaemonSet => (workloads::DAEMON_SETS, workloads::daemon_set),
        Kind::Job => (workloads::JOBS, workloads::job),
        Kind::CronJob => (workloads::CRON_JOBS, workloads::cron_job),
        Kind::ControllerRevision => (workloads::REVISIONS, workloads::revision),
        Kind::HorizontalPodAutoscaler => (workloads::AUTOSCALERS, workloads::autoscaler),
        Kind::PodDisruptionBudget => (workloads::BUDGETS, workloads::budget),
        Kind::Service => (network::SERVICES, network::service),
        Kind::Endpoints => (network::ENDPOINTS, network::endpoints),
        Kind::EndpointSlice => (network::SLICES, network::slice),
        Kind::Ingress => (network::INGRESSES, network::ingress),
        Kind::IngressClass => (network::INGRESS_CLASSES, network::ingress_class),
        Kind::NetworkPolicy => (network::POLICIES, network::policy),
        Kind::Node => (cluster::NODES, cluster::node),
        Kind::Namespace => (cluster::NAMESPACES, cluster::namespace),
        Kind::Event => (cluster::EVENTS, cluster::event),
        Kind::Lease => (cluster::LEASES, cluster::lease),
        Kind::ConfigMap => (cluster::CONFIG_MAPS, cluster::config_map),
        Kind::Secret => (cluster::SECRETS, cluster::secret),
        Kind::ServiceAccount => (cluster::ACCOUNTS, cluster::account),
        Kind::PriorityClass => (cluster::PRIORITIES, cluster::priority),
        Kind::StorageClass => (cluster::STORAGE, cluster::storage),
        Kind::CSIDriver => (cluster::DRIVERS, cluster::driver),
        Kind::PersistentVolume => (cluster::VOLUMES, cluster::volume),
        Kind::PersistentVolumeClaim => (cluster::CLAIMS, cluster::claim),
        Kind::LimitRange | Kind::Role | Kind::ClusterRole => (cluster::CREATED, cluster::created),
        Kind::ResourceQuota => (cluster::QUOTAS, cluster::quota),
        Kind::RoleBinding | Kind::ClusterRoleBinding => (cluster::BINDINGS, cluster::binding),
    }
}

/// A column as a Table of the API describes it.
pub fn column_json(column: &Column) -> Value {
    json!({
        "name": column.name,
        "type": column.holds,
        "format": if column.name == "Name" { "name" } else { "" },
        "description": "",
        "priority": column.priority,
    })
}

fn name(object: &Value) -> Value {
    text(object, "metadata.name").into()
}
