//! What only another node's agent can tell: its pods' logs, sessions in its containers, connections to
//! their ports.
//!
//! A switchboard: it finds the line, plugs the caller through, and does not listen in. A session is
//! handed on byte by byte, so whatever kubectl and that agent agree upon (sizes of terminals, codes
//! of ends, pings) passes.
//!
//! The rule: the line is the caller's, and ends with him. A node that has gone without a word is
//! noticed by the kernel ([`line`](crate::adapters::line)), so nothing else is timed here once an
//! answer has begun: a log may be silent for days.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::SendRequest;
use hyper::header::{
    CONNECTION, CONTENT_TYPE, HOST, HeaderName, HeaderValue, SEC_WEBSOCKET_ACCEPT,
    SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_PROTOCOL, SEC_WEBSOCKET_VERSION, UPGRADE,
};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncWriteExt as _, split};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::AbortHandle;

use super::ask::Parameters;
use super::peer::CALLER;
use super::reply::{self, Answer, No};
use super::serve::{Api, Caller};
use super::tunnel::LANGUAGE;
use crate::kinds::name::NodeName;
use crate::ports::Fault;
use crate::view::picture::Picture;

/// How long the other agent may take to begin its answer: it waits for its Docker 30 s.
const BEGIN_MAX: Duration = Duration::from_secs(40);
/// How long and how large a refusal may be: it is a sentence.
const REFUSAL_MAX: Duration = Duration::from_secs(10);
const REFUSAL_BYTES_MAX: usize = 64 * 1024;
/// How long both sides may take to become a session once it is agreed upon.
const UPGRADE_MAX: Duration = Duration::from_secs(10);
/// How long what one side has said last may take to reach the other.
const GOODBYE_MAX: Duration = Duration::from_secs(10);

/// What of a request for a session is said to the other agent, and of its answer to the client.
const SESSION_HEADERS: [HeaderName; 7] = [
    UPGRADE,
    CONNECTION,
    SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION,
    SEC_WEBSOCKET_PROTOCOL,
    SEC_WEBSOCKET_ACCEPT,
    LANGUAGE,
];

/// A connection to another agent, ended with whoever holds this.
struct Held {
    task: AbortHandle,
    sender: SendRequest<Empty<Bytes>>,
    _place: Option<OwnedSemaphorePermit>,
}

impl Drop for Held {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// The log of a container of `node`.
pub(super) async fn log(
    api: &Arc<Api>,
    caller: Caller,
    node: &NodeName,
    asked: &Parameters,
    request: &Request<Incoming>,
) -> Result<Answer, No> {
    let place = if asked.is_true("follow") { Some(api.place()?) } else { None };
    let (answer, held) = ask(api, caller, node, request, place).await?;
    if answer.status() != StatusCode::OK {
        return refusal(node, answer).await;
    }
    Ok(passed_on(node, answer, held))
}

/// A session in a container of `node`.
pub(super) async fn session(
    api: &Arc<Api>,
    caller: Caller,
    node: &NodeName,
    mut request: Request<Incoming>,
) -> Result<Answer, No> {
    // Whether it can be one is for the other agent to say. kubectl tries two ways, and shows what it
    // hears last: a node that can't be reached must be named by either.
    let place = api.place()?;
    let (mut answer, held) = ask(api, caller, node, &request, Some(place)).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return refusal(node, answer).await;
    }
    let theirs = hyper::upgrade::on(&mut answer);
    let ours = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let both = async { tokio::try_join!(ours, theirs) };
        match tokio::time::timeout(UPGRADE_MAX, both).await {
            Ok(Ok((ours, theirs))) => plug(TokioIo::new(ours), TokioIo::new(theirs)).await,
            _ => tracing::debug!("a session on another node did not begin"),
        }
        drop(held);
    });
    let mut begun = reply::text("");
    *begun.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    begun.headers_mut().clear();
    for name in SESSION_HEADERS {
        if let Some(value) = answer.headers().get(&name) {
            begun.headers_mut().insert(name, value.clone());
        }
    }
    Ok(begun)
}

/// Carries bytes to and fro until one side has gone, and its last words to the other.
async fn plug<S>(ours: S, theirs: S)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite,
{
    let (mut from_client, mut to_client) = split(ours);
    let (mut from_node, mut to_node) = split(theirs);
    let mut asks = std::pin::pin!(async {
        // However it ends, it has ended: nobody asks any more.
        let _ = tokio::io::copy(&mut from_client, &mut to_node).await;
        let _ = to_node.shutdown().await;
    });
    let mut answers = std::pin::pin!(async {
        let _ = tokio::io::copy(&mut from_node, &mut to_client).await;
        let _ = to_client.shutdown().await;
    });
    tokio::select! {
        () = &mut asks => drop(tokio::time::timeout(GOODBYE_MAX, answers).await),
        () = &mut answers => {}
    }
}

/// Puts a request to the agent of `node`.
async fn ask(
    api: &Arc<Api>,
    caller: Caller,
    node: &NodeName,
    request: &Request<Incoming>,
    place: Option<OwnedSemaphorePermit>,
) -> Result<(Response<Incoming>, Held), No> {
    let picture = api.picture();
    let (at, key) = contact(&picture, node)?;
    let unreachable = |why: &dyn std::fmt::Display| {
        let lost = silence(&picture, node);
        No::not_ready(format!("node {node} can't be reached at {at}: {why}{lost}"))
    };
    let own = picture.nodes.get(&picture.node).map(|input| &input.facts.addresses);
    let from = own.and_then(|addresses| addresses.first().copied());
    let line = api.backend.dial(at, from, &key).await.map_err(|fault| unreachable(&fault))?;
    let talking = hyper::client::conn::http1::handshake(TokioIo::new(line)).await;
    let (sender, connection) = talking.map_err(|error| unreachable(&error))?;
    let task = tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "a connection to another node ended early");
        }
    });
    let mut held = Held { task: task.abort_handle(), sender, _place: place };
    let question = question(caller, request).map_err(|error| No::bad(error.to_string()))?;
    let answer = tokio::time::timeout(BEGIN_MAX, held.sender.send_request(question)).await;
    let answer = answer
        .map_err(|_| No::timeout(format!("node {node} at {at} does not answer")))?
        .map_err(|error| unreachable(&error))?;
    Ok((answer, held))
}

/// The same request, by us.
fn question(
    caller: Caller,
    request: &Request<Incoming>,
) -> Result<Request<Empty<Bytes>>, hyper::http::Error> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let mut question = Request::builder().method(Method::GET).uri(path).header(HOST, "node");
    for name in SESSION_HEADERS {
        for value in request.headers().get_all(&name) {
            // Hop by hop, but for what makes a session.
            if name != CONNECTION || request.headers().contains_key(UPGRADE) {
                question = question.header(&name, value);
            }
        }
    }
    // A name that no header can carry is as good as none.
    if let Ok(name) = HeaderValue::try_from(caller.name()) {
        question = question.header(CALLER, name);
    }
    question.body(Empty::new())
}

/// Where the agent of `node` answers, and its key.
fn contact(picture: &Picture, node: &NodeName) -> Result<(SocketAddr, String), No> {
    let no = |why: &str| {
        let lost = silence(picture, node);
        No::not_ready(format!("node {node} can't be reached from {}: {why}{lost}", picture.node))
    };
    let facts = picture.nodes.get(node).map(|input| &input.facts);
    let facts = facts.ok_or_else(|| no("nothing has been heard of it yet"))?;
    let ip = facts.addresses.first().ok_or_else(|| no("it has not said its address"))?;
    let contact = facts.contact.as_ref();
    let port = contact.and_then(|contact| Some((contact.api_port?, contact.key.clone())));
    let (port, key) = port.ok_or_else(|| {
        no("its agent does not answer other nodes: api.peerPort is 0 there, or it is an older one")
    })?;
    if let Some(doubt) = picture.doubt_of(node) {
        return Err(no(&format!("its key does not count: {doubt}")));
    }
    Ok((SocketAddr::new(*ip, port), key))
}

/// Since when the node has not been heard of, for the end of a sentence.
fn silence(picture: &Picture, node: &NodeName) -> String {
    let lost = picture.state.nodes.get(node).and_then(|record| record.lost);
    lost.map_or_else(String::new, |since| format!("; it is NotReady since {since}"))
}

/// The other agent's refusal as ours, whole: a client that wanted a session reads no pieces.
async fn refusal(node: &NodeName, answer: Response<Incoming>) -> Result<Answer, No> {
    let (head, body) = answer.into_parts();
    let read = tokio::time::timeout(REFUSAL_MAX, Limited::new(body, REFUSAL_BYTES_MAX).collect());
    let broken = || No::not_ready(format!("node {node} refused, and can't be understood"));
    let body = read.await.map_err(|_| broken())?.map_err(|_| broken())?.to_bytes();
    let kind = head.headers.get(CONTENT_TYPE).cloned();
    let kind = kind.unwrap_or_else(|| HeaderValue::from_static("text/plain"));
    Ok(reply::bytes(head.status, kind, body))
}

/// The other agent's answer as ours, as it comes.
fn passed_on(node: &NodeName, answer: Response<Incoming>, held: Held) -> Answer {
    let (head, body) = answer.into_parts();
    let node = node.clone();
    let pieces = futures_util::stream::try_unfold((body, held), move |(mut body, held)| {
        let node = node.clone();
        async move {
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| {
                    Fault::transient(format!("the line to node {node} broke: {error}"))
                })?;
                if let Ok(bytes) = frame.into_data() {
                    return Ok(Some((bytes, (body, held))));
                }
            }
            Ok(None)
        }
    });
    let mut passed = reply::stream("text/plain", Box::pin(pieces));
    if let Some(kind) = head.headers.get(CONTENT_TYPE) {
        passed.headers_mut().insert(CONTENT_TYPE, kind.clone());
    }
    passed
}
