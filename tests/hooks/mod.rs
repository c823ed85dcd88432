//! Addresses that are called when something became of a commit: a real server, a real TLS one.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::mpsc::{Receiver, channel};

use windlass::adapters::hooks::{HookAccess, Hooks};
use windlass::agent::config::HookKind;
use windlass::ports::FaultKind;

use crate::support::scratch;
use crate::support::servers::{Httpd, Silent, have_servers};

/// Answers each call with the next of these, and gives what was sent: the head in lines, the body.
pub(crate) fn listen(
    listener: TcpListener,
    answers: impl IntoIterator<Item = &'static str> + Send + 'static,
) -> Receiver<(Vec<String>, String)> {
    let (tell, told) = channel();
    let mut answers = answers.into_iter().collect::<Vec<_>>().into_iter();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let mut reader = BufReader::new(stream);
            let mut head = Vec::new();
            let mut line = String::new();
            while reader.read_line(&mut line).is_ok_and(|count| count > 2) {
                head.push(std::mem::take(&mut line).trim_end().to_owned());
            }
            let length = head.iter().find_map(|line| line.strip_prefix("content-length: "));
            let length = length.and_then(|length| length.parse().ok()).unwrap_or(0);
            let mut body = vec![0; length];
            let _ = reader.read_exact(&mut body);
            let answer = answers.next().unwrap_or("200 OK\r\n\r\n");
            let text = format!("HTTP/1.1 {answer}");
            let _ = reader.get_mut().write_all(text.as_bytes());
            if tell.send((head, String::from_utf8_lossy(&body).into_owned())).is_err() {
                return;
            }
        }
    });
    told
}

fn hooks(kind: HookKind, token: Option<&std::path::Path>) -> Hooks {
    let token_file = token.map(std::path::Path::to_path_buf);
    Hooks(vec![HookAccess { kind, token_file, ca_file: None }])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_is_called_with_its_token_and_its_answer_counts() {
    let dir = scratch("hooks-");
    let token = dir.path().join("token");
    std::fs::write(&token, "s3cret\n").expect("written");
    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o600)).expect("set");
    let table = [
        (HookKind::Generic, "204 No Content\r\n\r\n", "authorization: Bearer s3cret", Ok(())),
        (HookKind::Github, "201 Created\r\n\r\n{}", "accept: application/vnd.github+json", Ok(())),
        (HookKind::Gitlab, "201 Created\r\n\r\n{}", "private-token: s3cret", Ok(())),
        (
            HookKind::Gitlab,
            "400 Bad Request\r\n\r\n{\"message\":\"Cannot transition status via :run\"}",
            "content-type: application/json",
            Ok(()),
        ),
        (HookKind::Github, "422 No\r\n\r\nno such commit", "", Err(FaultKind::NotFound)),
        (HookKind::Github, "401 No\r\n\r\n", "", Err(FaultKind::Stalled)),
        (HookKind::Generic, "503 Busy\r\n\r\n", "", Err(FaultKind::Transient)),
        // Not followed: the token is for one address.
        (HookKind::Generic, "302 Found\r\nlocation: /y\r\n\r\n", "", Err(FaultKind::Transient)),
    ];
    for (kind, answer, header, expected) in table {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let told = listen(listener, [answer]);
        let url = format!("http://127.0.0.1:{port}/repos/a/statuses/abc?x=1");
        let outcome = hooks(kind, Some(&token)).post(0, &url, "{\"state\":\"success\"}").await;
        assert_eq!(outcome.as_ref().map_err(|fault| fault.kind), expected.as_ref().map_err(|k| *k));
        let (head, body) = told.recv().expect("a call");
        assert_eq!(head[0], "POST /repos/a/statuses/abc?x=1 HTTP/1.1");
        assert_eq!(body, "{\"state\":\"success\"}");
        assert!(head.contains(&format!("host: 127.0.0.1:{port}")), "{head:?}");
        assert!(header.is_empty() || head.contains(&header.to_owned()), "{header}: {head:?}");
        if let Err(fault) = outcome {
            assert!(!fault.message.contains("s3cret"), "{fault}");
            assert!(fault.message.starts_with("127.0.0.1 answered "), "{fault}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_can_not_be_reached_or_is_another_is_told() {
    if !have_servers("a_hook_that_can_not_be_reached_or_is_another_is_told") {
        return;
    }
    let dir = scratch("hooks-");
    let server = Httpd::start(dir.path());
    let url = server.tls_url("broken", "x");
    let stranger = hooks(HookKind::Generic, None).post(0, &url, "{}").await;
    let fault = stranger.expect_err("its certificate is nobody's");
    assert!(fault.message.contains("certificate verify failed"), "{fault}");
    let access = HookAccess {
        kind: HookKind::Generic,
        token_file: None,
        ca_file: Some(server.file("tls.crt")),
    };
    let known = Hooks(vec![access]);
    let fault = known.post(0, &url, "{}").await.expect_err("the server is broken");
    assert!(fault.message.contains("answered 503"), "{fault}");
    let other = url.replace("127.0.0.1", "localhost");
    let fault = known.post(0, &other, "{}").await.expect_err("another name");
    assert!(fault.message.contains("certificate verify failed"), "{fault}");
    let silent = Silent::start();
    let url = format!("http://127.0.0.1:{}/", silent.port());
    let fault = known.post(0, &url, "{}").await.expect_err("it says nothing");
    assert_eq!(fault.kind, FaultKind::Deadline, "{fault}");
}
