//! The real world: each adapter carries out one of the [`crate::ports`] on this machine.
//!
//! Adapters do and decide nothing: what is wanted comes in as a call, what came of it goes out as an
//! answer or a fault. They bound every wait. What they list is ours by its mark, and what they are
//! asked to change comes from such lists.

pub mod docker;
pub mod files;
pub mod probe;
