//! A node as its operator has it: a host with Docker, a repository to push to, an agent, and a
//! visitor on another machine.
//!
//! ```text
//!   visitor 192.168.77.1 ──cable── 192.168.77.2 host: dockerd, windlass agent ── desired.git ◀─push─ work
//! ```

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use windlass::adapters::clock;

use super::host::Host;
use super::http::Connection;
use super::images::busybox;
use super::must_git;
use super::namespace::Namespace;

/// The visitor's address. What it runs there is on another machine for the node.
pub(crate) const VISITOR: &str = "192.168.77.1";
/// The node's address.
pub(crate) const NODE: &str = "192.168.77.2";
/// The port of its metrics.
pub(crate) const METRICS: u16 = 9464;
/// The image that tests run: a shell, httpd and the usual tools.
pub(crate) const IMAGE: &str = "registry.example.com/test/app:1";

/// Nothing takes longer, on a busy machine either.
const WAIT_MAX: Duration = Duration::from_secs(180);

/// A node, and who uses it.
pub(crate) struct Site {
    pub(crate) host: Host,
    pub(crate) visitor: Namespace,
    agent: Option<Child>,
    starts: u32,
}

/// What became of an HTTP request.
pub(crate) type Fetched = Result<String, String>;

impl Site {
    /// A site whose agent runs and has nothing to do. None where there can't be one.
    pub(crate) fn start(prefix: &str) -> Option<Self> {
        let mut site = Self::without_agent(prefix)?;
        site.start_agent();
        Some(site)
    }

    /// The same before the agent is started for the first time.
    pub(crate) fn without_agent(prefix: &str) -> Option<Self> {
        let host = Host::start(prefix)?;
        let visitor = Namespace::new()?;
        let namespace = host.netns().file_name()?.to_string_lossy().into_owned();
        visitor.sh(&format!(
            "ip link add v0 type veth peer name eth0 netns {namespace}
             ip addr add {VISITOR}/24 dev v0; ip link set v0 up"
        ));
        for args in [
            ["addr", "add", "192.168.77.2/24", "dev", "eth0"].as_slice(),
            &["link", "set", "eth0", "up"],
            &["route", "add", "default", "via", "192.168.77.1"],
        ] {
            super::host::run(host.command("ip").args(args));
        }
        host.load(&busybox(IMAGE, &json!({"Cmd": ["sh"]})));
        let dir = host.dir().to_path_buf();
        must_git(&dir, &["init", "-q", "--bare", "-b", "main", "desired.git"]);
        must_git(&dir, &["init", "-q", "-b", "main", "work"]);
        let site = Self { host, visitor, agent: None, starts: 0 };
        site.git(&["remote", "add", "origin", "../desired.git"]);
        fs::create_dir_all(site.data_dir()).expect("made");
        site.configure(&json!({"url": dir.join("desired.git"), "poll": "5s"}));
        Some(site)
    }

    /// Writes the agent's configuration, with this as its desired repository.
    pub(crate) fn configure(&self, desired: &Value) {
        let config = json!({
            "node": {"name": "n1"},
            "desired": desired,
            "docker": {"socket": self.host.socket()},
            "dataDir": self.data_dir(),
            "runDir": self.host.run_dir(),
            "api": {"socket": self.socket(), "metrics": format!("{NODE}:{METRICS}")},
        });
        fs::write(self.host.dir().join("agent.yaml"), config.to_string()).expect("written");
    }

    /// The repository that is pushed to, as the agent reaches it where nothing else is configured.
    pub(crate) fn desired(&self) -> PathBuf {
        self.host.dir().join("desired.git")
    }

    /// The agent's disk.
    pub(crate) fn data_dir(&self) -> PathBuf {
        self.host.dir().join("windlass")
    }

    /// The agent's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.host.run_dir().join("agent.sock")
    }

    /// Where the agent tells systemd how it is.
    pub(crate) fn notify_socket(&self) -> PathBuf {
        self.host.dir().join("notify.sock")
    }

    /// Runs the program as a person does; what it prints, and whether it succeeded.
    pub(crate) fn windlass(&self, args: &[&str]) -> (String, bool) {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_windlass"));
        command.args(args).env("WINDLASS_SOCKET", self.socket());
        let output = command.output().expect("it runs");
        let said = [output.stdout, output.stderr].concat();
        (String::from_utf8_lossy(&said).into_owned(), output.status.success())
    }

    /// Takes the power from the machine: everything in memory is gone, the disk stays.
    pub(crate) fn cut_power(&mut self) {
        self.stop_agent(Signal::SIGKILL);
        self.host.stop_docker(Signal::SIGKILL);
        for entry in fs::read_dir("/proc").expect("procfs").flatten() {
            let cgroup = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            let name = self.host.dir().file_name().expect("a name").to_string_lossy().into_owned();
            let pid = entry.file_name().to_string_lossy().parse::<i32>();
            if let (Ok(pid), true) = (pid, cgroup.contains(&name)) {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
        }
    }

    /// Starts the agent; does not wait for it.
    pub(crate) fn start_agent(&mut self) {
        self.start_agent_with(&[]);
    }

    /// The same with something in its environment.
    pub(crate) fn start_agent_with(&mut self, environment: &[(&str, &str)]) {
        self.starts += 1;
        let mut command = self.host.command(env!("CARGO_BIN_EXE_windlass"));
        command.args(["agent", "--config"]).arg(self.host.dir().join("agent.yaml"));
        // Nobody need listen there.
        command.env("NOTIFY_SOCKET", self.notify_socket());
        command.envs(environment.iter().copied());
        self.agent = Some(self.host.spawn(&format!("agent-{:03}.log", self.starts), &mut command));
    }

    /// The agent's process.
    pub(crate) fn agent_pid(&self) -> u32 {
        self.agent.as_ref().map_or(0, Child::id)
    }

    /// Ends the agent.
    pub(crate) fn stop_agent(&mut self, signal: Signal) {
        let pid = i32::try_from(self.agent_pid()).expect("a pid");
        let Some(mut agent) = self.agent.take() else { return };
        kill(Pid::from_raw(pid), signal).expect("the agent can be signalled");
        agent.wait().expect("the agent ends");
    }

    /// What the last agent logged.
    pub(crate) fn log(&self) -> String {
        let name = format!("agent-{:03}.log", self.starts);
        fs::read_to_string(self.host.dir().join(name)).unwrap_or_default()
    }

    /// Runs git in the clone that is pushed from.
    pub(crate) fn git(&self, args: &[&str]) -> String {
        must_git(&self.host.dir().join("work"), args)
    }

    /// Writes files into the clone (no text: removed), commits and pushes; the commit.
    pub(crate) fn push(&self, message: &str, files: &[(&str, Option<&str>)]) -> String {
        let work = self.host.dir().join("work");
        for (path, text) in files {
            let path = work.join(path);
            match text {
                Some(text) => {
                    fs::create_dir_all(path.parent().unwrap_or(Path::new("/"))).expect("made");
                    fs::write(path, text).expect("written");
                }
                None => fs::remove_file(path).expect("removed"),
            }
        }
        self.git(&["add", "-A"]);
        self.git(&["commit", "-q", "--allow-empty", "-m", message]);
        self.git(&["push", "-q", "origin", "main"]);
        self.git(&["rev-parse", "HEAD"])
    }

    /// Asks the agent; null where it does not answer.
    pub(crate) fn get(&self, path: &str) -> Value {
        let answer = Connection::open(&self.socket()).and_then(|mut agent| agent.get(path));
        answer.map(|answer| answer.json()).unwrap_or_default()
    }

    /// A namespace's pods that are not ending, as the API shows them.
    pub(crate) fn pods(&self, selector: &str) -> Vec<Value> {
        let path = format!("/api/v1/namespaces/shop/pods?labelSelector={selector}");
        let list = self.get(&path);
        let pods = list["items"].as_array().cloned().unwrap_or_default();
        pods.into_iter().filter(|pod| pod["metadata"]["deletionTimestamp"].is_null()).collect()
    }

    /// How the agent says that all stands.
    pub(crate) fn status(&self) -> Value {
        self.get("/windlass/v1/status")
    }

    /// Waits until `look` finds what it looks for.
    #[track_caller]
    pub(crate) fn wait<T>(&self, what: &str, look: impl Fn(&Self) -> Option<T>) -> T {
        let began = clock::now().elapsed;
        while clock::now().elapsed.since(began) < WAIT_MAX {
            if let Some(found) = look(self) {
                return found;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let status = self.status();
        panic!("never: {what}\n{status:#}\n{}", tail(&self.log()));
    }

    /// Waits until there are so many ready pods, and no others; their names.
    #[track_caller]
    pub(crate) fn wait_ready(&self, selector: &str, count: usize) -> Vec<String> {
        self.wait(&format!("{count} ready pods of {selector}"), |site| {
            let pods = site.pods(selector);
            (pods.len() == count && pods.iter().all(is_ready))
                .then(|| pods.iter().map(name).collect())
        })
    }

    /// Waits until this commit is in force.
    #[track_caller]
    pub(crate) fn wait_in_force(&self, commit: &str) {
        self.wait(&format!("{commit} in force"), |site| {
            (site.status()["apps"][0]["inForce"]["commit"] == commit).then_some(())
        });
    }

    /// The visitor asks for a page.
    pub(crate) fn fetch(&self, port: u16) -> Fetched {
        self.fetch_from(port, "/index.html")
    }

    /// The visitor asks for this page.
    pub(crate) fn fetch_from(&self, port: u16, path: &'static str) -> Fetched {
        self.visitor.run(move || get(port, path)).map(|page| page.trim().to_owned())
    }

    /// Containers' ids of the pods of this selector, by Docker.
    pub(crate) fn containers(&self, pod: &str) -> Vec<String> {
        let list = self.host.plain().get("/containers/json").expect("Docker answers").json();
        let mut ids: Vec<String> = list
            .as_array()
            .into_iter()
            .flatten()
            .filter(|one| one["Names"][0].as_str().is_some_and(|name| name.contains(pod)))
            .filter_map(|one| one["Id"].as_str().map(str::to_owned))
            .collect();
        ids.sort();
        ids
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        // Reaped here; the host's keeper ends whatever is left.
        self.stop_agent(Signal::SIGKILL);
    }
}

/// One request to the node, on a connection of its own.
pub(crate) fn fetch(port: u16) -> Fetched {
    get(port, "/index.html")
}

fn get(port: u16, path: &str) -> Fetched {
    let address: SocketAddr = format!("{NODE}:{port}").parse().expect("an address");
    let ask = || -> std::io::Result<String> {
        let limit = Duration::from_secs(3);
        let mut stream = TcpStream::connect_timeout(&address, limit)?;
        stream.set_read_timeout(Some(limit))?;
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        Ok(text)
    };
    let text = ask().map_err(|error| error.to_string())?;
    match text.split_once("\r\n\r\n") {
        Some((head, page)) if head.split(' ').nth(1) == Some("200") => Ok(page.to_owned()),
        _ => Err(format!("{text:?}")),
    }
}

/// A pod's name.
pub(crate) fn name(pod: &Value) -> String {
    pod["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}

/// Whether a pod is ready.
pub(crate) fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().rev().take(40).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}

/// A Namespace, for the files of tests.
pub(crate) const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";

/// A web server whose page is `page`, with a Service on a node port; `/cgi-bin/who` says which pod
/// answers and whom it sees. It ends as a well-behaved server does: it takes no more connections and
/// finishes those it has.
pub(crate) fn web(page: &str, replicas: u32, port: u16) -> String {
    format!(
        r#"apiVersion: apps/v1
kind: Deployment
metadata: {{name: web, namespace: shop}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 10
      containers:
        - name: web
          image: {IMAGE}
          command: [sh, -c]
          args:
            - |
              mkdir -p /tmp/www/cgi-bin; echo {page} > /tmp/www/index.html
              printf '#!/bin/sh\nprintf "\\r\\n$HOSTNAME $REMOTE_ADDR\\n"\n' > /tmp/www/cgi-bin/who
              busybox chmod +x /tmp/www/cgi-bin/who
              httpd -f -p 8080 -h /tmp/www & server=$!
              trap 'kill $server; sleep 0.5; exit 0' TERM
              wait
          ports: [{{name: http, containerPort: 8080}}]
          readinessProbe:
            tcpSocket: {{port: http}}
            periodSeconds: 1
---
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: shop}}
spec:
  type: NodePort
  selector: {{app: web}}
  ports: [{{port: 80, targetPort: http, nodePort: {port}}}]
"#
    )
}
