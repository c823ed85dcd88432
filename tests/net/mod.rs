//! The network with real packets: rules, links and names in network namespaces of their own.

mod dns;
mod iptables;
mod lab;
mod links;
mod packets;
mod tunnel;
