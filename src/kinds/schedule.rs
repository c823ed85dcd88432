//! When a CronJob is due, or a change window opens: five fields, or a word, read as robfig/cron's standard parser reads them,
//! which is Kubernetes'.
//!
//! The rule: a minute is due if what a clock on the wall shows then fits the fields. So an hour that
//! a change of the clocks leaves out is never due, and one that comes twice is due twice, as there.
//! Time zones are those compiled into the program: every node reckons alike, and nothing is read from
//! a disk. Everything here is given its time.
//! <https://pkg.go.dev/github.com/robfig/cron/v3#hdr-CRON_Expression_Format>

use std::sync::LazyLock;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{Timestamp, ToSpan, Zoned};

use super::time::Wall;

/// The time zones of the IANA database.
static ZONES: LazyLock<TimeZoneDatabase> = LazyLock::new(TimeZoneDatabase::bundled);

/// How many years are searched for the next time: `0 0 29 2 *` comes every four, or eight.
const YEARS_MAX: i64 = 9;

/// A schedule in its time zone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    when: When,
    zone: TimeZone,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum When {
    Fields(Fields),
    /// Every so many seconds, from the last time on.
    Every(i64),
}

/// Which minutes fit; bit n stands for the value n.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// With a star in one of the two, a day must fit both; otherwise one of them is enough.
    day_is_starred: bool,
}

/// A field's bounds and names.
struct Range {
    what: &'static str,
    least: u32,
    most: u32,
    names: &'static [&'static str],
}

const MINUTES: Range = Range { what: "minute", least: 0, most: 59, names: &[] };
const HOURS: Range = Range { what: "hour", least: 0, most: 23, names: &[] };
const DAYS: Range = Range { what: "day of the month", least: 1, most: 31, names: &[] };
const MONTHS: Range = Range {
    what: "month",
    least: 1,
    most: 12,
    names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
};
const WEEKDAYS: Range = Range {
    what: "day of the week",
    least: 0,
    most: 6,
    names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"],
};

/// Words for whole schedules.
const WORDS: [(&str, &str); 7] = [
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
    ("@monthly", "0 0 1 * *"),
    ("@weekly", "0 0 * * 0"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@hourly", "0 * * * *"),
];

/// Looks a time zone up by its name; none if there is no such zone.
pub fn zone(name: &str) -> Option<TimeZone> {
    // `Local` is Go's name for the zone of whichever machine it runs on.
    Some(name)
        .filter(|name| !name.eq_ignore_ascii_case("local"))
        .and_then(|name| ZONES.get(name).ok())
}

impl Schedule {
    /// Reads a schedule; the complaint is a sentence about it.
    pub fn parse(text: &str, zone: TimeZone) -> Result<Self, String> {
        if text.starts_with("TZ=") || text.starts_with("CRON_TZ=") {
            return Err("can't name a time zone: give it in timeZone".to_owned());
        }
        if let Some(every) = text.strip_prefix("@every ") {
            let seconds = duration_s(every.trim())
                .ok_or_else(|| format!("{every:?} is no duration, as in @every 1h30m"))?;
            if seconds < 60 {
                return Err("can't be more often than every minute".to_owned());
            }
            return Ok(Self { when: When::Every(seconds), zone });
        }
        let written = match text.strip_prefix('@') {
            Some(_) => WORDS
                .iter()
                .find(|(word, _)| *word == text)
                .map(|(_, fields)| *fields)
                .ok_or_else(|| format!("{text:?} is not a word for a schedule, as @daily is"))?,
            None => text,
        };
        Ok(Self { when: When::Fields(Fields::parse(written)?), zone })
    }

    /// One that is never due: what stands where another was wrong.
    pub fn never() -> Self {
        let (minutes, hours, days, months, weekdays) = (0, 0, 0, 0, 0);
        let fields = Fields { minutes, hours, days, months, weekdays, day_is_starred: true };
        Self { when: When::Fields(fields), zone: TimeZone::UTC }
    }

    /// The first time after `after`; none if there is none within [`YEARS_MAX`] years.
    pub fn next(&self, after: Wall) -> Option<Wall> {
        let fields = match &self.when {
            When::Every(seconds) => {
                return Some(Wall::from_seconds(after.seconds().saturating_add(*seconds)));
            }
            When::Fields(fields) => fields,
        };
        let first = after.seconds().div_euclid(60).saturating_add(1).saturating_mul(60);
        let end = first.saturating_add(YEARS_MAX * 366 * 86_400);
        let mut at = Timestamp::from_second(first).ok()?;
        while at.as_second() < end {
            let shown = at.to_zoned(self.zone.clone());
            at = match fields.misfit(&shown) {
                None => return Some(Wall::from_seconds(at.as_second())),
                Some(Misfit::Day) => later(at, &shown.tomorrow().ok()?.start_of_day().ok()?),
                Some(Misfit::Hour) => self.jump(at, 60 - i64::from(shown.minute()), &shown)?,
                Some(Misfit::Minute) => at.checked_add(60.seconds()).ok()?,
            };
        }
        None
    }

    /// The last time after `after` and not after `until`.
    pub fn latest(&self, after: Wall, until: Wall) -> Option<Wall> {
        let fields = match &self.when {
            When::Every(seconds) => {
                let times = until.seconds().saturating_sub(after.seconds()) / seconds;
                return (times > 0).then(|| Wall::from_seconds(after.seconds() + times * seconds));
            }
            When::Fields(fields) => fields,
        };
        let first = until.seconds().div_euclid(60).saturating_mul(60);
        let end = after.seconds().max(first.saturating_sub(YEARS_MAX * 366 * 86_400));
        let mut at = Timestamp::from_second(first).ok()?;
        while at.as_second() > end {
            let shown = at.to_zoned(self.zone.clone());
            at = match fields.misfit(&shown) {
                None => return Some(Wall::from_seconds(at.as_second())),
                Some(Misfit::Day) => {
                    shown.start_of_day().ok()?.timestamp().checked_sub(60.seconds()).ok()?
                }
                Some(Misfit::Hour) => self.jump(at, -1 - i64::from(shown.minute()), &shown)?,
                Some(Misfit::Minute) => at.checked_sub(60.seconds()).ok()?,
            };
        }
        None
    }

    /// Goes on by minutes; by one only where the clocks change in between.
    fn jump(&self, at: Timestamp, minutes: i64, shown: &Zoned) -> Option<Timestamp> {
        let to = at.checked_add((minutes * 60).seconds()).ok()?;
        if self.zone.to_offset(to) == shown.offset() {
            return Some(to);
        }
        at.checked_add((minutes.signum() * 60).seconds()).ok()
    }
}

/// The beginning of the next day, or at least a minute on: a search never stands still.
fn later(at: Timestamp, next_day: &Zoned) -> Timestamp {
    let next = next_day.timestamp();
    if next > at { next } else { at.checked_add(60.seconds()).unwrap_or(Timestamp::MAX) }
}

/// Why a minute is not due; the largest part that does not fit.
enum Misfit {
    Day,
    Hour,
    Minute,
}

impl Fields {
    fn parse(text: &str) -> Result<Self, String> {
        let fields: Vec<&str> = text.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields.as_slice() else {
            let count = fields.len();
            return Err(format!("has {count} fields; a schedule has five, as in 30 4 * * 1-5"));
        };
        let (days, day_star) = field(day, &DAYS)?;
        let (weekdays, weekday_star) = field(weekday, &WEEKDAYS)?;
        Ok(Self {
            minutes: field(minute, &MINUTES)?.0,
            hours: field(hour, &HOURS)?.0,
            days,
            months: field(month, &MONTHS)?.0,
            weekdays,
            day_is_starred: day_star || weekday_star,
        })
    }

    fn misfit(&self, shown: &Zoned) -> Option<Misfit> {
        let has = |bits: u64, value: i8| bits & (1_u64 << u64::from(value.unsigned_abs())) != 0;
        let by_day = has(self.days, shown.day());
        let by_weekday = has(self.weekdays, shown.weekday().to_sunday_zero_offset());
        let is_day = if self.day_is_starred { by_day && by_weekday } else { by_day || by_weekday };
        if !is_day || !has(self.months, shown.month()) {
            return Some(Misfit::Day);
        }
        if !has(self.hours, shown.hour()) {
            return Some(Misfit::Hour);
        }
        (!has(self.minutes, shown.minute())).then_some(Misfit::Minute)
    }
}

/// A field: parts with commas between. Says also whether a bare star is among them.
fn field(text: &str, range: &Range) -> Result<(u64, bool), String> {
    let (mut bits, mut is_starred) = (0, false);
    for part in text.split(',') {
        let (some, star) = part_of(part, range)?;
        bits |= some;
        is_starred |= star;
    }
    Ok((bits, is_starred))
}

/// `*`, `?`, `3`, `mon`, `1-5`, each perhaps with `/step`; `3/10` goes to the end.
fn part_of(part: &str, range: &Range) -> Result<(u64, bool), String> {
    let wrong = || format!("{part:?} is no {}: {} to {}", range.what, range.least, range.most);
    let (span, step) = match part.split_once('/') {
        Some((span, step)) => (span, Some(plain(step).ok_or_else(wrong)?)),
        None => (part, None),
    };
    let is_star = span == "*" || span == "?";
    let (first, last) = match span.split_once('-') {
        _ if is_star => (range.least, range.most),
        Some((first, last)) => {
            (value(first, range).ok_or_else(wrong)?, value(last, range).ok_or_else(wrong)?)
        }
        None => {
            let first = value(span, range).ok_or_else(wrong)?;
            (first, if step.is_some() { range.most } else { first })
        }
    };
    if first < range.least || last > range.most || first > last || step == Some(0) {
        return Err(wrong());
    }
    let step = step.unwrap_or(1);
    let mut bits = 0_u64;
    let mut at = first;
    while at <= last {
        bits |= 1 << at;
        at = at.saturating_add(step);
    }
    // A star with a step picks some only, and is no star for the rule on days.
    Ok((bits, is_star && step <= 1))
}

fn plain(text: &str) -> Option<u32> {
    let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_plain.then(|| text.parse().ok()).flatten()
}

fn value(text: &str, range: &Range) -> Option<u32> {
    let named = range.names.iter().position(|name| name.eq_ignore_ascii_case(text));
    let named = named.and_then(|at| u32::try_from(at).ok()).map(|at| at + range.least);
    named.or_else(|| plain(text))
}

/// A duration as Go writes it, in whole seconds: `1h30m`, `90s`.
fn duration_s(text: &str) -> Option<i64> {
    let (mut total, mut rest) = (0_i64, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).filter(|at| *at > 0)?;
        let number: i64 = rest[..digits].parse().ok()?;
        let unit = match rest[digits..].chars().next()? {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        total = total.checked_add(number.checked_mul(unit)?)?;
        rest = &rest[digits + 1..];
    }
    (total > 0).then_some(total)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn schedule(text: &str, zone_name: &str) -> Schedule {
        Schedule::parse(text, zone(zone_name).expect("a zone")).expect("a schedule")
    }

    fn wall(text: &str) -> Wall {
        Wall::parse(text).expect("a time")
    }

    /// From robfig/cron's own table, where it says the same of the same fields.
    #[test]
    fn the_next_time_is_that_of_cron() {
        let table = [
            ("*/15 * * * *", "UTC", "2012-07-09T14:45:00Z", "2012-07-09T15:00:00Z"),
            ("20-35/15 * * * *", "UTC", "2012-07-09T15:45:00Z", "2012-07-09T16:20:00Z"),
            ("*/15 */2 * * *", "UTC", "2012-07-09T23:46:00Z", "2012-07-10T00:00:00Z"),
            ("0 0 9 Apr,Aug,Oct Mon", "UTC", "2012-07-09T23:35:51Z", "2012-08-06T00:00:00Z"),
            ("0 0 */5 Apr,Aug,Oct Mon", "UTC", "2012-07-09T23:35:51Z", "2012-08-01T00:00:00Z"),
            ("0 0 29 Feb ?", "UTC", "2012-07-09T23:35:00Z", "2016-02-29T00:00:00Z"),
            ("30 2 * * *", "America/New_York", "2012-03-11T05:00:00Z", "2012-03-12T06:30:00Z"),
            ("0 * * * *", "America/New_York", "2012-03-11T06:00:00Z", "2012-03-11T07:00:00Z"),
            ("0 1 * * *", "America/New_York", "2012-11-04T04:00:00Z", "2012-11-04T05:00:00Z"),
            ("0 1 * * *", "America/New_York", "2012-11-04T05:00:00Z", "2012-11-04T06:00:00Z"),
            ("0 3 * * *", "America/New_York", "2012-11-04T04:00:00Z", "2012-11-04T08:00:00Z"),
            ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T14:00:00Z", "2026-04-04T14:45:00Z"),
            ("45 1 * * *", "Australia/Lord_Howe", "2026-04-04T14:45:00Z", "2026-04-04T15:15:00Z"),
            ("@daily", "Europe/Berlin", "2026-11-21T12:00:00Z", "2026-11-21T23:00:00Z"),
            ("@every 1h30m", "UTC", "2026-11-21T12:00:00Z", "2026-11-21T13:30:00Z"),
        ];
        for (text, zone, after, next) in table {
            let found = schedule(text, zone).next(wall(after));
            assert_eq!(found, Some(wall(next)), "{text} in {zone} after {after}");
        }
        assert_eq!(schedule("0 0 30 Feb *", "UTC").next(wall("2026-01-01T00:00:00Z")), None);
    }

    #[test]
    fn what_is_no_schedule_is_told() {
        for text in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "* * * 13 *",
            "* * * * 7",
            "5-1 * * * *",
            "*/0 * * * *",
            "x * * * *",
            "1,,2 * * * *",
            "@fortnightly",
            "@every 5s",
            "@every x",
            "TZ=UTC * * * * *",
            "+1 * * * *",
            "1-2-3 * * * *",
        ] {
            assert!(Schedule::parse(text, TimeZone::UTC).is_err(), "{text}");
        }
        assert!(zone("Europe/Berlin").is_some() && zone("Etc/UTC").is_some());
        assert!(zone("Mars/Base").is_none() && zone("Local").is_none());
    }

    proptest! {
        /// Both searches agree with looking at every minute.
        #[test]
        fn no_minute_is_missed(
            start in 1_790_000_000_i64..1_830_000_000,
            text in prop_oneof![
                Just("*/7 1-3 * * *"), Just("59 23 * * *"), Just("0 2 * * 0"), Just("30 * 1,15 * 5"),
            ],
            name in prop_oneof![
                Just("UTC"), Just("Europe/Berlin"), Just("Australia/Lord_Howe"), Just("Asia/Kathmandu"),
            ],
        ) {
            let schedule = schedule(text, name);
            let When::Fields(fields) = &schedule.when else { unreachable!() };
            let fits = |second: i64| {
                let at = Timestamp::from_second(second).expect("in range");
                fields.misfit(&at.to_zoned(schedule.zone.clone())).is_none()
            };
            let start = start.div_euclid(60) * 60;
            let two_days = (1..=2880).map(|minute| start + minute * 60);
            let first = two_days.clone().find(|at| fits(*at)).map(Wall::from_seconds);
            let end = Wall::from_seconds(start + 2880 * 60);
            let next = schedule.next(Wall::from_seconds(start)).filter(|next| *next <= end);
            prop_assert_eq!(next, first);
            let last = two_days.rev().find(|at| fits(*at)).map(Wall::from_seconds);
            prop_assert_eq!(schedule.latest(Wall::from_seconds(start), end), last);
        }
    }
}
