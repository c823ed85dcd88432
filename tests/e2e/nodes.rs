//! Two nodes: one is asked for what runs on the other.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use windlass::adapters::lab::{Lab, run};

use crate::api::kubectl::newest;
use crate::api::tunnel::{Forwarding, there_and_back};
use crate::support::host::may_run;
use crate::support::http::Connection;
use crate::support::images::busybox;
use crate::support::proxy::port_to;
use crate::support::site::{IMAGE, NAMESPACE};
use crate::support::{must_git, scratch};

/// Nothing takes longer, on a busy machine either.
const WAIT_MAX: Duration = Duration::from_secs(180);
const STEP: Duration = Duration::from_millis(100);

/// A lab of two nodes whose agents run, n1 being asked.
struct Fleet {
    lab: Lab,
    /// Where kubectl reaches n1.
    port: SocketAddr,
    dir: tempfile::TempDir,
    _runtime: tokio::runtime::Runtime,
}

impl Fleet {
    fn start(number: u8, manifests: &str) -> Option<Self> {
        if !may_run(&["dockerd", "git", "ip", "iptables"]) {
            return None;
        }
        let dir = scratch("we2e-nodes-");
        let work = dir.path().join("work");
        fs::create_dir(&work).expect("made");
        must_git(&work, &["init", "-q", "-b", "main"]);
        fs::write(work.join("shop.yaml"), manifests).expect("written");
        must_git(&work, &["add", "."]);
        must_git(&work, &["commit", "-q", "-m", "shop"]);
        let mut lab = Lab {
            name: format!("e{}x{number}", std::process::id() % 100_000),
            dir: dir.path().join("lab"),
            // Labs that people make count from 0.
            network: 220 + number,
            links: 1,
            nodes: [("n1".to_owned(), 11), ("n2".to_owned(), 12)].into(),
            program: env!("CARGO_BIN_EXE_windlass").into(),
            desired: String::new(),
            branch: "main".into(),
            directory: String::new(),
            state: None,
            served: Vec::new(),
            settings: [("fleet.lease".to_owned(), "4s".to_owned())].into(),
        };
        lab.state = lab.served_url(&lab.state_repository());
        lab.desired = lab.served_url(&work).expect("a plain path");
        lab.served = vec![lab.state_repository(), work];
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let port = runtime.block_on(port_to(lab.agent_socket("n1")));
        // Ends what there is of the lab, wherever it gets stuck.
        let fleet = Self { lab, port, dir, _runtime: runtime };
        fleet.lab.save().expect("saved");
        fleet.lab.make_network().expect("a network");
        fleet.lab.start_server(&mut |_| ()).expect("a server");
        let image = fleet.dir.path().join("image.tar");
        fs::write(&image, busybox(IMAGE, &json!({"Cmd": ["sh"]})).tar).expect("written");
        for node in fleet.lab.nodes.keys() {
            fleet.lab.make_host(node).expect("a host");
        }
        std::thread::scope(|scope| {
            for node in fleet.lab.nodes.keys() {
                let (lab, image) = (&fleet.lab, &image);
                scope.spawn(move || {
                    lab.start_docker(node, &mut |_| ()).expect("a Docker");
                    lab.load_image(node, image).expect("an image");
                    lab.start_node(node, &mut |_| ()).expect("an agent");
                });
            }
        });
        Some(fleet)
    }

    fn log(&self, node: &str) -> String {
        let path = self.lab.host(node).dir().join("agent.log");
        fs::read_to_string(path).unwrap_or_default()
    }

    #[track_caller]
    fn wait<T>(&self, what: &str, look: impl Fn() -> Option<T>) -> T {
        let mut waited = Duration::ZERO;
        loop {
            if let Some(found) = look() {
                return found;
            }
            assert!(waited < WAIT_MAX, "{what}\nn1:\n{}\nn2:\n{}", self.log("n1"), self.log("n2"));
            std::thread::sleep(STEP);
            waited += STEP;
        }
    }

    fn get(&self, path: &str) -> Option<Value> {
        let answer = Connection::open(&self.lab.agent_socket("n1")).ok()?.get(path).ok()?;
        (answer.status == 200).then(|| answer.json())
    }

    /// kubectl, asking n1.
    fn kubectl(&self, program: &Path, line: &str) -> Command {
        let mut command = Command::new("timeout");
        command
            .arg("60")
            .arg(program)
            .arg(format!("--server=http://{}", self.port))
            .args(line.split_whitespace())
            .env("HOME", self.dir.path())
            .env("KUBECONFIG", "/dev/null");
        command
    }

    /// windlass, asking n1.
    fn windlass(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_windlass"));
        command
            .args(line.split_whitespace())
            .env("WINDLASS_SOCKET", self.lab.agent_socket("n1"))
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        let ended = self.lab.down(&mut |_| ());
        if let Err(fault) = ended
            && !std::thread::panicking()
        {
            panic!("{fault}");
        }
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn out(mut command: Command) -> Output {
    command.output().expect("runs")
}

/// A pod on n2 that says a line every half second, gives back what it is told at port 7000, and answers
/// nobody but itself at 8080.
fn talker() -> String {
    format!(
        "{NAMESPACE}---
apiVersion: v1
kind: Pod
metadata: {{name: talker, namespace: shop}}
spec:
  nodeSelector: {{kubernetes.io/hostname: n2}}
  terminationGracePeriodSeconds: 0
  containers:
    - name: talker
      image: {IMAGE}
      command: [sh, -c, 'mkdir /www; echo found > /www/index.html; httpd -p 127.0.0.1:8080 -h /www;
        nc -ll -p 7000 -e cat & n=0; while true; do n=$((n+1)); echo line $n; sleep 0.5; done']
"
    )
}

/// Shows the terminal's size, once it has one: that is told beside what is typed, not before it.
const SIZE: &str = "until [ \"$(stty size)\" != '0 0' ]; do sleep 0.1; done; stty size";

/// Presses these keys at a terminal in which the command runs; what it shows, and its exit code.
fn at_terminal(command: &Command, keys: &str) -> Output {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    let words: Vec<String> = words.map(|word| format!("'{}'", word.to_string_lossy())).collect();
    let line = format!("stty rows 33 cols 77; exec {}", words.join(" "));
    let mut terminal = Command::new("script");
    terminal.args(["-qec", &line, "/dev/null"]);
    for (name, value) in command.get_envs() {
        terminal.env(name, value.unwrap_or_default());
    }
    let mut child = terminal
        .env("SHELL", "/bin/sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("script runs");
    let mut hand = child.stdin.take().expect("piped");
    // Keys pressed before the shell listens would be echoed twice, and read all the same.
    std::thread::sleep(Duration::from_secs(1));
    hand.write_all(keys.as_bytes()).expect("presses");
    let output = child.wait_with_output().expect("ends");
    drop(hand);
    output
}

fn logs_are_told(fleet: &Fleet, kubectl: Option<&PathBuf>) {
    fleet.wait("two lines", || {
        let told = text(&out(fleet.windlass("logs talker -n shop")).stdout);
        told.starts_with("line 1\nline 2\n").then_some(())
    });
    let Some(program) = kubectl else { return };
    let told = text(&out(fleet.kubectl(program, "logs talker -n shop --tail=1")).stdout);
    assert!(told.starts_with("line ") && told.lines().count() == 1, "{told}");
    let mut following = fleet.kubectl(program, "logs -f talker -n shop --tail=1");
    following.args(["--pod-running-timeout=5s"]);
    let mut child = following.stdout(Stdio::piped()).spawn().expect("kubectl runs");
    let told = BufReader::new(child.stdout.take().expect("piped")).lines().take(3).count();
    // Its parent is `timeout`, which hands the signal on.
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("signals");
    child.wait().expect("ends");
    assert_eq!(told, 3, "it goes on");
}

fn programs_run(fleet: &Fleet, kubectl: Option<&PathBuf>) {
    let mut command = fleet.windlass("exec talker -n shop -- sh -c");
    command.arg("exit 4");
    let ran = out(command);
    assert_eq!(ran.status.code(), Some(4), "{ran:?}");
    let command = fleet.windlass("exec -it talker -n shop -- sh");
    let shown = at_terminal(&command, &format!("{SIZE}; exit 6\n"));
    assert_eq!(shown.status.code(), Some(6), "{}", text(&shown.stdout));
    assert!(text(&shown.stdout).contains("33 77"), "{}", text(&shown.stdout));
    let Some(program) = kubectl else { return };
    let mut command = fleet.kubectl(program, "exec -i talker -n shop -- sh -c");
    // More than all buffers on the way hold together.
    let input = vec![b'x'; 3_000_000];
    let mut child = command
        .arg("wc -c; echo wrong >&2; exit 7")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("kubectl runs");
    let mut hand = child.stdin.take().expect("piped");
    hand.write_all(&input).expect("says");
    drop(hand);
    let ran = child.wait_with_output().expect("ends");
    assert_eq!((text(&ran.stdout).trim(), ran.status.code()), ("3000000", Some(7)), "{ran:?}");
    assert!(text(&ran.stderr).contains("wrong"), "{ran:?}");
    let command = fleet.kubectl(program, "exec -it talker -n shop -- sh");
    let shown = at_terminal(&command, &format!("{SIZE}; exit 5\n"));
    assert_eq!(shown.status.code(), Some(5), "{}", text(&shown.stdout));
    assert!(text(&shown.stdout).contains("33 77"), "{}", text(&shown.stdout));
}

/// 20 MB there and back, what listens at the pod's loopback address only, and where nobody listens.
fn ports_are_forwarded(mut command: Command) {
    command.args([":7000", ":8080", ":81"]);
    let mut forwarding = Forwarding::start(command);
    there_and_back(forwarding.place(7000), 20_000_000);
    let page = |at: SocketAddr| {
        let mut stream = TcpStream::connect(at).expect("connects");
        stream.set_read_timeout(Some(WAIT_MAX)).expect("set");
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").expect("asks");
        let mut page = String::new();
        // kubectl may hang up before it has told why.
        let _ = stream.read_to_string(&mut page);
        page
    };
    let told = page(forwarding.place(8080));
    assert!(told.ends_with("found\n"), "{told}");
    assert_eq!(page(forwarding.place(81)), "");
    let said = forwarding.wait_for("error forwarding port 81 to pod talker, uid ");
    assert!(said.contains("failed to connect to localhost:81"), "{said}");
}

#[test]
fn any_node_is_asked_for_what_runs_on_another() {
    let Some(fleet) = Fleet::start(1, &talker()) else { return };
    let kubectl = newest("any_node_is_asked_for_what_runs_on_another");
    fleet.wait("a pod on n2 that n1 knows to run", || {
        let pod = fleet.get("/api/v1/namespaces/shop/pods/talker")?;
        let runs = pod["status"]["phase"] == "Running" && pod["spec"]["nodeName"] == "n2";
        runs.then_some(())
    });
    logs_are_told(&fleet, kubectl.as_ref());
    programs_run(&fleet, kubectl.as_ref());
    ports_are_forwarded(fleet.windlass("port-forward talker -n shop"));
    if let Some(program) = &kubectl {
        ports_are_forwarded(fleet.kubectl(program, "port-forward talker -n shop"));
    }
    let said = fleet.log("n2");
    for line in
        ["another node reads a log", "another node runs a program", "another node forwards ports"]
    {
        let line = said.lines().find(|told| told.contains(line)).expect(line);
        assert!(line.contains("n1") && line.contains("root") && line.contains("talker"), "{line}");
    }

    // The door is open to nodes, and to nobody else.
    let address = fleet.lab.address("n2").expect("an address");
    let door = SocketAddr::from((address, 9474));
    let knock = format!("timeout 2 bash -c ': < /dev/tcp/{address}/9474'");
    let node = fleet.lab.host("n1").command("sh").args(["-c", &knock]).status();
    assert!(node.expect("runs").success(), "n1 is let in");
    assert!(TcpStream::connect_timeout(&door, Duration::from_secs(1)).is_err(), "we are not");

    fleet.lab.set_cable("n2", false).expect("cut");
    let cut = out(fleet.windlass("logs talker -n shop"));
    let said = text(&cut.stderr);
    assert!(!cut.status.success(), "{said}");
    assert!(said.contains(&format!("node n2 can't be reached at {door}")), "{said}");
    fleet.lab.set_cable("n2", true).expect("healed");
    let healed = out(fleet.windlass("logs talker -n shop --tail 1"));
    assert!(healed.status.success(), "{healed:?}");
    run(&mut fleet.windlass("version")).expect("answers");
}
