//! Reaching into a pod: connections made as its own programs would make them.
//!
//! A letter box on the inside of the door: what listens at the pod's loopback address only is reached
//! as well, and no rule of a packet filter stands in between.
//!
//! A socket belongs for ever to the network namespace in which it was made, so only the making goes to
//! the other side, on a thread of its own that ends with it; the connection is then made from here.

use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use tokio::net::{TcpSocket, TcpStream};

use super::aside::aside;
use crate::ports::Fault;

/// It is inside one machine: what does not answer by then won't.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// Connects to a port in a network namespace: at its loopback addresses, as containerd and CRI-O do it
/// for kubelet, then at `ip`.
pub(crate) async fn reach(
    namespace: File,
    port: u16,
    ip: Option<Ipv4Addr>,
) -> Result<TcpStream, Fault> {
    let loopback = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let places: Vec<IpAddr> = loopback.into_iter().chain(ip.map(IpAddr::V4)).collect();
    let sockets = aside("reach", move || sockets_in(&namespace, places)).await?;
    let sockets =
        sockets.map_err(|error| Fault::stalled(format!("the pod's network namespace: {error}")))?;
    let mut complaints = Vec::new();
    for (ip, socket) in sockets {
        let place = SocketAddr::new(ip, port);
        match tokio::time::timeout(CONNECT_MAX, socket.connect(place)).await {
            Ok(Ok(connection)) => {
                // Who types wants to see it; if it can't be had, it is only slower.
                let _ = connection.set_nodelay(true);
                return Ok(connection);
            }
            Ok(Err(error)) => complaints.push(format!("dial tcp {place}: {error}")),
            Err(_) => complaints.push(format!("dial tcp {place}: no answer in {CONNECT_MAX:?}")),
        }
    }
    Err(Fault::transient(format!(
        "failed to connect to localhost:{port} inside the pod's network namespace: {}",
        complaints.join(", ")
    )))
}

/// Sockets of another network namespace, for these addresses. The thread is not fit for anything else
/// afterwards.
fn sockets_in(namespace: &File, places: Vec<IpAddr>) -> io::Result<Vec<(IpAddr, TcpSocket)>> {
    setns(namespace, CloneFlags::CLONE_NEWNET)?;
    let made = places.into_iter().filter_map(|ip| match ip {
        IpAddr::V4(_) => Some(TcpSocket::new_v4().map(|socket| (ip, socket))),
        // A kernel without IPv6 has nobody who listens there.
        IpAddr::V6(_) => TcpSocket::new_v6().ok().map(|socket| Ok((ip, socket))),
    });
    made.collect()
}
