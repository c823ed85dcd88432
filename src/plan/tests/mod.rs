//! The planner's tests at its one public function, as tables and short stories.
//!
//! A [`Fleet`] is a repository, a node and the coordinator's register: `push` commits manifests,
//! `turn` plans once, `work` lets the node do what was decided. Images tell how a program fares:
//! `v1`, `v2` … become ready at once, those that begin with `bad` never do.

mod accept;
mod allocate;
mod apps;
mod budgets;
mod canary;
mod claim;
mod cronjobs;
mod daemons;
mod drain;
mod evict;
mod fence;
mod fleet;
mod fold;
mod jobs;
mod library;
mod limits;
mod liveness;
mod namespace;
mod properties;
mod refusals;
mod requests;
mod rollout;
mod schedule;
mod scratch;
mod set_properties;
mod sets;
mod single;
mod stateful;
mod storage;
mod waves;
mod windows;

use crate::kinds::name::Name;
use crate::kinds::status::{ContainerState, ContainerStatus};
use fleet::{
    Fleet, Mood, daemon_set, deployment, manifest, pod, replica_set, service, stateful_set,
};

/// What is said of a container that waits to be started.
fn container(name: &str) -> ContainerStatus {
    ContainerStatus {
        name: Name::trusted(name),
        state: ContainerState::default(),
        last_state: ContainerState::default(),
        ready: false,
        started: None,
        restart_count: 0,
        image: String::new(),
        image_id: String::new(),
        container_id: None,
    }
}
