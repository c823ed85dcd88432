//! ConfigMaps and Secrets.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1 as api;

use super::super::path::Path;
use super::Check;
use crate::kinds::config::{CONFIG_BYTES_MAX, ConfigMap, Secret, ServiceAccount};
use crate::kinds::name::{NameRule, config_key_complaint};
use crate::kinds::object::Body;

/// `ValidateConfigMap`.
pub(super) fn config_map(map: api::ConfigMap, check: &mut Check<'_, '_>) -> Body {
    let mut data: BTreeMap<String, Arc<[u8]>> = BTreeMap::new();
    let path = Path::Root.field("data");
    for (key, text) in map.data.into_iter().flatten() {
        check_key(&path, &key, check);
        data.insert(key, text.into_bytes().into());
    }
    let path = Path::Root.field("binaryData");
    for (key, ByteString(bytes)) in map.binary_data.into_iter().flatten() {
        check_key(&path, &key, check);
        if data.contains_key(&key) {
            check.error(&path.key(&key), "stands in data too");
        }
        data.insert(key, bytes.into());
    }
    check_size(&data, check);
    Body::ConfigMap(Arc::new(ConfigMap { data, immutable: map.immutable.unwrap_or(false) }))
}

/// `ValidateSecret`. Messages name keys, never values.
pub(super) fn secret(secret: api::Secret, check: &mut Check<'_, '_>) -> Body {
    let mut data: BTreeMap<String, Arc<[u8]>> = BTreeMap::new();
    let path = Path::Root.field("data");
    for (key, ByteString(bytes)) in secret.data.into_iter().flatten() {
        check_key(&path, &key, check);
        data.insert(key, bytes.into());
    }
    check_size(&data, check);
    let kind = secret.type_.unwrap_or_default();
    let annotations = secret.metadata.annotations.unwrap_or_default();
    let has_account = annotations.contains_key(SERVICE_ACCOUNT_ANNOTATION);
    check_type(&kind, &data, has_account, check);
    let immutable = secret.immutable.unwrap_or(false);
    Body::Secret(Arc::new(Secret { kind, data, immutable, sealed: None }))
}

/// `ValidateServiceAccount`.
pub(super) fn service_account(account: api::ServiceAccount, check: &mut Check<'_, '_>) -> Body {
    let path = Path::Root.field("imagePullSecrets");
    let secrets = account.image_pull_secrets.into_iter().flatten().enumerate();
    let image_pull_secrets = secrets
        .map(|(index, secret)| {
            let item = path.index(index);
            check.name(&item.field("name"), &secret.name, NameRule::Subdomain)
        })
        .collect();
    let automounts = account.automount_service_account_token;
    Body::ServiceAccount(Arc::new(ServiceAccount { image_pull_secrets, automounts }))
}

/// `core.ServiceAccountNameKey`.
const SERVICE_ACCOUNT_ANNOTATION: &str = "kubernetes.io/service-account.name";

/// What each built-in type of Secret must hold.
fn check_type(
    kind: &str,
    data: &BTreeMap<String, Arc<[u8]>>,
    has_account: bool,
    check: &mut Check<'_, '_>,
) {
    let path = Path::Root.field("data");
    let mut need = |key: &str| {
        if data.contains_key(key) {
            return true;
        }
        check.error(&path.key(key), format!("is required in a Secret of type {kind}"));
        false
    };
    match kind {
        "kubernetes.io/dockerconfigjson" => {
            let key = ".dockerconfigjson";
            if need(key) && !is_json(data, key) {
                check.error(&path.key(key), "is not JSON");
            }
        }
        "kubernetes.io/dockercfg" => {
            let key = ".dockercfg";
            if need(key) && !is_json(data, key) {
                check.error(&path.key(key), "is not JSON");
            }
        }
        "kubernetes.io/tls" => {
            need("tls.crt");
            need("tls.key");
        }
        "kubernetes.io/ssh-auth" => {
            need("ssh-privatekey");
        }
        "kubernetes.io/basic-auth"
            if !data.contains_key("username") && !data.contains_key("password") =>
        {
            let message = format!("needs username or password in a Secret of type {kind}");
            check.error(&path, message);
        }
        "kubernetes.io/service-account-token" if !has_account => {
            let metadata = Path::Root.field("metadata");
            let annotations = metadata.field("annotations");
            let path = annotations.key(SERVICE_ACCOUNT_ANNOTATION);
            check.error(&path, format!("is required in a Secret of type {kind}"));
        }
        _ => {}
    }
}

fn is_json(data: &BTreeMap<String, Arc<[u8]>>, key: &str) -> bool {
    let bytes = data.get(key).map(|bytes| &**bytes).unwrap_or_default();
    serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

fn check_key(path: &Path<'_>, key: &str, check: &mut Check<'_, '_>) {
    check.complain(&path.key(key), key, config_key_complaint(key));
}

fn check_size(data: &BTreeMap<String, Arc<[u8]>>, check: &mut Check<'_, '_>) {
    let bytes: usize = data.values().map(|value| value.len()).sum();
    if bytes > CONFIG_BYTES_MAX {
        let message =
            format!("{bytes} bytes are more than the {CONFIG_BYTES_MAX} that one may hold");
        check.error(&Path::Root.field("data"), message);
    }
}
