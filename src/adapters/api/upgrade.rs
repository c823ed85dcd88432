//! From a request to a session: what the line is to become, and that it does.

use bytes::{BufMut as _, BytesMut};
use hyper::StatusCode;
use hyper::header::{
    CONNECTION, HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_PROTOCOL, UPGRADE,
};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

use super::reply::{self, Answer, No};

/// A session's WebSocket.
pub(super) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// Whether a header lists a word.
pub(super) fn lists(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
}

/// Whether the line is to become something of this name.
pub(super) fn wants(headers: &HeaderMap, name: &str) -> bool {
    lists(headers, &UPGRADE, name) && lists(headers, &CONNECTION, "upgrade")
}

/// The answer that makes a WebSocket of the line, and which of the known languages, the best first, is
/// spoken on it. `else_how` is said to those who want no WebSocket.
pub(super) fn websocket(
    headers: &HeaderMap,
    known: &'static [&'static str],
    else_how: &str,
) -> Result<(Answer, &'static str), No> {
    if !wants(headers, "websocket") {
        return Err(No::bad(else_how));
    }
    let mut languages = known.iter().copied();
    let language = languages.find(|known| lists(headers, &SEC_WEBSOCKET_PROTOCOL, known));
    let language = language.ok_or_else(|| {
        No::bad(format!("none of the subprotocols is known; known are {}", known.join(", ")))
    })?;
    let key =
        headers.get(SEC_WEBSOCKET_KEY).ok_or_else(|| No::bad("Sec-WebSocket-Key is missing"))?;
    let accept = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
    let accept = accept.map_err(|_| No::bad("Sec-WebSocket-Key is none"))?;
    let mut answer = switching("websocket");
    answer.headers_mut().insert(SEC_WEBSOCKET_ACCEPT, accept);
    answer.headers_mut().insert(SEC_WEBSOCKET_PROTOCOL, HeaderValue::from_static(language));
    Ok((answer, language))
}

/// The answer after which the line is something else.
pub(super) fn switching(what: &'static str) -> Answer {
    let mut answer = reply::text("");
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    answer.headers_mut().clear();
    answer.headers_mut().insert(UPGRADE, HeaderValue::from_static(what));
    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    answer
}

/// The WebSocket, once the line is one.
pub(super) async fn socket(line: Upgraded, message_bytes_max: usize) -> Socket {
    let config = WebSocketConfig::default()
        .read_buffer_size(16 * 1024)
        .write_buffer_size(0)
        .max_write_buffer_size(2 * message_bytes_max)
        .max_message_size(Some(message_bytes_max))
        .max_frame_size(Some(message_bytes_max));
    WebSocketStream::from_raw_socket(TokioIo::new(line), Role::Server, Some(config)).await
}

/// One message on a channel.
pub(super) fn message(channel: u8, bytes: &[u8]) -> Message {
    let mut framed = BytesMut::with_capacity(bytes.len() + 1);
    framed.put_u8(channel);
    framed.put_slice(bytes);
    Message::Binary(framed.freeze())
}
