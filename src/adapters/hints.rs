//! Words to and from other nodes, by UDP.
//!
//! ```text
//!   {"v":1,"from":"n1","life":"…","n":7,"moved":["coordinator","4f2a…"],"applied":[0,12]} signature
//! ```
//! One word is one packet: JSON, and behind it 64 bytes that the sender's key made of it. It is
//! listened to if a node of that name is known, lives that life, and has signed it, and if its number
//! is higher than that of any before: a repeated packet says nothing. Nothing is ever answered.
//!
//! The limit: whoever can send packets under a node's name can keep that node's words from being
//! heard, because only so many are looked at in a second. Words are never needed.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::net::UdpSocket;
use tokio::sync::mpsc;

use crate::agent::event::Hint;
use crate::kinds::binding::{Generation, Oid};
use crate::kinds::name::NodeName;
use crate::ports::Fault;
use crate::ports::peers::{Answer, Call, Neighbour, Word};
use crate::ports::store::Register;

use super::clock;
use super::identity::{Identity, PublicKey};

/// What goes through every network in one piece.
const PACKET_MAX: usize = 1200;
/// The length of an Ed25519 signature.
const SIGNATURE: usize = 64;
/// Words of one node that are looked at in a second.
const WORDS_PER_SECOND: u32 = 50;
/// The format.
const VERSION: u32 = 1;
/// How the coordinator's register is named in a word; others by their node.
const COORDINATOR: &str = "coordinator";
const NODE: &str = "nodes/";

/// The way to other nodes.
pub struct Hints {
    inner: Option<Arc<Inner>>,
}

struct Inner {
    socket: UdpSocket,
    identity: Identity,
    node: NodeName,
    life: String,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    said: u64,
    known: BTreeMap<NodeName, Known>,
}

struct Known {
    neighbour: Neighbour,
    key: PublicKey,
    /// The highest number heard in this life.
    last: u64,
    /// The second it was last heard in, and how often in it.
    second: u64,
    count: u32,
}

/// A word on the wire.
#[derive(Debug, Serialize, Deserialize)]
struct Packet {
    v: u32,
    from: String,
    life: String,
    n: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    moved: Option<(String, String)>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    yours: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tip: Option<String>,
    applied: (u64, u64),
}

impl Hints {
    /// No way: nothing is said, and nobody is heard.
    pub fn none() -> Self {
        Self { inner: None }
    }

    /// Opens the way at a port of this machine. What is heard goes to `bell`; when that is full it is
    /// lost, which is no harm.
    pub async fn open(
        port: u16,
        identity: Identity,
        node: NodeName,
        life: String,
        bell: mpsc::Sender<Hint>,
    ) -> std::io::Result<Self> {
        let socket = UdpSocket::bind(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port)).await?;
        let state = Mutex::default();
        let inner = Arc::new(Inner { socket, identity, node, life, state });
        let ears = Arc::downgrade(&inner);
        tokio::spawn(async move {
            let mut buffer = [0; PACKET_MAX];
            while let Some(inner) = ears.upgrade() {
                let Ok((length, _)) = inner.socket.recv_from(&mut buffer).await else {
                    // An earlier word met a closed port; there may be many such answers.
                    tokio::time::sleep(std::time::Duration::from_millis(10)).await;
                    continue;
                };
                if let Some((from, word)) = inner.take(buffer.get(..length).unwrap_or_default()) {
                    let _ = bell.try_send(Hint::Heard(from, word));
                }
            }
        });
        Ok(Self { inner: Some(inner) })
    }

    /// Does what is asked.
    pub async fn call(&self, call: Call) -> Result<Answer, Fault> {
        let Some(inner) = &self.inner else {
            return Ok(Answer::Done);
        };
        match call {
            Call::Meet(neighbours) => inner.meet(neighbours),
            Call::Say { to, word } => inner.say(&to, &word).await?,
        }
        Ok(Answer::Done)
    }
}

impl Inner {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn meet(&self, neighbours: Vec<Neighbour>) {
        let mut state = self.state();
        let mut before = std::mem::take(&mut state.known);
        for neighbour in neighbours {
            let Some(key) = PublicKey::parse(&neighbour.key) else {
                tracing::warn!(node = %neighbour.name, "its public key can't be read; it is not listened to");
                continue;
            };
            let same = before.remove(&neighbour.name).filter(|known| {
                (&known.neighbour.life, &known.neighbour.key) == (&neighbour.life, &neighbour.key)
            });
            let last = same.map_or(0, |known| known.last);
            let name = neighbour.name.clone();
            state.known.insert(name, Known { neighbour, key, last, second: 0, count: 0 });
        }
    }

    async fn say(&self, to: &[NodeName], word: &Word) -> Result<(), Fault> {
        let (bytes, addresses) = {
            let mut state = self.state();
            state.said += 1;
            let bytes = self.packet(word, state.said)?;
            let addresses: Vec<SocketAddrV4> = to
                .iter()
                .filter_map(|name| state.known.get(name))
                .map(|known| known.neighbour.at)
                .collect();
            (bytes, addresses)
        };
        for address in addresses {
            // Unreachable: it will look by itself.
            let _ = self.socket.send_to(&bytes, address).await;
        }
        Ok(())
    }

    fn packet(&self, word: &Word, number: u64) -> Result<Vec<u8>, Fault> {
        let register = |register: &Register| match register {
            Register::Coordinator => COORDINATOR.to_owned(),
            Register::Node(name) => format!("{NODE}{name}"),
        };
        let packet = Packet {
            v: VERSION,
            from: self.node.to_string(),
            life: self.life.clone(),
            n: number,
            moved: word.moved.as_ref().map(|(of, rev)| (register(of), rev.as_str().to_owned())),
            yours: word.is_yours,
            tip: word.tip.as_ref().map(|tip| tip.as_str().to_owned()),
            applied: (word.applied.epoch, word.applied.number),
        };
        let mut bytes = serde_json::to_vec(&packet).map_err(Fault::stalled)?;
        let signature = self.identity.sign(&bytes)?;
        bytes.extend_from_slice(&signature);
        Ok(bytes)
    }

    /// Reads a packet; none if it is not to be listened to.
    fn take(&self, bytes: &[u8]) -> Option<(NodeName, Word)> {
        let (said, signature) = bytes.split_at_checked(bytes.len().checked_sub(SIGNATURE)?)?;
        let packet: Packet = serde_json::from_slice(said).ok()?;
        let mut state = self.state();
        let (name, known) = state.known.iter_mut().find(|(name, _)| **name == *packet.from)?;
        if packet.v != VERSION || packet.life != known.neighbour.life || packet.n <= known.last {
            return None;
        }
        let second = clock::now().elapsed.since_boot().as_secs();
        known.count = if second == known.second { known.count + 1 } else { 1 };
        known.second = second;
        if known.count > WORDS_PER_SECOND || !known.key.has_signed(said, signature) {
            return None;
        }
        known.last = packet.n;
        let (epoch, number) = packet.applied;
        let word = Word {
            moved: packet.moved.and_then(|(of, rev)| Some((register(&of)?, Oid::new(&rev)))),
            is_yours: packet.yours,
            tip: packet.tip.map(|tip| Oid::new(&tip)),
            applied: Generation { epoch, number },
        };
        Some((name.clone(), word))
    }
}

fn register(text: &str) -> Option<Register> {
    use crate::kinds::name::NameRule;
    match text.strip_prefix(NODE) {
        None if text == COORDINATOR => Some(Register::Coordinator),
        None => None,
        Some(name) => NodeName::parse(name, NameRule::Subdomain).ok().map(Register::Node),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    struct Node {
        hints: Hints,
        heard: mpsc::Receiver<Hint>,
        neighbour: Neighbour,
        _dir: tempfile::TempDir,
    }

    async fn node(name: &str, life: &str) -> Node {
        let dir = tempfile::tempdir().expect("a directory");
        let identity = Identity::open(dir.path()).expect("a key");
        let (bell, heard) = mpsc::channel(10);
        let (node, key) = (NodeName::trusted(name), identity.public());
        let hints = Hints::open(0, identity, node.clone(), life.to_owned(), bell).await;
        let hints = hints.expect("a socket");
        let inner = hints.inner.as_ref().expect("it is open");
        let port = inner.socket.local_addr().expect("an address").port();
        let at = SocketAddrV4::new(Ipv4Addr::LOCALHOST, port);
        let neighbour = Neighbour { name: node, at, key, life: life.to_owned() };
        Node { hints, heard, neighbour, _dir: dir }
    }

    fn word() -> Word {
        Word {
            moved: Some((Register::Node(NodeName::trusted("a")), Oid::new("4f2a"))),
            is_yours: true,
            tip: Some(Oid::new("77")),
            applied: Generation { epoch: 1, number: 12 },
        }
    }

    async fn say(from: &Node, to: &Node) {
        from.hints.call(Call::Meet(vec![to.neighbour.clone()])).await.expect("meets");
        let to = vec![to.neighbour.name.clone()];
        from.hints.call(Call::Say { to, word: word() }).await.expect("says");
    }

    async fn hears(node: &mut Node) -> Option<(NodeName, Word)> {
        let heard = tokio::time::timeout(Duration::from_millis(300), node.heard.recv()).await;
        match heard {
            Ok(Some(Hint::Heard(from, word))) => Some((from, word)),
            _ => None,
        }
    }

    #[tokio::test]
    async fn a_word_arrives_as_it_was_said() {
        let (a, mut b) = (node("a", "1").await, node("b", "1").await);
        b.hints.call(Call::Meet(vec![a.neighbour.clone()])).await.expect("meets");
        say(&a, &b).await;
        assert_eq!(hears(&mut b).await, Some((NodeName::trusted("a"), word())));
    }

    #[tokio::test]
    async fn strangers_other_keys_other_lives_and_repeated_packets_are_not_heard() {
        let (a, mut b) = (node("a", "1").await, node("b", "1").await);
        say(&a, &b).await;
        assert_eq!(hears(&mut b).await, None, "a stranger");
        let forged = Neighbour { key: b.neighbour.key.clone(), ..a.neighbour.clone() };
        b.hints.call(Call::Meet(vec![forged])).await.expect("meets");
        say(&a, &b).await;
        assert_eq!(hears(&mut b).await, None, "another key");
        let earlier = Neighbour { life: "2".into(), ..a.neighbour.clone() };
        b.hints.call(Call::Meet(vec![earlier])).await.expect("meets");
        say(&a, &b).await;
        assert_eq!(hears(&mut b).await, None, "another life");
        b.hints.call(Call::Meet(vec![a.neighbour.clone()])).await.expect("meets");
        let inner = a.hints.inner.as_ref().expect("it is open");
        let mut packet = inner.packet(&word(), 100).expect("a packet");
        let hearer = b.hints.inner.as_ref().expect("it is open");
        assert!(hearer.take(&packet).is_some());
        assert!(hearer.take(&packet).is_none(), "repeated");
        packet = inner.packet(&word(), 101).expect("a packet");
        packet[10] ^= 1;
        assert!(hearer.take(&packet).is_none(), "changed on its way");
        assert!(hearer.take(&packet[..40]).is_none() && hearer.take(b"").is_none(), "torn");
    }

    #[tokio::test]
    async fn a_flood_is_not_looked_at() {
        let (a, b) = (node("a", "1").await, node("b", "1").await);
        b.hints.call(Call::Meet(vec![a.neighbour.clone()])).await.expect("meets");
        let (mouth, ear) = (a.hints.inner.as_ref(), b.hints.inner.as_ref());
        let (mouth, ear) = (mouth.expect("it is open"), ear.expect("it is open"));
        let heard = (1..1000)
            .filter(|number| {
                let packet = mouth.packet(&word(), *number).expect("a packet");
                ear.take(&packet).is_some()
            })
            .count();
        assert!((50..900).contains(&heard), "{heard}");
    }
}
