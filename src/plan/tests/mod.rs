//! The planner's tests at its one public function, as tables and short stories.
//!
//! A [`Fleet`] is a repository, a node and the coordinator's register: `push` commits manifests,
//! `turn` plans once, `work` lets the node do what was decided. Images tell how a program fares:
//! `v1`, `v2` … become ready at once, those that begin with `bad` never do.

mod accept;
mod allocate;
mod apps;
mod budgets;
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

use fleet::{
    Fleet, Mood, daemon_set, deployment, manifest, pod, replica_set, service, stateful_set,
};
