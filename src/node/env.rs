//! A container's variables: Services first, then `envFrom`, then `env`, each able to replace what
//! came before; `$(VAR)` is replaced by what is known at that point.

use std::collections::BTreeMap;

use crate::kinds::container::{Container, EnvFrom, EnvSource, EnvValue, KeyRef};

use super::Around;
use super::fields::Myself;

/// Why a container can't be made yet: something it reads is missing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Missing(pub(crate) String);

/// The variables of a container.
pub(crate) fn variables(
    container: &Container,
    myself: &Myself<'_>,
) -> Result<BTreeMap<String, String>, Missing> {
    let mut variables = service_variables(myself);
    for source in &container.env_from {
        read_all(source, myself, &mut variables)?;
    }
    for variable in &container.env {
        if let Some(value) = value_of(&variable.value, container, myself, &variables)? {
            variables.insert(variable.name.clone(), value);
        }
    }
    Ok(variables)
}

fn read_all(
    source: &EnvFrom,
    myself: &Myself<'_>,
    variables: &mut BTreeMap<String, String>,
) -> Result<(), Missing> {
    let namespace = &myself.binding.key.namespace;
    let (data, what) = match &source.source {
        EnvSource::ConfigMap(name) => {
            let data = myself.around.config_map(namespace, name).map(|config| &config.data);
            (data, format!("configmap \"{name}\""))
        }
        EnvSource::Secret(name) => {
            let data = myself.around.secret(namespace, name)?.map(|secret| &secret.data);
            (data, format!("secret \"{name}\""))
        }
    };
    let Some(data) = data else {
        return if source.optional { Ok(()) } else { Err(Missing(format!("{what} not found"))) };
    };
    for (key, value) in data {
        let name = format!("{}{key}", source.prefix);
        // Values that are no text can't be variables, as in Kubernetes.
        let text = std::str::from_utf8(value).ok().filter(|text| !text.contains('\0'));
        if let Some(text) = text.filter(|_| !name.contains('=')) {
            variables.insert(name, text.to_owned());
        }
    }
    Ok(())
}

fn value_of(
    value: &EnvValue,
    container: &Container,
    myself: &Myself<'_>,
    known: &BTreeMap<String, String>,
) -> Result<Option<String>, Missing> {
    let namespace = &myself.binding.key.namespace;
    match value {
        EnvValue::Literal(text) => Ok(Some(expand(text, known))),
        EnvValue::ConfigMapKey(reference) => {
            let config = myself.around.config_map(namespace, &reference.name);
            key_of(config.map(|config| &config.data), reference, "configmap")
        }
        EnvValue::SecretKey(reference) => {
            let secret = myself.around.secret(namespace, &reference.name)?;
            key_of(secret.map(|secret| &secret.data), reference, "secret")
        }
        EnvValue::Field(path) => match myself.field(path) {
            Some(value) => Ok(Some(value)),
            None => Err(Missing(format!("field {path} is not known yet"))),
        },
        EnvValue::Resource(reference) => myself
            .resource(reference, container)
            .map(Some)
            .ok_or_else(|| Missing(format!("there is no resource {}", reference.resource))),
    }
}

fn key_of(
    data: Option<&BTreeMap<String, std::sync::Arc<[u8]>>>,
    reference: &KeyRef,
    kind: &str,
) -> Result<Option<String>, Missing> {
    let KeyRef { name, key, optional } = reference;
    let Some(data) = data else {
        let missing = Missing(format!("{kind} \"{name}\" not found"));
        return if *optional { Ok(None) } else { Err(missing) };
    };
    match data.get(key) {
        Some(value) => match std::str::from_utf8(value) {
            Ok(text) if !text.contains('\0') => Ok(Some(text.to_owned())),
            _ => Err(Missing(format!("key {key} of {kind} \"{name}\" is not text"))),
        },
        None if *optional => Ok(None),
        None => Err(Missing(format!("couldn't find key {key} in {kind} \"{name}\""))),
    }
}

/// Replaces `$(VAR)` by what is known; an unknown one stays as it is, `$$` is a dollar.
/// Source: `k8s.io/kubernetes/third_party/forked/golang/expansion`.
pub(crate) fn expand(text: &str, known: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            out.push('$');
            rest = after;
        } else if let Some((name, after)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            match known.get(name) {
                Some(value) => out.push_str(value),
                None => {
                    out.push_str("$(");
                    out.push_str(name);
                    out.push(')');
                }
            }
            rest = after;
        } else {
            out.push('$');
        }
    }
    out.push_str(rest);
    out
}

/// `NAME_SERVICE_HOST`, `NAME_SERVICE_PORT` and Docker's link variables, for the Services of the
/// pod's namespace.
/// <https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables>
fn service_variables(myself: &Myself<'_>) -> BTreeMap<String, String> {
    let mut variables = BTreeMap::new();
    if !myself.template.spec.enable_service_links {
        return variables;
    }
    let namespace = &myself.binding.key.namespace;
    for service in myself.around.services.iter().filter(|s| s.namespace == *namespace) {
        let Some((_, first, transport)) = service.ports.first() else {
            continue;
        };
        let prefix = service.name.as_str().to_ascii_uppercase().replace('-', "_");
        let ip = service.ip;
        let mut set = |name: String, value: String| variables.insert(name, value);
        set(format!("{prefix}_SERVICE_HOST"), ip.to_string());
        set(format!("{prefix}_SERVICE_PORT"), first.to_string());
        set(format!("{prefix}_PORT"), format!("{transport}://{ip}:{first}"));
        for (name, port, transport) in &service.ports {
            if let Some(name) = name {
                let name = name.as_str().to_ascii_uppercase().replace('-', "_");
                set(format!("{prefix}_SERVICE_PORT_{name}"), port.to_string());
            }
            let link = format!("{prefix}_PORT_{port}_{}", transport.to_ascii_uppercase());
            set(link.clone(), format!("{transport}://{ip}:{port}"));
            set(format!("{link}_PROTO"), (*transport).to_owned());
            set(format!("{link}_PORT"), port.to_string());
            set(format!("{link}_ADDR"), ip.to_string());
        }
    }
    variables
}

impl Around {
    /// Replaces `$(VAR)` in each of `texts`.
    pub(crate) fn expand_all(texts: &[String], known: &BTreeMap<String, String>) -> Vec<String> {
        texts.iter().map(|text| expand(text, known)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_replaced_as_kubernetes_does() {
        let known = BTreeMap::from([("A".to_owned(), "1".to_owned()), ("B".into(), "$(A)".into())]);
        let table = [
            ("$(A)", "1"),
            ("x$(A)y$(A)", "x1y1"),
            ("$(NONE)", "$(NONE)"),
            ("$$(A)", "$(A)"),
            ("$$$(A)", "$1"),
            ("$A", "$A"),
            ("$(A", "$(A"),
            ("$", "$"),
            ("$(B)", "$(A)"),
            ("", ""),
        ];
        for (text, expanded) in table {
            assert_eq!(expand(text, &known), expanded, "{text:?}");
        }
    }
}
