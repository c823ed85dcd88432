//! What there is to ask for: clients read it before anything else, in one answer (aggregated) or group
//! by group. <https://kubernetes.io/docs/concepts/overview/kubernetes-api/#discovery-api>

use hyper::HeaderMap;
use serde_json::{Value, json};

use super::ask;
use super::reply::{self, Answer, No};
use super::route::{self, Group};
use crate::kinds::registry::{KINDS, Kind, KindInfo};

/// The forms of aggregated discovery: its version, as `Accept` and as `Content-Type` name it.
const AGGREGATED: [(&str, &str, &str); 2] = [
    (
        "apidiscovery.k8s.io/v2",
        "v=v2",
        "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
    ),
    (
        "apidiscovery.k8s.io/v2beta1",
        "v=v2beta1",
        "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList",
    ),
];

/// A part of an object that has a path of its own.
struct Sub {
    name: &'static str,
    /// The group, version and kind of what is found there.
    holds: (&'static str, &'static str, &'static str),
    verbs: &'static [&'static str],
}

const fn sub(
    name: &'static str,
    holds: (&'static str, &'static str, &'static str),
    verbs: &'static [&'static str],
) -> Sub {
    Sub { name, holds, verbs }
}

fn subs(kind: Kind) -> &'static [Sub] {
    const SCALE: Sub = sub("scale", ("autoscaling", "v1", "Scale"), &["get"]);
    const POD: &[Sub] = &[
        sub("attach", ("", "v1", "PodAttachOptions"), &["create", "get"]),
        sub("eviction", ("policy", "v1", "Eviction"), &["create"]),
        sub("exec", ("", "v1", "PodExecOptions"), &["create", "get"]),
        sub("log", ("", "v1", "Pod"), &["get"]),
        sub("portforward", ("", "v1", "PodPortForwardOptions"), &["create", "get"]),
        sub("status", ("", "v1", "Pod"), &["get"]),
    ];
    const SCALED: &[Sub] = &[SCALE];
    match kind {
        Kind::Pod => POD,
        Kind::Deployment | Kind::ReplicaSet | Kind::ReplicationController | Kind::StatefulSet => {
            SCALED
        }
        _ => &[],
    }
}

fn verbs(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Pod => &["delete", "get", "list", "watch"],
        Kind::Node => &["delete", "get", "list", "patch", "watch"],
        _ => &["get", "list", "watch"],
    }
}

fn kinds_of(group: Group) -> impl Iterator<Item = &'static KindInfo> {
    KINDS.iter().filter(move |info| info.group == group.name && info.version == group.version)
}

/// Questions about rights: the kind, its plural, its singular.
fn reviews(group: Group) -> &'static [(&'static str, &'static str, &'static str)] {
    match group.name {
        "authentication.k8s.io" => {
            &[("SelfSubjectReview", "selfsubjectreviews", "selfsubjectreview")]
        }
        "authorization.k8s.io" => &[
            ("SelfSubjectAccessReview", "selfsubjectaccessreviews", "selfsubjectaccessreview"),
            ("SelfSubjectRulesReview", "selfsubjectrulesreviews", "selfsubjectrulesreview"),
        ],
        _ => &[],
    }
}

fn group_version(group: Group) -> String {
    match group.name {
        "" => group.version.to_owned(),
        name => format!("{name}/{}", group.version),
    }
}

/// `/api`.
pub(super) fn core(headers: &HeaderMap) -> Result<Answer, No> {
    let groups = route::groups().into_iter().filter(|group| group.name.is_empty());
    if let Some(answer) = aggregated(headers, groups) {
        return Ok(answer);
    }
    ask::form(headers)?;
    Ok(reply::json(&json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [],
    })))
}

/// `/apis`.
pub(super) fn groups(headers: &HeaderMap) -> Result<Answer, No> {
    let groups = || route::groups().into_iter().filter(|group| !group.name.is_empty());
    if let Some(answer) = aggregated(headers, groups()) {
        return Ok(answer);
    }
    ask::form(headers)?;
    Ok(reply::json(&json!({
        "kind": "APIGroupList",
        "apiVersion": "v1",
        "groups": groups().map(group_json).collect::<Vec<_>>(),
    })))
}

/// `/apis/<group>`.
pub(super) fn group(name: &str) -> Answer {
    let found = route::groups().into_iter().find(|group| group.name == name).map(group_json);
    let mut group = found.unwrap_or_default();
    group["kind"] = "APIGroup".into();
    group["apiVersion"] = "v1".into();
    reply::json(&group)
}

fn group_json(group: Group) -> Value {
    let version = json!({"groupVersion": group_version(group), "version": group.version});
    json!({"name": group.name, "versions": [version.clone()], "preferredVersion": version})
}

/// `/api/v1`, `/apis/<group>/<version>`.
pub(super) fn resources(group: Group) -> Answer {
    let mut resources = Vec::new();
    for info in kinds_of(group) {
        let mut resource = json!({
            "name": info.plural,
            "singularName": info.singular,
            "namespaced": info.namespaced,
            "kind": info.name,
            "verbs": verbs(info.kind),
        });
        decorate(info, &mut resource);
        resources.push(resource);
        resources.extend(subs(info.kind).iter().map(|sub| {
            let (group, version, kind) = sub.holds;
            json!({
                "name": format!("{}/{}", info.plural, sub.name),
                "singularName": "",
                "namespaced": info.namespaced,
                "group": group,
                "version": version,
                "kind": kind,
                "verbs": sub.verbs,
            })
        }));
    }
    resources.extend(reviews(group).iter().map(|(kind, plural, singular)| {
        json!({
            "name": plural,
            "singularName": singular,
            "namespaced": false,
            "kind": kind,
            "verbs": ["create"],
        })
    }));
    reply::json(&json!({
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": group_version(group),
        "resources": resources,
    }))
}

fn decorate(info: &KindInfo, resource: &mut Value) {
    if !info.short.is_empty() {
        resource["shortNames"] = json!(info.short);
    }
    if info.in_all {
        resource["categories"] = json!(["all"]);
    }
}

/// Everything at once, if the client can read that.
fn aggregated(headers: &HeaderMap, groups: impl Iterator<Item = Group>) -> Option<Answer> {
    let accept = ask::accept(headers);
    let forms = accept.split(',').find_map(|part| {
        let words: Vec<&str> = part.split(';').map(str::trim).collect();
        let is_meant = words.first() == Some(&"application/json")
            && words.contains(&"g=apidiscovery.k8s.io")
            && words.contains(&"as=APIGroupDiscoveryList");
        AGGREGATED.iter().find(|(_, version, _)| is_meant && words.contains(version))
    });
    let (api_version, _, content_type) = forms?;
    let list = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": api_version,
        "metadata": {},
        "items": groups.map(aggregated_group).collect::<Vec<_>>(),
    });
    Some(reply::typed(content_type, &list))
}

fn aggregated_group(group: Group) -> Value {
    let holds = |(group, version, kind): (&str, &str, &str)| json!({"group": group, "version": version, "kind": kind});
    let kinds = kinds_of(group).map(|info| {
        let subs = subs(info.kind).iter().map(|sub| {
            json!({"subresource": sub.name, "responseKind": holds(sub.holds), "verbs": sub.verbs})
        });
        let mut resource = json!({
            "resource": info.plural,
            "responseKind": holds((info.group, info.version, info.name)),
            "scope": if info.namespaced { "Namespaced" } else { "Cluster" },
            "singularResource": info.singular,
            "verbs": verbs(info.kind),
            "subresources": subs.collect::<Vec<_>>(),
        });
        decorate(info, &mut resource);
        resource
    });
    let reviews = reviews(group).iter().map(|(kind, plural, singular)| {
        json!({
            "resource": plural,
            "responseKind": holds((group.name, group.version, kind)),
            "scope": "Cluster",
            "singularResource": singular,
            "verbs": ["create"],
        })
    });
    json!({
        "metadata": {"name": group.name, "creationTimestamp": null},
        "versions": [{
            "version": group.version,
            "freshness": "Current",
            "resources": kinds.chain(reviews).collect::<Vec<_>>(),
        }],
    })
}
