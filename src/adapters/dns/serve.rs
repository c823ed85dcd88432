//! Questions come in, answers go out.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Book;
use crate::net::dns::{self, Outcome, Transport};

/// The longest question in a datagram. Longer ones are cut off, and then malformed.
const QUESTION_LEN_MAX: usize = 4096;

/// So many clients may hold a stream at once; further ones wait to be accepted.
const STREAMS_MAX: usize = 128;

/// A stream may be silent so long (RFC 7766 §6.2.3: "on the order of a few seconds").
const SILENCE_MAX: Duration = Duration::from_secs(10);

/// After an error of the socket itself, so long nothing is tried.
const PAUSE: Duration = Duration::from_millis(50);

/// Answers datagrams until it is aborted; questions under way end with it.
pub(super) async fn datagrams(socket: Arc<UdpSocket>, book: Arc<Book>) {
    let mut under_way = JoinSet::new();
    let mut buffer = vec![0; QUESTION_LEN_MAX];
    loop {
        while under_way.try_join_next().is_some() {}
        let (length, client) = match socket.recv_from(&mut buffer).await {
            Ok(received) => received,
            Err(error) => {
                tracing::debug!(%error, "reading questions");
                sleep(PAUSE).await;
                continue;
            }
        };
        let query = &buffer[..length];
        match book.look_up(query, Transport::Udp) {
            Outcome::Reply(reply) => {
                // A client that can't be reached asks again or is gone.
                let _ = socket.send_to(&reply, client).await;
            }
            Outcome::Ignore => {}
            outcome => {
                let (socket, book, query) = (socket.clone(), book.clone(), query.to_vec());
                under_way.spawn(async move {
                    let reply = book.pass_on(&query, outcome, Transport::Udp).await;
                    if let Some(reply) = reply {
                        let _ = socket.send_to(&reply, client).await;
                    }
                });
            }
        }
    }
}

/// Answers streams until it is aborted; open ones end with it.
pub(super) async fn streams(listener: Arc<TcpListener>, book: Arc<Book>) {
    let places = Arc::new(Semaphore::new(STREAMS_MAX));
    let mut open = JoinSet::new();
    loop {
        while open.try_join_next().is_some() {}
        let Ok(place) = places.clone().acquire_owned().await else {
            return;
        };
        match listener.accept().await {
            Ok((stream, _)) => {
                let book = book.clone();
                open.spawn(async move {
                    let _place = place;
                    // The client has gone, or was silent for too long.
                    let _ = stream_of(stream, &book).await;
                });
            }
            Err(error) => {
                tracing::debug!(%error, "accepting streams");
                sleep(PAUSE).await;
            }
        }
    }
}

async fn stream_of(mut stream: TcpStream, book: &Book) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    loop {
        let query = timeout(SILENCE_MAX, read_framed(&mut stream)).await??;
        let reply = match book.look_up(&query, Transport::Tcp) {
            Outcome::Reply(reply) => Some(reply),
            Outcome::Ignore => None,
            outcome => book.pass_on(&query, outcome, Transport::Tcp).await,
        };
        let Some(reply) = reply else { return Ok(()) };
        timeout(SILENCE_MAX, write_framed(&mut stream, &reply)).await??;
    }
}

/// A message in a stream has its length before it (RFC 1035 §4.2.2).
pub(super) async fn read_framed(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let length = stream.read_u16().await?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await?;
    Ok(message)
}

/// Length and message in one write, so that they go in one packet.
pub(super) async fn write_framed(stream: &mut TcpStream, message: &[u8]) -> std::io::Result<()> {
    let length = u16::try_from(message.len()).map_err(std::io::Error::other)?;
    let mut bytes = Vec::with_capacity(message.len() + 2);
    bytes.extend(length.to_be_bytes());
    bytes.extend(message);
    stream.write_all(&bytes).await
}

impl Book {
    fn look_up(&self, query: &[u8], transport: Transport) -> Outcome {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        dns::answer(&self.zone(), query, transport, turn)
    }

    /// What others say, as an answer to `query`.
    async fn pass_on(
        &self,
        query: &[u8],
        outcome: Outcome,
        transport: Transport,
    ) -> Option<Vec<u8>> {
        match outcome {
            Outcome::Reply(reply) => Some(reply),
            Outcome::Ignore => None,
            Outcome::Forward => match self.resolvers.ask(query, transport).await {
                Some(reply) if transport == Transport::Udp => Some(dns::fit(query, reply)),
                Some(reply) => Some(reply),
                None => dns::failure(query),
            },
            Outcome::Follow(alias) => {
                let said = self.resolvers.ask(alias.question(), transport).await;
                Some(alias.finish(said.as_deref()))
            }
        }
    }
}
