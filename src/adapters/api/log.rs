//! A container's log, as it was written and as it goes on.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::OwnedSemaphorePermit;

use super::ask::Parameters;
use super::container::{self, Want};
use super::reply::{self, Answer, No};
use super::serve::Api;
use crate::adapters::clock;
use crate::adapters::docker::{LogOptions, Pieces};
use crate::kinds::object::Key;
use crate::kinds::time::Wall;
use crate::ports::Fault;

/// How long Docker may take to begin.
const BEGIN_MAX: Duration = Duration::from_secs(30);

/// The log of a pod's container.
pub(super) async fn log(api: &Arc<Api>, key: &Key, asked: &Parameters) -> Result<Answer, No> {
    let options = options(asked)?;
    let limit = asked.number::<u64>("limitBytes")?;
    let want = if asked.is_true("previous") { Want::PreviousLog } else { Want::Log };
    let id = container::find(&api.picture(), key, asked.get("container"), want)?;
    let place = if options.follow { Some(api.place()?) } else { None };
    let begun = tokio::time::timeout(BEGIN_MAX, api.backend.logs(&id, &options));
    let pieces = begun.await.map_err(|_| No::timeout("Docker does not answer"))??;
    let tail = Tail { pieces, left: limit.unwrap_or(u64::MAX), _place: place };
    let stream = futures_util::stream::try_unfold(tail, Tail::next);
    Ok(reply::stream("text/plain", Box::pin(stream)))
}

fn options(asked: &Parameters) -> Result<LogOptions, No> {
    let seconds = asked.number::<u64>("sinceSeconds")?;
    let time = asked.get("sinceTime");
    let since = match (seconds, time) {
        (Some(_), Some(_)) => {
            return Err(No::bad("at most one of sinceTime or sinceSeconds may be specified"));
        }
        (Some(seconds), None) => {
            let back = i64::try_from(seconds).unwrap_or(i64::MAX);
            Some(Wall::from_seconds(clock::now().wall.seconds().saturating_sub(back)))
        }
        (None, Some(time)) => Some(
            Wall::parse(time)
                .ok_or_else(|| No::bad(format!("sinceTime: '{time}' is no time (RFC 3339)")))?,
        ),
        (None, None) => None,
    };
    let stream = asked.get("stream").unwrap_or("All");
    if !["All", "Stdout", "Stderr"].contains(&stream) {
        return Err(No::bad(format!("stream: '{stream}' is none of All, Stdout, Stderr")));
    }
    Ok(LogOptions {
        follow: asked.is_true("follow"),
        tail: asked.number("tailLines")?,
        since,
        timestamps: asked.is_true("timestamps"),
        stdout: stream != "Stderr",
        stderr: stream != "Stdout",
    })
}

/// A log being sent.
struct Tail {
    pieces: Pieces,
    left: u64,
    _place: Option<OwnedSemaphorePermit>,
}

impl Tail {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, Fault> {
        if self.left == 0 {
            return Ok(None);
        }
        let Some(piece) = self.pieces.next().await else {
            return Ok(None);
        };
        let (_, mut bytes) = piece?;
        bytes.truncate(usize::try_from(self.left).unwrap_or(usize::MAX));
        self.left -= bytes.len() as u64;
        Ok(Some((bytes, self)))
    }
}
