//! Taking connections: as many at a time as there is room for, each on a task of its own.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

/// A wait after a failed accept: out of descriptors, it would otherwise spin.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Where connections come in.
pub(super) trait Door {
    /// A connection.
    type Stream: Send + 'static;
    /// The next one.
    fn next(&self) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

impl Door for UnixListener {
    type Stream = UnixStream;
    async fn next(&self) -> io::Result<UnixStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

impl Door for TcpListener {
    type Stream = TcpStream;
    async fn next(&self) -> io::Result<TcpStream> {
        self.accept().await.map(|(stream, _)| stream)
    }
}

/// Takes connections until it is dropped, and closes them then. Who finds no room is turned away.
pub(super) async fn take<D: Door, T: Future<Output = ()> + Send + 'static>(
    door: &D,
    connections_max: usize,
    turn_away: impl Fn(&D::Stream),
    talk: impl Fn(D::Stream) -> T,
) {
    let room = Arc::new(Semaphore::new(connections_max));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            Some(_) = connections.join_next() => continue,
            accepted = door.next() => accepted,
        };
        let stream = match accepted {
            Ok(stream) => stream,
            Err(error) => {
                tracing::warn!(%error, "a connection can't be taken");
                tokio::time::sleep(ACCEPT_RETRY).await;
                continue;
            }
        };
        let Ok(permit) = room.clone().try_acquire_owned() else {
            turn_away(&stream);
            continue;
        };
        let talking = talk(stream);
        connections.spawn(async move {
            talking.await;
            drop(permit);
        });
    }
}
