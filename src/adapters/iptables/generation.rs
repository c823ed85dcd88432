//! The number that nf_tables counts up with every change of any rule by anybody.

use crate::adapters::nfnetlink::{
    Messages, NLMSG_ERROR, attribute, attributes_of, open, receive, send,
};

// linux/netfilter/nf_tables.h
const GET_GENERATION: u16 = 0x0a10;
const GENERATION_ID: u16 = 1;

/// The number now; none where the kernel does not say.
pub(super) async fn now() -> Option<u32> {
    tokio::task::spawn_blocking(read).await.ok()?
}

fn read() -> Option<u32> {
    let socket = open().ok()?;
    send(&socket, GET_GENERATION, 0, &[]).ok()?;
    let bytes = receive(&socket).ok()?;
    let (kind, body) = Messages(&bytes).next()?;
    if kind == NLMSG_ERROR {
        return None;
    }
    let id = attribute(attributes_of(body), GENERATION_ID)?;
    Some(u32::from_be_bytes(*id.first_chunk()?))
}
