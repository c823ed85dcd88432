//! Commits are read: listed, their files parsed, divided into apps.
//!
//! Two sorts of commits matter: those that are in force, of which each app may have its own, and the
//! newest, which may come into force. Each is read once; files are remembered by path and content, so
//! a commit that changes one file of ten thousand reads one file. An app that is in step with the
//! newest commit is read from that, whenever its files came into force: after a restart one commit is
//! read, not one for each app.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::desired::trust::{Refusal, TRUST_FILE};
use crate::desired::{self, AppSpec, Desired, Division};
use crate::kinds::binding::{AppName, DEFAULT_APP, Oid};
use crate::kinds::certified::{Certified, Keys};
use crate::kinds::finding::{Finding, Place};
use crate::kinds::name::Name;
use crate::kinds::object::{Body, Object};
use crate::kinds::registry::Kind;
use crate::kinds::time::Now;
use crate::plan::{self, Offer, Revision, Terms};
use crate::ports::source::{
    Answer as SourceAnswer, Call as SourceCall, CommitInfo, FileEntry, Relation, Survey,
};
use crate::ports::{Answer, Call, Fault, FaultKind};
use crate::state::State;
use crate::state::records::Applied;

use super::event::{AskId, Parsed, Reply, Work};
use super::trust::TrustOf;
use super::wish::{READ_TIMEOUT, RETRY_FIRST};
use super::{Agent, Purpose};

/// A commit as one wish, and what is wrong with it.
pub(super) type Whole = (Desired, Vec<Finding>);

/// A commit that was read.
#[derive(Debug)]
pub(super) struct Reading {
    pub(super) commit: Oid,
    /// Whether what is in force, and stands in it as it was, goes by its windlass.yaml.
    has_renewed: bool,
    /// What it offers to each app.
    pub(super) parts: BTreeMap<AppName, Arc<Revision>>,
}

/// A commit being read.
#[derive(Debug)]
pub(super) struct Load {
    commit: Oid,
    purpose: LoadPurpose,
    /// The commits that it is compared with, and what came of it so far; each app may have another.
    asked: Vec<Option<Oid>>,
    surveys: BTreeMap<Option<Oid>, Box<Survey>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LoadPurpose {
    Applied,
    Fallback,
    Candidate,
    /// Only for the keys that it certifies.
    Keys,
    Diff(AskId),
}

impl Agent {
    /// What is in force of each app, by the coordinator's register.
    fn heads(&self) -> impl Iterator<Item = (&AppName, &Applied)> {
        let apps = self.store.state().into_iter().flat_map(|state| &state.apps);
        apps.filter_map(|(app, state)| Some((app, state.head.applied.as_ref()?)))
    }

    /// Whether the repository is divided into apps, by what is known of it.
    pub(super) fn is_divided(&self) -> bool {
        let state = self.store.state();
        state.is_some_and(|state| state.apps.keys().any(|app| *app != *DEFAULT_APP))
    }

    /// Whether the revision in force of an app has been read, and what lies under it.
    fn has_read(&self, app: &AppName, applied: &Applied) -> bool {
        let state = self.store.state().and_then(|state| state.apps.get(app));
        let waves = state.and_then(|state| state.head.waves_now());
        self.wish.applied.get(app).is_some_and(|read| {
            let own = read.waves.as_ref().map(|in_waves| &in_waves.waves);
            read.commit.id == applied.revision && own == waves
        })
    }

    /// A revision of an app that was read for what is in force of it.
    fn whole(&self, app: &AppName, commit: &Oid) -> Option<&Arc<Revision>> {
        self.wish.whole.get(app)?.get(commit)
    }

    /// The commits of which an app's revision in force is made.
    fn layers<'s>(state: &'s State, app: &AppName) -> impl Iterator<Item = &'s Oid> {
        let head = state.apps.get(app).map(|state| &state.head);
        let applied = head.and_then(|head| head.applied.as_ref());
        let waves = head.and_then(|head| head.waves_now());
        let under = waves.into_iter().flat_map(|waves| &waves.under);
        applied.map(|applied| &applied.revision).into_iter().chain(under.map(|its| &its.revision))
    }

    /// What is in force, put together from what was read.
    fn composed(&self, state: &State) -> BTreeMap<AppName, Arc<Revision>> {
        let made = self.heads().filter_map(|(app, applied)| {
            let waves = state.apps.get(app)?.head.waves_now();
            let top = self.whole(app, &applied.revision)?;
            let before = self.wish.applied.get(app);
            let same = before.filter(|before| plan::is_made_of(before, top, waves)).cloned();
            let read = |commit: &Oid| self.whole(app, commit).cloned();
            Some((app.clone(), same.or_else(|| plan::in_force(waves, top, read))?))
        });
        made.collect()
    }

    /// Whether anything is in force, and read.
    pub(super) fn has_read_any(&self) -> bool {
        self.heads().any(|(app, applied)| self.has_read(app, applied))
    }

    /// Whether everything that is in force has been read.
    pub(super) fn has_read_all(&self) -> bool {
        self.heads().all(|(app, applied)| self.has_read(app, applied))
    }

    /// What came into force of the newest commit needs no second reading.
    pub(super) fn adopt(&mut self) {
        let Some(state) = self.store.state() else { return };
        let newest = self.wish.newest.iter().flat_map(|newest| &newest.parts);
        let read = newest.chain(&self.wish.fallbacks);
        let mut adopted: Vec<(AppName, Arc<Revision>)> = read
            .filter(|(app, part)| {
                let head = state.apps.get(*app).and_then(|app| app.head.applied.as_ref());
                // Of a commit that nobody vouches for nothing was read, whoever has it in force.
                let is_in_force = head.is_some_and(|head| head.revision == part.commit.id)
                    && part.terms.distrust.is_none();
                let known = self.whole(app, &part.commit.id);
                is_in_force && !known.is_some_and(|known| Arc::ptr_eq(known, part))
            })
            .map(|(app, part)| (app.clone(), part.clone()))
            .collect();
        let is_done = self.wish.newest.as_ref().is_some_and(|newest| {
            newest.parts.iter().all(|(app, part)| is_settled(state, app, part))
        });
        let judged = self.wish.newest.as_ref().filter(|n| state.tip.as_ref() == Some(&n.commit));
        let renews = judged.is_some_and(|newest| !newest.has_renewed);
        // What is in force already and stands in the newest commit as it was: that reading is as
        // good, and what windlass.yaml says of it may be new.
        if let Some(newest) = self.wish.newest.as_ref().filter(|_| renews) {
            let same = self.unchanged(&newest.parts).into_iter();
            adopted.extend(same.filter(|(app, _)| state.is_in_step(app, &newest.commit)));
        }
        let has_news = !adopted.is_empty();
        for (app, part) in adopted {
            self.wish.whole.entry(app).or_default().insert(part.commit.id.clone(), part);
        }
        let Some(state) = self.store.state() else { return };
        let composed = self.composed(state);
        let is_as_before = composed.len() == self.wish.applied.len()
            && composed.iter().all(|(app, revision)| {
                self.wish.applied.get(app).is_some_and(|before| Arc::ptr_eq(before, revision))
            });
        // A register without any app has been lost: what was in force stays until it is back.
        let is_lost = state.apps.is_empty();
        if !has_news && !is_done && !renews && (is_as_before || is_lost) {
            return;
        }
        let before = self.wish.inputs(None);
        let mut whole = std::mem::take(&mut self.wish.whole);
        if !is_lost {
            for (app, read) in &mut whole {
                let used: BTreeSet<&Oid> = Self::layers(state, app).collect();
                read.retain(|commit, _| used.contains(commit));
            }
            whole.retain(|_, read| !read.is_empty());
            self.wish.applied = composed;
        }
        self.wish.whole = whole;
        let goals: BTreeSet<AppName> = self.goals().map(|(app, _)| app.clone()).collect();
        self.wish.fallbacks.retain(|app, _| goals.contains(app));
        if is_done {
            self.wish.newest = None;
        } else if let Some(newest) = &mut self.wish.newest {
            newest.has_renewed |= renews;
        }
        self.wish.tried.clear();
        self.wish.has_read_keys = true;
        self.shelve_templates(&before);
        // What windlass.yaml says may be new though nothing else is.
        self.lead.needs_turn();
        self.host_needs_look();
        self.network_needs_look();
    }

    /// Parts of a commit that say what is in force already, under the name of the commit in force.
    fn unchanged(
        &self,
        parts: &BTreeMap<AppName, Arc<Revision>>,
    ) -> BTreeMap<AppName, Arc<Revision>> {
        let same = self.heads().filter_map(|(app, applied)| {
            let part = parts.get(app)?;
            let is_same = part.terms.is_part && part.tree.as_ref() == Some(&applied.tree);
            (is_same && part.commit.id != applied.revision)
                .then(|| (app.clone(), Arc::new(under(part, applied))))
        });
        same.collect()
    }

    /// Begins to read the commit that is needed most, if none is being read.
    pub(super) fn start_load(&mut self, now: Now) {
        if self.wish.load.is_some() || self.wish.load_retry_at.is_some() {
            return;
        }
        let Some(state) = self.store.state() else {
            return;
        };
        let in_force = self.in_force_to_read(state);
        let (commit, asked, purpose) = if let Some(commit) = in_force {
            (commit, vec![None], LoadPurpose::Applied)
        } else if let Some(commit) = self.fallback_to_read() {
            (commit, vec![None], LoadPurpose::Fallback)
        } else if let Some(tip) = self.tip_to_read() {
            let bases: BTreeSet<Option<Oid>> =
                state.apps.keys().map(|app| state.base_of(app).cloned()).collect();
            let bases = if bases.is_empty() { vec![None] } else { bases.into_iter().collect() };
            (tip, bases, LoadPurpose::Candidate)
        } else if let Some(tip) = self.keys_to_read() {
            (tip, vec![None], LoadPurpose::Keys)
        } else {
            let Some((ask, commit)) = self.wish.wanted_diffs.pop() else {
                return;
            };
            (commit, vec![None], LoadPurpose::Diff(ask))
        };
        self.wish.load = Some(Load { commit, purpose, asked, surveys: BTreeMap::new() });
        self.go_on_loading(now);
    }

    /// Whether this commit is being read.
    pub(super) fn is_loading(&self, commit: &Oid) -> bool {
        self.wish.load.as_ref().is_some_and(|load| load.commit == *commit)
    }

    /// Reads what is to be read, once it is known that somebody vouches for it.
    pub(super) fn go_on_loading(&mut self, now: Now) {
        let Some(load) = &self.wish.load else { return };
        let commit = load.commit.clone();
        match self.trust_of(&commit) {
            TrustOf::Free | TrustOf::Good(_) => self.survey_next(),
            TrustOf::Unknown => self.ask_trust(&commit),
            TrustOf::Bad(refusal) => self.refuse_load(&refusal, now),
        }
    }

    /// Of a commit that nobody vouches for nothing is read.
    fn refuse_load(&mut self, refusal: &Refusal, now: Now) {
        if self.wish.tip.as_ref() == Some(&refusal.tip.id) {
            // What the one before it certified stands.
            let before = self.wish.newest_keys.take();
            let keys = before.map(|(_, keys)| keys).unwrap_or_default();
            self.wish.newest_keys = Some((refusal.tip.id.clone(), keys));
        }
        let is_newest = |load: &Load| load.purpose == LoadPurpose::Candidate;
        if !self.wish.load.as_ref().is_some_and(is_newest) {
            let id = refusal.tip.id.short();
            let fault = format!("commit {id} is not to be trusted: {refusal}");
            return self.load_failed(&Fault::stalled(fault), now);
        }
        self.wish.load = None;
        self.wish.load_fault = None;
        let Some(state) = self.store.state() else { return };
        let mut apps: BTreeSet<AppName> = state.apps.keys().cloned().collect();
        if apps.is_empty() {
            apps.insert(Name::trusted(DEFAULT_APP));
        }
        let refused = |app: AppName| {
            let terms = Terms {
                spec: Arc::new(AppSpec::new(app.clone())),
                is_part: self.is_divided(),
                distrust: Some(refusal.to_string()),
                ..Terms::default()
            };
            let revision = Revision {
                commit: refusal.tip.clone(),
                tree: None,
                origin: self.config.origin.clone(),
                since: state.base_of(&app).cloned(),
                // It is refused before anybody looks at what it follows from.
                relation: Relation::First,
                commits: [refusal.tip.clone()].into(),
                signer: None,
                desired: Arc::default(),
                findings: refusal.why.findings().into(),
                terms,
                waves: None,
            };
            (app, Arc::new(revision))
        };
        let parts = apps.into_iter().map(refused).collect();
        let commit = refusal.tip.id.clone();
        self.wish.newest = Some(Reading { commit, has_renewed: false, parts });
        self.lead.needs_turn();
    }

    fn survey_next(&mut self) {
        let Some(load) = &self.wish.load else { return };
        if let Some(since) = load.asked.last() {
            let call = SourceCall::Survey { commit: load.commit.clone(), since: since.clone() };
            self.call(Purpose::Survey, Call::Source(call), READ_TIMEOUT);
        }
    }

    /// What apps go back to: the revision, where it is to be.
    fn goals(&self) -> impl Iterator<Item = (&AppName, &Oid)> {
        let apps = self.store.state().into_iter().flat_map(|state| &state.apps);
        apps.filter_map(|(app, state)| {
            let failed = state.head.failed_now()?;
            let kept = state.head.healthy.as_ref().filter(|_| failed.goes_back)?;
            Some((app, &kept.applied.revision))
        })
    }

    fn fallback_to_read(&self) -> Option<Oid> {
        let is_read = |app: &AppName, commit: &Oid| {
            self.wish.fallbacks.get(app).is_some_and(|read| read.commit.id == *commit)
        };
        // One that can't be read must not keep the newest commit from being read.
        let mut goals = self.goals().filter(|(_, commit)| !self.wish.tried.contains(*commit));
        goals.find(|(app, commit)| !is_read(app, commit)).map(|(_, commit)| commit.clone())
    }

    /// A commit from which something that is in force is to be read.
    fn in_force_to_read(&self, state: &State) -> Option<Oid> {
        let (app, applied) = self.heads().find(|(app, applied)| !self.has_read(app, applied))?;
        if self.whole(app, &applied.revision).is_some() {
            return Self::layers(state, app).find(|its| self.whole(app, its).is_none()).cloned();
        }
        let is_in_step = |tip: &&Oid| state.is_in_step(app, tip);
        let tip = state.tip.as_ref().filter(is_in_step);
        let tip = tip.filter(|tip| !self.wish.tried.contains(*tip));
        Some(tip.unwrap_or(&applied.revision).clone())
    }

    /// The newest commit, if something of it is not in force and it is not read, or was compared with
    /// what is in force no longer.
    pub(super) fn tip_to_read(&self) -> Option<Oid> {
        let tip = self.wish.tip.clone()?;
        let state = self.store.state()?;
        let is_read = self.wish.newest.as_ref().is_some_and(|newest| {
            newest.commit == tip
                && newest.parts.iter().all(|(app, part)| {
                    is_settled(state, app, part) || part.since.as_ref() == state.base_of(app)
                })
        });
        let is_in_step = |app: &AppName| state.is_in_step(app, &tip);
        let is_in_force = !state.apps.is_empty() && state.apps.keys().all(is_in_step);
        (!is_read && !is_in_force).then_some(tip)
    }

    /// The newest commit, if it has not been read for the keys that it certifies: where the store says
    /// that all of it is in force already, nothing else asks for it.
    fn keys_to_read(&self) -> Option<Oid> {
        let read = self.wish.newest_keys.as_ref().map(|(commit, _)| commit);
        self.wish.tip.clone().filter(|tip| read != Some(tip))
    }

    /// Finds out anew whose keys count, after another commit was read or came into force.
    pub(super) fn certify(&mut self) {
        let is_unread = !self.has_read_all();
        let is_stale = std::mem::take(&mut self.wish.has_read_keys);
        if is_stale || self.wish.certified.is_unread() != is_unread {
            let in_force = self.wish.applied.values().map(|read| &*read.desired);
            let newest = self.wish.newest_keys.as_ref().map(|(_, keys)| keys.clone());
            let certified = Certified::new(keys(in_force), newest.unwrap_or_default(), is_unread);
            self.wish.certified = Arc::new(certified);
            self.peers_need_meeting();
        }
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
        let since = load.asked.pop().flatten();
        load.surveys.insert(since, survey);
        if !load.asked.is_empty() {
            self.survey_next();
        } else if missing.is_empty() {
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
        let Some(load) = self.wish.load.take() else {
            return;
        };
        match self.digest(&load) {
            Ok(()) => {
                self.wish.load_fault = None;
                self.wish.load_retry_at = None;
                self.lead.needs_turn();
                self.host_needs_look();
                self.network_needs_look();
            }
            Err(fault) => {
                self.wish.load = Some(load);
                self.load_failed(&fault, now);
            }
        }
    }

    /// Makes of a commit's listings and files what it was read for.
    fn digest(&mut self, load: &Load) -> Result<(), Fault> {
        let survey = load.surveys.values().next();
        let survey = survey.ok_or_else(|| Fault::transient("no survey came back"))?;
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
            return Err(Fault::transient(fault));
        }
        let Some(commit) = survey.commits.first().cloned() else {
            return Err(Fault::stalled(format!("commit {} has no description", load.commit)));
        };
        if let LoadPurpose::Diff(ask) = load.purpose {
            let whole = desired::assemble(&survey.files, &files);
            self.reply_diff(ask, &commit.id, &whole);
            self.weed_memo(&survey.files);
            return Ok(());
        }
        let division = desired::divide(&survey.files, &files);
        if self.wish.tip.as_ref() == Some(&load.commit) {
            let keys = keys(division.parts.iter().map(|part| &part.desired));
            self.wish.newest_keys = Some((load.commit.clone(), keys));
        }
        self.wish.has_read_keys = true;
        match load.purpose {
            LoadPurpose::Keys | LoadPurpose::Diff(_) => {}
            LoadPurpose::Applied => self.read_in_force(load, &commit, survey, division)?,
            LoadPurpose::Fallback => {
                let offers = plan::offers(division, &State::default());
                let goals = self.goals().filter(|(_, goal)| **goal == commit.id);
                let found: BTreeMap<AppName, Arc<Revision>> = goals
                    .filter_map(|(app, _)| {
                        let offer = offers.get(app)?.clone();
                        let revision = self.revision(&commit, None, survey, offer);
                        Some((app.clone(), Arc::new(revision)))
                    })
                    .collect();
                if found.is_empty() {
                    let fault = format!("commit {} has nothing of what is gone back to", commit.id);
                    return Err(Fault::stalled(fault));
                }
                self.wish.fallbacks.extend(found);
            }
            LoadPurpose::Candidate => {
                let mut division = division;
                self.tell_of_unpinned(survey, &mut division);
                self.read_newest(load, &commit, division);
            }
        }
        self.weed_memo(&survey.files);
        Ok(())
    }

    /// Takes what is in force from a commit, for every app whose word it has.
    fn read_in_force(
        &mut self,
        load: &Load,
        commit: &CommitInfo,
        survey: &Survey,
        division: Division,
    ) -> Result<(), Fault> {
        // Only what the commit lists itself can be in force of it.
        let parts: BTreeMap<AppName, Arc<Revision>> = plan::offers(division, &State::default())
            .into_iter()
            .map(|(app, offer)| (app, Arc::new(self.revision(commit, None, survey, offer))))
            .collect();
        let Some(state) = self.store.state() else { return Ok(()) };
        let is_its = |app: &AppName| Self::layers(state, app).any(|layer| *layer == commit.id);
        let own = self.heads().filter(|(app, _)| is_its(app));
        let mut found: Vec<(AppName, Arc<Revision>)> =
            own.filter_map(|(app, _)| Some((app.clone(), parts.get(app)?.clone()))).collect();
        let same = self.unchanged(&parts).into_iter();
        found.extend(same.filter(|(app, part)| self.whole(app, &part.commit.id).is_none()));
        let is_last_resort = !self.wish.tried.insert(load.commit.clone());
        if found.is_empty() && is_last_resort {
            let fault = format!("commit {} does not hold what is in force of it", commit.id);
            return Err(Fault::stalled(fault));
        }
        for (app, part) in found {
            self.wish.whole.entry(app).or_default().insert(part.commit.id.clone(), part);
        }
        Ok(())
    }

    fn read_newest(&mut self, load: &Load, commit: &CommitInfo, division: Division) {
        let Some(state) = self.store.state() else {
            return;
        };
        let revision = |(app, offer): (AppName, Offer)| {
            let base = state.base_of(&app).cloned();
            let is_first = base.is_none();
            let compared = load.surveys.get_key_value(&base);
            // What is in force changed meanwhile: the coordinator will not take this, and it is read
            // again. An app of which nothing is in force is compared with nothing.
            let (since, survey) = compared.or_else(|| load.surveys.first_key_value())?;
            let since = since.clone().filter(|_| !is_first);
            let mut revision = self.revision(commit, since, survey, offer);
            if is_first {
                revision.relation = Relation::First;
            }
            Some((app, Arc::new(revision)))
        };
        let offered = plan::offers(division, state);
        let parts: BTreeMap<AppName, Arc<Revision>> =
            offered.into_iter().filter_map(revision).collect();
        self.wish.newest = Some(Reading { commit: commit.id.clone(), has_renewed: false, parts });
    }

    /// Whoever commits a `trust.yaml` must know when nobody goes by it.
    fn tell_of_unpinned(&self, survey: &Survey, division: &mut Division) {
        let is_there = survey.files.iter().any(|file| &*file.path == TRUST_FILE);
        if let Some(part) = division.parts.first_mut()
            && self.config.trust.is_none()
            && is_there
        {
            let message = "is not gone by: agents have no pin of it";
            let hint = "set desired.trust in agent.yaml to its fingerprint, which `windlass validate` \
                        prints, on every node";
            let finding = Finding::warning(Place::file(TRUST_FILE), message).hint(hint);
            part.findings.push(finding);
        }
    }

    fn revision(
        &self,
        commit: &CommitInfo,
        since: Option<Oid>,
        survey: &Survey,
        offer: Offer,
    ) -> Revision {
        let Offer { tree, desired, findings, terms } = offer;
        Revision {
            commit: commit.clone(),
            tree: if terms.is_part { tree } else { survey.tree.clone() },
            origin: self.config.origin.clone(),
            since,
            relation: survey.relation,
            commits: survey.commits.clone().into(),
            signer: self.signer_of(&commit.id),
            desired,
            findings,
            terms,
            waves: None,
        }
    }

    /// Forgets files that neither the revisions in force nor the newest have.
    fn weed_memo(&mut self, just_read: &[FileEntry]) {
        let used: BTreeSet<(&str, &str)> =
            just_read.iter().map(|file| (&*file.path, file.blob.as_str())).collect();
        let newest = self.wish.newest.iter().flat_map(|newest| newest.parts.values());
        let places: BTreeSet<String> = newest
            .chain(self.wish.whole.values().flat_map(|read| read.values()))
            .flat_map(|revision| revision.desired.objects.values())
            .map(|object| object.place.path.to_string())
            .collect();
        // A path of any of them keeps all its versions: there are few.
        self.wish.memo.retain(|(path, blob), _| {
            let is_placed = || match desired::charts::directory(path) {
                // A chart's objects stand at its templates.
                Some(chart) => {
                    let below = format!("{chart}/");
                    places.range(below.clone()..).next().is_some_and(|at| at.starts_with(&below))
                }
                None => places.contains(&**path),
            };
            used.contains(&(&**path, blob.as_str())) || is_placed()
        });
    }

    pub(super) fn load_failed(&mut self, fault: &Fault, now: Now) {
        let load = self.wish.load.take();
        match load {
            Some(Load { purpose: LoadPurpose::Diff(ask), .. }) => {
                self.reply(ask, Reply::Refused(fault.message.clone()));
                return;
            }
            // Where the newest commit can't be read, the one that brought it may be; what is gone back
            // to waits until something else is read.
            Some(Load {
                purpose: LoadPurpose::Applied | LoadPurpose::Fallback, commit, ..
            }) => {
                self.wish.tried.insert(commit);
            }
            _ => {}
        }
        if self.wish.load_fault.as_ref() != Some(fault) {
            tracing::warn!(%fault, "a commit can't be read; what is in force stays");
        }
        if fault.kind == FaultKind::NotFound {
            // Its objects are not on this machine: perhaps they come with the next fetch.
            self.wish.fetch_soon(now);
        }
        self.wish.load_fault = Some(fault.clone());
        self.wish.load_retry_at = Some(now.elapsed + RETRY_FIRST * 5);
    }
}

/// The keys of nodes that are certified here.
fn keys<'d>(desired: impl Iterator<Item = &'d Desired>) -> Keys {
    let key = |node: &Arc<Object>| match &node.body {
        Body::Node(wish) => Some((node.key.name.clone(), wish.key.clone()?)),
        _ => None,
    };
    desired.flat_map(|desired| desired.of_kind(Kind::Node)).filter_map(key).collect()
}

/// Whether everything that a commit says of an app is in force; of one that it has no more, that it is
/// gone.
pub(super) fn is_settled(state: &State, app: &AppName, part: &Revision) -> bool {
    let is_gone = part.terms.is_gone && !state.apps.contains_key(app);
    is_gone || state.is_in_step(app, &part.commit.id)
}

/// A part of a newer commit, under the name of the one in force whose files are the same.
fn under(part: &Revision, applied: &Applied) -> Revision {
    let commit = CommitInfo {
        id: applied.revision.clone(),
        author: applied.author.clone(),
        time: part.commit.time,
        message: applied.subject.clone(),
    };
    Revision { commit, ..part.clone() }
}
