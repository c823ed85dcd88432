//! Who processes are and what they may do.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1 as api;

use super::super::path::Path;
use super::super::tree::quoted;
use super::Check;
use crate::kinds::container::Security;
use crate::kinds::pod::{AppArmor, PodSecurity, Seccomp};

/// `IsValidUserID`, `IsValidGroupID`: 0 to 2^31-1.
fn id(path: &Path<'_>, id: Option<i64>, check: &mut Check<'_, '_>) -> Option<u32> {
    id.map(|id| check.number(path, id, 0, i64::from(i32::MAX)))
}

/// `ValidatePodSecurityContext`.
pub(super) fn pod(
    path: &Path<'_>,
    context: &api::PodSecurityContext,
    host_network: bool,
    host_ipc: bool,
    check: &mut Check<'_, '_>,
) -> PodSecurity {
    let policies = [("Always", false), ("OnRootMismatch", true)];
    let groups_path = path.field("supplementalGroups");
    let supplemental_groups = context
        .supplemental_groups
        .iter()
        .flatten()
        .enumerate()
        .filter_map(|(index, group)| id(&groups_path.index(index), Some(*group), check))
        .collect();
    let security = PodSecurity {
        run_as_user: id(&path.field("runAsUser"), context.run_as_user, check),
        run_as_group: id(&path.field("runAsGroup"), context.run_as_group, check),
        run_as_non_root: context.run_as_non_root,
        supplemental_groups,
        fs_group: id(&path.field("fsGroup"), context.fs_group, check),
        fs_group_on_root_mismatch: check.word_or(
            &path.field("fsGroupChangePolicy"),
            context.fs_group_change_policy.as_deref(),
            &policies,
            false,
        ),
        sysctls: sysctls(
            &path.field("sysctls"),
            context.sysctls.as_deref().unwrap_or_default(),
            host_network,
            host_ipc,
            check,
        ),
        seccomp: seccomp(path, context.seccomp_profile.as_ref(), check),
        app_armor: app_armor(path, context.app_armor_profile.as_ref(), check),
    };
    warn_of_root(path, security.run_as_non_root, security.run_as_user, check);
    security
}

/// A user of 0 and `runAsNonRoot` are accepted together, and fail when the container starts.
fn warn_of_root(
    path: &Path<'_>,
    non_root: Option<bool>,
    user: Option<u32>,
    check: &mut Check<'_, '_>,
) {
    if non_root == Some(true) && user == Some(0) {
        let message = "is 0, which is root, but runAsNonRoot is true: the container will not start";
        check.warn(&path.field("runAsUser"), message);
    }
}

/// Kernel parameters that belong to a namespace of the pod, with the field that gives the
/// namespace away.
const SYSCTL_NAMESPACES: [(&str, &str); 5] = [
    ("net.", "hostNetwork"),
    ("fs.mqueue.", "hostIPC"),
    ("kernel.msg", "hostIPC"),
    ("kernel.sem", "hostIPC"),
    ("kernel.shm", "hostIPC"),
];

/// `validateSysctls`.
fn sysctls(
    path: &Path<'_>,
    sysctls: &[api::Sysctl],
    host_network: bool,
    host_ipc: bool,
    check: &mut Check<'_, '_>,
) -> Vec<(String, String)> {
    let mut seen = BTreeSet::new();
    let mut list = Vec::new();
    for (index, sysctl) in sysctls.iter().enumerate() {
        let item_path = path.index(index);
        let path = item_path.field("name");
        let name = sysctl.name.replace('/', ".");
        let is_name = !name.is_empty()
            && name
                .split('.')
                .all(|part| !part.is_empty() && part.bytes().all(is_sysctl_byte));
        let namespace = SYSCTL_NAMESPACES
            .iter()
            .find(|(prefix, _)| name.starts_with(prefix));
        match namespace {
            _ if !is_name => check.error(&path, format!("{} is not a sysctl", quoted(&name))),
            None => {
                let message = format!("{name} belongs to the whole node, not to a pod");
                check.error_hint(&path, message, "set it in the node's /etc/sysctl.d");
            }
            Some((_, field @ "hostNetwork")) if host_network => {
                check.error(&path, format!("{name} can't be set with {field}"));
            }
            Some((_, field @ "hostIPC")) if host_ipc => {
                check.error(&path, format!("{name} can't be set with {field}"));
            }
            Some(_) => {}
        }
        if !seen.insert(name.clone()) {
            check.error(&path, format!("{name} is set twice"));
        }
        list.push((name, sysctl.value.clone()));
    }
    list
}

fn is_sysctl_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// What `seccompProfile.type` and `appArmorProfile.type` may be.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Profile {
    RuntimeDefault,
    Unconfined,
    Localhost,
}

const PROFILES: &[(&str, Profile)] = &[
    ("RuntimeDefault", Profile::RuntimeDefault),
    ("Unconfined", Profile::Unconfined),
    ("Localhost", Profile::Localhost),
];

/// The profile's type, and its file where it has one.
fn profile(
    path: &Path<'_>,
    kind: &str,
    localhost: Option<&str>,
    check: &mut Check<'_, '_>,
) -> Option<(Profile, String)> {
    let kind = check.word(&path.field("type"), kind, PROFILES)?;
    let file_path = path.field("localhostProfile");
    let file = localhost.unwrap_or_default();
    if kind == Profile::Localhost && file.is_empty() {
        check.error(&file_path, "is required with type Localhost");
    }
    if kind != Profile::Localhost && !file.is_empty() {
        check.error(&file_path, "can only be set with type Localhost");
    }
    Some((kind, file.to_owned()))
}

fn seccomp(
    path: &Path<'_>,
    seccomp: Option<&api::SeccompProfile>,
    check: &mut Check<'_, '_>,
) -> Option<Seccomp> {
    let seccomp = seccomp?;
    let path = path.field("seccompProfile");
    let file = seccomp.localhost_profile.as_deref();
    Some(match profile(&path, &seccomp.type_, file, check)? {
        (Profile::RuntimeDefault, _) => Seccomp::RuntimeDefault,
        (Profile::Unconfined, _) => Seccomp::Unconfined,
        (Profile::Localhost, file) => {
            check_relative(&path.field("localhostProfile"), &file, check);
            Seccomp::Localhost(file)
        }
    })
}

fn app_armor(
    path: &Path<'_>,
    app_armor: Option<&api::AppArmorProfile>,
    check: &mut Check<'_, '_>,
) -> Option<AppArmor> {
    let app_armor = app_armor?;
    let path = path.field("appArmorProfile");
    let name = app_armor.localhost_profile.as_deref();
    Some(match profile(&path, &app_armor.type_, name, check)? {
        (Profile::RuntimeDefault, _) => AppArmor::RuntimeDefault,
        (Profile::Unconfined, _) => AppArmor::Unconfined,
        (Profile::Localhost, name) => AppArmor::Localhost(name),
    })
}

/// `validateLocalDescendingPath`: a path that stays below where it is put.
pub(super) fn check_relative(path: &Path<'_>, text: &str, check: &mut Check<'_, '_>) {
    if text.starts_with('/') {
        check.error(path, format!("{} must be a relative path", quoted(text)));
    }
    if text.split('/').any(|part| part == "..") {
        check.error(path, format!("{} must not contain '..'", quoted(text)));
    }
}

/// `ValidateSecurityContext`.
pub(super) fn container(
    path: &Path<'_>,
    context: &api::SecurityContext,
    check: &mut Check<'_, '_>,
) -> Security {
    let capabilities = context.capabilities.as_ref();
    let capabilities_path = path.field("capabilities");
    let mut list = |field, names: Option<&Vec<String>>| {
        let path = capabilities_path.field(field);
        capability_names(&path, names.map(Vec::as_slice).unwrap_or_default(), check)
    };
    let capabilities_add = list("add", capabilities.and_then(|c| c.add.as_ref()));
    let capabilities_drop = list("drop", capabilities.and_then(|c| c.drop.as_ref()));
    let proc_mounts = [("Default", false), ("Unmasked", true)];
    let security = Security {
        run_as_user: id(&path.field("runAsUser"), context.run_as_user, check),
        run_as_group: id(&path.field("runAsGroup"), context.run_as_group, check),
        run_as_non_root: context.run_as_non_root,
        privileged: context.privileged.unwrap_or(false),
        read_only_root: context.read_only_root_filesystem.unwrap_or(false),
        allow_privilege_escalation: context.allow_privilege_escalation,
        capabilities_add,
        capabilities_drop,
        seccomp: seccomp(path, context.seccomp_profile.as_ref(), check),
        app_armor: app_armor(path, context.app_armor_profile.as_ref(), check),
        unmasked_proc: check.word_or(
            &path.field("procMount"),
            context.proc_mount.as_deref(),
            &proc_mounts,
            false,
        ),
    };
    if security.allow_privilege_escalation == Some(false) {
        let path = path.field("allowPrivilegeEscalation");
        if security.privileged {
            check.error(&path, "can't be false for a privileged container");
        }
        if security
            .capabilities_add
            .iter()
            .any(|name| name == "SYS_ADMIN")
        {
            check.error(&path, "can't be false with the capability SYS_ADMIN");
        }
    }
    warn_of_root(path, security.run_as_non_root, security.run_as_user, check);
    security
}

fn capability_names(path: &Path<'_>, names: &[String], check: &mut Check<'_, '_>) -> Vec<String> {
    let mut list = Vec::new();
    for (index, name) in names.iter().enumerate() {
        let short = name.strip_prefix("CAP_").unwrap_or(name);
        if short == "ALL" || CAPABILITIES.contains(&short) {
            list.push(short.to_owned());
            continue;
        }
        let message = format!("{} is not a capability of Linux", quoted(name));
        match super::nearest(short, CAPABILITIES.iter().copied()) {
            Some(near) => {
                let hint = format!("did you mean {near:?}?");
                check.error_hint(&path.index(index), message, hint);
            }
            None => check.error(&path.index(index), message),
        }
    }
    list
}

/// `capabilities(7)`.
const CAPABILITIES: [&str; 41] = [
    "AUDIT_CONTROL",
    "AUDIT_READ",
    "AUDIT_WRITE",
    "BLOCK_SUSPEND",
    "BPF",
    "CHECKPOINT_RESTORE",
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "IPC_LOCK",
    "IPC_OWNER",
    "KILL",
    "LEASE",
    "LINUX_IMMUTABLE",
    "MAC_ADMIN",
    "MAC_OVERRIDE",
    "MKNOD",
    "NET_ADMIN",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_RAW",
    "PERFMON",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYSLOG",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_CHROOT",
    "SYS_MODULE",
    "SYS_NICE",
    "SYS_PACCT",
    "SYS_PTRACE",
    "SYS_RAWIO",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "WAKE_ALARM",
];
