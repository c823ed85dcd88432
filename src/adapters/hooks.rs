//! Calls addresses that asked to be told what became of commits.
//!
//! The rule: TLS is verified, redirects are not followed, a token is read from its file for each call
//! and sent to the address in the settings only, and the answer's text is read for the message alone.

use std::path::PathBuf;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use hyper::{Request, StatusCode};
use openssl::ssl::{SslConnector, SslMethod};
use tokio::net::TcpStream;
use url::Url;

use super::http;
use crate::agent::config::HookKind;
use crate::ports::Fault;

/// Of a longer answer the rest is not read.
const ANSWER_BYTES_MAX: usize = 4 * 1024;
/// How much of it is told to people.
const ANSWER_CHARS_MAX: usize = 200;
/// How long a call may take, whatever the agent's own patience.
const CALL_MAX: Duration = Duration::from_secs(15);

/// How an address is opened.
#[derive(Clone, Debug)]
pub struct HookAccess {
    /// What it understands.
    pub kind: HookKind,
    /// A file with its token.
    pub token_file: Option<PathBuf>,
    /// Certificates to trust beside the machine's own.
    pub ca_file: Option<PathBuf>,
}

/// The addresses, in the order of the settings.
pub struct Hooks(pub Vec<HookAccess>);

impl Hooks {
    /// Calls one of them.
    pub async fn post(&self, hook: usize, url: &str, body: &str) -> Result<(), Fault> {
        let access = self.0.get(hook);
        let access = access.ok_or_else(|| Fault::stalled("there is no such hook"))?;
        match tokio::time::timeout(CALL_MAX, access.post(url, body)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Fault::deadline(format!("{} did not answer in time", host(url)))),
        }
    }
}

/// Addresses may hold a secret in their path: only the host is shown.
fn host(url: &str) -> String {
    let url = Url::parse(url).ok();
    url.and_then(|url| url.host_str().map(str::to_owned)).unwrap_or_else(|| "the hook".to_owned())
}

impl HookAccess {
    async fn post(&self, url: &str, body: &str) -> Result<(), Fault> {
        let name = host(url);
        let url = Url::parse(url).map_err(|error| Fault::stalled(format!("{name}: {error}")))?;
        let Some(place) = http::place(&url) else {
            return Err(Fault::stalled(format!("{name}: the address names no host")));
        };
        let request = self.request(body)?;
        let lost = |error: &dyn std::fmt::Display| Fault::transient(format!("{name}: {error}"));
        let line = TcpStream::connect(place).await.map_err(|error| lost(&error))?;
        let session = |host: &str| http::verified(&self.trusted()?, host);
        let answer =
            http::exchange(line, &url, request, session).await.map_err(|error| lost(&error))?;
        let status = answer.status();
        let text = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let text = text.map(|text| String::from_utf8_lossy(&text.to_bytes()).into_owned());
        // An answer that is too long is an answer all the same.
        self.judge(&name, status, &text.unwrap_or_default())
    }

    fn trusted(&self) -> Result<SslConnector, openssl::error::ErrorStack> {
        let mut builder = SslConnector::builder(SslMethod::tls_client())?;
        if let Some(file) = &self.ca_file {
            builder.set_ca_file(file)?;
        }
        Ok(builder.build())
    }

    fn request(&self, body: &str) -> Result<Request<Full<Bytes>>, Fault> {
        let mut request = Request::post("/")
            .header(USER_AGENT, http::USER_AGENT)
            .header(CONTENT_TYPE, "application/json");
        if self.kind == HookKind::Github {
            request = request.header(ACCEPT, "application/vnd.github+json");
        }
        if let Some(file) = &self.token_file {
            let token = std::fs::read_to_string(file).map_err(|error| {
                Fault::stalled(format!("can't read the token in {}: {error}", file.display()))
            })?;
            let (name, text) = match self.kind {
                HookKind::Gitlab => ("private-token", token.trim().to_owned()),
                HookKind::Generic | HookKind::Github => {
                    (AUTHORIZATION.as_str(), format!("Bearer {}", token.trim()))
                }
            };
            let mut value = HeaderValue::from_str(&text).map_err(|_| {
                Fault::stalled(format!("the token in {} is not one line", file.display()))
            })?;
            value.set_sensitive(true);
            request = request.header(name, value);
        }
        request.body(Full::from(body.to_owned())).map_err(Fault::stalled)
    }

    fn judge(&self, name: &str, status: StatusCode, answer: &str) -> Result<(), Fault> {
        // GitLab's word for a status that is what it was.
        let is_known = self.kind == HookKind::Gitlab && answer.contains("Cannot transition status");
        if status.is_success() || is_known {
            return Ok(());
        }
        let words: Vec<&str> = answer.split_whitespace().collect();
        let answer: String = words.join(" ").chars().take(ANSWER_CHARS_MAX).collect();
        let message = format!("{name} answered {status}: {answer}");
        Err(match status.as_u16() {
            // It will not understand it better the next time; 404 may be a commit that is not there yet.
            400 | 410 | 413 | 422 => Fault::not_found(message),
            401 | 403 | 404 => Fault::stalled(message),
            _ => Fault::transient(message),
        })
    }
}
