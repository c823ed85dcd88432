//! Volumes that outlive their pods, claims for them, and the classes by which they are made.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as api;
use k8s_openapi::api::storage::v1 as storage;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::super::path::Path;
use super::super::tree::quoted;
use super::affinity::node_selector;
use super::meta::check_annotations;
use super::selector::selector;
use super::volume::host_path;
use super::{Check, Meta};
use crate::kinds::labels::Requirement;
use crate::kinds::name::{Name, NameRule};
use crate::kinds::object::Body;
use crate::kinds::pod::NodeTerm;
use crate::kinds::quantity::Quantity;
use crate::kinds::storage::{
    AccessMode, ClaimSpec, ClaimTemplate, ClassChoice, LOCAL_PATH_PROVISIONER, Medium,
    PersistentVolume, Provisioner, Reclaim, StorageClass,
};
use crate::kinds::volume::{HostPathKind, VolumeSource};

const MODES: &[(&str, AccessMode)] = &[
    ("ReadWriteOnce", AccessMode::ReadWriteOnce),
    ("ReadOnlyMany", AccessMode::ReadOnlyMany),
    ("ReadWriteMany", AccessMode::ReadWriteMany),
    ("ReadWriteOncePod", AccessMode::ReadWriteOncePod),
];

/// `ValidatePersistentVolumeClaim`.
pub(super) fn claim(claim: api::PersistentVolumeClaim, check: &mut Check<'_, '_>) -> Body {
    let spec = claim.spec.unwrap_or_default();
    Body::Claim(Arc::new(claim_spec(&Path::Root.field("spec"), &spec, check)))
}

/// `ValidatePersistentVolumeClaimSpec`: what a claim asks for, whether it stands by itself or in a
/// StatefulSet. `path` is that of the spec.
pub(super) fn claim_spec(
    path: &Path<'_>,
    spec: &api::PersistentVolumeClaimSpec,
    check: &mut Check<'_, '_>,
) -> ClaimSpec {
    let modes = modes(&path.field("accessModes"), spec.access_modes.as_deref(), check);
    volume_mode(&path.field("volumeMode"), spec.volume_mode.as_deref(), check);
    let class_path = path.field("storageClassName");
    let class = match spec.storage_class_name.as_deref() {
        None => ClassChoice::Default,
        Some("") => ClassChoice::None,
        Some(name) => ClassChoice::Named(check.name(&class_path, name, NameRule::Subdomain)),
    };
    let resources_path = path.field("resources");
    let requests_path = resources_path.field("requests");
    let storage_path = requests_path.key("storage");
    let requests = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    let request = match requests.and_then(|requests| requests.get("storage")) {
        Some(amount) => check.quantity(&storage_path, amount),
        None => {
            check.error(&storage_path, "is required: how large the volume must be at least");
            Quantity::ZERO
        }
    };
    if requests.is_some_and(|requests| requests.contains_key("storage"))
        && (request.is_zero() || request.is_negative())
    {
        check.error(&storage_path, format!("{request} must be more than nothing"));
    }
    let limits = spec.resources.as_ref().and_then(|resources| resources.limits.as_ref());
    if let Some(limit) = limits.and_then(|limits| limits.get("storage")) {
        let limits_path = resources_path.field("limits");
        let limit = check.quantity(&limits_path.key("storage"), limit);
        if limit < request {
            let message = format!("{limit} is less than the request, {request}");
            check.error(&limits_path.key("storage"), message);
        }
    }
    let selector =
        spec.selector.as_ref().map(|given| selector(&path.field("selector"), given, check));
    let volume_path = path.field("volumeName");
    let volume =
        check.name_if_given(&volume_path, spec.volume_name.as_deref(), NameRule::Subdomain);
    ClaimSpec { class, request, modes, selector, volume }
}

/// A claim that pods have for themselves. `path` is that of the template.
pub(super) fn claim_template(
    path: &Path<'_>,
    name: Name,
    metadata: ObjectMeta,
    spec: &api::PersistentVolumeClaimSpec,
    check: &mut Check<'_, '_>,
) -> ClaimTemplate {
    let metadata_path = path.field("metadata");
    let labels = metadata.labels.unwrap_or_default();
    check.labels(&metadata_path.field("labels"), &labels);
    let annotations = metadata.annotations.unwrap_or_default();
    check_annotations(&metadata_path.field("annotations"), &annotations, check);
    let spec = claim_spec(&path.field("spec"), spec, check);
    ClaimTemplate { name, labels, annotations, spec }
}

/// `ValidateAccessModes`: at least one, each known, and `ReadWriteOncePod` with no other.
fn modes(path: &Path<'_>, modes: Option<&[String]>, check: &mut Check<'_, '_>) -> Vec<AccessMode> {
    let modes = modes.unwrap_or_default();
    if modes.is_empty() {
        check.error(path, "needs at least one access mode, for example ReadWriteOnce");
    }
    let words = modes.iter().enumerate();
    let mut known: Vec<AccessMode> =
        words.filter_map(|(index, mode)| check.word(&path.index(index), mode, MODES)).collect();
    if known.contains(&AccessMode::ReadWriteOncePod) && modes.len() > 1 {
        check.error(path, "ReadWriteOncePod can't stand beside other modes");
    }
    known.sort();
    known.dedup();
    known
}

fn volume_mode(path: &Path<'_>, mode: Option<&str>, check: &mut Check<'_, '_>) {
    match mode {
        Some("Block") => check.error(path, "raw block devices are not supported; use Filesystem"),
        Some(other) => {
            check.word(path, other, &[("Filesystem", ())]);
        }
        None => {}
    }
}

/// `ValidatePersistentVolume`.
pub(super) fn volume(volume: api::PersistentVolume, check: &mut Check<'_, '_>) -> Body {
    let spec = volume.spec.unwrap_or_default();
    let path = Path::Root.field("spec");
    let modes = modes(&path.field("accessModes"), spec.access_modes.as_deref(), check);
    volume_mode(&path.field("volumeMode"), spec.volume_mode.as_deref(), check);
    let class = check.name_if_given(
        &path.field("storageClassName"),
        spec.storage_class_name.as_deref(),
        NameRule::Subdomain,
    );
    let capacity_path = path.field("capacity");
    let storage_path = capacity_path.key("storage");
    let capacity = match spec.capacity.as_ref().and_then(|amounts| amounts.get("storage")) {
        Some(amount) => check.quantity(&storage_path, amount),
        None => {
            check.error(&storage_path, "is required: how much the volume holds");
            Quantity::ZERO
        }
    };
    let affinity_path = path.field("nodeAffinity");
    let required = spec.node_affinity.as_ref().and_then(|affinity| affinity.required.as_ref());
    let nodes =
        required.map(|required| node_selector(&affinity_path.field("required"), required, check));
    let medium = medium(&path, &spec, check);
    if spec.local.is_some() && nodes.is_none() {
        let message = "is required for a local volume: which node has it";
        check.error(&affinity_path.field("required"), message);
    }
    let claim = spec.claim_ref.as_ref().map(|claim| {
        let path = path.field("claimRef");
        let part = |name: &str, text: &Option<String>, rule, check: &mut Check<'_, '_>| {
            check.name(&path.field(name), text.as_deref().unwrap_or_default(), rule)
        };
        let namespace = part("namespace", &claim.namespace, NameRule::Label, check);
        (namespace, part("name", &claim.name, NameRule::Subdomain, check))
    });
    let policy_path = path.field("persistentVolumeReclaimPolicy");
    let policy = spec.persistent_volume_reclaim_policy.as_deref();
    let reclaim = reclaim(&policy_path, policy, check);
    if reclaim == Reclaim::Delete {
        check.warn(&policy_path, "has no effect: what Windlass did not make it does not remove");
    }
    Body::Volume(Arc::new(PersistentVolume {
        class,
        capacity,
        modes,
        medium,
        nodes,
        claim,
        reclaim,
    }))
}

fn reclaim(path: &Path<'_>, policy: Option<&str>, check: &mut Check<'_, '_>) -> Reclaim {
    if policy == Some("Recycle") {
        check.error_hint(path, "is not supported: 'Recycle' is no more", "write Retain or Delete");
        return Reclaim::Retain;
    }
    let words = [("Retain", Reclaim::Retain), ("Delete", Reclaim::Delete)];
    check.word_or(path, policy, &words, Reclaim::Retain)
}

/// Where the data of a volume is: exactly one of the sources.
fn medium(path: &Path<'_>, spec: &api::PersistentVolumeSpec, check: &mut Check<'_, '_>) -> Medium {
    let mut found = Vec::new();
    if let Some(given) = &spec.host_path
        && let VolumeSource::HostPath { path, kind } =
            host_path(&path.field("hostPath"), given, check)
    {
        found.push(Medium::Path { path, kind });
    }
    if let Some(local) = &spec.local {
        absolute(&path.field("local").field("path"), &local.path, check);
        found.push(Medium::Path { path: local.path.clone(), kind: HostPathKind::Directory });
    }
    if let Some(nfs) = &spec.nfs {
        found.push(self::nfs(&path.field("nfs"), nfs, spec.mount_options.as_deref(), check));
    } else if spec.mount_options.as_ref().is_some_and(|options| !options.is_empty()) {
        check.error(&path.field("mountOptions"), "can be given to nfs volumes only");
    }
    match found.len() {
        0 => check.error(path, "has no type that is supported: hostPath, local or nfs"),
        1 => {}
        _ => check.error(path, "can be of one type only"),
    }
    let nowhere = Medium::Path { path: String::new(), kind: HostPathKind::Unchecked };
    found.pop().unwrap_or(nowhere)
}

/// Docker's own driver mounts it, on the node that uses it.
fn nfs(
    path: &Path<'_>,
    nfs: &api::NFSVolumeSource,
    mount_options: Option<&[String]>,
    check: &mut Check<'_, '_>,
) -> Medium {
    absolute(&path.field("path"), &nfs.path, check);
    let is_plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
    if nfs.server.is_empty() || !nfs.server.chars().all(is_plain) {
        let message = format!("{} is not a host name or an address", quoted(&nfs.server));
        check.error(&path.field("server"), message);
    }
    let mut words = vec![format!("addr={}", nfs.server)];
    if nfs.read_only == Some(true) {
        words.push("ro".to_owned());
    }
    words.extend(mount_options.unwrap_or_default().iter().cloned());
    let options =
        [("type", "nfs".to_owned()), ("o", words.join(",")), ("device", format!(":{}", nfs.path))];
    Medium::Docker {
        name: String::new(),
        driver: "local".to_owned(),
        options: options.map(|(key, value)| (key.to_owned(), value)).into(),
    }
}

fn absolute(path: &Path<'_>, text: &str, check: &mut Check<'_, '_>) {
    if !text.starts_with('/') || text.split('/').any(|part| part == "..") {
        let message = format!("{} must be an absolute path without '..'", quoted(text));
        check.error(path, message);
    }
}

/// Which claims have this class though they name none (`IsDefaultStorageClassAnnotation`); the second
/// is its old name.
const IS_DEFAULT: [&str; 2] = [
    "storageclass.kubernetes.io/is-default-class",
    "storageclass.beta.kubernetes.io/is-default-class",
];

/// Provisioners whose volumes are directories of the node: ours, and those whose classes people
/// bring from small clusters.
const LOCAL_PATH: [&str; 5] = [
    LOCAL_PATH_PROVISIONER,
    "rancher.io/local-path",
    "k8s.io/minikube-hostpath",
    "docker.io/hostpath",
    "microk8s.io/hostpath",
];

/// Volumes that stand in the repository.
const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// Volumes made by a driver of Docker's, whose name is the parameter [`DRIVER`].
const DOCKER: &str = "windlass.dev/docker-volume";
const DRIVER: &str = "driver";

/// `ValidateStorageClass`.
#[allow(clippy::needless_pass_by_value, reason = "all conversions take their object")]
pub(super) fn class(class: storage::StorageClass, meta: &Meta, check: &mut Check<'_, '_>) -> Body {
    let modes = [("Immediate", false), ("WaitForFirstConsumer", true)];
    let mode_path = Path::Root.field("volumeBindingMode");
    let waits = check.word_or(&mode_path, class.volume_binding_mode.as_deref(), &modes, false);
    let policy = class.reclaim_policy.as_deref();
    let reclaim = reclaim(&Path::Root.field("reclaimPolicy"), policy, check);
    let is_default =
        IS_DEFAULT.iter().any(|key| meta.annotations.get(*key).is_some_and(|on| on == "true"));
    let provisioner = provisioner(&class, check);
    let mut made = StorageClass {
        provisioner,
        reclaim,
        waits,
        is_default,
        nodes: topologies(class.allowed_topologies.as_deref(), check),
    };
    if made.is_local() && !waits {
        let message = "has no effect here: a volume of this class is made on the node of the \
                       claim's first pod, as with WaitForFirstConsumer";
        check.warn(&mode_path, message);
        made.waits = true;
    }
    Body::StorageClass(Arc::new(made))
}

fn provisioner(class: &storage::StorageClass, check: &mut Check<'_, '_>) -> Provisioner {
    let path = Path::Root.field("provisioner");
    let parameters_path = Path::Root.field("parameters");
    let given: BTreeMap<String, String> = class.parameters.clone().unwrap_or_default();
    let name = class.provisioner.as_str();
    if name == DOCKER {
        let mut options = given;
        let Some(driver) = options.remove(DRIVER).filter(|driver| !driver.is_empty()) else {
            let message = "is required: the name of Docker's volume driver";
            check.error(&parameters_path.key(DRIVER), message);
            return Provisioner::Nobody;
        };
        return Provisioner::Docker { driver, options };
    }
    for key in given.keys() {
        check.warn(
            &parameters_path.key(key),
            format!("has no effect: {name} knows no parameters here"),
        );
    }
    if LOCAL_PATH.contains(&name) {
        return Provisioner::LocalPath;
    }
    if name != NO_PROVISIONER {
        check.error_hint(
            &path,
            format!("{} is not known: Windlass makes no volumes with it", quoted(name)),
            format!(
                "use {LOCAL_PATH_PROVISIONER} (a directory on the pod's node), {DOCKER} (a volume \
                 driver of Docker's), or {NO_PROVISIONER} with PersistentVolumes of your own"
            ),
        );
    }
    Provisioner::Nobody
}

/// `validateAllowedTopologies`.
fn topologies(
    terms: Option<&[api::TopologySelectorTerm]>,
    check: &mut Check<'_, '_>,
) -> Option<Vec<NodeTerm>> {
    let path = Path::Root.field("allowedTopologies");
    let terms = terms.filter(|terms| !terms.is_empty())?;
    let mut made = Vec::new();
    for (index, term) in terms.iter().enumerate() {
        let path = path.index(index);
        let list_path = path.field("matchLabelExpressions");
        let mut labels = Vec::new();
        for (index, wanted) in term.match_label_expressions.iter().flatten().enumerate() {
            let path = list_path.index(index);
            check.label_key(&path.field("key"), &wanted.key);
            if wanted.values.is_empty() {
                check.error(&path.field("values"), "needs at least one value");
            }
            let values = wanted.values.iter().cloned().collect();
            labels.push(Requirement::In(wanted.key.clone(), values));
        }
        made.push(NodeTerm { labels, fields: Vec::new() });
    }
    Some(made)
}
