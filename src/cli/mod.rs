//! What a person sees: one file per command.
//!
//! Floor 5: imports everything.

pub mod agent;
pub mod config;
pub mod log;
mod notify;
