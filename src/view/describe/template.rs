//! Containers and volumes, of pods and of templates alike.

use serde_json::Value;

use super::{Page, moment};
use crate::view::json::{at, is_true, items, members, number, pairs, text};
use crate::view::table::labels;

/// A pod's containers, each with how it is.
pub(super) fn containers(
    page: &mut Page,
    indent: usize,
    title: &str,
    containers: &[Value],
    statuses: Option<&[Value]>,
) {
    page.line(indent, format!("{title}:"));
    for container in containers {
        let name = text(container, "name");
        let status = statuses.into_iter().flatten().find(|status| text(status, "name") == name);
        page.line(indent + usize::from(statuses.is_some()), format!("{}{name}:", pad(statuses)));
        let inner = indent + if statuses.is_some() { 2 } else { 1 };
        basics(page, inner, container, status, statuses.is_some());
        words(page, inner, "Command", container, "command");
        words(page, inner, "Args", container, "args");
        if let Some(status) = status {
            state(page, inner, "State", at(status, "state"));
            if at(status, "lastState.terminated").is_some() {
                state(page, inner, "Last State", at(status, "lastState"));
            }
            let ready = if is_true(status, "ready") { "True" } else { "False" };
            page.field(inner, "Ready", ready);
            page.field(inner, "Restart Count", number(status, "restartCount").to_string());
        }
        amounts(page, inner, "Limits", container, "resources.limits");
        amounts(page, inner, "Requests", container, "resources.requests");
        for (name, field) in [
            ("Liveness", "livenessProbe"),
            ("Readiness", "readinessProbe"),
            ("Startup", "startupProbe"),
        ] {
            if let Some(probe) = at(container, field) {
                page.field(inner, name, describe_probe(probe));
            }
        }
        environment(page, inner, container);
        mounts(page, inner, container);
    }
}

/// In a template, kubectl writes a container's name one space in.
fn pad(statuses: Option<&[Value]>) -> &'static str {
    if statuses.is_some() { "" } else { " " }
}

fn basics(page: &mut Page, indent: usize, container: &Value, status: Option<&Value>, is_pod: bool) {
    if is_pod {
        let id = status.map_or("", |status| text(status, "containerID"));
        page.field(indent, "Container ID", id);
    }
    page.field(indent, "Image", text(container, "image"));
    if is_pod {
        let id = status.map_or("", |status| text(status, "imageID"));
        page.field(indent, "Image ID", id);
    }
    let ports = items(container, "ports");
    let list = |field: &str| {
        let ports = ports.iter().map(|port| {
            let named = match text(port, "name") {
                name if !name.is_empty() && field == "containerPort" => format!(" ({name})"),
                _ => String::new(),
            };
            format!("{}/{}{named}", number(port, field), text(port, "protocol"))
        });
        ports.collect::<Vec<_>>().join(", ")
    };
    let (own, host) = if ports.len() > 1 { ("Ports", "Host Ports") } else { ("Port", "Host Port") };
    let or_none = |text: String| if text.is_empty() { "<none>".to_owned() } else { text };
    page.field(indent, own, or_none(list("containerPort")));
    page.field(indent, host, or_none(list("hostPort")));
}

fn words(page: &mut Page, indent: usize, title: &str, container: &Value, path: &str) {
    let words = items(container, path);
    if words.is_empty() {
        return;
    }
    page.line(indent, format!("{title}:"));
    for word in words.iter().filter_map(Value::as_str) {
        for line in word.lines() {
            page.line(indent + 1, line);
        }
    }
}

fn state(page: &mut Page, indent: usize, title: &str, state: Option<&Value>) {
    let state = state.unwrap_or(&Value::Null);
    if let Some(running) = state.get("running") {
        page.field(indent, title, "Running");
        page.field(indent + 1, "Started", moment(text(running, "startedAt")));
    } else if let Some(end) = state.get("terminated") {
        page.field(indent, title, "Terminated");
        page.field_if(indent + 1, "Reason", text(end, "reason"));
        page.field_if(indent + 1, "Message", &one_line(text(end, "message")));
        page.field(indent + 1, "Exit Code", number(end, "exitCode").to_string());
        page.field(indent + 1, "Started", moment(text(end, "startedAt")));
        page.field(indent + 1, "Finished", moment(text(end, "finishedAt")));
    } else {
        page.field(indent, title, "Waiting");
        page.field_if(indent + 1, "Reason", text(state, "waiting.reason"));
        page.field_if(indent + 1, "Message", &one_line(text(state, "waiting.message")));
    }
}

/// Line ends would break the columns of everything around.
fn one_line(text: &str) -> String {
    text.trim_end().replace('\n', " ")
}

fn amounts(page: &mut Page, indent: usize, title: &str, container: &Value, path: &str) {
    let mut amounts: Vec<(&String, &Value)> = members(container, path).collect();
    if amounts.is_empty() {
        return;
    }
    amounts.sort_by_key(|(name, _)| name.as_str());
    page.line(indent, format!("{title}:"));
    for (name, amount) in amounts {
        let amount = amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
        page.field(indent + 1, name, amount);
    }
}

/// `DescribeProbe`.
fn describe_probe(probe: &Value) -> String {
    let attributes = format!(
        "delay={}s timeout={}s period={}s #success={} #failure={}",
        number(probe, "initialDelaySeconds"),
        number(probe, "timeoutSeconds"),
        number(probe, "periodSeconds"),
        number(probe, "successThreshold"),
        number(probe, "failureThreshold"),
    );
    if at(probe, "exec").is_some() {
        let command: Vec<&str> =
            items(probe, "exec.command").iter().filter_map(Value::as_str).collect();
        return format!("exec [{}] {attributes}", command.join(" "));
    }
    let port = |path: &str| at(probe, path).map_or_else(String::new, plain);
    if let Some(get) = at(probe, "httpGet") {
        let scheme = match text(get, "scheme") {
            "" => "http".to_owned(),
            scheme => scheme.to_ascii_lowercase(),
        };
        let (host, path) = (text(get, "host"), text(get, "path"));
        let port = port("httpGet.port");
        return format!("http-get {scheme}://{host}:{port}{path} {attributes}");
    }
    if let Some(socket) = at(probe, "tcpSocket") {
        let host = text(socket, "host");
        return format!("tcp-socket {host}:{} {attributes}", port("tcpSocket.port"));
    }
    if let Some(grpc) = at(probe, "grpc") {
        let service = text(grpc, "service");
        return format!("grpc <pod>:{} {service} {attributes}", port("grpc.port"));
    }
    format!("unknown {attributes}")
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn environment(page: &mut Page, indent: usize, container: &Value) {
    let sources = items(container, "envFrom");
    if !sources.is_empty() {
        page.line(indent, "Environment Variables from:");
    }
    for source in sources {
        let (kind, reference) = match at(source, "configMapRef") {
            Some(reference) => ("ConfigMap", reference),
            None => ("Secret", at(source, "secretRef").unwrap_or(&Value::Null)),
        };
        let prefix = match text(source, "prefix") {
            "" => String::new(),
            prefix => format!(" with prefix '{prefix}'"),
        };
        let optional = is_true(reference, "optional");
        let name = text(reference, "name");
        page.line(indent + 1, format!("{name}\t{kind}{prefix}\tOptional: {optional}"));
    }
    let variables = items(container, "env");
    if variables.is_empty() {
        page.field(indent, "Environment", "<none>");
        return;
    }
    page.line(indent, "Environment:");
    for variable in variables {
        page.field(indent + 1, text(variable, "name"), value_of(variable));
    }
}

/// A variable's value, or where it comes from; what comes from a Secret is not looked up.
fn value_of(variable: &Value) -> String {
    if let Some(value) = at(variable, "value").and_then(Value::as_str) {
        return value.replace('\n', "\n\t\t");
    }
    let key_of = |path: &str, kind: &str| {
        let reference = at(variable, path)?;
        let (key, name) = (text(reference, "key"), text(reference, "name"));
        let optional = is_true(reference, "optional");
        Some(format!("<set to the key '{key}' {kind} '{name}'>\tOptional: {optional}"))
    };
    if let Some(field) = at(variable, "valueFrom.fieldRef") {
        let version = match text(field, "apiVersion") {
            "" => "v1",
            version => version,
        };
        return format!("({version}:{})", text(field, "fieldPath"));
    }
    if let Some(resource) = at(variable, "valueFrom.resourceFieldRef") {
        return format!("({})", text(resource, "resource"));
    }
    key_of("valueFrom.secretKeyRef", "in secret")
        .or_else(|| key_of("valueFrom.configMapKeyRef", "of config map"))
        .unwrap_or_default()
}

fn mounts(page: &mut Page, indent: usize, container: &Value) {
    let mounts = items(container, "volumeMounts");
    if mounts.is_empty() {
        page.field(indent, "Mounts", "<none>");
        return;
    }
    page.line(indent, "Mounts:");
    let mut mounts: Vec<&Value> = mounts.iter().collect();
    mounts.sort_by_key(|mount| text(mount, "mountPath"));
    for mount in mounts {
        let mut flags = vec![if is_true(mount, "readOnly") { "ro" } else { "rw" }.to_owned()];
        let part = text(mount, "subPath");
        if !part.is_empty() {
            flags.push(format!("path=\"{part}\""));
        }
        let (path, name) = (text(mount, "mountPath"), text(mount, "name"));
        page.line(indent + 1, format!("{path} from {name} ({})", flags.join(",")));
    }
}

/// What containers may mount.
pub(super) fn volumes(page: &mut Page, indent: usize, volumes: &[Value]) {
    if volumes.is_empty() {
        page.field(indent, "Volumes", "<none>");
        return;
    }
    page.line(indent, "Volumes:");
    for volume in volumes {
        let space = if indent > 0 { " " } else { "" };
        page.line(1, format!("{space}{}:", text(volume, "name")));
        let source = members(volume, "").chain(volume.as_object().into_iter().flatten());
        for (kind, source) in source.filter(|(kind, _)| *kind != "name") {
            describe_volume(page, kind, source);
        }
    }
}

fn describe_volume(page: &mut Page, kind: &str, source: &Value) {
    let optional = || is_true(source, "optional").to_string();
    let or = |path: &str, absent: &str| match at(source, path).map(plain) {
        Some(text) if !text.is_empty() => text,
        _ => absent.to_owned(),
    };
    let mut typed = |text: &str, fields: &[(&str, String)]| {
        page.field(2, "Type", text);
        for (name, value) in fields {
            page.field(2, name, value);
        }
    };
    match kind {
        "emptyDir" => typed(
            "EmptyDir (a temporary directory that shares a pod's lifetime)",
            &[("Medium", or("medium", "")), ("SizeLimit", or("sizeLimit", "<unset>"))],
        ),
        "hostPath" => typed(
            "HostPath (bare host directory volume)",
            &[("Path", or("path", "")), ("HostPathType", or("type", ""))],
        ),
        "configMap" => typed(
            "ConfigMap (a volume populated by a ConfigMap)",
            &[("Name", or("name", "")), ("Optional", optional())],
        ),
        "secret" => typed(
            "Secret (a volume populated by a Secret)",
            &[("SecretName", or("secretName", "")), ("Optional", optional())],
        ),
        "persistentVolumeClaim" => typed(
            "PersistentVolumeClaim (a reference to a PersistentVolumeClaim in the same namespace)",
            &[
                ("ClaimName", or("claimName", "")),
                ("ReadOnly", is_true(source, "readOnly").to_string()),
            ],
        ),
        // Without a volume of its own yet, its size and modes are left open, as kubectl does.
        "ephemeral" => typed(
            "EphemeralVolume (an inline specification for a volume that gets created and deleted \
             with the pod)",
            &[
                ("StorageClass", or("volumeClaimTemplate.spec.storageClassName", "")),
                ("Volume", or("volumeClaimTemplate.spec.volumeName", "")),
                ("Labels", labels(source, "volumeClaimTemplate.metadata.labels")),
                ("Annotations", labels(source, "volumeClaimTemplate.metadata.annotations")),
                ("Capacity", String::new()),
                ("Access Modes", String::new()),
                ("VolumeMode", or("volumeClaimTemplate.spec.volumeMode", "")),
            ],
        ),
        "downwardAPI" => {
            typed("DownwardAPI (a volume populated by information about the pod)", &[]);
            downward(page, source);
        }
        "projected" => {
            typed("Projected (a volume that contains injected data from multiple sources)", &[]);
            projected(page, source);
        }
        other => typed(other, &[]),
    }
}

fn downward(page: &mut Page, source: &Value) {
    page.line(2, "Items:");
    for item in items(source, "items") {
        let what = match text(item, "fieldRef.fieldPath") {
            "" => text(item, "resourceFieldRef.resource"),
            field => field,
        };
        page.line(3, format!("{what} -> {}", text(item, "path")));
    }
}

fn projected(page: &mut Page, source: &Value) {
    for part in items(source, "sources") {
        for (kind, field) in [("ConfigMap", "configMap"), ("Secret", "secret")] {
            if let Some(reference) = at(part, field) {
                page.field(2, &format!("{kind}Name"), text(reference, "name"));
                page.field(2, "Optional", is_true(reference, "optional").to_string());
            }
        }
        if let Some(downward_part) = at(part, "downwardAPI") {
            page.field(2, "DownwardAPI", "true");
            downward(page, downward_part);
        }
    }
}

/// A pod template, as Deployments and ReplicaSets show theirs.
pub(super) fn template(page: &mut Page, template: &Value) {
    page.line(0, "Pod Template:");
    let rows = |path: &str| {
        let pairs = pairs(template, path).into_iter();
        pairs.map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>()
    };
    let mut list = |name: &str, values: Vec<String>| {
        for (at, value) in values.iter().enumerate() {
            let head = if at == 0 { format!("{name}:") } else { String::new() };
            page.line(1, format!("{head}\t{value}"));
        }
        if values.is_empty() && name == "Labels" {
            page.line(1, format!("{name}:\t<none>"));
        }
    };
    list("Labels", rows("metadata.labels"));
    list("Annotations", rows("metadata.annotations"));
    page.field_if(1, "Service Account", text(template, "spec.serviceAccountName"));
    let init = items(template, "spec.initContainers");
    if !init.is_empty() {
        containers(page, 1, "Init Containers", init, None);
    }
    containers(page, 1, "Containers", items(template, "spec.containers"), None);
    volumes(page, 1, items(template, "spec.volumes"));
    page.field_if(1, "Priority Class Name", text(template, "spec.priorityClassName"));
    selectors_and_tolerations(page, 1, at(template, "spec").unwrap_or(&Value::Null));
}

/// Where a pod may go.
pub(super) fn selectors_and_tolerations(page: &mut Page, indent: usize, spec: &Value) {
    let selectors = pairs(spec, "nodeSelector").into_iter();
    let selectors: Vec<String> = selectors.map(|(key, value)| format!("{key}={value}")).collect();
    block(page, indent, "Node-Selectors", &selectors);
    let tolerations: Vec<String> = items(spec, "tolerations").iter().map(toleration).collect();
    block(page, indent, "Tolerations", &tolerations);
}

fn block(page: &mut Page, indent: usize, name: &str, values: &[String]) {
    match values {
        [] => page.field(indent, name, "<none>"),
        [first, rest @ ..] => {
            page.field(indent, name, first);
            for value in rest {
                page.line(indent, format!("\t{value}"));
            }
        }
    }
}

/// `key=value:NoExecute op=Exists for 300s`.
fn toleration(toleration: &Value) -> String {
    let mut line = text(toleration, "key").to_owned();
    let value = text(toleration, "value");
    if !value.is_empty() {
        line.push('=');
        line.push_str(value);
    }
    let effect = text(toleration, "effect");
    if !effect.is_empty() {
        line.push(':');
        line.push_str(effect);
    }
    if text(toleration, "operator") == "Exists" && value.is_empty() {
        if line.is_empty() {
            line.push_str("op=Exists");
        } else {
            line.push_str(" op=Exists");
        }
    }
    if let Some(seconds) = at(toleration, "tolerationSeconds") {
        line.push_str(&format!(" for {seconds}s"));
    }
    line
}
