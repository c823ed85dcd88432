//! Images from a registry, as the OCI distribution specification has it: a manifest, then its blobs.
//! <https://github.com/opencontainers/distribution-spec/blob/main/spec.md>
//!
//! The limit: one connection for each request, no proxy. Who needs one pulls with Docker, and the bundle
//! is made from Docker.

use std::collections::BTreeSet;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, LOCATION, USER_AGENT, WWW_AUTHENTICATE};
use hyper::{Request, Response, StatusCode};
use openssl::ssl::{SslConnector, SslMethod};
use tokio::net::TcpStream;
use url::Url;

use super::layout::{self, JSON_BYTES_MAX};
use super::receive::receive;
use super::store::Store;
use crate::adapters::http;
use crate::kinds::digest::Digest;
use crate::kinds::image::{DEFAULT_DOMAIN, Reference};
use crate::ports::Fault;
use crate::ports::runtime::Credentials;

/// Docker's registry is behind another name than its images'.
const DEFAULT_HOST: &str = "registry-1.docker.io";
/// How long a registry may take to answer, and between two pieces of an answer.
const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Registries hand blobs out from elsewhere: to so many places one is sent on.
const REDIRECTS_MAX: usize = 5;
const TOKEN_BYTES_MAX: usize = 1 << 20;

/// How registries are spoken to.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Registries (`host:port`) that have no TLS, by somebody's express wish.
    pub plain_http: BTreeSet<String>,
    /// What opens them.
    pub credentials: Vec<Credentials>,
}

/// A manifest or an index, as the registry has it.
pub(super) struct Document {
    pub(super) digest: Digest,
    pub(super) media_type: String,
    pub(super) content: Vec<u8>,
}

/// One repository of a registry.
pub(super) struct Repository<'o> {
    options: &'o Options,
    name: &'o Reference,
    /// What the registry wants to see with each request.
    key: Option<String>,
}

impl<'o> Repository<'o> {
    pub(super) fn new(options: &'o Options, name: &'o Reference) -> Self {
        Self { options, name, key: None }
    }

    fn address(&self, what: &str) -> Result<Url, Fault> {
        let domain = &self.name.domain;
        let host = if domain == DEFAULT_DOMAIN { DEFAULT_HOST } else { domain };
        let scheme = if self.options.plain_http.contains(domain) { "http" } else { "https" };
        Url::parse(&format!("{scheme}://{host}/v2/{}/{what}", self.name.path))
            .map_err(Fault::stalled)
    }

    /// A manifest, by tag or by digest; by digest, it is that one.
    pub(super) async fn manifest(&mut self, version: &str) -> Result<Document, Fault> {
        let answer = self.get(self.address(&format!("manifests/{version}"))?).await?;
        let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok());
        let media_type = kind.unwrap_or_default().to_owned();
        let longest = usize::try_from(JSON_BYTES_MAX).unwrap_or(usize::MAX);
        let content = whole(answer, longest).await?;
        let digest = Digest::of(&content);
        if Digest::parse(version).is_some_and(|asked| asked != digest) {
            return Err(Fault::stalled(format!(
                "the registry sent another manifest than {version}"
            )));
        }
        Ok(Document { digest, media_type, content })
    }

    /// A blob, into the store.
    pub(super) async fn blob(
        &mut self,
        blob: (Digest, u64),
        store: &Store,
        tell: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), Fault> {
        let answer = self.get(self.address(&format!("blobs/{}", blob.0.prefixed()))?).await?;
        receive(answer.into_body(), blob, store, ANSWER_MAX, tell).await
    }

    /// Asks, shows a key if one is wanted, and goes where it is sent.
    async fn get(&mut self, address: Url) -> Result<Response<Incoming>, Fault> {
        let mut at = address.clone();
        let mut has_shown = false;
        for _ in 0..=REDIRECTS_MAX {
            // The key is the registry's own: who stands elsewhere does not see it.
            let is_home = at.origin() == address.origin();
            let key = self.key.as_deref().filter(|_| is_home);
            let answer = self.send(&at, key).await?;
            match answer.status() {
                StatusCode::OK => return Ok(answer),
                StatusCode::UNAUTHORIZED if !has_shown && is_home => {
                    has_shown = true;
                    self.key = Some(self.log_in(&answer).await?);
                }
                status if status.is_redirection() => {
                    let to = answer.headers().get(LOCATION).and_then(|to| to.to_str().ok());
                    let to = to.and_then(|to| at.join(to).ok());
                    at = to.ok_or_else(|| Fault::stalled("the registry sends us nowhere"))?;
                    let may = at.scheme() == "https" || address.scheme() == "http";
                    if !may {
                        return Err(Fault::stalled("the registry sends us to a place without TLS"));
                    }
                }
                StatusCode::NOT_FOUND => {
                    return Err(Fault::not_found(format!("{} does not have it", self.name.domain)));
                }
                status => {
                    let said = whole(answer, TOKEN_BYTES_MAX).await.unwrap_or_default();
                    let said = String::from_utf8_lossy(&said);
                    let said: String = said.chars().take(200).collect();
                    let why = format!("{} answers {status}: {said}", self.name.domain);
                    return Err(if status.is_server_error() {
                        Fault::transient(why)
                    } else {
                        Fault::stalled(why)
                    });
                }
            }
        }
        Err(Fault::stalled(format!("{} sends us on and on", self.name.domain)))
    }

    /// What is to be shown, by the challenge of a refusal.
    async fn log_in(&self, refusal: &Response<Incoming>) -> Result<String, Fault> {
        let wanted = refusal.headers().get_all(WWW_AUTHENTICATE).iter();
        let wanted: Vec<&str> = wanted.filter_map(|value| value.to_str().ok()).collect();
        let own = crate::ports::credentials::fitting(&self.options.credentials, self.name);
        let basic = own.first().map(|own| {
            let text = format!("{}:{}", own.username, own.password);
            format!("Basic {}", base64::engine::general_purpose::STANDARD.encode(text))
        });
        let refused = || {
            Fault::stalled(format!(
                "{} wants a user: log in with `docker login`, or name a config with --registry-config",
                self.name.domain
            ))
        };
        let Some(bearer) = wanted.iter().find_map(|text| text.strip_prefix("Bearer ")) else {
            return basic.ok_or_else(refused);
        };
        let asked = parameters(bearer);
        let value = |name: &str| asked.iter().find(|(its, _)| its == name).map(|(_, value)| value);
        let mut at = value("realm").and_then(|realm| Url::parse(realm).ok()).ok_or_else(refused)?;
        if at.scheme() != "https" && !self.options.plain_http.contains(&self.name.domain) {
            return Err(Fault::stalled("the registry wants a password sent without TLS"));
        }
        let scope = format!("repository:{}:pull", self.name.path);
        at.query_pairs_mut().append_pair("scope", value("scope").unwrap_or(&scope));
        if let Some(service) = value("service") {
            at.query_pairs_mut().append_pair("service", service);
        }
        let answer = self.send(&at, basic.as_deref()).await?;
        if answer.status() != StatusCode::OK {
            return Err(refused());
        }
        let json: serde_json::Value =
            serde_json::from_slice(&whole(answer, TOKEN_BYTES_MAX).await?)
                .map_err(Fault::stalled)?;
        let token = json["token"].as_str().or(json["access_token"].as_str()).ok_or_else(refused)?;
        Ok(format!("Bearer {token}"))
    }

    async fn send(&self, at: &Url, key: Option<&str>) -> Result<Response<Incoming>, Fault> {
        let (host, port) =
            http::place(at).ok_or_else(|| Fault::stalled("an address without a host"))?;
        let mut request = Request::get("/")
            .header(ACCEPT, layout::ACCEPTED.join(", "))
            .header(USER_AGENT, http::USER_AGENT);
        if let Some(key) = key {
            request = request.header(AUTHORIZATION, key);
        }
        let request = request.body(Empty::<Bytes>::new()).map_err(Fault::stalled)?;
        let unreachable =
            |why: &dyn std::fmt::Display| Fault::transient(format!("{host}:{port}: {why}"));
        let asking = async {
            let line = TcpStream::connect((host, port)).await?;
            let session = |host: &str| {
                http::verified(&SslConnector::builder(SslMethod::tls_client())?.build(), host)
            };
            http::exchange(line, at, request, session).await
        };
        match tokio::time::timeout(ANSWER_MAX, asking).await {
            Ok(answer) => answer.map_err(|error| unreachable(&error)),
            Err(_) => Err(unreachable(&"it does not answer")),
        }
    }
}

fn silent(_: tokio::time::error::Elapsed) -> Fault {
    Fault::transient(format!("the registry has sent nothing for {} s", ANSWER_MAX.as_secs()))
}

async fn whole(answer: Response<Incoming>, longest: usize) -> Result<Vec<u8>, Fault> {
    let body = Limited::new(answer.into_body(), longest).collect();
    let body = tokio::time::timeout(ANSWER_MAX, body).await.map_err(silent)?;
    Ok(body
        .map_err(|error| Fault::transient(format!("the registry's answer: {error}")))?
        .to_bytes()
        .into())
}

/// `realm="…",service="…"` (RFC 9110 §11.2).
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let (value, next) = match after.strip_prefix('"').and_then(|after| after.split_once('"')) {
            Some(quoted) => quoted,
            None => after.split_once(',').unwrap_or((after, "")),
        };
        let name = name.trim_matches([',', ' ']).to_ascii_lowercase();
        found.push((name, value.to_owned()));
        rest = next;
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_challenge_is_read() {
        let asked = parameters(
            r#"realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:a/b:pull,push",error=x"#,
        );
        let expected = [
            ("realm", "https://auth.docker.io/token"),
            ("service", "registry.docker.io"),
            ("scope", "repository:a/b:pull,push"),
            ("error", "x"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(asked, expected);
    }
}
