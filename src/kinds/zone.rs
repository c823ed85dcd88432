//! Names as values: what the cluster's DNS answers, swapped whole when anything changes.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;

/// Everything under the cluster's domain, by lower-case name without the final dot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    /// The cluster's domain, `cluster.local`.
    pub domain: String,
    /// What each name has. A name that only has names below it is here too, empty, so that it
    /// answers "no data" instead of "no such name" (RFC 8020).
    pub names: BTreeMap<String, Records>,
    /// The name of each address, for reverse look-ups.
    pub reverse: BTreeMap<Ipv4Addr, String>,
    /// The networks of Services and pods: who asks for the name of an address in one of them is
    /// answered here, also where it has none. The world outside could not know it.
    pub networks: Vec<Ipv4Network>,
}

/// The records of one name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Records {
    /// Addresses.
    pub a: Vec<Ipv4Addr>,
    /// Where this name really is.
    pub cname: Option<String>,
    /// Ports of a service: (port, target name).
    pub srv: Vec<(u16, String)>,
}
