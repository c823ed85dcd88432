//! The real world: what [`crate::ports`] asks for, done.
//!
//! Adapters do and decide nothing: what to do comes in as a value, what came of it goes out as one.
//! Every call is bounded in time.
//!
//! Floor 4: imports `kinds`, `ports`, and of the pure rooms what turns values into bytes.

pub mod conntrack;
pub mod dns;
pub mod iptables;
pub mod links;
mod nfnetlink;
