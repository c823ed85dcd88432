//! The desired repository: fetched, surveyed, read and parsed, one commit at a time.
//!
//! Two commits matter: the one in force, which the state store names, and the newest, which may
//! become it. Each is read once; files are remembered by path and content, so a commit that changes
//! one file of ten thousand reads one file.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use crate::desired::{self, ParsedFile};
use crate::kinds::binding::{AppName, DEFAULT_APP, Oid};
use crate::kinds::name::Name;
use crate::kinds::time::{Elapsed, Now, Wall};
use crate::plan::{self, AppInput, Revision, Shelf};
use crate::ports::source::{Answer as SourceAnswer, Call as SourceCall, FileEntry, Survey};
use crate::ports::store::Rev;
use crate::ports::{Answer, Call, Fault, FaultKind};

use super::config::Config;
use super::event::{AskId, Parsed, Reply, Work};
use super::{Agent, Purpose};

/// How long a fetch may take over a slow line.
const FETCH_TIMEOUT: Duration = Duration::from_secs(120);
/// How long reading from this machine's copy may take.
const READ_TIMEOUT: Duration = Duration::from_secs(60);
/// The first wait after a fetch that failed; doubled up to the poll interval, at least
/// [`RETRY_LONGEST`].
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LONGEST: Duration = Duration::from_secs(60);
/// A watched repository is asked this many times less often.
const WATCHED_FACTOR: u32 = 10;

/// What is known of the desired repository.
#[derive(Debug)]
pub(super) struct Wish {
    memo: BTreeMap<(Arc<str>, Oid), Arc<ParsedFile>>,
    pub(super) tip: Option<Oid>,
    /// The branch is known not to exist.
    pub(super) branch_is_missing: bool,
    pub(super) applied: Option<Arc<Revision>>,
    pub(super) candidate: Option<Arc<Revision>>,
    load: Option<Load>,
    wanted_diffs: Vec<(AskId, Oid)>,
    syncs: Vec<AskId>,
    fetch_at: Option<Elapsed>,
    is_fetching: bool,
    fetches: u64,
    failures: u32,
    load_retry_at: Option<Elapsed>,
    /// The last fetch's fault, if it failed.
    pub(super) fetch_fault: Option<Fault>,
    pub(super) load_fault: Option<Fault>,
    /// When the repository was last reached.
    pub(super) reached: Option<Wall>,
    books_asked: BTreeSet<Shelf>,
    books_retry_at: Option<Elapsed>,
    kept: BTreeSet<Oid>,
    /// The coordinator's register in which they were looked up.
    kept_for: Option<Rev>,
}

/// A commit being read.
#[derive(Debug)]
struct Load {
    commit: Oid,
    since: Option<Oid>,
    purpose: LoadPurpose,
    survey: Option<Box<Survey>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoadPurpose {
    Applied,
    Candidate,
    Diff(AskId),
}

impl Wish {
    pub(super) fn new(_config: &Config) -> Self {
        Self {
            memo: BTreeMap::new(),
            tip: None,
            branch_is_missing: false,
            applied: None,
            candidate: None,
            load: None,
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
    pub(super) fn inputs(&self) -> BTreeMap<AppName, AppInput> {
        let input = AppInput { applied: self.applied.clone(), candidate: self.candidate.clone() };
        BTreeMap::from([(Name::trusted(DEFAULT_APP), input)])
    }
}

impl Agent {
    /// The commit that the state store says is in force.
    pub(super) fn revision_in_force(&self) -> Option<Oid> {
        let app = self.store.state()?.apps.get(DEFAULT_APP)?;
        app.head.applied.as_ref().map(|applied| applied.revision.clone())
    }

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
        self.adopt_candidate();
        self.start_load();
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
        let wait = match result {
            Ok(Answer::Source(SourceAnswer::Fetched { tip })) => {
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
        if let Some(tip) = heard {
            self.say_tip(tip);
        }
    }

    /// A candidate that came into force needs no second reading.
    fn adopt_candidate(&mut self) {
        let in_force = self.revision_in_force();
        let is_in_force = |revision: &Option<Arc<Revision>>| {
            revision.as_ref().is_some_and(|r| Some(&r.commit.id) == in_force.as_ref())
        };
        if is_in_force(&self.wish.candidate) {
            let before = self.wish.inputs();
            self.wish.applied = self.wish.candidate.take();
            self.shelve_templates(&before);
            self.host_needs_look();
        }
        if self.wish.applied.is_some() && !is_in_force(&self.wish.applied) && in_force.is_some() {
            self.wish.applied = None;
        }
    }

    /// Keeps templates of the revision that was in force until now: pods still run from them, and to
    /// fetch them from Git again would leave their Services without endpoints for that long.
    fn shelve_templates(&mut self, before: &BTreeMap<AppName, AppInput>) {
        let Some(state) = self.store.state() else { return };
        let after = self.wish.inputs();
        let mut found = Vec::new();
        for reference in plan::references(state) {
            if plan::template_of(reference, &after, &self.library).is_none() {
                let template = plan::template_of(reference, before, &self.library);
                found.extend(template.map(|template| (Shelf::of(reference), template)));
            }
        }
        for (shelf, template) in found {
            self.library.put(shelf, Some(template));
        }
    }

    /// Whether a template that a pod runs from is being fetched.
    pub(super) fn is_fetching_books(&self) -> bool {
        !self.wish.books_asked.is_empty()
    }

    /// Begins to read the commit that is needed most, if none is being read.
    fn start_load(&mut self) {
        if self.wish.load.is_some() || self.store.state().is_none() {
            return;
        }
        if self.wish.load_retry_at.is_some() {
            return;
        }
        let in_force = self.revision_in_force();
        let load = if let Some(commit) = in_force.clone().filter(|_| self.wish.applied.is_none()) {
            Some((commit, None, LoadPurpose::Applied))
        } else if let Some(tip) = self.tip_to_read(in_force.as_ref()) {
            Some((tip, in_force, LoadPurpose::Candidate))
        } else {
            let diff = self.wish.wanted_diffs.pop();
            diff.map(|(ask, commit)| (commit, in_force, LoadPurpose::Diff(ask)))
        };
        let Some((commit, since, purpose)) = load else {
            return;
        };
        let call = SourceCall::Survey { commit: commit.clone(), since: since.clone() };
        self.wish.load = Some(Load { commit, since, purpose, survey: None });
        self.call(Purpose::Survey, Call::Source(call), READ_TIMEOUT);
    }

    /// The newest commit, if it is neither in force nor read already.
    fn tip_to_read(&self, in_force: Option<&Oid>) -> Option<Oid> {
        let tip = self.wish.tip.clone()?;
        let is_read = self
            .wish
            .candidate
            .as_ref()
            .is_some_and(|read| read.commit.id == tip && read.since.as_ref() == in_force);
        (Some(&tip) != in_force && !is_read).then_some(tip)
    }

    pub(super) fn surveyed(&mut self, result: Result<Answer, Fault>, now: Now) {
        let survey = match result {
            Ok(Answer::Source(SourceAnswer::Surveyed(survey))) => survey,
            Ok(_) => return self.load_failed(&Fault::transient("no survey came back"), now),
            Err(fault) => return self.load_failed(&fault, now),
        };
        let Some(load) = &mut self.wish.load else {
            return;
        };
        let missing: Vec<FileEntry> = desired::wanted(&survey.files)
            .into_iter()
            .filter(|file| !self.wish.memo.contains_key(&(file.path.clone(), file.blob.clone())))
            .collect();
        load.survey = Some(survey);
        if missing.is_empty() {
            self.load_complete(now);
        } else {
            let call = SourceCall::Read { files: missing };
            self.call(Purpose::Read, Call::Source(call), READ_TIMEOUT);
        }
    }

    pub(super) fn contents_read(&mut self, result: Result<Answer, Fault>, now: Now) {
        match result {
            Ok(Answer::Source(SourceAnswer::Contents(files))) => {
                self.ask(Purpose::Parse, Work::Parse(files), READ_TIMEOUT);
            }
            Ok(_) => self.load_failed(&Fault::transient("no contents came back"), now),
            Err(fault) => self.load_failed(&fault, now),
        }
    }

    pub(super) fn parsed(&mut self, files: Vec<Parsed>, now: Now) {
        for (path, blob, file) in files {
            self.wish.memo.insert((path, blob), Arc::new(file));
        }
        self.load_complete(now);
    }

    fn load_complete(&mut self, now: Now) {
        let Some(mut load) = self.wish.load.take() else {
            return;
        };
        let Some(survey) = load.survey.take() else { return };
        let wanted = desired::wanted(&survey.files);
        let files: desired::Files = wanted
            .iter()
            .filter_map(|file| {
                let known = self.wish.memo.get(&(file.path.clone(), file.blob.clone()))?;
                Some((file.path.clone(), known.clone()))
            })
            .collect();
        if files.len() != wanted.len() {
            // A file that could not be read must not look like one that is gone.
            let read = files.len();
            let fault =
                format!("only {read} of {} files of {} came back", wanted.len(), load.commit);
            self.wish.load = Some(load);
            return self.load_failed(&Fault::transient(fault), now);
        }
        let (desired, findings) = desired::assemble(&survey.files, &files);
        let Some(commit) = survey.commits.first().cloned() else {
            let fault = Fault::stalled(format!("commit {} has no description", load.commit));
            self.wish.load = Some(load);
            return self.load_failed(&fault, now);
        };
        let revision = Arc::new(Revision {
            commit,
            tree: survey.tree.clone(),
            origin: self.config.origin.clone(),
            since: load.since,
            relation: survey.relation,
            commits: survey.commits.clone().into(),
            desired: Arc::new(desired),
            findings: findings.into(),
        });
        self.wish.load_fault = None;
        self.wish.load_retry_at = None;
        match load.purpose {
            LoadPurpose::Applied => self.wish.applied = Some(revision),
            LoadPurpose::Candidate => self.wish.candidate = Some(revision),
            LoadPurpose::Diff(ask) => self.reply_diff(ask, &revision),
        }
        self.weed_memo(&survey.files);
        self.lead.needs_turn();
        self.host_needs_look();
        self.network_needs_look();
    }

    /// Forgets files that neither the revision in force nor the newest has.
    fn weed_memo(&mut self, just_read: &[FileEntry]) {
        let used: BTreeSet<(&str, &str)> =
            just_read.iter().map(|file| (&*file.path, file.blob.as_str())).collect();
        let places: BTreeSet<String> = [&self.wish.applied, &self.wish.candidate]
            .into_iter()
            .flatten()
            .flat_map(|revision| revision.desired.objects.values())
            .map(|object| object.place.path.to_string())
            .collect();
        // A path of either revision keeps all its versions: there are two at most.
        self.wish.memo.retain(|(path, blob), _| {
            used.contains(&(&**path, blob.as_str())) || places.contains(&**path)
        });
    }

    pub(super) fn load_failed(&mut self, fault: &Fault, now: Now) {
        let load = self.wish.load.take();
        if let Some(Load { purpose: LoadPurpose::Diff(ask), .. }) = load {
            self.reply(ask, Reply::Refused(fault.message.clone()));
            return;
        }
        tracing::warn!(%fault, "a commit can't be read; what is in force stays");
        if fault.kind == FaultKind::NotFound {
            // Its objects are not on this machine: perhaps they come with the next fetch.
            self.wish.fetch_soon(now);
        }
        self.wish.load_fault = Some(fault.clone());
        self.wish.load_retry_at = Some(now.elapsed + RETRY_FIRST * 5);
    }

    /// Asks for templates of earlier revisions; true once nothing more can be learned.
    pub(super) fn fetch_books(&mut self) -> bool {
        let Some(state) = self.store.state() else {
            return false;
        };
        let mut used = BTreeSet::new();
        let apps = self.wish.inputs();
        let missing = crate::plan::missing_templates(state, &apps, &self.library, &mut used);
        self.library.keep_only(&used);
        if self.wish.books_retry_at.is_some() {
            return false;
        }
        for shelf in &missing {
            if self.wish.books_asked.insert(shelf.clone()) {
                let call =
                    SourceCall::Show { commit: shelf.revision.clone(), path: shelf.path.clone() };
                let purpose = Purpose::Book(Box::new(shelf.clone()));
                self.call(purpose, Call::Source(call), READ_TIMEOUT);
            }
        }
        missing.is_empty()
    }

    pub(super) fn book_read(&mut self, shelf: Shelf, result: Result<Answer, Fault>, now: Now) {
        self.wish.books_asked.remove(&shelf);
        let template = match result {
            Ok(Answer::Source(SourceAnswer::Contents(files))) => {
                files.iter().find_map(|file| desired::template(&desired::parse(file), &shelf.owner))
            }
            Err(fault) if fault.kind == FaultKind::NotFound => None,
            Err(_) | Ok(_) => {
                self.wish.books_retry_at = Some(now.elapsed + RETRY_FIRST);
                return;
            }
        };
        self.library.put(shelf, template);
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
        let pods = state.all_pods().map(|(_, pod)| &pod.template.revision);
        let sets = state.apps.values().flat_map(|app| app.sets.values());
        let heads = state.apps.values().filter_map(|app| app.head.applied.as_ref());
        let used: BTreeSet<Oid> = pods
            .chain(sets.map(|set| &set.template.revision))
            .chain(heads.map(|applied| &applied.revision))
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
        let in_force = self.revision_in_force();
        let is_undecided = wish.fetch_fault.is_none()
            && wish.load_fault.is_none()
            && self.tip_to_read(in_force.as_ref()).is_some();
        if wish.syncs.is_empty() || is_busy || is_undecided || self.lead.is_busy() {
            return;
        }
        let text = self.sync_text(in_force.as_ref());
        for ask in std::mem::take(&mut self.wish.syncs) {
            self.reply(ask, Reply::Synced(text.clone()));
        }
    }

    fn sync_text(&self, in_force: Option<&Oid>) -> String {
        let wish = &self.wish;
        if let Some(fault) = wish.fetch_fault.as_ref().or(wish.load_fault.as_ref()) {
            return format!("error: {fault}");
        }
        if wish.branch_is_missing {
            return "the branch does not exist yet".to_owned();
        }
        let waiting = self
            .store
            .state()
            .and_then(|state| state.apps.get(DEFAULT_APP))
            .and_then(|app| app.head.waiting.as_ref());
        match (waiting, in_force) {
            (Some(waiting), _) => format!(
                "revision {} is not in force: {}",
                waiting.revision.short(),
                waiting.verdict.why()
            ),
            (None, Some(revision)) => format!("revision {} is in force", revision.short()),
            (None, None) => "no revision is in force".to_owned(),
        }
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

    fn reply_diff(&mut self, ask: AskId, revision: &Revision) {
        let empty = desired::Desired::default();
        let before = self.wish.applied.as_ref().map_or(&empty, |applied| &*applied.desired);
        let reply = Reply::Diff {
            commit: revision.commit.id.to_string(),
            changes: desired::changes(before, &revision.desired),
            findings: revision.findings.to_vec(),
        };
        self.reply(ask, reply);
    }
}
