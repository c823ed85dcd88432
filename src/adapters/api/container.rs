//! Which container of this node somebody means, or why it can't be had.

use std::net::Ipv4Addr;

use super::reply::No;
use crate::kinds::name::{NodeName, PodKey, Uid};
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::kinds::status::{ContainerState, ContainerStatus};
use crate::plan::Pod;
use crate::view::picture::Picture;

/// What is wanted of a container.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Want {
    /// Its log: it may have ended.
    Log,
    /// The log of its life before this one.
    PreviousLog,
    /// Itself, running.
    Running,
}

/// What leads into a pod of this node.
pub(super) struct Inside {
    /// Which life of it.
    pub(super) uid: Uid,
    /// Docker's id of a container that runs: all of a pod's share its network.
    pub(super) container: String,
    /// The pod's address.
    pub(super) ip: Option<Ipv4Addr>,
}

/// What leads into a pod of this node, which must run.
pub(super) fn inside(picture: &Picture, key: &Key) -> Result<Inside, No> {
    let pod = here(picture, key)?;
    let status = pod.report.as_deref().map(|report| &report.status);
    let statuses = status
        .into_iter()
        .flat_map(|status| status.container_statuses.iter().chain(&status.init_container_statuses));
    let mut running = statuses.filter_map(|status| {
        let id = status.container_id.as_deref()?;
        matches!(status.state, ContainerState::Running(_)).then(|| bare(id))
    });
    let container = running.next().ok_or_else(|| {
        No::bad(format!("no container of pod {} runs: it is {}", key.name, pod.phase().as_str()))
    })?;
    let ip = status.and_then(|status| status.pod_ip);
    Ok(Inside { uid: pod.binding.uid.clone(), container, ip })
}

/// Whether this life of a pod goes on, on this node.
pub(super) fn lives(picture: &Picture, key: &Key, uid: &Uid) -> bool {
    here(picture, key)
        .is_ok_and(|pod| pod.binding.uid == *uid && !pod.is_gone() && !pod.phase().is_over())
}

/// Docker's id of a pod's container; of its only one where no name is given.
pub(super) fn find(
    picture: &Picture,
    key: &Key,
    name: Option<&str>,
    want: Want,
) -> Result<String, No> {
    let pod = here(picture, key)?;
    let shown = &key.name;
    let report = pod.report.as_deref();
    let apps = report.map_or(&[][..], |report| &report.status.container_statuses);
    let inits = report.map_or(&[][..], |report| &report.status.init_container_statuses);
    let named = |statuses: &[ContainerStatus]| {
        statuses.iter().map(|status| status.name.to_string()).collect::<Vec<_>>().join(" ")
    };
    let found = match (name, apps) {
        (Some(name), _) => apps.iter().chain(inits).find(|status| status.name.as_str() == name),
        (None, [only]) => Some(only),
        (None, []) => None,
        (None, _) => {
            let mut message = format!(
                "a container name must be specified for pod {shown}, choose one of: [{}]",
                named(apps)
            );
            if !inits.is_empty() {
                message = format!("{message} or one of the init containers: [{}]", named(inits));
            }
            return Err(No::bad(message));
        }
    };
    match (found, name) {
        (Some(status), _) => id(status, shown.as_str(), want),
        (None, Some(name)) if report.is_some() => {
            Err(No::bad(format!("container {name} is not valid for pod {shown}")))
        }
        _ => Err(No::bad(format!("no container of pod {shown} has been started yet"))),
    }
}

/// The node whose agent must be asked for a pod's containers; none if this one can tell, be it only
/// why there are none.
pub(super) fn elsewhere(picture: &Picture, key: &Key) -> Option<NodeName> {
    pod(picture, key).ok()?.node.filter(|node| *node != picture.node)
}

/// The pod of that name, which must be this node's.
fn here(picture: &Picture, key: &Key) -> Result<Pod, No> {
    let pod = pod(picture, key)?;
    let shown = &key.name;
    let Some(node) = &pod.node else {
        return Err(No::bad(format!("pod {shown} has no node yet")));
    };
    if *node != picture.node {
        // Only another agent asks for such a pod here, and ours is not the newest view of it.
        return Err(No::not_ready(format!(
            "as far as {} knows, pod {shown} runs on node {node}; try again",
            picture.node
        )));
    }
    Ok(pod)
}

/// The pod of that name.
pub(super) fn pod(picture: &Picture, key: &Key) -> Result<Pod, No> {
    let namespace = key.namespace.as_ref().filter(|_| key.kind == Kind::Pod);
    let pod = namespace.and_then(|namespace| picture.pod(&PodKey::new(namespace, &key.name)));
    pod.ok_or_else(|| No::object(key))
}

fn id(status: &ContainerStatus, pod: &str, want: Want) -> Result<String, No> {
    let last = match &status.last_state {
        ContainerState::Terminated(last) => last.container_id.as_deref(),
        _ => None,
    };
    let is_running = matches!(status.state, ContainerState::Running(_));
    let is_over = matches!(status.state, ContainerState::Terminated(_));
    let own = status.container_id.as_deref();
    let name = &status.name;
    let found = match want {
        Want::PreviousLog => last.ok_or_else(|| {
            format!("previous terminated container \"{name}\" in pod \"{pod}\" not found")
        }),
        Want::Log if is_running || is_over => own.ok_or_else(|| nothing(status, pod)),
        // Between two lives: the last words are what somebody wants to read.
        Want::Log => last.ok_or_else(|| nothing(status, pod)),
        Want::Running if is_running => own.ok_or_else(|| nothing(status, pod)),
        Want::Running => Err(format!("container {name} of pod {pod} does not run")),
    };
    found.map(bare).map_err(No::bad)
}

/// An id without the runtime's name before it: `docker://…`.
fn bare(id: &str) -> String {
    id.rsplit('/').next().unwrap_or(id).to_owned()
}

/// As kubelet says it.
fn nothing(status: &ContainerStatus, pod: &str) -> String {
    let reason = match &status.state {
        ContainerState::Waiting(waiting) => waiting.reason.as_str(),
        _ => "ContainerCreating",
    };
    format!("container \"{}\" in pod \"{pod}\" is waiting to start: {reason}", status.name)
}
