//! Containers.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1 as api;

use super::super::path::Path;
use super::super::tree::quoted;
use super::Check;
use super::probe::{self, Use, check_named_ports, probe};
use super::resources::{resource_ref, resources};
use super::security;
use crate::kinds::container::{
    Container, ContainerPort, EnvFrom, EnvSource, EnvValue, EnvVar, KeyRef, Mount, Propagation,
    Protocol, PullPolicy, SubPath,
};
use crate::kinds::name::{
    Name, NameRule, config_key_complaint, env_name_complaint, port_name_complaint,
};
use crate::kinds::registry::Kind;

/// What a container's checks need to know of its pod.
pub(super) struct Pod<'p> {
    /// The names of its volumes.
    pub(super) volumes: &'p BTreeSet<String>,
    /// How long it may take to stop.
    pub(super) grace_s: i64,
    /// Whether it uses the node's network.
    pub(super) host_network: bool,
}

/// Transports by name.
pub(super) const PROTOCOLS: &[(&str, Protocol)] = &[
    ("TCP", Protocol::Tcp),
    ("UDP", Protocol::Udp),
    ("SCTP", Protocol::Sctp),
];

/// `validateContainerCommon` and `validateContainers`, or, if `is_init`, `validateInitContainers`.
pub(super) fn container(
    path: &Path<'_>,
    container: &api::Container,
    is_init: bool,
    pod: &Pod<'_>,
    check: &mut Check<'_, '_>,
) -> Container {
    let name = check.name(&path.field("name"), &container.name, NameRule::Label);
    let image_path = path.field("image");
    let image = container.image.as_deref().unwrap_or_default();
    if image.is_empty() {
        check.error(&image_path, "is required");
    } else if image.trim() != image || image.contains(char::is_whitespace) {
        check.error(
            &image_path,
            format!("{} must not contain blanks", quoted(image)),
        );
    }
    let mut result = Container::new(name, image);
    result.is_sidecar = is_sidecar(path, container, is_init, check);
    let policies = [
        ("Always", PullPolicy::Always),
        ("IfNotPresent", PullPolicy::IfNotPresent),
        ("Never", PullPolicy::Never),
    ];
    let policy = container.image_pull_policy.as_deref();
    result.pull = check.word_or(
        &path.field("imagePullPolicy"),
        policy,
        &policies,
        result.pull,
    );
    result.command = container.command.clone().unwrap_or_default();
    result.args = container.args.clone().unwrap_or_default();
    result.working_dir.clone_from(&container.working_dir);
    result.ports = ports(path, container.ports.as_deref(), pod, check);
    result.env = env(&path.field("env"), container.env.as_deref(), check);
    result.env_from = env_from(&path.field("envFrom"), container.env_from.as_deref(), check);
    if let Some(asked) = &container.resources {
        result.resources = resources(&path.field("resources"), asked, check);
    }
    if let Some(context) = &container.security_context {
        result.security = security::container(&path.field("securityContext"), context, check);
    }
    let privileged = result.security.privileged;
    let mounts_path = path.field("volumeMounts");
    let given = container.volume_mounts.as_deref();
    result.mounts = mounts(&mounts_path, given, privileged, pod, check);
    let message_policies = [("File", false), ("FallbackToLogsOnError", true)];
    result.termination_message_from_logs = check.word_or(
        &path.field("terminationMessagePolicy"),
        container.termination_message_policy.as_deref(),
        &message_policies,
        false,
    );
    if let Some(message_path) = &container.termination_message_path {
        result.termination_message_path.clone_from(message_path);
    }
    result.stdin = container.stdin.unwrap_or(false);
    result.stdin_once = container.stdin_once.unwrap_or(false);
    result.tty = container.tty.unwrap_or(false);
    probes_and_hooks(path, container, is_init, pod, &mut result, check);
    check_named_ports(path, &result, check);
    result
}

/// `restartPolicy` of a container: only that of a sidecar is carried out.
fn is_sidecar(
    path: &Path<'_>,
    container: &api::Container,
    is_init: bool,
    check: &mut Check<'_, '_>,
) -> bool {
    let Some(policy) = container.restart_policy.as_deref() else {
        return false;
    };
    let path = path.field("restartPolicy");
    if !is_init {
        check.error(
            &path,
            "is supported for init containers only; set the pod's restartPolicy",
        );
        return false;
    }
    check.word(&path, policy, &[("Always", ())]).is_some()
}

fn probes_and_hooks(
    path: &Path<'_>,
    container: &api::Container,
    is_init: bool,
    pod: &Pod<'_>,
    result: &mut Container,
    check: &mut Check<'_, '_>,
) {
    let runs_on = !is_init || result.is_sidecar;
    let mut one = |used_as: Use, given: Option<&api::Probe>| {
        let path = path.field(used_as.field());
        let given = given?;
        if !runs_on {
            let message = "can't be set for an init container unless its restartPolicy is Always";
            check.error(&path, message);
        }
        probe(&path, given, used_as, check)
    };
    result.liveness = one(Use::Liveness, container.liveness_probe.as_ref());
    result.readiness = one(Use::Readiness, container.readiness_probe.as_ref());
    result.startup = one(Use::Startup, container.startup_probe.as_ref());
    let Some(lifecycle) = &container.lifecycle else {
        return;
    };
    let path = path.field("lifecycle");
    if !runs_on {
        let message = "can't be set for an init container unless its restartPolicy is Always";
        check.error(&path, message);
    }
    let mut hook = |field, given: Option<&api::LifecycleHandler>| {
        probe::hook(&path.field(field), given?, pod.grace_s, check)
    };
    result.post_start = hook("postStart", lifecycle.post_start.as_ref());
    result.pre_stop = hook("preStop", lifecycle.pre_stop.as_ref());
    if let Some(signal) = lifecycle.stop_signal.as_deref() {
        let is_signal = signal
            .strip_prefix("SIG")
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(is_signal_byte));
        if !is_signal {
            let message = format!("{} is not a signal: write it as in SIGTERM", quoted(signal));
            check.error(&path.field("stopSignal"), message);
        }
        result.stop_signal = Some(signal.to_owned());
    }
}

fn is_signal_byte(byte: u8) -> bool {
    byte.is_ascii_uppercase() || byte.is_ascii_digit() || matches!(byte, b'+' | b'-')
}

/// `validateContainerPorts` and `validateHostNetwork`.
fn ports(
    path: &Path<'_>,
    ports: Option<&[api::ContainerPort]>,
    pod: &Pod<'_>,
    check: &mut Check<'_, '_>,
) -> Vec<ContainerPort> {
    let list_path = path.field("ports");
    let mut names = BTreeSet::new();
    let mut result = Vec::new();
    for (index, port) in ports.unwrap_or_default().iter().enumerate() {
        let path = list_path.index(index);
        let name = port.name.as_deref().filter(|name| !name.is_empty());
        if let Some(name) = name {
            let path = path.field("name");
            check.complain(&path, name, port_name_complaint(name));
            if !names.insert(name) {
                check.error(
                    &path,
                    format!("{name:?} is the name of another port already"),
                );
            }
        }
        let number = check.port(&path.field("containerPort"), port.container_port);
        let host_path = path.field("hostPort");
        let host_port = port.host_port.map(|port| check.port(&host_path, port));
        if pod.host_network && host_port.is_some_and(|host| host != number) {
            check.error(&host_path, "must equal containerPort on the node's network");
        }
        let protocol = port.protocol.as_deref();
        let protocol_path = path.field("protocol");
        let protocol = check.word_or(&protocol_path, protocol, PROTOCOLS, Protocol::Tcp);
        let ip_path = path.field("hostIP");
        let host_ip = port.host_ip.as_deref().and_then(|ip| match ip.parse() {
            Ok(ip) => Some(ip),
            Err(_) => {
                check.error(&ip_path, format!("{} is not an IP address", quoted(ip)));
                None
            }
        });
        result.push(ContainerPort {
            name: name.map(Name::trusted),
            port: number,
            protocol,
            host_port,
            host_ip,
        });
    }
    result
}

/// `ValidateEnv`.
fn env(path: &Path<'_>, env: Option<&[api::EnvVar]>, check: &mut Check<'_, '_>) -> Vec<EnvVar> {
    let mut result = Vec::new();
    for (index, variable) in env.unwrap_or_default().iter().enumerate() {
        let path = path.index(index);
        let name_path = path.field("name");
        match variable.name.as_str() {
            "" => check.error(&name_path, "is required"),
            name => check.complain(&name_path, name, env_name_complaint(name)),
        }
        let literal = variable.value.clone().unwrap_or_default();
        let value = match &variable.value_from {
            None => Some(EnvValue::Literal(literal)),
            Some(source) => {
                let path = path.field("valueFrom");
                if !literal.is_empty() {
                    check.error(&path, "can't be set together with value");
                }
                value_from(&path, source, check)
            }
        };
        if let Some(value) = value {
            result.push(EnvVar {
                name: variable.name.clone(),
                value,
            });
        }
    }
    result
}

/// `validateEnvVarValueFrom`.
fn value_from(
    path: &Path<'_>,
    source: &api::EnvVarSource,
    check: &mut Check<'_, '_>,
) -> Option<EnvValue> {
    let mut values = Vec::new();
    if let Some(key) = &source.config_map_key_ref {
        let path = path.field("configMapKeyRef");
        let parts = (key.name.as_str(), key.key.as_str(), key.optional);
        let reference = key_ref(&path, Kind::ConfigMap, parts, check);
        values.push(EnvValue::ConfigMapKey(reference));
    }
    if let Some(key) = &source.secret_key_ref {
        let path = path.field("secretKeyRef");
        let parts = (key.name.as_str(), key.key.as_str(), key.optional);
        values.push(EnvValue::SecretKey(key_ref(
            &path,
            Kind::Secret,
            parts,
            check,
        )));
    }
    if let Some(field) = &source.field_ref {
        let path = path.field("fieldRef");
        values.push(EnvValue::Field(field_ref(&path, field, ENV_FIELDS, check)));
    }
    if let Some(resource) = &source.resource_field_ref {
        let path = path.field("resourceFieldRef");
        values.push(EnvValue::Resource(resource_ref(
            &path, resource, false, check,
        )));
    }
    let names = "configMapKeyRef, secretKeyRef, fieldRef or resourceFieldRef";
    if values.is_empty() {
        check.error(path, format!("needs one of {names}"));
    } else if values.len() > 1 {
        check.error(path, format!("can have only one of {names}"));
    }
    values.pop()
}

fn key_ref(
    path: &Path<'_>,
    kind: Kind,
    (name, key, optional): (&str, &str, Option<bool>),
    check: &mut Check<'_, '_>,
) -> KeyRef {
    let name = check.name(&path.field("name"), name, NameRule::Subdomain);
    let key_path = path.field("key");
    if key.is_empty() {
        check.error(&key_path, "is required");
    } else {
        check.complain(&key_path, key, config_key_complaint(key));
    }
    let optional = optional.unwrap_or(false);
    if !optional {
        check.mention(kind, &name, &path.field("name"));
    }
    KeyRef {
        name,
        key: key.to_owned(),
        optional,
    }
}

/// What a variable may take from its pod (`validEnvDownwardAPIFieldPathExpressions`).
const ENV_FIELDS: &[&str] = &[
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];

/// `validateObjectFieldSelector`: one of `fields`, or one label or annotation.
pub(super) fn field_ref(
    path: &Path<'_>,
    reference: &api::ObjectFieldSelector,
    fields: &[&str],
    check: &mut Check<'_, '_>,
) -> String {
    if reference.api_version.as_deref().is_some_and(|v| v != "v1") {
        check.error(&path.field("apiVersion"), "must be v1");
    }
    let field = reference.field_path.as_str();
    let path = path.field("fieldPath");
    let subscript = ["metadata.labels['", "metadata.annotations['"]
        .iter()
        .find_map(|prefix| field.strip_prefix(prefix)?.strip_suffix("']"));
    if let Some(key) = subscript {
        check.label_key(&path, &key.to_ascii_lowercase());
    } else if !fields.contains(&field) {
        let message = format!(
            "{} is not a field that can be taken from the pod",
            quoted(field)
        );
        match super::nearest(field, fields.iter().copied()) {
            Some(near) => check.error_hint(&path, message, format!("did you mean {near:?}?")),
            None => check.error(&path, message),
        }
    }
    field.to_owned()
}

/// `ValidateEnvFrom`.
fn env_from(
    path: &Path<'_>,
    sources: Option<&[api::EnvFromSource]>,
    check: &mut Check<'_, '_>,
) -> Vec<EnvFrom> {
    let mut result = Vec::new();
    for (index, source) in sources.unwrap_or_default().iter().enumerate() {
        let path = path.index(index);
        let prefix = source.prefix.clone().unwrap_or_default();
        if !prefix.is_empty() {
            check.complain(&path.field("prefix"), &prefix, env_name_complaint(&prefix));
        }
        let config_map = source.config_map_ref.as_ref();
        let config_map = config_map.map(|source| (source.name.as_str(), source.optional));
        let secret = source.secret_ref.as_ref();
        let secret = secret.map(|source| (source.name.as_str(), source.optional));
        let (field, kind, (name, optional)) = match (config_map, secret) {
            (Some(parts), None) => ("configMapRef", Kind::ConfigMap, parts),
            (None, Some(parts)) => ("secretRef", Kind::Secret, parts),
            (None, None) => {
                check.error(&path, "needs one of configMapRef or secretRef");
                continue;
            }
            (Some(_), Some(_)) => {
                check.error(&path, "can have only one of configMapRef or secretRef");
                continue;
            }
        };
        let reference_path = path.field(field);
        let name_path = reference_path.field("name");
        let name = check.name(&name_path, name, NameRule::Subdomain);
        let optional = optional.unwrap_or(false);
        if !optional {
            check.mention(kind, &name, &name_path);
        }
        let source = match kind {
            Kind::ConfigMap => EnvSource::ConfigMap(name),
            _ => EnvSource::Secret(name),
        };
        result.push(EnvFrom {
            prefix,
            source,
            optional,
        });
    }
    result
}

/// `ValidateVolumeMounts`.
fn mounts(
    path: &Path<'_>,
    mounts: Option<&[api::VolumeMount]>,
    privileged: bool,
    pod: &Pod<'_>,
    check: &mut Check<'_, '_>,
) -> Vec<Mount> {
    let propagations = [
        ("None", Propagation::None),
        ("HostToContainer", Propagation::HostToContainer),
        ("Bidirectional", Propagation::Bidirectional),
    ];
    let mut paths = BTreeSet::new();
    let mut result = Vec::new();
    for (index, mount) in mounts.unwrap_or_default().iter().enumerate() {
        let path = path.index(index);
        let name_path = path.field("name");
        let volume = check.name(&name_path, &mount.name, NameRule::Label);
        if !mount.name.is_empty() && !pod.volumes.contains(&mount.name) {
            let message = format!("the pod has no volume named {}", quoted(&mount.name));
            let near = super::nearest(&mount.name, pod.volumes.iter().map(String::as_str));
            match near {
                Some(near) => {
                    check.error_hint(&name_path, message, format!("did you mean {near:?}?"));
                }
                None => check.error(&name_path, message),
            }
        }
        let target = mount_path(&path.field("mountPath"), &mount.mount_path, check);
        if !paths.insert(target.clone()) {
            let message = format!("{} is mounted already", quoted(&target));
            check.error(&path.field("mountPath"), message);
        }
        let propagation_path = path.field("mountPropagation");
        let propagation = mount.mount_propagation.as_deref();
        let propagation = check.word_or(
            &propagation_path,
            propagation,
            &propagations,
            Propagation::None,
        );
        if propagation == Propagation::Bidirectional && !privileged {
            check.error(&propagation_path, "is for privileged containers only");
        }
        result.push(Mount {
            volume,
            path: target,
            sub_path: sub_path(&path, mount, check),
            read_only: mount.read_only.unwrap_or(false),
            propagation,
        });
    }
    result
}

/// The place in the container. A relative one is taken from the root, as the kubelet takes it.
fn mount_path(path: &Path<'_>, text: &str, check: &mut Check<'_, '_>) -> String {
    if text.is_empty() {
        check.error(path, "is required");
    }
    if text.contains(':') {
        check.error(path, format!("{} must not contain ':'", quoted(text)));
    }
    if text.starts_with('/') {
        return text.to_owned();
    }
    if !text.is_empty() {
        let message = format!(
            "{} is taken as {}",
            quoted(text),
            quoted(&format!("/{text}"))
        );
        check.warn(path, message);
    }
    format!("/{text}")
}

fn sub_path(
    path: &Path<'_>,
    mount: &api::VolumeMount,
    check: &mut Check<'_, '_>,
) -> Option<SubPath> {
    let literal = mount.sub_path.as_deref().filter(|text| !text.is_empty());
    let expression = mount
        .sub_path_expr
        .as_deref()
        .filter(|text| !text.is_empty());
    if let Some(text) = literal {
        security::check_relative(&path.field("subPath"), text, check);
    }
    if let Some(text) = expression {
        security::check_relative(&path.field("subPathExpr"), text, check);
    }
    match (literal, expression) {
        (Some(_), Some(_)) => {
            check.error(
                &path.field("subPathExpr"),
                "can't be set together with subPath",
            );
            None
        }
        (Some(text), None) => Some(SubPath::Literal(text.to_owned())),
        (None, Some(text)) => Some(SubPath::Expression(text.to_owned())),
        (None, None) => None,
    }
}

/// `checkHostPortConflicts`: two containers that want one port of the node.
pub(super) fn check_host_ports(
    path: &Path<'_>,
    containers: &[Container],
    seen: &mut BTreeMap<(Protocol, u16, Option<std::net::IpAddr>), Name>,
    check: &mut Check<'_, '_>,
) {
    for (index, container) in containers.iter().enumerate() {
        let container_path = path.index(index);
        let ports_path = container_path.field("ports");
        for (port_index, port) in container.ports.iter().enumerate() {
            let Some(host_port) = port.host_port else {
                continue;
            };
            let key = (port.protocol, host_port, port.host_ip);
            if let Some(other) = seen.insert(key, container.name.clone()) {
                let message = format!("port {host_port} of the node is taken by container {other}");
                let port_path = ports_path.index(port_index);
                check.error(&port_path.field("hostPort"), message);
            }
        }
    }
}
