//! The desired repository: fetched, surveyed, read and parsed, one commit at a time.
//!
//! What is fetched here is read in [`super::reading`], one commit at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::desired::{self, Desired, ParsedFile};
use crate::kinds::binding::{AppName, Oid};
use crate::kinds::certified::{Certified, Keys};
use crate::kinds::object::Object;
use crate::kinds::time::{Elapsed, Now, Wall};
use crate::plan::{self, AppInput, Revision, Shelf};
use crate::ports::source::{Answer as SourceAnswer, Call as SourceCall};
use crate::ports::store::Rev;
use crate::ports::{Answer, Call, Fault, FaultKind};
use crate::state::State;

use super::config::Config;
use super::event::{AskId, Reply};
use super::reading::{Load, Reading, Whole, is_settled};
use super::trust::TrustOf;
use super::{Agent, Purpose};

/// How long a fetch may take over a slow line.
const FETCH_TIMEOUT: Duration = Duration::from_secs(120);
/// How long reading from this machine's copy may take.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// The first wait after a fetch that failed; doubled up to the poll interval, at least
/// [`RETRY_LONGEST`].
pub(super) const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(60);
/// A watched repository is asked this many times less often.
const WATCHED_FACTOR: u32 = 10;

/// What is known of the desired repository.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) memo: BTreeMap<(Arc<str>, Oid), Arc<ParsedFile>>,
    pub(super) tip: Option<Oid>,
    /// The branch is known not to exist.
    pub(super) branch_is_missing: bool,
    /// The revision in force of each app, as far as they were read; of one that comes in waves, what
    /// of it is in force.
    pub(super) applied: BTreeMap<AppName, Arc<Revision>>,
    /// What that is made of: the commits as they were read.
    pub(super) whole: BTreeMap<AppName, BTreeMap<Oid, Arc<Revision>>>,
    /// What is gone back to, of apps whose revision in force has failed.
    pub(super) fallbacks: BTreeMap<AppName, Arc<Revision>>,
    /// The newest commit, while not all of it is in force.
    pub(super) newest: Option<Reading>,
    pub(super) load: Option<Load>,
    /// Commits that were read for what is in force.
    pub(super) tried: BTreeSet<Oid>,
    /// The keys of nodes that the newest commit certifies, and which that was when it was read.
    pub(super) newest_keys: Option<(Oid, Keys)>,
    /// Another commit was read, or came into force, since it was asked what they certify.
    pub(super) has_read_keys: bool,
    pub(super) certified: Arc<Certified>,
    pub(super) wanted_diffs: Vec<(AskId, Oid)>,
    syncs: Vec<AskId>,
    fetch_at: Option<Elapsed>,
    is_fetching: bool,
    fetches: u64,
    failures: u32,
    pub(super) load_retry_at: Option<Elapsed>,
    /// The last fetch's fault, if it failed.
    pub(super) fetch_fault: Option<Fault>,
    pub(super) load_fault: Option<Fault>,
    /// When the repository was last reached.
    pub(super) reached: Option<Wall>,
    books_asked: BTreeSet<Shelf>,
    pub(super) books_retry_at: Option<Elapsed>,
    kept: BTreeSet<Oid>,
    /// The coordinator's register in which they were looked up.
    kept_for: Option<Rev>,
}

impl Wish {
    pub(super) fn new(_config: &Config) -> Self {
        Self {
            memo: BTreeMap::new(),
            tip: None,
            branch_is_missing: false,
            applied: BTreeMap::new(),
            whole: BTreeMap::new(),
            fallbacks: BTreeMap::new(),
            newest: None,
            load: None,
            tried: BTreeSet::new(),
            newest_keys: None,
            has_read_keys: false,
            certified: Arc::default(),
            wanted_diffs: Vec::new(),
            syncs: Vec::new(),
            fetch_at: None,
            is_fetching: false,
            fetches: 0,
            failures: 0,
            load_retry_at: None,
            fetch_fault: None,
            load_fault: None,
            reached: None,
            books_asked: BTreeSet::new(),
            books_retry_at: None,
            kept: BTreeSet::new(),
            kept_for: None,
        }
    }

    pub(super) fn fetch_soon(&mut self, now: Now) {
        self.fetch_at = Some(now.elapsed);
    }

    /// Fetches at the latest then.
    pub(super) fn fetch_by(&mut self, at: Elapsed) {
        self.fetch_at = Some(self.fetch_at.map_or(at, |before| before.min(at)));
    }

    pub(super) fn next_wake(&self) -> Option<Elapsed> {
        let fetch = self.fetch_at.filter(|_| !self.is_fetching);
        [fetch, self.load_retry_at, self.books_retry_at].into_iter().flatten().min()
    }

    /// What the planner is given.
    pub(super) fn inputs(&self, state: Option<&State>) -> BTreeMap<AppName, AppInput> {
        let mut inputs: BTreeMap<AppName, AppInput> = BTreeMap::new();
        for (app, applied) in &self.applied {
            inputs.entry(app.clone()).or_default().applied = Some(applied.clone());
        }
        for (app, fallback) in &self.fallbacks {
            inputs.entry(app.clone()).or_default().fallback = Some(fallback.clone());
        }
        let newest = self.newest.iter().flat_map(|newest| &newest.parts);
        for (app, part) in newest {
            if !state.is_some_and(|state| is_settled(state, app, part)) {
                inputs.entry(app.clone()).or_default().candidate = Some(part.clone());
            }
        }
        inputs
    }

    /// A commit for which nobody vouched is to be read again.
    pub(super) fn read_refused_anew(&mut self) {
        self.load_retry_at = None;
        let is_refused =
            |newest: &Reading| newest.parts.values().all(|part| part.terms.distrust.is_some());
        self.newest = self.newest.take().filter(|newest| !is_refused(newest));
    }

    /// Every object in force, as far as it was read.
    pub(super) fn objects(&self) -> impl Iterator<Item = &Arc<Object>> {
        self.applied.values().flat_map(|revision| revision.desired.objects.values())
    }
}

impl Agent {
    pub(super) fn tend_wish(&mut self, now: Now) {
        let fetch_is_due = self.wish.fetch_at.is_some_and(|at| at <= now.elapsed);
        if fetch_is_due && !self.wish.is_fetching {
            self.wish.is_fetching = true;
            self.wish.fetch_at = None;
            self.call(Purpose::Fetch, Call::Source(SourceCall::Fetch), FETCH_TIMEOUT);
        }
        self.wish.load_retry_at = self.wish.load_retry_at.filter(|at| *at > now.elapsed);
        if self.wish.books_retry_at.is_some_and(|at| at <= now.elapsed) {
            self.wish.books_retry_at = None;
            self.lead.needs_turn();
        }
        self.adopt();
        self.certify();
        self.start_load(now);
        self.answer_syncs();
        self.keep_commits();
    }

    pub(super) fn fetched(&mut self, result: Result<Answer, Fault>, now: Now) {
        let seldom = self.seldom(self.config.poll);
        let is_leading = self.is_leading(now);
        let wish = &mut self.wish;
        wish.is_fetching = false;
        wish.fetches += 1;
        // Whoever coordinates tells the others what is new.
        let poll = if is_leading { self.config.poll } else { seldom };
        let mut heard = None;
        let mut has_new_tags = false;
        let wait = match result {
            Ok(Answer::Source(SourceAnswer::Fetched { tip, tags })) => {
                has_new_tags = self.trust.hear_tags(tags);
                wish.failures = 0;
                wish.fetch_fault = None;
                wish.reached = Some(now.wall);
                wish.branch_is_missing = tip.is_none();
                if wish.kept.is_empty() {
                    // What could not be kept may have come with this fetch.
                    wish.kept_for = None;
                }
                let news = tip.clone().filter(|tip| wish.tip.as_ref() != Some(tip));
                if wish.tip != tip {
                    wish.load_retry_at = None;
                }
                wish.tip = tip;
                heard = news;
                let factor = if self.config.source_is_watched { WATCHED_FACTOR } else { 1 };
                poll * factor
            }
            Ok(_) => poll,
            Err(fault) => {
                if wish.fetch_fault.as_ref() != Some(&fault) {
                    tracing::warn!(%fault, "the desired repository can't be reached; what is in force stays");
                }
                wish.fetch_fault = Some(fault);
                wish.failures = wish.failures.saturating_add(1);
                let longest = poll.max(RETRY_LONGEST);
                (RETRY_FIRST * 2_u32.saturating_pow(wish.failures.min(16) - 1)).min(longest)
            }
        };
        let wait = self.config.jittered(wait, wish.fetches);
        // Somebody may have asked for another look while this one was under way.
        wish.fetch_at.get_or_insert(now.elapsed + wait);
        if has_new_tags {
            self.judge_anew();
        }
        if let Some(tip) = heard {
            self.say_tip(tip);
        }
    }

    /// Keeps templates of the revision that was in force until now: pods still run from them, and to
    /// fetch them from Git again would leave their Services without endpoints for that long.
    pub(super) fn shelve_templates(&mut self, before: &BTreeMap<AppName, AppInput>) {
        let Some(state) = self.store.state() else { return };
        let after = self.wish.inputs(Some(state));
        let mut found = Vec::new();
        for reference in plan::references(state) {
            if plan::book_of(reference, &after, &self.library).is_none() {
                let book = plan::book_of(reference, before, &self.library);
                found.extend(book.map(|book| (Shelf::of(reference), book.clone())));
            }
        }
        for (shelf, book) in found {
            self.library.put(shelf, Some(book));
        }
    }

    /// Whether a template that a pod runs from is being fetched.
    pub(super) fn is_fetching_books(&self) -> bool {
        !self.wish.books_asked.is_empty() || self.is_asking_trust()
    }

    /// Asks for templates of earlier revisions; true once nothing more can be learned.
    pub(super) fn fetch_books(&mut self) -> bool {
        let Some(state) = self.store.state() else {
            return false;
        };
        let mut used = BTreeSet::new();
        let apps = self.wish.inputs(Some(state));
        let missing = crate::plan::missing_templates(state, &apps, &self.library, &mut used);
        self.library.keep_only(&used);
        if self.wish.books_retry_at.is_some() {
            return false;
        }
        let mut waits = false;
        for shelf in &missing {
            match self.trust_of(&shelf.revision) {
                TrustOf::Free | TrustOf::Good(_) => {}
                TrustOf::Unknown => {
                    self.ask_trust(&shelf.revision);
                    waits = true;
                    continue;
                }
                // Nothing runs from a commit that nobody vouches for, whoever says that it was in
                // force.
                TrustOf::Bad(_) => {
                    self.library.put(shelf.clone(), None);
                    continue;
                }
            }
            waits = true;
            if self.wish.books_asked.insert(shelf.clone()) {
                let call =
                    SourceCall::Show { commit: shelf.revision.clone(), path: shelf.path.clone() };
                let purpose = Purpose::Book(Box::new(shelf.clone()));
                self.call(purpose, Call::Source(call), READ_TIMEOUT);
            }
        }
        !waits
    }

    pub(super) fn book_read(&mut self, shelf: Shelf, result: Result<Answer, Fault>, now: Now) {
        self.wish.books_asked.remove(&shelf);
        let book = match result {
            Ok(Answer::Source(SourceAnswer::Contents(files))) => {
                files.iter().find_map(|file| desired::book(&desired::parse(file), &shelf.owner))
            }
            Err(fault) if fault.kind == FaultKind::NotFound => None,
            Err(_) | Ok(_) => {
                self.wish.books_retry_at = Some(now.elapsed + RETRY_FIRST);
                return;
            }
        };
        self.library.put(shelf, book);
        self.lead.needs_turn();
        self.host_needs_look();
        self.network_needs_look();
    }

    /// Holds on to every commit that something still runs from.
    fn keep_commits(&mut self) {
        let Some(known) = self.store.coordinator() else {
            return;
        };
        if known.rev.is_some() && known.rev == self.wish.kept_for {
            return;
        }
        let (state, rev) = (&known.value, known.rev.clone());
        let pods = state.all_pods().flat_map(|(_, pod)| pod.references());
        let pods = pods.map(|reference| &reference.revision);
        let sets = state.apps.values().flat_map(|app| app.sets.values());
        let heads = state.apps.values().filter_map(|app| app.head.applied.as_ref());
        let kept = state.apps.values().filter_map(|app| app.head.healthy.as_ref());
        let waves = state.apps.values().filter_map(|app| app.head.waves_now());
        let used: BTreeSet<Oid> = pods
            .chain(sets.map(|set| &set.template.revision))
            .chain(heads.map(|applied| &applied.revision))
            .chain(state.apps.values().filter_map(|app| app.head.base.as_ref()))
            .chain(waves.flat_map(|waves| &waves.under).map(|layer| &layer.revision))
            .chain(&state.tip)
            .chain(kept.flat_map(|kept| [&kept.applied.revision, &kept.base]))
            .cloned()
            .collect();
        self.wish.kept_for = rev;
        if used != self.wish.kept {
            let commits = used.iter().cloned().collect();
            self.wish.kept = used;
            self.call(Purpose::Keep, Call::Source(SourceCall::Keep { commits }), READ_TIMEOUT);
        }
    }

    /// What could not be held on to is tried again after the next fetch.
    pub(super) fn kept(&mut self, result: Result<Answer, Fault>) {
        if result.is_err() {
            self.wish.kept.clear();
        }
        self.note_fault(&Purpose::Keep, result.err());
    }

    /// Somebody wants the repository looked at now.
    pub(super) fn sync(&mut self, ask: AskId, now: Now) {
        self.wish.syncs.push(ask);
        self.wish.fetch_soon(now);
        self.wish.load_retry_at = None;
    }

    /// Answers those who wait for a look once the newest commit has been judged.
    fn answer_syncs(&mut self) {
        let wish = &self.wish;
        let is_busy = wish.is_fetching || wish.load.is_some() || wish.fetch_at.is_none();
        let is_undecided =
            wish.fetch_fault.is_none() && wish.load_fault.is_none() && self.tip_to_read().is_some();
        if wish.syncs.is_empty() || is_busy || is_undecided || self.lead.is_busy() {
            return;
        }
        let text = self.sync_text();
        for ask in std::mem::take(&mut self.wish.syncs) {
            self.reply(ask, Reply::Synced(text.clone()));
        }
    }

    fn sync_text(&self) -> String {
        let wish = &self.wish;
        if let Some(fault) = wish.fetch_fault.as_ref().or(wish.load_fault.as_ref()) {
            return format!("error: {fault}");
        }
        if wish.branch_is_missing {
            return "the branch does not exist yet".to_owned();
        }
        let apps = self.store.state().into_iter().flat_map(|state| &state.apps);
        let mut waiting = apps.filter_map(|(app, state)| Some((app, state.head.waiting.as_ref()?)));
        let Some((first, revision)) = waiting.next() else {
            let in_force = self.store.state().and_then(newest_in_force);
            return in_force.map_or_else(
                || "no revision is in force".to_owned(),
                |revision| format!("revision {} is in force", revision.short()),
            );
        };
        let of = if self.is_divided() { format!(" for app {first}") } else { String::new() };
        let more = match waiting.count() {
            0 => String::new(),
            count => format!("; nor is it for {count} more: `windlass status` says why"),
        };
        let (id, why) = (revision.revision.short(), revision.verdict.why());
        format!("revision {id} is not in force{of}: {why}{more}")
    }

    pub(super) fn resolved(&mut self, ask: AskId, result: Result<Answer, Fault>, now: Now) {
        match result {
            Ok(Answer::Source(SourceAnswer::Resolved(commit))) => {
                self.wish.wanted_diffs.push((ask, commit));
                self.wish.load_retry_at = None;
                let _ = now;
            }
            Ok(_) => self.reply(ask, Reply::Refused("no commit came back".into())),
            Err(fault) => self.reply(ask, Reply::Refused(fault.message)),
        }
    }

    pub(super) fn reply_diff(&mut self, ask: AskId, commit: &Oid, read: &Whole) {
        let (wanted, findings) = read;
        let objects = self.wish.objects().map(|object| (object.key.clone(), object.clone()));
        let before = Desired { objects: objects.collect(), ..Desired::default() };
        let reply = Reply::Diff {
            commit: commit.to_string(),
            changes: desired::changes(&before, wanted),
            findings: findings.clone(),
            signer: self.signer_of(commit),
        };
        self.reply(ask, reply);
    }
}

/// The commit that the fleet follows: the newest that was judged, if any of it is in force.
fn newest_in_force(state: &State) -> Option<&Oid> {
    let mut heads = state.apps.values().filter_map(|app| app.head.applied.as_ref());
    let any = heads.next()?;
    Some(state.tip.as_ref().unwrap_or(&any.revision))
}
