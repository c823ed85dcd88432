//! The Pod Security Standards by examples: a pod that keeps to each, and for every rule one that does
//! not, made from it by one change.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::{Files, assemble, parse, wanted};
use super::{Level, Version, rules};
use crate::kinds::binding::Oid;
use crate::kinds::finding::Finding;
use crate::ports::source::{FileContent, FileEntry, FileKind};

/// A pod of two containers that keeps to `restricted`.
fn restricted() -> Value {
    let container = |name: &str| {
        json!({"name": name, "image": "x", "securityContext": {
            "allowPrivilegeEscalation": false,
            "capabilities": {"drop": ["ALL"]},
        }})
    };
    json!({"metadata": {}, "spec": {
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "initContainers": [container("init")],
        "containers": [container("web")],
    }})
}

/// The pod with one thing set: a path of keys and numbers, and what is put there; null takes it away.
fn with(path: &str, value: Value) -> Value {
    let mut pod = restricted();
    let mut at = &mut pod;
    let mut parts = path.split('.').peekable();
    while let Some(part) = parts.next() {
        let is_last = parts.peek().is_none();
        at = match part.parse::<usize>() {
            Ok(number) => &mut at[number],
            Err(_) if is_last && value.is_null() => {
                at.as_object_mut().expect("a map").remove(part);
                return pod;
            }
            Err(_) => &mut at[part],
        };
    }
    *at = value;
    pod
}

/// What is said for a level and a version.
fn said(pod: &Value, level: Level, version: Version) -> Vec<String> {
    let found = rules::violations(&pod.to_string());
    let counting = found.iter().filter(|violation| violation.counts(level, version));
    counting.map(|violation| format!("{} ({})", violation.reason, violation.detail)).collect()
}

const LATEST: Version = Version::LATEST;

#[test]
fn who_keeps_to_it_is_let_in() {
    for (path, value) in [
        ("metadata.x", json!(1)),
        ("spec.hostNetwork", json!(false)),
        ("spec.containers.0.ports", json!([{"containerPort": 80, "hostPort": 0}])),
        ("spec.containers.0.securityContext.capabilities.add", json!(["NET_BIND_SERVICE"])),
        ("spec.containers.0.securityContext.seccompProfile", json!({"type": "Localhost"})),
        ("spec.securityContext.seLinuxOptions", json!({"type": "container_t", "level": "s0"})),
        ("spec.securityContext.appArmorProfile", json!({"type": "RuntimeDefault"})),
        ("spec.securityContext.runAsUser", json!(1000)),
        ("spec.securityContext.sysctls", json!([{"name": "net.ipv4.tcp_rmem", "value": "1"}])),
        (
            "spec.volumes",
            json!([{"name": "a", "emptyDir": {}}, {"name": "b"},
                   {"name": "c", "persistentVolumeClaim": {"claimName": "c"}}]),
        ),
        (
            "metadata.annotations",
            json!({"container.apparmor.security.beta.kubernetes.io/web": "localhost/x",
                   "seccomp.security.alpha.kubernetes.io/pod": "unconfined"}),
        ),
    ] {
        let pod = with(path, value.clone());
        assert_eq!(said(&pod, Level::Restricted, LATEST), Vec::<String>::new(), "{path}: {value}");
    }
}

#[test]
fn baseline_rules() {
    let sc = "spec.containers.0.securityContext";
    for (path, value, expected) in [
        ("spec.hostPID".to_owned(), json!(true), "host namespaces (hostPID=true)"),
        (
            format!("{sc}.privileged"),
            json!(true),
            "privileged (container \"web\" must not set securityContext.privileged=true)",
        ),
        (
            format!("{sc}.capabilities.add"),
            json!(["CHOWN", "SYS_ADMIN", "BPF"]),
            "non-default capabilities (container \"web\" must not include \"BPF\", \"SYS_ADMIN\" in \
             securityContext.capabilities.add)",
        ),
        (
            "spec.volumes".into(),
            json!([{"name": "a", "hostPath": {"path": "/"}}]),
            "hostPath volumes (volume \"a\")",
        ),
        (
            "spec.initContainers.0.ports".into(),
            json!([{"hostPort": 80}, {"hostPort": 81}]),
            "hostPort (container \"init\" uses hostPorts 80, 81)",
        ),
        (
            "spec.containers.0.livenessProbe".into(),
            json!({"httpGet": {"host": "10.0.0.1"}}),
            "probe or lifecycle host (container \"web\" uses probe or lifecycle host \"10.0.0.1\")",
        ),
        (
            "spec.containers.0.lifecycle".into(),
            json!({"preStop": {"tcpSocket": {"host": "h"}}}),
            "probe or lifecycle host (container \"web\" uses probe or lifecycle host \"h\")",
        ),
        (
            format!("{sc}.procMount"),
            json!("Unmasked"),
            "procMount (container \"web\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            "spec.securityContext.seLinuxOptions".into(),
            json!({"type": "spc_t", "user": "u"}),
            "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user \
             may not be set)",
        ),
        (
            format!("{sc}.seccompProfile"),
            json!({"type": "Unconfined"}),
            "seccompProfile (container \"web\" must not set securityContext.seccompProfile.type to \
             \"Unconfined\")",
        ),
        (
            "spec.securityContext.sysctls".into(),
            json!([{"name": "kernel.msgmax"}, {"name": "net.core.somaxconn"}]),
            "forbidden sysctls (kernel.msgmax, net.core.somaxconn)",
        ),
        (
            format!("{sc}.appArmorProfile"),
            json!({"type": "Unconfined"}),
            "forbidden AppArmor profile (container \"web\" must not set AppArmor profile type to \
             \"Unconfined\")",
        ),
        (
            "metadata.annotations".into(),
            json!({"container.apparmor.security.beta.kubernetes.io/web": "unconfined"}),
            "forbidden AppArmor profile \
             (container.apparmor.security.beta.kubernetes.io/web=\"unconfined\")",
        ),
    ] {
        let pod = with(&path, value);
        assert_eq!(said(&pod, Level::Baseline, LATEST), [expected], "{path}");
        let strict = said(&pod, Level::Restricted, LATEST);
        assert_eq!(strict.len(), 1, "{path}: {strict:?}");
        assert_eq!(said(&pod, Level::Privileged, LATEST), Vec::<String>::new());
    }
}

#[test]
fn restricted_rules() {
    let sc = "spec.containers.0.securityContext";
    for (path, value, expected) in [
        (
            format!("{sc}.allowPrivilegeEscalation"),
            json!(null),
            "allowPrivilegeEscalation != false (container \"web\" must set \
             securityContext.allowPrivilegeEscalation=false)",
        ),
        (
            format!("{sc}.capabilities"),
            json!(null),
            "unrestricted capabilities (container \"web\" must set \
             securityContext.capabilities.drop=[\"ALL\"])",
        ),
        (
            format!("{sc}.capabilities.add"),
            json!(["CHOWN"]),
            "unrestricted capabilities (container \"web\" must not include \"CHOWN\" in \
             securityContext.capabilities.add)",
        ),
        (
            "spec.volumes".into(),
            json!([{"name": "a", "nfs": {"server": "s"}}]),
            "restricted volume types (volume \"a\" uses restricted volume type \"nfs\")",
        ),
        (
            "spec.securityContext.runAsNonRoot".into(),
            json!(null),
            "runAsNonRoot != true (pod or containers \"init\", \"web\" must set \
             securityContext.runAsNonRoot=true)",
        ),
        (
            format!("{sc}.runAsNonRoot"),
            json!(false),
            "runAsNonRoot != true (container \"web\" must not set \
             securityContext.runAsNonRoot=false)",
        ),
        (
            "spec.securityContext.runAsUser".into(),
            json!(0),
            "runAsUser=0 (pod must not set runAsUser=0)",
        ),
        (
            "spec.securityContext.seccompProfile".into(),
            json!(null),
            "seccompProfile (pod or containers \"init\", \"web\" must set \
             securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
        ),
    ] {
        let pod = with(&path, value);
        assert_eq!(said(&pod, Level::Restricted, LATEST), [expected], "{path}");
        assert_eq!(said(&pod, Level::Baseline, LATEST), Vec::<String>::new(), "{path}");
    }
}

/// Whether a change offends, by the version from which it does, or until which.
#[test]
fn rules_count_from_their_version_on() {
    let sysctl = |name: &str| json!([{"name": name, "value": "1"}]);
    let sc = "spec.containers.0.securityContext";
    let host = json!({"httpGet": {"host": "h"}});
    let unconfined = json!({"seccomp.security.alpha.kubernetes.io/pod": "unconfined"});
    for (path, value, bad, good) in [
        ("spec.securityContext.sysctls".to_owned(), sysctl("net.ipv4.tcp_rmem"), 31, 32),
        ("spec.securityContext.sysctls".into(), sysctl("net.ipv4.tcp_fin_timeout"), 28, 29),
        ("spec.securityContext.sysctls".into(), sysctl("net.ipv4.ip_local_reserved_ports"), 26, 27),
        ("spec.containers.0.livenessProbe".into(), host, 34, 33),
        (
            "spec.securityContext.seLinuxOptions".into(),
            json!({"type": "container_engine_t"}),
            30,
            31,
        ),
        ("metadata.annotations".into(), unconfined, 18, 19),
        (format!("{sc}.allowPrivilegeEscalation"), json!(null), 8, 7),
        (format!("{sc}.capabilities"), json!(null), 22, 21),
        (format!("{sc}.runAsUser"), json!(0), 23, 22),
        ("spec.securityContext.seccompProfile".into(), json!(null), 19, 18),
    ] {
        let pod = with(&path, value);
        let at = |minor: u16| said(&pod, Level::Restricted, Version(minor)).len();
        assert_eq!((at(bad), at(good)), (1, 0), "{path}");
    }
    // What `restricted` says of capabilities it says from 1.22 on; before that `baseline` does.
    let pod = with(&format!("{sc}.capabilities.add"), json!(["SYS_ADMIN"]));
    assert!(said(&pod, Level::Restricted, Version(21))[0].starts_with("non-default"));
    assert!(said(&pod, Level::Restricted, Version(22))[0].starts_with("unrestricted"));
}

#[test]
fn a_version_is_one_of_kubernetes() {
    for (text, expected) in [
        ("latest", Some(Version::LATEST)),
        ("v1.0", Some(Version(0))),
        ("v1.30", Some(Version(30))),
        ("1.30", None),
        ("v1.030", None),
        ("v1.+3", None),
        ("v2.0", None),
        ("v1.x", None),
        ("", None),
    ] {
        assert_eq!(Version::parse(text), expected, "{text}");
    }
}

/// What is found in a commit of this file.
fn findings(text: &str) -> Vec<Finding> {
    findings_of(&[("a.yaml", text)])
}

/// What is found in a commit of these files.
fn findings_of(texts: &[(&str, &str)]) -> Vec<Finding> {
    let mut listing = Vec::new();
    let mut files = Files::new();
    for (path, text) in texts {
        let path: Arc<str> = (*path).into();
        let (blob, bytes) = (Oid::new(text), text.len() as u64);
        let (kind, entry) = (FileKind::File, path.clone());
        listing.push(FileEntry { path: entry, blob: blob.clone(), kind, bytes });
        let content = FileContent { path: path.clone(), blob, bytes: text.as_bytes().into() };
        files.insert(path, Arc::new(parse(&content)));
    }
    assert_eq!(wanted(&listing).len(), texts.len());
    assemble(&listing, &files).1
}

fn namespace(labels: &str) -> String {
    let labels = labels.replace("PS/", "pod-security.kubernetes.io/");
    format!(
        "kind: Namespace\napiVersion: v1\nmetadata: {{name: shop, labels: {{{labels}}}}}\n---\n"
    )
}

const WEB: &str = "apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec:
      hostNetwork: true
      containers: [{name: web, image: x}]
";

#[test]
fn a_namespace_says_what_becomes_of_who_offends() {
    let said = |labels: &str| -> Vec<String> {
        findings(&(namespace(labels) + WEB)).iter().map(ToString::to_string).collect()
    };
    assert_eq!(said(""), Vec::<String>::new());
    assert_eq!(said("PS/enforce: privileged"), Vec::<String>::new());
    let host = "Deployment shop/web: violates PodSecurity \"baseline:latest\": host namespaces \
                (hostNetwork=true)";
    assert_eq!(said("PS/enforce: baseline"), [format!("a.yaml:5:1: error: {host}")]);
    assert_eq!(said("PS/warn: baseline"), [format!("a.yaml:5:1: warning: {host}")]);
    let both = said("PS/warn: baseline, PS/audit: baseline");
    assert_eq!(both, [format!("a.yaml:5:1: warning: {host}")], "said once");
    let strict = said("PS/enforce: baseline, PS/warn: restricted, PS/warn-version: v1.7");
    assert_eq!(strict.len(), 2, "{strict:?}");
    let expected = "violates PodSecurity \"restricted:v1.7\": host namespaces (hostNetwork=true), \
                    runAsNonRoot != true (";
    assert!(strict.iter().any(|line| line.contains(expected)), "{strict:?}");
    // Other namespaces are left alone, and so are pods of no namespace's rule.
    let elsewhere = WEB.replace("namespace: shop", "namespace: default");
    assert_eq!(findings(&(namespace("PS/enforce: restricted") + &elsewhere)), []);
}

#[test]
fn labels_that_mean_nothing_are_refused() {
    for (labels, field, message) in [
        ("PS/enforce: strict", "enforce", "must be privileged, baseline or restricted"),
        ("PS/warn: Baseline", "warn", "must be privileged, baseline or restricted"),
        ("PS/audit-version: '1.30'", "audit-version", "must be latest or a version such as v1.30"),
    ] {
        let found = findings(&namespace(labels));
        let field = format!("metadata.labels[pod-security.kubernetes.io/{field}]");
        assert!(found.len() == 1 && found[0].is_error(), "{labels}: {found:?}");
        assert_eq!(found[0].field.as_deref(), Some(field.as_str()));
        assert_eq!(found[0].message, message);
    }
}

#[test]
fn images_are_those_that_trust_yaml_allows() {
    let key = super::super::trust::TEST_KEY;
    let trust = format!(
        "allowedSigners: ada {key}\nimages: {{allowed: [docker.io/library], digest: required}}\n"
    );
    let digest = format!("@sha256:{}", "a".repeat(64));
    let text = WEB.replace("shop", "default").replace("image: x", "image: IMAGE");
    for (image, complaints) in [
        (format!("nginx{digest}"), vec![]),
        ("nginx:1".into(), vec!["must be named by its digest (name@sha256:…)"]),
        (
            "ghcr.io/x/y".into(),
            vec![
                "is from no registry that is allowed (docker.io/library)",
                "must be named by its digest (name@sha256:…)",
            ],
        ),
    ] {
        let web = text.replace("IMAGE", &image);
        let found = findings_of(&[("trust.yaml", &trust), ("web.yaml", &web)]);
        assert!(found.iter().all(Finding::is_error), "{found:?}");
        let said: Vec<&str> = found.iter().map(|finding| finding.message.as_str()).collect();
        let begin = format!("the image {image} of container web ");
        let expected: Vec<String> =
            complaints.iter().map(|complaint| format!("{begin}{complaint}")).collect();
        assert_eq!(said, expected);
        assert_eq!(findings(&web), [], "without trust.yaml any image may run");
    }
}
