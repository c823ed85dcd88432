//! Talks to the agent on this machine, over its socket.
//!
//! One connection per question: they cost nothing on a unix socket. Every wait is bounded but the ones
//! a person asked for (`logs -f`, `exec`): those end with the connection or with Ctrl-C.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, UPGRADE};
use hyper::upgrade::Upgraded;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::fault::{Failure, Refusal};

/// How long the agent may take to answer the door.
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long it may take to begin an answer.
pub(super) const ANSWER_MAX: Duration = Duration::from_secs(60);
/// The same for what waits for a remote: the agent gives a `sync` or a `diff` five minutes.
const FETCH_MAX: Duration = Duration::from_secs(310);
/// How long an answer may take that is not a stream.
const BODY_MAX: Duration = Duration::from_secs(60);
/// A longer answer is not taken: a list of 100,000 pods is smaller.
const BODY_BYTES_MAX: usize = 1 << 30;

/// JSON.
pub(super) const JSON: &str = "application/json";
/// For people.
pub(super) const TEXT: &str = "text/plain";
/// The agent's own columns, as kubectl asks for them.
pub(super) const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

/// A way to the agent.
#[derive(Clone, Debug)]
pub(super) struct Client {
    socket: PathBuf,
    patience: Duration,
}

/// An answer that goes on, piece by piece.
pub(super) struct Pieces {
    body: Incoming,
}

impl Client {
    /// A way to the agent at `socket`; nothing is asked yet.
    pub(super) fn new(socket: PathBuf) -> Self {
        Self { socket, patience: ANSWER_MAX }
    }

    /// The same way, for questions that wait for a remote.
    pub(super) fn patient(&self) -> Self {
        Self { patience: FETCH_MAX, ..self.clone() }
    }

    /// Opens a connection.
    pub(super) async fn connect(&self) -> Result<UnixStream, Failure> {
        match timeout(CONNECT_MAX, UnixStream::connect(&self.socket)).await {
            Ok(Ok(stream)) => Ok(stream),
            Ok(Err(error)) => Err(self.unreachable(&error)),
            Err(_) => Err(self.silent("did not take the call", CONNECT_MAX)),
        }
    }

    fn unreachable(&self, error: &std::io::Error) -> Failure {
        let socket = self.socket.display();
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::ConnectionRefused => Failure::hinted(
                format!("no agent answers on {socket}: is it running?"),
                "systemctl status windlass; --socket or WINDLASS_SOCKET names another socket",
            ),
            ErrorKind::PermissionDenied => Failure::hinted(
                format!("{socket} may not be opened by this user"),
                "be root (sudo), or a member of the socket's group",
            ),
            _ => Failure::plain(format!("no agent answers on {socket}: {error}")),
        }
    }

    /// The agent took its time.
    pub(super) fn silent(&self, what: &str, waited: Duration) -> Failure {
        let socket = self.socket.display();
        Failure::hinted(
            format!("the agent on {socket} {what} within {} s", waited.as_secs()),
            "journalctl -u windlass shows what it does",
        )
    }

    /// The agent hung up.
    pub(super) fn broken(&self, error: impl std::fmt::Display) -> Failure {
        let socket = self.socket.display();
        Failure::plain(format!("the connection to the agent on {socket} broke: {error}"))
    }

    /// Sends a request and waits for the head of the answer. What is no success is a failure.
    async fn exchange(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: &str,
    ) -> Result<Response<Incoming>, Failure> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "windlass")
            .header(ACCEPT, accept)
            .header(CONTENT_TYPE, JSON)
            .body(Full::new(Bytes::copy_from_slice(body.as_bytes())))
            .map_err(Failure::usage)?;
        self.send(request).await
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> Result<Response<Incoming>, Failure> {
        let stream = TokioIo::new(self.connect().await?);
        let handshake = hyper::client::conn::http1::handshake(stream).await;
        let (mut sender, connection) = handshake.map_err(|error| self.broken(error))?;
        tokio::spawn(connection.with_upgrades());
        let answer = match timeout(self.patience, sender.send_request(request)).await {
            Ok(answer) => answer.map_err(|error| self.broken(error))?,
            Err(_) => return Err(self.silent("did not answer", self.patience)),
        };
        if answer.status().is_success() || answer.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        let code = answer.status().as_u16();
        let body = self.collect(answer.into_body()).await?;
        Err(Failure::Refused(Refusal::parse(code, &body)))
    }

    /// Asks for the connection to become something else, with these headers.
    pub(super) async fn upgrade(
        &self,
        path: &str,
        what: &str,
        headers: &[(&str, &str)],
    ) -> Result<Upgraded, Failure> {
        let request = Request::post(path).header(HOST, "windlass");
        let request = request.header(CONNECTION, "Upgrade").header(UPGRADE, what);
        let request = headers.iter().fold(request, |all, (name, value)| all.header(*name, *value));
        let request = request.body(Full::default()).map_err(Failure::usage)?;
        let answer = self.send(request).await?;
        hyper::upgrade::on(answer).await.map_err(|error| self.broken(error))
    }

    async fn collect(&self, body: Incoming) -> Result<Bytes, Failure> {
        match timeout(BODY_MAX, Limited::new(body, BODY_BYTES_MAX).collect()).await {
            Ok(Ok(whole)) => Ok(whole.to_bytes()),
            Ok(Err(error)) => Err(self.broken(error)),
            Err(_) => Err(self.silent("did not end its answer", BODY_MAX)),
        }
    }

    async fn whole(
        &self,
        method: Method,
        path: &str,
        accept: &str,
        body: &str,
    ) -> Result<Bytes, Failure> {
        let answer = self.exchange(method, path, accept, body).await?;
        self.collect(answer.into_body()).await
    }

    /// Asks for JSON in a form of it.
    pub(super) async fn json(&self, path: &str, accept: &str) -> Result<Value, Failure> {
        let body = self.whole(Method::GET, path, accept, "").await?;
        self.parse(&body)
    }

    fn parse(&self, body: &[u8]) -> Result<Value, Failure> {
        serde_json::from_slice(body).map_err(|error| {
            let socket = self.socket.display();
            Failure::plain(format!("what answers on {socket} is no agent: {error}"))
        })
    }

    /// Asks for text.
    pub(super) async fn text(&self, path: &str) -> Result<String, Failure> {
        let body = self.whole(Method::GET, path, TEXT, "").await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Asks for something to be done, and for the answer in this form.
    pub(super) async fn post(&self, path: &str, accept: &str) -> Result<String, Failure> {
        let body = self.whole(Method::POST, path, accept, "").await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Asks for an object's end.
    pub(super) async fn delete(&self, path: &str, options: &Value) -> Result<Value, Failure> {
        let body = self.whole(Method::DELETE, path, JSON, &options.to_string()).await?;
        self.parse(&body)
    }

    /// Asks for a change of an object.
    pub(super) async fn patch(&self, path: &str, patch: &Value) -> Result<Value, Failure> {
        let body = self.whole(Method::PATCH, path, JSON, &patch.to_string()).await?;
        self.parse(&body)
    }

    /// Asks for an answer that goes on.
    pub(super) async fn stream(&self, path: &str, accept: &str) -> Result<Pieces, Failure> {
        let answer = self.exchange(Method::GET, path, accept, "").await?;
        Ok(Pieces { body: answer.into_body() })
    }
}

impl Pieces {
    /// The next piece; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Failure> {
        loop {
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            let frame = frame
                .map_err(|error| Failure::plain(format!("the agent ended the answer: {error}")))?;
            if let Ok(piece) = frame.into_data() {
                return Ok(Some(piece));
            }
        }
    }
}

/// A path with its parameters; those without a value are left out.
pub(super) fn with_query(path: &str, parameters: &[(&str, &str)]) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    for (name, value) in parameters.iter().filter(|(_, value)| !value.is_empty()) {
        query.append_pair(name, value);
    }
    match query.finish().as_str() {
        "" => path.to_owned(),
        query => format!("{path}?{query}"),
    }
}

/// A name as a part of a path.
pub(super) fn segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push('%');
            out.push_str(&crate::kinds::digest::hex(&[byte]).to_uppercase());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_carry_anything() {
        assert_eq!(with_query("/a", &[("x", ""), ("y", "a=b,c&d")]), "/a?y=a%3Db%2Cc%26d");
        assert_eq!(with_query("/a", &[("x", "")]), "/a");
        assert_eq!(segment("system:node/é"), "system%3Anode%2F%C3%A9");
    }
}
