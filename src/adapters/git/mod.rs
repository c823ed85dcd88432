//! Git as a postman and as a safe: it brings what people wrote, and keeps what agents decided.
//!
//! ```text
//!   desired repository ──fetch──▶ cache (bare) ──▶ source::Source     people write, we read
//!   state store ◀──compare-and-swap──▶            store::Store       agents write and read
//!        │
//!        ├─ a path on this machine   store_local: opened directly, flock, fsync
//!        └─ ssh, http(s), git://     store_remote: negotiated push, a cache beside it
//! ```
//!
//! The rule: a write took effect if and only if the ref is the commit we made. Whatever libgit2
//! says about a write, the ref is read again before anybody is told anything.
//!
//! The limit: libgit2 calls block, and some can't be interrupted. They run on threads of our own
//! under a deadline that gives the thread up ([`workers`]); how many may be given up is bounded.
//!
//! In reading order:

mod setup;
mod workers;

mod access;
mod fault;
mod known_hosts;
mod locks;
mod place;

mod durable;
mod repo;
mod room;

mod packfile;
mod repack;
mod tree;

mod cache;
mod copy;
pub mod source;

mod push;

mod fence;
mod history;
mod register;
pub mod store;
mod store_local;
mod store_remote;

pub(crate) mod bundle;
pub(crate) mod chart;
pub mod gate;
pub mod inspect;
pub mod notes;
pub mod watch;

pub use access::Credentials;
pub(crate) use durable::write_file;
pub(crate) use locks::clear as clear_locks;
pub use notes::{Notes, NotesConfig};
pub(crate) use place::local_path;
pub use setup::Timeouts;
pub use source::{Source, SourceConfig};
pub use store::{Store, StoreConfig};
