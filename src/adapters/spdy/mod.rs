//! Many conversations on one line, as kubectl's `port-forward` holds them.
//!
//! A switchboard cable: many pairs of wires in one sheath. Each end plugs its connections in on its
//! side, and what is said on a pair at one end comes out of the same pair at the other.
//!
//! ```text
//!   a line of bytes ◀─▶ codec ◀─▶ frames ◀─▶ session ◀─▶ streams ◀─▶ carry ◀─▶ TCP connections
//! ```
//!
//! [`codec`] is pure and knows what a frame looks like (SPDY/3.1,
//! <https://www.chromium.org/spdy/spdy-protocol/spdy-protocol-draft3-1/>); [`session`] knows whose frame
//! it is; [`carry`] knows TCP.
//!
//! The rule: nothing is held without bound. SPDY's windows are not used, since kubectl (spdystream)
//! neither sends nor heeds them: a window kept towards it would stop every transfer for ever after
//! 64 KiB. What slows a sender down is that the line is not read while [`session::HELD_BYTES_MAX`] of it
//! wait for slow receivers.
//!
//! The limit follows from it: a connection whose end does not read holds up the others on its line.
//! That is so wherever kubectl forwards ports; two terminals are two lines.

mod carry;
mod codec;
mod dictionary;
mod session;

pub(crate) use carry::carry;
pub(crate) use codec::{Frame, Headers};
pub(crate) use session::{
    Ear, Input, Opened, Opener, Output, STREAMS_MAX, Session, Side, Stream, bytes, frames,
};

/// The name of the protocol in `Upgrade`.
pub(crate) const SPDY: &str = "SPDY/3.1";
/// What is spoken on the streams: `k8s.io/client-go/tools/portforward.PortForwardProtocolV1Name`.
pub(crate) const PORT_FORWARD: &str = "portforward.k8s.io";
/// The header that carries that name (`httpstream.HeaderProtocolVersion`).
pub(crate) const PROTOCOL_VERSION: &str = "x-stream-protocol-version";

/// Headers of a stream, as `k8s.io/api/core/v1` has them; SPDY writes names in lower case.
pub(crate) const STREAM_TYPE: &str = "streamtype";
/// The stream that carries a connection's bytes.
pub(crate) const TYPE_DATA: &str = "data";
/// The stream that says why there is none.
pub(crate) const TYPE_ERROR: &str = "error";
/// The pod's port.
pub(crate) const PORT: &str = "port";
/// Which two streams belong together.
pub(crate) const REQUEST_ID: &str = "requestid";
