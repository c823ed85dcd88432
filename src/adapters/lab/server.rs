//! The Git server of a lab of several nodes: what stands between the machines of a real fleet, so
//! that a node whose cable is pulled is cut off from Git too.
//!
//! ```text
//!   git daemon at 10.99.x.2, on the bridge itself
//!     <lab>/state.git       read and written by agents
//!     <desired repository>  read by agents; people push to its path
//! ```
//!
//! Nothing else of the machine is served: the daemon is given the list of what may be asked for.

use std::ffi::OsStr;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::host::{Host, LabFault, MARK, run};
use super::{Lab, Progress};
use crate::adapters::git::clear_locks;

/// The port that `git://` means.
const PORT: u16 = 9418;
/// Every node may ask twice at once: for what is wished and for the state.
const CONNECTIONS_MAX: u8 = 200;
/// A connection whose other end was cut off is given up.
const SILENCE_MAX_S: u8 = 30;
/// The daemon is up in some milliseconds.
const START_STEPS_MAX: u32 = 100;
const START_STEP: Duration = Duration::from_millis(50);
const ANSWER_MAX: Duration = Duration::from_secs(1);

impl Lab {
    /// The address of the lab's Git server.
    pub fn server_address(&self) -> Ipv4Addr {
        self.router_address(0)
    }

    /// Where nodes find a repository of this machine. None for a path that means something else in
    /// an address.
    pub fn served_url(&self, path: &Path) -> Option<String> {
        let path = path.to_str()?;
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._+-@,=".contains(c);
        (path.starts_with('/') && path.chars().all(is_plain))
            .then(|| format!("git://{}{path}", self.server_address()))
    }

    /// The repository that keeps the state of a lab of several nodes.
    pub fn state_repository(&self) -> PathBuf {
        self.dir.join("state.git")
    }

    /// Whether the lab has a Git server: one node alone needs none.
    pub fn has_server(&self) -> bool {
        !self.served.is_empty()
    }

    /// Whether the server answers a question. A connection says nothing: with the lab's network gone,
    /// a proxy of the machine's may take it.
    pub fn server_answers(&self) -> bool {
        let ask = || -> io::Result<bool> {
            let address = SocketAddr::from((self.server_address(), PORT));
            let mut stream = TcpStream::connect_timeout(&address, ANSWER_MAX)?;
            stream.set_read_timeout(Some(ANSWER_MAX))?;
            // gitprotocol-pack(5): each line begins with its length in four digits.
            let question = format!("git-upload-pack {}\0", self.state_repository().display());
            write!(stream, "{:04x}{question}", question.len() + 4)?;
            let mut length = [0; 4];
            stream.read_exact(&mut length)?;
            Ok(length.iter().all(u8::is_ascii_hexdigit))
        };
        ask().unwrap_or(false)
    }

    /// Makes the state repository and starts the server, where they are not there already.
    pub fn start_server(&self, progress: Progress<'_>) -> Result<(), LabFault> {
        if !self.has_server() {
            return Err(LabFault::new(
                format!("lab {}", self.name),
                "has one node, whose repositories are paths: there is no Git server",
            ));
        }
        self.make_state_repository()?;
        if self.server_answers() {
            return Ok(());
        }
        progress("Git server");
        // Whoever wrote here was ended with the server, perhaps in the middle of it.
        clear_locks(&self.state_repository());
        let server = self.server();
        fs::create_dir_all(server.dir())
            .and_then(|()| fs::write(server.dir().join(".windlass-lab"), ""))
            .map_err(|error| LabFault::new(format!("making {}", server.dir().display()), error))?;
        let mut daemon = self.server_command("git");
        daemon
            .args(["daemon", "--reuseaddr", "--export-all", "--informative-errors"])
            .arg(format!("--listen={}", self.server_address()))
            .arg(format!("--max-connections={CONNECTIONS_MAX}"))
            .args([format!("--timeout={SILENCE_MAX_S}"), format!("--init-timeout={SILENCE_MAX_S}")])
            .args(&self.served);
        let mut child = server.spawn("git.log", &mut daemon)?;
        for _ in 0..START_STEPS_MAX {
            if self.server_answers() {
                return Ok(());
            }
            if let Ok(Some(status)) = child.try_wait() {
                let log = server.log_end("git.log");
                return Err(LabFault::new("git daemon", format!("{status}: {log}")));
            }
            std::thread::sleep(START_STEP);
        }
        Err(LabFault::new("git daemon", format!("does not answer: {}", server.log_end("git.log"))))
    }

    /// Ends the server and whatever it is doing, at once. The repositories stay.
    pub fn stop_server(&self) -> Result<(), LabFault> {
        let server = self.server();
        if server.dir().exists() { server.power_off() } else { Ok(()) }
    }

    /// The server's processes are found like a host's, but it has no namespace of its own: that
    /// name is nobody's.
    fn server(&self) -> Host {
        Host::new(&format!("wdl-{}-git", self.name), &self.dir.join("server"))
    }

    fn server_command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{}", self.switch()))
            .arg("--")
            .arg(program)
            .env(MARK, self.server().dir())
            .stdin(Stdio::null());
        // Nothing of whoever starts it; and repositories of other owners are served as well, or
        // else a repository of the person's own is refused to a server that root has started.
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_CEILING_DIRECTORIES"] {
            command.env_remove(name);
        }
        command
            .env("GIT_CONFIG_COUNT", "1")
            .env("GIT_CONFIG_KEY_0", "safe.directory")
            .env("GIT_CONFIG_VALUE_0", "*");
        command
    }

    fn make_state_repository(&self) -> Result<(), LabFault> {
        let path = self.state_repository();
        if path.join("HEAD").exists() {
            return Ok(());
        }
        let new = self.dir.join("state.new");
        let _ = fs::remove_dir_all(&new);
        run(Command::new("git").args(["init", "-q", "--bare"]).arg(&new))?;
        // The daemon lets nobody push but where the repository says so. What it has said yes to
        // must outlive a power cut: by default Git syncs nothing.
        for (key, value) in [("daemon.receivepack", "true"), ("core.fsync", "all")] {
            run(Command::new("git").arg("-C").arg(&new).args(["config", key, value]))?;
        }
        fs::rename(&new, &path)
            .map_err(|error| LabFault::new(format!("making {}", path.display()), error))
    }
}
