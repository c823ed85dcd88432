//! ResourceQuotas.

use std::sync::Arc;

use k8s_openapi::api::core::v1 as api;

use super::super::path::Path;
use super::super::tree::quoted;
use super::Check;
use crate::kinds::object::Body;
use crate::kinds::quantity::Quantity;
use crate::kinds::quota::{Ceiling, Measure, Quota, Scope};

/// `ValidateResourceQuota`.
pub(super) fn quota(quota: api::ResourceQuota, check: &mut Check<'_, '_>) -> Body {
    let spec = quota.spec.unwrap_or_default();
    let path = Path::Root.field("spec");
    let mut scopes = Vec::new();
    let named = path.field("scopes");
    for (index, text) in spec.scopes.iter().flatten().enumerate() {
        match Scope::parse(text) {
            Some(scope) => scopes.push(scope),
            None => check.error(&named.index(index), format!("{} is not judged yet", quoted(text))),
        }
    }
    let mut hard = Vec::new();
    let amounts = path.field("hard");
    for (name, amount) in spec.hard.into_iter().flatten() {
        let path = amounts.key(&name);
        match (Measure::parse(&name), Quantity::parse(&amount.0)) {
            (_, Err(complaint)) => check.error(&path, complaint),
            (_, Ok(hard)) if hard.is_negative() => check.error(&path, "must not be negative"),
            (None, _) => check.error(&path, "is not something that is counted"),
            (Some(measure), _) if !scopes.is_empty() && !measure.is_of_pods() => {
                check.error(&path, "is not of pods, which alone scopes divide");
            }
            (Some(measure), Ok(amount)) => hard.push(Ceiling { name, measure, hard: amount }),
        }
    }
    Body::Quota(Arc::new(Quota { hard, scopes }))
}
