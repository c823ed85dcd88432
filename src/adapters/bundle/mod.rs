//! Bundles: commits and images in one sealed crate, for fleets that no line reaches.
//!
//! ```text
//!   create   desired repository ─▶ commits ┐
//!            registry, Docker, archives ───┴▶ a work directory ─▶ seal ─▶ one file, or pieces
//!   apply    seal ─▶ page ─▶ what it needs is there? ─▶ every byte ─▶ images: the node's store
//!                                                                  └▶ commits: the desired repository
//! ```
//! The rule: nothing is taken before everything was checked. A bundle is read twice: once to know that
//! it is whole, once to take it; and what is taken is checked again on the way. Images come before
//! commits, so whoever sees the commit finds its images. Every step can be repeated, so a power cut
//! costs the time since, and nothing else.
//!
//! The limit: who may send is decided by the seal of the bundle, not by the signatures of its commits.

pub mod apply;
mod bill;
pub mod create;
pub mod frame;
pub mod index;
pub mod pieces;
pub mod prune;
pub mod report;
pub mod sign;
pub mod watch;

use std::fmt;

pub(crate) use apply::lock;
pub use index::NAMESPACE;
pub(crate) use prune::newest_page;

/// Why a bundle is not taken, or not made, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// What is the matter.
    pub what: String,
    /// What to do next.
    pub hint: String,
}

impl Refused {
    /// A refusal.
    pub fn new(what: impl fmt::Display, hint: impl fmt::Display) -> Self {
        Self { what: what.to_string(), hint: hint.to_string() }
    }

    /// The bundle is not what it was when it was made.
    pub fn damaged(what: impl fmt::Display) -> Self {
        Self::new(
            format!("the bundle is damaged or was tampered with: {what}"),
            "copy it again from where it was made, and compare with `windlass bundle verify` there",
        )
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl std::error::Error for Refused {}
