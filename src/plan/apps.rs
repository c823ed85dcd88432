//! The apps at one table: what can't be judged by looking at one of them.
//!
//! Flatmates who each sign their own part of a lease: what one hands to another must be taken the
//! same day, what two claim neither gets twice, and what one needs of another must be there. So all
//! apps that a commit offers are looked at together: first all that may come into force are taken to,
//! then whatever does not fit with the rest is left out, until all of it fits.
//!
//! The rule: no object is in force twice, none is lost on its way from one app to another, and what
//! an app needs to be valid at all (a Namespace, a PriorityClass) is in force with it. The limit:
//! Services' ports and addresses are compared within one commit only; beyond that
//! [`super::allocate`] gives each to one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::desired::{AppSpec, Desired, Division, Need, Part};
use crate::kinds::binding::{AppName, DEFAULT_APP, Oid};
use crate::kinds::finding::Finding;
use crate::kinds::name::Name;
use crate::kinds::object::Key;
use crate::state::records::Verdict;
use crate::state::{AppState, State};

use super::health::{self, Health};
use super::work::Work;
use super::{Revision, Terms};

/// What a commit says of one app, before it is known how the commit follows from what is in force.
#[derive(Clone, Debug)]
pub struct Offer {
    /// What its files come to, where the repository is divided.
    pub tree: Option<Oid>,
    /// What it asks for.
    pub desired: Arc<Desired>,
    /// What is wrong with it.
    pub findings: Arc<[Finding]>,
    /// How it is to be treated.
    pub terms: Terms,
}

/// What a commit says of every app: those that it has, and those that there are and that it has no
/// more.
pub fn offers(division: Division, state: &State) -> BTreeMap<AppName, Offer> {
    let Division { settings, parts, is_divided } = division;
    let is_unknown = !settings.is_empty();
    let general = parts.first().map(|part| part.desired.settings.windows.clone());
    let general = general.unwrap_or_default();
    let has_word = |part: &Part| {
        let app = &part.spec.name;
        let is_empty = part.desired.objects.is_empty() && part.findings.is_empty();
        !is_divided || *app != *DEFAULT_APP || !is_empty || state.apps.contains_key(app)
    };
    let offer = |part: Part, is_part: bool, is_missing: bool| Offer {
        tree: part.tree,
        desired: Arc::new(part.desired),
        findings: part.findings.into(),
        terms: Terms {
            windows: general.iter().chain(&part.spec.windows).cloned().collect(),
            spec: Arc::new(part.spec),
            needs: part.needs.into(),
            is_part,
            is_gone: is_missing && !is_unknown,
            is_unknown: is_missing && is_unknown,
            distrust: None,
        },
    };
    let listed = parts.into_iter().filter(has_word);
    let mut offers: BTreeMap<AppName, Offer> =
        listed.map(|part| (part.spec.name.clone(), offer(part, is_divided, false))).collect();
    let missing = state.apps.keys().filter(|app| !offers.contains_key(*app));
    let mut missing: Vec<AppName> = missing.cloned().collect();
    if is_unknown && missing.is_empty() {
        missing.push(Name::trusted(DEFAULT_APP));
    }
    // What is wrong with windlass.yaml is told once.
    let mut settings = settings;
    for app in missing {
        let spec = AppSpec::new(app.clone());
        let (findings, desired) = (std::mem::take(&mut settings), Desired::default());
        let part = Part { spec, tree: None, desired, findings, needs: Vec::new() };
        offers.insert(app, offer(part, true, true));
    }
    offers
}

/// Why a revision stays outside, and what is wrong with it beside what was found in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) verdict: Verdict,
    pub(super) findings: Vec<Finding>,
}

impl Refusal {
    pub(super) fn waits(why: String) -> Self {
        Self { verdict: Verdict::Waits(why), findings: Vec::new() }
    }
}

/// What a commit offers to each app, and what is thought of it.
#[derive(Debug, Default)]
pub(super) struct Table<'i> {
    /// What each app is offered.
    pub(super) offers: BTreeMap<&'i AppName, &'i Arc<Revision>>,
    /// Where the commit has each object; empty where there is one app only.
    places: BTreeMap<&'i Key, &'i AppName>,
    /// Apps of which nothing changes.
    pub(super) same: BTreeSet<&'i AppName>,
    /// Apps that others depend on, and that are healthy as they are.
    healthy: BTreeSet<&'i AppName>,
    /// Apps that stay as they are, and why.
    pub(super) shut: BTreeMap<&'i AppName, Refusal>,
}

impl<'i> Table<'i> {
    pub(super) fn of(offers: BTreeMap<&'i AppName, &'i Arc<Revision>>) -> Self {
        let all = offers.iter().filter(|_| offers.len() > 1);
        let places =
            all.flat_map(|(app, offer)| offer.desired.objects.keys().map(move |key| (key, *app)));
        Self { places: places.collect(), offers, ..Self::default() }
    }

    /// Whether an app is to have another revision.
    fn is_open(&self, app: &AppName) -> bool {
        self.offers.contains_key(app) && !self.shut.contains_key(app) && !self.same.contains(app)
    }

    fn open(&self) -> impl Iterator<Item = (&'i AppName, &'i Arc<Revision>)> {
        let open = self.offers.iter().filter(|(app, _)| self.is_open(app));
        open.map(|(app, offer)| (*app, *offer))
    }

    /// The other app in which the commit has the object.
    pub(super) fn elsewhere(&self, app: &AppName, key: &Key) -> Option<&'i AppName> {
        self.places.get(key).copied().filter(|other| *other != app)
    }

    /// Leaves out apps that wait for others: those they depend on must be in force at this commit,
    /// and healthy.
    pub(super) fn ask_dependencies(&mut self, work: &mut Work) {
        let named = self.open().flat_map(|(_, offer)| &offer.terms.spec.depends_on);
        let asked: BTreeSet<&'i AppName> = named.filter(|app| !self.is_open(app)).collect();
        for app in asked {
            if health::of_app(work, app) == Health::Current {
                self.healthy.insert(app);
            }
        }
        let waiting: Vec<(&'i AppName, Refusal)> = self
            .open()
            .filter_map(|(app, offer)| {
                let depends_on = offer.terms.spec.depends_on.iter();
                let unready = depends_on.filter(|on| !self.is_linked(work, app, on));
                let why = unready.filter_map(|on| self.unready(work, on)).next()?;
                Some((app, Refusal::waits(why)))
            })
            .collect();
        self.shut.extend(waiting);
    }

    /// Why an app is not ready for those that depend on it.
    fn unready(&self, work: &Work, app: &AppName) -> Option<String> {
        if self.is_open(app) {
            return Some(format!("it waits until app {app} is healthy at this commit"));
        }
        if self.shut.contains_key(app) {
            return Some(format!("it depends on app {app}, which is not in force at this commit"));
        }
        let is_there = work.next.apps.contains_key(app);
        (is_there && !self.healthy.contains(app))
            .then(|| format!("it waits until app {app} is healthy"))
    }

    /// Whether objects go from one app to the other: then both come into force together, or what
    /// moves would be lost meanwhile.
    fn is_linked(&self, work: &Work, one: &AppName, other: &AppName) -> bool {
        let gives = |from: &AppName, to: &AppName| {
            let offer = self.offers.get(to);
            work.next.apps.get(from).zip(offer).is_some_and(|(state, offer)| {
                state.objects().any(|(key, _)| offer.desired.objects.contains_key(&key))
            })
        };
        gives(one, other) || gives(other, one)
    }

    /// Leaves out what does not fit with the rest, until all of it does.
    pub(super) fn settle(&mut self, work: &Work) {
        let alone = work.next.apps.keys().all(|app| self.offers.contains_key(app));
        if alone && self.offers.len() <= 1 {
            return;
        }
        // Each round leaves out one app at least.
        for _ in 0..=self.offers.len() {
            let misfits = self.misfits(work);
            if misfits.is_empty() {
                return;
            }
            for (app, refusal) in misfits {
                self.shut.entry(app).or_insert(refusal);
            }
        }
    }

    /// Who would have what if all that is open came into force.
    fn holders(&self, work: &Work) -> BTreeMap<Key, AppName> {
        let mut holders = BTreeMap::new();
        for (app, state) in work.next.apps.iter().filter(|(app, _)| !self.is_open(app)) {
            holders.extend(kept(work, app, state).map(|key| (key, app.clone())));
        }
        for (app, offer) in self.open() {
            for key in offer.desired.objects.keys() {
                holders.entry(key.clone()).or_insert_with(|| app.clone());
            }
        }
        holders
    }

    fn misfits(&self, work: &Work) -> Vec<(&'i AppName, Refusal)> {
        let holders = self.holders(work);
        let mut misfits = Vec::new();
        for (app, offer) in self.open() {
            let refusal = claims_anothers(app, offer, &holders)
                .or_else(|| self.hands_to_nobody(work, app, offer))
                .or_else(|| self.lacks(offer, &holders));
            misfits.extend(refusal.map(|refusal| (app, refusal)));
        }
        for (app, revision) in work.revisions.iter().filter(|(app, _)| !self.is_open(app)) {
            misfits.extend(self.bereaves(work, app, revision, &holders));
        }
        misfits
    }

    /// An object leaves an app for another one that does not come into force.
    fn hands_to_nobody(&self, work: &Work, app: &AppName, offer: &Revision) -> Option<Refusal> {
        let state = work.next.apps.get(app)?;
        state.objects().find_map(|(key, _)| {
            if offer.desired.objects.contains_key(&key) {
                return None;
            }
            let taker = self.elsewhere(app, &key)?;
            let is_taken = self.is_open(taker) || self.same.contains(taker);
            let why = || format!("{key} moves to app {taker}, which does not take it yet");
            (!is_taken).then(|| Refusal::waits(why()))
        })
    }

    /// An app needs what nobody has; if the commit has it in an app that must wait, so does this one.
    fn lacks(&self, offer: &Revision, holders: &BTreeMap<Key, AppName>) -> Option<Refusal> {
        let missing = vital(offer).filter(|need| !holders.contains_key(&need.key));
        let missing: Vec<&Need> = missing.collect();
        let first = missing.first()?;
        let giver = |need: &Need| {
            let app = self.places.get(&need.key)?;
            let waits = matches!(self.shut.get(app)?.verdict, Verdict::Waits(_));
            waits.then_some(*app)
        };
        if let Some(app) = giver(first).filter(|_| missing.iter().all(|need| giver(need).is_some()))
        {
            let why = format!("it needs {} of app {app}, which waits", first.key);
            return Some(Refusal::waits(why));
        }
        let findings: Vec<Finding> = missing.iter().map(|need| need.finding.clone()).collect();
        let verdict = Verdict::Refused(super::accept::errors(findings.len()));
        Some(Refusal { verdict, findings })
    }

    /// An app in force needs what another would take away.
    fn bereaves(
        &self,
        work: &Work,
        app: &AppName,
        revision: &Revision,
        holders: &BTreeMap<Key, AppName>,
    ) -> Vec<(&'i AppName, Refusal)> {
        let lost = vital(revision).filter(|need| !holders.contains_key(&need.key));
        lost.filter_map(|need| {
            let had = |other: &AppName| {
                work.next.apps.get(other).is_some_and(|state| state.entry(&need.key).is_some())
            };
            let (taker, _) = self.open().find(|(other, _)| had(other))?;
            let why = format!("it takes away {}, which app {app} in force needs", need.key);
            Some((taker, Refusal::waits(why)))
        })
        .collect()
    }
}

/// What an app has in force, and what its revision in force has beyond that.
fn kept<'w>(
    work: &'w Work,
    app: &AppName,
    state: &'w AppState,
) -> impl Iterator<Item = Key> + use<'w> {
    let revision = work.revisions.get(app);
    let asked = revision.into_iter().flat_map(|revision| revision.desired.objects.keys());
    state.objects().map(|(key, _)| key).chain(asked.cloned())
}

fn claims_anothers(
    app: &AppName,
    offer: &Revision,
    holders: &BTreeMap<Key, AppName>,
) -> Option<Refusal> {
    offer.desired.objects.values().find_map(|object| {
        let holder = holders.get(&object.key).filter(|holder| *holder != app)?;
        let why = format!("{} ({}) is still app {holder}'s", object.key, object.place);
        Some(Refusal::waits(why))
    })
}

/// What a revision can't do without, of what other apps may have.
fn vital(revision: &Revision) -> impl Iterator<Item = &Need> {
    revision.terms.needs.iter().filter(|need| need.finding.is_error())
}
