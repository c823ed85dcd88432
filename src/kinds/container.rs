//! One container of a pod: its program, its surroundings, and how to tell whether it is well.

use std::net::IpAddr;

use super::name::Name;
use super::pod::{AppArmor, ResourceList, Seccomp};
use super::quantity::Quantity;

/// A container, valid.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its name within the pod.
    pub name: Name,
    /// The image as written.
    pub image: String,
    /// When to ask the registry.
    pub pull: PullPolicy,
    /// Replaces the image's entry point, and drops its arguments.
    pub command: Vec<String>,
    /// Replaces the image's arguments.
    pub args: Vec<String>,
    /// Replaces the image's working directory.
    pub working_dir: Option<String>,
    /// Ports it says it listens on.
    pub ports: Vec<ContainerPort>,
    /// Variables, in order: a later one may use an earlier one.
    pub env: Vec<EnvVar>,
    /// Sources of many variables, in order; `env` wins over them.
    pub env_from: Vec<EnvFrom>,
    /// What it asks and what it may use.
    pub resources: Resources,
    /// What is mounted where.
    pub mounts: Vec<Mount>,
    /// Kills it when it hangs.
    pub liveness: Option<Probe>,
    /// Decides whether it gets traffic.
    pub readiness: Option<Probe>,
    /// Holds the others back until it is up.
    pub startup: Option<Probe>,
    /// Run after its start.
    pub post_start: Option<Handler>,
    /// Run before its stop.
    pub pre_stop: Option<Handler>,
    /// The signal that asks it to stop, where not the image's.
    pub stop_signal: Option<String>,
    /// Where it leaves its last words.
    pub termination_message_path: String,
    /// Whether its log serves as last words if it failed without any.
    pub termination_message_from_logs: bool,
    /// Keep its standard input open.
    pub stdin: bool,
    /// Close standard input after the first attach.
    pub stdin_once: bool,
    /// Give it a terminal.
    pub tty: bool,
    /// Who its processes are and what they may do.
    pub security: Security,
    /// An init container that keeps running beside the others (`restartPolicy: Always`).
    pub is_sidecar: bool,
}

/// Where Kubernetes has a container leave its last words: `v1.TerminationMessagePathDefault`.
pub const TERMINATION_MESSAGE_PATH: &str = "/dev/termination-log";

impl Container {
    /// A container with nothing but a name and an image; everything else as Kubernetes defaults it.
    pub fn new(name: Name, image: &str) -> Self {
        Self {
            name,
            image: image.into(),
            pull: PullPolicy::default(),
            command: Vec::new(),
            args: Vec::new(),
            working_dir: None,
            ports: Vec::new(),
            env: Vec::new(),
            env_from: Vec::new(),
            resources: Resources::default(),
            mounts: Vec::new(),
            liveness: None,
            readiness: None,
            startup: None,
            post_start: None,
            pre_stop: None,
            stop_signal: None,
            termination_message_path: TERMINATION_MESSAGE_PATH.into(),
            termination_message_from_logs: false,
            stdin: false,
            stdin_once: false,
            tty: false,
            security: Security::default(),
            is_sidecar: false,
        }
    }
}

/// When the registry is asked for an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PullPolicy {
    /// Each time a container starts.
    Always,
    /// When the image is not on the node.
    #[default]
    IfNotPresent,
    /// Never.
    Never,
}

impl PullPolicy {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
}

/// The transport of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Sctp => "SCTP",
        }
    }

    /// As iptables and DNS write it.
    pub fn lower(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }

    /// Reads Kubernetes' word.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Tcp, Self::Udp, Self::Sctp].into_iter().find(|protocol| protocol.as_str() == text)
    }
}

/// A port of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerPort {
    /// Its name, by which Services and probes may call it.
    pub name: Option<Name>,
    /// Its number.
    pub port: u16,
    /// Its transport.
    pub protocol: Protocol,
    /// The port of the node that leads to it.
    pub host_port: Option<u16>,
    /// The node's address for `host_port`; all where absent.
    pub host_ip: Option<IpAddr>,
}

/// A port by number or by a container port's name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PortRef {
    /// By number.
    Number(u16),
    /// By name.
    Name(Name),
}

impl PortRef {
    /// The number of the port in `containers` with this protocol, or of any port by number.
    pub fn resolve<'a>(
        &self,
        containers: impl IntoIterator<Item = &'a Container>,
        protocol: Protocol,
    ) -> Option<u16> {
        match self {
            Self::Number(port) => Some(*port),
            Self::Name(name) => containers
                .into_iter()
                .flat_map(|container| &container.ports)
                .find(|port| port.name.as_ref() == Some(name) && port.protocol == protocol)
                .map(|port| port.port),
        }
    }
}

/// One variable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvVar {
    /// Its name.
    pub name: String,
    /// Where its value comes from.
    pub value: EnvValue,
}

/// Where a variable's value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvValue {
    /// Written in the manifest; `$(VAR)` is replaced.
    Literal(String),
    /// A key of a ConfigMap.
    ConfigMapKey(KeyRef),
    /// A key of a Secret.
    SecretKey(KeyRef),
    /// A field of the pod: `metadata.name`, `status.podIP`, `metadata.labels['x']` …
    Field(String),
    /// An amount of a container.
    Resource(ResourceRef),
}

/// A key of a ConfigMap or Secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyRef {
    /// The object.
    pub name: Name,
    /// The key.
    pub key: String,
    /// Whether its absence is no error.
    pub optional: bool,
}

/// `resourceFieldRef`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ResourceRef {
    /// Whose; the container's own where absent.
    pub container: Option<Name>,
    /// `limits.cpu`, `requests.memory` …
    pub resource: String,
    /// The unit it is given in; the result is rounded up.
    pub divisor: Quantity,
}

/// All keys of an object as variables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EnvFrom {
    /// Put before each key.
    pub prefix: String,
    /// The object.
    pub source: EnvSource,
    /// Whether its absence is no error.
    pub optional: bool,
}

/// The object of an [`EnvFrom`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EnvSource {
    /// A ConfigMap.
    ConfigMap(Name),
    /// A Secret.
    Secret(Name),
}

/// What a container asks and what it may use.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resources {
    /// Reserved for it; a limit without a request counts as the request.
    pub requests: ResourceList,
    /// What the kernel holds it to.
    pub limits: ResourceList,
}

/// `volumeMount`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The pod's volume.
    pub volume: Name,
    /// Where in the container.
    pub path: String,
    /// A part of the volume; may hold `$(VAR)` if `expands`.
    pub sub_path: Option<SubPath>,
    /// Whether writing is refused.
    pub read_only: bool,
    /// How mounts made later are shared.
    pub propagation: Propagation,
}

/// A part of a volume.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubPath {
    /// `subPath`.
    Literal(String),
    /// `subPathExpr`: `$(VAR)` is replaced.
    Expression(String),
}

/// `mountPropagation`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Propagation {
    /// Not at all.
    #[default]
    None,
    /// From the node into the container.
    HostToContainer,
    /// Both ways; privileged containers only.
    Bidirectional,
}

/// A question put to a container again and again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// What is asked.
    pub handler: Handler,
    /// Seconds from the container's start to the first question.
    pub initial_delay_s: u32,
    /// Seconds between questions.
    pub period_s: u32,
    /// Seconds until no answer is a bad answer.
    pub timeout_s: u32,
    /// Good answers in a row that turn it good.
    pub successes: u32,
    /// Bad answers in a row that turn it bad.
    pub failures: u32,
    /// How long the container may take to stop when this probe kills it, in seconds; the pod's
    /// where absent.
    pub grace_s: Option<u32>,
}

/// How a container is asked or told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handler {
    /// Run a program in the container; exit code 0 is good.
    Exec(Vec<String>),
    /// HTTP GET; 200 to 399 is good.
    Http(HttpGet),
    /// Open a TCP connection.
    Tcp {
        /// The host; the pod's address where absent.
        host: Option<String>,
        /// The port.
        port: PortRef,
    },
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// The port.
        port: u16,
        /// The service asked about.
        service: String,
    },
    /// Do nothing for some seconds; hooks only.
    Sleep(u32),
}

/// An HTTP question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpGet {
    /// The host to connect to; the pod's address where absent.
    pub host: Option<String>,
    /// The port.
    pub port: PortRef,
    /// Path and query.
    pub path: String,
    /// Whether TLS is spoken; the certificate is not verified, as in Kubernetes.
    pub tls: bool,
    /// Further headers, `Host` among them.
    pub headers: Vec<(String, String)>,
}

/// Container-level `securityContext`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Security {
    /// The user.
    pub run_as_user: Option<u32>,
    /// The group.
    pub run_as_group: Option<u32>,
    /// Refuse to run as root.
    pub run_as_non_root: Option<bool>,
    /// All rights of the node.
    pub privileged: bool,
    /// The root file system can't be written.
    pub read_only_root: bool,
    /// Whether a process may gain more rights than its parent.
    pub allow_privilege_escalation: Option<bool>,
    /// Capabilities added, without `CAP_`.
    pub capabilities_add: Vec<String>,
    /// Capabilities dropped, without `CAP_`.
    pub capabilities_drop: Vec<String>,
    /// System call filter.
    pub seccomp: Option<Seccomp>,
    /// AppArmor profile.
    pub app_armor: Option<AppArmor>,
    /// Leave `/proc` unmasked.
    pub unmasked_proc: bool,
}
