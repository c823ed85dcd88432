//! `windows:` in `windlass.yaml`: when changes may come into force.

use std::time::Duration;

use super::apps::unfit;
use super::near::nearest;
use super::path::Path;
use super::report::Report;
use super::tree::{At, Described, Node, Value, quoted};
use crate::kinds::finding::Severity;
use crate::kinds::schedule::{self, Schedule};
use crate::kinds::time::parse_duration;
use crate::kinds::window::Window;

/// More windows than this are a script gone wrong: all of them are looked at with every turn.
const WINDOWS_MAX: usize = 50;

/// A window longer than a year never ends.
const DURATION_MAX: Duration = Duration::from_secs(366 * 86_400);

/// What a window may say; Argo CD's words.
const FIELDS: [&str; 4] = ["kind", "schedule", "duration", "timeZone"];

/// Reads the list.
pub(super) fn read(node: &Node<'_>, path: &Path<'_>, report: &mut Report) -> Vec<Window> {
    let items = match &node.value {
        Value::Null => return Vec::new(),
        Value::List(items) => items,
        other => {
            let message = format!("expected a list of windows, found {}", Described(other, false));
            error(report, node.at, path, message);
            return Vec::new();
        }
    };
    if items.len() > WINDOWS_MAX {
        error(report, node.at, path, format!("has more than {WINDOWS_MAX} windows"));
        return Vec::new();
    }
    let read = items.iter().enumerate();
    read.filter_map(|(index, item)| read_window(item, &path.index(index), report)).collect()
}

fn error(report: &mut Report, at: At, path: &Path<'_>, message: impl Into<String>) {
    report.add(Severity::Error, at, path, message, None);
}

fn read_window(item: &Node<'_>, path: &Path<'_>, report: &mut Report) -> Option<Window> {
    let Some(entries) = item.as_map() else {
        return unfit("a map with kind, schedule and duration", item, path, report);
    };
    for entry in entries.iter().filter(|entry| !FIELDS.contains(&&*entry.key)) {
        let hint = nearest(&entry.key, FIELDS).map(|near| format!("did you mean {near:?}?"));
        let path = path.field(&entry.key);
        report.add(Severity::Error, entry.at, &path, "unknown setting", hint);
    }
    let allows = required(item, "kind", path, report, kind);
    let duration = required(item, "duration", path, report, duration);
    let zone = match item.get("timeZone") {
        None => schedule::zone("UTC"),
        Some(named) => read_text(named, &path.field("timeZone"), report, |name| {
            schedule::zone(name).ok_or_else(|| format!("{} is not a time zone", quoted(name)))
        }),
    };
    let schedule = required(item, "schedule", path, report, |text| {
        if text.starts_with("@every") {
            return Err("@every has no fixed beginning: write five fields".to_owned());
        }
        let zone = zone.clone().unwrap_or(jiff::tz::TimeZone::UTC);
        Schedule::parse(text, zone).map_err(|complaint| format!("{}: {complaint}", quoted(text)))
    });
    zone?;
    let place = report.place(item.at);
    Some(Window { allows: allows?, schedule: schedule?, duration: duration?, place })
}

fn required<T>(
    item: &Node<'_>,
    field: &str,
    path: &Path<'_>,
    report: &mut Report,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    match item.get(field) {
        Some(node) => read_text(node, &path.field(field), report, read),
        None => {
            error(report, item.at, &path.field(field), "is required");
            None
        }
    }
}

fn read_text<T>(
    node: &Node<'_>,
    path: &Path<'_>,
    report: &mut Report,
    read: impl FnOnce(&str) -> Result<T, String>,
) -> Option<T> {
    let Some(text) = node.as_text() else {
        return unfit("a text", node, path, report);
    };
    read(text).map_err(|complaint| error(report, node.at, path, complaint)).ok()
}

/// Whether the window allows.
fn kind(text: &str) -> Result<bool, String> {
    match text {
        "allow" => Ok(true),
        "deny" => Ok(false),
        _ => Err(format!("expected allow or deny, found {}", quoted(text))),
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let duration = parse_duration(text)?;
    if duration < Duration::from_secs(60) || duration > DURATION_MAX {
        return Err("must be from a minute up to a year".to_owned());
    }
    Ok(duration)
}

#[cfg(test)]
mod tests {
    use super::super::settings::{self, Settings};
    use super::super::yaml;
    use super::*;

    fn read_text(text: &str) -> (Settings, Vec<String>) {
        let mut report = Report::new(&"windlass.yaml".into());
        let settings = settings::read(yaml::read(text), &mut report);
        let findings = report.finish();
        (settings, findings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn windows_stand_for_all_or_for_one_app() {
        let (settings, findings) = read_text(
            "windows:\n\
             - {kind: deny, schedule: \"0 0 20 12 *\", duration: 336h}\n\
             apps:\n\
             - name: shop\n  path: shop\n  windows:\n  \
             - {kind: allow, schedule: \"0 9 * * 1-5\", duration: 8h, timeZone: Europe/Berlin}\n",
        );
        assert_eq!(findings, Vec::<String>::new());
        let [freeze] = settings.windows.as_slice() else { panic!("{:?}", settings.windows) };
        assert!(!freeze.allows && freeze.duration == Duration::from_secs(336 * 3600));
        assert_eq!(freeze.place.to_string(), "windlass.yaml:2:3");
        let [office] = settings.apps[0].windows.as_slice() else { panic!("{:?}", settings.apps) };
        assert!(office.allows);
        let berlin = schedule::zone("Europe/Berlin").expect("a zone");
        assert_eq!(Ok(&office.schedule), Schedule::parse("0 9 * * 1-5", berlin).as_ref());
    }

    #[test]
    fn what_is_wrong_with_a_window_is_said() {
        let at = "schedule: \"0 9 * * *\", duration: 8h";
        let table = [
            ("windows: x".to_owned(), "1:10: error: windows: expected a list of windows"),
            ("windows: [x]".to_owned(), "1:11: error: windows[0]: expected a map with kind"),
            (format!("windows: [{{{at}}}]"), "1:11: error: windows[0].kind: is required"),
            (
                format!("windows: [{{kind: open, {at}}}]"),
                "1:18: error: windows[0].kind: expected allow or deny, found \"open\"",
            ),
            (
                format!("windows: [{{kind: deny, {at}, timezone: UTC}}]"),
                "1:61: error: windows[0].timezone: unknown setting (did you mean \"timeZone\"?)",
            ),
            (
                format!("windows: [{{kind: deny, {at}, timeZone: Mars}}]"),
                "1:71: error: windows[0].timeZone: \"Mars\" is not a time zone",
            ),
            (
                "windows: [{kind: deny, schedule: \"@every 2h\", duration: 1h}]".to_owned(),
                "1:34: error: windows[0].schedule: @every has no fixed beginning",
            ),
            (
                "windows: [{kind: deny, schedule: \"9 * *\", duration: 1h}]".to_owned(),
                "1:34: error: windows[0].schedule: \"9 * *\": has 3 fields",
            ),
            (
                "windows: [{kind: deny, schedule: \"@daily\", duration: 5s}]".to_owned(),
                "1:54: error: windows[0].duration: must be from a minute up to a year",
            ),
        ];
        for (text, finding) in table {
            let (_, findings) = read_text(&text);
            assert_eq!(findings.len(), 1, "{text:?}: {findings:?}");
            let expected = format!("windlass.yaml:{finding}");
            assert!(findings[0].starts_with(&expected), "{text:?}: {}", findings[0]);
        }
    }
}
