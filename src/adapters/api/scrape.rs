//! `/metrics` and the health paths over TCP, for a Prometheus on another machine: nothing else is
//! answered here, because whoever reaches the port has shown no right to anything.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};

use super::door;
use super::reply::No;
use super::serve::{Api, Caller, answer};
use crate::ports::Fault;

/// A few scrapers; more are somebody else.
const CONNECTIONS_MAX: usize = 16;
/// A scrape takes less, and a scraper that idles is not waited for.
const CONNECTION_MAX: Duration = Duration::from_secs(60);
/// How long a client may take to send the head of a request.
const HEAD_MAX: Duration = Duration::from_secs(10);

/// Everything that is answered, by path.
const PATHS: [&str; 4] = ["/metrics", "/healthz", "/livez", "/readyz"];

/// A port for Prometheus.
#[derive(Debug)]
pub struct Scrape {
    listener: TcpListener,
}

impl Scrape {
    /// Listens at `address`.
    pub async fn bind(address: SocketAddr) -> Result<Self, Fault> {
        let listener = TcpListener::bind(address).await.map_err(|error| {
            Fault::stalled(format!("listening at {address}: {error} (api.metrics)"))
        })?;
        Ok(Self { listener })
    }

    /// Answers until it is dropped.
    pub async fn run(self, api: Arc<Api>) {
        // Who finds no room is hung up on, and comes again at the next scrape.
        door::take(&self.listener, CONNECTIONS_MAX, |_| (), |stream| talk(api.clone(), stream))
            .await;
    }
}

async fn talk(api: Arc<Api>, stream: TcpStream) {
    let service = service_fn(move |request: hyper::Request<_>| {
        let api = api.clone();
        async move {
            let is_open =
                request.method() == hyper::Method::GET && PATHS.contains(&request.uri().path());
            let answer =
                if is_open { answer(api, Caller(None), request).await } else { No::path().into() };
            Ok::<_, std::convert::Infallible>(answer)
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_MAX)
        .serve_connection(TokioIo::new(stream), service);
    // However it ends, the scraper comes again.
    let _ = tokio::time::timeout(CONNECTION_MAX, served).await;
}
