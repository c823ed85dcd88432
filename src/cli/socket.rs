//! Kubernetes' way to talk to a process in a container: a WebSocket whose messages begin with the number
//! of a channel. <https://kubernetes.io/blog/2024/08/20/websockets-transition/>,
//! `k8s.io/apimachinery/pkg/util/remotecommand/constants.go`.
//!
//! ```text
//!   0 its input  ──▶          1 its output  2 its errors  ◀──
//!   4 the terminal's size ──▶      3 a Status, at its end ◀──    255 a channel is closed (v5)
//! ```

use bytes::Bytes;
use futures_util::stream::{SplitSink, SplitStream};
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::HeaderValue;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::client::{ANSWER_MAX, Client};
use super::fault::{Failure, Refusal};

const PROTOCOL: &str = "Sec-WebSocket-Protocol";
const PROTOCOLS: HeaderValue = HeaderValue::from_static("v5.channel.k8s.io, v4.channel.k8s.io");
/// The protocol that can say that a channel is closed.
const CLOSES: &str = "v5.channel.k8s.io";

const INPUT: u8 = 0;
const OUTPUT: u8 = 1;
const ERRORS: u8 = 2;
const END: u8 = 3;
const SIZE: u8 = 4;
const CLOSE: u8 = 255;

/// What a process says.
#[derive(Debug)]
pub(super) enum Said {
    /// On its standard output.
    Output(Bytes),
    /// On its standard error.
    Errors(Bytes),
    /// Nothing more: this is how it ended.
    End(Value),
}

/// The ear.
pub(super) struct Ear {
    stream: SplitStream<WebSocketStream<UnixStream>>,
}

/// The mouth.
pub(super) struct Mouth {
    sink: SplitSink<WebSocketStream<UnixStream>, Message>,
    can_close: bool,
}

/// Begins to talk to what is at `path`.
pub(super) async fn open(client: &Client, path: &str) -> Result<(Mouth, Ear), Failure> {
    let stream = client.connect().await?;
    let mut request =
        format!("ws://windlass{path}").into_client_request().map_err(Failure::usage)?;
    request.headers_mut().insert(PROTOCOL, PROTOCOLS);
    let handshake = tokio_tungstenite::client_async(request, stream);
    let (socket, answer) = match timeout(ANSWER_MAX, handshake).await {
        Ok(Ok(open)) => open,
        Ok(Err(Error::Http(answer))) => {
            let code = answer.status().as_u16();
            let body = answer.into_body().unwrap_or_default();
            return Err(Failure::Refused(Refusal::parse(code, &body)));
        }
        Ok(Err(error)) => return Err(client.broken(error)),
        Err(_) => return Err(client.silent("did not answer", ANSWER_MAX)),
    };
    let can_close = answer.headers().get(PROTOCOL).is_some_and(|chosen| chosen == CLOSES);
    let (sink, stream) = socket.split();
    Ok((Mouth { sink, can_close }, Ear { stream }))
}

impl Mouth {
    async fn say(&mut self, channel: u8, bytes: &[u8]) -> Result<(), Failure> {
        let message = [&[channel], bytes].concat();
        self.sink.send(Message::Binary(message.into())).await.map_err(Failure::plain)
    }

    /// Gives the process something to read.
    pub(super) async fn input(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.say(INPUT, bytes).await
    }

    /// There is no more to read.
    pub(super) async fn input_ends(&mut self) -> Result<(), Failure> {
        if self.can_close { self.say(CLOSE, &[INPUT]).await } else { Ok(()) }
    }

    /// The terminal is so wide and so high.
    pub(super) async fn size(&mut self, columns: u16, rows: u16) -> Result<(), Failure> {
        let size = json!({"Width": columns, "Height": rows});
        self.say(SIZE, size.to_string().as_bytes()).await
    }
}

impl Ear {
    /// What the process says next; none if the connection ended without a word on how it ended.
    pub(super) async fn next(&mut self) -> Result<Option<Said>, Failure> {
        while let Some(message) = self.stream.next().await {
            let bytes = match message {
                Ok(Message::Binary(bytes)) => bytes,
                Ok(Message::Text(text)) => text.into(),
                Ok(Message::Close(_)) | Err(Error::ConnectionClosed | Error::AlreadyClosed) => {
                    return Ok(None);
                }
                Ok(_) => continue,
                Err(error) => {
                    return Err(Failure::plain(format!("the connection broke: {error}")));
                }
            };
            let Some(channel) = bytes.first().copied() else {
                continue;
            };
            let rest = bytes.slice(1..);
            match channel {
                // The first messages are empty: they only say that the channels are there.
                _ if rest.is_empty() => {}
                OUTPUT => return Ok(Some(Said::Output(rest))),
                ERRORS => return Ok(Some(Said::Errors(rest))),
                END => {
                    let status = serde_json::from_slice(&rest).unwrap_or_else(|_| {
                        // v1 to v3 sent a sentence.
                        json!({"status": "Failure", "message": String::from_utf8_lossy(&rest)})
                    });
                    return Ok(Some(Said::End(status)));
                }
                _ => {}
            }
        }
        Ok(None)
    }
}
