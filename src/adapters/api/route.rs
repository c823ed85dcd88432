//! Which door a path leads to. Kubernetes' paths, as
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#resource-uris> has them, and ours below
//! `/windlass/v1/`.

use crate::kinds::name::Name;
use crate::kinds::object::Key;
use crate::kinds::registry::{KINDS, Kind};

/// A door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Route {
    /// `/version`.
    Version,
    /// `/healthz`, `/livez`, `/readyz`, and what is below them.
    Health {
        /// Whether it is asked if requests can be answered, and not only if somebody is there.
        ready: bool,
    },
    /// `/api`: the versions of the core group.
    CoreVersions,
    /// `/apis`: the groups.
    Groups,
    /// `/apis/apps`.
    Group(&'static str),
    /// `/api/v1`, `/apis/apps/v1`: the resources of a group in a version.
    Resources(Group),
    /// `/openapi/v2`.
    OpenApiV2,
    /// `/openapi/v3`.
    OpenApiIndex,
    /// `/openapi/v3/apis/apps/v1`.
    OpenApi(Group),
    /// All objects of a kind, or those of a namespace.
    Collection {
        /// The kind.
        kind: Kind,
        /// The namespace; all where absent.
        namespace: Option<Name>,
    },
    /// One object.
    Object {
        /// Which.
        key: Key,
        /// What of it.
        part: Part,
    },
    /// A question about rights.
    Review(Review),
    /// One of our own.
    Own(Own),
    /// `/metrics`.
    Metrics,
}

/// A group in the one version that is served of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group {
    /// Its name; empty for core.
    pub(super) name: &'static str,
    /// The version.
    pub(super) version: &'static str,
}

/// What of an object is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    /// All of it.
    Whole,
    /// `status`: reads as the whole.
    Status,
    /// `scale`.
    Scale,
    /// `log`.
    Log,
    /// `exec`.
    Exec,
    /// `attach`.
    Attach,
    /// `portforward`.
    PortForward,
    /// `eviction`.
    Eviction,
    /// Something else that Kubernetes has and we don't.
    Other,
}

/// A question about rights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Review {
    /// May I?
    Access,
    /// What may I?
    Rules,
    /// Who am I?
    Subject,
}

/// Our own doors.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Own {
    Status,
    Sync,
    Diff,
    Why,
    Describe,
    History,
    Images,
    Drain,
    Fence,
    App,
    Adopt,
    Blobs,
}

/// Groups without objects of their own.
pub(super) const REVIEW_GROUPS: [Group; 2] = [
    Group { name: "authentication.k8s.io", version: "v1" },
    Group { name: "authorization.k8s.io", version: "v1" },
];

/// Every group that is served, core first.
pub(super) fn groups() -> Vec<Group> {
    let mut groups: Vec<Group> = KINDS
        .iter()
        .map(|info| Group { name: info.group, version: info.version })
        .chain(REVIEW_GROUPS)
        .collect();
    groups.sort();
    groups.dedup();
    groups
}

/// The door at the end of a path; none if there is none.
pub(super) fn parse(path: &str) -> Option<Route> {
    let decoded: Vec<String> =
        path.trim_matches('/').split('/').map(decode).collect::<Option<_>>()?;
    let parts: Vec<&str> = decoded.iter().map(String::as_str).collect();
    match parts.as_slice() {
        ["version"] => Some(Route::Version),
        ["healthz" | "livez", ..] => Some(Route::Health { ready: false }),
        ["readyz", ..] => Some(Route::Health { ready: true }),
        ["metrics"] => Some(Route::Metrics),
        ["api"] => Some(Route::CoreVersions),
        ["apis"] => Some(Route::Groups),
        ["openapi", "v2"] => Some(Route::OpenApiV2),
        ["openapi", "v3"] => Some(Route::OpenApiIndex),
        ["openapi", "v3", "api", version] => group("", version).map(Route::OpenApi),
        ["openapi", "v3", "apis", name, version] => group(name, version).map(Route::OpenApi),
        ["api", version, rest @ ..] => below(group("", version)?, rest),
        ["apis", name] => named_group(name).map(|group| Route::Group(group.name)),
        ["apis", name, version, rest @ ..] => below(group(name, version)?, rest),
        ["windlass", "v1", own] => own_door(own).map(Route::Own),
        _ => None,
    }
}

fn own_door(name: &str) -> Option<Own> {
    Some(match name {
        "status" => Own::Status,
        "sync" => Own::Sync,
        "diff" => Own::Diff,
        "why" => Own::Why,
        "describe" => Own::Describe,
        "history" => Own::History,
        "images" => Own::Images,
        "drain" => Own::Drain,
        "fence" => Own::Fence,
        "app" => Own::App,
        "adopt" => Own::Adopt,
        "blobs" => Own::Blobs,
        _ => return None,
    })
}

fn named_group(name: &str) -> Option<Group> {
    groups().into_iter().find(|group| group.name == name)
}

fn group(name: &str, version: &str) -> Option<Group> {
    named_group(name).filter(|group| group.version == version)
}

fn below(group: Group, rest: &[&str]) -> Option<Route> {
    if let Some(review) = review(group, rest) {
        return Some(Route::Review(review));
    }
    let kind = |plural: &str| Kind::from_plural(group.name, plural);
    let name = |text: &str| (!text.is_empty()).then(|| Name::trusted(text));
    match rest {
        [] => Some(Route::Resources(group)),
        ["namespaces", namespace, plural, rest @ ..] if kind(plural).is_some() => {
            let kind = kind(plural).filter(|kind| kind.info().namespaced)?;
            let namespace = name(namespace)?;
            match rest {
                [] => Some(Route::Collection { kind, namespace: Some(namespace) }),
                [object, part @ ..] => {
                    let key = Key::namespaced(kind, &namespace, &name(object)?);
                    let part = self::part(part)?;
                    Some(Route::Object { key, part })
                }
            }
        }
        [plural] => Some(Route::Collection { kind: kind(plural)?, namespace: None }),
        [plural, object, part @ ..] => {
            let kind = kind(plural).filter(|kind| !kind.info().namespaced)?;
            let key = Key::cluster(kind, &name(object)?);
            let part = self::part(part)?;
            Some(Route::Object { key, part })
        }
    }
}

fn review(group: Group, rest: &[&str]) -> Option<Review> {
    match (group.name, rest) {
        ("authorization.k8s.io", ["selfsubjectaccessreviews"]) => Some(Review::Access),
        ("authorization.k8s.io", ["selfsubjectrulesreviews"]) => Some(Review::Rules),
        ("authentication.k8s.io", ["selfsubjectreviews"]) => Some(Review::Subject),
        _ => None,
    }
}

fn part(rest: &[&str]) -> Option<Part> {
    Some(match rest {
        [] => Part::Whole,
        ["status"] => Part::Status,
        ["scale"] => Part::Scale,
        ["log"] => Part::Log,
        ["exec"] => Part::Exec,
        ["attach"] => Part::Attach,
        ["portforward"] => Part::PortForward,
        ["eviction"] => Part::Eviction,
        [_] => Part::Other,
        _ => return None,
    })
}

/// Undoes `%2F` and the like; none if what comes out is no text.
fn decode(part: &str) -> Option<String> {
    let bytes = part.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let hex = part.get(at + 1..at + 3)?;
            out.push(u8::from_str_radix(hex, 16).ok()?);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn collection(kind: Kind, namespace: Option<&str>) -> Option<Route> {
        Some(Route::Collection { kind, namespace: namespace.map(Name::trusted) })
    }

    fn object(kind: Kind, namespace: Option<&str>, name: &str, part: Part) -> Option<Route> {
        let key = Key { kind, namespace: namespace.map(Name::trusted), name: Name::trusted(name) };
        Some(Route::Object { key, part })
    }

    #[test]
    fn paths_lead_where_kubernetes_has_them() {
        let core = Group { name: "", version: "v1" };
        let apps = Group { name: "apps", version: "v1" };
        let table = [
            ("/version", Some(Route::Version)),
            ("/readyz/ping", Some(Route::Health { ready: true })),
            ("/api", Some(Route::CoreVersions)),
            ("/api/v1", Some(Route::Resources(core))),
            ("/api/v1/", Some(Route::Resources(core))),
            ("/apis/apps", Some(Route::Group("apps"))),
            ("/apis/apps/v1", Some(Route::Resources(apps))),
            ("/apis/apps/v1beta1", None),
            ("/openapi/v3/apis/apps/v1", Some(Route::OpenApi(apps))),
            ("/api/v1/pods", collection(Kind::Pod, None)),
            ("/api/v1/namespaces", collection(Kind::Namespace, None)),
            ("/api/v1/namespaces/shop/pods", collection(Kind::Pod, Some("shop"))),
            ("/api/v1/namespaces/shop", object(Kind::Namespace, None, "shop", Part::Whole)),
            ("/api/v1/namespaces/shop/status", object(Kind::Namespace, None, "shop", Part::Status)),
            ("/api/v1/namespaces/shop/nodes", None),
            ("/api/v1/nodes/a", object(Kind::Node, None, "a", Part::Whole)),
            ("/api/v1/pods/a", None),
            ("/api/v1/deployments", None),
            (
                "/apis/apps/v1/namespaces/shop/deployments/web/scale",
                object(Kind::Deployment, Some("shop"), "web", Part::Scale),
            ),
            (
                "/api/v1/namespaces/shop/pods/web/log",
                object(Kind::Pod, Some("shop"), "web", Part::Log),
            ),
            (
                "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
                object(Kind::ClusterRole, None, "system:node", Part::Whole),
            ),
            (
                "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                Some(Route::Review(Review::Access)),
            ),
            ("/windlass/v1/status", Some(Route::Own(Own::Status))),
            ("/windlass/v1/nothing", None),
            ("/%zz", None),
            ("/", None),
        ];
        for (path, route) in table {
            assert_eq!(parse(path), route, "{path}");
        }
    }
}
