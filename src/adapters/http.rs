//! One HTTP request over one new connection, in clear or over TLS: what probes, registries and hooks
//! have in common. What to trust, how long to wait and where a redirect leads is theirs.

use std::error::Error;

use hyper::body::{Body, Incoming};
use hyper::header::{HOST, HeaderValue};
use hyper::{Request, Response, Uri};
use hyper_util::rt::TokioIo;
use openssl::error::ErrorStack;
use openssl::ssl::{Ssl, SslConnector};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_openssl::SslStream;
use url::{Position, Url};

pub(super) const USER_AGENT: &str = concat!("windlass/", env!("CARGO_PKG_VERSION"));

/// The name to connect to and its port: an IPv6 address without its brackets. None for a URL that has no
/// host.
pub(super) fn place(url: &Url) -> Option<(&str, u16)> {
    let host = url.host_str()?.trim_matches(['[', ']']);
    Some((host, url.port_or_known_default()?))
}

/// A session that shows a certificate for this very host, signed by somebody whom the connector trusts.
pub(super) fn verified(connector: &SslConnector, host: &str) -> Result<Ssl, ErrorStack> {
    connector.configure()?.into_ssl(host)
}

/// Asks for `url` over `line`; `session` makes the TLS session for an `https` one. `Host` is the URL's
/// unless the request has one.
///
/// Ends the connection when the answer's body is dropped. Has no patience of its own.
pub(super) async fn exchange<B>(
    line: TcpStream,
    url: &Url,
    mut request: Request<B>,
    session: impl FnOnce(&str) -> Result<Ssl, ErrorStack>,
) -> Result<Response<Incoming>, Box<dyn Error + Send + Sync>>
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Error + Send + Sync,
{
    *request.uri_mut() = Uri::try_from(&url[Position::BeforePath..Position::AfterQuery])?;
    let authority = HeaderValue::try_from(&url[Position::BeforeHost..Position::AfterPort])?;
    request.headers_mut().entry(HOST).or_insert(authority);
    if url.scheme() != "https" {
        return talk(line, request).await;
    }
    let (host, _) = place(url).ok_or("the address names no host")?;
    let mut line = SslStream::new(session(host)?, line)?;
    std::pin::Pin::new(&mut line).connect().await?;
    talk(line, request).await
}

async fn talk<S, B>(
    line: S,
    request: Request<B>,
) -> Result<Response<Incoming>, Box<dyn Error + Send + Sync>>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Error + Send + Sync,
{
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(line)).await?;
    tokio::spawn(connection);
    Ok(sender.send_request(request).await?)
}
