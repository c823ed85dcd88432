//! `windlass.yaml`: what a repository says of itself.

use std::collections::BTreeSet;

use super::apps::{self, AppSpec};
use super::near::nearest;
use super::path::Path;
use super::report::Report;
use super::tree::{At, Described, Node, Value, quoted};
use super::windows;
use super::yaml::{Document, ProblemKind};
use crate::kinds::finding::Severity;
use crate::kinds::registry::{KINDS, Kind, Support};
use crate::kinds::window::Window;

/// What `windlass.yaml` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Kinds that are somebody else's, as (group, kind), the kind `*` for all of a group: their
    /// objects are passed over.
    pub foreign: BTreeSet<(String, String)>,
    /// Kinds that are accepted although nothing carries them out.
    pub unenforced: BTreeSet<Kind>,
    /// The apps, in their order; without any the repository is one.
    pub apps: Vec<AppSpec>,
    /// The state store's epoch is to be this at least: a store that was restored under a lower one is
    /// taken as it is. 0 where nothing is said.
    pub state_epoch: u64,
    /// Whether every Secret must be encrypted.
    pub secrets_encrypted: bool,
    /// When changes of any app may come into force; each may have windows of its own beside these.
    pub windows: Vec<Window>,
}

impl Settings {
    /// Whether objects of this kind are passed over.
    pub fn is_foreign(&self, group: &str, kind: &str) -> bool {
        let has = |kind: &str| self.foreign.contains(&(group.to_owned(), kind.to_owned()));
        has(kind) || has("*")
    }
}

/// Settings there are.
const KNOWN: [&str; 6] = ["apps", "foreign", "secrets", "stateEpoch", "unenforced", "windows"];

/// Reads the documents of `windlass.yaml`.
pub(super) fn read(documents: Vec<Document<'_>>, report: &mut Report) -> Settings {
    let mut settings = Settings::default();
    let mut has_root = false;
    for document in documents {
        for problem in document.problems {
            let severity = match problem.kind {
                ProblemKind::Warning => Severity::Warning,
                ProblemKind::Fatal | ProblemKind::Error => Severity::Error,
            };
            report.add(severity, problem.at, &Path::Root, problem.message, problem.hint);
        }
        let Some(root) = document.root.filter(|root| root.value != Value::Null) else {
            continue;
        };
        if std::mem::replace(&mut has_root, true) {
            error(report, root.at, &Path::Root, "can have one document only");
            continue;
        }
        read_root(&root, &mut settings, report);
    }
    settings
}

fn error(report: &mut Report, at: At, path: &Path<'_>, message: impl Into<String>) {
    report.add(Severity::Error, at, path, message, None);
}

fn read_root(root: &Node<'_>, settings: &mut Settings, report: &mut Report) {
    let Some(entries) = root.as_map() else {
        let found = Described(&root.value, false).to_string();
        error(report, root.at, &Path::Root, format!("expected a map, found {found}"));
        return;
    };
    for entry in entries {
        let path = Path::Root.field(&entry.key);
        match &*entry.key {
            "apps" => settings.apps = apps::read(&entry.node, &path, report),
            "foreign" => each(&entry.node, &path, report, |text, at, path, report| {
                settings.foreign.extend(foreign(text, at, path, report));
            }),
            "unenforced" => each(&entry.node, &path, report, |text, at, path, report| {
                settings.unenforced.extend(unenforced(text, at, path, report));
            }),
            "windows" => settings.windows = windows::read(&entry.node, &path, report),
            "secrets" => settings.secrets_encrypted = secrets(&entry.node, &path, report),
            "stateEpoch" => settings.state_epoch = epoch(&entry.node, &path, report),
            key => {
                let hint = nearest(key, KNOWN).map(|near| format!("did you mean {near:?}?"));
                report.add(Severity::Error, entry.at, &path, "unknown setting", hint);
            }
        }
    }
}

/// `secrets: {encrypted: required}`.
fn secrets(node: &Node<'_>, path: &Path<'_>, report: &mut Report) -> bool {
    const FIELD: &str = "encrypted";
    const VALUE: &str = "required";
    if node.value == Value::Null {
        return false;
    }
    let said = node.as_map().filter(|entries| entries.iter().all(|entry| entry.key == FIELD));
    match said.and_then(|_| node.get_text(FIELD)) {
        Some(VALUE) => true,
        _ => {
            error(report, node.at, path, format!("can only be {{{FIELD}: {VALUE}}}"));
            false
        }
    }
}

/// A number from 1 up to what a person may have meant.
fn epoch(node: &Node<'_>, path: &Path<'_>, report: &mut Report) -> u64 {
    /// A slip such as a date would use up the numbers of a lifetime.
    const EPOCH_MAX: u64 = 1_000_000;
    let number = match &node.value {
        Value::Null => return 0,
        Value::Int(number, _) => u64::try_from(*number).ok(),
        _ => None,
    };
    number.filter(|epoch| (1..=EPOCH_MAX).contains(epoch)).unwrap_or_else(|| {
        let found = Described(&node.value, false).to_string();
        let message = format!("expected a number from 1 to {EPOCH_MAX}, found {found}");
        error(report, node.at, path, message);
        0
    })
}

/// Calls `take` for each text of a list.
fn each(
    node: &Node<'_>,
    path: &Path<'_>,
    report: &mut Report,
    mut take: impl FnMut(&str, At, &Path<'_>, &mut Report),
) {
    let items = match &node.value {
        Value::Null => return,
        Value::List(items) => items,
        other => {
            let message = format!("expected a list of kinds, found {}", Described(other, false));
            error(report, node.at, path, message);
            return;
        }
    };
    for (index, item) in items.iter().enumerate() {
        let path = path.index(index);
        match item.as_text() {
            Some(text) => take(text, item.at, &path, report),
            None => {
                let found = Described(&item.value, false).to_string();
                error(report, item.at, &path, format!("expected a kind, found {found}"));
            }
        }
    }
}

/// `group/Kind`, `Kind.group` or, of the core group, `Kind`.
fn group_and_kind(text: &str) -> Option<(&str, &str)> {
    let (group, kind) = if let Some((group, kind)) = text.split_once('/') {
        (group, kind)
    } else {
        let (kind, group) = text.split_once('.').unwrap_or((text, ""));
        (group, kind)
    };
    let is_kind = kind == "*"
        || (kind.starts_with(|c: char| c.is_ascii_uppercase())
            && kind.bytes().all(|b| b.is_ascii_alphanumeric()));
    is_kind.then_some((group, kind))
}

fn foreign(text: &str, at: At, path: &Path<'_>, report: &mut Report) -> Option<(String, String)> {
    let Some((group, kind)) = group_and_kind(text) else {
        let message = format!("{} is not a kind: write group/Kind", quoted(text));
        let hint = Some("for example monitoring.coreos.com/ServiceMonitor".to_owned());
        report.add(Severity::Error, at, path, message, hint);
        return None;
    };
    let own = KINDS.iter().find(|info| info.group == group && (kind == "*" || info.name == kind));
    if let Some(info) = own {
        let message = format!("{} is a kind that Windlass knows: it is not foreign", info.name);
        let hint = (info.support == Support::Refused)
            .then(|| "list it under 'unenforced' to accept it".to_owned());
        report.add(Severity::Error, at, path, message, hint);
        return None;
    }
    Some((group.to_owned(), kind.to_owned()))
}

fn unenforced(text: &str, at: At, path: &Path<'_>, report: &mut Report) -> Option<Kind> {
    let (group, name) = group_and_kind(text).unwrap_or(("", text));
    let info =
        KINDS.iter().find(|info| info.name == name && (group.is_empty() || info.group == group));
    let Some(info) = info else {
        let refused = KINDS.iter().filter(|info| info.support == Support::Refused);
        let near = nearest(name, refused.map(|info| info.name));
        let message = format!("{} is not a kind that Windlass knows", quoted(text));
        let hint = near.map(|near| format!("did you mean {near:?}?"));
        report.add(Severity::Error, at, path, message, hint);
        return None;
    };
    match info.support {
        Support::Refused => Some(info.kind),
        Support::Runs | Support::Shown => {
            let message = format!("{} is accepted anyway", info.name);
            report.add(Severity::Warning, at, path, message, None);
            None
        }
        Support::Made => {
            let message = format!("{} can't be written in a manifest", info.name);
            error(report, at, path, message);
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::yaml;
    use super::*;

    fn read_text(text: &str) -> (Settings, Vec<String>) {
        let mut report = Report::new(&"windlass.yaml".into());
        let settings = read(yaml::read(text), &mut report);
        let findings = report.finish();
        (settings, findings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn foreign_and_unenforced_kinds_are_read() {
        let (settings, findings) = read_text(
            "foreign:\n\
             - monitoring.coreos.com/ServiceMonitor\n\
             - Certificate.cert-manager.io\n\
             - example.com/*\n\
             - Gadget\n\
             unenforced: [NetworkPolicy, discovery.k8s.io/EndpointSlice]\n",
        );
        assert_eq!(findings, Vec::<String>::new());
        for (group, kind, is_foreign) in [
            ("monitoring.coreos.com", "ServiceMonitor", true),
            ("monitoring.coreos.com", "PodMonitor", false),
            ("cert-manager.io", "Certificate", true),
            ("example.com", "Anything", true),
            ("", "Gadget", true),
        ] {
            assert_eq!(settings.is_foreign(group, kind), is_foreign, "{group}/{kind}");
        }
        let unenforced: Vec<Kind> = settings.unenforced.into_iter().collect();
        assert_eq!(unenforced, [Kind::EndpointSlice, Kind::NetworkPolicy]);
        assert_eq!(read_text("stateEpoch: 7").0.state_epoch, 7);
        assert_eq!(read_text("").0, Settings::default());
        assert_eq!(read_text("foreign:\n").1, Vec::<String>::new());
    }

    #[test]
    fn what_is_wrong_with_settings_is_said() {
        let table = [
            (
                "foriegn: []",
                "windlass.yaml:1:1: error: foriegn: unknown setting (did you mean \"foreign\"?)",
            ),
            (
                "stateEpoch: 0",
                "windlass.yaml:1:13: error: stateEpoch: expected a number from 1 to 1000000",
            ),
            ("stateEpoch: next", "windlass.yaml:1:13: error: stateEpoch: expected a number"),
            ("stateEpoch: 20261121", "windlass.yaml:1:13: error: stateEpoch: expected a number"),
            ("foreign: x", "windlass.yaml:1:10: error: foreign: expected a list of kinds"),
            (
                "foreign:\n- servicemonitor",
                "windlass.yaml:2:3: error: foreign[0]: \"servicemonitor\" is not a kind",
            ),
            (
                "foreign: [apps/Deployment]",
                "windlass.yaml:1:11: error: foreign[0]: Deployment is a kind that Windlass knows",
            ),
            ("foreign: [1]", "windlass.yaml:1:11: error: foreign[0]: expected a kind"),
            (
                "unenforced: [NetworkPolcy]",
                "windlass.yaml:1:14: error: unenforced[0]: \"NetworkPolcy\" is not a kind that Windlass knows (did you mean \"NetworkPolicy\"?)",
            ),
            (
                "unenforced: [Deployment]",
                "windlass.yaml:1:14: warning: unenforced[0]: Deployment is accepted anyway",
            ),
            (
                "unenforced: [Event]",
                "windlass.yaml:1:14: error: unenforced[0]: Event can't be written",
            ),
            ("- a", "windlass.yaml:1:1: error: expected a map"),
            ("a: [", "windlass.yaml:1:5: error: this is not YAML"),
            ("{}\n---\n{}", "windlass.yaml:3:1: error: can have one document only"),
        ];
        for (text, finding) in table {
            let (_, findings) = read_text(text);
            assert_eq!(findings.len(), 1, "{text:?}: {findings:?}");
            assert!(findings[0].starts_with(finding), "{text:?}: {}", findings[0]);
        }
    }
}
