//! ResourceQuotas, with what manifests ask for of what they allow.

use serde_json::{Map, Value, json};

use super::{Shown, meta};
use crate::desired::quota_used;
use crate::kinds::object::Object;
use crate::kinds::quantity::Quantity;
use crate::kinds::registry::Kind;
use crate::view::picture::{Found, Picture};

pub(super) fn list(picture: &Picture) -> Vec<Shown> {
    let quotas = picture.objects_of(Kind::ResourceQuota);
    quotas.map(|found| quota(picture, &found)).collect()
}

fn quota(picture: &Picture, found: &Found<'_>) -> Shown {
    let mut object = meta::written(found);
    let applied: Vec<_> = picture.apps.values().filter_map(|app| app.applied.as_ref()).collect();
    let objects = applied.iter().flat_map(|revision| revision.desired.objects.values());
    let objects: Vec<&Object> = objects.map(|object| &**object).collect();
    let used = quota_used(found.object, &objects);
    let texts = |amount: &Quantity| Value::from(amount.to_string());
    let used: Map<String, Value> =
        used.iter().map(|(name, amount)| (name.clone(), texts(amount))).collect();
    let hard = object.get("spec").and_then(|spec| spec.get("hard")).and_then(Value::as_object);
    let text = |amount: &Value| amount.as_str().map_or_else(|| amount.to_string(), str::to_owned);
    let hard: Map<String, Value> = hard
        .into_iter()
        .flatten()
        .map(|(name, amount)| (name.clone(), Value::from(text(amount))))
        .collect();
    object.insert("status".into(), json!({"hard": hard, "used": used}));
    Shown::new(found.object.key.clone(), Value::Object(object))
}
