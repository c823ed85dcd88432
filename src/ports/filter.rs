//! The packet filter: iptables.

use std::sync::Arc;

use crate::kinds::rules::RuleSet;

/// What may be asked of the packet filter.
#[derive(Clone, Debug)]
pub enum Call {
    /// Make the rules be these. What differs from `known` is written, in one transaction per table.
    Apply {
        /// What is wanted.
        wanted: Arc<RuleSet>,
        /// What is believed to be there; none asks for a look first, and for the removal of our
        /// chains that are no longer wanted.
        known: Option<Arc<RuleSet>>,
    },
    /// Are these rules still there, and do our jumps still stand first?
    Check {
        /// What was applied.
        wanted: Arc<RuleSet>,
    },
    /// Connections to an endpoint that is no more: forget them, so that the next packet finds a
    /// new one. UDP only, TCP notices by itself.
    ForgetFlows {
        /// (original destination address, port), or the endpoint's own.
        flows: Vec<Flow>,
    },
    /// Take everything of ours away.
    Clear,
}

/// A UDP flow to be forgotten.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// The address that the client sent to; 0.0.0.0 for any (a node port has many).
    pub destination: std::net::Ipv4Addr,
    /// The port that the client sent to.
    pub port: u16,
    /// The endpoint it was led to; none for all of them.
    pub endpoint: Option<std::net::Ipv4Addr>,
}

/// What comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Call::Apply`], [`Call::ForgetFlows`] and [`Call::Clear`].
    Done,
    /// To [`Call::Check`]: whether nothing is missing.
    Intact(bool),
}
