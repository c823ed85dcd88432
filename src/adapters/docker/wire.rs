//! One connection to Docker for one stream: a line of one's own, not a place in the switchboard.
//!
//! bollard guesses from a byte whether output is framed, which a terminal's first byte can belie,
//! and holds back a terminal's output until a line ends. Streams that people look at are therefore
//! read here, where it is known which they are.
//!
//! ```text
//!   framed:  [stream 0|1|2, 0, 0, 0, length: u32 big-endian] payload …    without a terminal
//!   raw:     payload …                                                    with one
//! ```

use bytes::{Buf as _, Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::Response;
use hyper::body::Incoming;
use hyper::http::request::Builder;
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::UnixStream;

use super::streams::Which;
use super::{Docker, REQUEST_S_MAX, fault};
use crate::ports::Fault;

const FRAME_HEADER_BYTES: usize = 8;

impl Docker {
    /// Sends one request on a connection of its own. The answer's head has come, its body may
    /// follow for as long as it likes; dropping it closes the connection.
    pub(super) async fn request(
        &self,
        request: Builder,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Response<Incoming>, Fault> {
        let version = self.client().await?.client_version();
        let socket = &self.inner.options.socket;
        let lost = |error: &dyn std::fmt::Display| {
            Fault::transient(format!("Docker at {}: {error}", socket.display()))
        };
        let request = request
            .uri(format!("/v{version}{path}"))
            .header("Host", "docker")
            .header("Content-Type", "application/json")
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| Fault::stalled(format!("a request to Docker: {error}")))?;
        let exchange = async {
            let stream = UnixStream::connect(socket).await.map_err(|error| lost(&error))?;
            let (mut sender, connection) =
                hyper::client::conn::http1::handshake(TokioIo::new(stream))
                    .await
                    .map_err(|error| lost(&error))?;
            // Ends with the body, or with whoever took the connection over.
            tokio::spawn(connection.with_upgrades());
            sender.send_request(request).await.map_err(|error| lost(&error))
        };
        let bound = std::time::Duration::from_secs(REQUEST_S_MAX);
        let response = tokio::time::timeout(bound, exchange)
            .await
            .unwrap_or_else(|_| Err(Fault::deadline("Docker has not answered in time")))?;
        let status = response.status();
        if status.is_success() || status == hyper::StatusCode::SWITCHING_PROTOCOLS {
            return Ok(response);
        }
        Err(refusal(response).await)
    }
}

/// What an answer that is not a success says.
async fn refusal(response: Response<Incoming>) -> Fault {
    #[derive(Deserialize)]
    struct Message {
        message: String,
    }
    let status = response.status().as_u16();
    let body = match response.into_body().collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => Bytes::new(),
    };
    let message = serde_json::from_slice::<Message>(&body)
        .map_or_else(|_| String::from_utf8_lossy(&body).into_owned(), |said| said.message);
    fault::of_status(status, &message)
}

/// Takes frames apart as they come. A payload is passed on in the pieces it arrives in, so nothing
/// is held back and nothing grows.
#[derive(Debug)]
pub(super) struct Unframer {
    is_raw: bool,
    pending: BytesMut,
    /// What is still to come of the present frame.
    present: Option<(Which, usize)>,
}

impl Unframer {
    /// For a stream of a container or exec that has a terminal, or has none.
    pub(super) fn new(tty: bool) -> Self {
        Self { is_raw: tty, pending: BytesMut::new(), present: None }
    }

    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// The next piece; none until more is pushed.
    pub(super) fn next_piece(&mut self) -> Option<(Which, Bytes)> {
        if self.is_raw {
            let whole = self.pending.split().freeze();
            return (!whole.is_empty()).then_some((Which::Stdout, whole));
        }
        loop {
            if let Some((which, left)) = self.present {
                if self.pending.is_empty() && left > 0 {
                    return None;
                }
                let taken = left.min(self.pending.len());
                let piece = self.pending.split_to(taken).freeze();
                self.present = (left > taken).then_some((which, left - taken));
                if !piece.is_empty() {
                    return Some((which, piece));
                }
            }
            if self.pending.len() < FRAME_HEADER_BYTES {
                return None;
            }
            let mut header = self.pending.split_to(FRAME_HEADER_BYTES);
            let which = match header.get_u8() {
                2 => Which::Stderr,
                _ => Which::Stdout,
            };
            header.advance(3);
            let length = usize::try_from(header.get_u32()).unwrap_or(usize::MAX);
            self.present = Some((which, length));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn frame(stream: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("small");
        let mut frame = vec![stream, 0, 0, 0];
        frame.extend(length.to_be_bytes());
        frame.extend(payload);
        frame
    }

    fn read(unframer: &mut Unframer, chunks: &[&[u8]]) -> Vec<(Which, Vec<u8>)> {
        let mut pieces: Vec<(Which, Vec<u8>)> = Vec::new();
        for chunk in chunks {
            unframer.push(chunk);
            while let Some((which, piece)) = unframer.next_piece() {
                match pieces.last_mut().filter(|(last, _)| *last == which) {
                    Some((_, bytes)) => bytes.extend(&piece),
                    None => pieces.push((which, piece.to_vec())),
                }
            }
        }
        pieces
    }

    proptest! {
        #[test]
        fn frames_are_read_however_they_are_cut(
            payloads in proptest::collection::vec((1u8..=2, proptest::collection::vec(any::<u8>(), 0..40)), 0..8),
            cut in 1usize..30,
        ) {
            let wire: Vec<u8> = payloads.iter().flat_map(|(s, p)| frame(*s, p)).collect();
            let chunks: Vec<&[u8]> = wire.chunks(cut).collect();
            let mut wanted: Vec<(Which, Vec<u8>)> = Vec::new();
            for (stream, payload) in payloads.iter().filter(|(_, p)| !p.is_empty()) {
                let which = if *stream == 2 { Which::Stderr } else { Which::Stdout };
                match wanted.last_mut().filter(|(last, _)| *last == which) {
                    Some((_, bytes)) => bytes.extend(payload),
                    None => wanted.push((which, payload.clone())),
                }
            }
            prop_assert_eq!(read(&mut Unframer::new(false), &chunks), wanted);
        }

        #[test]
        fn a_terminal_is_passed_on_as_it_is(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 1usize..30) {
            let chunks: Vec<&[u8]> = bytes.chunks(cut).collect();
            let read: Vec<u8> = read(&mut Unframer::new(true), &chunks).into_iter().flat_map(|(_, b)| b).collect();
            prop_assert_eq!(read, bytes);
        }
    }

    #[test]
    fn a_piece_does_not_wait_for_the_rest_of_its_frame() {
        let mut unframer = Unframer::new(false);
        let whole = frame(1, b"prompt> and more");
        let pieces = read(&mut unframer, &[&whole[..15]]);
        assert_eq!(pieces, [(Which::Stdout, b"prompt>".to_vec())]);
    }
}
