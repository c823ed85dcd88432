//! Who was killed for memory, from the kernel's own mouth.
//!
//! Docker learns of it by an event that races with the container's end: on a busy host it misses
//! about one in three (Docker 20.10, cgroup v1), and "why did it die" is what people ask first. The
//! kernel's log always has it, with the container's cgroup in the line. It is read only when a
//! container has ended by SIGKILL and Docker doesn't say why, so an idle node reads nothing.
//!
//! Where `/dev/kmsg` may not be read, Docker's word is all there is.

use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::sync::{Mutex, PoisonError};

use nix::fcntl::OFlag;

/// The longest record of the kernel's log (`CONSOLE_EXT_LOG_MAX`).
const RECORD_BYTES_MAX: usize = 8 * 1024;
/// Records read at once. The log's ring holds fewer, however large it was made.
const RECORDS_MAX: u32 = 200_000;
/// Containers remembered; one is asked about soon after its end.
const KILLED_MAX: usize = 1024;
/// A container's id in a cgroup's path: `/docker/<id>`, `docker-<id>.scope`.
const ID_CHARS: usize = 64;

/// The kernel's log, read as far as it goes.
#[derive(Default)]
pub(super) struct KernelLog {
    reader: Mutex<Reader>,
}

#[derive(Default)]
struct Reader {
    log: Option<File>,
    killed: BTreeSet<String>,
}

impl KernelLog {
    /// Whether the kernel has killed a process of this container for memory.
    pub(super) fn has_killed(&self, container: &str) -> bool {
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = reader.catch_up() {
            tracing::debug!(%error, "the kernel's log can't be read");
        }
        reader.killed.contains(container)
    }
}

impl Reader {
    fn catch_up(&mut self) -> io::Result<()> {
        let log = match &mut self.log {
            Some(log) => log,
            place => place.insert(
                OpenOptions::new()
                    .read(true)
                    .custom_flags(OFlag::O_NONBLOCK.bits())
                    .open("/dev/kmsg")?,
            ),
        };
        let mut record = vec![0; RECORD_BYTES_MAX];
        for _ in 0..RECORDS_MAX {
            match log.read(&mut record) {
                Ok(0) => break,
                Ok(length) => {
                    let text = String::from_utf8_lossy(&record[..length]);
                    if let Some(id) = killed_container(&text) {
                        if self.killed.len() >= KILLED_MAX {
                            self.killed.pop_first();
                        }
                        self.killed.insert(id.to_owned());
                    }
                }
                // Records were overwritten before they were read: go on with the oldest there is.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// The container that a record says was killed. The first form is of Linux 4.19 and later.
///
/// ```text
/// oom-kill:constraint=CONSTRAINT_MEMCG,…,task_memcg=/docker/<id>,task=java,pid=7,uid=0
/// Task in /docker/<id> killed as a result of limit of /docker/<id>
/// ```
fn killed_container(record: &str) -> Option<&str> {
    let path = match record.split_once("oom-kill:") {
        Some((_, fields)) => {
            fields.split(',').find_map(|field| field.strip_prefix("task_memcg="))?
        }
        None => {
            let (_, rest) = record.split_once("Task in ")?;
            rest.split_once(" killed as a result of limit")?.0
        }
    };
    // The innermost, where Docker itself runs in a container.
    path.rsplit(|c: char| !c.is_ascii_hexdigit()).find(|part| part.len() == ID_CHARS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_s_words_are_understood() {
        let (id, outer) = ("0123456789abcdef".repeat(4), "f".repeat(64));
        let table = [
            (
                format!(
                    "6,1,2,-;oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset={outer},mems_allowed=0,oom_memcg=/docker/{id},task_memcg=/docker/{id},task=tail,pid=9,uid=0\n"
                ),
                Some(&id),
            ),
            (
                format!(
                    "6,1,2,-;oom-kill:constraint=CONSTRAINT_NONE,task_memcg=/system.slice/docker-{id}.scope,task=x,pid=9,uid=0"
                ),
                Some(&id),
            ),
            (format!("oom-kill:task_memcg=/docker/{outer}/docker/{id}/inner,task=x"), Some(&id)),
            (
                format!("6,1,2,-;Task in /docker/{id} killed as a result of limit of /docker/{id}"),
                Some(&id),
            ),
            ("oom-kill:constraint=CONSTRAINT_NONE,task_memcg=/user.slice,task=x".into(), None),
            (format!("something about {id}"), None),
        ];
        for (record, wanted) in table {
            assert_eq!(killed_container(&record), wanted.map(String::as_str), "{record}");
        }
    }
}
