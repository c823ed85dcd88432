//! The Git adapter against real repositories, real servers and real kills.

mod conformance;
mod source;
mod source_remote;
mod store_local;
mod storm;
