//! Where packets and names go, as values: like a railway's timetable, it is printed whole, compared
//! with the last one whole, and moves no train by itself.
//!
//! The rule: everything here is computed from its arguments. What comes out (rules, names, the text
//! that changes the ones that are there into the ones that are wanted) is written by
//! [`crate::adapters`]; the same input gives the same bytes. The limit: IPv4 only.
//!
//! ```text
//!   Service + pods ──endpoints──▶ Endpoint…  ─┬─ rules ──▶ RuleSet ── restore ──▶ iptables-restore's text
//!                                             │               └───── trace ─────▶ where a packet would go
//!                                             └─ zone ───▶ Zone ──── dns::answer ▶ the answer to a question
//!   other nodes ──paths::lay──▶ NodeNetwork: routes, or VXLAN
//! ```
//!
//! Floor 2: imports `kinds` and `ports` only.

pub mod input;

pub mod endpoints;

pub mod paths;

pub mod rules;

mod service;

mod pick;

mod tree;

mod chains;

pub mod restore;

pub mod flows;

pub mod trace;

pub mod zone;

pub mod dns;

pub mod words;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

pub use endpoints::{PodView, endpoints};
pub use flows::stale_flows;
pub use input::{DnsListener, HostPort, Input, ServiceView};
pub use restore::restore;
pub use rules::rules;
pub use zone::{ZoneInput, zone};
