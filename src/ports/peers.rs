//! Words between nodes: small, signed, and never needed.
//!
//! A shout across the harbour: it makes the other look sooner, and proves nothing but that somebody
//! is there. What has moved is always read from the store itself (docs/DESIGN.md, Hard cases 15).

use std::net::SocketAddrV4;

use crate::kinds::binding::{Generation, Oid};
use crate::kinds::name::NodeName;

use super::store::{Register, Rev};

/// What may be asked of the way to other nodes.
#[derive(Clone, Debug)]
pub enum Call {
    /// From now on these may be spoken to and are listened to, and nobody else.
    Meet(Vec<Neighbour>),
    /// Say this to some of them. Whether it arrives is not known.
    Say {
        /// To whom.
        to: Vec<NodeName>,
        /// What.
        word: Word,
    },
}

/// What comes back.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Done, as far as can be known.
    Done,
}

/// A node that may be spoken to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Neighbour {
    /// Its name.
    pub name: NodeName,
    /// Where it listens.
    pub at: SocketAddrV4,
    /// Its public key, in hexadecimal.
    pub key: String,
    /// Which life of its agent; words of others are not listened to.
    pub life: String,
}

/// What one node says to another. That it says anything shows that it lives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Word {
    /// A register that it has moved.
    pub moved: Option<(Register, Rev)>,
    /// Whether that concerns the one that is spoken to, so that it is not to wait for its turn.
    pub is_yours: bool,
    /// The newest commit of the desired repository that it knows, if that is news.
    pub tip: Option<Oid>,
    /// The decision that its packet filter follows.
    pub applied: Generation,
}
