//! Handing an archive to Docker, and keeping what Docker forgets.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::mpsc;

use super::archive;
use super::layout::Image;
use crate::adapters::docker::Docker;
use crate::adapters::git::write_file;
use crate::kinds::digest::Digest;
use crate::ports::Fault;

/// How much is handed over at once, and how many of these may wait.
const PIECE_BYTES: usize = 256 << 10;
const PIECES_MAX: usize = 8;
/// Digests kept; an image has two at most.
const DIGESTS_MAX: usize = 20_000;

/// Loads images of an archive.
pub(super) async fn hand_over(
    docker: &Docker,
    at: &Path,
    mut images: Vec<Image>,
) -> Result<(), Fault> {
    let (pieces, mut waiting) = mpsc::channel::<io::Result<Bytes>>(PIECES_MAX);
    let path = at.to_owned();
    let writing = tokio::task::spawn_blocking(move || {
        let mut out = io::BufWriter::with_capacity(PIECE_BYTES, Pieces(pieces.clone()));
        let written = (|| {
            if path.is_dir() {
                images.iter_mut().try_for_each(|image| archive::measure(&path, image))?;
            }
            archive::write_docker(&path, &images, &mut out)
        })();
        if written.is_err() {
            // What is in the writer must not reach Docker as if it were the end.
            let _ = out.into_parts();
            let _ = pieces.blocking_send(Err(io::Error::other("the archive can't be read")));
        }
        written
    });
    let stream = futures_util::stream::poll_fn(move |context| waiting.poll_recv(context));
    let loaded = docker.load_stream(stream).await;
    let written =
        writing.await.map_err(|_| Fault::transient("reading the archive was broken off"))?;
    match (loaded, written) {
        // Docker does not read on when it has failed: then it says why.
        (Err(fault), Err(why)) if why.contains(NOBODY) => Err(fault),
        // What is wrong with the archive says more than what Docker makes of its end.
        (_, Err(why)) => Err(Fault::stalled(format!("{}: {why}", at.display()))),
        (loaded, Ok(())) => loaded,
    }
}

/// What is said when Docker reads no further.
const NOBODY: &str = "Docker reads no further";

struct Pieces(mpsc::Sender<io::Result<Bytes>>);

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Ok(Bytes::copy_from_slice(bytes));
        self.0.blocking_send(piece).map_err(|_| io::Error::other(NOBODY))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Notes that these digests stand for this image of Docker.
pub(super) fn remember(map: &Path, digests: &[Digest], id: &str) -> io::Result<()> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _one = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut known: BTreeMap<String, String> = std::fs::read(map)
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let before = known.clone();
    if known.len() + digests.len() > DIGESTS_MAX {
        // Whatever is still needed is found in its archive again.
        known.clear();
    }
    known.extend(digests.iter().map(|digest| (digest.prefixed(), id.to_owned())));
    if known == before {
        return Ok(());
    }
    write_file(map, &serde_json::to_vec_pretty(&known)?)
}
