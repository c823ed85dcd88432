//! What Helm would do with a rendered manifest, and `kubectl apply` would not: hooks.
//!
//! <https://helm.sh/docs/topics/charts_hooks/>. A hook that comes before a release or after it becomes an
//! object of a wave before the others or after them, by its weight; hooks of tests, of deletions and of
//! returns are left out, since no commit asks for them.

use std::borrow::Cow;

use super::super::tree::{At, Entry, Node, Value};
use super::super::yaml::Document;
use crate::kinds::object::WAVE_ANNOTATIONS;

/// What makes an object a hook: names of moments, with commas between.
const HOOK: &str = "helm.sh/hook";
/// Which of several hooks of a moment comes first.
const WEIGHT: &str = "helm.sh/hook-weight";

/// Hooks come this far before and after what is in wave 0, so that waves that somebody names stay
/// between them.
const DISTANCE: i32 = 10_000;

/// What becomes of a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Wave(i32),
    LeftOut,
}

fn fate(moments: &str, weight: i32) -> Fate {
    let weight = weight.clamp(1 - DISTANCE, DISTANCE - 1);
    let has = |moment: &str| moments.split(',').any(|said| said.trim() == moment);
    // What the first release does decides: a migration that Helm runs after an install waits for a
    // database of the same chart.
    [
        ("crd-install", -2 * DISTANCE),
        ("pre-install", weight - DISTANCE),
        ("post-install", weight + DISTANCE),
        ("pre-upgrade", weight + DISTANCE),
        ("post-upgrade", weight + DISTANCE),
    ]
    .into_iter()
    .find(|(moment, _)| has(moment))
    .map_or(Fate::LeftOut, |(_, wave)| Fate::Wave(wave))
}

/// Sets every place in a document to the line of the template that it was rendered from, and gives a hook
/// its wave; one that is left out leaves nothing.
pub(in crate::desired) fn settle(document: &mut Document<'_>, lines: &[u32]) {
    for problem in &mut document.problems {
        problem.at = moved(problem.at, lines);
    }
    let Some(root) = &mut document.root else { return };
    relocate(root, lines);
    if !hook(root) {
        document.root = None;
    }
}

/// Gives a hook its wave; whether the object is kept.
fn hook(root: &mut Node<'_>) -> bool {
    let Some(annotations) = root.get_mut("metadata").and_then(|meta| meta.get_mut("annotations"))
    else {
        return true;
    };
    let Some(moments) = annotations.get_text(HOOK) else { return true };
    let weight = match annotations.get(WEIGHT).map(|node| &node.value) {
        Some(Value::Text(text)) => text.trim().parse().unwrap_or(0),
        Some(Value::Int(weight, _)) => i32::try_from(*weight).unwrap_or(0),
        _ => 0,
    };
    let Fate::Wave(wave) = fate(moments, weight) else { return false };
    let at = annotations.at;
    if let Some(entries) = annotations.as_map_mut()
        && !entries.iter().any(|entry| WAVE_ANNOTATIONS.contains(&&*entry.key))
    {
        let node = Node::text(at, wave.to_string());
        entries.push(Entry { key: Cow::Borrowed(WAVE_ANNOTATIONS[0]), at, node });
    }
    true
}

/// The place in the template of a place in what it became; columns don't survive.
fn moved(at: At, lines: &[u32]) -> At {
    let index = usize::try_from(at.line).unwrap_or(usize::MAX).saturating_sub(1);
    At { line: lines.get(index).or(lines.last()).copied().unwrap_or(0), column: 0 }
}

fn relocate(node: &mut Node<'_>, lines: &[u32]) {
    node.at = moved(node.at, lines);
    match &mut node.value {
        Value::List(items) => items.iter_mut().for_each(|item| relocate(item, lines)),
        Value::Map(entries) => {
            for entry in entries {
                entry.at = moved(entry.at, lines);
                relocate(&mut entry.node, lines);
            }
        }
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_comes_in_a_wave_or_not_at_all() {
        let table = [
            ("pre-install,pre-upgrade", -5, Fate::Wave(-10_005)),
            ("post-install", 0, Fate::Wave(10_000)),
            ("pre-delete", 0, Fate::LeftOut),
            ("test", 0, Fate::LeftOut),
            ("test-success, post-upgrade", 99_999, Fate::Wave(19_999)),
            ("pre-upgrade,post-install", 1, Fate::Wave(10_001)),
            ("pre-upgrade", 0, Fate::Wave(10_000)),
            ("post-rollback", 0, Fate::LeftOut),
        ];
        for (moments, weight, expected) in table {
            assert_eq!(fate(moments, weight), expected, "{moments}");
        }
    }
}
