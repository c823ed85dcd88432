//! Change windows: is this the hour to change an app?
//!
//! The porter at the works' gate: deliveries in opening hours only. Who carries back what was
//! delivered last may always pass, and so may whoever says that it can't wait.
//!
//! The rule: a commit is read and checked whenever it comes; outside its windows it waits, and is
//! judged anew until one opens. The windows are those of the commit itself, as is everything that
//! `windlass.yaml` says: they guard against the wrong hour, not against whoever may push. Never held
//! are the first commit of a fleet, an automatic return, a commit with the files of the last healthy
//! revision, and one with the trailer [`NOW_TRAILER`].
//!
//! The limit: a wall clock. One that says an earlier day than the commit was made is wrong, as that
//! of a machine which begins in 1970 is; then windows can't be told, and the commit waits as long as
//! its longest window that denies, a day at least, by the clock that counts since boot. So a wrong
//! clock shuts nothing for ever, and does not open at once what is shut.

use std::time::Duration;

use crate::kinds::binding::AppName;
use crate::kinds::time::human_duration;
use crate::kinds::window::{Door, door};
use crate::state::AppState;
use crate::state::records::Verdict;

use super::Revision;
use super::work::Work;

/// The trailer with which an author says that a change can't wait for its window: `yes` for all apps,
/// or their names.
const NOW_TRAILER: &str = "Windlass-Now";

/// A commit that was made by a clock as far as this ahead shows that ours is wrong.
const AHEAD_MAX: Duration = Duration::from_secs(86_400);

/// The least time for which a commit waits where the hour is not known: most windows open once a day.
const UNCLOCKED_LEAST: Duration = Duration::from_secs(86_400);

/// The longest sleep: a wall clock may be set meanwhile, and nobody tells.
const SLEEP_MAX: Duration = Duration::from_secs(600);

/// Why a commit must wait for another hour, if it must.
pub(super) fn hold(work: &mut Work, app: &AppName, offer: &Revision) -> Option<Verdict> {
    let windows = offer.terms.windows.clone();
    if windows.is_empty() || may_pass(work, app, offer) {
        work.memory.unclocked.remove(app);
        return None;
    }
    let now = work.now.wall;
    if offer.commit.time.since(now) > AHEAD_MAX {
        return unclocked(work, app, offer);
    }
    work.memory.unclocked.remove(app);
    let until = match door(&windows, now) {
        Door::Open => return None,
        Door::Shut(until) => until,
    };
    work.wake_in(until.map_or(SLEEP_MAX, |until| until.since(now).min(SLEEP_MAX)));
    Some(Verdict::Waits(match until {
        Some(until) => told(&format!("outside its change windows until {until}"), offer),
        None => told("its change windows never open", offer),
    }))
}

/// Where the clock is wrong, only how long it has waited can be told.
fn unclocked(work: &mut Work, app: &AppName, offer: &Revision) -> Option<Verdict> {
    let denials = offer.terms.windows.iter().filter(|window| !window.allows);
    let longest = denials.map(|window| window.duration).max().unwrap_or_default();
    let wait = longest.max(UNCLOCKED_LEAST);
    let now = work.now.elapsed;
    let since = *work.memory.unclocked.entry(app.clone()).or_insert(now);
    let left = wait.saturating_sub(now.since(since));
    if left.is_zero() {
        return None;
    }
    work.wake_in(left.min(SLEEP_MAX));
    let why = format!(
        "the coordinator's clock is earlier than the commit, so its change windows can't be told \
         and it waits for {} instead; set the clock",
        human_duration(wait)
    );
    Some(Verdict::Waits(told(&why, offer)))
}

fn told(why: &str, offer: &Revision) -> String {
    let place = offer.terms.windows.first().map(|window| format!(" ({})", window.place));
    let (place, app) = (place.unwrap_or_default(), &offer.terms.spec.name);
    let value = if offer.terms.is_part { app.as_str() } else { "yes" };
    format!("{why}{place}; a commit with the trailer `{NOW_TRAILER}: {value}` does not wait")
}

/// What no window holds.
fn may_pass(work: &Work, app: &AppName, offer: &Revision) -> bool {
    let is_first = |state: &AppState| state.head.applied.is_none();
    if work.next.apps.values().all(is_first) {
        return true;
    }
    is_way_back(work, app, offer) || is_urgent(app, offer)
}

/// Whether a commit has the files of the last healthy revision before the one in force.
pub(super) fn is_way_back(work: &Work, app: &AppName, offer: &Revision) -> bool {
    let healthy = work.next.apps.get(app).and_then(|state| state.head.healthy.as_ref());
    healthy.is_some_and(|kept| offer.tree.as_ref() == Some(&kept.applied.tree))
}

/// Whether an author says that it can't wait: on any commit that is not in force yet, as with the
/// trailer for deletions.
fn is_urgent(app: &AppName, offer: &Revision) -> bool {
    let says_so = |value: &str| {
        let mut words = value.split([',', ' ']).filter(|word| !word.is_empty());
        words.any(|word| word.eq_ignore_ascii_case("yes") || *app == *word)
    };
    offer.commits.iter().any(|commit| commit.trailer(NOW_TRAILER).is_some_and(says_so))
}
