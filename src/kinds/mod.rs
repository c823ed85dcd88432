//! What things are: small total types, made valid once, at the door.
//!
//! A value that exists is right: whoever holds a [`name::Name`] need not check it, whoever holds a
//! [`quantity::Quantity`] need not parse it. Rooms above work on these, never on raw manifests.
//!
//! Floor 0: imports nothing of ours.

pub mod age;
pub mod binding;
pub mod canary;
pub mod certified;
pub mod config;
pub mod container;
pub mod digest;
pub mod finding;
pub mod fleet;
pub mod image;
pub mod indexes;
pub mod individual;
pub mod job;
pub mod labels;
pub mod lease;
pub mod limits;
pub mod name;
pub mod node;
pub mod object;
pub mod pod;
pub mod quantity;
pub mod quota;
pub mod registry;
pub mod rules;
pub mod schedule;
pub mod service;
pub mod status;
pub mod storage;
pub mod time;
pub mod volume;
pub mod window;
pub mod workload;
pub mod zone;
