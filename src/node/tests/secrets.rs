//! What a pod finds of Secrets that are encrypted.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::house::{around, assignment};
use crate::desired::{self, Desired, sealed};
use crate::kinds::age::Keyring;
use crate::kinds::binding::{DEFAULT_APP, Oid};
use crate::kinds::config::Secret;
use crate::kinds::name::Name;
use crate::kinds::object::{Body, Key};
use crate::kinds::registry::Kind;
use crate::node::env::{Missing, variables};
use crate::node::fields::Myself;
use crate::node::{Around, secrets_of};
use crate::ports::source::FileContent;

/// Made by `age-keygen` 1.1.1, and used nowhere else.
const KEY: &str = "AGE-SECRET-KEY-149DS54TCMK90V7MCCDZMFV29GS97XJFQ7DD8TEPQDAQSKH5GG56SSCTT92";

/// The world with the encrypted Secret `db` in the namespace `shop`, and what opening it came to.
fn with_secret(open: impl FnOnce(&Secret) -> Option<Result<Secret, String>>) -> Around {
    let text = include_str!("../../desired/sealed/samples/all.yaml");
    let content =
        FileContent { path: "db.yaml".into(), blob: Oid::new(""), bytes: text.as_bytes().into() };
    let object = desired::parse(&content).objects.pop().expect("a Secret");
    let Body::Secret(secret) = &object.body else { panic!("a Secret") };
    let key = Key::namespaced(Kind::Secret, &Name::trusted("shop"), &Name::trusted("db"));
    let opened = open(secret).map(|opened| (key.clone(), opened.map(Arc::new)));
    let objects = BTreeMap::from([(key, object)]);
    let desired = Arc::new(Desired { objects, ..Desired::default() });
    let app = Name::trusted(DEFAULT_APP);
    let desired = BTreeMap::from([(app, desired)]);
    Around { desired, opened: opened.into_iter().collect(), ..around() }
}

#[test]
fn an_encrypted_secret_is_missing_until_it_is_opened() {
    let pod = assignment(
        "containers: [{name: main, image: x, env: [{name: A, valueFrom: {secretKeyRef: {name: db, key: password}}}]}]",
    );
    let template = pod.template.as_ref().expect("is there");
    let find = |around: &Around| {
        let myself = Myself { binding: &pod.binding, template, around, ip: None };
        let all = variables(&template.spec.containers[0], &myself);
        all.map(|all| all.get("A").cloned().unwrap_or_default())
    };
    let missing = |why: &str| Err(Missing(format!("secret \"db\" {why}")));
    assert_eq!(find(&with_secret(|_| None)), missing("is not decrypted yet"));
    let refused = with_secret(|_| Some(Err("can't be decrypted here: no key".to_owned())));
    assert_eq!(find(&refused), missing("can't be decrypted here: no key"));
    let keyring = Keyring::parse("age.txt", KEY);
    let opened = with_secret(|secret| sealed::open(secret, &keyring).ok().map(Ok));
    assert_eq!(find(&opened), Ok("hunter2".to_owned()));
}

#[test]
fn every_way_to_read_a_secret_counts_as_a_need() {
    let pod = assignment(
        "imagePullSecrets: [{name: pull}], \
         volumes: [{name: v, secret: {secretName: files}}, {name: w, projected: {sources: [{secret: {name: part}}]}}], \
         initContainers: [{name: init, image: x, envFrom: [{secretRef: {name: all}}, {configMapRef: {name: other}}]}], \
         containers: [{name: main, image: x, env: [{name: A, valueFrom: {secretKeyRef: {name: one, key: a}}}]}]",
    );
    let template = pod.template.as_ref().expect("is there");
    let found = secrets_of(&template.spec, &Name::trusted("shop"), &around());
    let found: Vec<&str> = found.iter().map(Name::as_str).collect();
    assert_eq!(found, ["all", "files", "one", "part", "pull"]);
}
