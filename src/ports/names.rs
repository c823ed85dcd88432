//! The cluster's DNS server.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use crate::kinds::zone::Zone;

/// Answer questions at this address from now on. Saying it again with something else changes only
/// that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Where; the address must be on a link by then ([`super::links::NodeNetwork::dns`]).
    pub address: Ipv4Addr,
    /// What the cluster's names are.
    pub zone: Arc<Zone>,
    /// Who is asked about all other names, in order; there may be none.
    pub resolvers: Vec<IpAddr>,
}

/// What comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The port it got: 53, or another where somebody else has that. Then rules must lead there.
    pub port: u16,
}
