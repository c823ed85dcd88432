//! What all renderings of a set may use up: work, counted in steps, and memory.

use std::cell::Cell;

use super::super::value::Value;

/// How many nodes and commands all renderings of a set may execute. The largest charts take some hundred
/// thousands.
const STEPS_MAX: usize = 5_000_000;
/// What a function returns takes a step for so many bytes of text or items, as it takes memory.
pub(super) const TEXT_A_STEP: usize = 256;
pub(super) const ITEMS_A_STEP: usize = 8;

/// Functions that go through all of what they are given.
const DEEP: [&str; 24] = [
    "deepCopy",
    "deepEqual",
    "fromJson",
    "fromJsonArray",
    "fromYaml",
    "fromYamlArray",
    "has",
    "merge",
    "mergeOverwrite",
    "mustDeepCopy",
    "mustFromJson",
    "mustHas",
    "mustMerge",
    "mustMergeOverwrite",
    "mustToJson",
    "mustToYaml",
    "mustUniq",
    "mustWithout",
    "toJson",
    "toToml",
    "toYaml",
    "toYamlPretty",
    "uniq",
    "without",
];
/// What is in them is counted up to so many values.
const DEEP_MAX: usize = 1_000_000;
/// How many bytes of texts and lists functions may make for all renderings of a set, whether or not they
/// are still held: as much memory as an agent may lose to a chart for a moment.
const MADE_MAX: usize = 256 << 20;
/// What an item of a list takes.
const ITEM_BYTES: usize = 32;
/// Values are looked at as deep as this.
const DEPTH_MAX: usize = 256;

/// What is left, as what is gone.
#[derive(Debug, Default)]
pub(super) struct Budget {
    steps: Cell<usize>,
    made: Cell<usize>,
}

impl Budget {
    pub(super) fn spend(&self, steps: usize) -> Result<(), String> {
        self.steps.set(self.steps.get().saturating_add(steps));
        if self.steps.get() > STEPS_MAX {
            return Err(format!("the chart's templates take more than {STEPS_MAX} steps"));
        }
        Ok(())
    }

    /// Counts what a function has made.
    pub(super) fn make(&self, value: &Value) -> Result<(), String> {
        let bytes = match value {
            Value::Text(text) => text.len(),
            Value::List(items) => items.len().saturating_mul(ITEM_BYTES),
            Value::Map(entries) => entries.borrow().len().saturating_mul(2 * ITEM_BYTES),
            _ => 0,
        };
        self.made.set(self.made.get().saturating_add(bytes));
        if self.made.get() > MADE_MAX {
            return Err(format!("the chart's templates make more than {} MiB", MADE_MAX >> 20));
        }
        Ok(())
    }
}

/// In steps, what a function's arguments cost it. What is read takes time; what is taken apart, or put
/// together, all that is in it.
pub(super) fn cost(name: &str, values: &[Value]) -> usize {
    let is_deep = DEEP.contains(&name);
    let each = values.iter().map(|value| match value {
        Value::Text(text) if is_deep => text.len() / ITEMS_A_STEP,
        Value::Text(text) => text.len() / TEXT_A_STEP,
        value if is_deep => {
            let mut left = DEEP_MAX;
            value.weight(&mut left, DEPTH_MAX) / ITEMS_A_STEP
        }
        Value::List(items) => items.len() / ITEMS_A_STEP,
        _ => 0,
    });
    each.fold(0, usize::saturating_add)
}
