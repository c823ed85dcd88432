//! What must be the same on every node: what stands in the register, and who may change it.
//!
//! A crew keeps one clock: whoever comes aboard sets his watch by it, and it is set anew only when
//! most hands say so. The first coordinator writes down its own settings. From then on they change
//! when more than half of the nodes that are heard of say the same under a higher `fleet.version`;
//! so a slip on one machine changes nothing, and in the middle of a change most nodes still serve.
//! A node that is alone in its store has nobody to disagree with: what its `agent.yaml` says holds.
//!
//! A node that differs neither decides nor gets new pods. What runs on it runs on.

use std::sync::Arc;

use crate::kinds::fleet::FleetSettings;
use crate::kinds::name::NodeName;
use crate::kinds::node::NodeFacts;
use crate::kinds::object::Key;
use crate::kinds::registry::Kind;

use super::work::Work;

/// Who says so in events.
const SOURCE: &str = "node-controller";
/// Fields named in one sentence; `agent.yaml` has the rest.
const FIELDS_NAMED: usize = 5;

/// What another node says, as far as it matters here.
#[derive(Clone, Copy, Debug)]
pub struct Voice<'s> {
    /// Its settings; absent where it is of a version that does not tell.
    pub settings: Option<&'s FleetSettings>,
    /// Whether it is heard of.
    pub is_heard: bool,
}

/// The settings that are in force, as seen by a node with settings of its `own`.
pub fn in_force<'s>(
    recorded: Option<&'s FleetSettings>,
    own: &'s FleetSettings,
    others: &[Voice<'s>],
) -> &'s FleetSettings {
    let Some(recorded) = recorded.filter(|_| !others.is_empty()) else {
        return own;
    };
    let heard = others.iter().filter(|other| other.is_heard).filter_map(|other| other.settings);
    let mut newer: Vec<&FleetSettings> =
        heard.chain([own]).filter(|settings| settings.version > recorded.version).collect();
    newer.sort_by_key(|settings| std::cmp::Reverse(settings.version));
    newer.into_iter().find(|newer| Count::of(newer, own, others).is_most()).unwrap_or(recorded)
}

/// How many of the nodes that are heard of have the same settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// So many have them.
    pub same: usize,
    /// So many are heard of.
    pub heard: usize,
}

impl Count {
    fn of(wanted: &FleetSettings, own: &FleetSettings, others: &[Voice<'_>]) -> Self {
        let heard = others.iter().filter(|other| other.is_heard);
        let all = heard.map(|other| other.settings).chain([Some(own)]);
        let is_same = |settings: &FleetSettings| {
            settings.version == wanted.version && settings.agree_with(wanted)
        };
        all.fold(Self { same: 0, heard: 0 }, |count, settings| Self {
            same: count.same + usize::from(settings.is_some_and(is_same)),
            heard: count.heard + 1,
        })
    }

    fn is_most(self) -> bool {
        self.same * 2 > self.heard
    }
}

/// Whether a node's settings are others than its fleet's.
pub fn differs(recorded: Option<&FleetSettings>, facts: &NodeFacts) -> bool {
    let own = facts.settings.as_ref();
    recorded.zip(own).is_some_and(|(recorded, own)| !own.agree_with(recorded))
}

/// What differs on a node and what to do about it, for people; nothing if nothing does.
pub fn complaint(
    node: &NodeName,
    recorded: Option<&FleetSettings>,
    own: &FleetSettings,
    others: &[Voice<'_>],
) -> Option<(String, String)> {
    let recorded = recorded?;
    let differences = own.differences(recorded);
    if differences.is_empty() {
        return None;
    }
    let place = format!("on {node}");
    let mut named: Vec<String> =
        differences.iter().take(FIELDS_NAMED).map(|found| found.told(&place)).collect();
    if differences.len() > FIELDS_NAMED {
        named.push(format!("{} more differ", differences.len() - FIELDS_NAMED));
    }
    let what = format!(
        "{}. {node} does not coordinate and gets no new pods; what runs there runs on",
        named.join(", ")
    );
    let next = if own.version > recorded.version {
        let Count { same, heard } = Count::of(own, own, others);
        format!(
            "fleet.version is {} on {node} and {} in the fleet, and {same} of the {heard} nodes that \
             are heard of have these settings: they come into force when more than half do. Change \
             agent.yaml on the others alike, or back on {node}, and restart the agent",
            own.version, recorded.version
        )
    } else {
        format!(
            "set it in the agent.yaml of {node} as the fleet has it, and restart the agent. To change \
             it for the fleet, set it with fleet.version: {} on {node} and on the others: it comes \
             into force when more than half of them have it",
            recorded.version + 1
        )
    };
    Some((what, next))
}

/// Writes down what all nodes must share, and changes it when most of them say so.
pub(super) fn keep_settings(work: &mut Work) {
    let input = work.input;
    let recorded = input.state.settings.as_deref();
    let others: Vec<Voice<'_>> = input
        .nodes
        .iter()
        .filter(|(name, _)| **name != input.me && !work.next.is_forgotten(name))
        .map(|(name, node)| Voice {
            settings: node.facts.settings.as_ref(),
            is_heard: !work.is_lost(name),
        })
        .collect();
    let chosen = in_force(recorded, &input.fleet, &others);
    let next = recorded.map_or_else(|| chosen.clone(), |recorded| chosen.completed_by(recorded));
    // What only this version knows is written down as it has it.
    let next = match input.fleet.agree_with(&next) {
        true => next.completed_by(&input.fleet),
        false => next,
    };
    if recorded == Some(&next) {
        return;
    }
    if let Some(recorded) = recorded.filter(|recorded| !next.agree_with(recorded)) {
        let changed: Vec<String> = next
            .differences(recorded)
            .iter()
            .map(|change| format!("{} {:?} -> {:?}", change.field, change.fleet, change.own))
            .collect();
        let Count { same, heard } = Count::of(chosen, &input.fleet, &others);
        let note = format!(
            "settings of version {} are in force, as {same} of {heard} nodes have them: {}",
            next.version,
            changed.join(", ")
        );
        work.event(&Key::cluster(Kind::Node, &input.me), SOURCE, "SettingsChanged", note.clone());
        work.note(note);
        // Who differs, and gets no pods, is asked anew with these in force.
        work.is_unfinished = true;
    } else if recorded.is_none() {
        work.note(format!("what all nodes must share is as {} has it", input.me));
    } else {
        work.note(format!("what all nodes must share is completed by {}", input.me));
    }
    work.next.settings = Some(Arc::new(next));
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `2:5m` is version 2 with `evictAfter: 5m`; `-` says nothing; a leading `?` is not heard of.
    fn settings(text: &str) -> Option<FleetSettings> {
        let (version, value) = text.trim_start_matches('?').split_once(':')?;
        let fields = [("fleet.evictAfter".to_owned(), value.to_owned())];
        Some(FleetSettings { version: version.parse().ok()?, fields: fields.into() })
    }

    fn check(recorded: &str, own: &str, others: &str) -> (String, Option<(String, String)>) {
        let recorded = settings(recorded);
        let own = settings(own).expect("settings");
        let others: Vec<(Option<FleetSettings>, bool)> = others
            .split_whitespace()
            .map(|other| (settings(other), !other.starts_with('?')))
            .collect();
        let voices: Vec<Voice<'_>> = others
            .iter()
            .map(|(settings, is_heard)| Voice { settings: settings.as_ref(), is_heard: *is_heard })
            .collect();
        let chosen = in_force(recorded.as_ref(), &own, &voices);
        let text = format!("{}:{}", chosen.version, chosen.fields["fleet.evictAfter"]);
        (text, complaint(&NodeName::trusted("n1"), recorded.as_ref(), &own, &voices))
    }

    #[test]
    fn settings_change_when_more_than_half_say_so_under_a_higher_version() {
        for (recorded, own, others, expected) in [
            ("-", "1:5m", "", "1:5m"),
            // Nobody has decided yet: whoever is first may.
            ("-", "1:5m", "1:9m 1:9m", "1:5m"),
            ("1:5m", "1:5m", "1:5m 1:5m", "1:5m"),
            // Alone, nobody minds.
            ("1:5m", "1:9m", "", "1:9m"),
            ("3:5m", "1:9m", "", "1:9m"),
            // A slip on one node, or on all of them, changes nothing.
            ("1:5m", "1:9m", "1:5m 1:5m", "1:5m"),
            ("1:5m", "1:9m", "1:9m 1:9m", "1:5m"),
            ("2:5m", "1:9m", "1:9m 1:9m", "2:5m"),
            // One of three, two of three.
            ("1:5m", "2:9m", "1:5m 1:5m", "1:5m"),
            ("1:5m", "2:9m", "2:9m 1:5m", "2:9m"),
            ("1:5m", "1:5m", "2:9m 2:9m", "2:9m"),
            // Half is not more than half.
            ("1:5m", "2:9m", "1:5m", "1:5m"),
            // They must say the same.
            ("1:5m", "2:9m", "2:8m 1:5m", "1:5m"),
            ("1:5m", "2:9m", "3:9m 1:5m", "1:5m"),
            // Who is not heard of does not count; who says nothing does.
            ("1:5m", "2:9m", "2:9m ?1:5m ?1:5m", "2:9m"),
            ("1:5m", "2:9m", "?2:9m 1:5m", "1:5m"),
            ("1:5m", "2:9m", "- -", "1:5m"),
            ("1:5m", "2:9m", "2:9m -", "2:9m"),
        ] {
            let (chosen, _) = check(recorded, own, others);
            assert_eq!(chosen, expected, "{recorded} | {own} | {others}");
        }
    }

    #[test]
    fn who_differs_is_told_what_to_do() {
        for (recorded, own, others, words) in [
            ("1:5m", "1:5m", "1:5m", None),
            ("1:5m", "7:5m", "1:5m", None),
            ("-", "1:5m", "", None),
            (
                "1:5m",
                "1:9m",
                "1:5m",
                Some([
                    "fleet.evictAfter is 9m on n1 and 5m in the fleet",
                    "with fleet.version: 2 on n1",
                ]),
            ),
            ("1:5m", "2:9m", "1:5m 1:5m", Some(["gets no new pods", "1 of the 3 nodes"])),
            ("2:9m", "1:5m", "2:9m 2:9m", Some(["5m on n1 and 9m in", "with fleet.version: 3"])),
        ] {
            let (_, said) = check(recorded, own, others);
            let said = said.map(|(what, next)| format!("{what} | {next}"));
            match words {
                None => assert_eq!(said, None, "{recorded} | {own} | {others}"),
                Some(words) => {
                    let said = said.expect("differs");
                    assert!(words.iter().all(|word| said.contains(word)), "{said}");
                }
            }
        }
    }
}
