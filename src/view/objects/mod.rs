//! Everything there is, as Kubernetes' own JSON.
//!
//! Three sorts of objects, and where each comes from:
//! ```text
//!   written   in the desired repository; the JSON is the manifest's with defaults   Deployment, Service …
//!   made      by the coordinator, out of records of the state store                 ReplicaSet, Pod …
//!   given     because every cluster has them                                        Namespace default …
//! ```
//! A status is computed from what the nodes report, never stored. No resource version is given here:
//! that is [`super::cache`]'s.

mod budget;
mod cluster;
mod job;
mod meta;
mod node;
mod pod;
pub(super) mod pull;
mod quota;
mod service;
mod sets;
pub(in crate::view) mod storage;
mod workload;
mod written;

use serde_json::Value;

use super::picture::Picture;
use crate::kinds::digest::Digest;
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;

pub(in crate::view) use meta::place;
pub use meta::{ANNOTATION_COMMIT, ANNOTATION_PREFIX, ANNOTATION_RECIPIENTS, ANNOTATION_SOURCE};
pub(in crate::view) use meta::{
    ANNOTATION_CORDONED, ANNOTATION_DRAINING, ANNOTATION_FENCED, ANNOTATION_PULLED,
};
pub(in crate::view) use node::{CONDITION_KEY, CONDITION_SETTINGS, key_doubt_of, settings_of};
pub(in crate::view) use workload::ANNOTATION_REVISION;
pub use written::reveal;

/// An object as it is shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Shown {
    /// What it is called.
    pub key: Key,
    /// Its JSON; of a Secret, without values.
    pub json: Value,
    /// Stands for what `json` leaves out, so that a change of it is noticed.
    pub hidden: Option<Digest>,
}

impl Shown {
    fn new(key: Key, json: Value) -> Self {
        Self { key, json, hidden: None }
    }
}

/// Every object of a kind, in order of namespace and name.
pub fn list(picture: &Picture, kind: Kind) -> Vec<Shown> {
    let mut shown = match kind {
        Kind::Pod => pod::list(picture),
        Kind::ReplicaSet | Kind::ReplicationController => workload::sets(picture, kind),
        Kind::Deployment => workload::deployments(picture),
        Kind::StatefulSet => sets::stateful_sets(picture),
        Kind::DaemonSet => sets::daemon_sets(picture),
        Kind::ControllerRevision => sets::revisions(picture),
        Kind::Job => job::jobs(picture),
        Kind::CronJob => job::cron_jobs(picture),
        Kind::Service => service::services(picture),
        Kind::EndpointSlice => service::slices(picture),
        Kind::Endpoints => service::endpoints(picture),
        Kind::Node => node::list(picture),
        Kind::Namespace => cluster::namespaces(picture),
        Kind::ServiceAccount => cluster::service_accounts(picture),
        Kind::PersistentVolumeClaim => storage::claims(picture),
        Kind::PersistentVolume => storage::volumes(picture),
        Kind::StorageClass => storage::classes(picture),
        Kind::PriorityClass => cluster::priority_classes(picture),
        Kind::PodDisruptionBudget => budget::list(picture),
        Kind::ResourceQuota => quota::list(picture),
        Kind::Event => cluster::events(picture),
        Kind::Lease => cluster::leases(picture),
        _ => written::list(picture, kind),
    };
    put_in_order(&mut shown, |shown| &shown.key);
    shown
}

/// What became of an object since an earlier picture.
#[derive(Clone, Debug, PartialEq)]
pub enum Since {
    /// It would be drawn the same.
    Same(Key),
    /// It may look otherwise.
    Drawn(Shown),
}

impl Since {
    fn key(&self) -> &Key {
        match self {
            Self::Same(key) | Self::Drawn(Shown { key, .. }) => key,
        }
    }
}

/// Whether [`list_since`] makes use of the earlier picture. Pods of which everything is as it was before are
/// not drawn again: there are many, and on a busy node every moment brings news of one of them.
pub fn goes_by_an_earlier(kind: Kind) -> bool {
    kind == Kind::Pod
}

/// Every object of a kind, as [`list`] has them.
pub fn list_since(before: &Picture, picture: &Picture, kind: Kind) -> Vec<Since> {
    if !goes_by_an_earlier(kind) {
        return list(picture, kind).into_iter().map(Since::Drawn).collect();
    }
    let mut all = pod::list_since(before, picture);
    put_in_order(&mut all, Since::key);
    all
}

/// By namespace and name. Two apps that hold one object are refused at the door; should it happen all the
/// same, a client must not see a name twice.
fn put_in_order<T>(all: &mut Vec<T>, key: impl Fn(&T) -> &Key) {
    all.sort_by(|one, other| key(one).cmp(key(other)));
    all.dedup_by(|later, earlier| key(later) == key(earlier));
}

/// One object.
pub fn find(picture: &Picture, key: &Key) -> Option<Shown> {
    match key.kind {
        Kind::Pod => pod::find(picture, key),
        _ => list(picture, key.kind).into_iter().find(|shown| shown.key == *key),
    }
}
