//! Probes against servers that answer well, badly, late or not at all.

use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::pkey::PKey;
use openssl::rsa::Rsa;
use openssl::ssl::{SslAcceptor, SslMethod};
use openssl::x509::X509Builder;
use windlass::adapters::probe::Prober;
use windlass::ports::probe::{Answer, Call, Target};

const SECOND: Duration = Duration::from_secs(1);

async fn ask(target: Target, timeout: Duration) -> Answer {
    let prober = Prober::new().expect("TLS is there");
    prober.perform(&Call { target, timeout }).await
}

fn http(port: u16, path: &str) -> Target {
    Target::Http {
        host: "127.0.0.1".into(),
        port,
        path: path.into(),
        tls: false,
        headers: Vec::new(),
    }
}

/// A server of one answer per path; remembers the heads of requests.
struct Server {
    port: u16,
    heads: Arc<Mutex<Vec<String>>>,
}

impl Server {
    /// `answer` gives the whole response to a request's head.
    fn start(answer: impl Fn(&str) -> String + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("a port").port();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let remembered = Arc::clone(&heads);
        // Ends with the test process; it holds nothing but a port.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|n| n == 1) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8_lossy(&head).into_owned();
                let response = answer(&head);
                remembered.lock().expect("whole").push(head);
                let _ = stream.write_all(response.as_bytes());
            }
        });
        Self { port, heads }
    }

    fn last(&self) -> String {
        self.heads.lock().expect("whole").last().cloned().unwrap_or_default()
    }
}

fn status(code: u16, body: &str) -> String {
    format!("HTTP/1.1 {code} X\r\nContent-Length: {}\r\n\r\n{body}", body.len())
}

fn redirect(to: &str) -> String {
    format!("HTTP/1.1 302 Found\r\nLocation: {to}\r\nContent-Length: 0\r\n\r\n")
}

#[tokio::test]
async fn a_status_decides() {
    let server = Server::start(|head| {
        let code = head.split(['/', ' ']).nth(2).and_then(|code| code.parse().ok());
        status(code.unwrap_or(500), "all is well")
    });
    for (code, good) in [
        (200, true),
        (204, true),
        (304, true),
        (399, true),
        (400, false),
        (404, false),
        (503, false),
    ] {
        let answer = ask(http(server.port, &format!("/{code}")), SECOND).await;
        assert_eq!(answer.good, good, "{code}: {answer:?}");
        if !good {
            assert_eq!(answer.message, format!("HTTP probe failed with statuscode: {code}"));
        }
    }
    assert_eq!(ask(http(server.port, "/200"), SECOND).await.message, "all is well");
}

#[tokio::test]
async fn headers_are_ours_unless_given() {
    let server = Server::start(|_| status(200, ""));
    assert!(ask(http(server.port, "/x?a=b"), SECOND).await.good);
    let head = server.last().to_lowercase();
    let port = server.port;
    assert!(head.starts_with("get /x?a=b http/1.1\r\n"), "{head}");
    for line in [
        format!("host: 127.0.0.1:{port}"),
        "user-agent: kube-probe/".into(),
        "accept: */*".into(),
        "connection: close".into(),
    ] {
        assert!(head.contains(&line), "{line} in {head}");
    }
    let headers = [
        ("Host", "shop.example"),
        ("user-agent", ""),
        ("X-A", "1"),
        ("x-a", "2"),
        ("Accept", "text/plain"),
    ];
    let target = Target::Http {
        host: "127.0.0.1".into(),
        port,
        path: "no-slash".into(),
        tls: false,
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
    };
    assert!(ask(target, SECOND).await.good);
    let head = server.last().to_lowercase();
    assert!(head.starts_with("get /no-slash "), "{head}");
    for line in ["host: shop.example\r\n", "x-a: 1\r\n", "x-a: 2\r\n", "accept: text/plain\r\n"] {
        assert!(head.contains(line), "{line} in {head}");
    }
    assert!(
        !head.contains("user-agent") && !head.contains("*/*") && !head.contains("127.0.0.1"),
        "{head}"
    );
}

#[tokio::test]
async fn redirects_are_followed_on_the_same_host_only() {
    let server = Server::start(|head| match head.split(' ').nth(1) {
        Some("/here") => redirect("/there"),
        Some("/there") => redirect("end?x=1"),
        Some("/end?x=1") => status(200, "arrived"),
        Some("/away") => redirect("http://elsewhere.example/"),
        Some("/bad") => redirect("/gone"),
        Some("/round") => redirect("/round"),
        _ => status(404, ""),
    });
    let asked = |path| ask(http(server.port, path), SECOND * 5);
    assert_eq!(asked("/here").await, Answer { good: true, message: "arrived".into() });
    let away = asked("/away").await;
    assert!(away.good && away.message.contains("Probe terminated redirects"), "{away:?}");
    assert!(!asked("/bad").await.good);
    let round = asked("/round").await;
    assert!(!round.good && round.message.contains("stopped after 10 redirects"), "{round:?}");
}

#[tokio::test]
async fn a_large_body_is_not_read_to_its_end() {
    // Says it is endless, and is: who reads on waits until the time is up.
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("a port").port();
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a probe");
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n");
        while stream.write_all(&[b'x'; 4096]).is_ok() {}
    });
    let answer = ask(http(port, "/"), SECOND * 10).await;
    assert!(answer.good);
    assert!(answer.message.len() < 2000, "{} bytes", answer.message.len());
}

#[tokio::test]
async fn time_covers_everything() {
    // Accepts and never answers; sends a head byte by byte.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent_port = silent.local_addr().expect("a port").port();
    let slow = TcpListener::bind("127.0.0.1:0").expect("a port");
    let slow_port = slow.local_addr().expect("a port").port();
    std::thread::spawn(move || {
        let (mut stream, _) = slow.accept().expect("a probe");
        let _ = stream.read(&mut [0; 1024]);
        for byte in b"HTTP/1.1 200 OK\r\nX: ".iter().chain([b'x'; 1000].iter()) {
            if stream.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    let grpc = Target::Grpc {
        host: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: silent_port,
        service: String::new(),
    };
    for target in [http(silent_port, "/"), http(slow_port, "/"), grpc] {
        let begun = tokio::time::Instant::now();
        let answer = ask(target, Duration::from_millis(300)).await;
        assert_eq!(answer, Answer { good: false, message: "no answer within 0.3 s".into() });
        assert!(begun.elapsed() < SECOND * 2, "{:?}", begun.elapsed());
    }
    drop(silent);
}

#[tokio::test]
async fn a_connection_is_enough_for_tcp() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("a port").port();
    let tcp = |host: &str| Target::Tcp { host: host.into(), port };
    assert_eq!(ask(tcp("127.0.0.1"), SECOND).await, Answer { good: true, message: String::new() });
    assert!(ask(tcp("localhost"), SECOND).await.good);
    drop(listener);
    let refused = ask(tcp("127.0.0.1"), SECOND).await;
    assert_eq!(refused.message, format!("dial tcp 127.0.0.1:{port}: connect: connection refused"));
    let refused = ask(http(port, "/"), SECOND).await;
    assert!(!refused.good && refused.message.ends_with("connection refused"), "{refused:?}");
    assert!(
        refused.message.starts_with(&format!("Get \"http://127.0.0.1:{port}/\": dial tcp")),
        "{refused:?}"
    );
    assert!(!ask(Target::Tcp { host: "no.such.host.invalid".into(), port }, SECOND * 5).await.good);
}

/// A certificate signed by nobody, for another name, out of date, and of a short key.
fn bad_certificate() -> SslAcceptor {
    let key = PKey::from_rsa(Rsa::generate(1024).expect("a key")).expect("a key");
    let mut certificate = X509Builder::new().expect("a certificate");
    certificate.set_pubkey(&key).expect("set");
    certificate.set_not_before(&Asn1Time::from_unix(0).expect("a time")).expect("set");
    certificate.set_not_after(&Asn1Time::from_unix(1).expect("a time")).expect("set");
    certificate.sign(&key, MessageDigest::sha256()).expect("signed");
    let mut acceptor = SslAcceptor::mozilla_intermediate_v5(SslMethod::tls()).expect("TLS");
    acceptor.set_security_level(0);
    acceptor.set_private_key(&key).expect("set");
    acceptor.set_certificate(&certificate.build()).expect("set");
    acceptor.build()
}

#[tokio::test]
async fn any_certificate_will_do() {
    let acceptor = bad_certificate();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("a port").port();
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let Ok(mut stream) = acceptor.accept(stream) else {
                continue;
            };
            let mut head = [0; 1024];
            let _ = stream.read(&mut head);
            let _ = stream.write_all(status(200, "secret").as_bytes());
            let _ = stream.shutdown();
        }
    });
    for host in ["127.0.0.1", "localhost"] {
        let target = Target::Http {
            host: host.into(),
            port,
            path: "/".into(),
            tls: true,
            headers: Vec::new(),
        };
        let answer = ask(target, SECOND * 5).await;
        assert_eq!(answer, Answer { good: true, message: "secret".into() });
    }
    let plain = ask(http(port, "/"), SECOND).await;
    assert!(!plain.good, "{plain:?}");
}

/// What a health server says.
#[derive(Clone, Copy)]
enum Health {
    Status(u8),
    Code(&'static str),
}

async fn grpc_answer(
    request: Request<Incoming>,
    health: Health,
) -> Result<
    Response<
        StreamBody<
            futures_util::stream::Iter<std::vec::IntoIter<Result<Frame<Bytes>, Infallible>>>,
        >,
    >,
    Infallible,
> {
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Check");
    assert_eq!(request.headers()["content-type"], "application/grpc");
    assert_eq!(request.headers()["te"], "trailers");
    let body = request.into_body().collect().await.expect("a body").to_bytes();
    // A service that is not known is told by its name.
    let health = match &body[5..] {
        [] => health,
        message => {
            assert_eq!(message, [b"\x0a\x04".as_slice(), b"shop"].concat());
            Health::Code("5")
        }
    };
    let mut trailers = HeaderMap::new();
    let mut frames = Vec::new();
    match health {
        Health::Status(status) => {
            // An unknown field before the status must not confuse.
            let message = [0x12, 1, b'x', 0x08, status];
            let mut framed = vec![0, 0, 0, 0, 5];
            framed.extend(message);
            frames.push(Ok(Frame::data(framed.into())));
            trailers.insert("grpc-status", "0".parse().expect("a value"));
        }
        Health::Code(code) => {
            trailers.insert("grpc-status", code.parse().expect("a value"));
            trailers.insert("grpc-message", "because".parse().expect("a value"));
        }
    }
    frames.push(Ok(Frame::trailers(trailers)));
    let response = Response::builder().header("content-type", "application/grpc");
    Ok(response.body(StreamBody::new(futures_util::stream::iter(frames))).expect("a response"))
}

async fn grpc_server(health: Health) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("a port");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(move |request| grpc_answer(request, health));
            let server = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            tokio::spawn(server.serve_connection(TokioIo::new(stream), service));
        }
    });
    address
}

#[tokio::test]
async fn grpc_health_is_asked_and_understood() {
    let table = [
        (Health::Status(1), "", true, "service healthy"),
        (Health::Status(2), "", false, "service unhealthy (responded with \"NOT_SERVING\")"),
        (Health::Status(0), "", false, "UNKNOWN"),
        (Health::Code("12"), "", false, "this server does not implement the grpc health protocol"),
        (Health::Code("14"), "", false, "code 14 because"),
        (Health::Status(1), "shop", false, "code 5"),
    ];
    for (health, service, good, words) in table {
        let address = grpc_server(health).await;
        let target =
            Target::Grpc { host: address.ip(), port: address.port(), service: service.into() };
        let answer = ask(target, SECOND * 5).await;
        assert_eq!(answer.good, good, "{answer:?}");
        assert!(answer.message.contains(words), "{answer:?}");
    }
    // One that speaks HTTP only.
    let server = Server::start(|_| status(200, ""));
    let target = Target::Grpc {
        host: IpAddr::V4(Ipv4Addr::LOCALHOST),
        port: server.port,
        service: String::new(),
    };
    assert!(!ask(target, SECOND).await.good);
}
