//! Netfilter's side of netlink: the few messages for which no crate of ours has words.

use nix::sys::socket::{setsockopt, sockopt::ReceiveTimeout};
use nix::sys::time::TimeVal;
use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{Socket, SocketAddr};

/// The kernel answers at once or not at all.
const ANSWER_MAX_S: i64 = 5;

// linux/netlink.h
const HEADER_LEN: usize = 16;
const NLM_F_REQUEST: u16 = 0x01;
/// Ask for an acknowledgement.
pub(super) const NLM_F_ACK: u16 = 0x04;
/// Ask for everything.
pub(super) const NLM_F_DUMP: u16 = 0x300;
/// An error, or an acknowledgement.
pub(super) const NLMSG_ERROR: u16 = 2;
/// The end of everything.
pub(super) const NLMSG_DONE: u16 = 3;
/// `struct nfgenmsg`: the family (IPv4), a version, a resource.
const GENERIC: [u8; 4] = [2, 0, 0, 0];
/// Flags in an attribute's type: nested, network byte order.
const TYPE_MASK: u16 = 0x3fff;

/// A socket into the network namespace of the calling thread.
pub(super) fn open() -> std::io::Result<Socket> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    setsockopt(&socket, ReceiveTimeout, &TimeVal::new(ANSWER_MAX_S, 0))?;
    Ok(socket)
}

/// Sends one request.
pub(super) fn send(socket: &Socket, kind: u16, flags: u16, body: &[u8]) -> std::io::Result<()> {
    let length = HEADER_LEN + GENERIC.len() + body.len();
    let mut message = Vec::with_capacity(length);
    message.extend(u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((NLM_F_REQUEST | flags).to_ne_bytes());
    message.extend([0; 8]);
    message.extend(GENERIC);
    message.extend(body);
    socket.send(&message, 0).map(|_| ())
}

/// Takes what came: see [`Messages`].
pub(super) fn receive(socket: &Socket) -> std::io::Result<Vec<u8>> {
    socket.recv_from_full().map(|(bytes, _)| bytes)
}

/// The error in an [`NLMSG_ERROR`]; number 0 for an acknowledgement.
pub(super) fn error_of(body: &[u8]) -> std::io::Error {
    let code = body.first_chunk().map_or(0, |bytes| i32::from_ne_bytes(*bytes));
    std::io::Error::from_raw_os_error(code.saturating_neg())
}

/// The attributes of a message that is not an error.
pub(super) fn attributes_of(body: &[u8]) -> &[u8] {
    body.get(GENERIC.len()..).unwrap_or_default()
}

/// The value of the first attribute of that kind.
pub(super) fn attribute(body: &[u8], wanted: u16) -> Option<&[u8]> {
    Attributes(body).find(|(kind, _, _)| *kind == wanted).map(|(_, value, _)| value)
}

/// Netlink messages in a buffer: (kind, body). Ends at the first that is not whole.
pub(super) struct Messages<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (u16, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = u32::from_ne_bytes(*self.0.first_chunk()?);
        let length = usize::try_from(length).ok()?;
        let kind = u16::from_ne_bytes(*self.0.get(4..)?.first_chunk()?);
        let body = self.0.get(HEADER_LEN..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, body))
    }
}

/// Netlink attributes in a buffer: (kind, value, whole with padding).
pub(super) struct Attributes<'a>(pub(super) &'a [u8]);

impl<'a> Iterator for Attributes<'a> {
    type Item = (u16, &'a [u8], &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let length = usize::from(u16::from_ne_bytes(*self.0.first_chunk()?));
        let kind = u16::from_ne_bytes(*self.0.get(2..)?.first_chunk()?) & TYPE_MASK;
        let value = self.0.get(4..length)?;
        let padded = length.next_multiple_of(4).min(self.0.len());
        let (whole, rest) = self.0.split_at(padded);
        self.0 = rest;
        Some((kind, value, whole))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn broken_messages_end_quietly() {
        for bytes in [&[][..], &[1, 0], &[255, 255, 1, 0, 9], &[4, 0, 1, 0, 0, 0, 0, 0], &[0; 32]] {
            assert_eq!(Messages(bytes).count(), 0, "{bytes:?}");
        }
        for (bytes, count) in
            [(&[][..], 0), (&[3, 0, 1, 0], 0), (&[4, 0, 1, 0], 1), (&[5, 0, 1, 0, 7], 1)]
        {
            assert_eq!(Attributes(bytes).count(), count, "{bytes:?}");
        }
    }
}
