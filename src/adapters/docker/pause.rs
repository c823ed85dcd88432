//! The pause program, from the host's side: having its image, and seeing that it has done its work.
//!
//! The image is made from the program embedded in us and loaded where it is missing, so the first
//! pod needs no registry. It is used by id, never by name: whoever re-tags an image can't slip
//! another program into every pod.

use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;

use bollard::query_parameters::ImportImageOptions;
use futures_util::TryStreamExt as _;
use serde_json::json;
use tokio::sync::Mutex;

use super::archive::{self, Archive, Entry};
use super::{Docker, fault};
use crate::kinds::digest::Digest;
use crate::ports::Fault;

/// The program, for the machine we are compiled for; see `pause/main.rs`.
const PROGRAM: &[u8] = include_bytes!(env!("WINDLASS_PAUSE"));
/// The argument that has it make its own network namespace.
pub(super) const OWN_NETWORK: &str = "own-network";
/// The exit code that says that it could not (`pause/main.rs`).
pub(super) const EXIT_NO_NETWORK: i64 = 101;
/// How long it may take. It is a handful of system calls; only a machine brought to its knees
/// takes longer.
const READY_MAX: Duration = Duration::from_secs(10);
const READY_STEP: Duration = Duration::from_millis(1);

/// The pause image's id, once it is known to be here.
#[derive(Default)]
pub(super) struct Image {
    id: Mutex<Option<String>>,
}

/// The name tells programs apart, so two versions of us on one host don't take turns re-tagging.
fn name() -> String {
    format!("windlass.local/pause:{}", &Digest::of(PROGRAM).hex()[..12])
}

fn archive() -> io::Result<Archive> {
    let program = Entry::File { path: "pause", content: PROGRAM, mode: 0o755 };
    archive::image(&name(), &[program], &json!({"Entrypoint": ["/pause"]}))
}

impl Docker {
    /// The pause image's id; loads the image if it is missing. One load at a time.
    pub(super) async fn pause_image(&self) -> Result<String, Fault> {
        let mut known = self.inner.pause.id.lock().await;
        if let Some(id) = &*known {
            return Ok(id.clone());
        }
        let archive = archive().map_err(|error| Fault::stalled(format!("pause image: {error}")))?;
        let found = match self.find_pause(&archive).await? {
            Some(id) => id,
            None => {
                self.load(archive.tar.clone()).await?;
                tracing::info!(image = name(), "pause image loaded");
                self.find_pause(&archive).await?.ok_or_else(|| {
                    Fault::transient("Docker has loaded the pause image and doesn't find it")
                })?
            }
        };
        *known = Some(found.clone());
        Ok(found)
    }

    /// Forgets the id: Docker says that there is no such image.
    pub(super) async fn forget_pause_image(&self) {
        *self.inner.pause.id.lock().await = None;
    }

    /// By id in Docker's classic store. In containerd's the id is another's digest, so by name, and
    /// it must consist of our layer.
    async fn find_pause(&self, archive: &Archive) -> Result<Option<String>, Fault> {
        let client = self.client().await?;
        for reference in [&archive.id, &name()] {
            let found = match client.inspect_image(reference).await {
                Ok(found) => found,
                Err(error) if fault::status(&error) == Some(404) => continue,
                Err(error) => return Err(self.fault(&error)),
            };
            let layers = found.root_fs.and_then(|root| root.layers);
            if layers.is_some_and(|layers| layers == [archive.diff_id.as_str()]) {
                return Ok(found.id);
            }
        }
        Ok(None)
    }

    /// `docker load`.
    pub(super) async fn load(&self, tar: Vec<u8>) -> Result<(), Fault> {
        let client = self.client().await?;
        client
            .import_image(ImportImageOptions::default(), bollard::body_full(tar.into()), None)
            .try_for_each(|_| std::future::ready(Ok(())))
            .await
            .map_err(|error| self.fault(&error).while_doing("loading an image"))
    }
}

/// What became of a pause program after its start.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Readiness {
    /// It has its network and has dropped everything.
    Ready,
    /// It has ended.
    Ended,
}

/// Waits until process `pid` has dropped all its rights, which it does last, and checks that its
/// network is neither ours nor the machine's first process'.
pub(super) async fn ready(pid: u32, makes_network: bool) -> Result<Readiness, Fault> {
    let wait = async {
        loop {
            match has_dropped_all(pid) {
                Ok(true) => return Ok(Readiness::Ready),
                Ok(false) => tokio::time::sleep(READY_STEP).await,
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    return Ok(Readiness::Ended);
                }
                Err(error) => return Err(Fault::transient(format!("/proc/{pid}: {error}"))),
            }
        }
    };
    let readiness = tokio::time::timeout(READY_MAX, wait).await.unwrap_or_else(|_| {
        Err(Fault::deadline(format!(
            "the pause program has not got ready in {} s",
            READY_MAX.as_secs()
        )))
    })?;
    if readiness == Readiness::Ready && makes_network {
        let own = network_of(&pid.to_string());
        for other in ["self", "1"] {
            if own.is_some() && own == network_of(other) {
                return Err(Fault::stalled("the pause program is in the node's network namespace"));
            }
        }
    }
    Ok(readiness)
}

/// The inode of a process' network namespace, where it can be seen.
fn network_of(process: &str) -> Option<u64> {
    let seen = std::fs::metadata(format!("/proc/{process}/ns/net")).ok()?;
    Some(seen.ino())
}

/// Reads `/proc/<pid>/status`. A zombie's says nothing of value: it counts as not found.
fn has_dropped_all(pid: u32) -> io::Result<bool> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if field("State:").is_some_and(|state| state.starts_with(['Z', 'X'])) {
        return Err(io::Error::from(io::ErrorKind::NotFound));
    }
    let is_empty = |name| field(name).is_some_and(|set| set.bytes().all(|digit| digit == b'0'));
    Ok(["CapPrm:", "CapEff:", "CapBnd:"].into_iter().all(is_empty)
        && field("NoNewPrivs:") == Some("1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_a_small_static_executable() {
        assert_eq!(&PROGRAM[..4], b"\x7fELF");
        assert!(PROGRAM.len() < 16 * 1024, "{} bytes", PROGRAM.len());
        // No interpreter is named, so nothing need be in the image beside it.
        assert!(!PROGRAM.windows(3).any(|bytes| bytes == b"ld-"));
    }

    #[test]
    fn the_image_is_always_the_same() {
        let (one, other) = (archive().expect("made"), archive().expect("made"));
        assert_eq!((one.id, one.tar), (other.id, other.tar));
    }

    #[tokio::test]
    async fn who_has_rights_left_is_not_ready() {
        assert!(!has_dropped_all(std::process::id()).expect("read"));
        assert_eq!(
            ready(u32::MAX, true).await.expect("answered"),
            Readiness::Ended,
            "no such process"
        );
    }
}
