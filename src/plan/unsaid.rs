//! What a turn changed and nobody put into words: bookkeeping, said briefly, so that no decision stands
//! in the history without its reason.

use std::collections::BTreeSet;
use std::fmt::Display;

use crate::kinds::name::PodKey;
use crate::kinds::registry::Kind;
use crate::state::State;

/// So many names are listed; the rest are counted.
const NAMES_MAX: usize = 5;

/// How such a line begins.
pub const RECORDS: &str = "records:";

/// Says what differs, in one line, most telling first.
pub(super) fn differences(before: &State, after: &State) -> String {
    let mut said = conditions(before, after);
    let keys = |state: &State| -> BTreeSet<PodKey> {
        state.all_pods().map(|(_, pod)| pod.key.clone()).collect()
    };
    let kept = keys(after);
    let gone: Vec<PodKey> = keys(before).into_iter().filter(|key| !kept.contains(key)).collect();
    said.extend(listed("nothing is left of pod", &gone));
    let nodes: Vec<_> = after
        .nodes
        .iter()
        .filter(|(name, node)| before.nodes.get(*name) != Some(*node))
        .map(|(name, _)| name)
        .collect();
    said.extend(listed("kept of node", &nodes));
    if before.answered != after.answered {
        said.push("requests that were carried out are struck off".to_owned());
    }
    let rest = said.len().saturating_sub(NAMES_MAX);
    said.truncate(NAMES_MAX);
    if rest > 0 {
        said.push(format!("and {rest} more"));
    }
    if said.is_empty() {
        said.push("kept".to_owned());
    }
    format!("{RECORDS} {}", said.join("; "))
}

/// What is newly the case with Deployments.
fn conditions(before: &State, after: &State) -> Vec<String> {
    let mut lines = Vec::new();
    for (app, state) in &after.apps {
        let known = before.apps.get(app);
        for (key, record) in &state.deployments {
            let old = known.and_then(|app| app.deployments.get(key));
            let pairs = [
                (&record.available, old.map(|old| &old.available)),
                (&record.progressing, old.map(|old| &old.progressing)),
            ];
            for (new, old) in pairs {
                if old.is_none_or(|old| old.status != new.status || old.reason != new.reason) {
                    lines.push(format!("{} {key}: {}", Kind::Deployment, new.reason));
                }
            }
        }
    }
    lines
}

fn listed<T: Display>(what: &str, names: &[T]) -> Option<String> {
    let shown: Vec<String> = names.iter().take(NAMES_MAX).map(ToString::to_string).collect();
    let rest = names.len().saturating_sub(NAMES_MAX);
    match (shown.is_empty(), rest) {
        (true, _) => None,
        (false, 0) => Some(format!("{what} {}", shown.join(", "))),
        (false, rest) => Some(format!("{what} {} and {rest} more", shown.join(", "))),
    }
}
