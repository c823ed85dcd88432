//! The door for other nodes' agents: logs of this node's pods, sessions in their containers, connections
//! to their ports, images.
//!
//! Whoever calls has proved that he owns his key; whose key it is stands in the registers of the
//! fleet's nodes, which each node writes for itself, and, once the desired repository certifies keys,
//! must be what that says ([`certified`](crate::kinds::certified)). A node that leaves the fleet is not
//! answered any more, what it has open ends, and nothing has to be revoked.
//!
//! The rule: nothing is handed on from here. Who asks for a pod of a third node is told so, and two
//! agents that each believe a pod to be with the other do not ask in circles.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use super::ask::Parameters;
use super::listen::{HEAD_MAX, Patient};
use super::reply::{Answer, No};
use super::route::{self, Part, Route};
use super::serve::Api;
use super::{door, larder, log, talk, tunnel};
use crate::adapters::line::Lines;
use crate::kinds::name::NodeName;
use crate::kinds::registry::Kind;
use crate::ports::Fault;
use crate::view::picture::Picture;

/// The header in which an agent says which of its machine's users asks.
pub(super) const CALLER: &str = "windlass-caller";
/// Each is a log or a session of somebody on some node.
const CONNECTIONS_MAX: usize = 128;

/// A port for other nodes' agents.
pub struct Peer {
    listener: TcpListener,
    lines: Lines,
}

impl Peer {
    /// Listens at every address of the machine: the one by which other nodes know it may come later,
    /// and may change.
    pub async fn bind(port: u16, lines: Lines) -> Result<Self, Fault> {
        let address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, port));
        let listener = TcpListener::bind(address).await.map_err(|error| {
            Fault::stalled(format!(
                "listening at port {port} for other nodes: {error} (api.peerPort)"
            ))
        })?;
        Ok(Self { listener, lines })
    }

    /// Where it listens.
    pub fn address(&self) -> Result<SocketAddr, Fault> {
        self.listener.local_addr().map_err(Fault::stalled)
    }

    /// Answers until it is dropped.
    pub async fn run(self, api: Arc<Api>) {
        let lines = self.lines;
        door::take(
            &self.listener,
            CONNECTIONS_MAX,
            |_| (),
            |stream| serve(api.clone(), lines.clone(), stream),
        )
        .await;
    }
}

async fn serve(api: Arc<Api>, lines: Lines, stream: TcpStream) {
    let from = stream.peer_addr().map(|address| address.to_string()).unwrap_or_default();
    let (line, key) = match lines.take(stream).await {
        Ok(taken) => taken,
        Err(fault) => {
            // Whoever can reach the port can make these, as many as he likes.
            tracing::debug!(from, %fault, "a call was no other node's");
            return;
        }
    };
    let line = Patient::new(line, api.limits.stall).until(|| removal(api.clone(), key.clone()));
    let service = service_fn(move |request| {
        let (api, key, from) = (api.clone(), key.clone(), from.clone());
        async move {
            let answer = answer(&api, &key, &from, request).await;
            Ok::<_, std::convert::Infallible>(answer.unwrap_or_else(Into::into))
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .serve_connection(TokioIo::new(line), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of another node ended early");
    }
}

async fn answer(
    api: &Arc<Api>,
    key: &str,
    from: &str,
    request: Request<Incoming>,
) -> Result<Answer, No> {
    let node = admit(&api.picture(), key).map_err(|why| {
        tracing::warn!(from, key, why, "somebody was refused who is no node of this fleet");
        No::forbidden(why)
    })?;
    if let Some(answer) = larder::answer(api, &node, request.uri()).await {
        return answer;
    }
    let route = route::parse(request.uri().path());
    let (pod, part) = match route {
        Some(Route::Object { key, part })
            if is_asked(key.kind, part) && request.method() == Method::GET =>
        {
            (key, part)
        }
        _ => {
            tracing::warn!(%node, path = request.uri().path(), "another node was refused");
            return Err(No::forbidden(
                "nodes ask each other for logs, exec, attach, port-forward and images only",
            ));
        }
    };
    let asked = Parameters::parse(request.uri().query());
    note(&node, &pod.to_string(), part, &asked, &request);
    match part {
        Part::Log => log::log(api, &pod, &asked).await,
        Part::PortForward => tunnel::tunnel(api, &pod, &asked, request).await,
        _ => talk::talk(api, &pod, part, &asked, request).await,
    }
}

/// Whether nodes ask each other for that.
fn is_asked(kind: Kind, part: Part) -> bool {
    kind == Kind::Pod && matches!(part, Part::Log | Part::Exec | Part::Attach | Part::PortForward)
}

/// The node whose key it is, or why nobody with this key is answered.
fn admit(picture: &Picture, key: &str) -> Result<NodeName, String> {
    let mut nodes = picture.nodes.iter();
    let found = nodes
        .find(|(_, input)| input.facts.contact.as_ref().is_some_and(|contact| contact.key == key));
    let own = &picture.node;
    let Some((node, _)) = found else {
        return Err(format!(
            "node {own} knows no node of this fleet with the key {key}; one that has just joined is \
             known as soon as its register is read"
        ));
    };
    let why = match picture.doubt_of(node) {
        Some(doubt) => doubt.to_string(),
        None if picture.state.is_forgotten(node) => format!("node {node} was deleted"),
        None => return Ok(node.clone()),
    };
    Err(format!(
        "node {own} answers nobody with the key {key}, which node {node} says is its: {why}"
    ))
}

/// Comes when a node that was answered is answered no more.
async fn removal(api: Arc<Api>, key: String) {
    let mut pictures = api.pictures.clone();
    let mut was_answered = false;
    loop {
        match admit(&pictures.borrow_and_update(), &key) {
            Ok(_) => was_answered = true,
            Err(why) if was_answered => {
                tracing::warn!(
                    key,
                    why,
                    "a connection of a node that is answered no more is ended"
                );
                return;
            }
            Err(_) => {}
        }
        if pictures.changed().await.is_err() {
            // The agent ends, and this connection with it.
            return std::future::pending().await;
        }
    }
}

/// Who does what, for the log. Of a command only the program: arguments may hold secrets.
fn note(node: &NodeName, pod: &str, part: Part, asked: &Parameters, request: &Request<Incoming>) {
    let user = request.headers().get(CALLER).and_then(|name| name.to_str().ok()).unwrap_or("?");
    let container = asked.get("container").unwrap_or_default();
    match part {
        Part::Log => tracing::info!(%node, user, pod, container, "another node reads a log"),
        Part::Exec => {
            let program = asked.get("command").unwrap_or_default();
            tracing::info!(%node, user, pod, container, program, "another node runs a program");
        }
        Part::PortForward => tracing::info!(%node, user, pod, "another node forwards ports"),
        _ => tracing::info!(%node, user, pod, container, "another node attaches"),
    }
}
