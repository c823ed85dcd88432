//! Host ports: one pod a port, transport and address; a pod without an address takes them all.

use crate::kinds::pod::HostPort;

use super::{Machine, Why};

pub(super) fn refuses(wanted: &[HostPort], machine: &Machine) -> Option<Why> {
    let is_taken = wanted.iter().any(|port| machine.ports.iter().any(|taken| taken.clashes(port)));
    is_taken.then_some(Why::HostPort)
}
