//! A fleet as its operator has it: a lab of some nodes, a Git server, and a repository to push to.
//!
//! Making one takes seconds, so tests share it, one at a time; each begins by bringing it back to
//! where it was: everything plugged in and running, six ready pods of the shop. There are two: three
//! nodes on one link, and five on two links, large enough to be folded.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read as _;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use windlass::adapters::clock;
use windlass::adapters::lab::{LABS, Lab};
use windlass::kinds::time::Elapsed;

use super::host::{at_exit, inside, may_run};
use super::http::Connection;
use super::images::busybox;
use super::must_git;
use super::site::{IMAGE, NAMESPACE, is_ready, web};

/// What the nodes are called.
pub(crate) const NODES: [&str; 3] = ["n1", "n2", "n3"];
/// One more that the lab knows and no test but one starts.
pub(crate) const SPARE: &str = "n4";
/// How many pods of the shop there are where a test says nothing else.
pub(crate) const PODS: usize = 6;
/// The shop's port on every node.
pub(crate) const PORT: u16 = 30080;
/// The lease, as the lab is told.
pub(crate) const LEASE: Duration = Duration::from_secs(3);
/// How long nodes may be silent.
pub(crate) const NOT_READY_AFTER: Duration = Duration::from_secs(4);
/// How long pods stay on a node that is lost.
pub(crate) const EVICT_AFTER: Duration = Duration::from_secs(5);

/// How a shared fleet is made.
struct Shape {
    /// What its lab's name begins with.
    prefix: &'static str,
    nodes: &'static [&'static str],
    links: &'static str,
    /// Settings beside those of all.
    settings: &'static [&'static str],
}

const THREE: Shape = Shape { prefix: "we2e", nodes: &NODES, links: "1", settings: &[] };
const FIVE: Shape = Shape {
    prefix: "we5e",
    nodes: &["n1", "n2", "n3", "n4", "n5"],
    links: "2",
    settings: &["fleet.foldAbove=1"],
};
/// Nothing takes longer, on a busy machine either.
const WAIT_MAX: Duration = Duration::from_secs(180);
const WAIT_STEP: Duration = Duration::from_millis(50);

/// A lab of some nodes.
pub(crate) struct Fleet {
    pub(crate) lab: Lab,
    /// Its nodes' names.
    pub(crate) nodes: &'static [&'static str],
    /// Agents run that may have been given other settings than the lab's.
    is_altered: AtomicBool,
    work: PathBuf,
    files: tempfile::TempDir,
    /// Held open for as long as the lab is wanted.
    keeper: Option<(Child, ChildStdin)>,
}

/// A fleet that tests share, once one of them has asked for it.
type Shared = OnceLock<Option<Mutex<Fleet>>>;
static SHARED_THREE: Shared = OnceLock::new();
static SHARED_FIVE: Shared = OnceLock::new();

fn end_shared() {
    for fleet in [&SHARED_THREE, &SHARED_FIVE].into_iter().filter_map(Shared::get).flatten() {
        fleet.lock().unwrap_or_else(PoisonError::into_inner).end();
    }
}

/// Containers of pods that run, by node and by the pod's name, each with its number.
pub(crate) type Running = BTreeMap<(String, String), BTreeSet<String>>;

impl Fleet {
    /// The fleet of three that tests share, settled. None where there can't be one, said aloud.
    pub(crate) fn settled() -> Option<MutexGuard<'static, Self>> {
        Self::shared(&SHARED_THREE, &THREE)
    }

    /// The fleet of five, on two links, of which the coordinator folds what all say.
    pub(crate) fn of_five() -> Option<MutexGuard<'static, Self>> {
        Self::shared(&SHARED_FIVE, &FIVE)
    }

    fn shared(place: &'static Shared, shape: &Shape) -> Option<MutexGuard<'static, Self>> {
        let shared = place.get_or_init(|| {
            let began = now();
            let fleet = Self::start(shape)?;
            took("made", now().since(began));
            at_exit(end_shared);
            Some(Mutex::new(fleet))
        });
        let fleet = shared.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        let began = now();
        fleet.settle();
        took("settled", now().since(began));
        Some(fleet)
    }

    fn start(shape: &Shape) -> Option<Self> {
        if !may_run(&["dockerd", "containerd", "ip", "nsenter", "iptables", "git", "busybox"]) {
            return None;
        }
        clean_leftovers();
        let name = format!("{}{}", shape.prefix, std::process::id());
        let files = super::scratch("we2e-fleet-");
        let dir = files.path();
        must_git(dir, &["init", "-q", "--bare", "-b", "main", "desired.git"]);
        must_git(dir, &["init", "-q", "-b", "main", "work"]);
        let work = dir.join("work");
        must_git(&work, &["remote", "add", "origin", "../desired.git"]);
        push_from(
            &work,
            "The shop",
            &[("namespace.yaml", NAMESPACE), ("web.yaml", &shop("one", PODS))],
        );
        fs::create_dir(dir.join("images")).expect("made");
        let image = busybox(IMAGE, &json!({"Cmd": ["sh"]}));
        fs::write(dir.join("images/app.tar"), &image.tar).expect("written");

        let keeper = keeper(&name);
        let (path, images) = (dir.join("desired.git"), dir.join("images"));
        let count = shape.nodes.len().to_string();
        let mut up = vec!["up", "--nodes", &count, "--links", shape.links];
        up.extend(["--desired", path.to_str()?]);
        up.extend(["--images", images.to_str()?, "--wait"]);
        let settings = [
            "fleet.lease=3s",
            "fleet.beat=1s",
            "fleet.notReadyAfter=4s",
            "fleet.evictAfter=5s",
            "desired.poll=1s",
        ];
        let settings = settings.iter().chain(shape.settings);
        up.extend(settings.flat_map(|setting| ["--set", *setting]));
        let output = in_lab(&name, &up).output().expect("it runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
        let mut lab = Lab::open(&name).expect("the lab is there");
        // So that it is ended with the others.
        lab.nodes.entry(SPARE.to_owned()).or_insert(14);
        lab.save().expect("saved");
        let (nodes, keeper, is_altered) = (shape.nodes, Some(keeper), AtomicBool::new(false));
        Some(Self { lab, nodes, is_altered, work, files, keeper })
    }

    /// Plugs in, starts and pushes whatever is not as it was at the beginning.
    fn settle(&self) {
        let _ = fs::remove_file(self.state().join("hooks/pre-receive"));
        // A test that failed may have left it, under another's name even.
        if !self.nodes.contains(&SPARE) {
            self.lab.host(SPARE).destroy().expect("ended");
        }
        self.lab.start_server(&mut |_| ()).expect("the server starts");
        if self.nodes.iter().any(|node| self.said(node).contains("it was set back")) {
            self.delete_state_ref("refs/windlass/coordinator");
        }
        for node in self.nodes {
            self.lab.start_node(node, &mut |_| ()).expect("the node starts");
            self.lab.set_cable(node, true).expect("plugged in");
        }
        self.restore_settings();
        let extra =
            fs::read_dir(&self.work).expect("read").flatten().map(|entry| entry.file_name());
        for name in extra.filter(|name| name.to_string_lossy().starts_with("extra")) {
            fs::remove_file(self.work.join(name)).expect("removed");
        }
        // A test that failed may have left claims.
        let message = "The shop\n\nWindlass-Allow-Prune: yes";
        let commit = self.push(message, &[("web.yaml", &shop("one", PODS))]);
        for node in self.nodes {
            self.wait_in_force(node, &commit);
        }
        self.wait_settled(PODS);
    }

    /// Starts a node's agent anew with settings laid over the lab's.
    pub(crate) fn configure(&self, node: &str, settings: &[(&str, &str)]) {
        self.is_altered.store(true, Ordering::Relaxed);
        let mut lab = self.lab.clone();
        for (field, value) in settings {
            lab.settings.insert((*field).to_owned(), (*value).to_owned());
        }
        if self.lab.agent_answers(node) {
            self.kill_agent(node);
        }
        lab.start_node(node, &mut |_| ()).expect("it starts");
    }

    /// Gives all agents the lab's settings again, also where a test has failed half-way.
    pub(crate) fn restore_settings(&self) {
        if !self.is_altered.load(Ordering::Relaxed) {
            return;
        }
        let name = "refs/windlass/coordinator:settings.json";
        let recorded: Value =
            serde_json::from_str(&must_git(&self.state(), &["show", name])).expect("settings");
        let version = recorded["version"].as_u64().unwrap_or(0) + 1;
        for node in self.nodes {
            self.configure(node, &[("fleet.version", &version.to_string())]);
        }
        self.is_altered.store(false, Ordering::Relaxed);
    }

    /// Waits until every node says that there are so many pods, all ready, and just these run.
    #[track_caller]
    pub(crate) fn wait_settled(&self, count: usize) -> BTreeMap<String, Value> {
        let whole = json!({"total": count, "ready": count});
        self.wait(&format!("{count} pods, all ready, as each node sees it"), || {
            let agrees = |node: &&str| {
                let status = self.status(node);
                let faults = status["faults"].as_array().map_or(1, Vec::len);
                let ready = status["nodes"]["ready"].as_u64();
                let are_ready = ready.is_some_and(|ready| ready == self.nodes.len() as u64);
                status["pods"] == whole && are_ready && faults == 0
            };
            if !self.nodes.iter().all(agrees) {
                return None;
            }
            let pods = self.pods(self.nodes[0]);
            let running = self.running();
            let is_there = |pod: &Value| {
                running.contains_key(&(node_of(pod).to_owned(), name_of(pod).to_owned()))
            };
            let is_whole =
                pods.len() == count && pods.values().all(|pod| is_there(pod) && is_ready(pod));
            (is_whole && running.len() == count).then_some(pods)
        })
    }

    /// A namespace's pods by name, as a node's agent shows them.
    pub(crate) fn pods(&self, node: &str) -> BTreeMap<String, Value> {
        let list = self.get(node, "/api/v1/namespaces/shop/pods");
        let pods = list["items"].as_array().cloned().unwrap_or_default();
        pods.into_iter().map(|pod| (name_of(&pod).to_owned(), pod)).collect()
    }

    /// Asks a node's agent; null where it does not answer.
    pub(crate) fn get(&self, node: &str, path: &str) -> Value {
        let answer =
            Connection::open(&self.lab.agent_socket(node)).and_then(|mut agent| agent.get(path));
        answer.map(|answer| answer.json()).unwrap_or_default()
    }

    /// How a node says that all stands.
    pub(crate) fn status(&self, node: &str) -> Value {
        self.get(node, "/windlass/v1/status")
    }

    /// What `windlass status` prints on a node.
    pub(crate) fn said(&self, node: &str) -> String {
        self.windlass(node, &["status"])
    }

    /// What the program prints on a node.
    pub(crate) fn windlass(&self, node: &str, args: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
        let output =
            command.args(args).env("WINDLASS_SOCKET", self.lab.agent_socket(node)).output();
        let output = output.expect("it runs");
        let text = [output.stdout, output.stderr].concat();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Who coordinates, as these nodes say.
    #[track_caller]
    pub(crate) fn coordinator(&self) -> &'static str {
        self.wait("a coordinator", || {
            let leads = |node: &&&str| self.status(node)["isCoordinator"] == true;
            self.nodes.iter().find(leads).copied()
        })
    }

    /// Waits until another node than this one leads, as it says itself; which, and how long it took.
    #[track_caller]
    pub(crate) fn successor(&self, of: &str) -> (&'static str, Duration) {
        let began = now();
        let next = self.wait(&format!("a coordinator other than {of}"), || {
            let leads = |node: &&&str| **node != of && self.status(node)["isCoordinator"] == true;
            self.nodes.iter().find(leads).copied()
        });
        (next, now().since(began))
    }

    /// The nodes of the fleet of three that are not this one.
    pub(crate) fn others(node: &str) -> Vec<&'static str> {
        NODES.into_iter().filter(|other| *other != node).collect()
    }

    /// Containers that run, by Docker on each node.
    pub(crate) fn running(&self) -> Running {
        let mut running = Running::new();
        for node in self.nodes {
            for (pod, id) in self.containers(node) {
                running.entry(((*node).to_owned(), pod)).or_default().insert(id);
            }
        }
        running
    }

    /// Containers of pods that run on a node: the pod's name and the container's id.
    pub(crate) fn containers(&self, node: &str) -> Vec<(String, String)> {
        let socket = self.lab.host(node).socket();
        let list = Connection::open(&socket).and_then(|mut docker| docker.get("/containers/json"));
        let list = list.map(|list| list.json()).unwrap_or_default();
        let named = list.as_array().into_iter().flatten().filter_map(|one| {
            let pod = one["Labels"]["io.windlass.pod.name"].as_str()?;
            Some((pod.to_owned(), one["Id"].as_str()?.to_owned()))
        });
        named.collect()
    }

    /// Does `work` in a node's network.
    pub(crate) fn inside<T: Send>(&self, node: &str, work: impl FnOnce() -> T + Send) -> T {
        inside(&self.lab.host(node).netns(), work)
    }

    /// The archive with the shop's image.
    pub(crate) fn image(&self) -> PathBuf {
        self.files.path().join("images/app.tar")
    }

    /// The shop's door on a node.
    pub(crate) fn entrance(&self, node: &str) -> SocketAddr {
        SocketAddr::from((self.lab.address(node).expect("an address"), PORT))
    }

    /// Every pod asks every pod, and is seen under its own address.
    pub(crate) fn pods_reach_each_other(&self, pods: &BTreeMap<String, Value>) {
        for pod in pods.values() {
            let asks = pods.values().map(|other| {
                let ask = r"printf 'GET /cgi-bin/who HTTP/1.0\r\n\r\n'";
                format!("{ask} | nc -w 5 {} 8080 | tail -n 1", address_of(other))
            });
            let asks: Vec<String> = asks.collect();
            let answers = self.in_pod(pod, &asks.join("; ")).expect("answers");
            let answers = answers.replace("[::ffff:", "").replace(']', "");
            let expected =
                pods.values().map(|other| format!("{} {}", name_of(other), address_of(pod)));
            let expected: Vec<String> = expected.collect();
            assert_eq!(answers.lines().collect::<Vec<_>>(), expected, "from {}", name_of(pod));
        }
    }

    /// Runs a line of shell in a pod's web server.
    pub(crate) fn in_pod(&self, pod: &Value, line: &str) -> Result<String, String> {
        let (name, node) = (name_of(pod), node_of(pod));
        let id = pod["status"]["containerStatuses"][0]["containerID"].as_str().unwrap_or_default();
        let id = id.rsplit('/').next().unwrap_or_default();
        let docker = format!("unix://{}", self.lab.host(node).socket().display());
        let output =
            Command::new("docker").args(["-H", &docker, "exec", id, "sh", "-c", line]).output();
        let output = output.map_err(|error| error.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
        if output.status.success() {
            Ok(text(&output.stdout))
        } else {
            Err(format!("{name}: {}{}", text(&output.stdout), text(&output.stderr)))
        }
    }

    /// Ends a node's agent and nothing else, as a crash does.
    pub(crate) fn kill_agent(&self, node: &str) {
        let config = self.lab.host(node).dir().join("agent.yaml");
        let mut killed = 0;
        for entry in fs::read_dir("/proc").expect("/proc").flatten() {
            let mut line = Vec::new();
            let file = fs::File::open(entry.path().join("cmdline"));
            let read = file.and_then(|mut file| file.read_to_end(&mut line));
            let last = line.split(|byte| *byte == 0).rfind(|word| !word.is_empty());
            let pid = entry.file_name().to_string_lossy().parse::<i32>();
            let is_it =
                last.is_some_and(|last| Path::new(&*String::from_utf8_lossy(last)) == config);
            if let (Ok(_), Ok(pid), true) = (read, pid, is_it) {
                kill(Pid::from_raw(pid), Signal::SIGKILL).expect("it can be killed");
                killed += 1;
            }
        }
        assert_eq!(killed, 1, "agents of {node}");
        self.wait("the agent's end", || (!self.lab.agent_answers(node)).then_some(()));
    }

    /// Starts a node's agent and waits until it answers.
    pub(crate) fn start_agent(&self, node: &str) {
        self.lab.start_node(node, &mut |_| ()).expect("the node starts");
        self.wait("the agent", || self.lab.agent_answers(node).then_some(()));
    }

    /// What a node's agents have logged.
    pub(crate) fn log(&self, node: &str) -> String {
        fs::read_to_string(self.lab.host(node).dir().join("agent.log")).unwrap_or_default()
    }

    /// The repository that keeps the state.
    pub(crate) fn state(&self) -> PathBuf {
        self.lab.state_repository()
    }

    /// A ref of the state repository; nothing if it is not there.
    pub(crate) fn state_ref(&self, name: &str) -> Option<String> {
        let out = super::git(&self.state(), &["rev-parse", "-q", "--verify", name]);
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
    }

    /// Deletes a ref of the state repository, as somebody who tampers with it does.
    pub(crate) fn delete_state_ref(&self, name: &str) {
        must_git(&self.state(), &["update-ref", "-d", name]);
    }

    /// Writes files, commits and pushes; the commit.
    pub(crate) fn push(&self, message: &str, files: &[(&str, &str)]) -> String {
        push_from(&self.work, message, files)
    }

    /// The desired repository, where people push.
    pub(crate) fn desired(&self) -> PathBuf {
        self.files.path().join("desired.git")
    }

    /// Takes what others have pushed.
    pub(crate) fn pull(&self) {
        must_git(&self.work, &["fetch", "-q", "origin", "main"]);
        must_git(&self.work, &["reset", "-q", "--hard", "FETCH_HEAD"]);
    }

    /// Waits until this commit is in force, as a node says.
    #[track_caller]
    pub(crate) fn wait_in_force(&self, node: &str, commit: &str) {
        self.wait(&format!("{commit} in force on {node}"), || {
            (self.status(node)["apps"][0]["inForce"]["commit"] == commit).then_some(())
        });
    }

    /// Waits until `look` finds what it looks for.
    #[track_caller]
    pub(crate) fn wait<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let began = now();
        while now().since(began) < WAIT_MAX {
            if let Some(found) = look() {
                return found;
            }
            std::thread::sleep(WAIT_STEP);
        }
        let mut story = format!("never: {what}\n");
        for node in self.nodes {
            let log = self.log(node);
            let lines: Vec<&str> = log.lines().rev().take(25).collect();
            let lines: Vec<&str> = lines.into_iter().rev().collect();
            let said = self.said(node);
            story.push_str(&format!("---- {node}\n{said}\n{}\n", lines.join("\n")));
        }
        panic!("{story}");
    }

    fn end(&mut self) {
        if let Some((mut keeper, pipe)) = self.keeper.take() {
            drop(pipe);
            let status = keeper.wait().expect("the keeper ends");
            assert!(status.success(), "the keeper failed");
        }
        // The shared fleets are never dropped.
        let _ = fs::remove_dir_all(self.files.path());
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        self.end();
    }
}

/// Says how long something took: figures for whoever reads the test's output.
#[allow(clippy::print_stderr)]
pub(crate) fn took(what: &str, time: Duration) {
    eprintln!("fleet: {what}: {:.1} s", time.as_secs_f64());
}

/// Now, by this machine's own clock.
pub(crate) fn now() -> Elapsed {
    clock::now().elapsed
}

/// A pod's name.
pub(crate) fn name_of(pod: &Value) -> &str {
    pod["metadata"]["name"].as_str().unwrap_or_default()
}

/// The node a pod is bound to.
pub(crate) fn node_of(pod: &Value) -> &str {
    pod["spec"]["nodeName"].as_str().unwrap_or_default()
}

/// A pod's address.
pub(crate) fn address_of(pod: &Value) -> &str {
    pod["status"]["podIP"].as_str().unwrap_or_default()
}

fn push_from(work: &Path, message: &str, files: &[(&str, &str)]) -> String {
    for (path, text) in files {
        fs::write(work.join(path), text).expect("written");
    }
    must_git(work, &["add", "-A"]);
    must_git(work, &["commit", "-q", "--allow-empty", "-m", message]);
    must_git(work, &["push", "-q", "origin", "main"]);
    must_git(work, &["rev-parse", "HEAD"])
}

fn in_lab(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
    command.args(["lab", "--lab", name]).args(args);
    command
}

/// Starts the process that ends the lab when the test process is gone, however it ended.
fn keeper(name: &str) -> (Child, ChildStdin) {
    let down = r#"cat >/dev/null; "$1" lab --lab "$2" down 2>/dev/null || [ ! -e "$3" ]"#;
    let mut keeper = Command::new("sh")
        .args(["-c", down, "keeper", env!("CARGO_BIN_EXE_windlass"), name])
        .arg(Lab::dir_of(name))
        .stdin(Stdio::piped())
        // A group of its own: Ctrl-C ends the tests, not the cleaning up.
        .process_group(0)
        .spawn()
        .expect("the keeper starts");
    let pipe = keeper.stdin.take().expect("the keeper has a pipe");
    (keeper, pipe)
}

/// Ends labs of test processes that are gone, and their keepers with them.
fn clean_leftovers() {
    for entry in fs::read_dir(LABS).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let mut prefixes = [THREE.prefix, FIVE.prefix].into_iter();
        let pid = prefixes.find_map(|prefix| name.strip_prefix(prefix)?.parse::<u32>().ok());
        let is_left = pid.is_some_and(|pid| !Path::new("/proc").join(pid.to_string()).exists());
        // A keeper may be at it.
        let is_old = entry.metadata().and_then(|seen| seen.modified());
        let is_old = is_old.is_ok_and(|at| at.elapsed().is_ok_and(|age| age > WAIT_MAX));
        if is_left && is_old {
            let _ = in_lab(&name, &["down"]).status();
        }
    }
}

/// A web server behind every node's port [`PORT`].
pub(crate) fn shop(page: &str, replicas: usize) -> String {
    web(page, u32::try_from(replicas).expect("a few"), PORT)
}
