//! `portforward`: connections to a pod's ports, all on one line.
//!
//! kubectl asks in two ways and other clients in a third; behind that all are the same
//! (`k8s.io/kubelet/pkg/cri/streaming/portforward/httpstream.go`): for each connection two streams are
//! begun, one for its bytes and one on which is said why there is none.
//!
//! ```text
//!   GET,  WebSocket SPDY/3.1+portforward.k8s.io ─ messages ─┐
//!   POST, Upgrade: SPDY/3.1 ─────────────────────── bytes ──┼─▶ frames ─▶ pairs of streams ─▶ reach
//!   GET,  WebSocket v4.channel.k8s.io ────────── channels ──┘
//! ```
//!
//! The rule: a session is for one life of a pod, and ends with it.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, StreamExt as _};
use hyper::Request;
use hyper::body::Incoming;
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::Message;

use super::ask::Parameters;
use super::reply::{Answer, No};
use super::serve::Api;
use super::upgrade::{self, Socket};
use super::{channels, container};
use crate::adapters::spdy::{
    self, Headers, Input, Opened, Output, PORT, PORT_FORWARD, PROTOCOL_VERSION, REQUEST_ID, SPDY,
    STREAM_TYPE, Session, Side, Stream, TYPE_DATA, TYPE_ERROR,
};
use crate::kinds::name::Uid;
use crate::kinds::object::Key;

/// The header in which the languages for SPDY's streams are offered, and one chosen.
pub(super) const LANGUAGE: HeaderName = HeaderName::from_static(PROTOCOL_VERSION);

/// SPDY in a WebSocket (`k8s.io/apimachinery/pkg/util/portforward.WebsocketsSPDYTunnelingPrefix`).
const TUNNELLED: &str = "SPDY/3.1+portforward.k8s.io";
const CHANNELS: &str = "v4.channel.k8s.io";
/// The longest message of a client; kubectl sends 32 KiB.
const MESSAGE_BYTES_MAX: usize = 128 * 1024;
/// How long a client may take to begin.
const UPGRADE_MAX: Duration = Duration::from_secs(30);
/// How long a stream waits for the other of its pair: kubelet's `DefaultStreamCreationTimeout`.
const PAIR_MAX: Duration = Duration::from_secs(30);

/// The longest name of a connection: kubectl's are numbers.
const REQUEST_BYTES_MAX: usize = 128;

/// How frames come.
enum Way {
    Plain,
    Tunnelled,
    Channels(Vec<u16>),
}

/// Begins a session.
pub(super) async fn tunnel(
    api: &Arc<Api>,
    key: &Key,
    asked: &Parameters,
    mut request: Request<Incoming>,
) -> Result<Answer, No> {
    let uid = container::inside(&api.picture(), key)?.uid;
    let (way, answer) = agree(request.headers(), asked)?;
    let place = api.place()?;
    let upgrade = hyper::upgrade::on(&mut request);
    let pod = Arc::new(Pod { api: api.clone(), key: key.clone(), uid });
    tokio::spawn(async move {
        let Ok(Ok(line)) = tokio::time::timeout(UPGRADE_MAX, upgrade).await else {
            tracing::debug!("a client went away before its session began");
            return;
        };
        let (input, output) = match way {
            Way::Plain => spdy::bytes(TokioIo::new(line)),
            Way::Tunnelled => tunnelled(upgrade::socket(line, MESSAGE_BYTES_MAX).await),
            Way::Channels(ports) => {
                channels::frames(upgrade::socket(line, MESSAGE_BYTES_MAX).await, ports)
            }
        };
        forward(&pod, input, output).await;
        drop(place);
    });
    Ok(answer)
}

/// The way in which a client asks, and the answer.
fn agree(headers: &HeaderMap, asked: &Parameters) -> Result<(Way, Answer), No> {
    if upgrade::wants(headers, SPDY) {
        // Who offers none is older than the choice.
        if headers.contains_key(LANGUAGE) && !upgrade::lists(headers, &LANGUAGE, PORT_FORWARD) {
            return Err(No::forbidden(format!(
                "unable to upgrade: unable to negotiate protocol: server accepts [{PORT_FORWARD}]"
            )));
        }
        let mut answer = upgrade::switching(SPDY);
        answer.headers_mut().insert(LANGUAGE, HeaderValue::from_static(PORT_FORWARD));
        return Ok((Way::Plain, answer));
    }
    let else_how = "port-forward needs an upgrade of the connection, to a WebSocket or to SPDY/3.1";
    let (answer, language) = upgrade::websocket(headers, &[TUNNELLED, CHANNELS], else_how)?;
    let way = match language {
        CHANNELS => Way::Channels(channels::ports(asked)?),
        _ => Way::Tunnelled,
    };
    Ok((way, answer))
}

/// Frames in the messages of a WebSocket, which end anywhere in them.
fn tunnelled(socket: Socket) -> (Input, Output) {
    let (sink, messages) = socket.split();
    let pieces = messages.map(|message| match message {
        Ok(Message::Binary(bytes)) => Ok(bytes),
        Ok(Message::Text(_)) => Err(io::Error::new(io::ErrorKind::InvalidData, "text for SPDY")),
        Ok(_) => Ok(Bytes::new()),
        Err(error) => Err(io::Error::other(error)),
    });
    let output = sink
        .sink_map_err(io::Error::other)
        .with(|bytes| std::future::ready(Ok::<_, io::Error>(Message::Binary(bytes))));
    spdy::frames(pieces, output)
}

/// One life of a pod.
struct Pod {
    api: Arc<Api>,
    key: Key,
    uid: Uid,
}

impl Pod {
    /// Comes when it is over.
    async fn ends(&self) {
        let mut pictures = self.api.pictures.clone();
        while container::lives(&pictures.borrow_and_update(), &self.key, &self.uid) {
            if pictures.changed().await.is_err() {
                return;
            }
        }
    }

    /// A connection to one of its ports, or why there is none. Its containers come and go, so each
    /// connection looks for one anew.
    async fn reach(&self, port: u16) -> Result<TcpStream, String> {
        let inside = container::inside(&self.api.picture(), &self.key);
        let inside = inside.map_err(|no| no.message().to_owned())?;
        if inside.uid != self.uid {
            return Err("it was replaced by another of the same name".to_owned());
        }
        let reached = self.api.backend.reach(&inside.container, port, inside.ip).await;
        reached.map_err(|fault| fault.message)
    }

    /// A connection, from beginning to end.
    async fn connect(self: Arc<Self>, mut pair: Pair) {
        let Pair { port, data, errors } = &mut pair;
        // Nothing is to be said to us there.
        errors.ear.close();
        let reached = tokio::select! {
            reached = self.reach(*port) => reached,
            _ = &mut data.gone => return,
        };
        let last_words = match reached {
            Ok(connection) => {
                let patience = self.api.limits.stall;
                spdy::carry(connection, data, Some(&mut errors.mouth), patience).await;
                errors.mouth.end().await
            }
            Err(why) => {
                data.ear.close();
                let (name, uid) = (&self.key.name, &self.uid);
                let said = format!("error forwarding port {port} to pod {name}, uid {uid}: {why}");
                tracing::debug!(pod = %self.key, "{said}");
                async {
                    errors.mouth.say(said.into()).await?;
                    errors.mouth.end().await?;
                    data.mouth.end().await
                }
                .await
            }
        };
        if last_words.is_err() {
            tracing::debug!(pod = %self.key, "nobody hears how a forwarded connection ended");
        }
    }
}

/// Forwards until the client or the pod has gone.
async fn forward(pod: &Arc<Pod>, input: Input, output: Output) {
    let (session, _, opened) = Session::new(Side::Server);
    let runs = session.run(input, output, pod.ends());
    // Its connections are cut off with it.
    tokio::select! {
        () = runs => {}
        () = serve(pod, opened) => {}
    }
}

/// The two streams of a connection.
struct Pair {
    port: u16,
    data: Stream,
    errors: Stream,
}

/// One of the two, while it waits for the other.
struct Half {
    until: Instant,
    is_data: bool,
    port: u16,
    stream: Stream,
}

/// Makes a connection for each pair of streams. Never ends.
async fn serve(pod: &Arc<Pod>, mut opened: mpsc::Receiver<Opened>) {
    let mut halves: BTreeMap<String, Half> = BTreeMap::new();
    let mut connections = JoinSet::new();
    loop {
        let next = halves.values().map(|half| half.until).min();
        tokio::select! {
            Some(opened) = opened.recv() => {
                if let Some(pair) = pair(&mut halves, opened) {
                    connections.spawn(pod.clone().connect(pair));
                }
            }
            Some(_) = connections.join_next() => {}
            // Without their other half they are dropped, and so reset.
            now = overdue(next) => halves.retain(|_, half| half.until > now),
        }
    }
}

async fn overdue(next: Option<Instant>) -> Instant {
    match next {
        Some(next) => tokio::time::sleep_until(next).await,
        None => std::future::pending().await,
    }
    Instant::now()
}

/// Puts a stream to the other of its pair, if that is there already. One that says nothing of what it is
/// for is dropped, and so refused.
fn pair(halves: &mut BTreeMap<String, Half>, opened: Opened) -> Option<Pair> {
    // Who takes one back would else find no room for 30 s.
    halves.retain(|_, half| !half.stream.has_gone());
    let Opened { headers, stream } = opened;
    let (request, is_data, port) = purpose(&headers, stream.id())?;
    let is_other = |half: &Half| half.is_data != is_data && half.port == port;
    match halves.get(&request) {
        Some(half) if !is_other(half) => None,
        Some(_) => {
            stream.accept();
            let other = halves.remove(&request)?.stream;
            let (data, errors) = if is_data { (stream, other) } else { (other, stream) };
            Some(Pair { port, data, errors })
        }
        None => {
            stream.accept();
            let until = Instant::now() + PAIR_MAX;
            halves.insert(request, Half { until, is_data, port, stream });
            None
        }
    }
}

/// Of which connection a stream is, whether it carries its data, and to which port.
fn purpose(headers: &Headers, stream: u32) -> Option<(String, bool, u16)> {
    let is_data = match headers.get(STREAM_TYPE)?.as_str() {
        TYPE_DATA => true,
        TYPE_ERROR => false,
        _ => return None,
    };
    let port = headers.get(PORT)?.parse().ok().filter(|port| *port > 0)?;
    // Clients before 2016 number no connections; they begin the streams of one after each other.
    let alone = || if is_data { stream.saturating_sub(2) } else { stream }.to_string();
    let request = headers.get(REQUEST_ID).cloned().unwrap_or_else(alone);
    (request.len() <= REQUEST_BYTES_MAX).then_some((request, is_data, port))
}
