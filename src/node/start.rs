//! From a container's manifest to what Docker is asked for.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::kinds::container::{Container, EnvSource, EnvValue, Propagation, Security};
use crate::kinds::image::Reference;
use crate::kinds::name::Name;
use crate::kinds::pod::{AppArmor, PodSecurity, PodSpec, QosClass, Seccomp};
use crate::kinds::quantity::Quantity;
use crate::kinds::storage::Medium;
use crate::kinds::volume::VolumeSource;
use crate::ports::credentials;
use crate::ports::runtime::{
    ContainerSpec, Credentials, ImageSeen, ImageWish, Marks, MountSource, MountSpec, NetworkMode,
    Pull, Role, Share,
};

use super::env::{self, Missing};
use super::fields::Myself;
use super::files::{
    ACCOUNT_NAMESPACE, HOSTS, RESOLV_CONF, has_account_files, last_words_file, place,
};
use super::sandbox::Ready;
use super::{Around, Assignment};

/// Kubernetes' least CPU weight (`MinShares`).
const SHARES_MIN: i64 = 2;
/// Kubernetes' least CPU quota in µs per 100 ms (`minQuotaPeriod`).
const QUOTA_MIN_US: i64 = 1000;

/// Where programs look for what they are (`DefaultAPITokenMountPath`). There is the namespace; there is
/// no token, which tells a client library that it is not to talk to an API server from here.
const ACCOUNT_DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Which making of a container this is.
pub(super) struct Attempt {
    pub(super) role: Role,
    pub(super) number: u32,
    pub(super) backoff: Duration,
}

/// The image a container asks for, with the credentials of the pod's pull secrets.
pub(super) fn image_wish(container: &Container, pod: &Assignment, around: &Around) -> ImageWish {
    use crate::kinds::container::PullPolicy;
    let pull = match container.pull {
        PullPolicy::Always => Pull::Always,
        PullPolicy::IfNotPresent => Pull::Missing,
        PullPolicy::Never => Pull::Never,
    };
    ImageWish {
        image: container.image.clone(),
        pull,
        credentials: pull_credentials(container, pod, around),
    }
}

fn pull_credentials(container: &Container, pod: &Assignment, around: &Around) -> Vec<Credentials> {
    let (Some(template), Ok(image)) = (&pod.template, Reference::parse(&container.image)) else {
        return Vec::new();
    };
    let namespace = &pod.binding.key.namespace;
    let mut all = Vec::new();
    for name in &pull_secrets(&template.spec, namespace, around) {
        // One that is not there, or can't be opened, is as good as none; the pull then says what it was
        // refused.
        let Ok(Some(secret)) = around.secret(namespace, name) else {
            continue;
        };
        let read = match (secret.data.get(".dockerconfigjson"), secret.data.get(".dockercfg")) {
            (Some(json), _) => Credentials::from_docker_config(json),
            (None, Some(json)) => Credentials::from_docker_cfg(json),
            (None, None) => continue,
        };
        all.extend(read.unwrap_or_default());
    }
    credentials::fitting(&all, &image).into_iter().cloned().collect()
}

/// The pod's own; its account's only where it names none (`ServiceAccount` admission).
pub(super) fn pull_secrets(spec: &PodSpec, namespace: &Name, around: &Around) -> Vec<Name> {
    match spec.image_pull_secrets.is_empty() {
        true => around.account(namespace, spec).image_pull_secrets,
        false => spec.image_pull_secrets.clone(),
    }
}

/// The Secrets that a pod reads: for variables, files and registries.
pub fn secrets_of(spec: &PodSpec, namespace: &Name, around: &Around) -> BTreeSet<Name> {
    let mut names: BTreeSet<Name> = pull_secrets(spec, namespace, around).into_iter().collect();
    for volume in &spec.volumes {
        names.extend(volume.source.secrets().into_iter().map(|(name, _)| name.clone()));
    }
    for container in spec.all_containers() {
        names.extend(container.env_from.iter().filter_map(|from| match &from.source {
            EnvSource::Secret(name) => Some(name.clone()),
            EnvSource::ConfigMap(_) => None,
        }));
        names.extend(container.env.iter().filter_map(|variable| match &variable.value {
            EnvValue::SecretKey(reference) => Some(reference.name.clone()),
            _ => None,
        }));
    }
    names
}

/// What Docker is asked for, or what is missing for it.
pub(super) fn container_spec(
    container: &Container,
    attempt: &Attempt,
    pod: &Assignment,
    sandbox: &Ready,
    image: &ImageSeen,
    myself: &Myself<'_>,
) -> Result<ContainerSpec, Missing> {
    let spec = &myself.template.spec;
    let around = myself.around;
    let user = user(container, &spec.security, image)?;
    let variables = env::variables(container, myself)?;
    let marks = Marks {
        node: around.node.clone(),
        pod: pod.binding.key.clone(),
        uid: pod.binding.uid.clone(),
        role: attempt.role.clone(),
        attempt: attempt.number,
        backoff: attempt.backoff,
        grace_s: spec.termination_grace_s,
        ip: None,
        sandbox: sandbox.number,
    };
    let command = Around::expand_all(&container.command, &variables);
    let args = Around::expand_all(&container.args, &variables);
    let (entrypoint, command) = match (command.is_empty(), args.is_empty()) {
        // A command drops the image's arguments too.
        (false, _) => (Some(command), Some(args)),
        (true, false) => (None, Some(args)),
        (true, true) => (None, None),
    };
    let pause = sandbox.pause.clone();
    let resources = &container.resources;
    let limit = |name: &str| resources.limits.get(name).filter(|amount| !amount.is_zero());
    let mut made = ContainerSpec {
        name: marks.container_name(),
        labels: marks.to_labels(),
        image: image.id.clone(),
        entrypoint,
        command,
        env: variables.iter().map(|(name, value)| format!("{name}={value}")).collect(),
        working_dir: container.working_dir.clone(),
        user,
        groups: groups(&spec.security),
        hostname: None,
        network: NetworkMode::Of(pause.clone()),
        ipc: if spec.host_ipc { Share::Host } else { Share::Of(pause.clone()) },
        pid: process_ids(spec, pause),
        mounts: mounts(container, myself)?,
        memory_bytes: limit("memory").map(Quantity::as_units),
        cpu_shares: Some(cpu_shares(resources.requests.get("cpu"))),
        cpu_quota_us: limit("cpu").map(|cpu| (cpu.as_millis() * 100).max(QUOTA_MIN_US)),
        oom_score_adj: oom_score_adj(spec, container, around),
        stdin: container.stdin,
        stdin_once: container.stdin_once,
        tty: container.tty,
        stop_signal: container.stop_signal.clone(),
        ..ContainerSpec::default()
    };
    secure(&mut made, &container.security, &spec.security);
    Ok(made)
}

fn process_ids(spec: &PodSpec, pause: crate::ports::runtime::ContainerId) -> Share {
    if spec.host_pid {
        Share::Host
    } else if spec.share_process_namespace {
        Share::Of(pause)
    } else {
        Share::Own
    }
}

/// `uid[:gid]`, after the check that `runAsNonRoot` asks for.
fn user(
    container: &Container,
    pod: &PodSecurity,
    image: &ImageSeen,
) -> Result<Option<String>, Missing> {
    let security = &container.security;
    let uid = security.run_as_user.or(pod.run_as_user);
    let gid = security.run_as_group.or(pod.run_as_group);
    let image_user = image.user.split(':').next().unwrap_or_default();
    if security.run_as_non_root.or(pod.run_as_non_root) == Some(true) {
        check_non_root(uid, image_user)?;
    }
    Ok(match (uid, gid) {
        (Some(uid), Some(gid)) => Some(format!("{uid}:{gid}")),
        (Some(uid), None) => Some(uid.to_string()),
        (None, Some(gid)) if image_user.is_empty() => Some(format!("0:{gid}")),
        (None, Some(gid)) => Some(format!("{image_user}:{gid}")),
        (None, None) => None,
    })
}

/// As kubelet's `verifyRunAsNonRoot` words it.
fn check_non_root(uid: Option<u32>, image_user: &str) -> Result<(), Missing> {
    let root = "container has runAsNonRoot and image will run as root";
    match (uid, image_user.parse::<u32>()) {
        (Some(0), _) => Err(Missing("container's runAsUser breaks non-root policy".to_owned())),
        (None, Ok(0)) => Err(Missing(root.to_owned())),
        (Some(_), _) | (None, Ok(_)) => Ok(()),
        (None, Err(_)) if image_user.is_empty() || image_user == "root" => {
            Err(Missing(root.to_owned()))
        }
        (None, Err(_)) => Err(Missing(format!(
            "container has runAsNonRoot and image has non-numeric user ({image_user}), cannot \
             verify user is non-root"
        ))),
    }
}

fn groups(pod: &PodSecurity) -> Vec<String> {
    pod.supplemental_groups.iter().chain(&pod.fs_group).map(u32::to_string).collect()
}

fn cpu_shares(request: Option<&Quantity>) -> i64 {
    let millis = request.map_or(0, Quantity::as_millis);
    (millis * 1024 / 1000).max(SHARES_MIN)
}

/// kubelet's `GetContainerOOMScoreAdjust`: the less of the node's memory a burstable container
/// asked for, the sooner it goes.
fn oom_score_adj(spec: &PodSpec, container: &Container, around: &Around) -> i64 {
    match spec.qos() {
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let asked = container.resources.requests.get("memory").map_or(0, Quantity::as_units);
            let has = around.allocatable.get("memory").map_or(0, Quantity::as_units).max(1);
            let share = i128::from(asked) * 1000 / i128::from(has);
            (1000 - i64::try_from(share).unwrap_or(1000)).clamp(2, 999)
        }
    }
}

fn secure(made: &mut ContainerSpec, own: &Security, pod: &PodSecurity) {
    made.privileged = own.privileged;
    made.read_only_root = own.read_only_root;
    made.unmasked_proc = own.unmasked_proc;
    made.cap_add.clone_from(&own.capabilities_add);
    made.cap_drop.clone_from(&own.capabilities_drop);
    if own.allow_privilege_escalation == Some(false) && !own.privileged {
        made.security_opts.push("no-new-privileges".to_owned());
    }
    // Where nothing is asked, Docker's own filters stay: stricter than Kubernetes' default, which
    // is none, and what Docker's users expect.
    match own.seccomp.as_ref().or(pod.seccomp.as_ref()) {
        Some(Seccomp::Unconfined) => made.security_opts.push("seccomp=unconfined".to_owned()),
        Some(Seccomp::Localhost(profile)) => {
            made.security_opts.push(format!("seccomp={profile}"));
        }
        Some(Seccomp::RuntimeDefault) | None => {}
    }
    match own.app_armor.as_ref().or(pod.app_armor.as_ref()) {
        Some(AppArmor::Unconfined) => made.security_opts.push("apparmor=unconfined".to_owned()),
        Some(AppArmor::Localhost(profile)) => {
            made.security_opts.push(format!("apparmor={profile}"));
        }
        Some(AppArmor::RuntimeDefault) | None => {}
    }
}

pub(super) fn mounts(
    container: &Container,
    myself: &Myself<'_>,
) -> Result<Vec<MountSpec>, Missing> {
    let around = myself.around;
    let uid = &myself.binding.uid;
    let spec = &myself.template.spec;
    let own = |name: &str, target: &str, read_only: bool| MountSpec {
        source: MountSource::Path(around.layout.file(uid, name).display().to_string()),
        target: target.to_owned(),
        read_only,
        propagation: "rprivate",
    };
    let is_taken = |path: &str| container.mounts.iter().any(|mount| mount.path == path);
    let mut mounts = Vec::new();
    if (!spec.host_network || !spec.host_aliases.is_empty()) && !is_taken("/etc/hosts") {
        mounts.push(own(HOSTS, "/etc/hosts", false));
    }
    if !is_taken("/etc/resolv.conf") {
        mounts.push(own(RESOLV_CONF, "/etc/resolv.conf", false));
    }
    // What the pod mounts there, or above or below it, is its own affair.
    let is_near = |path: &str| under(path, ACCOUNT_DIR) || under(ACCOUNT_DIR, path);
    if has_account_files(spec, &myself.binding.key.namespace, around)
        && !container.mounts.iter().any(|mount| is_near(&mount.path))
    {
        mounts.push(own(ACCOUNT_NAMESPACE, &format!("{ACCOUNT_DIR}/namespace"), true));
    }
    let words = last_words_file(&container.name);
    mounts.push(own(&words, &container.termination_message_path, false));
    for mount in &container.mounts {
        let claim = claim_of(mount.volume.as_str(), spec);
        let claimed = claim.map(|(name, read_only)| (myself.claimed(name), read_only));
        let is_read_only = match &claimed {
            Some((Ok(volume), read_only)) => *read_only || volume.read_only,
            _ => false,
        };
        if let Some((Ok(volume), _)) = &claimed
            && let Medium::Docker { name, driver, options } = &volume.medium
        {
            if mount.sub_path.is_some() {
                return Err(Missing(format!(
                    "volume {}: subPath is not supported on a volume of Docker's driver {driver}",
                    mount.volume
                )));
            }
            mounts.push(MountSpec {
                source: MountSource::Volume {
                    name: name.clone(),
                    driver: driver.clone(),
                    options: options.clone(),
                },
                target: mount.path.clone(),
                read_only: mount.read_only || is_read_only,
                propagation: "rprivate",
            });
            continue;
        }
        let Some((root, part)) = place(mount, container, myself) else {
            return Err(Missing(format!("volume {} can't be mounted yet", mount.volume)));
        };
        let source = match part {
            Some(part) => around.layout.sub_path(uid, &root, &part),
            None => around.layout.volume(uid, &root),
        };
        mounts.push(MountSpec {
            source: MountSource::Path(source.display().to_string()),
            target: mount.path.clone(),
            read_only: mount.read_only
                || is_read_only
                || is_written_by_us(mount.volume.as_str(), spec),
            propagation: match mount.propagation {
                Propagation::None => "rprivate",
                Propagation::HostToContainer => "rslave",
                Propagation::Bidirectional => "rshared",
            },
        });
    }
    Ok(mounts)
}

/// Whether `path` is `directory` or lies below it.
fn under(path: &str, directory: &str) -> bool {
    let rest = path.strip_prefix(directory.trim_end_matches('/'));
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The claim that a volume of the pod names, and whether the pod may only read it.
fn claim_of<'s>(volume: &str, spec: &'s PodSpec) -> Option<(&'s Name, bool)> {
    let volume = spec.volumes.iter().find(|its| its.name == *volume)?;
    match &volume.source {
        VolumeSource::Claim { name, read_only, .. } => Some((name, *read_only)),
        _ => None,
    }
}

/// ConfigMaps, Secrets and the like are read-only in their containers, whatever the mount says.
fn is_written_by_us(volume: &str, spec: &PodSpec) -> bool {
    spec.volumes.iter().any(|v| v.name == *volume && matches!(v.source, VolumeSource::Files(_)))
}
