//! Dates: those that a template writes are computed, in UTC where Helm asks the machine for its zone;
//! the present is a mark.

use std::rc::Rc;

use jiff::tz::{TimeZone, TimeZoneDatabase};
use jiff::{SignedDuration, Timestamp};

use super::super::value::{Host, Value};
use super::args::{done, exactly, some_mark, strval, text};
use super::layout;

type Answer = Result<Value, String>;

/// A point in time.
#[derive(Debug)]
struct Time(Timestamp);

/// Go's zero time, the first second of the year 1.
const ZERO: i64 = -62_135_596_800;

impl Time {
    fn value(at: Timestamp) -> Value {
        Value::Host(Rc::new(Self(at)))
    }

    fn zero() -> Value {
        Self::value(Timestamp::from_second(ZERO).unwrap_or_default())
    }
}

impl Host for Time {
    fn name(&self) -> &'static str {
        "time.Time"
    }

    fn get(&self, name: &str, args: &[Value]) -> Option<Answer> {
        let civil = TimeZone::UTC.to_datetime(self.0);
        let number = |number: i64| Ok(Value::Int(number));
        Some(match name {
            "Unix" => number(self.0.as_second()),
            "UnixMilli" => number(self.0.as_millisecond()),
            "Nanosecond" => number(i64::from(self.0.subsec_nanosecond())),
            "Year" => number(i64::from(civil.year())),
            "Day" => number(i64::from(civil.day())),
            "Hour" => number(i64::from(civil.hour())),
            "Minute" => number(i64::from(civil.minute())),
            "Second" => number(i64::from(civil.second())),
            "YearDay" => number(i64::from(civil.date().day_of_year())),
            "Month" => done(layout::month(civil.month())),
            "Weekday" => done(layout::weekday(civil.weekday())),
            "UTC" | "Local" => Ok(Self::value(self.0)),
            "IsZero" => Ok(Value::Bool(self.0.as_second() == ZERO)),
            "String" => done(self.text().unwrap_or_default()),
            "Format" => exactly::<1>("Format", args)
                .and_then(|[layout]| done(layout::format(text(layout)?, self.0, &TimeZone::UTC)?)),
            _ => return None,
        })
    }

    fn text(&self) -> Option<String> {
        layout::format("2006-01-02 15:04:05.999999999 -0700 MST", self.0, &TimeZone::UTC).ok()
    }
}

/// The present, or a time that was computed from it.
#[derive(Debug)]
struct Present;

impl Host for Present {
    fn name(&self) -> &'static str {
        "time.Time"
    }

    fn get(&self, name: &str, _: &[Value]) -> Option<Answer> {
        Some(Ok(match name {
            "Add" | "AddDate" | "UTC" | "Local" | "In" | "Round" | "Truncate" => {
                Value::Host(Rc::new(Self))
            }
            _ => some_mark(),
        }))
    }

    fn text(&self) -> Option<String> {
        Some(strval(&some_mark()))
    }
}

/// What a value says of time.
enum When {
    At(Timestamp),
    /// The present, or what Go takes the present for: whatever is no time.
    Now,
}

fn when(value: &Value) -> Result<When, String> {
    let at = |time: Result<Timestamp, jiff::Error>| {
        time.map(When::At).map_err(|_| "a time beyond the year 9999".to_owned())
    };
    match value {
        Value::Int(seconds) => at(Timestamp::from_second(*seconds)),
        Value::Host(host) if host.name() == "time.Time" => {
            let part = |name: &str| match host.get(name, &[]) {
                Some(Ok(Value::Int(number))) => Some(number),
                _ => None,
            };
            let nanos = part("Nanosecond").and_then(|nanos| i32::try_from(nanos).ok());
            // Before 1970 jiff's fraction is below zero, like its seconds.
            match (part("Unix"), nanos) {
                (Some(seconds), Some(nanos)) => at(Timestamp::new(seconds, nanos)),
                _ => Ok(When::Now),
            }
        }
        _ => Ok(When::Now),
    }
}

fn zone(name: &str) -> TimeZone {
    match name {
        "" | "UTC" | "Local" => TimeZone::UTC,
        other => TimeZoneDatabase::bundled().get(other).unwrap_or(TimeZone::UTC),
    }
}

fn formatted(layout: &str, date: &Value, zone: &TimeZone) -> Answer {
    match when(date)? {
        When::At(time) => done(layout::format(layout, time, zone)?),
        When::Now => Ok(some_mark()),
    }
}

#[allow(clippy::unnecessary_wraps, reason = "a Function")]
pub(super) fn now(args: &[Value]) -> Answer {
    let [] = exactly("now", args)?;
    Ok(Value::Host(Rc::new(Present)))
}

pub(super) fn date(args: &[Value]) -> Answer {
    let [layout, date] = exactly("date", args)?;
    formatted(text(layout)?, date, &TimeZone::UTC)
}

pub(super) fn date_in_zone(args: &[Value]) -> Answer {
    let [layout, date, name] = exactly("dateInZone", args)?;
    formatted(text(layout)?, date, &zone(text(name)?))
}

pub(super) fn html_date(args: &[Value]) -> Answer {
    let [date] = exactly("htmlDate", args)?;
    formatted("2006-01-02", date, &TimeZone::UTC)
}

pub(super) fn html_date_in_zone(args: &[Value]) -> Answer {
    let [date, name] = exactly("htmlDateInZone", args)?;
    formatted("2006-01-02", date, &zone(text(name)?))
}

/// Adds a duration; one that can't be read adds nothing, or is an error with `must`.
fn modified(name: &str, args: &[Value], must: bool) -> Answer {
    let [by, date] = exactly(name, args)?;
    let by = text(by)?;
    let Some(nanos) = layout::duration(by) else {
        return if must { Err(format!("time: invalid duration {by:?}")) } else { Ok(date.clone()) };
    };
    match (when(date)?, date) {
        (When::At(time), _) => time
            .checked_add(SignedDuration::from_nanos(nanos))
            .map(Time::value)
            .map_err(|_| "a time beyond the year 9999".to_owned()),
        (When::Now, Value::Host(_)) => Ok(date.clone()),
        (When::Now, other) => {
            Err(format!("wrong type for value; expected time.Time; got {}", other.kind()))
        }
    }
}

pub(super) fn date_modify(args: &[Value]) -> Answer {
    modified("dateModify", args, false)
}

pub(super) fn must_date_modify(args: &[Value]) -> Answer {
    modified("mustDateModify", args, true)
}

pub(super) fn to_date(args: &[Value]) -> Answer {
    let [layout, whole] = exactly("toDate", args)?;
    if super::args::is_marked(whole) {
        return now(&[]);
    }
    Ok(layout::parse(text(layout)?, text(whole)?).map_or_else(|_| Time::zero(), Time::value))
}

pub(super) fn must_to_date(args: &[Value]) -> Answer {
    let [layout, whole] = exactly("mustToDate", args)?;
    if super::args::is_marked(whole) {
        return now(&[]);
    }
    layout::parse(text(layout)?, text(whole)?).map(Time::value)
}

pub(super) fn unix_epoch(args: &[Value]) -> Answer {
    let [date] = exactly("unixEpoch", args)?;
    match (when(date)?, date) {
        (When::Now, _) => Ok(some_mark()),
        (When::At(time), _) => done(time.as_second().to_string()),
    }
}

pub(super) fn ago(args: &[Value]) -> Answer {
    let [_] = exactly("ago", args)?;
    Ok(some_mark())
}

pub(super) fn duration(args: &[Value]) -> Answer {
    let [seconds] = exactly("duration", args)?;
    let seconds: i64 = match seconds {
        Value::Int(seconds) => *seconds,
        Value::Text(text) => text.parse().unwrap_or_default(),
        _ => 0,
    };
    done(layout::duration_text(seconds.wrapping_mul(1_000_000_000)))
}

pub(super) fn duration_round(args: &[Value]) -> Answer {
    const UNITS: [(u64, &str); 6] = [
        (365 * 86_400, "y"),
        (30 * 86_400, "mo"),
        (86_400, "d"),
        (3_600, "h"),
        (60, "m"),
        (1, "s"),
    ];
    let [of] = exactly("durationRound", args)?;
    let nanos = match of {
        Value::Int(nanos) => *nanos,
        Value::Text(text) => layout::duration(text).unwrap_or_default(),
        Value::Host(_) => return Ok(some_mark()),
        _ => 0,
    };
    let size = nanos.unsigned_abs();
    for (seconds, unit) in UNITS {
        let nanos = seconds.saturating_mul(1_000_000_000);
        if size > nanos {
            return done(format!("{}{unit}", size / nanos));
        }
    }
    done("0s")
}

#[cfg(test)]
mod tests {
    use super::super::args::is_marked;
    use super::*;

    #[test]
    fn times_are_computed_in_utc() {
        let at = |layout: &str, seconds| {
            strval(&date(&[Value::text(layout), Value::Int(seconds)]).expect("a time"))
        };
        assert_eq!(at("2006-01-02 15:04:05 MST", 1_700_000_000), "2023-11-14 22:13:20 UTC");
        assert_eq!(at("Mon Jan _2 3:04PM 2006", 0), "Thu Jan  1 12:00AM 1970");
        let berlin = date_in_zone(&[
            Value::text("2006-01-02T15:04:05Z07:00 MST"),
            Value::Int(1_700_000_000),
            Value::text("Europe/Berlin"),
        ]);
        assert_eq!(strval(&berlin.expect("a time")), "2023-11-14T23:13:20+01:00 CET");
        let parsed = to_date(&[Value::text("2006-01-02"), Value::text("2017-12-31")]);
        let later = date_modify(&[Value::text("25h"), parsed.expect("a date")]).expect("a date");
        assert_eq!(strval(&later), "2018-01-01 01:00:00 +0000 UTC");
        assert_eq!(strval(&unix_epoch(&[later]).expect("a number")), "1514768400");
        assert!(must_to_date(&[Value::text("2006-01-02"), Value::text("x")]).is_err());
    }

    #[test]
    fn the_present_is_a_mark() {
        let present = now(&[]).expect("a time");
        let later = date_modify(&[Value::text("1h"), present.clone()]).expect("a time");
        assert!(is_marked(&date(&[Value::text("2006"), later]).expect("a mark")));
        assert!(is_marked(&unix_epoch(std::slice::from_ref(&present)).expect("a mark")));
        assert!(is_marked(&html_date(&[Value::text("no time")]).expect("a mark")));
        assert!(is_marked(&ago(&[Value::Int(0)]).expect("a mark")));
        assert!(is_marked(&present));
    }

    #[test]
    fn durations_are_written_as_go_does() {
        let table = [("0", "0s"), ("95", "1m35s"), ("3600", "1h0m0s"), ("x", "0s")];
        for (seconds, expected) in table {
            let text = duration(&[Value::text(seconds)]).expect("a duration");
            assert_eq!(strval(&text), expected, "{seconds}");
        }
        let table = [("2h10m5s", "2h"), ("2400h", "3mo"), ("0.5s", "0s"), ("36h", "1d")];
        for (from, expected) in table {
            let text = duration_round(&[Value::text(from)]).expect("a duration");
            assert_eq!(strval(&text), expected, "{from}");
        }
    }
}
