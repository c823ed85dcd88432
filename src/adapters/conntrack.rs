//! The kernel's memory of connections: forgets UDP flows that lead to an endpoint that is no more.
//!
//! A UDP "connection" has no end, so the kernel keeps sending a busy client's packets where the
//! first one went; TCP notices by itself. Done over netlink (`ctnetlink`) rather than with the
//! `conntrack` program: one look at the table serves any number of flows, and no package is needed.

use std::net::Ipv4Addr;
use std::time::Duration;

use rtnetlink::sys::Socket;

use super::nfnetlink::{
    Attributes, Messages, NLM_F_ACK, NLM_F_DUMP, NLMSG_DONE, NLMSG_ERROR, attribute, attributes_of,
    error_of, open, receive, send,
};
use crate::ports::Fault;
use crate::ports::filter::Flow;

/// The whole look, with a full table of a million entries on a slow machine.
const LOOK_MAX: Duration = Duration::from_secs(30);

// linux/netfilter/nfnetlink_conntrack.h
const CT_GET: u16 = 0x0101;
const CT_DELETE: u16 = 0x0102;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTO: u16 = 2;
const IP_SOURCE: u16 = 1;
const IP_DESTINATION: u16 = 2;
const PROTO_NUMBER: u16 = 1;
const PROTO_DESTINATION_PORT: u16 = 3;
const ID: u16 = 12;
const ZONE: u16 = 18;
const UDP: u8 = 17;
const ENOENT: i32 = 2;

/// Forgets every UDP flow that one of `flows` describes.
pub(super) async fn forget(flows: Vec<Flow>) -> Result<(), Fault> {
    if flows.is_empty() {
        return Ok(());
    }
    let work = tokio::task::spawn_blocking(move || forget_now(&flows));
    match tokio::time::timeout(LOOK_MAX, work).await {
        Ok(Ok(done)) => {
            done.map(|count| tracing::debug!(count, "flows forgotten")).map_err(|error| {
                Fault::transient(format!(
                    "cannot forget flows in the kernel's connection table: {error}"
                ))
            })
        }
        Ok(Err(error)) => Err(Fault::transient(format!("forgetting flows: {error}"))),
        Err(_) => Err(Fault::deadline("the kernel did not list its connections in time")),
    }
}

fn forget_now(flows: &[Flow]) -> std::io::Result<usize> {
    let socket = open()?;
    let doomed = doomed(&socket, flows)?;
    for entry in &doomed {
        send(&socket, CT_DELETE, NLM_F_ACK, entry)?;
        acknowledged(&socket)?;
    }
    Ok(doomed.len())
}

/// The entries that match, each as the attributes that identify it.
fn doomed(socket: &Socket, flows: &[Flow]) -> std::io::Result<Vec<Vec<u8>>> {
    send(socket, CT_GET, NLM_F_DUMP, &[])?;
    let mut doomed = Vec::new();
    loop {
        let bytes = receive(socket)?;
        for (kind, body) in Messages(&bytes) {
            match kind {
                NLMSG_DONE => return Ok(doomed),
                NLMSG_ERROR => return Err(error_of(body)),
                _ => doomed.extend(identify(attributes_of(body), flows)),
            }
        }
    }
}

/// Takes the answer to a deletion. An entry that went by itself is as good.
fn acknowledged(socket: &Socket) -> std::io::Result<()> {
    let bytes = receive(socket)?;
    for (kind, body) in Messages(&bytes) {
        if kind == NLMSG_ERROR {
            let error = error_of(body);
            return match error.raw_os_error() {
                Some(0 | ENOENT) => Ok(()),
                _ => Err(error),
            };
        }
    }
    Ok(())
}

/// The attributes by which the kernel finds this entry again, if one of `flows` describes it.
fn identify(body: &[u8], flows: &[Flow]) -> Option<Vec<u8>> {
    let original = attribute(body, TUPLE_ORIGINAL)?;
    let protocol = attribute(original, TUPLE_PROTO)?;
    if attribute(protocol, PROTO_NUMBER)? != [UDP] {
        return None;
    }
    let destination = address(attribute(original, TUPLE_IP)?, IP_DESTINATION)?;
    let port = u16::from_be_bytes(*attribute(protocol, PROTO_DESTINATION_PORT)?.first_chunk()?);
    let answers = attribute(body, TUPLE_REPLY)?;
    let endpoint = address(attribute(answers, TUPLE_IP)?, IP_SOURCE)?;
    let described = flows.iter().any(|flow| {
        (flow.destination.is_unspecified() || flow.destination == destination)
            && flow.port == port
            && flow.endpoint.is_none_or(|gone| gone == endpoint)
    });
    described.then(|| {
        let kept =
            Attributes(body).filter(|(kind, _, _)| matches!(*kind, TUPLE_ORIGINAL | ID | ZONE));
        kept.flat_map(|(_, _, whole)| whole.iter().copied()).collect()
    })
}

fn address(body: &[u8], kind: u16) -> Option<Ipv4Addr> {
    let octets: [u8; 4] = attribute(body, kind)?.try_into().ok()?;
    Some(octets.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attr(kind: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).expect("short");
        let mut bytes = [length.to_ne_bytes(), kind.to_ne_bytes()].concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn tuple(kind: u16, source: [u8; 4], destination: [u8; 4], protocol: u8, port: u16) -> Vec<u8> {
        let ip = [attr(IP_SOURCE, &source), attr(IP_DESTINATION, &destination)].concat();
        let proto =
            [attr(PROTO_NUMBER, &[protocol]), attr(PROTO_DESTINATION_PORT, &port.to_be_bytes())]
                .concat();
        let nested = 0x8000;
        let parts = [attr(TUPLE_IP | nested, &ip), attr(TUPLE_PROTO | nested, &proto)];
        attr(kind | nested, &parts.concat())
    }

    #[test]
    fn flows_are_told_by_destination_port_and_endpoint() {
        let entry = |protocol| {
            let original = tuple(TUPLE_ORIGINAL, [10, 1, 0, 9], [10, 96, 0, 10], protocol, 53);
            let reply = tuple(TUPLE_REPLY, [10, 1, 0, 1], [10, 1, 0, 9], protocol, 4000);
            [original, reply, attr(ID, &[1, 2, 3, 4]), attr(7, &[0; 4])].concat()
        };
        let flow = |destination: [u8; 4], port, endpoint: Option<[u8; 4]>| Flow {
            destination: destination.into(),
            port,
            endpoint: endpoint.map(Ipv4Addr::from),
        };
        let service = [10, 96, 0, 10];
        for (flow, protocol, found) in [
            (flow(service, 53, None), UDP, true),
            (flow(service, 53, Some([10, 1, 0, 1])), UDP, true),
            (flow(service, 53, Some([10, 1, 0, 2])), UDP, false),
            (flow(service, 54, None), UDP, false),
            (flow([10, 96, 0, 11], 53, None), UDP, false),
            (flow([0, 0, 0, 0], 53, None), UDP, true),
            (flow(service, 53, None), 6, false),
        ] {
            let identity = identify(&entry(protocol), &[flow]);
            assert_eq!(identity.is_some(), found, "{flow:?}");
            if let Some(identity) = identity {
                assert_eq!(Attributes(&identity).count(), 2, "tuple and id, nothing else");
            }
        }
    }
}
