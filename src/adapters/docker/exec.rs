//! Running a program in a container for its exit code: exec probes and hooks.
//!
//! Docker has no time-out for this and no way to end it, so it is ended from outside: by the host's
//! number of the process, with everything it has started in its session.

use std::time::Duration;

use bollard::models::ExecConfig;
use futures_util::StreamExt as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::streams::Session;
use super::{Docker, fault};
use crate::ports::Fault;
use crate::ports::runtime::ExecResult;

/// As much output as kubelet keeps of a probe (`maxRespBodyLength`); the rest is read and dropped,
/// so that the program doesn't block on a full pipe.
const OUTPUT_BYTES_MAX: usize = 10 * 1024;
/// Docker notes the exit code a moment after the output has ended.
const END_STEP: Duration = Duration::from_millis(2);
/// How long a killed program may take to be gone; only one stuck in the kernel takes longer.
const KILLED_MAX: Duration = Duration::from_secs(2);

impl Docker {
    /// Runs a program and waits for its end, but not longer than `timeout`.
    pub(super) async fn exec(
        &self,
        id: &str,
        command: Vec<String>,
        timeout: Duration,
    ) -> Result<ExecResult, Fault> {
        let session = self.exec_stream(id, &command, false, false).await?;
        let control = session.control.clone();
        let mut output = Vec::new();
        let run = async {
            read_output(session, &mut output).await?;
            loop {
                if let Some(code) = control.exit_code_now().await? {
                    return Ok(code);
                }
                // The output has ended and the program has not, or it has not been noted yet.
                tokio::time::sleep(END_STEP).await;
            }
        };
        let exit_code = match tokio::time::timeout(timeout, run).await {
            Ok(answer) => answer?,
            // A child of it may hold the output open: then it has ended, and this is its code.
            Err(_) => match control.exit_code_now().await? {
                Some(code) => code,
                None => {
                    self.end_exec(control.id()).await?;
                    return Err(Fault::deadline(format!(
                        "command {command:?} timed out after {} s and was killed{}",
                        timeout.as_secs_f64(),
                        said(&output)
                    )));
                }
            },
        };
        Ok(ExecResult { exit_code, output: String::from_utf8_lossy(&output).into_owned() })
    }

    pub(super) async fn create_exec(
        &self,
        id: &str,
        command: &[String],
        tty: bool,
        stdin: bool,
    ) -> Result<String, Fault> {
        let client = self.client().await?;
        let config = ExecConfig {
            attach_stdin: Some(stdin),
            attach_stdout: Some(true),
            attach_stderr: Some(true),
            tty: Some(tty),
            cmd: Some(command.to_vec()),
            ..ExecConfig::default()
        };
        match client.create_exec(id, config).await {
            Ok(created) => Ok(created.id),
            Err(error) => Err(self.fault(&error).while_doing("running a command")),
        }
    }

    /// The exit code of a program run in a container; none while it runs.
    pub(super) async fn exec_exit_code(&self, exec: &str) -> Result<Option<i64>, Fault> {
        let client = self.client().await?;
        match client.inspect_exec(exec).await {
            Ok(seen) if seen.running == Some(true) => Ok(None),
            Ok(seen) => Ok(seen.exit_code),
            Err(error) if fault::status(&error) == Some(404) => {
                Err(Fault::not_found("the container ended while a command ran in it"))
            }
            Err(error) => Err(self.fault(&error)),
        }
    }

    /// Kills a program and its session, and waits until Docker has seen it gone.
    async fn end_exec(&self, exec: &str) -> Result<(), Fault> {
        let client = self.client().await?;
        let gone = async {
            loop {
                let seen = match client.inspect_exec(exec).await {
                    Ok(seen) => seen,
                    // The container has ended, and everything in it.
                    Err(error) if fault::status(&error) == Some(404) => return Ok(()),
                    Err(error) => return Err(self.fault(&error)),
                };
                if seen.running != Some(true) {
                    return Ok(());
                }
                // No number yet: it is only being started.
                let pid = seen.pid.and_then(|pid| i32::try_from(pid).ok());
                if let Some(pid) = pid.filter(|pid| *pid > 1) {
                    kill_session(pid)?;
                }
                tokio::time::sleep(END_STEP * 5).await;
            }
        };
        tokio::time::timeout(KILLED_MAX, gone)
            .await
            .unwrap_or_else(|_| Err(Fault::deadline("a command was killed and does not end")))
    }
}

impl super::streams::Control {
    async fn exit_code_now(&self) -> Result<Option<i64>, Fault> {
        self.docker().exec_exit_code(self.id()).await
    }
}

/// runc makes each program the leader of a session and so of a process group; its number is the
/// host's. It must be in a pid namespace of its own, or in the node's by the pod's wish, and must
/// not be us: numbers are given anew.
fn kill_session(pid: i32) -> Result<(), Fault> {
    let alive = std::fs::metadata(format!("/proc/{pid}/ns/pid"));
    if alive.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
        return Ok(());
    }
    if is_of_our_session(pid) {
        return Err(Fault::stalled(format!(
            "process {pid}, which Docker says runs in a container, is one of ours; it is left alone"
        )));
    }
    for target in [Pid::from_raw(-pid), Pid::from_raw(pid)] {
        match kill(target, Signal::SIGKILL) {
            Ok(()) | Err(nix::errno::Errno::ESRCH) => {}
            Err(errno) => return Err(Fault::stalled(format!("killing process {pid}: {errno}"))),
        }
    }
    Ok(())
}

fn is_of_our_session(pid: i32) -> bool {
    let session = |pid: Option<Pid>| nix::unistd::getsid(pid).ok();
    let theirs = session(Some(Pid::from_raw(pid)));
    theirs.is_some() && theirs == session(None)
}

async fn read_output(mut session: Session, output: &mut Vec<u8>) -> Result<(), Fault> {
    while let Some(piece) = session.output.next().await {
        let (_, bytes) = piece?;
        let room = OUTPUT_BYTES_MAX.saturating_sub(output.len());
        output.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
    Ok(())
}

fn said(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    match text.trim() {
        "" => String::new(),
        text => format!("; it said: {text}"),
    }
}
