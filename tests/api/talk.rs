//! Sessions by WebSocket, as kubectl holds them.

use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::UnixStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use windlass::kinds::registry::Kind;

use super::server::{Served, serve};

pub(super) async fn open(
    served: &Served,
    query: &str,
    protocol: &str,
) -> WebSocketStream<UnixStream> {
    let pod = served.named(Kind::Pod, "web-").name;
    let url = format!("ws://agent/api/v1/namespaces/shop/pods/{pod}/{query}");
    let mut request = url.into_client_request().expect("a request");
    let protocol = protocol.parse().expect("a header");
    request.headers_mut().insert("Sec-WebSocket-Protocol", protocol);
    let stream = UnixStream::connect(&served.socket).await.expect("connects");
    tokio_tungstenite::client_async(request, stream).await.expect("a session").0
}

/// What comes on each channel until the end; the last is how it ended.
pub(super) async fn all(socket: &mut WebSocketStream<UnixStream>) -> (String, String, Value) {
    let (mut out, mut err, mut end) = (String::new(), String::new(), Value::Null);
    let hear = async {
        while let Some(Ok(message)) = socket.next().await {
            let Message::Binary(bytes) = message else { continue };
            let text = String::from_utf8_lossy(&bytes[1..]).into_owned();
            match bytes[0] {
                1 => out.push_str(&text),
                2 => err.push_str(&text),
                3 => end = serde_json::from_str(&text).expect("a Status"),
                other => panic!("channel {other}"),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(10), hear).await.expect("ends in time");
    (out, err, end)
}

#[test]
fn a_command_says_its_word_and_how_it_ended() {
    let served = serve();
    served.runtime.block_on(async {
        let query = "exec?command=echo&command=a%20b&stdout=true&stderr=true";
        let mut socket = open(&served, query, "v5.channel.k8s.io").await;
        let (out, err, end) = all(&mut socket).await;
        assert_eq!((out.as_str(), err.as_str()), ("echo a b\n", "to stderr\n"));
        assert_eq!(end["status"], "Success");
        let query = "exec?command=exit&command=3&stdout=true";
        let mut socket = open(&served, query, "v4.channel.k8s.io").await;
        let (_, err, end) = all(&mut socket).await;
        assert_eq!(err, "", "it was not asked for");
        assert_eq!(end["reason"], "NonZeroExitCode");
        assert_eq!(end["details"]["causes"][0]["message"], "3");
    });
}

#[test]
fn input_is_heard_until_its_end_and_sizes_reach_the_terminal() {
    let served = serve();
    served.runtime.block_on(async {
        let query = "exec?command=cat&stdin=true&stdout=true&tty=true";
        let mut socket = open(&served, query, "v5.channel.k8s.io").await;
        let said = [b"\x04{\"Width\":80,\"Height\":24}".as_slice(), b"\x00hello", b"\xff\x00"];
        for bytes in said {
            socket.send(Message::Binary(bytes.to_vec().into())).await.expect("sends");
        }
        let (out, _, end) = all(&mut socket).await;
        assert_eq!((out.as_str(), &end["status"]), ("hello", &"Success".into()));
        assert_eq!(served.asked.lock().expect("unbroken").sizes, [(80, 24)]);
    });
}

#[test]
fn sessions_that_can_not_be_are_refused_by_a_status() {
    let served = serve();
    let web = served.named(Kind::Pod, "web-").name;
    let big = served.named(Kind::Pod, "big").name;
    for (pod, query, code) in [
        (web.as_str(), "exec?command=x&stdout=true", 400),
        (web.as_str(), "exec?stdout=true", 400),
        (web.as_str(), "exec?command=x&stdout=true&container=none", 400),
        (big.as_str(), "exec?command=x&stdout=true", 400),
        ("none", "exec?command=x&stdout=true", 404),
    ] {
        let path = format!("/api/v1/namespaces/shop/pods/{pod}/{query}");
        for method in ["GET", "POST"] {
            let answer = served.connect().send(method, &path, &[], b"").expect("an answer");
            assert_eq!(answer.expect(code).json()["kind"], "Status", "{method} {path}");
        }
    }
}
