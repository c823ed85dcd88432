//! `exec` and `attach`: a process' input, outputs, terminal and end over one WebSocket.
//!
//! Each message begins with the number of its channel, as in
//! `k8s.io/apimachinery/pkg/util/remotecommand` (`v4.channel.k8s.io`; v5 can also close a channel):
//! ```text
//!   0 ▶ standard input      1 ◀ standard output      2 ◀ standard error
//!   3 ◀ how it ended        4 ▶ the terminal's size  255 ▶ this channel ends (v5)
//! ```

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{SinkExt as _, Stream, StreamExt as _};
use hyper::Request;
use hyper::body::Incoming;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt as _;
use tokio_tungstenite::tungstenite::protocol::frame::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::ask::Parameters;
use super::backend::{Hand, Talk};
use super::container::{self, Want};
use super::reply::{Answer, No};
use super::route::Part;
use super::serve::Api;
use super::upgrade::{self, Socket, message};
use crate::kinds::object::Key;
use crate::ports::Fault;

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// In v5: the channel named by the next byte ends.
const CLOSE: u8 = 255;

/// The languages spoken here, the best first.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];
/// The longest message of a client; kubectl sends 32 KiB.
const MESSAGE_BYTES_MAX: usize = 1024 * 1024;
/// How long Docker may take to begin, to size a terminal, or to say how it ended.
const DOCKER_MAX: Duration = Duration::from_secs(30);
/// A session nobody types into and that says nothing is asked whether it is still there.
const PING_EVERY: Duration = Duration::from_secs(30);
/// How long a client may take to say good-bye.
const GOODBYE_MAX: Duration = Duration::from_secs(5);

/// What a client asked for.
struct Wish {
    stdin: bool,
    stdout: bool,
    stderr: bool,
}

/// Begins a session.
pub(super) async fn talk(
    api: &Arc<Api>,
    key: &Key,
    part: Part,
    asked: &Parameters,
    mut request: Request<Incoming>,
) -> Result<Answer, No> {
    let id = container::find(&api.picture(), key, asked.get("container"), Want::Running)?;
    let command: Vec<String> = asked.all("command").map(str::to_owned).collect();
    if part == Part::Exec && command.is_empty() {
        return Err(No::bad("you must specify at least 1 command to execute"));
    }
    let wish = Wish {
        stdin: asked.is_true("stdin"),
        stdout: asked.is_true("stdout"),
        stderr: asked.is_true("stderr"),
    };
    if !(wish.stdin || wish.stdout || wish.stderr) {
        return Err(No::bad("you must specify at least one of stdin, stdout, stderr"));
    }
    let else_how =
        "sessions need WebSockets, which kubectl has from 1.30 on; SPDY is not spoken here";
    let (answer, _) = upgrade::websocket(request.headers(), &PROTOCOLS, else_how)?;
    let place = api.place()?;
    let begun = async {
        match part {
            Part::Exec => api.backend.exec(&id, &command, asked.is_true("tty"), wish.stdin).await,
            _ => api.backend.attach(&id, wish.stdin).await,
        }
    };
    let begun = tokio::time::timeout(DOCKER_MAX, begun).await;
    let talk = begun.map_err(|_| No::timeout("Docker does not answer"))??;
    let upgrade = hyper::upgrade::on(&mut request);
    tokio::spawn(async move {
        let Ok(Ok(connection)) = tokio::time::timeout(DOCKER_MAX, upgrade).await else {
            tracing::debug!("a client went away before its session began");
            return;
        };
        let socket = upgrade::socket(connection, MESSAGE_BYTES_MAX).await;
        if let Err(error) = converse(socket, talk, &wish, part == Part::Attach).await {
            tracing::debug!(%error, "a session ended early");
        }
        drop(place);
    });
    Ok(answer)
}

/// Carries words to and fro until the process has ended or the client has gone.
async fn converse(socket: Socket, talk: Talk, wish: &Wish, is_attached: bool) -> Result<(), Error> {
    let Talk { mut output, input, hand } = talk;
    let (mut sink, stream) = socket.split();
    // Nothing yet, on the first channel there is: the client knows that the session stands.
    let first = if wish.stdout {
        STDOUT
    } else if wish.stderr {
        STDERR
    } else {
        ERROR
    };
    sink.send(message(first, b"")).await?;
    let mut hears = std::pin::pin!(hear(stream, input, hand.clone()));
    let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + PING_EVERY, PING_EVERY);
    let mut fault = None;
    loop {
        let piece = tokio::select! {
            piece = output.next() => piece,
            () = &mut hears => return Ok(()),
            _ = ping.tick() => {
                sink.send(Message::Ping(Bytes::new())).await?;
                continue;
            }
        };
        let Some(piece) = piece else { break };
        match piece {
            Ok((which, bytes)) => {
                let (channel, is_wanted) = match which {
                    crate::adapters::docker::Which::Stdout => (STDOUT, wish.stdout),
                    crate::adapters::docker::Which::Stderr => (STDERR, wish.stderr),
                };
                if is_wanted && !bytes.is_empty() {
                    sink.send(message(channel, &bytes)).await?;
                }
            }
            Err(error) => {
                fault = Some(error);
                break;
            }
        }
    }
    let ended = match fault {
        Some(fault) => Err(fault),
        None => tokio::time::timeout(DOCKER_MAX, hand.exit_code())
            .await
            .unwrap_or_else(|_| Err(Fault::deadline("Docker does not say how it ended"))),
    };
    sink.send(message(ERROR, ending(&ended, is_attached).to_string().as_bytes())).await?;
    // The client's own good-bye is waited for: a connection closed under what it still sends would
    // lose it what it has not read yet.
    let close = CloseFrame { code: CloseCode::Normal, reason: "".into() };
    let goodbye = async {
        sink.send(Message::Close(Some(close))).await?;
        (&mut hears).await;
        Ok(())
    };
    tokio::time::timeout(GOODBYE_MAX, goodbye).await.unwrap_or(Ok(()))
}

/// How it ended, as kubectl reads it.
fn ending(ended: &Result<Option<i64>, Fault>, is_attached: bool) -> Value {
    let failure = |reason: &str, message: String, details: Value| {
        json!({
            "metadata": {},
            "status": "Failure",
            "reason": reason,
            "message": message,
            "details": details,
        })
    };
    match ended {
        // Whoever was only attached is not told the exit code; kubelet doesn't either.
        Ok(Some(0)) => json!({"metadata": {}, "status": "Success"}),
        Ok(_) if is_attached => json!({"metadata": {}, "status": "Success"}),
        Ok(Some(code)) => failure(
            "NonZeroExitCode",
            format!("command terminated with non-zero exit code: exit status {code}"),
            json!({"causes": [{"reason": "ExitCode", "message": code.to_string()}]}),
        ),
        Ok(None) => failure(
            "InternalError",
            "the command has closed its outputs and runs on".to_owned(),
            json!({}),
        ),
        Err(fault) => failure("InternalError", fault.message.clone(), json!({})),
    }
}

/// Hears what the client has to say, until it has gone.
async fn hear(
    mut stream: impl Stream<Item = Result<Message, Error>> + Unpin,
    mut input: Option<std::pin::Pin<Box<dyn tokio::io::AsyncWrite + Send>>>,
    hand: Arc<dyn Hand>,
) {
    while let Some(Ok(message)) = stream.next().await {
        let bytes = match message {
            Message::Binary(bytes) => bytes,
            Message::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            Message::Close(_) => return,
            _ => continue,
        };
        match bytes.split_first() {
            Some((&STDIN, words)) => {
                let Some(open) = &mut input else { continue };
                let said = async {
                    open.write_all(words).await?;
                    open.flush().await
                };
                if said.await.is_err() {
                    // It no longer listens; its output says how it ended.
                    input = None;
                }
            }
            Some((&CLOSE, [STDIN])) => {
                if let Some(mut open) = input.take() {
                    // Whoever does not hear of the end has ended.
                    let _ = open.shutdown().await;
                }
            }
            Some((&RESIZE, size)) => resize(&*hand, size).await,
            _ => {}
        }
    }
}

async fn resize(hand: &dyn Hand, size: &[u8]) {
    let Ok(size) = serde_json::from_slice::<Value>(size) else {
        return;
    };
    let side = |name: &str| size[name].as_u64().and_then(|side| u16::try_from(side).ok());
    if let (Some(columns), Some(rows)) = (side("Width"), side("Height")) {
        match tokio::time::timeout(DOCKER_MAX, hand.resize(columns, rows)).await {
            Ok(Ok(())) => {}
            // A terminal of the wrong size is better than none.
            Ok(Err(fault)) => tracing::debug!(%fault, "a terminal keeps its size"),
            Err(_) => tracing::debug!("a terminal keeps its size: Docker does not answer"),
        }
    }
}
