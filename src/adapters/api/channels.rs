//! `v4.channel.k8s.io` for `portforward`: what clients without SPDY speak, such as Kubernetes' for Python.
//! The ports stand in the request, and each has two channels of a WebSocket
//! (`k8s.io/kubelet/pkg/cri/streaming/portforward/websocket.go`):
//!
//! ```text
//!   channel 2n    the data of port n        message: channel 8|bytes
//!   channel 2n+1  why there are none        the first on each: channel 8|port 16, little-endian
//! ```
//!
//! Here it becomes the frames that SPDY would have brought, so that everything behind is the same. The
//! limit is the protocol's: each port is one connection, made at once, and a client can't say that it has
//! said all.

use std::collections::BTreeSet;
use std::io;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _, stream};
use tokio_tungstenite::tungstenite::Message;

use super::ask::Parameters;
use super::reply::No;
use super::upgrade::{Socket, message};
use crate::adapters::spdy::{
    Frame, Headers, Input, Output, PORT, REQUEST_ID, STREAM_TYPE, TYPE_DATA, TYPE_ERROR,
};

/// A channel is a byte.
const PORTS_MAX: usize = 128;

/// The ports that a request names, as kubelet reads them.
pub(super) fn ports(asked: &Parameters) -> Result<Vec<u16>, No> {
    let words = asked.all("ports").flat_map(|value| value.split(','));
    let ports = words.map(|word| {
        let port = word.parse().ok().filter(|port| *port > 0);
        port.ok_or_else(|| No::bad(format!("ports: unable to parse '{word}' as a port")))
    });
    let ports: Vec<u16> = ports.collect::<Result<_, _>>()?;
    match ports.len() {
        0 => Err(No::bad("query parameter \"ports\" is required")),
        1..=PORTS_MAX => Ok(ports),
        _ => Err(No::bad(format!("ports: {PORTS_MAX} are the most"))),
    }
}

/// A client's streams have odd numbers.
fn stream_of(channel: u8) -> u32 {
    u32::from(channel) * 2 + 1
}

fn channel_of(stream: u32) -> Option<u8> {
    u8::try_from(stream / 2).ok()
}

/// Frames on channels.
pub(super) fn frames(socket: Socket, ports: Vec<u16>) -> (Input, Output) {
    let (sink, messages) = socket.split();
    let channels = || (0..=u8::MAX).zip(ports.iter().flat_map(|port| [*port, *port]));
    let begins: Vec<io::Result<Frame>> =
        channels().map(|(channel, port)| Ok(begin(channel, port))).collect();
    let mut open: BTreeSet<u32> = channels().map(|(channel, _)| stream_of(channel)).collect();
    let heard = messages.filter_map(|message| std::future::ready(heard(message).transpose()));
    let output = sink.sink_map_err(io::Error::other).with_flat_map(move |frame| {
        stream::iter(said(&frame, &ports, &mut open).into_iter().map(Ok))
    });
    (Box::pin(stream::iter(begins).chain(heard)), Box::pin(output))
}

fn begin(channel: u8, port: u16) -> Frame {
    let kind = if channel.is_multiple_of(2) { TYPE_DATA } else { TYPE_ERROR };
    let headers = [
        (STREAM_TYPE, kind.to_owned()),
        (PORT, port.to_string()),
        (REQUEST_ID, (channel / 2).to_string()),
    ];
    let headers: Headers = headers.map(|(name, value)| (name.to_owned(), value)).into();
    Frame::Open { stream: stream_of(channel), headers, ends: false }
}

/// What a message says.
fn heard(
    message: Result<Message, tokio_tungstenite::tungstenite::Error>,
) -> io::Result<Option<Frame>> {
    let Message::Binary(mut bytes) = message.map_err(io::Error::other)? else {
        return Ok(None);
    };
    let channel = bytes.split_to(bytes.len().min(1));
    let frame = |channel: &u8| Frame::Data { stream: stream_of(*channel), bytes, ends: false };
    Ok(channel.first().map(frame))
}

/// The messages that say the same as a frame. After the last word on the last channel comes a good-bye.
fn said(frame: &Frame, ports: &[u16], open: &mut BTreeSet<u32>) -> Vec<Message> {
    let message = |stream: u32, bytes: &[u8]| Some(message(channel_of(stream)?, bytes));
    let port = |stream: u32| ports.get(usize::from(channel_of(stream)? / 2));
    let (piece, ended) = match frame {
        Frame::Reply { stream, .. } => {
            let port = port(*stream).map(|port| port.to_le_bytes());
            (port.and_then(|port| message(*stream, &port)), None)
        }
        Frame::Data { stream, bytes, ends } => {
            let piece = if bytes.is_empty() { None } else { message(*stream, bytes) };
            (piece, ends.then_some(stream))
        }
        Frame::Reset { stream, .. } => (None, Some(stream)),
        Frame::Ping(_) => (Some(Message::Ping(Bytes::new())), None),
        Frame::Open { .. } | Frame::Farewell { .. } => (None, None),
    };
    let is_last = ended.is_some_and(|stream| open.remove(stream) && open.is_empty());
    piece.into_iter().chain(is_last.then_some(Message::Close(None))).collect()
}
