//! How this node's pods are, in Kubernetes' words.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::kinds::container::Container;
use crate::kinds::name::Uid;
use crate::kinds::pod::{PodSpec, PodTemplate};
use crate::kinds::status::{
    CONDITION_CONTAINERS_READY, CONDITION_INITIALIZED, CONDITION_READY, CONDITION_READY_TO_START,
    CONDITION_SCHEDULED, ContainerState, ContainerStatus, EndingReport, Phase, PodCondition,
    PodReport, PodStatus, Running, Terminated, Truth, Waiting,
};
use crate::kinds::time::{Now, Wall};
use crate::ports::runtime::{ContainerSeen, RunState};

use super::house::{self, House};
use super::memory::{ContainerMemory, Memory, Over, PodMemory, container_uri};
use super::{Around, Assignment, Mine, Seen, probes, run};

/// What is said of every pod bound here. What was said before and is still so is kept as it is.
pub fn reports(
    mine: &Mine,
    seen: &Seen,
    around: &Around,
    before: &BTreeMap<Uid, Arc<PodReport>>,
    memory: &mut Memory,
    now: Now,
) -> BTreeMap<Uid, Arc<PodReport>> {
    let Some(containers) = &seen.containers else {
        return BTreeMap::new();
    };
    let houses = house::houses(&around.node, containers);
    let empty = House::default();
    mine.pods
        .iter()
        .map(|(uid, pod)| {
            let house = houses.get(uid).unwrap_or(&empty);
            let report = report(uid, pod, house, around, memory, now);
            let same = before.get(uid).filter(|before| ***before == report).cloned();
            (uid.clone(), same.unwrap_or_else(|| Arc::new(report)))
        })
        .collect()
}

fn report(
    uid: &Uid,
    pod: &Assignment,
    house: &House<'_>,
    around: &Around,
    memory: &mut Memory,
    now: Now,
) -> PodReport {
    let key = pod.binding.key.clone();
    let gone = memory.pods.get(uid).is_some_and(|record| record.gone);
    let ending = memory.pods.get(uid).filter(|_| !gone).and_then(ending);
    let Some(template) = &pod.template else {
        let status = PodStatus {
            reason: Some("TemplateNotFound".to_owned()),
            message: Some(format!(
                "{} is not found in revision {}, file {}",
                pod.binding.template.owner,
                pod.binding.template.revision.short(),
                pod.binding.template.path
            )),
            ..PodStatus::default()
        };
        return PodReport { key, uid: uid.clone(), status, ending, gone };
    };
    PodReport {
        key,
        uid: uid.clone(),
        status: status(uid, pod, template, house, around, memory, now),
        ending,
        gone,
    }
}

/// How far the pod's end has come, for the agent that may have to go on with it.
fn ending(record: &PodMemory) -> Option<EndingReport> {
    let since = record.ending_since?.since_boot();
    let told = record.endings.iter().filter(|(_, ending)| ending.term_at.is_some());
    Some(EndingReport {
        since_boot_ms: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        told: told.map(|(id, _)| container_uri(id)).collect(),
    })
}

fn status(
    uid: &Uid,
    pod: &Assignment,
    template: &PodTemplate,
    house: &House<'_>,
    around: &Around,
    memory: &mut Memory,
    now: Now,
) -> PodStatus {
    let spec = &template.spec;
    let view = View { uid, spec, house, memory, leaving: pod.binding.deletion.is_some() };
    let is_rejected = view.is_rejected();
    let init = view.statuses(&spec.init_containers, true);
    let main = view.statuses(&spec.containers, false);
    let phase = view.phase(&main);
    let over = view.over();
    let containers_ready = phase == Phase::Running && main.iter().all(|status| status.ready);
    let initialized = run::is_initialized(spec, house, memory) || phase == Phase::Succeeded;
    let sandbox_is_up = house.pause().is_some_and(ContainerSeen::is_running);
    let record = memory.pods.get(uid);
    let ip = record.and_then(|record| record.ip).filter(|_| sandbox_is_up || house.ip().is_some());
    let start_time = record.and_then(|record| record.began);
    let unready: Vec<&str> =
        main.iter().filter(|s| !s.ready).map(|status| status.name.as_str()).collect();
    let (reason, message) = match phase {
        Phase::Succeeded => (Some("PodCompleted".to_owned()), None),
        Phase::Failed => (Some("PodFailed".to_owned()), None),
        _ if containers_ready => (None, None),
        _ => (
            Some("ContainersNotReady".to_owned()),
            Some(format!("containers with unready status: [{}]", unready.join(" "))),
        ),
    };
    let ready_why = (reason, message);
    let mut conditions = Vec::new();
    let mut note = |kind: &'static str, holds: bool, why: (Option<String>, Option<String>)| {
        conditions.push(PodCondition {
            kind: kind.to_owned(),
            status: Truth::from(holds),
            last_transition_time: Some(since(memory, uid, kind, holds, now.wall)),
            reason: why.0,
            message: why.1,
        });
    };
    note(CONDITION_READY_TO_START, sandbox_is_up, (None, None));
    note(CONDITION_INITIALIZED, initialized, (None, None));
    note(CONDITION_READY, containers_ready, ready_why.clone());
    note(CONDITION_CONTAINERS_READY, containers_ready, ready_why);
    note(CONDITION_SCHEDULED, true, (None, None));
    // Of the containers of a pod that was turned away nothing is said, as kubelet says nothing.
    let (init, main) = if is_rejected { (Vec::new(), Vec::new()) } else { (init, main) };
    PodStatus {
        phase,
        reason: over.as_ref().and_then(|over| over.0.clone()),
        message: over.and_then(|over| over.1),
        pod_ip: ip,
        host_ip: around.node_ip.map(Into::into),
        start_time,
        qos_class: spec.qos().as_str().to_owned(),
        conditions,
        init_container_statuses: init,
        container_statuses: main,
    }
}

/// Since when a condition is as it is.
fn since(memory: &mut Memory, uid: &Uid, kind: &'static str, holds: bool, now: Wall) -> Wall {
    let Some(record) = memory.pods.get_mut(uid) else {
        return now;
    };
    match record.conditions.get(kind) {
        Some((known, since)) if *known == holds => *since,
        _ => {
            record.conditions.insert(kind, (holds, now));
            now
        }
    }
}

struct View<'v> {
    uid: &'v Uid,
    spec: &'v PodSpec,
    house: &'v House<'v>,
    memory: &'v Memory,
    leaving: bool,
}

impl View<'_> {
    fn over(&self) -> Option<(Option<String>, Option<String>)> {
        let over = self.memory.pods.get(self.uid)?.over.as_ref()?;
        Some((over.reason.clone(), over.message.clone()))
    }

    fn is_rejected(&self) -> bool {
        let record = self.memory.pods.get(self.uid);
        record.and_then(|record| record.over.as_ref()).is_some_and(Over::is_rejection)
    }

    /// <https://kubernetes.io/docs/concepts/workloads/pods/pod-lifecycle/#pod-phase>
    fn phase(&self, main: &[ContainerStatus]) -> Phase {
        if let Some(over) = self.memory.pods.get(self.uid).and_then(|r| r.over.as_ref()) {
            // While something still runs of a pod past its deadline it is not over yet.
            if self.house.running().next().is_none() {
                return over.phase;
            }
        }
        let never_ran = |status: &ContainerStatus| {
            matches!(status.state, ContainerState::Waiting(_) | ContainerState::Unknown {})
                && status.last_state == ContainerState::Unknown {}
        };
        if main.iter().any(never_ran) { Phase::Pending } else { Phase::Running }
    }

    fn statuses(&self, containers: &[Container], is_init: bool) -> Vec<ContainerStatus> {
        containers.iter().map(|container| self.container(container, is_init)).collect()
    }

    fn container(&self, container: &Container, is_init: bool) -> ContainerStatus {
        let nothing = ContainerMemory::default();
        let record = self.memory.pods.get(self.uid);
        let kept = record.and_then(|r| r.containers.get(&container.name)).unwrap_or(&nothing);
        let life = self.house.life(&container.name);
        let before = self.house.life_before(&container.name);
        let ended = |life: Option<&ContainerSeen>| {
            life.and_then(|life| terminated(life, kept))
                .map_or_else(ContainerState::default, ContainerState::Terminated)
        };
        let (state, last_state) = match life {
            Some(life) if life.is_running() => (running(life), ended(before)),
            Some(life) => match self.waiting_after(container, life, kept, is_init) {
                Some(waiting) => (ContainerState::Waiting(waiting), ended(Some(life))),
                None => (ended(Some(life)), ended(before)),
            },
            None => {
                (ContainerState::Waiting(self.waiting(kept, is_init)), ContainerState::default())
            }
        };
        let is_up = life.is_some_and(|life| probes::is_started(container, life, self.memory));
        let ready = if is_init && !container.is_sidecar {
            matches!(&state, ContainerState::Terminated(end) if end.exit_code == 0)
        } else {
            !self.leaving_is_deaf()
                && life.is_some_and(|life| probes::is_ready(container, life, self.memory))
        };
        ContainerStatus {
            name: container.name.clone(),
            ready,
            started: Some(is_up),
            restart_count: life.map_or(0, |life| life.marks.attempt),
            image: container.image.clone(),
            image_id: life.map(|life| life.image_id.clone()).unwrap_or_default(),
            container_id: life.map(|life| container_uri(&life.id)),
            state,
            last_state,
        }
    }

    /// A pod that is being ended is still probed by nobody: it keeps what was last known, which is
    /// what "serving while terminating" means.
    fn leaving_is_deaf(&self) -> bool {
        self.leaving && self.house.running().next().is_none()
    }

    /// Why a container that ended is not running yet; none if it has ended for good.
    fn waiting_after(
        &self,
        container: &Container,
        life: &ContainerSeen,
        kept: &ContainerMemory,
        is_init: bool,
    ) -> Option<Waiting> {
        if let Some(trouble) = trouble(kept) {
            return Some(trouble);
        }
        if matches!(life.state, RunState::Created) {
            return Some(waiting("ContainerCreating", None));
        }
        let is_over = self.memory.pods.get(self.uid).is_some_and(|record| record.over.is_some());
        if self.leaving || is_over || !run::will_restart(self.spec, container, life, is_init) {
            return None;
        }
        let backoff = run::next_backoff(life);
        if backoff.is_zero() {
            return Some(waiting("ContainerCreating", None));
        }
        let key = &life.marks.pod;
        let message = format!(
            "back-off {}s restarting failed container={} pod={}_{}({})",
            backoff.as_secs(),
            container.name,
            key.name,
            key.namespace,
            self.uid
        );
        Some(waiting("CrashLoopBackOff", Some(message)))
    }

    /// Why a container that never ran does not run yet.
    fn waiting(&self, kept: &ContainerMemory, is_init: bool) -> Waiting {
        if let Some(trouble) = trouble(kept) {
            return trouble;
        }
        let record = self.memory.pods.get(self.uid);
        let troubles = record
            .and_then(|record| record.files_trouble.as_ref().or(record.sandbox_trouble.as_ref()));
        if let Some(trouble) = troubles {
            return waiting(&trouble.reason, Some(trouble.message.clone()));
        }
        let initializing = !self.spec.init_containers.is_empty()
            && !is_init
            && !run::is_initialized(self.spec, self.house, self.memory);
        waiting(if initializing { "PodInitializing" } else { "ContainerCreating" }, None)
    }
}

fn waiting(reason: &str, message: Option<String>) -> Waiting {
    Waiting { reason: reason.to_owned(), message }
}

/// What stands between a container and its start.
fn trouble(kept: &ContainerMemory) -> Option<Waiting> {
    if let Some(trouble) = &kept.image_trouble {
        // Kubernetes says what failed at first, and that it waits from the second time on.
        let reason = match trouble.reason.as_str() {
            "ErrImagePull" if trouble.count > 1 => "ImagePullBackOff",
            reason => reason,
        };
        return Some(waiting(reason, Some(trouble.message.clone())));
    }
    if let Some(lacks) = &kept.lacks {
        return Some(waiting("CreateContainerConfigError", Some(lacks.clone())));
    }
    let trouble = kept.start_trouble.as_ref()?;
    Some(waiting(&trouble.reason, Some(trouble.message.clone())))
}

fn running(life: &ContainerSeen) -> ContainerState {
    match life.state {
        RunState::Running { started, .. } => {
            ContainerState::Running(Running { started_at: started })
        }
        RunState::Created | RunState::Ended { .. } => ContainerState::default(),
    }
}

fn terminated(life: &ContainerSeen, kept: &ContainerMemory) -> Option<Terminated> {
    let RunState::Ended { started, finished, exit_code, oom_killed, error } = &life.state else {
        return None;
    };
    let reason = if *oom_killed {
        "OOMKilled"
    } else if error.is_some() {
        "ContainerCannotRun"
    } else if *exit_code == 0 {
        "Completed"
    } else {
        "Error"
    };
    let words = kept.last_words.get(&life.id).filter(|words| !words.is_empty()).cloned();
    Some(Terminated {
        exit_code: *exit_code,
        reason: reason.to_owned(),
        message: error.clone().or(words),
        started_at: *started,
        finished_at: Some(*finished),
        container_id: Some(container_uri(&life.id)),
    })
}
