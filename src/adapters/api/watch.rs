//! Changes as they happen.
//!
//! Nothing is stored up for a watcher: when its connection has room, it is told what has changed since
//! the version it has. One that reads too slowly finds that the diary no longer reaches back so far,
//! is told Gone, and lists again; one that reads nothing at all is disconnected
//! ([`Limits::stall`](super::Limits)).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use hyper::HeaderMap;
use serde_json::{Value, json};
use tokio::sync::{OwnedSemaphorePermit, watch as channel};
use tokio::time::Instant;

use super::ask::{Form, Parameters};
use super::read::Style;
use super::reply::{self, Answer, No};
use super::serve::Api;
use crate::kinds::name::Name;
use crate::kinds::registry::Kind;
use crate::kinds::time::Wall;
use crate::ports::Fault;
use crate::view::cache::{Change, Version};
use crate::view::picture::Picture;
use crate::view::select::Query;

/// The longest watch; clients begin another.
const WATCH_S_MAX: u64 = 3600;
/// The length of a watch whose client names none: `--min-request-timeout` of kube-apiserver.
const WATCH_S_DEFAULT: u64 = 1800;
/// How often a client is told the version it may go on from, though nothing has changed for it.
const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Says that the list a watch began with is complete.
const ANNOTATION_INITIAL_END: &str = "k8s.io/initial-events-end";

/// One client that looks on.
struct Watcher {
    api: Arc<Api>,
    pictures: channel::Receiver<Arc<Picture>>,
    query: Query,
    style: Style,
    /// It has been told everything up to here; nothing at all where absent.
    version: Option<Version>,
    wants_bookmarks: bool,
    wants_initial_end: bool,
    until: Instant,
    bookmark_at: Instant,
    is_over: bool,
    _place: OwnedSemaphorePermit,
}

/// Begins a watch.
pub(super) async fn watch(
    api: &Arc<Api>,
    kind: Kind,
    namespace: Option<Name>,
    asked: &Parameters,
    headers: &HeaderMap,
) -> Result<Answer, No> {
    let style = Style::of(kind, asked, headers)?;
    let query = asked.query(kind, namespace)?;
    let sends_initial = asked.is_true("sendInitialEvents");
    let version = asked.number::<Version>("resourceVersion")?;
    // Absent and 0: begin with what there is. Otherwise with what came after that version.
    let version = version.filter(|version| *version > 0 && !sends_initial);
    let seconds = asked.number::<u64>("timeoutSeconds")?.filter(|seconds| *seconds > 0);
    let seconds = seconds.unwrap_or(WATCH_S_DEFAULT).min(WATCH_S_MAX);
    let now = Instant::now();
    let mut pictures = api.pictures.clone();
    pictures.mark_changed();
    let wants_bookmarks = asked.is_true("allowWatchBookmarks");
    let watcher = Watcher {
        api: api.clone(),
        pictures,
        query,
        style,
        version,
        wants_bookmarks,
        wants_initial_end: sends_initial && wants_bookmarks,
        until: now + Duration::from_secs(seconds),
        bookmark_at: now + BOOKMARK_EVERY,
        is_over: false,
        _place: api.place()?,
    };
    let pieces = futures_util::stream::try_unfold(watcher, Watcher::next);
    Ok(reply::stream("application/json", Box::pin(pieces)))
}

impl Watcher {
    /// The next events, as soon as there are some.
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, Fault> {
        loop {
            if self.is_over {
                return Ok(None);
            }
            let mut lines = Vec::new();
            tokio::select! {
                () = tokio::time::sleep_until(self.until) => return Ok(None),
                () = tokio::time::sleep_until(self.bookmark_at), if self.wants_bookmarks => {
                    self.bookmark_at = Instant::now() + BOOKMARK_EVERY;
                    self.bookmark(&mut lines, false);
                }
                changed = self.pictures.changed() => {
                    if changed.is_err() {
                        // The agent ends.
                        return Ok(None);
                    }
                    self.look(&mut lines).await;
                }
            }
            if !lines.is_empty() {
                return Ok(Some((Bytes::from(lines), self)));
            }
        }
    }

    async fn look(&mut self, lines: &mut Vec<u8>) {
        let is_first = self.version.is_none();
        let (query, style, version) = (self.query.clone(), self.style, self.version);
        let drawn = self.api.draw(move |cache| {
            let mut events = Vec::new();
            let Some(version) = version else {
                let listing = cache.list(style.kind);
                let now = cache.picture().now.wall;
                let wanted = listing.items.iter().filter(|item| query.wants(item));
                events.extend(wanted.map(|item| event("ADDED", &style.text(item, now))));
                return Ok((listing.version, events));
            };
            let changes = cache.since(style.kind, version)?;
            let now = cache.picture().now.wall;
            let told = changes.iter().filter_map(|change| tell(change, &query, style, now));
            events.extend(told);
            Ok::<_, crate::view::cache::Gone>((cache.version(), events))
        });
        let no = match drawn.await {
            Ok(Ok((version, events))) => {
                self.version = Some(version);
                events.iter().for_each(|event| write(event, lines));
                if is_first && self.wants_initial_end {
                    self.bookmark(lines, true);
                }
                return;
            }
            Ok(Err(gone)) => No::gone(gone.to_string()),
            Err(no) => no,
        };
        self.is_over = true;
        write(&event("ERROR", &no.status().to_string()), lines);
    }

    fn bookmark(&self, lines: &mut Vec<u8>, is_initial_end: bool) {
        let Some(version) = self.version else {
            return;
        };
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if is_initial_end {
            metadata["annotations"] = json!({ANNOTATION_INITIAL_END: "true"});
        }
        let object = match self.style.form {
            Form::Table => self.style.table(&metadata, &[]),
            Form::Metadata => json!({
                "kind": "PartialObjectMetadata",
                "apiVersion": "meta.k8s.io/v1",
                "metadata": metadata,
            }),
            Form::Plain | Form::Text => {
                let kind = self.style.kind;
                metadata["creationTimestamp"] = Value::Null;
                json!({
                    "kind": kind.name(),
                    "apiVersion": kind.api_version(),
                    "metadata": metadata,
                })
            }
        };
        write(&event("BOOKMARK", &object.to_string()), lines);
    }
}

/// A line of a watch, of an object that is written out already.
fn event(kind: &str, object: &str) -> String {
    format!("{{\"type\":\"{kind}\",\"object\":{object}}}")
}

fn write(event: &str, lines: &mut Vec<u8>) {
    lines.extend_from_slice(event.as_bytes());
    lines.push(b'\n');
}

/// What a change is to somebody who sees only what he asked for: an object that no longer matches is
/// gone to him.
fn tell(change: &Change, query: &Query, style: Style, now: Wall) -> Option<String> {
    let before = change.before.as_ref().filter(|item| query.wants(item));
    let after = change.after.as_ref().filter(|item| query.wants(item));
    match (before, after) {
        (None, Some(after)) => Some(event("ADDED", &style.text(after, now))),
        (Some(_), Some(after)) => Some(event("MODIFIED", &style.text(after, now))),
        (Some(before), None) => {
            let mut last = change.after.as_ref().unwrap_or(before).value();
            last["metadata"]["resourceVersion"] = change.version.to_string().into();
            Some(event("DELETED", &style.one(last, now).to_string()))
        }
        (None, None) => None,
    }
}
