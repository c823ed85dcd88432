//! Host ports: one pod a port, transport and address; a pod without an address takes them all.

use std::net::IpAddr;

use crate::kinds::container::Protocol;
use crate::kinds::pod::PodSpec;

use super::{Machine, Why};

/// A port of the node that a pod takes.
pub(super) type HostPort = (Protocol, u16, Option<IpAddr>);

pub(super) fn taken_by(spec: &PodSpec) -> Vec<HostPort> {
    let ports = spec.host_ports().filter_map(|port| {
        let number = port.host_port.or(spec.host_network.then_some(port.port))?;
        // `0.0.0.0` is how Kubernetes writes "every address".
        let address = port.host_ip.filter(|address| !address.is_unspecified());
        Some((port.protocol, number, address))
    });
    ports.collect()
}

pub(super) fn refuses(wanted: &[HostPort], machine: &Machine) -> Option<Why> {
    let is_taken = wanted.iter().any(|(protocol, number, address)| {
        machine.ports.iter().any(|(other, taken, where_taken)| {
            other == protocol
                && taken == number
                && (where_taken.is_none() || address.is_none() || where_taken == address)
        })
    });
    is_taken.then_some(Why::HostPort)
}
