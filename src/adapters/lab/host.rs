//! A host in a test tube: a network namespace with a Docker of its own, on this machine.
//!
//! Nothing of the machine is touched: its links, rules and Docker stay as they are.
//!
//! ```text
//!   <dir>/                     also how everything of the host is found again
//!     .windlass-lab            says that the directory may be deleted
//!     docker.sock data/ exec/ dockerd.log
//!     run/                     a tmpfs, for what stands in /run on a real host
//!     agent.yaml agent.log     where an agent runs
//! ```

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// By which everything that runs for a host is known.
pub const MARK: &str = "WINDLASS_LAB";
/// Cleans up after a host: see the file. A shell script, so that it works when all else has ended.
pub const CLEAN: &str = include_str!("clean.sh");
/// dockerd is up in one or two seconds on a quiet machine.
const START_STEPS_MAX: u32 = 600;
const START_STEP: Duration = Duration::from_millis(100);
/// Inside the namespace, so every host may have the same.
const DOCKER_BRIDGE: &str = "172.29.0.1/24";

/// Why something in a lab failed, for the person who started it.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {why}")]
pub struct LabFault {
    /// What was being done.
    pub what: String,
    /// Why it failed.
    pub why: String,
}

impl LabFault {
    /// A fault.
    pub fn new(what: impl Into<String>, why: impl std::fmt::Display) -> Self {
        Self { what: what.into(), why: why.to_string() }
    }
}

/// Runs a program that must succeed; its output.
pub fn run(command: &mut Command) -> Result<String, LabFault> {
    let what = format!("{command:?}");
    let output = command.output().map_err(|error| LabFault::new(&what, error))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(LabFault::new(what, format!("{}: {}", output.status, said.trim())))
}

/// A host. The value is only a handle: the host lives on without it.
#[derive(Clone, Debug)]
pub struct Host {
    name: String,
    dir: PathBuf,
}

impl Host {
    /// The host of that name in that directory, which need not be there yet.
    pub fn new(name: &str, dir: &Path) -> Self {
        Self { name: name.to_owned(), dir: dir.to_path_buf() }
    }

    /// The host's name: of its network namespace, and of the cgroup of its containers.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything of the host stands in it.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// A tmpfs.
    pub fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// Docker's socket.
    pub fn socket(&self) -> PathBuf {
        self.dir.join("docker.sock")
    }

    /// The network namespace, as a file.
    pub fn netns(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// Makes the namespace and the directories, where they are not there already.
    pub fn make(&self) -> Result<(), LabFault> {
        let run_dir = self.run_dir();
        let made = fs::create_dir_all(&run_dir)
            .and_then(|()| fs::write(self.dir.join(".windlass-lab"), ""))
            .and_then(|()| fs::write(self.dir.join("daemon.json"), "{}"));
        made.map_err(|error| LabFault::new(format!("making {}", self.dir.display()), error))?;
        if !self.netns().exists() {
            run(Command::new("ip").args(["netns", "add", &self.name]))?;
        }
        run(self.command("ip").args(["link", "set", "lo", "up"]))?;
        if !is_mounted(&run_dir) {
            run(Command::new("mount")
                .args(["-t", "tmpfs", "-o", "mode=755", "lab"])
                .arg(&run_dir))?;
        }
        Ok(())
    }

    /// Ends everything that runs for the host, at once, as a power cut does. Its disk stays.
    pub fn power_off(&self) -> Result<(), LabFault> {
        self.clean(&["keep"])
    }

    /// Leaves nothing of the host.
    pub fn destroy(&self) -> Result<(), LabFault> {
        if self.dir.join(".windlass-lab").exists() { self.clean(&[]) } else { Ok(()) }
    }

    fn clean(&self, more: &[&str]) -> Result<(), LabFault> {
        let mut command = Command::new("sh");
        command.args(["-c", CLEAN, "clean.sh"]).arg(&self.dir).arg(&self.name).args(more);
        run(&mut command).map(|_| ())
    }

    /// A program run in the host's network. What it starts is ended with the host.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        // Not `ip netns exec`: that remounts /sys and hides the cgroups from dockerd.
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.netns().display()))
            .arg("--")
            .arg(program)
            .env(MARK, &self.dir)
            .stdin(Stdio::null());
        command
    }

    /// Starts a program in the background, its output in a file of the host's directory.
    pub fn spawn(&self, log: &str, command: &mut Command) -> Result<Child, LabFault> {
        let what = format!("{command:?}");
        let start = || -> io::Result<Child> {
            let log = File::options().create(true).append(true).open(self.dir.join(log))?;
            let copy = log.try_clone()?;
            command.stdin(Stdio::null()).stdout(log).stderr(copy).process_group(0).spawn()
        };
        let mut start = start;
        start().map_err(|error| LabFault::new(what, error))
    }

    /// Starts Docker and waits until it answers.
    pub fn start_docker(&self) -> Result<Child, LabFault> {
        self.start_docker_by(self.command("dockerd"))
    }

    /// The same by a command that ends in `dockerd` and perhaps arguments.
    pub fn start_docker_by(&self, mut command: Command) -> Result<Child, LabFault> {
        let path = |name: &str| self.dir.join(name).display().to_string();
        // Left by one that was killed.
        let _ = fs::remove_file(self.dir.join("dockerd.pid"));
        command
            .args(["--config-file", &path("daemon.json")])
            .args(["--data-root", &path("data"), "--exec-root", &path("exec")])
            .args(["--pidfile", &path("dockerd.pid")])
            .args(["-H", &format!("unix://{}", path("docker.sock"))])
            .args(["--bip", DOCKER_BRIDGE, "--log-level", "warn"])
            .args(["--userland-proxy=false"])
            // By its parent the containers are found; the driver must be one that takes it.
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
            .args(["--cgroup-parent", &format!("/{}", self.name)]);
        let mut dockerd = self.spawn("dockerd.log", &mut command)?;
        for _ in 0..START_STEPS_MAX {
            if self.docker_answers() {
                return Ok(dockerd);
            }
            if let Ok(Some(status)) = dockerd.try_wait() {
                return Err(LabFault::new(
                    "dockerd",
                    format!("{status}:\n{}", self.log_end("dockerd.log")),
                ));
            }
            std::thread::sleep(START_STEP);
        }
        Err(LabFault::new("dockerd", format!("does not answer:\n{}", self.log_end("dockerd.log"))))
    }

    /// Whether Docker answers.
    pub fn docker_answers(&self) -> bool {
        use std::io::{Read as _, Write as _};
        let ask = || -> io::Result<bool> {
            let mut socket = std::os::unix::net::UnixStream::connect(self.socket())?;
            socket.set_read_timeout(Some(Duration::from_secs(2)))?;
            socket.write_all(b"GET /_ping HTTP/1.0\r\nHost: docker\r\n\r\n")?;
            let mut answer = [0; 12];
            socket.read_exact(&mut answer)?;
            Ok(answer.ends_with(b"200"))
        };
        ask().unwrap_or(false)
    }

    /// The end of a log of the host's.
    pub fn log_end(&self, name: &str) -> String {
        let log = fs::read_to_string(self.dir.join(name)).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// Whether something is mounted at a path.
fn is_mounted(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let path = path.display().to_string();
    mounts.lines().any(|line| line.split(' ').nth(4) == Some(path.as_str()))
}
