//! One object, told: what it is, how it is, what happened to it, and which line of the repository it
//! comes from. The layout is `kubectl describe`'s, so that nobody has to learn another.

mod config;
mod job;
mod node;
mod pod;
mod service;
mod sets;
mod storage;
mod template;
mod workload;

use std::fmt::Write as _;

use serde_json::Value;

use super::json::{items, pairs, text};
use super::objects::{self, ANNOTATION_COMMIT, ANNOTATION_PREFIX, ANNOTATION_SOURCE};
use super::picture::Picture;
use super::tabs;
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;
use crate::kinds::status::EventRecord;
use crate::kinds::time::{Wall, human_duration};

/// Annotations that kubectl leaves out, and ours, which have a line of their own.
const HIDDEN_ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Tells an object; nothing if there is none of that name.
pub fn describe(picture: &Picture, key: &Key) -> Option<String> {
    let shown = objects::find(picture, key)?;
    let object = &shown.json;
    let mut page = Page::default();
    match key.kind {
        Kind::Pod => pod::describe(&mut page, object),
        Kind::Deployment => workload::deployment(&mut page, picture, key, object),
        Kind::ReplicaSet | Kind::ReplicationController => {
            workload::set(&mut page, picture, key, object);
        }
        Kind::StatefulSet => sets::stateful_set(&mut page, picture, key, object),
        Kind::DaemonSet => sets::daemon_set(&mut page, picture, key, object),
        Kind::ControllerRevision => sets::revision(&mut page, object),
        Kind::Job => job::job(&mut page, object),
        Kind::CronJob => job::cron_job(&mut page, object),
        Kind::Service => service::describe(&mut page, picture, key, object),
        Kind::Node => node::describe(&mut page, picture, key, object),
        Kind::ConfigMap => config::config_map(&mut page, object),
        Kind::Secret => config::secret(&mut page, picture, key, object),
        Kind::Namespace => config::namespace(&mut page, picture, key, object),
        Kind::LimitRange => config::limit_range(&mut page, object),
        Kind::ResourceQuota => config::quota(&mut page, object),
        Kind::PodDisruptionBudget => workload::budget(&mut page, object),
        Kind::PersistentVolumeClaim => storage::claim(&mut page, picture, key, object),
        Kind::PersistentVolume => storage::volume(&mut page, object),
        Kind::StorageClass => storage::class(&mut page, object),
        _ => config::other(&mut page, object),
    }
    if has_events(key.kind) {
        let uid = text(object, "metadata.uid");
        page.events(picture, key, uid);
    }
    Some(page.finish())
}

/// kubectl ends these without a word on events.
fn has_events(kind: Kind) -> bool {
    !matches!(kind, Kind::Secret | Kind::Namespace | Kind::Event)
}

/// A page of text with tab stops, while it is being written.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    /// A line, `indent` steps of two spaces in.
    fn line(&mut self, indent: usize, line: impl AsRef<str>) {
        let line = line.as_ref();
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "{:width$}{line}", "", width = indent * 2);
    }

    /// `Name:<tab>value`.
    fn field(&mut self, indent: usize, name: &str, value: impl AsRef<str>) {
        self.line(indent, format!("{name}:\t{}", value.as_ref()));
    }

    /// `Name:<tab>value`, if there is one.
    fn field_if(&mut self, indent: usize, name: &str, value: &str) {
        if !value.is_empty() {
            self.field(indent, name, value);
        }
    }

    /// Values below each other, the first beside the name.
    fn list(&mut self, name: &str, values: &[String]) {
        match values {
            [] => self.field(0, name, "<none>"),
            [first, rest @ ..] => {
                self.field(0, name, first);
                for value in rest {
                    self.line(0, format!("\t{value}"));
                }
            }
        }
    }

    fn labels(&mut self, name: &str, object: &Value, path: &str) {
        let labels = pairs(object, path).into_iter();
        let labels: Vec<String> = labels.map(|(key, value)| format!("{key}={value}")).collect();
        self.list(name, &labels);
    }

    /// Annotations, a long one on lines of its own.
    fn annotations(&mut self, object: &Value) {
        let annotations = pairs(object, "metadata.annotations").into_iter();
        let shown: Vec<String> = annotations
            .filter(|(key, _)| *key != HIDDEN_ANNOTATION && !key.starts_with(ANNOTATION_PREFIX))
            .map(|(key, value)| annotation(key, value))
            .collect();
        self.list("Annotations", &shown);
    }

    /// Which line of the repository the object comes from, at which commit.
    fn source(&mut self, object: &Value) {
        let annotation =
            |name| object.pointer("/metadata/annotations").and_then(|all| all.get(name));
        let source = annotation(ANNOTATION_SOURCE).and_then(Value::as_str);
        let commit = annotation(ANNOTATION_COMMIT).and_then(Value::as_str);
        if let (Some(source), Some(commit)) = (source, commit) {
            let short = &commit[..commit.len().min(7)];
            self.field(0, "Git", format!("{source} at {short}"));
        }
    }

    /// Name, namespace, source, labels, annotations.
    fn head(&mut self, object: &Value) {
        self.field(0, "Name", text(object, "metadata.name"));
        self.field_if(0, "Namespace", text(object, "metadata.namespace"));
    }

    fn events(&mut self, picture: &Picture, key: &Key, uid: &str) {
        let events = events_about(picture, key, uid);
        if events.is_empty() {
            self.field(0, "Events", "<none>");
            return;
        }
        self.line(0, "Events:");
        self.line(1, "Type\tReason\tAge\tFrom\tMessage");
        self.line(1, "----\t------\t----\t----\t-------");
        for event in events {
            let age = event_age(event, picture.now.wall);
            let kind = if event.warning { "Warning" } else { "Normal" };
            let message = event.message.trim();
            let (reason, from) = (&event.reason, &event.source);
            self.line(1, format!("{kind}\t{reason}\t{age}\twindlass-{from}\t{message}"));
        }
    }

    fn finish(self) -> String {
        tabs::lay_out(&self.text, 0, 2)
    }
}

/// kubectl puts an annotation of more than 140 characters on lines of its own.
fn annotation(key: &str, value: &str) -> String {
    const LONG: usize = 140;
    let value = value.trim_end_matches('\n');
    if key.len() + value.len() > LONG || value.contains('\n') {
        let lines: Vec<String> = value.lines().map(|line| format!("\t  {line}")).collect();
        return format!("{key}:\n{}", lines.join("\n"));
    }
    format!("{key}: {value}")
}

/// What happened to an object, the oldest first: to this life of it, where its life is known.
pub(super) fn events_about<'p>(picture: &'p Picture, key: &Key, uid: &str) -> Vec<&'p EventRecord> {
    let all = picture.happenings().map(|(_, event)| event);
    let is_this_life = |event: &EventRecord| event.uid.as_ref().is_none_or(|of| of.as_str() == uid);
    let mut events: Vec<&EventRecord> =
        all.filter(|event| event.about == *key && is_this_life(event)).collect();
    events.sort_by_key(|event| event.last);
    events
}

/// `5s`, or `5s (x3 over 2m)`.
pub(super) fn event_age(event: &EventRecord, now: Wall) -> String {
    let last = human_duration(now.since(event.last));
    if event.count > 1 {
        let first = human_duration(now.since(event.first));
        format!("{last} (x{} over {first})", event.count)
    } else {
        last
    }
}

/// A moment as kubectl writes it (RFC 1123), in UTC.
fn moment(text: &str) -> String {
    let stamp =
        Wall::parse(text).and_then(|wall| jiff::Timestamp::from_second(wall.seconds()).ok());
    stamp
        .map_or_else(String::new, |stamp| stamp.strftime("%a, %d %b %Y %H:%M:%S +0000").to_string())
}

/// `ReplicaSet/web-7d9f8c5b4`, the object that decides this one's end.
fn controller(object: &Value) -> Option<String> {
    let owners = items(object, "metadata.ownerReferences").iter();
    let owner = owners
        .filter(|owner| owner.get("controller") == Some(&Value::Bool(true)))
        .map(|owner| format!("{}/{}", text(owner, "kind"), text(owner, "name")));
    owner.into_iter().next()
}
