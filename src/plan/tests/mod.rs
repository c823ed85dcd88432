//! The planner's tests at its one public function, as tables and short stories.
//!
//! A [`Fleet`] is a repository, a node and the coordinator's register: `push` commits manifests,
//! `turn` plans once, `work` lets the node do what was decided. Images tell how a program fares:
//! `v1`, `v2` … become ready at once, those that begin with `bad` never do.

mod accept;
mod allocate;
mod claim;
mod drain;
mod evict;
mod fence;
mod fleet;
mod fold;
mod library;
mod liveness;
mod properties;
mod requests;
mod rollout;
mod schedule;
mod sets;
mod single;

use fleet::{Fleet, Mood, deployment, manifest, pod, replica_set, service};
