//! The state store: looked at, read, and kept in mind.
//!
//! What was read last stays in force while the store can't be reached: losing it stops no pod.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::kinds::binding::Generation;
use crate::kinds::name::NodeName;
use crate::kinds::time::{Elapsed, Now};
use crate::plan;
use crate::ports::store::{
    Answer as StoreAnswer, Call as StoreCall, Edit, Glance, Register, Rev, Scope, Tree,
};
use crate::ports::{Answer, Call, Fault, FaultKind};
use crate::state::{NodeReport, State};

use super::adopt::WAYS_OUT;
use super::lease::{Sight, is_since};
use super::{Agent, Purpose};

/// How long a look at the store, or a write, may take.
pub(super) const STORE_TIMEOUT: Duration = Duration::from_secs(60);
/// The first wait after a look that failed; doubled up to [`RETRY_LONGEST`].
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(30);

/// What is known of the state store.
#[derive(Debug, Default)]
pub(super) struct Store {
    glance: Option<Glance>,
    coordinator: Option<Known<State>>,
    nodes: BTreeMap<NodeName, Known<NodeReport>>,
    /// Those of them that say what the store does not hold: hardly ever any, and asked for often.
    missing_some: BTreeSet<NodeName>,
    reading: usize,
    is_looking: bool,
    /// Which registers the look under way brings, and which the last one brought.
    looks_for: Option<Scope>,
    scope: Option<Scope>,
    look_at: Option<Elapsed>,
    failures: u32,
    looks: u64,
    /// Since when the look under way, or the reading that followed it, has been.
    look_began: Elapsed,
    /// The last look succeeded.
    is_in_touch: bool,
    /// When this agent last began to write each register.
    asked: BTreeMap<Register, Elapsed>,
    /// How far what is known of the coordinator's register is to be relied on.
    pub(super) sight: Sight,
    /// When this node is to show that it lives.
    pub(super) beat_at: Option<Elapsed>,
    /// Who is heard of.
    pub(super) vigil: plan::Vigil,
    /// Content that was written, in bytes, for metrics.
    pub(super) written_bytes: u64,
    /// The coordinator's register as it stands there, if it can't be followed.
    refused: Option<Refused>,
    /// The coordinator's register is gone, was there, and is in no copy here.
    is_lost: bool,
    /// The store's last fault, if it failed.
    pub(super) fault: Option<Fault>,
}

/// A coordinator's register that can't be followed.
#[derive(Clone, Debug)]
struct Refused {
    rev: Rev,
    fault: Fault,
    /// What it holds, if it can be read: then it is only older than what was acted on.
    stands: Option<Stands>,
}

/// A register's content, and what it says.
type Stands = (Tree, Arc<State>);

/// A register as it was last read or written.
#[derive(Clone, Debug)]
pub(super) struct Known<T> {
    pub(super) rev: Option<Rev>,
    pub(super) tree: Tree,
    pub(super) value: Arc<T>,
}

impl Store {
    /// The coordinator's register, once it was read.
    pub(super) fn state(&self) -> Option<&State> {
        self.coordinator.as_ref().map(|known| &*known.value)
    }

    /// The coordinator's register with its revision.
    pub(super) fn coordinator(&self) -> Option<&Known<State>> {
        self.coordinator.as_ref()
    }

    /// A node's register, if it is read here. Its own is, on every node.
    pub(super) fn node(&self, name: &NodeName) -> Option<&Known<NodeReport>> {
        self.nodes.get(name)
    }

    /// What a node says, or what is folded of it.
    pub(super) fn report_of(&self, name: &NodeName) -> Option<&NodeReport> {
        let known = self.nodes.get(name).map(|known| &*known.value);
        known.or_else(|| self.state()?.fold.get(name).map(|report| &**report))
    }

    /// What every node says, or what is folded of it.
    pub(super) fn nodes(&self) -> impl Iterator<Item = (&NodeName, &NodeReport)> {
        let known = self.nodes.iter().map(|(name, known)| (name, &*known.value));
        let folds = self.state().into_iter().flat_map(|state| &state.fold);
        let folds = folds.filter(|(name, _)| !self.nodes.contains_key(*name));
        known.chain(folds.map(|(name, report)| (name, &**report)))
    }

    /// How many nodes there are.
    pub(super) fn size(&self) -> usize {
        self.nodes.len().max(self.state().map_or(0, |state| state.fold.len()))
    }

    /// Who follows when a coordinator is missing, one after the other.
    pub(super) fn successors(&self) -> impl Iterator<Item = &NodeName> {
        let state = self.state();
        let holder = state.and_then(|state| state.lease.as_ref()).map(|lease| &lease.holder);
        // Before anything is written, whoever has a register.
        let registered = state.is_none_or(|state| state.nodes.is_empty());
        let registered = registered.then_some(&self.nodes).into_iter().flat_map(BTreeMap::keys);
        let given = state.into_iter().flat_map(|state| state.nodes.keys());
        let is_away = move |name: &NodeName| state.is_some_and(|state| state.is_away(name));
        registered.chain(given).filter(move |name| Some(*name) != holder && !is_away(name))
    }

    /// Which registers have been read: every one, unless the last look was for fewer.
    pub(super) fn scope(&self) -> Scope {
        self.scope.unwrap_or(Scope::All)
    }

    /// Whether the store is on this machine, where locks tell who leads and who lives.
    pub(super) fn is_local(&self) -> bool {
        self.glance.as_ref().is_some_and(|glance| glance.alive.is_some())
    }

    /// Whether the last look succeeded: what is known is what is there.
    pub(super) fn is_in_touch(&self) -> bool {
        self.is_in_touch
    }

    /// The register of a node that a person has deleted and that is not heard of, as it was last seen.
    pub(super) fn forgotten_register(&self) -> Option<(NodeName, Rev)> {
        let (state, seen) = (self.state()?, &self.glance.as_ref()?.nodes);
        let gone =
            state.nodes.iter().filter(|(_, node)| node.is_forgotten() && node.lost.is_some());
        gone.filter_map(|(name, _)| Some((name.clone(), seen.get(name)?.clone()))).next()
    }

    /// A node's register was taken away.
    pub(super) fn forget_register(&mut self, name: &NodeName) {
        self.nodes.remove(name);
        if let Some(glance) = &mut self.glance {
            Arc::make_mut(&mut glance.nodes).remove(name);
        }
    }

    /// Whether what is known of the coordinator's register is what stands in the store, as of the last
    /// look.
    pub(super) fn is_heard(&self) -> bool {
        let known = self.coordinator.as_ref();
        self.is_in_touch && self.is_read() && known.is_some_and(|known| known.rev.is_some())
    }

    pub(super) fn looks(&self) -> u64 {
        self.looks
    }

    /// Notes that this agent begins to write a register.
    pub(super) fn asks_to_write(&mut self, register: Register, now: Now) {
        self.asked.insert(register, now.elapsed);
    }

    /// When it last began to.
    pub(super) fn asked(&self, register: &Register) -> Option<Elapsed> {
        self.asked.get(register).copied()
    }

    /// A register of ours has moved without saying anything new.
    pub(super) fn moved_on(&mut self, me: &NodeName, rev: Rev) {
        if let Some(known) = self.nodes.get_mut(me) {
            known.rev = Some(rev);
        }
    }

    /// Whether this process holds the coordinator's lock.
    pub(super) fn holds_lock(&self) -> bool {
        self.glance.as_ref().is_some_and(|glance| glance.holds_lock)
    }

    /// Whether everything that was looked at has been read.
    pub(super) fn is_read(&self) -> bool {
        self.coordinator.is_some() && self.reading == 0
    }

    pub(super) fn look_soon(&mut self, now: Now) {
        self.look_at = Some(now.elapsed);
    }

    /// Looks soon because another node says that something has moved; not more often than `every`.
    pub(super) fn look_for_hint(&mut self, now: Now, every: Duration, spread: Duration) {
        let at = (self.look_began + every).max(now.elapsed + spread);
        self.look_at = Some(self.look_at.map_or(at, |before| before.min(at)));
    }

    /// The state of a register that is known.
    pub(super) fn rev_of(&self, register: &Register) -> Option<&Rev> {
        match register {
            Register::Coordinator => self.coordinator.as_ref()?.rev.as_ref(),
            Register::Node(name) => self.nodes.get(name)?.rev.as_ref(),
        }
    }

    pub(super) fn next_wake(&self) -> Option<Elapsed> {
        let look = self.look_at.filter(|_| !self.is_looking && self.reading == 0);
        [look, self.beat_at].into_iter().flatten().min()
    }

    /// Takes what this agent itself wrote.
    pub(super) fn wrote_state(&mut self, rev: Rev, tree: Tree, value: State) {
        (self.refused, self.is_lost, self.fault) = (None, false, None);
        self.coordinator = Some(Known { rev: Some(rev), tree, value: Arc::new(value) });
    }

    /// Takes what this agent itself wrote.
    pub(super) fn wrote_report(&mut self, me: &NodeName, rev: Rev, tree: Tree, value: NodeReport) {
        self.put(me.clone(), Known { rev: Some(rev), tree, value: Arc::new(value) });
    }

    fn put(&mut self, name: NodeName, known: Known<NodeReport>) {
        match known.value.facts.knows {
            Some(_) => self.missing_some.insert(name.clone()),
            None => self.missing_some.remove(&name),
        };
        self.nodes.insert(name, known);
    }

    /// What nodes say of decisions that the store does not hold. Nobody's word of that is folded.
    pub(super) fn say_missing(&self) -> impl Iterator<Item = (&NodeName, &NodeReport)> {
        self.missing_some.iter().filter_map(|name| Some((name, &*self.nodes.get(name)?.value)))
    }

    /// Takes note of how much was written.
    pub(super) fn count_written(&mut self, edits: &[Edit]) {
        let content = edits.iter().filter_map(|edit| edit.content.as_ref());
        self.written_bytes += content.map(|content| content.len() as u64).sum::<u64>();
    }

    /// Takes a beat for what it is: the register has moved and says what it said.
    fn stands_as(&mut self, register: &Register, rev: &Rev, tree: &Tree) -> bool {
        let Register::Node(name) = register else { return false };
        let Some(known) = self.nodes.get_mut(name) else { return false };
        let is_same = known.tree == *tree;
        if is_same {
            known.rev = Some(rev.clone());
        }
        is_same
    }

    /// Whether this node has acted on decisions of this store.
    pub(super) fn has_acted(&self) -> bool {
        self.highest_seen() > Generation::default()
    }

    /// The decision that was read last, if the store has lost it.
    pub(super) fn bereft_of(&self) -> Option<Generation> {
        let known = self.coordinator.as_ref().filter(|known| known.rev.is_none())?;
        Some(known.value.generation).filter(|generation| *generation > Generation::default())
    }

    /// Whether the coordinator's register stands as it can't be followed: it was set back, or can't
    /// be read. Nothing is decided then.
    pub(super) fn is_refused(&self) -> bool {
        self.refused.is_some()
    }

    fn refuses(&self, rev: &Rev) -> bool {
        self.refused.as_ref().is_some_and(|refused| refused.rev == *rev)
    }

    /// The register that can't be followed, and what it holds if it can be read.
    pub(super) fn stands(&self) -> Option<(&Rev, Option<&Stands>)> {
        self.refused.as_ref().map(|refused| (&refused.rev, refused.stands.as_ref()))
    }

    /// Whether the store has lost the coordinator's register, and this node knows that there was one
    /// but not what it held.
    pub(super) fn is_lost(&self) -> bool {
        self.is_lost && self.coordinator.is_none()
    }

    /// Whether nothing stands in the coordinator's register, as the last look showed.
    pub(super) fn is_gone(&self) -> bool {
        self.glance.as_ref().is_some_and(|glance| glance.coordinator.is_none())
    }

    /// Whether all that there is was read, and no decision among it that this node may follow.
    pub(super) fn is_without_decisions(&self) -> bool {
        let is_missed = self.refused.is_some() || self.is_lost;
        self.coordinator.is_none() && self.reading == 0 && is_missed
    }

    /// The newest decision acted on here, while the store does not hold it.
    pub(super) fn knows(&self) -> Option<Generation> {
        let is_missed = self.bereft_of().is_some() || self.refused.is_some() || self.is_lost();
        Some(self.highest_seen()).filter(|highest| is_missed && *highest > Generation::default())
    }

    /// What there is to go on from, on purpose or once it is certain: what stands in the register though
    /// it can't be followed, or what was read last.
    pub(super) fn at_hand(&self) -> Option<&State> {
        match self.stands() {
            Some((_, stands)) => stands.map(|(_, state)| &**state),
            None => self.state(),
        }
    }

    /// What of it is still here, while the store does not hold it.
    pub(super) fn holds(&self) -> Option<Generation> {
        let at_hand = || self.at_hand().map(|state| state.generation);
        self.knows().map(|_| at_hand().unwrap_or_default())
    }

    pub(super) fn highest_seen(&self) -> Generation {
        let fence = self.glance.as_ref().map(|glance| glance.fence).unwrap_or_default();
        let state = self.state().map(|state| state.generation).unwrap_or_default();
        fence.max(state)
    }
}

/// Whether two folds are the same, which for the most part they share.
fn is_same(one: &Fold, other: &Fold) -> bool {
    let is_shared = |((one, its), (other, others)): (Folded<'_>, Folded<'_>)| {
        one == other && Arc::ptr_eq(its, others)
    };
    one.len() == other.len() && one.iter().zip(other).all(is_shared)
}

type Fold = BTreeMap<NodeName, Arc<NodeReport>>;
type Folded<'f> = (&'f NodeName, &'f Arc<NodeReport>);

impl Agent {
    pub(super) fn look_at_store(&mut self, now: Now) {
        self.store.look_soon(now);
        self.tend_store(now);
    }

    pub(super) fn tend_store(&mut self, now: Now) {
        let is_due = self.store.look_at.is_some_and(|at| at <= now.elapsed);
        // A write under way would make the look see half of it.
        let is_writing = self.lead.is_writing() || self.host.is_reporting();
        if is_due && !self.store.is_looking && self.store.reading == 0 && !is_writing {
            self.store.is_looking = true;
            self.store.look_at = None;
            self.store.look_began = now.elapsed;
            let scope = self.scope(now);
            self.store.looks_for = Some(scope);
            self.call(Purpose::Look, Call::Store(StoreCall::Look(scope)), STORE_TIMEOUT);
        }
    }

    pub(super) fn looked(&mut self, result: Result<Answer, Fault>, now: Now) {
        self.store.is_looking = false;
        self.store.looks += 1;
        let glance = match result {
            Ok(Answer::Store(StoreAnswer::Seen(glance))) => glance,
            Ok(_) => return,
            Err(fault) => {
                self.store_failed(fault, now);
                return self.recall();
            }
        };
        if std::mem::take(&mut self.store.failures) > 0 {
            // What kept the store away may have kept the desired repository away too.
            self.wish.fetch_soon(now);
        }
        // Something else there is believed when it was read.
        if let Some(known) = &self.store.coordinator
            && (glance.coordinator.is_none() || glance.coordinator == known.rev)
        {
            self.store.refused = None;
        }
        self.store.fault = self.store.refused.as_ref().map(|refused| refused.fault.clone());
        let poll = self.store_poll(now);
        let next = now.elapsed + self.config.jittered(poll, self.store.looks);
        self.store.look_at.get_or_insert(next);
        let began = self.store.look_began;
        let was_taken = self.name_is_taken();
        let scope = self.store.looks_for.take().unwrap_or(Scope::All);
        let watched = self.watched(scope);
        self.store.vigil.looked(&glance, watched.as_ref(), began, now.elapsed, poll);
        self.store.sight.compare(self.store.coordinator.as_ref(), &glance, began);
        self.store.is_in_touch = true;
        self.store.scope = Some(scope);
        if was_taken && !self.name_is_taken() {
            self.host_needs_look();
        }
        self.read_what_moved(&glance, scope, now);
        self.look_further(now);
        let says = self.host.report().map(|report| (report.facts.knows, report.facts.holds));
        if says.unwrap_or_default() != (self.store.knows(), self.store.holds()) {
            self.refresh_facts(now);
        }
        let could_lead = self.store.holds_lock() && self.store.is_local();
        self.store.glance = Some(glance);
        if !could_lead && self.may_lead(now) || self.has_news_of_nodes() {
            self.lead.needs_turn();
        }
    }

    /// Nobody coordinates, or this node is to be next, or the store is not to be followed: the others'
    /// registers are wanted.
    fn look_further(&mut self, now: Now) {
        if self.store.scope() == Scope::Own && self.scope(now) == Scope::All {
            self.store.look_soon(now);
        }
    }

    /// Whether a node is silent that was not, or is heard of that was lost.
    fn has_news_of_nodes(&self) -> bool {
        let limit = self.not_ready_after();
        if self.store.scope() == Scope::Own {
            return false;
        }
        let mut nodes = self.store.state().into_iter().flat_map(|state| &*state.nodes);
        nodes.any(|(name, node)| self.silence_of(name).is_news(node.lost.is_some(), limit))
    }

    /// The store holds no decision: it is new, or it has lost them.
    fn begin_or_recall(&mut self, glance: &Glance) {
        if glance.alive.is_some() {
            // On this machine only its owner can have emptied it. The numbers go on all the same.
            self.begin_anew(glance.fence);
        } else {
            self.recall();
        }
    }

    fn begin_anew(&mut self, generation: Generation) {
        let value = Arc::new(State { generation, ..State::default() });
        self.store.coordinator = Some(Known { rev: None, tree: Tree::default(), value });
        self.lead.needs_turn();
    }

    /// Asks this machine's own copy for what the store does not tell.
    fn recall(&mut self) {
        if self.store.coordinator.is_none() {
            self.call(Purpose::Recall, Call::Store(StoreCall::Recall), STORE_TIMEOUT);
        }
    }

    pub(super) fn recalled(&mut self, result: Result<Answer, Fault>, now: Now) {
        let Ok(Answer::Store(StoreAnswer::Seen(copy))) = result else {
            return;
        };
        if self.store.coordinator.is_some() || self.store.reading > 0 {
            return;
        }
        if copy.coordinator.is_some() {
            tracing::info!("going by this machine's copy of the state store");
            self.read_what_moved(&copy, Scope::All, now);
            self.store.glance.get_or_insert(copy);
        } else if self.store.is_in_touch {
            self.begin_if_new(copy.fence);
        }
    }

    /// Begins, if nothing shows that decisions were taken before. Nodes' registers are read by now:
    /// they may know better.
    fn begin_if_new(&mut self, fence: Generation) {
        let mut reports = self.store.nodes.values().map(|known| &*known.value);
        if fence == Generation::default() && !reports.any(|report| report.facts.has_acted) {
            return self.begin_anew(fence);
        }
        self.store.is_lost = true;
        self.store.fault = Some(Fault::stalled(
            "the state store has lost refs/windlass/coordinator, and nodes have acted on it. Nothing \
             is changed until an agent that knows the last decision has written it anew, or, if there \
             is none, `windlass state adopt` lets the fleet begin anew",
        ));
    }

    fn read_what_moved(&mut self, glance: &Glance, scope: Scope, now: Now) {
        let began = std::mem::replace(&mut self.store.look_began, now.elapsed);
        let known = self.store.coordinator.as_ref().and_then(|known| known.rev.as_ref());
        let mut moved = Vec::new();
        let mut wants_recall = false;
        match &glance.coordinator {
            // What this agent has written since is newer.
            _ if is_since(self.store.asked(&Register::Coordinator), began) => {
                self.store.look_soon(now);
            }
            Some(rev) if self.store.refuses(rev) => {}
            Some(rev) if Some(rev) != known => moved.push((Register::Coordinator, rev.clone())),
            Some(_) => {}
            None if self.store.coordinator.is_none() => wants_recall = true,
            None => self.coordinator_is_gone(),
        }
        let has_written_own = is_since(self.store.asked(&self.own_register()), began);
        let own = self.config.node.clone();
        if scope == Scope::Own {
            // What others say is in the fold.
            self.store.nodes.retain(|name, _| *name == own);
        }
        let state = self.store.coordinator.as_ref().map(|known| &*known.value);
        self.store.nodes.retain(|name, _| {
            let is_gone = *name != own && !glance.nodes.contains_key(name);
            // The coordinator takes a deleted node's register away, and then it off its books.
            let is_off =
                |state: &State| state.is_forgotten(name) || !state.nodes.contains_key(name);
            !(is_gone && state.is_some_and(is_off))
        });
        let is_read = |name: &NodeName| scope == Scope::All || *name == own;
        for (name, rev) in glance.nodes.iter().filter(|(name, _)| is_read(name)) {
            let known = self.store.nodes.get(name).and_then(|known| known.rev.as_ref());
            let is_older = *name == self.config.node && has_written_own;
            if known != Some(rev) && !is_older {
                moved.push((Register::Node(name.clone()), rev.clone()));
            }
        }
        if let Some(own) = self.store.nodes.get_mut(&self.config.node)
            && !glance.nodes.contains_key(&self.config.node)
            && !has_written_own
        {
            // Somebody deleted it; it is written anew, whole.
            (own.rev, own.tree) = (None, Tree::default());
        }
        if wants_recall && moved.is_empty() {
            self.begin_or_recall(glance);
        }
        for (register, rev) in moved {
            self.store.reading += 1;
            let call = StoreCall::Read { register: register.clone(), rev: rev.clone() };
            self.call(Purpose::ReadRegister(register, rev), Call::Store(call), STORE_TIMEOUT);
        }
    }

    /// Somebody deleted the coordinator's register. What was read last stays in force, and whoever
    /// knows the last decision writes it anew.
    fn coordinator_is_gone(&mut self) {
        let Some(known) = &mut self.store.coordinator else { return };
        if known.rev.is_some() {
            tracing::error!(
                "the coordinator's ref is gone from the state store; what was read last stays in \
                 force, and whoever knows the last decision writes it anew"
            );
            (known.rev, known.tree) = (None, Tree::default());
            self.lead.needs_turn();
        }
    }

    pub(super) fn register_read(
        &mut self,
        register: Register,
        rev: Rev,
        result: Result<Answer, Fault>,
        now: Now,
    ) {
        self.store.reading = self.store.reading.saturating_sub(1);
        let tree = match result {
            Ok(Answer::Store(StoreAnswer::Tree(tree))) => tree,
            Ok(_) => return,
            // Moved again meanwhile, and the state that was seen is gone.
            Err(fault) if fault.kind == FaultKind::NotFound => return self.store.look_soon(now),
            Err(fault) => return self.store_failed(fault, now),
        };
        if is_since(self.store.asked(&register), self.store.look_began) {
            return self.store.look_soon(now);
        }
        if self.store.stands_as(&register, &rev, &tree) {
            return;
        }
        // What other nodes say concerns no pod here.
        let concerns_pods = register == Register::Coordinator || register == self.own_register();
        let taken = match register {
            Register::Coordinator => {
                let taken = self.take_state(rev, tree);
                if taken.is_err() {
                    self.recall();
                }
                taken
            }
            Register::Node(name) => self.take_report(name, rev, tree),
        };
        if let Err(fault) = taken {
            self.store_failed(fault, now);
        }
        self.look_further(now);
        self.lead.needs_turn();
        if concerns_pods {
            self.host_needs_look();
        }
        self.network_needs_look();
    }

    fn refuse(&mut self, rev: Rev, fault: Fault, stands: Option<Stands>) -> Result<(), Fault> {
        self.store.refused = Some(Refused { rev, fault: fault.clone(), stands });
        Err(fault)
    }

    fn take_state(&mut self, rev: Rev, tree: Tree) -> Result<(), Fault> {
        self.store.sight.overtaken = None;
        let known = self.store.coordinator.as_ref().filter(|known| known.rev.is_some());
        let value = tree.read_as(|| match known {
            Some(known) => State::decode_after((&known.tree, &known.value), &tree),
            None => State::decode(&tree),
        });
        let value = match value {
            Ok(value) => value,
            Err(fault) => return self.refuse(rev, Fault::stalled(fault), None),
        };
        let highest = self.store.highest_seen();
        if value.generation < highest {
            let fault = Fault::stalled(format!(
                "the state store holds decision {}, and this node has acted on {highest}: it was \
                 set back, and nothing is changed. {WAYS_OUT}",
                value.generation
            ));
            // Foreign content reads as an empty state.
            let is_ours = value.generation > Generation::default();
            return self.refuse(rev, fault, is_ours.then_some((tree, value)));
        }
        (self.store.refused, self.store.is_lost) = (None, false);
        self.remember(value.generation);
        let before = self.store.state().map(|before| &before.fold);
        if before.is_none_or(|before| !is_same(before, &value.fold)) {
            self.peers_need_meeting();
        }
        self.store.coordinator = Some(Known { rev: Some(rev), tree, value });
        let seen = self.store.glance.as_ref().filter(|_| self.store.is_in_touch);
        if seen.is_some_and(|glance| glance.coordinator.is_none()) {
            // It came from this machine's copy.
            self.coordinator_is_gone();
        }
        Ok(())
    }

    /// Writes down, where a restored store can't take it back, that this decision is acted on.
    fn remember(&mut self, generation: Generation) {
        let fence = self.store.glance.as_ref().map(|glance| glance.fence).unwrap_or_default();
        if generation > fence && self.store.is_in_touch {
            self.call(Purpose::Fence, Call::Store(StoreCall::Fence(generation)), STORE_TIMEOUT);
        }
    }

    fn take_report(&mut self, name: NodeName, rev: Rev, tree: Tree) -> Result<(), Fault> {
        let value = tree.read_as(|| NodeReport::decode(&tree)).map_err(Fault::stalled)?;
        if name == self.config.node && self.is_by_us(&value) {
            self.host.succeed(&value);
        }
        self.store.put(name, Known { rev: Some(rev), tree, value });
        self.peers_need_meeting();
        Ok(())
    }

    pub(super) fn store_failed(&mut self, fault: Fault, now: Now) {
        if self.store.fault.as_ref() != Some(&fault) {
            tracing::warn!(%fault, "the state store failed; what was decided stays in force");
        }
        self.store.is_in_touch = false;
        self.store.fault = Some(fault);
        self.store.failures = self.store.failures.saturating_add(1);
        let wait = RETRY_FIRST * 2_u32.saturating_pow(self.store.failures.min(16) - 1);
        // When a server is back, whoever looks first must not take the others for silent.
        let longest = self.fleet_beat().clamp(RETRY_FIRST, RETRY_LONGEST);
        let wait = self.config.jittered(wait.min(longest), self.store.looks);
        self.store.look_at = Some(now.elapsed + wait);
    }
}
