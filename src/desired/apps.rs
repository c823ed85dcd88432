//! Apps: the repository divided, as `windlass.yaml` says.
//!
//! A house with several tenants: each has a door of his own, and one who locks himself out locks out
//! nobody else. An app is a directory; what lies in the directory of none belongs to the default
//! app, and a directory within another's belongs to the app that names it, not to the one around it.
//!
//! The rule: an error in `windlass.yaml` itself refuses the commit for everybody, because then
//! nobody knows whose door is whose. The limit: apps are directories of one repository and one
//! branch.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::near::nearest;
use super::path::Path;
use super::report::Report;
use super::tree::{At, Described, Entry, Node, Value, quoted};
use super::{canary, windows};
use crate::kinds::binding::{AppName, DEFAULT_APP};
use crate::kinds::canary::Canary;
use crate::kinds::finding::{Place, Severity};
use crate::kinds::name::{Name, NameRule};
use crate::kinds::time::parse_duration;
use crate::kinds::window::Window;

/// More apps than this are a script gone wrong: each has its own records in the state store.
const APPS_MAX: usize = 500;

/// What an app's entry may say.
const FIELDS: [&str; 9] =
    ["name", "path", "dependsOn", "prune", "suspend", "wait", "autoRevert", "windows", "canary"];

/// One app, as `windlass.yaml` has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppSpec {
    /// Its name.
    pub name: AppName,
    /// Its directory, without a slash at the end; empty for the default app.
    pub path: String,
    /// The apps that must be in force and healthy before a new revision of this one is.
    pub depends_on: Vec<AppName>,
    /// Whether objects that are gone from Git go without a word; otherwise they need the trailer.
    pub prune: bool,
    /// Whether newer revisions are left alone.
    pub suspend: bool,
    /// How long a new revision may take until all of it is healthy.
    pub wait: Option<Duration>,
    /// Whether a roll-out that misses its deadline goes back to the last healthy revision.
    pub auto_revert: bool,
    /// When its changes may come into force, beside the windows of all.
    pub windows: Vec<Window>,
    /// Which part of it runs what is new before the rest does.
    pub canary: Option<Canary>,
    /// Where it is written.
    pub place: Place,
}

impl AppSpec {
    /// An app of which nothing is said.
    pub fn new(name: AppName) -> Self {
        Self {
            name,
            path: String::new(),
            depends_on: Vec::new(),
            prune: true,
            suspend: false,
            wait: None,
            auto_revert: false,
            windows: Vec::new(),
            canary: None,
            place: Place::file(super::SETTINGS_FILE),
        }
    }
}

impl Default for AppSpec {
    fn default() -> Self {
        Self::new(Name::trusted(DEFAULT_APP))
    }
}

/// Whose is whose: the apps in their order, the default app first.
#[derive(Clone, Debug)]
pub(super) struct Owners {
    pub(super) specs: Vec<AppSpec>,
    /// Ranks by directory.
    ranks: BTreeMap<String, usize>,
}

impl Owners {
    /// Of the apps that are listed.
    pub(super) fn of(listed: &[AppSpec]) -> Self {
        let own = listed.iter().find(|spec| spec.name == *DEFAULT_APP).cloned();
        let others = listed.iter().filter(|spec| spec.name != *DEFAULT_APP).cloned();
        let specs: Vec<AppSpec> = std::iter::once(own.unwrap_or_default()).chain(others).collect();
        let ranked = specs.iter().enumerate().skip(1);
        let ranks = ranked.map(|(rank, spec)| (spec.path.clone(), rank)).collect();
        Self { specs, ranks }
    }

    /// Whether there is more than the default app.
    pub(super) fn is_divided(&self) -> bool {
        self.specs.len() > 1
    }

    /// The place in `specs` of the app that a file belongs to.
    pub(super) fn rank_of(&self, path: &str) -> usize {
        if !self.is_divided() {
            return 0;
        }
        let mut directory = path;
        while let Some((above, _)) = directory.rsplit_once('/') {
            if let Some(rank) = self.ranks.get(above) {
                return *rank;
            }
            directory = above;
        }
        0
    }
}

/// Reads the list under `apps`.
pub(super) fn read(node: &Node<'_>, path: &Path<'_>, report: &mut Report) -> Vec<AppSpec> {
    let items = match &node.value {
        Value::Null => return Vec::new(),
        Value::List(items) => items,
        other => {
            let message = format!("expected a list of apps, found {}", Described(other, false));
            error(report, node.at, path, message);
            return Vec::new();
        }
    };
    if items.len() > APPS_MAX {
        error(report, node.at, path, format!("has more than {APPS_MAX} apps"));
        return Vec::new();
    }
    let mut apps: Vec<(At, AppSpec)> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let path = path.index(index);
        if let Some(spec) = read_app(item, &path, report) {
            tell_twice(&apps, &spec, item.at, &path, report);
            apps.push((item.at, spec));
        }
    }
    let specs: Vec<AppSpec> = apps.into_iter().map(|(_, spec)| spec).collect();
    for (index, item) in items.iter().enumerate() {
        check_dependencies(item, &path.index(index), &specs, report);
    }
    tell_of_circle(&specs, node.at, path, report);
    specs
}

fn error(report: &mut Report, at: At, path: &Path<'_>, message: impl Into<String>) {
    report.add(Severity::Error, at, path, message, None);
}

fn read_app(item: &Node<'_>, path: &Path<'_>, report: &mut Report) -> Option<AppSpec> {
    let Some(entries) = item.as_map() else {
        let found = Described(&item.value, false).to_string();
        error(report, item.at, path, format!("expected a map with name and path, found {found}"));
        return None;
    };
    let Some(named) = item.get("name") else {
        error(report, item.at, &path.field("name"), "is required");
        return None;
    };
    let name = name(named, &path.field("name"), report)?;
    let mut spec = AppSpec { place: report.place(item.at), ..AppSpec::new(name) };
    for entry in entries {
        read_field(entry, &path.field(&entry.key), &mut spec, report);
    }
    let is_default = spec.name == *DEFAULT_APP;
    match (is_default, item.get("path").is_some()) {
        (true, true) => {
            let message = "the default app has what lies in no app's directory: it has no path";
            error(report, item.at, &path.field("path"), message);
        }
        (false, false) => error(report, item.at, &path.field("path"), "is required"),
        _ => {}
    }
    Some(spec)
}

fn read_field(entry: &Entry<'_>, path: &Path<'_>, spec: &mut AppSpec, report: &mut Report) {
    let node = &entry.node;
    match &*entry.key {
        "name" => {}
        "path" => spec.path = directory(node, path, report).unwrap_or_default(),
        "dependsOn" => spec.depends_on = names(node, path, report),
        "prune" => spec.prune = boolean(node, path, report).unwrap_or(true),
        "suspend" => spec.suspend = boolean(node, path, report).unwrap_or_default(),
        "autoRevert" => spec.auto_revert = boolean(node, path, report).unwrap_or_default(),
        "wait" => spec.wait = wait(node, path, report),
        "windows" => spec.windows = windows::read(node, path, report),
        "canary" => spec.canary = canary::read(node, path, report),
        key => {
            let hint = nearest(key, FIELDS).map(|near| format!("did you mean {near:?}?"));
            report.add(Severity::Error, entry.at, path, "unknown setting", hint);
        }
    }
}

/// Says that a value is not what it must be.
pub(super) fn unfit<T>(
    expected: &str,
    node: &Node<'_>,
    path: &Path<'_>,
    report: &mut Report,
) -> Option<T> {
    let found = Described(&node.value, false).to_string();
    error(report, node.at, path, format!("expected {expected}, found {found}"));
    None
}

fn boolean(node: &Node<'_>, path: &Path<'_>, report: &mut Report) -> Option<bool> {
    match node.value {
        Value::Bool(value, _) => Some(value),
        _ => unfit("true or false", node, path, report),
    }
}

fn name(node: &Node<'_>, path: &Path<'_>, report: &mut Report) -> Option<AppName> {
    let Some(text) = node.as_text() else {
        return unfit("the name of an app", node, path, report);
    };
    match Name::parse(text, NameRule::Label) {
        Ok(name) => Some(name),
        Err(complaint) => {
            error(report, node.at, path, complaint);
            None
        }
    }
}

fn names(node: &Node<'_>, path: &Path<'_>, report: &mut Report) -> Vec<AppName> {
    let Some(items) = node.as_list() else {
        return unfit("a list of apps", node, path, report).unwrap_or_default();
    };
    let named = items.iter().enumerate();
    named.filter_map(|(index, item)| name(item, &path.index(index), report)).collect()
}

/// A directory of the repository, as the listing of a commit writes it.
fn directory(node: &Node<'_>, path: &Path<'_>, report: &mut Report) -> Option<String> {
    let Some(text) = node.as_text() else {
        return unfit("a directory", node, path, report);
    };
    let bare = text.strip_prefix("./").unwrap_or(text);
    let bare = bare.strip_suffix('/').unwrap_or(bare);
    let is_plain = bare.split('/').all(|part| !part.is_empty() && !part.starts_with('.'));
    if is_plain {
        return Some(bare.to_owned());
    }
    let message = format!("{} is not a directory within the repository", quoted(text));
    let hint = "write it from the repository's root, as in teams/shop".to_owned();
    report.add(Severity::Error, node.at, path, message, Some(hint));
    None
}

/// `wait: {timeout: 5m}`.
fn wait(node: &Node<'_>, path: &Path<'_>, report: &mut Report) -> Option<Duration> {
    let Some(entries) = node.as_map() else {
        return unfit("a map with timeout", node, path, report);
    };
    let mut timeout = None;
    for entry in entries {
        let path = path.field(&entry.key);
        if entry.key != "timeout" {
            let hint = Some("there is \"timeout\"".to_owned());
            report.add(Severity::Error, entry.at, &path, "unknown setting", hint);
            continue;
        }
        match entry.node.as_text().map(parse_duration) {
            Some(Ok(duration)) if !duration.is_zero() => timeout = Some(duration),
            Some(Ok(_)) => error(report, entry.node.at, &path, "must be more than nothing"),
            Some(Err(complaint)) => error(report, entry.node.at, &path, complaint),
            None => return unfit("a duration such as 90s or 5m", &entry.node, &path, report),
        }
    }
    timeout
}

/// No two apps have one name, or one directory.
fn tell_twice(
    before: &[(At, AppSpec)],
    spec: &AppSpec,
    at: At,
    path: &Path<'_>,
    report: &mut Report,
) {
    for (first, other) in before {
        if other.name == spec.name {
            let message = format!("app {} is written already in line {}", spec.name, first.line);
            error(report, at, &path.field("name"), message);
        } else if other.path == spec.path && !spec.path.is_empty() {
            let message = format!("{} is the directory of app {} already", spec.path, other.name);
            error(report, at, &path.field("path"), message);
        }
    }
}

fn check_dependencies(item: &Node<'_>, path: &Path<'_>, specs: &[AppSpec], report: &mut Report) {
    let known = |name: &str| name == DEFAULT_APP || specs.iter().any(|spec| spec.name == *name);
    let own = item.get_text("name");
    let items = item.get("dependsOn").and_then(Node::as_list).unwrap_or_default();
    let path = path.field("dependsOn");
    for (index, node) in items.iter().enumerate() {
        let Some(name) = node.as_text() else { continue };
        let path = path.index(index);
        if Some(name) == own {
            error(report, node.at, &path, "an app can't depend on itself");
        } else if !known(name) {
            let names = specs.iter().map(|spec| spec.name.as_str());
            let hint = nearest(name, names).map(|near| format!("did you mean {near:?}?"));
            let message = format!("there is no app {}", quoted(name));
            report.add(Severity::Error, node.at, &path, message, hint);
        }
    }
}

/// Apps that wait for each other would wait for ever.
fn tell_of_circle(specs: &[AppSpec], at: At, path: &Path<'_>, report: &mut Report) {
    let mut left: BTreeMap<&AppName, BTreeSet<&AppName>> = specs
        .iter()
        .map(|spec| {
            let others = spec.depends_on.iter().filter(|name| **name != spec.name);
            (&spec.name, others.filter(|name| specs.iter().any(|s| s.name == **name)).collect())
        })
        .collect();
    loop {
        let free: Vec<&AppName> =
            left.iter().filter(|(_, on)| on.is_empty()).map(|(name, _)| *name).collect();
        if free.is_empty() {
            break;
        }
        for name in free {
            left.remove(name);
            left.values_mut().for_each(|on| {
                on.remove(name);
            });
        }
    }
    if !left.is_empty() {
        let names: Vec<&str> = left.keys().map(|name| name.as_str()).collect();
        let message = format!("{} wait for each other (dependsOn)", names.join(", "));
        error(report, at, path, message);
    }
}

#[cfg(test)]
mod tests {
    use super::super::settings;
    use super::super::yaml;
    use super::*;

    fn read_text(text: &str) -> (Vec<AppSpec>, Vec<String>) {
        let mut report = Report::new(&"windlass.yaml".into());
        let settings = settings::read(yaml::read(text), &mut report);
        let findings = report.finish();
        (settings.apps, findings.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn an_app_says_where_it_lies_and_how_it_is_to_be_treated() {
        let (apps, findings) = read_text(
            "apps:\n\
             - {name: base, path: ./base/}\n\
             - name: shop\n  path: teams/shop\n  dependsOn: [base, default]\n  prune: false\n  \
             suspend: true\n  wait: {timeout: 1m30s}\n  autoRevert: true\n\
             - {name: default, autoRevert: true}\n",
        );
        assert_eq!(findings, Vec::<String>::new());
        assert_eq!((apps[0].path.as_str(), apps[0].prune), ("base", true));
        let shop = &apps[1];
        assert_eq!((shop.path.as_str(), shop.prune, shop.suspend), ("teams/shop", false, true));
        assert_eq!((shop.wait, shop.auto_revert), (Some(Duration::from_secs(90)), true));
        assert_eq!(shop.depends_on.len(), 2);
        assert_eq!(shop.place.line, 3);
        let owners = Owners::of(&apps);
        let names: Vec<&str> = owners.specs.iter().map(|spec| spec.name.as_str()).collect();
        assert_eq!(names, ["default", "base", "shop"], "the default app is the first");
        assert!(owners.specs[0].auto_revert);
    }

    #[test]
    fn a_file_belongs_to_the_app_of_the_nearest_directory() {
        let text = "apps: [{name: a, path: teams}, {name: b, path: teams/b}]";
        let owners = Owners::of(&read_text(text).0);
        for (path, owner) in [
            ("web.yaml", "default"),
            ("teams.yaml", "default"),
            ("teamsters/x.yaml", "default"),
            ("teams/web.yaml", "a"),
            ("teams/bb/web.yaml", "a"),
            ("teams/b/web.yaml", "b"),
            ("teams/b/deep/web.yaml", "b"),
        ] {
            assert_eq!(owners.specs[owners.rank_of(path)].name.as_str(), owner, "{path}");
        }
    }

    #[test]
    fn what_is_wrong_with_an_app_is_said() {
        let table = [
            ("apps: x", "1:7: error: apps: expected a list of apps"),
            ("apps: [x]", "1:8: error: apps[0]: expected a map with name and path"),
            ("apps: [{path: a}]", "1:8: error: apps[0].name: is required"),
            ("apps: [{name: a}]", "1:8: error: apps[0].path: is required"),
            ("apps: [{name: A, path: a}]", "1:15: error: apps[0].name: "),
            ("apps: [{name: a, path: ../a}]", "1:24: error: apps[0].path: \"../a\" is not a dir"),
            ("apps: [{name: a, path: .}]", "1:24: error: apps[0].path: \".\" is not a directory"),
            ("apps: [{name: a, path: /a}]", "1:24: error: apps[0].path: \"/a\" is not a direct"),
            ("apps: [{name: default, path: a}]", "1:8: error: apps[0].path: the default app has"),
            (
                "apps: [{name: a, path: a}, {name: a, path: b}]",
                "1:28: error: apps[1].name: app a is written already in line 1",
            ),
            (
                "apps: [{name: a, path: x}, {name: b, path: x/}]",
                "1:28: error: apps[1].path: x is the directory of app a already",
            ),
            (
                "apps: [{name: abc, path: x}, {name: b, path: z, dependsOn: [abd]}]",
                "1:61: error: apps[1].dependsOn[0]: there is no app \"abd\" (did you mean \"abc\"?)",
            ),
            (
                "apps: [{name: a, path: x, dependsOn: [a]}]",
                "1:39: error: apps[0].dependsOn[0]: an app can't depend on itself",
            ),
            (
                "apps: [{name: a, path: x, dependsOn: [b]}, {name: b, path: z, dependsOn: [a]}]",
                "1:7: error: apps: a, b wait for each other",
            ),
            (
                "apps: [{name: a, path: x, prune: no way}]",
                "1:34: error: apps[0].prune: expected true or false",
            ),
            (
                "apps: [{name: a, path: x, wait: 5m}]",
                "1:33: error: apps[0].wait: expected a map with timeout",
            ),
            (
                "apps: [{name: a, path: x, wait: {timeout: soon}}]",
                "1:43: error: apps[0].wait.timeout: 'soon' is not a duration",
            ),
            (
                "apps: [{name: a, path: x, autorevert: true}]",
                "1:27: error: apps[0].autorevert: unknown setting (did you mean \"autoRevert\"?)",
            ),
        ];
        for (text, finding) in table {
            let (_, findings) = read_text(text);
            assert_eq!(findings.len(), 1, "{text:?}: {findings:?}");
            let expected = format!("windlass.yaml:{finding}");
            assert!(findings[0].starts_with(&expected), "{text:?}: {}", findings[0]);
        }
    }
}
