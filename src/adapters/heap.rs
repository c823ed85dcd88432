//! The process's heap: what a burst has left free goes back to the machine.
//!
//! A roll-out of hundreds of pods needs, for a few seconds, several times the memory of an agent at
//! rest. glibc keeps what is free between two things in use, so the agent would stay as large as in its
//! busiest moment.

use std::time::Duration;

/// So often it is asked whether there is something to give back.
pub(super) const TRIM_EVERY: Duration = Duration::from_secs(30);

/// After fewer events than this nothing worth the work can have been left.
const EVENTS_MIN: u32 = 500;

/// Lets all threads share one heap. By default glibc gives each thread one of its own, and what a burst
/// leaves free in one is of no use to the others: 68 MB instead of 40 with 100 pods.
#[allow(unsafe_code, reason = "glibc's settings have no other door")]
pub fn share_one() {
    // SAFETY: only sets a number, before there are other threads. Where it is refused, the agent is
    // larger and works as well.
    unsafe { nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1) };
}

/// Notices bursts, and cleans up after them.
#[derive(Debug, Default)]
pub(super) struct Trimmer {
    events: u32,
}

impl Trimmer {
    /// Notes that there was something to do.
    pub(super) fn note(&mut self) {
        self.events = self.events.saturating_add(1);
    }

    /// Gives free memory back if enough has happened.
    pub(super) fn trim(&mut self) {
        if std::mem::take(&mut self.events) >= EVENTS_MIN {
            give_back();
        }
    }
}

/// Gives free memory back to the machine. Takes some milliseconds at most.
#[allow(unsafe_code, reason = "glibc's heap has no other door")]
pub(super) fn give_back() {
    // SAFETY: touches only what is free; glibc locks its heap meanwhile.
    unsafe { nix::libc::malloc_trim(0) };
}
