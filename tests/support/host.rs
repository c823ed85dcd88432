//! A host in a test tube: [`lab::Host`], that leaves nothing behind whatever ends the test.
//!
//! A keeper process waits for the end of a pipe that only the test process holds, and cleans up when
//! it comes, also after a panic and after SIGKILL. What a killed keeper leaves is found by the next
//! test with the same prefix. Which keeper it is stands in the host's directory, in `keeper`.

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
use windlass::adapters::lab;

use super::http::Connection;

const LABS: &str = "/tmp/windlass-lab";
/// containerd is gone soon after its dockerd.
const END_STEPS_MAX: u32 = 600;
const END_STEP: Duration = Duration::from_millis(100);

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
    lab: lab::Host,
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
        let lab = lab::Host::new(&name, &Path::new(LABS).join(&name));
        fs::create_dir_all(lab.dir()).expect("the lab's directory can be made");
        let keeper = Mutex::new(Some(keeper(lab.dir(), &name)));
        lab.make().expect("the host can be made");
        let host = Self { lab, flavour, dockerd: Mutex::new(None), keeper };
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
        self.lab.dir()
    }

    /// A tmpfs that is deleted with the host.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.lab.run_dir()
    }

    /// Docker's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.lab.socket()
    }

    /// The network namespace, as a file.
    pub(crate) fn netns(&self) -> PathBuf {
        self.lab.netns()
    }

    /// A plain connection to Docker.
    pub(crate) fn plain(&self) -> Connection {
        Connection::open(&self.socket()).expect("Docker answers")
    }

    /// A program run in the host's network. It ends with the host.
    pub(crate) fn command(&self, program: &str) -> Command {
        self.lab.command(program)
    }

    /// Starts a program in the host's network, its output in a file. It ends with the host.
    pub(crate) fn spawn(&self, log: &str, command: &mut Command) -> Child {
        self.lab.spawn(log, command).expect("the program starts")
    }

    /// Runs `work` on a thread in the host's network.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.netns(), work)
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
        let pid_file = self.dir().join("exec/containerd/containerd.pid");
        let containerd = fs::read_to_string(&pid_file).unwrap_or_default();
        for _ in 0..END_STEPS_MAX {
            if containerd.is_empty() || !Path::new("/proc").join(containerd.trim()).exists() {
                break;
            }
            std::thread::sleep(END_STEP);
        }
        let _ = fs::remove_file(pid_file);
    }

    /// Starts Docker and waits until it answers.
    pub(crate) fn start_docker(&self) {
        let mut place = self.dockerd.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(place.is_none(), "Docker runs already");
        let command = match self.flavour {
            Flavour::Plain => self.command("dockerd"),
            Flavour::UserNamespaces => self.remapped_dockerd(),
        };
        let started = self.lab.start_docker_by(command);
        *place = Some(started.unwrap_or_else(|fault| panic!("{fault}")));
    }

    /// dockerd with another /etc/subuid than the machine's, which it alone sees.
    fn remapped_dockerd(&self) -> Command {
        const MAPPED: &str = "nobody:nogroup";
        let map = self.dir().join("subid");
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
    // It reads its standard input, which nobody writes to.
    let clean = lab::CLEAN;
    let script = format!("cat >/dev/null\n({clean}) && {{ rmdir {LABS} 2>/dev/null; true; }}");
    let mut keeper = Command::new("sh")
        .args(["-c", &script, "keeper"])
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
    let Ok(entries) = fs::read_dir(LABS) else {
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
        run(Command::new("sh").args(["-c", lab::CLEAN, "keeper"]).arg(entry.path()).arg(&name));
    }
}

/// Runs `work` on a thread in a network namespace.
pub(crate) fn inside<T: Send>(netns: &Path, work: impl FnOnce() -> T + Send) -> T {
    let namespace = File::open(netns).expect("the namespace is there");
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

/// Whether this machine can run tests that need root and these programs.
pub(crate) fn may_run(programs: &[&str]) -> bool {
    super::tell_failures_at_once();
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

/// Statics are not dropped; this runs when the test process ends in an orderly way, so that hosts
/// are gone when `cargo test` says it is done. After a kill, their keepers do it alone.
#[allow(unsafe_code)]
pub(crate) fn at_exit(work: fn()) {
    static WORK: Mutex<Vec<fn()>> = Mutex::new(Vec::new());
    extern "C" fn call() {
        let works = std::mem::take(&mut *WORK.lock().unwrap_or_else(PoisonError::into_inner));
        for work in works {
            // A panic must not cross into C.
            let _ = std::panic::catch_unwind(work);
        }
    }
    let mut works = WORK.lock().unwrap_or_else(PoisonError::into_inner);
    works.push(work);
    if works.len() == 1 {
        // SAFETY: `call` is a plain function that does not unwind.
        let registered = unsafe { nix::libc::atexit(call) };
        assert_eq!(registered, 0, "{}", io::Error::last_os_error());
    }
}
