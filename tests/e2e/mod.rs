//! The whole program on real parts: push, and see what runs.

mod alone;
mod apps;
mod charts;
mod deploy;
mod failures;
mod fleet;
mod fleet_five;
mod fleet_keys;
mod jobs;
mod larder;
mod nodes;
mod offline;
mod operate;
mod refuse;
mod remotes;
mod secrets;
mod sets;
mod storage;
mod trust;
