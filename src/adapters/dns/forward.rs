//! Questions about names that are not ours, put to the machine's resolvers.
//!
//! Against forged answers each question goes from a port of its own with an id of its own, and only
//! an answer from the one asked, with that id and that question, is taken.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};
use std::time::Duration;

use tokio::net::{TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::serve::{read_framed, write_framed};
use crate::net::dns::{self, Transport};
use crate::net::input::DNS_PORT;

/// So many questions to others are under way at once; each holds a socket. Also what ends a loop,
/// should a resolver ask us what we ask it.
pub(super) const FORWARDS_MAX: usize = 256;

/// How long one resolver is waited for, by round: the first time around short, because the next may
/// answer, then longer, because it may only be slow.
const WAITS: [Duration; 2] = [Duration::from_millis(1000), Duration::from_millis(2000)];

/// How long a question may take in all. Clients give up after five seconds (`resolv.conf(5)`,
/// `timeout`) and ask again.
const ASK_MAX: Duration = Duration::from_millis(4800);

/// The longest answer in a datagram that is read whole. Resolvers send no more than 4096.
const ANSWER_LEN_MAX: usize = 8192;

/// Stale or forged datagrams may come before the answer; so many are looked at.
const STRAYS_MAX: usize = 16;

/// Whom to ask.
#[derive(Debug)]
pub(super) struct Resolvers {
    list: RwLock<Arc<[SocketAddr]>>,
    /// The one that answered last: it is asked first.
    preferred: AtomicUsize,
    places: Semaphore,
}

impl Default for Resolvers {
    fn default() -> Self {
        Self {
            list: RwLock::new(Arc::new([])),
            preferred: AtomicUsize::new(0),
            places: Semaphore::new(FORWARDS_MAX),
        }
    }
}

impl Resolvers {
    /// Takes a new list. We are not among those we ask, even if the machine names us.
    pub(super) fn set(&self, resolvers: Vec<IpAddr>, ourselves: Ipv4Addr) {
        let is_other = |ip: &IpAddr| ip.to_canonical() != ourselves && !ip.is_unspecified();
        let others = resolvers.into_iter().filter(is_other);
        let list: Arc<[SocketAddr]> = others.map(|ip| SocketAddr::new(ip, DNS_PORT)).collect();
        let mut slot = match self.list.write() {
            Ok(slot) => slot,
            Err(poisoned) => poisoned.into_inner(),
        };
        if *slot != list {
            *slot = list;
            self.preferred.store(0, Ordering::Relaxed);
        }
    }

    /// Puts a question to one after the other until one answers. None where nobody does, or where
    /// too many questions are under way.
    pub(super) async fn ask(&self, query: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let list = match self.list.read() {
            Ok(list) => list.clone(),
            Err(poisoned) => poisoned.into_inner().clone(),
        };
        if list.is_empty() {
            return None;
        }
        let _place = self.places.try_acquire().ok()?;
        let mut ours = query.to_vec();
        let id = random_id()?;
        ours.get_mut(..2)?.copy_from_slice(&id);
        let mut answer = None;
        // What was said until then counts, also where the time is over.
        let asking = self.ask_in_turn(&list, &ours, transport, &mut answer);
        let _ = timeout(ASK_MAX, asking).await;
        let mut answer = answer?;
        answer.get_mut(..2)?.copy_from_slice(query.get(..2)?);
        Some(answer)
    }

    async fn ask_in_turn(
        &self,
        list: &[SocketAddr],
        query: &[u8],
        transport: Transport,
        answer: &mut Option<Vec<u8>>,
    ) {
        let first = self.preferred.load(Ordering::Relaxed);
        for wait in WAITS {
            for step in 0..list.len() {
                let at = (first + step) % list.len();
                let Ok(said) = ask_one(list[at], query, transport, wait).await else {
                    continue;
                };
                let useful = is_useful(&said);
                *answer = Some(said);
                if useful {
                    self.preferred.store(at, Ordering::Relaxed);
                    return;
                }
            }
            // Everybody who is there has refused: asking again changes nothing.
            if answer.is_some() {
                return;
            }
        }
    }
}

/// Whether a resolver did its work. One that fails or refuses leaves the next to be asked.
fn is_useful(answer: &[u8]) -> bool {
    const NOERROR: u8 = 0;
    const NXDOMAIN: u8 = 3;
    let code = answer.get(3).map_or(u8::MAX, |flags| flags & 0x0f);
    matches!(code, NOERROR | NXDOMAIN)
}

fn is_cut(answer: &[u8]) -> bool {
    const TC: u8 = 0x02;
    answer.get(2).is_some_and(|flags| flags & TC != 0)
}

async fn ask_one(
    resolver: SocketAddr,
    query: &[u8],
    transport: Transport,
    wait: Duration,
) -> std::io::Result<Vec<u8>> {
    if transport == Transport::Tcp {
        // Some resolvers, in cheap routers above all, don't listen there.
        return match timeout(wait, by_stream(resolver, query)).await? {
            Ok(answer) => Ok(answer),
            Err(_) => timeout(wait, by_datagram(resolver, query)).await?,
        };
    }
    let answer = timeout(wait, by_datagram(resolver, query)).await??;
    if !is_cut(&answer) {
        return Ok(answer);
    }
    match timeout(wait, by_stream(resolver, query)).await {
        Ok(Ok(whole)) => Ok(whole),
        _ => Ok(answer),
    }
}

async fn by_datagram(resolver: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let any: SocketAddr = if resolver.is_ipv4() {
        (Ipv4Addr::UNSPECIFIED, 0).into()
    } else {
        (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
    };
    let socket = UdpSocket::bind(any).await?;
    // Connected: the kernel drops what others send, and reports a resolver that is not there.
    socket.connect(resolver).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; ANSWER_LEN_MAX];
    for _ in 0..STRAYS_MAX {
        let length = socket.recv(&mut buffer).await?;
        if dns::is_answer_to(query, &buffer[..length]) {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
    Err(std::io::Error::other("too many stray answers"))
}

async fn by_stream(resolver: SocketAddr, query: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(resolver).await?;
    stream.set_nodelay(true)?;
    write_framed(&mut stream, query).await?;
    let answer = read_framed(&mut stream).await?;
    if dns::is_answer_to(query, &answer) {
        return Ok(answer);
    }
    Err(std::io::Error::other("an answer to another question"))
}

/// None where the kernel has no randomness: better no answer than one that can be guessed.
fn random_id() -> Option<[u8; 2]> {
    let mut id = [0; 2];
    getrandom::fill(&mut id).ok()?;
    Some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn we_are_not_asked_by_ourselves() {
        let ours = Ipv4Addr::new(10, 96, 0, 10);
        let others = ["192.168.0.254", "2001:db8::1"];
        let named = ["10.96.0.10", "::ffff:10.96.0.10", "0.0.0.0", "::"];
        let resolvers = Resolvers::default();
        let all = named.iter().chain(&others);
        resolvers.set(all.map(|ip| ip.parse().expect("an address")).collect(), ours);
        let kept: Vec<String> = resolvers
            .list
            .read()
            .expect("not poisoned")
            .iter()
            .map(|at| at.ip().to_string())
            .collect();
        assert_eq!(kept, others);
    }
}
