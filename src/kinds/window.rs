//! When changes may come into force: Argo CD's sync windows, as far as a commit knows them.
//!
//! The opening hours on a shop's door. A window begins whenever its schedule is due and stays for its
//! duration. Where there are windows that allow, one of them must be open; a window that denies
//! shuts, whatever the others say. Without any, nothing is shut.
//! <https://argo-cd.readthedocs.io/en/stable/user-guide/sync_windows/>
//!
//! The limit: the time is told by a clock on the wall; what to do where that can't be believed is
//! decided by whoever asks.

use std::time::Duration;

use super::finding::Place;
use super::schedule::Schedule;
use super::time::Wall;

/// A search for the next opening looks at this many beginnings and ends: windows that overlap each
/// other all year round open never.
const STEPS_MAX: usize = 200;

/// A time in which changes may come into force, or may not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// Whether they may.
    pub allows: bool,
    /// When it begins.
    pub schedule: Schedule,
    /// How long it stays.
    pub duration: Duration,
    /// Where it is written.
    pub place: Place,
}

/// Whether changes may come into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    /// They may.
    Open,
    /// They may not before then; none where no such time is found.
    Shut(Option<Wall>),
}

impl Window {
    /// When the window that is open at `at` ends.
    fn end(&self, at: Wall) -> Option<Wall> {
        let length = i64::try_from(self.duration.as_secs()).unwrap_or(i64::MAX);
        let before = Wall::from_seconds(at.seconds().saturating_sub(length));
        Some(self.schedule.latest(before, at)? + self.duration)
    }
}

/// Whether changes may come into force at `now`, by all these windows together.
pub fn door(windows: &[Window], now: Wall) -> Door {
    if is_open(windows, now) {
        return Door::Open;
    }
    let (allowing, denying): (Vec<&Window>, Vec<&Window>) =
        windows.iter().partition(|window| window.allows);
    let mut beginnings: Vec<Option<Wall>> =
        allowing.iter().map(|window| window.schedule.next(now)).collect();
    let mut at = now;
    for _ in 0..STEPS_MAX {
        // As long as anything denies, nothing that allows can open.
        let free = denying.iter().filter_map(|window| window.end(at)).max();
        for (window, next) in allowing.iter().zip(&mut beginnings) {
            if next.is_some_and(|next| next <= at) {
                *next = window.schedule.next(at);
            }
        }
        match free.or_else(|| beginnings.iter().flatten().min().copied()) {
            Some(next) if is_open(windows, next) => return Door::Shut(Some(next)),
            Some(next) => at = next,
            None => break,
        }
    }
    Door::Shut(None)
}

fn is_open(windows: &[Window], at: Wall) -> bool {
    let (allowing, denying): (Vec<&Window>, Vec<&Window>) =
        windows.iter().partition(|window| window.allows);
    let is_any = |windows: &[&Window]| windows.iter().any(|window| window.end(at).is_some());
    !is_any(&denying) && (allowing.is_empty() || is_any(&allowing))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::schedule::zone;
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn window(allows: bool, schedule: &str, hours: u32, zone_name: &str) -> Window {
        let schedule = Schedule::parse(schedule, zone(zone_name).expect("a zone"));
        let schedule = schedule.expect("a schedule");
        Window { allows, schedule, duration: HOUR * hours, place: Place::file("windlass.yaml") }
    }

    fn wall(text: &str) -> Wall {
        Wall::parse(text).expect("a time")
    }

    #[test]
    fn windows_open_and_shut() {
        let office = || window(true, "0 9 * * 1-5", 8, "Europe/Berlin");
        let freeze = || window(false, "0 0 20 12 *", 14 * 24, "UTC");
        let always = || window(false, "*/30 * * * *", 1, "UTC");
        let open = |at: &str| (at.to_owned(), "open");
        let shut = |at: &str, until| (at.to_owned(), until);
        let table = [
            (vec![], open("2026-11-21T03:00:00Z")),
            // A Friday; the clocks of Berlin are an hour ahead.
            (vec![office()], open("2026-11-20T08:00:00Z")),
            (vec![office()], open("2026-11-20T15:59:59Z")),
            (vec![office()], shut("2026-11-20T16:00:00Z", "2026-11-23T08:00:00Z")),
            (vec![office()], shut("2026-11-20T07:59:59Z", "2026-11-20T08:00:00Z")),
            // In summer two.
            (vec![office()], open("2026-07-03T07:00:00Z")),
            (vec![freeze()], open("2026-12-19T23:59:59Z")),
            (vec![freeze()], shut("2026-12-20T00:00:00Z", "2027-01-03T00:00:00Z")),
            (vec![freeze()], open("2027-01-03T00:00:00Z")),
            // What denies wins, and then what allows must be open as well: the 3rd is a Sunday.
            (vec![office(), freeze()], shut("2026-12-21T09:00:00Z", "2027-01-04T08:00:00Z")),
            // Either of those that allow will do.
            (
                vec![office(), window(true, "0 22 * * *", 1, "UTC")],
                shut("2026-11-21T03:00:00Z", "2026-11-21T22:00:00Z"),
            ),
            (vec![always()], shut("2026-11-21T03:00:00Z", "never")),
            (vec![window(true, "0 0 30 2 *", 1, "UTC")], shut("2026-11-21T03:00:00Z", "never")),
        ];
        for (windows, (at, expected)) in table {
            let found = match door(&windows, wall(&at)) {
                Door::Open => "open".to_owned(),
                Door::Shut(None) => "never".to_owned(),
                Door::Shut(Some(until)) => until.to_string(),
            };
            assert_eq!(found, expected, "{at}: {windows:?}");
        }
    }

    proptest! {
        /// What is said of the next opening agrees with looking at every minute.
        #[test]
        fn the_next_opening_is_the_first_minute_that_is_open(
            start in 29_830_000_i64..29_900_000,
            set in proptest::collection::vec((
                any::<bool>(),
                prop_oneof![Just("0 9 * * 1-5"), Just("*/20 3,4 * * *"), Just("15 22 * * *")],
                1_u32..9,
            ), 1..4),
        ) {
            let windows: Vec<Window> = set
                .into_iter()
                .map(|(allows, schedule, hours)| window(allows, schedule, hours, "Europe/Berlin"))
                .collect();
            let at = |minute: i64| Wall::from_seconds(minute * 60);
            let mut minutes = (start..start + 4 * 1440).map(at);
            let first = minutes.find(|minute| is_open(&windows, *minute));
            let found = match door(&windows, at(start)) {
                Door::Open => Some(at(start)),
                Door::Shut(until) => until.filter(|until| *until < at(start + 4 * 1440)),
            };
            prop_assert_eq!(found, first);
        }
    }
}
