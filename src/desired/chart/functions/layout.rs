//! Go's layouts of times (`2006-01-02`), and its durations (`1h30m`).

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::civil::{DateTime, Weekday};
use jiff::tz::{Offset, TimeZone};

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

const WEEKDAYS: [&str; 7] =
    ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];

pub(super) fn month(number: i8) -> &'static str {
    let at = usize::try_from(number).ok().and_then(|number| number.checked_sub(1));
    at.and_then(|at| MONTHS.get(at)).copied().unwrap_or_default()
}

pub(super) fn weekday(day: Weekday) -> &'static str {
    let at = usize::try_from(day.to_sunday_zero_offset()).unwrap_or_default();
    WEEKDAYS.get(at).copied().unwrap_or_default()
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    LongMonth,
    Month,
    NumberMonth,
    ZeroMonth,
    LongWeekday,
    Weekday,
    Day,
    SpaceDay,
    ZeroDay,
    SpaceYearDay,
    ZeroYearDay,
    Hour,
    Hour12,
    ZeroHour12,
    Minute,
    ZeroMinute,
    Second,
    ZeroSecond,
    LongYear,
    Year,
    UpperPm,
    LowerPm,
    Zone,
    /// An offset; with `Z` for none, with a colon, with minutes.
    Offset(bool, bool, bool),
    /// So many digits of a fraction; trailing zeros left out or not.
    Fraction(usize, bool),
}

/// What a layout's places look like; of two that fit, the first counts.
const PARTS: [(&str, Part); 33] = [
    ("January", Part::LongMonth),
    ("Jan", Part::Month),
    ("Monday", Part::LongWeekday),
    ("Mon", Part::Weekday),
    ("MST", Part::Zone),
    ("002", Part::ZeroYearDay),
    ("01", Part::ZeroMonth),
    ("02", Part::ZeroDay),
    ("03", Part::ZeroHour12),
    ("04", Part::ZeroMinute),
    ("05", Part::ZeroSecond),
    ("06", Part::Year),
    ("15", Part::Hour),
    ("1", Part::NumberMonth),
    ("2006", Part::LongYear),
    ("2", Part::Day),
    ("__2", Part::SpaceYearDay),
    ("_2", Part::SpaceDay),
    ("3", Part::Hour12),
    ("4", Part::Minute),
    ("5", Part::Second),
    ("PM", Part::UpperPm),
    ("pm", Part::LowerPm),
    ("-0700", Part::Offset(false, false, true)),
    ("-07:00", Part::Offset(false, true, true)),
    ("-07", Part::Offset(false, false, false)),
    ("Z0700", Part::Offset(true, false, true)),
    ("Z07:00", Part::Offset(true, true, true)),
    ("Z07", Part::Offset(true, false, false)),
    ("-070000", Part::Offset(false, false, true)),
    ("-07:00:00", Part::Offset(false, true, true)),
    ("Z070000", Part::Offset(true, false, true)),
    ("Z07:00:00", Part::Offset(true, true, true)),
];

/// The place at the beginning of a layout, and what follows it.
fn part(layout: &str) -> Option<(Part, &str)> {
    if layout.starts_with("_2006") {
        return None;
    }
    if let Some(rest) = layout.strip_prefix(['.', ',']) {
        let digit = rest.chars().next().filter(|c| matches!(c, '0' | '9'))?;
        let after = rest.trim_start_matches(digit);
        let is_fraction = !after.starts_with(|c: char| c.is_ascii_digit());
        let length = rest.len() - after.len();
        return is_fraction.then_some((Part::Fraction(length, digit == '9'), after));
    }
    PARTS.iter().find_map(|(text, part)| {
        let rest = layout.strip_prefix(text)?;
        let is_word = matches!(part, Part::Month | Part::Weekday);
        (!is_word || !rest.starts_with(|c: char| c.is_ascii_lowercase())).then_some((*part, rest))
    })
}

/// A layout's places, and the characters between them.
fn parts(layout: &str) -> Vec<Result<Part, char>> {
    let (mut all, mut rest) = (Vec::new(), layout);
    while let Some(c) = rest.chars().next() {
        if let Some((part, after)) = part(rest) {
            all.push(Ok(part));
            rest = after;
        } else {
            all.push(Err(c));
            rest = rest.get(c.len_utf8()..).unwrap_or_default();
        }
    }
    all
}

pub(super) fn format(layout: &str, time: Timestamp, zone: &TimeZone) -> Result<String, String> {
    super::args::fits(layout.len().saturating_mul(8))?;
    let info = zone.to_offset_info(time);
    let at = info.offset().to_datetime(time);
    let mut out = String::with_capacity(layout.len().saturating_add(8));
    for part in parts(layout) {
        match part {
            Ok(part) => write(&mut out, part, at, info.offset(), info.abbreviation()),
            Err(c) => out.push(c),
        }
    }
    Ok(out)
}

fn write(out: &mut String, part: Part, at: DateTime, offset: Offset, zone: &str) {
    let hour12 = match at.hour() % 12 {
        0 => 12,
        hour => hour,
    };
    let short = |name: &'static str| name.get(..3).unwrap_or(name);
    let (year_day, day) = (at.date().day_of_year(), at.day());
    // Writing to a String cannot fail.
    _ = match part {
        Part::LongMonth => write!(out, "{}", month(at.month())),
        Part::Month => write!(out, "{}", short(month(at.month()))),
        Part::NumberMonth => write!(out, "{}", at.month()),
        Part::ZeroMonth => write!(out, "{:02}", at.month()),
        Part::LongWeekday => write!(out, "{}", weekday(at.weekday())),
        Part::Weekday => write!(out, "{}", short(weekday(at.weekday()))),
        Part::Day => write!(out, "{day}"),
        Part::SpaceDay => write!(out, "{day:2}"),
        Part::ZeroDay => write!(out, "{day:02}"),
        Part::SpaceYearDay => write!(out, "{year_day:3}"),
        Part::ZeroYearDay => write!(out, "{year_day:03}"),
        Part::Hour => write!(out, "{:02}", at.hour()),
        Part::Hour12 => write!(out, "{hour12}"),
        Part::ZeroHour12 => write!(out, "{hour12:02}"),
        Part::Minute => write!(out, "{}", at.minute()),
        Part::ZeroMinute => write!(out, "{:02}", at.minute()),
        Part::Second => write!(out, "{}", at.second()),
        Part::ZeroSecond => write!(out, "{:02}", at.second()),
        Part::LongYear => write!(out, "{:04}", at.year()),
        Part::Year => write!(out, "{:02}", at.year().rem_euclid(100)),
        Part::UpperPm => write!(out, "{}", if at.hour() < 12 { "AM" } else { "PM" }),
        Part::LowerPm => write!(out, "{}", if at.hour() < 12 { "am" } else { "pm" }),
        Part::Zone => write!(out, "{zone}"),
        Part::Offset(true, _, _) if offset.seconds() == 0 => write!(out, "Z"),
        Part::Offset(_, colon, minutes) => {
            let sign = if offset.seconds() < 0 { '-' } else { '+' };
            let size = offset.seconds().unsigned_abs() / 60;
            _ = write!(out, "{sign}{:02}", size / 60);
            match (minutes, colon) {
                (false, _) => Ok(()),
                (true, colon) => write!(out, "{}{:02}", if colon { ":" } else { "" }, size % 60),
            }
        }
        Part::Fraction(length, is_trimmed) => {
            let digits = format!("{:09}", at.subsec_nanosecond());
            let kept: String = digits.chars().chain(std::iter::repeat('0')).take(length).collect();
            let kept = if is_trimmed { kept.trim_end_matches('0') } else { &kept };
            if kept.is_empty() { Ok(()) } else { write!(out, ".{kept}") }
        }
    };
}

/// What has been read of a time.
#[derive(Default)]
struct Read {
    year: i16,
    month: Option<i8>,
    day: Option<i8>,
    year_day: Option<i16>,
    hour: i8,
    minute: i8,
    second: i8,
    nanos: i32,
    is_pm: Option<bool>,
    offset: i32,
}

/// Takes `least` to `most` digits off the front.
fn number<'a>(rest: &mut &'a str, least: usize, most: usize) -> Option<&'a str> {
    let run = rest.bytes().take(most).take_while(u8::is_ascii_digit).count();
    let (digits, after) = rest.split_at_checked(run).filter(|_| run >= least)?;
    *rest = after;
    Some(digits)
}

/// Takes one of `names` off the front, or its first three letters, and says which.
fn name(rest: &mut &str, names: &[&str], is_long: bool) -> Option<usize> {
    names.iter().position(|name| {
        let name = if is_long { name } else { name.get(..3).unwrap_or(name) };
        let head = rest.get(..name.len()).filter(|head| head.eq_ignore_ascii_case(name));
        let after = head.and_then(|_| rest.get(name.len()..));
        after.map(|after| *rest = after).is_some()
    })
}

pub(super) fn parse(layout: &str, whole: &str) -> Result<Timestamp, String> {
    parsed(layout, whole)
        .ok_or_else(|| format!("parsing time {whole:?} as {layout:?}: cannot parse {whole:?}"))
}

fn parsed(layout: &str, whole: &str) -> Option<Timestamp> {
    let (mut rest, mut read) = (whole, Read::default());
    let mut places = parts(layout).into_iter().peekable();
    while let Some(place) = places.next() {
        match place {
            Ok(part) => {
                read_part(&mut read, part, &mut rest)?;
                // A fraction may follow a second where the layout has none.
                let is_second = matches!(part, Part::Second | Part::ZeroSecond);
                if is_second && !matches!(places.peek(), Some(Ok(Part::Fraction(..)))) {
                    read_part(&mut read, Part::Fraction(9, true), &mut rest)?;
                }
            }
            Err(c) => rest = rest.strip_prefix(c)?,
        }
    }
    if !rest.is_empty() {
        return None;
    }
    let hour = match read.is_pm {
        Some(true) if read.hour < 12 => read.hour + 12,
        Some(false) if read.hour == 12 => 0,
        _ => read.hour,
    };
    let (month, day) = (read.month.unwrap_or(1), read.day.unwrap_or(1));
    let civil =
        DateTime::new(read.year, month, day, hour, read.minute, read.second, read.nanos).ok()?;
    let civil = match read.year_day {
        Some(day) if read.month.is_none() => civil.with().day_of_year(day).build().ok()?,
        _ => civil,
    };
    Offset::from_seconds(read.offset).ok()?.to_timestamp(civil).ok()
}

fn read_part(read: &mut Read, part: Part, rest: &mut &str) -> Option<()> {
    if matches!(part, Part::SpaceDay | Part::SpaceYearDay) {
        *rest = rest.trim_start_matches(' ');
    }
    match part {
        Part::LongMonth | Part::Month => {
            let at = name(rest, &MONTHS, part == Part::LongMonth)?;
            read.month = i8::try_from(at + 1).ok();
        }
        Part::NumberMonth => read.month = number(rest, 1, 2)?.parse().ok(),
        Part::ZeroMonth => read.month = number(rest, 2, 2)?.parse().ok(),
        Part::LongWeekday | Part::Weekday => {
            name(rest, &WEEKDAYS, part == Part::LongWeekday)?;
        }
        Part::Day | Part::SpaceDay => read.day = number(rest, 1, 2)?.parse().ok(),
        Part::ZeroDay => read.day = number(rest, 2, 2)?.parse().ok(),
        Part::SpaceYearDay => read.year_day = number(rest, 1, 3)?.parse().ok(),
        Part::ZeroYearDay => read.year_day = number(rest, 3, 3)?.parse().ok(),
        Part::Hour12 => read.hour = number(rest, 1, 2)?.parse().ok()?,
        Part::Hour | Part::ZeroHour12 => read.hour = number(rest, 2, 2)?.parse().ok()?,
        Part::Minute => read.minute = number(rest, 1, 2)?.parse().ok()?,
        Part::ZeroMinute => read.minute = number(rest, 2, 2)?.parse().ok()?,
        Part::Second => read.second = number(rest, 1, 2)?.parse().ok()?,
        Part::ZeroSecond => read.second = number(rest, 2, 2)?.parse().ok()?,
        Part::LongYear => read.year = number(rest, 4, 4)?.parse().ok()?,
        Part::Year => {
            let year: i16 = number(rest, 2, 2)?.parse().ok()?;
            read.year = if year >= 69 { 1900 + year } else { 2000 + year };
        }
        Part::UpperPm => read.is_pm = Some(name(rest, &["AM", "PM"], true)? == 1),
        Part::LowerPm => read.is_pm = Some(name(rest, &["am", "pm"], true)? == 1),
        // A zone's letters say no offset, but for UTC's; Go makes up one of zero for the others, too.
        Part::Zone => {
            let run = rest.bytes().take_while(u8::is_ascii_uppercase).count();
            *rest = rest.get(run..).filter(|_| (3..=5).contains(&run))?;
        }
        Part::Offset(zulu, colon, minutes) => {
            if let Some(after) = rest.strip_prefix('Z').filter(|_| zulu) {
                *rest = after;
                return Some(());
            }
            let sign = if rest.starts_with('-') { -1 } else { 1 };
            *rest = rest.strip_prefix(['+', '-'])?;
            let hours: i32 = number(rest, 2, 2)?.parse().ok()?;
            if colon {
                *rest = rest.strip_prefix(':')?;
            }
            let minutes: i32 = if minutes { number(rest, 2, 2)?.parse().ok()? } else { 0 };
            read.offset = sign * (hours * 3600 + minutes * 60);
        }
        Part::Fraction(length, is_trimmed) => {
            let after = rest.strip_prefix(['.', ',']);
            let has_digits =
                after.is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            if !has_digits && is_trimmed {
                return Some(());
            }
            *rest = after?;
            read.nanos = nanos(if is_trimmed {
                number(rest, 1, 30)?
            } else {
                number(rest, length, length)?
            });
        }
    }
    Some(())
}

fn nanos(digits: &str) -> i32 {
    let nine: String = digits.chars().chain(std::iter::repeat('0')).take(9).collect();
    nine.parse().unwrap_or_default()
}

/// The units of a duration, in nanoseconds; longer names first.
const UNITS: [(&str, i64); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// `time.ParseDuration`, in nanoseconds.
pub(super) fn duration(whole: &str) -> Option<i64> {
    let unsigned = whole.strip_prefix(['+', '-']).unwrap_or(whole);
    if unsigned == "0" {
        return Some(0);
    }
    let (mut rest, mut sum) = (unsigned, 0_i64);
    while !rest.is_empty() || unsigned.is_empty() {
        let digits = number(&mut rest, 0, 30)?;
        let mut fraction = "";
        if let Some(mut after) = rest.strip_prefix('.') {
            fraction = number(&mut after, 0, 15)?;
            rest = after;
        }
        if digits.is_empty() && fraction.is_empty() {
            return None;
        }
        let (unit, after) =
            UNITS.iter().find_map(|(name, unit)| Some((*unit, rest.strip_prefix(name)?)))?;
        rest = after;
        let count: i64 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
        sum = sum.checked_add(count.checked_mul(unit)?)?;
        if !fraction.is_empty() {
            let power = 10_i128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
            let part = fraction.parse::<i128>().ok()?.checked_mul(i128::from(unit))? / power;
            sum = sum.checked_add(i64::try_from(part).ok()?)?;
        }
    }
    Some(if whole.starts_with('-') { -sum } else { sum })
}

/// `time.Duration`'s text.
pub(super) fn duration_text(nanos: i64) -> String {
    let size = nanos.unsigned_abs();
    let sign = if nanos < 0 { "-" } else { "" };
    let decimal = |size: u64, unit: u64| {
        let text =
            format!("{}.{:0width$}", size / unit, size % unit, width = unit.ilog10() as usize);
        text.trim_end_matches('0').trim_end_matches('.').to_owned()
    };
    match size {
        0 => "0s".to_owned(),
        1..1_000 => format!("{sign}{size}ns"),
        1_000..1_000_000 => format!("{sign}{}\u{b5}s", decimal(size, 1_000)),
        1_000_000..1_000_000_000 => format!("{sign}{}ms", decimal(size, 1_000_000)),
        _ => {
            let minutes = size / 60_000_000_000;
            let seconds = decimal(size % 60_000_000_000, 1_000_000_000);
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{sign}{seconds}s"),
                (0, minutes) => format!("{sign}{minutes}m{seconds}s"),
                (hours, minutes) => format!("{sign}{hours}h{minutes}m{seconds}s"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let time = Timestamp::new(1_700_000_000, 120_000_000).expect("a time");
        for layout in [
            "2006-01-02T15:04:05.999999999Z07:00",
            "Mon, 02 Jan 2006 15:04:05.000 -0700",
            "Monday, January _2 2006 3:04:05.00 pm",
            "02/01/06 03:04:05.00PM MST",
        ] {
            let text = format(layout, time, &TimeZone::UTC).expect("a text");
            assert_eq!(parse(layout, &text), Ok(time), "{layout}: {text}");
        }
        assert_eq!(parse("2006-01-02T15:04:05Z07:00", "2023-11-14T23:13:20.12+01:00"), Ok(time));
        assert!(parse("2006-01-02", "2023-13-01").is_err());
    }

    #[test]
    fn durations_are_gos() {
        let table = [
            ("1h30m", 5_400_000_000_000, "1h30m0s"),
            ("-1.5s", -1_500_000_000, "-1.5s"),
            ("2ms", 2_000_000, "2ms"),
            ("1.5us", 1_500, "1.5\u{b5}s"),
            ("0", 0, "0s"),
            (".5h", 1_800_000_000_000, "30m0s"),
        ];
        for (text, nanos, shown) in table {
            assert_eq!(duration(text), Some(nanos), "{text}");
            assert_eq!(duration_text(nanos), shown, "{text}");
        }
        for wrong in ["", "1", "1x", ".s", "h", "99999999999h"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }
}
