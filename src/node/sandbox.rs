//! A pod's sandbox: its files, its pause container, its link.
//!
//! The three are begun together where they don't need each other, because a pod's start is mostly
//! waiting for Docker. If the pause container dies, the pod's network is gone with it: everything
//! of the old sandbox is killed and a new one is made, as kubelet does.

use std::net::Ipv4Addr;
use std::time::Duration;

use crate::kinds::digest::Digest;
use crate::kinds::individual::ANNOTATION_START_OFFLINE;
use crate::kinds::name::{NodeName, PodKey, Uid};
use crate::kinds::pod::PodSpec;
use crate::kinds::time::Now;
use crate::kinds::volume::VolumeSource;
use crate::ports::links::{Attachment, Call as LinksCall, LINK_PREFIX};
use crate::ports::runtime::{
    Call as RuntimeCall, ContainerId, ContainerSeen, ContainerSpec, Marks, NetworkMode, Role, Share,
};
use crate::ports::{Call, files};

use super::house::{House, is_stillborn};
use super::memory::{Memory, Want};
use super::step::Step;
use super::{Around, Assignment, Seen};

/// How long Docker may take to start a container; a busy disk makes it slow, not dead.
pub(super) const START_TIMEOUT: Duration = Duration::from_secs(120);
/// How long links and files may take.
const LOCAL_TIMEOUT: Duration = Duration::from_secs(30);

/// A sandbox in which containers may be started.
pub(super) struct Ready {
    pub(super) pause: ContainerId,
    pub(super) number: u32,
}

/// The node's end of a pod's link: the mark and eleven digits, as long as a link's name may be.
pub fn link_name(uid: &Uid) -> String {
    format!("{LINK_PREFIX}{}", &Digest::of(uid.as_str().as_bytes()).hex()[..11])
}

pub(super) fn detach(link: &str) -> Want {
    Want {
        step: Step::Detach(link.to_owned()),
        call: Call::Links(LinksCall::Detach { link: link.to_owned() }),
        timeout: LOCAL_TIMEOUT,
    }
}

pub(super) fn remove_files(uid: &Uid) -> Want {
    Want {
        step: Step::RemoveFiles,
        call: Call::Files(files::Call::Remove { pod: uid.clone() }),
        timeout: LOCAL_TIMEOUT,
    }
}

/// Brings the sandbox a step further, or says that it is ready.
pub(super) fn next(
    uid: &Uid,
    pod: &Assignment,
    house: &House<'_>,
    seen: &Seen,
    around: &Around,
    memory: &mut Memory,
    wants: &mut Vec<Want>,
    now: Now,
) -> Option<Ready> {
    let template = pod.template.as_ref()?;
    let ip = if template.spec.host_network {
        around.node_ip
    } else {
        house
            .ip()
            .filter(|_| house.pause().is_some_and(ContainerSeen::is_running))
            .or_else(|| memory.addresses.take(uid))
    };
    let record = memory.pods.get_mut(uid)?;
    record.ip = ip;
    let files_are_ready = write_files(uid, pod, around, memory, wants, now);
    let Some(pause) = house.pause().filter(|pause| pause.is_running()) else {
        if let Some((reason, message)) = hindrance(pod, around) {
            memory.awaits_word(uid, reason, message, now);
            return None;
        }
        make_pause(uid, pod, house, &around.node, ip, memory, wants, now);
        return None;
    };
    let link_is_ready = template.spec.host_network
        || give_link(uid, pause, ip, &template.spec, seen, around, memory, wants, now);
    (files_are_ready && link_is_ready)
        .then(|| Ready { pause: pause.id.clone(), number: pause.marks.sandbox })
}

/// Why a pod that does not run may not be begun yet. One that has an identity waits until it is known that
/// nobody else has its name: after a boot (docs/DESIGN.md, Hard cases 2), unless its data is on this
/// node alone, or its author takes that upon himself; and after the state was taken on purpose (27).
fn hindrance(pod: &Assignment, around: &Around) -> Option<(&'static str, &'static str)> {
    if !pod.binding.is_identity() {
        return None;
    }
    if around.is_counting {
        return Some((
            "AwaitsOtherNodes",
            "the state store was taken on purpose, and a node that has not read so yet may run what \
             was given this pod's name before",
        ));
    }
    (!around.has_heard && !may_begin_alone(pod, around)).then_some((
        "AwaitsStateStore",
        "the state store has not been reached since this node booted, and another node may have been \
         given this pod's name meanwhile",
    ))
}

fn may_begin_alone(pod: &Assignment, around: &Around) -> bool {
    let annotations = pod.template.as_ref().map(|template| &template.annotations);
    let is_let = annotations
        .and_then(|annotations| annotations.get(ANNOTATION_START_OFFLINE))
        .is_some_and(|value| value == "true");
    is_let || has_data_here(pod, around)
}

/// Whether a volume of the pod is on this node and on no other.
fn has_data_here(pod: &Assignment, around: &Around) -> bool {
    let namespace = &pod.binding.key.namespace;
    let mut volumes = pod.template.iter().flat_map(|template| &template.spec.volumes);
    volumes.any(|volume| {
        let VolumeSource::Claim { name, .. } = &volume.source else {
            return false;
        };
        let volume = around.claims.get(&PodKey::new(namespace, name));
        let home = volume.and_then(|volume| volume.as_ref().ok()?.node.as_ref());
        home == Some(&around.node)
    })
}

/// Writes the pod's files if they differ from what is written; true if containers may rely on them.
fn write_files(
    uid: &Uid,
    pod: &Assignment,
    around: &Around,
    memory: &mut Memory,
    wants: &mut Vec<Want>,
    now: Now,
) -> bool {
    let Some(record) = memory.pods.get_mut(uid) else {
        return false;
    };
    let version = (around.files_version, record.ip);
    if record.files.is_some() && record.files_checked == Some(version) {
        return true;
    }
    let (wishes, digest) = match super::files::wishes(pod, around, record.ip) {
        Ok(wishes) => {
            let digest = super::files::digest(&wishes);
            (wishes, digest)
        }
        Err(missing) => {
            let is_news =
                record.files_trouble.as_ref().is_none_or(|trouble| trouble.message != missing.0);
            if is_news {
                record.files_trouble = Some(super::backoff::Trouble {
                    count: 0,
                    at: now.elapsed,
                    reason: "ContainerCreating".to_owned(),
                    message: missing.0.clone(),
                    is_forgiven: false,
                });
                memory.event(uid, true, "FailedMount", missing.0, now);
            }
            // What was written before stays in use: a ConfigMap that goes away under a running pod
            // leaves its files there, as in Kubernetes.
            return memory.pods.get(uid).is_some_and(|record| record.files.is_some());
        }
    };
    if record.files == Some(digest) {
        record.files_trouble = None;
        record.files_checked = Some(version);
        return true;
    }
    let retry_at = record
        .files_trouble
        .as_ref()
        .filter(|trouble| trouble.count > 0)
        .map(super::backoff::Trouble::retry_soon_at);
    let had_files = record.files.is_some();
    match retry_at.filter(|at| *at > now.elapsed) {
        Some(retry_at) => memory.wake_at(retry_at),
        None => {
            let call = Call::Files(files::Call::Write { pod: uid.clone(), wishes });
            wants.push(Want { step: Step::Files(digest), call, timeout: LOCAL_TIMEOUT });
        }
    }
    had_files
}

/// Clears what is left of an earlier sandbox, then starts a pause container.
fn make_pause(
    uid: &Uid,
    pod: &Assignment,
    house: &House<'_>,
    node: &NodeName,
    ip: Option<Ipv4Addr>,
    memory: &mut Memory,
    wants: &mut Vec<Want>,
    now: Now,
) {
    let orphans: Vec<&ContainerSeen> = house.running().collect();
    if !orphans.is_empty() {
        // Their network died with the pause container: there is nothing to be gentle about.
        let kills = orphans.into_iter().filter_map(|o| super::stop::kill(uid, o, memory, now));
        wants.extend(kills);
        return;
    }
    let Some(record) = memory.pods.get_mut(uid) else {
        return;
    };
    let retry_at = record.sandbox_trouble.as_ref().map(super::backoff::Trouble::retry_soon_at);
    if let Some(retry_at) = retry_at.filter(|at| *at > now.elapsed) {
        memory.wake_at(retry_at);
        return;
    }
    let Some(template) = &pod.template else {
        return;
    };
    if ip.is_none() && !template.spec.host_network {
        let fault = crate::ports::Fault::transient(
            "no pod address is free on this node, or none is allotted to it yet",
        );
        return memory.pause_started(uid, Err(fault), &mut Seen::default(), now);
    }
    record.attached = None;
    if let Some(stillborn) = house.pause().filter(|pause| is_stillborn(pause)) {
        let ids = vec![stillborn.id.clone()];
        let call = Call::Runtime(RuntimeCall::Remove { ids: ids.clone() });
        wants.push(Want { step: Step::Remove(ids), call, timeout: super::stop::STOP_TIMEOUT });
        return;
    }
    if record.is_busy_with(&Step::Pause) {
        return;
    }
    if let Some(spec) = pause_spec(uid, pod, node, house.sandbox() + 1, ip) {
        let call = Call::Runtime(RuntimeCall::Start(Box::new(spec)));
        wants.push(Want { step: Step::Pause, call, timeout: START_TIMEOUT });
    }
}

fn pause_spec(
    uid: &Uid,
    pod: &Assignment,
    node: &NodeName,
    sandbox: u32,
    ip: Option<Ipv4Addr>,
) -> Option<ContainerSpec> {
    let template = pod.template.as_ref()?;
    let spec = &template.spec;
    let marks = Marks {
        node: node.clone(),
        pod: pod.binding.key.clone(),
        uid: uid.clone(),
        role: Role::Pause,
        attempt: 0,
        backoff: Duration::ZERO,
        grace_s: spec.termination_grace_s,
        ip: ip.filter(|_| !spec.host_network),
        sandbox,
    };
    let mut container = ContainerSpec {
        name: marks.container_name(),
        labels: marks.to_labels(),
        hostname: (!spec.host_network).then(|| super::files::hostname(pod, spec)),
        network: if spec.host_network { NetworkMode::Host } else { NetworkMode::New },
        ipc: if spec.host_ipc { Share::Host } else { Share::Open },
        pid: Share::Own,
        // Guaranteed to outlive its containers when memory runs out (kubelet's `PauseOOMAdj`).
        oom_score_adj: -998,
        ..ContainerSpec::default()
    };
    let sysctls = spec.security.sysctls.iter();
    container.sysctls = sysctls.filter(|(name, _)| !name.starts_with("net.")).cloned().collect();
    Some(container)
}

/// Gives the pause container's namespace its link; true if it has it.
#[allow(clippy::too_many_arguments)] // One decision, seen from all its sides.
fn give_link(
    uid: &Uid,
    pause: &ContainerSeen,
    ip: Option<Ipv4Addr>,
    spec: &PodSpec,
    seen: &Seen,
    around: &Around,
    memory: &mut Memory,
    wants: &mut Vec<Want>,
    now: Now,
) -> bool {
    let link = link_name(uid);
    let Some(record) = memory.pods.get_mut(uid) else {
        return false;
    };
    let is_attached = record.attached.as_ref() == Some(&pause.id) && seen.links.contains(&link);
    if is_attached {
        return true;
    }
    let (Some(ip), Some(pid)) = (ip, pause.pid()) else {
        return false;
    };
    let retry_at = record.sandbox_trouble.as_ref().map(super::backoff::Trouble::retry_soon_at);
    if let Some(retry_at) = retry_at.filter(|at| *at > now.elapsed) {
        memory.wake_at(retry_at);
        return false;
    }
    let sysctls = spec.security.sysctls.iter();
    let attachment = Attachment {
        link,
        pid,
        ip,
        node_ip: around.node_ip,
        mtu: around.mtu,
        sysctls: sysctls.filter(|(name, _)| name.starts_with("net.")).cloned().collect(),
    };
    wants.push(Want {
        step: Step::Attach(pause.id.clone()),
        call: Call::Links(LinksCall::Attach(attachment)),
        timeout: LOCAL_TIMEOUT,
    });
    false
}
