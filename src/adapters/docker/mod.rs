//! Docker, as a captain speaks to the engine room: short orders, and an answer for each.
//!
//! The rule: nothing is remembered that Docker or the labels on a container don't also know, so this
//! may be dropped and made again at any moment. What is kept is only for speed: what a container
//! was last seen doing, the pause image's id, what this host has refused. The limit: Docker and we
//! share a machine; processes are looked at in `/proc`.
//!
//! ```text
//!   perform ─┬─ Start ───────── start: create, start, wait for pause   ◀─ body, pause, archive
//!            ├─ List, Inspect ─ seen: what containers do               ◀─ watch forgets
//!            ├─ EnsureImage ─── images: look, pull, share pulls      ▶ load: from elsewhere
//!            ├─ Exec ────────── exec: run, read, time out
//!            └─ Signal, Remove, Survey
//!   watch ───── events, as hints
//!   logs, exec_stream, attach ─ streams, for people
//! ```
//!
//! Docker 20.10 (API 1.41) to 29 (1.52) are spoken to; the version is agreed on at the first call and
//! again after Docker was away, because it may have come back as another.

pub mod archive;
mod body;
mod control;
mod exec;
mod fault;
mod images;
mod load;
mod oom;
mod pause;
mod progress;
mod seen;
mod start;
mod stock;
mod streams;
mod watch;
mod wire;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::{RwLock, Semaphore};

pub(crate) use stock::HeldImage;
pub use streams::{Control, LogOptions, Pieces, Session, Which};

use crate::kinds::name::Name;
use crate::ports::Fault;
use crate::ports::runtime::{Answer, Call};

/// Seconds until a request that should be answered at once is given up. Docker answers slowly when
/// its disk does; longer than this, something is stuck.
const REQUEST_S_MAX: u64 = 120;
/// Requests of one kind under way at once. Measured on two cores: 30 pods are started fastest four
/// at a time.
const AT_ONCE_MIN: usize = 4;
/// More would only queue in Docker, where they can't be given up.
const AT_ONCE_MAX: usize = 16;

/// Where Docker is, and who we are.
#[derive(Clone, Debug)]
pub struct Options {
    /// Docker's socket.
    pub socket: PathBuf,
    /// This node: containers of other nodes on the same Docker are neither seen nor touched.
    pub node: Name,
    /// The node's own registry credentials, a Docker `config.json`; tried after a pod's.
    pub registry_config: Option<PathBuf>,
    /// Which image id a digest stands for, as a JSON object: Docker forgets digests of images that
    /// were loaded from archives.
    pub digest_map: Option<PathBuf>,
}

/// Docker on this machine. Cheap to clone.
#[derive(Clone)]
pub struct Docker {
    inner: Arc<Inner>,
}

struct Inner {
    options: Options,
    /// The agreed client; none until Docker was reached, and after it was lost.
    client: RwLock<Option<bollard::Docker>>,
    seen: seen::Memory,
    pause: pause::Image,
    refused: Refused,
    kernel_log: oom::KernelLog,
    flights: images::Flights,
    progress: progress::Board,
    at_once: Semaphore,
}

/// What this host has refused, so that it is asked and said once.
#[derive(Default)]
struct Refused {
    /// Host network for the pause container: user namespaces are in use.
    host_network: AtomicBool,
    /// A negative `oom_score_adj`: no CAP_SYS_RESOURCE.
    oom_score: AtomicBool,
    /// Whether it has ever granted one: then failures have other reasons.
    oom_score_granted: AtomicBool,
}

impl Docker {
    /// Takes note of where Docker is. Asks nothing yet: Docker may come up later than we do.
    pub fn connect(options: Options) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let at_once = (cpus * 2).clamp(AT_ONCE_MIN, AT_ONCE_MAX);
        Self {
            inner: Arc::new(Inner {
                options,
                client: RwLock::new(None),
                seen: seen::Memory::default(),
                pause: pause::Image::default(),
                refused: Refused::default(),
                kernel_log: oom::KernelLog::default(),
                flights: images::Flights::default(),
                progress: progress::Board::default(),
                at_once: Semaphore::new(at_once),
            }),
        }
    }

    /// Carries out a call.
    pub async fn perform(&self, call: Call) -> Result<Answer, Fault> {
        match call {
            Call::List => self.list().await.map(Answer::Containers),
            Call::Inspect(id) => {
                let seen = self.inspect(&id).await?;
                Ok(Answer::Container(seen.map(Box::new)))
            }
            Call::EnsureImage(wish) => {
                let image = self.ensure_image(wish).await?;
                Ok(Answer::Image(Box::new(image)))
            }
            Call::Start(spec) => {
                let seen = self.start(&spec).await?;
                Ok(Answer::Started(Box::new(seen)))
            }
            Call::Signal { id, signal } => self.signal(&id, &signal).await.map(|()| Answer::Done),
            Call::Remove { ids } => self.remove(&ids).await.map(|()| Answer::Done),
            Call::RemoveVolume { name } => self.remove_volume(&name).await.map(|()| Answer::Done),
            Call::Exec { id, command, timeout } => {
                self.exec(&id, command, timeout).await.map(Answer::Exec)
            }
            Call::Tail(id) => self.tail(&id).await.map(Answer::Text),
            Call::Survey => {
                let (seen, ..) = self.survey().await?;
                Ok(Answer::Survey(Box::new(seen)))
            }
            Call::NoteNamed(_) | Call::RemoveImages(_) => {
                Err(Fault::stalled("this call is carried out by the images' adapter"))
            }
        }
    }

    /// The client, agreed with Docker on a version of the API.
    async fn client(&self) -> Result<bollard::Docker, Fault> {
        if let Some(client) = &*self.inner.client.read().await {
            return Ok(client.clone());
        }
        let mut place = self.inner.client.write().await;
        if let Some(client) = &*place {
            return Ok(client.clone());
        }
        let socket = self.inner.options.socket.to_string_lossy();
        let client = bollard::Docker::connect_with_unix(
            &socket,
            REQUEST_S_MAX,
            bollard::API_DEFAULT_VERSION,
        )
        .map_err(|error| self.fault(&error))?
        .with_request_modifier(images::spell_credentials)
        .negotiate_version()
        .await
        .map_err(|error| self.fault(&error))?;
        *place = Some(client.clone());
        Ok(client)
    }

    /// Forgets the client: Docker was lost, and what comes back may speak another version.
    async fn forget_client(&self) {
        *self.inner.client.write().await = None;
    }

    fn fault(&self, error: &bollard::errors::Error) -> Fault {
        fault::of(error, &self.inner.options.socket)
    }
}
