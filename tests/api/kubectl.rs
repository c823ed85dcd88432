//! Real kubectl against the server. Not every machine can have one, so without it these tests only say
//! that they were skipped, in CI too.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use windlass::kinds::registry::Kind;

use super::server::{REPOSITORY, Served, serve};
use super::tunnel::{Forwarding, connections, echo, there_and_back, wait};
use crate::support::servers::free_port;

/// Beside the Google Cloud SDK's dispatcher, which is not to be used: it chooses a version by itself.
const CLOUD_SDK: &str = "/usr/lib/google-cloud-sdk/bin";

/// Every kubectl of this machine with a version of its own, the newest last; `WINDLASS_KUBECTL` adds
/// one. Where there is none, the test says so.
fn every(test: &str) -> Vec<PathBuf> {
    let own = std::env::var_os("WINDLASS_KUBECTL").map(PathBuf::from);
    let beside = (27..40).map(|minor| Path::new(CLOUD_SDK).join(format!("kubectl.1.{minor}")));
    let found: Vec<PathBuf> = own.into_iter().chain(beside).filter(|path| path.exists()).collect();
    if found.is_empty() {
        println!("SKIPPED {test}: there is no kubectl (set WINDLASS_KUBECTL)");
    }
    found
}

/// The newest kubectl.
pub(crate) fn newest(test: &str) -> Option<PathBuf> {
    every(test).pop()
}

/// kubectl, and the server it talks to.
struct Kubectl<'s> {
    program: PathBuf,
    address: SocketAddr,
    served: &'s Served,
}

impl<'s> Kubectl<'s> {
    fn new(program: PathBuf, served: &'s Served) -> Self {
        Self { program, address: served.port(), served }
    }

    fn command(&self, line: &str) -> Command {
        // `timeout` bounds every wait: kubectl has no bound of its own for all of them.
        let mut command = Command::new("timeout");
        command
            .arg("60")
            .arg(&self.program)
            .arg(format!("--server=http://{}", self.address))
            .args(line.split_whitespace())
            .env("HOME", self.served.dir.path())
            .env("KUBECONFIG", "/dev/null")
            .env("KUBECACHEDIR", self.served.dir.path().join("cache"));
        command
    }

    fn run(&self, line: &str) -> Output {
        self.command(line).output().expect("kubectl runs")
    }

    #[track_caller]
    fn must(&self, line: &str) -> String {
        let out = self.run(line);
        let error = String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "kubectl {line}: {error}");
        String::from_utf8_lossy(&out.stdout).into_owned()
    }

    #[track_caller]
    fn fails(&self, line: &str) -> String {
        let out = self.run(line);
        assert!(!out.status.success(), "kubectl {line} succeeds");
        String::from_utf8_lossy(&out.stderr).into_owned()
    }
}

#[test]
fn every_kubectl_reads() {
    let programs = every("every_kubectl_reads");
    let served = serve();
    for program in programs {
        let kubectl = Kubectl::new(program.clone(), &served);
        let pods = kubectl.must("get pods -A");
        assert!(pods.starts_with("NAMESPACE   NAME"), "{}: {pods}", program.display());
        assert!(pods.contains("CrashLoopBackOff"), "{pods}");
        assert!(kubectl.must("get all -n shop").contains("deployment.apps/web"));
        let described = kubectl.must("describe deploy web -n shop");
        assert!(described.contains("3 desired | 3 updated | 3 total"), "{described}");
    }
}

#[test]
fn kubectl_prints_what_it_prints_anywhere() {
    let Some(program) = newest("kubectl_prints_what_it_prints_anywhere") else { return };
    let served = serve();
    let kubectl = Kubectl::new(program, &served);
    let pod = served.named(Kind::Pod, "web-").name.to_string();
    for (line, holds) in [
        ("get deploy -A".to_owned(), "3/3"),
        ("get pods -A -o wide".to_owned(), "NOMINATED NODE"),
        ("get pods -n shop -l app=web --show-labels".to_owned(), "tier=front"),
        ("get pods -A --sort-by=.metadata.name".to_owned(), "web-"),
        ("get pods -A --field-selector=status.phase=Running -o name".to_owned(), "pod/web-"),
        ("get deploy web -n shop -o yaml".to_owned(), "windlass.dev/source: shop/web.yaml:2"),
        ("get svc,ep,cm -n shop -o json".to_owned(), "\"kind\": \"List\""),
        ("get secret web-keys -n shop -o yaml".to_owned(), "password: aHVudGVyMg=="),
        ("get events -A".to_owned(), "FailedScheduling"),
        ("get nodes -o wide".to_owned(), "n0"),
        ("get pods -A --chunk-size=2".to_owned(), "web-"),
        (format!("describe pod {pod} -n shop"), "Container ID"),
        ("describe svc web -n shop".to_owned(), "NodePort"),
        ("describe node n0".to_owned(), "Allocated resources"),
        ("describe secret web-keys -n shop".to_owned(), "password"),
        (format!("logs {pod} -n shop"), "line 3"),
        ("logs deploy/web -n shop --tail=1".to_owned(), "line 1"),
        ("api-resources".to_owned(), "deployments"),
        ("api-versions".to_owned(), "apps/v1"),
        ("rollout status deploy/web -n shop".to_owned(), "successfully rolled out"),
        ("rollout history deploy/web -n shop".to_owned(), "REVISION"),
        ("explain deployment.spec.strategy".to_owned(), "rollingUpdate"),
        ("explain pod.spec.containers".to_owned(), "imagePullPolicy"),
        (format!("wait --for=condition=Ready pod/{pod} -n shop --timeout=5s"), "condition met"),
        ("version".to_owned(), "windlass"),
    ] {
        let printed = kubectl.must(&line);
        assert!(printed.contains(holds), "kubectl {line}: {holds:?} is missing in:\n{printed}");
    }
    let missing = kubectl.fails("get pod none -n shop");
    assert!(missing.contains("pods \"none\" not found"), "{missing}");
}

/// Some versions ask in protobuf, and don't ask again.
#[test]
fn every_kubectl_is_told_what_it_may() {
    let programs = every("every_kubectl_is_told_what_it_may");
    let served = serve();
    for program in programs {
        let kubectl = Kubectl::new(program.clone(), &served);
        for (line, may) in [
            ("list pods -A", "yes"),
            ("delete pods -n shop", "yes"),
            ("create pods --subresource=exec -n shop", "yes"),
            ("create pods -n shop", "no"),
            ("create pods --subresource=portforward -n shop", "yes"),
            ("patch nodes", "yes"),
            ("get /healthz", "yes"),
            ("create deployments.apps -n shop", "no"),
            ("delete deployments.apps -n shop", "no"),
            ("* *", "no"),
            ("delete namespaces/shop", "no"),
        ] {
            let out = kubectl.run(&format!("auth can-i {line}"));
            let said = String::from_utf8_lossy(&out.stdout);
            let error = String::from_utf8_lossy(&out.stderr);
            let said = said.split([' ', '\n']).next().unwrap_or_default();
            assert_eq!(said, may, "{} auth can-i {line}: {error}", program.display());
        }
        let listed = kubectl.must("auth can-i --list -n shop");
        for holds in ["pods/eviction", "[get list watch]", "pods/exec"] {
            assert!(listed.contains(holds), "{}: {listed}", program.display());
        }
        // Since 1.28; before it was an experiment.
        let who = kubectl.run("auth whoami");
        let said = String::from_utf8_lossy(&who.stdout);
        let is_old = program.to_string_lossy().ends_with("1.27");
        assert!(is_old || said.contains("Username"), "{}: {who:?}", program.display());
        let other = kubectl.fails("get pods -A --as ada");
        assert!(other.contains("impersonation"), "{other}");
    }
}

#[test]
fn kubectl_looks_on() {
    let Some(program) = newest("kubectl_looks_on") else { return };
    let mut served = serve();
    let kubectl = Kubectl::new(program, &served);
    let mut looking = kubectl
        .command("get deploy web -n shop -w")
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("kubectl runs");
    let mut printed = String::new();
    let mut lines = BufReader::new(looking.stdout.take().expect("piped")).lines();
    let mut until = |mark: &str| {
        while !printed.contains(mark) {
            // Its end comes with `timeout`.
            let line = lines.next().unwrap_or_else(|| panic!("never {mark}:\n{printed}"));
            printed += &format!("{}\n", line.expect("text"));
        }
    };
    until("3/3");
    let mut files = crate::support::fleet::shop();
    crate::support::fleet::edit_web(&mut files, "replicas: 3", "replicas: 4");
    served.world.remote.commit("web: four", files);
    served.go_on(160);
    until("4/4");
    // Its parent is `timeout`, which hands the signal on.
    let pid = i32::try_from(looking.id()).expect("a pid");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM)
        .expect("signals");
    looking.wait().expect("ends");
    assert_eq!(printed.matches("NAME").count(), 1, "one head:\n{printed}");
}

#[test]
fn kubectl_deletes_a_pod_and_is_told_where_to_do_the_rest() {
    let Some(program) = newest("kubectl_deletes_a_pod_and_is_told_where_to_do_the_rest") else {
        return;
    };
    let served = serve();
    let kubectl = Kubectl::new(program, &served);
    let pod = served.named(Kind::Pod, "web-").name;
    let printed = kubectl.must(&format!("delete pod {pod} -n shop"));
    assert!(printed.contains("deleted"), "{printed}");
    assert_eq!(served.asked.lock().expect("unbroken").requests.len(), 1);
    for line in [
        "scale deploy web -n shop --replicas=5",
        "set image deploy/web web=run:2 -n shop",
        "rollout restart deploy/web -n shop",
        "delete deploy web -n shop",
    ] {
        let told = kubectl.fails(line);
        assert!(told.contains("shop/web.yaml:2"), "kubectl {line}: {told}");
        assert!(told.contains(REPOSITORY), "kubectl {line}: {told}");
    }
}

#[test]
fn kubectl_runs_commands() {
    let Some(program) = newest("kubectl_runs_commands") else { return };
    let served = serve();
    let kubectl = Kubectl::new(program, &served);
    let pod = served.named(Kind::Pod, "web-").name;
    let out = kubectl.run(&format!("exec {pod} -n shop -- echo hello"));
    assert_eq!(String::from_utf8_lossy(&out.stdout), "echo hello\n", "{out:?}");
    assert!(String::from_utf8_lossy(&out.stderr).contains("to stderr"), "{out:?}");
    let out = kubectl.run(&format!("exec {pod} -n shop -- exit 7"));
    assert_eq!(out.status.code(), Some(7), "{out:?}");
}

#[test]
fn every_kubectl_forwards_ports() {
    let programs = every("every_kubectl_forwards_ports");
    let served = serve();
    let (port, none) = (echo().port(), free_port());
    let pod = served.named(Kind::Pod, "web-").name;
    let last = programs.len().saturating_sub(1);
    for (number, program) in programs.into_iter().enumerate() {
        let kubectl = Kubectl::new(program.clone(), &served);
        let length = if number == last { 20_000_000 } else { 1_000_000 };
        // By SPDY as it is, and in a WebSocket; before 1.30 there is only the first, and the second
        // word means nothing.
        for in_websocket in ["false", "true"] {
            println!("{}, in a WebSocket: {in_websocket}", program.display());
            let mut command =
                kubectl.command(&format!("port-forward {pod} -n shop :{port} :{none}"));
            command.env("KUBECTL_PORT_FORWARD_WEBSOCKETS", in_websocket);
            let mut forwarding = Forwarding::start(command);
            let (at, none_at) = (forwarding.place(port), forwarding.place(none));
            there_and_back(at, length);
            std::thread::scope(|scope| {
                for _ in 0..4 {
                    scope.spawn(|| there_and_back(at, 100_000));
                }
            });
            wait("the connections end", || connections(port) == 0);
            // Newer ones end at the first that can't be forwarded.
            let _waits = std::net::TcpStream::connect(none_at).expect("connects");
            let said = forwarding.wait_for("error forwarding port");
            assert!(said.contains(&format!("port {none} to pod {pod}, uid ")), "{said}");
        }
    }
}
