//! Two agents: n1, which is asked, and n0, whose node the pods are on.

use std::collections::BTreeSet;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use futures_util::SinkExt as _;
use tokio_tungstenite::tungstenite::Message;
use windlass::adapters::api::Peer;
use windlass::adapters::line::Lines;
use windlass::kinds::certified::{Certified, Keys};
use windlass::kinds::name::NodeName;
use windlass::kinds::node::Contact;
use windlass::kinds::registry::Kind;
use windlass::kinds::time::Wall;
use windlass::state::records::{Fence, Unknown};
use windlass::view::picture::Picture;

use super::server::{Served, serve};
use super::talk::{all, open};
use super::tunnel::{Forwarding, connections, echo, there_and_back, wait};
use crate::cli::windlass;
use crate::support::fleet::NODE;

/// The node that is asked.
const ASKED: &str = "n1";

struct Pair {
    /// On n1: its picture shows the pods on n0.
    asked: Served,
    /// On n0.
    holder: Served,
    port: u16,
}

fn contact(served: &Served, api_port: Option<u16>) -> Contact {
    Contact { key: served.identity.public(), life: "x".into(), hint_port: None, api_port }
}

/// Notes in a node's picture what another node says of itself.
fn tell(served: &Served, node: &str, contact: Option<Contact>) {
    served.pictures.send_modify(|picture| {
        let mut next = Picture::clone(picture);
        let mut input = next.nodes[&NodeName::trusted(NODE)].clone();
        let mut facts = (*input.facts).clone();
        facts.addresses = vec![IpAddr::V4(Ipv4Addr::LOCALHOST)];
        facts.contact = contact;
        input.facts = Arc::new(facts);
        next.nodes.insert(NodeName::trusted(node), input);
        *picture = Arc::new(next);
    });
}

impl Pair {
    fn new() -> Self {
        let (asked, holder) = (serve(), serve());
        let lines = Lines::new(&holder.identity).expect("lines");
        let port = holder.runtime.block_on(async {
            let peer = Peer::bind(0, lines).await.expect("a port");
            let port = peer.address().expect("an address").port();
            tokio::spawn(peer.run(holder.api.clone()));
            port
        });
        asked.pictures.send_modify(|picture| {
            let mut next = Picture::clone(picture);
            next.node = NodeName::trusted(ASKED);
            *picture = Arc::new(next);
        });
        tell(&asked, NODE, Some(contact(&holder, Some(port))));
        tell(&holder, ASKED, Some(contact(&asked, None)));
        Self { asked, holder, port }
    }

    fn path(&self, query: &str) -> String {
        let pod = self.asked.named(Kind::Pod, "web-").name;
        format!("/api/v1/namespaces/shop/pods/{pod}/{query}")
    }

    /// `windlass port-forward` of a port of the pod, through the node that is asked, and where it listens.
    fn forward(&self, port: u16) -> (Forwarding, SocketAddr) {
        let pod = self.asked.named(Kind::Pod, "web-").name.to_string();
        let mut command = windlass(&["port-forward", "-n", "shop", &pod, &format!(":{port}")]);
        command.env("WINDLASS_SOCKET", &self.asked.socket);
        let mut forwarding = Forwarding::start(command);
        let at = forwarding.place(port);
        (forwarding, at)
    }

    /// What is said where a log can't be had.
    fn refusal(&self, code: u16) -> String {
        let answer = self.asked.connect().get(&self.path("log")).expect("an answer");
        let status = answer.expect(code).json();
        assert_eq!(status["kind"], "Status");
        status["message"].as_str().expect("a message").to_owned()
    }
}

#[test]
fn a_log_comes_from_the_node_it_is_on() {
    let pair = Pair::new();
    let path = pair.path("log?container=web&tailLines=7&timestamps=true");
    let answer = pair.asked.connect().get(&path).expect("an answer").expect(200);
    assert_eq!(answer.text(), "line 1\nline 2\nline 3\n");
    let asked = |served: &Served| served.asked.lock().expect("unbroken").logs.clone();
    assert!(asked(&pair.asked).is_empty(), "it has no such container");
    let (_, options) = asked(&pair.holder).pop().expect("was asked");
    assert_eq!((options.tail, options.timestamps), (Some(7), true));
    // The other agent's refusals are passed on as they are.
    let path = pair.path("log?container=none");
    let refused = pair.asked.connect().get(&path).expect("an answer").expect(400);
    assert!(refused.text().contains("container none is not valid"), "{}", refused.text());
}

#[test]
fn a_log_is_followed_until_the_client_goes() {
    let pair = Pair::new();
    let mut stream = UnixStream::connect(&pair.asked.socket).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    let path = pair.path("log?follow=true");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").expect("asks");
    let mut text = String::new();
    while !text.contains("line 3\n") {
        let mut piece = [0; 4096];
        let count = stream.read(&mut piece).expect("goes on");
        assert!(count > 0, "it ended: {text}");
        text.push_str(&String::from_utf8_lossy(&piece[..count]));
    }
    wait("one connection", || connections(pair.port) == 2);
    drop(stream);
    wait("the line ends with the client", || connections(pair.port) == 0);
}

#[test]
fn a_session_is_held_across_nodes() {
    let pair = Pair::new();
    pair.asked.runtime.block_on(async {
        let query = "exec?command=cat&stdin=true&stdout=true&tty=true";
        let mut socket = open(&pair.asked, query, "v5.channel.k8s.io").await;
        let said = [b"\x04{\"Width\":80,\"Height\":24}".as_slice(), b"\x00hello", b"\xff\x00"];
        for bytes in said {
            socket.send(Message::Binary(bytes.to_vec().into())).await.expect("sends");
        }
        let (out, _, end) = all(&mut socket).await;
        assert_eq!((out.as_str(), &end["status"]), ("hello", &"Success".into()));
        let query = "exec?command=exit&command=3&stdout=true";
        let mut socket = open(&pair.asked, query, "v4.channel.k8s.io").await;
        let (_, _, end) = all(&mut socket).await;
        assert_eq!(end["details"]["causes"][0]["message"], "3");
        let mut socket = open(&pair.asked, "attach?stdout=true", "v5.channel.k8s.io").await;
        assert_eq!(all(&mut socket).await.2["status"], "Success");
    });
    assert_eq!(pair.holder.asked.lock().expect("unbroken").sizes, [(80, 24)]);
    let path = pair.path("exec?command=x&stdout=true");
    let refused = pair.asked.connect().get(&path).expect("an answer").expect(400);
    assert!(refused.text().contains("WebSockets"), "{}", refused.text());
    // A refusal is no stream: clients that wanted a session don't read one.
    let mut stream = UnixStream::connect(&pair.asked.socket).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    let path = pair.path("exec?command=x&stdout=true&container=none");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").expect("asks");
    let mut refused = String::new();
    stream.read_to_string(&mut refused).expect("reads");
    let refused = refused.to_ascii_lowercase();
    assert!(refused.contains("content-length:") && !refused.contains("chunked"), "{refused}");
}

#[test]
fn ports_are_forwarded_across_nodes() {
    let pair = Pair::new();
    let port = echo().port();
    let (mut forwarding, at) = pair.forward(port);
    there_and_back(at, 20_000_000);
    let _left_open = std::net::TcpStream::connect(at).expect("connects");
    wait("a connection to the pod, and one between the nodes", || {
        connections(port) == 2 && connections(pair.port) == 2
    });
    // The pod goes; only its own node knows it.
    pair.holder.show(|picture| picture.state.pods.clear());
    forwarding.wait_for("error: lost connection to pod web-");
    assert_eq!(forwarding.code(), Some(1));
    wait("no connection", || connections(port) == 0 && connections(pair.port) == 0);
}

#[test]
fn who_can_not_be_reached_is_named_with_the_cause() {
    let pair = Pair::new();
    // The key in the register is another's.
    let own = contact(&pair.asked, Some(pair.port));
    tell(&pair.asked, NODE, Some(own));
    let said = pair.refusal(503);
    let place = format!("node {NODE} can't be reached at 127.0.0.1:{}", pair.port);
    assert!(said.starts_with(&place) && said.contains("another key"), "{said}");
    // Nobody listens. Port 1 is nobody's.
    tell(&pair.asked, NODE, Some(contact(&pair.holder, Some(1))));
    let said = pair.refusal(503);
    assert!(said.contains("127.0.0.1:1: ") && said.contains("refused"), "{said}");
    pair.asked.pictures.send_modify(|picture| {
        let mut next = Picture::clone(picture);
        let nodes = Arc::make_mut(&mut next.state.nodes);
        let record = nodes.get_mut(&NodeName::trusted(NODE)).expect("a record");
        record.lost = Some(Wall::from_seconds(1_700_000_000));
        *picture = Arc::new(next);
    });
    let said = pair.refusal(503);
    assert!(said.ends_with("; it is NotReady since 2023-11-14T22:13:20Z"), "{said}");
    // kubectl asks for a session by GET, then by POST, and shows what it hears last.
    for method in ["GET", "POST"] {
        let path = pair.path("exec?command=x&stdout=true");
        let answer = pair.asked.connect().send(method, &path, &[], b"").expect("an answer");
        assert!(answer.expect(503).text().contains("can't be reached"), "{method}");
    }
    // It says no port, and nothing at all.
    tell(&pair.asked, NODE, Some(contact(&pair.holder, None)));
    assert!(pair.refusal(503).contains("api.peerPort"));
    tell(&pair.asked, NODE, None);
    assert!(pair.refusal(503).contains("api.peerPort"));
}

#[test]
fn strangers_are_refused() {
    let pair = Pair::new();
    tell(&pair.holder, ASKED, None);
    let said = pair.refusal(403);
    assert!(said.contains("knows no node of this fleet with the key"), "{said}");
    assert!(pair.holder.asked.lock().expect("unbroken").logs.is_empty());
    // Known again, answered again: nothing is remembered.
    tell(&pair.holder, ASKED, Some(contact(&pair.asked, None)));
    pair.asked.connect().get(&pair.path("log")).expect("an answer").expect(200);
}

#[test]
fn a_key_that_the_repository_does_not_certify_is_refused() {
    let certify = |served: &Served, node: &str, key: &str| {
        let keys = [(NodeName::trusted(node), key.to_owned())];
        served.pictures.send_modify(|picture| {
            let mut next = Picture::clone(picture);
            next.certified = Arc::new(Certified::new(keys.into(), Keys::new(), false));
            *picture = Arc::new(next);
        });
    };
    let pair = Pair::new();
    let answers = || pair.asked.connect().get(&pair.path("log")).expect("an answer").expect(200);
    answers();
    // Asked by a node whose key is another, or none.
    certify(&pair.holder, ASKED, &pair.holder.identity.public());
    let said = pair.refusal(403);
    assert!(said.contains("certifies another key of this node"), "{said}");
    certify(&pair.holder, "n7", &pair.asked.identity.public());
    let said = pair.refusal(403);
    assert!(said.contains("none of this one"), "{said}");
    certify(&pair.holder, ASKED, &pair.asked.identity.public());
    answers();
    // Nor is one asked.
    certify(&pair.asked, NODE, &pair.asked.identity.public());
    let said = pair.refusal(503);
    assert!(said.contains("its key does not count"), "{said}");
    certify(&pair.asked, NODE, &pair.holder.identity.public());
    answers();
}

#[test]
fn nothing_else_is_answered_and_nothing_handed_on() {
    let pair = Pair::new();
    let lines = Lines::new(&pair.asked.identity).expect("lines");
    let at = (Ipv4Addr::LOCALHOST, pair.port).into();
    let ask = |method: &str, path: &str| {
        let asking = async {
            use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
            let mut line =
                lines.dial(at, None, &pair.holder.identity.public()).await.expect("answers");
            let head = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
            line.write_all(head.as_bytes()).await.expect("asks");
            let mut answer = Vec::new();
            // It may hang up without TLS's good-bye.
            let _ = line.read_to_end(&mut answer).await;
            String::from_utf8_lossy(&answer).into_owned()
        };
        pair.asked.runtime.block_on(asking)
    };
    for (method, path) in [
        ("GET", "/api/v1/pods".to_owned()),
        ("GET", "/api/v1/namespaces/shop/secrets/web-keys".to_owned()),
        ("GET", "/windlass/v1/status".to_owned()),
        ("POST", pair.path("exec?command=x&stdout=true")),
        ("DELETE", pair.path("").trim_end_matches('/').to_owned()),
        ("GET", "/nothing".to_owned()),
    ] {
        let answer = ask(method, &path);
        assert!(answer.starts_with("HTTP/1.1 403 "), "{method} {path}: {answer}");
    }
    // Its own picture has the pods on a third node by now.
    pair.holder.pictures.send_modify(|picture| {
        let mut next = Picture::clone(picture);
        next.node = NodeName::trusted("n2");
        *picture = Arc::new(next);
    });
    let answer = ask("GET", &pair.path("log"));
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("runs on node n0"), "{answer}");
}

#[test]
fn what_a_node_has_open_ends_when_it_is_deleted() {
    let pair = Pair::new();
    let port = echo().port();
    let (_forwarding, at) = pair.forward(port);
    there_and_back(at, 1000);
    let _left_open = std::net::TcpStream::connect(at).expect("connects");
    let mut stream = UnixStream::connect(&pair.asked.socket).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(10))).expect("set");
    write!(stream, "GET {} HTTP/1.1\r\nHost: x\r\n\r\n", pair.path("log?follow=true"))
        .expect("asks");
    wait("a log and a port", || connections(port) == 2 && connections(pair.port) == 4);
    // Its register is there still.
    pair.holder.show(|picture| {
        let nodes = Arc::make_mut(&mut picture.state.nodes);
        let mut record = nodes[&NodeName::trusted(NODE)].clone();
        record.fenced = Some(Fence {
            by: "ada".into(),
            since: Wall::from_seconds(1_700_000_000),
            pods: BTreeSet::new(),
            is_forgotten: true,
            unknown: Unknown::new(),
        });
        nodes.insert(NodeName::trusted(ASKED), record);
    });
    wait("no connection", || connections(port) == 0 && connections(pair.port) == 0);
    let said = pair.refusal(403);
    assert!(said.ends_with("node n1 was deleted"), "{said}");
}
