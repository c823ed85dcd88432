//! `apiVersion` and `kind`: what a document claims to be, and what is said of claims that
//! Kubernetes, or Windlass, has no use for.

use super::near::nearest;
use super::report::Alternatives;
use super::shape::SHAPES;
use super::tree::{At, Entry, Node, Value};
use crate::kinds::registry::{KINDS, Kind};

/// What a document is.
#[derive(Debug, PartialEq)]
pub(super) enum Envelope {
    /// It has neither `apiVersion` nor `kind`.
    Bare,
    /// An object of a kind with a row in the registry, in a version that has a shape.
    Object { kind: Kind, api_version: String },
    /// Objects in `items`, which may leave out what the list says already.
    List { item_kind: Option<&'static str>, api_version: String },
    /// Something else.
    Refused(Refusal),
}

/// A claim that can't be met.
#[derive(Debug, PartialEq)]
pub(super) struct Refusal {
    pub(super) at: At,
    pub(super) field: Option<&'static str>,
    pub(super) message: String,
    pub(super) hint: Option<String>,
    /// The group and kind, if `foreign` in `windlass.yaml` may pass it over.
    pub(super) foreign: Option<(String, String)>,
}

/// Reads what `root` claims to be.
pub(super) fn read(root: &Node<'_>) -> Envelope {
    let written = |field: &str| root.entry(field).filter(|e| e.node.value != Value::Null);
    let (version, kind) = (written("apiVersion"), written("kind"));
    if let (None, None) = (version, kind) {
        return Envelope::Bare;
    }
    let text = |entry: Option<&Entry<'_>>, field| {
        let Some(entry) = entry else {
            let message = "is required: the document is half a manifest";
            return Err(refusal(root.at, Some(field), message));
        };
        match entry.node.as_text() {
            Some(text) if !text.is_empty() => Ok(text.to_owned()),
            _ => Err(refusal(entry.at, Some(field), "must be text")),
        }
    };
    let api_version = text(version, "apiVersion");
    let kind_name = text(kind, "kind");
    match (api_version, kind_name) {
        (Ok(api_version), Ok(kind_name)) => {
            let at = kind.map_or(root.at, |entry| entry.node.at);
            claim(at, api_version, &kind_name)
        }
        (Err(refusal), _) | (_, Err(refusal)) => Envelope::Refused(refusal),
    }
}

fn refusal(at: At, field: Option<&'static str>, message: impl Into<String>) -> Refusal {
    Refusal { at, field, message: message.into(), hint: None, foreign: None }
}

fn claim(at: At, api_version: String, kind_name: &str) -> Envelope {
    let (group, version) = match api_version.split_once('/') {
        Some((group, version)) => (group, version),
        None => ("", api_version.as_str()),
    };
    if let Some(kind) = Kind::find(group, kind_name)
        && (kind.info().version == version || SHAPES.root(&api_version, kind_name).is_some())
    {
        return Envelope::Object { kind, api_version };
    }
    if (api_version.as_str(), kind_name) == ("v1", "List") {
        return Envelope::List { item_kind: None, api_version };
    }
    let item = kind_name.strip_suffix("List");
    if let Some(kind) = item.and_then(|item| Kind::find(group, item)) {
        return Envelope::List { item_kind: Some(kind.name()), api_version };
    }
    Envelope::Refused(no_matches(at, &api_version, kind_name))
}

/// As the API server says it, with what may have been meant.
fn no_matches(at: At, api_version: &str, kind_name: &str) -> Refusal {
    let (group, _) = api_version.split_once('/').unwrap_or(("", api_version));
    if group == "kustomize.config.k8s.io" {
        return kustomization(at);
    }
    let mut refusal = refusal(
        at,
        None,
        format!("no matches for kind \"{kind_name}\" in version \"{api_version}\""),
    );
    let successor = REMOVED
        .iter()
        .find(|(group, kinds, _)| *group == api_version && kinds.contains(&kind_name));
    if let Some((_, _, successor)) = successor {
        refusal.hint = Some(successor.to_string());
        return refusal;
    }
    let versions: Vec<String> = KINDS
        .iter()
        .filter(|info| info.name == kind_name)
        .map(|info| info.kind.api_version())
        .collect();
    if !versions.is_empty() {
        refusal.hint = Some(format!("did you mean apiVersion: {}?", Alternatives(&versions)));
        return refusal;
    }
    let names = KINDS.iter().filter(|info| info.group == group);
    refusal.hint = Some(match nearest(kind_name, names.map(|info| info.name)) {
        Some(near) => format!("did you mean kind: {near}?"),
        None => {
            let name = match group {
                "" => kind_name.to_owned(),
                group => format!("{group}/{kind_name}"),
            };
            format!(
                "Windlass does not run it; to pass it over, list {name} under 'foreign' in windlass.yaml"
            )
        }
    });
    refusal.foreign = Some((group.to_owned(), kind_name.to_owned()));
    refusal
}

/// What is said of a kustomization.
pub(super) fn kustomization(at: At) -> Refusal {
    let mut refusal = refusal(at, None, "this is a kustomization, and rendering is not built yet");
    refusal.hint = Some(
        "commit what `kubectl kustomize` prints, and list this directory in .windlassignore"
            .to_owned(),
    );
    refusal
}

/// What is said of a Helm chart that is not one directory among others.
pub(super) fn chart(at: At) -> Refusal {
    let mut refusal = refusal(
        at,
        None,
        "a chart can't be the root of what is followed, and is called Chart.yaml",
    );
    refusal.hint =
        Some("move it into a directory of its own, which gives the release its name".to_owned());
    refusal
}

/// What an API version that Kubernetes removed was replaced by.
#[derive(Clone, Copy, Debug)]
enum Successor {
    /// The same kind in another version.
    Use(&'static str),
    /// Nothing.
    Gone(&'static str),
}

impl std::fmt::Display for Successor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Use(version) => {
                write!(f, "Kubernetes removed this version; use apiVersion: {version}")
            }
            Self::Gone(since) => write!(f, "Kubernetes removed it in {since}, without a successor"),
        }
    }
}

use Successor::{Gone, Use};

/// <https://kubernetes.io/docs/reference/using-api/deprecation-guide/>
const REMOVED: &[(&str, &[&str], Successor)] = &[
    ("extensions/v1beta1", &["Deployment", "DaemonSet", "ReplicaSet"], Use("apps/v1")),
    ("extensions/v1beta1", &["Ingress", "NetworkPolicy"], Use("networking.k8s.io/v1")),
    ("extensions/v1beta1", &["PodSecurityPolicy"], Gone("1.25")),
    ("apps/v1beta1", &["Deployment", "StatefulSet", "ControllerRevision"], Use("apps/v1")),
    (
        "apps/v1beta2",
        &["Deployment", "StatefulSet", "DaemonSet", "ReplicaSet", "ControllerRevision"],
        Use("apps/v1"),
    ),
    ("networking.k8s.io/v1beta1", &["Ingress", "IngressClass"], Use("networking.k8s.io/v1")),
    (
        "rbac.authorization.k8s.io/v1beta1",
        &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"],
        Use("rbac.authorization.k8s.io/v1"),
    ),
    (
        "rbac.authorization.k8s.io/v1alpha1",
        &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"],
        Use("rbac.authorization.k8s.io/v1"),
    ),
    ("policy/v1beta1", &["PodDisruptionBudget"], Use("policy/v1")),
    ("policy/v1beta1", &["PodSecurityPolicy"], Gone("1.25")),
    ("batch/v1beta1", &["CronJob"], Use("batch/v1")),
    ("batch/v2alpha1", &["CronJob"], Use("batch/v1")),
    ("autoscaling/v2beta1", &["HorizontalPodAutoscaler"], Use("autoscaling/v2")),
    ("autoscaling/v2beta2", &["HorizontalPodAutoscaler"], Use("autoscaling/v2")),
    ("discovery.k8s.io/v1beta1", &["EndpointSlice"], Use("discovery.k8s.io/v1")),
    ("scheduling.k8s.io/v1beta1", &["PriorityClass"], Use("scheduling.k8s.io/v1")),
    ("scheduling.k8s.io/v1alpha1", &["PriorityClass"], Use("scheduling.k8s.io/v1")),
    ("storage.k8s.io/v1beta1", &["StorageClass", "CSIDriver"], Use("storage.k8s.io/v1")),
    ("coordination.k8s.io/v1beta1", &["Lease"], Use("coordination.k8s.io/v1")),
];
