//! The programs: which of them are installed, which one Docker uses, and running them in bounded
//! time.

use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use super::generation;
use crate::kinds::rules::Table;
use crate::ports::Fault;

/// One run of a program may take so long. 5,000 Services take half a second on a PC; a small board
/// under load may need many times that.
const RUN_MAX: Duration = Duration::from_secs(60);

/// So long a program waits for another that holds the lock (legacy only).
const LOCK_WAIT_S: &str = "10";

/// So much of a program's complaint is worth repeating.
const COMPLAINT_LEN_MAX: usize = 400;

/// Which of the kernel's two rule machines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Backend {
    /// nf_tables, through `iptables-nft`.
    Nft,
    /// ip_tables, through `iptables-legacy`.
    Legacy,
}

/// Which one the operator wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// The one that Docker's chains are in; the system's default where there are none.
    #[default]
    AsDocker,
    /// This one.
    Always(Backend),
}

/// The programs of one machine.
#[derive(Clone, Copy, Debug)]
pub(super) struct Tools {
    backend: Backend,
    /// `iptables-nft`, `iptables-legacy`, or `iptables` on systems that have one only.
    program: &'static str,
    save: &'static str,
    restore: &'static str,
}

const NFT: Tools = Tools {
    backend: Backend::Nft,
    program: "iptables-nft",
    save: "iptables-nft-save",
    restore: "iptables-nft-restore",
};

const LEGACY: Tools = Tools {
    backend: Backend::Legacy,
    program: "iptables-legacy",
    save: "iptables-legacy-save",
    restore: "iptables-legacy-restore",
};

const PLAIN: Tools = Tools {
    backend: Backend::Nft,
    program: "iptables",
    save: "iptables-save",
    restore: "iptables-restore",
};

/// Both where both are installed; the plain one where it is the only one.
pub(super) async fn installed() -> Result<Vec<Tools>, Fault> {
    let mut found = Vec::new();
    for tools in [NFT, LEGACY] {
        if tools.version().await.is_some() {
            found.push(tools);
        }
    }
    if found.is_empty() {
        found.extend(plain().await);
    }
    if found.is_empty() {
        return Err(Fault::stalled("iptables is not installed: install the package 'iptables'"));
    }
    Ok(found)
}

/// What `iptables` without a suffix is here.
async fn plain() -> Option<Tools> {
    let version = PLAIN.version().await?;
    let backend = if version.contains("nf_tables") { Backend::Nft } else { Backend::Legacy };
    Some(Tools { backend, ..PLAIN })
}

pub(super) async fn choose(choice: Choice) -> Result<Tools, Fault> {
    let installed = installed().await?;
    let of = |backend| installed.iter().find(|tools| tools.backend == backend).copied();
    match choice {
        Choice::Always(backend) => of(backend).ok_or_else(|| {
            Fault::stalled(format!("the iptables programs for {backend:?} are not installed"))
        }),
        Choice::AsDocker => {
            let mut with_docker = Vec::new();
            for tools in &installed {
                if tools.has_docker().await {
                    with_docker.push(*tools);
                }
            }
            if let [only] = with_docker[..] {
                return Ok(only);
            }
            // In both or in none: Docker runs plain `iptables` when it starts.
            let default = plain().await.and_then(|plain| of(plain.backend));
            default
                .or_else(|| installed.first().copied())
                .ok_or_else(|| Fault::stalled("iptables is not installed"))
        }
    }
}

impl Tools {
    pub(super) fn backend(&self) -> Backend {
        self.backend
    }

    /// Whether this machine has tables at all. Asking the legacy programs would make them.
    pub(super) fn in_use(&self) -> bool {
        match self.backend {
            Backend::Nft => true,
            Backend::Legacy => std::fs::read_to_string("/proc/thread-self/net/ip_tables_names")
                .is_ok_and(|names| !names.trim().is_empty()),
        }
    }

    /// The number that changes whenever anybody changes a rule, where this machine counts.
    pub(super) async fn generation(&self) -> Option<u32> {
        match self.backend {
            Backend::Nft => generation::now().await,
            Backend::Legacy => None,
        }
    }

    async fn has_docker(&self) -> bool {
        if !self.in_use() {
            return false;
        }
        let probe = iptables::IPTables {
            cmd: self.program,
            has_check: true,
            // Waiting has no bound in that crate; a lock held just now only means to ask later.
            has_wait: false,
            is_numeric: true,
        };
        let asked = tokio::task::spawn_blocking(move || {
            probe.chain_exists("nat", "DOCKER").unwrap_or(false)
        });
        matches!(tokio::time::timeout(RUN_MAX, asked).await, Ok(Ok(true)))
    }

    async fn version(&self) -> Option<String> {
        let output = run(Command::new(self.program).arg("--version"), None).await.ok()?;
        Some(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// One table as text.
    pub(super) async fn save(&self, table: Table) -> Result<String, Fault> {
        let mut command = Command::new(self.save);
        let output = run(command.args(["-t", table.as_str()]), None).await?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Writes `text`, each table in one transaction.
    pub(super) async fn restore(&self, text: String) -> Result<(), Fault> {
        let mut command = Command::new(self.restore);
        run(command.args(["--noflush", "-w", LOCK_WAIT_S]), Some(text)).await?;
        Ok(())
    }
}

/// Exit code of programs that could not get at the kernel or the lock (`RESOURCE_PROBLEM`).
const EXIT_RESOURCE: i32 = 4;

async fn run(command: &mut Command, input: Option<String>) -> Result<Output, Fault> {
    let name = command.as_std().get_program().to_string_lossy().into_owned();
    command
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    let spawned = command.spawn();
    let mut child =
        spawned.map_err(|error| Fault::stalled(format!("cannot run {name}: {error}")))?;
    let feed = child.stdin.take().zip(input);
    let work = async {
        let feeding = async {
            if let Some((mut pipe, text)) = feed {
                // A program that stops reading says why on its own.
                let _ = pipe.write_all(text.as_bytes()).await;
            }
        };
        let ((), output) = tokio::join!(feeding, child.wait_with_output());
        output
    };
    let output = tokio::time::timeout(RUN_MAX, work)
        .await
        .map_err(|_| Fault::deadline(format!("{name} did not end within {RUN_MAX:?}")))?
        .map_err(|error| Fault::transient(format!("{name}: {error}")))?;
    if output.status.success() {
        return Ok(output);
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint: String = complaint.trim().chars().take(COMPLAINT_LEN_MAX).collect();
    let message = format!("{name} failed ({}): {complaint}", output.status);
    Err(match output.status.code() {
        Some(EXIT_RESOURCE) | None => Fault::transient(message),
        Some(_) => Fault::stalled(message),
    })
}
