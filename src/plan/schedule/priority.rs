//! Who is served first: the more important, then the older.

use std::collections::BTreeMap;

use crate::kinds::name::Name;
use crate::kinds::object::Body;
use crate::kinds::pod::PodSpec;
use crate::kinds::registry::Kind;

use super::super::work::Work;

/// The classes that exist by themselves (`SystemPriorityClasses`).
const SYSTEM: [(&str, i32); 2] =
    [("system-cluster-critical", 2_000_000_000), ("system-node-critical", 2_000_001_000)];

/// What each PriorityClass in force is worth.
#[derive(Debug, Default)]
pub(super) struct Priorities {
    by_class: BTreeMap<Name, i32>,
    /// For pods that name no class.
    default: i32,
}

impl Priorities {
    pub(super) fn of(work: &Work) -> Self {
        let mut priorities = Self::default();
        for (name, value) in SYSTEM {
            priorities.by_class.insert(Name::trusted(name), value);
        }
        for revision in work.revisions.values() {
            for (key, object) in &revision.desired.objects {
                if key.kind == Kind::PriorityClass
                    && let Body::PriorityClass(class) = &object.body
                {
                    priorities.by_class.insert(key.name.clone(), class.value);
                    if class.is_default {
                        priorities.default = class.value;
                    }
                }
            }
        }
        priorities
    }

    /// A class that is not in force any more counts as none.
    pub(super) fn of_pod(&self, spec: &PodSpec) -> i32 {
        let class = spec.priority_class.as_ref();
        class.and_then(|class| self.by_class.get(class)).copied().unwrap_or(self.default)
    }
}
