//! What nodes tell each other directly: that something has moved, which decision their packet filter
//! follows, and, by saying anything at all, that they live. It makes things fast where packets get
//! through, and nothing waits for it without a bound (docs/DESIGN.md, Hard cases 14 and 15).
//!
//! ```text
//!   coordinator wrote     → everybody          look at the store: now, or when it is your turn
//!   node wrote            → the coordinator and who may be next; everybody where all read all
//!   a new commit is seen  → everybody          fetch now
//!   rules are in force    → nodes that end pods: they wait for it before they do
//!   every few seconds     → the coordinator and who may be next: a sign of life
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::time::Duration;

use crate::kinds::binding::{Generation, Oid};
use crate::kinds::name::{NodeName, Uid};
use crate::kinds::time::{Elapsed, Now};
use crate::ports::Call;
use crate::ports::peers::{Call as PeersCall, Neighbour, Word};
use crate::ports::store::{Register, Rev};

use super::readers::STANDBYS;
use super::{Agent, Purpose};

/// How often a sign of life is given.
const BEAT: Duration = Duration::from_secs(5);
/// The store is looked at for others' words at most this often.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Looks of those who were told at once are spread by this much for each of them, of so many.
const SPREAD_PER_NODE: Duration = Duration::from_millis(2);
const TOLD_AT_ONCE: u32 = 50;
/// How long a word may take to be sent.
const SAY_TIMEOUT: Duration = Duration::from_secs(2);

/// What is known of other nodes beside what stands in the store.
#[derive(Debug, Default)]
pub(super) struct Peers {
    met: Vec<Neighbour>,
    /// A node's register was read since those were told.
    needs_meeting: bool,
    /// The decision that each node's packet filter is known to follow.
    follows: BTreeMap<NodeName, Generation>,
    said: Generation,
    beat_at: Option<Elapsed>,
    /// The newest commit that another node has spoken of.
    told_tip: Option<Oid>,
}

impl Peers {
    pub(super) fn next_wake(&self) -> Option<Elapsed> {
        self.beat_at
    }
}

impl Agent {
    pub(super) fn tend_peers(&mut self, now: Now) {
        if self.config.contact.as_ref().is_none_or(|contact| contact.hint_port.is_none()) {
            return;
        }
        if self.store.is_read() && std::mem::take(&mut self.peers.needs_meeting) {
            self.meet();
        }
        if self.peers.met.is_empty() {
            self.peers.beat_at = None;
            return;
        }
        if self.peers.beat_at.is_none_or(|at| at <= now.elapsed) {
            let count = now.elapsed.since_boot().as_secs();
            self.peers.beat_at = Some(now.elapsed + self.config.jittered(BEAT, count));
            self.say(self.leaders(), Word::default());
        }
        let follows = self.network.follows();
        if follows > self.peers.said {
            self.peers.said = follows;
            self.say(self.nodes_that_end_pods(), Word::default());
        }
    }

    /// A node may have moved, or begun another life.
    pub(super) fn peers_need_meeting(&mut self) {
        self.peers.needs_meeting = true;
    }

    fn meet(&mut self) {
        let neighbours = self.neighbours();
        if neighbours != self.peers.met {
            self.peers.met.clone_from(&neighbours);
            let call = Call::Peers(PeersCall::Meet(neighbours));
            self.call(Purpose::Peers, call, SAY_TIMEOUT);
        }
    }

    /// The nodes that may be spoken to.
    fn neighbours(&self) -> Vec<Neighbour> {
        let others = self.store.nodes().filter(|(name, _)| **name != self.config.node);
        let neighbour = |(name, report): (&NodeName, &crate::state::NodeReport)| {
            let contact = report.facts.contact.as_ref()?;
            if self.wish.certified.doubt(name, &contact.key).is_some() {
                return None;
            }
            let ip = report.facts.ipv4()?;
            Some(Neighbour {
                name: name.clone(),
                at: SocketAddrV4::new(ip, contact.hint_port?),
                key: contact.key.clone(),
                life: contact.life.clone(),
            })
        };
        others.filter_map(neighbour).collect()
    }

    fn everybody(&self) -> BTreeSet<NodeName> {
        self.peers.met.iter().map(|neighbour| neighbour.name.clone()).collect()
    }

    /// The coordinator, and who may be next.
    pub(super) fn leaders(&self) -> BTreeSet<NodeName> {
        let holder = self.store.state().and_then(|state| state.lease.as_ref());
        let standbys = usize::try_from(STANDBYS).unwrap_or(usize::MAX);
        let next = self.store.successors().take(standbys);
        next.chain(holder.map(|lease| &lease.holder)).cloned().collect()
    }

    /// Whether not everybody reads everything: then not everybody has to know at once, either.
    fn is_folded(&self) -> bool {
        self.store.state().is_some_and(|state| !state.fold.is_empty())
    }

    fn nodes_that_end_pods(&self) -> BTreeSet<NodeName> {
        let lists = self.store.state().into_iter().flat_map(|state| &state.pods);
        lists
            .filter(|(_, pods)| pods.values().any(|pod| pod.deletion.is_some()))
            .filter_map(|(node, _)| node.clone())
            .collect()
    }

    fn say(&mut self, to: BTreeSet<NodeName>, word: Word) {
        let mut to = to;
        let met = self.peers.met.iter().map(|met| &met.name);
        let to: Vec<NodeName> = met.filter_map(|name| to.take(name)).collect();
        if to.is_empty() {
            return;
        }
        let word = Word { applied: self.network.follows(), ..word };
        self.call(Purpose::Peers, Call::Peers(PeersCall::Say { to, word }), SAY_TIMEOUT);
    }

    /// A node's register of ours has moved.
    pub(super) fn say_reported(&mut self, rev: Rev) {
        let to = if self.is_folded() { self.leaders() } else { self.everybody() };
        let moved = Some((self.own_register(), rev));
        self.say(to, Word { moved, is_yours: true, ..Word::default() });
    }

    /// The coordinator's register was moved by us: those whose pods are concerned look at once, the
    /// others when it is their turn.
    pub(super) fn say_decided(&mut self, rev: Rev, concerned: &BTreeSet<NodeName>) {
        let word = Word { moved: Some((Register::Coordinator, rev)), ..Word::default() };
        let (soon, later): (BTreeSet<_>, BTreeSet<_>) = match self.is_folded() {
            true => self.everybody().into_iter().partition(|node| concerned.contains(node)),
            false => (self.everybody(), BTreeSet::new()),
        };
        self.say(soon, Word { is_yours: true, ..word.clone() });
        self.say(later, word);
    }

    /// A new commit was seen in the desired repository. In a large fleet whoever was told of it does
    /// not tell everybody again.
    pub(super) fn say_tip(&mut self, tip: Oid) {
        if !self.is_folded() || self.peers.told_tip.as_ref() != Some(&tip) {
            self.say(self.everybody(), Word { tip: Some(tip), ..Word::default() });
        }
    }

    /// Another node has said something. The adapter knows that it was this node.
    pub(super) fn heard(&mut self, from: &NodeName, word: &Word, now: Now) {
        self.store.vigil.hears(from);
        let known = self.peers.follows.entry(from.clone()).or_default();
        if word.applied > *known {
            *known = word.applied;
            self.host_needs_look();
        }
        if let Some((register, rev)) = &word.moved
            && self.store.rev_of(register) != Some(rev)
        {
            let (every, turn) = self.turn(word.is_yours);
            self.store.look_for_hint(now, every, turn);
        }
        if word.tip.is_some() && word.tip != self.wish.tip {
            self.peers.told_tip.clone_from(&word.tip);
            let (_, turn) = self.turn(self.is_leading(now));
            self.wish.fetch_by(now.elapsed + turn);
        }
    }

    /// How often this node may do what it is told at most, and how soon: at once what concerns it;
    /// what all do at the same word, somewhere in the time that the server needs for all of them.
    fn turn(&self, is_mine: bool) -> (Duration, Duration) {
        let (every, spread) = if is_mine || !self.is_folded() {
            let told = u32::try_from(self.store.size()).unwrap_or(u32::MAX).min(TOLD_AT_ONCE);
            (LOOK_EVERY, SPREAD_PER_NODE * told)
        } else {
            (self.all_once().max(LOOK_EVERY), self.all_once())
        };
        (every, self.config.somewhere_in(spread, self.store.looks()))
    }

    /// How much longer than in a small fleet it takes until everybody has followed a decision.
    pub(super) fn following_takes(&self) -> Duration {
        if self.is_folded() { self.all_once() } else { Duration::ZERO }
    }

    /// The pods that are being ended and to which no node leads packets any more, as far as is known.
    /// A node of which nothing is heard is waited for, but not for long (`node::stop`).
    pub(super) fn released_everywhere(&self) -> BTreeSet<Uid> {
        let released = self.network.released();
        let Some(state) = self.store.state() else {
            return released.clone();
        };
        let others = state
            .nodes
            .iter()
            .filter(|(name, node)| **name != self.config.node && node.lost.is_none());
        let slowest =
            others.map(|(name, _)| self.peers.follows.get(name).copied().unwrap_or_default()).min();
        let Some(slowest) = slowest else {
            return released.clone();
        };
        let is_free = |uid: &&Uid| {
            let pod = self.host.pods().get(*uid);
            pod.is_none_or(|pod| pod.binding.generation <= slowest)
        };
        released.iter().filter(is_free).cloned().collect()
    }
}
