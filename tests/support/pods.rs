//! Pods for tests, as the node room would ask for them.

use std::net::Ipv4Addr;
use std::os::unix::fs::MetadataExt as _;
use std::path::PathBuf;
use std::time::Duration;

use windlass::adapters::docker::{Docker, Options};
use windlass::kinds::digest::Digest;
use windlass::kinds::name::{Name, PodKey, Uid};
use windlass::ports::Fault;
use windlass::ports::runtime::{
    Answer, Call, ContainerSeen, ContainerSpec, ExecResult, Marks, NetworkMode, Role, Share,
};

use super::host::Host;
use super::images::BUSYBOX;

/// A node on a host: tests that share a host are nodes of their own and don't see each other.
pub(crate) struct Node<'a> {
    pub(crate) host: &'a Host,
    pub(crate) name: Name,
    pub(crate) docker: Docker,
}

impl<'a> Node<'a> {
    pub(crate) fn new(host: &'a Host, name: &str) -> Self {
        Self::through(host, name, host.socket())
    }

    /// A node that reaches Docker through another socket.
    pub(crate) fn through(host: &'a Host, name: &str, socket: PathBuf) -> Self {
        let name = Name::trusted(name);
        let docker = Docker::connect(Options {
            socket,
            node: name.clone(),
            registry_config: None,
            digest_map: None,
        });
        host.load_busybox();
        Self { host, name, docker }
    }

    /// What labels say of a container of the pod `pod`.
    pub(crate) fn marks(&self, pod: &str, role: Role) -> Marks {
        let unique = Digest::of_parts([self.name.as_str().as_bytes(), pod.as_bytes()]);
        Marks {
            node: self.name.clone(),
            pod: PodKey::new(&Name::trusted("shop"), &Name::trusted(pod)),
            uid: Uid::from_bytes(unique.first_16()),
            role,
            attempt: 0,
            backoff: Duration::ZERO,
            grace_s: 1,
            ip: None,
            sandbox: 0,
        }
    }

    pub(crate) fn pause_spec(&self, pod: &str) -> ContainerSpec {
        let marks =
            Marks { ip: Some(Ipv4Addr::new(10, 244, 0, 7)), ..self.marks(pod, Role::Pause) };
        ContainerSpec {
            name: marks.container_name(),
            labels: marks.to_labels(),
            hostname: Some(pod.into()),
            ipc: Share::Open,
            ..ContainerSpec::default()
        }
    }

    /// A container of busybox that joins `pause`.
    pub(crate) fn app_spec(
        &self,
        pod: &str,
        pause: &ContainerSeen,
        command: &[&str],
    ) -> ContainerSpec {
        let marks = self.marks(pod, Role::App(Name::trusted("app")));
        ContainerSpec {
            name: marks.container_name(),
            labels: marks.to_labels(),
            image: BUSYBOX.into(),
            entrypoint: Some(command.iter().map(|&word| word.to_owned()).collect()),
            network: NetworkMode::Of(pause.id.clone()),
            ipc: Share::Of(pause.id.clone()),
            ..ContainerSpec::default()
        }
    }

    pub(crate) async fn start(&self, spec: ContainerSpec) -> Result<ContainerSeen, Fault> {
        match self.docker.perform(Call::Start(Box::new(spec))).await? {
            Answer::Started(seen) => Ok(*seen),
            other => panic!("{other:?}"),
        }
    }

    /// A pod of pause and one container.
    pub(crate) async fn pod(&self, pod: &str, command: &[&str]) -> (ContainerSeen, ContainerSeen) {
        let pause = self.start(self.pause_spec(pod)).await.expect("pause starts");
        let app = self.app_spec(pod, &pause, command);
        let app = self.start(app).await.expect("the app starts");
        (pause, app)
    }

    pub(crate) async fn list(&self) -> Vec<ContainerSeen> {
        match self.docker.perform(Call::List).await {
            Ok(Answer::Containers(seen)) => seen,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn inspect(&self, seen: &ContainerSeen) -> Option<ContainerSeen> {
        match self.docker.perform(Call::Inspect(seen.id.clone())).await {
            Ok(Answer::Container(seen)) => seen.map(|seen| *seen),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn exec(
        &self,
        seen: &ContainerSeen,
        command: &[&str],
        timeout: Duration,
    ) -> Result<ExecResult, Fault> {
        let call = Call::Exec {
            id: seen.id.clone(),
            command: command.iter().map(|&word| word.to_owned()).collect(),
            timeout,
        };
        match self.docker.perform(call).await? {
            Answer::Exec(result) => Ok(result),
            other => panic!("{other:?}"),
        }
    }

    /// What a command run in a container says; it must succeed.
    pub(crate) async fn says(&self, seen: &ContainerSeen, script: &str) -> String {
        let command = ["sh", "-c", script];
        let result =
            self.exec(seen, &command, Duration::from_secs(10)).await.expect("the command runs");
        assert_eq!(result.exit_code, 0, "{script}: {}", result.output);
        result.output.trim().to_owned()
    }

    pub(crate) async fn signal(&self, seen: &ContainerSeen, signal: &str) {
        let call = Call::Signal { id: seen.id.clone(), signal: signal.into() };
        self.docker.perform(call).await.expect("the signal is sent");
    }

    pub(crate) async fn remove(&self, all: &[&ContainerSeen]) {
        let ids = all.iter().map(|seen| seen.id.clone()).collect();
        self.docker.perform(Call::Remove { ids }).await.expect("removed");
    }

    /// Waits until a container is as wanted.
    pub(crate) async fn wait_for(
        &self,
        seen: &ContainerSeen,
        wanted: impl Fn(&ContainerSeen) -> bool,
    ) -> ContainerSeen {
        for _ in 0..400 {
            if let Some(now) = self.inspect(seen).await.filter(&wanted) {
                return now;
            }
            tokio::time::sleep(Duration::from_millis(25)).await;
        }
        panic!("never as wanted: {:?}", self.inspect(seen).await);
    }
}

/// The inode of a process' namespace.
pub(crate) fn namespace(pid: u32, kind: &str) -> u64 {
    std::fs::metadata(format!("/proc/{pid}/ns/{kind}")).expect("the process is there").ino()
}

/// A line of a process' status.
pub(crate) fn status(pid: u32, field: &str) -> String {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    line.expect("the field is there").trim().to_owned()
}

/// A container's first process; it must run.
pub(crate) fn pid(seen: &ContainerSeen) -> u32 {
    seen.pid().expect("it runs")
}
