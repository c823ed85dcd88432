//! Amounts that containers ask for.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use super::super::path::Path;
use super::Check;
use crate::kinds::container::{ResourceRef, Resources};
use crate::kinds::labels::label_key_complaint;
use crate::kinds::name::{Name, NameRule};
use crate::kinds::pod::ResourceList;
use crate::kinds::quantity::Quantity;

/// Resources without a domain that a container may ask for (`IsStandardContainerResourceName`).
const STANDARD: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

const HUGE_PAGES: &str = "hugepages-";

/// What Kubernetes keeps for itself among the domains of extended resources.
const OWN_DOMAIN: &str = "kubernetes.io";

fn is_extended(name: &str) -> bool {
    name.contains('/')
}

/// `ValidateContainerResourceRequirements`. A limit without a request counts as the request.
pub(super) fn resources(
    path: &Path<'_>,
    resources: &api::ResourceRequirements,
    check: &mut Check<'_, '_>,
) -> Resources {
    let limits_path = path.field("limits");
    let requests_path = path.field("requests");
    let limits = list(&limits_path, resources.limits.as_ref(), None, check);
    let given = list(&requests_path, resources.requests.as_ref(), Some(&limits), check);
    for (name, request) in &given {
        let path = requests_path.key(name);
        match limits.get(name) {
            Some(limit) if request > limit => {
                check.error(&path, format!("{request} is more than its limit, {limit}"));
            }
            Some(limit) if is_indivisible(name) && request != limit => {
                check.error(&path, format!("must equal its limit, {limit}"));
            }
            None if is_indivisible(name) => {
                check.error(&path, "needs a limit that equals it");
            }
            _ => {}
        }
    }
    let mut requests = given;
    for (name, limit) in &limits {
        requests.entry(name.clone()).or_insert(*limit);
    }
    Resources { requests, limits }
}

/// Whether it can't be overcommitted, so that what is asked is what may be used.
pub(super) fn is_indivisible(name: &str) -> bool {
    is_extended(name) || name.starts_with(HUGE_PAGES)
}

/// Amounts by name, each name known and each amount possible (`ValidateResourceQuantityValue`).
/// What is equal in `limits` was checked there, and may have been copied from there by default.
pub(super) fn list(
    path: &Path<'_>,
    amounts: Option<&BTreeMap<String, ApiQuantity>>,
    limits: Option<&ResourceList>,
    check: &mut Check<'_, '_>,
) -> ResourceList {
    let mut list = ResourceList::new();
    for (name, amount) in amounts.into_iter().flatten() {
        let path = path.key(name);
        let quantity = check.quantity(&path, amount);
        if limits.and_then(|limits| limits.get(name)) != Some(&quantity) {
            check_name(&path, name, check);
            check_amount(&path, name, quantity, check);
        }
        list.insert(name.clone(), quantity);
    }
    list
}

pub(super) fn check_name(path: &Path<'_>, name: &str, check: &mut Check<'_, '_>) {
    if STANDARD.contains(&name) || name.starts_with(HUGE_PAGES) {
        return;
    }
    if let Some(complaint) = label_key_complaint(name) {
        check.complain(path, name, Some(complaint));
    } else if !is_extended(name) {
        let message = format!("{name:?} is not a resource that containers can ask for");
        let nearest = super::nearest(name, STANDARD).unwrap_or("cpu");
        let hint =
            format!("did you mean {nearest:?}? Extended resources are named as in example.com/gpu");
        check.error_hint(path, message, hint);
    } else if name
        .split('/')
        .next()
        .is_some_and(|domain| domain == OWN_DOMAIN || domain.ends_with(".kubernetes.io"))
    {
        check.error(path, format!("{name:?}: names below {OWN_DOMAIN} are Kubernetes' own"));
    }
}

fn check_amount(path: &Path<'_>, name: &str, amount: Quantity, check: &mut Check<'_, '_>) {
    if amount.is_negative() {
        check.error(path, format!("{amount} must not be negative"));
    } else if is_extended(name) && !amount.is_whole() {
        check.error(path, format!("{amount} must be a whole number"));
    } else if name == "memory" && !amount.is_whole() {
        let message = format!("{amount} bytes of memory: 'm' means a thousandth, 'Mi' a million");
        check.warn(path, message);
    }
}

/// What a `resourceFieldRef` may name (`validateContainerResourceFieldSelector`).
const REFERABLE: [&str; 6] = [
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
];

/// `resourceFieldRef`; in a volume it must say whose, in a variable it is the container's own.
pub(super) fn resource_ref(
    path: &Path<'_>,
    reference: &api::ResourceFieldSelector,
    needs_container: bool,
    check: &mut Check<'_, '_>,
) -> ResourceRef {
    let container_path = path.field("containerName");
    let container: Option<Name> =
        check.name_if_given(&container_path, reference.container_name.as_deref(), NameRule::Label);
    if needs_container && container.is_none() {
        check.error(&container_path, "is required in a volume");
    }
    let resource = reference.resource.as_str();
    let resource_path = path.field("resource");
    let is_huge = resource
        .strip_prefix("limits.")
        .or_else(|| resource.strip_prefix("requests."))
        .is_some_and(|name| name.starts_with(HUGE_PAGES));
    if !is_huge {
        let words: Vec<(&str, ())> = REFERABLE.iter().map(|word| (*word, ())).collect();
        check.word(&resource_path, resource, &words);
    }
    let divisor_path = path.field("divisor");
    let divisor = reference
        .divisor
        .as_ref()
        .map(|divisor| check.quantity(&divisor_path, divisor))
        .filter(|divisor| !divisor.is_zero())
        .unwrap_or(Quantity::units(1));
    if !is_divisor(resource, divisor) {
        let allowed = if resource.ends_with("cpu") {
            "1m or 1"
        } else {
            "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi or 1Ei"
        };
        check.error(&divisor_path, format!("{divisor} must be {allowed}"));
    }
    ResourceRef { container, resource: resource.to_owned(), divisor }
}

/// `validContainerResourceDivisorForCPU` and its siblings.
fn is_divisor(resource: &str, divisor: Quantity) -> bool {
    let allowed: &[&str] = if resource.ends_with("cpu") {
        &["1m", "1"]
    } else {
        &["1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei"]
    };
    allowed.iter().any(|text| Quantity::parse(text).is_ok_and(|allowed| allowed == divisor))
}
