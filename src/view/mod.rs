//! What people and kubectl are shown.
//!
//! A tower clock's face: the works turn behind it whether or not somebody looks, and looking changes
//! nothing. Everything is drawn from one [`picture::Picture`], so that two answers given at the same
//! moment agree with each other.
//!
//! ```text
//!   Picture ─┬─ objects   Kubernetes' JSON of everything ──┬─ table     the columns of `get`
//!            │                 │                           └─ describe  one object, told
//!            │                 └─ cache    versions, lists, watches
//!            ├─ why       why a pod is where it is, or why it does not run
//!            │    └─ weigh  how nodes suit a pod now, rule by rule
//!            └─ status    how the whole stands
//!   a node's stock ── images   which images lie there, and why
//! ```
//!
//! The rule: no I/O, no clock, no secrets. A Secret's values are laid into its JSON at the last moment,
//! by [`objects::reveal`], for a caller that asked for the object itself; nothing else here has them.
//!
//! The limit: what another node's containers print is not here; only what nodes have reported.
//!
//! Floor 2, the uppermost room of it: imports `kinds`, `ports`, `desired`, `state`, and the values that
//! `plan`, `node` and `net` are given and give.

pub mod cache;
pub mod describe;
pub mod images;
mod json;
pub mod objects;
pub mod picture;
pub mod select;
pub mod status;
pub mod table;
pub mod tabs;
mod weigh;
pub mod why;
