//! A blob that another machine sends: no byte more than was said, and nothing of a wrong one stays.

use std::io::{Error, ErrorKind, Write as _};
use std::time::Duration;

use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::store::Store;
use crate::kinds::digest::Digest;
use crate::ports::Fault;

/// Takes a blob of `bytes` into the store, and tells of each piece how long it is. The sender may be
/// silent for `patience`.
pub(super) async fn receive(
    mut body: Incoming,
    (digest, bytes): (Digest, u64),
    store: &Store,
    patience: Duration,
    tell: &mut (dyn FnMut(u64) + Send),
) -> Result<(), Fault> {
    let disk = |error: Error| Fault::stalled(format!("{}: {error}", store.dir().display()));
    let mut coming = store.receive(Some(digest)).map_err(disk)?;
    let mut left = bytes;
    loop {
        let frame = tokio::time::timeout(patience, body.frame()).await;
        let frame = frame.map_err(|_| {
            Fault::deadline(format!("nothing has come for {} s", patience.as_secs()))
        })?;
        let Some(frame) = frame else { break };
        let frame = frame.map_err(|error| Fault::transient(format!("the line broke: {error}")))?;
        let Ok(piece) = frame.into_data() else { continue };
        left = left
            .checked_sub(piece.len() as u64)
            .ok_or_else(|| Fault::stalled(format!("more than the {bytes} bytes of it come")))?;
        coming.write_all(&piece).map_err(disk)?;
        tell(piece.len() as u64);
    }
    coming.end().map(|_| ()).map_err(|error| match error.kind() {
        ErrorKind::InvalidData => Fault::transient(error),
        _ => disk(error),
    })
}
