//! Who is served first: the more important, then the older.

use std::collections::BTreeMap;

use crate::kinds::name::Name;
use crate::kinds::object::Body;
use crate::kinds::pod::PodSpec;
use crate::kinds::registry::Kind;
use crate::kinds::workload::PriorityClass;

use super::super::work::Work;

/// The classes that exist by themselves (`SystemPriorityClasses`).
const SYSTEM: [(&str, i32); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

/// What each PriorityClass in force is worth.
#[derive(Debug, Default)]
pub(super) struct Priorities {
    by_class: BTreeMap<Name, PriorityClass>,
    /// For pods that name no class, if there is such a class.
    default: Option<PriorityClass>,
}

impl Priorities {
    pub(super) fn of(work: &Work) -> Self {
        let mut priorities = Self::default();
        for (name, value) in SYSTEM {
            let class = PriorityClass { value, is_default: false, preempts: true };
            priorities.by_class.insert(Name::trusted(name), class);
        }
        for revision in work.revisions.values() {
            for (key, object) in &revision.desired.objects {
                if key.kind == Kind::PriorityClass
                    && let Body::PriorityClass(class) = &object.body
                {
                    priorities.by_class.insert(key.name.clone(), *class);
                    if class.is_default {
                        priorities.default = Some(*class);
                    }
                }
            }
        }
        priorities
    }

    /// A class that is not in force any more counts as none.
    pub(super) fn of_pod(&self, spec: &PodSpec) -> i32 {
        self.class_of(spec).map_or(0, |class| class.value)
    }

    /// Whether a pod may push lesser ones off a node: its class and the pod itself may forbid it.
    pub(super) fn preempts(&self, spec: &PodSpec) -> bool {
        spec.preempts && self.class_of(spec).is_none_or(|class| class.preempts)
    }

    fn class_of(&self, spec: &PodSpec) -> Option<&PriorityClass> {
        let class = spec.priority_class.as_ref();
        class.and_then(|class| self.by_class.get(class)).or(self.default.as_ref())
    }
}
