//! What containers do, and remembering it for as long as it is surely true.
//!
//! Docker's list says whether a container runs, not since when nor as which process; that takes a
//! look at each. A container's life is short of changes, and Docker tells each of them, so what was
//! seen is remembered until Docker tells something about that container, and only while Docker is
//! being heard. An idle node is thus one list call.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bollard::models::{ContainerInspectResponse, ContainerSummary, ContainerSummaryStateEnum};
use bollard::query_parameters::ListContainersOptions;
use futures_util::{StreamExt as _, TryStreamExt as _};

use super::stock::HeldImage;
use super::{AT_ONCE_MIN, Docker, fault};
use crate::kinds::time::Wall;
use crate::ports::Fault;
use crate::ports::marks;
use crate::ports::runtime::{ContainerId, ContainerSeen, Marks, RunState, RuntimeSeen};

/// The exit code after SIGKILL, which is also how the kernel kills for memory.
const EXIT_KILLED: i64 = 137;
/// Docker's "never".
const NEVER: &str = "0001-";

/// What was last seen of each container.
#[derive(Default)]
pub(super) struct Memory {
    book: Mutex<Book>,
}

#[derive(Default)]
struct Book {
    /// Docker's events arrive: what is remembered is true or about to be forgotten.
    is_heard: bool,
    /// Raised whenever everything is forgotten.
    era: u64,
    pages: BTreeMap<ContainerId, Page>,
    /// Containers whose labels were reported as unreadable.
    reported: BTreeSet<ContainerId>,
}

#[derive(Default)]
struct Page {
    /// Raised by each event.
    changes: u64,
    seen: Option<ContainerSeen>,
}

/// When a look was begun: what has happened since makes it worthless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Edition {
    era: u64,
    changes: u64,
}

impl Book {
    fn edition(&self, id: &str) -> Edition {
        Edition { era: self.era, changes: self.pages.get(id).map_or(0, |page| page.changes) }
    }

    fn forget(&mut self, is_heard: bool) {
        self.is_heard = is_heard;
        self.era += 1;
        self.pages.clear();
    }
}

impl Memory {
    fn book(&self) -> MutexGuard<'_, Book> {
        // Every change leaves the book whole, so a panic elsewhere spoils nothing.
        self.book.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Docker is heard from now on.
    pub(super) fn heard(&self) {
        self.book().forget(true);
    }

    /// Docker is no longer heard: nothing remembered is sure.
    pub(super) fn lost(&self) {
        self.book().forget(false);
    }

    /// Something happened to a container.
    pub(super) fn changed(&self, id: &ContainerId) {
        let mut book = self.book();
        let page = book.pages.entry(id.clone()).or_default();
        page.changes += 1;
        page.seen = None;
    }

    fn edition(&self, id: &str) -> Edition {
        self.book().edition(id)
    }

    fn note(&self, begun: Edition, seen: &ContainerSeen) {
        let mut book = self.book();
        if book.is_heard && book.edition(&seen.id) == begun {
            book.pages.entry(seen.id.clone()).or_default().seen = Some(seen.clone());
        }
    }

    /// What is remembered of a container, if the list doesn't say otherwise.
    fn recall(&self, id: &str, listed: Option<ContainerSummaryStateEnum>) -> Option<ContainerSeen> {
        let book = self.book();
        let seen = book.pages.get(id)?.seen.clone()?;
        use ContainerSummaryStateEnum as Listed;
        let agrees = match seen.state {
            RunState::Running { .. } => {
                matches!(listed, Some(Listed::RUNNING | Listed::PAUSED))
            }
            RunState::Ended { started: Some(_), .. } => {
                matches!(listed, Some(Listed::EXITED | Listed::DEAD))
            }
            RunState::Created | RunState::Ended { started: None, .. } => {
                listed == Some(Listed::CREATED)
            }
        };
        agrees.then_some(seen)
    }

    fn keep_only(&self, ids: &BTreeSet<ContainerId>) {
        let mut book = self.book();
        book.pages.retain(|id, _| ids.contains(id));
        book.reported.retain(|id| ids.contains(id));
    }

    fn is_first_report(&self, id: &str) -> bool {
        self.book().reported.insert(id.into())
    }
}

impl Docker {
    /// All containers of this node, running or not.
    pub(super) async fn list(&self) -> Result<Vec<ContainerSeen>, Fault> {
        let client = self.client().await?;
        let mark = format!("{}={}", marks::NODE, self.inner.options.node);
        let options = ListContainersOptions {
            all: true,
            filters: Some([("label".to_owned(), vec![mark])].into()),
            ..ListContainersOptions::default()
        };
        let listed = client
            .list_containers(Some(options))
            .await
            .map_err(|error| self.fault(&error).while_doing("listing containers"))?;
        let ids = listed
            .iter()
            .filter_map(|summary| summary.id.as_deref().map(ContainerId::from))
            .collect();
        self.inner.seen.keep_only(&ids);
        let seen: Vec<Option<ContainerSeen>> = futures_util::stream::iter(listed)
            .map(|summary| self.complete(summary))
            .buffered(AT_ONCE_MIN)
            .try_collect()
            .await?;
        Ok(seen.into_iter().flatten().collect())
    }

    /// What the list lacks of a container; none if its labels can't be read, or if it is gone.
    async fn complete(&self, summary: ContainerSummary) -> Result<Option<ContainerSeen>, Fault> {
        let Some(id) = summary.id else {
            return Ok(None);
        };
        let labels = summary.labels.unwrap_or_default();
        if let Err(why) = Marks::from_labels(|key| labels.get(key).map(String::as_str)) {
            if self.inner.seen.is_first_report(&id) {
                tracing::warn!(container = %id, why, "a container bears our mark and can't be read; it is left alone");
            }
            return Ok(None);
        }
        if let Some(seen) = self.inner.seen.recall(&id, summary.state) {
            return Ok(Some(seen));
        }
        self.inspect(&id).await
    }

    /// One container of this node; none if it is gone, or not ours.
    pub(super) async fn inspect(&self, id: &str) -> Result<Option<ContainerSeen>, Fault> {
        let begun = self.inner.seen.edition(id);
        let client = self.client().await?;
        let found = match client.inspect_container(id, None).await {
            Ok(found) => found,
            Err(error) if fault::status(&error) == Some(404) => return Ok(None),
            Err(error) => return Err(self.fault(&error).while_doing("looking at a container")),
        };
        let seen =
            self.understand(found).ok().filter(|seen| seen.marks.node == self.inner.options.node);
        if let Some(seen) = &seen {
            self.inner.seen.note(begun, seen);
        }
        Ok(seen)
    }

    /// One container of ours that must be there.
    pub(super) async fn look(&self, id: &str) -> Result<ContainerSeen, Fault> {
        self.inspect(id).await?.ok_or_else(|| Fault::not_found(format!("container {id} is gone")))
    }

    /// The network namespace of a container of ours that runs.
    pub(crate) async fn network(&self, id: &str) -> Result<File, Fault> {
        let pid = async || {
            let seen = self.look(id).await?;
            seen.pid().ok_or_else(|| Fault::transient(format!("container {id} does not run")))
        };
        let process = pid().await?;
        let network = File::open(format!("/proc/{process}/ns/net")).map_err(|error| {
            Fault::transient(format!("the network namespace of process {process}: {error}"))
        })?;
        // Had it ended before, its number could be another's by now.
        if pid().await? != process {
            return Err(Fault::transient(format!("container {id} has been started anew")));
        }
        Ok(network)
    }

    /// Reads what Docker said of a container just now, or says what is wrong with its labels.
    pub(super) fn understand(
        &self,
        found: ContainerInspectResponse,
    ) -> Result<ContainerSeen, String> {
        let mut seen = read(found)?;
        if let RunState::Ended { exit_code: EXIT_KILLED, oom_killed, .. } = &mut seen.state {
            *oom_killed = *oom_killed || self.inner.kernel_log.has_killed(&seen.id);
        }
        Ok(seen)
    }

    /// What Docker says of itself and its host, its images, and where it keeps them.
    pub(crate) async fn survey(&self) -> Result<(RuntimeSeen, Vec<HeldImage>, PathBuf), Fault> {
        let client = self.client().await?;
        let info = async {
            let asked = client.info().await;
            asked.map_err(|error| self.fault(&error).while_doing("asking Docker about itself"))
        };
        let (info, held) = tokio::try_join!(info, self.held())?;
        let images = held.iter().map(|image| {
            let names = image.tags.iter().chain(&image.pinned).cloned().collect();
            (names, image.bytes, image.id.clone())
        });
        let seen = RuntimeSeen {
            version: info.server_version.unwrap_or_default(),
            kernel: info.kernel_version.unwrap_or_default(),
            os: info.operating_system.unwrap_or_default(),
            arch: kubernetes_arch(&info.architecture.unwrap_or_default()).to_owned(),
            cpus: info.ncpu.and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
            memory_bytes: info.mem_total.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
            images: images.collect(),
            stock: None,
        };
        Ok((seen, held, info.docker_root_dir.map(PathBuf::from).unwrap_or_default()))
    }
}

/// Docker says the kernel's word, Kubernetes Go's.
fn kubernetes_arch(uname: &str) -> &str {
    match uname {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// Reads what Docker says of a container, or says what is wrong with its labels.
fn read(found: ContainerInspectResponse) -> Result<ContainerSeen, String> {
    let labels = found.config.and_then(|config| config.labels).unwrap_or_default();
    let marks = Marks::from_labels(|key| labels.get(key).map(String::as_str))?;
    let id = found.id.ok_or("the container has no id")?;
    let made = found.created.as_deref().and_then(moment).unwrap_or_default();
    let state = found.state.ok_or("the container has no state")?;
    let started = state.started_at.as_deref().and_then(moment);
    let pid = state.pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0);
    let exit_code = state.exit_code.unwrap_or(0);
    let error = state.error.filter(|text| !text.is_empty());
    let run_state = match (state.running.unwrap_or(false) && pid > 0, started) {
        (true, started) => RunState::Running { started: started.unwrap_or(made), pid },
        (false, None) if exit_code == 0 && error.is_none() => RunState::Created,
        (false, started) => RunState::Ended {
            started,
            // One that could not be started has no end; it failed when it was made.
            finished: state.finished_at.as_deref().and_then(moment).unwrap_or(made),
            exit_code,
            oom_killed: state.oom_killed.unwrap_or(false),
            error: error.map(|text| fault::plain(&text).to_owned()),
        },
    };
    Ok(ContainerSeen {
        id: id.into(),
        marks,
        state: run_state,
        image_id: found.image.unwrap_or_default(),
    })
}

fn moment(text: &str) -> Option<Wall> {
    (!text.starts_with(NEVER)).then(|| Wall::parse(text)).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kinds::name::{Name, PodKey, Uid};
    use crate::ports::runtime::Role;
    use serde_json::json;

    fn marks() -> Marks {
        Marks {
            node: Name::trusted("n1"),
            pod: PodKey::new(&Name::trusted("shop"), &Name::trusted("web")),
            uid: Uid::trusted("u-1"),
            role: Role::Pause,
            attempt: 0,
            backoff: std::time::Duration::ZERO,
            grace_s: 30,
            ip: None,
            sandbox: 0,
        }
    }

    fn inspected(state: &serde_json::Value) -> RunState {
        let found = json!({
            "Id": "c1", "Image": "sha256:1", "Created": "2026-01-01T00:00:00Z",
            "Config": {"Labels": marks().to_labels()}, "State": state,
        });
        let found = serde_json::from_value(found).expect("is Docker's");
        read(found).expect("is ours").state
    }

    #[test]
    fn states_are_read_as_docker_means_them() {
        let at = |second| Wall::parse(&format!("2026-01-01T00:00:{second:02}Z")).expect("a time");
        let never = "0001-01-01T00:00:00Z";
        let table = [
            (
                json!({"Status": "created", "Running": false, "Pid": 0, "ExitCode": 0, "Error": "",
                    "StartedAt": never, "FinishedAt": never}),
                RunState::Created,
            ),
            (
                json!({"Status": "running", "Running": true, "Pid": 7, "ExitCode": 0, "Error": "",
                    "StartedAt": "2026-01-01T00:00:01.5Z", "FinishedAt": never}),
                RunState::Running {
                    started: at(1) + std::time::Duration::from_millis(500),
                    pid: 7,
                },
            ),
            (
                json!({"Status": "paused", "Running": true, "Paused": true, "Pid": 7,
                    "StartedAt": "2026-01-01T00:00:01Z", "FinishedAt": never}),
                RunState::Running { started: at(1), pid: 7 },
            ),
            (
                json!({"Status": "exited", "Running": false, "Pid": 0, "ExitCode": 137,
                    "OOMKilled": true, "Error": "", "StartedAt": "2026-01-01T00:00:01Z",
                    "FinishedAt": "2026-01-01T00:00:02Z"}),
                RunState::Ended {
                    started: Some(at(1)),
                    finished: at(2),
                    exit_code: 137,
                    oom_killed: true,
                    error: None,
                },
            ),
            (
                json!({"Status": "created", "Running": false, "Pid": 0, "ExitCode": 127,
                    "Error": "OCI runtime create failed: exec: \"x\": not found: unknown",
                    "StartedAt": never, "FinishedAt": never}),
                RunState::Ended {
                    started: None,
                    finished: at(0),
                    exit_code: 127,
                    oom_killed: false,
                    error: Some("exec: \"x\": not found".into()),
                },
            ),
        ];
        for (state, wanted) in table {
            assert_eq!(inspected(&state), wanted, "{state}");
        }
    }

    fn running() -> ContainerSeen {
        ContainerSeen {
            id: "c1".into(),
            marks: marks(),
            state: RunState::Running { started: Wall::default(), pid: 7 },
            image_id: String::new(),
        }
    }

    #[test]
    fn what_was_seen_is_forgotten_when_anything_happens() {
        use ContainerSummaryStateEnum as Listed;
        let memory = Memory::default();
        let recall = |listed| memory.recall("c1", Some(listed));
        let look = || memory.edition("c1");
        memory.note(look(), &running());
        assert_eq!(recall(Listed::RUNNING), None, "Docker is not heard");
        let long_ago = look();
        memory.heard();
        memory.note(long_ago, &running());
        assert_eq!(recall(Listed::RUNNING), None, "seen before Docker was away");
        memory.note(look(), &running());
        assert_eq!(recall(Listed::RUNNING), Some(running()));
        assert_eq!(recall(Listed::EXITED), None, "the list says otherwise");
        let begun = look();
        memory.changed(&"c1".into());
        assert_eq!(recall(Listed::RUNNING), None, "an event came");
        memory.note(begun, &running());
        assert_eq!(recall(Listed::RUNNING), None, "seen before the event");
        memory.note(look(), &running());
        assert_eq!(recall(Listed::RUNNING), Some(running()));
        memory.lost();
        assert_eq!(recall(Listed::RUNNING), None, "Docker is gone");
    }
}
