//! Logs, exec and attach, as people use them.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use windlass::adapters::docker::{LogOptions, Pieces, Session, Which};
use windlass::kinds::time::Wall;
use windlass::ports::FaultKind;
use windlass::ports::runtime::{Answer, Call, ContainerSpec, TAIL_BYTES_MAX};

use crate::support::host::Host;
use crate::support::pods::Node;

const PATIENCE: Duration = Duration::from_secs(60);

async fn all(pieces: Pieces) -> (String, String) {
    let read = pieces.fold((String::new(), String::new()), |mut both, piece| async move {
        let (which, bytes) = piece.expect("reads");
        let text = String::from_utf8_lossy(&bytes).into_owned();
        match which {
            Which::Stdout => both.0.push_str(&text),
            Which::Stderr => both.1.push_str(&text),
        }
        both
    });
    tokio::time::timeout(PATIENCE, read).await.expect("ends")
}

/// Reads until `words` have come.
async fn until(session: &mut Session, words: &str) -> String {
    let mut text = String::new();
    let read = async {
        while !text.contains(words) {
            let (_, bytes): (_, Bytes) =
                session.output.next().await.expect("goes on").expect("reads");
            text.push_str(&String::from_utf8_lossy(&bytes));
        }
    };
    let answer = tokio::time::timeout(PATIENCE, read).await;
    assert!(answer.is_ok(), "{words:?} has not come: {text:?}");
    text
}

async fn say(session: &mut Session, words: &[u8]) {
    let input = session.input.as_mut().expect("has an input");
    input.write_all(words).await.expect("writes");
    input.flush().await.expect("writes");
}

#[tokio::test]
async fn the_end_of_a_log_is_what_a_dead_container_has_to_say() {
    let Some(host) = Host::shared() else { return };
    let node = Node::new(host, "tail");
    // Docker copies the two outputs independently of each other.
    let script =
        "for i in $(seq 500); do echo line $i of many words; done; sleep 0.5; echo the end >&2";
    let (_, app) = node.pod("web", &["sh", "-c", script]).await;
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    all(node.docker.logs(&app.id, &follow).await.expect("follows")).await;
    let answer = node.docker.perform(Call::Tail(app.id.clone())).await;
    let Ok(Answer::Text(text)) = answer else { panic!("{answer:?}") };
    assert!(text.contains("line 500 of many words\n") && text.contains("the end\n"), "{text}");
    assert!(!text.contains("line 400 of") && text.len() <= TAIL_BYTES_MAX, "{}", text.len());
}

#[tokio::test]
async fn logs_are_cut_as_asked() {
    let Some(host) = Host::shared() else { return };
    let node = Node::new(host, "logs");
    let script = "echo one; echo wrong >&2; sleep 1.2; echo two; echo three; sleep 1; echo four";
    let (pause, app) = node.pod("web", &["sh", "-c", script]).await;

    // Followed to the container's end.
    let follow = LogOptions { follow: true, ..LogOptions::default() };
    let followed = node.docker.logs(&app.id, &follow).await.expect("follows");
    let (out, err) = all(followed).await;
    assert_eq!((&*out, &*err), ("one\ntwo\nthree\nfour\n", "wrong\n"));

    let cut = async |options: LogOptions| {
        all(node.docker.logs(&app.id, &options).await.expect("reads")).await
    };
    let tail = LogOptions { tail: Some(2), ..LogOptions::default() };
    assert_eq!(cut(tail).await.0, "three\nfour\n");
    let none = LogOptions { tail: Some(0), ..LogOptions::default() };
    assert_eq!(cut(none).await, (String::new(), String::new()));
    let err_only = LogOptions { stdout: false, ..LogOptions::default() };
    assert_eq!(cut(err_only).await, (String::new(), "wrong\n".into()));

    let (stamped, _) = cut(LogOptions { timestamps: true, ..LogOptions::default() }).await;
    let second = stamped.lines().nth(1).expect("a second line");
    let (stamp, text) = second.split_once(' ').expect("a time before it");
    assert_eq!(text, "two");
    let moment = Wall::parse(stamp).expect("is RFC 3339");
    let since = LogOptions { since: Some(moment), ..LogOptions::default() };
    assert_eq!(cut(since).await, ("two\nthree\nfour\n".into(), String::new()));

    node.remove(&[&app, &pause]).await;
    let gone = node.docker.logs(&app.id, &LogOptions::default()).await;
    assert_eq!(gone.err().map(|fault| fault.kind), Some(FaultKind::NotFound));
}

#[tokio::test]
async fn a_container_with_a_terminal_is_not_framed() {
    let Some(host) = Host::shared() else { return };
    let node = Node::new(host, "tty-container");
    let pause = node.start(node.pause_spec("web")).await.expect("starts");
    let script = "read word; echo got $word; echo -n 'prompt> '; sleep 1000";
    let spec = ContainerSpec {
        tty: true,
        stdin: true,
        ..node.app_spec("web", &pause, &["sh", "-c", script])
    };
    let app = node.start(spec).await.expect("starts");
    let mut session = node.docker.attach(&app.id, true).await.expect("attaches");
    session.control.resize(80, 25).await.expect("resizes");
    say(&mut session, b"it\n").await;
    // Without waiting for the end of the line.
    until(&mut session, "prompt> ").await;
    let log = node.docker.logs(&app.id, &LogOptions::default()).await;
    let (out, err) = all(log.expect("reads")).await;
    assert!(out.contains("got it\r\n") && err.is_empty(), "{out:?} {err:?}");
    node.signal(&app, "KILL").await;
    let end = tokio::time::timeout(PATIENCE, session.output.next()).await.expect("ends");
    assert!(end.is_none_or(|piece| piece.is_ok()));
    assert_eq!(session.control.exit_code().await, Ok(Some(137)));
    node.remove(&[&app, &pause]).await;
}

#[tokio::test]
async fn a_terminal_can_be_talked_to() {
    let Some(host) = Host::shared() else { return };
    let node = Node::new(host, "exec-tty");
    let (pause, app) = node.pod("web", &["sleep", "1000"]).await;
    let command = ["sh".to_owned()];
    let session = node.docker.exec_stream(&app.id, &command, true, true).await;
    let mut session = session.expect("starts");
    session.control.resize(101, 42).await.expect("resizes");
    // Split, so that the echo of the terminal is not taken for the answer.
    say(&mut session, b"stty size; echo a\\b\n").await;
    until(&mut session, "42 101").await;
    say(&mut session, b"echo 'x''y'\n").await;
    until(&mut session, "xy").await;
    say(&mut session, b"exit 6\n").await;
    while let Some(piece) = session.output.next().await {
        piece.expect("reads to the end");
    }
    assert_eq!(session.control.exit_code().await, Ok(Some(6)));

    // Bytes that look like the frames of other streams are a terminal's own.
    let command = ["sh", "-c", "printf '\\001\\000\\000\\000\\000\\000\\377\\377end'"];
    let command = command.map(str::to_owned);
    let session = node.docker.exec_stream(&app.id, &command, true, false).await;
    let (out, _) = all(session.expect("starts").output).await;
    assert!(out.ends_with("end"), "{out:?}");
    node.remove(&[&app, &pause]).await;
}

#[tokio::test]
async fn input_is_closed_when_it_is_shut_down() {
    let Some(host) = Host::shared() else { return };
    let node = Node::new(host, "exec-stdin");
    let (pause, app) = node.pod("web", &["sleep", "1000"]).await;
    let command = ["sh", "-c", "wc -c; echo done >&2; exit 3"].map(str::to_owned);
    let session = node.docker.exec_stream(&app.id, &command, false, true).await;
    let mut session = session.expect("starts");
    let control = session.control.clone();
    let megabyte = vec![b'x'; 1 << 20];
    say(&mut session, &megabyte).await;
    session.input.as_mut().expect("has one").shutdown().await.expect("closes");
    let (out, err) = all(session.output).await;
    assert_eq!((out.trim(), err.trim()), ("1048576", "done"));
    assert_eq!(control.exit_code().await, Ok(Some(3)));
    node.remove(&[&app, &pause]).await;
}

#[tokio::test]
async fn a_container_s_own_input_can_be_attached_to() {
    let Some(host) = Host::shared() else { return };
    let node = Node::new(host, "attach");
    let pause = node.start(node.pause_spec("web")).await.expect("starts");
    let spec =
        ContainerSpec { stdin: true, stdin_once: true, ..node.app_spec("web", &pause, &["cat"]) };
    let app = node.start(spec).await.expect("starts");
    let mut session = node.docker.attach(&app.id, true).await.expect("attaches");
    say(&mut session, b"hello\n").await;
    until(&mut session, "hello").await;
    session.input.as_mut().expect("has one").shutdown().await.expect("closes");
    let ended = node.wait_for(&app, |seen| !seen.is_running()).await;
    assert!(!ended.is_running());
    node.remove(&[&app, &pause]).await;
}
