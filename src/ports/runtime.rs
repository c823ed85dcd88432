//! The container runtime: Docker, or the simulation's.
//!
//! Everything needed to take a container over again is in its labels, because a restarted agent has
//! nothing else to go by (docs/DESIGN.md §5).

use std::collections::BTreeMap;
use std::time::Duration;

use super::larder::{ImageKey, Named, Stock};
use crate::kinds::name::{Name, PodKey, Uid};
use crate::kinds::time::Wall;

/// Docker's id of a container.
pub type ContainerId = std::sync::Arc<str>;

/// What may be asked of the runtime.
#[derive(Clone, Debug)]
pub enum Call {
    /// All containers that carry our mark.
    List,
    /// One container.
    Inspect(ContainerId),
    /// Have an image on this node.
    EnsureImage(ImageWish),
    /// Make a container and start it. One of that name that was started already is what was asked
    /// for; one that was not is made anew.
    Start(Box<ContainerSpec>),
    /// Send a signal to a container's first process.
    Signal {
        /// Which.
        id: ContainerId,
        /// `TERM`, `KILL` …; the image's own stop signal where empty.
        signal: String,
    },
    /// Remove containers, running or not.
    Remove {
        /// Which.
        ids: Vec<ContainerId>,
    },
    /// Remove a Docker volume that bears our mark, data and all. One that is not there is as good as
    /// removed.
    RemoveVolume {
        /// Its name.
        name: String,
    },
    /// Run a program in a container and wait for its end.
    Exec {
        /// Where.
        id: ContainerId,
        /// What.
        command: Vec<String>,
        /// How long it may take; it is killed after that.
        timeout: Duration,
    },
    /// The end of what a container said: at most [`TAIL_LINES_MAX`] lines, [`TAIL_BYTES_MAX`] bytes.
    Tail(ContainerId),
    /// What the runtime says of itself and its host, and which images there are.
    Survey,
    /// Keep what revisions have named for the agent's next life.
    NoteNamed(Box<Named>),
    /// Remove images. One that something uses after all stays.
    RemoveImages(Vec<ImageKey>),
}

/// Lines taken from a log as a container's last words
/// (`MaxContainerTerminationMessageLogLines` of Kubernetes).
pub const TAIL_LINES_MAX: u64 = 80;
/// Bytes taken from a log as a container's last words (`MaxContainerTerminationMessageLogLength`).
pub const TAIL_BYTES_MAX: usize = 2048;

/// What comes back.
#[derive(Clone, Debug)]
pub enum Answer {
    /// To [`Call::List`].
    Containers(Vec<ContainerSeen>),
    /// To [`Call::Inspect`]; none if it is gone.
    Container(Option<Box<ContainerSeen>>),
    /// To [`Call::EnsureImage`].
    Image(Box<ImageSeen>),
    /// To [`Call::Start`].
    Started(Box<ContainerSeen>),
    /// To [`Call::Signal`], [`Call::Remove`], [`Call::RemoveVolume`] and [`Call::NoteNamed`].
    Done,
    /// To [`Call::Exec`].
    Exec(ExecResult),
    /// To [`Call::Tail`].
    Text(String),
    /// To [`Call::Survey`].
    Survey(Box<RuntimeSeen>),
    /// To [`Call::RemoveImages`]: those that are gone.
    Removed(Vec<ImageKey>),
}

/// An image wanted on this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageWish {
    /// As written in the manifest.
    pub image: String,
    /// Whether the registry is asked.
    pub pull: Pull,
    /// Registry credentials to try, in order: contents of `.dockerconfigjson`.
    pub credentials: Vec<Credentials>,
}

/// Whether the registry is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// Always.
    Always,
    /// If the image is missing.
    Missing,
    /// Never.
    Never,
}

/// Credentials of a registry. Never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// The registry they are for, as written: a host, a host with a path, a URL.
    pub registry: String,
    /// User name.
    pub username: String,
    /// Password or token.
    pub password: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials for {}", self.registry)
    }
}

/// An image on this node.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImageSeen {
    /// Its id, `sha256:…`.
    pub id: String,
    /// Where it came from, by digest: `repo@sha256:…`; empty for images made or loaded here.
    pub digest: String,
    /// The user its processes run as: a name or a number, with an optional group; empty is root.
    pub user: String,
    /// Whether it has an entry point or a command.
    pub has_command: bool,
    /// How long the pull took; none if it was here already.
    pub pulled: Option<Duration>,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Pulls under way, by the image's complete name. They are watched, not asked for: how far a pull has
/// come changes several times a second, and nothing is decided by it.
pub type Pulls = BTreeMap<String, PullProgress>;

/// How far the pull of an image has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PullProgress {
    /// It waits for other pulls to end.
    pub is_queued: bool,
    /// Bytes that have come.
    pub bytes_done: u64,
    /// Bytes there are, of the layers whose size is known.
    pub bytes_total: u64,
    /// Layers that are in place.
    pub layers_done: u32,
    /// Layers there are; none until the registry has answered.
    pub layers_total: u32,
    /// Layers whose size is not known yet: the runtime tells it when it begins with one.
    pub layers_unsized: u32,
}

impl PullProgress {
    /// How much has come, of a hundred; none until the size of every layer is known.
    pub fn percent(&self) -> Option<u8> {
        if self.layers_unsized > 0 {
            return None;
        }
        let percent =
            (self.bytes_done.min(self.bytes_total) * 100).checked_div(self.bytes_total)?;
        u8::try_from(percent).ok()
    }
}

/// A container to be made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ContainerSpec {
    /// Its name in Docker.
    pub name: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The image, by id or name; empty for the pause image.
    pub image: String,
    /// Replaces the image's entry point if given.
    pub entrypoint: Option<Vec<String>>,
    /// Replaces the image's arguments if given.
    pub command: Option<Vec<String>>,
    /// `NAME=value`.
    pub env: Vec<String>,
    /// Replaces the image's working directory if given.
    pub working_dir: Option<String>,
    /// `uid`, `uid:gid`; the image's where absent.
    pub user: Option<String>,
    /// Further groups.
    pub groups: Vec<String>,
    /// Host name, where the network is its own.
    pub hostname: Option<String>,
    /// Its network.
    pub network: NetworkMode,
    /// Its IPC and process ids: see [`Share`].
    pub ipc: Share,
    /// Process ids.
    pub pid: Share,
    /// What is mounted.
    pub mounts: Vec<MountSpec>,
    /// Memory limit in bytes.
    pub memory_bytes: Option<i64>,
    /// Relative weight.
    pub cpu_shares: Option<i64>,
    /// CPU limit in microseconds per 100 ms.
    pub cpu_quota_us: Option<i64>,
    /// How readily the kernel kills it.
    pub oom_score_adj: i64,
    /// All rights of the node.
    pub privileged: bool,
    /// Capabilities added.
    pub cap_add: Vec<String>,
    /// Capabilities dropped.
    pub cap_drop: Vec<String>,
    /// Docker's `--security-opt`.
    pub security_opts: Vec<String>,
    /// The root file system can't be written.
    pub read_only_root: bool,
    /// `/proc` is not masked.
    pub unmasked_proc: bool,
    /// Kernel parameters of its own namespaces; only where the network is its own.
    pub sysctls: BTreeMap<String, String>,
    /// Keep standard input open.
    pub stdin: bool,
    /// Close it after the first attach.
    pub stdin_once: bool,
    /// Give it a terminal.
    pub tty: bool,
    /// The signal that asks it to stop; the image's where absent.
    pub stop_signal: Option<String>,
}

/// A container's network.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum NetworkMode {
    /// A new one, that nothing but we will connect: the pause container's.
    #[default]
    New,
    /// Another container's, by id or by name.
    Of(ContainerId),
    /// The node's.
    Host,
}

/// What a container shares of IPC or process ids.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Share {
    /// Its own.
    #[default]
    Own,
    /// Its own, open to others.
    Open,
    /// Another container's.
    Of(ContainerId),
    /// The node's.
    Host,
}

/// Something mounted into a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MountSpec {
    /// What is mounted.
    pub source: MountSource,
    /// Where.
    pub target: String,
    /// Whether writing is refused.
    pub read_only: bool,
    /// `rprivate`, `rslave`, `rshared`.
    pub propagation: &'static str,
}

/// What is mounted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MountSource {
    /// A path of the node.
    Path(String),
    /// A Docker volume, made if it is missing.
    Volume {
        /// Its name.
        name: String,
        /// Its driver.
        driver: String,
        /// What the driver is told.
        options: BTreeMap<String, String>,
    },
}

/// A container as the runtime sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerSeen {
    /// Its id.
    pub id: ContainerId,
    /// What our labels on it say.
    pub marks: Marks,
    /// What it does.
    pub state: RunState,
    /// The id of its image.
    pub image_id: String,
}

/// What a container does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Made, never started.
    Created,
    /// Running.
    Running {
        /// Since when.
        started: Wall,
        /// Its first process.
        pid: u32,
    },
    /// Ended.
    Ended {
        /// When it began; none if it could not be started.
        started: Option<Wall>,
        /// When it ended.
        finished: Wall,
        /// The exit code, 128 + n after signal n.
        exit_code: i64,
        /// The kernel killed it for its memory.
        oom_killed: bool,
        /// Why it could not be started.
        error: Option<String>,
    },
}

impl ContainerSeen {
    /// Whether it runs now.
    pub fn is_running(&self) -> bool {
        matches!(self.state, RunState::Running { .. })
    }

    /// Its first process, while it runs.
    pub fn pid(&self) -> Option<u32> {
        match self.state {
            RunState::Running { pid, .. } => Some(pid),
            RunState::Created | RunState::Ended { .. } => None,
        }
    }
}

/// What our labels on a container say: enough to take it over again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Marks {
    /// The node that made it: two agents may share a machine in a lab.
    pub node: Name,
    /// The pod.
    pub pod: PodKey,
    /// Which life of the pod.
    pub uid: Uid,
    /// What it is.
    pub role: Role,
    /// How often it was started again before this one.
    pub attempt: u32,
    /// The back-off that stood before this one was started.
    pub backoff: Duration,
    /// How long its pod may take to stop.
    pub grace_s: u32,
    /// The pod's address; on the pause container.
    pub ip: Option<std::net::Ipv4Addr>,
    /// Which making of the pod's sandbox it belongs to: containers of an older one are leftovers.
    pub sandbox: u32,
}

/// What a container is to its pod.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// Holds the network.
    Pause,
    /// Runs before the others; sidecars too.
    Init(Name),
    /// One of the pod's containers.
    App(Name),
}

impl Role {
    /// The container's name, none for pause.
    pub fn container(&self) -> Option<&Name> {
        match self {
            Self::Pause => None,
            Self::Init(name) | Self::App(name) => Some(name),
        }
    }
}

/// How a program run in a container ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExecResult {
    /// Its exit code.
    pub exit_code: i64,
    /// What it printed; bounded.
    pub output: String,
}

/// What the runtime says of itself and its host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RuntimeSeen {
    /// `20.10.24`.
    pub version: String,
    /// `6.1.0-18-amd64`.
    pub kernel: String,
    /// `Debian GNU/Linux 12 (bookworm)`.
    pub os: String,
    /// `amd64`.
    pub arch: String,
    /// How many CPUs.
    pub cpus: u32,
    /// How much memory.
    pub memory_bytes: u64,
    /// Images: (names, size in bytes, id).
    pub images: Vec<(Vec<String>, u64, String)>,
    /// What lies here of images, and on which disks; absent where that can't be told.
    pub stock: Option<Stock>,
}

/// What is heard from the runtime without asking. A hint: the agent looks for itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuntimeHint {
    /// This container has changed its state, or is gone.
    Changed(ContainerId),
    /// Images have come that were not there: whoever waits for one may ask again.
    Images,
    /// The runtime was not heard for a while, or is heard for the first time: anything may have
    /// changed, so everything must be listed again. What changes from now on is told.
    Resync,
}

/// Kubernetes' word for what failed, where it has one. It stands at the beginning of a
/// [`Fault`](super::Fault)'s message, before `: `.
pub const REASONS: [&str; 6] = [
    REASON_CREATE,
    REASON_RUN,
    REASON_CANNOT_RUN,
    REASON_PULL,
    REASON_NEVER_PULL,
    REASON_IMAGE_NAME,
];
/// The container could not be made.
pub const REASON_CREATE: &str = "CreateContainerError";
/// The container was made, and the runtime could not start it.
pub const REASON_RUN: &str = "RunContainerError";
/// The container was made, and its program could not be run: not found, or not to be executed.
pub const REASON_CANNOT_RUN: &str = "ContainerCannotRun";
/// The image could not be had.
pub const REASON_PULL: &str = "ErrImagePull";
/// The image is missing, and must not be pulled.
pub const REASON_NEVER_PULL: &str = "ErrImageNeverPull";
/// The image's name can't be one.
pub const REASON_IMAGE_NAME: &str = "InvalidImageName";

/// Splits a fault's message into Kubernetes' word and the text for people.
pub fn split_reason(fault: &super::Fault) -> (Option<&'static str>, &str) {
    let message = fault.message.as_str();
    REASONS
        .into_iter()
        .find_map(|reason| Some((Some(reason), message.strip_prefix(reason)?.strip_prefix(": ")?)))
        .unwrap_or((None, message))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ports::Fault;

    #[test]
    fn a_reason_is_told_from_the_text() {
        for (message, reason, text) in [
            ("ErrImagePull: no such image", Some(REASON_PULL), "no such image"),
            ("dockerd: gone", None, "dockerd: gone"),
            ("ErrImagePull", None, "ErrImagePull"),
        ] {
            assert_eq!(split_reason(&Fault::stalled(message)), (reason, text));
        }
    }
}
