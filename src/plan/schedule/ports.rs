//! Host ports: one pod a port, transport and address; a pod without an address takes them all.

use crate::kinds::pod::PodSpec;

use super::{Machine, Why};

pub(super) fn refuses(spec: &PodSpec, machine: &Machine) -> Option<Why> {
    let is_taken = spec.host_ports().any(|port| {
        let Some(number) = port.host_port.or(spec.host_network.then_some(port.port)) else {
            return false;
        };
        machine.ports.iter().any(|(protocol, taken, address)| {
            *protocol == port.protocol
                && *taken == number
                && (address.is_none() || port.host_ip.is_none() || *address == port.host_ip)
        })
    });
    is_taken.then_some(Why::HostPort)
}
