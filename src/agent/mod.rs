//! The loop: observe, decide, act, report. Short and boring on purpose.
//!
//! A signal box: bells ring (events), the signalman pulls levers (effects), and never walks down to
//! the points himself. [`Agent::on`] takes one event and the time and gives the effects that follow;
//! whoever hosts the agent carries them out and brings their results back as events. Nothing here
//! waits, so a container is restarted while a fetch hangs; and because nothing here touches the
//! world, the simulation runs this very code (docs/DESIGN.md, Hard cases 4).
//!
//! ```text
//!   wish    the desired repository: fetched, kept; what of it is in force and what is newest
//!   trust   which commits are vouched for
//!   reading commits: survey, read, parse, divide into apps
//!   store   the state store: look, read, write
//!   lease   who coordinates, and this node's signs of life
//!   readers who reads what, and how often
//!   adopt   a store that was restored, taken on purpose
//!   lead    turns, while this agent coordinates
//!   host    the pods bound here
//!   larder  images that nobody needs, and a disk that fills
//!   secrets this node's keys, and what its pods need of what is encrypted
//!   report  what this node says of them and of itself
//!   network rules, routes, names
//!   peers   words from and to other nodes
//!   people  what somebody asked on the socket
//!   herald  what became of commits, told outside
//! ```
//!
//! Floor 3: imports everything below; knows no clock, disk, network or task.

mod adopt;
pub mod config;
pub mod event;
mod herald;
mod host;
mod larder;
mod lead;
mod lease;
mod network;
mod peers;
mod people;
pub mod picture;
pub(crate) mod readers;
mod reading;
mod report;
mod secrets;
mod store;
mod trust;
mod volumes;
mod wish;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use crate::kinds::time::{Elapsed, Now};
use crate::node::Ticket;
use crate::plan::Library;
use crate::ports::{Answer, Call, Fault};

use config::Config;
use event::{AskId, Done, Effect, EffectId, Event, Hint, Reply, Work};

/// One part's work may be what another waits for; more rounds than parts would mean that they chase
/// each other.
const ROUNDS_MAX: u32 = 10;

/// Whom the result of an effect is for.
#[derive(Clone, Debug)]
enum Purpose {
    Fetch,
    Lineage(crate::kinds::binding::Oid),
    Judge(crate::kinds::binding::Oid),
    Survey,
    Read,
    Parse,
    Resolve(AskId),
    Book(Box<crate::plan::Shelf>),
    Keep,
    Look,
    Recall,
    Beat,
    Remove(crate::kinds::name::NodeName),
    Release,
    ReadRegister(crate::ports::store::Register, crate::ports::store::Rev),
    Turn,
    Adopt(Box<adopt::Adoption>),
    Decide(Box<(crate::plan::Plan, Vec<crate::ports::store::Edit>)>),
    Report(Box<(crate::state::NodeReport, Vec<crate::ports::store::Edit>)>),
    Fence,
    Compact,
    ListContainers,
    InspectContainer(crate::ports::runtime::ContainerId),
    SurveyRuntime,
    ListFiles,
    ListLinks,
    SurveyLinks,
    NoteNamed,
    RemoveImages(Vec<crate::ports::larder::ImageKey>),
    Keyring,
    EmptyVolume(crate::kinds::name::Uid),
    EnsureNetwork(Arc<crate::ports::links::NodeNetwork>),
    Sweep,
    Pod(Box<Ticket>),
    Rules(u64),
    CheckRules,
    ForgetFlows,
    Names(Box<crate::ports::names::Call>),
    Peers,
    /// Which listener.
    Tell(usize),
}

/// The agent: everything it knows, and nothing of how it comes to know it.
#[derive(Debug)]
pub struct Agent {
    config: Arc<Config>,
    next_id: u64,
    flights: BTreeMap<EffectId, Purpose>,
    out: Vec<Effect>,
    wish: wish::Wish,
    trust: trust::Trust,
    library: Library,
    store: store::Store,
    lead: lead::Lead,
    host: host::Host,
    vault: secrets::Vault,
    network: network::Network,
    peers: peers::Peers,
    herald: herald::Herald,
    /// Where this node's settings differ from its fleet's, and what to do.
    settings_complaint: Option<(String, String)>,
    permit: adopt::Permit,
    is_stopping: bool,
    /// A part has given another something to do.
    is_stirred: bool,
}

impl Agent {
    /// An agent that knows nothing yet; its first event is [`Event::Began`].
    pub fn new(config: Config) -> Self {
        let config = Arc::new(config);
        Self {
            wish: wish::Wish::new(&config),
            trust: trust::Trust::default(),
            store: store::Store::default(),
            lead: lead::Lead::default(),
            host: host::Host::new(&config),
            vault: secrets::Vault::default(),
            network: network::Network::default(),
            peers: peers::Peers::default(),
            herald: herald::Herald::new(&config),
            library: Library::default(),
            next_id: 0,
            flights: BTreeMap::new(),
            out: Vec::new(),
            settings_complaint: None,
            permit: adopt::Permit::default(),
            is_stopping: false,
            is_stirred: false,
            config,
        }
    }

    /// Takes one event and gives the effects that follow from it.
    pub fn on(&mut self, event: Event, now: Now) -> Vec<Effect> {
        match event {
            Event::Began => self.begin(now),
            Event::Woke => {}
            Event::Done(id, result) => self.done(id, result, now),
            Event::Hint(hint) => self.hinted(hint, now),
            Event::Asked(id, ask) => self.asked(id, ask, now),
            Event::Stop => {
                self.release_lease(now);
                self.is_stopping = true;
            }
        }
        self.proceed(now);
        std::mem::take(&mut self.out)
    }

    /// When to send [`Event::Woke`] though nothing else has happened. What waits for an answer is
    /// left out: the answer wakes it.
    pub fn next_wake(&self) -> Option<Elapsed> {
        let is_writing = self.lead.is_writing() || self.host.is_reporting();
        let wakes = [
            self.wish.next_wake(),
            self.store.next_wake().filter(|_| !is_writing),
            self.permit.next_wake(),
            self.lead.next_wake(),
            self.host.next_wake(),
            self.vault.next_wake(),
            self.host.next_report().filter(|_| self.may_report()),
            self.network.next_wake(),
            self.peers.next_wake(),
            self.herald.next_wake(),
        ];
        wakes.into_iter().flatten().min()
    }

    /// Whether nothing is left to be waited for after [`Event::Stop`].
    pub fn has_ended(&self) -> bool {
        let is_local = self.store.is_local();
        let is_waited_for = |purpose: &Purpose| match purpose {
            Purpose::Release => true,
            // To this machine's own disk it takes moments, and one that is cut short leaves a lock.
            Purpose::Decide(_) | Purpose::Report(_) | Purpose::Remove(_) | Purpose::Adopt(_) => {
                is_local
            }
            _ => false,
        };
        self.is_stopping && !self.flights.values().any(is_waited_for)
    }

    /// Whether this agent believes that it coordinates.
    pub fn is_coordinator(&self, now: Now) -> bool {
        !self.is_stopping && self.is_leading(now)
    }

    /// The decision that this agent follows.
    pub fn follows(&self) -> Option<crate::kinds::binding::Generation> {
        self.store.state().map(|state| state.generation)
    }

    /// The wake-ups of each part, for a simulation that found an agent spinning.
    pub fn wakes(&self) -> [(&'static str, Option<Elapsed>); 9] {
        [
            ("wish", self.wish.next_wake()),
            ("store", self.store.next_wake()),
            ("permit", self.permit.next_wake()),
            ("lead", self.lead.next_wake()),
            ("host", self.host.next_wake()),
            ("report", self.host.next_report()),
            ("network", self.network.next_wake()),
            ("peers", self.peers.next_wake()),
            ("herald", self.herald.next_wake()),
        ]
    }

    fn begin(&mut self, now: Now) {
        self.look_at_store(now);
        self.survey_host(now);
        self.list_host(now);
        self.wish.fetch_soon(now);
    }

    /// Does whatever may be done now; safe to call at any time.
    fn proceed(&mut self, now: Now) {
        if self.is_stopping {
            return;
        }
        for _ in 0..ROUNDS_MAX {
            self.is_stirred = false;
            self.tend_wish(now);
            self.tend_store(now);
            self.tend_secrets(now);
            self.tend_host(now);
            self.tend_larder();
            self.tend_network(now);
            self.tend_settings(now);
            self.tend_lease(now);
            self.tend_adoption(now);
            self.tend_lead(now);
            self.tend_removals(now);
            self.tend_report(now);
            self.tend_beat(now);
            self.tend_peers(now);
            self.tend_herald(now);
            if !self.is_stirred {
                return;
            }
        }
        tracing::error!("the agent's parts keep waking each other; going on at the next event");
    }

    fn hinted(&mut self, hint: Hint, now: Now) {
        match hint {
            Hint::SourceMoved => self.wish.fetch_soon(now),
            Hint::StoreMoved => self.store.look_soon(now),
            Hint::Heard(from, word) => self.heard(&from, &word, now),
            Hint::Runtime(hint) => self.runtime_hinted(hint, now),
        }
    }

    fn done(&mut self, id: EffectId, result: Result<Done, Fault>, now: Now) {
        // An id that is not known was answered before, or belongs to an earlier life: both are
        // answers to nothing.
        let Some(purpose) = self.flights.remove(&id) else {
            return;
        };
        match (purpose, result) {
            (Purpose::Turn, Ok(Done::Planned(planned))) => self.planned(*planned, now),
            (Purpose::Turn, _) => self.turn_failed(now),
            (Purpose::Parse, Ok(Done::Parsed(files))) => self.parsed(files, now),
            (Purpose::Parse, _) => self.load_failed(&Fault::transient("parsing failed"), now),
            (Purpose::Judge(commit), Ok(Done::Judged(judgement))) => {
                self.judged(&commit, judgement, now);
            }
            (Purpose::Judge(commit), _) => {
                self.trust_unknown(&commit, &Fault::transient("judging failed"), now);
            }
            (purpose, Ok(Done::Answer(answer))) => self.answered(purpose, Ok(answer), now),
            (purpose, Err(fault)) => self.answered(purpose, Err(fault), now),
            (_, Ok(Done::Planned(_) | Done::Parsed(_) | Done::Judged(_))) => {}
        }
    }

    fn answered(&mut self, purpose: Purpose, result: Result<Answer, Fault>, now: Now) {
        match purpose {
            Purpose::Fetch => self.fetched(result, now),
            Purpose::Lineage(commit) => self.lineage_read(commit, result, now),
            Purpose::Survey => self.surveyed(result, now),
            Purpose::Read => self.contents_read(result, now),
            Purpose::Resolve(ask) => self.resolved(ask, result, now),
            Purpose::Book(shelf) => self.book_read(*shelf, result, now),
            Purpose::Look => self.looked(result, now),
            Purpose::Recall => self.recalled(result, now),
            Purpose::Beat => self.beaten(result, now),
            Purpose::Remove(node) => self.removed(&node, result, now),
            Purpose::ReadRegister(register, rev) => {
                self.register_read(register, rev, result, now);
            }
            Purpose::Adopt(adoption) => self.adopted(*adoption, result, now),
            Purpose::Decide(plan) => self.decided(*plan, result, now),
            Purpose::Report(report) => self.reported(*report, result, now),
            Purpose::ListContainers => self.containers_listed(result, now),
            Purpose::InspectContainer(id) => self.container_inspected(&id, result, now),
            Purpose::SurveyRuntime => self.runtime_surveyed(result, now),
            Purpose::ListFiles => self.files_listed(result, now),
            Purpose::ListLinks => self.links_listed(result, now),
            Purpose::SurveyLinks => self.links_surveyed(result, now),
            Purpose::NoteNamed => self.named_noted(result),
            Purpose::RemoveImages(asked) => self.images_removed(&asked, result, now),
            Purpose::Keyring => self.keyring_read(result, now),
            Purpose::EmptyVolume(uid) => self.volume_emptied(uid, result, now),
            Purpose::EnsureNetwork(wanted) => self.network_ensured(wanted, result, now),
            Purpose::Pod(ticket) => self.pod_answered(*ticket, result, now),
            Purpose::Rules(version) => self.rules_applied(version, result, now),
            Purpose::CheckRules => self.rules_checked(result, now),
            Purpose::Names(names) => self.names_served(*names, result, now),
            Purpose::Keep => self.kept(result),
            Purpose::Tell(listener) => self.told(listener, result, now),
            Purpose::Release => self.released(result, now),
            Purpose::Fence | Purpose::Compact | Purpose::Sweep | Purpose::ForgetFlows => {
                self.note_fault(&purpose, result.err());
            }
            // Nobody waits for what may be lost.
            Purpose::Turn | Purpose::Parse | Purpose::Judge(_) | Purpose::Peers => {}
        }
    }

    /// Asks for something to be done.
    fn ask(&mut self, purpose: Purpose, work: Work, deadline: Duration) {
        let id = EffectId(self.next_id);
        self.next_id += 1;
        self.flights.insert(id, purpose);
        self.out.push(Effect { id, work, deadline });
    }

    fn call(&mut self, purpose: Purpose, call: Call, deadline: Duration) {
        self.ask(purpose, Work::Call(call), deadline);
    }

    fn reply(&mut self, ask: AskId, reply: Reply) {
        let id = EffectId(self.next_id);
        self.next_id += 1;
        let deadline = Duration::from_secs(10);
        self.out.push(Effect { id, work: Work::Reply(ask, Box::new(reply)), deadline });
    }

    fn note_fault(&mut self, purpose: &Purpose, fault: Option<Fault>) {
        if let Some(fault) = fault {
            tracing::warn!(?purpose, %fault, "side work failed; it is tried again when next due");
        }
    }
}
