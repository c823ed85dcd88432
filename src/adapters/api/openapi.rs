//! The shapes of objects, for `kubectl explain` and for what kubectl checks before it sends something.
//!
//! Made anew for each question: they take some megabytes that nobody needs for the rest of the year.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::reply::{self, Answer};
use super::route::{self, Group};
use crate::desired;
use crate::kinds::registry::KINDS;

/// `/openapi/v3`.
pub(super) fn index(version: &str) -> Answer {
    let paths = route::groups().into_iter().map(|group| {
        let path = match group.name {
            "" => format!("api/{}", group.version),
            name => format!("apis/{name}/{}", group.version),
        };
        // Clients keep what they have read under this hash; the shapes change with the program.
        let url = format!("/openapi/v3/{path}?hash=windlass-{version}");
        (path, json!({"serverRelativeURL": url}))
    });
    reply::json(&json!({"paths": paths.collect::<Map<_, _>>()}))
}

/// `/openapi/v3/apis/<group>/<version>`.
pub(super) fn group(group: Group) -> Answer {
    let mut schemas = desired::schemas();
    let mut paths = Map::new();
    let mut wanted = BTreeSet::new();
    for info in KINDS {
        if info.group != group.name || info.version != group.version {
            continue;
        }
        let identity = json!({"group": info.group, "version": info.version, "kind": info.name});
        let api_version = info.kind.api_version();
        let root = desired::SCHEMA_ROOTS
            .iter()
            .find(|(version, kind, _)| *version == api_version && *kind == info.name);
        if let Some((.., name)) = root {
            schemas[*name]["x-kubernetes-group-version-kind"] = json!([identity.clone()]);
            wanted.insert((*name).to_owned());
        }
        let prefix = if group.name.is_empty() { "/api" } else { "/apis" };
        let scope = if info.namespaced { "namespaces/{namespace}/" } else { "" };
        let path = format!("{prefix}/{api_version}/{scope}{}/{{name}}", info.plural);
        // By this parameter kubectl knows that fields are checked here.
        let checks =
            json!({"name": "fieldValidation", "in": "query", "schema": {"type": "string"}});
        let read = json!({
            "x-kubernetes-action": "get",
            "x-kubernetes-group-version-kind": identity.clone(),
            "responses": {"200": {"description": "OK"}},
        });
        let patch = json!({
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind": identity,
            "parameters": [checks],
            "responses": {"403": {"description": "it is written in the desired repository"}},
        });
        paths.insert(path, json!({"get": read, "patch": patch}));
    }
    let used = reachable(&schemas, wanted);
    let schemas: Map<String, Value> =
        schemas.into_iter().filter(|(name, _)| used.contains(name)).collect();
    reply::json(&json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes, as Windlass serves it", "version": "v1"},
        "paths": paths,
        "components": {"schemas": schemas},
    }))
}

/// The schemas that these need, directly or not.
fn reachable(schemas: &Map<String, Value>, wanted: BTreeSet<String>) -> BTreeSet<String> {
    let mut used = BTreeSet::new();
    let mut open: Vec<String> = wanted.into_iter().collect();
    while let Some(name) = open.pop() {
        if let Some(schema) = schemas.get(&name)
            && used.insert(name)
        {
            references(schema, &mut open);
        }
    }
    used
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                match value.as_str().filter(|_| name == "$ref") {
                    Some(path) => found.extend(path.rsplit('/').next().map(str::to_owned)),
                    None => references(value, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| references(item, found)),
        _ => {}
    }
}
