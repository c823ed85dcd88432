//! What a pod is seen to do. These types are written to the state store and answered by the API, so
//! their JSON is Kubernetes' own `PodStatus`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use serde::{Deserialize, Serialize};

use super::name::{Name, PodKey, Uid};
use super::time::Wall;

/// How kubelet begins to say that it turned a pod away.
pub const REJECTED: &str = "Pod was rejected: ";

/// Where a pod is in its life.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Phase {
    /// Not all of its containers have been started.
    #[default]
    Pending,
    /// Running, or restarting.
    Running,
    /// All containers ended well and none will be restarted.
    Succeeded,
    /// All containers ended, one of them badly, and none will be restarted.
    Failed,
}

impl Phase {
    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::Running => "Running",
            Self::Succeeded => "Succeeded",
            Self::Failed => "Failed",
        }
    }

    /// Whether nothing will run in it again.
    pub fn is_over(self) -> bool {
        matches!(self, Self::Succeeded | Self::Failed)
    }
}

/// What a node says of one of its pods: a line of `pods.json` in its ref.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodReport {
    /// Which pod.
    #[serde(flatten)]
    pub key: PodKey,
    /// Which life of it.
    pub uid: Uid,
    /// How it is.
    pub status: PodStatus,
    /// How far its end has come, while it is being ended: for the node's next agent, if this one is
    /// killed meanwhile.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ending: Option<EndingReport>,
    /// Nothing of it is left on the node: the coordinator may forget it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub gone: bool,
}

/// How far the end of a pod has come on its node.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EndingReport {
    /// When it began, in milliseconds since the node booted. Not a wall clock's time, which may jump;
    /// a boot in between ends what runs anyway.
    pub since_boot_ms: u64,
    /// The containers that have been told to stop, as `docker://…`.
    #[serde(default, skip_serializing_if = "std::collections::BTreeSet::is_empty")]
    pub told: std::collections::BTreeSet<String>,
}

/// `v1.PodStatus`, the part we fill in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodStatus {
    /// Where it is in its life.
    pub phase: Phase,
    /// One word, where something is the matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// One sentence, where something is the matter.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The pod's address.
    #[serde(default, rename = "podIP", skip_serializing_if = "Option::is_none")]
    pub pod_ip: Option<Ipv4Addr>,
    /// The node's address.
    #[serde(default, rename = "hostIP", skip_serializing_if = "Option::is_none")]
    pub host_ip: Option<std::net::IpAddr>,
    /// When the node began with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_time: Option<Wall>,
    /// `Guaranteed`, `Burstable`, `BestEffort`.
    #[serde(default)]
    pub qos_class: String,
    /// Its conditions.
    #[serde(default)]
    pub conditions: Vec<PodCondition>,
    /// Its init containers.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub init_container_statuses: Vec<ContainerStatus>,
    /// Its containers.
    #[serde(default)]
    pub container_statuses: Vec<ContainerStatus>,
}

impl PodStatus {
    /// Whether its node turned the pod away, so that it never began.
    pub fn is_rejection(&self) -> bool {
        self.phase == Phase::Failed
            && self.message.as_ref().is_some_and(|message| message.starts_with(REJECTED))
    }

    /// Whether the `Ready` condition holds.
    pub fn is_ready(&self) -> bool {
        self.condition(CONDITION_READY).is_some_and(|condition| condition.status.is_true())
    }

    /// The same without sentences and ids: what a list of pods shows.
    #[must_use]
    pub fn brief(&self) -> Self {
        let container = |container: &ContainerStatus| ContainerStatus {
            state: container.state.brief(),
            last_state: container.last_state.brief(),
            image_id: String::new(),
            container_id: None,
            ..container.clone()
        };
        let condition =
            |condition: &PodCondition| PodCondition { message: None, ..condition.clone() };
        Self {
            message: None,
            conditions: self.conditions.iter().map(condition).collect(),
            init_container_statuses: self.init_container_statuses.iter().map(container).collect(),
            container_statuses: self.container_statuses.iter().map(container).collect(),
            ..self.clone()
        }
    }

    /// The condition of that type.
    pub fn condition(&self, kind: &str) -> Option<&PodCondition> {
        self.conditions.iter().find(|condition| condition.kind == kind)
    }
}

/// All containers are ready and so is every readiness gate.
pub const CONDITION_READY: &str = "Ready";
/// All containers are ready.
pub const CONDITION_CONTAINERS_READY: &str = "ContainersReady";
/// All init containers have ended.
pub const CONDITION_INITIALIZED: &str = "Initialized";
/// The pod has a node.
pub const CONDITION_SCHEDULED: &str = "PodScheduled";
/// The pod has its network.
pub const CONDITION_READY_TO_START: &str = "PodReadyToStartContainers";

/// One of a pod's conditions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodCondition {
    /// Which.
    #[serde(rename = "type")]
    pub kind: String,
    /// Whether it holds.
    pub status: Truth,
    /// Since when.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_transition_time: Option<Wall>,
    /// One word.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// One sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// `True`, `False`, `Unknown`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Truth {
    /// It holds.
    True,
    /// It doesn't.
    False,
    /// Nobody can say.
    Unknown,
}

impl Truth {
    /// Whether it holds for certain.
    pub fn is_true(self) -> bool {
        self == Self::True
    }

    /// As Kubernetes writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::True => "True",
            Self::False => "False",
            Self::Unknown => "Unknown",
        }
    }
}

impl From<bool> for Truth {
    fn from(holds: bool) -> Self {
        if holds { Self::True } else { Self::False }
    }
}

/// `v1.ContainerStatus`, the part we fill in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ContainerStatus {
    /// Which container.
    pub name: Name,
    /// What it does now.
    pub state: ContainerState,
    /// How its previous life ended.
    #[serde(default)]
    pub last_state: ContainerState,
    /// Whether it may get traffic.
    pub ready: bool,
    /// Whether its startup probe has passed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<bool>,
    /// How often it was started again.
    pub restart_count: u32,
    /// The image as written.
    pub image: String,
    /// The image as it is here.
    #[serde(rename = "imageID", default)]
    pub image_id: String,
    /// Docker's id of it, as `docker://…`.
    #[serde(rename = "containerID", default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
}

/// `v1.ContainerState`: at most one of them; none means "waiting, nobody has said why".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum ContainerState {
    /// Not yet, or not now.
    Waiting(Waiting),
    /// Now.
    Running(Running),
    /// No more.
    Terminated(Terminated),
    /// Nothing is known.
    #[serde(untagged)]
    Unknown {},
}

impl ContainerState {
    /// The same without sentences and ids.
    fn brief(&self) -> Self {
        match self {
            Self::Waiting(waiting) => Self::Waiting(Waiting { message: None, ..waiting.clone() }),
            Self::Terminated(terminated) => Self::Terminated(Terminated {
                message: None,
                container_id: None,
                ..terminated.clone()
            }),
            Self::Running(_) | Self::Unknown {} => self.clone(),
        }
    }
}

impl Default for ContainerState {
    fn default() -> Self {
        Self::Unknown {}
    }
}

/// Why a container does not run yet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waiting {
    /// One word: `ContainerCreating`, `CrashLoopBackOff`, `ImagePullBackOff` …
    pub reason: String,
    /// One sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// Since when a container runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Running {
    /// Since when.
    pub started_at: Wall,
}

/// How a container ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Terminated {
    /// The process's exit code; 128 + n after signal n.
    pub exit_code: i64,
    /// One word: `Completed`, `Error`, `OOMKilled`, `ContainerCannotRun` …
    pub reason: String,
    /// Its last words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Wall>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Wall>,
    /// Docker's id of it, as `docker://…`.
    #[serde(rename = "containerID", default, skip_serializing_if = "Option::is_none")]
    pub container_id: Option<String>,
}

/// Something that happened, for people: `v1.Event` in short form.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EventRecord {
    /// The object concerned.
    pub about: super::object::Key,
    /// The life of the object concerned, where it has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<Uid>,
    /// Whether it is a warning.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub warning: bool,
    /// One word: `Scheduled`, `Pulled`, `BackOff` …
    pub reason: String,
    /// One sentence.
    pub message: String,
    /// How often it happened.
    pub count: u32,
    /// First.
    pub first: Wall,
    /// Last.
    pub last: Wall,
    /// Who says so: `scheduler`, `node`, `deployment` …
    pub source: String,
    /// Fields of a later version, kept.
    #[serde(flatten)]
    pub unknown: BTreeMap<String, serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn container_states_have_kubernetes_json() {
        let table = [
            (ContainerState::Unknown {}, "{}"),
            (
                ContainerState::Waiting(Waiting {
                    reason: "CrashLoopBackOff".into(),
                    message: None,
                }),
                r#"{"waiting":{"reason":"CrashLoopBackOff"}}"#,
            ),
            (
                ContainerState::Running(Running { started_at: Wall::from_seconds(0) }),
                r#"{"running":{"startedAt":"1970-01-01T00:00:00Z"}}"#,
            ),
        ];
        for (state, json) in table {
            assert_eq!(serde_json::to_string(&state).expect("serializes"), json);
            assert_eq!(serde_json::from_str::<ContainerState>(json).expect("parses"), state);
        }
    }
}
