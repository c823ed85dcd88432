//! `canary:` of an app in `windlass.yaml`: a part of it runs what is new before the rest does.

use std::time::Duration;

use super::apps::unfit;
use super::near::nearest;
use super::path::Path;
use super::report::Report;
use super::tree::{At, Node, Value, quoted};
use crate::kinds::canary::{Ahead, Canary};
use crate::kinds::finding::Severity;
use crate::kinds::labels::Labels;
use crate::kinds::name::{Name, NameRule};
use crate::kinds::time::parse_duration;
use crate::kinds::workload::Share;

/// What an entry may say: one of the first three, and for how long.
const FIELDS: [&str; 4] = ["share", "nodes", "nodeSelector", "for"];

/// Who holds a part back for longer has forgotten it.
const HOLD_MAX: Duration = Duration::from_secs(30 * 86_400);

/// Reads the map.
pub(super) fn read(node: &Node<'_>, path: &Path<'_>, report: &mut Report) -> Option<Canary> {
    if node.value == Value::Null {
        return None;
    }
    let Some(entries) = node.as_map() else {
        return unfit("a map with share, nodes or nodeSelector", node, path, report);
    };
    let (mut ahead, mut hold, mut is_sound) = (Vec::new(), Some(Duration::ZERO), true);
    for entry in entries {
        let (value, path) = (&entry.node, path.field(&entry.key));
        let read = match &*entry.key {
            "share" => share(value, &path, report).map(Ahead::Share),
            "nodes" => nodes(value, &path, report),
            "nodeSelector" => labels(value, &path, report),
            "for" => {
                hold = duration(value, &path, report);
                continue;
            }
            key => {
                let hint = nearest(key, FIELDS).map(|near| format!("did you mean {near:?}?"));
                report.add(Severity::Error, entry.at, &path, "unknown setting", hint);
                None
            }
        };
        is_sound &= read.is_some();
        ahead.extend(read);
    }
    if ahead.len() != 1 {
        if is_sound {
            let message = "say which part goes ahead: one of share, nodes and nodeSelector";
            error(report, node.at, path, message);
        }
        return None;
    }
    Some(Canary { ahead: ahead.pop()?, hold: hold? })
}

fn error(report: &mut Report, at: At, path: &Path<'_>, message: impl Into<String>) {
    report.add(Severity::Error, at, path, message, None);
}

/// `10%`, or a number of pods.
fn share(node: &Node<'_>, path: &Path<'_>, report: &mut Report) -> Option<Share> {
    let read = match &node.value {
        Value::Int(count, _) => u32::try_from(*count).ok().filter(|n| *n > 0).map(Share::Count),
        _ => node.as_text().and_then(|text| {
            let percent: u32 = text.strip_suffix('%')?.parse().ok()?;
            (1..100).contains(&percent).then_some(Share::Percent(percent))
        }),
    };
    read.or_else(|| unfit("a share from 1% to 99%, or a number of pods", node, path, report))
}

fn nodes(node: &Node<'_>, path: &Path<'_>, report: &mut Report) -> Option<Ahead> {
    let Some(items) = node.as_list().filter(|items| !items.is_empty()) else {
        return unfit("a list of nodes", node, path, report);
    };
    let mut names = std::collections::BTreeSet::new();
    for (index, item) in items.iter().enumerate() {
        let path = path.index(index);
        let Some(text) = item.as_text() else {
            return unfit("the name of a node", item, &path, report);
        };
        match Name::parse(text, NameRule::Subdomain) {
            Ok(name) => names.insert(name),
            Err(complaint) => {
                error(report, item.at, &path, complaint);
                return None;
            }
        };
    }
    Some(Ahead::Nodes(names))
}

fn labels(node: &Node<'_>, path: &Path<'_>, report: &mut Report) -> Option<Ahead> {
    let Some(entries) = node.as_map().filter(|entries| !entries.is_empty()) else {
        return unfit("a map of labels", node, path, report);
    };
    let mut labels = Labels::new();
    for entry in entries {
        let Some(value) = entry.node.as_text() else {
            return unfit("a text", &entry.node, &path.field(&entry.key), report);
        };
        labels.insert(entry.key.to_string(), value.to_owned());
    }
    Some(Ahead::Labelled(labels))
}

fn duration(node: &Node<'_>, path: &Path<'_>, report: &mut Report) -> Option<Duration> {
    let Some(text) = node.as_text() else {
        return unfit("a duration such as 90s or 10m", node, path, report);
    };
    match parse_duration(text) {
        Ok(duration) if duration <= HOLD_MAX => Some(duration),
        Ok(_) => {
            error(report, node.at, path, format!("{} is more than 30 days", quoted(text)));
            None
        }
        Err(complaint) => {
            error(report, node.at, path, complaint);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{settings, yaml};
    use super::*;

    fn read_text(canary: &str) -> (Option<Canary>, Vec<String>) {
        let text = format!("apps: [{{name: a, path: x, canary: {canary}}}]");
        let mut report = Report::new(&"windlass.yaml".into());
        let settings = settings::read(yaml::read(&text), &mut report);
        let findings = report.finish();
        let canary = settings.apps.into_iter().next().and_then(|app| app.canary);
        (canary, findings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn a_part_goes_ahead_by_share_or_by_node() {
        let labels = Labels::from([("site".to_owned(), "berlin".to_owned())]);
        let names = ["n1", "n2"].map(Name::trusted).into();
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        for (text, ahead, hold) in [
            ("{share: 10%, for: 10m}", Ahead::Share(Share::Percent(10)), minutes(10)),
            ("{share: 2}", Ahead::Share(Share::Count(2)), minutes(0)),
            ("{nodes: [n1, n2], for: 1h}", Ahead::Nodes(names), minutes(60)),
            ("{nodeSelector: {site: berlin}}", Ahead::Labelled(labels), minutes(0)),
        ] {
            assert_eq!(read_text(text), (Some(Canary { ahead, hold }), Vec::new()), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_with_it_is_said() {
        for (text, expected) in [
            ("10%", "expected a map with share, nodes or nodeSelector"),
            ("{for: 5m}", "say which part goes ahead"),
            ("{share: 10%, nodes: [a]}", "say which part goes ahead"),
            ("{share: 100%}", "canary.share: expected a share from 1% to 99%"),
            ("{share: 0}", "canary.share: expected a share from 1% to 99%"),
            ("{share: many}", "canary.share: expected a share from 1% to 99%"),
            ("{nodes: []}", "canary.nodes: expected a list of nodes"),
            ("{nodes: [A_b]}", "canary.nodes[0]: "),
            ("{nodeSelector: {a: 1}}", "canary.nodeSelector.a: expected a text"),
            ("{share: 10%, for: soon}", "canary.for: 'soon' is not a duration"),
            ("{share: 10%, for: 1000h}", "canary.for: \"1000h\" is more than 30 days"),
            ("{share: 10%, hold: 1h}", "canary.hold: unknown setting"),
        ] {
            let (canary, findings) = read_text(text);
            assert_eq!(findings.len(), 1, "{text}: {findings:?}");
            assert!(findings[0].contains(expected), "{text}: {}", findings[0]);
            assert!(canary.is_none() || text.contains("hold:"), "{text}: {canary:?}");
        }
    }
}
