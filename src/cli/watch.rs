//! Being told of changes, line by line, for as long as a person likes to look.
//!
//! A watch is asked to end by itself after some minutes and is then taken up where it ended; an agent
//! that is silent for longer than that is taken for dead. Whoever has missed too much is told so
//! (410 Gone) and lists again.

use std::time::Duration;

use bytes::{Buf as _, BytesMut};
use serde_json::Value;
use tokio::time::timeout;

use super::client::{Client, Pieces, with_query};
use super::fault::{Failure, Refusal};

/// After this time the agent ends a watch, and it is begun anew.
const ROUND_S: &str = "300";
/// After this time without a word the agent is taken for dead.
const SILENCE_MAX: Duration = Duration::from_secs(330);
/// A longer line is none of an agent's.
const LINE_BYTES_MAX: usize = 64 << 20;
/// A watch that ends at once is not begun again at once.
const PAUSE: Duration = Duration::from_secs(1);

/// What has changed.
#[derive(Debug)]
pub(super) struct Event {
    /// `ADDED`, `MODIFIED`, `DELETED`.
    pub(super) change: String,
    /// The object, or a table of it.
    pub(super) object: Value,
}

/// A watch on some objects.
pub(super) struct Watch<'c> {
    client: &'c Client,
    path: String,
    accept: &'c str,
    version: String,
    pieces: Option<Pieces>,
    buffer: BytesMut,
    has_spoken: bool,
}

impl<'c> Watch<'c> {
    /// Watches what is at `path`, parameters included, from a version on.
    pub(super) fn new(client: &'c Client, path: String, accept: &'c str, version: &str) -> Self {
        Self {
            client,
            path,
            accept,
            version: version.to_owned(),
            pieces: None,
            buffer: BytesMut::new(),
            has_spoken: true,
        }
    }

    /// The next change. None if too much was missed: list again.
    pub(super) async fn next(&mut self) -> Result<Option<Event>, Failure> {
        loop {
            let Some(line) = self.line()? else {
                match self.read().await {
                    Ok(()) => continue,
                    Err(Failure::Refused(refusal)) if refusal.code == 410 => return Ok(None),
                    Err(failure) => return Err(failure),
                }
            };
            self.has_spoken = true;
            let change = line.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
            let object = line.get("object").cloned().unwrap_or_default();
            if let Some(version) = version(&object) {
                version.clone_into(&mut self.version);
            }
            match change.as_str() {
                "BOOKMARK" => {}
                "ERROR" => {
                    let code = object.get("code").and_then(Value::as_u64).unwrap_or_default();
                    let code = u16::try_from(code).unwrap_or_default();
                    if code == 410 {
                        return Ok(None);
                    }
                    let body = object.to_string();
                    return Err(Failure::Refused(Refusal::parse(code, body.as_bytes())));
                }
                _ => return Ok(Some(Event { change, object })),
            }
        }
    }

    /// Takes a whole line out of the buffer.
    fn line(&mut self) -> Result<Option<Value>, Failure> {
        while let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
            let line = self.buffer.split_to(end);
            self.buffer.advance(1);
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            let parsed = serde_json::from_slice(&line);
            return parsed.map(Some).map_err(|error| {
                Failure::plain(format!("the agent sent a line that is no JSON: {error}"))
            });
        }
        if self.buffer.len() > LINE_BYTES_MAX {
            return Err(Failure::plain("the agent sent a line without end"));
        }
        Ok(None)
    }

    /// Reads on, from the next round if this one has ended.
    async fn read(&mut self) -> Result<(), Failure> {
        let Some(pieces) = &mut self.pieces else {
            if !std::mem::take(&mut self.has_spoken) {
                tokio::time::sleep(PAUSE).await;
            }
            let watch = [
                ("watch", "true"),
                ("allowWatchBookmarks", "true"),
                ("resourceVersion", &self.version),
                ("timeoutSeconds", ROUND_S),
            ];
            let glue = if self.path.contains('?') { "&" } else { "?" };
            let query = with_query("", &watch);
            let path = format!("{}{glue}{}", self.path, query.trim_start_matches('?'));
            self.pieces = Some(self.client.stream(&path, self.accept).await?);
            self.buffer.clear();
            return Ok(());
        };
        match timeout(SILENCE_MAX, pieces.next()).await {
            Ok(Ok(Some(piece))) => self.buffer.extend_from_slice(&piece),
            Ok(Ok(None)) => self.pieces = None,
            // An agent that is restarted breaks the connection; the next round finds the new one,
            // or nobody, and says so.
            Ok(Err(_)) | Err(_) => {
                self.pieces = None;
                self.has_spoken = false;
            }
        }
        Ok(())
    }
}

/// The version an object, or a table of one, is of.
pub(super) fn version(object: &Value) -> Option<&str> {
    let row = object.pointer("/rows/0/object/metadata/resourceVersion");
    let own = object.pointer("/metadata/resourceVersion");
    row.or(own).and_then(Value::as_str).filter(|version| !version.is_empty())
}
