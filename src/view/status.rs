//! How the whole stands, on one page: which commit is in force, which is not and why, what is broken
//! and what to do about it.

mod faults;

use std::fmt::Write as _;

use serde::{Deserialize, Serialize};

use super::json::text;
use super::objects;
use super::picture::{Adoptable, Picture};
use super::table;
use super::tabs;
use crate::kinds::binding::{Generation, Oid};
use crate::kinds::finding::Finding;
use crate::kinds::registry::Kind;
use crate::kinds::time::{Wall, human_duration};
use crate::kinds::window::{Door, door};
use crate::plan::AppInput;
use crate::state::records::{AppHead, Verdict};

/// Pods that are not well are listed up to this many; `get pods` has the rest.
const PODS_LISTED: usize = 10;
/// Findings, and objects that would be deleted, are listed up to this many each.
const LISTED: usize = 20;

/// How the whole stands. The JSON of this is `windlass status -o json`; its fields stay.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    /// The agent's node.
    pub node: String,
    /// The agent's version.
    pub version: String,
    /// When this was so.
    pub now: Wall,
    /// Whether the state store has been read.
    pub is_known: bool,
    /// Whether this agent coordinates.
    pub is_coordinator: bool,
    /// Who coordinates.
    pub coordinator: Option<Coordinator>,
    /// The newest decision that is followed: its epoch and its number.
    #[serde(default)]
    pub decision: Generation,
    /// What `windlass state adopt` would take, while the store can't be followed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub adoptable: Option<Adoptable>,
    /// The desired repository.
    pub repository: Repository,
    /// Its apps.
    pub apps: Vec<App>,
    /// The machines.
    pub nodes: Counted,
    /// The pods; those that have done their work count as ready.
    pub pods: Counted,
    /// Pods that are neither ready nor done.
    pub troubled_pods: Vec<TroubledPod>,
    /// What is broken.
    pub faults: Vec<Trouble>,
}

/// Who coordinates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Coordinator {
    /// The node.
    pub node: String,
    /// How often the role has changed hands.
    pub term: u64,
    /// Since when.
    pub since: Wall,
}

/// What is known of the desired repository.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Repository {
    /// When it was last reached.
    pub reached: Option<Wall>,
    /// Its newest commit.
    pub newest: Option<Oid>,
    /// Whether the branch is known not to exist.
    pub branch_is_missing: bool,
}

/// An app of the desired repository.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct App {
    /// Its name.
    pub name: String,
    /// What runs.
    pub in_force: Option<InForce>,
    /// What does not, though it is newer.
    pub waiting: Option<Waiting>,
    /// Who keeps newer revisions away, beside what Git says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspended_by: Option<String>,
    /// Whether its change windows are open, where it has any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub windows: Option<String>,
}

/// A revision in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct InForce {
    /// The commit.
    pub commit: Oid,
    /// Its first line.
    pub subject: String,
    /// Who wrote it.
    pub author: String,
    /// Who signed it, and with which key, where somebody had to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// Since when it is in force.
    pub since: Wall,
    /// How many objects it has.
    pub objects: u32,
    /// How far it has come, while it comes into force in waves.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waves: Option<String>,
    /// Which part of it goes ahead, while the rest is held back, and for how long it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub canary: Option<String>,
    /// When all of it was healthy for the first time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub healthy: Option<Wall>,
    /// Why it did not become healthy in its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<String>,
    /// What somebody should look at.
    pub warnings: Vec<Finding>,
}

/// A revision that is not in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Waiting {
    /// The commit.
    pub commit: Oid,
    /// Its first line.
    pub subject: String,
    /// Who wrote it.
    pub author: String,
    /// Who signed it, and with which key, where somebody had to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signer: Option<String>,
    /// Since when it waits.
    pub since: Wall,
    /// It is held until somebody agrees.
    pub is_held: bool,
    /// Nothing is wrong with it, something else must come first. If neither, it is refused until
    /// somebody mends it.
    #[serde(default)]
    pub is_waiting: bool,
    /// It was in force and did not become healthy: what was before it is in force again.
    #[serde(default)]
    pub is_reverted: bool,
    /// Why.
    pub why: String,
    /// What is wrong with it.
    pub findings: Vec<Finding>,
    /// How many findings there are in all.
    pub finding_count: u32,
    /// What it would delete, if it is held.
    pub would_delete: Vec<String>,
}

/// How many, and how many of them are ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// How many there are.
    pub total: usize,
    /// How many are ready.
    pub ready: usize,
}

/// A pod that is neither ready nor done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TroubledPod {
    /// `shop/web-7d9f8c5b4-x2x9z`.
    pub pod: String,
    /// `CrashLoopBackOff`.
    pub status: String,
    /// One sentence, where there is one.
    pub message: String,
}

/// Something that is broken, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// Which part.
    pub part: String,
    /// What is the matter.
    pub message: String,
    /// What to do next.
    pub next: String,
}

/// How the whole stands.
pub fn status(picture: &Picture) -> Status {
    let pods = objects::list(picture, Kind::Pod);
    let mut counted = Counted::default();
    let mut troubled = Vec::new();
    for pod in &pods {
        counted.total += 1;
        if is_well(&pod.json) {
            counted.ready += 1;
        } else {
            troubled.push(trouble_of(&pod.json));
        }
    }
    Status {
        node: picture.node.to_string(),
        version: picture.version.clone(),
        now: picture.now.wall,
        is_known: picture.is_known,
        is_coordinator: picture.health.is_leading,
        coordinator: picture.state.lease.as_ref().map(|lease| Coordinator {
            node: lease.holder.to_string(),
            term: lease.term,
            since: lease.acquired,
        }),
        decision: picture.health.decision,
        adoptable: picture.health.adoptable.clone(),
        repository: Repository {
            reached: picture.health.reached,
            newest: picture.health.tip.clone(),
            branch_is_missing: picture.health.branch_is_missing,
        },
        apps: apps(picture),
        nodes: Counted {
            total: picture.nodes.len(),
            ready: picture.nodes.values().filter(|node| node.is_ready).count(),
        },
        pods: counted,
        troubled_pods: troubled,
        faults: faults::faults(picture),
    }
}

fn is_well(pod: &serde_json::Value) -> bool {
    let conditions = super::json::items(pod, "status.conditions").iter();
    let mut ready = conditions.filter(|condition| text(condition, "type") == "Ready");
    let is_ready = ready.any(|condition| text(condition, "status") == "True");
    is_ready || text(pod, "status.phase") == "Succeeded"
}

fn trouble_of(pod: &serde_json::Value) -> TroubledPod {
    let statuses = super::json::items(pod, "status.containerStatuses").iter();
    let init = super::json::items(pod, "status.initContainerStatuses").iter();
    let waiting = init.chain(statuses).map(|status| text(status, "state.waiting.message"));
    let conditions = super::json::items(pod, "status.conditions").iter();
    let unplaced = conditions
        .filter(|condition| text(condition, "reason") == "Unschedulable")
        .map(|condition| text(condition, "message"));
    let own = std::iter::once(text(pod, "status.message"));
    let message = waiting.chain(unplaced).chain(own).find(|message| !message.is_empty());
    let namespace = text(pod, "metadata.namespace");
    TroubledPod {
        pod: format!("{namespace}/{}", text(pod, "metadata.name")),
        status: table::summary(pod).word,
        message: message.unwrap_or_default().to_owned(),
    }
}

fn apps(picture: &Picture) -> Vec<App> {
    // One that is gone may be remembered for what its Jobs have done.
    let is_shown = |head: &AppHead| head.applied.is_some() || head.waiting.is_some();
    let states = picture.state.apps.iter().filter(|(_, state)| is_shown(&state.head));
    states
        .map(|(name, state)| App {
            name: name.to_string(),
            in_force: state.head.applied.as_ref().map(|applied| InForce {
                commit: applied.revision.clone(),
                subject: applied.subject.clone(),
                author: applied.author.clone(),
                signer: applied.signer.clone(),
                since: applied.since,
                objects: applied.objects,
                waves: state.head.waves_now().map(ToString::to_string),
                canary: state.head.canary_now().map(ToString::to_string),
                healthy: applied.healthy,
                failed: state.head.failed_now().map(|failed| match &failed.stays {
                    Some(stays) => format!("{}; it can't be taken back: {stays}", failed.why),
                    None => failed.why.clone(),
                }),
                warnings: applied.warnings.clone(),
            }),
            waiting: waiting(picture, name, &state.head),
            suspended_by: state.head.suspended.as_ref().map(|suspension| suspension.by.clone()),
            windows: picture.apps.get(name).and_then(|input| windows(input, picture.now.wall)),
        })
        .collect()
}

/// By the windows of the newest revision that was read.
fn windows(input: &AppInput, now: Wall) -> Option<String> {
    let revision = input.candidate.as_ref().or(input.applied.as_ref())?;
    let windows = &revision.terms.windows;
    let told = || match door(windows, now) {
        Door::Open => "open".to_owned(),
        Door::Shut(Some(until)) => format!("shut until {until}"),
        Door::Shut(None) => "shut, and never open".to_owned(),
    };
    (!windows.is_empty()).then(told)
}

fn waiting(
    picture: &Picture,
    app: &crate::kinds::binding::AppName,
    head: &AppHead,
) -> Option<Waiting> {
    let waiting = head.waiting.as_ref()?;
    let is_held = matches!(waiting.verdict, Verdict::Held(_));
    Some(Waiting {
        commit: waiting.revision.clone(),
        subject: waiting.subject.clone(),
        author: waiting.author.clone(),
        signer: waiting.signer.clone(),
        since: waiting.since,
        is_held,
        is_waiting: matches!(waiting.verdict, Verdict::Waits(_)),
        is_reverted: matches!(waiting.verdict, Verdict::Reverted(_)),
        why: waiting.verdict.why().to_owned(),
        findings: waiting.findings.clone(),
        finding_count: waiting.finding_count,
        would_delete: if is_held {
            would_delete(picture, app, &waiting.revision)
        } else {
            Vec::new()
        },
    })
}

/// Objects in force that a waiting revision does not have, as far as it has been read here.
fn would_delete(
    picture: &Picture,
    app: &crate::kinds::binding::AppName,
    commit: &Oid,
) -> Vec<String> {
    let input = picture.apps.get(app);
    let candidate = input
        .and_then(|input| input.candidate.as_ref())
        .filter(|candidate| candidate.commit.id == *commit);
    let (Some(_), Some(state)) = (candidate, picture.state.apps.get(app)) else {
        return Vec::new();
    };
    let others = picture.apps.values().filter_map(|input| input.candidate.as_ref());
    let offers: Vec<_> = others.collect();
    state
        .objects()
        .map(|(key, _)| key)
        .filter(|key| !offers.iter().any(|offer| offer.desired.objects.contains_key(key)))
        .map(|key| key.to_string())
        .collect()
}

/// The labels of the page's lines stand in a column of this width.
const LABEL: usize = 13;

impl Waiting {
    /// What has become of it, in a word.
    pub fn word(&self) -> &'static str {
        match (self.is_held, self.is_waiting, self.is_reverted) {
            (true, ..) => "held",
            (_, true, _) => "waiting",
            (.., true) => "reverted",
            _ => "refused",
        }
    }
}

impl Status {
    /// The page, for people.
    pub fn text(&self) -> String {
        let mut page = String::new();
        let node = format!("{}, {} (windlass {})", self.node, self.role(), self.version);
        line(&mut page, "Node", &node);
        line(&mut page, "Repository", &self.repository_line());
        for app in &self.apps {
            self.app_text(app, &mut page);
        }
        if self.apps.is_empty() {
            line(&mut page, "In force", "nothing yet");
        }
        let ready = |counted: Counted| format!("{} of {} ready", counted.ready, counted.total);
        line(&mut page, "Nodes", &ready(self.nodes));
        line(&mut page, "Pods", &ready(self.pods));
        self.pods_text(&mut page);
        self.faults_text(&mut page);
        self.warnings_text(&mut page);
        page
    }

    /// What the page says of one app, or of all.
    pub fn apps_text(&self, only: Option<&str>) -> String {
        let mut page = String::new();
        for app in self.apps.iter().filter(|app| only.is_none_or(|only| app.name == only)) {
            self.app_text(app, &mut page);
        }
        page
    }

    fn ago(&self, moment: Wall) -> String {
        human_duration(self.now.since(moment))
    }

    fn role(&self) -> String {
        match &self.coordinator {
            _ if !self.is_known => "has not read the state store yet".to_owned(),
            Some(lease) if self.is_coordinator && lease.node == self.node => {
                let since = self.ago(lease.since);
                format!("coordinates for {since} (term {})", lease.term)
            }
            _ if self.is_coordinator => "coordinates".to_owned(),
            Some(lease) => format!("follows {}", lease.node),
            None => "no node coordinates".to_owned(),
        }
    }

    fn repository_line(&self) -> String {
        let reached = self.repository.reached.map_or_else(
            || "not reached yet".to_owned(),
            |reached| format!("reached {} ago", self.ago(reached)),
        );
        match &self.repository.newest {
            Some(newest) => format!("{reached}, newest commit {}", newest.short()),
            None => reached,
        }
    }

    fn app_text(&self, app: &App, page: &mut String) {
        let label = |word: &str| match self.apps.len() {
            1 => word.to_owned(),
            _ => format!("{word} ({})", app.name),
        };
        let in_force = app.in_force.as_ref().map_or_else(
            || "nothing yet".to_owned(),
            |revision| {
                format!(
                    "{} \"{}\" by {}{}, for {}, {}",
                    revision.commit.short(),
                    revision.subject,
                    name_of(&revision.author),
                    signed(revision.signer.as_ref()),
                    self.ago(revision.since),
                    counted(revision.objects, "object")
                )
            },
        );
        line(page, &label("In force"), &in_force);
        let waves = app.in_force.as_ref().and_then(|revision| revision.waves.as_ref());
        if let Some(waves) = waves {
            line(page, &label("Waves"), waves);
        }
        let canary = app.in_force.as_ref().and_then(|revision| revision.canary.as_ref());
        if let Some(canary) = canary {
            line(page, &label("Canary"), canary.trim_start_matches("canary: "));
        }
        let failed = app.in_force.as_ref().and_then(|revision| revision.failed.as_ref());
        if let Some(why) = failed {
            line(page, &label("Failed"), why);
        }
        if let Some(windows) = &app.windows {
            line(page, &label("Windows"), windows);
        }
        if let Some(by) = &app.suspended_by {
            let how = format!("by {by}; `windlass app resume {}` ends it", app.name);
            line(page, &label("Suspended"), &how);
        }
        if let Some(waiting) = &app.waiting {
            let word = match waiting.word() {
                "waiting" => "Waits".to_owned(),
                word => capital(word),
            };
            let word = word.as_str();
            self.waiting_text(waiting, &label(word), page);
        }
    }

    fn waiting_text(&self, waiting: &Waiting, label: &str, page: &mut String) {
        let text = format!(
            "{} \"{}\" by {}{}, {} ago: {}",
            waiting.commit.short(),
            waiting.subject,
            name_of(&waiting.author),
            signed(waiting.signer.as_ref()),
            self.ago(waiting.since),
            waiting.why
        );
        line(page, label, &text);
        let errors = waiting.findings.iter().filter(|finding| finding.is_error());
        list(page, errors, "`windlass validate <directory>` lists all");
        let gone = waiting.would_delete.iter().map(|gone| format!("would delete {gone}"));
        list(page, gone, "`windlass diff <commit>` lists all");
    }

    fn pods_text(&self, page: &mut String) {
        let mut lines = String::new();
        for pod in self.troubled_pods.iter().take(PODS_LISTED) {
            let message = pod.message.lines().next().unwrap_or_default();
            // Writing to a String cannot fail.
            let _ = writeln!(lines, "  {}\t{}\t{message}", pod.pod, pod.status);
        }
        for line in tabs::lay_out(&lines, 0, 2).lines() {
            let _ = writeln!(page, "{}", line.trim_end());
        }
        let more = self.troubled_pods.len().saturating_sub(PODS_LISTED);
        if more > 0 {
            let _ = writeln!(page, "  … and {more} more: `windlass get pods -A`");
        }
        if let Some(first) = self.troubled_pods.first() {
            let (namespace, name) = first.pod.split_once('/').unwrap_or(("", &first.pod));
            let _ = writeln!(page, "  hint: windlass why {name} -n {namespace}");
        }
    }

    fn faults_text(&self, page: &mut String) {
        for fault in &self.faults {
            let part = capital(&fault.part);
            let _ = writeln!(page, "\n{part} is in trouble: {}", fault.message);
            let _ = writeln!(page, "  hint: {}", fault.next);
        }
    }

    fn warnings_text(&self, page: &mut String) {
        let in_force = self.apps.iter().filter_map(|app| app.in_force.as_ref());
        let warnings: Vec<&Finding> = in_force.flat_map(|revision| &revision.warnings).collect();
        if !warnings.is_empty() {
            let _ = writeln!(page, "\nWarnings of what is in force:");
            list(page, warnings, "`windlass validate <directory>` lists all");
        }
    }
}

fn line(page: &mut String, label: &str, text: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(page, "{:LABEL$}{text}", format!("{label}: "));
}

/// Lines below a line, up to a bound.
fn list<T: std::fmt::Display>(page: &mut String, lines: impl IntoIterator<Item = T>, rest: &str) {
    let mut lines = lines.into_iter();
    for line in lines.by_ref().take(LISTED) {
        let _ = writeln!(page, "  {line}");
    }
    let more = lines.count();
    if more > 0 {
        let _ = writeln!(page, "  … and {more} more: {rest}");
    }
}

/// `1 object`, `2 objects`.
fn counted(count: u32, what: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {what}{plural}")
}

/// `, signed by ada (SHA256:…)`.
fn signed(signer: Option<&String>) -> String {
    signer.map(|signer| format!(", signed by {signer}")).unwrap_or_default()
}

/// `Ada` of `Ada <ada@example.org>`.
pub(super) fn name_of(author: &str) -> &str {
    author.split(" <").next().unwrap_or(author)
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters
        .next()
        .map_or_else(String::new, |first| first.to_uppercase().chain(characters).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_force(commit: &str, subject: &str) -> InForce {
        InForce {
            commit: Oid::new(commit),
            subject: subject.into(),
            author: "Ada <ada@example.org>".into(),
            signer: None,
            since: Wall::from_seconds(1_000),
            objects: 3,
            waves: None,
            canary: None,
            healthy: None,
            failed: None,
            warnings: Vec::new(),
        }
    }

    fn waiting(is_held: bool, is_waiting: bool, is_reverted: bool) -> Waiting {
        Waiting {
            commit: Oid::new("ccccccccc"),
            subject: "third".into(),
            author: "Bob <bob@example.org>".into(),
            signer: None,
            since: Wall::from_seconds(1_060),
            is_held,
            is_waiting,
            is_reverted,
            why: "so it is".into(),
            findings: Vec::new(),
            finding_count: 0,
            would_delete: Vec::new(),
        }
    }

    #[test]
    fn each_app_has_its_lines() {
        let app = |name: &str, in_force, waiting, suspended_by: Option<&str>| App {
            name: name.into(),
            in_force: Some(in_force),
            waiting,
            suspended_by: suspended_by.map(str::to_owned),
            windows: (name == "api").then(|| "open".to_owned()),
        };
        let failed =
            InForce { failed: Some("it crashes".into()), ..in_force("bbbbbbbbb", "second") };
        let partly = InForce {
            waves: Some("up to wave 1".into()),
            canary: Some("canary: 2 of 10 pods, not healthy yet".into()),
            ..in_force("aaaaaaaaa", "first")
        };
        let apps = vec![
            app("base", in_force("aaaaaaaaa", "first"), None, None),
            app("web", partly, Some(waiting(false, false, true)), None),
            app("api", failed, Some(waiting(false, true, false)), Some("ada")),
        ];
        let status = Status {
            node: "n1".into(),
            version: "1".into(),
            now: Wall::from_seconds(1_120),
            is_known: true,
            is_coordinator: false,
            coordinator: None,
            decision: Generation::default(),
            adoptable: None,
            repository: Repository { reached: None, newest: None, branch_is_missing: false },
            apps,
            nodes: Counted::default(),
            pods: Counted::default(),
            troubled_pods: Vec::new(),
            faults: Vec::new(),
        };
        let page = status.text();
        let lines: Vec<&str> = page.lines().skip(2).take(10).collect();
        assert_eq!(
            lines,
            [
                "In force (base): aaaaaaa \"first\" by Ada, for 2m, 3 objects",
                "In force (web): aaaaaaa \"first\" by Ada, for 2m, 3 objects",
                "Waves (web): up to wave 1",
                "Canary (web): 2 of 10 pods, not healthy yet",
                "Reverted (web): ccccccc \"third\" by Bob, 60s ago: so it is",
                "In force (api): bbbbbbb \"second\" by Ada, for 2m, 3 objects",
                "Failed (api): it crashes",
                "Windows (api): open",
                "Suspended (api): by ada; `windlass app resume api` ends it",
                "Waits (api): ccccccc \"third\" by Bob, 60s ago: so it is",
            ]
        );
    }
}
