//! What a pod has from its ServiceAccount.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::house::{around, assignment};
use crate::desired::{self, Desired};
use crate::kinds::binding::{DEFAULT_APP, Oid};
use crate::kinds::name::Name;
use crate::node::Around;
use crate::node::fields::Myself;
use crate::node::start::{mounts, pull_secrets};
use crate::ports::source::FileContent;

/// The world with this account in the namespace `shop`.
fn with_account(name: &str, fields: &str) -> Around {
    let text = format!(
        "apiVersion: v1\nkind: ServiceAccount\nmetadata: {{name: {name}, namespace: shop}}\n{fields}\n"
    );
    let content =
        FileContent { path: "sa.yaml".into(), blob: Oid::new(""), bytes: text.as_bytes().into() };
    let objects = desired::parse(&content).objects;
    let objects = objects.into_iter().map(|object| (object.key.clone(), object)).collect();
    let desired = Desired { objects, ..Desired::default() };
    let app = Name::trusted(DEFAULT_APP);
    Around { desired: BTreeMap::from([(app, Arc::new(desired))]), ..around() }
}

const DIR: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Each line: the pod, the account, and whether the pod's containers find its namespace.
#[test]
fn a_pod_finds_its_namespace_unless_somebody_says_otherwise() {
    let (yes, no) = ("automountServiceAccountToken: true", "automountServiceAccountToken: false");
    let robot = "serviceAccountName: robot";
    let at = |path: &str| format!("volumeMounts: [{{name: v, mountPath: {path}}}]");
    let table = [
        ("", "default", "", "", true),
        (no, "default", "", "", false),
        ("", "default", no, "", false),
        (yes, "default", no, "", true),
        ("", "robot", no, "", true),
        (robot, "robot", no, "", false),
        (robot, "other", no, "", true),
        ("", "default", "", "/var/run", false),
        ("", "default", "", DIR, false),
        ("", "default", "", "/var/run/secrets/kubernetes.io/serviceaccount/token", false),
        ("", "default", "", "/var/running", true),
    ];
    for (pod, name, account, mount, finds) in table {
        let more = if mount.is_empty() { String::new() } else { format!(", {}", at(mount)) };
        let pod = if pod.is_empty() { String::new() } else { format!("{pod}, ") };
        let assignment = assignment(&format!(
            "{pod}volumes: [{{name: v, emptyDir: {{}}}}], containers: [{{name: main, image: x{more}}}]"
        ));
        let around = with_account(name, account);
        let template = assignment.template.as_ref().expect("is there");
        let myself = Myself { binding: &assignment.binding, template, around: &around, ip: None };
        let mounts = mounts(&template.spec.containers[0], &myself).expect("nothing is missing");
        let found = mounts.iter().find(|mount| mount.target == format!("{DIR}/namespace"));
        assert_eq!(found.is_some(), finds, "{pod}| {name} {account} | {mount}");
        assert!(found.is_none_or(|mount| mount.read_only));
    }
}

/// Each line: the pod, the account, and whose secrets are used.
#[test]
fn an_accounts_pull_secrets_are_for_pods_that_name_none() {
    let both = "imagePullSecrets: [{name: a}, {name: b}]";
    let table = [
        ("", "default", both, "a b"),
        ("imagePullSecrets: [{name: own}], ", "default", both, "own"),
        ("imagePullSecrets: [], ", "default", both, "a b"),
        ("serviceAccountName: robot, ", "default", both, ""),
        ("serviceAccountName: robot, ", "robot", both, "a b"),
    ];
    for (pod, name, account, used) in table {
        let assignment = assignment(&format!("{pod}containers: [{{name: main, image: x}}]"));
        let template = assignment.template.as_ref().expect("is there");
        let around = with_account(name, account);
        let secrets = pull_secrets(&template.spec, &Name::trusted("shop"), &around);
        let secrets: Vec<&str> = secrets.iter().map(Name::as_str).collect();
        assert_eq!(secrets.join(" "), used, "{pod}| {name}");
    }
}
