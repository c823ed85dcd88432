//! Nodes as an operator wishes them, and priority classes.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::scheduling::v1 as scheduling;

use super::super::path::Path;
use super::affinity::EFFECTS;
use super::{Check, Meta};
use crate::kinds::certified::{ANNOTATION_NODE_KEY, key_complaint};
use crate::kinds::labels::label_value_complaint;
use crate::kinds::name::Name;
use crate::kinds::node::NodeWish;
use crate::kinds::object::Body;
use crate::kinds::pod::{Taint, TaintEffect};
use crate::kinds::workload::{PriorityClass, SYSTEM_CLASSES};

/// `ValidateNode`.
pub(super) fn node(node: core::Node, meta: &Meta, check: &mut Check<'_, '_>) -> Body {
    let spec = node.spec.unwrap_or_default();
    let spec_path = Path::Root.field("spec");
    let taints_path = spec_path.field("taints");
    let mut seen = BTreeSet::new();
    let mut taints = Vec::new();
    for (index, taint) in spec.taints.iter().flatten().enumerate() {
        let path = taints_path.index(index);
        check.label_key(&path.field("key"), &taint.key);
        let value = taint.value.clone().unwrap_or_default();
        check.complain(&path.field("value"), &value, label_value_complaint(&value));
        let effect = check.word(&path.field("effect"), &taint.effect, EFFECTS);
        if !seen.insert((&taint.key, &taint.effect)) {
            check.error(&path, "has the key and effect of another taint");
        }
        taints.push(Taint {
            key: taint.key.clone(),
            value,
            effect: effect.unwrap_or(TaintEffect::NoSchedule),
        });
    }
    let key = meta.annotations.get(ANNOTATION_NODE_KEY);
    if let Some(key) = key {
        let annotations = Path::Root.field("metadata");
        let annotations = annotations.field("annotations");
        check.complain(&annotations.key(ANNOTATION_NODE_KEY), key, key_complaint(key));
    }
    Body::Node(Arc::new(NodeWish {
        labels: meta.labels.clone(),
        annotations: meta.annotations.clone(),
        taints,
        unschedulable: spec.unschedulable.unwrap_or(false),
        key: key.cloned(),
    }))
}

/// The highest priority that a class of one's own may have, `HighestUserDefinablePriority`.
const PRIORITY_MAX: i32 = 1_000_000_000;

/// `ValidatePriorityClass`.
#[allow(clippy::needless_pass_by_value, reason = "all conversions take their object")]
pub(super) fn priority_class(
    class: scheduling::PriorityClass,
    name: &Name,
    check: &mut Check<'_, '_>,
) -> Body {
    let value = class.value.unwrap_or_default();
    let value_path = Path::Root.field("value");
    let known = SYSTEM_CLASSES.iter().find(|(known, _)| *name == *known);
    if name.as_str().starts_with("system-") {
        if known.is_none_or(|(_, known)| *known != value) {
            let metadata = Path::Root.field("metadata");
            let message = "names that begin with 'system-' are Kubernetes' own";
            check.error(&metadata.field("name"), message);
        }
    } else if value > PRIORITY_MAX {
        check.error(&value_path, format!("{value} is more than {PRIORITY_MAX}"));
    }
    let policies = [("PreemptLowerPriority", true), ("Never", false)];
    let policy = class.preemption_policy.as_deref();
    let policy_path = Path::Root.field("preemptionPolicy");
    Body::PriorityClass(PriorityClass {
        value,
        is_default: class.global_default.unwrap_or(false),
        preempts: check.word_or(&policy_path, policy, &policies, true),
    })
}
