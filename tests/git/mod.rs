//! The Git adapter against real repositories, real servers and real kills.

mod charts;
mod conformance;
mod gate;
mod measure;
mod notes;
mod openpgp;
mod source;
mod source_remote;
mod store_local;
mod store_remote;
mod storm;
mod tags;
mod trust;

use std::time::Duration;

use windlass::adapters::git::Timeouts;

/// Short, so that a silent server ends a test soon; long enough for a busy machine. Time-outs
/// belong to the process and the longest wish wins, so every test uses these.
fn timeouts() -> Timeouts {
    Timeouts {
        connect: Duration::from_secs(5),
        server: Duration::from_secs(5),
        local: Duration::from_secs(60),
        network: Duration::from_secs(60),
    }
}
