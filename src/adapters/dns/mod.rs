//! The cluster's DNS server: sockets round the clerk in [`crate::net::dns`].
//!
//! The clerk answers what is ours; everything else is passed on to the machine's resolvers. Nothing
//! here waits for anything that may not come: every question to others has a time-out, at most
//! `FORWARDS_MAX` are under way, and who comes when all are busy is told so at once.

mod forward;
mod serve;

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::atomic::AtomicUsize;
use std::sync::{Arc, RwLock};

use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

use self::forward::Resolvers;
use crate::kinds::zone::Zone;
use crate::net::input::DNS_PORT;
use crate::ports::Fault;
use crate::ports::names::{Answer, Call};

/// Where port 53 is taken, so many others are tried until one is free for both transports.
const PORTS_TRIED_MAX: usize = 16;

/// The two sockets of the server.
#[derive(Debug)]
pub struct Sockets {
    /// Datagrams.
    pub udp: std::net::UdpSocket,
    /// Streams.
    pub tcp: std::net::TcpListener,
}

/// The DNS server of this node.
#[derive(Debug)]
pub struct Dns {
    book: Arc<Book>,
    server: Mutex<Option<Server>>,
}

/// What all sockets answer from; each part is swapped whole.
#[derive(Debug)]
struct Book {
    zone: RwLock<Arc<Zone>>,
    resolvers: Resolvers,
    /// Which of several addresses is named first.
    turn: AtomicUsize,
}

#[derive(Debug)]
struct Server {
    at: SocketAddrV4,
    udp: Arc<UdpSocket>,
    tcp: Arc<TcpListener>,
    tasks: Vec<JoinHandle<()>>,
}

impl Drop for Server {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            book: Arc::new(Book {
                zone: RwLock::default(),
                resolvers: Resolvers::default(),
                turn: AtomicUsize::new(0),
            }),
            server: Mutex::new(None),
        }
    }
}

impl Dns {
    /// Takes over sockets that an earlier process of this node held: no question is lost while the
    /// program is replaced.
    pub async fn take_over(&self, sockets: Sockets) -> Result<(), Fault> {
        let listen = || -> std::io::Result<(UdpSocket, TcpListener)> {
            sockets.udp.set_nonblocking(true)?;
            sockets.tcp.set_nonblocking(true)?;
            Ok((UdpSocket::from_std(sockets.udp)?, TcpListener::from_std(sockets.tcp)?))
        };
        let (udp, tcp) = listen().map_err(Fault::transient)?;
        let server = self.start(udp, tcp).map_err(Fault::transient)?;
        *self.server.lock().await = Some(server);
        Ok(())
    }

    /// Copies of the sockets, to be handed on.
    pub async fn sockets(&self) -> Option<Sockets> {
        use std::os::fd::AsFd as _;
        let server = self.server.lock().await;
        let server = server.as_ref()?;
        Some(Sockets {
            udp: server.udp.as_fd().try_clone_to_owned().ok()?.into(),
            tcp: server.tcp.as_fd().try_clone_to_owned().ok()?.into(),
        })
    }

    /// Does what is asked.
    pub async fn call(&self, call: Call) -> Result<Answer, Fault> {
        self.book.set_zone(call.zone);
        self.book.resolvers.set(call.resolvers, call.address);
        let mut server = self.server.lock().await;
        if server.as_ref().is_none_or(|server| *server.at.ip() != call.address) {
            let (udp, tcp) = bind(call.address).await?;
            *server = Some(self.start(udp, tcp).map_err(Fault::transient)?);
        }
        let port = server.as_ref().map_or(DNS_PORT, |server| server.at.port());
        Ok(Answer { port })
    }

    /// Stops answering. The port is free when this returns.
    pub async fn stop(&self) {
        let Some(mut server) = self.server.lock().await.take() else {
            return;
        };
        for task in std::mem::take(&mut server.tasks) {
            task.abort();
            // Cut off, as it was told.
            let _ = task.await;
        }
    }

    fn start(&self, udp: UdpSocket, tcp: TcpListener) -> std::io::Result<Server> {
        let std::net::SocketAddr::V4(at) = udp.local_addr()? else {
            return Err(std::io::Error::other("not an IPv4 socket"));
        };
        let (udp, tcp) = (Arc::new(udp), Arc::new(tcp));
        let datagrams = tokio::spawn(serve::datagrams(udp.clone(), self.book.clone()));
        let streams = tokio::spawn(serve::streams(tcp.clone(), self.book.clone()));
        Ok(Server { at, udp, tcp, tasks: vec![datagrams, streams] })
    }
}

impl Book {
    fn zone(&self) -> Arc<Zone> {
        // A writer that panicked has swapped nothing.
        match self.zone.read() {
            Ok(zone) => zone.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        }
    }

    fn set_zone(&self, zone: Arc<Zone>) {
        match self.zone.write() {
            Ok(mut slot) => *slot = zone,
            Err(poisoned) => *poisoned.into_inner() = zone,
        }
    }
}

/// Both sockets on port 53; on another where that is taken.
async fn bind(address: Ipv4Addr) -> Result<(UdpSocket, TcpListener), Fault> {
    let mut taken = String::new();
    for attempt in 0..=PORTS_TRIED_MAX {
        let port = if attempt == 0 { DNS_PORT } else { 0 };
        let udp = match UdpSocket::bind((address, port)).await {
            Ok(udp) => udp,
            Err(error) => {
                taken = cannot_bind(address, port, &error)?;
                continue;
            }
        };
        let port = udp.local_addr().map_err(Fault::transient)?.port();
        match TcpListener::bind((address, port)).await {
            Ok(tcp) => {
                if port != DNS_PORT {
                    tracing::warn!(%address, port, "port 53 is taken, names are answered at another");
                }
                return Ok((udp, tcp));
            }
            Err(error) => taken = cannot_bind(address, port, &error)?,
        }
    }
    Err(Fault::transient(taken))
}

/// Where another port may be free, the reason; the fault where it would not help.
fn cannot_bind(address: Ipv4Addr, port: u16, error: &std::io::Error) -> Result<String, Fault> {
    let text = format!("cannot listen for names at {address}:{port}: {error}");
    match error.kind() {
        std::io::ErrorKind::AddrInUse => Ok(text),
        std::io::ErrorKind::PermissionDenied => Err(Fault::stalled(text)),
        _ => Err(Fault::transient(text)),
    }
}
