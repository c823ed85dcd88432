//! The whole program on real parts: push, and see what runs.

mod apps;
mod deploy;
mod failures;
mod fleet;
mod jobs;
mod nodes;
mod operate;
mod refuse;
mod remotes;
mod sets;
mod storage;
mod trust;
