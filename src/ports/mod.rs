//! How we touch the world: for each part of it a handful of verbs and the plain data that goes in
//! and comes out.
//!
//! Nothing here does anything. The agent says what it wants done as a [`Call`]; whoever hosts it,
//! [`crate::adapters`] in earnest or [`crate::sim`] in play, does it and brings back an [`Answer`]
//! or a [`Fault`]. There are no traits with async methods, because the agent never waits: it is an
//! event machine (docs/DESIGN.md, Hard cases 4), and an event is all that comes back.
//!
//! ```text
//!   source   the desired repository, read only      links     veth pairs, addresses, routes
//!   store    the state refs                         files     what pods read from the host
//!   runtime  Docker                                 names     DNS
//!   filter   iptables                               probe     is that container well?
//!   peers    words to other nodes                    outcomes  what became of commits, told outside
//!   larder   what lies here of images, beside runtime
//! ```
//!
//! Floor 0: imports `kinds` only.

pub mod credentials;
pub mod files;
pub mod filter;
pub mod larder;
pub mod links;
pub mod marks;
pub mod names;
pub mod outcomes;
pub mod peers;
pub mod probe;
pub mod runtime;
pub mod source;
pub mod store;

use std::fmt;
use std::sync::Arc;

use crate::kinds::age::Keyring;

/// Something to be done in the world.
#[derive(Clone, Debug)]
pub enum Call {
    /// To the desired repository.
    Source(source::Call),
    /// To the state store.
    Store(store::Call),
    /// To Docker.
    Runtime(runtime::Call),
    /// To the packet filter.
    Filter(filter::Call),
    /// To links, addresses and routes.
    Links(links::Call),
    /// To the files pods read.
    Files(files::Call),
    /// Ask a container whether it is well.
    Probe(probe::Call),
    /// To the DNS server.
    Names(names::Call),
    /// To other nodes.
    Peers(peers::Call),
    /// To those outside who want to know what became of commits.
    Outcomes(outcomes::Call),
    /// Read the keys to encrypted Secrets.
    Keyring,
}

/// What came of a [`Call`].
#[derive(Clone, Debug)]
pub enum Answer {
    /// From the desired repository.
    Source(source::Answer),
    /// From the state store.
    Store(store::Answer),
    /// From Docker.
    Runtime(runtime::Answer),
    /// From the packet filter.
    Filter(filter::Answer),
    /// From links, addresses and routes.
    Links(links::Answer),
    /// From the files.
    Files(files::Answer),
    /// From a container.
    Probe(probe::Answer),
    /// From the DNS server.
    Names(names::Answer),
    /// From the way to other nodes.
    Peers(peers::Answer),
    /// From those outside.
    Outcomes(outcomes::Answer),
    /// What this node can open.
    Keyring(Arc<Keyring>),
}

/// Why a call failed, sorted by who must act.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// Who must act.
    pub kind: FaultKind,
    /// What failed, on what, and why, as a sentence for people.
    pub message: String,
}

/// Who must act on a [`Fault`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FaultKind {
    /// Us: try again, with back-off.
    Transient,
    /// Us: the call took longer than its bound; whether it took effect is not known.
    Deadline,
    /// A person: a key, a path, a permission, a disk.
    Stalled,
    /// Nobody: the thing does not exist.
    NotFound,
}

impl Fault {
    /// A fault that may pass by itself.
    pub fn transient(message: impl fmt::Display) -> Self {
        Self { kind: FaultKind::Transient, message: message.to_string() }
    }

    /// A fault that needs a person.
    pub fn stalled(message: impl fmt::Display) -> Self {
        Self { kind: FaultKind::Stalled, message: message.to_string() }
    }

    /// The thing does not exist.
    pub fn not_found(message: impl fmt::Display) -> Self {
        Self { kind: FaultKind::NotFound, message: message.to_string() }
    }

    /// The call took too long.
    pub fn deadline(message: impl fmt::Display) -> Self {
        Self { kind: FaultKind::Deadline, message: message.to_string() }
    }

    /// One fault for all of `faults`, of the kind that is hardest to mend; none where there is none.
    pub fn all(faults: Vec<Self>) -> Result<(), Self> {
        use FaultKind::{Deadline, NotFound, Stalled, Transient};
        let has = |kind: &FaultKind| faults.iter().any(|fault| fault.kind == *kind);
        let Some(kind) = [Stalled, Deadline, Transient, NotFound].into_iter().find(has) else {
            return Ok(());
        };
        let messages: Vec<String> = faults.into_iter().map(|fault| fault.message).collect();
        Err(Self { kind, message: messages.join("; ") })
    }

    /// Says what was being done when it happened.
    #[must_use]
    pub fn while_doing(mut self, what: impl fmt::Display) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}
