//! Knocking at a container's door from the node: HTTP, TCP and gRPC probes.
//!
//! What counts as a good answer, what is followed and what is said when it is not good are
//! kubelet's (`k8s.io/kubernetes/pkg/probe`), because people know those messages. A probe never
//! fails to be made: no connection, no time, no sense are all bad answers. Each makes a connection
//! of its own, and its time-out covers everything, the name's look-up included.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Full, Limited};
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue, LOCATION};
use hyper::{HeaderMap, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use openssl::ssl::{Ssl, SslContext, SslContextBuilder, SslMethod, SslVerifyMode};
use tokio::net::TcpStream;
use url::Url;

use super::http;
use super::protobuf::{self, Value};
use crate::ports::Fault;
use crate::ports::probe::{Answer, Call, Target};

/// Programs know probes by the beginning of this (`kube-probe/`).
const USER_AGENT: &str = concat!("kube-probe/windlass-", env!("CARGO_PKG_VERSION"));
/// `maxRespBodyLength`: of a longer body the rest is not read.
const BODY_BYTES_MAX: usize = 10 * 1024;
/// Go's own limit, which kubelet keeps: the tenth answer must not be one.
const REDIRECTS_MAX: usize = 10;
/// An answer for people; a page of HTML helps nobody.
const MESSAGE_CHARS_MAX: usize = 1024;
/// gRPC's frame before a message: a flag and four bytes of length.
const GRPC_PREFIX_BYTES: usize = 5;
/// `grpc.health.v1.HealthCheckResponse.ServingStatus`.
const SERVING: u64 = 1;
/// gRPC's code for a method that is not there.
const UNIMPLEMENTED: &str = "12";

/// Asks containers whether they are well.
#[derive(Clone)]
pub struct Prober {
    tls: SslContext,
}

impl Prober {
    /// Makes ready to speak TLS to whoever answers: certificates of pods are seldom signed by
    /// anybody known, and a probe tells no secrets.
    pub fn new() -> Result<Self, Fault> {
        let tls = || -> Result<SslContext, openssl::error::ErrorStack> {
            let mut context = SslContextBuilder::new(SslMethod::tls_client())?;
            context.set_verify(SslVerifyMode::NONE);
            // Old keys and digests too.
            context.set_security_level(0);
            Ok(context.build())
        };
        match tls() {
            Ok(tls) => Ok(Self { tls }),
            Err(error) => Err(Fault::stalled(format!("TLS for probes: {error}"))),
        }
    }

    /// Asks once.
    pub async fn perform(&self, call: &Call) -> Answer {
        let asked = async {
            match &call.target {
                Target::Http { .. } => self.http(&call.target).await,
                Target::Tcp { host, port } => tcp(host, *port).await,
                Target::Grpc { host, port, service } => {
                    grpc(&host.to_string(), *port, service).await
                }
            }
        };
        match tokio::time::timeout(call.timeout, asked).await {
            Ok(Ok(message)) => answer(true, &message),
            Ok(Err(complaint)) => answer(false, &complaint.0),
            Err(_) => answer(false, &out_of_time(call.timeout)),
        }
    }

    async fn http(&self, target: &Target) -> Result<String, Complaint> {
        let Target::Http { host, port, path, tls, headers } = target else {
            return Err(complain("not an HTTP probe"));
        };
        let scheme = if *tls { "https" } else { "http" };
        let slash = if path.starts_with('/') { "" } else { "/" };
        let text = format!("{scheme}://{}:{port}{slash}{path}", bracketed(host));
        let first = Url::parse(&text).map_err(|error| complain(format!("{text:?}: {error}")))?;
        let headers = request_headers(headers)?;
        let mut url = first.clone();
        for _ in 0..REDIRECTS_MAX {
            let response = self
                .get(&url, &headers)
                .await
                .map_err(|error| complain(format!("Get \"{url}\": {error}")))?;
            let status = response.status().as_u16();
            let next = match status {
                301 | 302 | 303 | 307 | 308 => location(&url, &response),
                _ => None,
            };
            match next {
                Some(next) if next.host_str() == first.host_str() => url = next,
                // Elsewhere is not ours to knock at; the container has answered.
                Some(next) => {
                    return Ok(format!("Probe terminated redirects, at {next}"));
                }
                None if (200..400).contains(&status) => return Ok(text_of(response).await),
                None => {
                    return Err(complain(format!("HTTP probe failed with statuscode: {status}")));
                }
            }
        }
        Err(complain(format!("Get \"{url}\": stopped after {REDIRECTS_MAX} redirects")))
    }

    async fn get(&self, url: &Url, headers: &HeaderMap) -> Result<Response<Incoming>, Complaint> {
        let (host, port) = http::place(url).ok_or_else(|| complain("no host"))?;
        let line = connect(host, port).await?;
        let mut request = Request::get("/").body(Empty::<Bytes>::new())?;
        *request.headers_mut() = headers.clone();
        let session = |host: &str| {
            let mut session = Ssl::new(&self.tls)?;
            if url.domain().is_some() {
                session.set_hostname(host)?;
            }
            Ok(session)
        };
        http::exchange(line, url, request, session).await.map_err(|error| deepest(&*error))
    }
}

/// What a probe's headers become: those of the manifest win over ours, an empty User-Agent is none.
fn request_headers(wanted: &[(String, String)]) -> Result<HeaderMap, Complaint> {
    let mut headers = HeaderMap::new();
    headers.insert("user-agent", HeaderValue::from_static(USER_AGENT));
    headers.insert("accept", HeaderValue::from_static("*/*"));
    headers.insert("connection", HeaderValue::from_static("close"));
    let mut given = HeaderMap::new();
    for (name, value) in wanted {
        let name = HeaderName::try_from(name)
            .map_err(|_| complain(format!("{name:?} is no header name")))?;
        let value = HeaderValue::try_from(value)
            .map_err(|_| complain(format!("the value of header {name} is none")))?;
        given.append(name, value);
    }
    for name in given.keys() {
        headers.remove(name);
    }
    for (name, value) in given.iter().filter(|(_, value)| !value.is_empty()) {
        headers.append(name, value.clone());
    }
    Ok(headers)
}

fn location(from: &Url, response: &Response<Incoming>) -> Option<Url> {
    let text = response.headers().get(LOCATION)?.to_str().ok()?;
    from.join(text).ok()
}

async fn text_of(response: Response<Incoming>) -> String {
    let mut body = response.into_body();
    let mut text = Vec::new();
    while text.len() < BODY_BYTES_MAX {
        // A body cut short is no reason to call the container unwell: its status was good.
        let Some(Ok(frame)) = body.frame().await else {
            break;
        };
        if let Some(bytes) = frame.data_ref() {
            text.extend_from_slice(bytes);
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

async fn tcp(host: &str, port: u16) -> Result<String, Complaint> {
    connect(host, port).await.map(|_| String::new())
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, Complaint> {
    let host = host.trim_start_matches('[').trim_end_matches(']');
    TcpStream::connect((host, port)).await.map_err(|error| {
        complain(format!("dial tcp {}:{port}: {}", bracketed(host), plain(&error)))
    })
}

async fn grpc(host: &str, port: u16, service: &str) -> Result<String, Complaint> {
    let address = format!("{}:{port}", bracketed(host));
    let stream = connect(host, port).await.map_err(|error| {
        complain(format!("error: failed to connect service at {address:?}: {error}"))
    })?;
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::post(format!("http://{address}/grpc.health.v1.Health/Check"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .header("user-agent", USER_AGENT)
        .body(Full::new(health_request(service)))?;
    let response = sender.send_request(request).await?;
    if !response.status().is_success() {
        return Err(complain(format!(
            "error: health rpc failed: HTTP status {}",
            response.status().as_u16()
        )));
    }
    let (head, body) = response.into_parts();
    let body = Limited::new(body, BODY_BYTES_MAX)
        .collect()
        .await
        .map_err(|error| complain(format!("error: health rpc failed: {error}")))?;
    let trailers = body.trailers().cloned().unwrap_or_default();
    let field = |name: &str| {
        let value = trailers.get(name).or_else(|| head.headers.get(name))?;
        value.to_str().ok()
    };
    match field("grpc-status") {
        Some("0") => {}
        Some(UNIMPLEMENTED) => {
            return Err(complain(format!(
                "error: this server does not implement the grpc health protocol \
                 (grpc.health.v1.Health): {}",
                field("grpc-message").unwrap_or_default()
            )));
        }
        code => {
            return Err(complain(format!(
                "error: health rpc failed: code {} {}",
                code.unwrap_or("missing"),
                field("grpc-message").unwrap_or_default()
            )));
        }
    }
    match serving_status(&body.to_bytes()) {
        Some(SERVING) => Ok("service healthy".into()),
        Some(status) => {
            Err(complain(format!("service unhealthy (responded with {:?})", status_name(status))))
        }
        None => Err(complain("error: health rpc failed: the answer can't be read")),
    }
}

/// `HealthCheckRequest { service = 1 }` in gRPC's frame.
fn health_request(service: &str) -> Bytes {
    let mut message = Vec::new();
    if !service.is_empty() {
        protobuf::write(&mut message, 1, Value::Bytes(service.as_bytes()));
    }
    let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
    let mut framed = vec![0];
    framed.extend_from_slice(&length.to_be_bytes());
    framed.extend(message);
    framed.into()
}

/// Reads `HealthCheckResponse { status = 1 }`; a field that is not there is 0. None if it can't be
/// read.
fn serving_status(framed: &[u8]) -> Option<u64> {
    let message = framed.get(GRPC_PREFIX_BYTES..)?;
    let is_plain = framed.first() == Some(&0);
    let length = u32::from_be_bytes(framed.get(1..GRPC_PREFIX_BYTES)?.try_into().ok()?);
    if !is_plain || message.len() as u64 != u64::from(length) {
        return None;
    }
    let mut status = 0;
    for field in protobuf::fields(message) {
        if let (1, Value::Number(said)) = field? {
            status = said;
        }
    }
    Some(status)
}

fn status_name(status: u64) -> &'static str {
    match status {
        SERVING => "SERVING",
        2 => "NOT_SERVING",
        3 => "SERVICE_UNKNOWN",
        _ => "UNKNOWN",
    }
}

/// Why an answer is not good.
#[derive(Debug)]
struct Complaint(String);

fn complain(what: impl fmt::Display) -> Complaint {
    Complaint(what.to_string())
}

impl fmt::Display for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl<E: std::error::Error + 'static> From<E> for Complaint {
    fn from(error: E) -> Self {
        deepest(&error)
    }
}

/// The deepest cause says most: "connection reset", not "client error".
fn deepest(mut error: &(dyn std::error::Error + 'static)) -> Complaint {
    while let Some(inner) = error.source() {
        error = inner;
    }
    complain(error)
}

/// In the words of Go, without the system's number.
fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".into(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".into(),
        std::io::ErrorKind::NetworkUnreachable => "connect: network is unreachable".into(),
        _ => error.to_string(),
    }
}

fn bracketed(host: &str) -> String {
    if host.contains(':') && !host.starts_with('[') { format!("[{host}]") } else { host.to_owned() }
}

fn out_of_time(timeout: Duration) -> String {
    format!("no answer within {} s", timeout.as_secs_f64())
}

fn answer(good: bool, message: &str) -> Answer {
    let message = message.trim();
    let message = match message.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    };
    Answer { good, message }
}
