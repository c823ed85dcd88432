//! The real world: each adapter carries out one of the [`crate::ports`] on this machine.
//!
//! Adapters do and decide nothing: what is wanted comes in as a call, what came of it goes out as an
//! answer or a fault. They bound every wait. What they list is ours by its mark, and what they are
//! asked to change comes from such lists.
//!
//! Floor 4: imports `kinds`, `ports`, and of the pure rooms what turns values into bytes.

pub mod api;
mod aside;
pub mod bundle;
pub mod clock;
pub mod conntrack;
pub mod dns;
pub mod docker;
pub mod engine;
pub mod files;
pub mod git;
mod heap;
pub mod hints;
pub mod home;
pub mod hooks;
mod http;
pub mod identity;
pub mod images;
pub mod iptables;
pub mod keyring;
pub mod lab;
pub mod line;
pub mod links;
mod nfnetlink;
pub mod probe;
mod protobuf;
mod reach;
pub(crate) mod spdy;
pub mod world;
