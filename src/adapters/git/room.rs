//! Is there room on the disk? Asked before libgit2 writes a pack, and while it does.
//!
//! libgit2 writes packs through mapped memory, of which it makes only every last page sure. On a
//! full disk that is no error but a signal (SIGBUS) that ends the agent, at each start anew. So a
//! pack is not begun, and not gone on with, when the disk is nearly full.

use std::path::Path;

use nix::sys::statvfs::statvfs;

use crate::ports::Fault;

/// What must be free while a pack is written: more than libgit2 writes between two questions.
const FREE_BYTES_MIN: u64 = 16 << 20;
/// How much is written between two questions.
const STEP_BYTES: usize = 1 << 20;

/// Refuses to go on if the disk of `path` has no room for `bytes` more.
pub(super) fn check(path: &Path, bytes: u64) -> Result<(), Fault> {
    let Ok(disk) = statvfs(path) else {
        // Whatever is wrong will be said by who reads or writes there.
        return Ok(());
    };
    let free = disk.blocks_available().saturating_mul(disk.fragment_size());
    if free >= bytes.saturating_add(FREE_BYTES_MIN) {
        return Ok(());
    }
    Err(Fault::stalled(format!(
        "the disk of {} is nearly full: {} MB are free, {} are needed. Nothing was lost and \
         running pods are untouched; free some space on that disk and it goes on by itself.",
        path.display(),
        free >> 20,
        bytes.saturating_add(FREE_BYTES_MIN) >> 20,
    )))
}

/// Asks now and then while something is written.
pub(super) struct Meter<'a> {
    path: &'a Path,
    written: usize,
    asked_at: usize,
}

impl<'a> Meter<'a> {
    pub(super) fn new(path: &'a Path) -> Self {
        Self { path, written: 0, asked_at: 0 }
    }

    /// Notes that so much has been written in all.
    pub(super) fn reached(&mut self, bytes: usize) -> Result<(), Fault> {
        self.written = bytes;
        if bytes < self.asked_at.saturating_add(STEP_BYTES) {
            return Ok(());
        }
        self.asked_at = bytes;
        check(self.path, 0)
    }

    /// Notes that so much more has been written.
    pub(super) fn add(&mut self, bytes: usize) -> Result<(), Fault> {
        self.reached(self.written.saturating_add(bytes))
    }
}
