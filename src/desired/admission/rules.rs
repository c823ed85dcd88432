//! The Pod Security Standards, rule by rule, as Kubernetes has them.
//!
//! <https://kubernetes.io/docs/concepts/security/pod-security-standards/>; the versions from which a
//! rule counts are those of `k8s.io/pod-security-admission/policy`. Every rule is applied once, for all
//! versions: an offence says for which it is one. What is about Windows, ephemeral containers and user
//! namespaces is left out: Windlass refuses such pods anyway.

use std::collections::BTreeSet;

use serde_json::Value;

use super::pods::{Container, Pod, items, text};
use super::{Level, Version};

/// Against what a pod template offends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::desired) struct Violation {
    level: Level,
    /// It counts from this version on, and before that one.
    since: Version,
    until: Version,
    /// From this version on a stricter rule says it, where the level is `restricted`.
    covered_since: Option<Version>,
    pub(super) reason: String,
    pub(super) detail: String,
}

impl Violation {
    /// Whether it is one for a namespace of this level and version.
    pub(super) fn counts(&self, level: Level, version: Version) -> bool {
        // `until` of what counts for ever is the last number there is, which is `latest` itself.
        let is_before = version < self.until || self.until == Version::LATEST;
        let is_covered = level == Level::Restricted
            && self.covered_since.is_some_and(|covered| version >= covered);
        self.level <= level && self.since <= version && is_before && !is_covered
    }

    fn new(level: Level, since: u16, reason: impl Into<String>, detail: impl Into<String>) -> Self {
        Self {
            level,
            since: Version(since),
            until: Version::LATEST,
            covered_since: None,
            reason: reason.into(),
            detail: detail.into(),
        }
    }

    fn until(self, version: u16) -> Self {
        Self { until: Version(version), ..self }
    }

    fn covered_since(self, version: u16) -> Self {
        Self { covered_since: Some(Version(version)), ..self }
    }
}

/// Everything that is against a template, given as JSON with defaults.
pub(super) fn violations(template: &str) -> Vec<Violation> {
    let Ok(template) = serde_json::from_str::<Value>(template) else {
        // It was written by us; what can't be read is not let through.
        return vec![Violation::new(Level::Baseline, 0, "template", "it can't be read")];
    };
    let pod = Pod::of(&template);
    let mut found = Vec::new();
    found.extend(privilege_escalation(&pod));
    found.extend(app_armor(&pod));
    found.extend(capabilities_baseline(&pod));
    found.extend(capabilities_restricted(&pod));
    found.extend(host_namespaces(&pod));
    found.extend(host_path_volumes(&pod));
    found.extend(host_ports(&pod));
    found.extend(probe_hosts(&pod));
    found.extend(privileged(&pod));
    found.extend(proc_mount(&pod));
    found.extend(restricted_volumes(&pod));
    found.extend(run_as_non_root(&pod));
    found.extend(run_as_user(&pod));
    selinux(&pod, &mut found);
    seccomp(&pod, &mut found);
    sysctls(&pod, &mut found);
    found
}

/// `container "a"`, `containers "a", "b"`.
fn containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", names.len()), quoted(names))
}

fn plural(word: &str, count: usize) -> String {
    if count == 1 { word.to_owned() } else { format!("{word}s") }
}

fn quoted<T: AsRef<str>>(words: &[T]) -> String {
    let words: Vec<String> = words.iter().map(|word| format!("{:?}", word.as_ref())).collect();
    words.join(", ")
}

/// Names of the containers of which something holds.
fn which<'v>(pod: &Pod<'v>, holds: impl Fn(&Container<'v>) -> bool) -> Vec<&'v str> {
    pod.containers().filter(holds).map(|container| container.name).collect()
}

/// The pod and containers that set something, as the subject of a sentence.
fn setters(is_pod: bool, names: &[&str]) -> Option<String> {
    let pod = is_pod.then(|| "pod".to_owned());
    let names = (!names.is_empty()).then(|| containers(names));
    let all: Vec<String> = pod.into_iter().chain(names).collect();
    (!all.is_empty()).then(|| all.join(" and "))
}

fn host_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let set: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|field| pod.field(field) == true)
        .map(|field| format!("{field}=true"))
        .collect();
    let detail = set.join(", ");
    (!set.is_empty()).then(|| Violation::new(Level::Baseline, 0, "host namespaces", detail))
}

fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let bad = which(pod, |container| container.security("privileged") == true);
    let detail = || format!("{} must not set securityContext.privileged=true", containers(&bad));
    (!bad.is_empty()).then(|| Violation::new(Level::Baseline, 0, "privileged", detail()))
}

fn added<'v>(container: &Container<'v>, allowed: &[&str]) -> Vec<&'v str> {
    let added = items(&container.security("capabilities")["add"]).filter_map(Value::as_str);
    added.filter(|capability| !allowed.contains(capability)).collect()
}

fn forbidden_capabilities(pod: &Pod<'_>, allowed: &[&str]) -> Option<String> {
    let bad = which(pod, |container| !added(container, allowed).is_empty());
    let set: BTreeSet<&str> =
        pod.containers().flat_map(|container| added(&container, allowed)).collect();
    let set: Vec<&str> = set.into_iter().collect();
    let end = "in securityContext.capabilities.add";
    (!bad.is_empty())
        .then(|| format!("{} must not include {} {end}", containers(&bad), quoted(&set)))
}

fn capabilities_baseline(pod: &Pod<'_>) -> Option<Violation> {
    const ALLOWED: [&str; 13] = [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ];
    let detail = forbidden_capabilities(pod, &ALLOWED)?;
    let found = Violation::new(Level::Baseline, 0, "non-default capabilities", detail);
    Some(found.covered_since(22))
}

fn capabilities_restricted(pod: &Pod<'_>) -> Option<Violation> {
    let keeps = which(pod, |container| {
        !items(&container.security("capabilities")["drop"]).any(|dropped| dropped == "ALL")
    });
    let keeps = (!keeps.is_empty()).then(|| {
        format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&keeps))
    });
    let adds = forbidden_capabilities(pod, &["NET_BIND_SERVICE"]);
    let details: Vec<String> = keeps.into_iter().chain(adds).collect();
    let reason = "unrestricted capabilities";
    (!details.is_empty()).then(|| Violation::new(Level::Restricted, 22, reason, details.join("; ")))
}

fn host_path_volumes(pod: &Pod<'_>) -> Option<Violation> {
    let bad: Vec<&str> = items(pod.field("volumes"))
        .filter(|volume| !volume["hostPath"].is_null())
        .filter_map(|volume| volume["name"].as_str())
        .collect();
    let detail = || format!("{} {}", plural("volume", bad.len()), quoted(&bad));
    (!bad.is_empty())
        .then(|| Violation::new(Level::Baseline, 0, "hostPath volumes", detail()).covered_since(0))
}

fn restricted_volumes(pod: &Pod<'_>) -> Option<Violation> {
    const ALLOWED: [&str; 8] = [
        "configMap",
        "csi",
        "downwardAPI",
        "emptyDir",
        "ephemeral",
        "persistentVolumeClaim",
        "projected",
        "secret",
    ];
    let has_allowed = |volume: &&Value| ALLOWED.iter().any(|source| !volume[*source].is_null());
    let bad = items(pod.field("volumes")).filter(|volume| !has_allowed(volume));
    // One with a name alone is an emptyDir.
    let is_of_type = |volume: &&Value| volume.as_object().is_some_and(|fields| fields.len() > 1);
    let bad: Vec<String> = bad
        .filter(is_of_type)
        .map(|volume| {
            let name = volume["name"].as_str().unwrap_or_default();
            let sources = volume.as_object().into_iter().flatten().map(|(source, _)| source);
            let source = sources.filter(|source| *source != "name").map(String::as_str);
            format!("volume {name:?} uses restricted volume type {:?}", source.collect::<String>())
        })
        .collect();
    let detail = bad.join("; ");
    let reason = "restricted volume types";
    (!bad.is_empty()).then(|| Violation::new(Level::Restricted, 0, reason, detail))
}

fn host_ports(pod: &Pod<'_>) -> Option<Violation> {
    let ports = |container: &Container<'_>| -> Vec<u64> {
        let ports = items(&container.value["ports"]);
        ports.filter_map(|port| port["hostPort"].as_u64()).filter(|port| *port != 0).collect()
    };
    let bad = which(pod, |container| !ports(container).is_empty());
    let all: BTreeSet<u64> = pod.containers().flat_map(|container| ports(&container)).collect();
    let all: Vec<String> = all.iter().map(u64::to_string).collect();
    let detail = || {
        let uses = if bad.len() == 1 { "uses" } else { "use" };
        let what = plural("hostPort", all.len());
        format!("{} {uses} {what} {}", containers(&bad), all.join(", "))
    };
    (!bad.is_empty()).then(|| Violation::new(Level::Baseline, 0, "hostPort", detail()))
}

fn probe_hosts(pod: &Pod<'_>) -> Option<Violation> {
    let hosts = |container: &Container<'_>| -> Vec<String> {
        let value = container.value;
        let probes = ["livenessProbe", "readinessProbe", "startupProbe"].map(|probe| &value[probe]);
        let hooks = ["postStart", "preStop"].map(|hook| &value["lifecycle"][hook]);
        let handlers = probes.into_iter().chain(hooks);
        let named = handlers.flat_map(|handler| {
            ["httpGet", "tcpSocket"].map(|way| text(&handler[way]["host"]).map(str::to_owned))
        });
        named.flatten().collect()
    };
    let bad = which(pod, |container| !hosts(container).is_empty());
    let all: BTreeSet<String> = pod.containers().flat_map(|container| hosts(&container)).collect();
    let all: Vec<String> = all.into_iter().collect();
    let detail = || {
        let uses = if bad.len() == 1 { "uses" } else { "use" };
        let what = plural("probe or lifecycle host", all.len());
        format!("{} {uses} {what} {}", containers(&bad), quoted(&all))
    };
    (!bad.is_empty())
        .then(|| Violation::new(Level::Baseline, 34, "probe or lifecycle host", detail()))
}

fn app_armor(pod: &Pod<'_>) -> Option<Violation> {
    let is_good = |value: &Value| {
        value["type"].is_null() || value["type"] == "RuntimeDefault" || value["type"] == "Localhost"
    };
    let bad = which(pod, |container| !is_good(container.security("appArmorProfile")));
    let by_field = setters(!is_good(pod.security("appArmorProfile")), &bad)
        .map(|who| format!("{who} must not set AppArmor profile type to \"Unconfined\""));
    let key = "container.apparmor.security.beta.kubernetes.io/";
    let is_allowed = |value: &str| {
        value.is_empty() || value == "runtime/default" || value.starts_with("localhost/")
    };
    let annotations = pod
        .annotations()
        .filter(|(name, value)| name.starts_with(key) && !is_allowed(value))
        .map(|(name, value)| format!("{name}={value:?}"));
    let all: Vec<String> = annotations.chain(by_field).collect();
    let reason = plural("forbidden AppArmor profile", all.len());
    (!all.is_empty()).then(|| Violation::new(Level::Baseline, 0, reason, all.join(", ")))
}

fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    let is_bad = |container: &Container<'_>| {
        text(container.security("procMount")).is_some_and(|kind| kind != "Default")
    };
    let bad = which(pod, is_bad);
    let detail =
        || format!("{} must not set securityContext.procMount to \"Unmasked\"", containers(&bad));
    (!bad.is_empty()).then(|| Violation::new(Level::Baseline, 0, "procMount", detail()))
}

/// `container_engine_t` is allowed from 1.31 on.
fn selinux(pod: &Pod<'_>, found: &mut Vec<Violation>) {
    const ALLOWED: [&str; 3] = ["container_t", "container_init_t", "container_kvm_t"];
    const LATER: &str = "container_engine_t";
    let offends = |options: &Value, allows_later: bool| -> Vec<String> {
        let kind = text(&options["type"])
            .filter(|kind| !(ALLOWED.contains(kind) || allows_later && *kind == LATER));
        let kind = kind.map(|kind| format!("type {kind:?}"));
        let set = |field: &str| text(&options[field]).map(|_| format!("{field} may not be set"));
        kind.into_iter().chain(set("user")).chain(set("role")).collect()
    };
    let told = |allows_later: bool| {
        let own = offends(pod.security("seLinuxOptions"), allows_later);
        let bad = which(pod, |container| {
            !offends(container.security("seLinuxOptions"), allows_later).is_empty()
        });
        let theirs = pod
            .containers()
            .flat_map(|container| offends(container.security("seLinuxOptions"), allows_later));
        let who = setters(!own.is_empty(), &bad)?;
        let all: BTreeSet<String> = theirs.chain(own.iter().cloned()).collect();
        let all: Vec<String> = all.into_iter().collect();
        Some(format!("{who} set forbidden securityContext.seLinuxOptions: {}", all.join("; ")))
    };
    let (before, now) = (told(false), told(true));
    let violation =
        |since, detail| Violation::new(Level::Baseline, since, "seLinuxOptions", detail);
    found.extend(before.map(|detail| violation(0, detail).until(31)));
    found.extend(now.map(|detail| violation(31, detail)));
}

/// Annotations until 1.18, fields from 1.19 on.
fn seccomp(pod: &Pod<'_>, found: &mut Vec<Violation>) {
    let is_allowed = |value: &str| {
        ["runtime/default", "docker/default"].contains(&value) || value.starts_with("localhost/")
    };
    let is_meant = |name: &str| {
        name == "seccomp.security.alpha.kubernetes.io/pod"
            || name
                .strip_prefix("container.seccomp.security.alpha.kubernetes.io/")
                .is_some_and(|container| pod.containers().any(|one| one.name == container))
    };
    let annotations: Vec<String> = pod
        .annotations()
        .filter(|(name, value)| is_meant(name) && !is_allowed(value))
        .map(|(name, value)| format!("{name}={value:?}"))
        .collect();
    if !annotations.is_empty() {
        let what = plural("annotation", annotations.len());
        let detail = format!("forbidden {what} {}", annotations.join(", "));
        found.push(Violation::new(Level::Baseline, 0, "seccompProfile", detail).until(19));
    }
    let profile = |value: &Value| value["type"].as_str().map(str::to_owned);
    let is_good = |kind: &str| ["RuntimeDefault", "Localhost"].contains(&kind);
    let is_bad = |value: &Value| profile(value).is_some_and(|kind| !is_good(&kind));
    let own = pod.security("seccompProfile");
    let bad = which(pod, |container| is_bad(container.security("seccompProfile")));
    if let Some(who) = setters(is_bad(own), &bad) {
        let theirs = pod.containers().filter_map(|one| profile(one.security("seccompProfile")));
        let kinds: BTreeSet<String> =
            theirs.chain(profile(own)).filter(|kind| !is_good(kind)).collect();
        let kinds: Vec<String> = kinds.into_iter().collect();
        let kinds = quoted(&kinds);
        let detail = format!("{who} must not set securityContext.seccompProfile.type to {kinds}");
        found.push(Violation::new(Level::Baseline, 19, "seccompProfile", detail));
        return;
    }
    let is_set = profile(own).is_some();
    let open =
        which(pod, |container| !is_set && profile(container.security("seccompProfile")).is_none());
    if !open.is_empty() {
        let detail = format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
             \"Localhost\"",
            containers(&open)
        );
        found.push(Violation::new(Level::Restricted, 19, "seccompProfile", detail));
    }
}

/// Allowed kernel parameters, and the version from which each is.
const SYSCTLS: [(&str, u16); 12] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.tcp_wmem", 32),
];

fn sysctls(pod: &Pod<'_>, found: &mut Vec<Violation>) {
    /// When the list became longer.
    const STEPS: [u16; 5] = [0, 27, 29, 32, u16::MAX];
    let set: Vec<&str> =
        items(pod.security("sysctls")).filter_map(|sysctl| sysctl["name"].as_str()).collect();
    let mut ranges: Vec<(u16, u16, String)> = Vec::new();
    for step in STEPS.windows(2) {
        let is_allowed =
            |name: &str| SYSCTLS.iter().any(|(known, since)| *known == name && *since <= step[0]);
        let bad: Vec<&str> = set.iter().copied().filter(|name| !is_allowed(name)).collect();
        match ranges.last_mut() {
            Some((_, until, detail)) if *detail == bad.join(", ") => *until = step[1],
            _ => ranges.push((step[0], step[1], bad.join(", "))),
        }
    }
    let bad = ranges.into_iter().filter(|(_, _, detail)| !detail.is_empty());
    found.extend(bad.map(|(since, until, detail)| {
        Violation::new(Level::Baseline, since, "forbidden sysctls", detail).until(until)
    }));
}

fn privilege_escalation(pod: &Pod<'_>) -> Option<Violation> {
    let bad = which(pod, |container| container.security("allowPrivilegeEscalation") != false);
    let reason = "allowPrivilegeEscalation != false";
    let detail =
        || format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&bad));
    (!bad.is_empty()).then(|| Violation::new(Level::Restricted, 8, reason, detail()))
}

fn run_as_non_root(pod: &Pod<'_>) -> Option<Violation> {
    let own = pod.security("runAsNonRoot");
    let refuses = which(pod, |container| container.security("runAsNonRoot") == false);
    let open = which(pod, |container| own != true && container.security("runAsNonRoot").is_null());
    let detail = match setters(own == false, &refuses) {
        Some(who) => format!("{who} must not set securityContext.runAsNonRoot=false"),
        None if open.is_empty() => return None,
        None => format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&open)),
    };
    Some(Violation::new(Level::Restricted, 0, "runAsNonRoot != true", detail))
}

fn run_as_user(pod: &Pod<'_>) -> Option<Violation> {
    let bad = which(pod, |container| container.security("runAsUser") == 0);
    let who = setters(pod.security("runAsUser") == 0, &bad)?;
    let detail = format!("{who} must not set runAsUser=0");
    Some(Violation::new(Level::Restricted, 23, "runAsUser=0", detail))
}
