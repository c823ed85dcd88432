//! LimitRanges.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as api;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as ApiQuantity;

use super::super::path::Path;
use super::Check;
use super::resources::{check_name, is_indivisible, list};
use crate::kinds::limits::{LIMIT_TYPES, Limit, LimitOf, LimitRange};
use crate::kinds::object::Body;
use crate::kinds::pod::ResourceList;
use crate::kinds::quantity::Quantity;

/// The one resource that claims ask for.
const STORAGE: &str = "storage";

/// `ValidateLimitRange`.
pub(super) fn limit_range(range: api::LimitRange, check: &mut Check<'_, '_>) -> Body {
    let items = range.spec.unwrap_or_default().limits;
    let spec = Path::Root.field("spec");
    let path = spec.field("limits");
    let mut limits: Vec<Limit> = Vec::with_capacity(items.len());
    for (index, item) in items.iter().enumerate() {
        let path = path.index(index);
        let Some(limit) = limit(&path, item, check) else { continue };
        if limits.iter().any(|other| other.of == limit.of) {
            let message = format!("there is a limit of type {} already", item.type_);
            check.error(&path.field("type"), message);
        }
        limits.push(limit);
    }
    Body::LimitRange(Arc::new(LimitRange { limits }))
}

fn limit(path: &Path<'_>, item: &api::LimitRangeItem, check: &mut Check<'_, '_>) -> Option<Limit> {
    let of = check.word(&path.field("type"), &item.type_, &LIMIT_TYPES)?;
    let amounts = |field, given: &Option<_>, like: Option<&ResourceList>, check: &mut _| {
        let path = path.field(field);
        match of {
            LimitOf::Claim => storage(&path, given.as_ref(), check),
            _ => list(&path, given.as_ref(), like, check),
        }
    };
    let max = amounts("max", &item.max, None, check);
    let min = amounts("min", &item.min, Some(&max), check);
    // What follows from others by default was checked there.
    let default = amounts("default", &item.default, Some(&max), check);
    let mut before = min.clone();
    before.extend(default.clone());
    let default_request = amounts("defaultRequest", &item.default_request, Some(&before), check);
    let ratio = ratios(&path.field("maxLimitRequestRatio"), item, check);
    if of != LimitOf::Container {
        let given = [("default", &default), ("defaultRequest", &default_request)];
        for (field, _) in given.into_iter().filter(|(_, given)| !given.is_empty()) {
            check.error(&path.field(field), "is for type Container only");
        }
    }
    if of == LimitOf::Claim && !min.contains_key(STORAGE) && !max.contains_key(STORAGE) {
        check.error(path, "must say how much storage at least (min) or at most (max)");
    }
    let limit = Limit { of, min, max, default, default_request, ratio };
    agree(path, &limit, check);
    Some(limit)
}

/// What claims may ask for.
fn storage(
    path: &Path<'_>,
    given: Option<&BTreeMap<String, ApiQuantity>>,
    check: &mut Check<'_, '_>,
) -> ResourceList {
    let mut amounts = ResourceList::new();
    for (name, amount) in given.into_iter().flatten() {
        let path = path.key(name);
        let amount = check.quantity(&path, amount);
        if name != STORAGE {
            check.error(&path, "is not what claims ask for: that is storage");
        } else if amount.is_negative() {
            check.error(&path, format!("{amount} must not be negative"));
        }
        amounts.insert(name.clone(), amount);
    }
    amounts
}

fn ratios(path: &Path<'_>, item: &api::LimitRangeItem, check: &mut Check<'_, '_>) -> ResourceList {
    let mut ratios = ResourceList::new();
    for (name, ratio) in item.max_limit_request_ratio.iter().flatten() {
        let path = path.key(name);
        check_name(&path, name, check);
        let ratio = check.quantity(&path, ratio);
        if ratio < Quantity::units(1) {
            check.error(&path, format!("{ratio} is less than 1: no limit is below its request"));
        }
        ratios.insert(name.clone(), ratio);
    }
    ratios
}

/// What one limit says of a resource must not contradict itself.
fn agree(path: &Path<'_>, limit: &Limit, check: &mut Check<'_, '_>) {
    let Limit { min, max, default, default_request, ratio, .. } = limit;
    let pairs = [
        ("min", min, "max", max),
        ("min", min, "defaultRequest", default_request),
        ("defaultRequest", default_request, "max", max),
        ("defaultRequest", default_request, "default", default),
        ("min", min, "default", default),
        ("default", default, "max", max),
    ];
    for (lesser, less, greater, more) in pairs {
        for (name, least) in less {
            if let Some(most) = more.get(name).filter(|most| *most < least) {
                let message = format!("{least} is more than {greater}, {most}");
                check.error(&path.field(lesser).key(name), message);
            }
        }
    }
    for (name, request) in default_request {
        let limit = default.get(name).filter(|limit| is_indivisible(name) && *limit != request);
        if let Some(limit) = limit {
            let message = format!("must equal default, {limit}");
            check.error(&path.field("defaultRequest").key(name), message);
        }
    }
    for (name, ratio) in ratio {
        let bounds = min.get(name).zip(max.get(name));
        if let Some((min, max)) = bounds.filter(|(min, max)| max.cmp_times(ratio, min).is_lt()) {
            let message = format!("{ratio} times the min, {min}, is more than the max, {max}");
            check.error(&path.field("maxLimitRequestRatio").key(name), message);
        }
    }
}
