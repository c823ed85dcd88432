//! A unix socket before another, that counts the requests passed on.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

/// Counts requests on their way. Its threads end with the test process, its file with the host.
pub(crate) struct Proxy {
    /// Where to connect instead.
    pub(crate) socket: PathBuf,
    count: Arc<AtomicUsize>,
}

impl Proxy {
    /// Stands at `socket` before `target`.
    pub(crate) fn start(socket: PathBuf, target: &Path) -> Self {
        let listener = UnixListener::bind(&socket).expect("the socket is free");
        let count = Arc::new(AtomicUsize::new(0));
        let (counter, target) = (Arc::clone(&count), target.to_path_buf());
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let Ok(server) = UnixStream::connect(&target) else {
                    continue;
                };
                let ends = (client.try_clone(), server.try_clone());
                let (Ok(to_client), Ok(to_server)) = ends else {
                    continue;
                };
                let counter = Arc::clone(&counter);
                std::thread::spawn(move || pass_on(client, to_server, &counter));
                std::thread::spawn(move || pass_on(server, to_client, &AtomicUsize::new(0)));
            }
        });
        Self { socket, count }
    }

    /// How many requests were passed on since the last question.
    pub(crate) fn requests(&self) -> usize {
        self.count.swap(0, Ordering::SeqCst)
    }
}

fn pass_on(mut from: UnixStream, mut to: UnixStream, requests: &AtomicUsize) {
    let mut buffer = [0; 64 * 1024];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        // A request without a body arrives in one piece, and only its first line says so.
        let heads = buffer[..length].windows(9).filter(|bytes| bytes == b" HTTP/1.1");
        requests.fetch_add(heads.count(), Ordering::SeqCst);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// A TCP port that leads to a socket, for programs that know only those.
pub(crate) async fn port_to(socket: PathBuf) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let socket = socket.clone();
            tokio::spawn(async move {
                let Ok(mut server) = tokio::net::UnixStream::connect(socket).await else { return };
                let talk = tokio::io::copy_bidirectional(&mut client, &mut server);
                let _ = tokio::time::timeout(Duration::from_secs(60), talk).await;
            });
        }
    });
    address
}
