//! The Git adapter against real repositories, real servers and real kills.

mod conformance;
mod store_local;
mod storm;
