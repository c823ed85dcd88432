//! A host in a test tube: a network namespace and a Docker of its own, on this machine.
//!
//! Nothing of the machine is touched: its links, rules and Docker stay as they are. Whatever ends
//! the test, a [`Host`] leaves nothing behind: a keeper process (`keeper.sh`) waits for the end of
//! a pipe that only the test process holds, and cleans up when it comes, also after a panic and
//! after SIGKILL. What a killed keeper leaves is found by the next test with the same prefix.
//!
//! ```text
//!   /tmp/windlass-lab/<name>/            <name> = <prefix><pid>-<number>, also the namespace's name
//!     docker.sock data/ exec/ dockerd.log
//!     keeper                             the keeper's pid and start time
//!     run/                               a tmpfs, for what stands in /run on a real host
//! ```

// Said to whoever runs the tests; there is no log here.
#![allow(clippy::print_stderr)]

use std::fs::{self, File};
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::http::Connection;

const LAB: &str = "/tmp/windlass-lab";
const KEEPER: &str = include_str!("keeper.sh");
/// By which the keeper knows our processes.
const MARK: &str = "WINDLASS_LAB";
/// dockerd is up in one or two seconds on a quiet machine.
const START_STEPS_MAX: u32 = 600;
const START_STEP: Duration = Duration::from_millis(100);
/// Inside the namespace, so every host may have the same.
const DOCKER_BRIDGE: &str = "172.29.0.1/24";

/// How Docker is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flavour {
    /// As it comes.
    Plain,
    /// Containers' users are mapped to others of the host (`userns-remap`).
    UserNamespaces,
}

/// A machine of its own, as far as a network and Docker go.
pub(crate) struct Host {
    name: String,
    dir: PathBuf,
    flavour: Flavour,
    dockerd: Mutex<Option<Child>>,
    /// Held open for as long as the host is wanted.
    keeper: Mutex<Option<(Child, ChildStdin)>>,
}

impl Host {
    /// Starts a host. None if this machine can't have one, said aloud; a panic where that is not
    /// acceptable (`CI=1`, `WINDLASS_REQUIRE_ROOT=1`).
    pub(crate) fn start(prefix: &str) -> Option<Self> {
        Self::start_as(prefix, Flavour::Plain)
    }

    /// The same with Docker set up otherwise.
    pub(crate) fn start_as(prefix: &str, flavour: Flavour) -> Option<Self> {
        if !may_run(&["dockerd", "containerd", "ip", "nsenter", "iptables"]) {
            return None;
        }
        clean_leftovers(prefix);
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("{prefix}{}-{number}", std::process::id());
        let dir = Path::new(LAB).join(&name);
        fs::create_dir_all(dir.join("run")).expect("the lab's directory can be made");
        let host = Self {
            keeper: Mutex::new(Some(keeper(&dir, &name))),
            name,
            dir,
            flavour,
            dockerd: Mutex::new(None),
        };
        run(Command::new("ip").args(["netns", "add", &host.name]));
        run(host.command("ip").args(["link", "set", "lo", "up"]));
        run(Command::new("mount")
            .args(["-t", "tmpfs", "-o", "mode=755", "lab"])
            .arg(host.dir.join("run")));
        fs::write(host.dir.join("daemon.json"), "{}").expect("dockerd's file can be written");
        host.start_docker();
        Some(host)
    }

    /// The host that tests share which don't restart Docker; it ends with the test process.
    pub(crate) fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Host>> = OnceLock::new();
        SHARED
            .get_or_init(|| {
                let host = Self::start("wdock-shared-");
                if host.is_some() {
                    at_exit(|| {
                        if let Some(Some(host)) = SHARED.get() {
                            host.end();
                        }
                    });
                }
                host
            })
            .as_ref()
    }

    /// The directory that is deleted with the host.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// A tmpfs that is deleted with the host.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.dir.join("run")
    }

    /// Docker's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.dir.join("docker.sock")
    }

    /// The network namespace, as a file.
    pub(crate) fn netns(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.name)
    }

    /// A plain connection to Docker.
    pub(crate) fn plain(&self) -> Connection {
        Connection::open(&self.socket()).expect("Docker answers")
    }

    /// A program run in the host's network. It ends with the host.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.netns().display()))
            .arg("--")
            .arg(program)
            .env(MARK, &self.dir)
            .stdin(Stdio::null());
        command
    }

    /// Starts a program in the host's network, its output in a file. It ends with the host.
    pub(crate) fn spawn(&self, log: &str, command: &mut Command) -> Child {
        let log = File::create(self.dir.join(log)).expect("a log can be made");
        let copy = log.try_clone().expect("a log has two ends");
        command.stdout(log).stderr(copy).process_group(0).spawn().expect("the program starts")
    }

    /// Runs `work` on a thread in the host's network.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let namespace = File::open(self.netns()).expect("the namespace is there");
        std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET)
                        .expect("the namespace can be entered");
                    work()
                })
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Ends Docker: `SIGKILL` as a crash does, `SIGTERM` as an operator does.
    pub(crate) fn stop_docker(&self, signal: Signal) {
        let mut place = self.dockerd.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(mut dockerd) = place.take() {
            let pid = i32::try_from(dockerd.id()).expect("a pid");
            kill(Pid::from_raw(pid), signal).expect("dockerd can be signalled");
            dockerd.wait().expect("dockerd ends");
        }
        // containerd ends with it, but whoever inherits it may be slow to notice, and the next
        // dockerd takes a zombie for a containerd that runs.
        let pid_file = self.dir.join("exec/containerd/containerd.pid");
        let containerd = fs::read_to_string(&pid_file).unwrap_or_default();
        for _ in 0..START_STEPS_MAX {
            if containerd.is_empty() || !Path::new("/proc").join(containerd.trim()).exists() {
                break;
            }
            std::thread::sleep(START_STEP);
        }
        let _ = fs::remove_file(pid_file);
    }

    /// Starts Docker and waits until it answers.
    pub(crate) fn start_docker(&self) {
        let mut place = self.dockerd.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(place.is_none(), "Docker runs already");
        // Left by one that was killed.
        let _ = fs::remove_file(self.dir.join("dockerd.pid"));
        let path = |name: &str| self.dir.join(name).display().to_string();
        let mut command = match self.flavour {
            Flavour::Plain => self.command("dockerd"),
            Flavour::UserNamespaces => self.remapped_dockerd(),
        };
        command
            .args(["--config-file", &path("daemon.json")])
            .args(["--data-root", &path("data"), "--exec-root", &path("exec")])
            .args(["--pidfile", &path("dockerd.pid")])
            .args(["-H", &format!("unix://{}", path("docker.sock"))])
            .args(["--bip", DOCKER_BRIDGE, "--log-level", "warn"])
            .args(["--userland-proxy=false"])
            // By its parent the keeper finds the containers; the driver must be one that takes it.
            .args(["--exec-opt", "native.cgroupdriver=cgroupfs"])
            .args(["--cgroup-parent", &format!("/{}", self.name)]);
        let mut dockerd = self.spawn("dockerd.log", &mut command);
        for _ in 0..START_STEPS_MAX {
            let answers = Connection::open(&self.socket()).and_then(|mut c| c.get("/_ping"));
            if answers.is_ok_and(|response| response.status == 200) {
                *place = Some(dockerd);
                return;
            }
            if let Ok(Some(status)) = dockerd.try_wait() {
                panic!("dockerd ended with {status}:\n{}", self.docker_log());
            }
            std::thread::sleep(START_STEP);
        }
        panic!("dockerd does not answer:\n{}", self.docker_log());
    }

    /// dockerd with another /etc/subuid than the machine's, which it alone sees.
    fn remapped_dockerd(&self) -> Command {
        const MAPPED: &str = "nobody:nogroup";
        let map = self.dir.join("subid");
        fs::write(&map, "nobody:200000:65536\nnogroup:200000:65536\n").expect("written");
        let script = r#"set -e
            mount --make-rprivate /
            mount --bind "$1" /etc/subuid
            mount --bind "$1" /etc/subgid
            shift
            exec "$@""#;
        let mut command = self.command("unshare");
        command.args(["--mount", "sh", "-c", script, "remapped"]);
        command.arg(map).args(["dockerd", "--userns-remap", MAPPED]);
        command
    }

    /// The end of Docker's own log.
    pub(crate) fn docker_log(&self) -> String {
        let log = fs::read_to_string(self.dir.join("dockerd.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().rev().take(20).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }

    fn end(&self) {
        let keeper = self.keeper.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((mut keeper, pipe)) = keeper {
            drop(pipe);
            let status = keeper.wait().expect("the keeper ends");
            assert!(status.success(), "the keeper failed");
        }
        // Reaped, now that it was killed.
        let dockerd = self.dockerd.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(mut dockerd) = dockerd {
            let _ = dockerd.wait();
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        self.end();
    }
}

/// Starts the process that cleans up after a host, and writes down which it is.
fn keeper(dir: &Path, name: &str) -> (Child, ChildStdin) {
    let mut keeper = Command::new("sh")
        .args(["-c", KEEPER, "keeper.sh"])
        .arg(dir)
        .arg(name)
        .stdin(Stdio::piped())
        // A group of its own: Ctrl-C ends the tests, not the cleaning up.
        .process_group(0)
        .spawn()
        .expect("the keeper starts");
    let pipe = keeper.stdin.take().expect("the keeper has a pipe");
    let identity = identity(keeper.id()).expect("the keeper runs");
    fs::write(dir.join("keeper"), identity).expect("the keeper is written down");
    (keeper, pipe)
}

/// A process' number and when it was started: numbers are given anew. None once it has ended.
fn identity(pid: u32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold blanks; the start time is the 20th field after it.
    let fields: Vec<_> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    if fields.first().is_some_and(|state| ["Z", "X"].contains(state)) {
        return None;
    }
    Some(format!("{pid} {}", fields.get(19)?))
}

/// Cleans up after hosts whose keeper was killed.
fn clean_leftovers(prefix: &str) {
    let Ok(entries) = fs::read_dir(LAB) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if !name.starts_with(prefix) {
            continue;
        }
        let kept = fs::read_to_string(entry.path().join("keeper")).unwrap_or_default();
        let pid = kept.split(' ').next().and_then(|pid| pid.parse().ok());
        let is_kept = pid.is_some_and(|pid| identity(pid).is_some_and(|now| now == kept));
        // One that is only being made has no keeper written down yet.
        let is_young = fs::metadata(entry.path())
            .and_then(|seen| seen.modified())
            .is_ok_and(|at| at.elapsed().is_ok_and(|age| age < Duration::from_secs(10)));
        if is_kept || (kept.is_empty() && is_young) {
            continue;
        }
        eprintln!("cleaning up what a killed test left: {name}");
        run(Command::new("sh")
            .args(["-c", KEEPER, "keeper.sh"])
            .arg(entry.path())
            .args([&name, "now"]));
    }
}

/// Whether this machine can run tests that need root and these programs.
pub(crate) fn may_run(programs: &[&str]) -> bool {
    let mut missing = Vec::new();
    if !nix::unistd::geteuid().is_root() {
        missing.push("root");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    for program in programs {
        if !std::env::split_paths(&path).any(|dir| dir.join(program).is_file()) {
            missing.push(program);
        }
    }
    if missing.is_empty() {
        return true;
    }
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| value == "1");
    let missing = missing.join(", ");
    assert!(!is_set("CI") && !is_set("WINDLASS_REQUIRE_ROOT"), "this test needs {missing}");
    eprintln!("SKIPPED, this machine lacks: {missing}");
    false
}

/// Runs a program that must succeed.
#[track_caller]
pub(crate) fn run(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    assert!(
        output.status.success(),
        "{command:?}: {}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Statics are not dropped; this runs when the test process ends in an orderly way, so that the
/// host is gone when `cargo test` says it is done. After a kill, the keeper does it alone.
#[allow(unsafe_code)]
fn at_exit(work: fn()) {
    static WORK: OnceLock<fn()> = OnceLock::new();
    extern "C" fn call() {
        if let Some(work) = WORK.get() {
            // A panic must not cross into C.
            let _ = std::panic::catch_unwind(work);
        }
    }
    if WORK.set(work).is_ok() {
        // SAFETY: `call` is a plain function that does not unwind.
        let registered = unsafe { nix::libc::atexit(call) };
        assert_eq!(registered, 0, "{}", io::Error::last_os_error());
    }
}
